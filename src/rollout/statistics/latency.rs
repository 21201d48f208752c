//! Latency, without a model of its distribution: as shares of slow requests, and as ranks.

use std::cmp::Ordering;

use super::evidence::{Test, Window};
use super::math::normal_tail;
use super::{Fault, Levels, Report, Tolerance, Verdict, probability};

/// Samples of stable that are kept to place the bounds.
const RECENT: usize = 1000;

/// When a candidate is slower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The quantile of stable beyond which a request is slow, 0 to 1 exclusive.
    pub quantile: f64,
    /// The candidate may take so many times as long; at least 1.
    pub ratio: f64,
    /// How many more of its requests may be slow nevertheless.
    pub excess: Tolerance,
}

impl Default for Latency {
    /// The 95th percentile may be a fifth longer.
    fn default() -> Self {
        Self { quantile: 0.95, ratio: 1.2, excess: Tolerance { ratio: 1.0, difference: 0.0 } }
    }
}

impl Latency {
    fn test(&self, levels: Levels) -> Result<Test, Fault> {
        probability(self.quantile)?;
        if !(1.0..=1000.0).contains(&self.ratio) {
            return Err(Fault::Tolerance(self.ratio));
        }
        Test::new(self.excess, levels, 1.0 - self.quantile)
    }

    /// Samples of stable before bounds are placed: 20, and 2 beyond the quantile.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    fn enough(&self) -> usize {
        ((2.0 / (1.0 - self.quantile)) as usize).clamp(20, RECENT)
    }
}

/// Above what a request is slow, in the unit of the samples. Fixed before the requests that it judges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Of stable.
    pub stable: f64,
    /// Of the candidate, for "worse": at least `ratio` times that of stable.
    pub worse: f64,
    /// Of the candidate, for "not worse": at most `ratio` times that of stable.
    pub not_worse: f64,
}

/// The comparison of latencies that come one by one. Plain data: keep it with the rollout's status.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencySamples {
    rule: Latency,
    test: Test,
    bounds: Option<Bounds>,
    recent: Vec<f64>,
    oldest: usize,
}

impl LatencySamples {
    /// A comparison whose bounds are placed by `history`, latencies of stable from before the rollout, if there are
    /// enough: 20, and 2 beyond the quantile. Else the first of [`Self::observe`] place them, and are not judged.
    pub fn new(rule: Latency, levels: Levels, history: &[f64]) -> Result<Self, Fault> {
        let test = rule.test(levels)?;
        history.iter().try_for_each(|value| latency(*value))?;
        let mut new = Self { rule, test, bounds: None, recent: Vec::new(), oldest: 0 };
        new.remember(history);
        new.place();
        Ok(new)
    }

    /// Takes the latencies since the last call. On an error none is counted. O(samples), and some microseconds over the
    /// last 1000 of stable where a window closes.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn observe(&mut self, candidate: &[f64], stable: &[f64]) -> Result<Verdict, Fault> {
        candidate.iter().chain(stable).try_for_each(|value| latency(*value))?;
        let closed = self.bounds.is_none_or(|bounds| {
            let above =
                |samples: &[f64], bound: f64| samples.iter().filter(|value| **value > bound).count() as f64;
            self.test.add(&Window {
                n: candidate.len() as f64,
                worse: above(candidate, bounds.worse),
                not_worse: above(candidate, bounds.not_worse),
                m: stable.len() as f64,
                bad: above(stable, bounds.stable),
            })
        });
        self.remember(stable);
        if closed {
            self.place();
        }
        Ok(self.test.verdict())
    }

    /// Closes the window before the split of the traffic changes; see [`super::Rates::cut`].
    pub fn cut(&mut self) -> Verdict {
        if self.test.close() {
            self.place();
        }
        self.test.verdict()
    }

    /// The answer with its numbers, which count slow requests as errors, and the bounds of the window that is open.
    pub fn report(&self) -> (Report, Option<Bounds>) {
        (self.test.report(), self.bounds)
    }

    fn remember(&mut self, samples: &[f64]) {
        for value in &samples[samples.len().saturating_sub(RECENT)..] {
            if self.recent.len() < RECENT {
                self.recent.push(*value);
            } else {
                self.recent[self.oldest] = *value;
                self.oldest = (self.oldest + 1) % RECENT;
            }
        }
    }

    fn place(&mut self) {
        if self.recent.len() >= self.rule.enough() {
            let mut recent = self.recent.clone();
            let at = rank(self.rule.quantile, recent.len());
            let (_, stable, _) = recent.select_nth_unstable_by(at, f64::total_cmp);
            let worse = *stable * self.rule.ratio;
            self.bounds = Some(Bounds { stable: *stable, worse, not_worse: worse });
        }
    }
}

/// The comparison of cumulative classic histograms of Prometheus. Plain data: keep it with the rollout's status.
///
/// The ratio is rounded to bounds of buckets, away from both answers: where they are far apart, use the ratio 1, which
/// is exact, and [`Latency::excess`].
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyBuckets {
    rule: Latency,
    test: Test,
    edges: Vec<f64>,
    /// Index of the buckets below the bounds: stable's, and the candidate's for worse and not worse.
    below: Option<[usize; 3]>,
    last: [Vec<u64>; 2],
}

impl LatencyBuckets {
    /// `edges` are the upper bounds (`le`), of which the last is +Inf.
    pub fn new(rule: Latency, levels: Levels, edges: &[f64]) -> Result<Self, Fault> {
        let test = rule.test(levels)?;
        check_edges(edges)?;
        if edges.len() < 2 || edges[0] * rule.ratio > edges[edges.len() - 2] {
            return Err(Fault::Buckets);
        }
        let last = [vec![0; edges.len()], vec![0; edges.len()]];
        Ok(Self { rule, test, edges: edges.to_vec(), below: None, last })
    }

    /// Takes the cumulative counts as they are now, one per bound. What came before stable had enough to place the
    /// bounds (20, and 2 beyond the quantile) is not judged. On an error nothing is counted. O(buckets).
    pub fn observe(&mut self, candidate: &[u64], stable: &[u64]) -> Result<Verdict, Fault> {
        for (now, last) in [candidate, stable].into_iter().zip(&self.last) {
            check_counts(now, self.edges.len())?;
            if now.iter().zip(last).any(|(now, last)| now < last) {
                return Err(Fault::Backwards);
            }
        }
        let closed = self.below.is_none_or(|[of_stable, worse, not_worse]| {
            let (n, worse) = since(candidate, &self.last[0], worse);
            let (_, not_worse) = since(candidate, &self.last[0], not_worse);
            let (m, bad) = since(stable, &self.last[1], of_stable);
            self.test.add(&Window { n, worse, not_worse, m, bad })
        });
        self.last = [candidate.to_vec(), stable.to_vec()];
        if closed {
            self.place();
        }
        Ok(self.test.verdict())
    }

    /// Goes on from these counts after a restart ([`Fault::Backwards`]).
    pub fn rebase(&mut self, candidate: &[u64], stable: &[u64]) -> Result<(), Fault> {
        [candidate, stable].iter().try_for_each(|counts| check_counts(counts, self.edges.len()))?;
        self.last = [candidate.to_vec(), stable.to_vec()];
        Ok(())
    }

    /// Closes the window before the split of the traffic changes; see [`super::Rates::cut`].
    pub fn cut(&mut self) -> Verdict {
        if self.test.close() {
            self.place();
        }
        self.test.verdict()
    }

    /// The answer with its numbers, which count slow requests as errors, and the bounds of the window that is open.
    pub fn report(&self) -> (Report, Option<Bounds>) {
        let at = |[stable, worse, not_worse]: [usize; 3]| Bounds {
            stable: self.edges[stable],
            worse: self.edges[worse],
            not_worse: self.edges[not_worse],
        };
        (self.test.report(), self.below.map(at))
    }

    fn place(&mut self) {
        let [_, counts] = &self.last;
        let Some(&all) = counts.last().filter(|all| **all >= self.rule.enough() as u64) else { return };
        // Beyond the last finite bound nothing is known: a lower quantile then.
        let finite = &self.edges[..self.edges.len() - 1];
        let highest =
            finite.iter().rposition(|edge| edge * self.rule.ratio <= finite[finite.len() - 1]).unwrap_or(0);
        let goal = rank(self.rule.quantile, usize::try_from(all).unwrap_or(usize::MAX)) as u64;
        let stable = counts.partition_point(|count| *count <= goal).min(highest);
        let limit = self.edges[stable] * self.rule.ratio;
        let worse = finite.partition_point(|edge| *edge < limit);
        let not_worse = finite.partition_point(|edge| *edge <= limit).saturating_sub(1);
        self.below = Some([stable, worse, not_worse]);
    }
}

/// Requests since, and those among them above the bucket.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
fn since(now: &[u64], last: &[u64], below: usize) -> (f64, f64) {
    let by = |at: usize| now[at].saturating_sub(last[at]) as f64;
    let all = by(now.len() - 1);
    // Buckets are each read on their own: one may be ahead of the sum.
    (all, (all - by(below)).max(0.0))
}

fn latency(value: f64) -> Result<(), Fault> {
    if value.is_finite() && value >= 0.0 { Ok(()) } else { Err(Fault::Value(value)) }
}

fn check_edges(edges: &[f64]) -> Result<(), Fault> {
    let rise = edges.windows(2).all(|pair| pair[0] < pair[1]);
    let finite = edges.iter().rev().skip(1).all(|edge| edge.is_finite() && *edge >= 0.0);
    if rise && finite && edges.last() == Some(&f64::INFINITY) { Ok(()) } else { Err(Fault::Buckets) }
}

fn check_counts(counts: &[u64], edges: usize) -> Result<(), Fault> {
    if counts.len() == edges && counts.is_sorted() { Ok(()) } else { Err(Fault::Buckets) }
}

/// Index, from 0, of a quantile in `n` sorted samples.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "0 to n"
)]
fn rank(quantile: f64, n: usize) -> usize {
    ((quantile * n as f64).ceil() as usize).clamp(1, n.max(1)) - 1
}

/// Of the ranks of two sets of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// Probability that a request of the candidate is slower than one of stable, ties counted half: 0.5 if equal.
    pub superiority: f64,
    /// One-sided p-value of "the candidate is slower". Valid for one look at a number of samples set beforehand only.
    pub p: f64,
}

/// Mann and Whitney's test, "On a test of whether one of two random variables is stochastically larger than the other"
/// (1947), by the normal approximation with corrections for ties and continuity: good from about 8 samples a side.
/// `None` where a side is empty. Beside the sequential test, for the end of a rollout: it sees shifts at every quantile.
/// O(n log n).
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub fn mann_whitney(candidate: &[f64], stable: &[f64]) -> Result<Option<MannWhitney>, Fault> {
    candidate.iter().chain(stable).try_for_each(|value| latency(*value))?;
    if candidate.is_empty() || stable.is_empty() {
        return Ok(None);
    }
    let mut all: Vec<(f64, bool)> = candidate.iter().map(|value| (*value, true)).collect();
    all.extend(stable.iter().map(|value| (*value, false)));
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut before, mut ties) = (0.0, 0.0, 0.0);
    // 0.0 and -0.0 are one value.
    for group in all.chunk_by(|a, b| a.0.partial_cmp(&b.0) == Some(Ordering::Equal)) {
        let size = group.len() as f64;
        let own = group.iter().filter(|(_, candidate)| *candidate).count() as f64;
        ranks += own * (before + f64::midpoint(size, 1.0));
        ties += size * (size * size - 1.0);
        before += size;
    }
    let (n, m) = (candidate.len() as f64, stable.len() as f64);
    let u = ranks - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (n + m + 1.0 - ties / ((n + m) * (n + m - 1.0)));
    let p = if variance > 0.0 { normal_tail((u - n * m / 2.0 - 0.5) / variance.sqrt()) } else { 1.0 };
    Ok(Some(MannWhitney { superiority: u / (n * m), p }))
}

#[cfg(test)]
mod tests {
    use super::super::simulate::{Load, Slowdown, latencies};
    use super::*;
    use proptest::prelude::*;

    const EDGES: [f64; 6] = [0.1, 0.25, 0.5, 1.0, 2.5, f64::INFINITY];

    #[test]
    fn ranks_of_two_sides_have_their_published_values() {
        // SciPy's example: U = 17 of 20, two-sided p 0.111346886 with continuity.
        let (males, females) = ([19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]);
        let found = mann_whitney(&males, &females).unwrap().unwrap();
        assert!((found.superiority - 0.85).abs() < 1e-12);
        assert!((2.0 * found.p - 0.111_346_886_533_140_41).abs() < 1e-12, "{found:?}");
        let same = mann_whitney(&[1.0; 5], &[1.0; 9]).unwrap().unwrap();
        assert_eq!((same.superiority, same.p), (0.5, 1.0));
        assert_eq!(mann_whitney(&[], &[1.0]), Ok(None));
        // By hand: ranks 2, 3.5 of 1, 2, 3, 3; u = 2.5; variance 4/12 (5 - 6/12) = 1.5; z = (2.5 - 2 - 0.5) / ... = 0.
        let tied = mann_whitney(&[2.0, 3.0], &[1.0, 3.0]).unwrap().unwrap();
        assert_eq!((tied.superiority, tied.p), (0.625, 0.5));
    }

    #[test]
    fn what_is_no_latency_is_refused() {
        let mut samples = LatencySamples::new(Latency::default(), Levels::default(), &[1.0; 40]).unwrap();
        let before = samples.clone();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert!(samples.observe(&[1.0], &[value]).is_err() && samples.observe(&[value], &[]).is_err());
            assert!(mann_whitney(&[value], &[1.0]).is_err());
            assert!(LatencySamples::new(Latency::default(), Levels::default(), &[value]).is_err());
        }
        assert_eq!(samples, before);
        assert_eq!(samples.observe(&[], &[]), Ok(Verdict::Undecided));
        let buckets = |edges: &[f64]| LatencyBuckets::new(Latency::default(), Levels::default(), edges).err();
        for edges in
            [&[][..], &[1.0], &[f64::INFINITY], &[2.0, 1.0, f64::INFINITY], &[f64::NAN, f64::INFINITY]]
        {
            assert_eq!(buckets(edges), Some(Fault::Buckets));
        }
        for rule in [(0.0, 1.0), (1.0, 1.0), (0.5, 0.9), (0.5, f64::NAN)] {
            let rule = Latency { quantile: rule.0, ratio: rule.1, ..Latency::default() };
            assert!(LatencySamples::new(rule, Levels::default(), &[]).is_err());
        }
    }

    #[test]
    fn histograms_are_compared_bucket_by_bucket() {
        let rule =
            Latency { ratio: 1.0, excess: Tolerance { ratio: 1.25, difference: 0.0 }, ..Latency::default() };
        let run = |slow: u64, windows: u64| {
            let mut buckets = LatencyBuckets::new(rule, Levels::default(), &EDGES).unwrap();
            assert_eq!(buckets.observe(&[0; 6], &[0, 90, 96, 99, 100, 100]), Ok(Verdict::Undecided));
            for n in 1..=windows {
                let candidate = [0, 100 - 2 * slow, 100 - slow, 100, 100, 100].map(|count| count * n);
                buckets.observe(&candidate, &[0, 90, 96, 99, 100, 100].map(|count| count * (n + 1))).unwrap();
            }
            buckets
        };
        // The 95th percentile of stable is in (0.25, 0.5], where 4 of 100 are slower.
        let found = run(20, 3).report();
        assert_eq!(found.1, Some(Bounds { stable: 0.5, worse: 0.5, not_worse: 0.5 }));
        assert_eq!((found.0.verdict, found.0.seen.candidate.errors), (Verdict::Worse, 60));
        assert_eq!(run(4, 5).report().0.verdict, Verdict::Undecided);
        assert_eq!(run(4, 100).report().0.verdict, Verdict::NotWorse);
        let mut buckets = run(4, 1);
        assert_eq!(buckets.observe(&[0; 6], &[0; 6]), Err(Fault::Backwards));
        assert_eq!(buckets.observe(&[1; 5], &[1; 6]), Err(Fault::Buckets));
        assert_eq!(buckets.observe(&[2, 1, 3, 3, 3, 3], &[900; 6]), Err(Fault::Buckets));
    }

    #[test]
    fn a_ratio_is_rounded_away_from_both_answers() {
        let place = |ratio: f64, stable: [u64; 6]| {
            let rule = Latency { ratio, ..Latency::default() };
            let mut buckets = LatencyBuckets::new(rule, Levels::default(), &EDGES).unwrap();
            buckets.observe(&[0; 6], &stable).unwrap();
            buckets.report().1.map(|bounds| (bounds.stable, bounds.worse, bounds.not_worse))
        };
        assert_eq!(place(1.2, [0, 0, 99, 100, 100, 100]), Some((0.5, 1.0, 0.5)));
        assert_eq!(place(2.0, [0, 0, 99, 100, 100, 100]), Some((0.5, 1.0, 1.0)));
        assert_eq!(place(3.0, [0, 0, 99, 100, 100, 100]), Some((0.5, 2.5, 1.0)));
        // Beyond the last finite bound: the highest that can be multiplied.
        assert_eq!(place(2.0, [0, 0, 0, 0, 0, 100]), Some((1.0, 2.5, 1.0)));
        assert_eq!(place(2.0, [0, 0, 0, 0, 0, 30]), None);
    }

    #[test]
    fn slower_candidates_are_found_and_equals_are_not() {
        let load = Load { requests: 100, share: 0.05, windows: 200, every: 10, runs: 1000, seed: 5 };
        let rule = Latency { ratio: 1.0, ..Latency::default() };
        let run =
            |factor| latencies(&load, &Slowdown { factor, spread: 0.5 }, rule, Levels::default()).unwrap();
        let (same, slower) = (run(1.0), run(1.5));
        assert!(same.worse <= 0.01 && same.not_worse <= 0.05 && slower.worse > 0.95, "{same:?} {slower:?}");
    }

    proptest! {
        #[test]
        fn the_sides_are_symmetric(
            a in prop::collection::vec(0..9u8, 1..30), b in prop::collection::vec(0..9u8, 1..30),
        ) {
            let of = |values: &[u8]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
            let (one, other) = (mann_whitney(&of(&a), &of(&b)), mann_whitney(&of(&b), &of(&a)));
            let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
            prop_assert!((one.superiority + other.superiority - 1.0).abs() < 1e-12);
            prop_assert!(one.p + other.p >= 1.0 - 1e-12);
        }

        #[test]
        fn a_slower_candidate_is_never_less_worse(
            samples in prop::collection::vec((0..100u8, 0..100u8), 40..200), by in 1.0..3.0f64,
        ) {
            let run = |by: f64| {
                let mut found = LatencySamples::new(Latency::default(), Levels::default(), &[50.0; 40]).unwrap();
                for (own, stable) in &samples {
                    let own = [f64::from(*own) * by];
                    found.observe(&own, &[f64::from(*stable), 20.0, 70.0]).unwrap();
                }
                found.report().0
            };
            let (fast, slow) = (run(1.0), run(by));
            prop_assert!(slow.worse >= fast.worse - 1e-9 && slow.not_worse <= fast.not_worse + 1e-9);
        }
    }
}
