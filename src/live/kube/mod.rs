//! Objects in a Kubernetes cluster.
//!
//! [`Cluster`] is the connection: it discovers kinds, applies, reads and deletes. [`Index`] is what the
//! watches last saw, in 0.2 kB an object: uid, resourceVersion, generation, the fingerprint of our own
//! managedFields entry, and health; of the few objects that somebody follows, the whole. Applying needs no read before it; deciding whether to apply needs
//! no request at all.

mod account;
mod adopt;
mod backoff;
mod bodies;
mod client;
mod discovery;
mod failure;
mod index;
mod judges;
mod kubeconfig;
mod lean;
mod patience;
mod steady;
mod watch;

pub use account::Account;
pub use backoff::{Backoff, spread};
pub use bodies::{Bodies, Following};
pub use client::{Applied, Check, Cluster, Connection, Deleted, Force, Observe, Propagation};
pub use discovery::{Discovered, Resource};
pub use failure::{conflicting_managers, is_absent, translate};
pub use index::{Index, Seen};
pub use judges::Judges;
pub use kubeconfig::read as read_kubeconfig;
pub use lean::{Lean, fingerprint};
pub use steady::steady;
pub use watch::{Notice, Reach, Watches, seen};
