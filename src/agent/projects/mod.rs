//! Projects: one watch of them, kept as rules; whoever names one that changes gets a pass.
//!
//! No pass begins before the first list is complete, or an Application would be held against rules that are not the ones
//! that are written. Where Projects cannot be listed at all, because the CRD or the right is missing, the secure defaults
//! hold: never more.

mod ask;
mod rules;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

use super::AppKey;
use crate::api::{DEFAULT_PROJECT, Project};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Backoff, steady};
use crate::plan::ProjectRules;

pub(super) use ask::may_look_up;
pub use ask::{asker, first_of, intent, refusal};
pub use rules::{project_of, project_rules};

/// The longest pause between two tries of a watch that fails; 300 s with its random part.
const PAUSE: Duration = Duration::from_secs(240);

/// A Project as it was seen last.
struct Known {
    uid: String,
    generation: i64,
    rules: Result<Arc<ProjectRules>>,
}

#[derive(Default)]
struct Inner {
    known: HashMap<String, Known>,
    /// Which Project an Application names.
    named: HashMap<AppKey, String>,
}

/// All Projects.
pub(super) struct Projects {
    inner: Mutex<Inner>,
    listed: watch::Sender<bool>,
    defaults: Arc<ProjectRules>,
}

impl Default for Projects {
    fn default() -> Self {
        let defaults = Arc::new(ProjectRules::secure_defaults(DEFAULT_PROJECT));
        Self { inner: Mutex::default(), listed: watch::Sender::new(false), defaults }
    }
}

impl Projects {
    fn lock<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes which Project an Application names; changes of it are told.
    pub(super) fn subscribe(&self, app: &AppKey, project: &str) {
        self.lock(|inner| inner.named.insert(app.clone(), project.to_owned()));
    }

    /// The application is gone.
    pub(super) fn unsubscribe(&self, app: &AppKey) {
        self.lock(|inner| inner.named.remove(app));
    }

    /// The rules of a Project.
    ///
    /// # Errors
    /// `ProjectRefused` where there is none of this name, `ProjectInvalid` where it cannot be read.
    pub(super) fn rules(&self, name: &str) -> Result<Arc<ProjectRules>> {
        match self.lock(|inner| inner.known.get(name).map(|known| known.rules.clone())) {
            Some(rules) => rules,
            None if name == DEFAULT_PROJECT => Ok(self.defaults.clone()),
            None => Err(missing(name)),
        }
    }

    /// Waits for the first list, or for the answer that there is none to be had.
    pub(super) async fn listed(&self) {
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// Follows the Projects of a cluster and tells whom a change concerns. Never ends.
    pub(super) async fn follow(&self, client: kube::Client, changed: impl Fn(Vec<AppKey>) + Send) {
        // Untyped: one that this version cannot read must not hide the others.
        let resource = ApiResource::erase::<Project>(&());
        let api: Api<DynamicObject> = Api::all_with(client, &resource);
        let mut events = steady(api, watcher::Config::default());
        let mut listed = HashSet::new();
        let (mut backoff, mut complained) = (Backoff::new(Duration::from_millis(200), PAUSE), false);
        while let Some(event) = events.next().await {
            let news = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    Vec::new()
                }
                Ok(Event::InitApply(object)) => {
                    let name = object.metadata.name.clone().unwrap_or_default();
                    listed.insert(name);
                    self.seen(object)
                }
                Ok(Event::InitDone) => {
                    backoff.reset();
                    if std::mem::take(&mut complained) {
                        tracing::info!("The watch of Projects goes on.");
                    }
                    let gone = self.retain(|name| listed.contains(name));
                    self.listed.send_replace(true);
                    gone
                }
                Ok(Event::Apply(object)) => self.seen(object),
                Ok(Event::Delete(object)) => {
                    let name = object.metadata.name.unwrap_or_default();
                    self.retain(|known| *known != name)
                }
                Err(error) => {
                    let denied = is_denied(&error);
                    if !std::mem::replace(&mut complained, true) {
                        let then =
                            if denied { "; the secure defaults hold for all Applications" } else { "" };
                        tracing::warn!(error = %error, "Projects cannot be watched{then}. It is tried again.");
                    }
                    let gone = if denied { self.retain(|_| false) } else { Vec::new() };
                    if denied {
                        self.listed.send_replace(true);
                    }
                    tell(&changed, gone);
                    tokio::time::sleep(backoff.pause()).await;
                    Vec::new()
                }
            };
            tell(&changed, news);
        }
    }

    /// Notes a Project; who names it, where it says something new.
    fn seen(&self, object: DynamicObject) -> Vec<AppKey> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        self.lock(|inner| {
            let same = inner
                .known
                .get(&name)
                .is_some_and(|known| (&known.uid, known.generation) == (&uid, generation));
            if same {
                return Vec::new();
            }
            let rules = serde_json::to_value(object)
                .map_err(|error| Error::new(Code::Internal, error.to_string()))
                .and_then(project_of)
                .and_then(|project| project_rules(&project))
                .map(Arc::new)
                .map_err(|error| error.on_object(format!("Project {name}")));
            if let Err(error) = &rules {
                tracing::warn!(error = %error, "A Project cannot be used; nothing is delivered for it.");
            }
            inner.known.insert(name.clone(), Known { uid, generation, rules });
            inner.naming(&[name])
        })
    }

    /// Forgets the others; who names one of those.
    fn retain(&self, stays: impl Fn(&String) -> bool) -> Vec<AppKey> {
        self.lock(|inner| {
            let gone: Vec<String> = inner.known.keys().filter(|name| !stays(name)).cloned().collect();
            inner.known.retain(|name, _| stays(name));
            inner.naming(&gone)
        })
    }
}

impl Inner {
    fn naming(&self, projects: &[String]) -> Vec<AppKey> {
        let all = self.named.iter().filter(|(_, project)| projects.contains(project));
        all.map(|(app, _)| app.clone()).collect()
    }
}

fn tell(changed: &impl Fn(Vec<AppKey>), apps: Vec<AppKey>) {
    if !apps.is_empty() {
        changed(apps);
    }
}

fn missing(name: &str) -> Error {
    Error::new(Code::ProjectRefused, format!("there is no Project {name}, which spec.project names"))
        .hint("`kubectl get projects.driftless.dev` lists all of them")
}

/// Whether the CRD or the right is missing.
fn is_denied(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn project(name: &str, generation: i64, spec: &serde_json::Value) -> DynamicObject {
        let value = json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Project",
            "metadata": {"name": name, "uid": "u", "generation": generation}, "spec": spec});
        serde_json::from_value(value).unwrap()
    }

    fn app(name: &str) -> AppKey {
        AppKey { namespace: "ml".into(), name: name.into() }
    }

    #[test]
    fn a_change_concerns_those_who_name_the_project() {
        let projects = Projects::default();
        projects.subscribe(&app("a"), "one");
        projects.subscribe(&app("b"), "two");
        projects.subscribe(&app("c"), "default");
        assert_eq!(projects.rules("one").unwrap_err().code, Code::ProjectRefused);
        assert!(!projects.rules("default").unwrap().is_stated);
        let spec = json!({"namespaces": ["ml"]});
        assert_eq!(projects.seen(project("one", 1, &spec)), [app("a")]);
        assert!(projects.seen(project("one", 1, &spec)).is_empty(), "nothing new");
        assert_eq!(projects.seen(project("one", 2, &spec)), [app("a")]);
        assert!(projects.rules("one").unwrap().is_stated);
        assert_eq!(projects.seen(project("default", 1, &json!({"namespaces": ["[a]"]}))), [app("c")]);
        assert_eq!(projects.rules("default").unwrap_err().code, Code::ProjectInvalid, "never more");
        // A field that this version does not know may be a restriction.
        assert_eq!(projects.seen(project("two", 1, &json!({"namespaces": ["ml"], "only": []}))), [app("b")]);
        assert_eq!(projects.rules("two").unwrap_err().code, Code::ProjectInvalid);
        projects.subscribe(&app("a"), "two");
        assert_eq!(projects.retain(|name| name == "one").len(), 3);
        projects.unsubscribe(&app("a"));
        assert!(projects.retain(|_| false).is_empty());
    }
}
