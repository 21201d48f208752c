//! `driftless get` and `driftless history`.

use clap::Args;
use serde_json::Value;

use super::Global;
use super::output::{Format, Output, list};
use super::workspace;
use crate::api::Application;
use crate::error::{Code, Error, Result};
use crate::live::kube::Cluster;
use crate::model::short_commit;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ListFormat {
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Args)]
pub(super) struct Arguments {
    /// Applications (name, or namespace/name); all of the namespace where none is given
    apps: Vec<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// wide, json, yaml or name
    #[arg(short, long, value_enum)]
    output: Option<ListFormat>,
}

#[derive(Args)]
pub(super) struct HistoryArguments {
    /// The Application
    app: String,
    /// json or yaml
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

fn values(applications: &[Application]) -> Result<Vec<Value>> {
    let json = |application| {
        serde_json::to_value(application).map_err(|error| Error::new(Code::Internal, error.to_string()))
    };
    applications.iter().map(json).collect()
}

pub(super) async fn run(global: &Global, arguments: Arguments, output: &Output) -> Result<u8> {
    let cluster = Cluster::connect(&global.connection()).await?;
    let found = workspace::live_applications(
        &cluster,
        global,
        &arguments.apps,
        arguments.all_namespaces,
        arguments.selector.as_deref(),
    )
    .await?;
    match arguments.output {
        Some(ListFormat::Json) => output.value(&list(&values(&found)?), Format::Json),
        Some(ListFormat::Yaml) => output.value(&list(&values(&found)?), Format::Yaml),
        Some(ListFormat::Name) => {
            let names: Vec<String> = found
                .iter()
                .map(|application| {
                    format!(
                        "application.driftless.dev/{}\n",
                        application.metadata.name.as_deref().unwrap_or_default()
                    )
                })
                .collect();
            output.data(&names.concat());
        }
        other => table(&found, other == Some(ListFormat::Wide), output),
    }
    Ok(0)
}

fn table(found: &[Application], wide: bool, output: &Output) {
    if found.is_empty() {
        output.say("No Applications found; -A looks in all namespaces, -n in one.");
        return;
    }
    let mut headers = vec!["NAMESPACE", "NAME", "READY", "SYNC", "HEALTH", "REVISION", "OBJECTS"];
    if wide {
        headers.push("MESSAGE");
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|application| {
            let status = application.status.clone().unwrap_or_default();
            let ready = application.condition("Ready");
            let mut row = vec![
                application.metadata.namespace.clone().unwrap_or_default(),
                application.metadata.name.clone().unwrap_or_default(),
                ready.map_or_else(|| "Unknown".into(), |ready| format!("{:?}", ready.status)),
                format!("{:?}", status.sync),
                status.health.status.clone(),
                short_commit(&status.applied_revision).to_owned(),
                status.inventory.count.to_string(),
            ];
            if wide {
                row.push(ready.map(|ready| ready.message.clone()).unwrap_or_default());
            }
            row
        })
        .collect();
    output.table(&headers, &rows);
}

pub(super) async fn history(global: &Global, arguments: HistoryArguments, output: &Output) -> Result<u8> {
    let cluster = Cluster::connect(&global.connection()).await?;
    let found = workspace::live_applications(&cluster, global, &[arguments.app], false, None).await?;
    let history =
        found.first().and_then(|application| application.status.clone()).unwrap_or_default().history;
    if let Some(format) = arguments.output {
        let value =
            serde_json::to_value(&history).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        output.value(&value, format);
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = history
        .iter()
        .rev()
        .map(|entry| {
            let revision = entry.revisions.first().map(|revision| short_commit(revision)).unwrap_or_default();
            vec![
                entry.id.to_string(),
                revision.to_owned(),
                entry.applied_at.clone(),
                entry.author.clone(),
                entry.subject.clone(),
            ]
        })
        .collect();
    output.table(&["ID", "REVISION", "APPLIED", "AUTHOR", "SUBJECT"], &rows);
    Ok(0)
}
