//! `GitOps` continuous delivery for ML platforms. A folder is a room; data walks down the list once.
//!
//! - [`error`]: every failure: code, place, reason, next command.
//! - [`model`]: vocabulary: objects, keys, digests, YAML as kubectl reads it.
//! - [`api`]: the CRDs.
//! - [`source`]: a revision and its tree: polling, fetching, credentials.
//! - [`render`]: tree to objects.
//! - [`diff`]: desired against live: field ownership, ignore rules, changes, masking.
//! - [`health`]: object to health.
//! - [`lint`]: what will fail or surprise after a merge, from the files alone.
//! - [`plan`]: desired x live x inventory to what to apply, in which order, and what to prune.
//! - [`live`]: where objects live.
//! - [`agent`]: the pipeline and its queue.
//! - [`report`]: one model of drift and previews, and its formats.
//! - [`server`]: metrics and probes.
//! - [`cli`]: one file per verb.

pub mod agent;
pub mod api;
pub mod cli;
pub mod diff;
pub mod error;
pub mod health;
pub mod lint;
pub mod live;
pub mod model;
pub mod plan;
pub mod render;
pub mod report;
pub mod rollout;
pub mod server;
pub mod source;
