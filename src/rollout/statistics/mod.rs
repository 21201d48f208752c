//! Whether a candidate is worse than the stable version, from little traffic and however often one asks.
//!
//! **Hypotheses.** With `c` and `s` the shares of bad requests of the two sides, the candidate is worse where
//! `c > ratio * s + difference`, in the same window of time. "Worse" refutes that it was within the tolerance in every
//! window; "not worse" refutes that it was beyond it in every window. Each has its own level.
//!
//! **Method.** An e-process: a bet per window, multiplied up. For a window of `n` and `m` requests it fixes, before it
//! sees an error of them, `a >= 0`, a point on the line `c0 = ratio * s0 + difference`, and `b = -ratio * a * n / m`.
//! Each request of the candidate multiplies by `1 + a (bad - c0)`, each of stable by `1 + b (bad - s0)`. Expected are
//! `(1 + a (c - c0))^n (1 + b (s - s0))^m`, by the inequality of the means at most
//! `(1 + n a (c - ratio * s - difference) / (n + m))^(n + m)`: at most 1 within the tolerance, whatever `s` is in this
//! window. "Not worse" is the mirror image, `a <= 0`. Which `a` and `s0` is a matter of power: the reverse information
//! projection of an alternative makes each factor a likelihood ratio. By Ville's inequality (1939) the product reaches
//! `1 / level` with a probability of at most `level`, over all times together: asking more often costs nothing.
//! Turner, Ly, Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping"
//! (2024); Turner, Grünwald, "Exact anytime-valid confidence intervals for contingency tables and beyond" (2023).
//!
//! **Power.** Wealth is spread over eight alternatives, and a quarter is kept for a candidate that turns bad later. At
//! 5 % of the traffic, half of the candidates that fail every second request are found by their 6th to 10th, and half of
//! those with five times an error rate of 1 % by their 170th. "Not worse" needs some errors less than are tolerated: at
//! little traffic allow a difference, as a ratio alone needs hundreds of errors.
//!
//! **Assumptions.** Requests fail independently of each other, given the window; the split between the sides is by
//! chance; how many requests a window has does not depend on its errors. Rates may change from window to window, and
//! from request to request (`c` and `s` are then the means). Retries and outages that hit one side by chance break the
//! first: count sessions then, or widen the tolerance.
//!
//! **Latency** is the same test: a request is bad where it takes longer than a bound that was fixed before the window.
//!
//! No clock and no chance in any verdict. A window costs 16 bisections of 24 steps: microseconds, constant memory.

mod evidence;
mod latency;
mod math;
mod rates;
pub mod simulate;

pub use latency::{Bounds, Latency, LatencyBuckets, LatencySamples, MannWhitney, mann_whitney};
pub use math::rate_interval;
pub use rates::Rates;

use std::fmt;

/// Requests of one side, and how many of them were bad (failed, or slow).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All requests.
    pub requests: u64,
    /// The bad ones among them.
    pub errors: u64,
}

impl Counts {
    /// Share of the bad ones, 0 to 1; `None` without a request.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
    pub fn rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors as f64 / self.requests as f64)
    }
}

/// What the counters of both sides show at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Of the candidate.
    pub candidate: Counts,
    /// Of the stable version.
    pub stable: Counts,
}

/// How bad the candidate may be: at most `ratio * stable + difference`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Multiple of the stable share, 0 to 1000. 0 is an absolute limit, which needs no stable version.
    pub ratio: f64,
    /// Added to it; a share from 0 to 1, so 0.01 is one percentage point.
    pub difference: f64,
}

impl Default for Tolerance {
    /// A quarter more of the errors there are, and 2 of 1000 requests. Where nothing more is tolerated (1 and 0), a
    /// candidate that is equal stays undecided.
    fn default() -> Self {
        Self { ratio: 1.25, difference: 0.002 }
    }
}

/// Probabilities of a false answer, over all times at which one asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels {
    /// Of "worse" for a candidate within the tolerance.
    pub worse: f64,
    /// Of "not worse" for a candidate beyond it.
    pub not_worse: f64,
}

impl Default for Levels {
    /// One good rollout in 100 aborted, one bad one in 20 passed by this gate.
    fn default() -> Self {
        Self { worse: 0.01, not_worse: 0.05 }
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Beyond the tolerance; stays once said.
    Worse,
    /// Within the tolerance, by what is known now.
    NotWorse,
    /// The requests so far allow both.
    #[default]
    Undecided,
}

/// A verdict with the numbers behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The answer.
    pub verdict: Verdict,
    /// What was compared, with the window that is still open.
    pub seen: Totals,
    /// Interval of candidate minus stable, as shares, at one minus the level of "worse" over all times. For the eye: it
    /// takes both rates as constant, which the verdict does not. From -1 to 1 where nothing is known.
    pub difference: (f64, f64),
    /// log10 of the e-value for "worse": at 2, the data are 100 times likelier if it is worse. Its highest so far.
    pub worse: f64,
    /// log10 of the e-value for "not worse", now.
    pub not_worse: f64,
    /// About how many more requests of the candidate give an answer if rates and shares stay; `None` if none do.
    pub needed: Option<u64>,
}

/// Why numbers are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A level or a quantile that is not strictly between 0 and 1.
    Probability(f64),
    /// A ratio or difference out of its range, or both 0.
    Tolerance(f64),
    /// More errors than requests.
    Errors(Counts),
    /// A counter went back: the process behind it was restarted. Nothing was counted.
    Backwards,
    /// A latency that is negative, infinite or not a number.
    Value(f64),
    /// Bounds that do not rise to +Inf, or counts that do not rise or are not one per bound.
    Buckets,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probability(value) => write!(f, "{value} is not strictly between 0 and 1"),
            Self::Tolerance(value) => write!(f, "a tolerance of {value} is out of range"),
            Self::Errors(counts) => write!(f, "{} errors in {} requests", counts.errors, counts.requests),
            Self::Backwards => f.write_str("a counter went back"),
            Self::Value(value) => write!(f, "{value} is not a latency"),
            Self::Buckets => f.write_str("the buckets are not those of a histogram"),
        }
    }
}

impl std::error::Error for Fault {}

fn probability(value: f64) -> Result<f64, Fault> {
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(Fault::Probability(value)) }
}
