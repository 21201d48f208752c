//! Which applications want a pass, and when.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::AppKey;

/// How urgent a pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A person waits, or the cluster was edited.
    High,
    /// Everything else.
    Normal,
}

/// A queue in which every application stands once; one that runs is not handed out again until it ends.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    /// Ordered by time, then urgency, then arrival.
    due: BTreeMap<(Instant, Urgency, u64), AppKey>,
    place: HashMap<AppKey, (Instant, Urgency, u64)>,
    running: HashSet<AppKey>,
    /// Asked for while running.
    again: HashMap<AppKey, (Instant, Urgency)>,
    arrivals: u64,
}

impl Queue {
    fn lock<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        match self.inner.lock() {
            Ok(mut inner) => change(&mut inner),
            Err(poisoned) => change(&mut poisoned.into_inner()),
        }
    }

    /// Asks for a pass now.
    pub(super) fn push(&self, app: AppKey, urgency: Urgency) {
        self.push_at(app, urgency, Instant::now());
    }

    /// Asks for a pass after a while; an earlier or more urgent request stays what it is.
    pub(super) fn push_after(&self, app: AppKey, delay: Duration) {
        self.push_at(app, Urgency::Normal, Instant::now() + delay);
    }

    fn push_at(&self, app: AppKey, urgency: Urgency, at: Instant) {
        self.lock(|inner| {
            if inner.running.contains(&app) {
                let wanted = inner.again.entry(app).or_insert((at, urgency));
                *wanted = (wanted.0.min(at), wanted.1.min(urgency));
                return;
            }
            inner.add(app, urgency, at);
        });
        self.wake.notify_one();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lock(|inner| inner.place.len())
    }

    /// The next application whose time has come; marked as running until [`Queue::done`].
    pub(super) async fn next(&self) -> AppKey {
        loop {
            let notified = self.wake.notified();
            let wait = match self.lock(Inner::take) {
                Ok(app) => return app,
                Err(wait) => wait,
            };
            match wait {
                Some(wait) => {
                    let _ = tokio::time::timeout(wait, notified).await;
                }
                None => notified.await,
            }
        }
    }

    /// A pass has ended.
    pub(super) fn done(&self, app: &AppKey) {
        self.lock(|inner| {
            inner.running.remove(app);
            if let Some((at, urgency)) = inner.again.remove(app) {
                inner.add(app.clone(), urgency, at);
            }
        });
        self.wake.notify_one();
    }
}

impl Inner {
    fn add(&mut self, app: AppKey, urgency: Urgency, at: Instant) {
        let (mut at, mut urgency) = (at, urgency);
        if let Some(place) = self.place.remove(&app) {
            self.due.remove(&place);
            (at, urgency) = (at.min(place.0), urgency.min(place.1));
        }
        // What is urgent and due goes before everything that is merely due.
        if urgency == Urgency::High && at <= Instant::now() {
            at = at.checked_sub(Duration::from_secs(3600)).unwrap_or(at);
        }
        self.arrivals += 1;
        let place = (at, urgency, self.arrivals);
        self.place.insert(app.clone(), place);
        self.due.insert(place, app);
    }

    fn take(&mut self) -> Result<AppKey, Option<Duration>> {
        let now = Instant::now();
        match self.due.first_key_value() {
            Some((place, _)) if place.0 <= now => {}
            Some((place, _)) => return Err(Some(place.0 - now)),
            None => return Err(None),
        }
        let Some((_, app)) = self.due.pop_first() else { return Err(None) };
        self.place.remove(&app);
        self.running.insert(app.clone());
        Ok(app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppKey {
        AppKey { namespace: "n".into(), name: name.into() }
    }

    #[tokio::test]
    async fn urgent_first_and_each_once() {
        let queue = Queue::default();
        queue.push(app("a"), Urgency::Normal);
        queue.push(app("b"), Urgency::Normal);
        queue.push(app("a"), Urgency::Normal);
        queue.push(app("c"), Urgency::High);
        queue.push_after(app("d"), Duration::from_secs(3600));
        assert_eq!(queue.len(), 4);
        assert_eq!(queue.next().await.name, "c");
        queue.push(app("c"), Urgency::High);
        assert_eq!(queue.next().await.name, "a");
        assert_eq!(queue.next().await.name, "b");
        queue.done(&app("c"));
        assert_eq!(queue.next().await.name, "c");
    }

    #[tokio::test]
    async fn a_due_time_comes() {
        let queue = Queue::default();
        queue.push_after(app("a"), Duration::from_millis(20));
        let begin = Instant::now();
        assert_eq!(queue.next().await.name, "a");
        assert!(begin.elapsed() >= Duration::from_millis(19));
    }
}
