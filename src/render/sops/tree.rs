//! What SOPS sees of a file: maps in the order of the text, lists, leaves; and the walk over it that opens the
//! encrypted leaves and computes the MAC.

use std::ops::Range;

use aes_gcm::aead::consts::{U12, U32};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce};
use aes_gcm::{AesGcm, aes::Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::failed;
use super::metadata::Rules;
use crate::error::Result;

/// SHA-256 of `sops`: what a MAC over encrypted values alone begins with.
const ENCRYPTED_ONLY: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0xb, 0xb, 0x97,
    0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// A part of a file.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Map(Vec<Pair>),
    List(Vec<Node>),
    Leaf(Leaf),
}

/// A key and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: String,
    /// Where the key begins, in bytes.
    pub(super) at: usize,
    pub(super) node: Node,
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) value: Plain,
    pub(super) span: Range<usize>,
    /// 1-based; 0 where unknown.
    pub(super) line: usize,
    /// It was encrypted and is not any more.
    pub(super) opened: bool,
}

/// A value as SOPS types it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// RFC 3339.
    Time(String),
    /// The text of a comment, without its mark.
    Comment(String),
}

impl Plain {
    /// What goes into the MAC, and what a mask looks for.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(true) => "True".into(),
            Self::Bool(false) => "False".into(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.into(),
            // Shortest digits, never an exponent: Go's format 'f'.
            Self::Float(value) => value.to_string(),
            Self::Text(text) | Self::Time(text) | Self::Comment(text) => text.clone(),
        }
    }
}

impl Node {
    /// As JSON, for metadata and annotations.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Map(pairs) => {
                Value::Object(pairs.iter().map(|pair| (pair.key.clone(), pair.node.value())).collect())
            }
            Self::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Self::Leaf(leaf) => match &leaf.value {
                Plain::Null => Value::Null,
                Plain::Bool(value) => (*value).into(),
                Plain::Int(value) => (*value).into(),
                Plain::Float(value) => (*value).into(),
                Plain::Text(text) | Plain::Time(text) | Plain::Comment(text) => text.as_str().into(),
            },
        }
    }

    /// Whether this is a comment in place of an item.
    pub(super) fn is_comment(&self) -> bool {
        matches!(self, Self::Leaf(Leaf { value: Plain::Comment(_), .. }))
    }
}

/// Whether a text has the form of an encrypted value.
pub(super) fn is_encrypted(text: &str) -> bool {
    Sealed::parse(text).is_some()
}

/// `ENC[AES256_GCM,data:...,iv:...,tag:...,type:...]`.
struct Sealed<'a> {
    data: &'a str,
    nonce: &'a str,
    tag: &'a str,
    kind: &'a str,
}

impl<'a> Sealed<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
        let (data, rest) = inner.split_once(",iv:")?;
        let (nonce, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        Some(Self { data, nonce, tag, kind })
    }
}

/// Opens the values of one file and hashes them on the way.
pub(super) struct Walk<'a> {
    key: &'a [u8],
    rules: &'a Rules,
    hash: Sha512,
    path: Vec<String>,
    /// What was opened.
    pub(super) opened: Vec<Zeroizing<String>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(key: &'a [u8], rules: &'a Rules) -> Self {
        let mut hash = Sha512::new();
        if rules.mac_only_encrypted {
            hash.update(ENCRYPTED_ONLY);
        }
        Self { key, rules, hash, path: Vec::new(), opened: Vec::new() }
    }

    /// The MAC of everything walked.
    pub(super) fn mac(self) -> (String, Vec<Zeroizing<String>>) {
        let hex = self.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        (hex, self.opened)
    }

    /// All of a node. The depth is bounded by whoever read it.
    pub(super) fn node(&mut self, node: &mut Node) -> Result<()> {
        match node {
            Node::Map(pairs) => pairs.iter_mut().try_for_each(|pair| {
                self.path.push(pair.key.clone());
                let result = self.node(&mut pair.node);
                self.path.pop();
                result
            }),
            // A list adds nothing to the path of its items.
            Node::List(items) => items.iter_mut().try_for_each(|item| match item {
                // SOPS writes the comments of a list as items of it.
                Node::Leaf(leaf) => self.leaf(leaf, true),
                item => self.node(item),
            }),
            Node::Leaf(leaf) => self.leaf(leaf, false),
        }
    }

    fn leaf(&mut self, leaf: &mut Leaf, in_list: bool) -> Result<()> {
        let line = leaf.line;
        self.unlock(leaf, in_list).map_err(|error| error.at(line, 0))
    }

    fn unlock(&mut self, leaf: &mut Leaf, in_list: bool) -> Result<()> {
        if leaf.value == Plain::Null {
            return Ok(());
        }
        let place = || self.path.join(".");
        let text = if let Plain::Text(text) | Plain::Comment(text) = &leaf.value {
            Some(text.as_str())
        } else {
            None
        };
        let is_comment = matches!(leaf.value, Plain::Comment(_));
        let encrypted = match self.rules.encrypts(&self.path) {
            Some(encrypted) => encrypted,
            // Rules over comments: what has the form of an encrypted value is one, and the MAC vouches for the rest.
            None => text.is_some_and(is_encrypted),
        };
        if encrypted {
            let text = text.ok_or_else(|| failed(format!("{} should be encrypted and is not", place())))?;
            // Nothing is encrypted as nothing.
            if !text.is_empty() {
                let aad = format!("{}:", self.path.join(":"));
                match open(text, self.key, &aad) {
                    Ok(value) => {
                        self.opened.push(Zeroizing::new(value.text()));
                        if matches!(value, Plain::Comment(_)) && !is_comment && !in_list {
                            return Err(failed(format!("{} holds a comment in place of a value", place())));
                        }
                        leaf.value = if is_comment { Plain::Comment(value.text()) } else { value };
                        leaf.opened = true;
                    }
                    // Old versions left comments as they were.
                    Err(_) if is_comment => {}
                    Err(why) => return Err(failed(format!("{} {why}", place()))),
                }
            }
        }
        let is_comment = matches!(leaf.value, Plain::Comment(_));
        if !is_comment && (encrypted || !self.rules.mac_only_encrypted) {
            self.hash.update(Zeroizing::new(leaf.value.text()).as_bytes());
        }
        Ok(())
    }
}

/// Opens one value; the reason never holds any of it.
pub(super) fn open(text: &str, key: &[u8], aad: &str) -> Result<Plain, &'static str> {
    let sealed = Sealed::parse(text).ok_or("should be encrypted and is not")?;
    let decode = |part: &str| STANDARD.decode(part).map_err(|_| "holds no base64 where it should");
    let (mut data, nonce, tag) =
        (Zeroizing::new(decode(sealed.data)?), decode(sealed.nonce)?, decode(sealed.tag)?);
    let changed = "was changed, moved, or encrypted with another data key";
    let tag = <[u8; 16]>::try_from(tag).map_err(|_| changed)?;
    let buffer = InOutBuf::from(data.as_mut_slice());
    let opened = match nonce.len() {
        32 => {
            let cipher = AesGcm::<Aes256, U32>::new_from_slice(key).map_err(|_| changed)?;
            let nonce = Nonce::<AesGcm<Aes256, U32>>::try_from(nonce.as_slice()).map_err(|_| changed)?;
            cipher.decrypt_inout_detached(&nonce, aad.as_bytes(), buffer, &tag.into())
        }
        12 => {
            let cipher = AesGcm::<Aes256, U12>::new_from_slice(key).map_err(|_| changed)?;
            let nonce = Nonce::<AesGcm<Aes256, U12>>::try_from(nonce.as_slice()).map_err(|_| changed)?;
            cipher.decrypt_inout_detached(&nonce, aad.as_bytes(), buffer, &tag.into())
        }
        _ => return Err("has an initialisation vector of a length that sops does not write"),
    };
    opened.map_err(|_| changed)?;
    let text = String::from_utf8(data.to_vec())
        .map_err(|_| "is not UTF-8 once decrypted, which no manifest can hold")?;
    let mismatch = "is not what its type says";
    Ok(match sealed.kind {
        "str" | "bytes" => Plain::Text(text),
        "int" => Plain::Int(text.parse().map_err(|_| mismatch)?),
        "float" => Plain::Float(text.parse().map_err(|_| mismatch)?),
        "bool" => match text.as_str() {
            "True" | "true" | "TRUE" | "t" | "T" | "1" => Plain::Bool(true),
            "False" | "false" | "FALSE" | "f" | "F" | "0" => Plain::Bool(false),
            _ => return Err(mismatch),
        },
        "time" => Plain::Time(text),
        "comment" => Plain::Comment(text),
        _ => return Err("has a type that this version does not know"),
    })
}
