//! Every rule has a file that breaks it and one that does not; what is found in them stands beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless::lint::{
    Configuration, Lines, Names, Schemas, Set, Subject, Suppressions, all_rules, changes, check, rule_named,
};
use driftless::model::{Confidential, Origin, yaml};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lint")
}

fn schemas() -> Schemas {
    let mut schemas = Schemas::default();
    for (_, definition) in driftless::api::definitions() {
        schemas.add(&serde_json::to_value(&definition).unwrap());
    }
    schemas
}

/// What is found in a file: place, severity, rule and message of each. Files of rules about changes hold pairs of
/// documents, before and after.
fn found(path: &Path, pairs: bool) -> Vec<(String, String)> {
    let bytes = std::fs::read(path).unwrap();
    let file: Arc<str> = path.file_name().unwrap().to_str().unwrap().into();
    let documents = yaml::read(&bytes, &file).unwrap();
    let subjects: Vec<Subject> = documents
        .into_iter()
        .flat_map(|document| {
            Subject::read(document.value, &Origin { file: file.clone(), line: document.line })
        })
        .collect();
    let (mut lines, mut suppressions) = (Lines::default(), Suppressions::default());
    lines.read(&file, &bytes);
    suppressions.read(&file, std::str::from_utf8(&bytes).unwrap());
    let mut findings = Vec::new();
    if pairs {
        for (number, pair) in subjects.chunks(2).enumerate() {
            findings.extend(changes(&pair[0], &pair[1]).into_iter().map(|mut finding| {
                finding.subject = 2 * number + 1;
                finding
            }));
        }
    } else {
        let names = Names::default();
        let mut schemas = schemas();
        subjects.iter().for_each(|subject| schemas.add(&subject.value));
        let set = Set::new(&subjects, &names);
        findings = check(&set, &schemas, &Configuration::default(), &Confidential::default()).findings;
        for (number, subject) in subjects.iter().enumerate() {
            findings.extend(lines.doubled(subject, number));
            findings.extend(suppressions.faults(subject, number));
        }
    }
    let mut shown: Vec<_> = findings
        .iter()
        .filter_map(|finding| {
            let subject = &subjects[finding.subject];
            let place = lines.find(subject, &finding.pointer);
            let held = suppressions.holds(finding, subject, &file, place.line);
            let line = format!("{}[{}]: {}", finding.severity.name(), finding.rule.id, finding.message);
            (!held).then(|| ((place.line, place.column), finding.rule.id.to_owned(), line))
        })
        .collect();
    shown.sort();
    shown.into_iter().map(|((line, column), rule, text)| (rule, format!("{line}:{column}: {text}"))).collect()
}

/// As [`found`], by the command: what Projects mean is known there. The file lies where its Application looks.
fn found_by_command(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let report = Repository::new(&[("apps/all.yaml", &text)]).json(&[]);
    let findings = report["findings"].as_array().unwrap().iter();
    let line = |finding: &serde_json::Value| {
        let word = |field: &str| finding[field].as_str().unwrap().to_owned();
        let (line, column) = (&finding["source"]["line"], &finding["column"]);
        let (severity, rule, message) = (word("severity"), word("rule"), word("message"));
        (rule.clone(), format!("{line}:{column}: {severity}[{rule}]: {message}"))
    };
    findings.map(line).collect()
}

#[test]
fn each_rule_has_files_that_break_it_and_that_do_not() {
    let mut wrong = Vec::new();
    for rule in all_rules() {
        let own = folder().join(rule.id);
        let mut seen = BTreeSet::new();
        let entries =
            std::fs::read_dir(&own).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        let mut files: Vec<PathBuf> = entries.unwrap_or_default();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let kind = if name.starts_with("fail") { "fail" } else { "pass" };
            seen.insert(kind);
            let all = match rule.system {
                "Projects" => found_by_command(path),
                system => found(path, system == "Changes"),
            };
            let hits = all.iter().filter(|(id, _)| id == rule.id).count();
            match kind {
                "fail" if hits == 0 => wrong.push(format!("{}: the rule finds nothing", path.display())),
                "pass" if hits > 0 => wrong.push(format!("{}: the rule finds {all:?}", path.display())),
                _ => {}
            }
            // What else is found in a file is told too, so that a rule that begins to shout is noticed.
            let text: String = all.iter().map(|(_, line)| format!("{line}\n")).collect();
            let golden = path.with_extension("txt");
            if std::env::var_os("UPDATE").is_some() {
                if text.is_empty() {
                    let _ = std::fs::remove_file(&golden);
                } else {
                    std::fs::write(&golden, &text).unwrap();
                }
            }
            let expected = std::fs::read_to_string(&golden).unwrap_or_default();
            if expected != text {
                wrong.push(format!("{}: expected\n{expected}found\n{text}", path.display()));
            }
        }
        for kind in ["fail", "pass"] {
            if !seen.contains(kind) {
                wrong.push(format!("{} has no {kind} file", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_folder_is_of_a_rule_that_is_gone() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(rule_named(&name).is_some(), "{name} is no rule");
    }
}

#[test]
fn ids_are_unique_kebab_case_and_have_pages() {
    let mut ids = BTreeMap::new();
    for rule in all_rules() {
        assert!(ids.insert(rule.id, rule).is_none(), "{} stands twice", rule.id);
        assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.id);
        assert!(rule.page.len() > 40 && rule.page.ends_with(['.', ':']), "{}", rule.id);
        assert!(!rule.title.ends_with('.'), "{}", rule.id);
    }
    assert!(ids.len() >= 60);
}

/// A repository and the program in it.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Self(folder);
        repository.write(".git/HEAD", "ref: refs/heads/main\n");
        files.iter().for_each(|(path, text)| repository.write(path, text));
        repository
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn lint(&self, arguments: &[&str]) -> (i32, String, String) {
        let done = std::process::Command::new(crate::harness::cluster::program())
            .arg("lint")
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("KUBECONFIG")
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let (_, text, errors) = self.lint(&[arguments, &["-o", "json"]].concat());
        let report: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"));
        let schema = include_str!("../manifests/lint.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        report
    }

    /// `file:line rule` of each finding.
    fn findings(&self, arguments: &[&str]) -> Vec<String> {
        let report = self.json(arguments);
        let finding = |finding: &serde_json::Value| {
            let (file, line) = (finding["source"]["file"].as_str(), &finding["source"]["line"]);
            format!("{}:{line} {}", file.unwrap_or_default(), finding["rule"].as_str().unwrap())
        };
        report["findings"].as_array().unwrap().iter().map(finding).collect()
    }
}

fn pod(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n  - name: c\n    image: {image}\n"
    )
}

const TYPO: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\nspec: {}\n";

#[test]
fn exit_codes_and_settings() {
    let repository = Repository::new(&[("a/pod.yaml", &pod("web")), ("values.yaml", "a: 1\n")]);
    let (code, text, errors) = repository.lint(&[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "a/pod.yaml:8:5: warning[mutable-image-tag]: the image web has no tag, which means latest  (Pod p)",
            "found: 1 object | 1 warning",
            "next: driftless lint --explain mutable-image-tag",
        ]
    );
    assert_eq!(repository.lint(&["--fail-on", "warning"]).0, 1);
    assert_eq!(repository.lint(&["--severity", "mutable-image-tag=error"]).0, 1);
    assert_eq!(repository.lint(&["--severity", "mutable-image-tag"]).0, 2);
    for options in
        [&["--disable", "mutable-image-tag"][..], &["--only", "invalid-cron"], &["--min-severity", "error"]]
    {
        assert_eq!(repository.findings(options), [""; 0], "{options:?}");
    }
    let (code, _, errors) = repository.lint(&["--disable", "no-such"]);
    assert!(code == 2 && errors.contains("there is no rule no-such"), "{errors}");
    assert_eq!(repository.lint(&["nowhere"]).0, 2);
    repository.write(".driftless.yaml", "lint: {severity: {mutable-image-tag: error}}\n");
    assert_eq!(repository.lint(&["a"]).0, 1, "the settings of the root hold below it");
    repository.write("a/.driftless.yaml", "lint: {disable: [mutable-image-tag]}\n");
    assert_eq!(repository.lint(&["a"]).0, 0, "the nearest settings hold");
    repository.write(".driftless.yaml", "lint: {disable: [mutable]}\n");
    let (code, _, errors) = repository.lint(&[]);
    assert!(code == 2 && errors.contains(".driftless.yaml:1: there is no rule mutable"), "{errors}");
    repository.write(".driftless.yaml", "lint: {exclude: ['a/**']}\n");
    assert_eq!(repository.json(&[])["counts"]["objects"], 0);
    repository.write("b.yaml", &TYPO.replace("spec: {}", "spec: ["));
    repository.write("c.yaml", TYPO);
    let report = repository.json(&[]);
    assert_eq!((&report["errors"][0]["code"], &report["counts"]["errors"]), (&"DL0201".into(), &1.into()));
    assert_eq!(repository.lint(&[]).0, 3, "an unreadable file is told before what was found");
}

#[test]
fn what_is_rendered_is_checked_once_and_where_it_was_written() {
    let application = |name: &str, path: &str| {
        format!(
            "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: ml}}\nspec:\n  source: {{repo: 'https://git.example/x.git', path: {path}}}\n"
        )
    };
    let chart = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  containers:\n  - name: c\n    image: {{ .Values.image }}\n";
    let repository = Repository::new(&[
        ("apps.yaml", &format!("{}---\n{}", application("one", "over/prod"), application("away", "gone"))),
        ("base/kustomization.yaml", "resources: [pod.yaml]\n"),
        ("base/pod.yaml", &pod("web:1")),
        ("over/prod/kustomization.yaml", "resources: [../../base]\npatches:\n- path: image.yaml\n"),
        ("over/prod/image.yaml", &pod("web:latest").replace("spec:", "spec:\n")),
        ("over/dev/kustomization.yaml", "resources: [../../base]\nnamePrefix: dev-\n"),
        ("chart/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n"),
        ("chart/values.yaml", "image: web\n"),
        ("chart/templates/pod.yaml", chart),
        ("wanting/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n"),
        (
            "wanting/templates/pod.yaml",
            &chart.replace(".Values.image", "required \"an image\" .Values.image"),
        ),
        ("plain/c.yaml", TYPO),
        ("plain/jinja.yaml", "apiVersion: v1\nkind: {{ kind }}: [\n"),
    ]);
    assert_eq!(
        repository.findings(&[]),
        [
            "chart/templates/pod.yaml:8 mutable-image-tag",
            "over/prod/image.yaml:9 mutable-image-tag",
            "plain/c.yaml:5 unknown-field",
        ]
    );
    let report = repository.json(&[]);
    assert_eq!(report["findings"][1]["app"], "ml/one");
    let notes = report["notes"].to_string();
    for note in ["1 Applications have sources outside", "wanting was not checked", "1 files are templates"] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    assert_eq!(repository.findings(&["plain/c.yaml"]), ["plain/c.yaml:5 unknown-field"]);
    // The comment may stand where the object is, or where the field is written.
    repository.write(
        "over/prod/image.yaml",
        &format!("# driftless:lint-ignore mutable-image-tag a test\n{}", pod("web:latest")),
    );
    assert_eq!(repository.json(&["over"])["counts"]["suppressed"], 1);
}

#[test]
fn formats_say_the_same() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata: {token: canary clear}\nstringData: {a: canary-2}\n";
    let name = "od,d %: name.yaml";
    let repository = Repository::new(&[(name, &pod("web")), ("s.yaml", secret), ("t.yaml", TYPO)]);
    let (code, sarif, _) = repository.lint(&["-o", "sarif"]);
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    let run = &sarif["runs"][0];
    assert_eq!((code, &sarif["version"], run["results"].as_array().unwrap().len()), (1, &"2.1.0".into(), 5));
    let first = &run["results"][0];
    let place = &first["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "od%2Cd%20%25%3A%20name.yaml");
    assert_eq!((&place["region"]["startLine"], &place["region"]["startColumn"]), (&8.into(), &5.into()));
    let index = usize::try_from(first["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], first["ruleId"]);
    let (_, github, _) = repository.lint(&["-o", "github"]);
    let line = github.lines().find(|line| line.starts_with("::warning file=od")).unwrap();
    assert!(
        line.starts_with(
            "::warning file=od%2Cd %25%3A name.yaml,line=8,col=5,title=mutable-image-tag::the image web"
        ),
        "{line}"
    );
    let errors = github.lines().filter(|line| line.starts_with("::error ")).count();
    assert_eq!(errors, 2, "{github}");
    let (_, junit, _) = repository.lint(&["-o", "junit"]);
    assert!(
        junit.contains("<testsuites name=\"driftless lint\" tests=\"5\" failures=\"2\" errors=\"0\">"),
        "{junit}"
    );
    let (_, text, _) = repository.lint(&[]);
    let (_, json, _) = repository.lint(&["-o", "json"]);
    for output in [&text, &json, &sarif.to_string(), &github, &junit] {
        assert!(!output.contains("canary") && !output.contains("Y2FuYXJ5"), "{output}");
    }
}

#[test]
fn schemas_of_the_cluster_can_be_given() {
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: models.ml.example.com}\nspec:\n  group: ml.example.com\n  names: {kind: Model, plural: models}\n  scope: Namespaced\n  versions:\n  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {uri: {type: string}}}}}}}\n";
    let model = "apiVersion: ml.example.com/v1\nkind: Model\nmetadata:\n  name: m\nspec: {url: x}\n";
    let repository = Repository::new(&[("models/m.yaml", model), ("crds/deep/model.yaml", definition)]);
    let report = repository.json(&["models"]);
    assert_eq!((&report["counts"]["withoutSchema"], &report["counts"]["errors"]), (&1.into(), &0.into()));
    assert_eq!(repository.findings(&["models", "--schemas", "crds"]), ["models/m.yaml:5 unknown-field"]);
    assert_eq!(repository.findings(&[]), ["models/m.yaml:5 unknown-field"]);
    assert_eq!(repository.lint(&["--schemas", "nowhere"]).0, 2);
}

/// Our own kinds need no CRD in the tree.
#[test]
fn fields_of_our_own_kinds_are_known() {
    let policy = "apiVersion: driftless.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: a}\nspec:\n  targetRef: {apiVersion: apps/v1, kind: Deployment, name: a}\n  strategy:\n    canary:\n      steps:\n      - weigth: 5\n      - weight: 101\n        hold: soon\n";
    let pods = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a}}\n    spec: {containers: [{name: a, image: 'a:1'}]}\n";
    let repository = Repository::new(&[("policy.yaml", policy), ("pods.yaml", pods)]);
    assert_eq!(
        repository.findings(&[]),
        [
            "policy.yaml:9 missing-field",
            "policy.yaml:9 unknown-field",
            "policy.yaml:10 invalid-value",
            "policy.yaml:11 invalid-value",
        ]
    );
    assert_eq!(repository.json(&[])["counts"]["withoutSchema"], 0);
}

#[test]
fn every_rule_can_be_listed_and_explained() {
    let repository = Repository::new(&[]);
    let (code, text, _) = repository.lint(&["--list"]);
    assert_eq!((code, text.lines().count()), (0, all_rules().len() + 1));
    let (code, text, _) = repository.lint(&["--explain", "mutable-image-tag"]);
    assert!(code == 0 && text.starts_with("mutable-image-tag: "), "{text}");
    assert_eq!(repository.lint(&["--explain", "no-such"]).0, 2);
    for rule in all_rules() {
        let program = crate::harness::cluster::program();
        let done = std::process::Command::new(program).args(["explain", rule.id]).output().unwrap();
        assert!(
            done.status.success() && String::from_utf8_lossy(&done.stdout).contains(rule.page),
            "{}",
            rule.id
        );
    }
}

#[test]
fn a_preview_tells_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.git");
    let git = crate::harness::git::Repository::create(&path, String::new());
    let application = "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: a, namespace: ml}\nspec:\n  source: {repo: 'https://git.example/x.git', path: app}\n";
    let job = |image: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: j\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: c\n        image: {image}\n"
        )
    };
    let base = git.commit(
        &[("apps.yaml", application), ("app/p.yaml", &pod("web")), ("app/j.yaml", &job("train:1"))],
        "Base",
    );
    let head = git.commit(
        &[("app/p.yaml", &format!("# moved\n{}", pod("web"))), ("app/j.yaml", &job("train"))],
        "Head",
    );
    let preview = |range: &str, options: &[&str]| {
        let done = std::process::Command::new(crate::harness::cluster::program())
            .args(["preview", range, "--repo", path.to_str().unwrap()])
            .args(options)
            .env_remove("KUBECONFIG")
            .output()
            .unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let range = format!("{base}..{head}");
    let text = preview(&range, &[]);
    for line in [
        "  error[immutable-field]: the API server refuses another template for a Job that exists  Job ml/j  app/j.yaml:6:3",
        "  warning[mutable-image-tag]: the image train has no tag, which means latest  Job ml/j  app/j.yaml:11:9",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.ends_with("2 findings | 1 unchanged\n") && !text.contains("the image web"), "{text}");
    let report: serde_json::Value = serde_json::from_str(&preview(&range, &["-o", "json"])).unwrap();
    crate::cli::holds_schema(&report);
    assert_eq!(
        (&report["counts"]["findings"], report["apps"][0]["findings"].as_array().unwrap().len()),
        (&2.into(), 2)
    );
    assert!(preview(&range, &["-o", "markdown"]).contains("! error[immutable-field]"));
    // The settings of the head hold.
    let off =
        git.commit(&[(".driftless.yaml", "lint: {disable: [immutable-field, mutable-image-tag]}\n")], "Off");
    assert!(!preview(&format!("{base}..{off}"), &[]).contains("findings"));
}

/// Rules whose finding means that the API server refuses the object.
const REFUSED: &[&str] = &[
    "unknown-field",
    "wrong-type",
    "missing-field",
    "invalid-value",
    "removed-api",
    "unknown-kind",
    "invalid-name",
    "invalid-label",
    "gpu-resources",
    "request-over-limit",
    "duplicate-name",
    "volume-missing",
    "selector-mismatch",
    "restart-policy",
    "rolling-update-stuck",
    "scaler-range",
    "invalid-time-zone",
    "cron-zone-in-schedule",
    "name-too-long",
    "rollout-policy",
];

/// What a dry run with strict validation says; none where the server takes the object.
async fn refusal(client: &kube::Client, value: &serde_json::Value) -> Option<String> {
    let text =
        |path: &str| value.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let (group, version) = text("/apiVersion").split_once('/').map_or_else(
        || (String::new(), text("/apiVersion")),
        |(group, version)| (group.to_owned(), version.to_owned()),
    );
    let gvk = kube::core::GroupVersionKind { group, version, kind: text("/kind") };
    let (resource, capabilities) = match kube::discovery::pinned_kind(client, &gvk).await {
        Ok(found) => found,
        Err(error) => return Some(error.to_string()),
    };
    let namespaced = capabilities.scope == kube::discovery::Scope::Namespaced;
    let namespace = if namespaced { "/namespaces/lint" } else { "" };
    let root = if gvk.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", gvk.group) };
    // Created rather than applied: under server-side apply a Job of this name would have to be the same.
    let path = format!(
        "{root}/{}{namespace}/{}?dryRun=All&fieldValidation=Strict&fieldManager=tests",
        gvk.version, resource.plural
    );
    let mut value = value.clone();
    if namespaced {
        value["metadata"]["namespace"] = "lint".into();
    }
    let body = serde_json::to_vec(&value).unwrap();
    let request = http::Request::post(path).header("content-type", "application/json").body(body).unwrap();
    match client.request::<serde_json::Value>(request).await {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// The API server is the oracle: it takes what lint finds no fault with, and refuses what lint says it refuses.
#[tokio::test]
async fn the_api_server_agrees() {
    use crate::harness::cluster::{client, control_plane, install, namespace};
    let plane = tokio::task::spawn_blocking(control_plane).await.unwrap();
    let client = client(&plane).await;
    install(&client).await;
    namespace(&client, "lint").await;
    let names = Names::default();
    let (mut wrong, mut taken, mut refused) = (Vec::new(), 0, 0);
    for rule in all_rules().into_iter().filter(|rule| rule.system != "Changes") {
        for kind in ["pass", "fail"] {
            let file = format!("{}/{kind}.yaml", rule.id);
            let documents = yaml::read(&std::fs::read(folder().join(&file)).unwrap(), &file).unwrap();
            let origin = |line| Origin { file: file.as_str().into(), line };
            let subjects: Vec<Subject> =
                documents.into_iter().flat_map(|one| Subject::read(one.value, &origin(one.line))).collect();
            let set = Set::new(&subjects, &names);
            let checked = check(&set, &schemas(), &Configuration::default(), &Confidential::default());
            for (number, subject) in subjects.iter().enumerate() {
                let group = subject.gvk.group.as_str();
                let own = !group.contains('.')
                    || group.ends_with(".k8s.io") && !group.starts_with("gateway")
                    || subject.gvk.is("driftless.dev", "RolloutPolicy");
                let custom = checked.unknown.contains(&subject.gvk) || !own;
                let template = subject.value.to_string().contains("${");
                if custom || template || subject.value.pointer("/metadata/name").is_none() {
                    continue;
                }
                let findings = checked.findings.iter().filter(|finding| finding.subject == number);
                let ids: Vec<&str> = findings.map(|finding| finding.rule.id).collect();
                let told = ids.iter().any(|id| REFUSED.contains(id));
                // A number in quotes is refused, the name of no port is not.
                let told = told
                    || ids.contains(&"probe-port-unknown")
                        && subject.value.to_string().contains("\"port\":\"80\"");
                let said = refusal(&client, &subject.value).await;
                match (&said, told) {
                    (None, false) => taken += 1,
                    (Some(_), true) => refused += 1,
                    // A schedule that cannot be read is refused, one that never comes is not.
                    (Some(_), false) if ids.contains(&"invalid-cron") => {}
                    _ => wrong.push(format!("{file}:{}: lint {ids:?}, server {said:?}", subject.origin.line)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken >= 120 && refused >= 30, "{taken} taken, {refused} refused");
}

/// What SOPS has encrypted is no base64 and has a block of its own; the kind's schema says nothing about it.
#[test]
fn encrypted_objects_are_not_held_against_their_schema() {
    let folder = tempfile::tempdir().unwrap();
    let cipher =
        "ENC[AES256_GCM,data:aGVsbG8=,iv:MDEyMzQ1Njc4OWFiY2RlZg==,tag:MDEyMzQ1Njc4OWFiY2RlZg==,type:str]";
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata:\n  token: '{cipher}'\nsops:\n  age: []\n  mac: '{cipher}'\n  version: 3.11.0\n"
    );
    std::fs::write(folder.path().join("secret.yaml"), text).unwrap();
    let mut command = std::process::Command::new(crate::harness::cluster::program());
    let done = command.arg("lint").arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{said}");
}

/// What lint says about a policy and what is around it that means: the agent applies nothing of the commit.
const UNBOUND: &[&str] = &[
    "rollout-policy",
    "rollout-target-missing",
    "rollout-target-twice",
    "rollout-target",
    "rollout-route-missing",
    "rollout-route-elsewhere",
    "rollout-service",
    "rollout-service-missing",
];

/// The agent is the oracle for policies: it binds those that lint finds no fault with, and no others.
#[test]
fn the_agent_agrees_about_policies() {
    use driftless::plan::Desired;
    let names = Names::default();
    let (mut wrong, mut bound, mut refused) = (Vec::new(), 0, 0);
    for rule in all_rules().into_iter().filter(|rule| rule.system == "Rollouts") {
        for kind in ["pass", "fail"] {
            let file = format!("{}/{kind}.yaml", rule.id);
            let documents = yaml::read(&std::fs::read(folder().join(&file)).unwrap(), &file).unwrap();
            let origin = |line| Origin { file: file.as_str().into(), line };
            let subjects: Vec<Subject> =
                documents.into_iter().flat_map(|one| Subject::read(one.value, &origin(one.line))).collect();
            let set = Set::new(&subjects, &names);
            let checked = check(&set, &schemas(), &Configuration::default(), &Confidential::default());
            let is_policy = |subject: &Subject| subject.gvk.is("driftless.dev", "RolloutPolicy");
            for (number, subject) in subjects.iter().enumerate().filter(|(_, subject)| is_policy(subject)) {
                let findings = checked.findings.iter().filter(|finding| finding.subject == number);
                let told: Vec<_> = findings.filter(|finding| UNBOUND.contains(&finding.rule.id)).collect();
                // That its selector selects too much is seen when the candidate is made.
                if told.iter().any(|finding| finding.message.contains("its selector")) {
                    continue;
                }
                // With those before it, for the target of one is no target for another.
                let before = |(at, other): &(usize, &Subject)| {
                    !is_policy(other) || *at == number || rule.id == "rollout-target-twice" && *at < number
                };
                let with = subjects.iter().enumerate().filter(before);
                let mut desired: Vec<Desired> = with
                    .map(|(_, subject)| Desired {
                        key: driftless::model::Key {
                            group: subject.gvk.group.clone(),
                            kind: subject.gvk.kind.clone(),
                            namespace: subject.namespace.clone(),
                            name: subject.name().to_owned(),
                        },
                        gvk: subject.gvk.clone(),
                        body: subject.value.to_string().into_bytes(),
                        ..Desired::default()
                    })
                    .collect();
                let said = driftless::rollout::bind(&mut desired).err().map(|error| error.to_string());
                match (&said, told.is_empty()) {
                    (None, true) => bound += 1,
                    (Some(_), false) => refused += 1,
                    _ => wrong.push(format!("{file}:{}: lint {told:?}, agent {said:?}", subject.origin.line)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(bound >= 15 && refused >= 20, "{bound} bound, {refused} refused");
}
