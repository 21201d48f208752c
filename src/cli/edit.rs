//! The verbs that ask the agent for something, by editing an Application: sync, rollback, suspend, resume.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Global;
use super::output::Output;
use super::workspace;
use crate::agent::AppKey;
use crate::api::{Application, CHOSEN, CONFIRM, ConditionStatus, POKE, second};
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, translate};
use crate::model::short_commit;
use crate::source::Pinned;

/// The name under which people own what they ask for.
pub(super) const MANAGER: &str = "driftless-cli";

#[derive(Args)]
pub(super) struct NameArguments {
    /// The Application (name, or namespace/name)
    app: String,
}

#[derive(Args)]
pub(super) struct SyncArguments {
    /// Applications (name, or namespace/name)
    #[arg(required = true)]
    apps: Vec<String>,
    /// Ask Git at once; sync always does, the flag says so in scripts
    #[arg(long)]
    refresh: bool,
    /// Only these objects, without hooks: Kind/name or Kind/namespace/name; may be given several times
    #[arg(long, value_name = "OBJECT")]
    object: Vec<String>,
    /// Delete what is held back: the token that status.prune and the condition `PruneHeld` show
    #[arg(long, value_name = "TOKEN")]
    confirm_prune: Option<String>,
    /// Wait until the sync has ended and the Application is Ready
    #[arg(long)]
    wait: bool,
    /// Seconds to wait
    #[arg(long, default_value_t = 300)]
    timeout: u64,
}

#[derive(Args)]
pub(super) struct RollbackArguments {
    /// The Application (name, or namespace/name)
    app: String,
    /// A commit or an id of `driftless history`; the revision before the present one where missing
    revision: Option<String>,
    /// End the hold: follow Git again
    #[arg(long)]
    release: bool,
}

#[derive(Args)]
pub(super) struct SuspendArguments {
    /// The Application (name, or namespace/name)
    app: String,
    /// Why, for whoever finds it
    #[arg(long, default_value = "")]
    why: String,
    /// Until when: a time (2026-01-31T18:00:00Z) or from now on (2h); until `driftless resume` where not given
    #[arg(long, default_value = "")]
    until: String,
}

async fn find(global: &Global, app: &str) -> Result<(Cluster, Application)> {
    let cluster = Cluster::connect(&global.connection()).await?;
    let mut found = workspace::live_applications(&cluster, global, &[app.to_owned()], false, None).await?;
    let application = found.pop().ok_or_else(|| Error::new(Code::ApplicationNotFound, app.to_owned()))?;
    Ok((cluster, application))
}

async fn patch(cluster: &Cluster, application: &Application, patch: Value) -> Result<Application> {
    let app = AppKey::from(application);
    let api: Api<Application> = Api::namespaced(cluster.client(), &app.namespace);
    let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    api.patch(&app.name, &parameters, &Patch::Merge(patch)).await.map_err(|error| translate(&error))
}

/// Who asks, as the API server knows them: for the people who find it later. Servers before 1.28 do not say.
pub(super) async fn user(cluster: &Cluster) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client());
    let asked = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.ok();
    let name = asked.and_then(|review| review.status?.user_info?.username);
    name.or_else(|| std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok()).unwrap_or_default()
}

fn now() -> String {
    second(Timestamp::now())
}

pub(super) async fn sync(global: &Global, arguments: SyncArguments, output: &Output) -> Result<u8> {
    let _ = arguments.refresh;
    let request = Timestamp::now().to_string();
    for app in &arguments.apps {
        let (cluster, application) = find(global, app).await?;
        let mut annotations = json!({POKE: request, CHOSEN: null});
        if !arguments.object.is_empty() {
            annotations[CHOSEN] = arguments.object.join(",").into();
        }
        if let Some(token) = &arguments.confirm_prune {
            let held = application.status.clone().unwrap_or_default().prune;
            if held.token != *token {
                let why = format!("{token} is not what {} asks for", workspace::title(&application));
                let hint = match held.token.as_str() {
                    "" => "nothing of it is held back that a word would let go".to_owned(),
                    token => format!(
                        "it asks for {token}: {} objects, first {}",
                        held.count,
                        held.held.first().map(|first| first.object.clone()).unwrap_or_default()
                    ),
                };
                return Err(Error::new(Code::Usage, why).hint(hint));
            }
            annotations[CONFIRM] = token.clone().into();
        }
        patch(&cluster, &application, json!({"metadata": {"annotations": annotations}})).await?;
        if arguments.wait {
            await_sync(&cluster, &application, &request, Duration::from_secs(arguments.timeout)).await?;
            output.data(&format!("{} is synced and ready\n", workspace::title(&application)));
        } else {
            output.data(&format!("{} is asked to sync\n", workspace::title(&application)));
        }
    }
    Ok(0)
}

async fn await_sync(
    cluster: &Cluster,
    application: &Application,
    request: &str,
    limit: Duration,
) -> Result<()> {
    let app = AppKey::from(application);
    let api: Api<Application> = Api::namespaced(cluster.client(), &app.namespace);
    let begin = Instant::now();
    loop {
        let now = api.get(&app.name).await.map_err(|error| translate(&error))?;
        let done = now.status.as_ref().is_some_and(|status| status.last_sync_request == request);
        let ready = now.condition("Ready");
        let said = |kind: &str| now.condition(kind).filter(|found| found.status == ConditionStatus::False);
        if done && ready.is_some_and(|ready| ready.status == ConditionStatus::True) {
            // Ready as it was: what the source has now is not known, or not allowed.
            let Some(source) = said("SourceReady") else { return Ok(()) };
            let code = Code::ALL.iter().find(|code| code.reason() == source.reason);
            let code = code.copied().unwrap_or(Code::RepositoryUnreachable);
            return Err(Error::new(code, source.message.clone()).in_app(workspace::title(application)));
        }
        if done && let Some(held) = said("Applied").filter(|applied| applied.reason == "Suspended") {
            return Err(Error::new(Code::Unhealthy, held.message.clone())
                .in_app(workspace::title(application))
                .hint("driftless resume lets it go on"));
        }
        let why = ready.map(|ready| format!("{}: {}", ready.reason, ready.message)).unwrap_or_default();
        let stalled = now.status.as_ref().is_some_and(|status| status.holds("Stalled"));
        if done && stalled {
            return Err(Error::new(Code::Unhealthy, why).in_app(workspace::title(application)));
        }
        if begin.elapsed() > limit {
            let seen =
                if done { why } else { "the agent has not taken up the request; is it running?".into() };
            return Err(Error::new(Code::TimedOut, seen).in_app(workspace::title(application)));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(super) async fn rollback(global: &Global, arguments: RollbackArguments, output: &Output) -> Result<u8> {
    let (cluster, application) = find(global, &arguments.app).await?;
    let title = workspace::title(&application);
    if arguments.release {
        patch(&cluster, &application, json!({"spec": {"rollback": null}})).await?;
        output.data(&format!("{title} follows Git again\n"));
        return Ok(0);
    }
    let history = application.status.clone().unwrap_or_default().history;
    let revisions = if let Some(wanted) = &arguments.revision {
        let by_id = history.iter().find(|entry| entry.id.to_string() == *wanted);
        let by_revision = || {
            history
                .iter()
                .rev()
                .find(|entry| entry.revisions.first().is_some_and(|known| means(wanted, known)))
        };
        match by_id.or_else(by_revision) {
            Some(entry) => entry.revisions.clone(),
            None if wanted.len() == 40 || Pinned::parse(wanted).is_some() => vec![wanted.clone()],
            None => {
                return Err(Error::new(
                    Code::RevisionNotFound,
                    format!("{wanted} is not in the history of {title}"),
                )
                .hint(format!("driftless history {title}, or give the full commit id or digest")));
            }
        }
    } else {
        let before = history.iter().rev().nth(1).ok_or_else(|| {
            Error::new(Code::RevisionNotFound, format!("{title} has had one revision only"))
        })?;
        before.revisions.clone()
    };
    let shown = revisions.first().map(|revision| short_commit(revision)).unwrap_or_default().to_owned();
    let hold =
        json!({"spec": {"rollback": {"revisions": revisions, "by": user(&cluster).await, "since": now()}}});
    patch(&cluster, &application, hold).await?;
    output.data(&format!(
        "{title} is held at {shown}; `driftless rollback {title} --release` follows Git again\n"
    ));
    output.say("A hold is not in Git: `git revert` is the rollback that lasts.");
    Ok(0)
}

/// Whether a person means this revision: by the beginning of a commit id or digest, or by a version or tag in full.
fn means(wanted: &str, revision: &str) -> bool {
    let Some(pinned) = Pinned::parse(revision) else {
        return wanted.len() >= 7 && revision.starts_with(wanted);
    };
    let hex = pinned.digest.strip_prefix("sha256:").unwrap_or_default();
    pinned.name == wanted
        || wanted.len() >= 7 && hex.starts_with(wanted)
        || wanted.len() >= 14 && (pinned.digest.starts_with(wanted) || revision.starts_with(wanted))
}

pub(super) async fn suspend(global: &Global, arguments: SuspendArguments, output: &Output) -> Result<u8> {
    let (cluster, application) = find(global, &arguments.app).await?;
    let until = until(&arguments.until)?;
    let mut hold = json!({"by": user(&cluster).await, "why": arguments.why, "since": now()});
    let mut words = String::new();
    if !until.is_empty() {
        words = format!(" until {until}");
        hold["until"] = until.into();
    }
    // Nothing is left of an older one.
    patch(&cluster, &application, json!({"spec": {"suspend": null}})).await?;
    patch(&cluster, &application, json!({"spec": {"suspend": hold}})).await?;
    output.data(&format!("{} is suspended{words}\n", workspace::title(&application)));
    Ok(0)
}

/// A time, as the Application keeps it.
fn until(text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let after = |text: &str| {
        let duration = text.parse::<jiff::SignedDuration>().ok()?;
        Timestamp::now().checked_add(duration).ok()
    };
    let at = text.parse::<Timestamp>().ok().or_else(|| after(text)).ok_or_else(|| {
        Error::new(
            Code::Usage,
            format!("--until {text}: neither a time such as 2026-01-31T18:00:00Z nor a duration such as 2h"),
        )
    })?;
    Ok(second(at))
}

pub(super) async fn resume(global: &Global, arguments: NameArguments, output: &Output) -> Result<u8> {
    let (cluster, application) = find(global, &arguments.app).await?;
    patch(&cluster, &application, json!({"spec": {"suspend": null}})).await?;
    output.data(&format!("{} goes on\n", workspace::title(&application)));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::means;

    #[test]
    fn what_people_call_a_revision() {
        let commit = "0123456789".repeat(4);
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let version = format!("1.2.3@{digest}");
        for (wanted, revision, expected) in [
            ("0123456", &commit, true),
            ("012345", &commit, false),
            ("1234567", &commit, false),
            ("1.2.3", &version, true),
            ("1.2", &version, false),
            ("0123456", &version, true),
            ("sha256:0123456", &version, true),
            ("sha256:", &version, false),
            ("sha256:", &digest, false),
            ("1.2.3@sha256:0123456", &version, true),
            (&digest, &version, true),
            (&digest, &digest, true),
            (&version, &version, true),
        ] {
            assert_eq!(means(wanted, revision), expected, "{wanted} {revision}");
        }
    }
}
