//! Rollouts of more kinds than serve models: `DaemonSets` by real controllers; what else has a controller of its own is played
//! by the test, which says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::api::RolloutPhase;
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use serde_json::{Value, json};

use crate::agent::{World, cli, map};
use crate::canary::{Rolling, gateway, policy, resource};
use crate::harness::{crds, eventually};

/// Nodes of a pool of their own. KWOK says what their pods do.
async fn pool(world: &World, name: &str, nodes: usize) {
    let api: Api<Node> = Api::all(world.client.clone());
    for number in 0..nodes {
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": format!("{name}-{number}"), "labels": {"pool": name},
                "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "spec": {"taints": [{"key": "pool", "value": name, "effect": "NoSchedule"}]}});
        let name = node["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&node)).await.unwrap();
        let room = json!({"status": {"allocatable": {"cpu": "100", "memory": "1Ti", "pods": "100"},
            "capacity": {"cpu": "100", "memory": "1Ti", "pods": "100"}}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&room)).await.unwrap();
    }
}

fn agent_of_nodes(pool: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: fraud}}
spec:
  selector: {{matchLabels: {{app: fraud}}}}
  {more}
  template:
    metadata: {{labels: {{app: fraud}}}}
    spec:
      nodeSelector: {{pool: {pool}}}
      tolerations: [{{operator: Exists}}]
      terminationGracePeriodSeconds: 0
      containers: [{{name: server, image: '{image}'}}]
"
    )
}

/// Versions by the nodes' names, in their order.
async fn versions(rolling: &Rolling<'_>) -> String {
    let pods = rolling.api::<Pod>().list(&ListParams::default().labels("app=fraud")).await.unwrap();
    let mut all: Vec<(String, String)> = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| {
            let spec = pod.spec.unwrap();
            (spec.node_name.unwrap_or_default(), spec.containers[0].image.clone().unwrap())
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, image)| image.replace("model:", "")).collect()
}

#[tokio::test]
async fn a_daemon_set_goes_by_a_share_of_its_nodes() {
    let world = &World::new("daemon-share").await;
    let rolling = Rolling { world };
    pool(world, "share", 4).await;
    let steps = policy(
        "canary: {steps: [{weight: 25, hold: promoted}, {weight: 60, hold: promoted}]}",
        "  progressDeadline: 8s\n  unschedulable: Reject\n",
    )
    .replace("kind: Deployment", "kind: DaemonSet");
    let set =
        |image: &str| agent_of_nodes("share", image, "updateStrategy: {rollingUpdate: {maxUnavailable: 2}}");
    let live = || async { rolling.api::<DaemonSet>().get("fraud").await.unwrap() };
    let strategy = || async { live().await.spec.unwrap().update_strategy.unwrap().type_.unwrap() };
    let first = rolling.commit(&[("fraud", &set("model:1")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    assert_eq!(versions(&rolling).await, "1111");

    rolling.commit(&[("fraud", &set("model:2"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (25 %): waits for").await;
    assert_eq!(versions(&rolling).await, "2111", "a quarter of four nodes, the first by name");
    assert_eq!(strategy().await, "OnDelete");
    let (code, text, errors) = cli(world, &["drift", "fraud"]).await;
    assert_eq!(code, 0, "{text}{errors}");
    assert!(text.contains("1 rolling out"), "{text}");
    // Somebody says another number of nodes: it is ours while the rollout lasts.
    let other = json!({"metadata": {"annotations": {"driftless.dev/nodes": "0"}}});
    let api = rolling.api::<DaemonSet>();
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    eventually("the number is set again", || async {
        (live().await.metadata.annotations.unwrap()["driftless.dev/nodes"] == "1").then_some(())
    })
    .await;
    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (60 %): waits for").await;
    assert_eq!(versions(&rolling).await, "2221", "rounded up");

    rolling.ask("Abort", "b").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    assert_eq!(status.rejected[0].why, "aborted by ada: a test");
    assert_eq!(versions(&rolling).await, "1111", "it is not back before its pods are");
    assert_eq!(strategy().await, "RollingUpdate");
    let annotations = live().await.metadata.annotations.unwrap();
    assert!(!annotations.contains_key("driftless.dev/nodes"), "{annotations:?}");

    // No node has what its pods ask for.
    let asks = "image: 'model:3', resources: {limits: {example.org/gpu: 1}}";
    rolling.commit(&[("fraud", &set("model:3").replace("image: 'model:3'", asks))], "Three");
    world.poke("fraud").await;
    let why =
        eventually("it is rejected", || async { Some(rolling.status().await.rejected.get(1)?.why.clone()) })
            .await;
    assert!(why.contains("0 of 1 pods are available") && why.contains("example.org/gpu"), "{why}");
    eventually("all pods are as before", || async { (versions(&rolling).await == "1111").then_some(()) })
        .await;

    // Where pods run is no matter of a share: the controller would take them off all other nodes at once.
    let elsewhere = set("model:4").replace("pool: share", "pool: share, disk: none");
    rolling.commit(&[("fraud", &elsewhere)], "Elsewhere");
    world.poke("fraud").await;
    eventually("it says why", || async {
        rolling.status().await.message.contains("nodeSelector").then_some(())
    })
    .await;
    assert_eq!(versions(&rolling).await, "1111");

    let last = rolling.commit(&[("fraud", &set("model:4"))], "Four");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (25 %): waits for").await;
    rolling.ask("PromoteFull", "c").await;
    world.ready("fraud", &last).await;
    assert_eq!(versions(&rolling).await, "4444");
    assert_eq!(strategy().await, "RollingUpdate");
    // It was good before: no step holds it.
    let back = rolling.commit(&[("fraud", &set("model:1"))], "Revert");
    world.poke("fraud").await;
    world.ready("fraud", &back).await;
    assert_eq!(versions(&rolling).await, "1111");
}

#[tokio::test]
async fn a_daemon_set_by_hand_is_the_rollouts_to_drive() {
    let world = &World::new("daemon-hand").await;
    let rolling = Rolling { world };
    pool(world, "hand", 3).await;
    let steps = policy("canary: {maxUnavailable: '1', steps: [{weight: 30, hold: promoted}]}", "")
        .replace("kind: Deployment", "kind: DaemonSet");
    let set = |image: &str| agent_of_nodes("hand", image, "updateStrategy: {type: OnDelete}");
    let first = rolling.commit(&[("fraud", &set("model:1")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.commit(&[("fraud", &set("model:2"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (30 %): waits for").await;
    assert_eq!(versions(&rolling).await, "211");
    // Another commit takes its place: the first nodes go back before others begin.
    let third = rolling.commit(&[("fraud", &set("model:3"))], "Three");
    world.poke("fraud").await;
    eventually("the third revision is on its way", || async {
        (versions(&rolling).await == "311").then_some(())
    })
    .await;
    rolling.says("step 1 of 2 (30 %): waits for").await;
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &third).await;
    assert_eq!(versions(&rolling).await, "333");
    // Good before, so without steps, and nobody but the agent replaces these pods.
    let back = rolling.commit(&[("fraud", &set("model:1"))], "Revert");
    world.poke("fraud").await;
    world.ready("fraud", &back).await;
    assert_eq!(versions(&rolling).await, "111");
}

/// What Argo Rollouts' controller heard: the field of the status, and the template that it was about.
type Heard = Arc<Mutex<Vec<String>>>;

/// The next status of a Rollout, as its controller goes through steps, pauses, promotions and aborts. A pod hash is the image.
fn next(live: &DynamicObject, heard: &Heard) -> Value {
    let (spec, mut status) = (&live.data["spec"], live.data["status"].clone());
    if !status.is_object() {
        status = json!({});
    }
    let hash = spec["template"]["spec"]["containers"][0]["image"].clone();
    let steps = spec["strategy"]["canary"]["steps"].as_array().unwrap();
    let heard = |word: &str| heard.lock().unwrap().push(format!("{word} {}", hash.as_str().unwrap()));
    let known = status["currentStepIndex"].as_u64().and_then(|index| usize::try_from(index).ok());
    let mut index = known.unwrap_or(0);
    let over = |status: &mut Value| {
        status["pauseConditions"] = Value::Null;
        status["controllerPause"] = false.into();
    };
    if status["currentPodHash"] != hash {
        status["currentPodHash"] = hash.clone();
        (status["abort"], status["promoteFull"]) = (false.into(), false.into());
        over(&mut status);
        if status["stableRS"].is_null() {
            status["stableRS"] = hash.clone();
        }
        index = if status["stableRS"] == hash { steps.len() } else { 0 };
    } else if status["stableRS"] == hash {
        status["abort"] = false.into();
    } else if status["promoteFull"] == true {
        heard("promoteFull");
        over(&mut status);
        status["promoteFull"] = false.into();
        status["stableRS"] = hash.clone();
        index = steps.len();
    } else if status["abort"] == true {
        over(&mut status);
        index = 0;
    } else if let Some(step) = steps.get(index) {
        let is_promoted = status["controllerPause"] == true && status["pauseConditions"].is_null();
        if step["pause"].is_null() || is_promoted {
            if is_promoted {
                heard("promote");
            }
            over(&mut status);
            index += 1;
        } else if status["pauseConditions"].is_null() {
            status["pauseConditions"] =
                json!([{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]);
            status["controllerPause"] = true.into();
        }
    } else {
        status["stableRS"] = hash.clone();
    }
    let is_bad = hash.as_str().unwrap().contains("bad");
    let (phase, message) = if status["abort"] == true {
        ("Degraded", "RolloutAborted: Rollout aborted update")
    } else if is_bad {
        ("Degraded", "ProgressDeadlineExceeded: ReplicaSet has timed out progressing")
    } else if !status["pauseConditions"].is_null() {
        ("Paused", "CanaryPauseStep")
    } else if status["stableRS"] == hash && index == steps.len() {
        ("Healthy", "")
    } else {
        ("Progressing", "more replicas need to be updated")
    };
    status["currentStepIndex"] = index.into();
    status["phase"] = phase.into();
    status["message"] = message.into();
    status["observedGeneration"] = live.metadata.generation.unwrap().to_string().into();
    status
}

async fn argo(api: Api<DynamicObject>, heard: Heard) {
    loop {
        for live in api.list(&ListParams::default()).await.unwrap() {
            let status = next(&live, &heard);
            if status != live.data["status"] {
                // Refused where somebody wrote meanwhile, and read again.
                let version = live.metadata.resource_version.clone();
                let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
                let name = live.metadata.name.unwrap();
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Notes what an object goes through, so that nothing which is short is missed.
async fn notes(api: Api<DynamicObject>, heard: Heard, note: fn(&Value) -> Option<String>) {
    let mut events = Box::pin(api.watch(&WatchParams::default(), "0").await.unwrap());
    while let Some(event) = events.try_next().await.unwrap() {
        let WatchEvent::Modified(live) = event else { continue };
        heard.lock().unwrap().extend(note(&live.data));
    }
}

/// Its template is taken back right after.
fn abort(live: &Value) -> Option<String> {
    let image = live["spec"]["template"]["spec"]["containers"][0]["image"].as_str()?;
    (live["status"]["abort"] == true).then(|| format!("abort {image}"))
}

#[tokio::test]
async fn a_rollout_of_argo_goes_its_own_steps_and_is_judged() {
    let world = &World::new("argo-steps").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::ARGO_ROLLOUTS_CRDS, &["Rollout"]).await;
    let kind = resource("argoproj.io", "v1alpha1", "Rollout", "rollouts");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let heard = Heard::default();
    tokio::spawn(argo(api.clone(), heard.clone()));
    tokio::spawn(notes(api.clone(), heard.clone(), abort));
    let rollout = |image: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: fraud}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: fraud}}}}\n  strategy: {{canary: {{steps: [{{setWeight: 20}}, {{pause: {{}}}}, {{setWeight: 60}}, {{pause: {{}}}}]}}}}\n  template:\n    metadata: {{labels: {{app: fraud}}}}\n    spec: {{containers: [{{name: server, image: '{image}'}}]}}\n"
        )
    };
    let gate = "  progressDeadline: 2s\n  gates:\n  - {name: drift, interval: 1s, object: {apiVersion: v1, kind: ConfigMap, name: scores, pass: 'object.data.value == \"good\"'}}\n";
    let rolls = policy("rolling: {background: [drift]}", gate)
        .replace("apps/v1, kind: Deployment", "argoproj.io/v1alpha1, kind: Rollout");
    let good = map("scores", "good");
    let files =
        |image: &str| [("fraud", rollout(image)), ("policy", rolls.clone()), ("scores", good.clone())];
    let commit = |image: &str| {
        let files = files(image);
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        rolling.commit(&files, image)
    };
    let image = || async {
        let live = api.get("fraud").await.unwrap().data;
        live["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    let first = commit("model:1");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;

    let second = commit("model:2");
    world.poke("fraud").await;
    rolling.says("step 1 of 1 (100 %): paused at its step 2 of 4").await;
    // It waits for a person, so no deadline counts.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(rolling.status().await.phase, RolloutPhase::Progressing);
    rolling.ask("Promote", "a").await;
    rolling.says("step 1 of 1 (100 %): paused at its step 4 of 4").await;
    assert_eq!(rolling.status().await.acts.len(), 1);
    rolling.ask("Promote", "b").await;
    world.ready("fraud", &second).await;
    assert_eq!(*heard.lock().unwrap(), ["promote model:2", "promote model:2"]);

    // Our gate fails between its steps.
    commit("model:3");
    world.poke("fraud").await;
    rolling.says("step 1 of 1 (100 %): paused at its step 2 of 4").await;
    rolling.commit(&[("scores", &map("scores", "bad"))], "Scores");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    assert!(status.rejected[0].why.starts_with("gate drift: "), "{}", status.rejected[0].why);
    assert!(heard.lock().unwrap().contains(&"abort model:3".to_owned()), "{heard:?}");
    let live = api.get("fraud").await.unwrap().data;
    assert_eq!((image().await.as_str(), &live["status"]["phase"]), ("model:2", &json!("Healthy")));

    // Its own controller gives it up.
    commit("model:bad");
    world.poke("fraud").await;
    let why =
        eventually("it is rejected", || async { Some(rolling.status().await.rejected.get(1)?.why.clone()) })
            .await;
    assert!(why.contains("given it up: ProgressDeadlineExceeded"), "{why}");
    eventually("the stable revision is back", || async { (image().await == "model:2").then_some(()) }).await;

    let last = commit("model:4");
    world.poke("fraud").await;
    rolling.says("step 1 of 1 (100 %): paused at its step 2 of 4").await;
    rolling.ask("PromoteFull", "c").await;
    world.ready("fraud", &last).await;
    assert!(heard.lock().unwrap().contains(&"promoteFull model:4".to_owned()), "{heard:?}");
    // Good before, so it goes without steps, of its own either.
    let back = commit("model:2");
    world.poke("fraud").await;
    world.ready("fraud", &back).await;
    assert!(heard.lock().unwrap().contains(&"promoteFull model:2".to_owned()), "{heard:?}");
}

/// A kind of somebody's: workers behind a scale subresource.
fn pools() -> CustomResourceDefinition {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "pools.tests.example.org"},
        "spec": {"group": "tests.example.org", "scope": "Namespaced",
            "names": {"kind": "Pool", "plural": "pools", "singular": "pool"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                    "statusReplicasPath": ".status.workers", "labelSelectorPath": ".status.selector"}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}}]}}))
    .unwrap()
}

/// The controller of pools: a Deployment for each, whose status is theirs by other names.
async fn pool_controller(pools: Api<DynamicObject>, deployments: Api<Deployment>) {
    loop {
        for live in pools.list(&ListParams::default()).await.unwrap() {
            let name = live.metadata.name.clone().unwrap();
            let (spec, under) = (&live.data["spec"], format!("pool-{name}"));
            let made = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": under,
                    "ownerReferences": [{"apiVersion": "tests.example.org/v1", "kind": "Pool", "name": name,
                        "uid": live.metadata.uid, "controller": true}]},
                "spec": {"replicas": spec["size"], "selector": {"matchLabels": spec["workers"]["labels"]},
                    "template": spec["workers"]["template"]}});
            let parameters = PatchParams::apply("tests").force();
            // One that goes meanwhile has nothing under it.
            let Ok(under) = deployments.patch(&under, &parameters, &Patch::Apply(&made)).await else {
                continue;
            };
            let found = serde_json::to_value(&under).unwrap();
            let seen = found["status"]["observedGeneration"] == found["metadata"]["generation"];
            let number = |field: &str| found["status"][field].as_u64().unwrap_or(0);
            let status = json!({"observedGeneration": if seen { live.metadata.generation } else { None },
                "workers": number("replicas"), "fresh": number("updatedReplicas"), "ready": number("availableReplicas")});
            if !seen || status == live.data["status"] {
                continue;
            }
            let patch = Patch::Merge(json!({ "status": status }));
            let _ = pools.patch_status(&name, &PatchParams::default(), &patch).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_kind_that_a_policy_describes_has_a_twin() {
    let world = &World::new("declared").await;
    let rolling = Rolling { world };
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let applied = PatchParams::apply("tests").force();
    definitions.patch("pools.tests.example.org", &applied, &Patch::Apply(pools())).await.unwrap();
    let kind = resource("tests.example.org", "v1", "Pool", "pools");
    let pools: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    eventually("pools are served", || async { pools.list(&ListParams::default()).await.ok() }).await;
    tokio::spawn(pool_controller(pools.clone(), rolling.api()));
    let pool = |image: &str, size: u32| {
        format!(
            "apiVersion: tests.example.org/v1\nkind: Pool\nmetadata: {{name: fraud}}\nspec:\n  size: {size}\n  workers:\n    labels: {{app: fraud}}\n    template:\n      metadata: {{labels: {{app: fraud}}}}\n      spec:\n        volumes: [{{name: c, configMap: {{name: settings}}}}]\n        containers: [{{name: server, image: '{image}', ports: [{{name: http, containerPort: 8080}}]}}]\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: fraud}}\nspec: {{selector: {{app: fraud}}, ports: [{{name: http, port: 80, targetPort: http}}]}}\n"
        )
    };
    let fields = "fields: {template: spec.workers.template, selector: spec.workers.labels, replicas: spec.size, pods: status.workers, updated: status.fresh, available: status.ready}";
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "  progressDeadline: 20s\n")
        .replace(
            "{apiVersion: apps/v1, kind: Deployment, name: fraud}",
            &format!("{{apiVersion: tests.example.org/v1, kind: Pool, name: fraud, {fields}}}"),
        );
    let image = |name: &'static str| {
        let pools = pools.clone();
        async move {
            let spec = pools.get(name).await.unwrap().data["spec"].clone();
            let image = &spec["workers"]["template"]["spec"]["containers"][0]["image"];
            (image.as_str().unwrap().to_owned(), spec["size"].as_u64().unwrap())
        }
    };
    let settings = map("settings", "one");
    let first =
        rolling.commit(&[("fraud", &pool("model:1", 4)), ("policy", &steps), ("settings", &settings)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    eventually("four endpoints", || async { (rolling.endpoints("fraud").await == 4).then_some(()) }).await;

    rolling.commit(&[("fraud", &pool("model:2", 4)), ("settings", &map("settings", "two"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    assert_eq!(image("fraud").await, ("model:1".to_owned(), 2));
    assert_eq!(image("fraud-candidate").await, ("model:2".to_owned(), 2));
    assert_eq!(rolling.deployment("pool-fraud").await.unwrap().status.unwrap().replicas, Some(2));
    eventually("half of the endpoints each", || async {
        (rolling.endpoints("fraud").await == 4).then_some(())
    })
    .await;
    assert_eq!(world.value("settings").await.as_deref(), Some("one"));
    assert_eq!(world.value("settings-candidate").await.as_deref(), Some("two"));
    rolling.ask("Abort", "a").await;
    rolling.phase(RolloutPhase::Rejected).await;
    eventually("the twin is gone", || async {
        pools.get_opt("fraud-candidate").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(image("fraud").await, ("model:1".to_owned(), 4));

    let third = rolling.commit(&[("fraud", &pool("model:3", 5))], "Three");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    rolling.ask("Promote", "b").await;
    world.ready("fraud", &third).await;
    assert_eq!(image("fraud").await, ("model:3".to_owned(), 5));
    assert!(pools.get_opt("fraud-candidate").await.unwrap().is_none());
    eventually("five endpoints", || async { (rolling.endpoints("fraud").await == 5).then_some(()) }).await;

    // All of it at once, by the selector of the Service.
    let both = steps.replace(
        "canary: {steps: [{weight: 50, hold: promoted}]}",
        "blueGreen: {hold: promoted, scaleDownDelay: 1s}",
    );
    let last = rolling.commit(&[("fraud", &pool("model:4", 5)), ("policy", &both)], "Four");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (0 %): waits for").await;
    let services = rolling.api::<Service>();
    let selector = |name: &'static str| {
        let services = services.clone();
        async move { services.get(name).await.unwrap().spec.unwrap().selector.unwrap()["app"].clone() }
    };
    assert_eq!(
        (selector("fraud").await, selector("fraud-candidate").await),
        ("fraud".into(), "fraud-candidate".into())
    );
    rolling.ask("Promote", "c").await;
    eventually("the Service is turned", || async {
        (selector("fraud").await == "fraud-candidate").then_some(())
    })
    .await;
    world.ready("fraud", &last).await;
    assert_eq!((selector("fraud").await, image("fraud").await.0), ("fraud".into(), "model:4".into()));
}

/// KServe without Knative: it says of each canary whether it is there, and a route of its own divides the traffic, where this
/// KServe makes one. `0.20.0` does not.
async fn kserve(services: Api<DynamicObject>, routes: Api<DynamicObject>, divides: bool) {
    loop {
        for live in services.list(&ListParams::default()).await.unwrap() {
            let name = live.metadata.name.clone().unwrap();
            let canary = &live.data["spec"]["canary"][0];
            let loads = |predictor: &Value| {
                predictor["minReplicas"] != 0
                    && !predictor["model"]["storageUri"].as_str().unwrap().contains("bad")
            };
            let ready = canary.is_object() && loads(&canary["predictor"]);
            let share = canary["trafficPercent"].as_u64().unwrap_or(0);
            let own = &canary["predictor"]["name"];
            let statuses = json!([{"name": own, "ready": ready, "trafficPercent": share, "modelStatus": {"transitionStatus": "UpToDate"}}]);
            let status = json!({"observedGeneration": live.metadata.generation, "deploymentMode": "Standard",
                "canaryStatuses": if canary.is_object() { statuses } else { Value::Null },
                "modelStatus": {"transitionStatus": "UpToDate"},
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            if status["observedGeneration"] == live.data["status"]["observedGeneration"] {
                continue;
            }
            let stable = format!("{name}-predictor");
            let mut backends = vec![
                json!({"name": stable, "port": 80, "weight": if ready && divides { 100 - share } else { 100 }}),
            ];
            if ready && divides {
                backends.push(json!({"name": format!("{name}-{}-predictor", own.as_str().unwrap()), "port": 80, "weight": share}));
            }
            let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
                "spec": {"parentRefs": [{"name": "web"}], "rules": [{"backendRefs": backends}]}});
            routes.patch(&name, &PatchParams::apply("kserve").force(), &Patch::Apply(&route)).await.unwrap();
            let patch = Patch::Merge(json!({ "status": status }));
            services.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn standard(uri: &str) -> String {
    format!(
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: fraud, annotations: {{serving.kserve.io/deploymentMode: Standard}}}}\nspec:\n  predictor:\n    minReplicas: 4\n    model: {{modelFormat: {{name: sklearn}}, storageUri: '{uri}'}}\n"
    )
}

/// A model, and the share of the canary beside it.
fn both(live: &Value) -> Option<String> {
    let percent = live["spec"]["canary"][0]["trafficPercent"].as_u64()?;
    Some(format!("{} {percent}", live["spec"]["predictor"]["model"]["storageUri"].as_str()?))
}

/// A world with KServe, and its first model.
async fn served<'a>(
    world: &'a World,
    divides: bool,
    steps: &str,
) -> (Rolling<'a>, Api<DynamicObject>, Api<DynamicObject>) {
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::KSERVE, &["InferenceService"]).await;
    crds::install(&world.client, &crds::GATEWAY, &["HTTPRoute"]).await;
    let of = |kind| Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let services: Api<DynamicObject> =
        of(resource("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"));
    let routes: Api<DynamicObject> =
        of(resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"));
    tokio::spawn(gateway(routes.clone()));
    tokio::spawn(kserve(services.clone(), routes.clone(), divides));
    let steps = policy(steps, "  progressDeadline: 4s\n  abortScaleDownDelay: 1s\n")
        .replace("apps/v1, kind: Deployment", "serving.kserve.io/v1beta1, kind: InferenceService");
    let first = rolling.commit(&[("model", &standard("s3://m/1")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    (rolling, services, routes)
}

#[tokio::test]
async fn an_inference_service_without_knative_has_a_canary_in_its_list() {
    let world = &World::new("kserve-list").await;
    let steps = "canary: {steps: [{weight: 10, hold: promoted}, {weight: 50, hold: promoted}]}";
    let (rolling, services, routes) = served(world, true, steps).await;
    let spec = || async { services.get("fraud").await.unwrap().data["spec"].clone() };
    rolling.commit(&[("model", &standard("s3://m/2"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (10 %): waits for").await;
    let live = spec().await;
    assert_eq!(live["predictor"]["model"]["storageUri"], "s3://m/1", "the stable revision's");
    let canary = &live["canary"][0];
    assert_eq!((&canary["trafficPercent"], &canary["predictor"]["minReplicas"]), (&json!(10), &json!(1)));
    assert_eq!(canary["predictor"]["model"]["storageUri"], "s3://m/2");
    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (50 %): waits for").await;
    let route = routes.get("fraud").await.unwrap().data;
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][1]["weight"], 50);
    assert_eq!(spec().await["canary"][0]["predictor"]["minReplicas"], 2);
    rolling.ask("Abort", "b").await;
    rolling.phase(RolloutPhase::Rejected).await;
    let live = spec().await;
    assert_eq!(
        (&live["predictor"]["model"]["storageUri"], &live["canary"]),
        (&json!("s3://m/1"), &Value::Null)
    );

    // One that never loads gets nothing.
    rolling.commit(&[("model", &standard("s3://m/bad"))], "Three");
    world.poke("fraud").await;
    eventually("it is rejected", || async { (rolling.status().await.rejected.len() == 2).then_some(()) })
        .await;
    assert_eq!(spec().await["canary"], Value::Null);

    let heard = Heard::default();
    tokio::spawn(notes(services.clone(), heard.clone(), both));
    let last = rolling.commit(&[("model", &standard("s3://m/4"))], "Four");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (10 %): waits for").await;
    rolling.ask("PromoteFull", "c").await;
    world.ready("fraud", &last).await;
    let live = services.get("fraud").await.unwrap();
    assert_eq!(live.data["spec"]["predictor"]["model"]["storageUri"], "s3://m/4");
    assert_eq!(live.data["spec"]["canary"], Value::Null);
    assert!(!live.metadata.annotations.unwrap().contains_key("driftless.dev/keeps"));
    let kept = "s3://m/4 100".to_owned();
    assert!(heard.lock().unwrap().contains(&kept), "its canary goes after it is up: {heard:?}");
}

#[tokio::test]
async fn a_share_that_nobody_divides_is_not_taken_for_one() {
    let world = &World::new("kserve-echo").await;
    let (rolling, services, _) = served(world, false, "canary: {steps: [{weight: 10, hold: 1s}]}").await;
    rolling.commit(&[("model", &standard("s3://m/2"))], "Two");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(why.contains("the router is to send 10 %"), "{why}");
    let live = services.get("fraud").await.unwrap().data;
    assert_eq!(live["spec"]["predictor"]["model"]["storageUri"], "s3://m/1");
}
