//! From a tree of files to objects.
//!
//! Synchronous and pure: it reads through [`Tree`] and knows neither Git, nor a file system, nor a
//! cluster. What it read decides whether it must be done again (see [`Rendered::reads`]).

pub mod archive;
pub mod cache;
pub mod explain;
pub mod helm;
pub mod kustomize;
mod memory;
mod plain;
pub mod sops;
pub mod substitute;
pub mod template;
pub mod tree;

pub use cache::Cache;
pub use memory::MemoryTree;
pub use plain::Selection;
pub use tree::{Entry, EntryKind, Mount, Mounted, Tree, join};

use std::sync::Arc;

use crate::error::Result;
use crate::model::{Confidential, Described, Digest, Generated, Object};

/// The result of one render.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// In the order of files (by path) and documents, or the one that the renderer gives.
    pub objects: Arc<[Object]>,
    /// Paths read and the identity each had: while all are unchanged, so is the result. An empty identity is a
    /// path where nothing was.
    pub reads: Vec<(String, String)>,
    /// What was decrypted or came from a Secret: masked wherever the objects are shown.
    pub hidden: Confidential,
    /// Texts that are random or depend on the time.
    pub generated: Vec<Generated>,
    /// Whether a chart was rendered, which may ask what the cluster is capable of.
    pub charts: bool,
}

/// What a render is asked for beyond its path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Which files of a plain folder are manifests.
    pub selection: Selection,
    /// How a chart is rendered.
    pub helm: helm::Options,
    /// What is changed in a kustomization's result.
    pub kustomize: kustomize::Options,
    /// Values in place of `${NAME}`; `None` leaves them.
    pub substitute: Option<substitute::Variables>,
    /// Keys for files that SOPS encrypted.
    pub keys: sops::Keys,
}

/// Renders a path: a folder with a chart as Helm would, one with a kustomization as kustomize would, a file or any
/// other folder as plain manifests. A kustomization or chart that `selection` excludes is none.
///
/// # Errors
/// `PathNotFound`, whatever a manifest's reader or the renderer says, `DuplicateObject`, `RendererMissing` for a
/// folder that another tool would have to render, `DecryptionFailed` and `SubstitutionFailed`. No message holds
/// anything that was decrypted.
pub fn render(tree: &dyn Tree, path: &str, options: &Options) -> Result<Rendered> {
    let clear = sops::Decrypting::new(tree, &options.keys);
    let rendered = objects(&clear, path, options);
    let mut hidden = clear.hidden();
    let finished = rendered.and_then(|rendered| finish(rendered, options, &mut hidden));
    match finished {
        Ok(rendered) => Ok(Rendered { hidden, ..rendered }),
        Err(error) => Err(error.reworded(|text| hidden.scrub(text))),
    }
}

/// Checks what came out, and puts values in place of variables.
fn finish(rendered: Rendered, options: &Options, hidden: &mut Confidential) -> Result<Rendered> {
    rendered.objects.iter().try_for_each(sops::refuse_encrypted)?;
    let Some(variables) = &options.substitute else { return Ok(rendered) };
    let objects = substitute::objects(&rendered.objects, variables, hidden)?;
    let mut described = Described::default();
    // Names may be others now.
    objects.iter().try_for_each(|object| described.add(object))?;
    Ok(Rendered { objects: objects.into(), ..rendered })
}

fn objects(tree: &dyn Tree, path: &str, options: &Options) -> Result<Rendered> {
    let selection = &options.selection;
    if let Some(folder) = plain::chart(tree, path, selection)? {
        let mut rendered = helm::render(tree, &folder.path, &options.helm)?;
        rendered.reads.extend(folder.links);
        return Ok(rendered);
    }
    if let Some(folder) = plain::kustomization(tree, path, selection)? {
        let built = kustomize::build(tree, &folder.path, &options.kustomize)?;
        let mut described = Described::default();
        let mut objects = Vec::with_capacity(built.objects.len());
        for (value, origin) in built.objects {
            let object = Object::new(value, origin)?;
            described.add(&object)?;
            objects.push(object);
        }
        let mut reads = built.reads;
        reads.extend(folder.links);
        return Ok(Rendered { objects: objects.into(), reads, ..Rendered::default() });
    }
    plain::render(tree, path, selection)
}

impl Rendered {
    /// Digest over the canonical bytes of all objects, in order.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(self.objects.iter().map(Object::canonical))
    }
}

/// Whether a file of this name is taken for a manifest where nothing else is said.
pub fn is_manifest(path: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|end| path.ends_with(end))
}
