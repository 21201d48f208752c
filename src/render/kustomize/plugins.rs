//! Generators and transformers that are configured by an object: only those that kustomize has built in.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::build::{Build, Gathered, clean};
use super::fields::FieldSpec;
use super::kustomization::{Image, Patch, ReplacementEntry, Replica, Selector, Strings, typed};
use super::layer::Layer;
use super::resource::{Resource, Trace};
use super::transform::{Subjects, Transformer};
use crate::error::Result;
use crate::model::yaml;

impl Build<'_> {
    /// The trace of a field of the kustomization that is named like a built-in plugin.
    pub(super) fn builtin(&self, layer: &Layer, kind: &str) -> Option<Trace> {
        let file = layer.file.rsplit('/').next().unwrap_or(&layer.file);
        self.trace.as_ref().map(|trace| Trace {
            path: String::new(),
            configured_in: clean(trace, file),
            configured_by: Some(["builtin".into(), kind.into(), String::new(), String::new()]),
        })
    }

    pub(super) fn configured(&self, config: &Resource) -> Option<Trace> {
        let origin = config.origin.as_ref()?;
        let text = |text: &str| text.to_owned();
        let nodes = &self.nodes;
        let by = [
            text(config.api_version(nodes)),
            text(config.kind(nodes)),
            text(config.name(nodes)),
            text(config.namespace(nodes)),
        ];
        Some(Trace { path: String::new(), configured_in: origin.path.clone(), configured_by: Some(by) })
    }

    /// Configurations of generators or transformers: written in place, or paths to files and folders.
    pub(super) fn plugins(&mut self, layer: &Layer, entries: &[String]) -> Result<Vec<Resource>> {
        let mut gathered = Gathered::default();
        let mut paths = Vec::new();
        for entry in entries {
            // A path is no document with a kind.
            match self.objects(entry.as_bytes(), &layer.file, layer.line_of_text(entry)) {
                Ok(objects) => {
                    let file = layer.file.rsplit('/').next().unwrap_or(&layer.file);
                    let origin = self
                        .trace
                        .as_ref()
                        .map(|trace| Trace { path: clean(trace, file), ..Trace::default() });
                    for mut object in objects {
                        object.origin.clone_from(&origin);
                        gathered.resources.append(&self.nodes, object)?;
                    }
                }
                Err(_) => paths.push(entry.clone()),
            }
        }
        self.resources(layer, &mut gathered, &paths)?;
        for config in &gathered.resources.list {
            if config.api_version(&self.nodes) != "builtin" {
                let why = format!(
                    "{} is a plugin, which is not run; only those of apiVersion builtin are",
                    config.kind(&self.nodes)
                );
                return Err(self.nodes.fail(config.root, why));
            }
        }
        Ok(gathered.resources.list)
    }

    /// The typed form of a plugin's configuration; `from_metadata` are fields taken from there where they are not given.
    pub(super) fn plugin<T: serde::de::DeserializeOwned>(
        &self,
        config: &Resource,
        from_metadata: &[&str],
    ) -> Result<T> {
        let mut value = self.nodes.value(config.root)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
            let metadata = fields.remove("metadata").unwrap_or_default();
            for name in from_metadata {
                if let Some(found) = metadata.get(name)
                    && !fields.contains_key(*name)
                {
                    fields.insert((*name).to_owned(), found.clone());
                }
            }
        }
        typed(value).map_err(|error| {
            self.nodes.fail(config.root, format!("{}: {}", config.kind(&self.nodes), error.why))
        })
    }

    /// Transformers from an object of apiVersion builtin.
    pub(super) fn configured_transformers(
        &mut self,
        layer: &Layer,
        config: &Resource,
    ) -> Result<Vec<Transformer>> {
        let kind = config.kind(&self.nodes).to_owned();
        let p: Plugin = self.plugin(config, &["namespace"])?;
        let fail = |build: &Self, why: &str| build.nodes.fail(config.root, format!("{kind}: {why}"));
        let one = match kind.as_str() {
            "AnnotationsTransformer" => {
                Transformer::Strings { strings: p.annotations, specs: p.field_specs.unwrap_or_default() }
            }
            "LabelTransformer" => {
                Transformer::Strings { strings: p.labels, specs: p.field_specs.unwrap_or_default() }
            }
            "HashTransformer" => Transformer::Hash,
            "ImageTagTransformer" => {
                Transformer::Image { image: p.image_tag, specs: p.field_specs.unwrap_or_default() }
            }
            "NamespaceTransformer" => {
                let subjects = match p.set_role_binding_subjects.as_str() {
                    "" | "defaultOnly" => Subjects::Default,
                    "allServiceAccounts" => Subjects::ServiceAccounts,
                    "none" => Subjects::None,
                    _ => {
                        return Err(fail(
                            self,
                            "setRoleBindingSubjects is one of defaultOnly, allServiceAccounts, none",
                        ));
                    }
                };
                Transformer::Namespace {
                    namespace: p.namespace,
                    specs: p.field_specs.unwrap_or_default(),
                    unset_only: p.unset_only,
                    subjects,
                }
            }
            "PatchJson6902Transformer" => self.json_patch(layer, &p.path, &p.json_op, p.target.as_ref())?,
            "PatchStrategicMergeTransformer" => {
                let mut entries = p.paths;
                if !p.patches.is_empty() {
                    entries.push(p.patches);
                }
                Transformer::Merge { patches: self.merge_patches(layer, &entries)?, target: None }
            }
            "PatchTransformer" => {
                let patch = Patch { path: p.path, patch: p.patch, target: p.target, options: p.options };
                self.patch(layer, &patch).map_err(|error| fail(self, &error.why))?
            }
            "PrefixTransformer" | "SuffixTransformer" | "PrefixSuffixTransformer" => {
                let Some(specs) = p.field_specs else { return Err(fail(self, "fieldSpecs are missing")) };
                let prefix = Transformer::Prefix { text: p.prefix, specs: specs.clone() };
                let suffix = Transformer::Suffix { text: p.suffix, specs };
                return Ok(match kind.as_str() {
                    "PrefixTransformer" => vec![prefix],
                    "SuffixTransformer" => vec![suffix],
                    _ => vec![prefix, suffix],
                });
            }
            "ReplacementTransformer" => Transformer::Replacements(self.replacements(layer, &p.replacements)?),
            "ReplicaCountTransformer" => {
                Transformer::Replicas { replica: p.replica, specs: p.field_specs.unwrap_or_default() }
            }
            "ValueAddTransformer" => {
                let folder = layer.folder.rsplit('/').next().unwrap_or_default();
                let value = if p.value.trim().is_empty() { folder } else { p.value.trim() };
                let mut targets = p.targets;
                if !p.target_file_path.is_empty() {
                    let (file, bytes) = self.load(layer, &p.target_file_path)?;
                    let read = yaml::read(&bytes, &file)?.into_iter().next().map(|document| document.value);
                    let read: AddTargets =
                        typed(read.unwrap_or_default()).map_err(|error| error.in_file(&file))?;
                    targets.extend(read.targets);
                }
                if targets.is_empty() || targets.iter().any(|target| target.field_path.is_empty()) {
                    return Err(fail(self, "targets with a fieldPath are missing"));
                }
                let add = |target: AddTarget| Transformer::Add {
                    value: value.to_owned(),
                    target: target.selector,
                    path: target.field_path,
                    position: target.file_path_position,
                };
                return Ok(targets.into_iter().map(add).collect());
            }
            _ => return Err(fail(self, "this is no built-in transformer")),
        };
        Ok(vec![one])
    }
}

/// The configuration of any built-in transformer.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Plugin {
    annotations: Strings,
    labels: Strings,
    field_specs: Option<Vec<FieldSpec>>,
    image_tag: Image,
    namespace: String,
    unset_only: bool,
    set_role_binding_subjects: String,
    target: Option<Selector>,
    path: String,
    json_op: String,
    paths: Vec<String>,
    patches: String,
    patch: String,
    options: BTreeMap<String, bool>,
    prefix: String,
    suffix: String,
    replacements: Vec<ReplacementEntry>,
    replica: Replica,
    value: String,
    targets: Vec<AddTarget>,
    target_file_path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AddTargets {
    targets: Vec<AddTarget>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AddTarget {
    selector: Option<Selector>,
    field_path: String,
    file_path_position: usize,
}
