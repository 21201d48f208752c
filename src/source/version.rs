//! Versions of charts and artifacts, as Helm and Flux choose among them.

use semver::Version;

use crate::render::template::satisfies;

/// Reads a version as Helm does: a leading `v` and missing parts are allowed.
pub(super) fn parse(text: &str) -> Option<Version> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let end = plain.find(['-', '+']).unwrap_or(plain.len());
    let (numbers, rest) = plain.split_at(end);
    let mut parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() > 3 {
        return None;
    }
    parts.resize(3, "0");
    Version::parse(&format!("{}{rest}", parts.join("."))).ok()
}

/// Whether a text names one version in full, so that no list is needed to find it.
pub(super) fn is_full(text: &str) -> bool {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).is_ok()
}

/// The highest of some versions that a range takes; the first of equal ones. What is no version is passed over.
pub(super) fn newest<T>(
    found: impl IntoIterator<Item = T>,
    range: &str,
    name: impl Fn(&T) -> String,
) -> Option<T> {
    let mut best: Option<(Version, T)> = None;
    for one in found {
        let text = name(&one);
        let Some(version) = parse(&text).filter(|_| satisfies(range, &text)) else { continue };
        if best.as_ref().is_none_or(|(highest, _)| version.cmp_precedence(highest).is_gt()) {
            best = Some((version, one));
        }
    }
    best.map(|(_, one)| one)
}

/// A few of what there is, for a person who named what is not there: those that begin alike, the newest first.
pub(super) fn near(wanted: &str, mut found: Vec<String>) -> String {
    let total = found.len();
    let alike = |name: &str| name.bytes().zip(wanted.bytes()).take_while(|(one, other)| one == other).count();
    found.sort_by(|one, other| {
        alike(other).cmp(&alike(one)).then_with(|| match (parse(one), parse(other)) {
            (Some(one), Some(other)) => other.cmp_precedence(&one),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => other.cmp(one),
        })
    });
    found.truncate(5);
    match total {
        0 => "there is none at all".to_owned(),
        1..=5 => format!("there is {}", found.join(", ")),
        _ => format!("of {total} the nearest are {}", found.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_in_a_range() {
        let all = ["v1.2.0", "1.10.0", "1.9.9", "2.0.0-rc.1", "2.0.0-alpha", "latest", "1.10.0+two", "1.3"];
        for (range, expected) in [
            ("*", Some("1.10.0")),
            ("^1.2", Some("1.10.0")),
            ("~1.2", Some("v1.2.0")),
            ("1.3", Some("1.3")),
            (">0.0.0-0", Some("2.0.0-rc.1")),
            (">=1 <1.10", Some("1.9.9")),
            ("^3", None),
            ("1.2.0 || 1.9.x", Some("1.9.9")),
        ] {
            assert_eq!(newest(all, range, |name| (*name).to_owned()), expected, "{range}");
        }
    }

    #[test]
    fn versions() {
        for (text, shown) in [("v1", "1.0.0"), ("1.2-rc.1", "1.2.0-rc.1"), ("1.2.3+a", "1.2.3+a")] {
            assert_eq!(parse(text).map(|version| version.to_string()).as_deref(), Some(shown));
        }
        assert!(parse("1.2.3.4").is_none() && parse("latest").is_none() && parse("").is_none());
        assert!(is_full("v1.2.3") && !is_full("1.2"));
    }

    #[test]
    fn what_is_near() {
        let found = ["1.0.0", "1.2.0", "1.10.0", "latest"].map(str::to_owned).to_vec();
        assert_eq!(near("1.1", found.clone()), "there is 1.10.0, 1.2.0, 1.0.0, latest");
        assert_eq!(near("1.1", Vec::new()), "there is none at all");
        let many = (0..20).map(|number| format!("1.{number}.0")).collect();
        assert_eq!(near("2", many), "of 20 the nearest are 1.19.0, 1.18.0, 1.17.0, 1.16.0, 1.15.0");
    }
}
