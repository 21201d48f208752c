//! What an application wants becomes what is live: plan, leave to act, sync, report.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;

use super::super::{Neighbours, Order, Outcome, Pass, Permissions, Policy};
use super::pass::Turn;
use super::projects::Ruled;
use super::report::Facts;
use super::rollouts::keep_for;
use super::{Memory, Rendered};
use crate::api::{Application, ApplicationSpec, CHOSEN, OperationState, OperationStatus};
use crate::error::Result;
use crate::model::{Confidential, Gvk, Key};
use crate::plan::{Desired, Inventory, Opening, Plan, Prepared, PrunePolicy, Why, plan};

/// What a pass is asked for, and how far the sync is.
struct Asked {
    now: Timestamp,
    /// Somebody asks for a sync, and it was polled for.
    requested: bool,
    /// The sync that is under way, or the last one.
    operation: Option<OperationStatus>,
    /// It is of what is wanted now.
    under_way: bool,
    /// The objects that are asked for; `None` for all.
    chosen: Option<Vec<String>>,
    /// All that is wanted is to be synced, hooks too.
    is_sync: bool,
    digest: String,
}

impl Asked {
    fn of(application: &Application, memory: &Memory, digest: String) -> Self {
        let status = application.status.as_ref();
        let requested = !memory.refreshed.is_empty()
            && status.is_none_or(|status| status.last_sync_request != memory.refreshed);
        let operation = memory.operation.clone().or_else(|| status.and_then(|found| found.operation.clone()));
        let under_way = operation.as_ref().is_some_and(|found| {
            found.rendered_digest == digest
                && matches!(found.state, OperationState::Running | OperationState::Failing)
        });
        let is_new = status.is_none_or(|status| status.rendered_digest != digest);
        let chosen = chosen(application).filter(|_| requested);
        let is_sync = (is_new || requested || under_way) && chosen.is_none();
        Self { now: Timestamp::now(), requested, operation, under_way, chosen, is_sync, digest }
    }
}

/// What may be done now, and why a sync does not begin though it is wanted.
struct Leave {
    permissions: Permissions,
    stays: Option<String>,
    opening: Opening,
    free: bool,
}

impl Leave {
    fn of(spec: &ApplicationSpec, policy: &Policy, asked: &Asked, stays: Option<String>) -> Self {
        let opening = policy.opening(asked.now);
        let by_request = asked.operation.as_ref().is_some_and(|found| !found.request.is_empty());
        let begun = asked.under_way && (spec.sync.automated || by_request);
        let free = !policy.is_suspended(asked.now);
        let asks = asked.requested || spec.rollback.is_some();
        let may = begun
            || (stays.is_none() && (spec.sync.automated && opening.automatic || asks && opening.manual));
        let permissions = Permissions {
            apply: free && may,
            repair: free && (spec.sync.self_heal && opening.automatic || asked.requested),
        };
        Self { permissions, stays, opening, free }
    }
}

/// What differs, with everything that a deep pass applies again.
fn planned(
    turn: &Turn<'_>,
    prepared: &Prepared,
    held: &Inventory,
    neighbours: &dyn Neighbours,
    pruning: &PrunePolicy,
) -> Plan {
    let live = |gvk: &Gvk, key: &Key| turn.access.site.engine.live(gvk, key);
    let mut todo = plan(prepared, held, &turn.settings.label, live, |key| neighbours.want(key), pruning);
    if turn.deep {
        for index in (0..prepared.desired.len()).filter(|at| prepared.desired[*at].hook.is_none()) {
            todo.todo.entry(index).or_insert(Why::Moved);
        }
    }
    todo
}

impl super::Controller {
    /// Does what is due for what was rendered; returns when the next pass is.
    pub(super) async fn deliver(&self, turn: &Turn<'_>, memory: &mut Memory) -> Result<Option<Duration>> {
        let Turn { app, application, settings, access, deep, .. } = *turn;
        let spec = &application.spec;
        let engine = &access.site.engine;
        let held = memory.inventory.clone().unwrap_or_default();
        let Some(rendered) = memory.rendered.as_mut() else { return Ok(None) };
        rendered.commits = turn.commits.to_vec();
        let mut ruled = Ruled::of(turn, &rendered.app.prepared.desired);
        // What its Project refuses is no claim to anything: it would keep what others delete.
        let wants = if ruled.holds_back() { &[] } else { &*rendered.app.prepared.desired };
        self.wake(self.claims.comes_to(app, spec, turn.commits, turn.full.then_some(wants)));
        let around = self.claims.around(app, spec, turn.commits);
        self.judging.follow(&engine.watches, &settings.label, &spec.health, &rendered.app.prepared.desired);
        let desired = ruled.allowed(&rendered.app.prepared.desired);
        let desired = desired.map(|object| (object.gvk.clone(), &object.key));
        let owned = held.iter().map(|(key, owned)| (Gvk::parse(&owned.api_version, &key.kind), key));
        let blind = engine.watch(&engine.places(desired.chain(owned))).await;
        let policy = match Policy::of(application) {
            Ok(policy) => policy.within(&turn.rights.rules),
            Err(error) => {
                let error = error.in_app(app);
                let facts = Facts { snapshots: turn.snapshots, render: Some(&error), ..Facts::default() };
                self.report(application, memory, &facts).await?;
                return Ok(None);
            }
        };
        let pruning = policy.pruning(application, &rendered.app.prepared, blind.is_empty());
        let mut todo = planned(turn, &rendered.app.prepared, &held, &around, &pruning);
        ruled.restrict(&mut todo);
        let digest = rendered.app.digest;
        let mut asked = {
            let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
            Asked::of(application, memory, digest)
        };
        // Neither hooks nor waves of what is not applied.
        asked.is_sync &= !ruled.holds_back();
        if memory.deep.is_none() || deep {
            memory.deep = Some(Instant::now());
        }
        let Some(rendered) = memory.rendered.as_mut() else { return Ok(None) };
        if !turn.full && needs_bodies(&rendered.app.prepared, &todo, asked.is_sync) {
            todo = self.with_bodies(turn, rendered, &held, &pruning, &todo).await?;
            ruled = Ruled::of(turn, &rendered.app.prepared.desired);
            ruled.restrict(&mut todo);
            asked.is_sync &= !ruled.holds_back();
        }
        let stands = self.stands(turn, &rendered.app, &held, &mut memory.rollouts).await?;
        let kept = keep_for(&stands.held, &mut todo);
        let begins = asked.is_sync && !asked.under_way && spec.rollback.is_none();
        let mut leave = Leave::of(spec, &policy, &asked, self.stays(app, spec, turn.commits, begins));
        leave.permissions.apply &= !ruled.holds_back();
        if let Some(chosen) = &asked.chosen {
            choose(&mut todo, &rendered.app.prepared.desired, chosen);
        }
        let pass = Pass {
            label: &settings.label,
            prepared: &rendered.app.prepared,
            policy: &policy,
            permissions: leave.permissions,
            neighbours: &around,
            held: &stands.held,
            new_kinds: AtomicBool::new(false),
        };
        let order = Order {
            plan: &todo,
            is_sync: asked.is_sync,
            uid: application.metadata.uid.as_deref().unwrap_or_default(),
            digest: &asked.digest,
            revisions: turn.commits,
            request: if asked.requested { &memory.refreshed } else { "" },
            written: application.status.as_ref().and_then(|status| status.operation.as_ref()),
            history: application
                .status
                .as_ref()
                .and_then(|status| status.history.last())
                .map_or(0, |last| last.id),
            before: asked.operation.clone(),
            now: asked.now,
        };
        let mut outcome = engine.sync(&pass, order, held, &mut memory.fights).await;
        let needed = stands.needed(&rendered.app.rollouts);
        let rolls =
            self.roll(turn, &pass, &rendered.app.rollouts, &stands, &mut memory.rollouts, &mut outcome).await;
        if outcome.waits.is_empty() {
            outcome.waits = kept.unwrap_or_default();
        }
        let wants = !outcome.pending.is_empty() || asked.chosen.is_some();
        let turns = policy.turns(&leave.opening, asked.now);
        if wants && leave.free && !outcome.is_done() {
            if let Some(why) = leave.stays {
                outcome.stay("WaitsForDependency", why);
            } else if spec.sync.automated && !leave.opening.automatic {
                outcome.stay("OutsideWindow", leave.opening.why);
            }
        }
        memory.operation.clone_from(&outcome.operation);
        let refused = ruled.error(app, &rendered.app.prepared.desired);
        for (at, object) in rendered.app.prepared.desired.iter_mut().enumerate() {
            if needed.contains(&at) {
                continue;
            }
            object.body = Vec::new();
            object.hidden = Confidential::default();
        }
        self.count(turn, &outcome);
        self.events.tell(application, &outcome, turn.commits);
        memory.inventory = Some(outcome.inventory.clone());
        let blind = blind.into_iter().next().map(|(_, error)| error);
        let facts = Facts {
            snapshots: turn.snapshots,
            source: turn.source,
            refused: refused.as_ref(),
            outcome: Some(&outcome),
            blind: blind.as_ref(),
            digest,
            ..Facts::default()
        };
        let wait = self.report(application, memory, &facts).await?;
        if let Some(failure) = outcome.failures.into_iter().next() {
            return Err(failure.error.in_app(app));
        }
        if let Some(error) = blind {
            return Err(error.in_app(app));
        }
        let next_deep =
            turn.deep_after.zip(memory.deep).map(|(after, at)| after.saturating_sub(at.elapsed()));
        Ok([wait, outcome.due, rolls, turns, self.inputs.due(app, false), next_deep]
            .into_iter()
            .flatten()
            .min())
    }

    /// Renders again, so that bodies are at hand; returns the plan for what came of it. Drift stays drift: what is generated
    /// or looked up may be another now, which is no news of Git.
    async fn with_bodies(
        &self,
        turn: &Turn<'_>,
        rendered: &mut Rendered,
        held: &Inventory,
        pruning: &PrunePolicy,
        before: &Plan,
    ) -> Result<Plan> {
        let desired = &rendered.app.prepared.desired;
        let drift: HashMap<Key, Why> = (before.todo.iter())
            .filter(|(_, why)| why.is_drift())
            .map(|(index, why)| (desired[*index].key.clone(), *why))
            .collect();
        rendered.app = self
            .render(turn.app, &turn.application.spec, turn.rights, turn.access, turn.settings, turn.snapshots)
            .await?;
        let prepared = &rendered.app.prepared;
        let around = self.claims.around(turn.app, &turn.application.spec, turn.commits);
        let mut todo = planned(turn, prepared, held, &around, pruning);
        for (index, why) in &mut todo.todo {
            *why = drift.get(&prepared.desired[*index].key).copied().unwrap_or(*why);
        }
        Ok(todo)
    }

    fn count(&self, turn: &Turn<'_>, outcome: &Outcome) {
        self.metrics.wrote("applied", outcome.applied.len());
        self.metrics.wrote("pruned", outcome.pruned.len());
        self.metrics.wrote("repaired", outcome.drift.iter().filter(|drift| drift.repaired).count());
        if !outcome.wrote() {
            return;
        }
        tracing::info!(app = %turn.app, revision = %turn.commits.first().map(String::as_str).unwrap_or_default(),
            applied = outcome.applied.len(), pruned = outcome.pruned.len(), "Applied.");
        // Artifacts need not say when they were made.
        if let Some(time) = turn.snapshots.first().map(|snapshot| snapshot.time).filter(|time| *time > 0) {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a delay")]
            self.metrics.applied_after((Timestamp::now().as_second() - time) as f64);
        }
    }
}

/// Hooks are made from their bodies, whenever one's turn comes. What has none is done when it is applied, though its
/// status is written later: the passes in between must not render.
fn needs_bodies(prepared: &Prepared, todo: &Plan, is_sync: bool) -> bool {
    todo.todo.keys().any(|at| prepared.desired[*at].body.is_empty())
        || is_sync && prepared.desired.iter().any(|object| object.hook.is_some())
}

/// The objects that a request names; `None` where it is for all.
fn chosen(application: &Application) -> Option<Vec<String>> {
    let text = application.annotations().get(CHOSEN).filter(|text| !text.trim().is_empty())?;
    Some(text.split(',').map(|word| word.trim().to_owned()).collect())
}

/// Leaves in a plan what was chosen: `Kind/name` or `Kind/namespace/name`.
fn choose(todo: &mut Plan, desired: &[Desired], chosen: &[String]) {
    let is_chosen = |key: &Key| {
        let short = format!("{}/{}", key.kind, key.name);
        let long = format!("{}/{}/{}", key.kind, key.namespace, key.name);
        chosen.iter().any(|name| *name == short || *name == long)
    };
    todo.todo.retain(|index, _| is_chosen(&desired[*index].key));
    todo.pruning.now.retain(|(key, _)| is_chosen(key));
}
