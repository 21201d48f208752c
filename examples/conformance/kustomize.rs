//! Kustomizations beside kustomize.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use driftless::render::kustomize;
use driftless::source::FolderTree;

use super::{Row, folders, module, program, root, table};

const KUSTOMIZE: &str = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1";

/// Modules with kustomizations.
const MODULES: &[&str] = &[
    "github.com/argoproj/argo-events@v1.9.6",
    "github.com/argoproj/argo-rollouts@v1.8.3",
    "github.com/argoproj/argo-workflows/v3@v3.7.3",
    "github.com/cert-manager/cert-manager@v1.21.2",
    "github.com/fluxcd/flagger@v1.36.1",
    "github.com/kserve/kserve@v0.15.2",
    "github.com/kubeflow/trainer/v2@v2.0.0",
    "github.com/kubeflow/training-operator@v1.8.1",
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "github.com/ray-project/kuberay/ray-operator@v1.4.2",
    "knative.dev/serving@v0.51.0",
    "sigs.k8s.io/gateway-api@v1.6.3",
    "sigs.k8s.io/kwok@v0.8.0",
    "sigs.k8s.io/kustomize/api@v0.20.1",
    "sigs.k8s.io/cluster-api@v1.11.3",
    "sigs.k8s.io/controller-runtime@v0.22.4",
    "github.com/argoproj/argo-cd/v3@v3.1.9",
    "github.com/fluxcd/kustomize-controller@v1.7.2",
    "github.com/fluxcd/helm-controller@v1.4.3",
    "github.com/kyverno/kyverno@v1.15.2",
    "sigs.k8s.io/external-dns@v0.19.0",
    "github.com/tektoncd/pipeline@v1.6.0",
    "github.com/crossplane/crossplane/v2@v2.1.0",
    "github.com/kedacore/keda/v2@v2.18.1",
];

/// What the real program says of a folder; `Err` is its last words.
fn real(kustomize: &Path, folder: &Path) -> Result<String, String> {
    // Beside it; built by the other half of the comparison.
    let helm = kustomize.with_file_name("helm");
    let done = Command::new("timeout")
        .args(["60"])
        .arg(kustomize)
        .args(["build", "--load-restrictor", "LoadRestrictionsNone", "--enable-helm", "--helm-command"])
        .arg(helm)
        .arg(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .output()
        .expect("timeout is installed");
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&done.stderr);
    Err(words.lines().last().unwrap_or_default().chars().take(300).collect())
}

fn own_cases(oracle: &Path) {
    let record = std::env::var_os("RECORD").is_some();
    let folder = root().join("tests/data/kustomize");
    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let end = ["-- expected --\n", "-- refused --\n"].iter().filter_map(|mark| text.find(mark)).min();
        let input = &text[..end.unwrap_or(text.len())];
        let scratch = tempfile::tempdir().unwrap();
        let (mut build, mut path) = (String::new(), PathBuf::new());
        for line in input.split_inclusive('\n') {
            let head = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --"));
            if let Some(folder) = head.and_then(|head| head.strip_prefix("build: ")) {
                folder.clone_into(&mut build);
            } else if head == Some("no newline") {
                let old = std::fs::read(&path).unwrap();
                std::fs::write(&path, &old[..old.len() - 1]).unwrap();
            } else if let Some(name) = head {
                path = scratch.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "").unwrap();
            } else {
                let mut old = std::fs::read(&path).unwrap();
                old.extend_from_slice(line.as_bytes());
                std::fs::write(&path, old).unwrap();
            }
        }
        let found = match real(oracle, &scratch.path().join(&build)) {
            Ok(printed) => format!("{input}-- expected --\n{printed}"),
            Err(_) => format!("{input}-- refused --\n"),
        };
        refused += usize::from(found.ends_with("-- refused --\n"));
        if record {
            std::fs::write(file, &found).unwrap();
        } else if found == text {
            same += 1;
        } else {
            wrong.push(file.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    println!("own cases: {}, of which kustomize refuses {refused}", files.len());
    if !record {
        println!("recorded as kustomize says today: {same}; stale: {wrong:?}");
        assert!(wrong.is_empty(), "RECORD=1 writes them anew");
    }
}

fn corpora(oracle: &Path) {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut reasons = Vec::new();
    for name in MODULES {
        let Some(directory) = module(name) else {
            eprintln!("{name} is not to be had");
            continue;
        };
        let mut all = Vec::new();
        folders(&directory, &["kustomization.yaml", "kustomization.yml", "Kustomization"], &mut all);
        let row = rows.entry(name).or_default();
        for folder in all {
            let inner = folder.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
            row.count += 1;
            let begin = Instant::now();
            let theirs = real(oracle, &folder);
            row.theirs += begin.elapsed();
            let begin = Instant::now();
            let ours = kustomize::build(&FolderTree::new(&directory), &inner, &kustomize::Options::default())
                .map(|built| built.text());
            row.ours += begin.elapsed();
            match (theirs, ours) {
                (Ok(theirs), Ok(ours)) if theirs == ours => row.same += 1,
                (Ok(theirs), Ok(ours)) => {
                    row.differ += 1;
                    let diff = similar::TextDiff::from_lines(&theirs, &ours);
                    let diff = diff.unified_diff().context_radius(2).to_string();
                    let diff: Vec<&str> = diff.lines().take(12).collect();
                    reasons.push(format!("{name} {inner}: differs\n{}", diff.join("\n")));
                }
                (Err(_), Err(_)) => row.both_refuse += 1,
                (Ok(_), Err(error)) => {
                    row.only_ours_refuses += 1;
                    reasons
                        .push(format!("{name} {inner}: only ours refuses: {} {error}", error.code.reason()));
                }
                (Err(words), Ok(_)) => {
                    row.only_theirs_refuses += 1;
                    reasons.push(format!("{name} {inner}: only theirs refuses: {words}"));
                }
            }
        }
    }
    for reason in reasons {
        println!("{reason}");
    }
    let total = table("kustomizations", "kustomize", rows.iter().map(|(name, row)| (*name, row)));
    assert_eq!(total.differ, 0, "a silent difference");
}

pub(super) fn compare() {
    super::helm::oracle();
    let oracle = program(KUSTOMIZE, "kustomize", &[]);
    own_cases(&oracle);
    corpora(&oracle);
}
