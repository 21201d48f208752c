//! Charts and artifacts: unpacked once, kept as Git objects in the cache. So they are read, shared and told apart as
//! commits are, and take no memory between two renders, however many applications share one.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{ObjectType, Odb, Oid, Repository};

use super::client::{Client, blocking};
use super::revision::Pinned;
use super::store::failed;
use crate::error::{Code, Error, Result};
use crate::render::archive::{self, Unpacked};
use crate::source::{Credentials, Location, Snapshot};

/// Artifacts that a repository of the cache may gather before it is begun anew.
const MAX_ARTIFACTS: usize = 100;

/// What came, and what is said about it.
struct Arrived {
    archive: Vec<u8>,
    /// Files are below a folder of the chart's name.
    is_chart: bool,
    author: String,
    subject: String,
    time: i64,
}

impl Client {
    /// Brings a chart or artifact to this machine; nothing is sent when it is here already.
    pub(super) async fn fetch_artifact(
        &self,
        location: &Location,
        commit: &str,
        credentials: &Credentials,
    ) -> Result<Snapshot> {
        let pinned = Pinned::parse(commit).ok_or_else(|| {
            Error::new(
                Code::RevisionNotFound,
                format!("{location} has no revision {commit}: it is no digest"),
            )
        })?;
        let store = self.store(location);
        let mut store = store.lock().await;
        if let Some(snapshot) = store.artifacts.get(&pinned.digest) {
            let mut snapshot = snapshot.clone();
            snapshot.commit = pinned.to_string();
            return Ok(snapshot);
        }
        let arrived = self.pull(location, &pinned, credentials).await?;
        if store.folder.as_os_str().is_empty() || store.artifacts.len() >= MAX_ARTIFACTS {
            self.begin(&mut store, location)?;
        }
        // One at a time: an archive and all its files are in memory meanwhile, up to half a GiB.
        let _alone = self.unpacking.lock().await;
        let folder = store.folder.clone();
        let place = location.to_string();
        let name = pinned.to_string();
        let snapshot = blocking(move || {
            let told = |error: Error| Error { why: format!("{place} {name}: {}", error.why), ..error };
            let Arrived { archive, is_chart, author, subject, time } = arrived;
            let mut unpacked = archive::unpack(&archive, archive::Limits::default()).map_err(told)?;
            drop(archive);
            if is_chart {
                unpacked = without_top(unpacked).map_err(told)?;
            }
            let root = write(&folder, unpacked).map_err(told)?;
            Ok(Snapshot::of_tree(&folder, name.clone(), root, author, subject, time))
        })
        .await?;
        store.artifacts.insert(pinned.digest, snapshot.clone());
        Ok(snapshot)
    }

    async fn pull(&self, location: &Location, pinned: &Pinned, credentials: &Credentials) -> Result<Arrived> {
        let place = location.to_string();
        let access = self.access(credentials)?;
        if let Location::Chart { repository, chart } = location {
            let (found, archive) = access.charts.pull(repository, chart, pinned).await?;
            return Ok(Arrived {
                archive,
                is_chart: true,
                author: String::new(),
                subject: titled(chart, &found.pinned.name, &found.app_version),
                time: seconds(&found.created),
            });
        }
        let at = location.address(&place).ok_or_else(|| {
            Error::new(Code::Internal, format!("{location} holds neither charts nor artifacts"))
        })?;
        let pulled = access.registry.pull(at, &pinned.digest).await?;
        let told = |key: &str| pulled.annotations.get(&format!("org.opencontainers.image.{key}"));
        let short = |text: &String| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        let word = |key: &str| told(key).map(short).unwrap_or_default();
        let title = if pulled.is_chart { word("title") } else { String::new() };
        let subject = if title.is_empty() {
            // Flux writes where an artifact was built from.
            [word("description"), word("revision"), word("version")].into_iter().find(|text| !text.is_empty())
        } else {
            Some(titled(&title, &word("version"), ""))
        };
        Ok(Arrived {
            author: word("authors"),
            subject: subject.unwrap_or_default(),
            time: told("created").map(|text| seconds(text)).unwrap_or_default(),
            is_chart: pulled.is_chart,
            archive: pulled.archive,
        })
    }
}

fn titled(chart: &str, version: &str, app: &str) -> String {
    let app = if app.is_empty() { String::new() } else { format!(" (of {app})") };
    format!("{chart} {version}{app}").chars().filter(|c| !c.is_control()).take(200).collect()
}

fn seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second).unwrap_or_default()
}

/// A packaged chart without the folder that holds it.
fn without_top(unpacked: Unpacked) -> Result<Unpacked> {
    let invalid = |why: String| Error::new(Code::ArchiveInvalid, why);
    let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let paths =
        || unpacked.files.iter().map(|(path, _)| path).chain(unpacked.links.iter().map(|(path, _)| path));
    // Helm takes the folder of Chart.yaml; whatever stands beside it is no part of the chart.
    let folder = paths()
        .find(|path| path.split('/').nth(1) == Some("Chart.yaml") && path.matches('/').count() == 1)
        .map(|path| top(path))
        .ok_or_else(|| invalid("it is no packaged chart: no folder of it has a Chart.yaml".to_owned()))?;
    if let Some(other) = paths().map(|path| top(path)).find(|found| *found != folder) {
        return Err(invalid(format!("it is no packaged chart: beside the folder {folder} there is {other}")));
    }
    let inner = |path: String| path[(folder.len() + 1).min(path.len())..].to_owned();
    Ok(Unpacked {
        files: unpacked.files.into_iter().map(|(path, content)| (inner(path), content)).collect(),
        links: unpacked.links.into_iter().map(|(path, target)| (inner(path), target)).collect(),
    })
}

/// A folder on its way to a Git tree.
#[derive(Default)]
struct Folder {
    entries: BTreeMap<String, Node>,
}

enum Node {
    Folder(Folder),
    Blob(Oid, &'static str),
}

impl Folder {
    fn place(&mut self, path: &str, node: Node) -> Result<()> {
        let mut folder = self;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                let before = folder.entries.insert(part.to_owned(), node);
                if matches!(before, Some(Node::Folder(_))) {
                    return Err(both(path));
                }
                return Ok(());
            }
            let next = folder.entries.entry(part.to_owned()).or_insert_with(|| Node::Folder(Self::default()));
            match next {
                Node::Folder(next) => folder = next,
                Node::Blob(..) => return Err(both(path)),
            }
        }
        Ok(())
    }

    fn write(&self, database: &Odb<'_>) -> Result<Oid> {
        let mut rows = Vec::new();
        for (name, node) in &self.entries {
            // Git sorts folders as if their names ended with a slash.
            let row = match node {
                Node::Folder(folder) => (format!("{name}/"), name, "40000", folder.write(database)?),
                Node::Blob(id, mode) => (name.clone(), name, *mode, *id),
            };
            rows.push(row);
        }
        rows.sort_by(|one, other| one.0.as_bytes().cmp(other.0.as_bytes()));
        let mut bytes = Vec::new();
        for (_, name, mode, id) in rows {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(id.as_bytes());
        }
        database.write(ObjectType::Tree, &bytes).map_err(|error| failed(&error))
    }
}

fn both(path: &str) -> Error {
    Error::new(Code::ArchiveInvalid, format!("{path}: a part of it is a file and a folder")).in_file(path)
}

/// Most folders inside one another; a path of a million of them would end the thread.
const MAX_FOLDERS: usize = 200;

/// Writes the files as Git objects; the tree's id.
fn write(folder: &Path, unpacked: Unpacked) -> Result<Oid> {
    let repository = Repository::open_bare(folder).map_err(|error| failed(&error))?;
    let database = repository.odb().map_err(|error| failed(&error))?;
    let mut root = Folder::default();
    let links = unpacked.links.into_iter().map(|(path, target)| (path, target.into_bytes(), "120000"));
    let files = unpacked.files.into_iter().map(|(path, content)| (path, content, "100644"));
    for (path, content, mode) in files.chain(links) {
        if path.matches('/').count() > MAX_FOLDERS {
            let why = format!("its folders are nested deeper than {MAX_FOLDERS} levels");
            return Err(Error::new(Code::ArchiveInvalid, why));
        }
        // A repository in an artifact is nobody's manifest, and Git has no such trees.
        if path.is_empty() || path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
            continue;
        }
        let id = database.write(ObjectType::Blob, &content).map_err(|error| failed(&error))?;
        root.place(&path, Node::Blob(id, mode))?;
    }
    root.write(&database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{EntryKind, Tree};

    fn unpacked(files: &[(&str, &str)], links: &[(&str, &str)]) -> Unpacked {
        Unpacked {
            files: files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect(),
            links: links.iter().map(|(path, to)| ((*path).to_owned(), (*to).to_owned())).collect(),
        }
    }

    #[test]
    fn files_become_a_tree_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(folder.path()).unwrap();
        let files =
            [("a.b", "1"), ("a/x", "old"), ("a/x", "new"), ("a0", "3"), (".git/config", "no"), ("a/d/y", "")];
        let root = write(folder.path(), unpacked(&files, &[("a/l", "x")])).unwrap();
        let snapshot = Snapshot::of_tree(folder.path(), "c".into(), root, String::new(), String::new(), 0);
        let tree = snapshot.tree().unwrap();
        let names =
            |path: &str| tree.list(path).unwrap().into_iter().map(|entry| entry.name).collect::<Vec<_>>();
        assert_eq!(names(""), ["a", "a.b", "a0"]);
        assert_eq!(names("a"), ["d", "l", "x"]);
        assert_eq!(tree.read("a/x").unwrap(), b"new");
        assert_eq!(tree.entry("a/l").unwrap().unwrap().kind, EntryKind::Link);
        assert_eq!(tree.entry("a/d/y").unwrap().unwrap().kind, EntryKind::File);
        // Git itself agrees with the order of entries.
        let mut builder = repository.treebuilder(Some(&repository.find_tree(root).unwrap())).unwrap();
        assert_eq!(builder.write().unwrap(), root);
        assert_eq!(builder.remove("a0").ok(), Some(()));
    }

    #[test]
    fn what_cannot_be_a_tree() {
        let folder = tempfile::tempdir().unwrap();
        Repository::init_bare(folder.path()).unwrap();
        for files in
            [vec![("a", "1"), ("a/x", "2")], vec![("a/x", "2"), ("a", "1")], vec![(&*"d/".repeat(300), "x")]]
        {
            let error = write(folder.path(), unpacked(&files, &[])).unwrap_err();
            assert_eq!(error.code, Code::ArchiveInvalid, "{error}");
        }
    }

    #[test]
    fn a_chart_is_taken_out_of_its_folder() {
        let chart =
            unpacked(&[("fraud/Chart.yaml", "c"), ("fraud/charts/x/Chart.yaml", "d")], &[("fraud/l", "x")]);
        let found = without_top(chart).unwrap();
        assert_eq!(found, unpacked(&[("Chart.yaml", "c"), ("charts/x/Chart.yaml", "d")], &[("l", "x")]));
        for files in [
            vec![],
            vec![("Chart.yaml", "")],
            vec![("a/Chart.yaml", ""), ("b/x", "")],
            vec![("a/b/Chart.yaml", "")],
        ] {
            let error = without_top(unpacked(&files, &[])).unwrap_err();
            assert_eq!(error.code, Code::ArchiveInvalid, "{files:?}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(seconds("2026-01-02T03:04:05.678Z"), 1_767_323_045);
        assert_eq!(seconds("2026-01-02T03:04:05+01:00"), 1_767_319_445);
        assert_eq!(seconds("yesterday"), 0);
    }
}
