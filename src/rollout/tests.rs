//! Invariants of the machine, over policies, scenarios and crashes that are made up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::replicas::Share;
use super::{
    Command, Divider, Event, Policy, Routed, Scenario, Seen, Side, Simulation, Sizing, Traffic, decide,
};
use crate::api::{
    ApprovalGate, Canary, CanaryStep, Gate, GateAnswer, GateLimits, HeaderMatch, RolloutPhase,
    RolloutPolicySpec, RolloutRevision, RolloutStatus, RolloutStrategy, RolloutVerb, Unschedulable,
};

/// What a step asks of a router beside its weight.
#[derive(Clone, Copy, Debug, Default)]
struct Asks {
    testers: bool,
    copies: u32,
}

fn policy(steps: Vec<(u32, bool, Asks)>, background: bool, people: bool) -> Policy {
    let mut weight = 0;
    let mut steps: Vec<CanaryStep> = steps
        .into_iter()
        .map(|(more, gated, asks)| {
            weight = (weight + more).min(100);
            let gates = if gated { vec!["step".to_owned()] } else { Vec::new() };
            let testers = HeaderMatch::new("x-tester", "exact", "yes".to_owned());
            let headers = if asks.testers { vec![testers] } else { Vec::new() };
            let mirror = (asks.copies > 0).then_some(asks.copies);
            CanaryStep { weight, headers, mirror, hold: "2m".to_owned(), gates, ..CanaryStep::default() }
        })
        .collect();
    let gate = |name: &str| Gate {
        name: name.to_owned(),
        interval: "30s".to_owned(),
        count: Some(2),
        limits: GateLimits { no_data: Some(3), error: Some(3), ..GateLimits::default() },
        ..Gate::default()
    };
    let mut gates = Vec::new();
    if steps.iter().any(|step| !step.gates.is_empty()) {
        gates.push(gate("step"));
    }
    if background {
        gates.push(gate("always"));
    }
    if people {
        steps[0].gates.push("people".to_owned());
        let approval = Some(ApprovalGate { timeout: "30m".to_owned(), ..ApprovalGate::default() });
        gates.push(Gate { name: "people".to_owned(), count: Some(2), approval, ..Gate::default() });
    }
    let background = if background { vec!["always".to_owned()] } else { Vec::new() };
    let canary = Canary { steps, background, max_surge: "3".to_owned(), ..Canary::default() };
    let strategy = RolloutStrategy { canary: Some(canary), ..RolloutStrategy::default() };
    Policy::read(&RolloutPolicySpec { strategy, gates, ..RolloutPolicySpec::default() }).unwrap()
}

fn policies() -> impl Strategy<Value = Policy> {
    let asks = (any::<bool>(), prop_oneof![2 => Just(0), 1 => 1u32..=100])
        .prop_map(|(testers, copies)| Asks { testers, copies });
    let steps = prop::collection::vec((0u32..60, any::<bool>(), asks), 1..5);
    (steps, any::<bool>(), prop::bool::weighted(0.4))
        .prop_map(|(steps, background, people)| policy(steps, background, people))
}

fn answers() -> impl Strategy<Value = Vec<GateAnswer>> {
    let one = prop_oneof![
        8 => Just(GateAnswer::Pass), 1 => Just(GateAnswer::Fail), 1 => Just(GateAnswer::NoData), 1 => Just(GateAnswer::Error)];
    prop::collection::vec(one, 0..8)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let act = prop_oneof![
        Just(RolloutVerb::Promote),
        Just(RolloutVerb::PromoteFull),
        Just(RolloutVerb::Abort),
        Just(RolloutVerb::Retry),
        Just(RolloutVerb::Pause),
        Just(RolloutVerb::Resume)
    ];
    let word = prop_oneof![6 => Just(RolloutVerb::Approve), 1 => Just(RolloutVerb::Deny)];
    let said = (word, 0u32..3).prop_map(|(verb, who)| Event {
        act: Some(verb),
        gate: "people".to_owned(),
        by: format!("p{who}"),
        ..Event::default()
    });
    let what = prop_oneof![
        4 => said,
        4 => (1u32..5).prop_map(|number| Event { wanted: Some(format!("v{number}")), ..Event::default() }),
        2 => act.prop_map(|verb| Event { act: Some(verb), ..Event::default() }),
        1 => (1u32..12).prop_map(|pods| Event { replicas: Some(pods), ..Event::default() }),
        1 => (0u32..3).prop_map(|pods| Event { candidate_serves: Some(pods), ..Event::default() }),
        1 => any::<bool>().prop_map(|works| Event { router_works: Some(works), ..Event::default() }),
    ];
    prop::collection::vec((0u32..1800, what), 0..9).prop_map(|mut all| {
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(at, event)| Event { at: format!("{at}s"), ..event }).collect()
    })
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let spare = prop::option::of(0u32..4);
    (1u32..12, any::<bool>(), 0u32..60, answers(), answers(), events(), spare).prop_map(
        |(replicas, routed, ready, step, always, mut events, spare)| {
            // In the end everything works and nobody holds anything up.
            events.push(Event {
                at: "2h".into(),
                act: Some(RolloutVerb::Resume),
                candidate_serves: Some(u32::MAX),
                router_works: Some(true),
                places: spare.map(|_| 1000),
                ..Event::default()
            });
            Scenario {
                replicas,
                traffic: if routed { Divider::Router } else { Divider::Pods },
                places: spare.map(|spare| replicas + spare),
                ready_after: format!("{ready}s"),
                stable: "v1".into(),
                wanted: "v2".into(),
                gates: BTreeMap::from([("step".into(), step), ("always".into(), always)]),
                events,
            }
        },
    )
}

/// What held before and holds after a decision.
fn check(policy: &Policy, before: &RolloutStatus, after: &RolloutStatus, acted: bool) {
    if before.candidate == after.candidate && before.phase == RolloutPhase::Progressing && !acted {
        assert!(
            after.step == before.step || after.step == before.step + 1 || after.step == 0,
            "a step is skipped"
        );
        if after.step == before.step + 1 && after.phase != RolloutPhase::Aborting {
            for name in &policy.steps[before.step as usize].gates {
                let gate = before.gates.iter().find(|gate| gate.name == *name);
                let passed = gate.is_some_and(|gate| gate.passed >= policy.gates[name].count);
                assert!(passed || before.skips, "gate {name} is skipped: {gate:?}");
            }
            assert!(!before.reached_at.is_empty(), "a step is left that was never reached");
        }
    }
    for gate in &before.gates {
        if gate.answer == Some(GateAnswer::Fail)
            && before.phase == RolloutPhase::Progressing
            && !acted
            && !before.skips
        {
            assert_eq!(after.phase, RolloutPhase::Aborting, "a failed gate stops nothing");
        }
    }
    // Whoever approves twice is one person, and nothing but approvals passes for people.
    for gate in after.gates.iter().filter(|gate| gate.name == "people") {
        let different: std::collections::BTreeSet<&String> = gate.approvers.iter().collect();
        assert_eq!((different.len(), gate.approvers.len()), (gate.passed as usize, gate.passed as usize));
    }
    for rejected in &before.rejected {
        let begun = before.candidate.is_none()
            && after.candidate.as_ref().is_some_and(|now| now.digest == rejected.revision.digest);
        assert!(!begun, "{rejected:?} is begun again");
    }
}

/// Runs to the end; what is decided is lost, or done in part, where the crashes say so.
fn run(policy: &Policy, scenario: &Scenario, crashes: impl FnMut() -> u32) -> Simulation {
    run_watched(policy, scenario, crashes, |_| {})
}

fn run_watched(
    policy: &Policy,
    scenario: &Scenario,
    mut crashes: impl FnMut() -> u32,
    watch: impl Fn(&Simulation),
) -> Simulation {
    let mut policy = policy.clone();
    if scenario.traffic == Divider::Pods {
        // Nobody could do it, so it is not bound.
        policy.steps.iter_mut().for_each(|step| (step.mirror, step.headers) = (0, Vec::new()));
    }
    let policy = &policy;
    let mut simulation = Simulation::new(policy.clone(), scenario.clone()).unwrap();
    for _ in 0..20_000 {
        let before = simulation.status.clone();
        let decision = simulation.ask();
        let crash = crashes();
        if let Some(after) = decision.status {
            assert!(decision.commands.is_empty(), "a decision writes or acts");
            check(policy, &before, &after, before.acts.len() != after.acts.len());
            if crash != 1 {
                simulation.write(after);
            }
            continue;
        }
        let done = if crash == 0 { decision.commands.len() } else { crash as usize - 1 };
        for command in decision.commands.iter().take(done) {
            simulation.act(command);
            simulation.assert_served(command);
        }
        watch(&simulation);
        if decision.commands.is_empty() {
            if !simulation.pass(decision.again) {
                return simulation;
            }
        } else if !simulation.tick(decision.again) {
            return simulation;
        }
    }
    panic!("no rest: {:?}", simulation.status)
}

fn rests(simulation: &Simulation, wanted: &str) {
    let status = &simulation.status;
    assert!(matches!(status.phase, RolloutPhase::Healthy | RolloutPhase::Rejected), "{status:?}");
    let stable = status.stable.as_ref().unwrap().digest.clone();
    let is_rejected = status.rejected.iter().any(|rejected| rejected.revision.digest == wanted);
    assert!(stable == wanted || is_rejected, "{wanted} is neither deployed nor rejected: {status:?}");
    simulation.assert_at_rest(&stable);
}

fn wanted(scenario: &Scenario) -> String {
    let last = scenario.events.iter().rev().find_map(|event| event.wanted.clone());
    last.unwrap_or_else(|| scenario.wanted.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_rollout_ends(policy in policies(), scenario in scenarios()) {
        rests(&run(&policy, &scenario, || 0), &wanted(&scenario));
    }

    /// Nodes that have no place beside the replicas: the new revision comes, or it goes back, and no more pods are missing on
    /// the way than may be.
    #[test]
    fn without_a_place_one_side_makes_it_for_the_other(
        policy in policies(), unavailable in 0u32..4, replicas in 2u32..12, spare in 0u32..3, routed in any::<bool>(),
        ready in 0u32..60, step in answers(), always in answers(), dynamic in any::<bool>(),
    ) {
        let policy = Policy {
            unschedulable: Unschedulable::NoSurge,
            unavailable: Share::Count(unavailable),
            dynamic: dynamic && routed,
            ..policy
        };
        let scenario = Scenario {
            replicas,
            traffic: if routed { Divider::Router } else { Divider::Pods },
            places: Some(replicas + spare),
            ready_after: format!("{ready}s"),
            stable: "v1".into(),
            wanted: "v2".into(),
            gates: BTreeMap::from([("step".into(), step), ("always".into(), always)]),
            events: Vec::new(),
        };
        let simulation = run_watched(&policy, &scenario, || 0, |simulation| {
            simulation.assert_no_more_missing(unavailable.max(1));
        });
        rests(&simulation, "v2");
    }

    /// Before a status is written, before the first command, between any two.
    #[test]
    fn crashes_change_no_end(
        policy in policies(),
        scenario in scenarios(),
        crashes in prop::collection::vec(0u32..4, 1..300),
    ) {
        let mut crashes = crashes.into_iter();
        rests(&run(&policy, &scenario, || crashes.next().unwrap_or(0)), &wanted(&scenario));
    }
}

/// A crash at each place of a run: the end is the same, and so is every step and verdict on the way.
#[test]
fn a_crash_at_each_place_changes_nothing() {
    let asks = Asks { testers: true, copies: 20 };
    let plain = Asks::default();
    let policy = policy(vec![(5, true, asks), (45, false, plain), (50, true, plain)], true, false);
    let scenario = Scenario {
        replicas: 4,
        ready_after: "20s".into(),
        stable: "v1".into(),
        wanted: "v2".into(),
        ..Scenario::default()
    };
    let whole = run(&policy, &scenario, || 0);
    let mut places = 0;
    for place in 0..10_000 {
        let mut at = 0;
        let mut hit = false;
        let ended = run(&policy, &scenario, || {
            at += 1;
            hit |= at == place + 1;
            u32::from(at == place + 1)
        });
        if !hit {
            places = place;
            break;
        }
        assert_eq!(ended.status.stable, whole.status.stable, "crash at {place}");
        assert_eq!(ended.status.rejected, whole.status.rejected, "crash at {place}");
        ended.assert_at_rest("v2");
    }
    assert!(places > 40, "{places} places");
}

/// It was taken for all of the traffic once, and five pods came for the moment until a Gateway had taken the weight up.
#[test]
fn what_a_router_sends_is_not_known_for_a_while_and_no_pods_come_for_that() {
    let revision = |digest: &str| RolloutRevision { digest: digest.into(), ..RolloutRevision::default() };
    let side = |digest: &str, pods: u32| Side {
        digest: digest.into(),
        size: pods,
        pods,
        available: pods,
        settled: true,
        ..Side::default()
    };
    let (now, wanted) = ("2026-01-01T00:00:30Z".parse().unwrap(), revision("v2"));
    let (stable, candidate) = (side("v1", 10), side("v2", 2));
    let check = |weight: u32, traffic: Option<u32>, expected: &[Command]| {
        let status = RolloutStatus {
            phase: RolloutPhase::Progressing,
            stable: Some(revision("v1")),
            candidate: Some(wanted.clone()),
            weight,
            best: 2,
            best_at: "2026-01-01T00:00:00Z".into(),
            ..RolloutStatus::default()
        };
        let traffic = Traffic::Router(traffic.map(|weight| Routed { weight, ..Routed::default() }));
        let seen = Seen {
            now,
            since: now,
            unschedulable: false,
            wanted: &wanted,
            replicas: 10,
            sizing: Sizing::Rollout,
            stable: Some(&stable),
            candidate: Some(&candidate),
            traffic: traffic.clone(),
            measured: &[],
            act: None,
        };
        let decision = decide(&policy(vec![(weight, false, Asks::default())], false, false), &status, &seen);
        assert_eq!(decision.commands, expected, "{weight} % after {traffic:?}");
    };
    check(20, None, &[Command::Route(Routed { weight: 20, ..Routed::default() })]);
    check(10, None, &[Command::Route(Routed { weight: 10, ..Routed::default() })]);
    check(50, None, &[Command::SizeCandidate(5)]);
    // What is seen counts.
    check(20, Some(40), &[Command::SizeCandidate(4)]);
}
