//! What runs when an Application is deleted with its objects, and what stays without being a difference.

use driftless::api::{OperationState, SyncState};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::agent::{World, cli, map};
use crate::harness::cluster::Agent;
use crate::harness::eventually;
use crate::harness::git::Fault;
use crate::sync::{annotated, application, failing, jobs, named, uid};

const HOOK: &str = "argocd.argoproj.io/hook";
const POLICY: &str = "argocd.argoproj.io/hook-delete-policy";

async fn gone(world: &World, app: &str) {
    eventually(&format!("the Application {app} is gone"), || async {
        world.apps().get_opt(app).await.unwrap().is_none().then_some(())
    })
    .await;
}

async fn resume(world: &World, name: &str) {
    let goes_on = json!({"spec": {"suspend": false}});
    jobs(world).patch(name, &PatchParams::default(), &Patch::Merge(goes_on)).await.unwrap();
}

#[tokio::test]
async fn hooks_run_before_the_objects_go_and_after() {
    let world = World::new("deletion-hooks").await;
    let before =
        annotated(&named("backup", "suspend: true\n  "), &[(HOOK, "PreDelete"), (POLICY, "HookSucceeded")]);
    let after = annotated(&named("tell", ""), &[("helm.sh/hook", "post-delete")]);
    let first = world.repository.commit(
        &[("app/a.yaml", map("a", "x").as_str()), ("app/pre.yaml", &before), ("app/post.yaml", &after)],
        "First",
    );
    world.application("fraud", json!({"spec": {"deletion": "Cascade"}})).await;
    world.ready("fraud", &first).await;
    assert_eq!(application(&world, "fraud").await.status.unwrap().delete_hooks, 2);
    assert_eq!(
        (uid(&world, "backup").await, uid(&world, "tell").await),
        (None, None),
        "their time has not come"
    );
    // The folder leaves Git together with the Application, as in an app of apps.
    let paths = ["app/a.yaml", "app/pre.yaml", "app/post.yaml"].map(|path| (path, None));
    world.repository.change(&[&paths[..], &[("other/x.yaml", Some("a: b"))]].concat(), "Gone");
    world.apps().delete("fraud", &DeleteParams::default()).await.unwrap();
    let message = world.reason("fraud", "Ready", "Deleting").await;
    assert!(message.contains("waits for PreDelete hook Job deletion-hooks/backup to end"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("x"));
    assert_eq!(uid(&world, "tell").await, None);
    resume(&world, "backup").await;
    gone(&world, "fraud").await;
    assert_eq!(world.value("a").await, None);
    assert_eq!(uid(&world, "backup").await, None, "its policy says so");
    let told = jobs(&world).get("tell").await.unwrap();
    assert_eq!(told.status.unwrap().succeeded, Some(1));
    assert_eq!(told.metadata.finalizers.unwrap_or_default(), Vec::<String>::new());
}

#[tokio::test]
async fn a_hook_that_fails_holds_the_deletion() {
    let world = World::new("deletion-failed").await;
    let before = annotated(&failing("backup"), &[(HOOK, "PreDelete")]);
    let first = world
        .repository
        .commit(&[("app/a.yaml", map("a", "x").as_str()), ("app/pre.yaml", &before)], "First");
    world.application("fraud", json!({"spec": {"deletion": "Cascade"}})).await;
    world.ready("fraud", &first).await;
    world.apps().delete("fraud", &DeleteParams::default()).await.unwrap();
    let message = world.reason("fraud", "Ready", "SyncFailed").await;
    assert!(
        message.contains("PreDelete hook Job deletion-failed/backup failed")
            && message.contains("driftless.dev/skip-delete-hooks=true"),
        "{message}"
    );
    assert_eq!(world.value("a").await.as_deref(), Some("x"));
    let operation = application(&world, "fraud").await.status.unwrap().operation.unwrap();
    assert_eq!(operation.state, OperationState::Failed);
    // Again, on a person's word.
    let failed = uid(&world, "backup").await;
    world.poke("fraud").await;
    eventually("it runs again", || async {
        let now = uid(&world, "backup").await;
        (now.is_some() && now != failed).then_some(())
    })
    .await;
    world.reason("fraud", "Ready", "SyncFailed").await;
    let skip = json!({"metadata": {"annotations": {"driftless.dev/skip-delete-hooks": "true"}}});
    world.apps().patch("fraud", &PatchParams::default(), &Patch::Merge(skip)).await.unwrap();
    gone(&world, "fraud").await;
    assert_eq!(world.value("a").await, None);
}

#[tokio::test]
async fn a_killed_agent_runs_no_hook_of_a_deletion_twice() {
    let (world, _running) = World::alone("deletion-killed").await;
    let before = annotated(&named("backup", "suspend: true\n  "), &[(HOOK, "PreDelete")]);
    let first = world
        .repository
        .commit(&[("app/a.yaml", map("a", "x").as_str()), ("app/pre.yaml", &before)], "First");
    let agent = Agent::start(&world.plane, &["--interval", "5"]);
    world.application("fraud", json!({"spec": {"deletion": "Cascade"}})).await;
    world.ready("fraud", &first).await;
    world.apps().delete("fraud", &DeleteParams::default()).await.unwrap();
    eventually("the hook is there", || async { uid(&world, "backup").await.map(|_| ()) }).await;
    let made = uid(&world, "backup").await;
    agent.kill();
    // Git is away, and the bodies of hooks are nowhere else.
    world.git.fault("ml/platform", Some(Fault::Status(503)));
    let agent = Agent::start(&world.plane, &["--interval", "5"]);
    let message = world.reason("fraud", "Ready", "RepositoryUnreachable").await;
    assert!(
        message.contains("PreDelete hooks cannot run") && message.contains("skip-delete-hooks=true"),
        "{message}"
    );
    assert_eq!(world.value("a").await.as_deref(), Some("x"));
    world.git.fault("ml/platform", None);
    world.reason("fraud", "Ready", "Deleting").await;
    assert_eq!(uid(&world, "backup").await, made);
    resume(&world, "backup").await;
    // Without a node that completes it, its end is written by hand.
    let ended = json!({"status": {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z", "succeeded": 1,
        "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}]}});
    eventually("the job is complete", || async {
        let patch = Patch::Merge(ended.clone());
        jobs(&world).patch_status("backup", &PatchParams::default(), &patch).await.ok().map(|_| ())
    })
    .await;
    gone(&world, "fraud").await;
    assert_eq!(uid(&world, "backup").await, made, "once");
    assert_eq!(world.value("a").await, None);
    agent.kill();
}

#[tokio::test]
async fn what_is_extraneous_makes_no_difference() {
    let world = World::new("deletion-extra").await;
    let claim = |name: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n"
        )
    };
    let quiet = annotated(&claim("quiet"), &[("argocd.argoproj.io/compare-options", "IgnoreExtraneous")]);
    let first = world.repository.commit(
        &[("app/a.yaml", map("a", "x").as_str()), ("app/q.yaml", &quiet), ("app/l.yaml", &claim("loud"))],
        "First",
    );
    world.application("fraud", json!({})).await;
    let applied = |revision: String| {
        let world = &world;
        async move {
            eventually("it is applied", || async {
                let status = application(world, "fraud").await.status?;
                (status.applied_revision == revision).then_some(())
            })
            .await;
        }
    };
    applied(first).await;
    let second = world.repository.change(&[("app/q.yaml", None)], "Quiet goes");
    world.poke("fraud").await;
    applied(second).await;
    let status = application(&world, "fraud").await.status.unwrap();
    assert_eq!((status.sync, status.prune.count), (SyncState::Synced, 1), "held, and no difference");
    let (code, out, err) = cli(&world, &["drift", "fraud"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let third = world.repository.change(&[("app/l.yaml", None)], "Loud goes");
    world.poke("fraud").await;
    applied(third).await;
    let status = application(&world, "fraud").await.status.unwrap();
    assert_eq!((status.sync, status.prune.count), (SyncState::OutOfSync, 2));
    let (code, out, _) = cli(&world, &["drift", "fraud"]).await;
    assert!(
        code == 1 && out.contains("deletion-extra/loud") && !out.contains("deletion-extra/quiet"),
        "{out}"
    );
    // It is pruned as everything else, on the same word.
    let (code, out, err) = cli(&world, &["sync", "fraud", "--confirm-prune", &status.prune.token]).await;
    assert_eq!(code, 0, "{out}{err}");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("the claim goes", || async {
        let claim = claims.get_opt("quiet").await.unwrap();
        claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()).then_some(())
    })
    .await;
}
