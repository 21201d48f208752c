//! What lists of a kind are merged by a strategic merge patch, and by which keys.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::error::Result;
use crate::model::yaml;

/// The built-in kinds; a table written by `tests/conformance/merge.go`.
const BUILT_IN: &str = include_str!("data/merge.txt");

/// Index into [`Schema::types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(usize);

/// What is known of one field, or of the items of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    form: Form,
    below: Option<TypeId>,
    strategy: Arc<str>,
    keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Object,
    List,
    Map,
}

impl Shape {
    pub(super) fn is_merged(&self) -> bool {
        self.strategy.split(',').any(|strategy| strategy == "merge")
    }

    /// Empty where the items are scalars.
    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    types: Vec<HashMap<String, Shape>>,
    /// By `apiVersion kind`.
    kinds: HashMap<String, TypeId>,
}

impl Schema {
    pub(super) fn built_in() -> Arc<Self> {
        static TABLE: OnceLock<Arc<Schema>> = OnceLock::new();
        TABLE.get_or_init(|| Arc::new(Self::table(BUILT_IN))).clone()
    }

    fn table(text: &str) -> Self {
        let mut schema = Self::default();
        let mut names: HashMap<&str, TypeId> = HashMap::new();
        let lines = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines().filter(|line| !line.starts_with(' ')) {
            let mut words = line.split(' ');
            let id = TypeId(schema.types.len());
            schema.types.push(HashMap::new());
            names.insert(words.next().unwrap_or_default(), id);
            for kind in words {
                let (version, kind) = kind.rsplit_once('/').unwrap_or(("", kind));
                schema.kinds.insert(format!("{version} {kind}"), id);
            }
        }
        let mut current = None;
        for line in lines() {
            let Some(line) = line.strip_prefix("  ") else {
                current = line.split(' ').next().and_then(|name| names.get(name));
                continue;
            };
            let mut words = line.split(' ');
            let (field, form) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let (form, below) = match (form.strip_prefix("[]"), form.strip_prefix("{}")) {
                (Some(below), _) => (Form::List, below),
                (_, Some(below)) => (Form::Map, below),
                _ => (Form::Object, form),
            };
            let strategy = words.next().unwrap_or_default().into();
            let mut keys = Vec::new();
            for word in words {
                match word.split_once('=') {
                    Some(("keys", list)) => keys = list.split(',').map(str::to_owned).collect(),
                    Some(("key", key)) => keys = vec![key.to_owned()],
                    _ => {}
                }
            }
            if let Some(id) = current {
                let shape = Shape { form, below: names.get(below).copied(), strategy, keys };
                schema.types[id.0].insert(field.to_owned(), shape);
            }
        }
        schema
    }

    /// Adds the definitions of an OpenAPI document, in JSON or YAML.
    pub(super) fn add_document(&mut self, bytes: &[u8], file: &str) -> Result<()> {
        let Some(document) = yaml::read(bytes, file)?.into_iter().next() else { return Ok(()) };
        let definitions = document.value["definitions"].as_object().cloned().unwrap_or_default();
        let first = self.types.len();
        let names: HashMap<&str, TypeId> = definitions
            .keys()
            .enumerate()
            .map(|(number, name)| (name.as_str(), TypeId(first + number)))
            .collect();
        self.types.resize_with(first + definitions.len(), HashMap::new);
        for (name, definition) in &definitions {
            let id = names[name.as_str()];
            self.properties(id, definition, &names);
            for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |field: &str| kind[field].as_str().unwrap_or_default();
                let version = match text("group") {
                    "" => text("version").to_owned(),
                    group => format!("{group}/{}", text("version")),
                };
                self.kinds.insert(format!("{version} {}", text("kind")), id);
            }
        }
        Ok(())
    }

    fn properties(&mut self, id: TypeId, schema: &Value, names: &HashMap<&str, TypeId>) {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let shape = self.shape(property, names);
            self.types[id.0].insert(field.clone(), shape);
        }
    }

    fn shape(&mut self, property: &Value, names: &HashMap<&str, TypeId>) -> Shape {
        let (form, inner) = if property["type"] == "array" {
            (Form::List, &property["items"])
        } else if property["additionalProperties"].is_object() {
            (Form::Map, &property["additionalProperties"])
        } else {
            (Form::Object, property)
        };
        let reference = inner["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/"));
        let below = match reference {
            Some(name) => names.get(name).copied(),
            None if inner["properties"].is_object() => {
                let id = TypeId(self.types.len());
                self.types.push(HashMap::new());
                self.properties(id, inner, names);
                Some(id)
            }
            None => None,
        };
        let strategy: Arc<str> = property["x-kubernetes-patch-strategy"].as_str().unwrap_or_default().into();
        let list = property["x-kubernetes-list-map-keys"].as_array();
        let keys = match (list, property["x-kubernetes-patch-merge-key"].as_str()) {
            _ if strategy.is_empty() => Vec::new(),
            (Some(list), _) => list.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect(),
            (None, Some(key)) => vec![key.to_owned()],
            (None, None) => Vec::new(),
        };
        Shape { form, below, strategy, keys }
    }

    /// The shape of a whole object.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Shape> {
        let id = self.kinds.get(&format!("{api_version} {kind}"))?;
        Some(Shape { below: Some(*id), ..Shape::default() })
    }

    /// The shape of a field of something.
    pub(super) fn field(&self, shape: &Shape, name: &str) -> Option<Shape> {
        match shape.form {
            Form::List => None,
            Form::Map => Some(Shape { below: shape.below, ..Shape::default() }),
            Form::Object => self.types[shape.below?.0].get(name).cloned(),
        }
    }

    /// The shape of the items of a list.
    #[expect(clippy::unused_self, reason = "beside `field`")]
    pub(super) fn items(&self, shape: &Shape) -> Option<Shape> {
        (shape.form == Form::List).then(|| Shape { below: shape.below, ..Shape::default() })
    }
}
