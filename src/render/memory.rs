//! A tree in memory.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::Digest;
use crate::render::{Entry, EntryKind, Tree};

/// Files by path; folders are implied.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    files: BTreeMap<String, (EntryKind, Vec<u8>)>,
}

impl MemoryTree {
    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), (EntryKind::File, content.into()));
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.files.insert(path.to_owned(), (EntryKind::Link, target.into()));
        self
    }

    /// Adds a submodule.
    #[must_use]
    pub fn submodule(mut self, path: &str) -> Self {
        self.files.insert(path.to_owned(), (EntryKind::Submodule, Vec::new()));
        self
    }

    fn below<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a (EntryKind, Vec<u8>))> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.files
            .range(prefix.clone()..)
            .take_while({
                let prefix = prefix.clone();
                move |(file, _)| file.starts_with(&prefix)
            })
            .map(move |(file, content)| (&file[prefix.len()..], content))
    }
}

impl Tree for MemoryTree {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some((kind, content)) = self.files.get(path) {
            return Ok(Some(Entry { name, kind: *kind, identity: Digest::of(content).to_string() }));
        }
        let parts: Vec<Vec<u8>> = self
            .below(path)
            .map(|(file, (_, content))| [file.as_bytes(), &[0], Digest::of(content).as_bytes()].concat())
            .collect();
        if parts.is_empty() && !path.is_empty() {
            return Ok(None);
        }
        Ok(Some(Entry { name, kind: EntryKind::Folder, identity: Digest::of_parts(parts).to_string() }))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let mut names: Vec<&str> =
            self.below(path).map(|(file, _)| file.split('/').next().unwrap_or_default()).collect();
        names.dedup();
        let full = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        names.into_iter().filter_map(|name| self.entry(&full(name)).transpose()).collect()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.files.get(path).map(|(_, content)| content.clone()).unwrap_or_default())
    }
}
