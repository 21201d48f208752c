//! What an Application may deliver: the rules of its Project, asked before anything is fetched or applied.
//!
//! Without a Project that says more: namespaced kinds but those of RBAC, in the Application's own namespace, in the agent's
//! own cluster. A verdict is about one thing at a time (a repository, an object), so no order of rules or objects can change
//! it. Whoever is refused is told what, where it is written, by which rule, and what to do.

mod glob;
mod repository;

use std::collections::BTreeMap;

pub use glob::Glob;
pub use repository::{Address, RepositoryPattern};

use super::{Budget, Desired, Held, Inventory, Pruning, Windows};
use crate::error::{Code, Error};
use crate::model::{Gvk, Key};

/// Groups whose namespaced kinds give rights.
const RBAC: [&str; 2] = ["rbac.authorization.k8s.io", "authorization.openshift.io"];

/// Kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindGlob {
    /// Their API groups.
    pub group: Glob,
    /// Their names.
    pub kind: Glob,
}

impl KindGlob {
    fn matches(&self, group: &str, kind: &str) -> bool {
        self.group.matches(group) && self.kind.matches(kind)
    }
}

/// A place where objects may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRule {
    /// Other clusters, by their Secrets; `None`: the agent's own.
    pub cluster: Option<Glob>,
    /// Empty: the Application's own.
    pub namespaces: Vec<Glob>,
    /// Empty: any or none.
    pub service_accounts: Vec<Glob>,
}

/// The rules of one Project.
#[derive(Clone, Debug, Default)]
pub struct ProjectRules {
    /// Its name.
    pub name: String,
    /// Whether it is written down; the secure defaults are not.
    pub is_stated: bool,
    /// Whose Applications may name it; empty: those of every namespace.
    pub namespaces: Vec<Glob>,
    /// Empty: any but files of the agent's machine.
    pub repositories: Vec<RepositoryPattern>,
    /// Empty: the Application's own namespace in the agent's cluster.
    pub destinations: Vec<DestinationRule>,
    /// Namespaced kinds; `None`: all but those of RBAC.
    pub allow: Option<Vec<KindGlob>>,
    /// Namespaced kinds that are never allowed.
    pub deny: Vec<KindGlob>,
    /// Kinds without a namespace, with globs of names; any name where there are none.
    pub cluster_kinds: Vec<(KindGlob, Vec<Glob>)>,
    /// When syncs may happen.
    pub windows: Windows,
    /// At most so many deletions without a word.
    pub prune_count: Option<usize>,
    /// At most this share, in percent.
    pub prune_percent: Option<u8>,
}

/// The Application that asks, as far as rules look at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// `spec.destination.cluster`.
    pub cluster: Option<&'a str>,
    /// `spec.destination.serviceAccount`.
    pub service_account: Option<&'a str>,
}

/// What an Application asks for before anything of it is read.
#[derive(Clone, Debug, Default)]
pub struct Intent<'a> {
    /// Addresses of its sources.
    pub repositories: Vec<String>,
    /// `spec.destination.namespace`.
    pub namespace: Option<&'a str>,
    /// Whether it wants that namespace made where it is missing.
    pub makes_namespace: bool,
}

/// A rule that refuses: its field, and why.
type Verdict = (&'static str, String);

impl ProjectRules {
    /// What holds where no Project `default` is written.
    pub fn secure_defaults(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Everything that is refused before a source is read.
    pub fn refuse_application(&self, asker: Asker<'_>, intent: &Intent<'_>) -> Vec<Error> {
        if !self.namespaces.is_empty() && !any(&self.namespaces, asker.namespace) {
            let why = format!("it is not for Applications of the namespace {}", asker.namespace);
            // What else it says is none of their business.
            return vec![self.refused(("namespaces", why))];
        }
        let mut all: Vec<Error> =
            intent.repositories.iter().filter_map(|repository| self.refuse_repository(repository)).collect();
        let places = self.places(asker);
        if let Err(verdict) = &places {
            all.push(self.refused(verdict.clone()));
        } else if let Some(namespace) = intent.namespace {
            if let Some(verdict) = self.namespace_verdict(asker, namespace) {
                all.push(self.refused(verdict));
            } else if intent.makes_namespace && !is_home(asker, namespace) {
                let verdict = self.cluster_verdict(&Gvk::parse("v1", "Namespace"), namespace);
                all.extend(verdict.map(|(rule, why)| {
                    self.refused((rule, format!("{why}; spec.sync.createNamespace would make one")))
                }));
            }
        }
        all
    }

    /// Whether an Application may do anything at all where it wants to deliver.
    pub fn reaches(&self, asker: Asker<'_>) -> bool {
        let is_for = self.namespaces.is_empty() || any(&self.namespaces, asker.namespace);
        is_for && self.places(asker).is_ok()
    }

    /// Why nothing may be fetched from a repository.
    pub fn refuse_repository(&self, address: &str) -> Option<Error> {
        let verdict = match Address::parse(address) {
            Err(why) => Some(format!("the address {address} cannot be held against its rules: {why}")),
            Ok(parsed) if self.repositories.is_empty() && parsed.is_file() => {
                Some(format!("{address} lies on the agent's own disk, and no pattern names it"))
            }
            Ok(_) if self.repositories.is_empty() => None,
            Ok(parsed) if self.repositories.iter().any(|pattern| pattern.matches(&parsed)) => None,
            Ok(_) => Some(format!("it lets nobody read from {address}")),
        };
        verdict.map(|why| self.refused(("repositories", why)))
    }

    /// The objects that may not be applied, by their place.
    pub fn refuse_objects(&self, asker: Asker<'_>, desired: &[Desired]) -> BTreeMap<usize, Error> {
        let refused = |(number, object): (usize, &Desired)| {
            let verdict = self.verdict(asker, &object.gvk, &object.key)?;
            let error = self.refused(verdict).on_object(&object.key).in_file(&object.origin.file);
            Some((number, error.at(object.origin.line, 0)))
        };
        desired.iter().enumerate().filter_map(refused).collect()
    }

    /// Why an object is not to be touched.
    pub fn refuse_object(&self, asker: Asker<'_>, gvk: &Gvk, key: &Key) -> Option<Error> {
        self.verdict(asker, gvk, key).map(|verdict| self.refused(verdict).on_object(key))
    }

    /// Whether objects of a kind may be read for an Application; of all namespaces where `namespace` is empty and the kind
    /// has some.
    pub fn may_read(
        &self,
        asker: Asker<'_>,
        gvk: &Gvk,
        is_namespaced: bool,
        namespace: &str,
        name: &str,
    ) -> bool {
        let verdict = if !is_namespaced {
            self.cluster_verdict(gvk, name)
        } else if namespace.is_empty() {
            // A list of all of them: whoever may go into any namespace.
            let everywhere =
                |place: &&DestinationRule| place.namespaces.iter().any(|glob| glob.to_string() == "*");
            match self.places(asker) {
                Ok(places) if places.iter().any(everywhere) => self.kind_verdict(gvk),
                _ => return false,
            }
        } else {
            self.kind_verdict(gvk).or_else(|| self.namespace_verdict(asker, namespace))
        };
        verdict.is_none()
    }

    /// Takes out of a pruning what the rules do not allow any more: it stays as it is.
    pub fn hold(&self, asker: Asker<'_>, pruning: &mut Pruning) {
        let (now, held): (Vec<_>, Vec<_>) =
            std::mem::take(&mut pruning.now).into_iter().partition(|(key, owned)| {
                self.verdict(asker, &Gvk::parse(&owned.api_version, &key.kind), key).is_none()
            });
        pruning.now = now;
        let held = held.into_iter().map(|(key, _)| (key, Held::Disallowed));
        pruning.held.splice(0..0, held);
    }

    /// What of an inventory may be touched.
    pub fn allowed(&self, asker: Asker<'_>, inventory: &Inventory) -> Inventory {
        let all = inventory.iter().filter(|(key, owned)| {
            self.verdict(asker, &Gvk::parse(&owned.api_version, &key.kind), key).is_none()
        });
        all.map(|(key, owned)| (key.clone(), owned.clone())).collect()
    }

    /// The stricter of two budgets.
    pub fn budget(&self, own: Budget) -> Budget {
        Budget {
            count: [self.prune_count, own.count].into_iter().flatten().min(),
            percent: self.prune_percent.map_or(own.percent, |percent| percent.min(own.percent)),
        }
    }

    /// Whether it limits deletions.
    pub fn has_budget(&self) -> bool {
        self.prune_count.is_some() || self.prune_percent.is_some()
    }

    fn verdict(&self, asker: Asker<'_>, gvk: &Gvk, key: &Key) -> Option<Verdict> {
        // A part of a URL each: what could lead elsewhere is no name of Kubernetes.
        let leads = |text: &str| text.contains(['/', '?', '#', '%', '\\']) || text == "." || text == "..";
        if leads(&key.name) || leads(&key.namespace) {
            return Some(("destinations", "its name or namespace is none that Kubernetes has".to_owned()));
        }
        if key.namespace.is_empty() {
            return self.home_verdict(asker).or_else(|| self.cluster_verdict(gvk, &key.name));
        }
        self.kind_verdict(gvk).or_else(|| self.namespace_verdict(asker, &key.namespace))
    }

    /// Places for this cluster and account.
    fn places(&self, asker: Asker<'_>) -> Result<Vec<&DestinationRule>, Verdict> {
        let cluster = asker.cluster.filter(|name| !name.is_empty());
        let place =
            cluster.map_or_else(|| "the agent's cluster".to_owned(), |name| format!("the cluster {name}"));
        let in_cluster = |rule: &&DestinationRule| match (&rule.cluster, cluster) {
            (None, None) => true,
            (Some(glob), Some(name)) => glob.matches(name),
            _ => false,
        };
        if self.destinations.is_empty() {
            return match cluster {
                None => Ok(Vec::new()),
                Some(_) => Err(("destinations", format!("it lets nobody deliver into {place}"))),
            };
        }
        let all: Vec<_> = self.destinations.iter().filter(in_cluster).collect();
        if all.is_empty() {
            return Err(("destinations", format!("it lets nobody deliver into {place}")));
        }
        let account = asker.service_account.filter(|name| !name.is_empty());
        let with_account: Vec<_> = (all.into_iter())
            .filter(|rule| {
                rule.service_accounts.is_empty()
                    || account.is_some_and(|name| any(&rule.service_accounts, name))
            })
            .collect();
        if with_account.is_empty() {
            let why = account.map_or_else(
                || format!("it asks for a spec.destination.serviceAccount in {place}"),
                |name| format!("it does not let the ServiceAccount {name} be used in {place}"),
            );
            return Err(("destinations", why));
        }
        Ok(with_account)
    }

    fn home_verdict(&self, asker: Asker<'_>) -> Option<Verdict> {
        self.places(asker).err()
    }

    fn namespace_verdict(&self, asker: Asker<'_>, namespace: &str) -> Option<Verdict> {
        let places = match self.places(asker) {
            Ok(places) => places,
            Err(verdict) => return Some(verdict),
        };
        let own = namespace == asker.namespace;
        let allowed = (self.destinations.is_empty() && own)
            || places.iter().any(|place| {
                if place.namespaces.is_empty() { own } else { any(&place.namespaces, namespace) }
            });
        (!allowed).then(|| {
            let only = if self.destinations.is_empty() {
                format!(", only into {}, which is the Application's own", asker.namespace)
            } else {
                String::new()
            };
            ("destinations", format!("it lets nobody deliver into the namespace {namespace}{only}"))
        })
    }

    fn kind_verdict(&self, gvk: &Gvk) -> Option<Verdict> {
        let (group, kind) = (gvk.group.as_str(), gvk.kind.as_str());
        if self.deny.iter().any(|rule| rule.matches(group, kind)) {
            return Some(("kinds.deny", format!("it denies {}", title(gvk))));
        }
        match &self.allow {
            Some(allow) if allow.iter().any(|rule| rule.matches(group, kind)) => None,
            Some(_) => Some(("kinds.allow", format!("it does not allow {}", title(gvk)))),
            None if RBAC.contains(&group) => {
                Some(("kinds.allow", format!("it does not allow {}, which gives rights", title(gvk))))
            }
            None => None,
        }
    }

    fn cluster_verdict(&self, gvk: &Gvk, name: &str) -> Option<Verdict> {
        let kinds = |rule: &&(KindGlob, Vec<Glob>)| rule.0.matches(&gvk.group, &gvk.kind);
        let mut same = self.cluster_kinds.iter().filter(kinds).peekable();
        if same.peek().is_none() {
            let why = format!("it does not allow {}, which lives in no namespace", title(gvk));
            return Some(("clusterKinds", why));
        }
        let named = same.any(|(_, names)| names.is_empty() || any(names, name));
        (!named).then(|| ("clusterKinds", format!("it does not allow a {} of the name {name}", title(gvk))))
    }

    fn refused(&self, (rule, why): Verdict) -> Error {
        let name = &self.name;
        let (whose, hint) = if self.is_stated {
            let hint = format!("`kubectl get projects.driftless.dev {name} -o yaml` shows its rules");
            (format!("the Project {name} (spec.{rule}) refuses it"), hint)
        } else {
            let hint = format!(
                "a Project {name} that says so in spec.{rule} allows it: `driftless explain DL0602`, docs/projects.md"
            );
            (format!("there is no Project {name}, and its secure defaults (spec.{rule}) refuse it"), hint)
        };
        Error::new(Code::ProjectRefused, format!("{whose}: {why}")).hint(hint)
    }
}

fn any(globs: &[Glob], name: &str) -> bool {
    globs.iter().any(|glob| glob.matches(name))
}

/// Whether a namespace is the one that the Application itself lives in, which is there.
fn is_home(asker: Asker<'_>, namespace: &str) -> bool {
    asker.cluster.is_none_or(str::is_empty) && namespace == asker.namespace
}

/// `Role.rbac.authorization.k8s.io`, as kubectl takes it.
fn title(gvk: &Gvk) -> String {
    if gvk.group.is_empty() { gvk.kind.clone() } else { format!("{}.{}", gvk.kind, gvk.group) }
}

#[cfg(test)]
mod tests;
