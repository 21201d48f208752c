//! What an application is given besides Git: age identities, variables and a kubeconfig, from Secrets and ConfigMaps of
//! its namespace.
//!
//! They are read when something is rendered, in the name of the application's account, and never kept. That one has changed is told by a watch of metadata,
//! one for each kind and namespace in which an Application names any: so a quiet fleet asks nothing, a change is
//! seen within milliseconds, and an agent that may see only one namespace can do it. A watch of single names would
//! be one for each Application; one of the whole cluster would carry the metadata of every Secret. While a watch
//! fails, what was read counts for 10 minutes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::{NamespaceResourceScope, ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::AppKey;
use super::sites::{Accounts, kubeconfig};
use crate::api::{ApplicationSpec, Decryption, Substitute, SubstituteKind};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Account, Cluster, translate};
use crate::render::sops::Keys;
use crate::render::substitute::Variables;

/// How long what was read counts while its watch fails.
const AGE: Duration = Duration::from_secs(600);
/// How soon what was missing is looked for again while its watch fails.
const RETRY: Duration = Duration::from_secs(60);
/// Pages of a watch's first list; metadata of 500 objects is some 300 kB.
const PAGE: u32 = 500;

/// A Secret or ConfigMap that an Application names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    kind: SubstituteKind,
    namespace: String,
    name: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == SubstituteKind::Secret { "Secret" } else { "ConfigMap" };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// What was read, and the version of it (uid and resourceVersion); empty where it did not exist.
pub type Versions = Vec<(Reference, String)>;

/// What one source is rendered with.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// Its age identities.
    pub keys: Keys,
    /// Its variables, where it asks for substitution.
    pub variables: Option<Variables>,
}

/// What an application is rendered with besides its commits.
#[derive(Clone, Default)]
pub struct Materials {
    /// One for each source.
    pub sources: Vec<Material>,
    /// Known only to those who may read the Secrets; see [`super::Sourced::prepare`].
    pub(super) salt: Zeroizing<Vec<u8>>,
    /// What was read for it.
    pub versions: Versions,
}

/// What an application names.
fn references(namespace: &str, spec: &ApplicationSpec) -> HashSet<Reference> {
    let of = |kind, name: &str| Reference { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let mut all = HashSet::new();
    for source in spec.sources() {
        all.extend(
            source.decryption.iter().map(|stated| of(SubstituteKind::Secret, &stated.secret_ref.name)),
        );
        let from = source.substitute.iter().flat_map(|stated| &stated.from);
        all.extend(from.map(|one| of(one.kind, &one.name)));
    }
    all.extend(spec.destination.cluster.iter().map(|name| of(SubstituteKind::Secret, name)));
    all
}

/// Reads what an application names.
///
/// # Errors
/// `DecryptionFailed` and `SubstitutionFailed` for what is missing or malformed, and those of the API server.
pub async fn materials(cluster: &Cluster, namespace: &str, spec: &ApplicationSpec) -> Result<Materials> {
    let mut reader = Reader { cluster, found: HashMap::new() };
    let mut all = Materials::default();
    for source in spec.sources() {
        let mut material = Material::default();
        if let Some(stated) = &source.decryption {
            material.keys = reader.keys(namespace, stated).await?;
            all.salt.extend_from_slice(material.keys.fingerprint().as_bytes());
        }
        if let Some(stated) = &source.substitute {
            material.variables = Some(reader.variables(namespace, stated).await?);
        }
        all.sources.push(material);
    }
    let mut found: Vec<_> = reader.found.into_iter().collect();
    found.sort_by_key(|(reference, _)| reference.to_string());
    for (reference, found) in found {
        if reference.kind == SubstituteKind::Secret {
            all.salt.extend_from_slice(found.uid.as_bytes());
        }
        all.versions.push((reference, found.version));
    }
    Ok(all)
}

/// What an application is rendered with where no cluster is at hand: its own values, and `keys`. Names whose value
/// is in the cluster stay as they are written.
///
/// # Errors
/// `SubstitutionFailed` for a malformed name.
pub fn offline_materials(spec: &ApplicationSpec, keys: &Keys) -> Result<Materials> {
    let mut all = Materials::default();
    for source in spec.sources() {
        let keys = if source.decryption.is_some() { keys.clone() } else { Keys::default() };
        let mut variables = None;
        if let Some(stated) = &source.substitute {
            let mut stated_here = Variables::default();
            if !stated.from.is_empty() {
                stated_here.set_incomplete();
            }
            stated.vars.iter().try_for_each(|(name, value)| stated_here.set(name, value, false))?;
            variables = Some(stated_here);
        }
        all.sources.push(Material { keys, variables });
    }
    Ok(all)
}

/// Data of a Secret or ConfigMap.
#[derive(Default)]
struct Found {
    exists: bool,
    uid: String,
    version: String,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

struct Reader<'a> {
    cluster: &'a Cluster,
    /// Each is read once, however many sources name it.
    found: HashMap<Reference, Found>,
}

impl Reader<'_> {
    async fn get(&mut self, reference: &Reference) -> Result<&Found> {
        if !self.found.contains_key(reference) {
            let read = self.read(reference).await?;
            self.found.insert(reference.clone(), read);
        }
        self.found.get(reference).ok_or_else(|| Error::new(Code::Internal, "what was read is gone"))
    }

    async fn read(&self, reference: &Reference) -> Result<Found> {
        let client = self.cluster.client();
        let failed = |error: kube::Error| {
            let error = translate(&error);
            Error { why: format!("{reference} cannot be read: {}", error.why), ..error }
        };
        let bytes = |(key, value): (String, Vec<u8>)| (key, Zeroizing::new(value));
        let (metadata, data) = match reference.kind {
            SubstituteKind::Secret => {
                let api: Api<Secret> = Api::namespaced(client, &reference.namespace);
                let Some(secret) = api.get_opt(&reference.name).await.map_err(failed)? else {
                    return Ok(Found::default());
                };
                let data =
                    secret.data.unwrap_or_default().into_iter().map(|(key, value)| bytes((key, value.0)));
                (secret.metadata, data.collect())
            }
            SubstituteKind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(client, &reference.namespace);
                let Some(map) = api.get_opt(&reference.name).await.map_err(failed)? else {
                    return Ok(Found::default());
                };
                let data = map.data.unwrap_or_default().into_iter();
                (map.metadata, data.map(|(key, value)| bytes((key, value.into_bytes()))).collect())
            }
        };
        let version = version(&metadata);
        Ok(Found { exists: true, uid: metadata.uid.unwrap_or_default(), version, data })
    }

    async fn keys(&mut self, namespace: &str, stated: &Decryption) -> Result<Keys> {
        let name = &stated.secret_ref.name;
        let reference =
            Reference { kind: SubstituteKind::Secret, namespace: namespace.to_owned(), name: name.clone() };
        let failed = |why: String| {
            Error::new(Code::DecryptionFailed, why)
                .hint(format!("kubectl -n {namespace} create secret generic {name} --from-file=age.agekey"))
        };
        let found = self.get(&reference).await?;
        if !found.exists {
            return Err(failed(format!("there is no {reference}, which spec.source.decryption names")));
        }
        let mut keys = Keys::default();
        for (key, value) in found.data.iter().filter(|(key, _)| key.ends_with(".agekey")) {
            let from = format!("{key} in {reference}");
            let text = std::str::from_utf8(value).map_err(|_| failed(format!("{from} holds no text")))?;
            keys.add(text, &from)?;
        }
        if keys.is_empty() {
            return Err(failed(format!("{reference} has no age identity under a key that ends in .agekey")));
        }
        Ok(keys)
    }

    async fn variables(&mut self, namespace: &str, stated: &Substitute) -> Result<Variables> {
        let mut variables = Variables::default();
        for one in &stated.from {
            let (kind, name) = (one.kind, one.name.clone());
            let reference = Reference { kind, namespace: namespace.to_owned(), name };
            let failed = |why: String| Error::new(Code::SubstitutionFailed, why);
            let found = self.get(&reference).await?;
            if !found.exists && !one.optional {
                let why = format!("there is no {reference}, which spec.source.substitute.from names");
                return Err(failed(why).hint("create it, or mark it with optional: true"));
            }
            for (name, value) in &found.data {
                let text = std::str::from_utf8(value)
                    .map_err(|_| failed(format!("the value of {name} in {reference} is no text")))?;
                variables
                    .set(name, text, kind == SubstituteKind::Secret)
                    .map_err(|error| Error { why: format!("{reference}: {}", error.why), ..error })?;
            }
        }
        stated.vars.iter().try_for_each(|(name, value)| variables.set(name, value, false))?;
        Ok(variables)
    }
}

fn version(metadata: &ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&metadata.uid), part(&metadata.resource_version))
}

/// Notices changes of what was read.
pub(super) struct Inputs {
    accounts: Arc<Accounts>,
    inner: Arc<Mutex<Inner>>,
    changed: mpsc::UnboundedSender<Vec<AppKey>>,
}

#[derive(Default)]
struct Inner {
    apps: HashMap<AppKey, Names>,
    /// The newest version of each that is named; absent until it was read or listed.
    known: HashMap<Reference, String>,
    watches: HashMap<Place, Watch>,
}

/// What an application names, and who reads it.
struct Names {
    all: HashSet<Reference>,
    account: Option<Account>,
}

/// Where one watch sees, and in whose name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    kind: SubstituteKind,
    namespace: String,
    account: Option<Account>,
}

impl Place {
    fn of(reference: &Reference, account: Option<&Account>) -> Self {
        Self { kind: reference.kind, namespace: reference.namespace.clone(), account: account.cloned() }
    }
}

struct Watch {
    task: JoinHandle<()>,
    well: Arc<AtomicBool>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    fn is_named(&self, reference: &Reference) -> bool {
        self.apps.values().any(|names| names.all.contains(reference))
    }

    /// Notes a version; the applications to tell, where it is news to what they were rendered with.
    fn note(&mut self, reference: &Reference, version: &str) -> Vec<AppKey> {
        let before = self.known.insert(reference.clone(), version.to_owned());
        if before.is_none_or(|before| before == version) {
            return Vec::new();
        }
        let named = self.apps.iter().filter(|(_, names)| names.all.contains(reference));
        named.map(|(app, _)| app.clone()).collect()
    }

    fn forget_unused(&mut self) {
        let used: HashSet<&Reference> = self.apps.values().flat_map(|names| &names.all).collect();
        self.known.retain(|reference, _| used.contains(reference));
        let places: HashSet<Place> = (self.apps.values())
            .flat_map(|names| names.all.iter().map(|reference| Place::of(reference, names.account.as_ref())))
            .collect();
        self.watches.retain(|place, _| places.contains(place));
    }

    fn is_well(&self, reference: &Reference, account: Option<&Account>) -> bool {
        let watch = self.watches.get(&Place::of(reference, account));
        watch.is_some_and(|watch| watch.well.load(Ordering::Acquire))
    }
}

impl Inputs {
    /// No watch yet; applications that want a new render are sent to `changed`.
    pub(super) fn new(accounts: Arc<Accounts>, changed: mpsc::UnboundedSender<Vec<AppKey>>) -> Self {
        Self { accounts, inner: Arc::default(), changed }
    }

    fn lock<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Makes this what an application names, and who reads it; watches that nobody needs any more end.
    ///
    /// # Errors
    /// `ApplicationInvalid` for a name that no account can have.
    pub(super) fn subscribe(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        account: Option<Account>,
    ) -> Result<()> {
        let cluster = self.accounts.get(account.as_ref())?;
        self.set(app, Names { all: references(&app.namespace, spec), account }, &cluster);
        Ok(())
    }

    fn set(&self, app: &AppKey, names: Names, cluster: &Cluster) {
        self.lock(|inner| {
            if names.all.is_empty() {
                inner.apps.remove(app);
            } else {
                for reference in &names.all {
                    let place = Place::of(reference, names.account.as_ref());
                    inner.watches.entry(place).or_insert_with_key(|place| self.start(place, cluster));
                }
                inner.apps.insert(app.clone(), names);
            }
            inner.forget_unused();
        });
    }

    /// The application is gone.
    pub(super) fn unsubscribe(&self, app: &AppKey) {
        self.lock(|inner| {
            if inner.apps.remove(app).is_some() {
                inner.forget_unused();
            }
        });
    }

    /// Reads what an application names, as `home` may; later changes of it are told.
    pub(super) async fn read(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        home: &Cluster,
    ) -> Result<Materials> {
        let result = materials(home, &app.namespace, spec).await;
        self.note_read(app, spec, result.as_ref().map(|read| &read.versions).ok());
        result
    }

    /// Reads the kubeconfig that an application names, as `home` may, and its version; later changes are told.
    pub(super) async fn kubeconfig(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        home: &Cluster,
    ) -> Result<Option<(Zeroizing<String>, Versions)>> {
        let Some(name) = &spec.destination.cluster else { return Ok(None) };
        let reference =
            Reference { kind: SubstituteKind::Secret, namespace: app.namespace.clone(), name: name.clone() };
        let mut reader = Reader { cluster: home, found: HashMap::new() };
        let result = reader.get(&reference).await.and_then(|found| {
            if !found.exists {
                let why = format!("there is no {reference}, which spec.destination.cluster names");
                return Err(Error::new(Code::KubeconfigInvalid, why));
            }
            let text =
                kubeconfig(&reference.to_string(), |key| found.data.get(key).map(|bytes| bytes.as_slice()))?;
            Ok((Zeroizing::new(text.to_owned()), vec![(reference.clone(), found.version.clone())]))
        });
        self.note_read(app, spec, result.as_ref().map(|(_, versions)| versions).ok());
        result.map(Some)
    }

    fn note_read(&self, app: &AppKey, spec: &ApplicationSpec, versions: Option<&Versions>) {
        self.lock(|inner| match versions {
            Some(versions) => versions.iter().for_each(|(reference, version)| {
                inner.known.insert(reference.clone(), version.clone());
            }),
            // Whatever is there now did not do; any event about it is news.
            None => references(&app.namespace, spec).into_iter().for_each(|reference| {
                inner.known.entry(reference).or_default();
            }),
        });
    }

    /// Whether what was read for an application then is what there is now.
    pub(super) fn is_current(&self, app: &AppKey, versions: &Versions, read: Instant) -> bool {
        self.lock(|inner| {
            let account = inner.apps.get(app).and_then(|names| names.account.as_ref());
            versions.iter().all(|(reference, version)| {
                let same = inner.known.get(reference).is_none_or(|known| known == version);
                same && (inner.is_well(reference, account) || read.elapsed() < AGE)
            })
        })
    }

    /// When to look again though nothing tells, only while a watch fails: sooner where something was missing.
    pub(super) fn due(&self, app: &AppKey, failed: bool) -> Option<Duration> {
        let blind = self.lock(|inner| {
            inner.apps.get(app).is_some_and(|names| {
                !names.all.iter().all(|reference| inner.is_well(reference, names.account.as_ref()))
            })
        });
        blind.then_some(if failed { RETRY } else { AGE })
    }

    fn start(&self, place: &Place, cluster: &Cluster) -> Watch {
        let well = Arc::new(AtomicBool::new(false));
        let (client, follower) = (
            cluster.client(),
            Follower {
                kind: place.kind,
                namespace: place.namespace.clone(),
                inner: self.inner.clone(),
                changed: self.changed.clone(),
                well: well.clone(),
            },
        );
        let task = match place.kind {
            SubstituteKind::Secret => tokio::spawn(follower.follow::<Secret>(client)),
            SubstituteKind::ConfigMap => tokio::spawn(follower.follow::<ConfigMap>(client)),
        };
        Watch { task, well }
    }
}

struct Follower {
    kind: SubstituteKind,
    namespace: String,
    inner: Arc<Mutex<Inner>>,
    changed: mpsc::UnboundedSender<Vec<AppKey>>,
    well: Arc<AtomicBool>,
}

impl Follower {
    async fn follow<K>(self, client: kube::Client)
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + fmt::Debug
            + Send
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(client, &self.namespace);
        let mut events = watcher::watcher(api, watcher::Config::default().page_size(PAGE)).boxed();
        let mut listed = HashSet::new();
        let mut pause = Duration::from_millis(200);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(object.name_any());
                    self.note(&object.name_any(), &version(&object.metadata));
                }
                Ok(Event::InitDone) => {
                    self.complete(&std::mem::take(&mut listed));
                    self.well.store(true, Ordering::Release);
                    pause = Duration::from_millis(200);
                }
                Ok(Event::Apply(object)) => self.seen(&object, true),
                Ok(Event::Delete(object)) => self.seen(&object, false),
                Err(error) => {
                    if self.well.swap(false, Ordering::AcqRel) {
                        tracing::warn!(namespace = %self.namespace, kind = ?self.kind, error = %error,
                            "The watch of what renders need is interrupted; it is tried again.");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(30));
                }
            }
        }
    }

    fn seen<K>(&self, object: &PartialObjectMeta<K>, exists: bool) {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        self.note(name, &if exists { version(&object.metadata) } else { String::new() });
    }

    fn note(&self, name: &str, version: &str) {
        let reference =
            Reference { kind: self.kind, namespace: self.namespace.clone(), name: name.to_owned() };
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !inner.is_named(&reference) {
            return;
        }
        let apps = inner.note(&reference, version);
        drop(inner);
        if !apps.is_empty() {
            let _ = self.changed.send(apps);
        }
    }

    /// What is named and was not in the list is not there.
    fn complete(&self, listed: &HashSet<String>) {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let gone: Vec<String> = inner
            .known
            .keys()
            .filter(|known| known.kind == self.kind && known.namespace == self.namespace)
            .filter(|known| !listed.contains(&known.name))
            .map(|known| known.name.clone())
            .collect();
        drop(inner);
        gone.iter().for_each(|name| self.note(name, ""));
    }
}
