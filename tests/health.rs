//! Health: verdicts offline, rules of users, and the pod behind an object that is not healthy, on a real API server.

use std::io::Write;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::agent::World;
use crate::harness::cluster::{self, Agent, client, install, launch, program};
use crate::harness::eventually;
use crate::harness::git::Server;

fn health(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut process = Command::new(program())
        .arg("health")
        .args(arguments)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = process.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

const SERVICE: &str = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: fraud, namespace: ml}\nstatus: {conditions: [{type: Ready, status: 'True'}]}\n";
const FAILED: &str = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: train, namespace: ml}\nstatus: {phase: Failed, message: no data}\n";
const STOPPED: &str =
    "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, namespace: ml}\nspec: {suspend: true}\n";

#[test]
fn verdicts_of_files_folders_and_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let well = write("well/service.yaml", &format!("{SERVICE}---\n{STOPPED}"));
    let (code, table, errors) = health(&[&well], "");
    assert_eq!((code, errors.as_str()), (0, ""), "{table}");
    assert!(table.contains(&format!("{well}:1")) && table.contains(&format!("{well}:6")), "{table}");
    assert!(table.contains("Suspended") && table.contains("the schedule is suspended"), "{table}");

    write("ill/deeper/workflow.yaml", FAILED);
    write("ill/README.md", "no manifest");
    let (code, table, _) = health(&[&folder.path().display().to_string()], "");
    assert_eq!(code, 6);
    assert!(table.contains("Workflow.argoproj.io ml/train") && table.contains("Failed: no data"), "{table}");

    // As kubectl prints several.
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, status: {phase: Succeeded}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}, status: {phase: Failed, reason: Evicted}}\n";
    let (code, report, _) = health(&["-", "-o", "json"], list);
    assert_eq!(code, 6);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["verdict"], "Degraded");
    assert_eq!(report["counts"], json!({"Healthy": 1, "Degraded": 1}));
    assert_eq!(report["objects"][1]["name"], "b");
    assert_eq!(report["objects"][1]["reason"], "Evicted");
    assert_eq!(report["objects"][1]["line"], 1);

    // What can be read is judged beside what cannot.
    let broken = write("broken.yaml", "a: [");
    let (code, table, errors) = health(&[&broken, &well], "");
    assert_eq!(code, 3);
    assert!(table.contains("ml/fraud"), "{table}");
    assert!(errors.contains("DL0201") && errors.contains("broken.yaml:"), "{errors}");
    assert_eq!(health(&["/nonexistent/file.yaml"], "").0, 2);
    assert_eq!(health(&["-"], "a: b\n").0, 3);
    assert_eq!(health(&["-"], "").0, 3);
}

#[test]
fn verdicts_by_rules_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let map = write(
        "argocd-cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: argocd-cm}\ndata:\n  url: https://argocd.example\n  resource.customizations.health.serving.kserve.io_InferenceService: |\n    hs = {status = \"Degraded\", message = obj.metadata.name .. \" by the map\"}\n    return hs\n  resource.customizations: |\n    \"*.example.org/*\":\n      health.lua: |\n        return {status = \"Suspended\", message = \"by a wildcard\"}\n",
    );
    let app = write(
        "app.yaml",
        "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: a}\nspec:\n  source: {repo: 'https://git.example/a.git'}\n  health:\n  - group: argoproj.io\n    kind: Workflow\n    cel: {healthy: \"object.status.phase == 'Failed'\"}\n  - kind: Pod\n    cel: {degraded: \"status.phase == 'Odd'\", healthy: \"status.phase == 'Fine'\", message: \"'phase ' + status.phase\"}\n",
    );
    let (code, table, _) =
        health(&["-", "--rules", &map, "--rules", &app], &format!("{SERVICE}---\n{FAILED}"));
    assert_eq!(code, 6);
    assert!(table.contains("fraud by the map") && !table.contains("no data"), "{table}");
    let thing = "apiVersion: team.example.org/v1\nkind: Thing\nmetadata: {name: a}\n";
    let (code, table, _) = health(&["-", "--rules", &map], thing);
    assert_eq!(code, 0);
    assert!(table.contains("by a wildcard"), "{table}");
    let pod = |phase: &str| {
        format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nstatus: {{phase: {phase}}}\n")
    };
    let judged = |phase: &str| health(&["-", "--rules", &app], &pod(phase));
    assert_eq!(judged("Fine").0, 0);
    assert!(judged("Odd").1.contains("phase Odd"));
    assert!(judged("Other").1.contains("no condition of its rule holds"));

    for (text, why) in [
        (
            "apiVersion: v1\nkind: ConfigMap\ndata: {resource.customizations.health.a_B: 'return {'}\n",
            "the rule of a/B",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\ndata: {resource.customizations.health.a_B_C: 'return {}'}\n",
            "GROUP_KIND",
        ),
        ("apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n", "it holds no rule"),
    ] {
        let file = write("broken.yaml", text);
        let (code, _, errors) = health(&["-", "--rules", &file], SERVICE);
        assert_eq!(code, 3, "{errors}");
        assert!(errors.contains("DL0214") && errors.contains(why), "{errors}");
    }
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: model}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: model}}\n  template:\n    metadata: {labels: {app: model}}\n    spec: {containers: [{name: server, image: 'model:1'}]}\n";

fn rules(kind: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: rules, labels: {{driftless.dev/health-rules: 'true'}}}}\ndata:\n  resource.customizations.health.{kind}: |\n    {script}\n"
    )
}

async fn judged(world: &World, name: &str, status: &str, message: &str) {
    eventually(&format!("{name} is {status}: {message}"), || async {
        let health = world.apps().get(name).await.ok()?.status?.health;
        (health.status == status && health.message.contains(message)).then_some(())
    })
    .await;
}

async fn set_health(world: &World, name: &str, health: Value) {
    let patch = json!({"spec": {"health": health}});
    world.apps().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test]
async fn rules_of_the_application_and_of_its_repository_judge_live() {
    let world = World::new("health-rules").await;
    let first = world.repository.commit(&[("app/model.yaml", DEPLOYMENT)], "Change");
    world.application("a", json!({})).await;
    world.ready("a", &first).await;
    judged(&world, "a", "Healthy", "").await;

    // The watch is running: what it knows is judged anew.
    let lua = "return {status = 'Degraded', message = obj.metadata.name .. ' by Lua'}";
    set_health(&world, "a", json!([{"group": "apps", "kind": "Deployment", "lua": lua}])).await;
    judged(&world, "a", "Degraded", "model by Lua").await;
    let cel =
        json!({"suspended": "object.spec.replicas == 0", "healthy": "true", "message": "'stands at zero'"});
    set_health(&world, "a", json!([{"group": "apps", "kind": "Deployment", "cel": cel}])).await;
    judged(&world, "a", "Suspended", "stands at zero").await;
    // A rule that cannot be used is said, and nothing is called healthy by another.
    set_health(&world, "a", json!([{"group": "apps", "kind": "Deployment", "lua": "return {"}])).await;
    judged(&world, "a", "Unknown", "cannot be used").await;
    set_health(&world, "a", json!([])).await;
    judged(&world, "a", "Healthy", "").await;

    let script = "return {status = 'Degraded', message = 'by the repository'}";
    let second = world.repository.commit(&[("app/rules.yaml", &*rules("apps_Deployment", script))], "Change");
    world.poke("a").await;
    judged(&world, "a", "Degraded", "by the repository").await;
    // The Application's own rule goes first.
    set_health(
        &world,
        "a",
        json!([{"group": "apps", "kind": "Deployment", "lua": "return {status = 'Healthy'}"}]),
    )
    .await;
    world.ready("a", &second).await;
    set_health(&world, "a", json!([])).await;
    judged(&world, "a", "Degraded", "by the repository").await;
    let third = world.repository.commit(&[("app/rules.yaml", &*rules("apps_StatefulSet", script))], "Change");
    world.poke("a").await;
    world.ready("a", &third).await;
}

/// The pod of a Deployment, once its controllers have made it.
async fn pod(pods: &Api<Pod>) -> String {
    eventually("the pod is there", || async {
        let found = pods.list(&ListParams::default().labels("app=model")).await.ok()?.items;
        found.into_iter().next()?.metadata.name
    })
    .await
}

#[tokio::test]
async fn a_deployment_that_is_not_ready_names_pod_container_and_event() {
    let (world, running) = World::alone("culprits").await;
    let map = rules("apps_StatefulSet", "return {status = 'Suspended', message = 'by the common map'}");
    let map: Value = driftless::model::yaml::read(map.as_bytes(), "map").unwrap().remove(0).value;
    world.maps().create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let agent = Agent::start(&running.plane, &["--interval", "5", "--health-rules", "culprits/rules"]);
    let deployment = DEPLOYMENT.replace("replicas: 0", "replicas: 1");
    let first = world.repository.commit(&[("app/model.yaml", &*deployment)], "Change");
    world.application("a", json!({})).await;

    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "culprits");
    let events: Api<Event> = Api::namespaced(world.client.clone(), "culprits");
    let name = pod(&pods).await;
    // What a kubelet would say.
    let status = |container: Value, ready: &str| {
        json!({"status": {"phase": "Running", "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
            "containerStatuses": [container]}})
    };
    let set = async |status: Value| {
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    };
    let container = |ready: bool, restarts: i32, state: Value, last: Value| {
        json!({"name": "server", "ready": ready, "restartCount": restarts, "image": "model:1", "imageID": "",
            "state": state, "lastState": last})
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}});
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    set(status(container(false, 5, waiting, ended), "False")).await;
    let event: Event = serde_json::from_value(json!({
        "metadata": {"name": format!("{name}.1")}, "type": "Warning", "reason": "Unhealthy",
        "message": "Readiness probe failed: HTTP 503", "lastTimestamp": "2026-01-01T00:00:00Z",
        "involvedObject": {"kind": "Pod", "name": name, "namespace": "culprits"}}))
    .unwrap();
    events.create(&PostParams::default(), &event).await.unwrap();

    let wanted = format!(
        "Deployment culprits/model: 0 of 1 pods are available: pod {name} container server: CrashLoopBackOff, exit 137 OOMKilled, 5 restarts; last event Unhealthy: Readiness probe failed: HTTP 503"
    );
    judged(&world, "a", "Progressing", &wanted).await;
    let (_, _, message) = world.condition("a", "Healthy").await.unwrap();
    assert_eq!(message, wanted);

    // A command that waits in vain says it too.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.json");
    let stated = json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
        "metadata": {"name": "a", "namespace": "culprits"},
        "spec": {"source": {"repo": world.repository.url, "revision": "main", "path": "app"}}});
    std::fs::write(&file, stated.to_string()).unwrap();
    let done = tokio::process::Command::new(program())
        .args(["apply", "--wait", "--timeout", "1", "--filename"])
        .arg(&file)
        .arg("--kubeconfig")
        .arg(&running.plane.kubeconfig)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(5), "{errors}");
    assert!(errors.contains(&wanted), "{errors}");

    let running_now = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    set(status(container(true, 5, running_now, json!({})), "True")).await;
    world.ready("a", &first).await;
    judged(&world, "a", "Healthy", "").await;
    // What is healthy is asked nothing.
    let count = async || agent.counts("driftless_api_requests_total").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = count().await;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(count().await, before);

    // The map that the agent was told of judges every application.
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: store}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: store}}\n  template:\n    metadata: {labels: {app: store}}\n    spec: {containers: [{name: store, image: 'store:1'}]}\n";
    world.repository.commit(&[("app/store.yaml", set)], "Change");
    world.poke("a").await;
    judged(&world, "a", "Suspended", "by the common map").await;
    drop(agent);
    drop(running);
}

#[tokio::test]
async fn a_model_and_a_pod_without_a_node_are_judged_as_they_change() {
    let parts = "controller-manager,scheduler";
    let running = tokio::task::spawn_blocking(|| launch(None, parts)).await.unwrap();
    let client = client(&running.plane).await;
    install(&client).await;
    cluster::namespace(&client, "models").await;
    let git = Server::start().await;
    let repository = git.repository("ml/platform");
    let world = World { client, plane: running.plane.clone(), namespace: "models".into(), git, repository };
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "inferenceservices.serving.kserve.io"},
        "spec": {"group": "serving.kserve.io", "scope": "Namespaced",
            "names": {"kind": "InferenceService", "plural": "inferenceservices"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": free, "status": free}}}}]}}))
    .unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &definition).await.unwrap();
    let _agent = Agent::start(&running.plane, &["--interval", "5"]);
    let service = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: fraud}\nspec: {predictor: {model: {storageUri: 's3://models/fraud/1'}}}\n";
    world.repository.commit(&[("app/fraud.yaml", service)], "A model");
    world.application("a", json!({})).await;
    judged(&world, "a", "Progressing", "no status yet").await;

    let kind = GroupVersionKind::gvk("serving.kserve.io", "v1beta1", "InferenceService");
    let services: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), "models", &ApiResource::from_gvk(&kind));
    let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
    let failure = json!({"reason": "ModelLoadFailed", "message": "no such key fraud/1"});
    for (state, word, message) in [
        (json!({"conditions": ready("True")}), "Healthy", ""),
        (
            json!({"modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}}),
            "Degraded",
            "ModelLoadFailed: no such key fraud/1",
        ),
        (
            json!({"modelStatus": null, "conditions": [{"type": "Stopped", "status": "True"}]}),
            "Suspended",
            "stopped",
        ),
        (json!({"conditions": ready("True")}), "Healthy", ""),
    ] {
        let patch = Patch::Merge(json!({"status": state}));
        services.patch_status("fraud", &PatchParams::default(), &patch).await.unwrap();
        judged(&world, "a", word, message).await;
    }

    // No node at all: the scheduler says so, by condition and event.
    let deployment = DEPLOYMENT.replace("replicas: 0", "replicas: 1");
    world.repository.commit(&[("app/model.yaml", &*deployment)], "A deployment");
    world.poke("a").await;
    judged(&world, "a", "Progressing", "Unschedulable: no nodes available to schedule pods").await;
    let message = world.condition("a", "Healthy").await.unwrap().2;
    assert!(
        message.starts_with("Deployment models/model: 0 of 1 pods are available: pod model-"),
        "{message}"
    );
}
