//! YAML text that every reader, kubectl included, takes for the same value.
//!
//! Written by us because the writers at hand leave words bare that YAML 1.1 reads as something else: `n` is
//! false, `1_0` is ten. What is bare here is what our own reader takes for the same text.

use serde_json::Value;

use super::scalar::{self, Scalar};

/// One document, without a leading `---`, with a final line break.
pub fn emit(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0);
    if out.starts_with('\n') {
        out.remove(0);
    }
    out
}

/// Writes a value that stands after `key:` or `-`, with its line break. A leading line break is written
/// where the value begins on a line of its own.
fn node(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            for (key, value) in map {
                indent(out, depth);
                entry(out, key, value, depth);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            for item in list {
                indent(out, depth);
                out.push('-');
                match item {
                    // The first key stands beside the dash, the others below it.
                    Value::Object(map) if !map.is_empty() => {
                        out.push(' ');
                        for (number, (key, value)) in map.iter().enumerate() {
                            if number > 0 {
                                indent(out, depth + 1);
                            }
                            entry(out, key, value, depth + 1);
                        }
                    }
                    _ => node(out, item, depth + 1),
                }
            }
        }
        Value::String(text) if is_block(text) => {
            // "-" keeps the end as it is, "+" keeps all line breaks.
            out.push_str(match text.strip_suffix('\n') {
                None => " |-\n",
                Some(rest) if rest.ends_with('\n') => " |+\n",
                Some(_) => " |\n",
            });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                if !line.is_empty() {
                    indent(out, depth.max(1));
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        scalar => {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
}

fn entry(out: &mut String, key: &str, value: &Value, depth: usize) {
    out.push_str(&text(key));
    out.push(':');
    // kubectl's own style: a list stands below its key without a further step.
    let step = usize::from(!value.is_array());
    node(out, value, depth + step);
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        // Empty collections, numbers, null and booleans are written as JSON writes them.
        other => other.to_string(),
    }
}

/// Whether a text of several lines can stand as a literal block: nothing in it that the form would change.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|c| c == '\n' || is_printable(c))
        && !text.split('\n').any(|line| line.ends_with([' ', '\t']) || line.starts_with('\t'))
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// A text, bare where that means the same.
fn text(value: &str) -> String {
    if is_plain(value) {
        return value.to_owned();
    }
    if !value.is_empty() && value.chars().all(is_printable) && !value.contains('"') {
        return format!("'{}'", value.replace('\'', "''"));
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) <= 0xff => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

fn is_plain(value: &str) -> bool {
    let Some(first) = value.chars().next() else { return false };
    let begins_well = first.is_alphanumeric() || matches!(first, '/' | '_' | '.' | '$' | '(' | '^' | '+');
    begins_well
        && value.chars().all(is_printable)
        && !value.ends_with([' ', ':'])
        && !value.contains(": ")
        && !value.contains(" #")
        && !value.starts_with("...")
        // A date is text to kubectl and a date to others.
        && !(value.len() >= 5 && value.as_bytes()[4] == b'-' && value.as_bytes()[..4].iter().all(u8::is_ascii_digit))
        && matches!(scalar::plain(value), Scalar::Text(same) if same == value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::yaml::read;

    fn value() -> impl Strategy<Value = Value> {
        let nasty = prop::sample::select(vec![
            "yes",
            "no",
            "on",
            "y",
            "N",
            "n",
            "Y",
            "NO",
            "a\n\n",
            "\na",
            "a\n b",
            "a \nb",
            "a: ",
            "a:",
            "x #y",
            "+1",
            "1e",
            "0b1",
            "0o7",
            "1:2:3",
            "a\u{7f}",
            "-1",
            "=a",
            "1_000",
            "<<",
            "0644",
            "1e3",
            "~",
            "null",
            "2024-01-02",
            "",
            " a",
            "a ",
            "#a",
            "a: b",
            "- a",
            "a\nb",
            "a\nb\n",
            "\t",
            ".inf",
            "0x1F",
            "true",
            "'",
            "\"",
            "!a",
            "&a",
            "*a",
            "%a",
            "@a",
            "`",
            "1.10",
            "12:30",
            "=",
            "\u{feff}",
            "a\rb",
            "\u{85}",
            "\u{2028}",
            "---",
            "...",
            "?",
            "{",
            "[",
            "|",
            ">",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            nasty.prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-z<~0-9. -]{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in value()) {
            let wrapped = serde_json::json!({"v": value});
            let text = emit(&wrapped);
            let read = read(text.as_bytes(), "f").map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].value, &wrapped, "{}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, "f");
        }

        #[test]
        fn no_soup_of_tokens_makes_it_panic(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "a", ": ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "&x ", "*x", "<<", "!!int ", "!t ", "|\n", ">\n",
                "'", "\"", "---\n", "...\n", "? ", "#", "\t", "0x", "1e9", "~", "%YAML 1.1\n", "\r\n",
            ]), 0..40)
        ) {
            let _ = read(tokens.concat().as_bytes(), "f");
        }
    }
}
