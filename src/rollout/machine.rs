//! What to do next.
//!
//! 1. A decision either writes the status or acts, never both: where the status changes there are no commands, and the
//!    machine is asked again at once. So a process that ends between the two, or in the middle of a list of commands, is
//!    followed by one that decides the same.
//! 2. Commands say how things are to be, and are given again until that is observed.
//! 3. A step is left once: `step` counts up in the same write that forgets what was reached and measured in it.
//! 4. Weight goes up only to pods that are there; it goes to 0 before pods go.
//! 5. What was rejected is not begun again. Another revision is, and what was good before skips the steps.

use jiff::{SignedDuration, Timestamp};

use super::gate::{self, Measurement, Verdict};
use super::policy::{Hold, Policy, Step};
use super::sizes::Sizes;
use crate::api::{
    RejectedRevision, RolloutAct, RolloutPhase, RolloutRevision, RolloutStatus, RolloutVerb, second,
};
use crate::model::short_commit;

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
}

/// How traffic is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// By the number of pods.
    Pods,
    /// By a router, with what it is observed to do: percent to the candidate, and percent copied to it. `None` where that
    /// is not known.
    Router(Option<Routed>),
}

/// What a router does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// Percent of the traffic.
    pub weight: u32,
    /// Percent of the traffic that is copied.
    pub mirror: u32,
}

/// What is seen.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// When.
    pub now: Timestamp,
    /// What Git wants.
    pub wanted: &'a RolloutRevision,
    /// Pods that the target is to have, whoever decides that.
    pub replicas: u32,
    /// The target; `None` where it does not exist.
    pub stable: Option<&'a Side>,
    /// The new revision beside it; `None` where it does not exist.
    pub candidate: Option<&'a Side>,
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
            Self::Route(Routed { weight, mirror: 0 }) => write!(f, "route {weight} %"),
            Self::Route(Routed { weight, mirror }) => write!(f, "route {weight} %, copy {mirror} %"),
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
    turn.hear();
    turn.measured();
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

fn push<T>(list: &mut Vec<T>, item: T, most: usize) {
    list.push(item);
    if list.len() > most {
        list.remove(0);
    }
}

fn after(text: &str, seconds: i64) -> Timestamp {
    let from: Timestamp = text.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    from.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

impl Turn<'_> {
    fn now(&self) -> String {
        second(self.seen.now)
    }

    fn wake(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |known| known.min(at)));
    }

    fn wait(&mut self, text: &str, seconds: i64) -> bool {
        let until = after(text, seconds);
        let waits = until > self.seen.now;
        if waits {
            self.wake(until);
        }
        waits
    }

    fn is_rejected(&self, revision: &RolloutRevision) -> bool {
        self.status.rejected.iter().any(|rejected| rejected.revision.digest == revision.digest)
    }

    fn step(&self) -> Option<&Step> {
        self.policy.steps.get(self.status.step as usize)
    }

    fn sizes(&self) -> Sizes<'_> {
        Sizes::new(self.policy, self.seen)
    }

    fn is_routed(&self) -> bool {
        matches!(self.seen.traffic, Traffic::Router(_))
    }

    // ---- what people say ----

    fn hear(&mut self) {
        let Some(act) = self.seen.act else { return };
        if self.status.acts.iter().any(|done| done.id == act.id) {
            return;
        }
        let act = RolloutAct { at: self.now(), ..act.clone() };
        let moving = self.status.phase == RolloutPhase::Progressing;
        match act.verb {
            RolloutVerb::Pause => self.status.paused = Some(act.clone()),
            RolloutVerb::Resume => self.status.paused = None,
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
            RolloutVerb::Promote | RolloutVerb::PromoteFull | RolloutVerb::Abort => {}
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
                waits_for("the first revision", side.available, self.seen.replicas, &side.obstacle)
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

    /// Asks the router, unless it does so already; whether it had to be asked.
    fn route(&mut self, routed: Routed) -> bool {
        match self.seen.traffic {
            Traffic::Router(known) if known != Some(routed) => {
                self.commands.push(Command::Route(routed));
                true
            }
            _ => false,
        }
    }

    // ---- step by step ----

    fn progress(&mut self, stable: &RolloutRevision) -> String {
        let seen = self.seen;
        let Some(revision) = self.status.candidate.clone() else {
            self.status.phase = RolloutPhase::Healthy;
            return String::new();
        };
        if seen.wanted.digest == stable.digest {
            self.abort("Git went back to the stable revision".to_owned(), false);
            return String::new();
        }
        if seen.wanted.digest != revision.digest {
            self.abort("a newer revision takes its place".to_owned(), false);
            return String::new();
        }
        let Some(step) = self.step().cloned() else {
            self.status.phase = RolloutPhase::Promoting;
            return String::new();
        };
        if let Some(why) = self.failed_gate() {
            self.abort(why, true);
            return String::new();
        }
        let (sizes, goal) = self.sizes().of(&step);
        let Some(candidate) = seen.candidate.filter(|side| side.digest == revision.digest) else {
            // No share for what is not there.
            if self.route(Routed::default()) {
                return "the candidate is not there and gets no traffic".to_owned();
            }
            self.commands.push(Command::Create(revision, sizes.candidate));
            return self.patience("the candidate is made");
        };
        // I8: whoever has no pod gets no traffic, whatever the step says.
        if candidate.available == 0 && self.route(Routed::default()) {
            return self.patience("no pod of the candidate serves: it gets no traffic");
        }
        if candidate.available > self.status.best {
            self.status.best = candidate.available;
            self.status.best_at = self.now();
            return String::new();
        }
        // From the first weight on, whatever else the step waits for.
        if self.status.weight > 0 && self.ask(&self.policy.background, true).is_none() {
            return String::new();
        }
        if candidate.size != sizes.candidate {
            self.commands.push(Command::SizeCandidate(sizes.candidate));
        }
        if seen.stable.is_some_and(|side| side.size != sizes.stable) {
            self.commands.push(Command::SizeStable(sizes.stable));
        }
        if !self.sizes().are_there(goal) {
            let obstacle = if candidate.obstacle.is_empty() {
                seen.stable.map(|side| side.obstacle.clone()).unwrap_or_default()
            } else {
                candidate.obstacle.clone()
            };
            let waits = waits_for(&self.place(), candidate.available, goal.candidate, &obstacle);
            return self.patience(&waits);
        }
        let routed = Routed { weight: step.weight, mirror: step.mirror };
        if self.is_routed() {
            if self.status.weight != step.weight {
                if let Some(why) = self.sizes().refusal(step.weight) {
                    return self.patience(&format!("{}: {why}", self.place()));
                }
                self.status.weight = step.weight;
                return String::new();
            }
            if self.route(routed) {
                return self.patience(&format!("{}: the router is to send {} %", self.place(), step.weight));
            }
        } else if self.status.weight != step.weight {
            self.status.weight = step.weight;
            return String::new();
        }
        if self.status.reached_at.is_empty() {
            self.status.reached_at = self.now();
            return String::new();
        }
        self.stay(&step)
    }

    /// Asks what is due of these gates; those that do not bind the step are waited for by nobody. `None` where one begins,
    /// which is written down first.
    fn ask(&mut self, names: &[String], background: bool) -> Option<Vec<String>> {
        if self.status.skips {
            return Some(Vec::new());
        }
        let known =
            |status: &RolloutStatus, name: &String| status.gates.iter().position(|gate| gate.name == *name);
        let mut begun = false;
        for name in names {
            if known(&self.status, name).is_none() {
                self.status.gates.push(gate::begin(name, self.seen.now));
                begun = true;
            }
        }
        if begun {
            return None;
        }
        let mut waiting = Vec::new();
        for name in names {
            let status = known(&self.status, name).and_then(|at| self.status.gates.get(at));
            let (Some(rule), Some(status)) = (self.policy.gates.get(name), status) else { continue };
            let due = match rule.verdict(status) {
                Verdict::Open(due) => {
                    if !background && !rule.dry_run {
                        waiting.push(format!("gate {name} {} of {}", status.passed, rule.count));
                    }
                    due
                }
                Verdict::Passed if background => rule.due(status),
                // A dry run that has failed is over too.
                Verdict::Passed | Verdict::Failed(_) => continue,
            };
            if due <= self.seen.now {
                self.commands.push(Command::Measure(name.clone()));
            } else {
                self.wake(due);
            }
        }
        Some(waiting)
    }

    /// The step is reached: time and gates.
    fn stay(&mut self, step: &Step) -> String {
        let place = self.place();
        // Gates begin when what they judge is there.
        let Some(waiting) = self.ask(&step.gates, false) else { return String::new() };
        if let Some(paused) = &self.status.paused {
            let why = if paused.why.is_empty() { String::new() } else { format!(": {}", paused.why) };
            return format!("{place}: paused by {}{why}", word(&paused.by));
        }
        let reached = self.status.reached_at.clone();
        match step.hold {
            _ if self.status.skips => {}
            Hold::Promoted => return format!("{place}: waits for `driftless rollout promote`"),
            Hold::For(seconds) => {
                if self.wait(&reached, seconds) {
                    return format!("{place}: held until {}", second(after(&reached, seconds)));
                }
            }
        }
        if let Some(first) = waiting.first() {
            return format!("{place}: waits for {first}");
        }
        self.leave_step();
        String::new()
    }

    fn failed_gate(&self) -> Option<String> {
        self.status.gates.iter().find_map(|status| {
            let rule = self.policy.gates.get(&status.name).filter(|rule| !rule.dry_run)?;
            match rule.verdict(status) {
                Verdict::Failed(why) => Some(why),
                Verdict::Passed | Verdict::Open(_) => None,
            }
        })
    }

    fn place(&self) -> String {
        let weight = self.step().map_or(100, |step| step.weight);
        format!("step {} of {} ({weight} %)", self.status.step + 1, self.policy.steps.len())
    }

    /// Waits as long as the deadline lets it.
    fn patience(&mut self, waits: &str) -> String {
        let begun = self.status.best_at.clone();
        if self.status.paused.is_some() || self.wait(&begun, self.policy.deadline) {
            return waits.to_owned();
        }
        let deadline = self.policy.deadline;
        self.abort(format!("{waits}; it came no nearer for {deadline} s"), true);
        String::new()
    }
}

fn word(text: &str) -> &str {
    if text.is_empty() { "somebody" } else { text }
}

fn waits_for(what: &str, available: u32, wanted: u32, obstacle: &str) -> String {
    let obstacle = if obstacle.is_empty() { String::new() } else { format!(": {obstacle}") };
    format!("{what}: {available} of {wanted} pods are available{obstacle}")
}

// ---- to the end, and back ----

impl Turn<'_> {
    /// The steps are behind it: the target becomes the new revision, then takes the traffic, then the candidate goes.
    fn promote(&mut self) -> String {
        let seen = self.seen;
        let Some(revision) = self.status.candidate.clone() else {
            // The first revision, or one that somebody took away from the status.
            self.status.stable = None;
            return self.first();
        };
        let Some(target) = seen.stable.filter(|side| side.digest == revision.digest) else {
            self.commands.push(Command::Apply(revision));
            return "the target becomes the new revision".to_owned();
        };
        // With a router the candidate keeps its pods until the traffic has left it.
        let (stable, candidate) = match seen.candidate {
            Some(_) if !self.is_routed() => {
                let back = self.sizes().back();
                (back.stable, Some(back.candidate))
            }
            _ => (seen.replicas, None),
        };
        if target.size != stable {
            self.commands.push(Command::SizeStable(stable));
        }
        if let Some(candidate) =
            candidate.filter(|size| seen.candidate.is_some_and(|side| side.size != *size))
        {
            self.commands.push(Command::SizeCandidate(candidate));
        }
        if target.available > self.status.best {
            self.status.best = target.available;
            self.status.best_at = self.now();
            return String::new();
        }
        if !target.settled || target.size != seen.replicas || target.available < seen.replicas {
            let begun = self.status.best_at.clone();
            let late = !self.wait(&begun, self.policy.deadline);
            let waits = waits_for(
                "the target as the new revision",
                target.available,
                seen.replicas,
                &target.obstacle,
            );
            // The candidate goes on serving: whoever is here has passed everything.
            return if late { format!("{waits}; it comes no nearer") } else { waits };
        }
        if self.status.weight != 0 {
            self.status.weight = 0;
            return String::new();
        }
        if self.is_routed() && self.route(Routed::default()) {
            return "the target takes the traffic".to_owned();
        }
        if seen.candidate.is_some() {
            self.commands.push(Command::Retire);
            return "the candidate goes".to_owned();
        }
        self.good(&revision.digest);
        self.status.stable = Some(revision);
        self.end(RolloutPhase::Healthy);
        String::new()
    }

    fn end(&mut self, phase: RolloutPhase) {
        self.status.phase = phase;
        self.status.candidate = None;
        self.status.paused = None;
        self.status.skips = false;
        self.enter_step(0);
        self.status.gates.clear();
        self.status.best_at.clear();
    }

    /// Traffic first, then pods; it only lowers the risk, so nothing holds it up.
    fn go_back(&mut self, stable: &RolloutRevision) -> String {
        let seen = self.seen;
        let why = self.status.abort.clone();
        // A target that had begun to become the new revision.
        if seen.stable.is_none_or(|side| side.digest != stable.digest) {
            self.commands.push(Command::Apply(stable.clone()));
        }
        let sizes = self.sizes().back();
        let stable_size = if seen.candidate.is_some() { sizes.stable } else { seen.replicas };
        if seen.stable.is_some_and(|side| side.size != stable_size) {
            self.commands.push(Command::SizeStable(stable_size));
        }
        if self.is_routed() {
            // What is not there gets nothing, whatever the other side can take.
            let serves = seen.candidate.is_some_and(|side| side.available > 0);
            let lowered = if serves { self.sizes().weight_back() } else { 0 };
            if self.route(Routed { weight: lowered, mirror: 0 }) || lowered > 0 {
                return format!("{why}; the traffic goes back");
            }
        } else if seen.candidate.is_some_and(|side| side.size > 0) {
            if seen.candidate.is_some_and(|side| side.size != sizes.candidate) {
                self.commands.push(Command::SizeCandidate(sizes.candidate));
            }
            return format!("{why}; the pods go back");
        }
        if self.status.drained_at.is_empty() {
            self.status.drained_at = self.now();
            return String::new();
        }
        if seen.candidate.is_some() {
            let drained = self.status.drained_at.clone();
            let delay = if self.status.rejects && self.is_routed() { self.policy.abort_delay } else { 0 };
            if self.wait(&drained, delay) {
                return format!("{why}; its pods stay until {}", second(after(&drained, delay)));
            }
            self.commands.push(Command::Retire);
            return format!("{why}; the candidate goes");
        }
        if seen.stable.is_none_or(|side| side.digest != stable.digest) {
            return format!("{why}; the target becomes the stable revision again");
        }
        let rejected = self.status.candidate.clone().filter(|_| self.status.rejects);
        if let Some(revision) = rejected {
            self.status.rejected.retain(|known| known.revision.digest != revision.digest);
            self.status.good.retain(|known| *known != revision.digest);
            let at = self.now();
            push(&mut self.status.rejected, RejectedRevision { revision, at, why }, REJECTED);
            self.end(RolloutPhase::Rejected);
        } else {
            self.end(RolloutPhase::Healthy);
        }
        self.status.abort.clear();
        self.status.rejects = false;
        self.status.drained_at.clear();
        String::new()
    }
}
