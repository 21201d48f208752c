//! From a field to its line and column, in the text that states it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::rule::rules;
use super::{Finding, Subject};
use crate::model::yaml::{self, Content, Syntax};
use crate::render::explain::below;

rules! { "YAML":
    DUPLICATE_KEY "duplicate-key" Warning Certain
        "a key that stands twice in one map"
        "kubectl and every delivery tool take the last and drop the first without a word; kustomize refuses the file. Remove one, or join the two maps."
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// 1-based; 0 where unknown.
    pub line: usize,
    /// 1-based; 0 where unknown.
    pub column: usize,
}

/// The documents of files, each parsed once.
#[derive(Debug, Default)]
pub struct Lines {
    files: HashMap<Arc<str>, Vec<Syntax>>,
}

/// Most keys that stand twice which are told of one document.
const MAX_DOUBLES: usize = 100;
/// Deepest chain of aliases that is followed.
const MAX_ALIASES: usize = 50;

impl Lines {
    /// Notes the text of a file; one that is no YAML has no lines.
    pub fn read(&mut self, file: &Arc<str>, bytes: &[u8]) {
        if !self.files.contains_key(file) {
            let documents = yaml::syntax(bytes, file).unwrap_or_default();
            self.files.insert(file.clone(), documents);
        }
    }

    /// Whether a file has been noted.
    pub fn knows(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// Keys of an object, the `number`th of its set, that stand twice in one map.
    pub fn doubled(&self, subject: &Subject, number: usize) -> Vec<Finding> {
        let Some(document) = self.document(subject) else { return Vec::new() };
        let mut found = Vec::new();
        if subject.base.is_empty() {
            doubles(document, document.root, "", &mut found);
        }
        let finding = |pointer: String| {
            let name = pointer.rsplit('/').next().unwrap_or_default().replace("~1", "/");
            Finding {
                rule: &DUPLICATE_KEY,
                severity: DUPLICATE_KEY.severity,
                subject: number,
                message: format!("{name} stands twice in this map, and only the last counts"),
                pointer,
            }
        };
        found.into_iter().map(finding).collect()
    }

    fn document(&self, subject: &Subject) -> Option<&Syntax> {
        let mut documents = self.files.get(&subject.origin.file).into_iter().flatten();
        documents.find(|document| document.nodes[document.root].line == subject.origin.line)
    }

    /// Where a field of an object is written; the nearest field around one that is not. The line of the document where
    /// the object is not in its file as it stands.
    pub fn find(&self, subject: &Subject, pointer: &str) -> Position {
        let origin = &subject.origin;
        let begin = Position { line: origin.line, column: 0 };
        let Some(document) = self.document(subject) else { return begin };
        let base = if subject.base.is_empty() { item_of(document, subject) } else { subject.base.clone() };
        walk(document, &format!("{base}{pointer}"))
    }
}

/// Keys of an object that stand twice, as JSON pointers.
fn doubles(document: &Syntax, at: usize, path: &str, found: &mut Vec<String>) {
    if found.len() > MAX_DOUBLES {
        return;
    }
    match &document.nodes[at].content {
        Content::Sequence(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(number, item)| doubles(document, *item, &format!("{path}/{number}"), found));
        }
        Content::Mapping(pairs) => {
            let mut seen = HashSet::new();
            for (key, value) in pairs {
                let Content::Scalar { text, .. } = &document.nodes[*key].content else { continue };
                let path = below(path, text);
                if text != "<<" && !seen.insert(text) {
                    found.push(path.clone());
                }
                doubles(document, *value, &path, found);
            }
        }
        _ => {}
    }
}

/// Where in a list of objects one of a kind and name is; nothing in a document that is no list.
fn item_of(document: &Syntax, subject: &Subject) -> String {
    let text = |at: usize, name: &str| -> Option<&str> {
        let value = child(document, at, name)?.1;
        match &document.nodes[value].content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    };
    let Some((_, items)) = child(document, document.root, "items") else { return String::new() };
    let Content::Sequence(items) = &document.nodes[items].content else { return String::new() };
    if !text(document.root, "kind").is_some_and(|kind| kind.ends_with("List")) {
        return String::new();
    }
    let same = |item: &&usize| {
        let metadata = child(document, **item, "metadata").map(|(_, value)| value);
        text(**item, "kind") == Some(&subject.gvk.kind)
            && metadata.and_then(|at| text(at, "name")) == Some(subject.name())
    };
    items.iter().position(|item| same(&item)).map(|at| format!("/items/{at}")).unwrap_or_default()
}

/// Key and value of a field; the last of two, and what is merged in.
fn child(document: &Syntax, at: usize, name: &str) -> Option<(usize, usize)> {
    let Content::Mapping(pairs) = &document.nodes[follow(document, at)].content else { return None };
    let is = |id: usize, name: &str| matches!(&document.nodes[id].content, Content::Scalar { text, .. } if text == name);
    let own = pairs.iter().rev().find(|(key, _)| is(*key, name)).copied();
    own.or_else(|| {
        let merged = pairs.iter().filter(|(key, _)| is(*key, "<<")).map(|(_, value)| *value);
        merged.flat_map(|value| list(document, value)).find_map(|value| direct(document, value, name))
    })
}

fn direct(document: &Syntax, at: usize, name: &str) -> Option<(usize, usize)> {
    let Content::Mapping(pairs) = &document.nodes[follow(document, at)].content else { return None };
    let is = |id: usize| matches!(&document.nodes[id].content, Content::Scalar { text, .. } if text == name);
    pairs.iter().rev().find(|(key, _)| is(*key)).copied()
}

fn list(document: &Syntax, at: usize) -> Vec<usize> {
    match &document.nodes[follow(document, at)].content {
        Content::Sequence(items) => items.clone(),
        _ => vec![at],
    }
}

fn follow(document: &Syntax, mut at: usize) -> usize {
    for _ in 0..MAX_ALIASES {
        match document.nodes[at].content {
            Content::Alias(target) => at = target,
            _ => break,
        }
    }
    at
}

fn walk(document: &Syntax, pointer: &str) -> Position {
    let of = |id: usize| Position { line: document.nodes[id].line, column: document.nodes[id].column };
    let (mut at, mut position) = (document.root, of(document.root));
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        let next = match &document.nodes[follow(document, at)].content {
            Content::Sequence(items) => {
                name.parse().ok().and_then(|number: usize| items.get(number)).map(|item| (*item, *item))
            }
            _ => child(document, at, &name),
        };
        let Some((key, value)) = next else { break };
        position = of(key);
        at = value;
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn check(text: &str, document: usize, pointer: &str, expected: (usize, usize)) {
        let file: Arc<str> = "a.yaml".into();
        let mut lines = Lines::default();
        lines.read(&file, text.as_bytes());
        let read = yaml::read(text.as_bytes(), "a.yaml").unwrap().remove(document);
        let subject = Subject::read(read.value, &Origin { file, line: read.line });
        let found = lines.find(subject.last().unwrap(), pointer);
        assert_eq!((found.line, found.column), expected, "{pointer}");
    }

    #[test]
    fn fields_have_lines_and_columns() {
        let text = "apiVersion: v1\nkind: X\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Z\nmetadata:\n  name: b\nspec:\n  list:\n  - a: 1\n    b: &b {c: 2}\n  - *b\n  more:\n    <<: *b\n";
        check(text, 0, "", (1, 1));
        check(text, 0, "/metadata/name", (3, 12));
        check(text, 1, "/spec/list/0/b", (12, 5));
        check(text, 1, "/spec/list/1/c", (12, 12));
        check(text, 1, "/spec/more/c", (12, 12));
        check(text, 1, "/spec/list/0/none/deeper", (11, 5));
        check(text, 1, "/nowhere", (5, 1));
    }

    #[test]
    fn items_of_lists_have_their_own() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: X\n  metadata: {name: a}\n- apiVersion: v1\n  kind: X\n  metadata: {name: b}\n";
        check(text, 0, "/metadata", (9, 3));
    }

    #[test]
    fn json_has_lines_too() {
        check("{\"apiVersion\": \"v1\", \"kind\": \"X\",\n \"spec\": {\"a\": 1}}\n", 0, "/spec/a", (2, 11));
    }
}
