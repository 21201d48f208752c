//! Conditions of Argo Rollouts in CEL.
//!
//! Numbers there are one kind, in CEL two: what is measured is a double, so numbers beside it are written as doubles, and
//! what is calculated of JSON is made one. A part is told by its kind, where that is known before there is an answer.

use super::path;
use super::path::{cel, field, is_plain, pointer, quoted};
use super::syntax::{Operator, Part, Refused, What, parse, refused};

/// What a condition is asked over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Numbers of Prometheus.
    Numbers {
        /// Those of one series over a time.
        range: bool,
    },
    /// A place in JSON.
    Json(Vec<path::Step>),
}

/// A condition in CEL, and what it does not say any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// In CEL.
    pub(super) pass: String,
    /// What happens without data is left to the gate's limits.
    pub(super) leaves_no_data: bool,
    /// What is neither success nor failure fails.
    pub(super) neither_fails: bool,
}

/// Which of the two conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Success,
    Failure,
}

/// Both conditions as one.
///
/// # Errors
/// The condition that cannot be converted, and why.
pub(super) fn convert(
    success: Option<&str>,
    failure: Option<&str>,
    over: &Over,
) -> Result<Condition, (Which, Refused)> {
    let read = |text: Option<&str>, which| text.map(parse).transpose().map_err(|why| (which, why));
    let success = read(success, Which::Success)?;
    let failure = read(failure, Which::Failure)?;
    let many = [&success, &failure].into_iter().flatten().any(takes_all);
    let mut reader = Reader { over, many, leaves_no_data: false, variables: 0 };
    let mut lower = |part: &Option<Part>, which| {
        let lowered = part.as_ref().map(|part| reader.condition(part)).transpose();
        lowered.map_err(|why| (which, why))
    };
    let (passes, fails) = (lower(&success, Which::Success)?, lower(&failure, Which::Failure)?);
    let complements = match (&success, &failure) {
        (Some(success), Some(failure)) => are_complements(success, failure),
        _ => true,
    };
    let pass = match (passes, fails) {
        (Some(passes), Some(_)) if complements => passes,
        (Some(passes), Some(fails)) => and(passes, negation(&fails)),
        (Some(passes), None) => passes,
        (None, Some(fails)) => negation(&fails),
        // Whatever the answer is.
        (None, None) => constant(true),
    };
    Ok(Condition { pass: pass.text, leaves_no_data: reader.leaves_no_data, neither_fails: !complements })
}

/// Whether one holds exactly where the other does not.
fn are_complements(one: &Part, other: &Part) -> bool {
    use Operator::{Equal, Greater, GreaterEqual, Less, LessEqual, Unequal};
    let (What::Binary(first, a, b), What::Binary(second, c, d)) = (&one.what, &other.what) else {
        return false;
    };
    let opposite = matches!(
        (first, second),
        (Less, GreaterEqual)
            | (GreaterEqual, Less)
            | (Greater, LessEqual)
            | (LessEqual, Greater)
            | (Equal, Unequal)
            | (Unequal, Equal)
    );
    opposite && same(a, c) && same(b, d)
}

/// Whether two parts are the same, wherever they stand. Only what is simple is looked at.
fn same(one: &Part, other: &Part) -> bool {
    match (&one.what, &other.what) {
        (What::Field(a, x), What::Field(b, y)) => x == y && same(a, b),
        (What::Index(a, x), What::Index(b, y)) => same(a, b) && same(x, y),
        (What::Call(f, a), What::Call(g, b)) => {
            f == g && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (What::Whole(_) | What::Float(_), What::Whole(_) | What::Float(_)) => {
            number_of(one) == number_of(other)
        }
        (a, b) => !matches!(a, What::Binary(..) | What::Closure(..) | What::Choice(..)) && a == b,
    }
}

fn number_of(part: &Part) -> Option<f64> {
    match part.what {
        #[expect(clippy::cast_precision_loss, reason = "as expr compares")]
        What::Whole(number) => Some(number as f64),
        What::Float(number) => Some(number),
        _ => None,
    }
}

fn is_result(part: &Part) -> bool {
    matches!(&part.what, What::Name(name) if name == "result")
}

/// The value for which `result` stands: itself, or its default.
fn is_value(part: &Part) -> bool {
    match &part.what {
        What::Call(name, arguments) => name == "default" && arguments.first().is_some_and(is_result),
        _ => is_result(part),
    }
}

/// Whether more is asked of a list than its first item and whether there is any.
fn takes_all(part: &Part) -> bool {
    match &part.what {
        What::Index(of, index) if is_value(of) => index.what != What::Whole(0),
        What::Field(of, _) | What::Not(of) | What::Minus(of) => takes_all(of),
        What::Index(of, index) => takes_all(of) || takes_all(index),
        What::Closure(_, list, body) => is_value(list) || takes_all(list) || takes_all(body),
        What::Binary(Operator::In, left, right) => is_value(right) || takes_all(left) || takes_all(right),
        What::Binary(operator, left, right) => {
            asks_for_data(*operator, left, right).is_none() && (takes_all(left) || takes_all(right))
        }
        What::Choice(of, yes, no) => [of, yes, no].into_iter().any(|part| takes_all(part)),
        What::Call(name, arguments) if name == "len" => {
            arguments.iter().any(|part| is_value(part) || takes_all(part))
        }
        What::Call(_, parts) | What::List(parts) => parts.iter().any(takes_all),
        _ => false,
    }
}

/// `len(result) > 0` and its like, and what it is where there is data.
fn asks_for_data(operator: Operator, left: &Part, right: &Part) -> Option<bool> {
    use Operator::{Equal, Greater, GreaterEqual, Less, LessEqual, Unequal};
    let length = |part: &Part| matches!(&part.what, What::Call(name, parts) if name == "len" && parts.len() == 1 && is_value(&parts[0]));
    let (operator, number) = if length(left) {
        (operator, right)
    } else if length(right) {
        let turned = match operator {
            Less => Greater,
            Greater => Less,
            LessEqual => GreaterEqual,
            GreaterEqual => LessEqual,
            same => same,
        };
        (turned, left)
    } else {
        return None;
    };
    match (operator, &number.what) {
        (Equal | LessEqual, What::Whole(0)) | (Less, What::Whole(1)) => Some(false),
        (Unequal | Greater, What::Whole(0)) | (GreaterEqual, What::Whole(1)) => Some(true),
        _ => None,
    }
}

/// What is known of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A double.
    Double,
    /// An int.
    Int,
    /// A number that is written out.
    Written(f64, bool),
    Text,
    Bool,
    List,
    Nil,
    /// A value in JSON.
    Json,
    /// All that was read.
    Result,
}

/// How tight a part holds together; more is tighter.
const CHOICE: u8 = 0;
const OR: u8 = 1;
const AND: u8 = 2;
const RELATION: u8 = 3;
const SUM: u8 = 4;
const PRODUCT: u8 = 5;
const UNARY: u8 = 6;
const WHOLE: u8 = 7;

#[derive(Clone, Debug)]
struct Lowered {
    text: String,
    tight: u8,
    kind: Kind,
    /// It is true or false where there is data.
    constant: Option<bool>,
    /// It can be asked with `has`.
    selects: bool,
}

fn part(text: String, tight: u8, kind: Kind) -> Lowered {
    Lowered { text, tight, kind, constant: None, selects: false }
}

fn constant(holds: bool) -> Lowered {
    Lowered { constant: Some(holds), ..part(holds.to_string(), WHOLE, Kind::Bool) }
}

impl Lowered {
    fn within(&self, tight: u8) -> String {
        if self.tight < tight { format!("({})", self.text) } else { self.text.clone() }
    }
}

fn negation(of: &Lowered) -> Lowered {
    match of.constant {
        Some(holds) => constant(!holds),
        None => part(format!("!{}", of.within(WHOLE)), UNARY, Kind::Bool),
    }
}

fn and(left: Lowered, right: Lowered) -> Lowered {
    match (left.constant, right.constant) {
        (Some(false), _) | (_, Some(false)) => constant(false),
        (Some(true), _) => right,
        (_, Some(true)) => left,
        _ => part(format!("{} && {}", left.within(AND), right.within(AND)), AND, Kind::Bool),
    }
}

fn or(left: Lowered, right: Lowered) -> Lowered {
    match (left.constant, right.constant) {
        (Some(true), _) | (_, Some(true)) => constant(true),
        (Some(false), _) => right,
        (_, Some(false)) => left,
        _ => part(format!("{} || {}", left.within(OR), right.within(OR)), OR, Kind::Bool),
    }
}

/// As a double.
fn written(number: f64) -> String {
    format!("{number:?}")
}

struct Reader<'a> {
    over: &'a Over,
    /// A list is judged, not one number.
    many: bool,
    leaves_no_data: bool,
    variables: usize,
}

impl Reader<'_> {
    fn condition(&mut self, of: &Part) -> Result<Lowered, Refused> {
        let lowered = self.lower(of, None)?;
        self.truth(lowered, of.column)
    }

    fn truth(&self, lowered: Lowered, column: usize) -> Result<Lowered, Refused> {
        match lowered.kind {
            Kind::Bool => Ok(lowered),
            Kind::Json => Ok(Lowered { kind: Kind::Bool, ..lowered }),
            Kind::Result => match self.over {
                Over::Json(path) => Ok(part(cel(path), WHOLE, Kind::Bool)),
                Over::Numbers { .. } => refused(column, "numbers are neither true nor false"),
            },
            _ => refused(column, "this is neither true nor false"),
        }
    }

    /// As a double.
    fn double(&self, lowered: &Lowered, column: usize) -> Result<Lowered, Refused> {
        let text = match lowered.kind {
            Kind::Double => return Ok(lowered.clone()),
            Kind::Written(number, _) => written(number),
            Kind::Int | Kind::Json => format!("double({})", lowered.text),
            Kind::Result => match self.over {
                Over::Json(_) | Over::Numbers { range: false } => "value".into(),
                Over::Numbers { range: true } => {
                    return refused(column, "result is a list here: say which of its numbers");
                }
            },
            _ => return refused(column, "this is no number"),
        };
        Ok(part(text, WHOLE, Kind::Double))
    }

    /// As it is in JSON.
    fn json(&self, lowered: Lowered, column: usize) -> Result<Lowered, Refused> {
        match (lowered.kind, self.over) {
            (Kind::Result, Over::Json(path)) => Ok(part(cel(path), WHOLE, Kind::Json)),
            (Kind::Result, Over::Numbers { .. }) => refused(column, "result is numbers here"),
            _ => Ok(lowered),
        }
    }

    fn lower(&mut self, of: &Part, item: Option<(&str, Kind)>) -> Result<Lowered, Refused> {
        let column = of.column;
        Ok(match &of.what {
            #[expect(clippy::cast_precision_loss, reason = "as expr compares")]
            What::Whole(number) => part(number.to_string(), WHOLE, Kind::Written(*number as f64, true)),
            What::Float(number) => part(written(*number), WHOLE, Kind::Written(*number, false)),
            What::Text(text) => part(quoted(text), WHOLE, Kind::Text),
            What::Bool(bool) => part(bool.to_string(), WHOLE, Kind::Bool),
            What::Nil => part("null".into(), WHOLE, Kind::Nil),
            What::Name(name) if name == "result" => part("value".into(), WHOLE, Kind::Result),
            What::Name(name) => return refused(column, format!("there is no {name}, but result")),
            What::Item => match item {
                Some((name, kind)) => part(name.to_owned(), WHOLE, kind),
                None => return refused(column, "# is not expected here"),
            },
            What::Field(of, name) => {
                let inner = self.lower(of, item)?;
                let inner = self.json(inner, of.column)?;
                if inner.kind != Kind::Json {
                    return refused(column, "this has no fields");
                }
                let selects = is_plain(name);
                Lowered { selects, ..part(field(&inner.within(WHOLE), name), WHOLE, Kind::Json) }
            }
            What::Index(of, index) => self.index(of, index, item)?,
            What::Not(of) => {
                let inner = self.lower(of, item)?;
                negation(&self.truth(inner, of.column)?)
            }
            What::Minus(of) => {
                let inner = self.lower(of, item)?;
                match inner.kind {
                    Kind::Written(number, whole) => {
                        let text = if whole { format!("-{}", inner.text) } else { written(-number) };
                        part(text, UNARY, Kind::Written(-number, whole))
                    }
                    Kind::Int => part(format!("-{}", inner.within(WHOLE)), UNARY, Kind::Int),
                    _ => {
                        let inner = self.double(&inner, of.column)?;
                        part(format!("-{}", inner.within(WHOLE)), UNARY, Kind::Double)
                    }
                }
            }
            What::List(items) => {
                let items: Vec<Lowered> =
                    items.iter().map(|of| self.lower(of, item)).collect::<Result<_, _>>()?;
                let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
                part(format!("[{}]", texts.join(", ")), WHOLE, Kind::List)
            }
            What::Choice(of, yes, no) => {
                let asked = self.lower(of, item)?;
                let asked = self.truth(asked, of.column)?;
                let (yes, no) = (self.lower(yes, item)?, self.lower(no, item)?);
                if let Some(holds) = asked.constant {
                    return Ok(if holds { yes } else { no });
                }
                self.choice(&asked, yes, no, column)?
            }
            What::Closure(name, list, body) => self.closure(name, list, body, item, column)?,
            What::Call(name, arguments) => self.call(name, arguments, item, column)?,
            What::Binary(operator, left, right) => self.binary(*operator, left, right, item, column)?,
        })
    }

    fn choice(&self, asked: &Lowered, yes: Lowered, no: Lowered, column: usize) -> Result<Lowered, Refused> {
        let numbers = |kind| matches!(kind, Kind::Double | Kind::Int | Kind::Written(..));
        let (yes, no) = if numbers(yes.kind) || numbers(no.kind) {
            (self.double(&yes, column)?, self.double(&no, column)?)
        } else {
            (self.json(yes, column)?, self.json(no, column)?)
        };
        let kind = if yes.kind == no.kind { yes.kind } else { Kind::Json };
        let text = format!("{} ? {} : {}", asked.within(OR), yes.within(OR), no.within(CHOICE));
        Ok(part(text, CHOICE, kind))
    }

    fn index(&mut self, of: &Part, index: &Part, item: Option<(&str, Kind)>) -> Result<Lowered, Refused> {
        let column = index.column;
        let inner = self.lower(of, item)?;
        if let (Kind::Result, Over::Numbers { range }) = (inner.kind, self.over) {
            return match &index.what {
                What::Whole(0) if !self.many && !range => Ok(part("value".into(), WHOLE, Kind::Double)),
                What::Whole(at) => Ok(part(format!("values[{at}]"), WHOLE, Kind::Double)),
                _ => refused(column, "a list of numbers is asked by a whole number"),
            };
        }
        let inner = self.json(inner, of.column)?;
        let kind = match inner.kind {
            Kind::Json | Kind::List => Kind::Json,
            _ => return refused(column, "this is no list and no object"),
        };
        match &index.what {
            What::Whole(at) => Ok(part(format!("{}[{at}]", inner.within(WHOLE)), WHOLE, kind)),
            What::Text(name) => {
                let selects = is_plain(name);
                Ok(Lowered { selects, ..part(field(&inner.within(WHOLE), name), WHOLE, kind) })
            }
            What::Minus(_) => refused(column, "an index from the end is not known here"),
            _ => refused(column, "an index that is calculated is not known here"),
        }
    }

    fn closure(
        &mut self,
        name: &str,
        list: &Part,
        body: &Part,
        item: Option<(&str, Kind)>,
        column: usize,
    ) -> Result<Lowered, Refused> {
        let walked = self.lower(list, item)?;
        let (walked, kind) = match (walked.kind, self.over) {
            (Kind::Result, Over::Numbers { .. }) => (part("values".into(), WHOLE, Kind::List), Kind::Double),
            // What a filter leaves is what it was.
            (Kind::List, Over::Numbers { .. }) => (walked, Kind::Double),
            _ => (self.json(walked, list.column)?, Kind::Json),
        };
        if !matches!(walked.kind, Kind::Json | Kind::List) {
            return refused(list.column, "this is no list");
        }
        let variable = ["v", "w", "x", "y", "z"].get(self.variables).copied();
        let Some(variable) = variable else { return refused(column, "closures are nested too deep") };
        self.variables += 1;
        let body_column = body.column;
        let body = self.lower(body, Some((variable, kind)))?;
        self.variables -= 1;
        let body = if name == "map" { body } else { self.truth(body, body_column)? };
        let of = walked.within(WHOLE);
        let call = |function: &str| format!("{of}.{function}({variable}, {})", body.text);
        Ok(match name {
            "all" => part(call("all"), WHOLE, Kind::Bool),
            "any" => part(call("exists"), WHOLE, Kind::Bool),
            "one" => part(call("exists_one"), WHOLE, Kind::Bool),
            "none" => part(format!("!{}", call("exists")), UNARY, Kind::Bool),
            "filter" => part(call("filter"), WHOLE, Kind::List),
            "count" => part(format!("size({})", call("filter")), WHOLE, Kind::Int),
            // What comes out of it is not known.
            "map" => return refused(column, "map is not known here; judge the list itself"),
            _ => return refused(column, format!("{name} is not known here")),
        })
    }

    fn call(
        &mut self,
        name: &str,
        arguments: &[Part],
        item: Option<(&str, Kind)>,
        column: usize,
    ) -> Result<Lowered, Refused> {
        let wanted = if name == "default" { 2 } else { 1 };
        let known =
            ["isNaN", "isInf", "isNil", "default", "asFloat", "float", "asInt", "int", "len"].contains(&name);
        if !known {
            return refused(column, format!("{name}() is not known here"));
        }
        if arguments.len() != wanted {
            return refused(column, format!("{name}() takes {wanted} of what stands in brackets"));
        }
        let first = &arguments[0];
        let inner = self.lower(first, item)?;
        Ok(match name {
            "isNil" | "default" => {
                // Both look at `result`, whatever they are given.
                if inner.kind != Kind::Result {
                    let why = format!("Argo's {name}() is about result alone; write so, or compare with nil");
                    return refused(first.column, why);
                }
                self.leaves_no_data = true;
                if name == "isNil" { constant(false) } else { inner }
            }
            "isNaN" | "isInf" => {
                let inner = if inner.kind == Kind::Json { inner } else { self.double(&inner, first.column)? };
                part(format!("{name}({})", inner.text), WHOLE, Kind::Bool)
            }
            "asFloat" | "float" => {
                let inner =
                    if inner.kind == Kind::Text { Lowered { kind: Kind::Json, ..inner } } else { inner };
                self.double(&inner, first.column)?
            }
            "asInt" | "int" => {
                let inner = match (inner.kind, self.over) {
                    (Kind::Result, Over::Json(_)) => self.json(inner, first.column)?,
                    (Kind::Text | Kind::Json, _) => inner,
                    _ => self.double(&inner, first.column)?,
                };
                part(format!("int({})", inner.text), WHOLE, Kind::Int)
            }
            _ => {
                let inner = match (inner.kind, self.over) {
                    (Kind::Result, Over::Numbers { .. }) => part("values".into(), WHOLE, Kind::List),
                    _ => self.json(inner, first.column)?,
                };
                if !matches!(inner.kind, Kind::Json | Kind::List | Kind::Text) {
                    return refused(first.column, "this has no length");
                }
                part(format!("size({})", inner.text), WHOLE, Kind::Int)
            }
        })
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Part,
        right: &Part,
        item: Option<(&str, Kind)>,
        column: usize,
    ) -> Result<Lowered, Refused> {
        use Operator as O;
        if let Some(holds) = asks_for_data(operator, left, right) {
            self.leaves_no_data = true;
            if matches!(self.over, Over::Numbers { .. }) {
                return Ok(constant(holds));
            }
        }
        let (left_column, right_column) = (left.column, right.column);
        let (left, right) = (self.lower(left, item)?, self.lower(right, item)?);
        match operator {
            O::And | O::Or => {
                let (left, right) = (self.truth(left, left_column)?, self.truth(right, right_column)?);
                Ok(if operator == O::And { and(left, right) } else { or(left, right) })
            }
            O::Contains | O::StartsWith | O::EndsWith | O::Matches => {
                let (left, right) = (self.json(left, left_column)?, self.json(right, right_column)?);
                for (side, column) in [(&left, left_column), (&right, right_column)] {
                    if !matches!(side.kind, Kind::Text | Kind::Json) {
                        return refused(column, "this is no text");
                    }
                }
                let method = match operator {
                    O::Contains => "contains",
                    O::StartsWith => "startsWith",
                    O::EndsWith => "endsWith",
                    _ => "matches",
                };
                let of = left.within(WHOLE);
                Ok(part(format!("{of}.{method}({})", right.text), WHOLE, Kind::Bool))
            }
            O::In => self.within(left, right, left_column, right_column),
            O::Equal | O::Unequal | O::Less | O::LessEqual | O::Greater | O::GreaterEqual => {
                self.compare(operator, left, right, [column, left_column, right_column])
            }
            O::Add | O::Subtract | O::Multiply | O::Divide | O::Remainder => {
                self.calculate(operator, left, right, [column, left_column, right_column])
            }
        }
    }

    fn within(&self, left: Lowered, right: Lowered, at: usize, list: usize) -> Result<Lowered, Refused> {
        let right = match (right.kind, self.over) {
            (Kind::Result, Over::Numbers { .. }) => part("values".into(), WHOLE, Kind::List),
            _ => self.json(right, list)?,
        };
        if !matches!(right.kind, Kind::List | Kind::Json) {
            return refused(list, "this is no list and no object");
        }
        let left = match (left.kind, self.over) {
            (Kind::Result | Kind::Written(..), Over::Numbers { .. }) => self.double(&left, at)?,
            _ => self.json(left, at)?,
        };
        Ok(part(format!("{} in {}", left.within(SUM), right.within(SUM)), RELATION, Kind::Bool))
    }

    fn compare(
        &mut self,
        operator: Operator,
        left: Lowered,
        right: Lowered,
        [column, left_column, right_column]: [usize; 3],
    ) -> Result<Lowered, Refused> {
        let sign = match operator {
            Operator::Equal => "==",
            Operator::Unequal => "!=",
            Operator::Less => "<",
            Operator::LessEqual => "<=",
            Operator::Greater => ">",
            _ => ">=",
        };
        let equality = matches!(operator, Operator::Equal | Operator::Unequal);
        if left.kind == Kind::Nil || right.kind == Kind::Nil {
            let (other, at) =
                if left.kind == Kind::Nil { (right, right_column) } else { (left, left_column) };
            if !equality {
                return refused(column, "nil is only equal or not");
            }
            return self.absent(&other, operator == Operator::Equal, at);
        }
        let number = |kind| matches!(kind, Kind::Double | Kind::Int | Kind::Written(..));
        let side = |this: &Lowered, other: &Lowered, at: usize| -> Result<Lowered, Refused> {
            Ok(match (this.kind, other.kind) {
                (Kind::Result, kind) if number(kind) => self.double(this, at)?,
                (Kind::Result, Kind::Result) => self.double(this, at)?,
                (Kind::Result, _) => self.json(this.clone(), at)?,
                // Beside a double a number is written as one; beside a whole number and in JSON as it is.
                (Kind::Written(..), Kind::Double | Kind::Result | Kind::Written(..)) => {
                    self.double(this, at)?
                }
                _ => this.clone(),
            })
        };
        let (shown, beside) = (side(&left, &right, left_column)?, side(&right, &left, right_column)?);
        let (a, b) = (shown.kind, beside.kind);
        let loose = |kind| kind == Kind::Json;
        let fits = loose(a) || loose(b) || number(a) && number(b) || a == b;
        if !fits
            || !equality && (matches!(a, Kind::Bool | Kind::List) || matches!(b, Kind::Bool | Kind::List))
        {
            return refused(column, format!("{sign} stands between what cannot be compared"));
        }
        let text = format!("{} {sign} {}", shown.within(SUM), beside.within(SUM));
        Ok(part(text, RELATION, Kind::Bool))
    }

    /// Whether something is nil: null, or a field that is missing.
    fn absent(&mut self, of: &Lowered, equal: bool, column: usize) -> Result<Lowered, Refused> {
        match of.kind {
            Kind::Result => {
                self.leaves_no_data = true;
                Ok(constant(!equal))
            }
            Kind::Json if of.selects => {
                let text = &of.text;
                Ok(if equal {
                    part(format!("!has({text}) || {text} == null"), OR, Kind::Bool)
                } else {
                    part(format!("has({text}) && {text} != null"), AND, Kind::Bool)
                })
            }
            Kind::Json if of.text.ends_with("']") => {
                refused(column, "whether a field with such a name is missing is not known here")
            }
            Kind::Json => {
                let sign = if equal { "==" } else { "!=" };
                Ok(part(format!("{} {sign} null", of.within(SUM)), RELATION, Kind::Bool))
            }
            _ => refused(column, "this is never nil"),
        }
    }

    fn calculate(
        &self,
        operator: Operator,
        left: Lowered,
        right: Lowered,
        [column, left_column, right_column]: [usize; 3],
    ) -> Result<Lowered, Refused> {
        let (sign, tight) = match operator {
            Operator::Add => ("+", SUM),
            Operator::Subtract => ("-", SUM),
            Operator::Multiply => ("*", PRODUCT),
            Operator::Divide => ("/", PRODUCT),
            _ => ("%", PRODUCT),
        };
        let join = |left: &Lowered, right: &Lowered, kind| {
            part(format!("{} {sign} {}", left.within(tight), right.within(tight + 1)), tight, kind)
        };
        if operator == Operator::Add && (left.kind == Kind::Text || right.kind == Kind::Text) {
            let (left, right) = (self.json(left, left_column)?, self.json(right, right_column)?);
            let text = |kind| matches!(kind, Kind::Text | Kind::Json);
            if !text(left.kind) || !text(right.kind) {
                return refused(column, "+ stands between a text and what is none");
            }
            return Ok(join(&left, &right, Kind::Text));
        }
        let whole = |kind| matches!(kind, Kind::Int | Kind::Written(_, true));
        let ints =
            whole(left.kind) && whole(right.kind) && (left.kind == Kind::Int || right.kind == Kind::Int);
        if operator == Operator::Remainder && !ints {
            return refused(column, "% is for whole numbers: write asInt() around them");
        }
        if ints && operator != Operator::Divide {
            return Ok(join(&left, &right, Kind::Int));
        }
        let (left, right) = (self.double(&left, left_column)?, self.double(&right, right_column)?);
        Ok(join(&left, &right, Kind::Double))
    }
}

/// `json` of a web gate for a path; `None` for the whole answer.
pub(super) fn place(path: &[path::Step]) -> Option<String> {
    (!path.is_empty()).then(|| pointer(path))
}
