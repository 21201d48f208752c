//! Templates against what Helm's own engine made of the same ones (`make conformance` records it).

use std::collections::BTreeMap;
use std::rc::Rc;

use driftless::render::template::value::{Object, Value};
use driftless::render::template::{Output, Set, Surroundings};
use serde_json::{Value as Json, json};

/// The Go type of `.Chart`.
const CHART: &str = "struct { chart.Metadata; IsRoot bool }";

/// `.Chart` and `.Capabilities.APIVersions`, as far as the cases ask.
struct Named(&'static str, Json);

impl Object for Named {
    fn type_name(&self) -> &'static str {
        self.0
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "Has" => Some(Ok(Value::Bool(self.1.as_array()?.contains(&arguments.first()?.print().into())))),
            name => self.1.get(name).map(|value| Ok(Value::from_json(value))),
        }
    }

    fn has_method(&self, name: &str) -> bool {
        name == "Has"
    }

    fn print(&self) -> String {
        self.1.to_string()
    }

    fn json(&self) -> Json {
        let Some(fields) = self.1.as_object() else { return self.1.clone() };
        // As Helm's struct names its fields: `AppVersion` is `appVersion`, which it embeds `IsRoot` beside.
        let mut named: serde_json::Map<String, Json> = fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "IsRoot" => (name.clone(), value.clone()),
                name => (name[..1].to_lowercase() + &name[1..], value.clone()),
            })
            .collect();
        named.insert("apiVersion".to_owned(), json!("v2"));
        Json::Object(named)
    }
}

/// Cases where the words of a library stand in the result, which docs/template.md tells.
const OTHER_WORDS: &[&str] = &[
    // Why a pattern is none, beyond the commonest reasons.
    "mustRegexMatch \"(\" \"a\"",
    // Why a YAML or TOML text is none.
    "{{ fromYaml \"- a\" }}|",
    "{{ fromYamlArray \"- a\\n- 1",
    "{{ fromYaml \"a: 'x\" }}",
    "{{ fromToml \"a = \" |",
    "{{ fromToml \"a\" |",
    "{{ fromToml \"a = 1\\na = 2\" |",
];

const FILE: &str = "c/templates/x.txt";

/// What a chart's templates are given, as Helm gives it.
fn data(values: &Json) -> Value {
    let mut top = BTreeMap::new();
    let values: BTreeMap<String, Value> = values
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), Value::from_json(value)))
        .collect();
    top.insert("Values".to_owned(), Value::values(values));
    let release =
        json!({"Name": "rel", "Namespace": "ns", "Service": "Helm", "IsInstall": true, "IsUpgrade": false});
    let release = Value::from_json(&release);
    release.fields().unwrap().borrow_mut().insert("Revision".to_owned(), Value::Int(1));
    top.insert("Release".to_owned(), release);
    let own = [("Name", FILE), ("BasePath", "c/templates")];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), Value::text(value))).collect();
    top.insert("Template".to_owned(), Value::values(own));
    let chart = json!({"Name": "c", "Version": "1.2.3", "AppVersion": "9", "IsRoot": true});
    top.insert("Chart".to_owned(), Value::Object(Rc::new(Named(CHART, chart))));
    top.insert("Files".to_owned(), Value::Object(Rc::new(Files)));
    top.insert("Subcharts".to_owned(), Value::from_json(&json!({})));
    let capabilities = json!({"KubeVersion": {"Version": "v1.34.0", "Major": "1", "Minor": "34"}});
    let capabilities = Value::from_json(&capabilities);
    let versions = Value::Object(Rc::new(Named("chartutil.VersionSet", json!(["v1", "apps/v1"]))));
    capabilities.fields().unwrap().borrow_mut().insert("APIVersions".to_owned(), versions);
    top.insert("Capabilities".to_owned(), capabilities);
    Value::values(top)
}

/// `.Files` of a chart without any.
struct Files;

impl Object for Files {
    fn type_name(&self) -> &'static str {
        "engine.files"
    }

    fn kind(&self) -> &'static str {
        "map"
    }

    fn get(&self, name: &str, _arguments: &[Value]) -> Option<Result<Value, String>> {
        (name == "Get").then(|| Ok(Value::text("")))
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        Some(Vec::new())
    }

    fn print(&self) -> String {
        "map[]".to_owned()
    }

    fn json(&self) -> Json {
        json!({})
    }

    fn truth(&self) -> bool {
        false
    }
}

/// What Helm's engine would print: the output, or the error in its words.
fn render(template: &str, values: &Json) -> Result<String, String> {
    output(template, values, &Surroundings::default()).map(|mut output| output.files.remove(0).1)
}

fn output<'a>(template: &str, values: &Json, surroundings: &Surroundings) -> Result<Output<'a>, String> {
    let mut set = Set::default();
    set.add(FILE, template)
        .and_then(|()| set.run([(FILE, data(values))], surroundings))
        .map_err(|failure| failure.words())
}

fn corpus() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/template/cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn templates_say_what_helm_says() {
    let corpus = corpus();
    let cases = corpus["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let template = case["template"].as_str().unwrap();
        let found = render(template, &corpus["values"]);
        let expected = match case["output"].as_str() {
            Some(expected) => Ok(expected.to_owned()),
            None => Err(case["error"].as_str().unwrap().to_owned()),
        };
        let known = OTHER_WORDS.iter().any(|known| template.starts_with(known));
        let fails = |result: &Result<String, String>| match result {
            Ok(text) => text.contains("Error") || text.contains("error"),
            Err(_) => true,
        };
        if found != expected && !(known && fails(&found) && fails(&expected)) {
            wrong.push(format!("{template}\n    ours  {found:?}\n    helm  {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 790, "only {} cases", cases.len());
}

fn values() -> Json {
    corpus()["values"].clone()
}

#[test]
fn endless_templates_end_with_words() {
    let many = "{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = list $l $l }}{{ end }}";
    for (template, words) in [
        (r#"{{ repeat 1000000000 "x" }}"#.to_owned(), "16 MiB"),
        ("{{ until 1000000000 }}".to_owned(), "1,000,000 numbers"),
        ("{{ untilStep 0 9223372036854775807 1 }}".to_owned(), "1,000,000 numbers"),
        (r#"{{ printf "%999999d" 1 | repeat 1000 }}"#.to_owned(), "16 MiB"),
        (r#"{{ indent 100000000 "a" }}"#.to_owned(), "16 MiB"),
        ("{{ range 9000000000 }}{{ end }}".to_owned(), "10,000,000 steps"),
        ("{{ range 90000000 }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{{ end }}".to_owned(), "64 MiB"),
        (
            r#"{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}"#.to_owned(),
            "nested reference name: a: unable",
        ),
        (
            r#"{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}"#.to_owned(),
            "exceeded maximum template depth",
        ),
        (
            r#"{{ $t := "{{ tpl .t . }}" }}{{ tpl $t (dict "t" $t) }}"#.to_owned(),
            "nested reference name: gotpl",
        ),
        (format!("{many}{{{{ $l }}}}"), "4,000,000 parts"),
        (format!("{many}{{{{ deepCopy $l }}}}"), "4,000,000 parts"),
        (format!("{many}{{{{ mustToJson $l }}}}"), "4,000,000 parts"),
        (format!("{many}{{{{ join \",\" $l }}}}"), "4,000,000 parts"),
        (format!("{many}{{{{ printf \"%d\" $l }}}}"), "4,000,000 parts"),
        (
            "{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = concat $l $l }}{{ end }}".to_owned(),
            "1,000,000 items",
        ),
        (r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $d }}"#.to_owned(), "holds itself"),
        (r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ mustToJson $d }}"#.to_owned(), "holds itself"),
        (r#"{{ $s := repeat 1000000 "a" }}{{ replace "a" $s $s }}"#.to_owned(), "16 MiB"),
        (r#"{{ $s := repeat 1000000 "a" }}{{ regexReplaceAll "a" $s $s }}"#.to_owned(), "16 MiB"),
        (
            r#"{{ $s := repeat 16000000 "a" }}{{ range until 1000 }}{{ $t := trimSuffix "z" $s }}{{ end }}"#
                .to_owned(),
            "2 GiB",
        ),
        ("{{ range until 1000 }}{{ $x := bcrypt \"a\" }}{{ fail $x }}{{ end }}".to_owned(), "$2a$10$"),
        (r#"{{ mustRegexMatch "(((a{1,1000}){1,1000}){1,1000})" "a" }}"#.to_owned(), "size"),
        (
            format!("{}1{}", "{{ (".to_owned() + &"(".repeat(300), ")".repeat(301) + " }}"),
            "max expression depth",
        ),
        (format!("{}{}", "{{ if true }}".repeat(300), "{{ end }}".repeat(300)), "max expression depth"),
    ] {
        let begun = std::time::Instant::now();
        let shown: String = template.chars().take(90).collect();
        let words_found = render(&template, &values()).map(|text| text.len()).unwrap_err();
        assert!(words_found.contains(words), "{shown}: {words_found}");
        assert!(begun.elapsed().as_secs() < 30, "{shown} took {:?}", begun.elapsed());
    }
}

#[test]
fn what_is_nested_a_million_times_is_let_go() {
    let deep = "{{ $l := list }}{{ range until 200000 }}{{ $l = list $l }}{{ end }}{{ $l = 1 }}ok";
    assert_eq!(render(deep, &values()).unwrap(), "ok");
    let deep = r#"{{ $l := dict }}{{ range until 200000 }}{{ $l = dict "a" $l }}{{ end }}ok"#;
    assert_eq!(render(deep, &values()).unwrap(), "ok");
}

fn seeded(template: &str, seed: u8) -> (String, bool) {
    let surroundings = Surroundings { seed: [seed; 32], now: 1_700_000_000, ..Surroundings::default() };
    let mut output = output(template, &values(), &surroundings).unwrap();
    (output.files.remove(0).1, output.volatile)
}

#[test]
fn the_seed_and_the_time_alone_decide() {
    for template in [
        "{{ randAlphaNum 20 }}",
        "{{ randAlpha 20 }}",
        "{{ randNumeric 20 }}",
        "{{ randAscii 20 | quote }}",
        "{{ randBytes 20 }}",
        "{{ randInt 0 1000000000 }}",
        "{{ uuidv4 }}",
        r#"{{ shuffle "abcdefghijklmnopqrstuvwxyz" }}"#,
        r#"{{ bcrypt "secret" }}"#,
        r#"{{ htpasswd "me" "secret" }}"#,
        r#"{{ encryptAES "key" "plain" }}"#,
        r#"{{ genPrivateKey "ecdsa" }}"#,
        r#"{{ genPrivateKey "ed25519" }}"#,
    ] {
        let (one, volatile) = seeded(template, 1);
        assert!(volatile, "{template} depends on the seed");
        assert_eq!(one, seeded(template, 1).0, "{template}");
        assert_ne!(one, seeded(template, 2).0, "{template}");
    }
    assert_eq!(seeded("{{ now | date \"2006-01-02\" }}", 1), ("2023-11-14".to_owned(), true));
    assert_eq!(seeded("{{ date \"2006\" 0 }}{{ .Values.name | upper }}", 1), ("1970WEB".to_owned(), false));
    let (uuid, _) = seeded("{{ uuidv4 }}", 1);
    assert!(uuid.len() == 36 && &uuid[14..15] == "4", "{uuid}");
    let (back, _) = seeded(r#"{{ encryptAES "key" "plain text" | decryptAES "key" }}"#, 1);
    assert_eq!(back, "plain text");
    let (all, _) = seeded("{{ randAlphaNum 500 }}", 1);
    assert!(all.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{all}");
}

/// Runs openssl over files of a folder.
fn openssl(folder: &std::path::Path, arguments: &[&str]) -> String {
    let done = std::process::Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "openssl {arguments:?}: {err}");
    format!("{out}{err}")
}

#[test]
fn certificates_hold() {
    let template = r#"{{ $key := genPrivateKey "ecdsa" -}}
{{ $ca := genCAWithKey "my-ca" 365 $key -}}
{{ $cert := genSignedCertWithKey "svc.ns" (list "10.0.0.1") (list "svc" "svc.ns.svc") 30 $ca (genPrivateKey "ed25519") -}}
{{ $rsa := genSignedCert "rsa" nil nil 30 $ca -}}
{{ $own := genSelfSignedCertWithKey "own" nil (list "own") 1 $key -}}
{{ $custom := buildCustomCert (b64enc $ca.Cert) (b64enc $ca.Key) -}}
{{ toJson (dict "ca.crt" $ca.Cert "ca.key" $ca.Key "tls.crt" $cert.Cert "tls.key" $cert.Key "own.crt" $own.Cert "rsa.crt" $rsa.Cert "rsa.key" $rsa.Key "custom.crt" $custom.Cert) }}"#;
    let (text, volatile) = seeded(template, 7);
    assert!(volatile);
    assert_eq!(text, seeded(template, 7).0, "the same seed gives the same certificates");
    let files: Json = serde_json::from_str(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files.as_object().unwrap() {
        std::fs::write(folder.path().join(name), content.as_str().unwrap()).unwrap();
    }
    assert_eq!(files["custom.crt"], files["ca.crt"]);
    let at = "1700000100";
    for file in ["tls.crt", "rsa.crt"] {
        openssl(folder.path(), &["verify", "-attime", at, "-CAfile", "ca.crt", file]);
    }
    let shown = openssl(folder.path(), &["x509", "-in", "tls.crt", "-noout", "-text"]);
    for part in [
        "Issuer: CN = my-ca",
        "Subject: CN = svc.ns",
        "DNS:svc, DNS:svc.ns.svc, IP Address:10.0.0.1",
        "Digital Signature, Key Encipherment",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
        "Not Before: Nov 14 22:13:20 2023 GMT",
        "Not After : Dec 14 22:13:20 2023 GMT",
    ] {
        let (shown, part) = (shown.replace(" = ", "="), part.replace(" = ", "="));
        assert!(shown.contains(&part), "{part} is not in\n{shown}");
    }
    let shown = openssl(folder.path(), &["x509", "-in", "ca.crt", "-noout", "-text"]);
    assert!(shown.contains("CA:TRUE") && shown.contains("Certificate Sign"), "{shown}");
    for (key, certificate) in [("tls.key", "tls.crt"), ("rsa.key", "rsa.crt"), ("ca.key", "own.crt")] {
        let of_key = openssl(folder.path(), &["pkey", "-in", key, "-pubout"]);
        let of_certificate = openssl(folder.path(), &["x509", "-in", certificate, "-noout", "-pubkey"]);
        assert_eq!(of_key.trim(), of_certificate.trim(), "{key}");
    }
    assert!(openssl(folder.path(), &["rsa", "-in", "rsa.key", "-noout", "-text"]).contains("2048 bit"));
}

#[test]
fn lookup_reads_what_is_there() {
    let surroundings = Surroundings {
        lookup: Some(std::sync::Arc::new(|version, kind, namespace, name| match name {
            "broken" => Err("the server said no".to_owned()),
            "none" => Ok(None),
            name => Ok(Some(
                json!({"apiVersion": version, "kind": kind, "replicas": 3, "at": format!("{namespace}/{name}")}),
            )),
        })),
        ..Surroundings::default()
    };
    let found = |template: &str| {
        output(template, &values(), &surroundings).map(|mut output| output.files.remove(0).1)
    };
    let template = r#"{{ $d := lookup "apps/v1" "Deployment" "ns" "web" }}{{ $d.at }} {{ $d.kind }} {{ typeOf $d.replicas }}"#;
    assert_eq!(found(template).unwrap(), "ns/web Deployment int64");
    assert_eq!(found(r#"{{ lookup "v1" "Secret" "ns" "none" }}"#).unwrap(), "map[]");
    let words = found(r#"{{ lookup "v1" "Secret" "ns" "broken" }}"#).unwrap_err();
    assert!(words.ends_with("error calling lookup: the server said no"), "{words}");
}

#[test]
fn parsed_files_are_shared_between_threads() {
    let helper = driftless::render::template::Parsed::new(
        "c/templates/_h.tpl",
        "{{ define \"h\" }}<{{ . }}>{{ end }}",
    )
    .unwrap();
    let all: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let helper = helper.clone();
                scope.spawn(move || {
                    let mut set = Set::default();
                    set.add_parsed(&helper);
                    set.add(FILE, &format!("{{{{ include \"h\" {number} }}}}")).unwrap();
                    set.run([(FILE, Value::Nil)], &Surroundings::default()).unwrap().files.remove(0).1
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all, ["<0>", "<1>", "<2>", "<3>"]);
}

#[test]
fn each_line_is_traced_to_its_template() {
    let mut set = Set::default();
    set.add("c/templates/_h.tpl", "{{- define \"labels\" -}}\napp: {{ .Values.name }}\nteam: ml\n{{- end }}")
        .unwrap();
    let file = "a: 1\nlabels:\n  {{- include \"labels\" . | nindent 2 }}\nn: {{ .Values.n }}{{ .Values.nope }}\nend: x\n";
    set.add(FILE, file).unwrap();
    let plain = set.clone().run([(FILE, data(&values()))], &Surroundings::default()).unwrap();
    assert!(plain.origins.is_empty());
    let output = set.explain([(FILE, data(&values()))], &Surroundings::default()).unwrap();
    assert_eq!(output.files, plain.files);
    let (text, marks) = (&output.files[0].1, &output.origins[0]);
    let found: Vec<String> = text
        .split_inclusive('\n')
        .scan(0, |offset, line| {
            let begin = *offset;
            *offset += line.len();
            Some((begin, *offset, line.trim()))
        })
        .map(|(begin, end, line)| {
            let first = line.len();
            let within = marks.iter().filter(|mark| mark.offset < end);
            let mark = within.clone().rfind(|mark| mark.offset <= begin + usize::from(first > 0)).unwrap();
            let values: Vec<&str> = marks
                .iter()
                .filter(|mark| (begin..end).contains(&mark.offset))
                .flat_map(|mark| mark.values.iter().map(String::as_str))
                .collect();
            format!("{line} <- {}:{} {values:?}", mark.file.rsplit('/').next().unwrap(), mark.line)
        })
        .collect();
    assert_eq!(
        found,
        [
            "a: 1 <- x.txt:1 []",
            "labels: <- x.txt:2 []",
            "app: web <- _h.tpl:2 [\"name\"]",
            "team: ml <- _h.tpl:3 []",
            "n: 8080 <- x.txt:4 [\"n\", \"nope\"]",
            "end: x <- x.txt:5 []",
        ]
    );
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Operands, and functions for what stands in front of them.
    fn operand() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just(".".to_owned()),
            Just("nil".to_owned()),
            Just("true".to_owned()),
            Just("$".to_owned()),
            Just("$x".to_owned()),
            "[a-z]{0,4}".prop_map(|text| format!("\"{text}é\"")),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f32>().prop_map(|number| format!("{number:e}")),
            prop::sample::select(vec![
                ".Values.name",
                ".Values.n",
                ".Values.list",
                ".Values.map",
                ".Values.nul",
                ".Values.nope",
                ".Values.map.c.d",
                ".Chart.Name",
                ".Release",
                ".Values",
                ".Values.multi",
            ])
            .prop_map(str::to_owned),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            (prop::sample::select(functions()), prop::collection::vec(inner, 0..4))
                .prop_map(|(name, operands)| format!("({name} {})", operands.join(" ")))
        })
    }

    /// Every function that costs little.
    fn functions() -> Vec<&'static str> {
        let all = "and or not len index slice print println printf html js urlquery eq ne lt le gt ge call include tpl \
            required fail lookup toYaml toYamlPretty toJson toToml fromYaml fromYamlArray fromJson fromJsonArray \
            fromToml trim upper lower title untitle nospace initials swapcase shuffle snakecase camelcase kebabcase \
            atoi b64enc b64dec b32enc b32dec sha1sum sha256sum sha512sum adler32sum regexQuoteMeta base dir clean ext \
            isAbs urlParse semver getHostByName mustFromJson abbrev trunc repeat indent nindent wrap abbrevboth substr \
            wrapWith trimAll trimSuffix trimPrefix contains hasPrefix hasSuffix split splitList regexMatch \
            mustRegexMatch regexFind semverCompare replace regexReplaceAll regexReplaceAllLiteral regexFindAll \
            regexSplit splitn plural quote squote cat join toString toStrings sortAlpha typeOf kindOf toDecimal \
            randAlphaNum randAscii randInt uuidv4 int int64 float64 add add1 add1f addf sub div mod mul subf divf mulf \
            max min maxf minf floor ceil round seq until untilStep default empty coalesce all any ternary typeIs \
            kindIs deepEqual list tuple concat first rest last initial reverse uniq compact append prepend has without \
            chunk dict get unset hasKey set pluck keys pick omit merge mergeOverwrite values dig deepCopy urlJoin now \
            date dateInZone htmlDate ago duration durationRound unixEpoch dateModify toDate mustToDate encryptAES \
            decryptAES buildCustomCert genCAWithKey";
        all.split_whitespace().collect()
    }

    fn nodes() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "[ -z]{0,8}",
            operand().prop_map(|operand| format!("{{{{- {operand} -}}}}")),
            (operand(), prop::sample::select(functions()))
                .prop_map(|(operand, name)| format!("{{{{ {operand} | {name} }}}}")),
            operand().prop_map(|operand| format!("{{{{ $x = {operand} }}}}")),
            operand().prop_map(|operand| format!("{{{{ template \"t\" {operand} }}}}")),
            Just("{{ break }}".to_owned()),
            Just("{{/* note */}}".to_owned()),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let all = prop::collection::vec(inner, 0..4).prop_map(|all| all.concat());
            (
                prop::sample::select(vec!["if", "with", "range", "range $i, $x := "]),
                operand(),
                all.clone(),
                all,
            )
                .prop_map(|(word, operand, one, other)| {
                    format!("{{{{ {word} {operand} }}}}{one}{{{{ else }}}}{other}{{{{ end }}}}")
                })
        })
    }

    /// Whatever comes of it, it comes, and soon.
    fn ends(template: &str) {
        let begun = std::time::Instant::now();
        let mut set = Set::default();
        if set.add(FILE, template).is_ok() {
            let done = set.explain([(FILE, data(&values()))], &Surroundings::default());
            if let Ok(output) = done {
                let (text, marks) = (&output.files[0].1, &output.origins[0]);
                assert!(marks.iter().all(|mark| mark.offset <= text.len()), "{template}");
            }
        }
        assert!(begun.elapsed().as_secs() < 20, "{template} took {:?}", begun.elapsed());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn templates_of_the_grammar_end(all in prop::collection::vec(nodes(), 0..6)) {
            ends(&format!("{{{{ $x := 1 }}}}{{{{ define \"t\" }}}}<{{{{ . }}}}>{{{{ end }}}}{}", all.concat()));
        }

        #[test]
        fn any_text_ends(text in "\\PC{0,60}", pieces in prop::collection::vec(
            prop::sample::select(vec!["{{", "}}", "{{-", " -}}", "/*", "*/", "\"", "`", "'", "(", ")", "|", ":=", "$", ".", "é", "\n", "end", "if", "range", "0x", "1e", "\\"]), 0..30)
        ) {
            ends(&text);
            ends(&pieces.concat());
        }

        #[test]
        fn cases_that_are_changed_end(number in 0_usize..700, cuts in prop::collection::vec((any::<prop::sample::Index>(), "\\PC{0,2}"), 1..4)) {
            let corpus = corpus();
            let cases = corpus["cases"].as_array().unwrap();
            let mut template: Vec<char> = cases[number % cases.len()]["template"].as_str().unwrap().chars().collect();
            for (at, put) in cuts {
                let at = at.index(template.len().max(1)).min(template.len());
                let end = (at + 1).min(template.len());
                template.splice(at..end, put.chars());
            }
            let template: String = template.into_iter().collect();
            // A key of 4,096 bits for each change would cost minutes.
            prop_assume!(!template.contains("genPrivateKey") && !template.contains("derivePassword"));
            ends(&template);
        }
    }
}
