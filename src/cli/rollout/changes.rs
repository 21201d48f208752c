//! What changed from one status to the next, as lines.

use jiff::Timestamp;
use serde::Serialize;

use super::policies::title;
use super::view;
use crate::api::{GateAnswer, GateStatus, RolloutPhase, RolloutPolicy, RolloutStatus, second};
use crate::report::plain;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "about", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Change {
    /// Where it stands.
    Rollout {
        time: String,
        policy: String,
        phase: RolloutPhase,
        /// From 1, while it goes through its steps.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        steps: Option<usize>,
        weight: u32,
        message: String,
        /// Who holds it, and why.
        #[serde(skip_serializing_if = "String::is_empty")]
        paused: String,
    },
    /// An answer of a gate.
    Gate {
        time: String,
        policy: String,
        gate: String,
        answer: GateAnswer,
        passed: u32,
        failed: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<f64>,
        message: String,
    },
}

impl Change {
    /// For people.
    pub(super) fn text(&self, colour: bool) -> String {
        match self {
            Self::Rollout { time, phase, step, steps, weight, message, paused, .. } => {
                let all = steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
                let place = step.map(|step| format!("step {step} of {all}")).unwrap_or_default();
                let phase = view::paint(colour, view::code(*phase), &format!("{:<11}", format!("{phase:?}")));
                // A message that says it already is enough.
                let held = if paused.is_empty() || message.contains("paused by") {
                    String::new()
                } else {
                    format!("  ({paused})")
                };
                let line = format!("{place:<12}  {weight:>3} %  {message}{held}");
                format!("{time}  {phase}  {}", plain(line.trim_end()))
            }
            Self::Gate { time, gate, answer, value, message, .. } => {
                let value = value.map(|value| format!(" {}", view::number(value))).unwrap_or_default();
                let message = if message.is_empty() { String::new() } else { format!(": {message}") };
                plain(&format!("{time}  gate {gate}  {answer:?}{value}{message}"))
            }
        }
    }

    /// For programs, on one line.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Answers of gates first, then where it stands; everything where nothing was before.
pub(super) fn changes(before: Option<&RolloutPolicy>, after: &RolloutPolicy, now: Timestamp) -> Vec<Change> {
    let (then, status) = (before.map(view::status), view::status(after));
    let known = |name: &str| then.as_ref()?.gates.iter().find(|gate| gate.name == name);
    let mut lines: Vec<Change> = status
        .gates
        .iter()
        .filter(|gate| known(&gate.name).is_none_or(|known| is_newer(known, gate)))
        .filter_map(|gate| answer(after, gate))
        .collect();
    let stands = stand(after, &status, now);
    let stood = before.zip(then.as_ref()).map(|(before, then)| stand(before, then, now));
    if stood.as_ref() != Some(&stands) {
        lines.push(stands);
    }
    lines
}

fn is_newer(known: &GateStatus, gate: &GateStatus) -> bool {
    known.measured_at != gate.measured_at || known.streak != gate.streak || known.answer != gate.answer
}

fn answer(policy: &RolloutPolicy, gate: &GateStatus) -> Option<Change> {
    Some(Change::Gate {
        time: if gate.measured_at.is_empty() { gate.since.clone() } else { gate.measured_at.clone() },
        policy: title(policy),
        gate: gate.name.clone(),
        answer: gate.answer?,
        passed: gate.passed,
        failed: gate.failed,
        // An answer without data or with an error has none of its own.
        value: gate
            .values
            .last()
            .copied()
            .filter(|_| matches!(gate.answer, Some(GateAnswer::Pass | GateAnswer::Fail))),
        message: gate.message.clone(),
    })
}

fn stand(policy: &RolloutPolicy, status: &RolloutStatus, now: Timestamp) -> Change {
    let moving = status.phase == RolloutPhase::Progressing;
    Change::Rollout {
        time: second(now),
        policy: title(policy),
        phase: status.phase,
        step: moving.then(|| status.step.saturating_add(1)),
        steps: view::steps(policy),
        weight: status.weight,
        message: status.message.clone(),
        paused: status.paused.as_ref().map(view::paused_by).unwrap_or_default(),
    }
}
