//! Runs the templates of a chart and all below it, in the order and with the data of Helm's engine.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::chart::{Chart, File};
use super::files::Files;
use super::metadata::chart as chart_value;
use super::values::{empty, fields, table_at};
use crate::error::{Code, Error, Result};
use crate::render::template::value::{Fields, Value};
use crate::render::template::{Failure, Mark, Set, Surroundings};

/// What templates gave.
pub(super) struct Texts {
    /// By path (`chart/templates/x.yaml`), with the file it was made of.
    pub(super) files: BTreeMap<String, (String, File)>,
    /// Whether anything depends on the seed or the time.
    pub(super) volatile: bool,
    /// By path, where the lines came from; only where that is asked.
    pub(super) origins: BTreeMap<String, Vec<Mark>>,
}

struct Template {
    file: File,
    data: Fields,
    base: String,
}

/// What is being installed.
pub(super) struct Release {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// Renders all templates. `values` are those of the whole; templates may change them.
///
/// # Errors
/// `TemplateFailed` in Helm's words, with the file.
pub(super) fn run(
    chart: &Chart,
    values: Fields,
    about: &Release,
    capabilities: Value,
    (surroundings, traced): (&Surroundings, bool),
) -> Result<Texts> {
    let mut release = BTreeMap::new();
    for (name, value) in [
        ("Name", Value::text(&about.name)),
        ("Namespace", Value::text(&about.namespace)),
        ("IsUpgrade", Value::Bool(false)),
        ("IsInstall", Value::Bool(true)),
        ("Revision", Value::Int(1)),
        ("Service", Value::text("Helm")),
    ] {
        release.insert(name.to_owned(), value);
    }
    let shared = Shared { release: Value::map(release), capabilities };
    let mut templates = BTreeMap::new();
    gather(chart, &mut templates, &Value::Map(values), &shared, (chart.name().to_owned(), true));
    // Deep paths first; a chart's own definitions come after those of its subcharts, and win.
    let mut order: Vec<&String> = templates.keys().collect();
    order.sort_by(|one, other| {
        other.matches('/').count().cmp(&one.matches('/').count()).then_with(|| other.cmp(one))
    });
    let failed = |failure: Failure| {
        let place = templates.get(&failure.file).map_or(&*chart.place, |template| &*template.file.place);
        Error::new(Code::TemplateFailed, failure.words()).in_file(place).at(failure.line, 0)
    };
    let mut set = Set::default();
    for name in &order {
        let text = String::from_utf8_lossy(&templates[*name].file.data);
        set.add(name, &text).map_err(failed)?;
    }
    let runs = order.iter().filter(|name| !is_partial(name)).map(|name| {
        let template = &templates[*name];
        let mut about = BTreeMap::new();
        about.insert("Name".to_owned(), Value::text(name));
        about.insert("BasePath".to_owned(), Value::text(&template.base));
        template.data.borrow_mut().insert("Template".to_owned(), Value::values(about));
        (name.as_str(), Value::Values(template.data.clone()))
    });
    let output = if traced { set.explain(runs, surroundings) } else { set.run(runs, surroundings) };
    let output = output.map_err(failed)?;
    let volatile = output.volatile;
    let names = output.files.iter().map(|(name, _)| (*name).to_owned());
    let origins = names.zip(output.origins).collect();
    let texts: HashMap<String, String> =
        output.files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let files = texts.into_iter().filter_map(|(name, text)| {
        let file = templates.get(&name)?.file.clone();
        Some((name, (text, file)))
    });
    Ok(Texts { files: files.collect(), volatile, origins })
}

/// Whether a template is only there for others.
pub(super) fn is_partial(path: &str) -> bool {
    path.rsplit('/').next().unwrap_or(path).starts_with('_')
}

struct Shared {
    release: Value,
    capabilities: Value,
}

/// The data of a chart, after that of all below it.
fn gather(
    chart: &Chart,
    templates: &mut BTreeMap<String, Template>,
    values: &Value,
    shared: &Shared,
    (path, root): (String, bool),
) -> Value {
    let below = Fields::default();
    let mut data = BTreeMap::new();
    for (name, value) in [
        ("Chart", chart_value(&chart.metadata, root)),
        ("Files", Value::Object(Rc::new(Files::new(&chart.files)))),
        ("Release", shared.release.clone()),
        ("Capabilities", shared.capabilities.clone()),
        // A type of Helm's own, with methods such as `AsMap`.
        ("Values", values.fields().map_or_else(|| values.clone(), |fields| Value::Values(fields.clone()))),
        ("Subcharts", Value::Map(below.clone())),
    ] {
        data.insert(name.to_owned(), value);
    }
    let data = fields(data);
    for subchart in &chart.dependencies {
        let inner = match values {
            Value::Map(fields) => table_at(fields, subchart.name()).map(Value::Map),
            _ => None,
        };
        let inner_path = subchart.path_below(&path);
        let inner = gather(subchart, templates, &inner.unwrap_or_else(empty), shared, (inner_path, false));
        below.borrow_mut().insert(subchart.name().to_owned(), inner);
    }
    for file in &chart.templates {
        if chart.is_library() && !is_partial(&file.name) {
            continue;
        }
        let name = format!("{path}/{}", file.name);
        let base = format!("{path}/templates");
        templates.insert(name, Template { file: file.clone(), data: data.clone(), base });
    }
    Value::Map(data)
}
