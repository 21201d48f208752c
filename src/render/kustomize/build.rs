//! Walks kustomizations: resources, bases and components come in, transformers change them.

use super::remote;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::Fields;
use super::kustomization::{Kustomization, NAMES, Var, line_below, line_of};
use super::layer::{Layer, ReadKustomization};
use super::ledger::{Ledger, Step};
use super::node::{Kind, NodeId, Nodes, invalid};
use super::parse;
use super::resource::{Resource, Resources, Trace};
use super::schema::Schema;
use super::vars;
use crate::error::{Code, Error, Result};
use crate::model::yaml::MAX_NODES;
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

pub(super) struct Build<'a> {
    pub(super) tree: &'a dyn Tree,
    pub(super) nodes: Nodes,
    pub(super) schema: Arc<Schema>,
    pub(super) own_schema: bool,
    /// Paths and identities; an empty identity is a path where nothing is.
    pub(super) reads: Vec<(String, String)>,
    /// Folders that are being worked on, outermost first.
    pub(super) chain: Vec<String>,
    /// Where the current kustomization is, as seen from the outermost; only with `buildMetadata`.
    pub(super) trace: Option<String>,
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

    pub(super) fn note_read(&mut self, found: Resolved) {
        self.reads.extend(found.links);
        self.reads.push((found.path, found.entry.identity));
    }

    /// The objects of a file.
    pub(super) fn file_objects(&mut self, found: Resolved) -> Result<Vec<Resource>> {
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

    pub(super) fn read(&mut self, found: Resolved) -> Result<Vec<u8>> {
        let bytes = self.tree.read(&found.path)?;
        self.note_read(found);
        Ok(bytes)
    }

    /// The content of a file that a kustomization names.
    pub(super) fn load(&mut self, layer: &Layer, path: &str) -> Result<(String, Vec<u8>)> {
        let missing = |why: String| Err(layer.at(Error::new(Code::PathNotFound, why), path));
        if remote::is_remote(path) {
            return Err(layer.at(remote::refused(path, ", and single files are not brought"), path));
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

    /// A folder of another repository, where the tree has that.
    fn find_remote(&self, layer: &Layer, path: &str) -> Result<Option<Resolved>> {
        let wanted = remote::parse(path).map_err(|why| layer.at(remote::refused(path, why), path))?;
        let Some(mount) = self.tree.remote(&wanted.repository, &wanted.commit) else {
            return Err(layer.at(remote::refused(path, ""), path));
        };
        resolve(self.tree, &crate::render::join(&mount, &wanted.path)).map_err(|error| layer.at(error, path))
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
        let mut defined = k.vars.clone();
        for var in &mut defined {
            var.place =
                (layer.file.to_string(), line_below(&layer.bytes, "vars", &format!("name: {}", var.name)));
        }
        vars::collect(&self.nodes, &mut gathered.resources, &mut gathered.vars, &defined)
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

    pub(super) fn resources(
        &mut self,
        layer: &Layer,
        gathered: &mut Gathered,
        paths: &[String],
    ) -> Result<()> {
        for path in paths {
            if remote::is_remote(path) {
                *gathered = self.folder(layer, path, std::mem::take(gathered), false)?;
                continue;
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
    pub(super) fn folder(
        &mut self,
        layer: &Layer,
        path: &str,
        mut into: Gathered,
        is_component: bool,
    ) -> Result<Gathered> {
        let found =
            if remote::is_remote(path) { self.find_remote(layer, path)? } else { self.find(layer, path)? };
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
    pub(super) fn objects(&mut self, bytes: &[u8], file: &str, first: usize) -> Result<Vec<Resource>> {
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
}

/// A path below another, without `.` and with `..` taken back where it can be.
pub(super) fn clean(base: &str, path: &str) -> String {
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
