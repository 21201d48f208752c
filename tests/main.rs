//! One binary for all behaviour areas: linking kube once instead of once for each saves minutes.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends a test, a demo or a bench"
)]

mod access;
mod admission;
mod adoption;
mod agent;
mod approvals;
mod cache;
mod canary;
mod charts;
mod cli;
mod deletion;
mod explain;
mod faults;
mod gates;
#[allow(dead_code, reason = "tests, demo and bench each take a part of the harness")]
mod harness;
mod health;
mod helm;
mod import;
mod lint;
mod moves;
mod operations;
mod places;
mod projects;
mod registry;
mod render;
mod rollout;
mod rollout_verbs;
mod routers;
mod routes;
mod secrets;
mod serving;
mod sops;
mod source;
mod substitute;
mod sync;
mod targets;
mod template;
mod tidy;
mod traffic;
mod workflows;
mod yaml;
