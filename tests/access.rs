//! In whose name an application is delivered, and to which cluster.

use std::path::Path;

use driftless::api::ConditionStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::agent::{World, map};
use crate::harness::cluster::{self, Agent, ControlPlane, Running, client, launch};
use crate::harness::{eventually, installed};
use crate::operations::deployment;

/// A `ServiceAccount` with a `ClusterRole` in its namespace.
async fn account(client: &kube::Client, namespace: &str, name: &str, role: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let stated = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    accounts.create(&PostParams::default(), &stated).await.unwrap();
    bind(client, namespace, (namespace, name), role).await;
}

async fn bind(client: &kube::Client, namespace: &str, (of, name): (&str, &str), role: &str) {
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let subject = Subject {
        kind: "ServiceAccount".into(),
        name: name.into(),
        namespace: Some(of.into()),
        ..Subject::default()
    };
    let stated = json!({"metadata": {"name": format!("{name}-{role}")}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    bindings.create(&PostParams::default(), &serde_json::from_value(stated).unwrap()).await.unwrap();
}

/// Whether whoever this kubeconfig is may do this anywhere.
async fn may(plane: &ControlPlane, verb: &str, group: &str, resource: &str, name: &str) -> bool {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client(plane).await);
    let asked = json!({"spec": {"resourceAttributes":
        {"verb": verb, "group": group, "resource": resource, "name": name, "namespace": "default"}}});
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(asked).unwrap()).await;
    answer.unwrap().status.is_some_and(|status| status.allowed)
}

#[tokio::test]
async fn the_agent_may_little_and_acts_as_the_account() {
    let (world, running) = World::alone("tenant").await;
    let folder = tempfile::tempdir().unwrap();
    let plane = installed::as_agent(&world.client, &running.plane, folder.path()).await;
    for (verb, group, resource) in [
        ("list", "", "secrets"),
        ("get", "", "secrets"),
        ("create", "", "configmaps"),
        ("list", "apps", "deployments"),
        ("create", "apps", "deployments"),
        ("delete", "", "pods"),
        ("create", "rbac.authorization.k8s.io", "clusterroles"),
        ("delete", "driftless.dev", "applications"),
        ("create", "driftless.dev", "applications"),
    ] {
        assert!(!may(&plane, verb, group, resource, "").await, "the agent may {verb} {resource}");
    }
    assert!(may(&plane, "impersonate", "", "serviceaccounts", "driftless").await);
    assert!(!may(&plane, "impersonate", "", "serviceaccounts", "root").await);
    assert!(!may(&plane, "impersonate", "", "users", "admin").await);

    let _agent = Agent::start(&plane, &["--interval", "5", "--default-service-account", "driftless"]);
    let first = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "one")), ("app/d.yaml", &deployment(0, "model:1"))], "First");
    world.application("app", json!({})).await;
    // There is no such account: nobody gave it anything, and the agent's rights are not used instead.
    let message = world.reason("app", "Ready", "WatchFailed").await;
    assert!(message.contains("system:serviceaccount:tenant:driftless"), "{message}");
    assert_eq!(world.value("a").await, None);

    account(&world.client, "tenant", "driftless", "edit").await;
    world.poke("app").await;
    world.ready("app", &first).await;
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), "tenant");
    deployments.delete("model", &DeleteParams::default()).await.unwrap();
    eventually("the Deployment is back, told by the account's own watch", || async {
        deployments.get_opt("model").await.unwrap().map(|_| ())
    })
    .await;

    // Another namespace is beyond the account, and what is in its own goes on.
    cluster::namespace(&world.client, "elsewhere").await;
    let other = map("b", "two").replace("metadata: {", "metadata: {namespace: elsewhere, ");
    assert!(other.contains("elsewhere"), "{other}");
    world.repository.commit(&[("app/b.yaml", &other), ("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("app").await;
    world.becomes("a", Some("two")).await;
    let (_, _, message) = eventually("the missing right is named", || async {
        let found = world.condition("app", "Ready").await?;
        found.2.contains("elsewhere").then_some(found)
    })
    .await;
    assert!(message.contains("system:serviceaccount:tenant:driftless"), "{message}");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "elsewhere");
    assert!(maps.get_opt("b").await.unwrap().is_none());
    // A right that comes is used without a restart.
    bind(&world.client, "elsewhere", ("tenant", "driftless"), "edit").await;
    world.poke("app").await;
    eventually("it is there", || async { maps.get_opt("b").await.unwrap().map(|_| ()) }).await;

    // An application that names an account which the agent was not given.
    world.application("as-root", json!({"spec": {"destination": {"serviceAccount": "root"}}})).await;
    let (_, _, message) = eventually("the refusal is said", || async {
        let found = world.condition("as-root", "Ready").await?;
        (found.0 == ConditionStatus::False && found.2.contains("impersonate")).then_some(found)
    })
    .await;
    assert!(message.contains("root"), "{message}");
}

#[tokio::test]
async fn what_an_application_names_is_read_in_its_accounts_name() {
    let world = World::new("named").await;
    account(&world.client, "named", "writer", "edit").await;
    account(&world.client, "named", "nobody", "no-such-role").await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "named");
    let secret = json!({"metadata": {"name": "values"}, "stringData": {"COLOUR": "blue"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let text = map("shown", "${COLOUR}");
    let first = world.repository.commit(
        &[
            ("app/a.yaml", &text),
            ("chart/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n"),
            (
                "chart/templates/a.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: looked}\ndata:\n  value: {{ len (lookup \"v1\" \"Secret\" \"kube-system\" \"\").items | quote }}\n",
            ),
        ],
        "First",
    );
    let of = |account: &str| {
        json!({"spec": {"destination": {"serviceAccount": account},
            "source": {"substitute": {"from": [{"kind": "Secret", "name": "values"}]}}}})
    };
    // The shared agent is cluster-admin: it could read all of this itself.
    world.application("blind", of("nobody")).await;
    let (_, _, message) = eventually("the missing right is named", || async {
        let found = world.condition("blind", "Ready").await?;
        found.2.contains("system:serviceaccount:named:nobody").then_some(found)
    })
    .await;
    assert!(message.contains("values") && !message.contains("blue"), "{message}");
    world.application("seeing", of("writer")).await;
    world.ready("seeing", &first).await;
    assert_eq!(world.value("shown").await.as_deref(), Some("blue"));

    let chart = json!({"spec": {"destination": {"serviceAccount": "writer"},
        "source": {"path": "chart", "helm": {"lookup": true}}}});
    world.application("looks-up", chart).await;
    let (_, _, message) = eventually("the lookup is refused", || async {
        let found = world.condition("looks-up", "Ready").await?;
        found.2.contains("system:serviceaccount:named:writer").then_some(found)
    })
    .await;
    assert!(message.contains("kube-system"), "{message}");
    assert_eq!(world.value("looked").await, None);
}

/// A second control plane, and the kubeconfig of its administrator.
async fn second() -> (Running, kube::Client, String) {
    let running = tokio::task::spawn_blocking(|| launch(None, "controller-manager")).await.unwrap();
    let client = client(&running.plane).await;
    let text = std::fs::read_to_string(&running.plane.kubeconfig).unwrap();
    (running, client, text)
}

async fn put_secret(world: &World, name: &str, kubeconfig: &str) {
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let stated = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"kubeconfig": kubeconfig}});
    let parameters = PatchParams::apply("tests").force();
    secrets.patch(name, &parameters, &Patch::Apply(&stated)).await.unwrap();
}

fn value(map: Option<ConfigMap>) -> Option<String> {
    map?.data?.get("value").cloned()
}

async fn becomes(maps: &Api<ConfigMap>, name: &str, wanted: Option<&str>) {
    eventually(&format!("{name} is {wanted:?} there"), || async {
        (value(maps.get_opt(name).await.ok()?).as_deref() == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_cluster_is_delivered_to_and_told_apart() {
    let world = World::new("clusters").await;
    let (plane, there, kubeconfig) = second().await;
    cluster::namespace(&there, "clusters").await;
    let maps: Api<ConfigMap> = Api::namespaced(there.clone(), "clusters");
    let first = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "one")), ("app/b.yaml", &map("b", "one"))], "First");
    world.application("far", json!({"spec": {"destination": {"cluster": "edge"}}})).await;
    let message = world.reason("far", "Ready", "KubeconfigInvalid").await;
    assert!(message.contains("Secret clusters/edge"), "{message}");

    // What would run programs or read files of the agent is refused; what follows is told by an event.
    let program = kubeconfig.replace(
        &format!("token: \"{}\"", plane.plane.token),
        "exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/owned]}",
    );
    assert_ne!(program, kubeconfig);
    put_secret(&world, "edge", &program).await;
    eventually("exec is refused", || async {
        world.condition("far", "Ready").await?.2.contains("exec of user").then_some(())
    })
    .await;
    put_secret(&world, "edge", &kubeconfig).await;
    world.ready("far", &first).await;
    assert_eq!(value(maps.get_opt("a").await.unwrap()).as_deref(), Some("one"));
    assert_eq!(world.value("a").await, None, "not in the agent's own cluster");

    // The same repository in both: each has its own objects.
    world.application("near", json!({})).await;
    world.ready("near", &first).await;
    let edit = json!({"data": {"value": "edited"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    becomes(&maps, "a", Some("one")).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));

    // A token that is no longer taken is an error, and the next Secret is used at once.
    put_secret(&world, "edge", &kubeconfig.replace(&plane.plane.token, "stale")).await;
    world.repository.change(&[("app/a.yaml", Some(&map("a", "two"))), ("app/b.yaml", None)], "Second");
    world.poke("far").await;
    eventually("the token is refused", || async {
        (world.condition("far", "Ready").await?.0 == ConditionStatus::False).then_some(())
    })
    .await;
    put_secret(&world, "edge", &kubeconfig).await;
    becomes(&maps, "a", Some("two")).await;
    becomes(&maps, "b", None).await;

    // Another cluster for the same Application would orphan what is here, and is refused.
    put_secret(&world, "other", &kubeconfig).await;
    let patch = json!({"spec": {"destination": {"cluster": "other"}}});
    world.apps().patch("far", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let message = world.reason("far", "Ready", "ApplicationInvalid").await;
    assert!(message.contains("its 1 objects are in the cluster of Secret edge"), "{message}");
    let patch = json!({"spec": {"destination": {"cluster": "edge"}, "deletion": "Cascade"}});
    world.apps().patch("far", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    eventually("it has its finalizer", || async {
        (!world.apps().get("far").await.ok()?.finalizers().is_empty()).then_some(())
    })
    .await;
    world.apps().delete("far", &DeleteParams::default()).await.unwrap();
    becomes(&maps, "a", None).await;
    assert_eq!(world.value("a").await.as_deref(), Some("two"), "the other one's stays");
}

#[tokio::test]
async fn an_account_of_another_cluster_is_acted_as_there() {
    let world = World::new("far-account").await;
    let (_plane, there, kubeconfig) = second().await;
    cluster::namespace(&there, "far-account").await;
    put_secret(&world, "edge", &kubeconfig).await;
    // At home it reads its Secrets, and there it may write.
    account(&world.client, "far-account", "deployer", "edit").await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let destination = json!({"cluster": "edge", "serviceAccount": "deployer"});
    world.application("app", json!({"spec": {"destination": destination}})).await;
    eventually("the missing right is named", || async {
        let found = world.condition("app", "Ready").await?;
        found.2.contains("system:serviceaccount:far-account:deployer").then_some(())
    })
    .await;
    account(&there, "far-account", "deployer", "edit").await;
    world.poke("app").await;
    world.ready("app", &first).await;
    let maps: Api<ConfigMap> = Api::namespaced(there, "far-account");
    assert_eq!(value(maps.get_opt("a").await.unwrap()).as_deref(), Some("one"));
}

/// Stops and continues processes, as a network that drops everything does.
fn signal(plane: &ControlPlane, name: &str) {
    for (process, id) in &plane.processes {
        if process.contains("apiserver") {
            let sent = std::process::Command::new("kill").args([name, &id.to_string()]).status().unwrap();
            assert!(sent.success());
        }
    }
}

#[tokio::test]
async fn a_cluster_that_is_away_stops_only_its_own_applications() {
    let world = World::new("away-cluster").await;
    let (plane, there, kubeconfig) = second().await;
    assert!(plane.plane.processes.keys().any(|name| name.contains("apiserver")), "{:?}", plane.plane);
    cluster::namespace(&there, "away-cluster").await;
    put_secret(&world, "edge", &kubeconfig).await;
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let near = world.git.repository("ml/near");
    let here = near.commit(&[("app/n.yaml", &map("near", "one"))], "First");
    world.application("far", json!({"spec": {"destination": {"cluster": "edge"}}})).await;
    world.application("near", json!({"spec": {"source": {"repo": near.url}}})).await;
    world.ready("far", &first).await;
    world.ready("near", &here).await;

    signal(&plane.plane, "-STOP");
    let second = world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    world.poke("far").await;
    for turn in 0..5 {
        let commit = near.commit(&[("app/n.yaml", &map("near", &turn.to_string()))], "Next");
        world.poke("near").await;
        world.ready("near", &commit).await;
    }
    let message = world.reason("far", "Ready", "ApiUnreachable").await;
    assert!(!message.is_empty());
    signal(&plane.plane, "-CONT");
    world.ready("far", &second).await;
    let maps: Api<ConfigMap> = Api::namespaced(there, "away-cluster");
    assert_eq!(value(maps.get_opt("a").await.unwrap()).as_deref(), Some("two"));
}

/// The objects of the chart, rendered with these options.
fn chart(options: &[&str]) -> Result<Vec<Value>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = std::process::Command::new(cluster::program());
    command
        .current_dir(root)
        .args(["render", "charts/driftless", "-o", "json", "-n", "ml-delivery"])
        .args(["--release-name", "driftless"]);
    for option in options {
        command.args(["--set", option]);
    }
    let answer = command.output().unwrap();
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
    }
    let rendered: Value = serde_json::from_slice(&answer.stdout).unwrap();
    Ok(rendered.as_array().cloned().unwrap_or_else(|| rendered["items"].as_array().cloned().unwrap()))
}

/// manifests/install is the chart with its own values.
#[test]
fn the_chart_gives_the_rights_of_the_installed_file() {
    let rules = |objects: &[Value]| {
        let roles = objects.iter().filter(|object| object["kind"] == "ClusterRole");
        let found: Vec<(Value, Value, Value)> = roles
            .map(|role| {
                let metadata = &role["metadata"];
                (metadata["name"].clone(), metadata["labels"].clone(), role["rules"].clone())
            })
            .collect();
        assert_eq!(found.len(), 2);
        found
    };
    assert_eq!(rules(&chart(&[]).unwrap()), rules(&installed::objects()));
}

#[test]
fn the_chart_gives_no_more_rights_than_its_mode_says() {
    let check = |options: &[&str], wanted: &[&str]| {
        let mut found: Vec<String> = chart(options)
            .unwrap()
            .iter()
            .filter(|object| {
                object["apiVersion"].as_str().unwrap().starts_with("rbac")
                    || object["kind"] == "ServiceAccount"
            })
            .map(|object| {
                let name = object["metadata"]["name"].as_str().unwrap();
                let place = object["metadata"]["namespace"].as_str().unwrap_or("-");
                let rules = object["rules"].as_array().cloned().unwrap_or_default();
                let any = rules.iter().any(|rule| rule["resources"] == json!(["*"]));
                let verbs = rules.iter().flat_map(|rule| rule["verbs"].as_array().unwrap());
                let acts =
                    verbs.filter(|verb| matches!(verb.as_str(), Some("impersonate" | "escalate"))).count();
                let to =
                    object["roleRef"]["name"].as_str().map(|role| format!(" to {role}")).unwrap_or_default();
                let rights = match (any, acts) {
                    (true, 0) => " anything",
                    (true, _) => " anything as anybody",
                    (false, 1) => " acts for others",
                    _ => "",
                };
                format!("{} {place}/{name}{to}{rights}", object["kind"].as_str().unwrap())
            })
            .collect();
        found.sort();
        assert_eq!(found, wanted, "{options:?}");
    };
    let account = "ServiceAccount ml-delivery/driftless";
    check(
        &[],
        &[
            "ClusterRole -/driftless acts for others",
            "ClusterRole -/driftless-rollouts",
            "ClusterRoleBinding -/driftless to driftless",
            account,
        ],
    );
    check(
        &["rbac.mode=admin"],
        &[
            "ClusterRole -/driftless anything as anybody",
            "ClusterRole -/driftless-rollouts",
            "ClusterRoleBinding -/driftless to driftless",
            account,
        ],
    );
    check(
        &["rbac.mode=namespaced"],
        &["Role ml-delivery/driftless anything", "RoleBinding ml-delivery/driftless to driftless", account],
    );
    check(
        &["rbac.mode=namespaced", "rbac.projects=true"],
        &[
            "ClusterRole -/driftless-ml-delivery-projects",
            "ClusterRoleBinding -/driftless-ml-delivery-projects to driftless-ml-delivery-projects",
            "Role ml-delivery/driftless anything",
            "RoleBinding ml-delivery/driftless to driftless",
            account,
        ],
    );
    check(
        &["tenants[0].namespace=team-a", "tenants[1].namespace=team-b", "tenants[1].clusterRole=admin"],
        &[
            "ClusterRole -/driftless acts for others",
            "ClusterRole -/driftless-rollouts",
            "ClusterRoleBinding -/driftless to driftless",
            "RoleBinding team-a/driftless to edit",
            "RoleBinding team-b/driftless to admin",
            account,
            "ServiceAccount team-a/driftless",
            "ServiceAccount team-b/driftless",
        ],
    );
    let refused = chart(&["rbac.mode=everything"]).unwrap_err();
    assert!(refused.contains("it is one of impersonate, admin, namespaced"), "{refused}");
    // What is granted in one namespace is watched in one namespace.
    for (mode, near) in [("impersonate", false), ("admin", false), ("namespaced", true)] {
        let all = chart(&[&format!("rbac.mode={mode}")]).unwrap();
        let agent = all.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let arguments = agent["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        assert_eq!(arguments.iter().any(|word| word == "--namespaced"), near, "{mode}: {arguments:?}");
    }
}
