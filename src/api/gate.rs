//! What a gate of a `RolloutPolicy` asks.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// A query to Prometheus, or to what answers as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.query) != has(self.builtin)", "message": "give either query or builtin, not both and not neither"}]))]
pub struct PrometheusGate {
    /// Where it is, without `/api/v1`, such as `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub address: String,
    /// The query. `{{candidate}}`, `{{stable}}`, `{{target}}`, `{{namespace}}`, `{{revision}}`, `{{service}}`,
    /// `{{candidateService}}` and `{{window}}` (the gate's interval) stand for what they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub query: Option<String>,
    /// A query that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<BuiltinQuery>,
    /// What passes, in CEL over `value` (the one series' value, the newest of a range), `values` (of all series, or of the
    /// range, the oldest first) and `labels` of the one series; with isNaN, isInf and default. Such as `value >= 0.99`.
    #[schemars(length(min = 1, max = 4096))]
    pub pass: String,
    /// Ask for a time, not for a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<QueryRange>,
    /// A Secret of the same namespace with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GateSecret>,
    /// Headers to send, such as `X-Scope-OrgID`; no credentials: these belong in a Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub headers: BTreeMap<String, String>,
    /// Take any TLS certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// A query that is known: of the candidate, over a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuiltinQuery {
    /// What: the share of requests without a 5xx status (0 to 1), milliseconds, or requests a second.
    pub metric: BuiltinMetric,
    /// Whose metrics.
    pub source: BuiltinSource,
    /// Over which time, such as 5m; at least four times as long as Prometheus takes between two scrapes.
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"), length(max = 16))]
    pub window: String,
}

/// What a known query says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BuiltinMetric {
    /// The share of requests without a 5xx status, from 0 to 1.
    #[default]
    #[serde(rename = "success-rate")]
    SuccessRate,
    /// Milliseconds that half of the requests took at most.
    #[serde(rename = "latency-p50")]
    LatencyP50,
    /// Of 90 %.
    #[serde(rename = "latency-p90")]
    LatencyP90,
    /// Of 95 %.
    #[serde(rename = "latency-p95")]
    LatencyP95,
    /// Of 99 %.
    #[serde(rename = "latency-p99")]
    LatencyP99,
    /// Requests a second.
    #[serde(rename = "request-rate")]
    RequestRate,
}

/// Whose metrics a known query reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BuiltinSource {
    /// Istio's sidecars and waypoints, by the candidate's workload.
    #[default]
    #[serde(rename = "istio")]
    Istio,
    /// A gateway on Envoy that has a cluster for each Service (Contour, Cilium), by the candidate's Service.
    #[serde(rename = "gateway-api-envoy")]
    GatewayApiEnvoy,
    /// `KServe`'s own model servers, by the candidate's pods; they count no statuses, so there is no success-rate.
    #[serde(rename = "kserve")]
    Kserve,
    /// The queue-proxy of Knative up to 1.18, with the candidate as the revision.
    #[serde(rename = "knative")]
    Knative,
}

/// A time and its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryRange {
    /// How long, until now, such as 10m.
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"), length(max = 16))]
    pub window: String,
    /// Between two values, such as 1m.
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"), length(max = 16))]
    pub step: String,
}

/// How a server is reached that a gate asks.
#[derive(Clone, Copy, Debug)]
pub struct Reached<'a> {
    /// The Secret with credentials.
    pub secret: Option<&'a GateSecret>,
    /// Headers to send.
    pub headers: &'a BTreeMap<String, String>,
    /// Take any TLS certificate.
    pub any_certificate: bool,
}

/// A Secret of the same namespace. It is read in the name of the Application's account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of a token. Where not given: `bearerToken` or `token`, or `username` and `password`; and `caFile` or `ca.crt`,
    /// the certificates of a private authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
    /// The header that takes the token as it is; where not given, it is a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub header: Option<String>,
}

/// A request over HTTP. Redirects are followed on the same host only; an answer is 1 MiB at most, and comes within 10 s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebGate {
    /// Where, with the same `{{...}}` as a query.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub url: String,
    /// How.
    #[serde(default, skip_serializing_if = "is_default")]
    pub method: WebMethod,
    /// Headers to send; no credentials: these belong in a Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub headers: BTreeMap<String, String>,
    /// What to send, as application/json unless a header says otherwise; with the same `{{...}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub body: Option<String>,
    /// Where `value` is in the answer: a JSON pointer (`/data/rate`), or CEL over `result`, the whole answer. Where not given
    /// it is the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub json: Option<String>,
    /// What passes, in CEL over `value`, `values` (where it is a list of numbers) and `result`, the whole answer.
    #[schemars(length(min = 1, max = 4096))]
    pub pass: String,
    /// A Secret of the same namespace with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GateSecret>,
    /// Take any TLS certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// How a request is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WebMethod {
    /// GET.
    #[default]
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
}

/// A Job for each measurement, in the namespace of the policy and in the name of the Application's account. One that
/// succeeds passes, one that fails does not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobGate {
    /// Spec of the Job (batch/v1), with the same `{{...}}` as a query. Where they are not given: `restartPolicy: Never`,
    /// `activeDeadlineSeconds: 1800`, `ttlSecondsAfterFinished: 3600`.
    #[schemars(schema_with = "any_object")]
    pub template: serde_json::Map<String, serde_json::Value>,
    /// What passes of a Job that succeeded, in CEL over `result`: the JSON that its pod left as its termination message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub pass: Option<String>,
}

/// A Workflow (argoproj.io/v1alpha1) for each measurement, in the namespace of the policy and in the name of the Application's
/// account. One that succeeds passes, one that fails does not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.spec) != has(self.workflowTemplateRef)", "message": "give either spec or workflowTemplateRef, not both and not neither"},
    {"rule": "has(self.result) == has(self.pass)", "message": "result is the output parameter that pass judges: give both or none"}]))]
pub struct WorkflowGate {
    /// Its spec, with the same `{{...}}` as a query; other words are Argo's own. Where they are not given:
    /// `activeDeadlineSeconds: 1800`, `ttlStrategy: {secondsAfterCompletion: 3600}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub spec: Option<serde_json::Map<String, serde_json::Value>>,
    /// The template that it is made of. How long it may run is for the template to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_template_ref: Option<WorkflowTemplateReference>,
    /// Its parameters (`spec.arguments.parameters`) by name, with the same `{{...}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub parameters: BTreeMap<String, String>,
    /// The output parameter whose JSON `pass` judges: one with this globalName, or one of the entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub result: Option<String>,
    /// What passes of a Workflow that succeeded, in CEL over `result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub pass: Option<String>,
}

/// A `WorkflowTemplate` of the same namespace, or of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowTemplateReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// It is a `ClusterWorkflowTemplate`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_scope: bool,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectGate {
    /// Such as apps/v1.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Such as Deployment.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name, with the same `{{...}}` as a query.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What passes, in CEL over `object`.
    #[schemars(length(min = 1, max = 4096))]
    pub pass: String,
}

/// A metric of two versions of a registered model of MLflow: the candidate's and the champion's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.candidateVersion) != has(self.candidateAlias)", "message": "give either candidateVersion or candidateAlias, not both and not neither"}]))]
pub struct MlflowGate {
    /// Where it is, without `/api/2.0`, such as `http://mlflow.ml:5000`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub address: String,
    /// The registered model.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// The version that is to be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub candidate_version: Option<String>,
    /// The alias of the version that is to be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub candidate_alias: Option<String>,
    /// The alias of the version that it is compared with; `champion` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub champion_alias: Option<String>,
    /// The metric, of the run that made a version.
    #[schemars(length(min = 1, max = 250))]
    pub metric: String,
    /// The evaluation dataset on which it was measured, by name: of the logged model, whichever run measured it. Both versions
    /// are compared on the same content only (its digest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub dataset: Option<String>,
    /// By how much the candidate may be worse; 0 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// Whether more of it is better, which is so where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub higher_is_better: Option<bool>,
    /// What passes, in CEL over `candidate`, `champion` and `tolerance`; where not given, `candidate >= champion - tolerance`,
    /// or `candidate <= champion + tolerance` where less is better. One that does not name `champion` needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub pass: Option<String>,
    /// A Secret of the same namespace with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GateSecret>,
    /// Take any TLS certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// The candidate against the stable side, by counters of Prometheus since the step was reached: a sequential test, which may be
/// looked at as often as one likes. Undecided is no data, and holds for as long as it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.errors) != has(self.latency)", "message": "give either errors or latency, not both and not neither"}]))]
pub struct CompareGate {
    /// Where Prometheus is, without `/api/v1`, such as `http://prometheus.monitoring:9090`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub address: String,
    /// The shares of requests that fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<CompareErrors>,
    /// How long requests take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<CompareLatency>,
    /// How often it may be wrong.
    #[serde(default, skip_serializing_if = "is_default")]
    pub levels: CompareLevels,
    /// A Secret of the same namespace with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GateSecret>,
    /// Headers to send, such as `X-Scope-OrgID`; no credentials: these belong in a Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20))]
    pub headers: BTreeMap<String, String>,
    /// Take any TLS certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// Two counters of each side. `{{side}}` is the name of its object, `{{sideService}}` that of its Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompareErrors {
    /// All requests, such as `sum(http_requests_total{app="{{side}}"})`: what was counted, not a rate of it.
    #[schemars(length(min = 1, max = 4096))]
    pub requests: String,
    /// Those that failed, such as `sum(http_requests_total{app="{{side}}",code=~"5.."})`.
    #[schemars(length(min = 1, max = 4096))]
    pub failures: String,
    /// The candidate may fail so many times as often as the stable side; 1.25 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub ratio: Option<f64>,
    /// And this share of its requests more, from 0 to 1; 0.002 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub difference: Option<f64>,
}

/// A histogram of each side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompareLatency {
    /// Its buckets, such as `sum by (le) (http_request_duration_seconds_bucket{app="{{side}}"})`.
    #[schemars(length(min = 1, max = 4096))]
    pub buckets: String,
    /// The quantile of the stable side beyond which a request is slow; 0.95 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quantile: Option<f64>,
    /// The candidate may take so many times as long; 1.2 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub ratio: Option<f64>,
    /// This share of its requests may be slow besides, from 0 to 1; 0 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub excess: Option<f64>,
}

/// Probabilities of a wrong answer, over all looks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompareLevels {
    /// That a candidate within the tolerance is called worse; 0.01 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub worse: Option<f64>,
    /// That a candidate beyond it is called not worse; 0.05 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub not_worse: Option<f64>,
}

/// People, who approve or deny with `driftless rollout approve` and `deny`. `count` is how many different ones it takes; one denial
/// is enough. Their word is for one revision in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalGate {
    /// What they are to look at.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// How long they are waited for, such as 24h; then it has failed. Where not given, it waits without end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))*$"), length(max = 16))]
    pub timeout: String,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
