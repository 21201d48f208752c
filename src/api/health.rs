//! An application's own rules of health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How objects of a kind are judged, before what driftless knows of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.cel) != has(self.lua)", "message": "give either cel or lua, not both and not neither"}]))]
pub struct HealthRule {
    /// API group; empty is the core group; `*` stands for any text.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind; `*` stands for any text.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Conditions in CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cel: Option<CelHealth>,
    /// A health script of Argo CD: `obj` is the object, the table `{status, message}` is returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub lua: Option<String>,
}

/// Conditions in CEL over `object`, and over its `metadata`, `spec` and `status`. The first that is true decides, in the
/// order suspended, progressing, degraded, healthy; where none is, the object is Progressing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CelHealth {
    /// It was told to stand still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub suspended: Option<String>,
    /// It is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub progressing: Option<String>,
    /// It failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub degraded: Option<String>,
    /// It does its work.
    #[schemars(length(min = 1, max = 4096))]
    pub healthy: String,
    /// The reason of what is not healthy, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub message: Option<String>,
}
