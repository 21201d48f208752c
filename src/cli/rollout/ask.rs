//! The verbs that ask the agent for something: promote, abort, retry, pause, resume, approve, deny.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::policies::{self, Found, title};
use super::view;
use crate::api::{
    Gate, ROLLOUT_REQUEST, RolloutAct, RolloutPhase, RolloutPolicy, RolloutStatus, RolloutVerb,
};
use crate::cli::Global;
use crate::cli::edit::{MANAGER, user};
use crate::cli::output::Output;
use crate::error::{Code, Error, Result};
use crate::live::kube::{Cluster, translate};
use crate::report::plain;
use crate::rollout::{Rule, Verdict};

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Arguments {
    /// The policy (name, or namespace/name)
    policy: String,
    /// Why, for whoever finds it
    #[arg(long, default_value = "")]
    why: String,
    /// Ask in the name of this user, whom the API server must let you impersonate
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
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

#[derive(Args)]
pub(super) struct GateArguments {
    #[command(flatten)]
    pub(super) asked: Arguments,
    /// The gate; the one that waits for people where it is the only one
    pub(super) gate: Option<String>,
}

pub(super) async fn run(
    global: &Global,
    verb: RolloutVerb,
    gate: Option<&str>,
    arguments: &Arguments,
    output: &Output,
) -> Result<u8> {
    let mut cluster = Cluster::connect(&global.connection()).await?;
    if let Some(user) = &arguments.user {
        cluster = cluster.acting_as_user(user)?;
    }
    let Found { api, policy } = policies::find(&cluster, global, &arguments.policy).await?;
    let (title, status) = (title(&policy), view::status(&policy));
    let refused = |why: String| {
        Error::new(Code::Usage, why)
            .on_object(format!("RolloutPolicy {title}"))
            .hint(format!("driftless rollout get {title}"))
    };
    if let Some(why) = refusal(verb, &status) {
        return Err(refused(why));
    }
    let decides = matches!(verb, RolloutVerb::Approve | RolloutVerb::Deny);
    let gate = if decides { waiting(&policy, &status, gate).map_err(refused)? } else { String::new() };
    let candidate = status.candidate.as_ref().filter(|_| decides);
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
        by: user(&cluster).await,
        why: arguments.why.clone(),
        gate,
        revision: candidate.map(|candidate| candidate.digest.clone()).unwrap_or_default(),
        step: decides.then_some(status.step),
        ..RolloutAct::new(format!("{now}-{}", std::process::id()), verb)
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
    if let Some(done) = status.acts.iter().find(|done| done.id == act.id && !done.refused.is_empty()) {
        return Err(refused(format!("nothing came of it: {}", done.refused)));
    }
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
        RolloutVerb::Approve | RolloutVerb::Deny => (phase != RolloutPhase::Progressing)
            .then(|| format!("it is {phase:?}: no gate waits for anybody")),
    }
}

/// The gate that is meant: it waits for people now.
fn waiting(policy: &RolloutPolicy, status: &RolloutStatus, gate: Option<&str>) -> Result<String, String> {
    let is_open = |gate: &&Gate| {
        let known = status.gates.iter().find(|known| known.name == gate.name);
        let rule = Rule::read(gate).ok().filter(|rule| rule.approval.is_some());
        known.zip(rule).is_some_and(|(known, rule)| matches!(rule.verdict(known), Verdict::Open(_)))
    };
    let gates = &policy.spec.gates;
    let open: Vec<&str> = gates.iter().filter(is_open).map(|gate| gate.name.as_str()).collect();
    let step = u64::from(status.step) + 1;
    match (gate, open.as_slice()) {
        (Some(gate), open) if open.contains(&gate) => Ok(gate.to_owned()),
        (None, [gate]) => Ok((*gate).to_owned()),
        (None, []) => Err(format!("no gate of step {step} waits for people")),
        (None, open) => Err(format!("several gates wait for people, name one: {}", open.join(", "))),
        (Some(gate), _) => Err(match gates.iter().find(|known| known.name == gate) {
            None => format!("there is no gate {gate}"),
            Some(known) if known.approval.is_none() => {
                format!("gate {gate} is measured, people do not decide about it")
            }
            Some(_) => match status.gates.iter().find(|known| known.name == gate) {
                Some(known) => format!("gate {gate} waits for nobody any more: {}", known.message),
                None => format!("gate {gate} is not waited for yet in step {step}: {}", status.message),
            },
        }),
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
        RolloutVerb::Approve => "approve",
        RolloutVerb::Deny => "deny",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RejectedRevision;

    #[test]
    fn what_makes_no_sense_is_refused() {
        use RolloutPhase::{Aborting, Healthy, Pending, Progressing, Promoting, Rejected};
        use RolloutVerb::{Abort, Approve, Deny, Pause, Promote, PromoteFull, Resume, Retry};
        let phases = [Pending, Healthy, Progressing, Promoting, Aborting, Rejected];
        let allowed = |verb: RolloutVerb, held: bool| -> Vec<RolloutPhase> {
            let status = |phase| RolloutStatus {
                phase,
                paused: held.then(|| RolloutAct::new("1", Pause)),
                rejected: if held { vec![RejectedRevision::default()] } else { Vec::new() },
                ..RolloutStatus::default()
            };
            phases.into_iter().filter(|phase| refusal(verb, &status(*phase)).is_none()).collect()
        };
        for (verb, wanted) in [
            (Promote, vec![Progressing]),
            (PromoteFull, vec![Progressing]),
            (Abort, vec![Progressing, Promoting]),
            (Approve, vec![Progressing]),
            (Deny, vec![Progressing]),
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
