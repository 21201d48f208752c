//! Renders against what the real tools made of the same files (`make conformance` records it).

use std::collections::BTreeMap;
use std::path::Path;

use driftless::render::explain::explain;
use driftless::render::{Cache, MemoryTree, Options, kustomize, render};

use proptest::prelude::*;
use serde_json::Value as Json;

/// One case: the files, where to build, and what kustomize printed (`None` where it refused).
struct Case {
    name: String,
    folder: String,
    tree: MemoryTree,
    files: BTreeMap<String, String>,
    /// In place of the kustomization that is built by kustomize.
    options: kustomize::Options,
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
    // What is built with options here, kustomize built by a kustomization around it.
    let given = sections.keys().find(|head| head.starts_with("options: ")).cloned();
    let mut options = kustomize::Options::default();
    if let Some(head) = given {
        options = options_of(&sections.remove(&head).unwrap());
        head["options: ".len()..].clone_into(&mut folder);
    }
    assert!(expected.is_some() != refused, "{name} says either what is expected or that it is refused");
    let tree =
        sections.iter().fold(MemoryTree::default(), |tree, (path, content)| tree.file(path, content.clone()));
    Case { name, folder, tree, files: sections, options, expected }
}

/// As the agent takes them from an Application.
fn options_of(text: &str) -> kustomize::Options {
    let value = driftless::model::yaml::read(text.as_bytes(), "options").unwrap().remove(0).value;
    let given: driftless::api::KustomizeOptions = serde_json::from_value(value).unwrap();
    kustomize::Options {
        name_prefix: given.name_prefix,
        name_suffix: given.name_suffix,
        namespace: given.namespace,
        images: given.images,
        replicas: given.replicas,
        labels: given.labels,
        annotations: given.annotations,
        components: given.components,
        patches: given.patches,
    }
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
        let found = kustomize::build(&case.tree, &case.folder, &case.options).map(|built| built.text());
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
    assert!(count >= 370, "only {count} cases");
    assert_eq!(different.len(), DIFFERENT.len(), "a known difference is gone");
}

fn with(case: &Case) -> Options {
    Options { kustomize: case.options.clone(), ..Options::default() }
}

/// Many cases hold the same files, so their parses are shared; what comes out stays the same.
#[test]
fn shared_parses_change_nothing() {
    let cache = Cache::new(64 << 20, 0);
    let mut count = 0;
    for case in cases("kustomize") {
        let alone = render(&case.tree, &case.folder, &with(&case));
        for _ in 0..2 {
            match (&alone, cache.render(&case.tree, &case.folder, &with(&case))) {
                (Ok(alone), Ok(shared)) => {
                    count += 1;
                    assert_eq!(alone.objects, shared.objects, "{}", case.name);
                    assert_eq!(alone.reads, shared.reads, "{}", case.name);
                }
                (Err(alone), Err(shared)) => assert_eq!(*alone, shared, "{}", case.name),
                (alone, shared) => panic!("{}: {alone:?} and {shared:?}", case.name),
            }
        }
    }
    assert!(count >= 500, "only {count}");
}

/// Every field of every object is explained, and explained as what it is.
#[test]
fn explanations_cover_every_field() {
    fn leaves(value: &Json, path: String, found: &mut BTreeMap<String, Json>) {
        match value {
            Json::Object(fields) if !fields.is_empty() => fields.iter().for_each(|(name, value)| {
                leaves(value, format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }),
            Json::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(at, item)| leaves(item, format!("{path}/{at}"), found));
            }
            leaf => drop(found.insert(path, leaf.clone())),
        }
    }
    let (mut fields, mut placed) = (0, 0);
    for case in cases("kustomize") {
        let Ok(rendered) = render(&case.tree, &case.folder, &with(&case)) else { continue };
        let explained = explain(&case.tree, &case.folder, &with(&case)).unwrap();
        assert_eq!(explained.objects.len(), rendered.objects.len(), "{}", case.name);
        for (object, explanation) in rendered.objects.iter().zip(&explained.objects) {
            let mut wanted = BTreeMap::new();
            leaves(object.value(), String::new(), &mut wanted);
            let found: BTreeMap<String, Json> =
                explanation.fields.iter().map(|field| (field.path.clone(), field.value.clone())).collect();
            assert_eq!(found, wanted, "{} {}", case.name, object.name());
            for field in &explanation.fields {
                assert!(!field.written.by.is_empty(), "{} {}", case.name, field.path);
                fields += 1;
                placed += usize::from(field.written.line > 0);
            }
        }
    }
    // What no file states (`kind: ConfigMap` of a generator has the line of the generator) is rare.
    assert!(fields > 5_000 && placed * 100 >= fields * 97, "{placed} of {fields} have a line");
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
fn bad_input_is_told_with_file_line_and_chain() {
    let tree = |kustomization: &str| {
        MemoryTree::default()
            .file(
                "k/d.yaml",
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 1}\n",
            )
            .file("k/bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: [\n")
            .file("k/kustomization.yaml", kustomization)
    };
    let d = "resources:\n- d.yaml\n";
    for (kustomization, expected) in [
        ("resources: d.yaml\n", "KustomizationInvalid k/kustomization.yaml:1: invalid type: string"),
        ("a: [\n", "ManifestInvalid k/kustomization.yaml:"),
        ("resources:\n- bad.yaml\n", "ManifestInvalid k/bad.yaml:3:11: "),
        (
            &format!("{d}images:\n- name: x\n  newTagg: y\n"),
            "KustomizationInvalid k/kustomization.yaml:5: unknown field `newTagg`",
        ),
        (
            &format!(
                "{d}patches:\n- target: {{name: '('}}\n  patch: |-\n    - {{op: remove, path: /spec}}\n"
            ),
            "KustomizationInvalid k/kustomization.yaml:3: target.name \"(\" is no regular expression",
        ),
        (
            &format!(
                "{d}patches:\n- target: {{labelSelector: 'a=('}}\n  patch: |-\n    - {{op: remove, path: /spec}}\n"
            ),
            "KustomizationInvalid k/kustomization.yaml:3: the selector \"a=(\" cannot be read",
        ),
        (
            &format!(
                "{d}patches:\n- target: {{kind: Deployment}}\n  patch: |-\n    - {{op: remove, path: /spec/none}}\n"
            ),
            "KustomizationInvalid k/d.yaml:1: the JSON patch cannot be applied to Deployment d: the path /spec/none does not exist",
        ),
        (
            &format!("{d}patches:\n- target: {{kind: Deployment}}\n"),
            "KustomizationInvalid k/kustomization.yaml:3: a patch needs patch or path",
        ),
        (
            &format!("{d}replicas:\n- name: other\n  count: 2\n"),
            "KustomizationInvalid k/kustomization.yaml:4: replicas: no resource other",
        ),
        (
            &format!(
                "{d}replacements:\n- source: {{kind: Service, name: s}}\n  targets:\n  - select: {{kind: Deployment}}\n"
            ),
            "KustomizationInvalid k/kustomization.yaml:3: the source of a replacement (Service s) selects nothing",
        ),
        (
            &format!("{d}configMapGenerator:\n- name: one\n- name: c\n  files: [none.txt]\n"),
            "PathNotFound k/kustomization.yaml:6: the file none.txt does not exist",
        ),
        (
            &format!("{d}vars:\n- name: V\n  objref: {{kind: Service, name: s, apiVersion: v1}}\n"),
            "KustomizationInvalid k/kustomization.yaml:4: the var V names no resource",
        ),
        (
            &format!("{d}components: [../none]\n"),
            "PathNotFound k/kustomization.yaml:3: the folder ../none does not exist",
        ),
        (&format!("{d}- .\n"), "KustomizationInvalid k/kustomization.yaml:3: a cycle: . is or holds k"),
        (
            "helmCharts:\n- name: redis\n  repo: https://charts.example.com\n  version: 1.2.3\n",
            "RemoteBaseRefused k/kustomization.yaml:2: the chart redis 1.2.3 of https://charts.example.com is not at charts/redis-1.2.3/redis",
        ),
        (
            "helmCharts:\n- name: redis\n",
            "PathNotFound k/kustomization.yaml:2: the chart redis is not at charts/redis",
        ),
        (
            &format!(
                "{d}transformers:\n- |-\n  apiVersion: example.com/v1\n  kind: Own\n  metadata: {{name: x}}\n"
            ),
            "KustomizationInvalid k/kustomization.yaml:5: Own is a plugin",
        ),
    ] {
        let found = failure(&tree(kustomization), "k");
        assert!(found.starts_with(expected), "{kustomization}: {found}");
    }
    // Plain manifests.
    let plain = |path: &str, tree: &MemoryTree| {
        let error = render(tree, path, &Options::default()).unwrap_err();
        assert_eq!(error.code.kind().exit_code(), 3);
        format!("{} {error}", error.code.reason())
    };
    let bad =
        MemoryTree::default().file("p/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: a\n");
    let found = plain("p", &bad);
    assert!(found.starts_with("ManifestInvalid p/a.yaml:4:"), "{found}");
    assert_eq!(plain("none", &bad), "PathNotFound none does not exist at this revision");
}

/// One careless edit of a file: a line doubled, dropped, indented or cut, or a word in the place of another.
fn careless(text: &str, (what, line, word): (u8, prop::sample::Index, prop::sample::Index)) -> String {
    const WORDS: &[&str] = &[
        "null",
        "[]",
        "{}",
        "- a",
        "*a",
        "&a b",
        "~",
        "-1",
        "99999999999999999999",
        "''",
        "a: b",
        "../..",
        "$patch: delete",
        "metadata.name",
        "kind: List",
        "(",
        "\u{0}",
        "é",
        "---",
        "true",
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return text.to_owned();
    }
    let at = line.index(lines.len());
    let word = word.get(WORDS);
    match what % 6 {
        0 => lines.insert(at, lines[at].clone()),
        1 => drop(lines.remove(at)),
        2 => lines[at].insert_str(0, "  "),
        3 => lines[at] = lines[at].chars().take(usize::from(what) % 20).collect(),
        4 => {
            let key = lines[at].split_once(':').map_or("", |(key, _)| key).to_owned();
            lines[at] = format!("{key}: {word}");
        }
        _ => (*word).clone_into(&mut lines[at]),
    }
    lines.join("\n") + "\n"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is in the files: an answer or an error with a place, no panic; shared parses and explanations agree.
    #[test]
    fn careless_edits_are_answered(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<(u8, prop::sample::Index, prop::sample::Index)>()), 1..4),
    ) {
        static CASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
        let case = which.get(CASES.get_or_init(|| cases("kustomize")));
        let mut files = case.files.clone();
        for (file, edit) in edits {
            let paths: Vec<String> = files.keys().cloned().collect();
            let path = file.get(&paths);
            let edited = careless(&files[path], edit);
            files.insert(path.clone(), edited);
        }
        let tree = files.iter().fold(MemoryTree::default(), |tree, (path, content)| tree.file(path, content.clone()));
        let alone = render(&tree, &case.folder, &with(case));
        let shared = Cache::new(1 << 20, 0).render(&tree, &case.folder, &with(case));
        let explained = explain(&tree, &case.folder, &with(case));
        match alone {
            Ok(alone) => {
                prop_assert_eq!(&alone.objects, &shared.unwrap().objects);
                prop_assert_eq!(alone.objects.len(), explained.unwrap().objects.len());
            }
            Err(error) => {
                prop_assert_eq!(error.code.kind().exit_code(), 3);
                prop_assert_eq!(Some(error), shared.err());
            }
        }
    }
}

#[test]
fn chains_and_sizes_have_limits() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    let chain = |depth: usize| {
        (0..depth).fold(MemoryTree::default(), |tree, at| {
            let content = if at + 1 == depth {
                "resources: [c.yaml]\n".to_owned()
            } else {
                format!("resources: [../{}]\n", at + 1)
            };
            tree.file(&format!("{at}/kustomization.yaml"), content).file(&format!("{at}/c.yaml"), map)
        })
    };
    assert!(kustomize::build(&chain(100), "0", &kustomize::Options::default()).is_ok());
    let found = failure(&chain(102), "0");
    assert!(found.starts_with("BudgetExceeded 99/kustomization.yaml:1: more than 100 kustomizations below each other (by way of 98/kustomization.yaml:1)"), "{found}");
    assert!(found.ends_with("(by way of 0/kustomization.yaml:1)"), "{found}");
    // Cycles, also by way of a component and of a link.
    let component = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n";
    let cycle = MemoryTree::default()
        .file("a/kustomization.yaml", "components: [../b]\n")
        .file("b/kustomization.yaml", format!("{component}resources: [../c]\n"))
        .file("c/kustomization.yaml", "resources: [../link]\n")
        .link("link", "a");
    let found = failure(&cycle, "a");
    assert!(found.starts_with("KustomizationInvalid c/kustomization.yaml:1: a cycle: ../link is or holds a, which is being built (a -> b -> c -> a)"), "{found}");
    assert!(
        found.ends_with("(by way of b/kustomization.yaml:3) (by way of a/kustomization.yaml:1)"),
        "{found}"
    );
    // An expansion bomb ends long before it fills the memory.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    let tree = MemoryTree::default()
        .file("k/kustomization.yaml", "resources: [c.yaml]\n")
        .file("k/c.yaml", format!("{map}{bomb}"));
    assert!(failure(&tree, "k").starts_with("BudgetExceeded k/c.yaml:"), "{}", failure(&tree, "k"));
    // A file beyond 64 MiB, and nesting beyond 512.
    let tree = |content: String| {
        MemoryTree::default().file("k/kustomization.yaml", "resources: [c.yaml]\n").file("k/c.yaml", content)
    };
    let found = failure(&tree(" ".repeat((64 << 20) + 1)), "k");
    assert!(found.starts_with("BudgetExceeded k/c.yaml"), "{found}");
    let deep: String = (0..600).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let found = failure(&tree(format!("{map}{deep}")), "k");
    assert!(found.starts_with("BudgetExceeded k/c.yaml:"), "{found}");
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
