//! A gzipped tar archive (a chart, an artifact) to files in memory.
//!
//! Whoever made the archive is not trusted: nothing in it reaches out of it, and neither a small archive of zeros nor
//! a header that lies about a size takes more memory than the limits say.

use std::collections::HashMap;
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::error::{Code, Error, Result};

/// What an archive may hold once unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most entries, folders included.
    pub entries: usize,
    /// Largest file, in bytes.
    pub file: u64,
    /// All files together, in bytes.
    pub total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 100_000, file: 64 << 20, total: 256 << 20 }
    }
}

/// The content of an archive, in its order. Paths have no `.` and no `..` and do not begin with `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Path and content; a hard link has the content of its target. A path that comes twice is here twice, and the
    /// later one counts.
    pub files: Vec<(String, Vec<u8>)>,
    /// Symbolic links: path and target, which is relative and stays inside.
    pub links: Vec<(String, String)>,
}

/// Reads a whole archive.
///
/// # Errors
/// `ArchiveInvalid` for what is no gzipped tar archive, is beyond the limits, or names a place outside of itself.
pub fn unpack(gzipped: &[u8], limits: Limits) -> Result<Unpacked> {
    // Headers and padding come on top of the content: at most 2 KiB an entry where nobody plays tricks.
    let most = limits.total + 2048 * limits.entries as u64;
    let bounded = Bounded { inner: MultiGzDecoder::new(gzipped), left: most };
    let mut archive = Archive::new(bounded);
    let mut found = Unpacked::default();
    let mut by_path: HashMap<String, usize> = HashMap::new();
    let (mut count, mut total) = (0, 0);
    for entry in archive.entries().map_err(|error| unreadable(&error))? {
        let mut entry = entry.map_err(|error| unreadable(&error))?;
        count += 1;
        if count > limits.entries {
            return Err(invalid(format!("it holds more than {} entries", limits.entries)));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            continue;
        }
        let path = path(&entry)?;
        check_size(&mut entry, &path)?;
        match kind {
            EntryType::Directory => {}
            EntryType::Regular | EntryType::Continuous if path.ends_with('/') => {}
            EntryType::Regular | EntryType::Continuous => {
                let content = content(&mut entry, &path, &limits)?;
                total += content.len() as u64;
                push(&mut found, &mut by_path, &path, content);
            }
            EntryType::Symlink => {
                let target = target(&entry, &path)?;
                if leaves(&path, &target) {
                    return Err(invalid(format!("the link {path} leads out of it, to {target}")));
                }
                found.links.push((clean(&path), target));
            }
            EntryType::Link => {
                let target = clean(&target(&entry, &path)?);
                let at = by_path.get(&target).copied();
                let at = at.ok_or_else(|| {
                    invalid(format!("the hard link {path} names {target}, which is not in it"))
                })?;
                let content = found.files[at].1.clone();
                total += content.len() as u64;
                push(&mut found, &mut by_path, &path, content);
            }
            other => {
                return Err(invalid(format!("{path} is neither file, folder nor link ({other:?})")));
            }
        }
        if total > limits.total {
            return Err(invalid(format!("its files are more than {} bytes in all", limits.total)));
        }
    }
    Ok(found)
}

fn push(found: &mut Unpacked, by_path: &mut HashMap<String, usize>, path: &str, content: Vec<u8>) {
    let path = clean(path);
    by_path.insert(path.clone(), found.files.len());
    found.files.push((path, content));
}

fn path<R: Read>(entry: &Entry<'_, R>) -> Result<String> {
    let path = String::from_utf8(entry.path_bytes().into_owned())
        .map_err(|error| invalid(format!("the path {} is not UTF-8", error.utf8_error())))?;
    if path.starts_with('/') {
        return Err(invalid(format!("the path {path} is absolute")));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(invalid(format!("the path {path} leads out of it")));
    }
    if path.is_empty() || path.contains('\0') {
        return Err(invalid("a path is empty or has a zero byte in it"));
    }
    Ok(path)
}

/// Two sizes for one file are two archives in one: readers would disagree about what it holds.
fn check_size<R: Read>(entry: &mut Entry<'_, R>, path: &str) -> Result<()> {
    let plain = entry.header().entry_size().map_err(|error| unreadable(&error))?;
    let Some(extensions) = entry.pax_extensions().map_err(|error| unreadable(&error))? else { return Ok(()) };
    for extension in extensions {
        let extension = extension.map_err(|error| unreadable(&error))?;
        let key = extension.key_bytes();
        let size = std::str::from_utf8(extension.value_bytes()).ok().and_then(|text| text.parse().ok());
        if key == b"size" && size != Some(plain) {
            return Err(invalid(format!("{path} has two sizes")));
        }
        if key.starts_with(b"GNU.sparse.") {
            return Err(invalid(format!("{path} is a sparse file")));
        }
    }
    Ok(())
}

fn content<R: Read>(entry: &mut Entry<'_, R>, path: &str, limits: &Limits) -> Result<Vec<u8>> {
    let size = entry.size();
    if size > limits.file {
        return Err(invalid(format!("{path} is larger than {} bytes", limits.file)));
    }
    // Not allocated by what the header says: the content must come first.
    let mut content = Vec::new();
    entry.take(limits.file + 1).read_to_end(&mut content).map_err(|error| unreadable(&error))?;
    if content.len() as u64 != size {
        return Err(invalid(format!("{path} ends before its {size} bytes")));
    }
    Ok(content)
}

fn target<R: Read>(entry: &Entry<'_, R>, path: &str) -> Result<String> {
    let bytes = entry.link_name_bytes().unwrap_or_default().into_owned();
    let target = String::from_utf8(bytes).ok().filter(|target| !target.is_empty());
    target.ok_or_else(|| invalid(format!("the link {path} has no target that is UTF-8")))
}

/// Whether a link's target is absolute or above the archive's root.
fn leaves(path: &str, target: &str) -> bool {
    let depth = clean(path).matches('/').count();
    let mut depth = i64::try_from(depth).unwrap_or(i64::MAX);
    target.starts_with('/')
        || target.split('/').any(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth < 0
        })
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::ArchiveInvalid, format!("the archive is refused: {}", why.into()))
}

fn unreadable(error: &io::Error) -> Error {
    Error::new(Code::ArchiveInvalid, format!("the archive cannot be read: {error}"))
}

/// Ends with an error where a plain `take` would end as a file does.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other("it is larger than the limit once unpacked"))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;

    fn pack(tar: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(tar).unwrap();
        encoder.finish().unwrap()
    }

    /// Names and targets are written as they stand: the builder would refuse what is tested.
    fn header(name: &str, kind: EntryType, size: u64, target: &str) -> Header {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        header
    }

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            let (content, target) = if link { ("", *text) } else { (*text, "") };
            builder.append(&header(name, *kind, content.len() as u64, target), content.as_bytes()).unwrap();
        }
        pack(&builder.into_inner().unwrap())
    }

    fn words(gzipped: &[u8], limits: Limits) -> String {
        match unpack(gzipped, limits) {
            Ok(found) => format!("{found:?}"),
            Err(error) => {
                assert_eq!(error.code, Code::ArchiveInvalid);
                error.why
            }
        }
    }

    #[test]
    fn files_and_links_come_out() {
        let packed = archive(&[
            ("./a/", EntryType::Directory, ""),
            ("./a/b.txt", EntryType::Regular, "hello"),
            ("a//c.txt", EntryType::Link, "./a/b.txt"),
            ("a/l", EntryType::Symlink, "../a/b.txt"),
        ]);
        let found = unpack(&packed, Limits::default()).unwrap();
        let file = |path: &str| (path.to_owned(), b"hello".to_vec());
        assert_eq!(found.files, [file("a/b.txt"), file("a/c.txt")]);
        assert_eq!(found.links, [("a/l".to_owned(), "../a/b.txt".to_owned())]);
    }

    #[test]
    fn tricks_are_refused() {
        use EntryType as E;
        for (entry, expected) in [
            (("../x", E::Regular, ""), "the path ../x leads out of it"),
            (("a/../../x", E::Regular, ""), "leads out of it"),
            (("/etc/passwd", E::Regular, ""), "the path /etc/passwd is absolute"),
            (("l", E::Symlink, "/etc/passwd"), "the link l leads out of it, to /etc/passwd"),
            (("a/l", E::Symlink, "../../x"), "the link a/l leads out of it"),
            (("a/l", E::Symlink, "b/../../../x"), "the link a/l leads out of it"),
            (("h", E::Link, "/etc/passwd"), "the hard link h names etc/passwd, which is not in it"),
            (("d", E::Char, ""), "neither file, folder nor link (Char)"),
            (("d", E::Fifo, ""), "neither file, folder nor link (Fifo)"),
        ] {
            let found = words(&archive(&[entry]), Limits::default());
            assert!(found.contains(expected), "{entry:?}: {found}");
        }
        assert!(words(b"no archive", Limits::default()).contains("cannot be read"));
        assert!(words(&pack(b"no archive"), Limits::default()).contains("cannot be read"));
        let whole = archive(&[("a", E::Regular, "some content")]);
        assert!(words(&whole[..whole.len() / 2], Limits::default()).contains("cannot be read"));
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { entries: 3, file: 10, total: 25 };
        let files = |sizes: &[usize]| {
            let texts: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
            let entries: Vec<_> = texts.iter().map(|text| ("f", EntryType::Regular, text.as_str())).collect();
            words(&archive(&entries), limits)
        };
        assert!(files(&[10, 10, 5]).starts_with("Unpacked"));
        assert!(files(&[11]).contains("f is larger than 10 bytes"));
        assert!(files(&[10, 10, 6]).contains("more than 25 bytes in all"));
        assert!(files(&[1, 1, 1, 1]).contains("more than 3 entries"));
        // 1 GiB of zeros in a header's extension: the stream itself is bounded.
        let mut tar = header("x", EntryType::XHeader, 1 << 30, "").as_bytes().to_vec();
        tar.resize(40 << 20, 0);
        assert!(words(&pack(&tar), limits).contains("larger than the limit once unpacked"));
        // A size that never comes.
        let tar = header("x", EntryType::Regular, 9, "").as_bytes().to_vec();
        assert!(words(&pack(&tar), limits).contains("the archive"));
    }

    #[test]
    fn a_second_size_is_refused() {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions([("size", b"600".as_slice())]).unwrap();
        builder.append(&header("f", EntryType::Regular, 3, ""), b"abc".as_slice()).unwrap();
        let tar = builder.into_inner().unwrap();
        let found = words(&pack(&tar), Limits::default());
        assert!(found.contains("two sizes") || found.contains("cannot be read"), "{found}");
    }

    proptest! {
        #[test]
        fn any_change_of_an_archive_is_survived(at in 0_usize..2048, to: u8, cut in 0_usize..2048) {
            let mut builder = Builder::new(Vec::new());
            builder.append(&header("a/b", EntryType::Regular, 5, ""), b"hello".as_slice()).unwrap();
            builder.append(&header("l", EntryType::Symlink, 0, "a/b"), io::empty()).unwrap();
            let mut tar = builder.into_inner().unwrap();
            if let Some(byte) = tar.get_mut(at) {
                *byte = to;
            }
            tar.truncate(tar.len().min(cut.max(512)));
            words(&pack(&tar), Limits { entries: 10, file: 1 << 16, total: 1 << 17 });
        }
    }
}
