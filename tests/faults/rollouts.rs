//! Rollouts that are disturbed.

use driftless::api::RolloutPhase;
use futures::FutureExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::killed::{Kills, after_any_write, writes};
use super::{agent, world};
use crate::agent::{World, map};
use crate::canary::{Rolling, fraud, policy};
use crate::harness::eventually;
use crate::harness::fault::Proxy;

/// What is compared with the reference run.
#[derive(Debug, PartialEq, Eq)]
struct End {
    images: Vec<(String, String, i32)>,
    /// Versions of the target that there ever were: a step that is taken twice makes no other.
    sets: usize,
    settings: Vec<(String, String)>,
    slices: usize,
    stable: String,
    good: usize,
    rejected: Vec<(String, String)>,
    acts: Vec<String>,
    ready: Vec<String>,
}

fn mounted(image: &str) -> String {
    fraud(image, 2, "").replace(
        "      containers:",
        "      volumes: [{name: c, configMap: {name: settings}}]\n      terminationGracePeriodSeconds: 0\n      containers:",
    )
}

/// A rollout to its end, one that somebody aborts, and one that is promoted by hand.
async fn course(world: &World, _: &Proxy) -> End {
    let rolling = Rolling { world };
    let steps = policy("canary: {steps: [{weight: 50}]}", "  abortScaleDownDelay: 1s\n");
    let held = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "  abortScaleDownDelay: 1s\n");
    let first = rolling.commit(
        &[("fraud", &mounted("model:1")), ("policy", &steps), ("settings", &map("settings", "one"))],
        "One",
    );
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let second =
        rolling.commit(&[("fraud", &mounted("model:2")), ("settings", &map("settings", "two"))], "Two");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    rolling.commit(&[("policy", &held), ("settings", &map("settings", "three"))], "Three");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    rolling.ask("Abort", "a").await;
    rolling.phase(RolloutPhase::Rejected).await;
    let fourth = rolling.commit(&[("settings", &map("settings", "four"))], "Four");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    rolling.ask("Promote", "b").await;
    world.ready("fraud", &fourth).await;
    let status = rolling.phase(RolloutPhase::Healthy).await;
    rolling.gone("fraud-candidate").await;
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(world.client.clone(), &world.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
    let ours = ListParams::default().labels("driftless.dev/application");
    let settings = eventually("the copies are gone", || async {
        let all = maps.list(&ours).await.ok()?;
        let value = |map: &ConfigMap| map.data.as_ref()?.get("value").cloned();
        let all: Vec<(String, String)> =
            all.iter().map(|map| (map.name_any(), value(map).unwrap_or_default())).collect();
        (all.len() == 1).then_some(all)
    })
    .await;
    let images = deployments.list(&ListParams::default()).await.unwrap().into_iter().map(|found| {
        let name = found.name_any();
        let spec = found.spec.unwrap();
        let image = spec.template.spec.unwrap().containers[0].image.clone().unwrap();
        (name, image, spec.replicas.unwrap())
    });
    let app = world.apps().get("fraud").await.unwrap().status.unwrap();
    End {
        images: images.collect(),
        sets: sets
            .list(&ListParams::default())
            .await
            .unwrap()
            .iter()
            .filter(|set| !set.name_any().contains("candidate"))
            .count(),
        settings,
        slices: slices.list(&ours).await.unwrap().items.len(),
        stable: if status.stable.unwrap().commit == fourth { "four".into() } else { String::new() },
        good: status.good.len(),
        rejected: status.rejected.into_iter().map(|one| (String::new(), one.why)).collect(),
        acts: status.acts.into_iter().map(|act| act.id).collect(),
        ready: app.history.into_iter().map(|entry| entry.subject).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_write_a_rollout_comes_to_the_same_end() {
    let (reference, all) = {
        let (world, proxy) = world("rolled-reference").await;
        let _agent = agent(&world, &proxy);
        let end = course(&world, &proxy).await;
        assert_eq!(end.images, [("fraud".to_owned(), "model:2".to_owned(), 2)]);
        assert_eq!(end.rejected, [(String::new(), "aborted by ada: a test".to_owned())]);
        (end, writes(&proxy))
    };
    assert!(all > 40, "{all} writes");
    // All of them are some 120 runs of 15 s; `make faults` does them.
    let every = if std::env::var_os("DRIFTLESS_EVERY_WRITE").is_some() { 1 } else { 4 };
    let kills = Kills { every, all, fewer: all / 4 };
    after_any_write("rolled", |world, proxy| course(world, proxy).boxed(), &reference, kills).await;
}

/// A Job of a gate is found again by the next agent, which also ends what nobody remembers to have begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_gate_outlives_its_agent_and_not_its_rollout() {
    let (world, proxy) = world("rolled-jobs").await;
    let rolling = Rolling { world: &world };
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let running = agent(&world, &proxy);
    let gate = "  abortScaleDownDelay: 1s
  gates: [{name: never, job: {template: {template: {spec: {nodeSelector: {no: such}, containers: [{name: a, image: x}]}}}}}]
";
    let steps = policy("canary: {steps: [{weight: 50, gates: [never]}]}", gate);
    let first = rolling.commit(&[("fraud", &fraud("model:1", 2, "")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    world.poke("fraud").await;
    let all = async || jobs.list(&ListParams::default()).await.unwrap().items;
    let job = eventually("the gate is asked", || async { all().await.pop() }).await;
    running.kill();

    let running = agent(&world, &proxy);
    let asked = || proxy.count("get", &format!("/jobs/{}", job.name_any()));
    let before = asked();
    eventually("the next agent looks at it", || async { (asked() > before + 1).then_some(()) }).await;
    let still = all().await;
    assert_eq!(still.len(), 1, "it makes no other");
    assert_eq!(still[0].uid(), job.uid());
    running.kill();

    rolling.ask("Abort", "a").await;
    let _running = agent(&world, &proxy);
    rolling.phase(RolloutPhase::Rejected).await;
    eventually("the Job is gone", || async { all().await.is_empty().then_some(()) }).await;
}
