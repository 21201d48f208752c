//! Comparison, truth and types.

use std::cmp::Ordering;

use super::{Called, any, text};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let order = |accept: fn(Ordering) -> bool| -> Result<Value, String> {
        let found = any(arguments, 0).order(any(arguments, 1))?;
        // What is no number is in no order.
        Ok(Value::Bool(found.is_some_and(accept)))
    };
    Some(match name {
        "eq" => equal(arguments),
        "ne" => equal(arguments).map(|same| Value::Bool(!same.truth())),
        "lt" => order(Ordering::is_lt),
        "le" => order(Ordering::is_le),
        "gt" => order(Ordering::is_gt),
        "ge" => order(Ordering::is_ge),
        "not" => Ok(Value::Bool(!any(arguments, 0).truth())),
        "empty" => Ok(Value::Bool(is_empty(any(arguments, 0)))),
        "default" => Ok(match arguments.get(1) {
            Some(given) if !is_empty(given) => given.clone(),
            _ => any(arguments, 0).clone(),
        }),
        "coalesce" => Ok(arguments.iter().find(|value| !is_empty(value)).cloned().unwrap_or(Value::Nil)),
        "all" => Ok(Value::Bool(!arguments.iter().any(is_empty))),
        "any" => Ok(Value::Bool(arguments.iter().any(|value| !is_empty(value)))),
        "ternary" => Ok(any(arguments, usize::from(!any(arguments, 2).truth())).clone()),
        "typeOf" => Ok(Value::text(any(arguments, 0).type_name())),
        "kindOf" => Ok(Value::text(any(arguments, 0).kind())),
        "typeIs" => Ok(Value::Bool(any(arguments, 1).type_name() == text(arguments, 0))),
        "typeIsLike" => {
            let found = any(arguments, 1).type_name();
            let wanted = text(arguments, 0);
            Ok(Value::Bool(found == wanted || found.strip_prefix('*') == Some(wanted)))
        }
        "kindIs" => Ok(Value::Bool(any(arguments, 1).kind() == text(arguments, 0))),
        "deepEqual" => any(arguments, 0).deep_equal(any(arguments, 1)).map(Value::Bool),
        "len" => length(any(arguments, 0)),
        "index" => indexed(arguments),
        "slice" | "mustSlice" => slice(arguments),
        "call" if any(arguments, 0).is_nil() => Err("call of nil".to_owned()),
        "call" => {
            let function = any(arguments, 0);
            Err(format!("non-function {} of type {}", function.print(), function.type_name()))
        }
        _ => return None,
    })
}

/// As Sprig counts: nil, zero, false and what has no content.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.kind() != "struct" && !object.truth(),
        other => !other.truth(),
    }
}

fn equal(arguments: &[Value]) -> Result<Value, String> {
    let first = any(arguments, 0);
    if arguments.len() < 2 {
        return Err("missing argument for comparison".to_owned());
    }
    for other in &arguments[1..] {
        let same = match (first, other) {
            (Value::Int(a) | Value::Long(a), Value::Int(b) | Value::Long(b)) => a == b,
            (a, b) if a.is_nil() || b.is_nil() => {
                // Of a nil list, Go says that it is nil.
                let nil = |value: &Value| value.is_nil() || matches!(value, Value::NilList);
                nil(a) == nil(b)
            }
            (a, b) if a.is_basic() && b.is_basic() => {
                if a.type_name() != b.type_name() {
                    return Err(a.incompatible(b));
                }
                a.deep_equal(b)?
            }
            (a, b) if a.is_basic() != b.is_basic() => return Err(a.incompatible(b)),
            (a, b) if a.kind() != b.kind() => {
                let (one, other) = (super::print::as_text(a)?, b.print());
                return Err(format!(
                    "non-comparable types {one}: {}, {}: {other}",
                    a.type_name(),
                    b.type_name()
                ));
            }
            (Value::Object(a), Value::Object(b)) if a.kind() == "struct" => a.json() == b.json(),
            (Value::NilList, Value::NilList) => true,
            (Value::NilList, _) | (_, Value::NilList) => false,
            (_, b) => {
                let shown = super::print::as_text(b)?;
                return Err(format!("non-comparable type {shown}: {}", b.type_name()));
            }
        };
        if same {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn length(value: &Value) -> Result<Value, String> {
    let count = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Missing => return Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        value => match (value.items(), value.fields()) {
            (Some(items), _) => items.len(),
            (_, Some(fields)) => fields.borrow().len(),
            _ => match value {
                Value::Object(object) if object.entries().is_some() => {
                    object.entries().unwrap_or_default().len()
                }
                _ => return Err(format!("len of type {}", value.type_name())),
            },
        },
    };
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn index(value: &Value, at: &Value) -> Result<Value, String> {
    if let Some(fields) = value.fields() {
        let Value::Text(name) = at else {
            if at.is_nil() {
                return Err("value is nil; should be of type string".to_owned());
            }
            return Err(format!("value has type {}; should be string", at.type_name()));
        };
        let missing = if matches!(value, Value::TextMap(_)) { Value::text("") } else { Value::Nil };
        return Ok(fields.borrow().get(&**name).cloned().unwrap_or(missing));
    }
    let place = |length: usize| -> Result<usize, String> {
        let number = match at {
            Value::Int(number) | Value::Long(number) => *number,
            Value::Missing | Value::Nil => return Err("cannot index slice/array with nil".to_owned()),
            other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
        };
        match usize::try_from(number) {
            Ok(place) if place < length => Ok(place),
            // Go lets the length itself pass, and stumbles then.
            Ok(place) if place == length => Err("reflect: slice index out of range".to_owned()),
            _ => Err(format!("index out of range: {number}")),
        }
    };
    match value {
        Value::Missing => Err("index of untyped nil".to_owned()),
        Value::Nil => Err("index of nil pointer".to_owned()),
        Value::Text(text) => {
            let place = place(text.len()).map_err(|why| why.replace("slice index", "string index"))?;
            Ok(Value::Int(i64::from(text.as_bytes()[place])))
        }
        Value::Object(object) => match at {
            Value::Text(_) if object.kind() == "map" => {
                let mut found = object.entries().unwrap_or_default().into_iter();
                let found =
                    found.find(|(key, _)| matches!((key, at), (Value::Text(a), Value::Text(b)) if a == b));
                Ok(found.map_or(Value::Missing, |(_, value)| value))
            }
            _ => Err(format!("can't index item of type {}", object.type_name())),
        },
        value => match value.items() {
            Some(items) => Ok(items[place(items.len())?].clone()),
            None => Err(format!("can't index item of type {}", value.type_name())),
        },
    }
}

/// The first item may be nil in a map: to Go, that is nothing to index.
fn indexed(arguments: &[Value]) -> Result<Value, String> {
    let first = any(arguments, 0);
    if first.is_nil() {
        return Err("index of untyped nil".to_owned());
    }
    arguments[1..].iter().try_fold(first.clone(), |value, at| index(&value, at))
}

/// Sprig's `slice` (its arguments are cast) takes the place of Go's.
fn slice(arguments: &[Value]) -> Result<Value, String> {
    let list = any(arguments, 0);
    if list.is_nil() {
        return Err("runtime error: invalid memory address or nil pointer dereference".to_owned());
    }
    let Some(items) = list.items() else {
        return Err(format!("list should be type of slice or array but {}", list.kind()));
    };
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    let bound = |at: usize, default: usize| match arguments.get(at) {
        None => Some(default),
        Some(value) => usize::try_from(value.to_int()).ok().filter(|bound| *bound <= items.len()),
    };
    let bounds = bound(1, 0).zip(bound(2, items.len())).filter(|(begin, end)| begin <= end);
    let Some((begin, end)) = bounds else {
        return Err("reflect.Value.Slice: slice index out of bounds".to_owned());
    };
    let cut = std::rc::Rc::new(items[begin..end].to_vec().into());
    Ok(match list {
        Value::Texts(_) => Value::Texts(cut),
        Value::Ints(_) => Value::Ints(cut),
        Value::Lists(_) => Value::Lists(cut),
        _ => Value::List(cut),
    })
}
