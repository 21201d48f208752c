//! YAML as kubectl reads it.

use serde_json::Value;

use crate::error::Result;

/// One document of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What kubectl would see, as JSON.
    pub value: Value,
    /// 1-based line of the document's first node.
    pub line: usize,
}

/// Reads every non-empty document of a YAML or JSON stream. `file` is for errors only.
pub fn read(_bytes: &[u8], _file: &str) -> Result<Vec<Document>> {
    Ok(Vec::new())
}
