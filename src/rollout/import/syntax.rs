//! Conditions of Argo Rollouts as they are written: the language of expr 1.15, as far as conditions use it.
//!
//! Text goes to tokens, tokens by precedence to a tree. What is not known is refused with its column.

/// Deepest nesting of brackets and operators.
const DEPTH: usize = 64;

/// Why a text is no condition that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// 1-based, in characters.
    pub(super) column: usize,
    /// In words.
    pub(super) why: String,
}

pub(super) fn refused<T>(column: usize, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { column, why: why.into() })
}

/// A part of a condition, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) column: usize,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Whole(i64),
    Float(f64),
    Text(String),
    Bool(bool),
    Nil,
    Name(String),
    /// `#`, the item of a closure.
    Item,
    Field(Box<Part>, String),
    Index(Box<Part>, Box<Part>),
    Call(String, Vec<Part>),
    /// A function over a list with a closure, such as `all(result, # > 1)`.
    Closure(String, Box<Part>, Box<Part>),
    Not(Box<Part>),
    Minus(Box<Part>),
    Binary(Operator, Box<Part>, Box<Part>),
    Choice(Box<Part>, Box<Part>, Box<Part>),
    List(Vec<Part>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Matches,
    Contains,
    StartsWith,
    EndsWith,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    fn of(word: &str) -> Option<(u8, Self)> {
        Some(match word {
            "or" | "||" => (10, Self::Or),
            "and" | "&&" => (15, Self::And),
            "==" => (20, Self::Equal),
            "!=" => (20, Self::Unequal),
            "<" => (20, Self::Less),
            "<=" => (20, Self::LessEqual),
            ">" => (20, Self::Greater),
            ">=" => (20, Self::GreaterEqual),
            "in" => (20, Self::In),
            "matches" => (20, Self::Matches),
            "contains" => (20, Self::Contains),
            "startsWith" => (20, Self::StartsWith),
            "endsWith" => (20, Self::EndsWith),
            "+" => (30, Self::Add),
            "-" => (30, Self::Subtract),
            "*" => (60, Self::Multiply),
            "/" => (60, Self::Divide),
            "%" => (60, Self::Remainder),
            _ => return None,
        })
    }
}

/// Functions that take a closure.
const CLOSURES: &[&str] = &["all", "any", "none", "one", "filter", "map", "count"];

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Whole(i64),
    Float(f64),
    Text(String),
    Name(String),
    Sign(String),
    End,
}

type Token = (usize, Kind);

fn is_word(c: char) -> bool {
    c == '_' || c == '$' || c.is_alphanumeric()
}

fn tokens(text: &str) -> Result<Vec<Token>, Refused> {
    let all: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&c) = all.get(at) {
        let column = at + 1;
        let next = all.get(at + 1).copied();
        if c.is_whitespace() {
            at += 1;
        } else if c == '\'' || c == '"' {
            let (text, end) = quoted(&all, at)?;
            found.push((column, Kind::Text(text)));
            at = end;
        } else if c.is_ascii_digit() || c == '.' && next.is_some_and(|next| next.is_ascii_digit()) {
            let (number, end) = number(&all, at)?;
            found.push((column, number));
            at = end;
        } else if is_word(c) {
            let end = all[at..].iter().position(|c| !is_word(*c)).map_or(all.len(), |length| at + length);
            found.push((column, Kind::Name(all[at..end].iter().collect())));
            at = end;
        } else {
            let pair: String = all[at..all.len().min(at + 2)].iter().collect();
            if matches!(pair.as_str(), "//" | "/*") {
                return refused(column, "comments are not known here");
            }
            let known = ["==", "!=", "<=", ">=", "&&", "||", "..", "**", "??", "?."];
            let sign = if known.contains(&pair.as_str()) { pair } else { c.to_string() };
            if sign.len() == 1 && !"()[]{}.,:?#<>!+-*/%^|;".contains(c) {
                return refused(column, format!("{c:?} is not known here"));
            }
            at += sign.len();
            found.push((column, Kind::Sign(sign)));
        }
    }
    found.push((all.len() + 1, Kind::End));
    Ok(found)
}

fn quoted(all: &[char], begin: usize) -> Result<(String, usize), Refused> {
    let mut text = String::new();
    let mut at = begin + 1;
    while let Some(&c) = all.get(at) {
        at += 1;
        if c == all[begin] {
            return Ok((text, at));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        let escaped = all.get(at).copied();
        at += 1;
        text.push(match escaped {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(same @ ('\\' | '\'' | '"')) => same,
            _ => return refused(at - 1, "this escape is not known here"),
        });
    }
    refused(begin + 1, "this text has no end")
}

fn number(all: &[char], begin: usize) -> Result<(Kind, usize), Refused> {
    let mut at = begin;
    let digits = |at: &mut usize| {
        while all.get(*at).is_some_and(|c| c.is_ascii_digit() || *c == '_') {
            *at += 1;
        }
    };
    digits(&mut at);
    let mut whole = true;
    // 1..2 is a range.
    if all.get(at) == Some(&'.') && all.get(at + 1) != Some(&'.') {
        whole = false;
        at += 1;
        digits(&mut at);
    }
    if matches!(all.get(at), Some('e' | 'E')) {
        whole = false;
        at += 1;
        at += usize::from(matches!(all.get(at), Some('+' | '-')));
        digits(&mut at);
    }
    let text: String = all[begin..at].iter().filter(|c| **c != '_').collect();
    let read = if whole { text.parse().ok().map(Kind::Whole) } else { text.parse().ok().map(Kind::Float) };
    match read {
        Some(number) if !all.get(at).is_some_and(|c| is_word(*c)) => Ok((number, at)),
        _ => refused(begin + 1, "this is no decimal number"),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    closures: usize,
    depth: usize,
}

/// Reads a condition.
pub(super) fn parse(text: &str) -> Result<Part, Refused> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, closures: 0, depth: 0 };
    let part = parser.expression(0)?;
    match parser.next() {
        (_, Kind::End) => Ok(part),
        (column, kind) => refused(column, format!("{} is not expected here", shown(&kind))),
    }
}

fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Whole(number) => number.to_string(),
        Kind::Float(number) => number.to_string(),
        Kind::Text(text) => format!("{text:?}"),
        Kind::Name(word) | Kind::Sign(word) => word.clone(),
        Kind::End => "the end".into(),
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is(&self, sign: &str) -> bool {
        matches!(&self.peek().1, Kind::Sign(word) if word == sign)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Refused> {
        if self.takes(sign) {
            return Ok(());
        }
        let (column, kind) = self.peek();
        refused(*column, format!("{sign} is expected here, not {}", shown(kind)))
    }

    fn word(&self) -> Option<&str> {
        match &self.peek().1 {
            Kind::Name(word) | Kind::Sign(word) => Some(word),
            _ => None,
        }
    }

    fn expression(&mut self, precedence: u8) -> Result<Part, Refused> {
        self.depth += 1;
        if self.depth > DEPTH {
            return refused(self.peek().0, "this is nested too deep");
        }
        let mut left = self.primary()?;
        loop {
            let (column, kind) = self.peek().clone();
            let (Kind::Name(mut word) | Kind::Sign(mut word)) = kind else { break };
            let negated = word == "not";
            if negated {
                let after = self.tokens.get(self.at + 1).map(|token| token.1.clone());
                match after {
                    Some(Kind::Name(operator)) => word = operator,
                    _ => return refused(column, "not is not expected here"),
                }
            }
            if matches!(word.as_str(), "|" | ".." | "**" | "^" | "??" | "?." | ";") {
                return refused(column, format!("{word} is not known here"));
            }
            let Some((its, operator)) = Operator::of(&word) else { break };
            if its < precedence {
                // expr 1.15 loses such a `not`.
                if negated {
                    return refused(column, "expr reads this `not` in its own way; put brackets around it");
                }
                break;
            }
            self.at += 1 + usize::from(negated);
            let right = self.expression(its + 1)?;
            left = Part { column, what: What::Binary(operator, Box::new(left), Box::new(right)) };
            if negated {
                left = Part { column, what: What::Not(Box::new(left)) };
            }
        }
        if precedence == 0 {
            left = self.choice(left)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn choice(&mut self, mut left: Part) -> Result<Part, Refused> {
        while self.is("?") {
            let column = self.next().0;
            if self.is(":") {
                return refused(column, "?: is not known here");
            }
            let yes = self.expression(0)?;
            self.expect(":")?;
            let no = self.expression(0)?;
            left = Part { column, what: What::Choice(Box::new(left), Box::new(yes), Box::new(no)) };
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Part, Refused> {
        let column = self.peek().0;
        match self.word() {
            Some("not" | "!") => {
                self.at += 1;
                let inner = self.expression(50)?;
                return Ok(Part { column, what: What::Not(Box::new(inner)) });
            }
            Some(sign @ ("-" | "+")) => {
                let minus = sign == "-";
                self.at += 1;
                let inner = self.expression(90)?;
                return Ok(if minus { Part { column, what: What::Minus(Box::new(inner)) } } else { inner });
            }
            _ => {}
        }
        let (column, kind) = self.next();
        let what = match kind {
            Kind::Whole(number) => What::Whole(number),
            Kind::Float(number) => What::Float(number),
            Kind::Text(text) => What::Text(text),
            Kind::Sign(sign) if sign == "(" => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                return self.postfix(inner);
            }
            Kind::Sign(sign) if sign == "[" => What::List(self.list("]")?),
            Kind::Sign(sign) if sign == "#" && self.closures > 0 => {
                if let (_, Kind::Name(name)) = self.peek()
                    && Operator::of(name).is_none()
                    && !matches!(name.as_str(), "not" | "and" | "or")
                {
                    return refused(column, format!("#{name} is not known here"));
                }
                What::Item
            }
            // `.field` of the item.
            Kind::Sign(sign) if sign == "." && self.closures > 0 => {
                self.at -= 1;
                What::Item
            }
            Kind::Name(name) => self.named(column, name)?,
            other => return refused(column, format!("{} is not expected here", shown(&other))),
        };
        self.postfix(Part { column, what })
    }

    fn named(&mut self, column: usize, name: String) -> Result<What, Refused> {
        Ok(match name.as_str() {
            "true" => What::Bool(true),
            "false" => What::Bool(false),
            "nil" => What::Nil,
            "let" => return refused(column, "let is not known here"),
            _ if Operator::of(&name).is_some() => {
                return refused(column, format!("{name} is not expected here"));
            }
            _ if !self.takes("(") => What::Name(name),
            closure if CLOSURES.contains(&closure) => {
                let list = self.expression(0)?;
                self.expect(",")?;
                let braces = self.takes("{");
                self.closures += 1;
                let body = self.expression(0)?;
                self.closures -= 1;
                if braces {
                    self.expect("}")?;
                }
                self.expect(")")?;
                What::Closure(name, Box::new(list), Box::new(body))
            }
            _ => What::Call(name, self.list(")")?),
        })
    }

    fn list(&mut self, end: &str) -> Result<Vec<Part>, Refused> {
        let mut found = Vec::new();
        while !self.takes(end) {
            if !found.is_empty() {
                self.expect(",")?;
            }
            found.push(self.expression(0)?);
        }
        Ok(found)
    }

    fn postfix(&mut self, mut part: Part) -> Result<Part, Refused> {
        loop {
            let column = self.peek().0;
            if self.takes(".") {
                let (at, kind) = self.next();
                let Kind::Name(name) = kind else {
                    return refused(at, "the name of a field is expected here");
                };
                if self.is("(") {
                    return refused(at, format!(".{name}() is not known here"));
                }
                part = Part { column: part.column, what: What::Field(Box::new(part), name) };
            } else if self.takes("[") {
                let index = if self.is(":") { None } else { Some(self.expression(0)?) };
                let (Some(index), false) = (index, self.is(":")) else {
                    return refused(column, "parts of lists are not known here");
                };
                self.expect("]")?;
                part = Part { column: part.column, what: What::Index(Box::new(part), Box::new(index)) };
            } else {
                return Ok(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With brackets around all.
    fn told(part: &Part) -> String {
        let all = |parts: &[Part]| parts.iter().map(told).collect::<Vec<_>>().join(",");
        match &part.what {
            What::Whole(number) => number.to_string(),
            What::Float(number) => format!("{number:?}"),
            What::Text(text) => format!("{text:?}"),
            What::Bool(bool) => bool.to_string(),
            What::Nil => "nil".into(),
            What::Name(name) => name.clone(),
            What::Item => "#".into(),
            What::Field(of, name) => format!("{}.{name}", told(of)),
            What::Index(of, index) => format!("{}[{}]", told(of), told(index)),
            What::Call(name, arguments) => format!("{name}({})", all(arguments)),
            What::Closure(name, list, body) => format!("{name}({},{})", told(list), told(body)),
            What::Not(of) => format!("not({})", told(of)),
            What::Minus(of) => format!("-({})", told(of)),
            What::Binary(operator, left, right) => format!("({} {operator:?} {})", told(left), told(right)),
            What::Choice(of, yes, no) => format!("({} ? {} : {})", told(of), told(yes), told(no)),
            What::List(items) => format!("[{}]", all(items)),
        }
    }

    #[test]
    fn precedence_is_that_of_expr() {
        for (text, wanted) in [
            ("a or b and c", "(a Or (b And c))"),
            ("not a == b", "(not(a) Equal b)"),
            ("!(a == b)", "not((a Equal b))"),
            ("a not in b", "not((a In b))"),
            ("1 + 2 * 3 < 4", "((1 Add (2 Multiply 3)) Less 4)"),
            ("1 - 2 - 3", "((1 Subtract 2) Subtract 3)"),
            ("-a.b * 2", "(-(a.b) Multiply 2)"),
            ("a ? b : c ? d : e", "(a ? b : (c ? d : e))"),
            ("all(r, {# < 5}) && r.d == nil", "(all(r,(# Less 5)) And (r.d Equal nil))"),
            ("all(r, {asFloat(.value) >= 1})", "all(r,(asFloat(#.value) GreaterEqual 1))"),
            ("r['a.b'] < 1_000.5", "(r[\"a.b\"] Less 1000.5)"),
            ("any(r, # in [1, .5])", "any(r,(# In [1,0.5]))"),
        ] {
            assert_eq!(parse(text).map(|part| told(&part)), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_column() {
        for (text, column, wanted) in [
            ("result ** 2 > 1", 8, "** is not known"),
            ("result ?? 0 > 1", 8, "?? is not known"),
            ("result[1:2] == 1", 7, "parts of lists"),
            ("result == `a`", 11, "'`' is not known"),
            ("result == 'a", 11, "no end"),
            ("result == 0x10", 11, "no decimal number"),
            ("result > ", 10, "the end is not expected"),
            ("# > 1", 1, "# is not expected"),
            ("1 + 2 not in result", 7, "in its own way"),
            ("let x; x", 1, "let is not known"),
            ("result[0] 10.0", 11, "10 is not expected"),
            ("result & 1", 8, "'&' is not known"),
        ] {
            let refused = parse(text).expect_err(text);
            assert_eq!(refused.column, column, "{text}: {}", refused.why);
            assert!(refused.why.contains(wanted), "{text}: {}", refused.why);
        }
        assert!(parse(&"(".repeat(5000)).is_err());
        assert!(parse(&"!".repeat(5000)).is_err());
    }
}
