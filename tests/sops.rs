//! Files that the real sops encrypted (tests/conformance/sops/record.sh), and what may happen to them on the way.

use std::path::{Path, PathBuf};

use driftless::error::Code;
use driftless::model::yaml;
use driftless::render::sops::{Keys, open};
use driftless::render::{MemoryTree, Options, render};
use proptest::prelude::*;
use serde_json::Value;

pub(crate) fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sops").join(path)
}

pub(crate) fn keys(names: &[&str]) -> Keys {
    let mut keys = Keys::default();
    for name in names {
        let text = std::fs::read_to_string(data(&format!("{name}.agekey"))).unwrap();
        keys.add(&text, name).unwrap();
    }
    keys
}

pub(crate) fn encrypted(name: &str) -> Vec<u8> {
    std::fs::read(data("encrypted").join(name)).unwrap()
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(data("encrypted"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is_yaml(name: &str, bytes: &[u8]) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "yaml")
        || (name == "untold-manifest" && !bytes.starts_with(b"{"))
}

/// The keys of all maps in the order of the text.
fn key_order(text: &str) -> Vec<String> {
    let mut order = Vec::new();
    for document in yaml::syntax(text.as_bytes(), "f").unwrap() {
        for node in &document.nodes {
            if let yaml::Content::Mapping(pairs) = &node.content {
                for (key, _) in pairs {
                    if let yaml::Content::Scalar { text, .. } = &document.nodes[*key].content {
                        order.push(text.clone());
                    }
                }
            }
        }
    }
    order
}

fn values(text: &[u8]) -> Vec<Value> {
    // JSON has no infinity.
    let text = String::from_utf8_lossy(text).replace(": .inf", ": infinity");
    yaml::read(text.as_bytes(), "f").unwrap().into_iter().map(|document| document.value).collect()
}

#[test]
fn opens_what_sops_encrypted() {
    let keys = keys(&["one", "two"]);
    let mut wrong = Vec::new();
    for name in names() {
        let expected = std::fs::read(data("clear").join(&name)).unwrap();
        let opened = match open(&encrypted(&name), &name, &keys) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                wrong.push(format!("{name}: not seen as encrypted"));
                continue;
            }
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let same = if is_yaml(&name, &opened.text) {
            let text = String::from_utf8(opened.text.to_vec()).unwrap();
            values(&opened.text) == values(&expected)
                && key_order(&text) == key_order(std::str::from_utf8(&expected).unwrap())
        } else {
            // Old versions ended JSON without a line break.
            let expected =
                if name == "old-types.json" { [&expected[..], b"\n"].concat() } else { expected.clone() };
            *opened.text == expected
        };
        if !same {
            let (found, expected) =
                (String::from_utf8_lossy(&opened.text), String::from_utf8_lossy(&expected));
            let diff = similar::TextDiff::from_lines(&*expected, &found);
            wrong.push(format!("{name}:\n{}", diff.unified_diff().context_radius(1)));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(names().len() >= 75, "only {} files", names().len());
}

#[test]
fn lines_stay_where_they_were() {
    let bytes = encrypted("documents-default.yaml");
    let opened = open(&bytes, "d.yaml", &keys(&["one"])).unwrap().unwrap();
    let lines = |bytes: &[u8]| -> Vec<usize> {
        yaml::read(bytes, "f").unwrap().into_iter().map(|document| document.line).collect()
    };
    assert_eq!(lines(&bytes), lines(&opened.text));
    let comments = String::from_utf8(
        open(&encrypted("secret-encrypted-regex.yaml"), "s.yaml", &keys(&["one"]))
            .unwrap()
            .unwrap()
            .text
            .to_vec(),
    )
    .unwrap();
    assert!(comments.contains("password: \"hunter2\"") && !comments.contains("sops"), "{comments}");
}

#[test]
fn other_tools_may_have_written_the_yaml_anew() {
    let text = String::from_utf8(encrypted("secret-encrypted-regex.yaml")).unwrap();
    let expected = values(&std::fs::read(data("clear/secret-encrypted-regex.yaml")).unwrap());
    let rewritten = |change: &dyn Fn(&str, &str) -> String| -> String {
        text.lines()
            .map(|line| match line.split_once(": ENC[") {
                Some((name, rest)) => change(name, &format!("ENC[{rest}")) + "\n",
                None => format!("{line}\n"),
            })
            .collect()
    };
    for (what, changed) in [
        ("single quotes", rewritten(&|name, value| format!("{name}: '{value}'"))),
        ("double quotes and a comment", rewritten(&|name, value| format!("{name}: \"{value}\" # why"))),
        ("folded", rewritten(&|name, value| format!("{name}: >-\n            {value}\n"))),
        ("literal", rewritten(&|name, value| format!("{name}: |-\n            {value}"))),
        (
            "a block with a comment",
            rewritten(&|name, value| format!("{name}: |- # why\n            {value}")),
        ),
        ("the next line", rewritten(&|name, value| format!("{name}:\n            {value}"))),
        ("line ends of Windows", text.replace('\n', "\r\n")),
        ("a mark at the beginning", format!("\u{feff}{text}")),
        ("a document begun and ended", format!("---\n{text}...\n")),
        ("a comment behind", format!("{text}# the end\n")),
        ("the metadata first", {
            let at = text.find("sops:").unwrap();
            format!("{}{}", &text[at..], &text[..at])
        }),
        ("all of it indented", text.lines().map(|line| format!("  {line}\n")).collect()),
        ("JSON", serde_json::to_string(&values(text.as_bytes())[0]).unwrap()),
    ] {
        let opened = open(changed.as_bytes(), "s.yaml", &keys(&["one"]));
        if what == "JSON" {
            // Keys in another order are another file to sops.
            assert!(opened.err().unwrap().to_string().contains("MAC"));
            continue;
        }
        if what == "a block with a comment" {
            assert!(opened.err().unwrap().to_string().contains("in a form that cannot be read"));
            continue;
        }
        let opened = opened.unwrap_or_else(|error| panic!("{what}: {error}")).unwrap();
        assert_eq!(values(&opened.text), expected, "{what}: {}", String::from_utf8_lossy(&opened.text));
    }
}

fn failure(bytes: &[u8], path: &str, keys: &Keys) -> String {
    let error = open(bytes, path, keys).err().unwrap();
    assert_eq!(error.code, Code::DecryptionFailed);
    assert_eq!(error.code.kind().exit_code(), 3);
    format!("{error}; {}", error.hint.as_deref().unwrap_or_default())
}

#[test]
fn refusals_say_for_whom_a_file_is() {
    let recipient = |name: &str| {
        let text = std::fs::read_to_string(data(&format!("{name}.agekey"))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
    };
    let bytes = encrypted("secret-two-recipients.yaml");
    let text = failure(&bytes, "apps/s.yaml", &Keys::default());
    assert!(text.starts_with("apps/s.yaml: it is encrypted for the age recipients "), "{text}");
    assert!(text.contains(&recipient("two")) && text.contains(&recipient("three")), "{text}");
    assert!(
        text.contains("no age identity is given") && text.contains("spec.source.decryption.secretRef"),
        "{text}"
    );
    assert!(failure(&bytes, "s.yaml", &keys(&["one"])).contains("the identity given is none of them"));
    assert!(failure(&bytes, "s.yaml", &keys(&["one", "stranger"])).contains("none of the 2 identities"));
    let text = failure(&encrypted("secret-shamir.yaml"), "s.yaml", &keys(&["one", "stranger"]));
    assert!(text.contains("1 of its 3 key groups could be opened and 2 are needed"), "{text}");

    let other = |part: &str| {
        format!(
            "a: ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]\nsops:\n  lastmodified: '2026-01-01T00:00:00Z'\n  mac: ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]\n{part}"
        )
    };
    for (part, expected) in [
        ("  kms: [{arn: 'arn:aws:kms:eu-1:1:key/a', enc: x}]\n", "AWS KMS (arn:aws:kms:eu-1:1:key/a) only"),
        ("  gcp_kms: [{resource_id: projects/p/k, enc: x}]\n", "GCP KMS (projects/p/k) only"),
        (
            "  azure_kv: [{vault_url: 'https://v', name: n, version: v1, enc: x}]\n",
            "Azure Key Vault (https://v/n/v1) only",
        ),
        (
            "  hc_vault: [{vault_address: 'https://v', engine_path: t, key_name: k, enc: x}]\n",
            "HashiCorp Vault (https://v/t/k) only",
        ),
        ("  pgp: [{fp: ABCDEF, enc: x}]\n", "PGP (ABCDEF) only"),
        ("", "names no key"),
        ("  age: [{recipient: age1x, enc: nothing}]\n", "its age part has no armor"),
        ("  age: [{recipient: age1x, enc: nothing}]\n  encrypted_regex: '('\n", "pattern"),
        (
            "  age: [{recipient: age1x, enc: nothing}]\n  encrypted_regex: a\n  encrypted_suffix: b\n",
            "more than one rule",
        ),
    ] {
        let text = failure(other(part).as_bytes(), "s.yaml", &keys(&["one"]));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn identities_that_cannot_be_used_are_named_without_their_text() {
    for (text, expected) in [
        ("# fine\n\nAGE-SECRET-KEY-PQ-1XYZ\n", "line 3 of x.agekey is a post-quantum identity"),
        ("AGE-PLUGIN-YUBIKEY-1XYZ", "line 1 of x.agekey is an identity of an age plugin"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n", "line 1 of x.agekey is an SSH key"),
        ("hunter2", "line 1 of x.agekey is no age identity"),
    ] {
        let error = Keys::default().add(text, "x.agekey").unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert!(!error.to_string().contains("XYZ") && !error.to_string().contains("hunter2"));
    }
    assert_eq!(format!("{:?}", keys(&["one", "two"])), "Keys(2)");
}

#[test]
fn what_was_changed_is_refused() {
    let keys = keys(&["one"]);
    let text = String::from_utf8(encrypted("secret-encrypted-regex.yaml")).unwrap();
    let swap = {
        let value = |name: &str| {
            text.lines()
                .find(|line| line.trim().starts_with(name))
                .unwrap()
                .split_once(": ")
                .unwrap()
                .1
                .to_owned()
        };
        let (url, password) = (value("url:"), value("password:"));
        text.replace(&url, "@").replace(&password, &url).replace('@', &password)
    };
    let clear = {
        let line = text.lines().find(|line| line.trim().starts_with("password:")).unwrap();
        text.replace(line, "    password: mine")
    };
    for (what, changed) in [
        ("an open value", text.replace("Opaque", "opaque")),
        ("a name", text.replace("name: database", "name: other")),
        ("two values swapped", swap),
        ("a value in clear", clear),
        (
            "a line less",
            text.lines()
                .filter(|line| !line.trim().starts_with("url:"))
                .map(|line| format!("{line}\n"))
                .collect(),
        ),
        ("a value more", text.replace("type: Opaque", "type: Opaque\nimmutable: true")),
        ("the time", text.replace("lastmodified: \"2", "lastmodified: \"3")),
        (
            "no MAC",
            text.lines()
                .filter(|line| !line.trim().starts_with("mac:"))
                .map(|line| format!("{line}\n"))
                .collect(),
        ),
        ("the rule", text.replace("^(data|stringData)$", "^(data)$")),
        ("a whole part twice", format!("{text}---\n{text}")),
    ] {
        assert_ne!(changed, text, "{what}");
        let error = open(changed.as_bytes(), "s.yaml", &keys)
            .err()
            .unwrap_or_else(|| panic!("{what} is not noticed"));
        assert_eq!(error.code, Code::DecryptionFailed, "{what}: {error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

/// Kustomization, generators, manifests; `None` without `decryption`.
fn tree() -> MemoryTree {
    MemoryTree::default()
        .file("plain/secret.yaml", encrypted("secret-encrypted-regex.yaml"))
        .file("plain/lists.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: open}\ndata: {a: b}\n")
        .file("plain/README.env", encrypted("values-default.env"))
        .file(
            "built/kustomization.yaml",
            "resources: [secret.yaml]\nnamePrefix: x-\ngeneratorOptions: {disableNameSuffixHash: true}\nsecretGenerator:\n- name: env\n  envs: [values.env]\n- name: files\n  files: [plain.txt, db.ini=values.ini]\nconfigMapGenerator:\n- name: map\n  files: [secret.json]\n",
        )
        .file("built/secret.yaml", encrypted("secret-encrypted-regex.yaml"))
        .file("built/values.env", encrypted("values-default.env"))
        .file("built/plain.txt", encrypted("plain-default.txt"))
        .file("built/values.ini", encrypted("values-default.ini"))
        .file("built/secret.json", encrypted("secret-default.json"))
        .file("built/unused.yaml", encrypted("secret-two-recipients.yaml"))
}

#[test]
fn whatever_reads_a_file_reads_it_decrypted() {
    let options = Options { keys: keys(&["one"]), ..Options::default() };
    let rendered = render(&tree(), "plain", &options).unwrap();
    let secret = rendered.objects.iter().find(|object| object.gvk().kind == "Secret").unwrap();
    assert_eq!(secret.value()["stringData"]["password"], "hunter2");
    assert!(secret.value().get("sops").is_none());
    assert!(rendered.hidden.is_in("hunter2") && !rendered.hidden.is_in("Opaque"));
    assert!(!format!("{:?}", rendered.hidden).contains("hunter2"));
    // What an entry is known by is the encrypted content.
    let plain = render(&MemoryTree::default().file("plain/x", ""), "plain", &options);
    assert!(plain.is_ok());
    assert!(rendered.reads.iter().all(|(_, identity)| !identity.contains("hunter2")));

    let built = render(&tree(), "built", &options).unwrap();
    let find =
        |name: &str| built.objects.iter().find(|object| object.name() == name).unwrap().value().clone();
    let decode = |value: &Value| {
        let compact = value.as_str().unwrap().replace('\n', "");
        String::from_utf8(data_encoding::BASE64.decode(compact.as_bytes()).unwrap()).unwrap()
    };
    assert_eq!(find("x-database")["stringData"]["password"], "hunter2");
    assert_eq!(decode(&find("x-env")["data"]["PASSWORD"]), "hunter2");
    assert_eq!(decode(&find("x-files")["data"]["plain.txt"]), "just text\nwith lines and hunter2\n");
    assert!(decode(&find("x-files")["data"]["db.ini"]).contains("= hunter2"));
    assert!(find("x-map")["data"]["secret.json"].as_str().unwrap().contains("hunter2"));
    // Every place where it stands is known.
    assert!(built.hidden.touches(&find("x-env")["data"]["PASSWORD"]));
    assert!(built.hidden.touches(&find("x-map")));
}

#[test]
fn without_a_key_nothing_encrypted_is_applied() {
    for path in ["plain", "built"] {
        let error = render(&tree(), path, &Options::default()).unwrap_err();
        assert_eq!(error.code, Code::DecryptionFailed, "{error}");
        assert!(error.place.file.as_deref().unwrap().starts_with(path), "{error}");
    }
    // A file that nobody reads does not matter.
    let quiet = MemoryTree::default()
        .file("a/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
        .file("a/x.env", encrypted("values-default.env"));
    assert_eq!(render(&quiet, "a", &Options::default()).unwrap().objects.len(), 1);
    // Flux's annotation leaves a document as it is.
    let text = String::from_utf8(encrypted("secret-encrypted-regex.yaml")).unwrap();
    let left = text.replace(
        "    name: database",
        "    annotations: {kustomize.toolkit.fluxcd.io/decrypt: disabled}\n    name: database",
    );
    assert_ne!(left, text);
    let rendered = render(&MemoryTree::default().file("s.yaml", left), "", &Options::default()).unwrap();
    assert!(rendered.objects[0].value()["sops"].is_object());
    // What comes by another way than a file, or lost its metadata.
    let lost: String = String::from_utf8(encrypted("values-default.env"))
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("sops_"))
        .map(|line| format!("{line}\n"))
        .collect();
    let generated = MemoryTree::default()
        .file("kustomization.yaml", "secretGenerator:\n- name: s\n  envs: [v.env]\n")
        .file("v.env", lost);
    let error = render(&generated, "", &Options::default()).unwrap_err();
    assert!(error.code == Code::DecryptionFailed && error.to_string().contains("Secret s-"), "{error}");
    let value = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}\n";
    let error = render(&MemoryTree::default().file("c.yaml", format!("\n{value}")), "", &Options::default())
        .unwrap_err();
    assert_eq!((error.code, error.place.line), (Code::DecryptionFailed, 2), "{error}");
}

#[test]
fn documents_with_a_mac_of_their_own_are_files_of_their_own() {
    let one = String::from_utf8(encrypted("secret-encrypted-regex.yaml")).unwrap();
    let two = String::from_utf8(encrypted("secret-mac-only-regex.yaml")).unwrap();
    let open_one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: open}\n";
    let all = format!("{one}---\n{open_one}---\n{two}");
    let opened = open(all.as_bytes(), "s.yaml", &keys(&["one"])).unwrap().unwrap();
    let found = values(&opened.text);
    assert_eq!(found.len(), 3);
    for secret in [&found[0], &found[2]] {
        assert_eq!(secret["stringData"]["password"], "hunter2");
        assert!(secret.get("sops").is_none());
    }
    assert_eq!(found[1]["metadata"]["name"], "open");
}

#[test]
fn no_message_holds_what_was_decrypted() {
    let options = Options { keys: keys(&["one"]), ..Options::default() };
    // The decrypted text is no manifest: the reader's error would quote it.
    let tree = MemoryTree::default()
        .file("kustomization.yaml", "resources: [plain.yaml]\n")
        .file("plain.yaml", encrypted("plain-default.txt"));
    let error = render(&tree, "", &options).unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn the_parts_of_an_encrypted_file_are_hidden_too() {
    let options = Options { keys: keys(&["one"]), ..Options::default() };
    let tree = MemoryTree::default().file("manifest", encrypted("manifest-binary.txt"));
    let rendered = render(&tree, "manifest", &options).unwrap();
    let mut shown = rendered.objects[0].value().clone();
    assert_eq!(shown["data"]["password"], "part-of-a-file");
    rendered.hidden.mask_object(&mut shown);
    assert!(!shown.to_string().contains("part-of-a-file"), "{shown}");
    assert_eq!(shown["metadata"]["name"], "whole");
}

fn mutated() -> impl Strategy<Value = (String, Vec<u8>)> {
    (prop::sample::select(names()), any::<prop::sample::Index>(), 0u8..8, any::<bool>(), any::<u8>())
        .prop_map(|(name, at, bit, cut, byte)| {
            let mut bytes = encrypted(&name);
            let at = at.index(bytes.len());
            match (cut, byte % 4) {
                (false, _) => bytes[at] ^= 1 << bit,
                (true, 0) => bytes.truncate(at),
                (true, 1) => bytes.insert(at, byte),
                (true, 2) => {
                    let part = bytes.split_off(at);
                    bytes.splice(0..0, part);
                }
                (true, _) => {
                    bytes.remove(at);
                }
            }
            (name, bytes)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_mutation_makes_it_panic((name, bytes) in mutated()) {
        let _ = open(&bytes, &name, &keys(&["one", "two"]));
    }

    /// In a file of which all is encrypted, what is opened after any one bit was flipped is what was encrypted.
    #[test]
    fn a_flipped_bit_is_refused(
        name in prop::sample::select(vec!["secret-default.yaml", "secret-default.json", "plain-default.txt", "lines-default.env", "secret-shamir.yaml"]),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = encrypted(name);
        let text = String::from_utf8(bytes.clone()).unwrap();
        // Values, MAC, time and data key; names of services, comments and versions are not signed by sops.
        let ranges: Vec<usize> = text.match_indices("ENC[AES256_GCM,data:").flat_map(|(from, _)| {
            let to = from + text[from..].find(",type:").unwrap();
            from + "ENC[AES256_GCM,data:".len()..to
        }).collect();
        let at = ranges[at.index(ranges.len())];
        bytes[at] ^= 1 << bit;
        let keys = keys(&["one", "two"]);
        match open(&bytes, name, &keys) {
            Err(_) | Ok(None) => {}
            Ok(Some(opened)) => prop_assert!(false, "{} at {at} bit {bit}: {:?}", name, String::from_utf8_lossy(&opened.text)),
        }
    }
}
