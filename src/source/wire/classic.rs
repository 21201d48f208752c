//! Git's first protocol, for servers that do not speak version 2: Azure DevOps, and SSH servers that do not
//! pass `GIT_PROTOCOL` on. It lists all refs at every poll; nothing else is lost.

use super::packet::{self, Packet, line};
use super::{AGENT, Extent, Want, malformed};
use crate::error::Result;

/// What a server tells before it is asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct Advertisement {
    /// Names and commits, tags peeled.
    pub(in crate::source) refs: Vec<(String, String)>,
    capabilities: Vec<String>,
}

impl Advertisement {
    /// Reads the packets up to the flush; those of the HTTP service line are passed over.
    pub(in crate::source) fn read(answer: &[u8]) -> Result<Self> {
        let mut found = Self::default();
        let mut rest = answer;
        while let Some((packet, after)) = packet::next(rest)? {
            rest = after;
            let Packet::Data(data) = packet else {
                // The flush after the service line is not the end.
                if found.capabilities.is_empty() {
                    continue;
                }
                break;
            };
            let text =
                std::str::from_utf8(data).map_err(|_| malformed("a ref that is not UTF-8"))?.trim_end();
            if text.starts_with("# service=") || text == "version 1" {
                continue;
            }
            let (reference, capabilities) = text.split_once('\0').unwrap_or((text, ""));
            if found.capabilities.is_empty() {
                found.capabilities = capabilities.split(' ').map(str::to_owned).collect();
            }
            let Some((id, name)) = reference.split_once(' ') else {
                return Err(malformed("a ref without a name"));
            };
            if id.len() != 40 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(malformed("an object id that is none"));
            }
            match name.strip_suffix("^{}") {
                // An empty repository has only its capabilities to tell.
                Some("capabilities") => {}
                Some(tag) => {
                    if let Some(last) = found.refs.iter_mut().rfind(|(name, _)| name == tag) {
                        id.clone_into(&mut last.1);
                    }
                }
                None => found.refs.push((name.to_owned(), id.to_owned())),
            }
        }
        Ok(found)
    }

    /// What is asked for to get it; a filter that the server does not offer is left out.
    pub(in crate::source) fn fetch(&self, want: &Want<'_>) -> Vec<u8> {
        let files = want.extent == Extent::Files;
        // multi_ack_detailed: Azure DevOps refuses clients without it. Its extra acknowledgements are skipped.
        let wished = [
            "multi_ack_detailed",
            "side-band-64k",
            "thin-pack",
            "no-progress",
            "ofs-delta",
            "shallow",
            "filter",
        ];
        let offered = |name: &str| self.capabilities.iter().any(|known| known == name);
        let filters = want.extent == Extent::Commits && offered("filter");
        let common = wished.into_iter().filter(|name| match *name {
            "thin-pack" => files && offered(name),
            "filter" => filters,
            name => offered(name),
        });
        let mut options: Vec<&str> = common.collect();
        if self.capabilities.iter().any(|name| name.starts_with("agent=")) {
            options.push(AGENT.trim_end());
        }
        let mut request = Vec::new();
        line(&mut request, &format!("want {} {}\n", want.commit, options.join(" ")));
        if filters {
            line(&mut request, "filter tree:0\n");
        }
        if files && offered("shallow") {
            for commit in want.have {
                line(&mut request, &format!("shallow {commit}\n"));
            }
            line(&mut request, "deepen 1\n");
        }
        request.extend_from_slice(b"0000");
        for commit in want.have {
            line(&mut request, &format!("have {commit}\n"));
        }
        line(&mut request, "done\n");
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement() {
        let (one, two, three) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let mut answer = Vec::new();
        line(&mut answer, "# service=git-upload-pack\n");
        answer.extend_from_slice(b"0000");
        line(&mut answer, &format!("{one} HEAD\0side-band-64k shallow agent=git/2\n"));
        line(&mut answer, &format!("{two} refs/tags/v1\n"));
        line(&mut answer, &format!("{three} refs/tags/v1^{{}}\n"));
        answer.extend_from_slice(b"0000");
        let found = Advertisement::read(&answer).unwrap();
        assert_eq!(found.refs, [("HEAD".into(), one.clone()), ("refs/tags/v1".into(), three)]);
        let want = Want { commit: &one, have: &[], extent: Extent::Files, limit: 1 };
        let request = String::from_utf8(found.fetch(&want)).unwrap();
        assert!(request.contains(&format!("want {one} side-band-64k shallow agent=driftless/")), "{request}");
        assert!(request.ends_with("deepen 1\n00000009done\n"), "{request}");
        assert!(Advertisement::read(b"0005x").is_err());
    }
}
