//! One object on its way through a build, and a list of them.

use std::collections::{HashMap, HashSet};

use super::fields::Gvk;
use super::node::{NodeId, Nodes, invalid};
use crate::error::Result;

/// Kinds without a namespace, as kustomize knows them; everything else is taken for namespaced.
const CLUSTER_SCOPED: &[(&str, &[&str])] = &[
    ("APIService", &["apiregistration.k8s.io/v1", "apiregistration.k8s.io/v1beta1"]),
    ("CSIDriver", &["storage.k8s.io/v1", "storage.k8s.io/v1beta1"]),
    ("CSINode", &["storage.k8s.io/v1", "storage.k8s.io/v1beta1"]),
    ("CertificateSigningRequest", &["certificates.k8s.io/v1", "certificates.k8s.io/v1beta1"]),
    ("ClusterRole", &["rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1beta1"]),
    ("ClusterRoleBinding", &["rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1beta1"]),
    ("ComponentStatus", &["v1"]),
    ("CustomResourceDefinition", &["apiextensions.k8s.io/v1", "apiextensions.k8s.io/v1beta1"]),
    ("FlowSchema", &["flowcontrol.apiserver.k8s.io/v1beta1"]),
    ("IngressClass", &["networking.k8s.io/v1", "networking.k8s.io/v1beta1"]),
    (
        "MutatingWebhookConfiguration",
        &["admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1beta1"],
    ),
    ("Namespace", &["v1"]),
    ("Node", &["v1"]),
    ("NodeProxyOptions", &["v1"]),
    ("PersistentVolume", &["v1"]),
    ("PodSecurityPolicy", &["policy/v1beta1"]),
    ("PriorityClass", &["scheduling.k8s.io/v1", "scheduling.k8s.io/v1beta1"]),
    ("PriorityLevelConfiguration", &["flowcontrol.apiserver.k8s.io/v1beta1"]),
    ("RuntimeClass", &["node.k8s.io/v1", "node.k8s.io/v1beta1"]),
    ("StorageClass", &["storage.k8s.io/v1", "storage.k8s.io/v1beta1"]),
    (
        "ValidatingWebhookConfiguration",
        &["admissionregistration.k8s.io/v1", "admissionregistration.k8s.io/v1beta1"],
    ),
    ("VolumeAttachment", &["storage.k8s.io/v1", "storage.k8s.io/v1beta1"]),
];

pub(super) fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    let found = CLUSTER_SCOPED.binary_search_by(|(name, _)| (*name).cmp(kind));
    found.is_ok_and(|at| CLUSTER_SCOPED[at].1.contains(&api_version))
}

/// What stands for the namespace of a kind that has none.
const NO_NAMESPACE: &str = "_non_namespaceable_";
const DEFAULT_NAMESPACE: &str = "default";

/// The namespace of an object as far as identity goes: none is `default`.
pub(super) fn effective(namespace: &str, cluster_scoped: bool) -> &str {
    match namespace {
        _ if cluster_scoped => NO_NAMESPACE,
        "" => DEFAULT_NAMESPACE,
        namespace => namespace,
    }
}

/// What identifies an object; the namespace is the effective one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
}

impl Id<'_> {
    pub(super) fn is_cluster_scoped(&self) -> bool {
        self.namespace == NO_NAMESPACE
    }

    pub(super) fn selected_by(&self, gvk: &Gvk) -> bool {
        gvk.selects(self.group, self.version, self.kind)
    }

    fn key(&self) -> String {
        [self.group, self.version, self.kind, self.namespace, self.name].join("\u{0}")
    }
}

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace {
            NO_NAMESPACE | DEFAULT_NAMESPACE => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// What an object was called before a transformer renamed it.
#[derive(Clone, Debug)]
pub(super) struct Previous {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

/// What happens where a generated object is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Behavior {
    #[default]
    Create,
    Replace,
    Merge,
}

/// Where an object or a change came from, for `buildMetadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) path: String,
    pub(super) configured_in: String,
    /// apiVersion, kind, name, namespace.
    pub(super) configured_by: Option<[String; 4]>,
}

#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) root: NodeId,
    pub(super) previous: Vec<Previous>,
    pub(super) prefixes: Vec<String>,
    pub(super) suffixes: Vec<String>,
    pub(super) needs_hash: bool,
    pub(super) behavior: Behavior,
    pub(super) origin: Option<Trace>,
    pub(super) transformations: Vec<Trace>,
    pub(super) vars: Vec<String>,
    /// A patch removed the whole object.
    pub(super) gone: bool,
    /// Its place in the ledger, where one is kept.
    pub(super) number: Option<usize>,
}

impl Resource {
    pub(super) fn new(root: NodeId) -> Self {
        Self {
            root,
            previous: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            needs_hash: false,
            behavior: Behavior::Create,
            origin: None,
            transformations: Vec::new(),
            vars: Vec::new(),
            gone: false,
            number: None,
        }
    }

    pub(super) fn kind<'a>(&self, nodes: &'a Nodes) -> &'a str {
        nodes.field(self.root, "kind").map(|id| &*nodes[id].text).unwrap_or_default()
    }

    pub(super) fn api_version<'a>(&self, nodes: &'a Nodes) -> &'a str {
        nodes.field(self.root, "apiVersion").map(|id| &*nodes[id].text).unwrap_or_default()
    }

    fn metadata<'a>(&self, nodes: &'a Nodes, name: &str) -> &'a str {
        let metadata = nodes.field(self.root, "metadata").filter(|id| !nodes[*id].is_empty());
        metadata.and_then(|metadata| nodes.text_of(metadata, name)).unwrap_or_default()
    }

    pub(super) fn name<'a>(&self, nodes: &'a Nodes) -> &'a str {
        self.metadata(nodes, "name")
    }

    pub(super) fn namespace<'a>(&self, nodes: &'a Nodes) -> &'a str {
        self.metadata(nodes, "namespace")
    }

    /// What it is called now.
    pub(super) fn id<'a>(&self, nodes: &'a Nodes) -> Id<'a> {
        let (api_version, kind) = (self.api_version(nodes), self.kind(nodes));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let namespace = effective(self.namespace(nodes), is_cluster_scoped(api_version, kind));
        Id { group, version, kind, name: self.name(nodes), namespace }
    }

    /// What it was called, oldest first.
    pub(super) fn previous_ids<'a>(&'a self, nodes: &'a Nodes) -> impl Iterator<Item = Id<'a>> {
        let api_version = self.api_version(nodes);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.previous.iter().map(move |previous| Id {
            group,
            version,
            kind: &previous.kind,
            name: &previous.name,
            namespace: &previous.namespace,
        })
    }

    /// What it was called first.
    pub(super) fn original_id<'a>(&'a self, nodes: &'a Nodes) -> Id<'a> {
        self.previous_ids(nodes).next().unwrap_or_else(|| self.id(nodes))
    }

    pub(super) fn any_id<'a>(&'a self, nodes: &'a Nodes) -> impl Iterator<Item = Id<'a>> {
        self.previous_ids(nodes).chain(std::iter::once(self.id(nodes)))
    }

    pub(super) fn remember_id(&mut self, nodes: &Nodes) {
        let id = self.id(nodes);
        let previous =
            Previous { kind: id.kind.into(), name: id.name.into(), namespace: id.namespace.into() };
        self.previous.push(previous);
    }

    /// Whether kustomize would keep notes of its own in the annotations of this object.
    pub(super) fn has_notes(&self) -> bool {
        !self.previous.is_empty()
            || self.needs_hash
            || self.origin.is_some()
            || !self.transformations.is_empty()
    }

    pub(super) fn set_name(&self, nodes: &mut Nodes, name: &str) -> Result<()> {
        let metadata = nodes.map_at(self.root, "metadata")?;
        nodes.set_text(metadata, "name", name)
    }

    pub(super) fn set_namespace(&self, nodes: &mut Nodes, namespace: &str) -> Result<()> {
        let metadata = nodes.map_at(self.root, "metadata")?;
        if namespace.is_empty() {
            return nodes.clear(metadata, "namespace");
        }
        nodes.set_text(metadata, "namespace", namespace)
    }

    /// Labels or annotations, as they are written.
    pub(super) fn strings(&self, nodes: &Nodes, field: &str) -> Vec<(String, String)> {
        let metadata = nodes.field(self.root, "metadata");
        let map = metadata.and_then(|metadata| nodes.field(metadata, field));
        map.into_iter()
            .flat_map(|map| nodes.pairs(map))
            .map(|(key, value)| (nodes[key].text.to_string(), nodes[value].text.to_string()))
            .collect()
    }

    /// Writes labels or annotations anew, all as text.
    pub(super) fn set_strings(
        &self,
        nodes: &mut Nodes,
        field: &str,
        strings: &[(String, String)],
    ) -> Result<()> {
        let metadata = nodes.map_at(self.root, "metadata")?;
        nodes.clear(metadata, field)?;
        if strings.is_empty() {
            return Ok(());
        }
        let map = nodes.map_at(metadata, field)?;
        for (name, text) in strings {
            let value = nodes.add_text(text, super::node::Tag::Text);
            nodes.set(map, name, Some(value))?;
        }
        Ok(())
    }
}

/// Objects in the order they came in.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) list: Vec<Resource>,
    /// Ids of the list; `None` where a transformer may have changed them.
    ids: Option<HashSet<String>>,
    /// Objects by each name they have or had.
    names: Option<HashMap<String, Vec<usize>>>,
}

impl Resources {
    /// Adds an object.
    ///
    /// # Errors
    /// Where one of the same id is there.
    pub(super) fn append(&mut self, nodes: &Nodes, resource: Resource) -> Result<()> {
        let ids = self
            .ids
            .get_or_insert_with(|| self.list.iter().map(|resource| resource.id(nodes).key()).collect());
        if !ids.insert(resource.id(nodes).key()) {
            let why = format!("{} is there already; no two resources may have one id", resource.id(nodes));
            return Err(nodes.fail(resource.root, why));
        }
        if let Some(names) = &mut self.names {
            let at = self.list.len();
            for id in resource.any_id(nodes) {
                names.entry(id.name.to_owned()).or_default().push(at);
            }
        }
        self.list.push(resource);
        Ok(())
    }

    pub(super) fn append_all(&mut self, nodes: &Nodes, other: Self) -> Result<()> {
        if self.list.is_empty() && other.ids.is_some() {
            *self = other;
            return Ok(());
        }
        other.list.into_iter().try_for_each(|resource| self.append(nodes, resource))
    }

    /// To be called after a change of names or of the list.
    pub(super) fn changed(&mut self) {
        self.ids = None;
        self.names = None;
    }

    /// Takes out what patches removed.
    pub(super) fn drop_gone(&mut self, nodes: &Nodes) {
        let gone = |resource: &Resource| resource.gone || nodes[resource.root].is_empty();
        if self.list.iter().any(gone) {
            self.list.retain(|resource| !gone(resource));
            self.changed();
        }
    }

    /// Objects that have or had this name and fit.
    pub(super) fn named(&mut self, nodes: &Nodes, name: &str, fits: impl Fn(&Id<'_>) -> bool) -> Vec<usize> {
        let list = &self.list;
        let names = self.names.get_or_insert_with(|| {
            let mut names: HashMap<String, Vec<usize>> = HashMap::new();
            for (at, resource) in list.iter().enumerate() {
                for id in resource.any_id(nodes) {
                    names.entry(id.name.to_owned()).or_default().push(at);
                }
            }
            names
        });
        let mut found = names.get(name).cloned().unwrap_or_default();
        found.dedup();
        found.retain(|at| {
            let resource = &list[*at];
            !resource.gone && resource.any_id(nodes).any(|id| id.name == name && fits(&id))
        });
        found
    }

    /// The one object that a patch without a target names.
    pub(super) fn target(&mut self, nodes: &Nodes, patch: &Resource) -> Result<usize> {
        let wanted = patch.original_id(nodes);
        let found = self.named(nodes, wanted.name, |id| *id == wanted);
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(nodes.fail(patch.root, format!("no resource matches the patch of {wanted}"))),
            _ => {
                Err(nodes.fail(patch.root, format!("{} resources match the patch of {wanted}", found.len())))
            }
        }
    }

    /// Refuses two objects of one id.
    pub(super) fn check_unique(&mut self, nodes: &Nodes) -> Result<()> {
        let mut ids = HashSet::new();
        for resource in &self.list {
            if !ids.insert(resource.id(nodes).key()) {
                return Err(invalid(format!("two resources became {}", resource.id(nodes))));
            }
        }
        self.ids = Some(ids);
        Ok(())
    }

    /// How many objects there are of each id.
    pub(super) fn counts(&self, nodes: &Nodes) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for resource in &self.list {
            *counts.entry(resource.id(nodes).key()).or_insert(0) += 1;
        }
        counts
    }

    pub(super) fn key(resource: &Resource, nodes: &Nodes) -> String {
        resource.id(nodes).key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(CLUSTER_SCOPED.is_sorted_by_key(|(kind, _)| kind));
        assert!(is_cluster_scoped("v1", "Namespace") && !is_cluster_scoped("v2", "Namespace"));
    }
}
