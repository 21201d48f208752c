//! The agent: watches Applications, hands out passes, writes status and events.

mod delete_hooks;
mod deletion;
mod deliver;
mod dependencies;
mod pass;
mod projects;
mod render;
mod report;
mod retry;
mod rewrite;
mod rollouts;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use self::dependencies::Dependencies;
use self::pass::Place;
use self::report::Facts;
use self::retry::Retry;
use super::claims::Claims;
use super::culprit::Culprits;
use super::events::Events;
use super::gates::Gates;
use super::inputs::Inputs;
use super::judges::{self, Judging};
use super::kinds;
use super::projects::Projects;
use super::queue::{Queue, Urgency};
use super::rollouts::Memories;
use super::sites::Sites;
use super::{AppKey, Config, Fights, Metrics, RenderedApp, Sources, guard};
use crate::api::{Application, OperationStatus, POKE, SourceStatus, label_value};
use crate::error::{Code, Error, Result};
use crate::health::Rules;
use crate::live::kube::{Backoff, Cluster, Observe, steady};
use crate::model::Digest;
use crate::plan::{Inventory, ProjectRules};
use crate::render::Cache;
use crate::source::Client;

/// A status that only says "on its way" is written when it has lasted this long.
const PROGRESS: Duration = Duration::from_secs(1);
/// Applications waiting for a pass from which on a fleet is on its way.
const FLEET: usize = 50;

/// How soon what `lookup` could not read is read again: rights and kinds come without a commit.
const LOOKUP: Duration = Duration::from_secs(60);

/// What is kept of an application between passes.
#[derive(Default)]
struct Memory {
    application: Option<Arc<Application>>,
    inventory: Option<Inventory>,
    rendered: Option<Rendered>,
    fights: Fights,
    retry: Retry,
    /// The sync request whose poll has ended.
    refreshed: String,
    /// Since when a sync request waits for its poll.
    asked: Option<Instant>,
    /// The sync of several steps that is under way, or the last one.
    operation: Option<OperationStatus>,
    /// Since when health is not written.
    progressing: Option<Instant>,
    deep: Option<Instant>,
    subscribed: Option<i64>,
    /// The revisions that were last accepted; empty before the first pass, when the status tells.
    accepted: Vec<SourceStatus>,
    place: Option<Place>,
    rollouts: Memories,
    /// Something was written since the status was.
    wrote: bool,
}

/// The newest render, without bodies: they are read again when something must be applied.
struct Rendered {
    generation: i64,
    commits: Vec<String>,
    /// When what it needs of the cluster was read.
    read: Instant,
    /// Which kinds the cluster served.
    served: Digest,
    /// What its Project said then: it decides what charts may look up.
    rules: Arc<ProjectRules>,
    app: RenderedApp,
}

/// Bytes of parses, and of results, that the agent keeps.
const SHARED: usize = 4 << 20;

struct Controller {
    config: Config,
    sites: Arc<Sites>,
    sources: Arc<Sources>,
    inputs: Inputs,
    projects: Projects,
    metrics: Arc<Metrics>,
    queue: Queue,
    apps: Mutex<HashMap<AppKey, Arc<tokio::sync::Mutex<Memory>>>>,
    labels: Mutex<HashMap<String, AppKey>>,
    unready: Mutex<HashSet<AppKey>>,
    /// Who depends on whom, and how those stand.
    dependencies: Dependencies,
    /// What each of them wants.
    claims: Claims,
    /// Asks what gates ask.
    gates: Arc<Gates>,
    /// Puts applications into the queue.
    wakes: mpsc::UnboundedSender<Vec<AppKey>>,
    /// Applications that have a chart.
    charts: Mutex<HashSet<AppKey>>,
    /// There is a chart.
    any_chart: Notify,
    /// Renders and comparisons of trees at once: they keep a core busy, and each thread that joins in costs
    /// 3 MiB of allocator's caches.
    cores: tokio::sync::Semaphore,
    /// What renders share. Small: it is there for bases that many applications have and for objects that somebody
    /// keeps editing, and the agent's memory is not to grow with it.
    cache: Arc<Cache>,
    /// From then on nothing is put off: there is no later.
    stopping: AtomicBool,
    events: Events,
    /// Rules of health that users bring.
    judging: Judging,
    culprits: Culprits,
}

/// Runs until `stop` is true. `ready` becomes true when all Applications are known.
pub async fn run(
    config: Config,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let observe: Observe = {
        let metrics = metrics.clone();
        Arc::new(move |verb| metrics.asked(verb))
    };
    let cluster = Arc::new(Cluster::connect_observed(&config.connection, observe.clone()).await?);
    // A burst of a fleet's events; the receiver only moves names into the queue.
    let (notices, mut noticed) = mpsc::channel(4096);
    let near = config.namespace.is_some();
    let account = config.default_account.clone();
    let sites = Arc::new(Sites::new(cluster.clone(), near, account, config.workers, notices, observe));
    let (moved, mut heads) = mpsc::unbounded_channel();
    let client = Arc::new(Client::new(&config.cache, config.limits));
    let wakes = moved.clone();
    let inputs = Inputs::new(sites.accounts.clone(), moved.clone());
    let sources = Sources::new(sites.accounts.clone(), client, metrics.clone(), config.interval, moved);
    let (events, outbox) = Events::new();
    let controller = Arc::new(Controller {
        sites,
        sources,
        inputs,
        projects: Projects::default(),
        metrics,
        queue: Queue::default(),
        apps: Mutex::default(),
        labels: Mutex::default(),
        unready: Mutex::default(),
        dependencies: Dependencies::default(),
        claims: Claims::default(),
        gates: Arc::default(),
        wakes,
        charts: Mutex::default(),
        any_chart: Notify::new(),
        cores: tokio::sync::Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
        cache: Arc::new(Cache::new(SHARED, SHARED)),
        stopping: AtomicBool::default(),
        events,
        judging: Judging::default(),
        culprits: Culprits::default(),
        config,
    });
    let api: Api<Application> = match &controller.config.namespace {
        Some(namespace) => Api::namespaced(cluster.client(), namespace),
        None => Api::all(cluster.client()),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(outbox.send_all(cluster.client(), {
        let controller = controller.clone();
        move || controller.queue.len() > FLEET
    }));
    tasks.spawn({
        let controller = controller.clone();
        async move {
            while let Some(notice) = noticed.recv().await {
                let app = guard(&controller.labels).get(&*notice.label).cloned();
                if let Some(app) = app {
                    controller.queue.push(app, Urgency::High);
                }
            }
        }
    });
    tasks.spawn({
        let controller = controller.clone();
        async move {
            while let Some(apps) = heads.recv().await {
                let urgency = if apps.len() == 1 { Urgency::High } else { Urgency::Normal };
                apps.into_iter().for_each(|app| controller.queue.push(app, urgency));
            }
        }
    });
    tasks.spawn({
        let controller = controller.clone();
        async move {
            controller.any_chart.notified().await;
            let all = || guard(&controller.charts).iter().cloned().collect::<Vec<_>>();
            let changed = || all().into_iter().for_each(|app| controller.queue.push(app, Urgency::Normal));
            kinds::follow(controller.sites.own().engine.cluster.clone(), changed).await;
        }
    });
    tasks.spawn({
        let (controller, client) = (controller.clone(), cluster.client());
        async move {
            let changed = |apps: Vec<AppKey>| {
                apps.into_iter().for_each(|app| controller.queue.push(app, Urgency::Normal));
            };
            controller.projects.follow(client, changed).await;
        }
    });
    if let Some((namespace, name)) = controller.config.health_rules.clone() {
        let sites = controller.sites.clone();
        let judge = move |rules: Option<&Arc<Rules>>| sites.judge_all(rules);
        tasks.spawn(judges::follow_config_map(cluster.clone(), judge, namespace, name));
    }
    tasks.spawn(follow(controller.clone(), api, ready));
    let mut passes = JoinSet::new();
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = controller.projects.listed() => {}
    }
    loop {
        while passes.len() >= controller.config.workers.max(1) {
            let _ = passes.join_next().await;
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            app = controller.queue.next() => {
                let controller = controller.clone();
                passes.spawn(async move { controller.turn(app).await });
            }
            Some(_) = passes.join_next() => {}
        }
    }
    // What is under way is finished, so that its inventory is written; 20 s of the usual 30 s of grace.
    let finish = async {
        while passes.join_next().await.is_some() {}
        controller.stopping.store(true, Ordering::Release);
        let all: Vec<_> =
            guard(&controller.apps).iter().map(|(app, memory)| (app.clone(), memory.clone())).collect();
        for (app, memory) in all {
            let mut memory = memory.lock().await;
            // Applied, and its inventory not written yet: the next start would apply it again.
            if memory.progressing.is_some() {
                let _ = controller.pass(&app, &mut memory).await;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), finish).await;
    tasks.abort_all();
    Ok(())
}

async fn follow(controller: Arc<Controller>, api: Api<Application>, ready: Arc<AtomicBool>) {
    let mut events = steady(api, watcher::Config::default());
    let mut listed = HashSet::new();
    let mut is_away = false;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    while let Some(event) = events.next().await {
        if event.is_ok() && std::mem::take(&mut is_away) {
            backoff.reset();
            tracing::info!("The watch of Applications goes on.");
        }
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(application)) => {
                listed.insert(AppKey::from(&application));
                controller.seen(application).await;
            }
            Ok(watcher::Event::InitDone) => {
                let gone: Vec<AppKey> =
                    guard(&controller.apps).keys().filter(|app| !listed.contains(app)).cloned().collect();
                gone.iter().for_each(|app| controller.gone(app));
                controller.wake(controller.claims.listed());
                ready.store(true, Ordering::Release);
            }
            Ok(watcher::Event::Apply(application)) => controller.seen(application).await,
            Ok(watcher::Event::Delete(application)) => controller.gone(&AppKey::from(&application)),
            Err(error) => {
                // Said once, not at every try.
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(error = %error, "The watch of Applications is interrupted; it is tried again.");
                }
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

impl Controller {
    /// After a panic: what is remembered may be half of something, and the application says what happened.
    async fn forget(&self, memory: &tokio::sync::Mutex<Memory>, error: &Error) {
        let mut memory = memory.lock().await;
        *memory = Memory {
            application: memory.application.take(),
            refreshed: std::mem::take(&mut memory.refreshed),
            // These are replaced as a whole or not at all.
            inventory: memory.inventory.take(),
            place: memory.place.take(),
            ..Memory::default()
        };
        let Some(application) = memory.application.clone() else { return };
        let facts = Facts { render: Some(error), ..Facts::default() };
        if let Err(error) = self.report(&application, &mut memory, &facts).await {
            tracing::warn!(%error, "The status of an application whose pass panicked is not written.");
        }
    }

    /// An Application was listed or changed.
    async fn seen(self: &Arc<Self>, mut application: Application) {
        // Half of an Application's bytes, and nobody here reads them.
        application.metadata.managed_fields = None;
        let app = AppKey::from(&application);
        let memory = guard(&self.apps).entry(app.clone()).or_default().clone();
        guard(&self.labels).insert(label_value(&app.namespace, &app.name), app.clone());
        self.metrics.applications.set(i64::try_from(guard(&self.apps).len()).unwrap_or(i64::MAX));
        self.projects.subscribe(&app, &application.spec.project);
        let request = application.annotations().get(POKE).cloned().unwrap_or_default();
        let handled =
            application.status.as_ref().map(|status| status.last_sync_request.clone()).unwrap_or_default();
        let mut memory = memory.lock().await;
        let before = memory.application.replace(Arc::new(application));
        let Some(now) = memory.application.clone() else { return };
        let same = before.as_ref().is_some_and(|before| {
            before.metadata.generation == now.metadata.generation
                && before.metadata.deletion_timestamp == now.metadata.deletion_timestamp
                && before.uid() == now.uid()
                // The words that a deletion waits for.
                && (now.metadata.deletion_timestamp.is_none() || before.annotations() == now.annotations())
        });
        let anew = before.is_some_and(|before| before.uid() != now.uid());
        self.claims.seen(&app, anew);
        if anew {
            *memory = Memory { application: Some(now.clone()), ..Memory::default() };
        }
        let asked = !request.is_empty() && request != handled && request != memory.refreshed;
        memory.asked = asked.then(|| memory.asked.unwrap_or_else(Instant::now));
        drop(memory);
        if asked {
            let (controller, sources) = (self.clone(), now.spec.sources().cloned().collect::<Vec<_>>());
            tokio::spawn(async move {
                controller.projects.listed().await;
                if controller.rights(&app, &now.spec).is_ok() {
                    let account = controller.sites.account(&app, &now.spec);
                    let _ = controller.sources.subscribe(&app, account.as_ref(), &sources);
                    controller.sources.refresh(&app, account.as_ref(), &sources).await;
                }
                let memory = guard(&controller.apps).get(&app).cloned();
                if let Some(memory) = memory {
                    let mut memory = memory.lock().await;
                    (memory.refreshed, memory.asked) = (request, None);
                }
                controller.queue.push(app, Urgency::High);
            });
        } else if !same {
            self.queue.push(app, Urgency::Normal);
        }
    }

    /// An Application is deleted; its objects are not ours to touch any more.
    fn gone(&self, app: &AppKey) {
        guard(&self.apps).remove(app);
        guard(&self.labels).remove(&label_value(&app.namespace, &app.name));
        guard(&self.unready).remove(app);
        self.dependencies.forget(app);
        self.wake(self.claims.gone(app));
        guard(&self.charts).remove(app);
        self.sources.unsubscribe(app);
        self.inputs.unsubscribe(app);
        self.projects.unsubscribe(app);
        self.judging.forget(&label_value(&app.namespace, &app.name));
        self.culprits.forget(app);
        self.metrics.applications.set(i64::try_from(guard(&self.apps).len()).unwrap_or(i64::MAX));
    }

    /// Applications that another one's doings concern.
    fn wake(&self, apps: Vec<AppKey>) {
        apps.into_iter().for_each(|app| self.queue.push(app, Urgency::High));
    }

    /// Time between two deep checks of an application; `None` turns them off. Up to a quarter sooner than is asked for, or
    /// those of a fleet would all come in the same second, an hour after the agent's start.
    fn deep_after(&self, app: &AppKey) -> Option<Duration> {
        let most = Some(self.config.deep_check).filter(|most| !most.is_zero())?;
        let share = Digest::of(app.to_string().as_bytes()).as_bytes().first().copied().unwrap_or_default();
        Some(most.saturating_sub(most / 1024 * u32::from(share)))
    }

    /// An application has a chart, so kinds that come and go matter to it.
    fn has_chart(&self, app: &AppKey) {
        if guard(&self.charts).insert(app.clone()) {
            self.any_chart.notify_one();
        }
    }

    /// One turn of the queue: a pass, and when the next is due.
    async fn turn(self: Arc<Self>, app: AppKey) {
        let Some(memory) = guard(&self.apps).get(&app).cloned() else {
            self.queue.done(&app);
            return;
        };
        let begin = Instant::now();
        // A panic ends this task and must not end the application: the queue is freed in any case.
        let inner = {
            let (controller, app, memory) = (self.clone(), app.clone(), memory.clone());
            tokio::spawn(async move {
                let mut memory = memory.lock().await;
                #[cfg(debug_assertions)]
                panic_where_asked(&app);
                let result = controller.pass(&app, &mut memory).await;
                let looked = memory.rendered.is_some() || memory.application.is_none();
                let pause = match &result {
                    Ok(_) => {
                        memory.retry.passed();
                        Duration::ZERO
                    }
                    Err(error) => memory.retry.failed(Instant::now(), longest(error)),
                };
                (result, pause, looked)
            })
        };
        let (result, pause, looked) = match inner.await {
            Ok(ended) => ended,
            Err(error) => {
                let error = Error::new(Code::Internal, error.to_string()).in_app(&app);
                self.forget(&memory, &error).await;
                let pause = memory.lock().await.retry.broke(Instant::now(), longest(&error));
                (Err(error), pause, true)
            }
        };
        let waits = result.is_ok() && !looked;
        self.metrics.passed(if waits { "waiting" } else { verdict(&result) }, begin.elapsed());
        self.metrics.queued.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        self.metrics.watched.set(i64::try_from(self.sites.watched()).unwrap_or(i64::MAX));
        self.queue.done(&app);
        match result {
            Ok(Some(due)) => self.queue.push_after(app, due),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(app = %app, code = error.code.number(), error = %error, "Pass failed.");
                // A new commit does not wait for it.
                self.queue.push_after(app, pause);
            }
        }
    }
}

/// The longest pause after this.
fn longest(error: &Error) -> Duration {
    Duration::from_secs(match error.code {
        // What is away is asked for soon, by one application of all that wait for it.
        Code::ApiUnreachable => 30,
        // Somebody wrote at the same time; the next look is at what came of it.
        Code::ConflictRefused => 15,
        _ => 300,
    })
}

/// Nothing in the program panics on demand; a build for tests does, in the passes of the applications that a file names.
#[cfg(debug_assertions)]
fn panic_where_asked(app: &AppKey) {
    let named = std::env::var_os("DRIFTLESS_FAULT_PANIC").and_then(|file| std::fs::read_to_string(file).ok());
    let named = named.is_some_and(|named| named.lines().any(|line| line == app.to_string()));
    assert!(!named, "a panic that a test asked for");
}

fn verdict<T>(result: &Result<T>) -> &'static str {
    if result.is_ok() { "ok" } else { "failed" }
}
