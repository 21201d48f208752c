//! The verbs that ask the agent for something: promote, abort, retry, pause, resume.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::policies::{self, Found, title};
use super::view;
use crate::api::{ROLLOUT_REQUEST, RolloutAct, RolloutPhase, RolloutPolicy, RolloutStatus, RolloutVerb};
use crate::cli::Global;
use crate::cli::edit::{MANAGER, user};
use crate::cli::output::Output;
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, translate};
use crate::report::plain;

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    /// The policy (name, or namespace/name)
    policy: String,
    /// Why, for whoever finds it
    #[arg(long, default_value = "")]
    why: String,
    /// How long to wait until the agent has done it
    #[arg(long, default_value = "30s", value_parser = super::time)]
    timeout: Duration,
    /// Do not wait for the agent
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
pub(super) struct PromoteArguments {
    #[command(flatten)]
    pub(super) asked: Arguments,
    /// No more steps and gates: deploy it as soon as its pods are there
    #[arg(long)]
    full: bool,
}

impl PromoteArguments {
    pub(super) fn verb(&self) -> RolloutVerb {
        if self.full { RolloutVerb::PromoteFull } else { RolloutVerb::Promote }
    }
}

pub(super) async fn run(
    global: &Global,
    verb: RolloutVerb,
    arguments: &Arguments,
    output: &Output,
) -> Result<u8> {
    let cluster = Cluster::connect(&global.connection()).await?;
    let Found { api, policy } = policies::find(&cluster, global, &arguments.policy).await?;
    let (title, status) = (title(&policy), view::status(&policy));
    if let Some(why) = refusal(verb, &status) {
        return Err(Error::new(Code::Usage, why)
            .on_object(format!("RolloutPolicy {title}"))
            .hint(format!("driftless rollout get {title}")));
    }
    if let Some(open) = open(&policy, &status) {
        let by = if open.by.is_empty() { "somebody" } else { &open.by };
        output.say(&plain(&format!(
            "{:?}, which {by} asked for, has not been taken up; this takes its place.",
            open.verb
        )));
    }
    let now = Timestamp::now();
    let act = RolloutAct {
        // Two people do not ask in the same nanosecond, from processes of the same number.
        id: format!("{now}-{}", std::process::id()),
        verb,
        by: user(&cluster).await,
        why: arguments.why.clone(),
        at: String::new(),
    };
    let request =
        serde_json::to_string(&act).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"metadata": {"annotations": {ROLLOUT_REQUEST: request}}}));
    api.patch(&policy.name_any(), &parameters, &patch).await.map_err(|error| translate(&error))?;
    if arguments.no_wait {
        output.data(&format!("{title} is asked to {}\n", word(verb)));
        return Ok(0);
    }
    let status = done(&api, &policy, &act.id, arguments.timeout).await?;
    output.data(&format!("{title} is {}\n", plain(&stands(&status))));
    Ok(0)
}

/// The status once it lists this request.
async fn done(
    api: &Api<RolloutPolicy>,
    policy: &RolloutPolicy,
    id: &str,
    limit: Duration,
) -> Result<RolloutStatus> {
    let (begin, title) = (Instant::now(), title(policy));
    loop {
        let failed = match api.get_opt(&policy.name_any()).await {
            Ok(None) => return Err(policies::missing(&title)),
            Ok(Some(policy)) => {
                let status = view::status(&policy);
                if status.acts.iter().any(|act| act.id == id) {
                    return Ok(status);
                }
                None
            }
            // It is asked for already: one answer less says nothing.
            Err(error) => Some(translate(&error)),
        };
        if begin.elapsed() > limit {
            let seen = failed.map(|error| format!(" ({error})")).unwrap_or_default();
            let why = format!("the agent has not taken up the request; is it running?{seen}");
            let hint = format!(
                "the logs of the agent; the request stays, and `driftless rollout get {title}` lists it under acts when it is done"
            );
            return Err(Error::new(Code::TimedOut, why)
                .on_object(format!("RolloutPolicy {title}"))
                .hint(hint));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What somebody asked for before, as long as no agent has done it.
fn open(policy: &RolloutPolicy, status: &RolloutStatus) -> Option<RolloutAct> {
    let text = policy.annotations().get(ROLLOUT_REQUEST)?;
    let act: RolloutAct = serde_json::from_str(text).ok()?;
    status.acts.iter().all(|done| done.id != act.id).then_some(act)
}

/// Why it makes no sense, by what the status says.
fn refusal(verb: RolloutVerb, status: &RolloutStatus) -> Option<String> {
    let phase = status.phase;
    match verb {
        RolloutVerb::Promote | RolloutVerb::PromoteFull => match phase {
            RolloutPhase::Progressing => None,
            RolloutPhase::Promoting => Some("it is Promoting: the steps are behind it already".to_owned()),
            RolloutPhase::Aborting => Some("it is Aborting: it goes back to the stable revision".to_owned()),
            _ => Some(format!("it is {phase:?}: nothing is on its way that could be promoted")),
        },
        RolloutVerb::Abort => match phase {
            RolloutPhase::Progressing | RolloutPhase::Promoting => None,
            RolloutPhase::Aborting => Some("it is Aborting already".to_owned()),
            _ => Some(format!("it is {phase:?}: nothing is on its way that could be aborted")),
        },
        RolloutVerb::Retry => status.rejected.is_empty().then(|| "no revision is rejected".to_owned()),
        RolloutVerb::Resume => status.paused.is_none().then(|| "it is not paused".to_owned()),
        RolloutVerb::Pause => None,
    }
}

/// `Progressing: step 2 of 3 (50 %): held until ...`.
fn stands(status: &RolloutStatus) -> String {
    let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
    format!("{:?}{message}", status.phase)
}

fn word(verb: RolloutVerb) -> &'static str {
    match verb {
        RolloutVerb::Promote => "promote",
        RolloutVerb::PromoteFull => "promote in full",
        RolloutVerb::Abort => "abort",
        RolloutVerb::Retry => "retry",
        RolloutVerb::Pause => "pause",
        RolloutVerb::Resume => "resume",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RejectedRevision;

    #[test]
    fn what_makes_no_sense_is_refused() {
        use RolloutPhase::{Aborting, Healthy, Pending, Progressing, Promoting, Rejected};
        use RolloutVerb::{Abort, Pause, Promote, PromoteFull, Resume, Retry};
        let phases = [Pending, Healthy, Progressing, Promoting, Aborting, Rejected];
        let allowed = |verb: RolloutVerb, held: bool| -> Vec<RolloutPhase> {
            let status = |phase| RolloutStatus {
                phase,
                paused: held.then(|| RolloutAct {
                    id: "1".into(),
                    verb: Pause,
                    by: String::new(),
                    why: String::new(),
                    at: String::new(),
                }),
                rejected: if held { vec![RejectedRevision::default()] } else { Vec::new() },
                ..RolloutStatus::default()
            };
            phases.into_iter().filter(|phase| refusal(verb, &status(*phase)).is_none()).collect()
        };
        for (verb, wanted) in [
            (Promote, vec![Progressing]),
            (PromoteFull, vec![Progressing]),
            (Abort, vec![Progressing, Promoting]),
            (Pause, phases.to_vec()),
            (Retry, Vec::new()),
            (Resume, Vec::new()),
        ] {
            assert_eq!(allowed(verb, false), wanted, "{verb:?}");
        }
        assert_eq!(allowed(Retry, true), phases);
        assert_eq!(allowed(Resume, true), phases);
    }
}
