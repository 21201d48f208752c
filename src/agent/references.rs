//! Sources that name files of one another: `$name/path`.

use crate::api::Source;
use crate::error::{Code, Error, Result};

/// The name of the source that a values file is in: `values` for `$values/prod.yaml`.
fn named(path: &str) -> Option<&str> {
    path.strip_prefix('$').map(|rest| rest.split('/').next().unwrap_or(rest))
}

/// The names of sources that the values files of one name.
fn references(source: &Source) -> impl Iterator<Item = &str> {
    let files = source.helm.values_files.iter().map(String::as_str);
    files.chain(source.helm.file_parameters.iter().map(|one| one.path.as_str())).filter_map(named)
}

/// Whether a source only holds what others name, and no manifest of its own.
pub(super) fn is_reference(source: &Source, all: &[&Source]) -> bool {
    let alone = source.path.is_empty() && source.chart.is_empty() && !source.name.is_empty();
    alone
        && all
            .iter()
            .any(|other| other.name != source.name && references(other).any(|name| name == source.name))
}

/// Holds the names of sources against what values files name.
///
/// # Errors
/// `ApplicationInvalid` for a name that stands twice or leads nowhere.
pub(super) fn check_names(sources: &[&Source]) -> Result<()> {
    let invalid = |why: String| Err(Error::new(Code::ApplicationInvalid, why));
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    for (number, source) in sources.iter().enumerate() {
        let known = |name: &str| !name.is_empty() && names.contains(&name);
        if known(&source.name) && names[..number].contains(&source.name.as_str()) {
            return invalid(format!("two of spec.sources have the name {}", source.name));
        }
        if let Some(own) = references(source).find(|name| known(name) && *name == source.name) {
            return invalid(format!(
                "a values file of the source {own} names ${own}/; leave it out for its own files"
            ));
        }
        if let Some(unknown) = references(source).find(|name| !known(name)) {
            return invalid(format!(
                "a values file is in ${unknown}/, and none of spec.sources has that name"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::HelmOptions;

    fn source(name: &str, path: &str, values: &[&str]) -> Source {
        let values_files = values.iter().map(|file| (*file).to_owned()).collect();
        Source {
            name: name.into(),
            path: path.into(),
            helm: HelmOptions { values_files, ..HelmOptions::default() },
            ..Source::default()
        }
    }

    #[test]
    fn a_source_that_is_only_named_holds_no_manifest() {
        let chart = source("", "chart", &["values.yaml", "$values/prod.yaml"]);
        let values = source("values", "", &[]);
        let both = [&chart, &values];
        assert!(is_reference(&values, &both) && !is_reference(&chart, &both));
        check_names(&both).unwrap();
        let manifests = source("values", "manifests", &[]);
        assert!(!is_reference(&manifests, &[&chart, &manifests]), "it has a path of its own");
        let unused = source("spare", "", &[]);
        assert!(!is_reference(&unused, &[&chart, &unused]), "nobody names it");
    }

    #[test]
    fn names_that_lead_nowhere() {
        for (sources, why) in [
            (vec![source("a", "", &[]), source("a", "", &[])], "two of spec.sources"),
            (vec![source("", "", &["$a/x"])], "none of spec.sources"),
            (vec![source("", "", &["$/x"])], "none of spec.sources"),
            (vec![source("a", "", &["$a/x"])], "leave it out"),
        ] {
            let error = check_names(&sources.iter().collect::<Vec<_>>()).unwrap_err();
            assert_eq!(error.code, Code::ApplicationInvalid);
            assert!(error.why.contains(why), "{error}");
        }
        check_names(&[&source("", "", &[]), &source("", "", &[])]).unwrap();
    }
}
