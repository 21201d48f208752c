//! Lists.

use super::compare::is_empty;
use super::{Called, any, int};
use crate::render::template::value::Value;

/// Most items a list may be given at once.
const MAX_ITEMS: usize = 1_000_000;

type Result<T> = std::result::Result<T, String>;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let plain = match name {
        "mustFirst" => "first",
        "mustRest" => "rest",
        "mustLast" => "last",
        "mustInitial" => "initial",
        "mustReverse" => "reverse",
        "mustUniq" => "uniq",
        "mustCompact" => "compact",
        "mustAppend" | "mustPush" | "push" => "append",
        "mustPrepend" => "prepend",
        "mustWithout" => "without",
        "mustHas" => "has",
        "mustChunk" => "chunk",
        "tuple" => "list",
        name => name,
    };
    Some(match plain {
        "list" => Ok(Value::list(arguments.iter().map(held).collect())),
        "first" => ends(arguments, "find first on").map(|items| items.first().cloned().unwrap_or(Value::Nil)),
        "last" => ends(arguments, "find last on").map(|items| items.last().cloned().unwrap_or(Value::Nil)),
        "rest" => ends(arguments, "find rest on")
            .map(|items| items.get(1..).map_or(Value::NilList, |rest| Value::list(rest.to_vec()))),
        "initial" => ends(arguments, "find initial on").map(|items| {
            items.split_last().map_or(Value::NilList, |(_, before)| Value::list(before.to_vec()))
        }),
        "reverse" => {
            ends(arguments, "find reverse on").map(|items| Value::list(items.iter().rev().cloned().collect()))
        }
        "uniq" => ends(arguments, "find uniq on").and_then(uniq),
        "compact" => ends(arguments, "compact on")
            .map(|items| Value::list(items.iter().filter(|item| !is_empty(item)).cloned().collect())),
        "append" => ends(arguments, "push on").and_then(|items| {
            let more = std::slice::from_ref(any(arguments, 1));
            joined(&[items, more])
        }),
        "prepend" => ends(arguments, "prepend on").and_then(|items| {
            let more = std::slice::from_ref(any(arguments, 1));
            joined(&[more, items])
        }),
        "concat" => concat(arguments),
        "without" => ends(arguments, "find without on").and_then(|items| {
            let mut kept = Vec::new();
            for item in items {
                if !contains(&arguments[1..], item)? {
                    kept.push(item.clone());
                }
            }
            Ok(Value::list(kept))
        }),
        "has" if any(arguments, 1).is_nil() => Ok(Value::Bool(false)),
        "has" => ends(&arguments[1..], "find has on")
            .and_then(|items| contains(items, any(arguments, 0)).map(Value::Bool)),
        "chunk" => chunk(arguments),
        "until" => {
            let count = int(arguments, 0);
            steps(0, count, if count < 0 { -1 } else { 1 }).map(Value::ints)
        }
        "untilStep" => steps(int(arguments, 0), int(arguments, 1), int(arguments, 2)).map(Value::ints),
        "seq" => sequence(arguments),
        _ => return None,
    })
}

fn ends<'a>(arguments: &'a [Value], verb: &str) -> Result<&'a [Value]> {
    let value = any(arguments, 0);
    if value.is_nil() {
        // Go asks the type of nothing for its kind.
        return Err("runtime error: invalid memory address or nil pointer dereference".to_owned());
    }
    value.items().ok_or_else(|| format!("Cannot {verb} type {}", value.kind()))
}

fn joined(parts: &[&[Value]]) -> Result<Value> {
    if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_ITEMS {
        return Err("a list of more than 1,000,000 items".to_owned());
    }
    Ok(Value::list(parts.iter().flat_map(|part| part.iter().map(held)).collect()))
}

/// A value as a list holds it: nothing is nil there.
fn held(value: &Value) -> Value {
    if value.is_nil() { Value::Nil } else { value.clone() }
}

fn concat(arguments: &[Value]) -> Result<Value> {
    let mut parts = Vec::new();
    for at in 0..arguments.len() {
        let verb = "concat";
        match ends(&arguments[at..], verb) {
            Ok(items) => parts.push(items),
            Err(_) if !arguments[at].is_nil() => {
                return Err(format!("Cannot concat type {} as list", arguments[at].kind()));
            }
            Err(why) => return Err(why),
        }
    }
    if parts.iter().all(|part| part.is_empty()) {
        return Ok(Value::NilList);
    }
    joined(&parts)
}

fn contains(items: &[Value], wanted: &Value) -> Result<bool> {
    for item in items {
        if item.deep_equal(wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Longest list whose items are compared each with each.
const MAX_COMPARED: usize = 10_000;

fn uniq(items: &[Value]) -> Result<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if !contains(&kept, item)? {
            kept.push(item.clone());
        }
        if kept.len() > MAX_COMPARED {
            return Err("uniq of more than 10,000 different items".to_owned());
        }
    }
    Ok(Value::list(kept))
}

fn chunk(arguments: &[Value]) -> Result<Value> {
    let items = ends(&arguments[1..], "chunk")?;
    let size = usize::try_from(int(arguments, 0)).ok().filter(|size| *size > 0);
    let size = size.ok_or_else(|| "runtime error: makeslice: len out of range".to_owned())?;
    let parts: Vec<Value> = items.chunks(size).map(|part| Value::list(part.to_vec())).collect();
    Ok(Value::Lists(std::rc::Rc::new(parts.into())))
}

fn steps(start: i64, stop: i64, step: i64) -> Result<Vec<i64>> {
    let mut all = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        if all.len() == MAX_ITEMS {
            return Err("a list of more than 1,000,000 numbers".to_owned());
        }
        all.push(at);
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(all)
}

/// `seq`: the last number is one of them.
fn sequence(arguments: &[Value]) -> Result<Value> {
    let p: Vec<i64> = (0..arguments.len()).map(|at| int(arguments, at)).collect();
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match p.as_slice() {
        [end] => (1, direction(1, *end), *end),
        [start, end] => (*start, direction(*start, *end), *end),
        [start, step, end] if !(end < start && *step > 0) => (*start, *step, *end),
        _ => return Ok(Value::text("")),
    };
    let all = steps(start, end.saturating_add(direction(start, end)), step)?;
    Ok(Value::text(all.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")))
}
