//! From an Application and the commits of its sources to the objects it wants.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use crate::api::{ApplicationSpec, Source, label_value};
use crate::diff::IgnoreRule;
use crate::error::{Code, Error, Result};
use crate::model::{Confidential, Digest, Gvk, Key, Object};
use crate::plan::{Desired, Settings, prepare};
use crate::render::{Cache, Options, Selection, Tree, helm, kustomize};
use crate::source::Snapshot;

use super::{Material, Materials, Versions};

/// What one source read: paths and their identities. While they stay, so does the render.
pub type SourceIdentity = Vec<(String, String)>;

/// All objects of an application at the commits of its sources.
#[derive(Clone, Debug, Default)]
pub struct RenderedApp {
    /// What will be applied.
    pub desired: Vec<Desired>,
    /// Digest over all of it.
    pub digest: Option<Digest>,
    /// What each source read.
    pub reads: Vec<SourceIdentity>,
    /// What was read of the cluster for it.
    pub inputs: Versions,
}

/// What an Application adds to its objects.
pub fn settings(namespace: &str, name: &str, spec: &ApplicationSpec) -> Settings {
    let ignore = spec
        .ignore_differences
        .iter()
        .map(|rule| IgnoreRule {
            group: rule.group.clone(),
            kind: rule.kind.clone(),
            namespace: rule.namespace.clone(),
            name: rule.name.clone(),
            pointers: rule.pointers.clone(),
            jq: rule.jq.clone(),
            managers: rule.managers.clone(),
        })
        .collect();
    Settings {
        name: name.to_owned(),
        label: label_value(namespace, name),
        namespace: spec.destination.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        ignore,
    }
}

/// What a render of an application reads from.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The commit of each source.
    pub snapshots: &'a [Snapshot],
    /// Keys and variables.
    pub materials: &'a Materials,
    /// What applications and revisions share.
    pub cache: &'a Cache,
}

/// Renders all sources and prepares their objects. Blocking: it reads Git objects.
///
/// The digest of an object that holds something decrypted stands in the Application's status, where more people
/// may read it than the object: so it is made with what only readers of the Secrets know, and nobody can try
/// passwords against it.
pub fn render_app(
    spec: &ApplicationSpec,
    settings: &Settings,
    given: Given<'_>,
    namespaced: impl Fn(&Gvk) -> Option<bool>,
    live: impl Fn(&Key) -> Option<Value>,
) -> Result<RenderedApp> {
    let materials = given.materials;
    let mut hidden = Confidential::default();
    let mut rendered = Vec::new();
    for (number, (source, snapshot)) in spec.sources().zip(given.snapshots).enumerate() {
        let material = materials.sources.get(number).cloned().unwrap_or_default();
        let options = options(settings, source, material);
        let one = given.cache.render(&snapshot.tree()?, &source.path, &options)?;
        hidden.merge(&one.hidden);
        rendered.push(one);
    }
    let objects: Cow<'_, [Object]> = match rendered.as_slice() {
        [one] => Cow::Borrowed(&one.objects),
        all => all.iter().flat_map(|one| one.objects.iter().cloned()).collect(),
    };
    if objects.is_empty() && !spec.sync.allow_empty {
        let why = "the source holds no manifest; everything this application manages would be deleted";
        return Err(
            Error::new(Code::NothingRendered, why).hint("set spec.sync.allowEmpty: true if that is meant")
        );
    }
    let mut desired = prepare(&objects, settings, namespaced, live)
        .map_err(|error| Error { why: hidden.scrub(&error.why), ..error })?;
    if !hidden.is_empty() {
        for object in &mut desired {
            let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
            if hidden.touches(&value) {
                object.digest = Digest::of_parts([materials.salt.clone(), object.body.clone()]);
            }
            object.hidden = hidden.clone();
        }
    }
    let digest = Digest::of_parts(desired.iter().map(|object| object.digest.as_bytes().to_vec()));
    let reads = rendered.into_iter().map(|one| one.reads).collect();
    Ok(RenderedApp { desired, digest: Some(digest), reads, inputs: materials.versions.clone() })
}

/// How a source is rendered.
fn options(settings: &Settings, source: &Source, material: Material) -> Options {
    let (chart, overlay) = (source.helm.clone(), source.kustomize.clone());
    Options {
        selection: Selection {
            recurse: source.directory.recurse,
            include: source.directory.include.clone(),
            exclude: source.directory.exclude.clone(),
        },
        helm: helm::Options {
            release_name: if chart.release_name.is_empty() {
                settings.name.clone()
            } else {
                chart.release_name
            },
            namespace: settings.namespace.clone(),
            values_files: chart.values_files,
            ignore_missing_values_files: chart.ignore_missing_values_files,
            values: chart.values,
            parameters: chart
                .parameters
                .into_iter()
                .map(|one| helm::Parameter { name: one.name, value: one.value, text: one.force_string })
                .collect(),
            file_parameters: chart.file_parameters.into_iter().map(|one| (one.name, one.path)).collect(),
            skip_crds: chart.skip_crds,
            skip_schema_validation: chart.skip_schema_validation,
            kube_version: chart.kube_version,
            api_versions: chart.api_versions,
            ..helm::Options::default()
        },
        kustomize: kustomize::Options {
            name_prefix: overlay.name_prefix,
            name_suffix: overlay.name_suffix,
            namespace: overlay.namespace,
            images: overlay.images,
            replicas: overlay.replicas,
            labels: overlay.labels,
            annotations: overlay.annotations,
            components: overlay.components,
            patches: overlay.patches,
        },
        substitute: material.variables,
        keys: material.keys,
    }
}

/// Whether everything that was read is the same at other commits. Blocking.
pub fn unchanged(reads: &[SourceIdentity], snapshots: &[Snapshot]) -> bool {
    reads.len() == snapshots.len()
        && reads.iter().zip(snapshots).all(|(reads, snapshot)| {
            let Ok(tree) = snapshot.tree() else { return false };
            let same = |path: &str, identity: &str| {
                // Where nothing was, nothing must be.
                tree.entry(path)
                    .is_ok_and(|entry| entry.map_or(identity.is_empty(), |entry| entry.identity == identity))
            };
            reads.iter().all(|(path, identity)| same(path, identity))
        })
}

/// The kinds of a set of objects.
pub(super) fn kinds(desired: &[Desired]) -> HashSet<Gvk> {
    desired.iter().map(|object| object.gvk.clone()).collect()
}
