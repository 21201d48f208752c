//! The CRDs as files: `manifests/crds` is written from here and a test fails when it is stale.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::api::Application;
use crate::error::{Code, Error, Result};
use crate::model::yaml::emit;

/// All CRDs, by file name.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![("driftless.dev_applications.yaml", Application::crd())]
}

/// A CRD as the text of its file.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String> {
    // Our own writer: others leave the field name `n` bare, which kubectl reads as false.
    let value =
        serde_json::to_value(definition).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(emit(&value))
}
