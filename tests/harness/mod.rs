//! Real parts for tests, the demo and the benches: a Kubernetes control plane, a Git server, a registry.

pub(crate) mod chart_case;
pub(crate) mod cluster;
pub(crate) mod crds;
pub(crate) mod fault;
pub(crate) mod front;
pub(crate) mod git;
pub(crate) mod haproxy;
pub(crate) mod installed;
pub(crate) mod monitoring;
pub(crate) mod registry;
pub(crate) mod serving;
pub(crate) mod ssh;

use std::time::{Duration, Instant};

/// What differs from a recorded text; `UPDATE=1` records it instead.
pub(crate) fn stale(golden: &std::path::Path, found: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, found).expect("recorded");
        return None;
    }
    let known = std::fs::read_to_string(golden).unwrap_or_default();
    (known != found).then(|| format!("{}:\n{found}", golden.display()))
}

/// Waits until something is so; says what was waited for when it is not.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "after 120 s still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
