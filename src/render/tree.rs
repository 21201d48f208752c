//! The tree a render reads through.

use crate::error::Result;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; its content is the target.
    Link,
    /// A commit of another repository.
    Submodule,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name without its folder.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Identity of the content: equal identities mean equal content (for Git, the object id).
    pub identity: String,
}

/// Read-only files of one revision. Paths are relative, `/`-separated, without `.` or `..`; the root is "".
/// Links are not followed here: `render::tree::resolve` does it, the same way for every source.
pub trait Tree {
    /// The entry at a path, `None` where there is nothing; the root is a folder.
    fn entry(&self, path: &str) -> Result<Option<Entry>>;
    /// The entries of a folder, sorted by name.
    fn list(&self, path: &str) -> Result<Vec<Entry>>;
    /// The content of a file, or the target of a link.
    fn read(&self, path: &str) -> Result<Vec<u8>>;
}
