//! The tree a render reads through.

use super::cache::Parses;
use std::sync::{Mutex, PoisonError};

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
    /// The name in the root below which another repository is at a commit; `None` where it is not at hand.
    fn remote(&self, _repository: &str, _commit: &str) -> Option<String> {
        None
    }
    /// Whether a name in the root is a tree of its own, which no link may leave. A tree around another passes it on.
    fn is_mount(&self, _name: &str) -> bool {
        false
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
            // The name of a mount is the last that may be on the way.
            let at_mount = done.len() == 1 && done.first().is_some_and(|name| tree.is_mount(name));
            if at_mount || done.pop().is_none() {
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

/// A source with other sources of the same application at hand: what is below `$name/` is read from the one of that
/// name. They are not listed in the root, so nothing reads them unasked.
pub struct Mounted<'a> {
    main: &'a dyn Tree,
    /// Sources first, then other repositories.
    named: Vec<(String, &'a dyn Tree)>,
    sources: usize,
    asked: Mutex<Vec<(String, String)>>,
}

impl<'a> Mounted<'a> {
    /// `main`, and each of `named` below `$` and its name.
    pub fn new(main: &'a dyn Tree, named: impl IntoIterator<Item = (&'a str, &'a dyn Tree)>) -> Self {
        let named: Vec<_> = named.into_iter().map(|(name, tree)| (format!("${name}"), tree)).collect();
        Self { main, sources: named.len(), named, asked: Mutex::default() }
    }

    /// With other repositories at commits, for kustomizations that name them.
    #[must_use]
    pub fn with_remotes(
        mut self,
        remotes: impl IntoIterator<Item = (&'a str, &'a str, &'a dyn Tree)>,
    ) -> Self {
        let remotes = remotes.into_iter();
        self.named.extend(remotes.map(|(repository, commit, tree)| (mount(repository, commit), tree)));
        self
    }

    /// Repositories and commits that were asked for and are not here.
    pub fn asked(self) -> Vec<(String, String)> {
        self.asked.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a path leads.
    pub fn place<'p>(&self, path: &'p str) -> Mount<'p> {
        match self.find(path) {
            Some((number, inner)) if number < self.sources => Mount::Source(number, inner),
            Some(_) => Mount::Remote,
            None => Mount::Main,
        }
    }

    fn find<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        Some((self.named.iter().position(|(name, _)| name == first)?, rest))
    }
}

impl Tree for Mounted<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        let Some((number, inner)) = self.find(path) else { return self.main.entry(path) };
        let (name, tree) = &self.named[number];
        let found = tree.entry(inner)?;
        Ok(found.map(|entry| if inner.is_empty() { Entry { name: name.clone(), ..entry } } else { entry }))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        match self.find(path) {
            Some((number, inner)) => self.named[number].1.list(inner),
            None => self.main.list(path),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        match self.find(path) {
            Some((number, inner)) => self.named[number].1.read(inner),
            None => self.main.read(path),
        }
    }

    fn is_mount(&self, name: &str) -> bool {
        self.named.iter().any(|(known, _)| known == name)
    }

    fn remote(&self, repository: &str, commit: &str) -> Option<String> {
        let name = mount(repository, commit);
        if self.is_mount(&name) {
            return Some(name);
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push((repository.to_owned(), commit.to_owned()));
        None
    }
}

/// Where a path of [`Mounted`] leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mount<'p> {
    /// Into the main tree.
    Main,
    /// Into a named source, by its number among them; with the path in it.
    Source(usize, &'p str),
    /// Into another repository at a commit: it never changes.
    Remote,
}

/// `$git.example_ml_base@0123...`: the name of no source has a dot or an `@`.
fn mount(repository: &str, commit: &str) -> String {
    let rest = repository.split_once("://").map_or(repository, |(_, rest)| rest);
    format!("${}@{commit}", rest.trim_end_matches(".git").replace(['/', ':', '@'], "_"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::MemoryTree;

    #[test]
    fn another_source_is_below_its_name() {
        let main = MemoryTree::default().file("a.yaml", "main").file("$other/x", "own");
        let values = MemoryTree::default()
            .file("prod/v.yaml", "values")
            .link("prod/same", "../prod/v.yaml")
            .link("prod/out", "../../a.yaml")
            .link("up", "..");
        let tree = Mounted::new(&main, [("values", &values as &dyn Tree)]);
        let read = |path: &str| {
            let found = resolve(&tree, path)?;
            found
                .map(|found| tree.read(&found.path).map(|bytes| String::from_utf8(bytes).unwrap()))
                .transpose()
        };
        assert_eq!(read("a.yaml").unwrap().as_deref(), Some("main"));
        assert_eq!(read("$values/prod/v.yaml").unwrap().as_deref(), Some("values"));
        assert_eq!(read("$values/prod/same").unwrap().as_deref(), Some("values"));
        assert_eq!(read("$other/x").unwrap().as_deref(), Some("own"), "no source has this name");
        assert_eq!(read("$values/nothing").unwrap(), None);
        assert_eq!(tree.entry("$values").unwrap().unwrap().kind, EntryKind::Folder);
        assert_eq!(tree.entry("$values").unwrap().unwrap().name, "$values");
        for path in ["$values/prod/out", "$values/up", "$values/../a.yaml"] {
            assert_eq!(read(path).unwrap_err().code, Code::SymlinkRefused, "{path}");
        }
        let names =
            |path: &str| tree.list(path).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
        assert_eq!(names(""), ["$other", "a.yaml"]);
        assert_eq!(names("$values"), ["prod", "up"]);
        assert_eq!(tree.place("$values/prod/v.yaml"), Mount::Source(0, "prod/v.yaml"));
        assert_eq!(tree.place("a/$values"), Mount::Main);
    }

    #[test]
    fn another_repository_is_below_its_name_and_commit() {
        let (main, base) =
            (MemoryTree::default(), MemoryTree::default().file("a", "base").link("out", "../x"));
        let (repository, commit) = ("https://git.example/ml/base.git", "0123");
        let tree = Mounted::new(&main, []).with_remotes([(repository, commit, &base as &dyn Tree)]);
        let name = tree.remote(repository, commit).unwrap();
        assert_eq!(name, "$git.example_ml_base@0123");
        assert_eq!(tree.read(&format!("{name}/a")).unwrap(), b"base");
        assert_eq!(resolve(&tree, &format!("{name}/out")).unwrap_err().code, Code::SymlinkRefused);
        assert_eq!(tree.place(&format!("{name}/a")), Mount::Remote);
        assert_eq!(tree.remote(repository, "4567"), None);
        assert_eq!(tree.asked(), [(repository.to_owned(), "4567".to_owned())]);
    }
}
