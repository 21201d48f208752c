//! Projects on a real API server: what they refuse, when they let go, and that nothing is lost by narrowing them.

use std::time::Duration;

use driftless::api::{Application, Project};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::agent::{World, map};
use crate::harness::cluster::{Agent, project};
use crate::harness::eventually;
use crate::harness::git::{Repository, Server};
use crate::harness::installed;

const ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: given}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n";
const CLUSTER_ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: given-tenant}\nrules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n";
const WEBHOOK: &str = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: given}\nwebhooks: []\n";
const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: models.given.example}\nspec:\n  group: given.example\n  scope: Cluster\n  names: {plural: models, singular: model, kind: Model}\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]\n";
const ELSEWHERE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: kube-system}\n";

async fn wait_refused(world: &World, name: &str, part: &str) -> String {
    eventually(&format!("{name} is refused: {part}"), || async {
        let (_, reason, message) = world.condition(name, "Ready").await?;
        (reason == "ProjectRefused" && message.contains(part)).then_some(message)
    })
    .await
}

async fn exists<K>(api: Api<K>, name: &str) -> bool
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.get_opt(name).await.unwrap().is_some()
}

async fn patch(world: &World, name: &str, spec: Value) {
    let apps: Api<Application> = world.apps();
    let change = json!({"spec": spec});
    apps.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

#[tokio::test]
async fn without_a_project_an_application_keeps_to_its_own_namespace() {
    let (world, _running) = World::guarded("tenant").await;
    let agent = Agent::start(&world.plane, &["--interval", "3600"]);
    let client = || world.client.clone();
    let first = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "one")), ("app/old.yaml", &map("old", "x"))], "Own namespace");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;

    for (text, part) in [
        (ELSEWHERE, "it lets nobody deliver into the namespace kube-system, only into tenant"),
        (ROLE, "it does not allow Role.rbac.authorization.k8s.io"),
        (
            CLUSTER_ROLE,
            "it does not allow ClusterRole.rbac.authorization.k8s.io, which lives in no namespace",
        ),
        (WEBHOOK, "it does not allow ValidatingWebhookConfiguration.admissionregistration.k8s.io"),
        (CRD, "it does not allow CustomResourceDefinition.apiextensions.k8s.io"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: mine}\n", "it does not allow Namespace"),
    ] {
        let added = map("new", "x");
        let changes = [
            ("app/a.yaml", Some(map("a", "two"))),
            ("app/new.yaml", Some(added)),
            ("app/bad.yaml", Some(text.to_owned())),
            ("app/old.yaml", None),
        ];
        let changes: Vec<(&str, Option<&str>)> =
            changes.iter().map(|(path, text)| (*path, text.as_deref())).collect();
        world.repository.change(&changes, part);
        world.poke("fraud").await;
        let message = wait_refused(&world, "fraud", part).await;
        assert!(message.starts_with("app/bad.yaml:1: "), "{message}");
        assert!(message.contains("there is no Project default") && message.contains("DL0602"), "{message}");
        world.repository.revert();
    }
    // Nothing of those commits is there, and nothing was deleted.
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    assert_eq!(world.value("new").await, None);
    assert!(!exists::<Role>(Api::namespaced(client(), "tenant"), "given").await);
    assert!(!exists::<ClusterRole>(Api::all(client()), "given-tenant").await);
    assert!(!exists::<Namespace>(Api::all(client()), "mine").await);
    assert!(!exists::<CustomResourceDefinition>(Api::all(client()), "models.given.example").await);
    assert!(!exists::<ConfigMap>(Api::namespaced(client(), "kube-system"), "b").await);
    world.becomes("old", Some("x")).await;

    // What is deployed and still wanted as it is goes on being repaired.
    let bad =
        world.repository.commit(&[("app/bad.yaml", ROLE), ("app/new.yaml", &map("new", "x"))], "A role");
    world.poke("fraud").await;
    wait_refused(&world, "fraud", "Role.rbac").await;
    let edit = json!({"data": {"value": "edited"}});
    world.maps().patch("a", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    world.becomes("a", Some("one")).await;
    assert_eq!(world.value("new").await, None);
    let status = world.apps().get("fraud").await.unwrap().status.unwrap();
    assert_eq!(status.condition("Stalled").unwrap().reason, "ProjectRefused");
    assert_eq!(status.condition("Rendered").unwrap().reason, "Rendered");
    assert_eq!(status.condition("Applied").unwrap().reason, "ProjectRefused");
    let (kind, note) = world.event("ProjectRefused", "kube-system").await;
    assert_eq!(kind, "Warning", "{note}");

    // A Project that says more lets it go, by its event alone.
    let roles = json!({"namespaces": ["tenant"], "kinds": {"allow": [{"group": "*", "kind": "*"}]}});
    project(&world.client, "default", roles.clone()).await;
    world.ready("fraud", &bad).await;
    assert!(exists::<Role>(Api::namespaced(client(), "tenant"), "given").await);
    assert_eq!(world.value("new").await.as_deref(), Some("x"));

    // Narrowed again: what is there stays, and is reported; and it stays when it leaves Git.
    let narrow = json!({"namespaces": ["tenant"], "kinds": {"allow": [{"group": "", "kind": "ConfigMap"}]}});
    project(&world.client, "default", narrow).await;
    let message = wait_refused(&world, "fraud", "(spec.kinds.allow) refuses it").await;
    assert!(message.contains("`kubectl get projects.driftless.dev default -o yaml`"), "{message}");
    let gone = world.repository.change(&[("app/bad.yaml", None), ("app/old.yaml", None)], "No role");
    world.poke("fraud").await;
    world.becomes("old", None).await;
    world.reason("fraud", "PruneHeld", "Disallowed").await;
    assert!(exists::<Role>(Api::namespaced(client(), "tenant"), "given").await);
    world.ready("fraud", &gone).await;
    let held = world.apps().get("fraud").await.unwrap().status.unwrap().prune.held;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].object, "Role tenant/given");

    // Not even with the Application.
    patch(&world, "fraud", json!({"deletion": "Cascade"})).await;
    eventually("the finalizer", || async {
        (!world.apps().get("fraud").await.ok()?.finalizers().is_empty()).then_some(())
    })
    .await;
    world.apps().delete("fraud", &DeleteParams::default()).await.unwrap();
    eventually("the Application is gone", || async {
        world.apps().get_opt("fraud").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(world.value("a").await, None);
    assert!(exists::<Role>(Api::namespaced(client(), "tenant"), "given").await);

    // Without the CRD, the defaults hold again: for an agent that sees it go, and for one that never saw it.
    project(&world.client, "default", roles).await;
    world.repository.commit(&[("app/bad.yaml", ROLE)], "A role");
    world.application("again", json!({})).await;
    eventually("ready", || async { (world.condition("again", "Ready").await?.1 == "Ready").then_some(()) })
        .await;
    let crds: Api<CustomResourceDefinition> = Api::all(client());
    crds.delete("projects.driftless.dev", &DeleteParams::default()).await.unwrap();
    wait_refused(&world, "again", "there is no Project default").await;
    assert!(exists::<Role>(Api::namespaced(client(), "tenant"), "given").await);
    drop(agent);
    world.apps().delete("again", &DeleteParams::default()).await.unwrap();
    world.application("later", json!({})).await;
    let _agent = Agent::start(&world.plane, &["--interval", "3600"]);
    wait_refused(&world, "later", "there is no Project default").await;
}

#[tokio::test]
async fn a_repository_that_is_not_allowed_is_not_asked() {
    let world = World::new("project-repository").await;
    let commit = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let host = world.git.address;
    let spec = |pattern: String| json!({"namespaces": ["project-*"], "repositories": [pattern]});
    for (number, pattern) in [
        format!("http://{host}/other/**"),
        format!("https://{host}/**"),
        format!("http://127.0.0.1.example:{}/**", host.port()),
        "http://127.0.0.1/**".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("repository-{number}");
        project(&world.client, &name, spec(pattern)).await;
        world.application(&name, json!({"spec": {"project": name}})).await;
        let message = wait_refused(&world, &name, "it lets nobody read from").await;
        assert!(message.contains("(spec.repositories)") && message.contains("/ml/platform"), "{message}");
        world.poke(&name).await;
        eventually("the request is handled", || async {
            let status = world.apps().get(&name).await.ok()?.status?;
            (!status.last_sync_request.is_empty()).then_some(())
        })
        .await;
        let source = world.condition(&name, "SourceReady").await.unwrap();
        assert_eq!(source.1, "ProjectRefused");
    }
    assert_eq!(world.git.traffic().0, 0, "no request at all");

    // Wider: by the event of the Project.
    project(&world.client, "repository-0", spec(format!("http://{host}/ml/*"))).await;
    world.ready("repository-0", &commit).await;
    assert!(world.git.traffic().0 > 0);

    // And narrower: the polls end, nothing is deleted.
    project(&world.client, "repository-0", spec(format!("http://{host}/other/*"))).await;
    wait_refused(&world, "repository-0", "it lets nobody read from").await;
    world.git.traffic();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.git.traffic().0, 0, "the agent polls every 5 s");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_project_is_for_those_that_it_names() {
    let world = World::new("project-tenant").await;
    let commit = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let all = json!([{"group": "*", "kind": "*"}]);
    let platform = json!({"namespaces": ["project-platform"], "clusterKinds": all, "destinations": [{"namespaces": ["*"]}]});
    project(&world.client, "platform", platform).await;
    world.application("thief", json!({"spec": {"project": "platform"}})).await;
    let message =
        wait_refused(&world, "thief", "it is not for Applications of the namespace project-tenant").await;
    assert!(!message.contains("project-platform"), "whose it is, is nobody else's business: {message}");
    assert_eq!(world.value("a").await, None);

    // One that does not exist, until it does.
    world.application("early", json!({"spec": {"project": "not-yet"}})).await;
    wait_refused(&world, "early", "there is no Project not-yet, which spec.project names").await;
    assert_eq!(world.git.traffic().0, 0);
    project(&world.client, "not-yet", json!({"namespaces": ["*-tenant"]})).await;
    world.ready("early", &commit).await;

    // One that cannot be used allows nothing; the others go on.
    project(&world.client, "not-yet", json!({"namespaces": ["[a-z]*"]})).await;
    let message = world.reason("early", "Ready", "ProjectInvalid").await;
    assert!(message.contains("spec.namespaces") && message.contains("only * and ?"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));

    // A tenant writes no Project: it has no namespace.
    let scope = Api::<CustomResourceDefinition>::all(world.client.clone());
    assert_eq!(scope.get("projects.driftless.dev").await.unwrap().spec.scope, "Cluster");
}

#[tokio::test]
async fn windows_and_budget_of_a_project_count_too() {
    let world = World::new("project-window").await;
    let files: Vec<(String, String)> =
        (0..4).map(|n| (format!("app/m{n}.yaml"), map(&format!("m{n}"), "x"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let first = world.repository.commit(&files, "Four");
    let closed = json!([{"kind": "Deny", "schedule": "* * * * *", "duration": "1h"}]);
    let spec = |windows: Value| json!({"namespaces": ["project-window"], "windows": windows, "pruneBudget": {"count": 1}});
    project(&world.client, "frozen", spec(closed.clone())).await;
    let own = json!([{"kind": "Allow", "schedule": "* * * * *", "duration": "1h"}]);
    let sync = json!({"windows": own, "pruneBudget": {"count": 3, "percent": 100}, "allowEmpty": true});
    world.application("app", json!({"spec": {"project": "frozen", "sync": sync}})).await;
    let message = world.reason("app", "Ready", "OutsideWindow").await;
    assert!(message.contains("of its Project: a sync window denies it"), "{message}");
    assert_eq!(world.value("m0").await, None);
    project(&world.client, "frozen", spec(json!([]))).await;
    world.ready("app", &first).await;

    // One may go, two want a word, and `allowEmpty` is none.
    world.repository.change(&[("app/m0.yaml", None)], "One less");
    world.poke("app").await;
    world.becomes("m0", None).await;
    world.repository.change(&[("app/m1.yaml", None), ("app/m2.yaml", None)], "Two less");
    world.poke("app").await;
    world.reason("app", "PruneHeld", "Budget").await;
    let last = world.repository.change(&[("app/m3.yaml", None), ("app/empty.txt", Some("x"))], "None");
    world.poke("app").await;
    eventually("all three are held", || async {
        let status = world.apps().get("app").await.ok()?.status?;
        (status.prune.count == 3 && status.observed_revision == last).then_some(())
    })
    .await;
    assert_eq!(world.value("m3").await.as_deref(), Some("x"));
    let token = world.apps().get("app").await.unwrap().status.unwrap().prune.token;
    let (code, _, said) = crate::agent::cli(&world, &["sync", "app", "--confirm-prune", &token]).await;
    assert_eq!(code, 0, "{said}");
    world.becomes("m3", None).await;
}

#[tokio::test]
async fn a_chart_looks_up_what_its_project_allows() {
    let world = World::new("project-lookup").await;
    let secrets = |namespace: &str| Api::<Secret>::namespaced(world.client.clone(), namespace);
    for namespace in ["project-lookup", "kube-system"] {
        let secret = json!({"metadata": {"name": "tenant-words"}, "stringData": {"word": namespace}});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        secrets(namespace).create(&PostParams::default(), &secret).await.unwrap();
    }
    project(&world.client, "lookups", json!({"namespaces": ["project-lookup"]})).await;
    let template = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  value: {{{{ (lookup \"v1\" \"Secret\" {namespace:?} \"tenant-words\").data.word | quote }}}}\n"
        )
    };
    let chart = "apiVersion: v2\nname: app\nversion: 1.0.0\n";
    let commit = |namespace: &str| {
        let files = [("app/Chart.yaml", chart), ("app/templates/a.yaml", &template(namespace))];
        world.repository.commit(&files, namespace)
    };
    commit("kube-system");
    let spec = json!({"project": "lookups", "source": {"helm": {"lookup": true}}});
    world.application("app", json!({"spec": spec})).await;
    let message = world.reason("app", "Ready", "TemplateFailed").await;
    assert!(
        message.contains("the Project lookups does not let v1/Secret of kube-system be read"),
        "{message}"
    );
    let own = commit("project-lookup");
    world.poke("app").await;
    world.ready("app", &own).await;

    // A wider Project renders anew.
    let last = commit("kube-system");
    world.poke("app").await;
    world.reason("app", "Ready", "TemplateFailed").await;
    let wide = json!({"namespaces": ["project-lookup"], "destinations": [{"namespaces": ["*"]}]});
    project(&world.client, "lookups", wide).await;
    world.ready("app", &last).await;
    let projects: Api<Project> = Api::all(world.client.clone());
    projects.delete("lookups", &DeleteParams::default()).await.unwrap();
    wait_refused(&world, "app", "there is no Project lookups").await;
}

#[tokio::test]
async fn bases_of_a_kustomization_are_repositories_too() {
    let world = World::new("project-bases").await;
    let other = Server::start().await;
    let base = other.repository("shared/base");
    let files = [("x/kustomization.yaml", "resources: [m.yaml]\n"), ("x/m.yaml", &map("base", "one"))];
    let pinned = base.commit(&files, "First");
    let kustomization = format!("resources: ['{}//x?ref={pinned}']\n", base.url);
    let commit = world.repository.commit(&[("app/kustomization.yaml", &kustomization)], "First");
    let own = format!("http://{}/ml/*", world.git.address);
    let spec = |patterns: Value| json!({"namespaces": ["project-bases"], "repositories": patterns});
    project(&world.client, "bases", spec(json!([own]))).await;
    let source = json!({"kustomize": {"remoteBases": [base.url]}});
    world.application("app", json!({"spec": {"project": "bases", "source": source}})).await;
    wait_refused(&world, "app", "it lets nobody read from").await;
    assert_eq!(other.traffic().0, 0, "nobody was asked");
    project(&world.client, "bases", spec(json!([own, format!("http://{}/**", other.address)]))).await;
    world.ready("app", &commit).await;
}

#[tokio::test]
async fn an_agent_that_may_not_read_projects_keeps_to_the_defaults() {
    let (world, running) = World::guarded("project-blind").await;
    let folder = tempfile::tempdir().unwrap();
    let plane = installed::as_agent(&world.client, &running.plane, folder.path()).await;
    let everything = json!({"namespaces": ["*"], "destinations": [{"namespaces": ["*"]}], "kinds": {"deny": [{"kind": "Secret"}]}});
    project(&world.client, "default", everything).await;
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    let all = |group: &str, kinds: &[&str]| json!({"apiGroups": [group], "resources": kinds, "verbs": ["*"]});
    let blind = [
        all("", &["*"]),
        all("driftless.dev", &["applications", "applications/status"]),
        all("apiextensions.k8s.io", &["*"]),
    ];
    let sees = [&blind[..], &[all("driftless.dev", &["projects"])]].concat();
    let give = |rules: &[Value]| {
        let (roles, change) = (roles.clone(), json!({"rules": rules}));
        async move { roles.patch("driftless", &PatchParams::default(), &Patch::Merge(change)).await.unwrap() }
    };
    give(&blind).await;
    let _agent = Agent::start(&plane, &["--interval", "3600"]);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let second = world.repository.commit(&[("app/b.yaml", ELSEWHERE)], "Elsewhere");
    world.poke("app").await;
    wait_refused(&world, "app", "there is no Project default").await;
    // With the right, what is written holds, and by its own doing.
    give(&sees).await;
    world.ready("app", &second).await;
}

const ML: &str = "apiVersion: driftless.dev/v1alpha1\nkind: Project\nmetadata: {name: ml}\nspec:\n  namespaces: [ml]\n  clusterKinds: [{kind: Namespace}]\n";

/// The exit code and both outputs of a preview of the newest commit.
fn preview(repository: &Repository) -> (i32, String, String) {
    let done = std::process::Command::new(crate::harness::cluster::program())
        .args(["preview", "HEAD~1..HEAD", "--repo"])
        .arg(repository.folder())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_preview_tells_what_a_merge_makes_a_project_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::create(&folder.path().join("r.git"), String::new());
    let app = "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: fraud, namespace: ml}\nspec:\n  project: ml\n  source: {repo: 'https://git.example/ml/platform.git', revision: main, path: app}\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: more}\n";
    repository
        .commit(&[("fleet/app.yaml", app), ("fleet/ml.yaml", ML), ("app/a.yaml", &map("a", "one"))], "First");
    let check = |files: &[(&str, &str)], code: i32, part: &str| {
        repository.commit(files, part);
        let (found, out, err) = preview(&repository);
        assert_eq!(found, code, "{out}\n{err}");
        assert!(out.contains(part) || err.contains(part), "{part}: {out}\n{err}");
    };
    check(&[("app/n.yaml", namespace)], 1, "Namespace");
    check(
        &[("app/role.yaml", ROLE)],
        7,
        "Role ml/given app/role.yaml:1: the Project ml (spec.kinds.allow) refuses it",
    );
    // It was so before: this merge has no part in it.
    check(&[("app/a.yaml", &map("a", "two"))], 1, "ConfigMap");
    // A Project that is narrowed changes no object.
    check(
        &[("fleet/ml.yaml", &ML.replace("Namespace", "Node"))],
        7,
        "Namespace more app/n.yaml:1: the Project ml (spec.clusterKinds) refuses it",
    );
    let elsewhere = format!("{ML}  repositories: ['https://git.example/other/*']\n");
    check(&[("fleet/ml.yaml", &elsewhere)], 7, "(spec.repositories) refuses it");
    check(&[("fleet/ml.yaml", &ML.replace("[ml]", "['[m]l']"))], 7, "spec.namespaces");
    check(&[("fleet/ml.yaml", &ML.replace("name: ml", "name: renamed"))], 0, "");
}
