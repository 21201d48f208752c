//! What `kustomize build` 5.7 makes of a folder, to the byte, without plugins and without the network.
//!
//! kustomization files (`kustomization`) are walked (`build`); documents become `node`s in the dialect that
//! kustomize reads (`parse`); generators make objects (`generate`), transformers change them (`transform`, with
//! `merge` and `json_patch` for patches and `replace` for replacements); at the end names that changed are
//! followed (`names`), vars resolved, and the order made (`sort`). [Known differences](../../../docs/render.md).

mod build;
mod charts;
mod configurations;
mod fields;
mod generate;
mod generators;
mod json_patch;
mod kustomization;
mod layer;
mod ledger;
mod merge;
mod names;
mod node;
mod options;
mod parse;
mod plugins;
mod remote;
mod replace;
mod resource;
mod schema;
mod select;
mod sort;
mod transform;
mod transformers;
mod vars;

use serde_json::Value;

use self::build::{Build, Gathered};
use self::ledger::{Ledger, Step};
use self::node::Nodes;
use self::resource::{Resource, Trace};
use crate::error::Result;
use crate::model::Origin;
use crate::render::Tree;
use crate::render::explain::Explanation;

pub(in crate::render) use self::kustomization::NAMES;
pub use self::options::Options;

/// The version whose results are given, as `buildMetadata: [managedByLabel]` names it.
const VERSION: &str = "kustomize-v5.7.1";
const ORIGIN: &str = "config.kubernetes.io/origin";
const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";
/// Annotations that are kustomize's own notes.
const NOTES: &[&str] = &[
    "internal.config.kubernetes.io/previousKinds",
    "internal.config.kubernetes.io/previousNames",
    "internal.config.kubernetes.io/prefixes",
    "internal.config.kubernetes.io/suffixes",
    "internal.config.kubernetes.io/previousNamespaces",
    "internal.config.kubernetes.io/allowNameChange",
    "internal.config.kubernetes.io/allowKindChange",
    "internal.config.kubernetes.io/refBy",
    "internal.config.kubernetes.io/generatorBehavior",
    "internal.config.kubernetes.io/needsHashSuffix",
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
];

/// The result of a build.
#[derive(Clone, Debug)]
pub struct Built {
    /// Each object with the file and line it began at; nothing is checked that kustomize does not check.
    pub objects: Vec<(Value, Origin)>,
    /// Paths read and the identity of each; where nothing was, the identity is empty.
    pub reads: Vec<(String, String)>,
}

impl Built {
    /// The text that `kustomize build` prints.
    pub fn text(&self) -> String {
        let documents: Vec<String> =
            self.objects.iter().map(|(value, _)| crate::model::yaml::emit(value)).collect();
        documents.join("---\n")
    }
}

/// Builds the kustomization of a folder of the tree.
///
/// # Errors
/// `KustomizationInvalid`, `PathNotFound`, `RemoteBaseRefused` and what a manifest's reader says, with file, line
/// and the chain of kustomizations that led there.
pub fn build(tree: &dyn Tree, folder: &str, options: &Options) -> Result<Built> {
    run(Build::new(tree), folder, options).map(|(built, _)| built)
}

/// Builds, and says of every field which place wrote it.
pub(in crate::render) fn explain(
    tree: &dyn Tree,
    folder: &str,
    options: &Options,
) -> Result<Vec<Explanation>> {
    let mut build = Build::new(tree);
    build.ledger = Some(Ledger::default());
    run(build, folder, options).map(|(_, explained)| explained)
}

fn run(mut build: Build<'_>, folder: &str, options: &Options) -> Result<(Built, Vec<Explanation>)> {
    let layer = build.layer(folder)?;
    build.use_schema(&layer, true)?;
    let around = options.around(&layer)?;
    let wants = |name: &str| layer.kustomization.build_metadata.iter().any(|option| option == name);
    if !layer.kustomization.build_metadata.is_empty() {
        build.begin_trace();
    }
    let mut gathered = build.gather(&layer, Gathered::default())?;
    if let Some(around) = &around {
        gathered = build.gather_around(around, gathered)?;
    }
    let mut fields = gathered.fields.take().unwrap_or_default();
    let resources = &mut gathered.resources;
    transform::hash_names(&mut build.nodes, resources)?;
    build.note(resources, || Step::own("hash of the content"));
    names::follow(&mut build.nodes, resources, &fields)?;
    build.note(resources, || Step::own("name reference"));
    vars::resolve(&mut build.nodes, resources, &gathered.vars, std::sync::Arc::make_mut(&mut fields))?;
    build.note(resources, || layer.step("vars", ""));
    let nodes = &mut build.nodes;
    resources.list.retain(|resource| {
        let strings = resource.strings(nodes, "annotations");
        let local = strings.iter().find(|(name, _)| name == "config.kubernetes.io/local-config");
        local.is_none_or(|(_, text)| text == "false")
    });
    resources.check_unique(nodes)?;
    sort::sort(nodes, &mut resources.list, layer.kustomization.sort_options.as_ref())?;
    for resource in &resources.list {
        if wants("managedByLabel") {
            let metadata = nodes.map_at(resource.root, "metadata")?;
            let labels = nodes.map_at(metadata, "labels")?;
            nodes.set_text(labels, "app.kubernetes.io/managed-by", VERSION)?;
        }
        finish(nodes, resource, wants("originAnnotations"), wants("transformerAnnotations"))?;
    }
    build.note(resources, || layer.step("buildMetadata", ""));
    let (nodes, mut explained) = (&build.nodes, Vec::new());
    let mut objects = Vec::with_capacity(resources.list.len());
    for resource in &resources.list {
        let (file, line) = build::place(nodes, resource.root);
        let id = resource.id(nodes).to_string();
        let value = nodes.value(resource.root).map_err(|error| error.on_object(id))?;
        explained.extend(build.ledger.as_mut().map(|ledger| ledger.explanation(resource, &value)));
        objects.push((value, Origin { file, line }));
    }
    let mut reads = build.reads;
    reads.sort();
    reads.dedup();
    Ok((Built { objects, reads }, explained))
}

/// Writes the annotations anew: all are texts, without notes.
fn finish(
    nodes: &mut Nodes,
    resource: &Resource,
    with_origin: bool,
    with_transformations: bool,
) -> Result<()> {
    let mut annotations = resource.strings(nodes, "annotations");
    annotations.retain(|(name, _)| {
        let own = NOTES.contains(&name.as_str()) || (name == ORIGIN) || (name == TRANSFORMATIONS);
        !own
    });
    if let Some(origin) = resource.origin.as_ref().filter(|_| with_origin) {
        annotations.push((ORIGIN.to_owned(), trace(origin, "")));
    }
    if with_transformations && !resource.transformations.is_empty() {
        let all: String =
            resource.transformations.iter().map(|one| format!("- {}", trace(one, "  "))).collect();
        annotations.push((TRANSFORMATIONS.to_owned(), all));
    }
    annotations.sort();
    resource.set_strings(nodes, "annotations", &annotations)
}

/// A trace as YAML; all lines but the first are indented.
fn trace(trace: &Trace, indent: &str) -> String {
    let word = |text: &str| crate::model::yaml::emit(&Value::from(text)).trim_end().to_owned();
    let mut lines = Vec::new();
    if !trace.path.is_empty() {
        lines.push(format!("path: {}", word(&trace.path)));
    }
    if !trace.configured_in.is_empty() {
        lines.push(format!("configuredIn: {}", word(&trace.configured_in)));
    }
    if let Some(by) = &trace.configured_by {
        lines.push("configuredBy:".to_owned());
        for (name, text) in ["apiVersion", "kind", "name", "namespace"].iter().zip(by) {
            if !text.is_empty() {
                lines.push(format!("  {name}: {}", word(text)));
            }
        }
    }
    lines.join(&format!("\n{indent}")) + "\n"
}
