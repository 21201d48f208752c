//! From step to step: pods, then traffic, then time and gates.

use super::{Command, Routed, Turn, approval, word};
use crate::api::{RolloutPhase, RolloutRevision, RolloutStatus, Unschedulable, second};
use crate::rollout::gate::{self, Verdict};
use crate::rollout::policy::{Hold, Step};
use crate::rollout::record::after;

impl Turn<'_> {
    pub(super) fn progress(&mut self, stable: &RolloutRevision) -> String {
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
        let given_up =
            seen.candidate.filter(|side| side.digest == revision.digest && !side.given_up.is_empty());
        if let Some(why) = self.failed_gate().or_else(|| given_up.map(|side| side.given_up.clone())) {
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
        let judges = self.status.weight > 0 || self.policy.rolls;
        if judges && self.ask(&self.policy.background, true).is_none() {
            return String::new();
        }
        if self.status.without_surge && self.is_routed() && !self.sizes().are_there(goal) {
            // The traffic follows pod by pod, before the other side gives the next one.
            let weight = self.sizes().weight_so_far(step.weight);
            if weight > self.status.weight {
                self.status.weight = weight;
                return String::new();
            }
            // Who tells by headers that they want it has it from the first pod on; copies come when all of its pods are there.
            let headers = if candidate.available > 0 { step.routed().headers } else { Vec::new() };
            if self.route(Routed { weight: self.status.weight, headers, ..Routed::default() }) {
                let weight = self.status.weight;
                return self.patience(&format!("{}: the router is to send {weight} %", self.place()));
            }
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
            let waits = self.waits_for(&self.place(), candidate.available, goal.candidate, &obstacle);
            return self.patience(&waits);
        }
        let routed = step.routed();
        if candidate.available == 0 && routed != (Routed { weight: step.weight, ..Routed::default() }) {
            return self.patience(&format!("{}: no pod of the candidate serves", self.place()));
        }
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
            self.status.best_at.clear();
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
                let gate = gate::begin(name, self.policy.gates.get(name), self.seen.now);
                self.status.gates.push(gate);
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
            let verdict = rule.verdict(status);
            if let (Some(people), Verdict::Open(_)) = (&rule.approval, &verdict) {
                if !rule.dry_run {
                    waiting.push(approval::waits_for(people, rule, status));
                }
                if let Some(until) = rule.waits_until(status) {
                    self.wake(until);
                }
                continue;
            }
            let due = match verdict {
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
        if !self.status.best_at.is_empty() {
            // What was lost is there again.
            self.status.best_at.clear();
            return String::new();
        }
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
        if let Some(name) = self.overdue() {
            return format!("{place}: waits for gate {name}, which was not asked for too long");
        }
        self.leave_step();
        String::new()
    }

    /// A gate of the background whose answer is older than two intervals, as after an outage of the agent: what it did not
    /// see meanwhile, no step is left for. What runs went on without it, and may take longer than a step.
    fn overdue(&self) -> Option<String> {
        let background = self.policy.background.iter().filter(|_| !self.status.skips);
        let overdue = background.filter(|name| {
            let status = self.status.gates.iter().find(|gate| gate.name == **name);
            let rule = self.policy.gates.get(*name).filter(|rule| !rule.dry_run && !rule.runs);
            let due = rule.zip(status).map(|(rule, status)| (rule.due(status), rule.interval));
            due.is_some_and(|(due, interval)| after(&second(due), interval) <= self.seen.now)
        });
        overdue.min().cloned()
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
        let routed = self.step().map_or(Routed { weight: 100, ..Routed::default() }, Step::routed);
        format!("step {} of {} ({routed})", self.status.step + 1, self.policy.steps.len())
    }

    /// Waits as long as the deadline lets it. What a step has reached and lost again is waited for from then on.
    fn patience(&mut self, waits: &str) -> String {
        if self.status.paused.is_some() {
            return waits.to_owned();
        }
        if self.seen.candidate.is_some_and(|side| side.steps_itself) {
            self.status.best_at.clear();
            return waits.to_owned();
        }
        let waits_for_place = !self.status.unschedulable_at.is_empty();
        if waits_for_place && self.status.without_surge {
            return format!("{waits}; stable pods make place");
        }
        if waits_for_place && self.policy.unschedulable != Unschedulable::Reject {
            return format!("{waits}; it waits for a place, without a deadline");
        }
        if self.status.best_at.is_empty() {
            self.status.best = self.seen.candidate.map_or(0, |side| side.available);
            self.status.best_at = self.now();
            return String::new();
        }
        let deadline = self.policy.deadline;
        if self.wait_until(self.deadline_of_progress()) {
            return waits.to_owned();
        }
        self.abort(format!("{waits}; it came no nearer for {deadline} s"), true);
        String::new()
    }
}
