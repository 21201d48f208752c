//! Field specs of a kustomization: its `configurations` and `crds`.

use std::sync::Arc;

use serde_json::Value;

use super::build::Build;
use super::fields::{BackReference, FieldSpec, Fields, Gvk, merge_reference, merge_specs};
use super::kustomization::typed;
use super::layer::Layer;
use super::node::invalid;
use crate::error::Result;
use crate::model::yaml;

impl Build<'_> {
    pub(super) fn configurations(&mut self, layer: &Layer) -> Result<Arc<Fields>> {
        let defaults = Fields::defaults();
        let mut own: Option<Fields> = None;
        for path in &layer.kustomization.configurations {
            let (file, bytes) = self.load(layer, path)?;
            let value = yaml::read(&bytes, &file)?
                .into_iter()
                .next()
                .map(|document| document.value)
                .unwrap_or_default();
            let mut read: Fields = if value.is_null() {
                Fields::default()
            } else {
                typed(value).map_err(|error| error.in_file(&file))?
            };
            read.sort();
            own = Some(match own {
                None => read,
                Some(own) => own.merge(&read).map_err(|error| error.in_file(&file))?,
            });
        }
        match own {
            None => Ok(defaults),
            Some(own) => (*defaults)
                .clone()
                .merge(&own)
                .map(Arc::new)
                .map_err(|error| layer.at(error, "configurations")),
        }
    }

    /// What OpenAPI definitions of custom kinds say about names, labels and annotations in them.
    pub(super) fn crd_fields(&mut self, layer: &Layer) -> Result<Fields> {
        let mut fields = Fields::default();
        for path in &layer.kustomization.crds {
            let (file, bytes) = self.load(layer, path)?;
            let document = yaml::read(&bytes, &file)?.into_iter().next();
            let Some(Value::Object(types)) = document.map(|document| document.value) else {
                return Err(invalid("this is no map of OpenAPI definitions").in_file(file));
            };
            let schema =
                |api: &Value| api.get("Schema").or_else(|| api.get("schema")).cloned().unwrap_or_default();
            for (name, api) in &types {
                let properties = &schema(api)["properties"];
                if ["kind", "apiVersion", "metadata"].iter().any(|field| properties.get(field).is_none()) {
                    continue;
                }
                let kind = name.rsplit('.').next().unwrap_or(name).to_owned();
                let gvk = Gvk { kind, ..Gvk::default() };
                crd_properties(&mut fields, &gvk, &types, name, &mut Vec::new())?;
            }
        }
        fields.sort();
        Ok(fields)
    }
}

fn crd_properties(
    fields: &mut Fields,
    gvk: &Gvk,
    types: &serde_json::Map<String, Value>,
    name: &str,
    path: &mut Vec<String>,
) -> Result<()> {
    let Some(api) = types.get(name) else { return Ok(()) };
    if path.len() > 50 {
        return Err(invalid(format!("the definition of {} refers to itself", gvk.kind)));
    }
    let schema = api.get("Schema").or_else(|| api.get("schema")).cloned().unwrap_or_default();
    for (property, what) in schema["properties"].as_object().into_iter().flatten() {
        path.push(property.clone());
        let spec = |more: &[&str]| {
            let parts: Vec<&str> = path.iter().map(String::as_str).chain(more.iter().copied()).collect();
            FieldSpec::new(gvk.clone(), &parts.join("/"), false)
        };
        let has = |name: &str| what.get(name).is_some_and(Value::is_string);
        if has("x-kubernetes-annotation") {
            merge_specs(&mut fields.common_annotations, &[spec(&[])])?;
        }
        if has("x-kubernetes-label-selector") {
            merge_specs(&mut fields.common_labels, &[spec(&[])])?;
        }
        if has("x-kubernetes-identity") {
            merge_specs(&mut fields.name_prefix, &[spec(&[])])?;
        }
        let text = |name: &str| what.get(name).and_then(Value::as_str);
        if let (Some(version), Some(kind)) =
            (text("x-kubernetes-object-ref-api-version"), text("x-kubernetes-object-ref-kind"))
        {
            let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
            let target = Gvk { group: String::new(), version: version.to_owned(), kind: kind.to_owned() };
            merge_reference(
                &mut fields.name_reference,
                &BackReference { target, referrers: vec![spec(&[key])] },
            )?;
        }
        if let Some(reference) = what["$ref"].as_str() {
            crd_properties(fields, gvk, types, reference, path)?;
        }
        path.pop();
    }
    Ok(())
}
