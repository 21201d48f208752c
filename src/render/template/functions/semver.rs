//! Versions and constraints as the library Masterminds/semver reads them.

use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::Value as Json;

use super::{Called, text};
use crate::render::template::value::{Object, Value};

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let version = |text: &str| Version::parse(text).ok_or_else(|| "invalid semantic version".to_owned());
    Some(match name {
        "semver" => version(text(arguments, 0)).map(|version| Value::Object(Rc::new(version))),
        "semverCompare" => version(text(arguments, 1)).and_then(|version| {
            let constraint = text(arguments, 0);
            let parsed = parse(constraint)
                .ok_or_else(|| format!("improper constraint: {}", super::quoted(constraint)))?;
            Ok(Value::Bool(fits(&parsed, &version)))
        }),
        _ => return None,
    })
}

/// Whether a version is in a range; what cannot be read is in none.
pub fn satisfies(constraint: &str, version: &str) -> bool {
    match (parse(constraint), Version::parse(version)) {
        (Some(constraint), Some(version)) => fits(&constraint, &version),
        _ => false,
    }
}

/// Whether a text is a range at all.
pub fn is_range(constraint: &str) -> bool {
    parse(constraint).is_some()
}

#[derive(Clone, Debug)]
struct Version {
    original: String,
    numbers: [u64; 3],
    pre: String,
    meta: String,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, meta) = rest.split_once('+').map_or((rest, ""), |(rest, meta)| (rest, meta));
        let (rest, pre) = rest.split_once('-').map_or((rest, ""), |(rest, pre)| (rest, pre));
        let mut numbers = [0; 3];
        for (count, part) in rest.split('.').enumerate() {
            if count == 3 || part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            numbers[count] = part.parse().ok()?;
        }
        let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        if !word(pre) || !word(meta) || text.ends_with(['-', '+']) {
            return None;
        }
        Some(Self { original: text.to_owned(), numbers, pre: pre.to_owned(), meta: meta.to_owned() })
    }

    fn order(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => order_pre(&self.pre, &other.pre),
        })
    }

    fn shown(&self) -> String {
        let [major, minor, patch] = self.numbers;
        let mut out = format!("{major}.{minor}.{patch}");
        if !self.pre.is_empty() {
            out.push_str(&format!("-{}", self.pre));
        }
        if !self.meta.is_empty() {
            out.push_str(&format!("+{}", self.meta));
        }
        out
    }
}

fn order_pre(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one.split('.'), other.split('.'));
    loop {
        let found = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if found.is_ne() {
            return found;
        }
    }
}

impl Object for Version {
    fn type_name(&self) -> &'static str {
        "*semver.Version"
    }

    fn kind(&self) -> &'static str {
        "ptr"
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let number = |at: usize| Value::Long(i64::try_from(self.numbers[at]).unwrap_or(i64::MAX));
        Some(Ok(match name {
            "Major" => number(0),
            "Minor" => number(1),
            "Patch" => number(2),
            "Prerelease" => Value::text(&self.pre),
            "Metadata" => Value::text(&self.meta),
            "Original" => Value::text(&self.original),
            "String" => Value::text(self.shown()),
            "Compare" | "Equal" | "LessThan" | "GreaterThan" => {
                let other = arguments.first().map(Value::print).and_then(|text| Self::parse(&text))?;
                let order = self.order(&other);
                match name {
                    "Compare" => Value::Int(order as i64),
                    "Equal" => Value::Bool(order.is_eq()),
                    "LessThan" => Value::Bool(order.is_lt()),
                    _ => Value::Bool(order.is_gt()),
                }
            }
            _ => return None,
        }))
    }

    fn print(&self) -> String {
        self.shown()
    }

    fn json(&self) -> Json {
        self.shown().into()
    }
}

/// One comparison: operator, version, and how many of its parts were written.
struct Bound {
    operator: String,
    version: Version,
    parts: usize,
}

/// Alternatives, each of comparisons that must all hold.
fn parse(text: &str) -> Option<Vec<Vec<Bound>>> {
    text.split("||").map(|part| bounds(part.trim())).collect()
}

fn bounds(text: &str) -> Option<Vec<Bound>> {
    let mut all = Vec::new();
    // "1.2 - 2" is a range.
    let spread = text.split(" - ").collect::<Vec<_>>();
    let text = if let [low, high] = spread.as_slice() {
        format!(">={},<={}", low.trim(), high.trim())
    } else {
        text.to_owned()
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c| !matches!(c, '=' | '!' | '<' | '>' | '~' | '^')).unwrap_or(rest.len());
        let operator = rest[..end].to_owned();
        if !matches!(
            operator.as_str(),
            "" | "=" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^"
        ) {
            return None;
        }
        rest = rest[end..].trim_start();
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        all.push(bound(operator, &rest[..end])?);
        rest = rest[end..].trim_start_matches([' ', ',']);
    }
    Some(all)
}

fn bound(operator: String, text: &str) -> Option<Bound> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let numbers = plain.split(['-', '+']).next().unwrap_or(plain);
    let wild = |part: &str| matches!(part, "x" | "X" | "*");
    let parts = numbers.split('.').take_while(|part| !wild(part)).count();
    let written: Vec<&str> = numbers.split('.').collect();
    if written.len() > 3 || text.is_empty() {
        return None;
    }
    let full = if numbers.split('.').any(wild) {
        let mut kept: Vec<&str> = written.into_iter().take_while(|part| !wild(part)).collect();
        kept.resize(3, "0");
        kept.join(".")
    } else {
        let mut kept = written;
        kept.resize(3, "0");
        format!("{}{}", kept.join("."), &plain[numbers.len()..])
    };
    Some(Bound { operator, version: Version::parse(&full)?, parts })
}

fn fits(alternatives: &[Vec<Bound>], version: &Version) -> bool {
    alternatives.iter().any(|all| {
        // A version before its release is only in ranges that speak of such.
        let speaks = all.iter().any(|bound| !bound.version.pre.is_empty());
        (version.pre.is_empty() || speaks) && all.iter().all(|bound| holds(bound, version))
    })
}

fn holds(bound: &Bound, version: &Version) -> bool {
    if !version.pre.is_empty() && bound.version.pre.is_empty() {
        return false;
    }
    let order = version.order(&bound.version);
    let same = |count: usize| version.numbers[..count] == bound.version.numbers[..count];
    let dirty = bound.parts < 3;
    match bound.operator.as_str() {
        "!=" if dirty => !same(bound.parts),
        "!=" => order.is_ne(),
        ">" if dirty && bound.parts > 0 => {
            version.numbers[..bound.parts] > bound.version.numbers[..bound.parts]
        }
        ">" => order.is_gt() && bound.parts > 0,
        "<" => order.is_lt(),
        ">=" | "=>" => order.is_ge(),
        "<=" | "=<" if dirty => version.numbers[..bound.parts] <= bound.version.numbers[..bound.parts],
        "<=" | "=<" => order.is_le(),
        "~" | "~>" => order.is_ge() && same(bound.parts.min(2)) || bound.parts == 0,
        "^" => {
            let [major, minor, _] = bound.version.numbers;
            let kept = match (major, minor, bound.parts) {
                (_, _, 0) => 0,
                (1.., _, _) | (0, _, 1) => 1,
                (0, 1.., _) | (0, 0, 2) => 2,
                _ => 3,
            };
            order.is_ge() && same(kept)
        }
        _ if dirty => same(bound.parts),
        _ => order.is_eq(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, version, expected) in [
            (">=1.19-0", "v1.30.0", true),
            (">=1.19-0", "1.19.0-beta.1", true),
            (">=1.19", "1.20.0-rc.1", false),
            ("^1.2.3", "1.9.0", true),
            ("^1.2.3", "2.0.0", false),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("~1.2", "1.2.9", true),
            ("~1.2", "1.3.0", false),
            ("~1", "1.9.0", true),
            ("1.x", "1.7.0", true),
            ("*", "3.0.0", true),
            ("1.2 - 2", "2.5.0", true),
            (">=1.2, <2.0", "1.9.9", true),
            (">=1.2 <2.0", "2.0.0", false),
            ("<1.0 || >=2.0", "2.1.0", true),
            ("1.2.3", "1.2.3", true),
            ("=1.2", "1.2.9", true),
            ("!=1.2", "1.3.0", true),
            (">1.2", "1.2.5", false),
            ("<=1.2", "1.2.5", true),
        ] {
            assert_eq!(satisfies(range, version), expected, "{range} {version}");
        }
    }
}
