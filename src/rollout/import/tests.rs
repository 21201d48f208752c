//! Conditions after their conversion, asked over what Argo would have asked them over.

use serde_json::{Value, json};

use super::condition::{Over, convert, place};
use super::path;
use super::*;
use crate::api::{GateAnswer, PrometheusGate, WebGate};
use crate::rollout::provider::Provider;

/// One row: conditions, the path of the answer, the answer, what Argo says.
struct Row {
    success: Option<String>,
    failure: Option<String>,
    path: Option<String>,
    answer: Value,
    argo: String,
    /// What ours is where it is another word for it.
    ours: Option<String>,
}

fn rows() -> Vec<Row> {
    let text = include_str!("../../../tests/data/import/conditions.json");
    let rows: Vec<Value> = serde_json::from_str(text).unwrap();
    let word = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
    rows.iter()
        .map(|row| Row {
            success: word(row, "success"),
            failure: word(row, "failure"),
            path: word(row, "path"),
            answer: row["answer"].clone(),
            argo: word(row, "argo").unwrap(),
            ours: word(row, "ours"),
        })
        .collect()
}

fn number(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What our gate says.
fn judged(row: &Row) -> (String, String) {
    let (over, json) = match row.path.as_deref() {
        None => (Over::Numbers { range: false }, None),
        Some(text) => {
            let steps = path::read(text).unwrap();
            let json = place(&steps);
            (Over::Json(steps), json)
        }
    };
    let pass = match convert(row.success.as_deref(), row.failure.as_deref(), &over) {
        Ok(condition) => condition.pass,
        Err((_, refused)) => return ("refused".into(), refused.why),
    };
    let mut gate = Gate { name: "g".into(), ..Gate::default() };
    let body = if row.path.is_some() {
        gate.web = Some(WebGate { url: "http://x".into(), json, pass: pass.clone(), ..WebGate::default() });
        row.answer.to_string()
    } else {
        let query = Some("up".to_owned());
        let address = "http://x".to_owned();
        gate.prometheus =
            Some(PrometheusGate { address, query, pass: pass.clone(), ..PrometheusGate::default() });
        let (kind, result) = match row.answer.as_array() {
            Some(all) => {
                let series = |one: &Value| json!({"metric": {}, "value": [1, number(one)]});
                ("vector", all.iter().map(series).collect())
            }
            None => ("scalar", json!([1, number(&row.answer)])),
        };
        json!({"status": "success", "data": {"resultType": kind, "result": result}}).to_string()
    };
    let reading = match Provider::read(&gate).unwrap_or_else(|error| panic!("{pass}: {}", error.why)).unwrap()
    {
        Provider::Prometheus(prometheus) => prometheus.reading(200, body.as_bytes()),
        Provider::Web(web) => web.reading(200, body.as_bytes()),
        _ => unreachable!(),
    };
    let word = match reading.answer {
        GateAnswer::Pass => "Successful",
        GateAnswer::Fail => "Failed",
        GateAnswer::NoData => "NoData",
        GateAnswer::Error => "Error",
    };
    (word.to_owned(), format!("{pass}: {}", reading.message))
}

/// Argo's answers are recorded by tests/conformance/conditions; `ours` is where ours is another, never a pass where
/// Argo has none.
#[test]
fn conditions_say_what_they_said() {
    let mut wrong = Vec::new();
    for row in rows() {
        let (found, why) = judged(&row);
        let wanted = row.ours.as_deref().unwrap_or(&row.argo);
        let Row { success, failure, answer, argo, .. } = &row;
        if found != wanted {
            wrong.push(format!(
                "{success:?} {failure:?} of {answer}: {found}, not {wanted} (Argo {argo}): {why}"
            ));
        }
        if found == "Successful" && row.argo != "Successful" && row.ours.is_none() {
            wrong.push(format!("{success:?} {failure:?} of {answer}: looser than Argo"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn conditions_are_written_as_people_would() {
    let numbers = Over::Numbers { range: false };
    let json = |text: &str| Over::Json(path::read(text).unwrap());
    for (success, failure, over, wanted) in [
        ("result[0] >= 0.95", "", &numbers, "value >= 0.95"),
        ("result[0] >= 1", "", &numbers, "value >= 1.0"),
        ("", "result[0] > 5", &numbers, "!(value > 5.0)"),
        ("result[0] >= 0.95", "result[0] < 0.95", &numbers, "value >= 0.95"),
        ("result[0] >= 0.95", "result[0] < 0.9", &numbers, "value >= 0.95 && !(value < 0.9)"),
        ("len(result) == 0 || result[0] >= 0.95", "", &numbers, "value >= 0.95"),
        ("len(result) > 0 and isNaN(result[0])", "", &numbers, "isNaN(value)"),
        ("all(result, # < 1_000)", "", &numbers, "values.all(v, v < 1000.0)"),
        ("all(result, {# < 5}) && result[0] > 1", "", &numbers, "values.all(v, v < 5.0) && values[0] > 1.0"),
        ("count(result, # > 1) < 2", "", &numbers, "size(values.filter(v, v > 1.0)) < 2"),
        ("default(result, 0) < 10", "", &json("{$.a}"), "value < 10.0"),
        (
            "result.ok && result.rate * 100 >= 90",
            "",
            &json("{$.a}"),
            "result.a.ok && double(result.a.rate) * 100.0 >= 90.0",
        ),
        ("result == 'It worked!'", "", &json("{$}"), "result == 'It worked!'"),
        ("result.d == nil", "", &json("{$}"), "!has(result.d) || result.d == null"),
        ("result not in ['a', 'b']", "", &json("{$.x}"), "!(result.x in ['a', 'b'])"),
        ("asInt(result) > 0 ? true : false", "", &json("{$.x}"), "int(result.x) > 0 ? true : false"),
    ] {
        let stated = |text: &'static str| (!text.is_empty()).then_some(text);
        let found = convert(stated(success), stated(failure), over)
            .unwrap_or_else(|(_, why)| panic!("{success}: {why:?}"));
        assert_eq!(found.pass, wanted, "{success} {failure}");
    }
    for (success, over, column, wanted) in [
        ("abs(result) > 1", &numbers, 1, "abs() is not known"),
        ("metric > 1", &numbers, 1, "there is no metric"),
        ("result.a > 1", &numbers, 1, "numbers here"),
        ("default(result.a, 0) > 1", &json("{$}"), 9, "about result alone"),
        ("result[0] + 1", &numbers, 11, "neither true nor false"),
        ("result[0] > 'a'", &numbers, 11, "cannot be compared"),
        ("result % 2 == 0", &numbers, 8, "asInt()"),
    ] {
        let (_, refused) = convert(Some(success), None, over).expect_err(success);
        assert!(refused.column == column && refused.why.contains(wanted), "{success}: {refused:?}");
    }
}

/// Words of which conditions are made, in any order.
const WORDS: &[&str] = &[
    "result",
    "result[0]",
    "result.a",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "#",
    ".",
    ",",
    "1",
    "0.5",
    "'a'",
    "nil",
    "true",
    "not",
    "!",
    "in",
    "and",
    "||",
    "==",
    "<",
    "+",
    "-",
    "/",
    "%",
    "contains",
    "matches",
    "?",
    ":",
    "all(",
    "count(",
    "len(",
    "isNaN(",
    "default(",
    "asInt(",
    "asFloat(",
    "..",
    "'",
    "\\",
    "é",
];

proptest::proptest! {
    /// Nothing panics, and what is converted compiles.
    #[test]
    fn any_text_is_converted_or_refused(words in proptest::collection::vec(0..WORDS.len(), 1..14), range in proptest::bool::ANY) {
        let text: Vec<&str> = words.iter().map(|at| WORDS[*at]).collect();
        for text in [text.join(" "), text.concat()] {
            for over in [Over::Numbers { range }, Over::Json(Vec::new()), Over::Json(path::read("{$.a['b.c'][0]}").unwrap())] {
                for failure in [None, Some("result == 1")] {
                    if let Ok(condition) = convert(Some(&text), failure, &over) {
                        let compiled = crate::model::Expression::new(&condition.pass).map(|_| ());
                        proptest::prop_assert!(compiled.is_ok(), "{text}: {compiled:?}");
                    }
                }
            }
        }
    }

    /// Arithmetic keeps the brackets that mean something.
    #[test]
    fn arithmetic_is_the_same(numbers in proptest::array::uniform3(1..9_i32), signs in proptest::array::uniform2(0..4_usize), first in proptest::bool::ANY) {
        let ([a, b, c], [x, y]) = (numbers, signs.map(|sign| ["+", "-", "*", "/"][sign]));
        let [f, g, h] = numbers.map(f64::from);
        let calculate = |sign: &str, one: f64, other: f64| match sign {
            "+" => one + other,
            "-" => one - other,
            "*" => one * other,
            _ => one / other,
        };
        let (text, wanted) = if first {
            (format!("({a} {x} {b}) {y} {c}"), calculate(y, calculate(x, f, g), h))
        } else {
            (format!("{a} {x} ({b} {y} {c})"), calculate(x, f, calculate(y, g, h)))
        };
        let success = format!("{text} - result[0] < 0.000001 and result[0] - ({text}) < 0.000001");
        let answer = json!([wanted]);
        let row = Row { success: Some(success), failure: None, path: None, answer, argo: String::new(), ours: None };
        let (found, why) = judged(&row);
        proptest::prop_assert!(found == "Successful" || !wanted.is_finite(), "{text}: {why}");
    }
}
