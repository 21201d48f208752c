//! The special functions that the tests need; std has none that is stable.

use super::{Counts, Fault, probability};

/// ln Γ(x) for x > 0: Stirling's series from 10 on, with the recurrence below. The error is under 5e-14 of the
/// value, or of 1.
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let (i, half_ln_tau) = (1.0 / (x * x), 0.918_938_533_204_672_7);
    let series = (1.0 / 12.0 - i * (1.0 / 360.0 - i * (1.0 / 1260.0 - i * (1.0 / 1680.0 - i / 1188.0)))) / x;
    (x - 0.5) * x.ln() - x + half_ln_tau + series - product.ln()
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// ln of the likelihood of Jeffreys' mixture over that of `p`: a martingale where `p` is true.
fn ln_mixture(k: f64, n: f64, p: f64) -> f64 {
    let miss = n - k;
    // 0 * ln 0 is 0.
    let of_p = if k > 0.0 { k * p.ln() } else { 0.0 } + if miss > 0.0 { miss * (-p).ln_1p() } else { 0.0 };
    ln_beta(0.5 + k, 0.5 + miss) - ln_beta(0.5, 0.5) - of_p
}

/// Bounds of a constant rate that hold at all times together with a probability of `1 - level`: the beta mixture with
/// Jeffreys' prior. Robbins, "Statistical methods related to the law of the iterated logarithm" (1970).
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub fn rate_interval(counts: Counts, level: f64) -> Result<(f64, f64), Fault> {
    let limit = -probability(level)?.ln();
    if counts.errors > counts.requests {
        return Err(Fault::Errors(counts));
    }
    let Some(rate) = counts.rate() else { return Ok((0.0, 1.0)) };
    let (n, k) = (counts.requests as f64, counts.errors as f64);
    // The mixture falls towards the rate from both ends; 60 halvings reach the last bit.
    let bound = |mut outside: f64| {
        let mut inside = rate;
        for _ in 0..60 {
            let middle = f64::midpoint(inside, outside);
            if ln_mixture(k, n, middle) < limit {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        outside
    };
    Ok((if k > 0.0 { bound(0.0) } else { 0.0 }, if k < n { bound(1.0) } else { 1.0 }))
}

/// ln(e^a + e^b).
pub(super) fn ln_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// P(Z > z) of a standard normal Z: the series about 0 below 2.5, Laplace's continued fraction above.
pub(super) fn normal_tail(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z.abs() < 2.5 {
        let (mut term, mut sum, mut odd) = (z, z, 1.0);
        while term.abs() > 1e-17 {
            odd += 2.0;
            term *= z * z / odd;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    let x = z.abs();
    let fraction = (1..=80).rev().fold(x, |below, k| x + f64::from(k) / below);
    let tail = density / fraction;
    if z > 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64, relative: f64) {
        assert!((found - expected).abs() <= relative * expected.abs().max(1.0), "{found} is not {expected}");
    }

    #[test]
    fn special_functions_have_their_known_values() {
        // Γ(1/2) = √π, Γ(5) = 24; Γ(1/10), 20!, 100! and Γ(1e9) in 40 digits by mpmath.
        near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln(), 1e-14);
        near(ln_gamma(1.0), 0.0, 5e-14);
        near(ln_gamma(5.0), 24f64.ln(), 1e-14);
        near(ln_gamma(0.1), 2.252_712_651_734_206, 1e-14);
        near(ln_gamma(21.0), 42.335_616_460_753_485, 1e-14);
        near(ln_gamma(101.0), 363.739_375_555_563_5, 1e-14);
        near(ln_gamma(1e9), 19_723_265_827.503_716, 1e-14);
        near(normal_tail(1.959_963_984_540_054), 0.025, 1e-14);
        near(normal_tail(0.0), 0.5, 1e-15);
        near(normal_tail(-1.0), 0.841_344_746_068_542_9, 1e-14);
        assert!((normal_tail(6.0) / 9.865_876_450_376_98e-10 - 1.0).abs() < 1e-10);
        assert!((normal_tail(2.5) / normal_tail(2.499_999_999_999) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn intervals_of_rates() {
        let of = |errors, requests| rate_interval(Counts { requests, errors }, 0.05).unwrap();
        assert_eq!(of(0, 0), (0.0, 1.0));
        // One request: B(3/2, 1/2) / B(1/2, 1/2) / p = 1 / 2p, 20 at p = 1/40.
        assert!((of(1, 1).0 - 0.025).abs() < 1e-12 && of(1, 1).1 >= 1.0);
        assert!((of(0, 1).1 - 0.975).abs() < 1e-12);
        let (low, high) = of(500_000_000, 1_000_000_000);
        assert!(low < 0.5 && high > 0.5 && high - low < 4e-4);
        let (low, high) = of(0, 1_000_000_000);
        assert!(low == 0.0 && high < 2e-8);
        assert!(rate_interval(Counts { requests: 1, errors: 2 }, 0.05).is_err());
        assert!(rate_interval(Counts::default(), 1.0).is_err());
    }
}
