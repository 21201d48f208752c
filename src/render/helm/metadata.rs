//! Chart.yaml: what it says, what is allowed, and how templates see it (`.Chart`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value as Json};

use super::values::fields;
use crate::render::template::satisfies;
use crate::render::template::value::{Object, Value, go_float};

/// Chart.yaml, under the names that Go gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) home: String,
    pub(super) sources: Vec<String>,
    pub(super) version: String,
    pub(super) description: String,
    pub(super) keywords: Vec<String>,
    pub(super) maintainers: Vec<Maintainer>,
    pub(super) icon: String,
    pub(super) api_version: String,
    pub(super) condition: String,
    pub(super) tags: String,
    pub(super) app_version: String,
    pub(super) deprecated: bool,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) kube_version: String,
    /// Shared by all copies of a chart under several aliases, as Helm shares them: what one changes, all see.
    pub(super) dependencies: Option<Vec<Rc<RefCell<Dependency>>>>,
    pub(super) kind: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Maintainer {
    name: String,
    email: String,
    url: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) repository: String,
    pub(super) condition: String,
    pub(super) tags: Vec<String>,
    pub(super) enabled: bool,
    pub(super) import_values: Vec<Json>,
    pub(super) alias: String,
    /// Whether `import_values` were carried out; Helm does it once for all copies.
    pub(super) imported: bool,
}

/// A map read into a Go struct: names count without their case, and a scalar is text where text is wanted.
struct Reader<'a> {
    fields: &'a Map<String, Json>,
    of: &'a str,
}

impl Reader<'_> {
    fn find(&self, name: &str) -> Option<&Json> {
        let found = self.fields.get(name).or_else(|| {
            let (_, value) = self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            Some(value)
        });
        found.filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, value: &Json, wanted: &str) -> String {
        let (kind, of) = (json_kind(value), self.of);
        format!("json: cannot unmarshal {kind} into Go struct field {of}.{name} of type {wanted}")
    }

    fn text(&self, name: &str, out: &mut String) -> Result<(), String> {
        if let Some(value) = self.find(name) {
            *out = as_text(value).ok_or_else(|| self.wrong(name, value, "string"))?;
        }
        Ok(())
    }

    fn texts(&self, name: &str, out: &mut Vec<String>) -> Result<(), String> {
        if let Some(value) = self.find(name) {
            let items = value.as_array().ok_or_else(|| self.wrong(name, value, "[]string"))?;
            let text = |item: &Json| match item {
                Json::Null => Ok(String::new()),
                item => as_text(item).ok_or_else(|| self.wrong(name, item, "string")),
            };
            *out = items.iter().map(text).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn flag(&self, name: &str, out: &mut bool) -> Result<(), String> {
        if let Some(value) = self.find(name) {
            *out = value.as_bool().ok_or_else(|| self.wrong(name, value, "bool"))?;
        }
        Ok(())
    }

    /// The items of a list of structs; `None` in it is a null.
    fn structs<'b>(&'b self, name: &str, of: &'b str) -> Result<Option<Vec<Option<Reader<'b>>>>, String> {
        let Some(value) = self.find(name) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| self.wrong(name, value, &format!("[]*chart.{of}")))?;
        let one = |item: &'b Json| match item {
            Json::Null => Ok(None),
            Json::Object(fields) => Ok(Some(Reader { fields, of })),
            other => Err(self.wrong(name, other, &format!("chart.{of}"))),
        };
        items.iter().map(one).collect::<Result<_, _>>().map(Some)
    }
}

/// A scalar where Go wants a string.
pub(super) fn as_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Number(number) if number.is_f64() => Some(go_float(number.as_f64().unwrap_or_default())),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn json_kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

impl Metadata {
    /// Takes the fields of a document, over those that are there.
    pub(super) fn read(&mut self, document: &Json) -> Result<(), String> {
        let fields = match document {
            Json::Object(fields) => fields,
            Json::Null => return Ok(()),
            other => {
                let kind = json_kind(other);
                return Err(format!("json: cannot unmarshal {kind} into Go value of type chart.Metadata"));
            }
        };
        let reader = Reader { fields, of: "Metadata" };
        reader.text("name", &mut self.name)?;
        reader.text("home", &mut self.home)?;
        reader.texts("sources", &mut self.sources)?;
        reader.text("version", &mut self.version)?;
        reader.text("description", &mut self.description)?;
        reader.texts("keywords", &mut self.keywords)?;
        reader.text("icon", &mut self.icon)?;
        reader.text("apiVersion", &mut self.api_version)?;
        reader.text("condition", &mut self.condition)?;
        reader.text("tags", &mut self.tags)?;
        reader.text("appVersion", &mut self.app_version)?;
        reader.flag("deprecated", &mut self.deprecated)?;
        reader.text("kubeVersion", &mut self.kube_version)?;
        reader.text("type", &mut self.kind)?;
        if let Some(value) = reader.find("annotations") {
            let wrong = |value| reader.wrong("annotations", value, "string");
            for (name, value) in value.as_object().ok_or_else(|| wrong(value))? {
                let text = if value.is_null() { Some(String::new()) } else { as_text(value) };
                self.annotations.insert(name.clone(), text.ok_or_else(|| wrong(value))?);
            }
        }
        if let Some(items) = reader.structs("maintainers", "Maintainer")? {
            self.maintainers.clear();
            for item in items {
                let item = item.ok_or("validation: maintainers must not contain empty or null nodes")?;
                let mut one = Maintainer::default();
                item.text("name", &mut one.name)?;
                item.text("email", &mut one.email)?;
                item.text("url", &mut one.url)?;
                self.maintainers.push(one);
            }
        }
        if let Some(items) = reader.structs("dependencies", "Dependency")? {
            let mut all = Vec::new();
            for item in items {
                let item = item.ok_or("validation: dependencies must not contain empty or null nodes")?;
                let mut one = Dependency::default();
                item.text("name", &mut one.name)?;
                item.text("version", &mut one.version)?;
                item.text("repository", &mut one.repository)?;
                item.text("condition", &mut one.condition)?;
                item.texts("tags", &mut one.tags)?;
                item.flag("enabled", &mut one.enabled)?;
                item.text("alias", &mut one.alias)?;
                if let Some(value) = item.find("import-values") {
                    let items = value
                        .as_array()
                        .ok_or_else(|| item.wrong("import-values", value, "[]interface {}"))?;
                    one.import_values.clone_from(items);
                }
                all.push(Rc::new(RefCell::new(one)));
            }
            self.dependencies = Some(all);
        }
        Ok(())
    }

    /// Cleans the texts, and says in Helm's words what is not allowed.
    pub(super) fn validate(&mut self) -> Result<(), String> {
        let said = |why: &str| Err(format!("validation: {why}"));
        for text in [
            &mut self.name,
            &mut self.description,
            &mut self.home,
            &mut self.icon,
            &mut self.condition,
            &mut self.tags,
            &mut self.app_version,
            &mut self.kube_version,
        ]
        .into_iter()
        .chain(&mut self.sources)
        .chain(&mut self.keywords)
        {
            clean(text);
        }
        if self.api_version.is_empty() {
            return said("chart.metadata.apiVersion is required");
        }
        if self.name.is_empty() {
            return said("chart.metadata.name is required");
        }
        if self.name == "." || self.name == ".." {
            return said(&format!("chart.metadata.name {:?} is not allowed", self.name));
        }
        if self.name.contains('/') {
            return said(&format!("chart.metadata.name {:?} is invalid", self.name));
        }
        if self.version.is_empty() {
            return said("chart.metadata.version is required");
        }
        // Every version is in this range.
        if !satisfies(">=0.0.0-0", &self.version) {
            return said(&format!("chart.metadata.version {:?} is invalid", self.version));
        }
        if !matches!(self.kind.as_str(), "" | "application" | "library") {
            return said("chart.metadata.type must be application or library");
        }
        for maintainer in &mut self.maintainers {
            [&mut maintainer.name, &mut maintainer.email, &mut maintainer.url].into_iter().for_each(clean);
        }
        let mut names: Vec<String> = Vec::new();
        for dependency in self.dependencies.iter().flatten() {
            let mut one = dependency.borrow_mut();
            let one = &mut *one;
            [&mut one.name, &mut one.version, &mut one.repository, &mut one.condition]
                .into_iter()
                .chain(&mut one.tags)
                .for_each(clean);
            if !one.alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
                return said(&format!("dependency {:?} has disallowed characters in the alias", one.name));
            }
            let key = if one.alias.is_empty() { &one.name } else { &one.alias };
            if names.contains(key) {
                return said(&format!("more than one dependency with name or alias {key:?}"));
            }
            names.push(key.clone());
        }
        Ok(())
    }
}

/// Blanks of any kind are blanks, and what cannot be printed is nothing.
fn clean(text: &mut String) {
    if text.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' ')) {
        *text = text
            .chars()
            .filter(|c| c.is_whitespace() || !c.is_control())
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .collect();
    }
}

/// A Go struct that templates see.
pub(super) struct Struct {
    /// Its type.
    pub(super) name: &'static str,
    /// `struct`, or `ptr`.
    pub(super) kind: &'static str,
    /// Fields in Go's order, with their names in JSON and whether they are left out there when empty.
    pub(super) fields: Vec<(&'static str, &'static str, bool, Value)>,
    /// What it prints instead of its fields, and the methods that give the same.
    pub(super) text: Option<(String, &'static [&'static str])>,
}

impl Struct {
    pub(super) fn value(self) -> Value {
        Value::Object(Rc::new(self))
    }
}

impl Object for Struct {
    fn type_name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        if let Some((text, methods)) = &self.text
            && methods.contains(&name)
        {
            return Some(Ok(Value::text(text)));
        }
        let (.., value) = self.fields.iter().find(|(field, ..)| *field == name)?;
        if !arguments.is_empty() {
            return Some(Err(format!("{name} has arguments but cannot be invoked as function")));
        }
        Some(Ok(value.clone()))
    }

    fn print(&self) -> String {
        if let Some((text, _)) = &self.text {
            return text.clone();
        }
        let fields: Vec<String> = self.fields.iter().map(|(.., value)| value.print()).collect();
        format!("{}{{{}}}", if self.kind == "ptr" { "&" } else { "" }, fields.join(" "))
    }

    fn json(&self) -> Json {
        let mut map = Map::new();
        for (_, name, omit, value) in &self.fields {
            if !*omit || value.truth() {
                map.insert((*name).to_owned(), value.json().unwrap_or_default());
            }
        }
        Json::Object(map)
    }
}

fn text_map(map: &BTreeMap<String, String>) -> Value {
    Value::TextMap(fields(map.iter().map(|(name, text)| (name.clone(), Value::text(text)))))
}

/// `.Chart`.
pub(super) fn chart(metadata: &Metadata, root: bool) -> Value {
    let maintainer = |one: &Maintainer| {
        let fields = vec![
            ("Name", "name", true, Value::text(&one.name)),
            ("Email", "email", true, Value::text(&one.email)),
            ("URL", "url", true, Value::text(&one.url)),
        ];
        Struct { name: "*chart.Maintainer", kind: "ptr", fields, text: None }.value()
    };
    let dependency = |one: &Rc<RefCell<Dependency>>| {
        let one = one.borrow();
        let imports: Vec<Value> = one.import_values.iter().map(Value::from_json).collect();
        let fields = vec![
            ("Name", "name", false, Value::text(&one.name)),
            ("Version", "version", true, Value::text(&one.version)),
            ("Repository", "repository", false, Value::text(&one.repository)),
            ("Condition", "condition", true, Value::text(&one.condition)),
            ("Tags", "tags", true, Value::texts(&one.tags)),
            ("Enabled", "enabled", true, Value::Bool(one.enabled)),
            ("ImportValues", "import-values", true, Value::list(imports)),
            ("Alias", "alias", true, Value::text(&one.alias)),
        ];
        Struct { name: "*chart.Dependency", kind: "ptr", fields, text: None }.value()
    };
    let m = metadata;
    let dependencies = m.dependencies.iter().flatten().map(dependency).collect();
    let fields = vec![
        ("Name", "name", true, Value::text(&m.name)),
        ("Home", "home", true, Value::text(&m.home)),
        ("Sources", "sources", true, Value::texts(&m.sources)),
        ("Version", "version", true, Value::text(&m.version)),
        ("Description", "description", true, Value::text(&m.description)),
        ("Keywords", "keywords", true, Value::texts(&m.keywords)),
        ("Maintainers", "maintainers", true, Value::list(m.maintainers.iter().map(maintainer).collect())),
        ("Icon", "icon", true, Value::text(&m.icon)),
        ("APIVersion", "apiVersion", true, Value::text(&m.api_version)),
        ("Condition", "condition", true, Value::text(&m.condition)),
        ("Tags", "tags", true, Value::text(&m.tags)),
        ("AppVersion", "appVersion", true, Value::text(&m.app_version)),
        ("Deprecated", "deprecated", true, Value::Bool(m.deprecated)),
        ("Annotations", "annotations", true, text_map(&m.annotations)),
        ("KubeVersion", "kubeVersion", true, Value::text(&m.kube_version)),
        ("Dependencies", "dependencies", true, Value::list(dependencies)),
        ("Type", "type", true, Value::text(&m.kind)),
        ("IsRoot", "IsRoot", false, Value::Bool(root)),
    ];
    // The metadata is a struct inside of this one.
    let inner: Vec<String> = fields.iter().rev().skip(1).rev().map(|(.., value)| value.print()).collect();
    let text = Some((format!("{{{{{}}} {root}}}", inner.join(" ")), [].as_slice()));
    Struct { name: "struct { chart.Metadata; IsRoot bool }", kind: "struct", fields, text }.value()
}

/// `.Capabilities.HelmVersion`.
pub(super) fn helm_version() -> Value {
    let fields = vec![
        ("Version", "version", true, Value::text(super::VERSION)),
        ("GitCommit", "git_commit", true, Value::text("")),
        ("GitTreeState", "git_tree_state", true, Value::text("")),
        ("GoVersion", "go_version", true, Value::text("go1.26.8")),
    ];
    Struct { name: "version.BuildInfo", kind: "struct", fields, text: None }.value()
}
