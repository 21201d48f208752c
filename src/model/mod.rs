//! Vocabulary: what an object is, how it is named, how it is read and hashed.
//!
//! Knows nothing of clusters, Git or time. Everything else speaks in these words.

mod confidential;
mod digest;
mod duration;
mod expression;
mod generated;
mod key;
mod object;
mod patch;
mod quantity;
pub mod yaml;

pub use confidential::{Confidential, MASK};
pub use digest::Digest;
pub use duration::duration;
pub use expression::{Expression, LONGEST as LONGEST_EXPRESSION, longest, longest_text, one_line};
pub use generated::{Generated, Renewed, keep};
pub use key::{Gvk, Key, is_cluster_scoped};
pub use object::{Described, Object, Origin};
pub use patch::merge_patch;
pub use quantity::quantity;

/// As much of a commit id as people read: its first 7 characters; `1.2.3@sha256:` and 7 characters of a chart or
/// artifact.
pub fn short_commit(commit: &str) -> &str {
    const DIGEST: &str = "sha256:";
    let begin = commit.find(DIGEST).map_or(0, |at| at + DIGEST.len());
    commit.get(..begin + 7).unwrap_or(commit)
}

/// The API group of our own kinds.
pub const GROUP: &str = "driftless.dev";

/// The label on every top-level object that an application manages: `NAMESPACE.NAME`, cut and hashed
/// beyond 63 characters. It finds objects for the watches; it never decides a deletion.
pub const TRACKING_LABEL: &str = "driftless.dev/application";

#[cfg(test)]
mod tests {
    use super::short_commit;

    #[test]
    fn short_revisions() {
        let digest = format!("sha256:{}", "0123456789".repeat(6));
        assert_eq!(short_commit(&"0123456789".repeat(4)), "0123456");
        assert_eq!(short_commit(&digest), "sha256:0123456");
        assert_eq!(short_commit(&format!("1.2.3@{digest}")), "1.2.3@sha256:0123456");
        assert_eq!(short_commit("abc"), "abc");
    }
}
