//! Rollouts of kinds that serve models, with their real CRDs. What their controllers do is played by the test, from what each
//! writes into its status; nothing here runs a model.

use std::collections::HashMap;
use std::time::Duration;

use driftless::api::RolloutPhase;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::agent::World;
use crate::canary::{Rolling, fraud, policy, resource};
use crate::harness::{crds, eventually};

/// A played controller: the status that it gives an object, from the object and what it remembers of it.
type Play = fn(&Value, &mut Vec<String>) -> Value;

/// Writes the status of each object that has another spec than before.
async fn controller(api: Api<DynamicObject>, play: Play) {
    let mut known: HashMap<String, (i64, Vec<String>)> = HashMap::new();
    loop {
        for live in api.list(&ListParams::default()).await.unwrap() {
            let (name, generation) = (live.metadata.name.clone().unwrap(), live.metadata.generation.unwrap());
            let (seen, revisions) = known.entry(name.clone()).or_default();
            if *seen == generation {
                continue;
            }
            *seen = generation;
            let mut status = play(&live.data, revisions);
            status["observedGeneration"] = generation.into();
            let patch = Patch::Merge(json!({ "status": status }));
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn condition(kind: &str, state: bool) -> Value {
    let state = if state { "True" } else { "False" };
    json!({"type": kind, "status": state, "reason": "Played", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// The revision of what makes one, by its number among those there were.
fn number(revisions: &mut Vec<String>, made_of: &Value) -> usize {
    let made_of = made_of.to_string();
    if revisions.last() != Some(&made_of) {
        revisions.push(made_of);
    }
    revisions.len()
}

fn api(world: &World, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(world.client.clone(), &world.namespace, kind)
}

/// KServe on Knative: the newest revision has `canaryTrafficPercent`, the one that had all before has the rest.
fn kserve(data: &Value, revisions: &mut Vec<String>) -> Value {
    let predictor = &data["spec"]["predictor"];
    let count = number(revisions, &predictor["model"]);
    let name = |number: usize| format!("fraud-predictor-{number:05}");
    let is_bad = predictor["model"]["storageUri"].as_str().unwrap().contains("bad");
    let percent = predictor["canaryTrafficPercent"].as_u64();
    let (latest, before) = (name(count), name(count.saturating_sub(1).max(1)));
    let traffic = match percent {
        _ if is_bad => json!([{"revisionName": before, "percent": 100, "tag": "prev"}]),
        Some(percent) if percent < 100 && count > 1 => json!([
            {"revisionName": before, "percent": 100 - percent, "tag": "prev"},
            {"revisionName": latest, "latestRevision": true, "percent": percent}]),
        _ => json!([{"revisionName": latest, "latestRevision": true, "percent": 100}]),
    };
    let rolled = if is_bad || percent.is_some_and(|percent| percent < 100) { &before } else { &latest };
    let ready = if is_bad { &before } else { &latest };
    json!({"components": {"predictor": {"latestCreatedRevision": latest, "latestReadyRevision": ready,
            "latestRolledoutRevision": rolled, "traffic": traffic}},
        "conditions": [condition("Ready", true)]})
}

fn model(uri: &str) -> String {
    format!(
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: fraud}}\nspec:\n  predictor:\n    minReplicas: 1\n    model: {{modelFormat: {{name: sklearn}}, storageUri: '{uri}'}}\n"
    )
}

/// Its pod is the test's, and the scheduler is real.
#[tokio::test]
async fn a_model_that_finds_no_gpu_is_waited_for() {
    let world = &World::new("serving-places").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::KSERVE, &["InferenceService"]).await;
    let kind = resource("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices");
    tokio::spawn(controller(api(world, &kind), kserve));
    let steps = policy("canary: {steps: [{weight: 10, hold: promoted}]}", "  progressDeadline: 4s\n")
        .replace("apps/v1, kind: Deployment", "serving.kserve.io/v1beta1, kind: InferenceService");
    let first = rolling.commit(&[("model", &model("s3://m/1")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fraud-predictor-00002-x",
            "labels": {"serving.knative.dev/revision": "fraud-predictor-00002"}},
        "spec": {"containers": [{"name": "model", "image": "model", "resources": {"limits": {"tests.example/gpu": "1"}}}]}});
    let pods: Api<k8s_openapi::api::core::v1::Pod> = rolling.api();
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    rolling.commit(&[("model", &model("s3://m/bad"))], "Two");
    world.poke("fraud").await;
    let wants = "a pod cannot be scheduled: fraud-predictor-00002-x wants 1 tests.example/gpu";
    eventually("it says what is missing", || async {
        rolling.status().await.message.contains(wants).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let status = rolling.status().await;
    assert_eq!(status.phase, RolloutPhase::Progressing, "{:?}", status.rejected);
    assert!(status.message.ends_with("it waits for a place, without a deadline"), "{}", status.message);
    // Without the pod nothing tells of a place.
    pods.delete("fraud-predictor-00002-x", &DeleteParams::default()).await.unwrap();
    rolling.phase(RolloutPhase::Rejected).await;
}

#[tokio::test]
async fn an_inference_service_goes_by_percent() {
    let world = &World::new("serving-kserve").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::KSERVE, &["InferenceService"]).await;
    let kind = resource("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices");
    let services = api(world, &kind);
    tokio::spawn(controller(services.clone(), kserve));
    let steps = policy(
        "canary: {steps: [{weight: 10, hold: promoted}, {weight: 50, hold: promoted}]}",
        "  progressDeadline: 3s\n  abortScaleDownDelay: 1s\n",
    )
    .replace("apps/v1, kind: Deployment", "serving.kserve.io/v1beta1, kind: InferenceService");
    let spec = || async { services.get("fraud").await.unwrap().data["spec"]["predictor"].clone() };
    let first = rolling.commit(&[("model", &model("s3://m/1")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;

    let second = rolling.commit(&[("model", &model("s3://m/2"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (10 %): waits for").await;
    let live = spec().await;
    assert_eq!(
        (&live["model"]["storageUri"], &live["canaryTrafficPercent"]),
        (&json!("s3://m/2"), &json!(10))
    );
    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (50 %): waits for").await;
    assert_eq!(spec().await["canaryTrafficPercent"], 50);
    rolling.ask("Promote", "b").await;
    world.ready("fraud", &second).await;
    let live = spec().await;
    assert!(live["canaryTrafficPercent"].is_null(), "{live}");

    // One that never loads gets no traffic, and the old one is there again.
    rolling.commit(&[("model", &model("s3://m/bad"))], "Three");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    assert!(status.rejected[0].why.contains("it came no nearer for 3 s"), "{}", status.rejected[0].why);
    let live = spec().await;
    assert_eq!(live["model"]["storageUri"], "s3://m/2");
    assert!(live["canaryTrafficPercent"].is_null());

    // Its size is none of the rollout's.
    rolling.commit(&[("model", &model("s3://m/2").replace("minReplicas: 1", "minReplicas: 4"))], "Four");
    world.poke("fraud").await;
    eventually("the size", || async { (spec().await["minReplicas"] == 4).then_some(()) }).await;
}

fn knative(data: &Value, revisions: &mut Vec<String>) -> Value {
    let latest = format!("fraud-{:05}", number(revisions, &data["spec"]["template"]["spec"]["containers"]));
    let stated = data["spec"]["traffic"].as_array().cloned().unwrap_or_default();
    let all = || json!([{"revisionName": latest, "latestRevision": true, "percent": 100}]);
    let traffic: Vec<Value> = stated
        .into_iter()
        .map(|mut to| {
            if to["latestRevision"] == true {
                to["revisionName"] = latest.clone().into();
            }
            to
        })
        .collect();
    let traffic = if traffic.is_empty() { all() } else { traffic.into() };
    json!({"latestCreatedRevisionName": latest, "latestReadyRevisionName": latest, "traffic": traffic,
        "conditions": [condition("ConfigurationsReady", true), condition("Ready", true)]})
}

#[tokio::test]
async fn a_knative_service_keeps_the_old_revision_pinned() {
    let world = &World::new("serving-knative").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::KNATIVE, &["Service"]).await;
    let kind = resource("serving.knative.dev", "v1", "Service", "services");
    let services = api(world, &kind);
    tokio::spawn(controller(services.clone(), knative));
    let service = |image: &str| {
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: fraud}}\nspec:\n  template:\n    spec:\n      containers: [{{image: '{image}'}}]\n"
        )
    };
    let steps = policy("canary: {steps: [{weight: 30, hold: promoted}]}", "  abortScaleDownDelay: 1s\n")
        .replace("apps/v1, kind: Deployment", "serving.knative.dev/v1, kind: Service");
    let first = rolling.commit(&[("service", &service("model:1")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let traffic = || async { services.get("fraud").await.unwrap().data["spec"]["traffic"].clone() };
    rolling.commit(&[("service", &service("model:2"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (30 %): waits for").await;
    let divided = traffic().await;
    assert_eq!(divided[0], json!({"revisionName": "fraud-00001", "percent": 70}));
    assert_eq!((&divided[1]["latestRevision"], &divided[1]["percent"]), (&json!(true), &json!(30)));
    rolling.ask("Abort", "a").await;
    rolling.phase(RolloutPhase::Rejected).await;
    let live = services.get("fraud").await.unwrap().data;
    assert_eq!(live["spec"]["template"]["spec"]["containers"][0]["image"], "model:1");
    assert!(traffic().await.is_null(), "as Git has it");

    let third = rolling.commit(&[("service", &service("model:3"))], "Three");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (30 %): waits for").await;
    rolling.ask("Promote", "b").await;
    world.ready("fraud", &third).await;
    assert!(traffic().await.is_null());
}

fn ray(data: &Value, _: &mut Vec<String>) -> Value {
    let is_bad = data["spec"]["serveConfigV2"].as_str().unwrap().contains("bad");
    let app = if is_bad { "DEPLOY_FAILED" } else { "RUNNING" };
    let applications = json!({"fraud": {"status": app, "message": if is_bad { "no module" } else { "" }}});
    let pending = if is_bad { json!({"applicationStatuses": applications}) } else { Value::Null };
    json!({"conditions": [condition("Ready", true)], "pendingServiceStatus": pending})
}

#[tokio::test]
async fn a_ray_service_rolls_its_own_way() {
    let world = &World::new("serving-ray").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::KUBERAY, &["RayService"]).await;
    let kind = resource("ray.io", "v1", "RayService", "rayservices");
    let services = api(world, &kind);
    tokio::spawn(controller(services.clone(), ray));
    let service = |config: &str| {
        format!(
            "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {{name: fraud}}\nspec:\n  serveConfigV2: 'import_path: {config}'\n  rayClusterConfig:\n    headGroupSpec:\n      rayStartParams: {{}}\n      template: {{spec: {{containers: [{{name: head, image: 'ray:2'}}]}}}}\n"
        )
    };
    let rolls = policy("rolling: {hold: 1s}", "  progressDeadline: 3s\n")
        .replace("apps/v1, kind: Deployment", "ray.io/v1, kind: RayService");
    let first = rolling.commit(&[("service", &service("one")), ("policy", &rolls)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let second = rolling.commit(&[("service", &service("two"))], "Two");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    rolling.commit(&[("service", &service("bad"))], "Three");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(why.contains("DEPLOY_FAILED: no module"), "{why}");
    eventually("the stable revision is back", || async {
        let live = services.get("fraud").await.unwrap().data;
        (live["spec"]["serveConfigV2"] == "import_path: two").then_some(())
    })
    .await;
}

#[tokio::test]
async fn istio_divides_traffic_as_a_gateway_does() {
    let world = &World::new("serving-istio").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::ISTIO, &["VirtualService", "DestinationRule"]).await;
    let kind = resource("networking.istio.io", "v1", "VirtualService", "virtualservices");
    let routes = api(world, &kind);
    let rules = resource("networking.istio.io", "v1", "DestinationRule", "destinationrules");
    let rules = api(world, &rules);
    let route = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: fraud}
spec:
  hosts: [fraud]
  http:
  - timeout: 3s
    route: [{destination: {host: fraud, subset: gpu}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tls}
spec:
  host: fraud
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
  subsets: [{name: gpu, labels: {app: fraud, tier: model}}]
";
    let steps = policy(
        "canary: {steps: [{weight: 25, hold: promoted}]}",
        "  traffic: {routes: [{apiVersion: networking.istio.io/v1, kind: VirtualService, name: fraud}]}\n",
    );
    let first =
        rolling.commit(&[("fraud", &fraud("model:1", 4, "")), ("policy", &steps), ("route", route)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let second = rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (25 %): waits for").await;
    let http = || async { routes.get("fraud").await.unwrap().data["spec"]["http"][0].clone() };
    let live = http().await;
    assert_eq!(live["timeout"], "3s");
    assert_eq!(
        live["route"],
        json!([{"destination": {"host": "fraud", "subset": "gpu"}, "weight": 75},
        {"destination": {"host": "fraud-candidate", "subset": "gpu"}, "weight": 25}])
    );
    let rule = rules.get("tls-candidate").await.unwrap();
    assert_eq!(
        rule.data["spec"],
        json!({"host": "fraud-candidate", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}},
            "subsets": [{"name": "gpu", "labels": {"app": "fraud-candidate", "tier": "model"}}]})
    );
    rolling.ask("PromoteFull", "a").await;
    world.ready("fraud", &second).await;
    assert_eq!(http().await["route"], json!([{"destination": {"host": "fraud", "subset": "gpu"}}]));
    eventually("its rule goes with the candidate", || async {
        rules.get_opt("tls-candidate").await.unwrap().is_none().then_some(())
    })
    .await;
}
