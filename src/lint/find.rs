//! What there is to check below a path: kustomizations, charts, and files of manifests.

use crate::error::Result;
use crate::render::tree::{Tree, join, resolve};
use crate::render::{EntryKind, is_manifest};

/// How a folder is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renderer {
    /// As kustomize does.
    Kustomize,
    /// As Helm does.
    Helm,
}

/// A folder that a renderer makes objects of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub path: String,
    /// How it is rendered.
    pub renderer: Renderer,
}

/// Everything below some paths, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Kustomizations and charts; what is inside of a chart is not looked at.
    pub folders: Vec<Folder>,
    /// YAML and JSON files outside of charts.
    pub files: Vec<String>,
}

/// Names that make a kustomization of a folder.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// Folders that hold no manifests of their own.
const PASSED_OVER: [&str; 3] = [".git", "node_modules", "target"];
/// Deepest folder, and most files.
const MAX_FOLDERS: usize = 200;
const MAX_FILES: usize = 100_000;

/// Walks a path of a tree. Links are not followed: what they lead to is found where it is.
///
/// # Errors
/// What the tree says.
pub fn find(tree: &dyn Tree, path: &str, takes: &dyn Fn(&str) -> bool) -> Result<Places> {
    let mut places = Places::default();
    let Some(found) = resolve(tree, path)? else { return Ok(places) };
    if found.entry.kind == EntryKind::File {
        places.files.push(found.path);
    } else {
        walk(tree, &found.path, 0, takes, &mut places)?;
    }
    Ok(places)
}

fn walk(
    tree: &dyn Tree,
    folder: &str,
    depth: usize,
    takes: &dyn Fn(&str) -> bool,
    places: &mut Places,
) -> Result<()> {
    if depth > MAX_FOLDERS || places.files.len() > MAX_FILES {
        return Ok(());
    }
    let entries = tree.list(folder)?;
    let holds =
        |name: &str| entries.iter().any(|entry| entry.name == name && entry.kind != EntryKind::Folder);
    if holds("Chart.yaml") {
        places.folders.push(Folder { path: folder.to_owned(), renderer: Renderer::Helm });
        return Ok(());
    }
    if KUSTOMIZATIONS.iter().any(|name| holds(name)) {
        places.folders.push(Folder { path: folder.to_owned(), renderer: Renderer::Kustomize });
    }
    for entry in &entries {
        let path = join(folder, &entry.name);
        if !takes(&path) {
            continue;
        }
        match entry.kind {
            EntryKind::Folder if !PASSED_OVER.contains(&entry.name.as_str()) => {
                walk(tree, &path, depth + 1, takes, places)?;
            }
            EntryKind::File if is_manifest(&entry.name) && !KUSTOMIZATIONS.contains(&entry.name.as_str()) => {
                places.files.push(path);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::MemoryTree;

    #[test]
    fn charts_kustomizations_and_files() {
        let tree = MemoryTree::default()
            .file("a.yaml", "")
            .file("README.md", "")
            .file("over/kustomization.yaml", "")
            .file("over/patch.yaml", "")
            .file("chart/Chart.yaml", "")
            .file("chart/templates/x.yaml", "")
            .file("old/b.json", "")
            .file("node_modules/c.yaml", "");
        let found = find(&tree, "", &|path| !path.starts_with("old")).unwrap();
        assert_eq!(found.files, ["a.yaml", "over/patch.yaml"]);
        let folders: Vec<_> =
            found.folders.iter().map(|folder| (folder.path.as_str(), folder.renderer)).collect();
        assert_eq!(folders, [("chart", Renderer::Helm), ("over", Renderer::Kustomize)]);
        assert_eq!(find(&tree, "old/b.json", &|_| true).unwrap().files, ["old/b.json"]);
        assert_eq!(find(&tree, "none", &|_| true).unwrap(), Places::default());
    }
}
