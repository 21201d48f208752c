//! Values of Go, as far as templates see them.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::Value as Json;

/// A map is shared: `set` on one name shows at every other.
pub type Fields = Rc<RefCell<BTreeMap<String, Value>>>;

/// What a template works with.
#[derive(Clone)]
pub enum Value {
    /// No value at all: what a pipeline leaves of nil. Its fields are no values either.
    Missing,
    /// A nil in a map or list. Asking it for a field is an error.
    Nil,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `int64`, what arithmetic gives.
    Long(i64),
    /// `float64`, what YAML and JSON give for every number.
    Float(f64),
    /// `string`.
    Text(Rc<str>),
    /// `[]interface {}`.
    List(Rc<Vec<Value>>),
    /// `[]string`.
    Texts(Rc<Vec<Value>>),
    /// `[]int`.
    Ints(Rc<Vec<Value>>),
    /// `map[string]interface {}`.
    Map(Fields),
    /// `map[string]string`.
    TextMap(Fields),
    /// Something with fields and methods of its own.
    Object(Rc<dyn Object>),
}

/// A Go struct or named type that templates get.
pub trait Object {
    /// Its Go type, as `typeOf` shows it.
    fn type_name(&self) -> &'static str;
    /// `struct`, `map`, `slice`, ... as `kindOf` shows it.
    fn kind(&self) -> &'static str {
        "struct"
    }
    /// A field, or a method called with these arguments; `None` where it has no such thing.
    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>>;
    /// Keys and values for `range`; `None` where it cannot be ranged over.
    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        None
    }
    /// As `%v` prints it.
    fn print(&self) -> String;
    /// As JSON and YAML show it.
    fn json(&self) -> Json;
    /// Whether it counts as true.
    fn truth(&self) -> bool {
        true
    }
}

impl Value {
    /// A string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(text.as_ref()))
    }

    /// A `[]interface {}`.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    /// A `[]string`.
    pub fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Texts(Rc::new(items.into_iter().map(Self::text).collect()))
    }

    /// A `map[string]interface {}`.
    pub fn map(fields: BTreeMap<String, Self>) -> Self {
        Self::Map(Rc::new(RefCell::new(fields)))
    }

    /// From JSON, where every number is a float.
    pub fn from_json(value: &Json) -> Self {
        match value {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Float(number.as_f64().unwrap_or_default()),
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                Self::map(fields.iter().map(|(name, value)| (name.clone(), Self::from_json(value))).collect())
            }
        }
    }

    /// As JSON; infinities have no form there.
    pub fn json(&self) -> Result<Json, String> {
        Ok(match self {
            Self::Missing | Self::Nil => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) | Self::Long(value) => (*value).into(),
            Self::Float(value) => whole_or_float(*value)
                .ok_or_else(|| format!("json: unsupported value: {}", go_float(*value)))?,
            Self::Text(text) => Json::String(text.to_string()),
            Self::List(items) | Self::Texts(items) | Self::Ints(items) => {
                Json::Array(items.iter().map(Self::json).collect::<Result<_, _>>()?)
            }
            Self::Map(fields) | Self::TextMap(fields) => {
                let fields = fields.borrow();
                let all = fields.iter().map(|(name, value)| Ok((name.clone(), value.json()?)));
                Json::Object(all.collect::<Result<_, String>>()?)
            }
            Self::Object(object) => object.json(),
        })
    }

    /// Nothing, or nil.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Missing | Self::Nil)
    }

    /// Neither zero, nor empty, nor nil.
    pub fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Long(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) | Self::Texts(items) | Self::Ints(items) => !items.is_empty(),
            Self::Map(fields) | Self::TextMap(fields) => !fields.borrow().is_empty(),
            Self::Object(object) => object.truth(),
        }
    }

    /// The items of any list.
    pub fn items(&self) -> Option<&Rc<Vec<Self>>> {
        match self {
            Self::List(items) | Self::Texts(items) | Self::Ints(items) => Some(items),
            _ => None,
        }
    }

    /// The fields of any map.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Map(fields) | Self::TextMap(fields) => Some(fields),
            _ => None,
        }
    }

    /// The Go type, as `%T` shows it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Long(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Texts(_) => "[]string",
            Self::Ints(_) => "[]int",
            Self::Map(_) => "map[string]interface {}",
            Self::TextMap(_) => "map[string]string",
            Self::Object(object) => object.type_name(),
        }
    }

    /// The Go kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "invalid",
            Self::List(_) | Self::Texts(_) | Self::Ints(_) => "slice",
            Self::Map(_) | Self::TextMap(_) => "map",
            Self::Object(object) => object.kind(),
            other => other.type_name(),
        }
    }

    /// As `%v` prints it.
    pub fn print(&self) -> String {
        let mut out = String::new();
        self.print_into(&mut out);
        out
    }

    fn print_into(&self, out: &mut String) {
        match self {
            Self::Missing | Self::Nil => out.push_str("<nil>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) | Self::Long(value) => drop(write!(out, "{value}")),
            Self::Float(value) => out.push_str(&go_float(*value)),
            Self::Text(text) => out.push_str(text),
            Self::List(items) | Self::Texts(items) | Self::Ints(items) => {
                out.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        out.push(' ');
                    }
                    item.print_into(out);
                }
                out.push(']');
            }
            Self::Map(fields) | Self::TextMap(fields) => {
                out.push_str("map[");
                for (number, (name, value)) in fields.borrow().iter().enumerate() {
                    if number > 0 {
                        out.push(' ');
                    }
                    out.push_str(name);
                    out.push(':');
                    value.print_into(out);
                }
                out.push(']');
            }
            Self::Object(object) => out.push_str(&object.print()),
        }
    }

    /// `reflect.DeepEqual`: types count.
    pub fn deep_equal(&self, other: &Self) -> bool {
        if self.type_name() != other.type_name() {
            return false;
        }
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a) | Self::Long(a), Self::Int(b) | Self::Long(b)) => a == b,
            #[expect(clippy::float_cmp, reason = "as Go compares")]
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => a.json() == b.json(),
            (a, b) => match (a.items(), b.items(), a.fields(), b.fields()) {
                (Some(a), Some(b), _, _) => {
                    a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.deep_equal(b))
                }
                (_, _, Some(a), Some(b)) => {
                    Rc::ptr_eq(a, b) || {
                        let (a, b) = (a.borrow(), b.borrow());
                        a.len() == b.len()
                            && a.iter()
                                .all(|(name, value)| b.get(name).is_some_and(|other| value.deep_equal(other)))
                    }
                }
                _ => true,
            },
        }
    }

    /// A copy that shares nothing.
    #[must_use]
    pub fn deep_copy(&self) -> Self {
        let items = |items: &Rc<Vec<Self>>| Rc::new(items.iter().map(Self::deep_copy).collect::<Vec<_>>());
        let fields = |fields: &Fields| {
            let copied =
                fields.borrow().iter().map(|(name, value)| (name.clone(), value.deep_copy())).collect();
            Rc::new(RefCell::new(copied))
        };
        match self {
            Self::List(all) => Self::List(items(all)),
            Self::Texts(all) => Self::Texts(items(all)),
            Self::Ints(all) => Self::Ints(items(all)),
            Self::Map(all) => Self::Map(fields(all)),
            Self::TextMap(all) => Self::TextMap(fields(all)),
            other => other.clone(),
        }
    }

    /// `spf13/cast` to an integer: what cannot be read is 0.
    pub fn to_int(&self) -> i64 {
        match self {
            Self::Int(value) | Self::Long(value) => *value,
            #[expect(clippy::cast_possible_truncation, reason = "cut as Go cuts")]
            Self::Float(value) => *value as i64,
            Self::Bool(value) => i64::from(*value),
            Self::Text(text) => text_to_int(text).unwrap_or(0),
            Self::Object(object) => object.json().as_i64().unwrap_or(0),
            _ => 0,
        }
    }

    /// `spf13/cast` to a float.
    pub fn to_float(&self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "as Go does it")]
            Self::Int(value) | Self::Long(value) => *value as f64,
            Self::Float(value) => *value,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Text(text) => text.parse().unwrap_or(0.0),
            _ => 0.0,
        }
    }

    /// Order of two values of one basic kind, for `lt` and its like.
    pub fn order(&self, other: &Self) -> Result<Ordering, &'static str> {
        match (self, other) {
            (Self::Int(a) | Self::Long(a), Self::Int(b) | Self::Long(b)) => Ok(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Greater)),
            (Self::Text(a), Self::Text(b)) => Ok(a.cmp(b)),
            (Self::Bool(_), Self::Bool(_)) => Err("invalid type for comparison"),
            (a, b) if a.is_basic() && b.is_basic() => Err("incompatible types for comparison"),
            _ => Err("invalid type for comparison"),
        }
    }

    /// Bool, number or string.
    pub fn is_basic(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Int(_) | Self::Long(_) | Self::Float(_) | Self::Text(_))
    }
}

/// `strconv.ParseInt(text, 0, 0)` after leading zeros are cut, and whole parts of decimals.
fn text_to_int(text: &str) -> Option<i64> {
    let trimmed = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    };
    let (sign, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let digits = if digits.len() > 1 { digits.trim_start_matches('0') } else { digits };
    let digits = if digits.is_empty() { "0" } else { digits };
    let value = match digits.get(..1) {
        Some("x" | "X") => i64::from_str_radix(&digits[1..], 16).ok()?,
        Some("o" | "O") => i64::from_str_radix(&digits[1..], 8).ok()?,
        Some("b" | "B") => i64::from_str_radix(&digits[1..], 2).ok()?,
        _ => digits.replace('_', "").parse().ok()?,
    };
    Some(sign * value)
}

/// A float as Go's `%v` prints it.
pub fn go_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    value.to_string()
}

/// A number as JSON shows it: whole ones without a fraction.
pub fn whole_or_float(value: f64) -> Option<Json> {
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    if value.fract() == 0.0 && value.abs() < 9_223_372_036_854_775_808.0 {
        return Some((value as i64).into());
    }
    serde_json::Number::from_f64(value).map(Json::Number)
}
