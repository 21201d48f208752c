//! Encrypted dotenv and INI files: one value a line, edited in place.

use serde_json::{Map, Value};

use super::failed;
use super::tree::{Leaf, Node, Pair, Plain};
use crate::error::Result;

/// Longest list in the metadata.
const MAX_LIST: usize = 1000;

/// A line that is kept, with its value.
enum Line {
    /// As it is.
    Same(String),
    /// What stands before the value, and which leaf follows.
    Value { before: String, section: usize, place: usize },
}

/// A file in lines.
pub(super) struct Lines {
    kept: Vec<Line>,
    /// What SOPS sees, section by section; of a dotenv file there is one.
    pub(super) root: Node,
    /// The metadata.
    pub(super) sops: Value,
    ini: bool,
}

fn leaf(value: Plain, line: usize) -> Node {
    Node::Leaf(Leaf { value, span: 0..0, line, opened: false })
}

/// A dotenv file, where it has metadata.
pub(super) fn dotenv(text: &str) -> Result<Option<Lines>> {
    if !text.lines().any(|line| line.starts_with("sops_mac=") || line.starts_with("sops_lastmodified=")) {
        return Ok(None);
    }
    let mut lines = Vec::new();
    let mut pairs = Vec::new();
    let mut sops = Vec::new();
    for (number, line) in text.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let number = number + 1;
        if let Some(comment) = line.strip_prefix('#') {
            lines.push(Line::Value { before: "#".into(), section: 0, place: pairs.len() });
            // A comment has no name, so nothing is added to the path: see `root` below.
            pairs.push((None, leaf(Plain::Comment(comment.to_owned()), number)));
            continue;
        }
        let split = line.split_once('=');
        let (name, value) =
            split.ok_or_else(|| failed("a line is neither a comment nor NAME=VALUE").at(number, 0))?;
        let value = value.replace("\\n", "\n");
        if let Some(name) = name.strip_prefix("sops_") {
            sops.push((name.to_owned(), value));
            continue;
        }
        lines.push(Line::Value { before: format!("{name}="), section: 0, place: pairs.len() });
        pairs.push((Some(name.to_owned()), leaf(Plain::Text(value), number)));
    }
    Ok(Some(Lines { kept: lines, root: section(pairs), sops: unflatten(sops)?, ini: false }))
}

/// Comments stand in a list of their own, because a list adds nothing to the path.
fn section(items: Vec<(Option<String>, Node)>) -> Node {
    let each = items.into_iter().map(|(name, node)| match name {
        Some(key) => Node::Map(vec![Pair { key, at: 0, node }]),
        None => node,
    });
    Node::List(each.collect())
}

/// An INI file, where it has metadata.
pub(super) fn ini(text: &str) -> Result<Option<Lines>> {
    if !text.lines().any(|line| line.trim() == "[sops]") {
        return Ok(None);
    }
    let mut lines = Vec::new();
    let mut sections: Vec<Section> = vec![("DEFAULT".into(), Vec::new())];
    let mut sops = Vec::new();
    let mut in_sops = false;
    // A comment belongs to what follows it, and a comment before a section to that section.
    let mut comments: Vec<(String, usize)> = Vec::new();
    let mut rest = text.split('\n').enumerate().peekable();
    while let Some((number, line)) = rest.next() {
        let number = number + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() {
            if !in_sops && rest.peek().is_some() {
                lines.push(Line::Same("\n".into()));
            }
            continue;
        }
        if trimmed.starts_with(['#', ';']) {
            comments.push((trimmed.to_owned(), number));
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            in_sops = name == "sops";
            if in_sops {
                comments.clear();
                continue;
            }
            sections.push((name.to_owned(), Vec::new()));
            take_comments(&mut comments, &mut sections, &mut lines);
            lines.push(Line::Same(format!("{line}\n")));
            continue;
        }
        let (before, name, value) =
            assignment(line).ok_or_else(|| failed("a line is no NAME = VALUE").at(number, 0))?;
        let value = ini_value(value, &mut rest)
            .ok_or_else(|| failed("a value goes on over its line").at(number, 0))?;
        if in_sops {
            sops.push((name, value.replace("\\n", "\n")));
            continue;
        }
        take_comments(&mut comments, &mut sections, &mut lines);
        let at = sections.len() - 1;
        lines.push(Line::Value { before, section: at, place: sections[at].1.len() });
        sections[at].1.push((Some(name), leaf(Plain::Text(value), number)));
    }
    while matches!(lines.last(), Some(Line::Same(line)) if line.trim().is_empty()) {
        lines.pop();
    }
    let root = sections.into_iter().map(|(key, items)| Pair { key, at: 0, node: section(items) }).collect();
    Ok(Some(Lines { kept: lines, root: Node::Map(root), sops: unflatten(sops)?, ini: true }))
}

/// A section's name; its comments and named values.
type Section = (String, Vec<(Option<String>, Node)>);

fn take_comments(comments: &mut Vec<(String, usize)>, sections: &mut [Section], lines: &mut Vec<Line>) {
    let at = sections.len() - 1;
    for (comment, number) in comments.drain(..) {
        let (mark, text) = comment.split_at(1);
        lines.push(Line::Value { before: format!("{mark} "), section: at, place: sections[at].1.len() });
        sections[at].1.push((None, leaf(Plain::Comment(text.trim().to_owned()), number)));
    }
}

/// What stands before the value as it is written, the name, and the rest.
fn assignment(line: &str) -> Option<(String, String, &str)> {
    let trimmed = line.trim_start();
    let (name, after) = if let Some(rest) = trimmed.strip_prefix("\"\"\"") {
        rest.split_once("\"\"\"")?
    } else if let Some(rest) = trimmed.strip_prefix('`') {
        rest.split_once('`')?
    } else {
        trimmed.split_at(trimmed.find(['=', ':'])?)
    };
    let sign = after.find(['=', ':'])?;
    let value = after[sign + 1..].trim_start();
    Some((line[..line.len() - value.len()].to_owned(), name.trim().to_owned(), value))
}

/// A value without its quotes and without a comment behind it.
fn ini_value<'a>(first: &str, rest: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<String> {
    for quote in ["\"\"\"", "`"] {
        let Some(inner) = first.strip_prefix(quote) else { continue };
        let mut value = inner.to_owned();
        loop {
            if let Some(end) = value.find(quote) {
                value.truncate(end);
                return Some(value);
            }
            value.push('\n');
            value.push_str(rest.next()?.1);
        }
    }
    let line = first.trim();
    if line.ends_with('\\') {
        return None;
    }
    let line = line.find(['#', ';']).map_or(line, |at| line[..at].trim());
    let quoted = ['\'', '"'].iter().find_map(|quote| {
        let inner = line.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inner.contains(*quote)).then_some(inner)
    });
    Some(quoted.unwrap_or(line).to_owned())
}

impl Lines {
    /// The text with opened values in place.
    pub(super) fn write(&self) -> String {
        let mut out = String::new();
        for line in &self.kept {
            match line {
                Line::Same(text) => out.push_str(text),
                Line::Value { before, section, place } => {
                    let Some(leaf) = self.leaf(*section, *place) else { continue };
                    let text = match &leaf.value {
                        Plain::Bool(value) => value.to_string(),
                        value => value.text(),
                    };
                    let comment = matches!(leaf.value, Plain::Comment(_));
                    out.push_str(before);
                    let written = match (self.ini, comment) {
                        (true, true) => text.replace('\n', &format!("\n{before}")),
                        (true, false) if text.contains(['\n', '`']) => format!("\"\"\"{text}\"\"\""),
                        (true, false) if text.contains(['#', ';']) => format!("`{text}`"),
                        (true, false) if text.trim().len() != text.len() => format!("\"{text}\""),
                        (false, false) => text.replace('\n', "\\n"),
                        _ => text,
                    };
                    out.push_str(&written);
                    out.push('\n');
                }
            }
        }
        out
    }

    fn leaf(&self, section: usize, place: usize) -> Option<&Leaf> {
        let items = match &self.root {
            Node::Map(sections) => &sections.get(section)?.node,
            list => list,
        };
        let Node::List(items) = items else { return None };
        match items.get(place)? {
            Node::Map(pairs) => match &pairs.first()?.node {
                Node::Leaf(leaf) => Some(leaf),
                _ => None,
            },
            Node::Leaf(leaf) => Some(leaf),
            Node::List(_) => None,
        }
    }
}

/// `age__list_0__map_enc` to the tree it stands for.
fn unflatten(pairs: Vec<(String, String)>) -> Result<Value> {
    let mut root = Value::Object(Map::new());
    for (path, text) in pairs {
        place(&mut root, &path, text).ok_or_else(|| failed("its metadata cannot be read"))?;
    }
    Ok(root)
}

fn place(root: &mut Value, path: &str, text: String) -> Option<()> {
    let mut at = root;
    for (number, part) in path.split("__map_").enumerate() {
        for (depth, step) in part.split("__list_").enumerate() {
            // The first step of a part is a key, unless the part begins with a list.
            if depth == 0 {
                if step.is_empty() && number > 0 {
                    continue;
                }
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                at = at.as_object_mut()?.entry(step).or_insert(Value::Null);
            } else {
                let index: usize = step.parse().ok().filter(|index| *index < MAX_LIST)?;
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let list = at.as_array_mut()?;
                while list.len() <= index {
                    list.push(Value::Null);
                }
                at = &mut list[index];
            }
        }
    }
    *at = text.into();
    Some(())
}
