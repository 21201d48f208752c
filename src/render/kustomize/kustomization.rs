//! The kustomization file.

#![expect(
    clippy::struct_field_names,
    clippy::struct_excessive_bools,
    reason = "the names are those of the file"
)]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fields::FieldSpec;
use super::node::invalid;
use crate::error::{Error, Result};
use crate::model::yaml;

pub(in crate::render) const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

pub(super) type Strings = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Kustomization {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Option<Metadata>,
    pub(super) openapi: Strings,
    pub(super) name_prefix: String,
    pub(super) name_suffix: String,
    pub(super) namespace: String,
    pub(super) common_labels: Strings,
    pub(super) labels: Vec<Label>,
    pub(super) common_annotations: Strings,
    pub(super) patches_strategic_merge: Vec<String>,
    #[serde(rename = "patchesJson6902")]
    pub(super) patches_json6902: Vec<Patch>,
    pub(super) patches: Vec<Patch>,
    pub(super) images: Vec<Image>,
    pub(super) image_tags: Vec<Image>,
    pub(super) replacements: Vec<ReplacementEntry>,
    pub(super) replicas: Vec<Replica>,
    pub(super) vars: Vec<Var>,
    pub(super) sort_options: Option<SortOptions>,
    pub(super) resources: Vec<String>,
    pub(super) components: Vec<String>,
    pub(super) crds: Vec<String>,
    pub(super) bases: Vec<String>,
    pub(super) config_map_generator: Vec<GeneratorArguments>,
    pub(super) secret_generator: Vec<GeneratorArguments>,
    pub(super) helm_globals: Option<HelmGlobals>,
    pub(super) helm_charts: Vec<HelmChart>,
    pub(super) helm_chart_inflation_generator: Vec<OldHelmChart>,
    pub(super) generator_options: Option<GeneratorOptions>,
    pub(super) configurations: Vec<String>,
    pub(super) generators: Vec<String>,
    pub(super) transformers: Vec<String>,
    pub(super) validators: Vec<String>,
    pub(super) build_metadata: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    labels: Strings,
    annotations: Strings,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Label {
    pub(super) pairs: Strings,
    pub(super) include_selectors: bool,
    pub(super) include_templates: bool,
    pub(super) fields: Vec<FieldSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Patch {
    pub(super) path: String,
    pub(super) patch: String,
    pub(super) target: Option<Selector>,
    pub(super) options: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Selector {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) annotation_selector: String,
    pub(super) label_selector: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) new_name: String,
    pub(super) tag_suffix: String,
    pub(super) new_tag: String,
    pub(super) digest: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct ReplacementEntry {
    pub(super) path: String,
    source: Option<SourceSelector>,
    targets: Option<Vec<TargetSelector>>,
    source_value: Option<String>,
}

impl ReplacementEntry {
    pub(super) fn inline(&self) -> Replacement {
        Replacement {
            source: self.source.clone(),
            targets: self.targets.clone(),
            source_value: self.source_value.clone(),
        }
    }

    pub(super) fn has_inline(&self) -> bool {
        self.source.is_some() || self.targets.as_ref().is_some_and(|targets| !targets.is_empty())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct Replacement {
    pub(super) source: Option<SourceSelector>,
    pub(super) targets: Option<Vec<TargetSelector>>,
    pub(super) source_value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct SourceSelector {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) field_path: String,
    pub(super) options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct TargetSelector {
    pub(super) select: Option<Selector>,
    pub(super) reject: Vec<Selector>,
    pub(super) field_paths: Vec<String>,
    pub(super) options: Option<FieldOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FieldOptions {
    pub(super) delimiter: String,
    pub(super) index: i64,
    encoding: String,
    pub(super) create: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) count: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Var {
    pub(super) name: String,
    pub(super) objref: VarTarget,
    pub(super) fieldref: VarField,
    /// File and line that define it.
    #[serde(skip)]
    pub(super) place: (String, usize),
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct VarTarget {
    pub(super) api_version: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct VarField {
    pub(super) field_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct SortOptions {
    pub(super) order: String,
    pub(super) legacy_sort_options: Option<LegacyOrder>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct LegacyOrder {
    pub(super) order_first: Vec<String>,
    pub(super) order_last: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct GeneratorArguments {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) behavior: String,
    pub(super) literals: Vec<String>,
    pub(super) files: Vec<String>,
    pub(super) envs: Vec<String>,
    env: String,
    pub(super) options: Option<GeneratorOptions>,
    /// Of a Secret.
    #[serde(rename = "type")]
    pub(super) secret_type: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct GeneratorOptions {
    pub(super) labels: Strings,
    pub(super) annotations: Strings,
    pub(super) disable_name_suffix_hash: bool,
    pub(super) immutable: bool,
}

impl GeneratorArguments {
    /// The older spelling `env`, and the options of the whole kustomization.
    pub(super) fn complete(&mut self, global: Option<&GeneratorOptions>) {
        if !self.env.is_empty() {
            self.envs.push(std::mem::take(&mut self.env));
        }
        let Some(global) = global else { return };
        let options = self.options.get_or_insert_default();
        for (name, text) in &global.labels {
            options.labels.entry(name.clone()).or_insert_with(|| text.clone());
        }
        for (name, text) in &global.annotations {
            options.annotations.entry(name.clone()).or_insert_with(|| text.clone());
        }
        options.disable_name_suffix_hash |= global.disable_name_suffix_hash;
        options.immutable |= global.immutable;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct HelmGlobals {
    pub(super) chart_home: String,
    pub(super) config_home: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct HelmChart {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) repo: String,
    pub(super) release_name: String,
    pub(super) namespace: String,
    pub(super) additional_values_files: Vec<String>,
    pub(super) values_file: String,
    pub(super) values_inline: Map<String, Value>,
    pub(super) values_merge: String,
    #[serde(rename = "includeCRDs")]
    pub(super) include_crds: bool,
    pub(super) skip_hooks: bool,
    pub(super) api_versions: Vec<String>,
    pub(super) kube_version: String,
    pub(super) name_template: String,
    pub(super) skip_tests: bool,
    pub(super) debug: bool,
    pub(super) devel: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct OldHelmChart {
    chart_name: String,
    chart_version: String,
    chart_repo_url: String,
    chart_home: String,
    chart_repo_name: String,
    helm_bin: String,
    helm_home: String,
    values: String,
    values_local: Map<String, Value>,
    values_merge: String,
    release_name: String,
    release_namespace: String,
    extra_args: Vec<String>,
}

/// The names of the fields that are not in small letters throughout: Go reads a name in any letters.
const FIELDS: &[&str] = &[
    "additionalValuesFiles",
    "allowKindChange",
    "allowNameChange",
    "annotationSelector",
    "apiVersion",
    "apiVersions",
    "buildMetadata",
    "chartHome",
    "chartName",
    "chartRepoName",
    "chartRepoUrl",
    "chartVersion",
    "commonAnnotations",
    "commonLabels",
    "configHome",
    "configMapGenerator",
    "disableNameSuffixHash",
    "extraArgs",
    "fieldPath",
    "fieldPaths",
    "fieldSpecs",
    "generatorOptions",
    "helmBin",
    "helmChartInflationGenerator",
    "helmCharts",
    "helmGlobals",
    "helmHome",
    "imageTags",
    "includeCRDs",
    "includeSelectors",
    "includeTemplates",
    "kubeVersion",
    "labelSelector",
    "legacySortOptions",
    "namePrefix",
    "nameSuffix",
    "nameTemplate",
    "newName",
    "newTag",
    "orderFirst",
    "orderLast",
    "patchesJson6902",
    "patchesStrategicMerge",
    "releaseName",
    "releaseNamespace",
    "secretGenerator",
    "skipHooks",
    "skipTests",
    "sortOptions",
    "sourceValue",
    "tagSuffix",
    "valuesFile",
    "valuesInline",
    "valuesLocal",
    "valuesMerge",
];

/// Spells the names of fields as they are known here; what stands in maps of the user's own stays.
fn spell(fields: Map<String, Value>) -> Map<String, Value> {
    let spelled = |name: String| {
        if name.bytes().all(|byte| byte.is_ascii_lowercase())
            && !FIELDS.iter().any(|known| known.eq_ignore_ascii_case(&name))
        {
            return name;
        }
        let known = FIELDS.iter().find(|known| known.eq_ignore_ascii_case(&name));
        known.map_or_else(|| name.to_ascii_lowercase(), |known| (*known).to_owned())
    };
    let own = [
        "commonLabels",
        "commonAnnotations",
        "annotations",
        "pairs",
        "valuesInline",
        "valuesLocal",
        "openapi",
    ];
    let inner = |name: &str, value: Value| match value {
        value if own.contains(&name) => value,
        Value::Object(fields) if name != "labels" => Value::Object(spell(fields)),
        Value::Array(items) => {
            let item =
                |item| if let Value::Object(fields) = item { Value::Object(spell(fields)) } else { item };
            Value::Array(items.into_iter().map(item).collect())
        }
        value => value,
    };
    fields
        .into_iter()
        .map(|(name, value)| {
            let name = spelled(name);
            let value = inner(&name, value);
            (name, value)
        })
        .collect()
}

/// One entry of `patches`.
pub(super) fn patch_of(fields: &Map<String, Value>) -> Result<Patch> {
    typed(Value::Object(spell(fields.clone())))
}

impl Kustomization {
    /// Reads a kustomization file.
    pub(super) fn read(bytes: &[u8], file: &str) -> Result<Self> {
        let document = yaml::read(bytes, file)?.into_iter().next();
        let Some(document) = document else {
            return Err(invalid("the kustomization is empty").in_file(file));
        };
        let Value::Object(fields) = document.value else {
            return Err(invalid("a kustomization is a map").in_file(file).at(document.line, 0));
        };
        let mut read: Self = typed(Value::Object(spell(fields.clone())))
            .map_err(|error| place_of(bytes, file, &fields, error))?;
        read.resources.append(&mut read.bases);
        read.images.append(&mut read.image_tags);
        for old in &read.helm_chart_inflation_generator {
            // Of several, the last that is given.
            let globals = read.helm_globals.get_or_insert_default();
            if !old.chart_home.is_empty() {
                globals.chart_home.clone_from(&old.chart_home);
            }
        }
        read.helm_charts.extend(read.helm_chart_inflation_generator.drain(..).map(|old| HelmChart {
            name: old.chart_name,
            version: old.chart_version,
            repo: old.chart_repo_url,
            values_file: old.values,
            values_inline: old.values_local,
            values_merge: old.values_merge,
            release_name: old.release_name,
            ..HelmChart::default()
        }));
        if read.kind.is_empty() {
            "Kustomization".clone_into(&mut read.kind);
        }
        let version = match read.kind.as_str() {
            "Kustomization" => "kustomize.config.k8s.io/v1beta1",
            "Component" => "kustomize.config.k8s.io/v1alpha1",
            other => {
                let why = format!("the kind is {other:?}, not Kustomization or Component");
                return Err(invalid(why).in_file(file).at(line_of(bytes, "kind:"), 0));
            }
        };
        if read.api_version.is_empty() {
            version.clone_into(&mut read.api_version);
        } else if read.api_version != version {
            let why = format!("apiVersion for {} is {version}, not {}", read.kind, read.api_version);
            return Err(invalid(why).in_file(file).at(line_of(bytes, "apiVersion:"), 0));
        }
        let (kind, api_version) = (read.kind.clone(), read.api_version.clone());
        if read == (Self { api_version, kind, ..Self::default() }) {
            return Err(invalid("the kustomization is empty").in_file(file).at(1, 0));
        }
        Ok(read)
    }
}

/// A typed form of a value; null is the same as a field left out.
pub(super) fn typed<T: DeserializeOwned>(mut value: Value) -> Result<T> {
    without_null(&mut value);
    serde_json::from_value(value).map_err(|error| invalid(error.to_string()))
}

fn without_null(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            let inner =
                fields.iter_mut().filter(|(name, _)| *name != "valuesInline" && *name != "valuesLocal");
            inner.for_each(|(_, value)| without_null(value));
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Adds file and line: of the unknown field that the message names (as it is written there), else of the field that
/// cannot be read on its own.
fn place_of(bytes: &[u8], file: &str, fields: &Map<String, Value>, mut error: Error) -> Error {
    let unknown = error.why.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let line = if let Some(unknown) = unknown.map(str::to_owned) {
        let text = String::from_utf8_lossy(bytes);
        let written = text.lines().enumerate().find_map(|(at, line)| {
            let names = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let name = names.into_iter().find(|name| name.eq_ignore_ascii_case(&unknown))?;
            (!line.trim_start().starts_with('#')).then(|| (at + 1, name.to_owned()))
        });
        if let Some((_, name)) = &written {
            error.why = error.why.replacen(&format!("`{unknown}`"), &format!("`{name}`"), 1);
        }
        written.map_or(0, |(line, _)| line)
    } else {
        let bad = fields.iter().find(|(name, value)| {
            let alone = Map::from_iter([((*name).clone(), (*value).clone())]);
            typed::<Kustomization>(Value::Object(spell(alone))).is_err()
        });
        bad.map_or(0, |(name, _)| line_of(bytes, &format!("{name}:")))
    };
    if error.place.line > 0 { error } else { error.in_file(file).at(line, 0) }
}

/// The line of a word below a field of the file; the field's own where the word does not stand there.
pub(super) fn line_below(bytes: &[u8], field: &str, word: &str) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| !line.strip_prefix(field).is_some_and(|rest| rest.starts_with(':')));
    let Some((at, first)) = lines.next() else { return line_of(bytes, word) };
    if word.is_empty() || first.contains(word) {
        return at + 1;
    }
    // The field ends where the next begins in the first column.
    let below = lines.take_while(|(_, line)| !line.starts_with(|c: char| c.is_alphabetic()));
    let found =
        below.into_iter().find(|(_, line)| !line.trim_start().starts_with('#') && line.contains(word));
    found.map_or(at, |(at, _)| at) + 1
}

/// The 1-based line in which a word stands first; 0 where it does not.
pub(super) fn line_of(bytes: &[u8], word: &str) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let find = |fits: &dyn Fn(&str) -> bool| {
        text.lines().position(|line| !line.trim_start().starts_with('#') && fits(line)).map_or(0, |at| at + 1)
    };
    match find(&|line| stands_alone(line, word)) {
        0 => find(&|line| line.contains(word)),
        line => line,
    }
}

/// Whether a line holds a word that is no part of a longer word or path.
fn stands_alone(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(part) && !after.starts_with(part)
    })
}
