//! From the text of a test to what is asked.

use super::{Operand, Order, Path, Root, Test};

/// Deepest nesting of a test.
const DEPTH: usize = 16;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A bare word; a path where it has a dot or an at sign.
    Word(String),
    /// A path with its steps.
    Steps(Vec<String>),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

const SIGNS: &[&str] = &["==", "!=", "<=", ">=", "??", "<", ">", "(", ")", "[", "]", ",", "|"];

fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = source.trim_start();
    'next: while let Some(first) = rest.chars().next() {
        if let Some(quote) = Some(first).filter(|first| matches!(first, '\'' | '"')) {
            let inner = &rest[1..];
            let end = inner.find(quote).ok_or_else(|| format!("a quote is not closed: {rest}"))?;
            found.push(Token::Text(inner[..end].to_owned()));
            rest = inner[end + 1..].trim_start();
            continue;
        }
        for sign in SIGNS {
            if let Some(after) = rest.strip_prefix(sign) {
                found.push(Token::Sign(sign));
                rest = after.trim_start();
                continue 'next;
            }
        }
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_@.-/".contains(c))).unwrap_or(rest.len());
        if end == 0 {
            return Err(format!("not understood: {rest}"));
        }
        let word = &rest[..end];
        rest = &rest[end..];
        // A step that is no word: metadata.labels["a.b/c"].
        let mut steps: Vec<String> = word.split('.').map(str::to_owned).collect();
        let mut quoted = false;
        while let Some(inner) = rest.strip_prefix("[\"") {
            let end = inner.find("\"]").ok_or_else(|| format!("a subscript is not closed: {rest}"))?;
            steps.push(inner[..end].to_owned());
            quoted = true;
            rest = &inner[end + 2..];
            let more = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)));
            let more = more.unwrap_or(rest.len());
            steps.extend(rest[..more].split('.').filter(|step| !step.is_empty()).map(str::to_owned));
            rest = &rest[more..];
        }
        found.push(match word.parse() {
            Ok(number) => Token::Number(number),
            Err(_) if quoted || word.contains(['.', '@']) => Token::Steps(steps),
            Err(_) => Token::Word(word.to_owned()),
        });
        rest = rest.trim_start();
    }
    Ok(found)
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first()
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Sign(sign)) if *sign == wanted);
        if is {
            self.tokens.next();
        }
        is
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(word)) if word == wanted);
        if is {
            self.tokens.next();
        }
        is
    }

    fn any(&mut self) -> Result<Test, String> {
        let mut all = vec![self.all()?];
        while self.take_word("or") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Test::Any(all) })
    }

    fn all(&mut self) -> Result<Test, String> {
        let mut all = vec![self.one()?];
        while self.take_word("and") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Test::All(all) })
    }

    fn one(&mut self) -> Result<Test, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("nested deeper than {DEPTH}"));
        }
        let test = self.one_of();
        self.depth -= 1;
        test
    }

    fn one_of(&mut self) -> Result<Test, String> {
        if self.take_word("not") {
            return Ok(Test::Not(Box::new(self.one()?)));
        }
        if self.take_word("otherwise") {
            return Ok(Test::Otherwise);
        }
        if self.take_word("unseen") {
            return Ok(Test::Unseen);
        }
        for some in [true, false] {
            if self.take_word(if some { "some" } else { "every" }) {
                let path = self.path()?;
                if !self.take_word("where") {
                    return Err("`where` is missing after some or every".into());
                }
                let test = Box::new(self.one()?);
                return Ok(if some { Test::Some(path, test) } else { Test::Every(path, test) });
            }
        }
        if self.take_sign("(") {
            let inner = self.any()?;
            return if self.take_sign(")") { Ok(inner) } else { Err("a bracket is not closed".into()) };
        }
        let left = self.operand()?;
        if self.take_word("in") {
            let mut words = Vec::new();
            if !self.take_sign("[") {
                return Err("`in` needs a list in square brackets".into());
            }
            while !self.take_sign("]") {
                match self.operand()? {
                    Operand::Literal(value) => words.push(value),
                    other => return Err(format!("a list holds words, not {other:?}")),
                }
                let _ = self.take_sign(",");
            }
            return Ok(Test::In(left, words));
        }
        for (sign, order) in [
            ("==", Order::Equal),
            ("!=", Order::Unequal),
            ("<=", Order::AtMost),
            (">=", Order::AtLeast),
            ("<", Order::Less),
            (">", Order::More),
        ] {
            if self.take_sign(sign) {
                return Ok(Test::Compare(left, order, self.operand()?));
            }
        }
        Ok(Test::Holds(left))
    }

    fn path(&mut self) -> Result<Path, String> {
        match self.operand_single()? {
            Operand::Path(path) => Ok(path),
            other => Err(format!("expected a path, found {other:?}")),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let first = self.operand_single()?;
        if self.take_sign("??") {
            return Ok(Operand::Else(Box::new(first), Box::new(self.operand()?)));
        }
        Ok(first)
    }

    fn operand_single(&mut self) -> Result<Operand, String> {
        if self.take_word("count") {
            let path = self.path()?;
            let test = if self.take_word("where") { Some(Box::new(self.one()?)) } else { None };
            return Ok(Operand::Count(path, test));
        }
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Operand::Literal(text.into())),
            Some(Token::Number(number)) => Ok(Operand::Literal(number.into())),
            Some(Token::Word(word)) => Ok(Operand::Literal(match word.as_str() {
                "true" => true.into(),
                "false" => false.into(),
                "and" | "or" | "not" | "in" | "where" | "some" | "every" => {
                    return Err(format!("`{word}` stands where a value should"));
                }
                _ => word.into(),
            })),
            Some(Token::Steps(steps)) => path(steps).map(Operand::Path),
            Some(Token::Sign(sign)) => Err(format!("`{sign}` stands where a value should")),
            None => Err("it ends too early".into()),
        }
    }

    fn end(mut self) -> Result<(), String> {
        self.tokens.next().map_or(Ok(()), |token| Err(format!("not understood: {token:?}")))
    }
}

fn path(mut steps: Vec<String>) -> Result<Path, String> {
    let of_item = steps.first().is_some_and(String::is_empty);
    if of_item {
        steps.remove(0);
    }
    let condition = steps.first().and_then(|first| first.strip_prefix('@')).map(str::to_owned);
    let root = match (condition, of_item) {
        (Some(kind), item) => {
            steps.remove(0);
            if item { Root::ItemCondition(kind) } else { Root::Condition(kind) }
        }
        (None, true) => Root::Item,
        (None, false) => Root::Object,
    };
    // `.` alone is the item itself.
    steps.retain(|step| !step.is_empty());
    if root == Root::Object
        && !matches!(steps.first().map(String::as_str), Some("metadata" | "spec" | "status"))
    {
        return Err(format!("a path begins with metadata, spec, status, @ or a dot, not with {steps:?}"));
    }
    Ok(Path { root, steps })
}

/// Reads a test.
pub(in super::super) fn test(source: &str) -> Result<Test, String> {
    let mut parser = Parser { tokens: tokens(source)?.into_iter(), depth: 0 };
    let test = parser.any()?;
    parser.end()?;
    Ok(test)
}

/// Reads the alternatives of a place in a reason: `@Ready | 'no condition yet'`.
pub(in super::super) fn alternatives(source: &str) -> Result<Vec<Operand>, String> {
    let mut parser = Parser { tokens: tokens(source)?.into_iter(), depth: 0 };
    let mut all = vec![parser.operand()?];
    while parser.take_sign("|") {
        all.push(parser.operand()?);
    }
    parser.end()?;
    Ok(all)
}
