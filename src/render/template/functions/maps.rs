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
                let name = match pair[0].show() {
                    Ok(name) => name,
                    Err(why) => return Some(Err(why)),
                };
                fields.insert(name, if value.is_nil() { Value::Nil } else { value });
            }
            Ok(Value::map(fields))
        }
        "get" => Ok(map(0).borrow().get(text(arguments, 1)).cloned().unwrap_or_else(|| Value::text(""))),
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
            let mut done = Ok(if any(arguments, 0).is_nil() {
                Value::Map(target.clone())
            } else {
                arguments[0].clone()
            });
            for at in 1..arguments.len() {
                if let Err(why) = merge(&target, &map(at), overwrite, 0) {
                    done = Err(why);
                }
            }
            done
        }
        "dig" => dig(arguments),
        "deepCopy" | "DeepCopy" => match any(arguments, 0) {
            value if value.is_nil() => Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
            value => value.deep_copy(),
        },
        _ => return None,
    })
}

/// As the library mergo does it: what is empty in the target is filled, or what is not empty in the source wins.
fn merge(target: &Fields, source: &Fields, overwrite: bool, depth: usize) -> Result<(), String> {
    if std::rc::Rc::ptr_eq(target, source) {
        return Ok(());
    }
    if depth > 200 {
        return Err("maps nested deeper than 200 levels".to_owned());
    }
    let entries: Vec<(String, Value)> =
        source.borrow().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in entries {
        let old = target.borrow().get(&name).cloned();
        // A nil in the source is taken only where it overwrites.
        if value.is_nil() {
            if overwrite {
                target.borrow_mut().insert(name, Value::Nil);
            }
            continue;
        }
        if let (Some(below), Some(above)) = (old.as_ref().and_then(Value::fields), value.fields()) {
            merge(below, above, overwrite, depth + 1)?;
            // An empty map gives way to the other one itself.
            if !below.borrow().is_empty() {
                continue;
            }
        }
        if overwrite || old.as_ref().is_none_or(is_empty) {
            target.borrow_mut().insert(name, value);
        }
    }
    Ok(())
}

fn dig(arguments: &[Value]) -> Result<Value, String> {
    let [path @ .., default, last] = arguments else {
        return Err("dig needs at least three arguments".to_owned());
    };
    let Some((name, before)) = path.split_last() else {
        return Err("dig needs at least three arguments".to_owned());
    };
    let map = |value: &Value| match value {
        Value::Map(fields) => Ok(fields.clone()),
        value => Err(conversion(value, "map[string]interface {}")),
    };
    let name_of = |value: &Value| match value {
        Value::Text(name) => Ok(name.to_string()),
        value => Err(conversion(value, "string")),
    };
    let mut here = map(last)?;
    let names = path.iter().map(name_of).collect::<Result<Vec<_>, _>>()?;
    for name in &names[..before.len()] {
        let found = here.borrow().get(name).cloned();
        let Some(found) = found else { return Ok(default.clone()) };
        here = map(&found)?;
    }
    let found = here.borrow().get(&name_of(name)?).cloned();
    Ok(found.unwrap_or_else(|| default.clone()))
}

/// What Go says where a value is not of the one type that is taken.
fn conversion(value: &Value, wanted: &str) -> String {
    let found = if value.is_nil() { "nil" } else { value.type_name() };
    format!("interface conversion: interface {{}} is {found}, not {wanted}")
}
