//! Files that SOPS encrypted, read in memory.
//!
//! [`Decrypting`] stands before a tree: whoever reads a file through it, a plain manifest, a kustomization's
//! generator, a chart's values, reads it decrypted. What an entry is known by stays the identity of the encrypted
//! content, so no cache key holds anything of the clear text.
//!
//! A file goes through: its format (by content) -> a `tree` of keys and leaves -> `metadata` (for whom, what, MAC)
//! -> data key (`age`, `shamir`) -> every leaf opened and hashed -> MAC compared -> text, with values in place.

mod age;
mod json;
mod lines;
mod metadata;
mod shamir;
mod tree;
mod yaml;

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use self::metadata::{Metadata, is_metadata};
use self::tree::{Node, Walk};
use crate::error::{Code, Error, Result};
use crate::model::{Confidential, Digest, Object};
use crate::render::{Entry, Tree};

/// Largest encrypted file, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// Most identities.
const MAX_KEYS: usize = 200;
/// Flux's annotation, with the value `disabled`: the document stays encrypted.
const DECRYPT: &str = "kustomize.toolkit.fluxcd.io/decrypt";

/// age identities; never shown, and wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    identities: Vec<age::Identity>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.identities.len())
    }
}

impl Keys {
    /// Adds the identities of a file as `age-keygen` writes it: one a line, comments and empty lines between.
    ///
    /// # Errors
    /// `DecryptionFailed` with `from` and the line, never with any of its text.
    pub fn add(&mut self, text: &str, from: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = age::Identity::parse(line)
                .map_err(|why| failed(format!("line {} of {from} {why}", number + 1)))?;
            if !self.identities.contains(&identity) {
                self.identities.push(identity);
            }
            if self.identities.len() > MAX_KEYS {
                return Err(failed(format!("{from} brings the number of identities beyond {MAX_KEYS}")));
            }
        }
        Ok(())
    }

    /// A hash over all of them, for whoever needs a secret that changes with the keys.
    pub fn fingerprint(&self) -> Digest {
        let mut all = Zeroizing::new(b"driftless age identities".to_vec());
        self.identities.iter().for_each(|identity| all.extend_from_slice(identity.secret()));
        Digest::of(&all)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }
}

fn failed(why: impl Into<String>) -> Error {
    Error::new(Code::DecryptionFailed, why)
}

/// One part of a file that has a MAC of its own.
struct Part {
    root: Node,
    removed: Range<usize>,
}

/// A file's clear text.
pub struct Opened {
    /// As `sops -d` gives it, or with the same values.
    pub text: Zeroizing<Vec<u8>>,
    /// The values that were encrypted.
    pub hidden: Confidential,
}

/// Opens a file where SOPS encrypted it; `None` where it did not. `path` decides between formats that look alike.
///
/// # Errors
/// `DecryptionFailed` with the file: no identity fits, a value or the MAC was changed, a form that sops does not
/// write.
pub fn open(bytes: &[u8], path: &str, keys: &Keys) -> Result<Option<Opened>> {
    open_file(bytes, path, keys).map_err(|error| {
        let error = error.in_file(path);
        if error.code != Code::DecryptionFailed || error.hint.is_some() {
            return error;
        }
        error.hint("spec.source.decryption.secretRef names the Secret with the age identity (keys ending in .agekey); on the command line SOPS_AGE_KEY_FILE names a file")
    })
}

fn open_file(bytes: &[u8], path: &str, keys: &Keys) -> Result<Option<Opened>> {
    let has = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    if !has("sops") || !(has("lastmodified") || has("mac")) {
        return Ok(None);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let manifest = matches!(extension, "yaml" | "yml" | "json");
    if let Some(pairs) = text.trim_start().starts_with('{').then(|| json::read(text)).flatten() {
        return open_json(text.len(), pairs, !manifest, keys);
    }
    let of_lines = match extension {
        "yaml" | "yml" | "json" => None,
        "ini" => lines::ini(text)?,
        _ => lines::dotenv(text)?,
    };
    let of_lines = match of_lines {
        None if !manifest => lines::ini(text)?,
        found => found,
    };
    if let Some(mut file) = of_lines {
        if !is_metadata(&file.sops) {
            return Ok(None);
        }
        check_size(text.len())?;
        let hidden = unlock(&file.sops, &mut [&mut file.root], keys)?;
        return Ok(Some(Opened { text: Zeroizing::new(file.write().into_bytes()), hidden }));
    }
    if text.lines().any(|line| line.starts_with("sops:") || line.starts_with("\"sops\":")) {
        return open_yaml(text, keys);
    }
    // Indented, or in braces: rare, so whoever only writes about sops pays for one reading more.
    let may_be = text.contains("sops") && text.contains("mac:") && yaml::read(text).is_ok();
    if may_be { open_yaml(text, keys) } else { Ok(None) }
}

fn check_size(bytes: usize) -> Result<()> {
    if bytes > MAX_BYTES {
        Err(failed("it is larger than 16 MiB, too large for an encrypted file"))
    } else {
        Ok(())
    }
}

fn open_json(
    size: usize,
    mut pairs: Vec<tree::Pair>,
    may_be_binary: bool,
    keys: &Keys,
) -> Result<Option<Opened>> {
    let parts: Vec<Value> =
        pairs.iter().filter(|pair| pair.key == "sops").map(|pair| pair.node.value()).collect();
    let sops = match &parts[..] {
        [sops] if is_metadata(sops) => sops,
        [] | [_] => return Ok(None),
        _ => return Err(failed("it has two sops parts")),
    };
    check_size(size)?;
    pairs.retain(|pair| pair.key != "sops");
    let binary = may_be_binary && matches!(&pairs[..], [pair] if pair.key == "data");
    let mut root = Node::Map(pairs);
    if is_left_alone(&root) {
        return Ok(None);
    }
    let hidden = unlock(sops, &mut [&mut root], keys)?;
    let text = match (&root, binary) {
        (Node::Map(pairs), true) => match pairs.first().map(|pair| &pair.node) {
            Some(Node::Leaf(leaf)) => leaf.value.text(),
            _ => return Err(failed("it has the form of a binary file and holds no text")),
        },
        _ => json::write(&root),
    };
    Ok(Some(Opened { text: Zeroizing::new(text.into_bytes()), hidden }))
}

/// Documents with one MAC are one file to SOPS; others are each a file of their own, and those without stay.
fn open_yaml(text: &str, keys: &Keys) -> Result<Option<Opened>> {
    let mut documents = yaml::read(text)?;
    documents.retain(|document| document.sops.is_none() || !is_left_alone(&document.root));
    if documents.iter().all(|document| document.sops.is_none()) {
        return Ok(None);
    }
    check_size(text.len())?;
    let mut hidden = Confidential::default();
    let mut parts: Vec<Part> = Vec::new();
    let mut rest: Vec<yaml::Document> =
        documents.into_iter().filter(|document| document.sops.is_some()).collect();
    while !rest.is_empty() {
        let Some((sops, _)) = rest[0].sops.clone() else { break };
        let (same, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|document| {
            document.sops.as_ref().is_some_and(|(other, _)| other["mac"] == sops["mac"])
        });
        rest = others;
        let mut group: Vec<Part> = same
            .into_iter()
            .filter_map(|document| document.sops.map(|(_, removed)| Part { root: document.root, removed }))
            .collect();
        let mut roots: Vec<&mut Node> = group.iter_mut().map(|part| &mut part.root).collect();
        hidden.merge(&unlock(&sops, &mut roots, keys)?);
        parts.append(&mut group);
    }
    let text = yaml::write(text, &parts)?;
    Ok(Some(Opened { text: Zeroizing::new(text.into_bytes()), hidden }))
}

fn is_left_alone(root: &Node) -> bool {
    root.value()["metadata"]["annotations"][DECRYPT] == "disabled"
}

/// Opens all values below the roots, in their order, and holds them against the MAC.
fn unlock(sops: &Value, roots: &mut [&mut Node], keys: &Keys) -> Result<Confidential> {
    let metadata = Metadata::parse(sops)?;
    let key = metadata.data_key(keys)?;
    let mut walk = Walk::new(&key, &metadata.rules);
    roots.iter_mut().try_for_each(|root| walk.node(root))?;
    let (computed, opened) = walk.mac();
    metadata.verify(&key, &computed)?;
    let mut hidden = Confidential::default();
    opened.iter().for_each(|value| hide(value, &mut hidden));
    Ok(hidden)
}

/// Hides a value, and where it is a file by itself (a binary file, a configuration in one field) what stands in it:
/// the object that is read from it holds only parts.
fn hide(value: &str, hidden: &mut Confidential) {
    hidden.add(value);
    if !value.trim().contains('\n') && !value.starts_with('{') {
        return;
    }
    for line in value.lines() {
        if let Some((_, part)) = line.split_once('=') {
            hidden.add(part.trim().trim_matches(['"', '\'']));
        }
    }
    for document in crate::model::yaml::read(value.as_bytes(), "").unwrap_or_default() {
        hide_leaves(&document.value, hidden);
    }
}

fn hide_leaves(value: &Value, hidden: &mut Confidential) {
    match value {
        // They tell nothing by themselves, and are everywhere.
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => hidden.add(&number.to_string()),
        Value::String(text) => hidden.add(text),
        Value::Array(items) => items.iter().for_each(|item| hide_leaves(item, hidden)),
        Value::Object(fields) => fields.values().for_each(|field| hide_leaves(field, hidden)),
    }
}

/// A tree whose encrypted files are read decrypted.
pub struct Decrypting<'a> {
    tree: &'a dyn Tree,
    keys: &'a Keys,
    hidden: RefCell<Confidential>,
}

impl<'a> Decrypting<'a> {
    /// Stands before `tree`.
    pub fn new(tree: &'a dyn Tree, keys: &'a Keys) -> Self {
        Self { tree, keys, hidden: RefCell::default() }
    }

    /// What was decrypted so far.
    pub fn hidden(&self) -> Confidential {
        self.hidden.borrow().clone()
    }
}

impl Tree for Decrypting<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        self.tree.entry(path)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.tree.list(path)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let bytes = self.tree.read(path)?;
        let Some(opened) = open(&bytes, path, self.keys)? else { return Ok(bytes) };
        self.hidden.borrow_mut().merge(&opened.hidden);
        Ok(opened.text.to_vec())
    }

    fn is_mount(&self, name: &str) -> bool {
        self.tree.is_mount(name)
    }

    fn remote(&self, repository: &str, commit: &str) -> Option<String> {
        self.tree.remote(repository, commit)
    }
}

/// Refuses an object that would be applied as SOPS encrypted it: what came into it by another way than a file.
///
/// # Errors
/// `DecryptionFailed` with the object and its place.
pub(super) fn refuse_encrypted(object: &Object) -> Result<()> {
    if object.annotation(DECRYPT) == Some("disabled") {
        return Ok(());
    }
    let why = if is_metadata(&object.value()["sops"]) {
        "it still is as SOPS encrypted it; encrypt files, not what a template makes"
    } else if holds_encrypted(object.value()) {
        "a field holds a value that SOPS encrypted; encrypt files, not parameters"
    } else {
        return Ok(());
    };
    let origin = object.origin();
    Err(failed(why).on_object(object.key()).in_file(&origin.file).at(origin.line, 0))
}

fn holds_encrypted(value: &Value) -> bool {
    match value {
        Value::String(text) => tree::is_encrypted(text) || is_encrypted_in_base64(text),
        Value::Array(items) => items.iter().any(holds_encrypted),
        Value::Object(fields) => fields.values().any(holds_encrypted),
        _ => false,
    }
}

/// As in the data of a Secret; `RU5DW` is what every such text begins with.
fn is_encrypted_in_base64(text: &str) -> bool {
    let compact = || text.split_ascii_whitespace().collect::<String>();
    let decode = || STANDARD.decode(compact()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.starts_with("RU5DW") && decode().is_some_and(|text| tree::is_encrypted(text.trim()))
}
