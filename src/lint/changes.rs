//! Changes between two revisions that the API server or a controller refuses.

use serde_json::Value;

use super::Finding;
use super::pods::matches;
use super::rule::{Out, rules};
use super::set::Subject;

rules! { "Changes":
    IMMUTABLE_FIELD "immutable-field" Error Certain
        "a change of a field that cannot be changed"
        "The API server or a webhook refuses the update and the sync stops at this object. Take the change back, give the object another name (a run of training, a Job), or delete the old one first (`kubectl delete`; with --cascade=orphan the pods of a StatefulSet stay)."
    CHANGE_IGNORED "change-without-effect" Warning Certain
        "a change that is accepted and does nothing"
        "Pods of a training job that has begun are not replaced, and a run that has finished does not run again: the sync reports success and the old code stays. Give the job a name that changes with what it runs."
}

/// Fields that stay as they are: group, kind, path and who refuses.
const FIXED: &[(&str, &str, &str, &str)] = &[
    ("apps", "Deployment", "/spec/selector", SERVER),
    ("apps", "DaemonSet", "/spec/selector", SERVER),
    ("apps", "ReplicaSet", "/spec/selector", SERVER),
    ("apps", "StatefulSet", "/spec/selector", SERVER),
    ("apps", "StatefulSet", "/spec/serviceName", SERVER),
    ("apps", "StatefulSet", "/spec/volumeClaimTemplates", SERVER),
    ("apps", "StatefulSet", "/spec/podManagementPolicy", SERVER),
    ("batch", "Job", "/spec/template", SERVER),
    ("batch", "Job", "/spec/selector", SERVER),
    ("batch", "Job", "/spec/completionMode", SERVER),
    ("batch", "Job", "/spec/podFailurePolicy", SERVER),
    ("", "Service", "/spec/clusterIP", SERVER),
    ("", "PersistentVolumeClaim", "/spec/accessModes", SERVER),
    ("", "PersistentVolumeClaim", "/spec/storageClassName", SERVER),
    ("", "PersistentVolumeClaim", "/spec/selector", SERVER),
    ("", "PersistentVolumeClaim", "/spec/volumeName", SERVER),
    ("", "PersistentVolumeClaim", "/spec/volumeMode", SERVER),
    ("", "PersistentVolumeClaim", "/spec/dataSource", SERVER),
    ("", "Secret", "/type", SERVER),
    ("rbac.authorization.k8s.io", "RoleBinding", "/roleRef", SERVER),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "/roleRef", SERVER),
    ("storage.k8s.io", "StorageClass", "/provisioner", SERVER),
    ("storage.k8s.io", "StorageClass", "/parameters", SERVER),
    ("storage.k8s.io", "StorageClass", "/reclaimPolicy", SERVER),
    ("storage.k8s.io", "StorageClass", "/volumeBindingMode", SERVER),
    ("scheduling.k8s.io", "PriorityClass", "/value", SERVER),
    ("networking.k8s.io", "IngressClass", "/spec/controller", SERVER),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "/spec/scope", SERVER),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "/spec/group", SERVER),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "/spec/names/kind", SERVER),
    ("trainer.kubeflow.org", "TrainJob", "/spec/runtimeRef", "Kubeflow Trainer"),
    ("trainer.kubeflow.org", "TrainJob", "/spec/initializer", "Kubeflow Trainer"),
    ("trainer.kubeflow.org", "TrainJob", "/spec/trainer", "Kubeflow Trainer"),
    ("trainer.kubeflow.org", "TrainJob", "/spec/managedBy", "Kubeflow Trainer"),
    ("jobset.x-k8s.io", "JobSet", "/spec/replicatedJobs", "JobSet"),
    ("jobset.x-k8s.io", "JobSet", "/spec/successPolicy", "JobSet"),
    ("pipelines.kubeflow.org", "PipelineVersion", "/spec/pipelineSpec", "Kubeflow Pipelines"),
    ("pipelines.kubeflow.org", "PipelineVersion", "/spec/pipelineName", "Kubeflow Pipelines"),
    ("kubeflow.org", "Experiment", "/spec/objective", "Katib"),
    ("kubeflow.org", "Experiment", "/spec/algorithm", "Katib"),
    ("kubeflow.org", "Experiment", "/spec/parameters", "Katib"),
    ("kubeflow.org", "Experiment", "/spec/trialTemplate", "Katib"),
    ("serving.kserve.io", "TrainedModel", "/spec/model/memory", "KServe"),
    ("serving.kserve.io", "LocalModelCache", "/spec/sourceModelUri", "KServe"),
    (
        "serving.kserve.io",
        "InferenceService",
        "/metadata/annotations/serving.kserve.io~1deploymentMode",
        "KServe",
    ),
    ("kueue.x-k8s.io", "LocalQueue", "/spec/clusterQueue", "Kueue"),
];

const SERVER: &str = "the API server";

/// Kinds whose running or finished pods no edit reaches.
const RUNS: &[(&str, &str)] = &[
    ("kubeflow.org", "PyTorchJob"),
    ("kubeflow.org", "TFJob"),
    ("kubeflow.org", "XGBoostJob"),
    ("kubeflow.org", "MPIJob"),
    ("kubeflow.org", "PaddleJob"),
    ("kubeflow.org", "JAXJob"),
    ("ray.io", "RayJob"),
    ("argoproj.io", "Workflow"),
];

/// What cannot be changed, or changes nothing, between two revisions of one object. `subject` of each finding is 0.
pub fn changes(before: &Subject, after: &Subject) -> Vec<Finding> {
    let mut out = Out::default();
    let (group, kind) = (after.gvk.group.as_str(), after.gvk.kind.as_str());
    for (_, _, path, by) in FIXED.iter().filter(|(one, other, ..)| (*one, *other) == (group, kind)) {
        let (was, is) = (before.at(path), after.at(path));
        // What Git no longer states is left as it is; what it states for the first time may be what is there.
        if let (Some(was), Some(is)) = (was, is)
            && was != is
            && !defaulted(was, is)
        {
            let name = path.rsplit('/').next().unwrap_or_default().replace("~1", "/");
            let why = format!("{by} refuses another {name} for a {kind} that exists");
            out.add(&IMMUTABLE_FIELD, *path, why);
        }
    }
    if (group, kind) == ("", "PersistentVolumeClaim") {
        let size =
            |one: &Subject| one.at("/spec/resources/requests/storage").and_then(crate::model::quantity);
        if let (Some(was), Some(is)) = (size(before), size(after))
            && is < was
        {
            let why = "the API server refuses to make a claim smaller";
            out.add(&IMMUTABLE_FIELD, "/spec/resources/requests/storage", why);
        }
    }
    if matches!((group, kind), ("", "Secret" | "ConfigMap")) {
        let fixed = before.at("/immutable").and_then(Value::as_bool) == Some(true);
        for path in ["/data", "/stringData", "/binaryData"] {
            if fixed && before.at(path) != after.at(path) {
                out.add(&IMMUTABLE_FIELD, path, format!("this {kind} is immutable; another name is needed"));
            }
        }
    }
    if RUNS.contains(&(group, kind)) && !before.name().is_empty() {
        let spec = |one: &Subject| {
            let mut spec = one.at("/spec").cloned().unwrap_or_default();
            for field in
                ["suspend", "runPolicy", "shutdown", "ttlStrategy", "ttlSecondsAfterFinished", "podGC"]
            {
                spec.as_object_mut().map(|fields| fields.remove(field));
            }
            spec
        };
        if spec(before) != spec(after) {
            out.add(
                &CHANGE_IGNORED,
                "/spec",
                format!("a {kind} that has begun does not begin again by an edit"),
            );
        }
    }
    out.finish()
}

/// Whether two lists of claim templates or the like differ in nothing but their metadata's labels, which the server
/// compares too; kept apart so that an equal value under another spelling is no change.
fn defaulted(was: &Value, is: &Value) -> bool {
    let sizes = |value: &Value| -> Vec<Option<String>> {
        let found = matches(value, "/*/spec/resources/requests/storage");
        found.iter().map(|(_, size)| crate::model::quantity(size).map(|size| size.to_string())).collect()
    };
    let without = |value: &Value| {
        let mut value = value.clone();
        for item in value.as_array_mut().into_iter().flatten() {
            if let Some(size) = item.pointer_mut("/spec/resources/requests/storage") {
                *size = Value::Null;
            }
        }
        value
    };
    was.is_array() && sizes(was) == sizes(is) && without(was) == without(is)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Origin;

    fn check(kind: (&str, &str), before: &Value, after: &Value, expected: &[&str]) {
        let object = |fields: &Value| {
            let mut value = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": "x"}});
            for (name, field) in fields.as_object().unwrap() {
                value[name] = field.clone();
            }
            Subject::read(value, &Origin::default()).remove(0)
        };
        let found: Vec<String> = changes(&object(before), &object(after))
            .iter()
            .map(|finding| format!("{} {}", finding.rule.id, finding.pointer))
            .collect();
        assert_eq!(found, expected, "{kind:?}");
    }

    #[test]
    fn fields_that_cannot_be_changed() {
        let (one, two) =
            (json!({"spec": {"template": {"spec": 1}}}), json!({"spec": {"template": {"spec": 2}}}));
        check(("batch/v1", "Job"), &one, &two, &["immutable-field /spec/template"]);
        check(("batch/v1", "Job"), &one, &one, &[]);
        check(("apps/v1", "Deployment"), &one, &two, &[]);
        let selector = |name: &str| json!({"spec": {"selector": {"matchLabels": {"app": name}}}});
        check(("apps/v1", "Deployment"), &selector("a"), &selector("b"), &["immutable-field /spec/selector"]);
        let claim = |size: &str| json!({"spec": {"volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": size}}}}]}});
        check(("apps/v1", "StatefulSet"), &claim("1Gi"), &claim("1024Mi"), &[]);
        check(
            ("apps/v1", "StatefulSet"),
            &claim("1Gi"),
            &claim("2Gi"),
            &["immutable-field /spec/volumeClaimTemplates"],
        );
        let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        check(("v1", "PersistentVolumeClaim"), &size("1Gi"), &size("2Gi"), &[]);
        let smaller = ["immutable-field /spec/resources/requests/storage"];
        check(("v1", "PersistentVolumeClaim"), &size("2Gi"), &size("1Gi"), &smaller);
        let data = |text: &str| json!({"immutable": true, "data": {"a": text}});
        check(("v1", "ConfigMap"), &data("1"), &data("2"), &["immutable-field /data"]);
    }

    #[test]
    fn edits_that_reach_no_run() {
        let job = |image: &str, suspend: bool| json!({"spec": {"runPolicy": {"suspend": suspend}, "pytorchReplicaSpecs": image}});
        check(
            ("kubeflow.org/v1", "PyTorchJob"),
            &job("a", false),
            &job("b", false),
            &["change-without-effect /spec"],
        );
        check(("kubeflow.org/v1", "PyTorchJob"), &job("a", false), &job("a", true), &[]);
    }
}
