//! The agent: watches Applications, hands out passes, writes status and events.

mod deletion;
mod dependencies;
mod render;
mod report;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use self::dependencies::Dependencies;
use self::report::Facts;
use super::claims::Claims;
use super::culprit::Culprits;
use super::events::Events;
use super::inputs::Inputs;
use super::judges::{self, Judging};
use super::kinds;
use super::queue::{Queue, Urgency};
use super::render::kinds as kinds_of;
use super::{
    AppKey, Config, Engine, Fights, Metrics, Neighbours, Order, Pass, Permissions, Policy, RenderedApp,
    Sources, inventory, settings,
};
use crate::api::{Application, CHOSEN, OperationState, OperationStatus, POKE, label_value};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, Index, Watches};
use crate::model::{Confidential, Digest, Gvk, Key};
use crate::plan::{Desired, Inventory, Plan, Prepared, Why, plan};
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
    failures: u32,
    /// The sync request whose poll has ended.
    refreshed: String,
    /// The sync of several steps that is under way, or the last one.
    operation: Option<OperationStatus>,
    /// Since when health is not written.
    progressing: Option<Instant>,
    deep: Option<Instant>,
    subscribed: Option<i64>,
}

/// The newest render, without bodies: they are read again when something must be applied.
struct Rendered {
    generation: i64,
    commits: Vec<String>,
    /// When what it needs of the cluster was read.
    read: Instant,
    /// Which kinds the cluster served.
    served: Digest,
    app: RenderedApp,
}

/// Bytes of parses, and of results, that the agent keeps.
const SHARED: usize = 4 << 20;

struct Controller {
    config: Config,
    engine: Engine,
    sources: Arc<Sources>,
    inputs: Inputs,
    metrics: Arc<Metrics>,
    queue: Queue,
    apps: Mutex<HashMap<AppKey, Arc<tokio::sync::Mutex<Memory>>>>,
    labels: Mutex<HashMap<String, AppKey>>,
    unready: Mutex<HashSet<AppKey>>,
    /// Who depends on whom, and how those stand.
    dependencies: Dependencies,
    /// What each of them wants.
    claims: Claims,
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

fn guard<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs until `stop` is true. `ready` becomes true when all Applications are known.
pub async fn run(
    config: Config,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let observe = {
        let metrics = metrics.clone();
        Arc::new(move |verb| metrics.asked(verb))
    };
    let cluster = Arc::new(Cluster::connect_observed(&config.connection, observe).await?);
    let index = Arc::new(Index::default());
    // A burst of a fleet's events; the receiver only moves names into the queue.
    let (notices, mut noticed) = mpsc::channel(4096);
    let watches = Arc::new(Watches::new(cluster.clone(), index.clone(), notices));
    let (moved, mut heads) = mpsc::unbounded_channel();
    let client = Arc::new(Client::new(&config.cache, config.limits));
    let inputs = Inputs::new(cluster.clone(), moved.clone());
    let sources = Sources::new(cluster.clone(), client, metrics.clone(), config.interval, moved);
    let (events, outbox) = Events::new();
    let controller = Arc::new(Controller {
        engine: Engine { cluster: cluster.clone(), index, watches },
        sources,
        inputs,
        metrics,
        queue: Queue::default(),
        apps: Mutex::default(),
        labels: Mutex::default(),
        unready: Mutex::default(),
        dependencies: Dependencies::default(),
        claims: Claims::default(),
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
            kinds::follow(controller.engine.cluster.clone(), changed).await;
        }
    });
    if let Some((namespace, name)) = controller.config.health_rules.clone() {
        let watches = controller.engine.watches.clone();
        tasks.spawn(judges::follow_config_map(cluster.clone(), watches, namespace, name));
    }
    tasks.spawn(follow(controller.clone(), api, ready));
    let mut passes = JoinSet::new();
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
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    let mut listed = HashSet::new();
    let mut failures = 0u32;
    while let Some(event) = events.next().await {
        if event.is_ok() && std::mem::take(&mut failures) > 0 {
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
                ready.store(true, Ordering::Release);
            }
            Ok(watcher::Event::Apply(application)) => controller.seen(application).await,
            Ok(watcher::Event::Delete(application)) => controller.gone(&AppKey::from(&application)),
            Err(error) => {
                // Said once, not at every try: 1 s doubling to 30 s.
                if failures == 0 {
                    tracing::warn!(error = %error, "The watch of Applications is interrupted; it is tried again.");
                }
                failures += 1;
                tokio::time::sleep(Duration::from_secs(1 << failures.min(5)).min(Duration::from_secs(30)))
                    .await;
            }
        }
    }
}

impl Controller {
    /// An Application was listed or changed.
    async fn seen(self: &Arc<Self>, mut application: Application) {
        // Half of an Application's bytes, and nobody here reads them.
        application.metadata.managed_fields = None;
        let app = AppKey::from(&application);
        let memory = guard(&self.apps).entry(app.clone()).or_default().clone();
        guard(&self.labels).insert(label_value(&app.namespace, &app.name), app.clone());
        self.metrics.applications.set(i64::try_from(guard(&self.apps).len()).unwrap_or(i64::MAX));
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
        drop(memory);
        if asked {
            let (controller, sources) = (self.clone(), now.spec.sources().cloned().collect::<Vec<_>>());
            tokio::spawn(async move {
                let _ = controller.sources.subscribe(&app, &sources);
                controller.sources.refresh(&app, &sources).await;
                let memory = guard(&controller.apps).get(&app).cloned();
                if let Some(memory) = memory {
                    memory.lock().await.refreshed = request;
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
        self.judging.forget(&self.engine.watches, &label_value(&app.namespace, &app.name));
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
            let (controller, app) = (self.clone(), app.clone());
            tokio::spawn(async move {
                let mut memory = memory.lock().await;
                let result = controller.pass(&app, &mut memory).await;
                let looked = memory.rendered.is_some() || memory.application.is_none();
                let failures = if result.is_ok() { 0 } else { memory.failures + 1 };
                memory.failures = failures;
                (result, failures, looked)
            })
        };
        let (result, failures, looked) = match inner.await {
            Ok(ended) => ended,
            Err(error) => (Err(Error::new(Code::Internal, error.to_string())), 8, true),
        };
        let waits = result.is_ok() && !looked;
        self.metrics.passed(if waits { "waiting" } else { verdict(&result) }, begin.elapsed());
        self.metrics.queued.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        self.metrics.watched.set(i64::try_from(self.engine.index.len()).unwrap_or(i64::MAX));
        self.queue.done(&app);
        match result {
            Ok(Some(due)) => self.queue.push_after(app, due),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(app = %app, code = error.code.number(), error = %error, "Pass failed.");
                // 1 s doubling to 5 min; a new commit does not wait for it.
                self.queue
                    .push_after(app, Duration::from_secs(1 << failures.min(9)).min(Duration::from_secs(300)));
            }
        }
    }

    async fn pass(&self, app: &AppKey, memory: &mut Memory) -> Result<Option<Duration>> {
        let Some(application) = memory.application.clone() else { return Ok(None) };
        let spec = &application.spec;
        let settings = settings(&app.namespace, &app.name, spec);
        if application.metadata.deletion_timestamp.is_some() {
            return self.finalize(app, &application, memory, &settings.label).await;
        }
        self.keep_finalizer(&application).await?;
        let generation = application.metadata.generation.unwrap_or_default();
        if memory.subscribed != Some(generation) {
            let sources: Vec<_> = spec.sources().cloned().collect();
            if let Err(error) = self.sources.subscribe(app, &sources) {
                let error = error.in_app(app);
                self.report(&application, memory, &Facts { source: Some(&error), ..Facts::default() })
                    .await?;
                return if error.code.is_transient() { Err(error) } else { Ok(None) };
            }
            self.inputs.subscribe(app, spec);
            memory.subscribed = Some(generation);
        }
        let (snapshots, source_failure) = match self.snapshots(app, spec).await {
            Ok(Some(found)) => found,
            // The poll wakes us when it has an answer.
            Ok(None) => return Ok(None),
            Err(error) => {
                self.report(&application, memory, &Facts { source: Some(&error), ..Facts::default() })
                    .await?;
                return if spec.rollback.is_some() { Err(error) } else { Ok(None) };
            }
        };
        if memory.inventory.is_none() {
            memory.inventory = Some(inventory::load(&self.engine.cluster, &application).await?);
        }
        let deep_after = self.deep_after(app);
        let deep = deep_after.zip(memory.deep).is_some_and(|(after, at)| at.elapsed() >= after);
        // What a chart asks of the cluster may be another, and nothing tells: kinds of aggregated API servers, `lookup`.
        let ask = deep && memory.rendered.as_ref().is_some_and(|rendered| rendered.app.charts);
        if ask {
            self.engine.cluster.rediscover_after(self.config.deep_check / 2).await?;
        }
        let mut full = false;
        let commits: Vec<String> = snapshots.iter().map(|snapshot| snapshot.commit.clone()).collect();
        if ask || !self.is_current(memory, generation, &commits, &snapshots).await {
            let read = Instant::now();
            match self.render(app, spec, &settings, &snapshots).await {
                Ok(rendered) => {
                    let (commits, served) = (commits.clone(), self.engine.cluster.discovered().identity());
                    if rendered.charts {
                        self.has_chart(app);
                    }
                    memory.rendered = Some(Rendered { generation, commits, read, served, app: rendered });
                    full = true;
                }
                Err(error) => {
                    self.wake(self.claims.comes_to(app, spec, &commits, None));
                    let facts = Facts {
                        snapshots: &snapshots,
                        source: source_failure.as_ref(),
                        render: Some(&error),
                        ..Facts::default()
                    };
                    self.report(&application, memory, &facts).await?;
                    if matches!(error.code, Code::TemplateFailed | Code::ChartInvalid) {
                        // It may want a kind that is not there yet.
                        self.has_chart(app);
                    }
                    let looks_up = spec.sources().any(|source| source.helm.lookup).then_some(LOOKUP);
                    return if error.code.is_transient() {
                        Err(error)
                    } else {
                        Ok([self.inputs.due(app, true), looks_up].into_iter().flatten().min())
                    };
                }
            }
        }
        let held = memory.inventory.clone().unwrap_or_default();
        let Some(rendered) = memory.rendered.as_mut() else { return Ok(None) };
        rendered.commits.clone_from(&commits);
        let wants = full.then_some(&*rendered.app.prepared.desired);
        self.wake(self.claims.comes_to(app, spec, &commits, wants));
        let around = self.claims.around(app, spec, &commits);

        let mut used = kinds_of(&rendered.app.prepared.desired);
        used.extend(held.iter().map(|(key, owned)| Gvk::parse(&owned.api_version, &key.kind)));
        self.judging.follow(
            &self.engine.watches,
            &settings.label,
            &spec.health,
            &rendered.app.prepared.desired,
        );
        let blind = self.engine.watch(&used).await;
        let policy = match Policy::of(&application) {
            Ok(policy) => policy,
            Err(error) => {
                let error = error.in_app(app);
                let facts = Facts { snapshots: &snapshots, render: Some(&error), ..Facts::default() };
                self.report(&application, memory, &facts).await?;
                return Ok(None);
            }
        };
        let pruning = policy.pruning(&application, &rendered.app.prepared, blind.is_empty());
        let planned = |prepared: &Prepared| {
            let live = |gvk: &Gvk, key: &Key| self.engine.live(gvk, key);
            let mut todo = plan(prepared, &held, &settings.label, live, |key| around.want(key), &pruning);
            if deep {
                for index in (0..prepared.desired.len()).filter(|at| prepared.desired[*at].hook.is_none()) {
                    todo.todo.entry(index).or_insert(Why::Moved);
                }
            }
            todo
        };
        let mut todo = planned(&rendered.app.prepared);
        if memory.deep.is_none() || deep {
            memory.deep = Some(Instant::now());
        }
        let now = Timestamp::now();
        let status = application.status.as_ref();
        let requested = !memory.refreshed.is_empty()
            && status.is_none_or(|status| status.last_sync_request != memory.refreshed);
        let operation = memory.operation.clone().or_else(|| status.and_then(|found| found.operation.clone()));
        let digest = rendered.app.digest.map(|digest| digest.to_string()).unwrap_or_default();
        let under_way = operation.as_ref().is_some_and(|found| {
            found.rendered_digest == digest
                && matches!(found.state, OperationState::Running | OperationState::Failing)
        });
        let is_new = status.is_none_or(|status| status.rendered_digest != digest);
        let chosen = chosen(&application).filter(|_| requested);
        let is_sync = (is_new || requested || under_way) && chosen.is_none();
        // Hooks are made from their bodies, whenever one's turn comes. What has none is done when it is applied, though its
        // status is written later: the passes in between must not render.
        let has_hooks = rendered.app.prepared.desired.iter().any(|object| object.hook.is_some());
        let needs_bodies = !todo.todo.is_empty() || is_sync && has_hooks;
        if needs_bodies && !full {
            let desired = &rendered.app.prepared.desired;
            let drift: HashMap<Key, Why> = (todo.todo.iter())
                .filter(|(_, why)| why.is_drift())
                .map(|(index, why)| (desired[*index].key.clone(), *why))
                .collect();
            rendered.app = self.render(app, spec, &settings, &snapshots).await?;
            // What is generated or looked up may be another now, which is no news of Git.
            todo = planned(&rendered.app.prepared);
            for (index, why) in &mut todo.todo {
                *why = drift.get(&rendered.app.prepared.desired[*index].key).copied().unwrap_or(*why);
            }
        }
        let opening = policy.windows.at(now);
        let begun = under_way
            && (spec.sync.automated || operation.as_ref().is_some_and(|found| !found.request.is_empty()));
        let free = !policy.is_suspended(now);
        let stays = self.stays(app, spec, &commits, is_sync && !under_way && spec.rollback.is_none());
        let asks = requested || spec.rollback.is_some();
        let may = begun
            || (stays.is_none() && (spec.sync.automated && opening.automatic || asks && opening.manual));
        let permissions = Permissions {
            apply: free && may,
            repair: free && (spec.sync.self_heal && opening.automatic || requested),
        };
        if let Some(chosen) = &chosen {
            choose(&mut todo, &rendered.app.prepared.desired, chosen);
        }
        let pass = Pass {
            label: &settings.label,
            prepared: &rendered.app.prepared,
            policy: &policy,
            permissions,
            neighbours: &around,
            new_kinds: AtomicBool::new(false),
        };
        let order = Order {
            plan: &todo,
            is_sync,
            uid: application.metadata.uid.as_deref().unwrap_or_default(),
            digest: &digest,
            revisions: &commits,
            request: if requested { &memory.refreshed } else { "" },
            written: status.and_then(|status| status.operation.as_ref()),
            before: operation,
            now,
        };
        let mut outcome = self.engine.sync(&pass, order, held, &mut memory.fights).await;
        let wants = !outcome.pending.is_empty() || chosen.is_some();
        let turns = policy.turns(&opening, now);
        if wants && free && !outcome.is_done() {
            if let Some(why) = stays {
                outcome.stay("WaitsForDependency", why);
            } else if spec.sync.automated && !opening.automatic {
                outcome.stay("OutsideWindow", opening.why);
            }
        }
        memory.operation.clone_from(&outcome.operation);
        for object in &mut rendered.app.prepared.desired {
            object.body = Vec::new();
            object.hidden = Confidential::default();
        }
        self.metrics.wrote("applied", outcome.applied.len());
        self.metrics.wrote("pruned", outcome.pruned.len());
        self.metrics.wrote("repaired", outcome.drift.iter().filter(|drift| drift.repaired).count());
        if outcome.wrote() {
            tracing::info!(app = %app, revision = %commits.first().map(String::as_str).unwrap_or_default(),
                applied = outcome.applied.len(), pruned = outcome.pruned.len(), "Applied.");
            // Artifacts need not say when they were made.
            if let Some(time) = snapshots.first().map(|snapshot| snapshot.time).filter(|time| *time > 0) {
                #[expect(clippy::cast_precision_loss, reason = "seconds of a delay")]
                self.metrics.applied_after((Timestamp::now().as_second() - time) as f64);
            }
        }
        self.events.tell(&application, &outcome, &commits);
        memory.inventory = Some(outcome.inventory.clone());
        let digest = rendered.app.digest;
        let blind = blind.into_iter().next().map(|(_, error)| error);
        let facts = Facts {
            snapshots: &snapshots,
            source: source_failure.as_ref(),
            outcome: Some(&outcome),
            blind: blind.as_ref(),
            digest,
            ..Facts::default()
        };
        let wait = self.report(&application, memory, &facts).await?;
        if let Some(failure) = outcome.failures.into_iter().next() {
            return Err(failure.error.in_app(app));
        }
        if let Some(error) = blind {
            return Err(error.in_app(app));
        }
        let next_deep = deep_after.zip(memory.deep).map(|(after, at)| after.saturating_sub(at.elapsed()));
        Ok([wait, outcome.due, turns, self.inputs.due(app, false), next_deep].into_iter().flatten().min())
    }
}

/// The objects that a request names; `None` where it is for all.
fn chosen(application: &Application) -> Option<Vec<String>> {
    let text = application.annotations().get(CHOSEN).filter(|text| !text.trim().is_empty())?;
    Some(text.split(',').map(|word| word.trim().to_owned()).collect())
}

/// Leaves in a plan what was chosen: `Kind/name` or `Kind/namespace/name`.
fn choose(todo: &mut Plan, desired: &[Desired], chosen: &[String]) {
    let is_chosen = |key: &Key| {
        let short = format!("{}/{}", key.kind, key.name);
        let long = format!("{}/{}/{}", key.kind, key.namespace, key.name);
        chosen.iter().any(|name| *name == short || *name == long)
    };
    todo.todo.retain(|index, _| is_chosen(&desired[*index].key));
    todo.pruning.now.retain(|(key, _)| is_chosen(key));
}

fn verdict<T>(result: &Result<T>) -> &'static str {
    if result.is_ok() { "ok" } else { "failed" }
}
