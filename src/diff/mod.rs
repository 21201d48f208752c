//! Desired against live.
//!
//! Only what Git states is compared, as server-side apply would: what others own beside it is theirs.
//! Ownership is read from managedFields, which also says who made an edit and when. Secret values are
//! masked here, before any formatter sees them. No cluster, no clock.

mod adopt;
mod autoscale;
mod change;
mod fields;
mod ignore;
pub mod mask;

pub use adopt::{Adoption, RESET, Spared, adopt, former, relinquish};
pub use autoscale::{Scaled, scaled_targets};
pub use change::{Change, between, compare};
pub use fields::{Fields, Owner, Step, ours};
pub use ignore::{IgnoreRule, strip};
