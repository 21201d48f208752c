//! Objects beside the schemas of their kinds: Kubernetes' own from a table, others from CRDs.
//!
//! The table is written from Kubernetes' published OpenAPI and Go types by `examples/schemas`; its schemas and those of
//! CRDs are read by one validator. Null stands for a field that is not there, as for the API server.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use regex::Regex;
use serde_json::Value;

use super::Subject;
use super::rule::{Out, rules};
use crate::model::Gvk;
use crate::render::explain::below;

rules! { "Schema":
    UNKNOWN_FIELD "unknown-field" Error Certain
        "a field that the kind does not have"
        "The API server refuses it under server-side apply, and drops it without a word where fields are pruned: either way it does nothing. Correct the name (fields are camelCase and case counts) or its place in the object."
    WRONG_TYPE "wrong-type" Error Certain
        "a value of another type than the field's"
        "The API server refuses the object. Texts such as \"8080\", \"true\" and \"1.10\" need quotes, numbers must not have any; a list begins each item with a dash."
    MISSING_FIELD "missing-field" Error Certain
        "a field that must be there is not"
        "The API server refuses the object. Add the field; `kubectl explain KIND.spec` documents it."
    INVALID_VALUE "invalid-value" Error Certain
        "a value that the field does not take"
        "It is none of the words that the field knows, does not match its pattern, or is beyond its limits; the API server refuses the object. Words are case-sensitive."
    REMOVED_API "removed-api" Error Certain
        "an API version that Kubernetes no longer serves"
        "The server answers that it knows no such kind, and the sync fails. The message names the release that removed it and what takes its place; --kube-version says which release you run."
    DEPRECATED_API "deprecated-api" Warning Certain
        "an API version that a later Kubernetes removes"
        "It works today and stops working with the upgrade that the message names. Move to the version that takes its place before."
    UNKNOWN_KIND "unknown-kind" Error Certain
        "no such kind in this group and version of Kubernetes"
        "The group is Kubernetes' own, and this version of it does not have the kind: the name is misspelt, or kind and apiVersion do not belong together."
    UNKNOWN_VERSION "unknown-version" Error Certain
        "a version that the CRD of the tree does not serve"
        "The CustomResourceDefinition stands in the same tree and does not serve this version, so the object cannot be applied. Use one of the versions that the message names."
}

/// A release of Kubernetes, `1.N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

/// The release that the table was written from.
pub const KUBERNETES: Version = Version(36);

impl Version {
    /// From `1.31`, `v1.31.2` and their like.
    pub fn parse(text: &str) -> Option<Self> {
        let minor = text.strip_prefix('v').unwrap_or(text).strip_prefix("1.")?;
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// The schemas of CRDs, beside Kubernetes' own.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    /// By group and kind; by version, with none for one that is not served.
    definitions: HashMap<(String, String), Versions>,
}

type Versions = HashMap<String, Option<Arc<Value>>>;

impl Schemas {
    /// Adds kinds that are not known yet.
    pub fn fill(&mut self, other: Self) {
        for (kind, versions) in other.definitions {
            self.definitions.entry(kind).or_insert(versions);
        }
    }

    /// Adds the schemas of a `CustomResourceDefinition`; anything else is passed over.
    pub fn add(&mut self, definition: &Value) {
        let text = |path: &str| definition.pointer(path).and_then(Value::as_str);
        let is_definition = text("/kind") == Some("CustomResourceDefinition")
            && text("/apiVersion").is_some_and(|version| version.starts_with("apiextensions.k8s.io/"));
        let (Some(group), Some(kind)) = (text("/spec/group"), text("/spec/names/kind")) else { return };
        if !is_definition {
            return;
        }
        let common = definition.pointer("/spec/validation/openAPIV3Schema");
        // A patch of a CRD says nothing of its versions.
        let Some(versions) = definition.pointer("/spec/versions").and_then(Value::as_array) else { return };
        let known = self.definitions.entry((group.to_owned(), kind.to_owned())).or_default();
        for version in versions {
            let Some(name) = version.get("name").and_then(Value::as_str) else { continue };
            let served = version.get("served").and_then(Value::as_bool).unwrap_or(false);
            let schema = version.pointer("/schema/openAPIV3Schema").or(common);
            // The first that is read counts: what the user names comes before what is built in.
            known.entry(name.to_owned()).or_insert_with(|| {
                served.then(|| Arc::new(schema.cloned().unwrap_or(Value::Object(serde_json::Map::new()))))
            });
        }
    }
}

/// What `examples/schemas` wrote.
struct Table {
    types: Vec<Value>,
    kinds: HashMap<String, usize>,
    metadata: usize,
    /// Deprecated and removed in, and what takes its place; by `group/version/Kind`.
    ends: HashMap<String, (Option<u32>, Option<u32>, String)>,
}

/// Decoded at the first use: a command that checks nothing does not pay for it.
fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| read_table().unwrap_or_default())
}

impl Default for Table {
    fn default() -> Self {
        Self { types: Vec::new(), kinds: HashMap::new(), metadata: usize::MAX, ends: HashMap::new() }
    }
}

fn read_table() -> Option<Table> {
    let mut text = String::new();
    let bytes = &include_bytes!("data/kubernetes.json.z")[..];
    flate2::read::ZlibDecoder::new(bytes).read_to_string(&mut text).ok()?;
    let mut value: Value = serde_json::from_str(&text).ok()?;
    let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
    let release = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let ends = value.get("ends")?.as_object()?.iter().filter_map(|(name, end)| {
        let end = end.as_array()?;
        Some((name.clone(), (release(end.first()?), release(end.get(1)?), end.get(2)?.as_str()?.to_owned())))
    });
    let ends = ends.collect();
    let kinds = value.get("kinds")?.as_object()?.iter();
    let kinds = kinds.filter_map(|(name, at)| Some((name.clone(), number(at)?))).collect();
    let metadata = number(value.get("metadata")?)?;
    let Value::Array(types) = value.get_mut("types")?.take() else { return None };
    Some(Table { types, kinds, metadata, ends })
}

/// Groups whose kinds are all Kubernetes' own, so that an unknown one is a mistake.
const GROUPS: &[&str] = &[
    "",
    "apps",
    "batch",
    "autoscaling",
    "policy",
    "rbac.authorization.k8s.io",
    "networking.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "certificates.k8s.io",
    "events.k8s.io",
    "resource.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
];

/// Checks an object against the schema of its kind; false where there is none.
pub(super) fn check(subject: &Subject, schemas: &Schemas, release: Version, out: &mut Out) -> bool {
    let Gvk { group, version, kind } = &subject.gvk;
    let table = table();
    let name = format!("{group}/{version}/{kind}");
    let end = table.ends.get(&name);
    if let Some((deprecated, removed, instead)) = end {
        let instead =
            if instead.is_empty() { "nothing takes its place".to_owned() } else { format!("use {instead}") };
        let api = subject.gvk.api_version();
        match (removed, deprecated) {
            (Some(removed), _) if *removed <= release.0 => {
                let why = format!("{api} {kind} is gone since Kubernetes 1.{removed}; {instead}");
                out.add(&REMOVED_API, "/apiVersion", why);
            }
            (removed, Some(deprecated)) if *deprecated <= release.0 => {
                let until = removed.map(|removed| format!(" and gone with 1.{removed}")).unwrap_or_default();
                let why =
                    format!("{api} {kind} is deprecated since Kubernetes 1.{deprecated}{until}; {instead}");
                out.add(&DEPRECATED_API, "/apiVersion", why);
            }
            _ => {}
        }
    }
    let mut checker = Checker { out, secret: subject.is("", "Secret"), budget: MAX_VALUES, table };
    if let Some(at) = table.kinds.get(&name) {
        checker.value(&subject.value, Schema::Table(*at), "", true);
        return true;
    }
    if let Some(versions) = schemas.definitions.get(&(group.clone(), kind.clone())) {
        if let Some(Some(schema)) = versions.get(version) {
            checker.root(&subject.value, schema);
        } else {
            let mut served: Vec<&str> = (versions.iter())
                .filter(|(_, schema)| schema.is_some())
                .map(|(version, _)| version.as_str())
                .collect();
            served.sort_unstable();
            let why = format!("the CRD of {kind} serves {}, not {version}", served.join(", "));
            out.add(&UNKNOWN_VERSION, "/apiVersion", why);
        }
        return true;
    }
    // A version of another release is told by its end, or not known here at all.
    if GROUPS.contains(&group.as_str()) && end.is_none() {
        let prefix = format!("{group}/{version}/");
        let of_version = table.kinds.keys().any(|known| known.starts_with(&prefix));
        let suffix = format!("/{kind}");
        let own = format!("{group}/");
        let elsewhere = (table.kinds.keys())
            .filter(|known| known.ends_with(&suffix))
            .map(|known| known.trim_end_matches(&suffix).trim_start_matches('/'))
            .min_by_key(|known| (!known.starts_with(&own), known.len()));
        match elsewhere {
            Some(other) => {
                let why = format!("{} has no {kind}; it is in {other}", subject.gvk.api_version());
                out.add(&UNKNOWN_KIND, "/apiVersion", why);
            }
            None if of_version => {
                let near = nearest(kind, table.kinds.keys().filter_map(|known| known.strip_prefix(&prefix)));
                let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                let why = format!("{} has no kind {kind}{near}", subject.gvk.api_version());
                out.add(&UNKNOWN_KIND, "/kind", why);
            }
            None => {}
        }
        return true;
    }
    end.is_some()
}

/// Most values of one object that are looked at.
const MAX_VALUES: usize = 1_000_000;
/// A text that a message quotes is cut here.
const QUOTED: usize = 60;

#[derive(Clone, Copy)]
enum Schema<'a> {
    Table(usize),
    Inline(&'a Value),
}

struct Checker<'a> {
    out: &'a mut Out,
    /// Whether values must not be quoted.
    secret: bool,
    budget: usize,
    table: &'static Table,
}

impl Checker<'_> {
    /// An object of a CRD: what every object has is not in its schema.
    fn root(&mut self, value: &Value, schema: &Value) {
        if let Some(metadata) = value.get("metadata") {
            self.value(metadata, Schema::Table(self.table.metadata), "/metadata", true);
        }
        self.value(value, Schema::Inline(schema), "", true);
    }

    fn value(&mut self, value: &Value, schema: Schema<'_>, path: &str, closed: bool) {
        let schema = match schema {
            Schema::Inline(schema) => schema,
            Schema::Table(at) => match self.table.types.get(at) {
                Some(schema) => schema,
                None => return,
            },
        };
        if value.is_null() || self.budget == 0 {
            return;
        }
        self.budget -= 1;
        if let Some(at) = schema.get("$ref").and_then(Value::as_u64) {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            return self.value(value, Schema::Table(at), path, closed);
        }
        if let Some(wanted) = other_type(value, schema) {
            let found = self.quote(value);
            self.out.add(&WRONG_TYPE, path, format!("{} is {found}, not {wanted}", field(path)));
            return;
        }
        if let Some(why) = refused(value, schema) {
            let found = self.quote(value);
            self.out.add(&INVALID_VALUE, path, format!("{} is {found}: {why}", field(path)));
        }
        match value {
            Value::Object(fields) => {
                self.fields(fields, schema, path, closed);
                self.combined(value, schema, path);
            }
            Value::Array(items) => {
                if let Some(inner) = schema.get("items") {
                    for (at, item) in items.iter().enumerate() {
                        self.value(item, Schema::Inline(inner), &format!("{path}/{at}"), closed);
                    }
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, fields: &serde_json::Map<String, Value>, schema: &Value, path: &str, closed: bool) {
        let known = schema.get("properties").and_then(Value::as_object);
        let open = schema.get("additionalProperties");
        let set = |name: &str| schema.get(name).and_then(Value::as_bool) == Some(true);
        let embedded = set("x-kubernetes-embedded-resource") || path.is_empty();
        // What `x-kubernetes-preserve-unknown-fields` says holds for this level alone.
        let keeps = set("x-kubernetes-preserve-unknown-fields") || known.is_none() || open.is_some();
        for (name, value) in fields {
            let at = below(path, name);
            let of_every = embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
            match (known.and_then(|known| known.get(name)), open) {
                // Read by the caller with the schema of all metadata.
                (Some(_), _) if path.is_empty() && name == "metadata" && !known_metadata(schema) => {}
                (Some(inner), _) => self.value(value, Schema::Inline(inner), &at, closed),
                (None, _) if of_every => {}
                (None, Some(inner)) if inner.is_object() => {
                    self.value(value, Schema::Inline(inner), &at, closed);
                }
                (None, _) if keeps || !closed || value.is_null() => {}
                (None, _) => {
                    let near = known.and_then(|known| nearest(name, known.keys().map(String::as_str)));
                    let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    self.out.add(&UNKNOWN_FIELD, at.as_str(), format!("{} does not exist{near}", field(&at)));
                }
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            let given = fields.get(name).is_some_and(|value| !value.is_null());
            let defaulted =
                known.and_then(|known| known.get(name)).is_some_and(|field| field.get("default").is_some());
            if !given && !defaulted {
                self.out.add(&MISSING_FIELD, path, format!("{} is missing", field(&below(path, name))));
            }
        }
    }

    /// The conditions beside the structure of a CRD's schema.
    fn combined(&mut self, value: &Value, schema: &Value, path: &str) {
        let list = |name: &str| schema.get(name).and_then(Value::as_array);
        if ["allOf", "anyOf", "oneOf", "not"].iter().all(|name| schema.get(*name).is_none()) {
            return;
        }
        let filled = with_defaults(value, schema);
        let value = &filled;
        let mut none = None;
        if let Some(all) = list("allOf") {
            none = (!all.iter().all(|one| accepts(one, value))).then_some("all of the conditions hold");
        }
        if let Some(any) = list("anyOf") {
            none = none
                .or((!any.iter().any(|one| accepts(one, value))).then_some("any of the alternatives holds"));
        }
        if let Some(one) = list("oneOf") {
            let count = one.iter().filter(|one| accepts(one, value)).count();
            none = none.or((count != 1).then_some("exactly one of the alternatives holds"));
        }
        if let Some(not) = schema.get("not") {
            none = none.or(accepts(not, value).then_some("what must not be is not"));
        }
        if let Some(wanted) = none {
            let given = match list("oneOf").or(list("anyOf")) {
                Some(ways) => format!(" ({})", alternatives(ways)),
                None => String::new(),
            };
            self.out.add(
                &INVALID_VALUE,
                path,
                format!("{} is refused: the CRD asks that {wanted}{given}", field(path)),
            );
        }
    }

    fn quote(&self, value: &Value) -> String {
        match value {
            Value::Object(_) => "a map".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            _ if self.secret => "another value".to_owned(),
            Value::String(text) if text.chars().count() > QUOTED => {
                format!("\"{}...\"", text.chars().take(QUOTED).collect::<String>())
            }
            other => other.to_string(),
        }
    }
}

/// The value with what the server fills in before it validates.
fn with_defaults(value: &Value, schema: &Value) -> Value {
    let mut value = value.clone();
    let known = schema.get("properties").and_then(Value::as_object);
    if let (Some(fields), Some(known)) = (value.as_object_mut(), known) {
        for (name, field) in known {
            if let Some(default) = field.get("default").filter(|_| !fields.contains_key(name)) {
                fields.insert(name.clone(), default.clone());
            }
        }
        for (name, field) in fields.iter_mut() {
            if let Some(schema) = known.get(name).filter(|_| field.is_object()) {
                *field = with_defaults(field, schema);
            }
        }
    }
    value
}

/// Whether a schema says more of metadata than that it is there, as those of Kubernetes' own kinds do.
fn known_metadata(schema: &Value) -> bool {
    schema.pointer("/properties/metadata/$ref").is_some()
}

/// The fields that the alternatives ask for.
fn alternatives(ways: &[Value]) -> String {
    let names = |way: &Value| -> Option<String> {
        let required = way.get("required")?.as_array()?;
        Some(required.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" and "))
    };
    let all: Vec<String> = ways.iter().filter_map(names).collect();
    if all.is_empty() { "see its openAPIV3Schema".to_owned() } else { all.join(" or ") }
}

/// `spec.replicas` of `/spec/replicas`.
fn field(path: &str) -> String {
    if path.is_empty() {
        return "the object".to_owned();
    }
    let mut out = String::new();
    for part in path.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push_str(&format!("[{part}]"));
        } else if part.contains('.') || part.contains('/') {
            out.push_str(&format!("[\"{part}\"]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&part);
        }
    }
    out
}

/// What a schema asks for, where the value is something else.
fn other_type(value: &Value, schema: &Value) -> Option<&'static str> {
    let set = |name: &str| schema.get(name).and_then(Value::as_bool) == Some(true);
    if set("x-kubernetes-int-or-string")
        || schema.get("format").and_then(Value::as_str) == Some("int-or-string")
    {
        return (!value.is_i64() && !value.is_u64() && !value.is_string())
            .then_some("a whole number or a text");
    }
    let wanted = schema.get("type").and_then(Value::as_str)?;
    let fits = match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "quantity" => value.is_string() || value.is_number(),
        _ => true,
    };
    let name = match wanted {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "a quantity",
    };
    (!fits).then_some(name)
}

/// Why a value of the right type is refused.
fn refused(value: &Value, schema: &Value) -> Option<String> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        let words = words.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned));
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        return Some(format!("one of {} is wanted", words.join(", ")));
    }
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let exclusive = |name: &str| schema.get(name).and_then(Value::as_bool) == Some(true);
    let size = |count: usize, least: &str, most: &str, what: &str| -> Option<String> {
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        let count = count as f64;
        match (limit(least), limit(most)) {
            (Some(least), _) if count < least => Some(format!("at least {least} {what} are wanted")),
            (_, Some(most)) if count > most => Some(format!("at most {most} {what} are allowed")),
            _ => None,
        }
    };
    match value {
        Value::Number(number) => {
            let number = number.as_f64()?;
            match (limit("minimum"), limit("maximum"), limit("multipleOf")) {
                (Some(least), _, _) if number < least || exclusive("exclusiveMinimum") && number <= least => {
                    Some(format!("the least is {least}"))
                }
                (_, Some(most), _) if number > most || exclusive("exclusiveMaximum") && number >= most => {
                    Some(format!("the most is {most}"))
                }
                (_, _, Some(of)) if of > 0.0 && (number / of).fract() != 0.0 => {
                    Some(format!("a multiple of {of} is wanted"))
                }
                _ => None,
            }
        }
        Value::String(text) => {
            if schema.get("type").and_then(Value::as_str) == Some("quantity")
                && crate::model::quantity(value).is_none()
            {
                return Some("it is no quantity such as 500m, 2 or 4Gi".to_owned());
            }
            if schema.get("format").and_then(Value::as_str) == Some("byte")
                && base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', '\r'], "")).is_err()
            {
                return Some("it is no base64; plain text goes into stringData".to_owned());
            }
            if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                && !matches(pattern, text)
            {
                return Some(format!("it does not match {pattern}"));
            }
            size(text.chars().count(), "minLength", "maxLength", "characters")
        }
        Value::Array(items) => size(items.len(), "minItems", "maxItems", "items"),
        Value::Object(fields) => size(fields.len(), "minProperties", "maxProperties", "entries"),
        _ => None,
    }
}

/// Whether a text matches a pattern of a CRD; one that cannot be read refuses nothing.
fn matches(pattern: &str, text: &str) -> bool {
    static PATTERNS: OnceLock<Mutex<HashMap<String, Option<Regex>>>> = OnceLock::new();
    let mut patterns = PATTERNS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if patterns.len() > 2000 {
        patterns.clear();
    }
    let known = patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
    known.as_ref().is_none_or(|known| known.is_match(text))
}

/// Whether a condition holds; types and values alone, as structural schemas allow in conditions.
fn accepts(schema: &Value, value: &Value) -> bool {
    if other_type(value, schema).is_some() || refused(value, schema).is_some() {
        return false;
    }
    let list = |name: &str| schema.get(name).and_then(Value::as_array);
    let inner = match value {
        Value::Object(fields) => {
            let known = schema.get("properties").and_then(Value::as_object);
            let there = |name: &Value| {
                name.as_str().is_none_or(|name| fields.get(name).is_some_and(|value| !value.is_null()))
            };
            list("required").is_none_or(|all| all.iter().all(there))
                && fields.iter().all(|(name, value)| {
                    known.and_then(|known| known.get(name)).is_none_or(|schema| accepts(schema, value))
                })
        }
        Value::Array(items) => {
            schema.get("items").is_none_or(|schema| items.iter().all(|item| accepts(schema, item)))
        }
        _ => true,
    };
    inner
        && list("allOf").is_none_or(|all| all.iter().all(|one| accepts(one, value)))
        && list("anyOf").is_none_or(|all| all.iter().any(|one| accepts(one, value)))
        && list("oneOf").is_none_or(|all| all.iter().filter(|one| accepts(one, value)).count() == 1)
        && schema.get("not").is_none_or(|not| !accepts(not, value))
}

/// The known word that was probably meant: it differs by case alone, or by two letters of many.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match word.chars().count() {
        0..=3 => 0,
        4..=6 => 1,
        _ => 2,
    };
    known
        .map(|other| {
            let same = other.eq_ignore_ascii_case(word);
            (if same { 0 } else { distance(word, other, allowed) }, other)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, other)| other)
}

/// Edits between two words; beyond the limit any larger number.
fn distance(one: &str, other: &str, limit: usize) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > limit || one.len().max(other.len()) > 100 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, left) in one.iter().enumerate() {
        let mut before = at;
        row[0] = at + 1;
        for (to, right) in other.iter().enumerate() {
            let next = (before + usize::from(left != right)).min(row[to] + 1).min(row[to + 1] + 1);
            before = std::mem::replace(&mut row[to + 1], next);
        }
    }
    row[other.len()]
}
