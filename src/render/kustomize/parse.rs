//! Text to nodes: YAML as kustomize reads it (go-yaml v3), which differs from kubectl.
//!
//! `yes` and `on` are text, equal keys are refused, an explicit key wins over a merged one.

use std::collections::HashSet;

use super::node::{Kind, Node, NodeId, Nodes, Parsed, Place, Tag};
use crate::error::{Code, Error, Result};
use crate::model::yaml::{self, Content, MAX_DEPTH, MAX_NODES, Syntax, core};

/// The documents of a file, without empty ones; aliases and merges are resolved. The text begins in line `first`.
pub(super) fn documents(nodes: &mut Nodes, bytes: &[u8], file: &str, first: usize) -> Result<Vec<NodeId>> {
    let number = u32::try_from(nodes.files.len()).unwrap_or(u32::MAX);
    nodes.files.push(file.into());
    let mut syntax = yaml::syntax(bytes, file)?;
    // go-yaml v3 adds no line break to a block at the end of a file without one.
    if !bytes.ends_with(b"\n")
        && let Some(last) = syntax.last_mut()
        && let Some(Content::Scalar { text, block: true, .. }) =
            last.nodes.last_mut().map(|node| &mut node.content)
        && text.ends_with('\n')
    {
        text.pop();
    }
    let mut roots = Vec::new();
    for document in &syntax {
        let mut reader =
            Reader { nodes, syntax: document, file, number, first, inside: Vec::new(), made: 0, aliased: 0 };
        let root = reader.node(document.root)?;
        if !nodes.is_null(root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// As [`documents`], apart from any build.
pub(super) fn parsed(bytes: &[u8], file: &str) -> Result<Parsed> {
    let mut nodes = Nodes::default();
    let roots = documents(&mut nodes, bytes, file, 1)?;
    Ok(nodes.into_parsed(roots))
}

struct Reader<'a> {
    nodes: &'a mut Nodes,
    syntax: &'a Syntax,
    file: &'a str,
    number: u32,
    first: usize,
    /// Aliases that are being expanded.
    inside: Vec<usize>,
    /// Nodes made, and of those the ones below an alias.
    made: usize,
    aliased: usize,
}

impl Reader<'_> {
    fn fail(&self, code: Code, at: usize, why: impl Into<String>) -> Error {
        let node = &self.syntax.nodes[at];
        Error::new(code, why).in_file(self.file).at(node.line + self.first - 1, node.column)
    }

    fn node(&mut self, at: usize) -> Result<NodeId> {
        if self.nodes.len() > MAX_NODES {
            return Err(self.fail(Code::BudgetExceeded, at, "more than 4,000,000 nodes"));
        }
        self.made += 1;
        self.aliased += usize::from(!self.inside.is_empty());
        // As for kubectl's reader: of a document that is nearly nothing but copies, the rest would be too.
        if self.made > 1_000 && self.aliased > 100 && self.aliased * 100 > self.made * 99 {
            return Err(self.fail(Code::BudgetExceeded, at, "the document contains excessive aliasing"));
        }
        let syntax = self.syntax;
        let line = u32::try_from(syntax.nodes[at].line + self.first - 1).unwrap_or(0);
        let place = Place { file: self.number, line };
        let node = match &syntax.nodes[at].content {
            Content::Scalar { text, plain, tag, .. } => {
                let tag = match tag.as_deref() {
                    None if *plain => Tag::of(&core(text)),
                    None | Some("str") => Tag::Text,
                    Some("int") => Tag::Int,
                    Some("float") => Tag::Float,
                    Some("bool") => Tag::Bool,
                    Some("null") => Tag::Null,
                    Some("timestamp") => Tag::Time,
                    Some("binary") => Tag::Binary,
                    Some(_) => Tag::Own,
                };
                Node { quoted: !plain, ..Node::scalar(text.as_str(), tag) }
            }
            Content::Sequence(items) => {
                let children = items.iter().map(|item| self.node(*item)).collect::<Result<_>>()?;
                Node { children, ..Node::empty(Kind::Sequence) }
            }
            Content::Mapping(_) => Node { children: self.pairs(at)?, ..Node::empty(Kind::Mapping) },
            Content::Alias(target) => {
                let target = *target;
                self.enter(at, target)?;
                let id = self.node(target)?;
                self.inside.pop();
                return Ok(id);
            }
        };
        Ok(self.nodes.add(Node { place, ..node }))
    }

    fn enter(&mut self, at: usize, target: usize) -> Result<()> {
        if self.inside.contains(&target) {
            return Err(self.fail(Code::ManifestInvalid, at, "an anchor's value contains itself"));
        }
        if self.inside.len() >= MAX_DEPTH {
            return Err(self.fail(Code::BudgetExceeded, at, "aliases nested deeper than 512 levels"));
        }
        self.inside.push(target);
        Ok(())
    }

    /// Keys and values in turn: merged ones first, each replaced by an explicit one of the same key.
    fn pairs(&mut self, at: usize) -> Result<Vec<NodeId>> {
        let syntax = self.syntax;
        let Content::Mapping(pairs) = &syntax.nodes[at].content else {
            return Err(self.fail(Code::ManifestInvalid, at, "a merge key needs a map or a list of maps"));
        };
        let is_merge = |key: usize| {
            matches!(&syntax.nodes[key].content,
                Content::Scalar { text, plain: true, tag: None, .. } if text == "<<")
        };
        let mut merged: Vec<NodeId> = Vec::new();
        let mut merges = pairs.iter().filter(|(key, _)| is_merge(*key));
        if let Some((key, value)) = merges.next() {
            if merges.next().is_some() {
                return Err(self.fail(Code::ManifestInvalid, *key, "two merge keys in one map"));
            }
            merged = self.merged(*value)?;
        }
        let mut own = Vec::with_capacity(2 * pairs.len());
        let mut seen: HashSet<&str> = HashSet::new();
        let mut dropped = !merged.is_empty();
        for (key, value) in pairs {
            if is_merge(*key) {
                continue;
            }
            let mut name = *key;
            if let Content::Alias(target) = syntax.nodes[name].content {
                name = target;
            }
            let Content::Scalar { text, .. } = &syntax.nodes[name].content else {
                return Err(self.fail(Code::ManifestInvalid, *key, "a key must be a scalar"));
            };
            // kustomize drops a key `"<<"` too, quoted or not.
            if text == "<<" && !dropped {
                dropped = true;
                continue;
            }
            if !seen.insert(text) {
                return Err(self.fail(
                    Code::ManifestInvalid,
                    *key,
                    format!("the key {text} stands twice in one map"),
                ));
            }
            own.extend([self.node(name)?, self.node(*value)?]);
        }
        if merged.is_empty() {
            return Ok(own);
        }
        for pair in own.as_chunks::<2>().0 {
            self.put(&mut merged, *pair);
        }
        Ok(merged)
    }

    fn put(&self, into: &mut Vec<NodeId>, [key, value]: [NodeId; 2]) {
        let name = &self.nodes[key].text;
        let pairs = into.as_chunks_mut::<2>().0;
        match pairs.iter_mut().find(|pair| self.nodes[pair[0]].text == *name) {
            Some(pair) => *pair = [key, value],
            None => into.extend([key, value]),
        }
    }

    /// What a merge key brings; of several maps the first wins.
    fn merged(&mut self, at: usize) -> Result<Vec<NodeId>> {
        match &self.syntax.nodes[at].content {
            Content::Alias(target) => {
                let target = *target;
                self.enter(at, target)?;
                let pairs = self.pairs(target)?;
                self.inside.pop();
                Ok(pairs)
            }
            Content::Sequence(items) => {
                let mut all = Vec::new();
                for item in items.clone().into_iter().rev() {
                    let pairs = self.merged(item)?;
                    for pair in pairs.as_chunks::<2>().0 {
                        self.put(&mut all, *pair);
                    }
                }
                Ok(all)
            }
            _ => self.pairs(at),
        }
    }
}
