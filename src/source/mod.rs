//! A revision and its tree.
//!
//! A poll asks one question (`ls-refs` of protocol v2, one request, a few hundred bytes); a fetch brings
//! one commit without its history into a bare repository of the cache; trees are read from there in
//! memory. Nothing is checked out and no process is started.
//!
//! The wire is ours and the object database is libgit2's: libgit2 speaks only protocol v0, whose every
//! poll downloads all refs, and would bring a second TLS stack. The same protocol code runs over HTTP
//! and SSH.
//!
//! Charts and artifacts come from Helm repositories (`helm`) and OCI registries (`oci`); what is unpacked is kept
//! in the same object database, so that everything after it sees one kind of tree.
//!
//! Must not know what the files mean, nor any cluster.

mod artifact;
mod client;
mod credentials;
mod folder;
mod github;
mod helm;
mod history;
mod known_hosts;
mod location;
mod oci;
mod pack;
mod pause;
mod revision;
mod store;
mod unpacked;
mod version;
mod web;
mod wire;

pub use client::{Client, Limits, Resolved};
pub use credentials::{Credentials, RegistryAccount};
pub use folder::FolderTree;
pub use github::GitHubApp;
pub use location::Location;
pub use revision::{Pinned, Revision};
pub use store::{GitTree, Snapshot};
