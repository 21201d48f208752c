//! Verdicts of health beside those that Argo CD expects of its own scripts and checks, on its own test data.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use driftless::health::{self, Rule, Rules, Script, Status};
use driftless::model::{Gvk, yaml};
use serde_json::Value;

use super::{folders, module};

const ARGO_CD: &str = "github.com/argoproj/argo-cd/v3@v3.5.1";
const ENGINE: &str = "github.com/argoproj/gitops-engine@v0.7.3";
const KSTATUS: &str = "sigs.k8s.io/cli-utils@v0.37.2";

fn clock() -> Duration {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// The first document of a file.
fn object(path: &Path) -> Option<(Gvk, Value)> {
    let text = std::fs::read(path).ok()?;
    let value = yaml::read(&text, &path.display().to_string()).ok()?.into_iter().next()?.value;
    let gvk = Gvk::parse(value["apiVersion"].as_str()?, value["kind"].as_str()?);
    Some((gvk, value))
}

/// A field whose name may be written in any case, as Go reads it.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let fields = value.as_object();
    let found = fields.and_then(|fields| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
    found.map_or(&Value::Null, |(_, value)| value)
}

/// How our own judgement compares.
#[derive(Default)]
struct Own {
    same: usize,
    differ: Vec<String>,
}

impl Own {
    fn compare(&mut self, name: &str, who: &str, theirs: &str, ours: &health::Health) {
        if ours.status.to_string() == theirs {
            self.same += 1;
        } else {
            self.differ.push(format!("{name}: {who} {theirs}, driftless {} ({})", ours.status, ours.reason));
        }
    }
}

pub(crate) fn compare() {
    let root = module(ARGO_CD).expect("the module of Argo CD").join("resource_customizations");
    let mut scripts = Vec::new();
    folders(&root, &["health.lua"], &mut scripts);
    let rules: Vec<Rule> = scripts
        .iter()
        .map(|folder| {
            let part = |path: Option<&Path>| {
                path.and_then(Path::file_name).expect("a folder").to_string_lossy().replace('_', "*")
            };
            let script = std::fs::read_to_string(folder.join("health.lua")).expect("a script");
            let (group, kind) = (part(folder.parent()), part(Some(folder)));
            Rule {
                group: if group == "core" { String::new() } else { group },
                kind,
                script: Script::Lua(script),
            }
        })
        .collect();
    let compiled = Rules::new(&rules, clock);
    for broken in compiled.broken() {
        println!("cannot be compiled: {broken}");
    }
    let (mut count, mut same, mut status_only, mut spent) = (0u32, 0, 0, Duration::ZERO);
    let mut own: BTreeMap<String, Own> = BTreeMap::new();
    for folder in &scripts {
        let Ok(text) = std::fs::read(folder.join("health_test.yaml")) else { continue };
        let tests = yaml::read(&text, "health_test.yaml").expect("tests").remove(0).value;
        for test in field(&tests, "tests").as_array().into_iter().flatten() {
            let input = field(test, "inputPath").as_str().expect("an input");
            let expected = field(test, "healthStatus");
            let (status, message) = (
                expected["status"].as_str().unwrap_or_default(),
                expected["message"].as_str().unwrap_or_default(),
            );
            let name = folder.strip_prefix(&root).expect("below").join(input).display().to_string();
            let Some((gvk, value)) = object(&folder.join(input)) else {
                println!("cannot be read: {name}");
                continue;
            };
            count += 1;
            let begin = Instant::now();
            let verdict = compiled.verdict(&gvk, &value).flatten();
            spent += begin.elapsed();
            let said =
                verdict.as_ref().map_or((String::new(), ""), |said| (said.status.to_string(), &*said.reason));
            if said == (status.to_owned(), message) {
                same += 1;
            } else {
                if said.0 == status {
                    status_only += 1;
                }
                println!("{name}\n  expected {status}: {message:?}\n  found    {}: {:?}", said.0, said.1);
            }
            if let Some(ours) = health::of_kind(&gvk, &value) {
                own.entry(format!("{}.{}", gvk.kind, gvk.group))
                    .or_default()
                    .compare(&name, "Argo CD", status, &ours);
            }
        }
    }
    engine(&mut own);
    let mut kstatus_own = BTreeMap::new();
    kstatus(&mut kstatus_own);
    println!(
        "\n| scripts | cases | same | same status, another message | differ | time of one |\n|---|---|---|---|---|---|"
    );
    let differ = count - same - status_only;
    println!(
        "| {} | {count} | {same} | {status_only} | {differ} | {:.0?} |",
        scripts.len(),
        spent / count.max(1)
    );
    shown("Our own judgement of the objects of Argo CD's tests", &own);
    shown("Our own judgement of the objects of kstatus' tests", &kstatus_own);
    assert!(compiled.broken().is_empty(), "a script does not compile");
}

fn shown(title: &str, own: &BTreeMap<String, Own>) {
    println!("\n{title}\n\n| kind | same | differ |\n|---|---|---|");
    for (kind, own) in own {
        println!("| {kind} | {} | {} |", own.same, own.differ.len());
    }
    let all = own.values().map(|own| own.same).sum::<usize>();
    let differences: Vec<&String> = own.values().flat_map(|own| &own.differ).collect();
    println!("| all | {all} | {} |\n", differences.len());
    for difference in differences {
        println!("- {difference}");
    }
}

/// The kinds that Argo CD checks in Go; what is expected stands in its test.
fn engine(own: &mut BTreeMap<String, Own>) {
    let root = module(ENGINE).expect("the module of the engine").join("pkg/health");
    let tests = std::fs::read_to_string(root.join("health_test.go")).expect("the test");
    for line in tests.lines() {
        let Some(rest) = line.trim().strip_prefix("assertAppHealth(t, \"") else { continue };
        let Some((input, rest)) = rest.split_once("\", HealthStatus") else { continue };
        let status = rest.trim_end_matches(')');
        assert!(Status::parse(status).is_some(), "{line}");
        let Some((gvk, value)) = object(&root.join(input)) else { continue };
        if let Some(ours) = health::of_kind(&gvk, &value) {
            own.entry(format!("{}.{}", gvk.kind, gvk.group))
                .or_default()
                .compare(input, "Argo CD", status, &ours);
        }
    }
}

/// The cases of kstatus: texts in variables of its test, and a table of what is expected of each.
fn kstatus(own: &mut BTreeMap<String, Own>) {
    let root = module(KSTATUS).expect("the module of kstatus").join("pkg/kstatus/status");
    let tests = std::fs::read_to_string(root.join("status_compute_test.go")).expect("the test");
    let mut texts = BTreeMap::new();
    for part in tests.split("\nvar ").skip(1) {
        let Some((name, rest)) = part.split_once(" = `") else { continue };
        texts.insert(name, rest.split('`').next().unwrap_or_default());
    }
    let mut spec = "";
    for line in tests.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("spec:") {
            let rest = rest.trim().trim_start_matches("fmt.Sprintf(");
            spec = rest.split([',', ')']).next().unwrap_or_default();
        }
        let Some(status) = line.strip_prefix("expectedStatus:") else { continue };
        let theirs = match status.trim().trim_end_matches(',') {
            "CurrentStatus" => "Healthy",
            "InProgressStatus" | "TerminatingStatus" => "Progressing",
            "FailedStatus" => "Degraded",
            other => panic!("an unknown status {other}"),
        };
        let text =
            texts.get(spec).unwrap_or_else(|| panic!("no text {spec}")).replace("%s", "2026-01-01T00:00:00Z");
        let value = yaml::read(text.as_bytes(), spec).expect("an object").remove(0).value;
        let word = |field: &str| value[field].as_str().unwrap_or_default();
        let gvk = Gvk::parse(word("apiVersion"), word("kind"));
        let ours = health::assess(&gvk, &value);
        own.entry(format!("{}.{}", gvk.kind, gvk.group)).or_default().compare(spec, "kstatus", theirs, &ours);
    }
}
