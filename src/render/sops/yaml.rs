//! Encrypted YAML: values are put in place where they stand, so that lines, comments and the order of keys stay.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

use super::metadata::is_metadata;
use super::tree::{Leaf, Node, Pair, Plain};
use super::{Part, failed};
use crate::error::{Code, Error, Result};
use crate::model::yaml::{self, MAX_DEPTH, Scalar};

/// Nodes of one encrypted file.
const MAX_NODES: usize = 400_000;

/// One document of a stream.
pub(super) struct Document {
    /// Its map, without the metadata.
    pub(super) root: Node,
    /// The metadata, and the bytes it takes.
    pub(super) sops: Option<(Value, Range<usize>)>,
}

enum Open {
    List(Vec<Node>),
    Map(Vec<Pair>, Option<(String, usize)>),
}

/// Reads the documents whose root is a map; others hold nothing encrypted.
pub(super) fn read(text_of_stream: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Node> = None;
    let mut end_of_root = 0;
    let mut nodes = 0;
    for next in Parser::new_from_str(text_of_stream) {
        let (event, span) = next.map_err(|error| {
            let (line, column) = (error.marker().line(), error.marker().col() + 1);
            Error::new(Code::ManifestInvalid, "this is no YAML").at(line, column)
        })?;
        let range = span.byte_range().unwrap_or(0..0);
        let line = span.start.line();
        nodes += 1;
        if nodes > MAX_NODES || open.len() > MAX_DEPTH {
            return Err(failed("it is larger or nested deeper than an encrypted file may be").at(line, 0));
        }
        let node = match event {
            Event::Scalar(scalar, style, _, tag) => {
                let plain = style == ScalarStyle::Plain;
                let text = if plain && range.is_empty() { "" } else { &*scalar };
                let own = tag.as_ref().map(|tag| (tag.handle(), tag.suffix()));
                let value = match own {
                    Some(("tag:yaml.org,2002:", "str")) => Plain::Text(text.to_owned()),
                    Some(_) => return Err(failed("a value with a tag of its own cannot be read").at(line, 0)),
                    None if plain => typed(text),
                    None => Plain::Text(text.to_owned()),
                };
                if let Some(Open::Map(_, key @ None)) = open.last_mut() {
                    let Plain::Text(name) = value else {
                        return Err(failed("a key that is no text cannot be read").at(line, 0));
                    };
                    *key = Some((name, range.start));
                    continue;
                }
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                let span = if block { with_sign(text_of_stream, &range) } else { range };
                Node::Leaf(Leaf { value, span, line, opened: false })
            }
            Event::SequenceStart(..) => {
                if matches!(open.last(), Some(Open::Map(_, None))) {
                    return Err(failed("a key that is no text cannot be read").at(line, 0));
                }
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                if matches!(open.last(), Some(Open::Map(_, None))) {
                    return Err(failed("a key that is no text cannot be read").at(line, 0));
                }
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                end_of_root = range.start;
                match open.pop() {
                    Some(Open::List(items)) => Node::List(items),
                    Some(Open::Map(pairs, _)) => Node::Map(pairs),
                    None => continue,
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                return Err(failed("sops writes no aliases, so one has come in later").at(line, 0));
            }
            Event::DocumentEnd => {
                if let Some(Node::Map(pairs)) = root.take() {
                    documents.push(document(pairs, end_of_root.min(text_of_stream.len()))?);
                }
                continue;
            }
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(pairs, key)) => {
                if let Some((key, at)) = key.take() {
                    pairs.push(Pair { key, at, node });
                }
            }
            None => root = Some(node),
        }
    }
    Ok(documents)
}

/// The place of a block from its `|` or `>` on; empty where a comment stands behind that sign.
fn with_sign(text: &str, content: &Range<usize>) -> Range<usize> {
    let before = text.get(..content.start).unwrap_or_default().trim_end();
    let sign = before.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
    if sign.ends_with(['|', '>']) { sign.len() - 1..content.end } else { 0..0 }
}

/// A plain scalar to readers on the base of go-yaml v3, as SOPS is one.
fn typed(text: &str) -> Plain {
    match yaml::core(text) {
        Scalar::Null => Plain::Null,
        Scalar::Bool(value) => Plain::Bool(value),
        Scalar::Int(value) => Plain::Int(value),
        Scalar::Float(value) => Plain::Float(value),
        Scalar::Time(text) => Plain::Time(text),
        Scalar::Text(text) => Plain::Text(text),
        Scalar::Large(value) => Plain::Text(value.to_string()),
    }
}

fn document(mut pairs: Vec<Pair>, end: usize) -> Result<Document> {
    let places: Vec<usize> =
        pairs.iter().enumerate().filter(|(_, pair)| pair.key == "sops").map(|(place, _)| place).collect();
    let sops = match places[..] {
        [] => None,
        [place] => {
            let until = pairs.get(place + 1).map_or(end, |next| next.at);
            let value = pairs[place].node.value();
            if is_metadata(&value) {
                let pair = pairs.remove(place);
                Some((value, pair.at..until.max(pair.at)))
            } else {
                None
            }
        }
        _ => return Err(failed("it has two sops parts")),
    };
    Ok(Document { root: Node::Map(pairs), sops })
}

/// The text with opened values in place and without the metadata.
pub(super) fn write(text: &str, parts: &[Part]) -> Result<String> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for part in parts {
        collect(text, &part.root, &mut edits)?;
        // Lines below stay where they are.
        let old = text.get(part.removed.clone()).unwrap_or_default();
        let below = text.get(part.removed.end..).unwrap_or_default();
        let kept = if below.trim().is_empty() { 0 } else { old.matches('\n').count() };
        edits.push((part.removed.clone(), "\n".repeat(kept)));
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in &edits {
        let kept = text.get(at..range.start).ok_or_else(|| Error::new(Code::Internal, "values overlap"))?;
        out.push_str(kept);
        out.push_str(new);
        at = range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Ok(out)
}

/// What changes below a node.
fn collect(text: &str, node: &Node, edits: &mut Vec<(Range<usize>, String)>) -> Result<()> {
    match node {
        Node::Map(pairs) => pairs.iter().try_for_each(|pair| collect(text, &pair.node, edits)),
        Node::List(items) => {
            let nothing = items.iter().all(Node::is_comment);
            for (place, item) in items.iter().enumerate() {
                let Node::Leaf(Leaf { value: Plain::Comment(_), span, line, .. }) = item else {
                    collect(text, item, edits)?;
                    continue;
                };
                // The item's dash becomes the comment's sign; a list of comments alone is empty.
                let before = text.get(..span.start).unwrap_or_default().trim_end();
                if !before.ends_with('-') {
                    return Err(failed("a comment stands where no list of lines is").at(*line, 0));
                }
                let sign = if nothing && place + 1 == items.len() { "[]" } else { "#" };
                edits.push((before.len() - 1..span.end, sign.to_owned()));
            }
            Ok(())
        }
        Node::Leaf(leaf) if leaf.opened => {
            let old = text.get(leaf.span.clone()).filter(|old| !old.is_empty());
            let old = old.ok_or_else(|| {
                failed("an encrypted value stands in a form that cannot be read").at(leaf.line, 0)
            })?;
            // A block scalar's place ends behind its line break.
            let tail = &old[old.trim_end().len()..];
            edits.push((leaf.span.clone(), scalar(&leaf.value) + tail));
            Ok(())
        }
        Node::Leaf(_) => Ok(()),
    }
}

/// A value in one line, for every reader of YAML the same.
fn scalar(value: &Plain) -> String {
    match value {
        Plain::Null => "null".into(),
        Plain::Bool(value) => value.to_string(),
        Plain::Int(value) => value.to_string(),
        Plain::Float(value) if value.is_nan() => ".nan".into(),
        Plain::Float(value) if value.is_infinite() => if *value > 0.0 { ".inf" } else { "-.inf" }.into(),
        Plain::Float(value) => yaml::emit(&Value::from(*value)).trim_end().to_owned(),
        Plain::Time(text) => text.clone(),
        Plain::Text(text) | Plain::Comment(text) => {
            let mut out = String::with_capacity(text.len() + 2);
            out.push('"');
            for c in text.chars() {
                match c {
                    '"' | '\\' => out.extend(['\\', c]),
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    '\r' => out.push_str("\\r"),
                    ' '..='~' => out.push(c),
                    '\u{a0}'..='\u{2027}'
                    | '\u{202a}'..='\u{d7ff}'
                    | '\u{e000}'..='\u{fefe}'
                    | '\u{ff00}'..='\u{fffd}' => {
                        out.push(c);
                    }
                    _ if u32::from(c) > 0xffff => out.push_str(&format!("\\U{:08X}", u32::from(c))),
                    _ => out.push_str(&format!("\\u{:04X}", u32::from(c))),
                }
            }
            out.push('"');
            out
        }
    }
}
