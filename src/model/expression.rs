//! Expressions in CEL, bounded: what a rule of health and a gate of a rollout have in common.

use std::collections::BTreeSet;

use cel::{Context, Program, Value as Word};
use serde_json::Value;

/// Longest expression, in bytes.
pub const LONGEST: usize = 4 << 10;
/// Macros (all, exists, map, filter) walk a list for each item of the one around them.
const STEPS: f64 = 1e6;

/// A compiled expression.
pub struct Expression {
    program: Program,
    /// Macros in it, which may stand within each other.
    macros: i32,
    /// Items of the longest list that is written out, or more.
    literal: usize,
    /// Variables that its macros make.
    own: Vec<String>,
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
