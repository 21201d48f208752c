//! How a new revision comes to its users: observations and time in, status and commands out.
//!
//! `policy` reads a `RolloutPolicy` as a list of steps, whatever its strategy; `machine` decides (`steps` on the way, `ending` at the end and back); `sizes` and `replicas` count
//! pods; `gate` adds up what gates answer; `statistics` compares two versions; `simulation` is a cluster that is made up.
//!
//! Must not know any cluster, any kind of target, any router or provider, nor a clock.

mod gate;
mod machine;
mod policy;
mod record;
pub mod replicas;
mod simulation;
mod sizes;
pub mod statistics;
#[cfg(test)]
mod tests;

pub use gate::{Measurement, Rule, Verdict};
pub use machine::{Command, Decision, Routed, Seen, Side, Traffic, decide};
pub use policy::{Hold, Policy, Size, Step};
pub use simulation::{Divider, Event, Line, Scenario, Simulation};
