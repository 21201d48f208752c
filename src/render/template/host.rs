//! The functions that need more than their arguments: other templates, the time, randomness, a cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;

use super::exec::{Failure, Run};
use super::functions::quoted;
use super::parse;
use super::random::Source;
use super::tree::{Body, Name};
use super::value::{Fields, Value};
use super::{Parsed, Surroundings, functions};

/// Why a function failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// In words.
    Words(String),
    /// What `required` or `fail` were given to say.
    Said(String),
    /// In a template that it ran, with what is said before that.
    Inner(String, Box<Failure>),
}

type Called = Result<Value, CallError>;

/// Most texts of `tpl` that are kept parsed.
const MAX_PARSED: usize = 1_024;
/// How many costly things one render makes: some 50 RSA keys.
const MAX_WORK: u32 = 100;
/// Longest text that `tpl` takes.
const MAX_TEXT: usize = 4 << 20;

/// What a run keeps beside the templates.
pub(super) struct Host {
    now: i64,
    lookup: Option<super::Lookup>,
    random: Source,
    /// Costly things that may still be made.
    left: u32,
    /// Whether the time or the seed was asked for.
    pub(super) volatile: bool,
    parsed: HashMap<Arc<str>, Parsed>,
    /// Maps that were given others to hold: they may hold themselves, and are emptied at the end.
    tied: Vec<Fields>,
}

impl Host {
    pub(super) fn new(surroundings: &Surroundings) -> Self {
        Self {
            now: surroundings.now,
            lookup: surroundings.lookup.clone(),
            random: Source::new(surroundings.seed),
            left: MAX_WORK,
            volatile: false,
            parsed: HashMap::new(),
            tied: Vec::new(),
        }
    }

    pub(super) fn now(&mut self) -> i64 {
        self.volatile = true;
        self.now
    }

    /// Takes so much of what may be done: a hash of a password is 1, an RSA key 2 or 8 (some 0.1 s each).
    ///
    /// # Errors
    /// Where nothing is left.
    pub(super) fn work(&mut self, units: u32) -> Result<(), String> {
        self.left =
            self.left.checked_sub(units).ok_or("one render makes too many keys and hashes of passwords")?;
        Ok(())
    }

    pub(super) fn random(&mut self) -> &mut Source {
        self.volatile = true;
        &mut self.random
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for fields in &self.tied {
            if let Ok(mut fields) = fields.try_borrow_mut() {
                let held = std::mem::take(&mut *fields);
                drop(fields);
                drop(held);
            }
        }
    }
}

fn text(arguments: &[Value], at: usize) -> Arc<str> {
    match arguments.get(at) {
        Some(Value::Text(text)) => text.clone(),
        _ => "".into(),
    }
}

pub(super) fn call(run: &mut Run<'_>, name: &str, arguments: &[Value]) -> Called {
    match name {
        "include" => include(run, &text(arguments, 0), &arguments[1]),
        "tpl" => tpl(run, &text(arguments, 0), &arguments[1]),
        "required" => match &arguments[1] {
            Value::Missing | Value::Nil => Err(CallError::Said(text(arguments, 0).to_string())),
            Value::Text(given) if given.is_empty() => Err(CallError::Said(text(arguments, 0).to_string())),
            given => Ok(given.clone()),
        },
        "fail" => Err(CallError::Said(text(arguments, 0).to_string())),
        "lookup" => {
            let Some(lookup) = &run.host.lookup else { return Ok(Value::map(BTreeMap::new())) };
            let [version, kind, namespace, name] = [0, 1, 2, 3].map(|at| text(arguments, at));
            let found = lookup(&version, &kind, &namespace, &name).map_err(CallError::Words)?;
            Ok(found.map_or_else(|| Value::map(BTreeMap::new()), |found| live(&found)))
        }
        "now" => Ok(functions::time(run.host.now())),
        "set" => {
            let Some(fields) = arguments[0].fields() else {
                return Err(CallError::Words("assignment to entry in nil map".to_owned()));
            };
            let value = if arguments[2].is_nil() { Value::Nil } else { arguments[2].clone() };
            if value.fields().is_some() || value.items().is_some_and(|items| !items.is_empty()) {
                run.host.tied.push(fields.clone());
            }
            fields.borrow_mut().insert(text(arguments, 1).to_string(), value);
            Ok(arguments[0].clone())
        }
        _ => functions::ask(run.host, name, arguments).map_err(CallError::Words),
    }
}

/// In Helm's words, which counts to 1,000 for each name.
fn too_deep(name: &str) -> CallError {
    CallError::Words(format!(
        "rendering template has a nested reference name: {name}: unable to execute template"
    ))
}

fn include(run: &mut Run<'_>, name: &str, data: &Value) -> Called {
    if run.is_deepest() {
        return Err(too_deep(name));
    }
    let outer = run.tracer.as_mut().map(super::trace::Tracer::output);
    let done = run.execute(name, data);
    traced(run, outer, done.as_deref().unwrap_or_default());
    done.map(|text| Value::Text(text.into()))
        .map_err(|failure| CallError::Inner(String::new(), Box::new(failure)))
}

fn traced(run: &mut Run<'_>, outer: Option<Vec<super::Mark>>, text: &str) {
    if let (Some(tracer), Some(outer)) = (&mut run.tracer, outer) {
        let marks = tracer.end(outer);
        tracer.included(text, &marks);
    }
}

/// Every text of `tpl` has this name.
const TPL: &str = "gotpl";

fn tpl(run: &mut Run<'_>, source: &Arc<str>, data: &Value) -> Called {
    if run.is_deepest() {
        return Err(too_deep(TPL));
    }
    if source.len() > MAX_TEXT {
        return Err(CallError::Words("the text for tpl is longer than 4 MiB".to_owned()));
    }
    let known = run.host.parsed.get(source).cloned();
    let parsed = if let Some(parsed) = known {
        parsed
    } else {
        let parsed = Parsed::new(TPL, source).map_err(|failure| {
            CallError::Words(format!("cannot parse template {}: {}", quoted(source), failure.text))
        })?;
        if run.host.parsed.len() < MAX_PARSED {
            run.host.parsed.insert(source.clone(), parsed.clone());
        }
        parsed
    };
    // What it defines is known to it and to what it runs.
    let outer = run.bodies.clone();
    if !parsed.defined.is_empty() {
        let mut bodies = (*outer).clone();
        parsed.add_to(&mut bodies);
        run.bodies = Arc::new(bodies);
    }
    let marks = run.tracer.as_mut().map(super::trace::Tracer::output);
    let done = run.body(&parsed.body, TPL, data);
    traced(run, marks, done.as_deref().unwrap_or_default());
    run.bodies = outer;
    match done {
        Ok(text) => Ok(Value::Text(super::without_no_value(text).into())),
        Err(failure) => {
            let before = format!("error during tpl function execution for {}: ", quoted(source));
            Err(CallError::Inner(before, Box::new(failure)))
        }
    }
}

/// A live object: its whole numbers are `int64`, as Kubernetes' client gives them.
fn live(value: &Json) -> Value {
    match value {
        Json::Number(number) => number.as_i64().map_or_else(|| Value::from_json(value), Value::Long),
        Json::Array(items) => Value::list(items.iter().map(live).collect()),
        Json::Object(fields) => {
            Value::map(fields.iter().map(|(name, value)| (name.clone(), live(value))).collect())
        }
        other => Value::from_json(other),
    }
}

/// A file that was parsed: it can be added to many sets, from many threads.
impl Parsed {
    /// Parses a file's text under its name.
    ///
    /// # Errors
    /// Where the text is no template, with its line.
    pub fn new(file: &str, text: &str) -> Result<Self, Failure> {
        match parse::parse(file, text) {
            Ok((body, defined)) => {
                let share = |(name, body): (Name, Body)| (name, Arc::new(body));
                Ok(Self { body: Arc::new(body), defined: defined.into_iter().map(share).collect() })
            }
            Err(failure) => Err(Failure {
                file: file.to_owned(),
                line: failure.line,
                text: format!("template: {file}:{}: {}", failure.line, failure.why),
                said: None,
                unread: true,
            }),
        }
    }
}
