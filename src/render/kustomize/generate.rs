//! ConfigMaps and Secrets made from files and literals, and the hash in their names.

use base64::Engine as _;
use serde_json::Value;

use super::kustomization::GeneratorArguments;
use super::node::{Kind, Node, NodeId, Nodes, Place, Tag, invalid};
use super::resource::{Behavior, Resource, Resources};
use crate::error::Result;
use crate::model::Digest;

/// A key, its content and where that is written.
pub(super) type Pair = (String, Vec<u8>, Place);

/// Makes the object.
pub(super) fn object(
    nodes: &mut Nodes,
    kind: &str,
    arguments: &GeneratorArguments,
    pairs: Vec<Pair>,
) -> Result<Resource> {
    if arguments.name.is_empty() {
        return Err(invalid(format!("a generated {kind} needs a name")));
    }
    let root = nodes.add(Node::empty(Kind::Mapping));
    nodes.set_text(root, "apiVersion", "v1")?;
    nodes.set_text(root, "kind", kind)?;
    let mut resource = Resource::new(root);
    resource.set_name(nodes, &arguments.name)?;
    if !arguments.namespace.is_empty() {
        resource.set_namespace(nodes, &arguments.namespace)?;
    }
    if kind == "Secret" {
        let own = arguments.secret_type.as_str();
        let value = nodes.add_text(if own.is_empty() { "Opaque" } else { own }, Tag::Text);
        nodes.set(root, "type", Some(value))?;
        nodes.map_at(root, "data")?;
    }
    let mut pairs = pairs;
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    for window in pairs.windows(2) {
        if window[0].0 == window[1].0 {
            return Err(invalid(format!("{kind} {} has the key {} twice", arguments.name, window[0].0)));
        }
    }
    for (name, content, place) in pairs {
        let (field, text) = match String::from_utf8(content) {
            Ok(text) if kind == "Secret" => ("data", base64_lines(text.as_bytes())),
            Ok(text) => ("data", text),
            Err(error) if kind == "Secret" => ("data", base64_lines(error.as_bytes())),
            Err(error) => ("binaryData", base64_lines(error.as_bytes())),
        };
        put(nodes, root, field, &name, &text, place)?;
    }
    if let Some(options) = &arguments.options {
        for (field, strings) in [("labels", &options.labels), ("annotations", &options.annotations)] {
            let strings: Vec<(String, String)> = strings.clone().into_iter().collect();
            if !strings.is_empty() {
                resource.set_strings(nodes, field, &strings)?;
            }
        }
        if options.immutable {
            let value = nodes.add_text("true", Tag::Bool);
            nodes.set(root, "immutable", Some(value))?;
        }
    }
    resource.needs_hash = !arguments.options.as_ref().is_some_and(|options| options.disable_name_suffix_hash);
    resource.behavior = match arguments.behavior.as_str() {
        "replace" => Behavior::Replace,
        "merge" => Behavior::Merge,
        _ => Behavior::Create,
    };
    Ok(resource)
}

fn put(nodes: &mut Nodes, root: NodeId, field: &str, name: &str, text: &str, place: Place) -> Result<()> {
    let map = nodes.map_at(root, field)?;
    let value = nodes.add(Node { quoted: text.contains('\n'), place, ..Node::scalar(text, Tag::Text) });
    nodes.set(map, name, Some(value))
}

/// Base64 in lines of 70 characters where it is longer than one.
fn base64_lines(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    if text.len() < 70 {
        return text;
    }
    let mut out = String::with_capacity(text.len() + text.len() / 70 + 1);
    for (at, c) in text.chars().enumerate() {
        out.push(c);
        if at % 70 == 69 {
            out.push('\n');
        }
    }
    if !text.len().is_multiple_of(70) {
        out.push('\n');
    }
    out
}

/// The pairs of an env file: `KEY=value` in each line, `#` begins a comment. `number` is that of the file.
pub(super) fn env_lines(bytes: &[u8], file: &str, number: u32) -> Result<Vec<Pair>> {
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("the env file is not UTF-8").in_file(file))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).trim_start());
    let mut pairs = Vec::new();
    for (line, at) in lines.zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            pairs.push((key.to_owned(), value.as_bytes().to_vec(), Place { file: number, line: at }));
        }
    }
    Ok(pairs)
}

/// `key=value`; quotes around the value are taken off.
pub(super) fn literal(source: &str, place: Place) -> Result<Pair> {
    match source.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            let bytes = value.as_bytes();
            let quoted =
                bytes.len() >= 2 && matches!(bytes[0], b'"' | b'\'') && bytes[0] == bytes[bytes.len() - 1];
            let value = if quoted { &value[1..value.len() - 1] } else { value };
            Ok((key.to_owned(), value.as_bytes().to_vec(), place))
        }
        _ => Err(invalid(format!("the literal {source:?} has not the form key=value"))),
    }
}

/// Key and path of `[key=]path`.
pub(super) fn file_source(source: &str) -> Result<(&str, &str)> {
    match source.matches('=').count() {
        0 => Ok((source.rsplit('/').next().unwrap_or(source), source)),
        1 => match source.split_once('=') {
            Some((key, path)) if !key.is_empty() && !path.is_empty() => Ok((key, path)),
            _ => Err(invalid(format!("the file source {source:?} has not the form [key=]path"))),
        },
        _ => Err(invalid(format!("the file source {source:?} has more than one ="))),
    }
}

/// Adds a generated object, or puts it in the place of the one it changes.
pub(super) fn absorb(nodes: &mut Nodes, resources: &mut Resources, mut made: Resource) -> Result<()> {
    let wanted = made.id(nodes);
    let found = resources.named(nodes, wanted.name, |id| *id == wanted);
    let at = match (found.as_slice(), made.behavior) {
        ([], Behavior::Create) => return resources.append(nodes, made),
        ([], _) => {
            return Err(invalid(format!(
                "{wanted} does not exist; there is nothing to merge with or replace"
            )));
        }
        ([_], Behavior::Create) => {
            return Err(invalid(format!(
                "{wanted} exists; its generator needs the behavior merge or replace"
            )));
        }
        ([at], _) => *at,
        _ => return Err(invalid(format!("{wanted} could be merged into {} resources", found.len()))),
    };
    let old = resources.list[at].clone();
    for field in ["labels", "annotations"] {
        let strings = overlay(&old.strings(nodes, field), &made.strings(nodes, field));
        made.set_strings(nodes, field, &strings)?;
    }
    let (name, namespace) = (old.name(nodes).to_owned(), old.namespace(nodes).to_owned());
    made.set_name(nodes, &name)?;
    made.set_namespace(nodes, &namespace)?;
    if made.behavior == Behavior::Merge {
        for field in ["data", "binaryData"] {
            let mut all = std::collections::BTreeMap::new();
            for root in [old.root, made.root] {
                let map = nodes.field(root, field);
                let pairs = map.into_iter().flat_map(|map| nodes.pairs(map));
                all.extend(pairs.map(|(key, value)| {
                    (nodes[key].text.to_string(), (nodes[value].text.to_string(), nodes[value].place))
                }));
            }
            nodes.clear(made.root, field)?;
            for (name, (text, place)) in all {
                put(nodes, made.root, field, &name, &text, place)?;
            }
        }
        made.origin = old.origin;
    }
    made.needs_hash &= old.needs_hash;
    made.behavior = old.behavior;
    (made.previous, made.prefixes, made.suffixes, made.vars) =
        (old.previous, old.prefixes, old.suffixes, old.vars);
    made.transformations = old.transformations;
    made.number = old.number;
    resources.list[at] = made;
    Ok(())
}

fn overlay(below: &[(String, String)], above: &[(String, String)]) -> Vec<(String, String)> {
    let mut all: std::collections::BTreeMap<String, String> = below.iter().cloned().collect();
    all.extend(above.iter().cloned());
    all.into_iter().collect()
}

/// The suffix of a generated object's name: of its content, so that a change rolls out what uses it.
pub(super) fn hash(nodes: &Nodes, resource: &Resource) -> Result<String> {
    let field = |name: &str| -> Result<Option<Value>> {
        match nodes.field(resource.root, name) {
            None => Ok(None),
            Some(id) if nodes[id].kind == Kind::Scalar => Ok(Some(Value::from(&*nodes[id].text))),
            Some(id) => nodes.value(id).map(Some),
        }
    };
    let or_empty = |value: Option<Value>| value.unwrap_or_else(|| "".into());
    let mut content = serde_json::Map::new();
    // The name is looked for at a field "metadata/name", which no object has.
    content.insert("name".into(), "".into());
    content.insert("data".into(), or_empty(field("data")?));
    let extra = match resource.kind(nodes) {
        "Secret" => {
            content.insert("type".into(), or_empty(field("type")?));
            "stringData"
        }
        "ConfigMap" => "binaryData",
        other => return Err(invalid(format!("no hash is defined for the kind {other}"))),
    };
    content.insert("kind".into(), resource.kind(nodes).into());
    if let Some(extra_content) = field(extra)?.filter(Value::is_object) {
        content.insert(extra.into(), extra_content);
    }
    let mut json = String::new();
    go_json(&Value::Object(content), &mut json);
    let digest = Digest::of(json.as_bytes()).to_string();
    // Letters that can make words are replaced.
    let letter = |c| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        other => other,
    };
    Ok(digest.chars().take(10).map(letter).collect())
}

/// JSON as Go writes it: sorted keys, and `<`, `>`, `&` as escapes.
fn go_json(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            out.push('{');
            for (number, (name, value)) in fields.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                go_text(name, out);
                out.push(':');
                go_json(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                go_json(item, out);
            }
            out.push(']');
        }
        Value::String(text) => go_text(text, out),
        other => out.push_str(&other.to_string()),
    }
}

fn go_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
