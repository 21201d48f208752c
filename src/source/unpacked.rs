//! Files of an archive as a Git tree: one pack, written at once. Two thousand files as objects of their own would be
//! two thousand files of the cache, and take thirty times as long.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::{ObjectType, Oid, Repository};
use sha1::{Digest as _, Sha1};

use super::store::failed;
use crate::error::{Code, Error, Result};
use crate::render::archive::Unpacked;

/// Most folders inside one another; a path of a million of them would end the thread.
const MAX_FOLDERS: usize = 200;

/// Writes the files as Git objects; the tree's id.
pub(super) fn write(folder: &Path, unpacked: Unpacked) -> Result<Oid> {
    let mut pack = Pack::default();
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
        let id = pack.add(ObjectType::Blob, &content)?;
        root.place(&path, Node::Blob(id, mode))?;
    }
    let id = root.write(&mut pack)?;
    let repository = Repository::open_bare(folder).map_err(|error| failed(&error))?;
    let database = repository.odb().map_err(|error| failed(&error))?;
    let mut writer = database.packwriter().map_err(|error| failed(&error))?;
    writer.write_all(&pack.finish()).map_err(|error| unwritten(&error))?;
    writer.commit().map_err(|error| failed(&error))?;
    Ok(id)
}

fn unwritten(error: &std::io::Error) -> Error {
    Error::new(Code::FileUnreadable, format!("the cache cannot be written: {error}"))
}

/// Objects on their way into a pack, compressed and each once.
#[derive(Default)]
struct Pack {
    known: HashSet<Oid>,
    bytes: Vec<u8>,
}

impl Pack {
    fn add(&mut self, kind: ObjectType, content: &[u8]) -> Result<Oid> {
        let id = Oid::hash_object(kind, content).map_err(|error| failed(&error))?;
        if !self.known.insert(id) {
            return Ok(id);
        }
        // Type and size: four bits, then seven a byte, the lowest first.
        let mut size = content.len();
        let mut first = if kind == ObjectType::Tree { 0x20 } else { 0x30 } | low(size, 0x0f);
        size >>= 4;
        while size > 0 {
            self.bytes.push(first | 0x80);
            first = low(size, 0x7f);
            size >>= 7;
        }
        self.bytes.push(first);
        let mut encoder = ZlibEncoder::new(&mut self.bytes, Compression::fast());
        encoder.write_all(content).map_err(|error| unwritten(&error))?;
        encoder.finish().map_err(|error| unwritten(&error))?;
        Ok(id)
    }

    fn finish(self) -> Vec<u8> {
        let count = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let mut pack = Vec::with_capacity(self.bytes.len() + 32);
        pack.extend_from_slice(b"PACK\0\0\0\x02");
        pack.extend_from_slice(&count.to_be_bytes());
        pack.extend_from_slice(&self.bytes);
        let hash = Sha1::digest(&pack);
        pack.extend_from_slice(&hash);
        pack
    }
}

#[expect(clippy::cast_possible_truncation, reason = "masked to fewer than eight bits")]
fn low(size: usize, mask: usize) -> u8 {
    (size & mask) as u8
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

    fn write(&self, pack: &mut Pack) -> Result<Oid> {
        let mut rows = Vec::new();
        for (name, node) in &self.entries {
            // Git sorts folders as if their names ended with a slash.
            let row = match node {
                Node::Folder(folder) => (format!("{name}/"), name, "40000", folder.write(pack)?),
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
        pack.add(ObjectType::Tree, &bytes)
    }
}

fn both(path: &str) -> Error {
    Error::new(Code::ArchiveInvalid, format!("{path}: a part of it is a file and a folder")).in_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{EntryKind, Tree};
    use crate::source::Snapshot;

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
    fn a_pack_of_many_files_is_written_at_once() {
        let folder = tempfile::tempdir().unwrap();
        Repository::init_bare(folder.path()).unwrap();
        // Sizes on both sides of where the header grows.
        let sizes = [0, 1, 15, 16, 17, 2047, 2048, 100_000, 300_000];
        let mut files: Vec<(String, Vec<u8>)> =
            sizes.map(|size| (format!("s/{size}"), vec![b'x'; size])).into();
        files.extend(
            (0..2_000)
                .map(|number| (format!("d{}/f{number}", number % 50), format!("{number}").into_bytes())),
        );
        let begin = std::time::Instant::now();
        let root = write(folder.path(), Unpacked { files, links: vec![] }).unwrap();
        println!("{:?}", begin.elapsed());
        let snapshot = Snapshot::of_tree(folder.path(), "c".into(), root, String::new(), String::new(), 0);
        let tree = snapshot.tree().unwrap();
        for size in sizes {
            assert_eq!(tree.read(&format!("s/{size}")).unwrap().len(), size);
        }
        assert_eq!(tree.read("d7/f1957").unwrap(), b"1957");
        // Again, as after a restart.
        assert_eq!(
            write(folder.path(), unpacked(&[], &[])).unwrap().to_string(),
            "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        );
    }
}
