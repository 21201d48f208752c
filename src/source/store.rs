//! Commits and unpacked artifacts in bare repositories, read in memory.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use git2::{ObjectType, Oid, Repository};

use crate::error::{Code, Error, Result};
use crate::render::{Entry, EntryKind, Tree};

/// Largest file that is read.
const MAX_FILE: usize = 64 << 20;

/// One commit, chart or artifact that is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The repository's folder.
    pub repository: PathBuf,
    /// The commit, 40 hexadecimal digits; of a chart or artifact its tag or version and digest,
    /// `1.2.3@sha256:...`.
    pub commit: String,
    /// Author's name, where one is known.
    pub author: String,
    /// First line of the message; of a chart its name and version.
    pub subject: String,
    /// Commit time, seconds since 1970; 0 where an artifact does not say when it was made.
    pub time: i64,
    root: String,
}

pub(super) fn failed(error: &git2::Error) -> Error {
    Error::new(Code::RepositoryCorrupt, error.message().to_owned())
}

impl Snapshot {
    /// The commit that an expression such as `main~2` names in a repository of this machine.
    ///
    /// # Errors
    /// `RepositoryUnreachable` where there is no repository, `RevisionNotFound` where there is no commit.
    pub fn open(folder: &Path, revision: &str) -> Result<Self> {
        let repository = Repository::open(folder).map_err(|error| {
            Error::new(
                Code::RepositoryUnreachable,
                format!("{} is no Git repository: {}", folder.display(), error.message()),
            )
        })?;
        let object = repository.revparse_single(revision).map_err(|_| {
            Error::new(Code::RevisionNotFound, format!("{revision} does not exist in {}", folder.display()))
        })?;
        let commit = object.peel_to_commit().map_err(|_| {
            Error::new(Code::RevisionNotFound, format!("{revision} is not a commit in {}", folder.display()))
        })?;
        Ok(Self::of(&commit, repository.path()))
    }

    /// The newest commit that both have; `None` where the history is cut off before it.
    ///
    /// # Errors
    /// `RepositoryCorrupt` where the repository cannot be read.
    pub fn merge_base(&self, other: &Self) -> Result<Option<Self>> {
        let repository = Repository::open(&self.repository).map_err(|error| failed(&error))?;
        let id = |snapshot: &Self| Oid::from_str(&snapshot.commit).map_err(|error| failed(&error));
        let Ok(base) = repository.merge_base(id(self)?, id(other)?) else { return Ok(None) };
        let commit = repository.find_commit(base).map_err(|error| failed(&error))?;
        Ok(Some(Self::of(&commit, repository.path())))
    }

    pub(super) fn of(commit: &git2::Commit<'_>, repository: &Path) -> Self {
        Self {
            repository: repository.to_owned(),
            commit: commit.id().to_string(),
            author: commit.author().name().unwrap_or_default().to_owned(),
            subject: commit.summary().ok().flatten().unwrap_or_default().to_owned(),
            time: commit.time().seconds(),
            root: commit.tree_id().to_string(),
        }
    }

    /// An artifact whose tree is in a repository.
    pub(super) fn of_tree(
        repository: &Path,
        commit: String,
        root: Oid,
        author: String,
        subject: String,
        time: i64,
    ) -> Self {
        Self { repository: repository.to_owned(), commit, author, subject, time, root: root.to_string() }
    }

    /// Whether its files are still in the cache, which is begun anew from time to time.
    pub fn is_at_hand(&self) -> bool {
        self.repository.exists()
    }

    /// Its files.
    pub fn tree(&self) -> Result<GitTree> {
        let repository = Repository::open_bare(&self.repository).map_err(|error| failed(&error))?;
        let root = Oid::from_str(&self.root).map_err(|error| failed(&error))?;
        Ok(GitTree { repository: Mutex::new(repository), root })
    }
}

/// The files of a commit. Identities are Git's object ids.
pub struct GitTree {
    repository: Mutex<Repository>,
    root: Oid,
}

impl GitTree {
    fn repository(&self) -> MutexGuard<'_, Repository> {
        self.repository.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn kind_of(mode: i32) -> EntryKind {
    match mode & 0o170_000 {
        0o040_000 => EntryKind::Folder,
        0o120_000 => EntryKind::Link,
        0o160_000 => EntryKind::Submodule,
        _ => EntryKind::File,
    }
}

fn entry_of(entry: &git2::TreeEntry<'_>) -> Result<Entry> {
    let name = entry.name().map_err(|_| {
        let shown = String::from_utf8_lossy(entry.name_bytes()).into_owned();
        Error::new(Code::RepositoryCorrupt, format!("the file name {shown:?} is not UTF-8"))
    })?;
    Ok(Entry { name: name.to_owned(), kind: kind_of(entry.filemode()), identity: entry.id().to_string() })
}

impl Tree for GitTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        if path.is_empty() {
            let identity = self.root.to_string();
            return Ok(Some(Entry { name: String::new(), kind: EntryKind::Folder, identity }));
        }
        let repository = self.repository();
        let tree = repository.find_tree(self.root).map_err(|error| failed(&error))?;
        match tree.get_path(Path::new(path)) {
            Ok(entry) => entry_of(&entry).map(Some),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(failed(&error).in_file(path)),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let repository = self.repository();
        let mut tree = repository.find_tree(self.root).map_err(|error| failed(&error))?;
        if !path.is_empty() {
            let entry = tree.get_path(Path::new(path)).map_err(|error| failed(&error).in_file(path))?;
            tree = repository.find_tree(entry.id()).map_err(|error| failed(&error).in_file(path))?;
        }
        let mut entries = tree.iter().map(|entry| entry_of(&entry)).collect::<Result<Vec<_>>>()?;
        // Git sorts folders as if their names ended with a slash.
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let repository = self.repository();
        let tree = repository.find_tree(self.root).map_err(|error| failed(&error))?;
        let entry = tree.get_path(Path::new(path)).map_err(|error| failed(&error).in_file(path))?;
        let database = repository.odb().map_err(|error| failed(&error))?;
        let (size, kind) = database.read_header(entry.id()).map_err(|error| failed(&error).in_file(path))?;
        if kind != ObjectType::Blob {
            return Err(Error::new(Code::RepositoryCorrupt, "not a file").in_file(path));
        }
        if size > MAX_FILE {
            return Err(
                Error::new(Code::SourceTooLarge, format!("{size} bytes; the limit is 64 MiB")).in_file(path)
            );
        }
        let object = database.read(entry.id()).map_err(|error| failed(&error).in_file(path))?;
        Ok(object.data().to_vec())
    }
}
