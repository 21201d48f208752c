//! What the agent is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::live::kube::Connection;
use crate::source::Limits;

/// Built once from the command line.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster.
    pub connection: Connection,
    /// Watches Applications of one namespace only; all where `None`.
    pub namespace: Option<String>,
    /// The `ServiceAccount` of Applications that state none; the agent's own where `None`.
    pub default_account: Option<String>,
    /// Folder for fetched repositories; may be empty at every start.
    pub cache: PathBuf,
    /// Time between two polls of a repository, unless an Application says otherwise.
    pub interval: Duration,
    /// Passes that run at once.
    pub workers: usize,
    /// Time between two deep checks of an application, which apply every object again; zero turns them off.
    pub deep_check: Duration,
    /// Namespace and name of the `ConfigMap` with rules of health for all applications.
    pub health_rules: Option<(String, String)>,
    /// Address of /metrics, /livez and /readyz.
    pub listen: Option<SocketAddr>,
    /// Limits of Git.
    pub limits: Limits,
}
