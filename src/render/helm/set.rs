//! The grammar of `--set`: `a.b=1,c={x,y},d[0].e=z`.

use crate::render::template::value::{Fields, Value};

/// Highest index of a list.
const MAX_INDEX: i64 = 65_536;
/// Deepest name.
const MAX_LEVEL: usize = 30;

/// What becomes of the text of a value.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Result<Value, String>;

#[expect(clippy::unnecessary_wraps, reason = "readers of files can fail")]
/// As `--set` reads: true, false, null and whole numbers are what they look like.
pub(super) fn typed(text: &str) -> Result<Value, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Nil,
        "0" => Value::Long(0),
        _ => match text.parse() {
            Ok(number) if !text.starts_with('0') => Value::Long(number),
            _ => Value::text(text),
        },
    })
}

#[expect(clippy::unnecessary_wraps, reason = "readers of files can fail")]
/// As `--set-string` reads.
pub(super) fn untyped(text: &str) -> Result<Value, String> {
    Ok(Value::text(text))
}

/// A single value for a name: a comma in it is part of it, unless all of it is a list.
pub(super) fn line(name: &str, value: &str) -> String {
    if value.starts_with('{') && value.ends_with('}') {
        return format!("{name}={value}");
    }
    let mut out = format!("{name}=");
    let mut escaped = false;
    for c in value.chars() {
        if c == ',' && !escaped {
            out.push('\\');
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}

/// Puts the values of a line into a map.
///
/// # Errors
/// In Helm's words.
pub(super) fn apply(line: &str, values: &Fields, read: Read<'_>) -> Result<(), String> {
    let mut parser = Parser { rest: line.chars().peekable(), read };
    loop {
        if parser.key(values, 0)? == Next::End {
            return Ok(());
        }
    }
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    read: Read<'a>,
}

#[derive(PartialEq, Eq)]
enum Next {
    More,
    End,
}

impl Parser<'_> {
    /// The text up to one of the characters, and which it was.
    fn until(&mut self, stops: &[char]) -> (String, Option<char>) {
        let mut text = String::new();
        while let Some(c) = self.rest.next() {
            if stops.contains(&c) {
                return (text, Some(c));
            }
            if c == '\\' {
                let Some(next) = self.rest.next() else { return (text, None) };
                text.push(next);
            } else {
                text.push(c);
            }
        }
        (text, None)
    }

    fn key(&mut self, data: &Fields, level: usize) -> Result<Next, String> {
        let set = |key: &str, value: Value| {
            if !key.is_empty() {
                data.borrow_mut().insert(key.to_owned(), value);
            }
        };
        let (key, stop) = self.until(&['=', '[', ',', '.']);
        let found = data.borrow().get(&key).cloned();
        match stop {
            None if key.is_empty() => Ok(Next::End),
            None => Err(format!("key {key:?} has no value")),
            Some('[') => {
                let index = self.index()?;
                let list = match found {
                    None => Vec::new(),
                    Some(value) => items(&value, "unable to parse key: ")?,
                };
                let (list, next) = self.item(list, index, level)?;
                set(&key, Value::list(list));
                Ok(next)
            }
            Some('=') => {
                let (value, next) = self.value()?;
                set(&key, value);
                Ok(next)
            }
            Some(',') => {
                set(&key, Value::text(""));
                Err(format!("key {key:?} has no value (cannot end with ,)"))
            }
            Some(_) => {
                if level + 1 > MAX_LEVEL {
                    return Err(format!(
                        "value name nested level is greater than maximum supported nested level of {MAX_LEVEL}"
                    ));
                }
                let inner = match found {
                    None => Fields::default(),
                    Some(Value::Map(fields)) => fields,
                    Some(other) => {
                        return Err(format!(
                            "unable to parse key: interface conversion: interface {{}} is {}, not map[string]interface {{}}",
                            kind(&other)
                        ));
                    }
                };
                let next = self.key(&inner, level + 1)?;
                if inner.borrow().is_empty() {
                    return if next == Next::End {
                        Ok(next)
                    } else {
                        Err(format!("key map {key:?} has no value"))
                    };
                }
                set(&key, Value::Map(inner));
                Ok(next)
            }
        }
    }

    fn index(&mut self) -> Result<usize, String> {
        let (text, stop) = self.until(&[']']);
        if stop.is_none() {
            return Err("error parsing index: EOF".to_owned());
        }
        let index: i64 = text
            .parse()
            .map_err(|_| format!("error parsing index: strconv.Atoi: parsing {text:?}: invalid syntax"))?;
        if index < 0 {
            return Err(format!("negative {index} index not allowed"));
        }
        if index > MAX_INDEX {
            return Err(format!("index of {index} is greater than maximum supported index of {MAX_INDEX}"));
        }
        usize::try_from(index).map_err(|error| error.to_string())
    }

    fn item(
        &mut self,
        mut list: Vec<Value>,
        index: usize,
        level: usize,
    ) -> Result<(Vec<Value>, Next), String> {
        let (text, stop) = self.until(&['[', '.', '=']);
        if !text.is_empty() {
            let runes: Vec<String> = text.chars().map(|c| format!("{c:?}")).collect();
            return Err(format!("unexpected data at end of array index: [{}]", runes.join(" ")));
        }
        let next = match stop {
            None => return Ok((list, Next::End)),
            Some('=') => {
                let (value, next) = self.value()?;
                put(&mut list, index, value);
                next
            }
            Some('[') => {
                let inner_index = self.index()?;
                let inner = match list.get(index) {
                    Some(value) if !value.is_nil() => items(value, "")?,
                    _ => Vec::new(),
                };
                let (inner, next) = self.item(inner, inner_index, level)?;
                put(&mut list, index, Value::list(inner));
                next
            }
            Some(_) => {
                let inner = match list.get(index) {
                    Some(Value::Map(fields)) => fields.clone(),
                    _ => Fields::default(),
                };
                let next = self.key(&inner, level)?;
                put(&mut list, index, Value::Map(inner));
                next
            }
        };
        Ok((list, next))
    }

    /// A text or a list of texts.
    fn value(&mut self) -> Result<(Value, Next), String> {
        match self.rest.peek() {
            None => Ok((Value::text(""), Next::End)),
            Some('{') => {
                self.rest.next();
                let mut list = Vec::new();
                loop {
                    let (text, stop) = self.until(&[',', '}']);
                    match stop {
                        None => return Err("list must terminate with '}'".to_owned()),
                        Some(_) => list.push((self.read)(&text)?),
                    }
                    if stop == Some('}') {
                        self.rest.next_if_eq(&',');
                        return Ok((Value::list(list), Next::More));
                    }
                }
            }
            Some(_) => {
                let (text, _) = self.until(&[',']);
                Ok(((self.read)(&text)?, Next::More))
            }
        }
    }
}

fn put(list: &mut Vec<Value>, index: usize, value: Value) {
    if list.len() <= index {
        list.resize(index + 1, Value::Nil);
    }
    list[index] = value;
}

fn items(value: &Value, before: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::List(items) => Ok(items.to_vec()),
        other => Err(format!(
            "{before}interface conversion: interface {{}} is {}, not []interface {{}}",
            kind(other)
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil | Value::Missing => "nil",
        other => other.type_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(given: &str, text: bool) -> String {
        let values = Fields::default();
        let read: Read<'_> = if text { &untyped } else { &typed };
        match apply(given, &values, read) {
            Ok(()) => Value::Map(values).json().unwrap().to_string(),
            Err(why) => why,
        }
    }

    #[test]
    fn the_grammar() {
        for (given, expected) in [
            ("", "{}"),
            ("a=1", r#"{"a":1}"#),
            ("a=1,b=2", r#"{"a":1,"b":2}"#),
            ("a=1,", r#"{"a":1}"#),
            ("a=", r#"{"a":""}"#),
            (
                "a=true,b=FALSE,c=null,d=0,e=00,f=1.5,g=-3",
                r#"{"a":true,"b":false,"c":null,"d":0,"e":"00","f":"1.5","g":-3}"#,
            ),
            ("a.b.c=x", r#"{"a":{"b":{"c":"x"}}}"#),
            ("a={1,x,}", r#"{"a":[1,"x",""]}"#),
            ("a={1,2},b=3", r#"{"a":[1,2],"b":3}"#),
            ("a[1]=x", r#"{"a":[null,"x"]}"#),
            ("a[0].b=x,a[0].c=y,a[1].b=z", r#"{"a":[{"b":"x","c":"y"},{"b":"z"}]}"#),
            ("a[0][1]=x", r#"{"a":[[null,"x"]]}"#),
            (r"a\.b=x\,y", r#"{"a.b":"x,y"}"#),
            ("a", "key \"a\" has no value"),
            ("a,b=1", "key \"a\" has no value (cannot end with ,)"),
            ("a={x", "list must terminate with '}'"),
            ("a[-1]=x", "negative -1 index not allowed"),
            ("a[x]=x", "error parsing index: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("a[70000]=x", "index of 70000 is greater than maximum supported index of 65536"),
            ("a[0]x=1", "unexpected data at end of array index: ['x']"),
            ("a.=x", "key map \"a\" has no value"),
            (
                "a=1,a.b=2",
                "unable to parse key: interface conversion: interface {} is int64, not map[string]interface {}",
            ),
        ] {
            assert_eq!(words(given, false), expected, "{given}");
        }
        assert_eq!(words("a=1,b=true", true), r#"{"a":"1","b":"true"}"#);
        assert!(words(&format!("{}=1", ["a"; 40].join(".")), false).contains("nested level"));
    }

    #[test]
    fn a_single_value_keeps_its_commas() {
        assert_eq!(words(&line("a", "x,y"), false), r#"{"a":"x,y"}"#);
        assert_eq!(words(&line("a", r"x\,y"), false), r#"{"a":"x,y"}"#);
        assert_eq!(words(&line("a", "{x,y}"), false), r#"{"a":["x","y"]}"#);
    }

    proptest::proptest! {
        #[test]
        fn any_line_ends(given in "[ab=,.{}\\[\\]0-9\\\\]{0,40}") {
            words(&given, false);
        }
    }
}
