//! What an Application changes in a kustomization's result: a kustomization around the one that is built.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::kustomization::{Image, Kustomization, Label, Replica, patch_of};
use super::layer::Layer;
use super::node::invalid;
use super::transform::split_image;
use crate::error::Result;

/// Where messages say that the fault is.
const NAME: &str = "spec.source.kustomize";

/// What is changed in the result, as a kustomization around it would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Before every name.
    pub name_prefix: String,
    /// After every name.
    pub name_suffix: String,
    /// `metadata.namespace` of every object in a namespace.
    pub namespace: String,
    /// `name=new:tag` and its like.
    pub images: Vec<String>,
    /// Replicas by the name of the workload.
    pub replicas: BTreeMap<String, u32>,
    /// Labels on all objects, selectors not included.
    pub labels: BTreeMap<String, String>,
    /// Annotations on all objects.
    pub annotations: BTreeMap<String, String>,
    /// Components, relative to the path.
    pub components: Vec<String>,
    /// Entries of `patches`.
    pub patches: Vec<Map<String, Value>>,
}

impl Options {
    /// The kustomization around the one that is built; `None` where nothing is to be changed. Paths are those of the
    /// inner one, and what holds for a whole build (`openapi`, `buildMetadata`, `sortOptions`) stays as it says.
    pub(super) fn around(&self, inner: &Layer) -> Result<Option<Layer>> {
        if *self == Self::default() {
            return Ok(None);
        }
        let fault = |error: crate::error::Error| error.in_file(NAME);
        let mut labels = Vec::new();
        if !self.labels.is_empty() {
            labels.push(Label { pairs: self.labels.clone(), ..Label::default() });
        }
        // As `kustomize edit set image` writes them: by name, of equal names the last.
        let mut images = BTreeMap::new();
        for text in &self.images {
            let image = image(text).map_err(fault)?;
            images.insert(image.name.clone(), image);
        }
        let replicas =
            self.replicas.iter().map(|(name, count)| Replica { name: name.clone(), count: (*count).into() });
        let kustomization = Kustomization {
            name_prefix: self.name_prefix.clone(),
            name_suffix: self.name_suffix.clone(),
            namespace: self.namespace.clone(),
            labels,
            common_annotations: self.annotations.clone(),
            patches: self.patches.iter().map(patch_of).collect::<Result<_>>().map_err(fault)?,
            images: images.into_values().collect(),
            replicas: replicas.collect(),
            components: self.components.clone(),
            build_metadata: inner.kustomization.build_metadata.clone(),
            ..Kustomization::default()
        };
        Ok(Some(inner.around(NAME, kustomization)))
    }
}

/// `name=new:tag@digest`, of which `=new` or what follows it may be missing; `*` keeps what is there.
fn image(text: &str) -> Result<Image> {
    let (name, value) = text.split_once('=').map_or((None, text), |(name, value)| (Some(name), value));
    let (found, tag, digest) = split_image(value);
    if found == text || name == Some("") || found.is_empty() {
        let why =
            format!("the image {text:?} has none of the forms name=new, name=new:tag, name:tag, name@digest");
        return Err(invalid(why));
    }
    let kept = |text: &str| if text == "*" { String::new() } else { text.to_owned() };
    Ok(Image {
        name: name.unwrap_or(found).to_owned(),
        new_name: if name.is_some() { kept(found) } else { String::new() },
        new_tag: kept(tag),
        digest: kept(digest),
        ..Image::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_written_as_kustomize_edit_takes_them() {
        let check = |text: &str, expected: [&str; 4]| {
            let image = image(text).unwrap();
            assert_eq!([&*image.name, &*image.new_name, &*image.new_tag, &*image.digest], expected, "{text}");
        };
        check("web:2", ["web", "", "2", ""]);
        check("web=other", ["web", "other", "", ""]);
        check("web=registry:5000/other:2", ["web", "registry:5000/other", "2", ""]);
        check("registry:5000/web:2", ["registry:5000/web", "", "2", ""]);
        check("web@sha256:ab", ["web", "", "", "sha256:ab"]);
        check("web=other:2@sha256:ab", ["web", "other", "2", "sha256:ab"]);
        check("web=*:2", ["web", "", "2", ""]);
        for bad in ["web", "", "=web:2", "registry:5000/web"] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }
}
