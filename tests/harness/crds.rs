//! CRDs of other projects, out of their module archives.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;

use super::eventually;

/// An archive: its module, version and checksum, and where its CRDs are.
pub(crate) struct Archive {
    module: &'static str,
    sum: &'static str,
    files: &'static str,
}

pub(crate) const GATEWAY: Archive = Archive {
    module: "sigs.k8s.io/gateway-api@v1.6.3",
    sum: "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
    files: "config/crd/standard",
};
pub(crate) const ISTIO: Archive = Archive {
    module: "istio.io/api@v1.31.4",
    sum: "h1:AcnncYrlDj1PJkym7h88Gggkef4MAra8QpGaXRMsr+E=",
    files: "kubernetes",
};

pub(crate) const KSERVE: Archive = Archive {
    module: "github.com/kserve/kserve@v0.20.0",
    sum: "h1:Bs7HxmGV4KFqqptDcWseKv+mwD4YOYHJWcuVgPG2Gug=",
    files: "config/crd/full",
};
pub(crate) const KNATIVE: Archive = Archive {
    module: "knative.dev/serving@v0.51.0",
    sum: "h1:yN2Q7eYqJgoPfZkATjoBZyGbZ2P1Qhns9HIMU4mF+to=",
    files: "config/core/300-resources",
};
pub(crate) const KUBERAY: Archive = Archive {
    module: "github.com/ray-project/kuberay/ray-operator@v1.4.2",
    sum: "h1:A4tGzbIky8sInAUxZBdBb+rrpZ7fbqoxdsOtm559Zqg=",
    files: "config/crd/bases",
};

pub(crate) const ARGO_WORKFLOWS: Archive = Archive {
    module: "github.com/argoproj/argo-workflows/v3@v3.7.3",
    sum: "h1:b0o03RTLXIL7lQunDEvLoDTeI5TbfXe2obGaItvvifk=",
    files: "manifests/base/crds/full",
};

pub(crate) const ARGO_ROLLOUTS: Archive = Archive {
    module: "github.com/argoproj/argo-rollouts@v1.8.3",
    sum: "h1:blbtQva4IK9r6gFh+dWkCrLnFdPOWiv9ubQYu36qeaA=",
    files: "",
};

pub(crate) const ARGO_ROLLOUTS_CRDS: Archive =
    Archive { files: "manifests/crds", module: ARGO_ROLLOUTS.module, sum: ARGO_ROLLOUTS.sum };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    #[serde(default)]
    dir: String,
    #[serde(default)]
    sum: String,
    #[serde(default)]
    error: String,
}

/// One at a time: two downloads of the same archive wait for each other's lock.
static DOWNLOADS: Mutex<()> = Mutex::new(());

/// Where the files of an archive are on this machine; it is downloaded where they are not.
pub(crate) fn folder(archive: &Archive) -> String {
    let _one = DOWNLOADS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new("go")
        .args(["mod", "download", "-json", archive.module])
        // Outside of any module.
        .current_dir(std::env::temp_dir())
        .output()
        .expect("go runs");
    let found: Downloaded = serde_json::from_slice(&output.stdout).expect("go says what it has");
    assert_eq!(found.error, "");
    assert_eq!(found.sum, archive.sum, "{}", archive.module);
    format!("{}/{}", found.dir, archive.files)
}

/// Installs the CRDs of these kinds and waits until they are served.
pub(crate) async fn install(client: &kube::Client, archive: &'static Archive, kinds: &[&str]) {
    let folder = tokio::task::spawn_blocking(|| folder(archive)).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut left: Vec<&str> = kinds.to_vec();
    for entry in std::fs::read_dir(Path::new(&folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        for document in driftless::model::yaml::read(&text, "crds").unwrap() {
            let Ok(definition) = serde_json::from_value::<CustomResourceDefinition>(document.value) else {
                continue;
            };
            let kind = definition.spec.names.kind.clone();
            if !left.contains(&kind.as_str()) {
                continue;
            }
            left.retain(|wanted| *wanted != kind);
            let (name, parameters) = (definition.name_any(), PatchParams::apply("tests").force());
            crds.patch(&name, &parameters, &Patch::Apply(&definition)).await.unwrap();
            eventually("the CRD is established", || async {
                let conditions = crds.get(&name).await.ok()?.status?.conditions?;
                conditions
                    .iter()
                    .any(|found| found.type_ == "Established" && found.status == "True")
                    .then_some(())
            })
            .await;
        }
    }
    assert!(left.is_empty(), "{} has no {left:?}", archive.module);
}
