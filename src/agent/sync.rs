//! Carries a plan out, step by step.
//!
//! 1. What drifted is repaired, at once and in order; a repair runs no hooks and waits for nothing.
//! 2. A sync goes from step to step (`plan::steps`): apply, begin hooks, look at the gate. Where the gate is shut, the pass
//!    ends; an event of what it waits for begins the next one, which comes to the same place by itself.
//! 3. What has left Git goes after the ordinary objects and before what runs at the end.
//! 4. A gate that will never open fails the sync: its hooks for that run, and it is tried again, or not.
//!
//! What is written down of a sync is its hooks and since when it waits; the rest is seen.

use jiff::Timestamp;

use super::engine::Pass;
use super::hooks::{self, Begun};
use super::outcome::Stay;
use super::policy::Policy;
use super::prune::Round;
use super::{Engine, Failure, Fights, Outcome};
use crate::api::{CreateNamespace, HeldStatus, OperationState, OperationStatus, PruneStatus};
use crate::error::Result;
use crate::health::{Health, Status};
use crate::live::kube::Check;
use crate::model::{Digest, Gvk, Key};
use crate::plan::{Desired, Gate, Inventory, Phase, Plan, Step, awaited, gate, steps};

const SYNC: [Phase; 3] = [Phase::PreSync, Phase::Sync, Phase::PostSync];
/// Objects that a status names.
const NAMED: usize = 50;

/// What a sync is about.
pub struct Order<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// How carefully.
    pub policy: &'a Policy,
    /// Something new is to be applied: hooks run and waves wait. A repair otherwise.
    pub is_sync: bool,
    /// The Application's uid.
    pub uid: &'a str,
    /// The digest of what is wanted.
    pub digest: &'a str,
    /// The commits, or versions and digests.
    pub revisions: &'a [String],
    /// The request of a person; empty where nobody asked.
    pub request: &'a str,
    /// The sync as it was written down last.
    pub written: Option<&'a OperationStatus>,
    /// The sync as the last pass left it.
    pub before: Option<OperationStatus>,
    /// The namespace to make where it is missing: with these labels and annotations.
    pub namespace: Option<(&'a str, &'a CreateNamespace)>,
    /// The time.
    pub now: Timestamp,
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn seconds_since(text: &str, now: Timestamp) -> u64 {
    let since = text.parse::<Timestamp>().map_or(now, |at| at);
    u64::try_from(now.as_second() - since.as_second()).unwrap_or_default()
}

/// The sync to go on with, or a new one; `None` while a failed one waits for its next attempt.
fn operation(order: &Order<'_>) -> (Option<OperationStatus>, Option<OperationStatus>) {
    let same = order.before.as_ref().filter(|before| {
        before.rendered_digest == order.digest
            && (before.request == order.request || order.request.is_empty())
    });
    let attempt = match same {
        Some(before) => match before.state {
            OperationState::Running | OperationState::Failing => return (Some(before.clone()), None),
            OperationState::Failed if before.retry_at.is_empty() => return (None, None),
            OperationState::Failed if before.retry_at.parse().is_ok_and(|at: Timestamp| at > order.now) => {
                return (None, None);
            }
            OperationState::Failed => before.attempt + 1,
            OperationState::Succeeded => 1,
        },
        None => 1,
    };
    let started_at = time(order.now);
    // Of what does not change when an agent is killed and begins again.
    let parts = [order.uid, order.digest, order.request, &attempt.to_string()];
    let id = Digest::of_parts(parts).to_string()[..10].to_owned();
    let new = OperationStatus {
        id,
        rendered_digest: order.digest.to_owned(),
        revisions: order.revisions.to_vec(),
        request: order.request.to_owned(),
        attempt,
        started_at,
        ..OperationStatus::default()
    };
    (Some(new), order.before.clone())
}

impl Engine {
    /// Does what an order says, as far as it can now.
    pub async fn sync(
        &self,
        pass: &Pass<'_>,
        order: Order<'_>,
        inventory: Inventory,
        fights: &mut Fights,
    ) -> Outcome {
        let mut outcome = Outcome { inventory, operation: order.before.clone(), ..Outcome::default() };
        for key in order.plan.released.iter().chain(&order.plan.pruning.gone) {
            outcome.inventory.remove(key);
        }
        let desired = &pass.prepared.desired;
        let has_hooks = order.is_sync && desired.iter().any(|object| object.hook.is_some());
        let applies = pass.permissions.apply && (has_hooks || !order.plan.todo.is_empty());
        if let Some((name, wanted)) = order.namespace.filter(|_| applies)
            && let Err(error) = self.make_namespace(desired, name, wanted).await
        {
            outcome.failures.push(Failure::of(error));
            return outcome;
        }
        let steps = steps(desired, &order.plan.todo, &SYNC);
        let stepwise = has_hooks || steps.iter().filter(|step| step.wave != i64::MIN).count() > 1;
        if order.is_sync && pass.permissions.apply && stepwise {
            self.stepwise(pass, &order, &steps, fights, &mut outcome).await;
        } else {
            self.at_once(pass, &order, &steps, fights, &mut outcome).await;
        }
        self.release(pass, &order, &mut outcome).await;
        outcome.prune = prune_status(order.plan, &outcome);
        outcome
    }

    /// Makes the destination's namespace if it is missing. It is not owned: what others put into it must not go with us.
    async fn make_namespace(&self, desired: &[Desired], name: &str, wanted: &CreateNamespace) -> Result<()> {
        let gvk = Gvk::parse("v1", "Namespace");
        let stated = desired.iter().any(|object| object.gvk == gvk && object.key.name == name);
        let key = Key {
            group: String::new(),
            kind: gvk.kind.clone(),
            namespace: String::new(),
            name: name.to_owned(),
        };
        let resource = self.cluster.resource(&gvk, false).await?;
        if stated || self.cluster.look(&resource, &key).await?.is_some() {
            return Ok(());
        }
        let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": wanted.labels, "annotations": wanted.annotations}});
        self.cluster.create(&resource, &key, body.to_string().into_bytes(), Check::Strict).await?;
        Ok(())
    }

    /// Everything in order, waiting for nothing.
    async fn at_once(
        &self,
        pass: &Pass<'_>,
        order: &Order<'_>,
        steps: &[Step],
        fights: &mut Fights,
        outcome: &mut Outcome,
    ) {
        for stage in steps.iter().flat_map(|step| &step.stages) {
            self.apply_stage(pass, stage, fights, outcome).await;
        }
        if !outcome.failures.is_empty() {
            return;
        }
        if order.is_sync && pass.permissions.apply {
            // What an older sync of several steps left.
            if let Some(before) = outcome.operation.take()
                && let Err(error) = self.abandon_hooks(&before).await
            {
                outcome.operation = Some(before);
                outcome.failures.push(Failure::of(error));
                return;
            }
        }
        self.prune_step(pass, order, steps, outcome).await;
    }

    /// Deletes what has left Git. `false` while something of it is waited for.
    async fn prune_step(
        &self,
        pass: &Pass<'_>,
        order: &Order<'_>,
        steps: &[Step],
        outcome: &mut Outcome,
    ) -> bool {
        let mut now = order.plan.pruning.now.clone();
        if now.is_empty() {
            return true;
        }
        if !pass.permissions.apply {
            outcome.pending.extend(now.into_iter().map(|(key, _)| key));
            return true;
        }
        // Of a later wave than what comes next: that waits until they are gone.
        let wave = |key: &Key| outcome.inventory.get(key).map(|owned| owned.wave);
        let leaving = order.plan.pruning.leaving.iter().filter_map(|key| Some((wave(key)?, key))).max();
        if let Some((_, key)) = leaving.filter(|(wave, _)| now.iter().any(|(_, owned)| owned.wave < *wave)) {
            outcome.waits = awaited(&[format!("{key} to be deleted")]);
            return false;
        }
        let last: Vec<_> = if order.policy.prune_last {
            std::mem::take(&mut now)
        } else {
            now.extract_if(.., |(_, owned)| owned.prune_last).collect()
        };
        let round = self.prune(pass.label, now, order.policy.propagation, outcome).await;
        let done = match round {
            Round::Waits(leaving) => {
                let waits: Vec<String> = leaving.iter().map(|key| format!("{key} to be deleted")).collect();
                outcome.waits = awaited(&waits);
                false
            }
            Round::Refused => false,
            Round::Done => true,
        };
        if !done || last.is_empty() {
            return done;
        }
        let before = steps.iter().filter(|step| step.phase <= Phase::Sync);
        let open = before.map(|step| self.gate(pass, step, outcome)).find(|gate| *gate != Gate::Open);
        if let Some(gate) = open {
            let what = match gate {
                Gate::Waits(waits) => awaited(&waits),
                Gate::Closed(why) => why,
                Gate::Open => String::new(),
            };
            outcome.waits = format!("{what}; then {} objects are deleted", last.len());
            return false;
        }
        matches!(self.prune(pass.label, last, order.policy.propagation, outcome).await, Round::Done)
    }

    fn gate(&self, pass: &Pass<'_>, step: &Step, outcome: &Outcome) -> Gate {
        let run = |object: &Desired, phase| {
            let operation = outcome.operation.as_ref();
            operation.map_or(crate::plan::Run::Succeeded, |operation| hooks::run(operation, object, phase))
        };
        gate(step, &pass.prepared.desired, |object| self.health_of(object), run)
    }

    fn health_of(&self, object: &Desired) -> Health {
        match self.index.get(&object.key) {
            Some(seen) if seen.deleting => Health::new(Status::Progressing, seen.health.reason),
            Some(seen) => seen.health,
            None if self.index.is_synced(&object.gvk) => Health::new(Status::Missing, "it is not there"),
            // Kinds that cannot be watched.
            None => Health::healthy(),
        }
    }

    async fn stepwise(
        &self,
        pass: &Pass<'_>,
        order: &Order<'_>,
        steps: &[Step],
        fights: &mut Fights,
        outcome: &mut Outcome,
    ) {
        let (operation, superseded) = operation(order);
        let Some(mut operation) = operation else {
            if let Some(failed) = &order.before {
                let retry = failed.retry_at.parse::<Timestamp>().ok();
                let wait = retry.map(|at| until(at, order.now));
                outcome.due = [outcome.due, wait].into_iter().flatten().min();
            }
            return;
        };
        if let Some(superseded) = superseded
            && superseded.id != operation.id
            && let Err(error) = self.abandon_hooks(&superseded).await
        {
            // What an older sync runs must not meddle with the newer one.
            outcome.failures.push(Failure::of(error));
            return;
        }
        self.observe_hooks(&mut operation);
        if operation.state == OperationState::Running {
            outcome.operation = Some(operation);
            self.forward(pass, order, steps, fights, outcome).await;
        } else {
            outcome.operation = Some(operation);
        }
        let failing = outcome.operation.as_ref().is_some_and(|found| found.state == OperationState::Failing);
        if failing {
            self.after_failure(pass, order, outcome).await;
        }
    }

    /// Lets hooks go whose phase is over and whose end is written down.
    async fn release(&self, pass: &Pass<'_>, order: &Order<'_>, outcome: &mut Outcome) {
        let Some(mut operation) = outcome.operation.take() else { return };
        let ended = operation.state != OperationState::Running;
        let at = operation.step.split(' ').next().and_then(Phase::parse);
        let is_over =
            |phase: &str| ended || Phase::parse(phase).zip(at).is_some_and(|(phase, at)| phase < at);
        match self.release_hooks(&pass.prepared.desired, &mut operation, order.written, is_over).await {
            Ok(true) => outcome.due = Some(std::time::Duration::ZERO),
            Ok(false) => {}
            Err(error) => outcome.failures.push(Failure::of(error)),
        }
        outcome.operation = Some(operation);
    }

    /// From the first step as far as the gates let it.
    async fn forward(
        &self,
        pass: &Pass<'_>,
        order: &Order<'_>,
        steps: &[Step],
        fights: &mut Fights,
        outcome: &mut Outcome,
    ) {
        let mut pruned = false;
        for (number, step) in steps.iter().enumerate() {
            if step.phase > Phase::Sync && !pruned {
                pruned = true;
                if !self.prune_step(pass, order, steps, outcome).await {
                    return;
                }
            }
            for stage in &step.stages {
                self.apply_stage(pass, stage, fights, outcome).await;
                if let Some(failure) = outcome.failures.first() {
                    let is_final = !failure.error.code.is_transient();
                    if is_final && has_hooks(&pass.prepared.desired, Phase::SyncFail) {
                        let why = failure.error.to_string();
                        fail(outcome, order, why);
                    }
                    return;
                }
            }
            let Some(waits) = self.begin_hooks(pass, step, outcome).await else { return };
            let is_last = number + 1 == steps.len();
            if is_last && step.hooks.is_empty() {
                break;
            }
            let verdict = if waits.is_empty() { self.gate(pass, step, outcome) } else { Gate::Waits(waits) };
            let name = format!("{} {}", step.phase, step.wave);
            match verdict {
                Gate::Open => {}
                Gate::Closed(why) => {
                    fail(outcome, order, format!("{}: {why}", place(step)));
                    return;
                }
                Gate::Waits(waits) => {
                    if let Err(why) = wait(outcome, order, &name, &waits) {
                        fail(outcome, order, format!("{}: {why}", place(step)));
                    } else {
                        outcome.waits = format!("{}: {}", place(step), awaited(&waits));
                    }
                    return;
                }
            }
        }
        if !pruned && !self.prune_step(pass, order, steps, outcome).await {
            return;
        }
        if outcome.failures.is_empty()
            && outcome.pending.is_empty()
            && order.plan.leaving.is_empty()
            && let Some(operation) = &mut outcome.operation
        {
            operation.state = OperationState::Succeeded;
            operation.finished_at = time(order.now);
            (operation.step, operation.step_since, operation.message) = Default::default();
        }
    }

    /// Begins the hooks of a step that have not; what is in their way is waited for. `None` where that failed.
    async fn begin_hooks(&self, pass: &Pass<'_>, step: &Step, outcome: &mut Outcome) -> Option<Vec<String>> {
        let mut waits = Vec::new();
        for index in &step.hooks {
            let object = &pass.prepared.desired[*index];
            let operation = outcome.operation.as_mut()?;
            if hooks::record(operation, object, step.phase).is_some() {
                continue;
            }
            match self.begin_hook(pass, object, step.phase, operation).await {
                Ok(Begun::Made(hook)) => operation.hooks.push(hook),
                Ok(Begun::InTheWay(what)) => waits.push(what),
                Err(error) => {
                    outcome.failures.push(Failure { key: object.key.clone(), error });
                    return None;
                }
            }
        }
        if let Some(operation) = &mut outcome.operation {
            self.observe_hooks(operation);
        }
        Some(waits)
    }

    /// Runs what is to run after a failure, and ends the sync.
    async fn after_failure(&self, pass: &Pass<'_>, order: &Order<'_>, outcome: &mut Outcome) {
        let mut words = Vec::new();
        for step in steps(&pass.prepared.desired, &std::collections::BTreeMap::new(), &[Phase::SyncFail]) {
            let failures = outcome.failures.len();
            let Some(waits) = self.begin_hooks(pass, &step, outcome).await else {
                // All of them are tried, even where one fails.
                words.extend(outcome.failures.drain(failures..).map(|failure| failure.error.to_string()));
                continue;
            };
            let verdict = if waits.is_empty() { self.gate(pass, &step, outcome) } else { Gate::Waits(waits) };
            match verdict {
                Gate::Open => {}
                Gate::Closed(why) => words.push(why),
                Gate::Waits(waits) => {
                    let name = format!("{} {}", step.phase, step.wave);
                    match wait(outcome, order, &name, &waits) {
                        Ok(()) => {
                            outcome.waits = format!("{}: {}", place(&step), awaited(&waits));
                            return;
                        }
                        Err(why) => words.push(why),
                    }
                }
            }
        }
        let Some(operation) = &mut outcome.operation else { return };
        for word in words {
            if !operation.message.contains(&word) {
                operation.message = format!("{}; {word}", operation.message);
            }
        }
        operation.state = OperationState::Failed;
        operation.finished_at = time(order.now);
        (operation.step, operation.step_since) = Default::default();
        if let Some(wait) = order.policy.retry.after(operation.attempt) {
            let at = order.now.checked_add(wait).unwrap_or(order.now);
            operation.retry_at = time(at);
            outcome.due = [outcome.due, Some(wait)].into_iter().flatten().min();
        }
    }
}

fn has_hooks(desired: &[Desired], phase: Phase) -> bool {
    desired.iter().any(|object| object.hook.as_ref().is_some_and(|hook| hook.phases.contains(&phase)))
}

fn until(at: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::from_secs(u64::try_from(at.as_second() - now.as_second()).unwrap_or_default())
}

/// A step, for people.
fn place(step: &Step) -> String {
    if step.phase == Phase::Sync {
        format!("wave {}", step.wave)
    } else {
        format!("{} wave {}", step.phase, step.wave)
    }
}

fn fail(outcome: &mut Outcome, _order: &Order<'_>, why: String) {
    if let Some(operation) = &mut outcome.operation {
        operation.state = OperationState::Failing;
        operation.message = why;
        (operation.step, operation.step_since) = Default::default();
    }
    outcome.failures.clear();
}

/// Notes that a step is waited for.
///
/// # Errors
/// When that has taken too long.
fn wait(
    outcome: &mut Outcome,
    order: &Order<'_>,
    name: &str,
    waits: &[String],
) -> std::result::Result<(), String> {
    let limit = order.policy.wait_limit;
    let Some(operation) = &mut outcome.operation else { return Ok(()) };
    if operation.step != name {
        name.clone_into(&mut operation.step);
        operation.step_since = time(order.now);
    }
    let waited = seconds_since(&operation.step_since, order.now);
    if operation.state == OperationState::Running {
        operation.message = awaited(waits);
    }
    let left = limit.saturating_sub(std::time::Duration::from_secs(waited));
    if left.is_zero() {
        return Err(format!("{} for longer than {}s", awaited(waits), limit.as_secs()));
    }
    outcome.due = [outcome.due, Some(left)].into_iter().flatten().min();
    Ok(())
}

fn prune_status(plan: &Plan, outcome: &Outcome) -> PruneStatus {
    let pruning = &plan.pruning;
    let held = pruning.held.iter().take(NAMED);
    let leaving = outcome.pruned.iter().filter(|key| outcome.inventory.contains_key(*key));
    PruneStatus {
        count: pruning.held.len(),
        token: if pruning.held.iter().any(|(_, why)| why.wants_word()) {
            pruning.token.clone()
        } else {
            String::new()
        },
        held: held
            .map(|(key, why)| HeldStatus { object: key.to_string(), reason: format!("{why:?}") })
            .collect(),
        deleting: pruning.leaving.iter().chain(leaving).take(NAMED).map(ToString::to_string).collect(),
    }
}

impl Outcome {
    /// Whether what was wanted is done: nothing failed, nothing is awaited, nothing was put off.
    pub fn is_done(&self) -> bool {
        self.failures.is_empty()
            && self.pending.is_empty()
            && self.waits.is_empty()
            && self.stays.is_none()
            && self.operation.as_ref().is_none_or(|operation| operation.state == OperationState::Succeeded)
    }

    /// Notes why nothing is applied.
    pub(super) fn stay(&mut self, reason: &'static str, why: String) {
        self.stays = Some(Stay { reason, why });
    }
}
