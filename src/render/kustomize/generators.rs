//! The generators of a kustomization: its fields, and objects of apiVersion builtin.

use serde::Deserialize;
use serde_json::Value;

use super::build::{Build, Gathered};
use super::generate;
use super::kustomization::{GeneratorArguments, HelmChart, HelmGlobals, line_below, line_of, typed};
use super::layer::Layer;
use super::node::{Place, invalid};
use super::resource::{Resource, Trace};
use crate::error::{Error, Result};

impl Build<'_> {
    pub(super) fn generators(&mut self, layer: &Layer, gathered: &mut Gathered) -> Result<()> {
        let k = &layer.kustomization;
        let lists = [
            ("ConfigMap", &k.config_map_generator, "configMapGenerator"),
            ("Secret", &k.secret_generator, "secretGenerator"),
        ];
        for (kind, list, field) in lists {
            for arguments in list {
                let mut arguments = arguments.clone();
                arguments.complete(k.generator_options.as_ref());
                let origin = self.builtin(layer, &format!("{kind}Generator"));
                let name = format!("name: {}", arguments.name);
                self.generate(layer, gathered, kind, &arguments, origin).map_err(|error| {
                    let line = line_below(&layer.bytes, field, &name);
                    if error.place.file.is_some() { error } else { error.in_file(&layer.file).at(line, 0) }
                })?;
                self.note(&mut gathered.resources, || layer.step(field, &name));
            }
        }
        for chart in &k.helm_charts {
            let origin = self.builtin(layer, "HelmChartInflationGenerator");
            let globals = k.helm_globals.clone().unwrap_or_default();
            let name = format!("name: {}", chart.name);
            let at = |error: Error| layer.at_field(error, "helmCharts", &name);
            for mut made in self.chart(layer, &globals, chart).map_err(at)? {
                made.origin.clone_from(&origin);
                generate::absorb(&mut self.nodes, &mut gathered.resources, made).map_err(at)?;
            }
            self.note(&mut gathered.resources, || layer.step("helmCharts", &name));
        }
        for config in self.plugins(layer, &k.generators)? {
            let origin = self.configured(&config);
            let kind = config.kind(&self.nodes).to_owned();
            match kind.as_str() {
                "ConfigMapGenerator" | "SecretGenerator" => {
                    let mut arguments: GeneratorArguments = self.plugin(&config, &["name", "namespace"])?;
                    arguments.complete(None);
                    let kind = kind.trim_end_matches("Generator");
                    self.generate(layer, gathered, kind, &arguments, origin)?;
                }
                "IAMPolicyGenerator" => {
                    let policy: IamPolicy = self.plugin(&config, &[])?;
                    let value = policy.service_account()?;
                    let root = self.nodes.read(&value, Place::default());
                    let made = Resource { origin, ..Resource::new(root) };
                    generate::absorb(&mut self.nodes, &mut gathered.resources, made)?;
                }
                "HelmChartInflationGenerator" => {
                    let (globals, chart) = self.chart_plugin(&config)?;
                    let at = |error: Error| layer.at_field(error, "generators", &chart.name);
                    for mut made in self.chart(layer, &globals, &chart).map_err(at)? {
                        made.origin.clone_from(&origin);
                        generate::absorb(&mut self.nodes, &mut gathered.resources, made).map_err(at)?;
                    }
                }
                other => {
                    return Err(self.nodes.fail(config.root, format!("{other} is no built-in generator")));
                }
            }
            self.note(&mut gathered.resources, || layer.step("generators", ""));
        }
        Ok(())
    }

    fn generate(
        &mut self,
        layer: &Layer,
        gathered: &mut Gathered,
        kind: &str,
        arguments: &GeneratorArguments,
        origin: Option<Trace>,
    ) -> Result<()> {
        let mut pairs = Vec::new();
        for path in &arguments.envs {
            let (file, bytes) = self.load(layer, path)?;
            let number = self.nodes.file(&file);
            pairs.extend(generate::env_lines(&bytes, &file, number)?);
        }
        let own = self.nodes.file(&layer.file);
        for source in &arguments.literals {
            let line = if self.ledger.is_some() { line_of(&layer.bytes, source) } else { 0 };
            let place = Place { file: own, line: u32::try_from(line).unwrap_or(0) };
            pairs.push(generate::literal(source, place)?);
        }
        for source in &arguments.files {
            let (key, path) = generate::file_source(source)?;
            let (file, bytes) = self.load(layer, path)?;
            let place = Place { file: self.nodes.file(&file), line: 1 };
            pairs.push((key.to_owned(), bytes, place));
        }
        let mut made = generate::object(&mut self.nodes, kind, arguments, pairs)?;
        made.origin = origin;
        generate::absorb(&mut self.nodes, &mut gathered.resources, made)
    }

    /// Where charts are, and one of them, from an object of apiVersion builtin.
    fn chart_plugin(&self, config: &Resource) -> Result<(HelmGlobals, HelmChart)> {
        let mut fields: serde_json::Map<String, Value> = self.plugin(config, &[])?;
        let mut globals = serde_json::Map::new();
        for name in ["chartHome", "configHome"] {
            if let Some(value) = fields.remove(name) {
                globals.insert(name.to_owned(), value);
            }
        }
        let place = |error: Error| {
            self.nodes.fail(config.root, format!("HelmChartInflationGenerator: {}", error.why))
        };
        let globals = typed(Value::Object(globals)).map_err(place)?;
        Ok((globals, typed(Value::Object(fields)).map_err(place)?))
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct IamPolicy {
    cloud: String,
    kubernetes_service: IamAccount,
    service_account: IamAccount,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct IamAccount {
    name: String,
    namespace: String,
    project_id: String,
}

impl IamPolicy {
    fn service_account(&self) -> Result<Value> {
        if self.cloud != "gke" {
            return Err(invalid(format!(
                "IAMPolicyGenerator: the cloud {:?} is not supported, only gke",
                self.cloud
            )));
        }
        let account = format!(
            "{}@{}.iam.gserviceaccount.com",
            self.service_account.name, self.service_account.project_id
        );
        let mut value = serde_json::json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "annotations": {"iam.gke.io/gcp-service-account": account},
                "name": self.kubernetes_service.name,
            },
        });
        if !self.kubernetes_service.namespace.is_empty() {
            value["metadata"]["namespace"] = self.kubernetes_service.namespace.as_str().into();
        }
        Ok(value)
    }
}
