//! `driftless render`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::Global;
use super::chart::{ChartArguments, MOUNT};
use super::explained;
use super::output::{Format, Output, list};
use super::workspace::{self, Scratch};
use crate::agent::random_seed;
use crate::error::{Code, Error, Result};
use crate::model::Confidential;
use crate::plan::place;
use crate::render::explain::explain;
use crate::render::tree::Mounted;
use crate::render::{Options, Selection, Tree, render};
use crate::source::FolderTree;

#[derive(Args)]
pub(super) struct Arguments {
    /// A folder or file of manifests, a chart, or a file with an Application
    path: PathBuf,
    /// Go into sub-folders
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Show what was decrypted or comes from a Secret; it is masked otherwise
    #[arg(long)]
    show_secrets: bool,
    /// Print where each field comes from, and what it was before: text, or json with -o json
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    chart: ChartArguments,
    /// yaml, or one List as json
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
}

pub(super) async fn run(global: &Global, arguments: Arguments, output: &Output) -> Result<u8> {
    let namespace = global.namespace.clone().unwrap_or_default();
    let path = &arguments.path;
    let found = if path.is_file() {
        workspace::read_applications(path, "default").unwrap_or_default()
    } else {
        Vec::new()
    };
    let mut values: Vec<Value> = Vec::new();
    let mut hidden = Confidential::default();
    if found.is_empty() {
        let metadata = std::fs::metadata(path).map_err(|error| {
            Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
        })?;
        // Links and bases resolve as in the repository that holds the path; a file outside of one from its folder.
        let (root, inner) = if let Some(found) = repository(path) {
            found
        } else if metadata.is_dir() {
            (path.clone(), String::new())
        } else {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            (parent.map_or_else(|| ".".into(), PathBuf::from), name)
        };
        let selection = Selection { recurse: arguments.recursive, ..Selection::default() };
        let folder = FolderTree::new(root);
        let (mut helm, files) = arguments.chart.options(&namespace)?;
        // A seed of everybody would make passwords that everybody knows.
        (helm.seed, helm.now) = (random_seed()?, workspace::now());
        let tree = Mounted::new(&folder, [(MOUNT, &files as &dyn Tree)]);
        let options = Options { selection, helm, keys: workspace::keys()?, ..Options::default() };
        if arguments.explain {
            explained::show(explain(&tree, &inner, &options)?, arguments.output, output);
            return Ok(0);
        }
        let rendered = render(&tree, &inner, &options)?;
        hidden = rendered.hidden.clone();
        let mut objects = rendered.objects.to_vec();
        if !namespace.is_empty() {
            let scope = |gvk: &crate::model::Gvk| crate::model::is_cluster_scoped(gvk).then_some(false);
            place(&mut objects, &namespace, scope);
        }
        values.extend(objects.iter().map(|object| object.value().clone()));
    } else if arguments.explain {
        let why = "--explain takes a folder or file of manifests, not an Application";
        return Err(
            Error::new(Code::Usage, why).hint("name the path of its source in a clone of the repository")
        );
    } else {
        let scratch = Scratch(workspace::cache());
        let client = workspace::client(&scratch);
        for application in &found {
            let (_, rendered) = workspace::render(&client, None, application)
                .await
                .map_err(|error| error.in_app(workspace::title(application)))?;
            for source in application.spec.sources() {
                for from in source.substitute.iter().flat_map(|stated| &stated.from) {
                    output.say(&format!(
                        "{:?} {} is not read without a cluster; its names stay as they are",
                        from.kind, from.name
                    ));
                }
            }
            for object in &rendered.prepared.desired {
                hidden.merge(&object.hidden);
                values.push(
                    serde_json::from_slice(&object.body)
                        .map_err(|error| Error::new(Code::Internal, error.to_string()))?,
                );
            }
        }
    }
    if !arguments.show_secrets {
        values.iter_mut().for_each(|value| hidden.mask_object(value));
    }
    match arguments.output {
        Format::Json => {
            output.value(&list(&values), Format::Json);
        }
        Format::Yaml => {
            let documents: Vec<String> = values.iter().map(crate::model::yaml::emit).collect();
            output.data(&documents.join("---\n"));
        }
    }
    Ok(0)
}

/// The repository around a path, or for a kustomization outside of one the whole file system; and the path in it.
fn repository(path: &Path) -> Option<(PathBuf, String)> {
    let full = path.canonicalize().ok()?;
    let in_repository = full.ancestors().find(|folder| folder.join(".git").exists());
    let builds = ["kustomization.yaml", "kustomization.yml", "Kustomization"]
        .iter()
        .any(|name| full.join(name).exists());
    let root = in_repository.or_else(|| full.ancestors().last().filter(|_| builds))?;
    let inner = full.strip_prefix(root).ok()?.to_str()?.to_owned();
    Some((root.to_owned(), inner))
}
