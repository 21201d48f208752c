//! Regular expressions. Go's RE2 and the crate agree but for a few rare spellings, which are errors here.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

use super::{Called, int, text};
use crate::render::template::value::{MAX_TEXT, Value};

/// Patterns that are kept compiled, in each thread: charts use the same few again and again.
const MAX_KEPT: usize = 128;

thread_local! {
    static KEPT: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let must = name.strip_prefix("mustR");
    let verb = must.or_else(|| name.strip_prefix('r'))?.strip_prefix("egex")?;
    let pattern = text(arguments, 0);
    if verb == "QuoteMeta" {
        return Some(Ok(Value::text(quote_meta(pattern))));
    }
    let regex = match compiled(pattern) {
        Ok(regex) => regex,
        // Without `must`, a bad pattern matches nothing, and the others panic.
        Err(_) if name == "regexMatch" => return Some(Ok(Value::Bool(false))),
        Err(why) if must.is_none() => {
            return Some(Err(format!("regexp: Compile({}): {why}", go_quoted(pattern))));
        }
        Err(why) => return Some(Err(why)),
    };
    Some(run(verb, &regex, arguments))
}

fn run(verb: &str, regex: &Regex, arguments: &[Value]) -> Result<Value, String> {
    let given = text(arguments, 1);
    let replacement = text(arguments, 2);
    let limit = || usize::try_from(int(arguments, 2)).unwrap_or(usize::MAX);
    Ok(match verb {
        "Match" => Value::Bool(regex.is_match(given)),
        "Find" => Value::text(regex.find(given).map_or("", |found| found.as_str())),
        "FindAll" => {
            let found: Vec<&str> =
                matches(regex, given).into_iter().take(limit()).map(|(from, to)| &given[from..to]).collect();
            // Go gives no list at all where there is no match.
            if found.is_empty() { Value::NilList } else { Value::texts(found) }
        }
        "ReplaceAllLiteral" => replaced(regex, given, |_, out| out.push_str(replacement))?,
        "ReplaceAll" => replaced(regex, given, |found, out| found.expand(replacement, out))?,
        "Split" => split(regex, given, int(arguments, 2)),
        _ => return Err(format!("regex{verb} is not built here")),
    })
}

/// Go takes no empty match right behind another match.
fn matches(regex: &Regex, text: &str) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    for found in regex.find_iter(text) {
        let beside = found.is_empty() && all.last().is_some_and(|(_, end)| *end == found.start());
        if !beside {
            all.push((found.start(), found.end()));
        }
    }
    all
}

fn replaced(
    regex: &Regex,
    given: &str,
    write: impl Fn(&regex::Captures<'_>, &mut String),
) -> Result<Value, String> {
    let (mut out, mut end) = (String::new(), 0);
    let mut before = None;
    for found in regex.captures_iter(given) {
        let Some(all) = found.get(0) else { continue };
        if all.is_empty() && before == Some(all.start()) {
            continue;
        }
        out.push_str(&given[end..all.start()]);
        write(&found, &mut out);
        end = all.end();
        before = Some(end);
        if out.len() > MAX_TEXT {
            return Err("the text would be longer than 16 MiB".to_owned());
        }
    }
    out.push_str(&given[end..]);
    Ok(Value::text(out))
}

/// As `Regexp.Split` does it.
fn split(regex: &Regex, given: &str, limit: i64) -> Value {
    if limit == 0 {
        return Value::NilList;
    }
    if !regex.as_str().is_empty() && given.is_empty() {
        return Value::texts([""]);
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for (from, to) in matches(regex, given) {
        if parts.len() + 1 == most {
            break;
        }
        end = from;
        if to != 0 {
            parts.push(&given[begin..end]);
        }
        begin = to;
    }
    if end != given.len() {
        parts.push(&given[begin..]);
    }
    Value::texts(parts)
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    if let Some(known) = KEPT.with_borrow(|kept| kept.get(pattern).cloned()) {
        return Ok(known);
    }
    let regex = Regex::new(&ascii_classes(pattern)).map_err(|error| reason(pattern, &error))?;
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), regex.clone());
    });
    Ok(regex)
}

/// `\w`, `\d`, `\s` and `\b` are of ASCII alone in Go, and a class holds no other classes.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t\n\f\r ]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                Some('b') if !inside => out.push_str(r"(?-u:\b)"),
                // Between `\Q` and `\E`, nothing has a meaning.
                Some('Q') => {
                    let rest = chars.as_str();
                    let (quoted, after) = rest.split_once(r"\E").unwrap_or((rest, ""));
                    out.push_str(&regex::escape(quoted));
                    chars = after.chars();
                }
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            '[' if inside => match chars.as_str().strip_prefix(':').and_then(|rest| rest.split_once(":]")) {
                Some((name, after)) => {
                    out.push_str(&format!("[:{name}:]"));
                    chars = after.chars();
                }
                None => out.push_str(r"\["),
            },
            '[' => {
                inside = true;
                out.push('[');
                let mut rest = chars.as_str();
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                // A bracket that comes first is meant as one.
                if let Some(after) = rest.strip_prefix(']') {
                    out.push_str(r"\]");
                    rest = after;
                }
                chars = rest.chars();
            }
            ']' => {
                inside = false;
                out.push(']');
            }
            '&' | '~' if inside => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// The commonest reasons in Go's words; the others in the crate's.
fn reason(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let words = if text.contains("unclosed group") {
        format!("missing closing ): {}", go_quoted(pattern))
    } else if text.contains("unopened group") {
        format!("unexpected ): {}", go_quoted(pattern))
    } else if text.contains("unclosed character class") {
        format!("missing closing ]: {}", go_quoted(&pattern[pattern.find('[').unwrap_or(0)..]))
    } else if text.contains("repetition operator missing") {
        let operator = pattern.chars().next().unwrap_or('*').to_string();
        format!("missing argument to repetition operator: {}", go_quoted(&operator))
    } else {
        text.lines().last().unwrap_or("the pattern is not valid").to_owned()
    };
    format!("error parsing regexp: {words}")
}

fn go_quoted(pattern: &str) -> String {
    if pattern.contains('`') { super::quoted(pattern) } else { format!("`{pattern}`") }
}

fn quote_meta(text: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    let mut out = String::new();
    for c in text.chars() {
        if special(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
