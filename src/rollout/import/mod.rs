//! Rollouts and templates of analyses of Argo Rollouts as policies.
//!
//! `place` knows where a field stands; `syntax` reads their conditions, `condition` writes them in CEL, `path` the paths of
//! answers; `arguments` fills in; `metric` makes a gate, `steps` a policy. A gate of which something needs a person asks
//! nothing, so that it passes nobody; what could be made of it is a comment.

mod arguments;
mod condition;
mod metric;
mod path;
mod place;
mod steps;
mod syntax;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::{Value, json};

use super::policy::Policy;
use crate::api::{Gate, Rolling, RolloutPolicySpec, TargetReference};
use crate::error::{Code, Error, Result};
use crate::model::yaml;
use place::Place;
pub use place::{Remark, Source};

/// Where Argo Rollouts' kinds are.
const ARGO: &str = "argoproj.io/";
/// As the schema of a policy says.
const GATES: usize = 30;
const STEPS: usize = 50;
/// Deepest nesting of templates in templates.
const NESTED: usize = 10;

/// What a person says on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Values of arguments that nobody gives.
    pub arguments: BTreeMap<String, String>,
    /// The Deployment that templates without a Rollout judge.
    pub target: Option<String>,
}

/// A document to print.
pub struct Document {
    /// Lines before it.
    pub comments: Vec<String>,
    /// The object.
    pub value: Value,
}

impl Document {
    /// As YAML, with its beginning.
    pub fn text(&self) -> String {
        let comments: String =
            self.comments.iter().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
        format!("---\n{comments}{}", yaml::emit(&self.value))
    }
}

/// What came of it.
pub struct Imported {
    /// Policies, and the Deployments that Rollouts become.
    pub documents: Vec<Document>,
    /// What is not exactly the same.
    pub remarks: Vec<Remark>,
}

struct Import<'a> {
    options: &'a Options,
    /// By whether it is of the cluster, and name.
    templates: BTreeMap<(bool, String), Place<'a>>,
    used: BTreeSet<(bool, String)>,
    remarks: Vec<Remark>,
}

/// Converts all that is there.
///
/// # Errors
/// `ManifestIncomplete` where there is nothing of Argo Rollouts.
pub fn import(sources: &[Source], options: &Options) -> Result<Imported> {
    let mut import =
        Import { options, templates: BTreeMap::new(), used: BTreeSet::new(), remarks: Vec::new() };
    let mut rollouts = Vec::new();
    let mut order = Vec::new();
    let mut any = false;
    for object in sources.iter().flat_map(Place::objects) {
        if !object.text("apiVersion").is_some_and(|version| version.starts_with(ARGO)) {
            continue;
        }
        let kind = object.text("kind").unwrap_or_default();
        any |= matches!(
            kind,
            "Rollout" | "AnalysisTemplate" | "ClusterAnalysisTemplate" | "Experiment" | "AnalysisRun"
        );
        match kind {
            "Rollout" => rollouts.push(object),
            "AnalysisTemplate" | "ClusterAnalysisTemplate" => {
                let name = object.at("metadata").text("name").unwrap_or_default().to_owned();
                let key = (kind == "ClusterAnalysisTemplate", name);
                order.push(key.clone());
                if let Some(before) = import.templates.insert(key, object) {
                    import.remarks.push(before.person("there is another template of this name, which is taken"));
                }
            }
            "Experiment" => import.remarks.push(object.person("there are no experiments; a policy with strategy shadow, or gates that compare both sides, come nearest")),
            "AnalysisRun" => import.remarks.push(object.note("it is a run and no template; left out")),
            _ => {}
        }
    }
    if !any {
        let why = "there is no Rollout, AnalysisTemplate or ClusterAnalysisTemplate of argoproj.io in what was given";
        return Err(Error::new(Code::ManifestIncomplete, why));
    }
    let mut documents: Vec<Document> = rollouts.iter().flat_map(|rollout| import.rollout(rollout)).collect();
    for key in order {
        if !import.used.contains(&key) {
            documents.extend(import.alone(&key));
        }
    }
    let mut remarks = import.remarks;
    let mut seen = BTreeSet::new();
    remarks.retain(|remark| seen.insert(remark.to_string()));
    let order = |remark: &Remark| sources.iter().position(|source| source.is_of(&remark.file));
    remarks.sort_by_key(|remark| (order(remark), remark.line));
    Ok(Imported { documents, remarks })
}

/// Patterns of names of metrics, as dryRun has them.
fn patterns(place: &Place<'_>, remarks: &mut Vec<Remark>) -> Vec<Regex> {
    let mut found = Vec::new();
    for rule in place.at("dryRun").items() {
        match Regex::new(rule.text("metricName").unwrap_or_default()) {
            Ok(pattern) => found.push(pattern),
            Err(_) => remarks.push(
                rule.at("metricName").person("it is no regular expression; give dryRun: true to the gate"),
            ),
        }
    }
    if let Some(kept) = place.stated("measurementRetention") {
        remarks.push(kept.note("a gate keeps its 20 newest values"));
    }
    found
}

impl<'a> Import<'a> {
    /// The template, and those that it names.
    fn flat(&mut self, key: &(bool, String), by: &Place<'_>, depth: usize, found: &mut Vec<Place<'a>>) {
        let Some(template) = self.templates.get(key).cloned() else {
            let kind = if key.0 { "ClusterAnalysisTemplate" } else { "AnalysisTemplate" };
            self.remarks.push(
                by.person(format!("there is no {kind} {} in what was given; give its file too", key.1)),
            );
            return;
        };
        self.used.insert(key.clone());
        if depth > NESTED {
            self.remarks.push(by.person("templates name each other without an end"));
            return;
        }
        for inner in template.at("spec").at("templates").items() {
            let key = (
                inner.value()["clusterScope"] == true,
                inner.text("templateName").unwrap_or_default().to_owned(),
            );
            self.flat(&key, &inner, depth + 1, found);
        }
        found.push(template);
    }

    /// The gates of an analysis, by name.
    fn analysis(
        &mut self,
        rollout: &Place<'a>,
        analysis: &Place<'a>,
        background: bool,
        policy: &mut RolloutPolicySpec,
        comments: &mut Vec<String>,
    ) -> Vec<String> {
        let mut templates = Vec::new();
        let mut names = Vec::new();
        let mut named = analysis.at("templates").items();
        named.extend(analysis.text("templateName").map(|_| analysis.clone()));
        for by in named {
            let key =
                (by.value()["clusterScope"] == true, by.text("templateName").unwrap_or_default().to_owned());
            let before = templates.len();
            self.flat(&key, &by, 0, &mut templates);
            if templates.len() == before {
                // It stands there, and passes nobody, until a person gives it.
                let gate = Gate { name: metric::name(&key.1), ..Gate::default() };
                comments.push(format!("Gate {}: its template is missing.", gate.name));
                names.push(add(policy, gate, background));
            }
        }
        let dry = patterns(analysis, &mut self.remarks);
        for template in templates {
            for (made, _) in self.metrics(&template, Some(analysis), Some(rollout), background, &dry) {
                names.push(self.keep(made, background, policy, comments));
            }
        }
        names.dedup();
        names
    }

    fn metrics(
        &mut self,
        template: &Place<'a>,
        caller: Option<&Place<'a>>,
        rollout: Option<&Place<'a>>,
        background: bool,
        dry: &[Regex],
    ) -> Vec<(metric::Made, bool)> {
        let arguments = arguments::read(template, caller, &self.options.arguments, rollout);
        let spec = template.at("spec");
        let mut dry = dry.to_vec();
        dry.extend(patterns(&spec, &mut self.remarks));
        let metrics = spec.at("metrics").items();
        let made = metrics.iter().map(|stated| {
            let name = stated.text("name").unwrap_or_default();
            let dry_run = dry.iter().any(|pattern| pattern.is_match(name));
            let endless = stated.whole("count").unwrap_or(0) < 1
                && stated.whole("consecutiveSuccessLimit").unwrap_or(0) < 1
                && stated.text("interval").is_some();
            // Without a Rollout the metric itself says where it belongs.
            let background = background || rollout.is_none() && endless;
            (metric::convert_metric(stated, &arguments, background, dry_run), background)
        });
        made.collect()
    }

    /// Puts a gate into the policy; its name there.
    fn keep(
        &mut self,
        made: metric::Made,
        background: bool,
        policy: &mut RolloutPolicySpec,
        comments: &mut Vec<String>,
    ) -> String {
        self.remarks.extend(made.remarks);
        let draft = made.draft.map(|draft| serde_json::to_value(draft).unwrap_or_default());
        let name = add(policy, made.gate, background);
        let begin = format!("Gate {name} needs a person, and passes nobody until then. As far as it goes:");
        if let Some(draft) = draft
            && !comments.contains(&begin)
        {
            comments.push(begin);
            comments.extend(yaml::emit(&draft).lines().map(|line| format!("  {line}")));
        }
        name
    }

    /// A template that no Rollout names.
    fn alone(&mut self, key: &(bool, String)) -> Option<Document> {
        let template = self.templates.get(key)?.clone();
        let mut templates = Vec::new();
        self.flat(key, &template, 0, &mut templates);
        let name = metric::name(&key.1);
        let kind = if key.0 { "ClusterAnalysisTemplate" } else { "AnalysisTemplate" };
        let mut comments = vec![format!("From {}, {kind} {}.", template.told(), key.1)];
        let mut policy = RolloutPolicySpec::default();
        let mut rolling = Rolling::default();
        for template in templates {
            for (made, background) in self.metrics(&template, None, None, false, &[]) {
                let gate = self.keep(made, background, &mut policy, &mut comments);
                if background { rolling.background.push(gate) } else { rolling.gates.push(gate) }
            }
        }
        let target = self.options.target.clone().unwrap_or_else(|| {
            self.remarks.push(template.person(
                "no Rollout here names it, so what it judges is not known: give the Rollout's file too, or --target DEPLOYMENT",
            ));
            name.clone()
        });
        policy.target_ref = TargetReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: target,
            fields: None,
        };
        policy.strategy.rolling = Some(rolling);
        Some(self.document(&template, &name, policy, comments))
    }

    /// The policy as a document. Our own reader takes it.
    fn document(
        &mut self,
        of: &Place<'_>,
        name: &str,
        policy: RolloutPolicySpec,
        comments: Vec<String>,
    ) -> Document {
        if let Err(error) = Policy::read(&policy) {
            self.remarks.push(of.person(format!("the policy is none yet: {}", error.why)));
        }
        let steps = policy.strategy.canary.as_ref().map_or(0, |canary| canary.steps.len());
        if policy.gates.len() > GATES || steps > STEPS {
            self.remarks.push(of.person(format!("a policy has {GATES} gates and {STEPS} steps at most")));
        }
        let mut metadata = json!({"name": name});
        if let Some(namespace) = of.at("metadata").text("namespace") {
            metadata["namespace"] = namespace.into();
        }
        let spec = serde_json::to_value(policy).unwrap_or_default();
        let value = json!({
            "apiVersion": format!("{}/v1alpha1", crate::api::GROUP), "kind": "RolloutPolicy", "metadata": metadata, "spec": spec,
        });
        Document { comments, value }
    }
}

/// Adds a gate, or finds the same one; its name. One of the background is never one of a step.
fn add(policy: &mut RolloutPolicySpec, mut gate: Gate, background: bool) -> String {
    let stem = if background { format!("{}-background", gate.name) } else { gate.name.clone() };
    let first = gate.name.clone();
    let taken = |policy: &RolloutPolicySpec, name: &str| policy.gates.iter().any(|other| other.name == name);
    if let Some(same) = policy.gates.iter().find(|other| !background && **other == gate) {
        return same.name.clone();
    }
    let mut number = 1;
    gate.name = first;
    while taken(policy, &gate.name) {
        gate.name = if number == 1 && background { stem.clone() } else { format!("{stem}-{}", number + 1) };
        number += 1;
    }
    policy.gates.push(gate.clone());
    gate.name
}
