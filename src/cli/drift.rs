//! `driftless drift`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::StreamExt;
use serde_json::Value;

use super::Global;
use super::output::{Output, ReportFormat};
use super::workspace::{self, Scratch};
use crate::agent::{AppKey, RenderedApp};
use crate::api::{Application, FIELD_MANAGER, LABEL, label_value};
use crate::diff::{Change, compare, mask};
use crate::error::{Code, Error, Result};
use crate::live::kube::Cluster;
use crate::model::{Gvk, Key};
use crate::plan::{Desired, Inventory, ObjectOptions};
use crate::report::{AppReport, ChangeReport, Class, ObjectReport, Report, markdown, text};
use crate::source::Client;

#[derive(Args)]
pub(super) struct Arguments {
    /// Applications (name, or namespace/name); all of the namespace where none is given
    apps: Vec<String>,
    /// Read Applications from a file or folder instead of the cluster
    #[arg(short, long)]
    filename: Vec<PathBuf>,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// text, json or markdown
    #[arg(short, long, value_enum, default_value = "text")]
    output: ReportFormat,
    /// End with 0 even when something differs
    #[arg(long)]
    exit_zero: bool,
}

pub(super) async fn run(global: &Global, arguments: Arguments, output: &Output) -> Result<u8> {
    let cluster = Arc::new(Cluster::connect(&global.connection()).await?);
    cluster.discover().await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let mut applications = Vec::new();
    for file in &arguments.filename {
        applications.extend(workspace::read_applications(file, &namespace)?);
    }
    if arguments.filename.is_empty() {
        let selector = arguments.selector.as_deref();
        applications = workspace::live_applications(
            &cluster,
            global,
            &arguments.apps,
            arguments.all_namespaces,
            selector,
        )
        .await?;
    }
    let scratch = Scratch(workspace::cache());
    let client = workspace::client(&scratch);
    let (mut apps, mut errors) = (Vec::new(), Vec::new());
    let mut timer = std::time::Instant::now();
    for (done, application) in applications.iter().enumerate() {
        output.progress(&mut timer, done, applications.len(), "applications compared");
        let (report, failed) = app(&client, &cluster, application).await;
        errors.extend(failed.into_iter().map(|error| error.in_app(workspace::title(application))));
        apps.push(report);
    }
    let report = Report::new("drift", apps, &errors);
    show(&report, arguments.output, output);
    let code = report.exit_code(&errors);
    Ok(if arguments.exit_zero && code == 1 { 0 } else { code })
}

pub(super) fn show(report: &Report, format: ReportFormat, output: &Output) {
    match format {
        ReportFormat::Text => output.data(&text(report, output.colour)),
        ReportFormat::Json => output.data(&report.json()),
        ReportFormat::Markdown => output.data(&markdown(report)),
    }
}

async fn app(client: &Client, cluster: &Arc<Cluster>, application: &Application) -> (AppReport, Vec<Error>) {
    let AppKey { namespace, name } = AppKey::from(application);
    let label = label_value(&namespace, &name);
    let mut report = AppReport { namespace, name, ..AppReport::default() };
    let (snapshots, rendered) = match workspace::render(client, Some(cluster), application).await {
        Ok(done) => done,
        Err(error) => return (report, vec![error]),
    };
    report.revision = snapshots.first().map(|snapshot| snapshot.commit.clone()).unwrap_or_default();
    let mut errors = Vec::new();
    let inventory = match crate::agent::load(cluster, application).await {
        Ok(inventory) => inventory,
        Err(error) => {
            errors.push(error);
            Inventory::new()
        }
    };
    let rolling = rolling_out(cluster, &rendered).await.unwrap_or_else(|error| {
        errors.push(error);
        HashSet::new()
    });
    let lookups: Vec<_> = rendered
        .prepared
        .desired
        .iter()
        .filter(|object| object.hook.is_none())
        .map(|object| one(cluster, object, &inventory, rolling.contains(&object.key)))
        .collect();
    let results: Vec<_> = futures::stream::iter(lookups).buffered(16).collect().await;
    for (object, result) in
        rendered.prepared.desired.iter().filter(|object| object.hook.is_none()).zip(results)
    {
        match result {
            Ok(None) => report.unchanged += 1,
            Ok(Some(mut found)) => {
                if rolling.contains(&object.key) && found.class != Class::Missing {
                    found.class = Class::RollingOut;
                }
                report.objects.push(found);
            }
            Err(error) => errors.push(error),
        }
        for (pointer, by) in &object.ceded {
            let change = ChangeReport {
                pointer: pointer.clone(),
                want: Value::Null,
                have: Value::Null,
                manager: Some(by.clone()),
                since: None,
                masked: false,
            };
            report.objects.push(ObjectReport::new(
                &object.gvk,
                &object.key,
                Class::ForeignField,
                Some(&object.origin),
                vec![change],
            ));
        }
    }
    let wanted: HashSet<_> = rendered
        .prepared
        .desired
        .iter()
        .map(|object| &object.key)
        .chain(&rendered.prepared.released)
        .collect();
    for (key, owned) in inventory.iter().filter(|(key, _)| !wanted.contains(key)) {
        let gvk = Gvk::parse(&owned.api_version, &key.kind);
        let found = match cluster.resource(&gvk, false).await {
            Ok(resource) => cluster.get(&resource, key).await,
            Err(error) if error.code == Code::KindUnknown => Ok(None),
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(live))
                if live["metadata"]["uid"] == owned.uid.as_str()
                    && !owned.extraneous
                    && !is_extraneous(&gvk, &live)
                    && live["metadata"]["labels"].get(LABEL).is_none_or(|found| *found == *label) =>
            {
                report.objects.push(ObjectReport::new(&gvk, key, Class::Extra, None, Vec::new()));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    (report, errors)
}

/// Whether the live object says that it makes no difference.
fn is_extraneous(gvk: &Gvk, live: &Value) -> bool {
    ObjectOptions::read(gvk, |name| live["metadata"]["annotations"][name].as_str()).extraneous
}

/// What a rollout has in its hands: its target, what waits with it, and the routes whose weights it sets.
async fn rolling_out(cluster: &Cluster, rendered: &RenderedApp) -> Result<HashSet<Key>> {
    let mut keys = HashSet::new();
    for bound in &rendered.rollouts {
        let resource =
            match cluster.resource(&Gvk::parse("driftless.dev/v1alpha1", "RolloutPolicy"), false).await {
                Ok(resource) => resource,
                Err(error) if error.code == Code::KindUnknown => return Ok(keys),
                Err(error) => return Err(error.on_object(&bound.policy)),
            };
        let live = cluster.get(&resource, &bound.policy).await?.unwrap_or_default();
        if !matches!(live["status"]["phase"].as_str(), Some("Progressing" | "Promoting" | "Aborting")) {
            continue;
        }
        let all = bound.own.iter().copied().chain(bound.division.leased()).chain([bound.target]);
        keys.extend(all.filter_map(|at| Some(rendered.prepared.desired.get(at)?.key.clone())));
    }
    Ok(keys)
}

async fn one(
    cluster: &Cluster,
    object: &Desired,
    inventory: &Inventory,
    rolls: bool,
) -> Result<Option<ObjectReport>> {
    let live = match cluster.resource(&object.gvk, false).await {
        Ok(resource) => cluster.get(&resource, &object.key).await?,
        Err(error) if error.code == Code::KindUnknown => return Err(error.on_object(&object.key)),
        Err(error) => return Err(error),
    };
    let owned = inventory.get(&object.key);
    let applied = owned.is_some_and(|owned| owned.digest == object.digest);
    let Some(live) = live else {
        return Ok(Some(ObjectReport::new(
            &object.gvk,
            &object.key,
            Class::Missing,
            Some(&object.origin),
            Vec::new(),
        )));
    };
    let desired: Value = serde_json::from_slice(&object.body)
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    // What was applied last is compared by ownership; what is newer than that, by value. So is what a rollout writes: the
    // inventory tells of it later.
    let mut changes = compare(&desired, &live, FIELD_MANAGER, applied && !rolls);
    mask::changes(&object.gvk, &mut changes);
    mask::confidential(&object.hidden, &desired, &mut changes);
    if changes.is_empty() {
        return Ok(None);
    }
    let class = if owned.is_some() && !applied { Class::Pending } else { Class::Modified };
    let changes = changes.into_iter().map(change_report).collect();
    Ok(Some(ObjectReport::new(&object.gvk, &object.key, class, Some(&object.origin), changes)))
}

pub(super) fn change_report(change: Change) -> ChangeReport {
    ChangeReport {
        pointer: change.pointer,
        want: change.want.unwrap_or_default(),
        have: change.have.unwrap_or_default(),
        manager: change.manager,
        since: change.since,
        masked: change.masked,
    }
}
