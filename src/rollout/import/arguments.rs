//! `{{args.name}}`: what it stands for, and texts with it.

use std::collections::BTreeMap;

use super::place::{Place, Remark};

/// What an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    Text(String),
    /// A key of a Secret.
    Secret {
        name: String,
        key: String,
    },
    /// The hash of a side's pods; the word that is nearest.
    Hash(&'static str),
    /// Nobody says.
    Unknown(String),
}

/// All that an analysis has.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    named: BTreeMap<String, Argument>,
    /// The Service of Argo's candidate, which has another name here.
    service: Option<String>,
}

/// The arguments of a template: the caller's, the command line's, its own defaults.
pub(super) fn read(
    template: &Place<'_>,
    caller: Option<&Place<'_>>,
    given: &BTreeMap<String, String>,
    rollout: Option<&Place<'_>>,
) -> Arguments {
    let mut found = BTreeMap::new();
    for default in template.at("spec").at("args").items() {
        let Some(name) = default.text("name") else { continue };
        let argument = one(&default, rollout).unwrap_or_else(|| {
            Argument::Unknown(format!("nobody says what {{{{args.{name}}}}} is; give --arg {name}=VALUE"))
        });
        found.insert(name.to_owned(), argument);
    }
    for (name, value) in given {
        found.insert(name.clone(), Argument::Text(value.clone()));
    }
    for stated in caller.map(|caller| caller.at("args").items()).unwrap_or_default() {
        if let (Some(name), Some(argument)) = (stated.text("name"), one(&stated, rollout)) {
            found.insert(name.to_owned(), argument);
        }
    }
    let strategy = rollout.map(|rollout| rollout.at("spec").at("strategy"));
    let service = strategy.and_then(|strategy| {
        let (canary, both) = (strategy.at("canary"), strategy.at("blueGreen"));
        canary.text("canaryService").or_else(|| both.text("previewService")).map(str::to_owned)
    });
    Arguments { named: found, service }
}

fn one(stated: &Place<'_>, rollout: Option<&Place<'_>>) -> Option<Argument> {
    if let Some(value) = stated.value()["value"].as_str() {
        return Some(Argument::Text(value.to_owned()));
    }
    let from = stated.at("valueFrom");
    let secret = from.at("secretKeyRef");
    if let (Some(name), Some(key)) = (secret.text("name"), secret.text("key")) {
        return Some(Argument::Secret { name: name.to_owned(), key: key.to_owned() });
    }
    match from.text("podTemplateHashValue") {
        Some("Latest") => return Some(Argument::Hash("revision")),
        Some(_) => return Some(Argument::Hash("stableRevision")),
        None => {}
    }
    let path = from.at("fieldRef").text("fieldPath")?;
    let found = rollout.and_then(|rollout| of_rollout(rollout, path));
    Some(found.map_or_else(
        || Argument::Unknown(format!("what {path} of the Rollout is, is not in these files; give --arg")),
        Argument::Text,
    ))
}

/// `metadata.labels['env']`, `spec.replicas`.
fn of_rollout(rollout: &Place<'_>, path: &str) -> Option<String> {
    let mut at = rollout.clone();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (name, after) = inner.split_once(']')?;
            at = at.at(name.trim_matches(['\'', '"']));
            rest = after.trim_start_matches('.');
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            at = at.at(&rest[..end]);
            rest = rest[end..].trim_start_matches('.');
        }
    }
    match at.value() {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null if path == "metadata.namespace" => Some("{{namespace}}".into()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

/// The argument that is all of a text.
pub(super) fn whole<'a>(text: &str, arguments: &'a Arguments) -> Option<&'a Argument> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    arguments.named.get(inner.trim().strip_prefix("args.")?)
}

/// A text with its arguments.
pub(super) fn fill(
    text: &str,
    arguments: &Arguments,
    place: &Place<'_>,
    remarks: &mut Vec<Remark>,
) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((tag, after)) = after.split_once("}}") else { break };
        filled.push_str(before);
        rest = after;
        let name = tag.trim().strip_prefix("args.");
        match name.and_then(|name| arguments.named.get(name)) {
            Some(Argument::Text(value)) => filled.push_str(value),
            Some(Argument::Hash(word)) => {
                filled.push_str(&format!("{{{{{word}}}}}"));
                let why = format!(
                    "{{{{{}}}}} is a hash of pods there and a digest of Git's here ({{{{{word}}}}}), which no label and no metric has; tell the candidate by its name, such as pod=~\"{{{{candidate}}}}-.+\", and the stable side by {{{{stable}}}}",
                    tag.trim()
                );
                if !remarks.iter().any(|remark| remark.why == why) {
                    remarks.push(place.person(why));
                }
            }
            Some(Argument::Secret { name: secret, key }) => {
                filled.push_str(&format!("{{{{{tag}}}}}"));
                remarks.push(place.person(format!(
                    "{{{{{}}}}} is a Secret's ({secret}, key {key}), which is read for one header only: give secretRef, or make it no secret",
                    tag.trim()
                )));
            }
            Some(Argument::Unknown(why)) => {
                filled.push_str(&format!("{{{{{tag}}}}}"));
                remarks.push(place.person(why.clone()));
            }
            None => {
                filled.push_str(&format!("{{{{{tag}}}}}"));
                let hint = name.map_or_else(String::new, |name| format!("; give --arg {name}=VALUE"));
                remarks.push(place.person(format!("there is no {{{{{}}}}}{hint}", tag.trim())));
            }
        }
    }
    filled.push_str(rest);
    let Some(service) = &arguments.service else { return filled };
    let renamed = rename(&filled, service);
    if renamed != filled {
        remarks.push(
            place.note(format!("{service} is {{{{candidateService}}}} here, the candidate's own Service")),
        );
    }
    renamed
}

/// A text with the candidate's Service for a name, where that is a word of its own.
fn rename(text: &str, service: &str) -> String {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut renamed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(service) {
        let (before, after) = (&rest[..at], &rest[at + service.len()..]);
        renamed.push_str(before);
        let within = before.ends_with(joins) || after.starts_with(joins);
        renamed.push_str(if within { service } else { "{{candidateService}}" });
        rest = after;
    }
    renamed.push_str(rest);
    renamed
}
