//! Rollouts on nodes that are full, with the real scheduler: GPUs are a resource that few nodes have a few of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driftless::api::{ConditionStatus, RolloutPhase, RolloutStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::agent::World;
use crate::canary::{Rolling, fraud, gateway, policy, resource, shown, weights};
use crate::harness::{crds, eventually};

/// A node that has so many of a resource.
struct Gpus {
    nodes: Api<Node>,
    node: String,
    resource: String,
}

impl Gpus {
    async fn new(world: &World, count: u32) -> Self {
        let nodes: Api<Node> = Api::all(world.client.clone());
        let (node, resource) =
            (format!("gpu-{}", world.namespace), format!("{}.example/gpu", world.namespace));
        let has = json!({"cpu": "100", "memory": "1Ti", "pods": "1000", &resource: count.to_string()});
        let made = json!({"metadata": {"name": node, "annotations": {"kwok.x-k8s.io/node": "fake"}},
            "status": {"allocatable": has, "capacity": has}});
        let made: Node = serde_json::from_value(made).unwrap();
        nodes.create(&PostParams::default(), &made).await.unwrap();
        Self { nodes, node, resource }
    }

    async fn becomes(&self, count: u32) {
        let has = json!({&self.resource: count.to_string()});
        let patch = Patch::Merge(json!({"status": {"allocatable": has, "capacity": has}}));
        self.nodes.patch_status(&self.node, &PatchParams::default(), &patch).await.unwrap();
    }

    /// A Deployment whose pods want one each.
    fn fraud(&self, image: &str, replicas: u32) -> String {
        let wants = format!("resources: {{limits: {{{}: 1}}}}, ports:", self.resource);
        fraud(image, replicas, "").replacen("ports:", &wants, 1).replacen(
            "      containers:",
            "      terminationGracePeriodSeconds: 0\n      containers:",
            1,
        )
    }
}

fn stalled(status: &RolloutStatus) -> Option<&str> {
    let mut all = status.conditions.iter();
    let found = all.find(|one| one.kind == "Stalled" && one.status == ConditionStatus::True)?;
    Some(&found.reason)
}

/// Counts the pods that serve, of both sides together, until it is dropped.
struct Watched {
    least: std::sync::Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    fn new(world: &World) -> Self {
        let least = std::sync::Arc::new(AtomicUsize::new(usize::MAX));
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
        let seen = least.clone();
        let serves = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let is_ready = conditions
                .is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"));
            is_ready && pod.metadata.deletion_timestamp.is_none()
        };
        let task = tokio::spawn(async move {
            loop {
                if let Ok(all) = pods.list(&ListParams::default()).await {
                    seen.fetch_min(all.iter().filter(|pod| serves(pod)).count(), Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { least, task }
    }

    fn least(&self) -> usize {
        self.least.load(Ordering::Relaxed)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn gpus_that_are_all_taken_hold_a_rollout_until_one_is_free() {
    let world = &World::new("places-held").await;
    let rolling = Rolling { world };
    let gpus = Gpus::new(world, 2).await;
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "  progressDeadline: 3s\n");
    let first = rolling.commit(&[("fraud", &gpus.fraud("model:1", 2)), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;

    let second = rolling.commit(&[("fraud", &gpus.fraud("model:2", 2))], "Two");
    world.poke("fraud").await;
    let status = rolling
        .says("step 1 of 2 (50 %): 0 of 1 pods are available: a pod cannot be scheduled: fraud-candidate-")
        .await;
    let wants = format!(" wants 1 {}, which no node for it has free (0/", gpus.resource);
    assert!(status.message.contains(&wants), "{}", status.message);
    assert!(status.message.ends_with("; it waits for a place, without a deadline"), "{}", status.message);
    assert_eq!(stalled(&status), Some("Unschedulable"));
    let (kind, note) = world.event("Unschedulable", "which no node for it has free").await;
    assert_eq!(kind, "Warning", "{note}");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let status = rolling.status().await;
    assert_eq!((status.phase, status.weight), (RolloutPhase::Progressing, 0), "{}", status.message);
    assert_eq!((rolling.size("fraud").await, rolling.endpoints("fraud").await), (2, 2));
    let message = world.reason("fraud", "Ready", "RollingOut").await;
    assert!(message.contains(&wants), "{message}");

    gpus.becomes(3).await;
    let status = rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    assert_eq!((stalled(&status), &*status.unschedulable_at), (None, ""));
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &second).await;
    assert_eq!(rolling.image("fraud").await, "model:2");
}

#[tokio::test]
async fn stable_pods_make_place_one_by_one() {
    let world = &World::new("places-made").await;
    let rolling = Rolling { world };
    let gpus = Gpus::new(world, 4).await;
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "  unschedulable: NoSurge\n");
    let first = rolling.commit(&[("fraud", &gpus.fraud("model:1", 4)), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let watched = Watched::new(world);
    let second = rolling.commit(&[("fraud", &gpus.fraud("model:2", 4))], "Two");
    world.poke("fraud").await;
    let status = rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    assert!(status.without_surge);
    assert_eq!(stalled(&status), None);
    assert_eq!((rolling.size("fraud").await, rolling.size("fraud-candidate").await), (2, 2));
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &second).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:2".into(), 4));
    assert!(watched.least() >= 3, "{} pods served", watched.least());
    assert!(!rolling.status().await.without_surge);

    // Back it goes in the same way.
    rolling.commit(&[("fraud", &gpus.fraud("model:3", 4))], "Three");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    rolling.ask("Abort", "b").await;
    rolling.phase(RolloutPhase::Rejected).await;
    eventually("all pods are stable", || async { (rolling.endpoints("fraud").await == 4).then_some(()) })
        .await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:2".into(), 4));
    assert!(watched.least() >= 3, "{} pods served", watched.least());
}

#[tokio::test]
async fn a_route_follows_pods_that_make_place() {
    let world = &World::new("places-routed").await;
    let rolling = Rolling { world };
    let gpus = Gpus::new(world, 2).await;
    crds::install(&world.client, &crds::GATEWAY, &["HTTPRoute"]).await;
    let kind = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    tokio::spawn(gateway(api.clone()));
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: fraud}\nspec:\n  parentRefs: [{name: web}]\n  rules:\n  - backendRefs: [{name: fraud, port: 80}]\n";
    let routed =
        "  traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}]}\n";
    let steps =
        |more: &str| policy("canary: {steps: [{weight: 50, hold: promoted}]}", &format!("{routed}{more}"));
    let places = steps("  unschedulable: NoSurge\n");
    let first =
        rolling.commit(&[("fraud", &gpus.fraud("model:1", 2)), ("policy", &places), ("route", route)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let live = || async { shown(&weights(&api.get("fraud").await.unwrap())[0]) };

    let watched = Watched::new(world);
    let second = rolling.commit(&[("fraud", &gpus.fraud("model:2", 2))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    assert_eq!((rolling.size("fraud").await, rolling.size("fraud-candidate").await), (1, 1));
    assert_eq!(live().await, "fraud 50, fraud-candidate 50");
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &second).await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:2".into(), 2));
    assert_eq!(live().await, "fraud 1");
    assert!(watched.least() >= 1, "no pod served");

    // There is a place for the candidate, and none for the target's change after it: its old pods, which have no traffic,
    // make it, whatever the policy says.
    gpus.becomes(4).await;
    let third = rolling.commit(&[("fraud", &gpus.fraud("model:3", 2)), ("policy", &steps(""))], "Three");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    assert_eq!((rolling.size("fraud").await, rolling.size("fraud-candidate").await), (2, 1));
    rolling.ask("Promote", "b").await;
    world.ready("fraud", &third).await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:3".into(), 2));
    rolling.gone("fraud-candidate").await;
}
