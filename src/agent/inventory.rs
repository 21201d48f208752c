//! The inventory as it is kept: in the status while small, in `ConfigMaps` beside the Application beyond.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};

use crate::api::{Application, FIELD_MANAGER, Inventory as Stored, InventoryEntry};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, translate};
use crate::model::{Digest, Gvk, Key};
use crate::plan::{Consent, Inventory, Owned};

/// Behind what an object says of its pruning: it goes last.
const LAST: &str = "+last";
/// Behind that: it makes no difference that it is not in Git.
const EXTRANEOUS: &str = "+extraneous";
/// Entries kept in the status: 250 bytes each, so 100 kB, which every watch of Applications carries.
const IN_STATUS: usize = 400;
/// Entries of one `ConfigMap`: 250 bytes each, half of the API server's limit of 1 MiB.
const IN_CHUNK: usize = 2000;

fn entries(inventory: &Inventory) -> Vec<InventoryEntry> {
    inventory
        .iter()
        .map(|(key, owned)| InventoryEntry {
            api_version: owned.api_version.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: owned.uid.clone(),
            digest: owned.digest.to_string(),
            ours: format!("{:016x}", owned.ours),
            generation: owned.generation,
            wave: owned.wave,
            prune: [
                owned.prune.word(),
                if owned.prune_last { LAST } else { "" },
                if owned.extraneous { EXTRANEOUS } else { "" },
            ]
            .concat(),
            delete: owned.delete.word().to_owned(),
        })
        .collect()
}

fn decode(entries: &[InventoryEntry]) -> Result<Inventory> {
    let broken = |what: &str| Error::new(Code::PruneRefused, format!("the inventory is damaged: {what}"));
    entries
        .iter()
        .map(|entry| {
            let key = Key {
                group: Gvk::parse(&entry.api_version, "").group,
                kind: entry.kind.clone(),
                namespace: entry.namespace.clone(),
                name: entry.name.clone(),
            };
            let (words, extraneous) = match entry.prune.strip_suffix(EXTRANEOUS) {
                Some(words) => (words, true),
                None => (entry.prune.as_str(), false),
            };
            let owned = Owned {
                api_version: entry.api_version.clone(),
                uid: entry.uid.clone(),
                digest: entry.digest.parse().map_err(broken)?,
                ours: u64::from_str_radix(&entry.ours, 16)
                    .map_err(|_| broken("a fingerprint is no number"))?,
                generation: entry.generation,
                wave: entry.wave,
                prune: Consent::parse(words.trim_end_matches(LAST)),
                delete: Consent::parse(&entry.delete),
                prune_last: words.ends_with(LAST),
                extraneous,
            };
            Ok((key, owned))
        })
        .collect()
}

fn digest(entries: &[InventoryEntry]) -> String {
    Digest::of_parts(entries.iter().map(|entry| format!("{entry:?}"))).to_string()
}

/// The inventory as a status holds it, when no chunk is needed.
pub fn from_status(stored: &Stored) -> Option<Result<Inventory>> {
    stored.chunks.is_empty().then(|| decode(&stored.entries))
}

/// Reads the inventory of an application.
///
/// # Errors
/// `PruneRefused` when a chunk is missing or they do not add up; then nothing may be deleted.
pub async fn load(cluster: &Cluster, application: &Application) -> Result<Inventory> {
    let Some(stored) = application.status.as_ref().map(|status| &status.inventory) else {
        return Ok(Inventory::new());
    };
    if let Some(inventory) = from_status(stored) {
        return inventory;
    }
    let namespace = application.metadata.namespace.as_deref().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let mut all = Vec::with_capacity(stored.count);
    for name in &stored.chunks {
        let map = maps.get(name).await.map_err(|error| translate(&error))?;
        let text =
            map.data.as_ref().and_then(|data| data.get("entries")).map(String::as_str).unwrap_or_default();
        let chunk: Vec<InventoryEntry> = serde_json::from_str(text).map_err(|error| {
            Error::new(
                Code::PruneRefused,
                format!("the inventory chunk {namespace}/{name} cannot be read: {error}"),
            )
        })?;
        all.extend(chunk);
    }
    if digest(&all) != stored.digest {
        return Err(Error::new(
            Code::PruneRefused,
            "the chunks of the inventory do not add up to its digest",
        ));
    }
    decode(&all)
}

/// Writes chunks where they are needed; returns what belongs into the status.
pub async fn store(cluster: &Cluster, application: &Application, inventory: &Inventory) -> Result<Stored> {
    let place = application.spec.destination.cluster.clone().unwrap_or_default();
    let entries = entries(inventory);
    let count = entries.len();
    let digest = digest(&entries);
    let before = application.status.as_ref().map(|status| status.inventory.clone()).unwrap_or_default();
    // Objects of another cluster: they are still there, whatever is wanted now.
    if before.count > 0 && before.cluster != place {
        return Ok(before);
    }
    if before.digest == digest && before.count == count {
        return Ok(before);
    }
    if count <= IN_STATUS {
        return Ok(Stored { cluster: place, count, entries, chunks: Vec::new(), digest });
    }
    let namespace = application.metadata.namespace.as_deref().unwrap_or_default();
    let name = application.metadata.name.as_deref().unwrap_or_default();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    let mut chunks = Vec::new();
    for (number, chunk) in entries.chunks(IN_CHUNK).enumerate() {
        // The digest is part of the name: chunks that a status still names are never changed.
        let chunk_name = format!("{}-inventory-{}-{number}", cut(name), &digest[..8]);
        let text =
            serde_json::to_string(chunk).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let map = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": chunk_name,
                "ownerReferences": [{
                    "apiVersion": "driftless.dev/v1alpha1", "kind": "Application", "name": name,
                    "uid": application.metadata.uid,
                }],
            },
            "data": {"entries": text},
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        maps.patch(&chunk_name, &parameters, &Patch::Apply(map)).await.map_err(|error| translate(&error))?;
        chunks.push(chunk_name);
    }
    Ok(Stored { cluster: place, count, entries: Vec::new(), chunks, digest })
}

/// Removes chunks that no status names any more; call it after the status is written.
pub(super) async fn remove_stale(cluster: &Cluster, namespace: &str, before: &Stored, after: &Stored) {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
    for name in before.chunks.iter().filter(|name| !after.chunks.contains(name)) {
        // Left behind, a chunk costs room and nothing else; it is owned by the Application.
        let _ = maps.delete(name, &DeleteParams::default()).await;
    }
}

fn cut(name: &str) -> &str {
    let mut end = name.len().min(200);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let key =
            Key { group: "apps".into(), kind: "Deployment".into(), namespace: "n".into(), name: "d".into() };
        let owned = Owned {
            api_version: "apps/v1".into(),
            uid: "u".into(),
            digest: Digest::of(b"x"),
            ours: 7,
            generation: 3,
            wave: -2,
            prune: Consent::Asked,
            delete: Consent::Refused,
            prune_last: true,
            extraneous: true,
        };
        let inventory: Inventory = [(key, owned)].into();
        assert_eq!(decode(&entries(&inventory)).unwrap(), inventory);
        let mut damaged = entries(&inventory);
        damaged[0].digest = "?".into();
        assert_eq!(decode(&damaged).unwrap_err().code, Code::PruneRefused);
    }
}
