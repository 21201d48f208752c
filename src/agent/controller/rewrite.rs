//! What a rewritten history of a branch or tag does to an application.

use super::super::AppKey;
use super::Memory;
use crate::api::{Application, Source, SourceStatus};
use crate::error::{Code, Error, Result};
use crate::live::kube::Account;
use crate::model::short_commit;
use crate::source::{Location, Snapshot};

impl super::Controller {
    /// The revisions to deliver: what the polls found, or what is deployed where the history was rewritten and the
    /// source does not allow that.
    pub(super) async fn accept(
        &self,
        app: &AppKey,
        account: Option<&Account>,
        application: &Application,
        memory: &mut Memory,
        mut snapshots: Vec<Snapshot>,
        mut failure: Option<Error>,
    ) -> Result<(Vec<Snapshot>, Option<Error>)> {
        let sources = || application.spec.sources();
        let accepted = match &application.status {
            Some(status) if memory.accepted.is_empty() => &status.sources,
            _ => &memory.accepted,
        };
        for ((snapshot, source), before) in snapshots.iter_mut().zip(sources()).zip(accepted) {
            if !is_same_line(before, source, snapshot) {
                continue;
            }
            let descends =
                self.sources.descends(app, account, source, &before.revision, &snapshot.commit).await;
            let why = match descends {
                Ok(true) => continue,
                Ok(false) => format!(
                    "{}: {} went from {} to {}, which does not descend from it",
                    source.repo,
                    snapshot.reference,
                    short_commit(&before.revision),
                    short_commit(&snapshot.commit)
                ),
                Err(error) if source.allows_rewrite() => {
                    tracing::debug!(%app, %error, "Whether history was rewritten is not known.");
                    continue;
                }
                Err(error) => return Err(error.in_app(app)),
            };
            if source.allows_rewrite() {
                tracing::warn!(%app, "{why}");
                self.events.warn(application, Code::HistoryRewritten, &why);
                continue;
            }
            let held = self.sources.commit(app, account, source, &before.revision).await;
            let held = held.map_err(|error| error.in_app(app))?;
            *snapshot = held.named(&before.reference);
            let error = Error::new(Code::HistoryRewritten, why)
                .in_app(app)
                .hint("set spec.source.allowRewrite to true to go on to it");
            failure = Some(failure.unwrap_or(error));
        }
        memory.accepted = snapshots.iter().zip(sources()).map(SourceStatus::from).collect();
        Ok((snapshots, failure))
    }
}

/// Whether the two are revisions that one branch or tag of one repository named, one after the other.
fn is_same_line(before: &SourceStatus, source: &Source, now: &Snapshot) -> bool {
    before.repo == source.repo
        && !now.reference.is_empty()
        && Location::of(&source.repo, &source.chart).is_ok_and(|location| location.is_git())
        && before.reference == now.reference
        && before.revision != now.commit
}
