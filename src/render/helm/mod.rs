//! What `helm template` 3.22 makes of a chart, in process.
//!
//! A chart is read as Helm's loader reads it (`chart`, `ignore`, `metadata`), values come together (`values`, `set`,
//! `dependencies`) and are held to their schemas (`schema`), templates run with what Helm gives them (`engine`,
//! `files`, `capabilities`), and their texts become manifests (`manifests`).
//! [Known differences](../../../docs/helm.md).

mod capabilities;
mod chart;
mod dependencies;
mod engine;
mod explain;
mod files;
mod ignore;
mod manifests;
mod metadata;
mod schema;
mod set;
mod values;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use self::capabilities::KubeVersion;
use self::chart::{Chart, Reads};
use self::engine::Texts;
pub(in crate::render) use self::explain::explain;
pub(crate) use self::manifests::HOOKS;
use self::manifests::{Manifest, Sorted};
use crate::error::{Code, Error, Result};
use crate::model::{Described, Generated, Object, Origin};
use crate::render::template::value::{Fields, Value};
use crate::render::template::{Lookup, Surroundings, satisfies};
use crate::render::tree::{join, resolve};
use crate::render::{EntryKind, Rendered, Tree, plain};

/// The version whose results are given.
const VERSION: &str = "v3.22.0";

/// How a chart is rendered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `.Release.Name`; empty is `release-name`, as for `helm template`.
    pub release_name: String,
    /// `.Release.Namespace`; empty is `default`.
    pub namespace: String,
    /// Files with values: relative to the chart; from the root of the tree with a leading `/`; `$name/path` is read
    /// from the tree as it stands.
    pub values_files: Vec<String>,
    /// Pass over values files that do not exist.
    pub ignore_missing_values_files: bool,
    /// Values over those of the files.
    pub values: Map<String, Json>,
    /// Single values over those, one each.
    pub parameters: Vec<Parameter>,
    /// Values that are the content of files: name and path, which is named as values files are.
    pub file_parameters: Vec<(String, String)>,
    /// Whole lines of `--set` and its like, over all of these.
    pub lines: Vec<Line>,
    /// Leave out the crds folder.
    pub skip_crds: bool,
    /// Do not hold the values against values.schema.json.
    pub skip_schema_validation: bool,
    /// `.Capabilities.KubeVersion`; empty is Helm's default.
    pub kube_version: String,
    /// More `.Capabilities.APIVersions` than those of Kubernetes itself.
    pub api_versions: Vec<String>,
    /// What `now` says, in seconds since 1970.
    pub now: i64,
    /// What random values are made from: the same seed, the same values.
    pub seed: [u8; 32],
    /// What `lookup` finds; nothing without it.
    pub lookup: Option<Live>,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameter {
    /// Its path.
    pub name: String,
    /// The value.
    pub value: String,
    /// Taken as text.
    pub text: bool,
}

/// A line of assignments, `a=1,b.c=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// As `--set` reads it.
    Typed(String),
    /// As `--set-string` reads it.
    Text(String),
    /// As `--set-file` reads it.
    File(String),
}

/// Live objects for `lookup`.
#[derive(Clone)]
pub struct Live(pub Lookup);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl PartialEq for Live {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Renders the chart of a folder: its CRDs, its manifests, its hooks, each in Helm's order. Hooks of `helm test` are
/// left out.
///
/// # Errors
/// `ChartInvalid`, `ValuesInvalid`, `TemplateFailed` and `ManifestInvalid` in Helm's words, with the file;
/// `ManifestIncomplete` and `DuplicateObject` for what no API server would take.
pub fn render(tree: &dyn Tree, folder: &str, options: &Options) -> Result<Rendered> {
    let mut prepared = prepare(tree, folder, options)?;
    let texts = prepared.run(options, options.now, options.seed)?;
    let objects = prepared.objects(&texts, options)?;
    let mut generated = Vec::new();
    if texts.volatile {
        // Another seed and another time show what was made from them: 400 days and some hours later.
        let texts = prepared.run(options, options.now + 34_567_891, options.seed.map(|byte| byte ^ 0xa5))?;
        let others = prepared.objects(&texts, options)?;
        let same = objects.len() == others.len()
            && objects.iter().zip(&others).all(|(one, other)| one.key() == other.key());
        if !same {
            let why = "which objects the chart gives depends on random values or the time";
            return Err(Error::new(Code::TemplateFailed, why).in_file(&prepared.chart.place));
        }
        for (number, (one, other)) in objects.iter().zip(&others).enumerate() {
            differences(one.value(), other.value(), "", &mut |pointer, other| {
                generated.push(Generated { object: number, pointer, other: other.to_owned() });
            });
        }
    }
    prepared.reads.sort();
    prepared.reads.dedup();
    Ok(Rendered {
        objects: objects.into(),
        reads: prepared.reads,
        generated,
        charts: true,
        ..Rendered::default()
    })
}

/// The text that `helm template` prints, with `--include-crds` unless `skip_crds`.
///
/// # Errors
/// As [`render`], as far as Helm itself looks.
pub fn template(tree: &dyn Tree, folder: &str, options: &Options) -> Result<String> {
    let prepared = prepare(tree, folder, options)?;
    let texts = prepared.run(options, options.now, options.seed)?;
    let Sorted { manifests, hooks } = manifests::sort(&texts)?;
    let mut out = String::new();
    for (path, file) in prepared.crds(options) {
        out.push_str(&format!("---\n# Source: {path}\n{}\n", String::from_utf8_lossy(&file.data)));
    }
    let document = |one: &Manifest| format!("---\n# Source: {}\n{}\n", one.path, one.text);
    out.extend(manifests.iter().map(document));
    let mut out = format!("{}\n", out.trim());
    out.extend(hooks.iter().map(document));
    Ok(out)
}

/// Whether a folder is a chart.
///
/// # Errors
/// As `tree::resolve`.
pub(in crate::render) fn holds_chart(tree: &dyn Tree, path: &str) -> Result<bool> {
    Ok(resolve(tree, &join(path, "Chart.yaml"))?.is_some_and(|found| found.entry.kind == EntryKind::File))
}

/// Texts that differ, by JSON pointer.
fn differences(one: &Json, other: &Json, pointer: &str, found: &mut dyn FnMut(String, &str)) {
    match (one, other) {
        (Json::Object(one), Json::Object(other)) => {
            for (name, value) in one {
                if let Some(other) = other.get(name) {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    differences(value, other, &format!("{pointer}/{name}"), found);
                }
            }
        }
        (Json::Array(one), Json::Array(other)) => {
            for (at, (value, other)) in one.iter().zip(other).enumerate() {
                differences(value, other, &format!("{pointer}/{at}"), found);
            }
        }
        (Json::String(one), Json::String(other)) if one != other => found(pointer.to_owned(), other),
        _ => {}
    }
}

/// A chart that is ready to run.
struct Prepared {
    chart: Chart,
    values: Fields,
    version: KubeVersion,
    reads: Reads,
}

fn prepare(tree: &dyn Tree, folder: &str, options: &Options) -> Result<Prepared> {
    let mut reads = Vec::new();
    let Some(root) = resolve(tree, folder)? else {
        let why = format!("{folder} does not exist at this revision");
        return Err(Error::new(Code::PathNotFound, why));
    };
    reads.extend(root.links);
    reads.push((root.path.clone(), root.entry.identity));
    let given = given(tree, &root.path, options, &mut reads)?;
    let mut chart = chart::load(tree, &root.path, &mut reads)?;
    let place = chart.place.clone();
    let invalid = |why: String| Error::new(Code::ChartInvalid, why).in_file(&place);
    if !matches!(chart.metadata.kind.as_str(), "" | "application") {
        return Err(invalid(format!("{} charts are not installable", chart.metadata.kind)));
    }
    let missing = dependencies::missing(&chart);
    if !missing.is_empty() {
        let why = format!("found in Chart.yaml, but missing in charts/ directory: {}", missing.join(", "));
        let hint = "run `helm dependency build` and commit what it puts into the charts folder";
        return Err(invalid(why).hint(hint));
    }
    let name = if options.release_name.is_empty() { "release-name" } else { &options.release_name };
    if !is_release_name(name) {
        let why = format!(
            "release name {name:?}: invalid release name, must match regex ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ and the length must not be longer than 53"
        );
        return Err(Error::new(Code::ChartInvalid, why));
    }
    let version = KubeVersion::parse(&options.kube_version).map_err(|why| {
        Error::new(Code::ChartInvalid, format!("invalid kube version '{}': {why}", options.kube_version))
    })?;
    dependencies::process(&mut chart, &given).map_err(invalid)?;
    let values = values::coalesce(&chart, &given, false).map_err(invalid)?;
    if !options.skip_schema_validation {
        schema::validate(&chart, &values)?;
    }
    let wanted = &chart.metadata.kube_version;
    if !wanted.is_empty() && !satisfies(wanted, &version.full) {
        return Err(invalid(format!(
            "chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {}",
            version.full
        )));
    }
    Ok(Prepared { chart, values, version, reads })
}

fn is_release_name(name: &str) -> bool {
    let end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 53
        && name.split('.').all(|part| {
            part.bytes().all(|byte| end(byte) || byte == b'-')
                && part.bytes().next().is_some_and(end)
                && part.bytes().last().is_some_and(end)
        })
}

/// All values that are given for the chart, over each other.
fn given(tree: &dyn Tree, folder: &str, options: &Options, reads: &mut Reads) -> Result<Value> {
    let mut all = values::empty();
    for name in &options.values_files {
        let Some((path, data)) = read(tree, folder, name, reads)? else {
            if options.ignore_missing_values_files {
                continue;
            }
            return Err(missing(folder, name));
        };
        let read = chart::values(&data, &path).map_err(|error| {
            let why = format!("failed to parse {name}: {}", error.why);
            Error { code: Code::ChartInvalid, why, ..error }
        })?;
        all = values::over(&all, &read);
    }
    all = values::over(&all, &Value::from_json(&Json::Object(options.values.clone())));
    let failed = |option: &str, why: String| {
        Error::new(Code::ChartInvalid, format!("failed parsing {option} data: {why}"))
    };
    let copy =
        all.deep_copy().map_err(|why| Error::new(Code::BudgetExceeded, format!("the values: {why}")))?;
    let Value::Map(map) = copy else { return Ok(all) };
    // As Helm has it: all of --set, then all of --set-string, then all of --set-file.
    for wants_text in [false, true] {
        let read: set::Read<'_> = if wants_text { &set::untyped } else { &set::typed };
        let option = if wants_text { "--set-string" } else { "--set" };
        for one in options.parameters.iter().filter(|one| one.text == wants_text) {
            set::apply(&set::line(&one.name, &one.value), &map, read).map_err(|why| failed(option, why))?;
        }
        for line in &options.lines {
            match line {
                Line::Typed(line) if !wants_text => set::apply(line, &map, read),
                Line::Text(line) if wants_text => set::apply(line, &map, read),
                _ => Ok(()),
            }
            .map_err(|why| failed(option, why))?;
        }
    }
    let parameters = options.file_parameters.iter().map(|(name, path)| set::line(name, path));
    let lines = options.lines.iter().filter_map(|line| match line {
        Line::File(line) => Some(line.clone()),
        _ => None,
    });
    for line in parameters.chain(lines) {
        let read_here = std::cell::RefCell::new((&mut *reads, None));
        let content = |name: &str| {
            let mut here = read_here.borrow_mut();
            match read(tree, folder, name, here.0) {
                Ok(Some((_, data))) => Ok(Value::text(String::from_utf8_lossy(&data))),
                Ok(None) => Err(missing(folder, name).why),
                Err(error) => {
                    let why = error.why.clone();
                    here.1 = Some(error);
                    Err(why)
                }
            }
        };
        let done = set::apply(&line, &map, &content);
        if let Some(error) = read_here.into_inner().1 {
            return Err(error);
        }
        done.map_err(|why| failed("--set-file", why))?;
    }
    Ok(Value::Map(map))
}

/// A file that the options name: its path in the tree and what is in it.
fn read(tree: &dyn Tree, folder: &str, name: &str, reads: &mut Reads) -> Result<Option<(String, Vec<u8>)>> {
    if name.contains("://") {
        let why = format!("{name} is an address, and a render reads nothing from the network");
        return Err(Error::new(Code::ChartInvalid, why).hint("commit the file, and name its path"));
    }
    let path = match name.strip_prefix('/') {
        Some(path) => path.to_owned(),
        None if name.starts_with('$') => name.to_owned(),
        None => join(folder, name),
    };
    let found = resolve(tree, &path)?;
    let Some(found) = found.filter(|found| found.entry.kind == EntryKind::File) else {
        reads.push((path, String::new()));
        return Ok(None);
    };
    let data = tree.read(&found.path)?;
    reads.extend(found.links);
    reads.push((found.path.clone(), found.entry.identity));
    Ok(Some((found.path, data)))
}

fn missing(folder: &str, name: &str) -> Error {
    let why = format!("the file {name}, which is named for the values of the chart {folder}, does not exist");
    let hint = "paths are relative to the chart; one that begins with / is relative to the root";
    Error::new(Code::ChartInvalid, why).hint(hint)
}

impl Prepared {
    fn run(&self, options: &Options, now: i64, seed: [u8; 32]) -> Result<Texts> {
        self.run_with(options, now, seed, false)
    }

    /// As [`Self::run`], with where each line came from.
    fn run_traced(&self, options: &Options) -> Result<Texts> {
        self.run_with(options, options.now, options.seed, true)
    }

    fn run_with(&self, options: &Options, now: i64, seed: [u8; 32], traced: bool) -> Result<Texts> {
        let lookup = options.lookup.as_ref().map(|live| live.0.clone());
        let surroundings = Surroundings { now, seed, lookup };
        let or =
            |given: &str, default: &str| if given.is_empty() { default.to_owned() } else { given.to_owned() };
        let release = engine::Release {
            name: or(&options.release_name, "release-name"),
            namespace: or(&options.namespace, "default"),
        };
        // Templates may change their values: each run has its own.
        let copy = Value::Map(self.values.clone()).deep_copy();
        let copy = copy.map_err(|why| Error::new(Code::BudgetExceeded, format!("the values: {why}")))?;
        let Value::Map(values) = copy else {
            return Err(Error::new(Code::Internal, "a copy of a map is no map"));
        };
        let capabilities = capabilities::capabilities(&self.version, &options.api_versions);
        engine::run(&self.chart, values, &release, capabilities, (&surroundings, traced))
    }

    fn crds(&self, options: &Options) -> Vec<(String, chart::File)> {
        let mut found = Vec::new();
        if !options.skip_crds {
            self.chart.crds(self.chart.name(), &mut found);
        }
        found
    }

    fn objects(&self, texts: &Texts, options: &Options) -> Result<Vec<Object>> {
        let mut objects = Vec::new();
        for (path, file) in self.crds(options) {
            let text = String::from_utf8_lossy(&file.data);
            let name: Arc<str> = Arc::from(&*file.place);
            for document in manifests::documents(&text, &path, &file.place)? {
                let origin = Origin { file: name.clone(), line: document.line };
                plain::flatten(document.value, &origin, &mut objects, 0)?;
            }
        }
        let Sorted { manifests, hooks } = manifests::sort(texts)?;
        for one in manifests.iter().chain(hooks.iter().filter(|hook| !hook.is_test)) {
            let origin = Origin { file: Arc::from(&*one.file.place), line: one.line };
            for document in manifests::documents(&one.text, &one.path, &one.file.place)? {
                plain::flatten(document.value, &origin, &mut objects, 0)?;
            }
        }
        let mut described = Described::default();
        objects.iter().try_for_each(|object| described.add(object))?;
        Ok(objects)
    }
}
