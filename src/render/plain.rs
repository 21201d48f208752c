//! Plain YAML and JSON.

use std::collections::{BTreeMap, HashMap};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::Value;

use super::explain::{Explanation, Field, Written, leaves, lines};
use super::tree::{Resolved, join, resolve};
use super::{helm, kustomize};
use crate::error::{Code, Error, Result};
use crate::model::{Described, Object, Origin, yaml};
use crate::render::{Entry, EntryKind, Rendered, Tree, is_manifest};

/// Most files below one path.
const MAX_FILES: usize = 100_000;
/// Deepest folder below the path.
const MAX_FOLDERS: usize = 200;

/// Which files of a folder are manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Go into sub-folders.
    pub recurse: bool,
    /// Globs over the path relative to the source's path; empty takes every `.yaml`, `.yml` and `.json`.
    pub include: Vec<String>,
    /// Globs that leave out.
    pub exclude: Vec<String>,
}

struct Globs {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Globs {
    fn new(selection: &Selection) -> Result<Self> {
        let set = |globs: &[String]| -> Result<GlobSet> {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                builder.add(parse(glob)?);
            }
            builder.build().map_err(|error| Error::new(Code::ApplicationInvalid, error.to_string()))
        };
        let include = (!selection.include.is_empty()).then(|| set(&selection.include)).transpose()?;
        Ok(Self { include, exclude: set(&selection.exclude)? })
    }

    fn takes(&self, path: &str) -> bool {
        let manifest = match &self.include {
            Some(include) => include.is_match(path),
            None => is_manifest(path),
        };
        manifest && !self.exclude.is_match(path)
    }
}

fn parse(glob: &str) -> Result<Glob> {
    GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .map_err(|error| Error::new(Code::ApplicationInvalid, format!("spec.source.directory: {error}")))
}

/// The folder at this path, where it holds a chart that the selection does not exclude.
pub(super) fn chart(tree: &dyn Tree, path: &str, selection: &Selection) -> Result<Option<Resolved>> {
    let Some(folder) = resolve(tree, path)?.filter(|found| found.entry.kind == EntryKind::Folder) else {
        return Ok(None);
    };
    let excluded = Globs::new(selection)?.exclude.is_match("Chart.yaml");
    Ok((!excluded && helm::holds_chart(tree, &folder.path)?).then_some(folder))
}

/// The folder at this path, where it holds a kustomization that the selection does not exclude.
pub(super) fn kustomization(tree: &dyn Tree, path: &str, selection: &Selection) -> Result<Option<Resolved>> {
    let Some(folder) = resolve(tree, path)?.filter(|found| found.entry.kind == EntryKind::Folder) else {
        return Ok(None);
    };
    let exclude = Globs::new(selection)?.exclude;
    for name in kustomize::NAMES {
        if !exclude.is_match(name) && tree.entry(&join(&folder.path, name))?.is_some() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// Renders a file, or the manifests of a folder in the order of their paths.
pub(super) fn render(tree: &dyn Tree, path: &str, selection: &Selection) -> Result<Rendered> {
    let globs = Globs::new(selection)?;
    let Some(root) = resolve(tree, path)? else {
        let shown = if path.is_empty() { "the root" } else { path };
        return Err(Error::new(Code::PathNotFound, format!("{shown} does not exist at this revision")));
    };
    let mut walk = Walk { tree, globs, selection, files: Vec::new(), reads: root.links.clone() };
    walk.reads.push((root.path.clone(), root.entry.identity.clone()));
    match root.entry.kind {
        EntryKind::Folder => walk.folder(&root.path, "", 0)?,
        _ => walk.files.push(root.path.clone()),
    }
    let mut objects = Vec::new();
    for file in &walk.files {
        read(tree, file, &mut objects)?;
    }
    let mut described = Described::default();
    objects.iter().try_for_each(|object| described.add(object))?;
    let mut reads = walk.reads;
    reads.sort();
    reads.dedup();
    Ok(Rendered { objects: objects.into(), reads, ..Rendered::default() })
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    globs: Globs,
    selection: &'a Selection,
    files: Vec<String>,
    reads: Vec<(String, String)>,
}

impl Walk<'_> {
    /// `real` is where the folder is, `shown` how the user sees it from the source's path.
    fn folder(&mut self, real: &str, shown: &str, depth: usize) -> Result<()> {
        if depth > MAX_FOLDERS {
            return Err(
                Error::new(Code::SourceTooLarge, "folders nested deeper than 200 levels").in_file(real)
            );
        }
        for entry in self.tree.list(real)? {
            let (real, shown) = (join(real, &entry.name), join(shown, &entry.name));
            self.entry(&entry, &real, &shown, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, real: &str, shown: &str, depth: usize) -> Result<()> {
        match entry.kind {
            EntryKind::File => self.file(real, shown),
            EntryKind::Folder if self.selection.recurse => self.folder(real, shown, depth + 1),
            EntryKind::Folder => Ok(()),
            EntryKind::Submodule if self.selection.recurse => {
                Err(Error::new(Code::SubmoduleRefused, format!("{real} is a Git submodule")).in_file(real))
            }
            EntryKind::Submodule => Ok(()),
            EntryKind::Link => {
                let Some(target) = resolve(self.tree, real)? else {
                    if self.globs.takes(shown) {
                        let why = format!("the link {real} leads to nothing");
                        return Err(Error::new(Code::SymlinkRefused, why).in_file(real));
                    }
                    return Ok(());
                };
                // The target may lie outside the path, so its identity is not part of the path's own.
                let read = (target.path.clone(), target.entry.identity.clone());
                match target.entry.kind {
                    EntryKind::Folder if self.selection.recurse => {
                        self.reads.push(read);
                        self.reads.extend(target.links);
                        self.folder(&target.path, shown, depth + 1)
                    }
                    EntryKind::File if self.globs.takes(shown) => {
                        self.reads.push(read);
                        self.reads.extend(target.links);
                        self.file(&target.path, shown)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn file(&mut self, real: &str, shown: &str) -> Result<()> {
        let name = shown.rsplit('/').next().unwrap_or(shown);
        if !self.globs.exclude.is_match(shown) {
            if name == "Chart.yaml" {
                let why = format!("{real} makes a chart of a folder below the source's path");
                let hint = "name that folder as the path of a source of its own, or exclude it with spec.source.directory.exclude";
                return Err(Error::new(Code::RendererMissing, why).in_file(real).hint(hint));
            }
            if kustomize::NAMES.contains(&name) {
                let why = format!("{real} makes a kustomization of a folder below the source's path");
                let hint = "name that folder as the path of a source of its own, or exclude it with spec.source.directory.exclude";
                return Err(Error::new(Code::RendererMissing, why).in_file(real).hint(hint));
            }
        }
        if !self.globs.takes(shown) {
            return Ok(());
        }
        if self.files.len() >= MAX_FILES {
            return Err(Error::new(Code::SourceTooLarge, "more than 100,000 files").in_file(real));
        }
        self.files.push(real.to_owned());
        Ok(())
    }
}

/// What is known of one document: the lines of its fields, and where in it the objects are that it stands for.
pub(super) struct Stated {
    pub(super) line: usize,
    pub(super) lines: BTreeMap<String, usize>,
    pub(super) objects: std::vec::IntoIter<String>,
}

impl Stated {
    pub(super) fn new(document: &yaml::Syntax) -> Self {
        let lines = lines(document);
        let number =
            |path: &String| -> Vec<usize> { path.split('/').filter_map(|part| part.parse().ok()).collect() };
        let mut objects: Vec<String> = lines
            .keys()
            .filter_map(|path| path.strip_suffix("/metadata/name"))
            .filter(|path| {
                path.split('/').skip(1).all(|part| part == "items" || part.parse::<usize>().is_ok())
            })
            .map(str::to_owned)
            .collect();
        objects.sort_by_key(number);
        // Only a list has items that are objects.
        if objects.iter().any(String::is_empty) {
            objects = vec![String::new()];
        }
        Self { line: document.nodes[document.root].line, lines, objects: objects.into_iter() }
    }
}

/// The line of every field of the objects that plain files gave.
pub(super) fn explain(tree: &dyn Tree, rendered: &Rendered) -> Result<Vec<Explanation>> {
    let mut files: HashMap<&str, Vec<Stated>> = HashMap::new();
    let mut explained = Vec::with_capacity(rendered.objects.len());
    for object in rendered.objects.iter() {
        let origin = object.origin();
        if !files.contains_key(&*origin.file) {
            let documents = yaml::syntax(&tree.read(&origin.file)?, &origin.file).unwrap_or_default();
            files.insert(&origin.file, documents.iter().map(Stated::new).collect());
        }
        let mut documents = files.get_mut(&*origin.file).into_iter().flatten();
        let mut stated = documents.find(|stated| stated.line == origin.line);
        let base = stated.as_mut().and_then(|stated| stated.objects.next()).unwrap_or_default();
        let mut found = Vec::new();
        leaves(object.value(), "", &mut found);
        let field = |(path, value): (String, Value)| {
            let line = stated.as_ref().and_then(|stated| stated.lines.get(&format!("{base}{path}")));
            let line = line.copied().unwrap_or(origin.line);
            let written = Written { file: origin.file.to_string(), line, by: "resources".to_owned() };
            Field { path, value, written, ..Field::default() }
        };
        let fields = found.into_iter().map(field).collect();
        explained.push(Explanation { fields, ..Explanation::of(object.value()) });
    }
    Ok(explained)
}

fn read(tree: &dyn Tree, file: &str, objects: &mut Vec<Object>) -> Result<()> {
    let bytes = tree.read(file)?;
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(
            Error::new(Code::ManifestInvalid, "this is a Git LFS pointer, not a manifest").in_file(file)
        );
    }
    let name: std::sync::Arc<str> = file.into();
    for document in yaml::read(&bytes, file)? {
        flatten(document.value, &Origin { file: name.clone(), line: document.line }, objects, 0)?;
    }
    Ok(())
}

/// A list is its items, as for kubectl.
pub(super) fn flatten(
    mut value: Value,
    origin: &Origin,
    objects: &mut Vec<Object>,
    depth: usize,
) -> Result<()> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
        && value.get("items").is_some_and(Value::is_array);
    if !is_list || depth > 8 {
        objects.push(Object::new(value, origin.clone())?);
        return Ok(());
    }
    let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) else { return Ok(()) };
    items.into_iter().try_for_each(|item| flatten(item, origin, objects, depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{MemoryTree, Options, render};

    fn object(name: &str) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n")
    }

    fn tree() -> MemoryTree {
        MemoryTree::default()
            .file("app/a.yaml", object("a"))
            .file("app/b.json", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}"#)
            .file("app/sub/c.yml", object("c"))
            .file("app/README.md", "x")
            .file("shared/d.yaml", object("d"))
            .file("other/x.yaml", object("x"))
    }

    fn names(tree: &MemoryTree, path: &str, selection: &Selection) -> String {
        let options = Options { selection: selection.clone(), ..Options::default() };
        match render(tree, path, &options) {
            Ok(rendered) => rendered.objects.iter().map(Object::name).collect::<Vec<_>>().join(" "),
            Err(error) => format!("{}: {error}", error.code.reason()),
        }
    }

    #[test]
    fn takes_the_files_that_are_selected() {
        let select = |recurse, include: &[&str], exclude: &[&str]| Selection {
            recurse,
            include: include.iter().map(ToString::to_string).collect(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
        };
        let tree = tree();
        for (path, selection, expected) in [
            ("app", select(false, &[], &[]), "a b"),
            ("app/", select(true, &[], &[]), "a b c"),
            ("./app", select(true, &["*.yaml"], &[]), "a"),
            ("app", select(true, &["**/*.{yml,json}"], &[]), "b c"),
            ("app", select(true, &[], &["sub/*"]), "a b"),
            ("app/a.yaml", select(false, &[], &[]), "a"),
            (
                "app/README.md/x",
                select(false, &[], &[]),
                "PathNotFound: app/README.md/x does not exist at this revision",
            ),
            ("nowhere", select(false, &[], &[]), "PathNotFound: nowhere does not exist at this revision"),
        ] {
            assert_eq!(names(&tree, path, &selection), expected, "{path} {selection:?}");
        }
    }

    #[test]
    fn links_stay_inside() {
        let tree = tree().link("app/l.yaml", "../shared/d.yaml");
        assert_eq!(names(&tree, "app", &Selection::default()), "a b d");
        let reads = render(&tree, "app", &Options::default()).unwrap().reads;
        assert!(reads.iter().any(|(path, _)| path == "shared/d.yaml"), "{reads:?}");
        for (target, expected) in [
            ("/etc/passwd", "absolute"),
            ("../../etc/passwd", "out of the repository"),
            ("l.yaml", "40 links"),
            ("nothing.yaml", "leads to nothing"),
        ] {
            let tree = MemoryTree::default().link("app/l.yaml", target);
            let text = names(&tree, "app", &Selection::default());
            assert!(text.starts_with("SymlinkRefused") && text.contains(expected), "{target}: {text}");
        }
    }

    #[test]
    fn what_is_no_plain_manifest_is_an_error() {
        for (file, content, expected) in [
            (
                "kustomization.yaml",
                "resources: []",
                "KustomizationInvalid: app/kustomization.yaml:1: the kustomization is empty",
            ),
            ("sub/kustomization.yaml", "resources: []", ""),
            (
                "Chart.yaml",
                "name: x",
                "ChartInvalid: app/Chart.yaml: validation: chart.metadata.version is required",
            ),
            ("sub/Chart.yaml", "name: x", ""),
            (
                "a.yaml",
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                "ManifestInvalid: app/a.yaml: this is a Git LFS",
            ),
            (
                "a.yaml",
                "kind: X\nmetadata: {name: a}\n",
                "ManifestIncomplete: app/a.yaml:1: the document has no apiVersion",
            ),
            (
                "a.yaml",
                "apiVersion: v1\nkind: X\nmetadata: {name: a, labels: {a: yes}}\n",
                "ManifestIncomplete",
            ),
            (
                "a.yaml",
                "apiVersion: v1\nkind: X\nmetadata: {name: n}\n",
                "ManifestIncomplete: app/a.yaml:1: metadata.name is read as false, which is no text; put it in quotes",
            ),
            ("a.yaml", "a: [", "ManifestInvalid: app/a.yaml:"),
        ] {
            let text = names(
                &MemoryTree::default().file(&format!("app/{file}"), content),
                "app",
                &Selection::default(),
            );
            assert!(text.starts_with(expected), "{text}");
        }
        let tree = MemoryTree::default().submodule("app/vendor");
        let recurse = Selection { recurse: true, ..Selection::default() };
        assert!(names(&tree, "app", &recurse).starts_with("SubmoduleRefused"));
        let twice =
            MemoryTree::default().file("a.yaml", object("a")).file("b.yaml", format!("# c\n{}", object("a")));
        assert_eq!(
            names(&twice, "", &Selection::default()),
            "DuplicateObject: ConfigMap a: it is described twice: a.yaml:1 and b.yaml:2"
        );
    }

    #[test]
    fn lists_are_their_items() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n";
        assert_eq!(names(&MemoryTree::default().file("l.yaml", list), "", &Selection::default()), "s c");
    }

    #[test]
    fn unrelated_files_do_not_change_what_was_read() {
        let before = render(&tree(), "app", &Options::default()).unwrap();
        let after = render(&tree().file("other/x.yaml", "changed"), "app", &Options::default()).unwrap();
        assert_eq!(before.reads, after.reads);
        assert_eq!(before.digest(), after.digest());
    }
}
