//! Vocabulary: what an object is, how it is named, how it is read and hashed.
//!
//! Knows nothing of clusters, Git or time. Everything else speaks in these words.

mod digest;
mod key;
mod object;
pub mod yaml;

pub use digest::Digest;
pub use key::{Gvk, Key};
pub use object::{Object, Origin};
