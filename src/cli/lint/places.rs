//! Where things are: roots of repositories, settings, lines of findings.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::gather::{From, Unit};
use super::{CONFIGURATION_FILE, Configuration, Finding, Place, Subject, Suppressions};
use crate::agent::mounted;
use crate::error::{Code, Error, Result};
use crate::lint::Lines;
use crate::render::Tree;
use crate::render::explain::{Explanation, explain};

/// A repository, or the folder that stands for one, and the paths in it.
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) inner: Vec<String>,
}

/// The repositories around some paths.
pub(super) fn roots(paths: &[PathBuf]) -> Result<Vec<Root>> {
    let mut roots: Vec<Root> = Vec::new();
    for path in paths {
        let full = path.canonicalize().map_err(|error| {
            Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
        })?;
        let around = full.ancestors().find(|folder| folder.join(".git").exists());
        let parent = || if full.is_dir() { full.clone() } else { full.parent().unwrap_or(&full).to_owned() };
        let root = around.map_or_else(parent, Path::to_owned);
        let inner =
            full.strip_prefix(&root).ok().and_then(Path::to_str).ok_or_else(|| {
                Error::new(Code::FileUnreadable, format!("{} is not UTF-8", path.display()))
            })?;
        match roots.iter_mut().find(|known| known.path == root) {
            Some(known) => known.inner.push(inner.to_owned()),
            None => roots.push(Root { path: root, inner: vec![inner.to_owned()] }),
        }
    }
    Ok(roots)
}

/// What leads from here to a root, such as `../` or `some/folder/`.
pub(super) fn prefix(root: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    if let Ok(inner) = root.strip_prefix(&here) {
        let text = inner.display().to_string();
        return if text.is_empty() { text } else { format!("{text}/") };
    }
    match here.strip_prefix(root) {
        Ok(below) => "../".repeat(below.components().count()),
        Err(_) => format!("{}/", root.display()),
    }
}

/// The settings of the folder of the first path, or of the nearest one above up to the root.
pub(super) fn configuration(root: &Root) -> Result<Configuration> {
    let first = root.path.join(root.inner.first().map_or("", String::as_str));
    for folder in first.ancestors().take_while(|folder| folder.starts_with(&root.path)) {
        let path = folder.join(CONFIGURATION_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => return Configuration::read(&bytes, &path.display().to_string()),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => {
                let why = format!("cannot read {}: {error}", path.display());
                return Err(Error::new(Code::FileUnreadable, why));
            }
        }
    }
    Ok(Configuration::default())
}

/// Finds the lines of findings: those of files by their text, those of renders by what the renderer says of each
/// field, which is asked only where something was found.
pub(super) struct Finder<'a> {
    tree: &'a dyn Tree,
    lines: Lines,
    pub(super) suppressions: Suppressions,
    explained: HashMap<usize, Vec<Explanation>>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(tree: &'a dyn Tree) -> Self {
        Self {
            tree,
            lines: Lines::default(),
            suppressions: Suppressions::default(),
            explained: HashMap::new(),
        }
    }

    /// Notes the files of a unit.
    pub(super) fn read(&mut self, unit: &Unit) {
        self.explained.clear();
        for subject in &unit.subjects {
            let file = &subject.origin.file;
            if !file.is_empty() && !self.lines.knows(file) {
                let bytes = self.tree.read(file).unwrap_or_default();
                self.lines.read(file, &bytes);
                self.suppressions.read(file, &String::from_utf8_lossy(&bytes));
            }
        }
    }

    /// What is found in texts alone: keys that stand twice, suppressions of unknown rules.
    pub(super) fn own(&self, unit: &Unit) -> Vec<Finding> {
        let mut found = Vec::new();
        for (number, subject) in unit.subjects.iter().enumerate() {
            if matches!(unit.from, From::Files) {
                found.extend(self.lines.doubled(subject, number));
            }
            found.extend(self.suppressions.faults(subject, number));
        }
        found
    }

    /// Where a finding is.
    pub(super) fn place(&mut self, unit: &Unit, subject: &Subject, finding: &Finding) -> Place {
        let place = self.written(unit, subject, finding);
        if !self.suppressions.knows(&place.file) {
            let bytes = self.tree.read(&place.file).unwrap_or_default();
            self.suppressions.read(&place.file, &String::from_utf8_lossy(&bytes));
        }
        place
    }

    fn written(&mut self, unit: &Unit, subject: &Subject, finding: &Finding) -> Place {
        let position = self.lines.find(subject, &finding.pointer);
        let here =
            Place { file: subject.origin.file.to_string(), line: position.line, column: position.column };
        let From::Render(renders) = &unit.from else { return here };
        let mut first = 0;
        for (number, render) in renders.iter().enumerate() {
            let at = finding.subject - first;
            if at < render.objects {
                let told = self.explained.entry(number).or_insert_with(|| {
                    let explained = match &unit.application {
                        Some(application) => {
                            explain(&mounted(&application.spec, self.tree), &render.path, &render.options)
                        }
                        None => explain(self.tree, &render.path, &render.options),
                    };
                    explained.map(|explained| explained.objects).unwrap_or_default()
                });
                let told =
                    told.get(at).filter(|told| told.kind == subject.gvk.kind && told.name == subject.name());
                return told.and_then(|told| written(told, &finding.pointer)).unwrap_or(here);
            }
            first += render.objects;
        }
        here
    }
}

/// Where a field was written last; the nearest field around or in it.
fn written(told: &Explanation, pointer: &str) -> Option<Place> {
    let mut wanted = pointer;
    loop {
        let inside = format!("{wanted}/");
        let field = told.fields.iter().find(|field| field.path == wanted || field.path.starts_with(&inside));
        if let Some(field) = field.filter(|field| !field.written.file.is_empty() && field.written.line > 0) {
            return Some(Place { file: field.written.file.clone(), line: field.written.line, column: 0 });
        }
        wanted = wanted.rsplit_once('/')?.0;
    }
}
