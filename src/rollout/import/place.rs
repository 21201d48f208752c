//! Documents, where things stand in them, and what is said about them.

use std::fmt;

use serde_json::Value;

use crate::error::Result;
use crate::model::yaml::{self, Content, Syntax};

/// A document, and where its fields are.
pub struct Source {
    file: String,
    pub(super) value: Value,
    line: usize,
    syntax: Option<Syntax>,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// `ManifestInvalid` for what is not YAML.
    pub fn read(text: &[u8], file: &str) -> Result<Vec<Self>> {
        let documents = yaml::read(text, file)?;
        // Several JSON documents in a row are no YAML: then only the document's line is known.
        let mut syntaxes = yaml::syntax(text, file).unwrap_or_default();
        let sources = documents.into_iter().map(|document| {
            let own = |syntax: &Syntax| syntax.nodes[syntax.root].line == document.line;
            let syntax = syntaxes.iter().position(own).map(|at| syntaxes.swap_remove(at));
            Self { file: file.to_owned(), value: document.value, line: document.line, syntax }
        });
        Ok(sources.collect())
    }

    pub(super) fn is_of(&self, file: &str) -> bool {
        self.file == file
    }

    /// The line of a field, or of what is nearest around it.
    fn line_of(&self, pointer: &str) -> usize {
        let Some(syntax) = &self.syntax else { return self.line };
        let (mut at, mut line) = (syntax.root, self.line);
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            // An alias leads to what stands before it.
            while let Content::Alias(to) = syntax.nodes[at].content {
                at = to;
            }
            let next = match &syntax.nodes[at].content {
                Content::Sequence(items) => {
                    token.parse().ok().and_then(|at: usize| items.get(at)).map(|item| (*item, *item))
                }
                Content::Mapping(fields) => fields.iter().rfind(|(name, _)| {
                    matches!(&syntax.nodes[*name].content, Content::Scalar { text, .. } if *text == token)
                }).copied(),
                _ => None,
            };
            let Some((name, value)) = next else { break };
            line = syntax.nodes[name].line;
            at = value;
        }
        line
    }
}

/// A field of a document.
#[derive(Clone)]
pub(super) struct Place<'a> {
    source: &'a Source,
    pointer: String,
    /// Where the object begins in a List.
    base: usize,
}

impl<'a> Place<'a> {
    /// The objects of a document.
    pub(super) fn objects(source: &'a Source) -> Vec<Self> {
        let items = source.value["items"].as_array().filter(|_| source.value["kind"] == "List");
        let at = |pointer: String| Self { source, base: pointer.len(), pointer };
        match items {
            Some(items) => (0..items.len()).map(|item| at(format!("/items/{item}"))).collect(),
            None => vec![at(String::new())],
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.source.value.pointer(&self.pointer).unwrap_or(&Value::Null)
    }

    /// A field below, by its name, or an item by its number.
    pub(super) fn at(&self, name: impl fmt::Display) -> Self {
        let name = name.to_string().replace('~', "~0").replace('/', "~1");
        Self { pointer: format!("{}/{name}", self.pointer), ..self.clone() }
    }

    pub(super) fn is_there(&self) -> bool {
        !self.value().is_null()
    }

    /// The field, where it holds more than nothing.
    pub(super) fn stated(&self, name: &str) -> Option<Self> {
        let field = self.at(name);
        let empty = match field.value() {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        (!empty).then_some(field)
    }

    pub(super) fn is_stated(&self, name: &str) -> bool {
        self.stated(name).is_some()
    }

    /// The field, where it is an object, even an empty one.
    pub(super) fn stated_object(&self, name: &str) -> Option<Self> {
        Some(self.at(name)).filter(|field| field.value().is_object())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.value()[name].as_str().filter(|text| !text.is_empty())
    }

    /// A whole number, which may be written as a text.
    pub(super) fn whole(&self, name: &str) -> Option<i64> {
        let value = &self.value()[name];
        value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
    }

    pub(super) fn items(&self) -> Vec<Self> {
        let count = self.value().as_array().map_or(0, Vec::len);
        (0..count).map(|item| self.at(item)).collect()
    }

    pub(super) fn fields(&self) -> Vec<(&'a str, Self)> {
        let fields = self.value().as_object().into_iter().flatten();
        fields.map(|(name, _)| (name.as_str(), self.at(name))).collect()
    }

    /// `spec.metrics[0].name`.
    fn field(&self) -> String {
        self.pointer[self.base..].split('/').skip(1).fold(String::new(), |path, token| {
            let token = token.replace("~1", "/").replace("~0", "~");
            let is_item = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
            match (path.is_empty(), is_item) {
                (_, true) => format!("{path}[{token}]"),
                (true, false) => token,
                (false, false) => format!("{path}.{token}"),
            }
        })
    }

    /// `file:line`.
    pub(super) fn told(&self) -> String {
        format!("{}:{}", self.source.file, self.source.line_of(&self.pointer))
    }

    fn remark(&self, needs_person: bool, why: impl Into<String>) -> Remark {
        Remark {
            file: self.source.file.clone(),
            line: self.source.line_of(&self.pointer),
            field: self.field(),
            why: why.into(),
            needs_person,
        }
    }

    /// What is said where the conversion is not the same.
    pub(super) fn note(&self, why: impl Into<String>) -> Remark {
        self.remark(false, why)
    }

    /// What is said where there is none.
    pub(super) fn person(&self, why: impl Into<String>) -> Remark {
        self.remark(true, why)
    }
}

/// Something that is not converted exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub file: String,
    /// 1-based.
    pub line: usize,
    /// Such as `spec.metrics[0].provider`.
    pub field: String,
    /// Why, and what to do.
    pub why: String,
    /// A person must decide; else it was converted as well as it can be.
    pub needs_person: bool,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, field, why, needs_person } = self;
        let note = if *needs_person { "" } else { "note: " };
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        write!(f, "{file}:{line}: {note}{field}{why}")
    }
}
