//! What the agent counts, in Prometheus' terms.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Action {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    verb: &'static str,
}

/// All metrics, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    passes: Family<Verdict, Counter>,
    pass_seconds: Histogram,
    polls: Family<Verdict, Counter>,
    poll_seconds: Histogram,
    objects: Family<Action, Counter>,
    requests: Family<Verb, Counter>,
    /// Applications known.
    pub applications: Gauge,
    /// Applications by what they are not: a gauge for each state.
    pub unready: Gauge,
    /// Passes waiting.
    pub queued: Gauge,
    /// Live objects in the index.
    pub watched: Gauge,
    commit_to_applied: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("driftless");
        let seconds = || Histogram::new(exponential_buckets(0.001, 4.0, 9));
        let new = Self {
            passes: Family::default(),
            pass_seconds: seconds(),
            polls: Family::default(),
            poll_seconds: seconds(),
            objects: Family::default(),
            requests: Family::default(),
            applications: Gauge::default(),
            unready: Gauge::default(),
            queued: Gauge::default(),
            watched: Gauge::default(),
            commit_to_applied: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("passes", "Passes over applications that ended, by result", new.passes.clone());
        registry.register_with_unit(
            "pass_duration",
            "Time of a pass",
            Unit::Seconds,
            new.pass_seconds.clone(),
        );
        registry.register("polls", "Polls of repositories that ended, by result", new.polls.clone());
        registry.register_with_unit(
            "poll_duration",
            "Time of a poll and its fetch",
            Unit::Seconds,
            new.poll_seconds.clone(),
        );
        registry.register("objects", "Objects written, by action", new.objects.clone());
        registry.register("api_requests", "Requests to the API server, by verb", new.requests.clone());
        registry.register("applications", "Applications known", new.applications.clone());
        registry.register("applications_unready", "Applications that are not Ready", new.unready.clone());
        registry.register("queue_length", "Applications waiting for a pass", new.queued.clone());
        registry.register("watched_objects", "Live objects in the index", new.watched.clone());
        registry.register_with_unit(
            "time_from_commit_to_applied",
            "Of the newest commit applied: from its time to the end of its pass",
            Unit::Seconds,
            new.commit_to_applied.clone(),
        );
        Self { registry, ..new }
    }
}

fn verdict(ok: bool) -> Verdict {
    Verdict { result: if ok { "ok" } else { "failed" } }
}

impl Metrics {
    /// A pass ended: `ok`, `failed`, or `waiting` where there was no commit to look at yet.
    pub fn passed(&self, result: &'static str, time: Duration) {
        self.passes.get_or_create(&Verdict { result }).inc();
        self.pass_seconds.observe(time.as_secs_f64());
    }

    /// A poll ended.
    pub fn polled(&self, ok: bool, time: Duration) {
        self.polls.get_or_create(&verdict(ok)).inc();
        self.poll_seconds.observe(time.as_secs_f64());
    }

    /// A request was sent to the API server.
    pub fn asked(&self, verb: &'static str) {
        self.requests.get_or_create(&Verb { verb }).inc();
    }

    /// Objects were written.
    pub fn wrote(&self, action: &'static str, count: usize) {
        if count > 0 {
            self.objects.get_or_create(&Action { action }).inc_by(count as u64);
        }
    }

    /// A commit was applied in full this many seconds after it was made.
    pub fn applied_after(&self, seconds: f64) {
        self.commit_to_applied.set(seconds);
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
