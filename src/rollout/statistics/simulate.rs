//! How often the answers are false, and how soon they come, by simulation. The only place with chance: a seed makes it
//! the same on every machine. For benchmarks and tests.

use super::{Counts, Fault, Latency, LatencySamples, Levels, Rates, Tolerance, Totals, Verdict};

/// Traffic, and how it is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests of both sides per window, e.g. a minute.
    pub requests: u64,
    /// Probability that a request goes to the candidate.
    pub share: f64,
    /// Windows of one run.
    pub windows: u32,
    /// Windows from one look to the next.
    pub every: u32,
    /// Runs.
    pub runs: u32,
    /// What the chance starts from.
    pub seed: u64,
}

/// True error rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Of stable.
    pub stable: f64,
    /// Of the candidate.
    pub candidate: f64,
    /// Both rates are multiplied by this in every tenth 60 windows; 1 for constant rates.
    pub bad: f64,
    /// The first window in which the candidate has its own rate; before, that of stable.
    pub from: u32,
}

/// A way to judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// [`Rates`].
    Sequential(Tolerance, Levels),
    /// As Argo Rollouts and Flagger do: a look fails where the candidate's error rate since the last is above `rate`;
    /// one without requests does not count. Worse at more than `limit` failures.
    Threshold {
        /// The rate, 0 to 1.
        rate: f64,
        /// Failures that are allowed.
        limit: u32,
    },
}

/// What came out of all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Share of the runs that said "worse" at some time: false positives or detections, by what is true.
    pub worse: f64,
    /// Share of the runs that said "not worse" at some time, and not "worse" before.
    pub not_worse: f64,
    /// Median over all runs of the candidate's requests until "worse"; `None` where half the runs never said it.
    pub requests: Option<u64>,
    /// The same in windows.
    pub windows: Option<u32>,
}

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014).
struct Chance(u64);

impl Chance {
    /// Uniform in (0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((bits ^ (bits >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Binomial, by the gaps between successes: as many steps as there are.
    #[expect(clippy::cast_precision_loss, reason = "small")]
    fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        // A gap is infinite where p is 0.
        let mut gap = || (self.unit().ln() / (-p).ln_1p()).abs().floor() + 1.0;
        let (mut at, mut found) = (gap(), 0);
        while at <= n as f64 {
            found += 1;
            at += gap();
        }
        found
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }
}

/// Runs `judge`, made anew for each run, which sees a window with its number of requests on both sides.
fn repeat<J: FnMut(&mut Chance, u32, u64, u64) -> Verdict>(
    load: &Load,
    mut start: impl FnMut() -> J,
) -> Outcome {
    let (mut found, mut passed) = (Vec::new(), 0);
    for run in 0..load.runs {
        let mut chance = Chance(load.seed.wrapping_add(u64::from(run)).wrapping_mul(0xd134_2543_de82_ef95));
        let (mut judge, mut requests, mut pass) = (start(), 0, 0);
        for window in 0..load.windows {
            let own = chance.binomial(load.requests, load.share);
            requests += own;
            match judge(&mut chance, window, own, load.requests - own) {
                Verdict::Worse => {
                    found.push((requests, window + 1));
                    break;
                }
                Verdict::NotWorse => pass = 1,
                Verdict::Undecided => {}
            }
        }
        passed += pass;
    }
    found.sort_unstable();
    let median = found.get(load.runs as usize / 2);
    let share = |count: f64| count / f64::from(load.runs.max(1));
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let worse = share(found.len() as f64);
    let windows = median.map(|found| found.1);
    Outcome { worse, not_worse: share(f64::from(passed)), requests: median.map(|found| found.0), windows }
}

/// Runs a method on error rates. A method that [`Rates`] refuses never says anything.
#[expect(clippy::cast_precision_loss, reason = "small")]
pub fn rates(load: &Load, shares: &Shares, method: &Method) -> Outcome {
    repeat(load, || {
        let mut rates = match *method {
            Method::Sequential(tolerance, levels) => Rates::new(tolerance, levels).ok(),
            Method::Threshold { .. } => None,
        };
        let (mut sum, mut last, mut failures) = (Totals::default(), Counts::default(), 0);
        move |chance, window, own, of_stable| {
            let times = if window / 60 % 10 == 9 { shares.bad } else { 1.0 };
            let rate = if window < shares.from { shares.stable } else { shares.candidate };
            sum.candidate.requests += own;
            sum.candidate.errors += chance.binomial(own, (rate * times).min(1.0));
            sum.stable.requests += of_stable;
            sum.stable.errors += chance.binomial(of_stable, (shares.stable * times).min(1.0));
            if (window + 1) % load.every.max(1) != 0 {
                return Verdict::Undecided;
            }
            if let Method::Threshold { rate, limit } = *method {
                let requests = sum.candidate.requests - last.requests;
                let errors = sum.candidate.errors - last.errors;
                last = sum.candidate;
                failures += u32::from(errors as f64 > rate * requests as f64);
                return if failures > limit { Verdict::Worse } else { Verdict::Undecided };
            }
            rates.as_mut().and_then(|rates| rates.observe(sum).ok()).unwrap_or_default()
        }
    })
}

/// Latencies: log-normal, with a median of 1 for stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// The candidate takes so many times as long.
    pub factor: f64,
    /// Standard deviation of the logarithm of both.
    pub spread: f64,
}

/// Runs [`LatencySamples`] without a history.
pub fn latencies(load: &Load, slow: &Slowdown, rule: Latency, levels: Levels) -> Result<Outcome, Fault> {
    let new = LatencySamples::new(rule, levels, &[])?;
    Ok(repeat(load, || {
        let (mut test, mut own, mut of_stable) = (new.clone(), Vec::new(), Vec::new());
        move |chance, window, n, m| {
            own.extend((0..n).map(|_| slow.factor * (slow.spread * chance.normal()).exp()));
            of_stable.extend((0..m).map(|_| (slow.spread * chance.normal()).exp()));
            if (window + 1) % load.every.max(1) != 0 {
                return Verdict::Undecided;
            }
            let verdict = test.observe(&own, &of_stable).unwrap_or_default();
            own.clear();
            of_stable.clear();
            verdict
        }
    }))
}
