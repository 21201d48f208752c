//! Desired x live x inventory to a plan.
