//! `driftless preview`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use globset::{Glob, GlobMatcher};
use serde_json::Value;

use super::drift::{change_report, show};
use super::output::{Output, ReportFormat};
use super::workspace;
use crate::agent::{AppKey, offline_materials};
use crate::api::Application;
use crate::diff::{between, mask};
use crate::error::{Code, Error, Result};
use crate::model::Key;
use crate::plan::Desired;
use crate::render::sops::Keys;
use crate::render::{EntryKind, Tree, is_manifest, join};
use crate::report::{AppReport, Class, ObjectReport, Report};
use crate::source::{GitTree, Snapshot};

#[derive(Args)]
pub(super) struct Arguments {
    /// Two revisions, such as origin/main..HEAD; HEAD is taken for what is missing
    range: String,
    /// The repository
    #[arg(long, default_value = ".")]
    repo: PathBuf,
    /// Files that hold Applications, as globs; every YAML and JSON file where none is given
    #[arg(long)]
    app_glob: Vec<String>,
    /// text, json or markdown
    #[arg(short, long, value_enum, default_value = "text")]
    output: ReportFormat,
    /// End with 0 even when something differs
    #[arg(long)]
    exit_zero: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<u8> {
    let (base, head) = arguments.range.split_once("..").ok_or_else(|| {
        Error::new(Code::Usage, format!("{:?} is no range", arguments.range))
            .hint("driftless preview origin/main..HEAD")
    })?;
    // Three dots mean the same here.
    let head = head.trim_start_matches('.');
    let name = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
    let base = Snapshot::open(&arguments.repo, &name(base))?;
    let head = Snapshot::open(&arguments.repo, &name(head))?;
    // A merge brings what head has changed since they parted; what base got since then stays.
    let base = base.merge_base(&head)?.unwrap_or(base);
    let globs = arguments
        .app_glob
        .iter()
        .map(|glob| Glob::new(glob).map(|glob| glob.compile_matcher()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| Error::new(Code::Usage, format!("--app-glob: {error}")))?;
    let (before, after) = (base.tree()?, head.tree()?);
    let keys = workspace::keys()?;
    let (mut apps, mut errors) = (Vec::new(), Vec::new());
    let old = find(&before, &globs)?;
    let new = find(&after, &globs)?;
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let (mut timer, total) = (std::time::Instant::now(), names.len());
    for (done, title) in names.into_iter().enumerate() {
        output.progress(&mut timer, done, total, "applications compared");
        let (was, is) = (old.get(title), new.get(title));
        if let (Some(was), Some(is)) = (was, is)
            && was.spec == is.spec
            && same_sources(is, &before, &after)
        {
            apps.push(blank(is, &head));
            continue;
        }
        match app(was, is, &base, &head, &keys) {
            Ok(report) => apps.push(report),
            Err(error) => errors.push(error.in_app(title)),
        }
    }
    let report = Report::new("preview", apps, &errors);
    show(&report, arguments.output, output);
    let code = report.exit_code(&errors);
    Ok(if arguments.exit_zero && code == 1 { 0 } else { code })
}

fn blank(application: &Application, head: &Snapshot) -> AppReport {
    let AppKey { namespace, name } = AppKey::from(application);
    AppReport { namespace, name, revision: head.commit.clone(), ..AppReport::default() }
}

/// All Applications of a tree, by `namespace/name`. Files are read only when they can hold one.
fn find(tree: &GitTree, globs: &[GlobMatcher]) -> Result<BTreeMap<String, Application>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in tree.list(&folder)? {
            let path = join(&folder, &entry.name);
            match entry.kind {
                EntryKind::Folder => folders.push(path),
                EntryKind::File => {
                    let wanted = if globs.is_empty() {
                        is_manifest(&path)
                    } else {
                        globs.iter().any(|glob| glob.is_match(&path))
                    };
                    if !wanted {
                        continue;
                    }
                    let bytes = tree.read(&path)?;
                    if !contains(&bytes, b"driftless.dev/") {
                        continue;
                    }
                    for application in workspace::applications(&bytes, &path, "default")? {
                        found.insert(workspace::title(&application), application);
                    }
                }
                EntryKind::Link | EntryKind::Submodule => {}
            }
        }
    }
    Ok(found)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Whether all folders that an application reads are the same on both sides. A link may lead elsewhere, so
/// with one the render decides.
fn same_sources(application: &Application, before: &GitTree, after: &GitTree) -> bool {
    application.spec.sources().all(|source| {
        let path = source.path.trim_matches('/');
        let same = match (before.entry(path), after.entry(path)) {
            (Ok(Some(before)), Ok(Some(after))) => before.identity == after.identity,
            _ => false,
        };
        same && !has_link(after, path, source.directory.recurse)
    })
}

fn has_link(tree: &GitTree, path: &str, recurse: bool) -> bool {
    let Ok(entries) = tree.list(path) else { return false };
    entries.iter().any(|entry| match entry.kind {
        EntryKind::Link => true,
        EntryKind::Folder if recurse => has_link(tree, &join(path, &entry.name), recurse),
        _ => false,
    })
}

fn app(
    was: Option<&Application>,
    is: Option<&Application>,
    base: &Snapshot,
    head: &Snapshot,
    keys: &Keys,
) -> Result<AppReport> {
    let side = |application: Option<&Application>, snapshot: &Snapshot| -> Result<BTreeMap<Key, Desired>> {
        let Some(application) = application else { return Ok(BTreeMap::new()) };
        let snapshots = vec![snapshot.clone(); application.spec.sources().count()];
        let materials = offline_materials(&application.spec, keys)?;
        let rendered = workspace::render_at(None, application, &snapshots, &materials)?;
        Ok(rendered.desired.into_iter().map(|object| (object.key.clone(), object)).collect())
    };
    let before = side(was, base)?;
    let after = side(is, head)?;
    let mut report = is.or(was).map(|application| blank(application, head)).unwrap_or_default();
    let value = |object: &Desired| -> Result<Value> {
        serde_json::from_slice(&object.body).map_err(|error| Error::new(Code::Internal, error.to_string()))
    };
    for (key, object) in &after {
        match before.get(key) {
            None => report.objects.push(ObjectReport::new(
                &object.gvk,
                key,
                Class::Missing,
                Some(&object.origin),
                vec![],
            )),
            Some(old) if old.digest == object.digest => report.unchanged += 1,
            Some(old) => {
                let after = value(object)?;
                let mut changes = between(&after, &value(old)?);
                mask::changes(&object.gvk, &mut changes);
                let mut hidden = object.hidden.clone();
                hidden.merge(&old.hidden);
                mask::confidential(&hidden, &after, &mut changes);
                let changes = changes.into_iter().map(change_report).collect();
                report.objects.push(ObjectReport::new(
                    &object.gvk,
                    key,
                    Class::Modified,
                    Some(&object.origin),
                    changes,
                ));
            }
        }
    }
    for (key, old) in before.iter().filter(|(key, _)| !after.contains_key(key)) {
        report.objects.push(ObjectReport::new(&old.gvk, key, Class::Extra, Some(&old.origin), vec![]));
    }
    Ok(report)
}
