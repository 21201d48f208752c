//! How values of charts come together: a parent's over a child's, maps merged, all else replaced, and nulls that take
//! away. Maps are shared where Helm shares them, because a child's globals then show in its parent.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::chart::Chart;
use crate::render::template::value::{Fields, Value};

const GLOBAL: &str = "global";

/// An empty map.
pub(super) fn empty() -> Value {
    Value::map(BTreeMap::new())
}

/// A map of these entries.
pub(super) fn fields(entries: impl IntoIterator<Item = (String, Value)>) -> Fields {
    match Value::map(entries.into_iter().collect()) {
        Value::Map(fields) => fields,
        _ => Fields::default(),
    }
}

/// What is in a map now.
fn entries(fields: &Fields) -> Vec<(String, Value)> {
    fields.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn table(value: &Value) -> Option<Fields> {
    match value {
        Value::Map(fields) => Some(fields.clone()),
        _ => None,
    }
}

/// The map at a dotted path.
pub(super) fn table_at(values: &Fields, path: &str) -> Option<Fields> {
    let mut here = values.clone();
    for part in path.split('.') {
        let next = table(here.borrow().get(part)?)?;
        here = next;
    }
    Some(here)
}

/// The value at a dotted path, where it is no map.
pub(super) fn value_at(values: &Fields, path: &str) -> Option<Value> {
    let (folder, key) = path.rsplit_once('.').map_or((None, path), |(folder, key)| (Some(folder), key));
    let here = match folder {
        Some(folder) => table_at(values, folder)?,
        None => values.clone(),
    };
    let found = here.borrow().get(key).cloned();
    found.filter(|value| table(value).is_none())
}

/// One map over another, for files of values: neither changes.
pub(super) fn over(below: &Value, above: &Value) -> Value {
    let (Some(below), Some(above)) = (table(below), table(above)) else { return above.clone() };
    let mut out: BTreeMap<String, Value> = entries(&below).into_iter().collect();
    for (key, value) in above.borrow().iter() {
        let merged = match out.get(key) {
            Some(old) if table(old).is_some() && table(value).is_some() => over(old, value),
            _ => value.clone(),
        };
        out.insert(key.clone(), merged);
    }
    Value::map(out)
}

/// Values for a chart and all below it. With `merge`, nulls are kept.
///
/// # Errors
/// Where a subchart's values are no map, in Helm's words.
pub(super) fn coalesce(chart: &Chart, values: &Value, merge: bool) -> Result<Fields, String> {
    let copy = table(&values.deep_copy()?).unwrap_or_default();
    whole(chart, &copy, merge)?;
    Ok(copy)
}

fn whole(chart: &Chart, dest: &Fields, merge: bool) -> Result<(), String> {
    own(chart, dest, merge)?;
    for subchart in &chart.dependencies {
        let name = subchart.name();
        let found = dest.borrow().get(name).cloned();
        let inner = match found {
            None => {
                let inner = Fields::default();
                dest.borrow_mut().insert(name.to_owned(), Value::Map(inner.clone()));
                inner
            }
            Some(Value::Map(inner)) => inner,
            Some(other) => {
                return Err(format!("type mismatch on {name}: {}", as_bool(&other)));
            }
        };
        globals(&inner, dest);
        whole(subchart, &inner, merge)?;
    }
    Ok(())
}

/// As Go prints with `%t`.
fn as_bool(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Nil | Value::Missing => "%!t(<nil>)".to_owned(),
        other => match other.items() {
            Some(items) => format!("[{}]", items.iter().map(as_bool).collect::<Vec<_>>().join(" ")),
            None => format!("%!t({}={})", other.type_name(), other.print()),
        },
    }
}

/// The globals of `src` into those of `dest`.
fn globals(dest: &Fields, src: &Fields) {
    let side = |fields: &Fields| match fields.borrow().get(GLOBAL) {
        None => Some(Fields::default()),
        Some(value) => table(value),
    };
    let (Some(dest_globals), Some(src_globals)) = (side(dest), side(src)) else { return };
    for (key, value) in entries(&src_globals) {
        let old = dest_globals.borrow().get(&key).cloned();
        let new = match (table(&value), old) {
            (Some(fields), None) => flat_copy(&fields),
            (Some(fields), Some(old)) => match table(&old) {
                Some(old) => {
                    let copied = flat_copy(&fields);
                    if let Value::Map(copied) = &copied {
                        tables(copied, &old, true);
                    }
                    copied
                }
                None => continue,
            },
            (None, Some(Value::Map(_))) => continue,
            (None, _) => value,
        };
        dest_globals.borrow_mut().insert(key, new);
    }
    dest.borrow_mut().insert(GLOBAL.to_owned(), Value::Map(dest_globals));
}

/// A copy of one level; what is below stays shared.
fn flat_copy(fields: &Fields) -> Value {
    Value::map(entries(fields).into_iter().collect())
}

/// A chart's own defaults under the given values.
fn own(chart: &Chart, values: &Fields, merge: bool) -> Result<(), String> {
    let Some(defaults) = table(&chart.values.deep_copy()?) else { return Ok(()) };
    for (key, default) in entries(&defaults) {
        let given = values.borrow().get(&key).cloned();
        match given {
            None => drop(values.borrow_mut().insert(key, default)),
            Some(Value::Nil | Value::Missing) if !merge => drop(values.borrow_mut().remove(&key)),
            Some(Value::Map(given)) => {
                if let Value::Map(default) = default {
                    // A null for a subchart is for that chart's own turn.
                    let merge = merge || chart.dependencies.iter().any(|chart| chart.name() == key);
                    tables(&given, &default, merge);
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Puts `src` under `dst`; both change.
pub(super) fn tables(dst: &Fields, src: &Fields, merge: bool) {
    if Rc::ptr_eq(dst, src) {
        return;
    }
    let defaults: HashSet<String> = {
        let src = src.borrow();
        src.iter().filter(|(_, value)| !value.is_nil()).map(|(key, _)| key.clone()).collect()
    };
    for (key, value) in dst.borrow().iter() {
        if value.is_nil() {
            src.borrow_mut().insert(key.clone(), Value::Nil);
        }
    }
    for (key, value) in entries(src) {
        let old = dst.borrow().get(&key).cloned();
        match old {
            Some(old) if !merge && old.is_nil() && defaults.contains(&key) => {
                dst.borrow_mut().remove(&key);
            }
            None => drop(dst.borrow_mut().insert(key, value)),
            Some(old) => {
                if let (Value::Map(old), Value::Map(value)) = (&old, &value) {
                    tables(old, value, merge);
                }
            }
        }
    }
}

/// `data` below a dotted path; `.` is no path.
pub(super) fn below(path: &str, data: Fields) -> Fields {
    if path == "." {
        return data;
    }
    path.rsplit('.').fold(data, |inner, part| fields([(part.to_owned(), Value::Map(inner))]))
}
