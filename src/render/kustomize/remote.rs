//! Places in other repositories: what kustomize would fetch.
//!
//! Only the form that is the same for ever is read: a Git repository and a whole commit id. Whether it may be used is
//! not decided here: the tree has it, or it has not.

use crate::error::{Code, Error};

/// A folder of another repository at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// Its address, as Git takes it.
    pub(super) repository: String,
    /// 40 hexadecimal digits.
    pub(super) commit: String,
    /// Inside the repository; empty is its root.
    pub(super) path: String,
}

/// Hosts whose repositories are two parts of the path.
const HOSTS: [&str; 3] = ["github.com", "gitlab.com", "bitbucket.org"];

/// Whether kustomize would fetch this from elsewhere.
pub(super) fn is_remote(path: &str) -> bool {
    let host = path.split('/').next().unwrap_or_default();
    path.contains("://")
        || path.starts_with("git@")
        || path.starts_with("git::")
        || path.contains("?ref=")
        || path.contains("?version=")
        || HOSTS.contains(&host)
        || path.starts_with("github.com:")
}

pub(super) fn refused(path: &str, why: &str) -> Error {
    Error::new(Code::RemoteBaseRefused, format!("{path} lies outside of the repository{why}")).hint(
        "commit a copy and name its path; the agent brings what is pinned to a commit (?ref=) from the repositories \
         in spec.source.kustomize.remoteBases",
    )
}

/// Reads an address as kustomize does.
///
/// # Errors
/// Why it cannot be used, to be put behind the address.
pub(super) fn parse(text: &str) -> Result<Remote, &'static str> {
    let text = text.strip_prefix("git::").unwrap_or(text);
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let reference =
        pairs.filter(|(name, _)| ["ref", "version"].contains(name)).map(|(_, value)| value).next_back();
    let commit = reference.unwrap_or_default();
    if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(", and no ?ref= with a whole commit id says which one is meant");
    }
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if address.starts_with("git@") => (String::new(), address),
        None => ("https://".to_owned(), address),
    };
    let rest = rest.trim_end_matches('/');
    let (repository, path) = divide(rest).ok_or(", and its repository cannot be told from the path")?;
    let path = path.trim_matches('/').to_owned();
    Ok(Remote { repository: format!("{scheme}{repository}"), commit: commit.to_ascii_lowercase(), path })
}

/// Repository and path of `host/owner/name/path`.
fn divide(rest: &str) -> Option<(&str, &str)> {
    if let Some(found) = rest.split_once("//") {
        return Some(found);
    }
    for mark in [".git/", "_git/"] {
        if let Some(at) = rest.find(mark) {
            // Behind `_git/` the repository's name follows.
            let end = if mark == ".git/" {
                at + mark.len() - 1
            } else {
                let name = at + mark.len();
                rest[name..].find('/').map_or(rest.len(), |slash| name + slash)
            };
            return Some(rest.split_at(end));
        }
    }
    let known = HOSTS.iter().any(|host| rest.strip_prefix(host).is_some_and(|rest| rest.starts_with('/')));
    let slashes = if known {
        3
    } else if rest.starts_with("git@") {
        2
    } else {
        return Some((rest, ""));
    };
    match rest.match_indices('/').nth(slashes - 1) {
        Some((at, _)) => Some(rest.split_at(at)),
        None => (rest.matches('/').count() + 1 == slashes).then_some((rest, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        const COMMIT: &str = "0123456789abcdef0123456789ABCDEF01234567";
        for (text, expected) in [
            ("https://github.com/o/r//a/b?ref=C", "https://github.com/o/r a/b"),
            ("https://github.com/o/r/a/b?ref=C", "https://github.com/o/r a/b"),
            ("https://github.com/o/r?timeout=9s&ref=C", "https://github.com/o/r "),
            ("github.com/o/r/a/?ref=C", "https://github.com/o/r a"),
            ("git::https://git.example/x/y.git/a?version=C", "https://git.example/x/y.git a"),
            ("https://git.example/x/y.git?ref=C", "https://git.example/x/y.git "),
            ("https://dev.example/o/p/_git/r/a?ref=C", "https://dev.example/o/p/_git/r a"),
            ("git@github.com:o/r/a?ref=C", "git@github.com:o/r a"),
            ("git@git.example:o/r.git//a?ref=C", "git@git.example:o/r.git a"),
            ("ssh://git@git.example/o/r//a?ref=C", "ssh://git@git.example/o/r a"),
            ("https://github.com/o?ref=C", "its repository cannot be told"),
            ("https://github.com/o/r/a?ref=main", "whole commit id"),
            ("https://github.com/o/r/a", "whole commit id"),
            ("https://raw.example/x/deploy.yaml", "whole commit id"),
        ] {
            let found = match parse(
                &text
                    .replace("ref=C", &format!("ref={COMMIT}"))
                    .replace("version=C", &format!("version={COMMIT}")),
            ) {
                Ok(remote) => {
                    assert_eq!(remote.commit, COMMIT.to_lowercase());
                    format!("{} {}", remote.repository, remote.path)
                }
                Err(why) => why.to_owned(),
            };
            assert!(
                found == expected || found.contains(expected) && !found.starts_with("http"),
                "{text}: {found}"
            );
        }
    }
}
