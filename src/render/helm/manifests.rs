//! From the texts of templates to manifests: cut, told apart from hooks, sorted by kind.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value as Json;

use super::chart::File;
use super::engine::{Texts, is_partial};
use super::metadata::{as_text, json_kind};
use crate::error::{Code, Error, Result};
use crate::model::yaml;

/// The order in which Helm installs kinds; all others come after these, by name.
const ORDER: &[&str] = &[
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
];

/// What `helm.sh/hook` may say.
pub(crate) const HOOKS: &[&str] = &[
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
    "test-success",
];

/// One document.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// Its path, as `# Source:` shows it.
    pub(super) path: String,
    pub(super) text: String,
    /// Where in its output the text begins, in bytes.
    pub(super) offset: usize,
    kind: String,
    /// Where its template is.
    pub(super) file: File,
    /// 1-based line of the template where the document seems to begin.
    pub(super) line: usize,
    /// A hook that `helm test` would run.
    pub(super) is_test: bool,
}

/// Manifests and hooks, each in Helm's order.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) manifests: Vec<Manifest>,
    pub(super) hooks: Vec<Manifest>,
}

/// Cuts and sorts.
///
/// # Errors
/// `ManifestInvalid` for what is not YAML, with the line.
pub(super) fn sort(texts: &Texts) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    for (path, (whole, file)) in &texts.files {
        if path.ends_with("NOTES.txt") || is_partial(path) || whole.trim().is_empty() {
            continue;
        }
        let begins = begins(file);
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (text, line) in split(whole) {
            let head = head(text, path, file, line)?;
            let count = seen.entry(head.kind.clone()).or_default();
            *count += 1;
            let places = begins.get(&head.kind).map(Vec::as_slice).unwrap_or_default();
            let begin = places.get(*count - 1).or(places.last()).copied().unwrap_or(1);
            let mut manifest = Manifest {
                path: path.clone(),
                text: text.to_owned(),
                offset: text.as_ptr() as usize - whole.as_ptr() as usize,
                kind: head.kind,
                file: file.clone(),
                line: begin,
                is_test: false,
            };
            let Some(hooks) = head.hooks else {
                sorted.manifests.push(manifest);
                continue;
            };
            let hooks: Vec<String> = hooks.split(',').map(|hook| hook.trim().to_lowercase()).collect();
            // Helm leaves out what names a hook it does not know.
            if hooks.iter().all(|hook| HOOKS.contains(&hook.as_str())) {
                manifest.is_test = hooks.iter().any(|hook| hook.starts_with("test"));
                sorted.hooks.push(manifest);
            }
        }
    }
    sorted.manifests.sort_by(|one, other| rank(&one.kind).cmp(&rank(&other.kind)));
    sorted.hooks.sort_by(|one, other| rank(&one.kind).cmp(&rank(&other.kind)));
    Ok(sorted)
}

fn rank(kind: &str) -> (usize, &str) {
    match ORDER.iter().position(|known| *known == kind) {
        Some(place) => (place, ""),
        None => (ORDER.len(), kind),
    }
}

static SEPARATOR: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?:\A|[\t\n\x0c\r ]*\n)---[\t\n\x0c\r ]*").ok());

/// The documents of a text, each with the line it begins at.
fn split(text: &str) -> Vec<(&str, usize)> {
    let Some(separator) = &*SEPARATOR else { return Vec::new() };
    // Counted from the part before, so that many documents stay linear.
    let (mut counted, mut lines) = (0, 1);
    let mut line = |part: &str| {
        let at = part.as_ptr() as usize - text.as_ptr() as usize;
        lines += text[counted..at].matches('\n').count();
        counted = at;
        lines
    };
    separator
        .split(text.trim())
        .filter(|part| !part.is_empty())
        .map(str::trim)
        .map(|part| (part, line(part)))
        .collect()
}

struct Head {
    kind: String,
    hooks: Option<String>,
}

/// As much of a document as Helm reads.
fn head(text: &str, path: &str, file: &File, line: usize) -> Result<Head> {
    let said = |why: String, at: usize| {
        let why = format!("YAML parse error on {path}: {why}");
        let error = Error::new(Code::ManifestInvalid, why).in_file(&file.place);
        if at == 0 { error } else { error.hint(shown(text, line, at)) }
    };
    let document = super::chart::first_document(text.as_bytes(), "").map_err(|error| {
        let at = error.place.line;
        said(format!("error converting YAML to JSON: yaml: line {at}: {}", error.why), at)
    })?;
    let wrong = |value: &Json, field: &str, wanted: &str| {
        let kind = json_kind(value);
        let why = format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go {field} of type {wanted}"
        );
        said(why, 1)
    };
    let member = |map: &Json, name: &str| -> Option<Json> {
        let map = map.as_object()?;
        let exact = map.get(name);
        let found =
            exact.or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v));
        found.filter(|value| !value.is_null()).cloned()
    };
    let text_of = |map: &Json, name: &str, field: &str| match member(map, name) {
        None => Ok(String::new()),
        Some(value) => as_text(&value)
            .ok_or_else(|| wrong(&value, &format!("struct field SimpleHead.{field}"), "string")),
    };
    if document.is_null() {
        return Ok(Head { kind: String::new(), hooks: None });
    }
    if !document.is_object() {
        return Err(wrong(&document, "value", "releaseutil.SimpleHead"));
    }
    text_of(&document, "apiVersion", "apiVersion")?;
    let kind = text_of(&document, "kind", "kind")?;
    let Some(metadata) = member(&document, "metadata") else { return Ok(Head { kind, hooks: None }) };
    if !metadata.is_object() {
        let fields = "struct { Name string \"json:\\\"name\\\"\"; Annotations map[string]string \"json:\\\"annotations\\\"\" }";
        return Err(wrong(&metadata, "struct field SimpleHead.metadata", fields));
    }
    text_of(&metadata, "name", "metadata.name")?;
    let mut hooks = None;
    if let Some(annotations) = member(&metadata, "annotations") {
        let field = "struct field .metadata.annotations";
        let Some(map) = annotations.as_object() else {
            return Err(wrong(&annotations, field, "map[string]string"));
        };
        for (name, value) in map {
            let text = if value.is_null() { Some(String::new()) } else { as_text(value) };
            let text = text.ok_or_else(|| wrong(value, field, "string"))?;
            if name == "helm.sh/hook" {
                hooks = Some(text);
            }
        }
    }
    Ok(Head { kind, hooks })
}

/// The line of the output that is at fault. What a Secret holds is not shown.
fn shown(text: &str, first: usize, at: usize) -> String {
    let line = text.lines().nth(at - 1).unwrap_or_default().trim_end();
    let is_secret =
        text.lines().any(|line| line.trim_start().starts_with("kind:") && line.contains("Secret"));
    let line = match line.split_once(':') {
        Some((key, _)) if is_secret => format!("{key}: ***"),
        None if is_secret => "***".to_owned(),
        _ => line.chars().take(200).collect(),
    };
    format!("line {} of what the template gave is `{}`", first + at - 1, line.trim())
}

/// The lines of a template where its documents begin, by kind, as far as its text shows them.
fn begins(file: &File) -> HashMap<String, Vec<usize>> {
    let text = String::from_utf8_lossy(&file.data);
    let mut begins: HashMap<String, Vec<usize>> = HashMap::new();
    // The document begins with what stands above, usually its apiVersion.
    let mut above = 0;
    for (at, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("kind:") {
            let kind = kind.trim().trim_matches(['"', '\'']).to_owned();
            begins.entry(kind).or_default().push(at - above + 1);
        }
        above = if line.starts_with("apiVersion:") { above + 1 } else { 0 };
    }
    begins
}

/// The documents of a manifest as kubectl reads them, each with its line.
pub(super) fn documents(text: &str, path: &str, place: &str) -> Result<Vec<yaml::Document>> {
    yaml::read(text.as_bytes(), place).map_err(|error| {
        let why = format!("YAML parse error on {path}: yaml: line {}: {}", error.place.line, error.why);
        Error::new(error.code, why).in_file(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_where_helm_cuts() {
        let cut = |text| split(text).into_iter().map(|(part, _)| part).collect::<Vec<_>>().join("|");
        for (text, expected) in [
            ("a: 1\n---\nb: 1\n", "a: 1|b: 1"),
            ("---\na: 1\n", "a: 1"),
            // The blank lines behind the first mark are taken with it, and with them what the second would begin with.
            ("\n\n---\n\n---\na: 1", "---\na: 1"),
            ("a: 1\n--- # x\nb: 1", "a: 1|# x\nb: 1"),
            ("a: |\n  x\n---\n  b: 1", "a: |\n  x|b: 1"),
            ("a: ---\n", "a: ---"),
            ("a: 1\n----\nb: 1", "a: 1|-\nb: 1"),
        ] {
            assert_eq!(cut(text), expected, "{text:?}");
        }
        assert_eq!(split("---\n\na: 1\n---\nb: 2"), [("a: 1", 3), ("b: 2", 5)]);
    }
}
