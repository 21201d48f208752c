//! Prometheus: a query, and what its answer says.

use jiff::Timestamp;
use serde_json::Value;

use super::{About, Asked, Condition, Fact, Reading, base, begin_of, headers, invalid, secret, templates};
use crate::api::PrometheusGate;
use crate::error::Result;
use crate::model::one_line;
use crate::rollout::policy::seconds;

/// Values of a range at most; Prometheus itself gives 11,000.
const POINTS: i64 = 1000;

/// A query.
pub struct Prometheus {
    address: String,
    query: String,
    window: String,
    /// Seconds: how long, and from one value to the next.
    range: Option<(i64, i64)>,
    pass: Condition,
}

impl Prometheus {
    pub(super) fn read(stated: &PrometheusGate, window: &str) -> Result<Self> {
        base(&stated.address, "prometheus.address")?;
        headers(&stated.headers, "prometheus.headers")?;
        secret(stated.secret_ref.as_ref(), "prometheus.secretRef")?;
        let (query, window) = match (&stated.query, &stated.builtin) {
            (Some(query), None) => (query.clone(), window.to_owned()),
            (None, Some(known)) => {
                let query = templates::builtin(known.metric, known.source)
                    .map_err(|why| invalid("prometheus.builtin.metric", why))?;
                if seconds(&known.window, "prometheus.builtin.window")?.is_none_or(|window| window < 1) {
                    return Err(invalid("prometheus.builtin.window", "is a duration such as 5m"));
                }
                (query, known.window.clone())
            }
            _ => return Err(invalid("prometheus", "give either query or builtin")),
        };
        if query.trim().is_empty() {
            return Err(invalid("prometheus.query", "is empty"));
        }
        templates::check(&query).map_err(|why| invalid("prometheus.query", why))?;
        let range = match &stated.range {
            None => None,
            Some(range) => {
                let window = seconds(&range.window, "prometheus.range.window")?.unwrap_or(0);
                let step = seconds(&range.step, "prometheus.range.step")?.unwrap_or(0);
                if step < 1 || window < step {
                    return Err(invalid(
                        "prometheus.range",
                        "window and step are durations, and window is the longer",
                    ));
                }
                if window / step >= POINTS {
                    return Err(invalid("prometheus.range", format!("is more than {POINTS} values")));
                }
                Some((window, step))
            }
        };
        let known = facts(Some(0.5), &[0.5], &Value::Object(serde_json::Map::new()));
        let pass = Condition::over(&stated.pass, &known).map_err(|why| invalid("prometheus.pass", why))?;
        Ok(Self { address: stated.address.trim_end_matches('/').to_owned(), query, window, range, pass })
    }

    /// What to ask: an address, and parameters for it.
    ///
    /// # Errors
    /// Why it cannot be asked, in words.
    pub fn request(&self, about: &About, now: Timestamp) -> std::result::Result<Asked, String> {
        let query = templates::fill(&self.query, about, &self.window)?;
        let address = &self.address;
        let Some((window, step)) = self.range else {
            return Ok((format!("{address}/api/v1/query"), vec![("query", query)]));
        };
        let end = now.as_millisecond();
        let second = |time: i64| format!("{}.{:03}", time.div_euclid(1000), time.rem_euclid(1000));
        let parameters = vec![
            ("query", query),
            ("start", second(end - window * 1000)),
            ("end", second(end)),
            ("step", step.to_string()),
        ];
        Ok((format!("{address}/api/v1/query_range"), parameters))
    }

    /// What an answer says.
    pub fn reading(&self, status: u16, body: &[u8]) -> Reading {
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            let begin = begin_of(body);
            return Reading::error(if status == 200 {
                format!("this is not Prometheus: it answered {begin}")
            } else {
                format!("HTTP {status}: {begin}")
            });
        };
        if answer["status"] != "success" {
            let text = |name: &str| one_line(answer[name].as_str().unwrap_or_default());
            let (kind, why) = (text("errorType"), text("error"));
            if why.is_empty() {
                return Reading::error(format!("HTTP {status}: {}", begin_of(body)));
            }
            return Reading::error(if kind.is_empty() { why } else { format!("{kind}: {why}") });
        }
        let mut reading = self.judge(&answer["data"]);
        let warnings: Vec<&str> =
            answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if !warnings.is_empty() {
            reading.message = format!("{}; it warns: {}", reading.message, one_line(&warnings.join("; ")));
        }
        reading
    }

    fn judge(&self, data: &Value) -> Reading {
        let result = &data["result"];
        let none = Value::Object(serde_json::Map::new());
        let (values, labels, many) = match data["resultType"].as_str() {
            Some("scalar") => match number(result) {
                Some(value) => (vec![value], &none, false),
                None => return unreadable(result),
            },
            Some("vector") => {
                let series = result.as_array().map(Vec::as_slice).unwrap_or_default();
                let values: Option<Vec<f64>> = series.iter().map(|one| number(&one["value"])).collect();
                let Some(values) = values else { return unreadable(result) };
                (values, series.first().map_or(&none, |one| &one["metric"]), series.len() > 1)
            }
            Some("matrix") => {
                let series = result.as_array().map(Vec::as_slice).unwrap_or_default();
                if series.len() > 1 {
                    let many = series.len();
                    return Reading::error(format!(
                        "the query gives {many} series over a time: make it one, such as by sum(...)"
                    ));
                }
                let points = series.first().and_then(|one| one["values"].as_array());
                let values: Option<Vec<f64>> = points.into_iter().flatten().map(number).collect();
                let Some(values) = values else { return unreadable(result) };
                (values, series.first().map_or(&none, |one| &one["metric"]), false)
            }
            Some(other) => return Reading::error(format!("the query gives a {other}, which is no number")),
            None => return unreadable(data),
        };
        let value = if many { None } else { values.last().copied() };
        if values.is_empty() {
            return Reading::no_data("the query gives no series");
        }
        if many && (!self.pass.uses("values") || self.pass.uses("value")) {
            let many = values.len();
            return Reading::error(format!(
                "the query gives {many} series: make it one, such as by sum(...), or judge values"
            ));
        }
        if values.iter().any(|value| value.is_nan()) && !self.pass.knows_nan() {
            let what = if values.len() == 1 { "value is NaN" } else { "one of the values is NaN" };
            return Reading::no_data(what);
        }
        let shown = match value {
            Some(value) if !self.pass.uses("values") => value.to_string(),
            _ => shown(&values),
        };
        self.pass.judge(&facts(value, &values, labels), &shown, value)
    }
}

fn facts(value: Option<f64>, values: &[f64], labels: &Value) -> Vec<(&'static str, Fact)> {
    let mut facts: Vec<(&'static str, Fact)> =
        value.map(|value| ("value", Fact::Number(value))).into_iter().collect();
    facts.push(("values", Fact::Numbers(values.to_vec())));
    facts.push(("labels", Fact::Json(labels.clone())));
    facts
}

/// Some of the values, for people.
fn shown(values: &[f64]) -> String {
    let some: Vec<String> = values.iter().take(5).map(f64::to_string).collect();
    let more = if values.len() > 5 { format!(", ... ({} values)", values.len()) } else { String::new() };
    format!("[{}{more}]", some.join(", "))
}

/// `[time, "0.5"]`.
fn number(pair: &Value) -> Option<f64> {
    pair.get(1)?.as_str()?.parse().ok()
}

fn unreadable(what: &Value) -> Reading {
    Reading::error(format!(
        "the answer has no number where Prometheus has one: {}",
        begin_of(what.to_string().as_bytes())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BuiltinMetric, BuiltinQuery, BuiltinSource, GateAnswer, QueryRange};

    fn gate(pass: &str) -> PrometheusGate {
        PrometheusGate {
            address: "http://prometheus.monitoring:9090/".into(),
            query: Some("up{a=\"{{candidate}}\"}".into()),
            pass: pass.into(),
            ..PrometheusGate::default()
        }
    }

    fn vector(values: &[&str]) -> String {
        let series: Vec<String> = values
            .iter()
            .map(|value| format!(r#"{{"metric":{{"pod":"a"}},"value":[1.5,"{value}"]}}"#))
            .collect();
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, series.join(","))
    }

    #[test]
    fn answers() {
        use GateAnswer::{Error, Fail, NoData, Pass};
        let check = |pass: &str, status: u16, body: &str, answer: GateAnswer, message: &str| {
            let read = Prometheus::read(&gate(pass), "1m").unwrap().reading(status, body.as_bytes());
            assert_eq!((read.answer, read.message.as_str()), (answer, message), "{pass}: {body}");
            read.value
        };
        let at = "value >= 0.99";
        assert_eq!(check(at, 200, &vector(&["0.995"]), Pass, "0.995 is value >= 0.99"), Some(0.995));
        assert_eq!(check(at, 200, &vector(&["0.97"]), Fail, "0.97 is not value >= 0.99"), Some(0.97));
        assert_eq!(check(at, 200, &vector(&[]), NoData, "the query gives no series"), None);
        assert_eq!(check(at, 200, &vector(&["NaN"]), NoData, "value is NaN"), None);
        check(
            "isNaN(value) || value > 0.9",
            200,
            &vector(&["NaN"]),
            Pass,
            "NaN is isNaN(value) || value > 0.9",
        );
        check(at, 200, &vector(&["+Inf"]), Pass, "inf is value >= 0.99");
        check(at, 200, &vector(&["-Inf"]), Fail, "-inf is not value >= 0.99");
        let many = "the query gives 2 series: make it one, such as by sum(...), or judge values";
        assert_eq!(check(at, 200, &vector(&["1", "1"]), Error, many), None);
        check(
            "values.all(v, v >= 0.99)",
            200,
            &vector(&["1", "0.5"]),
            Fail,
            "[1, 0.5] is not values.all(v, v >= 0.99)",
        );
        check("values.all(v, v >= 0.99)", 200, &vector(&["1", "NaN"]), NoData, "one of the values is NaN");
        check(
            "value > 0.5 && labels.pod == 'a'",
            200,
            &vector(&["1"]),
            Pass,
            "1 is value > 0.5 && labels.pod == 'a'",
        );
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"2"]}}"#;
        check(at, 200, scalar, Pass, "2 is value >= 0.99");
        let text = r#"{"status":"success","data":{"resultType":"string","result":[1.5,"2"]}}"#;
        check(at, 200, text, Error, "the query gives a string, which is no number");
        let histogram = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}}"#;
        let read = Prometheus::read(&gate(at), "1m").unwrap().reading(200, histogram.as_bytes());
        assert_eq!(read.answer, Error);
        let warned = vector(&["1"]).replace("\"success\"", "\"success\",\"warnings\":[\"a store is away\"]");
        check(at, 200, &warned, Pass, "1 is value >= 0.99; it warns: a store is away");
        let bad = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:3: parse error"}"#;
        check(at, 400, bad, Error, "bad_data: invalid parameter \"query\": 1:3: parse error");
        check(at, 502, "<html>Bad Gateway</html>", Error, "HTTP 502: \"<html>Bad Gateway</html>\"");
        check(at, 200, "hello", Error, "this is not Prometheus: it answered \"hello\"");
        check(at, 200, "", Error, "this is not Prometheus: it answered nothing");
        check(at, 403, r#"{"message":"no"}"#, Error, "HTTP 403: \"{\\\"message\\\":\\\"no\\\"}\"");
        let odd = r#"{"status":"success","data":{"resultType":"vector","result":[{"value":[1,2]}]}}"#;
        let read = Prometheus::read(&gate(at), "1m").unwrap().reading(200, odd.as_bytes());
        assert!(read.answer == Error && read.message.starts_with("the answer has no number"), "{read:?}");
        let nothing = r#"{"status":"success"}"#;
        assert_eq!(Prometheus::read(&gate(at), "1m").unwrap().reading(200, nothing.as_bytes()).answer, Error);
    }

    #[test]
    fn answers_over_a_time() {
        use GateAnswer::{Error, Fail, NoData, Pass};
        let matrix = |series: &[&[&str]]| {
            let series: Vec<String> = series
                .iter()
                .map(|values| {
                    let points: Vec<String> = values.iter().map(|value| format!("[1,\"{value}\"]")).collect();
                    format!(r#"{{"metric":{{}},"values":[{}]}}"#, points.join(","))
                })
                .collect();
            format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
                series.join(",")
            )
        };
        let read = |pass: &str, series: &[&[&str]]| {
            Prometheus::read(&gate(pass), "1m").unwrap().reading(200, matrix(series).as_bytes())
        };
        let all = "values.all(v, v > 0.5)";
        assert_eq!(read(all, &[&["1", "2"]]).answer, Pass);
        assert_eq!(read(all, &[&["1", "0.1"]]).answer, Fail);
        // The newest.
        assert_eq!(read("value > 0.5", &[&["0.1", "2"]]).value, Some(2.0));
        assert_eq!(read("value > 0.5", &[&["0.1", "2"]]).message, "2 is value > 0.5");
        assert_eq!(read(all, &[&["1", "NaN"]]).answer, NoData);
        assert_eq!(read(all, &[]).answer, NoData);
        assert_eq!(read(all, &[&["1"], &["2"]]).answer, Error);
    }

    #[test]
    fn requests() {
        let about = About { candidate: "fraud-candidate".into(), namespace: "ml".into(), ..About::default() };
        let now = Timestamp::from_second(10_000).unwrap();
        let mut stated = gate("value > 1");
        let request = Prometheus::read(&stated, "1m").unwrap().request(&about, now).unwrap();
        let query = ("query", "up{a=\"fraud-candidate\"}".to_owned());
        assert_eq!(
            request,
            ("http://prometheus.monitoring:9090/api/v1/query".to_owned(), vec![query.clone()])
        );
        stated.range = Some(QueryRange { window: "10m".into(), step: "1m".into() });
        let (address, parameters) = Prometheus::read(&stated, "1m").unwrap().request(&about, now).unwrap();
        assert!(address.ends_with("/api/v1/query_range"));
        let rest =
            [("start", "9400.000".to_owned()), ("end", "10000.000".to_owned()), ("step", "60".to_owned())];
        assert_eq!((&parameters[0], &parameters[1..]), (&query, &rest[..]));
        let builtin = BuiltinQuery {
            metric: BuiltinMetric::SuccessRate,
            source: BuiltinSource::Istio,
            window: "5m".into(),
        };
        stated = PrometheusGate { query: None, builtin: Some(builtin), ..gate("value > 0.9") };
        let (_, parameters) = Prometheus::read(&stated, "1m").unwrap().request(&about, now).unwrap();
        assert!(parameters[0].1.contains("destination_workload=\"fraud-candidate\"}[5m]"), "{parameters:?}");
        stated = PrometheusGate { query: Some("x{s=\"{{service}}\"}".into()), ..gate("value > 0.9") };
        assert!(
            Prometheus::read(&stated, "1m")
                .unwrap()
                .request(&about, now)
                .unwrap_err()
                .contains("{{service}}")
        );
    }

    #[test]
    fn what_is_refused() {
        let check = |change: &dyn Fn(&mut PrometheusGate), wanted: &str| {
            let mut stated = gate("value > 0.9");
            change(&mut stated);
            let error = Prometheus::read(&stated, "1m").map(|_| ()).unwrap_err();
            assert!(error.why.starts_with(wanted), "{}", error.why);
        };
        check(&|gate| gate.pass = "value >".into(), "spec.prometheus.pass: value >");
        check(&|gate| gate.pass = "value".into(), "spec.prometheus.pass: value is neither true nor false");
        check(
            &|gate| gate.query = Some("{{canary}}".into()),
            "spec.prometheus.query: there is no {{canary}}",
        );
        check(&|gate| gate.query = None, "spec.prometheus: give either");
        check(&|gate| gate.builtin = Some(BuiltinQuery::default()), "spec.prometheus: give either");
        check(
            &|gate| gate.address = "ftp://x".into(),
            "spec.prometheus.address: \"ftp://x\" is neither http://",
        );
        check(&|gate| gate.address = "prometheus:9090".into(), "spec.prometheus.address: ");
        check(
            &|gate| gate.address = "http://a:b@x".into(),
            "spec.prometheus.address: \"x\" holds a name or password",
        );
        check(
            &|gate| gate.address = "http://x?a=b".into(),
            "spec.prometheus.address: \"http://x?a=b\" has a query",
        );
        check(
            &|gate| gate.range = Some(QueryRange { window: "1m".into(), step: "10m".into() }),
            "spec.prometheus.range: window and step",
        );
        check(
            &|gate| gate.range = Some(QueryRange { window: "10h".into(), step: "1s".into() }),
            "spec.prometheus.range: is more than 1000",
        );
        check(
            &|gate| gate.headers = [("Authorization".to_owned(), "x".to_owned())].into(),
            "spec.prometheus.headers.Authorization: holds credentials",
        );
        check(
            &|gate| gate.headers = [("a b".to_owned(), "x".to_owned())].into(),
            "spec.prometheus.headers.a b: is no name",
        );
        check(
            &|gate| {
                gate.query = None;
                let (metric, source) = (BuiltinMetric::SuccessRate, BuiltinSource::Kserve);
                gate.builtin = Some(BuiltinQuery { metric, source, window: "5m".into() });
            },
            "spec.prometheus.builtin.metric: it counts no statuses",
        );
    }
}
