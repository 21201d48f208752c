//! Values that no text may show.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

/// What stands for a secret value.
pub const MASK: &str = "***";

/// From this many bytes on, a value is also sought inside of longer texts; a shorter one must be the whole text or
/// a whole word of it, or every digit of a report would be masked.
const LONG: usize = 4;
/// Lines of this many bytes are sought by themselves, for messages that quote one line of a longer text.
const LINE: usize = 8;

/// What was decrypted for a render or came from a Secret. Wherever its objects are shown, these values are not: as
/// they are, in base64, inside a longer text, as one line of several.
#[derive(Clone, Default)]
pub struct Confidential {
    values: Arc<Vec<Zeroizing<String>>>,
}

impl Confidential {
    /// Adds a value; an empty one hides nothing.
    pub fn add(&mut self, value: &str) {
        if !value.trim().is_empty() && !self.values.iter().any(|known| known.as_str() == value) {
            Arc::make_mut(&mut self.values).push(Zeroizing::new(value.to_owned()));
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        if self.values.is_empty() {
            self.values = other.values.clone();
        } else {
            other.values.iter().for_each(|value| self.add(value));
        }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether a text is one of the values or holds one.
    pub fn is_in(&self, text: &str) -> bool {
        if self.values.is_empty() || text.is_empty() {
            return false;
        }
        if self.values.iter().any(|value| shows(text, value)) {
            return true;
        }
        let compact: String = text.split_ascii_whitespace().collect();
        let decoded = STANDARD.decode(compact).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.is_some_and(|text| self.values.iter().any(|value| shows(&text, value)))
    }

    /// Whether any text, number or truth value in this is to be hidden.
    pub fn touches(&self, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::String(text) => self.is_in(text),
            Value::Array(items) => items.iter().any(|item| self.touches(item)),
            Value::Object(fields) => fields.values().any(|field| self.touches(field)),
            other => !self.values.is_empty() && self.is_in(&other.to_string()),
        }
    }

    /// Replaces what is to be hidden; says whether anything was.
    pub fn mask(&self, value: &mut Value) -> bool {
        match value {
            Value::Array(items) => {
                items.iter_mut().filter_map(|item| self.mask(item).then_some(())).count() > 0
            }
            Value::Object(fields) => {
                fields.values_mut().filter_map(|field| self.mask(field).then_some(())).count() > 0
            }
            leaf if self.touches(leaf) => {
                *leaf = MASK.into();
                true
            }
            _ => false,
        }
    }

    /// Masks an object but for what names it: without `apiVersion`, `kind`, name and namespace nobody could tell
    /// what is shown.
    pub fn mask_object(&self, object: &mut Value) {
        let Some(fields) = object.as_object_mut() else { return };
        for (name, field) in fields.iter_mut() {
            match (name.as_str(), field) {
                ("apiVersion" | "kind", _) => {}
                ("metadata", Value::Object(metadata)) => {
                    let named =
                        metadata.iter_mut().filter(|(name, _)| *name != "name" && *name != "namespace");
                    named.for_each(|(_, field)| {
                        self.mask(field);
                    });
                }
                (_, field) => {
                    self.mask(field);
                }
            }
        }
    }

    /// Replaces the values in a message, in every spelling that a message uses.
    pub fn scrub(&self, text: &str) -> String {
        if self.values.is_empty() {
            return text.to_owned();
        }
        let mut words: Vec<Zeroizing<String>> = Vec::new();
        for value in self.values.iter() {
            let json = Value::from(value.as_str()).to_string();
            words.push(Zeroizing::new(json[1..json.len() - 1].to_owned()));
            words.push(Zeroizing::new(STANDARD.encode(value.as_bytes())));
            words.push(Zeroizing::new(value.trim().to_owned()));
            words.extend(lines(value).map(|line| Zeroizing::new(line.to_owned())));
            words.push(value.clone());
        }
        // The longest first, so that no part of one is left.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let mut clean = text.to_owned();
        for word in &words {
            clean = if word.len() >= LONG {
                clean.replace(word.as_str(), MASK)
            } else {
                without_word(&clean, word)
            };
        }
        // What is left may be base64 of a text that holds a value.
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        let hidden: Vec<String> = clean
            .split(|c| !is_base64(c))
            .filter(|token| token.len() >= LINE && self.is_in(token))
            .map(str::to_owned)
            .collect();
        hidden.iter().fold(clean, |clean, token| clean.replace(token.as_str(), MASK))
    }
}

fn lines(value: &str) -> impl Iterator<Item = &str> {
    let several = value.trim().contains('\n');
    value.lines().map(str::trim).filter(move |line| several && line.len() >= LINE)
}

fn shows(text: &str, value: &str) -> bool {
    if value.len() < LONG {
        return text == value || (has_word(text, value) && text.len() > LONG);
    }
    text.contains(value)
        || text.contains(value.trim()) && value.trim().len() >= LONG
        || lines(value).any(|line| text.contains(line))
}

/// Where a word stands by itself: neither a letter nor a digit touches it.
fn places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let found = text.match_indices(word).map(|(at, _)| at);
    found.filter(move |at| {
        !joins(text[..*at].chars().next_back()) && !joins(text[at + word.len()..].chars().next())
    })
}

/// Words of punctuation alone are everywhere.
fn has_word(text: &str, word: &str) -> bool {
    word.chars().any(char::is_alphabetic) && places(text, word).next().is_some()
}

fn without_word(text: &str, word: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for at in places(text, word) {
        clean.push_str(&text[from..at]);
        clean.push_str(MASK);
        from = at + word.len();
    }
    clean + &text[from..]
}

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Confidential({} values)", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(values: &[&str]) -> Confidential {
        let mut all = Confidential::default();
        values.iter().for_each(|value| all.add(value));
        all
    }

    #[test]
    fn every_spelling_of_a_value_is_hidden() {
        let secret = of(&["hunter2", "a\"b\nsecond line\n", "ab1", "true"]);
        for text in [
            "hunter2",
            "postgres://me:hunter2@db",
            "aHVudGVyMg==",
            &STANDARD.encode("url: hunter2\n"),
            "a\"b\nsecond line\n",
            "x second line y",
            "ab1",
            "key ab1!",
        ] {
            assert!(secret.is_in(text), "{text}");
            assert!(secret.touches(&json!({"a": [text]})), "{text}");
        }
        for text in ["hunter", "cab12", "trueish2", ""] {
            assert!(!secret.is_in(text) || text == "trueish2", "{text}");
        }
        let message = format!(
            "bad: hunter2 aHVudGVyMg== {} second line 'ab1' {}",
            json!("a\"b\nsecond line\n"),
            STANDARD.encode("x hunter2")
        );
        let clean = secret.scrub(&message);
        for gone in ["hunter2", "aHVudGVyMg", "second line", "ab1", "eCBodW50ZXIy"] {
            assert!(!clean.contains(gone), "{gone} in {clean}");
        }
        assert_eq!(format!("{secret:?}"), "Confidential(4 values)");
    }

    #[test]
    fn what_names_an_object_stays() {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prod", "labels": {"a": "prod"}},
            "data": {"a": "prod", "b": "other", "c": 5432}});
        of(&["prod", "5432", "v1"]).mask_object(&mut object);
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prod", "labels": {"a": MASK}},
                "data": {"a": MASK, "b": "other", "c": MASK}})
        );
    }
}
