//! One binary for all behaviour areas: linking kube once instead of once for each saves minutes.

mod agent;
mod harness;
mod yaml;
