//! What will fail or surprise after a merge, told from the files alone.
//!
//! A rule looks at one object beside all others of its set and says where in it something is wrong; it knows
//! neither files nor lines. Those are found afterwards, and only for what was found (`locate`). A rule says nothing
//! where it cannot be sure: what may exist in the cluster is told as information, never as an error.

mod changes;
mod configuration;
mod cron;
mod find;
mod locate;
mod pods;
mod rule;
mod rules;
mod schema;
mod set;
mod suppress;

use crate::model::{Confidential, Gvk};

pub use changes::changes;
pub use configuration::{Configuration, FILE as CONFIGURATION_FILE};
pub use find::{Folder, Places, Renderer, find};
pub use locate::{Lines, Position};
pub use rule::{Confidence, Rule, Severity};
pub use rules::{all as all_rules, named as rule_named};
pub use schema::{KUBERNETES, Schemas, Version};
pub use set::{Names, Set, Subject};
pub use suppress::Suppressions;

/// Something that a rule found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// As the rule says, or as the configuration does.
    pub severity: Severity,
    /// The place of the object in its set.
    pub subject: usize,
    /// The field, as a JSON pointer; the nearest one that is there where it is one that is missing.
    pub pointer: String,
    /// What is wrong; never holds a secret.
    pub message: String,
}

/// What was found in a set, and what could not be looked at.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// In the order of the objects.
    pub findings: Vec<Finding>,
    /// Kinds for which there is no schema, once for each object.
    pub unknown: Vec<Gvk>,
}

/// Most findings of one set; a file that is wrong everywhere is told early enough.
const MAX_FINDINGS: usize = 10_000;

/// Holds every object of a set against every rule that is on. `hidden` is masked wherever a message quotes.
pub fn check(
    set: &Set<'_>,
    schemas: &Schemas,
    configuration: &Configuration,
    hidden: &Confidential,
) -> Checked {
    let mut out = rule::Out::default();
    let mut unknown = Vec::new();
    for (number, subject) in set.subjects().iter().enumerate() {
        out.begin(number);
        // Of what SOPS has encrypted, the values and the block beside them are none of the kind's schema.
        let is_encrypted = subject.value.pointer("/sops/mac").is_some();
        if !is_encrypted && !schema::check(subject, schemas, configuration.kubernetes, &mut out) {
            unknown.push(subject.gvk.clone());
        }
        rules::check(subject, set, &mut out);
        if out.len() > MAX_FINDINGS {
            break;
        }
    }
    let mut findings = out.finish();
    findings.retain_mut(|finding| {
        let on = configuration.is_on(finding.rule);
        finding.severity = configuration.severity(finding.rule);
        finding.message = hidden.scrub(&finding.message);
        on
    });
    findings.sort_by(|one, other| {
        (one.subject, &one.pointer, one.rule.id, &one.message).cmp(&(
            other.subject,
            &other.pointer,
            other.rule.id,
            &other.message,
        ))
    });
    findings.dedup_by(|one, other| {
        (one.subject, &one.pointer, one.rule.id, &one.message)
            == (other.subject, &other.pointer, other.rule.id, &other.message)
    });
    Checked { findings, unknown }
}
