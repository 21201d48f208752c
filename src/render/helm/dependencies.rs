//! Which subcharts take part, under which names, and what they hand to their parents.

use std::rc::Rc;

use serde_json::Value as Json;

use super::chart::Chart;
use super::metadata::Dependency;
use super::values::{below, coalesce, empty, table_at, tables, value_at};
use crate::render::template::satisfies;
use crate::render::template::value::{Fields, Value};

/// Names in Chart.yaml that the charts folder has not.
pub(super) fn missing(chart: &Chart) -> Vec<String> {
    let wanted = chart.metadata.dependencies.iter().flatten().map(|one| one.borrow().name.clone());
    wanted.filter(|name| !chart.dependencies.iter().any(|found| found.name() == name)).collect()
}

/// Conditions, tags, aliases and imports of a chart and all below it.
///
/// # Errors
/// Where values for a subchart are no map.
pub(super) fn process(chart: &mut Chart, values: &Value) -> Result<(), String> {
    enable(chart, values, "")?;
    import(chart)
}

fn compatible(constraint: &str, version: &str) -> bool {
    satisfies(if constraint.is_empty() { "*" } else { constraint }, version)
}

fn enable(chart: &mut Chart, values: &Value, path: &str) -> Result<(), String> {
    let Some(wanted) = chart.metadata.dependencies.clone() else { return Ok(()) };
    let fits = |found: &Chart, one: &Dependency| {
        found.name() == one.name && compatible(&one.version, &found.metadata.version)
    };
    let mut used: Vec<Chart> = chart
        .dependencies
        .iter()
        .filter(|found| !wanted.iter().any(|one| fits(found, &one.borrow())))
        .cloned()
        .collect();
    for one in &wanted {
        let mut one = one.borrow_mut();
        if let Some(found) = chart.dependencies.iter().find(|found| fits(found, &one)) {
            let mut found = Chart { below: Rc::default(), ..found.clone() };
            if !one.alias.is_empty() {
                found.metadata.name.clone_from(&one.alias);
            }
            used.push(found);
        }
        if !one.alias.is_empty() {
            let alias = one.alias.clone();
            one.name = alias;
        }
        one.enabled = true;
    }
    chart.adopt(used);
    let all = coalesce(chart, values, false)?;
    for one in &wanted {
        let mut one = one.borrow_mut();
        one.enabled = tagged(&one.tags, &all);
        if let Some(value) = condition(&one.condition, &all, path) {
            one.enabled = value;
        }
    }
    let off = |name: &str| wanted.iter().map(|one| one.borrow()).any(|one| !one.enabled && one.name == name);
    let mut kept: Vec<Chart> = std::mem::take(&mut chart.dependencies);
    kept.retain(|found| !off(found.name()));
    let all = Value::Map(all);
    for subchart in &mut kept {
        let path = format!("{path}{}.", subchart.name());
        enable(subchart, &all, &path)?;
    }
    let left: Vec<_> = wanted.iter().filter(|one| !off(&one.borrow().name)).map(Rc::clone).collect();
    chart.metadata.dependencies = (!left.is_empty()).then_some(left);
    chart.adopt(kept);
    Ok(())
}

/// One true tag is enough; without any, it is on.
fn tagged(tags: &[String], values: &Fields) -> bool {
    let Some(given) = table_at(values, "tags") else { return true };
    let given = given.borrow();
    let said: Vec<bool> = tags
        .iter()
        .filter_map(|tag| match given.get(tag) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        })
        .collect();
    said.is_empty() || said.contains(&true)
}

/// The first condition that is true or false decides.
fn condition(paths: &str, values: &Fields, above: &str) -> Option<bool> {
    paths.trim().split(',').filter(|path| !path.is_empty()).find_map(|path| {
        match value_at(values, &format!("{above}{path}")) {
            Some(Value::Bool(value)) => Some(value),
            _ => None,
        }
    })
}

fn import(chart: &mut Chart) -> Result<(), String> {
    for subchart in &mut chart.dependencies {
        import(subchart)?;
    }
    let Some(wanted) = chart.metadata.dependencies.clone() else { return Ok(()) };
    let all = coalesce(chart, &empty(), true)?;
    let imported = Fields::default();
    for one in &wanted {
        let mut one = one.borrow_mut();
        if std::mem::replace(&mut one.imported, true) {
            continue;
        }
        for item in &one.import_values {
            let (child, parent) = match item {
                Json::String(name) => (format!("exports.{name}"), ".".to_owned()),
                Json::Object(pair) => {
                    let side = |name: &str| {
                        pair.get(name).map_or("<nil>".to_owned(), |value| Value::from_json(value).print())
                    };
                    (side("child"), side("parent"))
                }
                _ => continue,
            };
            if let Some(found) = table_at(&all, &format!("{}.{child}", one.name)) {
                tables(&imported, &below(&parent, found), true);
            }
        }
    }
    // What is imported stands below the parent's own.
    let own = Value::Map(all).deep_copy()?;
    if let Value::Map(own) = &own {
        tables(own, &imported, true);
    }
    chart.values = own;
    Ok(())
}
