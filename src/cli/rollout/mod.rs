//! `driftless rollout`: one file for a verb, `ask` for those that ask the agent for something.
//!
//! `view` and `changes` make text of a policy and know no cluster; `policies` finds them.

mod ask;
mod changes;
mod get;
mod policies;
mod simulate;
mod view;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::api::RolloutVerb;
use crate::cli::Global;
use crate::cli::output::Output;
use crate::error::Result;
use crate::model::duration;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the policies of a namespace, or say all about one
    Get(get::Arguments),
    /// Follow a rollout until it is at rest
    Watch(watch::Arguments),
    /// Go on from this step, whatever it waits for
    Promote(ask::PromoteArguments),
    /// Go back to the stable revision, and reject the new one
    Abort(ask::Arguments),
    /// Take the rejection of a revision back
    Retry(ask::Arguments),
    /// Stay at this step
    Pause(ask::Arguments),
    /// Let a paused rollout go on
    Resume(ask::Arguments),
    /// Let a gate pass that waits for people, for the revision and step that are shown now
    Approve(ask::GateArguments),
    /// Let such a gate fail, which rejects the revision
    Deny(ask::GateArguments),
    /// Say what a policy would do on a cluster that is made up, decision by decision, without a cluster
    Simulate(simulate::Arguments),
}

pub(super) async fn run(global: &Global, arguments: Arguments, output: &Output) -> Result<u8> {
    let (verb, gate, arguments) = match arguments.verb {
        Verb::Get(arguments) => return get::run(global, &arguments, output).await,
        Verb::Watch(arguments) => return Box::pin(watch::run(global, &arguments, output)).await,
        Verb::Simulate(arguments) => return simulate::run(&arguments, output),
        Verb::Promote(arguments) => (arguments.verb(), None, arguments.asked),
        Verb::Abort(arguments) => (RolloutVerb::Abort, None, arguments),
        Verb::Retry(arguments) => (RolloutVerb::Retry, None, arguments),
        Verb::Pause(arguments) => (RolloutVerb::Pause, None, arguments),
        Verb::Resume(arguments) => (RolloutVerb::Resume, None, arguments),
        Verb::Approve(arguments) => (RolloutVerb::Approve, arguments.gate, arguments.asked),
        Verb::Deny(arguments) => (RolloutVerb::Deny, arguments.gate, arguments.asked),
    };
    Box::pin(ask::run(global, verb, gate.as_deref(), &arguments, output)).await
}

/// `30s`; a number alone is seconds, as for the other verbs.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = || text.parse().ok().map(Duration::from_secs);
    seconds()
        .or_else(|| duration(text).filter(|_| !text.is_empty()))
        .ok_or_else(|| "no duration such as 90s, 10m or 1h30m".to_owned())
}
