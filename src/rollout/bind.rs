//! Which of the wanted objects a policy decides about.
//!
//! A revision is what pods are made of: the template of the target, and the content of the ConfigMaps and Secrets that it
//! mounts. What else a target says (its size, its labels) is applied as that of any other object. What nobody but the
//! target mounts waits with it; the candidate gets copies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::policy::Policy;
use super::target::{self, Form, MOUNTED, Measure, Mount, REVISION, Within, mounts};
use super::traffic::{Division, divide, is_rule_of};
use crate::api::{RolloutPolicySpec, Unschedulable};
use crate::error::{Code, Error, Result};
use crate::model::{Digest, GROUP, Key};
use crate::plan::Desired;

/// A policy and what it decides about, by their places among the wanted objects.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The policy's object.
    pub policy: Key,
    /// What it says.
    pub spec: Arc<RolloutPolicySpec>,
    /// The same, read.
    pub rules: Arc<Policy>,
    /// The target.
    pub target: usize,
    /// How its kind is rolled out.
    pub form: Form,
    /// ConfigMaps and Secrets of the same set that nobody else mounts.
    pub own: Vec<usize>,
    /// Digest of the revision, 16 characters.
    pub revision: String,
    /// Digest of the target as it would be without a policy.
    pub plain: Digest,
    /// Pods that Git wants; `None` where somebody else decides that.
    pub replicas: Option<u32>,
    /// What divides the traffic.
    pub division: Division,
    /// Istio's rules of the Service that routes lead to; the candidate's gets the same.
    pub destination_rules: Vec<usize>,
}

impl Bound {
    /// The names of what it mounts alone.
    pub fn copies(&self, desired: &[Desired]) -> Vec<Mount> {
        self.own.iter().filter_map(|at| mount_of(&desired.get(*at)?.key)).collect()
    }
}

fn mount_of(key: &Key) -> Option<Mount> {
    let kind = match key.kind.as_str() {
        "ConfigMap" if key.group.is_empty() => "ConfigMap",
        "Secret" if key.group.is_empty() => "Secret",
        _ => return None,
    };
    Some(Mount { kind, name: key.name.clone() })
}

fn invalid(object: &Desired, why: impl Into<String>) -> Error {
    placed(Error::new(Code::RolloutInvalid, why), object)
}

fn placed(error: Error, object: &Desired) -> Error {
    let error = error.on_object(&object.key);
    if object.origin.file.is_empty() {
        error
    } else {
        error.in_file(&object.origin.file).at(object.origin.line, 1)
    }
}

fn is_policy(object: &Desired) -> bool {
    object.gvk.is(GROUP, "RolloutPolicy") && object.hook.is_none()
}

/// What a kind that goes by itself can do of a policy.
fn within(kind: &dyn Within, spec: &RolloutPolicySpec, body: &Value) -> std::result::Result<(), String> {
    if !spec.traffic.routes.is_empty() || spec.traffic.service.is_some() {
        return Err("spec.traffic: the target's kind divides its traffic itself".into());
    }
    let mut steps = spec.strategy.canary.iter().flat_map(|canary| &canary.steps);
    if steps.any(|step| step.mirror.is_some() || !step.headers.is_empty()) {
        return Err("spec.strategy.canary.steps: only routes copy traffic and tell requests by their headers, and the target's kind divides its traffic itself".into());
    }
    if spec.strategy.shadow.is_some() {
        return Err("spec.strategy.shadow: the target's kind copies no traffic".into());
    }
    if spec.strategy.blue_green.is_some() && kind.measure() != Measure::Traffic {
        return Err("spec.strategy.blueGreen: the target's kind cannot have all pods twice".into());
    }
    if spec.unschedulable == Unschedulable::NoSurge {
        return Err("spec.unschedulable: the target's kind holds both revisions itself".into());
    }
    kind.check(body).map_err(|why| format!("spec.targetRef: {why}"))
}

/// Binds policies to their targets, and marks these with the revision that they are.
///
/// # Errors
/// `RolloutInvalid` for a policy that cannot be read, whose target is not among the objects or is of a kind that is not
/// rolled out, and for two policies of one target.
pub fn bind(desired: &mut [Desired]) -> Result<Vec<Bound>> {
    let policies: Vec<usize> = (0..desired.len()).filter(|at| is_policy(&desired[*at])).collect();
    if policies.is_empty() {
        return Ok(Vec::new());
    }
    let bodies: Vec<Value> =
        desired.iter().map(|object| serde_json::from_slice(&object.body).unwrap_or_default()).collect();
    let mut bound: Vec<Bound> = Vec::with_capacity(policies.len());
    for at in policies {
        let policy = &desired[at];
        let spec: RolloutPolicySpec = serde_json::from_value(bodies[at]["spec"].clone())
            .map_err(|error| invalid(policy, format!("spec: {error}")))?;
        let rules = Policy::read(&spec).map_err(|error| placed(error, policy))?;
        let named = &spec.target_ref;
        let group = named.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let is_target = |object: &Desired| {
            object.gvk.is(group, &named.kind)
                && object.key.name == named.name
                && object.key.namespace == policy.key.namespace
                && object.hook.is_none()
        };
        let Some(target) = desired.iter().position(is_target) else {
            let why = format!(
                "spec.targetRef: there is no {} {}/{} among the objects of its Application",
                named.kind, policy.key.namespace, named.name
            );
            return Err(invalid(policy, why));
        };
        let Some(form) = target::find(
            &desired[target].gvk,
            &bodies[target],
            spec.strategy.rolling.is_some(),
            named.fields.as_ref(),
        ) else {
            let why = format!(
                "spec.targetRef: {} is not a kind that goes in steps ({}); say in spec.targetRef.fields where it has its pods, or take `rolling`, which is for any",
                named.kind,
                target::names()
            );
            return Err(invalid(policy, why));
        };
        if let Some(other) = bound.iter().find(|other| other.target == target) {
            let why =
                format!("spec.targetRef: {} is the target of {} too", desired[target].key, other.policy);
            return Err(invalid(policy, why));
        }
        let object = &desired[target];
        let body = &bodies[target];
        let template = body.pointer(form.template()).cloned().unwrap_or_default();
        let (mounted, mut own) = mounted(desired, &bodies, target, at, &template);
        let revision = match &form {
            Form::Beside(kind) => {
                kind.check(body).map_err(|why| invalid(policy, format!("spec.targetRef: {why}")))?;
                template.clone()
            }
            Form::Within(kind) => {
                within(*kind, &spec, body).map_err(|why| invalid(policy, why))?;
                // Both revisions mount the same.
                own.clear();
                kind.revision(body)
            }
        };
        let mut parts: Vec<Vec<u8>> = vec![revision.to_string().into_bytes()];
        parts.extend(mounted.iter().map(|at| desired[*at].digest.as_bytes().to_vec()));
        let objects: Vec<_> =
            desired.iter().zip(&bodies).map(|(object, body)| (&object.gvk, &object.key, body)).collect();
        let labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        let division = match &form {
            Form::Beside(_) => divide(&spec, &objects, &policy.key.namespace, &labels)
                .map_err(|error| placed(error, policy))?,
            Form::Within(_) => Division::Kind,
        };
        let destination_rules = match &division {
            Division::Routes(service, _) => {
                let service = &desired[*service].key;
                let is_it = |at: &usize| {
                    let (gvk, key, body) = objects[*at];
                    key.namespace == service.namespace && is_rule_of(gvk, body, &service.name)
                };
                (0..objects.len()).filter(is_it).collect()
            }
            Division::Pods(_) | Division::Switch(_) | Division::Kind => Vec::new(),
        };
        let pods_at = form.template().to_owned();
        // What Git does not state is somebody else's: an autoscaler's, or a person's.
        let is_stated = body.pointer("/spec/replicas").is_some();
        bound.push(Bound {
            policy: policy.key.clone(),
            spec: Arc::new(spec),
            rules: Arc::new(rules),
            target,
            own,
            revision: short(Digest::of_parts(parts)),
            plain: object.digest,
            replicas: match &form {
                Form::Beside(kind) => kind.replicas(body),
                Form::Within(kind) if kind.measure() == Measure::Pods => {
                    is_stated.then(|| target::count(&body["spec"]["replicas"], 1))
                }
                Form::Within(_) => Some(1),
            },
            form,
            division,
            destination_rules,
        });
        let content = (!mounted.is_empty()).then(|| {
            short(Digest::of_parts(mounted.iter().map(|at| desired[*at].digest.as_bytes().to_vec())))
        });
        let last = bound.last().map(|bound| bound.revision.clone()).unwrap_or_default();
        mark(&mut desired[target], &last, content.as_deref(), &pods_at);
    }
    Ok(bound)
}

fn short(digest: Digest) -> String {
    digest.to_string()[..16].to_owned()
}

/// What a template mounts of the wanted objects, and what of that nobody else names.
fn mounted(
    desired: &[Desired],
    bodies: &[Value],
    target: usize,
    policy: usize,
    template: &Value,
) -> (Vec<usize>, Vec<usize>) {
    let names = mounts(template);
    let places: BTreeMap<Mount, usize> = desired
        .iter()
        .enumerate()
        .filter(|(_, object)| object.hook.is_none() && object.key.namespace == desired[target].key.namespace)
        .filter_map(|(at, object)| Some((mount_of(&object.key)?, at)))
        .collect();
    let all: Vec<usize> = names.iter().filter_map(|mount| places.get(mount).copied()).collect();
    // Whoever has the name anywhere may mean it.
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for (at, body) in bodies.iter().enumerate().filter(|(at, _)| *at != target && *at != policy) {
        strings(body, &mut |text| {
            if all.iter().any(|place| *place != at && desired[*place].key.name == text) {
                taken.insert(text);
            }
        });
    }
    let own = all.iter().copied().filter(|at| !taken.contains(desired[*at].key.name.as_str())).collect();
    (all, own)
}

fn strings<'a>(value: &'a Value, see: &mut dyn FnMut(&'a str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, see)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, see)),
        _ => {}
    }
}

/// Writes the revision on the target, and on its pods what they mount.
fn mark(object: &mut Desired, revision: &str, content: Option<&str>, template: &str) {
    let mut body: Value = serde_json::from_slice(&object.body).unwrap_or_default();
    annotate(&mut body, REVISION, revision);
    if let (Some(content), Some(template)) = (content, body.pointer_mut(template)) {
        annotate(template, MOUNTED, content);
    }
    object.body = body.to_string().into_bytes();
    // What is secret in it stays salted.
    let marks = [object.digest.as_bytes(), revision.as_bytes(), content.unwrap_or_default().as_bytes()];
    object.digest = Digest::of_parts(marks);
}

fn annotate(object: &mut Value, name: &str, text: &str) {
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = target::entry(fields, "metadata");
    target::entry(metadata, "annotations").insert(name.to_owned(), text.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Gvk;
    use serde_json::json;

    fn object(value: &Value) -> Desired {
        let gvk = Gvk::parse(value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
        let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = Key {
            group: gvk.group.clone(),
            kind: gvk.kind.clone(),
            namespace: text("namespace"),
            name: text("name"),
        };
        let body = value.to_string().into_bytes();
        Desired { key, gvk, digest: Digest::of(&body), body, ..Desired::default() }
    }

    fn policy(name: &str, target: &str) -> Value {
        json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "RolloutPolicy", "metadata": {"name": name, "namespace": "ml"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
                "strategy": {"canary": {"steps": [{"weight": 50}]}}}})
    }

    fn deployment(image: &str, replicas: u32) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "fraud", "namespace": "ml"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "fraud"}},
                "template": {"metadata": {"labels": {"app": "fraud"}}, "spec": {
                    "volumes": [{"name": "c", "configMap": {"name": "settings"}}, {"name": "s", "configMap": {"name": "shared"}}],
                    "containers": [{"name": "c", "image": image}]}}}})
    }

    fn config(name: &str, text: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ml"}, "data": {"a": text}})
    }

    fn job() -> Value {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ml"},
            "spec": {"template": {"spec": {"volumes": [{"name": "s", "configMap": {"name": "shared"}}]}}}})
    }

    fn bound(values: &[Value]) -> Result<(Vec<Desired>, Vec<Bound>)> {
        let mut all: Vec<Desired> = values.iter().map(object).collect();
        let bound = bind(&mut all)?;
        Ok((all, bound))
    }

    fn revision(image: &str, replicas: u32, text: &str) -> String {
        let all = [
            deployment(image, replicas),
            config("settings", text),
            config("shared", "x"),
            policy("p", "fraud"),
        ];
        bound(&all).unwrap().1[0].revision.clone()
    }

    #[test]
    fn a_revision_is_what_pods_are_made_of() {
        let one = revision("a", 1, "x");
        assert_eq!(one, revision("a", 5, "x"), "the size makes no revision");
        assert_ne!(one, revision("b", 1, "x"));
        assert_ne!(one, revision("a", 1, "y"), "what is mounted does");
    }

    #[test]
    fn what_others_name_is_not_its_own() {
        let all =
            [deployment("a", 1), config("settings", "x"), config("shared", "x"), job(), policy("p", "fraud")];
        let (desired, bound) = bound(&all).unwrap();
        assert_eq!(bound[0].own, [1]);
        assert_eq!(bound[0].replicas, Some(1));
        let body: Value = serde_json::from_slice(&desired[0].body).unwrap();
        assert_eq!(body["metadata"]["annotations"][REVISION], bound[0].revision);
        assert!(body["spec"]["template"]["metadata"]["annotations"][MOUNTED].is_string());
        assert_ne!(desired[0].digest, bound[0].plain);
    }

    #[test]
    fn a_size_that_git_does_not_state_is_nobodys_to_change() {
        let mut free = deployment("a", 1);
        free["spec"].as_object_mut().unwrap().remove("replicas");
        let all = [free, config("settings", "x"), config("shared", "x"), policy("p", "fraud")];
        assert_eq!(bound(&all).unwrap().1[0].replicas, None);
    }

    #[test]
    fn a_kind_that_is_described_has_its_pods_where_it_says() {
        let pool = |size: u32, image: &str| {
            json!({"apiVersion": "ml.example.org/v1", "kind": "Pool", "metadata": {"name": "pool", "namespace": "ml"},
                "spec": {"size": size, "labels": {"app": "pool"}, "worker": {"metadata": {"labels": {"app": "pool"}}, "spec": {
                    "volumes": [{"name": "c", "configMap": {"name": "settings"}}], "containers": [{"image": image}]}}}})
        };
        let mut described = policy("p", "pool");
        described["spec"]["targetRef"] = json!({"apiVersion": "ml.example.org/v1", "kind": "Pool", "name": "pool",
            "fields": {"template": "spec.worker", "selector": "spec.labels", "replicas": "spec.size"}});
        let of = |size: u32, image: &str| {
            bound(&[pool(size, image), config("settings", "x"), described.clone()]).unwrap()
        };
        let (desired, found) = of(3, "a");
        assert_eq!((found[0].replicas, &found[0].own), (Some(3), &vec![1]));
        let body: Value = serde_json::from_slice(&desired[0].body).unwrap();
        assert!(body["spec"]["worker"]["metadata"]["annotations"][MOUNTED].is_string());
        assert_eq!(found[0].revision, of(5, "a").1[0].revision);
        assert_ne!(found[0].revision, of(3, "b").1[0].revision);
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        for (all, why) in [
            (vec![policy("p", "fraud")], "there is no Deployment ml/fraud"),
            (
                vec![deployment("a", 1), policy("p", "fraud"), policy("q", "fraud")],
                "the target of RolloutPolicy.driftless.dev ml/p too",
            ),
            (
                vec![config("c", "x"), {
                    let mut odd = policy("p", "c");
                    odd["spec"]["targetRef"] = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c"});
                    odd
                }],
                "ConfigMap is not a kind that goes in steps (Deployment.apps",
            ),
            (
                vec![config("c", "x"), {
                    let mut odd = policy("p", "c");
                    let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "fields": {}});
                    odd["spec"]["targetRef"] = target;
                    odd
                }],
                "spec.targetRef: it has no template of pods at spec.template",
            ),
            (
                vec![deployment("a", 1), {
                    let mut odd = policy("p", "fraud");
                    odd["spec"]["strategy"]["canary"]["steps"][0]["weight"] = 120.into();
                    odd
                }],
                "spec.strategy.canary.steps[0].weight: 120 is more than 100",
            ),
        ] {
            let error = bound(&all).unwrap_err();
            assert_eq!(error.code, Code::RolloutInvalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
