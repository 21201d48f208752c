//! An application's sources as they stand in a tree at hand, such as a folder of this machine.

use crate::api::{ApplicationSpec, Source};
use crate::error::Result;
use crate::plan::Settings;
use crate::render::{Mounted, Options, Tree};

use super::references::{check_names, is_reference};
use super::{Capable, Materials, render};

/// One source: its path and how it is rendered.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// The folder or file.
    pub path: String,
    /// What the agent would render it with.
    pub options: Options,
}

/// How the sources of an application are rendered; those that only hold files of others are left out.
///
/// # Errors
/// `ApplicationInvalid` for names that lead nowhere.
pub fn renderings(
    spec: &ApplicationSpec,
    settings: &Settings,
    materials: &Materials,
    capable: &Capable,
) -> Result<Vec<Rendering>> {
    let sources: Vec<&Source> = spec.sources().collect();
    check_names(&sources)?;
    let own = sources.iter().enumerate().filter(|(_, source)| !is_reference(source, &sources));
    let all = own.map(|(number, source)| {
        let material = materials.sources.get(number).cloned().unwrap_or_default();
        let options = render::options(settings, source, material, capable);
        Rendering { path: source.path.clone(), options }
    });
    Ok(all.collect())
}

/// A tree with itself below the name of each source, as the agent mounts them.
pub fn mounted<'a>(spec: &'a ApplicationSpec, tree: &'a dyn Tree) -> Mounted<'a> {
    let named = spec.sources().filter(|source| !source.name.is_empty());
    Mounted::new(tree, named.map(|source| (source.name.as_str(), tree)))
}
