//! Kubeflow Pipelines: the compiled pipeline inside of a PipelineVersion.

use std::collections::HashMap;

use serde_json::Value;

use super::kserve::cycle;
use crate::lint::rule::{Out, rules};
use crate::lint::set::Subject;
use crate::render::explain::below;

rules! { "Kubeflow Pipelines":
    PIPELINE "pipeline-spec" Error Certain
        "a compiled pipeline that does not hold together"
        "A task names a component, executor or task that the pipelineSpec does not have, or tasks wait for each other; the run fails. Compile the pipeline again rather than editing its result."
}

pub(super) fn check(subject: &Subject, out: &mut Out) {
    if !subject.is("pipelines.kubeflow.org", "PipelineVersion") {
        return;
    }
    let base = "/spec/pipelineSpec";
    let Some(spec) = subject.at(base).filter(|spec| spec.get("root").is_some()) else { return };
    let components = spec.get("components").and_then(Value::as_object);
    let executors = spec.pointer("/deploymentSpec/executors").and_then(Value::as_object);
    if let Some(dag) = spec.pointer("/root/dag") {
        tasks(dag, &format!("{base}/root/dag"), components, out);
    }
    for (name, component) in components.into_iter().flatten() {
        let path = below(&format!("{base}/components"), name);
        if let Some(dag) = component.get("dag") {
            tasks(dag, &format!("{path}/dag"), components, out);
        }
        if let Some(label) = component.get("executorLabel").and_then(Value::as_str)
            && !executors.is_some_and(|executors| executors.contains_key(label))
        {
            out.add(&PIPELINE, format!("{path}/executorLabel"), format!("there is no executor {label}"));
        }
    }
}

fn tasks(dag: &Value, path: &str, components: Option<&serde_json::Map<String, Value>>, out: &mut Out) {
    let Some(tasks) = dag.get("tasks").and_then(Value::as_object) else { return };
    let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, task) in tasks {
        let path = below(&format!("{path}/tasks"), name);
        if let Some(component) = task.pointer("/componentRef/name").and_then(Value::as_str)
            && !components.is_some_and(|known| known.contains_key(component))
        {
            out.add(
                &PIPELINE,
                format!("{path}/componentRef/name"),
                format!("there is no component {component}"),
            );
        }
        let waits = task.get("dependentTasks").and_then(Value::as_array).into_iter().flatten().enumerate();
        let mut before: Vec<(String, &str)> = waits
            .filter_map(|(at, name)| Some((format!("{path}/dependentTasks/{at}"), name.as_str()?)))
            .collect();
        for kind in ["parameters", "artifacts"] {
            let inputs =
                task.pointer(&format!("/inputs/{kind}")).and_then(Value::as_object).into_iter().flatten();
            for (input, value) in inputs {
                for field in ["taskOutputParameter", "taskOutputArtifact"] {
                    if let Some(producer) =
                        value.pointer(&format!("/{field}/producerTask")).and_then(Value::as_str)
                    {
                        let at = format!(
                            "{}/{field}/producerTask",
                            below(&format!("{path}/inputs/{kind}"), input)
                        );
                        before.push((at, producer));
                    }
                }
            }
        }
        for (at, other) in before {
            if tasks.contains_key(other) {
                edges.entry(name).or_default().push(other);
            } else {
                out.add(&PIPELINE, at, format!("there is no task {other}"));
            }
        }
    }
    if let Some(cycle) = cycle(&edges) {
        out.add(&PIPELINE, format!("{path}/tasks"), format!("the tasks wait round: {}", cycle.join(" -> ")));
    }
}
