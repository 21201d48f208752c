//! A Job for each measurement.

use serde_json::{Map, Value, json};

use super::{About, Condition, Fact, Reading, begin_of, invalid, templates};
use crate::api::{GateAnswer, JobGate};
use crate::error::Result;
use crate::model::{Digest, GROUP, one_line};
use crate::rollout::target::ROLLOUT_LABEL;

/// Seconds that a Job may run, and for which one that ended stays, where its spec does not say.
const RUNS: i64 = 1800;
const STAYS: i64 = 3600;
/// Longest name of a Job: its pods carry it as a label.
const NAME: usize = 63;

/// A Job, and what must hold of what it leaves.
pub struct Job {
    template: Map<String, Value>,
    window: String,
    pass: Option<Condition>,
}

/// How a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// It has not ended.
    Running,
    /// It failed, with the reason.
    Failed(String),
    /// It succeeded.
    Succeeded,
}

impl Job {
    pub(super) fn read(stated: &JobGate, window: &str) -> Result<Self> {
        let containers = stated.template.get("template").and_then(|pod| pod.pointer("/spec/containers"));
        if containers.and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(invalid("job.template", "is the spec of a Job: it has no template.spec.containers"));
        }
        let mut template = Value::Object(stated.template.clone());
        templates::texts(&mut template, &mut |text| templates::check(text))
            .map_err(|why| invalid("job.template", why))?;
        let pass = stated.pass.as_deref().map(|pass| Condition::new(pass, &["result"])).transpose();
        let pass = pass.map_err(|why| invalid("job.pass", why))?;
        Ok(Self { template: stated.template.clone(), window: window.to_owned(), pass })
    }

    /// Whether the result of its pod is read.
    pub fn wants_result(&self) -> bool {
        self.pass.is_some()
    }

    /// The Job of this measurement. The same measurement has the same Job.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn object(&self, gate: &str, about: &About) -> std::result::Result<Value, String> {
        let mut spec = Value::Object(self.template.clone());
        templates::texts(&mut spec, &mut |text| {
            *text = templates::fill(text, about, &self.window)?;
            Ok(())
        })?;
        if let Some(spec) = spec.as_object_mut() {
            spec.entry("activeDeadlineSeconds").or_insert(RUNS.into());
            spec.entry("ttlSecondsAfterFinished").or_insert(STAYS.into());
        }
        if let Some(pod) = spec.pointer_mut("/template/spec").and_then(Value::as_object_mut) {
            pod.entry("restartPolicy").or_insert("Never".into());
        }
        Ok(json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": name(gate, about), "namespace": about.namespace,
                "labels": {ROLLOUT_LABEL: about.policy},
                "ownerReferences": [{
                    "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "RolloutPolicy",
                    "name": about.policy, "uid": about.uid}],
            },
            "spec": spec,
        }))
    }

    /// How a Job stands.
    pub fn run(job: &Value) -> Run {
        for condition in job.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten() {
            if condition["status"] != "True" {
                continue;
            }
            match condition["type"].as_str() {
                Some("Complete") => return Run::Succeeded,
                Some("Failed") => {
                    let word = |name: &str| condition[name].as_str().unwrap_or_default();
                    let why = one_line(&format!("{}: {}", word("reason"), word("message")));
                    return Run::Failed(why.trim_matches([':', ' ']).to_owned());
                }
                _ => {}
            }
        }
        Run::Running
    }

    /// What a Job that ended says; `result` is the termination message of its pod.
    pub fn reading(&self, name: &str, run: &Run, result: Option<&str>) -> Option<Reading> {
        let said = |answer, message| Some(Reading { answer, value: None, message });
        match run {
            Run::Running => return None,
            Run::Failed(why) => return said(GateAnswer::Fail, format!("Job {name} failed: {why}")),
            Run::Succeeded => {}
        }
        let Some(pass) = &self.pass else { return said(GateAnswer::Pass, format!("Job {name} succeeded")) };
        let Some(text) = result.filter(|text| !text.trim().is_empty()) else {
            return Some(Reading::no_data(format!(
                "Job {name} succeeded, but its pod left no termination message"
            )));
        };
        let Ok(result) = serde_json::from_str::<Value>(text) else {
            let begin = begin_of(text.as_bytes());
            return Some(Reading::error(format!(
                "the termination message of Job {name} is no JSON: {begin}"
            )));
        };
        let value = result.as_f64();
        let shown: String = one_line(&result.to_string()).chars().take(120).collect();
        Some(pass.judge(&[("result", Fact::Json(result))], &shown, value))
    }
}

/// `POLICY-GATE-` and ten characters for the measurement; long names are cut.
fn name(gate: &str, about: &About) -> String {
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

    fn stated(pass: Option<&str>) -> JobGate {
        let template = json!({"template": {"spec": {"containers": [
            {"name": "a", "image": "x", "args": ["--of={{candidate}}", "{{ .go }}"]}]}}});
        JobGate { template: template.as_object().cloned().unwrap(), pass: pass.map(str::to_owned) }
    }

    fn about() -> About {
        About {
            policy: "fraud".into(),
            uid: "u".into(),
            namespace: "ml".into(),
            candidate: "c".into(),
            revision: "r".into(),
            turn: "t".into(),
            ..About::default()
        }
    }

    #[test]
    fn a_measurement_has_one_job() {
        let gate = Job::read(&stated(None), "1m").unwrap();
        let job = gate.object("smoke", &about()).unwrap();
        assert_eq!(job, gate.object("smoke", &about()).unwrap());
        let name = |about: &About| {
            gate.object("smoke", about).unwrap()["metadata"]["name"].as_str().unwrap().to_owned()
        };
        let same = name(&about());
        assert!(same.starts_with("fraud-smoke-") && same.len() == 22, "{same}");
        assert_ne!(same, name(&About { turn: "u".into(), ..about() }));
        assert_ne!(same, name(&About { step: 1, ..about() }));
        assert_ne!(same, name(&About { revision: "s".into(), ..about() }));
        let long = name(&About { policy: "a.".repeat(100), ..about() });
        assert!(long.len() <= 63 && long.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{long}");
        assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["args"], json!(["--of=c", "{{ .go }}"]));
        assert_eq!(job["spec"]["template"]["spec"]["restartPolicy"], "Never");
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 1800);
        assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "u");
    }

    #[test]
    fn how_a_job_ends() {
        let check = |pass: Option<&str>,
                     conditions: Value,
                     result: Option<&str>,
                     wanted: Option<(GateAnswer, &str)>| {
            let gate = Job::read(&stated(pass), "1m").unwrap();
            let run = Job::run(&json!({"status": {"conditions": conditions}}));
            let read = gate.reading("j", &run, result);
            let found = read.as_ref().map(|read| (read.answer, read.message.as_str()));
            assert_eq!(found, wanted, "{conditions}");
        };
        let complete =
            json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]);
        let failed = json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]);
        check(None, Value::Null, None, None);
        check(
            None,
            json!([{"type": "Complete", "status": "False"}, {"type": "Suspended", "status": "True"}]),
            None,
            None,
        );
        check(None, complete.clone(), None, Some((GateAnswer::Pass, "Job j succeeded")));
        let why = "Job j failed: BackoffLimitExceeded: too often";
        check(None, failed.clone(), None, Some((GateAnswer::Fail, why)));
        check(Some("result.x > 1"), failed, Some("{\"x\": 2}"), Some((GateAnswer::Fail, why)));
        let judged = |text: Option<&str>, answer, message| {
            check(Some("result.x > 1"), complete.clone(), text, Some((answer, message)));
        };
        judged(Some("{\"x\": 2}"), GateAnswer::Pass, "{\"x\":2} is result.x > 1");
        judged(Some("{\"x\": 0.5}"), GateAnswer::Fail, "{\"x\":0.5} is not result.x > 1");
        judged(None, GateAnswer::NoData, "Job j succeeded, but its pod left no termination message");
        judged(Some("ok"), GateAnswer::Error, "the termination message of Job j is no JSON: \"ok\"");
    }

    #[test]
    fn what_is_refused() {
        let error = Job::read(&JobGate::default(), "1m").map(|_| ()).unwrap_err();
        assert!(error.why.starts_with("spec.job.template: "), "{}", error.why);
        let error = Job::read(&stated(Some("value > 1")), "1m").map(|_| ()).unwrap_err();
        assert!(error.why.starts_with("spec.job.pass: "), "{}", error.why);
        let mut odd = stated(None);
        odd.template.insert("x".into(), "{{canary}}".into());
        let error = Job::read(&odd, "1m").map(|_| ()).unwrap_err();
        assert!(error.why.contains("there is no {{canary}}"), "{}", error.why);
    }
}
