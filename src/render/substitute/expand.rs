//! `${NAME}` and its operators, as fluxcd/pkg/envsubst 1.8 reads them.
//!
//! Its quirks are kept: `$$` is one `$` everywhere, `$NAME` without braces is text, `:+` and `:?` are defaults like
//! `:-`, arguments are expanded even where they are not used, positions and lengths count bytes. What it lacks and
//! shells have is here too: `${NAME-default}`.

use zeroize::Zeroizing;

use super::Variables;
use super::glob::{self, Steps};

/// Deepest nesting of expressions.
const MAX_DEPTH: usize = 50;
/// Longest result, in bytes.
const MAX_RESULT: usize = 64 << 20;

enum Node {
    Text(String),
    Call(Call),
}

struct Call {
    name: String,
    operator: String,
    arguments: Vec<Node>,
    /// As it is written.
    source: String,
}

/// Expands a text; `secrets` gets what was made of variables that are secret.
pub(super) fn expand(
    text: &str,
    variables: &Variables,
    secrets: &mut Vec<Zeroizing<String>>,
) -> Result<String, String> {
    let mut parser = Parser { text, at: 0 };
    let mut run = Run { variables, secrets, steps: Steps::default() };
    let mut out = String::with_capacity(text.len());
    while parser.at < text.len() {
        if parser.opens() {
            let call = parser.call(0)?;
            out.push_str(&run.call(&call)?);
        } else {
            out.push_str(&parser.words(|_, _| true, Escapes::Dollar));
        }
        if out.len() > MAX_RESULT {
            return Err("the result is larger than 64 MiB".into());
        }
    }
    Ok(out)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    Dollar,
    All,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn opens(&self) -> bool {
        self.rest().starts_with("${")
    }

    /// Characters up to an expression or one that is not accepted; the second argument of `accepts` is the number of
    /// bytes so far with this one.
    fn words(&mut self, accepts: impl Fn(char, usize) -> bool, escapes: Escapes) -> String {
        let mut found = String::new();
        while let Some(c) = self.peek() {
            if self.opens() {
                break;
            }
            let rest = self.rest();
            let escaped = match c {
                '$' if escapes != Escapes::None => rest.starts_with("$$"),
                '\\' if escapes == Escapes::All => rest.starts_with("\\/") || rest.starts_with("\\\\"),
                _ => false,
            };
            if escaped {
                found.extend(rest[1..].chars().next());
                self.at += 2;
            } else if accepts(c, found.len() + c.len_utf8()) {
                found.push(c);
                self.at += c.len_utf8();
            } else {
                break;
            }
        }
        found
    }

    /// As [`Parser::words`], where an expression is a sign like any other.
    fn signs(&mut self, accepts: impl Fn(char, usize) -> bool) -> String {
        let mut found = String::new();
        while let Some(c) = self.peek().filter(|c| accepts(*c, found.len() + c.len_utf8())) {
            found.push(c);
            self.at += c.len_utf8();
        }
        found
    }

    fn close(&mut self, begin: usize) -> Result<(), String> {
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(());
        }
        Err(self.malformed(begin))
    }

    fn malformed(&self, begin: usize) -> String {
        let line = self.text[begin..].lines().next().unwrap_or_default();
        let shown: String = line.chars().take(60).collect();
        format!("{shown:?} is no expression that can be read; $$ stands for a dollar sign")
    }

    /// An expression, from its `${`.
    fn call(&mut self, depth: usize) -> Result<Call, String> {
        let begin = self.at;
        if depth > MAX_DEPTH {
            return Err("expressions are nested deeper than 50 levels".into());
        }
        self.at += 2;
        let ident = |c: char, _: usize| c.is_alphanumeric() || c == '_';
        let mut call = Call {
            name: String::new(),
            operator: String::new(),
            arguments: Vec::new(),
            source: String::new(),
        };
        if self.peek() == Some('#') {
            self.at += 1;
            call.operator = "#".into();
            call.name = self.signs(ident);
        } else {
            call.name = self.signs(ident);
        }
        if call.name.is_empty() {
            return Err(self.malformed(begin));
        }
        let after = self.rest().chars().nth(1);
        match self.peek().filter(|_| call.operator.is_empty()) {
            Some(':') if !matches!(after, Some('=' | '-' | '?' | '+')) => {
                self.part(&mut call, begin, depth)?;
            }
            Some(':') => {
                call.operator = self.signs(|_, i| i <= 2);
                self.defaults(&mut call, begin, depth)?;
            }
            Some('=' | '-') => {
                call.operator = self.signs(|_, i| i == 1);
                self.defaults(&mut call, begin, depth)?;
            }
            Some(',' | '^') => call.operator = self.signs(|c, i| matches!(c, ',' | '^') && i < 3),
            Some('/') => self.replace(&mut call, begin, depth)?,
            Some(sign @ ('#' | '%')) => {
                call.operator = self.signs(|c, i| c == sign && i < 3);
                let argument = self.argument(|c| c != '}', Escapes::None, begin, depth)?;
                call.arguments.push(argument);
            }
            _ => {}
        }
        self.close(begin)?;
        self.text[begin..self.at].clone_into(&mut call.source);
        Ok(call)
    }

    /// One argument: an expression, or text up to one or to what ends it.
    fn argument(
        &mut self,
        accepts: impl Fn(char) -> bool,
        escapes: Escapes,
        begin: usize,
        depth: usize,
    ) -> Result<Node, String> {
        if self.opens() {
            return self.call(depth + 1).map(Node::Call);
        }
        let before = self.at;
        let words = self.words(|c, _| accepts(c), escapes);
        if self.at == before { Err(self.malformed(begin)) } else { Ok(Node::Text(words)) }
    }

    fn defaults(&mut self, call: &mut Call, begin: usize, depth: usize) -> Result<(), String> {
        while self.peek() != Some('}') {
            call.arguments.push(self.argument(|c| c != '}', Escapes::None, begin, depth)?);
        }
        Ok(())
    }

    /// `:position` and `:position:length`.
    fn part(&mut self, call: &mut Call, begin: usize, depth: usize) -> Result<(), String> {
        call.operator = self.signs(|_, i| i == 1);
        call.arguments.push(self.argument(|c| c != ':' && c != '}', Escapes::None, begin, depth)?);
        if self.peek() == Some('}') {
            return Ok(());
        }
        if self.signs(|c, _| c == ':').is_empty() {
            return Err(self.malformed(begin));
        }
        call.arguments.push(self.argument(|c| c != '}', Escapes::None, begin, depth)?);
        Ok(())
    }

    /// `/old/new` and its kin.
    fn replace(&mut self, call: &mut Call, begin: usize, depth: usize) -> Result<(), String> {
        call.operator = self.signs(|c, i| i == 1 || (i == 2 && matches!(c, '/' | '#' | '%')));
        call.arguments.push(self.argument(|c| c != '/', Escapes::All, begin, depth)?);
        if self.signs(|c, _| c == '/').is_empty() {
            return Err(self.malformed(begin));
        }
        if self.peek() != Some('}') {
            call.arguments.push(self.argument(|c| c != '}', Escapes::All, begin, depth)?);
        }
        Ok(())
    }
}

struct Run<'a> {
    variables: &'a Variables,
    secrets: &'a mut Vec<Zeroizing<String>>,
    steps: Steps,
}

impl Run<'_> {
    fn call(&mut self, call: &Call) -> Result<String, String> {
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(match argument {
                Node::Text(text) => text.clone(),
                Node::Call(inner) => self.call(inner)?,
            });
        }
        let variable = self.variables.values.get(&call.name);
        if variable.is_none() && self.variables.incomplete {
            return Ok(call.source.clone());
        }
        let defaults = call.operator.ends_with(['-', '=', '?', '+']);
        if variable.is_none() && !defaults {
            return Err(format!("the variable {} has neither a value nor a default", call.name));
        }
        let value = variable.map_or("", |variable| &variable.text);
        let is_set = variable.is_some();
        let result = self
            .apply(&call.operator, value, is_set, &arguments)
            .map_err(|why| format!("{}: {why}", call.name))?;
        let is_length = call.operator == "#" && arguments.is_empty();
        if variable.is_some_and(|variable| variable.secret) && !is_length {
            self.secrets.push(Zeroizing::new(result.clone()));
        }
        Ok(result)
    }

    fn apply(
        &mut self,
        operator: &str,
        value: &str,
        is_set: bool,
        arguments: &[String],
    ) -> Result<String, String> {
        let first = arguments.first().map_or("", String::as_str);
        let second = arguments.get(1).map_or("", String::as_str);
        match operator {
            "," => Ok(first_letter(value, lower)),
            ",," => Ok(value.chars().map(lower).collect()),
            "^" => Ok(first_letter(value, upper)),
            "^^" => Ok(value.chars().map(upper).collect()),
            "#" if arguments.is_empty() => Ok(value.len().to_string()),
            "#" => whole(glob::without_prefix(value.as_bytes(), first.as_bytes(), false, &mut self.steps)?),
            "##" => whole(glob::without_prefix(value.as_bytes(), first.as_bytes(), true, &mut self.steps)?),
            "%" | "%%" => {
                let backwards = |text: &str| text.chars().rev().collect::<String>();
                let (text, pattern) = (backwards(value), backwards(first));
                let longest = operator == "%%";
                let rest =
                    glob::without_prefix(text.as_bytes(), pattern.as_bytes(), longest, &mut self.steps)?;
                Ok(backwards(&whole(rest)?))
            }
            ":" => whole(part(value, arguments)),
            "/#" if arguments.len() == 2 && value.starts_with(first) => replace(value, first, second, 1),
            "/%" if arguments.len() == 2 && value.ends_with(first) => {
                Ok(format!("{}{second}", &value[..value.len() - first.len()]))
            }
            "/#" | "/%" => Ok(value.to_owned()),
            "/" => replace(value, first, second, 1),
            "//" => replace(value, first, second, usize::MAX),
            "-" if is_set => Ok(value.to_owned()),
            _ if value.is_empty() => Ok(arguments.concat()),
            _ => Ok(value.to_owned()),
        }
    }
}

fn whole(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a character is cut in two".into())
}

/// One character for one, as Go's tables have it.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
}

fn lower(c: char) -> char {
    let mut mapped = c.to_lowercase();
    // U+0130 has two characters in lower case; Go takes the first.
    mapped.next().unwrap_or(c)
}

fn first_letter(text: &str, change: impl Fn(char) -> char) -> String {
    let mut rest = text.chars();
    rest.next().map(change).into_iter().chain(rest).collect()
}

/// A position or length that is no number gives the whole value.
fn part<'a>(value: &'a str, arguments: &[String]) -> &'a [u8] {
    let bytes = value.as_bytes();
    let number = |at: usize| arguments.get(at).map(|text| text.parse::<i64>().ok());
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let (Some(Some(position)), length) = (number(0), number(1)) else { return bytes };
    let from = if position < 0 { (size + position).max(0) } else { position };
    let to = match length {
        None => size,
        Some(None) => return bytes,
        Some(Some(length)) if length < 0 => size.saturating_add(length),
        Some(Some(length)) => from.saturating_add(length).min(size),
    };
    if from >= to {
        return &[];
    }
    let index = |at: i64| usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(index(from)..index(to)).unwrap_or_default()
}

fn replace(value: &str, old: &str, new: &str, most: usize) -> Result<String, String> {
    let count = value.matches(old).take(most).count();
    if value.len().saturating_add(count.saturating_mul(new.len())) > MAX_RESULT {
        return Err("the result is larger than 64 MiB".into());
    }
    Ok(value.replacen(old, new, count))
}
