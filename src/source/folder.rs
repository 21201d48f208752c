//! A folder of this machine as a tree, for `driftless render`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Code, Error, Result};
use crate::model::Digest;
use crate::render::{Entry, EntryKind, Tree, join};

/// A path and its content.
type Read = (String, Vec<u8>);

/// Files below one folder.
#[derive(Clone, Debug)]
pub struct FolderTree {
    root: PathBuf,
    /// Entries have identities, for which files are read.
    identities: bool,
    /// The file whose identity was asked for last: mostly it is read next.
    last: Arc<Mutex<Option<Read>>>,
}

impl FolderTree {
    /// The tree below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), identities: true, last: Arc::default() }
    }

    /// The same without identities: for who looks at names only, in a folder that may hold models of many gigabytes.
    pub fn names(root: impl Into<PathBuf>) -> Self {
        Self { identities: false, ..Self::new(root) }
    }

    fn last(&self) -> MutexGuard<'_, Option<Read>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
}

impl Tree for FolderTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        let full = self.at(path);
        // The root itself may be a link: the user named it.
        let found = if path.is_empty() { std::fs::metadata(&full) } else { std::fs::symlink_metadata(&full) };
        let metadata = match found {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&full, &error)),
        };
        let kind = if metadata.is_symlink() {
            EntryKind::Link
        } else if metadata.is_dir() {
            EntryKind::Folder
        } else {
            EntryKind::File
        };
        let identity = if kind == EntryKind::Folder || !self.identities {
            String::new()
        } else {
            let content = self.read(path)?;
            let identity = Digest::of(&content).to_string();
            *self.last() = Some((path.to_owned(), content));
            identity
        };
        Ok(Some(Entry { name: path.rsplit('/').next().unwrap_or_default().to_owned(), kind, identity }))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let full = self.at(path);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&full).map_err(|error| unreadable(&full, &error))? {
            let entry = entry.map_err(|error| unreadable(&full, &error))?;
            if let Some(name) = entry.file_name().to_str()
                && name != ".git"
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names.iter().filter_map(|name| self.entry(&join(path, name)).transpose()).collect()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        if let Some((_, content)) = self.last().take_if(|(last, _)| last == path) {
            return Ok(content);
        }
        let full = self.at(path);
        let is_link = std::fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_symlink());
        if is_link && !path.is_empty() {
            let target = std::fs::read_link(&full).map_err(|error| unreadable(&full, &error))?;
            return Ok(target.to_string_lossy().into_owned().into_bytes());
        }
        std::fs::read(&full).map_err(|error| unreadable(&full, &error))
    }
}
