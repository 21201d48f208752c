//! Vocabulary: what an object is, how it is named, how it is read and hashed.
//!
//! Knows nothing of clusters, Git or time. Everything else speaks in these words.

mod confidential;
mod digest;
mod key;
mod object;
mod patch;
pub mod yaml;

pub use confidential::{Confidential, MASK};
pub use digest::Digest;
pub use key::{Gvk, Key, is_cluster_scoped};
pub use object::{Described, Object, Origin};
pub use patch::merge_patch;

/// As much of a commit id as people read: its first 7 characters.
pub fn short_commit(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// The label on every top-level object that an application manages: `NAMESPACE.NAME`, cut and hashed
/// beyond 63 characters. It finds objects for the watches; it never decides a deletion.
pub const TRACKING_LABEL: &str = "driftless.dev/application";
