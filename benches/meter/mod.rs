//! What benches measure with.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use kube::Client;

use crate::harness::cluster::{self, Agent};

pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// What the API server has answered, by verb.
pub(crate) async fn requests(client: &Client) -> BTreeMap<String, u64> {
    let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
    let text = client.request_text(request).await.expect("metrics");
    cluster::counts(&text, "apiserver_request_total")
}

/// What the agent itself has asked for: the control plane's own parts never stop asking.
pub(crate) async fn asked(agent: &Agent) -> BTreeMap<String, u64> {
    agent.counts("driftless_api_requests_total").await.expect("the agent answers")
}

pub(crate) fn since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let of = |verb: &String, count: &u64| count.saturating_sub(before.get(verb).copied().unwrap_or_default());
    after
        .iter()
        .map(|(verb, count)| (verb.clone(), of(verb, count)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// CPU seconds, resting and peak memory in MiB of a process.
pub(crate) fn cost(id: u32) -> (f64, u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or_default()
    };
    // 100 ticks a second on every Linux that Rust supports.
    ((ticks(11) + ticks(12)) / 100.0, kilobytes("VmRSS:") / 1024, kilobytes("VmHWM:") / 1024)
}

/// p50 and p95 in milliseconds.
pub(crate) fn percentiles(mut samples: Vec<Duration>) -> (f64, f64) {
    samples.sort();
    let at = |share: usize| {
        samples[(samples.len() * share).div_ceil(100).clamp(1, samples.len()) - 1].as_secs_f64() * 1000.0
    };
    (at(50), at(95))
}
