//! Canaries on real parts: model servers that answer, a real haproxy that divides their traffic, a real Prometheus that counts
//! it, and users who never stop asking. Only the pods are made up: what they say they run runs in this process.
#![expect(clippy::print_stdout, reason = "what is measured is shown")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftless::api::{GateAnswer, GateStatus, RolloutPhase, RolloutPolicy, RolloutStatus};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use crate::agent::World;
use crate::canary::{Rolling, fraud, policy, resource};
use crate::harness::haproxy::{Haproxy, PLACES};
use crate::harness::monitoring::{Mlflow, Prometheus};
use crate::harness::serving::{Answer, Load, Model, Version};
use crate::harness::{crds, eventually};

const VERSIONS: [Version; 7] = [
    Version { name: "1", fails: 0, slow: 0 },
    Version { name: "2", fails: 0, slow: 0 },
    Version { name: "failing", fails: 3, slow: 0 },
    Version { name: "slow", fails: 0, slow: 2 },
    Version { name: "noisy", fails: 1, slow: 0 },
    Version { name: "noisy-too", fails: 1, slow: 0 },
    Version { name: "noisy-slow", fails: 1, slow: 3 },
];
const SERVICES: [&str; 2] = ["fraud", "fraud-candidate"];
/// How long a server goes on after its pod has left, as a container does before it is ended: a kubelet gives 30 s, and
/// endpoints of a busy control plane may take seconds.
const GRACE: Duration = Duration::from_secs(10);
/// 100 requests a second.
const EVERY: Duration = Duration::from_millis(10);

/// A weight that haproxy has.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Before it was set.
    began: Instant,
    /// It was read back.
    observed: Instant,
    /// Percent of the traffic to the candidate.
    weight: u32,
}

/// All that a rollout needs of the world but the agent.
struct Site {
    namespace: String,
    proxy: Haproxy,
    prometheus: tokio::sync::Mutex<Prometheus>,
    /// Servers by pod; those that are not ours have a port only.
    models: Mutex<BTreeMap<String, (u16, Option<Model>)>>,
    /// Ports of servers that run already, by image.
    elsewhere: BTreeMap<String, u16>,
    turns: Mutex<Vec<Turn>>,
    /// The router takes nothing up.
    is_deaf: AtomicBool,
    /// What the policy said, and when.
    said: Mutex<Vec<(Instant, RolloutStatus)>>,
}

/// The tasks of a site; they end when this is dropped.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Site {
    async fn build(rolling: &Rolling<'_>, elsewhere: BTreeMap<String, u16>) -> (Arc<Self>, Tasks) {
        crds::install(&rolling.world.client, &crds::GATEWAY, &["HTTPRoute"]).await;
        let (proxy, prometheus) = tokio::join!(Haproxy::before(&SERVICES), Prometheus::following());
        let site = Arc::new(Self {
            namespace: rolling.world.namespace.clone(),
            proxy,
            prometheus: prometheus.into(),
            models: Mutex::default(),
            elsewhere,
            turns: Mutex::default(),
            is_deaf: false.into(),
            said: Mutex::default(),
        });
        let tasks = [
            tokio::spawn(kubelet(site.clone(), rolling.api())).abort_handle(),
            tokio::spawn(router(site.clone(), rolling.api(), routes(rolling))).abort_handle(),
            tokio::spawn(listen(site.clone(), rolling.api())).abort_handle(),
        ];
        (site, Tasks(tasks.into()))
    }

    /// Users of the model.
    fn load(&self) -> Load {
        let url = format!("http://{}/v1/models/fraud:predict", self.proxy.host());
        Load::start(url, r#"{"instances": [[1, 2]]}"#, EVERY)
    }

    async fn scraped(&self) {
        let targets: Vec<(String, Value)> = {
            let models = self.models.lock().unwrap();
            let ours = models.iter().filter(|(_, (_, model))| model.is_some());
            ours.map(|(pod, (port, _))| {
                (format!("127.0.0.1:{port}"), json!({"namespace": self.namespace, "pod": pod}))
            })
            .collect()
        };
        self.prometheus.lock().await.targets(&targets);
    }

    fn turns(&self) -> Vec<Turn> {
        self.turns.lock().unwrap().clone()
    }

    /// What users asked for while haproxy had a weight: from the first time that it was read back until another was set.
    fn during(&self, load: &Load, weight: u32) -> Vec<Answer> {
        let turns = self.turns();
        let place =
            turns.iter().position(|turn| turn.weight == weight).unwrap_or_else(|| panic!("{turns:?}"));
        let (from, to) = (turns[place].observed, turns.get(place + 1).map(|next| next.began));
        let mut all = load.answers();
        all.retain(|answer| answer.at >= from && to.is_none_or(|to| answer.at < to));
        all
    }

    /// Waits until no server is left but those of so many pods.
    async fn only(&self, count: usize) {
        eventually("servers of pods that are gone end", || async {
            (self.models.lock().unwrap().len() == count).then_some(())
        })
        .await;
    }
}

/// Runs what pods say they run.
async fn kubelet(site: Arc<Site>, pods: Api<Pod>) {
    loop {
        let selected = WatchParams::default().labels("tier=model");
        let Ok(stream) = pods.watch(&selected, "0").await else { continue };
        let mut events = std::pin::pin!(stream);
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    let name = pod.name_any();
                    if site.models.lock().unwrap().contains_key(&name)
                        || pod.metadata.deletion_timestamp.is_some()
                    {
                        continue;
                    }
                    let image = pod.spec.unwrap().containers[0].image.clone().unwrap();
                    let served = if let Some(port) = site.elsewhere.get(&image) {
                        (*port, None)
                    } else {
                        let tag = image.strip_prefix("model:").unwrap();
                        let version = VERSIONS.into_iter().find(|version| version.name == tag).unwrap();
                        let model = Model::serve(version, &name).await;
                        (model.port, Some(model))
                    };
                    site.models.lock().unwrap().insert(name, served);
                    site.scraped().await;
                }
                WatchEvent::Deleted(pod) => {
                    let site = site.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(GRACE).await;
                        site.models.lock().unwrap().remove(&pod.name_any());
                        site.scraped().await;
                    });
                }
                _ => {}
            }
        }
    }
}

enum Seen {
    Route(WatchEvent<DynamicObject>),
    Slice(WatchEvent<EndpointSlice>),
}

/// What a Gateway's controller does with routes and endpoints: haproxy gets them, and only when it says that it has a
/// weight, the route is said to be taken.
async fn router(site: Arc<Site>, slices: Api<EndpointSlice>, routes: Api<DynamicObject>) {
    let mut ready: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut places = Places::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    // Its generation: statuses are events too.
    let mut taken = None;
    loop {
        let all = WatchParams::default();
        let watched = tokio::try_join!(slices.watch(&all, "0"), routes.watch(&all, "0"));
        let Ok((of_slices, of_routes)) = watched else { continue };
        let events = futures::stream::select(of_slices.map_ok(Seen::Slice), of_routes.map_ok(Seen::Route));
        let mut events = std::pin::pin!(events);
        let mut untaken = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Seen::Slice(WatchEvent::Added(slice) | WatchEvent::Modified(slice)))) => {
                        let service = slice.labels()["kubernetes.io/service-name"].clone();
                        let serves = slice.endpoints.iter().filter(|one| {
                            one.conditions.as_ref().is_some_and(|found| found.ready == Some(true))
                        });
                        let pods = serves.filter_map(|one| one.target_ref.as_ref()?.name.clone()).collect();
                        ready.insert(slice.name_any(), (service, pods));
                        places.follow(&site, &ready).await;
                    }
                    Some(Ok(Seen::Slice(WatchEvent::Deleted(slice)))) => {
                        ready.remove(&slice.name_any());
                        places.follow(&site, &ready).await;
                    }
                    Some(Ok(Seen::Route(WatchEvent::Added(route) | WatchEvent::Modified(route)))) => {
                        untaken = Some(route);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
                _ = ticks.tick() => {}
            }
            if !site.is_deaf.load(Ordering::SeqCst)
                && let Some(route) = untaken.take()
                && taken < route.metadata.generation
            {
                taken = route.metadata.generation;
                take(&site, &routes, &route).await;
            }
        }
    }
}

/// Who has which place of haproxy, by Service and pod.
#[derive(Default)]
struct Places(BTreeMap<(String, String), usize>);

impl Places {
    /// New pods come before others go.
    async fn follow(&mut self, site: &Site, ready: &BTreeMap<String, (String, Vec<String>)>) {
        let wanted: BTreeSet<(String, String)> = ready
            .values()
            .filter(|(service, _)| SERVICES.contains(&service.as_str()))
            .flat_map(|(service, pods)| pods.iter().map(|pod| (service.clone(), pod.clone())))
            .collect();
        for one in &wanted {
            if self.0.contains_key(one) {
                continue;
            }
            let (service, pod) = one;
            let port = eventually("the pod's server runs", || async {
                site.models.lock().unwrap().get(pod).map(|(port, _)| *port)
            })
            .await;
            let taken: Vec<usize> =
                self.0.iter().filter(|((of, _), _)| of == service).map(|(_, place)| *place).collect();
            let place = (0..PLACES).find(|place| !taken.contains(place)).expect("a place is free");
            site.proxy.place(service, place, port).await;
            self.0.insert(one.clone(), place);
        }
        let gone: Vec<_> = self.0.keys().filter(|one| !wanted.contains(one)).cloned().collect();
        for one in gone {
            let place = self.0.remove(&one).unwrap();
            site.proxy.vacate(&one.0, place).await;
        }
    }
}

/// Sets the weights of a route, reads them back, and says that it is taken.
async fn take(site: &Site, routes: &Api<DynamicObject>, route: &DynamicObject) {
    let generation = route.metadata.generation.unwrap();
    let rules = route.data["spec"]["rules"].as_array().unwrap();
    let backends = rules.last().unwrap()["backendRefs"].as_array().unwrap();
    // The rule in front is that of testers.
    let header = rules.iter().rev().nth(1).map(|rule| &rule["matches"][0]["headers"][0]);
    site.proxy.lead(header.map(|header| header["value"].as_str().unwrap())).await;
    let weight = |service: &str| -> u64 {
        let found = backends.iter().filter(|backend| backend["name"] == service);
        found.map(|backend| backend["weight"].as_u64().unwrap_or(1)).sum()
    };
    let [stable, candidate] = SERVICES.map(weight);
    let percent = u32::try_from(candidate * 100 / (stable + candidate)).unwrap();
    let began = Instant::now();
    let wanted = [100 - percent, percent];
    for (service, weight) in SERVICES.into_iter().zip(wanted) {
        site.proxy.weigh(service, weight).await;
    }
    for (service, weight) in SERVICES.into_iter().zip(wanted) {
        assert_eq!(site.proxy.weight(service).await, weight, "{service}");
    }
    site.turns.lock().unwrap().push(Turn { began, observed: Instant::now(), weight: percent });
    let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation});
    let parent = json!({"parentRef": {"name": "web"}, "controllerName": "tests.example/haproxy",
        "conditions": [condition]});
    let patch = Patch::Merge(json!({"status": {"parents": [parent]}}));
    routes.patch_status(&route.name_any(), &PatchParams::default(), &patch).await.unwrap();
}

/// Keeps all that the policy ever says.
async fn listen(site: Arc<Site>, policies: Api<RolloutPolicy>) {
    loop {
        let Ok(stream) = policies.watch(&WatchParams::default(), "0").await else { continue };
        let mut events = std::pin::pin!(stream);
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(policy) | WatchEvent::Modified(policy) = event {
                site.said.lock().unwrap().push((Instant::now(), policy.status.unwrap_or_default()));
            }
        }
    }
}

fn routes(rolling: &Rolling<'_>) -> Api<DynamicObject> {
    let kind = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    Api::namespaced_with(rolling.world.client.clone(), &rolling.world.namespace, &kind)
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: fraud}
spec:
  parentRefs: [{name: web}]
  rules:
  - backendRefs: [{name: fraud, port: 80}]
";

/// The share of requests without an error, and the time that the slowest twentieth takes.
fn gates(address: &str, count: u32) -> String {
    format!(
        r#"  abortScaleDownDelay: 2s
  traffic: {{routes: [{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}}]}}
  gates:
  - name: success
    interval: 1s
    count: {count}
    prometheus:
      address: {address}
      query: sum(rate(requests_total{{pod=~"{{{{candidate}}}}-[a-z0-9]+-[a-z0-9]+",code!~"5.."}}[4s])) / sum(rate(requests_total{{pod=~"{{{{candidate}}}}-[a-z0-9]+-[a-z0-9]+"}}[4s]))
      pass: value >= 0.95
  - name: latency
    interval: 1s
    count: {count}
    limits: {{fail: 2}}
    prometheus:
      address: {address}
      builtin: {{metric: latency-p95, source: kserve, window: 4s}}
      pass: value < 250
"#
    )
}

/// A version that serves, and a rollout's world around it.
async fn serving(
    rolling: &Rolling<'_>,
    elsewhere: BTreeMap<String, u16>,
    image: &str,
    policy_of: impl FnOnce(&str) -> String,
) -> (Arc<Site>, Tasks) {
    let (site, tasks) = Site::build(rolling, elsewhere).await;
    let address = site.prometheus.lock().await.address();
    let files = [("fraud", &*fraud(image, 4, "")), ("policy", &policy_of(&address)), ("route", ROUTE)];
    let first = rolling.commit(&files, "One");
    rolling.world.application("fraud", json!({})).await;
    rolling.world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    eventually("haproxy has the pods", || async {
        (site.models.lock().unwrap().len() == 4 && rolling.endpoints("fraud").await == 4).then_some(())
    })
    .await;
    (site, tasks)
}

/// Begins what was committed, and follows it to its end.
async fn rolls(rolling: &Rolling<'_>) -> RolloutStatus {
    rolling.world.poke("fraud").await;
    eventually("it begins", || async { rolling.status().await.candidate }).await;
    eventually("it ends", || async {
        let status = rolling.status().await;
        matches!(status.phase, RolloutPhase::Healthy | RolloutPhase::Rejected).then_some(status)
    })
    .await
}

fn is_candidate(answer: &Answer) -> bool {
    answer.pod.starts_with("fraud-candidate-")
}

fn percent(part: usize, whole: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let share = part as f64 * 100.0 / whole.max(1) as f64;
    share
}

/// The time that the slowest twentieth takes, in milliseconds.
fn p95<'a>(answers: impl Iterator<Item = &'a Answer>) -> u128 {
    let mut all: Vec<u128> = answers.map(|answer| answer.took.as_millis()).collect();
    all.sort_unstable();
    all.get(all.len() * 95 / 100).copied().unwrap_or_default()
}

/// What the candidate had of the traffic while haproxy had this weight; it is near that.
fn share(site: &Site, load: &Load, weight: u32) -> usize {
    let all = site.during(load, weight);
    let own: Vec<&Answer> = all.iter().filter(|answer| is_candidate(answer)).collect();
    let share = percent(own.len(), all.len());
    println!(
        "weight {weight}: {} requests, {} to the candidate ({share:.1} %), p95 {} ms, the others' {} ms",
        all.len(),
        own.len(),
        p95(own.iter().copied()),
        p95(all.iter().filter(|answer| !is_candidate(answer))),
    );
    assert!(all.len() >= 20 && (share - f64::from(weight)).abs() <= 3.0, "{share} of {}", all.len());
    all.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_candidate_takes_the_traffic_and_no_request_is_lost() {
    let world = &World::new("traffic-good").await;
    let rolling = &Rolling { world };
    let steps =
        "canary: {steps: [{weight: 20, gates: [success, latency]}, {weight: 50, gates: [success, latency]}]}";
    let (site, _tasks) =
        serving(rolling, BTreeMap::new(), "model:1", |address| policy(steps, &gates(address, 3))).await;
    let load = site.load();
    let second = rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    let status = rolls(rolling).await;
    assert_eq!(status.phase, RolloutPhase::Healthy, "{status:?}");
    world.ready("fraud", &second).await;
    rolling.gone("fraud-candidate").await;
    site.only(4).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let weights: Vec<u32> = site.turns().iter().map(|turn| turn.weight).collect();
    assert_eq!(weights, [0, 20, 50, 100, 0]);
    for weight in [20, 50, 100] {
        share(&site, &load, weight);
    }
    let all = load.answers();
    let lost: Vec<&Answer> = all.iter().filter(|answer| answer.code != 200).collect();
    println!("a good candidate: {} requests, {} lost", all.len(), lost.len());
    assert!(lost.is_empty(), "{lost:?}");
    let last = all.last().unwrap();
    assert!(last.body.contains(r#""model_version":"2""#) && !is_candidate(last), "{last:?}");
    honest(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn testers_get_the_candidate_and_all_others_do_not() {
    let world = &World::new("traffic-testers").await;
    let rolling = &Rolling { world };
    let steps = "canary: {steps: [{weight: 0, headers: [{name: X-Tester, exact: 'yes'}], hold: promoted}]}";
    let routes = "  abortScaleDownDelay: 2s\n  traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}]}\n";
    let (site, _tasks) = serving(rolling, BTreeMap::new(), "model:1", |_| policy(steps, routes)).await;
    let others = site.load();
    let url = format!("http://{}/v1/models/fraud:predict", site.proxy.host());
    let headers = [("x-tester", "yes")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let testers = Load::with(url, r#"{"instances": [[1, 2]]}"#, EVERY, headers.into_iter().collect());
    rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    world.poke("fraud").await;
    rolling.says("step 1 of 2 (0 %, all with x-tester=yes): waits").await;
    let reached = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let left = Instant::now();
    rolling.ask("Abort", "a").await;
    rolling.phase(RolloutPhase::Rejected).await;
    let rejected = Instant::now();
    rolling.gone("fraud-candidate").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (others, testers) = (others.answers(), testers.answers());
    let meanwhile: Vec<&Answer> =
        testers.iter().filter(|answer| answer.at >= reached && answer.at < left).collect();
    let after: Vec<&Answer> = testers.iter().filter(|answer| answer.at > rejected).collect();
    println!("testers: {} of {} meanwhile, {} after it", meanwhile.len(), testers.len(), after.len());
    assert!(meanwhile.len() >= 20 && meanwhile.iter().all(|answer| is_candidate(answer)));
    assert!(after.len() >= 20 && after.iter().all(|answer| !is_candidate(answer)));
    assert!(others.len() >= 40 && others.iter().all(|answer| !is_candidate(answer)));
    let lost: Vec<&Answer> = others.iter().chain(&testers).filter(|answer| answer.code != 200).collect();
    assert!(lost.is_empty(), "{lost:?}");
    honest(&site);
}

/// A rollout that a gate of its one step ends; what came of it, and the users.
async fn caught(rolling: &Rolling<'_>, image: &str, gate: &str) -> (Arc<Site>, Tasks, Load, RolloutStatus) {
    let steps = "canary: {steps: [{weight: 20, gates: [success, latency]}, {weight: 50}]}";
    let (site, tasks) =
        serving(rolling, BTreeMap::new(), "model:1", |address| policy(steps, &gates(address, 30))).await;
    let load = site.load();
    rolling.commit(&[("fraud", &fraud(image, 4, ""))], image);
    let status = rolls(rolling).await;
    assert_eq!(status.phase, RolloutPhase::Rejected, "{status:?}");
    rolling.gone("fraud-candidate").await;
    site.only(4).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let why = &status.rejected[0].why;
    assert!(why.starts_with(&format!("gate {gate}: ")), "{why}");
    let message = rolling.world.reason("fraud", "Ready", "RolloutRejected").await;
    assert!(message.contains(why), "{message}");
    assert_eq!((rolling.image("fraud").await, rolling.size("fraud").await), ("model:1".into(), 4));
    let turns = site.turns();
    assert_eq!(turns.iter().map(|turn| turn.weight).collect::<Vec<_>>(), [0, 20, 0]);
    let said = site.said.lock().unwrap().clone();
    let failed = said
        .iter()
        .find(|(_, status)| status.gates.iter().any(|known| known.name == gate && known.failed > 0));
    let (failed, _) = failed.expect("a failed measurement is written down");
    println!(
        "{image}: {why}; {} ms from weight 20 to the first failed measurement, {} ms from there to weight 0",
        failed.duration_since(turns[1].observed).as_millis(),
        turns[2].observed.duration_since(*failed).as_millis(),
    );
    honest(&site);
    (site, tasks, load, status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_candidate_goes_back_and_few_users_see_it() {
    let world = &World::new("traffic-failing").await;
    let (site, _tasks, load, status) = caught(&Rolling { world }, "model:failing", "success").await;
    let why = &status.rejected[0].why;
    assert!(
        why.contains("1 measurement failed (0 are borne): 0") && why.ends_with("is not value >= 0.95"),
        "{why}"
    );

    let turns = site.turns();
    let all = load.answers();
    let meanwhile: Vec<&Answer> =
        all.iter().filter(|answer| answer.at >= turns[1].began && answer.at <= turns[2].observed).collect();
    let failures = all.iter().filter(|answer| answer.code != 200);
    let (mut own, mut late) = (0, 0);
    for failure in failures {
        assert!(failure.code == 500 && is_candidate(failure), "nothing but the candidate fails: {failure:?}");
        own += 1;
        late += usize::from(failure.at > turns[2].observed);
    }
    // 20 % of the requests, 30 % of these.
    let bound = meanwhile.len() * 6 / 100 + 5;
    println!(
        "a failing candidate: {} requests, {} of them while it had traffic, {own} failures ({bound} at most), {late} after weight 0",
        all.len(),
        meanwhile.len(),
    );
    assert!(own > 0 && own <= bound, "{own} failures, more than {bound}");
    assert_eq!(late, 0);
    share(&site, &load, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_candidate_goes_back() {
    let world = &World::new("traffic-slow").await;
    let (site, _tasks, load, status) = caught(&Rolling { world }, "model:slow", "latency").await;
    let why = &status.rejected[0].why;
    assert!(
        why.contains("3 measurements failed (2 are borne): ") && why.ends_with("is not value < 250"),
        "{why}"
    );
    share(&site, &load, 20);
    let lost: Vec<Answer> = load.answers().into_iter().filter(|answer| answer.code != 200).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Both sides by their counters: half as many failures more, and a tenth of slow requests more, are borne.
fn compared(address: &str) -> String {
    let side = r#"pod=~"{{side}}-[a-z0-9]+-[a-z0-9]+""#;
    format!(
        r#"  abortScaleDownDelay: 2s
  traffic: {{routes: [{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}}]}}
  gates:
  - name: errors
    interval: 1s
    compare:
      address: {address}
      errors:
        requests: 'sum(requests_total{{{side}}})'
        failures: 'sum(requests_total{{{side},code=~"5.."}})'
        ratio: 1.5
  - name: latency
    interval: 1s
    compare:
      address: {address}
      latency: {{buckets: 'sum by (le) (request_predict_seconds_bucket{{{side}}})', excess: 0.1}}
"#
    )
}

/// Every tenth request fails on both sides, which no threshold would let pass; what counts is whether one is worse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_are_compared_by_what_both_did() {
    let world = &World::new("traffic-compared").await;
    let rolling = &Rolling { world };
    let steps = "canary: {steps: [{weight: 50, gates: [errors, latency]}]}";
    let (site, _tasks) =
        serving(rolling, BTreeMap::new(), "model:noisy", |address| policy(steps, &compared(address))).await;
    let load = site.load();
    let mut known = site.said.lock().unwrap().len();
    for (image, rejected) in [
        ("model:noisy-too", None),
        ("model:failing", Some("gate errors: ")),
        ("model:noisy-slow", Some("gate latency: ")),
    ] {
        let begin = Instant::now();
        let commit = rolling.commit(&[("fraud", &fraud(image, 4, ""))], image);
        world.poke("fraud").await;
        let is_this =
            |status: &RolloutStatus| status.candidate.as_ref().is_some_and(|one| one.commit == commit);
        eventually("it begins", || async { is_this(&rolling.status().await).then_some(()) }).await;
        let wanted = if rejected.is_some() { RolloutPhase::Rejected } else { RolloutPhase::Healthy };
        let status = eventually("it ends", || async {
            let status = rolling.status().await;
            matches!(status.phase, RolloutPhase::Healthy | RolloutPhase::Rejected).then_some(status)
        })
        .await;
        let said = site.said.lock().unwrap().clone();
        let gates = said[known..].iter().rev().find(|(_, status)| status.gates.len() == 2);
        let (_, last) = gates.expect("both gates were asked");
        let words: Vec<&str> = last.gates.iter().map(|gate| gate.message.as_str()).collect();
        println!("{image}: {:?} after {:?}: {}", status.phase, begin.elapsed(), words.join("; "));
        assert_eq!(status.phase, wanted, "{image}: {status:?}");
        if let Some(gate) = rejected {
            let why = &status.rejected.last().unwrap().why;
            assert!(why.starts_with(gate) && why.contains("of the candidate"), "{why}");
        } else {
            // Undecided held it: it took more than one look.
            let waited = said[known..].iter().any(|(_, status)| {
                status.gates.iter().any(|gate| gate.answer == Some(GateAnswer::NoData) && gate.streak > 1)
            });
            assert!(waited, "{words:?}");
            world.ready("fraud", &commit).await;
        }
        rolling.gone("fraud-candidate").await;
        site.only(4).await;
        known = site.said.lock().unwrap().len();
    }
    let strange = load.answers().into_iter().find(|answer| !matches!(answer.code, 200 | 500));
    assert!(strange.is_none(), "{strange:?}");
    honest(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prometheus_that_ends_holds_the_canary_and_then_fails_it() {
    let world = &World::new("traffic-unmeasured").await;
    let rolling = &Rolling { world };
    let steps = "canary: {steps: [{weight: 20, gates: [success]}, {weight: 50}], background: [latency]}";
    let (site, _tasks) =
        serving(rolling, BTreeMap::new(), "model:1", |address| policy(steps, &gates(address, 100))).await;
    let load = site.load();
    rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    world.poke("fraud").await;
    let success = async |wanted: &dyn Fn(&GateStatus) -> bool| {
        eventually("the gate is so", || async {
            let status = rolling.status().await;
            let gate = status.gates.iter().find(|gate| gate.name == "success")?.clone();
            wanted(&gate).then_some(gate)
        })
        .await
    };
    success(&|gate| gate.passed >= 2).await;
    site.prometheus.lock().await.stop();
    let silent = success(&|gate| gate.answer == Some(GateAnswer::Error)).await;
    // It is held, and an error is no pass.
    let held = success(&|gate| gate.answer == Some(GateAnswer::Error) && gate.streak >= 3).await;
    assert_eq!((held.passed, held.failed), (silent.passed, silent.failed));
    let status = rolling.status().await;
    assert_eq!((status.phase, status.step), (RolloutPhase::Progressing, 0));
    assert_eq!(site.proxy.weight("fraud-candidate").await, 20);
    // An answer, and the errors before it are forgotten.
    site.prometheus.lock().await.again().await;
    success(&|gate| gate.passed > held.passed).await;
    let stopped = Instant::now();
    site.prometheus.lock().await.stop();
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    println!("without Prometheus: {why}");
    assert!(why.contains(": 5 measurements with an error in a row (4 are borne): "), "{why}");
    let said = site.said.lock().unwrap().clone();
    let passed = said.iter().filter(|(at, _)| *at >= stopped).flat_map(|(_, status)| {
        let errs = status.gates.iter().filter(|gate| gate.answer == Some(GateAnswer::Error));
        errs.map(|gate| (gate.name.clone(), gate.passed))
    });
    let passed: BTreeSet<(String, u32)> = passed.collect();
    assert_eq!(passed.len(), 2, "nothing passed meanwhile: {passed:?}");
    assert_eq!(site.turns().iter().map(|turn| turn.weight).collect::<Vec<_>>(), [0, 20, 0]);
    assert!(load.answers().iter().all(|answer| answer.code == 200));
    honest(&site);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weight_that_others_set_or_hold_back_is_never_said() {
    let world = &World::new("traffic-reverted").await;
    let rolling = &Rolling { world };
    let steps = "canary: {steps: [{weight: 20, hold: promoted}, {weight: 50, hold: promoted}]}";
    let routed = "  progressDeadline: 10s
  traffic: {routes: [{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}]}
";
    let (site, _tasks) = serving(rolling, BTreeMap::new(), "model:1", |_| policy(steps, routed)).await;
    let load = site.load();
    let second = rolling.commit(&[("fraud", &fraud("model:2", 4, ""))], "Two");
    world.poke("fraud").await;
    let candidate = || site.proxy.weight("fraud-candidate");
    rolling.says("step 1 of 3 (20 %): waits for `driftless").await;
    assert_eq!(candidate().await, 20);

    // Longer than the deadline: it was reached, so what comes later is no lack of progress.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let api = routes(rolling);
    for times in 1..=10 {
        let reset = json!({"spec": {"rules": [{"backendRefs": [{"name": "fraud", "port": 80}]}]}});
        api.patch("fraud", &PatchParams::default(), &Patch::Merge(reset)).await.unwrap();
        eventually("the weight is set again", || async {
            let turns = site.turns();
            let taken = turns.iter().filter(|turn| turn.weight == 20).count();
            (taken > times && turns.last().is_some_and(|last| last.weight == 20)).then_some(())
        })
        .await;
        assert_eq!(candidate().await, 20);
    }
    let status = rolling.says("step 1 of 3 (20 %): waits for `driftless").await;
    assert_eq!((status.phase, status.step), (RolloutPhase::Progressing, 0));
    let weights: Vec<u32> = site.turns().iter().map(|turn| turn.weight).collect();
    println!("reverted 10 times: {weights:?}");

    // A router that does not take it up.
    site.is_deaf.store(true, Ordering::SeqCst);
    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (50 %): the router is to send 50 %").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = rolling.status().await;
    assert_eq!(
        (status.message.as_str(), status.reached_at.as_str()),
        ("step 2 of 3 (50 %): the router is to send 50 %", "")
    );
    assert_eq!(candidate().await, 20);
    site.is_deaf.store(false, Ordering::SeqCst);
    rolling.says("step 2 of 3 (50 %): waits for `driftless").await;
    assert_eq!(candidate().await, 50);

    // An API server that refuses the weight.
    let refusal = Refusal::of_routes(world, &api).await;
    rolling.ask("Promote", "b").await;
    let status = eventually("the policy says who refuses", || async {
        let status = rolling.status().await;
        status.message.contains("nobody changes routes").then_some(status)
    })
    .await;
    let message = &status.message;
    assert!(message.starts_with("step 3 of 3 (100 %): the router is to send 100 %: "), "{message}");
    let (_, _, alarm) = world.condition("fraud", "Ready").await.unwrap();
    println!("refused: {message:?}; {alarm:?}");
    assert_eq!((status.phase, status.step, status.reached_at.as_str()), (RolloutPhase::Progressing, 2, ""));
    assert_eq!(candidate().await, 50);
    refusal.end(&api).await;
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    rolling.gone("fraud-candidate").await;
    site.only(4).await;
    assert_eq!(candidate().await, 0);
    assert!(load.answers().iter().all(|answer| answer.code == 200));
    honest(&site);
}

/// Two versions of a model in MLflow's registry, each served by MLflow itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_mlflow_takes_the_place_of_its_champion() {
    let world = &World::new("traffic-mlflow").await;
    let rolling = &Rolling { world };
    let mlflow = Mlflow::start().await;
    mlflow.log_models("fraud", "auc", &[("0.91", 1.0), ("0.93", 2.0), ("0.90", 3.0)]).await;
    mlflow.alias("fraud", "champion", "1").await;
    let (one, two, three) = tokio::join!(
        mlflow.serve("models:/fraud/1"),
        mlflow.serve("models:/fraud/2"),
        mlflow.serve("models:/fraud/3"),
    );
    let served = [("model:1", &one), ("model:2", &two), ("model:3", &three)];
    let served = served.map(|(image, model)| (image.to_owned(), model.port()));
    let address = mlflow.address();
    // What is rolled out is in Git with the version that it is of.
    let compared = |version: u32| {
        let gate = format!(
            "  abortScaleDownDelay: 1s
  traffic: {{routes: [{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}}]}}
  gates:
  - {{name: champion, interval: 1s, count: 3, mlflow: {{address: '{address}', model: fraud, candidateVersion: '{version}', championAlias: champion, metric: auc}}}}
"
        );
        policy("canary: {steps: [{weight: 20, gates: [champion]}]}", &gate)
    };
    let (site, _tasks) = serving(rolling, served.into(), "model:1", |_| compared(1)).await;
    let url = format!("http://{}/invocations", site.proxy.host());
    let load = Load::start(url, r#"{"inputs": [[1, 2]]}"#, EVERY * 4);
    let second = rolling.commit(&[("fraud", &fraud("model:2", 4, "")), ("policy", &compared(2))], "Two");
    let status = rolls(rolling).await;
    assert_eq!(status.phase, RolloutPhase::Healthy, "{status:?}");
    world.ready("fraud", &second).await;
    mlflow.alias("fraud", "champion", "2").await;

    rolling.commit(&[("fraud", &fraud("model:3", 4, "")), ("policy", &compared(3))], "Three");
    let status = rolls(rolling).await;
    let why = &status.rejected[0].why;
    assert!(why.contains("auc 0.9 of the candidate, 0.93 of the champion, is not candidate >="), "{why}");
    rolling.gone("fraud-candidate").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = load.answers();
    let mut by_version = BTreeMap::new();
    for answer in &all {
        assert_eq!(answer.code, 200, "{answer:?}");
        *by_version.entry(answer.body.as_str()).or_insert(0) += 1;
    }
    println!("MLflow: {by_version:?}; {why}");
    // The third is measured as soon as it has traffic, and so it has hardly any.
    assert!((2..=3).contains(&by_version.len()), "{by_version:?}");
    assert_eq!(all.last().unwrap().body, r#"{"predictions": [2.0]}"#);
    assert_eq!(site.turns().iter().map(|turn| turn.weight).collect::<Vec<_>>(), [0, 20, 100, 0, 20, 0]);
    honest(&site);
}

/// Nobody changes the routes of a namespace.
struct Refusal {
    policies: Api<ValidatingAdmissionPolicy>,
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Refusal {
    async fn of_routes(world: &World, routes: &Api<DynamicObject>) -> Self {
        let name = format!("{}-routes", world.namespace);
        let rule = json!({"apiGroups": ["gateway.networking.k8s.io"], "apiVersions": ["*"],
            "operations": ["UPDATE"], "resources": ["httproutes"]});
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}});
        let policy = json!({"metadata": {"name": name}, "spec": {
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
            "validations": [{"expression": "false", "message": "nobody changes routes"}]}});
        let binding = json!({"metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}});
        let made =
            Self { policies: Api::all(world.client.clone()), bindings: Api::all(world.client.clone()), name };
        let create = PostParams::default();
        made.policies.create(&create, &serde_json::from_value(policy).unwrap()).await.unwrap();
        made.bindings.create(&create, &serde_json::from_value(binding).unwrap()).await.unwrap();
        eventually("routes are refused", || async { (!may_change(routes).await).then_some(()) }).await;
        made
    }

    async fn end(self, routes: &Api<DynamicObject>) {
        self.bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.policies.delete(&self.name, &DeleteParams::default()).await.unwrap();
        eventually("routes are not refused", || async { may_change(routes).await.then_some(()) }).await;
    }
}

async fn may_change(routes: &Api<DynamicObject>) -> bool {
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = json!({"metadata": {"annotations": {"tests.example/dry": "run"}}});
    routes.patch("fraud", &dry, &Patch::Merge(patch)).await.is_ok()
}

/// Whenever the policy began to say that a step is reached, haproxy had its weight since what it said before.
fn honest(site: &Site) {
    let (said, turns) = (site.said.lock().unwrap().clone(), site.turns());
    let claims = |status: &RolloutStatus| {
        let reached = status.phase == RolloutPhase::Progressing && !status.reached_at.is_empty();
        (reached && !status.message.contains("the router is to send")).then_some(status.weight)
    };
    let mut begun = 0;
    for (place, (at, status)) in said.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|before| claims(&said[before].1));
        let Some(weight) = claims(status).filter(|weight| Some(*weight) != before) else { continue };
        begun += 1;
        let since = said[place.saturating_sub(2)].0;
        let had = turns.iter().enumerate().any(|(number, turn)| {
            let until = turns.get(number + 1).map_or(*at, |next| next.observed);
            turn.weight == weight && turn.observed <= *at && until >= since
        });
        assert!(had, "{weight} % is said, which haproxy had not: {status:?} {turns:?}");
    }
    assert!(begun > 0, "nothing is said");
}
