//! What a repository or a command says about rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{KUBERNETES, Rule, Severity, Version, rule_named};
use crate::error::{Code, Error, Result};
use crate::model::yaml;

/// The file of a repository, in its root or in any folder above what is checked.
pub const FILE: &str = ".driftless.yaml";

/// Which rules are on and how bad their findings are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    disabled: BTreeSet<&'static str>,
    /// Empty stands for all.
    only: BTreeSet<&'static str>,
    severities: BTreeMap<&'static str, Severity>,
    /// The release of Kubernetes that APIs are held against.
    pub kubernetes: Version,
    /// Paths that are left out, as globs.
    pub exclude: Vec<String>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            disabled: BTreeSet::new(),
            only: BTreeSet::new(),
            severities: BTreeMap::new(),
            kubernetes: KUBERNETES,
            exclude: Vec::new(),
        }
    }
}

fn rule(id: &str) -> Result<&'static Rule> {
    rule_named(id).ok_or_else(|| {
        let why = format!("there is no rule {id}");
        Error::new(Code::Usage, why).hint("driftless lint --list shows all of them")
    })
}

impl Configuration {
    /// Reads the file of a repository:
    /// `lint: {disable: [RULE], severity: {RULE: error}, kubeVersion: "1.34", exclude: [GLOB]}`.
    ///
    /// # Errors
    /// `Usage` for what is not known, so that a misspelt rule is not simply on.
    pub fn read(bytes: &[u8], file: &str) -> Result<Self> {
        let mut configuration = Self::default();
        let wrong = |why: String, line: usize| Error::new(Code::Usage, why).in_file(file).at(line, 0);
        for document in yaml::read(bytes, file)? {
            let line = document.line;
            let fields = document.value.as_object().ok_or_else(|| wrong("it is no map".into(), line))?;
            // Other parts of driftless may have settings of their own here.
            let Some(lint) = fields.get("lint").filter(|lint| !lint.is_null()) else { continue };
            let lint = lint.as_object().ok_or_else(|| wrong("lint is no map".into(), line))?;
            for (name, value) in lint {
                configuration.take(name, value).map_err(|error| error.in_file(file).at(line, 0))?;
            }
        }
        Ok(configuration)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<()> {
        let wrong = |what: &str| Error::new(Code::Usage, format!("lint.{name} is not {what}"));
        let texts = || -> Result<Vec<&str>> {
            let list = value.as_array().ok_or_else(|| wrong("a list"))?;
            list.iter().map(|item| item.as_str().ok_or_else(|| wrong("a list of texts"))).collect()
        };
        match name {
            "disable" => texts()?.into_iter().try_for_each(|id| self.disable(id)),
            "exclude" => {
                self.exclude.extend(texts()?.into_iter().map(str::to_owned));
                Ok(())
            }
            "severity" => {
                let map = value.as_object().ok_or_else(|| wrong("a map"))?;
                map.iter().try_for_each(|(id, severity)| {
                    self.set_severity(id, severity.as_str().unwrap_or_default())
                })
            }
            "kubeVersion" => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                self.kubernetes = Version::parse(&text).ok_or_else(|| wrong("a version such as \"1.34\""))?;
                Ok(())
            }
            other => Err(Error::new(Code::Usage, format!("there is no setting lint.{other}"))),
        }
    }

    /// Turns a rule off.
    ///
    /// # Errors
    /// `Usage` where there is no such rule.
    pub fn disable(&mut self, id: &str) -> Result<()> {
        self.disabled.insert(rule(id)?.id);
        Ok(())
    }

    /// Turns off all rules but those named so.
    ///
    /// # Errors
    /// `Usage` where there is no such rule.
    pub fn only(&mut self, id: &str) -> Result<()> {
        self.only.insert(rule(id)?.id);
        Ok(())
    }

    /// Gives the findings of a rule another severity.
    ///
    /// # Errors
    /// `Usage` where there is no such rule or severity.
    pub fn set_severity(&mut self, id: &str, severity: &str) -> Result<()> {
        let wrong = || Error::new(Code::Usage, format!("{severity:?} is none of error, warning and info"));
        self.severities.insert(rule(id)?.id, Severity::parse(severity).ok_or_else(wrong)?);
        Ok(())
    }

    /// Whether a rule is on.
    pub fn is_on(&self, rule: &Rule) -> bool {
        !self.disabled.contains(rule.id) && (self.only.is_empty() || self.only.contains(rule.id))
    }

    /// How bad a finding of a rule is.
    pub fn severity(&self, rule: &Rule) -> Severity {
        self.severities.get(rule.id).copied().unwrap_or(rule.severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_turns_rules_off_and_changes_severities() {
        let text = "lint:\n  disable: [mutable-image-tag]\n  severity: {secret-in-clear: error}\n  kubeVersion: '1.31'\n  exclude: [old/**]\n";
        let read = Configuration::read(text.as_bytes(), FILE).unwrap();
        let named = |id: &str| rule_named(id).unwrap();
        assert!(!read.is_on(named("mutable-image-tag")) && read.is_on(named("secret-in-clear")));
        assert_eq!(read.severity(named("secret-in-clear")), Severity::Error);
        assert_eq!((read.kubernetes, read.exclude.as_slice()), (Version(31), &["old/**".to_owned()][..]));
        assert_eq!(Configuration::read(b"other: {}\n", FILE).unwrap(), Configuration::default());
        for (text, why) in [
            ("lint: {disable: [no-such]}", "there is no rule no-such"),
            ("lint: {severity: {secret-in-clear: fatal}}", "none of error"),
            ("lint: {disabled: []}", "no setting lint.disabled"),
            ("lint: {disable: x}", "not a list"),
            ("lint: []", "no map"),
            ("lint: {kubeVersion: x}", "not a version"),
        ] {
            let error = Configuration::read(text.as_bytes(), FILE).unwrap_err();
            assert_eq!(error.code, Code::Usage);
            assert!(error.why.contains(why), "{error}");
        }
    }
}
