//! A Job for each measurement.

use serde_json::{Map, Value};

use super::run::{Ending, Left, Run, Runs, State};
use super::{About, invalid, templates};
use crate::api::JobGate;
use crate::error::Result;
use crate::model::{Gvk, one_line};

/// Seconds that one may run, and for which one that ended stays, where its spec does not say.
pub(super) const RUNS: i64 = 1800;
pub(super) const STAYS: i64 = 3600;

/// Jobs of a gate.
pub struct Job {
    template: Map<String, Value>,
    window: String,
}

impl Job {
    /// Reads a gate.
    ///
    /// # Errors
    /// `RolloutInvalid`, with the field.
    pub fn read(stated: &JobGate, window: &str) -> Result<Run> {
        let containers = stated.template.get("template").and_then(|pod| pod.pointer("/spec/containers"));
        if containers.and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(invalid("job.template", "is the spec of a Job: it has no template.spec.containers"));
        }
        let mut template = Value::Object(stated.template.clone());
        templates::texts(&mut template, &mut |text| templates::check(text))
            .map_err(|why| invalid("job.template", why))?;
        let job = Self { template: stated.template.clone(), window: window.to_owned() };
        Run::new(job, stated.pass.as_deref(), "job.pass")
    }
}

impl Runs for Job {
    fn gvk(&self) -> Gvk {
        Gvk::parse("batch/v1", "Job")
    }

    fn spec(&self, about: &About) -> std::result::Result<Value, String> {
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
        Ok(spec)
    }

    fn state(&self, object: &Value) -> State {
        for condition in object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
        {
            if condition["status"] != "True" {
                continue;
            }
            match condition["type"].as_str() {
                Some("Complete") => return State::Succeeded,
                Some("Failed") => {
                    let word = |name: &str| condition[name].as_str().unwrap_or_default();
                    let why = one_line(&format!("{}: {}", word("reason"), word("message")));
                    return State::Failed(why.trim_matches([':', ' ']).to_owned());
                }
                _ => {}
            }
        }
        State::Running
    }

    fn left(&self, object: &Value) -> Left {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Left::InPods(format!("batch.kubernetes.io/job-name={name}"))
    }

    fn result(&self) -> String {
        "termination message".to_owned()
    }

    fn ending(&self) -> Ending {
        Ending::Delete
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::GateAnswer;

    fn stated(pass: Option<&str>) -> JobGate {
        let template = json!({"template": {"spec": {"containers": [
            {"name": "a", "image": "x", "args": ["--of={{candidate}}", "{{ .go }}"]}]}}});
        JobGate { template: template.as_object().cloned().unwrap(), pass: pass.map(str::to_owned) }
    }

    #[test]
    fn specs_of_jobs() {
        let gate = Job::read(&stated(None), "1m").unwrap();
        let spec = gate.kind.spec(&About { candidate: "c".into(), ..About::default() }).unwrap();
        assert_eq!(spec["template"]["spec"]["containers"][0]["args"], json!(["--of=c", "{{ .go }}"]));
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
        assert_eq!(spec["activeDeadlineSeconds"], 1800);
    }

    #[test]
    fn how_a_job_ends() {
        let check = |pass: Option<&str>,
                     conditions: Value,
                     result: Option<&str>,
                     wanted: Option<(GateAnswer, &str)>| {
            let gate = Job::read(&stated(pass), "1m").unwrap();
            let state = gate.kind.state(&json!({"status": {"conditions": conditions}}));
            let read = gate.reading("j", &state, result);
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
        let nothing = "Job j succeeded, but left no termination message";
        judged(None, GateAnswer::NoData, nothing);
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
