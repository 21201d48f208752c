//! Fields that are left alone: taken out of what is applied, so we never own them.

use serde_json::Value;

use super::Spared;
use super::fields::{Step, pointer, push_field};
use crate::error::{Code, Error, Result};
use crate::model::Object;

/// One rule of `spec.ignoreDifferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreRule {
    /// API group; `None` or `*` for any.
    pub group: Option<String>,
    /// Kind, or `*`.
    pub kind: String,
    /// Glob over the namespace; `None` for any.
    pub namespace: Option<String>,
    /// Glob over the name; `None` for any.
    pub name: Option<String>,
    /// JSON pointers.
    pub pointers: Vec<String>,
    /// jq path expressions.
    pub jq: Vec<String>,
    /// Field managers whose fields are theirs.
    pub managers: Vec<String>,
}

impl IgnoreRule {
    /// Whether the rule speaks of this object.
    pub fn matches(&self, object: &Object) -> bool {
        let any = |pattern: &str, text: &str| {
            pattern == "*"
                || pattern == text
                || globset::Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(text))
        };
        self.group.as_deref().is_none_or(|group| any(group, &object.gvk().group))
            && any(&self.kind, &object.gvk().kind)
            && self.namespace.as_deref().is_none_or(|namespace| any(namespace, object.namespace()))
            && self.name.as_deref().is_none_or(|name| any(name, object.name()))
    }
}

/// Removes ignored fields and says which they are, whether the object has them or not. Rules by manager need the live
/// object; without it nothing is theirs yet.
///
/// # Errors
/// `ApplicationInvalid` for a pointer or jq expression that cannot be read.
pub fn strip(object: &mut Object, live: Option<&Value>, rules: &[IgnoreRule]) -> Result<Spared> {
    let mut spared = Spared::default();
    for rule in rules {
        if !rule.matches(object) {
            continue;
        }
        for pointer in &rule.pointers {
            if !pointer.starts_with('/') {
                let why =
                    format!("spec.ignoreDifferences: {pointer:?} is no JSON pointer; it begins with '/'");
                return Err(Error::new(Code::ApplicationInvalid, why));
            }
            spared.paths.push(steps(object.value(), pointer));
            remove(object.value_mut(), pointer);
        }
        for expression in &rule.jq {
            for pointer in paths(expression, object.value())? {
                spared.paths.push(steps(object.value(), &pointer));
                remove(object.value_mut(), &pointer);
            }
        }
        spared.managers.extend(rule.managers.iter().cloned());
        if let Some(live) = live {
            for manager in &rule.managers {
                theirs(object, live, manager);
            }
        }
    }
    Ok(spared)
}

/// The path of a pointer, with the elements of lists that it goes through. Where the object has no such list, a number
/// is a name.
fn steps(value: &Value, pointer: &str) -> Vec<Step> {
    let mut here = Some(value);
    let mut path = Vec::new();
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        let items = here.and_then(Value::as_array);
        if let Some((index, items)) = items.and_then(|items| Some((name.parse::<usize>().ok()?, items))) {
            here = items.get(index);
            path.push(Step::Item(index, here.cloned().unwrap_or_default()));
        } else {
            here = here.and_then(|value| value.get(&name));
            path.push(Step::Field(name));
        }
    }
    path
}

/// Identity is never ignored.
fn is_identity(pointer: &str) -> bool {
    matches!(
        pointer,
        "" | "/" | "/apiVersion" | "/kind" | "/metadata" | "/metadata/name" | "/metadata/namespace"
    )
}

/// Removes what a pointer names; nothing there is fine.
pub(super) fn remove(value: &mut Value, pointer: &str) {
    if is_identity(pointer) {
        return;
    }
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&last);
        }
        Some(Value::Array(items)) => {
            if let Ok(index) = last.parse::<usize>()
                && index < items.len()
            {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// The pointers that a jq expression selects, the last elements of lists first so that removing one does
/// not move the next.
fn paths(expression: &str, value: &Value) -> Result<Vec<String>> {
    use jaq_core::load::{Arena, File, Loader};
    use jaq_core::{Ctx, Vars, data};

    let invalid = |why: String| {
        Error::new(Code::ApplicationInvalid, format!("spec.ignoreDifferences: jq {expression:?}: {why}"))
    };
    if expression.len() > 4096 {
        return Err(invalid("longer than 4,096 characters".into()));
    }
    let program = format!("path({expression})");
    let arena = Arena::default();
    let loader = Loader::new(jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()));
    let modules = loader
        .load(&arena, File { code: program.as_str(), path: () })
        .map_err(|_| invalid("it cannot be parsed".into()))?;
    let filter = jaq_core::Compiler::default()
        .with_funs(
            jaq_core::funs::<data::JustLut<jaq_json::Val>>()
                .chain(jaq_std::funs::<data::JustLut<jaq_json::Val>>())
                .chain(jaq_json::funs::<data::JustLut<jaq_json::Val>>()),
        )
        .compile(modules)
        .map_err(|_| invalid("it uses a function that is not known here".into()))?;
    let input: jaq_json::Val = jaq_json::read::parse_single(value.to_string().as_bytes())
        .map_err(|error| invalid(error.to_string()))?;
    let context = Ctx::<data::JustLut<jaq_json::Val>>::new(&filter.lut, Vars::new([]));
    let mut pointers = Vec::new();
    // 10,000 results: more would be a loop.
    for found in filter.id.run((context, input)).take(10_000) {
        let found = found.map_err(|_| invalid("it failed on an object".into()))?;
        let steps: Value =
            serde_json::from_str(&found.to_string()).map_err(|error| invalid(error.to_string()))?;
        let Some(steps) = steps.as_array() else { continue };
        let pointer = steps.iter().fold(String::new(), |mut text, step| {
            match step {
                Value::String(name) => push_field(&mut text, name),
                other => push_field(&mut text, &other.to_string()),
            }
            text
        });
        pointers.push(pointer);
    }
    pointers.reverse();
    Ok(pointers)
}

/// Removes the leaves of the object that `manager` owns in the live object.
fn theirs(object: &mut Object, live: &Value, manager: &str) {
    let entries: Vec<super::Fields<'_>> = live["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["manager"] == manager)
        .map(|entry| super::Fields::of(&entry["fieldsV1"]))
        .collect();
    let mut found = Vec::new();
    leaves(object.value(), &mut Vec::new(), &mut |path| {
        if entries.iter().any(|entry| entry.owns(path)) {
            found.push(pointer(path));
        }
    });
    for pointer in found.iter().rev() {
        remove(object.value_mut(), pointer);
    }
}

fn leaves(value: &Value, path: &mut Vec<Step>, visit: &mut impl FnMut(&[Step])) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, below) in map {
                path.push(Step::Field(name.clone()));
                leaves(below, path, visit);
                path.pop();
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, below) in items.iter().enumerate() {
                path.push(Step::Item(index, below.clone()));
                leaves(below, path, visit);
                path.pop();
            }
        }
        _ => visit(path),
    }
}
