//! What an Application asks of its Project.

use std::sync::Arc;

use crate::agent::Capable;
use crate::api::ApplicationSpec;
use crate::error::Error;
use crate::live::kube::Cluster;
use crate::model::Gvk;
use crate::plan::{Asker, Intent, ProjectRules};
use crate::render::template::Lookup;
use crate::source::Location;

/// Who asks, and in whose name.
pub fn asker<'a>(namespace: &'a str, spec: &'a ApplicationSpec, account: Option<&'a str>) -> Asker<'a> {
    Asker { namespace, cluster: spec.destination.cluster.as_deref(), service_account: account }
}

/// What is asked for before anything is fetched. An address that is none is told by whoever would fetch it.
pub fn intent(spec: &ApplicationSpec) -> Intent<'_> {
    let locations = spec.sources().filter_map(|source| Location::of(&source.repo, &source.chart).ok());
    // As it is fetched: a chart of a registry is a repository of its own, that of a Helm repository is not.
    let addresses = locations.map(|location| match location {
        Location::Chart { repository, .. } => repository,
        other => other.to_string(),
    });
    Intent {
        repositories: addresses.collect(),
        namespace: spec.destination.namespace.as_deref(),
        makes_namespace: spec.sync.create_namespace.is_some(),
    }
}

/// The first of several refusals, and how many there are more.
pub fn first_of(errors: impl IntoIterator<Item = Error>) -> Option<Error> {
    let mut errors = errors.into_iter();
    let first = errors.next()?;
    let more = errors.count();
    if more == 0 {
        return Some(first);
    }
    Some(Error { why: format!("{} (and {more} more)", first.why), ..first })
}

/// Why an Application gets nothing at all from its Project.
pub fn refusal(rules: &ProjectRules, asker: Asker<'_>, spec: &ApplicationSpec) -> Option<Error> {
    first_of(rules.refuse_application(asker, &intent(spec)))
}

/// `lookup` of charts, for what the Application might deliver and nothing else: it reads with the agent's rights.
pub(in crate::agent) fn may_look_up(
    mut capable: Capable,
    rules: Arc<ProjectRules>,
    asker: Asker<'_>,
    cluster: &Arc<Cluster>,
) -> Capable {
    let Some(inner) = capable.lookup.take() else { return capable };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let (namespace, cluster) = (asker.namespace.to_owned(), cluster.clone());
    let (destination, account) = (owned(asker.cluster), owned(asker.service_account));
    let lookup: Lookup = Arc::new(move |api_version, kind, place, name| {
        let gvk = Gvk::parse(api_version, kind);
        let Some(is_namespaced) = cluster.discovered().get(&gvk).map(|resource| resource.namespaced) else {
            return Err(format!("the cluster does not serve {gvk}"));
        };
        let asker = Asker {
            namespace: &namespace,
            cluster: destination.as_deref(),
            service_account: account.as_deref(),
        };
        if !rules.may_read(asker, &gvk, is_namespaced, place, name) {
            let place = if place.is_empty() { "all namespaces" } else { place };
            return Err(format!("the Project {} does not let {gvk} of {place} be read", rules.name));
        }
        inner(api_version, kind, place, name)
    });
    capable.lookup = Some(lookup);
    capable
}
