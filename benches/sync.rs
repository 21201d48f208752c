//! Waves, verdicts and how soon they are told, measured on a real API server: part of `make bench`.
//!
//! 5,000 objects in one wave and in 10, in the same run; the verdict on 20,000 objects; the time from a pod's readiness to
//! the health of its application. Prints a table; `target/bench-sync.json` has it all.

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

use driftless::api::Application;
use driftless::health::{Status, assess, worst};
use driftless::model::Gvk;
use driftless::model::yaml;
use futures::StreamExt;
use harness::cluster::{self, Agent, Running, client, install, launch};
use harness::git::{Repository, Server};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use meter::{percentiles, say};
use serde_json::{Value, json};

const NAMESPACE: &str = "bench";
/// Objects of the application with waves.
const OBJECTS: usize = 5000;
const WAVES: usize = 10;
/// Objects that are judged.
const JUDGED: usize = 20_000;
/// Samples of a pod that becomes ready.
const SAMPLES: usize = 40;

struct World {
    client: Client,
    running: Running,
    repository: Repository,
    _git: Server,
}

impl World {
    async fn new() -> Self {
        let parts = "controller-manager,scheduler";
        let running = tokio::task::spawn_blocking(|| launch(None, parts)).await.expect("started");
        let client = client(&running.plane).await;
        install(&client).await;
        cluster::namespace(&client, NAMESPACE).await;
        let git = Server::start().await;
        let repository = git.repository("ml/platform");
        Self { client, running, repository, _git: git }
    }

    fn applications(&self) -> Api<Application> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn declare(&self, name: &str) {
        let stated = json!({
            "apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"repo": self.repository.url, "revision": "main", "path": name}},
        });
        let stated = serde_json::from_value(stated).expect("an Application");
        self.applications().create(&PostParams::default(), &stated).await.expect("created");
    }

    /// Waits until a watch shows an Application for which this holds; the moment.
    async fn until(&self, name: &str, holds: impl Fn(&Application) -> bool) -> Instant {
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher::watcher(self.applications(), only).boxed();
        let wait = async {
            loop {
                let event = events.next().await;
                if let Some(Ok(watcher::Event::Apply(app) | watcher::Event::InitApply(app))) = event
                    && holds(&app)
                {
                    return Instant::now();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(600), wait).await.expect("so within ten minutes")
    }
}

/// `ConfigMaps` in as many waves.
fn maps(waves: usize, prefix: &str) -> Vec<(String, String)> {
    (0..waves)
        .map(|wave| {
            let each = (0..OBJECTS / waves).map(|number| {
                format!(
                    "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {prefix}-{wave}-{number:04}\n  \
                     annotations: {{argocd.argoproj.io/sync-wave: \"{wave}\"}}\ndata: {{value: \"{number}\"}}\n"
                )
            });
            (format!("{prefix}/wave-{wave}.yaml"), each.collect())
        })
        .collect()
}

/// Seconds from the Application to Ready.
async fn sync(world: &World, name: &str, waves: usize) -> f64 {
    let files = maps(waves, name);
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let commit = world.repository.commit(&files, name);
    let begin = Instant::now();
    world.declare(name).await;
    let end = world.until(name, |app| cluster::is_ready(app, &commit)).await;
    (end - begin).as_secs_f64()
}

/// Objects of the health fixtures, over and over, as the watches decode them.
fn fixtures() -> Vec<(Gvk, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/health");
    let mut all = Vec::new();
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("one").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|found| found == "yaml")) {
        let text = std::fs::read(path).expect("a fixture");
        for document in yaml::read(&text, &path.display().to_string()).expect("YAML") {
            collect(&document.value, &mut all);
        }
    }
    all
}

/// Every Kubernetes object in a document of fixtures.
fn collect(value: &Value, all: &mut Vec<(Gvk, Value)>) {
    match value {
        Value::Object(fields) => {
            if let (Some(version), Some(kind)) = (fields.get("apiVersion"), fields.get("kind"))
                && let (Some(version), Some(kind)) = (version.as_str(), kind.as_str())
            {
                all.push((Gvk::parse(version, kind), value.clone()));
                return;
            }
            fields.values().for_each(|field| collect(field, all));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
        _ => {}
    }
}

/// Milliseconds for all verdicts and the worst of them, on one core; and how many kinds of verdict there were.
fn judge() -> (f64, usize, usize) {
    let known = fixtures();
    let objects: Vec<&(Gvk, Value)> = known.iter().cycle().take(JUDGED).collect();
    let begin = Instant::now();
    let verdicts = objects.iter().enumerate().map(|(number, (gvk, object))| (number, assess(gvk, object)));
    let verdicts: Vec<_> = verdicts.collect();
    let statuses: std::collections::BTreeSet<Status> =
        verdicts.iter().map(|(_, health)| health.status).collect();
    let of_all = worst(verdicts);
    let spent = begin.elapsed().as_secs_f64() * 1000.0;
    assert_ne!(of_all.status, Status::Healthy, "fixtures hold failures");
    (spent, statuses.len(), known.len())
}

async fn set_ready(pods: &Api<Pod>, name: &str, ready: bool) {
    let (word, phase) = if ready { ("True", "Running") } else { ("False", "Running") };
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let patch = json!({"status": {"phase": phase, "conditions": [
        {"type": "Ready", "status": word, "lastTransitionTime": now},
        {"type": "ContainersReady", "status": word, "lastTransitionTime": now}]}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .expect("the pod's status");
}

/// Milliseconds from a pod's Ready condition to its application's Healthy, and from there to the Deployment's own word.
async fn readiness(world: &World) -> Vec<Duration> {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let node = json!({"metadata": {"name": "node-0"}, "status": {
        "allocatable": {"cpu": "100", "memory": "1Ti", "pods": "1000"},
        "capacity": {"cpu": "100", "memory": "1Ti", "pods": "1000"}}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node).expect("a node")).await.expect("made");
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: model}\nspec:\n  selector: {matchLabels: {app: model}}\n  \
                template:\n    metadata: {labels: {app: model}}\n    spec:\n      tolerations: [{operator: Exists}]\n      \
                containers: [{name: model, image: \"model:1\"}]\n";
    world.repository.commit(&[("serving/model.yaml", text)], "Serve");
    world.declare("serving").await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let only = ListParams::default().labels("app=model");
    let pod = harness::eventually("the pod has a node", || async {
        let pod = pods.list(&only).await.ok()?.items.into_iter().next()?;
        pod.spec.as_ref()?.node_name.as_ref()?;
        Some(pod.name_any())
    })
    .await;
    let healthy = |app: &Application, wanted: bool| {
        app.status.as_ref().is_some_and(|status| (status.health.status == "Healthy") == wanted)
    };
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        world.until("serving", |app| healthy(app, false)).await;
        // Longer than whatever is put off while something is on its way.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (began, seen) = tokio::join!(
            async {
                // The watch below is open by then.
                tokio::time::sleep(Duration::from_millis(200)).await;
                let began = Instant::now();
                set_ready(&pods, &pod, true).await;
                began
            },
            world.until("serving", |app| healthy(app, true))
        );
        samples.push(seen - began);
        set_ready(&pods, &pod, false).await;
    }
    samples
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (verdicts, statuses, known) = judge();
    say(&format!("{JUDGED} verdicts over {known} fixtures: {verdicts:.0} ms, {statuses} kinds of answer"));
    let world = World::new().await;
    let agent = Agent::start(&world.running.plane, &["--interval", "3600"]);
    let flat = sync(&world, "flat", 1).await;
    say(&format!("{OBJECTS} objects in one wave: {flat:.2} s"));
    let waves = sync(&world, "waves", WAVES).await;
    say(&format!("{OBJECTS} objects in {WAVES} waves: {waves:.2} s"));
    let samples = readiness(&world).await;
    let (p50, p95) = percentiles(samples);
    drop(agent);
    say(&format!(
        "\n| | |\n|---|---|\n| sync of {OBJECTS} objects, one wave | {flat:.1} s |\n\
         | the same in {WAVES} waves | {waves:.1} s ({:.2} x) |\n\
         | verdicts on {JUDGED} objects, one core | {verdicts:.0} ms |\n\
         | a pod is ready -> its application is Healthy, p50 / p95 | {p50:.0} / {p95:.0} ms |",
        waves / flat
    ));
    let all = json!({
        "objects": OBJECTS, "waves": WAVES, "oneWaveSeconds": flat, "wavesSeconds": waves,
        "judged": JUDGED, "verdictsMs": verdicts, "readinessMs": {"p50": p50, "p95": p95, "samples": SAMPLES},
    });
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("bench-sync.json");
    std::fs::write(path, format!("{all:#}\n")).expect("written");
}
