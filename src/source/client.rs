//! Polls and fetches.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use git2::Repository;
use tokio::sync::mpsc;

use super::helm::Repositories;
use super::history::Histories;
use super::oci::Registry;
use super::pack::Inspector;
use super::store::failed;
use super::web::Web;
use super::wire::http::Http;
use super::wire::ssh::Ssh;
use super::wire::{Extent, Want};
use crate::error::{Code, Error, Result};
use crate::model::Digest;
use crate::source::{Credentials, Location, Revision, Snapshot};

/// Limits of time and size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For a whole poll.
    pub poll: Duration,
    /// For a whole fetch.
    pub fetch: Duration,
    /// Bytes of one pack.
    pub pack: usize,
    /// Bytes of the packed archive of a chart or artifact.
    pub archive: usize,
    /// Bytes of the index of a Helm repository, before and after decompression.
    pub index: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            poll: Duration::from_secs(30),
            fetch: Duration::from_secs(600),
            pack: 1 << 30,
            archive: 256 << 20,
            index: 64 << 20,
        }
    }
}

/// What a revision names now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The ref, tag or version that was chosen; empty for a commit id or digest.
    pub reference: String,
    /// The commit, 40 hexadecimal digits; of a chart or artifact `1.2.3@sha256:...`.
    pub commit: String,
}

/// Packs that a repository of the cache may gather before it is begun anew: each fetch adds one, and a
/// look-up asks all of them.
const MAX_PACKS: usize = 200;

/// Reaches repositories and keeps what was fetched below one folder.
pub struct Client {
    pub(super) cache: PathBuf,
    limits: Limits,
    access: Mutex<HashMap<Digest, Access>>,
    stores: Mutex<HashMap<Location, Arc<tokio::sync::Mutex<Store>>>>,
    pub(super) histories: Histories,
    /// Held while an archive is unpacked.
    pub(super) unpacking: tokio::sync::Mutex<()>,
}

/// The servers of the web as one set of credentials reaches them.
#[derive(Clone)]
pub(super) struct Access {
    git: Http,
    pub(super) registry: Registry,
    pub(super) charts: Repositories,
}

/// One repository of the cache; the lock around it lets one fetch run at a time.
#[derive(Default)]
pub(super) struct Store {
    pub(super) folder: PathBuf,
    /// Charts and artifacts by digest.
    pub(super) artifacts: HashMap<String, Snapshot>,
    /// Commits that are complete, the newest last; at most eight are offered as a base for the next.
    commits: Vec<String>,
    generation: u32,
    packs: usize,
}

impl Client {
    /// Keeps repositories below `cache`, which is made when needed.
    pub fn new(cache: impl Into<PathBuf>, limits: Limits) -> Self {
        Self {
            cache: cache.into(),
            limits,
            access: Mutex::default(),
            stores: Mutex::default(),
            histories: Histories::default(),
            unpacking: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn access(&self, credentials: &Credentials) -> Result<Access> {
        let mut known = self.access.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let identity = credentials.identity();
        if let Some(access) = known.get(&identity) {
            return Ok(access.clone());
        }
        let web = Web::new(credentials, self.limits)?;
        let access = Access {
            git: Http::new(web.clone()),
            registry: Registry::new(web.clone()),
            charts: Repositories::new(web),
        };
        known.insert(identity, access.clone());
        Ok(access)
    }

    /// The cache of a location.
    pub(super) fn store(&self, location: &Location) -> Arc<tokio::sync::Mutex<Store>> {
        let mut stores = self.stores.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        stores.entry(location.clone()).or_default().clone()
    }

    fn ssh<'a>(&self, location: &'a Location, credentials: &'a Credentials) -> Result<Ssh<'a>> {
        let Location::Ssh { user, host, port, path } = location else {
            return Err(Error::new(Code::RepositoryInvalid, format!("{location} is not reached by SSH")));
        };
        Ok(Ssh { user, host, port: *port, path, credentials, limits: self.limits })
    }

    /// Asks which commit, or which digest, a revision names: one request (two for a range of tags), or none for what
    /// cannot move.
    pub async fn resolve(
        &self,
        location: &Location,
        revision: &Revision,
        credentials: &Credentials,
    ) -> Result<Resolved> {
        if let Revision::Commit(commit) = revision {
            return Ok(Resolved { reference: String::new(), commit: commit.clone() });
        }
        let pinned = match location {
            Location::Oci { .. } => {
                let place = location.to_string();
                let registry = self.access(credentials)?.registry;
                match location.address(&place) {
                    Some(at) => Some(registry.resolve(at, revision).await?),
                    None => None,
                }
            }
            Location::Chart { repository, chart } => {
                Some(self.access(credentials)?.charts.resolve(repository, chart, revision).await?)
            }
            _ => None,
        };
        if let Some(pinned) = pinned {
            return Ok(Resolved { reference: pinned.name.clone(), commit: pinned.to_string() });
        }
        let refs = match location {
            Location::Http(url) => self.access(credentials)?.git.list(url, &revision.prefixes()).await?,
            Location::File(folder) => {
                let folder = folder.clone();
                blocking(move || local_refs(&folder)).await?
            }
            _ => self.ssh(location, credentials)?.list(&revision.prefixes()).await?,
        };
        let (reference, commit) = revision.choose(&refs).ok_or_else(|| {
            Error::new(Code::RevisionNotFound, format!("{location} has no revision {revision}"))
        })?;
        Ok(Resolved { reference, commit })
    }

    /// Brings a commit to this machine; nothing is sent when it is here already.
    pub async fn fetch(
        &self,
        location: &Location,
        commit: &str,
        credentials: &Credentials,
    ) -> Result<Snapshot> {
        let commit = commit.to_owned();
        if let Location::File(folder) = location {
            let folder = folder.clone();
            return blocking(move || Snapshot::open(&folder, &commit)).await;
        }
        if !location.is_git() {
            return self.fetch_artifact(location, &commit, credentials).await;
        }
        let store = self.store(location);
        let mut store = store.lock().await;
        if store.folder.as_os_str().is_empty() || store.packs >= MAX_PACKS {
            self.begin(&mut store, location)?;
        }
        let folder = store.folder.clone();
        if store.commits.contains(&commit) {
            return blocking(move || Snapshot::open(&folder, &commit)).await;
        }
        let have: Vec<String> = store.commits.iter().rev().take(8).cloned().collect();
        let want = Want { commit: &commit, have: &have, extent: Extent::Files, limit: self.limits.pack };
        self.transfer(location, want, credentials, &folder).await?;
        store.packs += 1;
        let snapshot = blocking({
            let commit = commit.clone();
            move || Snapshot::open(&folder, &commit)
        })
        .await
        .map_err(|error| {
            Error::new(
                Code::RepositoryCorrupt,
                format!("{location}: the pack lacks the commit: {}", error.why),
            )
        })?;
        store.commits.push(commit);
        Ok(snapshot)
    }

    /// Brings a pack into a repository of the cache.
    pub(super) async fn transfer(
        &self,
        location: &Location,
        want: Want<'_>,
        credentials: &Credentials,
        folder: &Path,
    ) -> Result<()> {
        let (sender, receiver) = mpsc::channel(16);
        let index = tokio::task::spawn_blocking({
            let folder = folder.to_owned();
            move || write_pack(&folder, receiver)
        });
        let transfer = match location {
            Location::Http(url) => self.access(credentials)?.git.fetch(url, want, sender.clone()).await,
            _ => self.ssh(location, credentials)?.fetch(want, sender.clone()).await,
        };
        if transfer.is_err() {
            // An abandoned pack must not be committed to the database: the index is told by an empty chunk.
            let _ = sender.send(Vec::new()).await;
        }
        drop(sender);
        let indexed = index.await.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        transfer?;
        indexed.map_err(|error| Error { why: format!("{location}: {}", error.why), ..error })
    }

    /// A fresh folder: what an earlier process left is not trusted to be complete.
    pub(super) fn begin(&self, store: &mut Store, location: &Location) -> Result<()> {
        let old = std::mem::take(&mut store.folder);
        let generation = store.generation + 1;
        let name = Digest::of(location.to_string().as_bytes());
        let folder = self.cache.join(format!("{name}-{generation}.git"));
        let unusable = |error: &dyn std::fmt::Display| {
            Error::new(
                Code::FileUnreadable,
                format!("the cache {} cannot be used: {error}", folder.display()),
            )
        };
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| unusable(&error))?;
        }
        Repository::init_bare(&folder).map_err(|error| unusable(&error.message()))?;
        // A snapshot of the folder before last may still be read; the one before that is not.
        if generation > 2 {
            let stale = self.cache.join(format!("{name}-{}.git", generation - 2));
            let _ = std::fs::remove_dir_all(stale);
        }
        drop(old);
        *store = Store { folder, generation, ..Store::default() };
        Ok(())
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::new(Code::Internal, error.to_string()))?
}

fn local_refs(folder: &Path) -> Result<Vec<(String, String)>> {
    let repository = Repository::open(folder).map_err(|error| {
        Error::new(
            Code::RepositoryUnreachable,
            format!("{} is no Git repository: {}", folder.display(), error.message()),
        )
    })?;
    let mut refs = Vec::new();
    if let Ok(commit) = repository.head().and_then(|head| head.peel_to_commit()) {
        refs.push(("HEAD".to_owned(), commit.id().to_string()));
    }
    for reference in repository.references().map_err(|error| failed(&error))?.flatten() {
        if let (Ok(name), Ok(commit)) = (reference.name(), reference.peel_to_commit()) {
            refs.push((name.to_owned(), commit.id().to_string()));
        }
    }
    Ok(refs)
}

/// Indexes a pack as it comes in: libgit2 checks every object and adds the bases of a thin pack.
fn write_pack(folder: &Path, mut chunks: mpsc::Receiver<Vec<u8>>) -> Result<()> {
    use std::io::Write;
    let repository = Repository::open_bare(folder).map_err(|error| failed(&error))?;
    let database = repository.odb().map_err(|error| failed(&error))?;
    let mut writer = database.packwriter().map_err(|error| failed(&error))?;
    let mut any = false;
    let mut inspector = Inspector::new();
    while let Some(chunk) = chunks.blocking_recv() {
        if chunk.is_empty() {
            return Ok(());
        }
        any = true;
        inspector.take(&chunk)?;
        writer
            .write_all(&chunk)
            .map_err(|error| Error::new(Code::RepositoryCorrupt, format!("bad pack: {error}")))?;
    }
    if any {
        writer.commit().map_err(|error| failed(&error))?;
    }
    Ok(())
}
