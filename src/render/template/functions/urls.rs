//! URLs as Go's net/url takes them apart and puts them together.

use std::collections::BTreeMap;

use crate::render::template::value::Value;

type Result<T> = std::result::Result<T, String>;

/// `urlParse`: the parts of a URL.
pub(super) fn parse(text: &str) -> Result<Value> {
    let quoted = super::quoted(text);
    let fields = parts(text).map_err(|why| format!("unable to parse url: parse {quoted}: {why}"))?;
    let fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(name, text)| (name.to_owned(), Value::text(text))).collect();
    Ok(Value::map(fields))
}

fn parts(text: &str) -> Result<[(&'static str, String); 8]> {
    if text.chars().any(|c| c < ' ' || c == '\u{7f}') {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut found = [
        ("scheme", scheme.to_lowercase()),
        ("host", String::new()),
        ("hostname", String::new()),
        ("path", String::new()),
        ("query", query.to_owned()),
        ("opaque", String::new()),
        ("fragment", unescape(fragment, false)?),
        ("userinfo", String::new()),
    ];
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            rest.clone_into(&mut found[5].1);
            return Ok(found);
        }
        let first = rest.split('/').next().unwrap_or(rest);
        if first.contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let mut path = rest;
    if let Some(authority) = rest.strip_prefix("//") {
        let (authority, tail) = authority.find('/').map_or((authority, ""), |at| authority.split_at(at));
        path = tail;
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        user.clone_into(&mut found[7].1);
        found[1].1 = read_host(host)?;
        let name = hostname(&found[1].1).to_owned();
        found[2].1 = name;
    }
    found[3].1 = unescape(path, false)?;
    Ok(found)
}

fn scheme(text: &str) -> Result<(&str, &str)> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn read_host(host: &str) -> Result<String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let good = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !good {
        return Err(format!("invalid port {} after host", super::quoted(port)));
    }
    let strange =
        |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    if let Some(c) = host.chars().find(|c| strange(*c)) {
        return Err(format!("invalid character {} in host name", super::quoted(&c.to_string())));
    }
    unescape(host, true)
}

fn hostname(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    host.split(':').next().unwrap_or(host)
}

/// A text with its escapes read.
fn unescape(text: &str, host: bool) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            // Of ASCII, a host may only escape a percent sign here.
            Some(code) if !host || code >= 0x80 => bytes.push(code),
            _ => {
                let shown: Vec<u8> = std::iter::once(b'%').chain(after.iter().take(2).copied()).collect();
                let shown = String::from_utf8_lossy(&shown).into_owned();
                return Err(format!("invalid URL escape {}", super::quoted(&shown)));
            }
        }
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the URL holds an escape that is not UTF-8".to_owned())
}

/// A text with escapes for what may not stand in a path or fragment.
fn escape(text: &str, also: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `urlJoin`: a URL of parts.
pub(super) fn join(value: &Value) -> Result<String> {
    let fields = value.fields().cloned().unwrap_or_default();
    let get = |name: &str| match fields.borrow().get(name) {
        None => Ok(String::new()),
        Some(Value::Text(text)) => Ok(text.to_string()),
        Some(value) if value.is_nil() => {
            Err("runtime error: invalid memory address or nil pointer dereference".to_owned())
        }
        Some(value) => {
            Err(format!("unable to parse {name} key, must be of type string, but {} found", value.kind()))
        }
    };
    let (scheme, host, path, query) = (get("scheme")?, get("host")?, get("path")?, get("query")?);
    let (opaque, fragment, user) = (get("opaque")?, get("fragment")?, get("userinfo")?);
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(&format!("{scheme}:"));
    }
    if opaque.is_empty() {
        if !scheme.is_empty() || !host.is_empty() || !user.is_empty() {
            if !host.is_empty() || !path.is_empty() || !user.is_empty() {
                out.push_str("//");
            }
            if !user.is_empty() {
                out.push_str(&format!("{user}@"));
            }
            out.push_str(&host);
        }
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        out.push_str(&escape(&path, b""));
    } else {
        out.push_str(&opaque);
    }
    if !query.is_empty() {
        out.push_str(&format!("?{query}"));
    }
    if !fragment.is_empty() {
        out.push_str(&format!("#{}", escape(&fragment, b"!'()*?")));
    }
    Ok(out)
}
