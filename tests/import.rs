//! `driftless import analysis` on files, against recorded policies.

use std::path::{Path, PathBuf};

use driftless::api::RolloutPolicySpec;
use driftless::model::yaml;
use driftless::rollout::Policy;

use crate::harness::cluster;

/// Runs the program in a folder.
fn run(folder: &Path, arguments: &[String]) -> (i32, String, String) {
    let mut command = std::process::Command::new(cluster::program());
    let done = command.current_dir(folder).args(["import", "analysis"]).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
    found.sort();
}

/// That our reader takes all policies; what is missing in those that are none yet is said.
fn are_policies(output: &str, remarks: &str, file: &str) -> usize {
    let documents = yaml::read(output.as_bytes(), file).unwrap();
    let mut policies = 0;
    for document in documents.iter().filter(|document| document.value["kind"] == "RolloutPolicy") {
        let spec: RolloutPolicySpec = serde_json::from_value(document.value["spec"].clone()).unwrap();
        if let Err(error) = Policy::read(&spec) {
            assert!(remarks.contains(&error.why), "{file}: {}\n{output}", error.why);
        } else {
            policies += 1;
        }
    }
    policies
}

#[test]
fn conversions_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import");
    let mut sources = Vec::new();
    files(&folder, &mut sources);
    assert!(sources.len() >= 5);
    let mut stale = Vec::new();
    for file in sources {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let options = std::fs::read_to_string(file.with_extension("arguments")).unwrap_or_default();
        let arguments: Vec<String> =
            [name.clone()].into_iter().chain(options.lines().map(str::to_owned)).collect();
        let (code, output, remarks) = run(&folder, &arguments);
        assert!(are_policies(&output, &remarks, &name) > 0, "{name}: {remarks}");
        assert_eq!(code, i32::from(remarks.lines().any(|line| !line.contains(": note: "))), "{remarks}");
        let found = format!("exit code {code}\n{remarks}{output}");
        let golden = file.with_extension("txt");
        stale.extend(crate::harness::stale(&golden, &found));
    }
    assert!(stale.is_empty(), "UPDATE=1 records:\n{}", stale.join("\n"));
}

/// Argo Rollouts' own examples, out of its module archive: all are policies, or it is said why not.
#[test]
fn the_examples_of_argo_rollouts() {
    let module = PathBuf::from(crate::harness::crds::folder(&crate::harness::crds::ARGO_ROLLOUTS));
    let (mut policies, mut sources) = (0, Vec::new());
    for part in ["examples", "test/e2e"] {
        files(&module.join(part), &mut sources);
    }
    for file in sources {
        let (code, output, remarks) = run(&module, &[file.to_str().unwrap().to_owned()]);
        assert!(matches!(code, 0..=3), "{}: {code}\n{remarks}", file.display());
        if code < 2 {
            let found = are_policies(&output, &remarks, file.to_str().unwrap());
            assert!(found > 0 || !remarks.is_empty(), "{}: {remarks}", file.display());
            policies += found;
        }
    }
    assert!(policies > 50, "{policies}");
}

#[test]
fn what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, code: i32, wanted: &str| {
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let (found, output, remarks) = run(folder.path(), &["a.yaml".into()]);
        assert_eq!((found, output.as_str()), (code, ""), "{remarks}");
        assert!(remarks.contains(wanted), "{remarks}");
    };
    check("a: [", 3, "a.yaml");
    check("apiVersion: v1\nkind: Service\n", 3, "there is no Rollout");
    let (code, _, remarks) = run(folder.path(), &["gone.yaml".into()]);
    assert!(code == 2 && remarks.contains("cannot read gone.yaml"), "{code}: {remarks}");
    let (code, _, _) = run(folder.path(), &["a.yaml".into(), "--arg".into(), "x".into()]);
    assert_eq!(code, 2);
}

#[test]
fn standard_input() {
    let text = r#"{"apiVersion": "argoproj.io/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "a"},
"spec": {"metrics": [{"name": "m", "successCondition": "result == nope",
"provider": {"web": {"url": "http://x"}}}]}}"#;
    let mut command = std::process::Command::new(cluster::program());
    let piped = std::process::Stdio::piped;
    command.args(["import", "analysis", "-"]).stdin(piped()).stdout(piped()).stderr(piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let remarks = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{remarks}");
    let wanted =
        "-:2: spec.metrics[0].successCondition: result == nope: column 11: there is no nope, but result";
    assert!(remarks.contains(wanted), "{remarks}");
}
