//! What a tag stands for: manifests, and which of their layers holds the files.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Code, Error, Result};
use crate::source::revision::Pinned;

/// What is understood, so that a registry gives the same answer to every question.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const FLUX: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
}

/// An image manifest or an index: one of the two lists is there.
#[derive(Deserialize)]
pub(super) struct Manifest {
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

/// The layer with the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) size: u64,
    /// A packaged chart: its files are below a folder of the chart's name.
    pub(super) is_chart: bool,
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::new(Code::RepositoryCorrupt, why)
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| corrupt(format!("the manifest cannot be read: {error}")))
    }

    /// The digest of the one manifest of an index; `None` for a manifest.
    pub(super) fn only(&self) -> Result<Option<String>> {
        let Some(manifests) = &self.manifests else { return Ok(None) };
        // A builder's statements about an image stand beside it under a platform that is none.
        let is_statement = |one: &&Descriptor| {
            one.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
                || one.annotations.contains_key("vnd.docker.reference.type")
        };
        let real: Vec<&Descriptor> = manifests.iter().filter(|one| !is_statement(one)).collect();
        if let [one] = real.as_slice() {
            return digest(one).map(Some);
        }
        let why = format!(
            "it is an index of {} manifests, one for each platform; give the digest of one as revision",
            real.len()
        );
        Err(Error::new(Code::ArchiveInvalid, why))
    }

    /// The layer that holds the files.
    pub(super) fn layer(&self) -> Result<Layer> {
        let layers = self.layers.as_deref().ok_or_else(|| corrupt("the manifest has no layers"))?;
        let of = |kind: &str| layers.iter().filter(|layer| layer.media_type == kind).collect::<Vec<_>>();
        let archive = |layer: &&Descriptor| {
            let kind = layer.media_type.split(';').next().unwrap_or_default().trim_end();
            kind.ends_with("tar+gzip") || kind.ends_with(".tar.gzip") || kind.ends_with("tar+gz")
        };
        // What names its format wins: a chart's provenance and Flux's other layers stand beside it.
        let found = [of(CHART), of(FLUX), layers.iter().filter(archive).collect()];
        let found = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
        match found.as_slice() {
            [layer] => {
                Ok(Layer { digest: digest(layer)?, size: layer.size, is_chart: layer.media_type == CHART })
            }
            [] => {
                let kinds: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).take(5).collect();
                let why = format!("no layer is a gzipped tar archive: its media types are {kinds:?}");
                Err(Error::new(Code::ArchiveInvalid, why))
            }
            many => {
                let why =
                    format!("{} layers are archives; an artifact has one, an image is none", many.len());
                Err(Error::new(Code::ArchiveInvalid, why))
            }
        }
    }
}

fn digest(descriptor: &Descriptor) -> Result<String> {
    let found = Pinned::parse(&descriptor.digest).filter(|found| found.name.is_empty());
    found.map(|found| found.digest).ok_or_else(|| corrupt("the manifest names a digest that is not sha256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kinds: &[&str]) -> Result<Layer> {
        let layers: Vec<_> = kinds
            .iter()
            .map(|kind| serde_json::json!({"mediaType": kind, "size": 3, "digest": format!("sha256:{:064}", kind.len())}))
            .collect();
        Manifest::read(serde_json::json!({"layers": layers}).to_string().as_bytes()).unwrap().layer()
    }

    #[test]
    fn the_layer_with_the_files() {
        let oci = "application/vnd.oci.image.layer.v1.tar+gzip";
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let provenance = "application/vnd.cncf.helm.chart.provenance.v1.prov";
        for (kinds, expected) in [
            (vec![CHART, provenance], CHART),
            (vec![provenance, CHART], CHART),
            (vec![FLUX], FLUX),
            (vec![oci], oci),
            (vec![docker], docker),
            (vec![oci, FLUX], FLUX),
            (vec!["application/yaml", oci], oci),
        ] {
            let found = layer(&kinds).unwrap();
            assert_eq!(found.digest, format!("sha256:{:064}", expected.len()));
            assert_eq!(found.is_chart, expected == CHART);
        }
        for (kinds, why) in [
            (vec![], "no layer"),
            (vec!["application/yaml"], "application/yaml"),
            (vec![oci, oci], "2 layers"),
        ] {
            let error = layer(&kinds).unwrap_err();
            assert_eq!(error.code, Code::ArchiveInvalid);
            assert!(error.to_string().contains(why), "{error}");
        }
        for text in ["{}", "[]", "x", r#"{"layers": [{"mediaType": "a.tar+gzip", "digest": "sha512:00"}]}"#] {
            let error = Manifest::read(text.as_bytes()).and_then(|found| found.layer()).unwrap_err();
            assert_eq!(error.code, Code::RepositoryCorrupt, "{text}");
        }
    }

    #[test]
    fn an_index_of_one() {
        let digest = format!("sha256:{:064}", 1);
        let one = serde_json::json!({"digest": digest, "platform": {"os": "linux", "architecture": "amd64"}});
        let statement =
            serde_json::json!({"digest": format!("sha256:{:064}", 2), "platform": {"os": "unknown"}});
        let only = |all: serde_json::Value| {
            Manifest::read(serde_json::json!({"manifests": all}).to_string().as_bytes()).unwrap().only()
        };
        assert_eq!(only(serde_json::json!([statement, one])).unwrap(), Some(digest));
        assert_eq!(only(serde_json::json!([one, one])).unwrap_err().code, Code::ArchiveInvalid);
        assert_eq!(only(serde_json::json!([])).unwrap_err().code, Code::ArchiveInvalid);
        assert_eq!(Manifest::read(br#"{"layers": []}"#).unwrap().only().unwrap(), None);
    }
}
