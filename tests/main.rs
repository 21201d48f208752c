//! One binary for all behaviour areas: linking kube once instead of once for each saves minutes.
#![expect(missing_docs, reason = "tests")]

mod agent;
mod harness;
mod yaml;
