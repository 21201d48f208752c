//! `spec.source`: where manifests are, and how they are rendered.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place in a Git repository, a Helm repository or an OCI registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Address of a Git repository: https://, http://, ssh://, user@host:path or file://; of an OCI artifact:
    /// oci:// (oci+http:// without TLS); with `chart`, of a Helm repository: https://, http:// or oci://. Without
    /// credentials in it.
    #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = [
        {"rule": "!self.matches('^(https?|oci([+]http)?)://[^/]*@') && !self.matches('^ssh://[^/@]*:[^/@]*@')",
         "message": "credentials belong in the Secret that secretRef names, not in repo"}]))]
    pub repo: String,
    /// Name of a chart in a Helm repository; `revision` is then its version or a semver range.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub chart: String,
    /// Name under which the values files of other sources may name files of this one: `$name/path`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^[a-zA-Z0-9_-]*$"), length(max = 63))]
    pub name: String,
    /// Of Git: branch, tag, full commit, full ref (refs/...), or a semver range over tags such as ">=1.2 <2";
    /// empty or HEAD is the default branch. Of OCI: tag, digest (sha256:...) or semver range; empty is `latest`. Of a
    /// chart: version or semver range; empty is the newest without a pre-release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub revision: String,
    /// Folder or file inside the repository; empty is its root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096), extend("x-kubernetes-validations" = [
        {"rule": "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
         "message": "path is relative to the repository's root and has no '..'"}]))]
    pub path: String,
    /// Which files of the folder are manifests.
    #[serde(default, skip_serializing_if = "Directory::is_default")]
    pub directory: Directory,
    /// How a chart is rendered.
    #[serde(default, skip_serializing_if = "HelmOptions::is_default")]
    pub helm: HelmOptions,
    /// What is changed in a kustomization's result.
    #[serde(default, skip_serializing_if = "KustomizeOptions::is_default")]
    pub kustomize: KustomizeOptions,
    /// Puts values in place of `${NAME}` in the rendered objects; off where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substitute: Option<Substitute>,
    /// Decrypts files and objects that SOPS has encrypted; refused where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decryption: Option<Decryption>,
    /// A Secret of the Application's namespace with the credentials of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// Follow a branch or tag whose history was rewritten (`git push --force`); true where not given, with a warning
    /// event. With false the deployed revision stays until the new one descends from it, or until this is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_rewrite: Option<bool>,
    /// Time between two polls, such as 30s or 5m; 60s where not given, at least 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"), length(max = 16))]
    pub interval: Option<String>,
}

impl Source {
    /// Whether a rewritten history is followed.
    pub fn allows_rewrite(&self) -> bool {
        self.allow_rewrite.unwrap_or(true)
    }
}

/// Which files of a folder are manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    /// Go into sub-folders.
    #[serde(default)]
    pub recurse: bool,
    /// Globs relative to the path; where empty, all of *.yaml, *.yml and *.json are read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub include: Vec<String>,
    /// Globs of files to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub exclude: Vec<String>,
}

impl Directory {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a chart is rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, as Helm has them")]
pub struct HelmOptions {
    /// `.Release.Name`; the Application's name where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 53))]
    pub release_name: String,
    /// Files with values, relative to the chart, a later one over an earlier one. `$name/path` is a file of the
    /// source of that name; a leading / means the root of the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub values_files: Vec<String>,
    /// Pass over values files that do not exist.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_missing_values_files: bool,
    /// Values over those of the files.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub values: serde_json::Map<String, serde_json::Value>,
    /// Single values over all of these, as `--set` and `--set-string` take them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub parameters: Vec<HelmParameter>,
    /// Values that are the content of files, as `--set-file` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub file_parameters: Vec<HelmFileParameter>,
    /// Leave out the chart's crds folder.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skip_crds: bool,
    /// Do not hold the values against values.schema.json.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skip_schema_validation: bool,
    /// Let `lookup` read the cluster; it finds nothing otherwise, as in `helm template`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lookup: bool,
    /// `.Capabilities.KubeVersion`; the cluster's where not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub kube_version: String,
    /// More `.Capabilities.APIVersions` than the cluster's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub api_versions: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl HelmOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One value of a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmParameter {
    /// Its path, such as `image.tag` or `hosts[0].name`.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// The value, read as `--set` reads it.
    #[serde(default)]
    pub value: String,
    /// Take it as text, as `--set-string` does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force_string: bool,
}

/// One value of a chart that is the content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelmFileParameter {
    /// Its path, such as `tls.certificate`.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// The file, named as in `valuesFiles`.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// What is changed in a kustomization's result, as a kustomization around it would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KustomizeOptions {
    /// Before every name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name_prefix: String,
    /// After every name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name_suffix: String,
    /// `metadata.namespace` of every object in a namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Images: `name=new:tag`, `name:tag`, `name@sha256:...` or `name=new@sha256:...`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub images: Vec<String>,
    /// Replicas by the name of the workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replicas: BTreeMap<String, u32>,
    /// Labels on all objects, selectors not included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations on all objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Components, relative to the path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub components: Vec<String>,
    /// Other repositories whose folders kustomizations may name: addresses, or all of a folder of a server
    /// (`https://git.example/ml/*`). Each use must be pinned to a whole commit id (`?ref=`); no credentials are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub remote_bases: Vec<String>,
    /// Patches, as `patches` of a kustomization takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), schema_with = "any_objects")]
    pub patches: Vec<serde_json::Map<String, serde_json::Value>>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn any_objects(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}})
}

impl KustomizeOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Values in place of `${NAME}`. An object with the annotation driftless.dev/substitute: disabled (or Flux's
/// kustomize.toolkit.fluxcd.io/substitute) stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Substitute {
    /// Values by name; over those of `from`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// ConfigMaps and Secrets whose keys are names; a later one over an earlier one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub from: Vec<SubstituteFrom>,
}

/// A ConfigMap or Secret of the Application's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubstituteFrom {
    /// `ConfigMap` or Secret.
    pub kind: SubstituteKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Pass over it where it does not exist.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
}

/// Kinds that hold variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubstituteKind {
    /// Its data.
    ConfigMap,
    /// Its data, decoded; masked in every report.
    Secret,
}

/// How files that SOPS encrypted are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decryption {
    /// A Secret of the Application's namespace whose keys ending in `.agekey` hold age identities.
    pub secret_ref: LocalReference,
}

/// Names an object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
