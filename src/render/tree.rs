//! The tree a render reads through.

use super::cache::Parses;
use crate::error::{Code, Error, Result};

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
    /// Where readers keep what they made of a file, under its identity. A tree that gives another content than the
    /// identity says (one that decrypts) has none, so nothing of it is kept.
    fn parses(&self) -> Option<&Parses> {
        None
    }
}

/// Links followed for one path before it is called a loop; the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Where a path leads when every link is followed: the real path, its entry, and the links on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without any link in it.
    pub path: String,
    /// What is there.
    pub entry: Entry,
    /// Each link that was followed, with its identity.
    pub links: Vec<(String, String)>,
}

/// Follows links inside the tree; never out of it.
///
/// # Errors
/// `SymlinkRefused` for a link that is absolute, leaves the tree or never ends, `SubmoduleRefused` for a
/// path into another repository. `None` where nothing is there.
pub fn resolve(tree: &dyn Tree, path: &str) -> Result<Option<Resolved>> {
    let mut todo: Vec<String> = parts(path).rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut links = Vec::new();
    let mut last = None;
    while let Some(part) = todo.pop() {
        last = None;
        if part == ".." {
            if done.pop().is_none() {
                return Err(refused(path, "it leads out of the repository"));
            }
            continue;
        }
        done.push(part);
        let here = done.join("/");
        let Some(found) = tree.entry(&here)? else { return Ok(None) };
        match found.kind {
            EntryKind::Link => {
                let target = tree.read(&here)?;
                let target =
                    String::from_utf8(target).map_err(|_| refused(&here, "its target is not UTF-8"))?;
                if target.starts_with('/') {
                    return Err(refused(&here, &format!("its target {target} is absolute")));
                }
                links.push((here.clone(), found.identity));
                if links.len() > MAX_LINKS {
                    return Err(refused(&here, "more than 40 links in a row"));
                }
                done.pop();
                todo.extend(parts(&target).rev().map(str::to_owned));
            }
            EntryKind::Submodule => {
                return Err(
                    Error::new(Code::SubmoduleRefused, format!("{here} is a Git submodule")).in_file(here)
                );
            }
            EntryKind::File if !todo.is_empty() => return Ok(None),
            EntryKind::File | EntryKind::Folder => last = Some(found),
        }
    }
    let path = done.join("/");
    if let Some(entry) = last {
        return Ok(Some(Resolved { path, entry, links }));
    }
    Ok(tree.entry(&path)?.map(|entry| Resolved { path, entry, links }))
}

/// The path of an entry of a folder; the root is "".
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

fn refused(link: &str, why: &str) -> Error {
    Error::new(Code::SymlinkRefused, format!("the link {link} cannot be followed: {why}")).in_file(link)
}
