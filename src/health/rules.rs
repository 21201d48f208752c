//! The user's own rules: which kinds they speak of, and in which order they are asked.
//!
//! The exact kind first, then wildcards in the order in which they were given; a kind that no rule speaks of is left to the
//! packs. A rule that cannot be compiled is kept: what it would judge is Unknown, with the reason, rather than
//! healthy by another rule.

use std::collections::HashMap;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use serde_json::Value;

use super::{Health, Status, cel, lua};
use crate::error::{Code, Error, Result};
use crate::model::{Digest, Gvk, yaml};

/// Most rules of one set.
const MOST: usize = 500;

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// A health script of Argo CD.
    Lua(String),
    /// Conditions in CEL, asked in this order, and the text of the reason.
    Cel {
        /// Status and condition.
        conditions: Vec<(Status, String)>,
        /// The reason of what is not healthy.
        message: Option<String>,
    },
}

/// One rule with what it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group, perhaps with `*`.
    pub group: String,
    /// Kind, perhaps with `*`.
    pub kind: String,
    /// What judges.
    pub script: Script,
}

/// Time since any fixed moment: a script is given a second of it.
pub type Clock = fn() -> Duration;

enum Judge {
    Lua(lua::Health),
    Cel(cel::Conditions),
    Broken(String),
}

/// An ordered set of rules, compiled.
pub struct Rules {
    exact: HashMap<(String, String), Judge>,
    wild: Vec<(GlobMatcher, Judge)>,
    digest: Digest,
    broken: Vec<Error>,
}

/// Groups and kinds as wildcards see them; the core group has none.
fn path(group: &str, kind: &str) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{group}/{kind}") }
}

impl Rules {
    /// Compiles rules; of two for one kind the first is asked.
    pub fn new(rules: &[Rule], clock: Clock) -> Self {
        let mut made = Self {
            exact: HashMap::new(),
            wild: Vec::new(),
            digest: Self::digest_of(rules),
            broken: Vec::new(),
        };
        for rule in rules.iter().take(MOST) {
            let judge = match &rule.script {
                Script::Lua(script) => lua::Health::new(script, clock).map(Judge::Lua),
                Script::Cel { conditions, message } => {
                    cel::Conditions::new(conditions, message.as_deref()).map(Judge::Cel)
                }
            };
            let mut broken = |why: String| {
                let title = path(&rule.group, &rule.kind);
                made.broken.push(Error::new(Code::HealthRuleInvalid, format!("the rule of {title}: {why}")));
                Judge::Broken(format!("its rule of health cannot be used: {why}"))
            };
            let judge = judge.unwrap_or_else(&mut broken);
            if rule.group.contains(['*', '?']) || rule.kind.contains(['*', '?']) {
                match Glob::new(&path(&rule.group, &rule.kind)) {
                    Ok(glob) => made.wild.push((glob.compile_matcher(), judge)),
                    Err(error) => drop(broken(error.to_string())),
                }
            } else {
                made.exact.entry((rule.group.clone(), rule.kind.clone())).or_insert(judge);
            }
        }
        if rules.len() > MOST {
            made.broken.push(Error::new(
                Code::HealthRuleInvalid,
                format!("more than {MOST} rules; the rest is not used"),
            ));
        }
        made
    }

    /// The digest that a set of these rules would have.
    pub fn digest_of(rules: &[Rule]) -> Digest {
        Digest::of(format!("{rules:?}").as_bytes())
    }

    /// Tells sets apart.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Rules that cannot be compiled.
    pub fn broken(&self) -> &[Error] {
        &self.broken
    }

    fn of(&self, gvk: &Gvk) -> Option<&Judge> {
        // The common case by far is a kind without any rule: it is asked for each event of a watch.
        if self.exact.is_empty() && self.wild.is_empty() {
            return None;
        }
        if let Some(judge) = self.exact.get(&(gvk.group.clone(), gvk.kind.clone())) {
            return Some(judge);
        }
        let path = path(&gvk.group, &gvk.kind);
        self.wild.iter().find(|(glob, _)| glob.is_match(&path)).map(|(_, judge)| judge)
    }

    /// Whether a rule speaks of this kind.
    pub fn covers(&self, gvk: &Gvk) -> bool {
        self.of(gvk).is_some()
    }

    /// What the rule of this kind says word for word, if there is one; without health where it says nothing.
    pub fn verdict(&self, gvk: &Gvk, object: &Value) -> Option<Option<Health>> {
        Some(match self.of(gvk)? {
            Judge::Lua(script) => script.judge(object),
            Judge::Cel(conditions) => Some(conditions.judge(object)),
            Judge::Broken(why) => Some(Health::new(Status::Unknown, why.as_str())),
        })
    }

    /// Judges an object by the rule of its kind; `None` where there is none. What says nothing is healthy, and what is healthy
    /// gives no reason.
    pub fn judge(&self, gvk: &Gvk, object: &Value) -> Option<Health> {
        if object["metadata"]["deletionTimestamp"].is_string() {
            return None;
        }
        let said = self.verdict(gvk, object)?;
        Some(said.filter(|health| health.status != Status::Healthy).unwrap_or_else(Health::healthy))
    }
}

/// Reads rules in Argo CD's form: keys `resource.customizations.health.GROUP_KIND` of a `ConfigMap`, and the older key
/// `resource.customizations` with a map of `GROUP/KIND`. Other keys are passed over.
///
/// # Errors
/// `HealthRuleInvalid` for a key or text of another form.
pub fn of_config_map(config_map: &Value) -> Result<Vec<Rule>> {
    const SPLIT: &str = "resource.customizations.health.";
    let invalid = |why: String| Error::new(Code::HealthRuleInvalid, why);
    let rule = |group: &str, kind: &str, script: &str| Rule {
        group: group.to_owned(),
        kind: kind.to_owned(),
        script: Script::Lua(script.to_owned()),
    };
    let mut found = Vec::new();
    for (key, text) in config_map["data"].as_object().into_iter().flatten() {
        let text = text.as_str().unwrap_or_default();
        if let Some(name) = key.strip_prefix(SPLIT).filter(|_| !text.is_empty()) {
            let (group, kind) = match name.split('_').collect::<Vec<_>>().as_slice() {
                ["all"] => ("*", "*"),
                [kind] if !kind.is_empty() => ("", *kind),
                [group, kind] => (*group, *kind),
                _ => return Err(invalid(format!("{key}: it should end in GROUP_KIND or KIND"))),
            };
            found.push(rule(group, kind, text));
        } else if key == "resource.customizations" {
            for document in yaml::read(text.as_bytes(), key)? {
                for (name, fields) in document.value.as_object().into_iter().flatten() {
                    let Some(script) = fields["health.lua"].as_str() else { continue };
                    let (group, kind) = name.split_once('/').unwrap_or(("", name));
                    found.push(rule(group, kind, script));
                }
            }
        }
    }
    Ok(found)
}
