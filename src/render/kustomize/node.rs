//! The nodes of a build.
//!
//! Values keep the text they were written with: `1.10` copied into an annotation stays `1.10`. All nodes of a
//! build live in one list and are named by their place in it, because kustomize's own nodes are shared: a label
//! that one transformer sets at several places is one node, and a later change of it shows at all of them.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::model::yaml::{Scalar, core};

/// Names a node of [`Nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    Sequence,
    Mapping,
}

/// The type of a scalar as far as it was decided when the node was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// Not decided: the text decides once the object is complete.
    Open,
    Text,
    Int,
    Float,
    Bool,
    Null,
    Time,
    Binary,
    /// A tag that is not YAML's own; its scalar is text.
    Own,
}

impl Tag {
    pub(super) fn of(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(_) => Self::Bool,
            Scalar::Int(_) | Scalar::Large(_) => Self::Int,
            Scalar::Float(_) => Self::Float,
            Scalar::Text(_) => Self::Text,
            Scalar::Time(_) => Self::Time,
        }
    }
}

/// Where a node was read: an index into [`Nodes::files`] and a 1-based line, 0 for what no file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) line: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) tag: Tag,
    /// Quoted or a block: a number in it is text.
    pub(super) quoted: bool,
    /// An explicit null that a merge must not drop.
    pub(super) keep: bool,
    pub(super) text: Arc<str>,
    /// Items, or keys and values in turn.
    pub(super) children: Vec<NodeId>,
    pub(super) place: Place,
}

impl Node {
    pub(super) fn scalar(text: impl Into<Arc<str>>, tag: Tag) -> Self {
        Self { kind: Kind::Scalar, tag, text: text.into(), ..Self::empty(Kind::Scalar) }
    }

    pub(super) fn empty(kind: Kind) -> Self {
        Self {
            kind,
            tag: Tag::Open,
            quoted: false,
            keep: false,
            text: Arc::from(""),
            children: Vec::new(),
            place: Place::default(),
        }
    }

    /// Whether the node is a scalar that is text or not yet decided.
    pub(super) fn is_text(&self) -> bool {
        self.kind == Kind::Scalar && matches!(self.tag, Tag::Text | Tag::Open)
    }

    /// Null, or a collection without content.
    pub(super) fn is_empty(&self) -> bool {
        self.tag == Tag::Null || (self.kind != Kind::Scalar && self.children.is_empty())
    }
}

#[derive(Debug, Default)]
pub(super) struct Nodes {
    all: Vec<Node>,
    pub(super) files: Vec<Arc<str>>,
}

/// The nodes of one file, for any number of builds.
pub(super) struct Parsed {
    nodes: Vec<Node>,
    roots: Vec<NodeId>,
}

impl Parsed {
    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let one = |node: &Node| size_of::<Node>() + 16 + node.text.len() + 4 * node.children.len();
        self.nodes.iter().map(one).sum()
    }
}

impl Index<NodeId> for Nodes {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        &self.all[id.0 as usize]
    }
}

impl IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.all[id.0 as usize]
    }
}

/// A failure without a place yet.
pub(super) fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::KustomizationInvalid, why)
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn add(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(node);
        id
    }

    /// A file for the places of nodes.
    pub(super) fn file(&mut self, name: &str) -> u32 {
        self.files.push(name.into());
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes in what was read of a file apart from any build; gives its documents.
    pub(super) fn splice(&mut self, parsed: &Parsed, file: &str) -> Vec<NodeId> {
        let offset = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let number = self.file(file);
        self.all.extend(parsed.nodes.iter().map(|node| {
            let mut node = node.clone();
            node.children.iter_mut().for_each(|child| child.0 = child.0.saturating_add(offset));
            node.place.file = number;
            node
        }));
        parsed.roots.iter().map(|root| NodeId(root.0.saturating_add(offset))).collect()
    }

    /// All nodes as what was read of one file.
    pub(super) fn into_parsed(self, roots: Vec<NodeId>) -> Parsed {
        Parsed { nodes: self.all, roots }
    }

    pub(super) fn add_text(&mut self, text: &str, tag: Tag) -> NodeId {
        self.add(Node::scalar(text, tag))
    }

    /// An error at the place of a node.
    pub(super) fn fail(&self, id: NodeId, why: impl Into<String>) -> Error {
        let place = self[id].place;
        let error = invalid(why);
        match self.files.get(place.file as usize) {
            Some(file) if place.line > 0 => error.in_file(file).at(place.line as usize, 0),
            _ => error,
        }
    }

    pub(super) fn is_null(&self, id: NodeId) -> bool {
        self[id].tag == Tag::Null
    }

    pub(super) fn pairs(&self, id: NodeId) -> impl Iterator<Item = (NodeId, NodeId)> {
        let children: &[NodeId] = if self[id].kind == Kind::Mapping { &self[id].children } else { &[] };
        children.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value))
    }

    /// The value of a key; `None` too where the node is no map.
    pub(super) fn field(&self, map: NodeId, name: &str) -> Option<NodeId> {
        self.pairs(map).find(|(key, _)| &*self[*key].text == name).map(|(_, value)| value)
    }

    /// The text of a field, as it is written; null and collections have none.
    pub(super) fn text_of(&self, map: NodeId, name: &str) -> Option<&str> {
        self.field(map, name).map(|id| &self[id]).filter(|node| !node.is_empty()).map(|node| &*node.text)
    }

    /// The value of a key of a node that has to be a map or null.
    pub(super) fn get(&self, map: NodeId, name: &str) -> Result<Option<NodeId>> {
        if self.is_null(map) {
            return Ok(None);
        }
        self.expect(map, Kind::Mapping)?;
        Ok(self.field(map, name))
    }

    /// # Errors
    /// Where the node is something else; null is anything.
    pub(super) fn expect(&self, id: NodeId, kind: Kind) -> Result<()> {
        let words = |kind| match kind {
            Kind::Scalar => "a scalar",
            Kind::Sequence => "a list",
            Kind::Mapping => "a map",
        };
        if self.is_null(id) || self[id].kind == kind {
            return Ok(());
        }
        Err(self.fail(id, format!("here is {} where {} is needed", words(self[id].kind), words(kind))))
    }

    /// Removes the first pair with the key.
    pub(super) fn clear(&mut self, map: NodeId, name: &str) -> Result<()> {
        self.expect(map, Kind::Mapping)?;
        let found = self.pairs(map).position(|(key, _)| &*self[key].text == name);
        if let Some(at) = found {
            self[map].children.drain(2 * at..2 * at + 2);
        }
        Ok(())
    }

    /// Sets a field, or removes it where the value is missing or null. What is there keeps its style: a number
    /// put in the place of a quoted text is text.
    pub(super) fn set(&mut self, map: NodeId, name: &str, value: Option<NodeId>) -> Result<()> {
        let Some(value) = value else { return self.clear(map, name) };
        if self.is_null(value) && !self[value].keep {
            return self.clear(map, name);
        }
        self.quote_ambiguous(value);
        if let Some(field) = self.get(map, name)? {
            self.replace(field, value);
            return Ok(());
        }
        let key = self.add_text(name, Tag::Open);
        self[key].place = self[value].place;
        self[map].children.extend([key, value]);
        Ok(())
    }

    /// Sets the content of a scalar, in the style it has.
    pub(super) fn set_scalar(&mut self, id: NodeId, value: NodeId) -> Result<()> {
        self.quote_ambiguous(value);
        self.expect(id, Kind::Scalar)?;
        if !self.is_null(value) {
            self.replace(id, value);
        }
        Ok(())
    }

    pub(super) fn set_text(&mut self, map: NodeId, name: &str, text: &str) -> Result<()> {
        let value = self.add_text(text, Tag::Open);
        self.set(map, name, Some(value))
    }

    fn replace(&mut self, id: NodeId, value: NodeId) {
        if id != value {
            self[value].quoted = self[id].quoted;
            let mut node = self[value].clone();
            node.keep = false;
            self[id] = node;
        }
    }

    /// A bare text that a reader of YAML 1.1 takes for something else is quoted.
    fn quote_ambiguous(&mut self, id: NodeId) {
        let node = &self[id];
        if node.is_text() && !node.quoted && crate::model::yaml::is_ambiguous(&node.text) {
            self[id].quoted = true;
        }
    }

    /// The map at a field of a map, made where it is missing.
    pub(super) fn map_at(&mut self, map: NodeId, name: &str) -> Result<NodeId> {
        if let Some(found) = self.get(map, name)? {
            return Ok(found);
        }
        let made = self.add(Node::empty(Kind::Mapping));
        self.set(map, name, Some(made))?;
        Ok(made)
    }

    pub(super) fn copy(&mut self, id: NodeId) -> NodeId {
        let mut node = self[id].clone();
        for child in &mut node.children {
            *child = self.copy(*child);
        }
        self.add(node)
    }

    /// Follows a path of fields, indexes, `-` (the last item) and `[key=value]`.
    pub(super) fn lookup(&self, id: NodeId, path: &[String]) -> Result<Option<NodeId>> {
        let mut here = id;
        for part in path.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
            let found = if let Ok(index) = part.parse::<usize>() {
                self.expect(here, Kind::Sequence)?;
                self[here].children.get(index).copied()
            } else if part == "-" {
                self.expect(here, Kind::Sequence)?;
                self[here].children.last().copied()
            } else if let Some((name, value)) = list_index(part)? {
                self.expect(here, Kind::Sequence)?;
                self[here].children.iter().copied().find(|item| match name {
                    "" => &*self[*item].text == value,
                    name => self.field(*item, name).is_some_and(|field| &*self[field].text == value),
                })
            } else if part == "*" {
                return Err(self.fail(here, "a wildcard cannot be used here"));
            } else {
                self.get(here, part)?
            };
            match found {
                Some(found) => here = found,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// What the node means once the object is complete.
    pub(super) fn value(&self, id: NodeId) -> Result<Value> {
        let node = &self[id];
        match node.kind {
            Kind::Scalar => self.scalar(id),
            Kind::Sequence => {
                node.children.iter().map(|child| self.value(*child)).collect::<Result<_>>().map(Value::Array)
            }
            Kind::Mapping => {
                let mut map = Map::new();
                for (key, value) in self.pairs(id) {
                    let meaning = self.meaning(key)?;
                    let Scalar::Text(name) = meaning else {
                        let text = &self[key].text;
                        return Err(self.fail(key, format!("the key {text} is no text; put it in quotes")));
                    };
                    map.insert(name, self.value(value)?);
                }
                Ok(Value::Object(map))
            }
        }
    }

    fn scalar(&self, id: NodeId) -> Result<Value> {
        match self.meaning(id)? {
            Scalar::Large(whole) => Ok(whole.into()),
            Scalar::Float(float) => whole_or_float(float).ok_or_else(|| {
                self.fail(id, format!("{} has no form in JSON; put it in quotes", self[id].text))
            }),
            other => other.into_json().map_err(|why| self.fail(id, why)),
        }
    }

    /// A scalar with its type.
    pub(super) fn meaning(&self, id: NodeId) -> Result<Scalar> {
        let node = &self[id];
        let text = || Scalar::Text(node.text.to_string());
        let mismatch = |wanted: &str| Err(self.fail(id, format!("{:?} is put where {wanted} is", node.text)));
        Ok(match node.tag {
            Tag::Text | Tag::Own => text(),
            Tag::Open if node.quoted => text(),
            Tag::Open => core(&node.text),
            Tag::Binary => {
                let compact: String = node.text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
                match base64::engine::general_purpose::STANDARD.decode(compact) {
                    Ok(bytes) => Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()),
                    Err(_) => return Err(self.fail(id, "!!binary holds no base64")),
                }
            }
            tag => {
                let found = core(&node.text);
                match (tag, found) {
                    // In quotes, a number that keeps the type it had is a text to every reader.
                    (_, found) if Tag::of(&found) == tag => {
                        if node.quoted {
                            text()
                        } else {
                            found
                        }
                    }
                    #[expect(clippy::cast_precision_loss, reason = "a float is wanted")]
                    (Tag::Float, Scalar::Int(whole)) => Scalar::Float(whole as f64),
                    (Tag::Int, _) => return mismatch("a whole number"),
                    (Tag::Float, _) => return mismatch("a number"),
                    (Tag::Bool, _) => return mismatch("true or false"),
                    (Tag::Null, _) => return mismatch("null"),
                    _ => return mismatch("a date"),
                }
            }
        })
    }

    /// Nodes of a value.
    pub(super) fn read(&mut self, value: &Value, place: Place) -> NodeId {
        let mut node = match value {
            Value::Null => Node::scalar("null", Tag::Null),
            Value::Bool(value) => Node::scalar(value.to_string(), Tag::Bool),
            Value::Number(number) => {
                Node::scalar(number.to_string(), if number.is_f64() { Tag::Float } else { Tag::Int })
            }
            Value::String(text) => {
                let quoted = text.is_empty() || text.contains('\n') || crate::model::yaml::is_ambiguous(text);
                Node { quoted, ..Node::scalar(text.as_str(), Tag::Text) }
            }
            Value::Array(items) => {
                let children = items.iter().map(|item| self.read(item, place)).collect();
                Node { children, ..Node::empty(Kind::Sequence) }
            }
            Value::Object(fields) => {
                let mut children = Vec::with_capacity(2 * fields.len());
                for (name, value) in fields {
                    let key = self.add(Node { place, ..Node::scalar(name.as_str(), Tag::Text) });
                    children.extend([key, self.read(value, place)]);
                }
                Node { children, ..Node::empty(Kind::Mapping) }
            }
        };
        node.place = place;
        self.add(node)
    }
}

/// A number as JSON text and back leave it.
pub(super) fn whole_or_float(float: f64) -> Option<Value> {
    // 2^63 and 2^64.
    const SIGNED: f64 = 9_223_372_036_854_775_808.0;
    if !float.is_finite() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
    if float.fract() == 0.0 && float.abs() < SIGNED {
        return Some((float as i64).into());
    } else if float.fract() == 0.0 && float > 0.0 && float < 2.0 * SIGNED {
        return Some((float as u64).into());
    }
    serde_json::Number::from_f64(float).map(Value::Number)
}

/// `name` and `value` of `[name=value]`; the name is empty where the items are scalars.
pub(super) fn list_index(part: &str) -> Result<Option<(&str, &str)>> {
    let Some(inner) = part.strip_prefix('[').and_then(|part| part.strip_suffix(']')) else { return Ok(None) };
    let pair = inner.split_once('=');
    pair.map(Some).ok_or_else(|| invalid(format!("{part} in a field path needs the form [name=value]")))
}

/// The parts of a path; `\` before the delimiter takes it into the part.
pub(super) fn split_path(path: &str, delimiter: char) -> Vec<String> {
    let path = path.strip_prefix(delimiter).unwrap_or(path);
    let mut parts: Vec<String> = Vec::new();
    for part in path.split(delimiter) {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(delimiter);
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}

/// As [`split_path`] at dots; what stands in brackets is one part.
pub(super) fn split_field_path(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = split_path(path, '.').into_iter();
    while let Some(mut part) = rest.next() {
        if part.starts_with('[') && !part.ends_with(']') {
            for next in rest.by_ref() {
                part = format!("{part}.{next}");
                if next.ends_with(']') {
                    break;
                }
            }
            if !part.contains('=') {
                part = part.trim_matches(['[', ']']).into();
            }
        }
        parts.push(part);
    }
    parts
}
