//! A Project as it is written becomes rules.

use serde_json::Value;

use crate::agent::policy;
use crate::api::{KindRule, Project};
use crate::error::{Code, Error, Result};
use crate::plan::{DestinationRule, Glob, KindGlob, ProjectRules, RepositoryPattern};

fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::ProjectInvalid, why)
}

/// Reads a Project.
///
/// # Errors
/// `ProjectInvalid` for a field that is missing, malformed or unknown.
pub fn project_of(value: Value) -> Result<Project> {
    serde_json::from_value(value).map_err(|error| invalid(error.to_string()))
}

fn globs(texts: &[String], field: &str) -> Result<Vec<Glob>> {
    texts.iter().map(|text| glob(text, field)).collect()
}

fn glob(text: &str, field: &str) -> Result<Glob> {
    Glob::new(text).map_err(|why| invalid(format!("{field}: {why}")))
}

fn kind(group: &str, kind: &str, field: &str) -> Result<KindGlob> {
    Ok(KindGlob { group: glob(group, field)?, kind: glob(kind, field)? })
}

fn kinds(all: &[KindRule], field: &str) -> Result<Vec<KindGlob>> {
    all.iter().map(|rule| kind(&rule.group, &rule.kind, field)).collect()
}

/// What a Project says, as it is used.
///
/// # Errors
/// `ProjectInvalid` with the field.
pub fn project_rules(project: &Project) -> Result<ProjectRules> {
    let spec = &project.spec;
    if spec.namespaces.is_empty() {
        return Err(invalid("spec.namespaces: at least one is needed; \"*\" is every namespace"));
    }
    let pattern = |text: &String| {
        RepositoryPattern::new(text).map_err(|why| invalid(format!("spec.repositories: {why}")))
    };
    let destinations = spec.destinations.iter().map(|place| {
        let cluster = match place.cluster.as_str() {
            "" => None,
            text => Some(glob(text, "spec.destinations.cluster")?),
        };
        Ok(DestinationRule {
            cluster,
            namespaces: globs(&place.namespaces, "spec.destinations.namespaces")?,
            service_accounts: globs(&place.service_accounts, "spec.destinations.serviceAccounts")?,
        })
    });
    let cluster_kinds = spec.cluster_kinds.iter().map(|rule| {
        let field = "spec.clusterKinds";
        Ok((kind(&rule.group, &rule.kind, field)?, globs(&rule.names, field)?))
    });
    let windows = policy::windows(&spec.windows, "spec.windows");
    let budget = spec.prune_budget.clone().unwrap_or_default();
    Ok(ProjectRules {
        name: project.metadata.name.clone().unwrap_or_default(),
        is_stated: true,
        namespaces: globs(&spec.namespaces, "spec.namespaces")?,
        repositories: spec.repositories.iter().map(pattern).collect::<Result<_>>()?,
        destinations: destinations.collect::<Result<_>>()?,
        allow: spec.kinds.allow.as_deref().map(|all| kinds(all, "spec.kinds.allow")).transpose()?,
        deny: kinds(&spec.kinds.deny, "spec.kinds.deny")?,
        cluster_kinds: cluster_kinds.collect::<Result<_>>()?,
        windows: windows.map_err(|error| invalid(error.why))?,
        prune_count: budget.count,
        prune_percent: budget.percent,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: &Value, part: &str) {
        let value = json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Project",
            "metadata": {"name": "ml"}, "spec": spec});
        let result = project_of(value).and_then(|project| project_rules(&project));
        let found = result.as_ref().map_or_else(|error| error.why.clone(), |_| String::new());
        assert!(found.contains(part) && found.is_empty() == part.is_empty(), "{found}");
        assert!(result.is_ok_and(|rules| rules.name == "ml") || !part.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        check(&json!({"namespaces": ["ml"]}), "");
        check(
            &json!({"namespaces": ["*"], "destinations": [{}], "clusterKinds": [{"kind": "Namespace"}]}),
            "",
        );
        check(&json!({}), "namespaces");
        check(&json!({"namespaces": []}), "spec.namespaces");
        check(&json!({"namespaces": ["{a,b}"]}), "spec.namespaces");
        check(&json!({"namespaces": ["ml"], "repositories": ["ftp://x/y"]}), "spec.repositories");
        check(
            &json!({"namespaces": ["ml"], "destinations": [{"cluster": "[a]"}]}),
            "spec.destinations.cluster",
        );
        check(&json!({"namespaces": ["ml"], "kinds": {"allow": [{"group": "apps"}]}}), "kind");
        check(&json!({"namespaces": ["ml"], "kinds": {"deny": [{"kind": "a/b"}]}}), "spec.kinds.deny");
        check(&json!({"namespaces": ["ml"], "clusterKinds": [{"kind": "{N}"}]}), "spec.clusterKinds");
        check(&json!({"namespaces": ["ml"], "allowed": true}), "allowed");
        let window = json!({"kind": "Allow", "schedule": "0 22 * *", "duration": "1h"});
        check(&json!({"namespaces": ["ml"], "windows": [window]}), "five fields");
        let window = json!({"kind": "Allow", "schedule": "0 22 * * *", "duration": "soon"});
        check(&json!({"namespaces": ["ml"], "windows": [window]}), "spec.windows.duration");
    }
}
