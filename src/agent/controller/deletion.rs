//! Finalizers, and what happens when an Application is deleted.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};

use super::super::{AppKey, inventory};
use super::Memory;
use crate::api::{Application, Deletion, FINALIZER};
use crate::error::Result;
use crate::live::kube::translate;
use crate::plan::Inventory;

fn has_finalizer(application: &Application) -> bool {
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
        let api: Api<Application> = Api::namespaced(self.engine.cluster.client(), &app.namespace);
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
        label: &str,
    ) -> Result<Option<Duration>> {
        if !has_finalizer(application) {
            return Ok(None);
        }
        if application.spec.deletion == Deletion::Cascade {
            let held = match memory.inventory.take() {
                Some(held) => held,
                None => inventory::load(&self.engine.cluster, application).await?,
            };
            self.engine.delete_all(label, &held).await.map_err(|error| error.in_app(app))?;
            memory.inventory = Some(Inventory::new());
            tracing::info!(app = %app, deleted = held.len(), "Deleted with its objects.");
        }
        self.set_finalizer(application, false).await?;
        Ok(None)
    }
}
