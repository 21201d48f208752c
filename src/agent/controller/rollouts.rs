//! Rollouts of an application in its pass.

use std::collections::HashSet;
use std::time::Duration;

use super::super::rollouts::{Asked, Ended, Memories, Question, Remembered, Stand, Whence};
use super::super::{Failure, Held, Outcome, Pass, RenderedApp};
use super::pass::Turn;
use crate::api::{ApplicationStatus, Gate, Rollback};
use crate::error::{Code, Error, Result};
use crate::plan::{Inventory, Plan};
use crate::rollout::Bound;
use crate::rollout::provider::About;

/// How the policies of an application stand before its sync.
#[derive(Default)]
pub(super) struct Stands {
    all: Vec<Stand>,
    pub(super) held: Held,
}

impl Stands {
    /// Objects whose bodies are kept between passes: a rollout needs them at any time.
    pub(super) fn needed(&self, rollouts: &[Bound]) -> HashSet<usize> {
        let moving = rollouts.iter().zip(&self.all).filter(|(_, stand)| stand.is_on_its_way());
        let each = moving.flat_map(|(bound, _)| {
            let division = &bound.division;
            [bound.target]
                .into_iter()
                .chain(bound.own.clone())
                .chain(division.leased())
                .chain(division.services())
                .chain(bound.destination_rules.iter().copied())
        });
        each.collect()
    }
}

/// What was delivered last, as a revision names its commits.
fn delivered(status: Option<&ApplicationStatus>) -> String {
    let last = status.and_then(|status| status.history.last());
    last.map(|last| last.revisions.join("+")).unwrap_or_default()
}

/// Renders of an application at other commits.
struct Commits<'a> {
    controller: &'a super::Controller,
    turn: &'a Turn<'a>,
}

impl Whence for Commits<'_> {
    async fn at(&self, commit: &str) -> Result<RenderedApp> {
        let Turn { app, application, rights, access, settings, .. } = *self.turn;
        let mut spec = application.spec.clone();
        if spec.sources().count() != commit.split('+').count() {
            let why = format!("the Application has other sources than when {commit} was delivered");
            return Err(Error::new(Code::RolloutInvalid, why).in_app(app));
        }
        let revisions = commit.split('+').map(str::to_owned).collect();
        spec.rollback = Some(Rollback { revisions, by: String::new(), since: String::new() });
        let account = self.controller.sites.account(app, &spec);
        let Some((snapshots, _)) = self.controller.snapshots(app, account.as_ref(), &spec).await? else {
            return Err(Error::new(Code::Internal, "a commit was asked for and is not there").in_app(app));
        };
        self.controller.render(app, &spec, rights, access, settings, &snapshots).await
    }

    fn ask(&self, gate: &Gate, about: About, memory: &Remembered) {
        let (wakes, app) = (self.controller.wakes.clone(), self.turn.app.clone());
        let question = Question {
            cluster: self.turn.access.site.engine.cluster.clone(),
            gates: self.controller.gates.clone(),
            gate: gate.clone(),
            about,
        };
        memory.ask(question, move || {
            // The agent ends; the next one asks again.
            let _ = wakes.send(vec![app]);
        });
    }
}

impl super::Controller {
    /// Looks at the policies, before anything is applied.
    pub(super) async fn stands(
        &self,
        turn: &Turn<'_>,
        app: &RenderedApp,
        inventory: &Inventory,
        memories: &mut Memories,
    ) -> Result<Stands> {
        let mut stands = Stands::default();
        memories.keep(app.rollouts.iter().map(|bound| &bound.policy));
        let engine = &turn.access.site.engine;
        for bound in &app.rollouts {
            let memory = memories.of(&bound.policy);
            let stand = engine.stand(bound, &app.prepared.desired, inventory, memory, &mut stands.held).await;
            stands.all.push(stand.map_err(|error| error.in_app(turn.app))?);
        }
        Ok(stands)
    }

    /// Goes on with all rollouts; returns when the next pass is.
    pub(super) async fn roll(
        &self,
        turn: &Turn<'_>,
        pass: &Pass<'_>,
        rollouts: &[Bound],
        stands: &Stands,
        memories: &mut Memories,
        outcome: &mut Outcome,
    ) -> Option<Duration> {
        let (commit, delivered) = (turn.commits.join("+"), delivered(turn.application.status.as_ref()));
        let commits = Commits { controller: self, turn };
        let mut again: Option<Duration> = None;
        for (bound, stand) in rollouts.iter().zip(&stands.all) {
            let key = &pass.prepared.desired[bound.target].key;
            let asked = Asked {
                bound,
                stand,
                handed: outcome.handed.contains(key),
                commit: &commit,
                delivered: &delivered,
            };
            let memory = memories.of(&bound.policy);
            let engine = &turn.access.site.engine;
            match Box::pin(engine.roll(pass, asked, memory, &commits, outcome)).await {
                Ok(Ended { rolling, again: due, retried, alarm }) => {
                    if let Some((reason, note)) = alarm {
                        self.events.alarm(turn.application, &bound.policy, reason, &note);
                    }
                    again = [again, due].into_iter().flatten().min();
                    if let Some(health) = rolling {
                        outcome.rolling.push((key.clone(), health));
                    }
                    if retried && let Some(operation) = &mut outcome.operation {
                        // A sync that failed because of it is tried again too.
                        operation.retry_at = crate::api::second(jiff::Timestamp::now());
                    }
                }
                Err(error) => {
                    outcome.failures.push(Failure { key: key.clone(), error });
                }
            }
        }
        again
    }
}

/// What has left Git stays while a rollout is on its way or what Git wants was rejected: the stable revision may need it.
pub(super) fn keep_for(held: &Held, todo: &mut Plan) -> Option<String> {
    let count = todo.pruning.now.len();
    if held.is_empty() || count == 0 {
        return None;
    }
    todo.pruning.now.clear();
    Some(format!("{count} objects that have left Git stay until the rollout is over"))
}
