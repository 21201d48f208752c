//! The list of a Helm repository. Some have 20 MB and thousands of charts, of which few are asked for.
//!
//! Lists are written by programs, one chart after the other at one depth. Where a list is, the lines of the charts that
//! nobody asks for are passed over; any other is read from end to end, event by event.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, StrInput};

use crate::error::{Code, Error, Result};

/// Deepest nesting.
const MAX_DEPTH: usize = 100;
/// Versions of one chart.
const MAX_VERSIONS: usize = 50_000;
/// Addresses of one version.
const MAX_URLS: usize = 10;

/// One version of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) version: String,
    pub(super) app_version: String,
    /// Of the archive; 64 hexadecimal digits, or empty.
    pub(super) digest: String,
    pub(super) created: String,
    pub(super) urls: Vec<String>,
}

/// Versions by chart.
pub(super) type Charts = BTreeMap<String, Vec<Release>>;

/// The versions of some charts, in the order of the list; charts that are not in it are not in the result.
///
/// # Errors
/// `RepositoryCorrupt` for what is no list.
pub(super) fn read(text: &str, wanted: &BTreeSet<String>) -> Result<Charts> {
    let text = text.trim_start_matches('\u{feff}');
    // An anchor may be set in another chart; then, and for a good error, the whole list is read.
    sections(text, wanted).and_then(|part| every(&part, wanted).ok()).map_or_else(|| every(text, wanted), Ok)
}

/// The list with the charts that are asked for alone; `None` where it is not written as lists are.
fn sections(text: &str, wanted: &BTreeSet<String>) -> Option<String> {
    let begin = if text.starts_with("entries:") { 0 } else { text.find("\nentries:")? + 1 };
    let mut lines = text[begin..].split_inclusive('\n');
    let mut part = lines.next()?.to_owned();
    if part.trim_end() != "entries:" {
        return None;
    }
    let (mut depth, mut taken) = (None, false);
    for line in lines {
        let content = line.trim_start_matches(' ');
        let indent = line.len() - content.len();
        if content.trim_end().is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = *depth.get_or_insert(indent);
        if depth == 0 {
            return None;
        }
        // In a block, whatever belongs to a key stands further right; a list may stand below it.
        if indent < depth {
            break;
        }
        if indent == depth && !content.starts_with("- ") {
            let key = content.trim_end().strip_suffix(':')?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            if !key.bytes().all(plain) {
                return None;
            }
            taken = wanted.contains(key);
        }
        if taken {
            part.push_str(line);
        }
    }
    Some(part)
}

/// Reads a list from end to end.
fn every(text: &str, wanted: &BTreeSet<String>) -> Result<Charts> {
    let mut reader = Reader { parser: Parser::new_from_str(text), line: 0 };
    let mut charts = Charts::new();
    let mut is_index = false;
    loop {
        match reader.next()? {
            Event::MappingStart(..) => break,
            Event::StreamStart | Event::DocumentStart(..) => {}
            _ => return Err(reader.wrong("it is no list of charts; is this a Helm repository's address?")),
        }
    }
    while let Some(key) = reader.key()? {
        match key.as_str() {
            "entries" => {
                is_index = true;
                // A repository without charts may say so with nothing.
                if !reader.open_map()? {
                    continue;
                }
                while let Some(chart) = reader.key()? {
                    if wanted.contains(&chart) {
                        let versions = reader.versions()?;
                        charts.entry(chart).or_default().extend(versions);
                    } else {
                        reader.skip()?;
                    }
                }
            }
            "apiVersion" => {
                is_index = true;
                reader.skip()?;
            }
            _ => reader.skip()?,
        }
    }
    // The rest of the text is not looked at: a list is one document.
    if is_index { Ok(charts) } else { Err(reader.wrong("it is no list of charts: it has no entries")) }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    line: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, why: &str) -> Error {
        Error::new(Code::RepositoryCorrupt, format!("index.yaml:{}: {why}", self.line))
    }

    fn next(&mut self) -> Result<Event<'a>> {
        let Some(next) = self.parser.next_event() else { return Err(self.wrong("it ends early")) };
        let (event, span) = next.map_err(|error| {
            let why = format!("index.yaml:{}: {}", error.marker().line(), error.info());
            Error::new(Code::RepositoryCorrupt, why)
        })?;
        self.line = span.start.line();
        Ok(event)
    }

    /// The next key of a map; `None` at its end.
    fn key(&mut self) -> Result<Option<String>> {
        match self.next()? {
            Event::MappingEnd => Ok(None),
            Event::Scalar(text, ..) => Ok(Some(text.into_owned())),
            _ => Err(self.wrong("a key is no text")),
        }
    }

    /// Goes into a map; `false` where there is nothing.
    fn open_map(&mut self) -> Result<bool> {
        match self.next()? {
            Event::MappingStart(..) => Ok(true),
            Event::Scalar(text, ..) if matches!(&*text, "" | "~" | "null") => Ok(false),
            _ => Err(self.wrong("a map is missing")),
        }
    }

    /// Goes into a list; `false` where there is nothing.
    fn open_list(&mut self) -> Result<bool> {
        match self.next()? {
            Event::SequenceStart(..) => Ok(true),
            Event::Scalar(text, ..) if matches!(&*text, "" | "~" | "null") => Ok(false),
            _ => Err(self.wrong("a list is missing")),
        }
    }

    /// Passes over one value.
    fn skip(&mut self) -> Result<()> {
        let mut depth = 0usize;
        loop {
            match self.next()? {
                Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
                Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
                Event::DocumentEnd | Event::StreamEnd => return Err(self.wrong("it ends early")),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(self.wrong("nested deeper than 100 levels"));
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn text(&mut self) -> Result<String> {
        match self.next()? {
            Event::Scalar(text, ..) => Ok(text.into_owned()),
            _ => Err(self.wrong("a text is missing")),
        }
    }

    fn versions(&mut self) -> Result<Vec<Release>> {
        let mut found = Vec::new();
        if !self.open_list()? {
            return Ok(found);
        }
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(found),
                Event::MappingStart(..) => found.push(self.version()?),
                // Helm passes over versions that are nothing.
                Event::Scalar(..) => {}
                _ => return Err(self.wrong("a version is no map")),
            }
            if found.len() > MAX_VERSIONS {
                return Err(self.wrong("a chart has more than 50,000 versions"));
            }
        }
    }

    fn version(&mut self) -> Result<Release> {
        let mut found = Release::default();
        while let Some(key) = self.key()? {
            match key.as_str() {
                "version" => found.version = self.text()?,
                "appVersion" => found.app_version = self.text()?,
                "digest" => found.digest = self.text()?,
                "created" => found.created = self.text()?,
                "urls" => {
                    if self.open_list()? {
                        loop {
                            match self.next()? {
                                Event::SequenceEnd => break,
                                Event::Scalar(text, ..) if found.urls.len() < MAX_URLS => {
                                    found.urls.push(text.into_owned());
                                }
                                Event::Scalar(..) => {}
                                _ => return Err(self.wrong("an address is no text")),
                            }
                        }
                    }
                }
                _ => self.skip()?,
            }
        }
        let digest = found.digest.trim_start_matches("sha256:").to_ascii_lowercase();
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        found.digest = if is_digest { digest } else { String::new() };
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(text: &str) -> Result<Charts> {
        read(text, &BTreeSet::from(["fraud".to_owned()]))
    }

    #[test]
    fn only_what_is_asked_for() {
        let digest = "a".repeat(64);
        let text = format!(
            "apiVersion: v1\nentries:\n  other:\n  - version: 9.9.9\n    deep: {{a: [1, {{b: c}}]}}\n  fraud:\n  - version: \
             1.2.3\n    appVersion: \"2\"\n    digest: {digest}\n    created: 2026-01-02T03:04:05Z\n    urls:\n    - \
             charts/fraud-1.2.3.tgz\n    maintainers: [{{name: Ana}}]\n  - version: 1.0\n    digest: short\ngenerated: \
             now\n"
        );
        let found = versions(&text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found["fraud"],
            [
                Release {
                    version: "1.2.3".into(),
                    app_version: "2".into(),
                    digest,
                    created: "2026-01-02T03:04:05Z".into(),
                    urls: vec!["charts/fraud-1.2.3.tgz".into()],
                },
                Release { version: "1.0".into(), ..Release::default() },
            ]
        );
        let json = r#"{"apiVersion": "v1", "entries": {"fraud": [{"version": "1", "urls": ["a"]}]}}"#;
        assert_eq!(versions(json).unwrap()["fraud"][0].urls, ["a"]);
        assert!(versions("apiVersion: v1\nentries: {}\n").unwrap().is_empty());
        assert!(versions("apiVersion: v1\nentries:\n").unwrap().is_empty());
    }

    #[test]
    fn lists_in_any_hand_are_the_same() {
        let wanted = BTreeSet::from(["fraud".to_owned(), "b".to_owned()]);
        for (text, taken) in [
            (
                "apiVersion: v1\nentries:\n  a:\n  - version: 1\n  fraud:\n  - version: 2\n  b:\n    - version: 3\nx: y\n",
                true,
            ),
            (
                "entries:\n    a:\n    - {version: 1}\n\n    # b:\n    fraud:\n    - version: 2\n      d: |\n        x\n\n       \n        b:\n",
                true,
            ),
            ("entries:\r\n  fraud:\r\n  - version: 2\r\n  a:\r\n  - version: 1\r\n", true),
            ("entries:\n  a:\n  - &x {version: 1}\n  fraud:\n  - version: 2\n    home: *x\n", true),
            ("entries:\n  \"fraud\":\n  - version: 2\n", false),
            ("entries: {fraud: [{version: 2}]}\n", false),
            ("entries:\n  fraud: [{version: 2}]\n", false),
            ("entries:\n  ? fraud\n  : - version: 2\n", false),
        ] {
            assert_eq!(sections(text, &wanted).is_some(), taken, "{text}");
            let found = read(text, &wanted).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found, every(text, &wanted).unwrap(), "{text}");
            assert_eq!(found["fraud"][0].version, "2", "{text}");
        }
    }

    #[test]
    fn what_is_no_list() {
        let deep = format!("entries:\n  x: {}", "- ".repeat(200));
        for text in [
            "",
            "<!DOCTYPE html><html></html>",
            "a: b",
            "- a",
            "entries: text",
            "entries: {fraud: text}",
            "entries: {fraud: [{version: [1]}]}",
            "entries: {fraud: [{version: 1",
            "entries:\n  fraud: *nobody\n",
            &deep,
        ] {
            let error = versions(text).unwrap_err();
            assert_eq!(error.code, Code::RepositoryCorrupt, "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_change_of_a_list_is_survived(at in 0_usize..160, to in ".{0,3}", cut in 0_usize..200) {
            let text = "apiVersion: v1\nentries:\n  fraud:\n  - version: 1.2.3\n    urls: [a, b]\n    digest: x\n  other: [{deep: {a: [1]}}]\n";
            let at = at.min(text.len() - 1);
            let mut changed = format!("{}{to}{}", &text[..at], &text[(at + 1).min(text.len())..]);
            while changed.len() > cut {
                changed.pop();
            }
            let wanted = BTreeSet::from(["fraud".to_owned()]);
            match (versions(&changed), every(&changed, &wanted)) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{changed}"),
                (Err(error), _) => assert_eq!(error.code, Code::RepositoryCorrupt),
                // What is wrong in a chart that nobody asks for is not looked at.
                (Ok(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn a_long_list_is_read_at_once() {
        let mut text = "apiVersion: v1\nentries:\n".to_owned();
        for chart in 0..400 {
            text.push_str(&format!("  chart-{chart}:\n"));
            for version in 0..100 {
                text.push_str(&format!(
                    "  - apiVersion: v2\n    appVersion: 1.{version}.0\n    created: \"2026-01-02T03:04:05.678Z\"\n    \
                     dependencies:\n    - name: common\n      repository: https://charts.example/stable\n      version: \
                     2.x.x\n    description: A chart for the service number {chart} that says a few words about what it \
                     does\n    digest: {:064x}\n    home: https://example.org/charts/chart-{chart}\n    keywords:\n    - \
                     service\n    - model\n    name: chart-{chart}\n    urls:\n    - \
                     https://charts.example/stable/chart-{chart}-1.{version}.0.tgz\n    version: 1.{version}.0\n",
                    chart * 1000 + version
                ));
            }
        }
        assert!(text.len() > 20_000_000, "{}", text.len());
        let wanted = BTreeSet::from(["chart-7".to_owned(), "chart-399".to_owned()]);
        let found = read(&text, &wanted).unwrap();
        assert_eq!(every(&text, &wanted).unwrap(), found);
        assert_eq!(found["chart-399"].len(), 100);
        assert_eq!(found.len(), 2);
    }
}
