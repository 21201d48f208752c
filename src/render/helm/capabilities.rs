//! `.Capabilities`: what the cluster is said to be.

use std::rc::Rc;

use serde_json::Value as Json;

use super::metadata::{Struct, helm_version};
use crate::render::template::value::{Object, Value};

/// The version of Kubernetes that Helm 3.22 assumes where none is given.
const KUBE_VERSION: &str = "v1.37.0";

/// Group versions that Helm 3.22 knows by itself, in its order.
const KNOWN: &[&str] = &[
    "v1",
    "admissionregistration.k8s.io/v1",
    "admissionregistration.k8s.io/v1alpha1",
    "admissionregistration.k8s.io/v1beta1",
    "internal.apiserver.k8s.io/v1alpha1",
    "apps/v1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1",
    "authentication.k8s.io/v1alpha1",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1",
    "authorization.k8s.io/v1beta1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "batch/v1beta1",
    "certificates.k8s.io/v1",
    "certificates.k8s.io/v1beta1",
    "certificates.k8s.io/v1alpha1",
    "coordination.k8s.io/v1alpha2",
    "coordination.k8s.io/v1beta1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta2",
    "flowcontrol.apiserver.k8s.io/v1beta3",
    "lifecycle.k8s.io/v1alpha1",
    "networking.k8s.io/v1",
    "networking.k8s.io/v1beta1",
    "node.k8s.io/v1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "resource.k8s.io/v1",
    "resource.k8s.io/v1beta2",
    "resource.k8s.io/v1beta1",
    "resource.k8s.io/v1alpha3",
    "scheduling.k8s.io/v1alpha3",
    "scheduling.k8s.io/v1beta1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1beta1",
    "storage.k8s.io/v1",
    "storage.k8s.io/v1alpha1",
    "storagemigration.k8s.io/v1",
    "storagemigration.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1",
];

/// A version of Kubernetes, as Helm shortens it.
#[derive(Clone, Debug)]
pub(super) struct KubeVersion {
    pub(super) full: String,
    major: String,
    minor: String,
}

impl KubeVersion {
    /// Reads `1.31`, `v1.31.2` or `v1.31.2-gke.1`; empty is Helm's default.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let given = if text.is_empty() { KUBE_VERSION } else { text };
        let rest = given.trim_start();
        let rest = rest.strip_prefix('v').unwrap_or(rest);
        let mut numbers = Vec::new();
        let mut rest = Some(rest);
        while let Some(here) = rest {
            let end = here.find(|c: char| !c.is_ascii_digit()).unwrap_or(here.len());
            if end == 0 {
                break;
            }
            numbers.push(&here[..end]);
            rest = here[end..].strip_prefix('.');
        }
        if numbers.is_empty() {
            return Err(format!("could not parse {given:?} as version"));
        }
        if numbers.len() < 2 {
            return Err(format!("illegal version string {given:?}"));
        }
        if numbers[0].starts_with('0') && numbers[0] != "0" {
            let first = numbers[0];
            return Err(format!("illegal zero-prefixed version component {first:?} in {given:?}"));
        }
        let plain: Option<Vec<String>> =
            numbers.iter().map(|part| part.parse::<u64>().ok().map(|number| number.to_string())).collect();
        let plain = plain.ok_or_else(|| format!("illegal non-numeric version component in {given:?}"))?;
        Ok(Self { full: format!("v{}", plain.join(".")), major: plain[0].clone(), minor: plain[1].clone() })
    }

    fn value(&self) -> Value {
        let fields = vec![
            ("Version", "Version", false, Value::text(&self.full)),
            ("Major", "Major", false, Value::text(&self.major)),
            ("Minor", "Minor", false, Value::text(&self.minor)),
        ];
        let text = Some((self.full.clone(), ["String", "GitVersion"].as_slice()));
        Struct { name: "chartutil.KubeVersion", kind: "struct", fields, text }.value()
    }
}

/// `.Capabilities`.
pub(super) fn capabilities(version: &KubeVersion, more: &[String]) -> Value {
    let versions = KNOWN.iter().map(|name| (*name).to_owned()).chain(more.iter().cloned()).collect();
    let fields = vec![
        ("KubeVersion", "KubeVersion", false, version.value()),
        ("APIVersions", "APIVersions", false, Value::Object(Rc::new(Versions(versions)))),
        ("HelmVersion", "HelmVersion", false, helm_version()),
    ];
    Struct { name: "*chartutil.Capabilities", kind: "ptr", fields, text: None }.value()
}

/// A list of group versions, and of kinds in them, that can be asked.
struct Versions(Vec<String>);

impl Object for Versions {
    fn type_name(&self) -> &'static str {
        "chartutil.VersionSet"
    }

    fn kind(&self) -> &'static str {
        "slice"
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        if name != "Has" {
            return None;
        }
        Some(match arguments {
            [Value::Text(wanted)] => Ok(Value::Bool(self.0.iter().any(|name| **name == **wanted))),
            [other] => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
            all => Err(format!("wrong number of args for Has: want 1 got {}", all.len())),
        })
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        let all = self.0.iter().zip(0_i64..);
        Some(all.map(|(name, at)| (Value::Int(at), Value::text(name))).collect())
    }

    fn print(&self) -> String {
        format!("[{}]", self.0.join(" "))
    }

    fn json(&self) -> Json {
        self.0.iter().map(|name| Json::from(name.as_str())).collect()
    }

    fn truth(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (given, expected) in [
            ("", "v1.37.0 1 37"),
            ("1.30", "v1.30 1 30"),
            ("v1.30.2-gke.1", "v1.30.2 1 30"),
            ("1.31+", "v1.31 1 31"),
            ("1.030", "v1.30 1 30"),
            ("v1", "illegal version string \"v1\""),
            ("x", "could not parse \"x\" as version"),
            ("01.3", "illegal zero-prefixed version component \"01\" in \"01.3\""),
        ] {
            let found =
                KubeVersion::parse(given).map(|one| format!("{} {} {}", one.full, one.major, one.minor));
            assert_eq!(found.unwrap_or_else(|why| why), expected);
        }
    }
}
