//! Where applications are delivered to: clusters, each in the name of whoever may act there.
//!
//! An application without a ServiceAccount is delivered in the agent's own name. With one, every request for it is made
//! in the account's name: what is applied and deleted, what is watched, what charts look up, and, in the agent's own
//! cluster, the Secrets and ConfigMaps that it names. There is no way back to the agent's rights.
//!
//! Applications of one account and one cluster share a site: its watches and what they have seen. A site goes with its
//! last application. Of another cluster only its own applications wait when it is away: after the first failure one of
//! them asks, and the others go on when it has an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError, mpsc};

use super::{AppKey, Engine, guard};
use crate::api::ApplicationSpec;
use crate::error::{Code, Error, Result};
use crate::health::Rules;
use crate::live::kube::{Account, Cluster, Index, Notice, Observe, Reach, Watches, read_kubeconfig};
use crate::model::Digest;

/// How long a cluster that is away is not asked again: 1 s doubling to 30 s.
const AWAY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Keys under which a kubeconfig lies in a Secret: ours, and those of Flux and Cluster API.
const KEYS: [&str; 3] = ["kubeconfig", "value", "value.yaml"];

/// The agent's own cluster, in anybody's name.
pub struct Accounts {
    own: Arc<Cluster>,
    known: Mutex<HashMap<Account, Weak<Cluster>>>,
}

impl Accounts {
    /// In the agent's name until somebody else's is asked for.
    pub fn new(own: Arc<Cluster>) -> Self {
        Self { own, known: Mutex::default() }
    }

    /// The cluster in this name; in the agent's own for `None`.
    ///
    /// # Errors
    /// `ApplicationInvalid` for a name that no account can have.
    pub fn get(&self, account: Option<&Account>) -> Result<Arc<Cluster>> {
        let Some(account) = account else { return Ok(self.own.clone()) };
        let mut known = guard(&self.known);
        if let Some(cluster) = known.get(account).and_then(Weak::upgrade) {
            return Ok(cluster);
        }
        known.retain(|_, cluster| cluster.strong_count() > 0);
        let cluster = Arc::new(self.own.acting_as(account)?);
        known.insert(account.clone(), Arc::downgrade(&cluster));
        Ok(cluster)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    /// Of the kubeconfig; `None` for the agent's own cluster.
    cluster: Option<Digest>,
    account: Option<Account>,
}

/// A cluster in somebody's name, and what is seen of it.
pub struct Site {
    /// Does passes there.
    pub engine: Engine,
    /// Keeps what all sites of this cluster share.
    _base: Arc<Cluster>,
    remote: Option<Remote>,
}

/// What is only asked of a cluster that is not the agent's own.
struct Remote {
    /// How often each is held: a new access comes before the old one goes.
    apps: Mutex<HashMap<AppKey, usize>>,
    away: Mutex<Option<Away>>,
    /// Passes at once: a cluster that answers slowly leaves the other workers to others.
    passes: Semaphore,
}

struct Away {
    error: Error,
    failures: u32,
    again: Instant,
}

impl Site {
    /// Leave for one pass, while the permit is held.
    ///
    /// # Errors
    /// Too many are under way.
    pub(super) fn enter(&self) -> std::result::Result<Option<SemaphorePermit<'_>>, TryAcquireError> {
        self.remote.as_ref().map(|remote| remote.passes.try_acquire()).transpose()
    }

    /// Why nothing is asked of it now. Whoever comes when the time is over may ask, and the others wait for what
    /// becomes of that.
    pub(super) fn away(&self) -> Option<(Error, Duration)> {
        let mut away = guard(&self.remote.as_ref()?.away);
        let known = away.as_mut()?;
        let left = known.again.saturating_duration_since(Instant::now());
        if left.is_zero() {
            known.again = Instant::now() + LONGEST;
            return None;
        }
        Some((known.error.clone(), left))
    }

    /// Whether it is known to be away, and why.
    pub(super) fn is_away(&self) -> Option<Error> {
        guard(&self.remote.as_ref()?.away).as_ref().map(|away| away.error.clone())
    }

    /// Notes what a pass came to; returns who waited for the cluster, where it is back.
    pub(super) fn ended(&self, failure: Option<&Error>) -> Vec<AppKey> {
        let Some(remote) = &self.remote else { return Vec::new() };
        let mut away = guard(&remote.away);
        match failure.filter(|error| error.code == Code::ApiUnreachable) {
            Some(error) => {
                let failures = away.as_ref().map_or(0, |away| away.failures + 1);
                let pause = (AWAY * (1 << failures.min(5))).min(LONGEST);
                *away = Some(Away { error: error.clone(), failures, again: Instant::now() + pause });
                Vec::new()
            }
            None if away.take().is_some() => guard(&remote.apps).keys().cloned().collect(),
            None => Vec::new(),
        }
    }
}

/// Where one application is delivered to.
pub struct Access {
    /// The cluster of its objects.
    pub site: Arc<Site>,
    /// The agent's own cluster, where the Application is, in the application's name.
    pub home: Arc<Cluster>,
    app: AppKey,
}

impl Drop for Access {
    fn drop(&mut self) {
        if let Some(remote) = &self.site.remote {
            let mut apps = guard(&remote.apps);
            match apps.get_mut(&self.app) {
                Some(held) if *held > 1 => *held -= 1,
                _ => drop(apps.remove(&self.app)),
            }
        }
    }
}

/// All sites.
pub struct Sites {
    /// The agent's own cluster.
    pub accounts: Arc<Accounts>,
    default: Option<String>,
    workers: usize,
    notices: mpsc::Sender<Notice>,
    observe: Observe,
    own: Arc<Site>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sites: HashMap<Name, Weak<Site>>,
    clusters: HashMap<Digest, Weak<Cluster>>,
    /// Rules of health for all applications.
    rules: Option<Arc<Rules>>,
}

impl Sites {
    /// The agent's own site. `near`: it sees one namespace only. `default`: the account of applications that state none.
    pub fn new(
        own: Arc<Cluster>,
        near: bool,
        default: Option<String>,
        workers: usize,
        notices: mpsc::Sender<Notice>,
        observe: Observe,
    ) -> Self {
        let reach = if near { Reach::Namespace } else { Reach::Cluster };
        let site = Arc::new(Site {
            engine: engine(own.clone(), notices.clone(), reach),
            _base: own.clone(),
            remote: None,
        });
        Self {
            accounts: Arc::new(Accounts::new(own)),
            default,
            workers,
            notices,
            observe,
            own: site,
            inner: Mutex::default(),
        }
    }

    /// The account of an application: what it states, or the one that is used where none is stated.
    pub fn account(&self, app: &AppKey, spec: &ApplicationSpec) -> Option<Account> {
        let name = spec.destination.service_account.as_ref().or(self.default.as_ref())?;
        Some(Account { namespace: app.namespace.clone(), name: name.clone() })
    }

    /// Where an application is delivered to; `kubeconfig` is that of its `destination.cluster`.
    ///
    /// # Errors
    /// `KubeconfigInvalid`, `ApplicationInvalid`.
    pub async fn access(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        kubeconfig: Option<&str>,
    ) -> Result<Access> {
        let account = self.account(app, spec);
        let home = self.accounts.get(account.as_ref())?;
        let Some(text) = kubeconfig else {
            let name = Name { cluster: None, account: account.clone() };
            let site = match account {
                None => self.own.clone(),
                Some(_) => self.site(name, &home, &home, Reach::Namespace, false),
            };
            return Ok(Access { site, home, app: app.clone() });
        };
        let digest = Digest::of(text.as_bytes());
        let base = self.cluster(digest, text).await?;
        // The kubeconfig is a name of its own: the default is for the agent's.
        let stated = spec.destination.service_account.as_ref().and(account);
        let cluster = match &stated {
            None => base.clone(),
            Some(account) => Arc::new(base.acting_as(account)?),
        };
        let reach = if stated.is_some() { Reach::Namespace } else { Reach::Cluster };
        let site = self.site(Name { cluster: Some(digest), account: stated }, &cluster, &base, reach, true);
        if let Some(remote) = &site.remote {
            *guard(&remote.apps).entry(app.clone()).or_default() += 1;
        }
        Ok(Access { site, home, app: app.clone() })
    }

    /// The cluster of a kubeconfig, as its user.
    async fn cluster(&self, digest: Digest, text: &str) -> Result<Arc<Cluster>> {
        let known = || guard(&self.inner).clusters.get(&digest).and_then(Weak::upgrade);
        if let Some(cluster) = known() {
            return Ok(cluster);
        }
        let made = Arc::new(Cluster::connect_by(read_kubeconfig(text)?, self.observe.clone()).await?);
        // Somebody may have been faster.
        if let Some(cluster) = known() {
            return Ok(cluster);
        }
        let mut inner = guard(&self.inner);
        inner.clusters.retain(|_, cluster| cluster.strong_count() > 0);
        inner.clusters.insert(digest, Arc::downgrade(&made));
        Ok(made)
    }

    fn site(
        &self,
        name: Name,
        cluster: &Arc<Cluster>,
        base: &Arc<Cluster>,
        reach: Reach,
        is_remote: bool,
    ) -> Arc<Site> {
        let mut inner = guard(&self.inner);
        if let Some(site) = inner.sites.get(&name).and_then(Weak::upgrade) {
            return site;
        }
        inner.sites.retain(|_, site| site.strong_count() > 0);
        let engine = engine(cluster.clone(), self.notices.clone(), reach);
        if let Some(rules) = &inner.rules {
            engine.watches.judge_by("", Some(rules));
        }
        let remote = is_remote.then(|| Remote {
            apps: Mutex::default(),
            away: Mutex::default(),
            passes: Semaphore::new(self.workers.div_ceil(2)),
        });
        let site = Arc::new(Site { engine, _base: base.clone(), remote });
        inner.sites.insert(name, Arc::downgrade(&site));
        site
    }

    /// The agent's own site.
    pub fn own(&self) -> &Arc<Site> {
        &self.own
    }

    fn all(&self) -> Vec<Arc<Site>> {
        let mut all = vec![self.own.clone()];
        all.extend(guard(&self.inner).sites.values().filter_map(Weak::upgrade));
        all
    }

    /// Judges all objects by these rules that have none of their application.
    pub fn judge_all(&self, rules: Option<&Arc<Rules>>) {
        guard(&self.inner).rules = rules.cloned();
        self.all().iter().for_each(|site| site.engine.watches.judge_by("", rules));
    }

    /// How many objects are known.
    pub fn watched(&self) -> usize {
        self.all().iter().map(|site| site.engine.index.len()).sum()
    }
}

fn engine(cluster: Arc<Cluster>, notices: mpsc::Sender<Notice>, reach: Reach) -> Engine {
    let index = Arc::new(Index::default());
    let watches = Arc::new(Watches::new(cluster.clone(), index.clone(), notices, reach));
    Engine { cluster, index, watches }
}

/// The kubeconfig among the data of a Secret.
///
/// # Errors
/// `KubeconfigInvalid` where there is none.
pub(super) fn kubeconfig<'a>(secret: &str, get: impl Fn(&str) -> Option<&'a [u8]>) -> Result<&'a str> {
    let found = KEYS.iter().find_map(|key| get(key)).ok_or_else(|| {
        let why = format!("Secret {secret} has none of the keys {}", KEYS.join(", "));
        Error::new(Code::KubeconfigInvalid, why)
    })?;
    std::str::from_utf8(found)
        .map_err(|_| Error::new(Code::KubeconfigInvalid, format!("Secret {secret}: it is no text")))
}
