//! From rendered objects to what will be applied.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::hook::{self, Hook, Role};
use super::options::ObjectOptions;
use crate::diff::{IgnoreRule, Spared, scaled_targets, strip};
use crate::error::Result;
use crate::model::{
    Confidential, Described, Digest, Generated, Gvk, Key, Object, Origin, Renewed, TRACKING_LABEL, keep,
};

/// One object as it will be sent.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Its identity, with the namespace it goes to.
    pub key: Key,
    /// Its kind with the version that Git states.
    pub gvk: Gvk,
    /// Canonical JSON, sorted keys.
    pub body: Vec<u8>,
    /// Digest of the body.
    pub digest: Digest,
    /// Where Git states it.
    pub origin: Origin,
    /// In which wave of its phase it is applied.
    pub wave: i64,
    /// That it is made for moments of a sync; ordinary objects are not.
    pub hook: Option<Hook>,
    /// How it wants to be treated.
    pub options: ObjectOptions,
    /// Git itself says that it stands still, so nobody waits for it.
    pub rests: bool,
    /// Fields that Git states and somebody else decides, with who that is.
    pub ceded: Vec<(String, String)>,
    /// Fields that are left alone, whether Git states them or not.
    pub spared: Option<Box<Spared>>,
    /// What is masked wherever this is shown.
    pub hidden: Confidential,
}

impl Default for Desired {
    fn default() -> Self {
        let empty = String::new;
        Self {
            key: Key { group: empty(), kind: empty(), namespace: empty(), name: empty() },
            gvk: Gvk { group: empty(), version: empty(), kind: empty() },
            body: Vec::new(),
            digest: Digest::of(b""),
            origin: Origin::default(),
            wave: 0,
            hook: None,
            options: ObjectOptions::default(),
            rests: false,
            ceded: Vec::new(),
            spared: None,
            hidden: Confidential::default(),
        }
    }
}

/// What an application wants.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// What will be applied, hooks among it.
    pub desired: Vec<Desired>,
    /// Objects that Git names and tells to leave alone: never applied, never deleted.
    pub released: Vec<Key>,
}

/// What an application adds to its objects.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The application's name.
    pub name: String,
    /// Value of the tracking label.
    pub label: String,
    /// Namespace of objects that state none.
    pub namespace: String,
    /// What is left out.
    pub ignore: Vec<IgnoreRule>,
}

/// Prepares all objects of an application. `namespaced` answers for kinds that are known; an unknown kind
/// is looked up among the CRDs of the same set, and taken for namespaced where neither knows it. `live`
/// gives whole live objects, for rules by manager and for `generated` texts, which go by the place of their object.
/// Objects that are no part of a sync or a deletion (tests of a chart) are left out.
///
/// # Errors
/// `ApplicationInvalid` for a rule that cannot be read, `DuplicateObject` where two objects meet in one
/// namespace.
pub fn prepare(
    objects: &[Object],
    generated: &BTreeMap<usize, Vec<Generated>>,
    settings: &Settings,
    namespaced: impl Fn(&Gvk) -> Option<bool>,
    live: impl Fn(&Key) -> Option<Value>,
) -> Result<Prepared> {
    let mut all = objects.to_vec();
    place(&mut all, &settings.namespace, namespaced);
    let left_alone = |object: &Object| {
        matches!(hook::role(object), Role::Elsewhere(_)) || ObjectOptions::of(object).ignored
    };
    let (alone, wanted): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(_, object)| left_alone(object));
    let released = alone.into_iter().map(|(_, object)| object.key()).collect();
    let (numbers, mut placed): (Vec<usize>, Vec<Object>) = wanted.into_iter().unzip();
    for object in &mut placed {
        if object.gvk().is("", "Secret") {
            encode_string_data(object);
        }
        clean(object);
        object.set_label(TRACKING_LABEL, &settings.label);
    }
    let scaled = scaled_targets(&placed);
    let of = |number: &usize| generated.get(number).map(Vec::as_slice).unwrap_or_default();
    let needs_live = |object: &Object| {
        settings.ignore.iter().any(|rule| !rule.managers.is_empty() && rule.matches(object))
    };
    let found: Vec<Option<Value>> = (numbers.iter().zip(&placed))
        .map(|(number, object)| {
            (needs_live(object) || !of(number).is_empty()).then(|| live(&object.key())).flatten()
        })
        .collect();
    let mut renewed: Vec<Renewed<'_>> = (numbers.iter().zip(&mut placed).zip(&found))
        .filter(|((number, _), _)| !of(number).is_empty())
        .map(|((number, object), found)| {
            let encoded = object.gvk().is("", "Secret");
            Renewed { object: object.value_mut(), live: found.as_ref(), generated: of(number), encoded }
        })
        .collect();
    keep(&mut renewed);
    let mut desired: Vec<Desired> = Vec::with_capacity(placed.len());
    let mut described = Described::default();
    for (mut object, found) in placed.into_iter().zip(found) {
        let key = object.key();
        described.add(&object)?;
        let spared = strip(&mut object, found.as_ref(), &settings.ignore)?;
        let mut ceded = Vec::new();
        if let Some(scaled) = scaled.iter().find(|scaled| scaled.target == key)
            && object
                .value_mut()
                .get_mut("spec")
                .and_then(Value::as_object_mut)
                .is_some_and(|spec| spec.remove("replicas").is_some())
        {
            ceded.push(("/spec/replicas".to_owned(), scaled.by.to_string()));
        }
        let body = object.canonical();
        let (gvk, origin) = (object.gvk().clone(), object.origin().clone());
        let hook = match hook::role(&object) {
            Role::Hook(hook) => Some(hook),
            Role::Object | Role::Elsewhere(_) => None,
        };
        let (wave, options, rests) = (hook::wave(&object), ObjectOptions::of(&object), rests(object.value()));
        let spared = (spared != Spared::default()).then(|| Box::new(spared));
        let (digest, hidden) = (Digest::of(&body), Confidential::default());
        desired.push(Desired {
            key,
            gvk,
            body,
            digest,
            origin,
            wave,
            hook,
            options,
            rests,
            ceded,
            spared,
            hidden,
        });
    }
    Ok(Prepared { desired, released })
}

/// Whether an object is meant to stand still: a paused Deployment, a suspended job, a stopped service.
fn rests(object: &Value) -> bool {
    ["/spec/suspend", "/spec/paused", "/spec/runPolicy/suspend", "/spec/training/paused"]
        .iter()
        .any(|pointer| object.pointer(pointer) == Some(&Value::Bool(true)))
        || object.pointer("/metadata/annotations/serving.kserve.io~1stop").is_some_and(|stop| stop == "true")
}

/// Gives a namespace to objects that need one and state none, and takes it from those that live in none.
pub fn place(objects: &mut [Object], namespace: &str, namespaced: impl Fn(&Gvk) -> Option<bool>) {
    let defined: Vec<(String, String, bool)> = objects.iter().filter_map(defines).collect();
    for object in objects {
        let in_namespace = namespaced(object.gvk()).unwrap_or_else(|| {
            let own = defined.iter().find(|(group, kind, _)| object.gvk().is(group, kind));
            own.is_none_or(|(_, _, namespaced)| *namespaced)
        });
        if !in_namespace {
            object.set_namespace("");
        } else if object.namespace().is_empty() {
            object.set_namespace(namespace);
        }
    }
}

/// The kind that a CRD defines and whether it lives in namespaces.
fn defines(object: &Object) -> Option<(String, String, bool)> {
    if !object.gvk().is("apiextensions.k8s.io", "CustomResourceDefinition") {
        return None;
    }
    let spec = &object.value()["spec"];
    Some((
        spec["group"].as_str()?.to_owned(),
        spec["names"]["kind"].as_str()?.to_owned(),
        spec["scope"].as_str()? == "Namespaced",
    ))
}

/// `stringData` is write-only: applied as it stands, nobody would own the data it becomes, and an edit of
/// it would go unseen.
fn encode_string_data(object: &mut Object) {
    let Some(fields) = object.value_mut().as_object_mut() else { return };
    let Some(Value::Object(clear)) = fields.remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if !data.is_object() {
        *data = Value::Object(Map::new());
    }
    let Some(data) = data.as_object_mut() else { return };
    for (name, value) in clear {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        data.insert(name, base64::engine::general_purpose::STANDARD.encode(text).into());
    }
}

/// What a manifest may hold though only the server may set it; an apply with it is refused.
fn clean(object: &mut Object) {
    if let Some(fields) = object.value_mut().as_object_mut() {
        fields.remove("status");
    }
    let Some(metadata) = object.value_mut().get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"] {
        metadata.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::yaml;
    use crate::plan::Phase;

    fn objects(text: &str) -> Vec<Object> {
        let documents = yaml::read(text.as_bytes(), "f").unwrap();
        documents
            .into_iter()
            .map(|document| Object::new(document.value, Origin::default()).unwrap())
            .collect()
    }

    fn prepared(text: &str, ignore: Vec<IgnoreRule>) -> Vec<(Desired, Value)> {
        let settings = Settings { label: "n.a".into(), namespace: "n".into(), ignore, ..Settings::default() };
        let known = |gvk: &Gvk| match gvk.kind.as_str() {
            "Namespace" | "ClusterRole" => Some(false),
            "Thing" => None,
            _ => Some(true),
        };
        let desired = prepare(&objects(text), &BTreeMap::new(), &settings, known, |_| None).unwrap();
        desired
            .desired
            .into_iter()
            .map(|object| {
                let value = serde_json::from_slice(&object.body).unwrap();
                (object, value)
            })
            .collect()
    }

    #[test]
    fn objects_get_namespace_and_label() {
        let all = prepared(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: x, namespace: wrong}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, creationTimestamp: null}\nstringData: {a: b}\n",
            vec![],
        );
        assert_eq!(all[0].0.key.to_string(), "Namespace x");
        assert_eq!(all[1].0.key.to_string(), "Secret n/s");
        assert_eq!(all[1].1["metadata"]["labels"][TRACKING_LABEL], "n.a");
        assert_eq!(all[1].1["data"]["a"], "Yg==");
        assert!(
            all[1].1.get("stringData").is_none() && all[1].1["metadata"].get("creationTimestamp").is_none()
        );
    }

    #[test]
    fn a_crd_of_the_same_set_says_where_its_objects_live() {
        let text = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.e.org}\nspec: {group: e.org, scope: Cluster, names: {kind: Thing}}\n---\napiVersion: e.org/v1\nkind: Thing\nmetadata: {name: t}\n";
        assert_eq!(prepared(text, vec![])[1].0.key.namespace, "");
    }

    #[test]
    fn what_is_no_part_of_a_sync_is_left_out() {
        let job = |name: &str, hook: &str| {
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, annotations: {{helm.sh/hook: {hook}}}}}\n---\n"
            )
        };
        let all =
            prepared(&[job("a", "test"), job("b", "post-delete"), job("c", "post-install")].concat(), vec![]);
        let phases = |object: &Desired| object.hook.clone().unwrap().phases;
        let left: Vec<_> = all.iter().map(|(object, _)| (object.key.name.as_str(), phases(object))).collect();
        assert_eq!(left, [("b", vec![Phase::PostDelete]), ("c", vec![Phase::PostSync])]);
    }

    #[test]
    fn replicas_belong_to_the_autoscaler() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 3}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: h}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}\n";
        let all = prepared(text, vec![]);
        assert_eq!(all[0].0.ceded, [("/spec/replicas".into(), "HorizontalPodAutoscaler n/h".into())]);
        assert!(all[0].1["spec"].get("replicas").is_none());
    }

    #[test]
    fn ignored_fields_are_not_applied() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 3, list: [{name: a, x: 1}, {name: b, x: 2}]}\n";
        let rule = |pointers: &[&str], jq: &[&str]| IgnoreRule {
            kind: "Deployment".into(),
            pointers: pointers.iter().map(ToString::to_string).collect(),
            jq: jq.iter().map(ToString::to_string).collect(),
            ..IgnoreRule::default()
        };
        let all = prepared(text, vec![rule(&["/spec/replicas", "/spec/nothing", "/metadata/name"], &[])]);
        assert_eq!(all[0].1["spec"].get("replicas"), None);
        assert_eq!(all[0].1["metadata"]["name"], "d");
        let all = prepared(text, vec![rule(&[], &[".spec.list[] | select(.name == \"a\")"])]);
        assert_eq!(all[0].1["spec"]["list"].as_array().unwrap().len(), 1);
        let all = prepared(text, vec![rule(&[], &[".spec.list[].x"])]);
        assert_eq!(all[0].1["spec"]["list"][1].get("x"), None);
    }
}
