//! One rollout in one pass: what is seen, what the machine says, and what comes of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::scene::{Scene, beside};
use super::stand::health;
use super::status::described;
use super::{Policy, Remembered, Stand};
use crate::agent::engine::Pass;
use crate::agent::gates::Gates;
use crate::agent::policy::left;
use crate::agent::{Engine, Outcome, RenderedApp};
use crate::api::{ConditionStatus, Gate, RolloutPhase, RolloutRevision, RolloutStatus, RolloutVerb};
use crate::error::{Code, Error, Result};
use crate::health::Health;
use crate::model::Digest;
use crate::plan::{Desired, Why};
use crate::rollout::provider::{About, run_name};
use crate::rollout::target::{Form, Measure, Wish, candidate_name};
use crate::rollout::traffic::Division;
use crate::rollout::{Bound, Command, Routed, Seen, Traffic, decide};

/// Decisions in one pass; each is a write.
const TURNS: usize = 40;
/// When what was ordered is looked at again, if no event tells of it.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a rollout is looked at that waits for pods or for a router.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// Words alone are not written more often than this.
const WORDS: i64 = 1;

const SUSPENDED: &str = "the Application is suspended: it stays at its step";

/// Where objects of other commits come from.
pub(in crate::agent) trait Whence {
    /// The application at these commits, with `+` between them.
    async fn at(&self, commit: &str) -> Result<RenderedApp>;

    /// Begins to ask a gate; the answer comes to the next pass.
    fn ask(&self, gate: &Gate, about: About, memory: &Remembered);
}

/// What a pass came to.
#[derive(Debug)]
pub(in crate::agent) struct Ended {
    /// How the rollout of what Git wants stands; `None` where it is what users get.
    pub(in crate::agent) rolling: Option<Health>,
    /// When to come again, if nothing happens before.
    pub(in crate::agent) again: Option<Duration>,
    /// Somebody wants the rejected revision tried again.
    pub(in crate::agent) retried: bool,
    /// What people are to know: a reason in a word, and what is the matter.
    pub(in crate::agent) alarm: Option<(String, String)>,
}

/// A rollout on its way through a pass.
pub(super) struct Course<'a, W> {
    pub(super) engine: &'a Engine,
    pub(super) pass: &'a Pass<'a>,
    pub(super) bound: &'a Bound,
    pub(super) desired: &'a [Desired],
    pub(super) commit: &'a str,
    /// With the status as it was decided.
    pub(super) policy: Policy,
    /// The status as it is written.
    pub(super) written: RolloutStatus,
    pub(super) memory: &'a mut Remembered,
    pub(super) whence: &'a W,
    pub(super) outcome: &'a mut Outcome,
    /// The revision that the target is to become cannot be had.
    pub(super) lost: bool,
    /// What it waits for; the status may be a second behind.
    said: String,
}

/// What a pass knows of a rollout.
pub(in crate::agent) struct Asked<'a> {
    /// The policy and its target.
    pub(in crate::agent) bound: &'a Bound,
    /// How it stood before the sync.
    pub(in crate::agent) stand: &'a Stand,
    /// The sync came to the target.
    pub(in crate::agent) handed: bool,
    /// The commits of what is wanted, with `+` between them.
    pub(in crate::agent) commit: &'a str,
    /// Those that were delivered last.
    pub(in crate::agent) delivered: &'a str,
}

impl Engine {
    /// Goes on with a rollout as far as it goes now.
    ///
    /// # Errors
    /// Those of the API server, and `RolloutInvalid` where a revision cannot be had.
    pub(in crate::agent) async fn roll<W: Whence>(
        &self,
        pass: &Pass<'_>,
        asked: Asked<'_>,
        memory: &mut Remembered,
        whence: &W,
        outcome: &mut Outcome,
    ) -> Result<Ended> {
        let Asked { bound, stand, handed, commit, delivered } = asked;
        let rolling = |policy: Option<&Policy>| {
            let status = policy.map(|policy| policy.status.clone()).unwrap_or_default();
            health(&status, &bound.revision)
        };
        let Some(policy) = stand.policy.clone() else {
            let rolling = stand.held.then(|| rolling(None));
            return Ok(Ended { rolling, again: None, retried: false, alarm: None });
        };
        if !stand.turns {
            return Ok(Ended { rolling: None, again: None, retried: false, alarm: None });
        }
        let desired = &pass.prepared.desired;
        let written = policy.status.clone();
        let mut course = Course {
            engine: self,
            pass,
            bound,
            desired,
            commit,
            policy,
            written,
            memory,
            whence,
            outcome,
            lost: false,
            said: String::new(),
        };
        let acts = course.policy.status.acts.len();
        let stalled = stalled(&course.written);
        course.follow();
        let ended = course.go(stand, handed, delivered).await;
        if matches!(ended, Ok(None)) && course.policy.is_at_rest() {
            course.memory.following = None;
        }
        // What could not be written was never decided.
        course.policy.status.clone_from(&course.written);
        let policy = course.policy.clone();
        course.memory.policy = Some(policy.clone());
        course.memory.failed = ended.is_err();
        let alarm = self::stalled(&policy.status)
            .filter(|reason| stalled.as_ref() != Some(reason))
            .map(|reason| (reason, course.said.clone()));
        match ended {
            Ok(again) => {
                let status = &policy.status;
                let settled = policy.is_settled(bound);
                if settled && !stand.policy.as_ref().is_some_and(|before| before.is_settled(bound)) {
                    // Also where it only went back: what users get is of this commit from now on.
                    course.outcome.applied.push((desired[bound.target].key.clone(), Why::Changed));
                }
                if settled {
                    for at in bound.own.iter().chain([&bound.target]) {
                        course.outcome.handed.remove(&desired[*at].key);
                    }
                }
                let retried = status.acts.len() != acts
                    && status.acts.last().is_some_and(|act| act.verb == RolloutVerb::Retry);
                let first = status.stable.is_none() && !stand.held;
                let rolling = (!settled && !first).then(|| rolling(Some(&policy)));
                // What was held back goes on as usual.
                let again = if settled && stand.held { Some(Duration::ZERO) } else { again };
                Ok(Ended { rolling, again, retried, alarm })
            }
            Err(error) if error.code == Code::ConflictRefused => {
                // Somebody wrote meanwhile: it is read again.
                course.memory.policy = None;
                let rolling = stand.held.then(|| rolling(Some(&policy)));
                Ok(Ended { rolling, again: Some(Duration::from_millis(100)), retried: false, alarm })
            }
            Err(error) => Err(error),
        }
    }
}

impl<W: Whence> Course<'_, W> {
    /// What it looks at is kept as the watches bring it.
    fn follow(&mut self) {
        if self.memory.following.is_some() {
            return;
        }
        let target = &self.desired[self.bound.target].key;
        let leased = self.bound.division.watched().into_iter().map(|at| self.desired[at].key.clone());
        // What a policy describes may have its fields anywhere.
        let own = self.bound.spec.target_ref.fields.is_none().then(|| [target.clone(), beside(target)]);
        let doubled = self.bound.division.doubled();
        let doubled = doubled.into_iter().map(|(_, at, _)| beside(&self.desired[at].key));
        let all = leased.chain(doubled).chain(own.into_iter().flatten()).collect();
        self.memory.following = Some(self.engine.index.follow(all));
    }

    async fn go(&mut self, stand: &Stand, handed: bool, delivered: &str) -> Result<Option<Duration>> {
        let mut before: Vec<Command> = Vec::new();
        let mut scene = None;
        for _ in 0..TURNS {
            let now = Timestamp::now();
            let seen = if let Some(seen) = &scene {
                seen
            } else {
                let mut seen = self.look(delivered).await?;
                self.count_endpoints(&mut seen).await?;
                scene.insert(seen)
            };
            let since = self.memory.looks(now);
            if let Some(wish) = self.asked_of_kind(seen) {
                if self.pass.policy.is_suspended(now) {
                    return self.say(SUSPENDED.to_owned(), now).await;
                }
                self.wish(wish, seen).await?;
            }
            let wanted = self.wanted(stand, handed);
            let measured = self.memory.answers(&self.policy.status);
            let act = self.policy.act.clone();
            let decision = decide(
                &self.bound.rules,
                &self.policy.status,
                &Seen {
                    now,
                    since,
                    wanted: &wanted,
                    replicas: seen.replicas,
                    unschedulable: seen.unschedulable,
                    sizing: seen.sizing,
                    stable: seen.stable_side.as_ref(),
                    candidate: seen.candidate_side.as_ref(),
                    traffic: seen.traffic.clone(),
                    measured: &measured,
                    act: act.as_ref(),
                },
            );
            if let Some(next) = &decision.status
                && self.pass.policy.is_suspended(now)
                && goes_on(&self.policy.status, next)
            {
                // Back it goes at any time.
                return self.say(SUSPENDED.to_owned(), now).await;
            }
            if let Some(mut status) = decision.status {
                if let Some(stable) = status.stable.as_mut().filter(|stable| stable.commit.is_empty()) {
                    // It was there before the policy: what was delivered last.
                    delivered.clone_into(&mut stable.commit);
                }
                // What is within a target is read by the phase.
                let read_anew =
                    matches!(&self.bound.form, Form::Within(_)) && status.phase != self.policy.status.phase;
                self.decided(status);
                if read_anew {
                    scene = None;
                }
                continue;
            }
            self.write(&decision.message, now).await?;
            let scene_now = scene.take().ok_or_else(|| Error::new(Code::Internal, "nothing was seen"))?;
            // The way back comes before all else, and nothing that fails holds up the rest of it.
            let goes_back = self.policy.status.phase == RolloutPhase::Aborting;
            if !goes_back {
                self.tend(&scene_now, &decision.commands).await?;
            }
            let orders: Vec<&Command> =
                decision.commands.iter().filter(|command| !matches!(command, Command::Measure(_))).collect();
            // The same again: what was ordered is on its way.
            let repeated = !orders.is_empty() && before.iter().eq(orders.iter().copied());
            let mut failed = None;
            for command in decision.commands.iter().filter(|_| !repeated) {
                if let Err(error) = self.act(command, &scene_now).await {
                    failed = failed.or(Some(error));
                    if !goes_back {
                        break;
                    }
                }
            }
            if let Some(error) = failed {
                // Or it would say what it waited for before.
                if error.code != Code::ConflictRefused {
                    let why = if decision.message.is_empty() { "" } else { ": " };
                    self.say(format!("{}{why}{error}", decision.message), now).await?;
                }
                return Err(error);
            }
            if goes_back {
                self.tend(&scene_now, &decision.commands).await?;
            }
            let waits = orders.is_empty() || repeated;
            before = orders.into_iter().cloned().collect();
            if !waits {
                continue;
            }
            if self.policy.is_settled(self.bound) && before.is_empty() {
                self.restore().await?;
            }
            let again = decision.again.map(|at| left(at, now).max(Duration::from_millis(50)));
            let orders = (!before.is_empty()).then_some(AGAIN);
            // Not all that is waited for is told by an event: a last pod may end without a change of anybody's health.
            let moves = !self.policy.is_at_rest() && self.moves();
            let tidy = self.tidy().await;
            let again = [again, orders, moves.then_some(LOOK), self.memory.endpoints.again(), tidy];
            let again = again.into_iter().flatten().min();
            let words = self.say(decision.message, now).await?;
            return Ok([again, words].into_iter().flatten().min());
        }
        self.write("", Timestamp::now()).await?;
        Ok(Some(AGAIN))
    }

    /// Keeps what there is as it is to be: what a candidate needs, what others changed, what Git changed of a route.
    async fn tend(&mut self, scene: &Scene, commands: &[Command]) -> Result<()> {
        if self.policy.status.phase != RolloutPhase::Pending
            && let Some(candidate) = &scene.candidate
            && !commands.contains(&Command::Retire)
        {
            self.stand_by(candidate, scene, None).await?;
        }
        self.repair(scene).await?;
        if !self.policy.is_at_rest() {
            self.expel(scene).await?;
        }
        if self.policy.status.phase == RolloutPhase::Promoting && self.policy.status.candidate.is_some() {
            self.wish(Wish::PromoteFull, scene).await?;
        }
        if let Traffic::Router(Some(routed)) = &scene.traffic
            && !self.policy.is_at_rest()
            && !commands.iter().any(|command| matches!(command, Command::Route(_)))
        {
            self.follow_git(&routed.clone(), scene).await?;
        }
        Ok(())
    }

    /// Whether something is waited for that no event may tell of: on the way to a step and back, and pods of a kind whose health
    /// nobody judges at any time.
    fn moves(&self) -> bool {
        let status = &self.policy.status;
        let is_told = !matches!(&self.bound.form, Form::Beside(kind) if !kind.is_known());
        !is_told
            || status.reached_at.is_empty()
            || !status.best_at.is_empty()
            || !status.unschedulable_at.is_empty()
            || status.phase != RolloutPhase::Progressing
    }

    /// What a person asks of a target that goes in steps itself. It is told before that is written down: an agent that ends
    /// between the two asks again, of what the target waits for then.
    fn asked_of_kind(&self, seen: &Scene) -> Option<Wish> {
        let side = seen.candidate_side.as_ref().filter(|side| side.steps_itself)?;
        let is_it = self.policy.status.candidate.as_ref().is_some_and(|known| known.digest == side.digest);
        if !is_it || self.policy.status.phase != RolloutPhase::Progressing {
            return None;
        }
        match self.policy.asks()?.verb {
            RolloutVerb::Promote => Some(Wish::Promote),
            RolloutVerb::PromoteFull => Some(Wish::PromoteFull),
            _ => None,
        }
    }

    /// What is live; a target without a mark counts as the stable revision, or as what was there before.
    async fn look(&mut self, delivered: &str) -> Result<Scene> {
        let target = &self.desired[self.bound.target];
        let digest = self.outcome.inventory.get(&target.key).map(|owned| owned.digest);
        let unmarked = match &self.policy.status.stable {
            Some(stable) => stable.digest.clone(),
            None if digest.is_none_or(|digest| digest == target.digest || digest == self.bound.plain) => {
                self.bound.revision.clone()
            }
            None => {
                let parts =
                    [delivered.as_bytes(), digest.as_ref().map_or(&[][..], |digest| digest.as_bytes())];
                Digest::of_parts(parts).to_string()[..16].to_owned()
            }
        };
        let mut scene = self.engine.scene(self.bound, self.desired, &self.policy.status, &unmarked).await?;
        // Nothing tells that it was carried out; so it does not count before its time. What another process wrote may be as
        // new as this one.
        let settles = self.bound.division.settles();
        let divides = matches!(&scene.traffic, Traffic::Router(Some(routed)) if *routed != Routed::default());
        if divides && !settles.is_zero() && self.memory.routed_at.is_none() {
            self.memory.routed_at = Some(Instant::now());
        }
        if self.memory.routed_at.is_some_and(|at| at.elapsed() < settles) {
            scene.traffic = Traffic::Router(None);
        }
        Ok(scene)
    }

    /// What the machine is to want: what Git wants, as far as the sync has come to it. What lowers the risk needs no leave.
    fn wanted(&self, stand: &Stand, handed: bool) -> RolloutRevision {
        let own = RolloutRevision { digest: self.bound.revision.clone(), commit: self.commit.to_owned() };
        let status = &self.policy.status;
        let retried = status.acts.last().is_some_and(|act| act.verb == RolloutVerb::Retry)
            && status.rejected.iter().all(|rejected| rejected.revision.digest != own.digest);
        let is_stable = status.stable.as_ref().is_some_and(|stable| stable.digest == own.digest);
        if handed || !stand.held || is_stable || retried || self.policy.asks().is_some_and(is_retry) {
            return own;
        }
        let on_its_way = status.candidate.clone().filter(|_| !self.policy.is_at_rest());
        on_its_way.or_else(|| status.stable.clone()).unwrap_or(own)
    }

    /// Takes a decision over; those after it that have no effects either are written with it.
    fn decided(&mut self, mut status: RolloutStatus) {
        let before = &self.policy.status;
        let is_elsewhere = (status.phase, status.step) != (before.phase, before.step);
        if is_elsewhere || status.acts != before.acts {
            // What was said of another place, or before somebody asked.
            status.message.clear();
        }
        self.policy.status = status;
    }

    /// Writes what was decided, with the words of now; nothing where nothing was.
    async fn write(&mut self, message: &str, now: Timestamp) -> Result<()> {
        if self.policy.status == self.written {
            return Ok(());
        }
        let status = self.composed(message, now);
        self.put_status(status).await
    }

    /// What was decided, with words and conditions.
    fn composed(&self, message: &str, now: Timestamp) -> RolloutStatus {
        let mut status = self.policy.status.clone();
        status.message = match &self.policy.unreadable {
            Some(why) => {
                format!("{message}; the annotation driftless.dev/rollout-request cannot be read: {why}")
            }
            None => message.to_owned(),
        };
        described(&mut status, self.policy.generation, self.lost, now);
        status
    }

    async fn put_status(&mut self, status: RolloutStatus) -> Result<()> {
        self.policy =
            self.engine.write_rollout(&self.bound.policy, &self.policy, &self.written, &status).await?;
        self.written = status;
        Ok(())
    }

    /// Words that changed are written too, but not with every pod; returns when they are to be.
    async fn say(&mut self, message: String, now: Timestamp) -> Result<Option<Duration>> {
        let status = self.composed(&message, now);
        self.said = message;
        if status == self.written {
            return Ok(None);
        }
        let only_words = self.policy.status == self.written
            && status.observed_generation == self.written.observed_generation
            && !self.written.message.is_empty()
            && !status.message.is_empty();
        let since = now.as_second() - self.memory.said;
        if only_words && since < WORDS {
            return Ok(Some(Duration::from_secs(1)));
        }
        self.memory.said = now.as_second();
        self.put_status(status).await?;
        Ok(None)
    }

    /// What others did to the target while its rollout is on its way.
    async fn repair(&mut self, scene: &Scene) -> Result<()> {
        let target = &self.desired[self.bound.target];
        let status = &self.policy.status;
        let Some(stable) = status.stable.clone() else { return Ok(()) };
        let owned = self.outcome.inventory.get(&target.key);
        let why = match (&scene.stable_side, self.engine.index.get(&target.key), owned) {
            (None, _, _) if status.phase == RolloutPhase::Progressing => Why::Missing,
            (Some(_), Some(seen), Some(owned)) if seen.ours != owned.ours && *seen.uid == *owned.uid => {
                Why::Edited
            }
            _ => return Ok(()),
        };
        if !self.pass.permissions.repair {
            return Ok(());
        }
        if let (Form::Within(kind), Some(candidate), Some(side)) =
            (&self.bound.form, status.candidate.clone(), &scene.candidate_side)
        {
            let much = match (kind.measure(), &scene.traffic) {
                (Measure::Traffic, Traffic::Router(Some(routed))) => routed.weight,
                (Measure::Traffic, _) => status.weight,
                _ => side.size,
            };
            return self.share(*kind, &candidate, much, scene, why).await;
        }
        let runs = scene.stable_side.as_ref().map(|side| side.digest.as_str());
        let revision = match &status.candidate {
            Some(candidate) if runs == Some(candidate.digest.as_str()) => candidate.clone(),
            _ => stable,
        };
        self.apply(&revision, scene, why).await
    }

    pub(super) fn ask(&self, gate: &str) {
        let Some(stated) = self.bound.spec.gates.iter().find(|stated| stated.name == gate) else { return };
        self.whence.ask(stated, self.about(gate), self.memory);
    }

    /// Ends Jobs and Workflows whose results nobody waits for, once for each place that the rollout comes to; returns when
    /// to look again.
    async fn tidy(&mut self) -> Option<Duration> {
        let status = &self.policy.status;
        let candidate = status.candidate.as_ref().map(|candidate| candidate.digest.clone());
        let place = (status.phase, status.step, candidate.unwrap_or_default());
        if self.memory.tidied.as_ref() == Some(&place) {
            return None;
        }
        let moves = status.phase == RolloutPhase::Progressing;
        let gates = status.gates.iter().filter(|_| moves);
        let awaited: Vec<(&str, About)> =
            gates.map(|gate| (gate.name.as_str(), self.about(&gate.name))).collect();
        let forgot = self.memory.forget(|name, turn, revision| {
            let about = awaited.iter().find(|(known, _)| *known == name).map(|(_, about)| about);
            about.is_some_and(|about| about.turn == turn && about.revision == revision)
        });
        let kept = awaited.iter().map(|(name, about)| run_name(name, about)).collect();
        let policy = (&*self.bound.policy.name, &*self.policy.uid);
        let namespace = &self.bound.policy.namespace;
        let ended = Gates::end(&self.engine.cluster, &self.bound.spec.gates, namespace, policy, &kept).await;
        match ended {
            // One that was just being made may appear after the look.
            Ok(()) if forgot => return Some(AGAIN),
            Ok(()) => {}
            Err(error) if error.code.is_transient() && error.code != Code::Forbidden => return Some(AGAIN),
            // They end by their deadlines; nothing else of the rollout waits for that.
            Err(error) => {
                tracing::warn!(policy = %self.bound.policy, error = %error, "Jobs of gates cannot be ended.");
            }
        }
        self.memory.tidied = Some(place);
        None
    }

    fn about(&self, gate: &str) -> About {
        let (bound, status) = (self.bound, &self.policy.status);
        let known = status.gates.iter().find(|known| known.name == gate);
        let target = &self.desired[bound.target].key;
        let service = bound.division.services().first().map(|at| self.desired[*at].key.name.clone());
        let service = service.unwrap_or_default();
        // With pods for traffic, all of it goes by one Service.
        let own = !service.is_empty() && !matches!(bound.division, Division::Pods(_));
        let digest = |revision: Option<&RolloutRevision>| revision.map(|known| known.digest.clone());
        About {
            namespace: target.namespace.clone(),
            target: target.name.clone(),
            candidate: match &bound.form {
                Form::Beside(_) => candidate_name(&target.name),
                Form::Within(_) => target.name.clone(),
            },
            candidate_service: if own { candidate_name(&service) } else { service.clone() },
            stable_service: service,
            revision: digest(status.candidate.as_ref()).unwrap_or_default(),
            stable_revision: digest(status.stable.as_ref()).unwrap_or_default(),
            policy: bound.policy.name.clone(),
            uid: self.policy.uid.clone(),
            // What is asked in the background goes on from step to step.
            step: if bound.rules.background.iter().any(|name| name == gate) { 0 } else { status.step },
            turn: known.map(About::next).unwrap_or_default(),
            // Both are of one form, so the later one is the greater text.
            since: known.map(|known| known.since.clone()).unwrap_or_default().max(status.reached_at.clone()),
        }
    }
}

/// Why a rollout does not go on by itself, in a word.
fn stalled(status: &RolloutStatus) -> Option<String> {
    let mut all = status.conditions.iter();
    let stalled = all.find(|one| one.kind == "Stalled" && one.status == ConditionStatus::True)?;
    Some(stalled.reason.clone())
}

/// Whether a decision brings more of the new revision to users than its step does.
fn goes_on(now: &RolloutStatus, next: &RolloutStatus) -> bool {
    let begins = now.candidate.is_none() && next.candidate.is_some();
    let promotes = now.phase == RolloutPhase::Progressing && next.phase == RolloutPhase::Promoting;
    begins || promotes || next.step > now.step
}

fn is_retry(act: &crate::api::RolloutAct) -> bool {
    act.verb == RolloutVerb::Retry
}
