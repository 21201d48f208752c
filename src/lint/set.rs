//! Objects that are applied together, and how rules look at them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::model::{Gvk, Object, Origin};

/// An object as rules see it: unlike [`Object`] it may have no name.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The data.
    pub value: Value,
    /// Its kind.
    pub gvk: Gvk,
    /// Its namespace; empty where not stated.
    pub namespace: String,
    /// Where it was read.
    pub origin: Origin,
    /// Where in the document it stands: empty, or `/items/2` of a list.
    pub base: String,
}

impl Subject {
    /// A rendered object.
    pub fn of(object: &Object) -> Self {
        Self {
            value: object.value().clone(),
            gvk: object.gvk().clone(),
            namespace: object.namespace().to_owned(),
            origin: object.origin().clone(),
            base: String::new(),
        }
    }

    /// A document, where it says what it is; a list gives its items.
    pub fn read(value: Value, origin: &Origin) -> Vec<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else { return Vec::new() };
        if kind == "List" && api_version == "v1" {
            let items = value.get("items").and_then(Value::as_array).into_iter().flatten().enumerate();
            let items = items.flat_map(|(at, item)| {
                let mut found = Self::read(item.clone(), origin);
                found.iter_mut().for_each(|one| one.base = format!("/items/{at}{}", one.base));
                found
            });
            return items.collect();
        }
        let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        vec![Self {
            gvk: Gvk::parse(&api_version, &kind),
            namespace: namespace.to_owned(),
            value,
            origin: origin.clone(),
            base: String::new(),
        }]
    }

    /// `metadata.name`, empty where there is none.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// What people call it: `Deployment ml/fraud`.
    pub fn title(&self) -> String {
        let name = match self.name() {
            "" => format!("{}*", self.text("/metadata/generateName")),
            name => name.to_owned(),
        };
        let (group, kind) = (self.gvk.group.clone(), self.gvk.kind.clone());
        crate::model::Key { group, kind, namespace: self.namespace.clone(), name }.to_string()
    }

    /// What stands at a JSON pointer; null is nothing.
    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The text at a JSON pointer; empty where there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The items of the list at a JSON pointer.
    pub(super) fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// An annotation's text.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.at("/metadata/annotations")?.get(name)?.as_str()
    }

    /// A label's text.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.at("/metadata/labels")?.get(name)?.as_str()
    }

    /// Whether it is applied at a moment of a sync and not kept.
    pub(super) fn is_hook(&self) -> bool {
        let keys = ["driftless.dev/hook", "argocd.argoproj.io/hook", "helm.sh/hook"];
        keys.iter().any(|key| self.annotation(key).is_some())
    }

    /// Whether group and kind are these.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.gvk.is(group, kind)
    }
}

/// Names of objects, of the set and of everything beside it. Which namespace an object of another set goes to is not
/// known for sure, so it is no part of it.
#[derive(Clone, Debug, Default)]
pub struct Names(HashSet<(String, String, String)>);

impl Names {
    /// Adds the objects of a set.
    pub fn add<'a>(&mut self, subjects: impl IntoIterator<Item = &'a Subject>) {
        let subjects = subjects.into_iter();
        self.0
            .extend(subjects.map(|one| (one.gvk.group.clone(), one.gvk.kind.clone(), one.name().to_owned())));
    }

    fn holds(&self, group: &str, kind: &str, name: &str) -> bool {
        self.0.contains(&(group.to_owned(), kind.to_owned(), name.to_owned()))
    }
}

/// Objects that are applied together.
pub struct Set<'a> {
    subjects: &'a [Subject],
    by_kind: HashMap<(&'a str, &'a str), Vec<&'a Subject>>,
    elsewhere: &'a Names,
    /// Kinds and names of what controllers make of these objects.
    made: HashSet<(&'static str, String)>,
}

impl<'a> Set<'a> {
    /// A set, and the names of what the rest of the tree holds.
    pub fn new(subjects: &'a [Subject], elsewhere: &'a Names) -> Self {
        let mut by_kind: HashMap<(&str, &str), Vec<&Subject>> = HashMap::new();
        for subject in subjects {
            by_kind.entry((&subject.gvk.group, &subject.gvk.kind)).or_default().push(subject);
        }
        let made = subjects.iter().flat_map(made).collect();
        Self { subjects, by_kind, elsewhere, made }
    }

    /// All objects.
    pub fn subjects(&self) -> &'a [Subject] {
        self.subjects
    }

    /// The objects of a kind.
    pub(super) fn all(&self, group: &str, kind: &str) -> impl Iterator<Item = &'a Subject> + use<'_, 'a> {
        let own: Vec<&'a Subject> = self.by_kind.get(&(group, kind)).cloned().unwrap_or_default();
        own.into_iter()
    }

    /// One object of this set. Whoever states no namespace may be in any.
    pub(super) fn find(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<&'a Subject> {
        self.all(group, kind).find(|one| one.name() == name && same_namespace(&one.namespace, namespace))
    }

    /// Whether an object is neither here nor anywhere in the tree, though the set has others of its kind in that
    /// namespace: whoever keeps some in Git keeps all there.
    pub(super) fn lacks(&self, group: &str, kind: &str, namespace: &str, name: &str) -> bool {
        let mut siblings =
            self.all(group, kind).filter(|one| same_namespace(&one.namespace, namespace)).peekable();
        siblings.peek().is_some()
            && siblings.all(|one| one.name() != name)
            && !self.elsewhere.holds(group, kind, name)
            && !self.made.iter().any(|(made, other)| *made == kind && other == name)
    }

    /// Whether an object is neither here nor anywhere in the tree.
    pub(super) fn nowhere(&self, group: &str, kind: &str, namespace: &str, name: &str) -> bool {
        self.find(group, kind, namespace, name).is_none() && !self.elsewhere.holds(group, kind, name)
    }
}

/// What a controller makes of an object: kinds and names of the core group.
fn made(subject: &Subject) -> Vec<(&'static str, String)> {
    let own = subject.name();
    let or_own = |path: &str| match subject.text(path) {
        "" => own.to_owned(),
        name => name.to_owned(),
    };
    match (subject.gvk.group.as_str(), subject.gvk.kind.as_str()) {
        ("cert-manager.io", "Certificate") => vec![("Secret", subject.text("/spec/secretName").to_owned())],
        ("external-secrets.io", "ExternalSecret" | "ClusterExternalSecret") => {
            vec![("Secret", or_own("/spec/target/name"))]
        }
        ("bitnami.com", "SealedSecret") => vec![("Secret", or_own("/spec/template/metadata/name"))],
        ("", "Service") => {
            let key = "service.beta.openshift.io/serving-cert-secret-name";
            subject.annotation(key).map(|name| ("Secret", name.to_owned())).into_iter().collect()
        }
        ("trust.cert-manager.io", "Bundle") => vec![("ConfigMap", own.to_owned())],
        ("ray.io", _) => ["head-svc", "serve-svc"].map(|end| ("Service", format!("{own}-{end}"))).into(),
        ("serving.kserve.io", "InferenceService") => {
            let ends = ["", "-predictor", "-transformer", "-explainer", "-predictor-default"];
            ends.map(|end| ("Service", format!("{own}{end}"))).into()
        }
        ("serving.knative.dev", "Service" | "Route") => vec![("Service", own.to_owned())],
        _ => Vec::new(),
    }
}

/// Whether two objects may be in one namespace.
pub(super) fn same_namespace(one: &str, other: &str) -> bool {
    one == other || one.is_empty() || other.is_empty()
}
