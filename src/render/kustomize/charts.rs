//! `helmCharts`: charts of the tree whose objects become resources.
//!
//! kustomize runs `helm template` with the values in a file; here the values are put together the same way and the
//! chart is rendered in process. A chart that would have to be pulled is refused: a render uses no network.

use serde_json::{Map, Value};

use super::build::Build;
use super::kustomization::{HelmChart, HelmGlobals};
use super::layer::Layer;
use super::node::{Place, invalid};
use super::resource::Resource;
use crate::error::{Code, Error, Result};
use crate::model::{Object, yaml};
use crate::render::helm;
use crate::render::template::value::Value as Data;
use crate::render::template::{Set, Surroundings};
use crate::render::{EntryKind, join};

type Values = Map<String, Value>;

impl Build<'_> {
    /// The objects of a chart.
    pub(super) fn chart(
        &mut self,
        layer: &Layer,
        globals: &HelmGlobals,
        chart: &HelmChart,
    ) -> Result<Vec<Resource>> {
        if chart.name.is_empty() {
            return Err(invalid("a chart needs a name"));
        }
        let home = if globals.chart_home.is_empty() { "charts" } else { &globals.chart_home };
        let versioned = format!("{}-{}", chart.name, chart.version);
        // Where kustomize would pull it to.
        let home = if chart.version.is_empty() || chart.repo.is_empty() {
            home.to_owned()
        } else {
            join(home, &versioned)
        };
        let path = join(&home, &chart.name);
        let found = self.find(layer, &path)?.filter(|found| found.entry.kind == EntryKind::Folder);
        let Some(found) = found else {
            self.note_missing(layer, &path);
            return Err(missing(chart, &path, &home));
        };
        let values = self.chart_values(layer, chart, &path)?;
        let options = helm::Options {
            release_name: release_name(chart)?,
            namespace: if chart.namespace.is_empty() {
                "default".to_owned()
            } else {
                chart.namespace.clone()
            },
            values,
            skip_crds: !chart.include_crds,
            kube_version: chart.kube_version.clone(),
            api_versions: chart.api_versions.clone(),
            ..helm::Options::default()
        };
        let folder = found.path.clone();
        self.reads.extend(found.links);
        let rendered = helm::render(self.tree(), &folder, &options)?;
        self.reads.extend(rendered.reads.iter().cloned());
        // Names and hashes of a kustomization are made from its texts, so nothing live can take their place later; and
        // what is random must not be the same for everybody.
        if let Some(text) = rendered.generated.first() {
            let object = rendered.objects.get(text.object).map(Object::key);
            let place = object.map(|key| format!(": {} of {key}", text.pointer)).unwrap_or_default();
            return Err(invalid(format!("the chart {} makes random values{place}", chart.name))
                .hint("make the chart a source of its own, which keeps what it made, or give the values"));
        }
        let mut resources = Vec::with_capacity(rendered.objects.len());
        for object in rendered.objects.iter() {
            let hook = object.annotation("helm.sh/hook");
            let test = hook.is_some_and(|hook| hook.split(',').any(|event| event.trim().starts_with("test")));
            if chart.skip_hooks && hook.is_some() || chart.skip_tests && test {
                continue;
            }
            let file = self.nodes.file(&object.origin().file);
            let line = u32::try_from(object.origin().line).unwrap_or(0);
            resources.push(Resource::new(self.nodes.read(object.value(), Place { file, line })));
        }
        Ok(resources)
    }

    /// What kustomize hands to Helm: the values file and the values in place, by `valuesMerge`, then further files.
    fn chart_values(&mut self, layer: &Layer, chart: &HelmChart, path: &str) -> Result<Values> {
        let own = join(path, "values.yaml");
        let file = if chart.values_file.is_empty() { &own } else { &chart.values_file };
        let there = !chart.values_file.is_empty() || self.find(layer, file)?.is_some();
        let stated = if there { self.values_of(layer, file)? } else { Values::new() };
        let inline = chart.values_inline.clone();
        let mut values = match chart.values_merge.as_str() {
            _ if inline.is_empty() => stated,
            "" | "override" => over(stated, inline, true),
            "merge" => over(inline, stated, true),
            "replace" => inline,
            other => {
                return Err(invalid(format!(
                    "valuesMerge is {other:?}, not one of merge, override, replace"
                )));
            }
        };
        for file in &chart.additional_values_files {
            let more = self.values_of(layer, file)?;
            values = over(values, more, false);
        }
        Ok(values)
    }

    fn values_of(&mut self, layer: &Layer, path: &str) -> Result<Values> {
        let (file, bytes) = self.load(layer, path)?;
        match yaml::read(&bytes, &file)?.into_iter().next().map(|document| document.value) {
            None => Ok(Values::new()),
            Some(Value::Object(values)) => Ok(values),
            Some(_) => Err(Error::new(Code::ChartInvalid, "a values file is a map").in_file(file)),
        }
    }
}

/// One map over another. Where `null_removes`, a null takes away what is below; else it stays, and takes away the
/// default of the chart.
fn over(mut below: Values, above: Values, null_removes: bool) -> Values {
    for (name, value) in above {
        match (below.remove(&name), value) {
            (_, Value::Null) if null_removes => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                below.insert(name, Value::Object(over(old, new, null_removes)));
            }
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
    below
}

fn release_name(chart: &HelmChart) -> Result<String> {
    match (chart.release_name.as_str(), chart.name_template.as_str()) {
        // What `helm template` says where it is given no name.
        ("", "") => Ok("release-name".to_owned()),
        (name, "") => Ok(name.to_owned()),
        ("", template) => {
            let file = "nameTemplate";
            let mut set = Set::default();
            let run = set.add(file, template).and_then(|()| {
                set.run([(file, Data::map(std::collections::BTreeMap::new()))], &Surroundings::default())
            });
            let mut output = run.map_err(|failure| invalid(format!("nameTemplate: {}", failure.words())))?;
            if output.volatile {
                return Err(invalid("nameTemplate gives another name each time"));
            }
            Ok(output.files.pop().map(|(_, text)| text).unwrap_or_default())
        }
        _ => Err(invalid("a chart has releaseName or nameTemplate, not both")),
    }
}

fn missing(chart: &HelmChart, path: &str, home: &str) -> Error {
    if chart.repo.is_empty() {
        let why = format!("the chart {} is not at {path}, and no repository is named for it", chart.name);
        return Error::new(Code::PathNotFound, why);
    }
    let version = if chart.version.is_empty() { String::new() } else { format!(" {}", chart.version) };
    let why = format!("the chart {}{version} of {} is not at {path}", chart.name, chart.repo);
    let pull = match chart.repo.strip_prefix("oci://") {
        Some(_) => format!("{}/{}", chart.repo.trim_end_matches('/'), chart.name),
        None => format!("--repo {} {}", chart.repo, chart.name),
    };
    let version =
        if chart.version.is_empty() { String::new() } else { format!(" --version {}", chart.version) };
    Error::new(Code::RemoteBaseRefused, why)
        .hint(format!("commit it: helm pull --untar --untardir {home} {pull}{version}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Values {
        match value {
            Value::Object(map) => map,
            _ => Values::new(),
        }
    }

    #[test]
    fn values_are_put_over_each_other_as_kustomize_and_helm_do() {
        let below = || map(json!({"a": {"b": 1, "c": 2}, "d": [1], "e": 1}));
        let above = || map(json!({"a": {"b": null, "x": 3}, "d": [2], "e": null}));
        assert_eq!(Value::from(over(below(), above(), true)), json!({"a": {"c": 2, "x": 3}, "d": [2]}));
        assert_eq!(
            Value::from(over(below(), above(), false)),
            json!({"a": {"b": null, "c": 2, "x": 3}, "d": [2], "e": null})
        );
    }

    #[test]
    fn a_release_is_called_as_helm_would_call_it() {
        let name = |chart: HelmChart| release_name(&chart).map_err(|error| error.why);
        assert_eq!(name(HelmChart::default()).unwrap(), "release-name");
        let template = |text: &str| HelmChart { name_template: text.into(), ..HelmChart::default() };
        assert_eq!(name(template(r#"{{ upper "a" }}-b"#)).unwrap(), "A-b");
        assert!(name(HelmChart { release_name: "x".into(), ..template("y") }).is_err());
    }
}
