//! Argo Workflows: templates, what they call, and what they pass on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use super::kserve::cycle;
use super::references::MISSING_REFERENCE;
use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject};
use crate::render::explain::below;

rules! { "Argo Workflows":
    ENTRYPOINT "workflow-entrypoint" Error Certain
        "a workflow that begins nowhere"
        "A Workflow needs an entrypoint that is one of its templates, and onExit must be one too; the controller fails the run with `spec.entrypoint ... is required` or `template name undefined`."
    TEMPLATE_UNKNOWN "workflow-template-unknown" Error Certain
        "a step or task that calls a template which is not there"
        "The controller refuses the workflow. Correct the name; a template of another WorkflowTemplate is called with templateRef."
    TEMPLATE_REF "workflow-template-ref" Error Certain
        "a templateRef to a template that the WorkflowTemplate of the tree does not have"
        "The run fails when it comes to this step. Correct templateRef.template, or add the template."
    TEMPLATE_TYPE "workflow-template-type" Error Certain
        "a template that is nothing, or two things at once"
        "A template is exactly one of container, script, containerSet, steps, dag, suspend, resource, http, plugin and data."
    TASK_UNKNOWN "workflow-task-unknown" Error Certain
        "a dependency on a task or step that is not there"
        "The controller refuses the workflow: dependencies, depends and {{tasks.NAME...}} may only name tasks of the same DAG that come before, {{steps.NAME...}} steps of earlier groups."
    CYCLE "workflow-cycle" Error Certain
        "tasks that wait for each other"
        "The controller refuses the workflow. The message names the way round."
    PARAMETER "workflow-parameter" Error Certain
        "a parameter that nobody gives"
        "The controller refuses the workflow, or the text {{...}} reaches the container as it is. Give the argument, or a default under inputs.parameters."
    DUPLICATE_TEMPLATE "workflow-duplicate-name" Error Certain
        "two templates, tasks or steps of one name"
        "The controller refuses the workflow: it would not know which is meant. Rename one."
    UNREACHABLE "workflow-unreachable-template" Info Certain
        "a template that nothing calls"
        "It never runs: a call is missing, or it can go."
    REMOVED_FIELD "workflow-removed-field" Warning Certain
        "a field that Argo Workflows 4 no longer has"
        "CronWorkflow.spec.schedule became schedules, synchronization.mutex and semaphore became mutexes and semaphores, podPriority is gone: version 4 passes them over. `argo convert` rewrites files."
}

const TYPES: &[&str] =
    &["container", "script", "containerSet", "steps", "dag", "suspend", "resource", "http", "plugin", "data"];

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    if subject.gvk.group != "argoproj.io" {
        return;
    }
    let spec = match subject.gvk.kind.as_str() {
        "Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate" => "/spec",
        "CronWorkflow" => "/spec/workflowSpec",
        _ => return,
    };
    let runs = matches!(subject.gvk.kind.as_str(), "Workflow" | "CronWorkflow");
    let whole = subject.at(&format!("{spec}/workflowTemplateRef")).is_none();
    removed(subject, spec, out);
    if !whole {
        template_ref(subject, &format!("{spec}/workflowTemplateRef"), None, set, out);
        return;
    }
    let templates = subject.list(&format!("{spec}/templates"));
    let mut names: HashMap<&str, &Value> = HashMap::new();
    for (at, template) in templates.iter().enumerate() {
        let name = text(template, "name");
        if !name.is_empty() && names.insert(name, template).is_some() {
            let path = format!("{spec}/templates/{at}/name");
            out.add(&DUPLICATE_TEMPLATE, path, format!("two templates are called {name}"));
        }
    }
    begins(subject, spec, runs, &names, out);
    let globals: HashSet<&str> =
        subject.list(&format!("{spec}/arguments/parameters")).iter().map(|one| text(one, "name")).collect();
    if runs {
        for (at, parameter) in subject.list(&format!("{spec}/arguments/parameters")).iter().enumerate() {
            if parameter.get("value").is_none()
                && parameter.get("valueFrom").is_none()
                && parameter.get("default").is_none()
            {
                let why = format!("the parameter {} has no value", text(parameter, "name"));
                out.add(&PARAMETER, format!("{spec}/arguments/parameters/{at}"), why);
            }
        }
    }
    let mut called = BTreeSet::new();
    for (at, value) in templates.iter().enumerate() {
        let path = format!("{spec}/templates/{at}");
        let template = Template { subject, set, names: &names, value, path };
        template.kind(out);
        template.calls(&mut called, out);
        template.parameters(runs.then_some(&globals), out);
    }
    if runs {
        unreachable(subject, spec, templates, &called, out);
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn removed(subject: &Subject, spec: &str, out: &mut Out) {
    let mut gone = |path: String, instead: &str| {
        if subject.at(&path).is_some() {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            out.add(&REMOVED_FIELD, path, format!("Argo Workflows 4 has no {name}; {instead}"));
        }
    };
    if subject.gvk.kind == "CronWorkflow" {
        gone("/spec/schedule".to_owned(), "write schedules, a list");
    }
    gone(format!("{spec}/podPriority"), "use podPriorityClassName");
    let count = subject.list(&format!("{spec}/templates")).len();
    let places =
        std::iter::once(spec.to_owned()).chain((0..count).map(|at| format!("{spec}/templates/{at}")));
    for place in places {
        gone(format!("{place}/synchronization/mutex"), "write mutexes, a list");
        gone(format!("{place}/synchronization/semaphore"), "write semaphores, a list");
    }
}

fn begins(subject: &Subject, spec: &str, runs: bool, names: &HashMap<&str, &Value>, out: &mut Out) {
    for field in ["entrypoint", "onExit"] {
        let path = format!("{spec}/{field}");
        let name = subject.text(&path);
        if name.is_empty() {
            if runs && field == "entrypoint" {
                out.add(&ENTRYPOINT, spec, "there is no entrypoint");
            }
        } else if !names.contains_key(name) && !name.contains("{{") {
            out.add(&ENTRYPOINT, path, format!("the {field} {name} is none of the templates"));
        }
    }
}

/// The WorkflowTemplate that a reference leads to, where it is in the set.
fn referenced<'a>(subject: &Subject, reference: &Value, set: &Set<'a>) -> Option<&'a Subject> {
    let cluster = reference.get("clusterScope").and_then(Value::as_bool) == Some(true);
    let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
    set.find("argoproj.io", kind, &subject.namespace, text(reference, "name"))
}

fn template_ref(subject: &Subject, path: &str, template: Option<&str>, set: &Set<'_>, out: &mut Out) {
    let Some(reference) = subject.at(path) else { return };
    let name = text(reference, "name");
    if name.is_empty() || name.contains("{{") {
        return;
    }
    let Some(found) = referenced(subject, reference, set) else {
        let cluster = reference.get("clusterScope").and_then(Value::as_bool) == Some(true);
        let kind = if cluster { "ClusterWorkflowTemplate" } else { "WorkflowTemplate" };
        if set.lacks("argoproj.io", kind, &subject.namespace, name) {
            let why = format!("the {kind} {name} is not in the tree, where others of its kind are");
            out.add(&MISSING_REFERENCE, format!("{path}/name"), why);
        }
        return;
    };
    let Some(template) = template.filter(|name| !name.is_empty() && !name.contains("{{")) else { return };
    if found.list("/spec/templates").iter().all(|one| text(one, "name") != template) {
        let why = format!("{} has no template {template}", found.title());
        out.add(&TEMPLATE_REF, format!("{path}/template"), why);
    }
}

struct Template<'a> {
    subject: &'a Subject,
    set: &'a Set<'a>,
    names: &'a HashMap<&'a str, &'a Value>,
    value: &'a Value,
    path: String,
}

/// A step or a task with its place.
type Call<'a> = (String, &'a Value);

impl<'a> Template<'a> {
    fn kind(&self, out: &mut Out) {
        let given: Vec<&str> =
            TYPES.iter().copied().filter(|field| self.value.get(*field).is_some()).collect();
        let name = text(self.value, "name");
        // Templates of old versions may call another one.
        let calls = ["template", "templateRef"].iter().any(|field| self.value.get(*field).is_some());
        if given.len() > 1 {
            let why = format!("the template {name} is {} at once", given.join(" and "));
            out.add(&TEMPLATE_TYPE, self.path.as_str(), why);
        } else if given.is_empty() && !calls {
            out.add(
                &TEMPLATE_TYPE,
                self.path.as_str(),
                format!("the template {name} does not say what it is"),
            );
        }
    }

    fn tasks(&self) -> Vec<Call<'a>> {
        let tasks = list(self.value, "/dag/tasks").iter().enumerate();
        tasks.map(|(at, task)| (format!("{}/dag/tasks/{at}", self.path), task)).collect()
    }

    /// Groups of steps; a group may be written as a list or as one step.
    fn groups(&self) -> Vec<Vec<Call<'a>>> {
        let groups = list(self.value, "/steps").iter().enumerate();
        let of = |(at, group): (usize, &'a Value)| -> Vec<Call<'a>> {
            let path = format!("{}/steps/{at}", self.path);
            match group {
                Value::Array(steps) => {
                    steps.iter().enumerate().map(|(to, step)| (format!("{path}/{to}"), step)).collect()
                }
                step => vec![(path, step)],
            }
        };
        groups.map(of).collect()
    }

    /// What it calls: the names go to `called`.
    fn calls(&self, called: &mut BTreeSet<&'a str>, out: &mut Out) {
        let tasks = self.tasks();
        let groups = self.groups();
        let mut seen = HashSet::new();
        for (path, call) in tasks.iter().chain(groups.iter().flatten()) {
            let name = text(call, "name");
            if !name.is_empty() && !seen.insert(name) {
                out.add(
                    &DUPLICATE_TEMPLATE,
                    format!("{path}/name"),
                    format!("two steps or tasks are called {name}"),
                );
            }
            self.call(path, call, called, out);
        }
        self.order(&tasks, out);
        Self::earlier(&groups, out);
    }

    fn call(&self, path: &str, call: &'a Value, called: &mut BTreeSet<&'a str>, out: &mut Out) {
        let exits = call.get("hooks").and_then(Value::as_object).into_iter().flatten();
        let exits =
            exits.map(|(name, hook)| (format!("{path}/hooks/{name}/template"), text(hook, "template")));
        let places = [
            (format!("{path}/template"), text(call, "template")),
            (format!("{path}/onExit"), text(call, "onExit")),
        ];
        for (at, name) in places.into_iter().chain(exits) {
            if name.is_empty() || name.contains("{{") {
                continue;
            }
            called.insert(name);
            if !self.names.contains_key(name) {
                out.add(&TEMPLATE_UNKNOWN, at, format!("there is no template {name}"));
            }
        }
        let target = match call.get("templateRef") {
            Some(reference) => {
                let template = text(reference, "template");
                template_ref(self.subject, &format!("{path}/templateRef"), Some(template), self.set, out);
                referenced(self.subject, reference, self.set).and_then(|found| {
                    found.list("/spec/templates").iter().find(|one| text(one, "name") == template)
                })
            }
            None => self.names.get(text(call, "template")).copied(),
        };
        let Some(target) = target else { return };
        let given: HashSet<&str> =
            list(call, "/arguments/parameters").iter().map(|one| text(one, "name")).collect();
        for input in list(target, "/inputs/parameters") {
            let name = text(input, "name");
            let filled = ["value", "default", "valueFrom"].iter().any(|field| input.get(*field).is_some());
            if !filled && !given.contains(name) && !name.is_empty() {
                let why = format!("{} is not given the parameter {name}", text(target, "name"));
                out.add(&PARAMETER, path, why);
            }
        }
    }

    /// What the tasks of a DAG wait for.
    fn order(&self, tasks: &[Call<'a>], out: &mut Out) {
        let known: HashSet<&str> = tasks.iter().map(|(_, task)| text(task, "name")).collect();
        let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
        for (path, task) in tasks {
            let depends = text(task, "depends");
            let mut waits: Vec<(String, &str)> = (list(task, "/dependencies").iter().enumerate())
                .filter_map(|(at, name)| Some((format!("{path}/dependencies/{at}"), name.as_str()?)))
                .collect();
            waits.extend(words(depends).map(|name| (format!("{path}/depends"), name)));
            for (at, name) in waits.into_iter().filter(|(_, name)| !name.contains("{{")) {
                if known.contains(name) {
                    edges.entry(text(task, "name")).or_default().push(name);
                } else {
                    out.add(&TASK_UNKNOWN, at, format!("there is no task {name} in this DAG"));
                }
            }
        }
        if let Some(cycle) = cycle(&edges) {
            out.add(
                &CYCLE,
                format!("{}/dag/tasks", self.path),
                format!("the tasks wait round: {}", cycle.join(" -> ")),
            );
            return;
        }
        for (path, task) in tasks {
            let before = ancestors(text(task, "name"), &edges);
            let mut uses = Vec::new();
            tags(task, path, "tasks", &mut uses);
            for (at, name) in uses {
                // A hook of a task may speak of the task itself.
                if at.contains("/hooks/") || at.contains("/inline/") {
                    continue;
                }
                if !known.contains(name.as_str()) {
                    out.add(&TASK_UNKNOWN, at, format!("there is no task {name} in this DAG"));
                } else if !before.contains(name.as_str()) {
                    let why = format!("it uses {name}, which it does not wait for");
                    out.add(&TASK_UNKNOWN, at, why);
                }
            }
        }
    }

    /// Steps may use what earlier groups gave.
    fn earlier(groups: &[Vec<Call<'a>>], out: &mut Out) {
        let mut before: HashSet<&str> = HashSet::new();
        for group in groups {
            for (path, step) in group {
                let mut uses = Vec::new();
                tags(step, path, "steps", &mut uses);
                for (at, name) in uses {
                    // `steps.name` is the step's own name where a template of an older version uses it.
                    if !before.contains(name.as_str()) && !at.contains("/hooks/") && !at.contains("/inline/")
                    {
                        let why = format!("it uses the step {name}, which is in no earlier group");
                        out.add(&TASK_UNKNOWN, at, why);
                    }
                }
            }
            before.extend(group.iter().map(|(_, step)| text(step, "name")));
        }
    }

    fn parameters(&self, globals: Option<&HashSet<&str>>, out: &mut Out) {
        let inputs: HashSet<&str> =
            list(self.value, "/inputs/parameters").iter().map(|one| text(one, "name")).collect();
        let mut uses = Vec::new();
        tags(self.value, &self.path, "inputs.parameters", &mut uses);
        for (at, name) in uses {
            if !inputs.contains(name.as_str()) && !foreign(&at) {
                out.add(&PARAMETER, at, format!("the template has no input parameter {name}"));
            }
        }
        let Some(globals) = globals else { return };
        let mut uses = Vec::new();
        tags(self.value, &self.path, "workflow.parameters", &mut uses);
        for (at, name) in uses {
            if !globals.contains(name.as_str()) && !foreign(&at) {
                out.add(&PARAMETER, at, format!("the workflow has no parameter {name}"));
            }
        }
    }
}

/// Whether tags there belong to another workflow or template.
fn foreign(path: &str) -> bool {
    path.contains("/inline/") || path.contains("/resource/manifest")
}

/// Everything that a task waits for.
fn ancestors<'a>(name: &'a str, edges: &HashMap<&'a str, Vec<&'a str>>) -> HashSet<&'a str> {
    let (mut found, mut todo) = (HashSet::new(), vec![name]);
    while let Some(at) = todo.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if found.insert(*next) {
                todo.push(next);
            }
        }
    }
    found
}

/// The tasks of an expression such as `A.Succeeded && (B || !C)`.
fn words(depends: &str) -> impl Iterator<Item = &str> {
    let parts = depends.split(|c: char| c.is_whitespace() || matches!(c, '&' | '|' | '!' | '(' | ')'));
    parts.map(|part| part.split('.').next().unwrap_or_default()).filter(|part| !part.is_empty())
}

/// The names that tags of a kind use in any text of a value: `{{tasks.NAME.outputs...}}`.
fn tags(value: &Value, path: &str, kind: &'static str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| tags(value, &below(path, name), kind, found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| tags(item, &format!("{path}/{at}"), kind, found));
        }
        Value::String(text) if text.contains(kind) => {
            // Expressions ({{=...}}) may have defaults of their own.
            let all = tag().into_iter().flat_map(|tag| tag.captures_iter(text));
            let mut names: Vec<String> =
                all.filter(|tag| &tag[1] == kind).map(|tag| tag[2].to_owned()).collect();
            names.sort();
            names.dedup();
            found.extend(names.into_iter().map(|name| (path.to_owned(), name)));
        }
        _ => {}
    }
}

fn tag() -> Option<&'static Regex> {
    static TAG: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern =
        r"\{\{\s*(tasks|steps|inputs\.parameters|workflow\.parameters)\.([A-Za-z0-9_-]+)\s*(?:\.[^}]*)?\}\}";
    TAG.get_or_init(|| Regex::new(pattern).ok()).as_ref()
}

fn unreachable(subject: &Subject, spec: &str, templates: &[Value], called: &BTreeSet<&str>, out: &mut Out) {
    let hooks = subject.at(&format!("{spec}/hooks")).and_then(Value::as_object).into_iter().flatten();
    let mut known: HashSet<&str> = hooks.map(|(_, hook)| text(hook, "template")).collect();
    known.extend(["entrypoint", "onExit"].map(|field| subject.text(&format!("{spec}/{field}"))));
    for (at, template) in templates.iter().enumerate() {
        let name = text(template, "name");
        let dynamic = subject.text(&format!("{spec}/entrypoint")).contains("{{");
        if !name.is_empty() && !known.contains(name) && !called.contains(name) && !dynamic {
            out.add(
                &UNREACHABLE,
                format!("{spec}/templates/{at}/name"),
                format!("nothing calls the template {name}"),
            );
        }
    }
}
