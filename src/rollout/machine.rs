//! What to do next.
//!
//! 1. A decision either writes the status or acts, never both: where the status changes there are no commands, and the
//!    machine is asked again at once. So a process that ends between the two, or in the middle of a list of commands, is
//!    followed by one that decides the same.
//! 2. Commands say how things are to be, and are given again until that is observed.
//! 3. A step is left once: `step` counts up in the same write that forgets what was reached and measured in it.
//! 4. Weight goes up only to pods that are there; it goes to 0 before pods go.
//! 5. What was rejected is not begun again. Another revision is, and what was good before skips the steps.

mod approval;
mod ending;
mod steps;

use jiff::Timestamp;

use super::gate::{self, Measurement};
use super::policy::{Policy, Step};
use super::record::{after, push};
use super::sizes::Sizes;
use crate::api::{
    HeaderMatch, RolloutAct, RolloutPhase, RolloutRevision, RolloutStatus, RolloutVerb, Unschedulable, second,
};
use crate::model::short_commit;

/// Seconds for which pods wait for a place before others make it: pods on their way out still free theirs, and a scheduler
/// tries again after 1 to 10 s.
const PLACE: i64 = 10;
/// Entries that the lists of the status keep.
const REJECTED: usize = 10;
const GOOD: usize = 10;
const ACTS: usize = 20;

/// One side as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Digest of what it runs.
    pub digest: String,
    /// Pods it is to have.
    pub size: u32,
    /// Pods that are there.
    pub pods: u32,
    /// Pods that serve.
    pub available: u32,
    /// Every pod runs what it is to run, and none is left of before.
    pub settled: bool,
    /// Why pods do not come up, such as a resource that no node has.
    pub obstacle: String,
    /// Its own controller goes in steps and is at it, or waits for a person: no deadline of the policy's counts.
    pub steps_itself: bool,
    /// Its own controller has given it up, and why.
    pub given_up: String,
}

/// How traffic is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// By the number of pods.
    Pods,
    /// By a router, with what it is observed to do: percent to the candidate, and percent copied to it. `None` where that
    /// is not known.
    Router(Option<Routed>),
}

/// What a router does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// Percent of the traffic.
    pub weight: u32,
    /// Percent of the traffic that is copied.
    pub mirror: u32,
    /// Requests with all of these headers go to the candidate only; in the order of their names. Nobody's where empty.
    pub headers: Vec<HeaderMatch>,
}

impl std::fmt::Display for Routed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", self.weight)?;
        if self.mirror > 0 {
            write!(f, ", copy {} %", self.mirror)?;
        }
        for (at, header) in self.headers.iter().enumerate() {
            write!(f, "{} {header}", if at == 0 { ", all with" } else { " and" })?;
        }
        Ok(())
    }
}

/// Who makes the sizes of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sizing {
    /// The rollout.
    #[default]
    Rollout,
    /// An autoscaler has the target's, which nobody else is to change: the candidate comes on top.
    Autoscaler,
    /// The target has a number of pods, and both revisions share them.
    Shared,
    /// The target's kind has all of them.
    Kind,
}

/// What is seen.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// When.
    pub now: Timestamp,
    /// Since when it is looked at without a break.
    pub since: Timestamp,
    /// What Git wants.
    pub wanted: &'a RolloutRevision,
    /// Pods that the target is to have, whoever decides that.
    pub replicas: u32,
    /// Who makes the sizes.
    pub sizing: Sizing,
    /// The target; `None` where it does not exist.
    pub stable: Option<&'a Side>,
    /// The new revision beside it; `None` where it does not exist.
    pub candidate: Option<&'a Side>,
    /// Pods are missing that cannot be scheduled, and nothing else is wrong with any.
    pub unschedulable: bool,
    /// How traffic is divided.
    pub traffic: Traffic,
    /// Measurements that have ended.
    pub measured: &'a [Measurement],
    /// What a person asks for.
    pub act: Option<&'a RolloutAct>,
}

/// How things are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The new revision beside the target, with these pods.
    Create(RolloutRevision, u32),
    /// Pods of the new revision.
    SizeCandidate(u32),
    /// Pods of the target.
    SizeStable(u32),
    /// How a router divides the traffic.
    Route(Routed),
    /// The target as this revision has it.
    Apply(RolloutRevision),
    /// Nothing beside the target.
    Retire,
    /// A measurement of this gate.
    Measure(String),
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |revision: &RolloutRevision| short_commit(&revision.digest).to_owned();
        match self {
            Self::Create(revision, pods) => {
                write!(f, "create candidate {} with {pods} pods", short(revision))
            }
            Self::SizeCandidate(pods) => write!(f, "candidate to {pods} pods"),
            Self::SizeStable(pods) => write!(f, "stable to {pods} pods"),
            Self::Route(routed) => write!(f, "route {routed}"),
            Self::Apply(revision) => write!(f, "apply {} to the target", short(revision)),
            Self::Retire => write!(f, "retire the candidate"),
            Self::Measure(gate) => write!(f, "measure {gate}"),
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The status, where it changes; it is written before anything else is asked.
    pub status: Option<RolloutStatus>,
    /// What to do, in this order.
    pub commands: Vec<Command>,
    /// What it waits for.
    pub message: String,
    /// When to ask again, if nothing is seen to change before.
    pub again: Option<Timestamp>,
}

/// What to do next.
pub fn decide(policy: &Policy, status: &RolloutStatus, seen: &Seen<'_>) -> Decision {
    let mut turn = Turn { policy, seen, status: status.clone(), commands: Vec::new(), again: None };
    turn.correct_clock();
    turn.hear();
    turn.measured();
    turn.expire();
    turn.note_place();
    // What people and gates said is written down before it has effects.
    let message = if turn.status == *status { turn.go() } else { String::new() };
    let Turn { status: after, commands, again, .. } = turn;
    let changed = after != *status;
    Decision {
        status: changed.then_some(after),
        commands: if changed { Vec::new() } else { commands },
        message,
        again: if changed { Some(seen.now) } else { again },
    }
}

struct Turn<'a> {
    policy: &'a Policy,
    seen: &'a Seen<'a>,
    status: RolloutStatus,
    commands: Vec<Command>,
    again: Option<Timestamp>,
}

impl Turn<'_> {
    fn now(&self) -> String {
        second(self.seen.now)
    }

    fn wake(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |known| known.min(at)));
    }

    fn wait(&mut self, text: &str, seconds: i64) -> bool {
        self.wait_until(after(text, seconds))
    }

    fn wait_until(&mut self, until: Timestamp) -> bool {
        let waits = until > self.seen.now;
        if waits {
            self.wake(until);
        }
        waits
    }

    /// When it has made no progress for too long. Time in which nobody looked does not count: what came to a stand, and why,
    /// is not known of it.
    fn deadline_of_progress(&self) -> Timestamp {
        let (begun, seconds) = (after(&self.status.best_at, 0), self.policy.deadline);
        after(&second(begun.max(self.seen.since)), seconds)
    }

    fn is_rejected(&self, revision: &RolloutRevision) -> bool {
        self.status.rejected.iter().any(|rejected| rejected.revision.digest == revision.digest)
    }

    fn step(&self) -> Option<&Step> {
        self.policy.steps.get(self.status.step as usize)
    }

    fn sizes(&self) -> Sizes<'_> {
        Sizes::new(self.policy, self.seen, self.status.without_surge)
    }

    fn is_routed(&self) -> bool {
        matches!(self.seen.traffic, Traffic::Router(_))
    }

    /// Times that are not yet, as of a clock that went wrong and was set right, would be waited for: they are now.
    fn correct_clock(&mut self) {
        let (now, status) = (self.now(), &mut self.status);
        let own = [
            &mut status.reached_at,
            &mut status.best_at,
            &mut status.drained_at,
            &mut status.unschedulable_at,
        ];
        let gates = status.gates.iter_mut().flat_map(|gate| [&mut gate.since, &mut gate.measured_at]);
        for time in own.into_iter().chain(gates).filter(|time| after(time, 0) > self.seen.now) {
            time.clone_from(&now);
        }
    }

    /// Whether pods wait for a place, since when, and whether others are to make it.
    fn note_place(&mut self) {
        use RolloutPhase::{Aborting, Progressing, Promoting};
        let phase = self.status.phase;
        let waits = self.seen.unschedulable && matches!(phase, Progressing | Promoting | Aborting);
        if !waits {
            if !self.status.unschedulable_at.is_empty() {
                self.status.unschedulable_at.clear();
                // The deadline stood still.
                if !self.status.best_at.is_empty() {
                    self.status.best_at = self.now();
                }
            }
            return;
        }
        if self.status.unschedulable_at.is_empty() {
            self.status.unschedulable_at = self.now();
            return;
        }
        // To the end and back it would wait for places that its own pods have.
        let asked = phase != Progressing || self.policy.unschedulable == Unschedulable::NoSurge;
        let can = self.seen.sizing == Sizing::Rollout && self.seen.replicas > 1;
        if asked && can && self.seen.candidate.is_some() && !self.status.without_surge {
            let since = self.status.unschedulable_at.clone();
            self.status.without_surge = !self.wait(&since, PLACE);
        }
    }

    // ---- what people say ----

    fn hear(&mut self) {
        let Some(act) = self.seen.act else { return };
        if self.status.acts.iter().any(|done| done.id == act.id) {
            return;
        }
        let mut act = RolloutAct { at: self.now(), refused: String::new(), ..act.clone() };
        let moving = self.status.phase == RolloutPhase::Progressing;
        match act.verb {
            RolloutVerb::Pause => self.status.paused = Some(act.clone()),
            RolloutVerb::Resume => {
                self.status.paused = None;
                // Nobody was waited for meanwhile.
                if !self.status.best_at.is_empty() {
                    self.status.best_at = self.now();
                }
            }
            // Its own controller was asked to go on; the step is over when that is done.
            RolloutVerb::Promote if moving && self.seen.candidate.is_some_and(|side| side.steps_itself) => {
                self.status.paused = None;
            }
            RolloutVerb::Promote if moving => {
                self.status.paused = None;
                self.leave_step();
            }
            RolloutVerb::PromoteFull if moving => {
                self.status.paused = None;
                self.enter_step(u32::try_from(self.policy.steps.len()).unwrap_or(u32::MAX).saturating_sub(1));
                // Its pods must be there first; nothing else is asked.
                self.status.gates.clear();
                self.status.skips = true;
            }
            RolloutVerb::Abort if moving || self.status.phase == RolloutPhase::Promoting => {
                let why = if act.why.is_empty() { String::new() } else { format!(": {}", act.why) };
                self.abort(format!("aborted by {}{why}", word(&act.by)), true);
            }
            RolloutVerb::Retry => {
                let wanted = &self.seen.wanted.digest;
                self.status.rejected.retain(|rejected| rejected.revision.digest != *wanted);
            }
            RolloutVerb::Approve | RolloutVerb::Deny => {
                act.refused = self.approval(&act).err().unwrap_or_default();
            }
            RolloutVerb::Promote | RolloutVerb::PromoteFull | RolloutVerb::Abort => {
                act.refused = format!("it came when the rollout was {:?}", self.status.phase);
            }
        }
        push(&mut self.status.acts, act, ACTS);
    }

    // ---- what gates say ----

    fn measured(&mut self) {
        for measurement in self.seen.measured {
            // An answer to a step that is behind us is no answer to this one.
            if let Some(status) = self.status.gates.iter_mut().find(|status| status.name == measurement.gate)
            {
                gate::add(status, measurement, self.seen.now);
            }
        }
    }

    // ---- where it stands ----

    fn go(&mut self) -> String {
        let wanted = self.seen.wanted;
        let Some(stable) = self.status.stable.clone() else { return self.first() };
        match self.status.phase {
            RolloutPhase::Progressing => self.progress(&stable),
            RolloutPhase::Promoting => self.promote(),
            RolloutPhase::Aborting => self.go_back(&stable),
            RolloutPhase::Pending | RolloutPhase::Healthy | RolloutPhase::Rejected => {
                if wanted.digest == stable.digest {
                    self.status.phase = RolloutPhase::Healthy;
                    return self.rest(&stable);
                }
                if self.is_rejected(wanted) {
                    self.status.phase = RolloutPhase::Rejected;
                    let why = self
                        .status
                        .rejected
                        .iter()
                        .rev()
                        .find(|known| known.revision.digest == wanted.digest);
                    let why = why.map(|known| known.why.clone()).unwrap_or_default();
                    let kept = self.rest(&stable);
                    return if kept.is_empty() { why } else { kept };
                }
                self.begin(wanted);
                String::new()
            }
        }
    }

    /// The first revision that the policy sees: what is there, or what Git wants where nothing is there.
    fn first(&mut self) -> String {
        let wanted = self.seen.wanted;
        match self.seen.stable {
            Some(side) if side.digest != wanted.digest && self.status.phase == RolloutPhase::Pending => {
                // It was there before the policy, and served.
                self.good(&side.digest);
                self.status.stable =
                    Some(RolloutRevision { digest: side.digest.clone(), commit: String::new() });
                self.status.phase = RolloutPhase::Healthy;
                String::new()
            }
            Some(side)
                if side.digest == wanted.digest && side.settled && side.available >= self.seen.replicas =>
            {
                self.status.stable = Some(wanted.clone());
                self.good(&wanted.digest);
                self.status.phase = RolloutPhase::Healthy;
                String::new()
            }
            Some(side) if side.digest == wanted.digest => {
                self.status.phase = RolloutPhase::Promoting;
                self.waits_for("the first revision", side.available, self.seen.replicas, &side.obstacle)
            }
            _ => {
                self.status.phase = RolloutPhase::Promoting;
                self.commands.push(Command::Apply(wanted.clone()));
                "the first revision is applied".to_owned()
            }
        }
    }

    /// Nothing is on its way: traffic and pods are as if there were no policy.
    fn rest(&mut self, stable: &RolloutRevision) -> String {
        if self.is_routed() && self.route(Routed::default()) {
            return "all traffic goes to the stable revision".to_owned();
        }
        if self.seen.candidate.is_some() {
            self.commands.push(Command::Retire);
            return "what is left of a candidate goes".to_owned();
        }
        if self.seen.stable.is_none_or(|side| side.digest != stable.digest) {
            self.commands.push(Command::Apply(stable.clone()));
            return "the stable revision is applied again".to_owned();
        }
        if self.seen.stable.is_some_and(|side| side.size != self.seen.replicas) {
            self.commands.push(Command::SizeStable(self.seen.replicas));
            return "the target gets its size".to_owned();
        }
        String::new()
    }

    fn begin(&mut self, wanted: &RolloutRevision) {
        self.status.candidate = Some(wanted.clone());
        self.status.abort.clear();
        self.status.drained_at.clear();
        self.status.rejects = false;
        self.status.skips = false;
        self.status.without_surge = false;
        self.status.gates.clear();
        self.enter_step(0);
        let known = self.status.good.contains(&wanted.digest);
        self.status.phase = if known && self.policy.skips_known_good {
            RolloutPhase::Promoting
        } else {
            RolloutPhase::Progressing
        };
    }

    fn enter_step(&mut self, step: u32) {
        self.status.step = step;
        self.status.weight = 0;
        self.status.reached_at.clear();
        self.status.best = 0;
        self.status.best_at = self.now();
        let background = &self.policy.background;
        self.status.gates.retain(|gate| background.contains(&gate.name));
    }

    fn leave_step(&mut self) {
        let weight = self.status.weight;
        let next = self.status.step + 1;
        self.enter_step(next);
        // Until the next one is reached, it has what it has.
        self.status.weight = weight;
        if next as usize >= self.policy.steps.len() {
            self.status.phase = RolloutPhase::Promoting;
        }
    }

    fn abort(&mut self, why: String, rejects: bool) {
        self.status.phase = RolloutPhase::Aborting;
        self.status.abort = why;
        self.status.rejects = rejects;
        self.status.drained_at.clear();
        self.status.weight = 0;
        self.status.paused = None;
    }

    fn good(&mut self, digest: &str) {
        self.status.good.retain(|known| known != digest);
        push(&mut self.status.good, digest.to_owned(), GOOD);
    }

    fn waits_for(&self, what: &str, available: u32, wanted: u32, obstacle: &str) -> String {
        // It counts no pods.
        if self.seen.sizing == Sizing::Kind {
            let why = if obstacle.is_empty() { "it is not ready" } else { obstacle };
            return format!("{what}: {why}");
        }
        let obstacle = if obstacle.is_empty() { String::new() } else { format!(": {obstacle}") };
        format!("{what}: {available} of {wanted} pods are available{obstacle}")
    }

    /// Asks the router, unless it does so already; whether it had to be asked.
    fn route(&mut self, routed: Routed) -> bool {
        match &self.seen.traffic {
            Traffic::Router(known) if known.as_ref() != Some(&routed) => {
                self.commands.push(Command::Route(routed));
                true
            }
            _ => false,
        }
    }
}

fn word(text: &str) -> &str {
    if text.is_empty() { "somebody" } else { text }
}
