//! Runs templates.

use std::collections::HashMap;
use std::rc::Rc;

use super::functions::{self, Parameter};
use super::parse::{Body, Command, Kind, Node, Pipe, Word};
use super::value::Value;

/// A failure at a place of a template, with its cause.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The file and line, where known.
    pub file: String,
    /// 1-based.
    pub line: usize,
    /// As Go words it, with every template on the way.
    pub text: String,
    /// What `required` or `fail` said.
    pub said: Option<String>,
}

impl Failure {
    /// As `helm template` words it.
    pub fn words(&self) -> String {
        let mut tokens = self.text.splitn(3, ": ");
        let place = tokens.nth(1).unwrap_or_default();
        match &self.said {
            Some(said) => format!("execution error at ({place}): {said}"),
            None if self.text.contains(": executing ") || place.is_empty() => self.text.clone(),
            None => {
                format!("parse error at ({place}): {}", self.text.rsplit(": ").next().unwrap_or_default())
            }
        }
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Most bytes one template gives.
const MAX_OUTPUT: usize = 64 << 20;
/// Most nodes that are run for one chart.
const MAX_STEPS: u64 = 50_000_000;
/// Deepest chain of templates; helm's own limit for one name is 1,000.
const MAX_CALLS: usize = 1_000;

enum Flow {
    Next,
    Break,
    Continue,
}

/// What functions ask of their surroundings.
pub(super) trait Host {
    /// A function that needs more than its arguments; `None` where there is none of this name.
    fn call(
        &self,
        run: &mut Run<'_>,
        name: &str,
        arguments: &[Value],
    ) -> Option<std::result::Result<Value, CallError>>;
}

/// Why a function failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// In words.
    Words(String),
    /// What `required` or `fail` were given to say.
    Said(String),
    /// In a template that it ran.
    Inner(Box<Failure>),
}

impl From<String> for CallError {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

/// Templates by name, while they run.
pub(super) struct Run<'a> {
    pub(super) bodies: Rc<HashMap<String, Rc<Body>>>,
    host: &'a dyn Host,
    steps: u64,
    calls: usize,
}

/// One template that is being run.
struct Frame {
    body: Rc<Body>,
    name: Rc<str>,
    variables: Vec<(Rc<str>, Value)>,
}

impl<'a> Run<'a> {
    pub(super) fn new(bodies: Rc<HashMap<String, Rc<Body>>>, host: &'a dyn Host) -> Self {
        Self { bodies, host, steps: 0, calls: 0 }
    }

    /// Runs a template with another set of bodies, as `tpl` does.
    ///
    /// # Errors
    /// What the template does.
    pub(super) fn with(
        &mut self,
        bodies: Rc<HashMap<String, Rc<Body>>>,
        name: &str,
        data: &Value,
    ) -> Result<String> {
        let outer = std::mem::replace(&mut self.bodies, bodies);
        let done = self.execute(name, data);
        self.bodies = outer;
        done
    }

    /// The bodies at hand.
    pub(super) fn bodies(&self) -> &Rc<HashMap<String, Rc<Body>>> {
        &self.bodies
    }

    /// Runs a template by name.
    ///
    /// # Errors
    /// With every place on the way.
    pub(super) fn execute(&mut self, name: &str, data: &Value) -> Result<String> {
        let Some(body) = self.bodies.get(name).cloned() else {
            let text = format!("template: no template {name:?} associated with template \"gotpl\"");
            return Err(Failure { file: String::new(), line: 0, text, said: None });
        };
        let mut out = String::new();
        self.body(body, name, data, &mut out)?;
        Ok(out)
    }

    fn body(&mut self, body: Rc<Body>, name: &str, data: &Value, out: &mut String) -> Result<()> {
        let mut frame = Frame { name: name.into(), variables: vec![("$".into(), data.clone())], body };
        self.calls += 1;
        if self.calls > MAX_CALLS {
            let why =
                format!("rendering template has a nested reference name: {name}: unable to execute template");
            return Err(fail(&frame, 0, "", &why));
        }
        let body = frame.body.clone();
        let done = self.list(&mut frame, &body.nodes, data, out);
        self.calls -= 1;
        done.map(drop)
    }

    fn list(&mut self, frame: &mut Frame, nodes: &[Node], dot: &Value, out: &mut String) -> Result<Flow> {
        for node in nodes {
            self.steps += 1;
            if self.steps > MAX_STEPS || out.len() > MAX_OUTPUT {
                return Err(fail(frame, 0, "", "the template runs beyond 50,000,000 steps or 64 MiB"));
            }
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(frame, pipe, dot)?;
                    if pipe.names.is_empty() {
                        match value {
                            Value::Missing | Value::Nil => out.push_str("<no value>"),
                            value => out.push_str(&value.print()),
                        }
                    }
                }
                Node::If { pipe, then, otherwise } => {
                    let known = frame.variables.len();
                    let value = self.pipe(frame, pipe, dot)?;
                    let chosen = if value.truth() { then } else { otherwise };
                    let flow = self.list(frame, chosen, dot, out)?;
                    frame.variables.truncate(known);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::With { pipe, then, otherwise } => {
                    let known = frame.variables.len();
                    let value = self.pipe(frame, pipe, dot)?;
                    let flow = if value.truth() {
                        self.list(frame, then, &value, out)?
                    } else {
                        self.list(frame, otherwise, dot, out)?
                    };
                    frame.variables.truncate(known);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::Range { pipe, each, otherwise } => {
                    let flow = self.range(frame, pipe, (each, otherwise), dot, out)?;
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::Template { name, pipe, at } => {
                    let Some(body) = self.bodies.get(name).cloned() else {
                        let data = pipe.as_ref().map(|pipe| format!(" {}", pipe.shown)).unwrap_or_default();
                        let shown = format!("{{{{template {name:?}{data}}}}}");
                        return Err(fail(frame, *at, &shown, &format!("template {name:?} not defined")));
                    };
                    let data = match pipe {
                        Some(pipe) => self.pipe(frame, pipe, dot)?,
                        None => Value::Missing,
                    };
                    self.body(body, name, &data, out)?;
                }
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::Next)
    }

    fn range(
        &mut self,
        frame: &mut Frame,
        pipe: &Pipe,
        (each, otherwise): (&[Node], &[Node]),
        dot: &Value,
        out: &mut String,
    ) -> Result<Flow> {
        let known = frame.variables.len();
        let value = self.commands(frame, pipe, dot)?;
        // The variables of the pipe live in each turn.
        if !pipe.sets {
            frame.variables.extend(pipe.names.iter().map(|name| (name.clone(), value.clone())));
        }
        let inner = frame.variables.len();
        let pairs: Vec<(Value, Value)> = match &value {
            value if value.items().is_some() => {
                let items = value.items().map(|items| items.to_vec()).unwrap_or_default();
                items.into_iter().zip(0_i64..).map(|(item, at)| (Value::Int(at), item)).collect()
            }
            value if value.fields().is_some() => {
                let fields = value.fields().map(|fields| fields.borrow().clone()).unwrap_or_default();
                fields.into_iter().map(|(name, value)| (Value::text(name), value)).collect()
            }
            Value::Int(count) | Value::Long(count) => {
                if *count > 10_000_000 {
                    return Err(fail(
                        frame,
                        pipe.at,
                        &pipe.shown,
                        "a range over more than 10,000,000 numbers",
                    ));
                }
                (0..*count).map(|at| (Value::Int(at), Value::Int(at))).collect()
            }
            Value::Missing | Value::Nil => Vec::new(),
            Value::Object(object) if object.entries().is_some() => object.entries().unwrap_or_default(),
            other => {
                let why = format!("range can't iterate over {}", other.print());
                let last = pipe.commands.last().map(|command| &command.words[0]);
                let (at, shown) = last.map_or((pipe.at, &pipe.shown), |word| (word.at, &word.shown));
                return Err(fail(frame, at, shown, &why));
            }
        };
        let mut flow = Flow::Next;
        if pairs.is_empty() {
            flow = self.list(frame, otherwise, dot, out)?;
        } else {
            for (key, item) in pairs {
                let set = match pipe.names.as_slice() {
                    [one] => vec![(one, item.clone())],
                    [one, other] => vec![(one, key), (other, item.clone())],
                    _ => Vec::new(),
                };
                for (name, value) in set {
                    if let Some(slot) = frame.variables.iter_mut().rev().find(|(known, _)| known == name) {
                        slot.1 = value;
                    }
                }
                let turn = self.list(frame, each, &item, out)?;
                frame.variables.truncate(inner);
                if matches!(turn, Flow::Break) {
                    break;
                }
            }
        }
        frame.variables.truncate(known);
        Ok(flow)
    }

    /// The value of a pipeline; nil is no value, and variables are set.
    fn pipe(&mut self, frame: &mut Frame, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let value = self.commands(frame, pipe, dot)?;
        for name in &pipe.names {
            if pipe.sets {
                if let Some(slot) = frame.variables.iter_mut().rev().find(|(known, _)| known == name) {
                    slot.1 = value.clone();
                }
            } else {
                frame.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, frame: &mut Frame, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipe.commands {
            let value = self.command(frame, command, dot, last.take())?;
            last = Some(if value.is_nil() { Value::Missing } else { value });
        }
        Ok(last.unwrap_or(Value::Missing))
    }

    fn command(
        &mut self,
        frame: &mut Frame,
        command: &Command,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value> {
        let first = &command.words[0];
        let given = &command.words[1..];
        let has_arguments = !given.is_empty() || last.is_some();
        match &first.kind {
            Kind::Function(name) => return self.call(frame, name, command, dot, last),
            Kind::Field(path) => {
                return self.fields(frame, dot.clone(), path, (first, given), dot, last);
            }
            Kind::Variable(name, path) => {
                let value = variable(frame, name);
                if path.is_empty() {
                    return no_arguments(frame, first, has_arguments, value);
                }
                return self.fields(frame, value, path, (first, given), dot, last);
            }
            Kind::Chain(inner, path) => {
                let value = self.word(frame, inner, dot)?;
                return self.fields(frame, value, path, (first, given), dot, last);
            }
            _ => {}
        }
        if matches!(first.kind, Kind::Nil) && !has_arguments {
            return Err(fail(frame, first.at, &first.shown, "nil is not a command"));
        }
        let value = self.word(frame, first, dot)?;
        if matches!(first.kind, Kind::Pipe(_)) {
            return no_arguments(frame, first, has_arguments, value);
        }
        no_arguments(frame, first, has_arguments, value)
    }

    /// The value of one operand.
    fn word(&mut self, frame: &mut Frame, word: &Word, dot: &Value) -> Result<Value> {
        Ok(match &word.kind {
            Kind::Dot => dot.clone(),
            Kind::Nil => Value::Nil,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => Value::Int(*value),
            Kind::Float(value) => Value::Float(*value),
            Kind::Text(text) => Value::Text(text.clone()),
            Kind::Field(path) => self.fields(frame, dot.clone(), path, (word, &[]), dot, None)?,
            Kind::Variable(name, path) => {
                let value = variable(frame, name);
                self.fields(frame, value, path, (word, &[]), dot, None)?
            }
            Kind::Chain(inner, path) => {
                let value = self.word(frame, inner, dot)?;
                self.fields(frame, value, path, (word, &[]), dot, None)?
            }
            Kind::Pipe(pipe) => self.pipe(frame, pipe, dot)?,
            Kind::Function(name) => {
                let command = Command { words: Vec::new(), at: word.at, shown: word.shown.clone() };
                self.call(frame, name, &command, dot, None)?
            }
        })
    }

    fn fields(
        &mut self,
        frame: &mut Frame,
        mut value: Value,
        path: &[Rc<str>],
        (word, given): (&Word, &[Word]),
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value> {
        let Some((name, before)) = path.split_last() else { return Ok(value) };
        for name in before {
            value = field(frame, word, &value, name, None)?;
        }
        let mut arguments = Vec::new();
        for word in given {
            arguments.push(self.word(frame, word, dot)?);
        }
        arguments.extend(last);
        field(frame, word, &value, name, (!arguments.is_empty()).then_some(&arguments))
    }

    fn call(
        &mut self,
        frame: &mut Frame,
        name: &str,
        command: &Command,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value> {
        let words = command.words.get(1..).unwrap_or_default();
        let shown = command.words.first().map_or(&command.shown, |word| &word.shown);
        // These two stop at the first argument that decides.
        if matches!(name, "and" | "or") {
            let mut value = Value::Missing;
            for word in words {
                value = self.word(frame, word, dot)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
            }
            if words.is_empty() && last.is_none() {
                let why = format!("wrong number of args for {name}: want at least 1 got 0");
                return Err(fail(frame, command.at, shown, &why));
            }
            return Ok(last.unwrap_or(value));
        }
        let parameters = functions::parameters(name);
        let count = words.len() + usize::from(last.is_some());
        if let Some(why) = parameters.wrong_count(name, count) {
            return Err(fail(frame, command.at, shown, &why));
        }
        let mut arguments = Vec::with_capacity(count);
        for (number, word) in words.iter().enumerate() {
            let wanted = parameters.at(number);
            let value = match (&word.kind, wanted) {
                (Kind::Float(value), Parameter::Int) if value.fract() == 0.0 =>
                {
                    #[expect(clippy::cast_possible_truncation, reason = "whole")]
                    Value::Int(*value as i64)
                }
                #[expect(clippy::cast_precision_loss, reason = "a constant that is used as a float")]
                (Kind::Int(value), Parameter::Float) => Value::Float(*value as f64),
                (Kind::Nil, Parameter::Text | Parameter::Int | Parameter::Bool | Parameter::Float) => {
                    let why = format!("cannot assign nil to {}", wanted.name());
                    return Err(fail(frame, word.at, &word.shown, &why));
                }
                (Kind::Int(_) | Kind::Float(_) | Kind::Bool(_) | Kind::Text(_), wanted) => {
                    let value = self.word(frame, word, dot)?;
                    if !wanted.takes(&value) {
                        let expected = match wanted {
                            Parameter::Text => "expected string; found ",
                            Parameter::Int => "expected integer; found ",
                            Parameter::Float => "expected float; found ",
                            Parameter::Bool => "expected bool; found ",
                            _ => "can't handle assignment of ",
                        };
                        return Err(fail(frame, word.at, &word.shown, &format!("{expected}{}", word.shown)));
                    }
                    value
                }
                _ => self.word(frame, word, dot)?,
            };
            check(frame, (word.at, &word.shown), wanted, &value)?;
            arguments.push(value);
        }
        if let Some(last) = last {
            check(frame, (command.at, shown), parameters.at(words.len()), &last)?;
            arguments.push(last);
        }
        let done = match self.host.call(self, name, &arguments) {
            Some(done) => done,
            None => functions::call(name, &arguments).map_err(CallError::Words),
        };
        done.map_err(|error| match error {
            CallError::Words(why) => {
                fail(frame, command.at, &command.shown, &format!("error calling {name}: {why}"))
            }
            CallError::Said(said) => {
                let mut failure =
                    fail(frame, command.at, &command.shown, &format!("error calling {name}: {said}"));
                failure.said = Some(said);
                failure
            }
            CallError::Inner(inner) => {
                let mut failure =
                    fail(frame, command.at, shown, &format!("error calling {name}: {}", inner.text));
                failure.said = inner.said;
                failure
            }
        })
    }
}

fn variable(frame: &Frame, name: &str) -> Value {
    let found = frame.variables.iter().rev().find(|(known, _)| **known == *name);
    found.map_or(Value::Missing, |(_, value)| value.clone())
}

fn no_arguments(frame: &Frame, word: &Word, has_arguments: bool, value: Value) -> Result<Value> {
    if has_arguments {
        let why = format!("can't give argument to non-function {}", word.shown);
        return Err(fail(frame, word.at, &word.shown, &why));
    }
    Ok(value)
}

fn field(
    frame: &Frame,
    word: &Word,
    value: &Value,
    name: &str,
    arguments: Option<&Vec<Value>>,
) -> Result<Value> {
    let bad = |why: String| Err(fail(frame, word.at, &word.shown, &why));
    match value {
        Value::Missing => Ok(Value::Missing),
        Value::Nil => bad(format!("nil pointer evaluating interface {{}}.{name}")),
        Value::Map(fields) | Value::TextMap(fields) => {
            if arguments.is_some() {
                return bad(format!("{name} is not a method but has arguments"));
            }
            let missing = if matches!(value, Value::Map(_)) { Value::Nil } else { Value::text("") };
            Ok(fields.borrow().get(name).cloned().unwrap_or(missing))
        }
        Value::Object(object) => match object.get(name, arguments.map_or(&[], Vec::as_slice)) {
            Some(Ok(found)) => Ok(found),
            Some(Err(why)) => bad(format!("error calling {name}: {why}")),
            None => bad(format!("can't evaluate field {name} in type {}", object.type_name())),
        },
        other => bad(format!("can't evaluate field {name} in type {}", interface(other))),
    }
}

/// Values of YAML are held as `interface {}`, which is what Go names.
fn interface(value: &Value) -> &'static str {
    match value {
        Value::Texts(_) | Value::Ints(_) | Value::Long(_) => value.type_name(),
        _ => "interface {}",
    }
}

fn check(frame: &Frame, (at, shown): (usize, &str), wanted: Parameter, value: &Value) -> Result<()> {
    if wanted.takes(value) {
        return Ok(());
    }
    let why = match value {
        Value::Missing => format!("invalid value; expected {}", wanted.name()),
        Value::Nil => format!("wrong type for value; expected {}; got interface {{}}", wanted.name()),
        value => format!("wrong type for value; expected {}; got {}", wanted.name(), value.type_name()),
    };
    Err(fail(frame, at, shown, &why))
}

fn fail(frame: &Frame, at: usize, shown: &str, why: &str) -> Failure {
    let text = &frame.body.text;
    let before = text.get(..at).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = before.rfind('\n').map_or(at, |newline| at - newline - 1);
    let context = if shown.is_empty() { String::new() } else { format!(" at <{shown}>") };
    let text =
        format!("template: {}:{line}:{column}: executing {:?}{context}: {why}", frame.body.file, frame.name);
    Failure { file: frame.body.file.to_string(), line, text, said: None }
}
