//! Which objects a patch or a replacement is for.

use regex::Regex;

use super::kustomization::Selector;
use super::node::{Nodes, invalid};
use super::resource::Resource;
use crate::error::Result;

/// A target of a patch: regular expressions over the whole of each name.
pub(super) struct Target {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Requirements,
    annotations: Requirements,
}

impl Target {
    pub(super) fn new(selector: &Selector) -> Result<Self> {
        let whole = |text: &str, field: &str| -> Result<Option<Regex>> {
            if text.is_empty() {
                return Ok(None);
            }
            let regex = Regex::new(&format!("^(?:{text})$"));
            regex.map(Some).map_err(|error| {
                invalid(format!("target.{field} {text:?} is no regular expression: {error}"))
            })
        };
        Ok(Self {
            group: whole(&selector.group, "group")?,
            version: whole(&selector.version, "version")?,
            kind: whole(&selector.kind, "kind")?,
            name: whole(&selector.name, "name")?,
            namespace: whole(&selector.namespace, "namespace")?,
            labels: Requirements::parse(&selector.label_selector)?,
            annotations: Requirements::parse(&selector.annotation_selector)?,
        })
    }

    /// By what it is called now, or was called first.
    pub(super) fn matches(&self, nodes: &Nodes, resource: &Resource) -> bool {
        let fits =
            |regex: &Option<Regex>, text: &str| regex.as_ref().is_none_or(|regex| regex.is_match(text));
        let (now, first) = (resource.id(nodes), resource.original_id(nodes));
        (fits(&self.namespace, first.namespace) || fits(&self.namespace, now.namespace))
            && (fits(&self.name, first.name) || fits(&self.name, now.name))
            && fits(&self.group, now.group)
            && fits(&self.version, now.version)
            && fits(&self.kind, now.kind)
            && self.labels.match_strings(|| resource.strings(nodes, "labels"))
            && self.annotations.match_strings(|| resource.strings(nodes, "annotations"))
    }
}

#[derive(Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

/// A label selector: `a=b,c!=d,e in (f,g),!h`.
#[derive(Debug, Default)]
pub(super) struct Requirements(Vec<Requirement>);

impl Requirements {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut all = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            // A comma inside of brackets does not end a requirement.
            let mut depth = 0;
            let end = rest.find(|c| {
                match c {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                c == ',' && depth == 0
            });
            let (one, next) = end.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
            all.push(
                requirement(one.trim())
                    .ok_or_else(|| invalid(format!("the selector {text:?} cannot be read at {one:?}")))?,
            );
            rest = next.trim();
        }
        Ok(Self(all))
    }

    pub(super) fn match_strings(&self, strings: impl FnOnce() -> Vec<(String, String)>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let strings = strings();
        let get = |name: &str| strings.iter().find(|(key, _)| key == name).map(|(_, text)| text.as_str());
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                get(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            Requirement::NotIn(key, values) => {
                get(key).is_none_or(|found| values.iter().all(|value| value != found))
            }
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::Missing(key) => get(key).is_none(),
            Requirement::Greater(key, bound) => {
                get(key).and_then(|found| found.parse::<i64>().ok()).is_some_and(|found| found > *bound)
            }
            Requirement::Less(key, bound) => {
                get(key).and_then(|found| found.parse::<i64>().ok()).is_some_and(|found| found < *bound)
            }
        })
    }
}

fn requirement(text: &str) -> Option<Requirement> {
    let key = |text: &str| -> Option<String> {
        let text = text.trim();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        (!text.is_empty() && text.chars().all(fits)).then(|| text.to_owned())
    };
    let value = |text: &str| -> Option<String> {
        let text = text.trim();
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            .then(|| text.to_owned())
    };
    if let Some(name) = text.strip_prefix('!') {
        return Some(Requirement::Missing(key(name)?));
    }
    if let Some((name, rest)) = text.split_once("!=") {
        return Some(Requirement::NotIn(key(name)?, vec![value(rest)?]));
    }
    if let Some((name, rest)) = text.split_once('=') {
        return Some(Requirement::In(key(name)?, vec![value(rest.strip_prefix('=').unwrap_or(rest))?]));
    }
    if let Some((name, rest)) = text.split_once('>') {
        return Some(Requirement::Greater(key(name)?, rest.trim().parse().ok()?));
    }
    if let Some((name, rest)) = text.split_once('<') {
        return Some(Requirement::Less(key(name)?, rest.trim().parse().ok()?));
    }
    if let Some((head, list)) = text.split_once('(') {
        let values = list.trim_end().strip_suffix(')')?.split(',').map(value).collect::<Option<Vec<_>>>()?;
        let mut words = head.split_whitespace();
        let (name, verb) = (key(words.next()?)?, words.next()?);
        return match (verb, words.next()) {
            ("in", None) => Some(Requirement::In(name, values)),
            ("notin", None) => Some(Requirement::NotIn(name, values)),
            _ => None,
        };
    }
    Some(Requirement::Exists(key(text)?))
}
