//! What several verbs need: Applications from files or the cluster, and their rendered objects.

use std::path::Path;
use std::sync::Arc;

use kube::Api;
use kube::api::ListParams;

use super::Global;
use crate::agent::{
    AppKey, Capable, Given, Remotes, RenderedApp, capable, live_objects, materials, offline_materials,
    random_seed, render_sources, settings,
};
use crate::api::{Application, GROUP};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, Discovered, translate};
use crate::model::{Gvk, yaml};
use crate::plan::Settings;
use crate::render::Cache;
use crate::render::sops::Keys;
use crate::source::{Client, Limits, Location, Revision, Snapshot};

/// Reads the Applications of a file or folder of this machine.
pub(super) fn read_applications(path: &Path, namespace: &str) -> Result<Vec<Application>> {
    let unreadable = |error: std::io::Error| {
        Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
    };
    if path.is_dir() {
        let mut files: Vec<_> = std::fs::read_dir(path)
            .map_err(unreadable)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"))
            .collect();
        files.sort();
        return files
            .iter()
            .map(|file| read_applications(file, namespace))
            .collect::<Result<Vec<_>>>()
            .map(|all| all.concat());
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    applications(&bytes, &path.display().to_string(), namespace)
}

/// The Applications among the documents of a file; other kinds are passed over.
pub(super) fn applications(bytes: &[u8], file: &str, namespace: &str) -> Result<Vec<Application>> {
    let mut found = Vec::new();
    for document in yaml::read(bytes, file)? {
        let text = |field: &str| document.value[field].as_str().unwrap_or_default();
        if !Gvk::parse(text("apiVersion"), text("kind")).is(GROUP, "Application") {
            continue;
        }
        let mut value = document.value;
        // A copy of a live object has one; it is nobody's wish, and may be cut short.
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        let mut application: Application = serde_json::from_value(value).map_err(|error| {
            Error::new(Code::ApplicationInvalid, error.to_string()).in_file(file).at(document.line, 0)
        })?;
        if application.spec.source.is_some() == application.spec.sources.is_some() {
            let why = "give either spec.source or spec.sources, not both and not neither";
            return Err(Error::new(Code::ApplicationInvalid, why).in_file(file).at(document.line, 0));
        }
        application.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        found.push(application);
    }
    Ok(found)
}

/// The Applications of the cluster that were named, or all.
pub(super) async fn live_applications(
    cluster: &Cluster,
    global: &Global,
    names: &[String],
    everywhere: bool,
    selector: Option<&str>,
) -> Result<Vec<Application>> {
    let namespace = global.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let failed = |error: kube::Error| {
        let translated = translate(&error);
        if translated.code == Code::KindUnknown {
            return translated
                .hint("the CRDs are not installed: driftless crds | kubectl apply --server-side -f -");
        }
        translated
    };
    if names.is_empty() {
        let api: Api<Application> = if everywhere {
            Api::all(cluster.client())
        } else {
            Api::namespaced(cluster.client(), &namespace)
        };
        let parameters =
            selector.map_or_else(ListParams::default, |selector| ListParams::default().labels(selector));
        return Ok(api.list(&parameters).await.map_err(failed)?.items);
    }
    let mut found = Vec::new();
    for name in names {
        // `ns/name` and `application/name` are both what people type.
        let name = name.strip_prefix("application/").or_else(|| name.strip_prefix("app/")).unwrap_or(name);
        let (namespace, name) = name.split_once('/').unwrap_or((&namespace, name));
        let api: Api<Application> = Api::namespaced(cluster.client(), namespace);
        let application = api.get_opt(name).await.map_err(failed)?.ok_or_else(|| {
            Error::new(Code::ApplicationNotFound, format!("there is no Application {namespace}/{name}"))
        })?;
        found.push(application);
    }
    Ok(found)
}

/// `ns/name`.
pub(super) fn title(application: &Application) -> String {
    AppKey::from(application).to_string()
}

/// A cache for commands: below the user's cache folder, or a temporary one.
pub(super) fn cache() -> std::path::PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".cache")));
    let base = home.unwrap_or_else(std::env::temp_dir);
    // Each process has its own: two commands may run at once, and a depth-1 fetch costs little.
    base.join("driftless").join(format!("run-{}", std::process::id()))
}

/// Removes a cache when the command ends.
pub(super) struct Scratch(pub(super) std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fetches the sources of an application, as the agent would.
pub(super) async fn fetch(
    client: &Client,
    cluster: Option<&Cluster>,
    application: &Application,
) -> Result<Vec<Snapshot>> {
    let namespace = application.metadata.namespace.clone().unwrap_or_default();
    let mut snapshots = Vec::new();
    for (number, source) in application.spec.sources().enumerate() {
        let location = Location::of(&source.repo, &source.chart)?;
        let credentials = match (&source.secret_ref, cluster) {
            (Some(secret), Some(cluster)) => {
                crate::agent::credentials(cluster, Some(&(namespace.clone(), secret.name.clone()))).await?
            }
            _ => crate::source::Credentials::default(),
        };
        let held = application.spec.rollback.as_ref().and_then(|rollback| rollback.revisions.get(number));
        let revision = Revision::of(&location, held.unwrap_or(&source.revision))?;
        let resolved = client.resolve(&location, &revision, &credentials).await?;
        snapshots.push(client.fetch(&location, &resolved.commit, &credentials).await?);
    }
    Ok(snapshots)
}

/// Fetches and renders.
pub(super) async fn render(
    client: &Client,
    cluster: Option<&Arc<Cluster>>,
    application: &Application,
) -> Result<(Vec<Snapshot>, RenderedApp)> {
    let snapshots = fetch(client, cluster.map(|cluster| &**cluster), application).await?;
    let (namespace, settings) = (application.metadata.namespace.as_deref(), settings_of(application));
    let (materials, capable) = match cluster {
        Some(cluster) => (
            materials(cluster, namespace.unwrap_or_default(), &application.spec).await?,
            capable(cluster, now()).await?,
        ),
        None => (
            offline_materials(&application.spec, &keys()?)?,
            Capable { seed: random_seed()?, now: now(), ..Capable::default() },
        ),
    };
    let mut remotes = Remotes::default();
    let sourced = loop {
        let (place, spec, at) = (settings.clone(), application.spec.clone(), snapshots.clone());
        let (materials, capable) = (materials.clone(), capable.clone());
        // A chart's `lookup` waits on the thread that renders.
        let work = tokio::task::spawn_blocking(move || {
            // One application, once: nothing is worth keeping.
            let cache = Cache::new(0, 0);
            let given = Given {
                snapshots: &at,
                materials: &materials,
                cache: &cache,
                capable: &capable,
                remotes: &remotes,
            };
            (render_sources(&spec, &place, given), remotes)
        });
        let (rendered, asked) = work.await.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        remotes = asked;
        match rendered {
            Ok(sourced) => break sourced,
            Err(error) if !remotes.bring(client, &application.spec, None).await? => return Err(error),
            Err(_) => {}
        }
    };
    let Some(cluster) = cluster else {
        let scope = |gvk: &Gvk| scope(&Discovered::default(), gvk);
        return Ok((snapshots, sourced.prepare(&settings, scope, |_| None)?));
    };
    let discovered = cluster.discovered();
    let scope = |gvk: &Gvk| scope(&discovered, gvk);
    let live = live_objects(cluster, sourced.wanted_live(&settings, scope)).await?;
    let rendered = sourced.prepare(&settings, scope, |key| live.get(key).cloned())?;
    Ok((snapshots, rendered))
}

/// Renders at commits that are at hand, without a cluster.
pub(super) fn render_at(application: &Application, given: Given<'_>) -> Result<RenderedApp> {
    let settings = settings_of(application);
    let scope = |gvk: &Gvk| scope(&Discovered::default(), gvk);
    render_sources(&application.spec, &settings, given)?.prepare(&settings, scope, |_| None)
}

fn settings_of(application: &Application) -> Settings {
    let namespace = application.metadata.namespace.clone().unwrap_or_default();
    let name = application.metadata.name.clone().unwrap_or_default();
    settings(&namespace, &name, &application.spec)
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The age identities of this machine, where no cluster holds them: `SOPS_AGE_KEY` and the file that
/// `SOPS_AGE_KEY_FILE` names, as for sops itself.
pub(super) fn keys() -> Result<Keys> {
    let mut keys = Keys::default();
    if let Ok(text) = std::env::var("SOPS_AGE_KEY").map(zeroize::Zeroizing::new) {
        keys.add(&text, "SOPS_AGE_KEY")?;
    }
    if let Some(path) = std::env::var_os("SOPS_AGE_KEY_FILE").filter(|path| !path.is_empty()) {
        let path = std::path::PathBuf::from(path);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let why = format!("cannot read {}, which SOPS_AGE_KEY_FILE names: {error}", path.display());
            Error::new(Code::FileUnreadable, why)
        })?;
        keys.add(&zeroize::Zeroizing::new(text), &path.display().to_string())?;
    }
    Ok(keys)
}

/// What is known of a kind's scope: the cluster's word, then what Kubernetes itself defines.
pub(super) fn scope(discovered: &Discovered, gvk: &Gvk) -> Option<bool> {
    match discovered.get(gvk) {
        Some(resource) => Some(resource.namespaced),
        None if crate::model::is_cluster_scoped(gvk) => Some(false),
        None => None,
    }
}

/// A client with the usual limits.
pub(super) fn client(scratch: &Scratch) -> Client {
    Client::new(&scratch.0, Limits::default())
}
