//! Reads and writes who owns the fields of an object.

use http::Method;
use serde_json::{Value, json};

use super::client::{METADATA, path, request};
use super::{Cluster, Lean, Resource, translate};
use crate::api::FIELD_MANAGER;
use crate::error::{Code, Error, Result};
use crate::model::Key;

impl Cluster {
    /// The metadata of the live object, managedFields among it; `None` where there is none.
    pub async fn metadata(&self, resource: &Resource, key: &Key) -> Result<Option<Value>> {
        let request = request(Method::GET, &path(resource, key), "", METADATA, Vec::new())?;
        match self.send::<Value>(request).await {
            Ok(mut value) => Ok(Some(value["metadata"].take())),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }

    /// Replaces managedFields and takes labels and annotations off, in one write, where the object is still at this
    /// version; `None` where it is not.
    pub async fn reassign(
        &self,
        resource: &Resource,
        key: &Key,
        version: &str,
        managed_fields: Vec<Value>,
        without: &[String],
    ) -> Result<Option<Lean>> {
        let mut patch = vec![
            json!({"op": "replace", "path": "/metadata/managedFields", "value": managed_fields}),
            json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}),
        ];
        patch.extend(without.iter().map(|pointer| json!({"op": "remove", "path": pointer})));
        let bytes =
            serde_json::to_vec(&patch).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let url = format!("{}?fieldManager={FIELD_MANAGER}", path(resource, key));
        match self.write(Method::PATCH, &url, "application/json-patch+json", bytes).await {
            Ok(lean) => Ok(Some(lean)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(translate(&error).on_object(key)),
        }
    }
}
