//! What an Application says of its syncs, as it is used.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{Application, CONFIRM, CreateNamespace, PropagationPolicy, SyncWindow, SyncWindowKind};
use crate::error::{Code, Error, Result};
use crate::live::kube::Propagation;
use crate::plan::{Budget, Opening, Prepared, ProjectRules, PrunePolicy, Retry, Window, WindowKind, Windows};

/// What a Project adds to the policy of an Application.
#[derive(Clone, Debug, Default)]
struct Limits {
    /// When it lets syncs happen.
    windows: Windows,
    /// It has a word in how much may be deleted, which `allowEmpty` does not take back.
    deletions: bool,
}

/// The sync policy of an Application.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, as users know them")]
pub struct Policy {
    /// How long a step may take.
    pub wait_limit: Duration,
    /// How a failed sync is tried again.
    pub retry: Retry,
    /// When syncs may happen.
    pub windows: Windows,
    /// How much may be deleted at once.
    pub budget: Budget,
    /// What its Project adds.
    project: Limits,
    /// How it is deleted; by its waves where `None`.
    pub propagation: Option<Propagation>,
    /// Deletions wait until everything else is healthy.
    pub prune_last: bool,
    /// Objects are replaced as a whole.
    pub replace: bool,
    /// Objects whose fields cannot be changed are made again.
    pub force: bool,
    /// Objects that are there already are taken over.
    pub adopt: bool,
    /// The namespace to make where it is missing: with these labels and annotations.
    pub namespace: Option<(String, CreateNamespace)>,
    /// Until when it is suspended: `None` where it is not, no time where nobody said one.
    pub suspended: Option<Option<Timestamp>>,
}

/// The time until a moment; none where it is over.
pub(super) fn left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(until.as_second() - now.as_second()).unwrap_or_default())
}

/// A duration as people write it, such as 1h30m.
fn duration(text: &str, field: &str) -> Result<Duration> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|found| Duration::try_from(found).ok());
    parsed.ok_or_else(|| {
        Error::new(
            Code::ApplicationInvalid,
            format!("{field}: `{text}` is no duration such as 30s, 5m or 1h30m"),
        )
    })
}

/// Windows as they are written in this field.
pub(super) fn windows(all: &[SyncWindow], field: &str) -> Result<Windows> {
    let windows = all.iter().map(|window| {
        let kind = match window.kind {
            SyncWindowKind::Allow => WindowKind::Allow,
            SyncWindowKind::Deny => WindowKind::Deny,
        };
        let open = duration(&window.duration, &format!("{field}.duration"))?;
        Window::new(kind, &window.schedule, &window.time_zone, open, window.manual)
    });
    Ok(Windows::new(windows.collect::<Result<_>>()?))
}

impl Policy {
    /// Reads it.
    ///
    /// # Errors
    /// `ApplicationInvalid` with the field.
    pub fn of(application: &Application) -> Result<Self> {
        let spec = &application.spec;
        let (sync, retry) = (&spec.sync, &spec.sync.retry);
        let destination = || spec.destination.namespace.clone().or_else(|| application.namespace());
        let suspended = match &spec.suspend {
            None => None,
            Some(hold) if hold.until.is_empty() => Some(None),
            Some(hold) => Some(Some(hold.until.parse().map_err(|_| {
                let why =
                    format!("spec.suspend.until: `{}` is no time such as 2026-01-31T18:00:00Z", hold.until);
                Error::new(Code::ApplicationInvalid, why)
            })?)),
        };
        Ok(Self {
            wait_limit: duration(&sync.wait_limit, "spec.sync.waitLimit")?,
            retry: Retry {
                limit: u32::try_from(retry.limit).ok(),
                first: duration(&retry.backoff, "spec.sync.retry.backoff")?,
                factor: retry.factor,
                most: duration(&retry.max_backoff, "spec.sync.retry.maxBackoff")?,
            },
            windows: windows(&sync.windows, "spec.sync.windows")?,
            project: Limits::default(),
            budget: Budget { count: sync.prune_budget.count, percent: sync.prune_budget.percent },
            propagation: sync.prune_propagation.map(|propagation| match propagation {
                PropagationPolicy::Foreground => Propagation::Foreground,
                PropagationPolicy::Background => Propagation::Background,
                PropagationPolicy::Orphan => Propagation::Orphan,
            }),
            prune_last: sync.prune_last,
            replace: sync.replace,
            force: sync.force,
            adopt: sync.adopt,
            namespace: destination().zip(sync.create_namespace.clone()),
            suspended,
        })
    }

    /// With what its Project says: both must let a sync happen, and the stricter budget counts.
    #[must_use]
    pub fn within(mut self, rules: &ProjectRules) -> Self {
        self.budget = rules.budget(self.budget);
        self.project = Limits { windows: rules.windows.clone(), deletions: rules.has_budget() };
        self
    }

    /// Whether a sync may begin.
    pub(super) fn opening(&self, now: Timestamp) -> Opening {
        let project = self.project.windows.at(now);
        let why =
            if project.why.is_empty() { project.why } else { format!("of its Project: {}", project.why) };
        self.windows.at(now).and(Opening { why, ..project })
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self, now: Timestamp) -> bool {
        self.suspended.is_some_and(|until| until.is_none_or(|until| until > now))
    }

    /// When a window opens or closes, or a suspension ends, a second after.
    pub(super) fn turns(&self, opening: &Opening, now: Timestamp) -> Option<Duration> {
        let ends = self.suspended.flatten().filter(|until| *until > now);
        let next = [opening.until, ends].into_iter().flatten().min()?;
        Some(left(next, now) + Duration::from_secs(1))
    }

    /// What may be deleted of an application that wants this.
    pub fn pruning(&self, application: &Application, prepared: &Prepared, complete: bool) -> PrunePolicy {
        let sync = &application.spec.sync;
        PrunePolicy {
            complete,
            wanted: sync.prune,
            budget: self.budget,
            protected: sync.prune_protected,
            empty: sync.allow_empty && prepared.desired.is_empty() && !self.project.deletions,
            confirmed: application.annotations().get(CONFIRM).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h30m", 5400), ("2h", 7200), ("PT1M", 60)] {
            assert_eq!(duration(text, "f").unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "5", "soon", "-5m"] {
            assert!(duration(text, "spec.f").unwrap_err().why.starts_with("spec.f: "), "{text}");
        }
    }
}
