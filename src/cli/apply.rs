//! `driftless apply`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::mpsc;

use super::Global;
use super::output::Output;
use super::workspace::{self, Scratch};
use crate::agent::{
    Engine, Fights, Held, Judging, Neighbours, Order, Pass, Permissions, Policy, Summary, compose, explained,
    load, store,
};
use crate::api::{Application, FIELD_MANAGER, OperationState, OperationStatus, label_value};
use crate::error::{Code, Error, Result};
use crate::health::Status;
use crate::live::kube::{Check, Cluster, Index, Reach, Watches, translate};
use crate::model::{Gvk, Key, short_commit};
use crate::plan::plan;

#[derive(Args)]
pub(super) struct Arguments {
    /// File or folder with Applications
    #[arg(short, long, required = true)]
    filename: Vec<PathBuf>,
    /// Wait until everything is healthy
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Ask the API server what it would take, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

pub(super) async fn run(global: &Global, arguments: Arguments, output: &Output) -> Result<u8> {
    let cluster = Arc::new(Cluster::connect(&global.connection()).await?);
    cluster.discover().await?;
    let namespace = global.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let mut applications = Vec::new();
    for file in &arguments.filename {
        applications.extend(workspace::read_applications(file, &namespace)?);
    }
    if applications.is_empty() {
        return Err(Error::new(Code::Usage, "there is no Application in these files"));
    }
    let mut code = 0;
    for application in &applications {
        let title = workspace::title(application);
        let limit = arguments.wait.then(|| Duration::from_secs(arguments.timeout));
        if arguments.dry_run {
            if let Err(error) = Box::pin(dry_run(&cluster, application, output)).await {
                let error = error.in_app(title);
                output.error(&error);
                code = code.max(error.code.kind().exit_code());
            }
            continue;
        }
        match Box::pin(one(&cluster, application, limit, output)).await {
            Ok(()) => {}
            Err(error) => {
                let error = error.in_app(title);
                output.error(&error);
                code = code.max(error.code.kind().exit_code());
            }
        }
    }
    Ok(code)
}

async fn one(
    cluster: &Arc<Cluster>,
    stated: &Application,
    wait: Option<Duration>,
    output: &Output,
) -> Result<()> {
    if let Some(secret) = &stated.spec.destination.cluster {
        let why = format!(
            "its objects go to the cluster of Secret {secret}; apply acts in that of the kubeconfig only"
        );
        return Err(Error::new(Code::ApplicationInvalid, why)
            .hint("kubectl apply the Application, and let the agent deliver it"));
    }
    let namespace = stated.metadata.namespace.clone().unwrap_or_default();
    let name = stated.metadata.name.clone().unwrap_or_default();
    let api: Api<Application> = Api::namespaced(cluster.client(), &namespace);
    let mut body =
        serde_json::to_value(stated).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    // The inventory lives in the Application: without it a later pass could not know what to prune.
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let application = api.patch(&name, &parameters, &Patch::Apply(body)).await.map_err(|error| {
        let error = translate(&error);
        if error.code == Code::KindUnknown {
            return error
                .hint("the CRDs are not installed: driftless crds | kubectl apply --server-side -f -");
        }
        error
    })?;
    let scratch = Scratch(workspace::cache());
    let client = workspace::client(&scratch);
    let (snapshots, rendered) = workspace::render(&client, Some(cluster), &application).await?;
    let label = label_value(&namespace, &name);
    let inventory = load(cluster, &application).await?;

    let index = Arc::new(Index::default());
    let (notices, mut noticed) = mpsc::channel(64);
    tokio::spawn(async move { while noticed.recv().await.is_some() {} });
    let watches = Arc::new(Watches::new(cluster.clone(), index.clone(), notices, Reach::Cluster));
    Judging::default().follow(&watches, &label, &application.spec.health, &rendered.prepared.desired);
    let engine = Engine { cluster: cluster.clone(), index, watches };
    let desired = &rendered.prepared.desired;
    let objects = desired.iter().map(|object| (object.gvk.clone(), &object.key));
    let owned = inventory.iter().map(|(key, owned)| (Gvk::parse(&owned.api_version, &key.kind), key));
    let blind =
        engine.watch(&engine.places(objects.chain(owned))).await.into_iter().next().map(|(_, error)| error);
    let policy = Policy::of(&application)?;
    let pruning = policy.pruning(&application, &rendered.prepared, blind.is_none());
    let all = workspace_labels(&api).await?;
    let neighbours = Known(all);
    // Nobody goes on with a rollout when this has ended.
    let nothing_held = Held::default();
    let pass = Pass {
        held: &nothing_held,
        label: &label,
        prepared: &rendered.prepared,
        permissions: Permissions { apply: true, repair: true },
        policy: &policy,
        neighbours: &neighbours,
        new_kinds: AtomicBool::new(false),
    };
    let digest = rendered.digest.map(|digest| digest.to_string()).unwrap_or_default();
    let revisions: Vec<String> = snapshots.iter().map(|snapshot| snapshot.commit.clone()).collect();
    let request = Timestamp::now().to_string();
    let begin = Instant::now();
    let (mut held, mut operation) = (inventory, None::<OperationStatus>);
    let (mut applied, mut pruned) = (Vec::new(), Vec::new());
    let mut outcome = loop {
        let live = |gvk: &Gvk, key: &Key| engine.live(gvk, key);
        let todo = plan(&rendered.prepared, &held, &label, live, |_| false, &pruning);
        let order = Order {
            plan: &todo,
            is_sync: true,
            uid: application.metadata.uid.as_deref().unwrap_or_default(),
            digest: &digest,
            revisions: &revisions,
            request: &request,
            // Nobody goes on with this sync when this process is killed: what it knows is as good as written.
            written: operation.as_ref(),
            history: 0,
            before: operation.clone(),
            now: Timestamp::now(),
        };
        let outcome = engine.sync(&pass, order, held, &mut Fights::default()).await;
        held = outcome.inventory.clone();
        operation.clone_from(&outcome.operation);
        applied.extend(outcome.applied.iter().cloned());
        pruned.extend(outcome.pruned.iter().cloned());
        let again = !outcome.waits.is_empty() || outcome.due == Some(Duration::ZERO);
        // A sync that has begun goes on to its end: half of it is what nobody wants.
        if !again || !outcome.failures.is_empty() || begin.elapsed() > policy.wait_limit {
            break outcome;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    (outcome.applied, outcome.pruned) = (applied, pruned);
    for (key, why) in &outcome.applied {
        output.data(&format!("applied  {key}  ({why:?})\n"));
    }
    for key in &outcome.pruned {
        output.data(&format!("deleted  {key}\n"));
    }
    let mut health = engine.health(&outcome.inventory);
    while let Some(limit) = wait
        && health.status != Status::Healthy
        && health.status != Status::Suspended
        && health.status != Status::Degraded
        && begin.elapsed() < limit
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        health = engine.health(&outcome.inventory);
    }
    if wait.is_some() {
        health = explained(&engine, &outcome.inventory, health).await;
    }
    let stored = store(cluster, &application, &outcome.inventory).await?;
    let summary = Summary {
        refused: None,
        application: &application,
        snapshots: &snapshots,
        source: None,
        render: None,
        outcome: Some(&outcome),
        wrote: outcome.wrote(),
        blind: blind.as_ref(),
        digest: rendered.digest,
        health: health.clone(),
        inventory: stored,
        sync_request: String::new(),
    };
    let status = compose(&summary, Timestamp::now());
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status})))
        .await
        .map_err(|error| translate(&error))?;
    if let Some(failed) = outcome.operation.as_ref().filter(|found| found.state == OperationState::Failed) {
        return Err(Error::new(Code::SyncFailed, failed.message.clone()));
    }
    if !outcome.waits.is_empty() {
        return Err(Error::new(Code::TimedOut, outcome.waits));
    }
    if let Some(failure) = outcome.failures.into_iter().next() {
        return Err(failure.error);
    }
    if let Some(error) = blind {
        return Err(error);
    }
    let revision = snapshots.first().map(|snapshot| short_commit(&snapshot.commit)).unwrap_or_default();
    output.data(&format!(
        "{namespace}/{name} is at {revision}: {} objects, {}\n",
        outcome.inventory.len(),
        health.status
    ));
    match (wait, health.status) {
        (Some(_), Status::Degraded) => Err(Error::new(Code::Unhealthy, health.reason)),
        (Some(_), Status::Progressing | Status::Missing | Status::Unknown) => {
            Err(Error::new(Code::TimedOut, health.reason))
        }
        _ => Ok(()),
    }
}

/// Every object by a dry run of the server; all refusals are shown, the first is the result.
async fn dry_run(cluster: &Arc<Cluster>, application: &Application, output: &Output) -> Result<()> {
    let scratch = Scratch(workspace::cache());
    let client = workspace::client(&scratch);
    let (_, rendered) = workspace::render(&client, Some(cluster), application).await?;
    let (mut taken, mut refused) = (0, Vec::new());
    for object in &rendered.prepared.desired {
        let check = Check::lax(object.options.lax);
        let tried = match cluster.resource(&object.gvk, false).await {
            Ok(resource) => cluster.try_apply(&resource, &object.key, object.body.clone(), check).await,
            Err(error) => Err(error.on_object(&object.key)),
        };
        match tried {
            Ok(()) => {
                taken += 1;
                output.data(&format!("would be taken  {}\n", object.key));
            }
            Err(error) => refused.push(crate::agent::scrubbed(error, object)),
        }
    }
    for error in refused.iter().skip(1) {
        output.error(error);
    }
    if let Some(error) = refused.into_iter().next() {
        return Err(error);
    }
    output.data(&format!("{}: {taken} objects would be taken\n", workspace::title(application)));
    Ok(())
}

/// The labels of all Applications. What they want is not known here, so each keeps what carries its own.
struct Known(Vec<String>);

impl Neighbours for Known {
    fn keep(&self, label: &str, _: &Key) -> bool {
        self.0.iter().any(|known| known == label)
    }

    fn want(&self, _: &Key) -> bool {
        false
    }

    fn unsettled(&self) -> Option<(String, Duration)> {
        None
    }
}

async fn workspace_labels(api: &Api<Application>) -> Result<Vec<String>> {
    let everywhere: Api<Application> = Api::all(api.clone().into_client());
    let list = match everywhere.list_metadata(&kube::api::ListParams::default()).await {
        Ok(list) => list.items,
        // Without the right to list all, those of the namespace are what can be asked.
        Err(_) => {
            api.list_metadata(&kube::api::ListParams::default())
                .await
                .map_err(|error| translate(&error))?
                .items
        }
    };
    let label = |metadata: &kube::core::ObjectMeta| {
        label_value(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    };
    Ok(list.iter().map(|item| label(&item.metadata)).collect())
}
