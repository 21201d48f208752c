//! Notices kinds that come and go, for charts that ask what the cluster is capable of.
//!
//! One watch of the metadata of all CRDs, from the first chart on: without charts nobody asks. A quiet cluster costs no
//! request. Who may not watch them, and kinds of aggregated API servers, wait for the next deep check.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;

use crate::live::kube::{Backoff, Cluster, steady};

/// A CRD is written several times until it is served, and an operator installs dozens of them in a row.
const SETTLE: Duration = Duration::from_millis(500);
/// But nobody waits longer than this.
const MOST: Duration = Duration::from_secs(5);
/// Later writes without a new generation are of no interest: labels, or a controller's notes in the status.
const YOUNG: Duration = Duration::from_secs(60);
/// Metadata of 500 CRDs is some MB.
const PAGE: u32 = 500;

/// An agent of one namespace is not going to be let in soon.
const FORBIDDEN: Duration = Duration::from_secs(3600);

/// What is known of a CRD: uid, generation, and since when.
type Seen = HashMap<String, (String, i64, Instant)>;

/// Asks for the kinds again after CRDs have changed, and tells when they are others. Never ends.
pub(super) async fn follow(cluster: Arc<Cluster>, changed: impl Fn() + Send) {
    let (sender, mut news) = mpsc::channel::<()>(1);
    tokio::join!(watch(&cluster, sender), async {
        while news.recv().await.is_some() {
            let begin = Instant::now();
            while begin.elapsed() < MOST && tokio::time::timeout(SETTLE, news.recv()).await.is_ok() {}
            let before = cluster.discovered().identity();
            match cluster.rediscover().await {
                Ok(()) if cluster.discovered().identity() != before => changed(),
                Ok(()) => {}
                Err(error) => tracing::warn!(error = %error, "The cluster's kinds cannot be listed."),
            }
        }
    });
}

async fn watch(cluster: &Cluster, news: mpsc::Sender<()>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(cluster.client());
    let mut events = steady(api, watcher::Config::default().page_size(PAGE));
    let (mut seen, mut listed, mut first) = (Seen::new(), Seen::new(), true);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(300));
    while let Some(event) = events.next().await {
        let is_news = match event {
            Ok(Event::Init) => {
                listed.clear();
                false
            }
            Ok(Event::InitApply(object)) => {
                note(&mut listed, &object);
                false
            }
            Ok(Event::InitDone) => {
                let same = listed.len() == seen.len()
                    && listed.iter().all(|(name, (uid, generation, _))| {
                        seen.get(name).is_some_and(|(one, at, _)| one == uid && at == generation)
                    });
                seen = std::mem::take(&mut listed);
                backoff.reset();
                // Whatever came between the render that asked for this and the first list is news too.
                std::mem::take(&mut first) || !same
            }
            Ok(Event::Apply(object)) => note(&mut seen, &object),
            Ok(Event::Delete(object)) => {
                seen.remove(object.metadata.name.as_deref().unwrap_or_default());
                true
            }
            Err(error) => {
                tracing::debug!(error = %error, "The watch of CRDs is interrupted; it is tried again.");
                let pause = backoff.pause();
                tokio::time::sleep(if is_forbidden(&error) { FORBIDDEN } else { pause }).await;
                false
            }
        };
        if is_news {
            // One that waits already is enough.
            let _ = news.try_send(());
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Whether this may change what is served.
fn note(seen: &mut Seen, object: &PartialObjectMeta<CustomResourceDefinition>) -> bool {
    let metadata = &object.metadata;
    let (uid, generation) =
        (metadata.uid.clone().unwrap_or_default(), metadata.generation.unwrap_or_default());
    let entry = seen.entry(metadata.name.clone().unwrap_or_default());
    let known = entry.or_insert_with(|| (uid.clone(), generation, Instant::now()));
    if (&known.0, known.1) != (&uid, generation) {
        *known = (uid, generation, Instant::now());
    }
    known.2.elapsed() < YOUNG
}
