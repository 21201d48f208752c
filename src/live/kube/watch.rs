//! One watch for each kind that an application uses, filtered by our label, feeding the [`Index`].
//!
//! Whoever may read all of a cluster has one for each kind; an account, or an agent of one namespace, has one for each
//! kind and namespace that its applications use, which is all that its rights need to be.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::LABEL;
use crate::error::{Code, Error, Result};
use crate::health::{self, Rules};
use crate::live::kube::lean::{Form, MetadataOnly, Whole};
use crate::live::kube::{Backoff, Cluster, Index, Judges, Lean, Resource, Seen, steady, translate};
use crate::model::{Gvk, Key};

/// Pages of a list: 100 lean objects are 20 kB, their JSON 400 kB.
const PAGE: u32 = 100;
/// A first list that takes longer is reported as a failed watch; the watch goes on trying.
const FIRST_LIST: Duration = Duration::from_secs(30);

/// Something changed for the application with this label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The label's value.
    pub label: Box<str>,
    /// Which object.
    pub key: Key,
}

/// How far a watch reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All namespaces of the cluster.
    Cluster,
    /// One namespace; kinds that live in none are watched as they are.
    Namespace,
}

/// A kind, and its namespace; empty for all.
type Place = (Gvk, Box<str>);

struct Watch {
    resource: Resource,
    task: JoinHandle<()>,
    /// `None` until the first list is complete; then whether the watch is well.
    state: watch::Receiver<Option<Result<(), String>>>,
}

/// The running watches of one cluster.
pub struct Watches {
    cluster: Arc<Cluster>,
    index: Arc<Index>,
    notices: mpsc::Sender<Notice>,
    judges: Arc<Judges>,
    reach: Reach,
    running: Mutex<HashMap<Place, Watch>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.lock(|running| running.values().for_each(|watch| watch.task.abort()));
    }
}

impl Watches {
    /// No watch yet; changes will be sent to `notices`.
    pub fn new(
        cluster: Arc<Cluster>,
        index: Arc<Index>,
        notices: mpsc::Sender<Notice>,
        reach: Reach,
    ) -> Self {
        Self { cluster, index, notices, judges: Arc::default(), reach, running: Mutex::default() }
    }

    /// How far its watches reach.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    fn lock<T>(&self, change: impl FnOnce(&mut HashMap<Place, Watch>) -> T) -> T {
        match self.running.lock() {
            Ok(mut running) => change(&mut running),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// Starts the watch of a kind, where an object of this namespace is seen by it, if it is not running; and waits for
    /// its first list.
    pub async fn ensure(&self, gvk: &Gvk, resource: &Resource, namespace: &str) -> Result<()> {
        if !resource.watchable || self.index.is_synced(gvk, namespace) {
            return Ok(());
        }
        let namespace = if self.reach == Reach::Namespace && resource.namespaced { namespace } else { "" };
        let place: Place = (gvk.clone(), namespace.into());
        let failed = |why: String| {
            let near = if namespace.is_empty() { "" } else { " in namespace " };
            Error::new(Code::WatchFailed, format!("cannot watch {gvk}{near}{namespace}: {why}"))
        };
        let first = tokio::time::timeout(FIRST_LIST, async {
            loop {
                let mut state = self.lock(|running| {
                    let watch = running
                        .entry(place.clone())
                        .or_insert_with(|| self.start(place.clone(), resource.clone()));
                    watch.state.clone()
                });
                if let Ok(state) = state.wait_for(Option::is_some).await {
                    return state.clone();
                }
                // Started again with other rules of health, or ended: then it is started here.
                self.lock(|running| {
                    running
                        .get(&place)
                        .is_some_and(|watch| watch.task.is_finished())
                        .then(|| running.remove(&place))
                });
                tokio::task::yield_now().await;
            }
        });
        match first.await {
            Ok(Some(Err(why))) => Err(failed(why)),
            Ok(_) => Ok(()),
            Err(_) => Err(failed("no complete list within 30 s".into())),
        }
    }

    /// Judges the objects of the application with this label by these rules from now on; with an empty label those of
    /// all applications. Kinds that old or new rules speak of are listed again, so that what is known is judged anew.
    pub fn judge_by(&self, label: &str, rules: Option<&Arc<Rules>>) {
        let before = self.judges.set(label, rules.cloned());
        let spoken_of = |gvk: &Gvk| before.iter().chain(rules).any(|rules| rules.covers(gvk));
        self.lock(|running| {
            for (place, watch) in running.iter_mut().filter(|((gvk, _), _)| spoken_of(gvk)) {
                watch.task.abort();
                // What the index knows stays until the new list is complete.
                *watch = self.start(place.clone(), watch.resource.clone());
            }
        });
    }

    fn start(&self, (gvk, namespace): Place, resource: Resource) -> Watch {
        let (sender, state) = watch::channel(None);
        let ends = Ends {
            cluster: self.cluster.clone(),
            index: self.index.clone(),
            notices: self.notices.clone(),
            judges: self.judges.clone(),
            namespace,
        };
        // Whatever a rule says: the data of a Secret never travels.
        let whole = health::reads_status(&gvk) || (self.judges.covers(&gvk) && !gvk.is("", "Secret"));
        let task = if whole {
            tokio::spawn(follow::<Whole>(ends, gvk, resource.clone(), sender))
        } else {
            tokio::spawn(follow::<MetadataOnly>(ends, gvk, resource.clone(), sender))
        };
        Watch { resource, task, state }
    }
}

/// What a watch reads from and writes to.
struct Ends {
    cluster: Arc<Cluster>,
    index: Arc<Index>,
    notices: mpsc::Sender<Notice>,
    judges: Arc<Judges>,
    /// Empty for all.
    namespace: Box<str>,
}

async fn follow<F: Form>(
    ends: Ends,
    gvk: Gvk,
    resource: Resource,
    state: watch::Sender<Option<Result<(), String>>>,
) {
    let client = ends.cluster.client();
    let api = match &*ends.namespace {
        "" => kube::Api::<Lean<F>>::all_with(client, &resource.api),
        namespace => kube::Api::namespaced_with(client, namespace, &resource.api),
    };
    let config = watcher::Config::default().labels(LABEL).page_size(PAGE);
    let mut events = steady(api, config);
    let mut listed: HashSet<Key> = HashSet::new();
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                ends.index.bodies().forget_kind(&gvk);
                listed.clear();
            }
            Ok(Event::InitApply(lean)) => {
                let key = key_of(&gvk, &lean);
                listed.insert(key.clone());
                put(&ends, &gvk, key, lean).await;
            }
            Ok(Event::InitDone) => {
                for (key, seen) in ends.index.complete(&gvk, &ends.namespace, &listed) {
                    let _ = ends.notices.send(Notice { label: seen.label, key }).await;
                }
                listed = HashSet::new();
                backoff.reset();
                state.send_replace(Some(Ok(())));
            }
            Ok(Event::Apply(lean)) => {
                backoff.reset();
                let key = key_of(&gvk, &lean);
                put(&ends, &gvk, key, lean).await;
            }
            Ok(Event::Delete(lean)) => {
                let key = key_of(&gvk, &lean);
                // The event of a lost label is a deletion too, and names the object without it.
                let known = ends.index.remove(&key, lean.metadata.uid.as_deref().unwrap_or_default());
                let label = known.map_or_else(|| lean.label.into(), |seen| seen.label);
                let _ = ends.notices.send(Notice { label, key }).await;
            }
            Err(error) => {
                // Whoever needs to know more than the last news asks until there are newer ones.
                ends.index.bodies().forget_kind(&gvk);
                let why = match &error {
                    watcher::Error::InitialListFailed(error)
                    | watcher::Error::WatchStartFailed(error)
                    | watcher::Error::WatchFailed(error) => translate(error).to_string(),
                    other => other.to_string(),
                };
                tracing::debug!(kind = %gvk, error = %why, "Watch interrupted.");
                // What is refused is not merely away: what was seen of it says nothing any more.
                let lost = is_refused(&error).then(|| ends.index.lose(&gvk, &ends.namespace));
                state.send_if_modified(|state| {
                    let first = lost.is_some() || !matches!(state, Some(Ok(())));
                    if first {
                        *state = Some(Err(why));
                    }
                    first
                });
                for (label, key) in lost.into_iter().flatten() {
                    let _ = ends.notices.send(Notice { label, key }).await;
                }
                // kube's watcher tries again at once; an API server that is away must not be hammered.
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// Whether the kind is not served, or may not be watched.
fn is_refused(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

fn key_of<F: Form>(gvk: &Gvk, lean: &Lean<F>) -> Key {
    Key {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: lean.metadata.namespace.clone().unwrap_or_default(),
        name: lean.metadata.name.clone().unwrap_or_default(),
    }
}

async fn put<F: Form>(ends: &Ends, gvk: &Gvk, key: Key, lean: Lean<F>) {
    let notices = &ends.notices;
    let is_followed = ends.index.bodies().keep_lean(gvk, &key, &lean);
    let seen = judged(gvk, lean, &ends.judges);
    let label = seen.label.clone();
    let before = ends.index.put(key.clone(), seen.clone());
    // A new resourceVersion alone (a status write, a field of others) is no news to anybody but who follows it.
    let is_news = |before: &Seen| {
        before.version <= seen.version
            && (!before.same_facts(&seen) || (is_followed && before.version < seen.version))
    };
    if before.as_ref().is_some_and(|before| !is_news(before)) {
        return;
    }
    if let Some(before) = before
        && before.label != label
    {
        let _ = notices.send(Notice { label: before.label, key: key.clone() }).await;
    }
    let _ = notices.send(Notice { label, key }).await;
}

/// Judges health by what is known of the kind and drops everything but the few facts that are kept.
pub fn seen<F: Form>(gvk: &Gvk, lean: Lean<F>) -> Seen {
    judged(gvk, lean, &Judges::default())
}

fn judged<F: Form>(gvk: &Gvk, lean: Lean<F>, judges: &Judges) -> Seen {
    let mut metadata = Map::new();
    if let Some(generation) = lean.metadata.generation {
        metadata.insert("generation".into(), generation.into());
    }
    // How a hook ended counts, not that it is taken away afterwards.
    if let Some(time) = lean.metadata.deletion_timestamp.as_ref().filter(|_| lean.operation.is_empty()) {
        metadata.insert("deletionTimestamp".into(), time.0.to_string().into());
        metadata.insert("finalizers".into(), lean.metadata.finalizers.clone().unwrap_or_default().into());
    }
    for (field, text) in [("name", lean.metadata.name), ("namespace", lean.metadata.namespace)] {
        if let Some(text) = text {
            metadata.insert(field.into(), text.into());
        }
    }
    for (field, map) in [("labels", lean.metadata.labels), ("annotations", lean.metadata.annotations)] {
        if let Some(map) = map {
            let map = map.into_iter().map(|(name, value)| (name, value.into())).collect();
            metadata.insert(field.into(), Value::Object(map));
        }
    }
    let mut object = Map::new();
    object.insert("apiVersion".into(), gvk.api_version().into());
    object.insert("kind".into(), gvk.kind.as_str().into());
    object.insert("metadata".into(), Value::Object(metadata));
    for (name, raw) in [("spec", &lean.spec), ("status", &lean.status)] {
        if let Some(value) = raw.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            object.insert(name.into(), value);
        }
    }
    let health = judges.assess(&lean.label, gvk, &Value::Object(object));
    Seen {
        uid: lean.metadata.uid.unwrap_or_default().into(),
        version: lean.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default(),
        generation: lean.metadata.generation.unwrap_or_default(),
        ours: lean.ours,
        label: lean.label.into(),
        operation: lean.operation.into(),
        deleting: lean.metadata.deletion_timestamp.is_some(),
        health,
        last_writer: lean.last_writer.map(|(manager, _)| manager.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::health::{Rule, Script, Status};

    use super::*;

    fn status_of(json: &str, judges: &Judges) -> (Status, String) {
        let lean: Lean = serde_json::from_str(json).unwrap();
        let gvk = Gvk::parse("kubeflow.org/v1", "Notebook");
        let health = judged(&gvk, lean, judges).health;
        (health.status, health.reason.into())
    }

    /// Rules read labels and annotations, and nothing of them is kept.
    #[test]
    fn annotations_decide() {
        let notebook = |annotations: &str| {
            format!(
                r#"{{"metadata":{{"name":"a","annotations":{annotations}}},"status":{{"readyReplicas":1,"containerState":{{"running":{{}}}}}}}}"#
            )
        };
        let judges = Judges::default();
        assert_eq!(status_of(&notebook("{}"), &judges).0, Status::Healthy);
        let stopped = status_of(&notebook(r#"{"kubeflow-resource-stopped":"2026\u002d01-01"}"#), &judges);
        assert_eq!(stopped, (Status::Suspended, "stopped since 2026-01-01".into()));
    }

    /// The application's rules, then those of all, then what is known of the kind.
    #[test]
    fn rules_are_asked_in_layers() {
        let rules = |kind: &str, message: &str| {
            let script = Script::Lua(format!("return {{status = 'Degraded', message = '{message}'}}"));
            let rule = Rule { group: "kubeflow.org".into(), kind: kind.into(), script };
            Some(Arc::new(Rules::new(&[rule], || Duration::ZERO)))
        };
        let judges = Judges::default();
        let of = |label: &str| {
            let json = format!(
                r#"{{"metadata":{{"name":"a","labels":{{"{LABEL}":"{label}"}}}},"status":{{"readyReplicas":1}}}}"#
            );
            status_of(&json, &judges).1
        };
        judges.set("ml.a", rules("Notebook", "own"));
        judges.set("ml.b", rules("Profile", "other kind"));
        assert_eq!([of("ml.a"), of("ml.b"), of("ml.c")], ["own", "", ""]);
        judges.set("", rules("*", "all"));
        assert_eq!([of("ml.a"), of("ml.b"), of("ml.c")], ["own", "all", "all"]);
        judges.set("ml.a", None);
        assert_eq!(of("ml.a"), "all");
        assert!(judges.covers(&Gvk::parse("kubeflow.org/v1", "Tensorboard")));
    }
}
