//! The names of a folder's files, without what is in them: a repository may hold models of many gigabytes.

use std::path::PathBuf;

use crate::error::{Code, Error, Result};
use crate::render::{Entry, EntryKind, Tree, join};

/// Files below a folder of this machine; entries have no identity.
pub(super) struct Listing(pub(super) PathBuf);

impl Listing {
    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.0.clone() } else { self.0.join(path) }
    }

    fn failed(&self, path: &str, error: &std::io::Error) -> Error {
        Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", self.at(path).display()))
    }
}

impl Tree for Listing {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        let full = self.at(path);
        let metadata = if path.is_empty() { full.metadata() } else { full.symlink_metadata() };
        let kind = match metadata {
            Ok(found) if found.is_symlink() => EntryKind::Link,
            Ok(found) if found.is_dir() => EntryKind::Folder,
            Ok(_) => EntryKind::File,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(self.failed(path, &error)),
        };
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Some(Entry { name, kind, identity: String::new() }))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let failed = |error: std::io::Error| self.failed(path, &error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.at(path)).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort();
        names.iter().filter_map(|name| self.entry(&join(path, name)).transpose()).collect()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let full = self.at(path);
        let link = full.symlink_metadata().is_ok_and(|found| found.is_symlink());
        let content = if link {
            std::fs::read_link(&full).map(|target| target.to_string_lossy().into_owned().into_bytes())
        } else {
            std::fs::read(&full)
        };
        content.map_err(|error| self.failed(path, &error))
    }
}
