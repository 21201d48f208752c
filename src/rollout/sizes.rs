//! How many pods each side is to have next, for what is seen in a step.

use super::machine::{Seen, Side, Sizing, Traffic};
use super::policy::{Policy, Size, Step};
use super::replicas::{self, Abort, Fences, Goal, Pods, Routed, Scale, Share, Shift, Split};

/// Weights are percent.
const ALL: u32 = 100;

fn pods(side: Option<&Side>) -> Pods {
    side.map_or(Pods { spec: 0, available: 0 }, |side| Pods { spec: side.size, available: side.available })
}

/// The step as the arithmetic reads it.
fn goal(step: &Step) -> Goal {
    let scale = match step.size {
        // Copies are work too, and so are requests by headers, however few.
        Size::ByWeight if step.mirror > 0 || !step.headers.is_empty() => {
            Scale::Weight((step.weight + step.mirror).clamp(1, ALL))
        }
        Size::ByWeight => Scale::Traffic,
        Size::Pods(pods) => Scale::Pods(pods),
        Size::Percent(percent) => Scale::Weight(percent),
    };
    Goal { weight: step.weight, max_weight: ALL, scale }
}

/// The way back.
const BACK: Goal = Goal { weight: 0, max_weight: ALL, scale: Scale::Traffic };

/// What the arithmetic is asked about.
pub(super) struct Sizes<'a> {
    policy: &'a Policy,
    seen: &'a Seen<'a>,
    weights: Vec<u32>,
    /// There is no place for more pods than the replicas.
    without_surge: bool,
}

impl<'a> Sizes<'a> {
    pub(super) fn new(policy: &'a Policy, seen: &'a Seen<'a>, without_surge: bool) -> Self {
        let weights = policy.steps.iter().map(|step| step.weight).collect();
        Self { policy, seen, weights, without_surge }
    }

    fn fences(&self) -> Fences {
        let surge = if self.without_surge { Share::Count(0) } else { self.policy.surge };
        Fences::resolve(surge, self.policy.unavailable, self.seen.replicas)
    }

    /// Pods of the target that make place at once, where there are old ones that have no traffic.
    pub(super) fn with_place(&self) -> u32 {
        self.seen.replicas.saturating_sub(self.fences().unavailable)
    }

    /// With a router and without a place beside the replicas: next, and where it leads.
    fn exchanged(&self, goal: Goal, abort: Option<Abort>) -> (Split, Split) {
        let rollout = self.routed(goal, abort, self.live());
        let goal = if abort.is_none() && goal.weight == 0 {
            // All of the traffic is the stable side's: it gives no more than it may lack.
            let pods = replicas::routed(&rollout).candidate.min(rollout.unavailable);
            Goal { scale: Scale::Pods(pods), ..goal }
        } else {
            Goal { scale: Scale::Traffic, ..goal }
        };
        let target = replicas::target(self.seen.replicas, goal, 0, &self.both());
        (replicas::exchanged(&rollout, self.fences(), target), target)
    }

    /// The weight that the candidate's pods can take on the way to a step, where no place is left for all of them at once.
    pub(super) fn weight_so_far(&self, to: u32) -> u32 {
        let unavailable = self.fences().unavailable;
        replicas::exchanged_weight(self.seen.replicas, unavailable, pods(self.seen.candidate), to)
    }

    fn both(&self) -> replicas::Seen<'static> {
        replicas::Seen {
            stable: Some(pods(self.seen.stable)),
            candidate: pods(self.seen.candidate),
            others: &[],
        }
    }

    fn routed(&self, goal: Goal, abort: Option<Abort>, live: u32) -> Routed<'_> {
        Routed {
            replicas: self.seen.replicas,
            goal,
            min_pods: self.policy.min_replicas,
            unavailable: self.fences().unavailable,
            // Who makes place for the other has no size of its own.
            dynamic: self.policy.dynamic && !self.without_surge,
            live,
            live_stable: ALL.saturating_sub(live),
            stable: self.seen.stable.map(|side| pods(Some(side))),
            candidate: pods(self.seen.candidate),
            abort,
            steps: &self.weights,
        }
    }

    /// The candidate's traffic; all of it where nothing is known, which keeps pods where they may be needed.
    fn live(&self) -> u32 {
        match &self.seen.traffic {
            Traffic::Router(routed) => routed.as_ref().map_or(ALL, |routed| routed.weight),
            Traffic::Pods => 0,
        }
    }

    fn by_pods(&self, goal: Goal) -> (Split, Split) {
        let (fences, both) = (self.fences(), self.both());
        let target = replicas::target(self.seen.replicas, goal, fences.surge, &both);
        (replicas::basic(self.seen.replicas, fences, target, &both), target)
    }

    /// The target's size is its autoscaler's: the candidate comes on top of it, with the pods that make its share. All of
    /// the traffic it cannot have so; as many pods as the target stand for that.
    fn on_top(&self, step: &Step) -> Split {
        let stable = self.seen.replicas;
        let share = step.weight.min(ALL);
        let candidate = match step.size {
            Size::ByWeight if share < ALL => (stable * share).div_ceil(ALL - share).min(stable),
            _ => self.share(step),
        };
        Split { candidate, stable }
    }

    /// So many of the target's pods, rounded up.
    fn share(&self, step: &Step) -> u32 {
        let of = |percent: u32| (self.seen.replicas * percent).div_ceil(ALL);
        match step.size {
            Size::Pods(pods) => pods,
            Size::Percent(percent) => of(percent),
            Size::ByWeight => of(step.weight.min(ALL)),
        }
    }

    fn by_number(&self) -> bool {
        self.seen.traffic == Traffic::Pods
    }

    fn is_of_kind(&self) -> bool {
        self.seen.sizing == Sizing::Kind
    }

    /// Next, in a step; and where it leads.
    pub(super) fn of(&self, step: &Step) -> (Split, Split) {
        match &self.seen.traffic {
            _ if self.is_of_kind() => {
                let live = self.both();
                let stable = live.stable.map_or(0, |stable| stable.spec);
                let next = Split { candidate: live.candidate.spec, stable };
                (next, next)
            }
            Traffic::Pods if self.seen.sizing != Sizing::Rollout => {
                let next = if self.seen.sizing == Sizing::Shared {
                    let candidate = self.share(step).min(self.seen.replicas);
                    Split { candidate, stable: self.seen.replicas - candidate }
                } else {
                    self.on_top(step)
                };
                (next, next)
            }
            Traffic::Pods => self.by_pods(goal(step)),
            // What the router sends is not known, and neither side can grow before the other gives pods.
            Traffic::Router(None) if self.without_surge => {
                let stable = self.seen.stable.map_or(0, |side| side.size);
                let candidate = pods(self.seen.candidate).spec;
                (Split { candidate, stable }, self.exchanged(goal(step), None).1)
            }
            Traffic::Router(_) if self.without_surge => self.exchanged(goal(step), None),
            Traffic::Router(routed) => {
                let mut next = replicas::routed(&match routed {
                    Some(routed) => self.routed(goal(step), None, routed.weight),
                    // What the router sends is not known: no side loses a pod, and none gets one for what may not come.
                    None => {
                        Routed { live_stable: ALL, ..self.routed(goal(step), None, step.weight.min(ALL)) }
                    }
                });
                if routed.is_none() {
                    next.candidate = next.candidate.max(pods(self.seen.candidate).spec);
                }
                if step.keeps {
                    let has = self.seen.stable.map_or(0, |side| side.size).min(self.seen.replicas);
                    next.stable = next.stable.max(has);
                }
                (next, next)
            }
        }
    }

    /// Whether the pods of a step are there.
    pub(super) fn are_there(&self, target: Split) -> bool {
        let candidate = pods(self.seen.candidate);
        match &self.seen.traffic {
            Traffic::Pods | Traffic::Router(_)
                if self.seen.sizing == Sizing::Rollout && (self.by_number() || self.without_surge) =>
            {
                let existing = self.seen.stable.map_or(0, |side| side.pods);
                replicas::settled(target, &self.both(), existing)
            }
            Traffic::Pods | Traffic::Router(_) => {
                let at_least = if self.is_of_kind() { 1 } else { target.candidate };
                candidate.spec == target.candidate && candidate.available >= at_least
            }
        }
    }

    /// All pods to the target, as far as one pass goes.
    pub(super) fn back(&self) -> Split {
        match &self.seen.traffic {
            Traffic::Pods if self.seen.sizing != Sizing::Rollout => {
                Split { candidate: 0, stable: self.seen.replicas }
            }
            Traffic::Router(_) if self.is_of_kind() => Split { candidate: 0, stable: self.seen.replicas },
            Traffic::Pods => self.by_pods(BACK).0,
            Traffic::Router(_) => {
                let abort = Abort { delay: Some(0), over: false };
                if self.without_surge {
                    return self.exchanged(BACK, Some(abort)).0;
                }
                replicas::routed(&self.routed(BACK, Some(abort), self.live()))
            }
        }
    }

    /// The weight that the candidate keeps on the way back: none, or what the stable side cannot take yet.
    pub(super) fn weight_back(&self) -> u32 {
        if self.is_of_kind() {
            return 0;
        }
        let abort = Abort { delay: Some(0), over: false };
        replicas::abort_weight(&self.routed(BACK, Some(abort), self.live()))
    }

    /// Why the weight cannot be this yet.
    pub(super) fn refusal(&self, to: u32) -> Option<String> {
        if self.is_of_kind() {
            return None;
        }
        let shift = Shift {
            replicas: self.seen.replicas,
            max_weight: ALL,
            from: self.live().min(to),
            to,
            stable: pods(self.seen.stable),
            candidate: pods(self.seen.candidate),
        };
        match replicas::guard(shift) {
            Ok(()) => None,
            Err(replicas::Refusal::NoCandidate) => Some("no pod of the candidate serves".to_owned()),
            Err(replicas::Refusal::StableShort { needs }) => {
                let has = shift.stable.available;
                Some(format!("the stable side has {has} of the {needs} pods that it needs for the rest"))
            }
        }
    }
}
