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

    fn print(&self) -> String {
        self.1.to_string()
    }

    fn json(&self) -> Json {
        self.1.clone()
    }
}

/// Cases of the template language where we differ, and why.
const OTHER_WORDS: &[&str] = &[
    // The reason why a pattern is none is given in the words of the regex crate.
    "mustRegexMatch",
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
    let release = json!({"Name": "rel", "Namespace": "ns", "Service": "Helm", "IsInstall": true, "IsUpgrade": false});
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
        let known = OTHER_WORDS.iter().any(|known| template.contains(known));
        if found != expected && !(known && found.is_err() && expected.is_err()) {
            wrong.push(format!("{template}\n    ours  {found:?}\n    helm  {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
