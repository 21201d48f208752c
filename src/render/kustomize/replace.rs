//! `replacements`: a field's value copied to fields of other objects.

use regex::Regex;

use super::fields::Gvk;
use super::kustomization::{FieldOptions, Replacement, Selector, SourceSelector, TargetSelector};
use super::names::is_selected;
use super::node::{Kind, Node, NodeId, Nodes, Tag, invalid, list_index, split_field_path};
use super::resource::{Id, Resource, Resources, effective};
use super::select::Requirements;
use crate::error::Result;

const DEFAULT_PATH: &str = "metadata.name";

/// Carries out one replacement.
pub(super) fn apply(nodes: &mut Nodes, resources: &Resources, replacement: &Replacement) -> Result<()> {
    let (Some(targets), true) =
        (&replacement.targets, replacement.source.is_some() || replacement.source_value.is_some())
    else {
        return Err(invalid("a replacement needs a source and at least one target"));
    };
    let value = match (&replacement.source, &replacement.source_value) {
        (Some(_), Some(_)) => return Err(invalid("a replacement has source or sourceValue, not both")),
        (_, Some(text)) => nodes.add_text(text, Tag::Open),
        (Some(source), None) => source_value(nodes, resources, source)?,
        (None, None) => return Ok(()),
    };
    targets.iter().try_for_each(|target| to_target(nodes, resources, target, value))
}

/// What an object is called now (a kind without a namespace counts as in `default` here) and was called.
fn ids<'a>(nodes: &'a Nodes, resource: &'a Resource) -> Vec<Id<'a>> {
    let mut now = resource.id(nodes);
    now.namespace = effective(resource.namespace(nodes), false);
    std::iter::once(now).chain(resource.previous_ids(nodes)).collect()
}

fn gvk(group: &str, version: &str, kind: &str) -> Gvk {
    Gvk { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
}

fn source_value(nodes: &mut Nodes, resources: &Resources, source: &SourceSelector) -> Result<NodeId> {
    let gvk = gvk(&source.group, &source.version, &source.kind);
    let shown = || {
        let parts = [&source.kind, &source.namespace, &source.name].map(String::as_str);
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let mut found = resources.list.iter().filter(|resource| {
        ids(nodes, resource).iter().any(|id| is_selected(id, &gvk, &source.name, &source.namespace))
    });
    let Some(holder) = found.next() else {
        return Err(invalid(format!("the source of a replacement ({}) selects nothing", shown())));
    };
    if found.next().is_some() {
        return Err(invalid(format!(
            "the source of a replacement ({}) selects more than one resource",
            shown()
        )));
    }
    let path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let value = nodes.lookup(holder.root, &split_field_path(path))?.filter(|id| !nodes[*id].is_empty());
    let Some(value) = value else {
        return Err(
            nodes.fail(holder.root, format!("the source of a replacement, {}, has no field {path}", shown()))
        );
    };
    let Some(options) = source.options.as_ref().filter(|options| !options.delimiter.is_empty()) else {
        return Ok(value);
    };
    if nodes[value].kind != Kind::Scalar {
        return Err(nodes.fail(value, "a delimiter is only for a scalar"));
    }
    let text = if nodes.is_null(value) { "" } else { &*nodes[value].text };
    let part =
        usize::try_from(options.index).ok().and_then(|at| text.split(options.delimiter.as_str()).nth(at));
    let Some(part) = part.map(str::to_owned) else {
        let why = format!("options.index {} is out of bounds for the value {text:?}", options.index);
        return Err(nodes.fail(value, why));
    };
    let mut node = nodes[value].clone();
    node.text = part.into();
    Ok(nodes.add(node))
}

fn to_target(nodes: &mut Nodes, resources: &Resources, target: &TargetSelector, value: NodeId) -> Result<()> {
    let Some(select) = &target.select else {
        return Err(invalid("the target of a replacement needs select"));
    };
    let kinds = |selector: &Selector| gvk(&selector.group, &selector.version, &selector.kind);
    let strings = |selector: &Selector| -> Result<(Requirements, Requirements)> {
        Ok((
            Requirements::parse(&selector.annotation_selector)?,
            Requirements::parse(&selector.label_selector)?,
        ))
    };
    let wanted = (kinds(select), strings(select)?);
    let rejects: Vec<_> = target
        .reject
        .iter()
        .map(|reject| Ok((reject, kinds(reject), strings(reject)?)))
        .collect::<Result<_>>()?;
    let default = [DEFAULT_PATH.to_owned()];
    let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths[..] };
    for resource in &resources.list {
        let fits = |(annotations, labels): &(Requirements, Requirements)| {
            annotations.match_strings(|| resource.strings(nodes, "annotations"))
                && labels.match_strings(|| resource.strings(nodes, "labels"))
        };
        let by_strings =
            |reject: &Selector| !(reject.annotation_selector.is_empty() && reject.label_selector.is_empty());
        let by_id = |reject: &Selector| {
            [&reject.group, &reject.version, &reject.kind, &reject.name, &reject.namespace]
                .iter()
                .any(|part| !part.is_empty())
        };
        if !fits(&wanted.1) || rejects.iter().any(|(reject, _, strings)| by_strings(reject) && fits(strings))
        {
            continue;
        }
        let ids = ids(nodes, resource);
        let selected = ids.iter().any(|id| is_selected(id, &wanted.0, &select.name, &select.namespace));
        let rejected = rejects.iter().any(|(reject, gvk, _)| {
            by_id(reject) && ids.iter().any(|id| is_selected(id, gvk, &reject.name, &reject.namespace))
        });
        if !selected || rejected {
            continue;
        }
        let title = resource.id(nodes).to_string();
        for path in paths {
            let create =
                target.options.as_ref().is_some_and(|options| options.create).then(|| nodes[value].kind);
            let found = find(nodes, resource.root, &split_field_path(path), create)?.unwrap_or_default();
            if found.is_empty() {
                let what = if create.is_some() { "found or made" } else { "found" };
                return Err(nodes.fail(
                    resource.root,
                    format!("the field {path} of {title}, a replacement's target, cannot be {what}"),
                ));
            }
            for field in found {
                put(nodes, target.options.as_ref(), field, value)?;
            }
        }
    }
    Ok(())
}

/// The kind of node to make for a path that goes on with `next`.
fn kind_for(next: Option<&String>, last: Kind) -> Kind {
    match next.map(String::as_str) {
        None | Some("") => last,
        Some(next) if next.parse::<usize>().is_ok() || (next.starts_with('[') && next.ends_with(']')) => {
            Kind::Sequence
        }
        Some(_) => Kind::Mapping,
    }
}

/// All fields a path leads to: names, indexes, `*`, and `[key=pattern]` with a regular expression.
fn find(
    nodes: &mut Nodes,
    here: NodeId,
    path: &[String],
    create: Option<Kind>,
) -> Result<Option<Vec<NodeId>>> {
    let Some((part, rest)) = path.split_first() else { return Ok(Some(vec![here])) };
    let made = |create: Kind| Node::empty(kind_for(rest.first(), create));
    if let Ok(index) = part.parse::<usize>() {
        nodes.expect(here, Kind::Sequence)?;
        if let Some(kind) = create.filter(|_| nodes[here].children.len() == index) {
            let item = nodes.add(made(kind));
            nodes[here].children.push(item);
        }
        let Some(item) = nodes[here].children.get(index).copied() else {
            let why = format!("the index {index} is beyond the {} items", nodes[here].children.len());
            return Err(nodes.fail(here, why));
        };
        return find(nodes, item, rest, create);
    }
    if let Some((name, pattern)) = list_index(part)? {
        return in_list(nodes, here, (name, pattern), rest, create);
    }
    if part == "*" {
        nodes.expect(here, Kind::Sequence)?;
        let mut all = None;
        for item in nodes[here].children.clone() {
            if let Some(found) = find(nodes, item, rest, create)? {
                all.get_or_insert_with(Vec::new).extend(found);
            }
        }
        return Ok(all);
    }
    let field = match (nodes.get(here, part)?, create) {
        (Some(field), _) => field,
        (None, None) => return Ok(None),
        (None, Some(kind)) => {
            let field = nodes.add(made(kind));
            nodes.set(here, part, Some(field))?;
            field
        }
    };
    find(nodes, field, rest, create)
}

fn in_list(
    nodes: &mut Nodes,
    here: NodeId,
    (name, pattern): (&str, &str),
    rest: &[String],
    create: Option<Kind>,
) -> Result<Option<Vec<NodeId>>> {
    let regex = Regex::new(pattern)
        .map_err(|error| invalid(format!("{pattern:?} is no regular expression: {error}")))?;
    nodes.expect(here, Kind::Sequence)?;
    let mut all = Vec::new();
    for item in nodes[here].children.clone() {
        let compared = if name.is_empty() { Some(item) } else { nodes.field(item, name) };
        let Some(compared) = compared else { continue };
        let node = &nodes[compared];
        // Compared is what is written, quotes included.
        let text = if node.quoted { format!("\"{}\"", node.text) } else { node.text.trim().to_owned() };
        if !regex.is_match(&text) {
            continue;
        }
        if name.is_empty() {
            all.push(item);
        } else if let Some(found) = find(nodes, item, rest, create)? {
            all.extend(found);
        }
    }
    if !all.is_empty() {
        return Ok(Some(all));
    }
    if create.is_none() {
        return Ok(None);
    }
    let value = nodes.add_text(pattern, Tag::Open);
    let item = if name.is_empty() {
        value
    } else {
        let key = nodes.add_text(name, Tag::Open);
        nodes.add(Node { children: vec![key, value], ..Node::empty(Kind::Mapping) })
    };
    nodes[here].children.push(item);
    if !regex.is_match(pattern) {
        return Err(invalid(format!(
            "the item made for [{name}={pattern}] does not match the pattern itself"
        )));
    }
    in_list(nodes, here, (name, pattern), rest, create)
}

/// Puts the value into a field. A scalar keeps its type: only the text is copied.
fn put(nodes: &mut Nodes, options: Option<&FieldOptions>, field: NodeId, value: NodeId) -> Result<()> {
    let value = nodes.copy(value);
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        if nodes[field].kind != Kind::Scalar {
            return Err(nodes.fail(field, "a delimiter is only for a scalar"));
        }
        let old = nodes[field].text.clone();
        let new = if nodes.is_null(value) { String::new() } else { nodes[value].text.to_string() };
        let mut parts: Vec<&str> = old.split(options.delimiter.as_str()).collect();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, &new),
            Ok(at) if at >= parts.len() => parts.push(&new),
            Ok(at) => parts[at] = &new,
        }
        let text = parts.join(&options.delimiter);
        nodes[value].text = text.into();
    }
    if nodes[field].kind == Kind::Scalar {
        nodes[field].text = nodes[value].text.clone();
    } else {
        nodes[field] = nodes[value].clone();
    }
    Ok(())
}
