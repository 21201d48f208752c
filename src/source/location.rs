//! Where a repository is, and which of its revisions is meant.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Code, Error, Result};

/// The address of a repository, without credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// `https://` or `http://`, without a final slash.
    Http(String),
    /// `ssh://user@host:port/path` or `user@host:path`.
    Ssh {
        /// Account on the host; `git` where not given.
        user: String,
        /// Host name or address.
        host: String,
        /// Port; 22 where not given.
        port: u16,
        /// Path as the server sees it.
        path: String,
    },
    /// `file://` or an absolute path: the repository itself is read, nothing is copied.
    File(PathBuf),
}

impl Location {
    /// Reads an address.
    ///
    /// # Errors
    /// `RepositoryInvalid` for other schemes, for credentials in the address, and for parts that a
    /// server could take for an option.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Err(Error::new(Code::RepositoryInvalid, format!("{}: {why}", scrub(text))));
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return invalid("it holds blanks or control characters");
        }
        if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            if authority.contains('@') {
                return invalid("credentials belong in the Secret that secretRef names, not in the address");
            }
            if authority.is_empty() || path.is_empty() {
                return invalid("host or path is missing");
            }
            if path.contains(['?', '#']) {
                return invalid("an address has no query and no fragment");
            }
            return Ok(Self::Http(text.trim_end_matches('/').to_owned()));
        }
        if let Some(path) = text.strip_prefix("file://") {
            if !path.starts_with('/') {
                return invalid("file:// needs an absolute path");
            }
            return Ok(Self::File(path.into()));
        }
        if text.starts_with('/') {
            return Ok(Self::File(text.into()));
        }
        let (authority, path) = if let Some(rest) = text.strip_prefix("ssh://") {
            match rest.split_once('/') {
                Some((authority, path)) => (authority, format!("/{path}")),
                None => return invalid("the path is missing"),
            }
        } else if text.contains("://") {
            return invalid("use https://, http://, ssh://, user@host:path or file://");
        } else {
            match text.split_once(':') {
                Some((authority, path)) if !authority.contains('/') => (authority, path.to_owned()),
                _ => return invalid("use https://, http://, ssh://, user@host:path or file://"),
            }
        };
        let (user, host) = authority.split_once('@').unwrap_or(("git", authority));
        if user.contains(':') {
            return invalid("a password belongs in the Secret that secretRef names, not in the address");
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if text.starts_with("ssh://") => match port.parse() {
                Ok(port) => (host, port),
                Err(_) => return invalid("the port is not a number"),
            },
            _ => (host, 22),
        };
        if [user, host, &path].iter().any(|part| part.is_empty() || part.starts_with('-')) {
            return invalid("user, host or path is empty or begins with '-'");
        }
        Ok(Self::Ssh { user: user.to_owned(), host: host.to_owned(), port, path })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url),
            Self::Ssh { user, host, port, path } => {
                write!(f, "ssh://{user}@{host}:{port}/{}", path.trim_start_matches('/'))
            }
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// An address without what stands before an `@`.
fn scrub(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => format!("***@{host}"),
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => text.to_owned(),
    }
}

/// Which revision is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    /// The default branch.
    Head,
    /// A full commit id.
    Commit(String),
    /// A full ref, such as `refs/heads/main`.
    Reference(String),
    /// A branch or, where there is none of the name, a tag.
    Name(String),
    /// The newest tag in a range.
    Range(semver::VersionReq),
}

impl Revision {
    /// Reads `spec.source.revision`.
    ///
    /// # Errors
    /// `ApplicationInvalid` for names that Git would not allow.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text == "HEAD" {
            return Ok(Self::Head);
        }
        if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Commit(text.to_ascii_lowercase()));
        }
        if text.starts_with("refs/") {
            return Ok(Self::Reference(text.to_owned()));
        }
        if text.starts_with(['^', '~', '>', '<', '=', '*']) || text.contains(' ') {
            // "1.x || 2.x" is not in the crate's grammar; blanks mean "and", which it writes as a comma.
            let commas = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let commas = commas.replace("> ", ">").replace("< ", "<").replace("= ", "=").replace(", ", ",");
            return semver::VersionReq::parse(&commas.replace(' ', ",")).map(Self::Range).map_err(|error| {
                Error::new(Code::ApplicationInvalid, format!("revision {text:?} is no semver range: {error}"))
            });
        }
        let forbidden = text.starts_with('-')
            || text.contains("..")
            || text.contains(['\\', ':', '?', '[', '*', '~', '^'])
            || text.chars().any(char::is_control);
        if forbidden {
            return Err(Error::new(
                Code::ApplicationInvalid,
                format!("revision {text:?} is no name that Git allows"),
            ));
        }
        Ok(Self::Name(text.to_owned()))
    }

    /// The prefixes to ask for, the best candidate first.
    pub fn prefixes(&self) -> Vec<String> {
        match self {
            Self::Head | Self::Commit(_) => vec!["HEAD".into()],
            Self::Reference(name) => vec![name.clone()],
            Self::Name(name) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
            Self::Range(_) => vec!["refs/tags/".into()],
        }
    }

    /// Chooses among the refs that a server listed, as name and commit.
    pub fn choose(&self, refs: &[(String, String)]) -> Option<(String, String)> {
        match self {
            Self::Commit(commit) => Some((String::new(), commit.clone())),
            Self::Range(range) => refs
                .iter()
                .filter_map(|(name, commit)| {
                    let tag = name.strip_prefix("refs/tags/")?;
                    let version = semver::Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()?;
                    range.matches(&version).then_some((version, name, commit))
                })
                .max_by(|one, other| one.0.cmp(&other.0))
                .map(|(_, name, commit)| (name.clone(), commit.clone())),
            _ => self
                .prefixes()
                .iter()
                .find_map(|wanted| refs.iter().find(|(name, _)| name == wanted))
                .map(|(name, commit)| (name.clone(), commit.clone())),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("HEAD"),
            Self::Commit(text) | Self::Reference(text) | Self::Name(text) => f.write_str(text),
            Self::Range(range) => write!(f, "{range}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("https://git.example/ml/platform.git", "https://git.example/ml/platform.git"),
            ("http://git.example/ml/", "http://git.example/ml"),
            ("git@git.example:ml/platform.git", "ssh://git@git.example:22/ml/platform.git"),
            ("ssh://bot@git.example:2222/ml.git", "ssh://bot@git.example:2222/ml.git"),
            ("file:///srv/git/ml.git", "file:///srv/git/ml.git"),
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), expected);
        }
        for text in [
            "https://user:hunter2@git.example/ml",
            "ssh://user:hunter2@git.example/ml",
            "ext::sh -c id",
            "ftp://git.example/x",
            "-oProxyCommand=hunter2:x",
            "git@-host:x",
            "relative/path",
            "https://git.example",
            "https://git.example/a b",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert_eq!(error.code, Code::RepositoryInvalid, "{text}");
            assert!(!error.to_string().contains("hunter2@"), "{error}");
        }
    }

    #[test]
    fn revisions() {
        let refs: Vec<(String, String)> = [
            ("HEAD", "h"),
            ("refs/heads/main", "m"),
            ("refs/heads/v1", "b"),
            ("refs/tags/v1", "t"),
            ("refs/tags/v1.2.0", "a"),
            ("refs/tags/1.10.0", "c"),
            ("refs/tags/v2.0.0", "d"),
            ("refs/tags/v2.1.0-rc.1", "e"),
        ]
        .map(|(name, commit)| (name.to_owned(), commit.to_owned()))
        .into();
        for (text, expected) in [
            ("", Some("h")),
            ("main", Some("m")),
            ("v1", Some("b")),
            ("refs/tags/v1", Some("t")),
            (">=1.2 <2", Some("c")),
            ("^1", Some("c")),
            ("~1.2", Some("a")),
            ("*", Some("d")),
            (">=3", None),
            ("nobody", None),
        ] {
            let chosen = Revision::parse(text).unwrap().choose(&refs);
            assert_eq!(chosen.as_ref().map(|(_, commit)| commit.as_str()), expected, "{text}");
        }
        for text in ["--upload-pack=x", "a..b", "a:b", ">=x"] {
            assert!(Revision::parse(text).is_err(), "{text}");
        }
    }
}
