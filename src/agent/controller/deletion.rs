//! Finalizers, and what happens when an Application is deleted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::super::sites::Access;
use super::super::status::described;
use super::super::{AppKey, Neighbours, Policy, inventory};
use super::delete_hooks::Flow;
use super::projects::Rights;
use super::{Memory, PROGRESS};
use crate::api::{Application, CONFIRM, Condition, ConditionStatus, Deletion, FINALIZER, set_condition};
use crate::error::{Code, Error, Result};
use crate::live::kube::translate;
use crate::model::Key;
use crate::plan::{Consent, Phase};

/// What confirms the deletion of objects that ask for it, when their application is deleted.
const DELETION: &str = "delete";

/// Whether it waits for us when it is deleted.
pub(super) fn has_finalizer(application: &Application) -> bool {
    application.finalizers().iter().any(|name| name == FINALIZER)
}

impl super::Controller {
    pub(super) async fn keep_finalizer(&self, application: &Application) -> Result<()> {
        let wants = application.spec.deletion == Deletion::Cascade;
        if has_finalizer(application) == wants {
            return Ok(());
        }
        self.set_finalizer(application, wants).await?;
        Ok(())
    }

    /// `false` where the Application is at another version by now.
    pub(super) async fn set_finalizer(&self, application: &Application, wanted: bool) -> Result<bool> {
        let mut finalizers: Vec<&str> =
            application.finalizers().iter().map(String::as_str).filter(|name| *name != FINALIZER).collect();
        if wanted {
            finalizers.push(FINALIZER);
        }
        let app = AppKey::from(application);
        let api: Api<Application> = Api::namespaced(self.sites.own().engine.cluster.client(), &app.namespace);
        // The resourceVersion makes sure that nobody's finalizer is lost.
        let patch = serde_json::json!({"metadata": {
            "resourceVersion": application.resource_version(), "finalizers": finalizers}});
        match api.patch(&app.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(translate(&error).in_app(&app)),
        }
    }

    pub(super) async fn finalize(
        &self,
        app: &AppKey,
        application: &Application,
        memory: &mut Memory,
        access: &Access,
        rights: &Rights,
        label: &str,
    ) -> Result<Option<Duration>> {
        if !has_finalizer(application) {
            return Ok(None);
        }
        if application.spec.deletion == Deletion::Cascade
            && let Flow::Break(due) = self.cascade(app, application, memory, access, rights, label).await?
        {
            return Ok(due);
        }
        self.claims.waits_no_more(app);
        let set = match memory.application.clone() {
            Some(application) => self.set_finalizer(&application, false).await?,
            None => true,
        };
        // The status was written meanwhile; the watch brings the new version.
        Ok((!set).then_some(PROGRESS / 4))
    }

    /// Deletes what the application owns and nobody else wants, between the hooks of its deletion.
    async fn cascade(
        &self,
        app: &AppKey,
        application: &Application,
        memory: &mut Memory,
        access: &Access,
        rights: &Rights,
        label: &str,
    ) -> Result<Flow> {
        let spec = &application.spec;
        self.wake(self.claims.leaves(app));
        let commits: Vec<String> =
            match self.snapshots(app, self.sites.account(app, spec).as_ref(), spec).await {
                Ok(Some((snapshots, _))) => snapshots.into_iter().map(|snapshot| snapshot.commit).collect(),
                Ok(None) | Err(_) => Vec::new(),
            };
        let around = self.claims.around(app, spec, &commits);
        if let Some((what, most)) = around.unsettled() {
            self.say(application, memory, "Deleting", what).await?;
            return Ok(Flow::Break(Some(most)));
        }
        let mut held = match memory.inventory.take() {
            Some(held) => held,
            None => inventory::load(&access.home, application).await?,
        };
        memory.inventory = Some(held.clone());
        // What the Project does not allow any more stays, as it does when it leaves Git.
        let count = held.len();
        held = rights.rules.allowed(rights.asker(app, spec), &held);
        if held.len() < count {
            tracing::warn!(app = %app, project = %rights.rules.name, left = count - held.len(),
                "Objects stay which the Project does not allow any more.");
        }
        // Those move: whoever wants them takes them over, label and all.
        held.retain(|key, _| !around.want(key));
        let asks: Vec<&Key> =
            held.iter().filter(|(_, owned)| owned.delete == Consent::Asked).map(|(key, _)| key).collect();
        if let Some(first) = asks.first()
            && application.annotations().get(CONFIRM).is_none_or(|word| *word != DELETION)
        {
            let why =
                format!("{} objects ask for a confirmation of their deletion, first {first}", asks.len());
            let hint = format!("kubectl annotate application {} {CONFIRM}={DELETION}", app.name);
            let error = Error::new(Code::PruneRefused, why).hint(hint).in_app(app);
            return self.hold(application, memory, error).await.map(Flow::Break);
        }
        if let Flow::Break(due) = self.delete_hooks(app, memory, access, rights, Phase::PreDelete).await? {
            return Ok(Flow::Break(due));
        }
        let propagation = Policy::of(application).ok().and_then(|policy| policy.propagation);
        let (left, failures) = access.site.engine.delete_all(label, &held, propagation).await;
        let (count, first) = (left.len(), left.keys().next().map(|key| format!(", first {key}")));
        memory.inventory = Some(left);
        let application = memory.application.clone().unwrap_or_else(|| Arc::new(application.clone()));
        if let Some(failure) = failures.into_iter().next() {
            return self.hold(&application, memory, failure.error.in_app(app)).await.map(Flow::Break);
        }
        if count > 0 {
            let since = *memory.progressing.get_or_insert_with(Instant::now);
            if since.elapsed() < PROGRESS {
                return Ok(Flow::Break(Some(PROGRESS)));
            }
            let words = format!("waits for {count} objects to be gone{}", first.unwrap_or_default());
            self.say(&application, memory, "Deleting", words).await?;
            // Their events come; this is for those that no watch sees.
            return Ok(Flow::Break(Some(Duration::from_secs(5))));
        }
        if let Flow::Break(due) = self.delete_hooks(app, memory, access, rights, Phase::PostDelete).await? {
            return Ok(Flow::Break(due));
        }
        tracing::info!(app = %app, deleted = held.len(), "Deleted with its objects.");
        Ok(Flow::Continue(()))
    }

    /// Says in the status why the deletion does not go on, and ends the pass with it.
    pub(super) async fn hold(
        &self,
        application: &Application,
        memory: &mut Memory,
        error: Error,
    ) -> Result<Option<Duration>> {
        self.say(application, memory, error.code.reason(), described(&error)).await?;
        Err(error)
    }

    /// Says in the status where the deletion stands.
    pub(super) async fn say(
        &self,
        application: &Application,
        memory: &mut Memory,
        reason: &str,
        message: String,
    ) -> Result<()> {
        let before = application.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let condition = Condition {
            kind: "Ready".to_owned(),
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: message.chars().take(1000).collect(),
            last_transition_time: String::new(),
            observed_generation: application.metadata.generation.unwrap_or_default(),
        };
        set_condition(&mut status.conditions, condition, Timestamp::now());
        if status != before {
            self.write_status(application, &before, &status).await?;
            let mut updated = application.clone();
            updated.status = Some(status);
            memory.application = Some(Arc::new(updated));
        }
        Ok(())
    }
}
