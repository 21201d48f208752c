//! Commits and unpacked artifacts in bare repositories, read in memory.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use git2::{ObjectType, Oid, Repository};

use crate::error::{Code, Error, Result};
use crate::render::{Entry, EntryKind, Tree};

/// Largest file that is read.
const MAX_FILE: usize = 64 << 20;

/// One commit, chart or artifact that is at hand.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The repository's folder.
    pub repository: PathBuf,
    /// The commit, 40 hexadecimal digits; of a chart or artifact its tag or version and digest,
    /// `1.2.3@sha256:...`.
    pub commit: String,
    /// The ref, tag or version that named it at the poll that brought it; empty where it was named by itself.
    pub reference: String,
    /// Author's name, where one is known.
    pub author: String,
    /// First line of the message; of a chart its name and version.
    pub subject: String,
    /// Commit time, seconds since 1970; 0 where an artifact does not say when it was made.
    pub time: i64,
    root: String,
    tree: Arc<OnceLock<GitTree>>,
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

    /// The addresses under which its repository knows others, its origin before all.
    ///
    /// # Errors
    /// `RepositoryCorrupt` where its configuration cannot be read.
    pub fn remotes(&self) -> Result<Vec<String>> {
        let repository = Repository::open(&self.repository).map_err(|error| failed(&error))?;
        let names = repository.remotes().map_err(|error| failed(&error))?;
        let mut found = Vec::new();
        for name in names.iter().flatten().flatten() {
            let Ok(remote) = repository.find_remote(name) else { continue };
            found.extend(remote.url().ok().map(str::to_owned));
        }
        Ok(found)
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
            reference: String::new(),
            author: commit.author().name().unwrap_or_default().to_owned(),
            subject: commit.summary().ok().flatten().unwrap_or_default().to_owned(),
            time: commit.time().seconds(),
            root: commit.tree_id().to_string(),
            tree: Arc::default(),
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
        let (repository, root) = (repository.to_owned(), root.to_string());
        let reference = String::new();
        Self { repository, commit, reference, author, subject, time, root, tree: Arc::default() }
    }

    /// The same, named by a ref, tag or version.
    #[must_use]
    pub fn named(self, reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), ..self }
    }

    /// Whether its files are still in the cache, which is begun anew from time to time.
    pub fn is_at_hand(&self) -> bool {
        self.repository.exists()
    }

    /// Its files. Copies of a snapshot share what was opened and read of its folders.
    pub fn tree(&self) -> Result<GitTree> {
        if let Some(tree) = self.tree.get() {
            return Ok(tree.clone());
        }
        let handle = Repository::open_bare(&self.repository).map_err(|error| failed(&error))?;
        let files = Files {
            repository: self.repository.clone(),
            root: Oid::from_str(&self.root).map_err(|error| failed(&error))?,
            handles: Mutex::new(vec![handle]),
            folders: Mutex::default(),
        };
        Ok(self.tree.get_or_init(|| GitTree(Arc::new(files))).clone())
    }
}

/// Whatever was opened of it does not matter.
impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        (&self.repository, &self.commit) == (&other.repository, &other.commit)
    }
}

impl Eq for Snapshot {}

/// Entries of folders kept for one tree; beyond it they are read anew.
const MAX_KEPT: usize = 200_000;
/// Open repositories kept for one tree: as many threads as read it at once.
const MAX_HANDLES: usize = 4;

/// The files of a commit. Identities are Git's object ids. Folders are read once, so that to look at a path costs no
/// more than its depth.
#[derive(Clone)]
pub struct GitTree(Arc<Files>);

type Folder = Arc<[Entry]>;

struct Files {
    repository: PathBuf,
    root: Oid,
    handles: Mutex<Vec<Repository>>,
    folders: Mutex<Folders>,
}

#[derive(Default)]
struct Folders {
    by_id: HashMap<Oid, Folder>,
    entries: usize,
}

impl fmt::Debug for GitTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitTree({})", self.0.root)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl GitTree {
    /// Works with a repository that no other thread uses meanwhile. After a failure it is opened anew: its packs may
    /// have been replaced.
    fn with<T>(&self, work: impl FnOnce(&Repository) -> Result<T>) -> Result<T> {
        let free = lock(&self.0.handles).pop();
        let handle = match free {
            Some(handle) => handle,
            None => Repository::open_bare(&self.0.repository).map_err(|error| failed(&error))?,
        };
        let done = work(&handle)?;
        let mut handles = lock(&self.0.handles);
        if handles.len() < MAX_HANDLES {
            handles.push(handle);
        }
        Ok(done)
    }

    fn folder(&self, id: Oid) -> Result<Folder> {
        if let Some(found) = lock(&self.0.folders).by_id.get(&id) {
            return Ok(found.clone());
        }
        let folder: Folder = self.with(|repository| {
            let tree = repository.find_tree(id).map_err(|error| failed(&error))?;
            let mut entries = tree.iter().map(|entry| entry_of(&entry)).collect::<Result<Vec<_>>>()?;
            // Git sorts folders as if their names ended with a slash.
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(entries.into())
        })?;
        let mut folders = lock(&self.0.folders);
        if folders.entries > MAX_KEPT {
            *folders = Folders::default();
        }
        folders.entries += folder.len();
        folders.by_id.insert(id, folder.clone());
        Ok(folder)
    }

    /// The folder at a path; `None` where there is none.
    fn at(&self, path: &str) -> Result<Option<Folder>> {
        let mut folder = self.folder(self.0.root)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(entry) = named(&folder, name).filter(|entry| entry.kind == EntryKind::Folder) else {
                return Ok(None);
            };
            folder = self.folder(Oid::from_str(&entry.identity).map_err(|error| failed(&error))?)?;
        }
        Ok(Some(folder))
    }
}

fn named<'a>(folder: &'a Folder, name: &str) -> Option<&'a Entry> {
    let at = folder.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
    folder.get(at)
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
            let identity = self.0.root.to_string();
            return Ok(Some(Entry { name: String::new(), kind: EntryKind::Folder, identity }));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.at(folder).map_err(|error| error.in_file(path))?;
        Ok(folder.and_then(|folder| named(&folder, name).cloned()))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        match self.at(path).map_err(|error| error.in_file(path))? {
            Some(folder) => Ok(folder.to_vec()),
            None => Err(Error::new(Code::PathNotFound, "not a folder").in_file(path)),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let Some(entry) = self.entry(path)? else {
            return Err(Error::new(Code::PathNotFound, "does not exist at this revision").in_file(path));
        };
        self.with(|repository| {
            let id = Oid::from_str(&entry.identity).map_err(|error| failed(&error))?;
            let database = repository.odb().map_err(|error| failed(&error))?;
            let (size, kind) = database.read_header(id).map_err(|error| failed(&error))?;
            if kind != ObjectType::Blob {
                return Err(Error::new(Code::RepositoryCorrupt, "not a file"));
            }
            if size > MAX_FILE {
                let why = format!("{size} bytes; the limit is 64 MiB");
                return Err(Error::new(Code::SourceTooLarge, why));
            }
            let object = database.read(id).map_err(|error| failed(&error))?;
            Ok(object.data().to_vec())
        })
        .map_err(|error| error.in_file(path))
    }
}
