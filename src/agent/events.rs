//! Kubernetes events: what a pass did, for the people who run `kubectl describe`.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;

use super::Outcome;
use crate::api::Application;
use crate::error::Code;
use crate::model::{GROUP, Key, short_commit};
use crate::plan::Why;

/// Events waiting to be sent; more are dropped, since the status says the same.
const WAITING: usize = 1000;
/// How long events wait for a fleet that is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where events are handed in.
pub(super) struct Events(mpsc::Sender<(Event, ObjectReference)>);

/// What was handed in and is not sent yet.
pub(super) struct Outbox(mpsc::Receiver<(Event, ObjectReference)>);

impl Events {
    /// Two ends of one queue.
    pub(super) fn new() -> (Self, Outbox) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), Outbox(receiver))
    }

    /// A warning that is no result of a pass.
    pub(super) fn warn(&self, application: &Application, code: Code, note: &str) {
        self.send(application, EventType::Warning, code.reason().into(), note);
    }

    /// What is the matter with a rollout: about its policy, and the Application beside it.
    pub(super) fn alarm(&self, application: &Application, policy: &Key, reason: String, note: &str) {
        let about = ObjectReference {
            api_version: Some(format!("{GROUP}/v1alpha1")),
            kind: Some("RolloutPolicy".into()),
            name: Some(policy.name.clone()),
            namespace: Some(policy.namespace.clone()),
            ..ObjectReference::default()
        };
        let action = "Roll".into();
        let secondary = Some(application.object_ref(&()));
        self.queue(Event { type_: EventType::Warning, reason, note: None, action, secondary }, about, note);
    }

    fn send(&self, application: &Application, type_: EventType, reason: String, note: &str) {
        let event = Event { type_, reason, note: None, action: "Sync".into(), secondary: None };
        self.queue(event, application.object_ref(&()), note);
    }

    fn queue(&self, event: Event, about: ObjectReference, note: &str) {
        let note = Some(note.chars().take(1000).collect());
        let _ = self.0.try_send((Event { note, ..event }, about));
    }

    /// One event for the result of a pass that did something.
    pub(super) fn tell(&self, application: &Application, outcome: &Outcome, commits: &[String]) {
        let revision = commits.first().map(|commit| short_commit(commit)).unwrap_or_default();
        let repaired: Vec<_> = outcome.drift.iter().filter(|drift| drift.repaired).collect();
        let (kind, reason, note) = if let Some(failure) = outcome.failures.first() {
            (EventType::Warning, failure.error.code.reason().to_owned(), failure.error.to_string())
        } else if let Some(first) = repaired.first() {
            let by = first.by();
            let by = if by.is_empty() { by } else { format!(", changed{by}") };
            let note = format!("{} objects, first {}{by}", repaired.len(), first.key);
            (EventType::Normal, "DriftRepaired".into(), note)
        } else if let Some(contested) = outcome.drift.first().filter(|_| outcome.due.is_some()) {
            let note =
                format!("{} is changed{} again and again; repairs pause", contested.key, contested.by());
            (EventType::Warning, "Contested".into(), note)
        } else if outcome.applied.iter().any(|(_, why)| *why != Why::Moved) || !outcome.pruned.is_empty() {
            let note =
                format!("{revision}: {} applied, {} deleted", outcome.applied.len(), outcome.pruned.len());
            (EventType::Normal, "Synced".into(), note)
        } else {
            return;
        };
        self.send(application, kind, reason, &note);
    }
}

impl Outbox {
    /// Sends until the other end is gone; waits while the agent is busy.
    pub(super) async fn send_all(mut self, client: Client, is_busy: impl Fn() -> bool) {
        let reporter = Reporter { controller: "driftless".into(), instance: None };
        let recorder = Recorder::new(client, reporter);
        let mut busy_since = None;
        while let Some((event, about)) = self.0.recv().await {
            // An event is one write in five of a fleet's commit, and tells what the status says too.
            while is_busy() && busy_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if !is_busy() {
                busy_since = None;
            }
            if let Err(error) = recorder.publish(&event, &about).await {
                tracing::debug!(error = %error, "Event not written.");
            }
            // 50 a second: events are for people, and must not stand in line before applies.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
