//! What happens around the main job: quarrels, autoscalers, restarts, missing rights, an API server that is away.

use std::time::Duration;

use driftless::api::ConditionStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::agent::{World, cli, map};
use crate::harness::cluster::Agent;
use crate::harness::eventually;
use crate::harness::git::Fault;
use crate::harness::installed;

pub(crate) fn deployment(replicas: u32, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: model}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: model}}}}\n  template:\n    metadata: {{labels: {{app: model}}}}\n    spec: {{containers: [{{name: server, image: '{image}'}}]}}\n"
    )
}

#[tokio::test]
async fn a_quarrel_is_slowed_down_and_named() {
    let world = World::new("quarrel").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let rival = PatchParams { field_manager: Some("rival-operator".into()), ..PatchParams::default() };
    // Three repairs are free; the fourth edit stays for a while.
    for round in 0..4 {
        world
            .maps()
            .patch("a", &rival, &Patch::Merge(json!({"data": {"value": format!("rival {round}")}})))
            .await
            .unwrap();
        if round < 3 {
            world.becomes("a", Some("one")).await;
        }
    }
    let message = world.reason("app", "Drifted", "Contested").await;
    assert!(message.contains("rival-operator") && message.contains("ConfigMap quarrel/a"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("rival 3"));
    world.becomes("a", Some("one")).await;
    world.reason("app", "Drifted", "InSync").await;
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), "quarrel");
    eventually("an event names the rival", || async {
        let all = events.list(&ListParams::default()).await.ok()?;
        all.items
            .iter()
            .any(|event| event.note.as_deref().unwrap_or_default().contains("rival-operator"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn replicas_belong_to_the_autoscaler() {
    let world = World::new("scaled").await;
    let scaler = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: model}\nspec:\n  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: model}\n  minReplicas: 1\n  maxReplicas: 9\n";
    world.repository.commit(&[("app/d.yaml", &deployment(0, "model:1")), ("app/h.yaml", scaler)], "First");
    world.application("app", json!({})).await;
    world.reason("app", "Applied", "Applied").await;
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), "scaled");
    let scale = json!({"spec": {"replicas": 5}});
    deployments.patch("model", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
    world.repository.commit(&[("app/d.yaml", &deployment(0, "model:2"))], "Second");
    world.poke("app").await;
    eventually("the new image", || async {
        let spec = deployments.get("model").await.ok()?.spec?;
        (spec.template.spec?.containers[0].image.as_deref() == Some("model:2")).then_some(())
    })
    .await;
    assert_eq!(
        deployments.get("model").await.unwrap().spec.unwrap().replicas,
        Some(5),
        "the autoscaler's number stays"
    );
    let (code, text, _) = cli(&world, &["drift", "app"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("HorizontalPodAutoscaler scaled/model"), "the report says whose it is: {text}");
}

#[tokio::test]
async fn ignored_differences_are_left_alone() {
    let world = World::new("ignored").await;
    let value = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {value: one, counter: \"0\", extra: \"0\"}\n";
    let first =
        world.repository.commit(&[("app/a.yaml", value), ("app/d.yaml", &deployment(0, "model:1"))], "First");
    let ignore = json!([
        {"kind": "ConfigMap", "pointers": ["/data/counter"]},
        {"kind": "Deployment", "jq": [".spec.template.spec.containers[] | select(.name==\"server\") | .image"]},
        {"kind": "ConfigMap", "managers": ["tuner"]},
    ]);
    world.application("app", json!({"spec": {"ignoreDifferences": ignore}})).await;
    // A Deployment without its image cannot be made by us: somebody else makes it first.
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), "ignored");
    let parsed: serde_json::Value = serde_json::to_value(
        driftless::model::yaml::read(deployment(0, "tuned:7").as_bytes(), "d").unwrap()[0].value.clone(),
    )
    .unwrap();
    deployments.patch("model", &PatchParams::apply("tuner").force(), &Patch::Apply(parsed)).await.unwrap();
    world.poke("app").await;
    world.ready("app", &first).await;
    let tune = PatchParams { field_manager: Some("tuner".into()), ..PatchParams::default() };
    world
        .maps()
        .patch("a", &tune, &Patch::Merge(json!({"data": {"counter": "41", "extra": "7"}})))
        .await
        .unwrap();
    world
        .maps()
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"value": "edited"}})))
        .await
        .unwrap();
    world.becomes("a", Some("one")).await;
    let data = world.maps().get("a").await.unwrap().data.unwrap();
    assert_eq!(data["counter"], "41");
    let spec = deployments.get("model").await.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some("tuned:7"));
}

#[tokio::test]
async fn immutable_fields_are_named_and_the_rest_goes_on() {
    let world = World::new("immutable").await;
    let first = world
        .repository
        .commit(&[("app/d.yaml", &deployment(0, "model:1")), ("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let changed = deployment(0, "model:1").replace("app: model", "app: other");
    world.repository.commit(&[("app/d.yaml", &changed), ("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("app").await;
    let message = world.reason("app", "Ready", "FieldImmutable").await;
    assert!(
        message.contains("Deployment immutable/model")
            && message.contains("selector")
            && message.contains("app/d.yaml:1"),
        "{message}"
    );
    world.becomes("a", Some("two")).await;
    // A newer commit does not wait for the failing one.
    let third = world.repository.commit(&[("app/d.yaml", &deployment(0, "model:3"))], "Third");
    world.poke("app").await;
    world.ready("app", &third).await;
}

#[tokio::test]
async fn applications_can_be_delivered_by_an_application() {
    let world = World::new("fleet").await;
    let child = |name: &str| {
        format!(
            "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec:\n  source: {{repo: '{}', revision: main, path: apps/{name}}}\n",
            world.repository.url
        )
    };
    let first = world.repository.commit(
        &[
            ("fleet/a.yaml", &child("a")),
            ("fleet/b.yaml", &child("b")),
            ("apps/a/m.yaml", &map("a", "one")),
            ("apps/b/m.yaml", &map("b", "two")),
        ],
        "First",
    );
    world.application("fleet", json!({"spec": {"source": {"path": "fleet"}}})).await;
    world.ready("a", &first).await;
    world.ready("b", &first).await;
    world.ready("fleet", &first).await;
    assert_eq!(world.value("b").await.as_deref(), Some("two"));
    // An application that leaves is deleted; what it delivered stays, as it did not ask for a cascade.
    world.repository.change(&[("fleet/b.yaml", None)], "Second");
    world.poke("fleet").await;
    eventually("b is gone", || async { world.apps().get_opt("b").await.unwrap().is_none().then_some(()) })
        .await;
    assert_eq!(world.value("b").await.as_deref(), Some("two"));
}

#[tokio::test]
async fn several_sources_make_one_application() {
    let world = World::new("several").await;
    let other = world.git.repository("ml/values");
    world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    other.commit(&[("b.yaml", &map("b", "one"))], "First");
    let sources = json!([{"repo": world.repository.url, "path": "app"}, {"repo": other.url}]);
    world.application("app", json!({"spec": {"source": null, "sources": sources}})).await;
    world.becomes("a", Some("one")).await;
    world.becomes("b", Some("one")).await;
    other.commit(&[("b.yaml", &map("b", "two"))], "Second");
    world.poke("app").await;
    world.becomes("b", Some("two")).await;
    let same = [("b.yaml", map("a", "twice"))];
    other.commit(&same.iter().map(|(path, text)| (*path, text.as_str())).collect::<Vec<_>>(), "Third");
    world.poke("app").await;
    let message = world.reason("app", "Ready", "DuplicateObject").await;
    assert!(message.contains("ConfigMap several/a") || message.contains("ConfigMap a"), "{message}");
    assert_eq!(world.value("b").await.as_deref(), Some("two"), "nothing is deleted");
}

#[tokio::test]
async fn bad_applications_are_refused_with_friendly_words() {
    let world = World::new("refused").await;
    let spec = |change: serde_json::Value| {
        json!({
        "apiVersion": "driftless.dev/v1alpha1", "kind": "Application", "metadata": {"name": "x"}, "spec": change})
    };
    let resource = kube::discovery::ApiResource::erase::<driftless::api::Application>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), "refused", &resource);
    for (stated, words) in [
        (json!({}), "source"),
        (
            json!({"source": {"repo": "https://a.example/x"}, "sources": [{"repo": "https://a.example/x"}]}),
            "source",
        ),
        (json!({"source": {"repo": "https://me:secret@a.example/x"}}), "secretRef"),
        (json!({"source": {"repo": "https://a.example/x", "path": "../up"}}), "path"),
        (json!({"source": {"repo": "https://a.example/x", "interval": "1 hour"}}), "interval"),
    ] {
        let object: DynamicObject = serde_json::from_value(spec(stated.clone())).unwrap();
        let error =
            api.create(&PostParams::default(), &object).await.expect_err(&stated.to_string()).to_string();
        assert!(error.contains(words), "{stated}: {error}");
    }
}

#[tokio::test]
async fn a_git_server_that_hangs_is_reported_and_others_go_on() {
    let world = World::new("hanging").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let other = world.git.repository("ml/other");
    let good = other.commit(&[("app/b.yaml", &map("b", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    world.git.fault("ml/platform", Some(Fault::Hang));
    world.poke("app").await;
    world.application("other", json!({"spec": {"source": {"repo": other.url}}})).await;
    world.ready("other", &good).await;
    world.reason("app", "SourceReady", "SourceTimedOut").await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_large_inventory_is_kept_in_chunks_and_pruned_from() {
    let world = World::new("large").await;
    let all = |count: usize| {
        (0..count).map(|number| format!("---\n{}", map(&format!("m-{number:04}"), "x"))).collect::<String>()
    };
    let first = world.repository.commit(&[("app/all.yaml", &all(450))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let inventory = world.apps().get("app").await.unwrap().status.unwrap().inventory;
    assert_eq!((inventory.count, inventory.entries.len(), inventory.chunks.len()), (450, 0, 1));
    let second = world.repository.commit(&[("app/all.yaml", &all(440))], "Second");
    world.poke("app").await;
    world.ready("app", &second).await;
    assert_eq!(world.value("m-0445").await, None);
    // It goes after the status is written: one that is lost between the two is worse than one too many.
    eventually("the old chunk is gone", || async {
        let chunks = |map: &ConfigMap| map.name_any().starts_with("app-inventory-");
        let maps = world.maps().list(&ListParams::default()).await.unwrap().items;
        (maps.into_iter().filter(chunks).count() == 1).then_some(())
    })
    .await;
    // A chunk that is lost stops deletions, not the application's health.
    let stated = world.apps().get("app").await.unwrap().status.unwrap().inventory.chunks[0].clone();
    assert!(world.maps().get_opt(&stated).await.unwrap().is_some());
}

#[tokio::test]
async fn a_restart_costs_no_write_and_a_crash_loses_nothing() {
    let (world, running) = World::alone("restarts").await;
    let agent = Agent::start(&running.plane, &["--interval", "3600"]);
    let first = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "one")), ("app/d.yaml", &deployment(0, "model:1"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let version = || async {
        let app = world.apps().get("app").await.unwrap().resource_version();
        (app, world.maps().get("a").await.unwrap().resource_version())
    };
    // An end in the middle of the second in which health is not written yet loses no inventory.
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), "restarts");
    deployments.delete("model", &kube::api::DeleteParams::default()).await.unwrap();
    eventually("the Deployment is back", || async {
        deployments.get_opt("model").await.unwrap().map(|_| ())
    })
    .await;
    assert_eq!(agent.terminate(), Some(0), "SIGTERM ends it cleanly");
    let restart = || async {
        let agent = Agent::start(&running.plane, &["--interval", "3600"]);
        eventually("the application was looked at", || async { (agent.passes().await > 0).then_some(()) })
            .await;
        agent
    };
    let agent = restart().await;
    let objects = agent.counts("driftless_objects_total").await.unwrap();
    assert_eq!(objects.get("applied"), None, "nothing is applied again");
    world.ready("app", &first).await;
    assert_eq!(agent.terminate(), Some(0));
    let before = version().await;

    let agent = restart().await;
    let requests = agent.counts("driftless_api_requests_total").await.unwrap();
    assert_eq!(requests.get("patch"), None, "{requests:?}");
    assert_eq!(version().await, before);
    agent.kill();

    // While nobody looks: an edit, a deletion and a merge.
    world
        .maps()
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"value": "edited"}})))
        .await
        .unwrap();
    deployments.delete("model", &kube::api::DeleteParams::default()).await.unwrap();
    let second = world.repository.commit(&[("app/b.yaml", &map("b", "new"))], "Second");
    let _agent = Agent::start(&running.plane, &["--interval", "3600"]);
    world.ready("app", &second).await;
    world.becomes("a", Some("one")).await;
    world.becomes("b", Some("new")).await;
    eventually("the Deployment is back", || async {
        deployments.get_opt("model").await.unwrap().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let (world, running) = World::alone("away").await;
    let _agent = Agent::start(&running.plane, &["--interval", "5"]);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let server = running.plane.processes["kube-apiserver"].to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &server]).status().unwrap().success());
    };
    signal("-STOP");
    let second = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "two")), ("app/b.yaml", &map("b", "new"))], "Second");
    tokio::time::sleep(Duration::from_secs(8)).await;
    signal("-CONT");
    world.ready("app", &second).await;
    world.becomes("a", Some("two")).await;
    world.becomes("b", Some("new")).await;
}

#[tokio::test]
async fn a_wide_role_is_enough_and_a_missing_right_is_named() {
    let (world, running) = World::alone("installed").await;
    let folder = tempfile::tempdir().unwrap();
    let plane = installed::as_agent(&world.client, &running.plane, folder.path()).await;
    // As the chart gives it with rbac.mode=admin.
    let everything = json!({"rules": [
        {"apiGroups": ["*"], "resources": ["*"],
            "verbs": ["get", "list", "watch", "create", "patch", "delete", "bind", "escalate"]},
        {"apiGroups": ["driftless.dev"], "resources": ["applications/status"], "verbs": ["patch", "update"]},
    ]});
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    roles.patch("driftless", &PatchParams::default(), &Patch::Merge(everything)).await.unwrap();
    let _agent = Agent::start(&plane, &["--interval", "3600"]);

    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: given}\nrules: [{apiGroups: [\"\"], resources: [pods], verbs: [delete]}]\n";
    let first = world.repository.commit(
        &[("app/a.yaml", &map("a", "one")), ("app/r.yaml", role), ("app/d.yaml", &deployment(0, "model:1"))],
        "First",
    );
    world.application("app", json!({})).await;
    world.ready("app", &first).await;

    // Without the right to Secrets, an application that has one says so; the others go on.
    let narrow = json!({"rules": [
        {"apiGroups": ["", "apps", "rbac.authorization.k8s.io", "events.k8s.io"], "resources": ["configmaps", "deployments", "clusterroles", "namespaces", "events"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
        {"apiGroups": ["driftless.dev"], "resources": ["*"], "verbs": ["*"]},
    ]});
    roles.patch("driftless", &PatchParams::default(), &Patch::Merge(narrow)).await.unwrap();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: hunter2}\n";
    let second = world.repository.commit(
        &[
            ("secret/s.yaml", secret),
            ("secret/m.yaml", &map("beside", "x")),
            ("app/a.yaml", &map("a", "two")),
        ],
        "Second",
    );
    world.application("needs-more", json!({"spec": {"source": {"path": "secret"}}})).await;
    let message = world.reason("needs-more", "Ready", "WatchFailed").await;
    assert!(message.contains("secrets") && !message.contains("hunter2"), "{message}");
    world.poke("app").await;
    world.ready("app", &second).await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "installed");
    assert!(secrets.get_opt("s").await.unwrap().is_none());
    assert!(matches!(world.condition("needs-more", "Ready").await, Some((ConditionStatus::False, _, _))));
}

#[tokio::test]
async fn proxies_of_the_environment_are_used() {
    let world = World::new("proxied").await;
    world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    // Nobody answers to this name but the proxy, which is the Git server itself.
    let stated = "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: app, namespace: proxied}\nspec:\n  source: {repo: 'http://git.invalid/ml/platform.git', path: app}\n";
    std::fs::write(&file, stated).unwrap();
    let mut command = tokio::process::Command::new(crate::harness::cluster::program());
    command.arg("--kubeconfig").arg(&world.plane.kubeconfig).args(["drift", "-f"]).arg(&file);
    let done = command.env("HTTP_PROXY", format!("http://{}", world.git.address)).output().await.unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!((done.status.code(), text.contains("+ ConfigMap proxied/a")), (Some(1), true), "{text}");
}
