//! One report of differences, for people, pipelines and pull requests.
//!
//! What is compared is decided elsewhere; this room counts, sorts by danger and formats. It knows the
//! model only.

mod github;
mod junit;
mod lint;
mod markdown;
mod sarif;
mod text;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Kind};
use crate::model::{Gvk, Key, Origin};

pub use github::github;
pub use junit::junit;
pub use lint::{FindingReport, LintCounts, LintReport, RuleReport};
pub use markdown::markdown;
pub use sarif::sarif;
pub use text::{plain, text};

/// How an object differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Wanted and there, with other values.
    Modified,
    /// Wanted and not there.
    Missing,
    /// There and no longer wanted.
    Extra,
    /// A field that Git states and somebody else decides; no difference.
    ForeignField,
    /// Git has moved and the change is not applied yet.
    Pending,
    /// Git has moved and a rollout brings the change to its users; no difference.
    RollingOut,
}

/// What making it equal would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Danger {
    /// Nothing but the change itself.
    None,
    /// Pods are replaced.
    Restart,
    /// The object must be deleted and made again.
    Replace,
    /// The object is deleted.
    Delete,
    /// Data goes with it.
    DataLoss,
}

/// One differing field.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReport {
    /// RFC 6901.
    pub pointer: String,
    /// What Git states; null where nothing.
    pub want: Value,
    /// What is there; null where nothing.
    pub have: Value,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Whether the values are hidden because they are secret.
    pub masked: bool,
}

/// Where Git states an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SourceReport {
    /// File inside the repository.
    pub file: String,
    /// 1-based line.
    pub line: usize,
}

/// One differing object.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// How it differs.
    pub class: Class,
    /// What making it equal would do.
    pub danger: Danger,
    /// Where Git states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceReport>,
    /// The fields.
    pub changes: Vec<ChangeReport>,
}

/// One application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The commit that is wanted.
    pub revision: String,
    /// Objects that do not differ.
    pub unchanged: usize,
    /// Objects that do.
    pub objects: Vec<ObjectReport>,
    /// What a merge would bring that lint warns of, and the base does not have.
    pub findings: Vec<FindingReport>,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReport {
    /// Such as DL0103.
    pub code: String,
    /// Such as `RevisionNotFound`.
    pub reason: String,
    /// What and why.
    pub message: String,
    /// The application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// `file:line:column`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The next action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The answer in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing differs.
    InSync,
    /// Something does.
    Differs,
    /// It could not be said of everything.
    Failed,
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each counts the class of its name")]
pub struct Counts {
    pub apps: usize,
    pub unchanged: usize,
    pub modified: usize,
    pub missing: usize,
    pub extra: usize,
    pub foreign_field: usize,
    pub pending: usize,
    pub rolling_out: usize,
    pub findings: usize,
    pub errors: usize,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of this shape; "1".
    pub schema_version: &'static str,
    /// `drift` or `preview`.
    pub command: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// How many.
    pub counts: Counts,
    /// By application.
    pub apps: Vec<AppReport>,
    /// What failed.
    pub errors: Vec<ErrorReport>,
}

/// The JSON schema of a report, as `manifests/report.schema.json` holds it.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Report).to_value();
    schema["$id"] = "https://driftless.dev/report.schema.json".into();
    schema["properties"]["schemaVersion"]["const"] = "1".into();
    schema
}

/// The JSON schema of what lint reports, as `manifests/lint.schema.json` holds it.
pub fn lint_schema() -> Value {
    let mut schema = schemars::schema_for!(LintReport).to_value();
    schema["$id"] = "https://driftless.dev/lint.schema.json".into();
    schema["properties"]["schemaVersion"]["const"] = "1".into();
    schema
}

impl From<&Error> for ErrorReport {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code.number().into(),
            reason: error.code.reason().into(),
            message: error.why.clone(),
            app: error.place.app.clone(),
            object: error.place.object.clone(),
            position: error.position(),
            hint: error.hint.clone(),
        }
    }
}

impl ObjectReport {
    /// Puts an object's facts together; danger follows from them.
    pub fn new(
        gvk: &Gvk,
        key: &Key,
        class: Class,
        origin: Option<&Origin>,
        changes: Vec<ChangeReport>,
    ) -> Self {
        Self {
            group: gvk.group.clone(),
            version: gvk.version.clone(),
            kind: gvk.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            class,
            danger: danger(gvk, class, &changes),
            source: origin
                .filter(|origin| origin.line > 0)
                .map(|origin| SourceReport { file: origin.file.to_string(), line: origin.line }),
            changes,
        }
    }

    /// `Deployment ml/fraud`.
    pub fn title(&self) -> String {
        Key {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
        .to_string()
    }
}

fn danger(gvk: &Gvk, class: Class, changes: &[ChangeReport]) -> Danger {
    let workload = gvk.group == "apps" || gvk.group == "batch";
    let holds_data = matches!(
        gvk.kind.as_str(),
        "PersistentVolumeClaim"
            | "PersistentVolume"
            | "Namespace"
            | "CustomResourceDefinition"
            | "StatefulSet"
    );
    let touches = |prefix: &str| changes.iter().any(|change| change.pointer.starts_with(prefix));
    match class {
        Class::Extra if holds_data => Danger::DataLoss,
        Class::Extra => Danger::Delete,
        Class::Missing | Class::ForeignField => Danger::None,
        Class::Modified | Class::Pending | Class::RollingOut => {
            let fixed = workload && gvk.kind != "CronJob" && touches("/spec/selector")
                || gvk.kind == "Job" && touches("/spec/template")
                || gvk.kind == "StatefulSet"
                    && (touches("/spec/volumeClaimTemplates") || touches("/spec/serviceName"))
                || gvk.kind == "PersistentVolumeClaim"
                    && (touches("/spec/accessModes") || touches("/spec/storageClassName"))
                || gvk.kind.ends_with("RoleBinding") && touches("/roleRef");
            if fixed {
                Danger::Replace
            } else if workload && gvk.kind != "CronJob" && touches("/spec/template") {
                Danger::Restart
            } else {
                Danger::None
            }
        }
    }
}

impl Report {
    /// Counts and judges.
    pub fn new(command: &'static str, mut apps: Vec<AppReport>, errors: &[Error]) -> Self {
        let mut counts = Counts { apps: apps.len(), errors: errors.len(), ..Counts::default() };
        for app in &mut apps {
            counts.unchanged += app.unchanged;
            counts.findings += app.findings.len();
            app.objects.sort_by(|one, other| {
                other
                    .danger
                    .cmp(&one.danger)
                    .then_with(|| one.class.cmp(&other.class))
                    .then_with(|| one.title().cmp(&other.title()))
            });
            for object in &app.objects {
                match object.class {
                    Class::Modified => counts.modified += 1,
                    Class::Missing => counts.missing += 1,
                    Class::Extra => counts.extra += 1,
                    Class::ForeignField => counts.foreign_field += 1,
                    Class::Pending => counts.pending += 1,
                    Class::RollingOut => counts.rolling_out += 1,
                }
            }
        }
        apps.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        let differs = counts.modified + counts.missing + counts.extra + counts.pending > 0;
        let verdict = match (errors.is_empty(), differs) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Differs,
            (true, false) => Verdict::InSync,
        };
        Self {
            schema_version: "1",
            command,
            verdict,
            counts,
            apps,
            errors: errors.iter().map(ErrorReport::from).collect(),
        }
    }

    /// 0 same, 1 differs, or the code of the worst failure.
    pub fn exit_code(&self, errors: &[Error]) -> u8 {
        match self.verdict {
            Verdict::InSync => 0,
            Verdict::Differs => 1,
            Verdict::Failed => {
                errors.iter().map(|error| error.code.kind()).max().unwrap_or(Kind::Internal).exit_code()
            }
        }
    }

    /// One JSON document.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|error| error.to_string(), |text| text + "\n")
    }
}
