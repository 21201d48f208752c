//! From an Application and the commits of its sources to the objects it wants.

use std::collections::HashSet;

use serde_json::Value;

use crate::api::{ApplicationSpec, Source, label_value};
use crate::diff::IgnoreRule;
use crate::error::{Code, Error, Result};
use crate::model::{Digest, Gvk, Key, Object};
use crate::plan::{Desired, Settings, prepare};
use crate::render::{Mounted, Options, Selection, Tree, helm, kustomize, render};
use crate::source::Snapshot;

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

/// Renders all sources and prepares their objects. Blocking: it reads Git objects.
pub fn render_app(
    spec: &ApplicationSpec,
    settings: &Settings,
    snapshots: &[Snapshot],
    namespaced: impl Fn(&Gvk) -> Option<bool>,
    live: impl Fn(&Key) -> Option<Value>,
) -> Result<RenderedApp> {
    let sources: Vec<&Source> = spec.sources().collect();
    check_names(&sources)?;
    let trees = snapshots.iter().map(Snapshot::tree).collect::<Result<Vec<_>>>()?;
    let mut objects: Vec<Object> = Vec::new();
    let mut reads: Vec<SourceIdentity> = vec![Vec::new(); trees.len()];
    for (number, (source, tree)) in sources.iter().zip(&trees).enumerate() {
        if is_reference(source, &sources) {
            continue;
        }
        let others: Vec<usize> =
            (0..trees.len()).filter(|other| *other != number && !sources[*other].name.is_empty()).collect();
        let named = others.iter().map(|other| (sources[*other].name.as_str(), &trees[*other] as &dyn Tree));
        let tree = Mounted::new(tree, named);
        let rendered = render(&tree, &source.path, &options(settings, source))?;
        objects.extend(rendered.objects.iter().cloned());
        for (path, identity) in rendered.reads {
            match tree.place(&path) {
                Some((other, inner)) => reads[others[other]].push((inner.to_owned(), identity)),
                None => reads[number].push((path, identity)),
            }
        }
    }
    if objects.is_empty() && !spec.sync.allow_empty {
        let why = "the source holds no manifest; everything this application manages would be deleted";
        return Err(
            Error::new(Code::NothingRendered, why).hint("set spec.sync.allowEmpty: true if that is meant")
        );
    }
    let desired = prepare(&objects, settings, namespaced, live)?;
    let digest = Digest::of_parts(desired.iter().map(|object| object.digest.as_bytes().to_vec()));
    Ok(RenderedApp { desired, digest: Some(digest), reads })
}

/// The name of the source that a values file is in: `values` for `$values/prod.yaml`.
fn named(path: &str) -> Option<&str> {
    path.strip_prefix('$').map(|rest| rest.split('/').next().unwrap_or(rest))
}

/// The names of sources that the values files of one name.
fn references(source: &Source) -> impl Iterator<Item = &str> {
    let files = source.helm.values_files.iter().map(String::as_str);
    files.chain(source.helm.file_parameters.iter().map(|one| one.path.as_str())).filter_map(named)
}

/// Whether a source only holds what others name, and no manifest of its own.
fn is_reference(source: &Source, all: &[&Source]) -> bool {
    let alone = source.path.is_empty() && source.chart.is_empty() && !source.name.is_empty();
    alone
        && all
            .iter()
            .any(|other| other.name != source.name && references(other).any(|name| name == source.name))
}

fn check_names(sources: &[&Source]) -> Result<()> {
    let invalid = |why: String| Err(Error::new(Code::ApplicationInvalid, why));
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    for (number, source) in sources.iter().enumerate() {
        let known = |name: &str| !name.is_empty() && names.contains(&name);
        if known(&source.name) && names[..number].contains(&source.name.as_str()) {
            return invalid(format!("two of spec.sources have the name {}", source.name));
        }
        if let Some(own) = references(source).find(|name| known(name) && *name == source.name) {
            return invalid(format!(
                "a values file of the source {own} names ${own}/; leave it out for its own files"
            ));
        }
        if let Some(unknown) = references(source).find(|name| !known(name)) {
            return invalid(format!(
                "a values file is in ${unknown}/, and none of spec.sources has that name"
            ));
        }
    }
    Ok(())
}

/// How a source is rendered.
fn options(settings: &Settings, source: &Source) -> Options {
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
        ..Options::default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::HelmOptions;

    fn source(name: &str, path: &str, values: &[&str]) -> Source {
        let values_files = values.iter().map(|file| (*file).to_owned()).collect();
        Source {
            name: name.into(),
            path: path.into(),
            helm: HelmOptions { values_files, ..HelmOptions::default() },
            ..Source::default()
        }
    }

    #[test]
    fn a_source_that_is_only_named_holds_no_manifest() {
        let chart = source("", "chart", &["values.yaml", "$values/prod.yaml"]);
        let values = source("values", "", &[]);
        let both = [&chart, &values];
        assert!(is_reference(&values, &both) && !is_reference(&chart, &both));
        check_names(&both).unwrap();
        let manifests = source("values", "manifests", &[]);
        assert!(!is_reference(&manifests, &[&chart, &manifests]), "it has a path of its own");
        let unused = source("spare", "", &[]);
        assert!(!is_reference(&unused, &[&chart, &unused]), "nobody names it");
    }

    #[test]
    fn names_that_lead_nowhere() {
        for (sources, why) in [
            (vec![source("a", "", &[]), source("a", "", &[])], "two of spec.sources"),
            (vec![source("", "", &["$a/x"])], "none of spec.sources"),
            (vec![source("", "", &["$/x"])], "none of spec.sources"),
            (vec![source("a", "", &["$a/x"])], "leave it out"),
        ] {
            let error = check_names(&sources.iter().collect::<Vec<_>>()).unwrap_err();
            assert_eq!(error.code, Code::ApplicationInvalid);
            assert!(error.why.contains(why), "{error}");
        }
        check_names(&[&source("", "", &[]), &source("", "", &[])]).unwrap();
    }
}
