//! Substitution beside fluxcd/pkg/envsubst (tests/conformance/envsubst), and what it means for objects.

use driftless::error::Code;
use driftless::render::substitute::{Variables, text};
use driftless::render::{MemoryTree, Options, render};
use proptest::prelude::*;
use serde_json::Value;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    let mut all = Variables::default();
    pairs.iter().for_each(|(name, value)| all.set(name, value, false).unwrap());
    all
}

/// What is done here and refused there, as docs/secrets.md says: a default where nothing is set, without the colon.
const EXTENSIONS: &[(&str, &str)] = &[
    ("${var-default}", "abcdEFGH28ij"),
    ("${missing-default}", "default"),
    ("${var-}", "abcdEFGH28ij"),
    ("${a-b}", "b"),
];
/// What is refused here and broken text there: half a character.
const REFUSED: &[&str] = &["${u:0:3}", "${u:3:1}", "${u:4}"];

#[test]
fn expands_as_flux_does() {
    let cases: Vec<Value> = serde_json::from_slice(include_bytes!("data/envsubst.json")).unwrap();
    let mut wrong = Vec::new();
    let mut known = 0;
    for case in &cases {
        let mut all = Variables::default();
        for (name, value) in case["vars"].as_object().unwrap() {
            all.set(name, value.as_str().unwrap(), false).unwrap();
        }
        let stated = case["text"].as_str().unwrap();
        let found = text(stated, &all);
        if let Some((_, expected)) = EXTENSIONS.iter().find(|(text, _)| *text == stated) {
            assert_eq!(found.as_deref(), Ok(*expected), "{stated}");
            known += 1;
            continue;
        }
        let expected = case.get("result").and_then(Value::as_str);
        match (&found, expected) {
            (Ok(found), Some(expected)) if found == expected => {}
            (Err(_), None) => {}
            (Err(_), Some(broken)) if REFUSED.contains(&stated) || broken.contains('\u{fffd}') => known += 1,
            _ => wrong.push(format!("{stated:?}: {found:?}, not {case}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 120 && known <= 8, "{} cases, {known} known differences", cases.len());
}

fn rendered(manifest: &str, all: Variables) -> Result<Vec<Value>, String> {
    let options = Options { substitute: Some(all), ..Options::default() };
    match render(&MemoryTree::default().file("m.yaml", manifest), "", &options) {
        Ok(rendered) => Ok(rendered.objects.iter().map(|object| object.value().clone()).collect()),
        Err(error) => {
            assert_eq!(error.code, Code::SubstitutionFailed);
            Err(error.to_string())
        }
    }
}

#[test]
fn values_get_the_type_that_yaml_gives_them() {
    let all = variables(&[
        ("N", "3"),
        ("NAME", "web"),
        ("YES", "yes"),
        ("LIST", "[a, b]"),
        ("PEM", "one\ntwo\n"),
        ("ID", "0123"),
    ]);
    let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: '${NAME}-x'}\nspec:\n  replicas: ${N}\n  quoted: \"${N}\"\n  text: v${N}\n  truth: ${YES}\n  list: ${LIST}\n  pem: ${PEM}\n  id: ${ID}\n  kept: $${N} $N\n  block: |\n    n=${N}\n    m=${M:-none}\n";
    let found = rendered(manifest, all).unwrap();
    assert_eq!(found[0]["metadata"]["name"], "web-x");
    let spec = &found[0]["spec"];
    assert_eq!(spec["replicas"], 3);
    // The object is written anew first, so quotes around a value do not keep it a text: as in Flux.
    assert_eq!(spec["quoted"], 3);
    assert_eq!(spec["text"], "v3");
    assert_eq!(spec["truth"], true);
    assert_eq!(spec["list"], serde_json::json!(["a", "b"]));
    assert_eq!(spec["pem"], "onetwo");
    assert_eq!(spec["id"], 83);
    assert_eq!(spec["kept"], "${N} $N");
    assert_eq!(spec["block"], "n=3\nm=none\n");
}

#[test]
fn failures_name_object_and_place() {
    let map = |value: &str| {
        format!(
            "# head\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: ns}}\ndata: {{a: '{value}'}}\n"
        )
    };
    for (value, expected) in [
        ("${MISSING}", "m.yaml:2: ConfigMap ns/c: the variable MISSING has neither a value nor a default"),
        ("${A", "m.yaml:2: ConfigMap ns/c: \"${A\" is no expression that can be read"),
        ("${BAD}", "m.yaml:2: ConfigMap ns/c: with its variables in place it is no YAML any more"),
        ("${EMPTY}", ""),
    ] {
        let result = rendered(&map(value), variables(&[("BAD", "{a: ["), ("EMPTY", "")]));
        match result {
            Ok(found) => assert!(expected.is_empty() && found[0]["data"]["a"].is_null(), "{value}"),
            Err(text) => assert!(text.starts_with(expected) && !expected.is_empty(), "{text}"),
        }
    }
    let gone = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${NONE}'}\n";
    assert!(rendered(gone, variables(&[("NONE", "")])).unwrap_err().contains("metadata.name"));
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${A}'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${B}'}\n";
    let options = Options { substitute: Some(variables(&[("A", "x"), ("B", "x")])), ..Options::default() };
    let error = render(&MemoryTree::default().file("m.yaml", twice), "", &options).unwrap_err();
    assert_eq!(error.code, Code::DuplicateObject);
    for name in ["", "1A", "a-b", "a.b", "ü"] {
        assert!(Variables::default().set(name, "x", false).is_err(), "{name}");
    }
}

#[test]
fn objects_may_opt_out() {
    for (field, name) in [
        ("annotations", "kustomize.toolkit.fluxcd.io/substitute"),
        ("labels", "kustomize.toolkit.fluxcd.io/substitute"),
        ("annotations", "driftless.dev/substitute"),
        ("labels", "driftless.dev/substitute"),
    ] {
        let manifest = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, {field}: {{{name}: disabled}}}}\ndata: {{a: '${{A}}'}}\n"
        );
        assert_eq!(rendered(&manifest, variables(&[("A", "x")])).unwrap()[0]["data"]["a"], "${A}");
        let other = manifest.replace("disabled", "enabled");
        assert_eq!(rendered(&other, variables(&[("A", "x")])).unwrap()[0]["data"]["a"], "x");
    }
    // Without `substitute` in the Application nothing is touched.
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '${A} $${B}'}\n";
    let plain = render(&MemoryTree::default().file("m.yaml", manifest), "", &Options::default()).unwrap();
    assert_eq!(plain.objects[0].value()["data"]["a"], "${A} $${B}");
}

#[test]
fn what_is_made_of_a_secret_is_known() {
    let mut all = variables(&[("OPEN", "seen")]);
    all.set("PASS", "hunter2", true).unwrap();
    all.set("PIN", "0123", true).unwrap();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '${PASS}', b: '${PASS^^}', c: '${PASS:2}', d: '${OPEN}', e: 'x${PASS/2/3}y'}\npin: ${PIN}\n";
    let options = Options { substitute: Some(all.clone()), ..Options::default() };
    let rendered_once = render(&MemoryTree::default().file("m.yaml", manifest), "", &options).unwrap();
    let mut shown = rendered_once.objects[0].value().clone();
    assert_eq!(shown["data"]["b"], "HUNTER2");
    assert_eq!(shown["pin"], 83);
    rendered_once.hidden.mask_object(&mut shown);
    assert_eq!(
        shown["data"],
        serde_json::json!({"a": "***", "b": "***", "c": "***", "d": "seen", "e": "***"})
    );
    assert_eq!(shown["pin"], "***");
    assert!(!format!("{all:?} {options:?}").contains("hunter2"));
    // The message of the YAML reader is scrubbed.
    all.set("PASS", "hunter2: [", true).unwrap();
    let text = rendered("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '${PASS}'}\n", all)
        .unwrap_err();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_secret_with_a_dollar_sign_is_not_quoted() {
    let tree = MemoryTree::default().file("s.yaml", crate::sops::encrypted("dollar-default.yaml"));
    let options = Options {
        substitute: Some(Variables::default()),
        keys: crate::sops::keys(&["one"]),
        ..Options::default()
    };
    let error = render(&tree, "", &options).unwrap_err();
    assert_eq!(error.why, "an expression in a value that is secret cannot be expanded");
}

#[test]
fn without_a_cluster_unknown_names_stay() {
    let mut all = variables(&[("A", "x")]);
    all.set_incomplete();
    let manifest =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '${A} ${B} ${C:-d} ${D^^}'}\n";
    assert_eq!(rendered(manifest, all).unwrap()[0]["data"]["a"], "x ${B} ${C:-d} ${D^^}");
}

#[test]
fn hostile_texts_end_soon() {
    let begin = std::time::Instant::now();
    let long = "a".repeat(200_000);
    let all = variables(&[("L", &long), ("P", &"*a?".repeat(2000))]);
    for stated in [
        "${L//a/${L}}".to_owned(),
        "${L##${P}b}".to_owned(),
        "${L%%*a*a*a*a*a*b}".to_owned(),
        format!("{}x{}", "${A:-".repeat(5000), "}".repeat(5000)),
        "${".repeat(100_000),
        "$".repeat(1_000_000),
        "${A:-".repeat(40) + &"${L}".repeat(500),
        "${L}".repeat(400),
    ] {
        let _ = text(&stated, &all);
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(text("${L//a/${L}}", &all).unwrap_err().to_string().contains("64 MiB"));
    assert!(
        text(&("${A:-".repeat(5000) + &"}".repeat(5000)), &all)
            .unwrap_err()
            .to_string()
            .contains("50 levels")
    );
}

proptest! {
    #[test]
    fn no_soup_of_signs_makes_it_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "${", "}", "$", "$$", "a", "${a", "${b}", ":", "-", "=", "#", "##", "%", "/", "//", "\\", "^", ",", "*", "?", "[", "]", "1", "-1", "ü", "\0", "\n", " ",
        ]), 0..30)
    ) {
        let _ = text(&parts.concat(), &variables(&[("a", "ünï/x.y"), ("b", ""), ("c", "1")]));
    }

    #[test]
    fn text_without_dollars_stays(stated in "[^$]{0,80}") {
        prop_assert_eq!(text(&stated, &variables(&[("a", "x")])).unwrap(), stated);
    }
}
