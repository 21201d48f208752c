//! Writes `src/lint/data/kubernetes.json.z`: the schemas of Kubernetes' own kinds, and which APIs end when.
//!
//! `cargo run --example schemas`. Sources are the OpenAPI that k8s.io/kubernetes publishes in its module and the Go types
//! of k8s.io/api, which alone say which words a field takes and when an API was removed; both come by way of `go mod
//! download`, at the versions below.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken premise ends an example"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::{Map, Value, json};

const KUBERNETES: &str = "k8s.io/kubernetes@v1.36.3";
const API: &str = "k8s.io/api@v0.36.3";
const TABLE: &str = "src/lint/data/kubernetes.json.z";

/// APIs whose Go types are gone: deprecated in, removed in, what takes their place.
/// 0 is a release that is not decided.
const GONE: &[(&str, u32, u32, &str)] = &[
    ("/v1/ComponentStatus", 19, 0, ""),
    ("/v1/Endpoints", 33, 0, "discovery.k8s.io/v1 EndpointSlice"),
    ("apiextensions.k8s.io/v1beta1/CustomResourceDefinition", 16, 22, "apiextensions.k8s.io/v1"),
    ("apiregistration.k8s.io/v1beta1/APIService", 19, 22, "apiregistration.k8s.io/v1"),
    ("policy/v1beta1/PodSecurityPolicy", 21, 25, ""),
    ("extensions/v1beta1/PodSecurityPolicy", 11, 16, ""),
    ("policy/v1beta1/PodDisruptionBudget", 21, 25, "policy/v1"),
    ("batch/v2alpha1/CronJob", 20, 21, "batch/v1"),
    ("batch/v1beta1/CronJob", 21, 25, "batch/v1"),
    ("autoscaling/v2beta1/HorizontalPodAutoscaler", 22, 25, "autoscaling/v2"),
    ("autoscaling/v2beta2/HorizontalPodAutoscaler", 23, 26, "autoscaling/v2"),
    ("networking.k8s.io/v1beta1/Ingress", 19, 22, "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1/IngressClass", 19, 22, "networking.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1/Role", 17, 22, "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1/RoleBinding", 17, 22, "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1/ClusterRole", 17, 22, "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1/ClusterRoleBinding", 17, 22, "rbac.authorization.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1/EndpointSlice", 21, 25, "discovery.k8s.io/v1"),
    ("node.k8s.io/v1beta1/RuntimeClass", 20, 25, "node.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta3/FlowSchema", 29, 32, "flowcontrol.apiserver.k8s.io/v1"),
    (
        "flowcontrol.apiserver.k8s.io/v1beta3/PriorityLevelConfiguration",
        29,
        32,
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1beta1/ValidatingWebhookConfiguration",
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
    (
        "admissionregistration.k8s.io/v1beta1/MutatingWebhookConfiguration",
        16,
        22,
        "admissionregistration.k8s.io/v1",
    ),
];

/// Fields that the OpenAPI calls required and the server fills in.
const FILLED_IN: &[(&str, &str)] =
    &[("io.k8s.api.rbac.v1.RoleRef", "apiGroup"), ("io.k8s.api.core.v1.Sysctl", "value")];

/// Kinds without whose spec the server refuses them, though the OpenAPI does not call it required.
const NEED_SPEC: &[&str] = &[
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.apps.v1.StatefulSet",
    "io.k8s.api.apps.v1.DaemonSet",
    "io.k8s.api.apps.v1.ReplicaSet",
    "io.k8s.api.batch.v1.Job",
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
];

fn main() {
    let (kubernetes, api) = (module(KUBERNETES), module(API));
    let words = Words::read(&api);
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let folder = kubernetes.join("api/openapi-spec/v3");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        for (name, schema) in
            value.pointer("/components/schemas").and_then(Value::as_object).into_iter().flatten()
        {
            schemas.entry(name.clone()).or_insert_with(|| schema.clone());
        }
    }
    let mut table = Table { schemas: &schemas, words: &words, types: Vec::new(), numbers: HashMap::new() };
    let mut kinds = BTreeMap::new();
    for (name, schema) in &schemas {
        let has = |field: &str| schema.pointer(&format!("/properties/{field}")).is_some();
        let list = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
        for gvk in list.into_iter().flatten().filter(|_| has("metadata") && has("apiVersion")) {
            let part = |field: &str| gvk[field].as_str().unwrap_or_default();
            let key = format!("{}/{}/{}", part("group"), part("version"), part("kind"));
            kinds.insert(key, table.number(name));
        }
    }
    let metadata = table.number("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let types = table.types;
    let ends = ends(&api);
    let text = json!({"types": types, "kinds": kinds, "metadata": metadata, "ends": ends}).to_string();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    std::fs::write(path, &bytes).unwrap();
    let sizes = format!("{} bytes, {} packed", text.len(), bytes.len());
    println!("{} kinds, {} types, {} ends: {sizes}", kinds.len(), types.len(), ends.len());
}

/// Where a module is unpacked.
fn module(name: &str) -> PathBuf {
    let done = Command::new("go").args(["mod", "download", "-json", name]).output().expect("go is needed");
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    PathBuf::from(answer["Dir"].as_str().unwrap_or_else(|| panic!("{name}: {answer}")))
}

struct Table<'a> {
    schemas: &'a BTreeMap<String, Value>,
    words: &'a Words,
    types: Vec<Value>,
    numbers: HashMap<String, usize>,
}

impl Table<'_> {
    /// The place of a type, which is put in where it is not yet.
    fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.types.len();
        self.numbers.insert(name.to_owned(), number);
        self.types.push(Value::Null);
        let schema = self.schemas[name].clone();
        self.types[number] = self.object(name, &schema);
        number
    }

    fn object(&mut self, name: &str, schema: &Value) -> Value {
        if schema.get("format").and_then(Value::as_str) == Some("int-or-string") {
            return json!({"x-kubernetes-int-or-string": true});
        }
        if name.ends_with(".resource.Quantity") {
            return json!({"type": "quantity"});
        }
        let mut out = self.plain(schema);
        let mut required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if NEED_SPEC.contains(&name) {
            required.push("spec");
        }
        if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
            let mut properties = Map::new();
            for (field, inner) in fields {
                let mut inner_out = self.plain(inner);
                if let Some(words) = self.words.of(name, field) {
                    // Nothing is what the server fills in.
                    let mut all: BTreeSet<&str> = words.iter().map(String::as_str).collect();
                    all.insert("");
                    let at = if inner_out.get("items").is_some() {
                        &mut inner_out["items"]
                    } else {
                        &mut inner_out
                    };
                    if at["type"] == "string" {
                        at["enum"] = json!(all);
                    }
                }
                properties.insert(field.clone(), inner_out);
            }
            out["properties"] = Value::Object(properties);
        }
        let needed: Vec<&str> = required
            .into_iter()
            .filter(|field| {
                let default = schema.pointer(&format!("/properties/{field}/default"));
                // Zeros are what Go's types are born with, and no default.
                let real =
                    default.is_some_and(|default| *default != "" && *default != 0 && *default != json!({}));
                !real && !FILLED_IN.contains(&(name, field))
            })
            .collect();
        if !needed.is_empty() {
            out["required"] = json!(needed);
        }
        out
    }

    fn plain(&mut self, schema: &Value) -> Value {
        let reference = schema.get("$ref").or(schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        if let Some(reference) = reference {
            let name = reference.rsplit('/').next().unwrap().to_owned();
            return json!({"$ref": self.number(&name)});
        }
        let mut out = json!({});
        for field in ["type", "x-kubernetes-preserve-unknown-fields"] {
            if let Some(value) = schema.get(field) {
                out[field] = value.clone();
            }
        }
        if schema.get("format").and_then(Value::as_str) == Some("byte") {
            out["format"] = "byte".into();
        }
        for field in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(field).filter(|inner| inner.is_object()) {
                out[field] = self.plain(inner);
            }
        }
        out
    }
}

/// The words that fields of Go types take.
struct Words {
    /// By package, type and field of JSON.
    fields: HashMap<(String, String, String), String>,
    /// By package and type.
    words: HashMap<(String, String), Vec<String>>,
}

impl Words {
    fn read(api: &Path) -> Self {
        let mut all = Self { fields: HashMap::new(), words: HashMap::new() };
        let (kind, structure) = (
            Regex::new(r"(?m)^// \+enum\n(?:^//.*\n)*^type (\w+) string$").unwrap(),
            Regex::new(r"(?ms)^type (\w+) struct \{\n(.*?)^\}").unwrap(),
        );
        let constant = Regex::new(r#"(?m)^\s*(?:const\s+)?\w+\s+(\w+)\s*=\s*"([^"]*)""#).unwrap();
        let field = Regex::new(r#"(?m)^\s*\w+\s+([\w.*\[\]]+)\s+`json:"(\w+)"#).unwrap();
        for path in types(api) {
            let text = std::fs::read_to_string(&path).unwrap();
            let package =
                path.parent().unwrap().strip_prefix(api).unwrap().to_string_lossy().replace('/', ".");
            let enums: BTreeSet<&str> =
                kind.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
            for found in constant.captures_iter(&text).filter(|found| enums.contains(&found[1])) {
                let key = (package.clone(), found[1].to_owned());
                all.words.entry(key).or_default().push(found[2].to_owned());
            }
            for found in structure.captures_iter(&text) {
                for line in field.captures_iter(&found[2]) {
                    let key = (package.clone(), found[1].to_owned(), line[2].to_owned());
                    all.fields.insert(key, line[1].trim_start_matches(['*', '[', ']']).to_owned());
                }
            }
        }
        all
    }

    /// `io.k8s.api.core.v1.Container` and a field.
    fn of(&self, name: &str, field: &str) -> Option<&Vec<String>> {
        let (package, kind) = name.strip_prefix("io.k8s.api.")?.rsplit_once('.')?;
        let found = self.fields.get(&(package.to_owned(), kind.to_owned(), field.to_owned()))?;
        let (package, kind) = match found.split_once('.') {
            Some(("v1" | "corev1" | "core", kind)) => ("core.v1", kind),
            Some(_) => return None,
            None => (package, found.as_str()),
        };
        self.words.get(&(package.to_owned(), kind.to_owned()))
    }
}

fn types(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(types(&path));
        } else if path.file_name().is_some_and(|name| name == "types.go") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Deprecated in, removed in, and what takes its place, by `group/version/Kind`.
fn ends(api: &Path) -> BTreeMap<String, Value> {
    let function = Regex::new(
        r"(?s)func \(in \*(\w+)\) APILifecycle(Deprecated|Removed|Replacement)\(\)[^{]*\{\s*return ([^\n]*)",
    )
    .unwrap();
    let replacement = Regex::new(r#"Group: "([^"]*)", Version: "([^"]*)", Kind: "([^"]*)""#).unwrap();
    let group = Regex::new(r#"const GroupName = "([^"]*)""#).unwrap();
    let mut all: BTreeMap<String, (Option<u32>, Option<u32>, String)> = BTreeMap::new();
    for (name, deprecated, removed, instead) in GONE {
        all.insert(
            (*name).to_owned(),
            (Some(*deprecated), Some(*removed).filter(|removed| *removed > 0), (*instead).to_owned()),
        );
    }
    for path in types(api) {
        let folder = path.parent().unwrap();
        let Ok(text) = std::fs::read_to_string(folder.join("zz_generated.prerelease-lifecycle.go")) else {
            continue;
        };
        let register = std::fs::read_to_string(folder.join("register.go")).unwrap_or_default();
        let Some(group) = group.captures(&register) else { continue };
        let version = folder.file_name().unwrap().to_string_lossy();
        for found in function.captures_iter(&text) {
            if found[1].ends_with("List") || found[1].ends_with("Options") {
                continue;
            }
            let entry = all.entry(format!("{}/{version}/{}", &group[1], &found[1])).or_default();
            let minor = found[3].rsplit(", ").next().and_then(|number| number.parse().ok());
            match &found[2] {
                "Deprecated" => entry.0 = minor,
                "Removed" => entry.1 = minor,
                _ => {
                    if let Some(found) = replacement.captures(&found[3]) {
                        entry.2 = if found[1].is_empty() {
                            found[2].to_owned()
                        } else {
                            format!("{}/{}", &found[1], &found[2])
                        };
                    }
                }
            }
        }
    }
    all.retain(|_, (deprecated, removed, _)| deprecated.is_some() || removed.is_some());
    all.into_iter()
        .map(|(name, (deprecated, removed, instead))| (name, json!([deprecated, removed, instead])))
        .collect()
}
