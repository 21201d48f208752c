//! YAML as kubectl reads it.
//!
//! kubectl reads manifests through go-yaml v2 and JSON: YAML 1.1 booleans and octals, whole floats as
//! integers, dates as strings, merges that override what stands before them, the last of two equal
//! keys. Every YAML crate reads a different object from some files; so the parser's events are a
//! crate's and their meaning is ours.
//!
//! A stream goes through: bytes -> events (granit-parser) -> nodes of one document (`load`) ->
//! JSON value (`load`, with scalars decided by `scalar`). Text that begins with `{` is tried as JSON first.

mod emit;
mod load;
mod scalar;

use serde_json::Value;

use crate::error::{Code, Error, Result};

pub use emit::{emit, is_ambiguous};
pub use load::{Content, Node, NodeId, Syntax};
pub use scalar::{Scalar, core};

/// Largest stream, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
/// Most documents in one stream.
pub const MAX_DOCUMENTS: usize = 50_000;
/// Most nodes in one stream, before aliases are expanded.
pub const MAX_NODES: usize = 4_000_000;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 512;

/// One document of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What kubectl would see, as JSON.
    pub value: Value,
    /// 1-based line of the document's first node.
    pub line: usize,
}

/// Reads every document of a YAML or JSON stream that is not empty. `file` is for errors only.
///
/// # Errors
/// `ManifestInvalid` with line and column for what is not YAML or has no JSON form; `BudgetExceeded`
/// beyond the limits of this module.
pub fn read(bytes: &[u8], file: &str) -> Result<Vec<Document>> {
    let text = text(bytes, file)?;
    if text.trim_start().starts_with('{')
        && let Some(documents) = json(text)
    {
        return Ok(documents);
    }
    load::load(text).map_err(|error| error.in_file(file))
}

/// Reads every document of a stream without giving a meaning to it, for readers of another dialect.
///
/// # Errors
/// As [`read`], for what is not YAML at all.
pub fn syntax(bytes: &[u8], file: &str) -> Result<Vec<Syntax>> {
    load::syntax(text(bytes, file)?).map_err(|error| error.in_file(file))
}

fn text<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(Code::BudgetExceeded, "the file is larger than 64 MiB").in_file(file));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Error::new(Code::ManifestInvalid, "the text is not UTF-8").in_file(file).at(line, 0)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// All documents of a stream of JSON texts; `None` where it is not one.
fn json(text: &str) -> Option<Vec<Document>> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    // Counted from the document before, so that many of them stay linear.
    let (mut counted, mut line) = (0, 1);
    loop {
        let begin = stream.byte_offset();
        let Some(next) = stream.next() else { return Some(documents) };
        let mut value = next.ok()?;
        whole_numbers(&mut value);
        if !value.is_null() {
            let at = begin + text[begin..].len() - text[begin..].trim_start().len();
            line += text[counted..at].matches('\n').count();
            counted = at;
            documents.push(Document { value, line });
        }
    }
}

/// Numbers as Kubernetes keeps them: whole floats are integers, integers beyond 64 bits are floats.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_i64().is_none() => {
            if let Some(float) = number.as_f64() {
                *value = scalar::number(float).unwrap_or(Value::Null);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
