//! kube's watcher, begun anew where it cannot go on.

use std::fmt::Debug;

use futures::stream::{BoxStream, StreamExt, unfold};
use kube::Api;
use kube::runtime::watcher::{self, Config, Event, watcher};
use serde::de::DeserializeOwned;

/// The events of a watch that never ends. After a failure the next item is asked for at once, so that who reads waits.
pub fn steady<K>(api: Api<K>, config: Config) -> BoxStream<'static, watcher::Result<Event<K>>>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(api.clone(), config.clone()).boxed();
    let begin = (events, api, config);
    unfold(begin, |(mut events, api, config)| async move {
        let event = events.next().await?;
        if matches!(&event, Err(error) if has_a_gap(error)) {
            events = watcher(api.clone(), config.clone()).boxed();
        }
        Some((event, (events, api, config)))
    })
    .boxed()
}

/// Whether a watch cannot go on from where it was. Its place in history is too old, which kube's watcher knows as an
/// event only and not as an answer; the kind is not served or may not be watched, and may be another when it is again;
/// or an event could not be read and is lost. Then everything is listed anew.
fn has_a_gap(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 403 | 404 | 410),
        // kube reads what is no event as a refusal, whatever it is.
        watcher::Error::WatchFailed(error) => {
            matches!(error, kube::Error::SerdeError(_) | kube::Error::Api(_))
        }
        _ => false,
    }
}
