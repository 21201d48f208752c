//! Comparison, truth and types.

use std::cmp::Ordering;

use super::{Called, any, text};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let order = |accept: fn(Ordering) -> bool| -> Result<Value, String> {
        let found = any(arguments, 0).order(any(arguments, 1)).map_err(str::to_owned)?;
        Ok(Value::Bool(accept(found)))
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
        "deepEqual" => Ok(Value::Bool(any(arguments, 0).deep_equal(any(arguments, 1)))),
        "len" => length(any(arguments, 0)),
        "index" => arguments[1..].iter().try_fold(any(arguments, 0).clone(), |value, at| index(&value, at)),
        "slice" => slice(arguments),
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
    for other in &arguments[1..] {
        let same = match (first, other) {
            (a, b) if a.is_nil() || b.is_nil() => a.is_nil() && b.is_nil(),
            (Value::Int(a) | Value::Long(a), Value::Int(b) | Value::Long(b)) => a == b,
            (a, b) if a.is_basic() && b.is_basic() => {
                let numbers = |value: &Value| matches!(value, Value::Int(_) | Value::Long(_));
                if a.type_name() != b.type_name() && !(numbers(a) && numbers(b)) {
                    return Err("incompatible types for comparison".to_owned());
                }
                a.deep_equal(b)
            }
            (a, b) if a.is_basic() != b.is_basic() => {
                return Err("incompatible types for comparison".to_owned());
            }
            (a, _) => return Err(format!("non-comparable type {}: {}", a.print(), a.type_name())),
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
        Value::Missing | Value::Nil => return Err("len of nil pointer".to_owned()),
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
            return Err(format!("value has type {}; should be string", at.type_name()));
        };
        let missing = if matches!(value, Value::Map(_)) { Value::Nil } else { Value::text("") };
        return Ok(fields.borrow().get(&**name).cloned().unwrap_or(missing));
    }
    if value.is_nil() {
        return Err("index of untyped nil".to_owned());
    }
    let place = |length: usize| -> Result<usize, String> {
        let number = match at {
            Value::Int(number) | Value::Long(number) => *number,
            Value::Missing | Value::Nil => return Err("cannot index slice/array with nil".to_owned()),
            other => return Err(format!("cannot index slice/array with type {}", other.type_name())),
        };
        let place = usize::try_from(number).ok().filter(|place| *place < length);
        place.ok_or_else(|| format!("index out of range: {number}"))
    };
    match value {
        value if value.items().is_some() => {
            let items = value.items().cloned().unwrap_or_default();
            Ok(items[place(items.len())?].clone())
        }
        Value::Text(text) => Ok(Value::Int(i64::from(text.as_bytes()[place(text.len())?]))),
        Value::Object(object) => match at {
            Value::Text(name) => {
                let entries = object.entries().unwrap_or_default();
                let found = entries.into_iter().find(|(key, _)| key.deep_equal(&Value::Text(name.clone())));
                Ok(found.map_or(Value::Missing, |(_, value)| value))
            }
            _ => Err(format!("can't index item of type {}", object.type_name())),
        },
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

/// Sprig's `slice` (its arguments are cast) takes the place of Go's.
fn slice(arguments: &[Value]) -> Result<Value, String> {
    let list = any(arguments, 0);
    let Some(items) = list.items() else {
        return Err(format!("list should be type of slice or array but {}", list.kind()));
    };
    if items.is_empty() {
        return Ok(Value::Nil);
    }
    let bound = |at: usize, default: usize| -> Result<usize, String> {
        match arguments.get(at) {
            None => Ok(default),
            Some(value) => usize::try_from(value.to_int())
                .ok()
                .filter(|bound| *bound <= items.len())
                .ok_or_else(|| "reflect.Value.Slice: slice index out of bounds".to_owned()),
        }
    };
    let (begin, end) = (bound(1, 0)?, bound(2, items.len())?);
    if begin > end {
        return Err("reflect.Value.Slice: slice index out of bounds".to_owned());
    }
    let cut = std::rc::Rc::new(items[begin..end].to_vec());
    Ok(match list {
        Value::Texts(_) => Value::Texts(cut),
        Value::Ints(_) => Value::Ints(cut),
        _ => Value::List(cut),
    })
}
