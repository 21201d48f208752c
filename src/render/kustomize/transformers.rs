//! The transformers of a kustomization, in the order in which kustomize runs them, and the patches they read.

use serde_json::Value;

use super::build::{Build, Gathered};
use super::fields::Fields;
use super::kustomization::{Patch, Replacement, ReplacementEntry, Selector, typed};
use super::layer::Layer;
use super::node::invalid;
use super::resource::Trace;
use super::transform::{self, MergePatch, Subjects, Transformer};
use crate::error::Result;
use crate::model::yaml;

/// A transformer with the field that asks for it.
struct Planned {
    transformer: Transformer,
    origin: Option<Trace>,
    field: &'static str,
    /// A word in the line below the field.
    detail: String,
}

impl Build<'_> {
    pub(super) fn transformers(&mut self, layer: &Layer, gathered: &mut Gathered) -> Result<()> {
        let fields = gathered.fields.clone().unwrap_or_default();
        let mut all = self.planned(layer, &fields)?;
        for config in self.plugins(layer, &layer.kustomization.transformers)? {
            let origin = self.configured(&config);
            for transformer in self.configured_transformers(layer, &config)? {
                let detail = config.kind(&self.nodes).to_owned();
                all.push(Planned { transformer, origin: origin.clone(), field: "transformers", detail });
            }
        }
        for Planned { transformer, origin, field, detail } in all {
            transformer
                .apply(&mut self.nodes, &self.schema, &mut gathered.resources)
                .map_err(|error| layer.at_field(error, field, &detail))?;
            if let Some(origin) = origin {
                for resource in &mut gathered.resources.list {
                    match &resource.origin {
                        None => resource.origin = Some(origin.clone()),
                        Some(_) => resource.transformations.push(origin.clone()),
                    }
                }
            }
            gathered.resources.drop_gone(&self.nodes);
            self.note(&mut gathered.resources, || {
                let mut step = layer.step(field, &detail);
                if let Transformer::Json { operations, .. } = transformer {
                    step.operations = operations;
                }
                step
            });
        }
        Ok(())
    }

    /// The transformers that fields ask for, in the order in which kustomize runs them.
    fn planned(&mut self, layer: &Layer, fields: &Fields) -> Result<Vec<Planned>> {
        let k = &layer.kustomization;
        let mut all = Vec::new();
        let mut plan = |build: &Self, transformer, plugin: &str, field, detail: String| {
            all.push(Planned { transformer, origin: build.builtin(layer, plugin), field, detail });
        };
        if !k.patches_strategic_merge.is_empty() {
            let patches = self.merge_patches(layer, &k.patches_strategic_merge)?;
            let merge = Transformer::Merge { patches, target: None };
            plan(self, merge, "PatchStrategicMergeTransformer", "patchesStrategicMerge", String::new());
        }
        for patch in &k.patches {
            let read =
                self.patch(layer, patch).map_err(|error| layer.at_field(error, "patches", &patch.path))?;
            plan(self, read, "PatchTransformer", "patches", patch.path.clone());
        }
        if !k.namespace.is_empty() {
            let namespace = Transformer::Namespace {
                namespace: k.namespace.clone(),
                specs: fields.namespace.clone(),
                unset_only: false,
                subjects: Subjects::Default,
            };
            plan(self, namespace, "NamespaceTransformer", "namespace", String::new());
        }
        if !k.name_prefix.is_empty() {
            let prefix =
                Transformer::Prefix { text: k.name_prefix.clone(), specs: fields.name_prefix.clone() };
            plan(self, prefix, "PrefixTransformer", "namePrefix", String::new());
        }
        if !k.name_suffix.is_empty() {
            let suffix =
                Transformer::Suffix { text: k.name_suffix.clone(), specs: fields.name_suffix.clone() };
            plan(self, suffix, "SuffixTransformer", "nameSuffix", String::new());
        }
        let labels = transform::labels(&k.labels, &k.common_labels, fields)
            .map_err(|error| layer.at(error, "abels:"))?;
        let count = labels.len();
        for (number, transformer) in labels.into_iter().enumerate() {
            let field = if number + 1 == count { "commonLabels" } else { "labels" };
            plan(self, transformer, "LabelTransformer", field, String::new());
        }
        if !k.common_annotations.is_empty() {
            let specs = fields.common_annotations.clone();
            let annotations = Transformer::Strings { strings: k.common_annotations.clone(), specs };
            plan(self, annotations, "AnnotationsTransformer", "commonAnnotations", String::new());
        }
        for patch in &k.patches_json6902 {
            let read = self
                .json_patch(layer, &patch.path, &patch.patch, patch.target.as_ref())
                .map_err(|error| layer.at_field(error, "patchesJson6902", &patch.path))?;
            plan(self, read, "PatchJson6902Transformer", "patchesJson6902", patch.path.clone());
        }
        for replica in &k.replicas {
            let replicas = Transformer::Replicas { replica: replica.clone(), specs: fields.replicas.clone() };
            plan(self, replicas, "ReplicaCountTransformer", "replicas", replica.name.clone());
        }
        for image in &k.images {
            let images = Transformer::Image { image: image.clone(), specs: fields.images.clone() };
            plan(self, images, "ImageTagTransformer", "images", image.name.clone());
        }
        if !k.replacements.is_empty() {
            let replacements =
                self.replacements(layer, &k.replacements).map_err(|error| layer.at(error, "replacements"))?;
            let replacements = Transformer::Replacements(replacements);
            plan(self, replacements, "ReplacementTransformer", "replacements", String::new());
        }
        Ok(all)
    }

    /// Patches written in place or named by path.
    pub(super) fn merge_patches(&mut self, layer: &Layer, entries: &[String]) -> Result<Vec<MergePatch>> {
        let mut patches = Vec::new();
        for entry in entries {
            let objects =
                if let Ok(objects) = self.objects(entry.as_bytes(), &layer.file, layer.line_of_text(entry)) {
                    objects
                } else {
                    let (file, bytes) = self.load(layer, entry)?;
                    self.objects(&bytes, &file, 1)?
                };
            patches.extend(objects.into_iter().map(|patch| MergePatch {
                patch,
                renames: false,
                changes_kind: false,
            }));
        }
        if patches.is_empty() {
            return Err(layer.at(invalid("the patches are empty"), "patchesStrategicMerge"));
        }
        Ok(patches)
    }

    /// A strategic merge patch or a JSON patch, whichever the text is.
    pub(super) fn patch(&mut self, layer: &Layer, patch: &Patch) -> Result<Transformer> {
        let inline = patch.patch.trim();
        let (file, text) = match (inline.is_empty(), patch.path.is_empty()) {
            (true, true) => return Err(invalid("a patch needs patch or path")),
            (false, false) => return Err(invalid("a patch has patch or path, not both")),
            (false, true) => (layer.file.to_string(), inline.to_owned()),
            (true, false) => {
                let (file, bytes) = self.load(layer, &patch.path)?;
                let text =
                    String::from_utf8(bytes).map_err(|_| invalid("the patch is not UTF-8").in_file(&file))?;
                (file, text)
            }
        };
        let first = if patch.path.is_empty() { layer.line_of_text(&text) } else { 1 };
        let merged = self.objects(text.as_bytes(), &file, first);
        let mut operations = super::json_patch::read(&text, &file);
        if let (Some(_), Ok(operations)) = (&self.ledger, &mut operations) {
            super::json_patch::locate(operations, &text, &file, first);
        }
        let option = |name: &str| patch.options.get(name).copied().unwrap_or_default();
        match (merged, operations) {
            (Ok(objects), _) if !objects.is_empty() => {
                let patches = objects
                    .into_iter()
                    .map(|patch| MergePatch {
                        patch,
                        renames: option("allowNameChange"),
                        changes_kind: option("allowKindChange"),
                    })
                    .collect();
                Ok(Transformer::Merge { patches, target: patch.target.clone() })
            }
            (_, Ok(operations)) => match &patch.target {
                Some(target) => Ok(Transformer::Json { operations, target: target.clone(), remembers: true }),
                None => Err(invalid("a JSON patch needs a target")),
            },
            (Err(error), Err(other)) => {
                // Of the two readings, the one that the text looks like.
                let json = text.trim_start().starts_with(['-', '[']);
                let error = if json { other } else { error };
                Err(if inline.is_empty() {
                    error
                } else {
                    invalid(format!("the inline patch: {}", error.why))
                })
            }
            (Ok(_), Err(_)) => Err(invalid("the patch is empty").in_file(file)),
        }
    }

    pub(super) fn json_patch(
        &mut self,
        layer: &Layer,
        path: &str,
        text: &str,
        target: Option<&Selector>,
    ) -> Result<Transformer> {
        let Some(target) = target.filter(|target| !target.name.is_empty()) else {
            return Err(invalid("a JSON patch needs the name of its target"));
        };
        let (file, text) = match (path.is_empty(), text.is_empty()) {
            (true, true) => return Err(invalid("a patch needs patch or path")),
            (false, false) => return Err(invalid("a patch has patch or path, not both")),
            (true, false) => (layer.file.to_string(), text.to_owned()),
            (false, true) => {
                let (file, bytes) = self.load(layer, path)?;
                let text =
                    String::from_utf8(bytes).map_err(|_| invalid("the patch is not UTF-8").in_file(&file))?;
                (file, text)
            }
        };
        let mut operations = super::json_patch::read(&text, &file)?;
        if operations.is_empty() {
            return Err(invalid("the patch is empty").in_file(file));
        }
        if self.ledger.is_some() {
            let first = if path.is_empty() { layer.line_of_text(&text) } else { 1 };
            super::json_patch::locate(&mut operations, &text, &file, first);
        }
        Ok(Transformer::Json { operations, target: target.clone(), remembers: false })
    }

    pub(super) fn replacements(
        &mut self,
        layer: &Layer,
        entries: &[ReplacementEntry],
    ) -> Result<Vec<Replacement>> {
        let mut all = Vec::new();
        for entry in entries {
            if entry.path.is_empty() {
                all.push(entry.inline());
                continue;
            }
            if entry.has_inline() {
                return Err(invalid("a replacement has a path or is written in place, not both"));
            }
            let (file, bytes) = self.load(layer, &entry.path)?;
            let value = yaml::read(&bytes, &file)?.into_iter().next().map(|document| document.value);
            match value {
                Some(value @ Value::Array(_)) => {
                    all.extend(typed::<Vec<Replacement>>(value).map_err(|error| error.in_file(&file))?);
                }
                Some(value @ Value::Object(_)) => {
                    all.push(typed(value).map_err(|error| error.in_file(&file))?);
                }
                _ => return Err(invalid("a file of replacements is a map or a list").in_file(file)),
            }
        }
        Ok(all)
    }
}
