//! What a pass means, in conditions.

use jiff::Timestamp;

use super::{Failure, Outcome};
use crate::api::{
    Application, ApplicationStatus, Condition, ConditionStatus, HealthStatus, History, Inventory,
    OperationState, OperationStatus, PruneStatus, Source, SourceStatus, SyncState, second, set_condition,
};
use crate::error::{Code, Error};
use crate::health::{Health, Status};
use crate::model::Digest;
use crate::source::Snapshot;

/// Everything that a status is made of.
pub struct Summary<'a> {
    /// The Application.
    pub application: &'a Application,
    /// The commits of its sources that were used; empty where none is known.
    pub snapshots: &'a [Snapshot],
    /// Why a source could not be polled.
    pub source: Option<&'a Error>,
    /// Why there is no render.
    pub render: Option<&'a Error>,
    /// What of it the Project refuses, so that none of it is applied.
    pub refused: Option<&'a Error>,
    /// What was done; `None` where it did not come to that.
    pub outcome: Option<&'a Outcome>,
    /// Something was written since the status was.
    pub wrote: bool,
    /// Kinds that cannot be watched, and other failures that are not of one object.
    pub blind: Option<&'a Error>,
    /// Digest of what is wanted.
    pub digest: Option<Digest>,
    /// The worst health.
    pub health: Health,
    /// What belongs into the status of the inventory.
    pub inventory: Inventory,
    /// The sync request that was carried out.
    pub sync_request: String,
}

impl From<(&Snapshot, &Source)> for SourceStatus {
    fn from((snapshot, source): (&Snapshot, &Source)) -> Self {
        let (reference, revision) = (snapshot.reference.clone(), snapshot.commit.clone());
        Self { repo: source.repo.clone(), reference, revision }
    }
}

fn condition(
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: String,
    generation: i64,
) -> Condition {
    // 32 KiB is the API convention's limit of a message; 1,000 characters are what a person reads.
    let message =
        if message.len() > 1000 { message.chars().take(997).chain("...".chars()).collect() } else { message };
    Condition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message,
        last_transition_time: String::new(),
        observed_generation: generation,
    }
}

pub(super) fn described(error: &Error) -> String {
    match &error.hint {
        Some(hint) => format!("{error}; {hint} [{}]", error.code.number()),
        None => format!("{error} [{}]", error.code.number()),
    }
}

fn failures(all: &[Failure]) -> Option<(&Error, String)> {
    let first = all.first()?;
    let more = if all.len() > 1 { format!(" (and {} more)", all.len() - 1) } else { String::new() };
    Some((&first.error, format!("{}{more}", described(&first.error))))
}

/// Writes a new status over the old one.
pub fn compose(summary: &Summary<'_>, now: Timestamp) -> ApplicationStatus {
    use ConditionStatus::{False, True, Unknown};
    let mut status = summary.application.status.clone().unwrap_or_default();
    let generation = summary.application.metadata.generation.unwrap_or_default();
    let spec = &summary.application.spec;
    status.observed_generation = generation;
    status.inventory = summary.inventory.clone();
    if !summary.sync_request.is_empty() {
        status.last_sync_request.clone_from(&summary.sync_request);
    }
    let commits: Vec<String> = summary.snapshots.iter().map(|snapshot| snapshot.commit.clone()).collect();
    if let Some(first) = commits.first() {
        status.observed_revision.clone_from(first);
        status.sources = summary.snapshots.iter().zip(spec.sources()).map(SourceStatus::from).collect();
    }

    let had_held = status.condition("PruneHeld").is_some();
    let mut set = |kind: &str, state: ConditionStatus, reason: &str, message: String| {
        set_condition(&mut status.conditions, condition(kind, state, reason, message, generation), now);
    };
    match summary.source {
        Some(error) => set("SourceReady", False, error.code.reason(), described(error)),
        None if commits.is_empty() => {
            set("SourceReady", Unknown, "Pending", "the first poll has not ended".into());
        }
        None => set("SourceReady", True, "Fetched", String::new()),
    }
    match summary.render {
        Some(error) => set("Rendered", False, error.code.reason(), described(error)),
        None if summary.digest.is_some() => set("Rendered", True, "Rendered", String::new()),
        None => {}
    }
    // Before what else failed: a repair that failed is no news while a person must act.
    let failed = summary.refused.map(|error| (error, described(error)));
    let failed = failed.or_else(|| summary.outcome.and_then(|outcome| failures(&outcome.failures)));
    let failed = failed.or_else(|| summary.blind.map(|error| (error, described(error))));
    let broken = summary.outcome.and_then(|outcome| outcome.operation.as_ref()).and_then(broken);
    let rejected = summary.outcome.and_then(rejected);
    let failed = failed.or_else(|| rejected.as_ref().map(|error| (error, described(error))));
    let failed = failed.or_else(|| broken.as_ref().map(|error| (error, described(error))));
    let mut applied = false;
    if let Some(outcome) = summary.outcome {
        if let Some((error, message)) = &failed {
            set("Applied", False, error.code.reason(), message.clone());
        } else if let Some(stay) = &outcome.stays {
            set("Applied", False, stay.reason, stay.why.clone());
        } else if let Some((key, health)) = outcome.rolling.first() {
            set("Applied", False, rolling(health), format!("{key}: {}", health.reason));
        } else if let Some(first) = outcome.pending.first() {
            let message =
                format!("{} objects wait for `driftless sync`, first {first}", outcome.pending.len());
            let (reason, message) = match &spec.suspend {
                Some(hold) => {
                    ("Suspended", format!("suspended by {}: {}; {message}", word(&hold.by), word(&hold.why)))
                }
                None => ("WaitingForSync", message),
            };
            set("Applied", False, reason, message);
        } else if !outcome.waits.is_empty() {
            set("Applied", False, "Syncing", outcome.waits.clone());
        } else if outcome.is_done() {
            applied = summary.render.is_none();
            set("Applied", True, "Applied", format!("{} objects", outcome.inventory.len()));
        }
        let open: Vec<_> = outcome.drift.iter().filter(|drift| !drift.repaired).collect();
        match open.first() {
            Some(first) => {
                let by = first.by();
                let held = if outcome.due.is_some() {
                    "; it was repaired several times and is changed again, the next repair waits"
                } else {
                    ""
                };
                let message = format!(
                    "{} objects differ from Git, first {} ({:?}{by}){held}",
                    open.len(),
                    first.key,
                    first.why
                );
                set("Drifted", True, if held.is_empty() { "Drifted" } else { "Contested" }, message);
            }
            None => set("Drifted", False, "InSync", String::new()),
        }
        if outcome.prune.count > 0 || had_held {
            let held = (outcome.prune.held.first())
                .map(|first| (first.reason.clone(), prune_message(&outcome.prune, summary.application)));
            match held {
                Some((reason, message)) => set("PruneHeld", True, &reason, message),
                None => set("PruneHeld", False, "Nothing", String::new()),
            }
        }
        status.prune = outcome.prune.clone();
        status.delete_hooks = outcome.delete_hooks;
        status.operation.clone_from(&outcome.operation);
        status.sync = if failed.is_some() && summary.refused.is_none() {
            SyncState::Unknown
        } else if outcome.is_done()
            && open.is_empty()
            && summary.render.is_none()
            && summary.refused.is_none()
            && !outcome.extra
        {
            SyncState::Synced
        } else {
            SyncState::OutOfSync
        };
    } else if let Some((error, message)) = &failed {
        set("Applied", Unknown, error.code.reason(), message.clone());
    }
    status.health = HealthStatus {
        status: summary.health.status.to_string(),
        message: summary.health.reason.to_string(),
    };
    let healthy = summary.health.status == Status::Healthy || summary.health.status == Status::Suspended;
    set(
        "Healthy",
        if healthy { True } else { False },
        &summary.health.status.to_string(),
        summary.health.reason.to_string(),
    );

    if applied && let Some(digest) = summary.digest {
        let digest = digest.to_string();
        if status.rendered_digest != digest || status.applied_revision.is_empty() || spec.rollback.is_some() {
            if let Some(first) = commits.first() {
                status.applied_revision.clone_from(first);
            }
            remember(&mut status, summary, &commits, &digest, now);
        } else if summary.wrote
            && let Some(first) = commits.first()
        {
            status.applied_revision.clone_from(first);
        }
        status.rendered_digest = digest;
    }

    let mut set = |kind: &str, state: ConditionStatus, reason: &str, message: String| {
        set_condition(&mut status.conditions, condition(kind, state, reason, message, generation), now);
    };
    // The first thing that is wrong on the way is the one that a person needs.
    let no_source = summary.source.filter(|_| commits.is_empty());
    let wrong = no_source
        .map(|error| (error, described(error)))
        .or_else(|| summary.render.map(|error| (error, described(error))))
        .or(failed);
    let drifted = summary.outcome.is_some_and(|outcome| outcome.drift.iter().any(|drift| !drift.repaired));
    let (ready, reason, message) = if let Some((error, message)) = &wrong {
        (False, error.code.reason().to_owned(), message.clone())
    } else if commits.is_empty() {
        (Unknown, "Pending".to_owned(), "the first poll has not ended".to_owned())
    } else if !applied {
        match summary.outcome {
            Some(outcome) if !outcome.waits.is_empty() => {
                (False, "Syncing".to_owned(), outcome.waits.clone())
            }
            Some(Outcome { stays: Some(stay), .. }) => (False, stay.reason.to_owned(), stay.why.clone()),
            Some(Outcome { rolling: all, .. }) if !all.is_empty() => {
                let (key, health) = &all[0];
                (False, rolling(health).to_owned(), format!("{key}: {}", health.reason))
            }
            _ => (False, "OutOfSync".to_owned(), "objects wait for a sync".to_owned()),
        }
    } else if !healthy {
        (False, summary.health.status.to_string(), summary.health.reason.to_string())
    } else if drifted {
        (False, "Drifted".to_owned(), "objects differ from Git".to_owned())
    } else {
        let held = spec.rollback.as_ref().map(|_| " (held by a rollback)").unwrap_or_default();
        let short =
            commits.first().map(|commit| commit[..7.min(commit.len())].to_owned()).unwrap_or_default();
        let _ = short;
        (True, "Ready".to_owned(), format!("applied and healthy{held}"))
    };
    let retries = broken.is_some()
        && summary.outcome.and_then(|outcome| outcome.operation.as_ref()).is_some_and(|operation| {
            operation.state == OperationState::Failing || !operation.retry_at.is_empty()
        });
    let stalled = wrong.as_ref().is_some_and(|(error, _)| !error.code.is_transient()) && !retries;
    let working = ready != True && !stalled;
    set("Ready", ready, &reason, message.clone());
    set(
        "Reconciling",
        if working { True } else { False },
        &reason,
        if working { message.clone() } else { String::new() },
    );
    set(
        "Stalled",
        if stalled { True } else { False },
        &reason,
        if stalled { message } else { String::new() },
    );
    status
}

fn rolling(health: &Health) -> &'static str {
    if health.status == Status::Degraded { "RolloutRejected" } else { "RollingOut" }
}

/// That users do not get what Git wants, because it was rejected.
fn rejected(outcome: &Outcome) -> Option<Error> {
    let found = outcome.rolling.iter().find(|(_, health)| health.status == Status::Degraded);
    let (key, health) = found?;
    Some(Error::new(Code::RolloutRejected, health.reason.to_string()).on_object(key))
}

/// That a sync of several steps has failed.
fn broken(operation: &OperationStatus) -> Option<Error> {
    if !matches!(operation.state, OperationState::Failing | OperationState::Failed) {
        return None;
    }
    let error = Error::new(Code::SyncFailed, operation.message.clone());
    Some(if operation.retry_at.is_empty() {
        error
    } else {
        error.hint(format!("attempt {}, tried again at {}", operation.attempt, operation.retry_at))
    })
}

fn prune_message(prune: &PruneStatus, application: &Application) -> String {
    let first = prune.held.first().map(|held| format!(", first {} ({})", held.object, held.reason));
    let name = application.metadata.name.as_deref().unwrap_or_default();
    let namespace = application.metadata.namespace.as_deref().unwrap_or_default();
    let word = if prune.token.is_empty() {
        String::new()
    } else {
        format!("; `driftless sync {namespace}/{name} --confirm-prune {}` deletes them", prune.token)
    };
    format!("{} objects have left Git and stay{}{word}", prune.count, first.unwrap_or_default())
}

fn word(text: &str) -> &str {
    if text.is_empty() { "somebody" } else { text }
}

fn remember(
    status: &mut ApplicationStatus,
    summary: &Summary<'_>,
    commits: &[String],
    digest: &str,
    now: Timestamp,
) {
    let last = status.history.last();
    if last.is_some_and(|last| last.rendered_digest == digest && last.revisions == commits)
        || commits.is_empty()
    {
        return;
    }
    let first = summary.snapshots.first();
    let entry = History {
        id: last.map_or(1, |last| last.id + 1),
        revisions: commits.to_vec(),
        rendered_digest: digest.to_owned(),
        applied_at: second(now),
        subject: first.map(|snapshot| snapshot.subject.clone()).unwrap_or_default(),
        author: first.map(|snapshot| snapshot.author.clone()).unwrap_or_default(),
    };
    status.history.push(entry);
    let limit = summary.application.spec.history_limit.max(1);
    let surplus = status.history.len().saturating_sub(limit);
    status.history.drain(..surplus);
}
