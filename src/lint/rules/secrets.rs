//! Secrets that anybody who reads the repository can read.

use base64::Engine as _;
use serde_json::Value;

use crate::lint::rule::{Out, rules};
use crate::lint::set::Subject;

rules! { "Secrets":
    SECRET_IN_CLEAR "secret-in-clear" Warning Certain
        "a Secret whose value stands in Git in clear"
        "Base64 is no encryption: whoever can read the repository, or ever could, has the value. Encrypt the file with SOPS (docs/secrets.md), or keep a SealedSecret or ExternalSecret in its place, and change the value. For an example file, suppress this rule in it."
}

/// What people write where a value comes later.
const PLACEHOLDERS: &[&str] =
    &["changeme", "change-me", "replaceme", "replace-me", "placeholder", "todo", "xxx", "example"];

pub(super) fn check(subject: &Subject, out: &mut Out) {
    if !subject.is("", "Secret") {
        return;
    }
    for field in ["data", "stringData"] {
        let path = format!("/{field}");
        let values = subject.at(&path).and_then(Value::as_object).into_iter().flatten();
        let mut keys: Vec<&str> = values
            .filter(|(_, value)| value.as_str().is_some_and(|text| holds(text, field == "data")))
            .map(|(key, _)| key.as_str())
            .collect();
        keys.sort_unstable();
        if !keys.is_empty() {
            out.add(&SECRET_IN_CLEAR, path, format!("{} of this Secret can be read in Git", keys.join(", ")));
        }
    }
}

/// Whether a text is a value and no place for one.
fn holds(text: &str, encoded: bool) -> bool {
    let decoded =
        encoded.then(|| base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()).flatten();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.as_deref().unwrap_or(text).trim();
    let lower = text.to_ascii_lowercase();
    let mark = ["{{", "${", "$(", "<", "ENC["].iter().any(|mark| text.starts_with(mark));
    !text.is_empty() && !mark && !PLACEHOLDERS.iter().any(|word| lower == *word)
}
