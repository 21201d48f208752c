//! Addresses of repositories in their parts, and patterns of them.
//!
//! Nothing is compared as text: `https://git.example.evil.com` begins as `https://git.example` does, and whoever connects
//! reads `https://git.example@evil.com` otherwise than people do. What a client could read in two ways fits no pattern.

use std::fmt;

use super::glob::{Glob, matches_run};

/// Schemes and the ports that they mean.
const SCHEMES: [(&str, u16); 6] =
    [("https", 443), ("http", 80), ("ssh", 22), ("oci", 443), ("oci+http", 80), (FILE, 0)];
const FILE: &str = "file";
/// Who logs in where nobody is named.
const USER: &str = "git";

/// The address of a repository in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: &'static str,
    user: String,
    host: String,
    port: u16,
    path: Vec<String>,
}

/// Which repositories are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPattern {
    text: String,
    /// `None`: any, but files.
    parts: Option<Parts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    /// `None`: any, but files.
    scheme: Option<&'static str>,
    user: String,
    /// The labels of the name.
    host: Vec<Glob>,
    port: Port,
    path: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Port {
    Usual,
    Any,
    Of(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`
    Any,
    One(Glob),
}

/// An address or a pattern, taken apart.
struct Split<'a> {
    scheme: Option<&'static str>,
    user: Option<&'a str>,
    host: String,
    port: Option<&'a str>,
    path: Vec<String>,
}

fn split(text: &str, is_pattern: bool) -> Result<Split<'_>, String> {
    if let Some(found) = text.chars().find(|c| c.is_control() || c.is_whitespace() || *c == '\\') {
        return Err(format!("it holds {found:?}"));
    }
    let (scheme, authority, path) = match text.split_once("://") {
        Some((name, rest)) => {
            let known = SCHEMES.iter().find(|(scheme, _)| *scheme == name);
            let (scheme, _) = known.ok_or_else(|| format!("the scheme {name:?} is none of a repository"))?;
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(*scheme), &rest[..end], &rest[end..])
        }
        None if text.starts_with('/') => (Some(FILE), "", text),
        None => {
            let end = text.find('/').unwrap_or(text.len());
            let colon = if text.starts_with('[') { None } else { text[..end].find(':') };
            match colon {
                // As scp writes it: user@host:path.
                Some(colon) => (Some("ssh"), &text[..colon], &text[colon + 1..]),
                None => (None, &text[..end], &text[end..]),
            }
        }
    };
    let is_scp = scheme == Some("ssh") && !text.contains("://");
    if scheme == Some(FILE) {
        if !authority.is_empty() {
            return Err("file:// needs an absolute path".to_owned());
        }
        let path = segments(path, false)?;
        return Ok(Split { scheme, user: None, host: String::new(), port: None, path });
    }
    let (user, place) = match authority.split_once('@') {
        Some((user, place)) if scheme == Some("ssh") && !user.is_empty() && !user.contains(':') => {
            (Some(user), place)
        }
        Some(_) => return Err("an @ stands before the host".to_owned()),
        None => (None, authority),
    };
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']').ok_or("the bracket of the host is not closed")?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("something follows the bracket of the host")?),
        };
        (format!("[{inner}]"), port)
    } else {
        match place.split_once(':') {
            Some((host, port)) if !is_scp => (host.to_owned(), Some(port)),
            _ => (place.to_owned(), None),
        }
    };
    let word =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_') || is_pattern && matches!(c, '*' | '?');
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => {
            inner.contains(':') && inner.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c))
        }
        None => !host.is_empty() && host.chars().all(word),
    };
    if !is_host {
        return Err("the host is none".to_owned());
    }
    // What a client decodes of a path: only those of the web do.
    let path = segments(path, matches!(scheme, None | Some("https" | "http")))?;
    Ok(Split { scheme, user, host: host.to_lowercase(), port, path })
}

/// The segments of a path, without a final `.git`.
fn segments(path: &str, encoded: bool) -> Result<Vec<String>, String> {
    let path = path.trim_end_matches('/');
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for part in path.split('/') {
        let part =
            if encoded { decoded(part).ok_or("its path is encoded in an unusual way")? } else { part.into() };
        if part.is_empty() || part == "." || part == ".." || part.contains('/') {
            return Err("its path holds an empty segment, . or ..".to_owned());
        }
        all.push(part);
    }
    if let Some(last) = all.last_mut()
        && let Some(name) = last.strip_suffix(".git").filter(|name| !name.is_empty())
    {
        *last = name.to_owned();
    }
    Ok(all)
}

/// A segment without its percent signs; `None` where that gives what stands for something else in an address.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        let value = u8::try_from(value).ok()?;
        if value.is_ascii_control() || b"/\\%?#*:@".contains(&value) {
            return None;
        }
        bytes.push(value);
    }
    String::from_utf8(bytes).ok()
}

/// The labels of a host; an address in brackets is one, and no host has none.
fn labels(host: &str) -> Vec<&str> {
    if host.starts_with('[') { vec![host] } else { host.split('.').filter(|_| !host.is_empty()).collect() }
}

fn usual_port(scheme: &str) -> u16 {
    SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, port)| *port).unwrap_or_default()
}

impl Address {
    /// Takes the address of a repository apart.
    ///
    /// # Errors
    /// In words, for what a client could read in another way, and for what is no address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = split(text, false)?;
        let scheme = found.scheme.ok_or("it has no scheme")?;
        let port = match found.port {
            None => usual_port(scheme),
            Some(text) => text.parse().map_err(|_| "its port is not a number".to_owned())?,
        };
        let user = found.user.unwrap_or(USER).to_owned();
        Ok(Self { scheme, user, host: found.host, port, path: found.path })
    }

    /// Whether both are one Git repository, whichever way it is reached: `https://git.example/a/b.git` and
    /// `git@git.example:a/b`.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        let is_git = |address: &Self| matches!(address.scheme, "https" | "http" | "ssh");
        let place = |address: &Self| format!("{}/{}", address.host, address.path.join("/")).to_lowercase();
        self == other || is_git(self) && is_git(other) && place(self) == place(other)
    }

    /// Whether it is a folder of the agent's own machine.
    pub fn is_file(&self) -> bool {
        self.scheme == FILE
    }
}

impl RepositoryPattern {
    /// Reads a pattern: `*` is a segment of the path or a part of one, `**` any number of them; in the host, `*` is a label
    /// or a part of one. Without a scheme, any but `file` is meant; without a port, the usual one.
    ///
    /// # Errors
    /// In words.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{text:?}: {why}");
        if text == "*" || text == "**" {
            return Ok(Self { text: text.to_owned(), parts: None });
        }
        let found = split(text, true).map_err(wrong)?;
        if found.host.contains("**") {
            return Err(wrong("** is for paths; a * in the host is one label of it".to_owned()));
        }
        let host = labels(&found.host).into_iter();
        let host = if found.host.starts_with('[') {
            host.map(Glob::literal).collect()
        } else {
            host.map(Glob::new).collect::<Result<Vec<_>, _>>().map_err(wrong)?
        };
        let port = match found.port {
            None => Port::Usual,
            Some("*") => Port::Any,
            Some(text) => Port::Of(text.parse().map_err(|_| wrong("its port is not a number".to_owned()))?),
        };
        let segment = |part: &String| {
            if part == "**" {
                return Ok(Segment::Any);
            }
            if part.contains("**") {
                return Err(wrong("** stands for whole segments: a/**".to_owned()));
            }
            Glob::new(part).map(Segment::One).map_err(wrong)
        };
        let path = found.path.iter().map(segment).collect::<Result<Vec<_>, _>>()?;
        let user = found.user.unwrap_or(USER).to_owned();
        let parts = Parts { scheme: found.scheme, user, host, port, path };
        Ok(Self { text: text.to_owned(), parts: Some(parts) })
    }

    /// Whether a repository is one of these.
    pub fn matches(&self, address: &Address) -> bool {
        let Some(parts) = &self.parts else { return !address.is_file() };
        let scheme = match parts.scheme {
            Some(scheme) => scheme == address.scheme,
            None => !address.is_file(),
        };
        let port = match parts.port {
            Port::Usual => address.port == usual_port(address.scheme),
            Port::Any => true,
            Port::Of(port) => address.port == port,
        };
        let labels = labels(&address.host);
        scheme
            && port
            && (address.scheme != "ssh" || parts.user == address.user)
            && parts.host.len() == labels.len()
            && parts.host.iter().zip(labels).all(|(glob, label)| glob.matches(label))
            && matches_run(
                &parts.path,
                &address.path,
                |segment| *segment == Segment::Any,
                |segment, part| match segment {
                    Segment::Any => true,
                    Segment::One(glob) => glob.matches(part),
                },
            )
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, address: &str, expected: bool) {
        let read = RepositoryPattern::new(pattern).unwrap();
        let found = Address::parse(address).is_ok_and(|address| read.matches(&address));
        assert_eq!(found, expected, "{pattern} {address}");
    }

    #[test]
    fn patterns_match_in_parts() {
        let ml = "https://git.example/ml/*";
        check(ml, "https://git.example/ml/platform", true);
        check(ml, "https://git.example/ml/platform.git", true);
        check(ml, "https://git.example/ml/platform/", true);
        check(ml, "https://GIT.example:443/ml/platform", true);
        check(ml, "https://git.example/ml/my%20repo", true);
        check(ml, "https://git.example/ml/a/b", false);
        check(ml, "https://git.example/ml", false);
        check(ml, "https://git.example/mlx/platform", false);
        check(ml, "https://git.example/ML/platform", false);
        check(ml, "https://git.example:8443/ml/platform", false);
        check(ml, "http://git.example/ml/platform", false);
        check(ml, "ssh://git@git.example/ml/platform", false);
        check("https://git.example/ml/fraud.git", "https://git.example/ml/fraud", true);
        check("https://git.example/ml/fraud", "https://git.example/ml/fraud.git", true);
        check("https://git.example/ml/fraud", "https://git.example/ml/fraud2", false);
        check("https://git.example/ml/ml-*", "https://git.example/ml/ml-fraud.git", true);
        check("https://git.example/ml/ml-*", "https://git.example/ml/other", false);
        check("https://git.example/**", "https://git.example/a/b/c", true);
        check("https://git.example/**", "https://git.example", true);
        check("https://git.example/**/deploy", "https://git.example/deploy.git", true);
        check("https://git.example/**/deploy", "https://git.example/a/b/deploy.git", true);
        check("https://git.example/**/deploy", "https://git.example/a/deploy/x", false);
        check("https://git.example/a/**/b/*", "https://git.example/a/x/b/y", true);
        check("https://git.example/a%20b/*", "https://git.example/a%20b/c", true);
        check("https://*.example/ml/*", "https://git.example/ml/a", true);
        check("https://*.example/ml/*", "https://a.git.example/ml/a", false);
        check("https://*.example/ml/*", "https://example/ml/a", false);
        check("https://git.example:*/ml/*", "https://git.example:8443/ml/a", true);
        check("https://git.example:8443/ml/*", "https://git.example:8443/ml/a", true);
        check("https://[::1]:8443/ml/*", "https://[::1]:8443/ml/a", true);
        check("https://[::1]:8443/ml/*", "https://[::2]:8443/ml/a", false);
    }

    #[test]
    fn ssh_charts_artifacts_and_files() {
        check("git@git.example:ml/*", "git@git.example:ml/platform.git", true);
        check("git@git.example:ml/*", "ssh://git@git.example/ml/platform", true);
        check("git@git.example:ml/*", "git.example:ml/platform.git", true);
        check("git@git.example:ml/*", "root@git.example:ml/platform.git", false);
        check("git@git.example:ml/*", "ssh://git@git.example:2222/ml/platform", false);
        check("ssh://git.example:2222/ml/**", "ssh://git@git.example:2222/ml/a/b", true);
        check("ssh://git.example/ml/**", "git@git.example:~root/ml/a", false);
        check("git.example/ml/*", "https://git.example/ml/a", true);
        check("git.example/ml/*", "git@git.example:ml/a.git", true);
        check("git.example/ml/*", "root@git.example:ml/a.git", false);
        check("git.example/ml/*", "https://git.example:8443/ml/a", false);
        check("oci://ghcr.io/ml/**", "oci://GHCR.io/ml/charts/fraud", true);
        check("oci://ghcr.io/ml/**", "oci+http://ghcr.io/ml/charts/fraud", false);
        check("oci://ghcr.io/ml/**", "https://ghcr.io/ml/charts", false);
        check("https://charts.example", "https://charts.example", true);
        check("https://charts.example", "https://charts.example/stable", false);
        check("*", "https://anything.example/x", true);
        check("*", "git@anything.example:x", true);
        check("*", "file:///cache/other", false);
        check("**", "/cache/other", false);
        check("file:///srv/git/**", "file:///srv/git/ml.git", true);
        check("file:///srv/git/**", "/srv/git/ml", true);
        check("file:///srv/git/**", "/srv/git/../../cache", false);
        check("file:///srv/git/**", "https://srv/git/ml", false);
    }

    #[test]
    fn nobody_gets_in_by_looking_alike() {
        let ours = "https://git.example/**";
        for address in [
            "https://git.example.evil.com",
            "https://git.example.evil.com/ml/platform",
            "https://git.example@evil.com/ml/platform",
            "https://git.example:443@evil.com/ml/platform",
            "https://git.example%40evil.com/ml",
            "https://git.example\\@evil.com/ml",
            "https://git.example\\.evil.com/ml",
            "https://evil.com/https://git.example/ml",
            "https://evil.com/?https://git.example/ml",
            "https://evil.com#git.example/ml",
            "https://evil-git.example/ml",
            "https://xgit.example/ml",
            "https://git.example./ml",
            "https://git.examplé/ml",
            "https:git.example/ml",
            "https:///git.example/ml",
            "HTTPS://git.example.evil.com/ml",
            "http://git.example/ml",
            "git.example/ml",
            "//git.example/ml",
            "ext::sh -c id",
            "https://git.example\t.evil.com/ml",
            "https://git.example\n/ml",
            "",
            "*",
        ] {
            check(ours, address, false);
        }
        let folder = "https://git.example/ml/**";
        for address in [
            "https://git.example/ml/../other/secret",
            "https://git.example/ml/%2e%2e/other/secret",
            "https://git.example/ml/%2E./other",
            "https://git.example/ml/..%2fother",
            "https://git.example/ml%2f..%2fother",
            "https://git.example/ml/%252e%252e/other",
            "https://git.example/ml/..\\other",
            "https://git.example/ml/./x",
            "https://git.example/ml//x",
            "https://git.example/ml/%zz",
            "https://git.example/ml/%",
            "https://git.example/ml/a%00b",
            "https://git.example/other/ml/x",
            "https://git.example/ml%2fx",
        ] {
            check(folder, address, false);
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        let check = |text: &str, part: &str| {
            let why = RepositoryPattern::new(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        };
        check("ftp://git.example/ml", "scheme");
        check("https://user:word@git.example/ml", "@");
        check("https://git.example/ml/a**", "whole segments");
        check("https://**/ml", "one label");
        check("https://git.example/ml/../x", "..");
        check("https://git.example/ml/[a-z]", "only * and ?");
        check("https://git.example:x/ml", "port");
        check("https:///ml", "host");
        check("https://git.example/a b", "' '");
        check("file://srv/git", "absolute");
        check("", "host");
    }

    proptest::proptest! {
        #[test]
        fn hosts_and_folders_are_never_left(address in "(https|http|ssh|oci)://[a-z./@:%*\\\\?#2e]{0,40}") {
            let ours = RepositoryPattern::new("https://git.example/ml/**").unwrap();
            if let Ok(parsed) = Address::parse(&address) && ours.matches(&parsed) {
                // As the client that connects reads it.
                let url = reqwest::Url::parse(&address).unwrap();
                proptest::prop_assert_eq!(url.host_str(), Some("git.example"));
                proptest::prop_assert!(url.path() == "/ml" || url.path().starts_with("/ml/"), "{}", address);
            }
        }

        #[test]
        fn clients_read_the_same(rest in "[a-z./@:%\\\\?#2e]{0,12}", middle in "(/|@|\\.|:|%2f|\\\\)") {
            let address = format!("https://git.example{middle}ml/{rest}");
            let ours = RepositoryPattern::new("https://git.example/ml/**").unwrap();
            if let Ok(parsed) = Address::parse(&address) && ours.matches(&parsed) {
                let url = reqwest::Url::parse(&address).unwrap();
                proptest::prop_assert_eq!(url.host_str(), Some("git.example"));
                proptest::prop_assert!(url.path() == "/ml" || url.path().starts_with("/ml/"), "{}", address);
            }
        }
    }
}
