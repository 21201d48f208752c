//! `RolloutPolicy`: how a new revision of one object comes to its users.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    ApprovalGate, CompareGate, Condition, JobGate, MlflowGate, ObjectGate, PrometheusGate, Reached, WebGate,
    WorkflowGate, admission,
};

/// How a new revision of one object comes to its users: step by step, judged by gates, and back by itself. It belongs to
/// the Application of its target.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "driftless.dev",
    version = "v1alpha1",
    kind = "RolloutPolicy",
    plural = "rolloutpolicies",
    shortname = "drollout",
    category = "driftless",
    namespaced,
    status = "RolloutStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.targetRef.name"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"integer","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Weight","type":"integer","jsonPath":".status.weight"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::policy()))]
pub struct RolloutPolicySpec {
    /// What is rolled out: an object of the same Application and namespace.
    pub target_ref: TargetReference,
    /// How: one of these.
    pub strategy: RolloutStrategy,
    /// What divides the traffic.
    #[serde(default, skip_serializing_if = "is_default")]
    pub traffic: RolloutTraffic,
    /// What must hold for it to go on, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub gates: Vec<Gate>,
    /// How long a step may take to come nearer to its size, such as 10m (which is the default); then the revision is
    /// rejected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))*$"), length(max = 16))]
    pub progress_deadline: String,
    /// How long the pods of a rejected revision stay, without traffic, to be looked at; 30s where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))*$"), length(max = 16))]
    pub abort_scale_down_delay: String,
    /// What is done where pods find no place, such as GPUs that are all taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unschedulable: Unschedulable,
    /// What a revision goes through that was deployed and good before, as after `git revert`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub known_good: KnownGood,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetReference {
    /// Such as apps/v1.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Such as Deployment.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where a kind that is not known has what a Deployment has: its candidate is another object of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<TargetFields>,
}

/// Where a kind has its pods, each field with its dots, such as `spec.worker.template`; usual places where not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetFields {
    /// The template of its pods; `spec.template`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(\.?[^.]+(\.[^.]+)*)?$"), length(max = 253))]
    pub template: String,
    /// Their selector, with `matchLabels` or as bare labels; `spec.selector`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(\.?[^.]+(\.[^.]+)*)?$"), length(max = 253))]
    pub selector: String,
    /// How many there are to be; `spec.replicas`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(\.?[^.]+(\.[^.]+)*)?$"), length(max = 253))]
    pub replicas: String,
    /// How many there are, of any template; `status.replicas`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(\.?[^.]+(\.[^.]+)*)?$"), length(max = 253))]
    pub pods: String,
    /// How many are of the newest template; `status.updatedReplicas`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(\.?[^.]+(\.[^.]+)*)?$"), length(max = 253))]
    pub updated: String,
    /// How many serve; `status.availableReplicas`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(\.?[^.]+(\.[^.]+)*)?$"), length(max = 253))]
    pub available: String,
}

/// What divides the traffic between the target and its new revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RolloutTraffic {
    /// The Service in front of the target; the one of the Application that selects its pods where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub service: Option<String>,
    /// Routes of the Application to that Service, which divide its traffic. Without any, the number of pods does, or the
    /// selector of the Service for blueGreen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub routes: Vec<TrafficRoute>,
}

/// An object that sends traffic to Services by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::route()))]
pub struct TrafficRoute {
    /// Such as gateway.networking.k8s.io/v1.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// `HTTPRoute`, `GRPCRoute`, `TLSRoute`, `TCPRoute`, `VirtualService`, `TraefikService` or `Ingress`; any other with
    /// `fields`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Where a kind that is not known has its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<RouteFields>,
    /// Who carries an Ingress out; where not given, the class of the Ingress says it, if that is `nginx` or `alb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<IngressRouter>,
    /// What the annotations of an Ingress begin with, where its controller has been told another prefix than
    /// `nginx.ingress.kubernetes.io` or `alb.ingress.kubernetes.io`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"), length(max = 100))]
    pub annotation_prefix: Option<String>,
}

/// Who carries an Ingress out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum IngressRouter {
    /// ingress-nginx.
    Nginx,
    /// AWS Load Balancer Controller.
    Alb,
}

/// Where a kind has its backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteFields {
    /// The lists of backends, such as `spec.rules[*].backendRefs`.
    #[schemars(regex(pattern = r"^\.?[^.]+(\.[^.]+)*$"), length(max = 253))]
    pub backends: String,
    /// The name of the Service in a backend, such as `name`.
    #[schemars(regex(pattern = r"^\.?[^.]+(\.[^.]+)*$"), length(max = 253))]
    pub name: String,
    /// Its weight, a whole number, such as `weight`.
    #[schemars(regex(pattern = r"^\.?[^.]+(\.[^.]+)*$"), length(max = 253))]
    pub weight: String,
}

/// One of the ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::strategy()))]
pub struct RolloutStrategy {
    /// More and more of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// All of the traffic at once, after a look at it without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    /// A copy of the traffic, whose answers nobody gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// As the target's kind goes from one revision to the next, judged on the way and after it. For any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
}

/// As the target's kind goes from one revision to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::rolling()))]
pub struct Rolling {
    /// How long the new revision is looked at when it is healthy, such as 10m; `promoted` is until `driftless rollout
    /// promote`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(([0-9]+(s|m|h))*|promoted)$"), length(max = 16))]
    pub hold: String,
    /// Gates that must pass when it is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub gates: Vec<String>,
    /// Gates that are asked all the time, from its first pod on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub background: Vec<String>,
}

/// More and more of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::canary()))]
pub struct Canary {
    /// From the first to the last; all of the traffic comes after the last by itself.
    #[schemars(length(min = 1, max = 50))]
    pub steps: Vec<CanaryStep>,
    /// Gates that are asked all the time, from the first weight on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub background: Vec<String>,
    /// What is asked of it once it has all of the traffic, with the way back open: the target is the stable revision until
    /// then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<CanaryAfter>,
    /// Pods above the target's replicas, a number or a percentage (rounded up) such as 25%, which is the default. With a
    /// router the stable side keeps its size and this does not count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]{1,5}|[0-9]{1,3}%)?$"))]
    pub max_surge: String,
    /// Pods that may be missing of the target's replicas, a number or a percentage (rounded down); 0 where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]{1,5}|[0-9]{1,3}%)?$"))]
    pub max_unavailable: String,
    /// Pods of the new revision at least, where a router divides the traffic; 1 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<u32>,
    /// Make the stable side smaller as its traffic goes; with a router only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dynamic_stable_scale: bool,
}

/// All of the traffic, for a time, judged, before the target becomes the new revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::after()))]
pub struct CanaryAfter {
    /// How long it has all of the traffic at least, such as 10m; `promoted` is until `driftless rollout promote`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(([0-9]+(s|m|h))*|promoted)$"), length(max = 16))]
    pub hold: String,
    /// Gates that must pass meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub gates: Vec<String>,
}

/// A share, for a time, judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CanaryStep {
    /// Percent of the traffic.
    #[schemars(range(max = 100))]
    pub weight: u32,
    /// Requests that have all of these headers go to the new revision only, and what is left by weight. With a route that
    /// tells requests by their headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub headers: Vec<HeaderMatch>,
    /// Percent of the requests that are copied to the new revision; nobody gets its answers to copies. With a route that
    /// copies traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub mirror: Option<u32>,
    /// Pods of the new revision; those that the weight asks for where not given. With a router only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<CanaryScale>,
    /// How long it stays at least, such as 10m, once the weight is observed; `promoted` is until `driftless rollout
    /// promote`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(([0-9]+(s|m|h))*|promoted)$"), length(max = 16))]
    pub hold: String,
    /// Gates that must pass here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub gates: Vec<String>,
}

/// A header of a request, by one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::header()))]
pub struct HeaderMatch {
    /// Its name; upper and lower case are the same.
    #[schemars(regex(pattern = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), length(max = 63))]
    pub name: String,
    /// The whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub exact: Option<String>,
    /// A regular expression of the value, as the router reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub regex: Option<String>,
    /// What the value begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub prefix: Option<String>,
}

impl HeaderMatch {
    /// A header by one of `exact`, `regex` and `prefix`; its name in lower case, as all routers take it.
    pub fn new(name: &str, way: &str, value: String) -> Self {
        let (mut exact, mut regex, mut prefix) = (None, None, None);
        match way {
            "regex" => regex = Some(value),
            "prefix" => prefix = Some(value),
            _ => exact = Some(value),
        }
        Self { name: name.to_ascii_lowercase(), exact, regex, prefix }
    }

    /// `exact`, `regex` or `prefix`, and what it is to be.
    pub fn way(&self) -> (&'static str, &str) {
        match (&self.exact, &self.regex, &self.prefix) {
            (None, Some(regex), _) => ("regex", regex),
            (None, None, Some(prefix)) => ("prefix", prefix),
            (exact, _, _) => ("exact", exact.as_deref().unwrap_or_default()),
        }
    }
}

impl std::fmt::Display for HeaderMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (way, value) = self.way();
        let sign = match way {
            "regex" => "~",
            "prefix" => "^=",
            _ => "=",
        };
        write!(f, "{}{sign}{value}", self.name)
    }
}

/// A size of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::scale()))]
pub struct CanaryScale {
    /// Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Percent of the target's replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
}

/// All of the traffic at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlueGreen {
    /// Pods of the new revision before the switch; the target's replicas where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_replicas: Option<u32>,
    /// Gates that must pass before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub before: Vec<String>,
    /// How long it is looked at before the switch, such as 10m; `promoted` is until `driftless rollout promote`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(([0-9]+(s|m|h))*|promoted)$"), length(max = 16))]
    pub hold: String,
    /// Gates that must pass after the switch; the old pods are there until then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub after: Vec<String>,
    /// How long the old pods stay after the switch, for an instant way back; 30s where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))*$"), length(max = 16))]
    pub scale_down_delay: String,
}

/// A copy of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// Percent of the requests that are copied.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// How long.
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"), length(max = 16))]
    pub hold: String,
    /// Gates that must pass meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30), inner(length(max = 63)))]
    pub gates: Vec<String>,
    /// Pods of the new revision; the target's replicas where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

/// What must hold. It asks one of these; without any, only a simulation answers for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = admission::gate()))]
pub struct Gate {
    /// Its name, which steps name.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), length(max = 63))]
    pub name: String,
    /// Time between two measurements; 1m where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))*$"), length(max = 16))]
    pub interval: String,
    /// Time before the first one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))*$"), length(max = 16))]
    pub initial_delay: String,
    /// Measurements that must pass, 1 where not given. In the background it goes on all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub count: Option<u32>,
    /// How many of each other answer are borne.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: GateLimits,
    /// Measured and reported; whatever it says holds nobody up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Asks Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusGate>,
    /// Asks over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebGate>,
    /// Runs a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobGate>,
    /// Runs a Workflow of Argo Workflows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowGate>,
    /// Looks at an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectGate>,
    /// Compares two versions of a model in MLflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mlflow: Option<MlflowGate>,
    /// Both sides compared by their counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareGate>,
    /// Waits for people, who approve or deny it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalGate>,
}

/// A field of a gate, and whether a gate states it.
type Ask = (&'static str, fn(&Gate) -> bool);

impl Gate {
    /// What a gate can ask, by its field, and whether this one does. Nothing else lists them.
    pub(super) const ASKS: &[Ask] = &[
        ("prometheus", |gate| gate.prometheus.is_some()),
        ("compare", |gate| gate.compare.is_some()),
        ("web", |gate| gate.web.is_some()),
        ("job", |gate| gate.job.is_some()),
        ("workflow", |gate| gate.workflow.is_some()),
        ("object", |gate| gate.object.is_some()),
        ("mlflow", |gate| gate.mlflow.is_some()),
        ("approval", |gate| gate.approval.is_some()),
    ];

    /// The fields of `Self::ASKS` that it states; one where it can be used.
    pub fn asks(&self) -> Vec<&'static str> {
        Self::ASKS.iter().filter(|(_, stated)| stated(self)).map(|(name, _)| *name).collect()
    }

    /// How its server is reached; `None` where it asks none.
    pub fn reached(&self) -> Option<Reached<'_>> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let (secret, headers, any_certificate) = if let Some(stated) = &self.prometheus {
            (&stated.secret_ref, &stated.headers, stated.insecure_skip_verify)
        } else if let Some(stated) = &self.compare {
            (&stated.secret_ref, &stated.headers, stated.insecure_skip_verify)
        } else if let Some(stated) = &self.web {
            (&stated.secret_ref, &stated.headers, stated.insecure_skip_verify)
        } else if let Some(stated) = &self.mlflow {
            (&stated.secret_ref, &NONE, stated.insecure_skip_verify)
        } else {
            return None;
        };
        Some(Reached { secret: secret.as_ref(), headers, any_certificate })
    }

    /// The names of `Self::ASKS` as a sentence has them.
    pub fn all() -> String {
        let names: Vec<&str> = Self::ASKS.iter().map(|(name, _)| *name).collect();
        names
            .split_last()
            .map_or_else(String::new, |(last, others)| format!("{} and {last}", others.join(", ")))
    }
}

/// How many answers of a kind are borne; one more and the gate has failed. None of them ever passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateLimits {
    /// Measurements that fail; 0 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<u32>,
    /// The same, one after the other; where not given, only `fail` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_fail: Option<u32>,
    /// Measurements without data, one after the other; 10 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<u32>,
    /// Measurements that end in an error, one after the other; 4 where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<u32>,
}

/// What is done where pods cannot be scheduled and nothing else is wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unschedulable {
    /// It waits at its step for as long as it takes; `progressDeadline` stands still, and `Stalled` says so.
    #[default]
    Hold,
    /// Pods of the stable revision make place, as many as `maxUnavailable` lets go at a time (1 at least), and both sides
    /// together have no more than the target's replicas. For a canary of a Deployment with two replicas at least that no
    /// autoscaler sizes; else as Hold.
    NoSurge,
    /// It is no progress: the revision is rejected after `progressDeadline`.
    Reject,
}

/// What a revision goes through that was good before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KnownGood {
    /// Nothing: it is deployed at once.
    #[default]
    SkipSteps,
    /// All steps again.
    RunSteps,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutPhase {
    /// Nothing was deployed yet.
    #[default]
    Pending,
    /// What Git wants is what all users get.
    Healthy,
    /// It goes through its steps.
    Progressing,
    /// The steps are behind it, and the target becomes the new revision.
    Promoting,
    /// It goes back to the stable revision.
    Aborting,
    /// What Git wants was rejected; users get the stable revision.
    Rejected,
}

/// What was rendered, from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRevision {
    /// Digest of the rendered target and of what it mounts.
    pub digest: String,
    /// The commit that it is from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
}

/// A revision that is not deployed again by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectedRevision {
    /// Which.
    #[serde(flatten)]
    pub revision: RolloutRevision,
    /// When (RFC 3339).
    pub at: String,
    /// Why: the gate with its last values, the pods that did not come up, or who aborted it.
    pub why: String,
}

/// How a gate stands in this step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Its name.
    pub name: String,
    /// Since when it is asked (RFC 3339).
    pub since: String,
    /// When it was asked last (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub measured_at: String,
    /// Answers so far.
    #[serde(default)]
    pub passed: u32,
    /// Answers so far.
    #[serde(default)]
    pub failed: u32,
    /// Answers of the newest kind, one after the other.
    #[serde(default)]
    pub streak: u32,
    /// The newest answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<GateAnswer>,
    /// What the newest answer was read from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The newest values, the newest last; 20 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<f64>,
    /// Who approved it, where people decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
}

/// What a measurement says. Simulations may write it small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateAnswer {
    /// The condition holds.
    #[serde(alias = "pass")]
    Pass,
    /// It does not.
    #[serde(alias = "fail")]
    Fail,
    /// There was nothing to judge.
    #[serde(alias = "noData")]
    NoData,
    /// It could not be asked.
    #[serde(alias = "error")]
    Error,
}

/// What a person asked of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutAct {
    /// Names the request; the same one is done once.
    pub id: String,
    /// What.
    pub verb: RolloutVerb,
    /// Who.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// When it was done (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// The gate that is approved or denied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gate: String,
    /// The revision for which it is: the digest of `status.candidate`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The step for which it is, from 0, as `status.step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// Why nothing came of it; empty where something did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
}

impl RolloutAct {
    /// Asks for something; who, why and of what is empty.
    pub fn new(id: impl Into<String>, verb: RolloutVerb) -> Self {
        Self {
            id: id.into(),
            verb,
            by: String::new(),
            why: String::new(),
            at: String::new(),
            gate: String::new(),
            revision: String::new(),
            step: None,
            refused: String::new(),
        }
    }

    /// Reads a request as the annotation has it.
    ///
    /// # Errors
    /// Why it is none, in words. A field that there is not is refused: what looks like a name deep inside it would be taken
    /// for that of the author by rules of admission that search the text.
    pub fn requested(text: &str) -> Result<Self, String> {
        let act: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let known = ["id", "verb", "by", "why", "at", "gate", "revision", "step"];
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(strange) => Err(format!("unknown field `{strange}`, expected one of {}", known.join(", "))),
            None => Ok(act),
        }
    }
}

/// What people can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutVerb {
    /// Go on from this step, whatever it waits for.
    Promote,
    /// Deploy it now: no more steps and gates. Its pods must still be there first.
    PromoteFull,
    /// Go back, and reject it.
    Abort,
    /// Take the rejection back.
    Retry,
    /// Stay where it is.
    Pause,
    /// Go on.
    Resume,
    /// Let a gate pass that waits for people.
    Approve,
    /// Let it fail.
    Deny,
}

/// All that is known of a rollout; a process that begins here goes on as the one before would have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Generation of the policy that this is of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where it stands.
    #[serde(default)]
    pub phase: RolloutPhase,
    /// What it waits for, or why it ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What users get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<RolloutRevision>,
    /// What is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<RolloutRevision>,
    /// The step, from 0; as many as there are steps when all are done.
    #[serde(default)]
    pub step: u32,
    /// When its size and weight were observed (RFC 3339); empty before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reached_at: String,
    /// The furthest that the candidate came in this step: available pods.
    #[serde(default)]
    pub best: u32,
    /// Since when it came no further (RFC 3339); empty while it has what it is to have.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub best_at: String,
    /// Since when pods cannot be scheduled and nothing else is wrong with them (RFC 3339); empty while it is not so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unschedulable_at: String,
    /// There was no place for more pods than the target's replicas: one side makes place for the other, to the end of this
    /// rollout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_surge: bool,
    /// Percent of the traffic that the candidate is to get.
    #[serde(default)]
    pub weight: u32,
    /// Gates of this step and of the background.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateStatus>,
    /// Why it goes back, while it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub abort: String,
    /// Since when the candidate has no traffic, while it goes back (RFC 3339).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drained_at: String,
    /// The candidate is rejected when it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rejects: bool,
    /// Its gates and holds are passed over, because somebody promoted it in full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skips: bool,
    /// Who holds it where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<RolloutAct>,
    /// What is not deployed again by itself, the newest last; 10 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedRevision>,
    /// Digests that were deployed and good, the newest last; 10 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<String>,
    /// What people asked for, the newest last; 20 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acts: Vec<RolloutAct>,
    /// `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
