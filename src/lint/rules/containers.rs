//! Containers: images, resources, names, mounts, probes.

use std::collections::HashSet;

use serde_json::Value;

use crate::lint::pods::{Container, Pod, Purpose, pods};
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject, same_namespace};
use crate::model::quantity;
use crate::render::explain::below;

rules! { "Containers":
    MUTABLE_IMAGE_TAG "mutable-image-tag" Warning Certain
        "an image without a tag, or with `latest`"
        "What runs depends on when a node pulled it, two replicas may differ, and a revert of the commit brings nothing back. Name a version, or better a digest (image@sha256:...)."
    GPU_RESOURCES "gpu-resources" Error Certain
        "devices that are asked for in a way Kubernetes refuses"
        "Extended resources such as nvidia.com/gpu are whole numbers, cannot be overcommitted, and must be in limits: requests alone are refused, and where both are given they must be equal. Give limits only."
    GPU_ON_CPU_IMAGE "gpu-visible-without-limit" Warning Likely
        "a container that sees all GPUs of its node without asking for one"
        "NVIDIA_VISIBLE_DEVICES=all in a container without a GPU limit shows it every GPU of the node, those of other teams' pods included. Ask for GPUs in limits and leave the variable to the device plugin."
    REQUEST_OVER_LIMIT "request-over-limit" Error Certain
        "a request beyond its limit"
        "The API server refuses the pod. Raise the limit or lower the request."
    DUPLICATE_NAME "duplicate-name" Error Certain
        "two containers, volumes, ports or mounts with one name or path"
        "The API server refuses the pod: these lists are told apart by name or path. Rename one."
    VOLUME_MISSING "volume-missing" Error Certain
        "a mount of a volume that the pod does not have"
        "The API server refuses the pod. Add the volume under spec.volumes (or volumeClaimTemplates), or correct the name of the mount."
    PROBE_PORT "probe-port-unknown" Error Certain
        "a probe of a port that the container does not name"
        "The kubelet cannot resolve the name, so the probe fails for ever: the container is restarted or never ready. Name the port in containers[].ports or give its number."
    NO_READINESS "no-readiness-probe" Info Likely
        "a server behind a Service without a readiness probe"
        "It gets traffic from the moment its process begins, before a model is loaded; a rollout goes on although nothing answers. Add a readinessProbe that is true once it serves."
}

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    for pod in pods(subject) {
        let containers = pod.containers();
        for container in &containers {
            image(container, out);
            resources(container, out);
            probes(container, out);
            every_gpu(container, out);
        }
        if pod.whole {
            names(&pod, &containers, out);
            mounts(subject, &pod, &containers, out);
        }
        readiness(subject, &pod, &containers, set, out);
    }
}

/// Whether a text is filled in by somebody later.
pub(super) fn is_template(text: &str) -> bool {
    ["{{", "$(", "${", "<"].iter().any(|mark| text.contains(mark))
}

fn image(container: &Container<'_>, out: &mut Out) {
    let Some(image) = container.value.get("image").and_then(Value::as_str) else { return };
    if image.is_empty() || is_template(image) || image.contains('@') {
        return;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    let why = match last.split_once(':') {
        None => "has no tag, which means latest",
        Some((_, "latest")) => "is whatever was pushed last",
        Some(_) => return,
    };
    out.add(&MUTABLE_IMAGE_TAG, format!("{}/image", container.pointer), format!("the image {image} {why}"));
}

/// Whether a resource is one that devices or nodes advertise.
fn is_extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
        && !name.starts_with("requests.")
}

fn resources(container: &Container<'_>, out: &mut Out) {
    let list = |field: &str| {
        container.value.get("resources").and_then(|all| all.get(field)).and_then(Value::as_object)
    };
    let (requests, limits) = (list("requests"), list("limits"));
    let base = format!("{}/resources", container.pointer);
    for (field, all) in [("requests", requests), ("limits", limits)] {
        for (name, value) in all.into_iter().flatten().filter(|(name, _)| is_extended(name)) {
            if quantity(value).is_some_and(|number| number.fract() != 0.0 || number < 0.0) {
                let at = below(&format!("{base}/{field}"), name);
                out.add(
                    &GPU_RESOURCES,
                    at,
                    format!("{name} is {}; only whole devices can be asked for", text(value)),
                );
            }
        }
    }
    for (name, request) in requests.into_iter().flatten() {
        let at = below(&format!("{base}/requests"), name);
        let limit = limits.and_then(|limits| limits.get(name));
        let (asked, allowed) = (quantity(request), limit.and_then(quantity));
        match (is_extended(name), asked, allowed) {
            (true, Some(_), None) if limit.is_none() => {
                out.add(&GPU_RESOURCES, at, format!("{name} is requested without a limit, which is refused"));
            }
            (true, Some(asked), Some(allowed)) if differ(asked, allowed) => {
                let limit = limit.map(text).unwrap_or_default();
                let why =
                    format!("{name}: {} requested and a limit of {limit}; both must be equal", text(request));
                out.add(&GPU_RESOURCES, at, why);
            }
            (false, Some(asked), Some(allowed)) if asked > allowed => {
                let limit = limit.map(text).unwrap_or_default();
                let why = format!("{} of {name} are requested, and the limit is {limit}", text(request));
                out.add(&REQUEST_OVER_LIMIT, at, why);
            }
            _ => {}
        }
    }
}

fn differ(one: f64, other: f64) -> bool {
    (one - other).abs() > f64::EPSILON * one.abs().max(other.abs())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn every_gpu(container: &Container<'_>, out: &mut Out) {
    let env = container.value.get("env").and_then(Value::as_array).into_iter().flatten().enumerate();
    let all = |value: &Value| {
        value.get("name").and_then(Value::as_str) == Some("NVIDIA_VISIBLE_DEVICES")
            && value.get("value").and_then(Value::as_str) == Some("all")
    };
    let limits = container.value.pointer("/resources/limits").and_then(Value::as_object);
    let has = limits.is_some_and(|limits| limits.keys().any(|name| name.starts_with("nvidia.com/")));
    for (at, _) in env.filter(|(_, value)| all(value) && !has) {
        let why = "NVIDIA_VISIBLE_DEVICES=all without a GPU in limits shows every GPU of the node";
        out.add(&GPU_ON_CPU_IMAGE, format!("{}/env/{at}", container.pointer), why);
    }
}

fn probes(container: &Container<'_>, out: &mut Out) {
    let ports = container.value.get("ports").and_then(Value::as_array);
    for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
        for action in ["httpGet", "tcpSocket"] {
            let path = format!("/{probe}/{action}/port");
            let Some(name) = container.value.pointer(&path).and_then(Value::as_str) else { continue };
            let known = ports
                .into_iter()
                .flatten()
                .any(|port| port.get("name").and_then(Value::as_str) == Some(name));
            if known || is_template(name) {
                continue;
            }
            let why = if name.parse::<u16>().is_ok() {
                format!("the {probe} asks the port \"{name}\", a text; a number must not be in quotes")
            } else {
                format!("the {probe} asks the port {name}, and the container names none so")
            };
            out.add(&PROBE_PORT, format!("{}{path}", container.pointer), why);
        }
    }
}

fn names(pod: &Pod<'_>, containers: &[Container<'_>], out: &mut Out) {
    let mut seen = HashSet::new();
    for container in containers.iter().filter(|one| !one.name().is_empty()) {
        if !seen.insert(container.name()) {
            let why = format!("two containers are called {}", container.name());
            out.add(&DUPLICATE_NAME, format!("{}/name", container.pointer), why);
        }
    }
    let mut seen = HashSet::new();
    for (at, volume) in pod.spec.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let Some(name) = volume.get("name").and_then(Value::as_str) else { continue };
        if !seen.insert(name) {
            out.add(
                &DUPLICATE_NAME,
                format!("{}/volumes/{at}/name", pod.at),
                format!("two volumes are called {name}"),
            );
        }
    }
    for container in containers {
        let (mut paths, mut ports) = (HashSet::new(), HashSet::new());
        let list = |field: &str| {
            container.value.get(field).and_then(Value::as_array).into_iter().flatten().enumerate()
        };
        for (at, mount) in list("volumeMounts") {
            let Some(path) = mount.get("mountPath").and_then(Value::as_str) else { continue };
            if !paths.insert(path) {
                let at = format!("{}/volumeMounts/{at}/mountPath", container.pointer);
                out.add(&DUPLICATE_NAME, at, format!("two volumes are mounted at {path}"));
            }
        }
        for (at, port) in list("ports") {
            let Some(name) = port.get("name").and_then(Value::as_str) else { continue };
            if !ports.insert(name) {
                let at = format!("{}/ports/{at}/name", container.pointer);
                out.add(&DUPLICATE_NAME, at, format!("two ports are called {name}"));
            }
        }
    }
}

fn mounts(subject: &Subject, pod: &Pod<'_>, containers: &[Container<'_>], out: &mut Out) {
    let volumes = pod.spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let mut known: HashSet<&str> =
        volumes.filter_map(|volume| volume.get("name").and_then(Value::as_str)).collect();
    let claims = subject.list("/spec/volumeClaimTemplates").iter();
    known.extend(claims.filter_map(|claim| claim.pointer("/metadata/name").and_then(Value::as_str)));
    for container in containers {
        for field in ["volumeMounts", "volumeDevices"] {
            let list = container.value.get(field).and_then(Value::as_array).into_iter().flatten().enumerate();
            for (at, mount) in list {
                let Some(name) = mount.get("name").and_then(Value::as_str) else { continue };
                if !known.contains(name) {
                    let why = format!(
                        "the container {} mounts {name}, and the pod has no such volume",
                        container.name()
                    );
                    out.add(&VOLUME_MISSING, format!("{}/{field}/{at}/name", container.pointer), why);
                }
            }
        }
    }
}

fn readiness(subject: &Subject, pod: &Pod<'_>, containers: &[Container<'_>], set: &Set<'_>, out: &mut Out) {
    if pod.purpose != Purpose::Serve || !pod.whole || subject.is("apps", "DaemonSet") {
        return;
    }
    let served = set.all("", "Service").any(|service| {
        same_namespace(&service.namespace, &subject.namespace)
            && selects(service.at("/spec/selector"), pod.labels())
    });
    let ready = containers.iter().any(|one| one.value.get("readinessProbe").is_some());
    let first = containers.iter().find(|one| !one.init);
    if let Some(container) = first.filter(|_| served && !ready) {
        let why =
            format!("a Service sends traffic to {}, and nothing says when it is ready", subject.title());
        out.add(&NO_READINESS, container.pointer.clone(), why);
    }
}

/// Whether a plain selector takes pods with these labels.
pub(super) fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(selector) = selector.and_then(Value::as_object).filter(|selector| !selector.is_empty()) else {
        return false;
    };
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}
