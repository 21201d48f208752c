//! Projects in a pass: who asks is held against the rules before anything is fetched, its objects before any is applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{AppKey, asker, first_of, refusal};
use super::{Facts, Memory};
use crate::api::{Application, ApplicationSpec};
use crate::error::{Error, Result};
use crate::model::Confidential;
use crate::plan::{Asker, Desired, Plan, ProjectRules};

/// The rules that hold for one Application, and what they refuse of what it wants.
pub(super) struct Ruled<'a> {
    pub(super) rules: &'a ProjectRules,
    pub(super) asker: Asker<'a>,
    refused: BTreeMap<usize, Error>,
}

impl<'a> Ruled<'a> {
    pub(super) fn new(
        rules: &'a ProjectRules,
        app: &'a AppKey,
        spec: &'a ApplicationSpec,
        desired: &[Desired],
    ) -> Self {
        let asker = asker(&app.namespace, spec);
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

    /// Leaves in a plan what may be touched. What is refused is neither applied nor repaired, and what was applied when it
    /// still was allowed is not deleted.
    pub(super) fn restrict(&self, todo: &mut Plan) {
        todo.todo.retain(|at, _| !self.refused.contains_key(at));
        self.rules.hold(self.asker, &mut todo.pruning);
    }

    /// What is refused, as one error.
    pub(super) fn error(&self, app: &AppKey, hidden: &Confidential) -> Option<Error> {
        let first = first_of(self.refused.values().cloned())?;
        Some(first.reworded(|text| hidden.scrub(text)).in_app(app))
    }
}

impl super::Controller {
    /// The rules for an Application, where they let it ask at all.
    pub(super) fn rules(&self, app: &AppKey, spec: &ApplicationSpec) -> Result<Arc<ProjectRules>> {
        let rules = self.projects.rules(&spec.project).map_err(|error| error.in_app(app))?;
        match refusal(&app.namespace, spec, &rules) {
            Some(error) => Err(error.in_app(app)),
            None => Ok(rules),
        }
    }

    /// An Application that may not even be read: its polls end, what it has deployed stays as it is.
    pub(super) async fn refuse(
        &self,
        app: &AppKey,
        application: &Application,
        memory: &mut Memory,
        error: &Error,
    ) -> Result<Option<Duration>> {
        self.sources.unsubscribe(app);
        self.inputs.unsubscribe(app);
        memory.subscribed = None;
        self.report(application, memory, &Facts { source: Some(error), ..Facts::default() }).await?;
        // A change of the Project, or of the Application, is an event.
        Ok(None)
    }
}
