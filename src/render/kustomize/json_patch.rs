//! JSON patches (RFC 6902), with the two liberties of the library that kustomize uses: an index below zero
//! counts from the end, and `replace` makes a field that is missing.

use serde_json::Value;

use super::node::{invalid, whole_or_float};
use crate::error::Result;
use crate::model::yaml;

#[derive(Clone, Debug)]
pub(super) struct Operation {
    op: String,
    path: String,
    from: Option<String>,
    value: Option<Value>,
    /// Where it is written; 0 until [`locate`] is asked.
    pub(super) line: usize,
    pub(super) file: std::sync::Arc<str>,
}

/// Reads the operations of a patch, JSON or YAML.
pub(super) fn read(text: &str, file: &str) -> Result<Vec<Operation>> {
    let value = if text.starts_with('[') {
        match serde_json::from_str(text) {
            Ok(value) => value,
            // A flow list of YAML is no JSON to kustomize.
            Err(error) => return Err(invalid(format!("the patch is no JSON: {error}")).in_file(file)),
        }
    } else {
        yaml::read(text.as_bytes(), file)?
            .into_iter()
            .next()
            .map(|document| document.value)
            .unwrap_or_default()
    };
    let items = match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        _ => return Err(invalid("a JSON patch is a list of operations").in_file(file)),
    };
    let operation = |item: Value| -> Result<Operation> {
        let text = |field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(op), Some(path)) = (text("op"), text("path")) else {
            return Err(invalid(format!("an operation needs op and path: {item}")).in_file(file));
        };
        Ok(Operation {
            from: text("from"),
            value: item.get("value").cloned(),
            op,
            path,
            line: 0,
            file: "".into(),
        })
    };
    items.into_iter().map(operation).collect()
}

/// Finds the line of each operation in the text they were read from, which begins in line `first` of its file.
pub(super) fn locate(operations: &mut [Operation], text: &str, file: &str, first: usize) {
    let file: std::sync::Arc<str> = file.into();
    let mut lines = text.lines().zip(first..);
    for operation in operations {
        let found = lines.find(|(line, _)| line.contains(operation.path.as_str()));
        let Some((_, line)) = found else { return };
        operation.line = line;
        operation.file = file.clone();
    }
}

impl Operation {
    /// Whether it is about a field or what lies above or below it; `-` and other indexes of a list may be any item.
    pub(super) fn touches(&self, pointer: &str) -> bool {
        let mut field = pointer.split('/').skip(1);
        self.path.split('/').skip(1).all(|part| match field.next() {
            Some(found) => found == part || part == "-" && found.bytes().all(|byte| byte.is_ascii_digit()),
            None => true,
        })
    }
}

/// Applies a patch to an object.
pub(super) fn apply(operations: &[Operation], object: &mut Value) -> Result<()> {
    for operation in operations {
        let path = &operation.path;
        let from =
            || operation.from.as_deref().ok_or_else(|| invalid(format!("{} needs from", operation.op)));
        let value = || operation.value.clone().unwrap_or_default();
        match operation.op.as_str() {
            "add" => add(object, path, value())?,
            "remove" => {
                remove(object, path)?;
            }
            "replace" if path.is_empty() => *object = value(),
            "replace" => replace(object, path, value())?,
            "move" => {
                let moved = remove(object, from()?)?;
                add(object, path, moved)?;
            }
            "copy" => {
                let copied = get(object, from()?)?.cloned().unwrap_or_default();
                add(object, path, copied)?;
            }
            "test" => {
                let found = if path.is_empty() { Some(&*object) } else { get(object, path)? };
                let same = match (found, &operation.value) {
                    (None, None | Some(Value::Null)) => true,
                    (Some(found), Some(value)) => found == value,
                    (Some(found), None) => found.is_null(),
                    _ => false,
                };
                if !same {
                    let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
                    return Err(invalid(format!(
                        "the test of {path} failed: there is {found}, not {}",
                        value()
                    )));
                }
            }
            other => return Err(invalid(format!("{other:?} is no operation of a JSON patch"))),
        }
    }
    floats(object);
    Ok(())
}

/// kustomize takes the patched object through floats: whole numbers beyond 2^53 lose their last digits.
fn floats(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(rounded) = number.as_f64().and_then(whole_or_float) {
                *value = rounded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(floats),
        Value::Object(fields) => fields.values_mut().for_each(floats),
        _ => {}
    }
}

fn missing(path: &str) -> crate::error::Error {
    invalid(format!("the path {path} does not exist"))
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The collection that holds the last part of a path, and that part.
fn holder<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String)> {
    let mut parts: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let last = parts.pop().ok_or_else(|| missing(path))?;
    let mut here = object;
    for part in &parts {
        here = match here {
            Value::Object(fields) => fields.get_mut(part),
            Value::Array(items) => {
                let at = index(part, items.len()).filter(|at| *at < items.len());
                at.and_then(|at| items.get_mut(at))
            }
            _ => None,
        }
        .ok_or_else(|| missing(path))?;
    }
    if here.is_object() || here.is_array() { Ok((here, last)) } else { Err(missing(path)) }
}

/// A place in a list of this length; below zero from the end.
fn index(part: &str, length: usize) -> Option<usize> {
    let at: i64 = part.parse().ok()?;
    if at < 0 { usize::try_from(at + i64::try_from(length).ok()?).ok() } else { usize::try_from(at).ok() }
}

fn no_index(part: &str, path: &str) -> crate::error::Error {
    invalid(format!("{part} in {path} is no place of the list"))
}

fn get<'a>(object: &'a mut Value, path: &str) -> Result<Option<&'a Value>> {
    let (holder, last) = holder(object, path)?;
    match holder {
        Value::Object(fields) => Ok(fields.get(&last)),
        Value::Array(items) => match index(&last, items.len()).and_then(|at| items.get(at)) {
            Some(found) => Ok(Some(found)),
            None => Err(no_index(&last, path)),
        },
        _ => Err(missing(path)),
    }
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<()> {
    let (holder, last) = holder(object, path)?;
    match holder {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(&last, items.len() + 1).filter(|at| *at <= items.len());
            items.insert(at.ok_or_else(|| no_index(&last, path))?, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value> {
    let (holder, last) = holder(object, path)?;
    match holder {
        Value::Object(fields) => fields.remove(&last).ok_or_else(|| missing(path)),
        Value::Array(items) => {
            let at = index(&last, items.len()).filter(|at| *at < items.len());
            Ok(items.remove(at.ok_or_else(|| no_index(&last, path))?))
        }
        _ => Err(missing(path)),
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Result<()> {
    let (holder, last) = holder(object, path)?;
    match holder {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) => {
            let at = index(&last, items.len()).filter(|at| *at < items.len());
            items[at.ok_or_else(|| no_index(&last, path))?] = value;
        }
        _ => {}
    }
    Ok(())
}
