//! What the README claims, measured on a real API server: `make bench`.
//!
//! For each size: first sync, a commit for the whole fleet, a commit for one application, repair of drift, a
//! restarted agent (no-op resync), a quiet minute, CPU and memory. Prints a table; `target/bench.json` has it all.
//! `make bench SIZES=100` (or `100x4,1000x4,1000x20`: applications x objects) measures less.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends a test, a demo or a bench"
)]

#[allow(dead_code, reason = "tests, demo and bench each take a part of the harness")]
#[path = "../tests/harness/mod.rs"]
mod harness;
mod meter;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use driftless::api::Application;
use futures::StreamExt;
use harness::cluster::{self, Agent, Running, client, install, launch};
use harness::git::{Repository, Server};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use meter::{asked, cost, percentiles, requests, say, since};
use serde_json::{Value, json};

/// Samples of one commit and of one repair.
const SAMPLES: usize = 20;
/// The quiet time that is measured.
const QUIET: Duration = Duration::from_secs(60);

/// The four objects that the peers were measured with, and `ConfigMaps` up to the wanted number.
fn manifests(app: usize, objects: usize, revision: &str) -> String {
    let name = format!("app-{app:04}");
    let mut text = format!(
        "apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, annotations: {{revision: {revision:?}}}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{serviceAccountName: {name}, containers: [{{name: server, image: 'registry.example/model:1'}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec: {{rules: [{{host: {name}.example, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}}}]}}
"
    );
    for number in 4..objects {
        text.push_str(&format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}-{number}}}\ndata: {{key: value}}\n"));
    }
    text
}

struct Fleet {
    client: Client,
    running: Running,
    repository: Repository,
    _git: Server,
    apps: usize,
    objects: usize,
}

impl Fleet {
    async fn new(apps: usize, objects: usize) -> Self {
        let running =
            tokio::task::spawn_blocking(|| launch(None, "controller-manager")).await.expect("started");
        let client = client(&running.plane).await;
        install(&client).await;
        let git = Server::start().await;
        let repository = git.repository("ml/platform");
        Self { client, running, repository, _git: git, apps, objects }
    }

    fn namespace(app: usize) -> String {
        format!("team-{:02}", app % 10)
    }

    fn commit(&self, which: impl Iterator<Item = usize>, revision: &str) -> String {
        let files: Vec<(String, String)> = which
            .map(|app| (format!("apps/app-{app:04}/all.yaml"), manifests(app, self.objects, revision)))
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.repository.commit(&files, revision)
    }

    async fn declare(&self) {
        for number in 0..10.min(self.apps) {
            cluster::namespace(&self.client, &format!("team-{number:02}")).await;
        }
        let all = (0..self.apps).map(|app| async move {
            let stated = json!({
                "apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
                "metadata": {"name": format!("app-{app:04}"), "namespace": Self::namespace(app)},
                "spec": {"source": {"repo": self.repository.url, "revision": "main", "path": format!("apps/app-{app:04}")}},
            });
            let api: Api<Application> = Api::namespaced(self.client.clone(), &Self::namespace(app));
            api.create(&PostParams::default(), &serde_json::from_value(stated).expect("an Application")).await.expect("created");
        });
        futures::stream::iter(all.collect::<Vec<_>>()).buffer_unordered(16).collect::<Vec<()>>().await;
    }

    /// Waits until every Application is ready at a commit.
    async fn all_ready(&self, commit: &str) {
        let api: Api<Application> = Api::all(self.client.clone());
        let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
        let mut ready = HashSet::new();
        let limit = Instant::now() + Duration::from_secs(900);
        while ready.len() < self.apps {
            let left = limit.saturating_duration_since(Instant::now());
            let event = tokio::time::timeout(left, events.next())
                .await
                .unwrap_or_else(|_| panic!("{} of {} are ready", ready.len(), self.apps));
            let Some(Ok(watcher::Event::Apply(app) | watcher::Event::InitApply(app))) = event else {
                continue;
            };
            if cluster::is_ready(&app, commit) {
                ready.insert((app.namespace(), app.name_any()));
            }
        }
    }

    fn applications(&self, app: usize) -> Api<Application> {
        Api::namespaced(self.client.clone(), &Self::namespace(app))
    }

    async fn poke(&self, app: usize) {
        cluster::poke(&self.applications(app), &format!("app-{app:04}")).await;
    }

    /// Does something and measures until the Deployment's annotation has a value, as a watch sees it.
    async fn until_live<F: Future<Output = ()>>(&self, app: usize, value: &str, act: F) -> Duration {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &Self::namespace(app));
        let only = watcher::Config::default().fields(&format!("metadata.name=app-{app:04}"));
        let mut events = watcher::watcher(api, only).boxed();
        while !matches!(events.next().await, Some(Ok(watcher::Event::InitDone))) {}
        let begin = Instant::now();
        act.await;
        let wait = async {
            loop {
                if let Some(Ok(watcher::Event::Apply(found))) = events.next().await
                    && found.annotations().get("revision").map(String::as_str) == Some(value)
                {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("live within a minute");
        begin.elapsed()
    }
}

async fn measure(apps: usize, objects: usize) -> Value {
    let title = format!("{apps} x {objects}");
    say(&format!("{title}: preparing"));
    let fleet = Fleet::new(apps, objects).await;
    let first = fleet.commit(0..apps, "first");
    fleet.declare().await;

    let begin = Instant::now();
    let agent = Agent::start(&fleet.running.plane, &["--interval", "3600"]);
    fleet.all_ready(&first).await;
    let first_sync = begin.elapsed().as_secs_f64();
    say(&format!("{title}: first sync {first_sync:.2} s"));

    let second = fleet.commit(0..apps, "second");
    let (own, server) = (asked(&agent).await, requests(&fleet.client).await);
    let begin = Instant::now();
    fleet.poke(0).await;
    fleet.all_ready(&second).await;
    let fleet_commit = begin.elapsed().as_secs_f64();
    let fleet_own = since(&own, &asked(&agent).await);
    let fleet_server = since(&server, &requests(&fleet.client).await);
    say(&format!(
        "{title}: fleet commit {fleet_commit:.2} s; the agent asked {fleet_own:?} of {fleet_server:?}"
    ));

    let (mut commits, mut repairs) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let (app, value) = (sample * 7 % apps, format!("commit-{sample}"));
        fleet.commit(std::iter::once(app), &value);
        commits.push(fleet.until_live(app, &value, fleet.poke(app)).await);
    }
    let commits = percentiles(commits);
    say(&format!("{title}: one commit {:.0} / {:.0} ms", commits.0, commits.1));
    for sample in 0..SAMPLES {
        let (app, value) = (sample * 7 % apps, format!("commit-{sample}"));
        let api: Api<Deployment> = Api::namespaced(fleet.client.clone(), &Fleet::namespace(app));
        let edit = json!({"metadata": {"annotations": {"revision": "edited"}}});
        let act = async {
            api.patch(&format!("app-{app:04}"), &PatchParams::default(), &Patch::Merge(edit))
                .await
                .expect("edited");
        };
        // The edit itself is seen first; what counts is the value that Git states.
        repairs.push(fleet.until_live(app, &value, act).await);
    }
    let repairs = percentiles(repairs);
    say(&format!("{title}: repair {:.0} / {:.0} ms", repairs.0, repairs.1));

    let (working_cpu, _, working_peak) = cost(agent.id());
    agent.terminate();
    let before = requests(&fleet.client).await;
    let begin = Instant::now();
    let agent = Agent::start(&fleet.running.plane, &["--interval", "3600"]);
    harness::eventually("the restarted agent has looked at every application", || async {
        (agent.passes().await >= apps as u64).then_some(())
    })
    .await;
    let resync = begin.elapsed().as_secs_f64();
    let resync_requests = asked(&agent).await;
    let writes: BTreeMap<String, u64> = since(&before, &requests(&fleet.client).await)
        .into_iter()
        .filter(|(verb, _)| ["PATCH", "APPLY", "POST", "DELETE"].contains(&verb.as_str()))
        .collect();
    say(&format!(
        "{title}: no-op resync {resync:.2} s, {resync_requests:?}; writes at the server {writes:?}"
    ));

    tokio::time::sleep(Duration::from_secs(3)).await;
    let (cpu, own, server) = (cost(agent.id()).0, asked(&agent).await, requests(&fleet.client).await);
    tokio::time::sleep(QUIET).await;
    let (after, resting, peak) = cost(agent.id());
    let idle = since(&own, &asked(&agent).await);
    // The control plane's own parts ask in any case; the same minute without the agent tells how much.
    let with_agent = since(&server, &requests(&fleet.client).await);
    say(&format!(
        "{title}: idle {:.2} CPU s, {idle:?}; {resting} MiB at rest, {peak} MiB peak, {working_peak} MiB while working",
        after - cpu
    ));
    agent.terminate();
    let server = requests(&fleet.client).await;
    tokio::time::sleep(QUIET).await;
    let without_agent = since(&server, &requests(&fleet.client).await);
    say(&format!("{title}: the server's count with the agent {with_agent:?}, without {without_agent:?}"));
    json!({
        "apps": apps, "objects": apps * objects,
        "firstSyncSeconds": first_sync, "fleetCommitSeconds": fleet_commit,
        "fleetCommitRequests": fleet_own, "fleetCommitRequestsAtServer": fleet_server,
        "commitMs": {"p50": commits.0, "p95": commits.1}, "repairMs": {"p50": repairs.0, "p95": repairs.1},
        "resyncSeconds": resync, "resyncRequests": resync_requests, "resyncWritesAtServer": writes,
        "idleMinute": {"cpuSeconds": after - cpu, "requests": idle, "atServer": with_agent, "atServerWithoutAgent": without_agent},
        "workingCpuSeconds": working_cpu, "workingPeakMiB": working_peak, "restingMiB": resting, "restartPeakMiB": peak,
    })
}

fn row(name: &str, results: &[Value], cell: impl Fn(&Value) -> String) -> String {
    let cells: Vec<String> = results.iter().map(cell).collect();
    format!("| {name} | {} |", cells.join(" | "))
}

#[tokio::main]
async fn main() {
    // kube and reqwest share it; plain HTTP to the agent needs none, but the client is built with one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sizes = std::env::var("SIZES").unwrap_or_else(|_| "100x4,1000x4,1000x20".into());
    let mut results = Vec::new();
    for size in sizes.split(',').filter(|size| !size.is_empty()) {
        let (apps, objects) = size.split_once('x').unwrap_or((size, "4"));
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .unwrap_or_else(|_| panic!("SIZES={sizes}: {size} is not APPSxOBJECTS"))
        };
        results.push(measure(number(apps), number(objects).max(4)).await);
    }
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let pair = |value: &Value| format!("{:.0} / {:.0} ms", number(&value["p50"]), number(&value["p95"]));
    let sum =
        |value: &Value| value.as_object().into_iter().flatten().map(|(_, count)| number(count)).sum::<f64>();
    let table = [
        row("applications x objects", &results, |one| {
            format!("{} x {}", one["apps"], number(&one["objects"]) / number(&one["apps"]))
        }),
        format!("|---|{}", "---|".repeat(results.len())),
        row("first sync, all ready", &results, |one| format!("{:.1} s", number(&one["firstSyncSeconds"]))),
        row("one commit to all, all ready", &results, |one| {
            format!("{:.1} s", number(&one["fleetCommitSeconds"]))
        }),
        row("one commit to one, live (p50 / p95)", &results, |one| pair(&one["commitMs"])),
        row("hand edit repaired (p50 / p95)", &results, |one| pair(&one["repairMs"])),
        row("restart: every application looked at", &results, |one| {
            format!("{:.1} s", number(&one["resyncSeconds"]))
        }),
        row("requests in a quiet minute", &results, |one| {
            format!("{:.0}", sum(&one["idleMinute"]["requests"]).abs())
        }),
        row("CPU in a quiet minute", &results, |one| {
            format!("{:.2} s", number(&one["idleMinute"]["cpuSeconds"]))
        }),
        row("memory: at rest / peak while working", &results, |one| {
            format!("{} / {} MiB", one["restingMiB"], one["workingPeakMiB"])
        }),
    ]
    .join("\n");
    say(&format!("\n{table}"));
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
    let text = serde_json::to_string_pretty(&results).expect("JSON");
    std::fs::write(&file, text).expect("written");
    say(&format!("\n{}", file.display()));
}
