//! To the end, and back.

use super::{Command, REJECTED, Routed, Turn};
use crate::api::{RejectedRevision, RolloutPhase, RolloutRevision, second};
use crate::rollout::record::{after, push};

impl Turn<'_> {
    /// The steps are behind it: the target becomes the new revision, then takes the traffic, then the candidate goes.
    pub(super) fn promote(&mut self) -> String {
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
        let exchanges = self.status.without_surge && self.is_routed() && seen.candidate.is_some();
        if exchanges && target.settled {
            let lowered = self.sizes().weight_back().min(self.status.weight);
            if lowered < self.status.weight {
                self.status.weight = lowered;
                return String::new();
            }
            if self.route(Routed { weight: lowered, ..Routed::default() }) {
                return "the target takes the traffic as its pods come".to_owned();
            }
        }
        // With a router the candidate keeps its pods until the traffic has left it.
        let (stable, candidate) = match seen.candidate {
            // Its old pods have no traffic: one of them makes place for a new one. Fewer pods than its size are not old ones,
            // but new ones on their way.
            Some(_) if exchanges && !target.settled && target.pods >= target.size => {
                (target.size.min(self.sizes().with_place()), None)
            }
            Some(_) if !self.is_routed() || exchanges => {
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
            let late = !self.wait_until(self.deadline_of_progress());
            let waits = self.waits_for(
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
        self.status.without_surge = false;
        self.status.unschedulable_at.clear();
        self.enter_step(0);
        self.status.gates.clear();
        self.status.best_at.clear();
    }

    /// Traffic first, then pods; it only lowers the risk, so nothing holds it up.
    pub(super) fn go_back(&mut self, stable: &RolloutRevision) -> String {
        let seen = self.seen;
        let why = self.status.abort.clone();
        // A target that had begun to become the new revision.
        let is_back = seen.stable.is_some_and(|side| side.digest == stable.digest);
        if !is_back {
            self.commands.push(Command::Apply(stable.clone()));
        }
        let sizes = self.sizes().back();
        let stable_size = if seen.candidate.is_some() { sizes.stable } else { seen.replicas };
        if seen.stable.is_some_and(|side| side.size != stable_size) {
            self.commands.push(Command::SizeStable(stable_size));
        }
        if self.is_routed() {
            if let Some(candidate) = seen.candidate
                && is_back
                && self.status.without_surge
                && candidate.size != sizes.candidate
            {
                self.commands.push(Command::SizeCandidate(sizes.candidate));
            }
            // What is not there gets nothing, whatever the other side can take.
            let serves = seen.candidate.is_some_and(|side| side.available > 0);
            let lowered = if serves { self.sizes().weight_back() } else { 0 };
            if self.route(Routed { weight: lowered, ..Routed::default() }) || lowered > 0 {
                return format!("{why}; the traffic goes back");
            }
        } else if is_back && seen.candidate.is_some_and(|side| side.size > 0) {
            if seen.candidate.is_some_and(|side| side.size != sizes.candidate) {
                self.commands.push(Command::SizeCandidate(sizes.candidate));
            }
            return format!("{why}; the pods go back");
        }
        // Nothing goes before the target is what it was: where its commit cannot be had, the new pods are all there is.
        if !is_back {
            return format!("{why}; the target becomes the stable revision again");
        }
        if self.status.drained_at.is_empty() {
            self.status.drained_at = self.now();
            return String::new();
        }
        if seen.candidate.is_some() {
            let drained = self.status.drained_at.clone();
            let stays = self.status.rejects && self.is_routed() && !self.status.without_surge;
            let delay = if stays { self.policy.abort_delay } else { 0 };
            if self.wait(&drained, delay) {
                return format!("{why}; its pods stay until {}", second(after(&drained, delay)));
            }
            self.commands.push(Command::Retire);
            return format!("{why}; the candidate goes");
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
