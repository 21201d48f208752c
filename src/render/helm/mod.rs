//! What `helm template` 3.22 makes of a chart, in process.

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::render::{Rendered, Tree};

/// How a chart is rendered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `.Release.Name`.
    pub release_name: String,
    /// `.Release.Namespace`.
    pub namespace: String,
    /// Files with values: relative to the chart; from the root of the tree with a leading `/`; `$name/path` is read
    /// from the tree as it stands.
    pub values_files: Vec<String>,
    /// Pass over values files that do not exist.
    pub ignore_missing_values_files: bool,
    /// Values over those of the files.
    pub values: Map<String, Value>,
    /// `--set` and `--set-string`.
    pub parameters: Vec<Parameter>,
    /// `--set-file`: name and path.
    pub file_parameters: Vec<(String, String)>,
    /// Leave out the crds folder.
    pub skip_crds: bool,
    /// Do not hold the values against values.schema.json.
    pub skip_schema_validation: bool,
    /// `.Capabilities.KubeVersion`; empty is a default.
    pub kube_version: String,
    /// More `.Capabilities.APIVersions` than those of Kubernetes itself.
    pub api_versions: Vec<String>,
    /// What `now` says, in seconds since 1970.
    pub now: i64,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameter {
    /// Its path.
    pub name: String,
    /// The value.
    pub value: String,
    /// Taken as text.
    pub text: bool,
}

/// Renders the chart of a folder.
///
/// # Errors
/// `RendererMissing`.
pub fn render(_tree: &dyn Tree, folder: &str, _options: &Options) -> Result<Rendered> {
    Err(Error::new(Code::RendererMissing, format!("{folder} is a Helm chart")))
}
