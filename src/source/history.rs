//! Whether a branch went on from where it was, or its history was rewritten.
//!
//! Fetches bring one commit without its history, which cannot tell. The commits between the old head and the new one
//! are asked for apart, without files where the server offers that: about 250 bytes for a commit.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use git2::{ObjectType, Oid, Repository};
use tokio::sync::OnceCell;

use super::client::blocking;
use super::store::failed;
use super::wire::{Extent, Want};
use super::{Client, Credentials, Location};
use crate::error::{Code, Error, Result};

/// Bytes of the commits between two heads: about 250,000 commits without files.
const MAX_HISTORY: usize = 64 << 20;
/// Answers kept; an answer never changes, and what is forgotten is asked again.
const MAX_ANSWERS: usize = 1000;

type Answer = Arc<OnceCell<bool>>;

/// What was asked before.
#[derive(Default)]
pub(super) struct Histories {
    answers: Mutex<HashMap<(Location, String, String), Answer>>,
    /// Repositories whose servers offer no filter.
    unfiltered: Mutex<HashSet<Location>>,
    folders: AtomicU64,
}

impl Histories {
    fn answer(&self, location: &Location, old: &str, new: &str) -> Answer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        answers.entry((location.clone(), old.to_owned(), new.to_owned())).or_default().clone()
    }
}

impl Client {
    /// What [`Client::descends`] has answered before; `None` where it must ask.
    pub fn known_to_descend(&self, location: &Location, old: &str, new: &str) -> Option<bool> {
        self.histories.answer(location, old, new).get().copied()
    }

    /// Whether `new` has `old` among its ancestors; asked once for each pair.
    ///
    /// # Errors
    /// Those of a fetch; `SourceTooLarge` where more than 64 MiB lie between the two.
    pub async fn descends(
        &self,
        location: &Location,
        old: &str,
        new: &str,
        credentials: &Credentials,
    ) -> Result<bool> {
        if old == new {
            return Ok(true);
        }
        let answer = self.histories.answer(location, old, new);
        answer.get_or_try_init(|| self.ask(location, old, new, credentials)).await.copied()
    }

    async fn ask(
        &self,
        location: &Location,
        old: &str,
        new: &str,
        credentials: &Credentials,
    ) -> Result<bool> {
        if let Location::File(folder) = location {
            let (folder, old, new) = (folder.clone(), old.to_owned(), new.to_owned());
            return blocking(move || local(&folder, &old, &new)).await;
        }
        let unfiltered = || self.histories.unfiltered.lock().unwrap_or_else(PoisonError::into_inner);
        if !unfiltered().contains(location) {
            match self.between(location, old, new, Extent::Commits, credentials).await {
                // A server without filters ends the answer at the word, with or without saying why.
                Err(error) if matches!(error.code, Code::RepositoryCorrupt | Code::RepositoryUnreachable) => {
                }
                other => return other,
            }
        }
        let found = self.between(location, old, new, Extent::CommitsAndFiles, credentials).await?;
        unfiltered().insert(location.clone());
        Ok(found)
    }

    /// Looks through the commits that lie between; they are not kept.
    async fn between(
        &self,
        location: &Location,
        old: &str,
        new: &str,
        extent: Extent,
        credentials: &Credentials,
    ) -> Result<bool> {
        let number = self.histories.folders.fetch_add(1, Ordering::Relaxed);
        let folder = self.cache.join(format!("history-{number}.git"));
        let made = folder.clone();
        blocking(move || {
            // An earlier process may have left one.
            let _ = std::fs::remove_dir_all(&made);
            Repository::init_bare(&made).map(drop).map_err(|error| failed(&error))
        })
        .await?;
        let have = [old.to_owned()];
        let want = Want { commit: new, have: &have, extent, limit: MAX_HISTORY };
        let brought = self.transfer(location, want, credentials, &folder).await;
        let old = old.to_owned();
        blocking(move || {
            let found = brought.and_then(|()| is_parent(&folder, &old));
            let _ = std::fs::remove_dir_all(&folder);
            found
        })
        .await
    }
}

/// Whether one of the commits of a folder, all of them ancestors of the new head, has `old` as a parent.
fn is_parent(folder: &Path, old: &str) -> Result<bool> {
    let repository = Repository::open_bare(folder).map_err(|error| failed(&error))?;
    let database = repository.odb().map_err(|error| failed(&error))?;
    let old = Oid::from_str(old).map_err(|error| failed(&error))?;
    let mut found = false;
    let mut unread = None;
    let walked = database.foreach(|id| {
        match database.read_header(*id) {
            Ok((_, ObjectType::Commit)) => match repository.find_commit(*id) {
                Ok(commit) => found = commit.parent_ids().any(|parent| parent == old),
                Err(error) => unread = Some(error),
            },
            Ok(_) => {}
            Err(error) => unread = Some(error),
        }
        !found && unread.is_none()
    });
    match unread {
        Some(error) => Err(failed(&error)),
        // A walk that is ended from inside is an error to libgit2.
        None if found => Ok(true),
        None => walked.map(|()| false).map_err(|error| failed(&error)),
    }
}

fn local(folder: &Path, old: &str, new: &str) -> Result<bool> {
    let repository = Repository::open(folder).map_err(|error| {
        Error::new(Code::RepositoryUnreachable, format!("{}: {}", folder.display(), error.message()))
    })?;
    let id = |text: &str| Oid::from_str(text).map_err(|error| failed(&error));
    let (old, new) = (id(old)?, id(new)?);
    if repository.find_commit(old).is_err() {
        // Rewritten and cleaned up.
        return Ok(false);
    }
    repository.graph_descendant_of(new, old).map_err(|error| failed(&error))
}
