//! One poll for each repository (of Git, of charts, of artifacts) and revision, however many applications share it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::sites::Accounts;
use super::{AppKey, Metrics, Remotes};
use crate::api::{ApplicationSpec, Source};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Account, Cluster, translate};
use crate::model::duration;
use crate::plan::ProjectRules;
use crate::source::{Client, Credentials, Location, Revision, Snapshot};

/// How soon after a poll the next may be, for applications that join it: a fleet that joins at once is one
/// poll more.
const FRESH: Duration = Duration::from_secs(2);
/// Credentials are read again after this time, and after every refusal.
const SECRET_AGE: Duration = Duration::from_secs(600);

/// What a poll watches. Applications of one namespace that name one Secret, and read it in one name, share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    location: Location,
    revision: String,
    secret: Option<(String, String)>,
    /// Who reads the Secret, where one is named.
    account: Option<Account>,
}

/// Where a source stands.
#[derive(Clone, Debug)]
pub struct Head {
    /// The commit, chart or artifact at hand; stays the last good one while polls fail.
    pub snapshot: Option<Snapshot>,
    /// Why the newest poll or fetch failed.
    pub failure: Option<Error>,
    /// Counts polls that ended.
    pub polls: u64,
}

struct Poll {
    head: watch::Receiver<Head>,
    poke: Arc<Notify>,
    joined: Arc<Notify>,
    apps: HashMap<AppKey, Duration>,
    shortest: watch::Sender<Duration>,
    task: JoinHandle<()>,
}

/// All polls.
pub struct Sources {
    accounts: Arc<Accounts>,
    client: Arc<Client>,
    metrics: Arc<Metrics>,
    interval: Duration,
    polls: Mutex<HashMap<Target, Poll>>,
    moved: mpsc::UnboundedSender<Vec<AppKey>>,
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.lock(|polls| polls.values().for_each(|poll| poll.task.abort()));
    }
}

impl Sources {
    /// No poll yet; applications whose head moved or failed are sent to `moved`. The channel is unbounded
    /// because the receiver only moves names into a queue in which each stands once.
    pub fn new(
        accounts: Arc<Accounts>,
        client: Arc<Client>,
        metrics: Arc<Metrics>,
        interval: Duration,
        moved: mpsc::UnboundedSender<Vec<AppKey>>,
    ) -> Arc<Self> {
        Arc::new(Self { accounts, client, metrics, interval, polls: Mutex::default(), moved })
    }

    fn lock<T>(&self, change: impl FnOnce(&mut HashMap<Target, Poll>) -> T) -> T {
        match self.polls.lock() {
            Ok(mut polls) => change(&mut polls),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    fn target(app: &AppKey, account: Option<&Account>, source: &Source) -> Result<Target> {
        let location = Location::of(&source.repo, &source.chart)?;
        Revision::of(&location, &source.revision)?;
        Ok(Target {
            location,
            revision: source.revision.clone(),
            secret: source.secret_ref.as_ref().map(|secret| (app.namespace.clone(), secret.name.clone())),
            account: account.filter(|_| source.secret_ref.is_some()).cloned(),
        })
    }

    /// Makes this the set of sources of an application, whose Secrets its account reads; polls nobody uses any more end.
    ///
    /// # Errors
    /// `RepositoryInvalid` or `ApplicationInvalid` for what can't be polled.
    pub fn subscribe(
        self: &Arc<Self>,
        app: &AppKey,
        account: Option<&Account>,
        sources: &[Source],
    ) -> Result<()> {
        let mut wanted: HashMap<Target, Duration> = HashMap::new();
        for source in sources {
            let interval = source.interval.as_deref().and_then(duration).unwrap_or(self.interval);
            wanted.insert(Self::target(app, account, source)?, interval.max(Duration::from_secs(5)));
        }
        self.lock(|polls| {
            polls.retain(|target, poll| {
                if !wanted.contains_key(target) {
                    poll.apps.remove(app);
                }
                if poll.apps.is_empty() {
                    poll.task.abort();
                }
                !poll.apps.is_empty()
            });
            for (target, interval) in wanted {
                let poll = polls.entry(target.clone()).or_insert_with(|| self.start(target));
                // Whoever comes now expects what is there now, not what was at the last poll.
                let newcomer = poll.apps.insert(app.clone(), interval).is_none();
                if newcomer && poll.head.borrow().polls > 0 {
                    poll.joined.notify_one();
                }
                let shortest = poll.apps.values().min().copied().unwrap_or(self.interval);
                poll.shortest.send_if_modified(|old| std::mem::replace(old, shortest) != shortest);
            }
        });
        Ok(())
    }

    /// The application is gone.
    pub fn unsubscribe(&self, app: &AppKey) {
        self.lock(|polls| {
            polls.retain(|_, poll| {
                poll.apps.remove(app);
                if poll.apps.is_empty() {
                    poll.task.abort();
                }
                !poll.apps.is_empty()
            });
        });
    }

    /// Where a source stands; `None` before its first poll has ended.
    pub fn head(&self, app: &AppKey, account: Option<&Account>, source: &Source) -> Result<Option<Head>> {
        let target = Self::target(app, account, source)?;
        Ok(self.lock(|polls| {
            let head = polls.get(&target)?.head.borrow().clone();
            (head.polls > 0).then_some(head)
        }))
    }

    /// Polls now and waits for the end of it.
    pub async fn refresh(&self, app: &AppKey, account: Option<&Account>, sources: &[Source]) {
        for source in sources {
            let Ok(target) = Self::target(app, account, source) else { continue };
            let found =
                self.lock(|polls| polls.get(&target).map(|poll| (poll.head.clone(), poll.poke.clone())));
            let Some((mut head, poke)) = found else { continue };
            // A poll that is under way may have asked before the push; the next one has not.
            let after = head.borrow().polls + 1;
            poke.notify_one();
            let _ = head.wait_for(|head| head.polls >= after).await;
        }
    }

    /// Brings what kustomizations name of other repositories; see [`Remotes::bring`].
    pub async fn bring(
        &self,
        remotes: &mut Remotes,
        spec: &ApplicationSpec,
        rules: &ProjectRules,
    ) -> Result<bool> {
        remotes.bring(&self.client, spec, Some(rules)).await
    }

    /// A commit that no ref needs to name, for applications held at an older revision.
    pub async fn commit(
        &self,
        app: &AppKey,
        account: Option<&Account>,
        source: &Source,
        commit: &str,
    ) -> Result<Snapshot> {
        let target = Self::target(app, account, source)?;
        let credentials =
            credentials(&*self.accounts.get(target.account.as_ref())?, target.secret.as_ref()).await?;
        self.client.fetch(&target.location, commit, &credentials).await
    }

    /// Whether a commit of the source has another among its ancestors.
    pub async fn descends(
        &self,
        app: &AppKey,
        account: Option<&Account>,
        source: &Source,
        old: &str,
        new: &str,
    ) -> Result<bool> {
        let target = Self::target(app, account, source)?;
        // The poll has asked; every application of the repository comes here, and none needs the Secret for it.
        if let Some(answer) = self.client.known_to_descend(&target.location, old, new) {
            return Ok(answer);
        }
        let credentials =
            credentials(&*self.accounts.get(target.account.as_ref())?, target.secret.as_ref()).await?;
        self.client.descends(&target.location, old, new, &credentials).await
    }

    fn start(self: &Arc<Self>, target: Target) -> Poll {
        let (sender, head) = watch::channel(Head { snapshot: None, failure: None, polls: 0 });
        let (shortest, interval) = watch::channel(self.interval);
        let (poke, joined) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let weak = Arc::downgrade(self);
        let task = tokio::spawn(follow(weak, target, sender, interval, poke.clone(), joined.clone()));
        Poll { head, poke, joined, apps: HashMap::new(), shortest, task }
    }

    fn tell(&self, target: &Target) {
        let apps: HashSet<AppKey> = self.lock(|polls| {
            polls.get(target).map(|poll| poll.apps.keys().cloned().collect()).unwrap_or_default()
        });
        let _ = self.moved.send(apps.into_iter().collect());
    }
}

async fn follow(
    sources: std::sync::Weak<Sources>,
    target: Target,
    head: watch::Sender<Head>,
    mut interval: watch::Receiver<Duration>,
    poke: Arc<Notify>,
    joined: Arc<Notify>,
) {
    let mut known: Option<(Credentials, std::time::Instant)> = None;
    let mut failures = 0u32;
    loop {
        let Some(owner) = sources.upgrade() else { return };
        let fresh = known.as_ref().is_some_and(|(_, at)| at.elapsed() < SECRET_AGE);
        if !fresh {
            known = None;
        }
        let begin = std::time::Instant::now();
        let at_hand = head.borrow().snapshot.clone();
        let result = poll(&owner, &target, &mut known, at_hand.as_ref()).await;
        owner.metrics.polled(result.is_ok(), begin.elapsed());
        let mut moved = false;
        head.send_modify(|head| {
            let first = head.polls == 0;
            head.polls += 1;
            match result {
                Ok(found) => {
                    failures = 0;
                    moved = first || head.failure.is_some();
                    head.failure = None;
                    if let Some(snapshot) = found {
                        moved = true;
                        head.snapshot = Some(snapshot);
                    }
                }
                Err(error) => {
                    failures += 1;
                    if error.code == Code::AuthenticationFailed || error.code == Code::CredentialsInvalid {
                        known = None;
                    }
                    moved = head.failure.as_ref() != Some(&error);
                    head.failure = Some(error);
                }
            }
        });
        if moved {
            owner.tell(&target);
        }
        drop(owner);
        let base = *interval.borrow_and_update();
        // A failing poll is tried sooner at first (2 s), then no more often than a good one.
        let wait = if failures > 0 {
            Duration::from_secs(1 << failures.min(10)).min(base.max(Duration::from_secs(60)))
        } else {
            jittered(base)
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = poke.notified() => {}
            () = joined.notified() => tokio::select! {
                () = tokio::time::sleep(FRESH) => {}
                () = poke.notified() => {}
            },
            _ = interval.changed() => {}
        }
    }
}

/// One poll, and a fetch when the head moved; `None` where it did not.
async fn poll(
    owner: &Sources,
    target: &Target,
    known: &mut Option<(Credentials, std::time::Instant)>,
    at_hand: Option<&Snapshot>,
) -> Result<Option<Snapshot>> {
    let credentials = if let Some((credentials, _)) = known {
        credentials.clone()
    } else {
        let found =
            credentials(&*owner.accounts.get(target.account.as_ref())?, target.secret.as_ref()).await?;
        *known = Some((found.clone(), std::time::Instant::now()));
        found
    };
    let revision = Revision::of(&target.location, &target.revision)?;
    let resolved = owner.client.resolve(&target.location, &revision, &credentials).await?;
    if at_hand.is_some_and(|snapshot| snapshot.commit == resolved.commit && snapshot.is_at_hand()) {
        return Ok(None);
    }
    let before = at_hand.filter(|before| before.reference == resolved.reference && target.location.is_git());
    let fetch = owner.client.fetch(&target.location, &resolved.commit, &credentials);
    let ask = async {
        // Asked now, so that the answer is there when applications ask.
        if let Some(before) = before {
            let new = &resolved.commit;
            let _ = owner.client.descends(&target.location, &before.commit, new, &credentials).await;
        }
    };
    let (fetched, ()) = tokio::join!(Box::pin(fetch), Box::pin(ask));
    fetched.map(|snapshot| Some(snapshot.named(resolved.reference)))
}

/// The credentials in a Secret; none where no Secret is named.
pub(crate) async fn credentials(cluster: &Cluster, secret: Option<&(String, String)>) -> Result<Credentials> {
    let Some((namespace, name)) = secret else { return Ok(Credentials::default()) };
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let found = secrets.get_opt(name).await.map_err(|error| translate(&error))?;
    let found = found.ok_or_else(|| {
        Error::new(Code::CredentialsInvalid, format!("there is no Secret {namespace}/{name}"))
            .hint(format!("kubectl -n {namespace} create secret generic {name} --from-literal=username=... --from-literal=password=..."))
    })?;
    let data: BTreeMap<String, Vec<u8>> =
        found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Credentials::from_secret(&data)
        .map_err(|error| Error { why: format!("Secret {namespace}/{name}: {}", error.why), ..error })
}

/// Ten percent more or less, so that many agents and repositories do not poll in step.
fn jittered(base: Duration) -> Duration {
    let nanoseconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map(|time| time.subsec_nanos())
        .unwrap_or_default();
    base.mul_f64(0.9 + 0.2 * f64::from(nanoseconds % 1000) / 1000.0)
}
