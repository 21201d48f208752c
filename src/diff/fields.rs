//! managedFields: who owns which field.

use serde_json::{Map, Value};

/// One step from an object to a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A key of a map.
    Field(String),
    /// An element of a list, with its index and its content.
    Item(usize, Value),
}

/// The RFC 6901 pointer of a path.
pub(super) fn pointer(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) => push_field(&mut text, name),
            Step::Item(index, _) => {
                text.push('/');
                text.push_str(&index.to_string());
            }
        }
    }
    text
}

/// Adds the key of a map to a pointer.
pub(super) fn push_field(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
}

/// The fields of one entry: the parsed `fieldsV1`.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Value);

/// Who wrote a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Field manager.
    pub manager: String,
    /// When the manager last wrote (RFC 3339); empty where not known.
    pub since: String,
}

fn entries(live: &Value) -> impl Iterator<Item = &Value> {
    live["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// The entry that a server-side apply of `manager` left.
pub fn ours<'a>(live: &'a Value, manager: &str) -> Option<Fields<'a>> {
    entries(live)
        .find(|entry| {
            entry["manager"] == manager
                && entry["operation"] == "Apply"
                && entry["subresource"].as_str().unwrap_or_default().is_empty()
        })
        .map(|entry| Fields(&entry["fieldsV1"]))
}

/// The other manager that owns a field and wrote last.
pub(super) fn owner(live: &Value, path: &[Step], except: &str) -> Option<Owner> {
    entries(live)
        .filter(|entry| entry["manager"] != except && Fields(&entry["fieldsV1"]).owns(path))
        .map(|entry| Owner {
            manager: entry["manager"].as_str().unwrap_or_default().to_owned(),
            since: entry["time"].as_str().unwrap_or_default().to_owned(),
        })
        .max_by(|one, other| one.since.cmp(&other.since))
}

/// The keys by which the elements of a list are told apart, as any manager's entry shows them.
pub(super) fn list_keys(live: &Value, path: &[Step]) -> Option<Vec<String>> {
    entries(live).find_map(|entry| {
        let (list, _) = Fields(&entry["fieldsV1"]).walk(path);
        let key = list?.0.as_object()?.keys().find_map(|name| name.strip_prefix("k:"))?;
        let key: Value = serde_json::from_str(key).ok()?;
        Some(key.as_object()?.keys().cloned().collect())
    })
}

/// The name under which a tree of fields holds a step.
pub(super) fn name_of(fields: &Map<String, Value>, step: &Step) -> Option<String> {
    match step {
        Step::Field(name) => Some(format!("f:{name}")).filter(|name| fields.contains_key(name)),
        Step::Item(index, item) => {
            let is_it = |name: &&String| {
                if let Some(key) = name.strip_prefix("k:") {
                    let key = serde_json::from_str::<Map<String, Value>>(key);
                    key.is_ok_and(|key| key.iter().all(|(field, value)| item.get(field) == Some(value)))
                } else if let Some(value) = name.strip_prefix("v:") {
                    serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item)
                } else {
                    name.strip_prefix("i:").is_some_and(|number| number.parse() == Ok(*index))
                }
            };
            fields.keys().find(is_it).cloned()
        }
    }
}

impl<'a> Fields<'a> {
    /// A part of an entry.
    pub(super) fn of(value: &'a Value) -> Self {
        Self(value)
    }

    /// Goes down as far as the entry has steps: what is there, and how many steps were found.
    fn walk(self, path: &[Step]) -> (Option<Self>, usize) {
        let mut here = self;
        for (depth, step) in path.iter().enumerate() {
            match here.child(step) {
                Some(next) => here = next,
                None => return (None, depth),
            }
        }
        (Some(here), path.len())
    }

    fn child(self, step: &Step) -> Option<Self> {
        let map = self.0.as_object()?;
        map.get(&name_of(map, step)?).map(Fields)
    }

    /// Whether the entry owns the field itself, or, as a leaf, something above it.
    pub fn owns(self, path: &[Step]) -> bool {
        match self.walk(path) {
            (Some(_), _) => true,
            (None, depth) => {
                let (above, _) = self.walk(&path[..depth]);
                // A leaf owns everything below it (atomic maps and lists); the root is never one.
                depth > 0
                    && above.is_some_and(|above| above.0.as_object().is_some_and(serde_json::Map::is_empty))
            }
        }
    }

    /// The entry as a value: maps of `f:`, `k:`, `v:` names.
    pub fn raw(self) -> &'a Value {
        self.0
    }
}
