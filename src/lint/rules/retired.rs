//! Kinds that their projects no longer have.

use crate::lint::rule::{Out, rules};
use crate::lint::set::Subject;

rules! { "Retired kinds":
    RETIRED_KIND "retired-kind" Error Likely
        "a kind or version that its project has removed"
        "Only releases that are no longer maintained know it: with a current operator no CRD serves it and the sync fails. The message names what takes its place."
}

/// Group, kinds, versions (all where empty), what happened.
const RETIRED: &[(&str, &[&str], &[&str], &str)] = &[
    (
        "kubeflow.org",
        &["MXJob"],
        &[],
        "the training operator has no MXJob since 1.9, and Apache MXNet is retired; a TrainJob or MPIJob takes its place",
    ),
    (
        "kubeflow.org",
        &["ChainerJob"],
        &[],
        "chainer-operator is archived since 2021; a TrainJob or MPIJob takes its place",
    ),
    (
        "kubeflow.org",
        &["TFJob", "PyTorchJob", "XGBoostJob", "MPIJob"],
        &["v1alpha1", "v1alpha2", "v1beta1", "v1beta2"],
        "operators serve v1 alone (v2beta1 for the MPIJob of mpi-operator)",
    ),
    ("xgboostjob.kubeflow.org", &["XGBoostJob"], &[], "the training operator serves it as kubeflow.org/v1"),
    (
        "kubeflow.org",
        &["TrainJob", "TrainingRuntime", "ClusterTrainingRuntime"],
        &["v2alpha1"],
        "the trainer serves it as trainer.kubeflow.org/v1alpha1",
    ),
    (
        "kubeflow.org",
        &["Experiment", "Trial", "Suggestion", "StudyJob"],
        &["v1alpha1", "v1alpha2", "v1alpha3"],
        "Katib serves v1beta1",
    ),
    ("serving.kubeflow.org", &[], &[], "KFServing is KServe since 0.7: serving.kserve.io/v1beta1"),
    ("serving.kserve.io", &["InferenceService"], &["v1alpha2"], "KServe serves v1beta1"),
    (
        "machinelearning.seldon.io",
        &["SeldonDeployment"],
        &["v1alpha1", "v1alpha2", "v1alpha3"],
        "Seldon Core 1 serves v1; Core 2 has Model and Pipeline of mlops.seldon.io",
    ),
    ("argoproj.io", &["Gateway"], &["v1alpha1"], "Argo Events has EventSource in place of Gateway since 1.0"),
    (
        "ray.io",
        &["RayCluster", "RayJob", "RayService"],
        &["v1alpha1"],
        "KubeRay serves v1 since 1.0 and drops v1alpha1",
    ),
    ("cluster.ray.io", &[], &[], "KubeRay serves ray.io/v1"),
    ("serving.knative.dev", &[], &["v1alpha1", "v1beta1"], "Knative Serving serves v1"),
    ("app.k8s.io", &["Application"], &[], "the project is archived; nothing reads it"),
    (
        "source.toolkit.fluxcd.io",
        &["GitRepository", "HelmRepository", "HelmChart"],
        &["v1beta1"],
        "Flux 2.7 serves v1 alone",
    ),
    ("kustomize.toolkit.fluxcd.io", &["Kustomization"], &["v1alpha1", "v1beta1"], "Flux 2.7 serves v1 alone"),
    ("helm.toolkit.fluxcd.io", &["HelmRelease"], &["v2beta1"], "Flux 2.7 serves v2"),
    (
        "gateway.networking.k8s.io",
        &["Gateway", "GatewayClass", "HTTPRoute"],
        &["v1alpha2"],
        "the Gateway API serves v1",
    ),
];

pub(super) fn check(subject: &Subject, out: &mut Out) {
    let gvk = &subject.gvk;
    let found = RETIRED.iter().find(|(group, kinds, versions, _)| {
        *group == gvk.group
            && (kinds.is_empty() || kinds.contains(&gvk.kind.as_str()))
            && (versions.is_empty() || versions.contains(&gvk.version.as_str()))
    });
    if let Some((_, _, _, what)) = found {
        out.add(&RETIRED_KIND, "/apiVersion", format!("{} {}: {what}", gvk.api_version(), gvk.kind));
    }
}
