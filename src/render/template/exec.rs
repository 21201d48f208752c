//! Runs templates.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use super::functions::{Does, Function, Parameter};
use super::host::{CallError, Host};
use super::trace::Tracer;
use super::tree::{Body, Call, Command, Kind, Name, Node, Number, Pipe, Word};
use super::value::{NOT_TEXT, Value};

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
    /// Whether the text is no template, rather than one that failed.
    pub(super) unread: bool,
}

impl Failure {
    /// As `helm template` words it.
    pub fn words(&self) -> String {
        let mut tokens = self.text.splitn(3, ": ");
        let place = tokens.nth(1).unwrap_or_default();
        match &self.said {
            Some(said) => format!("execution error at ({place}): {said}"),
            None if self.unread => {
                format!("parse error at ({place}): {}", self.text.rsplit(": ").next().unwrap_or_default())
            }
            None => self.text.clone(),
        }
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Most bytes that one template gives.
const MAX_OUTPUT: usize = 64 << 20;
/// Most nodes that are run for one chart.
const MAX_STEPS: u64 = 10_000_000;
/// Most bytes that functions make for one chart.
const MAX_MADE: u64 = 2 << 30;
/// Deepest chain of templates. Helm ends at 1,000 of one name; a chart that is meant to end uses some ten.
const MAX_CALLS: usize = 200;
/// Deepest chain of blocks and parentheses over all templates of a chain. The parser allows 200 in one template.
const MAX_DEPTH: usize = 2_000;

/// Stack that one more template must find, with what it nests, and what is taken where it does not.
const STACK_LEFT: usize = 1 << 20;
const STACK_MORE: usize = 4 << 20;

enum Flow {
    Next,
    Break,
    Continue,
}

/// Templates by name.
pub(super) type Bodies = HashMap<Name, Arc<Body>>;

/// Templates while they run.
pub(super) struct Run<'a> {
    pub(super) bodies: Arc<Bodies>,
    pub(super) host: &'a mut Host,
    pub(super) tracer: Option<Tracer>,
    steps: u64,
    made: u64,
    calls: usize,
    depth: usize,
}

/// A value as an operand: one that comes out of a map or list is an `interface {}` to Go, and named so in errors.
#[derive(Clone)]
struct Held {
    value: Value,
    boxed: bool,
}

impl Held {
    fn bare(value: Value) -> Self {
        Self { value, boxed: false }
    }
}

/// Where a template is, for errors.
#[derive(Clone, Copy)]
enum Here<'b> {
    Start,
    Pipe(&'b Pipe),
    Command(&'b Command),
    Word(&'b Word),
    Call(&'b Call),
}

impl Here<'_> {
    fn at(self) -> usize {
        match self {
            Self::Start => 0,
            Self::Pipe(pipe) => pipe.at,
            Self::Command(command) => command.at,
            Self::Word(word) => word.at,
            Self::Call(call) => call.at,
        }
    }
}

impl Display for Here<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => Ok(()),
            Self::Pipe(pipe) => write!(f, "{pipe}"),
            Self::Command(command) => write!(f, "{command}"),
            Self::Word(word) => write!(f, "{word}"),
            Self::Call(call) => write!(f, "{call}"),
        }
    }
}

/// One template that is being run.
struct Frame<'b> {
    body: &'b Body,
    name: &'b str,
    variables: Vec<(Name, Held)>,
    here: Here<'b>,
}

impl<'b> Frame<'b> {
    fn new(body: &'b Body, name: &'b str, data: Held) -> Self {
        thread_local! {
            static DOLLAR: Name = "$".into();
        }
        Self { body, name, variables: vec![(DOLLAR.with(Arc::clone), data)], here: Here::Start }
    }

    fn variable(&self, name: &str) -> Held {
        let found = self.variables.iter().rev().find(|(known, _)| **known == *name);
        found.map_or(Held::bare(Value::Missing), |(_, held)| held.clone())
    }

    /// Whether there is such a variable to be set.
    fn set(&mut self, name: &str, held: Held) -> bool {
        let slot = self.variables.iter_mut().rev().find(|(known, _)| **known == *name);
        slot.map(|slot| slot.1 = held).is_some()
    }

    fn fail(&self, why: impl Display) -> Failure {
        let before = self.body.text.get(..self.here.at()).unwrap_or_default();
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.rfind('\n').map_or(before.len(), |newline| before.len() - newline - 1);
        let file = &self.body.file;
        let name = super::functions::quoted(self.name);
        let text = format!("template: {file}:{line}:{column}: executing {name} at <{}>: {why}", self.here);
        Failure { file: file.to_string(), line, text, said: None, unread: false }
    }
}

/// The value of the pipeline before, as the last argument.
type Last = Option<Value>;

impl<'a> Run<'a> {
    pub(super) fn new(bodies: Arc<Bodies>, host: &'a mut Host) -> Self {
        Self { bodies, host, tracer: None, steps: 0, made: 0, calls: 0, depth: 0 }
    }

    /// Runs a template by name.
    ///
    /// # Errors
    /// With every place on the way.
    pub(super) fn execute(&mut self, name: &str, data: &Value) -> Result<String> {
        let Some(body) = self.bodies.get(name).cloned() else {
            let name = super::functions::quoted(name);
            let text = format!("template: no template {name} associated with template \"gotpl\"");
            return Err(Failure { file: String::new(), line: 0, text, said: None, unread: false });
        };
        self.body(&body, name, data)
    }

    /// Runs a body.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(super) fn body(&mut self, body: &Body, name: &str, data: &Value) -> Result<String> {
        let mut out = String::new();
        let data = if data.is_nil() { Value::Missing } else { data.clone() };
        self.nested(body, name, &Held::bare(data), &mut out)?;
        Ok(out)
    }

    fn nested(&mut self, body: &Body, name: &str, data: &Held, out: &mut String) -> Result<()> {
        let mut frame = Frame::new(body, name, data.clone());
        self.calls += 1;
        let done =
            stacker::maybe_grow(STACK_LEFT, STACK_MORE, || self.list(&mut frame, &body.nodes, data, out));
        self.calls -= 1;
        done.map(drop)
    }

    /// Whether no further template may be called.
    pub(super) fn is_deepest(&self) -> bool {
        self.calls >= MAX_CALLS
    }

    /// Counts bytes that a function made.
    fn count(&mut self, value: &Value) -> std::result::Result<(), CallError> {
        let size = match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) | Value::Lists(items) | Value::Texts(items) | Value::Ints(items) => {
                items.len() * size_of::<Value>()
            }
            _ => 64,
        };
        self.made += u64::try_from(size).unwrap_or(u64::MAX);
        if self.made > MAX_MADE {
            return Err(CallError::Words("the templates make more than 2 GiB of values".to_owned()));
        }
        Ok(())
    }

    fn deeper(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(frame.fail(format!("templates are nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn list<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        nodes: &'b [Node],
        dot: &Held,
        out: &mut String,
    ) -> Result<Flow> {
        self.deeper(frame)?;
        for node in nodes {
            self.steps += 1;
            if self.steps > MAX_STEPS || out.len() > MAX_OUTPUT {
                return Err(frame.fail("the templates run beyond 10,000,000 steps or 64 MiB"));
            }
            let flow = self.node(frame, node, dot, out)?;
            if !matches!(flow, Flow::Next) {
                self.depth -= 1;
                return Ok(flow);
            }
        }
        self.depth -= 1;
        Ok(Flow::Next)
    }

    fn node<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        node: &'b Node,
        dot: &Held,
        out: &mut String,
    ) -> Result<Flow> {
        match node {
            Node::Text(text, at) => {
                if let Some(tracer) = &mut self.tracer {
                    tracer.text(frame.body, *at, out.len(), text);
                }
                out.push_str(text);
            }
            Node::Action(pipe) => {
                let begun = self.tracer.as_mut().map(Tracer::begin);
                let value = self.pipe(frame, pipe, dot)?;
                if pipe.names.is_empty() {
                    let from = out.len();
                    print(frame, &value, out)?;
                    if let (Some(tracer), Some(begun)) = (&mut self.tracer, begun) {
                        tracer.printed(begun, (frame.body, pipe.at), from, &out[from..]);
                    }
                }
            }
            Node::If { pipe, then, otherwise } => {
                let known = frame.variables.len();
                let value = self.pipe(frame, pipe, dot)?;
                let chosen = if value.truth() { then } else { otherwise };
                let flow = self.list(frame, chosen, dot, out)?;
                frame.variables.truncate(known);
                return Ok(flow);
            }
            Node::With { pipe, then, otherwise } => {
                let known = frame.variables.len();
                let value = self.pipe(frame, pipe, dot)?;
                let flow = if value.truth() {
                    self.list(frame, then, &Held::bare(value), out)?
                } else {
                    self.list(frame, otherwise, dot, out)?
                };
                frame.variables.truncate(known);
                return Ok(flow);
            }
            Node::Range { pipe, each, otherwise } => {
                return self.range(frame, pipe, (each, otherwise), dot, out);
            }
            Node::Template(call) => {
                frame.here = Here::Call(call);
                let Some(body) = self.bodies.get(&call.name).cloned() else {
                    let name = super::functions::quoted(&call.name);
                    return Err(frame.fail(format!("template {name} not defined")));
                };
                if self.is_deepest() {
                    return Err(frame.fail(format!("exceeded maximum template depth ({MAX_CALLS})")));
                }
                let data = match &call.pipe {
                    Some(pipe) => self.pipe(frame, pipe, dot)?,
                    None => Value::Missing,
                };
                self.nested(&body, &call.name, &Held::bare(data), out)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        pipe: &'b Pipe,
        (each, otherwise): (&'b [Node], &'b [Node]),
        dot: &Held,
        out: &mut String,
    ) -> Result<Flow> {
        let known = frame.variables.len();
        let value = self.pipe(frame, pipe, dot)?;
        let inner = frame.variables.len();
        let names = &pipe.names;
        let mut ran = false;
        // One turn; false ends the range.
        let mut turn =
            |run: &mut Self, frame: &mut Frame<'b>, key: Option<Value>, item: Held| -> Result<Flow> {
                ran = true;
                let set = |frame: &mut Frame<'b>, place: usize, held: Held| match place {
                    place if pipe.sets => drop(frame.set(&names[place], held)),
                    place => {
                        if let Some(slot) = frame.variables.get_mut(inner - names.len() + place) {
                            slot.1 = held;
                        }
                    }
                };
                match (names.len(), key) {
                    (0, _) => {}
                    (1, _) => set(frame, 0, item.clone()),
                    (_, key) => {
                        set(frame, 0, Held::bare(key.unwrap_or(Value::Missing)));
                        set(frame, 1, item.clone());
                    }
                }
                run.steps += 1;
                let flow = run.list(frame, each, &item, out)?;
                frame.variables.truncate(inner);
                Ok(flow)
            };
        match &value {
            value if value.items().is_some() => {
                // Items of a `[]string` or `[]int` are no interfaces.
                let boxed = matches!(value, Value::List(_));
                for (number, item) in (0_i64..).zip(value.items().unwrap_or_default()) {
                    let held = Held { value: item.clone(), boxed };
                    if matches!(turn(self, frame, Some(Value::Int(number)), held)?, Flow::Break) {
                        break;
                    }
                }
            }
            value if value.fields().is_some() => {
                let boxed = !matches!(value, Value::TextMap(_));
                // As it was at the begin: a turn may change the map.
                let entries: Vec<(String, Value)> = value.fields().map_or_else(Vec::new, |fields| {
                    fields.borrow().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
                });
                for (name, item) in entries {
                    let key = Some(Value::Text(name.into()));
                    if matches!(turn(self, frame, key, Held { value: item, boxed })?, Flow::Break) {
                        break;
                    }
                }
            }
            Value::Int(count) | Value::Long(count) => {
                if names.len() > 1 {
                    return Err(
                        frame.fail(format!("can't use {count} to iterate over more than one variable"))
                    );
                }
                let long = matches!(value, Value::Long(_));
                for number in 0..*count {
                    let item = if long { Value::Long(number) } else { Value::Int(number) };
                    if matches!(turn(self, frame, None, Held::bare(item))?, Flow::Break) {
                        break;
                    }
                    self.steps += 1;
                    if self.steps > MAX_STEPS {
                        return Err(frame.fail("the templates run beyond 10,000,000 steps or 64 MiB"));
                    }
                }
            }
            Value::Missing | Value::Nil => {}
            Value::Object(object) => {
                let Some(entries) = object.entries() else {
                    return Err(frame.fail(format!("range can't iterate over {}", value.print())));
                };
                for (key, item) in entries {
                    if matches!(turn(self, frame, Some(key), Held::bare(item))?, Flow::Break) {
                        break;
                    }
                }
            }
            other => return Err(frame.fail(format!("range can't iterate over {}", other.print()))),
        }
        let mut flow = Flow::Next;
        if !ran {
            flow = self.list(frame, otherwise, dot, out)?;
        }
        frame.variables.truncate(known);
        Ok(flow)
    }

    /// The value of a pipeline; nil is no value, and variables are set.
    fn pipe<'b>(&mut self, frame: &mut Frame<'b>, pipe: &'b Pipe, dot: &Held) -> Result<Value> {
        self.deeper(frame)?;
        frame.here = Here::Pipe(pipe);
        let mut last = None;
        for command in &pipe.commands {
            let value = self.command(frame, command, dot, last.take())?;
            last = Some(if matches!(value, Value::Nil) { Value::Missing } else { value });
        }
        let value = last.unwrap_or(Value::Missing);
        for name in &pipe.names {
            if pipe.sets {
                if !frame.set(name, Held::bare(value.clone())) {
                    return Err(frame.fail(format!("undefined variable: {name}")));
                }
            } else {
                frame.variables.push((name.clone(), Held::bare(value.clone())));
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn command<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        command: &'b Command,
        dot: &Held,
        last: Last,
    ) -> Result<Value> {
        let Some((first, given)) = command.words.split_first() else { return Ok(Value::Missing) };
        let node = Here::Command(command);
        match &first.kind {
            Kind::Function(function) => {
                frame.here = Here::Word(first);
                return self.call(frame, function, (node, given), dot, last);
            }
            Kind::Pipe(pipe) => {
                no_arguments(frame, first, given, last.as_ref())?;
                return self.pipe(frame, pipe, dot);
            }
            Kind::Field(_) | Kind::Variable(..) | Kind::Chain(..) => {
                return self.path(frame, first, given, dot, last).map(|held| held.value);
            }
            _ => {}
        }
        frame.here = Here::Word(first);
        no_arguments(frame, first, given, last.as_ref())?;
        match &first.kind {
            Kind::Nil => Err(frame.fail("nil is not a command")),
            _ => self.word(frame, first, dot).map(|held| held.value),
        }
    }

    /// The value of a field, variable or chain, with arguments for a method at its end.
    fn path<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        word: &'b Word,
        given: &'b [Word],
        dot: &Held,
        last: Last,
    ) -> Result<Held> {
        frame.here = Here::Word(word);
        match &word.kind {
            Kind::Field(names) => self.fields(frame, dot.clone(), names, (word, given), dot, last),
            Kind::Variable(name, names) => {
                let held = frame.variable(name);
                if names.is_empty() {
                    no_arguments(frame, word, given, last.as_ref())?;
                    return Ok(held);
                }
                self.fields(frame, held, names, (word, given), dot, last)
            }
            Kind::Chain(inner, names) => {
                if matches!(inner.kind, Kind::Nil) {
                    return Err(frame.fail(format!("indirection through explicit nil in {word}")));
                }
                let held = self.word(frame, inner, dot)?;
                self.fields(frame, held, names, (word, given), dot, last)
            }
            _ => self.word(frame, word, dot),
        }
    }

    /// The value of one operand.
    fn word<'b>(&mut self, frame: &mut Frame<'b>, word: &'b Word, dot: &Held) -> Result<Held> {
        frame.here = Here::Word(word);
        Ok(Held::bare(match &word.kind {
            Kind::Dot => return Ok(dot.clone()),
            Kind::Nil => Value::Missing,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => constant(frame, number)?,
            Kind::Text(text, _) => Value::Text(text.clone()),
            Kind::Field(_) | Kind::Variable(..) | Kind::Chain(..) => {
                return self.path(frame, word, &[], dot, None);
            }
            Kind::Pipe(pipe) => self.pipe(frame, pipe, dot)?,
            Kind::Function(function) => self.call(frame, function, (Here::Word(word), &[]), dot, None)?,
        }))
    }

    fn fields<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        mut held: Held,
        names: &'b [Name],
        (word, given): (&'b Word, &'b [Word]),
        dot: &Held,
        last: Last,
    ) -> Result<Held> {
        let Some((name, before)) = names.split_last() else { return Ok(held) };
        if let Some(tracer) = &mut self.tracer {
            tracer.read(&word.kind, names);
        }
        for name in before {
            held = field(frame, held, name, None)?;
        }
        if given.is_empty() && last.is_none() {
            return field(frame, held, name, None);
        }
        // Arguments are for methods; a map is asked nothing before it says that it has none.
        if !matches!(held.value, Value::Object(_) | Value::Values(_)) {
            return field(frame, held, name, Some(&[]));
        }
        let mut arguments = Vec::with_capacity(given.len() + 1);
        for word in given {
            arguments.push(self.word(frame, word, dot)?.value);
        }
        arguments.extend(last);
        // Errors of a method are those of its field.
        frame.here = Here::Word(word);
        field(frame, held, name, Some(&arguments))
    }

    fn call<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        function: &'static Function,
        (node, given): (Here<'b>, &'b [Word]),
        dot: &Held,
        last: Last,
    ) -> Result<Value> {
        let name = function.name;
        let count = given.len() + usize::from(last.is_some());
        if let Some(why) = function.wrong_count(count, given.len()) {
            return Err(frame.fail(why));
        }
        // These two stop at the first argument that decides.
        if matches!(function.does, Does::And | Does::Or) {
            let mut value = Value::Missing;
            for word in given {
                value = self.argument(frame, word, Parameter::Reflected, dot)?;
                if value.truth() == matches!(function.does, Does::Or) {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut arguments: Vec<Value> = Vec::with_capacity(count);
        for (number, word) in given.iter().enumerate() {
            let value = self.argument(frame, word, function.parameter(number), dot)?;
            arguments.push(value);
        }
        if let Some(last) = last {
            let wanted = function.parameter(given.len());
            arguments.push(fit(frame, wanted, Held::bare(last))?);
        }
        let done =
            function.refuse_bytes(&arguments).map_err(CallError::Words).and_then(|()| match &function.does {
                Does::Pure(call) => call(name, &arguments)
                    .unwrap_or_else(|| Err(format!("{name} is not built here")))
                    .map_err(CallError::Words),
                Does::Host(call) => call(self, name, &arguments),
                Does::And | Does::Or => Ok(Value::Missing),
            });
        let done = done.and_then(|value| {
            self.count(&value)?;
            Ok(value)
        });
        done.map_err(|error| {
            frame.here = node;
            match error {
                CallError::Words(why) => frame.fail(format!("error calling {name}: {why}")),
                CallError::Said(said) => {
                    let mut failure = frame.fail(format!("error calling {name}: {said}"));
                    failure.said = Some(said);
                    failure
                }
                CallError::Inner(before, inner) => {
                    let mut failure = frame.fail(format!("error calling {name}: {before}{}", inner.text));
                    failure.said = inner.said;
                    failure
                }
            }
        })
    }

    /// An argument for a parameter: constants become what it wants, values must be it.
    fn argument<'b>(
        &mut self,
        frame: &mut Frame<'b>,
        word: &'b Word,
        wanted: Parameter,
        dot: &Held,
    ) -> Result<Value> {
        frame.here = Here::Word(word);
        let other = |what: &str| Err(frame.fail(format!("expected {what}; found {word}")));
        match (&word.kind, wanted) {
            (Kind::Nil, Parameter::Any | Parameter::Reflected | Parameter::Map | Parameter::Items) => {
                Ok(Value::Missing)
            }
            (Kind::Nil, _) => Err(frame.fail(format!("cannot assign nil to {}", wanted.name()))),
            (Kind::Bool(_) | Kind::Text(..) | Kind::Number(_), Parameter::Any | Parameter::Reflected) => {
                self.word(frame, word, dot).map(|held| held.value)
            }
            (Kind::Bool(value), Parameter::Bool) => Ok(Value::Bool(*value)),
            (Kind::Text(text, _), Parameter::Text) => Ok(Value::Text(text.clone())),
            (Kind::Number(number), Parameter::Int) => match number.int {
                Some(int) => Ok(Value::Int(int)),
                None => other("integer"),
            },
            (Kind::Number(number), Parameter::Float) => match number.float {
                Some(float) => Ok(Value::Float(float)),
                None => other("float"),
            },
            (Kind::Number(number), Parameter::Count) => match number.int {
                Some(int) if number.unsigned => Ok(Value::Int(int)),
                _ => other("unsigned integer"),
            },
            (Kind::Bool(_) | Kind::Text(..), Parameter::Count) => other("unsigned integer"),
            (
                Kind::Bool(_) | Kind::Text(..) | Kind::Number(_),
                Parameter::Map | Parameter::Time | Parameter::Certificate | Parameter::Items,
            ) => Err(frame.fail(format!("can't handle {word} for arg of type {}", wanted.name()))),
            (Kind::Text(..) | Kind::Number(_), Parameter::Bool) => other("bool"),
            (Kind::Bool(_) | Kind::Number(_), Parameter::Text) => other("string"),
            (Kind::Bool(_) | Kind::Text(..), Parameter::Int) => other("integer"),
            (Kind::Bool(_) | Kind::Text(..), Parameter::Float) => other("float"),
            _ => {
                let held = self.word(frame, word, dot)?;
                fit(frame, wanted, held)
            }
        }
    }
}

fn field(frame: &Frame<'_>, held: Held, name: &str, arguments: Option<&[Value]>) -> Result<Held> {
    let type_name = if held.boxed { "interface {}" } else { held.value.type_name() };
    match &held.value {
        Value::Missing => Ok(held),
        Value::Nil => Err(frame.fail(format!("nil pointer evaluating {type_name}.{name}"))),
        Value::Values(fields) if name == "AsMap" => Ok(Held::bare(Value::Map(fields.clone()))),
        Value::Values(_) if ["Table", "PathValue", "YAML", "Encode"].contains(&name) => {
            Err(frame.fail(format!("the method {name} is not available here; no chart is known to use it")))
        }
        Value::Map(fields) | Value::TextMap(fields) | Value::Values(fields) => {
            if arguments.is_some() {
                return Err(frame.fail(format!("{name} is not a method but has arguments")));
            }
            let texts = matches!(&held.value, Value::TextMap(_));
            let found = fields.borrow().get(name).cloned();
            let value = found.unwrap_or_else(|| if texts { Value::text("") } else { Value::Nil });
            Ok(Held { value, boxed: !texts })
        }
        Value::Object(object) if arguments.is_some() && !object.has_method(name) => {
            Err(frame.fail(format!("{name} has arguments but cannot be invoked as function")))
        }
        Value::Object(object) => match object.get(name, arguments.unwrap_or_default()) {
            Some(Ok(Value::Nil)) => Ok(Held { value: Value::Nil, boxed: true }),
            Some(Ok(found)) => Ok(Held::bare(found)),
            Some(Err(why)) if why.starts_with("wrong number of args for ") => Err(frame.fail(why)),
            Some(Err(why)) => Err(frame.fail(format!("error calling {name}: {why}"))),
            None => {
                let type_name = if held.boxed { "interface {}" } else { object.type_name() };
                Err(frame.fail(format!("can't evaluate field {name} in type {type_name}")))
            }
        },
        _ => Err(frame.fail(format!("can't evaluate field {name} in type {type_name}"))),
    }
}

/// A value for a parameter, if it is one.
fn fit(frame: &Frame<'_>, wanted: Parameter, held: Held) -> Result<Value> {
    if wanted.takes(&held.value) {
        return Ok(held.value);
    }
    Err(match &held.value {
        Value::Missing => frame.fail(format!("invalid value; expected {}", wanted.name())),
        Value::Nil => {
            frame.fail(format!("wrong type for value; expected {}; got interface {{}}", wanted.name()))
        }
        value => {
            frame.fail(format!("wrong type for value; expected {}; got {}", wanted.name(), value.type_name()))
        }
    })
}

/// A number where nothing says which kind is wanted.
fn constant(frame: &Frame<'_>, number: &Number) -> Result<Value> {
    let written = &number.written;
    let hex = written.len() > 2
        && written.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("0x"))
        && !written.contains(['p', 'P']);
    if number.complex {
        return Err(frame.fail("complex numbers are not supported"));
    }
    if let Some(float) = number.float
        && !hex
        && !written.starts_with('\'')
        && written.contains(['.', 'e', 'E', 'p', 'P'])
    {
        return Ok(Value::Float(float));
    }
    match number.int {
        Some(int) => Ok(Value::Int(int)),
        None => Err(frame.fail(format!("{written} overflows int"))),
    }
}

fn no_arguments(frame: &Frame<'_>, word: &Word, given: &[Word], last: Option<&Value>) -> Result<()> {
    if given.is_empty() && last.is_none() {
        return Ok(());
    }
    Err(frame.fail(format!("can't give argument to non-function {word}")))
}

fn print(frame: &Frame<'_>, value: &Value, out: &mut String) -> Result<()> {
    match value {
        Value::Missing | Value::Nil => out.push_str("<no value>"),
        Value::Text(text) => out.push_str(text),
        Value::Bytes(_) => return Err(frame.fail(NOT_TEXT)),
        value => value.print_into(out).map_err(|why| frame.fail(why))?,
    }
    Ok(())
}
