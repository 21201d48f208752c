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

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::Value;

use super::{observed, text};

/// Deepest nesting of a test.
const DEPTH: usize = 16;

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

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A bare word; a path where it has a dot or an at sign.
    Word(String),
    /// A path with its steps.
    Steps(Vec<String>),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

const SIGNS: &[&str] = &["==", "!=", "<=", ">=", "??", "<", ">", "(", ")", "[", "]", ",", "|"];

fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = source.trim_start();
    'next: while let Some(first) = rest.chars().next() {
        if let Some(quote) = Some(first).filter(|first| matches!(first, '\'' | '"')) {
            let inner = &rest[1..];
            let end = inner.find(quote).ok_or_else(|| format!("a quote is not closed: {rest}"))?;
            found.push(Token::Text(inner[..end].to_owned()));
            rest = inner[end + 1..].trim_start();
            continue;
        }
        for sign in SIGNS {
            if let Some(after) = rest.strip_prefix(sign) {
                found.push(Token::Sign(sign));
                rest = after.trim_start();
                continue 'next;
            }
        }
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_@.-/".contains(c))).unwrap_or(rest.len());
        if end == 0 {
            return Err(format!("not understood: {rest}"));
        }
        let word = &rest[..end];
        rest = &rest[end..];
        // A step that is no word: metadata.labels["a.b/c"].
        let mut steps: Vec<String> = word.split('.').map(str::to_owned).collect();
        let mut quoted = false;
        while let Some(inner) = rest.strip_prefix("[\"") {
            let end = inner.find("\"]").ok_or_else(|| format!("a subscript is not closed: {rest}"))?;
            steps.push(inner[..end].to_owned());
            quoted = true;
            rest = &inner[end + 2..];
            let more = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)));
            let more = more.unwrap_or(rest.len());
            steps.extend(rest[..more].split('.').filter(|step| !step.is_empty()).map(str::to_owned));
            rest = &rest[more..];
        }
        found.push(match word.parse() {
            Ok(number) => Token::Number(number),
            Err(_) if quoted || word.contains(['.', '@']) => Token::Steps(steps),
            Err(_) => Token::Word(word.to_owned()),
        });
        rest = rest.trim_start();
    }
    Ok(found)
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(sign)) if *sign == wanted);
        if is {
            self.tokens.next();
        }
        is
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(word)) if word == wanted);
        if is {
            self.tokens.next();
        }
        is
    }

    fn any(&mut self) -> Result<Test, String> {
        let mut all = vec![self.all()?];
        while self.take_word("or") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Test::Any(all) })
    }

    fn all(&mut self) -> Result<Test, String> {
        let mut all = vec![self.one()?];
        while self.take_word("and") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Test::All(all) })
    }

    fn one(&mut self) -> Result<Test, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("nested deeper than {DEPTH}"));
        }
        let test = self.one_of();
        self.depth -= 1;
        test
    }

    fn one_of(&mut self) -> Result<Test, String> {
        if self.take_word("not") {
            return Ok(Test::Not(Box::new(self.one()?)));
        }
        if self.take_word("otherwise") {
            return Ok(Test::Otherwise);
        }
        if self.take_word("unseen") {
            return Ok(Test::Unseen);
        }
        for some in [true, false] {
            if self.take_word(if some { "some" } else { "every" }) {
                let path = self.path()?;
                if !self.take_word("where") {
                    return Err("`where` is missing after some or every".into());
                }
                let test = Box::new(self.one()?);
                return Ok(if some { Test::Some(path, test) } else { Test::Every(path, test) });
            }
        }
        if self.take_sign("(") {
            let inner = self.any()?;
            return if self.take_sign(")") { Ok(inner) } else { Err("a bracket is not closed".into()) };
        }
        let left = self.operand()?;
        if self.take_word("in") {
            let mut words = Vec::new();
            if !self.take_sign("[") {
                return Err("`in` needs a list in square brackets".into());
            }
            while !self.take_sign("]") {
                match self.operand()? {
                    Operand::Literal(value) => words.push(value),
                    other => return Err(format!("a list holds words, not {other:?}")),
                }
                let _ = self.take_sign(",");
            }
            return Ok(Test::In(left, words));
        }
        for (sign, order) in [
            ("==", Order::Equal),
            ("!=", Order::Unequal),
            ("<=", Order::AtMost),
            (">=", Order::AtLeast),
            ("<", Order::Less),
            (">", Order::More),
        ] {
            if self.take_sign(sign) {
                return Ok(Test::Compare(left, order, self.operand()?));
            }
        }
        Ok(Test::Holds(left))
    }

    fn path(&mut self) -> Result<Path, String> {
        match self.operand_single()? {
            Operand::Path(path) => Ok(path),
            other => Err(format!("expected a path, found {other:?}")),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let first = self.operand_single()?;
        if self.take_sign("??") {
            return Ok(Operand::Else(Box::new(first), Box::new(self.operand()?)));
        }
        Ok(first)
    }

    fn operand_single(&mut self) -> Result<Operand, String> {
        if self.take_word("count") {
            let path = self.path()?;
            let test = if self.take_word("where") { Some(Box::new(self.one()?)) } else { None };
            return Ok(Operand::Count(path, test));
        }
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Operand::Literal(text.into())),
            Some(Token::Number(number)) => Ok(Operand::Literal(number.into())),
            Some(Token::Word(word)) => Ok(Operand::Literal(match word.as_str() {
                "true" => true.into(),
                "false" => false.into(),
                "and" | "or" | "not" | "in" | "where" | "some" | "every" => {
                    return Err(format!("`{word}` stands where a value should"));
                }
                _ => word.into(),
            })),
            Some(Token::Steps(steps)) => path(steps).map(Operand::Path),
            Some(Token::Sign(sign)) => Err(format!("`{sign}` stands where a value should")),
            None => Err("it ends too early".into()),
        }
    }

    fn end(mut self) -> Result<(), String> {
        self.tokens.next().map_or(Ok(()), |token| Err(format!("not understood: {token:?}")))
    }
}

fn path(mut steps: Vec<String>) -> Result<Path, String> {
    let of_item = steps.first().is_some_and(String::is_empty);
    if of_item {
        steps.remove(0);
    }
    let condition = steps.first().and_then(|first| first.strip_prefix('@')).map(str::to_owned);
    let root = match (condition, of_item) {
        (Some(kind), item) => {
            steps.remove(0);
            if item { Root::ItemCondition(kind) } else { Root::Condition(kind) }
        }
        (None, true) => Root::Item,
        (None, false) => Root::Object,
    };
    // `.` alone is the item itself.
    steps.retain(|step| !step.is_empty());
    if root == Root::Object
        && !matches!(steps.first().map(String::as_str), Some("metadata" | "spec" | "status"))
    {
        return Err(format!("a path begins with metadata, spec, status, @ or a dot, not with {steps:?}"));
    }
    Ok(Path { root, steps })
}

/// Reads a test.
pub(super) fn test(source: &str) -> Result<Test, String> {
    let mut parser = Parser { tokens: tokens(source)?.into_iter(), depth: 0 };
    let test = parser.any()?;
    parser.end()?;
    Ok(test)
}

/// Reads the alternatives of a place in a reason: `@Ready | 'no condition yet'`.
pub(super) fn alternatives(source: &str) -> Result<Vec<Operand>, String> {
    let mut parser = Parser { tokens: tokens(source)?.into_iter(), depth: 0 };
    let mut all = vec![parser.operand()?];
    while parser.take_sign("|") {
        all.push(parser.operand()?);
    }
    parser.end()?;
    Ok(all)
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
