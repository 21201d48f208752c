//! Where the fields of a chart's objects come from: the line of the template, and the values that were read for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chart::Chart;
use super::manifests::{self, Manifest, Sorted};
use super::{Line, Options, Prepared, prepare, read, set};
use crate::error::Result;
use crate::model::{Object, Origin, yaml};
use crate::render::explain::{Explanation, Field, Read, Written, leaves, lines};
use crate::render::plain::{self, Stated};
use crate::render::template::Mark;
use crate::render::template::value::{Fields, Value};
use crate::render::tree::resolve;
use crate::render::{Tree, join};

/// The story of every object, in the order of the render.
///
/// # Errors
/// As [`super::render`].
pub(in crate::render) fn explain(
    tree: &dyn Tree,
    folder: &str,
    options: &Options,
) -> Result<Vec<Explanation>> {
    let prepared = prepare(tree, folder, options)?;
    let texts = prepared.run_traced(options)?;
    let values = Values::read(tree, folder, &prepared, options)?;
    let mut explained = Vec::new();
    for (path, file) in prepared.crds(options) {
        let text = String::from_utf8_lossy(&file.data);
        let place =
            |line: usize| (Written { file: file.place.to_string(), line, by: "crds".to_owned() }, Vec::new());
        document(&text, &path, &file.place, &place, &mut explained)?;
    }
    let Sorted { manifests, hooks } = manifests::sort(&texts)?;
    let none = Vec::new();
    for one in manifests.iter().chain(hooks.iter().filter(|hook| !hook.is_test)) {
        let traced = Traced {
            manifest: one,
            whole: texts.files.get(&one.path).map_or("", |(text, _)| text),
            marks: texts.origins.get(&one.path).unwrap_or(&none),
            chain: values.chains.get(&one.path).map_or(&[], Vec::as_slice),
            values: &values,
        };
        document(&one.text, &one.path, &one.file.place, &|line| traced.place(line), &mut explained)?;
    }
    Ok(explained)
}

/// Who wrote a line (1-based) of a text, and what was read for it.
type Place<'a> = &'a dyn Fn(usize) -> (Written, Vec<Read>);

/// The objects of the documents of a text.
fn document(
    text: &str,
    path: &str,
    place: &str,
    of: Place<'_>,
    explained: &mut Vec<Explanation>,
) -> Result<()> {
    let syntax = yaml::syntax(text.as_bytes(), place)?;
    let mut stated: Vec<Stated> = syntax.iter().map(Stated::new).collect();
    for document in manifests::documents(text, path, place)? {
        let mut stated = stated.iter_mut().find(|stated| stated.line == document.line);
        let mut objects: Vec<Object> = Vec::new();
        let origin = Origin { file: Arc::from(place), line: document.line };
        plain::flatten(document.value, &origin, &mut objects, 0)?;
        for object in objects {
            let base = stated.as_mut().and_then(|stated| stated.objects.next()).unwrap_or_default();
            let mut found = Vec::new();
            leaves(object.value(), "", &mut found);
            let field = |(path, value): (String, serde_json::Value)| {
                let line = stated.as_ref().and_then(|stated| stated.lines.get(&format!("{base}{path}")));
                let (written, values) = of(line.copied().unwrap_or(document.line));
                Field { path, value, written, values, ..Field::default() }
            };
            let fields = found.into_iter().map(field).collect();
            explained.push(Explanation { fields, ..Explanation::of(object.value()) });
        }
    }
    Ok(())
}

/// A manifest, in the output that it is a piece of.
struct Traced<'a> {
    manifest: &'a Manifest,
    whole: &'a str,
    marks: &'a [Mark],
    /// The subcharts that lead to the chart whose values it saw.
    chain: &'a [String],
    values: &'a Values,
}

impl Traced<'_> {
    fn place(&self, line: usize) -> (Written, Vec<Read>) {
        let by = "templates".to_owned();
        let text = &self.manifest.text;
        let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let shown = text[before..].lines().next().unwrap_or_default();
        let begin = self.manifest.offset + before + (shown.len() - shown.trim_start().len());
        let end = self.manifest.offset + before + shown.len();
        debug_assert!(end <= self.whole.len());
        let first = self.marks.partition_point(|mark| mark.offset <= begin).saturating_sub(1);
        let Some(mark) = self.marks.get(first) else {
            let file = self.manifest.file.place.to_string();
            return (Written { file, line: self.manifest.line, by }, Vec::new());
        };
        let file = self.values.places.get(&*mark.file).cloned().unwrap_or_else(|| mark.file.to_string());
        let mut read: Vec<Read> = Vec::new();
        for path in
            self.marks[first..].iter().take_while(|mark| mark.offset < end).flat_map(|mark| &mark.values)
        {
            if !read.iter().any(|known| known.path == *path) {
                read.push(Read { path: path.clone(), written: self.values.origin(self.chain, path) });
            }
        }
        (Written { file, line: mark.line, by }, read)
    }
}

/// Where values are given, those that win first.
struct Values {
    given: Vec<Given>,
    /// Defaults of charts by the subcharts that lead to them.
    defaults: BTreeMap<Vec<String>, Given>,
    /// By the path of a template in the output, the subcharts that lead to its chart.
    chains: BTreeMap<String, Vec<String>>,
    /// And where its file is in the tree.
    places: BTreeMap<String, String>,
}

/// One place that gives values.
struct Given {
    file: String,
    by: &'static str,
    what: What,
}

enum What {
    /// A file, with the line of each of its leaves.
    Lines(BTreeMap<String, usize>),
    /// A place without lines.
    Map(Value),
}

impl Given {
    /// The line of what it says at a path; 0 where it says something and has no lines.
    fn line(&self, path: &[&str]) -> Option<usize> {
        match &self.what {
            What::Lines(lines) => {
                let pointer = path
                    .iter()
                    .fold(String::new(), |pointer, name| crate::render::explain::below(&pointer, name));
                let inner = format!("{pointer}/");
                let below = lines.range(inner.clone()..).take_while(|(path, _)| path.starts_with(&inner));
                lines.get(&pointer).copied().or_else(|| below.map(|(_, line)| *line).min())
            }
            What::Map(value) => holds(value, path).then_some(0),
        }
    }

    fn written(&self, line: usize) -> Written {
        Written { file: self.file.clone(), line, by: self.by.to_owned() }
    }
}

fn holds(value: &Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    value.fields().is_some_and(|fields| fields.borrow().get(*first).is_some_and(|value| holds(value, rest)))
}

impl Values {
    fn read(tree: &dyn Tree, folder: &str, prepared: &Prepared, options: &Options) -> Result<Self> {
        let mut given = Vec::new();
        let mut single = |line: &str, text: bool, by: &'static str| {
            let map = Fields::default();
            let reader: set::Read<'_> = if text { &set::untyped } else { &set::typed };
            // What cannot be read ended the render.
            if set::apply(line, &map, reader).is_ok() {
                given.push(Given { file: String::new(), by, what: What::Map(Value::Map(map)) });
            }
        };
        // The last one that is applied wins: all of --set-file, then --set-string, then --set.
        let files = options.file_parameters.iter().map(|(name, path)| set::line(name, path));
        files.collect::<Vec<_>>().iter().rev().for_each(|line| single(line, true, "fileParameters"));
        for wants_text in [true, false] {
            for line in options.lines.iter().rev() {
                match line {
                    Line::File(line) if wants_text => single(line, true, "--set-file"),
                    Line::Text(line) if wants_text => single(line, true, "--set-string"),
                    Line::Typed(line) if !wants_text => single(line, false, "--set"),
                    _ => {}
                }
            }
            for one in options.parameters.iter().rev().filter(|one| one.text == wants_text) {
                single(&set::line(&one.name, &one.value), wants_text, "parameters");
            }
        }
        if !options.values.is_empty() {
            let inline = Value::from_json(&serde_json::Value::Object(options.values.clone()));
            given.push(Given { file: String::new(), by: "values", what: What::Map(inline) });
        }
        for name in options.values_files.iter().rev() {
            if let Some((file, data)) = read(tree, &resolved(tree, folder)?, name, &mut Vec::new())? {
                given.push(Given { what: What::Lines(lines_of(&data, &file)), file, by: "valuesFiles" });
            }
        }
        let mut all =
            Self { given, defaults: BTreeMap::new(), chains: BTreeMap::new(), places: BTreeMap::new() };
        all.charts(tree, &prepared.chart, prepared.chart.name(), &mut Vec::new())?;
        Ok(all)
    }

    fn charts(&mut self, tree: &dyn Tree, chart: &Chart, path: &str, chain: &mut Vec<String>) -> Result<()> {
        let file = chart.place.trim_end_matches("Chart.yaml").to_owned() + "values.yaml";
        // Of an archive, the tree has no lines.
        let found = if file.contains('!') { None } else { resolve(tree, &file)? };
        let what = match found {
            Some(found) => What::Lines(lines_of(&tree.read(&found.path)?, &file)),
            None => What::Map(chart.values.clone()),
        };
        self.defaults.insert(chain.clone(), Given { file, by: "values.yaml", what });
        for file in &chart.templates {
            let name = join(path, &file.name);
            self.places.insert(name.clone(), file.place.to_string());
            self.chains.insert(name, chain.clone());
        }
        for subchart in &chart.dependencies {
            chain.push(subchart.name().to_owned());
            self.charts(tree, subchart, &subchart.path_below(path), chain)?;
            chain.pop();
        }
        Ok(())
    }

    /// Who gave a value that a chart reads; nobody where it is not given at all.
    fn origin(&self, chain: &[String], path: &str) -> Written {
        let own: Vec<&str> = path.split('.').filter(|name| !name.is_empty()).collect();
        let names: Vec<&str> = chain.iter().map(String::as_str).collect();
        let below = |skip: usize| -> Vec<&str> { names[skip..].iter().chain(&own).copied().collect() };
        let global = own.first() == Some(&"global");
        let look = |given: &Given, path: &[&str]| given.line(path).map(|line| given.written(line));
        let from = |given: &Given, skip: usize| {
            let whole = global.then(|| look(given, &own)).flatten();
            whole.or_else(|| look(given, &below(skip)))
        };
        let stated = self.given.iter().find_map(|given| from(given, 0));
        let defaults =
            || (0..=chain.len()).find_map(|depth| from(self.defaults.get(&chain[..depth])?, depth));
        stated
            .or_else(defaults)
            .unwrap_or_else(|| Written { by: "not given".to_owned(), ..Written::default() })
    }
}

fn resolved(tree: &dyn Tree, folder: &str) -> Result<String> {
    Ok(resolve(tree, folder)?.map_or_else(|| folder.to_owned(), |found| found.path))
}

fn lines_of(data: &[u8], file: &str) -> BTreeMap<String, usize> {
    // What cannot be read ended the render.
    let documents = yaml::syntax(data, file).unwrap_or_default();
    documents.first().map(lines).unwrap_or_default()
}
