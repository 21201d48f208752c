//! Rollouts, measured on a real API server with pods by KWOK: `cargo bench --bench rollouts`.
//!
//! Each application has a Deployment, a Service, a route (Istio's kind, which nobody needs to accept) and a policy. A commit
//! changes all images; every rollout comes to a step that holds it. Then single ones are promoted and aborted, with all
//! the others under way. `ROLLOUTS=200` measures fewer than 2,000.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends a test, a demo or a bench"
)]

#[allow(dead_code, reason = "tests, demo and bench each take a part of the harness")]
#[path = "../tests/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "benches each take a part of it")]
mod meter;

use std::time::{Duration, Instant};

use driftless::api::{Application, RolloutPhase, RolloutPolicy, RolloutStatus};
use futures::StreamExt;
use harness::cluster::{self, Agent, Running, client, install, launch};
use harness::crds;
use harness::git::{Repository, Server};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use meter::{asked, cost, percentiles, say, since};
use serde_json::json;

/// Promotions and aborts that are measured.
const SAMPLES: usize = 20;

fn manifests(app: usize, image: &str) -> String {
    let name = format!("app-{app:04}");
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: server, image: '{image}'}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{name}], http: [{{route: [{{destination: {{host: {name}}}}}]}}]}}
---
apiVersion: driftless.dev/v1alpha1
kind: RolloutPolicy
metadata: {{name: {name}}}
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  strategy: {{canary: {{steps: [{{weight: 10, hold: promoted}}, {{weight: 50, hold: promoted}}]}}}}
  progressDeadline: 1h
  abortScaleDownDelay: 1s
  traffic: {{routes: [{{apiVersion: networking.istio.io/v1, kind: VirtualService, name: {name}}}]}}
"
    )
}

struct Fleet {
    client: Client,
    running: Running,
    repository: Repository,
    _git: Server,
    apps: usize,
}

fn namespace(app: usize) -> String {
    format!("team-{:02}", app % 20)
}

fn name(app: usize) -> String {
    format!("app-{app:04}")
}

impl Fleet {
    async fn new(apps: usize) -> Self {
        let parts = "controller-manager,scheduler,kwok";
        let running = tokio::task::spawn_blocking(move || launch(None, parts)).await.expect("started");
        let client = client(&running.plane).await;
        install(&client).await;
        crds::install(&client, &crds::ISTIO, &["VirtualService"]).await;
        // Two pods for each application.
        for number in 0..=(apps / 400) {
            cluster::numbered_node(&client, number).await;
        }
        let git = Server::start().await;
        let repository = git.repository("ml/platform");
        Self { client, running, repository, _git: git, apps }
    }

    fn commit(&self, image: &str) -> String {
        let files: Vec<(String, String)> = (0..self.apps)
            .map(|app| (format!("apps/{}/all.yaml", name(app)), manifests(app, image)))
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.repository.commit(&files, image)
    }

    async fn declare(&self) {
        for number in 0..20 {
            cluster::namespace(&self.client, &format!("team-{number:02}")).await;
        }
        let all = (0..self.apps).map(|app| async move {
            let stated = json!({
                "apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
                "metadata": {"name": name(app), "namespace": namespace(app)},
                "spec": {"source": {"repo": self.repository.url, "revision": "main", "path": format!("apps/{}", name(app))}},
            });
            let api: Api<Application> = Api::namespaced(self.client.clone(), &namespace(app));
            let stated = serde_json::from_value(stated).expect("an Application");
            api.create(&PostParams::default(), &stated).await.expect("created");
        });
        futures::stream::iter(all.collect::<Vec<_>>()).buffer_unordered(16).collect::<Vec<()>>().await;
    }

    /// Waits until so many policies stand so, as a watch sees them.
    async fn all(&self, what: &str, is_so: impl Fn(&RolloutStatus) -> bool) {
        let api: Api<RolloutPolicy> = Api::all(self.client.clone());
        let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
        let mut found = std::collections::HashSet::new();
        let limit = Instant::now() + Duration::from_secs(1800);
        while found.len() < self.apps {
            let left = limit.saturating_duration_since(Instant::now());
            let event = tokio::time::timeout(left, events.next()).await;
            let event = event.unwrap_or_else(|_| panic!("{} of {} {what}", found.len(), self.apps));
            let Some(Ok(watcher::Event::Apply(policy) | watcher::Event::InitApply(policy))) = event else {
                continue;
            };
            if policy.status.as_ref().is_some_and(&is_so) {
                found.insert(policy.name_any());
            }
        }
    }

    async fn ask(&self, app: usize, verb: &str) {
        let api: Api<RolloutPolicy> = Api::namespaced(self.client.clone(), &namespace(app));
        let request = json!({"id": verb, "verb": verb, "by": "bench"}).to_string();
        let patch = json!({"metadata": {"annotations": {"driftless.dev/rollout-request": request}}});
        api.patch(&name(app), &PatchParams::default(), &Patch::Merge(patch)).await.expect("asked");
    }

    /// From a request until its decision is written down.
    async fn decided(&self, app: usize) -> Duration {
        let api: Api<RolloutPolicy> = Api::namespaced(self.client.clone(), &namespace(app));
        let only = watcher::Config::default().fields(&format!("metadata.name={}", name(app)));
        let mut events = watcher::watcher(api, only).boxed();
        while !matches!(events.next().await, Some(Ok(watcher::Event::InitDone))) {}
        let begin = Instant::now();
        self.ask(app, "Promote").await;
        let wait = async {
            loop {
                if let Some(Ok(watcher::Event::Apply(policy))) = events.next().await
                    && policy.status.is_some_and(|status| !status.acts.is_empty() && status.step == 1)
                {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("decided within a minute");
        begin.elapsed()
    }

    /// From an abort until the route sends the candidate nothing.
    async fn drained(&self, app: usize, routes: &ApiResource) -> Duration {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace(app), routes);
        let only = watcher::Config::default().fields(&format!("metadata.name={}", name(app)));
        let mut events = watcher::watcher(api, only).boxed();
        while !matches!(events.next().await, Some(Ok(watcher::Event::InitDone))) {}
        let begin = Instant::now();
        self.ask(app, "Abort").await;
        let wait = async {
            loop {
                if let Some(Ok(watcher::Event::Apply(route))) = events.next().await
                    && route.data["spec"]["http"][0]["route"].as_array().is_some_and(|all| all.len() == 1)
                {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("drained within a minute");
        begin.elapsed()
    }
}

#[tokio::main]
async fn main() {
    let apps = std::env::var("ROLLOUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let fleet = Fleet::new(apps).await;
    fleet.commit("model:1");
    fleet.declare().await;
    let agent = Agent::start(&fleet.running.plane, &["--interval", "3600"]);
    let begin = Instant::now();
    fleet.all("are healthy", |status| status.phase == RolloutPhase::Healthy).await;
    say(&format!("{apps} rollouts: first sync, all Healthy: {:.1} s", begin.elapsed().as_secs_f64()));
    let (_, rests, _) = cost(agent.id());

    let before = asked(&agent).await;
    let (cpu, ..) = cost(agent.id());
    fleet.commit("model:2");
    let begin = Instant::now();
    let apis: Vec<Api<Application>> =
        (0..20).map(|team| Api::namespaced(fleet.client.clone(), &format!("team-{team:02}"))).collect();
    cluster::poke(&apis[0], &name(0)).await;
    fleet
        .all("hold at 10 %", |status| {
            status.phase == RolloutPhase::Progressing && !status.reached_at.is_empty()
        })
        .await;
    let (now, rss, peak) = cost(agent.id());
    let asked_for = since(&before, &asked(&agent).await);
    let all: u64 = asked_for.values().sum();
    say(&format!(
        "one commit to all, all held at 10 %: {:.1} s, agent {:.1} CPU s; memory {rests} MiB at rest before, {rss} MiB with all under way, {peak} MiB peak",
        begin.elapsed().as_secs_f64(),
        now - cpu
    ));
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    let each = all as f64 / apps as f64;
    say(&format!("requests of the agent for a rollout to its first step: {each:.1} ({asked_for:?})"));

    // A minute in which nothing happens, after the last words are written.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = asked(&agent).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let quiet = since(&before, &asked(&agent).await);
    say(&format!("requests in a quiet minute with all of them held: {quiet:?}"));

    let mut decided = Vec::new();
    for app in 0..SAMPLES.min(apps / 2) {
        decided.push(fleet.decided(app).await);
    }
    let (p50, p95) = percentiles(decided);
    say(&format!("request -> decision written: {p50:.0} / {p95:.0} ms (p50 / p95)"));
    let routes = ApiResource {
        group: "networking.istio.io".into(),
        version: "v1".into(),
        api_version: "networking.istio.io/v1".into(),
        kind: "VirtualService".into(),
        plural: "virtualservices".into(),
    };
    let mut drained = Vec::new();
    for app in apps - SAMPLES.min(apps / 2)..apps {
        drained.push(fleet.drained(app, &routes).await);
    }
    let (p50, p95) = percentiles(drained);
    say(&format!("abort -> no weight on the route: {p50:.0} / {p95:.0} ms (p50 / p95)"));
}
