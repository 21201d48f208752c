//! Which kinds the cluster serves.

use std::collections::{HashMap, HashSet};

use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope};

use crate::error::{Code, Error, Result};
use crate::model::{Digest, Gvk, Key};

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

impl Resource {
    /// That an object of this kind is where kinds of its scope are: what was allowed in a namespace must not become an
    /// object of the whole cluster, because a CRD of another scope came meanwhile.
    ///
    /// # Errors
    /// `KindUnknown`, since what was known of the kind is not so any more.
    pub fn holds(&self, key: &Key) -> Result<()> {
        if self.namespaced != key.namespace.is_empty() {
            return Ok(());
        }
        let scope = if self.namespaced { "lives in namespaces" } else { "lives in no namespace" };
        let why = format!("its kind {scope} since a moment ago; it is rendered again");
        Err(Error::new(Code::KindUnknown, why).on_object(key))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_allowed_in_a_namespace_does_not_leave_it() {
        let gvk = kube::core::GroupVersionKind::gvk("e.org", "v1", "Model");
        let check = |namespaced: bool, namespace: &str, expected: bool| {
            let resource = Resource { api: ApiResource::from_gvk(&gvk), namespaced, watchable: true };
            let (group, kind) = ("e.org".to_owned(), "Model".to_owned());
            let key = Key { group, kind, namespace: namespace.to_owned(), name: "m".to_owned() };
            let found = resource.holds(&key);
            assert_eq!(found.is_ok(), expected, "{found:?}");
            assert!(expected || found.is_err_and(|error| error.code == Code::KindUnknown));
        };
        check(true, "ml", true);
        check(false, "", true);
        check(false, "ml", false);
        check(true, "", false);
    }
}
