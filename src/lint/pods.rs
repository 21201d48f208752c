//! Where the pods of an object are described, in every kind that has some.

use serde_json::Value;

use super::Subject;
use crate::render::explain::below;

/// What the pods are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Stay and answer.
    Serve,
    /// End.
    Run,
}

/// One description of pods.
#[derive(Clone, Debug)]
pub(super) struct Pod<'a> {
    /// Where it stands, as a JSON pointer.
    pub(super) pointer: String,
    /// The pod's spec.
    pub(super) spec: &'a Value,
    /// Where its spec stands.
    pub(super) at: String,
    /// Its metadata; none where the pods have the object's own.
    pub(super) metadata: Option<&'a Value>,
    pub(super) purpose: Purpose,
    /// Whether it becomes a pod as it stands, without volumes or containers of a controller's own.
    pub(super) whole: bool,
    /// Containers outside of `containers`.
    more: Vec<String>,
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub(super) struct Container<'a> {
    pub(super) pointer: String,
    pub(super) value: &'a Value,
    /// Ends before the others begin, or runs beside them as a sidecar.
    pub(super) init: bool,
}

impl<'a> Container<'a> {
    pub(super) fn name(&self) -> &'a str {
        self.value.get("name").and_then(Value::as_str).unwrap_or_default()
    }
}

impl<'a> Pod<'a> {
    /// All containers.
    pub(super) fn containers(&self) -> Vec<Container<'a>> {
        let mut found = Vec::new();
        for (field, init) in [("initContainers", true), ("containers", false)] {
            let list = self.spec.get(field).and_then(Value::as_array).into_iter().flatten();
            found.extend(list.enumerate().map(|(at, value)| Container {
                pointer: format!("{}/{field}/{at}", self.at),
                value,
                init,
            }));
        }
        for path in &self.more {
            if let Some(value) = self.spec.pointer(path).filter(|value| value.is_object()) {
                found.push(Container { pointer: format!("{}{path}", self.at), value, init: false });
            }
        }
        found
    }

    /// A label of the pods.
    pub(super) fn labels(&self) -> Option<&'a Value> {
        self.metadata?.get("labels")
    }
}

/// Kinds with one template, by group and kind: where it is and what it is for.
const TEMPLATES: &[(&str, &str, &str, Purpose)] = &[
    ("apps", "Deployment", "/spec/template", Purpose::Serve),
    ("apps", "StatefulSet", "/spec/template", Purpose::Serve),
    ("apps", "DaemonSet", "/spec/template", Purpose::Serve),
    ("apps", "ReplicaSet", "/spec/template", Purpose::Serve),
    ("", "ReplicationController", "/spec/template", Purpose::Serve),
    ("", "PodTemplate", "/template", Purpose::Run),
    ("batch", "Job", "/spec/template", Purpose::Run),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template", Purpose::Run),
    ("argoproj.io", "Rollout", "/spec/template", Purpose::Serve),
    ("kubeflow.org", "Notebook", "/spec/template", Purpose::Serve),
    (
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        "/spec/leaderWorkerTemplate/leaderTemplate",
        Purpose::Serve,
    ),
    (
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        "/spec/leaderWorkerTemplate/workerTemplate",
        Purpose::Serve,
    ),
    ("ray.io", "RayCluster", "/spec/headGroupSpec/template", Purpose::Serve),
    ("ray.io", "RayCluster", "/spec/workerGroupSpecs/*/template", Purpose::Serve),
    ("ray.io", "RayJob", "/spec/rayClusterSpec/headGroupSpec/template", Purpose::Run),
    ("ray.io", "RayJob", "/spec/rayClusterSpec/workerGroupSpecs/*/template", Purpose::Run),
    ("ray.io", "RayService", "/spec/rayClusterConfig/headGroupSpec/template", Purpose::Serve),
    ("ray.io", "RayService", "/spec/rayClusterConfig/workerGroupSpecs/*/template", Purpose::Serve),
    ("jobset.x-k8s.io", "JobSet", "/spec/replicatedJobs/*/template/spec/template", Purpose::Run),
    ("batch.volcano.sh", "Job", "/spec/tasks/*/template", Purpose::Run),
    ("trainer.kubeflow.org", "TrainingRuntime", TRAINING, Purpose::Run),
    ("trainer.kubeflow.org", "ClusterTrainingRuntime", TRAINING, Purpose::Run),
    ("kubeflow.org", "PyTorchJob", "/spec/pytorchReplicaSpecs/*/template", Purpose::Run),
    ("kubeflow.org", "TFJob", "/spec/tfReplicaSpecs/*/template", Purpose::Run),
    ("kubeflow.org", "XGBoostJob", "/spec/xgbReplicaSpecs/*/template", Purpose::Run),
    ("kubeflow.org", "MPIJob", "/spec/mpiReplicaSpecs/*/template", Purpose::Run),
    ("kubeflow.org", "PaddleJob", "/spec/paddleReplicaSpecs/*/template", Purpose::Run),
    ("kubeflow.org", "JAXJob", "/spec/jaxReplicaSpecs/*/template", Purpose::Run),
];

const TRAINING: &str = "/spec/template/spec/replicatedJobs/*/template/spec/template";

/// Fields of a predictor, transformer or explainer that are containers beside the list.
const SERVERS: &[&str] = &[
    "/model",
    "/sklearn",
    "/xgboost",
    "/tensorflow",
    "/pytorch",
    "/triton",
    "/onnx",
    "/huggingface",
    "/pmml",
    "/lightgbm",
    "/paddle",
];

/// All descriptions of pods in an object.
pub(super) fn pods(subject: &Subject) -> Vec<Pod<'_>> {
    let (group, kind) = (subject.gvk.group.as_str(), subject.gvk.kind.as_str());
    let mut found = Vec::new();
    if (group, kind) == ("", "Pod") {
        found.extend(subject.at("/spec").map(|spec| Pod {
            pointer: String::new(),
            spec,
            at: "/spec".to_owned(),
            metadata: subject.at("/metadata"),
            purpose: Purpose::Run,
            whole: true,
            more: Vec::new(),
        }));
    }
    for (_, _, path, purpose) in TEMPLATES.iter().filter(|one| (one.0, one.1) == (group, kind)) {
        // Ray, Volcano and the runtimes of the trainer add volumes and environment of their own.
        let whole = matches!(group, "" | "apps" | "batch" | "argoproj.io" | "kubeflow.org");
        for (pointer, template) in matches(&subject.value, path) {
            let Some(spec) = template.get("spec").filter(|spec| spec.is_object()) else { continue };
            found.push(Pod {
                at: format!("{pointer}/spec"),
                pointer,
                spec,
                metadata: template.get("metadata"),
                purpose: *purpose,
                whole,
                more: Vec::new(),
            });
        }
    }
    match (group, kind) {
        ("serving.kserve.io", "InferenceService") => {
            for part in ["predictor", "transformer", "explainer"] {
                found.extend(bare(subject, &format!("/spec/{part}"), Purpose::Serve, SERVERS));
            }
        }
        ("serving.kserve.io", "ServingRuntime" | "ClusterServingRuntime") => {
            found.extend(bare(subject, "/spec", Purpose::Serve, &[]));
        }
        ("serving.knative.dev", "Service" | "Configuration") => {
            found.extend(bare(subject, "/spec/template/spec", Purpose::Serve, &[]));
        }
        ("argoproj.io", "Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate" | "CronWorkflow") => {
            let spec = if kind == "CronWorkflow" { "/spec/workflowSpec" } else { "/spec" };
            for (pointer, _) in matches(&subject.value, &format!("{spec}/templates/*")) {
                found.extend(bare(subject, &pointer, Purpose::Run, &["/container", "/script"]));
            }
        }
        _ => {}
    }
    found
}

fn bare<'a>(subject: &'a Subject, at: &str, purpose: Purpose, more: &[&str]) -> Option<Pod<'a>> {
    let spec = subject.at(at).filter(|spec| spec.is_object())?;
    Some(Pod {
        pointer: at.to_owned(),
        spec,
        at: at.to_owned(),
        metadata: None,
        purpose,
        whole: false,
        more: more.iter().map(|path| (*path).to_owned()).collect(),
    })
}

/// Everything that a path leads to; `*` is each entry of a list or map.
pub(super) fn matches<'a>(value: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    let mut found = vec![(String::new(), value)];
    for part in path.split('/').skip(1) {
        let mut next = Vec::new();
        for (pointer, value) in found {
            match (part, value) {
                ("*", Value::Array(items)) => {
                    next.extend(items.iter().enumerate().map(|(at, item)| (format!("{pointer}/{at}"), item)));
                }
                ("*", Value::Object(fields)) => {
                    next.extend(fields.iter().map(|(name, item)| (below(&pointer, name), item)));
                }
                (name, Value::Object(fields)) => {
                    next.extend(fields.get(name).map(|item| (below(&pointer, name), item)));
                }
                _ => {}
            }
        }
        found = next;
    }
    found
}
