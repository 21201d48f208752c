//! Bad policies are refused by the API server, which says where and why; good ones are taken.

use std::path::Path;

use driftless::api::{RolloutPolicy, RolloutPolicySpec};
use driftless::lint::{Configuration, Names, Schemas, Set, Severity, Subject, check};
use driftless::model::{Confidential, Origin, yaml};
use driftless::rollout::Policy;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::harness::cluster::{client, control_plane, install, namespace};

async fn policies(name: &str) -> Api<DynamicObject> {
    let plane = tokio::task::spawn_blocking(control_plane).await.unwrap();
    let client = client(&plane).await;
    install(&client).await;
    namespace(&client, name).await;
    Api::namespaced_with(client, name, &kube::api::ApiResource::erase::<RolloutPolicy>(&()))
}

/// What the API server says of a policy; none where it takes it.
async fn refusal(api: &Api<DynamicObject>, mut policy: Value) -> Option<String> {
    policy["metadata"] = json!({"generateName": "p-"});
    let policy = serde_json::from_value(policy).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &policy).await.err().map(|error| error.to_string())
}

/// A policy of a Deployment; `more` may have another target.
fn policy(strategy: &str, more: &str) -> Value {
    let target = if more.contains("targetRef") {
        ""
    } else {
        "  targetRef: {apiVersion: apps/v1, kind: Deployment, name: a}\n"
    };
    let text = format!(
        "apiVersion: driftless.dev/v1alpha1\nkind: RolloutPolicy\nspec:\n{target}  strategy: {strategy}\n{}",
        more.lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    yaml::read(text.as_bytes(), "policy").unwrap().remove(0).value
}

/// The errors that lint finds in a policy alone.
fn errors(policy: &Value) -> Vec<String> {
    let mut schemas = Schemas::default();
    for (_, definition) in driftless::api::definitions() {
        schemas.add(&serde_json::to_value(&definition).unwrap());
    }
    let mut policy = policy.clone();
    policy["metadata"] = json!({"name": "p"});
    let subjects = Subject::read(policy, &Origin { file: "policy".into(), line: 1 });
    let names = Names::default();
    let set = Set::new(&subjects, &names);
    let found = check(&set, &schemas, &Configuration::default(), &Confidential::default()).findings;
    let errors = found.into_iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| format!("{}: {}", finding.pointer, finding.message)).collect()
}

const ROUTES: &str =
    "traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: a}]}";
const SET: &str = "targetRef: {apiVersion: apps/v1, kind: StatefulSet, name: a}";

const INGRESS: &str = "traffic: {routes: [{apiVersion: networking.k8s.io/v1, kind: Ingress, name: a}]}";

/// Strategy, the rest of the spec, and the words that the API server must say.
const BAD: &[(&str, &str, &[&str])] = &[
    ("{}", "", &["spec.strategy", "states one of canary, blueGreen, shadow and rolling"]),
    ("{canary: {steps: [{weight: 5}]}, rolling: {}}", "", &["spec.strategy", "states one of"]),
    ("{canary: {steps: []}}", "", &["spec.strategy.canary.steps", "at least 1"]),
    ("{canary: {steps: [{weight: 101}]}}", "", &["spec.strategy.canary.steps[0].weight", "100"]),
    ("{canary: {steps: [{weight: -1}]}}", "", &["spec.strategy.canary.steps[0].weight", "0"]),
    (
        "{canary: {steps: [{weight: 5, hold: 10x}]}}",
        "",
        &["spec.strategy.canary.steps[0].hold", "should match"],
    ),
    (
        "{canary: {steps: [{weight: 50}, {weight: 20}]}}",
        "",
        &["spec.strategy.canary.steps", "a rollout only goes up"],
    ),
    (
        "{canary: {steps: [{weight: 5, scale: {}}]}}",
        "",
        &["spec.strategy.canary.steps[0].scale", "states replicas or percent"],
    ),
    (
        "{canary: {steps: [{weight: 5, scale: {replicas: 1, percent: 5}}]}}",
        "",
        &["spec.strategy.canary.steps[0].scale", "states replicas or percent"],
    ),
    (
        "{canary: {steps: [{weight: 5, scale: {replicas: 5000000000}}]}}",
        "",
        &["spec.strategy.canary.steps[0].scale.replicas", "4294967295"],
    ),
    (
        "{canary: {steps: [{weight: 5}], maxSurge: many}}",
        "",
        &["spec.strategy.canary.maxSurge", "should match"],
    ),
    (
        "{canary: {steps: [{weight: 5, gates: [a]}]}}",
        "gates: [{name: a}, {name: a}]",
        &["spec.gates", "there are two gates a"],
    ),
    ("{canary: {steps: [{weight: 5}]}}", "gates: [{name: A}]", &["spec.gates[0].name", "should match"]),
    (
        "{canary: {steps: [{weight: 5}, {weight: 6, gates: [a, b]}]}}",
        "gates: [{name: a}]",
        &["spec.strategy.canary.steps", "spec.gates has no gate b"],
    ),
    (
        "{canary: {steps: [{weight: 5}], background: [b]}}",
        "",
        &["spec.strategy.canary.background", "spec.gates has no gate b"],
    ),
    (
        "{canary: {steps: [{weight: 5}], after: {gates: [b]}}}",
        "",
        &["spec.strategy.canary.after.gates", "spec.gates has no gate b"],
    ),
    (
        "{canary: {steps: [{weight: 5}], after: {}}}",
        "",
        &["spec.strategy.canary.after", "states hold, gates or both"],
    ),
    (
        "{canary: {steps: [{weight: 5}], after: {hold: soon}}}",
        "",
        &["spec.strategy.canary.after.hold", "should match"],
    ),
    (
        "{canary: {steps: [{weight: 5}], background: [a], after: {gates: [a]}}}",
        "gates: [{name: a}]",
        &["spec.strategy.canary.background", "a is a gate of a step and of the background"],
    ),
    ("{blueGreen: {before: [b]}}", "", &["spec.strategy.blueGreen.before", "spec.gates has no gate b"]),
    ("{blueGreen: {after: [b]}}", "", &["spec.strategy.blueGreen.after", "spec.gates has no gate b"]),
    ("{shadow: {percent: 5, hold: 1m, gates: [b]}}", ROUTES, &["spec.strategy.shadow.gates", "no gate b"]),
    ("{rolling: {gates: [b]}}", "", &["spec.strategy.rolling.gates", "spec.gates has no gate b"]),
    ("{rolling: {background: [b]}}", "", &["spec.strategy.rolling.background", "no gate b"]),
    (
        "{canary: {steps: [{weight: 5, gates: [a]}]}}",
        "gates: [{name: a}, {name: b}]",
        &["spec.gates", "no step and no background names the gate b"],
    ),
    (
        "{canary: {steps: [{weight: 5, gates: [a]}], background: [a]}}",
        "gates: [{name: a}]",
        &["spec.strategy.canary.background", "a is a gate of a step and of the background"],
    ),
    (
        "{rolling: {gates: [a], background: [a]}}",
        "gates: [{name: a}]",
        &["spec.strategy.rolling.background", "a is a gate of a step and of the background"],
    ),
    ("{shadow: {percent: 0, hold: 1m}}", ROUTES, &["spec.strategy.shadow.percent", "1"]),
    ("{shadow: {percent: 5}}", ROUTES, &["spec.strategy.shadow.hold", "Required"]),
    ("{shadow: {percent: 5, hold: 1m}}", "", &["spec.traffic.routes", "nothing else can copy traffic"]),
    (
        "{shadow: {percent: 5, hold: 1m}}",
        "traffic: {routes: [{apiVersion: traefik.io/v1alpha1, kind: TraefikService, name: a}]}",
        &["spec.traffic.routes", "only HTTPRoute, GRPCRoute and VirtualService copy traffic"],
    ),
    ("{rolling: {}}", ROUTES, &["spec.traffic", "not with `rolling`"]),
    ("{rolling: {}}", "traffic: {service: a}", &["spec.traffic", "not with `rolling`"]),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: apps/v1, kind: StatefulSet, name: a}\ntraffic: {service: a}",
        &["spec.traffic", "the traffic of a Deployment"],
    ),
    (
        "{blueGreen: {}}",
        SET,
        &["spec.strategy.blueGreen", "StatefulSets and DaemonSets cannot have all pods twice"],
    ),
    (
        "{blueGreen: {}}",
        "targetRef: {apiVersion: apps/v1, kind: DaemonSet, name: a}",
        &["spec.strategy.blueGreen", "cannot have all pods twice"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: batch/v1, kind: Job, name: a}",
        &["spec.targetRef", "this kind does not go in steps"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: example.com/v1, kind: Route, name: a}]}",
        &["spec.traffic.routes[0].kind", "is no route that is known"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: example.com/v1, kind: Route, name: a, fields: {backends: spec.to, name: name}}]}",
        &["spec.traffic.routes[0].fields.weight", "Required"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: example.com/v1, kind: Route, name: a, fields: {backends: spec..to, name: name, weight: w}}]}",
        &["spec.traffic.routes[0].fields.backends", "should match"],
    ),
    (
        "{rolling: {}}",
        "targetRef: {apiVersion: apps/v1, kind: DaemonSet}",
        &["spec.targetRef.name", "Required"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: apps/v1, kind: Deployment, name: a, fields: {}}",
        &["spec.targetRef.fields", "a kind that is not known"],
    ),
    (
        "{rolling: {}}",
        "targetRef: {apiVersion: example.com/v1, kind: Pool, name: a, fields: {}}",
        &["spec.targetRef.fields", "not with `rolling`"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: example.com/v1, kind: Pool, name: a, fields: {replicas: spec..size}}",
        &["spec.targetRef.fields.replicas", "should match"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a}]}]}}",
        "",
        &["spec.strategy.canary.steps", "headers need routes that tell requests by them"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a}]}]}}",
        "traffic: {routes: [{apiVersion: traefik.io/v1alpha1, kind: TraefikService, name: a}]}",
        &["spec.strategy.canary.steps", "headers need routes that tell requests by them"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a}]}]}}",
        SET,
        &["spec.strategy.canary.steps", "headers need routes"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, prefix: a}]}]}}",
        ROUTES,
        &["spec.strategy.canary.steps", "by exact or regex, not by prefix"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a, regex: a}]}]}}",
        ROUTES,
        &["spec.strategy.canary.steps[0].headers[0]", "states one of exact, regex and prefix"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x}]}]}}",
        ROUTES,
        &["spec.strategy.canary.steps[0].headers[0]", "states one of exact, regex and prefix"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x y, exact: a}]}]}}",
        ROUTES,
        &["spec.strategy.canary.steps[0].headers[0].name", "should match"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: ''}]}]}}",
        ROUTES,
        &["spec.strategy.canary.steps[0].headers[0].exact", "at least 1"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a}, {name: X, exact: b}]}]}}",
        ROUTES,
        &["spec.strategy.canary.steps", "a step has two matches of one header"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a}, {name: z, exact: b}]}]}}",
        "traffic: {routes: [{apiVersion: networking.k8s.io/v1, kind: Ingress, name: a, router: nginx}]}",
        &["spec.strategy.canary.steps", "NGINX tells requests by one header"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, prefix: a}]}]}}",
        "traffic: {routes: [{apiVersion: networking.k8s.io/v1, kind: Ingress, name: a, router: nginx}]}",
        &["spec.strategy.canary.steps", "NGINX tells requests by one header, by exact or regex"],
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, regex: a}]}]}}",
        "traffic: {routes: [{apiVersion: networking.k8s.io/v1, kind: Ingress, name: a, router: alb}]}",
        &["spec.strategy.canary.steps", "an ALB matches a header by exact or prefix"],
    ),
    (
        "{canary: {steps: [{weight: 5, mirror: 10}]}}",
        "",
        &["spec.strategy.canary.steps", "mirror needs routes that copy traffic"],
    ),
    (
        "{canary: {steps: [{weight: 5, mirror: 10}]}}",
        INGRESS,
        &["spec.strategy.canary.steps", "mirror needs routes that copy traffic"],
    ),
    ("{canary: {steps: [{weight: 5, mirror: 0}]}}", ROUTES, &["spec.strategy.canary.steps[0].mirror", "1"]),
    (
        "{canary: {steps: [{weight: 5, mirror: 101}]}}",
        ROUTES,
        &["spec.strategy.canary.steps[0].mirror", "100"],
    ),
    (
        "{shadow: {percent: 5, hold: 1m}}",
        INGRESS,
        &["spec.traffic.routes", "only HTTPRoute, GRPCRoute and VirtualService copy traffic"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: a, router: nginx}]}",
        &["spec.traffic.routes[0].kind", "router and annotationPrefix are of an Ingress"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: networking.k8s.io/v1, kind: Ingress, name: a, router: haproxy}]}",
        &["spec.traffic.routes[0].router", "Unsupported value"],
    ),
    (
        "{blueGreen: {}}",
        "unschedulable: NoSurge",
        &["spec.unschedulable", "NoSurge is for a canary of a Deployment"],
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: apps/v1, kind: StatefulSet, name: a}
unschedulable: NoSurge",
        &["spec.unschedulable", "NoSurge is for a canary of a Deployment"],
    ),
    (
        "{canary: {steps: [{weight: 5}], maxUnavailable: 0%}}",
        "unschedulable: NoSurge",
        &["spec.strategy.canary.maxUnavailable", "one pod at least makes place"],
    ),
    ("{canary: {steps: [{weight: 5}]}}", "unschedulable: Wait", &["spec.unschedulable", "Hold"]),
    ("{rolling: {}}", "progressDeadline: soon", &["spec.progressDeadline", "should match"]),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, approval: {}, object: {apiVersion: v1, kind: Pod, name: a, pass: 'true'}}]",
        &[
            "spec.gates[0]",
            "give one of prometheus, compare, web, job, workflow, object, mlflow and approval",
        ],
    ),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, interval: 1m, approval: {}}]",
        &["spec.gates[0].approval", "people are not asked again and again"],
    ),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, limits: {noData: 3}, approval: {}}]",
        &["spec.gates[0].approval", "people are not asked again and again"],
    ),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, approval: {timeout: soon}}]",
        &["spec.gates[0].approval.timeout", "should match"],
    ),
    (
        "{rolling: {background: [a]}}",
        "gates: [{name: a, approval: {}}]",
        &["spec.strategy.rolling.background", "which only a step waits for"],
    ),
    (
        "{canary: {steps: [{weight: 5}], background: [a]}}",
        "gates: [{name: a, approval: {}}]",
        &["spec.strategy.canary.background", "which only a step waits for"],
    ),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, workflow: {}}]",
        &["spec.gates[0].workflow", "give either spec or workflowTemplateRef"],
    ),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, workflow: {workflowTemplateRef: {name: a}, pass: result > 1}}]",
        &["spec.gates[0].workflow", "give both or none"],
    ),
    (
        "{rolling: {gates: [a]}}",
        "gates: [{name: a, workflow: {workflowTemplateRef: {}}}]",
        &["spec.gates[0].workflow.workflowTemplateRef.name", "Required"],
    ),
];

/// Before the merge lint says so too.
#[tokio::test]
async fn bad_policies_are_refused_with_the_field() {
    let api = policies("admission-bad").await;
    let mut wrong = Vec::new();
    for (strategy, more, words) in BAD {
        let policy = policy(strategy, more);
        if errors(&policy).is_empty() {
            wrong.push(format!("{strategy} {more}: lint finds no error"));
        }
        match refusal(&api, policy.clone()).await {
            None => wrong.push(format!("{strategy} {more}: it is taken")),
            Some(said) if !words.iter().all(|word| said.contains(word)) => {
                wrong.push(format!("{strategy} {more}: expected {words:?}, found {said}"));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const GOOD: &[(&str, &str)] = &[
    (
        "{canary: {steps: [{weight: 0}, {weight: 5, scale: {replicas: 1}}, {weight: 5, scale: {percent: 50}}, {weight: 100}]}}",
        "",
    ),
    (
        "{canary: {steps: [{weight: 5, gates: [a, b]}, {weight: 6, gates: [a]}], background: [c]}}",
        "gates: [{name: a}, {name: b}, {name: c}]",
    ),
    ("{canary: {steps: [{weight: 100, hold: 1m}], after: {hold: promoted}}}", ""),
    (
        "{canary: {steps: [{weight: 5}], background: [a], after: {hold: 10m, gates: [b]}}}",
        "gates: [{name: a}, {name: b}]",
    ),
    ("{canary: {steps: [{weight: 5}], maxUnavailable: 10%}}", "unschedulable: NoSurge"),
    ("{rolling: {}}", "unschedulable: Reject"),
    ("{blueGreen: {before: [a], after: [a]}}", "gates: [{name: a}]\ntraffic: {service: a}"),
    (
        "{shadow: {percent: 5, hold: 1m, gates: [a]}}",
        "gates: [{name: a}]\ntraffic: {routes: [{apiVersion: networking.istio.io/v1, kind: VirtualService, name: a}]}",
    ),
    (
        "{rolling: {gates: [a], background: [b], hold: promoted}}",
        "gates: [{name: a}, {name: b}]\ntargetRef: {apiVersion: example.com/v1, kind: Model, name: a}",
    ),
    ("{canary: {steps: [{weight: 5}]}}", SET),
    (
        "{canary: {steps: [{weight: 5, gates: [a, b, c]}]}}",
        "gates: [{name: a, count: 2, dryRun: true, approval: {timeout: 24h}}, {name: b, approval: {}}, {name: c, workflow: {spec: {entrypoint: a}, result: a, pass: result > 1}}]",
    ),
    (
        "{canary: {maxUnavailable: 10%, steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: apps/v1, kind: DaemonSet, name: a}",
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: a}",
    ),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "targetRef: {apiVersion: example.com/v1, kind: Pool, name: a, fields: {replicas: spec.size, available: .status.ready}}\ntraffic: {service: a}",
    ),
    (
        "{shadow: {percent: 5, hold: 1m}}",
        "targetRef: {apiVersion: example.com/v1, kind: Pool, name: a, fields: {}}\ntraffic: {routes: [{apiVersion: networking.istio.io/v1, kind: VirtualService, name: a}]}",
    ),
    ("{blueGreen: {}}", "targetRef: {apiVersion: serving.knative.dev/v1, kind: Service, name: a}"),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: networking.k8s.io/v1, kind: Ingress, name: a}, {apiVersion: networking.k8s.io/v1, kind: Ingress, name: b, router: alb, annotationPrefix: alb.example.org}]}",
    ),
    (
        "{canary: {steps: [{weight: 0, headers: [{name: x, exact: a}, {name: z, regex: b}]}, {weight: 5, headers: [], mirror: 10}]}}",
        ROUTES,
    ),
    ("{canary: {steps: [{weight: 0, headers: [{name: x, prefix: a}]}, {weight: 5}]}}", INGRESS),
    (
        "{canary: {steps: [{weight: 5}]}}",
        "traffic: {routes: [{apiVersion: example.com/v1, kind: Route, name: a, fields: {backends: 'spec.rules[*].to', name: to.name, weight: weight}}, {apiVersion: traefik.io/v1alpha1, kind: TraefikService, name: a}]}",
    ),
];

/// What is taken is also read by the agent, and lint finds no error in it.
#[tokio::test]
async fn good_policies_are_taken() {
    let api = policies("admission-good").await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<(String, Value)> =
        GOOD.iter().map(|(strategy, more)| (format!("{strategy} {more}"), policy(strategy, more))).collect();
    let mut texts = vec![];
    for entry in std::fs::read_dir(root.join("tests/data/rollout")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    let document = std::fs::read_to_string(root.join("docs/rollouts.md")).unwrap();
    let blocks =
        document.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    texts.extend(blocks.map(|block| ("docs/rollouts.md".to_owned(), block)));
    for (name, text) in texts {
        let documents = yaml::read(text.as_bytes(), &name).unwrap();
        let own = documents.into_iter().filter(|one| one.value["kind"] == "RolloutPolicy");
        all.extend(own.map(|one| (name.clone(), one.value)));
    }
    assert!(all.len() > GOOD.len() + 12, "{}", all.len());
    let mut wrong = Vec::new();
    for (name, policy) in all {
        let spec: RolloutPolicySpec = serde_json::from_value(policy["spec"].clone()).unwrap();
        if let Err(error) = Policy::read(&spec) {
            wrong.push(format!("{name}: {error}"));
        }
        wrong.extend(errors(&policy).into_iter().map(|error| format!("{name}: lint: {error}")));
        wrong.extend(refusal(&api, policy).await.map(|said| format!("{name}: {said}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// At the limits of its schema a policy costs no more than the API server allows.
#[tokio::test]
async fn the_largest_policy_is_taken() {
    let api = policies("admission-large").await;
    let name = |number: usize| format!("{number:02}{}", "x".repeat(61));
    let (gates, steps): (Vec<_>, Vec<_>) = (
        (0..30).map(|number| json!({"name": name(number)})).collect(),
        (0..50)
            .map(|weight| {
                let headers = (0..8).map(|at| json!({"name": name(at), "exact": "x".repeat(253)}));
                json!({"weight": weight, "gates": (0..29).map(name).collect::<Vec<_>>(),
                    "headers": headers.collect::<Vec<_>>(), "mirror": 100})
            })
            .collect(),
    );
    let mut large = policy("{}", ROUTES);
    large["spec"]["strategy"] = json!({"canary": {"steps": steps, "background": [name(29)]}});
    large["spec"]["gates"] = gates.into();
    assert_eq!(refusal(&api, large).await, None);
}
