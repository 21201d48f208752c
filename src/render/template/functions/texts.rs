//! Texts.

use std::collections::BTreeMap;

use super::{Called, any, int, text};
use crate::render::template::value::Value;

/// Longest text that `repeat` and `indent` make.
const MAX_TEXT: usize = 16 << 20;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let one = text(arguments, 0);
    let other = text(arguments, 1);
    let count = |at: usize| usize::try_from(int(arguments, at));
    let give = |text: String| Ok(Value::text(text));
    Some(match name {
        "hello" => give("Hello!".to_owned()),
        "trim" => give(one.trim().to_owned()),
        "upper" => give(one.chars().map(upper).collect()),
        "lower" => give(one.chars().map(lower).collect()),
        "title" => give(title(one)),
        "untitle" => give(first_of_words(one, char::to_lowercase)),
        "swapcase" => give(swap_case(one)),
        "nospace" => give(without_blanks(one)),
        "initials" => give(initials(one)),
        "snakecase" => give(super::words::joined(one, '_')),
        "kebabcase" => give(super::words::joined(one, '-')),
        "camelcase" => give(super::words::camel(one)),
        "abbrev" => give(abbreviate(count(0).unwrap_or(0), one_at(arguments, 1))),
        "abbrevboth" => give(abbreviate_both(int(arguments, 0), int(arguments, 1), text(arguments, 2))),
        "trunc" => Ok(truncated(int(arguments, 0), other)),
        "substr" => substring(int(arguments, 0), int(arguments, 1), text(arguments, 2)),
        "repeat" => match count(0) {
            Ok(times) if times.saturating_mul(other.len()) <= MAX_TEXT => give(other.repeat(times)),
            Ok(_) => Err(TOO_LONG.to_owned()),
            Err(_) => Err("strings: negative Repeat count".to_owned()),
        },
        "trimall" | "trimAll" => give(other.trim_matches(|c| one.contains(c)).to_owned()),
        "trimSuffix" => give(other.strip_suffix(one).unwrap_or(other).to_owned()),
        "trimPrefix" => give(other.strip_prefix(one).unwrap_or(other).to_owned()),
        "contains" => Ok(Value::Bool(other.contains(one))),
        "hasPrefix" => Ok(Value::Bool(other.starts_with(one))),
        "hasSuffix" => Ok(Value::Bool(other.ends_with(one))),
        "replace" => replaced(text(arguments, 2), one, other).map(Value::text),
        "indent" | "nindent" => indented(name, int(arguments, 0), other).map(Value::text),
        "plural" => give(if int(arguments, 2) == 1 { one } else { other }.to_owned()),
        "quote" => {
            let texts = arguments.iter().filter(|value| !value.is_nil()).map(Value::as_text);
            texts.collect::<Result<Vec<_>, _>>().and_then(|texts| listed(&texts, super::quoted))
        }
        "squote" => listed(arguments, |text| format!("'{text}'")),
        "cat" => listed(arguments, str::to_owned),
        "toString" => any(arguments, 0).as_text(),
        "toStrings" => strings(any(arguments, 0)).map(Value::texts),
        "join" => strings(any(arguments, 1)).and_then(|all| bounded(&all, one)).map(Value::text),
        "sortAlpha" => match any(arguments, 0) {
            list if list.items().is_some() => strings(list).map(|mut all| {
                all.sort();
                Value::texts(all)
            }),
            value => value.show().map(|text| Value::texts([text])),
        },
        "splitList" => Ok(Value::texts(split(other, one))),
        "split" => Ok(numbered(split(other, one))),
        "splitn" => {
            let limit = int(arguments, 1);
            let all = match usize::try_from(limit) {
                Ok(0) => Vec::new(),
                Ok(limit) => text(arguments, 2).splitn(limit, one).map(str::to_owned).collect(),
                Err(_) => split(text(arguments, 2), one),
            };
            Ok(numbered(all))
        }
        "atoi" => Ok(Value::Int(one.parse().unwrap_or(0))),
        "wrap" => give(wrap(other, count(0).unwrap_or(1).max(1), "\n", false)),
        "wrapWith" => give(wrap(text(arguments, 2), count(0).unwrap_or(1).max(1), other, true)),
        "getHostByName" => give(String::new()),
        _ => return None,
    })
}

fn one_at(arguments: &[Value], at: usize) -> &str {
    text(arguments, at)
}

/// Go maps one character to one.
pub(super) fn upper(c: char) -> char {
    one_for_one(c, c.to_uppercase())
}

pub(super) fn lower(c: char) -> char {
    if c == 'İ' { 'i' } else { one_for_one(c, c.to_lowercase()) }
}

fn one_for_one(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(mapped), None) => mapped,
        _ => c,
    }
}

/// Go's function reads bytes for characters; a text that has no blanks is left as it is.
fn without_blanks(text: &str) -> String {
    let blank = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0x0b | 0x85 | 0xa0);
    if !text.bytes().any(blank) {
        return text.to_owned();
    }
    text.bytes().filter(|byte| !blank(*byte)).map(char::from).collect()
}

/// The first letter of each word: Go's function takes a byte for it.
fn initials(text: &str) -> String {
    text.split_whitespace().filter_map(|word| word.bytes().next()).map(char::from).collect()
}

/// Arguments that are not nil, each as a text, with blanks between.
fn listed(arguments: &[Value], show: fn(&str) -> String) -> Result<Value, String> {
    let shown = arguments.iter().filter(|value| !value.is_nil());
    let all = shown.map(|value| Ok(show(&value.show()?))).collect::<Result<Vec<_>, String>>()?;
    bounded(&all, " ").map(Value::text)
}

/// Texts with something between, if that is not too long.
fn bounded(all: &[String], between: &str) -> Result<String, String> {
    let length: usize = all.iter().map(|text| text.len() + between.len()).sum();
    if length > MAX_TEXT { Err(TOO_LONG.to_owned()) } else { Ok(all.join(between)) }
}

const TOO_LONG: &str = "the text would be longer than 16 MiB";

fn replaced(source: &str, old: &str, new: &str) -> Result<String, String> {
    let found = if old.is_empty() { source.chars().count() + 1 } else { source.matches(old).count() };
    if source.len().saturating_add(found.saturating_mul(new.len())) > MAX_TEXT {
        return Err(TOO_LONG.to_owned());
    }
    Ok(source.replace(old, new))
}

fn indented(name: &str, spaces: i64, source: &str) -> Result<String, String> {
    let Ok(spaces) = usize::try_from(spaces) else { return Err("strings: negative Repeat count".to_owned()) };
    let lines = 1 + source.matches('\n').count();
    if spaces.saturating_mul(lines).saturating_add(source.len()) > MAX_TEXT {
        return Err(TOO_LONG.to_owned());
    }
    let pad = " ".repeat(spaces);
    let mut out = String::with_capacity(1 + source.len() + spaces * lines);
    if name == "nindent" {
        out.push('\n');
    }
    for (number, line) in source.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        out.push_str(&pad);
        out.push_str(line);
    }
    Ok(out)
}

/// Sprig's `strslice`: each item as text, nil left out.
fn strings(value: &Value) -> Result<Vec<String>, String> {
    let (mut all, mut length) = (Vec::new(), 0);
    let one = std::slice::from_ref(value);
    for item in value.items().unwrap_or(one).iter().filter(|item| !item.is_nil()) {
        let text = item.as_text()?.show()?;
        length += text.len();
        if length > MAX_TEXT {
            return Err(TOO_LONG.to_owned());
        }
        all.push(text);
    }
    Ok(all)
}

fn split(text: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

/// `_0`, `_1`, ...
fn numbered(parts: Vec<String>) -> Value {
    let fields: BTreeMap<String, Value> =
        parts.into_iter().enumerate().map(|(at, part)| (format!("_{at}"), Value::text(part))).collect();
    Value::text_map(fields)
}

fn truncate(count: i64, text: &str) -> String {
    truncated(count, text).print()
}

/// Cut at bytes, as Go cuts: half a character may be left.
fn truncated(count: i64, text: &str) -> Value {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let cut = if count < 0 && length + count > 0 {
        &text.as_bytes()[usize::try_from(length + count).unwrap_or(0)..]
    } else if count >= 0 && length > count {
        &text.as_bytes()[..usize::try_from(count).unwrap_or(0)]
    } else {
        text.as_bytes()
    };
    Value::bytes(cut.to_vec())
}

fn substring(start: i64, end: i64, text: &str) -> Result<Value, String> {
    let bytes = text.as_bytes();
    let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let beyond = |range: String| Err(format!("runtime error: slice bounds out of range {range}"));
    let (from, to) = match (start, end) {
        (..0, ..0) => return beyond(format!("[:{end}]")),
        (..0, _) if end > length => return beyond(format!("[:{end}] with length {length}")),
        (..0, _) => (0, end),
        _ if end < 0 || end > length => (start, length),
        _ => (start, end),
    };
    if from > to {
        return beyond(format!("[{from}:{to}]"));
    }
    let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
    Ok(Value::bytes(bytes[range].to_vec()))
}

/// The first letter of each word in upper case; a word begins behind what is no letter, digit or `_`.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::new();
    for c in text.chars() {
        // Beyond ASCII, all but blanks is a letter to Go here.
        let inside =
            before.is_alphanumeric() || before == '_' || (!before.is_ascii() && !before.is_whitespace());
        if inside {
            out.push(c);
        } else {
            out.push(upper(c));
        }
        before = c;
    }
    out
}

fn first_of_words<I: Iterator<Item = char>>(text: &str, change: fn(char) -> I) -> String {
    let mut begins = true;
    let mut out = String::new();
    for c in text.chars() {
        if begins {
            out.extend(change(c));
        } else {
            out.push(c);
        }
        begins = c.is_whitespace();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}

fn abbreviate(width: usize, text: &str) -> String {
    if width < 4 || text.len() <= width {
        return text.to_owned();
    }
    format!("{}...", truncate(i64::try_from(width).unwrap_or(i64::MAX) - 3, text))
}

fn abbreviate_both(left: i64, right: i64, text: &str) -> String {
    if right < 4 || (left > 0 && right < 7) {
        return text.to_owned();
    }
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if length <= right {
        return text.to_owned();
    }
    let mut offset = left.min(length);
    if length - offset < right - 3 {
        offset = length - (right - 3);
    }
    let cut = |from: i64, to: i64| -> String {
        let bound = |at: i64| usize::try_from(at).unwrap_or(0).min(text.len());
        String::from_utf8_lossy(&text.as_bytes()[bound(from)..bound(to)]).into_owned()
    };
    if offset <= 4 {
        return format!("{}...", cut(0, right - 3));
    }
    if offset + right - 3 < length {
        let inner = cut(offset, length);
        return format!("...{}", abbreviate(usize::try_from(right - 3).unwrap_or(0), &inner));
    }
    format!("...{}", cut(length - (right - 3), length))
}

/// Breaks lines at blanks; with `cut`, words that are too long too.
fn wrap(text: &str, width: usize, newline: &str, cut: bool) -> String {
    let mut rest = text;
    let mut out = String::new();
    while rest.chars().count() > width {
        if let Some(stripped) = rest.strip_prefix(' ') {
            rest = stripped;
            continue;
        }
        let at = |count: usize| rest.char_indices().nth(count).map_or(rest.len(), |(at, _)| at);
        let window = &rest[..at(width + 1)];
        if let Some(space) = window.rfind(' ') {
            out.push_str(&rest[..space]);
            out.push_str(newline);
            rest = &rest[space + 1..];
        } else if cut {
            out.push_str(&rest[..at(width)]);
            out.push_str(newline);
            rest = &rest[at(width)..];
        } else if let Some(space) = rest[at(width)..].find(' ') {
            let end = at(width) + space;
            out.push_str(&rest[..end]);
            out.push_str(newline);
            rest = &rest[end + 1..];
        } else {
            break;
        }
    }
    out + rest
}
