//! Objects that Argo CD, Flux, Helm and kubectl left behind are taken over as they stand, on a real API server: they are
//! made as those tools make them, under their field managers, and their pods run.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agent::World;
use crate::harness::eventually;

/// How a tool writes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Three-way merges of its own, as `kubectl apply` and Helm do.
    Merge,
    /// Server-side apply.
    Apply,
}

/// A tool and what it leaves on objects.
#[derive(Clone, Copy, Debug)]
struct Tool {
    manager: &'static str,
    way: Way,
    marks: fn(namespace: &str, kind: &str, name: &str) -> Value,
}

const ARGO: fn(&str, &str, &str) -> Value = |namespace, kind, name| {
    let group = if kind == "Deployment" { "apps" } else { "" };
    json!({"annotations": {"argocd.argoproj.io/tracking-id": format!("fraud:{group}/{kind}:{namespace}/{name}")}})
};
const FLUX: fn(&str, &str, &str) -> Value = |_, _, _| json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "fraud", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}});
const FLUX_HELM: fn(&str, &str, &str) -> Value = |namespace, _, _| {
    json!({"labels": {"helm.toolkit.fluxcd.io/name": "fraud", "helm.toolkit.fluxcd.io/namespace": "flux-system",
            "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "fraud", "meta.helm.sh/release-namespace": namespace}})
};
const HELM: fn(&str, &str, &str) -> Value = |namespace, _, _| {
    json!({"labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "fraud", "meta.helm.sh/release-namespace": namespace}})
};
const NONE: fn(&str, &str, &str) -> Value = |_, _, _| json!({});

fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key.clone()).or_insert_with(|| json!({})), value);
            }
        }
        (target, change) => *target = change.clone(),
    }
}

impl Tool {
    /// Makes an object, or brings it to another state, as the tool does.
    async fn writes<K>(&self, world: &World, stated: &Value)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(world.client.clone(), &world.namespace);
        let name = stated["metadata"]["name"].as_str().unwrap();
        let mut object = stated.clone();
        let marks = (self.marks)(&world.namespace, stated["kind"].as_str().unwrap(), name);
        merge(&mut object["metadata"], &marks);
        match self.way {
            Way::Apply => {
                let parameters = PatchParams::apply(self.manager).force();
                api.patch(name, &parameters, &Patch::Apply(&object)).await.unwrap();
            }
            Way::Merge => {
                // Helm keeps its memory in a Secret, the others on the object.
                if self.manager != "helm" && !self.manager.starts_with("helm-") {
                    let last = object.to_string();
                    let note =
                        json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": last}});
                    merge(&mut object["metadata"], &note);
                }
                let field_manager = Some(self.manager.to_owned());
                let made = serde_json::from_value(object.clone()).unwrap();
                let parameters = PostParams { field_manager: field_manager.clone(), ..PostParams::default() };
                if api.create(&parameters, &made).await.is_err() {
                    let parameters = PatchParams { field_manager, ..PatchParams::default() };
                    api.patch(name, &parameters, &Patch::Strategic(&object)).await.unwrap();
                }
            }
        }
    }
}

fn deployment(replicas: Option<u32>, more: &Value) -> Value {
    let mut stated = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "model", "labels": {"app.kubernetes.io/instance": "fraud"}, "annotations": {"team": "ml"}},
        "spec": {
            "minReadySeconds": 1,
            "selector": {"matchLabels": {"app": "model"}},
            "template": {
                "metadata": {"labels": {"app": "model"}},
                "spec": {"containers": [{"name": "server", "image": "model:1", "ports": [{"containerPort": 8080}],
                    "env": [{"name": "MODEL", "value": "fraud"}]}]},
            },
        },
    });
    if let Some(replicas) = replicas {
        stated["spec"]["replicas"] = json!(replicas);
    }
    merge(&mut stated, more);
    stated
}

fn settings(data: impl Into<Value>) -> Value {
    let data: Value = data.into();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data})
}

fn managers(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Vec<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let mut names: Vec<String> = (entries
        .filter(|entry| entry.subresource.as_deref().unwrap_or("").is_empty()))
    .filter_map(|entry| entry.manager.clone())
    .filter(|name| name != "kube-controller-manager")
    .collect();
    names.sort();
    names.dedup();
    names
}

/// The uids of everything that would be another after a restart.
async fn alive(world: &World) -> (Option<String>, Option<i64>, Vec<String>) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let found = deployments.get("model").await.unwrap();
    let mut uids: Vec<String> = Vec::new();
    uids.extend(pods.list(&ListParams::default()).await.unwrap().iter().filter_map(ResourceExt::uid));
    uids.extend(sets.list(&ListParams::default()).await.unwrap().iter().filter_map(ResourceExt::uid));
    uids.sort();
    (found.uid(), found.metadata.generation, uids)
}

async fn runs(world: &World, replicas: i32) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("the pods run", || async {
        let status = deployments.get("model").await.unwrap().status?;
        (status.ready_replicas == Some(replicas) && status.available_replicas == Some(replicas)).then_some(())
    })
    .await;
}

fn commit(world: &World, objects: &[&Value], why: &str) -> String {
    let text: Vec<String> = objects.iter().map(ToString::to_string).collect();
    world.repository.commit(&[("app/all.yaml", &text.join("\n---\n"))], why)
}

/// From the tool's last apply to the first commit after the move.
async fn moves_without_a_restart(namespace: &str, tool: Tool) {
    let world = World::new(namespace).await;
    let model = deployment(Some(2), &json!({}));
    tool.writes::<Deployment>(&world, &model).await;
    // An older state of what the tool applied, and the newest: as upgrades leave it.
    tool.writes::<ConfigMap>(&world, &settings(json!({"value": "zero", "extra": "x"}))).await;
    tool.writes::<ConfigMap>(&world, &settings(json!({"value": "one", "extra": "x", "stale": "x"}))).await;
    runs(&world, 2).await;
    // What a person added is a person's.
    let by_hand = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    let edit = json!({"data": {"byHand": "x"}});
    world.maps().patch("settings", &by_hand, &Patch::Merge(edit)).await.unwrap();
    let before = alive(&world).await;
    let map = world.maps().get("settings").await.unwrap();

    let first = commit(&world, &[&model, &settings(json!({"value": "one", "extra": "x"}))], "As it is");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    // The API server counts a change of a Deployment's annotations as a generation, and the tool's notes go, in one
    // write. Nothing else is written to it.
    let notes =
        i64::from(!(tool.marks)("", "", "")["annotations"].is_null() || tool.manager.starts_with("kubectl"));
    let expected = (before.0.clone(), before.1.map(|generation| generation + notes), before.2.clone());
    assert_eq!(alive(&world).await, expected, "nothing is restarted");
    let adopted = world.maps().get("settings").await.unwrap();
    assert_eq!(adopted.uid(), map.uid());
    assert_eq!(json!(adopted.data), json!({"value": "one", "extra": "x", "byHand": "x"}), "stale is gone");
    assert_eq!(managers(&adopted.metadata), ["driftless", "kubectl-edit"]);
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), namespace);
    let adopted = deployments.get("model").await.unwrap();
    assert_eq!(managers(&adopted.metadata), ["driftless"]);
    let mut labels: Vec<&str> = adopted.labels().keys().map(String::as_str).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["app.kubernetes.io/instance", "driftless.dev/application"]);
    let mut notes: Vec<&str> = adopted.annotations().keys().map(String::as_str).collect();
    notes.sort_unstable();
    assert_eq!(notes, ["deployment.kubernetes.io/revision", "team"]);

    // What Git drops from now on goes, as if we had made it.
    let mut less = deployment(Some(2), &json!({}));
    less["metadata"]["annotations"] = json!({});
    less["spec"].as_object_mut().unwrap().remove("minReadySeconds");
    let second = commit(&world, &[&less, &settings(json!({"value": "two"}))], "Less");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    let (uid, _, uids) = alive(&world).await;
    assert_eq!((uid, uids), (before.0, before.2), "the template is the same, so are the pods");
    let now = world.maps().get("settings").await.unwrap();
    assert_eq!(json!(now.data), json!({"value": "two", "byHand": "x"}));
    let now = deployments.get("model").await.unwrap();
    assert_eq!(now.spec.unwrap().min_ready_seconds, None);
    assert!(!now.metadata.annotations.unwrap().contains_key("team"));
}

#[tokio::test]
async fn argo_cd_client_side() {
    let tool = Tool { manager: "argocd-controller", way: Way::Merge, marks: ARGO };
    moves_without_a_restart("adopt-argo-merge", tool).await;
}

#[tokio::test]
async fn argo_cd_server_side() {
    let tool = Tool { manager: "argocd-controller", way: Way::Apply, marks: ARGO };
    moves_without_a_restart("adopt-argo-apply", tool).await;
}

#[tokio::test]
async fn flux_kustomizations() {
    let tool = Tool { manager: "kustomize-controller", way: Way::Apply, marks: FLUX };
    moves_without_a_restart("adopt-flux", tool).await;
}

#[tokio::test]
async fn flux_helm_releases() {
    let tool = Tool { manager: "helm-controller", way: Way::Merge, marks: FLUX_HELM };
    moves_without_a_restart("adopt-flux-helm", tool).await;
}

#[tokio::test]
async fn helm_releases() {
    let tool = Tool { manager: "helm", way: Way::Merge, marks: HELM };
    moves_without_a_restart("adopt-helm", tool).await;
}

#[tokio::test]
async fn kubectl() {
    let tool = Tool { manager: "kubectl-client-side-apply", way: Way::Merge, marks: NONE };
    moves_without_a_restart("adopt-kubectl", tool).await;
}

/// What an admission plugin wrote in the tool's name, what an autoscaler may decide, and what Git says to leave alone.
#[tokio::test]
async fn what_git_does_not_decide_stays() {
    let world = World::new("adopt-spared").await;
    let helm = Tool { manager: "helm", way: Way::Merge, marks: HELM };
    // The tool wrote replicas; Git leaves them to an autoscaler. Nobody has scaled yet.
    helm.writes::<Deployment>(&world, &deployment(Some(3), &json!({}))).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mut admitted = claim.clone();
    admitted["spec"]["storageClassName"] = json!("standard");
    helm.writes::<PersistentVolumeClaim>(&world, &admitted).await;
    helm.writes::<ConfigMap>(&world, &settings(json!({"value": "one", "tuned": "live"}))).await;
    runs(&world, 3).await;
    let before = alive(&world).await;
    let first = commit(
        &world,
        &[&deployment(None, &json!({})), &claim, &settings(json!({"value": "one", "tuned": "git"}))],
        "First",
    );
    let ignored = json!([{"kind": "ConfigMap", "pointers": ["/data/tuned"]}]);
    world.application("fraud", json!({"spec": {"ignoreDifferences": ignored}})).await;
    let status = eventually("it is applied", || async {
        let status = world.apps().get("fraud").await.unwrap().status?;
        (status.applied_revision == first).then_some(status)
    })
    .await;
    assert_eq!(status.inventory.count, 3);
    assert_eq!(alive(&world).await.2, before.2);
    let now = world.maps().get("settings").await.unwrap();
    assert_eq!(json!(now.data), json!({"value": "one", "tuned": "live"}));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &world.namespace);
    let now = claims.get("data").await.unwrap();
    assert_eq!(now.spec.as_ref().unwrap().storage_class_name.as_deref(), Some("standard"));
    assert_eq!(managers(&now.metadata), ["driftless"]);
    assert!(!now.labels().contains_key("app.kubernetes.io/managed-by"), "{:?}", now.labels());
    // The claim goes on to follow Git.
    let mut labelled = claim;
    labelled["metadata"]["labels"] = json!({"tier": "gold"});
    commit(&world, &[&deployment(None, &json!({})), &labelled, &settings(json!({"value": "one"}))], "Second");
    world.poke("fraud").await;
    eventually("the claim is labelled", || async {
        claims.get("data").await.unwrap().labels().contains_key("tier").then_some(())
    })
    .await;
}

/// managedFields that somebody reset, as some backup tools do: what Git drops later must go all the same.
#[tokio::test]
async fn lost_ownership_is_taken_back() {
    let world = World::new("adopt-reset").await;
    let first = commit(&world, &[&settings(json!({"value": "one", "extra": "x"}))], "First");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let more = json!({"data": {"byHand": "x"}});
    world.maps().patch("settings", &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
    let reset = json!({"metadata": {"managedFields": [{}]}});
    world.maps().patch("settings", &PatchParams::default(), &Patch::Merge(reset)).await.unwrap();
    eventually("the fields are ours again", || async {
        let now = world.maps().get("settings").await.unwrap();
        managers(&now.metadata).iter().any(|name| name == "driftless").then_some(())
    })
    .await;
    let second = commit(&world, &[&settings(json!({"value": "two"}))], "Second");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    let now = world.maps().get("settings").await.unwrap();
    assert_eq!(json!(now.data), json!({"value": "two", "byHand": "x"}));
}

#[tokio::test]
async fn strangers_are_refused_where_that_is_asked() {
    let world = World::new("adopt-refused").await;
    let tool = Tool { manager: "argocd-controller", way: Way::Apply, marks: ARGO };
    tool.writes::<ConfigMap>(&world, &settings(json!({"value": "theirs"}))).await;
    let own =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"value": "x"}});
    let mine = settings(json!({"value": "mine"}));
    commit(&world, &[&mine, &own], "First");
    world.application("fraud", json!({"spec": {"sync": {"adopt": false}}})).await;
    let message = world.reason("fraud", "Ready", "OwnedByAnother").await;
    assert!(message.contains("Argo CD's Application fraud") && message.contains("Adopt=true"), "{message}");
    assert_eq!(world.value("settings").await.as_deref(), Some("theirs"));
    assert_eq!(world.value("own").await.as_deref(), Some("x"));
    let mut allowed = mine;
    allowed["metadata"]["annotations"] = json!({"driftless.dev/sync-options": "Adopt=true"});
    let second = commit(&world, &[&allowed, &own], "Second");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    assert_eq!(world.value("settings").await.as_deref(), Some("mine"));
}

/// Two who want other things: it is said who.
#[tokio::test]
async fn a_tool_that_goes_on_is_named() {
    let world = World::new("adopt-fight").await;
    let argo = Tool { manager: "argocd-controller", way: Way::Apply, marks: ARGO };
    argo.writes::<ConfigMap>(&world, &settings(json!({"value": "theirs"}))).await;
    let first = commit(&world, &[&settings(json!({"value": "mine"}))], "First");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    let message = eventually("the fight is reported", || async {
        argo.writes::<ConfigMap>(&world, &settings(json!({"value": "theirs"}))).await;
        let (_, reason, message) = world.condition("fraud", "Drifted").await?;
        (reason == "Contested").then_some(message)
    })
    .await;
    assert!(message.contains("argocd-controller"), "{message}");
}
