//! Gates that people decide: by the command line, by kubectl's way, and who may.

use driftless::api::{GateAnswer, RolloutPhase, RolloutPolicy, RolloutStatus, RolloutVerb};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::agent::{World, cli};
use crate::canary::{Rolling, fraud, policy};
use crate::harness::eventually;

const STEPS: &str = "canary: {steps: [{weight: 50, gates: [review]}]}";

/// A first revision, and a second one that waits for people.
async fn waits(rolling: &Rolling<'_>, gate: &str) -> RolloutStatus {
    let gate = format!("  abortScaleDownDelay: 1s\n  gates: [{{name: review, {gate}}}]\n");
    let files = [("fraud", &*fraud("model:1", 2, "")), ("policy", &policy(STEPS, &gate))];
    let first = rolling.commit(&files, "One");
    rolling.world.application("fraud", json!({})).await;
    rolling.world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.commit(&[("fraud", &fraud("model:2", 2, ""))], "Two");
    rolling.world.poke("fraud").await;
    rolling.says("step 1 of 2 (50 %): waits for gate review").await
}

/// As kubectl writes it; what the agent then says of it.
async fn ask(rolling: &Rolling<'_>, request: Value) -> RolloutStatus {
    let patch = json!({"metadata": {"annotations": {"driftless.dev/rollout-request": request.to_string()}}});
    let api = rolling.api::<RolloutPolicy>();
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    eventually("the request is taken up", || async {
        let status = rolling.status().await;
        status.acts.iter().any(|act| act.id == request["id"]).then_some(status)
    })
    .await
}

#[tokio::test]
async fn people_let_a_revision_pass() {
    let world = &World::new("approvals-pass").await;
    let rolling = &Rolling { world };
    let status = waits(rolling, "count: 2, approval: {message: look at the report}").await;
    let wanted = "waits for gate review (`driftless rollout approve`, 0 of 2): look at the report";
    assert!(status.message.ends_with(wanted), "{}", status.message);
    let gate = &status.gates[0];
    assert_eq!(
        (gate.answer, gate.message.as_str()),
        (Some(GateAnswer::NoData), "nobody has approved it yet")
    );
    let revision = status.candidate.unwrap().digest;

    // What was seen is what is approved: neither another revision nor another step, nor a gate that is measured.
    let approval = |id: &str, revision: &str, step: u32| json!({"id": id, "verb": "Approve", "by": "bob", "gate": "review", "revision": revision, "step": step});
    for (request, wanted) in [
        (approval("a", "0123456789abcdef", 0), "it is for revision 0123456789abcdef in step 1"),
        (approval("b", &revision, 1), "in step 2, and on its way is"),
        (json!({"id": "c", "verb": "Approve", "gate": "review"}), "it names no revision and step"),
    ] {
        let status = ask(rolling, request).await;
        let act = status.acts.last().unwrap();
        assert!(act.refused.contains(wanted), "{act:?}");
        assert_eq!((status.gates[0].passed, status.phase), (0, RolloutPhase::Progressing));
    }
    // Nor anything whose author could be taken for another one.
    let patch = json!({"metadata": {"annotations": {"driftless.dev/rollout-request":
        format!(r#"{{"id":"d","verb":"Approve","gate":"review","revision":"{revision}","step":0,"x":{{"by":"ann"}}}}"#)}}});
    let api = rolling.api::<RolloutPolicy>();
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    eventually("it cannot be read", || async {
        rolling.status().await.message.contains("unknown field `x`").then_some(())
    })
    .await;

    let status = ask(rolling, approval("e", &revision, 0)).await;
    assert_eq!((status.gates[0].passed, status.gates[0].approvers.as_slice()), (1, &["bob".to_owned()][..]));
    assert_eq!(status.gates[0].message, "approved by bob");
    let status = ask(rolling, approval("f", &revision, 0)).await;
    assert!(status.acts.last().unwrap().refused.contains("bob has approved gate review already"));
    rolling.says("step 1 of 2 (50 %): waits for gate review (`driftless rollout approve`, 1 of 2)").await;

    // Another person, by the command line, which finds the gate by itself.
    let (code, text, errors) =
        cli(world, &["rollout", "approve", "fraud", "--why", "the report is good"]).await;
    assert_eq!(code, 0, "{text}{errors}");
    let status = rolling.phase(RolloutPhase::Healthy).await;
    let act = status.acts.last().unwrap();
    assert_eq!((act.verb, act.gate.as_str(), act.step), (RolloutVerb::Approve, "review", Some(0)));
    assert_eq!((act.revision.as_str(), act.why.as_str()), (revision.as_str(), "the report is good"));
    assert!(act.refused.is_empty() && !act.by.is_empty() && !act.at.is_empty(), "{act:?}");
    assert_eq!(rolling.image("fraud").await, "model:2");
    let (_, text, _) = cli(world, &["rollout", "get", "fraud"]).await;
    assert!(text.contains("Approve review") && text.contains("the report is good"), "{text}");
    assert!(text.contains("refused: bob has approved gate review already"), "{text}");

    let (code, _, errors) = cli(world, &["rollout", "approve", "fraud", "review"]).await;
    assert!(code == 2 && errors.contains("it is Healthy: no gate waits for anybody"), "{errors}");
}

#[tokio::test]
async fn a_denial_and_the_end_of_their_time_reject_a_revision() {
    let world = &World::new("approvals-deny").await;
    let rolling = &Rolling { world };
    waits(rolling, "approval: {}").await;
    let refused = async |gate: &str, wanted: &str| {
        let (code, _, errors) = cli(world, &["rollout", "deny", "fraud", gate]).await;
        assert!(code == 2 && errors.contains(wanted), "{errors}");
    };
    refused("other", "there is no gate other").await;
    // Paused or not, it is said what people think.
    rolling.ask("Pause", "p").await;
    let (code, text, errors) =
        cli(world, &["rollout", "deny", "fraud", "review", "--why", "it drifts"]).await;
    assert_eq!(code, 0, "{text}{errors}");
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected[0].why;
    assert!(why.starts_with("gate review: denied by ") && why.ends_with(": it drifts"), "{why}");
    rolling.gone("fraud-candidate").await;
    assert_eq!(rolling.image("fraud").await, "model:1");

    // Tried again, the word of before counts no more; and nobody says any.
    let gate = "  abortScaleDownDelay: 1s\n  gates: [{name: review, approval: {timeout: 3s}}]\n";
    rolling.commit(&[("policy", &policy(STEPS, gate))], "In time");
    world.poke("fraud").await;
    eventually("the policy is applied", || async {
        let found = rolling.api::<RolloutPolicy>().get("fraud").await.ok()?;
        (found.spec.gates[0].approval.as_ref()?.timeout == "3s").then_some(())
    })
    .await;
    rolling.ask("Retry", "r").await;
    rolling.says("step 1 of 2 (50 %): waits for gate review").await;
    let status = rolling.phase(RolloutPhase::Rejected).await;
    let why = &status.rejected.last().unwrap().why;
    assert!(why.starts_with("gate review: nobody approved it until "), "{why}");
}

/// The rules of docs/access.md on a real API server.
#[tokio::test]
async fn who_may_approve_is_the_api_servers_word() {
    let world = &World::new("approvals-rights").await;
    let rolling = &Rolling { world };
    let namespace = &world.namespace;
    let create = PostParams::default();
    let of = |value: Value| serde_json::from_value(value).unwrap();
    for (user, verbs) in [("ann", json!(["get", "patch", "approve"])), ("bob", json!(["get", "patch"]))] {
        let role = json!({"metadata": {"name": user}, "rules": [
            {"apiGroups": ["driftless.dev"], "resources": ["rolloutpolicies"], "verbs": verbs}]});
        rolling.api::<Role>().create(&create, &of(role)).await.unwrap();
        let binding = json!({"metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        let binding: RoleBinding = serde_json::from_value(binding).unwrap();
        rolling.api::<RoleBinding>().create(&create, &binding).await.unwrap();
    }
    let status = waits(rolling, "approval: {}").await;

    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split("```yaml\n").find(|block| block.contains("ValidatingAdmissionPolicy")).unwrap();
    let block = block.split("```").next().unwrap();
    let mut documents = driftless::model::yaml::read(block.as_bytes(), "docs/access.md").unwrap();
    let mut binding = documents.remove(1).value;
    // Here alone.
    binding["spec"]["matchResources"] =
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
    let rules: ValidatingAdmissionPolicy = serde_json::from_value(documents.remove(0).value).unwrap();
    policies.create(&create, &rules).await.unwrap();
    let bound: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding).unwrap();
    bindings.create(&create, &bound).await.unwrap();

    let revision = status.candidate.unwrap().digest;
    let request = |by: &str, verb: &str| {
        format!(
            r#"{{"id":"{by}-{verb}","verb":"{verb}","by":"{by}","gate":"review","revision":"{revision}","step":0}}"#
        )
    };
    let says = async |user: &str, request: &str| {
        let mut config = kube::Config::from_custom_kubeconfig(
            kube::config::Kubeconfig::read_from(&world.plane.kubeconfig).unwrap(),
            &kube::config::KubeConfigOptions::default(),
        )
        .await
        .unwrap();
        config.auth_info.impersonate = Some(user.to_owned());
        let client = kube::Client::try_from(config).unwrap();
        let api: Api<RolloutPolicy> = Api::namespaced(client, namespace);
        let patch = json!({"metadata": {"annotations": {"driftless.dev/rollout-request": request}}});
        // Nothing is written by it.
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch("fraud", &dry, &Patch::Merge(patch)).await.err().map(|error| error.to_string())
    };
    eventually("the rules hold", || async {
        says("bob", &request("bob", "Approve")).await.filter(|said| said.contains("verb approve"))
    })
    .await;
    let mut wrong = Vec::new();
    let escaped = request("bob", "Approve").replace("Approve\",\"by", "\\u0041pprove\",\"by");
    for (user, request, refused) in [
        ("ann", request("ann", "Approve"), ""),
        ("ann", request("ann", "PromoteFull"), ""),
        ("ann", request("bob", "Approve"), "by is not who asks"),
        ("bob", request("bob", "Deny"), "verb approve"),
        ("bob", request("bob", "Promote"), "verb approve"),
        ("bob", escaped, "verb approve"),
        ("bob", request("bob", "Abort"), ""),
        ("bob", request("ann", "Abort"), "by is not who asks"),
        (
            "bob",
            r#"{"id":"x","verb":"Pause","why":"\"by\":\"bob\"","by":"ann"}"#.to_owned(),
            "by is not who asks",
        ),
    ] {
        let said = says(user, &request).await.unwrap_or_default();
        if said.is_empty() != refused.is_empty() || !said.contains(refused) {
            wrong.push(format!("{user} {request}: {said:?}, not {refused:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The agent writes its status all the same, and the command line asks in a name.
    let (code, _, errors) = cli(world, &["rollout", "approve", "fraud", "--as", "bob"]).await;
    assert!(code != 0 && errors.contains("verb approve"), "{errors}");
    let (code, text, errors) = cli(world, &["rollout", "approve", "fraud", "--as", "ann"]).await;
    assert_eq!(code, 0, "{text}{errors}");
    let status = rolling.phase(RolloutPhase::Healthy).await;
    assert_eq!(status.acts.last().unwrap().by, "ann");
    let deleted = DeleteParams::default();
    bindings.delete(bound.metadata.name.as_deref().unwrap(), &deleted).await.unwrap();
    policies.delete(rules.metadata.name.as_deref().unwrap(), &deleted).await.unwrap();
}
