//! Git's protocol: what is asked and what is answered, whatever carries it.

pub(super) mod classic;
pub(super) mod http;
pub(super) mod packet;
pub(super) mod ssh;

use crate::error::{Code, Error, Result};
use packet::{Packet, line};

const AGENT: &str = concat!("agent=driftless/", env!("CARGO_PKG_VERSION"), "\n");

/// Protocol v2: list the refs with one of these prefixes.
pub(super) fn list_refs(prefixes: &[String]) -> Vec<u8> {
    let mut request = Vec::new();
    line(&mut request, "command=ls-refs\n");
    line(&mut request, AGENT);
    request.extend_from_slice(b"0001");
    line(&mut request, "peel\n");
    for prefix in prefixes {
        line(&mut request, &format!("ref-prefix {prefix}\n"));
    }
    request.extend_from_slice(b"0000");
    request
}

/// The answer to [`list_refs`]: names and commits, tags peeled.
pub(super) fn refs(answer: &[u8]) -> Result<Vec<(String, String)>> {
    let mut refs = Vec::new();
    let mut rest = answer;
    while let Some((packet, after)) = packet::next(rest)? {
        rest = after;
        let Packet::Data(data) = packet else { return Ok(refs) };
        let text = std::str::from_utf8(data).map_err(|_| malformed("a ref that is not UTF-8"))?;
        let mut words = text.trim_end().split(' ');
        let (Some(id), Some(name)) = (words.next(), words.next()) else {
            return Err(malformed("a ref without a name"));
        };
        if let Some(why) = text.strip_prefix("ERR ") {
            return Err(Error::new(
                Code::RepositoryUnreachable,
                format!("the Git server says: {}", why.trim()),
            ));
        }
        let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
        let commit = peeled.unwrap_or(id);
        if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(malformed("an object id that is none"));
        }
        refs.push((name.to_owned(), commit.to_owned()));
    }
    // Without its end the list may lack the ref that is looked for.
    Err(malformed("it was cut off"))
}

/// How much of a commit is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Extent {
    /// Its files and no history, as a difference to commits that are at hand.
    Files,
    /// The commits between it and those that are at hand, without files. Servers may not offer it.
    Commits,
    /// The same with the files that changed.
    CommitsAndFiles,
}

/// What a fetch is to bring.
#[derive(Clone, Copy, Debug)]
pub(in crate::source) struct Want<'a> {
    pub(in crate::source) commit: &'a str,
    pub(in crate::source) have: &'a [String],
    pub(in crate::source) extent: Extent,
    /// Bytes of the pack.
    pub(in crate::source) limit: usize,
}

/// Protocol v2: what is asked for to get it.
pub(super) fn fetch(want: &Want<'_>) -> Vec<u8> {
    let mut request = Vec::new();
    line(&mut request, "command=fetch");
    line(&mut request, AGENT);
    request.extend_from_slice(b"0001");
    line(&mut request, "no-progress");
    line(&mut request, "ofs-delta");
    match want.extent {
        Extent::Files => {
            line(&mut request, "thin-pack");
            line(&mut request, "deepen 1\n");
            for commit in want.have {
                line(&mut request, &format!("shallow {commit}\n"));
            }
        }
        Extent::Commits => line(&mut request, "filter tree:0\n"),
        Extent::CommitsAndFiles => {}
    }
    line(&mut request, &format!("want {}\n", want.commit));
    for commit in want.have {
        line(&mut request, &format!("have {commit}\n"));
    }
    line(&mut request, "done\n");
    request.extend_from_slice(b"0000");
    request
}

/// Largest list of refs: one with 500,000 tags is about 40 MB.
const MAX_REFS: usize = 64 << 20;

/// # Errors
/// `SourceTooLarge` for a list of refs beyond the limit.
fn check_refs(length: usize) -> Result<()> {
    if length > MAX_REFS {
        return Err(Error::new(Code::SourceTooLarge, "the list of refs is larger than 64 MiB"));
    }
    Ok(())
}

pub(super) fn malformed(what: &str) -> Error {
    Error::new(Code::RepositoryCorrupt, format!("the server's answer is not Git's protocol: {what}"))
}

/// Takes the pack out of an answer to [`fetch`], as it comes in.
pub(super) struct PackReader {
    limit: usize,
    size: usize,
    buffer: Vec<u8>,
    in_pack: bool,
    ended: bool,
    classic: bool,
}

impl PackReader {
    /// For a pack of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, size: 0, buffer: Vec::new(), in_pack: false, ended: false, classic: false }
    }

    /// For an answer in the first protocol.
    pub(super) fn classic(limit: usize) -> Self {
        Self { classic: true, ..Self::new(limit) }
    }

    /// Adds bytes; returns the bytes of the pack among them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.buffer.extend_from_slice(bytes);
        let mut pack = Vec::new();
        let mut used = 0;
        while let Some((packet, after)) = packet::partial(&self.buffer[used..])? {
            let start = used;
            used = self.buffer.len() - after.len();
            match packet {
                // In the first protocol a flush ends the list of shallow commits as well.
                Packet::Flush => self.ended = !self.classic || self.in_pack,
                // There, the pack begins without a word.
                Packet::Data([1..=3, ..]) if self.classic && !self.in_pack => {
                    self.in_pack = true;
                    used = start;
                }
                Packet::Data(data) if self.in_pack => match data.split_first() {
                    Some((1, data)) => pack.extend_from_slice(data),
                    Some((2, _)) => {}
                    Some((3, why)) => {
                        let why = String::from_utf8_lossy(why);
                        return Err(Error::new(
                            Code::RepositoryCorrupt,
                            format!("the Git server says: {}", why.trim()),
                        ));
                    }
                    _ => return Err(malformed("an unknown side band")),
                },
                Packet::Data(data) => {
                    if let Some(why) = data.strip_prefix(b"ERR ") {
                        let why = String::from_utf8_lossy(why).trim().to_owned();
                        let missing = why.contains("not our ref") || why.contains("not found");
                        let code = if missing { Code::RevisionNotFound } else { Code::RepositoryUnreachable };
                        return Err(Error::new(code, format!("the Git server says: {why}")));
                    }
                    self.in_pack = !self.classic && data.trim_ascii_end() == b"packfile";
                }
                Packet::Delimiter | Packet::End => {}
            }
        }
        self.buffer.drain(..used);
        self.size += pack.len();
        if self.size > self.limit {
            let why = format!("the pack is larger than {} MiB", self.limit >> 20);
            return Err(Error::new(Code::SourceTooLarge, why));
        }
        Ok(pack)
    }

    /// Whether the answer came to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.in_pack && self.ended && self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_peeled() {
        let mut answer = Vec::new();
        let id = "a".repeat(40);
        let inner = "b".repeat(40);
        line(&mut answer, &format!("{id} refs/heads/main\n"));
        line(&mut answer, &format!("{id} refs/tags/v1 peeled:{inner}\n"));
        answer.extend_from_slice(b"0000");
        assert_eq!(refs(&answer).unwrap(), [("refs/heads/main".into(), id), ("refs/tags/v1".into(), inner)]);
        assert!(refs(b"zzzz").is_err());
        assert!(refs(b"00ff").is_err());
    }

    #[test]
    fn a_pack_comes_in_pieces() {
        let mut answer = Vec::new();
        line(&mut answer, "shallow-info\n");
        answer.extend_from_slice(b"0001");
        line(&mut answer, "packfile\n");
        line(&mut answer, "\u{1}PACK");
        line(&mut answer, "\u{2}progress");
        line(&mut answer, "\u{1}rest");
        answer.extend_from_slice(b"0000");
        let mut reader = PackReader::new(usize::MAX);
        let pack: Vec<u8> = answer.iter().flat_map(|byte| reader.take(&[*byte]).unwrap()).collect();
        assert_eq!(pack, b"PACKrest");
        assert!(reader.is_complete());
    }
}
