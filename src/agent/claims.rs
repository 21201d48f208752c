//! Who wants what: an object moves from one Application to another, and is never deleted while another wants it.
//!
//! 1. Every render notes which objects its Application wants, 8 bytes each.
//! 2. The label of an object says whose it is. Its owner keeps it as long as it wants it, and as long as nobody knows
//!    whether it does; who claims it meanwhile is noted and woken when that ends.
//! 3. Before anything is deleted, Applications that may come to want it are waited for: those that had no render yet, and
//!    those that read the same branch and have not come to this commit. So it does not matter whose pass comes first.
//!    Before all Applications are known, nothing is deleted at all. The wait is bounded, because one that is broken may never come.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::AppKey;
use crate::api::{ApplicationSpec, label_value};
use crate::model::Key;
use crate::plan::Desired;

/// How long a deletion waits for an Application that does not come to a commit, or to its first render.
const LIMIT: Duration = Duration::from_secs(120);

/// What other Applications say of the objects of one.
pub trait Neighbours: Sync {
    /// Whether the Application with this label keeps the object; it is claimed from it then.
    fn keep(&self, label: &str, key: &Key) -> bool;
    /// Whether another Application wants the object.
    fn want(&self, key: &Key) -> bool;
    /// Whom a deletion waits for, and for how long at most.
    fn unsettled(&self) -> Option<(String, Duration)>;
}

/// How an Application stands.
struct Standing {
    /// Since when it is known.
    since: Instant,
    /// What it wants, sorted; `None` before its first render.
    wants: Option<Box<[u64]>>,
    /// Repository, revision and commit of each source, and since when it is there.
    heads: Vec<(String, String, String)>,
    /// It is held at a commit, so it comes to no newer one.
    held: bool,
}

#[derive(Default)]
struct Inner {
    /// All Applications are known.
    listed: bool,
    standing: HashMap<AppKey, Standing>,
    labels: HashMap<String, AppKey>,
    /// Who claims something of whom.
    claims: HashMap<AppKey, HashSet<AppKey>>,
    /// Whom somebody waits for with a deletion, and since when.
    waits: HashMap<AppKey, (Instant, HashSet<AppKey>)>,
}

/// What all Applications want.
#[derive(Default)]
pub(super) struct Claims(Mutex<Inner>);

/// An object's name among all clusters. What `destination.cluster` names is a Secret beside the Application.
fn mark(app: &AppKey, spec: &ApplicationSpec, key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    spec.destination.cluster.as_ref().map(|cluster| (&app.namespace, cluster)).hash(&mut hasher);
    key.hash(&mut hasher);
    hasher.finish()
}

fn heads(spec: &ApplicationSpec, commits: &[String]) -> Vec<(String, String, String)> {
    let sources = spec.sources().zip(commits);
    sources.map(|(source, commit)| (source.repo.clone(), source.revision.clone(), commit.clone())).collect()
}

impl Inner {
    /// Who need no longer wait for this one.
    fn settled(&mut self, app: &AppKey) -> Vec<AppKey> {
        let mut free = Vec::new();
        for (waiting, (_, awaited)) in &mut self.waits {
            if awaited.remove(app) && awaited.is_empty() {
                free.push(waiting.clone());
            }
        }
        free
    }

    fn claimants(&mut self, app: &AppKey) -> impl Iterator<Item = AppKey> + use<> {
        self.claims.remove(app).into_iter().flatten()
    }
}

impl Claims {
    fn lock<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        match self.0.lock() {
            Ok(mut inner) => change(&mut inner),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// An Application is known; `anew` where another one has its name.
    pub(super) fn seen(&self, app: &AppKey, anew: bool) {
        self.lock(|inner| {
            if anew {
                inner.standing.remove(app);
            }
            inner.labels.insert(label_value(&app.namespace, &app.name), app.clone());
            inner.standing.entry(app.clone()).or_insert_with(|| Standing {
                since: Instant::now(),
                wants: None,
                heads: Vec::new(),
                held: false,
            });
        });
    }

    /// All Applications are known. Returns who waited for that.
    pub(super) fn listed(&self) -> Vec<AppKey> {
        self.lock(|inner| {
            inner.listed = true;
            inner.waits.keys().cloned().collect()
        })
    }

    /// An Application is gone. Returns whom that concerns.
    pub(super) fn gone(&self, app: &AppKey) -> Vec<AppKey> {
        self.lock(|inner| {
            inner.standing.remove(app);
            inner.labels.remove(&label_value(&app.namespace, &app.name));
            inner.waits.remove(app);
            let mut concerned = inner.settled(app);
            concerned.extend(inner.claimants(app));
            concerned
        })
    }

    /// An Application has come to these commits; `desired` where it wants something else than before, `None` also where
    /// it could not be rendered. Returns whom that concerns.
    pub(super) fn comes_to(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        commits: &[String],
        desired: Option<&[Desired]>,
    ) -> Vec<AppKey> {
        let wants = desired.map(|desired| {
            let objects = desired.iter().filter(|object| object.hook.is_none());
            let mut wants: Box<[u64]> = objects.map(|object| mark(app, spec, &object.key)).collect();
            wants.sort_unstable();
            wants
        });
        self.lock(|inner| {
            let Some(standing) = inner.standing.get_mut(app) else { return Vec::new() };
            standing.heads = heads(spec, commits);
            standing.held = spec.rollback.is_some();
            let mut concerned = Vec::new();
            if let Some(wants) = wants {
                standing.wants = Some(wants);
                concerned.extend(inner.claimants(app));
            }
            if inner.standing.get(app).is_some_and(|standing| standing.wants.is_some()) {
                concerned.extend(inner.settled(app));
            }
            concerned
        })
    }

    /// An Application goes with its objects, so it wants none. Returns who claims some.
    pub(super) fn leaves(&self, app: &AppKey) -> Vec<AppKey> {
        self.lock(|inner| {
            let Some(standing) = inner.standing.get_mut(app) else { return Vec::new() };
            standing.wants = Some(Box::default());
            inner.claimants(app).collect()
        })
    }

    /// Forgets that an Application waits.
    pub(super) fn waits_no_more(&self, app: &AppKey) {
        self.lock(|inner| inner.waits.remove(app));
    }

    fn want(&self, except: &AppKey, mark: u64) -> bool {
        self.lock(|inner| {
            inner.standing.iter().any(|(app, standing)| {
                app != except
                    && standing.wants.as_ref().is_some_and(|wants| wants.binary_search(&mark).is_ok())
            })
        })
    }

    fn keep(&self, claimant: &AppKey, label: &str, mark: u64) -> bool {
        self.lock(|inner| {
            let Some(owner) = inner.labels.get(label).cloned() else { return false };
            let keeps = inner.standing.get(&owner).is_some_and(|standing| {
                standing.wants.as_ref().is_none_or(|wants| wants.binary_search(&mark).is_ok())
            });
            if keeps {
                inner.claims.entry(owner).or_default().insert(claimant.clone());
            }
            keeps
        })
    }

    /// Whom a deletion waits for, at these commits of its sources.
    fn unsettled(
        &self,
        app: &AppKey,
        own: &[(String, String, String)],
        now: Instant,
    ) -> Option<(String, Duration)> {
        self.lock(|inner| {
            let since = inner.waits.get(app).map_or(now, |(since, _)| *since);
            if !inner.listed {
                inner.waits.insert(app.clone(), (since, HashSet::new()));
                return Some(("waits until all Applications are known".to_owned(), LIMIT));
            }
            let left = |since: Instant| LIMIT.saturating_sub(now.duration_since(since));
            let mut awaited: Vec<(&AppKey, Duration, &str)> = Vec::new();
            for (other, standing) in inner.standing.iter().filter(|(other, _)| *other != app) {
                let behind = |(repo, revision, commit): &(String, String, String)| {
                    own.iter().any(|(r, v, c)| r == repo && v == revision && c != commit)
                };
                let (rest, what) = if standing.wants.is_none() {
                    (left(standing.since), "to be rendered")
                } else if !standing.held && standing.heads.iter().any(behind) {
                    (left(since), "to come to this commit")
                } else {
                    continue;
                };
                if !rest.is_zero() {
                    awaited.push((other, rest, what));
                }
            }
            awaited.sort_unstable();
            let Some((first, _, what)) = awaited.first() else {
                inner.waits.remove(app);
                return None;
            };
            let more = match awaited.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let words = format!("waits for the Application {first} {what}{more}, which may want the objects");
            let rest = awaited.iter().map(|(_, rest, _)| *rest).max()?;
            let names = awaited.iter().map(|(app, ..)| (*app).clone()).collect();
            inner.waits.insert(app.clone(), (since, names));
            Some((words, rest))
        })
    }

    /// Those around an Application at these commits.
    pub(super) fn around<'a>(
        &'a self,
        app: &'a AppKey,
        spec: &'a ApplicationSpec,
        commits: &[String],
    ) -> Around<'a> {
        Around { claims: self, app, spec, heads: heads(spec, commits) }
    }
}

/// The Applications around one.
pub(super) struct Around<'a> {
    claims: &'a Claims,
    app: &'a AppKey,
    spec: &'a ApplicationSpec,
    heads: Vec<(String, String, String)>,
}

impl Neighbours for Around<'_> {
    fn keep(&self, label: &str, key: &Key) -> bool {
        self.claims.keep(self.app, label, mark(self.app, self.spec, key))
    }

    fn want(&self, key: &Key) -> bool {
        self.claims.want(self.app, mark(self.app, self.spec, key))
    }

    fn unsettled(&self) -> Option<(String, Duration)> {
        self.claims.unsettled(self.app, &self.heads, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Source;

    fn app(name: &str) -> AppKey {
        AppKey { namespace: "n".into(), name: name.into() }
    }

    fn key(name: &str) -> Key {
        Key { group: String::new(), kind: "ConfigMap".into(), namespace: "n".into(), name: name.into() }
    }

    fn spec() -> ApplicationSpec {
        let source = serde_json::json!({"repo": "https://git.example/a", "revision": "main"});
        let source: Source = serde_json::from_value(source).unwrap();
        serde_json::from_value(serde_json::json!({ "source": source })).unwrap()
    }

    fn comes(claims: &Claims, name: &str, commit: &str, wants: &[&str]) -> Vec<AppKey> {
        let object = |name: &&str| Desired { key: key(name), ..Desired::default() };
        let desired: Vec<Desired> = wants.iter().map(object).collect();
        claims.comes_to(&app(name), &spec(), &[commit.into()], Some(&desired))
    }

    fn keep(claims: &Claims, name: &str, label: &str, object: &str) -> bool {
        claims.around(&app(name), &spec(), &[]).keep(label, &key(object))
    }

    fn want(claims: &Claims, name: &str, object: &str) -> bool {
        claims.around(&app(name), &spec(), &[]).want(&key(object))
    }

    #[test]
    fn an_owner_keeps_what_it_wants_and_claimants_are_woken() {
        let claims = Claims::default();
        for name in ["a", "b"] {
            claims.seen(&app(name), false);
        }
        assert!(keep(&claims, "b", "n.a", "x"), "nobody knows yet");
        assert_eq!(comes(&claims, "a", "1", &["x"]), [app("b")]);
        assert!(keep(&claims, "b", "n.a", "x"));
        assert!(!keep(&claims, "b", "n.a", "y"));
        assert!(!keep(&claims, "b", "n.stranger", "x"));
        assert!(want(&claims, "b", "x") && !want(&claims, "a", "x"));
        assert_eq!(comes(&claims, "a", "2", &[]), [app("b")]);
        assert!(!keep(&claims, "b", "n.a", "x"));
        comes(&claims, "b", "2", &["x"]);
        assert!(keep(&claims, "a", "n.b", "x"));
        assert_eq!(claims.leaves(&app("b")), [app("a")]);
        assert!(!keep(&claims, "a", "n.b", "x"));
        claims.gone(&app("b"));
        assert!(!keep(&claims, "a", "n.b", "x"));
    }

    #[test]
    fn a_deletion_waits_for_those_who_may_want_it_and_not_for_ever() {
        let claims = Claims::default();
        let now = Instant::now();
        let own = heads(&spec(), &["2".into()]);
        assert!(claims.unsettled(&app("a"), &own, now).is_some(), "there may be more");
        assert_eq!(claims.listed(), [app("a")]);
        for name in ["a", "b", "c"] {
            claims.seen(&app(name), false);
        }
        comes(&claims, "a", "2", &[]);
        let (words, rest) = claims.unsettled(&app("a"), &own, now).unwrap();
        assert!(words.starts_with("waits for the Application n/b to be rendered (and 1 more)"), "{words}");
        assert!(rest <= LIMIT + Duration::from_secs(1));
        assert_eq!(comes(&claims, "b", "1", &[]), [], "one of two");
        assert_eq!(comes(&claims, "c", "2", &[]), [app("a")]);
        let (words, _) = claims.unsettled(&app("a"), &own, now).unwrap();
        assert!(words.starts_with("waits for the Application n/b to come to this commit,"), "{words}");
        assert_eq!(claims.unsettled(&app("a"), &own, now + LIMIT), None, "it has waited long enough");
        claims.unsettled(&app("a"), &own, now).unwrap();
        // That it cannot be rendered there is an answer too: what it wanted last counts.
        assert_eq!(claims.comes_to(&app("b"), &spec(), &["2".into()], None), [app("a")]);
        assert_eq!(claims.unsettled(&app("a"), &own, now), None);
        claims.seen(&app("d"), false);
        claims.unsettled(&app("a"), &own, now).unwrap();
        assert_eq!(claims.gone(&app("d")), [app("a")]);
        claims.seen(&app("e"), false);
        assert_eq!(claims.unsettled(&app("a"), &own, now + LIMIT * 2), None, "e had its time too");
    }
}
