//! The transformers: what changes objects that are there.

use regex::Regex;

use super::fields::{FieldSpec, Fields};
use super::json_patch::{self, Operation};
use super::kustomization::{Image, Replacement, Replica, Selector, Strings};
use super::merge::merge;
use super::node::{Kind, Node, NodeId, Nodes, Tag, invalid, split_path};
use super::resource::{Resource, Resources};
use super::schema::Schema;
use super::select::Target;
use super::{generate, replace};
use crate::error::Result;

/// A strategic merge patch, and whether it may rename its target.
#[derive(Clone, Debug)]
pub(super) struct MergePatch {
    pub(super) patch: Resource,
    pub(super) renames: bool,
    pub(super) changes_kind: bool,
}

/// Which subjects of a RoleBinding get the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subjects {
    /// Those that are called `default`.
    Default,
    /// Every ServiceAccount.
    ServiceAccounts,
    None,
}

pub(super) enum Transformer {
    Merge {
        patches: Vec<MergePatch>,
        target: Option<Selector>,
    },
    Json {
        operations: Vec<Operation>,
        target: Selector,
        remembers: bool,
    },
    Namespace {
        namespace: String,
        specs: Vec<FieldSpec>,
        unset_only: bool,
        subjects: Subjects,
    },
    Prefix {
        text: String,
        specs: Vec<FieldSpec>,
    },
    Suffix {
        text: String,
        specs: Vec<FieldSpec>,
    },
    /// Labels or annotations.
    Strings {
        strings: Strings,
        specs: Vec<FieldSpec>,
    },
    Replicas {
        replica: Replica,
        specs: Vec<FieldSpec>,
    },
    Image {
        image: Image,
        specs: Vec<FieldSpec>,
    },
    Replacements(Vec<Replacement>),
    Add {
        value: String,
        target: Option<Selector>,
        path: String,
        position: usize,
    },
    Hash,
}

impl Transformer {
    pub(super) fn apply(&self, nodes: &mut Nodes, schema: &Schema, resources: &mut Resources) -> Result<()> {
        match self {
            Self::Merge { patches, target: None } => {
                patches.iter().try_for_each(|patch| one(nodes, schema, resources, patch))
            }
            Self::Merge { patches, target: Some(target) } => {
                selected(nodes, schema, resources, patches, target)
            }
            Self::Json { operations, target, remembers } => {
                json(nodes, resources, operations, target, *remembers)
            }
            Self::Namespace { namespace, specs, unset_only, subjects } => {
                Namespace { name: namespace, specs, unset_only: *unset_only, subjects: *subjects }
                    .all(nodes, resources)
            }
            Self::Prefix { text, specs } => rename(nodes, resources, text, specs, true),
            Self::Suffix { text, specs } => rename(nodes, resources, text, specs, false),
            Self::Strings { strings, specs } => set_strings(nodes, resources, strings, specs),
            Self::Replicas { replica, specs } => replicas(nodes, resources, replica, specs),
            Self::Image { image, specs } => images(nodes, resources, image, specs),
            Self::Replacements(all) => all.iter().try_for_each(|one| replace::apply(nodes, resources, one)),
            Self::Add { value, target, path, position } => {
                add(nodes, resources, value, target.as_ref(), path, *position)
            }
            Self::Hash => hash_names(nodes, resources),
        }
    }
}

/// Gives generated objects the hash of their content as a suffix.
pub(super) fn hash_names(nodes: &mut Nodes, resources: &mut Resources) -> Result<()> {
    let mut changed = false;
    for resource in &mut resources.list {
        if resource.needs_hash {
            let name = format!("{}-{}", resource.name(nodes), generate::hash(nodes, resource)?);
            resource.remember_id(nodes);
            resource.set_name(nodes, &name)?;
            changed = true;
        }
    }
    if changed {
        resources.changed();
    }
    Ok(())
}

fn one(nodes: &mut Nodes, schema: &Schema, resources: &mut Resources, patch: &MergePatch) -> Result<()> {
    let at = resources.target(nodes, &patch.patch)?;
    merge_into(nodes, schema, &mut resources.list[at], patch.patch.root, patch)?;
    if patch.renames || patch.changes_kind {
        resources.changed();
    }
    Ok(())
}

fn selected(
    nodes: &mut Nodes,
    schema: &Schema,
    resources: &mut Resources,
    patches: &[MergePatch],
    target: &Selector,
) -> Result<()> {
    let [patch] = patches else {
        return Err(invalid(format!("a patch with a target is one document, not {}", patches.len())));
    };
    let target = Target::new(target)?;
    for at in 0..resources.list.len() {
        if resources.list[at].gone || !target.matches(nodes, &resources.list[at]) {
            continue;
        }
        let root = nodes.copy(patch.patch.root);
        let copy = Resource::new(root);
        // On this way kustomize takes the patch's labels and annotations for plain texts: null removes none.
        for field in ["labels", "annotations"] {
            let mut strings = copy.strings(nodes, field);
            strings.sort();
            copy.set_strings(nodes, field, &strings)?;
        }
        let version = resources.list[at].api_version(nodes).to_owned();
        nodes.set_text(root, "apiVersion", &version)?;
        merge_into(nodes, schema, &mut resources.list[at], root, patch)?;
    }
    if patch.renames || patch.changes_kind {
        resources.drop_gone(nodes);
        resources.changed();
        resources.check_unique(nodes)?;
    }
    Ok(())
}

/// Name, namespace and kind stay, unless the patch may change them.
fn merge_into(
    nodes: &mut Nodes,
    schema: &Schema,
    resource: &mut Resource,
    patch: NodeId,
    options: &MergePatch,
) -> Result<()> {
    let text = |text: &str| text.to_owned();
    let (name, namespace, kind) =
        (text(resource.name(nodes)), text(resource.namespace(nodes)), text(resource.kind(nodes)));
    if options.renames || options.changes_kind {
        resource.remember_id(nodes);
    }
    if merge(nodes, schema, resource.root, patch)?.is_none() {
        resource.gone = true;
        return Ok(());
    }
    if nodes[resource.root].is_empty() {
        return Ok(());
    }
    if !options.changes_kind {
        nodes.set_text(resource.root, "kind", &kind)?;
    }
    if !options.renames {
        resource.set_name(nodes, &name)?;
    }
    resource.set_namespace(nodes, &namespace)
}

fn json(
    nodes: &mut Nodes,
    resources: &mut Resources,
    operations: &[Operation],
    target: &Selector,
    remembers: bool,
) -> Result<()> {
    let target = Target::new(target)?;
    let mut renamed = false;
    for resource in &mut resources.list {
        if resource.gone || !target.matches(nodes, resource) {
            continue;
        }
        let before = (
            resource.kind(nodes).to_owned(),
            resource.name(nodes).to_owned(),
            resource.namespace(nodes).to_owned(),
        );
        if remembers {
            resource.remember_id(nodes);
            renamed = true;
        }
        let mut value = nodes.value(resource.root)?;
        // kustomize keeps notes in the annotations, so there are some to patch.
        let annotations = value.pointer("/metadata/annotations");
        let made = resource.has_notes() && annotations.is_none_or(serde_json::Value::is_null);
        if made {
            value["metadata"]["annotations"] = serde_json::json!({});
        }
        let title = resource.id(nodes).to_string();
        json_patch::apply(operations, &mut value).map_err(|error| {
            nodes.fail(resource.root, format!("the JSON patch cannot be applied to {title}: {}", error.why))
        })?;
        if made
            && let Some(metadata) = value.get_mut("metadata").and_then(|metadata| metadata.as_object_mut())
            && metadata
                .get("annotations")
                .is_some_and(|left| left.as_object().is_some_and(serde_json::Map::is_empty))
        {
            metadata.remove("annotations");
        }
        if !value.is_object() {
            return Err(nodes.fail(resource.root, format!("the JSON patch leaves no object of {title}")));
        }
        let place = nodes[resource.root].place;
        resource.root = nodes.read(&value, place);
        let after = (resource.kind(nodes), resource.name(nodes), resource.namespace(nodes));
        renamed |= after != (before.0.as_str(), before.1.as_str(), before.2.as_str());
    }
    if renamed {
        resources.changed();
    }
    Ok(())
}

struct Namespace<'a> {
    name: &'a str,
    specs: &'a [FieldSpec],
    unset_only: bool,
    subjects: Subjects,
}

impl Namespace<'_> {
    fn all(&self, nodes: &mut Nodes, resources: &mut Resources) -> Result<()> {
        if self.name.is_empty() {
            return Ok(());
        }
        let metadata = FieldSpec::any("metadata/namespace", true);
        let mut counts = resources.counts(nodes);
        for resource in &mut resources.list {
            if resource.gone {
                continue;
            }
            let before = Resources::key(resource, nodes);
            resource.remember_id(nodes);
            self.one(nodes, resource, &metadata)?;
            let after = Resources::key(resource, nodes);
            if before != after {
                if let Some(count) = counts.get_mut(&before) {
                    *count -= 1;
                }
                let count = counts.entry(after).or_insert(0);
                *count += 1;
                if *count > 1 {
                    let why = format!(
                        "in the namespace {} there would be two of {}",
                        self.name,
                        resource.id(nodes)
                    );
                    return Err(nodes.fail(resource.root, why));
                }
            }
        }
        resources.changed();
        Ok(())
    }

    fn one(&self, nodes: &mut Nodes, resource: &Resource, metadata: &FieldSpec) -> Result<()> {
        let root = resource.root;
        let (core, kind) = (resource.api_version(nodes) == "v1", resource.kind(nodes).to_owned());
        let make = Some((Kind::Scalar, Tag::Text));
        if !resource.id(nodes).is_cluster_scoped() {
            metadata.visit(nodes, root, make, &mut |nodes, id| self.set(nodes, id))?;
        }
        let is_binding = |kind: &str| kind == "RoleBinding" || kind == "ClusterRoleBinding";
        if is_binding(&kind) {
            self.binding(nodes, root)?;
        }
        for spec in self.specs {
            let skipped = spec.path == "metadata/namespace"
                || (!core && spec.path == "metadata/name")
                || (is_binding(&kind) && is_binding(&spec.gvk.kind) && spec.path == "subjects/namespace");
            if !skipped {
                spec.visit(nodes, root, make, &mut |nodes, id| self.set(nodes, id))?;
            }
        }
        Ok(())
    }

    fn set(&self, nodes: &mut Nodes, id: NodeId) -> Result<()> {
        let node = &nodes[id];
        if self.unset_only && node.kind == Kind::Scalar && !nodes.is_null(id) && !node.text.is_empty() {
            return Ok(());
        }
        let value = nodes.add_text(self.name, Tag::Text);
        nodes.set_scalar(id, value)
    }

    fn binding(&self, nodes: &mut Nodes, root: NodeId) -> Result<()> {
        let (field, wanted) = match self.subjects {
            Subjects::None => return Ok(()),
            Subjects::Default => ("name", "default"),
            Subjects::ServiceAccounts => ("kind", "ServiceAccount"),
        };
        let Some(subjects) = nodes.get(root, "subjects")?.filter(|id| !nodes.is_null(*id)) else {
            return Ok(());
        };
        nodes.expect(subjects, Kind::Sequence)?;
        for subject in nodes[subjects].children.clone() {
            let found = nodes.get(subject, field)?;
            if !found.is_some_and(|id| !nodes.is_null(id) && &*nodes[id].text == wanted) {
                continue;
            }
            let namespace = if let Some(namespace) = nodes.get(subject, "namespace")? {
                namespace
            } else {
                let made = nodes.add(Node::empty(Kind::Scalar));
                nodes.set(subject, "namespace", Some(made))?;
                made
            };
            self.set(nodes, namespace)?;
        }
        Ok(())
    }
}

/// Kinds whose names are not for a prefix or suffix.
fn keeps_name(group: &str, kind: &str) -> bool {
    matches!(kind, "CustomResourceDefinition" | "Namespace")
        || (group == "apiregistration.k8s.io" && kind == "APIService")
}

fn rename(
    nodes: &mut Nodes,
    resources: &mut Resources,
    text: &str,
    specs: &[FieldSpec],
    before: bool,
) -> Result<()> {
    for resource in &mut resources.list {
        let id = resource.original_id(nodes);
        if keeps_name(id.group, id.kind) {
            continue;
        }
        let chosen: Vec<&FieldSpec> = specs.iter().filter(|spec| id.selected_by(&spec.gvk)).collect();
        for spec in chosen {
            if spec.path == "metadata/name" && !text.is_empty() {
                let affixes = if before { &mut resource.prefixes } else { &mut resource.suffixes };
                affixes.push(text.to_owned());
                resource.remember_id(nodes);
            }
            spec.visit(nodes, resource.root, Some((Kind::Scalar, Tag::Text)), &mut |nodes, id| {
                let old = &nodes[id].text;
                let new = if before { format!("{text}{old}") } else { format!("{old}{text}") };
                let value = nodes.add_text(&new, Tag::Open);
                nodes.set_scalar(id, value)
            })?;
        }
    }
    resources.changed();
    Ok(())
}

fn set_strings(
    nodes: &mut Nodes,
    resources: &Resources,
    strings: &Strings,
    specs: &[FieldSpec],
) -> Result<()> {
    for resource in resources.list.iter().filter(|resource| !resource.gone) {
        for (name, text) in strings {
            // One node for all places, as kustomize has it: a later change of one label shows at all of them.
            let value = nodes.add_text(text, Tag::Text);
            for spec in specs {
                spec.visit(nodes, resource.root, Some((Kind::Mapping, Tag::Open)), &mut |nodes, id| {
                    nodes.set(id, name, Some(value))
                })?;
            }
        }
    }
    Ok(())
}

fn replicas(
    nodes: &mut Nodes,
    resources: &mut Resources,
    replica: &Replica,
    specs: &[FieldSpec],
) -> Result<()> {
    let mut found = false;
    for spec in specs {
        for at in resources.named(nodes, &replica.name, |id| id.selected_by(&spec.gvk)) {
            found = true;
            let root = resources.list[at].root;
            spec.visit(nodes, root, Some((Kind::Scalar, Tag::Int)), &mut |nodes, id| {
                let value = nodes.add_text(&replica.count.to_string(), Tag::Int);
                nodes.set_scalar(id, value)
            })?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<&str> = specs.iter().map(|spec| spec.gvk.kind.as_str()).collect();
    Err(invalid(format!(
        "replicas: no resource {} of a kind with replicas ({})",
        replica.name,
        kinds.join(", ")
    )))
}

struct Images<'a> {
    image: &'a Image,
    regex: Regex,
}

fn images(nodes: &mut Nodes, resources: &Resources, image: &Image, specs: &[FieldSpec]) -> Result<()> {
    let pattern = format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name);
    let regex = Regex::new(&pattern).map_err(|error| {
        invalid(format!("images: the name {:?} is no regular expression: {error}", image.name))
    })?;
    let images = Images { image, regex };
    for resource in &resources.list {
        if resource.gone || resource.kind(nodes) == "CustomResourceDefinition" {
            continue;
        }
        images.containers(nodes, resource.root)?;
        for spec in specs {
            spec.visit(nodes, resource.root, None, &mut |nodes, id| images.set(nodes, id))?;
        }
    }
    Ok(())
}

impl Images<'_> {
    /// Lists of containers, however deep they are.
    fn containers(&self, nodes: &mut Nodes, here: NodeId) -> Result<()> {
        match nodes[here].kind {
            Kind::Scalar => Ok(()),
            Kind::Sequence => (0..nodes[here].children.len())
                .try_for_each(|at| self.containers(nodes, nodes[here].children[at])),
            Kind::Mapping => {
                for (key, value) in nodes.pairs(here).collect::<Vec<_>>() {
                    self.containers(nodes, value)?;
                    let named = matches!(&*nodes[key].text, "containers" | "initContainers");
                    if named && nodes[value].kind == Kind::Sequence {
                        for item in nodes[value].children.clone() {
                            if let Some(image) = nodes.get(item, "image")? {
                                self.set(nodes, image)?;
                            }
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn set(&self, nodes: &mut Nodes, id: NodeId) -> Result<()> {
        nodes.expect(id, Kind::Scalar)?;
        if !self.regex.is_match(&nodes[id].text) {
            return Ok(());
        }
        let text = nodes[id].text.to_string();
        let (name, mut tag, mut digest) = split_image(&text);
        let image = self.image;
        let name = if image.new_name.is_empty() { name } else { &image.new_name };
        let suffixed = format!("{tag}{}", image.tag_suffix);
        match (image.new_tag.is_empty(), image.digest.is_empty()) {
            (false, false) => (tag, digest) = (&image.new_tag, &image.digest),
            (false, true) => (tag, digest) = (&image.new_tag, ""),
            (true, false) => (tag, digest) = ("", &image.digest),
            (true, true) if !image.tag_suffix.is_empty() => (tag, digest) = (&suffixed, ""),
            (true, true) => {}
        }
        let mut new = name.to_owned();
        for (mark, part) in [(':', tag), ('@', digest)] {
            if !part.is_empty() {
                new.push(mark);
                new.push_str(part);
            }
        }
        let value = nodes.add_text(&new, Tag::Open);
        nodes.set_scalar(id, value)
    }
}

/// Name, tag and digest; a port of the registry is no tag.
pub(super) fn split_image(image: &str) -> (&str, &str, &str) {
    let begin = image.find('/').unwrap_or(0);
    let find = |mark: char| image[begin..].find(mark).map(|at| at + begin);
    match (find(':'), find('@')) {
        (None, None) => (image, "", ""),
        (Some(tag), Some(digest)) if tag < digest => {
            (&image[..tag], &image[tag + 1..digest], &image[digest + 1..])
        }
        (_, Some(digest)) => (&image[..digest], "", &image[digest + 1..]),
        (Some(tag), None) => (&image[..tag], &image[tag + 1..], ""),
    }
}

fn add(
    nodes: &mut Nodes,
    resources: &mut Resources,
    value: &str,
    target: Option<&Selector>,
    path: &str,
    position: usize,
) -> Result<()> {
    let target = target.map(Target::new).transpose()?;
    let namespace = Namespace { name: value, specs: &[], unset_only: false, subjects: Subjects::Default };
    let metadata = FieldSpec::any("metadata/namespace", true);
    for resource in &resources.list {
        if resource.gone || target.as_ref().is_some_and(|target| !target.matches(nodes, resource)) {
            continue;
        }
        if path == "metadata/namespace" {
            namespace.one(nodes, resource, &metadata)?;
            continue;
        }
        let mut here = resource.root;
        let parts = split_path(path, '/');
        for (at, part) in parts.iter().enumerate() {
            here = if let Some(found) = nodes.lookup(here, std::slice::from_ref(part))? {
                found
            } else {
                let kind = if at + 1 == parts.len() { Kind::Scalar } else { Kind::Mapping };
                let made = nodes.add(Node::empty(kind));
                nodes.set(here, part, Some(made))?;
                made
            };
        }
        nodes.expect(here, Kind::Scalar)?;
        let new =
            if position > 0 { insert_part(&nodes[here].text, position - 1, value) } else { value.to_owned() };
        let new = nodes.add_text(&new, Tag::Open);
        nodes.set_scalar(here, new)?;
    }
    resources.changed();
    Ok(())
}

/// Puts a part into a path of files; a place beyond the end is the end.
fn insert_part(path: &str, at: usize, part: &str) -> String {
    if path.is_empty() {
        return part.to_owned();
    }
    let (root, rest) = path.strip_prefix('/').map_or(("", path), |rest| ("/", rest));
    let mut parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    parts.insert(at.min(parts.len()), part);
    format!("{root}{}", parts.join("/"))
}

/// The label transformers of a kustomization.
pub(super) fn labels(
    labels: &[super::kustomization::Label],
    common: &Strings,
    fields: &Fields,
) -> Result<Vec<Transformer>> {
    let mut all = Vec::new();
    if labels.is_empty() && common.is_empty() {
        return Ok(all);
    }
    for label in labels {
        let mut specs = label.fields.clone();
        super::fields::merge_specs(&mut specs, &fields.labels)?;
        if label.include_selectors {
            super::fields::merge_specs(&mut specs, &fields.common_labels)?;
        } else {
            if label.include_templates {
                super::fields::merge_specs(&mut specs, &fields.template_labels)?;
            }
            super::fields::merge_specs(&mut specs, &[FieldSpec::any("metadata/labels", true)])?;
        }
        all.push(Transformer::Strings { strings: label.pairs.clone(), specs });
    }
    all.push(Transformer::Strings { strings: common.clone(), specs: fields.common_labels.clone() });
    Ok(all)
}
