//! Rollouts by the agent on a real API server, with pods by real controllers.

use std::collections::BTreeMap;

use driftless::api::{RolloutPhase, RolloutPolicy, RolloutStatus};
use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::agent::{World, cli, map};
use crate::harness::{crds, eventually};
use crate::sync::{annotated, named};

/// A Deployment with a Service in front of it. `node` decides whether its pods will ever run.
pub(crate) fn fraud(image: &str, replicas: u32, node: &str) -> String {
    let selector = if node.is_empty() { String::new() } else { format!("nodeSelector: {{disk: {node}}}, ") };
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: fraud}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: fraud}}}}
  template:
    metadata: {{labels: {{app: fraud, tier: model}}}}
    spec:
      {selector}containers: [{{name: server, image: '{image}', ports: [{{name: http, containerPort: 8080}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: fraud}}
spec: {{selector: {{app: fraud}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"
    )
    .replace(
        "      nodeSelector: {disk: none}, containers:",
        "      nodeSelector: {disk: none}\n      containers:",
    )
}

pub(crate) fn policy(strategy: &str, more: &str) -> String {
    format!(
        "apiVersion: driftless.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: fraud}}\nspec:\n  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: fraud}}\n  strategy: {{{strategy}}}\n{more}"
    )
}

pub(crate) struct Rolling<'a> {
    pub(crate) world: &'a World,
}

impl Rolling<'_> {
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    pub(crate) fn commit(&self, files: &[(&str, &str)], why: &str) -> String {
        let named: Vec<(String, &str)> =
            files.iter().map(|(name, text)| (format!("app/{name}.yaml"), *text)).collect();
        let files: Vec<(&str, &str)> = named.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        self.world.repository.commit(&files, why)
    }

    pub(crate) async fn status(&self) -> RolloutStatus {
        let policy = self.api::<RolloutPolicy>().get("fraud").await.unwrap();
        policy.status.unwrap_or_default()
    }

    pub(crate) async fn phase(&self, wanted: RolloutPhase) -> RolloutStatus {
        let what = format!("the rollout is {wanted:?}");
        eventually(&what, || async {
            let status = self.status().await;
            (status.phase == wanted).then_some(status)
        })
        .await
    }

    /// Until the message begins so.
    pub(crate) async fn says(&self, begin: &str) -> RolloutStatus {
        let what = format!("the policy says {begin:?}");
        let last = std::sync::Mutex::new(String::new());
        let wait = eventually(&what, || async {
            let status = self.status().await;
            *last.lock().unwrap() = format!("{:?}: {}", status.phase, status.message);
            status.message.starts_with(begin).then_some(status)
        });
        let found = std::panic::AssertUnwindSafe(wait).catch_unwind().await;
        found.unwrap_or_else(|_| panic!("not so after 120 s: {what}, but {}", last.lock().unwrap()))
    }

    pub(crate) async fn deployment(&self, name: &str) -> Option<Deployment> {
        self.api::<Deployment>().get_opt(name).await.unwrap()
    }

    pub(crate) async fn image(&self, name: &str) -> String {
        let live = self.deployment(name).await.unwrap();
        let spec = live.spec.unwrap().template.spec.unwrap();
        spec.containers[0].image.clone().unwrap()
    }

    pub(crate) async fn size(&self, name: &str) -> i32 {
        self.deployment(name).await.unwrap().spec.unwrap().replicas.unwrap()
    }

    async fn pods(&self, app: &str) -> Vec<Pod> {
        let selected = ListParams::default().labels(&format!("app={app}"));
        self.api::<Pod>().list(&selected).await.unwrap().items
    }

    /// Ready addresses behind a Service.
    pub(crate) async fn endpoints(&self, service: &str) -> usize {
        let selected = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = self.api::<EndpointSlice>().list(&selected).await.unwrap().items;
        let all = slices.iter().flat_map(|slice| &slice.endpoints);
        all.filter(|one| one.conditions.as_ref().is_some_and(|found| found.ready == Some(true))).count()
    }

    pub(crate) async fn ask(&self, verb: &str, id: &str) {
        let request = json!({"id": id, "verb": verb, "by": "ada", "why": "a test"}).to_string();
        let patch = json!({"metadata": {"annotations": {"driftless.dev/rollout-request": request}}});
        let api = self.api::<RolloutPolicy>();
        api.patch("fraud", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn gone(&self, name: &str) {
        eventually("the candidate is gone", || async { self.deployment(name).await.is_none().then_some(()) })
            .await;
    }
}

#[tokio::test]
async fn a_canary_goes_by_pods_and_ends_as_git_has_it() {
    let world = &World::new("canary-pods").await;
    let rolling = Rolling { world };
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "");
    let first = rolling.commit(&[("fraud", &fraud("model:1", 4, "")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let status = rolling.phase(RolloutPhase::Healthy).await;
    let stable = status.stable.unwrap();
    assert_eq!(stable.commit, first);
    assert!(rolling.deployment("fraud-candidate").await.is_none());
    eventually("four endpoints", || async { (rolling.endpoints("fraud").await == 4).then_some(()) }).await;

    let second = rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    world.poke("fraud").await;
    let status = rolling.says("step 1 of 2 (50 %): waits for `driftless rollout promote`").await;
    assert_eq!(status.candidate.as_ref().unwrap().commit, second);
    assert_eq!(status.weight, 50);
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:1".into(), 2));
    assert_eq!(
        (rolling.image("fraud-candidate").await, rolling.size("fraud-candidate").await),
        ("model:2".into(), 2)
    );
    assert_eq!(rolling.pods("fraud").await.len(), 2, "the stable's labels are its own");
    assert_eq!(rolling.pods("fraud-candidate").await.len(), 2);
    eventually("half of the endpoints each", || async {
        (rolling.endpoints("fraud").await == 4).then_some(())
    })
    .await;
    let message = world.reason("fraud", "Ready", "RollingOut").await;
    assert!(message.contains("rolling out: step 1 of 2 (50 %)"), "{message}");

    rolling.ask("Promote", "a").await;
    rolling.phase(RolloutPhase::Healthy).await;
    world.ready("fraud", &second).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:2".into(), 4));
    eventually("four endpoints", || async { (rolling.endpoints("fraud").await == 4).then_some(()) }).await;
    let status = rolling.status().await;
    assert_eq!(status.stable.unwrap().commit, second);
    assert_eq!(status.acts[0].by, "ada");
    // Git's size is ours again: somebody else's is drift.
    let patch = json!({"spec": {"replicas": 1}});
    let api = rolling.api::<Deployment>();
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    eventually("the size is repaired", || async { (rolling.size("fraud").await == 4).then_some(()) }).await;
}

#[tokio::test]
async fn what_does_not_come_up_is_rejected_and_a_revert_takes_it_back() {
    let world = &World::new("canary-rejected").await;
    let rolling = Rolling { world };
    let steps =
        policy("canary: {steps: [{weight: 50}]}", "  progressDeadline: 4s\n  unschedulable: Reject\n");
    let old = map("old", "x");
    let first =
        rolling.commit(&[("fraud", &fraud("model:1", 2, "")), ("policy", &steps), ("old", &old)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;

    // No node takes the new pods; and something leaves Git, which the old revision may need.
    let bad = fraud("model:2", 2, "none");
    let files = [("app/fraud.yaml", Some(bad.as_str())), ("app/old.yaml", None)];
    world.repository.change(&files, "Two");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(why.contains("0 of 1 pods are available") && why.contains("cannot be scheduled"), "{why}");
    let message = world.reason("fraud", "Ready", "RolloutRejected").await;
    assert!(message.contains("Deployment canary-rejected/fraud") && message.contains("DL0605"), "{message}");
    rolling.gone("fraud-candidate").await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:1".into(), 2));
    assert!(world.value("old").await.is_some(), "nothing is deleted meanwhile");

    // The same again is not begun by itself; a change of the size alone goes at once.
    rolling.commit(&[("fraud", &fraud("model:2", 3, "none"))], "Three");
    world.poke("fraud").await;
    eventually("the size alone changes", || async { (rolling.size("fraud").await == 3).then_some(()) }).await;
    assert_eq!(rolling.status().await.phase, RolloutPhase::Rejected);

    let good = rolling.commit(&[("fraud", &fraud("model:1", 2, ""))], "Revert");
    world.poke("fraud").await;
    world.ready("fraud", &good).await;
    rolling.phase(RolloutPhase::Healthy).await;
    eventually("what left Git goes", || async { world.value("old").await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn a_config_that_only_the_target_mounts_waits_with_it() {
    let world = &World::new("canary-config").await;
    let rolling = Rolling { world };
    let mounted = |image: &str| {
        fraud(image, 1, "").replace(
            "      containers:",
            "      volumes: [{name: c, configMap: {name: settings}}]\n      containers:",
        )
    };
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "");
    let first = rolling.commit(
        &[("fraud", &mounted("model:1")), ("policy", &steps), ("settings", &map("settings", "one"))],
        "One",
    );
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;

    rolling.commit(&[("settings", &map("settings", "two")), ("other", &map("other", "two"))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    let maps: BTreeMap<String, String> = rolling
        .api::<ConfigMap>()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|found| Some((found.metadata.name?, found.data?.into_values().next()?)))
        .filter(|(name, _)| name != "kube-root-ca.crt")
        .collect();
    let shown: Vec<(&str, &str)> = maps.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(shown, [("other", "two"), ("settings", "one"), ("settings-candidate", "two")]);

    rolling.ask("Abort", "a").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    assert_eq!(status.rejected[0].why, "aborted by ada: a test");
    eventually("the copy goes with the candidate", || async {
        world.value("settings-candidate").await.is_none().then_some(())
    })
    .await;
    assert_eq!(world.value("settings").await.as_deref(), Some("one"));

    rolling.ask("Retry", "b").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    rolling.ask("Promote", "c").await;
    rolling.phase(RolloutPhase::Healthy).await;
    world.becomes("settings", Some("two")).await;
}

#[tokio::test]
async fn a_blue_green_rollout_turns_the_service() {
    let world = &World::new("blue-green").await;
    let rolling = Rolling { world };
    let both = policy("blueGreen: {hold: promoted, scaleDownDelay: 1s}", "");
    let first = rolling.commit(&[("fraud", &fraud("model:1", 2, "")), ("policy", &both)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let second = rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (0 %): waits for").await;
    let selector = |name: &'static str| {
        let api = rolling.api::<Service>();
        async move { api.get(name).await.unwrap().spec.unwrap().selector.unwrap()["app"].clone() }
    };
    assert_eq!(selector("fraud").await, "fraud");
    assert_eq!(selector("fraud-candidate").await, "fraud-candidate", "a preview");
    assert_eq!(rolling.size("fraud-candidate").await, 2);
    rolling.ask("Promote", "a").await;
    eventually("the Service is turned", || async {
        (selector("fraud").await == "fraud-candidate").then_some(())
    })
    .await;
    world.ready("fraud", &second).await;
    assert_eq!(selector("fraud").await, "fraud");
    rolling.gone("fraud-candidate").await;
    assert_eq!(rolling.image("fraud").await, "model:2");
    assert!(rolling.api::<Service>().get_opt("fraud-candidate").await.unwrap().is_none());
}

pub(crate) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}/{version}"),
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// A route's weights by backend, rule by rule.
pub(crate) fn weights(route: &DynamicObject) -> Vec<Vec<(String, u64)>> {
    let rules = route.data["spec"]["rules"].as_array().unwrap();
    let list = |rule: &Value| {
        let backends = rule["backendRefs"].as_array().unwrap().iter();
        backends
            .map(|one| (one["name"].as_str().unwrap().to_owned(), one["weight"].as_u64().unwrap_or(1)))
            .collect()
    };
    rules.iter().map(list).collect()
}

pub(crate) fn shown(weights: &[(String, u64)]) -> String {
    let each = weights.iter().map(|(name, weight)| format!("{name} {weight}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What a Gateway's controller does with routes: it says which generation it has taken.
pub(crate) async fn gateway(api: Api<DynamicObject>) {
    loop {
        for route in api.list(&ListParams::default()).await.unwrap() {
            let generation = route.metadata.generation.unwrap();
            let known = route.data["status"]["parents"][0]["conditions"][0]["observedGeneration"].as_i64();
            if known == Some(generation) {
                continue;
            }
            let now = "2026-01-01T00:00:00Z";
            let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                "lastTransitionTime": now, "observedGeneration": generation});
            let parent = json!({"parentRef": {"name": "web"}, "controllerName": "tests.example/gateway",
                "conditions": [condition]});
            let patch = Patch::Merge(json!({"status": {"parents": [parent]}}));
            let name = route.metadata.name.unwrap();
            api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_route_divides_traffic_and_keeps_what_is_not_of_the_rollout() {
    let world = &World::new("canary-route").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::GATEWAY, &["HTTPRoute"]).await;
    let kind = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    tokio::spawn(gateway(api.clone()));
    let route = |more: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: fraud}}\nspec:\n  parentRefs: [{{name: web}}]\n  rules:\n  - backendRefs: [{{name: fraud, port: 80}}]\n{more}"
        )
    };
    let steps = policy(
        "canary: {steps: [{weight: 20, hold: promoted}, {weight: 60, hold: promoted}]}",
        "  traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}]}\n",
    );
    let first = rolling
        .commit(&[("fraud", &fraud("model:1", 5, "")), ("policy", &steps), ("route", &route(""))], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;

    rolling.commit(&[("fraud", &fraud("model:2", 5, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (20 %): waits for").await;
    let live = || async { weights(&api.get("fraud").await.unwrap()) };
    assert_eq!(shown(&live().await[0]), "fraud 80, fraud-candidate 20");
    assert_eq!((rolling.size("fraud").await, rolling.size("fraud-candidate").await), (5, 1));
    assert_eq!(rolling.endpoints("fraud-candidate").await, 1);
    eventually("the Service has all of its pods and none of the candidate's", || async {
        (rolling.endpoints("fraud").await == 5).then_some(())
    })
    .await;

    // Git and the cluster differ as they are meant to.
    let (code, text, errors) = cli(world, &["drift", "fraud"]).await;
    assert_eq!(code, 0, "{text}{errors}");
    assert!(text.contains("2 rolling out"), "{text}");

    // Somebody sets it back: it is ours while the rollout lasts.
    let reset = json!({"spec": {"rules": [{"backendRefs": [{"name": "fraud", "port": 80}]}]}});
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(reset)).await.unwrap();
    eventually("the weight is set again", || async {
        (shown(&live().await[0]) == "fraud 80, fraud-candidate 20").then_some(())
    })
    .await;

    // Git changes the route meanwhile.
    let more =
        "  - matches: [{path: {type: PathPrefix, value: /x}}]\n    backendRefs: [{name: other, port: 80}]\n";
    rolling.commit(&[("route", &route(more))], "A rule more");
    world.poke("fraud").await;
    eventually("the rule is there", || async { (live().await.len() == 2).then_some(()) }).await;
    let now = live().await;
    assert_eq!((shown(&now[0]), shown(&now[1])), ("fraud 80, fraud-candidate 20".into(), "other 1".into()));

    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (60 %): waits for").await;
    assert_eq!(shown(&live().await[0]), "fraud 40, fraud-candidate 60");
    assert_eq!(rolling.size("fraud-candidate").await, 3);
    rolling.ask("Abort", "b").await;
    eventually("no traffic", || async { (shown(&live().await[0]) == "fraud 1").then_some(()) }).await;
    rolling.phase(RolloutPhase::Rejected).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!(rolling.image("fraud").await, "model:1");

    let third = rolling.commit(&[("fraud", &fraud("model:3", 5, ""))], "Three");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (20 %): waits for").await;
    rolling.ask("PromoteFull", "c").await;
    world.ready("fraud", &third).await;
    assert_eq!(rolling.image("fraud").await, "model:3");
    assert_eq!(shown(&live().await[0]), "fraud 1");
}

#[tokio::test]
async fn an_autoscaler_and_a_budget_count_the_stable_pods_only() {
    let world = &World::new("canary-scaled").await;
    let rolling = Rolling { world };
    let around = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: fraud}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: fraud}
  minReplicas: 3
  maxReplicas: 6
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: fraud}
spec: {minAvailable: 1, selector: {matchLabels: {app: fraud}}}
";
    let steps = policy("canary: {steps: [{weight: 40, hold: promoted}]}", "");
    rolling.commit(&[("fraud", &fraud("model:1", 1, "")), ("policy", &steps), ("around", around)], "One");
    world.application("fraud", json!({})).await;
    eventually("the autoscaler's size", || async {
        let live = rolling.deployment("fraud").await?;
        (live.spec?.replicas == Some(3) && live.status?.available_replicas == Some(3)).then_some(())
    })
    .await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.commit(&[("fraud", &fraud("model:2", 1, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (40 %): waits for").await;
    assert_eq!((rolling.size("fraud").await, rolling.size("fraud-candidate").await), (3, 2));
    let budget = rolling.api::<k8s_openapi::api::policy::v1::PodDisruptionBudget>();
    let scaler = rolling.api::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>();
    let budget = budget.get("fraud").await.unwrap().status.unwrap();
    assert_eq!((budget.expected_pods, budget.current_healthy), (3, 3));
    // It writes down what it counts every 15 s.
    eventually("the autoscaler counts three", || async {
        (scaler.get("fraud").await.unwrap().status?.current_replicas == Some(3)).then_some(())
    })
    .await;

    // Whoever scales is followed.
    let text = around.replace("minReplicas: 3", "minReplicas: 6");
    rolling.commit(&[("around", &text)], "More");
    world.poke("fraud").await;
    eventually("both sides grow", || async {
        (rolling.size("fraud").await == 6 && rolling.size("fraud-candidate").await == 4).then_some(())
    })
    .await;
    rolling.ask("Promote", "a").await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:2".into(), 6));
}

/// A `StatefulSet`.
fn ordinals(image: &str, node: &str) -> String {
    let selector =
        if node.is_empty() { String::new() } else { format!("nodeSelector: {{disk: {node}}}\n      ") };
    format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: fraud}}
spec:
  replicas: 4
  serviceName: fraud
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: fraud}}}}
  template:
    metadata: {{labels: {{app: fraud}}}}
    spec:
      {selector}terminationGracePeriodSeconds: 0
      containers: [{{name: server, image: '{image}'}}]
"
    )
}

#[tokio::test]
async fn a_stateful_set_goes_by_its_partition() {
    let world = &World::new("canary-ordinals").await;
    let rolling = Rolling { world };
    let steps = policy(
        "canary: {steps: [{weight: 25, hold: promoted}, {weight: 75, hold: promoted}]}",
        "  progressDeadline: 6s\n  unschedulable: Reject\n",
    )
    .replace("kind: Deployment", "kind: StatefulSet");
    let first = rolling.commit(&[("fraud", &ordinals("model:1", "")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let images = || async {
        let mut pods: Vec<(String, String)> = rolling
            .pods("fraud")
            .await
            .into_iter()
            .map(|pod| (pod.metadata.name.unwrap(), pod.spec.unwrap().containers[0].image.clone().unwrap()))
            .collect();
        pods.sort();
        pods.into_iter().map(|(_, image)| image.replace("model:", "")).collect::<String>()
    };
    rolling.commit(&[("fraud", &ordinals("model:2", ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (25 %): waits for").await;
    assert_eq!(images().await, "1112");
    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (75 %): waits for").await;
    assert_eq!(images().await, "1222");
    rolling.ask("Abort", "b").await;
    rolling.phase(RolloutPhase::Rejected).await;
    eventually("all pods are as before", || async { (images().await == "1111").then_some(()) }).await;

    // No node takes the new pod: it would be waited for without an end.
    rolling.commit(&[("fraud", &ordinals("model:3", "none"))], "Three");
    world.poke("fraud").await;
    eventually("it is rejected", || async { (rolling.status().await.rejected.len() == 2).then_some(()) })
        .await;
    eventually("all pods are as before", || async {
        let ready = rolling.pods("fraud").await.iter().filter(|pod| is_ready(pod)).count();
        (images().await == "1111" && ready == 4).then_some(())
    })
    .await;

    let last = rolling.commit(&[("fraud", &ordinals("model:4", ""))], "Four");
    world.poke("fraud").await;
    rolling.says("step 1 of 3 (25 %): waits for").await;
    rolling.ask("PromoteFull", "c").await;
    world.ready("fraud", &last).await;
    assert_eq!(images().await, "4444");
    rolling.phase(RolloutPhase::Healthy).await;
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

#[tokio::test]
async fn any_kind_rolls_its_own_way_and_is_judged() {
    let world = &World::new("rolling").await;
    let rolling = Rolling { world };
    let rolls = policy("rolling: {hold: promoted}", "  progressDeadline: 5s\n  unschedulable: Reject\n");
    let first = rolling.commit(&[("fraud", &fraud("model:1", 2, "")), ("policy", &rolls)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let second = rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 1 (100 %): waits for `driftless rollout promote`").await;
    assert_eq!(rolling.image("fraud").await, "model:2");
    world.reason("fraud", "Ready", "RollingOut").await;
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &second).await;
    rolling.commit(&[("fraud", &fraud("model:3", 2, "none"))], "Three");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(why.contains("cannot be scheduled") && why.contains("it came no nearer for 5 s"), "{why}");
    eventually("the stable revision is back", || async {
        (rolling.image("fraud").await == "model:2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn gates_decide_and_leave_their_evidence() {
    let world = &World::new("canary-gates").await;
    let rolling = Rolling { world };
    let gate = "  gates:\n  - {name: drift, interval: 1s, count: 2, object: {apiVersion: v1, kind: ConfigMap, name: scores, pass: 'object.data.value == \"good\"'}}\n";
    let steps = policy("canary: {steps: [{weight: 50, gates: [drift]}]}", gate);
    let files = |image: &str, score: &str| {
        [("fraud", fraud(image, 2, "")), ("policy", steps.clone()), ("scores", map("scores", score))]
    };
    let commit = |image: &str, score: &str| {
        let files = files(image, score);
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        rolling.commit(&files, image)
    };
    let first = commit("model:1", "good");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let second = commit("model:2", "good");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    assert_eq!(rolling.image("fraud").await, "model:2");
    commit("model:3", "bad");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(why.starts_with("gate drift: 1 measurement failed (0 are borne): "), "{why}");
    assert!(why.contains("object.data.value"), "{why}");
    // What changed beside the target is not held back.
    assert_eq!(world.value("scores").await.as_deref(), Some("bad"));
    assert_eq!(rolling.image("fraud").await, "model:2");
}

#[tokio::test]
async fn newer_commits_take_the_place_of_what_is_on_its_way() {
    let world = &World::new("canary-newer").await;
    let rolling = Rolling { world };
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "");
    let commit = |image: &str, why: &str| rolling.commit(&[("fraud", &fraud(image, 2, ""))], why);
    let first = rolling.commit(&[("fraud", &fraud("model:1", 2, "")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let on_its_way = |commit: String| {
        let rolling = &rolling;
        async move {
            eventually("the commit is on its way", || async {
                let status = rolling.status().await;
                let is_it = status.candidate.as_ref().is_some_and(|candidate| candidate.commit == commit);
                (is_it && status.message.starts_with("step 1 of 2 (50 %): waits for")).then_some(())
            })
            .await;
        }
    };
    let second = commit("model:2", "Two");
    world.poke("fraud").await;
    on_its_way(second).await;
    let third = commit("model:3", "Three");
    world.poke("fraud").await;
    on_its_way(third).await;
    assert_eq!(rolling.image("fraud-candidate").await, "model:3");
    assert_eq!(rolling.image("fraud").await, "model:1");
    assert!(rolling.status().await.rejected.is_empty(), "nothing was wrong with it");

    let back = commit("model:1", "Revert");
    world.poke("fraud").await;
    world.ready("fraud", &back).await;
    rolling.gone("fraud-candidate").await;
    assert!(rolling.status().await.rejected.is_empty());
    assert_eq!(rolling.size("fraud").await, 2);

    let fourth = commit("model:4", "Four");
    world.poke("fraud").await;
    on_its_way(fourth.clone()).await;
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &fourth).await;
    // It was good before: no step holds it.
    let back = commit("model:1", "Revert again");
    world.poke("fraud").await;
    world.ready("fraud", &back).await;
    assert_eq!(rolling.image("fraud").await, "model:1");
    assert_eq!(rolling.status().await.stable.unwrap().commit, back);
}

#[tokio::test]
async fn waves_and_hooks_wait_for_a_rollout() {
    const HOOK: &str = "argocd.argoproj.io/hook";
    const WAVE: &str = "argocd.argoproj.io/sync-wave";
    let world = &World::new("canary-waves").await;
    let rolling = Rolling { world };
    let steps = policy(
        "canary: {steps: [{weight: 50, hold: promoted}]}",
        "  progressDeadline: 3s\n  unschedulable: Reject\n",
    );
    let late = |value: &str| annotated(&map("late", value), &[(WAVE, "1")]);
    let hook = |phase: &str| {
        let name = phase.to_lowercase();
        annotated(
            &named(&name, ""),
            &[(HOOK, phase), ("argocd.argoproj.io/hook-delete-policy", "BeforeHookCreation")],
        )
    };
    let (after, failed) = (hook("PostSync"), hook("SyncFail"));
    let commit = |image: &str, node: &str, value: &str| {
        rolling.commit(
            &[
                ("fraud", &fraud(image, 2, node)),
                ("policy", &steps),
                ("late", &late(value)),
                ("after", &after),
                ("failed", &failed),
            ],
            value,
        )
    };
    let first = commit("model:1", "", "one");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let made = crate::sync::uid(world, "postsync").await.unwrap();
    rolling.phase(RolloutPhase::Healthy).await;
    let second = commit("model:2", "", "two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    let message = world.reason("fraud", "Ready", "Syncing").await;
    assert!(
        message.starts_with("wave 0: waits for Deployment canary-waves/fraud to be healthy: rolling out"),
        "{message}"
    );
    assert_eq!(world.value("late").await.as_deref(), Some("one"));
    assert_eq!(crate::sync::uid(world, "postsync").await.unwrap(), made);
    rolling.ask("Promote", "a").await;
    world.ready("fraud", &second).await;
    assert_eq!(world.value("late").await.as_deref(), Some("two"));
    assert_ne!(crate::sync::uid(world, "postsync").await.unwrap(), made);
    assert!(crate::sync::uid(world, "syncfail").await.is_none());

    commit("model:3", "none", "three");
    world.poke("fraud").await;
    rolling.phase(RolloutPhase::Rejected).await;
    eventually("the hook of a failure ran", || async { crate::sync::uid(world, "syncfail").await }).await;
    let message = world.reason("fraud", "Ready", "RolloutRejected").await;
    assert!(message.contains("the revision was rejected"), "{message}");
    assert_eq!(world.value("late").await.as_deref(), Some("two"));
    let operation = crate::sync::application(world, "fraud").await.status.unwrap().operation.unwrap();
    assert_eq!(operation.retry_at, "", "a retry would change nothing");

    let fourth = commit("model:4", "", "four");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    rolling.ask("PromoteFull", "b").await;
    world.ready("fraud", &fourth).await;
    assert_eq!(world.value("late").await.as_deref(), Some("four"));
}

#[tokio::test]
async fn a_suspended_application_stays_at_its_step() {
    let world = &World::new("canary-suspended").await;
    let rolling = Rolling { world };
    let steps = policy("canary: {steps: [{weight: 50, hold: 4s}]}", "");
    let first = rolling.commit(&[("fraud", &fraud("model:1", 2, "")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let second = rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): held until").await;
    let (code, _, errors) = cli(world, &["suspend", "fraud", "--why", "a freeze"]).await;
    assert_eq!(code, 0, "{errors}");
    rolling.says("the Application is suspended").await;
    assert_eq!((rolling.status().await.step, rolling.size("fraud-candidate").await), (0, 1));
    let (code, _, errors) = cli(world, &["resume", "fraud"]).await;
    assert_eq!(code, 0, "{errors}");
    world.ready("fraud", &second).await;
    assert_eq!(rolling.image("fraud").await, "model:2");
}

#[tokio::test]
async fn a_policy_that_leaves_git_ends_its_rollout() {
    let world = &World::new("canary-removed").await;
    let rolling = Rolling { world };
    let steps = policy("canary: {steps: [{weight: 50, hold: promoted}]}", "");
    let first = rolling.commit(&[("fraud", &fraud("model:1", 4, "")), ("policy", &steps)], "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for").await;
    let third = world.repository.change(&[("app/policy.yaml", None)], "Without");
    world.poke("fraud").await;
    world.ready("fraud", &third).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:2".into(), 4));
    eventually("four endpoints", || async { (rolling.endpoints("fraud").await == 4).then_some(()) }).await;
}
