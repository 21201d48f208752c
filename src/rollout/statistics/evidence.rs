//! The bets: one test in both directions, fed with windows. The proof is in the module's head.

use super::math::{ln_add, rate_interval};
use super::{Counts, Fault, Levels, Report, Tolerance, Totals, Verdict, probability};

/// How far an alternative is beyond the tolerance, as a ratio of odds, and the wealth staked on it. What lies between
/// two loses a third of its growth at most. The small ones find small excesses in millions of requests only.
const EFFECTS: [(f64, f64); 8] = [
    (1.005, 0.02),
    (1.015, 0.02),
    (1.05, 0.02),
    (1.25, 0.188),
    (1.9, 0.188),
    (4.0, 0.188),
    (12.0, 0.188),
    (60.0, 0.188),
];
/// Share of the wealth kept for a candidate that turns bad later.
const RESERVE: f64 = 0.25;
/// Requests of the scarcer side after which a window closes: a tenth of those before, so an answer is late by a tenth
/// at most, and 20 at most. Windows of few requests split so unevenly that their errors say little.
const WINDOW: (f64, f64) = (0.1, 20.0);
/// Requests of stable after which the estimate of its share forgets: it chooses bets, so it must only be near.
const MEMORY: f64 = 10_000.0;
/// Weight of the first guess of that share, in requests.
const GUESS: f64 = 50.0;

/// ln of what each request multiplies by.
struct Bet {
    candidate: (f64, f64),
    stable: (f64, f64),
}

impl Bet {
    /// The bet on `odds` times the odds of the tolerated share, for `n` and `m` requests where stable's share is about
    /// `rate`. `None` where nothing can be beyond the tolerance.
    fn new(n: f64, m: f64, rate: f64, tolerance: Tolerance, odds: f64) -> Option<Self> {
        let Tolerance { ratio, difference } = tolerance;
        let line = |s: f64| ratio * s + difference;
        let limit = line(rate);
        if limit >= 1.0 {
            return None;
        }
        let target = odds * limit / (1.0 - limit + odds * limit);
        let mut s0 = rate;
        if ratio > 0.0 {
            // The projection lies between the estimate and where the line meets the alternative. Any point would be
            // valid, as `b` follows from `a`: the bisection is for power only.
            let meet = ((target - difference) / ratio).clamp(0.0, 1.0);
            let (mut low, mut high) = (meet.min(rate), meet.max(rate));
            for _ in 0..24 {
                s0 = f64::midpoint(low, high);
                let c0 = line(s0);
                let slope = n * ratio * (target - c0) * s0 * (1.0 - s0) + m * (rate - s0) * c0 * (1.0 - c0);
                *(if slope > 0.0 { &mut low } else { &mut high }) = s0;
            }
        }
        let c0 = line(s0);
        let a = (target - c0) / (c0 * (1.0 - c0));
        let b = if ratio > 0.0 { -ratio * a * n / m } else { 0.0 };
        let ln = |by: f64, at: f64| ((by * (1.0 - at)).ln_1p(), (-by * at).ln_1p());
        let bet = Self { candidate: ln(a, c0), stable: ln(b, s0) };
        let all = [bet.candidate.0, bet.candidate.1, bet.stable.0, bet.stable.1];
        all.iter().all(|ln| ln.is_finite()).then_some(bet)
    }

    fn ln(&self, bad: f64, n: f64, stable_bad: f64, m: f64) -> f64 {
        bad * self.candidate.0
            + (n - bad) * self.candidate.1
            + stable_bad * self.stable.0
            + (m - stable_bad) * self.stable.1
    }
}

/// Evidence in one direction.
#[derive(Clone, Debug, PartialEq)]
struct Evidence {
    worse: bool,
    /// ln of what is staked on each effect.
    stakes: [f64; EFFECTS.len()],
    /// ln of the product, now and at its highest.
    now: f64,
    peak: f64,
    windows: f64,
}

impl Evidence {
    fn new(worse: bool) -> Self {
        let staked = if worse { 1.0 - RESERVE } else { 1.0 };
        Self {
            worse,
            stakes: EFFECTS.map(|(_, part)| (staked * part).ln()),
            now: 0.0,
            peak: 0.0,
            windows: 0.0,
        }
    }

    /// What is not staked after `windows`. Falls slowly: a change to five times 1 % after 5,000 minutes is found within
    /// 450 requests instead of 160.
    fn reserve(&self, windows: f64) -> f64 {
        if self.worse { RESERVE / (1.0 + windows.ln_1p()) } else { 0.0 }
    }

    fn add(&mut self, window: &Window, rate: f64, tolerance: Tolerance) {
        let (bad, sign) = if self.worse { (window.worse, 1) } else { (window.not_worse, -1) };
        let left = self.reserve(self.windows + 1.0);
        let fresh = self.reserve(self.windows) - left;
        self.windows += 1.0;
        self.now = left.ln();
        for (stake, (effect, part)) in self.stakes.iter_mut().zip(EFFECTS) {
            let won = Bet::new(window.n, window.m, rate, tolerance, effect.powi(sign))
                .map_or(0.0, |bet| bet.ln(bad.min(window.n), window.n, window.bad.min(window.m), window.m));
            *stake = ln_add(*stake, (fresh * part).ln()) + won;
            self.now = ln_add(self.now, *stake);
        }
        self.peak = self.peak.max(self.now);
    }

    /// Requests of the candidate until one effect alone reaches `goal`, at these shares and `m` of stable for each.
    fn needed(&self, goal: f64, share: f64, stable: f64, m: f64, tolerance: Tolerance) -> Option<f64> {
        let sign = if self.worse { 1 } else { -1 };
        let until = |(stake, (effect, _)): (&f64, &(f64, f64))| {
            let bet = Bet::new(1.0, m, stable, tolerance, effect.powi(sign))?;
            let growth = bet.ln(share, 1.0, m * stable, m);
            (growth > 0.0).then(|| ((goal - stake) / growth).max(1.0))
        };
        self.stakes.iter().zip(&EFFECTS).filter_map(until).min_by(f64::total_cmp)
    }
}

/// Requests of a window: `n` of the candidate, `m` of stable with `bad`; those of the candidate that are bad in the
/// sense of either direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Window {
    pub(super) n: f64,
    pub(super) worse: f64,
    pub(super) not_worse: f64,
    pub(super) m: f64,
    pub(super) bad: f64,
}

impl Window {
    fn plus(&mut self, other: &Self) {
        self.n += other.n;
        self.worse += other.worse;
        self.not_worse += other.not_worse;
        self.m += other.m;
        self.bad += other.bad;
    }
}

/// The test of both directions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Test {
    tolerance: Tolerance,
    levels: Levels,
    worse: Evidence,
    not_worse: Evidence,
    open: Window,
    closed: Window,
    /// Remembered requests of stable and the bad ones among them, from closed windows only.
    past: (f64, f64),
}

impl Test {
    /// `guess` is the share of bad requests of stable before anything is seen.
    pub(super) fn new(tolerance: Tolerance, levels: Levels, guess: f64) -> Result<Self, Fault> {
        probability(levels.worse)?;
        probability(levels.not_worse)?;
        let Tolerance { ratio, difference } = tolerance;
        if !(0.0..=1000.0).contains(&ratio) || ratio + difference <= 0.0 {
            return Err(Fault::Tolerance(ratio));
        }
        if !(0.0..1.0).contains(&difference) {
            return Err(Fault::Tolerance(difference));
        }
        Ok(Self {
            tolerance,
            levels,
            worse: Evidence::new(true),
            not_worse: Evidence::new(false),
            open: Window::default(),
            closed: Window::default(),
            past: (GUESS, GUESS * guess),
        })
    }

    /// Adds requests, and says whether the window closed. Whether it does depends on numbers of requests only, but for
    /// counters that are read apart, where errors may be ahead of their requests.
    pub(super) fn add(&mut self, more: &Window) -> bool {
        self.open.plus(more);
        let scarce = |w: &Window| if self.tolerance.ratio > 0.0 { w.n.min(w.m) } else { w.n };
        let goal = (WINDOW.0 * scarce(&self.closed)).clamp(1.0, WINDOW.1);
        let ahead = self.open.worse.max(self.open.not_worse) > self.open.n || self.open.bad > self.open.m;
        scarce(&self.open) >= goal && !ahead && self.close()
    }

    /// Closes the window as it is, where both sides have requests.
    pub(super) fn close(&mut self) -> bool {
        if self.open.n < 1.0 || (self.open.m < 1.0 && self.tolerance.ratio > 0.0) {
            return false;
        }
        let rate = (self.past.1 / self.past.0).clamp(1e-7, 1.0 - 1e-7);
        self.worse.add(&self.open, rate, self.tolerance);
        self.not_worse.add(&self.open, rate, self.tolerance);
        self.past = (self.past.0 + self.open.m, self.past.1 + self.open.bad);
        let keep = (MEMORY / self.past.0).min(1.0);
        // Half a request stays bad, or a stable that never fails would make one error of the candidate a proof.
        self.past = (self.past.0 * keep, (self.past.1 * keep).max(0.5));
        self.closed.plus(&self.open);
        self.open = Window::default();
        true
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.worse.peak >= -self.levels.worse.ln() {
            Verdict::Worse
        } else if self.not_worse.now >= -self.levels.not_worse.ln() {
            Verdict::NotWorse
        } else {
            Verdict::Undecided
        }
    }

    /// ln of the product now.
    #[cfg(test)]
    pub(super) fn evidence(&self, worse: bool) -> f64 {
        if worse { self.worse.now } else { self.not_worse.now }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of counters")]
    pub(super) fn report(&self) -> Report {
        let mut all = self.closed;
        all.plus(&self.open);
        let candidate = Counts { requests: all.n as u64, errors: all.worse.min(all.n) as u64 };
        let stable = Counts { requests: all.m as u64, errors: all.bad.min(all.m) as u64 };
        // Half the level for each side: the bounds of both hold together.
        let bounds = |counts| rate_interval(counts, self.levels.worse / 2.0).unwrap_or((0.0, 1.0));
        let (of_candidate, of_stable) = (bounds(candidate), bounds(stable));
        let share = (all.worse + 0.5) / (all.n + 1.0);
        let rate = ((all.bad + 0.5) / (all.m + 1.0)).clamp(1e-7, 1.0 - 1e-7);
        let ratio = if all.n > 0.0 { all.m / all.n } else { 0.0 };
        let needed = match self.verdict() {
            Verdict::Undecided if all.n > 0.0 && (ratio > 0.0 || self.tolerance.ratio <= 0.0) => {
                let worse = share > self.tolerance.ratio * rate + self.tolerance.difference;
                let (side, level) = if worse {
                    (&self.worse, self.levels.worse)
                } else {
                    (&self.not_worse, self.levels.not_worse)
                };
                side.needed(-level.ln(), share, rate, ratio, self.tolerance)
            }
            _ => None,
        };
        Report {
            verdict: self.verdict(),
            seen: Totals { candidate, stable },
            difference: (of_candidate.0 - of_stable.1, of_candidate.1 - of_stable.0),
            worse: self.worse.peak / std::f64::consts::LN_10,
            not_worse: self.not_worse.now / std::f64::consts::LN_10,
            needed: needed.map(|requests| requests.ceil() as u64),
        }
    }
}
