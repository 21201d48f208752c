//! A metric of an analysis as a gate.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::arguments::{Argument, Arguments, fill, whole};
use super::condition::{Condition, Over, Which, convert, place};
use super::path;
use super::place::{Place, Remark};
use crate::api::{Gate, GateLimits, GateSecret, JobGate, PrometheusGate, QueryRange, WebGate, WebMethod};
use crate::rollout::gate::Rule;

/// What is borne where Argo bears all.
const ALL: u32 = 10_000;

/// A gate that was made of a metric.
pub(super) struct Made {
    pub(super) gate: Gate,
    /// The gate as far as it could be made, where a person must look at it; then `gate` asks nothing, and does not pass.
    pub(super) draft: Option<Gate>,
    pub(super) remarks: Vec<Remark>,
}

struct Reader<'a, 'b> {
    metric: &'b Place<'a>,
    arguments: &'b Arguments,
    remarks: Vec<Remark>,
}

/// Makes a gate. `background` is asked all the time.
pub(super) fn convert_metric(
    metric: &Place<'_>,
    arguments: &Arguments,
    background: bool,
    dry_run: bool,
) -> Made {
    let mut reader = Reader { metric, arguments, remarks: Vec::new() };
    let mut gate = Gate { name: name(metric.text("name").unwrap_or("metric")), dry_run, ..Gate::default() };
    reader.times(&mut gate, background);
    reader.provider(&mut gate);
    let Reader { mut remarks, .. } = reader;
    if !remarks.iter().any(|remark| remark.needs_person)
        && let Err(error) = Rule::read(&gate)
    {
        remarks.push(metric.person(format!("it is no gate: {}", error.why)));
    }
    let needs_person = remarks.iter().any(|remark| remark.needs_person);
    let draft = needs_person.then(|| gate.clone());
    if needs_person {
        gate = Gate { prometheus: None, web: None, job: None, ..gate };
    }
    Made { gate, draft, remarks }
}

/// A name of ours.
pub(super) fn name(of: &str) -> String {
    let word: String =
        of.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let word: String = word.trim_matches('-').chars().take(50).collect();
    let word = word.trim_matches('-');
    if word.is_empty() { "metric".into() } else { word.to_owned() }
}

/// Seconds of a duration of Go; parts of a second count as one.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between")]
    (0.0..1e9).contains(&total).then(|| total.ceil() as u64)
}

/// `90s`, `5m`, `2h`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0 => "0s".into(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

impl Reader<'_, '_> {
    fn note(&mut self, field: &str, why: impl Into<String>) {
        self.remarks.push(self.metric.at(field).note(why));
    }

    fn person(&mut self, field: &str, why: impl Into<String>) {
        self.remarks.push(self.metric.at(field).person(why));
    }

    fn fill(&mut self, text: &str, place: &Place<'_>) -> String {
        fill(text, self.arguments, place, &mut self.remarks)
    }

    fn time(&mut self, field: &str) -> String {
        let Some(stated) = self.metric.text(field) else { return String::new() };
        let stated = self.fill(stated, &self.metric.at(field));
        let Some(found) = seconds(&stated) else {
            self.person(field, format!("{stated:?} is no duration such as 90s, 10m or 1h30m"));
            return String::new();
        };
        if stated.contains(['.', 'u', 'n', 'µ']) || stated.contains("ms") {
            self.note(field, format!("{stated} is {found}s here: whole seconds"));
        }
        duration(found)
    }

    fn number(&mut self, field: &str) -> Option<i64> {
        let stated = self.metric.at(field);
        let text = match stated.value() {
            Value::Null => return None,
            Value::String(text) => self.fill(text, &stated),
            other => other.to_string(),
        };
        let found = text.trim().parse();
        if found.is_err() {
            self.person(field, format!("{text} is no whole number"));
        }
        found.ok()
    }

    /// Interval, count and limits.
    fn times(&mut self, gate: &mut Gate, background: bool) {
        gate.interval = self.time("interval");
        gate.initial_delay = self.time("initialDelay");
        let count = self.number("count").filter(|count| *count > 0);
        let streak = self.number("consecutiveSuccessLimit").filter(|limit| *limit > 0);
        let fail = self.number("failureLimit").unwrap_or(0);
        let errors = self.number("consecutiveErrorLimit").unwrap_or(4);
        let borne = |limit: i64| u32::try_from(limit).unwrap_or(ALL).min(ALL);
        let count = count.and_then(|count| u32::try_from(count).ok());
        // Without an interval it is measured once.
        let endless = count.is_none() && streak.is_none() && !gate.interval.is_empty();
        gate.count = if endless { None } else { Some(count.unwrap_or(1)) };
        if let Some(streak) = streak.and_then(|streak| u32::try_from(streak).ok()) {
            gate.count = Some(streak);
            if fail != 0 {
                self.person(
                    "consecutiveSuccessLimit",
                    "here `count` passes are enough that are not in a row; with failureLimit: 0 it is the same",
                );
            }
        } else if fail != 0 && !background && count.is_some() {
            let count = count.unwrap_or(1);
            self.note(
                "failureLimit",
                format!("count: {count} are measurements there, failed ones among them; here they are passes, so it may take more of them"),
            );
        }
        if fail < 0 {
            self.note("failureLimit", format!("there is no end to failures there; here it is {ALL}"));
        }
        if endless && !background {
            self.person(
                "count",
                "a step needs one: without it the analysis never ends, which Argo refuses too",
            );
        }
        gate.limits = GateLimits {
            fail: Some(borne(fail)),
            consecutive_fail: None,
            no_data: Some(borne(errors)),
            error: Some(borne(errors)),
        };
    }

    fn condition(&mut self, over: &Over) -> Option<Condition> {
        let mut text = |field: &str| {
            let stated = self.metric.text(field)?;
            Some(fill(stated, self.arguments, &self.metric.at(field), &mut self.remarks))
        };
        let (success, failure) = (text("successCondition"), text("failureCondition"));
        if self.remarks.iter().any(|remark| remark.needs_person)
            && [&success, &failure].into_iter().flatten().any(|text| text.contains("{{"))
        {
            return None;
        }
        let both = convert(success.as_deref(), failure.as_deref(), over);
        let condition = match both {
            Ok(condition) => condition,
            Err((which, why)) => {
                let (field, text) = match which {
                    Which::Success => ("successCondition", success),
                    Which::Failure => ("failureCondition", failure),
                };
                let text = text.unwrap_or_default();
                self.person(field, format!("{text}: column {}: {}", why.column, why.why));
                return None;
            }
        };
        if condition.neither_fails {
            let borne = self.metric.whole("inconclusiveLimit").filter(|limit| *limit > 0);
            let borne =
                borne.map_or(String::new(), |limit| format!(" (inconclusiveLimit: {limit} is not borne)"));
            self.note(
                "failureCondition",
                format!("what is neither success nor failure fails here; there it is inconclusive, and the rollout waits for a person{borne}"),
            );
        }
        if condition.leaves_no_data {
            let field = if success.is_some() { "successCondition" } else { "failureCondition" };
            self.note(field, "no data is no answer here, whatever the condition says of it: limits.noData says how often it is borne in a row");
        }
        if success.is_none() && failure.is_none() {
            self.note("successCondition", "there is none: every answer passes");
        }
        Some(condition)
    }

    fn provider(&mut self, gate: &mut Gate) {
        let provider = self.metric.at("provider");
        let fields = provider.fields();
        let (kind, stated) = match fields.as_slice() {
            [(kind, stated)] => (*kind, stated),
            _ => return self.person("provider", "it names one provider"),
        };
        let because = match kind {
            "prometheus" => return self.prometheus(stated, gate),
            "web" => return self.web(stated, gate),
            "job" => return self.job(stated, gate),
            "kayenta" => {
                "no gate asks Kayenta; compare the sides in a query of Prometheus, or ask a service of yours by a web gate"
            }
            "datadog" => {
                "no gate asks Datadog; a web gate can: POST https://api.datadoghq.com/api/v2/query/scalar with one header from a Secret, or a proxy that adds both keys"
            }
            "newRelic" => {
                "no gate asks New Relic; a web gate can: POST https://api.newrelic.com/graphql with secretRef: {header: Api-Key}, and json: the path of the number"
            }
            "wavefront" => {
                "no gate asks Wavefront; a web gate can: GET https://ADDRESS/api/v2/chart/api?q=QUERY with a token as secretRef"
            }
            "cloudWatch" => {
                "no gate asks CloudWatch, whose requests are signed; give a web gate on a service that does, or scrape it into Prometheus (yet-another-cloudwatch-exporter)"
            }
            "graphite" => {
                "no gate asks Graphite; a web gate can: GET ADDRESS/render?format=json&target=QUERY with json: result[0].datapoints[0][0]"
            }
            "influxdb" => {
                "no gate asks InfluxDB, whose answers are CSV; give a web gate on a service that makes JSON of them"
            }
            "skywalking" => {
                "no gate asks SkyWalking; a web gate can: POST ADDRESS/graphql with the query as body, and json: the path of the number"
            }
            "plugin" => {
                "plugins of Argo are not known; what they ask over HTTP a web gate can ask, anything else a Job"
            }
            _ => "this provider is not known; ask it by a web gate or a Job",
        };
        self.remarks.push(stated.person(because));
    }

    /// Headers, and the Secret that one of them is.
    fn headers(&mut self, stated: &Place<'_>) -> (BTreeMap<String, String>, Option<GateSecret>) {
        let (mut headers, mut secret) = (BTreeMap::new(), None);
        for header in stated.at("headers").items() {
            let (Some(key), Some(value)) = (header.text("key"), header.text("value")) else { continue };
            let bearer = value.strip_prefix("Bearer ").filter(|_| key.eq_ignore_ascii_case("authorization"));
            let own = bearer.and_then(|token| whole(token, self.arguments)).map(|own| (own, None));
            let own = own.or_else(|| whole(value, self.arguments).map(|own| (own, Some(key.to_owned()))));
            if let Some((Argument::Secret { name, key }, header_name)) = own {
                if secret.is_some() {
                    self.remarks
                        .push(header.person("a gate sends one Secret in one header; this is the second"));
                }
                secret.get_or_insert(GateSecret {
                    name: name.clone(),
                    key: Some(key.clone()),
                    header: header_name,
                });
                continue;
            }
            let value = self.fill(value, &header);
            headers.insert(key.to_owned(), value);
        }
        (headers, secret)
    }

    fn authentication(&mut self, stated: &Place<'_>) {
        let Some(authentication) = stated.stated("authentication") else { return };
        for (kind, at) in authentication.fields() {
            if authentication.stated(kind).is_none() {
                continue;
            }
            let instead = match kind {
                "sigv4" => "no gate signs requests; ask a proxy that does (aws-sigv4-proxy)",
                "oauth2" => {
                    "no gate fetches tokens; keep one in a Secret (secretRef), or ask a proxy that fetches them"
                }
                _ => "it is not known",
            };
            self.remarks.push(at.person(instead));
        }
    }

    fn timeout(&mut self, stated: &Place<'_>, field: &str, usual: i64) {
        if let Some(limit) = stated.whole(field).filter(|limit| *limit > 0 && *limit != usual) {
            self.remarks.push(stated.at(field).note(format!("every gate has 10 s, not {limit}")));
        }
    }

    fn prometheus(&mut self, stated: &Place<'_>, gate: &mut Gate) {
        let range = stated.stated("rangeQuery").and_then(|range| self.range(&range));
        let condition = self.condition(&Over::Numbers { range: stated.stated("rangeQuery").is_some() });
        let address = self.fill(stated.text("address").unwrap_or_default(), &stated.at("address"));
        if address.is_empty() {
            self.remarks.push(stated.person(
                "it has no address; Argo takes ARGO_ROLLOUTS_PROMETHEUS_ADDRESS of its controller: give it in the template",
            ));
        }
        let query =
            self.fill(stated.text("query").unwrap_or_default(), &stated.at("query")).trim().to_owned();
        self.authentication(stated);
        self.timeout(stated, "timeout", 30);
        let (headers, secret_ref) = self.headers(stated);
        gate.prometheus = Some(PrometheusGate {
            address,
            query: Some(query),
            pass: condition.map(|condition| condition.pass).unwrap_or_default(),
            range,
            secret_ref,
            headers,
            insecure_skip_verify: stated.value()["insecure"] == true,
            ..PrometheusGate::default()
        });
    }

    /// `now() - duration("1h")` until `now()`.
    fn range(&mut self, stated: &Place<'_>) -> Option<QueryRange> {
        let text = |field: &str| -> String {
            stated.text(field).unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect()
        };
        let (start, end) = (text("start"), text("end"));
        let window = start
            .strip_prefix("now()-duration(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|inner| seconds(inner.trim_matches(['\'', '"'])));
        let step = stated.text("step").map(|step| self.fill(step, &stated.at("step")));
        let step = step.as_deref().and_then(seconds);
        if let (Some(window), Some(step), "now()") = (window, step, end.as_str()) {
            return Some(QueryRange { window: duration(window), step: duration(step) });
        }
        self.remarks.push(stated.person(
                    "a range ends now: start is now() - duration(\"1h\"), end is now(), step is a duration; write prometheus.range",
                ));
        None
    }

    fn web(&mut self, stated: &Place<'_>, gate: &mut Gate) {
        let path = match stated.text("jsonPath") {
            None => Ok(Vec::new()),
            Some(text) => path::read(&self.fill(text, &stated.at("jsonPath"))),
        };
        let path = path.unwrap_or_else(|why| {
            self.remarks
                .push(stated.at("jsonPath").person(format!("{why}; write web.json as CEL over result")));
            Vec::new()
        });
        let json = place(&path);
        let condition = self.condition(&Over::Json(path));
        let method = match stated.text("method") {
            Some("POST") => WebMethod::Post,
            Some("PUT") => WebMethod::Put,
            _ => WebMethod::Get,
        };
        let url = self.fill(stated.text("url").unwrap_or_default(), &stated.at("url"));
        let body = match (stated.text("body"), stated.stated("jsonBody")) {
            (Some(body), _) => Some(self.fill(body, &stated.at("body"))),
            (None, Some(body)) => Some(self.fill(&body.value().to_string(), &body)),
            (None, None) => None,
        };
        self.authentication(stated);
        self.timeout(stated, "timeoutSeconds", 10);
        let (headers, secret_ref) = self.headers(stated);
        gate.web = Some(WebGate {
            url,
            method,
            headers,
            body,
            json,
            pass: condition.map(|condition| condition.pass).unwrap_or_default(),
            secret_ref,
            insecure_skip_verify: stated.value()["insecure"] == true,
        });
    }

    fn job(&mut self, stated: &Place<'_>, gate: &mut Gate) {
        for field in ["successCondition", "failureCondition"] {
            if self.metric.text(field).is_some() {
                self.note(field, "Argo does not ask it of a Job, and it is not converted");
            }
        }
        if let Some(metadata) = stated.stated("metadata") {
            for field in ["labels", "annotations"] {
                if let Some(field) = metadata.stated(field) {
                    let why = "a gate's Job has no metadata of its own; its pods may: job.template.template.metadata";
                    self.remarks.push(field.person(why));
                }
            }
        }
        let spec = stated.at("spec");
        let mut template = spec.value().clone();
        self.words(&mut template, &spec);
        gate.job = template.as_object().cloned().map(|template| JobGate { template, pass: None });
    }

    /// The texts of a Job. A variable that is a Secret is one as Kubernetes has it.
    fn words(&mut self, value: &mut Value, place: &Place<'_>) {
        match value {
            Value::String(text) => *text = self.fill(text, place),
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.words(item, &place.at(at));
                }
            }
            Value::Object(fields) => {
                let stated = fields.get("value").and_then(Value::as_str);
                if let Some(Argument::Secret { name, key }) =
                    stated.and_then(|text| whole(text, self.arguments))
                    && fields.contains_key("name")
                {
                    fields.remove("value");
                    fields.insert("valueFrom".into(), json!({"secretKeyRef": {"name": name, "key": key}}));
                }
                for (name, field) in fields.iter_mut() {
                    self.words(field, &place.at(name));
                }
            }
            _ => {}
        }
    }
}
