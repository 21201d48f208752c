//! Error rates, from cumulative counters.

use super::evidence::{Test, Window};
use super::{Counts, Fault, Levels, Report, Tolerance, Totals, Verdict};

/// The comparison of two error rates over one rollout. Plain data: keep it with the rollout's status.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    test: Test,
    last: Totals,
}

impl Rates {
    /// A comparison of counters that start at 0 now; see [`Self::rebase`] where they do not.
    pub fn new(tolerance: Tolerance, levels: Levels) -> Result<Self, Fault> {
        Ok(Self { test: Test::new(tolerance, levels, 0.01)?, last: Totals::default() })
    }

    /// Takes the counters as they are now. On an error nothing is counted.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn observe(&mut self, now: Totals) -> Result<Verdict, Fault> {
        check(now)?;
        let since = |now: u64, last: u64| now.checked_sub(last).map(|by| by as f64).ok_or(Fault::Backwards);
        let bad = since(now.candidate.errors, self.last.candidate.errors)?;
        let window = Window {
            n: since(now.candidate.requests, self.last.candidate.requests)?,
            worse: bad,
            not_worse: bad,
            m: since(now.stable.requests, self.last.stable.requests)?,
            bad: since(now.stable.errors, self.last.stable.errors)?,
        };
        self.last = now;
        self.test.add(&window);
        Ok(self.verdict())
    }

    /// Goes on from these counters after a restart ([`Fault::Backwards`]), or skips what was before the rollout.
    pub fn rebase(&mut self, now: Totals) -> Result<(), Fault> {
        check(now)?;
        self.last = now;
        Ok(())
    }

    /// Closes the window before the split of the traffic changes: requests of two splits must not be compared as one.
    /// Not to be called because of the errors seen in it.
    pub fn cut(&mut self) -> Verdict {
        self.test.close();
        self.verdict()
    }

    /// The answer now.
    pub fn verdict(&self) -> Verdict {
        self.test.verdict()
    }

    /// The answer with its numbers; tens of microseconds, for the intervals.
    pub fn report(&self) -> Report {
        self.test.report()
    }
}

fn check(totals: Totals) -> Result<(), Fault> {
    let wrong = |counts: &Counts| counts.errors > counts.requests;
    [totals.candidate, totals.stable]
        .into_iter()
        .find(wrong)
        .map_or(Ok(()), |counts| Err(Fault::Errors(counts)))
}

#[cfg(test)]
mod tests {
    use super::super::simulate::{Load, Method, Shares, rates};
    use super::*;
    use proptest::prelude::*;

    const STRICT: Tolerance = Tolerance { ratio: 1.0, difference: 0.0 };

    fn totals(candidate: (u64, u64), stable: (u64, u64)) -> Totals {
        let of = |(requests, errors)| Counts { requests, errors };
        Totals { candidate: of(candidate), stable: of(stable) }
    }

    fn after(steps: &[Totals], tolerance: Tolerance) -> Rates {
        let mut rates = Rates::new(tolerance, Levels::default()).unwrap();
        for step in steps {
            rates.observe(*step).unwrap();
        }
        rates
    }

    /// Cumulative counters out of windows (n, bad, m, bad).
    fn sums(windows: &[(u64, u64, u64, u64)]) -> Vec<Totals> {
        let mut sum = Totals::default();
        let mut add = |&(n, bad, m, stable_bad): &(u64, u64, u64, u64)| {
            sum.candidate.requests += n;
            sum.candidate.errors += bad.min(n);
            sum.stable.requests += m;
            sum.stable.errors += stable_bad.min(m);
            sum
        };
        windows.iter().map(&mut add).collect()
    }

    fn windows() -> impl Strategy<Value = Vec<(u64, u64, u64, u64)>> {
        prop::collection::vec((0..60u64, 0..60u64, 0..900u64, 0..30u64), 1..25)
    }

    #[test]
    fn a_broken_candidate_is_found_by_its_first_requests() {
        // 19 requests of stable for each: 3 errors of 3 are enough at 1 in 100.
        let run: Vec<Totals> = (1..=4).map(|n| totals((n, n), (19 * n, 0))).collect();
        let found: Vec<Verdict> = (1..=4).map(|n| after(&run[..n], STRICT).verdict()).collect();
        assert_eq!(found[0], Verdict::Undecided);
        assert_eq!(found[3], Verdict::Worse, "{:?}", after(&run, STRICT).report());
    }

    #[test]
    fn equals_are_found_within_the_tolerance_only() {
        let steps: Vec<Totals> = (1..=500).map(|n| totals((n * 20, n), (n * 380, n * 19))).collect();
        let found = after(&steps, Tolerance { ratio: 1.25, difference: 0.0 }).report();
        assert_eq!((found.verdict, found.needed), (Verdict::NotWorse, None));
        assert!(found.difference.0 < 0.0 && found.difference.1 > 0.0);
        assert_eq!(after(&steps, STRICT).verdict(), Verdict::Undecided);
    }

    #[test]
    fn an_absolute_limit_needs_no_stable() {
        let limit = Tolerance { ratio: 0.0, difference: 0.01 };
        assert_eq!(after(&sums(&[(100, 8, 0, 0), (100, 8, 0, 0)]), limit).verdict(), Verdict::Worse);
        assert_eq!(after(&sums(&[(500, 0, 0, 0), (500, 0, 0, 0)]), limit).verdict(), Verdict::NotWorse);
        assert_eq!(after(&sums(&[(100, 8, 0, 0)]), STRICT).verdict(), Verdict::Undecided);
    }

    #[test]
    fn what_is_needed_is_about_right() {
        let at = |n: u64| totals((n * 20, n * 2), (n * 380, n * 19));
        let steps: Vec<Totals> = (1..=200).map(at).collect();
        let early = after(&steps[..3], STRICT);
        let needed = early.report().needed.unwrap();
        let found =
            (0..200).find(|&n| after(&steps[..n], STRICT).verdict() == Verdict::Worse).unwrap() as u64 * 20;
        assert!((found / 2..found * 2).contains(&(needed + 60)), "{needed} of {found}");
    }

    #[test]
    fn a_candidate_that_turns_bad_later_is_found() {
        let mut windows = vec![(20, 1, 380, 19); 2000];
        windows.extend([(20, 4, 380, 19); 30]);
        let steps = sums(&windows);
        assert_eq!(after(&steps[..2000], STRICT).verdict(), Verdict::Undecided);
        assert_eq!(after(&steps, STRICT).verdict(), Verdict::Worse);
    }

    #[test]
    fn counters_that_cannot_be_are_refused_and_change_nothing() {
        let mut rates = after(&sums(&[(10, 1, 100, 1)]), STRICT);
        let before = rates.clone();
        assert_eq!(rates.observe(totals((9, 1), (100, 1))), Err(Fault::Backwards));
        assert_eq!(rates.observe(totals((10, 1), (100, 0))), Err(Fault::Backwards));
        assert!(matches!(rates.observe(totals((10, 11), (100, 1))), Err(Fault::Errors(_))));
        assert_eq!(rates, before);
        rates.rebase(totals((0, 0), (0, 0))).unwrap();
        assert_eq!(rates.observe(totals((1, 0), (2, 0))), Ok(Verdict::Undecided));
        assert_eq!(rates.report().seen, totals((11, 1), (102, 1)));
        for (ratio, difference) in
            [(0.0, 0.0), (-1.0, 0.0), (f64::NAN, 0.0), (1.0, 1.0), (1.0, -0.1), (1e9, 0.0)]
        {
            assert!(
                Rates::new(Tolerance { ratio, difference }, Levels::default()).is_err(),
                "{ratio} {difference}"
            );
        }
        assert!(Rates::new(STRICT, Levels { worse: 0.0, not_worse: 0.1 }).is_err());
    }

    #[test]
    fn extreme_counts_give_finite_numbers() {
        let big = 1_000_000_000;
        for tolerance in [STRICT, Tolerance::default(), Tolerance { ratio: 1000.0, difference: 0.5 }] {
            for (n, m) in [(0, 0), (1, 0), (0, big), (1, big), (big, 1), (big, big)] {
                for (bad, stable_bad) in [(0, 0), (n, 0), (0, m), (n, m), (n / 2, m / 2)] {
                    let found = after(&sums(&[(n, bad, m, stable_bad); 3]), tolerance).report();
                    let numbers = [found.worse, found.not_worse, found.difference.0, found.difference.1];
                    assert!(
                        numbers.iter().all(|number| number.is_finite()),
                        "{n} {bad} {m} {stable_bad}: {found:?}"
                    );
                }
            }
        }
        let found = |bad| after(&sums(&[(big, bad, big, 10_000_000)]), STRICT).verdict();
        assert_eq!(found(10_000_000), Verdict::Undecided);
        assert_eq!((found(10_100_000), found(9_900_000)), (Verdict::Worse, Verdict::NotWorse));
    }

    #[test]
    fn false_answers_stay_under_their_levels() {
        let load = Load { requests: 100, share: 0.05, windows: 400, every: 20, runs: 2000, seed: 7 };
        for (ratio, stable, bad) in [(1.0, 0.01, 1.0), (1.0, 0.05, 10.0), (1.25, 0.02, 1.0)] {
            let shares = Shares { stable, candidate: ratio * stable, bad, from: 0 };
            let tolerance = Tolerance { ratio, difference: 0.0 };
            let found = rates(&load, &shares, &Method::Sequential(tolerance, Levels::default()));
            assert!(found.worse <= 0.01 && found.not_worse <= 0.05, "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn more_errors_of_the_candidate_never_make_it_better(
            windows in windows(), at in any::<prop::sample::Index>(), more in 1..60u64,
            ratio in 0.5..2.0f64, difference in 0.0..0.1f64,
        ) {
            let tolerance = Tolerance { ratio, difference };
            let mut other = windows.clone();
            let window = &mut other[at.index(windows.len())];
            window.1 = window.1.min(window.0) + more;
            let (less, more) = (after(&sums(&windows), tolerance).report(), after(&sums(&other), tolerance).report());
            prop_assert!(more.worse >= less.worse - 1e-9 && more.not_worse <= less.not_worse + 1e-9);
            prop_assert!(more.difference.0 >= less.difference.0 - 1e-9);
        }

        #[test]
        fn a_bet_is_expected_to_win_nothing_within_the_tolerance(
            n in 1..6u32, m in 1..6u32, s in 0.001..0.6f64, within in 0.0..1.0f64, before in 0..10u64,
            ratio in 0.5..2.0f64, difference in 0.0..0.1f64,
        ) {
            // All outcomes of one window, the first or after one of the past, weighted by their probability.
            let tolerance = Tolerance { ratio, difference };
            let limit = (ratio * s + difference).min(1.0);
            // Where more than all requests may be bad, nobody is beyond the tolerance, and "not worse" refutes nothing.
            let can_be_beyond = ratio * s + difference <= 1.0;
            let (inside, beyond) = (limit * within, limit * within + 1.0 - within);
            let binomial = |n: u32, k: u32, p: f64| {
                let ways = (1..=k).fold(1.0, |ways, i| ways * f64::from(n + 1 - i) / f64::from(i));
                ways * p.powf(f64::from(k)) * (1.0 - p).powf(f64::from(n - k))
            };
            let windows: &[_] = if before == 0 { &[] } else { &[(1, 0, 50, 5 * before)] };
            let past = after(&sums(windows), tolerance).test;
            let (mut worse, mut not_worse) = (0.0, 0.0);
            for (bad, stable_bad) in (0..=n).flat_map(|bad| (0..=m).map(move |of_stable| (bad, of_stable))) {
                let mut test = past.clone();
                let errors = f64::from(bad);
                test.add(&Window { n: n.into(), worse: errors, not_worse: errors, m: m.into(), bad: stable_bad.into() });
                let won = |worse| (test.evidence(worse) - past.evidence(worse)).exp();
                let of_stable = binomial(m, stable_bad, s);
                worse += binomial(n, bad, inside) * of_stable * won(true);
                not_worse += binomial(n, bad, beyond) * of_stable * won(false);
            }
            prop_assert!(worse <= 1.0 + 1e-9, "{worse}");
            prop_assert!(not_worse <= 1.0 + 1e-9 || !can_be_beyond, "{not_worse}");
        }
    }
}
