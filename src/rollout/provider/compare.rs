//! The candidate against the stable side, by the counters of both: statistics that may be looked at as often as one likes.
//!
//! Nothing is remembered between two looks. Prometheus has the counters since the step was reached, and every look reads
//! them all again, window by window: so an agent that was killed says the same as one that was not.

use jiff::Timestamp;
use serde_json::Value;

use super::{About, Asked, Reading, base, headers, invalid, secret, templates};
use crate::api::{CompareGate, GateAnswer};
use crate::error::Result;
use crate::rollout::policy::seconds;
use crate::rollout::statistics::{
    Counts, Fault, Latency, LatencyBuckets, Levels, Rates, Report, Tolerance, Totals, Verdict,
};

/// Windows of one look at most; then they are longer.
const WINDOWS: i64 = 1000;

enum What {
    /// Counters of requests and of those that failed.
    Errors { requests: String, failures: String, tolerance: Tolerance },
    /// Buckets of a histogram, by `le`.
    Latency { buckets: String, rule: Latency },
}

/// A comparison.
pub struct Compare {
    address: String,
    what: What,
    levels: Levels,
    window: String,
    /// Seconds.
    interval: i64,
}

/// Points of one counter: seconds, and what it counted.
type Series = Vec<(i64, u64)>;

impl Compare {
    pub(super) fn read(stated: &CompareGate, window: &str) -> Result<Self> {
        base(&stated.address, "compare.address")?;
        headers(&stated.headers, "compare.headers")?;
        secret(stated.secret_ref.as_ref(), "compare.secretRef")?;
        let query = |text: &String, field: &str| {
            let field = format!("compare.{field}");
            if !text.contains("{{side}}") && !text.contains("{{sideService}}") {
                return Err(invalid(&field, "names no side: it holds {{side}} or {{sideService}}"));
            }
            let filled = text.replace("{{side}}", "x").replace("{{sideService}}", "x");
            templates::check(&filled).map_err(|why| invalid(&field, why))?;
            Ok(text.clone())
        };
        let usual = Levels::default();
        let levels = Levels {
            worse: stated.levels.worse.unwrap_or(usual.worse),
            not_worse: stated.levels.not_worse.unwrap_or(usual.not_worse),
        };
        let fault = |field: &str| {
            let field = format!("compare.{field}");
            move |why: Fault| invalid(&field, why)
        };
        let what = match (&stated.errors, &stated.latency) {
            (Some(errors), None) => {
                let usual = Tolerance::default();
                let tolerance = Tolerance {
                    ratio: errors.ratio.unwrap_or(usual.ratio),
                    difference: errors.difference.unwrap_or(usual.difference),
                };
                Rates::new(tolerance, levels).map_err(fault("errors"))?;
                What::Errors {
                    requests: query(&errors.requests, "errors.requests")?,
                    failures: query(&errors.failures, "errors.failures")?,
                    tolerance,
                }
            }
            (None, Some(latency)) => {
                let usual = Latency::default();
                let rule = Latency {
                    quantile: latency.quantile.unwrap_or(usual.quantile),
                    ratio: latency.ratio.unwrap_or(usual.ratio),
                    excess: Tolerance {
                        ratio: usual.excess.ratio,
                        difference: latency.excess.unwrap_or(usual.excess.difference),
                    },
                };
                LatencyBuckets::new(rule, levels, &[f64::MIN_POSITIVE, 1.0, f64::INFINITY])
                    .map_err(fault("latency"))?;
                What::Latency { buckets: query(&latency.buckets, "latency.buckets")?, rule }
            }
            _ => return Err(invalid("compare", "give either errors or latency")),
        };
        let interval = seconds(window, "interval")?.unwrap_or(60).max(1);
        let address = stated.address.trim_end_matches('/').to_owned();
        Ok(Self { address, what, levels, window: window.to_owned(), interval })
    }

    /// What to ask, in this order: each query for the candidate, then for the stable side.
    ///
    /// # Errors
    /// Why it cannot be asked, in words.
    pub fn requests(&self, about: &About, now: Timestamp) -> std::result::Result<Vec<Asked>, String> {
        let since: Timestamp =
            about.since.parse().map_err(|_| "it is not known since when the step is reached".to_owned())?;
        let (start, end) = (since.as_second(), now.as_second());
        let step = self.interval.max((end - start) / WINDOWS + 1);
        let queries: Vec<&String> = match &self.what {
            What::Errors { requests, failures, .. } => vec![requests, failures],
            What::Latency { buckets, .. } => vec![buckets],
        };
        let sides = [(&about.candidate, &about.candidate_service), (&about.target, &about.stable_service)];
        let mut all = Vec::new();
        for (side, service) in sides {
            for query in &queries {
                if query.contains("{{sideService}}") && service.is_empty() {
                    return Err("{{sideService}} stands for nothing: this rollout has no Service".into());
                }
                let query = query.replace("{{side}}", side).replace("{{sideService}}", service);
                let parameters = vec![
                    ("query", templates::fill(&query, about, &self.window)?),
                    ("start", start.to_string()),
                    ("end", end.to_string()),
                    ("step", step.to_string()),
                ];
                all.push((format!("{}/api/v1/query_range", self.address), parameters));
            }
        }
        Ok(all)
    }

    /// What the answers say, in the order in which they were asked for.
    pub fn reading(&self, answers: &[Vec<u8>]) -> Reading {
        let matrices: std::result::Result<Vec<Value>, String> =
            answers.iter().map(|body| matrix(body)).collect();
        let matrices = match matrices {
            Ok(matrices) => matrices,
            Err(why) => return Reading::error(why),
        };
        let judged = match (&self.what, matrices.as_slice()) {
            (What::Errors { tolerance, .. }, [requests, failures, stable, stable_failures]) => {
                self.rates([requests, failures, stable, stable_failures], *tolerance)
            }
            (What::Latency { rule, .. }, [candidate, stable]) => self.latency(candidate, stable, *rule),
            _ => Err("there are not as many answers as questions".to_owned()),
        };
        match judged {
            Ok(Some((report, what))) => verdict(&report, what),
            Ok(None) => Reading::no_data("neither side has counted a request since the step was reached"),
            Err(why) => Reading::error(why),
        }
    }

    fn rates(
        &self,
        counters: [&Value; 4],
        tolerance: Tolerance,
    ) -> std::result::Result<Option<(Report, &'static str)>, String> {
        let mut series = Vec::with_capacity(4);
        for counter in counters {
            series.push(one(counter)?);
        }
        let mut times: Vec<i64> = series[0].iter().chain(&series[2]).map(|(time, _)| *time).collect();
        times.sort_unstable();
        times.dedup();
        let fault = |why: Fault| why.to_string();
        let mut rates = Rates::new(tolerance, self.levels).map_err(fault)?;
        for (number, time) in times.iter().enumerate() {
            let at = |which: usize| at(&series[which], *time);
            let counts = |which: usize| Counts { requests: at(which), errors: at(which + 1).min(at(which)) };
            let now = Totals { candidate: counts(0), stable: counts(2) };
            // What was counted before is of before; a counter that went back begins anew.
            if number == 0 || matches!(rates.observe(now), Err(Fault::Backwards)) {
                rates.rebase(now).map_err(fault)?;
            }
        }
        Ok((!times.is_empty()).then(|| (rates.report(), "failed")))
    }

    fn latency(
        &self,
        candidate: &Value,
        stable: &Value,
        rule: Latency,
    ) -> std::result::Result<Option<(Report, &'static str)>, String> {
        let (candidate, stable) = (by_bound(candidate)?, by_bound(stable)?);
        let mut edges: Vec<f64> = candidate.iter().chain(&stable).map(|(edge, _)| *edge).collect();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        let mut times: Vec<i64> = candidate
            .iter()
            .chain(&stable)
            .flat_map(|(_, points)| points.iter().map(|(time, _)| *time))
            .collect();
        times.sort_unstable();
        times.dedup();
        if times.is_empty() {
            return Ok(None);
        }
        let fault = |why: Fault| why.to_string();
        let mut test = LatencyBuckets::new(rule, self.levels, &edges).map_err(fault)?;
        for (number, time) in times.iter().enumerate() {
            let counts = |side: &[(f64, Series)]| -> Vec<u64> {
                let mut most = 0;
                let counted = |edge: &f64| {
                    side.iter()
                        .find(|(known, _)| known.total_cmp(edge).is_eq())
                        .map_or(0, |(_, points)| at(points, *time))
                };
                // Scrapes of buckets may be of different moments; counts never fall with the bound.
                edges
                    .iter()
                    .map(|edge| {
                        most = counted(edge).max(most);
                        most
                    })
                    .collect()
            };
            let (candidate, stable) = (counts(&candidate), counts(&stable));
            if number == 0 || matches!(test.observe(&candidate, &stable), Err(Fault::Backwards)) {
                test.rebase(&candidate, &stable).map_err(fault)?;
            }
        }
        Ok(Some((test.report().0, "were slow")))
    }
}

fn verdict(report: &Report, what: &str) -> Reading {
    let share =
        |counts: Counts| counts.rate().map_or("none".to_owned(), |rate| format!("{:.2} %", rate * 100.0));
    let seen = report.seen;
    let both = format!(
        "{} of {} requests of the candidate {what}, {} of {} of the stable side",
        share(seen.candidate),
        seen.candidate.requests,
        share(seen.stable),
        seen.stable.requests
    );
    let (answer, message) = match report.verdict {
        Verdict::Worse => (GateAnswer::Fail, format!("worse: {both}; e-value 10^{:.1}", report.worse)),
        Verdict::NotWorse => {
            (GateAnswer::Pass, format!("not worse: {both}; e-value 10^{:.1}", report.not_worse))
        }
        Verdict::Undecided => {
            let needed =
                report.needed.map_or("no number of requests decides at these shares".to_owned(), |needed| {
                    format!("about {needed} more requests of the candidate decide")
                });
            (GateAnswer::NoData, format!("undecided: {both}; {needed}"))
        }
    };
    Reading { answer, value: seen.candidate.rate(), message }
}

fn matrix(body: &[u8]) -> std::result::Result<Value, String> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| format!("this is not Prometheus: {}", super::begin_of(body)))?;
    if answer["status"] != "success" || answer["data"]["resultType"] != "matrix" {
        let why = answer["error"].as_str().map_or_else(|| super::begin_of(body), crate::model::one_line);
        return Err(why);
    }
    Ok(answer["data"]["result"].clone())
}

/// The one series of an answer; none where nothing was counted yet.
fn one(result: &Value) -> std::result::Result<Series, String> {
    match result.as_array().map(Vec::as_slice) {
        None | Some([]) => Ok(Vec::new()),
        Some([series]) => points(series),
        Some(many) => Err(format!("the query gives {} series: make it one, such as by sum(...)", many.len())),
    }
}

fn points(series: &Value) -> std::result::Result<Series, String> {
    let mut all = Vec::new();
    for point in series["values"].as_array().into_iter().flatten() {
        let value = point.get(1).and_then(Value::as_str).and_then(|text| text.parse::<f64>().ok());
        let (Some(time), Some(value)) = (point.get(0).and_then(Value::as_f64), value) else {
            return Err(format!("the answer has no number where Prometheus has one: {point}"));
        };
        if !value.is_finite() || value < 0.0 {
            return Err(format!(
                "a counter says {value}: the query is to give what was counted, not a rate of it"
            ));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count below 2^53")]
        all.push((time as i64, value.round() as u64));
    }
    Ok(all)
}

/// Series by the bound of their bucket.
fn by_bound(result: &Value) -> std::result::Result<Vec<(f64, Series)>, String> {
    let mut all: Vec<(f64, Series)> = Vec::new();
    for series in result.as_array().into_iter().flatten() {
        let bound = series["metric"]["le"].as_str().and_then(|text| text.parse::<f64>().ok());
        let Some(bound) = bound else {
            return Err(
                "a series has no label le: the query gives buckets, such as by sum by (le) (...)".into()
            );
        };
        if all.iter().any(|(known, _)| known.total_cmp(&bound).is_eq()) {
            return Err(format!("there are two series of the bucket {bound}: sum them by (le)"));
        }
        all.push((bound, points(series)?));
    }
    Ok(all)
}

/// What a counter shows at a time: the newest point until then.
fn at(series: &[(i64, u64)], time: i64) -> u64 {
    let until = series.partition_point(|(point, _)| *point <= time);
    until.checked_sub(1).and_then(|last| series.get(last)).map_or(0, |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CompareErrors, CompareLatency};
    use serde_json::json;

    fn errors() -> CompareGate {
        CompareGate {
            address: "http://p:9090".into(),
            errors: Some(CompareErrors {
                requests: "sum(r{app=\"{{side}}\"})".into(),
                failures: "sum(f{app=\"{{side}}\"})".into(),
                ..CompareErrors::default()
            }),
            ..CompareGate::default()
        }
    }

    fn answer(series: &[(&str, Vec<u64>)]) -> Vec<u8> {
        let result: Vec<Value> = series
            .iter()
            .map(|(bound, counts)| {
                let values: Vec<Value> = counts
                    .iter()
                    .enumerate()
                    .map(|(at, count)| json!([1000 + at * 60, count.to_string()]))
                    .collect();
                json!({"metric": {"le": bound}, "values": values})
            })
            .collect();
        json!({"status": "success", "data": {"resultType": "matrix", "result": result}})
            .to_string()
            .into_bytes()
    }

    /// A counter that grows by so much from look to look, from a number that is of before.
    fn grows(by: u64) -> Vec<u64> {
        (0..60).map(|at| 500 + at * by).collect()
    }

    #[test]
    fn it_asks_for_both_sides_since_the_step_was_reached() {
        let compare = Compare::read(&errors(), "1m").unwrap();
        let about = About {
            candidate: "fraud-candidate".into(),
            target: "fraud".into(),
            since: "2026-01-01T00:00:00Z".into(),
            ..About::default()
        };
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let asked = compare.requests(&about, now).unwrap();
        let queries: Vec<&str> = asked.iter().map(|(_, parameters)| parameters[0].1.as_str()).collect();
        assert_eq!(
            queries,
            [
                "sum(r{app=\"fraud-candidate\"})",
                "sum(f{app=\"fraud-candidate\"})",
                "sum(r{app=\"fraud\"})",
                "sum(f{app=\"fraud\"})"
            ]
        );
        assert_eq!(asked[0].1[3].1, "60");
        let late: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
        assert!(
            compare.requests(&about, late).unwrap()[0].1[3].1.parse::<i64>().unwrap() > 2600,
            "longer windows"
        );
    }

    #[test]
    fn worse_not_worse_and_undecided() {
        let compare = Compare::read(&errors(), "1m").unwrap();
        let check = |candidate: (u64, u64), stable: (u64, u64), expected: GateAnswer, words: &str| {
            let counter = |by: u64| if by == 0 { answer(&[]) } else { answer(&[("", grows(by))]) };
            let answers = [counter(candidate.0), counter(candidate.1), counter(stable.0), counter(stable.1)];
            let reading = compare.reading(&answers);
            assert_eq!(reading.answer, expected, "{}", reading.message);
            assert!(reading.message.starts_with(words), "{}", reading.message);
        };
        check(
            (50, 5),
            (950, 9),
            GateAnswer::Fail,
            "worse: 10.00 % of 2950 requests of the candidate failed, 0.95 % of",
        );
        check((500, 5), (500, 5), GateAnswer::Pass, "not worse: 1.00 % of");
        check(
            (1, 0),
            (19, 0),
            GateAnswer::NoData,
            "undecided: 0.00 % of 59 requests of the candidate failed",
        );
        check((0, 0), (0, 0), GateAnswer::NoData, "neither side has counted");
    }

    #[test]
    fn a_restart_of_a_counter_is_no_request() {
        let compare = Compare::read(&errors(), "1m").unwrap();
        let mut restarts = grows(50);
        restarts[30..].iter_mut().for_each(|count| *count -= 1900);
        let answers = [answer(&[("", restarts)]), answer(&[]), answer(&[("", grows(950))]), answer(&[])];
        let reading = compare.reading(&answers);
        assert!(reading.message.contains("of 2900 requests of the candidate"), "{}", reading.message);
    }

    #[test]
    fn slow_candidates_are_found_by_their_buckets() {
        let stated = CompareGate {
            address: "http://p:9090".into(),
            latency: Some(CompareLatency {
                buckets: "sum by (le) (d_bucket{app=\"{{side}}\"})".into(),
                ..CompareLatency::default()
            }),
            ..CompareGate::default()
        };
        let compare = Compare::read(&stated, "1m").unwrap();
        let buckets = |shares: [u64; 4]| {
            let bounds = ["0.05", "0.1", "0.5", "+Inf"];
            let all: Vec<(&str, Vec<u64>)> =
                bounds.into_iter().zip(shares).map(|(bound, by)| (bound, grows(by))).collect();
            answer(&all)
        };
        let fast = || buckets([970, 985, 999, 1000]);
        let same = compare.reading(&[fast(), fast()]);
        assert_ne!(same.answer, GateAnswer::Fail, "{}", same.message);
        let slow = compare.reading(&[buckets([100, 300, 900, 1000]), fast()]);
        assert_eq!(slow.answer, GateAnswer::Fail, "{}", slow.message);
        assert!(slow.message.contains("requests of the candidate were slow"), "{}", slow.message);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let mut odd = errors();
        odd.errors.as_mut().unwrap().requests = "sum(r)".into();
        assert!(Compare::read(&odd, "1m").err().unwrap().why.contains("names no side"));
        let mut odd = errors();
        odd.errors.as_mut().unwrap().ratio = Some(-1.0);
        assert!(Compare::read(&odd, "1m").err().unwrap().why.starts_with("spec.compare.errors: "));
        assert!(
            Compare::read(&CompareGate { address: "http://p".into(), ..CompareGate::default() }, "1m")
                .is_err()
        );
        let compare = Compare::read(&errors(), "1m").unwrap();
        let two = answer(&[("a", grows(1)), ("b", grows(1))]);
        let reading = compare.reading(&[two.clone(), two.clone(), two.clone(), two]);
        assert_eq!(reading.answer, GateAnswer::Error);
        assert!(reading.message.contains("2 series"), "{}", reading.message);
    }
}
