//! Paths and URLs.

use std::collections::BTreeMap;

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
        "urlParse" => parse(path),
        "urlJoin" => Ok(Value::text(join(any(arguments, 0)))),
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

fn parse(text: &str) -> Result<Value, String> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let scheme = rest.split_once(':').filter(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    let (scheme, rest) = scheme.unwrap_or(("", rest));
    let (mut user, mut host, mut path, mut opaque) =
        (String::new(), String::new(), rest.to_owned(), String::new());
    if let Some(authority) = rest.strip_prefix("//") {
        let (authority, tail) = authority.find('/').map_or((authority, ""), |at| authority.split_at(at));
        tail.clone_into(&mut path);
        match authority.rsplit_once('@') {
            Some((before, after)) => {
                before.clone_into(&mut user);
                after.clone_into(&mut host);
            }
            None => authority.clone_into(&mut host),
        }
    } else if !scheme.is_empty() && !rest.starts_with('/') {
        opaque = std::mem::take(&mut path);
    }
    if path.chars().any(char::is_control) {
        return Err(format!(
            "unable to parse url: parse {text:?}: net/url: invalid control character in URL"
        ));
    }
    let hostname = if host.starts_with('[') {
        host.split(']').next().unwrap_or(&host).trim_start_matches('[').to_owned()
    } else {
        host.rsplit_once(':').map_or(host.clone(), |(name, _)| name.to_owned())
    };
    let fields = [
        ("scheme", scheme.to_lowercase()),
        ("host", host),
        ("hostname", hostname),
        ("path", path),
        ("query", query.to_owned()),
        ("opaque", opaque),
        ("fragment", fragment.to_owned()),
        ("userinfo", user),
    ];
    let fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(name, text)| (name.to_owned(), Value::text(text))).collect();
    Ok(Value::map(fields))
}

fn join(value: &Value) -> String {
    let fields = value.fields().cloned().unwrap_or_default();
    let get = |name: &str| {
        fields.borrow().get(name).filter(|value| !value.is_nil()).map(Value::print).unwrap_or_default()
    };
    let mut out = String::new();
    if !get("scheme").is_empty() {
        out.push_str(&format!("{}:", get("scheme")));
    }
    if get("opaque").is_empty() {
        if !get("host").is_empty() || !get("userinfo").is_empty() || get("scheme") == "file" {
            out.push_str("//");
            if !get("userinfo").is_empty() {
                out.push_str(&format!("{}@", get("userinfo")));
            }
            out.push_str(&get("host"));
        }
        let path = get("path");
        if !path.is_empty() && !path.starts_with('/') && !get("host").is_empty() {
            out.push('/');
        }
        out.push_str(&path);
    } else {
        out.push_str(&get("opaque"));
    }
    if !get("query").is_empty() {
        out.push_str(&format!("?{}", get("query")));
    }
    if !get("fragment").is_empty() {
        out.push_str(&format!("#{}", get("fragment")));
    }
    out
}
