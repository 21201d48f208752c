//! Training: the jobs of the training operator, TrainJobs and their runtimes, Kueue.

use serde_json::Value;

use super::references::missing;
use crate::lint::rule::{Out, rules};
use crate::lint::schema::nearest;
use crate::lint::set::{Set, Subject};
use crate::render::explain::below;

rules! { "Training":
    REPLICA_TYPE "training-replica-type" Error Certain
        "a role of replicas that the job's kind does not have, or lacks"
        "The operator refuses the job, or passes the role over and starts fewer pods. Roles are Master and Worker (PyTorch, XGBoost, Paddle), PS, Worker, Chief, Master and Evaluator (TensorFlow), Launcher and Worker (MPI), Worker (JAX)."
    MASTER_REPLICAS "training-master-replicas" Error Certain
        "more than one master"
        "Rendezvous has one address: the operator refuses a Master or Launcher with more than one replica, and a TFJob with more than one Chief or Master."
    CONTAINER_NAME "training-container-name" Error Certain
        "a job without the container that its operator looks for"
        "The operator adds ports and environment to the container of one name (pytorch, tensorflow, xgboost, mpi, jax, paddle) and refuses a job without it."
    ELASTIC "training-elastic" Error Certain
        "an elastic policy that contradicts itself"
        "minReplicas must not be larger than maxReplicas, the number of workers lies between them, and there must be a Worker."
    PODS_STAY "training-pods-stay" Info Likely
        "a training job whose pods stay when it has finished"
        "cleanPodPolicy is None where nothing is said: a worker that hangs after the master has ended keeps its GPUs. Running sets them free; ttlSecondsAfterFinished would delete the job too, which the next sync runs again."
    RUNTIME "train-job-runtime" Error Certain
        "a TrainJob or runtime that the webhook refuses"
        "A TrainJob names a runtime; a runtime has at most one of the policies torch, mpi, jax, xgboost and flux, and numNodes is not negative."
    QUEUE "kueue-queue-unknown" Info Likely
        "a queue that is not in the tree, which has others"
        "A workload for a LocalQueue that does not exist waits for ever, suspended. It may exist in the cluster."
    QUEUE_MISSING "kueue-queue-missing" Info Likely
        "a job without a queue in a namespace with queues"
        "Kueue does not see a job without the label kueue.x-k8s.io/queue-name: it starts at once, beside the quota of all others."
}

struct Kind {
    name: &'static str,
    field: &'static str,
    container: &'static str,
    roles: &'static [&'static str],
    /// At most one replica.
    single: &'static [&'static str],
    needed: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind {
        name: "PyTorchJob",
        field: "pytorchReplicaSpecs",
        container: "pytorch",
        roles: &["Master", "Worker"],
        single: &["Master"],
        needed: &[],
    },
    Kind {
        name: "TFJob",
        field: "tfReplicaSpecs",
        container: "tensorflow",
        roles: &["PS", "Worker", "Chief", "Master", "Evaluator"],
        single: &["Chief", "Master"],
        needed: &[],
    },
    Kind {
        name: "XGBoostJob",
        field: "xgbReplicaSpecs",
        container: "xgboost",
        roles: &["Master", "Worker"],
        single: &["Master"],
        needed: &["Master"],
    },
    Kind {
        name: "PaddleJob",
        field: "paddleReplicaSpecs",
        container: "paddle",
        roles: &["Master", "Worker"],
        single: &["Master"],
        needed: &[],
    },
    Kind {
        name: "JAXJob",
        field: "jaxReplicaSpecs",
        container: "jax",
        roles: &["Worker"],
        single: &[],
        needed: &["Worker"],
    },
    // The container of an MPIJob may have any name.
    Kind {
        name: "MPIJob",
        field: "mpiReplicaSpecs",
        container: "",
        roles: &["Launcher", "Worker"],
        single: &["Launcher"],
        needed: &["Launcher"],
    },
];

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    let (group, kind) = (subject.gvk.group.as_str(), subject.gvk.kind.as_str());
    let known = KINDS.iter().find(|one| one.name == kind);
    if let Some(known) = known.filter(|_| group == "kubeflow.org" && subject.gvk.version != "v1alpha1") {
        job(subject, known, out);
    }
    match (group, kind) {
        ("trainer.kubeflow.org", "TrainJob") => {
            let name = subject.text("/spec/runtimeRef/name");
            if name.is_empty() {
                out.add(&RUNTIME, "/spec", "the TrainJob names no runtime");
            }
            let kind = match subject.text("/spec/runtimeRef/kind") {
                "" => "ClusterTrainingRuntime",
                kind => kind,
            };
            missing(subject, set, "trainer.kubeflow.org", kind, name, "/spec/runtimeRef/name", out);
        }
        ("trainer.kubeflow.org", "TrainingRuntime" | "ClusterTrainingRuntime") => {
            let policy = subject.at("/spec/mlPolicy").and_then(Value::as_object);
            let given: Vec<&str> = (["torch", "mpi", "jax", "xgboost", "flux"].into_iter())
                .filter(|name| {
                    policy.is_some_and(|policy| policy.get(*name).is_some_and(|value| !value.is_null()))
                })
                .collect();
            if given.len() > 1 {
                let why = format!("{} are given, and only one may be", given.join(" and "));
                out.add(&RUNTIME, "/spec/mlPolicy", why);
            }
            if subject.at("/spec/mlPolicy/numNodes").and_then(Value::as_i64).is_some_and(|number| number < 0)
            {
                out.add(&RUNTIME, "/spec/mlPolicy/numNodes", "the number of nodes is negative");
            }
        }
        _ => {}
    }
    queue(subject, known.is_some() && group == "kubeflow.org", set, out);
}

fn job(subject: &Subject, kind: &Kind, out: &mut Out) {
    let base = format!("/spec/{}", kind.field);
    let Some(roles) = subject.at(&base).and_then(Value::as_object) else { return };
    // Old versions of the operators take any case.
    let role =
        |name: &str| roles.iter().find(|(role, _)| role.eq_ignore_ascii_case(name)).map(|(_, spec)| spec);
    for (name, spec) in roles {
        let path = below(&base, name);
        let Some(known) = kind.roles.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            let near = nearest(name, kind.roles.iter().copied());
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let why = format!("{} has no role {name}, only {}{near}", kind.name, kind.roles.join(", "));
            out.add(&REPLICA_TYPE, path, why);
            continue;
        };
        let replicas = spec.get("replicas").and_then(Value::as_i64).unwrap_or(1);
        if kind.single.contains(known) && replicas > 1 {
            let why = format!("{replicas} replicas of {known}, and there may be one");
            out.add(&MASTER_REPLICAS, format!("{path}/replicas"), why);
        }
        let containers = spec.pointer("/template/spec/containers").and_then(Value::as_array);
        let named = |list: &Vec<Value>| {
            list.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(kind.container))
        };
        if let Some(list) = containers.filter(|list| !kind.container.is_empty() && !list.is_empty())
            && !named(list)
        {
            let why = format!("no container of {known} is called {}", kind.container);
            out.add(&CONTAINER_NAME, format!("{path}/template/spec/containers"), why);
        }
    }
    for needed in kind.needed.iter().filter(|needed| role(needed).is_none()) {
        // With runLauncherAsWorker or a launcher of its own, an MPIJob still has one.
        out.add(&REPLICA_TYPE, base.as_str(), format!("{} needs the role {needed}", kind.name));
    }
    if kind.name == "TFJob" && role("Chief").is_some() && role("Master").is_some() {
        out.add(&MASTER_REPLICAS, base.as_str(), "Chief and Master are the same role; only one may be given");
    }
    if let Some(policy) = subject.at("/spec/elasticPolicy") {
        let number = |field: &str| policy.get(field).and_then(Value::as_i64);
        let worker = role("Worker");
        let replicas = worker.map(|worker| worker.get("replicas").and_then(Value::as_i64).unwrap_or(1));
        let (least, most) = (number("minReplicas"), number("maxReplicas"));
        let why = match (replicas, least, most) {
            (None, _, _) => Some("an elastic job needs a Worker".to_owned()),
            (_, Some(least), Some(most)) if least > most => {
                Some(format!("at least {least} and at most {most} replicas"))
            }
            (Some(count), Some(least), _) if count < least => {
                Some(format!("{count} workers, and there must be at least {least}"))
            }
            (Some(count), _, Some(most)) if count > most => {
                Some(format!("{count} workers, and there may be at most {most}"))
            }
            _ => None,
        };
        if let Some(why) = why {
            out.add(&ELASTIC, "/spec/elasticPolicy", why);
        }
    }
    let policy = subject.at("/spec/runPolicy/cleanPodPolicy").or(subject.at("/spec/cleanPodPolicy"));
    let stays = policy.is_none_or(|policy| policy.as_str() == Some("None"));
    if stays && subject.at("/spec/runPolicy/ttlSecondsAfterFinished").is_none() && asks_for_gpus(subject) {
        let why = "pods that are left when the job has ended keep their GPUs";
        out.add(&PODS_STAY, "/spec", why);
    }
}

fn asks_for_gpus(subject: &Subject) -> bool {
    let pods = crate::lint::pods::pods(subject);
    pods.iter().flat_map(crate::lint::pods::Pod::containers).any(|container| {
        let limits = container.value.pointer("/resources/limits").and_then(Value::as_object);
        limits.is_some_and(|limits| limits.keys().any(|name| name.ends_with("/gpu")))
    })
}

/// Kinds that Kueue takes.
fn is_queued(subject: &Subject, training: bool) -> bool {
    let (group, kind) = (subject.gvk.group.as_str(), subject.gvk.kind.as_str());
    let known = [
        ("batch", "Job"),
        ("jobset.x-k8s.io", "JobSet"),
        ("trainer.kubeflow.org", "TrainJob"),
        ("ray.io", "RayJob"),
    ];
    training || known.contains(&(group, kind))
}

fn queue(subject: &Subject, training: bool, set: &Set<'_>, out: &mut Out) {
    const QUEUE_NAME: &str = "kueue.x-k8s.io/queue-name";
    if let Some(name) = subject.label(QUEUE_NAME) {
        let at = below("/metadata/labels", QUEUE_NAME);
        if set.lacks("kueue.x-k8s.io", "LocalQueue", &subject.namespace, name) {
            out.add(&QUEUE, at, format!("the LocalQueue {name} is not in the tree, where others are"));
        }
    } else if is_queued(subject, training) {
        let mut queues = set.all("kueue.x-k8s.io", "LocalQueue");
        let near = queues.any(|queue| !queue.namespace.is_empty() && queue.namespace == subject.namespace);
        if near && !subject.is_hook() {
            let why = format!("there are queues in {}, and this job is in none", subject.namespace);
            out.add(&QUEUE_MISSING, "/metadata", why);
        }
    }
}
