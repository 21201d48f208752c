//! Kinds that are rolled out. One file is one kind; nothing else knows any.
//!
//! A kind says what makes a revision, how many pods it is to have, what is seen of it, and how it looks as a candidate
//! beside itself: with labels of its own, so that nothing which selects the target's pods counts or adopts its.

mod argo_rollout;
mod daemon_set;
mod declared;
mod deployment;
mod kserve_canary;
mod mounts;
mod pods;
mod selector;
mod twin;
mod within;

use std::sync::Arc;

use serde_json::{Map, Value, json};

pub use mounts::{Mount, mounts, rename};
pub use pods::{is_ready, lack_a_place, obstacle};
pub use selector::selects;
use within::is_seen;
pub use within::{Measure, Wish, Within};

use self::deployment::Deployment;
use super::machine::Side;
use crate::api::TargetFields;
use crate::error::{Code, Error, Result};
use crate::model::{Digest, Gvk, TRACKING_LABEL};

/// On what a rollout makes beside its target: the name of its policy.
pub const ROLLOUT_LABEL: &str = "driftless.dev/rollout";
/// On the target and its candidate: the revision that it runs.
pub const REVISION: &str = "driftless.dev/revision";
/// On the target's pods: what they mount, so that another content makes other pods.
pub const MOUNTED: &str = "driftless.dev/mounted";

/// A kind.
pub trait Target: Send + Sync {
    /// Group and kind.
    fn kind(&self) -> (&str, &str);

    /// Whether its health is judged, so that events tell of its pods.
    fn is_known(&self) -> bool {
        true
    }

    /// Where it has the template of its pods, as a JSON pointer.
    fn template(&self) -> &str {
        TEMPLATE
    }

    /// The selector of its pods, with `matchLabels`.
    fn selector(&self, object: &Value) -> Value {
        object["spec"]["selector"].clone()
    }

    /// Why an object cannot be rolled out so.
    ///
    /// # Errors
    /// The reason.
    fn check(&self, _object: &Value) -> Result<(), String> {
        Ok(())
    }

    /// Pods that it is to have; `None` where it does not say.
    fn replicas(&self, object: &Value) -> Option<u32>;

    /// What is seen of it.
    fn side(&self, live: &Value) -> Side;

    /// Writes this size.
    fn sized(&self, object: &mut Value, pods: u32);

    /// The object of the candidate: the target's with another name, labels of its own, and this size.
    ///
    /// # Errors
    /// `RolloutInvalid` where its pods cannot be told from the target's.
    fn candidate(&self, object: &Value, beside: &Beside<'_>) -> Result<Value>;
}

/// Where kinds that make pods have their template.
pub const TEMPLATE: &str = "/spec/template";

/// How a kind is rolled out.
#[derive(Clone)]
pub enum Form {
    /// With a candidate beside the target.
    Beside(Arc<dyn Target>),
    /// Within the target.
    Within(&'static dyn Within),
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, (group, kind)) = match self {
            Self::Beside(kind) => ("beside", kind.kind()),
            Self::Within(kind) => ("within", kind.kind()),
        };
        write!(f, "{word} {group}/{kind}")
    }
}

impl Form {
    /// Where the template of the pods stands, as a JSON pointer.
    pub fn template(&self) -> &str {
        match self {
            Self::Beside(kind) => kind.template(),
            Self::Within(_) => TEMPLATE,
        }
    }
}

/// How an object is rolled out; `rolls` where that is by its own way of changing, which any kind has; `fields` where its policy
/// says what it looks like.
pub fn find(gvk: &Gvk, object: &Value, rolls: bool, fields: Option<&TargetFields>) -> Option<Form> {
    let is = |(group, kind): (&str, &str)| gvk.is(group, kind);
    if rolls {
        let own = within::ROLLING.iter().copied().find(|kind| is(kind.kind()));
        return Some(Form::Within(own.unwrap_or(&within::Rolling)));
    }
    if is(Deployment.kind()) {
        return Some(Form::Beside(Arc::new(Deployment)));
    }
    let within = within::KINDS.iter().copied().find(|kind| is(kind.kind()) && kind.takes(object));
    let within = within.map(Form::Within);
    within.or_else(|| Some(Form::Beside(Arc::new(declared::Declared::new(gvk, fields?)))))
}

/// What is rolled out in steps, for people.
pub fn names() -> String {
    let within = within::KINDS.iter().map(|kind| kind.kind());
    let all = std::iter::once(Deployment.kind()).chain(within);
    let mut names: Vec<String> = all.map(|(group, kind)| format!("{kind}.{group}")).collect();
    names.dedup();
    names.join(", ")
}

/// With what an object goes.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// `group/version`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What stands beside a target.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// With what it goes: a candidate with its policy, and what it needs with the candidate.
    pub owner: &'a Owner,
    /// Value of the tracking label.
    pub label: &'a str,
    /// The revision.
    pub revision: &'a str,
    /// Pods.
    pub pods: u32,
    /// Names of ConfigMaps and Secrets that the candidate has copies of.
    pub copies: &'a [Mount],
}

impl Beside<'_> {
    /// Makes an object one of the policy's.
    pub fn claim(&self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        metadata.insert(
            "ownerReferences".into(),
            json!([{"apiVersion": self.owner.api_version, "kind": self.owner.kind, "name": self.owner.name,
                "uid": self.owner.uid, "controller": true}]),
        );
        let labels = entry(metadata, "labels");
        labels.insert(TRACKING_LABEL.into(), self.label.into());
        labels.insert(ROLLOUT_LABEL.into(), self.policy.into());
        entry(metadata, "annotations").insert(REVISION.into(), self.revision.into());
    }
}

/// Whether the object with this uid is among the owners of an object.
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["uid"] == *uid)
}

/// A number of pods, or a percentage.
pub(super) fn count(value: &Value, otherwise: u32) -> u32 {
    value.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(otherwise)
}

/// A field that holds fields.
pub(super) fn entry<'a>(fields: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let field = fields.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if !field.is_object() {
        *field = Value::Object(Map::new());
    }
    match field {
        Value::Object(found) => found,
        // It was made one above.
        _ => unreachable!("an object"),
    }
}

/// The name of what stands beside something: its own with an end, 63 characters at most.
pub fn candidate_name(name: &str) -> String {
    const END: &str = "-candidate";
    if name.len() + END.len() <= 63 {
        return format!("{name}{END}");
    }
    let digest = Digest::of(name.as_bytes()).to_string();
    let mut cut = 63 - END.len() - 7;
    while !name.is_char_boundary(cut) || !name.as_bytes()[cut - 1].is_ascii_alphanumeric() {
        cut -= 1;
    }
    format!("{}-{}{END}", &name[..cut], &digest[..6])
}

/// The annotation of a live object that says which revision it runs.
pub fn revision_of(live: &Value) -> String {
    let text = live["metadata"]["annotations"][REVISION].as_str();
    text.unwrap_or_default().to_owned()
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::RolloutInvalid, why)
}

#[cfg(test)]
mod tests {
    use super::candidate_name;

    #[test]
    fn names_beside() {
        assert_eq!(candidate_name("fraud"), "fraud-candidate");
        let long = candidate_name(&"a".repeat(60));
        assert_eq!(long.len(), 63);
        assert_ne!(long, candidate_name(&"a".repeat(61)));
        let dashed = candidate_name(&format!("{}-{}", "a".repeat(45), "b".repeat(20)));
        assert!(!dashed.contains("--"), "{dashed}");
    }
}
