//! The `sops` part of a file: for whom it is encrypted, what of it, and its MAC.

use regex::Regex;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Keys, age, failed, shamir, tree};
use crate::error::{Error, Result};

/// Key groups of one file.
const MAX_GROUPS: usize = 255;

/// What the part says.
pub(super) struct Metadata {
    groups: Vec<Vec<Master>>,
    threshold: usize,
    /// The MAC as it stands there, encrypted.
    pub(super) mac: String,
    last_modified: String,
    /// Which values are encrypted.
    pub(super) rules: Rules,
}

/// One key that the data key is encrypted for.
enum Master {
    Age { recipient: String, sealed: String },
    Other { service: &'static str, id: String },
}

/// Which values are encrypted, by their path.
pub(super) struct Rules {
    rule: Rule,
    /// The MAC covers encrypted values only.
    pub(super) mac_only_encrypted: bool,
}

enum Rule {
    AllBut(Test),
    Only(Test),
    Comments,
}

enum Test {
    Suffix(String),
    Matches(Regex),
}

impl Rules {
    /// Whether the value at a path is encrypted; `None` where comments decide.
    pub(super) fn encrypts(&self, path: &[String]) -> Option<bool> {
        let hit = |test: &Test| {
            path.iter().any(|key| match test {
                Test::Suffix(suffix) => key.ends_with(suffix.as_str()),
                Test::Matches(regex) => regex.is_match(key),
            })
        };
        match &self.rule {
            Rule::AllBut(test) => Some(!hit(test)),
            Rule::Only(test) => Some(hit(test)),
            Rule::Comments => None,
        }
    }

    fn parse(part: &Value) -> Result<Self> {
        let given = |name: &str| text(part, name).filter(|text| !text.is_empty());
        let regex = |pattern: String| {
            Regex::new(&pattern)
                .map(Test::Matches)
                .map_err(|_| failed(format!("its pattern {pattern:?} cannot be read")))
        };
        let mut rules = Vec::new();
        rules.extend(given("unencrypted_suffix").map(|suffix| Ok(Rule::AllBut(Test::Suffix(suffix)))));
        rules.extend(given("encrypted_suffix").map(|suffix| Ok(Rule::Only(Test::Suffix(suffix)))));
        rules.extend(given("unencrypted_regex").map(|pattern| regex(pattern).map(Rule::AllBut)));
        rules.extend(given("encrypted_regex").map(|pattern| regex(pattern).map(Rule::Only)));
        rules.extend(given("unencrypted_comment_regex").map(|_| Ok(Rule::Comments)));
        rules.extend(given("encrypted_comment_regex").map(|_| Ok(Rule::Comments)));
        if rules.len() > 1 {
            return Err(failed("it names more than one rule for what is encrypted"));
        }
        let rule = rules.pop().unwrap_or_else(|| Ok(Rule::AllBut(Test::Suffix("_unencrypted".into()))))?;
        let mac_only_encrypted = match &part["mac_only_encrypted"] {
            Value::Bool(value) => *value,
            Value::String(text) => text == "true",
            _ => false,
        };
        Ok(Self { rule, mac_only_encrypted })
    }
}

fn text(part: &Value, name: &str) -> Option<String> {
    match &part[name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a value is the metadata of SOPS.
pub(super) fn is_metadata(value: &Value) -> bool {
    value.is_object() && (value["mac"].is_string() || !value["lastmodified"].is_null())
}

impl Metadata {
    pub(super) fn parse(part: &Value) -> Result<Self> {
        let mut groups = vec![masters(part)];
        if groups[0].is_empty() {
            let stated = part["key_groups"].as_array().map_or(&[][..], Vec::as_slice);
            groups = stated.iter().map(masters).collect();
        }
        if groups.is_empty() || groups.len() > MAX_GROUPS {
            return Err(failed("it names no key that it is encrypted for"));
        }
        let threshold = match &part["shamir_threshold"] {
            Value::Number(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
            Value::String(text) => text.parse().ok(),
            _ => Some(0),
        };
        let threshold = threshold.ok_or_else(|| failed("its shamir_threshold is no number"))?;
        let mac = text(part, "mac").filter(|mac| !mac.is_empty());
        Ok(Self {
            threshold: if threshold == 0 { groups.len() } else { threshold },
            groups,
            mac: mac.ok_or_else(|| failed("it has no MAC, so nobody can say whether it was changed"))?,
            last_modified: text(part, "lastmodified").unwrap_or_default(),
            rules: Rules::parse(part)?,
        })
    }

    /// The key that opens the values.
    pub(super) fn data_key(&self, keys: &Keys) -> Result<Zeroizing<Vec<u8>>> {
        let mut shares = Vec::new();
        let mut reasons = Vec::new();
        for group in &self.groups {
            match open_group(group, keys)? {
                Some(share) => shares.push(share),
                None => reasons.push(group),
            }
        }
        let key = if self.groups.len() == 1 {
            shares.pop().ok_or_else(|| refusal(&reasons, keys))?
        } else {
            if shares.len() < self.threshold {
                let error = refusal(&reasons, keys);
                let why = format!(
                    "{} of its {} key groups could be opened and {} are needed; {}",
                    shares.len(),
                    self.groups.len(),
                    self.threshold,
                    error.why
                );
                return Err(Error { why, ..error });
            }
            shamir::combine(&shares).map_err(failed)?
        };
        if key.len() != 32 {
            return Err(failed("its data key has a wrong length"));
        }
        Ok(key)
    }

    /// Holds the MAC against the one computed.
    pub(super) fn verify(&self, key: &[u8], computed: &str) -> Result<()> {
        let changed = || {
            failed(
                "its MAC does not match: values were changed, added, removed or put in another order without sops",
            )
        };
        match tree::open(&self.mac, key, &self.last_modified) {
            Ok(tree::Plain::Text(stated)) if stated == computed => Ok(()),
            _ => Err(changed()),
        }
    }
}

fn masters(part: &Value) -> Vec<Master> {
    let list = |name: &str| part[name].as_array().cloned().unwrap_or_default();
    let mut all: Vec<Master> = list("age")
        .iter()
        .map(|one| Master::Age {
            recipient: text(one, "recipient").unwrap_or_default(),
            sealed: text(one, "enc").unwrap_or_default(),
        })
        .collect();
    let mut other = |name: &str, service: &'static str, id: &[&str]| {
        all.extend(list(name).iter().map(|one| {
            let parts: Vec<String> = id.iter().filter_map(|field| text(one, field)).collect();
            Master::Other { service, id: parts.join("/") }
        }));
    };
    other("kms", "AWS KMS", &["arn"]);
    other("gcp_kms", "GCP KMS", &["resource_id"]);
    other("azure_kv", "Azure Key Vault", &["vault_url", "name", "version"]);
    other("hc_vault", "HashiCorp Vault", &["vault_address", "engine_path", "key_name"]);
    other("hckms", "Huawei Cloud KMS", &["key_id"]);
    other("pgp", "PGP", &["fp"]);
    all
}

fn open_group(group: &[Master], keys: &Keys) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let mut broken = None;
    for master in group {
        let Master::Age { sealed, .. } = master else { continue };
        match age::open(sealed, &keys.identities) {
            Ok(Some(share)) => return Ok(Some(share)),
            Ok(None) => {}
            Err(why) => broken = Some(failed(why)),
        }
    }
    broken.map_or(Ok(None), Err)
}

/// Why nothing could be opened: for whom it is encrypted, and what was tried.
fn refusal(groups: &[&Vec<Master>], keys: &Keys) -> Error {
    let all = || groups.iter().flat_map(|group| group.iter());
    let recipients: Vec<&str> = all()
        .filter_map(|master| match master {
            Master::Age { recipient, .. } => Some(recipient.as_str()),
            Master::Other { .. } => None,
        })
        .collect();
    let others: Vec<String> = all()
        .filter_map(|master| match master {
            Master::Other { service, id } => Some(format!("{service} ({id})")),
            Master::Age { .. } => None,
        })
        .collect();
    if recipients.is_empty() {
        let why = format!("it is encrypted for {} only, and only age is supported", others.join(", "));
        return failed(why)
            .hint("sops updatekeys, with an age recipient in .sops.yaml; driftless explain DL0212");
    }
    let also = if others.is_empty() { String::new() } else { format!(" (and {})", others.join(", ")) };
    let whom = format!("it is encrypted for the age recipients {}{also}", recipients.join(", "));
    match keys.identities.len() {
        0 => failed(format!("{whom}, and no age identity is given")),
        1 => failed(format!("{whom}, and the identity given is none of them")),
        count => failed(format!("{whom}, and none of the {count} identities given is one of them")),
    }
}
