//! `driftless rollout get`.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{policies, view};
use crate::api::{RolloutPhase, RolloutPolicy};
use crate::cli::Global;
use crate::cli::output::{Format, Output, list};
use crate::error::{Code, Error, Kind, Result};
use crate::live::kube::Cluster;

#[derive(Args)]
pub(super) struct Arguments {
    /// The policy (name, or namespace/name); all of the namespace where none is given
    policy: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "policy")]
    all_namespaces: bool,
    /// json or yaml
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

fn value(policy: &RolloutPolicy) -> Result<Value> {
    serde_json::to_value(policy).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

pub(super) async fn run(global: &Global, arguments: &Arguments, output: &Output) -> Result<u8> {
    let cluster = Cluster::connect(&global.connection()).await?;
    if let Some(name) = &arguments.policy {
        let policy = policies::find(&cluster, global, name).await?.policy;
        match arguments.output {
            Some(format) => output.value(&value(&policy)?, format),
            None => output.data(&view::detail(&policy, output.colour)),
        }
        let rejected = view::status(&policy).phase == RolloutPhase::Rejected;
        return Ok(if rejected { Kind::Unhealthy.exit_code() } else { 0 });
    }
    let found = policies::all(&cluster, global, arguments.all_namespaces).await?;
    if let Some(format) = arguments.output {
        let values: Vec<Value> = found.iter().map(value).collect::<Result<_>>()?;
        output.value(&list(&values), format);
        return Ok(0);
    }
    if found.is_empty() {
        output.say("No RolloutPolicies found; -A looks in all namespaces, -n in one.");
        return Ok(0);
    }
    let now = Timestamp::now();
    let (mut headers, mut rows) = (view::HEADERS.to_vec(), Vec::new());
    for policy in &found {
        let mut row = view::row(policy, now);
        if arguments.all_namespaces {
            row.insert(0, policy.metadata.namespace.clone().unwrap_or_default());
        }
        rows.push(row);
    }
    if arguments.all_namespaces {
        headers.insert(0, "NAMESPACE");
    }
    output.table(&headers, &rows);
    Ok(0)
}
