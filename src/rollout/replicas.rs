//! How many pods each version has: the arithmetic of Argo Rollouts, which users rely on, without its faults.
//!
//! Weights become pods rounding up, surge rounds up, unavailable rounds down. Two versions are sized, the candidate
//! and the stable one; the others are what an update left that was overtaken by the next. `replicas` is the base that
//! was frozen when the step began: an autoscaler that counts both versions would else feed on its own answer.
//!
//! 1. Without a router pods are the traffic: [`target`] says where to go, [`basic`] and [`others`] how far in one pass.
//! 2. With a router [`routed`] gives sizes at once, [`guard`] and [`abort_weight`] say what traffic may follow. Where no place
//!    is left for that, [`exchanged`] goes there pod by pod.
//! 3. Pods come before their traffic and go after it. What is shrunk loses its unavailable pods first, as Kubernetes
//!    does it; the promise of [`Fences::unavailable`] rests on that.

/// The share of pods that a fence allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Pods.
    Count(u32),
    /// Percent of the replicas.
    Percent(u32),
}

impl Share {
    fn up(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => pods(replicas, percent, 100),
        }
    }

    /// So many, rounded down.
    pub fn down(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => narrow(u64::from(replicas) * u64::from(percent) / 100),
        }
    }
}

/// How far a pass may leave the replicas, in pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fences {
    /// Pods above the replicas.
    pub surge: u32,
    /// Pods that may be unavailable.
    pub unavailable: u32,
}

impl Fences {
    /// The fences for so many replicas; one pod may be unavailable where nothing could move else.
    pub fn resolve(surge: Share, unavailable: Share, replicas: u32) -> Self {
        let (surge, unavailable) = (surge.up(replicas), unavailable.down(replicas));
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        Self { surge, unavailable: unavailable.min(replicas) }
    }

    /// Fewest pods that must be available, and most that may exist.
    fn bounds(self, replicas: u32) -> (u32, u32) {
        (replicas.saturating_sub(self.unavailable), replicas.saturating_add(self.surge))
    }
}

/// The pods of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pods {
    /// Pods asked for.
    pub spec: u32,
    /// Pods available; more than asked for while some are on their way out.
    pub available: u32,
}

impl Pods {
    /// Pods that are available and not on their way out.
    fn lasting(self) -> u32 {
        self.available.min(self.spec)
    }

    /// What of them is left at this size.
    fn at(self, size: u32) -> u32 {
        self.lasting().min(size)
    }
}

/// The pods of all versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The stable version; `None` on the first deploy, when the candidate is all there is.
    pub stable: Option<Pods>,
    /// The candidate.
    pub candidate: Pods,
    /// All other versions, the newest first.
    pub others: &'a [Pods],
}

/// The size of both versions, in pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Pods of the candidate.
    pub candidate: u32,
    /// Pods of the stable version.
    pub stable: u32,
}

/// The candidate's size where a step sets it apart from traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// It follows the weight.
    #[default]
    Traffic,
    /// Pods.
    Pods(u32),
    /// A weight of the replicas; more than all of them with a router.
    Weight(u32),
}

/// What the step in force wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Traffic of the candidate, in parts of `max_weight`; all of it once the steps are over.
    pub weight: u32,
    /// The weight that is all traffic, 100 where not said.
    pub max_weight: u32,
    /// The candidate's size.
    pub scale: Scale,
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The pods that carry a weight, rounded up.
pub fn pods(replicas: u32, weight: u32, max_weight: u32) -> u32 {
    narrow((u64::from(replicas) * u64::from(weight)).div_ceil(u64::from(max_weight.max(1))))
}

/// The pods of both versions whose ratio is nearest to a weight, of `replicas` or, with surge, one more.
///
/// Both keep a pod at any weight but none and all, save where one pod is all there can be.
pub fn split(replicas: u32, weight: u32, max_weight: u32, surge: u32) -> Split {
    if replicas == 0 {
        return Split::default();
    }
    let (max, total) = (u64::from(max_weight.max(1)), u64::from(replicas));
    let weight = u64::from(weight).min(max);
    let (up, down) = ((total * weight).div_ceil(max), total * weight / max);
    let none_or_all = weight == 0 || weight == max || (replicas == 1 && surge == 0);
    // The first of two that are equally near. Upstream leaves out the lower one where both are, even if the upper one
    // is no option: 95 % of 10 without surge, or 75 % of 2, give its candidate nothing.
    let options = [
        (up, total, up < total || none_or_all),
        (down, total, down > 0 || none_or_all),
        (up, total + 1, surge > 0),
    ];
    let error = |count: u64, total: u64| u128::from((count * max).abs_diff(weight * total));
    let nearest =
        options.into_iter().filter(|(.., allowed)| *allowed).min_by(|(count, total, _), (than, of, _)| {
            (error(*count, *total) * u128::from(*of)).cmp(&(error(*than, *of) * u128::from(*total)))
        });
    let (candidate, total) = nearest.map_or((0, total), |(count, total, _)| (count, total));
    Split { candidate: narrow(candidate), stable: narrow(total.saturating_sub(candidate)) }
}

/// Where both versions are to end without a router.
///
/// A size set apart from traffic counts here too, which upstream ignores: pods are what people without a router count
/// in. It never promotes: stable keeps one pod if there can be two.
pub fn target(replicas: u32, goal: Goal, surge: u32, seen: &Seen) -> Split {
    if seen.stable.is_none() {
        return Split { candidate: replicas, stable: 0 };
    }
    let count = match goal.scale {
        Scale::Traffic => return split(replicas, goal.weight, goal.max_weight, surge),
        Scale::Pods(count) => count.min(replicas),
        Scale::Weight(weight) => pods(replicas, weight, goal.max_weight).min(replicas),
    };
    let one = u32::from(replicas > 1 || surge > 0 && count > 0);
    let stable = (replicas - count).max(one);
    Split { candidate: count.min(replicas.saturating_add(surge.min(1)).saturating_sub(stable)), stable }
}

/// The next sizes without a router: one pass on the way to `target`, from which the next one is asked again.
pub fn basic(replicas: u32, fences: Fences, target: Split, seen: &Seen) -> Split {
    let (floor, limit) = fences.bounds(replicas);
    let (stable, candidate) = (seen.stable.unwrap_or_default(), seen.candidate);
    let left = seen.others.iter().fold(0_u32, |sum, other| sum.saturating_add(other.spec));
    let mut budget = limit.saturating_sub(left.saturating_add(stable.spec).saturating_add(candidate.spec));
    let mut grow = |size: u32, wanted: u32| {
        let more = wanted.saturating_sub(size).min(budget);
        budget -= more;
        size + more
    };
    let grown =
        Split { stable: grow(stable.spec, target.stable), candidate: grow(candidate.spec, target.candidate) };

    // One side is drained for the other. Whether its pods are available is not asked: a version that is all down must
    // not hold up the one that replaces it, and its dead pods go first, so no available one goes below the floor.
    let growing = target.candidate >= candidate.spec;
    let (drained, kept) = if growing { (stable, candidate) } else { (candidate, stable) };
    let (mut low, mut high, end) = if growing {
        (grown.stable, grown.candidate, target.stable)
    } else {
        (grown.candidate, grown.stable, target.candidate)
    };
    if left > 0 {
        // The others go first. Where neither they can nor anything grows, upstream waits for ever if stable is down;
        // pods that are not available and not wanted cost nothing.
        let stuck = (grown.stable, grown.candidate) == (stable.spec, candidate.spec)
            && others(replicas, fences, seen).into_iter().eq(seen.others.iter().map(|other| other.spec));
        if stuck && low > end {
            low = end.max(drained.at(low));
        }
    } else {
        let spare = drained.spec.saturating_add(kept.lasting()).saturating_sub(floor);
        low = end.max(drained.spec.saturating_sub(spare));
        // Too many pods, as after the replicas were lowered: the kept side gives what is not available. Upstream does
        // this only where something is drained, so dead pods above the limit stay.
        let full = high;
        high -= low.saturating_add(high).saturating_sub(limit).min(high);
        let short = floor.saturating_sub(kept.at(high).saturating_add(drained.at(low)));
        high += (kept.at(full) - kept.at(high)).min(short);
        low -= low.saturating_add(high).saturating_sub(limit).min(low);
    }
    if growing { Split { stable: low, candidate: high } } else { Split { stable: high, candidate: low } }
}

/// The next sizes of the other versions, in their order: unavailable pods go at once, available ones down to the floor.
pub fn others(replicas: u32, fences: Fences, seen: &Seen) -> Vec<u32> {
    let (floor, _) = fences.bounds(replicas);
    let all = seen.others.iter().chain(&seen.stable).chain([&seen.candidate]);
    let mut spare = all.fold(0_u32, |sum, pods| sum.saturating_add(pods.lasting())).saturating_sub(floor);
    let next = seen.others.iter().map(|other| {
        let going = other.lasting().min(spare);
        spare -= going;
        other.lasting() - going
    });
    next.collect()
}

/// Whether a pass has nothing left to wait for; `existing` counts stable's pods that are not on their way out.
///
/// Stable need not be available: that is what its fix is for.
pub fn settled(target: Split, seen: &Seen, existing: u32) -> bool {
    let Split { candidate, stable } = target;
    seen.candidate == Pods { spec: candidate, available: candidate }
        && seen.stable.is_none_or(|pods| pods.spec == stable && existing == stable)
        && seen.others.iter().all(|other| other.available == 0)
}

/// Seconds that an aborted candidate is kept where nothing is said.
pub const ABORT_DELAY: u32 = 30;

/// How a rollout is aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abort {
    /// Seconds that the candidate is kept once stable is full, 0 for ever. Where not said [`ABORT_DELAY`], or none if
    /// stable scales with its traffic.
    pub delay: Option<u32>,
    /// They are over.
    pub over: bool,
}

/// When an aborted candidate goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// With its traffic.
    Now,
    /// Not before stable is full.
    Wait,
    /// So many seconds from now.
    After(u32),
    /// When a person says so.
    Never,
}

/// What is known of a rollout with a router. Weights are in parts of `goal.max_weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed<'a> {
    /// Replicas, in pods.
    pub replicas: u32,
    /// What the step wants.
    pub goal: Goal,
    /// Fewest pods of a version that has any.
    pub min_pods: u32,
    /// Pods that a stable version of full size may lack and still take all traffic ([`Fences::unavailable`]).
    pub unavailable: u32,
    /// Stable scales with its traffic; at full size else.
    pub dynamic: bool,
    /// The candidate's traffic, as read from the router.
    pub live: u32,
    /// Stable's traffic, as read from the router.
    pub live_stable: u32,
    /// The stable version; `None` on the first deploy, or if an abort finds it gone.
    pub stable: Option<Pods>,
    /// The candidate.
    pub candidate: Pods,
    /// Set if it is aborted.
    pub abort: Option<Abort>,
    /// The weights of all steps, in their order: an abort walks them back.
    pub steps: &'a [u32],
}

impl Routed<'_> {
    fn pods(&self, weight: u32) -> u32 {
        pods(self.replicas, weight, self.goal.max_weight)
    }

    /// The weight for which an abort sizes stable that scales with its traffic: the last step that needs fewer pods
    /// than stable lacks.
    ///
    /// How many the candidate has is not asked. Upstream asks, and an abort with a delay never ended before 1.10: the
    /// candidate waits for a full stable, stable for a smaller candidate. Never more than there is: an abort that
    /// finds stable down would else grow the candidate.
    fn step_back(&self) -> u32 {
        let Some(stable) = self.stable.filter(|_| self.candidate.spec > 0) else { return 0 };
        let missing = self.replicas.saturating_sub(stable.lasting());
        let step = self.steps.iter().rev().find(|weight| self.pods(**weight) < missing);
        step.map_or(0, |weight| self.live.min(*weight))
    }
}

/// The sizes of both versions with a router. A version keeps the pods for the traffic that it has.
pub fn routed(rollout: &Routed) -> Split {
    let Routed { replicas, goal, dynamic, abort, .. } = *rollout;
    if rollout.stable.is_none() && abort.is_none() {
        return Split { candidate: replicas, stable: 0 };
    }
    let weight = match abort {
        None => goal.weight.min(goal.max_weight),
        Some(_) if dynamic => rollout.step_back(),
        Some(_) => 0,
    };
    let scale = if abort.is_none_or(|abort| abort.delay == Some(0)) { goal.scale } else { Scale::Traffic };
    // At most the replicas: until 1.10 two pods were wanted of one, for ever.
    let at_least = |count: u32| if count > 0 { count.max(rollout.min_pods.min(replicas)) } else { 0 };
    let mut candidate = match scale {
        Scale::Traffic => at_least(rollout.pods(weight).max(rollout.pods(rollout.live))),
        // I8: not to none while it has traffic.
        Scale::Pods(count) => count.max(u32::from(rollout.live > 0)),
        Scale::Weight(weight) => at_least(rollout.pods(weight).max(u32::from(rollout.live > 0))),
    };
    if abort.is_some_and(|abort| match retire(rollout, abort) {
        Retire::Now => false,
        Retire::After(_) => !abort.over,
        Retire::Wait | Retire::Never => true,
    }) {
        candidate = candidate.max(rollout.candidate.spec);
    }
    let mut stable = replicas;
    if dynamic {
        let rest = goal.max_weight.saturating_sub(weight);
        stable = at_least(rollout.pods(rest).max(rollout.pods(rollout.live_stable)));
        if abort.is_some() {
            // A pod that flaps makes the walk go forward again; what there is of stable stays.
            stable = stable.max(rollout.stable.unwrap_or_default().spec).min(replicas);
        }
    }
    Split { candidate, stable }
}

/// The next sizes with a router, where there is no place for more pods than the replicas: one pass of [`basic`] on the way
/// to `target`, but neither side goes below the pods for the traffic that it has, save what may be unavailable.
///
/// Both sides hold places, so the one that loses traffic has to give pods before the other can grow.
pub fn exchanged(rollout: &Routed, fences: Fences, target: Split) -> Split {
    let seen = Seen { stable: rollout.stable, candidate: rollout.candidate, others: &[] };
    let next = basic(rollout.replicas, fences, target, &seen);
    // A weight of whole percents stands for up to one less.
    let kept = |pods: Pods, live: u32| {
        let carry = rollout.pods(live.saturating_sub(1)).saturating_sub(fences.unavailable);
        carry.max(u32::from(live > 0)).min(pods.spec)
    };
    Split {
        candidate: next.candidate.max(kept(rollout.candidate, rollout.live)),
        stable: next.stable.max(kept(rollout.stable.unwrap_or_default(), rollout.live_stable)),
    }
}

/// The weight that the candidate's pods can take on the way to `to`, where the sides exchange places: each pod its share;
/// all of it when no more are missing than may be, or the last stable pods could not go.
pub fn exchanged_weight(replicas: u32, unavailable: u32, candidate: Pods, to: u32) -> u32 {
    let ready = candidate.lasting();
    if to >= 100 && ready > 0 && ready.saturating_add(unavailable) >= replicas {
        return 100;
    }
    let share = u64::from(ready) * 100 / u64::from(replicas.max(1));
    narrow(share).min(to)
}

/// When the candidate of an aborted rollout goes; the clock is the caller's.
pub fn retire(rollout: &Routed, abort: Abort) -> Retire {
    match (abort.delay, rollout.stable) {
        (None, _) if rollout.dynamic => Retire::Now,
        (Some(0), _) => Retire::Never,
        (_, None) => Retire::Now,
        (_, Some(stable)) if stable.lasting() < rollout.replicas => Retire::Wait,
        (delay, _) => Retire::After(delay.unwrap_or(ABORT_DELAY)),
    }
}

/// The traffic that the candidate of an aborted rollout keeps, in parts of the maximum: what stable cannot take yet.
///
/// It never grows and needs no [`guard`]. Where stable scales with its traffic, upstream waits for the pods of a whole
/// step; ours follows each pod. At full size upstream gives stable everything at once, even if it has no pod; ours
/// does so while it lacks no more than the fence allows.
pub fn abort_weight(rollout: &Routed) -> u32 {
    let Routed { replicas, goal, unavailable, dynamic, .. } = *rollout;
    let available = rollout.stable.unwrap_or_default().at(replicas);
    let full = !dynamic && available > 0 && available.saturating_add(unavailable) >= replicas;
    if replicas == 0 || rollout.candidate.lasting() == 0 || full {
        return 0;
    }
    let taken = u64::from(goal.max_weight) * u64::from(available) / u64::from(replicas);
    rollout.live.min(goal.max_weight.saturating_sub(narrow(taken)))
}

/// A change of the candidate's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Replicas, in pods.
    pub replicas: u32,
    /// The weight that is all traffic.
    pub max_weight: u32,
    /// The candidate's weight now.
    pub from: u32,
    /// Its weight after.
    pub to: u32,
    /// The stable version.
    pub stable: Pods,
    /// The candidate.
    pub candidate: Pods,
}

/// Why traffic may not be shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The candidate has no available pod.
    NoCandidate,
    /// Stable has fewer available pods than what is left to it needs.
    StableShort {
        /// Pods needed.
        needs: u32,
    },
}

/// Whether the candidate's traffic may be shifted.
pub fn guard(shift: Shift) -> Result<(), Refusal> {
    let Shift { replicas, max_weight, from, to, stable, candidate } = shift;
    if to > 0 && candidate.lasting() == 0 {
        return Err(Refusal::NoCandidate);
    }
    let rest = max_weight.saturating_sub(to);
    let needs = u64::from(rest) * u64::from(replicas) / u64::from(max_weight.max(1));
    // Upstream rounds half of one pod down to none; I8 wants one for any traffic.
    let needs = narrow(needs).max(u32::from(rest > 0 && replicas > 0));
    // A stable version that is short is no reason to leave more with it: what relieves it may go to a candidate that
    // is no worse, and what a candidate without pods has may go anywhere.
    let health = |one: Pods, other: Pods| u64::from(one.lasting()) * u64::from(other.spec);
    let better = if to > from {
        health(candidate, stable) >= health(stable, candidate)
    } else {
        candidate.lasting() == 0
    };
    if stable.lasting() >= needs || to == from || better {
        Ok(())
    } else {
        Err(Refusal::StableShort { needs })
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
