//! The main job on a real control plane, with its times: `make demo`.
//!
//! Deploy, merge, hand edit, drift report, revert. `KEEP=1` leaves everything running at the end.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends a test, a demo or a bench"
)]

#[allow(dead_code, reason = "tests, demo and bench each take a part of the harness")]
#[path = "../tests/harness/mod.rs"]
mod harness;

use std::io::Write;
use std::time::{Duration, Instant};

use driftless::api::Application;
use harness::cluster::{self, Agent, client, install, launch, program};
use harness::eventually;
use harness::git::{Repository, Server};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

const NAMESPACE: &str = "ml";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: fraud
spec:
  selector: {app: fraud}
  ports:
  - {name: http, port: 80, targetPort: 8080}
";

const TRAINING: &str = "\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: fraud-training
spec:
  schedule: \"0 3 * * *\"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: train
            image: registry.example/fraud-train:7
";

fn config(version: u32) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: fraud-config\ndata:\n  MODEL_URI: models:/fraud/{version}\n  THRESHOLD: \"0.8\"\n"
    )
}

fn server(version: u32) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: fraud\nspec:\n  replicas: 2\n  selector:\n    matchLabels: {{app: fraud}}\n  template:\n    metadata:\n      labels: {{app: fraud}}\n    spec:\n      containers:\n      - name: server\n        image: registry.example/fraud-server:{version}\n        envFrom:\n        - configMapRef: {{name: fraud-config}}\n"
    )
}

struct Demo {
    client: kube::Client,
    kubeconfig: std::path::PathBuf,
    repository: Repository,
    times: Vec<(&'static str, Duration)>,
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

impl Demo {
    fn apps(&self) -> Api<Application> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn ready(&self, commit: &str) {
        cluster::ready(&self.apps(), "fraud", commit).await;
    }

    async fn poke(&self) {
        cluster::poke(&self.apps(), "fraud").await;
    }

    async fn image(&self) -> Option<String> {
        let spec = self.deployments().get("fraud").await.ok()?.spec?.template.spec?;
        spec.containers.first()?.image.clone()
    }

    async fn image_becomes(&self, image: &str) {
        eventually(&format!("the image is {image}"), || async {
            (self.image().await.as_deref() == Some(image)).then_some(())
        })
        .await;
    }

    fn step(&mut self, what: &'static str, begin: Instant) {
        let time = begin.elapsed();
        say(&format!("   done in {} ms", time.as_millis()));
        self.times.push((what, time));
    }

    async fn edit(&self, image: &str) {
        let patch =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "server", "image": image}]}}}});
        let by_hand = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
        self.deployments().patch("fraud", &by_hand, &Patch::Strategic(patch)).await.expect("edited");
    }

    async fn driftless(&self, arguments: &[&str]) -> String {
        say(&format!("   $ driftless -n {NAMESPACE} {}", arguments.join(" ")));
        let mut command = tokio::process::Command::new(program());
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["-n", NAMESPACE]).args(arguments);
        let done = command.output().await.expect("driftless runs");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        text.lines().for_each(|line| say(&format!("   {line}")));
        text
    }
}

#[tokio::main]
async fn main() {
    let keep = std::env::var("KEEP").is_ok_and(|value| value != "0" && !value.is_empty());
    let folder = tempfile::tempdir().expect("a temporary folder");
    say(
        "1. A control plane (etcd, kube-apiserver, controller-manager, scheduler, KWOK) and a Git server start.",
    );
    let begin = Instant::now();
    let path = folder.path().to_owned();
    let running =
        tokio::task::spawn_blocking(move || launch(Some(&path), "controller-manager,scheduler,kwok"))
            .await
            .expect("started");
    let client = client(&running.plane).await;
    install(&client).await;
    let git = Server::start().await;
    let repository = git.repository("ml/platform");
    let kubeconfig = running.plane.kubeconfig.clone();
    let mut demo = Demo { client: client.clone(), kubeconfig, repository, times: Vec::new() };
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"metadata": {"name": "node-0", "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110"}, "capacity": {"cpu": "32", "memory": "256Gi", "pods": "110"}}});
    nodes
        .create(&PostParams::default(), &serde_json::from_value(node).expect("a node"))
        .await
        .expect("created");
    cluster::namespace(&client, NAMESPACE).await;
    let agent = Agent::start(&running.plane, &[]);
    demo.step("control plane, Git server and agent are up", begin);

    say(
        "2. A team's repository: model server, Service, configuration, nightly training. An Application points at it.",
    );
    let files = [("apps/fraud/server.yaml", server(1)), ("apps/fraud/config.yaml", config(1))];
    let mut all: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    all.extend([("apps/fraud/service.yaml", SERVICE), ("apps/fraud/training.yaml", TRAINING)]);
    let first = demo.repository.commit(&all, "Serve fraud model 1");
    let begin = Instant::now();
    let application = json!({
        "apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
        "metadata": {"name": "fraud", "namespace": NAMESPACE},
        "spec": {"source": {"repo": demo.repository.url, "revision": "main", "path": "apps/fraud"}},
    });
    let application = serde_json::from_value(application).expect("an Application");
    demo.apps().create(&PostParams::default(), &application).await.expect("created");
    demo.ready(&first).await;
    demo.step("first deployment: 4 objects applied, 2 pods ready", begin);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let running_pods = pods.list(&ListParams::default()).await.expect("listed").items.len();
    say(&format!("   {running_pods} pods run registry.example/fraud-server:1"));

    say(
        "3. A pull request is merged: model 2. (A webhook or the 60 s poll would tell the agent; here `driftless sync`.)",
    );
    let files = [("apps/fraud/server.yaml", server(2)), ("apps/fraud/config.yaml", config(2))];
    let second = demo.repository.commit(
        &files.iter().map(|(path, text)| (*path, text.as_str())).collect::<Vec<_>>(),
        "Serve fraud model 2",
    );
    let begin = Instant::now();
    demo.poke().await;
    demo.image_becomes("registry.example/fraud-server:2").await;
    demo.step("merge applied", begin);
    demo.ready(&second).await;

    say("4. Somebody edits the image by hand (kubectl edit). The agent sees it by watch and repairs it.");
    let begin = Instant::now();
    demo.edit("registry.example/fraud-server:hotfix").await;
    demo.image_becomes("registry.example/fraud-server:2").await;
    demo.step("hand edit repaired", begin);
    demo.ready(&second).await;

    say("5. With selfHeal off the agent only reports; the same report runs in CI, and changes nothing.");
    let report_only = json!({"spec": {"sync": {"selfHeal": false}}});
    demo.apps().patch("fraud", &PatchParams::default(), &Patch::Merge(report_only)).await.expect("patched");
    demo.edit("registry.example/fraud-server:hotfix").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    maps.delete("fraud-config", &kube::api::DeleteParams::default()).await.expect("deleted");
    let begin = Instant::now();
    let report = demo.driftless(&["drift", "fraud"]).await;
    assert!(
        report.contains("kubectl-edit") && report.contains("fraud-config"),
        "the report names both: {report}"
    );
    demo.step("drift report", begin);
    let repair = json!({"spec": {"sync": {"selfHeal": true}}});
    demo.apps().patch("fraud", &PatchParams::default(), &Patch::Merge(repair)).await.expect("patched");
    demo.image_becomes("registry.example/fraud-server:2").await;

    say("6. Model 2 was a mistake: `git revert`, merged.");
    let third = demo.repository.revert();
    let begin = Instant::now();
    demo.poke().await;
    demo.image_becomes("registry.example/fraud-server:1").await;
    demo.step("revert applied", begin);
    demo.ready(&third).await;
    demo.driftless(&["history", "fraud"]).await;

    say("\nSummary");
    for (what, time) in &demo.times {
        say(&format!("  {:>6} ms  {what}", time.as_millis()));
    }
    if keep {
        say(&format!(
            "\nEverything stays up until Ctrl-C.\n  export KUBECONFIG={}\n  git clone {}",
            demo.kubeconfig.display(),
            demo.repository.url
        ));
        let _ = tokio::signal::ctrl_c().await;
    }
    let ended = agent.terminate();
    assert_eq!(ended, Some(0), "the agent ends cleanly");
}
