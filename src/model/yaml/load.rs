//! Events to JSON: anchors, merges, duplicate keys and budgets.

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::scalar::{self, Scalar};
use super::{Document, MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES};
use crate::error::{Code, Error, Result};

/// Index into the nodes of one document.
pub type NodeId = usize;

/// One node as it is written.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub content: Content,
    /// 1-based line it begins at.
    pub line: usize,
    /// 1-based column it begins at.
    pub column: usize,
}

/// What a node is, before any meaning is given to it.
#[derive(Clone, Debug)]
pub enum Content {
    /// Text; `tag` is the suffix of one of YAML's own tags (`int`), or `!` for any other.
    Scalar {
        /// The text without quotes and indentation.
        text: String,
        /// Neither quoted nor a block.
        plain: bool,
        /// `|` or `>`.
        block: bool,
        /// The tag that was written.
        tag: Option<String>,
    },
    /// A list.
    Sequence(Vec<NodeId>),
    /// A map, in the order of the text, doubles and merge keys included.
    Mapping(Vec<(NodeId, NodeId)>),
    /// `*name`, and the node it stands for.
    Alias(NodeId),
}

/// One document as it is written: anchors, merges and doubles are still there.
#[derive(Clone, Debug)]
pub struct Syntax {
    /// All nodes; a node's children come after it.
    pub nodes: Vec<Node>,
    /// The outermost.
    pub root: NodeId,
}

/// What is open while events come in.
enum Open {
    Sequence(NodeId, Vec<NodeId>),
    Mapping(NodeId, Vec<(NodeId, NodeId)>, Option<NodeId>),
}

fn invalid(why: impl Into<String>, line: usize, column: usize) -> Error {
    Error::new(Code::ManifestInvalid, why).at(line, column)
}

fn beyond(why: &str, line: usize) -> Error {
    Error::new(Code::BudgetExceeded, why).at(line, 0)
}

pub(super) fn load(text: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    each(text, |tree| {
        documents.extend(tree.finish()?);
        Ok(())
    })?;
    Ok(documents)
}

pub(super) fn syntax(text: &str) -> Result<Vec<Syntax>> {
    let mut documents = Vec::new();
    each(text, |tree| {
        documents.extend(tree.root.map(|root| Syntax { nodes: tree.nodes, root }));
        Ok(())
    })?;
    Ok(documents)
}

/// Hands over the nodes of each document.
fn each(text: &str, mut take: impl FnMut(Tree) -> Result<()>) -> Result<()> {
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    let mut tree = Tree::default();
    let mut total = 0;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| {
            let (marker, why) = (error.marker(), error.info().clone());
            // The parser has a limit of its own for flow collections (255).
            let deep = why.contains("recursion limit") || why.contains("nesting");
            if deep { beyond(&why, marker.line()) } else { invalid(why, marker.line(), marker.col() + 1) }
        })?;
        let (line, column) = (span.start.line(), span.start.col() + 1);
        if matches!(event, Event::DocumentEnd) {
            total += tree.nodes.len();
            take(std::mem::take(&mut tree))?;
            documents += 1;
            if documents > MAX_DOCUMENTS {
                return Err(beyond("more than 50,000 documents", line));
            }
        } else {
            tree.take(event, line, column, span.start.index() == span.end.index())?;
            if total + tree.nodes.len() > MAX_NODES {
                return Err(beyond("more than 4,000,000 nodes", line));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    open: Vec<Open>,
    root: Option<NodeId>,
    anchors: std::collections::HashMap<usize, NodeId>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: usize, column: usize, nothing: bool) -> Result<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let mut text = text.into_owned();
                // A value that is left out comes as `~`; whether it was written decides what a merge does with it.
                if plain && nothing {
                    text.clear();
                }
                // go-yaml ends a block scalar with a line break even at the end of a file without one.
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if block && text.contains('\r') {
                    text = text.replace("\r\n", "\n");
                }
                let tag = tag.map(|tag| suffix(&tag));
                let id = self.add(Content::Scalar { text, plain, block, tag }, anchor, line, column);
                self.place(id, line)
            }
            Event::SequenceStart(_, anchor, _) => {
                let id = self.add(Content::Sequence(Vec::new()), anchor, line, column);
                self.push(Open::Sequence(id, Vec::new()), line)
            }
            Event::MappingStart(_, anchor, _) => {
                let id = self.add(Content::Mapping(Vec::new()), anchor, line, column);
                self.push(Open::Mapping(id, Vec::new(), None), line)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(id, items)) => {
                    self.nodes[id].content = Content::Sequence(items);
                    self.place(id, line)
                }
                Some(Open::Mapping(id, pairs, _)) => {
                    self.nodes[id].content = Content::Mapping(pairs);
                    self.place(id, line)
                }
                None => Err(invalid("an end without a beginning", line, column)),
            },
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).copied();
                let target = target.ok_or_else(|| invalid("unknown anchor", line, column))?;
                let id = self.add(Content::Alias(target), 0, line, column);
                self.place(id, line)
            }
            Event::UnresolvedAlias(name) => Err(invalid(format!("unknown anchor '{name}'"), line, column)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, content: Content, anchor: usize, line: usize, column: usize) -> NodeId {
        self.nodes.push(Node { content, line, column });
        let id = self.nodes.len() - 1;
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        id
    }

    fn push(&mut self, open: Open, line: usize) -> Result<()> {
        if self.open.len() >= MAX_DEPTH {
            return Err(beyond("nested deeper than 512 levels", line));
        }
        self.open.push(open);
        Ok(())
    }

    fn place(&mut self, id: NodeId, line: usize) -> Result<()> {
        match self.open.last_mut() {
            Some(Open::Sequence(_, items)) => items.push(id),
            Some(Open::Mapping(_, pairs, key)) => match key.take() {
                Some(key) => pairs.push((key, id)),
                None => *key = Some(id),
            },
            None if self.root.is_none() => self.root = Some(id),
            None => return Err(invalid("a second root in one document", line, 0)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Document>> {
        let Some(root) = self.root else { return Ok(None) };
        let line = self.nodes[root].line;
        let mut reader = Reader { nodes: &self.nodes, decoded: 0, aliased: 0, depth: 0, inside: Vec::new() };
        let value = reader.value(root)?;
        Ok((!value.is_null()).then_some(Document { value, line }))
    }
}

/// `int` of `!!int`; a local tag keeps its `!`, which makes its scalar a string as in go-yaml.
fn suffix(tag: &Tag) -> String {
    if tag.handle() == "tag:yaml.org,2002:" { tag.suffix().to_owned() } else { "!".to_owned() }
}

struct Reader<'a> {
    nodes: &'a [Node],
    /// go-yaml's counters: nodes decoded, and of those the ones below an alias.
    decoded: u64,
    aliased: u64,
    /// How many aliases we are below.
    depth: usize,
    /// Nodes whose aliases are being expanded, to refuse an anchor that contains itself.
    inside: Vec<NodeId>,
}

impl Reader<'_> {
    /// go-yaml's rule against expansion bombs: with more nodes, a smaller share may come from aliases.
    fn count(&mut self, line: usize) -> Result<()> {
        self.decoded += 1;
        if self.depth > 0 {
            self.aliased += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio of counts far below 2^52")]
        let (aliased, decoded) = (self.aliased as f64, self.decoded as f64);
        let allowed = if decoded <= 400_000.0 {
            0.99
        } else if decoded >= 4_000_000.0 {
            0.10
        } else {
            0.99 - 0.89 * (decoded - 400_000.0) / 3_600_000.0
        };
        if self.aliased > 100 && self.decoded > 1000 && aliased / decoded > allowed {
            return Err(beyond("the document contains excessive aliasing", line));
        }
        Ok(())
    }

    fn value(&mut self, id: NodeId) -> Result<Value> {
        let node = &self.nodes[id];
        self.count(node.line)?;
        match &node.content {
            Content::Scalar { .. } => {
                let scalar = self.scalar(id)?;
                scalar.into_json().map_err(|why| invalid(why, node.line, node.column))
            }
            Content::Sequence(items) => {
                let values: Result<Vec<Value>> = items.iter().map(|item| self.value(*item)).collect();
                Ok(Value::Array(values?))
            }
            Content::Mapping(_) => {
                let mut map = Map::new();
                self.fill(id, &mut map)?;
                Ok(Value::Object(map))
            }
            Content::Alias(target) => self.below_alias(*target, id, Reader::value),
        }
    }

    fn below_alias<T>(
        &mut self,
        target: NodeId,
        at: NodeId,
        read: impl FnOnce(&mut Self, NodeId) -> Result<T>,
    ) -> Result<T> {
        // An alias inside the very node that carries the anchor: the node comes before its alias.
        if self.inside.contains(&target) || self.contains(target, at) {
            let node = &self.nodes[at];
            return Err(invalid("an anchor's value contains itself", node.line, node.column));
        }
        if self.inside.len() >= MAX_DEPTH {
            return Err(beyond("aliases nested deeper than 512 levels", self.nodes[at].line));
        }
        self.inside.push(target);
        self.depth += 1;
        let result = read(self, target);
        self.depth -= 1;
        self.inside.pop();
        result
    }

    /// Whether `inner` lies below `outer`; only asked for anchors whose node is a collection.
    fn contains(&self, outer: NodeId, inner: NodeId) -> bool {
        // Nodes are numbered in the order they begin, so what lies below has a higher number, and the
        // last node below is the last one begun before the next sibling.
        if inner <= outer {
            return false;
        }
        let mut last = outer;
        loop {
            last = match &self.nodes[last].content {
                Content::Sequence(items) => match items.last() {
                    Some(item) => *item,
                    None => break,
                },
                Content::Mapping(pairs) => match pairs.last() {
                    Some((_, value)) => *value,
                    None => break,
                },
                _ => break,
            };
        }
        inner <= last
    }

    fn scalar(&self, id: NodeId) -> Result<Scalar> {
        let node = &self.nodes[id];
        let Content::Scalar { text, plain, tag, .. } = &node.content else {
            return Err(invalid("a key must be a scalar", node.line, node.column));
        };
        match tag.as_deref() {
            None if *plain => Ok(scalar::plain(text)),
            None | Some("!") => Ok(Scalar::Text(text.clone())),
            Some(tag) => {
                scalar::tagged(tag, text, *plain).map_err(|why| invalid(why, node.line, node.column))
            }
        }
    }

    /// Puts a mapping's pairs into `map`, in order: a later key wins, and a merge overrides what stands
    /// before it, as in go-yaml v2.
    fn fill(&mut self, id: NodeId, map: &mut Map<String, Value>) -> Result<()> {
        let nodes = self.nodes;
        let Content::Mapping(pairs) = &nodes[id].content else {
            let node = &nodes[id];
            return Err(invalid(
                "map merge requires map or sequence of maps as the value",
                node.line,
                node.column,
            ));
        };
        for (key, value) in pairs {
            if self.is_merge(*key) {
                self.merge(*value, map)?;
                continue;
            }
            let mut name = *key;
            if let Content::Alias(target) = nodes[name].content {
                name = target;
            }
            self.count(nodes[*key].line)?;
            let name = self.scalar(name)?;
            let node = &nodes[*key];
            let name = name.into_key().map_err(|why| invalid(why, node.line, node.column))?;
            let value = self.value(*value)?;
            map.insert(name, value);
        }
        Ok(())
    }

    fn is_merge(&self, key: NodeId) -> bool {
        matches!(&self.nodes[key].content,
            Content::Scalar { text, plain, tag, .. } if text == "<<"
                && (*plain && tag.is_none() || tag.as_deref() == Some("merge")))
    }

    fn merge(&mut self, id: NodeId, map: &mut Map<String, Value>) -> Result<()> {
        self.count(self.nodes[id].line)?;
        match &self.nodes[id].content {
            Content::Alias(target) => {
                let target = *target;
                if !matches!(self.nodes[target].content, Content::Mapping(_)) {
                    return self.fill(target, map);
                }
                self.below_alias(target, id, |reader, target| reader.fill(target, map))
            }
            // Earlier maps win, so they are put in last.
            Content::Sequence(items) => {
                let items = items.clone();
                for item in items.into_iter().rev() {
                    match self.nodes[item].content {
                        Content::Alias(target) => {
                            self.below_alias(target, item, |reader, target| reader.fill(target, map))?;
                        }
                        _ => self.fill(item, map)?,
                    }
                }
                Ok(())
            }
            _ => self.fill(id, map),
        }
    }
}
