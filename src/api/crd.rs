//! The CRDs as files: `manifests/crds` is written from here and a test fails when it is stale.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::{Application, Project, RolloutPolicy};
use crate::error::{Code, Error, Result};
use crate::model::yaml::emit;

/// All CRDs, by file name.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("driftless.dev_applications.yaml", known_formats(Application::crd())),
        ("driftless.dev_projects.yaml", known_formats(Project::crd())),
        ("driftless.dev_rolloutpolicies.yaml", known_formats(RolloutPolicy::crd())),
    ]
}

/// Takes out the formats that Kubernetes does not know and warns about: `uint` and its like. Their bounds
/// are stated as minimum and maximum, or the API server would take what the agent cannot read.
fn known_formats(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields
                    .get("format")
                    .and_then(Value::as_str)
                    .is_some_and(|format| format.starts_with("uint"))
                {
                    let format = fields.remove("format");
                    if format.is_some_and(|format| format == "uint32") {
                        fields.entry("maximum").or_insert_with(|| u32::MAX.into());
                    }
                }
                fields.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::to_value(&definition) else { return definition };
    walk(&mut value);
    serde_json::from_value(value).unwrap_or(definition)
}

/// A CRD as the text of its file.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String> {
    // Our own writer: others leave the field name `n` bare, which kubectl reads as false.
    let value =
        serde_json::to_value(definition).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(emit(&value))
}
