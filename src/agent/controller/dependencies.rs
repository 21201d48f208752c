//! Applications that wait for others, by event: what becomes ready wakes those that wait for it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::super::AppKey;
use super::guard;
use crate::api::ApplicationSpec;

/// How an application stood at the end of its last pass.
#[derive(Clone, Debug, Default)]
struct Standing {
    ready: bool,
    /// Repository, revision and commit of each source.
    heads: Vec<(String, String, String)>,
}

/// Who waits for whom.
#[derive(Default)]
pub(super) struct Dependencies {
    standing: Mutex<HashMap<AppKey, Standing>>,
    waiting: Mutex<HashMap<AppKey, HashSet<AppKey>>>,
}

fn heads(spec: &ApplicationSpec, commits: &[String]) -> Vec<(String, String, String)> {
    let sources = spec.sources().zip(commits);
    sources.map(|(source, commit)| (source.repo.clone(), source.revision.clone(), commit.clone())).collect()
}

impl Dependencies {
    /// An application's pass has ended; returns who waits for it, where it is ready now.
    pub(super) fn stands(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        commits: &[String],
        ready: bool,
    ) -> Vec<AppKey> {
        guard(&self.standing).insert(app.clone(), Standing { ready, heads: heads(spec, commits) });
        if !ready {
            return Vec::new();
        }
        let mut waiting = guard(&self.waiting);
        waiting.remove(app).map(|all| all.into_iter().collect()).unwrap_or_default()
    }

    /// Forgets an application.
    pub(super) fn forget(&self, app: &AppKey) {
        guard(&self.standing).remove(app);
    }

    /// Why an application must wait; it is woken when that is over.
    ///
    /// Where both read the same branch of the same repository, the other must have come to the same commit: a merge
    /// that changes both is applied there first.
    fn blocks(&self, app: &AppKey, spec: &ApplicationSpec, commits: &[String]) -> Option<String> {
        let own = heads(spec, commits);
        for wanted in &spec.depends_on {
            let namespace =
                if wanted.namespace.is_empty() { app.namespace.clone() } else { wanted.namespace.clone() };
            let other = AppKey { namespace, name: wanted.name.clone() };
            if other == *app {
                return Some("it depends on itself".to_owned());
            }
            let standing = guard(&self.standing).get(&other).cloned();
            let behind = |standing: &Standing| {
                standing.heads.iter().any(|(repo, revision, commit)| {
                    own.iter().any(|(r, v, c)| r == repo && v == revision && c != commit)
                })
            };
            let why = match standing {
                None => {
                    format!("the Application {other} that it depends on is not there, or had no pass yet")
                }
                Some(standing) if !standing.ready => {
                    format!("the Application {other} that it depends on is not ready")
                }
                Some(standing) if behind(&standing) => {
                    format!("the Application {other} that it depends on has not come to this commit yet")
                }
                Some(_) => continue,
            };
            guard(&self.waiting).entry(other).or_default().insert(app.clone());
            return Some(why);
        }
        None
    }
}

impl super::Controller {
    /// Why a sync does not begin yet, where it depends on others.
    pub(super) fn stays(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        commits: &[String],
        begins: bool,
    ) -> Option<String> {
        if begins { self.dependencies.blocks(app, spec, commits) } else { None }
    }
}
