//! The Applications and Projects of two trees: what both sides share is looked at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use globset::GlobMatcher;
use regex::bytes::Regex;

use super::parallel::each;
use super::projects::{self, Written};
use crate::api::Application;
use crate::cli::workspace;
use crate::error::{Code, Error, Result};
use crate::render::{Entry, EntryKind, Tree, is_manifest, join};
use crate::source::GitTree;

/// Applications by `namespace/name`.
pub(super) type Found = BTreeMap<String, Arc<Application>>;

/// What a tree says.
#[derive(Default)]
pub(super) struct Stated {
    pub(super) applications: Found,
    pub(super) projects: Written,
}

/// What a file says.
type Documents = (Vec<Arc<Application>>, Vec<(String, serde_json::Value)>);

/// A path and the identity of its content.
type File = (String, String);

/// The Applications and Projects before and after.
///
/// # Errors
/// `ManifestInvalid` or `ApplicationInvalid` for a file that names our API group and cannot be read.
pub(super) fn applications(
    before: &GitTree,
    after: &GitTree,
    globs: &[GlobMatcher],
) -> Result<(Stated, Stated)> {
    let wanted = |path: &str| {
        if globs.is_empty() { is_manifest(path) } else { globs.iter().any(|glob| glob.is_match(path)) }
    };
    let mut new = Vec::new();
    files(after, "", &mut new)?;
    new.retain(|(path, _)| wanted(path));
    let (mut old, mut changed) = (Vec::new(), HashSet::new());
    differences(before, after, "", &mut old, &mut changed)?;
    old.retain(|(path, _)| wanted(path));
    // Before, a file was what it is now, or is among those that changed.
    let shared = new.iter().filter(|(path, _)| !changed.contains(path));
    let todo: Vec<(&GitTree, &File)> =
        old.iter().map(|file| (before, file)).chain(new.iter().map(|file| (after, file))).collect();
    let pattern =
        |text: &str| Regex::new(text).map_err(|error| Error::new(Code::Internal, error.to_string()));
    let (group, kind) = (pattern(r"driftless\.dev/")?, pattern("Application")?);
    let project = pattern(r"\bProject\b")?;
    let read = each(&todo, |_, (tree, (path, _))| -> Result<Documents> {
        let bytes = tree.read(path)?;
        let mut found = Documents::default();
        if group.is_match(&bytes) && kind.is_match(&bytes) {
            found.0 = workspace::applications(&bytes, path, "default")?.into_iter().map(Arc::new).collect();
        }
        if group.is_match(&bytes) && project.is_match(&bytes) {
            found.1 = projects::read(&bytes, path)?;
        }
        Ok(found)
    });
    let mut read = read.into_iter().collect::<Result<Vec<_>>>()?;
    let now = read.split_off(old.len());
    let by_path: BTreeMap<&String, &Documents> =
        new.iter().zip(&now).map(|((path, _), found)| (path, found)).collect();
    let mut was: BTreeMap<&String, &Documents> =
        shared.filter_map(|(path, _)| Some((path, *by_path.get(path)?))).collect();
    was.extend(old.iter().zip(&read).map(|((path, _), found)| (path, found)));
    let named = |files: &BTreeMap<&String, &Documents>| {
        let all = files.values().flat_map(|found| found.0.iter());
        let projects = files.values().flat_map(|found| found.1.iter());
        Stated {
            applications: all
                .map(|application| (workspace::title(application), application.clone()))
                .collect(),
            projects: projects.cloned().collect(),
        }
    };
    Ok((named(&was), named(&by_path)))
}

fn files(tree: &GitTree, folder: &str, found: &mut Vec<File>) -> Result<()> {
    for entry in tree.list(folder)? {
        let path = join(folder, &entry.name);
        match entry.kind {
            EntryKind::Folder => files(tree, &path, found)?,
            EntryKind::File => found.push((path, entry.identity)),
            EntryKind::Link | EntryKind::Submodule => {}
        }
    }
    Ok(())
}

/// Files that are only before or are other ones now, and all paths of files that changed. Folders of one identity are
/// not entered.
fn differences(
    before: &GitTree,
    after: &GitTree,
    folder: &str,
    old: &mut Vec<File>,
    changed: &mut HashSet<String>,
) -> Result<()> {
    let list = |tree: &GitTree| -> Result<BTreeMap<String, Entry>> {
        let there = tree.entry(folder)?.is_some_and(|entry| entry.kind == EntryKind::Folder);
        let entries = if there { tree.list(folder)? } else { Vec::new() };
        Ok(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
    };
    if before.entry(folder)?.map(|entry| entry.identity) == after.entry(folder)?.map(|entry| entry.identity) {
        return Ok(());
    }
    let (was, is) = (list(before)?, list(after)?);
    for name in was.keys().chain(is.keys().filter(|name| !was.contains_key(*name))) {
        let (was, is) = (was.get(name), is.get(name));
        let same = was.zip(is).is_some_and(|(was, is)| (was.kind, &was.identity) == (is.kind, &is.identity));
        if same {
            continue;
        }
        let path = join(folder, name);
        if [was, is].into_iter().flatten().any(|entry| entry.kind == EntryKind::Folder) {
            differences(before, after, &path, old, changed)?;
        }
        if is.is_some_and(|entry| entry.kind == EntryKind::File) {
            changed.insert(path.clone());
        }
        if let Some(was) = was.filter(|entry| entry.kind == EntryKind::File) {
            old.push((path, was.identity.clone()));
        }
    }
    Ok(())
}
