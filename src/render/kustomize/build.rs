//! Walks kustomizations: resources, bases and components come in, transformers change them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::fields::{BackReference, FieldSpec, Fields, Gvk, merge_reference, merge_specs};
use super::generate;
use super::kustomization::{
    GeneratorArguments, HelmChart, HelmGlobals, Image, Kustomization, NAMES, Patch, Replacement,
    ReplacementEntry, Replica, Selector, Strings, Var, line_below, line_of, typed,
};
use super::ledger::{Ledger, Step};
use super::node::{Kind, NodeId, Nodes, Place, invalid};
use super::parse;
use super::resource::{Resource, Resources, Trace};
use super::schema::Schema;
use super::transform::{self, MergePatch, Subjects, Transformer};
use super::vars;
use crate::error::{Code, Error, Result};
use crate::model::yaml::{self, MAX_NODES};
use crate::render::tree::{Resolved, resolve};
use crate::render::{EntryKind, Tree};

/// Deepest chain of kustomizations.
const MAX_CHAIN: usize = 100;

/// What was gathered so far.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) resources: Resources,
    /// `None` while no kustomization brought any.
    pub(super) fields: Option<Arc<Fields>>,
    pub(super) vars: BTreeMap<String, Var>,
}

impl Gathered {
    fn add_fields(&mut self, other: &Arc<Fields>) -> Result<()> {
        self.fields = Some(match self.fields.take() {
            // Into nothing, too, they are merged one by one: of [kind=A] and one for all kinds, the first stays.
            None if Arc::ptr_eq(other, &Fields::defaults()) => other.clone(),
            None => Arc::new(Fields::default().merge(other)?),
            Some(own) if Arc::ptr_eq(&own, other) => own,
            Some(own) => Arc::new(Arc::unwrap_or_clone(own).merge(other)?),
        });
        Ok(())
    }

    fn absorb(&mut self, nodes: &Nodes, other: Self) -> Result<()> {
        self.resources.append_all(nodes, other.resources)?;
        if let Some(fields) = &other.fields {
            self.add_fields(fields)?;
        }
        other.vars.into_values().try_for_each(|var| vars::keep(&mut self.vars, var))
    }
}

/// A kustomization that was read.
pub(super) struct Layer {
    /// Its folder, without links.
    folder: String,
    file: Arc<str>,
    bytes: Arc<[u8]>,
    pub(super) kustomization: Kustomization,
}

/// A kustomization file, for any number of builds.
struct ReadKustomization {
    bytes: Arc<[u8]>,
    kustomization: Kustomization,
}

impl Layer {
    /// A kustomization around this one that no file holds; its paths are those of this one.
    pub(super) fn around(&self, name: &str, kustomization: Kustomization) -> Self {
        Self { folder: self.folder.clone(), file: name.into(), bytes: Arc::default(), kustomization }
    }

    /// The line in which a text that is written in place begins.
    fn line_of_text(&self, text: &str) -> usize {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        line_of(&self.bytes, first.trim()).max(1)
    }

    /// An error at the line of this file that holds a word.
    fn at(&self, error: Error, word: &str) -> Error {
        if error.place.file.is_some() {
            error
        } else {
            error.in_file(&self.file).at(line_of(&self.bytes, word), 0)
        }
    }

    /// An error at the line below a field that holds a word, or at the field.
    fn at_field(&self, error: Error, field: &str, word: &str) -> Error {
        if error.place.file.is_some() {
            error
        } else {
            error.in_file(&self.file).at(line_below(&self.bytes, field, word), 0)
        }
    }

    /// A change that a field of this kustomization makes, for the ledger.
    pub(super) fn step(&self, field: &'static str, detail: &str) -> Step {
        Step {
            by: field,
            file: self.file.clone(),
            bytes: self.bytes.clone(),
            detail: detail.to_owned(),
            operations: Vec::new(),
        }
    }
}

/// A transformer with the field that asks for it.
struct Planned {
    transformer: Transformer,
    origin: Option<Trace>,
    field: &'static str,
    /// A word in the line below the field.
    detail: String,
}

pub(super) struct Build<'a> {
    tree: &'a dyn Tree,
    pub(super) nodes: Nodes,
    pub(super) schema: Arc<Schema>,
    own_schema: bool,
    /// Paths and identities; an empty identity is a path where nothing is.
    pub(super) reads: Vec<(String, String)>,
    /// Folders that are being worked on, outermost first.
    chain: Vec<String>,
    /// Where the current kustomization is, as seen from the outermost; only with `buildMetadata`.
    trace: Option<String>,
    /// Which place wrote which field; only where that is asked for.
    pub(super) ledger: Option<Ledger>,
}

impl<'a> Build<'a> {
    pub(super) fn new(tree: &'a dyn Tree) -> Self {
        Self {
            tree,
            nodes: Nodes::default(),
            schema: Schema::built_in(),
            own_schema: false,
            reads: Vec::new(),
            chain: Vec::new(),
            trace: None,
            ledger: None,
        }
    }

    /// Notes what a change did to objects, where that is asked for.
    pub(super) fn note(&mut self, resources: &mut Resources, step: impl FnOnce() -> Step) {
        if let Some(ledger) = &mut self.ledger {
            ledger.note(&self.nodes, &mut resources.list, &step());
        }
    }

    /// Reads the kustomization of a folder.
    pub(super) fn layer(&mut self, folder: &str) -> Result<Layer> {
        let mut found = Vec::new();
        for name in NAMES {
            let path = crate::render::join(folder, name);
            match resolve(self.tree, &path)?.filter(|found| found.entry.kind == EntryKind::File) {
                Some(file) => found.push((path, file)),
                None => self.reads.push((path, String::new())),
            }
        }
        let shown = if folder.is_empty() { "the root" } else { folder };
        let Some((path, file)) = found.pop() else {
            let why = format!("{shown} has no kustomization file ({})", NAMES.join(", "));
            return Err(Error::new(Code::PathNotFound, why));
        };
        if !found.is_empty() {
            return Err(invalid(format!("{shown} has more than one kustomization file")).in_file(path));
        }
        let read = |bytes: Vec<u8>| -> Result<ReadKustomization> {
            Ok(ReadKustomization { kustomization: Kustomization::read(&bytes, &path)?, bytes: bytes.into() })
        };
        let tree = self.tree;
        let (bytes, kustomization) = if let Some(parses) = tree.parses() {
            let kept = parses.of("kustomization", &file.entry.identity, || {
                let bytes = tree.read(&file.path)?;
                let size = 4 * bytes.len() + 1_000;
                Ok((read(bytes)?, size))
            })?;
            self.note_read(file);
            (kept.bytes.clone(), kept.kustomization.clone())
        } else {
            let read = read(self.read(file)?)?;
            (read.bytes, read.kustomization)
        };
        Ok(Layer { folder: folder.to_owned(), file: path.into(), bytes, kustomization })
    }

    fn note_read(&mut self, found: Resolved) {
        self.reads.extend(found.links);
        self.reads.push((found.path, found.entry.identity));
    }

    /// The objects of a file.
    fn file_objects(&mut self, found: Resolved) -> Result<Vec<Resource>> {
        let (tree, file) = (self.tree, found.path.clone());
        let Some(parses) = tree.parses() else {
            let bytes = self.read(found)?;
            return self.objects(&bytes, &file, 1);
        };
        let parsed = parses.of("kustomize", &found.entry.identity, || {
            let parsed = parse::parsed(&tree.read(&file)?, &file)?;
            let size = parsed.bytes();
            Ok((parsed, size))
        })?;
        self.note_read(found);
        let documents = self.nodes.splice(&parsed, &file);
        self.among(documents, &file)
    }

    fn read(&mut self, found: Resolved) -> Result<Vec<u8>> {
        let bytes = self.tree.read(&found.path)?;
        self.note_read(found);
        Ok(bytes)
    }

    /// The content of a file that a kustomization names.
    pub(super) fn load(&mut self, layer: &Layer, path: &str) -> Result<(String, Vec<u8>)> {
        let missing = |why: String| Err(layer.at(Error::new(Code::PathNotFound, why), path));
        if is_remote(path) {
            return Err(layer.at(remote(path), path));
        }
        if path.starts_with('/') {
            return missing(format!("the path {path} is absolute; paths are relative to the kustomization"));
        }
        match self.find(layer, path)? {
            Some(found) if found.entry.kind == EntryKind::File => {
                let real = found.path.clone();
                Ok((real, self.read(found)?))
            }
            Some(_) => missing(format!("{path} is a folder where a file is needed")),
            None => missing(format!("the file {path} does not exist")),
        }
    }

    /// Whether `openapi` of a kustomization holds; the outermost's wins.
    pub(super) fn use_schema(&mut self, layer: &Layer, outermost: bool) -> Result<()> {
        let openapi = &layer.kustomization.openapi;
        if self.own_schema && !outermost {
            return Ok(());
        }
        match (openapi.get("path"), openapi.get("version")) {
            (Some(_), Some(_)) => {
                Err(layer.at(invalid("openapi has path and version; only one can be used"), "openapi"))
            }
            (Some(path), None) => {
                let (file, bytes) = self.load(layer, path)?;
                let mut schema = if outermost { Schema::default() } else { (*self.schema).clone() };
                schema.add_document(&bytes, &file)?;
                (self.schema, self.own_schema) = (Arc::new(schema), true);
                Ok(())
            }
            (None, Some(version)) if version != "v1.21.2" && version != "v1212" => Err(layer.at(
                invalid(format!("the OpenAPI version {version} is not built in, only v1.21.2")),
                "openapi",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn tree(&self) -> &'a dyn Tree {
        self.tree
    }

    /// Nothing is there now; something may come.
    pub(super) fn note_missing(&mut self, layer: &Layer, path: &str) {
        self.reads.push((clean(&layer.folder, path), String::new()));
    }

    /// What stands at a path that a kustomization names.
    pub(super) fn find(&self, layer: &Layer, path: &str) -> Result<Option<Resolved>> {
        resolve(self.tree, &crate::render::join(&layer.folder, path)).map_err(|error| {
            let line = line_of(&layer.bytes, path);
            Error::new(error.code, format!("{path}: {}", error.why)).in_file(&layer.file).at(line, 0)
        })
    }

    /// Begins to note where objects come from.
    pub(super) fn begin_trace(&mut self) {
        self.trace = Some(String::new());
    }

    /// Everything below a kustomization, changed as it says. A component changes what its parent has.
    pub(super) fn gather(&mut self, layer: &Layer, mut gathered: Gathered) -> Result<Gathered> {
        self.chain.push(layer.folder.clone());
        let k = &layer.kustomization;
        self.resources(layer, &mut gathered, &k.resources)?;
        self.note(&mut gathered.resources, || layer.step("resources", ""));
        gathered.add_fields(&self.configurations(layer)?)?;
        let crds = self.crd_fields(layer)?;
        if crds != Fields::default() {
            gathered.add_fields(&Arc::new(crds))?;
        }
        self.generators(layer, &mut gathered)?;
        for path in &k.components {
            gathered = self.folder(layer, path, gathered, true)?;
        }
        self.transformers(layer, &mut gathered)?;
        if let Some(first) = k.validators.first() {
            return Err(layer
                .at(invalid(format!("validators are plugins, which are not run: {first}")), "validators"));
        }
        vars::collect(&self.nodes, &mut gathered.resources, &mut gathered.vars, &k.vars)
            .map_err(|error| layer.at(error, "vars"))?;
        self.chain.pop();
        Ok(gathered)
    }

    /// A kustomization around the one whose result this is.
    pub(super) fn gather_around(&mut self, around: &Layer, inner: Gathered) -> Result<Gathered> {
        let mut start = Gathered::default();
        start.absorb(&self.nodes, inner)?;
        self.gather(around, start)
    }

    fn resources(&mut self, layer: &Layer, gathered: &mut Gathered, paths: &[String]) -> Result<()> {
        for path in paths {
            if is_remote(path) {
                return Err(layer.at(remote(path), path));
            }
            match self.find(layer, path)? {
                Some(found) if found.entry.kind == EntryKind::Folder => {
                    *gathered = self.folder(layer, path, std::mem::take(gathered), false)?;
                }
                Some(found) => {
                    let origin = self
                        .trace
                        .as_ref()
                        .map(|trace| Trace { path: clean(trace, path), ..Trace::default() });
                    for mut resource in self.file_objects(found)? {
                        resource.origin.clone_from(&origin);
                        gathered
                            .resources
                            .append(&self.nodes, resource)
                            .map_err(|error| layer.at(error, path))?;
                    }
                }
                None => {
                    self.reads.push((clean(&layer.folder, path), String::new()));
                    let why = format!("the resource {path} does not exist");
                    return Err(layer.at(Error::new(Code::PathNotFound, why), path));
                }
            }
        }
        Ok(())
    }

    /// A base or a component.
    fn folder(
        &mut self,
        layer: &Layer,
        path: &str,
        mut into: Gathered,
        is_component: bool,
    ) -> Result<Gathered> {
        if is_remote(path) {
            return Err(layer.at(remote(path), path));
        }
        let found = self.find(layer, path)?;
        let Some(found) = found.filter(|found| found.entry.kind == EntryKind::Folder) else {
            let why = format!("the folder {path} does not exist");
            return Err(layer.at(Error::new(Code::PathNotFound, why), path));
        };
        self.reads.extend(found.links);
        let inside = |outer: &str, inner: &str| {
            outer.is_empty() || outer == inner || inner.starts_with(&format!("{outer}/"))
        };
        if let Some(open) = self.chain.iter().find(|open| inside(&found.path, open)) {
            let chain = [self.chain.as_slice(), std::slice::from_ref(&found.path)].concat().join(" -> ");
            let why = format!(
                "a cycle: {path} is or holds {}, which is being built ({chain})",
                if open.is_empty() { "the root" } else { open }
            );
            return Err(layer.at(invalid(why), path));
        }
        if self.chain.len() >= MAX_CHAIN {
            return Err(layer.at(
                Error::new(Code::BudgetExceeded, "more than 100 kustomizations below each other"),
                path,
            ));
        }
        let outer_trace = self.trace.clone();
        self.trace = outer_trace.as_ref().map(|trace| clean(trace, path));
        let below = self.below(layer, &found.path, &mut into, is_component).map_err(|mut error| {
            let line = line_of(&layer.bytes, path);
            error.why = format!("{} (by way of {}:{line})", error.why, layer.file);
            if error.place.file.is_none() { error.in_file(&layer.file).at(line, 0) } else { error }
        })?;
        self.trace = outer_trace;
        into.absorb(&self.nodes, below).map_err(|error| layer.at(error, path))?;
        Ok(into)
    }

    fn below(
        &mut self,
        layer: &Layer,
        folder: &str,
        into: &mut Gathered,
        is_component: bool,
    ) -> Result<Gathered> {
        let mut inner = self.layer(folder)?;
        inner.kustomization.build_metadata.clone_from(&layer.kustomization.build_metadata);
        self.use_schema(&inner, false)?;
        match (is_component, inner.kustomization.kind == "Component") {
            (true, false) => return Err(inner.at(invalid("a component needs kind: Component"), "kind:")),
            (false, true) => {
                return Err(inner
                    .at(invalid("this is a Component; name it under components, not resources"), "kind:"));
            }
            _ => {}
        }
        let start = if is_component { std::mem::take(into) } else { Gathered::default() };
        self.gather(&inner, start)
    }

    /// The objects of a text that begins in line `first` of its file; a list is its items.
    fn objects(&mut self, bytes: &[u8], file: &str, first: usize) -> Result<Vec<Resource>> {
        let documents = parse::documents(&mut self.nodes, bytes, file, first)?;
        self.among(documents, file)
    }

    /// The objects among documents; a list is its items.
    fn among(&self, documents: Vec<NodeId>, file: &str) -> Result<Vec<Resource>> {
        let mut queue = std::collections::VecDeque::from(documents);
        if self.nodes.len() > 4 * MAX_NODES {
            return Err(
                Error::new(Code::BudgetExceeded, "the build has more than 16,000,000 nodes").in_file(file)
            );
        }
        let nodes = &self.nodes;
        if let (1, Some(only)) = (queue.len(), queue.front().copied())
            && matches!(nodes.text_of(only, "kind"), Some("List" | "ResourceList"))
            && let Some(items) = nodes.field(only, "items")
        {
            queue = nodes[items].children.iter().copied().collect();
        }
        let mut objects = Vec::new();
        while let Some(id) = queue.pop_front() {
            let nodes = &self.nodes;
            if nodes[id].is_empty() {
                continue;
            }
            let kind = nodes.text_of(id, "kind").unwrap_or_default();
            if kind.is_empty() {
                return Err(nodes.fail(id, "the document has no kind"));
            }
            if let Some(items) =
                Some(kind).filter(|kind| kind.ends_with("List")).and_then(|_| nodes.field(id, "items"))
            {
                if nodes.is_null(items) {
                    continue;
                }
                if nodes[items].kind != Kind::Sequence {
                    return Err(nodes.fail(items, format!("items of a {kind} is no list")));
                }
                queue.extend(nodes[items].children.iter().copied());
                continue;
            }
            let metadata = nodes.field(id, "metadata").filter(|id| !nodes[*id].is_empty());
            if !kind.ends_with("List")
                && metadata.and_then(|metadata| nodes.text_of(metadata, "name")).is_none_or(str::is_empty)
            {
                return Err(nodes.fail(id, format!("the {kind} has no metadata.name")));
            }
            objects.push(Resource::new(id));
        }
        Ok(objects)
    }

    fn configurations(&mut self, layer: &Layer) -> Result<Arc<Fields>> {
        let defaults = Fields::defaults();
        let mut own: Option<Fields> = None;
        for path in &layer.kustomization.configurations {
            let (file, bytes) = self.load(layer, path)?;
            let value = yaml::read(&bytes, &file)?
                .into_iter()
                .next()
                .map(|document| document.value)
                .unwrap_or_default();
            let mut read: Fields = if value.is_null() {
                Fields::default()
            } else {
                typed(value).map_err(|error| error.in_file(&file))?
            };
            read.sort();
            own = Some(match own {
                None => read,
                Some(own) => own.merge(&read).map_err(|error| error.in_file(&file))?,
            });
        }
        match own {
            None => Ok(defaults),
            Some(own) => (*defaults)
                .clone()
                .merge(&own)
                .map(Arc::new)
                .map_err(|error| layer.at(error, "configurations")),
        }
    }

    /// What OpenAPI definitions of custom kinds say about names, labels and annotations in them.
    fn crd_fields(&mut self, layer: &Layer) -> Result<Fields> {
        let mut fields = Fields::default();
        for path in &layer.kustomization.crds {
            let (file, bytes) = self.load(layer, path)?;
            let document = yaml::read(&bytes, &file)?.into_iter().next();
            let Some(Value::Object(types)) = document.map(|document| document.value) else {
                return Err(invalid("this is no map of OpenAPI definitions").in_file(file));
            };
            let schema =
                |api: &Value| api.get("Schema").or_else(|| api.get("schema")).cloned().unwrap_or_default();
            for (name, api) in &types {
                let properties = &schema(api)["properties"];
                if ["kind", "apiVersion", "metadata"].iter().any(|field| properties.get(field).is_none()) {
                    continue;
                }
                let kind = name.rsplit('.').next().unwrap_or(name).to_owned();
                let gvk = Gvk { kind, ..Gvk::default() };
                crd_properties(&mut fields, &gvk, &types, name, &mut Vec::new())?;
            }
        }
        fields.sort();
        Ok(fields)
    }

    fn generators(&mut self, layer: &Layer, gathered: &mut Gathered) -> Result<()> {
        let k = &layer.kustomization;
        let lists = [
            ("ConfigMap", &k.config_map_generator, "configMapGenerator"),
            ("Secret", &k.secret_generator, "secretGenerator"),
        ];
        for (kind, list, field) in lists {
            for arguments in list {
                let mut arguments = arguments.clone();
                arguments.complete(k.generator_options.as_ref());
                let origin = self.builtin(layer, &format!("{kind}Generator"));
                let name = format!("name: {}", arguments.name);
                self.generate(layer, gathered, kind, &arguments, origin).map_err(|error| {
                    let line = line_below(&layer.bytes, field, &name);
                    if error.place.file.is_some() { error } else { error.in_file(&layer.file).at(line, 0) }
                })?;
                self.note(&mut gathered.resources, || layer.step(field, &name));
            }
        }
        for chart in &k.helm_charts {
            let origin = self.builtin(layer, "HelmChartInflationGenerator");
            let globals = k.helm_globals.clone().unwrap_or_default();
            let name = format!("name: {}", chart.name);
            let at = |error: Error| layer.at_field(error, "helmCharts", &name);
            for mut made in self.chart(layer, &globals, chart).map_err(at)? {
                made.origin.clone_from(&origin);
                generate::absorb(&mut self.nodes, &mut gathered.resources, made).map_err(at)?;
            }
            self.note(&mut gathered.resources, || layer.step("helmCharts", &name));
        }
        for config in self.plugins(layer, &k.generators)? {
            let origin = self.configured(&config);
            let kind = config.kind(&self.nodes).to_owned();
            match kind.as_str() {
                "ConfigMapGenerator" | "SecretGenerator" => {
                    let mut arguments: GeneratorArguments = self.plugin(&config, &["name", "namespace"])?;
                    arguments.complete(None);
                    let kind = kind.trim_end_matches("Generator");
                    self.generate(layer, gathered, kind, &arguments, origin)?;
                }
                "IAMPolicyGenerator" => {
                    let policy: IamPolicy = self.plugin(&config, &[])?;
                    let value = policy.service_account()?;
                    let root = self.nodes.read(&value, Place::default());
                    let made = Resource { origin, ..Resource::new(root) };
                    generate::absorb(&mut self.nodes, &mut gathered.resources, made)?;
                }
                "HelmChartInflationGenerator" => {
                    let (globals, chart) = self.chart_plugin(&config)?;
                    let at = |error: Error| layer.at_field(error, "generators", &chart.name);
                    for mut made in self.chart(layer, &globals, &chart).map_err(at)? {
                        made.origin.clone_from(&origin);
                        generate::absorb(&mut self.nodes, &mut gathered.resources, made).map_err(at)?;
                    }
                }
                other => {
                    return Err(self.nodes.fail(config.root, format!("{other} is no built-in generator")));
                }
            }
            self.note(&mut gathered.resources, || layer.step("generators", ""));
        }
        Ok(())
    }

    fn generate(
        &mut self,
        layer: &Layer,
        gathered: &mut Gathered,
        kind: &str,
        arguments: &GeneratorArguments,
        origin: Option<Trace>,
    ) -> Result<()> {
        let mut pairs = Vec::new();
        for path in &arguments.envs {
            let (file, bytes) = self.load(layer, path)?;
            let number = self.nodes.file(&file);
            pairs.extend(generate::env_lines(&bytes, &file, number)?);
        }
        let own = self.nodes.file(&layer.file);
        for source in &arguments.literals {
            let line = if self.ledger.is_some() { line_of(&layer.bytes, source) } else { 0 };
            let place = Place { file: own, line: u32::try_from(line).unwrap_or(0) };
            pairs.push(generate::literal(source, place)?);
        }
        for source in &arguments.files {
            let (key, path) = generate::file_source(source)?;
            let (file, bytes) = self.load(layer, path)?;
            let place = Place { file: self.nodes.file(&file), line: 1 };
            pairs.push((key.to_owned(), bytes, place));
        }
        let mut made = generate::object(&mut self.nodes, kind, arguments, pairs)?;
        made.origin = origin;
        generate::absorb(&mut self.nodes, &mut gathered.resources, made)
    }

    /// The trace of a field of the kustomization that is named like a built-in plugin.
    fn builtin(&self, layer: &Layer, kind: &str) -> Option<Trace> {
        let file = layer.file.rsplit('/').next().unwrap_or(&layer.file);
        self.trace.as_ref().map(|trace| Trace {
            path: String::new(),
            configured_in: clean(trace, file),
            configured_by: Some(["builtin".into(), kind.into(), String::new(), String::new()]),
        })
    }

    fn configured(&self, config: &Resource) -> Option<Trace> {
        let origin = config.origin.as_ref()?;
        let text = |text: &str| text.to_owned();
        let nodes = &self.nodes;
        let by = [
            text(config.api_version(nodes)),
            text(config.kind(nodes)),
            text(config.name(nodes)),
            text(config.namespace(nodes)),
        ];
        Some(Trace { path: String::new(), configured_in: origin.path.clone(), configured_by: Some(by) })
    }

    /// Configurations of generators or transformers: written in place, or paths to files and folders.
    fn plugins(&mut self, layer: &Layer, entries: &[String]) -> Result<Vec<Resource>> {
        let mut gathered = Gathered::default();
        let mut paths = Vec::new();
        for entry in entries {
            // A path is no document with a kind.
            match self.objects(entry.as_bytes(), &layer.file, layer.line_of_text(entry)) {
                Ok(objects) => {
                    let file = layer.file.rsplit('/').next().unwrap_or(&layer.file);
                    let origin = self
                        .trace
                        .as_ref()
                        .map(|trace| Trace { path: clean(trace, file), ..Trace::default() });
                    for mut object in objects {
                        object.origin.clone_from(&origin);
                        gathered.resources.append(&self.nodes, object)?;
                    }
                }
                Err(_) => paths.push(entry.clone()),
            }
        }
        self.resources(layer, &mut gathered, &paths)?;
        for config in &gathered.resources.list {
            if config.api_version(&self.nodes) != "builtin" {
                let why = format!(
                    "{} is a plugin, which is not run; only those of apiVersion builtin are",
                    config.kind(&self.nodes)
                );
                return Err(self.nodes.fail(config.root, why));
            }
        }
        Ok(gathered.resources.list)
    }

    /// The typed form of a plugin's configuration; `from_metadata` are fields taken from there where they are not given.
    fn plugin<T: serde::de::DeserializeOwned>(&self, config: &Resource, from_metadata: &[&str]) -> Result<T> {
        let mut value = self.nodes.value(config.root)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
            let metadata = fields.remove("metadata").unwrap_or_default();
            for name in from_metadata {
                if let Some(found) = metadata.get(name)
                    && !fields.contains_key(*name)
                {
                    fields.insert((*name).to_owned(), found.clone());
                }
            }
        }
        typed(value).map_err(|error| {
            self.nodes.fail(config.root, format!("{}: {}", config.kind(&self.nodes), error.why))
        })
    }

    /// Where charts are, and one of them, from an object of apiVersion builtin.
    fn chart_plugin(&self, config: &Resource) -> Result<(HelmGlobals, HelmChart)> {
        let mut fields: serde_json::Map<String, Value> = self.plugin(config, &[])?;
        let mut globals = serde_json::Map::new();
        for name in ["chartHome", "configHome"] {
            if let Some(value) = fields.remove(name) {
                globals.insert(name.to_owned(), value);
            }
        }
        let place = |error: Error| {
            self.nodes.fail(config.root, format!("HelmChartInflationGenerator: {}", error.why))
        };
        let globals = typed(Value::Object(globals)).map_err(place)?;
        Ok((globals, typed(Value::Object(fields)).map_err(place)?))
    }

    fn transformers(&mut self, layer: &Layer, gathered: &mut Gathered) -> Result<()> {
        let fields = gathered.fields.clone().unwrap_or_default();
        let mut all = self.planned(layer, &fields)?;
        for config in self.plugins(layer, &layer.kustomization.transformers)? {
            let origin = self.configured(&config);
            for transformer in self.configured_transformers(layer, &config)? {
                let detail = config.kind(&self.nodes).to_owned();
                all.push(Planned { transformer, origin: origin.clone(), field: "transformers", detail });
            }
        }
        for Planned { transformer, origin, field, detail } in all {
            transformer
                .apply(&mut self.nodes, &self.schema, &mut gathered.resources)
                .map_err(|error| layer.at_field(error, field, &detail))?;
            if let Some(origin) = origin {
                for resource in &mut gathered.resources.list {
                    match &resource.origin {
                        None => resource.origin = Some(origin.clone()),
                        Some(_) => resource.transformations.push(origin.clone()),
                    }
                }
            }
            gathered.resources.drop_gone(&self.nodes);
            self.note(&mut gathered.resources, || {
                let mut step = layer.step(field, &detail);
                if let Transformer::Json { operations, .. } = transformer {
                    step.operations = operations;
                }
                step
            });
        }
        Ok(())
    }

    /// The transformers that fields ask for, in the order in which kustomize runs them.
    fn planned(&mut self, layer: &Layer, fields: &Fields) -> Result<Vec<Planned>> {
        let k = &layer.kustomization;
        let mut all = Vec::new();
        let mut plan = |build: &Self, transformer, plugin: &str, field, detail: String| {
            all.push(Planned { transformer, origin: build.builtin(layer, plugin), field, detail });
        };
        if !k.patches_strategic_merge.is_empty() {
            let patches = self.merge_patches(layer, &k.patches_strategic_merge)?;
            let merge = Transformer::Merge { patches, target: None };
            plan(self, merge, "PatchStrategicMergeTransformer", "patchesStrategicMerge", String::new());
        }
        for patch in &k.patches {
            let read =
                self.patch(layer, patch).map_err(|error| layer.at_field(error, "patches", &patch.path))?;
            plan(self, read, "PatchTransformer", "patches", patch.path.clone());
        }
        if !k.namespace.is_empty() {
            let namespace = Transformer::Namespace {
                namespace: k.namespace.clone(),
                specs: fields.namespace.clone(),
                unset_only: false,
                subjects: Subjects::Default,
            };
            plan(self, namespace, "NamespaceTransformer", "namespace", String::new());
        }
        if !k.name_prefix.is_empty() {
            let prefix =
                Transformer::Prefix { text: k.name_prefix.clone(), specs: fields.name_prefix.clone() };
            plan(self, prefix, "PrefixTransformer", "namePrefix", String::new());
        }
        if !k.name_suffix.is_empty() {
            let suffix =
                Transformer::Suffix { text: k.name_suffix.clone(), specs: fields.name_suffix.clone() };
            plan(self, suffix, "SuffixTransformer", "nameSuffix", String::new());
        }
        let labels = transform::labels(&k.labels, &k.common_labels, fields)
            .map_err(|error| layer.at(error, "abels:"))?;
        let count = labels.len();
        for (number, transformer) in labels.into_iter().enumerate() {
            let field = if number + 1 == count { "commonLabels" } else { "labels" };
            plan(self, transformer, "LabelTransformer", field, String::new());
        }
        if !k.common_annotations.is_empty() {
            let specs = fields.common_annotations.clone();
            let annotations = Transformer::Strings { strings: k.common_annotations.clone(), specs };
            plan(self, annotations, "AnnotationsTransformer", "commonAnnotations", String::new());
        }
        for patch in &k.patches_json6902 {
            let read = self
                .json_patch(layer, &patch.path, &patch.patch, patch.target.as_ref())
                .map_err(|error| layer.at_field(error, "patchesJson6902", &patch.path))?;
            plan(self, read, "PatchJson6902Transformer", "patchesJson6902", patch.path.clone());
        }
        for replica in &k.replicas {
            let replicas = Transformer::Replicas { replica: replica.clone(), specs: fields.replicas.clone() };
            plan(self, replicas, "ReplicaCountTransformer", "replicas", replica.name.clone());
        }
        for image in &k.images {
            let images = Transformer::Image { image: image.clone(), specs: fields.images.clone() };
            plan(self, images, "ImageTagTransformer", "images", image.name.clone());
        }
        if !k.replacements.is_empty() {
            let replacements =
                self.replacements(layer, &k.replacements).map_err(|error| layer.at(error, "replacements"))?;
            let replacements = Transformer::Replacements(replacements);
            plan(self, replacements, "ReplacementTransformer", "replacements", String::new());
        }
        Ok(all)
    }

    /// Patches written in place or named by path.
    fn merge_patches(&mut self, layer: &Layer, entries: &[String]) -> Result<Vec<MergePatch>> {
        let mut patches = Vec::new();
        for entry in entries {
            let objects =
                if let Ok(objects) = self.objects(entry.as_bytes(), &layer.file, layer.line_of_text(entry)) {
                    objects
                } else {
                    let (file, bytes) = self.load(layer, entry)?;
                    self.objects(&bytes, &file, 1)?
                };
            patches.extend(objects.into_iter().map(|patch| MergePatch {
                patch,
                renames: false,
                changes_kind: false,
            }));
        }
        if patches.is_empty() {
            return Err(layer.at(invalid("the patches are empty"), "patchesStrategicMerge"));
        }
        Ok(patches)
    }

    /// A strategic merge patch or a JSON patch, whichever the text is.
    fn patch(&mut self, layer: &Layer, patch: &Patch) -> Result<Transformer> {
        let inline = patch.patch.trim();
        let (file, text) = match (inline.is_empty(), patch.path.is_empty()) {
            (true, true) => return Err(invalid("a patch needs patch or path")),
            (false, false) => return Err(invalid("a patch has patch or path, not both")),
            (false, true) => (layer.file.to_string(), inline.to_owned()),
            (true, false) => {
                let (file, bytes) = self.load(layer, &patch.path)?;
                let text =
                    String::from_utf8(bytes).map_err(|_| invalid("the patch is not UTF-8").in_file(&file))?;
                (file, text)
            }
        };
        let first = if patch.path.is_empty() { layer.line_of_text(&text) } else { 1 };
        let merged = self.objects(text.as_bytes(), &file, first);
        let mut operations = super::json_patch::read(&text, &file);
        if let (Some(_), Ok(operations)) = (&self.ledger, &mut operations) {
            super::json_patch::locate(operations, &text, &file, first);
        }
        let option = |name: &str| patch.options.get(name).copied().unwrap_or_default();
        match (merged, operations) {
            (Ok(objects), _) if !objects.is_empty() => {
                let patches = objects
                    .into_iter()
                    .map(|patch| MergePatch {
                        patch,
                        renames: option("allowNameChange"),
                        changes_kind: option("allowKindChange"),
                    })
                    .collect();
                Ok(Transformer::Merge { patches, target: patch.target.clone() })
            }
            (_, Ok(operations)) => match &patch.target {
                Some(target) => Ok(Transformer::Json { operations, target: target.clone(), remembers: true }),
                None => Err(invalid("a JSON patch needs a target")),
            },
            (Err(error), Err(other)) => {
                // Of the two readings, the one that the text looks like.
                let json = text.trim_start().starts_with(['-', '[']);
                let error = if json { other } else { error };
                Err(if inline.is_empty() {
                    error
                } else {
                    invalid(format!("the inline patch: {}", error.why))
                })
            }
            (Ok(_), Err(_)) => Err(invalid("the patch is empty").in_file(file)),
        }
    }

    fn json_patch(
        &mut self,
        layer: &Layer,
        path: &str,
        text: &str,
        target: Option<&Selector>,
    ) -> Result<Transformer> {
        let Some(target) = target.filter(|target| !target.name.is_empty()) else {
            return Err(invalid("a JSON patch needs the name of its target"));
        };
        let (file, text) = match (path.is_empty(), text.is_empty()) {
            (true, true) => return Err(invalid("a patch needs patch or path")),
            (false, false) => return Err(invalid("a patch has patch or path, not both")),
            (true, false) => (layer.file.to_string(), text.to_owned()),
            (false, true) => {
                let (file, bytes) = self.load(layer, path)?;
                let text =
                    String::from_utf8(bytes).map_err(|_| invalid("the patch is not UTF-8").in_file(&file))?;
                (file, text)
            }
        };
        let mut operations = super::json_patch::read(&text, &file)?;
        if operations.is_empty() {
            return Err(invalid("the patch is empty").in_file(file));
        }
        if self.ledger.is_some() {
            let first = if path.is_empty() { layer.line_of_text(&text) } else { 1 };
            super::json_patch::locate(&mut operations, &text, &file, first);
        }
        Ok(Transformer::Json { operations, target: target.clone(), remembers: false })
    }

    fn replacements(&mut self, layer: &Layer, entries: &[ReplacementEntry]) -> Result<Vec<Replacement>> {
        let mut all = Vec::new();
        for entry in entries {
            if entry.path.is_empty() {
                all.push(entry.inline());
                continue;
            }
            if entry.has_inline() {
                return Err(invalid("a replacement has a path or is written in place, not both"));
            }
            let (file, bytes) = self.load(layer, &entry.path)?;
            let value = yaml::read(&bytes, &file)?.into_iter().next().map(|document| document.value);
            match value {
                Some(value @ Value::Array(_)) => {
                    all.extend(typed::<Vec<Replacement>>(value).map_err(|error| error.in_file(&file))?);
                }
                Some(value @ Value::Object(_)) => {
                    all.push(typed(value).map_err(|error| error.in_file(&file))?);
                }
                _ => return Err(invalid("a file of replacements is a map or a list").in_file(file)),
            }
        }
        Ok(all)
    }

    /// Transformers from an object of apiVersion builtin.
    fn configured_transformers(&mut self, layer: &Layer, config: &Resource) -> Result<Vec<Transformer>> {
        let kind = config.kind(&self.nodes).to_owned();
        let p: Plugin = self.plugin(config, &["namespace"])?;
        let fail = |build: &Self, why: &str| build.nodes.fail(config.root, format!("{kind}: {why}"));
        let one = match kind.as_str() {
            "AnnotationsTransformer" => {
                Transformer::Strings { strings: p.annotations, specs: p.field_specs.unwrap_or_default() }
            }
            "LabelTransformer" => {
                Transformer::Strings { strings: p.labels, specs: p.field_specs.unwrap_or_default() }
            }
            "HashTransformer" => Transformer::Hash,
            "ImageTagTransformer" => {
                Transformer::Image { image: p.image_tag, specs: p.field_specs.unwrap_or_default() }
            }
            "NamespaceTransformer" => {
                let subjects = match p.set_role_binding_subjects.as_str() {
                    "" | "defaultOnly" => Subjects::Default,
                    "allServiceAccounts" => Subjects::ServiceAccounts,
                    "none" => Subjects::None,
                    _ => {
                        return Err(fail(
                            self,
                            "setRoleBindingSubjects is one of defaultOnly, allServiceAccounts, none",
                        ));
                    }
                };
                Transformer::Namespace {
                    namespace: p.namespace,
                    specs: p.field_specs.unwrap_or_default(),
                    unset_only: p.unset_only,
                    subjects,
                }
            }
            "PatchJson6902Transformer" => self.json_patch(layer, &p.path, &p.json_op, p.target.as_ref())?,
            "PatchStrategicMergeTransformer" => {
                let mut entries = p.paths;
                if !p.patches.is_empty() {
                    entries.push(p.patches);
                }
                Transformer::Merge { patches: self.merge_patches(layer, &entries)?, target: None }
            }
            "PatchTransformer" => {
                let patch = Patch { path: p.path, patch: p.patch, target: p.target, options: p.options };
                self.patch(layer, &patch).map_err(|error| fail(self, &error.why))?
            }
            "PrefixTransformer" | "SuffixTransformer" | "PrefixSuffixTransformer" => {
                let Some(specs) = p.field_specs else { return Err(fail(self, "fieldSpecs are missing")) };
                let prefix = Transformer::Prefix { text: p.prefix, specs: specs.clone() };
                let suffix = Transformer::Suffix { text: p.suffix, specs };
                return Ok(match kind.as_str() {
                    "PrefixTransformer" => vec![prefix],
                    "SuffixTransformer" => vec![suffix],
                    _ => vec![prefix, suffix],
                });
            }
            "ReplacementTransformer" => Transformer::Replacements(self.replacements(layer, &p.replacements)?),
            "ReplicaCountTransformer" => {
                Transformer::Replicas { replica: p.replica, specs: p.field_specs.unwrap_or_default() }
            }
            "ValueAddTransformer" => {
                let folder = layer.folder.rsplit('/').next().unwrap_or_default();
                let value = if p.value.trim().is_empty() { folder } else { p.value.trim() };
                let mut targets = p.targets;
                if !p.target_file_path.is_empty() {
                    let (file, bytes) = self.load(layer, &p.target_file_path)?;
                    let read = yaml::read(&bytes, &file)?.into_iter().next().map(|document| document.value);
                    let read: AddTargets =
                        typed(read.unwrap_or_default()).map_err(|error| error.in_file(&file))?;
                    targets.extend(read.targets);
                }
                if targets.is_empty() || targets.iter().any(|target| target.field_path.is_empty()) {
                    return Err(fail(self, "targets with a fieldPath are missing"));
                }
                let add = |target: AddTarget| Transformer::Add {
                    value: value.to_owned(),
                    target: target.selector,
                    path: target.field_path,
                    position: target.file_path_position,
                };
                return Ok(targets.into_iter().map(add).collect());
            }
            _ => return Err(fail(self, "this is no built-in transformer")),
        };
        Ok(vec![one])
    }
}

/// The configuration of any built-in transformer.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Plugin {
    annotations: Strings,
    labels: Strings,
    field_specs: Option<Vec<FieldSpec>>,
    image_tag: Image,
    namespace: String,
    unset_only: bool,
    set_role_binding_subjects: String,
    target: Option<Selector>,
    path: String,
    json_op: String,
    paths: Vec<String>,
    patches: String,
    patch: String,
    options: BTreeMap<String, bool>,
    prefix: String,
    suffix: String,
    replacements: Vec<ReplacementEntry>,
    replica: Replica,
    value: String,
    targets: Vec<AddTarget>,
    target_file_path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AddTargets {
    targets: Vec<AddTarget>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AddTarget {
    selector: Option<Selector>,
    field_path: String,
    file_path_position: usize,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct IamPolicy {
    cloud: String,
    kubernetes_service: IamAccount,
    service_account: IamAccount,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct IamAccount {
    name: String,
    namespace: String,
    project_id: String,
}

impl IamPolicy {
    fn service_account(&self) -> Result<Value> {
        if self.cloud != "gke" {
            return Err(invalid(format!(
                "IAMPolicyGenerator: the cloud {:?} is not supported, only gke",
                self.cloud
            )));
        }
        let account = format!(
            "{}@{}.iam.gserviceaccount.com",
            self.service_account.name, self.service_account.project_id
        );
        let mut value = serde_json::json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "annotations": {"iam.gke.io/gcp-service-account": account},
                "name": self.kubernetes_service.name,
            },
        });
        if !self.kubernetes_service.namespace.is_empty() {
            value["metadata"]["namespace"] = self.kubernetes_service.namespace.as_str().into();
        }
        Ok(value)
    }
}

fn crd_properties(
    fields: &mut Fields,
    gvk: &Gvk,
    types: &serde_json::Map<String, Value>,
    name: &str,
    path: &mut Vec<String>,
) -> Result<()> {
    let Some(api) = types.get(name) else { return Ok(()) };
    if path.len() > 50 {
        return Err(invalid(format!("the definition of {} refers to itself", gvk.kind)));
    }
    let schema = api.get("Schema").or_else(|| api.get("schema")).cloned().unwrap_or_default();
    for (property, what) in schema["properties"].as_object().into_iter().flatten() {
        path.push(property.clone());
        let spec = |more: &[&str]| {
            let parts: Vec<&str> = path.iter().map(String::as_str).chain(more.iter().copied()).collect();
            FieldSpec::new(gvk.clone(), &parts.join("/"), false)
        };
        let has = |name: &str| what.get(name).is_some_and(Value::is_string);
        if has("x-kubernetes-annotation") {
            merge_specs(&mut fields.common_annotations, &[spec(&[])])?;
        }
        if has("x-kubernetes-label-selector") {
            merge_specs(&mut fields.common_labels, &[spec(&[])])?;
        }
        if has("x-kubernetes-identity") {
            merge_specs(&mut fields.name_prefix, &[spec(&[])])?;
        }
        let text = |name: &str| what.get(name).and_then(Value::as_str);
        if let (Some(version), Some(kind)) =
            (text("x-kubernetes-object-ref-api-version"), text("x-kubernetes-object-ref-kind"))
        {
            let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let target = Gvk { group: String::new(), version: version.to_owned(), kind: kind.to_owned() };
            merge_reference(
                &mut fields.name_reference,
                &BackReference { target, referrers: vec![spec(&[key])] },
            )?;
        }
        if let Some(reference) = what["$ref"].as_str() {
            crd_properties(fields, gvk, types, reference, path)?;
        }
        path.pop();
    }
    Ok(())
}

/// Whether kustomize would fetch this from elsewhere.
fn is_remote(path: &str) -> bool {
    let host = path.split('/').next().unwrap_or_default();
    path.contains("://")
        || path.starts_with("git@")
        || path.starts_with("git::")
        || path.contains("?ref=")
        || path.contains("?version=")
        || matches!(host, "github.com" | "gitlab.com" | "bitbucket.org")
        || path.starts_with("github.com:")
}

fn remote(path: &str) -> Error {
    Error::new(Code::RemoteBaseRefused, format!("{path} lies outside of the repository"))
        .hint("vendor it: commit a copy and name its path; a render never uses the network")
}

/// A path below another, without `.` and with `..` taken back where it can be.
fn clean(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')).filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." && parts.last().is_some_and(|last| *last != "..") {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The id of a root, for what comes after a build.
pub(super) fn place(nodes: &Nodes, root: NodeId) -> (Arc<str>, usize) {
    let place = nodes[root].place;
    (nodes.files.get(place.file as usize).cloned().unwrap_or_else(|| "".into()), place.line as usize)
}
