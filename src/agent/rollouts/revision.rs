//! The objects of a revision: of what is rendered now, or of the commit that it is from.

use super::course::{Course, Whence};
use crate::api::RolloutRevision;
use crate::error::{Code, Error, Result};
use crate::plan::Desired;

/// A revision's objects: the target, and what nobody but it mounts.
pub(super) struct Revision {
    pub(super) target: Desired,
    pub(super) own: Vec<Desired>,
}

impl<W: Whence> Course<'_, W> {
    /// The objects of a revision: of what was rendered now, or of the commit that it is from.
    pub(super) async fn revision(&self, revision: &RolloutRevision) -> Result<Revision> {
        let bound = self.bound;
        let here = &self.desired[bound.target];
        if revision.digest == bound.revision && !here.body.is_empty() {
            let own = bound.own.iter().map(|at| self.desired[*at].clone()).collect();
            return Ok(Revision { target: here.clone(), own });
        }
        let commit = if revision.digest == bound.revision { self.commit } else { &revision.commit };
        let unknown = |why: String| {
            Error::new(Code::RolloutInvalid, why)
                .on_object(&bound.policy)
                .hint("commit what it is to run; then it becomes that")
        };
        if commit.is_empty() {
            let why = format!("it is not known from which commit the revision {} is", revision.digest);
            return Err(unknown(why));
        }
        let app = self.whence.at(commit).await?;
        let all = &app.prepared.desired;
        let there = app.rollouts.iter().find(|other| all[other.target].key == here.key);
        match there {
            Some(there) if there.revision == revision.digest => {
                let own = there.own.iter().map(|at| all[*at].clone()).collect();
                Ok(Revision { target: all[there.target].clone(), own })
            }
            Some(there) => {
                let why = format!(
                    "commit {commit} gives the revision {} by now, not {}",
                    there.revision, revision.digest
                );
                Err(unknown(why))
            }
            // From before its policy.
            None => {
                let found = all.iter().find(|object| object.key == here.key && object.hook.is_none());
                let found = found.ok_or_else(|| unknown(format!("commit {commit} has no {}", here.key)))?;
                Ok(Revision { target: found.clone(), own: Vec::new() })
            }
        }
    }

    /// An object of what was rendered, with its body.
    pub(super) async fn with_its_body(&self, at: usize) -> Result<Desired> {
        let object = &self.desired[at];
        if !object.body.is_empty() {
            return Ok(object.clone());
        }
        let app = self.whence.at(self.commit).await?;
        let found = app.prepared.desired.into_iter().find(|found| found.key == object.key);
        found.ok_or_else(|| {
            Error::new(Code::Internal, "another render of the same commit lacks it").on_object(&object.key)
        })
    }
}
