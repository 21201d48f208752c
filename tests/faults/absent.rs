//! Rollouts whose agent was away for an hour, or whose clock was wrong.
//!
//! Whether an hour passes, or the times of the status move by one while nobody looks, is the same to the next agent.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::api::{ConditionStatus, RolloutPhase, RolloutPolicy, RolloutStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{agent, world};
use crate::agent::{World, map};
use crate::canary::{Rolling, fraud, gateway, policy, resource, shown, weights};
use crate::harness::git::Fault;
use crate::harness::{crds, eventually};

const HOUR: i64 = 3600;

fn shifted(value: &mut Value, seconds: i64) {
    let Some(text) = value.as_str() else { return };
    let time: Timestamp = text.parse().unwrap();
    *value = (time + SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
}

/// Moves all times of a rollout that its machine reads.
async fn shift(rolling: &Rolling<'_>, seconds: i64) {
    let mut status = serde_json::to_value(rolling.status().await).unwrap();
    let mut patch = json!({});
    for field in ["reachedAt", "bestAt", "drainedAt", "unschedulableAt"] {
        shifted(&mut status[field], seconds);
        patch[field] = status[field].clone();
    }
    for gate in status["gates"].as_array_mut().into_iter().flatten() {
        shifted(&mut gate["since"], seconds);
        shifted(&mut gate["measuredAt"], seconds);
    }
    patch["gates"] = status["gates"].clone();
    let patch = Patch::Merge(json!({"status": patch}));
    rolling.api::<RolloutPolicy>().patch_status("fraud", &PatchParams::default(), &patch).await.unwrap();
}

fn stalled(status: &RolloutStatus) -> Option<&str> {
    let mut all = status.conditions.iter();
    let found = all.find(|one| one.kind == "Stalled" && one.status == ConditionStatus::True)?;
    Some(&found.reason)
}

/// A gate that passes while the ConfigMap says so.
fn gate(name: &str, more: &str) -> String {
    format!(
        "  - {{name: {name}, {more}, object: {{apiVersion: v1, kind: ConfigMap, name: scores, pass: 'object.data.value == \"good\"'}}}}\n"
    )
}

async fn begun(world: &World, policy: &str) -> String {
    let rolling = Rolling { world };
    let first = rolling.commit(
        &[("fraud", &fraud("model:1", 2, "")), ("policy", policy), ("scores", &map("scores", "good"))],
        "One",
    );
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    first
}

/// Another model, as far as the policy says this.
async fn two(rolling: &Rolling<'_>, says: &str) {
    rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    rolling.world.poke("fraud").await;
    rolling.says(says).await;
}

/// The target's own pods will not be available for long: its size and the like are no revision.
async fn slowed(rolling: &Rolling<'_>) {
    let slow = fraud("model:2", 2, "").replacen("  replicas:", "  minReadySeconds: 500\n  replicas:", 1);
    let commit = rolling.commit(&[("fraud", &slow)], "Slow");
    rolling.world.poke("fraud").await;
    eventually("the newest commit is known", || async {
        let status = rolling.world.apps().get("fraud").await.unwrap().status.unwrap();
        (status.observed_revision == commit).then_some(())
    })
    .await;
}

/// The deadline is not of the time in which nobody looked; a hold that ended meanwhile skips no gate of the background.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_an_agent_rejects_nothing_and_skips_no_gate() {
    let (world, proxy) = world("absent-hold").await;
    let rolling = Rolling { world: &world };
    let gates = format!("  unschedulable: Reject\n  gates:\n{}", gate("sane", "interval: 1s"));
    let strategy =
        "canary: {steps: [{weight: 50, hold: 20m}, {weight: 75, hold: promoted}], background: [sane]}";
    let steps = policy(strategy, &gates);
    let running = agent(&world, &proxy);
    begun(&world, &steps).await;
    let spread = fraud("model:2", 2, "absent");
    let spread = spread.replace("{disk: absent}, containers:", "{disk: absent}\n      containers:");
    rolling.commit(&[("fraud", &spread)], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (50 %): 0 of 1 pods are available").await;
    running.kill();
    shift(&rolling, -HOUR).await;
    let running = agent(&world, &proxy);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let status = rolling.status().await;
    assert_eq!(status.phase, RolloutPhase::Progressing, "{:?}", status.rejected);
    // A node takes it at last.
    let label = Patch::Merge(json!({"metadata": {"labels": {"disk": "absent"}}}));
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.patch("node-0", &PatchParams::default(), &label).await.unwrap();
    rolling.says("step 1 of 3 (50 %): held until").await;

    // The hold ends while nobody looks, and what the gate asks about turns bad.
    running.kill();
    shift(&rolling, -HOUR).await;
    rolling.commit(&[("scores", &map("scores", "bad"))], "Bad");
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (steps, api) = (seen.clone(), rolling.api::<RolloutPolicy>());
    let watch = tokio::spawn(async move {
        loop {
            let status = api.get("fraud").await.unwrap().status.unwrap();
            steps.lock().unwrap().insert((status.step, status.weight));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let _running = agent(&world, &proxy);
    let status = rolling.phase(RolloutPhase::Rejected).await;
    watch.abort();
    assert!(status.rejected[0].why.starts_with("gate sane: 1 measurement failed"), "{:?}", status.rejected);
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().all(|(step, weight)| *step == 0 && *weight <= 50), "{seen:?}");
}

/// Half of the measurements of a gate, and a pause.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_an_agent_doubles_no_step_and_ends_no_pause() {
    let (world, proxy) = world("absent-gate").await;
    let rolling = Rolling { world: &world };
    let gates = format!("  gates:\n{}", gate("sane", "interval: 30m, count: 2"));
    let strategy = "canary: {steps: [{weight: 50, gates: [sane]}, {weight: 75, hold: 20m}, {weight: 90, hold: promoted}]}";
    let running = agent(&world, &proxy);
    begun(&world, &policy(strategy, &gates)).await;
    two(&rolling, "step 1 of 4 (50 %): waits for gate sane 1 of 2").await;
    running.kill();
    shift(&rolling, -HOUR).await;
    let running = agent(&world, &proxy);
    let status = rolling.says("step 2 of 4 (75 %): held until").await;
    assert_eq!((status.step, status.weight), (1, 75));
    rolling.ask("Pause", "a").await;
    rolling.says("step 2 of 4 (75 %): paused by ada").await;
    running.kill();
    shift(&rolling, -HOUR).await;
    let running = agent(&world, &proxy);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let status = rolling.says("step 2 of 4 (75 %): paused by ada").await;
    assert_eq!((status.step, status.phase), (1, RolloutPhase::Progressing));
    rolling.ask("Resume", "b").await;
    let status = rolling.says("step 3 of 4 (90 %): waits for `driftless rollout promote`").await;
    assert_eq!(status.step, 2);

    // A clock that was an hour ahead, and is right again.
    running.kill();
    shift(&rolling, HOUR).await;
    let _running = agent(&world, &proxy);
    eventually("its times are of the past", || async {
        let reached: Timestamp = rolling.status().await.reached_at.parse().unwrap();
        (reached <= Timestamp::now()).then_some(())
    })
    .await;
    rolling.ask("Promote", "c").await;
    let status = rolling.phase(RolloutPhase::Healthy).await;
    assert!(status.rejected.is_empty());
    assert_eq!(rolling.image("fraud").await, "model:2");
}

/// On the way to the end, and on the way back with pods that stay for a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_hour_without_an_agent_on_the_way_to_the_end_and_back() {
    let (world, proxy) = world("absent-end").await;
    let rolling = Rolling { world: &world };
    let running = agent(&world, &proxy);
    let steps = policy("blueGreen: {hold: promoted, scaleDownDelay: 20m}", "  abortScaleDownDelay: 30m\n");
    begun(&world, &steps).await;
    two(&rolling, "step 1 of 2 (0 %): waits for `driftless rollout promote`").await;
    slowed(&rolling).await;
    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 2 (100 %): held until").await;
    running.kill();
    shift(&rolling, -HOUR).await;
    let running = agent(&world, &proxy);
    rolling.says("the target as the new revision").await;
    running.kill();
    shift(&rolling, -HOUR).await;
    let running = agent(&world, &proxy);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let status = rolling.status().await;
    assert_eq!(status.phase, RolloutPhase::Promoting);
    assert!(status.message.starts_with("the target as the new revision"), "{}", status.message);
    assert!(!status.message.contains("comes no nearer"), "{}", status.message);
    rolling.ask("Abort", "b").await;
    let until = || async { rolling.status().await.message.contains("its pods stay until").then_some(()) };
    eventually("its pods stay", until).await;
    assert_eq!(rolling.size("fraud-candidate").await, 2);

    // A clock that was ahead: they stay no longer than from now on.
    running.kill();
    shift(&rolling, HOUR).await;
    let running = agent(&world, &proxy);
    eventually("its times are of the past", || async {
        let drained: Timestamp = rolling.status().await.drained_at.parse().unwrap();
        (drained <= Timestamp::now()).then_some(())
    })
    .await;
    running.kill();
    shift(&rolling, -HOUR).await;
    let _running = agent(&world, &proxy);
    let status = rolling.phase(RolloutPhase::Rejected).await;
    assert_eq!(status.rejected[0].why, "aborted by ada: a test");
    rolling.gone("fraud-candidate").await;
    assert_eq!(rolling.image("fraud").await, "model:1");
}

/// Git does not answer: the agent has the commit of the stable revision itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_git_server_that_is_away_holds_up_no_way_back() {
    let (world, proxy) = world("absent-git").await;
    let rolling = Rolling { world: &world };
    let _running = agent(&world, &proxy);
    begun(&world, &policy("canary: {steps: [{weight: 50, hold: promoted}]}", "")).await;
    two(&rolling, "step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    slowed(&rolling).await;
    rolling.ask("Promote", "a").await;
    rolling.says("the target as the new revision").await;
    world.git.fault("ml/platform", Some(Fault::Status(503)));
    rolling.ask("Abort", "b").await;
    rolling.phase(RolloutPhase::Rejected).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:1".into(), 2));
}

/// The commit of the stable revision is gone from Git and from the agent when somebody wants it back: the traffic goes back,
/// nothing is deleted, and nothing is called good until Git has it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_stable_revision_that_is_lost_holds_the_way_back() {
    let (world, proxy) = world("absent-stable").await;
    let rolling = Rolling { world: &world };
    crds::install(&world.client, &crds::GATEWAY, &["HTTPRoute"]).await;
    let kind = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    tokio::spawn(gateway(api.clone()));
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: fraud}\nspec:\n  parentRefs: [{name: web}]\n  rules:\n  - backendRefs: [{name: fraud, port: 80}]\n";
    let routed = "  traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}]}\n  abortScaleDownDelay: 1s\n";
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", routed);
    rolling.commit(&[("route", route)], "Route");
    let running = agent(&world, &proxy);
    let first = begun(&world, &steps).await;
    two(&rolling, "step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    slowed(&rolling).await;
    rolling.ask("Promote", "a").await;
    rolling.says("the target as the new revision").await;
    let live = || async { shown(&weights(&api.get("fraud").await.unwrap())[0]) };
    assert_eq!(live().await, "fraud 0, fraud-candidate 100");

    running.kill();
    let (folder, file) = first.split_at(2);
    let object = world.repository.folder().join("objects").join(folder).join(file);
    std::fs::remove_file(object).unwrap();
    let _running = agent(&world, &proxy);
    rolling.ask("Abort", "b").await;
    eventually("the traffic is back", || async { (live().await == "fraud 1").then_some(()) }).await;
    let lost = || async {
        let status = rolling.status().await;
        (stalled(&status) == Some("StableLost")).then_some(status)
    };
    let status = eventually("it says that it cannot go back", lost).await;
    assert!(status.message.starts_with("aborted by ada: a test; "), "{}", status.message);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let status = rolling.status().await;
    assert_eq!((status.phase, stalled(&status)), (RolloutPhase::Aborting, Some("StableLost")));
    assert!(status.rejected.is_empty());
    // Old pods that the target still has serve; the candidate's are there too.
    assert_eq!((rolling.size("fraud").await, rolling.size("fraud-candidate").await), (2, 2));
    assert!(rolling.endpoints("fraud").await >= 2);
    let app = world.apps().get("fraud").await.unwrap().status.unwrap();
    assert!(!app.holds("Ready"), "{:?}", app.conditions);

    let good = rolling.commit(&[("fraud", &fraud("model:1", 2, ""))], "As it was");
    world.poke("fraud").await;
    world.ready("fraud", &good).await;
    rolling.gone("fraud-candidate").await;
    let status = rolling.phase(RolloutPhase::Healthy).await;
    assert_eq!(status.rejected[0].why, "aborted by ada: a test");
    assert_eq!(rolling.image("fraud").await, "model:1");
    assert_eq!(live().await, "fraud 1");
}
