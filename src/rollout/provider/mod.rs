//! What gates ask, and what the answers say.
//!
//! A provider is read from its gate: it says what to ask (addresses, parameters, objects) and judges what comes back, bytes
//! and JSON in, a reading out. Who asks, and how, it does not know.

mod compare;
mod condition;
mod job;
mod mlflow;
mod object;
mod prometheus;
mod run;
pub mod templates;
mod web;
mod workflow;

pub use compare::Compare;
pub use condition::{Condition, Fact};
pub use job::Job;
pub use mlflow::{Mlflow, Score};
pub use object::Object;
pub use prometheus::Prometheus;
pub use run::{Ending, Left, Run, Runs, State, name as run_name};
pub use web::{Sent, Web};
pub use workflow::Workflow;

use std::collections::BTreeMap;

use super::gate::Measurement;
use crate::api::{Gate, GateAnswer, GateSecret, GateStatus};
use crate::error::{Code, Error, Result};

/// An address, and parameters for it.
pub type Asked = (String, Vec<(&'static str, String)>);

/// What a measurement is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Namespace of the policy and of all that it speaks of.
    pub namespace: String,
    /// Name of the target.
    pub target: String,
    /// Name of the candidate beside it.
    pub candidate: String,
    /// The Service of the stable side; empty where there is none.
    pub stable_service: String,
    /// The Service of the candidate; empty where there is none.
    pub candidate_service: String,
    /// Digest of the candidate.
    pub revision: String,
    /// Digest of the stable side.
    pub stable_revision: String,
    /// Name of the policy.
    pub policy: String,
    /// Its uid.
    pub uid: String,
    /// The step, from 0; 0 for what is asked in the background.
    pub step: u32,
    /// What tells this measurement from the others of its gate in this step, and is the same after a crash: the time of the
    /// one before, or since when the gate is asked.
    pub turn: String,
    /// Since when what is to be judged is there: the step was reached, or the gate began after that (RFC 3339).
    pub since: String,
}

impl About {
    /// What [`About::turn`] is for the next measurement of a gate.
    pub fn next(status: &GateStatus) -> String {
        if status.measured_at.is_empty() { status.since.clone() } else { status.measured_at.clone() }
    }
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// In a word.
    pub answer: GateAnswer,
    /// What it was read from, where that is a number.
    pub value: Option<f64>,
    /// The words for people.
    pub message: String,
}

impl Reading {
    /// There was nothing to judge.
    pub fn no_data(message: impl Into<String>) -> Self {
        Self { answer: GateAnswer::NoData, value: None, message: message.into() }
    }

    /// It could not be asked.
    pub fn error(message: impl Into<String>) -> Self {
        Self { answer: GateAnswer::Error, value: None, message: message.into() }
    }

    /// As the measurement of a gate.
    pub fn of(self, gate: &str) -> Measurement {
        Measurement { gate: gate.to_owned(), answer: self.answer, value: self.value, message: self.message }
    }
}

/// How a gate is measured.
pub enum Provider {
    /// By a query.
    Prometheus(Prometheus),
    /// By a request.
    Web(Web),
    /// By an object that runs to an end: a Job, a Workflow.
    Run(Run),
    /// By an object.
    Object(Object),
    /// By two versions of a model.
    Mlflow(Mlflow),
    /// By the counters of both sides.
    Compare(Compare),
}

impl Provider {
    /// Reads what a gate states; `None` where people decide, or where it states nothing and only a simulation can answer.
    ///
    /// # Errors
    /// `RolloutInvalid`, with the field.
    pub fn read(gate: &Gate) -> Result<Option<Self>> {
        if gate.asks().len() > 1 {
            return Err(invalid("name", format!("give one of {}", Gate::all())));
        }
        // What `{{window}}` stands for where a query does not say.
        let window = if gate.interval.is_empty() { "1m" } else { &gate.interval };
        Ok(if let Some(stated) = &gate.prometheus {
            Some(Self::Prometheus(Prometheus::read(stated, window)?))
        } else if let Some(stated) = &gate.web {
            Some(Self::Web(Web::read(stated, window)?))
        } else if let Some(stated) = &gate.job {
            Some(Self::Run(Job::read(stated, window)?))
        } else if let Some(stated) = &gate.workflow {
            Some(Self::Run(Workflow::read(stated, window)?))
        } else if let Some(stated) = &gate.object {
            Some(Self::Object(Object::read(stated, window)?))
        } else if let Some(stated) = &gate.mlflow {
            Some(Self::Mlflow(Mlflow::read(stated)?))
        } else if let Some(stated) = &gate.compare {
            Some(Self::Compare(Compare::read(stated, window)?))
        } else {
            None
        })
    }
}

fn invalid(field: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code::RolloutInvalid, format!("spec.{field}: {why}"))
}

/// That an address can be asked: http or https, with a host, without a name or password in it.
fn address(text: &str, field: &str) -> Result<()> {
    let uri: http::Uri =
        text.parse().map_err(|error| invalid(field, format!("{text:?} is no address: {error}")))?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let why = if !matches!(uri.scheme_str(), Some("http" | "https")) {
        "is neither http:// nor https://"
    } else if authority.contains('@') {
        "holds a name or password, which belong into a Secret (secretRef)"
    } else if uri.host().is_none_or(str::is_empty) {
        "names no host"
    } else {
        return Ok(());
    };
    // The password is not repeated.
    let shown = text.split_once('@').map_or(text, |(_, rest)| rest);
    Err(invalid(field, format!("{shown:?} {why}")))
}

/// That an address has no query: paths and parameters are added to it.
fn base(text: &str, field: &str) -> Result<()> {
    address(text, field)?;
    if text.contains(['?', '#']) {
        return Err(invalid(field, format!("{text:?} has a query, which is not for it to say")));
    }
    Ok(())
}

/// That headers can be sent, and are not those that hold credentials or the frame of a request.
fn headers(stated: &BTreeMap<String, String>, field: &str) -> Result<()> {
    for (name, value) in stated {
        let field = format!("{field}.{name}");
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(invalid(&field, "is no name of a header"));
        }
        if http::HeaderValue::from_str(value).is_err() {
            return Err(invalid(&field, "is no value of a header"));
        }
        match name.to_ascii_lowercase().as_str() {
            "authorization" | "cookie" | "proxy-authorization" => {
                return Err(invalid(&field, "holds credentials, which belong into a Secret (secretRef)"));
            }
            "content-length" | "transfer-encoding" | "connection" | "upgrade" => {
                return Err(invalid(&field, "is not for a gate to say"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// That a Secret's token can be sent.
fn secret(stated: Option<&GateSecret>, field: &str) -> Result<()> {
    let Some(stated) = stated else { return Ok(()) };
    let bad = |name: &String| http::HeaderName::from_bytes(name.as_bytes()).is_err();
    if stated.header.as_ref().is_some_and(bad) {
        return Err(invalid(&format!("{field}.header"), "is no name of a header"));
    }
    Ok(())
}

/// As much of an answer that cannot be read as people need to know whose it is.
fn begin_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    let text: String = crate::model::one_line(&text).chars().take(120).collect();
    if text.is_empty() { "nothing".to_owned() } else { format!("{text:?}") }
}
