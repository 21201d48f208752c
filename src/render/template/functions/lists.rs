//! Lists.

use std::rc::Rc;

use super::compare::is_empty;
use super::{Called, any, int};
use crate::render::template::value::Value;

/// Most items a list may be given at once.
const MAX_ITEMS: i64 = 1_000_000;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let plain = name
        .strip_prefix("must")
        .map_or_else(|| name.to_owned(), |rest| rest[..1].to_ascii_lowercase() + &rest[1..]);
    let items = |at: usize, verb: &str| -> Result<Rc<Vec<Value>>, String> {
        let value = any(arguments, at);
        value.items().cloned().ok_or_else(|| format!("Cannot {verb} type {}", value.kind()))
    };
    let ends = |verb: &str| items(0, verb).map(|items| items.to_vec());
    Some(match plain.as_str() {
        "list" | "tuple" => Ok(Value::list(arguments.to_vec())),
        "first" => ends("find first on").map(|items| items.first().cloned().unwrap_or(Value::Nil)),
        "last" => ends("find last on").map(|items| items.last().cloned().unwrap_or(Value::Nil)),
        "rest" => ends("find rest on").map(|items| Value::list(items.into_iter().skip(1).collect())),
        "initial" => ends("find initial on").map(|mut items| {
            items.pop();
            Value::list(items)
        }),
        "reverse" => ends("find reverse on").map(|mut items| {
            items.reverse();
            Value::list(items)
        }),
        "uniq" => ends("find uniq on").map(|items| {
            let mut kept: Vec<Value> = Vec::new();
            for item in items {
                if !kept.iter().any(|other| other.deep_equal(&item)) {
                    kept.push(item);
                }
            }
            Value::list(kept)
        }),
        "compact" => ends("compact on")
            .map(|items| Value::list(items.into_iter().filter(|item| !is_empty(item)).collect())),
        "append" | "push" => ends("push on").map(|mut items| {
            items.push(any(arguments, 1).clone());
            Value::list(items)
        }),
        "prepend" => ends("prepend on").map(|mut items| {
            items.insert(0, any(arguments, 1).clone());
            Value::list(items)
        }),
        "concat" => {
            let mut all = Vec::new();
            for at in 0..arguments.len() {
                match items(at, "concat") {
                    Ok(more) => all.extend(more.iter().cloned()),
                    Err(_) => {
                        return Some(Err(format!(
                            "Cannot concat type {} as list",
                            any(arguments, at).kind()
                        )));
                    }
                }
            }
            Ok(Value::list(all))
        }
        "without" => ends("find without on").map(|items| {
            let omitted = |item: &Value| arguments[1..].iter().any(|other| other.deep_equal(item));
            Value::list(items.into_iter().filter(|item| !omitted(item)).collect())
        }),
        "has" => {
            if any(arguments, 1).is_nil() {
                return Some(Ok(Value::Bool(false)));
            }
            items(1, "find has on")
                .map(|items| Value::Bool(items.iter().any(|item| item.deep_equal(any(arguments, 0)))))
        }
        "chunk" => {
            let size = usize::try_from(int(arguments, 0)).unwrap_or(0).max(1);
            items(1, "chunk")
                .map(|items| Value::list(items.chunks(size).map(|part| Value::list(part.to_vec())).collect()))
        }
        "until" => {
            let count = int(arguments, 0);
            steps(0, count, if count < 0 { -1 } else { 1 })
        }
        "untilStep" => steps(int(arguments, 0), int(arguments, 1), int(arguments, 2)),
        "seq" => {
            let p: Vec<i64> = (0..arguments.len()).map(|at| int(arguments, at)).collect();
            let (start, step, end) = match p.as_slice() {
                [end] => (1, if *end < 1 { -1 } else { 1 }, *end),
                [start, end] => (*start, if end < start { -1 } else { 1 }, *end),
                [start, step, end] if !(end < start && *step > 0) => (*start, *step, *end),
                _ => return Some(Ok(Value::text(""))),
            };
            let beyond = if end < start { end - 1 } else { end + 1 };
            steps(start, beyond, step).map(|list| Value::text(list.print().trim_matches(['[', ']'])))
        }
        _ => return None,
    })
}

fn steps(start: i64, stop: i64, step: i64) -> Result<Value, String> {
    let mut all = Vec::new();
    if (stop - start).abs() > MAX_ITEMS {
        return Err("a list of more than 1,000,000 numbers".to_owned());
    }
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        all.push(Value::Int(at));
        at += step;
    }
    Ok(Value::Ints(Rc::new(all)))
}
