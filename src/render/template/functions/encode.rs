//! YAML, JSON, base64 and hashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::BASE32;
use serde_json::Value as Json;
use sha2::Digest as _;

use super::{Called, any, bytes, text};
use crate::model::yaml;
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let value = any(arguments, 0);
    let given = text(arguments, 0);
    let lenient = |json: Result<String, String>| Ok(Value::text(json.unwrap_or_default()));
    let json = |write: fn(&Json) -> String| value.json().map(|json| write(&json));
    let hex =
        |bytes: &[u8]| Ok(Value::text(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    Some(match name {
        "toYaml" => Ok(Value::text(to_yaml(value))),
        "toJson" => lenient(json(|json| escaped(&json.to_string()))),
        "mustToJson" => json(|json| escaped(&json.to_string())).map(Value::text),
        "toRawJson" | "mustToRawJson" => json(Json::to_string).map(Value::text),
        "toPrettyJson" => lenient(json(|json| escaped(&pretty(json)))),
        "mustToPrettyJson" => json(|json| escaped(&pretty(json))).map(Value::text),
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
        "fromJson" => Ok(match serde_json::from_str::<Json>(given) {
            Ok(Json::Null) => Value::map(std::collections::BTreeMap::new()),
            Ok(json @ Json::Object(_)) => Value::from_json(&json),
            Ok(other) => error_map(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                go_json_kind(&other)
            )),
            Err(error) => error_map(go_json_error(given, &error)),
        }),
        "fromJsonArray" => Ok(match serde_json::from_str::<Json>(given) {
            Ok(Json::Null) => Value::list(Vec::new()),
            Ok(json @ Json::Array(_)) => Value::from_json(&json),
            Ok(other) => Value::list(vec![Value::text(format!(
                "json: cannot unmarshal {} into Go value of type []interface {{}}",
                go_json_kind(&other)
            ))]),
            Err(error) => Value::list(vec![Value::text(go_json_error(given, &error))]),
        }),
        "mustFromJson" => serde_json::from_str::<Json>(given)
            .map(|json| Value::from_json(&json))
            .map_err(|error| go_json_error(given, &error)),
        "b64enc" => Ok(Value::text(STANDARD.encode(bytes(arguments, 0)))),
        "b64dec" => {
            let compact: String = given.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
            Ok(match STANDARD.decode(&compact) {
                Ok(bytes) => Value::bytes(bytes),
                Err(error) => {
                    let at = match error {
                        base64::DecodeError::InvalidByte(at, _)
                        | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                        _ => compact.len() / 4 * 4,
                    };
                    Value::text(format!("illegal base64 data at input byte {at}"))
                }
            })
        }
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
    value.json().map(|json| yaml::emit(&json).trim_end_matches('\n').to_owned()).unwrap_or_default()
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

fn go_json_error(given: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let line = given.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let c = line.chars().nth(error.column().saturating_sub(1)).unwrap_or(' ');
    format!("invalid character '{c}' looking for beginning of value")
}

/// JSON as Go writes it, with `<`, `>` and `&` as escapes.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default()
}
