//! Go's `text/template` with the functions of Sprig and Helm.
//!
//! Written by us: a chart's result depends on every corner of Go (what nil prints, which number is which type, where
//! a blank is trimmed, the words of an error), and no crate holds them. Text -> `parse` -> `exec` over `value`s, with
//! `functions`. Time and output are bounded.

mod exec;
mod functions;
mod parse;
pub mod value;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

use self::exec::{CallError, Host, Run};
use self::parse::Body;
use self::value::Value;

pub use self::exec::Failure;
pub use self::functions::{is_range, satisfies, time, to_yaml};

/// Reads live objects for `lookup`: apiVersion, kind, namespace, name (empty: all of them, as a list). `None` where
/// there is nothing.
pub type Lookup = Arc<dyn Fn(&str, &str, &str, &str) -> Result<Option<Json>, String> + Send + Sync>;

/// What a chart's templates may ask for beyond their arguments.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// What `now` says, in seconds since 1970: a fixed time, so that a render can be repeated.
    pub now: i64,
    /// What random values, keys and certificates are made from: the same seed gives the same ones.
    pub seed: [u8; 32],
    /// Live objects; none are found without it, as in `helm template`.
    pub lookup: Option<Lookup>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output<'a> {
    /// Each file with its text.
    pub files: Vec<(&'a str, String)>,
    /// Whether anything depends on the seed or the time.
    pub volatile: bool,
}

impl Host for Surroundings {
    fn call(&self, run: &mut Run<'_>, name: &str, arguments: &[Value]) -> Option<Result<Value, CallError>> {
        let text = |at: usize| match arguments.get(at) {
            Some(Value::Text(text)) => text.clone(),
            _ => "".into(),
        };
        let inner = |failure: Failure| CallError::Inner(Box::new(failure));
        Some(match name {
            "include" => run.execute(&text(0), &arguments[1]).map(Value::text).map_err(inner),
            "tpl" => {
                let (file, source) = ("gotpl".to_owned(), text(0));
                parse_failure(parse::parse(&file, &source, &functions::exists), &file, &source)
                    .map_err(|failure| {
                        CallError::Words(format!("cannot parse template {:?}: {}", &*source, failure.text))
                    })
                    .and_then(|(body, defined)| {
                        let mut bodies = (**run.bodies()).clone();
                        bodies.extend(defined.into_iter().map(|(name, body)| (name, Rc::new(body))));
                        bodies.insert(file.clone(), Rc::new(body));
                        let done = run.with(Rc::new(bodies), &file, &arguments[1]);
                        done.map(|text| Value::text(text.replace("<no value>", ""))).map_err(inner)
                    })
            }
            "required" => match &arguments[1] {
                Value::Missing | Value::Nil => Err(CallError::Said(text(0).to_string())),
                Value::Text(given) if given.is_empty() => Err(CallError::Said(text(0).to_string())),
                given => Ok(given.clone()),
            },
            "fail" => Err(CallError::Said(text(0).to_string())),
            "lookup" => Ok(Value::map(std::collections::BTreeMap::new())),
            "now" => Ok(time(self.now)),
            _ => return None,
        })
    }
}

/// Templates that know each other.
#[derive(Default)]
pub struct Set {
    bodies: HashMap<String, Rc<Body>>,
}

impl Set {
    /// Adds a file under its name, and what it defines; a later definition takes the place of an earlier one.
    ///
    /// # Errors
    /// Where the text is no template, with its line.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), Failure> {
        let (body, defined) = parse_failure(parse::parse(file, text, &functions::exists), file, text)?;
        self.bodies.extend(defined.into_iter().map(|(name, body)| (name, Rc::new(body))));
        self.bodies.insert(file.to_owned(), Rc::new(body));
        Ok(())
    }

    /// Runs files in order, each with its data.
    ///
    /// # Errors
    /// With the file, the line, and every template on the way.
    pub fn run<'a>(
        self,
        files: impl IntoIterator<Item = (&'a str, Value)>,
        surroundings: &Surroundings,
    ) -> Result<Output<'a>, Failure> {
        let mut run = Run::new(Rc::new(self.bodies), surroundings);
        let files = files
            .into_iter()
            .map(|(file, data)| run.execute(file, &data).map(|text| (file, text.replace("<no value>", ""))))
            .collect::<Result<_, _>>()?;
        Ok(Output { files, volatile: false })
    }
}

fn parse_failure<T>(parsed: Result<T, parse::Failure>, file: &str, _text: &str) -> Result<T, Failure> {
    parsed.map_err(|failure| Failure {
        file: file.to_owned(),
        line: failure.line,
        text: format!("template: {file}:{}: {}", failure.line, failure.why),
        said: None,
    })
}
