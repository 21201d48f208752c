//! Object to health.
use serde_json::Value;
use crate::model::Gvk;
/// How an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The word.
    pub status: Status,
    /// Why, in words; empty when healthy.
    pub reason: Box<str>,
}
/// The words of health, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Does its work.
    Healthy,
}
/// Judges.
pub fn assess(_gvk: &Gvk, _object: &Value) -> Health { Health { status: Status::Healthy, reason: "".into() } }
/// Whether more than metadata is needed.
pub fn reads_status(_gvk: &Gvk) -> bool { true }
