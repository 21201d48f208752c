//! `toYamlPretty`: YAML with a step before the items of lists, as go-yaml v3 writes it.

use serde_json::Value as Json;

use crate::model::yaml;
use crate::render::template::value::{Value, go_float};

/// One document without a final line break.
pub(super) fn pretty(value: &Value) -> Result<String, String> {
    // A float that is large has an exponent here, for it does not go by way of JSON.
    if let Value::Float(number) = value {
        return Ok(go_float(*number));
    }
    let json = value.json()?;
    let mut out = String::new();
    write(&mut out, &json, 0);
    while out.ends_with('\n') {
        out.pop();
    }
    Ok(out)
}

fn write(out: &mut String, json: &Json, step: usize) {
    match json {
        Json::Object(fields) if !fields.is_empty() => {
            // In the natural order of go-yaml, which the other writer knows.
            let bare: serde_json::Map<String, Json> =
                fields.keys().map(|name| (name.clone(), Json::Null)).collect();
            let text = yaml::emit(&Json::Object(bare));
            let names: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(" null")).collect();
            let mut left: Vec<(&String, &Json)> = fields.iter().collect();
            for (place, shown) in names.iter().enumerate() {
                let plain = yaml::read(format!("{shown} null").as_bytes(), "").ok();
                let name = plain.and_then(|all| all.into_iter().next()).and_then(|document| {
                    document.value.as_object().and_then(|fields| fields.keys().next().cloned())
                });
                let at = left.iter().position(|(known, _)| Some(*known) == name.as_ref()).unwrap_or(0);
                let (_, value) = left.remove(at);
                if place > 0 {
                    indent(out, step);
                }
                out.push_str(shown);
                below(out, value, step);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    indent(out, step);
                }
                out.push_str("- ");
                write(out, item, step + 2);
            }
        }
        scalar => out.push_str(&text(scalar, step)),
    }
}

/// The value of a key.
fn below(out: &mut String, value: &Json, step: usize) {
    let nested = match value {
        Json::Object(fields) => !fields.is_empty(),
        Json::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        indent(out, step + 2);
        write(out, value, step + 2);
    } else {
        out.push(' ');
        out.push_str(&text(value, step + 2));
    }
}

fn indent(out: &mut String, step: usize) {
    (0..step).for_each(|_| out.push(' '));
}

/// A scalar with its line break. Long lines are not folded here.
fn text(scalar: &Json, step: usize) -> String {
    let document = Json::Object([("k".to_owned(), scalar.clone())].into_iter().collect());
    let emitted = yaml::emit(&document);
    let shown = emitted.strip_prefix("k: ").unwrap_or(&emitted);
    let literal = matches!(scalar, Json::String(text) if text.contains('\n')) && shown.starts_with('|');
    let mut out = String::new();
    for (number, line) in shown.lines().enumerate() {
        let line = if number > 0 { line.strip_prefix("  ").unwrap_or(line) } else { line };
        if number > 0 && literal {
            out.push('\n');
            if !line.is_empty() {
                indent(&mut out, step.max(2));
            }
        } else if number > 0 {
            out.push(' ');
        }
        out.push_str(line);
    }
    out.push('\n');
    out
}
