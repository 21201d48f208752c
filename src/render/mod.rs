//! From a tree of files to objects.
//!
//! Synchronous and pure: it reads through [`Tree`] and knows neither Git, nor a file system, nor a
//! cluster. What it read decides whether it must be done again (see [`Rendered::reads`]).

mod memory;
mod plain;
pub mod tree;

pub use memory::MemoryTree;
pub use plain::{Selection, render};
pub use tree::{Entry, EntryKind, Tree, join};

use std::sync::Arc;

use crate::model::{Digest, Object};

/// The result of one render.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// In the order of files (by path) and documents.
    pub objects: Arc<[Object]>,
    /// Paths read and the identity each had: while all are unchanged, so is the result.
    pub reads: Vec<(String, String)>,
}

impl Rendered {
    /// Digest over the canonical bytes of all objects, in order.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(self.objects.iter().map(Object::canonical))
    }
}

/// Whether a file of this name is taken for a manifest where nothing else is said.
pub fn is_manifest(path: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end))
}
