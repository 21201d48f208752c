//! What the Projects of a repository refuse after a merge and did not refuse before.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::agent::{asker, project_of, project_rules, refusal};
use crate::api::{Application, GROUP};
use crate::error::{Error, Result};
use crate::model::{Gvk, yaml};
use crate::plan::{Desired, ProjectRules};

/// The Projects of one side, by name, as they are written.
pub(super) type Written = BTreeMap<String, Value>;

/// The Projects among the documents of a file.
pub(super) fn read(bytes: &[u8], file: &str) -> Result<Vec<(String, Value)>> {
    let documents = yaml::read(bytes, file)?.into_iter().map(|document| document.value);
    let projects = documents.filter(|value| {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        Gvk::parse(text("apiVersion"), text("kind")).is(GROUP, "Project")
    });
    Ok(projects.filter_map(|value| Some((value["metadata"]["name"].as_str()?.to_owned(), value))).collect())
}

/// What one side refuses of an Application and of what it renders to. A Project that is not in the repository is not
/// guessed at.
fn refused(projects: &Written, application: &Application, desired: &[&Desired]) -> Vec<Error> {
    let spec = &application.spec;
    let Some(value) = projects.get(&spec.project) else { return Vec::new() };
    let rules = match rules_of(&spec.project, value) {
        Ok(rules) => rules,
        Err(error) => return vec![error],
    };
    let namespace = application.metadata.namespace.as_deref().unwrap_or_default();
    let asker = asker(namespace, spec, spec.destination.service_account.as_deref());
    if let Some(error) = refusal(&rules, asker, spec) {
        return vec![error];
    }
    let refuse = |object: &&Desired| {
        let error = rules.refuse_objects(asker, std::slice::from_ref(*object)).into_values().next()?;
        Some(error.reworded(|text| object.hidden.scrub(text)))
    };
    desired.iter().filter_map(refuse).collect()
}

fn rules_of(name: &str, value: &Value) -> Result<ProjectRules> {
    let rules = project_of(value.clone()).and_then(|project| project_rules(&project));
    rules.map_err(|error| error.on_object(format!("Project {name}")))
}

/// An Application on one side: the Projects there, and what it renders to.
pub(super) type Side<'a> = (&'a Written, Option<&'a Application>, Vec<&'a Desired>);

/// What is refused now and was not before.
pub(super) fn newly_refused(before: &Side<'_>, after: &Side<'_>) -> Vec<Error> {
    let all = |(projects, application, desired): &Side<'_>| {
        application.map(|application| refused(projects, application, desired)).unwrap_or_default()
    };
    // Lines move.
    let identity = |error: &Error| (error.place.object.clone(), error.why.clone());
    let now = all(after);
    if now.is_empty() {
        return now;
    }
    let known: HashSet<_> = all(before).iter().map(identity).collect();
    now.into_iter().filter(|error| !known.contains(&identity(error))).collect()
}
