//! Our reader against kubectl's recorded answers.

use driftless::model::yaml;
use serde_json::Value;

/// Cases where we differ on purpose, and why. Nothing else may differ.
const DIFFERENT: &[(&str, &str)] = &[(
    "next line",
    "kubectl refuses U+0085, a printable character since YAML 1.2; nothing is lost by taking it",
)];

/// Equal as Kubernetes would see it: numbers by value.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) => ours == theirs || ours.as_f64() == theirs.as_f64(),
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, ours)| theirs.get(key).is_some_and(|theirs| same(ours, theirs)))
        }
        _ => ours == theirs,
    }
}

#[test]
fn reads_what_kubectl_reads() {
    let cases = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/yaml/cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() > 200, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    let mut expected = Vec::new();
    for case in &cases {
        let (name, input, kubectl) =
            (case["name"].as_str().unwrap(), case["input"].as_str().unwrap(), &case["kubectl"]);
        let ours = yaml::read(input.as_bytes(), "case.yaml");
        let agrees = match &ours {
            Ok(documents) if documents.len() == 1 => !kubectl.is_null() && same(&documents[0].value, kubectl),
            Ok(_) => false,
            Err(_) => kubectl.is_null(),
        };
        if agrees {
            continue;
        }
        if DIFFERENT.iter().any(|(known, _)| *known == name) {
            expected.push(name);
            continue;
        }
        let ours = match ours {
            Ok(documents) => documents
                .iter()
                .map(|document| document.value["v"].to_string())
                .collect::<Vec<_>>()
                .join(" | "),
            Err(error) => format!("error {error}"),
        };
        let kubectl = if kubectl.is_null() { "refused".to_owned() } else { kubectl["v"].to_string() };
        wrong.push(format!("{name:?}: ours {ours}, kubectl {kubectl}"));
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let stale: Vec<_> = DIFFERENT.iter().filter(|(known, _)| !expected.contains(known)).collect();
    assert!(stale.is_empty(), "no longer different: {stale:?}");
}

#[test]
fn errors_say_where() {
    let error = yaml::read(b"a: 1\nb:\n\tc: 2\n", "apps/x.yaml").unwrap_err();
    assert!(error.to_string().starts_with("apps/x.yaml:3:"), "{error}");
}

#[test]
fn documents_know_their_lines() {
    let documents = yaml::read(b"# c\n\na: 1\n---\n# d\n---\nb: 2\n", "f").unwrap();
    assert_eq!(documents.iter().map(|document| document.line).collect::<Vec<_>>(), [3, 7]);
    let documents = yaml::read(b"{\"a\": 1}\n{\"b\": 1.0}\n", "f").unwrap();
    assert_eq!(documents.iter().map(|document| document.line).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(documents[1].value["b"], 1);
}

#[test]
fn budgets_hold() {
    let deep = "[".repeat(600) + &"]".repeat(600);
    assert_eq!(yaml::read(deep.as_bytes(), "f").unwrap_err().code.reason(), "BudgetExceeded");
}
