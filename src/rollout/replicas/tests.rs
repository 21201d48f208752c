use super::*;

/// The tables of Argo Rollouts' own tests; what each row shows stands at its end.
///
/// No row has another result here. 27 is reached in another way: the size that a step sets counts without a router
/// too, and the surge of two bounds it as it bounds the weight. 40 and 53 are as upstream has them since 1.10.
const ROWS: &str = include_str!("rows.txt");

fn number(text: &str) -> u32 {
    text.parse().unwrap()
}

fn pair(text: &str) -> Option<(u32, u32)> {
    text.split_once('/').map(|(one, other)| (number(one), number(other)))
}

fn share(text: &str) -> Share {
    text.strip_suffix('%')
        .map_or_else(|| Share::Count(number(text)), |percent| Share::Percent(number(percent)))
}

fn pods_of(text: &str) -> Option<Pods> {
    pair(text).map(|(spec, available)| Pods { spec, available })
}

pub(super) fn goal(weight: u32) -> Goal {
    Goal { weight, max_weight: 100, scale: Scale::Traffic }
}

#[test]
fn the_table() {
    let rows = ROWS.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").map(str::trim).collect();
        let [
            _,
            mode,
            replicas,
            settings,
            fences,
            stable,
            candidate,
            other,
            wanted_candidate,
            wanted_stable,
            _,
        ] = cells[..]
        else {
            panic!("{row}")
        };
        let (replicas, stable) = (number(replicas), pods_of(stable));
        let candidate = pods_of(candidate).unwrap_or_default();
        let mut words = settings.split(' ');
        let steps: Vec<u32> = words.next().unwrap().split('+').map(number).collect();
        let mut goal = goal(*steps.first().unwrap());
        let (mut min_pods, mut live, mut live_stable, mut delay) = (0, 0, 100, None);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap();
            match word {
                "full" => goal.weight = 100,
                "min" => min_pods = number(value()),
                "delay" => delay = Some(number(value())),
                "live" => (live, live_stable) = pair(value()).unwrap(),
                "scale" => {
                    goal.scale = match value() {
                        "match" => Scale::Traffic,
                        weight if weight.ends_with('%') => {
                            Scale::Weight(number(weight.trim_end_matches('%')))
                        }
                        count => Scale::Pods(number(count)),
                    }
                }
                _ => assert_eq!(word, "pods", "{row}"),
            }
        }
        let found = if mode == "basic" {
            let (surge, unavailable) = fences.split_once('/').unwrap();
            let fences = Fences::resolve(share(surge), share(unavailable), replicas);
            let others: Vec<Pods> = pods_of(other).into_iter().collect();
            let seen = Seen { stable, candidate, others: &others };
            basic(replicas, fences, target(replicas, goal, fences.surge, &seen), &seen)
        } else {
            // The rows that name no pods are of a version that is there, except where an abort finds it gone. What
            // they say of a delay is of its end, which only a full stable version has.
            let abort = mode.ends_with("abort").then_some(Abort { delay, over: true });
            let stable = stable.or(if abort.is_some() { None } else { Some(Pods::default()) });
            let dynamic = mode.starts_with("dynamic");
            let steps = &steps;
            routed(&Routed {
                replicas,
                goal,
                min_pods,
                unavailable: 0,
                dynamic,
                live,
                live_stable,
                stable,
                candidate,
                abort,
                steps,
            })
        };
        assert_eq!(
            found,
            Split { candidate: number(wanted_candidate), stable: number(wanted_stable) },
            "{row}"
        );
        count += 1;
    }
    assert_eq!(count, 53);
}

#[test]
fn the_nearest_ratio() {
    let mut count = 0;
    for row in ROWS.lines().filter_map(|line| line.strip_prefix("split ")) {
        let (setting, cells) = row.split_once(": ").unwrap();
        let (replicas, surge) = setting.split_once(' ').unwrap();
        for cell in cells.split(' ') {
            let (weight, wanted) = cell.split_once('=').unwrap();
            let found = split(number(replicas), number(weight), 100, number(surge));
            assert_eq!(Some((found.candidate, found.stable)), pair(wanted), "{setting}: {cell}");
            count += 1;
        }
    }
    assert_eq!(count, 55);
    // Ours: upstream gives the candidate none.
    for (replicas, weight, wanted) in [(2, 75, (1, 1)), (10, 95, (9, 1))] {
        let found = split(replicas, weight, 100, 0);
        assert_eq!((found.candidate, found.stable), wanted);
    }
    let huge = split(u32::MAX, 99_999_999, 100_000_000, 1);
    assert_eq!((huge.candidate, huge.stable), (4_294_967_253, 43));
}

#[test]
fn fences_round_as_kubernetes_does() {
    let check = |surge, unavailable, replicas, wanted: (u32, u32)| {
        let found = Fences::resolve(share(surge), share(unavailable), replicas);
        assert_eq!((found.surge, found.unavailable), wanted, "{surge} {unavailable} of {replicas}");
    };
    // Upstream says 0, 1 here and caps it elsewhere: nothing is there that could be unavailable.
    check("0%", "0%", 0, (0, 0));
    check("39%", "39%", 10, (4, 3));
    check("0", "39%", 10, (0, 3));
    check("39%", "0", 10, (4, 0));
    check("0", "0", 10, (0, 1));
    check("1", "10", 5, (1, 5));
    check("1", "10", 0, (1, 0));
    check("1", "100%", 5, (1, 5));
    check("0", "9%", 10, (0, 1));
    for (weight, wanted) in [(0, 0), (20, 2), (25, 3), (33, 4), (99, 10), (100, 10)] {
        assert_eq!(pods(10, weight, 100), wanted);
    }
    assert_eq!(pods(23, 100_000_000, 100_000_000), 23);
}

#[test]
fn a_size_apart_from_traffic_never_promotes() {
    let seen = Seen { stable: Some(Pods::default()), ..Seen::default() };
    let check = |replicas, scale, surge, wanted: (u32, u32)| {
        let found = target(replicas, Goal { scale, ..goal(20) }, surge, &seen);
        assert_eq!((found.candidate, found.stable), wanted, "{scale:?} of {replicas}, surge {surge}");
    };
    check(10, Scale::Pods(3), 0, (3, 7));
    check(10, Scale::Pods(0), 1, (0, 10));
    check(10, Scale::Weight(25), 0, (3, 7));
    check(10, Scale::Weight(200), 0, (9, 1));
    check(10, Scale::Pods(12), 2, (10, 1));
    check(1, Scale::Pods(1), 1, (1, 1));
    check(1, Scale::Pods(1), 0, (1, 0));
    check(0, Scale::Pods(1), 1, (0, 0));
}

#[test]
fn traffic_goes_where_pods_are() {
    let check = |from, to, stable, candidate, wanted: Result<(), u32>| {
        let (stable, candidate) = (pods_of(stable).unwrap(), pods_of(candidate).unwrap());
        let found = guard(Shift { replicas: 10, max_weight: 100, from, to, stable, candidate });
        let wanted = wanted.map_err(|needs| match needs {
            0 => Refusal::NoCandidate,
            needs => Refusal::StableShort { needs },
        });
        assert_eq!(found, wanted, "{from} to {to}, {stable:?}, {candidate:?}");
    };
    check(0, 20, "10/10", "2/2", Ok(()));
    check(0, 20, "10/10", "2/0", Err(0));
    check(0, 20, "10/10", "0/2", Err(0));
    check(20, 20, "10/2", "2/2", Ok(()));
    // Stable is worse than what relieves it.
    check(0, 20, "10/7", "2/2", Ok(()));
    check(0, 20, "10/0", "2/1", Ok(()));
    check(0, 20, "10/7", "4/1", Err(8));
    check(0, 20, "10/5", "2/1", Ok(()));
    // Back: only what stable can take, unless the candidate has nothing to lose.
    check(60, 20, "8/8", "6/6", Ok(()));
    check(60, 20, "8/7", "6/6", Err(8));
    check(60, 0, "8/1", "6/0", Ok(()));
    check(100, 99, "0/0", "9/9", Err(1));
    check(100, 95, "1/1", "9/9", Ok(()));
    let one = |max_weight, to| Shift {
        replicas: 23,
        max_weight,
        from: max_weight,
        to,
        stable: Pods { spec: 23, available: 22 },
        candidate: Pods { spec: 23, available: 23 },
    };
    assert_eq!(guard(one(100_000_000, 0)), Err(Refusal::StableShort { needs: 23 }));
    assert_eq!(guard(one(100_000_000, 1)), Ok(()));
}

fn aborted(dynamic: bool, live: u32, stable: &str, candidate: &str, abort: Abort) -> Routed<'static> {
    Routed {
        replicas: 10,
        goal: goal(60),
        min_pods: 0,
        unavailable: 2,
        dynamic,
        live,
        live_stable: 100 - live,
        stable: pods_of(stable),
        candidate: pods_of(candidate).unwrap(),
        abort: Some(abort),
        steps: &[20, 60],
    }
}

#[test]
fn an_abort_moves_what_stable_can_take() {
    let check = |dynamic, live, stable, candidate, wanted| {
        let found = abort_weight(&aborted(dynamic, live, stable, candidate, Abort::default()));
        assert_eq!(found, wanted, "{dynamic} {live} {stable} {candidate}");
    };
    check(true, 60, "4/4", "6/6", 60);
    check(true, 60, "8/7", "6/6", 30);
    check(true, 20, "8/3", "2/2", 20);
    check(true, 20, "10/10", "2/2", 0);
    check(true, 60, "10/8", "6/6", 20);
    check(true, 60, "8/0", "6/0", 0);
    check(false, 60, "10/8", "6/6", 0);
    check(false, 60, "10/7", "6/6", 30);
    check(false, 60, "10/0", "6/6", 60);
    check(false, 60, "-", "6/6", 60);
    let lax = Routed { unavailable: 10, ..aborted(false, 60, "10/0", "6/6", Abort::default()) };
    assert_eq!(abort_weight(&lax), 60);
}

#[test]
fn an_aborted_candidate_is_kept_for_its_delay() {
    let check = |dynamic, delay, over, stable, wanted: (Retire, u32, u32)| {
        let abort = Abort { delay, over };
        let rollout = aborted(dynamic, 0, stable, "6/6", abort);
        let Split { candidate, stable } = routed(&rollout);
        assert_eq!((retire(&rollout, abort), candidate, stable), wanted, "{dynamic} {delay:?} {over}");
    };
    check(false, None, false, "10/9", (Retire::Wait, 6, 10));
    check(false, None, false, "10/10", (Retire::After(30), 6, 10));
    check(false, None, true, "10/10", (Retire::After(30), 0, 10));
    check(false, Some(0), true, "10/10", (Retire::Never, 6, 10));
    check(true, None, false, "4/4", (Retire::Now, 0, 10));
    check(true, Some(5), false, "9/9", (Retire::Wait, 6, 10));
    check(true, Some(5), true, "10/10", (Retire::After(5), 0, 10));
}

#[test]
fn sizes_with_a_router() {
    let rollout = Routed { abort: None, ..aborted(true, 20, "8/8", "2/2", Abort::default()) };
    let check = |rollout: &Routed, wanted: (u32, u32)| {
        let found = routed(rollout);
        assert_eq!((found.candidate, found.stable), wanted, "{rollout:?}");
    };
    check(&rollout, (6, 8));
    // Back a step: the candidate is needed until its traffic is gone.
    check(&Routed { goal: goal(10), ..rollout }, (2, 9));
    check(&Routed { goal: goal(150), ..rollout }, (10, 8));
    check(&Routed { stable: None, ..rollout }, (10, 0));
    check(&Routed { min_pods: 9, ..rollout }, (9, 9));
    for scale in [Scale::Pods(0), Scale::Weight(0)] {
        check(&Routed { goal: Goal { scale, ..goal(60) }, ..rollout }, (1, 8));
    }
    // Without a candidate there is nothing to walk back.
    check(&aborted(true, 0, "4/4", "0/0", Abort::default()), (0, 10));
    check(&aborted(true, 60, "4/4", "0/0", Abort::default()), (6, 10));
}

#[test]
fn a_pass_ends_when_the_candidate_is_there() {
    let check = |stable, existing, candidate, other, wanted| {
        let others = [pods_of(other).unwrap()];
        let seen = Seen { stable: pods_of(stable), candidate: pods_of(candidate).unwrap(), others: &others };
        let found = settled(Split { candidate: 2, stable: 8 }, &seen, existing);
        assert_eq!(found, wanted, "{stable} ({existing}), {candidate}, {other}");
    };
    check("8/8", 8, "2/2", "0/0", true);
    check("8/0", 8, "2/2", "3/0", true);
    check("-", 0, "2/2", "0/0", true);
    check("9/8", 8, "2/2", "0/0", false);
    check("8/8", 9, "2/2", "0/0", false);
    check("8/8", 8, "2/1", "0/0", false);
    check("8/8", 8, "2/3", "0/0", false);
    check("8/8", 8, "2/2", "0/1", false);
}
