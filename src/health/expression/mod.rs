//! The conditions of packs: `@Ready == False and status.phase in [Failed, Error]`.
//!
//! Compiled once; a judgement walks the object and allocates nothing but its reason. What is missing equals nothing,
//! orders before and after nothing, and counts 0, so that no rule is true by absence alone.
//!
//! ```text
//! test    = test "or" test | test "and" test | "not" test | "(" test ")" | "otherwise" | "unseen"
//!         | ("some" | "every") path "where" test | value ("==" | "!=" | "<" | "<=" | ">" | ">=") value
//!         | value "in" "[" word, ... "]" | value
//! value   = path | word | number | 'text' | true | false | "count" path ["where" test] | value "??" value
//! path    = status.phase | metadata.labels["a.b/c"] | @Ready | @Ready.reason | .field of the item | .@Accepted of it
//! ```

mod parse;

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::Value;

pub(super) use parse::{alternatives, test};

use super::{observed, text};

/// Where a path begins.
#[derive(Debug, PartialEq)]
enum Root {
    Object,
    Condition(String),
    Item,
    ItemCondition(String),
}

#[derive(Debug, PartialEq)]
pub(super) struct Path {
    root: Root,
    steps: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Operand {
    Path(Path),
    Literal(Value),
    Count(Path, Option<Box<Test>>),
    Else(Box<Operand>, Box<Operand>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Debug, PartialEq)]
pub(super) enum Test {
    Otherwise,
    Unseen,
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Compare(Operand, Order, Operand),
    In(Operand, Vec<Value>),
    Holds(Operand),
    Some(Path, Box<Test>),
    Every(Path, Box<Test>),
}

/// What a test is asked about.
pub(super) struct Scope<'a> {
    object: &'a Value,
    item: Option<&'a Value>,
    /// The item of the outermost `some` that held, for the reason.
    found: &'a Cell<Option<&'a Value>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(object: &'a Value, found: &'a Cell<Option<&'a Value>>) -> Self {
        Self { object, item: None, found }
    }

    fn on(&self, item: &'a Value) -> Self {
        Self { object: self.object, item: Some(item), found: self.found }
    }

    /// For a reason: fields that begin with a dot are those of the item that was found.
    pub(super) fn found(&self) -> Self {
        Self { object: self.object, item: self.found.get(), found: self.found }
    }
}

fn condition_in<'a>(list: &'a Value, kind: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|condition| condition["type"] == kind)
}

impl Path {
    /// The value, and whether it is a whole condition. A condition without a field is its status.
    fn whole<'a>(&self, scope: &Scope<'a>) -> Option<&'a Value> {
        let mut at = match &self.root {
            Root::Object => scope.object,
            Root::Item => scope.item?,
            Root::Condition(kind) => condition_in(&scope.object["status"]["conditions"], kind)?,
            Root::ItemCondition(kind) => condition_in(&scope.item?["conditions"], kind)?,
        };
        for step in &self.steps {
            at = match at {
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                other => other.get(step)?,
            };
        }
        (!at.is_null()).then_some(at)
    }

    fn is_condition(&self) -> bool {
        self.steps.is_empty() && matches!(self.root, Root::Condition(_) | Root::ItemCondition(_))
    }

    fn value<'a>(&self, scope: &Scope<'a>) -> Option<&'a Value> {
        let whole = self.whole(scope)?;
        if self.is_condition() { whole.get("status") } else { Some(whole) }
    }

    fn items<'a>(&self, scope: &Scope<'a>) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
        match self.whole(scope) {
            Some(Value::Array(items)) => Box::new(items.iter()),
            Some(Value::Object(fields)) => Box::new(fields.values()),
            _ => Box::new(std::iter::empty()),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, scope: &Scope<'a>) -> Option<Cow<'a, Value>> {
        match self {
            Self::Path(path) => path.value(scope).map(Cow::Borrowed),
            Self::Literal(value) => Some(Cow::Borrowed(value)),
            Self::Count(path, test) => {
                let holds = |item: &&'a Value| test.as_ref().is_none_or(|test| test.holds(&scope.on(item)));
                Some(Cow::Owned(path.items(scope).filter(holds).count().into()))
            }
            Self::Else(first, second) => first.value(scope).or_else(|| second.value(scope)),
        }
    }

    /// As text for a person; empty where missing. A condition is its reason and message.
    pub(super) fn shown<'a>(&'a self, scope: &Scope<'a>) -> String {
        if let Self::Path(path) = self
            && let Some(whole) = path.whole(scope)
            && whole.is_object()
        {
            return text(whole);
        }
        match self.value(scope).as_deref() {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

fn order(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

impl Test {
    pub(super) fn holds<'a>(&'a self, scope: &Scope<'a>) -> bool {
        match self {
            Self::Otherwise => true,
            Self::Unseen => observed(scope.object) == Some(false),
            Self::All(tests) => tests.iter().all(|test| test.holds(scope)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(scope)),
            Self::Not(test) => !test.holds(scope),
            Self::Compare(left, how, right) => {
                let compared = match (left.value(scope), right.value(scope)) {
                    (Some(left), Some(right)) => order(&left, &right),
                    _ => None,
                };
                match how {
                    Order::Equal => compared.is_some_and(std::cmp::Ordering::is_eq),
                    Order::Unequal => !compared.is_some_and(std::cmp::Ordering::is_eq),
                    Order::Less => compared.is_some_and(std::cmp::Ordering::is_lt),
                    Order::AtMost => compared.is_some_and(std::cmp::Ordering::is_le),
                    Order::More => compared.is_some_and(std::cmp::Ordering::is_gt),
                    Order::AtLeast => compared.is_some_and(std::cmp::Ordering::is_ge),
                }
            }
            Self::In(value, words) => value.value(scope).is_some_and(|value| words.contains(&*value)),
            Self::Holds(value) => match value.value(scope).as_deref() {
                None | Some(Value::Null) => false,
                Some(Value::Bool(is)) => *is,
                Some(Value::Number(number)) => number.as_f64() != Some(0.0),
                Some(Value::String(text)) => !text.is_empty(),
                Some(Value::Array(items)) => !items.is_empty(),
                Some(Value::Object(fields)) => !fields.is_empty(),
            },
            Self::Some(path, test) => {
                let found = path.items(scope).find(|item| test.holds(&scope.on(item)));
                if found.is_some() {
                    scope.found.set(found);
                }
                found.is_some()
            }
            // At least one: what has reported nothing is not well.
            Self::Every(path, test) => {
                let mut any = false;
                let all = path.items(scope).all(|item| {
                    any = true;
                    test.holds(&scope.on(item))
                });
                any && all
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(source: &str, object: &Value) -> bool {
        let test = test(source).unwrap_or_else(|why| panic!("{source}: {why}"));
        let found = Cell::new(None);
        test.holds(&Scope::new(object, &found))
    }

    #[test]
    fn tests_of_an_object() {
        let object = json!({
            "metadata": {"generation": 2, "labels": {"a.b/c": "d"}},
            "spec": {"replicas": 3, "suspend": false},
            "status": {
                "observedGeneration": 1, "phase": "Running", "ready": 2, "since": "2026-01-02T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "False", "reason": "Waiting"}],
                "nodes": {"x": {"type": "Suspend", "phase": "Running"}, "y": {"type": "Pod", "phase": "Failed"}},
                "parents": [{"conditions": [{"type": "Accepted", "status": "True"}]}],
            },
        });
        for (source, expected) in [
            ("otherwise", true),
            ("unseen", true),
            ("@Ready == False", true),
            ("@Ready == False and @Ready.reason == Waiting", true),
            ("@Ready.reason in [A, Waiting]", true),
            ("@Missing == False", false),
            ("@Missing != True", true),
            ("not @Missing", true),
            ("status.ready < spec.replicas", true),
            ("status.none < spec.replicas", false),
            ("status.none ?? 0 < spec.replicas", true),
            ("status.none == status.neither", false),
            ("spec.suspend", false),
            ("spec.suspend == false", true),
            ("status.phase == Running or status.phase == Failed and spec.suspend", true),
            ("(status.phase == Running or status.phase == Failed) and spec.suspend", false),
            ("metadata.labels[\"a.b/c\"] == d", true),
            ("some status.nodes where (.type == Suspend and .phase == Running)", true),
            ("some status.nodes where .phase == Error", false),
            ("every status.nodes where .phase in [Running, Failed]", true),
            ("every status.nothing where .phase == Running", false),
            ("every status.parents where .@Accepted == True", true),
            ("some status.parents where some .conditions where .status == True", true),
            ("count status.nodes > 1", true),
            ("count status.nodes where .phase == Failed == 1", true),
            ("status.since > '2026-01-01T00:00:00Z'", true),
            ("status.parents.0.conditions.0.type == Accepted", true),
        ] {
            assert_eq!(holds(source, &object), expected, "{source}");
        }
    }

    #[test]
    fn what_is_no_test_is_refused() {
        for source in [
            "",
            "status.a ==",
            "== status.a",
            "(status.a",
            "status.a in status.b",
            "status.a in [B",
            "some status.a",
            "some word where .a",
            "statos.phase == Running",
            "status.a == 'b",
            "status.a status.b",
            "status.a & status.b",
            "status.a and or status.b",
            &"not ".repeat(40),
        ] {
            assert!(test(source).is_err(), "{source}");
        }
    }
}
