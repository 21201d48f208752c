//! An API server that refuses: rights that are taken away, webhooks, objects that are too large, a namespace that never
//! ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use base64::Engine as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::lists::{define, definition};
use super::{agent, world, writes_of};
use crate::agent::map;
use crate::harness::cluster::namespace;
use crate::harness::eventually;
use crate::source::Authority;

/// A7: the account of an application loses the right to one kind.
#[tokio::test]
async fn a_right_that_is_taken_away_stops_one_kind() {
    let (world, proxy) = world("fault-rights").await;
    let (accounts, roles, bindings): (Api<ServiceAccount>, Api<Role>, Api<RoleBinding>) = (
        Api::namespaced(world.client.clone(), &world.namespace),
        Api::namespaced(world.client.clone(), &world.namespace),
        Api::namespaced(world.client.clone(), &world.namespace),
    );
    let role = |secrets: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "deployer"}, "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": secrets}]})
    };
    let apply = PatchParams::apply("tests").force();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer"}});
    accounts.patch("deployer", &apply, &Patch::Apply(account)).await.unwrap();
    let all = json!(["get", "list", "watch", "create", "patch", "delete"]);
    roles.patch("deployer", &apply, &Patch::Apply(role(all.clone()))).await.unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": world.namespace}]});
    bindings.patch("deployer", &apply, &Patch::Apply(binding)).await.unwrap();
    let _agent = agent(&world, &proxy);
    let secret = |word: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{token: {word}}}\n")
    };
    let first = world.repository.commit(
        &[
            ("app/a.yaml", &map("a", "one")),
            ("app/b.yaml", &map("b", "one")),
            ("app/s.yaml", &secret("hunter2")),
        ],
        "First",
    );
    world.application("app", json!({"spec": {"destination": {"serviceAccount": "deployer"}}})).await;
    world.ready("app", &first).await;

    roles.patch("deployer", &apply, &Patch::Apply(role(json!(["get", "list", "watch"])))).await.unwrap();
    let second = world.repository.change(
        &[
            ("app/a.yaml", Some(&map("a", "two"))),
            ("app/b.yaml", None),
            ("app/s.yaml", Some(&secret("hunter3"))),
        ],
        "Second",
    );
    world.poke("app").await;
    world.becomes("a", Some("two")).await;
    let message = world.reason("app", "Ready", "Forbidden").await;
    assert!(message.contains("Secret fault-rights/s") && !message.contains("hunter"), "{message}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.value("b").await.as_deref(), Some("one"), "nothing is deleted in a pass that failed");
    roles.patch("deployer", &apply, &Patch::Apply(role(all))).await.unwrap();
    world.ready("app", &second).await;
    world.becomes("b", None).await;
}

const CHANGES: u8 = 0;
const DENIES: u8 = 1;
const HANGS: u8 = 2;

struct Webhook {
    mood: AtomicU8,
    asked: AtomicUsize,
}

async fn review(
    State(webhook): State<Arc<Webhook>>,
    body: String,
) -> ([(&'static str, &'static str); 1], String) {
    let review: Value = serde_json::from_str(&body).unwrap();
    let number = webhook.asked.fetch_add(1, Ordering::Relaxed);
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    match webhook.mood.load(Ordering::Relaxed) {
        HANGS => std::future::pending().await,
        DENIES => {
            response["allowed"] = false.into();
            response["status"] = json!({"message": "not on a Friday"});
        }
        _ => {
            // A field of ours and one of its own, another each time.
            let patch = json!([
                {"op": "replace", "path": "/data/value", "value": format!("changed {number}")},
                {"op": "add", "path": "/data/stamp", "value": format!("{number}")},
            ]);
            response["patchType"] = "JSONPatch".into();
            let text = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
            response["patch"] = text.into();
        }
    }
    let answer =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    ([("content-type", "application/json")], answer.to_string())
}

/// A9: a webhook denies, does not answer, and changes what is applied each time.
#[tokio::test]
async fn webhooks_are_named_and_make_no_loop() {
    let (world, proxy) = world("fault-webhook").await;
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1");
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let webhook = Arc::new(Webhook { mood: AtomicU8::new(DENIES), asked: AtomicUsize::new(0) });
    let router = axum::Router::new().fallback(axum::routing::post(review)).with_state(webhook.clone());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        axum::serve(crate::harness::git::Tls { listener, acceptor }, router).await.unwrap();
    });
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(world.client.clone());
    let bundle = base64::engine::general_purpose::STANDARD.encode(authority.certificate.pem());
    let stated = json!({"metadata": {"name": "faults"}, "webhooks": [{
        "name": "calendar.faults.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail", "timeoutSeconds": 1, "clientConfig": {"url": url, "caBundle": bundle},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "objectSelector": {"matchExpressions": [{"key": "driftless.dev/application", "operator": "Exists"}]},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]}]});
    hooks.create(&PostParams::default(), &serde_json::from_value(stated).unwrap()).await.unwrap();
    // The API server takes a moment to know it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _agent = agent(&world, &proxy);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    let message = world.reason("app", "Ready", "AdmissionDenied").await;
    assert!(message.contains("calendar.faults.example") && message.contains("not on a Friday"), "{message}");
    webhook.mood.store(HANGS, Ordering::Relaxed);
    eventually("the webhook that does not answer is named", || async {
        let (_, reason, message) = world.condition("app", "Ready").await?;
        (reason == "AdmissionDenied"
            && message.contains("failed calling webhook")
            && message.contains("calendar"))
        .then_some(())
    })
    .await;
    let tries = proxy.count("patch", "/configmaps/a");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let tries = proxy.count("patch", "/configmaps/a") - tries;
    assert!(tries < 5, "{tries} tries in five seconds");
    webhook.mood.store(CHANGES, Ordering::Relaxed);
    world.ready("app", &first).await;
    let (tries, asked) = (proxy.count("patch", "/configmaps/a"), webhook.asked.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(proxy.count("patch", "/configmaps/a"), tries, "no loop");
    assert_eq!(webhook.asked.load(Ordering::Relaxed), asked);
    world.ready("app", &first).await;
    hooks.delete("faults", &DeleteParams::default()).await.unwrap();
}

/// A10: an annotation, a ConfigMap and a custom object beyond the limits of API server and etcd.
#[tokio::test]
async fn objects_that_are_too_large_are_refused_by_name() {
    let (world, proxy) = world("fault-large").await;
    let group = "large.faults.example";
    define(&world, &definition(group, &[("v1", true)])).await;
    let _agent = agent(&world, &proxy);
    let text = |length: usize| "x".repeat(length);
    let noted = map("noted", "x").replacen(
        "metadata: {",
        &format!("metadata: {{annotations: {{note: {}}}, ", text(300_000)),
        1,
    );
    let custom = format!(
        "apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: big}}\nspec: {{text: {}}}\n",
        text(1_700_000)
    );
    world.repository.commit(
        &[
            ("noted/a.yaml", &noted),
            ("map/a.yaml", &map("big", &text(1_100_000))),
            ("custom/a.yaml", &custom),
            ("custom/b.yaml", &map("beside", "x")),
        ],
        "First",
    );
    for (name, object) in [
        ("noted", "ConfigMap fault-large/noted"),
        ("map", "ConfigMap fault-large/big"),
        ("custom", "Widget.large.faults.example fault-large/big"),
    ] {
        world.application(name, json!({"spec": {"source": {"path": name}}})).await;
        let message = world.reason(name, "Ready", "ObjectRejected").await;
        assert!(message.contains(object) && message.len() < 2000, "{message}");
    }
    world.becomes("beside", Some("x")).await;
}

/// A14: a namespace is being deleted for ever, because somebody's finalizer holds an object in it.
#[tokio::test]
async fn a_namespace_that_never_ends_is_said_to_wait_for_what() {
    let (world, proxy) = world("fault-ending").await;
    namespace(&world.client, "fault-ending-other").await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "fault-ending-other");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/held"]}});
    maps.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete("fault-ending-other", &DeleteParams::default()).await.unwrap();
    eventually("the server says what it waits for", || async {
        let conditions = namespaces.get("fault-ending-other").await.ok()?.status?.conditions?;
        conditions
            .iter()
            .any(|found| found.type_ == "NamespaceFinalizersRemaining" && found.status == "True")
            .then_some(())
    })
    .await;
    let _agent = agent(&world, &proxy);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("ends", json!({"spec": {"destination": {"namespace": "fault-ending-other"}}})).await;
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let message = world.reason("ends", "Ready", "NamespaceMissing").await;
    assert!(message.contains("being terminated") && message.contains("example.com/held"), "{message}");
    // With the finalizer gone the namespace goes; made again, it is delivered to.
    let free = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    eventually("the namespace is gone", || async {
        namespaces.get_opt("fault-ending-other").await.unwrap().is_none().then_some(())
    })
    .await;
    namespace(&world.client, "fault-ending-other").await;
    world.ready("ends", &first).await;
    assert!(writes_of(&proxy, "patch", "/fault-ending-other/configmaps/a") > 0);
}
