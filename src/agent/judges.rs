//! Rules of health that users bring: from the Application, from its repository, and from one `ConfigMap` for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher::{self, Event};

use crate::api::HealthRule;
use crate::error::Result;
use crate::health::{Rule, Rules, Script, Status, of_config_map};
use crate::live::kube::{Cluster, Watches};
use crate::model::Digest;
use crate::plan::Desired;

/// The label of `ConfigMaps` in a repository that hold rules of health in Argo CD's form.
pub const RULES_LABEL: &str = "driftless.dev/health-rules";

/// Time since the first call, by which scripts are limited.
pub fn clock() -> Duration {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// The rules of a spec.
pub fn rules_of(health: &[HealthRule]) -> Vec<Rule> {
    let rules = health.iter().filter_map(|rule| {
        let script = match (&rule.cel, &rule.lua) {
            (Some(cel), None) => {
                let optional = [
                    (Status::Suspended, &cel.suspended),
                    (Status::Progressing, &cel.progressing),
                    (Status::Degraded, &cel.degraded),
                ];
                let mut conditions: Vec<_> = optional
                    .into_iter()
                    .filter_map(|(status, source)| Some((status, source.clone()?)))
                    .collect();
                conditions.push((Status::Healthy, cel.healthy.clone()));
                Script::Cel { conditions, message: cel.message.clone() }
            }
            (None, Some(lua)) => Script::Lua(lua.clone()),
            // The CRD refuses both and neither.
            _ => return None,
        };
        Some(Rule { group: rule.group.clone(), kind: rule.kind.clone(), script })
    });
    rules.collect()
}

/// Which rules the watches judge by.
#[derive(Default)]
pub struct Judging {
    /// By the tracking label.
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    of_repository: Vec<Rule>,
    /// Of all rules that are in use.
    digest: Digest,
    /// Which judge by them.
    watches: Weak<Watches>,
}

impl Judging {
    fn lock<T>(&self, change: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        match self.known.lock() {
            Ok(mut known) => change(&mut known),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// An application is gone, and its rules with it.
    pub fn forget(&self, label: &str) {
        let known = self.lock(|known| known.remove(label));
        if let Some(watches) = known.and_then(|known| known.watches.upgrade()) {
            watches.judge_by(label, None);
        }
    }

    /// Makes the watches judge an application's objects by its rules. `desired` is read where bodies are at hand; elsewhere
    /// the rules that its repository had last stay.
    pub fn follow(&self, watches: &Arc<Watches>, label: &str, health: &[HealthRule], desired: &[Desired]) {
        let at_hand = desired.iter().any(|object| !object.body.is_empty());
        let none = Rules::digest_of(&[]);
        let changed = self.lock(|known| {
            let before = known.remove(label);
            let (of_repository, before) = match before {
                None => (Vec::new(), none),
                // Other watches have not heard of them.
                Some(known) if known.watches.as_ptr() != Arc::as_ptr(watches) => (known.of_repository, none),
                Some(known) => (known.of_repository, known.digest),
            };
            let of_repository = if at_hand { in_repository(desired) } else { of_repository };
            let mut all = rules_of(health);
            all.extend(of_repository.iter().cloned());
            let digest = Rules::digest_of(&all);
            if digest != none {
                let watches = Arc::downgrade(watches);
                known.insert(label.to_owned(), Known { of_repository, digest, watches });
            }
            (digest != before).then_some(all)
        });
        let Some(all) = changed else { return };
        let rules = (!all.is_empty()).then(|| Arc::new(Rules::new(&all, clock)));
        for error in rules.iter().flat_map(|rules| rules.broken()) {
            tracing::warn!(app = %label, error = %error, "A rule of health cannot be used.");
        }
        watches.judge_by(label, rules.as_ref());
    }
}

/// The rules in an application's own objects.
fn in_repository(desired: &[Desired]) -> Vec<Rule> {
    let maps = desired.iter().filter(|object| object.gvk.is("", "ConfigMap"));
    let rules = maps.filter_map(|object| {
        // Few maps have the word in them at all; the others are not parsed.
        let has_word = object.body.windows(RULES_LABEL.len()).any(|part| part == RULES_LABEL.as_bytes());
        let value: serde_json::Value = serde_json::from_slice(&object.body).ok().filter(|_| has_word)?;
        if value["metadata"]["labels"][RULES_LABEL] != "true" {
            return None;
        }
        match of_config_map(&value) {
            Ok(rules) => Some(rules),
            Err(error) => {
                tracing::warn!(object = %object.key, error = %error, "A rule of health cannot be used.");
                None
            }
        }
    });
    rules.flatten().collect()
}

/// Follows the `ConfigMap` whose rules are those of all applications.
pub(super) async fn follow_config_map(
    cluster: Arc<Cluster>,
    judge: impl Fn(Option<&Arc<Rules>>) + Send,
    namespace: String,
    name: String,
) {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client(), &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher::watcher(api, config).boxed();
    let mut known = Rules::digest_of(&[]);
    let mut pause = Duration::from_secs(1);
    while let Some(event) = events.next().await {
        let map = match event {
            Ok(Event::InitApply(map) | Event::Apply(map)) => Some(map),
            Ok(Event::Delete(_)) => None,
            Ok(Event::Init | Event::InitDone) => continue,
            Err(error) => {
                tracing::warn!(error = %error, "The rules of health in {namespace}/{name} cannot be read.");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(300));
                continue;
            }
        };
        pause = Duration::from_secs(1);
        let read = || -> Result<Vec<Rule>> {
            let Some(map) = &map else { return Ok(Vec::new()) };
            of_config_map(&serde_json::to_value(map).unwrap_or_default())
        };
        let all = match read() {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(error = %error, "The rules of health in {namespace}/{name} are not used.");
                continue;
            }
        };
        let digest = Rules::digest_of(&all);
        if digest == known {
            continue;
        }
        known = digest;
        let rules = (!all.is_empty()).then(|| Arc::new(Rules::new(&all, clock)));
        for error in rules.iter().flat_map(|rules| rules.broken()) {
            tracing::warn!(error = %error, "A rule of health cannot be used.");
        }
        judge(rules.as_ref());
    }
}
