//! The little of an object that is read from the API: 0.2 kB kept instead of 42 kB.
//!
//! `managedFields` is hashed while it is parsed and never kept; spec and status stay raw text until
//! health has been judged, and are then dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::api::{FIELD_MANAGER, LABEL, OPERATION, ROLLOUT_REQUEST};
use crate::diff::{RESET, former};

/// kubectl's copy of what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Watched with spec and status, for kinds whose health needs them.
#[derive(Clone, Copy, Debug)]
pub struct Whole;
/// Watched as metadata only: Secret data never travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetadataOnly;

/// How a lean object asks the API server for itself.
pub trait Form: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Whether only metadata is asked for.
    const METADATA_ONLY: bool;
}

impl Form for Whole {
    const METADATA_ONLY: bool = false;
}

impl Form for MetadataOnly {
    const METADATA_ONLY: bool = true;
}

/// What is kept of an object while it passes by.
#[derive(Clone, Debug)]
pub struct Lean<F = Whole> {
    /// Name, namespace, uid, resourceVersion, generation, deletionTimestamp, finalizers, and for the judgement of
    /// health only labels and annotations; nothing else is filled.
    pub metadata: ObjectMeta,
    /// The value of our tracking label; empty where missing.
    pub label: String,
    /// The sync that made it, where it is a hook, or what is asked of a rollout; empty where neither.
    pub operation: String,
    /// Fingerprint of our managedFields entry; 0 where there is none.
    pub ours: u64,
    /// The other manager that wrote last, if any, with its time.
    pub last_writer: Option<(String, String)>,
    /// Whether a tool that objects are adopted from owns fields of it.
    pub former: bool,
    /// Whether fields are owned by whoever wrote it before its managedFields were lost.
    pub reset: bool,
    /// `spec` as text.
    pub spec: Option<Box<RawValue>>,
    /// `status` as text.
    pub status: Option<Box<RawValue>>,
    form: PhantomData<F>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    metadata: WireMetadata<'a>,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata<'a> {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    deletion_timestamp: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
    #[serde(default, borrow)]
    labels: Option<std::collections::HashMap<Cow<'a, str>, Option<String>>>,
    #[serde(default, borrow)]
    annotations: Option<std::collections::HashMap<Cow<'a, str>, Option<Cow<'a, str>>>>,
    #[serde(default)]
    managed_fields: Vec<WireEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    fields_v1: Option<Box<RawValue>>,
}

impl<'de, F: Form> Deserialize<'de> for Lean<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, spec, status } = Wire::deserialize(deserializer)?;
        let mut ours = 0;
        let mut last_writer: Option<(String, String)> = None;
        let (mut from_tool, mut reset) = (false, false);
        for entry in metadata.managed_fields {
            if entry.subresource.is_empty() && former(&entry.manager, &entry.operation).is_some() {
                from_tool = true;
                reset |= entry.manager == RESET;
            }
            if entry.manager == FIELD_MANAGER && entry.operation == "Apply" && entry.subresource.is_empty() {
                let fields = entry.fields_v1.as_ref().map_or("", |raw| raw.get());
                ours = fingerprint(fields, &entry.time);
            } else if entry.subresource != "status"
                && last_writer.as_ref().is_none_or(|(_, time)| *time <= entry.time)
            {
                last_writer = Some((entry.manager, entry.time));
            }
        }
        let labels: BTreeMap<String, String> = metadata
            .labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.into_owned(), value?)))
            .collect();
        let label = labels.get(LABEL).cloned().unwrap_or_default();
        // kubectl's copy of the whole object is nobody's business.
        let annotations: BTreeMap<String, String> = metadata
            .annotations
            .into_iter()
            .flatten()
            .filter(|(name, _)| name != LAST_APPLIED)
            .filter_map(|(name, value)| Some((name.into_owned(), value?.into_owned())))
            .collect();
        let asked = [OPERATION, ROLLOUT_REQUEST].into_iter().find_map(|name| annotations.get(name));
        let operation = asked.cloned().unwrap_or_default();
        Ok(Self {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                resource_version: metadata.resource_version,
                generation: metadata.generation,
                deletion_timestamp: metadata.deletion_timestamp,
                finalizers: metadata.finalizers,
                labels: Some(labels).filter(|labels| !labels.is_empty()),
                annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
                ..ObjectMeta::default()
            },
            label,
            operation,
            ours,
            last_writer,
            former: from_tool,
            reset,
            spec,
            status,
            form: PhantomData,
        })
    }
}

/// The fingerprint of our entry: its fields and its time. An apply that changes nothing keeps both; a
/// write by anybody to a field of ours takes the field out of the entry. Never 0.
pub fn fingerprint(fields: &str, time: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(fields.as_bytes());
    hash.update([0]);
    hash.update(time.as_bytes());
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(hash.finalize().as_slice()) {
        *to = *from;
    }
    u64::from_be_bytes(first).max(1)
}

impl<F: Form> kube::Resource for Lean<F> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }

    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }

    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }

    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }

    fn api_version(dt: &ApiResource) -> Cow<'_, str> {
        dt.api_version.as_str().into()
    }

    fn metadata_api() -> bool {
        F::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lean(json: &str) -> Lean {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn sees_only_our_apply_entry() {
        let with = |manager: &str, fields: &str| {
            lean(&format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a","managedFields":[
                {{"manager":"{manager}","operation":"Apply","time":"t","fieldsV1":{fields}}},
                {{"manager":"kubectl","operation":"Update","time":"u","fieldsV1":{{"f:x":{{}}}}}}]}},"data":{{}}}}"#
            ))
        };
        let ours = with("driftless", r#"{"f:data":{}}"#);
        assert_eq!(ours.ours, fingerprint(r#"{"f:data":{}}"#, "t"));
        assert_eq!(ours.last_writer, Some(("kubectl".into(), "u".into())));
        assert_eq!(with("other", r#"{"f:data":{}}"#).ours, 0);
        assert_ne!(with("driftless", "{}").ours, ours.ours);
    }

    #[test]
    fn keeps_spec_and_status_as_text() {
        let object = lean(
            r#"{"metadata":{"name":"a","labels":{"driftless.dev/application":"ns.app"}},"spec":{"b":1}}"#,
        );
        assert_eq!(object.spec.unwrap().get(), r#"{"b":1}"#);
        assert_eq!(object.label, "ns.app");
        assert!(object.status.is_none());
    }
}
