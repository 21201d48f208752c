//! Projects in a pass: who asks is held against the rules before anything is fetched, its objects before any is applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{AppKey, asker, first_of, refusal};
use super::Memory;
use super::deletion::has_finalizer;
use super::pass::Turn;
use super::report::Facts;
use crate::api::{Application, ApplicationSpec, Deletion};
use crate::error::{Code, Error, Result};
use crate::plan::{Asker, Desired, Plan, ProjectRules, Why};

/// The rules that hold for an Application, and in whose name it is delivered.
pub(super) struct Rights {
    pub(super) rules: Arc<ProjectRules>,
    account: Option<String>,
}

impl Rights {
    pub(super) fn asker<'a>(&'a self, app: &'a AppKey, spec: &'a ApplicationSpec) -> Asker<'a> {
        asker(&app.namespace, spec, self.account.as_deref())
    }
}

/// What the rules refuse of what an Application wants.
pub(super) struct Ruled<'a> {
    rules: &'a ProjectRules,
    asker: Asker<'a>,
    refused: BTreeMap<usize, Error>,
}

impl<'a> Ruled<'a> {
    pub(super) fn of(turn: &Turn<'a>, desired: &[Desired]) -> Self {
        let asker = turn.rights.asker(turn.app, &turn.application.spec);
        let rules = &*turn.rights.rules;
        Self { rules, asker, refused: rules.refuse_objects(asker, desired) }
    }

    /// Nothing of this commit may be applied, because one of its objects may not.
    pub(super) fn holds_back(&self) -> bool {
        !self.refused.is_empty()
    }

    /// What is allowed.
    pub(super) fn allowed<'d>(&self, desired: &'d [Desired]) -> impl Iterator<Item = &'d Desired> {
        let all = desired.iter().enumerate();
        all.filter(|(at, _)| !self.refused.contains_key(at)).map(|(_, object)| object)
    }

    /// Leaves in a plan what may be done. What is refused is neither applied nor repaired, and what was applied when it
    /// still was allowed is not deleted. Where anything is refused, repairs are all that is left.
    pub(super) fn restrict(&self, todo: &mut Plan) {
        let is_kept = |why: Why| !self.holds_back() || why.is_drift() || why == Why::Moved;
        todo.todo.retain(|at, why| !self.refused.contains_key(at) && is_kept(*why));
        self.rules.hold(self.asker, &mut todo.pruning);
    }

    /// What is refused, as one error.
    pub(super) fn error(&self, app: &AppKey, desired: &[Desired]) -> Option<Error> {
        let first = first_of(self.refused.values().cloned())?;
        let hidden = desired.first().map(|object| object.hidden.clone()).unwrap_or_default();
        Some(first.reworded(|text| hidden.scrub(text)).in_app(app))
    }
}

impl super::Controller {
    /// The rules for an Application, where they let it ask at all.
    pub(super) fn rights(&self, app: &AppKey, spec: &ApplicationSpec) -> Result<Rights> {
        let rights = self.rules(app, spec)?;
        match refusal(&rights.rules, rights.asker(app, spec), spec) {
            Some(error) => Err(error.in_app(app)),
            None => Ok(rights),
        }
    }

    fn rules(&self, app: &AppKey, spec: &ApplicationSpec) -> Result<Rights> {
        let rules = self.projects.rules(&spec.project).map_err(|error| error.in_app(app))?;
        let stated = spec.destination.service_account.clone();
        // The agent's default account is for its own cluster; in another it is the kubeconfig's user who acts.
        let usual = || self.sites.account(app, spec).map(|account| account.name);
        let account = if spec.destination.cluster.is_some() { stated } else { usual() };
        Ok(Rights { rules, account })
    }

    /// The rules for a pass; `None` where it ends here. Of an Application that may not even be read, the polls end and what
    /// it has deployed stays as it is.
    pub(super) async fn admit(
        &self,
        app: &AppKey,
        application: &Application,
        memory: &mut Memory,
    ) -> Result<Option<Rights>> {
        let spec = &application.spec;
        let leaves = application.metadata.deletion_timestamp.is_some();
        if leaves && !has_finalizer(application) {
            return Ok(None);
        }
        let rights = if leaves { self.rules(app, spec) } else { self.rights(app, spec) };
        match rights {
            Ok(rights) if leaves && !rights.rules.reaches(rights.asker(app, spec)) => {
                tracing::warn!(app = %app, project = %rights.rules.name,
                    "Its objects stay: the Project does not allow where they are.");
                self.let_go(app, application).await?;
                Ok(None)
            }
            Ok(rights) => Ok(Some(rights)),
            // A change of the Project, or of the Application (deletion: Orphan), is an event.
            Err(_) if leaves && spec.deletion == Deletion::Orphan => {
                self.let_go(app, application).await?;
                Ok(None)
            }
            Err(error) => {
                self.sources.unsubscribe(app);
                self.inputs.unsubscribe(app);
                memory.subscribed = None;
                // Where it still may be, its health is told.
                let stays =
                    self.rules(app, spec).is_ok_and(|rights| rights.rules.reaches(rights.asker(app, spec)));
                memory.place = memory.place.take().filter(|_| stays);
                self.report(application, memory, &Facts { source: Some(&error), ..Facts::default() }).await?;
                Ok(None)
            }
        }
    }

    async fn let_go(&self, app: &AppKey, application: &Application) -> Result<()> {
        if self.set_finalizer(application, false).await? {
            return Ok(());
        }
        Err(Error::new(Code::ConflictRefused, "it was written while its finalizer was taken off").in_app(app))
    }
}
