//! The pipeline and its queue.
//!
//! One pass for one application: heads of its sources -> identity of what it reads -> (render) -> plan ->
//! apply -> prune -> status. A pass is asked for by a moved head, an event of a watched object, a change
//! of the Application, or a due time; passes of one application never overlap, so an older commit cannot
//! follow a newer one (I5), and every pass starts from the newest head, so a newer commit supersedes a
//! failing one (I9).

mod adopt;
mod capable;
mod claims;
mod config;
mod controller;
mod culprit;
mod engine;
mod events;
mod fights;
mod gates;
mod hooks;
mod inputs;
mod inventory;
mod judges;
mod kinds;
mod metrics;
mod offline;
mod outcome;
mod policy;
mod projects;
mod prune;
mod queue;
mod references;
mod remotes;
mod render;
mod rollouts;
mod sites;
mod sources;
mod status;
mod sync;
mod terminating;

pub use capable::{Capable, capable, live_objects, random_seed};
pub use claims::Neighbours;
pub use config::Config;
pub use controller::run;
pub use culprit::{Culprits, explained};
pub use engine::{Engine, Pass, scrubbed};
pub use fights::Fights;
pub use gates::{Gates, Measured};
pub use inputs::{Material, Materials, Reference, Versions, materials, offline_materials};
pub use inventory::{from_status, load, store};
pub use judges::{Judging, RULES_LABEL, clock, rules_of};
pub use metrics::Metrics;
pub use offline::{Rendering, mounted, renderings};
pub use outcome::{Drift, Failure, Outcome, Permissions, Stay};
pub use policy::Policy;
pub use projects::{asker, first_of, intent, project_of, project_rules, refusal};
pub use remotes::Remotes;
pub use render::{Given, RenderedApp, SourceIdentity, Sourced, render_sources, settings, unchanged};
pub use rollouts::Held;
pub use sites::{Access, Accounts, Site, Sites};
pub(crate) use sources::credentials;
pub use sources::{Head, Sources};
pub use status::{Summary, compose};
pub use sync::Order;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::Application;

/// What a mutex holds, though a thread panicked with it: one application's panic must not stop the others.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names an Application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<&Application> for AppKey {
    fn from(application: &Application) -> Self {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        Self { namespace: part(&application.metadata.namespace), name: part(&application.metadata.name) }
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
