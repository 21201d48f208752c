//! Where a repository is, and which of its revisions is meant.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Code, Error, Result};

const SCHEMES: &str = "use https://, http://, ssh://, user@host:path, file:// or oci://";

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
    /// `oci://` or, without TLS, `oci+http://`: artifacts, or the versions of a chart.
    Oci {
        /// Host, and port where one is given.
        registry: String,
        /// Path of the repository.
        repository: String,
        /// HTTP without TLS.
        plain: bool,
        /// `spec.source.chart` was given: tags are versions.
        chart: bool,
    },
    /// A chart of a Helm repository, which has an index.yaml.
    Chart {
        /// Address of the repository, `https://` or `http://`, without a final slash.
        repository: String,
        /// The chart's name.
        chart: String,
    },
}

impl Location {
    /// Reads `repo` and `chart` of a source.
    ///
    /// # Errors
    /// As [`Self::parse`]; and `RepositoryInvalid` for a chart of what is no Helm repository.
    pub fn of(repo: &str, chart: &str) -> Result<Self> {
        if chart.is_empty() {
            return Self::parse(repo);
        }
        let invalid = |why: &str| Err(Error::new(Code::RepositoryInvalid, format!("{}: {why}", scrub(repo))));
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !chart.bytes().all(word) || chart.starts_with(['.', '-']) {
            return invalid(&format!("{chart:?} is no name of a chart"));
        }
        if repo.starts_with("https://") || repo.starts_with("http://") {
            let repository = web_address(repo)?;
            return Ok(Self::Chart { repository, chart: chart.to_owned() });
        }
        if repo.starts_with("oci://") || repo.starts_with("oci+http://") {
            return Self::oci(&format!("{}/{chart}", repo.trim_end_matches('/')), true);
        }
        invalid(
            "a chart comes from a Helm repository: https://, http:// or oci://; for a chart in Git give its path",
        )
    }

    fn oci(text: &str, chart: bool) -> Result<Self> {
        let invalid = |why: &str| Err(Error::new(Code::RepositoryInvalid, format!("{}: {why}", scrub(text))));
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let Some((registry, path)) = rest.split_once('/') else { return invalid("the path is missing") };
        if registry.contains('@') {
            return invalid("credentials belong in the Secret that secretRef names, not in the address");
        }
        if !is_host(registry) {
            return invalid("the registry is no host, or its port is not a number");
        }
        let path = path.trim_end_matches('/');
        if path.contains([':', '@']) {
            return invalid("a tag or digest belongs in revision, not in the address");
        }
        // The grammar of the distribution specification.
        let part = |part: &str| {
            let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            ends(part.as_bytes().first())
                && ends(part.as_bytes().last())
                && part.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
                })
        };
        if path.len() > 255 || !path.split('/').all(part) {
            return invalid("the path holds something other than a-z, 0-9, '.', '_', '-' between slashes");
        }
        Ok(Self::Oci {
            registry: registry.to_ascii_lowercase(),
            repository: path.to_owned(),
            plain: scheme == "oci+http",
            chart,
        })
    }

    /// Whether it is a Git repository, whose revisions are commits.
    pub fn is_git(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Ssh { .. } | Self::File(_))
    }

    /// Whether revisions are versions of a chart.
    pub fn is_chart(&self) -> bool {
        matches!(self, Self::Chart { .. } | Self::Oci { chart: true, .. })
    }

    /// Reads an address without a chart.
    ///
    /// # Errors
    /// `RepositoryInvalid` for other schemes, for credentials in the address, and for parts that a
    /// server could take for an option.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Err(Error::new(Code::RepositoryInvalid, format!("{}: {why}", scrub(text))));
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return invalid("it holds blanks or control characters");
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let address = web_address(text)?;
            if address.split('/').count() < 4 {
                return invalid("host or path is missing");
            }
            return Ok(Self::Http(address));
        }
        if text.starts_with("oci://") || text.starts_with("oci+http://") {
            return Self::oci(text, false);
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
            return invalid(SCHEMES);
        } else {
            match text.split_once(':') {
                Some((authority, path)) if !authority.contains('/') => (authority, path.to_owned()),
                _ => return invalid(SCHEMES),
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
            Self::Oci { registry, repository, plain, .. } => {
                write!(f, "oci{}://{registry}/{repository}", if *plain { "+http" } else { "" })
            }
            Self::Chart { repository, chart } => write!(f, "{repository} (chart {chart})"),
        }
    }
}

/// An address of the web without its final slash.
fn web_address(text: &str) -> Result<String> {
    let invalid = |why: &str| Err(Error::new(Code::RepositoryInvalid, format!("{}: {why}", scrub(text))));
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return invalid("credentials belong in the Secret that secretRef names, not in the address");
    }
    if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return invalid("it holds blanks or control characters");
    }
    if authority.is_empty() {
        return invalid("host or path is missing");
    }
    if rest.contains(['?', '#']) {
        return invalid("an address has no query and no fragment");
    }
    if !is_host(authority) {
        return invalid("the host is none, or its port is not a number");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `name`, `name:port`, `[address]` or `[address]:port`.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("address", rest),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let word =
        |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'-' | b'.' | b'_');
    port && !host.is_empty() && !host.starts_with(['-', '.']) && host.bytes().all(word)
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_an_address(scheme in "(oci|oci\\+http|https|http|ssh)", rest in "[ -~]{0,40}", chart in "[ -~]{0,9}") {
            if let Ok(location) = Location::of(&format!("{scheme}://{rest}"), &chart) {
                let text = location.to_string();
                assert!(!text.chars().any(char::is_control));
                let place = location.to_string();
                if let Some(at) = location.address(&place) {
                    assert!(!at.registry.contains(['@', '/', '?', '#', '%']) && !at.repository.contains([':', '@', '%', '?', '#']));
                    assert!(!at.repository.split('/').any(|part| part.is_empty() || part == ".."), "{text}");
                }
                if let Location::Chart { repository, chart } = &location {
                    let url = reqwest::Url::parse(repository).expect("an address");
                    assert!(url.username().is_empty() && url.password().is_none() && !chart.contains('/'));
                }
            }
        }
    }

    #[test]
    fn charts_and_artifacts() {
        for (repo, chart, expected) in [
            ("oci://ghcr.io/ml/fraud", "", "oci://ghcr.io/ml/fraud"),
            ("oci://GHCR.io:443/ml/fraud/", "", "oci://ghcr.io:443/ml/fraud"),
            ("oci+http://127.0.0.1:5000/a", "", "oci+http://127.0.0.1:5000/a"),
            ("oci://[::1]:5000/a", "", "oci://[::1]:5000/a"),
            ("oci://ghcr.io/charts", "fraud", "oci://ghcr.io/charts/fraud"),
            ("https://charts.example", "fraud", "https://charts.example (chart fraud)"),
            (
                "http://charts.example:8080/stable/",
                "fraud",
                "http://charts.example:8080/stable (chart fraud)",
            ),
        ] {
            let location = Location::of(repo, chart).unwrap();
            assert_eq!(location.to_string(), expected);
            assert_eq!(location.is_chart(), !chart.is_empty());
        }
        for (repo, chart, why) in [
            ("oci://user:hunter2@ghcr.io/ml", "", "credentials"),
            ("oci://ghcr.io", "", "path is missing"),
            ("oci://ghcr.io/ml:1.0", "", "belongs in revision"),
            ("oci://ghcr.io/ml@sha256:00", "", "belongs in revision"),
            ("oci://ghcr.io/ML", "", "a-z"),
            ("oci://ghcr.io/a//b", "", "a-z"),
            ("oci://ghcr.io:x/a", "", "no host"),
            ("oci://-x/a", "", "no host"),
            ("oci://[x]/a", "", "no host"),
            ("oci://ghcr.io/../a", "", "a-z"),
            ("git@git.example:ml", "fraud", "give its path"),
            ("/srv/charts", "fraud", "give its path"),
            ("https://user:hunter2@charts.example", "fraud", "credentials"),
            ("https://charts.example?x=1", "fraud", "no query"),
            ("https://charts.example", "../x", "no name of a chart"),
            ("https://charts.example", "a/b", "no name of a chart"),
            ("https://charts.example:99999/x", "a", "port"),
        ] {
            let error = Location::of(repo, chart).unwrap_err();
            assert_eq!(error.code, Code::RepositoryInvalid, "{repo}");
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

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
}
