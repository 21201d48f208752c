//! Kinds whose health is data: one file of `packs/` for each system.
//!
//! A file is a list of `{group, kinds, rules}`. The rules of a kind are asked in their order and the first that holds
//! is the judgement; a rule is `STATUS: TEST` (see `expression`) and a `reason` in which `{path}` is put in
//! place, `{path | other | 'word'}` by the first that is there. Adding a system is one file, one line of
//! [`FILES`] and its fixtures in `tests/data/health/`.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::expression::{self, Operand, Scope, Test};
use super::{Health, NOT_SEEN, Status};
use crate::model::{Gvk, yaml};

macro_rules! files {
    ($($name:literal)+) => {
        /// Name and text of each pack.
        pub(super) const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("packs/", $name, ".yaml"))),)+];
    };
}

files! {
    "argo-cd"
    "argo-events"
    "argo-rollouts"
    "argo-workflows"
    "cert-manager"
    "driftless"
    "flux"
    "gateway-api"
    "istio"
    "jobset"
    "katib"
    "knative"
    "kserve"
    "kubeflow-training"
    "kuberay"
    "kueue"
    "michelangelo"
    "notebook"
    "pipelines"
    "prometheus"
    "scheduledworkflow"
    "seldon"
    "trainer"
    "volcano"
}

#[derive(Debug)]
enum Part {
    Text(String),
    Put(Vec<Operand>),
}

#[derive(Debug)]
struct Rule {
    status: Status,
    test: Test,
    reason: Vec<Part>,
}

/// The ordered rules of one kind.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

/// Group, then kind.
type Packs = HashMap<String, HashMap<String, std::sync::Arc<Rules>>>;

static PACKS: LazyLock<Packs> = LazyLock::new(|| {
    let mut packs = Packs::new();
    for (name, text) in FILES {
        // A test reads every file; what it would refuse never ships.
        for (group, kind, rules) in read(name, text).unwrap_or_default() {
            packs.entry(group).or_default().insert(kind, rules);
        }
    }
    packs
});

/// The rules of a kind, if a pack has it.
pub(super) fn of(gvk: &Gvk) -> Option<&'static Rules> {
    PACKS.get(&gvk.group)?.get(&gvk.kind).map(|rules| &**rules)
}

impl Rules {
    /// The judgement of the first rule that holds, and its place.
    pub(super) fn judge(&self, object: &Value) -> (Health, Option<usize>) {
        let found = Cell::new(None);
        let scope = Scope::new(object, &found);
        for (place, rule) in self.0.iter().enumerate() {
            found.set(None);
            if !rule.test.holds(&scope) {
                continue;
            }
            let scope = scope.found();
            let mut reason = String::new();
            for part in &rule.reason {
                match part {
                    Part::Text(text) => reason += text,
                    Part::Put(all) => {
                        let shown = all.iter().map(|one| one.shown(&scope)).find(|text| !text.is_empty());
                        reason += &shown.unwrap_or_default();
                    }
                }
            }
            return (Health::new(rule.status, reason), Some(place));
        }
        (Health::new(Status::Unknown, "no rule of its kind holds"), None)
    }

    /// How many rules there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn parts(reason: &str) -> Result<Vec<Part>, String> {
    let mut found = Vec::new();
    let mut rest = reason;
    while let Some(open) = rest.find('{') {
        if open > 0 {
            found.push(Part::Text(rest[..open].to_owned()));
        }
        let inner = &rest[open + 1..];
        let close = inner.find('}').ok_or_else(|| format!("a brace is not closed in {reason:?}"))?;
        found.push(Part::Put(expression::alternatives(&inner[..close])?));
        rest = &inner[close + 1..];
    }
    if !rest.is_empty() {
        found.push(Part::Text(rest.to_owned()));
    }
    Ok(found)
}

fn rule(value: &Value) -> Result<Rule, String> {
    let fields = value.as_object().ok_or("a rule is a map")?;
    let mut head = None;
    let mut reason = None;
    for (field, value) in fields {
        let text = value.as_str().ok_or_else(|| format!("{field} is not a text"))?;
        match (Status::parse(field), field.as_str()) {
            (Some(status), _) if head.is_none() => head = Some((status, text)),
            (Some(_), _) => return Err("a rule has one status".into()),
            (None, "reason") => reason = Some(text),
            (None, other) => return Err(format!("{other} is neither a status nor reason")),
        }
    }
    let (status, source) = head.ok_or("a rule needs a status")?;
    let test = expression::test(source).map_err(|why| format!("{source}: {why}"))?;
    let reason = match reason {
        Some(reason) => parts(reason)?,
        None if status == Status::Healthy => Vec::new(),
        None if test == Test::Unseen => vec![Part::Text(NOT_SEEN.into())],
        None => return Err(format!("{source}: a rule that is not Healthy gives its reason")),
    };
    Ok(Rule { status, test, reason })
}

/// Reads a pack: group, kind and rules.
pub(super) fn read(name: &str, text: &str) -> Result<Vec<(String, String, std::sync::Arc<Rules>)>, String> {
    let documents = yaml::read(text.as_bytes(), name).map_err(|error| error.to_string())?;
    let entries =
        documents.first().and_then(|document| document.value.as_array()).ok_or("it is not a list")?;
    let mut found = Vec::new();
    for entry in entries {
        let at = |why: String| format!("{name}: {}: {why}", entry["kinds"]);
        let group = entry["group"].as_str().ok_or_else(|| at("group is missing".into()))?;
        let rules = entry["rules"].as_array().ok_or_else(|| at("rules are missing".into()))?;
        let rules = rules.iter().map(rule).collect::<Result<Vec<_>, _>>().map_err(at)?;
        let rules = std::sync::Arc::new(Rules(rules));
        for kind in entry["kinds"].as_array().ok_or_else(|| at("kinds are missing".into()))? {
            let kind = kind.as_str().ok_or_else(|| at("a kind is not a text".into()))?;
            found.push((group.to_owned(), kind.to_owned(), rules.clone()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::health::tests::cases;

    /// Every pack can be read, says each kind once, and every rule of it decides one fixture of its file at least.
    #[test]
    fn every_rule_of_every_pack_has_a_fixture() {
        let mut kinds = HashSet::new();
        let mut missing = Vec::new();
        for (name, text) in FILES {
            let entries = read(name, text).unwrap_or_else(|why| panic!("{why}"));
            let mut hit = HashSet::new();
            for (header, object) in cases(&format!("health/{name}.yaml")) {
                let gvk =
                    Gvk::parse(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
                let Some(rules) = of(&gvk) else { panic!("{name}: a fixture of {gvk}, which no pack has") };
                let (health, place) = rules.judge(&object);
                if !object["metadata"]["deletionTimestamp"].is_string() {
                    assert!(place.is_some(), "{name}: no rule of {gvk} holds for {header}: {health:?}");
                }
                hit.insert((std::ptr::from_ref(rules), place));
            }
            for (group, kind, _) in &entries {
                assert!(kinds.insert((group.clone(), kind.clone())), "{name}: {kind}.{group} is said twice");
                let rules = of(&Gvk::parse(&format!("{group}/v1"), kind)).unwrap();
                for place in 0..rules.len() {
                    if !hit.contains(&(std::ptr::from_ref(rules), Some(place))) {
                        missing.push(format!(
                            "{name}: rule {} of {kind}: {:?}",
                            place + 1,
                            rules.0[place].test
                        ));
                    }
                }
            }
        }
        missing.dedup();
        assert!(missing.is_empty(), "without a fixture:\n{}", missing.join("\n"));
    }

    #[test]
    fn what_is_no_pack_is_refused() {
        for text in [
            "a: b",
            "- {kinds: [A], rules: []}",
            "- {group: a, rules: []}",
            "- {group: a, kinds: [A]}",
            "- {group: a, kinds: [A], rules: [{Healty: otherwise}]}",
            "- {group: a, kinds: [A], rules: [{Degraded: otherwise}]}",
            "- {group: a, kinds: [A], rules: [{Degraded: otherwise, Healthy: otherwise}]}",
            "- {group: a, kinds: [A], rules: [{Degraded: otherwise, reason: '{open'}]}",
            "- {group: a, kinds: [A], rules: [{Healthy: 'phase == A'}, {Healthy: 'x.y == A'}]}",
        ] {
            assert!(read("test", text).is_err(), "{text}");
        }
    }
}
