//! From an Application and the commits of its sources to the objects it wants.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use serde_json::Value;

use crate::api::{ApplicationSpec, Source, label_value};
use crate::diff::IgnoreRule;
use crate::error::{Code, Error, Result};
use crate::live::kube::Cluster;
use crate::model::{Confidential, Digest, Generated, Gvk, Key, Object};
use crate::plan::{Desired, Settings, place, prepare};
use crate::render::template::Lookup;
use crate::render::{Cache, Mount, Mounted, Options, Rendered, Selection, Tree, helm, kustomize};
use crate::source::Snapshot;

use super::{Material, Materials, Remotes, Versions};

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
    /// Whether a chart was rendered, for what the cluster was capable of.
    pub charts: bool,
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

/// What charts may ask of a cluster, and what they may not know beforehand.
#[derive(Clone, Default)]
pub struct Capable {
    /// Its version, such as `v1.36.3`; empty where no cluster is at hand.
    pub version: String,
    /// `group/version` and `group/version/Kind` of what it serves.
    pub api_versions: Vec<String>,
    /// Reads live objects, for Applications that let `lookup` do so.
    pub lookup: Option<Lookup>,
    /// Of random values; all zero where they only stand for others.
    pub seed: [u8; 32],
    /// Seconds since 1970.
    pub now: i64,
    /// What `lookup` found in Secrets.
    pub found: Arc<Mutex<Confidential>>,
}

impl Capable {
    fn found(&self) -> Confidential {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
        let mut desired = prepare(&self.objects(), &self.generated(), settings, namespaced, live)
            .map_err(|error| error.reworded(|text| hidden.scrub(text)))?;
        if !hidden.is_empty() {
            for object in &mut desired {
                let value: Value = serde_json::from_slice(&object.body).unwrap_or_default();
                if hidden.touches(&value) {
                    object.digest = Digest::of_parts([&materials.salt[..], &object.body]);
                }
                object.hidden = hidden.clone();
            }
        }
        let digest = Digest::of_parts(desired.iter().map(|object| object.digest.as_bytes().to_vec()));
        let charts = self.rendered.iter().any(|one| one.charts);
        let inputs = materials.versions.clone();
        Ok(RenderedApp { desired, digest: Some(digest), reads: self.reads, inputs, charts })
    }
}

/// What charts may ask of this cluster. `lookup` waits on the thread that renders, so that must be one for blocking
/// work.
///
/// # Errors
/// Those of the API server.
pub async fn capable(cluster: &Arc<Cluster>, now: i64) -> Result<Capable> {
    cluster.discover().await?;
    let discovered = cluster.discovered();
    let seed = random_seed()?;
    let (cluster, runtime) = (cluster.clone(), tokio::runtime::Handle::current());
    let found = Arc::<Mutex<Confidential>>::default();
    let secrets = found.clone();
    let lookup: Lookup = Arc::new(move |api_version, kind, namespace, name| {
        let gvk = Gvk::parse(api_version, kind);
        let found =
            runtime.block_on(cluster.look_up(&gvk, namespace, name)).map_err(|error| error.to_string());
        if let (true, Ok(Some(value))) = (gvk.is("", "Secret"), &found) {
            hide(value, &mut secrets.lock().unwrap_or_else(PoisonError::into_inner));
        }
        found
    });
    let (version, api_versions) = (discovered.version().to_owned(), discovered.api_versions().to_vec());
    Ok(Capable { version, api_versions, lookup: Some(lookup), seed, now, found })
}

/// Notes the values of a Secret or of a list of them.
fn hide(value: &Value, secrets: &mut Confidential) {
    let items = value["items"].as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    for data in items.iter().filter_map(|item| item["data"].as_object()) {
        for encoded in data.values().filter_map(Value::as_str) {
            match STANDARD.decode(encoded).map(String::from_utf8) {
                Ok(Ok(text)) => secrets.add(&text),
                // Bytes that are no text can only be shown as they are here.
                _ => secrets.add(encoded),
            }
        }
    }
}

/// Fresh random bytes of this machine, for the random values of charts.
///
/// # Errors
/// `Internal` where it has none.
pub fn random_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed)
        .map_err(|_| Error::new(Code::Internal, "this machine gives no random bytes"))?;
    Ok(seed)
}

/// Live objects by key; what the cluster does not serve or does not have is left out.
///
/// # Errors
/// Those of the API server.
pub async fn live_objects(cluster: &Cluster, wanted: Vec<(Gvk, Key)>) -> Result<HashMap<Key, Value>> {
    let mut found = HashMap::new();
    for (gvk, key) in wanted {
        if let Ok(resource) = cluster.resource(&gvk, false).await
            && let Some(value) = cluster.get(&resource, &key).await?
        {
            found.insert(key, value);
        }
    }
    Ok(found)
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
fn options(settings: &Settings, source: &Source, material: Material, capable: &Capable) -> Options {
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
