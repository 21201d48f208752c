//! One file for each system whose objects are checked.

mod argo_events;
mod argo_rollouts;
mod argo_workflows;
mod containers;
mod delivery;
mod katib;
mod kserve;
mod names;
mod pipelines;
mod projects;
mod ray;
mod references;
mod retired;
mod rollouts;
mod schedules;
mod secrets;
mod traffic;
mod training;
mod workloads;

use super::rule::{Out, Rule};
use super::{Set, Subject};

/// All rules, by system and in the order of their files.
pub fn all() -> Vec<&'static Rule> {
    let files: [&[&'static Rule]; 23] = [
        super::schema::ALL,
        super::locate::ALL,
        names::ALL,
        containers::ALL,
        workloads::ALL,
        references::ALL,
        secrets::ALL,
        schedules::ALL,
        traffic::ALL,
        delivery::ALL,
        projects::ALL,
        rollouts::ALL,
        kserve::ALL,
        argo_workflows::ALL,
        argo_events::ALL,
        argo_rollouts::ALL,
        pipelines::ALL,
        training::ALL,
        katib::ALL,
        ray::ALL,
        retired::ALL,
        super::changes::ALL,
        super::suppress::ALL,
    ];
    files.concat()
}

/// The rule of an id.
pub fn named(id: &str) -> Option<&'static Rule> {
    all().into_iter().find(|rule| rule.id == id)
}

/// Holds one object against all rules but those of its schema.
pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    names::check(subject, set, out);
    containers::check(subject, set, out);
    workloads::check(subject, set, out);
    references::check(subject, set, out);
    secrets::check(subject, out);
    schedules::check(subject, out);
    traffic::check(subject, set, out);
    delivery::check(subject, out);
    rollouts::check(subject, set, out);
    kserve::check(subject, set, out);
    argo_workflows::check(subject, set, out);
    argo_events::check(subject, set, out);
    argo_rollouts::check(subject, set, out);
    pipelines::check(subject, out);
    training::check(subject, set, out);
    katib::check(subject, out);
    ray::check(subject, out);
    retired::check(subject, out);
}
