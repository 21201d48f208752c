//! Finalizers, and what happens when an Application is deleted.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::super::sites::Access;
use super::super::{AppKey, Policy, inventory};
use super::Memory;
use super::projects::Rights;
use crate::api::{Application, CONFIRM, Deletion, FINALIZER};
use crate::error::{Code, Error, Result};
use crate::live::kube::translate;
use crate::model::Key;
use crate::plan::Consent;

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
        self.set_finalizer(application, wants).await
    }

    pub(super) async fn set_finalizer(&self, application: &Application, wanted: bool) -> Result<()> {
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
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
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
        if application.spec.deletion == Deletion::Cascade {
            let held = match memory.inventory.take() {
                Some(held) => held,
                None => inventory::load(&access.home, application).await?,
            };
            let count = held.len();
            // What the Project does not allow any more stays, as it does when it leaves Git.
            let rules = &rights.rules;
            let held = rules.allowed(rights.asker(app, &application.spec), &held);
            if held.len() < count {
                tracing::warn!(app = %app, project = %rules.name, left = count - held.len(),
                    "Objects stay which the Project does not allow any more.");
            }
            let propagation = Policy::of(application).ok().and_then(|policy| policy.propagation);
            let asks: Vec<&Key> = (held.iter())
                .filter(|(_, owned)| owned.delete == Consent::Asked)
                .map(|(key, _)| key)
                .collect();
            if let Some(first) = asks.first()
                && application.annotations().get(CONFIRM).is_none_or(|word| *word != DELETION)
            {
                let why =
                    format!("{} objects ask for a confirmation of their deletion, first {first}", asks.len());
                memory.inventory = Some(held.clone());
                return Err(Error::new(Code::PruneRefused, why)
                    .hint(format!("kubectl annotate application {} {CONFIRM}={DELETION}", app.name))
                    .in_app(app));
            }
            if let Some(operation) = application.status.as_ref().and_then(|status| status.operation.as_ref())
            {
                access.site.engine.abandon_hooks(&[], operation).await.map_err(|error| error.in_app(app))?;
            }
            let (left, failures) = access.site.engine.delete_all(label, &held, propagation).await;
            let count = left.len();
            memory.inventory = Some(left);
            if let Some(failure) = failures.into_iter().next() {
                return Err(failure.error.in_app(app));
            }
            if count > 0 {
                // Their events come; this is for those that no watch sees.
                return Ok(Some(Duration::from_secs(5)));
            }
            tracing::info!(app = %app, deleted = held.len(), "Deleted with its objects.");
        }
        self.set_finalizer(application, false).await?;
        Ok(None)
    }
}
