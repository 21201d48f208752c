//! The agent as manifests/install installs it: its account, and what that may.

use std::path::Path;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cluster::ControlPlane;

/// Where it is installed.
const NAMESPACE: &str = "driftless-system";

/// The objects of manifests/install.
pub(crate) fn objects() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/install/driftless.yaml");
    let text = std::fs::read(path).expect("the installed file");
    let documents = driftless::model::yaml::read(&text, "driftless.yaml").expect("manifests");
    documents.into_iter().map(|document| document.value).collect()
}

/// Installs it; returns the control plane as its account reaches it, by a kubeconfig in this folder.
pub(crate) async fn as_agent(client: &kube::Client, plane: &ControlPlane, folder: &Path) -> ControlPlane {
    for object in objects() {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let types = object.types.clone().expect("its kind");
        let gvk = kube::core::GroupVersionKind::try_from(&types).expect("a kind");
        let (resource, capabilities) =
            kube::discovery::pinned_kind(client, &gvk).await.expect("a served kind");
        let api: Api<DynamicObject> = if capabilities.scope == kube::discovery::Scope::Namespaced {
            Api::namespaced_with(client.clone(), NAMESPACE, &resource)
        } else {
            Api::all_with(client.clone(), &resource)
        };
        let parameters = PatchParams::apply("tests").force();
        api.patch(&object.name_any(), &parameters, &Patch::Apply(&object)).await.expect("applied");
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let request =
        json!({"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600}});
    let request = serde_json::from_value(request).expect("a request");
    let answer = accounts.create_token_request("driftless", &PostParams::default(), &request).await;
    let token = answer.expect("a token").status.expect("its status").token;
    let kubeconfig = folder.join("kubeconfig");
    let admin = std::fs::read_to_string(&plane.kubeconfig).expect("a kubeconfig");
    std::fs::write(&kubeconfig, admin.replace(&plane.token, &token)).expect("written");
    ControlPlane { kubeconfig, token, ..plane.clone() }
}
