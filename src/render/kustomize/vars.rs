//! `vars`: `$(NAME)` stands for a field of another object.

use std::collections::{BTreeMap, HashMap};

use super::fields::Fields;
use super::kustomization::Var;
use super::node::{Kind, NodeId, Nodes, Tag, invalid, split_field_path};
use super::resource::{Resources, effective};
use crate::error::Result;

/// Notes which object each var is of, and keeps the var.
pub(super) fn collect(
    nodes: &Nodes,
    resources: &mut Resources,
    known: &mut BTreeMap<String, Var>,
    vars: &[Var],
) -> Result<()> {
    for var in vars {
        let target = &var.objref;
        let (group, version) = match target.api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None if !target.api_version.is_empty() => (target.group.as_str(), target.api_version.as_str()),
            None => (target.group.as_str(), target.version.as_str()),
        };
        let found = resources.named(nodes, &target.name, |id| {
            (id.group, id.version, id.kind) == (group, version, &target.kind)
                && (target.namespace.is_empty() || effective(&target.namespace, false) == id.namespace)
        });
        match found.as_slice() {
            [] => {}
            [one] => resources.list[*one].vars.push(var.name.clone()),
            _ => return Err(invalid(format!("the var {} could be of {} resources", var.name, found.len()))),
        }
    }
    vars.iter().try_for_each(|var| keep(known, var.clone()))
}

/// Adds a var.
///
/// # Errors
/// Where one of this name is known.
pub(super) fn keep(known: &mut BTreeMap<String, Var>, mut var: Var) -> Result<()> {
    if var.fieldref.field_path.is_empty() {
        "metadata.name".clone_into(&mut var.fieldref.field_path);
    }
    match known.insert(var.name.clone(), var) {
        None => Ok(()),
        Some(old) => Err(invalid(format!("the var {} is defined twice", old.name))),
    }
}

/// What a var stands for.
#[derive(Clone)]
enum Meaning {
    Text(String),
    Typed(String, Tag),
    /// A list or a map; it cannot stand in a text.
    None,
}

/// Puts every var in its places.
pub(super) fn resolve(
    nodes: &mut Nodes,
    resources: &Resources,
    vars: &BTreeMap<String, Var>,
    fields: &Fields,
) -> Result<()> {
    let mut meanings = HashMap::new();
    for var in vars.values() {
        let holder = resources.list.iter().find(|resource| resource.vars.contains(&var.name));
        let Some(holder) = holder else {
            let why = format!("the var {} names no resource of this kustomization", var.name);
            return Err(invalid(why).in_file(&var.place.0).at(var.place.1, 0));
        };
        let path = indexes(&var.fieldref.field_path);
        let Some(found) = nodes.lookup(holder.root, &path)? else {
            let why = format!(
                "the var {} is the field {} of {}, which has none",
                var.name,
                var.fieldref.field_path,
                holder.id(nodes)
            );
            return Err(invalid(why).in_file(&var.place.0).at(var.place.1, 0));
        };
        meanings.insert(var.name.as_str(), meaning(nodes, found)?);
    }
    if meanings.is_empty() {
        return Ok(());
    }
    for resource in &resources.list {
        for spec in &fields.var_reference {
            spec.visit(nodes, resource.root, None, &mut |nodes, id| set(nodes, id, &meanings))?;
        }
    }
    Ok(())
}

/// `ports[0]` is the field and the index.
fn indexes(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in split_field_path(path) {
        let index = part.strip_suffix(']').and_then(|part| part.rsplit_once('['));
        match index {
            Some((name, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
                if !name.is_empty() {
                    parts.push(name.to_owned());
                }
                parts.push(index.to_owned());
            }
            _ => parts.push(part),
        }
    }
    parts
}

fn meaning(nodes: &Nodes, id: NodeId) -> Result<Meaning> {
    let node = &nodes[id];
    if node.kind != Kind::Scalar {
        return Ok(Meaning::None);
    }
    match node.tag {
        Tag::Int => {
            let number: i64 = node
                .text
                .parse()
                .map_err(|_| nodes.fail(id, format!("{} is no decimal number", node.text)))?;
            Ok(Meaning::Typed(number.to_string(), Tag::Int))
        }
        Tag::Float => {
            let number: f64 =
                node.text.parse().map_err(|_| nodes.fail(id, format!("{} is no number", node.text)))?;
            Ok(Meaning::Typed(number.to_string(), Tag::Float))
        }
        Tag::Bool => Ok(Meaning::Typed(node.text.to_lowercase(), Tag::Bool)),
        _ => Ok(Meaning::Text(node.text.to_string())),
    }
}

fn set(nodes: &mut Nodes, id: NodeId, meanings: &HashMap<&str, Meaning>) -> Result<()> {
    if nodes.is_null(id) {
        return Ok(());
    }
    match nodes[id].kind {
        Kind::Scalar => {
            if nodes[id].is_text() {
                put(nodes, id, meanings);
            }
        }
        Kind::Mapping => {
            for (key, value) in nodes.pairs(id).collect::<Vec<_>>() {
                if !nodes[key].is_text() {
                    return Err(nodes.fail(key, "a key is no text"));
                }
                if nodes[value].is_text() {
                    put(nodes, value, meanings);
                }
            }
        }
        Kind::Sequence => {
            for item in nodes[id].children.clone() {
                if !nodes[item].is_text() {
                    return Err(nodes.fail(item, "an item of this list is no text; vars are only for texts"));
                }
                put(nodes, item, meanings);
            }
        }
    }
    Ok(())
}

fn put(nodes: &mut Nodes, id: NodeId, meanings: &HashMap<&str, Meaning>) {
    let (text, tag) = replace(&nodes[id].text, meanings);
    let node = &mut nodes[id];
    (node.text, node.tag, node.quoted) = (text.into(), tag, false);
}

/// A text that is nothing but one var has the type of what it stands for. `$$` is a `$`.
fn replace(input: &str, meanings: &HashMap<&str, Meaning>) -> (String, Tag) {
    let mut out = String::new();
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let closed = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some((name, tail)) = closed {
            let whole = at == 0 && out.is_empty() && tail.is_empty() && rest.len() == input.len();
            match meanings.get(name) {
                Some(Meaning::Typed(text, tag)) if whole => return (text.clone(), *tag),
                Some(Meaning::Text(text) | Meaning::Typed(text, _)) => out.push_str(text),
                Some(Meaning::None) | None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else {
            out.push('$');
            let next = after.chars().next();
            next.into_iter().for_each(|c| out.push(c));
            rest = &after[next.map_or(0, char::len_utf8)..];
        }
    }
    out.push_str(rest);
    (out, Tag::Text)
}
