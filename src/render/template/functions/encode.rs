//! YAML, JSON, base64 and hashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::BASE32;
use serde_json::Value as Json;
use sha2::Digest as _;

use super::{Called, any, bytes, json, text};
use crate::model::yaml;
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let value = any(arguments, 0);
    let given = text(arguments, 0);
    // Without `must`, what has no form is nothing.
    let lenient = |json: Result<String, String>| Ok(Value::text(json.unwrap_or_default()));
    let one_line = |escape: bool| value.json().and_then(|json| json::line(&json, escape));
    let pretty = || value.json().and_then(|json| json::pretty(&json));
    let hex =
        |bytes: &[u8]| Ok(Value::text(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    Some(match name {
        "toYaml" => Ok(Value::text(to_yaml(value))),
        "toYamlPretty" => lenient(super::yaml::pretty(value)),
        "toJson" => lenient(one_line(true)),
        "mustToJson" => one_line(true).map(Value::text),
        "toRawJson" | "mustToRawJson" => one_line(false).map(Value::text),
        "toPrettyJson" => lenient(pretty()),
        "mustToPrettyJson" => pretty().map(Value::text),
        "toToml" => super::toml::write(arguments),
        "fromToml" => Ok(super::toml::read(given)),
        "fromYaml" => Ok(match yaml_value(given) {
            Ok(Json::Null) => Value::map(std::collections::BTreeMap::new()),
            Ok(json @ Json::Object(_)) => Value::from_json(&json),
            Ok(other) => error_map(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                go_json_kind(&other)
            )),
            Err(why) => error_map(why),
        }),
        "fromYamlArray" => Ok(match yaml_value(given) {
            Ok(Json::Null) => Value::list(Vec::new()),
            Ok(json @ Json::Array(_)) => Value::from_json(&json),
            Ok(other) => Value::list(vec![Value::text(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type []interface {{}}",
                go_json_kind(&other)
            ))]),
            Err(why) => Value::list(vec![Value::text(why)]),
        }),
        "fromJson" => Ok(match json::read(given) {
            Ok(Json::Null) => Value::map(std::collections::BTreeMap::new()),
            Ok(json @ Json::Object(_)) => Value::from_json(&json),
            Ok(other) => error_map(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                go_json_kind(&other)
            )),
            Err(why) => error_map(why),
        }),
        "fromJsonArray" => Ok(match json::read(given) {
            Ok(Json::Null) => Value::list(Vec::new()),
            Ok(json @ Json::Array(_)) => Value::from_json(&json),
            Ok(other) => Value::list(vec![Value::text(format!(
                "json: cannot unmarshal {} into Go value of type []interface {{}}",
                go_json_kind(&other)
            ))]),
            Err(why) => Value::list(vec![Value::text(why)]),
        }),
        "mustFromJson" => json::read(given).map(|json| Value::from_json(&json)),
        "b64enc" => Ok(Value::text(STANDARD.encode(bytes(arguments, 0)))),
        "b64dec" => Ok(unbase64(given).map_or_else(Value::text, Value::bytes)),
        "b32enc" => Ok(Value::text(BASE32.encode(bytes(arguments, 0)))),
        "b32dec" => Ok(match BASE32.decode(given.replace(['\n', '\r'], "").as_bytes()) {
            Ok(bytes) => Value::bytes(bytes),
            Err(error) => Value::text(format!("illegal base32 data at input byte {}", error.position)),
        }),
        "sha256sum" => hex(&sha2::Sha256::digest(bytes(arguments, 0))),
        "sha512sum" => hex(&sha2::Sha512::digest(bytes(arguments, 0))),
        "sha1sum" => hex(&sha1::Sha1::digest(bytes(arguments, 0))),
        "adler32sum" => {
            let (a, b) = bytes(arguments, 0).iter().fold((1_u32, 0_u32), |(a, b), byte| {
                let a = (a + u32::from(*byte)) % 65_521;
                (a, (b + a) % 65_521)
            });
            Ok(Value::text(((b << 16) | a).to_string()))
        }
        _ => return None,
    })
}

/// YAML as Helm's `toYaml` gives it, without the last line break; what has no JSON form is nothing.
pub fn to_yaml(value: &Value) -> String {
    let Ok(mut json) = value.json() else { return String::new() };
    // Helm goes by way of a JSON text, which its YAML reader refuses for these characters.
    if unreadable(&json) {
        return String::new();
    }
    fold(&mut json);
    let mut text = yaml::emit(&json);
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

/// The same reader takes U+0085 for a line break, which a quoted text folds to a blank.
fn fold(json: &mut Json) {
    match json {
        Json::String(text) if text.contains('\u{85}') => *text = text.replace('\u{85}', " "),
        Json::Array(items) => items.iter_mut().for_each(fold),
        Json::Object(fields) => fields.values_mut().for_each(fold),
        _ => {}
    }
}

fn unreadable(json: &Json) -> bool {
    let refused = |text: &str| {
        text.chars().any(|c| matches!(c, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'))
    };
    match json {
        Json::String(text) => refused(text),
        Json::Array(items) => items.iter().any(unreadable),
        Json::Object(fields) => fields.iter().any(|(name, value)| refused(name) || unreadable(value)),
        _ => false,
    }
}

fn yaml_value(given: &str) -> Result<Json, String> {
    let read = yaml::read(given.as_bytes(), "").map_err(|error| {
        format!("error converting YAML to JSON: yaml: line {}: {}", error.place.line, error.why)
    })?;
    Ok(read.into_iter().next().map(|document| document.value).unwrap_or_default())
}

fn error_map(why: String) -> Value {
    Value::map(std::iter::once(("Error".to_owned(), Value::text(why))).collect())
}

fn go_json_kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

/// The bytes of a base64 text, or what Go says of one that is none. Line breaks are passed over.
pub(super) fn unbase64(given: &str) -> Result<Vec<u8>, String> {
    let compact: String = given.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    STANDARD.decode(&compact).map_err(|error| {
        let of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let bytes = compact.as_bytes();
        let end = bytes.iter().position(|byte| !of_alphabet(*byte)).unwrap_or(bytes.len());
        let padding = bytes[end..].iter().take_while(|byte| **byte == b'=').count();
        let at = match error {
            base64::DecodeError::InvalidLastSymbol(at, _) => at,
            // Behind a whole padding, Go names the place behind it; where the text ends early, the last group.
            _ if end < bytes.len() && (end + padding) % 4 == 0 && padding > 0 => end + padding,
            _ if end < bytes.len() => end,
            _ => bytes.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}
