//! Renders for a pass: commits, what still holds, and work on a core.

use jiff::Timestamp;

use super::super::sites::Access;
use super::super::{AppKey, Given, Remotes, RenderedApp, capable, live_objects, render_sources, unchanged};
use super::Memory;
use super::pass::Turn;
use crate::api::ApplicationSpec;
use crate::error::{Code, Error, Result};
use crate::live::kube::Account;
use crate::model::Gvk;
use crate::source::Snapshot;

impl super::Controller {
    /// The commits to use, and why the newest poll failed if it did; `None` before the first answer.
    pub(super) async fn snapshots(
        &self,
        app: &AppKey,
        account: Option<&Account>,
        spec: &ApplicationSpec,
    ) -> Result<Option<(Vec<Snapshot>, Option<Error>)>> {
        let mut snapshots = Vec::new();
        let mut failure = None;
        for (number, source) in spec.sources().enumerate() {
            if let Some(commit) = spec.rollback.as_ref().and_then(|rollback| rollback.revisions.get(number)) {
                let found = self.sources.commit(app, account, source, commit).await;
                snapshots.push(found.map_err(|error| error.in_app(app))?);
                continue;
            }
            let Some(head) = self.sources.head(app, account, source)? else { return Ok(None) };
            failure = failure.or_else(|| head.failure.clone().map(|error| error.in_app(app)));
            match (head.snapshot, head.failure) {
                (Some(snapshot), _) => snapshots.push(snapshot),
                (None, Some(error)) => return Err(error.in_app(app)),
                (None, None) => return Ok(None),
            }
        }
        Ok(Some((snapshots, failure)))
    }

    /// Whether the last render still holds: the same spec, and nothing that it read has changed, in Git or besides.
    pub(super) async fn is_current(&self, turn: &Turn<'_>, memory: &Memory, generation: i64) -> bool {
        let Some(rendered) = memory.rendered.as_ref().filter(|rendered| rendered.generation == generation)
        else {
            return false;
        };
        if !self.inputs.is_current(turn.app, &rendered.app.inputs, rendered.read) {
            return false;
        }
        // Kinds came or went: a chart may give other objects for them. Before they are known again, nothing is said.
        let served = turn.access.site.engine.cluster.discovered();
        if rendered.app.charts && !served.is_empty() && served.identity() != rendered.served {
            return false;
        }
        if rendered.commits == turn.commits {
            return true;
        }
        let (reads, snapshots) = (rendered.app.reads.clone(), turn.snapshots.to_vec());
        self.on_a_core(move || unchanged(&reads, &snapshots)).await.unwrap_or(false)
    }

    /// Work that keeps a core busy, on a thread of its own. The permit is held for the work alone.
    pub(super) async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let _core = self.cores.acquire().await;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::new(Code::Internal, format!("the render ended early: {error}")))
    }

    pub(super) async fn render(
        &self,
        app: &AppKey,
        spec: &ApplicationSpec,
        access: &Access,
        settings: &crate::plan::Settings,
        snapshots: &[Snapshot],
    ) -> Result<RenderedApp> {
        let cluster = &access.site.engine.cluster;
        let materials = self.inputs.read(app, spec, &access.home).await.map_err(|error| error.in_app(app))?;
        // Asks for the kinds: scopes are needed before the first object is placed.
        let capable = capable(cluster, Timestamp::now().as_second()).await?;
        let mut remotes = Remotes::default();
        let sourced = loop {
            let (wanted, place, snapshots) = (spec.clone(), settings.clone(), snapshots.to_vec());
            let (cache, materials, capable) = (self.cache.clone(), materials.clone(), capable.clone());
            let (rendered, asked) = self
                .on_a_core(move || {
                    let given = Given {
                        snapshots: &snapshots,
                        materials: &materials,
                        cache: &cache,
                        capable: &capable,
                        remotes: &remotes,
                    };
                    (render_sources(&wanted, &place, given), remotes)
                })
                .await?;
            remotes = asked;
            match rendered {
                Ok(sourced) => break sourced,
                Err(error) => {
                    if !self.sources.bring(&mut remotes, spec).await.map_err(|error| error.in_app(app))? {
                        return Err(error.in_app(app));
                    }
                }
            }
        };
        let discovered = cluster.discovered();
        let namespaced = move |gvk: &Gvk| discovered.get(gvk).map(|resource| resource.namespaced);
        let wanted = sourced.wanted_live(settings, &namespaced);
        let live = live_objects(cluster, wanted).await.map_err(|error| error.in_app(app))?;
        let settings = settings.clone();
        let prepared = self
            .on_a_core(move || sourced.prepare(&settings, namespaced, |key| live.get(key).cloned()))
            .await?;
        prepared.map_err(|error| error.in_app(app))
    }
}
