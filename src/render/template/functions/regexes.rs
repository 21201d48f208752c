//! Regular expressions. Go's RE2 and the crate agree but for a few rare spellings, which are errors here.

use regex::Regex;

use super::{Called, int, text};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let plain = name.strip_prefix("mustR").map_or_else(|| name.to_owned(), |rest| format!("r{rest}"));
    if plain == "regexQuoteMeta" {
        return Some(Ok(Value::text(quote_meta(text(arguments, 0)))));
    }
    if !plain.starts_with("regex") {
        return None;
    }
    let pattern = text(arguments, 0);
    let given = text(arguments, 1);
    let regex = match Regex::new(pattern) {
        Ok(regex) => regex,
        // Without `must`, a bad pattern matches nothing; the others stop.
        Err(_) if name == "regexMatch" => return Some(Ok(Value::Bool(false))),
        Err(_) if name == "regexFind" => return Some(Ok(Value::text(""))),
        Err(error) => return Some(Err(format!("error parsing regexp: {error}"))),
    };
    let limit = |at: usize| usize::try_from(int(arguments, at)).unwrap_or(usize::MAX);
    Some(Ok(match plain.as_str() {
        "regexMatch" => Value::Bool(regex.is_match(given)),
        "regexFind" => Value::text(regex.find(given).map_or("", |found| found.as_str())),
        "regexFindAll" => Value::texts(regex.find_iter(given).take(limit(2)).map(|found| found.as_str())),
        "regexReplaceAllLiteral" => {
            Value::text(regex.replace_all(given, regex::NoExpand(text(arguments, 2))))
        }
        "regexReplaceAll" => Value::text(regex.replace_all(given, template(text(arguments, 2)).as_str())),
        "regexSplit" => {
            let count = int(arguments, 2);
            match usize::try_from(count) {
                Ok(0) => Value::texts(Vec::<String>::new()),
                Ok(count) => Value::texts(regex.splitn(given, count)),
                Err(_) => Value::texts(regex.split(given)),
            }
        }
        _ => return None,
    }))
}

/// Go's `$1x` is the group `1x`, as here; `$$` and a `$` alone are the same too.
fn template(text: &str) -> String {
    text.to_owned()
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
