//! Gates that run a Workflow of Argo Workflows, on its own CRD; the test plays its controller. And what an abort ends.

use driftless::agent::{Gates, Measured};
use driftless::api::{Gate, GateAnswer, RolloutPhase};
use driftless::rollout::provider::About;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::agent::World;
use crate::canary::{Rolling, fraud, policy, resource};
use crate::gates::{check, connected, gate, owner};
use crate::harness::{crds, eventually};

fn workflows(client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
    let kind = resource("argoproj.io", "v1alpha1", "Workflow", "workflows");
    Api::namespaced_with(client.clone(), namespace, &kind)
}

async fn list(api: &Api<DynamicObject>) -> Vec<DynamicObject> {
    api.list(&ListParams::default()).await.unwrap().items
}

/// What the controller writes.
async fn stands(api: &Api<DynamicObject>, name: &str, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_decide() {
    use GateAnswer::{Error, Fail, NoData, Pass};
    let (client, cluster) = connected().await;
    crds::install(&client, &crds::ARGO_WORKFLOWS, &["Workflow"]).await;
    let namespace = "gates-workflows";
    let about = owner(&client, namespace).await;
    let api = workflows(&client, namespace);
    let inline = json!({"spec": {"entrypoint": "all", "templates": [{"name": "all", "container": {
        "image": "x", "args": ["{{candidate}}", "{{workflow.parameters.url}}"]}}]},
        "parameters": {"url": "http://{{candidateService}}"}});
    let smoke = gate(json!({"workflow": inline}));
    // Another process each time.
    let measured = async |gate: &Gate, about: &About| Gates::default().measure(&cluster, gate, about).await;
    assert_eq!(measured(&smoke, &about).await, Measured::Pending);
    assert_eq!(measured(&smoke, &about).await, Measured::Pending);
    let all = list(&api).await;
    assert_eq!(all.len(), 1, "the same measurement has one Workflow");
    let first = all[0].name_any();
    assert_eq!(all[0].owner_references()[0].uid, about.uid);
    let spec = &all[0].data["spec"];
    let args = json!(["fraud-candidate", "{{workflow.parameters.url}}"]);
    assert_eq!(spec["templates"][0]["container"]["args"], args);
    assert_eq!(spec["arguments"]["parameters"][0]["value"], "http://fraud-candidate");
    stands(&api, &first, json!({"phase": "Running", "startedAt": "2026-01-01T00:00:00Z"})).await;
    assert_eq!(measured(&smoke, &about).await, Measured::Pending);
    let check = async |provider: &Value, about: &About, answer: GateAnswer, message: &str| {
        check(&Gates::default(), &cluster, provider.clone(), about, answer, message).await;
    };
    let smokes = json!({"workflow": inline});
    for (status, answer, message) in [
        (json!({"phase": "Succeeded"}), Pass, "succeeded"),
        (json!({"phase": "Failed", "message": "child 'a' failed"}), Fail, "failed: child 'a' failed"),
        (json!({"phase": "Error", "message": "no such image"}), Error, "broke: no such image"),
    ] {
        stands(&api, &first, status).await;
        check(&smokes, &about, answer, message).await;
    }

    // The next one is of a template, and its result is judged.
    let about = About { turn: "second".into(), ..about };
    let judged = json!({"workflow": {"workflowTemplateRef": {"name": "evaluate"}, "parameters": {"model": "{{revision}}"},
        "result": "report", "pass": "result.accuracy > 0.9"}});
    assert_eq!(measured(&gate(judged.clone()), &about).await, Measured::Pending);
    let all = list(&api).await;
    let second = all.iter().find(|one| one.name_any() != first).unwrap();
    assert_eq!(second.data["spec"]["workflowTemplateRef"], json!({"name": "evaluate"}));
    assert_eq!(second.data["spec"]["arguments"]["parameters"][0]["value"], *about.revision);
    let second = second.name_any();
    let output = |value: &str| json!({"phase": "Succeeded", "outputs": {"parameters": [{"name": "report", "value": value}]}});
    for (status, answer, message) in [
        (json!({"phase": "Succeeded"}), NoData, "left no output parameter report"),
        (output(r#"{"accuracy": 0.93}"#), Pass, "is result.accuracy > 0.9"),
        (output(r#"{"accuracy": 0.5}"#), Fail, "is not result.accuracy > 0.9"),
        (output("done"), Error, "is no JSON"),
    ] {
        stands(&api, &second, status).await;
        check(&judged, &about, answer, message).await;
    }

    // What the API server refuses, and a Workflow of somebody else.
    let odd = json!({"workflow": {"spec": {"entrypoint": "a", "activeDeadlineSeconds": "soon"}}});
    check(&odd, &About { turn: "third".into(), ..about.clone() }, Error, "activeDeadlineSeconds").await;
    let stolen = json!({"metadata": {"ownerReferences": null}});
    api.patch(&second, &PatchParams::default(), &Patch::Merge(&stolen)).await.unwrap();
    check(&judged, &about, Error, "which is not of this policy").await;
}

/// The controller, and what it evaluates: each revision has the next accuracy.
async fn controller(api: Api<DynamicObject>, mut left: Vec<f64>) {
    let mut known = std::collections::BTreeMap::new();
    loop {
        for workflow in list(&api).await {
            if workflow.data["status"]["phase"] == "Succeeded" {
                continue;
            }
            let revision = workflow.data["spec"]["arguments"]["parameters"][0]["value"].to_string();
            let accuracy = *known.entry(revision).or_insert_with(|| left.remove(0));
            let name = workflow.name_any();
            stands(&api, &name, json!({"phase": "Running"})).await;
            let report = json!({"name": "report", "value": json!({"accuracy": accuracy}).to_string()});
            let root = json!({"id": name, "name": name, "type": "Pod", "phase": "Succeeded", "outputs": {"parameters": [report]}});
            let outputs = json!({"phase": "Succeeded", "nodes": {name.clone(): root}});
            stands(&api, &name, outputs).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_decides_a_rollout() {
    let world = &World::new("workflow-decides").await;
    let rolling = &Rolling { world };
    crds::install(&world.client, &crds::ARGO_WORKFLOWS, &["Workflow"]).await;
    let gates = "  abortScaleDownDelay: 1s
  gates:
  - name: evaluation
    interval: 1s
    count: 2
    workflow: {workflowTemplateRef: {name: evaluate}, parameters: {revision: '{{revision}}'}, result: report, pass: result.accuracy > 0.9}
";
    let steps = policy("canary: {steps: [{weight: 50, gates: [evaluation]}]}", gates);
    let files = [("fraud", &*fraud("model:1", 2, "")), ("policy", &steps)];
    let first = rolling.commit(&files, "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    let api = workflows(&world.client, &world.namespace);
    let played = tokio::spawn(controller(api.clone(), vec![0.93, 0.5]));
    let second = rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    let status = rolling.phase(RolloutPhase::Healthy).await;
    assert_eq!(status.stable.unwrap().commit, second);
    assert_eq!(list(&api).await.len(), 2, "one for each measurement");
    rolling.commit(&[("fraud", &fraud("model:3", 2, ""))], "Three");
    world.poke("fraud").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(
        why.ends_with(r#"1 measurement failed (0 are borne): {"accuracy":0.5} is not result.accuracy > 0.9"#),
        "{why}"
    );
    assert_eq!(rolling.image("fraud").await, "model:2");
    played.abort();
}

/// Neither a Job nor a Workflow goes on for a revision that is on its way back; what has ended stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_for_a_gate_ends_with_its_rollout() {
    let world = &World::new("gates-ended").await;
    let rolling = &Rolling { world };
    crds::install(&world.client, &crds::ARGO_WORKFLOWS, &["Workflow"]).await;
    let gates = "  abortScaleDownDelay: 1s
  gates:
  - name: never
    job: {template: {template: {spec: {nodeSelector: {no: such}, containers: [{name: a, image: x}]}}}}
  - name: evaluation
    workflow: {workflowTemplateRef: {name: evaluate}}
  - name: always
    job: {template: {template: {spec: {nodeSelector: {no: such}, containers: [{name: a, image: x}]}}}}
  - name: smoke
    job: {template: {template: {spec: {containers: [{name: a, image: x}]}}}}
";
    let steps = policy(
        "canary: {background: [always], steps: [{weight: 50, gates: [never, evaluation, smoke]}, {weight: 80, hold: promoted}]}",
        gates,
    );
    let files = [("fraud", &*fraud("model:1", 2, "")), ("policy", &steps)];
    let first = rolling.commit(&files, "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    world.poke("fraud").await;
    let api = workflows(&world.client, &world.namespace);
    let jobs = rolling.api::<Job>();
    let begun = async |gate: &str| {
        eventually("the gates are asked", || async {
            let status = rolling.status().await;
            let smoke = status.gates.iter().find(|known| known.name == "smoke")?;
            let name = format!("fraud-{gate}-");
            let all = jobs.list(&ListParams::default()).await.unwrap().items;
            let job = all.iter().map(ResourceExt::name_any).find(|job| job.starts_with(&name))?;
            let runs = |one: &DynamicObject| one.data["spec"]["shutdown"].is_null();
            let workflow = list(&api).await.into_iter().find(runs)?.name_any();
            (smoke.passed == 1).then_some((job, workflow))
        })
        .await
    };
    let (job, workflow) = begun("never").await;
    stands(&api, &workflow, json!({"phase": "Running"})).await;
    rolling.ask("Abort", "a").await;
    let ended = async || {
        eventually("they are ended", || async {
            let shutdown = api.get(&workflow).await.unwrap().data["spec"]["shutdown"].clone();
            let is_gone =
                jobs.get_opt(&job).await.unwrap().is_none_or(|job| job.metadata.deletion_timestamp.is_some());
            (is_gone && shutdown == "Stop").then_some(())
        })
        .await;
    };
    ended().await;
    rolling.phase(RolloutPhase::Rejected).await;
    let left = jobs.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
    assert!(names.len() == 1 && names[0].starts_with("fraud-smoke-"), "{names:?}");

    // Tried again, the gates have measurements of their own at once.
    stands(&api, &workflow, json!({"phase": "Failed", "message": "Stopped with strategy 'Stop'"})).await;
    rolling.ask("Retry", "b").await;
    let (second, again) = begun("never").await;
    assert!(second != job && again != workflow, "{second} {again}");
    // A step that is left needs its measurements no more either; what is asked all along goes on.
    let (always, _) = begun("always").await;
    let uid = jobs.get(&always).await.unwrap().uid();
    rolling.ask("Promote", "c").await;
    eventually("they are ended", || async {
        let shutdown = api.get(&again).await.unwrap().data["spec"]["shutdown"].clone();
        (jobs.get_opt(&second).await.unwrap().is_none() && shutdown == "Stop").then_some(())
    })
    .await;
    rolling.says("step 2 of 3 (80 %): waits for `driftless rollout promote`").await;
    assert_eq!(jobs.get(&always).await.unwrap().uid(), uid);
    rolling.ask("Promote", "d").await;
    rolling.phase(RolloutPhase::Healthy).await;
    eventually("the last one is ended", || async {
        jobs.get_opt(&always).await.unwrap().is_none().then_some(())
    })
    .await;
}
