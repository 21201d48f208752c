//! Charts against what the real helm made of the same files (`make conformance` records it).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless::error::Code;
use driftless::render::helm::{self, Line, Live, Options, Parameter};
use driftless::render::{self, MemoryTree, Rendered, Tree as _, render};
use proptest::prelude::*;
use serde_json::json;

use crate::harness::chart_case::{Case, cases, same_words};

fn all() -> Vec<Case> {
    cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/helm"))
}

/// Cases whose answer is another one here; docs/helm.md says why.
const DIFFERENT: &[&str] = &["chart-object-json", "files-bytes"];

/// Refused here as by helm, for the same reason in other words; docs/helm.md says why.
const OTHER_WORDS: &[&str] = &[
    "archive-not-one",
    "error-recursion",
    "files-wrong-argument",
    "schema-bad-type",
    "schema-contains",
    "schema-dependent",
    "schema-format",
    "schema-no-json",
    "schema-remote-ref",
    "schema-sees-globals",
    "set-file-missing",
    "values-file-missing",
];

#[test]
fn helm_charts_give_what_helm_gives() {
    let (mut wrong, mut different, mut other_words, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for case in all() {
        count += 1;
        let ours = helm::template(&case.tree(), "c", &case.asked());
        let theirs = case.said.as_ref().unwrap_or_else(|| panic!("{} is not recorded", case.name));
        let same = match (theirs, &ours) {
            (Ok(theirs), Ok(ours)) => theirs == ours,
            (Err(theirs), Err(ours)) => {
                assert_eq!(ours.code.kind().exit_code(), 3, "{}", case.name);
                let same = same_words(theirs, &ours.why);
                if !same && OTHER_WORDS.contains(&case.name.as_str()) {
                    other_words.push(case.name);
                    continue;
                }
                same
            }
            _ => false,
        };
        if same {
            continue;
        }
        if DIFFERENT.contains(&case.name.as_str()) {
            different.push(case.name);
            continue;
        }
        let shown = |said: Result<String, String>| match said {
            Ok(text) => text,
            Err(why) => format!("refused\n{why}\n"),
        };
        let theirs = shown(theirs.clone());
        let ours = shown(ours.map_err(|error| error.why));
        let diff = similar::TextDiff::from_lines(&theirs, &ours);
        wrong.push(format!("{}:\n{}", case.name, diff.unified_diff().context_radius(2)));
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 450, "only {count} cases");
    let gone = |known: &[&str], found: &[String]| -> Vec<String> {
        known.iter().filter(|name| !found.iter().any(|one| one == *name)).map(ToString::to_string).collect()
    };
    assert_eq!(gone(DIFFERENT, &different), [""; 0], "a known difference is gone");
    assert_eq!(gone(OTHER_WORDS, &other_words), [""; 0], "helm's words are ours now");
}

const CHART: &str = "apiVersion: v2\nname: c\nversion: 0.1.0\n";

fn config(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  a: \"{data}\"\n")
}

fn chart(template: &str) -> MemoryTree {
    MemoryTree::default()
        .file("apps/c/Chart.yaml", CHART)
        .file("apps/c/values.yaml", "x: 1\n")
        .file("apps/c/templates/t.yaml", template)
        .file("values/prod.yaml", "x: 2\n")
        .file("other/x.yaml", "x: 3\n")
}

fn objects(tree: &MemoryTree, options: Options) -> driftless::error::Result<Rendered> {
    render(tree, "apps/c", &render::Options { helm: options, ..render::Options::default() })
}

fn datum(tree: &MemoryTree, options: Options) -> String {
    let rendered = objects(tree, options).unwrap();
    rendered.objects[0].value()["data"]["a"].as_str().unwrap().to_owned()
}

#[test]
fn helm_values_come_from_all_their_places() {
    let tree = chart(&config(
        "a",
        "{{ .Values.x }} {{ .Release.Name }} {{ .Release.Namespace }} {{ .Values.y | toJson }}",
    ));
    let named = |name: &str, value: &str, text| Parameter { name: name.into(), value: value.into(), text };
    let values = |value: serde_json::Value| value.as_object().unwrap().clone();
    for (options, expected) in [
        (Options::default(), "1 release-name default null"),
        (
            Options { values_files: vec!["/values/prod.yaml".into()], ..Options::default() },
            "2 release-name default null",
        ),
        (
            Options { values_files: vec!["../../values/prod.yaml".into()], ..Options::default() },
            "2 release-name default null",
        ),
        (
            Options {
                values_files: vec!["none.yaml".into(), "/values/prod.yaml".into()],
                ignore_missing_values_files: true,
                values: values(json!({"y": 5})),
                release_name: "web".into(),
                namespace: "prod".into(),
                ..Options::default()
            },
            "2 web prod 5",
        ),
        (
            Options {
                values: values(json!({"x": 3, "y": "v"})),
                parameters: vec![named("x", "4", false), named("y", "p,q", true)],
                ..Options::default()
            },
            "4 release-name default p,q",
        ),
        (
            Options {
                parameters: vec![named("x", "4", false)],
                file_parameters: vec![("y".into(), "/other/x.yaml".into())],
                lines: vec![Line::Typed("x=6".into())],
                ..Options::default()
            },
            "6 release-name default x: 3\\n",
        ),
    ] {
        let found = datum(&chart(&tree_text(&tree)), options);
        assert_eq!(found.replace('"', "").replace('\n', "\\n"), expected);
    }
}

/// The template of a chart, with its text in single quotes: values may hold double ones.
fn tree_text(tree: &MemoryTree) -> String {
    let text = String::from_utf8(tree.read("apps/c/templates/t.yaml").unwrap()).unwrap();
    text.replace("a: \"", "a: '").replace("\"\n", "'\n")
}

#[test]
fn helm_reads_are_what_was_read() {
    let files = Options { values_files: vec!["/values/prod.yaml".into()], ..Options::default() };
    let text = config("a", "{{ .Values.x }}");
    let before = objects(&chart(&text), files.clone()).unwrap().reads;
    let paths: Vec<&str> = before.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["apps/c", "values/prod.yaml"]);
    let after = |tree: MemoryTree| objects(&tree, files.clone()).unwrap().reads;
    assert_eq!(before, after(chart(&text).file("other/x.yaml", "changed").file("apps/d/Chart.yaml", CHART)));
    assert_ne!(before, after(chart(&text).file("values/prod.yaml", "x: 5\n")));
    // A schema that was not there may change the result.
    assert_ne!(before, after(chart(&text).file("apps/c/values.schema.json", "{}")));
    let options = Options {
        values_files: vec!["/none.yaml".into()],
        ignore_missing_values_files: true,
        ..Options::default()
    };
    let reads = objects(&chart(&text), options).unwrap().reads;
    assert!(reads.contains(&("none.yaml".to_owned(), String::new())), "{reads:?}");
    // A link out of the chart is followed, and what it leads to is read.
    let linked = chart(&text)
        .link("apps/c/templates/u.yaml", "../../../shared/u.yaml")
        .file("shared/u.yaml", config("u", "1"));
    let rendered = objects(&linked, Options::default()).unwrap();
    assert_eq!(rendered.objects.len(), 2);
    assert!(rendered.reads.iter().any(|(path, _)| path == "shared/u.yaml"), "{:?}", rendered.reads);
}

#[test]
fn helm_objects_say_where_they_come_from() {
    let hook = |name: &str, kind: &str| {
        config(name, "1").replacen("\ndata:", &format!("\n  annotations: {{helm.sh/hook: {kind}}}\ndata:"), 1)
    };
    let two = format!("{{{{- $x := 1 }}}}\n{}---\n# more\n{}", config("a", "1"), config("b", "2"));
    let tree = chart(&two)
        .file("apps/c/templates/hook.yaml", hook("h", "pre-install"))
        .file("apps/c/templates/test.yaml", hook("t", "test"))
        .file("apps/c/templates/list.yaml", format!("apiVersion: v1\nkind: List\nitems:\n- {}\n", config("l", "1").replace('\n', "\n  ").trim_end()))
        .file("apps/c/crds/x.yaml", "# a CRD\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x}\n");
    let places = |options: Options| -> Vec<String> {
        let rendered = objects(&tree, options).unwrap();
        let place = |object: &driftless::model::Object| {
            format!("{} {}:{}", object.name(), object.origin().file, object.origin().line)
        };
        rendered.objects.iter().map(place).collect()
    };
    let rest = [
        "a apps/c/templates/t.yaml:2",
        "b apps/c/templates/t.yaml:10",
        "l apps/c/templates/list.yaml:1",
        "h apps/c/templates/hook.yaml:1",
    ];
    assert_eq!(places(Options { skip_crds: true, ..Options::default() }), rest);
    assert_eq!(places(Options::default()), [&["x apps/c/crds/x.yaml:2"][..], &rest].concat());
    let archive = all().into_iter().find(|case| case.name == "archive-template-fails").unwrap();
    let error = render(&archive.tree(), "c", &render::Options::default()).unwrap_err();
    assert_eq!(error.position().unwrap(), "c/charts/s-1.2.3.tgz!s/templates/x.yaml:1");
}

#[test]
fn helm_failures_have_a_code_a_place_and_no_secret() {
    let with = |file: &str, content: &str| chart(&config("a", "1")).file(&format!("apps/c/{file}"), content);
    for (tree, code, expected) in [
        (
            with("Chart.yaml", "apiVersion: v2\nname: c\n"),
            Code::ChartInvalid,
            "apps/c/Chart.yaml: validation: chart.metadata.version is required",
        ),
        (with("Chart.yaml", "apiVersion: v2\nname: [\n"), Code::ChartInvalid, "apps/c/Chart.yaml:"),
        (with("values.yaml", "- a\n"), Code::ChartInvalid, "apps/c/values.yaml:1: cannot load values.yaml: "),
        (
            with("values.schema.json", r#"{"required": ["z"]}"#),
            Code::ValuesInvalid,
            "apps/c/values.schema.json: values don't meet",
        ),
        (
            with("charts/s.tgz", "x"),
            Code::ArchiveInvalid,
            "apps/c/charts/s.tgz: error unpacking subchart s.tgz in c: ",
        ),
        (
            with("templates/x.yaml", "\n{{ fail \"no\" }}\n"),
            Code::TemplateFailed,
            "apps/c/templates/x.yaml:2: execution error at (c/templates/x.yaml:2:3): no",
        ),
        (
            with("templates/x.yaml", "a: [\n"),
            Code::ManifestInvalid,
            "apps/c/templates/x.yaml: YAML parse error on c/templates/x.yaml",
        ),
        (
            with("templates/x.yaml", "kind: X\n"),
            Code::ManifestIncomplete,
            "apps/c/templates/x.yaml:1: the document has no apiVersion",
        ),
        (
            with("templates/x.yaml", &config("a", "2")),
            Code::DuplicateObject,
            "ConfigMap a: it is described twice: apps/c/templates/t.yaml:1 and apps/c/templates/x.yaml:1",
        ),
        (with("templates/x.yaml", "").link("apps/c/l", "/etc/passwd"), Code::SymlinkRefused, "apps/c/l: "),
        (with("x", "").submodule("apps/c/sub"), Code::SubmoduleRefused, "apps/c/sub: "),
    ] {
        let error = objects(&tree, Options::default()).unwrap_err();
        assert_eq!((error.code, error.to_string().starts_with(expected)), (code, true), "{error}");
    }
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: hunter2: oops\n";
    let error = objects(&with("templates/s.yaml", secret), Options::default()).unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let hint =
        |text: &str| objects(&with("templates/s.yaml", text), Options::default()).unwrap_err().hint.unwrap();
    assert!(hint("a: 1\nb: c: d\n").contains("`b: c: d`"), "{}", hint("a: 1\nb: c: d\n"));
    let schema = r#"{"properties": {"password": {"pattern": "^x"}}}"#;
    let tree = with("values.schema.json", schema).file("apps/c/values.yaml", "password: hunter2\n");
    let error = objects(&tree, Options::default()).unwrap_err();
    assert!(error.why.contains("'***' does not match pattern '^x'"), "{error}");
    // Nothing is fetched.
    let options =
        Options { values_files: vec!["https://example.invalid/v.yaml".into()], ..Options::default() };
    assert!(objects(&chart(""), options).unwrap_err().why.contains("reads nothing from the network"));
}

#[test]
fn helm_lookup_finds_what_is_live_only_where_it_may() {
    let text = config(
        "a",
        "{{ ((lookup \"v1\" \"Secret\" \"ns\" \"s\").data | default dict).x | default \"none\" }}",
    )
    .replace("a: \"", "a: '")
    .replace("\"\n", "'\n");
    assert_eq!(datum(&chart(&text), Options::default()), "none");
    let found = Live(Arc::new(|_: &str, kind: &str, namespace: &str, name: &str| {
        Ok(Some(
            json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}, "data": {"x": "live"}}),
        ))
    }));
    assert_eq!(datum(&chart(&text), Options { lookup: Some(found), ..Options::default() }), "live");
}

#[test]
fn helm_random_texts_are_known_as_such() {
    let text = config("a", "{{ randAlphaNum 8 }}") + "  b: fixed\n---\n" + &config("b", "fixed");
    let options = |seed| Options { seed: [seed; 32], ..Options::default() };
    let rendered = objects(&chart(&text), options(1)).unwrap();
    let places: Vec<(usize, &str)> =
        rendered.generated.iter().map(|one| (one.object, one.pointer.as_str())).collect();
    assert_eq!(places, [(0, "/data/a")]);
    assert_eq!(rendered.digest(), objects(&chart(&text), options(1)).unwrap().digest());
    assert_ne!(rendered.digest(), objects(&chart(&text), options(2)).unwrap().digest());
    assert_eq!(objects(&chart(&config("a", "1")), options(1)).unwrap().generated, []);
    let text = config("a-{{ randAlpha 4 | lower }}", "1");
    let error = objects(&chart(&text), options(1)).unwrap_err();
    assert!(error.why.contains("depends on random values"), "{error}");
}

#[test]
fn helm_archives_in_archives_are_bounded() {
    // Each level holds the one below twice: 2^30 charts, were they all unpacked.
    let tgz = |files: &[(&str, &[u8])]| {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let mut builder = tar::Builder::new(gzip);
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    };
    let zeros = vec![0; 4 << 20];
    let mut inner = tgz(&[("s/Chart.yaml", CHART.as_bytes()), ("s/zeros", &zeros)]);
    for _ in 0..30 {
        inner = tgz(&[
            ("s/Chart.yaml", CHART.as_bytes()),
            ("s/charts/a.tgz", &inner),
            ("s/charts/b.tgz", &inner),
        ]);
    }
    let begin = Instant::now();
    let error = objects(&chart("").file("apps/c/charts/a.tgz", inner), Options::default()).unwrap_err();
    assert!(matches!(error.code, Code::ChartInvalid | Code::ArchiveInvalid), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever a chart says, there is an answer, and soon.
    #[test]
    fn helm_mutated_charts_are_survived(
        pick in 0_usize..10_000,
        file in 0_usize..8,
        at in 0_usize..4_000,
        with in prop::sample::select(vec!["{{", "}}", "{{ end }}", "\n---\n", ": ", "- ", "[", "null", "\"", "{{ range $i := until 99 }}", "*a", "&a ", "\u{0}", "../", "!", "9e999", "|", "\t"]),
        cut in any::<bool>(),
    ) {
        let mut all = all();
        all.retain(|case| case.name != "error-recursion");
        let case = &all[pick % all.len()];
        let (path, content) = case.files.iter().nth(file % case.files.len()).unwrap();
        let mut text = String::from_utf8_lossy(content).into_owned();
        let mut at = at % (text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, with);
        if cut {
            text.truncate(at + with.len());
        }
        let tree = case.tree().file(path, text);
        let begin = Instant::now();
        let options = render::Options { helm: case.asked(), ..render::Options::default() };
        let _ = render(&tree, "c", &options);
        prop_assert!(begin.elapsed() < Duration::from_secs(20), "{} {path}: {:?}", case.name, begin.elapsed());
    }

    #[test]
    fn helm_any_values_are_survived(text in "[ab:{}\\[\\], \n&*!|>'\"0-9~-]{0,60}") {
        let tree = chart(&config("a", "{{ .Values | toJson | b64enc }}")).file("values/prod.yaml", text);
        let options = Options { values_files: vec!["/values/prod.yaml".into()], ..Options::default() };
        let _ = objects(&tree, options);
    }
}
