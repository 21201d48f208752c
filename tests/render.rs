//! Renders against what the real tools made of the same files (`make conformance` records it).

use std::collections::BTreeMap;
use std::path::Path;

use driftless::render::{MemoryTree, kustomize};

/// One case: the files, where to build, and what kustomize printed (`None` where it refused).
struct Case {
    name: String,
    folder: String,
    tree: MemoryTree,
    expected: Option<String>,
}

fn cases(folder: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let mut all: Vec<Case> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            case(name, &std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn case(name: String, text: &str) -> Case {
    let (mut folder, mut sections, mut current) =
        (String::new(), BTreeMap::<String, String>::new(), String::new());
    for line in text.split_inclusive('\n') {
        let Some(head) = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --")) else {
            sections.get_mut(&current).unwrap().push_str(line);
            continue;
        };
        match head.strip_prefix("build: ") {
            Some(build) => build.clone_into(&mut folder),
            None if head == "no newline" => {
                sections.get_mut(&current).unwrap().pop();
            }
            None => {
                head.clone_into(&mut current);
                sections.insert(current.clone(), String::new());
            }
        }
    }
    let expected = sections.remove("expected");
    let refused = sections.remove("refused").is_some();
    assert!(expected.is_some() != refused, "{name} says either what is expected or that it is refused");
    let tree =
        sections.into_iter().fold(MemoryTree::default(), |tree, (path, content)| tree.file(&path, content));
    Case { name, folder, tree, expected }
}

/// What is built here though kustomize refuses it, or refused though kustomize builds it; docs/render.md says why.
const DIFFERENT: &[&str] = &[
    // kustomize's last step reads JSON as YAML, which takes U+0085 for a line break and makes a blank of it.
    "values-character-nel",
    // The same step refuses U+007F.
    "values-character-delete",
];

#[test]
fn builds_what_kustomize_builds() {
    let mut wrong = Vec::new();
    let (mut different, mut count) = (Vec::new(), 0);
    for case in cases("kustomize") {
        count += 1;
        let found = kustomize::build(&case.tree, &case.folder, &kustomize::Options::default())
            .map(|built| built.text());
        let same = match (&found, &case.expected) {
            (Ok(found), Some(expected)) => found == expected,
            (Err(_), None) => true,
            _ => false,
        };
        if same {
            continue;
        }
        if DIFFERENT.contains(&case.name.as_str()) {
            different.push(case.name);
            continue;
        }
        let found = match found {
            Ok(found) => found,
            Err(error) => format!("{} {error}\n", error.code.reason()),
        };
        let expected = case.expected.unwrap_or_else(|| "refused\n".to_owned());
        let diff = similar::TextDiff::from_lines(&expected, &found);
        wrong.push(format!("{}:\n{}", case.name, diff.unified_diff().context_radius(2)));
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 280, "only {count} cases");
    assert_eq!(different.len(), DIFFERENT.len(), "a known difference is gone");
}

fn failure(tree: &MemoryTree, folder: &str) -> String {
    let error = kustomize::build(tree, folder, &kustomize::Options::default()).unwrap_err();
    assert_eq!(error.code.kind().exit_code(), 3);
    format!("{} {error}", error.code.reason())
}

#[test]
fn failures_say_where_and_by_which_way() {
    let base = |content: &str| {
        MemoryTree::default()
            .file("apps/base/kustomization.yaml", "resources:\n- d.yaml\n")
            .file("apps/base/d.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\n")
            .file("apps/prod/kustomization.yaml", content)
    };
    for (content, expected) in [
        (
            "resources:\n- ../base\n- none.yaml\n",
            "PathNotFound apps/prod/kustomization.yaml:3: the resource none.yaml does not exist",
        ),
        (
            "resources:\n- ../base\nresource: []\n",
            "KustomizationInvalid apps/prod/kustomization.yaml:3: unknown field `resource`",
        ),
        (
            "resources:\n- ../base\n- https://example.com/x.yaml\n",
            "RemoteBaseRefused apps/prod/kustomization.yaml:3: https://example.com/x.yaml lies outside of the repository",
        ),
        ("resources:\n- ../../../etc\n", "SymlinkRefused apps/prod/kustomization.yaml:2: "),
        (
            "resources:\n- ../base\npatches:\n- path: none.yaml\n",
            "PathNotFound apps/prod/kustomization.yaml:4: the file none.yaml does not exist",
        ),
        (
            "resources:\n- ../base\npatches:\n- patch: |-\n    kind: ConfigMap\n    apiVersion: v1\n    metadata: {name: other}\n",
            "KustomizationInvalid apps/prod/kustomization.yaml:5: no resource matches the patch of ConfigMap other",
        ),
    ] {
        let found = failure(&base(content), "apps/prod");
        assert!(found.starts_with(expected), "{found}");
    }
    let broken =
        base("resources:\n- ../base\n").file("apps/base/d.yaml", "apiVersion: v1\nkind: ConfigMap\n");
    assert_eq!(
        failure(&broken, "apps/prod"),
        "KustomizationInvalid apps/base/d.yaml:1: the ConfigMap has no metadata.name (by way of apps/prod/kustomization.yaml:2)"
    );
    let cycle =
        base("resources:\n- ../base\n").file("apps/base/kustomization.yaml", "resources:\n- ../prod\n");
    let found = failure(&cycle, "apps/prod");
    assert!(found.contains("a cycle") && found.contains("apps/prod -> apps/base -> apps/prod"), "{found}");
}

#[test]
fn a_build_notes_what_it_read() {
    let tree = MemoryTree::default()
        .file("base/kustomization.yaml", "resources: [c.yaml]\n")
        .file("base/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
        .file("base/unused.yaml", "x")
        .file("over/kustomization.yaml", "resources: [../base]\n");
    let reads = kustomize::build(&tree, "over", &kustomize::Options::default()).unwrap().reads;
    let there: Vec<&str> =
        reads.iter().filter(|(_, id)| !id.is_empty()).map(|(path, _)| path.as_str()).collect();
    assert_eq!(there, ["base/c.yaml", "base/kustomization.yaml", "over/kustomization.yaml"]);
    // Where nothing is, something may come.
    assert!(reads.contains(&("over/kustomization.yml".to_owned(), String::new())), "{reads:?}");
}
