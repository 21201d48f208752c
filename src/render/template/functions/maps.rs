//! Maps.

use std::collections::BTreeMap;

use super::compare::is_empty;
use super::{Called, any, text};
use crate::render::template::value::{Fields, Value};

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let map = |at: usize| -> Fields { any(arguments, at).fields().cloned().unwrap_or_default() };
    let plain = name.strip_prefix("must").unwrap_or(name);
    Some(match plain {
        "dict" => {
            let mut fields = BTreeMap::new();
            for pair in arguments.chunks(2) {
                let value = pair.get(1).cloned().unwrap_or_else(|| Value::text(""));
                fields.insert(pair[0].print(), if value.is_nil() { Value::Nil } else { value });
            }
            Ok(Value::map(fields))
        }
        "get" => Ok(map(0).borrow().get(text(arguments, 1)).cloned().unwrap_or_else(|| Value::text(""))),
        "set" => {
            if any(arguments, 0).fields().is_none() {
                return Some(Err("assignment to entry in nil map".to_owned()));
            }
            let value = any(arguments, 2).clone();
            let value = if value.is_nil() { Value::Nil } else { value };
            map(0).borrow_mut().insert(text(arguments, 1).to_owned(), value);
            Ok(arguments[0].clone())
        }
        "unset" => {
            map(0).borrow_mut().remove(text(arguments, 1));
            Ok(arguments[0].clone())
        }
        "hasKey" => Ok(Value::Bool(map(0).borrow().contains_key(text(arguments, 1)))),
        "pluck" => {
            let found =
                (1..arguments.len()).filter_map(|at| map(at).borrow().get(text(arguments, 0)).cloned());
            Ok(Value::list(found.collect()))
        }
        "keys" => {
            let mut all = Vec::new();
            (0..arguments.len()).for_each(|at| all.extend(map(at).borrow().keys().cloned()));
            Ok(Value::texts(all))
        }
        "values" => Ok(Value::list(map(0).borrow().values().cloned().collect())),
        "pick" => {
            let wanted: Vec<&str> = (1..arguments.len()).map(|at| text(arguments, at)).collect();
            let kept = map(0)
                .borrow()
                .iter()
                .filter(|(name, _)| wanted.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Ok(Value::map(kept))
        }
        "omit" => {
            let dropped: Vec<&str> = (1..arguments.len()).map(|at| text(arguments, at)).collect();
            let kept = map(0)
                .borrow()
                .iter()
                .filter(|(name, _)| !dropped.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Ok(Value::map(kept))
        }
        "merge" | "mergeOverwrite" | "Merge" | "MergeOverwrite" => {
            let overwrite = plain.ends_with("Overwrite");
            let target = map(0);
            (1..arguments.len()).for_each(|at| merge(&target, &map(at), overwrite));
            Ok(Value::Map(target))
        }
        "dig" => dig(arguments),
        "deepCopy" | "DeepCopy" => Ok(any(arguments, 0).deep_copy()),
        _ => return None,
    })
}

/// As the library mergo does it: what is empty in the target is filled, or what is not empty in the source wins.
fn merge(target: &Fields, source: &Fields, overwrite: bool) {
    if std::rc::Rc::ptr_eq(target, source) {
        return;
    }
    let entries: Vec<(String, Value)> =
        source.borrow().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in entries {
        let old = target.borrow().get(&name).cloned();
        if let (Some(Value::Map(below)), Value::Map(above)) = (&old, &value) {
            merge(below, above, overwrite);
            continue;
        }
        let keep = match &old {
            None => false,
            Some(_) if is_empty(&value) => true,
            Some(old) => !overwrite && !is_empty(old),
        };
        if !keep {
            target.borrow_mut().insert(name, value);
        }
    }
}

fn dig(arguments: &[Value]) -> Result<Value, String> {
    let [path @ .., default, last] = arguments else {
        return Err("dig needs at least three arguments".to_owned());
    };
    if path.is_empty() {
        return Err("dig needs at least three arguments".to_owned());
    }
    let mut here = last.clone();
    for (number, part) in path.iter().enumerate() {
        let Some(fields) = here.fields().cloned() else {
            return Err(format!(
                "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                here.type_name()
            ));
        };
        let Some(found) = fields.borrow().get(&part.print()).cloned() else { return Ok(default.clone()) };
        if number + 1 < path.len() && found.fields().is_none() {
            return Err(format!(
                "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                found.type_name()
            ));
        }
        here = found;
    }
    Ok(here)
}
