//! The main job on a real API server: a merge deploys, drift is repaired, a revert rolls back.

use std::time::Duration;

use driftless::api::{Application, ConditionStatus};
use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::cluster::{
    self, Agent, ControlPlane, Running, allow_all, client, control_plane, install, launch,
};
use crate::harness::eventually;
use crate::harness::git::{Fault, Repository, Server};

/// One namespace, one repository, one Git server; the agent and the control plane are shared.
pub(crate) struct World {
    pub(crate) client: kube::Client,
    pub(crate) plane: ControlPlane,
    pub(crate) namespace: String,
    pub(crate) git: Server,
    pub(crate) repository: Repository,
}

static AGENT: OnceCell<std::sync::Mutex<Agent>> = OnceCell::const_new();

impl World {
    pub(crate) async fn new(namespace: &str) -> Self {
        let plane = tokio::task::spawn_blocking(control_plane).await.unwrap();
        let client = client(&plane).await;
        AGENT
            .get_or_init(|| async {
                install(&client).await;
                allow_all(&client).await;
                cluster::node(&client).await;
                std::sync::Mutex::new(Agent::start(&plane, &["--interval", "5"]))
            })
            .await;
        Self::on(namespace, plane, client).await
    }

    /// A world on a control plane of its own, without an agent.
    pub(crate) async fn alone(namespace: &str) -> (Self, Running) {
        let (world, running) = Self::guarded(namespace).await;
        allow_all(&world.client).await;
        (world, running)
    }

    /// As [`Self::alone`], without a Project: the secure defaults hold.
    pub(crate) async fn guarded(namespace: &str) -> (Self, Running) {
        let running = tokio::task::spawn_blocking(|| launch(None, "controller-manager")).await.unwrap();
        let client = client(&running.plane).await;
        install(&client).await;
        (Self::on(namespace, running.plane.clone(), client).await, running)
    }

    pub(crate) async fn on(namespace: &str, plane: ControlPlane, client: kube::Client) -> Self {
        cluster::namespace(&client, namespace).await;
        let git = Server::start().await;
        let repository = git.repository("ml/platform");
        Self { client, plane, namespace: namespace.into(), git, repository }
    }

    pub(crate) fn apps(&self) -> Api<Application> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn application(&self, name: &str, change: Value) {
        let mut stated = json!({
            "apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"source": {"repo": self.repository.url, "revision": "main", "path": "app"}},
        });
        merge(&mut stated, &change);
        let stated: Application = serde_json::from_value(stated).unwrap();
        self.apps().create(&PostParams::default(), &stated).await.unwrap();
    }

    pub(crate) async fn poke(&self, name: &str) {
        cluster::poke(&self.apps(), name).await;
    }

    pub(crate) async fn condition(
        &self,
        name: &str,
        kind: &str,
    ) -> Option<(ConditionStatus, String, String)> {
        let app = self.apps().get(name).await.ok()?;
        let found = app.condition(kind)?.clone();
        Some((found.status, found.reason, found.message))
    }

    pub(crate) async fn ready(&self, name: &str, revision: &str) {
        cluster::ready(&self.apps(), name, revision).await;
    }

    /// The message of a condition, once its reason is this.
    pub(crate) async fn reason(&self, name: &str, kind: &str, reason: &str) -> String {
        let last = std::sync::Mutex::new(None);
        let what = format!("{name} has {kind} with reason {reason}");
        let wait = eventually(&what, || async {
            let found = self.condition(name, kind).await;
            last.lock().unwrap().clone_from(&found);
            found.filter(|(_, found, _)| found == reason).map(|(_, _, message)| message)
        });
        let waited = std::panic::AssertUnwindSafe(wait).catch_unwind().await;
        waited.unwrap_or_else(|_| {
            panic!("{name} has not {kind} with reason {reason}, but {:?}", last.lock().unwrap())
        })
    }

    /// Type and note of the event with this reason and this in its note, once there is one.
    pub(crate) async fn event(&self, reason: &str, part: &str) -> (String, String) {
        let events: Api<k8s_openapi::api::events::v1::Event> =
            Api::namespaced(self.client.clone(), &self.namespace);
        eventually(&format!("an event {reason}"), || async {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            let found = all.into_iter().find(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.note.as_ref().is_some_and(|note| note.contains(part))
            })?;
            Some((found.type_.unwrap_or_default(), found.note.unwrap_or_default()))
        })
        .await
    }

    pub(crate) async fn value(&self, name: &str) -> Option<String> {
        self.maps().get_opt(name).await.unwrap()?.data?.get("value").cloned()
    }

    pub(crate) async fn becomes(&self, name: &str, value: Option<&str>) {
        eventually(&format!("ConfigMap {name} has {value:?}"), || async {
            (self.value(name).await.as_deref() == value).then_some(())
        })
        .await;
    }
}

fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change.clone(),
    }
}

pub(crate) fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: {value:?}}}\n")
}

#[tokio::test]
async fn a_merge_deploys_drift_is_repaired_and_a_revert_rolls_back() {
    let world = World::new("main-loop").await;
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: model}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: model}}\n  template:\n    metadata: {labels: {app: model}}\n    spec: {containers: [{name: server, image: 'model:1'}]}\n";
    let first = world.repository.commit(
        &[("app/a.yaml", &map("a", "one")), ("app/d.yaml", deployment), ("other/x.yaml", "not: a manifest")],
        "First",
    );
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    let label = world.maps().get("a").await.unwrap().labels()["driftless.dev/application"].clone();
    assert_eq!(label, "main-loop.fraud");

    // A merge deploys.
    let second = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "two")), ("app/b.yaml", &map("b", "new"))], "Second");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    assert_eq!(world.value("a").await.as_deref(), Some("two"));
    assert_eq!(world.value("b").await.as_deref(), Some("new"));

    // An edit, a deletion and a lost label are repaired without being asked.
    let edit = json!({"data": {"value": "edited"}});
    world.maps().patch("a", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    world.becomes("a", Some("two")).await;
    world.maps().delete("b", &DeleteParams::default()).await.unwrap();
    world.becomes("b", Some("new")).await;
    let unlabel = json!({"metadata": {"labels": {"driftless.dev/application": null}}});
    world.maps().patch("b", &PatchParams::default(), &Patch::Merge(unlabel)).await.unwrap();
    eventually("the label is back", || async {
        world.maps().get("b").await.ok()?.labels().get("driftless.dev/application").map(|_| ())
    })
    .await;
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "model:hacked"}]}}}});
    deployments.patch("model", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    eventually("the image is back", || async {
        let spec = deployments.get("model").await.ok()?.spec?.template.spec?;
        (spec.containers[0].image.as_deref() == Some("model:1")).then_some(())
    })
    .await;

    // A field that Git does not state belongs to whoever wrote it.
    let foreign = json!({"metadata": {"annotations": {"team": "ml"}}, "data": {"extra": "theirs"}});
    world.maps().patch("a", &PatchParams::default(), &Patch::Merge(foreign)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.maps().get("a").await.unwrap().data.unwrap()["extra"], "theirs");

    // A revert rolls back, and what the reverted commit brought is pruned.
    let third = world.repository.revert();
    world.poke("fraud").await;
    world.ready("fraud", &third).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    world.becomes("b", None).await;
    let status = world.apps().get("fraud").await.unwrap().status.unwrap();
    assert_eq!(
        status.history.iter().map(|entry| entry.revisions[0].clone()).collect::<Vec<_>>(),
        [first, second, third]
    );
    assert_eq!(
        status.history[0].rendered_digest, status.history[2].rendered_digest,
        "a revert is byte-equal"
    );
    assert_eq!(status.inventory.count, 2);
}

#[tokio::test]
async fn a_head_that_moves_elsewhere_costs_no_request() {
    let world = World::new("quiet").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("quiet", json!({"spec": {"source": {"interval": "5s"}}})).await;
    world.ready("quiet", &first).await;
    let before = world.apps().get("quiet").await.unwrap().resource_version();
    world.git.traffic();
    world.repository.commit(&[("elsewhere/b.yaml", &map("b", "x"))], "Unrelated");
    eventually("two more polls and a fetch", || async { (world.git.traffic().0 == 0).then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.apps().get("quiet").await.unwrap().resource_version(), before);
    assert_eq!(world.apps().get("quiet").await.unwrap().status.unwrap().applied_revision, first);
}

#[tokio::test]
async fn self_heal_off_only_reports_and_suspend_stops_writes() {
    let world = World::new("report-only").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("seen", json!({"spec": {"sync": {"selfHeal": false}}})).await;
    world.ready("seen", &first).await;
    let edit = json!({"data": {"value": "edited"}});
    let parameters = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
    world.maps().patch("a", &parameters, &Patch::Merge(edit)).await.unwrap();
    let message = world.reason("seen", "Drifted", "Drifted").await;
    assert!(message.contains("ConfigMap report-only/a") && message.contains("somebody"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("edited"));
    let hold = json!({"spec": {"suspend": {"by": "ana", "why": "incident 7"}, "sync": {"selfHeal": true}}});
    world.apps().patch("seen", &PatchParams::default(), &Patch::Merge(hold)).await.unwrap();
    world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("seen").await;
    let message = world.reason("seen", "Applied", "Suspended").await;
    assert!(message.contains("ana") && message.contains("incident 7"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("edited"));
    world
        .apps()
        .patch("seen", &PatchParams::default(), &Patch::Merge(json!({"spec": {"suspend": null}})))
        .await
        .unwrap();
    world.becomes("a", Some("two")).await;
}

#[tokio::test]
async fn bad_input_is_named_and_deletes_nothing() {
    let world = World::new("bad-input").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;

    // Broken YAML: place and application are named, the last good state stays.
    world.repository.commit(&[("app/b.yaml", "a: [\n")], "Broken");
    world.poke("app").await;
    let message = world.reason("app", "Ready", "ManifestInvalid").await;
    assert!(message.contains("app/b.yaml:1:4"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));

    // The path vanishes.
    world.repository.change(&[("app/a.yaml", None), ("app/b.yaml", None), ("x", Some("x"))], "Gone");
    world.poke("app").await;
    world.reason("app", "Ready", "PathNotFound").await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));

    // Nothing but a README is left.
    world.repository.commit(&[("app/README.md", "empty")], "Empty");
    world.poke("app").await;
    world.reason("app", "Ready", "NothingRendered").await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));

    // An unknown kind, a rejected object and one without a namespace: the others are applied, nothing is pruned.
    let files = [
        ("app/b.yaml", map("b", "fine")),
        ("app/u.yaml", "apiVersion: example.org/v1\nkind: Nothing\nmetadata: {name: u}\n".to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    world.repository.commit(&files, "Unknown kind");
    world.poke("app").await;
    let message = world.reason("app", "Ready", "KindUnknown").await;
    assert!(message.contains("example.org/v1/Nothing"), "{message}");
    world.becomes("b", Some("fine")).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"), "no prune in a pass that failed");

    world.repository.commit(
        &[(
            "app/u.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 99999}]}\n",
        )],
        "Rejected",
    );
    world.poke("app").await;
    let message = world.reason("app", "Ready", "ObjectRejected").await;
    assert!(message.contains("Service bad-input/s") && message.contains("app/u.yaml:1"), "{message}");

    world.repository.commit(
        &[("app/u.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: lost, namespace: nowhere}\n")],
        "No namespace",
    );
    world.poke("app").await;
    world.reason("app", "Ready", "NamespaceMissing").await;

    // A newer commit supersedes the failing one at once.
    let good = world.repository.change(&[("app/u.yaml", None)], "Good");
    world.poke("app").await;
    world.ready("app", &good).await;
    world.becomes("a", None).await;
}

#[tokio::test]
async fn git_failures_keep_the_last_good_state() {
    let world = World::new("git-faults").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    for (fault, reason) in [
        (Fault::Status(500), "RepositoryUnreachable"),
        (Fault::Status(404), "RepositoryUnreachable"),
        (Fault::Status(403), "AuthenticationFailed"),
        (Fault::Redirect("http://elsewhere.example/x".into()), "RedirectRefused"),
        (Fault::Cut(20), "RepositoryCorrupt"),
    ] {
        world.git.fault("ml/platform", Some(fault));
        world.poke("app").await;
        world.reason("app", "SourceReady", reason).await;
        assert_eq!(world.value("a").await.as_deref(), Some("one"));
    }
    // Drift is still repaired from what is at hand.
    world.maps().delete("a", &DeleteParams::default()).await.unwrap();
    world.becomes("a", Some("one")).await;
    world.git.fault("ml/platform", None);
    let second = world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("app").await;
    world.ready("app", &second).await;

    // A corrupt pack does not poison the cache.
    let third = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "three")), ("app/big.txt", &"x".repeat(9000))], "Third");
    world.git.fault("ml/platform", Some(Fault::Corrupt(30)));
    world.poke("app").await;
    world.reason("app", "SourceReady", "RepositoryCorrupt").await;
    assert_eq!(world.value("a").await.as_deref(), Some("two"));
    world.git.fault("ml/platform", None);
    world.poke("app").await;
    world.ready("app", &third).await;

    // The branch vanishes, and comes back rewritten.
    world.repository.remove_reference("refs/heads/main");
    world.poke("app").await;
    world.reason("app", "SourceReady", "RevisionNotFound").await;
    assert_eq!(world.value("a").await.as_deref(), Some("three"));
    world.repository.force(&first);
    world.poke("app").await;
    world.ready("app", &first).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn credentials_come_from_a_secret() {
    let world = World::new("private").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.git.protect("ml/platform", "bot:hunter2");
    world.application("app", json!({"spec": {"source": {"secretRef": {"name": "git"}}}})).await;
    world.reason("app", "Ready", "CredentialsInvalid").await;
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(world.client.clone(), &world.namespace);
    let stated = |password: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "stringData": {"username": "bot", "password": password}});
    secrets.patch("git", &PatchParams::apply("tests").force(), &Patch::Apply(stated("wrong"))).await.unwrap();
    world.poke("app").await;
    let message = world.reason("app", "Ready", "AuthenticationFailed").await;
    assert!(!message.contains("wrong"), "{message}");
    secrets
        .patch("git", &PatchParams::apply("tests").force(), &Patch::Apply(stated("hunter2")))
        .await
        .unwrap();
    world.poke("app").await;
    world.ready("app", &first).await;
}

#[tokio::test]
async fn crds_and_namespaces_come_before_what_needs_them() {
    let world = World::new("ordered").await;
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: models.ordered.example}\nspec:\n  group: ordered.example\n  scope: Namespaced\n  names: {kind: Model, plural: models, singular: model}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}\n";
    let objects = "apiVersion: ordered.example/v1\nkind: Model\nmetadata: {name: m, namespace: ordered-made}\nspec: {uri: x}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ordered-made}\n";
    let first = world.repository.commit(&[("app/a.yaml", objects), ("app/z.yaml", crd)], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    assert_eq!(world.apps().get("app").await.unwrap().status.unwrap().inventory.count, 3);
}

#[tokio::test]
async fn deleting_an_application_leaves_its_objects_unless_it_asks_for_more() {
    let world = World::new("deleted").await;
    let first =
        world.repository.commit(&[("app/a.yaml", &map("a", "one")), ("b/b.yaml", &map("b", "one"))], "First");
    world.application("keeps", json!({})).await;
    world.application("takes", json!({"spec": {"deletion": "Cascade", "source": {"path": "b"}}})).await;
    world.ready("keeps", &first).await;
    world.ready("takes", &first).await;
    for name in ["keeps", "takes"] {
        world.apps().delete(name, &DeleteParams::default()).await.unwrap();
        eventually("the Application is gone", || async {
            world.apps().get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    world.becomes("b", None).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn an_object_has_one_owner() {
    let world = World::new("shared").await;
    let first = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "one")), ("b/a.yaml", &map("a", "theirs"))], "First");
    world.application("first", json!({})).await;
    world.ready("first", &first).await;
    world.application("second", json!({"spec": {"source": {"path": "b"}}})).await;
    let message = world.reason("second", "Ready", "OwnedByAnother").await;
    assert!(message.contains("shared/first"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_rollback_holds_until_it_is_released() {
    let world = World::new("held").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let second = world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("app").await;
    world.ready("app", &second).await;
    let (code, text, _) = cli(&world, &["rollback", "app", "1"]).await;
    assert_eq!((code, text.contains("is held at")), (0, true), "{text}");
    world.becomes("a", Some("one")).await;
    world.repository.commit(&[("app/a.yaml", &map("a", "three"))], "Third");
    world.poke("app").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    assert_eq!(cli(&world, &["rollback", "app", "--release"]).await.0, 0);
    world.becomes("a", Some("three")).await;
}

pub(crate) async fn cli(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(crate::harness::cluster::program());
    command
        .arg("--kubeconfig")
        .arg(&world.plane.kubeconfig)
        .args(["--namespace", &world.namespace])
        .args(arguments);
    let done = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

#[tokio::test]
async fn drift_reports_say_who_and_change_nothing() {
    let world = World::new("drift").await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: hunter2}\n";
    let first = world.repository.commit(
        &[("app/a.yaml", &map("a", "one")), ("app/b.yaml", &map("b", "one")), ("app/s.yaml", secret)],
        "First",
    );
    world.application("app", json!({"spec": {"sync": {"selfHeal": false}}})).await;
    world.ready("app", &first).await;
    let (code, text, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!((code, text.as_str(), errors.as_str()), (0, "in sync: 1 app | 3 unchanged\n", ""));
    let parameters = PatchParams { field_manager: Some("ana-laptop".into()), ..PatchParams::default() };
    world.maps().patch("a", &parameters, &Patch::Merge(json!({"data": {"value": "edited"}}))).await.unwrap();
    world.maps().delete("b", &DeleteParams::default()).await.unwrap();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> =
        Api::namespaced(world.client.clone(), &world.namespace);
    secrets
        .patch("s", &parameters, &Patch::Merge(json!({"stringData": {"token": "canary-7"}})))
        .await
        .unwrap();
    let (code, text, _) = cli(&world, &["drift", "app"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("~ ConfigMap drift/a")
            && text.contains("by ana-laptop")
            && text.contains("app/a.yaml:1"),
        "{text}"
    );
    assert!(text.contains("+ ConfigMap drift/b") && text.contains("/data/token: changed (secret)"), "{text}");
    let (code, json, _) = cli(&world, &["drift", "app", "-o", "json"]).await;
    let report: Value = serde_json::from_str(&json).unwrap();
    crate::cli::holds_schema(&report);
    assert_eq!(code, 1);
    assert_eq!(
        report["counts"],
        json!({"apps": 1, "unchanged": 0, "modified": 2, "missing": 1, "extra": 0, "foreignField": 0, "pending": 0, "rollingOut": 0, "errors": 0, "findings": 0})
    );
    let (_, markdown, _) = cli(&world, &["drift", "app", "-o", "markdown"]).await;
    for report in [text, json, markdown] {
        for canary in ["hunter2", "canary-7", "aHVudGVyMg", "Y2FuYXJ5LTc"] {
            assert!(!report.contains(canary), "{report}");
        }
    }
    assert_eq!(world.value("a").await.as_deref(), Some("edited"));
    assert_eq!(cli(&world, &["drift", "nobody"]).await.0, 2);
}

#[tokio::test]
async fn apply_delivers_without_an_agent() {
    // An agent would take the Application over, so this one is suspended for it; `apply` is a person's word.
    let world = World::new("by-hand").await;
    world.repository.commit(&[("app/a.yaml", &map("a", "one")), ("app/b.yaml", &map("b", "one"))], "First");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.yaml");
    let stated = format!(
        "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: app, namespace: by-hand}}\nspec:\n  suspend: {{by: test}}\n  source: {{repo: {}, path: app}}\n",
        world.repository.url
    );
    std::fs::write(&file, stated).unwrap();
    let file = file.to_str().unwrap();
    let (code, text, errors) = cli(&world, &["apply", "-f", file, "--wait"]).await;
    assert_eq!(code, 0, "{text}{errors}");
    assert!(text.contains("applied  ConfigMap by-hand/a  (New)"), "{text}");
    world.repository.change(&[("app/b.yaml", None)], "Second");
    let (code, text, errors) = cli(&world, &["apply", "-f", file]).await;
    assert_eq!((code, text.contains("deleted  ConfigMap by-hand/b")), (0, true), "{text}{errors}");
    let (code, text, _) = cli(&world, &["get", "app"]).await;
    assert_eq!((code, text.contains("app")), (0, true), "{text}");
}

#[tokio::test]
async fn sync_waits_and_get_lists() {
    let world = World::new("waited").await;
    world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({"spec": {"sync": {"automated": false}}})).await;
    world.reason("app", "Applied", "WaitingForSync").await;
    assert_eq!(world.value("a").await, None);
    let (code, text, errors) = cli(&world, &["sync", "app", "--wait", "--timeout", "30"]).await;
    assert_eq!((code, text.as_str()), (0, "waited/app is synced and ready\n"), "{errors}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    let (_, text, _) = cli(&world, &["get"]).await;
    assert!(text.starts_with("NAMESPACE") && text.contains("Synced") && text.contains("Healthy"), "{text}");
    let (_, text, _) = cli(&world, &["history", "app"]).await;
    assert!(text.contains("Ana") && text.contains("First"), "{text}");
}
