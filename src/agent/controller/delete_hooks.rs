//! Hooks of a deletion: what runs before the objects go, and what runs when they have gone.
//!
//! They come from the commit that was delivered last, because the newest may not have the application any more. How they
//! stand is written down as a sync's hooks are, so an agent that is killed goes on where it was and runs none twice.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::super::sites::Access;
use super::super::{AppKey, Held, Neighbours, Order, Pass, Permissions, Policy, settings};
use super::Memory;
use super::projects::Rights;
use crate::api::{Application, OperationState, OperationStatus, POKE, Rollback, SKIP_DELETE_HOOKS, second};
use crate::error::{Code, Error, Result};
use crate::model::Digest;
use crate::plan::{Gate, Phase, Plan};

/// Goes on, or comes again after a while; what comes after it is an event.
pub(super) type Flow = ControlFlow<Option<Duration>>;

/// What `status.operation.step` says when the hooks before the deletion are over.
const BETWEEN: &str = "Delete";

/// Nobody is concerned by a hook.
struct Nobody;

impl Neighbours for Nobody {
    fn keep(&self, _: &str, _: &crate::model::Key) -> bool {
        false
    }

    fn want(&self, _: &crate::model::Key) -> bool {
        false
    }

    fn unsettled(&self) -> Option<(String, Duration)> {
        None
    }
}

/// The deletion to go on with, or a new one: after `driftless sync` its hooks run again.
fn operation(application: &Application, before: Option<&OperationStatus>) -> (OperationStatus, bool) {
    let request = application.annotations().get(POKE).cloned().unwrap_or_default();
    let uid = application.uid().unwrap_or_default();
    let id = Digest::of_parts([uid.as_str(), "delete", &request]).to_string()[..10].to_owned();
    if let Some(before) = before.filter(|before| before.id == id) {
        return (before.clone(), false);
    }
    let status = application.status.as_ref();
    let new = OperationStatus {
        id,
        rendered_digest: status.map(|status| status.rendered_digest.clone()).unwrap_or_default(),
        revisions: status.map(delivered).unwrap_or_default(),
        request,
        attempt: 1,
        started_at: second(Timestamp::now()),
        // What ran before the deletion does not run after it.
        step: before.filter(|before| is_past(before)).map(|_| BETWEEN.to_owned()).unwrap_or_default(),
        ..OperationStatus::default()
    };
    (new, true)
}

/// Whether the hooks before the deletion are over.
fn is_past(operation: &OperationStatus) -> bool {
    operation.step == BETWEEN || operation.step.starts_with("PostDelete")
}

/// The commits that were delivered last, or else seen.
fn delivered(status: &crate::api::ApplicationStatus) -> Vec<String> {
    match status.history.last() {
        Some(last) => last.revisions.clone(),
        None => status.sources.iter().map(|source| source.revision.clone()).collect(),
    }
}

impl super::Controller {
    /// Runs the hooks of one phase of a deletion as far as they go now.
    pub(super) async fn delete_hooks(
        &self,
        app: &AppKey,
        memory: &mut Memory,
        access: &Access,
        rights: &Rights,
        phase: Phase,
    ) -> Result<Flow> {
        let Some(application) = memory.application.clone() else { return Ok(Flow::Break(None)) };
        let Some(status) = application.status.as_ref() else { return Ok(Flow::Continue(())) };
        let engine = &access.site.engine;
        let before = memory.operation.clone().or_else(|| status.operation.clone());
        let skips = application.annotations().get(SKIP_DELETE_HOOKS).is_some_and(|word| word == "true");
        if status.delete_hooks == 0 || skips {
            if let Some(before) = &before {
                engine.abandon_hooks(&[], before).await.map_err(|error| error.in_app(app))?;
            }
            return Ok(Flow::Continue(()));
        }
        let (operation, is_new) = operation(&application, before.as_ref());
        if is_new && let Some(before) = &before {
            engine.abandon_hooks(&[], before).await.map_err(|error| error.in_app(app))?;
        }
        if phase == Phase::PreDelete && is_past(&operation) {
            return Ok(Flow::Continue(()));
        }
        let hint =
            format!("`kubectl annotate application {} {SKIP_DELETE_HOOKS}=true` goes on without", app.name);
        let result = self.run_delete_hooks(&application, memory, access, rights, operation, phase).await;
        let (gate, operation, due) = match result {
            Ok(found) => found,
            Err(error) => {
                let why = format!("{phase} hooks cannot run: {}", error.why);
                let error = Error { why, ..error }.hint(hint).in_app(app);
                return self.hold(&application, memory, error).await.map(Flow::Break);
            }
        };
        memory.operation = Some(operation.clone());
        let reason = match &gate {
            Gate::Closed(why) => {
                let hint = format!("{hint}; `driftless sync {app}` runs them again");
                Some(Err(Error::new(Code::SyncFailed, why.clone()).hint(hint).in_app(app)))
            }
            Gate::Waits(_) | Gate::Open => Some(Ok(operation.message.clone())).filter(|_| gate != Gate::Open),
        };
        self.write_operation(&application, memory, operation).await?;
        match (gate, reason) {
            (Gate::Open, _) if due.is_none() => Ok(Flow::Continue(())),
            (_, Some(Err(error))) if due.is_none() => {
                let Some(application) = memory.application.clone() else { return Err(error) };
                self.hold(&application, memory, error).await.map(Flow::Break)
            }
            (_, Some(Ok(words))) => {
                let Some(application) = memory.application.clone() else { return Ok(Flow::Break(due)) };
                self.say(&application, memory, "Deleting", words).await?;
                Ok(Flow::Break(due))
            }
            _ => Ok(Flow::Break(due)),
        }
    }

    async fn run_delete_hooks(
        &self,
        application: &Application,
        memory: &mut Memory,
        access: &Access,
        rights: &Rights,
        operation: OperationStatus,
        phase: Phase,
    ) -> Result<(Gate, OperationStatus, Option<Duration>)> {
        let app = &AppKey::from(application);
        let engine = &access.site.engine;
        let settings = settings(&app.namespace, &app.name, &application.spec);
        let policy = Policy::of(application)?;
        let mut pinned = application.spec.clone();
        pinned.rollback = Some(Rollback {
            revisions: operation.revisions.clone(),
            by: String::new(),
            since: String::new(),
        });
        let account = self.sites.account(app, &pinned);
        let Some((snapshots, _)) = self.snapshots(app, account.as_ref(), &pinned).await? else {
            return Err(Error::new(Code::RevisionNotFound, "no commit of it is known"));
        };
        let rendered = self.render(app, &pinned, rights, access, &settings, &snapshots).await?;
        let desired = &rendered.prepared.desired;
        let refused = rights.rules.refuse_objects(rights.asker(app, &application.spec), desired);
        if let Some((_, error)) = refused.into_iter().find(|(at, _)| desired[*at].hook.is_some()) {
            return Err(error);
        }
        let hooks = rendered.prepared.desired.iter().filter(|object| object.hook.is_some());
        let places = engine.places(hooks.map(|object| (object.gvk.clone(), &object.key)));
        if let Some((_, error)) = engine.watch(&places).await.into_iter().next() {
            return Err(error);
        }
        let held = Held::default();
        let pass = Pass {
            held: &held,
            label: &settings.label,
            prepared: &rendered.prepared,
            policy: &policy,
            permissions: Permissions { apply: true, repair: false },
            neighbours: &Nobody,
            new_kinds: AtomicBool::new(false),
        };
        let plan = Plan::default();
        let order = Order {
            plan: &plan,
            is_sync: true,
            uid: application.metadata.uid.as_deref().unwrap_or_default(),
            digest: &operation.rendered_digest.clone(),
            revisions: &operation.revisions.clone(),
            request: &operation.request.clone(),
            written: application.status.as_ref().and_then(|status| status.operation.as_ref()),
            before: Some(operation),
            history: application
                .status
                .as_ref()
                .and_then(|status| status.history.last())
                .map_or(0, |last| last.id),
            now: Timestamp::now(),
        };
        let (gate, mut outcome) = engine.run_hooks(&pass, order, phase, &mut memory.fights).await;
        if !outcome.failures.is_empty() {
            let failure = outcome.failures.swap_remove(0);
            if let Some(operation) = outcome.operation {
                // What was begun must be known.
                self.write_operation(application, memory, operation.clone()).await?;
                memory.operation = Some(operation);
            }
            return Err(failure.error);
        }
        let mut operation = outcome.operation.unwrap_or_default();
        match &gate {
            // With hooks to let go, it is not over.
            Gate::Open if outcome.due.is_some() => {}
            Gate::Open => {
                BETWEEN.clone_into(&mut operation.step);
                (operation.step_since, operation.message) = Default::default();
            }
            Gate::Waits(_) => operation.message.clone_from(&outcome.waits),
            Gate::Closed(why) => {
                operation.state = OperationState::Failed;
                operation.message.clone_from(why);
            }
        }
        Ok((gate, operation, outcome.due))
    }

    /// Writes down how the hooks stand.
    async fn write_operation(
        &self,
        application: &Application,
        memory: &mut Memory,
        operation: OperationStatus,
    ) -> Result<()> {
        let before = application.status.clone().unwrap_or_default();
        if before.operation.as_ref() == Some(&operation) {
            return Ok(());
        }
        let mut status = before.clone();
        status.operation = Some(operation);
        self.write_status(application, &before, &status).await?;
        let mut updated = application.clone();
        updated.status = Some(status);
        memory.application = Some(Arc::new(updated));
        Ok(())
    }
}
