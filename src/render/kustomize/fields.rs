//! Field specs: where in which kinds a transformer looks.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use super::node::{Kind, Node, NodeId, Nodes, Tag, invalid, split_path};
use crate::error::Result;

/// kustomize's defaults.
const DEFAULTS: &str = include_str!("data/fields.txt");

/// A selection by group, version and kind; an empty part matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Gvk {
    #[serde(default)]
    pub(super) group: String,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) kind: String,
}

impl Gvk {
    pub(super) fn selects(&self, group: &str, version: &str, kind: &str) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        fits(&self.group, group) && fits(&self.version, version) && fits(&self.kind, kind)
    }

    /// The order kustomize keeps its specs in.
    fn order(&self) -> (i32, String) {
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let name = format!("{}_{}_{}", or(&self.group, "~G"), or(&self.version, "~V"), or(&self.kind, "~K"));
        (super::sort::rank(&self.kind), name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: String,
    /// Written with `[]`: the field is a list and is never made.
    list: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct FieldSpec {
    pub(super) gvk: Gvk,
    pub(super) path: String,
    pub(super) create: bool,
    parts: Arc<[Part]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    create: bool,
}

impl TryFrom<Written> for FieldSpec {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let Written { group, version, kind, path, create } = written;
        Ok(Self::new(Gvk { group, version, kind }, &path, create))
    }
}

impl FieldSpec {
    pub(super) fn new(gvk: Gvk, path: &str, create: bool) -> Self {
        let parts = split_path(path, '/')
            .into_iter()
            .map(|part| match part.strip_suffix("[]") {
                Some(name) => Part { name: name.to_owned(), list: true },
                None => Part { name: part, list: false },
            })
            .collect();
        Self { gvk, path: path.to_owned(), create, parts }
    }

    /// A spec for every kind.
    pub(super) fn any(path: &str, create: bool) -> Self {
        Self::new(Gvk::default(), path, create)
    }

    /// Hands every node the path leads to in this object to `set`. With `make`, what is missing is made as that
    /// kind where the spec says `create`.
    pub(super) fn visit(
        &self,
        nodes: &mut Nodes,
        root: NodeId,
        make: Option<(Kind, Tag)>,
        set: &mut dyn FnMut(&mut Nodes, NodeId) -> Result<()>,
    ) -> Result<()> {
        let version = nodes.field(root, "apiVersion").map(|id| &*nodes[id].text).unwrap_or_default();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = nodes.field(root, "kind").map(|id| &*nodes[id].text).unwrap_or_default();
        if !self.gvk.selects(group, version, kind) {
            return Ok(());
        }
        let make = make.filter(|_| self.create);
        walk(nodes, root, &self.parts, make, set).map_err(|mut error| {
            let name = nodes.field(root, "metadata").and_then(|metadata| nodes.text_of(metadata, "name"));
            error.why = format!("{} of {}: {}", self.path, name.unwrap_or("an object"), error.why);
            error
        })
    }
}

fn walk(
    nodes: &mut Nodes,
    here: NodeId,
    parts: &[Part],
    make: Option<(Kind, Tag)>,
    set: &mut dyn FnMut(&mut Nodes, NodeId) -> Result<()>,
) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else { return set(nodes, here) };
    if nodes.is_null(here) {
        return Ok(());
    }
    match nodes[here].kind {
        Kind::Scalar => Err(nodes.fail(here, format!("here is a scalar where {} is looked for", part.name))),
        Kind::Sequence => {
            for at in 0..nodes[here].children.len() {
                let child = nodes[here].children[at];
                walk(nodes, child, parts, make, set)?;
            }
            Ok(())
        }
        Kind::Mapping => {
            if part.name.is_empty() {
                return Err(invalid("a field path has an empty part"));
            }
            let made = match make {
                _ if part.list => None,
                Some(_) if !rest.is_empty() => Some((Kind::Mapping, Tag::Open)),
                make => make,
            };
            let field = match (nodes.field(here, &part.name), made) {
                (Some(field), _) => field,
                (None, None) => return Ok(()),
                (None, Some((kind, _))) => {
                    let field = nodes.add(Node::empty(kind));
                    nodes.set(here, &part.name, Some(field))?;
                    field
                }
            };
            let kind = if part.list { Some((Kind::Sequence, Tag::Open)) } else { made };
            if nodes.is_null(field)
                && let Some((kind, tag)) = kind
            {
                (nodes[field].kind, nodes[field].tag) = (kind, tag);
            }
            walk(nodes, field, rest, make, set)
        }
    }
}

/// Which names of which kind are referred to, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct BackReference {
    #[serde(flatten)]
    pub(super) target: Gvk,
    #[serde(default, rename = "fieldSpecs")]
    pub(super) referrers: Vec<FieldSpec>,
}

/// All field specs of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Fields {
    pub(super) name_prefix: Vec<FieldSpec>,
    pub(super) name_suffix: Vec<FieldSpec>,
    pub(super) namespace: Vec<FieldSpec>,
    pub(super) common_labels: Vec<FieldSpec>,
    pub(super) labels: Vec<FieldSpec>,
    pub(super) template_labels: Vec<FieldSpec>,
    pub(super) common_annotations: Vec<FieldSpec>,
    pub(super) name_reference: Vec<BackReference>,
    pub(super) var_reference: Vec<FieldSpec>,
    pub(super) images: Vec<FieldSpec>,
    pub(super) replicas: Vec<FieldSpec>,
}

impl Fields {
    pub(super) fn defaults() -> Arc<Self> {
        static TABLE: OnceLock<Arc<Fields>> = OnceLock::new();
        TABLE.get_or_init(|| Arc::new(Self::table(DEFAULTS))).clone()
    }

    fn table(text: &str) -> Self {
        let mut fields = Self::default();
        let mut section = "";
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
                continue;
            }
            let mut words = line.split(' ');
            let path = words.next().unwrap_or_default();
            let (mut gvk, mut create) = (Gvk::default(), false);
            for word in words {
                match word.split_once('=') {
                    Some(("kind", kind)) => kind.clone_into(&mut gvk.kind),
                    Some(("version", version)) => version.clone_into(&mut gvk.version),
                    Some(("group", group)) => group.clone_into(&mut gvk.group),
                    _ => create = word == "create",
                }
            }
            if path == ">" {
                fields.name_reference.push(BackReference { target: gvk, referrers: Vec::new() });
                continue;
            }
            let spec = FieldSpec::new(gvk, path, create);
            let list = match section {
                "namePrefix" => &mut fields.name_prefix,
                "nameSuffix" => &mut fields.name_suffix,
                "namespace" => &mut fields.namespace,
                "commonLabels" => &mut fields.common_labels,
                "templateLabels" => &mut fields.template_labels,
                "commonAnnotations" => &mut fields.common_annotations,
                "varReference" => &mut fields.var_reference,
                "images" => &mut fields.images,
                "replicas" => &mut fields.replicas,
                _ => match fields.name_reference.last_mut() {
                    Some(last) => &mut last.referrers,
                    None => &mut fields.labels,
                },
            };
            list.push(spec);
        }
        fields.sort();
        fields
    }

    pub(super) fn sort(&mut self) {
        for list in [
            &mut self.name_prefix,
            &mut self.name_suffix,
            &mut self.namespace,
            &mut self.common_labels,
            &mut self.labels,
            &mut self.template_labels,
            &mut self.common_annotations,
            &mut self.var_reference,
            &mut self.images,
            &mut self.replicas,
        ] {
            list.sort_by_cached_key(|spec| spec.gvk.order());
        }
        self.name_reference.sort_by_cached_key(|reference| reference.target.order());
    }

    /// Both, where equal specs agree whether to create.
    pub(super) fn merge(mut self, other: &Self) -> Result<Self> {
        merge_specs(&mut self.name_prefix, &other.name_prefix)?;
        merge_specs(&mut self.name_suffix, &other.name_suffix)?;
        merge_specs(&mut self.namespace, &other.namespace)?;
        merge_specs(&mut self.common_labels, &other.common_labels)?;
        merge_specs(&mut self.labels, &other.labels)?;
        merge_specs(&mut self.template_labels, &other.template_labels)?;
        merge_specs(&mut self.common_annotations, &other.common_annotations)?;
        merge_specs(&mut self.var_reference, &other.var_reference)?;
        merge_specs(&mut self.images, &other.images)?;
        merge_specs(&mut self.replicas, &other.replicas)?;
        for reference in &other.name_reference {
            merge_reference(&mut self.name_reference, reference)?;
        }
        self.sort();
        Ok(self)
    }
}

pub(super) fn merge_reference(list: &mut Vec<BackReference>, other: &BackReference) -> Result<()> {
    if let Some(found) = list.iter_mut().find(|reference| reference.target == other.target) {
        return merge_specs(&mut found.referrers, &other.referrers);
    }
    list.push(other.clone());
    Ok(())
}

pub(super) fn merge_specs(list: &mut Vec<FieldSpec>, other: &[FieldSpec]) -> Result<()> {
    for spec in other {
        let same = |old: &&FieldSpec| {
            spec.gvk.selects(&old.gvk.group, &old.gvk.version, &old.gvk.kind) && old.path == spec.path
        };
        match list.iter().find(same) {
            Some(old) if old.create != spec.create => {
                return Err(invalid(format!("two field specs for {} disagree about create", spec.path)));
            }
            Some(_) => {}
            None => list.push(spec.clone()),
        }
    }
    Ok(())
}
