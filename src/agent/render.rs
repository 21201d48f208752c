//! From an Application and the commits of its sources to the objects it wants.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::{ApplicationSpec, Source, label_value};
use crate::diff::IgnoreRule;
use crate::error::{Code, Error, Result};
use crate::model::{Confidential, Digest, Generated, Gvk, Key, Object};
use crate::plan::{Prepared, Settings, place, prepare};
use crate::render::{Cache, Mount, Mounted, Options, Rendered, Selection, Tree, helm, kustomize};
use crate::rollout::{Bound, bind};
use crate::source::Snapshot;

use super::references::{check_names, is_reference};
use super::{Capable, Material, Materials, Remotes, Versions};

/// What one source read: paths and their identities. While they stay, so does the render.
pub type SourceIdentity = Vec<(String, String)>;

/// All objects of an application at the commits of its sources.
#[derive(Clone, Debug, Default)]
pub struct RenderedApp {
    /// What will be applied, and what is left alone.
    pub prepared: Prepared,
    /// Digest over all of it.
    pub digest: Option<Digest>,
    /// What each source read.
    pub reads: Vec<SourceIdentity>,
    /// What was read of the cluster for it.
    pub inputs: Versions,
    /// Whether a chart was rendered, for what the cluster was capable of.
    pub charts: bool,
    /// Policies and what they decide about.
    pub rollouts: Vec<Bound>,
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
    /// What charts may ask of the cluster.
    pub capable: &'a Capable,
    /// Other repositories, as far as they are at hand.
    pub remotes: &'a Remotes,
}

/// The objects of all sources, as they are rendered.
#[derive(Clone, Default)]
pub struct Sourced {
    rendered: Vec<Rendered>,
    reads: Vec<SourceIdentity>,
    hidden: Confidential,
    materials: Materials,
}

/// Renders all sources. Blocking: it reads Git objects.
///
/// # Errors
/// What the renderers say, `ApplicationInvalid` for names that lead nowhere, `NothingRendered`.
pub fn render_sources(spec: &ApplicationSpec, settings: &Settings, given: Given<'_>) -> Result<Sourced> {
    let sources: Vec<&Source> = spec.sources().collect();
    check_names(&sources)?;
    let trees = given.snapshots.iter().map(Snapshot::tree).collect::<Result<Vec<_>>>()?;
    let remote_trees = given
        .remotes
        .at_hand()
        .iter()
        .map(|(repository, commit, snapshot)| Ok((repository.as_str(), commit.as_str(), snapshot.tree()?)))
        .collect::<Result<Vec<_>>>()?;
    let mut all = Sourced { materials: given.materials.clone(), ..Sourced::default() };
    all.reads.resize(trees.len(), Vec::new());
    for (number, (source, tree)) in sources.iter().zip(&trees).enumerate() {
        if is_reference(source, &sources) {
            continue;
        }
        let others: Vec<usize> =
            (0..trees.len()).filter(|other| *other != number && !sources[*other].name.is_empty()).collect();
        let named = others.iter().map(|other| (sources[*other].name.as_str(), &trees[*other] as &dyn Tree));
        let remotes =
            remote_trees.iter().map(|(repository, commit, tree)| (*repository, *commit, tree as &dyn Tree));
        let tree = Mounted::new(tree, named).with_remotes(remotes);
        let material = given.materials.sources.get(number).cloned().unwrap_or_default();
        let mut options = options(settings, source, material, given.capable);
        let mut one = match given.cache.render(&tree, &source.path, &options) {
            Ok(one) => one,
            Err(error) => {
                given.remotes.ask(tree.asked());
                let found = given.capable.found();
                return Err(error.reworded(|text| found.scrub(text)));
            }
        };
        if !one.generated.is_empty() && given.capable.seed != [0; 32] {
            // The first render only shows what is random; that it is the same every time lets it be kept.
            one = renewed(one, &tree, &source.path, &mut options, given.capable)?;
        }
        for (path, identity) in std::mem::take(&mut one.reads) {
            match tree.place(&path) {
                Mount::Source(other, inner) => all.reads[others[other]].push((inner.to_owned(), identity)),
                Mount::Main => all.reads[number].push((path, identity)),
                Mount::Remote => {}
            }
        }
        all.hidden.merge(&one.hidden);
        all.rendered.push(one);
    }
    all.hidden.merge(&given.capable.found());
    if all.rendered.iter().all(|one| one.objects.is_empty()) && !spec.sync.allow_empty {
        let why = "the source holds no manifest; everything this application manages would be deleted";
        return Err(
            Error::new(Code::NothingRendered, why).hint("set spec.sync.allowEmpty: true if that is meant")
        );
    }
    Ok(all)
}

/// The render to use, and what four renders that differ in nothing but chance and time say of what is random in it.
fn renewed(
    first: Rendered,
    tree: &dyn Tree,
    path: &str,
    options: &mut Options,
    capable: &Capable,
) -> Result<Rendered> {
    let substituted = options.substitute.is_some();
    let mut render = |change: u8| {
        options.helm.seed = capable.seed.map(|byte| byte ^ change);
        // Decades back for those that are only compared.
        options.helm.now = capable.now >> change.count_ones();
        crate::render::render(tree, path, options)
    };
    let mut one = render(0)?;
    let mut others = vec![first];
    if substituted {
        // What a chart's own second run gave lacks the values of variables.
        one.generated.clear();
        others.extend([render(0x5a)?, render(0x3c)?]);
    }
    for other in &others {
        let same = one.objects.len() == other.objects.len()
            && one.objects.iter().zip(other.objects.iter()).all(|(one, other)| one.key() == other.key());
        if !same {
            let why = "which objects the chart gives depends on random values or the time";
            return Err(Error::new(Code::TemplateFailed, why).in_file(path));
        }
        for (number, (object, other)) in one.objects.iter().zip(other.objects.iter()).enumerate() {
            one.generated.extend(Generated::between(number, object.value(), other.value()));
        }
        if !substituted {
            one.generated.extend(other.generated.iter().cloned());
        }
    }
    Ok(one)
}

impl Sourced {
    /// The objects whose live state decides what is applied: they hold generated values, or a rule by manager is for
    /// them. In the namespaces they go to.
    pub fn wanted_live(
        &self,
        settings: &Settings,
        namespaced: impl Fn(&Gvk) -> Option<bool>,
    ) -> Vec<(Gvk, Key)> {
        let objects = self.objects();
        let generated = self.generated();
        let wanted = objects.iter().enumerate().filter(|(number, object)| {
            generated.contains_key(number)
                || settings.ignore.iter().any(|rule| !rule.managers.is_empty() && rule.matches(object))
        });
        let mut wanted: Vec<Object> = wanted.map(|(_, object)| object.clone()).collect();
        place(&mut wanted, &settings.namespace, namespaced);
        wanted.into_iter().map(|object| (object.gvk().clone(), object.key())).collect()
    }

    fn objects(&self) -> Cow<'_, [Object]> {
        match self.rendered.as_slice() {
            [one] => Cow::Borrowed(&one.objects),
            all => all.iter().flat_map(|one| one.objects.iter().cloned()).collect(),
        }
    }

    /// Generated values by the place of their object among all.
    fn generated(&self) -> BTreeMap<usize, Vec<Generated>> {
        let (mut all, mut before) = (BTreeMap::<usize, Vec<Generated>>::new(), 0);
        for one in &self.rendered {
            for value in &one.generated {
                all.entry(before + value.object).or_default().push(value.clone());
            }
            before += one.objects.len();
        }
        all
    }

    /// Prepares the objects; `live` gives those that [`Sourced::wanted_live`] names.
    ///
    /// The digest of an object that holds something decrypted stands in the Application's status, where more people
    /// may read it than the object: so it is made with what only readers of the Secrets know, and nobody can try
    /// passwords against it.
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn prepare(
        self,
        settings: &Settings,
        namespaced: impl Fn(&Gvk) -> Option<bool>,
        live: impl Fn(&Key) -> Option<Value>,
    ) -> Result<RenderedApp> {
        let (hidden, materials) = (&self.hidden, &self.materials);
        let mut prepared = prepare(&self.objects(), &self.generated(), settings, namespaced, live)
            .map_err(|error| error.reworded(|text| hidden.scrub(text)))?;
        if !hidden.is_empty() {
            for object in &mut prepared.desired {
                let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
                if hidden.touches(&value) {
                    object.digest = Digest::of_parts([&materials.salt[..], &object.body]);
                }
                object.hidden = hidden.clone();
            }
        }
        // After the salt: a revision is known by digests.
        let rollouts =
            bind(&mut prepared.desired).map_err(|error| error.reworded(|text| hidden.scrub(text)))?;
        let digest =
            Digest::of_parts(prepared.desired.iter().map(|object| object.digest.as_bytes().to_vec()));
        let charts = self.rendered.iter().any(|one| one.charts);
        let inputs = materials.versions.clone();
        Ok(RenderedApp { prepared, digest: Some(digest), reads: self.reads, inputs, charts, rollouts })
    }
}

/// How a source is rendered.
pub(super) fn options(
    settings: &Settings,
    source: &Source,
    material: Material,
    capable: &Capable,
) -> Options {
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
            kube_version: if chart.kube_version.is_empty() {
                capable.version.clone()
            } else {
                chart.kube_version
            },
            api_versions: [chart.api_versions, capable.api_versions.clone()].concat(),
            lookup: capable.lookup.clone().filter(|_| chart.lookup).map(helm::Live),
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
