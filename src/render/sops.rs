//! Files that SOPS encrypted, read in memory.

use std::fmt;

/// age identities; never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// `AGE-SECRET-KEY-1...`, one each.
    pub age: Vec<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(***)")
    }
}
