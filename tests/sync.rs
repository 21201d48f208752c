//! A sync of several steps on a real API server: waves, hooks, retries, deletions, windows, dependencies.

use std::time::Duration;

use driftless::api::{Application, OperationState};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::agent::{World, cli, map};
use crate::harness::cluster::Agent;
use crate::harness::eventually;

const WAVE: &str = "argocd.argoproj.io/sync-wave";
const HOOK: &str = "argocd.argoproj.io/hook";
const POLICY: &str = "argocd.argoproj.io/hook-delete-policy";
const OPTIONS: &str = "argocd.argoproj.io/sync-options";

pub(crate) fn annotated(text: &str, annotations: &[(&str, &str)]) -> String {
    let all: Vec<String> = annotations.iter().map(|(key, value)| format!("{key}: {value:?}")).collect();
    text.replacen("metadata: {", &format!("metadata: {{annotations: {{{}}}, ", all.join(", ")), 1)
}

/// One replica; `node` names the node it wants, which decides whether it will ever run.
fn deployment(name: &str, node: &str, version: u32) -> String {
    let selector = if node.is_empty() { String::new() } else { format!("nodeSelector: {{disk: {node}}}, ") };
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{{selector}containers: [{{name: server, image: 'model:{version}'}}]}}\n"
    )
}

/// What its pod does is done by the cluster: it completes at once.
fn job(name: &str, more: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{{name}}}\nspec:\n  {more}backoffLimit: 0\n  template:\n    spec: {{restartPolicy: Never, containers: [{{name: run, image: 'run:1'}}]}}\n"
    )
}

pub(crate) fn named(name: &str, more: &str) -> String {
    job(&format!("name: {name}"), more)
}

/// A job that fails a second after it was made: no node takes its pod.
pub(crate) fn failing(name: &str) -> String {
    named(name, "activeDeadlineSeconds: 1\n  ")
        .replace("restartPolicy", "nodeSelector: {disk: none}, restartPolicy")
}

pub(crate) fn jobs(world: &World) -> Api<Job> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

pub(crate) async fn uid(world: &World, name: &str) -> Option<String> {
    jobs(world).get_opt(name).await.unwrap()?.uid()
}

pub(crate) async fn application(world: &World, name: &str) -> Application {
    world.apps().get(name).await.unwrap()
}

fn remove(world: &World, paths: &[&str]) -> String {
    let changes: Vec<(&str, Option<&str>)> = paths.iter().map(|path| (*path, None)).collect();
    world.repository.change(&changes, "Less")
}

/// Once nothing is written any more: what is not there now will not come.
async fn settled(world: &World, name: &str) {
    let last = std::sync::Mutex::new((String::new(), 0));
    eventually("the Application is written no more", || async {
        let version = application(world, name).await.resource_version().unwrap_or_default();
        let mut last = last.lock().unwrap();
        *last = if last.0 == version { (version, last.1 + 1) } else { (version, 0) };
        (last.1 > 15).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wave_waits_for_the_health_of_the_one_before() {
    let world = World::new("sync-waves").await;
    let files = |node: &str| {
        [
            ("app/a.yaml".to_owned(), annotated(&deployment("first", node, 1), &[(WAVE, "-1")])),
            ("app/b.yaml".to_owned(), map("second", "x")),
            ("app/c.yaml".to_owned(), annotated(&map("third", "x"), &[(WAVE, "2")])),
        ]
    };
    let commit = |files: &[(String, String)], why: &str| {
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        world.repository.commit(&files, why)
    };
    commit(&files("none"), "No node takes the first");
    world.application("fraud", json!({})).await;
    let message = world.reason("fraud", "Ready", "Syncing").await;
    assert!(message.starts_with("wave -1: waits for Deployment sync-waves/first to be healthy"), "{message}");
    settled(&world, "fraud").await;
    assert_eq!(world.value("second").await, None);
    let operation = application(&world, "fraud").await.status.unwrap().operation.unwrap();
    assert_eq!((operation.state, operation.step.as_str()), (OperationState::Running, "Sync -1"));
    assert_eq!(application(&world, "fraud").await.status.unwrap().applied_revision, "");

    // A newer commit does not wait for the older one (I9).
    let good = commit(&files(""), "Any node");
    world.poke("fraud").await;
    world.ready("fraud", &good).await;
    assert_eq!(world.value("third").await.as_deref(), Some("x"));
    let status = application(&world, "fraud").await.status.unwrap();
    assert_eq!(status.operation.unwrap().state, OperationState::Succeeded);
    assert_eq!(status.applied_revision, good);

    // What drifts in an earlier wave is repaired without going through the waves again.
    world.maps().delete("second", &DeleteParams::default()).await.unwrap();
    world.becomes("second", Some("x")).await;
}

#[tokio::test]
async fn hooks_run_once_for_each_sync_and_go_as_they_say() {
    let world = World::new("sync-hooks").await;
    let files = |version: &str| {
        vec![
            ("app/a.yaml", map("a", version)),
            ("app/pre.yaml", annotated(&named("migrate", ""), &[(HOOK, "PreSync")])),
            ("app/gen.yaml", annotated(&job("generateName: smoke-", ""), &[(HOOK, "PostSync")])),
            (
                "app/gone.yaml",
                annotated(&named("check", ""), &[(HOOK, "PostSync"), (WAVE, "1"), (POLICY, "HookSucceeded")]),
            ),
            ("app/skip.yaml", annotated(&map("skipped", "x"), &[(HOOK, "Skip")])),
            ("app/fail.yaml", annotated(&map("alarm", "x"), &[(HOOK, "SyncFail")])),
        ]
    };
    let commit = |version: &str| {
        let files = files(version);
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        world.repository.commit(&files, version)
    };
    let first = commit("one");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let migrated = uid(&world, "migrate").await.unwrap();
    let operation = application(&world, "fraud").await.status.unwrap().operation.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(operation.hooks.len(), 3, "{operation:#?}");
    let smoke = operation.hooks.iter().find(|hook| hook.name == "smoke-").unwrap();
    assert_eq!(smoke.generated_name, format!("smoke-postsync-{}", operation.id));
    assert!(uid(&world, &smoke.generated_name).await.is_some());
    eventually("the hook that is to go has gone", || async {
        uid(&world, "check").await.is_none().then_some(())
    })
    .await;
    eventually("no hook is held", || async {
        let all = jobs(&world).list(&ListParams::default()).await.unwrap();
        all.iter().all(|job| job.finalizers().iter().all(|name| name != "driftless.dev/hook")).then_some(())
    })
    .await;
    assert_eq!(world.value("skipped").await, None);
    assert_eq!(world.value("alarm").await, None);

    // Drift is repaired without hooks.
    world.maps().delete("a", &DeleteParams::default()).await.unwrap();
    world.becomes("a", Some("one")).await;
    assert_eq!(uid(&world, "migrate").await.unwrap(), migrated);

    // The next commit runs them again.
    let second = commit("two");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    assert_ne!(uid(&world, "migrate").await.unwrap(), migrated);

    // So does a person.
    let migrated = uid(&world, "migrate").await.unwrap();
    let (code, out, err) = cli(&world, &["sync", "fraud", "--wait"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_ne!(uid(&world, "migrate").await.unwrap(), migrated);
    // Nothing of a hook is owned, so nothing of it is pruned.
    let status = application(&world, "fraud").await.status.unwrap();
    assert_eq!(status.inventory.count, 1);
}

#[tokio::test]
async fn a_revert_is_a_sync_of_its_own() {
    let world = World::new("sync-revert").await;
    let hook = annotated(&job("generateName: smoke-", ""), &[(HOOK, "PostSync")]);
    let first =
        world.repository.commit(&[("app/a.yaml", &map("a", "one")), ("app/gen.yaml", &hook)], "First");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let second = world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    let third = world.repository.revert();
    world.poke("fraud").await;
    world.ready("fraud", &third).await;
    // What the first sync made is there still and is no excuse for not running.
    let all = jobs(&world).list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[tokio::test]
async fn a_failed_hook_stops_the_sync_and_a_newer_commit_goes_on() {
    let world = World::new("sync-fail").await;
    let first = world.repository.commit(
        &[
            ("app/a.yaml", map("a", "one").as_str()),
            ("app/pre.yaml", &annotated(&failing("migrate"), &[(HOOK, "PreSync")])),
            ("app/fail.yaml", &annotated(&map("alarm", "x"), &[(HOOK, "SyncFail")])),
        ],
        "A migration that fails",
    );
    world.application("fraud", json!({"spec": {"sync": {"retry": {"limit": 1, "backoff": "1s"}}}})).await;
    let message = world.reason("fraud", "Ready", "SyncFailed").await;
    assert!(message.contains("PreSync hook Job sync-fail/migrate failed"), "{message}");
    world.becomes("alarm", Some("x")).await;
    assert_eq!(world.value("a").await, None);
    eventually("it is tried twice and no more", || async {
        let operation = application(&world, "fraud").await.status?.operation?;
        (operation.attempt == 2 && operation.state == OperationState::Failed && operation.retry_at.is_empty())
            .then_some(())
    })
    .await;
    assert_eq!(application(&world, "fraud").await.status.unwrap().applied_revision, "");
    assert!(application(&world, "fraud").await.status.unwrap().holds("Stalled"));
    let _ = first;

    let good = world.repository.commit(
        &[("app/pre.yaml", &annotated(&named("migrate", ""), &[(HOOK, "PreSync")]))],
        "A migration that works",
    );
    world.poke("fraud").await;
    world.ready("fraud", &good).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_wait_has_a_limit() {
    let world = World::new("sync-limit").await;
    world.repository.commit(
        &[
            (
                "app/pre.yaml",
                annotated(&named("approve", "suspend: true\n  "), &[(HOOK, "PreSync")]).as_str(),
            ),
            ("app/a.yaml", &map("a", "one")),
        ],
        "A hook that stands still",
    );
    world.application("fraud", json!({"spec": {"sync": {"waitLimit": "2s", "retry": {"limit": 0}}}})).await;
    let message = world.reason("fraud", "Ready", "SyncFailed").await;
    assert!(message.contains("for longer than 2s"), "{message}");
    assert_eq!(world.value("a").await, None);
}

#[tokio::test]
async fn an_agent_that_is_killed_makes_no_second_hook() {
    let (world, _running) = World::alone("sync-killed").await;
    let hooked = annotated(&named("migrate", "suspend: true\n  "), &[(HOOK, "PreSync")]);
    let first =
        world.repository.commit(&[("app/a.yaml", &map("a", "one")), ("app/pre.yaml", &hooked)], "First");
    let agent = Agent::start(&world.plane, &["--interval", "5"]);
    world.application("fraud", json!({})).await;
    eventually("the hook is there", || async { uid(&world, "migrate").await.map(|_| ()) }).await;
    let made = uid(&world, "migrate").await.unwrap();
    agent.kill();
    let agent = Agent::start(&world.plane, &["--interval", "5"]);
    world.reason("fraud", "Ready", "Syncing").await;
    settled(&world, "fraud").await;
    assert_eq!(uid(&world, "migrate").await.unwrap(), made);
    let goes_on = json!({"spec": {"suspend": false}});
    jobs(&world).patch("migrate", &PatchParams::default(), &Patch::Merge(goes_on)).await.unwrap();
    // Without a node that completes it, its end is written by hand.
    let ended = json!({"status": {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:01Z", "succeeded": 1,
        "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"}]}});
    eventually("the job is complete", || async {
        jobs(&world)
            .patch_status("migrate", &PatchParams::default(), &Patch::Merge(ended.clone()))
            .await
            .ok()
            .map(|_| ())
    })
    .await;
    world.ready("fraud", &first).await;
    assert_eq!(uid(&world, "migrate").await.unwrap(), made);
    drop(agent);
}

#[tokio::test]
async fn what_is_precious_or_much_is_not_deleted_without_a_word() {
    let world = World::new("sync-prune").await;
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let kept = annotated(&map("kept", "x"), &[(OPTIONS, "Prune=false")]);
    let asks = annotated(&map("asks", "x"), &[(OPTIONS, "Prune=confirm")]);
    let first = world.repository.commit(
        &[
            ("app/a.yaml", map("a", "x").as_str()),
            ("app/b.yaml", &map("b", "x")),
            ("app/claim.yaml", claim),
            ("app/kept.yaml", &kept),
            ("app/asks.yaml", &asks),
        ],
        "First",
    );
    world.application("fraud", json!({})).await;
    // A claim that nobody binds is never healthy.
    eventually("it is applied", || async {
        (application(&world, "fraud").await.status?.applied_revision == first).then_some(())
    })
    .await;
    let second = remove(&world, &["app/b.yaml", "app/claim.yaml", "app/kept.yaml", "app/asks.yaml"]);
    world.poke("fraud").await;
    world.becomes("b", None).await;
    let message = world.reason("fraud", "PruneHeld", "Protected").await;
    assert!(message.starts_with("3 objects have left Git and stay"), "{message}");
    let status = application(&world, "fraud").await.status.unwrap();
    let held: Vec<_> =
        status.prune.held.iter().map(|held| (held.object.as_str(), held.reason.as_str())).collect();
    assert_eq!(
        held,
        [
            ("PersistentVolumeClaim sync-prune/data", "Protected"),
            ("ConfigMap sync-prune/asks", "Asks"),
            ("ConfigMap sync-prune/kept", "Refused"),
        ]
    );
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &world.namespace);
    assert!(claims.get_opt("data").await.unwrap().is_some());
    let (code, out, err) = cli(&world, &["sync", "fraud", "--confirm-prune", "0123456789ab"]).await;
    assert_eq!(code, 2, "{out}{err}");
    let (code, out, err) = cli(&world, &["sync", "fraud", "--confirm-prune", &status.prune.token]).await;
    assert_eq!(code, 0, "{out}{err}");
    world.becomes("asks", None).await;
    eventually("the claim goes", || async {
        let claim = claims.get_opt("data").await.unwrap();
        claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()).then_some(())
    })
    .await;
    assert_eq!(world.value("kept").await.as_deref(), Some("x"));
    let _ = second;

    // A wrong path in a merge: most of what there is would go.
    let many: Vec<(String, String)> =
        (0..12).map(|number| (format!("many/{number}.yaml"), map(&format!("m{number}"), "x"))).collect();
    let files: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    world.repository.commit(&files, "Many");
    world.application("many", json!({"spec": {"source": {"path": "many"}}})).await;
    world.becomes("m11", Some("x")).await;
    let gone: Vec<&str> = files[..10].iter().map(|(path, _)| *path).collect();
    remove(&world, &gone);
    world.poke("many").await;
    let message = world.reason("many", "PruneHeld", "Budget").await;
    assert!(message.contains("--confirm-prune"), "{message}");
    assert_eq!(world.value("m0").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn deletions_go_from_the_last_wave_to_the_first_and_name_what_blocks() {
    let world = World::new("sync-delete").await;
    let wave = |name: &str, wave: &str| annotated(&map(name, "x"), &[(WAVE, wave)]);
    let first = world.repository.commit(
        &[
            ("app/a.yaml", map("a", "x").as_str()),
            ("app/b.yaml", &wave("b", "1")),
            ("app/c.yaml", &wave("c", "2")),
        ],
        "First",
    );
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let hold = json!({"metadata": {"finalizers": ["example.com/held"]}});
    world.maps().patch("c", &PatchParams::default(), &Patch::Merge(hold)).await.unwrap();
    remove(&world, &["app/b.yaml", "app/c.yaml"]);
    world.poke("fraud").await;
    let found = eventually("it says what blocks", || async {
        let health = application(&world, "fraud").await.status?.health;
        health.message.contains("example.com/held").then_some(health.message)
    })
    .await;
    assert!(found.contains("ConfigMap sync-delete/c: it is being deleted, and waits for"), "{found}");
    assert_eq!(world.value("b").await.as_deref(), Some("x"));
    let free = json!({"metadata": {"finalizers": null}});
    world.maps().patch("c", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    world.becomes("b", None).await;
    eventually("it is ready again", || async {
        application(&world, "fraud").await.status?.holds("Ready").then_some(())
    })
    .await;
}

#[tokio::test]
async fn options_of_objects_are_kept() {
    let world = World::new("sync-options").await;
    let immutable = |value: &str, options: &str| {
        annotated(
            &format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: fixed}}\nimmutable: true\ndata: {{value: {value}}}\n"
            ),
            &[(OPTIONS, options)],
        )
    };
    let once =
        |value: &str| annotated(&map("once", value), &[("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent")]);
    let first = world.repository.commit(
        &[("app/f.yaml", immutable("one", "Force=true").as_str()), ("app/o.yaml", &once("one"))],
        "First",
    );
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let before = world.maps().get("fixed").await.unwrap().uid();
    let second = world.repository.commit(
        &[("app/f.yaml", immutable("two", "Force=true").as_str()), ("app/o.yaml", &once("two"))],
        "Second",
    );
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    assert_eq!(world.value("fixed").await.as_deref(), Some("two"));
    assert_ne!(world.maps().get("fixed").await.unwrap().uid(), before);
    assert_eq!(world.value("once").await.as_deref(), Some("one"));
    // Made once is made again when it is lost.
    world.maps().delete("once", &DeleteParams::default()).await.unwrap();
    world.becomes("once", Some("two")).await;
}

#[tokio::test]
async fn windows_and_suspensions_hold_a_commit_back() {
    let world = World::new("sync-windows").await;
    world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    // The first of January, for a minute: never while a test runs.
    let window = |manual: bool| json!({"kind": "Allow", "schedule": "0 0 1 1 *", "duration": "1m", "timeZone": "Europe/Berlin", "manual": manual});
    world.application("fraud", json!({"spec": {"sync": {"windows": [window(true)]}}})).await;
    let message = world.reason("fraud", "Ready", "OutsideWindow").await;
    assert!(message.contains("0 0 1 1 * Europe/Berlin for 1m"), "{message}");
    assert_eq!(world.value("a").await, None);
    let (code, out, err) = cli(&world, &["sync", "fraud", "--wait"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));

    let until = jiff::Timestamp::now().checked_add(Duration::from_secs(4)).unwrap();
    let suspend = json!({"suspend": {"by": "ann", "why": "a demo", "until": until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}});
    world.repository.commit(&[("other/b.yaml", &map("b", "one"))], "Other");
    let mut spec = suspend;
    spec["source"] = json!({"path": "other"});
    world.application("held", json!({"spec": spec})).await;
    let message = world.reason("held", "Applied", "Suspended").await;
    assert!(message.contains("ann") && message.contains("a demo"), "{message}");
    eventually("it goes on by itself", || async {
        application(&world, "held").await.status?.holds("Ready").then_some(())
    })
    .await;

    world.application("broken", json!({"spec": {"sync": {"windows": [{"kind": "Deny", "schedule": "0 25 * * *", "duration": "1h"}]}}})).await;
    let message = world.reason("broken", "Ready", "ApplicationInvalid").await;
    assert!(message.contains("0 25 * * *"), "{message}");
}

#[tokio::test]
async fn an_application_waits_for_those_it_depends_on() {
    let world = World::new("sync-depends").await;
    let first = world.repository.commit(
        &[("db/d.yaml", deployment("db", "none", 1).as_str()), ("app/a.yaml", &map("a", "one"))],
        "First",
    );
    world.application("web", json!({"spec": {"dependsOn": [{"name": "db"}]}})).await;
    let message = world.reason("web", "Ready", "WaitsForDependency").await;
    assert!(message.contains("sync-depends/db"), "{message}");
    world.application("db", json!({"spec": {"source": {"path": "db"}}})).await;
    world.reason("db", "Ready", "Progressing").await;
    settled(&world, "web").await;
    assert_eq!(world.value("a").await, None);
    let second = world.repository.commit(&[("db/d.yaml", &deployment("db", "", 1))], "Any node");
    world.poke("db").await;
    world.ready("db", &second).await;
    world.becomes("a", Some("one")).await;
    let _ = first;
}

#[tokio::test]
async fn chosen_objects_are_synced_alone() {
    let world = World::new("sync-chosen").await;
    world.repository.commit(&[("app/a.yaml", &map("a", "one")), ("app/b.yaml", &map("b", "one"))], "First");
    world.application("fraud", json!({"spec": {"sync": {"automated": false}}})).await;
    world.reason("fraud", "Applied", "WaitingForSync").await;
    let (code, out, err) = cli(&world, &["sync", "fraud", "--object", "ConfigMap/b"]).await;
    assert_eq!(code, 0, "{out}{err}");
    world.becomes("b", Some("one")).await;
    settled(&world, "fraud").await;
    assert_eq!(world.value("a").await, None);
    let (code, out, err) = cli(&world, &["sync", "fraud", "--wait"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_missing_namespace_is_made_where_that_is_asked() {
    let world = World::new("sync-namespace").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world
        .application(
            "fraud",
            json!({"spec": {"destination": {"namespace": "sync-made"},
                "sync": {"createNamespace": {"labels": {"team": "ml"}}}}}),
        )
        .await;
    world.ready("fraud", &first).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    assert_eq!(namespaces.get("sync-made").await.unwrap().labels()["team"], "ml");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "sync-made");
    assert!(maps.get_opt("a").await.unwrap().is_some());
    // It is not owned, so it stays when the application goes.
    let status = application(&world, "fraud").await.status.unwrap();
    assert_eq!(status.inventory.count, 1);
}

#[tokio::test]
async fn a_dry_run_asks_the_server_and_writes_nothing() {
    let world = World::new("sync-dry").await;
    world.repository.commit(
        &[
            ("app/a.yaml", map("a", "one").as_str()),
            ("app/d.yaml", &deployment("d", "", 1).replace("replicas: 1", "replicas: many")),
        ],
        "First",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let text = format!(
        "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: fraud, namespace: {}}}\nspec: {{source: {{repo: '{}', revision: main, path: app}}}}\n",
        world.namespace, world.repository.url
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let (code, out, err) = cli(&world, &["apply", "-f", file, "--dry-run"]).await;
    assert_eq!(code, 4, "{out}{err}");
    assert!(out.contains("would be taken  ConfigMap sync-dry/a"), "{out}");
    assert!(err.contains("app/d.yaml:1") && err.contains("replicas"), "{err}");
    assert_eq!(world.value("a").await, None);
    assert!(world.apps().get_opt("fraud").await.unwrap().is_none());
}
