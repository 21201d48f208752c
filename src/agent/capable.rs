//! What charts may ask of a cluster: its version and kinds, live objects, random bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::live::kube::Cluster;
use crate::model::{Confidential, Gvk, Key};
use crate::render::template::Lookup;

/// What charts may ask of a cluster, and what they may not know beforehand.
#[derive(Clone, Default)]
pub struct Capable {
    /// Its version, such as `v1.36.3`; empty where no cluster is at hand.
    pub version: String,
    /// `group/version` and `group/version/Kind` of what it serves.
    pub api_versions: Vec<String>,
    /// Reads live objects, for Applications that let `lookup` do so.
    pub lookup: Option<Lookup>,
    /// Of random values; all zero where they only stand for others.
    pub seed: [u8; 32],
    /// Seconds since 1970.
    pub now: i64,
    /// What `lookup` found in Secrets.
    pub found: Arc<Mutex<Confidential>>,
}

impl Capable {
    pub(super) fn found(&self) -> Confidential {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What charts may ask of this cluster. `lookup` waits on the thread that renders, so that must be one for blocking
/// work.
///
/// # Errors
/// Those of the API server.
pub async fn capable(cluster: &Arc<Cluster>, now: i64) -> Result<Capable> {
    cluster.discover().await?;
    let discovered = cluster.discovered();
    let seed = random_seed()?;
    let (cluster, runtime) = (cluster.clone(), tokio::runtime::Handle::current());
    let found = Arc::<Mutex<Confidential>>::default();
    let secrets = found.clone();
    let lookup: Lookup = Arc::new(move |api_version, kind, namespace, name| {
        let gvk = Gvk::parse(api_version, kind);
        let found =
            runtime.block_on(cluster.look_up(&gvk, namespace, name)).map_err(|error| error.to_string());
        if let (true, Ok(Some(value))) = (gvk.is("", "Secret"), &found) {
            hide(value, &mut secrets.lock().unwrap_or_else(PoisonError::into_inner));
        }
        found
    });
    let (version, api_versions) = (discovered.version().to_owned(), discovered.api_versions().to_vec());
    Ok(Capable { version, api_versions, lookup: Some(lookup), seed, now, found })
}

/// Notes the values of a Secret or of a list of them.
fn hide(value: &Value, secrets: &mut Confidential) {
    let items = value["items"].as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    for data in items.iter().filter_map(|item| item["data"].as_object()) {
        for encoded in data.values().filter_map(Value::as_str) {
            match STANDARD.decode(encoded).map(String::from_utf8) {
                Ok(Ok(text)) => secrets.add(&text),
                // Bytes that are no text can only be shown as they are here.
                _ => secrets.add(encoded),
            }
        }
    }
}

/// Fresh random bytes of this machine, for the random values of charts.
///
/// # Errors
/// `Internal` where it has none.
pub fn random_seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed)
        .map_err(|_| Error::new(Code::Internal, "this machine gives no random bytes"))?;
    Ok(seed)
}

/// Live objects by key; what the cluster does not serve or does not have is left out.
///
/// # Errors
/// Those of the API server.
pub async fn live_objects(cluster: &Cluster, wanted: Vec<(Gvk, Key)>) -> Result<HashMap<Key, Value>> {
    let mut found = HashMap::new();
    for (gvk, key) in wanted {
        if let Ok(resource) = cluster.resource(&gvk, false).await
            && let Some(value) = cluster.get(&resource, &key).await?
        {
            found.insert(key, value);
        }
    }
    Ok(found)
}
