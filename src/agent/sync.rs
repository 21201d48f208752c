//! Carries a plan out, step by step.
//!
//! 1. What drifted is repaired, at once and in order; a repair runs no hooks and waits for nothing.
//! 2. A sync goes from step to step (`plan::steps`): apply, begin hooks, look at the gate. Where the gate is shut, the pass
//!    ends; an event of what it waits for begins the next one, which comes to the same place by itself.
//! 3. What has left Git goes after the ordinary objects and before what runs at the end.
//! 4. A gate that will never open fails the sync: its hooks for that run, and it is tried again, or not.
//!
//! What is written down of a sync is its hooks and since when it waits; the rest is seen.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::engine::Pass;
use super::hooks::{self, Begun};
use super::outcome::Stay;
use super::policy::left;
use super::prune::Round;
use super::{Engine, Failure, Fights, Outcome};
use crate::api::{CreateNamespace, HeldStatus, OperationState, OperationStatus, PruneStatus, second};
use crate::error::{Error, Result};
use crate::health::{Health, Status};
use crate::live::kube::Check;
use crate::model::{Digest, GROUP, Gvk, Key};
use crate::plan::{Desired, Gate, Inventory, Owned, Phase, Plan, Run, Step, Why, awaited, gate, steps};

const SYNC: [Phase; 3] = [Phase::PreSync, Phase::Sync, Phase::PostSync];
/// Objects that a status names.
const NAMED: usize = 50;

/// What a sync is about.
pub struct Order<'a> {
    /// What to do.
    pub plan: &'a Plan,
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
    /// The number of the newest entry of the history.
    pub history: u64,
    /// The sync as the last pass left it.
    pub before: Option<OperationStatus>,
    /// The time.
    pub now: Timestamp,
}

/// The sync to go on with, or a new one; `None` while a failed one waits for its next attempt.
fn operation(order: &Order<'_>) -> (Option<OperationStatus>, Option<OperationStatus>) {
    let same = order.before.as_ref().filter(|before| {
        let asked = before.request == order.request || order.request.is_empty();
        // Who asks for what is on its way already joins it: its hooks do not run twice.
        let joins = before.request.is_empty() && before.state == OperationState::Running;
        before.rendered_digest == order.digest && (asked || joins)
    });
    let attempt = match same {
        Some(before) => match before.state {
            OperationState::Running | OperationState::Failing => {
                let request = if before.request.is_empty() { order.request } else { &before.request };
                return (Some(OperationStatus { request: request.to_owned(), ..before.clone() }), None);
            }
            OperationState::Failed if before.retry_at.is_empty() => return (None, None),
            OperationState::Failed if before.retry_at.parse().is_ok_and(|at: Timestamp| at > order.now) => {
                return (None, None);
            }
            OperationState::Failed => before.attempt + 1,
            OperationState::Succeeded => {
                let is_written = order.written.is_some_and(|written| {
                    written.id == before.id && written.state == OperationState::Succeeded
                });
                // Its end is to be written down still: what it made is known, and nothing of it is made again.
                if !is_written {
                    let state = OperationState::Running;
                    return (Some(OperationStatus { state, ..before.clone() }), None);
                }
                if !order.request.is_empty() && before.request == order.request {
                    return (Some(before.clone()), None);
                }
                1
            }
        },
        None => 1,
    };
    let started_at = second(order.now);
    // Of what does not change when an agent is killed and begins again, and changes with every sync that has ended: one
    // that comes back to an older state is another.
    let last = order.written.map_or("", |written| written.id.as_str());
    let (attempt_text, history) = (attempt.to_string(), order.history.to_string());
    let parts = [order.uid, order.digest, order.request, &attempt_text, &history, last];
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
        if let Some((name, wanted)) = pass.policy.namespace.as_ref().filter(|_| applies)
            && let Err(error) = self.make_namespace(desired, name, wanted).await
        {
            outcome.failures.push(Failure::of(error));
            return outcome;
        }
        let steps = steps(desired, &order.plan.todo, &SYNC);
        let stepwise = has_hooks || steps.iter().filter(|step| step.wave != i64::MIN).count() > 1;
        let mut run = Course { engine: self, pass, order: &order, steps: &steps, fights, outcome };
        if order.is_sync && pass.permissions.apply && stepwise {
            run.stepwise().await;
        } else {
            run.at_once().await;
        }
        run.release().await;
        let mut outcome = run.outcome;
        outcome.prune = prune_status(order.plan, &outcome);
        outcome.extra = order.plan.pruning.differs;
        outcome.delete_hooks = desired.iter().filter(|object| is_of_deletion(object)).count();
        outcome
    }

    /// Runs the hooks of one phase of a deletion, as far as they go now. The record of them in `order.before` is known;
    /// a due time of zero asks for it to be written, before hooks are let go.
    pub async fn run_hooks(
        &self,
        pass: &Pass<'_>,
        order: Order<'_>,
        phase: Phase,
        fights: &mut Fights,
    ) -> (Gate, Outcome) {
        let desired = &pass.prepared.desired;
        let steps = steps(desired, &BTreeMap::new(), &[phase]);
        let outcome = Outcome { operation: order.before.clone(), ..Outcome::default() };
        let mut run = Course { engine: self, pass, order: &order, steps: &steps, fights, outcome };
        let mut gate = Gate::Open;
        for step in run.steps {
            let Some(in_the_way) = run.begin_hooks(step).await else {
                return (Gate::Waits(Vec::new()), run.outcome);
            };
            gate = run.wait(step, in_the_way);
            if gate != Gate::Open {
                break;
            }
        }
        if let (false, Some(operation)) = (matches!(gate, Gate::Waits(_)), &mut run.outcome.operation) {
            let is_over = |named: &str| named == phase.to_string();
            match self.release_hooks(desired, operation, order.written, is_over).await {
                Ok(true) => run.outcome.due = Some(Duration::ZERO),
                Ok(false) => run.outcome.due = None,
                Err(error) => run.refuse(error),
            }
        }
        (gate, run.outcome)
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
}

/// An order on its way.
struct Course<'a> {
    engine: &'a Engine,
    pass: &'a Pass<'a>,
    order: &'a Order<'a>,
    steps: &'a [Step],
    fights: &'a mut Fights,
    outcome: Outcome,
}

impl Course<'_> {
    fn refuse(&mut self, error: Error) {
        self.outcome.failures.push(Failure::of(error));
    }

    fn due(&mut self, wait: Duration) {
        self.outcome.due = Some(self.outcome.due.map_or(wait, |due| due.min(wait)));
    }

    async fn apply(&mut self, stage: &[(usize, Why)]) {
        self.engine.apply_stage(self.pass, stage, self.fights, &mut self.outcome).await;
    }

    /// Everything in order, waiting for nothing.
    async fn at_once(&mut self) {
        for stage in self.steps.iter().flat_map(|step| &step.stages) {
            self.apply(stage).await;
        }
        if !self.outcome.failures.is_empty() {
            return;
        }
        if self.order.is_sync && self.pass.permissions.apply {
            // What an older sync of several steps left.
            if let Some(before) = self.outcome.operation.take()
                && let Err(error) = self.engine.abandon_hooks(&self.pass.prepared.desired, &before).await
            {
                self.outcome.operation = Some(before);
                return self.refuse(error);
            }
        }
        self.prune().await;
    }

    /// Deletes what has left Git. `false` while something of it is waited for.
    async fn prune(&mut self) -> bool {
        let (pruning, policy) = (&self.order.plan.pruning, self.pass.policy);
        let mut now = pruning.now.clone();
        if now.is_empty() {
            if pruning.held.iter().any(|(_, held)| held.wants_word()) {
                // The next pass comes when it is known whether somebody wants them.
                let _ = self.pass.neighbours.unsettled();
            }
            return true;
        }
        if !self.pass.permissions.apply {
            self.outcome.pending.extend(now.into_iter().map(|(key, _)| key));
            return true;
        }
        if let Some((what, most)) = self.pass.neighbours.unsettled() {
            self.due(most);
            self.outcome.waits = what;
            return false;
        }
        // Somebody may have come to want it since the plan was made.
        let moved = now.extract_if(.., |(key, _)| self.pass.neighbours.want(key));
        for (key, _) in moved.collect::<Vec<_>>() {
            self.outcome.inventory.remove(&key);
        }
        // Of a later wave than what comes next: that waits until they are gone.
        let wave = |key: &Key| self.outcome.inventory.get(key).map(|owned| owned.wave);
        let leaving = pruning.leaving.iter().filter_map(|key| Some((wave(key)?, key))).max();
        if let Some((_, key)) = leaving.filter(|(wave, _)| now.iter().any(|(_, owned)| owned.wave < *wave)) {
            self.outcome.waits = awaited(&[format!("{key} to be deleted")]);
            return false;
        }
        let last: Vec<_> = if policy.prune_last {
            std::mem::take(&mut now)
        } else {
            now.extract_if(.., |(_, owned)| owned.prune_last).collect()
        };
        if !self.delete(now).await {
            return false;
        }
        if last.is_empty() {
            return true;
        }
        let before = self.steps.iter().filter(|step| step.phase <= Phase::Sync);
        let shut = before.map(|step| self.gate(step)).find_map(|gate| match gate {
            Gate::Open => None,
            Gate::Waits(waits) => Some(awaited(&waits)),
            Gate::Closed(why) => Some(why),
        });
        if let Some(what) = shut {
            self.outcome.waits = format!("{what}; then {} objects are deleted", last.len());
            return false;
        }
        self.delete(last).await
    }

    /// `false` while something of it is waited for, or where it was refused.
    async fn delete(&mut self, objects: Vec<(Key, Owned)>) -> bool {
        let (label, how) = (self.pass.label, self.pass.policy.propagation);
        match self.engine.prune(label, objects, how, &mut self.outcome).await {
            Round::Done => true,
            Round::Refused => false,
            Round::Waits(leaving) => {
                let waits: Vec<String> = leaving.iter().map(|key| format!("{key} to be deleted")).collect();
                self.outcome.waits = awaited(&waits);
                false
            }
        }
    }

    fn gate(&self, step: &Step) -> Gate {
        let operation = self.outcome.operation.as_ref();
        let run = |object: &Desired, phase| {
            operation.map_or(Run::Succeeded, |operation| hooks::run(operation, object, phase))
        };
        let health = |object: &Desired| {
            // A policy stands for its target, whose gate waits for it.
            if object.gvk.is(GROUP, "RolloutPolicy") {
                return Health::healthy();
            }
            if let Some(rolling) = self.pass.held.get(&object.key) {
                return rolling.clone();
            }
            let health = self.engine.health_of(&object.gvk, &object.key);
            // Whatever a rule of the user says of what is on its way out.
            let deleting = self.engine.index.get(&object.key).is_some_and(|seen| seen.deleting);
            if deleting { Health::new(Status::Progressing, health.reason) } else { health }
        };
        gate(step, &self.pass.prepared.desired, health, run)
    }

    async fn stepwise(&mut self) {
        let (operation, superseded) = operation(self.order);
        let Some(mut operation) = operation else {
            let failed = self.order.before.as_ref();
            if let Some(at) = failed.and_then(|failed| failed.retry_at.parse::<Timestamp>().ok()) {
                self.due(left(at, self.order.now));
            }
            return;
        };
        if let Some(superseded) = superseded
            && superseded.id != operation.id
            && let Err(error) = self.engine.abandon_hooks(&self.pass.prepared.desired, &superseded).await
        {
            // What an older sync runs must not meddle with the newer one.
            return self.refuse(error);
        }
        self.engine.observe_hooks(&mut operation);
        let is_running = operation.state == OperationState::Running;
        self.outcome.operation = Some(operation);
        if is_running {
            self.forward().await;
        }
        let state = self.outcome.operation.as_ref().map(|operation| operation.state);
        if state == Some(OperationState::Failing) {
            self.after_failure().await;
        }
    }

    /// Lets hooks go whose phase is over and whose end is written down.
    async fn release(&mut self) {
        let Some(mut operation) = self.outcome.operation.take() else { return };
        let ended = operation.state != OperationState::Running;
        let at = operation.step.split(' ').next().and_then(Phase::parse);
        let is_over =
            |phase: &str| ended || Phase::parse(phase).zip(at).is_some_and(|(phase, at)| phase < at);
        let desired = &self.pass.prepared.desired;
        match self.engine.release_hooks(desired, &mut operation, self.order.written, is_over).await {
            Ok(true) => self.outcome.due = Some(Duration::ZERO),
            Ok(false) => {}
            Err(error) => self.refuse(error),
        }
        self.outcome.operation = Some(operation);
    }

    /// From the first step as far as the gates let it.
    async fn forward(&mut self) {
        let mut pruned = false;
        for (number, step) in self.steps.iter().enumerate() {
            if step.phase > Phase::Sync && !pruned {
                pruned = true;
                if !self.prune().await {
                    return;
                }
            }
            for stage in &step.stages {
                self.apply(stage).await;
                if let Some(failure) = self.outcome.failures.first() {
                    let is_final = !failure.error.code.is_transient();
                    if is_final && has_hooks(&self.pass.prepared.desired, Phase::SyncFail) {
                        self.fail(failure.error.to_string());
                    }
                    return;
                }
            }
            let Some(in_the_way) = self.begin_hooks(step).await else { return };
            let is_last = number + 1 == self.steps.len();
            if is_last && step.hooks.is_empty() && !self.is_held(step) {
                break;
            }
            match self.wait(step, in_the_way) {
                Gate::Open => {}
                Gate::Waits(_) => return,
                Gate::Closed(why) => return self.fail(format!("{}: {why}", place(step))),
            }
        }
        if !pruned && !self.prune().await {
            return;
        }
        if self.outcome.failures.is_empty()
            && self.outcome.pending.is_empty()
            && self.order.plan.leaving.is_empty()
            && let Some(operation) = &mut self.outcome.operation
        {
            operation.state = OperationState::Succeeded;
            operation.finished_at = second(self.order.now);
            (operation.step, operation.step_since, operation.message) = Default::default();
        }
    }

    /// Begins the hooks of a step that have not; what is in their way is waited for. `None` where that failed.
    async fn begin_hooks(&mut self, step: &Step) -> Option<Vec<String>> {
        let mut waits = Vec::new();
        for index in &step.hooks {
            let object = &self.pass.prepared.desired[*index];
            let operation = self.outcome.operation.as_mut()?;
            if hooks::record(operation, object, step.phase).is_some() {
                continue;
            }
            match self.engine.begin_hook(self.pass, object, step.phase, operation).await {
                Ok(Begun::Made(hook)) => operation.hooks.push(hook),
                Ok(Begun::InTheWay(what)) => waits.push(what),
                Err(error) => {
                    self.outcome.failures.push(Failure { key: object.key.clone(), error });
                    return None;
                }
            }
        }
        if let Some(operation) = &mut self.outcome.operation {
            self.engine.observe_hooks(operation);
        }
        Some(waits)
    }

    /// Looks at a step's gate, and notes what is waited for. One that was waited for too long is closed.
    fn wait(&mut self, step: &Step, in_the_way: Vec<String>) -> Gate {
        let gate = if in_the_way.is_empty() { self.gate(step) } else { Gate::Waits(in_the_way) };
        let Gate::Waits(waits) = &gate else { return gate };
        let limit = self.pass.policy.wait_limit;
        let words = awaited(waits);
        let is_held = self.is_held(step);
        let Some(operation) = &mut self.outcome.operation else { return gate };
        let name = format!("{} {}", step.phase, step.wave);
        if operation.step != name {
            operation.step = name;
            operation.step_since = second(self.order.now);
        }
        if operation.state == OperationState::Running {
            operation.message.clone_from(&words);
        }
        if is_held {
            // It has limits of its own, and may take days.
            self.outcome.waits = format!("{}: {words}", place(step));
            return gate;
        }
        let since = operation.step_since.parse().unwrap_or(self.order.now);
        let rest = limit.saturating_sub(left(self.order.now, since));
        if rest.is_zero() {
            return Gate::Closed(format!("{words} for longer than {}s", limit.as_secs()));
        }
        self.due(rest);
        self.outcome.waits = format!("{}: {words}", place(step));
        gate
    }

    /// Whether a rollout has an object of a step in its hands.
    fn is_held(&self, step: &Step) -> bool {
        let desired = &self.pass.prepared.desired;
        !self.pass.held.is_empty()
            && step.objects.iter().any(|at| self.pass.held.get(&desired[*at].key).is_some())
    }

    /// Whether a revision was rejected: a retry of the sync would change nothing.
    fn is_rejected(&self) -> bool {
        let held = |object: &Desired| self.pass.held.get(&object.key).cloned();
        let desired = &self.pass.prepared.desired;
        !self.pass.held.is_empty()
            && desired.iter().filter_map(held).any(|health| health.status == Status::Degraded)
    }

    fn fail(&mut self, why: String) {
        if let Some(operation) = &mut self.outcome.operation {
            operation.state = OperationState::Failing;
            operation.message = why;
            (operation.step, operation.step_since) = Default::default();
        }
        self.outcome.failures.clear();
    }

    /// Runs what is to run after a failure, and ends the sync.
    async fn after_failure(&mut self) {
        let mut words = Vec::new();
        for step in steps(&self.pass.prepared.desired, &BTreeMap::new(), &[Phase::SyncFail]) {
            let failures = self.outcome.failures.len();
            let Some(in_the_way) = self.begin_hooks(&step).await else {
                // All of them are tried, even where one fails.
                let failed = self.outcome.failures.drain(failures..);
                words.extend(failed.map(|failure| failure.error.to_string()));
                continue;
            };
            match self.wait(&step, in_the_way) {
                Gate::Open => {}
                Gate::Waits(_) => return,
                Gate::Closed(why) => words.push(why),
            }
        }
        let is_rejected = self.is_rejected();
        let Some(operation) = &mut self.outcome.operation else { return };
        for word in words {
            if !operation.message.contains(&word) {
                operation.message = format!("{}; {word}", operation.message);
            }
        }
        operation.state = OperationState::Failed;
        operation.finished_at = second(self.order.now);
        (operation.step, operation.step_since) = Default::default();
        if let Some(wait) = self.pass.policy.retry.after(operation.attempt).filter(|_| !is_rejected) {
            let at = self.order.now.checked_add(wait).unwrap_or(self.order.now);
            operation.retry_at = second(at);
            self.due(wait);
        }
    }
}

fn is_of_deletion(object: &Desired) -> bool {
    let phases = object.hook.iter().flat_map(|hook| &hook.phases);
    phases.into_iter().any(|phase| matches!(phase, Phase::PreDelete | Phase::PostDelete))
}

fn has_hooks(desired: &[Desired], phase: Phase) -> bool {
    desired.iter().any(|object| object.hook.as_ref().is_some_and(|hook| hook.phases.contains(&phase)))
}

/// A step, for people.
fn place(step: &Step) -> String {
    if step.phase == Phase::Sync {
        format!("wave {}", step.wave)
    } else {
        format!("{} wave {}", step.phase, step.wave)
    }
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
            && self.handed.is_empty()
            && self.rolling.is_empty()
            && self.operation.as_ref().is_none_or(|operation| operation.state == OperationState::Succeeded)
    }

    /// Notes why nothing is applied.
    pub(super) fn stay(&mut self, reason: &'static str, why: String) {
        self.stays = Some(Stay { reason, why });
    }
}
