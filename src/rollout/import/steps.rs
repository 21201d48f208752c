//! A Rollout as a policy.

use serde_json::{Map, Value, json};

use super::metric::{duration, seconds};
use super::place::Place;
use super::{Document, Import};
use crate::api::{
    BlueGreen, Canary, CanaryScale, CanaryStep, HeaderMatch, IngressRouter, KnownGood, RolloutPolicySpec,
    TargetReference, TrafficRoute,
};

fn share(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn count(place: &Place<'_>, field: &str) -> Option<u32> {
    place.whole(field).and_then(|number| u32::try_from(number).ok())
}

/// Seconds as a duration of ours.
fn after(place: &Place<'_>, field: &str) -> String {
    let found = place.whole(field).and_then(|number| u64::try_from(number).ok());
    found.map(duration).unwrap_or_default()
}

impl<'a> Import<'a> {
    /// Converts a Rollout.
    pub(super) fn rollout(&mut self, rollout: &Place<'a>) -> Vec<Document> {
        let name = rollout.at("metadata").text("name").unwrap_or("rollout").to_owned();
        let spec = rollout.at("spec");
        let mut policy = RolloutPolicySpec::default();
        let mut comments = vec![format!("From {}, Rollout {name}.", rollout.told())];
        let mut documents = Vec::new();
        let workload = spec.at("workloadRef");
        policy.target_ref = if let Some(target) = workload.text("name") {
            let word = |field: &str, usual: &str| workload.text(field).unwrap_or(usual).to_owned();
            TargetReference {
                api_version: word("apiVersion", "apps/v1"),
                kind: word("kind", "Deployment"),
                name: target.to_owned(),
                fields: None,
            }
        } else {
            documents.extend(self.deployment(rollout, &name));
            TargetReference {
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: name.clone(),
                fields: None,
            }
        };
        if policy.target_ref.kind != "Deployment" {
            let why = format!("a {} is no target; make it a Deployment", policy.target_ref.kind);
            self.remarks.push(workload.person(why));
        } else if workload.is_there() {
            let replicas = spec.whole("replicas").map_or("what it should have".into(), |all| all.to_string());
            self.remarks.push(workload.note(format!(
                "Argo may have set the Deployment to 0 replicas: it is scaled by itself again, so state {replicas} in it"
            )));
        }
        policy.progress_deadline = after(&spec, "progressDeadlineSeconds");
        // Argo goes through the steps again, but within a window.
        policy.known_good =
            if spec.is_stated("rollbackWindow") { KnownGood::SkipSteps } else { KnownGood::RunSteps };
        if let Some(paused) = spec.stated("paused") {
            self.remarks.push(paused.note("a pause is asked for here: driftless rollout pause"));
        }
        let strategy = spec.at("strategy");
        if let Some(canary) = strategy.stated_object("canary") {
            self.canary(rollout, &canary, &mut policy, &mut comments);
        } else if let Some(both) = strategy.stated_object("blueGreen") {
            self.blue_green(rollout, &both, &mut policy, &mut comments);
        } else {
            self.remarks.push(strategy.person("it is neither canary nor blueGreen"));
            return Vec::new();
        }
        documents.insert(0, self.document(rollout, &name, policy, comments));
        documents
    }

    /// A Rollout that has its own template is a Deployment and more.
    fn deployment(&mut self, rollout: &Place<'_>, name: &str) -> Option<Document> {
        let spec = rollout.at("spec");
        if spec.stated("template").is_none() {
            self.remarks.push(spec.person("it has neither a template nor a workloadRef"));
            return None;
        }
        self.remarks.push(spec.at("template").note(format!(
            "the Rollout itself becomes the Deployment {name}, which is given as a document of its own; put it in Git in place of the Rollout"
        )));
        let mut own = Map::new();
        let kept = [
            "replicas",
            "selector",
            "template",
            "minReadySeconds",
            "revisionHistoryLimit",
            "progressDeadlineSeconds",
        ];
        for field in kept {
            if let Some(value) = spec.value().get(field) {
                own.insert(field.into(), value.clone());
            }
        }
        let mut metadata = rollout.at("metadata").value().clone();
        if let Some(metadata) = metadata.as_object_mut() {
            metadata
                .retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
        }
        Some(Document {
            comments: vec![format!("From {}: what the Rollout {name} ran.", rollout.told())],
            value: json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": own}),
        })
    }

    /// What is stated and has no counterpart.
    fn without(&mut self, place: &Place<'_>, fields: &[(&str, bool, &str)]) {
        for (field, needs_person, why) in fields {
            if let Some(stated) = place.stated(field) {
                self.remarks.push(if *needs_person { stated.person(*why) } else { stated.note(*why) });
            }
        }
    }

    fn canary(
        &mut self,
        rollout: &Place<'a>,
        stated: &Place<'a>,
        policy: &mut RolloutPolicySpec,
        comments: &mut Vec<String>,
    ) {
        let mut canary = Canary::default();
        let routed = stated.stated("trafficRouting");
        if let Some(routing) = &routed {
            policy.traffic.routes = self.routes(rollout, routing);
            policy.traffic.service = stated.text("stableService").map(str::to_owned);
        } else {
            let usual = |field| share(&stated.value()[field]).unwrap_or_else(|| "25%".into());
            canary.max_surge = usual("maxSurge");
            canary.max_unavailable = usual("maxUnavailable");
        }
        canary.dynamic_stable_scale = stated.value()["dynamicStableScale"] == true;
        canary.min_replicas = count(stated, "minPodsPerReplicaSet");
        policy.abort_scale_down_delay = after(stated, "abortScaleDownDelaySeconds");
        if stated.whole("abortScaleDownDelaySeconds") == Some(0) {
            self.remarks.push(
                stated
                    .at("abortScaleDownDelaySeconds")
                    .note("0 keeps the pods for ever there; here they go at once"),
            );
        }
        self.without(
            stated,
            &[
                ("canaryService", false, "it is not needed: the candidate gets a Service of its own"),
                ("canaryMetadata", true, "the candidate has the pods' own labels and some of ours; put these into the template, or leave them"),
                ("stableMetadata", true, "the stable side has the pods' own labels; put these into the template, or leave them"),
                ("antiAffinity", true, "write it into the template of the Deployment"),
                ("pingPong", false, "there is no ping and pong here: the stable Service stays the same"),
                ("scaleDownDelaySeconds", false, "the pods of the candidate go when the target has become the new revision"),
            ],
        );
        self.one_header_route(stated);
        for step in stated.at("steps").items() {
            self.step(rollout, &step, &mut canary, policy, comments);
        }
        if canary.steps.is_empty() {
            canary.steps.push(CanaryStep { weight: 100, ..CanaryStep::default() });
        }
        if let Some(analysis) = stated.stated("analysis") {
            if analysis.whole("startingStep").is_some_and(|step| step > 0) {
                self.remarks
                    .push(analysis.at("startingStep").note("the background begins with the first weight"));
            }
            canary.background = self.analysis(rollout, &analysis, true, policy, comments);
        }
        policy.strategy.canary = Some(canary);
    }

    /// A step of Argo is one thing after the other; of ours, time and gates of one weight at once.
    fn step(
        &mut self,
        rollout: &Place<'a>,
        step: &Place<'a>,
        canary: &mut Canary,
        policy: &mut RolloutPolicySpec,
        comments: &mut Vec<String>,
    ) {
        let last = canary.steps.last().cloned().unwrap_or_default();
        let weight = last.weight;
        // What there is set stays until it is set otherwise; here each step says it.
        let fresh = CanaryStep { hold: String::new(), gates: Vec::new(), ..last };
        if let Some(wanted) = step.whole("setWeight") {
            match u32::try_from(wanted).ok().filter(|wanted| (weight..=100).contains(wanted)) {
                Some(wanted) => canary.steps.push(CanaryStep { weight: wanted, ..fresh }),
                None => self.remarks.push(step.at("setWeight").person(format!(
                    "a rollout goes from {weight} up to 100 and never down; leave this step out"
                ))),
            }
        } else if step.is_there() && step.value().get("pause").is_some() {
            let pause = step.at("pause");
            let hold = match pause.value().get("duration") {
                None | Some(Value::Null) => Some("promoted".to_owned()),
                Some(Value::Number(number)) => number.as_u64().map(duration),
                Some(Value::String(text)) => text.parse().ok().or_else(|| seconds(text)).map(duration),
                Some(_) => None,
            };
            match hold {
                Some(hold) => self.open(canary, fresh).hold = hold,
                None => self
                    .remarks
                    .push(pause.at("duration").person("it is no duration such as 90s, 10m or 1h30m")),
            }
        } else if let Some(analysis) = step.stated("analysis") {
            let gates = self.analysis(rollout, &analysis, false, policy, comments);
            self.open(canary, fresh).gates = gates;
        } else if let Some(sized) = step.stated("setCanaryScale") {
            let scale = match (count(&sized, "replicas"), count(&sized, "weight")) {
                (Some(replicas), _) => Some(CanaryScale { replicas: Some(replicas), percent: None }),
                (None, Some(percent)) => Some(CanaryScale { replicas: None, percent: Some(percent) }),
                (None, None) => None,
            };
            canary.steps.push(CanaryStep { scale, ..fresh });
        } else if let Some(led) = step.stated("setHeaderRoute") {
            let headers = self.headers(rollout, &led);
            self.open(canary, fresh).headers = headers;
        } else if let Some(copied) = step.stated("setMirrorRoute") {
            let percent = copied.whole("percentage").map_or(Some(100), |percent| u32::try_from(percent).ok());
            let matches = copied.stated("match");
            if let Some(matches) = &matches {
                self.remarks
                    .push(matches.person("all requests of the routes are copied here, whatever they match"));
            }
            self.open(canary, fresh).mirror = percent.filter(|percent| matches.is_some() && *percent > 0);
        } else {
            let because = match step.fields().first().map_or("", |(name, _)| *name) {
                "experiment" => {
                    "there are no experiments; compare the candidate with the stable side in a gate, or copy traffic to it (strategy shadow)"
                }
                "plugin" => "plugins of Argo are not known; a gate that runs a Job can do what it does",
                "" => "this step is empty",
                _ => "this step is not known",
            };
            self.remarks.push(step.person(because));
        }
    }

    /// Header routes of several names are there at once; a step of ours has one.
    fn one_header_route(&mut self, canary: &Place<'a>) {
        let all = canary.at("steps").items();
        let all: Vec<Place<'_>> = all.iter().filter_map(|step| step.stated("setHeaderRoute")).collect();
        let first = all.first().and_then(|route| route.text("name"));
        for other in all.iter().filter(|route| route.text("name") != first) {
            let why = "a step tells requests by one list of headers, and this one takes the place of the one before";
            self.remarks.push(other.person(why));
        }
    }

    /// The headers of a header route; none where it ends.
    fn headers(&mut self, rollout: &Place<'a>, stated: &Place<'a>) -> Vec<HeaderMatch> {
        let all = stated.at("match").items();
        let is_alb = rollout.value().pointer("/spec/strategy/canary/trafficRouting/alb").is_some();
        if all.len() > 1 && !is_alb {
            let why = "all of these must hold here, where one of them does for Istio; a regex can say several values";
            self.remarks.push(stated.at("match").person(why));
        }
        let read = all.iter().map(|one| {
            let (name, value) = (one.text("headerName").unwrap_or_default(), one.at("headerValue"));
            let ways = ["exact", "regex", "prefix"];
            let way = ways.into_iter().find(|way| value.is_stated(way)).unwrap_or("exact");
            let text = value.text(way).unwrap_or_default().to_owned();
            HeaderMatch { name: name.to_owned(), ..HeaderMatch::new(name, way, text) }
        });
        read.collect()
    }

    /// The step that was begun last, where nothing waits in it yet; else another of the same weight.
    #[expect(clippy::unused_self, reason = "reads as what it is about")]
    fn open<'s>(&self, canary: &'s mut Canary, fresh: CanaryStep) -> &'s mut CanaryStep {
        let is_open = canary.steps.last().is_some_and(|last| last.hold.is_empty() && last.gates.is_empty());
        if !is_open {
            canary.steps.push(fresh);
        }
        let last = canary.steps.len() - 1;
        &mut canary.steps[last]
    }

    fn blue_green(
        &mut self,
        rollout: &Place<'a>,
        stated: &Place<'a>,
        policy: &mut RolloutPolicySpec,
        comments: &mut Vec<String>,
    ) {
        policy.traffic.service = stated.text("activeService").map(str::to_owned);
        policy.abort_scale_down_delay = after(stated, "abortScaleDownDelaySeconds");
        let waits = stated.whole("autoPromotionSeconds").is_some_and(|seconds| seconds > 0);
        let hold = match waits {
            true => after(stated, "autoPromotionSeconds"),
            false if stated.value()["autoPromotionEnabled"] == false => "promoted".into(),
            false => String::new(),
        };
        self.without(
            stated,
            &[
                ("previewService", false, "it is not needed: the candidate gets a Service of its own, {{candidateService}} in gates"),
                ("previewMetadata", true, "the candidate has the pods' own labels and some of ours; put these into the template, or leave them"),
                ("activeMetadata", true, "the stable side has the pods' own labels; put these into the template, or leave them"),
                ("antiAffinity", true, "write it into the template of the Deployment"),
            ],
        );
        let mut gates = |import: &mut Self, field: &str| match stated.stated(field) {
            Some(analysis) => import.analysis(rollout, &analysis, false, policy, comments),
            None => Vec::new(),
        };
        let (before, after_switch) =
            (gates(self, "prePromotionAnalysis"), gates(self, "postPromotionAnalysis"));
        policy.strategy.blue_green = Some(BlueGreen {
            preview_replicas: count(stated, "previewReplicaCount"),
            before,
            hold,
            after: after_switch,
            scale_down_delay: after(stated, "scaleDownDelaySeconds"),
        });
    }

    fn routes(&mut self, rollout: &Place<'a>, routing: &Place<'a>) -> Vec<TrafficRoute> {
        let mut routes = Vec::new();
        let mut add = |version: &str, kind: &str, name: &str| {
            routes.push(TrafficRoute {
                api_version: version.into(),
                kind: kind.into(),
                name: name.into(),
                ..TrafficRoute::default()
            });
        };
        for (router, stated) in routing
            .fields()
            .into_iter()
            .filter(|(router, _)| !INGRESSES.iter().any(|(name, ..)| name == router))
        {
            let because = match router {
                "istio" => {
                    let mut services = stated.at("virtualServices").items();
                    services.extend(stated.stated("virtualService"));
                    for service in services {
                        add(
                            "networking.istio.io/v1",
                            "VirtualService",
                            service.text("name").unwrap_or_default(),
                        );
                        if let Some(some) = service.stated("routes") {
                            self.remarks
                                .push(some.note("every route of it that leads to the Service is divided"));
                        }
                    }
                    if let Some(rule) = stated.stated("destinationRule") {
                        self.remarks.push(rule.person("the sides are told by Services, not by subsets: let the VirtualService lead to the stable Service alone"));
                    }
                    continue;
                }
                "traefik" => {
                    add(
                        "traefik.io/v1alpha1",
                        "TraefikService",
                        stated.text("weightedTraefikServiceName").unwrap_or_default(),
                    );
                    continue;
                }
                "plugins" => {
                    for (plugin, stated) in stated.fields() {
                        if !plugin.eq_ignore_ascii_case("argoproj-labs/gatewayAPI") {
                            self.remarks.push(stated.person("this plugin is not known; name what it changes in traffic.routes, with fields"));
                            continue;
                        }
                        for (one, many, kind, version) in GATEWAY {
                            let mut names: Vec<&str> = stated.text(one).into_iter().collect();
                            let listed = stated.at(many).items();
                            names.extend(listed.iter().filter_map(|route| route.text("name")));
                            names.iter().for_each(|name| add(version, kind, name));
                        }
                        let own = rollout.at("metadata").text("namespace");
                        if let Some(other) =
                            stated.text("namespace").filter(|other| own.is_some_and(|own| own != *other))
                        {
                            self.remarks.push(
                                stated
                                    .at("namespace")
                                    .person(format!("routes are in the policy's namespace, not in {other}")),
                            );
                        }
                    }
                    continue;
                }
                "managedRoutes" => {
                    self.remarks.push(stated.note("there are no managed routes"));
                    continue;
                }
                "maxTrafficWeight" => "a weight is a percentage; divide those of the steps",
                "smi" => {
                    "Argo makes the TrafficSplit; put one in Git and name it in traffic.routes with fields: {backends: spec.backends, name: service, weight: weight}"
                }
                "ambassador" => "Argo makes a Mapping; use an HTTPRoute of the Gateway API",
                "appMesh" => "App Mesh has ended; use an HTTPRoute of the Gateway API",
                "apisix" => {
                    "name the ApisixRoute in traffic.routes with fields: {backends: 'spec.http[*].backends', name: serviceName, weight: weight}"
                }
                _ => "this router is not known; name what it changes in traffic.routes, with fields",
            };
            self.remarks.push(stated.person(format!(
                "not converted, and without a route the number of pods divides the traffic: {because}"
            )));
        }
        routes.extend(self.ingresses(routing));
        routes
    }

    /// Ingresses of NGINX and of an ALB.
    fn ingresses(&mut self, routing: &Place<'a>) -> Vec<TrafficRoute> {
        let mut routes = Vec::new();
        for (field, router, one, many) in INGRESSES {
            let Some(stated) = routing.stated(field) else { continue };
            let listed = stated.at(many).value().as_array().into_iter().flatten().filter_map(Value::as_str);
            for name in stated.text(one).into_iter().chain(listed) {
                routes.push(TrafficRoute {
                    api_version: "networking.k8s.io/v1".into(),
                    kind: "Ingress".into(),
                    name: name.into(),
                    router: Some(*router),
                    annotation_prefix: stated.text("annotationPrefix").map(str::to_owned),
                    ..TrafficRoute::default()
                });
            }
            self.without(
                &stated,
                &[
                    ("additionalIngressAnnotations", true, "a step says which requests it leads by their headers; other annotations of the controller are those of the Ingress"),
                    ("canaryIngressAnnotations", true, "the copy has the annotations of the controller that the Ingress has"),
                    ("rootService", true, "Argo writes its action; write it into the Ingress, or let its backend name the Service and its port"),
                    ("servicePort", false, "it is that of the backend, or of the action"),
                    ("stickinessConfig", true, "write it into the action of the Ingress, where it stays"),
                ],
            );
        }
        routes
    }
}

/// Routers by an Ingress: the field, its router, and the fields with one name and with several.
const INGRESSES: &[(&str, IngressRouter, &str, &str)] = &[
    ("nginx", IngressRouter::Nginx, "stableIngress", "stableIngresses"),
    ("alb", IngressRouter::Alb, "ingress", "ingresses"),
];

/// Fields of the Gateway API's plugin.
const GATEWAY: &[(&str, &str, &str, &str)] = &[
    ("httpRoute", "httpRoutes", "HTTPRoute", "gateway.networking.k8s.io/v1"),
    ("grpcRoute", "grpcRoutes", "GRPCRoute", "gateway.networking.k8s.io/v1"),
    ("tcpRoute", "tcpRoutes", "TCPRoute", "gateway.networking.k8s.io/v1alpha2"),
    ("tlsRoute", "tlsRoutes", "TLSRoute", "gateway.networking.k8s.io/v1alpha2"),
];
