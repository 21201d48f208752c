//! JSON as Go's encoding/json writes it, and what it says of a text that is none.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::render::template::value::MAX_TEXT;

/// A value in one line; with `escape`, `<`, `>` and `&` are written as escapes.
pub(super) fn line(json: &Json, escape: bool) -> Result<String, String> {
    let mut out = String::new();
    write(&mut out, json, escape, None)?;
    Ok(out)
}

/// A value with a step of two blanks.
pub(super) fn pretty(json: &Json) -> Result<String, String> {
    let mut out = String::new();
    write(&mut out, json, true, Some(1))?;
    Ok(out)
}

fn write(out: &mut String, json: &Json, escape: bool, step: Option<usize>) -> Result<(), String> {
    if out.len() > MAX_TEXT {
        return Err("the text would be longer than 16 MiB".to_owned());
    }
    let begin = |out: &mut String, step: usize| {
        out.push('\n');
        (0..step).for_each(|_| out.push_str("  "));
    };
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(value) => match value.as_f64() {
            Some(float) if value.is_f64() => out.push_str(&number(float)),
            _ => drop(write!(out, "{value}")),
        },
        Json::String(value) => text(out, value, escape),
        Json::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                if let Some(step) = step {
                    begin(out, step);
                }
                write(out, item, escape, step.map(|step| step + 1))?;
            }
            if let Some(step) = step.filter(|_| !items.is_empty()) {
                begin(out, step - 1);
            }
            out.push(']');
        }
        Json::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            out.push('{');
            for (place, name) in names.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                if let Some(step) = step {
                    begin(out, step);
                }
                text(out, name, escape);
                out.push_str(if step.is_some() { ": " } else { ":" });
                write(out, &fields[name.as_str()], escape, step.map(|step| step + 1))?;
            }
            if let Some(step) = step.filter(|_| !fields.is_empty()) {
                begin(out, step - 1);
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Digits, and an exponent for the very large and the very small alone.
fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return if value == 0.0 && value.is_sign_negative() { "-0".to_owned() } else { value.to_string() };
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

fn text(out: &mut String, text: &str, escape: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..'\u{20}' | '\u{2028}' | '\u{2029}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            '<' | '>' | '&' if escape => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads a text.
///
/// # Errors
/// In Go's words.
pub(super) fn read(given: &str) -> Result<Json, String> {
    let mut scanner = Scanner { rest: given, depth: 0 };
    scanner.value("looking for beginning of value")?;
    scanner.blanks();
    if let Some(c) = scanner.rest.chars().next() {
        return Err(invalid(c, "after top-level value"));
    }
    serde_json::from_str(given).map_err(|error| error.to_string())
}

struct Scanner<'a> {
    rest: &'a str,
    depth: usize,
}

type Result<T, E = String> = std::result::Result<T, E>;

fn invalid(c: char, context: &str) -> String {
    let shown = match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c => {
            let quoted = super::quoted(&c.to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    };
    format!("invalid character {shown} {context}")
}

impl Scanner<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn next(&mut self) -> Result<char> {
        let c = self.rest.chars().next().ok_or("unexpected end of JSON input")?;
        self.rest = &self.rest[c.len_utf8()..];
        Ok(c)
    }

    fn next_dark(&mut self) -> Result<char> {
        self.blanks();
        self.next()
    }

    fn value(&mut self, context: &str) -> Result<()> {
        match self.next_dark()? {
            '{' => self.object(),
            '[' => self.array(),
            '"' => self.string(),
            't' => self.word("true"),
            'f' => self.word("false"),
            'n' => self.word("null"),
            '-' => match self.next()? {
                c @ '0'..='9' => self.number(c),
                c => Err(invalid(c, "in numeric literal")),
            },
            c @ '0'..='9' => self.number(c),
            c => Err(invalid(c, context)),
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > 120 { Err("exceeded max depth".to_owned()) } else { Ok(()) }
    }

    fn object(&mut self) -> Result<()> {
        self.enter()?;
        let mut first = true;
        loop {
            match self.next_dark()? {
                '"' => self.string()?,
                '}' if first => break,
                c => return Err(invalid(c, "looking for beginning of object key string")),
            }
            first = false;
            match self.next_dark()? {
                ':' => {}
                c => return Err(invalid(c, "after object key")),
            }
            self.value("looking for beginning of value")?;
            match self.next_dark()? {
                ',' => {}
                '}' => break,
                c => return Err(invalid(c, "after object key:value pair")),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self) -> Result<()> {
        self.enter()?;
        self.blanks();
        if let Some(rest) = self.rest.strip_prefix(']') {
            self.rest = rest;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.value("looking for beginning of value")?;
            match self.next_dark()? {
                ',' => {}
                ']' => break,
                c => return Err(invalid(c, "after array element")),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn string(&mut self) -> Result<()> {
        loop {
            match self.next()? {
                '"' => return Ok(()),
                '\\' => match self.next()? {
                    'b' | 'f' | 'n' | 'r' | 't' | '\\' | '/' | '"' => {}
                    'u' => {
                        for _ in 0..4 {
                            let c = self.next()?;
                            if !c.is_ascii_hexdigit() {
                                return Err(invalid(c, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    c => return Err(invalid(c, "in string escape code")),
                },
                c if u32::from(c) < 0x20 => return Err(invalid(c, "in string literal")),
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        for wanted in word.chars().skip(1) {
            // Go looks at a blank where the text ends.
            let c = self.next().unwrap_or(' ');
            if c != wanted {
                return Err(invalid(c, &format!("in literal {word} (expecting '{wanted}')")));
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
    }

    fn number(&mut self, first: char) -> Result<()> {
        if first != '0' {
            self.digits();
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            let c = self.next()?;
            if !c.is_ascii_digit() {
                return Err(invalid(c, "after decimal point in numeric literal"));
            }
            self.digits();
        }
        if let Some(rest) = self.rest.strip_prefix(['e', 'E']) {
            self.rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            let c = self.next()?;
            if !c.is_ascii_digit() {
                return Err(invalid(c, "in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }
}
