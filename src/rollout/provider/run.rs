//! What runs to an end for a measurement: an object that is made once, found again by its name, and read when it has ended.
//!
//! A kind says what its objects are like, how one stands and where it leaves a result; all else is here.

use serde_json::{Value, json};

use super::{About, Condition, Fact, Reading, begin_of, invalid};
use crate::api::GateAnswer;
use crate::error::Result;
use crate::model::{Digest, GROUP, Gvk, one_line};
use crate::rollout::target::ROLLOUT_LABEL;

/// Longest name of an object: its pods carry it as a label.
const NAME: usize = 63;

/// How an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not ended.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed, with the reason.
    Failed(String),
    /// It could not be carried out, with the reason.
    Broken(String),
}

/// Where a result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// In the object; `None` where it left none.
    Here(Option<String>),
    /// The termination message of a pod that has these labels and succeeded.
    InPods(String),
}

/// How one is ended that nobody waits for any more.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It is deleted, with its pods.
    Delete,
    /// It is changed so, and ends by itself.
    Patch(Value),
}

/// A kind of which an object runs to an end.
pub trait Runs: Send + Sync {
    /// Its kind.
    fn gvk(&self) -> Gvk;

    /// The spec for a measurement.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn spec(&self, about: &About) -> std::result::Result<Value, String>;

    /// How an object stands.
    fn state(&self, object: &Value) -> State;

    /// Where the result of an object is.
    fn left(&self, object: &Value) -> Left;

    /// What the result is called, such as termination message.
    fn result(&self) -> String;

    /// How an object is ended.
    fn ending(&self) -> Ending;
}

/// A kind, and what must hold of what its objects leave.
pub struct Run {
    /// The kind.
    pub kind: Box<dyn Runs>,
    pass: Option<Condition>,
}

impl Run {
    pub(super) fn new(kind: impl Runs + 'static, pass: Option<&str>, field: &str) -> Result<Self> {
        let pass = pass.map(|pass| Condition::new(pass, &["result"])).transpose();
        Ok(Self { kind: Box::new(kind), pass: pass.map_err(|why| invalid(field, why))? })
    }

    /// Whether the result is read.
    pub fn wants_result(&self) -> bool {
        self.pass.is_some()
    }

    /// The object of this measurement. The same measurement has the same object.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn object(&self, gate: &str, about: &About) -> std::result::Result<Value, String> {
        let gvk = self.kind.gvk();
        Ok(json!({
            "apiVersion": gvk.api_version(), "kind": gvk.kind,
            "metadata": {
                "name": name(gate, about), "namespace": about.namespace,
                "labels": {ROLLOUT_LABEL: about.policy},
                "ownerReferences": [{
                    "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "RolloutPolicy",
                    "name": about.policy, "uid": about.uid}],
            },
            "spec": self.kind.spec(about)?,
        }))
    }

    /// What an object that ended says; `None` while it runs.
    pub fn reading(&self, name: &str, state: &State, result: Option<&str>) -> Option<Reading> {
        let what = format!("{} {name}", self.kind.gvk().kind);
        let said = |answer, message| Some(Reading { answer, value: None, message });
        match state {
            State::Running => return None,
            State::Failed(why) => return said(GateAnswer::Fail, format!("{what} failed: {why}")),
            State::Broken(why) => return said(GateAnswer::Error, format!("{what} broke: {why}")),
            State::Succeeded => {}
        }
        let Some(pass) = &self.pass else { return said(GateAnswer::Pass, format!("{what} succeeded")) };
        let called = self.kind.result();
        let Some(text) = result.filter(|text| !text.trim().is_empty()) else {
            return Some(Reading::no_data(format!("{what} succeeded, but left no {called}")));
        };
        let Ok(result) = serde_json::from_str::<Value>(text) else {
            let begin = begin_of(text.as_bytes());
            return Some(Reading::error(format!("the {called} of {what} is no JSON: {begin}")));
        };
        let value = result.as_f64();
        let shown: String = one_line(&result.to_string()).chars().take(120).collect();
        Some(pass.judge(&[("result", Fact::Json(result))], &shown, value))
    }
}

/// `POLICY-GATE-` and ten characters for the measurement; long names are cut.
pub fn name(gate: &str, about: &About) -> String {
    let all = [&about.uid, gate, &about.revision, &about.step.to_string(), &about.turn].map(str::to_owned);
    let digest = Digest::of(all.join("\n").as_bytes()).to_string();
    let mut begin = format!("{}-{gate}", about.policy);
    begin.truncate(NAME - 11);
    // A name of a policy may hold dots, which a label may too, but not beside a dash.
    format!("{}-{}", begin.replace('.', "-").trim_end_matches('-'), &digest[..10])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::JobGate;
    use crate::rollout::provider::Job;

    #[test]
    fn a_measurement_has_one_object() {
        let template = json!({"template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}});
        let stated = JobGate { template: template.as_object().cloned().unwrap(), pass: None };
        let gate = Job::read(&stated, "1m").unwrap();
        let about = || About {
            policy: "fraud".into(),
            uid: "u".into(),
            namespace: "ml".into(),
            revision: "r".into(),
            turn: "t".into(),
            ..About::default()
        };
        let object = gate.object("smoke", &about()).unwrap();
        assert_eq!(object, gate.object("smoke", &about()).unwrap());
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u");
        let same = name("smoke", &about());
        assert_eq!(object["metadata"]["name"], *same);
        assert!(same.starts_with("fraud-smoke-") && same.len() == 22, "{same}");
        assert_ne!(same, name("smoke", &About { turn: "u".into(), ..about() }));
        assert_ne!(same, name("smoke", &About { step: 1, ..about() }));
        assert_ne!(same, name("smoke", &About { revision: "s".into(), ..about() }));
        let long = name("smoke", &About { policy: "a.".repeat(100), ..about() });
        assert!(long.len() <= 63 && long.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{long}");
    }
}
