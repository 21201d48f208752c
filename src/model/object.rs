//! A Kubernetes object as data, with the place it came from.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::model::{Digest, Gvk, Key};

/// The place in a source that an object was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// File inside the source's tree.
    pub file: Arc<str>,
    /// 1-based line of the document's first key; 0 where unknown.
    pub line: usize,
}

/// The objects of a set so far, to notice one that is described twice.
#[derive(Debug, Default)]
pub struct Described(HashMap<Key, Origin>);

impl Described {
    /// Notes an object.
    ///
    /// # Errors
    /// `DuplicateObject` with both places.
    pub fn add(&mut self, object: &Object) -> Result<()> {
        let Some(first) = self.0.insert(object.key(), object.origin().clone()) else { return Ok(()) };
        let second = object.origin();
        let why = format!(
            "it is described twice: {}:{} and {}:{}",
            first.file, first.line, second.file, second.line
        );
        Err(Error::new(Code::DuplicateObject, why).on_object(object.key()))
    }
}

/// One object: `apiVersion`, `kind` and `metadata.name` are known to be there.
///
/// Maps are sorted by key, so the serialised form is canonical and its digest is the object's identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    value: Value,
    gvk: Gvk,
    origin: Origin,
}

impl Object {
    /// Checks that the value names an object. `generateName` is no name, it cannot be compared; except for hooks, which
    /// are made anew each time: they are called by it.
    pub fn new(value: Value, origin: Origin) -> Result<Self> {
        let incomplete =
            |why: String| Error::new(Code::ManifestIncomplete, why).in_file(&origin.file).at(origin.line, 0);
        let text = |value: &Value, field: &str| value.get(field).cloned();
        let Some(fields) = value.as_object() else {
            return Err(incomplete("the document is not a map".into()));
        };
        let filled = |found: Option<Value>, field: &str| match found {
            Some(Value::String(found)) if !found.is_empty() => Ok(found),
            // YAML 1.1 reads n, no, off and 12 as something else than the word that was meant.
            Some(found @ (Value::Bool(_) | Value::Number(_))) => {
                Err(incomplete(format!("{field} is read as {found}, which is no text; put it in quotes")))
            }
            _ => Err(incomplete(format!("the document has no {field}"))),
        };
        let api_version = filled(text(&value, "apiVersion"), "apiVersion")?;
        let kind = filled(text(&value, "kind"), "kind")?;
        let metadata = fields.get("metadata").cloned().unwrap_or(Value::Null);
        let is_hook = || {
            let annotations = metadata.get("annotations").and_then(Value::as_object);
            annotations.is_some_and(|all| all.keys().any(|name| name.ends_with("/hook")))
        };
        let generated = text(&metadata, "generateName").filter(|_| metadata.get("name").is_none());
        if generated.is_none() || !is_hook() {
            filled(text(&metadata, "name"), "metadata.name")?;
        } else {
            filled(generated, "metadata.generateName")?;
        }
        for field in ["labels", "annotations"] {
            let Some(map) = metadata.get(field).filter(|map| !map.is_null()) else { continue };
            let strings = map
                .as_object()
                .is_some_and(|map| map.values().all(|value| value.is_string() || value.is_null()));
            if !strings {
                return Err(incomplete(format!(
                    "metadata.{field} is not a map of strings (quote numbers and yes/no)"
                )));
            }
        }
        Ok(Self { gvk: Gvk::parse(&api_version, &kind), value, origin })
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> &Gvk {
        &self.gvk
    }

    /// `metadata.name`; of a hook without one, `metadata.generateName`.
    pub fn name(&self) -> &str {
        self.metadata("name").or_else(|| self.metadata("generateName")).unwrap_or_default()
    }

    /// `metadata.namespace`, empty where not stated.
    pub fn namespace(&self) -> &str {
        self.metadata("namespace").unwrap_or_default()
    }

    fn metadata(&self, field: &str) -> Option<&str> {
        self.value.get("metadata")?.get(field)?.as_str()
    }

    /// The identity, with the namespace as stated.
    pub fn key(&self) -> Key {
        Key {
            group: self.gvk.group.clone(),
            kind: self.gvk.kind.clone(),
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// Where it was read.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The data.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The data, to change; identity fields must stay what they are, except through the setters.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.value
    }

    /// Sets or removes (empty) the namespace.
    pub fn set_namespace(&mut self, namespace: &str) {
        if let Some(metadata) = self.metadata_mut() {
            if namespace.is_empty() {
                metadata.remove("namespace");
            } else {
                metadata.insert("namespace".into(), namespace.into());
            }
        }
    }

    /// Sets a label.
    pub fn set_label(&mut self, name: &str, text: &str) {
        let Some(metadata) = self.metadata_mut() else { return };
        let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        if !labels.is_object() {
            *labels = Value::Object(Map::new());
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(name.into(), text.into());
        }
    }

    /// An annotation's text.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    fn metadata_mut(&mut self) -> Option<&mut Map<String, Value>> {
        self.value.get_mut("metadata")?.as_object_mut()
    }

    /// Canonical JSON: sorted keys, no blanks. What is hashed is what is sent.
    pub fn canonical(&self) -> Vec<u8> {
        self.value.to_string().into_bytes()
    }

    /// The digest of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical())
    }
}
