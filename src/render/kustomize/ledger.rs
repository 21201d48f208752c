//! Which place wrote which field, kept beside a build where that is asked for.
//!
//! After every change the fields of all objects are compared with what they were. A field is known again by its node,
//! by its path, or (where a JSON patch moved the items of a list) by its value among the items.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::json_patch::Operation;
use super::kustomization::line_below;
use super::node::{Kind, NodeId, Nodes, Place};
use super::resource::Resource;
use crate::render::explain::{Earlier, Explanation, Field, Removed, Written, below};

/// One change.
pub(super) struct Step {
    /// The field of the kustomization that asks for it.
    pub(super) by: &'static str,
    pub(super) file: Arc<str>,
    pub(super) bytes: Arc<[u8]>,
    /// A word in the line that asks for it.
    pub(super) detail: String,
    /// Of a JSON patch.
    pub(super) operations: Vec<Operation>,
}

impl Step {
    /// One that no file asks for.
    pub(super) fn own(by: &'static str) -> Self {
        let (file, bytes) = (Arc::from(""), Arc::from([]));
        Self { by, file, bytes, detail: String::new(), operations: Vec::new() }
    }

    /// Where the change of a field is written.
    fn place(&self, path: &str) -> Option<(Arc<str>, usize)> {
        if let Some(found) = self.operations.iter().rev().find(|one| one.touches(path)) {
            return Some((found.file.clone(), found.line));
        }
        if self.file.is_empty() {
            return None;
        }
        let last = path.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
        let word = if self.detail.is_empty() { last.as_str() } else { self.detail.as_str() };
        Some((self.file.clone(), line_below(&self.bytes, self.by, word)))
    }
}

/// A field as it is now.
struct Known {
    id: NodeId,
    text: Arc<str>,
    /// What the node itself says.
    place: Place,
    by: &'static str,
    at: (Arc<str>, usize),
    /// The last first.
    before: Vec<Earlier>,
}

impl Known {
    fn written(&self) -> Written {
        Written { file: self.at.0.to_string(), line: self.at.1, by: self.by.to_owned() }
    }

    fn earlier(&self) -> Earlier {
        Earlier { value: self.text.to_string(), written: self.written() }
    }
}

#[derive(Default)]
struct History {
    fields: BTreeMap<String, Known>,
    removed: Vec<Removed>,
}

/// The story of every object.
#[derive(Default)]
pub(super) struct Ledger {
    objects: Vec<History>,
}

struct Leaf {
    path: String,
    id: NodeId,
    text: Arc<str>,
}

impl Ledger {
    pub(super) fn note(&mut self, nodes: &Nodes, resources: &mut [Resource], step: &Step) {
        // A reference is written where the name that it follows is.
        let names: HashMap<Arc<str>, (Arc<str>, usize)> = if step.by == "name reference" {
            let name = |history: &History| {
                history.fields.get("/metadata/name").map(|known| (known.text.clone(), known.at.clone()))
            };
            self.objects.iter().filter_map(name).collect()
        } else {
            HashMap::new()
        };
        for resource in resources {
            let number = *resource.number.get_or_insert_with(|| {
                self.objects.push(History::default());
                self.objects.len() - 1
            });
            if let Some(history) = self.objects.get_mut(number) {
                history.note(nodes, resource.root, step, &names);
            }
        }
    }

    /// The story of an object that came out as `value`.
    pub(super) fn explanation(&mut self, resource: &Resource, value: &Value) -> Explanation {
        let mut explanation = Explanation::of(value);
        let history = resource.number.and_then(|number| self.objects.get_mut(number)).map(std::mem::take);
        let history = history.unwrap_or_default();
        explanation.removed = history.removed;
        explanation.fields = history
            .fields
            .into_iter()
            .map(|(path, known)| Field {
                value: value.pointer(&path).cloned().unwrap_or_default(),
                written: known.written(),
                overrode: known.before,
                path,
                ..Field::default()
            })
            .collect();
        explanation
    }
}

/// A path with every index of a list as `*`.
fn any_item(path: &str) -> String {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = path.split('/').map(|part| if number(part) { "*" } else { part }).collect();
    parts.join("/")
}

impl History {
    fn note(
        &mut self,
        nodes: &Nodes,
        root: NodeId,
        step: &Step,
        names: &HashMap<Arc<str>, (Arc<str>, usize)>,
    ) {
        let mut leaves = Vec::new();
        walk(nodes, root, String::new(), &mut leaves);
        let mut old = std::mem::take(&mut self.fields);
        let mut open = Vec::new();
        for leaf in leaves {
            match old.remove(&leaf.path) {
                Some(known) if known.id == leaf.id || known.text == leaf.text => {
                    self.keep(nodes, leaf, Some(known), step, names);
                }
                Some(known) => {
                    old.insert(leaf.path.clone(), known);
                    open.push(leaf);
                }
                None => open.push(leaf),
            }
        }
        let moved: HashMap<NodeId, String> =
            old.iter().map(|(path, known)| (known.id, path.clone())).collect();
        let mut shifted: HashMap<(String, Arc<str>), Vec<String>> = HashMap::new();
        for (path, known) in old.iter().rev() {
            shifted.entry((any_item(path), known.text.clone())).or_default().push(path.clone());
        }
        let mut rest = Vec::new();
        for leaf in open {
            let from = moved.get(&leaf.id).filter(|path| old.contains_key(*path)).cloned().or_else(|| {
                let paths = shifted.get_mut(&(any_item(&leaf.path), leaf.text.clone()))?;
                std::iter::from_fn(|| paths.pop()).find(|path| old.contains_key(path))
            });
            match from {
                Some(from) => {
                    let known = old.remove(&from);
                    self.keep(nodes, leaf, known, step, names);
                }
                None => rest.push(leaf),
            }
        }
        for leaf in rest {
            let known = old.remove(&leaf.path);
            self.keep(nodes, leaf, known, step, names);
        }
        for (path, known) in old {
            // What was empty and is filled is not gone.
            if self
                .fields
                .keys()
                .any(|field| field.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/')))
            {
                continue;
            }
            let (file, line) = step.place(&path).unwrap_or_else(|| ("".into(), 0));
            let removed = Written { file: file.to_string(), line, by: step.by.to_owned() };
            self.removed.push(Removed { path, was: known.earlier(), removed });
        }
    }

    fn keep(
        &mut self,
        nodes: &Nodes,
        leaf: Leaf,
        known: Option<Known>,
        step: &Step,
        names: &HashMap<Arc<str>, (Arc<str>, usize)>,
    ) {
        let place = nodes[leaf.id].place;
        let own = || {
            let file = nodes.files.get(place.file as usize).filter(|_| place.line > 0)?;
            Some((file.clone(), place.line as usize))
        };
        let known = match known {
            Some(mut known) if known.text == leaf.text => {
                (known.id, known.place) = (leaf.id, place);
                known
            }
            known => {
                let fresh = known.as_ref().is_none_or(|known| known.place != place);
                let at = names
                    .get(&leaf.text)
                    .cloned()
                    .or_else(|| own().filter(|_| fresh && step.operations.is_empty()))
                    .or_else(|| step.place(&leaf.path))
                    .or_else(|| known.as_ref().map(|known| known.at.clone()))
                    .unwrap_or_else(|| ("".into(), 0));
                let mut before = Vec::new();
                if let Some(mut known) = known {
                    before.push(known.earlier());
                    before.append(&mut known.before);
                }
                Known { id: leaf.id, text: leaf.text, place, by: step.by, at, before }
            }
        };
        self.fields.insert(leaf.path, known);
    }
}

/// Every scalar and empty collection.
fn walk(nodes: &Nodes, id: NodeId, path: String, found: &mut Vec<Leaf>) {
    let node = &nodes[id];
    match node.kind {
        Kind::Sequence if !node.children.is_empty() => {
            for (at, child) in node.children.iter().enumerate() {
                walk(nodes, *child, format!("{path}/{at}"), found);
            }
        }
        Kind::Mapping if !node.children.is_empty() => {
            for (key, value) in nodes.pairs(id) {
                walk(nodes, value, below(&path, &nodes[key].text), found);
            }
        }
        Kind::Scalar => found.push(Leaf { path, id, text: node.text.clone() }),
        Kind::Sequence => found.push(Leaf { path, id, text: "[]".into() }),
        Kind::Mapping => found.push(Leaf { path, id, text: "{}".into() }),
    }
}
