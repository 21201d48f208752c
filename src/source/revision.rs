//! Which of the revisions of a source is meant.

use std::fmt;

use crate::error::{Code, Error, Result};
use crate::render::template::is_range;
use crate::source::Location;

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
    /// A tag of an OCI repository.
    Tag(String),
    /// The newest tag or version in a range, as Helm and Flux read it.
    Versions(String),
    /// A version of a chart, or a range.
    Version(String),
    /// What cannot move: `sha256:...`, maybe with the tag or version it was found by.
    Pinned(Pinned),
}

/// A digest, and the tag or version that led to it: `1.2.3@sha256:...`. So a status says both, and a rollback finds
/// it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pinned {
    /// The tag or version; empty where only the digest is known.
    pub name: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

impl Pinned {
    /// Reads one; `None` for what has no digest.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = text.rsplit_once('@').unwrap_or(("", text));
        let hex = digest.strip_prefix("sha256:")?;
        let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| Self { name: name.to_owned(), digest: digest.to_ascii_lowercase() })
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}@", self.name)?;
        }
        f.write_str(&self.digest)
    }
}

/// Whether a text is a tag that a registry takes.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.len() <= 128 && !text.is_empty() && text.bytes().all(word) && !text.starts_with(['.', '-'])
}

impl Revision {
    /// Reads `spec.source.revision` as its location means it.
    ///
    /// # Errors
    /// `ApplicationInvalid` for what can name nothing there.
    pub fn of(location: &Location, text: &str) -> Result<Self> {
        let invalid =
            |why: &str| Err(Error::new(Code::ApplicationInvalid, format!("revision {text:?} is {why}")));
        if location.is_git() {
            return Self::parse(text);
        }
        if let Some(pinned) = Pinned::parse(text) {
            return Ok(Self::Pinned(pinned));
        }
        if text.contains("sha256:") {
            return invalid("no digest: sha256: and 64 hexadecimal digits");
        }
        if location.is_chart() {
            return match text {
                "" => Ok(Self::Version("*".to_owned())),
                _ if is_range(text) => Ok(Self::Version(text.to_owned())),
                _ => invalid("neither a version nor a semver range"),
            };
        }
        if text.starts_with(['^', '~', '>', '<', '=', '*', '!']) || text.contains([' ', ',', '|']) {
            return if is_range(text) {
                Ok(Self::Versions(text.to_owned()))
            } else {
                invalid("no semver range")
            };
        }
        match text {
            "" => Ok(Self::Tag("latest".to_owned())),
            _ if is_tag(text) => Ok(Self::Tag(text.to_owned())),
            _ => invalid("no tag that a registry takes"),
        }
    }

    /// Reads the revision of a Git repository.
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
            Self::Tag(_) | Self::Versions(_) | Self::Version(_) | Self::Pinned(_) => Vec::new(),
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
            Self::Tag(text) | Self::Versions(text) | Self::Version(text) => f.write_str(text),
            Self::Pinned(pinned) => write!(f, "{pinned}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn revisions_of_artifacts_and_charts() {
        let artifact = Location::of("oci://ghcr.io/ml/fraud", "").unwrap();
        let charts =
            [Location::of("oci://ghcr.io/charts", "fraud"), Location::of("https://c.example", "fraud")];
        let digest = format!("sha256:{}", "A0".repeat(32));
        let pinned = |name: &str| {
            Revision::Pinned(Pinned {
                name: name.into(),
                digest: digest.to_ascii_lowercase().replace("SHA", "sha"),
            })
        };
        for (text, expected) in [
            ("", Revision::Tag("latest".into())),
            ("main", Revision::Tag("main".into())),
            ("1.2", Revision::Tag("1.2".into())),
            (">=1 <2", Revision::Versions(">=1 <2".into())),
            ("*", Revision::Versions("*".into())),
            (&digest, pinned("")),
            (&format!("v1@{digest}"), pinned("v1")),
        ] {
            assert_eq!(Revision::of(&artifact, text).unwrap(), expected, "{text}");
        }
        for chart in charts.map(Result::unwrap) {
            for (text, expected) in [
                ("", Revision::Version("*".into())),
                ("1.2", Revision::Version("1.2".into())),
                ("1.2.3+a", Revision::Version("1.2.3+a".into())),
                (&format!("1.2.3+a@{digest}"), pinned("1.2.3+a")),
            ] {
                assert_eq!(Revision::of(&chart, text).unwrap(), expected, "{text}");
            }
            assert!(Revision::of(&chart, "main").is_err());
        }
        for text in ["sha256:00", "a/b", "-x", ">=y", "a b", "x@y"] {
            let error = Revision::of(&artifact, text).unwrap_err();
            assert_eq!(error.code, Code::ApplicationInvalid, "{text}");
        }
        assert_eq!(
            Pinned::parse(&format!("1@{digest}")).unwrap().to_string(),
            format!("1@{}", digest.to_lowercase())
        );
    }
}
