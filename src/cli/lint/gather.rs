//! Everything below some paths, rendered as it would be applied.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::agent::{AppKey, Capable, mounted, offline_materials, renderings, settings};
use crate::api::Application;
use crate::cli::workspace;
use crate::error::{Code, Error, Result};
use crate::lint::{Configuration, Folder, Places, Renderer, Subject, find};
use crate::model::{Confidential, Gvk, Origin, is_cluster_scoped, yaml};
use crate::plan::place;
use crate::render::sops::Keys;
use crate::render::{Options, Tree, join, render};

/// Objects that are applied together.
pub(super) struct Unit {
    pub(super) subjects: Vec<Subject>,
    pub(super) hidden: Confidential,
    pub(super) from: From,
    /// The Application that they are of.
    pub(super) app: Option<String>,
    pub(super) application: Option<Arc<Application>>,
}

/// Where the objects of a unit come from.
pub(super) enum From {
    /// As they stand in files.
    Files,
    /// By way of a renderer, in this order.
    Render(Vec<Rendered>),
}

pub(super) struct Rendered {
    pub(super) path: String,
    pub(super) options: Options,
    pub(super) objects: usize,
}

/// What was found, and what could not be read.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) units: Vec<Unit>,
    pub(super) errors: Vec<Error>,
    pub(super) notes: Vec<String>,
}

/// What is read so far.
struct Reader<'a> {
    tree: &'a dyn Tree,
    keys: Keys,
    gathered: Gathered,
    /// Files and folders that a render read: they are no manifests of their own.
    covered: HashSet<String>,
    /// Folders whose render failed; what is below may be part of it.
    failed: Vec<String>,
    /// Documents of files outside of charts.
    files: BTreeMap<String, Vec<yaml::Document>>,
}

/// `listing` tells what there is, `tree` what is in it.
pub(super) fn gather(
    tree: &dyn Tree,
    listing: &dyn Tree,
    paths: &[String],
    configuration: &Configuration,
) -> Result<Gathered> {
    let exclude = globs(&configuration.exclude)?;
    let takes = |path: &str| !exclude.is_match(path);
    let mut places = Places::default();
    for path in paths {
        let found = find(listing, path, &takes)?;
        places.folders.extend(found.folders);
        places.files.extend(found.files);
    }
    places.files.sort();
    places.files.dedup();
    places.folders.sort_by(|one, other| one.path.cmp(&other.path));
    places.folders.dedup();
    let mut reader = Reader {
        tree,
        keys: workspace::keys()?,
        gathered: Gathered::default(),
        covered: HashSet::new(),
        failed: Vec::new(),
        files: BTreeMap::new(),
    };
    reader.read(&places.files);
    reader.applications()?;
    reader.folders(&places.folders);
    reader.loose(&places.folders);
    Ok(reader.gathered)
}

fn globs(texts: &[String]) -> Result<GlobSet> {
    let wrong = |error: globset::Error| Error::new(Code::Usage, format!("lint.exclude: {error}"));
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(Glob::new(text).map_err(wrong)?);
    }
    set.build().map_err(wrong)
}

impl Reader<'_> {
    /// Reads files. One with templates in it is somebody else's to render; one that is no Kubernetes manifest may be
    /// in any shape.
    fn read(&mut self, files: &[String]) {
        let mut templates = 0;
        for file in files {
            let bytes = match self.tree.read(file) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.gathered.errors.push(error);
                    continue;
                }
            };
            let text = String::from_utf8_lossy(&bytes);
            if !text.contains("apiVersion") || !text.contains("kind") {
                continue;
            }
            match yaml::read(&bytes, file) {
                Ok(documents) => {
                    self.files.insert(file.clone(), documents);
                }
                Err(_) if text.contains("{{") || text.contains("{%") => templates += 1,
                Err(error) => self.gathered.errors.push(error),
            }
        }
        if templates > 0 {
            self.gathered
                .notes
                .push(format!("{templates} files are templates of another tool and were passed over"));
        }
    }

    fn applications(&mut self) -> Result<()> {
        let mut found: BTreeMap<String, Arc<Application>> = BTreeMap::new();
        for (file, documents) in &self.files {
            let named = documents.iter().any(|document| {
                let text = |field: &str| document.value[field].as_str().unwrap_or_default();
                Gvk::parse(text("apiVersion"), text("kind")).is(crate::api::GROUP, "Application")
            });
            if !named {
                continue;
            }
            // One that cannot be read is told by its schema too.
            match workspace::applications(&self.tree.read(file)?, file, "default") {
                Ok(all) => found.extend(all.into_iter().map(|one| (workspace::title(&one), Arc::new(one)))),
                Err(error) => self.gathered.errors.push(error),
            }
        }
        let mut elsewhere = 0;
        for (title, application) in found {
            match self.application(&application) {
                Ok(Some(unit)) => self.gathered.units.push(Unit { app: Some(title), ..unit }),
                Ok(None) => elsewhere += 1,
                Err(error) => self.gathered.errors.push(error.in_app(title)),
            }
        }
        if elsewhere > 0 {
            self.gathered.notes.push(format!(
                "{elsewhere} Applications have sources outside of this repository, which were not looked at"
            ));
        }
        Ok(())
    }

    /// The objects of an Application; none where a source is not in this tree.
    fn application(&mut self, application: &Arc<Application>) -> Result<Option<Unit>> {
        let spec = &application.spec;
        for source in spec.sources() {
            if !source.chart.is_empty() || self.tree.entry(source.path.trim_matches('/'))?.is_none() {
                return Ok(None);
            }
        }
        let AppKey { namespace, name } = AppKey::from(&**application);
        let settings = settings(&namespace, &name, spec);
        let materials = offline_materials(spec, &self.keys)?;
        let (mut subjects, mut hidden, mut renders) = (Vec::new(), Confidential::default(), Vec::new());
        for rendering in renderings(spec, &settings, &materials, &Capable::default())? {
            let tree = mounted(spec, self.tree);
            let rendered = render(&tree, &rendering.path, &rendering.options)?;
            self.covered.extend(rendered.reads.iter().map(|(path, _)| path.clone()));
            self.covered.extend(rendered.objects.iter().map(|object| object.origin().file.to_string()));
            let mut objects = rendered.objects.to_vec();
            let scope = |gvk: &Gvk| is_cluster_scoped(gvk).then_some(false);
            place(&mut objects, &settings.namespace, scope);
            subjects.extend(objects.iter().map(Subject::of));
            hidden.merge(&rendered.hidden);
            let (path, options) = (rendering.path, rendering.options);
            renders.push(Rendered { path, options, objects: objects.len() });
        }
        let from = From::Render(renders);
        Ok(Some(Unit { subjects, hidden, from, app: None, application: Some(application.clone()) }))
    }

    /// Kustomizations and charts that no Application renders. A base is checked in its overlays.
    fn folders(&mut self, folders: &[Folder]) {
        let mut units = Vec::new();
        for folder in folders {
            if self.is_covered(folder) || self.is_component(folder) {
                continue;
            }
            let options = Options { keys: self.keys.clone(), ..Options::default() };
            match render(self.tree, &folder.path, &options) {
                Ok(rendered) => units.push((folder, rendered, options)),
                // Charts that want values, and bases that would have to be fetched, are nobody's fault here.
                Err(error) => {
                    let wanting = matches!(
                        error.code,
                        Code::TemplateFailed
                            | Code::ValuesInvalid
                            | Code::ChartInvalid
                            | Code::RemoteBaseRefused
                    );
                    self.failed.push(folder.path.clone());
                    if wanting && (folder.renderer == Renderer::Helm || error.code == Code::RemoteBaseRefused)
                    {
                        self.gathered.notes.push(format!("{} was not checked: {error}", shown(&folder.path)));
                    } else {
                        self.gathered.errors.push(error);
                    }
                }
            }
        }
        let reads: Vec<HashSet<&str>> = units
            .iter()
            .map(|(_, rendered, _)| rendered.reads.iter().map(|(path, _)| path.as_str()).collect())
            .collect();
        let is_base = |at: usize, folder: &Folder| {
            let names = ["kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml"];
            let files: Vec<String> = names.iter().map(|name| join(&folder.path, name)).collect();
            reads.iter().enumerate().any(|(other, reads)| {
                let there = |file: &String| self.tree.entry(file).is_ok_and(|entry| entry.is_some());
                other != at && files.iter().any(|file| reads.contains(file.as_str()) && there(file))
            })
        };
        let bases: Vec<bool> =
            units.iter().enumerate().map(|(at, (folder, ..))| is_base(at, folder)).collect();
        for ((folder, rendered, options), base) in units.into_iter().zip(bases) {
            self.covered.extend(rendered.reads.iter().map(|(path, _)| path.clone()));
            self.covered.extend(rendered.objects.iter().map(|object| object.origin().file.to_string()));
            if base {
                continue;
            }
            let subjects: Vec<Subject> = rendered.objects.iter().map(Subject::of).collect();
            let path = folder.path.clone();
            let from = From::Render(vec![Rendered { path, options, objects: subjects.len() }]);
            self.gathered.units.push(Unit {
                subjects,
                hidden: rendered.hidden,
                from,
                app: None,
                application: None,
            });
        }
    }

    fn is_covered(&self, folder: &Folder) -> bool {
        let names = ["kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml"];
        names.iter().any(|name| {
            let file = join(&folder.path, name);
            self.covered.contains(&file) && self.tree.entry(&file).is_ok_and(|entry| entry.is_some())
        })
    }

    fn is_component(&self, folder: &Folder) -> bool {
        let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
        names.iter().any(|name| {
            let file = join(&folder.path, name);
            let there = self.tree.entry(&file).is_ok_and(|entry| entry.is_some());
            let text = if there { self.tree.read(&file).unwrap_or_default() } else { Vec::new() };
            let documents = yaml::read(&text, &file).unwrap_or_default();
            documents.iter().any(|document| document.value["kind"] == "Component")
        })
    }

    /// Files that nothing renders, those of one folder together.
    fn loose(&mut self, folders: &[Folder]) {
        let inside = |path: &str, folder: &str| folder.is_empty() || path.starts_with(&format!("{folder}/"));
        let built: BTreeSet<&str> = (folders.iter())
            .filter(|folder| folder.renderer == Renderer::Kustomize)
            .map(|folder| folder.path.as_str())
            .collect();
        let mut sets: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
        let mut unused = 0;
        for (file, documents) in std::mem::take(&mut self.files) {
            let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
            if self.covered.contains(&file) || self.failed.iter().any(|folder| inside(&file, folder)) {
                continue;
            }
            // Beside a kustomization and below it lie patches, of which some are in use at other times.
            let near = |folder: &&str| !folder.is_empty() && inside(&file, folder);
            if built.contains(parent.as_str()) || built.iter().any(near) {
                unused += 1;
                continue;
            }
            let name: Arc<str> = file.into();
            for document in documents {
                let origin = Origin { file: name.clone(), line: document.line };
                let all = Subject::read(document.value, &origin).into_iter().filter(is_manifest);
                sets.entry(parent.clone()).or_default().extend(all);
            }
        }
        if unused > 0 {
            self.gathered.notes.push(format!("{unused} files lie in kustomizations that do not name them"));
        }
        for (_, subjects) in sets.into_iter().filter(|(_, subjects)| !subjects.is_empty()) {
            let hidden = Confidential::default();
            let unit = Unit { subjects, hidden, from: From::Files, app: None, application: None };
            self.gathered.units.push(unit);
        }
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "the root" } else { path }
}

/// Whether a document is for a cluster: patches and files of tools look like objects.
fn is_manifest(subject: &Subject) -> bool {
    let tool = [
        "kustomize.config.k8s.io",
        "config.kubernetes.io",
        "kind.x-k8s.io",
        "kubeadm.k8s.io",
        "kubelet.config.k8s.io",
        "kubescheduler.config.k8s.io",
        "apiserver.config.k8s.io",
        "audit.k8s.io",
        "skaffold",
        "ctlptl.dev",
    ];
    let patch = subject.value.get("$patch").is_some() || subject.value.get("metadata").is_none();
    let kubeconfig = subject.gvk.is("", "Config");
    !patch && !kubeconfig && !tool.contains(&subject.gvk.group.as_str())
}
