//! Go's `text/template` with the functions of Sprig and Helm.
//!
//! Written by us: a chart's result depends on every corner of Go (what nil prints, which number is which type, where
//! a blank is trimmed, the words of an error), and no crate holds them. Text -> tokens (`lex`) -> `tree` (`parse`)
//! -> text (`exec`, over `value`s, with `functions` and what the `host` knows). Time, memory, depth and output are
//! bounded. docs/template.md says what differs from Helm.

mod exec;
mod functions;
mod host;
mod lex;
mod parse;
mod random;
mod trace;
mod tree;
pub mod value;

use std::sync::Arc;

use serde_json::Value as Json;

use self::exec::{Bodies, Run};
use self::host::Host;
use self::trace::Tracer;
use self::tree::{Body, Name};
use self::value::Value;

pub use self::exec::Failure;
pub use self::functions::{is_range, satisfies, time, to_yaml};
pub use self::trace::Mark;

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
    /// For each file, where its lines came from; empty unless [`Set::explain`] ran.
    pub origins: Vec<Vec<Mark>>,
}

/// A file that was parsed: it can be added to many sets, from many threads.
#[derive(Clone, Debug)]
pub struct Parsed {
    body: Arc<Body>,
    defined: Arc<[(Name, Arc<Body>)]>,
}

impl Parsed {
    fn add_to(&self, bodies: &mut Bodies) {
        let mut add = |name: &Name, body: &Arc<Body>| {
            // A blank one takes no other's place.
            if !body.is_blank() || !bodies.contains_key(name) {
                bodies.insert(name.clone(), body.clone());
            }
        };
        for (name, body) in self.defined.iter() {
            add(name, body);
        }
        add(&self.body.file, &self.body);
    }
}

/// Templates that know each other.
#[derive(Clone, Default)]
pub struct Set {
    bodies: Bodies,
}

impl Set {
    /// Adds a file under its name, and what it defines; a later definition takes the place of an earlier one.
    ///
    /// # Errors
    /// Where the text is no template, with its line.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), Failure> {
        self.add_parsed(&Parsed::new(file, text)?);
        Ok(())
    }

    /// Adds a file that was parsed before.
    pub fn add_parsed(&mut self, parsed: &Parsed) {
        parsed.add_to(&mut self.bodies);
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
        self.execute(files, surroundings, None)
    }

    /// Runs files as [`Set::run`] does and says where each line of their outputs came from.
    ///
    /// # Errors
    /// As there.
    pub fn explain<'a>(
        self,
        files: impl IntoIterator<Item = (&'a str, Value)>,
        surroundings: &Surroundings,
    ) -> Result<Output<'a>, Failure> {
        self.execute(files, surroundings, Some(Tracer::default()))
    }

    fn execute<'a>(
        self,
        files: impl IntoIterator<Item = (&'a str, Value)>,
        surroundings: &Surroundings,
        tracer: Option<Tracer>,
    ) -> Result<Output<'a>, Failure> {
        let mut host = Host::new(surroundings);
        let mut run = Run::new(Arc::new(self.bodies), &mut host);
        run.tracer = tracer;
        let mut output = Output::default();
        for (file, data) in files {
            let mut text = run.execute(file, &data)?;
            if let Some(tracer) = &mut run.tracer {
                let mut marks = tracer.output();
                shift(&mut marks, &text);
                output.origins.push(marks);
            }
            text = without_no_value(text);
            output.files.push((file, text));
        }
        output.volatile = host.volatile;
        Ok(output)
    }
}

/// What Go prints for no value, which Helm takes out of each output.
const NO_VALUE: &str = "<no value>";

fn without_no_value(text: String) -> String {
    if text.contains(NO_VALUE) { text.replace(NO_VALUE, "") } else { text }
}

/// Moves marks to where their text is without every `<no value>`.
fn shift(marks: &mut [Mark], text: &str) {
    let mut gone = text.match_indices(NO_VALUE).map(|(at, _)| at).peekable();
    let mut taken = 0;
    for mark in marks {
        while gone.next_if(|at| *at < mark.offset).is_some() {
            taken += NO_VALUE.len();
        }
        mark.offset = mark.offset.saturating_sub(taken);
    }
}
