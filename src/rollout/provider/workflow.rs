//! A Workflow of Argo Workflows for each measurement.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::job::{RUNS, STAYS};
use super::run::{Ending, Left, Run, Runs, State};
use super::{About, invalid, templates};
use crate::api::WorkflowGate;
use crate::error::Result;
use crate::model::{Gvk, one_line};

/// Workflows of a gate.
pub struct Workflow {
    spec: Value,
    parameters: BTreeMap<String, String>,
    /// The output parameter that holds the result.
    output: String,
    window: String,
}

impl Workflow {
    /// Reads a gate.
    ///
    /// # Errors
    /// `RolloutInvalid`, with the field.
    pub fn read(stated: &WorkflowGate, window: &str) -> Result<Run> {
        let spec = match (&stated.spec, &stated.workflow_template_ref) {
            (Some(spec), None) => Value::Object(spec.clone()),
            (None, Some(template)) => json!({"workflowTemplateRef": template}),
            _ => return Err(invalid("workflow", "give either spec or workflowTemplateRef")),
        };
        if spec["entrypoint"].is_null() && spec["workflowTemplateRef"].is_null() {
            let why = "is the spec of a Workflow: it has neither entrypoint nor workflowTemplateRef";
            return Err(invalid("workflow.spec", why));
        }
        for (name, value) in &stated.parameters {
            templates::check(value).map_err(|why| invalid(&format!("workflow.parameters.{name}"), why))?;
        }
        if stated.result.is_some() != stated.pass.is_some() {
            return Err(invalid(
                "workflow.result",
                "is the output parameter that pass judges: give both or none",
            ));
        }
        let workflow = Self {
            spec,
            parameters: stated.parameters.clone(),
            output: stated.result.clone().unwrap_or_default(),
            window: window.to_owned(),
        };
        Run::new(workflow, stated.pass.as_deref(), "workflow.pass")
    }
}

impl Runs for Workflow {
    fn gvk(&self) -> Gvk {
        Gvk::parse("argoproj.io/v1alpha1", "Workflow")
    }

    fn spec(&self, about: &About) -> std::result::Result<Value, String> {
        let mut spec = self.spec.clone();
        // Words that are not ours are Argo's, such as {{item}}.
        templates::texts(&mut spec, &mut |text| {
            *text = templates::fill_known(text, about, &self.window)?;
            Ok(())
        })?;
        for (name, value) in &self.parameters {
            let value = templates::fill(value, about, &self.window)?;
            set_parameter(&mut spec, name, &value);
        }
        // A template has a deadline of its own, which one here would take the place of.
        let is_whole = spec["workflowTemplateRef"].is_null();
        if let Some(fields) = spec.as_object_mut() {
            if is_whole {
                fields.entry("activeDeadlineSeconds").or_insert(RUNS.into());
            }
            fields.entry("ttlStrategy").or_insert(json!({"secondsAfterCompletion": STAYS}));
        }
        Ok(spec)
    }

    fn state(&self, object: &Value) -> State {
        let status = &object["status"];
        let why = || {
            let message = one_line(status["message"].as_str().unwrap_or_default());
            if message.is_empty() { "it does not say why".to_owned() } else { message }
        };
        match status["phase"].as_str() {
            Some("Succeeded") => State::Succeeded,
            Some("Failed") => State::Failed(why()),
            Some("Error") => State::Broken(why()),
            _ => State::Running,
        }
    }

    fn left(&self, object: &Value) -> Left {
        // Outputs with a globalName are the Workflow's, those of its entrypoint are of the node that has its name.
        let root = object["metadata"]["name"].as_str().unwrap_or_default();
        let outputs = [&object["status"]["outputs"], &object["status"]["nodes"][root]["outputs"]];
        let all = outputs.into_iter().filter_map(|outputs| outputs["parameters"].as_array()).flatten();
        let found = all.into_iter().find(|parameter| parameter["name"] == *self.output);
        Left::Here(found.map(|parameter| match &parameter["value"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))
    }

    fn result(&self) -> String {
        format!("output parameter {}", self.output)
    }

    fn ending(&self) -> Ending {
        // Its exit handler still runs, as with `argo stop`.
        Ending::Patch(json!({"spec": {"shutdown": "Stop"}}))
    }
}

fn set_parameter(spec: &mut Value, name: &str, value: &str) {
    let parameters = &mut spec["arguments"]["parameters"];
    if !parameters.is_array() {
        *parameters = json!([]);
    }
    if let Some(list) = parameters.as_array_mut() {
        list.retain(|known| known["name"] != *name);
        list.push(json!({"name": name, "value": value}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GateAnswer, WorkflowTemplateReference};

    fn inline(pass: Option<(&str, &str)>) -> WorkflowGate {
        let spec = json!({"entrypoint": "all", "arguments": {"parameters": [{"name": "url", "value": "?"}]}, "templates": [
            {"name": "all", "container": {"image": "x", "args": ["{{item}}", "{{candidate}}", "{{workflow.parameters.url}}"]}}]});
        WorkflowGate {
            spec: spec.as_object().cloned(),
            parameters: [("url".to_owned(), "http://{{candidateService}}".to_owned())].into(),
            result: pass.map(|(result, _)| result.to_owned()),
            pass: pass.map(|(_, pass)| pass.to_owned()),
            ..WorkflowGate::default()
        }
    }

    fn about() -> About {
        About { candidate: "c".into(), candidate_service: "s".into(), ..About::default() }
    }

    #[test]
    fn specs_of_workflows() {
        let spec = Workflow::read(&inline(None), "1m").unwrap().kind.spec(&about()).unwrap();
        let args = json!(["{{item}}", "c", "{{workflow.parameters.url}}"]);
        assert_eq!(spec["templates"][0]["container"]["args"], args);
        assert_eq!(spec["arguments"]["parameters"], json!([{"name": "url", "value": "http://s"}]));
        assert_eq!(spec["activeDeadlineSeconds"], 1800);
        assert_eq!(spec["ttlStrategy"]["secondsAfterCompletion"], 3600);
        let template = WorkflowTemplateReference { name: "evaluate".into(), cluster_scope: true };
        let named = WorkflowGate { spec: None, workflow_template_ref: Some(template), ..inline(None) };
        let spec = Workflow::read(&named, "1m").unwrap().kind.spec(&about()).unwrap();
        assert_eq!(spec["workflowTemplateRef"], json!({"name": "evaluate", "clusterScope": true}));
        assert_eq!(spec["arguments"]["parameters"][0]["value"], "http://s");
        assert!(spec.get("activeDeadlineSeconds").is_none(), "{spec}");
        assert!(Workflow::read(&inline(None), "1m").unwrap().kind.spec(&About::default()).is_err());
    }

    #[test]
    fn how_a_workflow_ends() {
        let check = |pass: Option<(&str, &str)>, status: Value, wanted: Option<(GateAnswer, &str)>| {
            let gate = Workflow::read(&inline(pass), "1m").unwrap();
            let object = json!({"metadata": {"name": "w"}, "status": status});
            let Left::Here(result) = gate.kind.left(&object) else { panic!("it is in the object") };
            let read = gate.reading("w", &gate.kind.state(&object), result.as_deref());
            let found = read.as_ref().map(|read| (read.answer, read.message.as_str()));
            assert_eq!(found, wanted, "{status}");
        };
        check(None, Value::Null, None);
        check(None, json!({"phase": "Pending"}), None);
        check(None, json!({"phase": "Running"}), None);
        check(None, json!({"phase": "Succeeded"}), Some((GateAnswer::Pass, "Workflow w succeeded")));
        let failed = json!({"phase": "Failed", "message": "child 'w-1' failed"});
        check(None, failed, Some((GateAnswer::Fail, "Workflow w failed: child 'w-1' failed")));
        let broken = json!({"phase": "Error"});
        check(None, broken, Some((GateAnswer::Error, "Workflow w broke: it does not say why")));
        let report = Some(("report", "result.x > 1"));
        let with = |value: Value| json!({"phase": "Succeeded", "outputs": {"parameters": [{"name": "report", "value": value}]}});
        check(report, with(json!("{\"x\": 2}")), Some((GateAnswer::Pass, "{\"x\":2} is result.x > 1")));
        check(report, with(json!("{\"x\": 1}")), Some((GateAnswer::Fail, "{\"x\":1} is not result.x > 1")));
        check(
            report,
            with(json!("ok")),
            Some((GateAnswer::Error, "the output parameter report of Workflow w is no JSON: \"ok\"")),
        );
        let own = json!({"phase": "Succeeded", "nodes": {
            "w-1": {"outputs": {"parameters": [{"name": "report", "value": "{\"x\": 1}"}]}},
            "w": {"outputs": {"parameters": [{"name": "report", "value": "{\"x\": 3}"}]}}}});
        check(report, own, Some((GateAnswer::Pass, "{\"x\":3} is result.x > 1")));
        let nothing = "Workflow w succeeded, but left no output parameter report";
        check(report, json!({"phase": "Succeeded"}), Some((GateAnswer::NoData, nothing)));
    }

    #[test]
    fn what_is_refused() {
        let check = |change: &dyn Fn(&mut WorkflowGate), wanted: &str| {
            let mut stated = inline(None);
            change(&mut stated);
            let error = Workflow::read(&stated, "1m").map(|_| ()).unwrap_err();
            assert!(error.why.starts_with(wanted), "{}", error.why);
        };
        check(&|gate| gate.spec = None, "spec.workflow: give either");
        check(
            &|gate| gate.workflow_template_ref = Some(WorkflowTemplateReference::default()),
            "spec.workflow: give either",
        );
        check(
            &|gate| gate.spec = Some(serde_json::Map::new()),
            "spec.workflow.spec: is the spec of a Workflow",
        );
        check(&|gate| gate.pass = Some("result > 1".into()), "spec.workflow.result: is the output parameter");
        check(
            &|gate| {
                gate.result = Some("a".into());
                gate.pass = Some("value > 1".into());
            },
            "spec.workflow.pass: value > 1: there is no value here",
        );
        check(
            &|gate| {
                gate.parameters.insert("url".into(), "{{canary}}".into());
            },
            "spec.workflow.parameters.url: there is no {{canary}}",
        );
    }
}
