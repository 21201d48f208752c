//! An object of the cluster.

use crate::live::kube::Cluster;
use crate::model::Key;
use crate::rollout::provider::{About, Object, Reading};

pub(super) async fn ask(cluster: &Cluster, known: &Object, about: &About) -> Result<Reading, String> {
    let name = known.name(about)?;
    let resource = cluster.resource(&known.gvk, false).await.map_err(|error| error.to_string())?;
    if !resource.namespaced {
        return Err(format!(
            "a {} lives in no namespace; a gate looks at objects of its own",
            known.gvk.kind
        ));
    }
    let key = Key {
        group: known.gvk.group.clone(),
        kind: known.gvk.kind.clone(),
        namespace: about.namespace.clone(),
        name: name.clone(),
    };
    let found = cluster.get(&resource, &key).await.map_err(|error| error.to_string())?;
    Ok(known.reading(&name, found.as_ref()))
}
