//! A policy as people read it: a row of a table, or all that its status says.

use jiff::Timestamp;
use kube::ResourceExt;

use super::policies::title;
use crate::api::{GateStatus, RolloutAct, RolloutPhase, RolloutPolicy, RolloutRevision, RolloutStatus};
use crate::model::short_commit;
use crate::report::plain;
use crate::rollout::{Hold, Policy, Size, Step};

/// Columns of [`row`].
pub(super) const HEADERS: [&str; 9] =
    ["NAME", "TARGET", "PHASE", "STEP", "WEIGHT", "STABLE", "CANDIDATE", "AGE", "MESSAGE"];
/// Acts that are shown, the newest first.
const ACTS: usize = 5;

/// What is known of it; nothing where no agent has looked at it yet.
pub(super) fn status(policy: &RolloutPolicy) -> RolloutStatus {
    policy.status.clone().unwrap_or_default()
}

/// How many steps there are; `None` where the policy cannot be used.
pub(super) fn steps(policy: &RolloutPolicy) -> Option<usize> {
    Policy::read(&policy.spec).ok().map(|policy| policy.steps.len())
}

/// `2 of 3` while it goes through its steps.
pub(super) fn place(policy: &RolloutPolicy, status: &RolloutStatus, between: &str) -> String {
    let all = steps(policy).map_or_else(|| "?".to_owned(), |steps| steps.to_string());
    match status.phase {
        RolloutPhase::Progressing => format!("{}{between}{all}", u64::from(status.step) + 1),
        _ => String::new(),
    }
}

/// A line of the table.
pub(super) fn row(policy: &RolloutPolicy, now: Timestamp) -> Vec<String> {
    let status = status(policy);
    let made = policy.metadata.creation_timestamp.as_ref();
    let age = made.map(|made| age(now.as_second() - made.0.as_second())).unwrap_or_default();
    let commit = |revision: &Option<RolloutRevision>| {
        revision.as_ref().map(|revision| plain(short(revision))).unwrap_or_default()
    };
    vec![
        policy.name_any(),
        format!("{}/{}", plain(&policy.spec.target_ref.kind), plain(&policy.spec.target_ref.name)),
        format!("{:?}", status.phase),
        place(policy, &status, "/"),
        format!("{} %", status.weight),
        commit(&status.stable),
        commit(&status.candidate),
        age,
        plain(&status.message),
    ]
}

/// All that its status says.
pub(super) fn detail(policy: &RolloutPolicy, colour: bool) -> String {
    let status = status(policy);
    let paint = |code: &str, text: &str| paint(colour, code, text);
    let read = Policy::read(&policy.spec);
    let moving = status.phase == RolloutPhase::Progressing;

    let phase = paint(code(status.phase), &format!("{:?}", status.phase));
    let mut text = format!("{}  {phase}\n", paint("1", &title(policy)));
    if policy.status.is_none() {
        text += "  no agent has looked at it yet\n";
    }
    if !status.message.is_empty() {
        text += &format!("  {}\n", plain(&status.message));
    }
    if let Some(paused) = &status.paused {
        text += &paint("33", &format!("  {}\n", plain(&paused_by(paused))));
    }

    let target = &policy.spec.target_ref;
    let mut facts = vec![vec!["target".to_owned(), format!("{} {}", target.kind, target.name)]];
    let mut fact = |name: &str, revision: &Option<RolloutRevision>| {
        facts.extend(revision.as_ref().map(|revision| vec![name.to_owned(), named(revision)]));
    };
    fact("stable", &status.stable);
    fact("candidate", &status.candidate);
    if status.candidate.is_some() {
        facts.push(vec!["weight".to_owned(), format!("{} %", status.weight)]);
    }
    text += &format!("\n{}", columns("", &facts));

    text += &format!("\n{}\n", paint("1", "steps"));
    match &read {
        Ok(read) => {
            let current = moving.then_some(status.step as usize);
            let rows: Vec<Vec<String>> = read
                .steps
                .iter()
                .enumerate()
                .map(|(at, step)| {
                    let mark = if current == Some(at) { ">" } else { " " };
                    vec![format!("{mark} {}", at + 1), weight(step), rest(step, current == Some(at), &status)]
                })
                .collect();
            text += &columns("  ", &rows);
            if !read.background.is_empty() {
                text +=
                    &format!("  all along: {}\n", plain(&format!("gates {}", read.background.join(", "))));
            }
        }
        Err(error) => text += &format!("  {}\n", paint("31", &plain(&error.to_string()))),
    }

    if !status.gates.is_empty() {
        text += &format!("\n{}\n", paint("1", "gates"));
        let rows: Vec<Vec<String>> = status.gates.iter().map(|gate| gate_row(policy, gate)).collect();
        text += &columns("  ", &rows);
    }
    if !status.rejected.is_empty() {
        text += &format!("\n{}\n", paint("1", "rejected"));
        let rows = status.rejected.iter().rev();
        let rows: Vec<Vec<String>> = rows
            .map(|rejected| vec![rejected.at.clone(), named(&rejected.revision), rejected.why.clone()])
            .collect();
        text += &columns("  ", &rows);
    }
    if !status.acts.is_empty() {
        text += &format!("\n{}\n", paint("1", "acts"));
        let rows = status.acts.iter().rev().take(ACTS);
        let rows: Vec<Vec<String>> = rows
            .map(|act| {
                let verb = format!("{:?} {}", act.verb, act.gate);
                let refused = if act.refused.is_empty() { "" } else { "refused: " };
                let why = if refused.is_empty() { &act.why } else { &act.refused };
                vec![act.at.clone(), verb.trim_end().to_owned(), act.by.clone(), format!("{refused}{why}")]
            })
            .collect();
        text += &columns("  ", &rows);
    }
    text
}

/// Colour of a phase.
pub(super) fn code(phase: RolloutPhase) -> &'static str {
    match phase {
        RolloutPhase::Healthy => "32",
        RolloutPhase::Rejected => "31",
        RolloutPhase::Aborting => "33",
        RolloutPhase::Progressing | RolloutPhase::Promoting => "36",
        RolloutPhase::Pending => "2",
    }
}

/// The text in a colour, where colours are wanted.
pub(super) fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Who holds it.
pub(super) fn paused_by(act: &RolloutAct) -> String {
    let by = if act.by.is_empty() { "somebody" } else { &act.by };
    let since = if act.at.is_empty() { String::new() } else { format!(" since {}", act.at) };
    let why = if act.why.is_empty() { String::new() } else { format!(": {}", act.why) };
    format!("paused by {by}{since}{why}")
}

/// A number as short as it may be.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(0.001..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The commit; the digest where that is not known.
fn short(revision: &RolloutRevision) -> &str {
    short_commit(if revision.commit.is_empty() { &revision.digest } else { &revision.commit })
}

fn named(revision: &RolloutRevision) -> String {
    let digest = short_commit(&revision.digest);
    match revision.commit.as_str() {
        "" => digest.to_owned(),
        commit => format!("{digest} of commit {}", short_commit(commit)),
    }
}

/// As kubectl has it: the one unit that matters.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

/// `1h30m`.
fn span(seconds: i64) -> String {
    let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}

fn weight(step: &Step) -> String {
    let copied = if step.mirror > 0 { format!(", a copy of {} %", step.mirror) } else { String::new() };
    let headers: Vec<String> = step.headers.iter().map(ToString::to_string).collect();
    let led =
        if headers.is_empty() { String::new() } else { format!(", all with {}", headers.join(" and ")) };
    format!("{:>3} %{copied}{led}", step.weight)
}

/// What a step has besides its weight.
fn rest(step: &Step, is_current: bool, status: &RolloutStatus) -> String {
    let size = match step.size {
        Size::ByWeight => None,
        Size::Pods(pods) => Some(format!("{pods} pods")),
        Size::Percent(percent) => Some(format!("{percent} % of the pods")),
    };
    let hold = match step.hold {
        Hold::For(0) => None,
        Hold::For(seconds) => Some(format!("hold {}", span(seconds))),
        Hold::Promoted => Some("hold until promoted".to_owned()),
    };
    let gates = (!step.gates.is_empty()).then(|| format!("gates {}", step.gates.join(", ")));
    let reached =
        (is_current && !status.reached_at.is_empty()).then(|| format!("reached {}", status.reached_at));
    [size, hold, gates, reached].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn gate_row(policy: &RolloutPolicy, gate: &GateStatus) -> Vec<String> {
    let rule = policy.spec.gates.iter().find(|rule| rule.name == gate.name);
    let background =
        policy.spec.strategy.canary.as_ref().is_some_and(|canary| canary.background.contains(&gate.name));
    let count = rule.and_then(|rule| rule.count).unwrap_or(1);
    let of = if background { String::new() } else { format!(" of {count}") };
    let dry = if rule.is_some_and(|rule| rule.dry_run) { " (dry run)" } else { "" };
    vec![
        format!("{}{dry}", gate.name),
        format!("passed {}{of}, failed {}", gate.passed, gate.failed),
        gate.answer.map_or_else(|| "not asked yet".to_owned(), |answer| format!("{answer:?}")),
        gate.measured_at.clone(),
        sparkline(&gate.values),
        gate.values.last().copied().map(number).unwrap_or_default(),
        gate.message.clone(),
    ]
}

/// Between the least and the greatest of them.
fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: f64| {
        let share = (value - low) / (high - low);
        // What does not move has no height.
        (1..8_u8).filter(|level| share * 8.0 >= f64::from(*level)).count()
    };
    values.iter().map(|value| BARS[bar(*value)]).collect()
}

/// Rows with their cells one below the other; columns that are empty throughout are left out.
fn columns(indent: &str, rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
            let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{indent}{}\n", cells.join("   ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::rollout::changes::changes;
    use crate::model::yaml;

    /// The policy of a file, and what its further documents change of its status: as a row and in full at the end, and what is
    /// said on the way.
    fn told(file: &Path) -> String {
        let text = std::fs::read(file).unwrap();
        let mut value = serde_json::Value::Null;
        let mut policies: Vec<RolloutPolicy> = Vec::new();
        for document in yaml::read(&text, &file.display().to_string()).unwrap() {
            if value.is_null() {
                value = document.value;
            } else {
                let status = value["status"].as_object_mut().unwrap();
                status.extend(document.value["status"].as_object().unwrap().clone());
                status.retain(|_, field| !field.is_null());
            }
            policies.push(serde_json::from_value(value.clone()).unwrap());
        }
        let now: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        let last = policies.last().unwrap();
        let row: Vec<String> =
            HEADERS.iter().zip(row(last, now)).map(|(name, cell)| format!("{name}={cell}")).collect();
        let mut told = format!("{}\n\n{}\nchanges\n", row.join(" | "), detail(last, false));
        let mut before = None;
        for policy in &policies {
            for change in changes(before, policy, now) {
                told += &format!("  {}\n  {}\n", change.text(false), change.json());
            }
            before = Some(policy);
        }
        told
    }

    /// UPDATE=1 records.
    fn check(name: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/rollout-view/{name}.yaml"));
        let (found, golden) = (told(&file), file.with_extension("txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(wanted == found, "{name} differs, UPDATE=1 records:\n{found}");
    }

    #[test]
    fn a_canary_on_its_way() {
        check("canary");
    }

    #[test]
    fn a_rejected_revision() {
        check("rejected");
    }

    #[test]
    fn a_switch_that_is_paused() {
        check("blue-green");
    }

    #[test]
    fn steps_with_testers_and_copies() {
        check("testers");
    }

    #[test]
    fn a_gate_that_waits_for_people() {
        check("approval");
    }

    #[test]
    fn a_shadow_without_a_status() {
        check("shadow");
    }

    #[test]
    fn a_policy_that_cannot_be_used() {
        check("unusable");
    }

    #[test]
    fn ages_are_in_the_unit_that_matters() {
        let ages = [-5, 0, 119, 120, 7199, 7200, 172_799, 172_800].map(age);
        assert_eq!(ages, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn values_are_drawn_between_the_least_and_the_greatest() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[3.0, 3.0]), "▁▁");
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[-1.0, 1.0, 0.0]), "▁█▅");
        assert_eq!(sparkline(&[f64::MAX, f64::MIN, f64::MAX]).chars().count(), 3);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.5, 1.0, 0.1 + 0.2, 1234.5, 0.000_123_4, 2e12, -0.25, 100.0].map(number);
        assert_eq!(numbers, ["0", "0.5", "1", "0.3", "1234.5", "1.23e-4", "2.00e12", "-0.25", "100"]);
    }

    #[test]
    fn nothing_drives_the_terminal() {
        let mut policy = RolloutPolicy::new("a", crate::api::RolloutPolicySpec::default());
        let dangerous = "a\x1b[2Jb".to_owned();
        policy.status = Some(RolloutStatus {
            message: dangerous.clone(),
            gates: vec![GateStatus { name: "g".into(), message: dangerous.clone(), ..GateStatus::default() }],
            rejected: vec![crate::api::RejectedRevision { why: dangerous, ..Default::default() }],
            ..RolloutStatus::default()
        });
        assert!(!detail(&policy, false).contains('\x1b'));
        assert!(!row(&policy, Timestamp::UNIX_EPOCH).concat().contains('\x1b'));
        assert!(detail(&policy, true).contains("\x1b[1m"));
    }
}
