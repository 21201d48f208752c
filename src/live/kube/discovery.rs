//! Which kinds the cluster serves.

use std::collections::{HashMap, HashSet};

use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope};

use crate::model::{Digest, Gvk};

/// One served kind.
#[derive(Clone, Debug)]
pub struct Resource {
    /// How its URLs are built.
    pub api: ApiResource,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether it can be listed and watched.
    pub watchable: bool,
}

/// All served kinds at one moment.
#[derive(Clone, Debug)]
pub struct Discovered {
    kinds: HashMap<Gvk, Resource>,
    /// Groups and versions whose own API server did not answer.
    silent: HashSet<(String, String)>,
    version: String,
    api_versions: Vec<String>,
    identity: Digest,
}

impl Default for Discovered {
    fn default() -> Self {
        Self::of(HashMap::new(), HashSet::new(), String::new())
    }
}

impl Discovered {
    /// From what kube read; `version` is the server's own, such as `v1.36.3`. A group whose API server does not answer has
    /// no kinds, which is no word about them: what was known of them before is kept.
    pub fn new(discovery: &Discovery, version: String, before: &Self) -> Self {
        let mut kinds = HashMap::new();
        let mut silent = HashSet::new();
        for group in discovery.groups() {
            for version in group.versions() {
                if group.versioned_resources(version).is_empty() {
                    silent.insert((group.name().to_owned(), version.to_owned()));
                    let known = before.kinds.iter();
                    let known = known.filter(|(gvk, _)| gvk.group == group.name() && gvk.version == version);
                    kinds.extend(known.map(|(gvk, resource)| (gvk.clone(), resource.clone())));
                }
                for (api, capabilities) in group.versioned_resources(version) {
                    let gvk = Gvk {
                        group: api.group.clone(),
                        version: api.version.clone(),
                        kind: api.kind.clone(),
                    };
                    let watchable = capabilities.supports_operation(kube::discovery::verbs::WATCH);
                    let namespaced = capabilities.scope == Scope::Namespaced;
                    kinds.insert(gvk, Resource { api, namespaced, watchable });
                }
            }
        }
        Self::of(kinds, silent, version)
    }

    fn of(kinds: HashMap<Gvk, Resource>, silent: HashSet<(String, String)>, version: String) -> Self {
        let both = kinds.keys().flat_map(|gvk| {
            let version = gvk.api_version();
            [format!("{version}/{}", gvk.kind), version]
        });
        let mut api_versions: Vec<String> = both.collect();
        api_versions.sort_unstable();
        api_versions.dedup();
        let identity = Digest::of_parts(std::iter::once(&version).chain(&api_versions));
        Self { kinds, silent, version, api_versions, identity }
    }

    /// The kind, if the cluster serves it.
    pub fn get(&self, gvk: &Gvk) -> Option<&Resource> {
        self.kinds.get(gvk)
    }

    /// Whether the API server that would serve the kind did not answer, so that it may well be served.
    pub fn is_silent(&self, gvk: &Gvk) -> bool {
        self.silent.contains(&(gvk.group.clone(), gvk.version.clone()))
    }

    /// The server's version, such as `v1.36.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What a chart sees as `.Capabilities.APIVersions`: `group/version` and `group/version/Kind`, sorted.
    pub fn api_versions(&self) -> &[String] {
        &self.api_versions
    }

    /// Changes with what a chart sees of the cluster.
    pub fn identity(&self) -> Digest {
        self.identity
    }

    /// How many kinds there are.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether nothing was discovered.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}
