//! Words that stand for something in queries, addresses and Jobs, and the queries that are known.

use serde_json::Value;

use super::About;
use crate::api::{BuiltinMetric, BuiltinSource};

/// The words, for people.
const NAMES: &[&str] = &[
    "candidate",
    "stable",
    "target",
    "namespace",
    "revision",
    "stableRevision",
    "service",
    "candidateService",
    "window",
];

/// A part of a text.
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// A word in two braces is a name; braces around anything else are text, such as those of Go's templates.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let inner = &rest[at + 2..];
        let end = inner.find("}}").filter(|end| is_name(inner[..*end].trim()));
        if let Some(end) = end {
            found.push(Part::Text(&rest[..at]));
            found.push(Part::Name(inner[..end].trim()));
            rest = &inner[end + 2..];
        } else {
            found.push(Part::Text(&rest[..at + 2]));
            rest = inner;
        }
    }
    found.push(Part::Text(rest));
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// That all names in a text are known.
///
/// # Errors
/// The one that is not.
pub fn check(text: &str) -> Result<(), String> {
    for part in parts(text) {
        if let Part::Name(name) = part
            && !NAMES.contains(&name)
        {
            return Err(format!("there is no {{{{{name}}}}}, but {}", NAMES.join(", ")));
        }
    }
    Ok(())
}

/// A text with what its names stand for.
///
/// # Errors
/// A name that stands for nothing here.
pub fn fill(text: &str, about: &About, window: &str) -> Result<String, String> {
    check(text)?;
    fill_known(text, about, window)
}

/// The same, where names that are not known are text: they are somebody else's.
///
/// # Errors
/// A name that is known and stands for nothing here.
pub fn fill_known(text: &str, about: &About, window: &str) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for part in parts(text) {
        let name = match part {
            Part::Text(text) => {
                filled.push_str(text);
                continue;
            }
            Part::Name(name) => name,
        };
        let value = match name {
            "candidate" => about.candidate.as_str(),
            "stable" | "target" => &about.target,
            "namespace" => &about.namespace,
            "revision" => &about.revision,
            "stableRevision" => &about.stable_revision,
            "service" => &about.stable_service,
            "candidateService" => &about.candidate_service,
            "window" => window,
            other => {
                filled.push_str("{{");
                filled.push_str(other);
                filled.push_str("}}");
                continue;
            }
        };
        if value.is_empty() {
            return Err(format!("{{{{{name}}}}} stands for nothing: this rollout has none"));
        }
        filled.push_str(value);
    }
    Ok(filled)
}

/// The texts within JSON, seen or changed by `each`.
pub(super) fn texts(
    value: &mut Value,
    each: &mut impl FnMut(&mut String) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter_mut().try_for_each(|item| texts(item, each)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| texts(field, each)),
        _ => Ok(()),
    }
}

/// Something for each name, to see what a text would become.
pub(super) fn example() -> About {
    let some = || "x".to_owned();
    About {
        namespace: some(),
        target: some(),
        candidate: some(),
        stable_service: some(),
        candidate_service: some(),
        revision: some(),
        stable_revision: some(),
        ..About::default()
    }
}

/// What a source counts. Errors and requests are rates of counters, latencies those of a histogram.
struct Counted {
    source: BuiltinSource,
    /// The counter of requests and what tells the candidate's.
    requests: &'static str,
    /// What tells those that failed, where it is counted.
    errors: Option<&'static str>,
    /// The histogram and what tells the candidate's.
    latency: &'static str,
    /// What makes it milliseconds.
    unit: &'static str,
}

const ISTIO: &str = r#"reporter=~"destination|waypoint",destination_workload_namespace="{{namespace}}",destination_workload="{{candidate}}""#;
const ENVOY: &str = r#"envoy_cluster_name=~"(.*/)?{{namespace}}[_/:]{{candidateService}}[_/:][0-9a-zA-Z-]+""#;
const PODS: &str = r#"namespace="{{namespace}}",pod=~"{{candidate}}-[0-9a-z]+-[0-9a-z]{5}""#;
const KNATIVE: &str = r#"namespace_name="{{namespace}}",revision_name="{{candidate}}""#;

const COUNTED: &[Counted] = &[
    Counted {
        source: BuiltinSource::Istio,
        requests: "istio_requests_total",
        errors: Some(r#"response_code=~"5..""#),
        latency: "istio_request_duration_milliseconds_bucket",
        unit: "",
    },
    Counted {
        source: BuiltinSource::GatewayApiEnvoy,
        requests: "envoy_cluster_upstream_rq_xx",
        errors: Some(r#"envoy_response_code_class="5""#),
        latency: "envoy_cluster_upstream_rq_time_bucket",
        unit: "",
    },
    Counted {
        source: BuiltinSource::Kserve,
        requests: "request_predict_seconds_count",
        errors: None,
        latency: "request_predict_seconds_bucket",
        unit: " * 1000",
    },
    Counted {
        source: BuiltinSource::Knative,
        requests: "revision_request_count",
        errors: Some(r#"response_code_class="5xx""#),
        latency: "revision_request_latencies_bucket",
        unit: "",
    },
];

/// A query that is known, with its names in it.
///
/// # Errors
/// What a source does not count.
pub fn builtin(metric: BuiltinMetric, source: BuiltinSource) -> Result<String, String> {
    let counted = COUNTED.iter().find(|counted| counted.source == source).ok_or("there is no such source")?;
    let whose = match source {
        BuiltinSource::Istio => ISTIO,
        BuiltinSource::GatewayApiEnvoy => ENVOY,
        BuiltinSource::Kserve => PODS,
        BuiltinSource::Knative => KNATIVE,
    };
    let requests = format!("sum(rate({}{{{whose}}}[{{{{window}}}}]))", counted.requests);
    let latency = |quantile: &str| {
        let (histogram, unit) = (counted.latency, counted.unit);
        format!(
            "histogram_quantile({quantile}, sum by (le) (rate({histogram}{{{whose}}}[{{{{window}}}}]))){unit}"
        )
    };
    Ok(match metric {
        BuiltinMetric::RequestRate => requests,
        BuiltinMetric::SuccessRate => {
            let Some(failed) = counted.errors else {
                return Err("it counts no statuses, so it knows no success-rate".to_owned());
            };
            // Without an error there is no series of errors, which is none of them; without a request the ratio is NaN, and
            // without any series there is no answer. Asked for successes, nothing but errors would be no data.
            let errors = format!("sum(rate({}{{{whose},{failed}}}[{{{{window}}}}]))", counted.requests);
            format!("1 - ({errors} or vector(0)) / {requests}")
        }
        BuiltinMetric::LatencyP50 => latency("0.5"),
        BuiltinMetric::LatencyP90 => latency("0.9"),
        BuiltinMetric::LatencyP95 => latency("0.95"),
        BuiltinMetric::LatencyP99 => latency("0.99"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            target: "fraud".into(),
            candidate: "fraud-candidate".into(),
            namespace: "ml".into(),
            ..About::default()
        }
    }

    #[test]
    fn names_stand_for_something() {
        let fill = |text: &str| fill(text, &about(), "5m");
        for (text, wanted) in [
            ("up", "up"),
            ("up{a=\"{{candidate}}\"}[{{ window }}]", "up{a=\"fraud-candidate\"}[5m]"),
            ("{{stable}}.{{target}}.{{namespace}}", "fraud.fraud.ml"),
            ("{{ .Values.x }} {{", "{{ .Values.x }} {{"),
            ("{{}} }} {{{target}}}", "{{}} }} {{{target}}}"),
            ("{{ range .a }}{{target}}", "{{ range .a }}fraud"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(wanted), "{text}");
        }
        // A word is a name, whoever's language it is.
        assert!(check("{{ end }}").is_err());
        assert!(check("{{candidate}}{{service}}{{window}}").is_ok());
        assert!(check("a {{canary}} b").unwrap_err().contains("there is no {{canary}}, but candidate,"));
        assert!(fill("{{service}}").unwrap_err().contains("stands for nothing"));
    }

    #[test]
    fn the_known_queries() {
        use BuiltinMetric::{LatencyP50, LatencyP90, LatencyP95, LatencyP99, RequestRate, SuccessRate};
        use BuiltinSource::{GatewayApiEnvoy, Istio, Knative, Kserve};
        for source in [Istio, GatewayApiEnvoy, Kserve, Knative] {
            for metric in [SuccessRate, LatencyP50, LatencyP90, LatencyP95, LatencyP99, RequestRate] {
                match builtin(metric, source) {
                    Ok(query) => assert!(check(&query).is_ok() && query.contains("{{window}}"), "{query}"),
                    Err(why) => assert!(source == Kserve && metric == SuccessRate, "{why}"),
                }
            }
        }
        let query = builtin(SuccessRate, Knative).unwrap();
        assert_eq!(
            fill(&query, &about(), "5m").unwrap(),
            "1 - (sum(rate(revision_request_count{namespace_name=\"ml\",revision_name=\"fraud-candidate\",response_code_class=\"5xx\"}[5m])) or vector(0)) / sum(rate(revision_request_count{namespace_name=\"ml\",revision_name=\"fraud-candidate\"}[5m]))"
        );
    }
}
