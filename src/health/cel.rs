//! Conditions in CEL over an object.
//!
//! Compiled once. The object is there as `object`, and its parts as `metadata`, `spec` and `status`, as Flux has them. A
//! condition that asks for a field which is not there does not hold.

use cel::{Context, Program, Value as Word};
use serde_json::Value;

use super::{Health, Status};

/// Longest expression, in bytes.
const LONGEST: usize = 4 << 10;
/// Macros (all, exists, map, filter) walk a list for each item of the one around them.
const STEPS: f64 = 1e6;

/// Ordered conditions, and the text of a reason.
pub(super) struct Conditions {
    conditions: Vec<(Status, Expression)>,
    message: Option<Expression>,
}

struct Expression {
    program: Program,
    /// Macros in it, which may stand within each other.
    macros: i32,
    /// Items of the longest list that is written out, or more.
    literal: usize,
}

impl Expression {
    fn new(source: &str) -> Result<Self, String> {
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
        let macros = names.iter().map(|name| source.matches(name).count()).sum::<usize>();
        let program = Program::compile(source)
            .map_err(|error| format!("{source}: {}", one_line(&error.to_string())))?;
        Ok(Self {
            program,
            macros: i32::try_from(macros).unwrap_or(i32::MAX),
            literal: source.matches(',').count() + 1,
        })
    }

    fn run(&self, context: &Context<'_, '_>, longest: usize) -> Result<Word, String> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let steps = (longest.max(self.literal) as f64).powi(self.macros);
        if steps > STEPS {
            return Err(format!("{} macros over lists of {longest} are too costly", self.macros));
        }
        self.program.execute(context).map_err(|error| one_line(&error.to_string()))
    }
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(300).collect()
}

/// The longest list or map in an object.
fn longest(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest).max().unwrap_or_default().max(items.len()),
        Value::Object(fields) => fields.values().map(longest).max().unwrap_or_default().max(fields.len()),
        _ => 0,
    }
}

impl Conditions {
    /// Compiles conditions, which are asked in their order.
    pub(super) fn new(conditions: &[(Status, String)], message: Option<&str>) -> Result<Self, String> {
        if conditions.is_empty() {
            return Err("there is no condition".into());
        }
        let compiled = conditions
            .iter()
            .map(|(status, source)| Ok((*status, Expression::new(source)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { conditions: compiled, message: message.map(Expression::new).transpose()? })
    }

    /// The status of the first condition that holds; Progressing where none does.
    pub(super) fn judge(&self, object: &Value) -> Health {
        let mut context = Context::default();
        let empty = Value::Object(serde_json::Map::new());
        for (name, value) in [
            ("object", object),
            ("metadata", object.get("metadata").unwrap_or(&empty)),
            ("spec", object.get("spec").unwrap_or(&empty)),
            ("status", object.get("status").unwrap_or(&empty)),
        ] {
            if let Err(error) = context.add_variable(name, value) {
                return Health::new(Status::Unknown, format!("its rule of health failed: {error}"));
            }
        }
        let longest = longest(object);
        let mut failed = None;
        for (status, condition) in &self.conditions {
            match condition.run(&context, longest) {
                Ok(Word::Bool(true)) if *status == Status::Healthy => return Health::healthy(),
                Ok(Word::Bool(true)) => return Health::new(*status, self.reason(&context, longest, *status)),
                Ok(Word::Bool(false)) => {}
                Ok(_) => {
                    return Health::new(
                        Status::Unknown,
                        format!("its condition for {status} is neither true nor false"),
                    );
                }
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        let why = failed.map(|why| format!(": {why}")).unwrap_or_default();
        Health::new(Status::Progressing, format!("no condition of its rule holds{why}"))
    }

    fn reason(&self, context: &Context<'_, '_>, longest: usize, status: Status) -> String {
        match self.message.as_ref().map(|message| message.run(context, longest)) {
            Some(Ok(Word::String(text))) if !text.is_empty() => one_line(&text),
            _ => format!("its condition for {status} holds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conditions(all: &[(Status, &str)]) -> Conditions {
        let all: Vec<_> = all.iter().map(|(status, source)| (*status, (*source).to_owned())).collect();
        Conditions::new(&all, Some("'phase ' + object.status.phase")).unwrap()
    }

    #[test]
    fn the_first_condition_that_holds_decides() {
        let rules = conditions(&[
            (Status::Suspended, "object.spec.paused"),
            (Status::Degraded, "status.phase == 'Failed'"),
            (
                Status::Healthy,
                "has(status.conditions) && status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            ),
        ]);
        let judge = |object: Value| rules.judge(&object);
        assert_eq!(
            judge(json!({"spec": {"paused": true}, "status": {"phase": "A"}})),
            Health::new(Status::Suspended, "phase A")
        );
        assert_eq!(
            judge(json!({"status": {"phase": "Failed"}})),
            Health::new(Status::Degraded, "phase Failed")
        );
        let ready = json!({"status": {"phase": "Ok", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(judge(ready), Health::healthy());
        let nothing = judge(json!({"metadata": {"generation": 1}}));
        assert_eq!(nothing.status, Status::Progressing);
        assert!(nothing.reason.starts_with("no condition of its rule holds: "), "{}", nothing.reason);
    }

    #[test]
    fn texts_match() {
        let rules = conditions(&[(Status::Healthy, "status.phase.matches('^(Ready|Ok)$')")]);
        assert_eq!(rules.judge(&json!({"status": {"phase": "Ok"}})), Health::healthy());
        assert_eq!(rules.judge(&json!({"status": {"phase": "Okay"}})).status, Status::Progressing);
    }

    #[test]
    fn numbers_compare() {
        let rules = conditions(&[(
            Status::Healthy,
            "status.observedGeneration >= metadata.generation && status.ready > 1",
        )]);
        assert_eq!(
            rules.judge(
                &json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "ready": 2}})
            ),
            Health::healthy()
        );
    }

    #[test]
    fn what_is_no_condition_is_refused_or_unknown() {
        let new = |source: &str| Conditions::new(&[(Status::Healthy, source.to_owned())], None);
        assert!(new("status.phase ==").is_err());
        assert!(new(&format!("{}1{}", "(".repeat(100), ")".repeat(100))).is_err());
        assert!(new(&format!("'{}' == ''", "x".repeat(LONGEST))).is_err());
        assert!(Conditions::new(&[], None).is_err());
        assert_eq!(new("1 + 1").unwrap().judge(&json!({})).status, Status::Unknown);
        let list: Vec<u32> = (0..2000).collect();
        let nested = new("spec.a.all(x, spec.a.all(y, spec.a.all(z, x + y + z >= 0)))").unwrap();
        let judged = nested.judge(&json!({"spec": {"a": list}}));
        assert!(judged.reason.contains("too costly"), "{}", judged.reason);
    }
}
