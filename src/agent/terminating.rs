//! Why a namespace that is being deleted is not gone.

use super::{Engine, Outcome};
use crate::error::{Code, Error};
use crate::model::{Gvk, Key};

/// Conditions of a namespace that say what its deletion waits for.
const BLOCKERS: [&str; 4] = [
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
    "NamespaceDeletionContentFailure",
    "NamespaceDeletionDiscoveryFailure",
];

impl Engine {
    /// Adds to the first failure, where it is that its namespace is being deleted, what that waits for.
    pub(super) async fn name_blockers(&self, outcome: &mut Outcome) {
        let Some(first) = outcome.failures.first_mut() else { return };
        let refused =
            first.error.code == Code::NamespaceMissing && first.error.why.contains("being terminated");
        if !refused || first.error.why.contains("; it waits for ") {
            return;
        }
        if let Ok(Some(blockers)) = self.blockers(&first.key.namespace).await {
            first.error =
                Error { why: format!("{}; it waits for {blockers}", first.error.why), ..first.error.clone() };
        }
    }

    async fn blockers(&self, namespace: &str) -> crate::error::Result<Option<String>> {
        let gvk = Gvk::parse("v1", "Namespace");
        let resource = self.cluster.resource(&gvk, false).await?;
        let key = Key {
            group: String::new(),
            kind: gvk.kind.clone(),
            namespace: String::new(),
            name: namespace.to_owned(),
        };
        let Some(live) = self.cluster.get(&resource, &key).await? else { return Ok(None) };
        let conditions = live["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_blocker = |condition: &&serde_json::Value| {
            condition["status"] == "True" && BLOCKERS.iter().any(|name| condition["type"] == *name)
        };
        let said = conditions.iter().filter(is_blocker).filter_map(|condition| condition["message"].as_str());
        let said = said.collect::<Vec<_>>().join("; ");
        Ok(Some(said).filter(|said| !said.is_empty()))
    }
}
