//! YAML text as kubectl writes it.
//!
//! The writers at hand leave words bare that YAML 1.1 reads as something else (`n` is false, `1_0` is ten), and
//! none breaks lines where go-yaml does. This one makes the bytes that `kubectl get -o yaml` and `kustomize
//! build` make of the same value: keys in natural order, lists below their key without a step, long text
//! folded behind column 80.

use serde_json::Value;

use super::scalar::{self, Scalar};

/// A plain or quoted text goes on in the next line at the first blank behind this column.
const WIDTH: usize = 80;
/// A longer key stands behind a `?`.
const LONGEST_KEY: usize = 128;

/// One document, without a leading `---`, with a final line break.
pub fn emit(value: &Value) -> String {
    let mut emitter =
        Emitter { out: String::new(), column: 0, indent: None, whitespace: true, indention: true };
    emitter.node(value, Context::Root);
    emitter.write_indent();
    emitter.out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Item,
    Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

struct Emitter {
    out: String,
    /// Characters since the last line break.
    column: usize,
    /// `None` before the first collection.
    indent: Option<usize>,
    /// The last thing written was blank.
    whitespace: bool,
    /// Nothing but indentation and indicators stands in this line.
    indention: bool,
}

impl Emitter {
    fn node(&mut self, value: &Value, context: Context) {
        match value {
            Value::Object(map) if map.is_empty() => self.indicator("{}", true, false),
            Value::Array(list) if list.is_empty() => self.indicator("[]", true, false),
            Value::Object(map) => {
                let outer = self.indent;
                self.indent = Some(outer.map_or(0, |indent| indent + 2));
                let mut keys: Vec<&String> = map.keys().collect();
                sort(&mut keys);
                for key in keys {
                    self.write_indent();
                    self.key(key);
                    if let Some(value) = map.get(key) {
                        self.node(value, Context::Value);
                    }
                }
                self.indent = outer;
            }
            Value::Array(list) => {
                let outer = self.indent;
                let beside = context == Context::Value && !self.indention;
                self.indent = Some(outer.map_or(0, |indent| if beside { indent } else { indent + 2 }));
                for item in list {
                    self.write_indent();
                    self.indicator("-", true, true);
                    self.node(item, Context::Item);
                }
                self.indent = outer;
            }
            Value::String(text) => self.text(text, false),
            Value::Number(number) => {
                let text = match number.as_f64() {
                    Some(float) if number.is_f64() => scalar::go_float(float),
                    _ => number.to_string(),
                };
                self.plain(&text, false);
            }
            Value::Null => self.plain("null", false),
            Value::Bool(value) => self.plain(if *value { "true" } else { "false" }, false),
        }
    }

    fn key(&mut self, key: &str) {
        // go-yaml leaves this word bare, which then is a merge.
        if key == "<<" {
            self.double(key, false);
            self.indicator(":", false, false);
        } else if key.len() <= LONGEST_KEY && !key.chars().any(is_break) {
            self.text(key, true);
            self.indicator(":", false, false);
        } else {
            self.indicator("?", true, true);
            self.text(key, false);
            self.write_indent();
            self.indicator(":", true, true);
        }
    }

    /// `simple` is a key that stands in one line with its colon.
    fn text(&mut self, text: &str, simple: bool) {
        let facts = Facts::of(text);
        let outer = self.indent;
        self.indent = Some(outer.map_or(2, |indent| indent + 2));
        match facts.style(text, simple) {
            Style::Plain => self.plain(text, !simple),
            Style::Single => self.single(text, !simple),
            Style::Double => self.double(text, !simple),
            Style::Literal => self.literal(text),
        }
        self.indent = outer;
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn put_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, apart: bool, is_indention: bool) {
        if apart && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.whitespace = false;
        self.indention = self.indention && is_indention;
    }

    fn plain(&mut self, text: &str, folds: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        let mut after_space = false;
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == ' ' {
                if folds && !after_space && self.column > WIDTH && rest.peek() != Some(&' ') {
                    self.write_indent();
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else {
                self.put(c);
                self.indention = false;
                after_space = false;
            }
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn single(&mut self, text: &str, folds: bool) {
        self.indicator("'", true, false);
        let (mut after_space, mut after_break) = (false, false);
        for (at, c) in text.char_indices() {
            let next = text[at + c.len_utf8()..].chars().next();
            if c == ' ' {
                if folds && !after_space && self.column > WIDTH && at > 0 && !matches!(next, None | Some(' '))
                {
                    self.write_indent();
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else if is_break(c) {
                if !after_break && c == '\n' {
                    self.put_break('\n');
                }
                self.put_break(c);
                self.indention = true;
                after_break = true;
            } else {
                if after_break {
                    self.write_indent();
                }
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.indention = false;
                (after_space, after_break) = (false, false);
            }
        }
        self.indicator("'", false, false);
    }

    fn double(&mut self, text: &str, folds: bool) {
        self.indicator("\"", true, false);
        let all = text.starts_with('\u{feff}');
        let mut after_space = false;
        for (at, c) in text.char_indices() {
            let next = text[at + c.len_utf8()..].chars().next();
            if all || !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                self.escape(c);
                after_space = false;
            } else if c == ' ' {
                if folds && !after_space && self.column > WIDTH && at > 0 && next.is_some() {
                    self.write_indent();
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else {
                self.put(c);
                after_space = false;
            }
        }
        self.indicator("\"", false, false);
    }

    fn escape(&mut self, c: char) {
        self.put('\\');
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' | '\\' => c,
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => {
                let code = u32::from(c);
                let long = match code {
                    0..=0xff => format!("x{code:02X}"),
                    0x100..=0xffff => format!("u{code:04X}"),
                    _ => format!("U{code:08X}"),
                };
                return long.chars().for_each(|c| self.put(c));
            }
        };
        self.put(short);
    }

    fn literal(&mut self, text: &str) {
        self.indicator("|", true, false);
        if text.starts_with(|c| c == ' ' || is_break(c)) {
            self.indicator("2", false, false);
        }
        let mut from_end = text.chars().rev();
        match (from_end.next().is_some_and(is_break), from_end.next()) {
            (false, _) => self.indicator("-", false, false),
            (true, None) => self.indicator("+", false, false),
            (true, Some(before)) if is_break(before) => self.indicator("+", false, false),
            _ => {}
        }
        self.put_break('\n');
        self.indention = true;
        self.whitespace = true;
        let mut at_begin = true;
        for c in text.chars() {
            if is_break(c) {
                self.put_break(c);
                self.indention = true;
                at_begin = true;
            } else {
                if at_begin {
                    self.write_indent();
                }
                self.put(c);
                self.indention = false;
                at_begin = false;
            }
        }
    }
}

/// What can be said of a text that decides its style.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Facts {
    breaks: bool,
    plain: bool,
    single: bool,
    block: bool,
}

impl Facts {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self { breaks: false, plain: true, single: true, block: false };
        }
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut breaks, mut special, mut break_space, mut space_break) = (false, false, false, false);
        let (mut before, mut blank_before) = (None, true);
        for (at, c) in text.char_indices() {
            let next = text[at + c.len_utf8()..].chars().next();
            let blank_after = matches!(next, None | Some(' ' | '\t'));
            indicators |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                | '`'
                    if at == 0 =>
                {
                    true
                }
                '?' | '-' if at == 0 => blank_after,
                ':' => blank_after,
                '#' => blank_before,
                _ => false,
            };
            special |= !is_printable(c);
            if c == ' ' {
                break_space |= before.is_some_and(is_break);
            } else if is_break(c) {
                breaks = true;
                space_break |= before == Some(' ');
            }
            blank_before = matches!(c, ' ' | '\t' | '\0') || is_break(c);
            before = Some(c);
        }
        let edge = |c: char| c == ' ' || is_break(c);
        let edges = text.starts_with(edge) || text.ends_with(edge);
        let broken = space_break || special;
        Self {
            breaks,
            plain: !(edges || break_space || broken || breaks || indicators),
            single: !(break_space || broken),
            block: !(text.ends_with(' ') || broken),
        }
    }

    fn style(&self, text: &str, simple: bool) -> Style {
        let quoted = |single: bool| if single { Style::Single } else { Style::Double };
        if text.contains('\n') {
            return if self.block && !simple { Style::Literal } else { Style::Double };
        }
        if !is_text(text) || (simple && self.breaks) {
            return Style::Double;
        }
        if self.plain && !(text.is_empty() && simple) { Style::Plain } else { quoted(self.single) }
    }
}

/// Whether a bare word is something else than that text to a reader of YAML 1.1: a number, a date, true, null.
pub fn is_ambiguous(text: &str) -> bool {
    !(text.is_empty() || text.contains('\n') || is_text(text) && Facts::of(text).plain)
}

/// Whether go-yaml v2 takes the bare word for a text.
fn is_text(text: &str) -> bool {
    !text.is_empty()
        && matches!(scalar::plain(text), Scalar::Text(_))
        && !scalar::is_timestamp(text)
        && !is_sexagesimal(text)
}

/// `190:20:30`, a number of base 60 to YAML 1.1 readers.
fn is_sexagesimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some((first, rest)) = digits.split_once(':') else { return false };
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !number(first) {
        return false;
    }
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    number(fraction)
        && whole.split(':').all(|part| match part.as_bytes() {
            [one] => one.is_ascii_digit(),
            [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
            _ => false,
        })
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What go-yaml v2 writes as it is; above the basic plane nothing is.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// Sorts keys as go-yaml does. Its order is none (`a10` < `a1b` < `a2` < `a10`), which the standard library's sort
/// may answer with a panic; a plain merge sort gives some order.
fn sort(keys: &mut Vec<&String>) {
    let mut width = 1;
    while width < keys.len() {
        let mut merged = Vec::with_capacity(keys.len());
        for pair in keys.chunks(2 * width) {
            let (mut one, mut other) = pair.split_at(width.min(pair.len()));
            while let (Some((a, one_rest)), Some((b, other_rest))) = (one.split_first(), other.split_first())
            {
                if natural(b, a).is_lt() {
                    merged.push(*b);
                    other = other_rest;
                } else {
                    merged.push(*a);
                    one = one_rest;
                }
            }
            merged.extend(one.iter().chain(other));
        }
        *keys = merged;
        width *= 2;
    }
}

/// The order of keys: letters by code point, runs of digits by their number, anything else before letters.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    if a.is_ascii() && b.is_ascii() && !a.bytes().chain(b.bytes()).any(|byte| byte.is_ascii_digit()) {
        let differ = a.bytes().zip(b.bytes()).find(|(a, b)| a != b);
        return differ.map_or(a.len().cmp(&b.len()), |(a, b)| {
            a.is_ascii_alphabetic().cmp(&b.is_ascii_alphabetic()).then(a.cmp(&b))
        });
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    let letters = (a[at].is_alphabetic(), b[at].is_alphabetic());
    match letters {
        (true, true) => return a[at].cmp(&b[at]),
        (false, false) => {}
        (one, other) => return one.cmp(&other),
    }
    // A zero behind other digits does not lead a number.
    let leads = a[..at].iter().rev().take_while(|c| c.is_numeric()).all(|c| *c == '0');
    let begin = i64::from((a[at] == '0' || b[at] == '0') && !leads);
    let number = |text: &[char]| {
        let digits = text[at..].iter().take_while(|c| c.is_numeric());
        digits.fold((begin, at), |(value, end), c| {
            let digit = i64::from(u32::from(*c)) - i64::from(u32::from('0'));
            (value.wrapping_mul(10).wrapping_add(digit), end + 1)
        })
    };
    match number(&a).cmp(&number(&b)) {
        Ordering::Equal => a[at].cmp(&b[at]),
        unequal => unequal,
    }
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
