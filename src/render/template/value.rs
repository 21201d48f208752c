//! Values of Go, as far as templates see them.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;

/// A map is shared: `set` on one name shows at every other.
pub type Fields = Rc<RefCell<Table>>;

/// Longest text a value is printed as.
pub const MAX_TEXT: usize = 16 << 20;
/// Most values that one walk through a value meets: lists that hold themselves many times grow without bound.
const MAX_NODES: usize = 4_000_000;
/// Deepest nesting that is walked.
const MAX_DEPTH: usize = 400;

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
    Text(Arc<str>),
    /// `string` that is not UTF-8: it can be hashed and encoded, not printed.
    Bytes(Arc<[u8]>),
    /// `[]interface {}`.
    List(Rc<Items>),
    /// A nil of `[]interface {}`: it has no items, and JSON calls it null.
    NilList,
    /// `[]string`.
    Texts(Rc<Items>),
    /// `[]int`.
    Ints(Rc<Items>),
    /// `[][]interface {}`.
    Lists(Rc<Items>),
    /// `map[string]interface {}`.
    Map(Fields),
    /// `map[string]string`.
    TextMap(Fields),
    /// `chartutil.Values`, what `.` and `.Values` are: a map with methods.
    Values(Fields),
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
    /// Its bytes, for a `[]byte`: what Sprig makes a string of.
    fn bytes(&self) -> Option<Vec<u8>> {
        None
    }
    /// Whether this name is a method, which takes arguments, rather than a field.
    fn has_method(&self, _name: &str) -> bool {
        true
    }
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

/// The items of a list. They are let go one after the other: a million nested lists need no deep stack.
#[derive(Clone, Default)]
pub struct Items(Vec<Value>);

/// The entries of a map, in the order of their keys; let go as [`Items`] are.
#[derive(Clone, Default)]
pub struct Table(BTreeMap<String, Value>);

impl Deref for Items {
    type Target = Vec<Value>;

    fn deref(&self) -> &Vec<Value> {
        &self.0
    }
}

impl Deref for Table {
    type Target = BTreeMap<String, Value>;

    fn deref(&self) -> &BTreeMap<String, Value> {
        &self.0
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut BTreeMap<String, Value> {
        &mut self.0
    }
}

impl From<Vec<Value>> for Items {
    fn from(items: Vec<Value>) -> Self {
        Self(items)
    }
}

impl From<BTreeMap<String, Value>> for Table {
    fn from(fields: BTreeMap<String, Value>) -> Self {
        Self(fields)
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        if self.0.iter().any(Value::holds_others) {
            let_go(std::mem::take(&mut self.0));
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.0.values().any(Value::holds_others) {
            let_go(std::mem::take(&mut self.0).into_values().collect());
        }
    }
}

thread_local! {
    /// What waits to be let go, while something is.
    static WAITING: RefCell<Option<Vec<Value>>> = const { RefCell::new(None) };
}

fn let_go(values: Vec<Value>) {
    let waits = |values: Vec<Value>| {
        WAITING.with_borrow_mut(|waiting| {
            let busy = waiting.is_some();
            waiting.get_or_insert_default().extend(values);
            busy
        })
    };
    if waits(values) {
        return;
    }
    while let Some(value) = WAITING.with_borrow_mut(|waiting| waiting.as_mut().and_then(Vec::pop)) {
        drop(value);
    }
    WAITING.with_borrow_mut(|waiting| *waiting = None);
}

/// How far a walk through a value may still go.
struct Walk {
    nodes: usize,
    depth: usize,
}

const TOO_LARGE: &str = "the value is too large: more than 4,000,000 parts";
const TOO_DEEP: &str = "the value is nested deeper than 400 levels, or holds itself";

impl Walk {
    fn new() -> Self {
        Self { nodes: MAX_NODES, depth: MAX_DEPTH }
    }

    fn enter(&mut self) -> Result<(), String> {
        self.depth = self.depth.checked_sub(1).ok_or(TOO_DEEP)?;
        self.step()
    }

    fn step(&mut self) -> Result<(), String> {
        self.nodes = self.nodes.checked_sub(1).ok_or(TOO_LARGE)?;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth += 1;
    }
}

impl Value {
    /// A string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Arc::from(text.as_ref()))
    }

    /// A string of any bytes.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(error) => Self::Bytes(error.into_bytes().into()),
        }
    }

    /// A `[]interface {}`.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items.into()))
    }

    /// A `[]string`.
    pub fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Texts(Rc::new(items.into_iter().map(Self::text).collect::<Vec<_>>().into()))
    }

    /// A `[]int`.
    pub fn ints(items: impl IntoIterator<Item = i64>) -> Self {
        Self::Ints(Rc::new(items.into_iter().map(Self::Int).collect::<Vec<_>>().into()))
    }

    /// A `map[string]interface {}`.
    pub fn map(fields: BTreeMap<String, Self>) -> Self {
        Self::Map(Rc::new(RefCell::new(fields.into())))
    }

    /// A `map[string]string`.
    pub fn text_map(fields: BTreeMap<String, Self>) -> Self {
        Self::TextMap(Rc::new(RefCell::new(fields.into())))
    }

    /// A `chartutil.Values`, as Helm gives `.` and `.Values`.
    pub fn values(fields: BTreeMap<String, Self>) -> Self {
        Self::Values(Rc::new(RefCell::new(fields.into())))
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

    /// As JSON; infinities have no form there, nor has what holds itself.
    pub fn json(&self) -> Result<Json, String> {
        self.json_within(&mut Walk::new())
    }

    fn json_within(&self, walk: &mut Walk) -> Result<Json, String> {
        walk.step()?;
        Ok(match self {
            Self::Missing | Self::Nil | Self::NilList => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) | Self::Long(value) => (*value).into(),
            Self::Float(value) => whole_or_float(*value)
                .ok_or_else(|| format!("json: unsupported value: {}", go_float(*value)))?,
            Self::Text(text) => Json::String(text.to_string()),
            // As Go does: what is no character becomes U+FFFD.
            Self::Bytes(bytes) => Json::String(String::from_utf8_lossy(bytes).into_owned()),
            Self::List(items) | Self::Texts(items) | Self::Ints(items) | Self::Lists(items) => {
                walk.enter()?;
                let all = items.iter().map(|item| item.json_within(walk)).collect::<Result<_, _>>()?;
                walk.leave();
                Json::Array(all)
            }
            Self::Map(fields) | Self::TextMap(fields) | Self::Values(fields) => {
                walk.enter()?;
                let fields = fields.borrow();
                let all = fields.iter().map(|(name, value)| Ok((name.clone(), value.json_within(walk)?)));
                let all = all.collect::<Result<_, String>>()?;
                walk.leave();
                Json::Object(all)
            }
            Self::Object(object) => object.json(),
        })
    }

    /// Nothing, or nil.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Missing | Self::Nil)
    }

    fn holds_others(&self) -> bool {
        match self {
            Self::List(items) | Self::Lists(items) => Rc::strong_count(items) == 1,
            Self::Map(fields) | Self::Values(fields) => Rc::strong_count(fields) == 1,
            _ => false,
        }
    }

    /// Neither zero, nor empty, nor nil.
    pub fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil | Self::NilList => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Long(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(items) | Self::Texts(items) | Self::Ints(items) | Self::Lists(items) => {
                !items.is_empty()
            }
            Self::Map(fields) | Self::TextMap(fields) | Self::Values(fields) => !fields.borrow().is_empty(),
            Self::Object(object) => object.truth(),
        }
    }

    /// The items of any list.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) | Self::Texts(items) | Self::Ints(items) | Self::Lists(items) => Some(items),
            Self::NilList => Some(&[]),
            _ => None,
        }
    }

    /// The fields of any map.
    pub fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Map(fields) | Self::TextMap(fields) | Self::Values(fields) => Some(fields),
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
            Self::Text(_) | Self::Bytes(_) => "string",
            Self::List(_) | Self::NilList => "[]interface {}",
            Self::Texts(_) => "[]string",
            Self::Ints(_) => "[]int",
            Self::Lists(_) => "[][]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::TextMap(_) => "map[string]string",
            Self::Values(_) => "chartutil.Values",
            Self::Object(object) => object.type_name(),
        }
    }

    /// The Go kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "invalid",
            Self::List(_) | Self::NilList | Self::Texts(_) | Self::Ints(_) | Self::Lists(_) => "slice",
            Self::Map(_) | Self::TextMap(_) | Self::Values(_) => "map",
            Self::Object(object) => object.kind(),
            other => other.type_name(),
        }
    }

    /// As `%v` prints it; what is too long or too deep to be printed is cut. For errors.
    pub fn print(&self) -> String {
        let mut out = String::new();
        if self.print_into(&mut out).is_err() {
            let end = (0..=out.len().min(200)).rev().find(|end| out.is_char_boundary(*end)).unwrap_or(0);
            out.truncate(end);
            out.push_str("...");
        }
        out
    }

    /// As `%v` prints it.
    ///
    /// # Errors
    /// Where that is too long, holds itself, or is not UTF-8.
    pub fn show(&self) -> Result<String, String> {
        let mut out = String::new();
        self.print_into(&mut out)?;
        Ok(out)
    }

    /// As Sprig makes a string of it: bytes are text there.
    ///
    /// # Errors
    /// As [`Value::show`].
    pub fn as_text(&self) -> Result<Self, String> {
        match self {
            Self::Text(_) | Self::Bytes(_) => Ok(self.clone()),
            Self::Object(object) => match object.bytes() {
                Some(bytes) => Ok(Self::bytes(bytes)),
                None => Ok(Self::text(object.print())),
            },
            other => other.show().map(|text| Self::Text(text.into())),
        }
    }

    /// Appends what [`Value::show`] gives.
    ///
    /// # Errors
    /// As there.
    pub fn print_into(&self, out: &mut String) -> Result<(), String> {
        let limit = out.len() + MAX_TEXT;
        self.print_within(out, &mut Walk::new(), limit)
    }

    fn print_within(&self, out: &mut String, walk: &mut Walk, limit: usize) -> Result<(), String> {
        match self {
            Self::Missing | Self::Nil => out.push_str("<nil>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) | Self::Long(value) => drop(write!(out, "{value}")),
            Self::Float(value) => out.push_str(&go_float(*value)),
            Self::Text(text) => out.push_str(text),
            Self::Bytes(_) => return Err(NOT_TEXT.to_owned()),
            Self::NilList => out.push_str("[]"),
            Self::List(items) | Self::Texts(items) | Self::Ints(items) | Self::Lists(items) => {
                walk.enter()?;
                out.push('[');
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        out.push(' ');
                    }
                    item.print_within(out, walk, limit)?;
                }
                out.push(']');
                walk.leave();
            }
            Self::Map(fields) | Self::TextMap(fields) | Self::Values(fields) => {
                walk.enter()?;
                out.push_str("map[");
                for (number, (name, value)) in fields.borrow().iter().enumerate() {
                    if number > 0 {
                        out.push(' ');
                    }
                    out.push_str(name);
                    out.push(':');
                    value.print_within(out, walk, limit)?;
                }
                out.push(']');
                walk.leave();
            }
            Self::Object(object) => out.push_str(&object.print()),
        }
        if out.len() > limit { Err("the text would be longer than 16 MiB".to_owned()) } else { Ok(()) }
    }

    /// `reflect.DeepEqual`: types count.
    ///
    /// # Errors
    /// Where the values are too large to be compared.
    pub fn deep_equal(&self, other: &Self) -> Result<bool, String> {
        self.equal_within(other, &mut Walk::new())
    }

    fn equal_within(&self, other: &Self, walk: &mut Walk) -> Result<bool, String> {
        walk.step()?;
        if self.type_name() != other.type_name() {
            return Ok(false);
        }
        Ok(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a) | Self::Long(a), Self::Int(b) | Self::Long(b)) => a == b,
            #[expect(clippy::float_cmp, reason = "as Go compares")]
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Text(_), Self::Bytes(_)) | (Self::Bytes(_), Self::Text(_)) => false,
            (Self::NilList, Self::NilList) => true,
            (Self::NilList, _) | (_, Self::NilList) => false,
            (Self::Object(a), Self::Object(b)) => a.json() == b.json(),
            (a, b) => match (a.items(), b.items(), a.fields(), b.fields()) {
                (Some(a), Some(b), _, _) => {
                    if a.len() != b.len() {
                        return Ok(false);
                    }
                    walk.enter()?;
                    for (a, b) in a.iter().zip(b) {
                        if !a.equal_within(b, walk)? {
                            return Ok(false);
                        }
                    }
                    walk.leave();
                    true
                }
                (_, _, Some(a), Some(b)) if Rc::ptr_eq(a, b) => true,
                (_, _, Some(a), Some(b)) => {
                    let (a, b) = (a.borrow(), b.borrow());
                    if a.len() != b.len() {
                        return Ok(false);
                    }
                    walk.enter()?;
                    for (name, value) in a.iter() {
                        match b.get(name) {
                            Some(other) if value.equal_within(other, walk)? => {}
                            _ => return Ok(false),
                        }
                    }
                    walk.leave();
                    true
                }
                _ => true,
            },
        })
    }

    /// A copy that shares nothing.
    ///
    /// # Errors
    /// Where it would be too large.
    pub fn deep_copy(&self) -> Result<Self, String> {
        self.copy_within(&mut Walk::new())
    }

    fn copy_within(&self, walk: &mut Walk) -> Result<Self, String> {
        walk.step()?;
        let items = |items: &Items, walk: &mut Walk| -> Result<Rc<Items>, String> {
            walk.enter()?;
            let all = items.iter().map(|item| item.copy_within(walk)).collect::<Result<Vec<_>, _>>()?;
            walk.leave();
            Ok(Rc::new(all.into()))
        };
        let fields = |fields: &Fields, walk: &mut Walk| -> Result<Fields, String> {
            walk.enter()?;
            let fields = fields.borrow();
            let all = fields.iter().map(|(name, value)| Ok((name.clone(), value.copy_within(walk)?)));
            let all = all.collect::<Result<BTreeMap<_, _>, String>>()?;
            walk.leave();
            Ok(Rc::new(RefCell::new(all.into())))
        };
        Ok(match self {
            Self::List(all) => Self::List(items(all, walk)?),
            Self::Lists(all) => Self::Lists(items(all, walk)?),
            Self::Map(all) => Self::Map(fields(all, walk)?),
            Self::Values(all) => Self::Values(fields(all, walk)?),
            Self::TextMap(all) => Self::TextMap(fields(all, walk)?),
            other => other.clone(),
        })
    }

    /// `spf13/cast` to an integer: what cannot be read is 0.
    pub fn to_int(&self) -> i64 {
        match self {
            Self::Int(value) | Self::Long(value) => *value,
            Self::Float(value) => cut(*value),
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
    pub fn order(&self, other: &Self) -> Result<Option<Ordering>, String> {
        match (self, other) {
            (Self::Int(a) | Self::Long(a), Self::Int(b) | Self::Long(b)) => Ok(Some(a.cmp(b))),
            (Self::Float(a), Self::Float(b)) => Ok(a.partial_cmp(b)),
            (Self::Text(a), Self::Text(b)) => Ok(Some(a.cmp(b))),
            (Self::Bool(_), Self::Bool(_)) => Err("invalid type for comparison".to_owned()),
            (a, b) if a.is_basic() && b.is_basic() => Err(a.incompatible(b)),
            _ => Err("invalid type for comparison".to_owned()),
        }
    }

    /// What Go says of two types that cannot be compared.
    pub(super) fn incompatible(&self, other: &Self) -> String {
        format!("incompatible types for comparison: {} and {}", self.type_name(), other.type_name())
    }

    /// Bool, number or string.
    pub fn is_basic(&self) -> bool {
        matches!(
            self,
            Self::Bool(_) | Self::Int(_) | Self::Long(_) | Self::Float(_) | Self::Text(_) | Self::Bytes(_)
        )
    }
}

/// Why bytes cannot be printed.
pub(super) const NOT_TEXT: &str = "the text is not UTF-8 and cannot be used as text here";

/// A float as an integer: what is out of range is the least one, as on amd64.
#[expect(clippy::cast_possible_truncation, reason = "cut as Go cuts")]
fn cut(value: f64) -> i64 {
    if value.is_finite() && value.abs() < 9_223_372_036_854_775_808.0 { value as i64 } else { i64::MIN }
}

/// `strconv.ParseInt(text, 0, 0)` after a fraction of zeros is cut.
fn text_to_int(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => text,
    };
    super::parse::parse_int(whole)
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

/// A number as JSON shows it: whole ones without a fraction, with the shortest digits that mean them.
pub fn whole_or_float(value: f64) -> Option<Json> {
    if value.fract() == 0.0
        && value.abs() < 18_446_744_073_709_551_616.0
        && !(value == 0.0 && value.is_sign_negative())
    {
        let digits = value.to_string();
        let whole = digits.parse::<i64>().map(Json::from).or_else(|_| digits.parse::<u64>().map(Json::from));
        if let Ok(whole) = whole {
            return Some(whole);
        }
    }
    serde_json::Number::from_f64(value).map(Json::Number)
}
