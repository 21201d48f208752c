//! The Projects of a tree, and what they refuse of its Applications.

use std::collections::BTreeMap;

use serde_json::Value;

use super::gather::Unit;
use crate::agent::{AppKey, asker, intent, project_of, project_rules};
use crate::api::{Application, GROUP};
use crate::error::Error;
use crate::lint::{Finding, Subject, rule_named};
use crate::model::{Gvk, Key, is_cluster_scoped};
use crate::plan::{Intent, ProjectRules};

/// Groups with a dot whose other kinds are known to live in namespaces.
const BUILTIN: [&str; 6] = [
    "networking.k8s.io",
    "rbac.authorization.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    GROUP,
];

/// Projects by name; `None` where several of one name say different things, of which each may be for another cluster.
pub(super) struct Projects {
    rules: BTreeMap<String, Option<ProjectRules>>,
    /// Whether kinds of CRDs in the tree live in namespaces.
    scopes: BTreeMap<(String, String), bool>,
}

fn is_project(subject: &Subject) -> bool {
    subject.gvk.is(GROUP, "Project")
}

fn read(subject: &Subject) -> Result<ProjectRules, Error> {
    project_of(subject.value.clone()).and_then(|project| project_rules(&project))
}

fn application(subject: &Subject) -> Option<Application> {
    if !subject.gvk.is(GROUP, "Application") {
        return None;
    }
    let mut value = subject.value.clone();
    value.as_object_mut()?.remove("status");
    let mut application: Application = serde_json::from_value(value).ok()?;
    application.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    Some(application)
}

fn scope(subject: &Subject) -> Option<((String, String), bool)> {
    let text = |pointer: &str| subject.value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let kind = (text("/spec/group")?, text("/spec/names/kind")?);
    let is_crd = subject.gvk.is("apiextensions.k8s.io", "CustomResourceDefinition");
    is_crd.then_some((kind, text("/spec/scope")? == "Namespaced"))
}

impl Projects {
    pub(super) fn of(units: &[Unit]) -> Self {
        let mut written: BTreeMap<String, Vec<&Subject>> = BTreeMap::new();
        let mut scopes = BTreeMap::new();
        for subject in units.iter().flat_map(|unit| &unit.subjects) {
            if is_project(subject) {
                written.entry(subject.name().to_owned()).or_default().push(subject);
            }
            scopes.extend(scope(subject));
        }
        let rules = written.into_iter().map(|(name, all)| {
            let same = all.windows(2).all(|pair| pair[0].value["spec"] == pair[1].value["spec"]);
            let first = all.first().filter(|_| same);
            (name, first.and_then(|subject| read(subject).ok()))
        });
        Self { rules: rules.collect(), scopes }
    }

    /// What is wrong with the Projects of a unit, and what is refused of its Applications or of what it is.
    pub(super) fn findings(&self, unit: &Unit) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |id: &str, subject: usize, pointer: String, message: String| {
            if let Some(rule) = rule_named(id) {
                found.push(Finding { rule, severity: rule.severity, subject, pointer, message });
            }
        };
        for (number, subject) in unit.subjects.iter().enumerate() {
            if is_project(subject)
                && let Err(error) = read(subject)
            {
                add("invalid-project", number, "/spec".to_owned(), error.why);
            }
            for (pointer, error) in self.asked(subject) {
                add("refused-by-project", number, pointer, error.why);
            }
        }
        let rules = unit.application.as_deref().and_then(|application| {
            Some((application, self.rules.get(&application.spec.project)?.as_ref()?))
        });
        if let Some((application, rules)) = rules {
            for (number, subject) in unit.subjects.iter().enumerate() {
                if let Some(error) = self.refused(application, rules, subject) {
                    add("refused-by-project", number, "/kind".to_owned(), error.why);
                }
            }
        }
        found
    }

    /// What an Application states and may not, with the fields.
    fn asked(&self, subject: &Subject) -> Vec<(String, Error)> {
        let Some(application) = application(subject) else { return Vec::new() };
        let spec = &application.spec;
        let Some(Some(rules)) = self.rules.get(&spec.project) else { return Vec::new() };
        let app = AppKey::from(&application);
        let asker = asker(&app.namespace, spec, spec.destination.service_account.as_deref());
        let intent = intent(spec);
        let place = if rules.reaches(asker) { "/spec/destination" } else { "/spec/project" };
        let stated = rules.refuse_application(asker, &Intent { repositories: Vec::new(), ..intent.clone() });
        let mut all: Vec<(String, Error)> =
            stated.into_iter().map(|error| (place.to_owned(), error)).collect();
        // Of an address that is none, somebody else speaks, and the places would not fit.
        if rules.reaches(asker) && intent.repositories.len() == spec.sources().count() {
            for (number, repository) in intent.repositories.iter().enumerate() {
                let pointer = match spec.source {
                    Some(_) => "/spec/source/repo".to_owned(),
                    None => format!("/spec/sources/{number}/repo"),
                };
                all.extend(rules.refuse_repository(repository).map(|error| (pointer, error)));
            }
        }
        all
    }

    /// Why an object of an Application is refused; where its kind lives is not always known.
    fn refused(&self, application: &Application, rules: &ProjectRules, subject: &Subject) -> Option<Error> {
        let app = AppKey::from(application);
        let spec = &application.spec;
        let asker = asker(&app.namespace, spec, spec.destination.service_account.as_deref());
        let gvk = &subject.gvk;
        let verdict = |namespace: &str| {
            let (group, kind) = (gvk.group.clone(), gvk.kind.clone());
            let name = subject.name().to_owned();
            rules.refuse_object(asker, gvk, &Key { group, kind, namespace: namespace.to_owned(), name })
        };
        let own = spec.destination.namespace.as_deref().unwrap_or(&app.namespace);
        let namespace = if subject.namespace.is_empty() { own } else { &subject.namespace };
        match self.is_namespaced(gvk) {
            Some(true) => verdict(namespace),
            Some(false) => verdict(""),
            None => verdict(namespace).filter(|_| verdict("").is_some()),
        }
    }

    fn is_namespaced(&self, gvk: &Gvk) -> Option<bool> {
        if is_cluster_scoped(gvk) {
            return Some(false);
        }
        let own = self.scopes.get(&(gvk.group.clone(), gvk.kind.clone())).copied();
        let is_builtin = !gvk.group.contains('.') || BUILTIN.contains(&gvk.group.as_str());
        own.or(is_builtin.then_some(true))
    }
}
