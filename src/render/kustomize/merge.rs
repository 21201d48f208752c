//! Strategic merge, as kustomize does it.
//!
//! A patch is walked together with its target. Maps are merged by key, lists by the schema's merge keys with
//! the patch's items first, everything else is replaced; null removes; `$patch: delete|replace|merge` directs.

use std::collections::{BTreeSet, HashSet};

use super::node::{Kind, Node, NodeId, Nodes, Tag};
use super::schema::{Schema, Shape};
use crate::error::Result;

const DIRECTIVE: &str = "$patch";

/// Merges `patch` into `target`, which is changed; `None` where nothing is left of it.
pub(super) fn merge(
    nodes: &mut Nodes,
    schema: &Schema,
    target: NodeId,
    patch: NodeId,
) -> Result<Option<NodeId>> {
    Merge { nodes, schema }.walk(Some(target), Some(patch), None)
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

struct Merge<'a> {
    nodes: &'a mut Nodes,
    schema: &'a Schema,
}

impl Merge<'_> {
    fn missing(&self, id: Option<NodeId>) -> bool {
        id.is_none_or(|id| self.nodes.is_null(id))
    }

    /// The shape of what is walked: the one handed down, or that of an object with a kind of its own.
    fn shape(&self, shape: Option<Shape>, sources: [Option<NodeId>; 2]) -> Option<Shape> {
        shape.or_else(|| {
            sources.into_iter().flatten().filter(|id| !self.nodes.is_null(*id)).find_map(|id| {
                let (version, kind) =
                    (self.nodes.text_of(id, "apiVersion")?, self.nodes.text_of(id, "kind")?);
                self.schema.of_kind(version, kind)
            })
        })
    }

    fn walk(
        &mut self,
        dest: Option<NodeId>,
        patch: Option<NodeId>,
        shape: Option<Shape>,
    ) -> Result<Option<NodeId>> {
        let shape = self.shape(shape, [dest, patch]);
        let kind = [dest, patch]
            .into_iter()
            .flatten()
            .find(|id| !self.nodes.is_null(*id))
            .map(|id| self.nodes[id].kind);
        if let Some(kind) = kind {
            for id in [dest, patch].into_iter().flatten() {
                self.nodes.expect(id, kind)?;
            }
        }
        match kind {
            None | Some(Kind::Mapping) => self.map(dest, patch, shape.as_ref()),
            Some(Kind::Sequence) if shape.as_ref().is_some_and(Shape::is_merged) => {
                self.list(dest, patch, &shape.unwrap_or_default())
            }
            Some(Kind::Sequence | Kind::Scalar) => Ok(patch.or(dest)),
        }
    }

    fn map(
        &mut self,
        dest: Option<NodeId>,
        patch: Option<NodeId>,
        shape: Option<&Shape>,
    ) -> Result<Option<NodeId>> {
        let Some(dest) = self.begin_map(dest, patch)? else { return Ok(None) };
        let names: BTreeSet<_> = [Some(dest), patch]
            .into_iter()
            .flatten()
            .flat_map(|id| {
                self.nodes.pairs(id).map(|(key, _)| self.nodes[key].text.clone()).collect::<Vec<_>>()
            })
            .collect();
        for name in names {
            let below = shape.and_then(|shape| self.schema.field(shape, &name));
            let (ours, theirs) =
                (self.nodes.field(dest, &name), patch.and_then(|id| self.nodes.field(id, &name)));
            let merged = self.walk(ours, theirs, below)?;
            self.nodes.set(dest, &name, merged)?;
        }
        Ok(Some(dest))
    }

    fn begin_map(&mut self, dest: Option<NodeId>, patch: Option<NodeId>) -> Result<Option<NodeId>> {
        if self.missing(dest) {
            if let Some(patch) = patch {
                let delete = self.nodes[patch].kind == Kind::Mapping
                    && matches!(self.map_directive(patch), Ok(Directive::Delete));
                return Ok((!delete).then_some(patch));
            }
            // A null that is spelled out stays.
            return Ok(dest.filter(|id| !self.nodes[*id].text.is_empty()).map(|id| {
                let text = self.nodes[id].text.clone();
                self.nodes.add(Node { keep: true, ..Node::scalar(text, Tag::Null) })
            }));
        }
        let Some(patch) = patch else { return Ok(dest) };
        if self.nodes.is_null(patch) {
            return Ok(None);
        }
        Ok(match self.map_directive(patch)? {
            Directive::Delete => None,
            Directive::Replace => Some(patch),
            Directive::Merge => dest,
        })
    }

    /// Reads and removes the directive of a map.
    fn map_directive(&mut self, patch: NodeId) -> Result<Directive> {
        let Some(found) = self.nodes.get(patch, DIRECTIVE)? else { return Ok(Directive::Merge) };
        let directive = self.directive(found)?;
        self.nodes.clear(patch, DIRECTIVE)?;
        Ok(directive)
    }

    fn directive(&self, found: NodeId) -> Result<Directive> {
        match &*self.nodes[found].text {
            "merge" => Ok(Directive::Merge),
            "replace" => Ok(Directive::Replace),
            "delete" => Ok(Directive::Delete),
            other => {
                Err(self.nodes.fail(found, format!("$patch is {other:?}, not one of merge, replace, delete")))
            }
        }
    }

    /// Reads and removes the directive of a list: an item `$patch: ...` with at most nothing else.
    fn list_directive(&mut self, patch: NodeId) -> Result<Directive> {
        let items = self.nodes[patch].children.clone();
        let Some(item) = items.into_iter().find(|item| self.nodes.field(*item, DIRECTIVE).is_some()) else {
            return Ok(Directive::Merge);
        };
        let Some(found) = self.nodes.field(item, DIRECTIVE) else { return Ok(Directive::Merge) };
        if self.nodes[item].children.len() > 2 {
            return Ok(Directive::Merge);
        }
        let directive = self.directive(found)?;
        let value = self.nodes[found].text.to_string();
        self.put_item(patch, None, &[DIRECTIVE.to_owned()], &[value])?;
        Ok(directive)
    }

    fn list(&mut self, dest: Option<NodeId>, patch: Option<NodeId>, shape: &Shape) -> Result<Option<NodeId>> {
        let dest = match (dest, patch) {
            (dest, patch) if self.missing(dest) => patch,
            (dest, None) => dest,
            (_, Some(patch)) if self.nodes.is_null(patch) => None,
            (dest, Some(patch)) => match self.list_directive(patch)? {
                Directive::Delete => None,
                Directive::Replace => Some(patch),
                Directive::Merge => dest,
            },
        };
        let Some(dest) = dest else { return Ok(None) };
        // The patch's items come first.
        let lists: Vec<NodeId> = [patch, Some(dest)].into_iter().flatten().collect();
        let (keys, values) = if shape.keys().is_empty() {
            (vec![String::new()], self.scalar_values(&lists))
        } else {
            (shape.keys().to_vec(), self.key_values(&lists, shape.keys()))
        };
        self.items(dest, patch, shape, values, &keys)
    }

    /// The distinct values of the merge keys.
    fn key_values(&self, lists: &[NodeId], keys: &[String]) -> Vec<Vec<String>> {
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        for item in lists.iter().flat_map(|list| &self.nodes[*list].children) {
            let values: Vec<String> = keys
                .iter()
                .map(|key| self.nodes.text_of(*item, key).unwrap_or_default().to_owned())
                .collect();
            if seen.insert(values.clone()) {
                all.push(values);
            }
        }
        all
    }

    fn scalar_values(&self, lists: &[NodeId]) -> Vec<Vec<String>> {
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        for item in lists.iter().flat_map(|list| &self.nodes[*list].children) {
            let text = self.nodes[*item].text.to_string();
            if seen.insert(text.clone()) {
                all.push(vec![text]);
            }
        }
        all
    }

    fn items(
        &mut self,
        dest: NodeId,
        patch: Option<NodeId>,
        shape: &Shape,
        mut values: Vec<Vec<String>>,
        keys: &[String],
    ) -> Result<Option<NodeId>> {
        let added = self.nodes.add(Node::empty(Kind::Sequence));
        let below = self.schema.items(shape);
        if keys.len() > 1 {
            complete(&mut values);
        }
        let mut valid_keys = Vec::new();
        for value in &values {
            let (used_keys, used_values) = used(&values, value, keys);
            let pair = [Some(dest), patch]
                .map(|list| list.and_then(|list| self.item(list, &used_keys, &used_values)));
            let merged = self.walk(pair[0], pair[1], below.clone())?;
            valid_keys = used_keys;
            let gone = merged.is_none_or(|id| {
                self.nodes.is_null(id)
                    || (self.nodes[id].kind == Kind::Mapping && self.nodes[id].children.is_empty())
            });
            if gone {
                self.put_item(dest, None, &valid_keys, &used_values)?;
                continue;
            }
            let Some(merged) = merged else { continue };
            for (key, value) in valid_keys.iter().zip(&used_values) {
                if !value.is_empty() && !key.is_empty() && self.nodes.field(merged, key).is_none() {
                    self.nodes.set_text(merged, key, value)?;
                }
            }
            self.put_item(added, Some(merged), &valid_keys, &used_values)?;
        }
        let whole = if values.is_empty() { dest } else { self.append_all(added, dest, &valid_keys)? };
        Ok((!self.nodes.is_null(whole)).then_some(whole))
    }

    /// The first item of a list with these values.
    fn item(&self, list: NodeId, keys: &[String], values: &[String]) -> Option<NodeId> {
        let (keys, values) = used(&[values.to_vec()], values, keys);
        if self.nodes[list].kind != Kind::Sequence {
            return None;
        }
        let mut items = self.nodes[list].children.iter().copied();
        if keys.first().is_none_or(String::is_empty) {
            let wanted = values.first().map(String::as_str).unwrap_or_default();
            return items.find(|item| &*self.nodes[*item].text == wanted);
        }
        if keys.len() != values.len() {
            return None;
        }
        items.find(|item| {
            self.nodes[*item].kind == Kind::Mapping
                && keys.iter().zip(&values).all(|(key, value)| {
                    self.nodes.field(*item, key).is_some_and(|field| *self.nodes[field].text == **value)
                })
        })
    }

    /// Puts an item in the place of those with the same values, or at the end; without an item, removes them.
    fn put_item(
        &mut self,
        list: NodeId,
        item: Option<NodeId>,
        keys: &[String],
        values: &[String],
    ) -> Result<()> {
        self.nodes.expect(list, Kind::Sequence)?;
        let by_key = keys.first().is_some_and(|key| !key.is_empty())
            && values.first().is_some_and(|value| !value.is_empty());
        let mut content = Vec::new();
        let mut found = false;
        for old in self.nodes[list].children.clone() {
            let node = &self.nodes[old];
            if node.tag == Tag::Null || (node.kind == Kind::Mapping && node.children.is_empty()) {
                continue;
            }
            if node.kind != Kind::Mapping && by_key {
                content.push(old);
                continue;
            }
            if !self.has_values(old, keys, values)? {
                if !values.is_empty() {
                    content.push(old);
                }
                continue;
            }
            found = true;
            content.extend(item);
        }
        if !found {
            content.extend(item.filter(|id| !self.nodes.is_null(*id)));
        }
        self.nodes[list].children = content;
        Ok(())
    }

    fn has_values(&self, item: NodeId, keys: &[String], values: &[String]) -> Result<bool> {
        for (at, key) in keys.iter().enumerate() {
            let Some(value) = values.get(at) else { break };
            let matches = if key.is_empty() {
                self.nodes.expect(item, Kind::Scalar)?;
                *self.nodes[item].text == **value
            } else {
                let field = self.nodes.get(item, key)?;
                field.is_some_and(|field| value.is_empty() || *self.nodes[field].text == **value)
            };
            if !matches {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the items of `from` to `into`; those that are there already stay where they are.
    fn append_all(&mut self, into: NodeId, from: NodeId, keys: &[String]) -> Result<NodeId> {
        let first = keys.first().map(String::as_str).unwrap_or_default();
        for item in self.nodes[from].children.clone() {
            if first.is_empty() {
                let value = self.nodes[item].text.to_string();
                self.put_item(into, Some(item), &[String::new()], &[value])?;
                continue;
            }
            let mut values = Vec::new();
            for key in keys {
                match self.nodes.get(item, key)? {
                    Some(field) => values.push(self.nodes[field].text.to_string()),
                    None => self.nodes[into].children.push(item),
                }
            }
            if keys.len() > 1 {
                self.put_item(into, None, keys, &values)?;
            }
            self.put_item(into, Some(item), keys, &values)?;
        }
        Ok(into)
    }
}

/// The keys that any of the values fill, and this value's for them; all keys where none is filled.
fn used(all: &[Vec<String>], value: &[String], keys: &[String]) -> (Vec<String>, Vec<String>) {
    let filled: HashSet<&String> = all
        .iter()
        .flat_map(|values| values.iter().zip(keys).filter(|(value, _)| !value.is_empty()).map(|(_, key)| key))
        .collect();
    if filled.is_empty() {
        return (keys.to_vec(), value.to_vec());
    }
    let kept = |at: &usize| filled.contains(&keys[*at]);
    let used_keys = (0..keys.len()).filter(kept).map(|at| keys[at].clone()).collect();
    let used_values = (0..value.len())
        .filter(|at| !value[*at].is_empty() || kept(at))
        .map(|at| value[at].clone())
        .collect();
    (used_keys, used_values)
}

/// Fills what one item leaves out from another that agrees with it in the rest.
fn complete(values: &mut [Vec<String>]) {
    for i in 0..values.len() {
        for j in 0..values.len() {
            if let Some(both) = agree(&values[i], &values[j]) {
                values[i].clone_from(&both);
                values[j] = both;
            }
        }
    }
}

fn agree(one: &[String], other: &[String]) -> Option<Vec<String>> {
    let mut common = false;
    let mut both = Vec::with_capacity(one.len());
    for (a, b) in one.iter().zip(other) {
        if a == b {
            common = true;
        } else if !a.is_empty() && !b.is_empty() {
            return None;
        }
        both.push(if a.is_empty() { b.clone() } else { a.clone() });
    }
    common.then_some(both)
}
