//! Katib experiments. The CRD takes anything, so this is what its webhook checks.

use std::collections::HashSet;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use crate::lint::rule::{Out, rules};
use crate::lint::set::Subject;

rules! { "Katib":
    COUNTS "katib-counts" Error Certain
        "numbers of trials that contradict each other"
        "parallelTrialCount and maxFailedTrialCount must not be larger than maxTrialCount, and all but the failed ones are at least 1. The webhook refuses the experiment."
    OBJECTIVE "katib-objective" Error Certain
        "an objective that Katib cannot pursue"
        "type is minimize or maximize, objectiveMetricName says of what, and the metric is not among the additional ones. The webhook refuses the experiment."
    PARAMETERS "katib-parameters" Error Certain
        "a search space that the webhook refuses"
        "int and double need min and max with min below max, discrete and categorical a list; each parameter has a name of its own; parameters and nasConfig exclude each other."
    TRIAL_TEMPLATE "katib-trial-template" Error Certain
        "a template of trials that does not fit its parameters"
        "Every ${trialParameters.NAME} must be declared under trialTemplate.trialParameters and each of those must name a parameter of the experiment; exactly one of trialSpec and configMap is given, and a trialSpec has no name or namespace of its own."
}

pub(super) fn check(subject: &Subject, out: &mut Out) {
    if !subject.is("kubeflow.org", "Experiment") {
        return;
    }
    counts(subject, out);
    objective(subject, out);
    let names = parameters(subject, out);
    template(subject, &names, out);
}

fn counts(subject: &Subject, out: &mut Out) {
    let number = |field: &str| subject.at(&format!("/spec/{field}")).and_then(Value::as_i64);
    let most = number("maxTrialCount");
    for (field, least) in [("maxTrialCount", 1), ("parallelTrialCount", 1), ("maxFailedTrialCount", 0)] {
        let Some(count) = number(field) else { continue };
        let at = format!("/spec/{field}");
        if count < least {
            out.add(&COUNTS, at, format!("{field} is {count}, and the least is {least}"));
        } else if let Some(most) = most.filter(|most| count > *most) {
            out.add(&COUNTS, at, format!("{field} is {count}, more than the {most} of maxTrialCount"));
        }
    }
}

fn objective(subject: &Subject, out: &mut Out) {
    let Some(objective) = subject.at("/spec/objective") else {
        out.add(&OBJECTIVE, "/spec", "there is no objective");
        return;
    };
    let text = |field: &str| objective.get(field).and_then(Value::as_str).unwrap_or_default();
    if !matches!(text("type"), "minimize" | "maximize") {
        let why = format!("the type is {:?}, not minimize or maximize", text("type"));
        out.add(&OBJECTIVE, "/spec/objective", why);
    }
    let metric = text("objectiveMetricName");
    if metric.is_empty() {
        out.add(&OBJECTIVE, "/spec/objective", "objectiveMetricName is missing");
    }
    for (at, other) in subject.list("/spec/objective/additionalMetricNames").iter().enumerate() {
        if other.as_str() == Some(metric) {
            let path = format!("/spec/objective/additionalMetricNames/{at}");
            out.add(&OBJECTIVE, path, format!("{metric} is the objective already"));
        }
    }
}

fn parameters(subject: &Subject, out: &mut Out) -> HashSet<String> {
    let list = subject.list("/spec/parameters");
    if !list.is_empty() && subject.at("/spec/nasConfig").is_some() {
        out.add(&PARAMETERS, "/spec/nasConfig", "parameters and nasConfig exclude each other");
    }
    let mut names = HashSet::new();
    for (at, parameter) in list.iter().enumerate() {
        let path = format!("/spec/parameters/{at}");
        let text = |pointer: &str| parameter.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let name = text("/name");
        if !names.insert(name.to_owned()) {
            out.add(&PARAMETERS, path.as_str(), format!("two parameters are called {name}"));
        }
        let values = parameter.pointer("/feasibleSpace/list").and_then(Value::as_array);
        let why = match text("/parameterType") {
            kind @ ("int" | "double") => {
                let number = |field: &str| text(&format!("/feasibleSpace/{field}")).parse::<f64>().ok();
                match (number("min"), number("max")) {
                    (Some(least), Some(most)) if least > most => {
                        Some(format!("{name}: the least is beyond the most"))
                    }
                    (Some(_), Some(_)) => None,
                    _ => Some(format!("{name}: a parameter of type {kind} needs min and max, as texts")),
                }
            }
            kind @ ("discrete" | "categorical") => values
                .is_none_or(Vec::is_empty)
                .then(|| format!("{name}: a parameter of type {kind} needs a list")),
            other => {
                Some(format!("{name}: the type {other:?} is none of int, double, discrete and categorical"))
            }
        };
        if let Some(why) = why {
            out.add(&PARAMETERS, path, why);
        }
    }
    names
}

fn template(subject: &Subject, parameters: &HashSet<String>, out: &mut Out) {
    let base = "/spec/trialTemplate";
    let Some(template) = subject.at(base) else { return };
    let (spec, map) = (template.get("trialSpec"), template.get("configMap"));
    if spec.is_some() == map.is_some() {
        out.add(&TRIAL_TEMPLATE, base, "give exactly one of trialSpec and configMap");
    }
    let mut declared = HashSet::new();
    for (at, parameter) in subject.list("/spec/trialTemplate/trialParameters").iter().enumerate() {
        let text = |field: &str| parameter.get(field).and_then(Value::as_str).unwrap_or_default();
        declared.insert(text("name"));
        let reference = text("reference");
        // ${trialSpec.Name} and its like speak of the trial itself.
        if !reference.starts_with("${trialSpec") && !parameters.contains(reference) && !parameters.is_empty()
        {
            let why =
                format!("{} refers to {reference:?}, which is no parameter of the experiment", text("name"));
            out.add(&TRIAL_TEMPLATE, format!("{base}/trialParameters/{at}/reference"), why);
        }
    }
    let Some(spec) = spec else { return };
    for field in ["name", "namespace"] {
        if spec.pointer(&format!("/metadata/{field}")).is_some() {
            let at = format!("{base}/trialSpec/metadata/{field}");
            out.add(
                &TRIAL_TEMPLATE,
                at,
                format!("Katib gives each trial its {field}; the template must not"),
            );
        }
    }
    let text = spec.to_string();
    let mut used: Vec<&str> = placeholder()
        .into_iter()
        .flat_map(|pattern| pattern.captures_iter(&text))
        .filter_map(|found| found.get(1).map(|name| name.as_str()))
        .collect();
    used.sort_unstable();
    used.dedup();
    for name in used.iter().filter(|name| !declared.contains(**name)) {
        let why = format!("${{trialParameters.{name}}} is not among the trialParameters");
        out.add(&TRIAL_TEMPLATE, format!("{base}/trialSpec"), why);
    }
    for name in declared.iter().filter(|name| !used.contains(*name)) {
        let why =
            format!("the trialParameter {name} is used nowhere in the trialSpec, which the webhook refuses");
        out.add(&TRIAL_TEMPLATE, format!("{base}/trialParameters"), why);
    }
}

fn placeholder() -> Option<&'static Regex> {
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new(r"\$\{trialParameters\.([^}]+)\}").ok()).as_ref()
}
