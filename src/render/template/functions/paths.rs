//! Paths.

use super::{Called, any, text};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let path = text(arguments, 0);
    Some(match name {
        "base" | "osBase" => Ok(Value::text(base(path))),
        "dir" | "osDir" => Ok(Value::text(clean(path.rfind('/').map_or("", |at| &path[..=at])))),
        "clean" | "osClean" => Ok(Value::text(clean(path))),
        "ext" | "osExt" => {
            let last = path.rsplit('/').next().unwrap_or(path);
            Ok(Value::text(last.rfind('.').map_or("", |at| &last[at..])))
        }
        "isAbs" | "osIsAbs" => Ok(Value::Bool(path.starts_with('/'))),
        "urlParse" => super::urls::parse(path),
        "urlJoin" => super::urls::join(any(arguments, 0)).map(Value::text),
        _ => return None,
    })
}

fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.last().is_some_and(|last| *last != "..") {
                    parts.pop();
                } else if !rooted {
                    parts.push("..");
                }
            }
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// `url.QueryEscape`.
pub(super) fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
