//! What the answers of a gate come to. Four answers, each with a limit of its own; only passes pass.

use jiff::Timestamp;

use crate::api::{Gate, GateAnswer, GateLimits, GateStatus, second};
use crate::error::{Code, Error, Result};
use crate::model::one_line;

use super::policy::seconds;
use super::provider::Provider;
use super::record::{after, push};

/// Values kept with a gate.
const KEPT: usize = 20;

/// A gate as the machine reads it; times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Between two measurements.
    pub interval: i64,
    /// Before the first.
    pub delay: i64,
    /// Passes that it takes.
    pub count: u32,
    /// Failures that are borne.
    pub fail: u32,
    /// Failures one after the other that are borne.
    pub consecutive_fail: u32,
    /// Measurements without data, one after the other, that are borne.
    pub no_data: u32,
    /// Errors one after the other that are borne.
    pub error: u32,
    /// Binds nobody.
    pub dry_run: bool,
    /// What it asks runs for as long as it takes: a Job or a Workflow.
    pub runs: bool,
    /// People decide; nothing is measured.
    pub approval: Option<Approval>,
}

/// What is asked of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// What they are to look at.
    pub message: String,
    /// Seconds for which they are waited for.
    pub timeout: Option<i64>,
}

impl Approval {
    fn read(gate: &Gate) -> Result<Option<Self>> {
        let Some(stated) = &gate.approval else { return Ok(None) };
        let measures = gate.limits != GateLimits::default();
        if measures || !gate.interval.is_empty() || !gate.initial_delay.is_empty() {
            let why = "spec.approval: people are not asked again and again: interval, initialDelay and limits are for gates that measure";
            return Err(Error::new(Code::RolloutInvalid, why));
        }
        let timeout = seconds(&stated.timeout, "approval.timeout")?;
        Ok(Some(Self { message: one_line(&stated.message), timeout }))
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The gate's name.
    pub gate: String,
    /// What it says.
    pub answer: GateAnswer,
    /// What it was read from, where that is a number.
    pub value: Option<f64>,
    /// The words for people: the value and the condition, or why there is none.
    pub message: String,
}

/// How a gate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has what it takes.
    Passed,
    /// It goes on, and is to be asked at this time.
    Open(Timestamp),
    /// It bears no more, with the evidence.
    Failed(String),
}

impl Rule {
    /// Reads a gate.
    ///
    /// # Errors
    /// `RolloutInvalid` for a duration that is none, and for what cannot be asked or judged.
    pub fn read(gate: &Gate) -> Result<Self> {
        Provider::read(gate)?;
        let limits = gate.limits;
        let interval = seconds(&gate.interval, "interval")?.unwrap_or(60).max(1);
        let fail = limits.fail.unwrap_or(0);
        Ok(Self {
            interval,
            delay: seconds(&gate.initial_delay, "initialDelay")?.unwrap_or(0),
            count: gate.count.unwrap_or(1).max(1),
            fail,
            consecutive_fail: limits.consecutive_fail.unwrap_or(fail),
            // What a comparison cannot decide yet is no failure: it holds.
            no_data: limits.no_data.unwrap_or(if gate.compare.is_some() { u32::MAX } else { 10 }),
            error: limits.error.unwrap_or(4),
            dry_run: gate.dry_run,
            runs: gate.job.is_some() || gate.workflow.is_some(),
            approval: Approval::read(gate)?,
        })
    }

    /// How it stands after its measurements.
    pub fn verdict(&self, status: &GateStatus) -> Verdict {
        if let Some(why) = self.broken(status) {
            return Verdict::Failed(why);
        }
        if status.passed >= self.count {
            return Verdict::Passed;
        }
        // Nobody is asked; when their time is over is known to whoever waits.
        if self.approval.is_some() {
            return Verdict::Open(Timestamp::MAX);
        }
        Verdict::Open(self.due(status))
    }

    /// Until when people are waited for.
    pub fn waits_until(&self, status: &GateStatus) -> Option<Timestamp> {
        let approval = self.approval.as_ref()?;
        approval.timeout.map(|seconds| after(&status.since, seconds))
    }

    /// When it is asked next. In the background also when it has passed.
    pub fn due(&self, status: &GateStatus) -> Timestamp {
        match status.answer {
            None => after(&status.since, self.delay),
            // What could not be asked is asked again soon.
            Some(GateAnswer::Error) => after(&status.measured_at, self.interval.min(10)),
            Some(_) => after(&status.measured_at, self.interval),
        }
    }

    fn broken(&self, status: &GateStatus) -> Option<String> {
        let answer = status.answer?;
        if self.approval.is_some() {
            return (answer == GateAnswer::Fail).then(|| format!("gate {}: {}", status.name, status.message));
        }
        let (many, limit, what) = match answer {
            GateAnswer::Pass => return None,
            GateAnswer::Fail if status.failed > self.fail => (status.failed, self.fail, "failed"),
            GateAnswer::Fail => (status.streak, self.consecutive_fail, "failed in a row"),
            GateAnswer::NoData => (status.streak, self.no_data, "without data in a row"),
            GateAnswer::Error => (status.streak, self.error, "with an error in a row"),
        };
        let message = &status.message;
        let measured = if many == 1 { "measurement" } else { "measurements" };
        (many > limit)
            .then(|| format!("gate {}: {many} {measured} {what} ({limit} are borne): {message}", status.name))
    }
}

/// A gate that begins.
pub(super) fn begin(name: &str, rule: Option<&Rule>, now: Timestamp) -> GateStatus {
    let begun = GateStatus { name: name.to_owned(), since: second(now), ..GateStatus::default() };
    match rule.and_then(|rule| rule.approval.as_ref()) {
        Some(_) => GateStatus {
            answer: Some(GateAnswer::NoData),
            streak: 1,
            message: "nobody has approved it yet".to_owned(),
            ..begun
        },
        None => begun,
    }
}

/// Adds a measurement.
pub(super) fn add(status: &mut GateStatus, measurement: &Measurement, now: Timestamp) {
    match measurement.answer {
        GateAnswer::Pass => status.passed += 1,
        GateAnswer::Fail => status.failed += 1,
        GateAnswer::NoData | GateAnswer::Error => {}
    }
    status.streak = if status.answer == Some(measurement.answer) { status.streak + 1 } else { 1 };
    status.answer = Some(measurement.answer);
    status.measured_at = second(now);
    status.message.clone_from(&measurement.message);
    if let Some(value) = measurement.value.filter(|value| value.is_finite()) {
        push(&mut status.values, value, KEPT);
    }
}
