//! Charts beside helm.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use driftless::error::Result;
use driftless::model::yaml;
use driftless::render::helm;
use driftless::source::FolderTree;
use serde_json::Value;

use self::chart_case::{Case, cases, same_words};
use super::{Row, folders, module, program, root, table};

#[path = "../../tests/harness/chart_case.rs"]
#[allow(dead_code, reason = "the tests take another part")]
mod chart_case;

const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
/// What a release is built with; without them Kubernetes would be version 1.20.
const FLAGS: &str = "-X helm.sh/helm/v3/internal/version.version=v3.22.0 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37";

/// Modules with charts.
const MODULES: &[&str] = &[
    "github.com/cilium/cilium@v1.20.2",
    "github.com/crossplane/crossplane/v2@v2.1.0",
    "github.com/fluxcd/flagger@v1.36.1",
    "github.com/helmfile/helmfile@v1.8.0",
    "github.com/kserve/kserve@v0.15.2",
    "github.com/kubeflow/trainer/v2@v2.0.0",
    "github.com/kyverno/kyverno@v1.15.2",
    "github.com/open-policy-agent/gatekeeper/v3@v3.23.1",
    "helm.sh/helm/v3@v3.22.0",
    "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad",
    "sigs.k8s.io/external-dns@v0.19.0",
    "sigs.k8s.io/kwok@v0.8.0",
];

/// What helm says; `Err` is its error without the advice behind it.
fn real(helm: &Path, arguments: &[String]) -> std::result::Result<String, String> {
    let done = Command::new("timeout")
        .arg("60")
        .arg(helm)
        .arg("template")
        .args(arguments)
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("KUBECONFIG", "/nonexistent")
        .env("HELM_NAMESPACE", "")
        .output()
        .expect("timeout is installed");
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    let begin = words.find("Error: ").map_or(0, |at| at + "Error: ".len());
    let words = words[begin..].trim_end();
    Err(words
        .strip_suffix("Use --debug flag to render out invalid YAML")
        .unwrap_or(words)
        .trim_end()
        .to_owned())
}

fn record(helm: &Path, case: &Case) -> String {
    let scratch = tempfile::tempdir().unwrap();
    for (path, content) in &case.files {
        let path = scratch.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let here = |path: &str| scratch.path().join(path).to_str().unwrap().to_owned();
    let mut arguments = Vec::new();
    let name = case.options.iter().find(|(option, _)| option == "name");
    arguments.extend(name.map(|(_, name)| name.clone()));
    arguments.push(here("c"));
    for (option, value) in case.options.iter().filter(|(option, _)| option != "name") {
        arguments.push(format!("--{option}"));
        match option.as_str() {
            "values" => arguments.push(here(value)),
            "set-file" => {
                let (name, path) = value.split_once('=').unwrap();
                arguments.push(format!("{name}={}", here(path)));
            }
            _ if value.is_empty() => {}
            _ => arguments.push(value.clone()),
        }
    }
    let answer = match real(helm, &arguments) {
        Ok(text) => format!("-- expected --\n{text}"),
        Err(words) => {
            let folder = scratch.path().to_str().unwrap();
            format!("-- refused --\n{}\n", words.replace(&format!("{folder}/"), ""))
        }
    };
    format!("{}{answer}", case.input)
}

fn own_cases(helm: &Path) {
    let recording = std::env::var_os("RECORD").is_some();
    let folder = root().join("tests/data/helm");
    let (mut same, mut refused, mut stale, mut others) = (0, 0, Vec::new(), Vec::new());
    let all = cases(&folder);
    for case in &all {
        let file = folder.join(format!("{}.txt", case.name));
        let found = record(helm, case);
        refused += usize::from(found.contains("\n-- refused --\n"));
        let ours = helm::template(&case.tree(), "c", &case.asked());
        let as_ours = match (&case.said, &ours) {
            (Some(Ok(theirs)), Ok(ours)) => theirs == ours,
            (Some(Err(theirs)), Err(ours)) => same_words(theirs, &ours.why),
            _ => false,
        };
        if !as_ours {
            others.push(case.name.clone());
        }
        if recording {
            std::fs::write(file, found).unwrap();
        } else if same_answer(&std::fs::read_to_string(file).unwrap(), &found) {
            same += 1;
        } else {
            stale.push(case.name.clone());
        }
    }
    println!("own cases: {}, of which helm refuses {refused}", all.len());
    println!("here another answer or other words: {others:?}");
    if !recording {
        println!("recorded as helm says today: {same}; stale: {stale:?}");
        assert!(stale.is_empty(), "RECORD=1 writes them anew");
    }
}

/// Whether two answers are the same; helm gives the violations of a schema in another order each time.
fn same_answer(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    one == other || one.contains("\n-- refused --\nvalues don't meet") && sorted(one) == sorted(other)
}

/// Documents with the paths they come from.
fn documents(text: &str) -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(path) = line.strip_prefix("# Source: ") {
            parts.push((path.trim().to_owned(), String::new()));
        } else if line.trim_end() != "---"
            && let Some((_, text)) = parts.last_mut()
        {
            text.push_str(line);
        } else if let Some((path, text)) = parts.last_mut() {
            // A separator inside of a file of CRDs.
            let _ = path;
            text.push_str(line);
        }
    }
    for (path, text) in parts {
        for document in yaml::read(text.as_bytes(), &path)? {
            all.push((path.clone(), document.value));
        }
    }
    Ok(all)
}

/// Takes out of both what helm itself gives differently each time.
fn without_random(one: &mut Value, other: &Value, ours: &mut Value) {
    match (one, other, ours) {
        (Value::Object(one), Value::Object(other), Value::Object(ours)) => {
            for (name, value) in one.iter_mut() {
                if let (Some(other), Some(ours)) = (other.get(name), ours.get_mut(name)) {
                    without_random(value, other, ours);
                }
            }
        }
        (Value::Array(one), Value::Array(other), Value::Array(ours)) if one.len() == other.len() => {
            for ((value, other), ours) in one.iter_mut().zip(other).zip(ours) {
                without_random(value, other, ours);
            }
        }
        (one, other, ours) if one != other => {
            *one = Value::Null;
            *ours = Value::Null;
        }
        _ => {}
    }
}

enum Verdict {
    Same,
    Random,
    Differ(String),
}

fn verdict(theirs: &str, again: impl Fn() -> Option<String>, ours: &str) -> Verdict {
    if theirs == ours {
        return Verdict::Same;
    }
    let diff = || {
        let diff = similar::TextDiff::from_lines(theirs, ours);
        let diff = diff.unified_diff().context_radius(2).to_string();
        diff.lines().take(14).collect::<Vec<_>>().join("\n")
    };
    let (Ok(mut theirs_read), Ok(mut ours_read)) = (documents(theirs), documents(ours)) else {
        return Verdict::Differ(diff());
    };
    if theirs_read == ours_read {
        return Verdict::Same;
    }
    let Some(Ok(again)) = again().map(|text| documents(&text)) else { return Verdict::Differ(diff()) };
    if again.len() == theirs_read.len() && ours_read.len() == again.len() {
        for ((one, other), ours) in theirs_read.iter_mut().zip(&again).zip(&mut ours_read) {
            without_random(&mut one.1, &other.1, &mut ours.1);
        }
        if theirs_read == ours_read {
            return Verdict::Random;
        }
    }
    Verdict::Differ(diff())
}

/// A chart's own files of values for tests: those in its folder `ci`, and those beside values.yaml.
fn values_files(chart: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [chart.to_owned(), chart.join("ci"), chart.join("examples")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let beside = folder == chart;
            if [".yaml", ".yml"].iter().any(|end| name.ends_with(end))
                && name != "values.yaml"
                && (!beside || name.contains("values"))
                && entry.path().is_file()
            {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn one(
    helm: &Path,
    base: &Path,
    chart: &Path,
    values: Option<&PathBuf>,
    row: &mut Row,
    reasons: &mut Vec<String>,
) {
    let inner = chart.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
    let name = values.map(|path| path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
    let title =
        format!("{} {inner} {}", base.file_name().unwrap().to_string_lossy(), name.as_deref().unwrap_or(""));
    let mut arguments = vec!["r".to_owned(), chart.to_str().unwrap().to_owned()];
    arguments.extend(["--include-crds", "--namespace", "ns"].map(str::to_owned));
    let mut options = helm::Options {
        release_name: "r".to_owned(),
        namespace: "ns".to_owned(),
        ..helm::Options::default()
    };
    if let (Some(path), Some(name)) = (values, &name) {
        arguments.extend(["--values".to_owned(), path.to_str().unwrap().to_owned()]);
        options.values_files.push(format!("/{name}"));
    }
    row.count += 1;
    let begin = Instant::now();
    let theirs = real(helm, &arguments);
    row.theirs += begin.elapsed();
    let tree = FolderTree::new(base);
    let begin = Instant::now();
    let ours = helm::template(&tree, &inner, &options);
    row.ours += begin.elapsed();
    let shown = |error: &driftless::error::Error| {
        format!("{} {error}", error.code.reason()).chars().take(400).collect::<String>()
    };
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => match verdict(&theirs, || real(helm, &arguments).ok(), &ours) {
            Verdict::Same | Verdict::Random => {
                row.same += 1;
                if let Err(error) = helm::render(&tree, &inner, &options) {
                    reasons.push(format!("{title}: the text is the same, no objects: {}", shown(&error)));
                }
            }
            Verdict::Differ(diff) => {
                row.differ += 1;
                reasons.push(format!("{title}: differs\n{diff}"));
            }
        },
        (Err(theirs), Err(error)) => {
            row.both_refuse += 1;
            if std::env::var_os("WORDS").is_some() && !theirs.contains(&error.why) {
                reasons.push(format!("{title}: both refuse\n  helm: {theirs}\n  ours: {}", shown(&error)));
            }
        }
        (Ok(_), Err(error)) => {
            row.only_ours_refuses += 1;
            reasons.push(format!("{title}: only ours refuses: {}", shown(&error)));
        }
        (Err(words), Ok(_)) => {
            row.only_theirs_refuses += 1;
            let words: String = words.chars().take(400).collect();
            reasons.push(format!("{title}: only theirs refuses: {words}"));
        }
    }
}

fn corpora(helm: &Path, more: &[PathBuf]) {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut reasons = Vec::new();
    let modules = MODULES.iter().filter_map(|name| {
        let found = module(name);
        if found.is_none() {
            eprintln!("{name} is not to be had");
        }
        Some(((*name).to_owned(), found?))
    });
    let more = more.iter().map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, path.canonicalize().unwrap())
    });
    let bases: Vec<(String, PathBuf)> =
        if std::env::var_os("ONLY_MORE").is_some() { more.collect() } else { modules.chain(more).collect() };
    for (name, base) in bases {
        let mut charts = Vec::new();
        folders(&base, &["Chart.yaml"], &mut charts);
        let row = rows.entry(name).or_default();
        for chart in charts {
            one(helm, &base, &chart, None, row, &mut reasons);
            for file in values_files(&chart) {
                one(helm, &base, &chart, Some(&file), row, &mut reasons);
            }
        }
    }
    for reason in reasons {
        println!("{reason}");
    }
    table("charts x values", "helm", rows.iter().map(|(name, row)| (name.as_str(), row)));
}

/// The real program, built once.
pub(super) fn oracle() -> PathBuf {
    program(HELM, "helm", &["-ldflags", FLAGS])
}

pub(super) fn compare(more: &[PathBuf]) {
    let helm = oracle();
    own_cases(&helm);
    if std::env::var_os("RECORD").is_none() {
        corpora(&helm, more);
    }
}
