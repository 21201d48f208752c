//! KubeRay: clusters, jobs, services.

use std::collections::HashSet;

use serde_json::Value;

use super::containers::is_template;
use crate::lint::rule::{Out, rules};
use crate::lint::set::Subject;
use crate::model::yaml;

rules! { "Ray":
    GROUPS "ray-groups" Error Certain
        "worker groups that the operator refuses"
        "Each group has a name of its own, minReplicas is not larger than maxReplicas, and replicas lies between them."
    AUTOSCALER "ray-autoscaler-replicas" Warning Likely
        "replicas in Git of a group that the autoscaler decides"
        "With enableInTreeAutoscaling the autoscaler writes workerGroupSpecs[].replicas; a sync that writes it too stops workers in the middle of their work. Leave replicas out (minReplicas and maxReplicas stay)."
    VERSION "ray-version-mismatch" Warning Likely
        "an image of another Ray than rayVersion says"
        "KubeRay chooses flags and the autoscaler's image by rayVersion; with another Ray in the image the cluster may not come up. Keep both equal."
    JOB "ray-job" Error Certain
        "a RayJob that the operator refuses"
        "A RayJob has a cluster of its own (rayClusterSpec) or chooses one (clusterSelector), and an entrypoint; suspend needs shutdownAfterJobFinishes."
    SERVE_CONFIG "ray-serve-config" Error Certain
        "a serveConfigV2 that Ray Serve refuses"
        "It is YAML in a text, with a list of applications; each has an import_path, and name and route_prefix are not used twice."
}

pub(super) fn check(subject: &Subject, out: &mut Out) {
    if subject.gvk.group != "ray.io" {
        return;
    }
    match subject.gvk.kind.as_str() {
        "RayCluster" => cluster(subject, "/spec", out),
        "RayJob" => {
            cluster(subject, "/spec/rayClusterSpec", out);
            job(subject, out);
        }
        "RayService" => {
            cluster(subject, "/spec/rayClusterConfig", out);
            serve(subject, out);
        }
        _ => {}
    }
}

fn cluster(subject: &Subject, base: &str, out: &mut Out) {
    let scaled =
        subject.at(&format!("{base}/enableInTreeAutoscaling")).and_then(Value::as_bool) == Some(true);
    let mut names = HashSet::new();
    for (at, group) in subject.list(&format!("{base}/workerGroupSpecs")).iter().enumerate() {
        let path = format!("{base}/workerGroupSpecs/{at}");
        let name = group.get("groupName").and_then(Value::as_str).unwrap_or_default();
        if !name.is_empty() && !names.insert(name) {
            out.add(&GROUPS, format!("{path}/groupName"), format!("two groups are called {name}"));
        }
        let number = |field: &str| group.get(field).and_then(Value::as_i64);
        let (replicas, least, most) = (number("replicas"), number("minReplicas"), number("maxReplicas"));
        match (replicas, least, most) {
            (_, Some(least), Some(most)) if least > most => {
                let why = format!("{name}: at least {least} and at most {most} replicas");
                out.add(&GROUPS, format!("{path}/minReplicas"), why);
            }
            (Some(count), _, Some(most)) if count > most => {
                out.add(
                    &GROUPS,
                    format!("{path}/replicas"),
                    format!("{name}: {count} replicas, and at most {most}"),
                );
            }
            (Some(count), Some(least), _) if count < least => {
                out.add(
                    &GROUPS,
                    format!("{path}/replicas"),
                    format!("{name}: {count} replicas, and at least {least}"),
                );
            }
            _ => {}
        }
        if scaled && replicas.is_some() {
            let why = format!("the autoscaler decides the replicas of {name}, and Git states them too");
            out.add(&AUTOSCALER, format!("{path}/replicas"), why);
        }
    }
    version(subject, base, out);
}

fn version(subject: &Subject, base: &str, out: &mut Out) {
    let wanted = subject.text(&format!("{base}/rayVersion"));
    if wanted.is_empty() || is_template(wanted) {
        return;
    }
    for container in crate::lint::pods::pods(subject).iter().flat_map(crate::lint::pods::Pod::containers) {
        let image = container.value.get("image").and_then(Value::as_str).unwrap_or_default();
        let Some((name, tag)) = image.rsplit_once(':') else { continue };
        // The project's own images alone say which Ray is in them: 2.41.0-py310-gpu.
        if !name.ends_with("rayproject/ray") && !name.ends_with("rayproject/ray-ml") {
            continue;
        }
        let found = tag.split(['-', '.']).take(3).collect::<Vec<_>>().join(".");
        let is_version =
            found.split('.').count() == 3 && found.split('.').all(|part| part.parse::<u32>().is_ok());
        if is_version && found != wanted {
            let why = format!("rayVersion is {wanted}, and the image {image} has {found}");
            out.add(&VERSION, format!("{}/image", container.pointer), why);
        }
    }
}

fn job(subject: &Subject, out: &mut Out) {
    let own = subject.at("/spec/rayClusterSpec").is_some();
    let chosen =
        subject.at("/spec/clusterSelector").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    if !own && !chosen {
        out.add(&JOB, "/spec", "it has neither a rayClusterSpec nor a clusterSelector");
    }
    let set = |path: &str| subject.at(path).and_then(Value::as_bool) == Some(true);
    if set("/spec/suspend") && !set("/spec/shutdownAfterJobFinishes") {
        out.add(&JOB, "/spec/suspend", "suspend needs shutdownAfterJobFinishes: true");
    }
    if set("/spec/suspend") && chosen {
        out.add(&JOB, "/spec/suspend", "a job in a cluster that it has chosen cannot be suspended");
    }
    let interactive = subject.text("/spec/submissionMode") == "InteractiveMode";
    if subject.text("/spec/entrypoint").is_empty() && !interactive {
        out.add(&JOB, "/spec", "there is no entrypoint");
    }
    if let Some(limit) =
        subject.at("/spec/activeDeadlineSeconds").and_then(Value::as_i64).filter(|limit| *limit <= 0)
    {
        out.add(&JOB, "/spec/activeDeadlineSeconds", format!("{limit} s are no time to run in"));
    }
}

fn serve(subject: &Subject, out: &mut Out) {
    let path = "/spec/serveConfigV2";
    let text = subject.text(path);
    if text.trim().is_empty() || is_template(text) {
        return;
    }
    let documents = match yaml::read(text.as_bytes(), "serveConfigV2") {
        Ok(documents) => documents,
        Err(error) => {
            out.add(&SERVE_CONFIG, path, format!("the text is no YAML: {}", error.why));
            return;
        }
    };
    let value = documents.first().map(|document| &document.value);
    let list = value.and_then(|value| value.get("applications")).and_then(Value::as_array);
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        out.add(&SERVE_CONFIG, path, "it has no applications");
        return;
    };
    let (mut names, mut prefixes) = (HashSet::new(), HashSet::new());
    for application in list {
        let text = |field: &str| application.get(field).and_then(Value::as_str);
        let name = text("name").unwrap_or("default");
        if text("import_path").unwrap_or_default().is_empty() {
            out.add(&SERVE_CONFIG, path, format!("the application {name} has no import_path"));
        }
        if !names.insert(name) {
            out.add(&SERVE_CONFIG, path, format!("two applications are called {name}"));
        }
        let prefix = if application.get("route_prefix").is_some_and(Value::is_null) {
            None
        } else {
            Some(text("route_prefix").unwrap_or("/"))
        };
        if let Some(prefix) = prefix.filter(|prefix| !prefixes.insert(*prefix)) {
            out.add(&SERVE_CONFIG, path, format!("two applications answer at {prefix}"));
        }
    }
}
