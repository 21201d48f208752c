//! One pass: where the application is delivered to, what it wants, and then [`super::deliver`].

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::sites::Access;
use super::super::{AppKey, Versions, inventory, settings};
use super::projects::Rights;
use super::report::Facts;
use super::{LOOKUP, Memory, Rendered};
use crate::api::Application;
use crate::error::{Code, Error, Result};
use crate::plan::Settings;
use crate::source::Snapshot;

/// What goes on, or when to come again.
type Flow<T> = ControlFlow<Option<Duration>, T>;

/// A request and what its poll finds are one sync: a pass waits so long for the end of that poll, or hooks would run for
/// the commit and again for the request.
const ASKED: Duration = Duration::from_secs(2);
/// How soon a cluster is tried again whose passes are all taken.
const CROWDED: Duration = Duration::from_millis(500);

/// Where an application is delivered to, and what that was read from.
pub(super) struct Place {
    generation: i64,
    versions: Versions,
    read: Instant,
    pub(super) access: Arc<Access>,
}

/// What the steps of a pass share.
pub(super) struct Turn<'a> {
    pub(super) app: &'a AppKey,
    pub(super) application: &'a Application,
    pub(super) settings: &'a Settings,
    pub(super) access: &'a Access,
    pub(super) rights: &'a Rights,
    /// What Git and the registries have.
    pub(super) snapshots: &'a [Snapshot],
    /// Why the newest poll failed, if it did.
    pub(super) source: Option<&'a Error>,
    pub(super) commits: &'a [String],
    /// The render was made in this pass, so bodies are at hand.
    pub(super) full: bool,
    /// Every object is applied again.
    pub(super) deep: bool,
    pub(super) deep_after: Option<Duration>,
}

impl super::Controller {
    /// Does what is due for an application; returns when the next pass is.
    pub(super) async fn pass(&self, app: &AppKey, memory: &mut Memory) -> Result<Option<Duration>> {
        let Some(application) = memory.application.clone() else { return Ok(None) };
        // Before anything is asked of a cluster or a repository that it names.
        let Some(rights) = self.admit(app, &application, memory).await? else { return Ok(None) };
        let access = match self.access(app, &application, memory).await {
            Ok(access) => access,
            Err(error) => {
                let error = error.in_app(app);
                self.report(&application, memory, &Facts { render: Some(&error), ..Facts::default() })
                    .await?;
                // A watch tells when what it names is another.
                let again = self.inputs.due(app, true);
                return if error.code.is_transient() { Err(error) } else { Ok(again) };
            }
        };
        let Ok(_permit) = access.site.enter() else { return Ok(Some(CROWDED)) };
        if let Some((error, _)) = access.site.away() {
            let error = error.in_app(app);
            self.report(&application, memory, &Facts { render: Some(&error), ..Facts::default() }).await?;
            return Err(error);
        }
        let ended = self.pass_at(app, &application, memory, &access, &rights).await;
        for waiting in access.site.ended(ended.as_ref().err()) {
            self.queue.push(waiting, super::Urgency::Normal);
        }
        ended
    }

    async fn pass_at(
        &self,
        app: &AppKey,
        application: &Arc<Application>,
        memory: &mut Memory,
        access: &Access,
        rights: &Rights,
    ) -> Result<Option<Duration>> {
        let settings = settings(&app.namespace, &app.name, &application.spec);
        if let Err(error) = moved(application) {
            let error = error.in_app(app);
            self.report(application, memory, &Facts { render: Some(&error), ..Facts::default() }).await?;
            return Ok(None);
        }
        if application.metadata.deletion_timestamp.is_some() {
            return Box::pin(self.finalize(app, application, memory, access, rights, &settings.label)).await;
        }
        if let Some(waited) = memory.asked.map(|since| since.elapsed()).filter(|waited| *waited < ASKED) {
            return Ok(Some(ASKED.saturating_sub(waited)));
        }
        self.keep_finalizer(application).await?;
        let (snapshots, source) = match self.heads(app, application, memory).await? {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(due) => return Ok(due),
        };
        if memory.inventory.is_none() {
            memory.inventory = Some(inventory::load(&access.home, application).await?);
        }
        let deep_after = self.deep_after(app);
        let deep = deep_after.zip(memory.deep).is_some_and(|(after, at)| at.elapsed() >= after);
        let commits: Vec<String> = snapshots.iter().map(|snapshot| snapshot.commit.clone()).collect();
        let mut turn = Turn {
            app,
            application,
            settings: &settings,
            access,
            rights,
            snapshots: &snapshots,
            source: source.as_ref(),
            commits: &commits,
            full: false,
            deep,
            deep_after,
        };
        if let ControlFlow::Break(due) = self.keep_rendered(&mut turn, memory).await? {
            return Ok(due);
        }
        self.deliver(&turn, memory).await
    }

    /// Where the application is delivered to: again when it says so itself, or when its kubeconfig is another.
    async fn access(
        &self,
        app: &AppKey,
        application: &Application,
        memory: &mut Memory,
    ) -> Result<Arc<Access>> {
        let spec = &application.spec;
        let generation = application.metadata.generation.unwrap_or_default();
        if let Some(place) = memory.place.as_ref().filter(|place| place.generation == generation)
            && self.inputs.is_current(app, &place.versions, place.read)
        {
            return Ok(place.access.clone());
        }
        let account = self.sites.account(app, spec);
        let home = self.sites.accounts.get(account.as_ref())?;
        self.inputs.subscribe(app, spec, account)?;
        let read = Instant::now();
        let kubeconfig = self.inputs.kubeconfig(app, spec, &home).await?;
        let text = kubeconfig.as_ref().map(|(text, _)| text.as_str());
        let access =
            self.sites.access(app, spec, text).await.map_err(|error| match &spec.destination.cluster {
                Some(secret) => {
                    Error { why: format!("Secret {}/{secret}: {}", app.namespace, error.why), ..error }
                }
                None => error,
            })?;
        let access = Arc::new(access);
        let versions = kubeconfig.map(|(_, versions)| versions).unwrap_or_default();
        memory.place = Some(Place { generation, versions, read, access: access.clone() });
        Ok(access)
    }

    /// The commits to use, and why the newest poll failed if it did.
    async fn heads(
        &self,
        app: &AppKey,
        application: &Application,
        memory: &mut Memory,
    ) -> Result<Flow<(Vec<Snapshot>, Option<Error>)>> {
        let spec = &application.spec;
        let account = self.sites.account(app, spec);
        let generation = application.metadata.generation.unwrap_or_default();
        if memory.subscribed != Some(generation) {
            let sources: Vec<_> = spec.sources().cloned().collect();
            if let Err(error) = self.sources.subscribe(app, account.as_ref(), &sources) {
                let error = error.in_app(app);
                self.report(application, memory, &Facts { source: Some(&error), ..Facts::default() }).await?;
                return if error.code.is_transient() { Err(error) } else { Ok(Flow::Break(None)) };
            }
            memory.subscribed = Some(generation);
        }
        let found = match self.snapshots(app, account.as_ref(), spec).await {
            Ok(Some((snapshots, failure))) if spec.rollback.is_none() => {
                self.accept(app, account.as_ref(), application, memory, snapshots, failure).await.map(Some)
            }
            other => other,
        };
        match found {
            Ok(Some(found)) => Ok(Flow::Continue(found)),
            // The poll wakes us when it has an answer.
            Ok(None) => Ok(Flow::Break(None)),
            Err(error) => {
                self.report(application, memory, &Facts { source: Some(&error), ..Facts::default() }).await?;
                // No poll tells when what was asked for by its id can be had.
                let asks = spec.rollback.is_some() || spec.sources().any(|source| !source.allows_rewrite());
                if asks { Err(error) } else { Ok(Flow::Break(None)) }
            }
        }
    }

    /// Renders, where the last render does not hold any more.
    async fn keep_rendered(&self, turn: &mut Turn<'_>, memory: &mut Memory) -> Result<Flow<()>> {
        let Turn { app, application, settings, access, rights, snapshots, commits, .. } = *turn;
        let cluster = &access.site.engine.cluster;
        let generation = application.metadata.generation.unwrap_or_default();
        // What a chart asks of the cluster may be another, and nothing tells: kinds of aggregated API servers, `lookup`.
        let ask = turn.deep && memory.rendered.as_ref().is_some_and(|rendered| rendered.app.charts);
        if ask {
            cluster.rediscover_after(self.config.deep_check / 2).await?;
        }
        if !ask && self.is_current(turn, memory, generation).await {
            return Ok(Flow::Continue(()));
        }
        let read = Instant::now();
        match self.render(app, &application.spec, rights, access, settings, snapshots).await {
            Ok(rendered) => {
                if rendered.charts {
                    self.has_chart(app);
                }
                memory.rendered = Some(Rendered {
                    generation,
                    commits: commits.to_vec(),
                    read,
                    served: cluster.discovered().identity(),
                    rules: rights.rules.clone(),
                    app: rendered,
                });
                turn.full = true;
                Ok(Flow::Continue(()))
            }
            Err(error) => {
                self.wake(self.claims.comes_to(app, &application.spec, commits, None));
                let facts =
                    Facts { snapshots, source: turn.source, render: Some(&error), ..Facts::default() };
                self.report(application, memory, &facts).await?;
                if matches!(error.code, Code::TemplateFailed | Code::ChartInvalid) {
                    // It may want a kind that is not there yet.
                    self.has_chart(app);
                }
                if error.code.is_transient() {
                    return Err(error);
                }
                let looks_up = application.spec.sources().any(|source| source.helm.lookup).then_some(LOOKUP);
                Ok(Flow::Break([self.inputs.due(app, true), looks_up].into_iter().flatten().min()))
            }
        }
    }
}

/// Objects in one cluster cannot be told from those of the same names in another: what would be left behind there, and
/// deleted here, is refused.
fn moved(application: &Application) -> Result<()> {
    let Some(held) = application.status.as_ref().map(|status| &status.inventory) else { return Ok(()) };
    let wanted = application.spec.destination.cluster.as_deref().unwrap_or_default();
    if held.count == 0 || held.cluster == wanted {
        return Ok(());
    }
    let name = |cluster: &str| match cluster {
        "" => "the agent's own cluster".to_owned(),
        secret => format!("the cluster of Secret {secret}"),
    };
    let (count, before, now) = (held.count, name(&held.cluster), name(wanted));
    let why = format!("its {count} objects are in {before}, and spec.destination.cluster names {now}");
    Err(Error::new(Code::ApplicationInvalid, why)
        .hint("name the old cluster again, or make another Application for the new one and delete this one"))
}
