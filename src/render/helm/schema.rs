//! Values against values.schema.json, with the words of Helm's validator.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{Draft, ValidationError};
use serde_json::Value as Json;

use super::chart::{Chart, File};
use crate::error::{Code, Error, Result};
use crate::render::template::value::{Fields, Value};

/// Violations shown of one chart; a schema of the wrong kind can give thousands.
const MAX_SHOWN: usize = 100;

/// Holds a chart and all below it to their schemas.
///
/// # Errors
/// `ValuesInvalid` with each chart and violation.
pub(super) fn validate(chart: &Chart, values: &Fields) -> Result<()> {
    let mut found = String::new();
    let mut first = None;
    walk(chart, values, &mut found, &mut first);
    let Some(place) = first else { return Ok(()) };
    let found = found.trim_end();
    let why =
        format!("values don't meet the specifications of the schema(s) in the following chart(s):\n{found}");
    Err(Error::new(Code::ValuesInvalid, why).in_file(place))
}

fn walk(chart: &Chart, values: &Fields, found: &mut String, first: &mut Option<String>) {
    let mut note = |place: &str, text: String| {
        found.push_str(&format!("{}:\n{text}\n", chart.name()));
        first.get_or_insert_with(|| place.to_owned());
    };
    if let Some(schema) = &chart.schema {
        match Value::Map(values.clone()).json() {
            Ok(json) => {
                if let Err(text) = one(schema, &json) {
                    note(&schema.place, text);
                }
            }
            Err(why) => note(&schema.place, why),
        }
    }
    for subchart in &chart.dependencies {
        let inner = values.borrow().get(subchart.name()).cloned();
        match inner {
            Some(Value::Map(inner)) => walk(subchart, &inner, found, first),
            None | Some(Value::Nil | Value::Missing) => {}
            Some(other) => {
                found.push_str(&format!(
                    "{}:\ninvalid type for values: expected object (map), got {}\n",
                    subchart.name(),
                    other.type_name()
                ));
                first.get_or_insert_with(|| subchart.place.to_string());
            }
        }
    }
}

/// Nothing is fetched for a schema.
struct Refused;

impl jsonschema::Retrieve for Refused {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> std::result::Result<Json, Box<dyn std::error::Error + Send + Sync>> {
        if uri.scheme().as_str() == "urn" {
            // Helm lets what a urn would say hold.
            return Ok(Json::Bool(true));
        }
        Err(format!("{uri} is outside of the schema, and a render reads nothing from the network").into())
    }
}

/// One schema, or its violations, a line each.
fn one(schema: &File, values: &Json) -> std::result::Result<(), String> {
    let mut schema: Json = serde_json::from_slice(&schema.data).map_err(|error| error.to_string())?;
    let mut options = jsonschema::options().with_retriever(Refused);
    // A dialect without a version is the newest.
    let dialect = schema.get("$schema").and_then(Json::as_str).unwrap_or_default();
    if dialect.is_empty() || dialect.trim_end_matches('#') == "http://json-schema.org/schema" {
        options = options.with_draft(Draft::Draft202012);
        if let Some(fields) = schema.as_object_mut() {
            fields.remove("$schema");
        }
    }
    let validator = options.build(&schema).map_err(|error| {
        let place = error.instance_path();
        format!("the schema is not valid at '{place}': {}", error.masked())
    })?;
    let errors: Vec<ValidationError<'_>> = validator.iter_errors(values).collect();
    let lines = tree(&errors.iter().collect::<Vec<_>>(), 0);
    if lines.is_empty() {
        return Ok(());
    }
    let more = lines.len().saturating_sub(MAX_SHOWN);
    let mut text = lines.into_iter().take(MAX_SHOWN).collect::<Vec<_>>().join("\n");
    if more > 0 {
        text.push_str(&format!("\n- and {more} more"));
    }
    Err(text)
}

/// What was found, sorted; each may be several lines.
fn tree(all: &[&ValidationError<'_>], depth: usize) -> Vec<String> {
    // Helm's validator goes no further in a schema whose type, value or format is wrong.
    let stop = |error: &ValidationError<'_>| match error.kind() {
        Kind::Type { .. } => 1,
        Kind::Constant { .. } => 2,
        Kind::Enum { .. } => 3,
        Kind::Format { .. } => 4,
        _ => 9,
    };
    let parent = |error: &ValidationError<'_>| {
        let path = error.evaluation_path().as_str();
        let schema = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        (schema, error.instance_path().as_str().to_owned())
    };
    let mut ranks: BTreeMap<(String, String), u8> = BTreeMap::new();
    for error in all {
        let rank = ranks.entry(parent(error)).or_insert(9);
        *rank = (*rank).min(stop(error));
    }
    let mut missing: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut lines = BTreeSet::new();
    let before = "  ".repeat(depth);
    for error in all {
        let key = parent(error);
        let rank = ranks.get(&key).copied().unwrap_or(9);
        if rank < 9 && stop(error) != rank {
            continue;
        }
        if let Kind::Required { property } = error.kind() {
            missing.entry(key).or_default().push(quoted(property.as_str().unwrap_or_default()));
            continue;
        }
        let mut line = format!("{before}- at '{}': {}", error.instance_path(), words(error));
        for inner in inside(error, depth) {
            line.push('\n');
            line.push_str(&inner);
        }
        lines.insert(line);
    }
    for ((_, place), names) in missing {
        let word = if names.len() == 1 { "property" } else { "properties" };
        lines.insert(format!("{before}- at '{place}': missing {word} {}", names.join(", ")));
    }
    lines.into_iter().collect()
}

/// Why each alternative does not hold.
fn inside(error: &ValidationError<'_>, depth: usize) -> Vec<String> {
    match error.kind() {
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } if depth < 8 => {
            context.iter().flat_map(|way| tree(&way.iter().collect::<Vec<_>>(), depth + 1)).collect()
        }
        Kind::PropertyNames { error } => tree(&[error], depth + 1),
        _ => Vec::new(),
    }
}

fn words(error: &ValidationError<'_>) -> String {
    let got = error.instance();
    let shown = |value: &Json| {
        let path = error.instance_path().as_str().to_ascii_lowercase();
        let secret = ["pass", "secret", "token", "key", "credential"].iter().any(|word| path.contains(word));
        if secret { "'***'".to_owned() } else { display(value) }
    };
    let count = |value: &Json| match value {
        Json::Array(items) => items.len(),
        Json::Object(fields) => fields.len(),
        Json::String(text) => text.chars().count(),
        _ => 0,
    };
    match error.kind() {
        Kind::Type { .. } => format!("got {}, want {}", kind_of(got), wanted(error)),
        Kind::Enum { options } => match options.as_array() {
            Some(all) if all.iter().any(|one| one.is_array() || one.is_object()) => {
                "'enum' failed".to_owned()
            }
            Some(all) if all.len() == 1 => format!("value must be {}", display(&all[0])),
            Some(all) => {
                let all: Vec<String> = all.iter().map(display).collect();
                format!("value must be one of {}", all.join(", "))
            }
            None => "'enum' failed".to_owned(),
        },
        Kind::Constant { expected_value } if expected_value.is_array() || expected_value.is_object() => {
            "'const' failed".to_owned()
        }
        Kind::Constant { expected_value } => format!("value must be {}", display(expected_value)),
        Kind::AdditionalProperties { unexpected } => {
            let names: Vec<String> = unexpected.iter().map(|name| quoted(name)).collect();
            format!("additional properties {} not allowed", names.join(", "))
        }
        Kind::AdditionalItems { limit } => {
            format!("last {} additionalItem(s) not allowed", count(got).saturating_sub(*limit))
        }
        // Where nothing else is said of properties.
        Kind::FalseSchema if error.schema_path().as_str().ends_with("/additionalProperties") => {
            "additional properties not allowed".to_owned()
        }
        Kind::FalseSchema => "false schema".to_owned(),
        Kind::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Kind::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Kind::OneOfMultipleValid { context } => {
            let held = context.iter().enumerate().filter(|(_, why)| why.is_empty());
            let held: Vec<String> = held.take(2).map(|(at, _)| at.to_string()).collect();
            format!("'oneOf' failed, subschemas {} matched", held.join(", "))
        }
        Kind::Not { .. } => "'not' failed".to_owned(),
        Kind::Minimum { limit } => format!("minimum: got {}, want {}", shown(got), display(limit)),
        Kind::Maximum { limit } => format!("maximum: got {}, want {}", shown(got), display(limit)),
        Kind::ExclusiveMinimum { limit } => {
            format!("exclusiveMinimum: got {}, want {}", shown(got), display(limit))
        }
        Kind::ExclusiveMaximum { limit } => {
            format!("exclusiveMaximum: got {}, want {}", shown(got), display(limit))
        }
        Kind::MultipleOf { multiple_of } => {
            format!("multipleOf: got {}, want {multiple_of}", shown(got))
        }
        Kind::MinLength { limit } => format!("minLength: got {}, want {limit}", count(got)),
        Kind::MaxLength { limit } => format!("maxLength: got {}, want {limit}", count(got)),
        Kind::MinItems { limit } => format!("minItems: got {}, want {limit}", count(got)),
        Kind::MaxItems { limit } => format!("maxItems: got {}, want {limit}", count(got)),
        Kind::MinProperties { limit } => format!("minProperties: got {}, want {limit}", count(got)),
        Kind::MaxProperties { limit } => format!("maxProperties: got {}, want {limit}", count(got)),
        Kind::Pattern { pattern } => format!("{} does not match pattern {}", shown(got), quoted(pattern)),
        Kind::Format { format } => format!("{} is not valid {format}", shown(got)),
        Kind::Contains => "no items match contains schema".to_owned(),
        Kind::PropertyNames { error } => {
            format!("invalid propertyName {}", display(error.instance()))
        }
        Kind::UniqueItems => match got.as_array().and_then(|items| twins(items)) {
            Some((one, other)) => format!("items at {one} and {other} are equal"),
            None => "items are equal".to_owned(),
        },
        _ => error.masked().to_string(),
    }
}

/// The first two items that are equal.
fn twins(items: &[Json]) -> Option<(usize, usize)> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    items.iter().enumerate().find_map(|(at, item)| seen.insert(item.to_string(), at).map(|first| (first, at)))
}

fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Bool(_) => "boolean",
        other => super::metadata::json_kind(other),
    }
}

/// The types that a schema allows, in the validator's order.
fn wanted(error: &ValidationError<'_>) -> String {
    let Kind::Type { kind } = error.kind() else { return String::new() };
    match kind {
        jsonschema::error::TypeKind::Single(one) => one.to_string(),
        jsonschema::error::TypeKind::Multiple(all) => {
            const ORDER: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];
            let mut names: Vec<String> = all.iter().map(|one| one.to_string()).collect();
            names.sort_by_key(|name| ORDER.iter().position(|known| known == name));
            names.join(" or ")
        }
    }
}

fn display(value: &Json) -> String {
    match value {
        Json::String(text) => quoted(text),
        Json::Array(_) | Json::Object(_) => "value".to_owned(),
        Json::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let quoted = format!("{text:?}").replace("\\\"", "\"").replace('\'', "\\'");
    format!("'{}'", quoted.get(1..quoted.len() - 1).unwrap_or_default())
}
