//! Values that no text may show.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

/// What stands for a secret value.
pub const MASK: &str = "***";

/// From this many bytes on, a value is also sought inside of longer texts; a shorter one must be the whole text or
/// a whole word of it, or every digit of a report would be masked.
const LONG: usize = 4;
/// Lines of this many bytes are sought by themselves, for messages that quote one line of a longer text; runs of
/// base64 of this length are decoded.
const LINE: usize = 8;

/// What was decrypted for a render or came from a Secret. Wherever its objects are shown, these values are not: as
/// they are, in base64, inside a longer text, as one line of several.
#[derive(Clone, Default)]
pub struct Confidential(Arc<Words>);

#[derive(Clone, Default)]
struct Words {
    /// Every spelling of at least [`LONG`] bytes.
    long: BTreeSet<Word>,
    /// What they begin with, so that a text is searched once, however many there are.
    starts: HashSet<[u8; LONG]>,
    short: BTreeSet<Word>,
}

/// Wiped when dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Word(Vec<u8>);

impl Drop for Word {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Words {
    fn put(&mut self, text: &str) {
        let bytes = text.as_bytes();
        match bytes.first_chunk::<LONG>() {
            Some(start) => {
                self.starts.insert(*start);
                self.long.insert(Word(bytes.to_vec()));
            }
            None if bytes.is_empty() => {}
            None => {
                self.short.insert(Word(bytes.to_vec()));
            }
        }
    }

    /// The length of the longest word that stands here.
    fn here(&self, rest: &[u8]) -> Option<usize> {
        let start = rest.first_chunk::<LONG>().filter(|start| self.starts.contains(*start))?;
        let from = Word(start.to_vec());
        let same = self.long.range(from..).take_while(|word| word.0.starts_with(start));
        same.filter(|word| rest.starts_with(&word.0)).map(|word| word.0.len()).max()
    }

    fn are_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        (0..bytes.len()).any(|at| self.here(&bytes[at..]).is_some())
            || self.short.iter().any(|word| {
                let word = std::str::from_utf8(&word.0).unwrap_or_default();
                text == word || (text.len() > LONG && has_word(text, word))
            })
    }
}

impl Confidential {
    /// Adds a value; an empty one hides nothing.
    pub fn add(&mut self, value: &str) {
        let trimmed = value.trim();
        if trimmed.is_empty() {
            return;
        }
        let words = Arc::make_mut(&mut self.0);
        let lines = trimmed.lines().map(str::trim).filter(|line| line.len() >= LINE && *line != trimmed);
        for text in [value, trimmed].into_iter().chain(lines) {
            let json = Zeroizing::new(Value::from(text).to_string());
            words.put(&json[1..json.len() - 1]);
            words.put(text);
        }
        words.put(&Zeroizing::new(STANDARD.encode(value)));
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            self.0 = other.0.clone();
        } else if !Arc::ptr_eq(&self.0, &other.0) && !other.is_empty() {
            let words = Arc::make_mut(&mut self.0);
            words.long.extend(other.0.long.iter().cloned());
            words.short.extend(other.0.short.iter().cloned());
            words.starts.extend(&other.0.starts);
        }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.long.is_empty() && self.0.short.is_empty()
    }

    /// Whether a text is one of the values or holds one.
    pub fn is_in(&self, text: &str) -> bool {
        if self.is_empty() || text.is_empty() {
            return false;
        }
        if self.0.are_in(text) {
            return true;
        }
        let compact: String = text.split_ascii_whitespace().collect();
        let decoded = STANDARD.decode(compact).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.is_some_and(|text| self.0.are_in(&text))
    }

    /// Whether any text, number or truth value in this is to be hidden.
    pub fn touches(&self, value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::String(text) => self.is_in(text),
            Value::Array(items) => items.iter().any(|item| self.touches(item)),
            Value::Object(fields) => fields.values().any(|field| self.touches(field)),
            other => !self.is_empty() && self.is_in(&other.to_string()),
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
        if self.is_empty() {
            return text.to_owned();
        }
        let mut clean = String::with_capacity(text.len());
        let (mut at, mut from) = (0, 0);
        while at < text.len() {
            let Some(length) = self.0.here(&text.as_bytes()[at..]) else {
                at += 1;
                continue;
            };
            // Both ends of a word that stands here are ends of characters.
            clean.push_str(text.get(from..at).unwrap_or_default());
            clean.push_str(MASK);
            at += length;
            from = at;
        }
        clean.push_str(text.get(from..).unwrap_or_default());
        for word in &self.0.short {
            clean = without_word(&clean, std::str::from_utf8(&word.0).unwrap_or_default());
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
        write!(f, "Confidential({} words)", self.0.long.len() + self.0.short.len())
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
        let shown = format!("{secret:?}");
        assert!(shown.starts_with("Confidential(") && !shown.contains("hunter"), "{shown}");
        assert_eq!(of(&["grün"]).scrub("ü grün ü grünlich"), "ü *** ü ***lich");
    }

    #[test]
    fn many_values_cost_no_more_than_one() {
        let mut many = Confidential::default();
        (0..5_000).for_each(|number| many.add(&format!("value number {number}")));
        let begin = std::time::Instant::now();
        let text = "a line of a report that holds nothing of it. ".repeat(2_000);
        assert!(!many.is_in(&text) && many.is_in(&format!("{text}value number 777")));
        assert_eq!(many.scrub(&text), text);
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
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
