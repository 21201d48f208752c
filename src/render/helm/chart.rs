//! A chart in memory, read as Helm's loader reads it: from a folder of the tree, and from archives below it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::ignore::Rules;
use super::metadata::{Metadata, json_kind};
use crate::error::{Code, Error, Result};
use crate::model::yaml;
use crate::render::archive::{self, Limits};
use crate::render::template::value::Value;
use crate::render::tree::{join, resolve};
use crate::render::{EntryKind, Tree};

/// Helm's own limits of a file and of an archive.
const MAX_FILE: usize = 5 << 20;
const MAX_ARCHIVE: u64 = 100 << 20;
/// All files of a chart, those of archives in archives included.
const MAX_TOTAL: usize = 256 << 20;
const MAX_FILES: usize = 100_000;
/// Deepest folder, and deepest subchart.
const MAX_DEPTH: usize = 100;
const MAX_CHARTS: usize = 20;

/// One file of a chart.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Inside the chart.
    pub(super) name: String,
    pub(super) data: Rc<[u8]>,
    /// Inside the tree; in an archive, that of the archive, `!` and the path in it.
    pub(super) place: Rc<str>,
}

/// A chart with its subcharts.
#[derive(Clone)]
pub(super) struct Chart {
    pub(super) metadata: Metadata,
    pub(super) templates: Vec<File>,
    /// A map.
    pub(super) values: Value,
    pub(super) schema: Option<File>,
    pub(super) files: Vec<File>,
    pub(super) dependencies: Vec<Chart>,
    /// The name that its parent had when it was last put below one: an alias given later does not show in paths.
    /// Copies of a chart share it, as they share their subcharts in Helm.
    pub(super) below: Rc<RefCell<String>>,
    /// Where its Chart.yaml is.
    pub(super) place: Rc<str>,
}

/// Paths and their identities.
pub(super) type Reads = Vec<(String, String)>;

/// What may still be read.
struct Budget {
    files: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize, place: &str) -> Result<()> {
        let beyond = || {
            let why = "the chart is larger than 100,000 files or 256 MiB";
            Error::new(Code::ChartInvalid, why).in_file(place)
        };
        self.files = self.files.checked_sub(1).ok_or_else(beyond)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(beyond)?;
        Ok(())
    }
}

/// Reads the chart of a folder.
///
/// # Errors
/// `ChartInvalid` and `ArchiveInvalid` in Helm's words, with the file.
pub(super) fn load(tree: &dyn Tree, folder: &str, reads: &mut Reads) -> Result<Chart> {
    let ignore = join(folder, ".helmignore");
    let rules = match resolve(tree, &ignore)?.filter(|found| found.entry.kind == EntryKind::File) {
        Some(found) => {
            reads.extend(found.links);
            let bytes = tree.read(&found.path)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Rules::parse(text.strip_prefix('\u{feff}').unwrap_or(&text), &ignore)?
        }
        None => Rules::parse("", &ignore)?,
    };
    let mut budget = Budget { files: MAX_FILES, bytes: MAX_TOTAL };
    let mut walk = Walk { tree, rules, reads, budget: &mut budget, files: Vec::new() };
    walk.folder(folder, "", folder, 0)?;
    let files = walk.files;
    build(files, folder, 0, &mut budget)
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    rules: Rules,
    reads: &'a mut Reads,
    budget: &'a mut Budget,
    files: Vec<File>,
}

impl Walk<'_> {
    /// `real` is where the folder is, `shown` its path inside the chart.
    fn folder(&mut self, real: &str, shown: &str, chart: &str, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let why = "folders nested deeper than 100 levels";
            return Err(Error::new(Code::ChartInvalid, why).in_file(real));
        }
        let mut entries = self.tree.list(real)?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        for entry in entries {
            let (mut path, shown) = (join(real, &entry.name), join(shown, &entry.name));
            let mut kind = entry.kind;
            if kind == EntryKind::Link {
                let Some(found) = resolve(self.tree, &path)? else {
                    if self.rules.ignore(&shown, false) {
                        continue;
                    }
                    let why = format!("the link {path} leads to nothing");
                    return Err(Error::new(Code::SymlinkRefused, why).in_file(path));
                };
                self.reads.extend(found.links);
                self.reads.push((found.path.clone(), found.entry.identity));
                (path, kind) = (found.path, found.entry.kind);
            }
            if self.rules.ignore(&shown, kind == EntryKind::Folder) {
                continue;
            }
            match kind {
                EntryKind::Folder => self.folder(&path, &shown, chart, depth + 1)?,
                EntryKind::File => {
                    let data = self.tree.read(&path)?;
                    let name = &entry.name;
                    if data.len() > MAX_FILE {
                        let why =
                            format!("chart file {name:?} is larger than the maximum file size {MAX_FILE}");
                        return Err(Error::new(Code::ChartInvalid, why).in_file(path));
                    }
                    self.budget.take(data.len(), &path)?;
                    let place = join(chart, &shown).into();
                    self.files.push(File { name: shown, data: without_mark(&data).into(), place });
                }
                EntryKind::Submodule | EntryKind::Link => {
                    let why = format!("{path} is a Git submodule");
                    return Err(Error::new(Code::SubmoduleRefused, why).in_file(path));
                }
            }
        }
        Ok(())
    }
}

fn without_mark(data: &[u8]) -> &[u8] {
    data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)
}

/// The chart of an archive.
fn unpack(packed: &File, depth: usize, budget: &mut Budget) -> Result<Chart> {
    let invalid = |why: &str| Error::new(Code::ChartInvalid, why).in_file(&packed.place);
    let limits = Limits { entries: budget.files, file: MAX_FILE as u64, total: MAX_ARCHIVE };
    let found = archive::unpack(&packed.data, limits).map_err(|error| error.in_file(&packed.place))?;
    let mut files = Vec::new();
    // Helm takes a link for an empty file.
    let links = found.links.into_iter().map(|(path, _)| (path, Vec::new()));
    for (path, data) in found.files.into_iter().chain(links) {
        let path_here = path.replace('\\', "/");
        let Some((_, name)) = path_here.split_once('/') else {
            let why = format!("chart illegally contains content outside the base directory: {path:?}");
            return Err(invalid(&why));
        };
        if name.split('/').any(|part| part == "..") {
            return Err(invalid("chart illegally references parent directory"));
        }
        budget.take(data.len(), &packed.place)?;
        let place = format!("{}!{path}", packed.place).into();
        files.push(File { name: name.to_owned(), data: without_mark(&data).into(), place });
    }
    if files.is_empty() {
        return Err(invalid("no files in chart archive"));
    }
    let root = format!("{}!", packed.place);
    build(files, &root, depth, budget)
}

/// The first document of a YAML file, as Go reads it into a value.
pub(super) fn first_document(data: &[u8], file: &str) -> Result<Json> {
    let mut all = yaml::read(data, file)?;
    let several = data.windows(4).any(|part| part == b"\n---");
    if several && !all.is_empty() {
        // Documents that are empty are not among those read, and the first may be one.
        let line = all[0].line;
        let syntax = yaml::syntax(data, file)?;
        if let Some(first) = syntax.first()
            && first.nodes.get(first.root).is_some_and(|node| node.line < line)
        {
            return Ok(Json::Null);
        }
    }
    Ok(if all.is_empty() { Json::Null } else { all.swap_remove(0).value })
}

/// A file of values as a map.
pub(super) fn values(data: &[u8], file: &str) -> Result<Value> {
    match first_document(data, file)? {
        Json::Null => Ok(Value::map(BTreeMap::new())),
        document @ Json::Object(_) => Ok(Value::from_json(&document)),
        other => {
            let why = format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_kind(&other)
            );
            Err(Error::new(Code::ChartInvalid, why).in_file(file).at(1, 0))
        }
    }
}

/// An error while a file of the chart is read.
fn cannot_load(name: &str, error: Error) -> Error {
    Error { code: Code::ChartInvalid, why: format!("cannot load {name}: {}", error.why), ..error }
}

fn build(files: Vec<File>, folder: &str, depth: usize, budget: &mut Budget) -> Result<Chart> {
    if depth > MAX_CHARTS {
        let why = "subcharts nested deeper than 20 levels";
        return Err(Error::new(Code::ChartInvalid, why).in_file(folder));
    }
    let mut metadata: Option<Metadata> = None;
    let mut place: Rc<str> = join(folder, "Chart.yaml").into();
    let read = |metadata: &mut Metadata, file: &File| {
        let document =
            first_document(&file.data, &file.place).map_err(|error| cannot_load(&file.name, error))?;
        metadata.read(&document).map_err(|why| {
            let why = match why.strip_prefix("validation: ") {
                Some(_) => why,
                None => {
                    format!("cannot load {}: error unmarshaling JSON: while decoding JSON: {why}", file.name)
                }
            };
            Error::new(Code::ChartInvalid, why).in_file(&file.place)
        })
    };
    for file in files.iter().filter(|file| file.name == "Chart.yaml") {
        let metadata = metadata.get_or_insert_default();
        read(metadata, file)?;
        place = file.place.clone();
        if metadata.api_version.is_empty() {
            "v1".clone_into(&mut metadata.api_version);
        }
    }
    let mut chart = Chart {
        metadata: Metadata::default(),
        templates: Vec::new(),
        values: Value::map(BTreeMap::new()),
        schema: None,
        files: Vec::new(),
        dependencies: Vec::new(),
        below: Rc::default(),
        place: place.clone(),
    };
    let mut subcharts: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for mut file in files {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" | "requirements.lock" => {
                first_document(&file.data, &file.place).map_err(|error| cannot_load(&file.name, error))?;
                if file.name == "requirements.lock" && metadata.get_or_insert_default().api_version == "v1" {
                    chart.files.push(file);
                }
            }
            "values.yaml" => {
                chart.values =
                    values(&file.data, &file.place).map_err(|error| cannot_load(&file.name, error))?;
            }
            "values.schema.json" => chart.schema = Some(file),
            "requirements.yaml" => {
                let metadata = metadata.get_or_insert_default();
                read(metadata, &file)?;
                if metadata.api_version == "v1" {
                    chart.files.push(file);
                }
            }
            name if name.starts_with("templates/") => chart.templates.push(file),
            name if name.starts_with("charts/") => {
                if name.rsplit_once('.').is_some_and(|(_, end)| end == "prov") {
                    chart.files.push(file);
                    continue;
                }
                let inner = name["charts/".len()..].to_owned();
                let folder = inner.split('/').next().unwrap_or_default().to_owned();
                file.name = inner;
                subcharts.entry(folder).or_default().push(file);
            }
            _ => chart.files.push(file),
        }
    }
    let Some(metadata) = metadata else {
        return Err(Error::new(Code::ChartInvalid, "Chart.yaml file is missing").in_file(folder));
    };
    chart.metadata = metadata;
    chart.metadata.validate().map_err(|why| Error::new(Code::ChartInvalid, why).in_file(&place))?;
    for (name, files) in subcharts {
        if name.starts_with(['_', '.']) {
            continue;
        }
        let parent = chart.metadata.name.clone();
        let unpacked = if name.rsplit_once('.').is_some_and(|(_, end)| end == "tgz") {
            let packed = &files[0];
            if packed.name != name {
                let why =
                    format!("error unpacking subchart tar in {parent}: expected {name}, got {}", packed.name);
                return Err(Error::new(Code::ChartInvalid, why).in_file(&packed.place));
            }
            unpack(packed, depth + 1, budget)
        } else {
            let inner = files.into_iter().filter_map(|mut file| {
                file.name = file.name.split_once('/')?.1.to_owned();
                Some(file)
            });
            build(inner.collect(), &join(folder, &format!("charts/{name}")), depth + 1, budget)
        };
        let mut subchart = unpacked.map_err(|error| {
            let why = format!("error unpacking subchart {name} in {parent}: {}", error.why);
            Error { why, ..error }
        })?;
        subchart.below = Rc::new(RefCell::new(parent));
        chart.dependencies.push(subchart);
    }
    Ok(chart)
}

impl Chart {
    /// Its name, or the alias it is used under.
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Puts charts below this one.
    pub(super) fn adopt(&mut self, charts: Vec<Self>) {
        for chart in &charts {
            chart.below.borrow_mut().clone_from(&self.metadata.name);
        }
        self.dependencies = charts;
    }

    /// The path of a subchart of a chart that has `path`.
    pub(super) fn path_below(&self, path: &str) -> String {
        let above = match path.rsplit_once('/') {
            Some((above, _)) => format!("{above}/{}", self.below.borrow()),
            None => self.below.borrow().clone(),
        };
        format!("{above}/charts/{}", self.metadata.name)
    }

    /// Whether it has only definitions for others.
    pub(super) fn is_library(&self) -> bool {
        self.metadata.kind.eq_ignore_ascii_case("library")
    }

    /// The files of the crds folders, its own first, each with its path below `path`.
    pub(super) fn crds(&self, path: &str, found: &mut Vec<(String, File)>) {
        for file in self.files.iter().filter(|file| file.name.starts_with("crds/")) {
            let end = file.name.rsplit('/').next().and_then(|name| name.rsplit_once('.'));
            let end = end.map(|(_, end)| end.to_ascii_lowercase());
            if matches!(end.as_deref(), Some("yaml" | "yml" | "json")) {
                found.push((format!("{path}/{}", file.name), file.clone()));
            }
        }
        for subchart in &self.dependencies {
            subchart.crds(&subchart.path_below(path), found);
        }
    }
}
