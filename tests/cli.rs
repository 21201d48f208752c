//! The verbs that need no cluster, their formats and exit codes.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::cluster::program;
use crate::harness::git::Repository;

/// Checks a report against the schema in the repository.
pub(crate) fn holds_schema(report: &Value) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/report.schema.json"))
        .unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new(program())
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

const APP: &str = "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: fraud, namespace: ml}\nspec:\n  source: {repo: 'https://git.example/ml/platform.git', path: apps/fraud}\n";
const OTHER: &str = "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: other, namespace: ml}\nspec:\n  source: {repo: 'https://git.example/ml/platform.git', path: apps/other}\n";

fn server(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: fraud}}\nspec:\n  selector: {{matchLabels: {{app: fraud}}}}\n  template:\n    metadata: {{labels: {{app: fraud}}}}\n    spec: {{containers: [{{name: server, image: '{image}'}}]}}\n"
    )
}

fn secret(token: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: token}}\nstringData: {{token: {token}}}\n")
}

struct Team {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Team {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::create(&folder.path().join("r.git"), String::new());
        Self { folder, repository }
    }

    fn preview(&self, range: &str, options: &[&str]) -> (i32, String, String) {
        let path = self.folder.path().join("r.git");
        let mut arguments = vec!["preview", range, "--repo", path.to_str().unwrap()];
        arguments.extend(options);
        run(&arguments)
    }
}

#[test]
fn a_preview_says_what_a_merge_would_change() {
    let team = Team::new();
    let data = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let base = team.repository.commit(
        &[
            ("apps.yaml", &format!("{APP}---\n{OTHER}")),
            ("apps/fraud/server.yaml", &server("model:1")),
            ("apps/fraud/data.yaml", data),
            ("apps/fraud/secret.yaml", &secret("canary-1")),
            ("apps/other/server.yaml", &server("other:1")),
        ],
        "Base",
    );
    let head = team.repository.change(
        &[
            ("apps/fraud/server.yaml", Some(&server("model:2"))),
            ("apps/fraud/data.yaml", None),
            ("apps/fraud/secret.yaml", Some(&secret("canary-2"))),
            (
                "apps/fraud/config.yaml",
                Some("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {a: b}\n"),
            ),
        ],
        "Head",
    );
    let range = format!("{base}..{head}");
    let (code, text, errors) = team.preview(&range, &[]);
    assert_eq!((code, errors.as_str()), (1, ""), "{text}");
    let expected = [
        &*format!("ml/fraud  {}", &head[..7]),
        "  - PersistentVolumeClaim ml/data  DELETES DATA  apps/fraud/data.yaml:1",
        "  ~ Deployment ml/fraud  restarts pods  apps/fraud/server.yaml:1",
        "      /spec/template/spec/containers/0/image: \"model:1\" -> \"model:2\"",
        "  ~ Secret ml/token  apps/fraud/secret.yaml:1",
        "      /data/token: changed (secret)",
        "  + ConfigMap ml/config  apps/fraud/config.yaml:1",
        "differs: 2 apps | 2 modified | 1 missing | 1 extra | 0 unchanged",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{text}");
    let (code, json, _) = team.preview(&range, &["-o", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    holds_schema(&report);
    assert_eq!((code, &report["verdict"], &report["counts"]["extra"]), (1, &json!("differs"), &json!(1)));
    assert_eq!(report["apps"][0]["objects"][0]["danger"], "data-loss");
    let (code, markdown, _) = team.preview(&range, &["-o", "markdown", "--exit-zero"]);
    assert_eq!(code, 0);
    for output in [&text, &json, &markdown] {
        assert!(!output.contains("canary") && !output.contains("Y2FuYXJ5"), "{output}");
    }
    // Twice the same question, twice the same bytes.
    assert_eq!(team.preview(&range, &["-o", "json"]).1, json);
    // What main got since the branch parted is not the branch's change.
    team.repository.force(&base);
    let main = team.repository.commit(&[("apps/other/server.yaml", &server("other:2"))], "On main");
    let (_, text, _) = team.preview(&format!("{main}..{head}"), &[]);
    assert!(text.contains("ml/fraud") && !text.contains("ml/other"), "{text}");
}

#[test]
fn a_preview_of_nothing_is_zero_and_of_broken_files_three() {
    let team = Team::new();
    // A copy of a live object, with a status that lacks what the CRD wants of one.
    let copy =
        format!("{}status: {{conditions: [{{type: Ready}}]}}\n", APP.replace("name: fraud", "name: copy"));
    let files = [("apps.yaml", APP), ("copy.yaml", &copy), ("apps/fraud/server.yaml", &server("model:1"))];
    let base = team.repository.commit(&files, "Base");
    let same = team.repository.commit(&[("README.md", "hello")], "Words");
    assert_eq!(team.preview(&format!("{base}..{same}"), &[]).0, 0);
    let broken = team.repository.commit(&[("apps/fraud/server.yaml", "a: [")], "Broken");
    let (code, text, errors) = team.preview(&format!("{base}..{broken}"), &["-o", "json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    holds_schema(&report);
    assert_eq!((code, &report["verdict"], errors.as_str()), (3, &json!("failed"), ""));
    assert_eq!(report["errors"][1]["app"], "ml/fraud");
    assert!(
        report["errors"][1]["position"].as_str().unwrap().starts_with("apps/fraud/server.yaml:1"),
        "{text}"
    );
    assert_eq!(team.preview("no-range", &[]).0, 2);
    assert_eq!(team.preview("nobody..HEAD", &[]).0, 3);
}

#[test]
fn render_prints_what_would_be_applied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {mode: '0777', on: 'yes'}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ml}\n").unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, yaml, _) = run(&["render", path]);
    assert_eq!(code, 0);
    let read = driftless::model::yaml::read(yaml.as_bytes(), "out").unwrap();
    assert_eq!(read[0].value["data"], json!({"mode": "0777", "true": "yes"}), "{yaml}");
    let (code, text, _) = run(&["render", file.to_str().unwrap(), "-o", "json", "-n", "ml"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &list["kind"], &list["items"][0]["metadata"]["namespace"]),
        (0, &json!("List"), &json!("ml"))
    );
    assert_eq!(list["items"][1]["metadata"].get("namespace"), None);
    std::fs::write(&file, "a: [").unwrap();
    let (code, text, errors) = run(&["render", path]);
    assert_eq!((code, text.as_str()), (3, ""));
    assert!(errors.starts_with("error[DL0201]") && errors.contains("a.yaml:1:4"), "{errors}");
    std::fs::write(folder.path().join("kustomization.yaml"), "resources: []").unwrap();
    assert_eq!(run(&["render", path]).0, 3);
    assert_eq!(run(&["render", "/nowhere"]).0, 2);
}

#[test]
fn render_takes_the_options_of_helm() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    write("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n");
    write("c/values.yaml", "a: default\nb: default\nlist: []\n");
    write(
        "c/crds/t.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: ts.e.org}\n",
    );
    write(
        "c/templates/m.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata:\n  all: {{ toJson .Values | quote }}\n  at: {{ .Release.Namespace }} {{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.APIVersions.Has \"e.org/v1\" }}\n",
    );
    let chart = folder.path().join("c").display().to_string();
    let (one, two) = (write("one/v.yaml", "a: one\nb: one\n"), write("two/v.yaml", "b: two\n"));
    let note = write("note.txt", "a note");
    let file = format!("note={note}");
    let (code, out, err) = run(&[
        "render",
        &chart,
        "-n",
        "ml",
        "-f",
        &one,
        "--values",
        &two,
        "--set",
        "n=3,list={x,y}",
        "--set-string",
        "s=3",
        "--set-file",
        &file,
        "--release-name",
        "r",
        "--kube-version",
        "1.30.2",
        "-a",
        "e.org/v1",
        "--skip-crds",
        "-o",
        "json",
    ]);
    assert_eq!(code, 0, "{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let items = found["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "without the CRD: {found}");
    assert_eq!(items[0]["metadata"], json!({"name": "r", "namespace": "ml"}));
    assert_eq!(items[0]["data"]["at"], "ml v1.30.2 true");
    let values: Value = serde_json::from_str(items[0]["data"]["all"].as_str().unwrap()).unwrap();
    assert_eq!(
        values,
        json!({"a": "one", "b": "two", "list": ["x", "y"], "n": 3, "s": "3", "note": "a note"})
    );
    let (code, out, _) = run(&["render", &chart]);
    assert!(
        code == 0 && out.contains("kind: CustomResourceDefinition") && out.contains("name: release-name")
    );
    // What is wrong in a chart ends with 3 and says where.
    write("c/templates/m.yaml", "a: {{ .Values.a.b.c }}\n");
    let (code, _, err) = run(&["render", &chart]);
    assert_eq!(code, 3, "{err}");
    assert!(
        err.contains("DL0210") && err.contains("templates/m.yaml:1") && err.contains("<.Values.a.b.c>"),
        "{err}"
    );
    let (code, _, err) = run(&["render", &chart, "--set", "list[x]=1"]);
    assert!(code == 3 && err.contains("DL0209"), "{code} {err}");
}

#[test]
fn render_explains_where_fields_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    // A repository, so that paths are told from its root.
    write(".git/HEAD", "ref: refs/heads/main\n");
    write(
        "base/kustomization.yaml",
        "resources:\n- d.yaml\nsecretGenerator:\n- name: token\n  literals: [token=canary-1]\n",
    );
    write(
        "base/d.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n",
    );
    write("prod/kustomization.yaml", "resources: [../base]\nreplicas:\n- name: web\n  count: 3\n");
    let prod = folder.path().join("prod");
    let (code, text, errors) = run(&["render", prod.to_str().unwrap(), "--explain"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    for line in [
        "Deployment web",
        "  /spec/replicas = 3   prod/kustomization.yaml:3 (replicas)",
        "      was 1   base/d.yaml:6",
        "  /data/token = ***   base/kustomization.yaml:5 (secretGenerator)",
        "inputs",
        "  base/kustomization.yml   (not there)",
        "  prod/kustomization.yaml",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    let (code, json, _) = run(&["render", prod.to_str().unwrap(), "--explain", "-o", "json"]);
    let explained: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 0);
    let object =
        explained["objects"].as_array().unwrap().iter().find(|object| object["kind"] == "Deployment");
    let replicas = object.unwrap()["fields"].as_array().unwrap();
    let replicas = replicas.iter().find(|field| field["path"] == "/spec/replicas").unwrap();
    assert_eq!(
        *replicas,
        json!({"path": "/spec/replicas", "value": 3, "file": "prod/kustomization.yaml", "line": 3, "by": "replicas",
            "overrode": [{"value": "1", "file": "base/d.yaml", "line": 6, "by": "resources"}]})
    );
    for output in [&text, &json] {
        assert!(!output.contains("canary") && !output.contains("Y2FuYXJ5"), "{output}");
    }
    // What cannot be rendered cannot be explained.
    write("prod/kustomization.yaml", "resources: [../base, none.yaml]\n");
    let (code, text, errors) = run(&["render", prod.to_str().unwrap(), "--explain"]);
    assert_eq!((code, text.as_str()), (3, ""));
    assert!(errors.contains("prod/kustomization.yaml:1: the resource none.yaml does not exist"), "{errors}");
}

#[test]
fn exit_codes_and_explanations() {
    assert_eq!(run(&["version"]).0, 0);
    assert_eq!(run(&["--help"]).0, 0);
    assert_eq!(run(&["nonsense"]).0, 2);
    assert_eq!(run(&["drift", "--kubeconfig", "/nowhere"]).0, 2);
    let (code, text, _) = run(&["explain", "dl0201"]);
    assert_eq!(code, 0);
    assert!(text.starts_with("DL0201 ManifestInvalid:"), "{text}");
    assert_eq!(run(&["explain", "DL9999"]).0, 2);
    for code in driftless::error::Code::ALL {
        let (exit, text, _) = run(&["explain", code.number()]);
        assert!(exit == 0 && text.lines().count() >= 5, "{text}");
    }
    let (code, text, _) = run(&["completions", "bash"]);
    assert!(code == 0 && text.contains("driftless"));
    let (_, crds, _) = run(&["crds"]);
    assert!(crds.starts_with("---\n"));
}

/// The numbers are a contract: a number never changes its meaning, and a new one goes to its end.
#[test]
fn error_numbers_are_frozen() {
    let listed: Vec<String> = driftless::error::Code::ALL
        .iter()
        .map(|code| format!("{} {}", code.number(), code.reason()))
        .collect();
    let frozen = include_str!("data/error-codes.txt");
    for line in frozen.lines() {
        assert!(listed.iter().any(|known| known == line), "{line} is gone or means something else");
    }
    assert_eq!(listed.len(), frozen.lines().count(), "add the new code to tests/data/error-codes.txt");
}

/// What other repositories deliver is not this repository's, however its address is written.
#[test]
fn a_preview_is_of_the_applications_of_its_repository() {
    let folder = tempfile::tempdir().unwrap();
    let repository = crate::harness::git::Repository::create(&folder.path().join("clone"), String::new());
    let app = |name: &str, repo: &str, path: &str| {
        format!(
            "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: ml}}\nspec: {{source: {{repo: '{repo}', path: {path}}}}}\n"
        )
    };
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: one}\n";
    repository.commit(
        &[
            ("apps/a.yaml", map),
            ("own.yaml", &app("own", "git@git.example:ml/platform.git", "apps")),
            ("foreign.yaml", &app("foreign", "https://git.example/other/platform.git", "nowhere")),
        ],
        "First",
    );
    repository.commit(&[("apps/a.yaml", &map.replace("one", "two"))], "Second");
    let preview = || {
        let mut command = std::process::Command::new(crate::harness::cluster::program());
        let done = command
            .args(["preview", "HEAD~1..HEAD", "--repo"])
            .arg(repository.folder())
            .args(["-o", "json"])
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        let names: Vec<String> = report["apps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|app| app["name"].as_str().unwrap().to_owned())
            .collect();
        (done.status.code().unwrap(), names, String::from_utf8_lossy(&done.stderr).into_owned())
    };
    // Nobody knows whose it is.
    let (code, ..) = preview();
    assert_eq!(code, 3);
    let opened = git2::Repository::open(repository.folder()).unwrap();
    opened.remote("origin", "https://git.example/ml/Platform").unwrap();
    let (code, names, said) = preview();
    assert_eq!((code, names), (1, vec!["own".to_owned()]), "{said}");
    assert!(said.contains("of other repositories, passed over: 1"), "{said}");
    // A fork names none of them.
    opened.remote_set_url("origin", "https://git.example/fork/platform").unwrap();
    let (code, ..) = preview();
    assert_eq!(code, 3);
}
