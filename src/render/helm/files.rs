//! `.Files`: the files of a chart that are no templates.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::Value as Json;

use super::chart::File;
use super::values::fields;
use crate::render::template::to_yaml;
use crate::render::template::value::{Object, Value};

/// A map of names to bytes, with methods.
pub(super) struct Files(BTreeMap<String, Rc<[u8]>>);

impl Files {
    pub(super) fn new(files: &[File]) -> Self {
        Self(files.iter().map(|file| (file.name.clone(), file.data.clone())).collect())
    }

    fn text(&self, name: &str) -> String {
        self.0.get(name).map(|data| String::from_utf8_lossy(data).into_owned()).unwrap_or_default()
    }

    /// Names without their folders, each with what is made of its bytes, as YAML.
    fn by_name(&self, text: impl Fn(&[u8]) -> String) -> Value {
        let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let named = self.0.iter().map(|(name, data)| (base(name), Value::text(text(data))));
        Value::text(to_yaml(&Value::Map(fields(named))))
    }
}

impl Object for Files {
    fn type_name(&self) -> &'static str {
        "engine.files"
    }

    fn kind(&self) -> &'static str {
        "map"
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let wanted = match name {
            "Get" | "GetBytes" | "Glob" | "Lines" => 1,
            "AsConfig" | "AsSecrets" => 0,
            _ => {
                let data = self.0.get(name).cloned();
                return Some(Ok(Value::Object(Rc::new(Bytes(data.unwrap_or_default())))));
            }
        };
        if arguments.len() != wanted {
            let given = arguments.len();
            return Some(Err(format!("wrong number of args for {name}: want {wanted} got {given}")));
        }
        let argument = match arguments.first() {
            None => "",
            Some(Value::Text(text)) => text,
            Some(other) => {
                let given = other.type_name();
                return Some(Err(format!("wrong type for value; expected string; got {given}")));
            }
        };
        Some(Ok(match name {
            "Get" => Value::bytes(self.0.get(argument).map(|data| data.to_vec()).unwrap_or_default()),
            "GetBytes" => Value::Object(Rc::new(Bytes(self.0.get(argument).cloned().unwrap_or_default()))),
            "Glob" => {
                // A malformed pattern takes everything, as Helm has it.
                let glob = glob(argument);
                let takes = |name: &str| glob.as_ref().is_none_or(|glob| glob.is_match(name));
                let found = self.0.iter().filter(|(name, _)| takes(name));
                Value::Object(Rc::new(Self(found.map(|(name, data)| (name.clone(), data.clone())).collect())))
            }
            "Lines" => {
                let text = self.text(argument);
                if text.is_empty() {
                    Value::texts::<&str>([])
                } else {
                    Value::texts(text.strip_suffix('\n').unwrap_or(&text).split('\n'))
                }
            }
            "AsConfig" => self.by_name(|data| String::from_utf8_lossy(data).into_owned()),
            _ => self.by_name(|data| STANDARD.encode(data)),
        }))
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        let entry = |(name, data): (&String, &Rc<[u8]>)| {
            (Value::text(name), Value::Object(Rc::new(Bytes(data.clone())) as Rc<dyn Object>))
        };
        Some(self.0.iter().map(entry).collect())
    }

    fn print(&self) -> String {
        let shown: Vec<String> =
            self.0.iter().map(|(name, data)| format!("{name}:{}", Bytes(data.clone()).print())).collect();
        format!("map[{}]", shown.join(" "))
    }

    fn json(&self) -> Json {
        self.0.iter().map(|(name, data)| (name.clone(), Json::from(STANDARD.encode(data)))).collect()
    }

    fn truth(&self) -> bool {
        !self.0.is_empty()
    }
}

/// `[]byte`.
pub(super) struct Bytes(Rc<[u8]>);

impl Object for Bytes {
    fn type_name(&self) -> &'static str {
        "[]uint8"
    }

    fn kind(&self) -> &'static str {
        "slice"
    }

    fn get(&self, _: &str, _: &[Value]) -> Option<Result<Value, String>> {
        None
    }

    fn entries(&self) -> Option<Vec<(Value, Value)>> {
        let all = self.0.iter().zip(0_i64..);
        Some(all.map(|(byte, at)| (Value::Int(at), Value::Int(i64::from(*byte)))).collect())
    }

    /// As `toString` and `quote` take it. Printed plain, Go would list its numbers, which no chart wants.
    fn print(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    fn json(&self) -> Json {
        Json::from(STANDARD.encode(&self.0))
    }

    fn truth(&self) -> bool {
        !self.0.is_empty()
    }
}

/// A pattern of the library gobwas/glob with `/` between folders; `None` where it is malformed.
fn glob(pattern: &str) -> Option<Regex> {
    let mut out = r"(?s)\A(?:".to_owned();
    let mut chars = pattern.chars().peekable();
    let mut open = 0;
    let literal = |out: &mut String, c: char| out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                if chars.next_if_eq(&'*').is_some() {
                    out.push_str(".*");
                } else {
                    out.push_str("[^/]*");
                }
            }
            '?' => out.push_str("[^/]"),
            '\\' => literal(&mut out, chars.next()?),
            '{' => {
                open += 1;
                out.push_str("(?:");
            }
            '}' if open > 0 => {
                open -= 1;
                out.push(')');
            }
            ',' if open > 0 => out.push('|'),
            '[' => {
                let negated = chars.next_if_eq(&'!').is_some();
                let mut inside = Vec::new();
                loop {
                    match chars.next()? {
                        ']' => break,
                        '\\' => inside.push(chars.next()?),
                        c => inside.push(c),
                    }
                }
                out.push_str(if negated { "[^" } else { "[" });
                match inside.as_slice() {
                    [] => return None,
                    // One range, or a list: the library knows no class of both.
                    [low, '-', high] if low <= high => {
                        literal(&mut out, *low);
                        out.push('-');
                        literal(&mut out, *high);
                    }
                    [_, '-', ..] => return None,
                    list => list.iter().for_each(|c| literal(&mut out, *c)),
                }
                out.push(']');
            }
            c => literal(&mut out, c),
        }
    }
    if open > 0 {
        return None;
    }
    out.push_str(r")\z");
    regex::RegexBuilder::new(&out).size_limit(1 << 20).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "b/a.txt", false),
            ("**.txt", "b/a.txt", true),
            ("b/**", "b/c/d", true),
            ("b/*", "b/c/d", false),
            ("{a,b}/*.{yaml,yml}", "b/x.yml", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[abc]x", "cx", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            (r"a\*", "a*", true),
        ] {
            assert_eq!(glob(pattern).unwrap().is_match(name), expected, "{pattern} {name}");
        }
        for pattern in ["[a-c0-9]", "[", "{a", "a\\"] {
            assert!(glob(pattern).is_none(), "{pattern}");
        }
    }
}
