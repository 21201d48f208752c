//! Commits of other repositories that kustomizations name, brought when they are asked for.

use std::sync::{Mutex, PoisonError};

use crate::api::ApplicationSpec;
use crate::error::{Code, Error, Result};
use crate::plan::ProjectRules;
use crate::source::{Client, Credentials, Location, Snapshot};

/// Commits of other repositories that one render may bring, one after the other.
const MOST: usize = 50;

/// What was asked for, and what is at hand.
#[derive(Default)]
pub struct Remotes {
    at_hand: Vec<(String, String, Snapshot)>,
    asked: Mutex<Vec<(String, String)>>,
}

impl Remotes {
    /// Repository, commit and files of what is at hand.
    pub(super) fn at_hand(&self) -> &[(String, String, Snapshot)] {
        &self.at_hand
    }

    /// Notes what a render asked for in vain.
    pub(super) fn ask(&self, wanted: Vec<(String, String)>) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).extend(wanted);
    }

    /// Brings what was asked for and is allowed; `false` where there is nothing to bring, so that the render's own
    /// error stands. No credentials are sent: a kustomization is no place to decide who gets them. Where there are rules of a
    /// Project, they are asked before.
    ///
    /// # Errors
    /// `ProjectRefused`, those of the other repository's server, and `SourceTooLarge` for more than 50 of them.
    pub async fn bring(
        &mut self,
        client: &Client,
        spec: &ApplicationSpec,
        rules: Option<&ProjectRules>,
    ) -> Result<bool> {
        let asked = std::mem::take(self.asked.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut any = false;
        for (repository, commit) in asked {
            let known = self.at_hand.iter().any(|(one, at, _)| *one == repository && *at == commit);
            let allowed = spec.sources().any(|source| {
                source.kustomize.remote_bases.iter().any(|allowed| covers(allowed, &repository))
            });
            if known || !allowed {
                continue;
            }
            if self.at_hand.len() >= MOST {
                let why = format!("its kustomizations name more than {MOST} commits of other repositories");
                return Err(Error::new(Code::SourceTooLarge, why));
            }
            let location = Location::parse(&repository)?;
            if let Some(refused) = rules.and_then(|rules| rules.refuse_repository(&location.to_string())) {
                return Err(refused);
            }
            let snapshot = client.fetch(&location, &commit, &Credentials::default()).await?;
            self.at_hand.push((repository, commit, snapshot));
            any = true;
        }
        Ok(any)
    }
}

/// Whether an entry of the allow-list covers a repository: the same address, or all of one folder of a server
/// (`https://git.example/ml/*`). A final `.git` makes no difference.
fn covers(allowed: &str, repository: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches('/').trim_end_matches(".git").to_owned();
    match allowed.strip_suffix("/*") {
        Some(folder) => repository
            .strip_prefix(folder)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| !name.is_empty() && !name.contains('/') && name != ".."),
        None => plain(allowed) == plain(repository),
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn the_list_is_read_in_parts() {
        for (allowed, repository, expected) in [
            ("https://git.example/ml/base", "https://git.example/ml/base.git", true),
            ("https://git.example/ml/base.git", "https://git.example/ml/base", true),
            ("https://git.example/ml/base", "https://git.example/ml/base2", false),
            ("https://git.example/ml/base", "http://git.example/ml/base", false),
            ("https://git.example/ml/*", "https://git.example/ml/base", true),
            ("https://git.example/ml/*", "https://git.example/ml/a/b", false),
            ("https://git.example/ml/*", "https://git.example/mlx/base", false),
            ("https://git.example/ml/*", "https://git.example/ml/", false),
        ] {
            assert_eq!(covers(allowed, repository), expected, "{allowed} {repository}");
        }
    }
}
