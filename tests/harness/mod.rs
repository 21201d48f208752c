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

/// Listens on a port that no server of this process had before: whoever knows a repository by its address, as the agent of
/// all tests does, would take another one's for it.
pub(crate) async fn listener() -> tokio::net::TcpListener {
    static HAD: std::sync::Mutex<std::collections::BTreeSet<u16>> =
        std::sync::Mutex::new(std::collections::BTreeSet::new());
    // Those are kept until a new one is found, or the same would come again.
    let mut taken = Vec::new();
    loop {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        if HAD.lock().expect("no test panics here").insert(port) {
            return listener;
        }
        taken.push(listener);
    }
}
