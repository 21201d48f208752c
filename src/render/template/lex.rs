//! Text to tokens, as Go's template lexer cuts it.

use super::functions::quoted;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Error,
    Bool,
    Char,
    /// A printable character that means nothing by itself.
    Other,
    Complex,
    Assign,
    Declare,
    End,
    Field,
    Identifier,
    Open,
    LeftParen,
    Number,
    Bar,
    RawText,
    Close,
    RightParen,
    Space,
    Quoted,
    Text,
    Variable,
    Dot,
    Keyword,
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) sort: Sort,
    pub(super) at: usize,
    pub(super) line: usize,
    pub(super) text: &'a str,
    /// What is wrong, for an error.
    pub(super) why: String,
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub(super) fn is(&self, word: &str) -> bool {
        self.sort == Sort::Keyword && self.text == word
    }

    /// As an error names it.
    pub(super) fn shown(&self) -> String {
        match self.sort {
            Sort::End => "EOF".to_owned(),
            Sort::Error => self.why.clone(),
            Sort::Dot | Sort::Keyword => format!("<{}>", self.text),
            _ if self.text.len() > 10 => {
                format!("{}...", quoted(&self.text.chars().take(10).collect::<String>()))
            }
            _ => quoted(self.text),
        }
    }
}

const KEYWORDS: &[&str] =
    &["block", "break", "continue", "define", "else", "end", "if", "range", "nil", "template", "with"];

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Lines up to `at`, counted as far as this place.
    line: usize,
    inside: bool,
    parens: usize,
    failed: bool,
}

pub(super) fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// `{{- `
fn trims_left(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(blank))
}

/// ` -}}`
fn trims_right(text: &str) -> bool {
    text.strip_prefix(blank).is_some_and(|rest| rest.starts_with("-}}"))
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, inside: false, parens: 0, failed: false }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// A token of so many bytes from here.
    fn take(&mut self, sort: Sort, length: usize) -> Token<'a> {
        let text = &self.rest()[..length];
        let token = Token { sort, at: self.at, line: self.line, text, why: String::new() };
        self.skip(length);
        token
    }

    fn skip(&mut self, length: usize) {
        self.line += lines(&self.rest()[..length]);
        self.at += length;
    }

    fn fail(&mut self, why: impl Into<String>) -> Token<'a> {
        self.failed = true;
        Token { sort: Sort::Error, at: self.at, line: self.line, text: "", why: why.into() }
    }

    pub(super) fn next(&mut self) -> Token<'a> {
        if self.failed {
            return Token { sort: Sort::End, at: self.at, line: self.line, text: "", why: String::new() };
        }
        if self.inside { self.action() } else { self.outside() }
    }

    fn outside(&mut self) -> Token<'a> {
        loop {
            let rest = self.rest();
            let Some(open) = rest.find("{{") else {
                let sort = if rest.is_empty() { Sort::End } else { Sort::Text };
                return self.take(sort, rest.len());
            };
            let trims = trims_left(&rest[open + 2..]);
            if open > 0 {
                let piece = &rest[..open];
                let kept = if trims { piece.trim_end_matches(blank) } else { piece };
                let token = self.take(Sort::Text, kept.len());
                self.skip(piece.len() - kept.len());
                if !kept.is_empty() {
                    return token;
                }
            }
            let marker = if trims { 2 } else { 0 };
            if self.rest()[2 + marker..].starts_with("/*") {
                self.skip(2 + marker);
                if let Err(token) = self.comment() {
                    return token;
                }
                continue;
            }
            let token = self.take(Sort::Open, 2);
            self.inside = true;
            self.parens = 0;
            self.skip(marker);
            return token;
        }
    }

    fn comment(&mut self) -> Result<(), Token<'a>> {
        let rest = self.rest();
        let Some(end) = rest[2..].find("*/") else { return Err(self.fail("unclosed comment")) };
        let after = &rest[end + 4..];
        if trims_right(after) {
            let blanks = after[4..].len() - after[4..].trim_start_matches(blank).len();
            self.skip(end + 4 + 4 + blanks);
        } else if after.starts_with("}}") {
            self.skip(end + 4 + 2);
        } else {
            return Err(self.fail("comment ends before closing delimiter"));
        }
        Ok(())
    }

    fn close(&mut self) -> Token<'a> {
        let trims = trims_right(self.rest());
        if trims {
            self.skip(2);
        }
        let token = self.take(Sort::Close, 2);
        if trims {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start_matches(blank).len());
        }
        self.inside = false;
        token
    }

    fn action(&mut self) -> Token<'a> {
        let rest = self.rest();
        if trims_right(rest) || rest.starts_with("}}") {
            if self.parens == 0 {
                return self.close();
            }
            return self.fail("unclosed left paren");
        }
        let Some(c) = rest.chars().next() else { return self.fail("unclosed action") };
        match c {
            c if blank(c) => {
                let mut blanks = rest.len() - rest.trim_start_matches(blank).len();
                // The last blank belongs to a marker that trims.
                if trims_right(&rest[blanks - 1..]) {
                    blanks -= 1;
                }
                self.take(Sort::Space, blanks)
            }
            '=' => self.take(Sort::Assign, 1),
            ':' if rest[1..].starts_with('=') => self.take(Sort::Declare, 2),
            ':' => self.fail("expected :="),
            '|' => self.take(Sort::Bar, 1),
            '"' => match closing(rest, '"') {
                Some(length) => self.take(Sort::Quoted, length),
                None => self.fail("unterminated quoted string"),
            },
            '`' => match rest[1..].find('`') {
                Some(end) => self.take(Sort::RawText, end + 2),
                None => self.fail("unterminated raw quoted string"),
            },
            '\'' => match closing(rest, '\'') {
                Some(length) => self.take(Sort::Char, length),
                None => self.fail("unterminated character constant"),
            },
            '$' => self.name(Sort::Variable),
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) && rest.len() > 1 => {
                self.name(Sort::Field)
            }
            '.' | '+' | '-' | '0'..='9' => self.number(),
            c if word(c) => {
                let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
                if let Some(bad) = self.bad_end(length) {
                    return bad;
                }
                let sort = match &rest[..length] {
                    "true" | "false" => Sort::Bool,
                    text if KEYWORDS.contains(&text) => Sort::Keyword,
                    _ => Sort::Identifier,
                };
                self.take(sort, length)
            }
            '(' => {
                self.parens += 1;
                self.take(Sort::LeftParen, 1)
            }
            ')' if self.parens == 0 => self.fail("unexpected right paren"),
            ')' => {
                self.parens -= 1;
                self.take(Sort::RightParen, 1)
            }
            c if c.is_ascii_graphic() => self.take(Sort::Other, 1),
            c => self.fail(format!("unrecognized character in action: {}", code(c))),
        }
    }

    /// `.name`, `$name`, or the first of these alone.
    fn name(&mut self, sort: Sort) -> Token<'a> {
        let rest = self.rest();
        let length = 1 + rest[1..].find(|c| !word(c)).unwrap_or(rest.len() - 1);
        if let Some(bad) = self.bad_end(length) {
            return bad;
        }
        self.take(if sort == Sort::Field && length == 1 { Sort::Dot } else { sort }, length)
    }

    /// What stands behind a name must end it.
    fn bad_end(&mut self, length: usize) -> Option<Token<'a>> {
        let rest = &self.rest()[length..];
        let c = rest.chars().next()?;
        let ends = blank(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(') || rest.starts_with("}}");
        (!ends).then(|| self.fail(format!("bad character {}", code(c))))
    }

    fn number(&mut self) -> Token<'a> {
        let rest = self.rest();
        let (mut length, good) = scan_number(rest);
        let bad = |length: usize| format!("bad number syntax: {}", quoted(&rest[..length]));
        if !good {
            return self.fail(bad(length));
        }
        if !rest[length..].starts_with(['+', '-']) {
            return self.take(Sort::Number, length);
        }
        let (more, good) = scan_number(&rest[length..]);
        length += more;
        if !good || !rest[..length].ends_with('i') {
            return self.fail(bad(length));
        }
        self.take(Sort::Complex, length)
    }
}

/// A character as `%#U` shows it.
fn code(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", u32::from(c)) } else { format!("U+{:04X} '{c}'", u32::from(c)) }
}

/// Length of a quoted piece with both quotes.
fn closing(rest: &str, quote: char) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, '\n')) | None => return None,
                _ => {}
            },
            '\n' => return None,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// How far a number goes, and whether it ends well.
fn scan_number(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let at = |place: usize| bytes.get(place).copied().unwrap_or(0);
    let mut place = usize::from(matches!(at(0), b'+' | b'-'));
    let (mut digits, mut exponent): (fn(u8) -> bool, Option<u8>) =
        (|byte| byte.is_ascii_digit() || byte == b'_', Some(b'e'));
    if at(place) == b'0' {
        place += 1;
        match at(place) | 0x20 {
            b'x' => (digits, exponent) = (|byte: u8| byte.is_ascii_hexdigit() || byte == b'_', Some(b'p')),
            b'o' => (digits, exponent) = (|byte| matches!(byte, b'0'..=b'7' | b'_'), None),
            b'b' => (digits, exponent) = (|byte| matches!(byte, b'0' | b'1' | b'_'), None),
            _ => place -= 1,
        }
        place += 1;
    }
    let run = |place: &mut usize, digits: fn(u8) -> bool| {
        while digits(at(*place)) {
            *place += 1;
        }
    };
    run(&mut place, digits);
    if at(place) == b'.' {
        place += 1;
        run(&mut place, digits);
    }
    if exponent.is_some_and(|exponent| at(place) | 0x20 == exponent) {
        place += 1;
        place += usize::from(matches!(at(place), b'+' | b'-'));
        run(&mut place, |byte| byte.is_ascii_digit() || byte == b'_');
    }
    place += usize::from(at(place) == b'i');
    match text[place..].chars().next() {
        Some(c) if word(c) => (place + c.len_utf8(), false),
        _ => (place, true),
    }
}
