//! TOML: written as the library BurntSushi/toml does, read by the crate.

use std::collections::BTreeMap;

use toml::Value as Toml;

use super::any;
use crate::render::template::value::{MAX_TEXT, Value, go_float};

/// A document; what cannot be one is told in its place, as Helm does.
pub(super) fn write(arguments: &[Value]) -> Result<Value, String> {
    let value = any(arguments, 0);
    if value.is_nil() {
        return Err("reflect: call of reflect.Value.Type on zero Value".to_owned());
    }
    let mut writer = Writer { out: String::new(), depth: 0 };
    let done = writer.encode(&[], value);
    Ok(Value::text(match done {
        Ok(()) => writer.out,
        Err(why) => why,
    }))
}

/// A document as a map, with what is wrong under `Error`.
pub(super) fn read(given: &str) -> Value {
    match given.parse::<toml::Table>() {
        Ok(table) => table_value(table),
        Err(error) => {
            let line = error.span().map_or(1, |span| 1 + given[..span.start].matches('\n').count());
            let why = format!("toml: line {line}: {}", error.message());
            Value::map(BTreeMap::from([("Error".to_owned(), Value::text(why))]))
        }
    }
}

fn table_value(table: toml::Table) -> Value {
    Value::map(table.into_iter().map(|(name, value)| (name, from(value))).collect())
}

fn from(value: Toml) -> Value {
    match value {
        Toml::String(text) => Value::text(text),
        Toml::Integer(number) => Value::Long(number),
        Toml::Float(number) => Value::Float(number),
        Toml::Boolean(value) => Value::Bool(value),
        // Go keeps a time here; as JSON and YAML it is this text.
        Toml::Datetime(at) => Value::text(at.to_string()),
        Toml::Array(items) => Value::list(items.into_iter().map(from).collect()),
        Toml::Table(table) => table_value(table),
    }
}

struct Writer {
    out: String,
    depth: usize,
}

type Result<T, E = String> = std::result::Result<T, E>;

fn is_table(value: &Value) -> bool {
    value.fields().is_some() || matches!(value, Value::Object(object) if object.json().is_object())
}

/// A list of nothing but tables; a nil in a list has no form.
fn is_table_list(value: &Value) -> Result<bool> {
    let Some(items) = value.items() else { return Ok(false) };
    if items.iter().any(Value::is_nil) {
        return Err("toml: cannot encode array with nil element".to_owned());
    }
    Ok(!items.is_empty() && items.iter().all(is_table))
}

impl Writer {
    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > 200 || self.out.len() > MAX_TEXT {
            return Err("toml: the value is too large, or holds itself".to_owned());
        }
        Ok(())
    }

    fn newline(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn indent(&mut self, path: &[&str]) {
        (1..path.len()).for_each(|_| self.out.push_str("  "));
    }

    fn encode(&mut self, path: &[&str], value: &Value) -> Result<()> {
        self.deeper()?;
        if let Value::Object(object) = value {
            let plain = Value::from_json(&object.json());
            self.encode(path, &plain)?;
        } else if value.is_nil() {
        } else if is_table_list(value)? {
            if path.is_empty() {
                return Err("toml: top-level values must be Go maps or structs".to_owned());
            }
            for item in value.items().unwrap_or_default() {
                self.newline();
                self.indent(path);
                self.out.push_str(&format!("[[{}]]", dotted(path)));
                self.newline();
                self.table(path, item)?;
            }
        } else if value.fields().is_some() {
            if path.len() == 1 {
                self.newline();
            }
            if !path.is_empty() {
                self.indent(path);
                self.out.push_str(&format!("[{}]", dotted(path)));
                self.newline();
            }
            self.table(path, value)?;
        } else {
            self.pair(path, value, false)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Plain entries first: behind the head of a table they would be its.
    fn table(&mut self, path: &[&str], value: &Value) -> Result<()> {
        for (name, value) in entries(value)? {
            let inner: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            self.encode(&inner, &value)?;
        }
        Ok(())
    }

    fn pair(&mut self, path: &[&str], value: &Value, inline: bool) -> Result<()> {
        let Some(name) = path.last() else { return self.element(value) };
        self.indent(path);
        self.out.push_str(&format!("{} = ", key(name)));
        self.element(value)?;
        if !inline {
            self.newline();
        }
        Ok(())
    }

    fn element(&mut self, value: &Value) -> Result<()> {
        self.deeper()?;
        match value {
            Value::Missing | Value::Nil => return Err("toml: cannot encode nil".to_owned()),
            Value::Bool(_) | Value::Int(_) | Value::Long(_) => self.out.push_str(&value.print()),
            Value::Float(number) => {
                let text = match *number {
                    number if number.is_nan() => "nan".to_owned(),
                    number if number.is_infinite() => if number > 0.0 { "inf" } else { "-inf" }.to_owned(),
                    number => go_float(number),
                };
                self.out.push_str(&text);
                if number.is_finite() && !text.contains(['e', '.']) {
                    self.out.push_str(".0");
                }
            }
            Value::Text(text) => self.out.push_str(&quoted(text)),
            Value::Bytes(_) => return Err(crate::render::template::value::NOT_TEXT.to_owned()),
            Value::Object(object) => {
                let plain = Value::from_json(&object.json());
                self.element(&plain)?;
            }
            value => {
                if let Some(items) = value.items() {
                    self.out.push('[');
                    for (place, item) in items.iter().enumerate() {
                        if place > 0 {
                            self.out.push_str(", ");
                        }
                        self.element(item)?;
                    }
                    self.out.push(']');
                } else {
                    self.out.push('{');
                    for (place, (name, value)) in entries(value)?.into_iter().enumerate() {
                        if place > 0 {
                            self.out.push_str(", ");
                        }
                        self.pair(&[name.as_str()], &value, true)?;
                    }
                    self.out.push('}');
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }
}

/// Entries that are not nil, plain ones before tables.
fn entries(value: &Value) -> Result<Vec<(String, Value)>> {
    let plain = match value {
        Value::Object(object) => Value::from_json(&object.json()),
        value => value.clone(),
    };
    let (mut direct, mut below) = (Vec::new(), Vec::new());
    let Some(fields) = plain.fields() else { return Ok(direct) };
    for (name, value) in fields.borrow().iter().filter(|(_, value)| !value.is_nil()) {
        let nested = is_table(value) || is_table_list(value)?;
        if nested { &mut below } else { &mut direct }.push((name.clone(), value.clone()));
    }
    direct.append(&mut below);
    Ok(direct)
}

fn key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { quoted(name) }
}

fn dotted(path: &[&str]) -> String {
    path.iter().map(|name| key(name)).collect::<Vec<_>>().join(".")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
