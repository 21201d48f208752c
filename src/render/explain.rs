//! Where every field of every object comes from.
//!
//! A reader that can say it gives, for each field, the place that wrote it last and what stood there before. Secret
//! values are in here as they are; whoever shows them masks them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Options, Tree, helm, kustomize, plain, sops};
use crate::error::Result;
use crate::model::Confidential;
use crate::model::yaml::{Content, Syntax};

/// What was read for a render, and where its objects come from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explained {
    /// Paths that were read; `None` for one where nothing is, though something could come.
    pub inputs: BTreeMap<String, Option<String>>,
    /// In the order of the render.
    pub objects: Vec<Explanation>,
    /// What was decrypted: masked wherever this is shown.
    #[serde(skip)]
    pub hidden: Confidential,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty where not stated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Every field with a value, in order of the paths.
    pub fields: Vec<Field>,
    /// Fields that were taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Removed>,
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Field {
    /// A JSON pointer (RFC 6901).
    pub path: String,
    /// What it holds.
    pub value: Value,
    /// Who wrote it.
    #[serde(flatten)]
    pub written: Written,
    /// Values of a chart that were read for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Read>,
    /// What it held before, the last first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrode: Vec<Earlier>,
}

/// A place that wrote a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The file; empty where none is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// 1-based; 0 where unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// By which way: `resources`, `patches`, `images`, `values` and the like.
    pub by: String,
}

/// What a field held before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Earlier {
    /// As it was written.
    pub value: String,
    /// Who wrote that.
    #[serde(flatten)]
    pub written: Written,
}

/// A value of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Its path below `.Values`.
    pub path: String,
    /// Who gave it.
    #[serde(flatten)]
    pub written: Written,
}

/// A field that was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// A JSON pointer.
    pub path: String,
    /// What it held.
    pub was: Earlier,
    /// Who took it away.
    #[serde(flatten)]
    pub removed: Written,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(line: &usize) -> bool {
    *line == 0
}

/// As [`super::render`], with the story of each field in place of the objects.
///
/// # Errors
/// As [`super::render`].
pub fn explain(tree: &dyn Tree, path: &str, options: &Options) -> Result<Explained> {
    // What cannot be rendered cannot be explained.
    let rendered = super::render(tree, path, options)?;
    let noted = |(path, identity): &(String, String)| {
        (path.clone(), Some(identity.clone()).filter(|identity| !identity.is_empty()))
    };
    let inputs = rendered.reads.iter().map(noted).collect();
    let tree = &sops::Decrypting::new(tree, &options.keys);
    let objects = match plain::kustomization(tree, path, &options.selection)? {
        Some(folder) => kustomize::explain(tree, &folder.path, &options.kustomize)?,
        None if rendered.charts => {
            let folder = plain::chart(tree, path, &options.selection)?.map(|folder| folder.path);
            helm::explain(tree, folder.as_deref().unwrap_or(path), &options.helm)?
        }
        None => plain::explain(tree, &rendered)?,
    };
    Ok(Explained { inputs, objects, hidden: rendered.hidden })
}

impl Explanation {
    /// The head of an object, without fields yet.
    pub(super) fn of(value: &Value) -> Self {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            ..Self::default()
        }
    }
}

/// The path of a field below another.
pub(crate) fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// Every scalar and empty collection of a value with its path, in order.
pub(super) fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| leaves(value, &below(path, name), found));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, item)| leaves(item, &format!("{path}/{at}"), found));
        }
        leaf => found.push((path.to_owned(), leaf.clone())),
    }
}

/// The line of every leaf of a document, by path; merges and aliases lead to where the value is written.
pub(super) fn lines(document: &Syntax) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    walk(document, document.root, "", 0, &mut found);
    found
}

/// Beyond this depth of aliases, and as many fields, no more is said.
const MAX_DEPTH: usize = 600;
const MAX_LINES: usize = 1_000_000;

fn walk(document: &Syntax, at: usize, path: &str, depth: usize, found: &mut BTreeMap<String, usize>) {
    if depth > MAX_DEPTH || found.len() > MAX_LINES {
        return;
    }
    let node = &document.nodes[at];
    match &node.content {
        Content::Alias(target) => walk(document, *target, path, depth + 1, found),
        Content::Sequence(items) if !items.is_empty() => {
            for (number, item) in items.iter().enumerate() {
                walk(document, *item, &format!("{path}/{number}"), depth + 1, found);
            }
        }
        Content::Mapping(pairs) if !pairs.is_empty() => {
            for (key, value) in pairs {
                let Content::Scalar { text, .. } = &document.nodes[*key].content else { continue };
                if text == "<<" {
                    let merged = match &document.nodes[*value].content {
                        Content::Sequence(items) => items.clone(),
                        _ => vec![*value],
                    };
                    merged.into_iter().rev().for_each(|one| walk(document, one, path, depth + 1, found));
                    continue;
                }
                walk(document, *value, &below(path, text), depth + 1, found);
            }
        }
        _ => {
            found.insert(path.to_owned(), node.line);
        }
    }
}
