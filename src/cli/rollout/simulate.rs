//! `driftless rollout simulate`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::{GROUP, RolloutPhase, RolloutPolicySpec};
use crate::cli::output::{Format, Output};
use crate::error::{Code, Error, Kind, Result};
use crate::model::yaml;
use crate::rollout::{Line, Policy, Scenario, Simulation};

#[derive(Args)]
pub(super) struct Arguments {
    /// A file with a `RolloutPolicy` and a `RolloutSimulation`, in any order
    file: PathBuf,
    /// json or yaml
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// The one document of a kind in a file, and its spec.
fn spec<T: DeserializeOwned>(documents: &[yaml::Document], file: &Path, kind: &str) -> Result<T> {
    let file = file.display();
    let mut found = documents.iter().filter(|document| {
        document.value["kind"] == kind
            && document.value["apiVersion"].as_str().is_some_and(|version| version.starts_with(GROUP))
    });
    let (Some(document), None) = (found.next(), found.next()) else {
        let why = format!("{file} has not one {kind} of {GROUP}/v1alpha1");
        return Err(Error::new(Code::ManifestIncomplete, why)
            .hint("`driftless rollout simulate --help` names what it reads"));
    };
    serde_json::from_value(document.value["spec"].clone()).map_err(|error| {
        Error::new(Code::RolloutInvalid, format!("{kind} spec: {error}")).in_file(&file).at(document.line, 1)
    })
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<u8> {
    let file = &arguments.file;
    let text = std::fs::read(file).map_err(|error| {
        Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", file.display()))
    })?;
    let documents = yaml::read(&text, &file.display().to_string())?;
    let policy: RolloutPolicySpec = spec(&documents, file, "RolloutPolicy")?;
    let scenario: Scenario = spec(&documents, file, "RolloutSimulation")?;
    let policy = Policy::read(&policy).map_err(|error| error.in_file(file.display()))?;
    let steps = policy.steps.len();
    let mut simulation = Simulation::new(policy, scenario).map_err(|error| error.in_file(file.display()))?;
    let lines = simulation.run();
    let status = &simulation.status;
    match arguments.output {
        Some(format) => {
            let lines = serde_json::to_value(&lines)
                .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
            let status = serde_json::to_value(status)
                .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
            output.value(&json!({"schemaVersion": 1, "decisions": lines, "status": status}), format);
        }
        None => table(&lines, steps, output),
    }
    Ok(if status.phase == RolloutPhase::Healthy { 0 } else { Kind::Unhealthy.exit_code() })
}

/// `1:02:03`.
fn clock(seconds: i64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn table(lines: &[Line], steps: usize, output: &Output) {
    let pods = |[told, serving]: [u32; 2]| {
        if told == serving { told.to_string() } else { format!("{serving}/{told}") }
    };
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let moving = line.phase == RolloutPhase::Progressing;
            let gates =
                line.gates.iter().map(|(name, [passed, failed])| format!("{name} +{passed} -{failed}"));
            let said = line.commands.join("; ");
            let said =
                if said.is_empty() { line.message.clone() } else { format!("{said}: {}", line.message) };
            vec![
                clock(line.at),
                format!("{:?}", line.phase),
                if moving { format!("{}/{steps}", line.step) } else { String::new() },
                format!("{} %", line.weight),
                pods(line.stable),
                pods(line.candidate),
                gates.collect::<Vec<_>>().join(", "),
                said.trim_end_matches(": ").to_owned(),
            ]
        })
        .collect();
    output.table(&["TIME", "PHASE", "STEP", "WEIGHT", "STABLE", "CANDIDATE", "GATES", "WHAT"], &rows);
}
