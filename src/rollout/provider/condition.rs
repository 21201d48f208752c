//! What passes: a condition in CEL over what was read.

use cel::{Context, Value as Word};
use serde_json::Value;

use super::Reading;
use crate::api::GateAnswer;
use crate::model::{Expression, longest, longest_text, one_line};

/// Words that are types or rooms of functions.
const WORDS: &[&str] =
    &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint", "math"];

/// What a condition is asked over.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A number, which is a double even where it is whole.
    Number(f64),
    /// Numbers.
    Numbers(Vec<f64>),
    /// JSON; its whole numbers are int.
    Json(Value),
}

impl Fact {
    fn word(&self) -> Word {
        match self {
            Self::Number(number) => Word::Float(*number),
            Self::Numbers(numbers) => {
                numbers.iter().map(|number| Word::Float(*number)).collect::<Vec<_>>().into()
            }
            Self::Json(value) => word(value),
        }
    }

    fn longest(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::Numbers(numbers) => numbers.len(),
            Self::Json(value) => longest(value),
        }
    }

    fn text(&self) -> usize {
        match self {
            Self::Number(_) | Self::Numbers(_) => 0,
            Self::Json(value) => longest_text(value),
        }
    }
}

fn word(value: &Value) -> Word {
    match value {
        Value::Null => Word::Null,
        Value::Bool(bool) => Word::Bool(*bool),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Word::Int(whole),
            None => Word::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields: std::collections::HashMap<String, Word> =
                fields.iter().map(|(name, value)| (name.clone(), word(value))).collect();
            fields.into()
        }
    }
}

/// A compiled condition.
pub struct Condition {
    source: String,
    expression: Expression,
    variables: std::collections::BTreeSet<String>,
}

impl Condition {
    /// Compiles a condition over these variables.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn new(source: &str, known: &[&str]) -> Result<Self, String> {
        let expression = Expression::new(source)?;
        let variables = expression.variables();
        let strange =
            variables.iter().find(|name| !known.contains(&name.as_str()) && !WORDS.contains(&name.as_str()));
        if let Some(strange) = strange {
            return Err(format!("{source}: there is no {strange} here, but {}", known.join(", ")));
        }
        Ok(Self { source: one_line(source), expression, variables })
    }

    /// The same over numbers, whose types are known before there are any: tried once.
    ///
    /// # Errors
    /// As before, and where it is neither true nor false, or mixes doubles and whole numbers.
    pub fn over(source: &str, known: &[(&'static str, Fact)]) -> Result<Self, String> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let condition = Self::new(source, &names)?;
        match condition.ask(known) {
            Ok(None) => Err(format!("{source} is neither true nor false")),
            Ok(Some(_)) => Ok(condition),
            // Other numbers and labels may be what it speaks of.
            Err(why) if why.starts_with("Index out of") || why.starts_with("No such key") => Ok(condition),
            Err(why) if why.starts_with("Unsupported binary") => {
                let hint = "numbers are doubles: where you calculate, write 2.0 for 2";
                Err(format!("{source}: {why}; {hint}"))
            }
            Err(why) => Err(format!("{source}: {why}")),
        }
    }

    /// Its text, in one line.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it asks for this variable.
    pub fn uses(&self, name: &str) -> bool {
        self.variables.contains(name)
    }

    /// Whether it says itself what NaN means.
    pub fn knows_nan(&self) -> bool {
        self.expression.calls("isNaN")
    }

    fn run(&self, facts: &[(&'static str, Fact)]) -> Result<Word, String> {
        let longest = facts.iter().map(|(_, fact)| fact.longest()).max().unwrap_or_default();
        let text = facts.iter().map(|(_, fact)| fact.text()).max().unwrap_or_default();
        self.expression.fits(longest, text)?;
        let mut context = Context::default();
        for (name, fact) in facts {
            context.add_variable_from_value(*name, fact.word());
        }
        let functions = context
            .add_function("isNaN", |value: Word| matches!(value, Word::Float(number) if number.is_nan()))
            .and_then(|()| {
                context.add_function(
                    "isInf",
                    |value: Word| matches!(value, Word::Float(number) if number.is_infinite()),
                )
            })
            .and_then(|()| {
                context.add_function(
                    "default",
                    |value: Word, other: Word| {
                        if matches!(value, Word::Null) { other } else { value }
                    },
                )
            });
        functions.map_err(|error| error.to_string())?;
        self.expression.run(&context, longest)
    }

    /// Whether it holds; `None` where it is neither true nor false.
    fn ask(&self, facts: &[(&'static str, Fact)]) -> Result<Option<bool>, String> {
        Ok(match self.run(facts)? {
            Word::Bool(holds) => Some(holds),
            _ => None,
        })
    }

    /// What it gives as JSON, where it is used to find a value.
    pub(super) fn find(&self, facts: &[(&'static str, Fact)]) -> Result<Value, String> {
        json(&self.run(facts)?).ok_or_else(|| format!("{} gives nothing that JSON has", self.source))
    }

    /// Judges; `shown` is what was read, for people.
    pub fn judge(&self, facts: &[(&'static str, Fact)], shown: &str, value: Option<f64>) -> Reading {
        let source = &self.source;
        let (answer, message) = match self.ask(facts) {
            Ok(Some(true)) => (GateAnswer::Pass, format!("{shown} is {source}")),
            Ok(Some(false)) => (GateAnswer::Fail, format!("{shown} is not {source}")),
            Ok(None) => (GateAnswer::Error, format!("{source} is neither true nor false for {shown}")),
            Err(why) => (GateAnswer::Error, format!("{source} cannot be said of {shown}: {why}")),
        };
        Reading { answer, value, message }
    }
}

fn json(word: &Word) -> Option<Value> {
    Some(match word {
        Word::Null => Value::Null,
        Word::Bool(bool) => Value::Bool(*bool),
        Word::Int(number) => (*number).into(),
        Word::UInt(number) => (*number).into(),
        // NaN has no JSON: the text is read as a number again.
        Word::Float(number) => {
            serde_json::Number::from_f64(*number).map_or_else(|| number.to_string().into(), Value::Number)
        }
        Word::String(text) => text.as_str().into(),
        Word::List(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn number(source: &str, value: f64) -> GateAnswer {
        let facts = [("value", Fact::Number(value)), ("values", Fact::Numbers(vec![value]))];
        Condition::new(source, &["value", "values"]).unwrap().judge(&facts, "x", None).answer
    }

    #[test]
    fn conditions_over_numbers() {
        use GateAnswer::{Error, Fail, Pass};
        for (source, value, wanted) in [
            ("value >= 0.99", 0.99, Pass),
            ("value >= 0.99", 0.97, Fail),
            ("value > 1", 1.5, Pass),
            ("value == 1", 1.0, Pass),
            ("value < 300", 300.0, Fail),
            ("value < 300", f64::INFINITY, Fail),
            ("value > 300", f64::INFINITY, Pass),
            ("!isInf(value) && value > 0.0", f64::INFINITY, Fail),
            ("isNaN(value) || value > 0.9", f64::NAN, Pass),
            ("!isNaN(value) && value > 0.9", f64::NAN, Fail),
            ("values.all(v, v > 0.5)", 0.6, Pass),
            ("values[0] > 0.5 && size(values) == 1", 0.6, Pass),
            ("values[1] > 0.5", 0.6, Error),
            ("default(null, value) > 0.5", 0.6, Pass),
            ("value", 0.6, Error),
            ("value * 100 > 99", 0.6, Error),
            ("value * 100.0 > 99.0", 1.0, Pass),
        ] {
            assert_eq!(number(source, value), wanted, "{source} of {value}");
        }
        // What is no number compares with none: never a pass.
        assert_ne!(number("value >= 0.99", f64::NAN), Pass);
        assert_ne!(number("value < 0.99", f64::NAN), Pass);
    }

    #[test]
    fn conditions_over_json() {
        let object = json!({"spec": {"replicas": 3}, "status": {"ready": 2, "share": 0.5, "words": ["a"], "none": null}});
        let judge = |source: &str| {
            let condition = Condition::new(source, &["object"]).unwrap();
            condition.judge(&[("object", Fact::Json(object.clone()))], "it", None)
        };
        assert_eq!(judge("object.status.ready + 1 == object.spec.replicas").answer, GateAnswer::Pass);
        assert_eq!(judge("object.status.share < 1").answer, GateAnswer::Pass);
        assert_eq!(judge("'a' in object.status.words").answer, GateAnswer::Pass);
        assert_eq!(judge("default(object.status.none, 2) == 2").answer, GateAnswer::Pass);
        assert_eq!(judge("has(object.status.phase) && object.status.phase == 'Ok'").answer, GateAnswer::Fail);
        let missing = judge("object.status.phase == 'Ok'");
        assert_eq!(missing.answer, GateAnswer::Error);
        assert!(missing.message.contains("phase"), "{}", missing.message);
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        let known = [("value", Fact::Number(0.5)), ("values", Fact::Numbers(vec![0.5]))];
        let check = |source: &str, wanted: &str| {
            let why = Condition::over(source, &known).map(|_| ()).expect_err(source);
            assert!(why.contains(wanted), "{source}: {why}");
        };
        check("value >=", "value >=");
        check("valeu > 1.0", "there is no valeu here, but value, values");
        check("value * 100 > 99", "write 2.0 for 2");
        check("value", "neither true nor false");
        check("exp(value) > 1.0", "exp");
        check("value == 1 || value > 'a'", "value == 1");
        check("value + 1.0", "neither true nor false");
        check(&format!("{}value{} > 1", "(".repeat(40), ")".repeat(40)), "nested deeper");
        check(&format!("'{}' == ''", "x".repeat(5000)), "longer than");
        for source in
            ["values.all(v, v > 1)", "values[3] > 1.0", "double(1) < value", "type(value) == double"]
        {
            assert!(Condition::over(source, &known).is_ok(), "{source}");
        }
    }

    #[test]
    fn what_costs_too_much_is_not_run() {
        let values: Vec<f64> = (0..2000).map(f64::from).collect();
        let condition =
            Condition::new("values.all(x, values.all(y, values.all(z, x + y + z >= 0.0)))", &["values"])
                .unwrap();
        let judged = condition.judge(&[("values", Fact::Numbers(values))], "it", None);
        assert_eq!(judged.answer, GateAnswer::Error);
        assert!(judged.message.contains("too costly"), "{}", judged.message);
        // A text that a server sends, made longer and longer.
        let check = |source: &str, text: usize, wanted: GateAnswer| {
            let condition = Condition::new(source, &["result"]).unwrap();
            let judged = condition.judge(&[("result", Fact::Json("x".repeat(text).into()))], "it", None);
            assert_eq!(judged.answer, wanted, "{source}: {}", judged.message);
            assert_eq!(
                judged.message.contains("too costly"),
                wanted == GateAnswer::Error,
                "{}",
                judged.message
            );
        };
        check("size(result + result) > 3", 1 << 20, GateAnswer::Pass);
        check(&format!("size(result{}) > 3", " + result".repeat(400)), 1 << 20, GateAnswer::Error);
        let grows = ".map(a, a + a + a + a + a + a + a + a)".repeat(5);
        check(&format!("size([result]{grows}) > 3"), 1 << 10, GateAnswer::Error);
        check("['a'].map(a, a + 'b')[0] == 'ab'", 1 << 10, GateAnswer::Pass);
    }
}
