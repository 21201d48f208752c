//! Asks for the pod, container and event behind an object that stays unhealthy.
//!
//! Nothing is asked for what is healthy, nor in the first 2 s, in which most things become so. Then three requests name the
//! cause; they are repeated after 10, 30 and 90 s, because pods fail in stages, and after that only when the object's own
//! health changes.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use serde_json::Value;

use super::{AppKey, Engine};
use crate::error::{Code, Error, Result};
use crate::health::culprit::{self, Selector};
use crate::health::{Health, Status};
use crate::live::kube::translate;
use crate::model::{Gvk, Key};
use crate::plan::Inventory;

/// What is well within this time is not asked about.
const PATIENCE: Duration = Duration::from_secs(2);
/// The shortest time between two questions about one object.
const PAUSE: Duration = Duration::from_secs(10);
/// When the same question is asked again.
const AGAIN: [Duration; 3] = [PAUSE, Duration::from_secs(30), Duration::from_secs(90)];
/// Most pods, and most events, of one question.
const LIMIT: u32 = 50;
/// A question that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of the worst object of an application.
struct Known {
    key: Key,
    health: Health,
    since: Instant,
    asked: Option<Instant>,
    /// Questions since its health changed last.
    questions: usize,
    said: Option<String>,
}

impl Known {
    /// How long the next question has to wait; `None` for ever.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let (from, pause) = match (self.asked, self.questions) {
            (None, _) => (self.since, PATIENCE),
            (Some(asked), 0) => (asked, PAUSE),
            (Some(asked), questions) => (asked, *AGAIN.get(questions - 1)?),
        };
        Some((from + pause).saturating_duration_since(now))
    }
}

/// The causes that are known, one for each application.
#[derive(Default)]
pub struct Culprits {
    known: Mutex<HashMap<AppKey, Known>>,
}

impl Culprits {
    fn lock<T>(&self, change: impl FnOnce(&mut HashMap<AppKey, Known>) -> T) -> T {
        match self.known.lock() {
            Ok(mut known) => change(&mut known),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// Forgets an application.
    pub fn forget(&self, app: &AppKey) {
        self.lock(|known| known.remove(app));
    }

    /// The health of an application with the cause named where it is known, and when to look again. With a fleet on its way
    /// nothing is asked.
    pub async fn name(
        &self,
        engine: &Engine,
        app: &AppKey,
        inventory: Option<&Inventory>,
        health: Health,
        busy: bool,
    ) -> (Health, Option<Duration>) {
        let ill = matches!(health.status, Status::Progressing | Status::Degraded | Status::Unknown);
        let found = inventory.filter(|_| ill).and_then(|inventory| worst(engine, inventory, health.status));
        let Some((key, gvk, own)) = found else {
            self.forget(app);
            return (health, None);
        };
        let now = Instant::now();
        let (ask, wait) = self.lock(|known| {
            let fresh = |since| Known {
                key: key.clone(),
                health: own.clone(),
                since,
                asked: None,
                questions: 0,
                said: None,
            };
            let entry = known.entry(app.clone()).or_insert_with(|| fresh(now));
            if entry.key != key {
                *entry = fresh(now);
            } else if entry.health != own {
                entry.health = own.clone();
                entry.questions = 0;
                // It may be another pod by now.
                entry.said = None;
            }
            let wait = entry.wait(now);
            let ask = !busy && wait == Some(Duration::ZERO);
            if ask {
                entry.asked = Some(now);
                entry.questions += 1;
            }
            (ask, if ask { entry.wait(now) } else { wait })
        });
        // Seconds of patience, so that a fleet's passes are not doubled.
        let wait = if busy { wait.map(|wait| wait.max(PAUSE)) } else { wait };
        let said = if ask {
            let answer = answer(engine, &gvk, &key).await;
            self.lock(|known| {
                if let Some(entry) = known.get_mut(app).filter(|entry| entry.key == key) {
                    entry.said.clone_from(&answer);
                }
            });
            answer
        } else {
            self.lock(|known| known.get(app).and_then(|entry| entry.said.clone()))
        };
        (said.map_or(health, |said| with_cause(&key, &own, &said)), wait)
    }
}

fn with_cause(key: &Key, own: &Health, said: &str) -> Health {
    Health::new(own.status, format!("{key}: {}: {said}", own.reason))
}

/// The health of what is owned with the cause named, asked for now: for a command that waited in vain.
pub async fn explained(engine: &Engine, inventory: &Inventory, health: Health) -> Health {
    let ill = matches!(health.status, Status::Progressing | Status::Degraded | Status::Unknown);
    let found = ill.then(|| worst(engine, inventory, health.status)).flatten();
    let Some((key, gvk, own)) = found else { return health };
    answer(engine, &gvk, &key).await.map_or(health, |said| with_cause(&key, &own, &said))
}

async fn answer(engine: &Engine, gvk: &Gvk, key: &Key) -> Option<String> {
    match tokio::time::timeout(TIMEOUT, question(engine, gvk, key)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::debug!(object = %key, error = %error, "The cause is not known.");
            None
        }
        Err(_) => None,
    }
}

/// An object of the worst health that has pods.
fn worst(engine: &Engine, inventory: &Inventory, status: Status) -> Option<(Key, Gvk, Health)> {
    inventory.iter().find_map(|(key, owned)| {
        culprit::selector(key)?;
        let seen = engine.index.get(key).filter(|seen| seen.health.status == status)?;
        Some((key.clone(), Gvk::parse(&owned.api_version, &key.kind), seen.health))
    })
}

async fn question(engine: &Engine, gvk: &Gvk, key: &Key) -> Result<Option<String>> {
    let client = engine.cluster.client();
    let pods: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &key.namespace, &ApiResource::erase::<Pod>(&()));
    let failed = |error: kube::Error| translate(&error).on_object(key);
    let read = |object: DynamicObject| {
        serde_json::to_value(object).map_err(|error| Error::new(Code::Internal, error.to_string()))
    };
    let labels = match culprit::selector(key) {
        None => return Ok(None),
        Some(Selector::Labels(labels)) => Some(labels),
        Some(Selector::Itself) => None,
        Some(Selector::OwnSpec) => {
            let resource = engine.cluster.resource(gvk, false).await?;
            let Some(workload) = engine.cluster.get(&resource, key).await? else { return Ok(None) };
            let Some(labels) = culprit::own_selector(&workload) else { return Ok(None) };
            Some(labels)
        }
    };
    let found: Vec<Value> = match labels {
        Some(labels) => {
            let parameters = ListParams::default().labels(&labels).limit(LIMIT);
            pods.list(&parameters)
                .await
                .map_err(failed)?
                .items
                .into_iter()
                .map(read)
                .collect::<Result<_>>()?
        }
        None => {
            pods.get_opt(&key.name).await.map_err(failed)?.into_iter().map(read).collect::<Result<_>>()?
        }
    };
    let pod = culprit::worst_pod(&found).and_then(|place| found[place]["metadata"]["name"].as_str());
    let (kind, name) = pod.map_or((key.kind.as_str(), key.name.as_str()), |pod| ("Pod", pod));
    let of = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let events: Api<DynamicObject> =
        Api::namespaced_with(client, &key.namespace, &ApiResource::erase::<Event>(&()));
    let events = match events.list(&ListParams::default().fields(&of).limit(LIMIT)).await {
        Ok(events) => events.items.into_iter().map(read).collect::<Result<_>>()?,
        // The pod alone says much.
        Err(_) => Vec::new(),
    };
    Ok(culprit::name(&found, &events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rare_and_end() {
        let begin = Instant::now();
        let key =
            Key { group: "apps".into(), kind: "Deployment".into(), namespace: "ml".into(), name: "a".into() };
        let health = Health::new(Status::Progressing, "0 of 1");
        let mut known = Known { key, health, since: begin, asked: None, questions: 0, said: None };
        let mut now = begin;
        let mut at = Vec::new();
        while let Some(wait) = known.wait(now) {
            now += wait;
            at.push((now - begin).as_secs());
            known.asked = Some(now);
            known.questions += 1;
        }
        assert_eq!(at, [2, 12, 42, 132]);
        // Another health is asked about again, not sooner than 10 s after the last question.
        known.questions = 0;
        assert_eq!(known.wait(now), Some(PAUSE));
        assert_eq!(known.wait(now + PAUSE * 2), Some(Duration::ZERO));
    }
}
