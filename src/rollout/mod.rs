//! How a new revision comes to its users: observations and time in, status and commands out.
//!
//! `policy` reads a `RolloutPolicy` as a list of steps, whatever its strategy; `machine` decides (`steps` on the way, `ending` at the end and back); `sizes` and `replicas` count
//! pods; `gate` adds up what gates answer; `statistics` compares two versions; `simulation` is a cluster that is made up.
//! `provider` says what a gate asks and reads the answers.
//! `import` makes policies of what Argo Rollouts has.
//! `bind` finds what a policy decides about; `target` has the kinds and `traffic` the routers, which nothing else here knows.
//!
//! Must not know any cluster, how a gate is asked, nor a clock.

mod bind;
mod gate;
pub mod import;
mod machine;
mod policy;
pub mod provider;
mod record;
pub mod replicas;
mod simulation;
mod sizes;
pub mod statistics;
pub mod target;
#[cfg(test)]
mod tests;
pub mod traffic;

pub use bind::{Bound, bind};
pub use gate::{Approval, Measurement, Rule, Verdict};
pub use machine::{Command, Decision, Routed, Seen, Side, Sizing, Traffic, decide};
pub use policy::{Hold, Policy, Size, Step};
pub use simulation::{Divider, Event, Line, Scenario, Simulation};
