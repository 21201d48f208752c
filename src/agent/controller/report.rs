//! What a pass found out becomes the status, where it says something new.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::super::{AppKey, Outcome, Summary, compose, inventory};
use super::{FLEET, Memory, PROGRESS, Urgency, guard};
use crate::api::{Application, ApplicationStatus};
use crate::error::{Code, Error, Result};
use crate::health::{Health, Status};
use crate::live::kube::translate;
use crate::model::merge_patch;
use crate::source::Snapshot;

/// What a pass found out, for its status.
#[derive(Default)]
pub(super) struct Facts<'a> {
    pub(super) snapshots: &'a [Snapshot],
    pub(super) source: Option<&'a Error>,
    pub(super) render: Option<&'a Error>,
    pub(super) refused: Option<&'a Error>,
    pub(super) outcome: Option<&'a Outcome>,
    pub(super) blind: Option<&'a Error>,
    pub(super) digest: Option<crate::model::Digest>,
}

impl super::Controller {
    /// Writes the status if it says something new; returns when it wants to be written later.
    pub(super) async fn report(
        &self,
        application: &Application,
        memory: &mut Memory,
        facts: &Facts<'_>,
    ) -> Result<Option<Duration>> {
        let app = AppKey::from(application);
        // Kept until it is told: a status may be put off.
        memory.wrote |= facts.outcome.is_some_and(Outcome::wrote);
        let held = memory.inventory.clone();
        let access = memory.place.as_ref().map(|place| place.access.clone());
        let health = match (&held, &access) {
            (Some(held), Some(access)) => match access.site.is_away() {
                None => access.site.engine.health(held),
                Some(error) => Health::new(Status::Unknown, format!("its cluster is away: {}", error.why)),
            },
            _ => Health::healthy(),
        };
        let before_operation = application.status.as_ref().and_then(|status| status.operation.clone());
        let busy = self.queue.len() > FLEET;
        let (health, look_again) = match &access {
            Some(access) => self.culprits.name(&access.site.engine, &app, held.as_ref(), health, busy).await,
            None => (health, None),
        };
        let on_its_way = health.status == Status::Progressing
            && facts.outcome.is_some_and(|outcome| {
                // A sync of several steps is written down at each of them: its hooks must be known.
                outcome.failures.is_empty()
                    && outcome.pending.is_empty()
                    && outcome.operation == before_operation
            });
        if on_its_way {
            let since = *memory.progressing.get_or_insert_with(Instant::now);
            // With a fleet on its way, the writes that finish something go before those that say "not yet".
            let patience = if self.stopping.load(Ordering::Acquire) {
                Duration::ZERO
            } else if self.queue.len() > FLEET {
                PROGRESS * 10
            } else {
                PROGRESS
            };
            if since.elapsed() < patience {
                return Ok(Some(patience.saturating_sub(since.elapsed())));
            }
        } else {
            memory.progressing = None;
        }
        let before = application.status.clone().unwrap_or_default();
        let stored = match (&held, &access) {
            (Some(held), Some(access)) => inventory::store(&access.home, application, held).await?,
            _ => before.inventory.clone(),
        };
        let summary = Summary {
            application,
            snapshots: facts.snapshots,
            source: facts.source,
            render: facts.render,
            refused: facts.refused,
            outcome: facts.outcome,
            wrote: memory.wrote,
            blind: facts.blind,
            digest: facts.digest,
            health,
            inventory: stored,
            sync_request: memory.refreshed.clone(),
        };
        let status = compose(&summary, Timestamp::now());
        let ready = status.holds("Ready");
        let updated_revision = status.applied_revision.clone();
        {
            let mut unready = guard(&self.unready);
            if ready {
                unready.remove(&app);
            } else {
                unready.insert(app.clone());
            }
            self.metrics.unready.set(i64::try_from(unready.len()).unwrap_or(i64::MAX));
        }
        let commits: Vec<String> = facts.snapshots.iter().map(|snapshot| snapshot.commit.clone()).collect();
        for waiting in self.dependencies.stands(&app, &application.spec, &commits, ready) {
            self.queue.push(waiting, Urgency::High);
        }
        if news(&before, &status) {
            // What is wrong with objects is told with what was done to them.
            for (kind, error) in [("SourceReady", facts.source), ("Ready", facts.refused.or(facts.render))] {
                let Some(error) = error else { continue };
                let reason = error.code.reason();
                let known = before.condition(kind).is_some_and(|condition| condition.reason == reason);
                let said = status.condition(kind).is_some_and(|condition| condition.reason == reason);
                if said && !known {
                    self.events.warn(application, error.code, &error.to_string());
                }
            }
            self.write_status(application, &before, &status).await?;
            if let Some(access) = &access {
                inventory::remove_stale(&access.home, &app.namespace, &before.inventory, &status.inventory)
                    .await;
            }
            let mut updated = application.clone();
            updated.status = Some(status);
            memory.application = Some(Arc::new(updated));
        }
        if commits.first().is_some_and(|first| *first == updated_revision) {
            memory.wrote = false;
        }
        Ok(look_again)
    }

    pub(super) async fn write_status(
        &self,
        application: &Application,
        before: &ApplicationStatus,
        after: &ApplicationStatus,
    ) -> Result<()> {
        let app = AppKey::from(application);
        let internal = |error: serde_json::Error| Error::new(Code::Internal, error.to_string());
        let old = serde_json::to_value(before).map_err(internal)?;
        let new = serde_json::to_value(after).map_err(internal)?;
        let first = application.status.is_none();
        let Some(patch) = (if first { Some(new) } else { merge_patch(&old, &new) }) else { return Ok(()) };
        let api: Api<Application> = Api::namespaced(self.sites.own().engine.cluster.client(), &app.namespace);
        let patch = serde_json::json!({"status": patch});
        match api.patch_status(&app.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(translate(&error).in_app(&app)),
        }
    }
}

/// Whether a status is worth a write: a head that moved without touching the application is not.
fn news(before: &ApplicationStatus, after: &ApplicationStatus) -> bool {
    let mut quiet = after.clone();
    quiet.observed_revision.clone_from(&before.observed_revision);
    quiet.sources.clone_from(&before.sources);
    quiet != *before
}
