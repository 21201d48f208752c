//! The functions of templates: Go's own, Sprig's and Helm's.

mod certificates;
mod ciphers;
mod compare;
mod date;
mod encode;
mod json;
mod keys;
mod lists;
mod maps;
mod numbers;
mod paths;
mod print;
mod regexes;
mod secrets;
mod semver;
mod texts;
mod toml;
mod urls;
mod words;
mod yaml;

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use super::exec::Run;
use super::host::{self, CallError, Host};
use super::value::{NOT_TEXT, Value};

pub use self::date::time;
pub use self::encode::to_yaml;
pub use self::semver::{is_range, satisfies};

pub(super) use self::print::quoted;

/// What a function takes at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Any,
    /// `reflect.Value`: a value as it is, nil or not.
    Reflected,
    Text,
    Int,
    Float,
    Bool,
    Map,
    Time,
    /// `uint32`.
    Count,
    /// What `genCA` gives.
    Certificate,
    /// `[]interface {}`.
    Items,
}

impl Parameter {
    pub(super) fn takes(self, value: &Value) -> bool {
        match self {
            Self::Any | Self::Reflected => true,
            Self::Text => matches!(value, Value::Text(_) | Value::Bytes(_)),
            Self::Int => matches!(value, Value::Int(_)),
            Self::Float => matches!(value, Value::Float(_)),
            Self::Bool => matches!(value, Value::Bool(_)),
            // A nil map is an empty one.
            Self::Map => matches!(value, Value::Map(_) | Value::Values(_) | Value::Missing),
            Self::Time => matches!(value, Value::Object(object) if object.type_name() == "time.Time"),
            Self::Items => matches!(value, Value::List(_) | Value::NilList | Value::Missing),
            // Only a constant can be one.
            Self::Count => false,
            Self::Certificate => matches!(value, Value::Object(object) if object.type_name() == CERTIFICATE),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Reflected => "reflect.Value",
            Self::Text => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Bool => "bool",
            Self::Map => "map[string]interface {}",
            Self::Time => "time.Time",
            Self::Count => "uint32",
            Self::Certificate => CERTIFICATE,
            Self::Items => "[]interface {}",
        }
    }
}

type Called = Option<Result<Value, String>>;

/// What a function does.
#[derive(Clone, Copy)]
pub(super) enum Does {
    And,
    Or,
    /// Something that needs nothing but its arguments.
    Pure(fn(&str, &[Value]) -> Called),
    /// Something that needs the run.
    Host(fn(&mut Run<'_>, &str, &[Value]) -> Result<Value, CallError>),
}

/// A function: its places, of which the last may repeat.
pub(super) struct Function {
    pub(super) name: &'static str,
    places: &'static [Parameter],
    repeats: bool,
    pub(super) does: Does,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Functions of texts that take any bytes.
const OF_BYTES: &[&str] =
    &["b64enc", "b32enc", "sha1sum", "sha256sum", "sha512sum", "adler32sum", "encryptAES"];

impl Function {
    pub(super) fn parameter(&self, number: usize) -> Parameter {
        let last = self.places.last().copied().unwrap_or(Parameter::Any);
        self.places.get(number).copied().unwrap_or(last)
    }

    /// What Go says of a wrong number of arguments; of those, `written` stand in the command itself.
    pub(super) fn wrong_count(&self, count: usize, written: usize) -> Option<String> {
        let name = self.name;
        if self.repeats {
            let least = self.places.len() - 1;
            return (count < least)
                .then(|| format!("wrong number of args for {name}: want at least {least} got {written}"));
        }
        let wanted = self.places.len();
        (count != wanted).then(|| format!("wrong number of args for {name}: want {wanted} got {count}"))
    }

    /// Texts that are not UTF-8 are for few functions.
    pub(super) fn refuse_bytes(&self, arguments: &[Value]) -> Result<(), String> {
        let refused = arguments.iter().enumerate().any(|(number, value)| {
            matches!(value, Value::Bytes(_)) && self.parameter(number) == Parameter::Text
        });
        if refused && !OF_BYTES.contains(&self.name) { Err(NOT_TEXT.to_owned()) } else { Ok(()) }
    }
}

/// The Go type of what `genCA` gives.
const CERTIFICATE: &str = "sprig.certificate";

const A: Parameter = Parameter::Any;
const R: Parameter = Parameter::Reflected;
const T: Parameter = Parameter::Text;
const I: Parameter = Parameter::Int;
const F: Parameter = Parameter::Float;
const B: Parameter = Parameter::Bool;
const M: Parameter = Parameter::Map;
const L: Parameter = Parameter::Items;

const HOST: Does = Does::Host(host::call);
const COMPARE: Does = Does::Pure(compare::call);
const TEXTS: Does = Does::Pure(texts::call);
const LISTS: Does = Does::Pure(lists::call);
const MAPS: Does = Does::Pure(maps::call);
const NUMBERS: Does = Does::Pure(numbers::call);
const ENCODE: Does = Does::Pure(encode::call);
const PRINT: Does = Does::Pure(print::call);
const REGEXES: Does = Does::Pure(regexes::call);
const PATHS: Does = Does::Pure(paths::call);
const SEMVER: Does = Does::Pure(semver::call);
const DATE: Does = Does::Pure(date::call);
const CIPHERS: Does = Does::Pure(ciphers::call);

/// Every function: who does it, its names, its places, and whether the last repeats. A name twice would be a mistake;
/// a test says so.
const TABLE: &[(Does, &[&str], &[Parameter], bool)] = &[
    // Go's own.
    (Does::And, &["and"], &[R, R], true),
    (Does::Or, &["or"], &[R, R], true),
    (PRINT, &["print", "println", "html", "js", "urlquery"], &[A], true),
    (PRINT, &["printf"], &[T, A], true),
    (COMPARE, &["not", "len"], &[R], false),
    (COMPARE, &["index", "call", "eq"], &[R, R], true),
    (COMPARE, &["ne", "lt", "le", "gt", "ge"], &[R, R], false),
    (COMPARE, &["slice", "mustSlice"], &[A, A], true),
    // Helm's.
    (HOST, &["include", "tpl", "required"], &[T, A], false),
    (HOST, &["fail"], &[T], false),
    (HOST, &["lookup"], &[T, T, T, T], false),
    (ENCODE, &["toYaml", "toYamlPretty", "toJson", "toToml"], &[A], false),
    (ENCODE, &["fromYaml", "fromYamlArray", "fromJson", "fromJsonArray", "fromToml"], &[T], false),
    // Sprig's texts.
    (TEXTS, &["hello"], &[], false),
    (
        TEXTS,
        &[
            "trim",
            "upper",
            "lower",
            "title",
            "untitle",
            "nospace",
            "initials",
            "swapcase",
            "snakecase",
            "camelcase",
            "kebabcase",
            "atoi",
            "getHostByName",
        ],
        &[T],
        false,
    ),
    (
        ENCODE,
        &[
            "b64enc",
            "b64dec",
            "b32enc",
            "b32dec",
            "sha1sum",
            "sha256sum",
            "sha512sum",
            "adler32sum",
            "mustFromJson",
        ],
        &[T],
        false,
    ),
    (REGEXES, &["regexQuoteMeta"], &[T], false),
    (
        PATHS,
        &[
            "base", "dir", "clean", "ext", "isAbs", "osBase", "osDir", "osClean", "osExt", "osIsAbs",
            "urlParse",
        ],
        &[T],
        false,
    ),
    (TEXTS, &["abbrev", "trunc", "repeat", "indent", "nindent", "wrap"], &[I, T], false),
    (TEXTS, &["abbrevboth", "substr"], &[I, I, T], false),
    (TEXTS, &["wrapWith"], &[I, T, T], false),
    (
        TEXTS,
        &[
            "trimall",
            "trimAll",
            "trimSuffix",
            "trimPrefix",
            "contains",
            "hasPrefix",
            "hasSuffix",
            "split",
            "splitList",
        ],
        &[T, T],
        false,
    ),
    (REGEXES, &["regexMatch", "mustRegexMatch", "regexFind", "mustRegexFind"], &[T, T], false),
    (TEXTS, &["replace"], &[T, T, T], false),
    (
        REGEXES,
        &["regexReplaceAll", "mustRegexReplaceAll", "regexReplaceAllLiteral", "mustRegexReplaceAllLiteral"],
        &[T, T, T],
        false,
    ),
    (REGEXES, &["regexFindAll", "mustRegexFindAll", "regexSplit", "mustRegexSplit"], &[T, T, I], false),
    (TEXTS, &["splitn"], &[T, I, T], false),
    (TEXTS, &["plural"], &[T, T, I], false),
    (TEXTS, &["quote", "squote", "cat"], &[A], true),
    (TEXTS, &["join"], &[T, A], false),
    (TEXTS, &["toString", "toStrings", "sortAlpha"], &[A], false),
    (SEMVER, &["semver"], &[T], false),
    (SEMVER, &["semverCompare"], &[T, T], false),
    // Randomness.
    (HOST, &["shuffle"], &[T], false),
    (HOST, &["randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes"], &[I], false),
    (HOST, &["randInt"], &[I, I], false),
    (HOST, &["uuidv4"], &[], false),
    // Numbers.
    (NUMBERS, &["int", "int64", "float64", "add1", "add1f", "floor", "ceil", "toDecimal"], &[A], false),
    (NUMBERS, &["add", "addf"], &[A], true),
    (NUMBERS, &["sub", "div", "mod"], &[A, A], false),
    (NUMBERS, &["mul", "subf", "divf", "mulf", "biggest", "max", "min", "maxf", "minf"], &[A, A], true),
    (NUMBERS, &["round"], &[A, I, F], true),
    (LISTS, &["seq"], &[I], true),
    (LISTS, &["until"], &[I], false),
    (LISTS, &["untilStep"], &[I, I, I], false),
    // Defaults and types.
    (COMPARE, &["default"], &[A, A], true),
    (COMPARE, &["empty", "typeOf", "kindOf"], &[A], false),
    (COMPARE, &["coalesce", "all", "any"], &[A], true),
    (COMPARE, &["ternary"], &[A, A, B], false),
    (COMPARE, &["typeIs", "typeIsLike", "kindIs"], &[T, A], false),
    (COMPARE, &["deepEqual"], &[A, A], false),
    (ENCODE, &["toPrettyJson", "toRawJson", "mustToJson", "mustToPrettyJson", "mustToRawJson"], &[A], false),
    // Lists.
    (LISTS, &["list", "tuple", "concat"], &[A], true),
    (
        LISTS,
        &[
            "first",
            "mustFirst",
            "rest",
            "mustRest",
            "last",
            "mustLast",
            "initial",
            "mustInitial",
            "reverse",
            "mustReverse",
            "uniq",
            "mustUniq",
            "compact",
            "mustCompact",
        ],
        &[A],
        false,
    ),
    (
        LISTS,
        &["append", "push", "mustAppend", "mustPush", "prepend", "mustPrepend", "has", "mustHas"],
        &[A, A],
        false,
    ),
    (LISTS, &["without", "mustWithout"], &[A, A], true),
    (LISTS, &["chunk", "mustChunk"], &[I, A], false),
    // Maps.
    (MAPS, &["dict"], &[A], true),
    (MAPS, &["get", "unset", "hasKey"], &[M, T], false),
    (HOST, &["set"], &[M, T, A], false),
    (MAPS, &["pluck"], &[T, M], true),
    (MAPS, &["keys"], &[M], true),
    (MAPS, &["pick", "omit"], &[M, T], true),
    (MAPS, &["merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite"], &[M, M], true),
    (MAPS, &["values"], &[M], false),
    (MAPS, &["dig"], &[A], true),
    (MAPS, &["deepCopy", "mustDeepCopy"], &[A], false),
    // URLs and dates.
    (PATHS, &["urlJoin"], &[M], false),
    (HOST, &["now"], &[], false),
    (HOST, &["date"], &[T, A], false),
    (HOST, &["date_in_zone", "dateInZone"], &[T, A, T], false),
    (HOST, &["htmlDate", "ago", "durationRound"], &[A], false),
    (HOST, &["htmlDateInZone"], &[A, T], false),
    (DATE, &["duration"], &[A], false),
    (DATE, &["unixEpoch"], &[Parameter::Time], false),
    (
        DATE,
        &["dateModify", "date_modify", "mustDateModify", "must_date_modify"],
        &[T, Parameter::Time],
        false,
    ),
    (DATE, &["toDate", "mustToDate"], &[T, T], false),
    // Secrets.
    (HOST, &["bcrypt"], &[T], false),
    (HOST, &["htpasswd", "encryptAES"], &[T, T], false),
    (CIPHERS, &["decryptAES"], &[T, T], false),
    (CIPHERS, &["derivePassword"], &[Parameter::Count, T, T, T, T], false),
    (HOST, &["genPrivateKey"], &[T], false),
    (HOST, &["genCA"], &[T, I], false),
    (HOST, &["genCAWithKey"], &[T, I, T], false),
    (HOST, &["genSelfSignedCert"], &[T, L, L, I], false),
    (HOST, &["genSelfSignedCertWithKey"], &[T, L, L, I, T], false),
    (HOST, &["genSignedCert"], &[T, L, L, I, Parameter::Certificate], false),
    (HOST, &["genSignedCertWithKey"], &[T, L, L, I, Parameter::Certificate, T], false),
    (HOST, &["buildCustomCert"], &[T, T], false),
];

/// The function of a name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    static ALL: OnceLock<HashMap<&'static str, Function>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let mut all = HashMap::new();
        for (does, names, places, repeats) in TABLE {
            for name in *names {
                all.insert(*name, Function { name, places, repeats: *repeats, does: *does });
            }
        }
        all
    });
    all.get(name)
}

/// Calls a function that asks for the time or for randomness.
pub(super) fn ask(host: &mut Host, name: &str, arguments: &[Value]) -> Result<Value, String> {
    None.or_else(|| date::ask(host, name, arguments))
        .or_else(|| secrets::call(host, name, arguments))
        .or_else(|| certificates::call(host, name, arguments))
        .unwrap_or_else(|| Err(format!("{name} is not built here")))
}

/// The text of an argument that is one.
fn text(arguments: &[Value], at: usize) -> &str {
    match arguments.get(at) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// The integer of an argument that is one.
fn int(arguments: &[Value], at: usize) -> i64 {
    match arguments.get(at) {
        Some(Value::Int(value) | Value::Long(value)) => *value,
        _ => 0,
    }
}

/// The bytes of a text.
fn bytes(arguments: &[Value], at: usize) -> &[u8] {
    match arguments.get(at) {
        Some(Value::Text(text)) => text.as_bytes(),
        Some(Value::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

/// An argument, or no value.
fn any(arguments: &[Value], at: usize) -> &Value {
    arguments.get(at).unwrap_or(&Value::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let mut names: Vec<&str> = TABLE.iter().flat_map(|(_, names, _, _)| names.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
