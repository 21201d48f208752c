//! What holds whatever the numbers are, and where a rollout ends in a cluster whose pods take their time.

use super::tests::goal;
use super::*;
use proptest::prelude::*;

/// A small generator, so that a failed case is one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// Ticks until a pod is available, at most.
const START: u32 = 3;
const DOWN: u32 = u32::MAX;

/// The pods of one version; those not available yet have their ticks.
#[derive(Clone, Debug, Default)]
struct Cluster {
    ready: u32,
    starting: Vec<u32>,
}

impl Cluster {
    fn of(ready: u32, starting: u32, dice: &mut Dice) -> Self {
        Self { ready, starting: (0..starting).map(|_| dice.below(START)).collect() }
    }

    fn pods(&self) -> Pods {
        Pods { spec: self.ready + u32::try_from(self.starting.len()).unwrap(), available: self.ready }
    }

    fn resize(&mut self, size: u32, dice: &mut Dice) {
        while self.pods().spec < size {
            self.starting.push(dice.below(START));
        }
        while self.pods().spec > size {
            self.ready -= u32::from(self.starting.pop().is_none());
        }
    }

    fn tick(&mut self, flaps: bool, dice: &mut Dice) {
        let before = self.starting.len();
        self.starting.retain(|left| *left > 0);
        self.ready += u32::try_from(before - self.starting.len()).unwrap();
        for left in self.starting.iter_mut().filter(|left| **left != DOWN) {
            *left -= 1;
        }
        if flaps && self.ready > 0 && dice.below(4) == 0 {
            self.ready -= 1;
            self.starting.push(dice.below(START));
        }
    }
}

fn any_share() -> impl Strategy<Value = Share> {
    prop_oneof![(0_u32..6).prop_map(Share::Count), (0_u32..101).prop_map(Share::Percent)]
}

fn any_scale() -> impl Strategy<Value = Scale> {
    prop_oneof![
        4 => Just(Scale::Traffic),
        1 => (0_u32..12).prop_map(Scale::Pods),
        1 => (0_u32..150).prop_map(Scale::Weight)
    ]
}

fn any_pods() -> impl Strategy<Value = Pods> {
    (0_u32..20, 0_u32..24).prop_map(|(spec, available)| Pods { spec, available })
}

fn available(stable: &Cluster, candidate: &Cluster, old: &[Cluster]) -> u32 {
    stable.ready + candidate.ready + old.iter().map(|old| old.ready).sum::<u32>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_ratio_is_near_and_both_sides_keep_a_pod(
        replicas in 0_u32..200, max in 1_u32..100_000_000, part in 0_u32..=1000, surge in 0_u32..3,
    ) {
        let weight = u32::try_from(u64::from(max) * u64::from(part) / 1000).unwrap();
        let Split { candidate, stable } = split(replicas, weight, max, surge);
        let total = candidate + stable;
        prop_assert!(total == replicas || surge > 0 && replicas > 0 && total == replicas + 1);
        let lone = replicas == 1 && surge == 0;
        if replicas > 0 && !lone {
            prop_assert_eq!((candidate == 0, stable == 0), (weight == 0, weight == max));
        }
        let error = (u64::from(candidate) * u64::from(max)).abs_diff(u64::from(weight) * u64::from(total));
        // Half a pod where it can be; a whole one for who would have none.
        prop_assert!(error <= u64::from(max));
        let more = split(replicas, weight.saturating_add(1).min(max), max, surge);
        prop_assert!(more.candidate >= candidate && more.stable <= stable);
    }

    /// From anywhere, whatever was asked before.
    #[test]
    fn one_pass_keeps_to_its_fences(
        replicas in 0_u32..16, surge in any_share(), unavailable in any_share(), weight in 0_u32..=100,
        scale in any_scale(), stable in prop::option::weighted(0.9, any_pods()), candidate in any_pods(),
        left in prop::collection::vec(any_pods(), 0..3),
    ) {
        let fences = Fences::resolve(surge, unavailable, replicas);
        let seen = Seen { stable, candidate, others: &left };
        let wanted = target(replicas, Goal { scale, ..goal(weight) }, fences.surge, &seen);
        prop_assert!(replicas > 0 || wanted == Split::default());
        prop_assert!(wanted.candidate + wanted.stable <= replicas + fences.surge);
        let next = basic(replicas, fences, wanted, &seen);
        let next_left = others(replicas, fences, &seen);
        let (floor, limit) = fences.bounds(replicas);
        let stable = stable.unwrap_or_default();
        let rest = || left.iter().copied().zip(next_left.iter().copied());
        let sizes = || [(stable, next.stable), (candidate, next.candidate)].into_iter().chain(rest());
        let before: u32 = sizes().map(|(pods, _)| pods.lasting()).sum();
        let after: u32 = sizes().map(|(pods, size)| pods.at(size)).sum();
        prop_assert!(after >= before.min(floor), "{} of {} are left, {} must be: {:?}", after, before, floor, next);
        let spec: u32 = sizes().map(|(pods, _)| pods.spec).sum();
        let grown: u32 = sizes().map(|(pods, size)| size.max(pods.spec)).sum();
        prop_assert!(grown <= spec.max(limit), "{} of {}", grown, limit);
        if left.iter().all(|other| other.spec == 0) {
            prop_assert!(next.stable + next.candidate <= limit);
        }
    }

    #[test]
    fn every_goal_is_reached(
        replicas in 0_u32..16, surge in any_share(), unavailable in any_share(),
        mut weights in prop::collection::vec(0_u32..=100, 1..5), sorted: bool, scale in any_scale(),
        left in prop::collection::vec((0_u32..6, 0_u32..4), 0..3),
        flapping in prop_oneof![Just(0_u32), 1_u32..40], seed in 1_u64..,
    ) {
        let dice = &mut Dice(seed);
        let fences = Fences::resolve(surge, unavailable, replicas);
        let (floor, limit) = fences.bounds(replicas);
        let mut stable = Cluster::of(replicas, 0, dice);
        let mut candidate = Cluster::default();
        let left = left.into_iter();
        let mut old: Vec<Cluster> = left.map(|(ready, starting)| Cluster::of(ready, starting, dice)).collect();
        let up = sorted && scale == Scale::Traffic;
        if up {
            weights.sort_unstable();
        }
        let pods = 2 * limit + old.iter().map(|old| old.pods().spec).sum::<u32>();
        for weight in weights {
            let mut tick = 0;
            loop {
                let left: Vec<Pods> = old.iter().map(Cluster::pods).collect();
                let seen = Seen { stable: Some(stable.pods()), candidate: candidate.pods(), others: &left };
                let wanted = target(replicas, Goal { scale, ..goal(weight) }, fences.surge, &seen);
                if settled(wanted, &seen, stable.pods().spec) && tick >= flapping {
                    break;
                }
                let before = available(&stable, &candidate, &old);
                let next = basic(replicas, fences, wanted, &seen);
                let forward = next.candidate >= seen.candidate.spec && next.stable <= stable.pods().spec;
                prop_assert!(!up || flapping > 0 || forward, "{:?} to {:?}", seen, next);
                for (old, size) in old.iter_mut().zip(others(replicas, fences, &seen)) {
                    old.resize(size, dice);
                }
                stable.resize(next.stable, dice);
                candidate.resize(next.candidate, dice);
                prop_assert!(available(&stable, &candidate, &old) >= before.min(floor));
                for cluster in [&mut stable, &mut candidate].into_iter().chain(&mut old) {
                    cluster.tick(tick < flapping, dice);
                }
                tick += 1;
                prop_assert!(tick <= flapping + (START + 2) * (2 * pods + 4), "{:?} does not come to {:?}", seen, wanted);
            }
        }
    }

    #[test]
    fn a_stable_version_that_is_down_does_not_block_its_fix(
        replicas in 1_u32..16, surge in any_share(), unavailable in any_share(),
        ready in prop_oneof![Just(0_u32), 0_u32..16], left in prop::collection::vec(0_u32..6, 0..3), seed in 1_u64..,
    ) {
        let dice = &mut Dice(seed);
        let fences = Fences::resolve(surge, unavailable, replicas);
        let ready = ready.min(replicas);
        let down = usize::try_from(replicas - ready).unwrap();
        let mut stable = Cluster { ready, starting: vec![DOWN; down] };
        let mut candidate = Cluster::default();
        let mut old: Vec<Cluster> = left.into_iter().map(|ready| Cluster::of(ready, 0, dice)).collect();
        for tick in 0.. {
            let left: Vec<Pods> = old.iter().map(Cluster::pods).collect();
            let seen = Seen { stable: Some(stable.pods()), candidate: candidate.pods(), others: &left };
            let wanted = target(replicas, goal(100), fences.surge, &seen);
            if settled(wanted, &seen, stable.pods().spec) {
                break;
            }
            prop_assert!(tick < 1000, "{:?}", seen);
            let next = basic(replicas, fences, wanted, &seen);
            for (old, size) in old.iter_mut().zip(others(replicas, fences, &seen)) {
                old.resize(size, dice);
            }
            stable.resize(next.stable, dice);
            candidate.resize(next.candidate, dice);
            candidate.tick(false, dice);
        }
    }

    /// There are as many places as replicas, and the candidate's first pods wait for one.
    #[test]
    fn places_are_exchanged(
        replicas in 2_u32..16, unavailable in any_share(), surge in 1_u32..4,
        mut weights in prop::collection::vec(1_u32..=100, 1..4), goes_back: bool, seed in 1_u64..,
    ) {
        let dice = &mut Dice(seed);
        let fences = Fences::resolve(Share::Count(0), unavailable, replicas);
        let (floor, _) = fences.bounds(replicas);
        weights.sort_unstable();
        let mut stable = Cluster::of(replicas, 0, dice);
        let mut candidate = Cluster { ready: 0, starting: vec![DOWN; surge as usize] };
        let mut live = 0;
        let back = goes_back.then_some(0);
        for weight in weights.into_iter().chain(back) {
            let up = weight > 0;
            for tick in 0.. {
                let goal = goal(weight);
                let abort = (!up).then_some(Abort { delay: Some(0), over: false });
                let rollout = Routed {
                    replicas, goal, min_pods: 1, unavailable: fences.unavailable, dynamic: false, live,
                    live_stable: 100 - live, stable: Some(stable.pods()), candidate: candidate.pods(), abort, steps: &[],
                };
                let seen = Seen { stable: rollout.stable, candidate: rollout.candidate, others: &[] };
                let wanted = target(replicas, goal, 0, &seen);
                if settled(wanted, &seen, stable.pods().spec) {
                    live = weight;
                    break;
                }
live = if up {
                    live.max(exchanged_weight(replicas, fences.unavailable, candidate.pods(), weight))
                } else {
                    abort_weight(&rollout)
                };
                let next = exchanged(&Routed { live, live_stable: 100 - live, ..rollout }, fences, wanted);
                if up {
                    prop_assert!(next.stable <= stable.pods().spec && next.candidate >= candidate.ready);
                }
                let before = stable.ready + candidate.ready;
                stable.resize(next.stable, dice);
                candidate.resize(next.candidate, dice);
                prop_assert!(stable.ready + candidate.ready >= before.min(floor));
                prop_assert!(stable.ready + candidate.ready >= floor, "{:?} and {:?}", stable, candidate);
                let short = |ready: u32, weight: u32| ready + fences.unavailable < replicas * weight / 100;
                prop_assert!(!short(candidate.ready, live) && !short(stable.ready, 100 - live), "{:?}", rollout);
                let mut free = replicas.saturating_sub(stable.ready + candidate.ready);
                for left in stable.starting.iter_mut().chain(&mut candidate.starting) {
                    *left = match (free, *left) {
                        (0, _) => DOWN,
                        (_, DOWN) => dice.below(START),
                        (_, known) => known,
                    };
                    free = free.saturating_sub(1);
                }
                stable.tick(false, dice);
                candidate.tick(false, dice);
                prop_assert!(tick < (START + 2) * (4 * replicas + 8), "{:?} does not come to {:?}", seen, wanted);
            }
        }
    }

    #[test]
    fn traffic_never_outruns_pods(
        replicas in 1_u32..16, steps in prop::collection::vec(0_u32..=100, 0..4), scale in any_scale(),
        dynamic: bool, min_pods in 0_u32..4, abort_at in prop::option::of(0_usize..20),
        delay in prop::option::of(0_u32..3), flapping in prop_oneof![Just(0_usize), 1_usize..60], seed in 1_u64..,
    ) {
        let dice = &mut Dice(seed);
        let all: Vec<u32> = steps.into_iter().chain([100]).collect();
        let mut stable = Cluster::of(replicas, 0, dice);
        let mut candidate = Cluster::default();
        let (mut live, mut step) = (0, 0);
        for tick in 0.. {
            let aborts = abort_at.is_some_and(|at| at <= tick);
            let Some(weight) = all.get(step) else { break };
            let last = step + 1 == all.len();
            let scale = if last { Scale::Traffic } else { scale };
            let mut rollout = Routed {
                replicas,
                goal: Goal { scale, ..goal(*weight) },
                min_pods,
                unavailable: 0,
                dynamic,
                live,
                live_stable: 100 - live,
                stable: Some(stable.pods()),
                candidate: candidate.pods(),
                abort: aborts.then_some(Abort { delay, over: true }),
                steps: &all,
            };
            let next = routed(&rollout);
            let before = stable.pods().spec;
            stable.resize(next.stable, dice);
            candidate.resize(next.candidate, dice);
            stable.tick(tick < flapping, dice);
            candidate.tick(tick < flapping, dice);
            (rollout.stable, rollout.candidate) = (Some(stable.pods()), candidate.pods());
            let from = live;
            if aborts {
                prop_assert!(!dynamic || next.stable >= before);
                live = abort_weight(&rollout);
                prop_assert!(live <= from);
                let gone = delay == Some(0) || candidate.pods().spec == 0;
                if tick >= flapping && live == 0 && gone && stable.ready == replicas {
                    break;
                }
            } else if candidate.pods() == (Pods { spec: next.candidate, available: next.candidate }) {
                let (stable, candidate) = (stable.pods(), candidate.pods());
                let shift = Shift { replicas, max_weight: 100, from, to: *weight, stable, candidate };
                if guard(shift).is_ok() {
                    (live, step) = (*weight, step + 1);
                } else if scale == Scale::Pods(0) || scale == Scale::Weight(0) {
                    // Traffic for a version of no pods never goes.
                    break;
                }
            }
            if flapping == 0 {
                // I8, and what is left to stable has its pods.
                prop_assert!(live == 0 || candidate.ready > 0);
                prop_assert!(stable.ready >= (100 - live) * replicas / 100, "{} at {}", stable.ready, live);
                prop_assert!(live == 100 || stable.ready > 0);
            }
            prop_assert!(tick < flapping + 60 * (all.len() + 2), "{:?}", rollout);
        }
    }
}
