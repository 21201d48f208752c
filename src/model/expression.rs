//! Expressions in CEL, bounded: what a rule of health and a gate of a rollout have in common.

use std::collections::BTreeSet;

use cel::{Context, Program, Value as Word};
use serde_json::Value;

/// Longest expression, in bytes.
pub const LONGEST: usize = 4 << 10;
/// Macros (all, exists, map, filter) walk a list for each item of the one around them.
const STEPS: f64 = 1e6;
/// Bytes of texts that additions may make.
const BYTES: f64 = 256e6;

/// A compiled expression.
pub struct Expression {
    program: Program,
    /// Macros in it, which may stand within each other.
    macros: i32,
    /// Items of the longest list that is written out, or more.
    literal: usize,
    /// Variables that its macros make.
    own: Vec<String>,
    /// Additions, which make longer texts and lists of two.
    additions: i32,
    /// Bytes of the longest text that is written out, or more.
    text: usize,
}

impl Expression {
    /// Compiles.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("an expression is longer than {LONGEST} bytes"));
        }
        // The parser calls itself for each bracket.
        let (mut depth, mut deepest) = (0usize, 0);
        for c in source.chars() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        if deepest > 32 {
            return Err("brackets are nested deeper than 32".into());
        }
        let names = [".all(", ".exists(", ".exists_one(", ".map(", ".filter("];
        let bodies = names.iter().flat_map(|name| source.match_indices(name).map(|(at, _)| at + name.len()));
        let own: Vec<String> =
            bodies.map(|at| source[at..].split(',').next().unwrap_or_default().trim().to_owned()).collect();
        let program = Program::compile(source)
            .map_err(|error| format!("{source}: {}", one_line(&error.to_string())))?;
        Ok(Self {
            program,
            macros: i32::try_from(own.len()).unwrap_or(i32::MAX),
            literal: source.matches(',').count() + 1,
            own,
            additions: i32::try_from(source.matches('+').count()).unwrap_or(i32::MAX),
            text: if source.contains(['\'', '"']) { source.len() } else { 0 },
        })
    }

    /// Evaluates; `longest` is the length of the longest list in the context.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub fn run(&self, context: &Context<'_, '_>, longest: usize) -> Result<Word, String> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let steps = (longest.max(self.literal) as f64).powi(self.macros);
        if steps > STEPS {
            return Err(format!("{} macros over lists of {longest} are too costly", self.macros));
        }
        self.program.execute(context).map_err(|error| one_line(&error.to_string()))
    }

    /// That it makes no more of a context than this machine has: for contexts that a stranger fills. `longest` is the length
    /// of the longest list in it, `text` that of the longest text.
    ///
    /// # Errors
    /// What would be too much, in words.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn fits(&self, longest: usize, text: usize) -> Result<(), String> {
        let growth = f64::from(self.additions + 1).powi(self.macros);
        let steps = (longest.max(self.literal) as f64 * growth).powi(self.macros);
        let bytes = text.max(self.text) as f64 * growth * f64::from(self.additions + 1) * steps;
        if steps > STEPS {
            let Self { additions, macros, .. } = self;
            return Err(format!(
                "{macros} macros and {additions} additions over lists of {longest} are too costly"
            ));
        }
        if self.additions > 0 && bytes > BYTES {
            let Self { additions, macros, .. } = self;
            return Err(format!(
                "{macros} macros and {additions} additions of texts of {text} are too costly"
            ));
        }
        Ok(())
    }

    /// The variables that it asks for: without those that its macros make.
    pub fn variables(&self) -> BTreeSet<String> {
        let mut found: BTreeSet<String> =
            self.program.references().variables().into_iter().map(str::to_owned).collect();
        for own in &self.own {
            found.remove(own);
        }
        found
    }

    /// Whether it calls this function.
    pub fn calls(&self, function: &str) -> bool {
        self.program.references().has_function(function)
    }
}

/// A text for a message: in one line, 300 characters at most.
pub fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(300).collect()
}

/// The longest list or map in an object.
pub fn longest(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest).max().unwrap_or_default().max(items.len()),
        Value::Object(fields) => fields.values().map(longest).max().unwrap_or_default().max(fields.len()),
        _ => 0,
    }
}

/// The longest text in an object.
pub fn longest_text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(longest_text).max().unwrap_or_default(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| longest_text(value).max(name.len())).max().unwrap_or_default()
        }
        _ => 0,
    }
}
