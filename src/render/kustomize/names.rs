//! Follows names: what refers to an object that was renamed is given the new name.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::fields::{FieldSpec, Fields, Gvk};
use super::node::{Kind, NodeId, Nodes};
use super::resource::{Id, Resource, Resources, effective};
use crate::error::Result;

/// A field of the objects of one kind, and the kind whose names it holds.
type Reference<'a> = (&'a Gvk, &'a FieldSpec);

/// Rewrites every reference.
pub(super) fn follow(nodes: &mut Nodes, resources: &Resources, fields: &Fields) -> Result<()> {
    let mut by_old_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, resource) in resources.list.iter().enumerate() {
        let mut names: Vec<&str> = resource.previous.iter().map(|previous| previous.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            by_old_name.entry(name).or_default().push(at);
        }
    }
    if by_old_name.is_empty() {
        return Ok(());
    }
    let mut by_kind: HashMap<[String; 3], Rc<Vec<Reference<'_>>>> = HashMap::new();
    for resource in &resources.list {
        let id = resource.original_id(nodes);
        let references = by_kind
            .entry([id.group, id.version, id.kind].map(str::to_owned))
            .or_insert_with(|| {
                let all = fields.name_reference.iter().flat_map(|reference| {
                    reference.referrers.iter().map(move |spec| (&reference.target, spec))
                });
                Rc::new(all.filter(|(_, spec)| id.selected_by(&spec.gvk)).collect())
            })
            .clone();
        let mut referrer = Referrer { resource, resources, by_old_name: &by_old_name, visible: None };
        for (target, spec) in references.iter() {
            // The kind matched by what the object was called first; where it is now does not matter.
            let spec = FieldSpec::new(Gvk::default(), &spec.path, spec.create);
            spec.visit(nodes, resource.root, None, &mut |nodes, id| {
                referrer.set(nodes, id, target, &spec.path)
            })?;
        }
    }
    Ok(())
}

struct Referrer<'a> {
    resource: &'a Resource,
    resources: &'a Resources,
    by_old_name: &'a HashMap<&'a str, Vec<usize>>,
    /// Namespaces of ServiceAccounts that a RoleBinding names.
    visible: Option<HashSet<String>>,
}

impl Referrer<'_> {
    fn set(&mut self, nodes: &mut Nodes, id: NodeId, target: &Gvk, path: &str) -> Result<()> {
        if nodes.is_null(id) {
            return Ok(());
        }
        match nodes[id].kind {
            Kind::Scalar => self.scalar(nodes, id, target, path),
            Kind::Mapping => self.mapping(nodes, id, target, path),
            Kind::Sequence => {
                for item in nodes[id].children.clone() {
                    match nodes[item].kind {
                        _ if nodes.is_null(item) => {}
                        Kind::Scalar => self.scalar(nodes, item, target, path)?,
                        Kind::Mapping => self.mapping(nodes, item, target, path)?,
                        Kind::Sequence => {
                            return Err(nodes.fail(item, "here is a list where a name is needed"));
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn scalar(&mut self, nodes: &mut Nodes, id: NodeId, target: &Gvk, path: &str) -> Result<()> {
        let old = nodes[id].text.clone();
        let candidates = self.candidates(nodes, &old);
        let Some(found) = self.select(nodes, candidates, &old, target, path, false)? else { return Ok(()) };
        let name = self.resources.list[found].name(nodes).to_owned();
        if *name != *old {
            let value = nodes.add_text(&name, super::node::Tag::Open);
            nodes.set_scalar(id, value)?;
        }
        Ok(())
    }

    fn mapping(&mut self, nodes: &mut Nodes, id: NodeId, target: &Gvk, path: &str) -> Result<()> {
        let Some(name) = nodes.get(id, "name")? else {
            return Err(nodes.fail(id, format!("a reference at {path} has no name")));
        };
        let old = nodes[name].text.clone();
        let mut candidates = self.candidates(nodes, &old);
        if let Some(namespace) = nodes.get(id, "namespace")? {
            let wanted = nodes[namespace].text.to_string();
            let list = &self.resources.list;
            let at_first = |at: &usize| list[*at].original_id(nodes).namespace == wanted;
            let now = |at: &usize| list[*at].id(nodes).namespace == wanted;
            // The namespace counts as it was, where any object that can be seen was there.
            let known = (0..list.len()).any(|at| at_first(&at) && self.sees(nodes, at));
            candidates.retain(|at| if known { at_first(at) } else { now(at) });
        }
        let Some(found) = self.select(nodes, candidates, &old, target, path, true)? else { return Ok(()) };
        let found = &self.resources.list[found];
        let (name, namespace) = (found.name(nodes).to_owned(), found.namespace(nodes).to_owned());
        if *name == *old && namespace.is_empty() {
            return Ok(());
        }
        nodes.set_text(id, "name", &name)?;
        if !namespace.is_empty() {
            nodes.set_text(id, "namespace", &namespace)?;
        }
        Ok(())
    }

    /// Objects that once had this name and that the referrer could mean.
    fn candidates(&mut self, nodes: &Nodes, old: &str) -> Vec<usize> {
        let Some(found) = self.by_old_name.get(old) else { return Vec::new() };
        found.iter().copied().filter(|at| self.sees(nodes, *at)).collect()
    }

    fn sees(&mut self, nodes: &Nodes, at: usize) -> bool {
        let (id, other) = (self.resource.id(nodes), &self.resources.list[at]);
        let target = other.id(nodes);
        if id.is_cluster_scoped() || target.is_cluster_scoped() || id.namespace == target.namespace {
            return true;
        }
        if id.kind != "RoleBinding" {
            return false;
        }
        let resource = self.resource;
        let visible = self.visible.get_or_insert_with(|| {
            let subjects = nodes.field(resource.root, "subjects");
            let items = subjects.map(|id| nodes[id].children.clone()).unwrap_or_default();
            let accounts =
                items.into_iter().filter(|item| nodes.text_of(*item, "kind") == Some("ServiceAccount"));
            accounts.filter_map(|item| nodes.text_of(item, "namespace").map(str::to_owned)).collect()
        });
        visible.contains(other.namespace(nodes))
    }

    /// The one object that is meant.
    fn select(
        &self,
        nodes: &Nodes,
        mut candidates: Vec<usize>,
        old: &str,
        target: &Gvk,
        path: &str,
        with_namespace: bool,
    ) -> Result<Option<usize>> {
        let list = &self.resources.list;
        let was = |at: &usize, gvk: &Gvk| list[*at].previous_ids(nodes).any(|id| id.selected_by(gvk));
        candidates
            .retain(|at| list[*at].previous.iter().any(|previous| previous.name == old) && was(at, target));
        if path.ends_with("roleRef/name")
            && let Some(role) = self.role(nodes)
        {
            candidates.retain(|at| was(at, &role));
        }
        let here = self.resource.id(nodes);
        if !here.is_cluster_scoped() {
            candidates.retain(|at| {
                let id = list[*at].id(nodes);
                id.is_cluster_scoped() || id.kind == "ServiceAccount" || id.namespace == here.namespace
            });
        }
        if candidates.len() == 1 {
            return Ok(candidates.pop());
        }
        candidates.retain(|at| same_affixes(&list[*at], self.resource, true));
        if candidates.len() > 1 {
            candidates.retain(|at| same_affixes(&list[*at], self.resource, false));
        }
        let Some(first) = candidates.first().copied() else { return Ok(None) };
        let now = |at: usize| {
            let namespace = if with_namespace { list[at].namespace(nodes) } else { "" };
            (list[at].name(nodes), namespace)
        };
        if candidates.iter().all(|at| now(*at) == now(first)) {
            return Ok(Some(first));
        }
        let names: Vec<String> = candidates.iter().map(|at| list[*at].id(nodes).to_string()).collect();
        let why = format!("{path} of {here} names {old}, which could be any of {}", names.join(", "));
        Err(nodes.fail(self.resource.root, why))
    }

    fn role(&self, nodes: &Nodes) -> Option<Gvk> {
        let role = nodes.field(self.resource.root, "roleRef")?;
        let text = |name| nodes.field(role, name).map(|id| nodes[id].text.to_string());
        Some(Gvk { group: text("apiGroup")?, version: String::new(), kind: text("kind")? })
    }
}

/// Whether two objects went through the same prefixes and suffixes; with `lenient`, none is like any.
fn same_affixes(one: &Resource, other: &Resource, lenient: bool) -> bool {
    let same = |a: &[String], b: &[String]| {
        if lenient && (a.is_empty() || b.is_empty()) {
            return true;
        }
        let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
        if short.is_empty() { long.is_empty() } else { long.ends_with(short) }
    };
    same(&one.prefixes, &other.prefixes) && same(&one.suffixes, &other.suffixes)
}

/// Whether an object is the one that a selector without wildcards names.
pub(super) fn is_selected(id: &Id<'_>, gvk: &Gvk, name: &str, namespace: &str) -> bool {
    (name.is_empty() || name == id.name)
        && (namespace.is_empty() || effective(namespace, false) == id.namespace)
        && id.selected_by(gvk)
}
