//! The functions of templates: Go's own, Sprig's and Helm's, as far as they need nothing but their arguments.

mod compare;
mod date;
mod encode;
mod lists;
mod maps;
mod numbers;
mod paths;
mod print;
mod regexes;
mod semver;
mod texts;

use super::value::Value;

pub use self::date::time;
pub use self::encode::to_yaml;
pub use self::semver::{is_range, satisfies};

/// What a function takes at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Any,
    Text,
    Int,
    Float,
    Bool,
    Map,
    Time,
}

impl Parameter {
    pub(super) fn takes(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Text => matches!(value, Value::Text(_)),
            Self::Int => matches!(value, Value::Int(_)),
            Self::Float => matches!(value, Value::Float(_)),
            Self::Bool => matches!(value, Value::Bool(_)),
            // A nil map is an empty one.
            Self::Map => matches!(value, Value::Map(_) | Value::Missing),
            Self::Time => matches!(value, Value::Object(object) if object.type_name() == "time.Time"),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Bool => "bool",
            Self::Map => "map[string]interface {}",
            Self::Time => "time.Time",
        }
    }
}

/// The places of a function; the last may repeat.
#[derive(Clone, Copy)]
pub(super) struct Parameters {
    places: &'static [Parameter],
    repeats: bool,
}

impl Parameters {
    pub(super) fn at(&self, number: usize) -> Parameter {
        let last = self.places.last().copied().unwrap_or(Parameter::Any);
        self.places.get(number).copied().unwrap_or(last)
    }

    pub(super) fn wrong_count(&self, name: &str, count: usize) -> Option<String> {
        if self.repeats {
            let least = self.places.len() - 1;
            return (count < least)
                .then(|| format!("wrong number of args for {name}: want at least {least} got {count}"));
        }
        let wanted = self.places.len();
        (count != wanted).then(|| format!("wrong number of args for {name}: want {wanted} got {count}"))
    }
}

const A: Parameter = Parameter::Any;
const T: Parameter = Parameter::Text;
const I: Parameter = Parameter::Int;
const F: Parameter = Parameter::Float;
const B: Parameter = Parameter::Bool;
const M: Parameter = Parameter::Map;

/// Every function by its name: places, and whether the last repeats. A name twice would be a mistake; a test says so.
const TABLE: &[(&[&str], &[Parameter], bool)] = &[
    // Go's own.
    (&["and", "or", "print", "println", "html", "js", "urlquery"], &[A], true),
    (&["not", "len"], &[A], false),
    (&["index", "slice", "call"], &[A, A], true),
    (&["eq"], &[A, A], true),
    (&["ne", "lt", "le", "gt", "ge"], &[A, A], false),
    (&["printf"], &[T, A], true),
    // Helm's.
    (&["include"], &[T, A], false),
    (&["tpl"], &[T, A], false),
    (&["required"], &[T, A], false),
    (&["fail"], &[T], false),
    (&["lookup"], &[T, T, T, T], false),
    (&["toYaml", "toYamlPretty", "toJson", "toToml"], &[A], false),
    (&["fromYaml", "fromYamlArray", "fromJson", "fromJsonArray", "fromToml"], &[T], false),
    // Sprig's texts.
    (&["hello"], &[], false),
    (
        &[
            "trim",
            "upper",
            "lower",
            "title",
            "untitle",
            "nospace",
            "initials",
            "swapcase",
            "shuffle",
            "snakecase",
            "camelcase",
            "kebabcase",
            "atoi",
            "b64enc",
            "b64dec",
            "b32enc",
            "b32dec",
            "sha1sum",
            "sha256sum",
            "sha512sum",
            "adler32sum",
            "regexQuoteMeta",
            "base",
            "dir",
            "clean",
            "ext",
            "isAbs",
            "osBase",
            "osDir",
            "osClean",
            "osExt",
            "osIsAbs",
            "urlParse",
            "semver",
            "getHostByName",
            "mustFromJson",
            "genPrivateKey",
        ],
        &[T],
        false,
    ),
    (&["abbrev", "trunc", "repeat", "indent", "nindent", "wrap", "randBytesOf"], &[I, T], false),
    (&["abbrevboth", "substr"], &[I, I, T], false),
    (&["wrapWith"], &[I, T, T], false),
    (
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
            "regexMatch",
            "mustRegexMatch",
            "regexFind",
            "mustRegexFind",
            "semverCompare",
        ],
        &[T, T],
        false,
    ),
    (
        &[
            "replace",
            "regexReplaceAll",
            "mustRegexReplaceAll",
            "regexReplaceAllLiteral",
            "mustRegexReplaceAllLiteral",
        ],
        &[T, T, T],
        false,
    ),
    (&["regexFindAll", "mustRegexFindAll", "regexSplit", "mustRegexSplit"], &[T, T, I], false),
    (&["splitn"], &[T, I, T], false),
    (&["plural"], &[T, T, I], false),
    (&["quote", "squote", "cat"], &[A], true),
    (&["join"], &[T, A], false),
    (&["toString", "toStrings", "sortAlpha", "typeOf", "kindOf", "toDecimal"], &[A], false),
    (&["randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes"], &[I], false),
    (&["randInt"], &[I, I], false),
    (&["uuidv4"], &[], false),
    // Numbers.
    (&["int", "int64", "float64", "add1", "add1f", "floor", "ceil"], &[A], false),
    (&["add", "addf"], &[A], true),
    (&["sub", "div", "mod"], &[A, A], false),
    (&["mul", "subf", "divf", "mulf", "biggest", "max", "min", "maxf", "minf"], &[A, A], true),
    (&["round"], &[A, I, F], true),
    (&["seq"], &[I], true),
    (&["until"], &[I], false),
    (&["untilStep"], &[I, I, I], false),
    // Defaults.
    (&["default"], &[A, A], true),
    (
        &[
            "empty",
            "toPrettyJson",
            "toRawJson",
            "mustToJson",
            "mustToPrettyJson",
            "mustToRawJson",
            "deepCopy",
            "mustDeepCopy",
        ],
        &[A],
        false,
    ),
    (&["coalesce", "all", "any"], &[A], true),
    (&["ternary"], &[A, A, B], false),
    (&["typeIs", "typeIsLike", "kindIs"], &[T, A], false),
    (&["deepEqual"], &[A, A], false),
    // Lists.
    (&["list", "tuple", "concat"], &[A], true),
    (
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
        &["append", "push", "mustAppend", "mustPush", "prepend", "mustPrepend", "has", "mustHas"],
        &[A, A],
        false,
    ),
    (&["without", "mustWithout", "mustSlice"], &[A, A], true),
    (&["chunk", "mustChunk"], &[I, A], false),
    // Maps.
    (&["dict"], &[A], true),
    (&["get", "unset", "hasKey"], &[M, T], false),
    (&["set"], &[M, T, A], false),
    (&["pluck"], &[T, M], true),
    (&["keys"], &[M], true),
    (&["pick", "omit"], &[M, T], true),
    (&["merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite"], &[M, M], true),
    (&["values"], &[M], false),
    (&["dig"], &[A], true),
    // URLs and dates.
    (&["urlJoin"], &[M], false),
    (&["now"], &[], false),
    (&["date", "date_in_zoneless"], &[T, A], false),
    (&["date_in_zone", "dateInZone"], &[T, A, T], false),
    (&["htmlDate", "ago", "duration", "durationRound"], &[A], false),
    (&["htmlDateInZone"], &[A, T], false),
    (&["unixEpoch"], &[Parameter::Time], false),
    (&["dateModify", "date_modify", "mustDateModify", "must_date_modify"], &[T, Parameter::Time], false),
    (&["toDate", "mustToDate"], &[T, T], false),
    // Of these no result could be the same twice; see `call`.
    (&["bcrypt"], &[T], false),
    (&["htpasswd", "encryptAES", "decryptAES"], &[T, T], false),
    (&["derivePassword"], &[A, T, T, T, T], false),
    (
        &[
            "genCA",
            "genCAWithKey",
            "genSelfSignedCert",
            "genSelfSignedCertWithKey",
            "genSignedCert",
            "genSignedCertWithKey",
            "buildCustomCert",
        ],
        &[A],
        true,
    ),
];

/// Functions that cannot be had here.
const REFUSED: &[&str] = &[
    "genCA",
    "genCAWithKey",
    "genSelfSignedCert",
    "genSelfSignedCertWithKey",
    "genSignedCert",
    "genSignedCertWithKey",
    "genPrivateKey",
    "buildCustomCert",
    "bcrypt",
    "htpasswd",
    "encryptAES",
    "decryptAES",
    "derivePassword",
    "shuffle",
    "randAlphaNum",
    "randAlpha",
    "randAscii",
    "randNumeric",
    "randBytes",
    "randInt",
    "uuidv4",
    "toToml",
    "fromToml",
    "toYamlPretty",
];

/// Whether templates may name it.
pub(super) fn exists(name: &str) -> bool {
    TABLE.iter().any(|(names, _, _)| names.contains(&name))
}

pub(super) fn parameters(name: &str) -> Parameters {
    let found = TABLE.iter().find(|(names, _, _)| names.contains(&name));
    found.map_or(Parameters { places: &[A], repeats: true }, |(_, places, repeats)| Parameters {
        places,
        repeats: *repeats,
    })
}

type Called = Option<Result<Value, String>>;

/// Calls a function; its arguments are of the types that its places take.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    if REFUSED.contains(&name) {
        return Err(format!(
            "{name} is not available here: its result is never the same twice, or it is not built yet"
        ));
    }
    None.or_else(|| compare::call(name, arguments))
        .or_else(|| texts::call(name, arguments))
        .or_else(|| lists::call(name, arguments))
        .or_else(|| maps::call(name, arguments))
        .or_else(|| numbers::call(name, arguments))
        .or_else(|| encode::call(name, arguments))
        .or_else(|| print::call(name, arguments))
        .or_else(|| regexes::call(name, arguments))
        .or_else(|| paths::call(name, arguments))
        .or_else(|| semver::call(name, arguments))
        .or_else(|| date::call(name, arguments))
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

/// An argument, or no value.
fn any(arguments: &[Value], at: usize) -> &Value {
    arguments.get(at).unwrap_or(&Value::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once() {
        let mut names: Vec<&str> = TABLE.iter().flat_map(|(names, _, _)| names.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(REFUSED.iter().all(|name| exists(name)));
    }
}
