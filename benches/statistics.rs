//! How often the comparison of a candidate with the stable version is wrong, and how soon it is right, by simulation:
//! part of `make bench`. Fixed seeds: the same program gives the same table. RUNS (200) is for each cell.

#![allow(clippy::expect_used, reason = "a broken premise ends a bench")]

use std::io::Write;
use std::time::Instant;

use driftless::rollout::statistics::simulate::{Load, Method, Outcome, Shares, rates};
use driftless::rollout::statistics::{Counts, Levels, Rates, Tolerance, Totals};

/// The candidate's share of the traffic.
const SHARE: f64 = 0.05;
/// Minutes that are watched, with a look in each.
const MINUTES: u32 = 10_000;
/// What people write: an error rate above 1 % in a minute, for the sixth time.
const USUAL: Method = Method::Threshold { rate: 0.01, limit: 5 };

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

fn shown(outcome: &Outcome) -> String {
    let requests = outcome.requests.map_or_else(|| "-".to_owned(), |requests| requests.to_string());
    format!("{:.3} after {requests}", outcome.worse)
}

fn main() {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    // No worse than stable at all: the hardest null.
    let sequential = Method::Sequential(Tolerance { ratio: 1.0, difference: 0.0 }, Levels::default());
    say(
        "| requests a minute, error rate | equals called worse | 1 % threshold | twice the errors | five times | 1 % threshold |",
    );
    say("|---|---|---|---|---|---|");
    for requests in [5, 50, 500] {
        for base in [0.001, 0.01, 0.05] {
            let load = Load { requests, share: SHARE, windows: MINUTES, every: 1, runs, seed: 11 };
            let found = |times: f64, method: &Method| {
                let shares = Shares { stable: base, candidate: base * times, bad: 1.0, from: 0 };
                rates(&load, &shares, method)
            };
            say(&format!(
                "| {requests}, {} % | {:.3} | {:.3} | {} | {} | {} |",
                base * 100.0,
                found(1.0, &sequential).worse,
                found(1.0, &USUAL).worse,
                shown(&found(2.0, &sequential)),
                shown(&found(5.0, &sequential)),
                shown(&found(5.0, &USUAL)),
            ));
        }
    }
    let mut test = Rates::new(Tolerance::default(), Levels::default()).expect("good levels");
    let looks = 200_000u32;
    let begin = Instant::now();
    for look in (1..=looks).map(u64::from) {
        let candidate = Counts { requests: 25 * look, errors: look / 4 };
        let stable = Counts { requests: 475 * look, errors: 5 * look };
        test.observe(Totals { candidate, stable }).expect("counts that go up");
    }
    say(&format!("\none look: {:.1} µs", begin.elapsed().as_secs_f64() * 1e6 / f64::from(looks)));
}
