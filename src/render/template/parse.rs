//! Tokens to a tree: the grammar of Go's `text/template`.

use std::sync::Arc;

use super::functions::{self, quoted};
use super::lex::{Lexer, Sort, Token};
use super::tree::{Body, Call, Command, Kind, Name, Node, Number, Pipe, Word};

/// A failure with the line it was noticed in.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) line: usize,
    pub(super) why: String,
}

type Result<T> = std::result::Result<T, Failure>;

/// Deepest nesting of blocks and parentheses. Go has 10,000 for parentheses; nobody writes 200.
const MAX_DEPTH: usize = 200;

/// Parses a file: its own body, and what it defines.
pub(super) fn parse(file: &str, text: &str) -> Result<(Body, Vec<(Name, Body)>)> {
    let file: Name = file.into();
    let mut parser = Parser {
        lexer: Lexer::new(text),
        ahead: Vec::new(),
        // The line of an error is that of the token read last.
        line: 1,
        variables: vec!["$".into()],
        loops: 0,
        opened: 0,
        defined: Vec::new(),
        file: file.clone(),
        source: text.into(),
        depth: 0,
    };
    let nodes = parser.top()?;
    let body = Body { nodes, file, text: parser.source.clone() };
    let twice = parser.defined.iter().position(|(name, _)| *name == body.file);
    if let Some(place) = twice {
        if parser.defined[place].1.is_blank() {
            parser.defined.remove(place);
        } else if body.is_blank() {
            let (_, defined) = parser.defined.remove(place);
            return Ok((defined, parser.defined));
        } else {
            return Err(parser.twice(&body.file));
        }
    }
    Ok((body, parser.defined))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// Tokens that were read and put back; the next one last.
    ahead: Vec<Token<'a>>,
    line: usize,
    variables: Vec<Name>,
    loops: usize,
    /// The line in which the current action was opened; 0 outside of actions.
    opened: usize,
    defined: Vec<(Name, Body)>,
    file: Name,
    source: Arc<str>,
    depth: usize,
}

/// What ends a list of nodes.
enum End {
    End,
    Else,
}

impl End {
    fn shown(&self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    End(End),
}

impl<'a> Parser<'a> {
    fn fail(&self, why: impl Into<String>) -> Failure {
        Failure { line: self.line, why: why.into() }
    }

    fn unexpected(&self, token: &Token<'_>, context: &str) -> Failure {
        if token.sort != Sort::Error {
            return self.fail(format!("unexpected {} in {context}", token.shown()));
        }
        let mut why = token.why.clone();
        if self.opened != 0 && self.opened != token.line {
            let action = if why.ends_with(" action") { "" } else { " in action" };
            why.push_str(&format!("{action} started at {}:{}", self.file, self.opened));
        }
        self.fail(why)
    }

    fn twice(&self, name: &str) -> Failure {
        self.fail(format!("template: multiple definition of template {}", quoted(name)))
    }

    fn next(&mut self) -> Token<'a> {
        self.ahead.pop().unwrap_or_else(|| {
            let token = self.lexer.next();
            self.line = token.line;
            token
        })
    }

    fn back(&mut self, token: Token<'a>) {
        self.ahead.push(token);
    }

    fn peek(&mut self) -> &Token<'a> {
        if self.ahead.is_empty() {
            let token = self.next();
            self.back(token);
        }
        &self.ahead[self.ahead.len() - 1]
    }

    fn next_dark(&mut self) -> Token<'a> {
        loop {
            let token = self.next();
            if token.sort != Sort::Space {
                return token;
            }
        }
    }

    fn peek_dark(&mut self) -> &Token<'a> {
        let token = self.next_dark();
        self.back(token);
        self.peek()
    }

    fn expect_close(&mut self, context: &str) -> Result<()> {
        let token = self.next_dark();
        if token.sort == Sort::Close { Ok(()) } else { Err(self.unexpected(&token, context)) }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail(format!("max expression depth exceeded ({MAX_DEPTH} levels)")));
        }
        Ok(())
    }

    fn top(&mut self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek().sort != Sort::End {
            if self.peek().sort == Sort::Open {
                let open = self.next();
                let word = self.next_dark();
                if word.is("define") {
                    self.definition()?;
                    continue;
                }
                self.back(word);
                self.back(open);
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::End(end) => return Err(self.fail(format!("unexpected {}", end.shown()))),
            }
        }
        Ok(nodes)
    }

    /// Nodes up to `end` or `else`.
    fn list(&mut self) -> Result<(Vec<Node>, End)> {
        self.deeper()?;
        let mut nodes = Vec::new();
        while self.peek_dark().sort != Sort::End {
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::End(end) => {
                    self.depth -= 1;
                    return Ok((nodes, end));
                }
            }
        }
        Err(self.fail("unexpected EOF"))
    }

    fn item(&mut self) -> Result<Item> {
        let token = self.next_dark();
        match token.sort {
            Sort::Text => Ok(Item::Node(Node::Text(token.text.into(), token.at))),
            Sort::Open => {
                self.opened = token.line;
                let item = self.action()?;
                self.opened = 0;
                Ok(item)
            }
            _ => Err(self.unexpected(&token, "input")),
        }
    }

    fn action(&mut self) -> Result<Item> {
        let token = self.next_dark();
        if token.sort == Sort::Keyword {
            match token.text {
                "block" => return self.block().map(Item::Node),
                "break" | "continue" => {
                    let word = token.text;
                    let end = self.next_dark();
                    if end.sort != Sort::Close {
                        return Err(self.unexpected(&end, &format!("{{{{{word}}}}}")));
                    }
                    if self.loops == 0 {
                        return Err(self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                    }
                    return Ok(Item::Node(if word == "break" { Node::Break } else { Node::Continue }));
                }
                "else" => {
                    let next = self.peek_dark();
                    if !next.is("if") && !next.is("with") {
                        self.expect_close("else")?;
                    }
                    return Ok(Item::End(End::Else));
                }
                "end" => return self.expect_close("end").map(|()| Item::End(End::End)),
                "if" | "range" | "with" => return self.control(token.text).map(Item::Node),
                "template" => return self.template().map(Item::Node),
                _ => {}
            }
        }
        self.back(token);
        Ok(Item::Node(Node::Action(self.pipe("command", Sort::Close)?)))
    }

    fn definition(&mut self) -> Result<()> {
        let context = "define clause";
        let token = self.next_dark();
        let name = self.name(&token, context)?;
        self.expect_close(context)?;
        self.body(name, context)
    }

    /// The body of a definition; it sees no variables but `$`.
    fn body(&mut self, name: Name, context: &str) -> Result<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let (loops, opened) = (std::mem::take(&mut self.loops), std::mem::take(&mut self.opened));
        let (nodes, end) = self.list()?;
        if matches!(end, End::Else) {
            return Err(self.fail(format!("unexpected {} in {context}", end.shown())));
        }
        (self.variables, self.loops, self.opened) = (variables, loops, opened);
        let body = Body { nodes, file: self.file.clone(), text: self.source.clone() };
        match self.defined.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if known.is_blank() => *known = body,
            Some(_) if body.is_blank() => {}
            Some(_) => return Err(self.twice(&name)),
            None => self.defined.push((name, body)),
        }
        Ok(())
    }

    fn name(&self, token: &Token<'_>, context: &str) -> Result<Name> {
        match token.sort {
            Sort::Quoted | Sort::RawText => self.unquote(token).map(Into::into),
            _ => Err(self.unexpected(token, context)),
        }
    }

    fn unquote(&self, token: &Token<'_>) -> Result<String> {
        let inner = &token.text[1..token.text.len() - 1];
        if token.sort == Sort::RawText {
            return Ok(inner.replace('\r', ""));
        }
        unquote(inner, '"').ok_or_else(|| self.fail("invalid syntax"))
    }

    fn block(&mut self) -> Result<Node> {
        let context = "block clause";
        let token = self.next_dark();
        let name = self.name(&token, context)?;
        let pipe = self.pipe(context, Sort::Close)?;
        self.body(name.clone(), context)?;
        Ok(Node::Template(Call { name, pipe: Some(pipe), at: token.at }))
    }

    fn template(&mut self) -> Result<Node> {
        let context = "template clause";
        let token = self.next_dark();
        let name = self.name(&token, context)?;
        let next = self.next_dark();
        let pipe = if next.sort == Sort::Close {
            None
        } else {
            self.back(next);
            Some(self.pipe(context, Sort::Close)?)
        };
        Ok(Node::Template(Call { name, pipe, at: token.at }))
    }

    fn control(&mut self, word: &str) -> Result<Node> {
        let known = self.variables.len();
        let pipe = self.pipe(word, Sort::Close)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.list()?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if matches!(end, End::Else) {
            // The end of a chained one closes both.
            if matches!(word, "if" | "with") && self.peek().is(word) {
                self.next();
                self.deeper()?;
                otherwise.push(self.control(word)?);
                self.depth -= 1;
            } else {
                let (nodes, end) = self.list()?;
                if matches!(end, End::Else) {
                    return Err(self.fail(format!("expected end; found {}", end.shown())));
                }
                otherwise = nodes;
            }
        }
        self.variables.truncate(known);
        Ok(match word {
            "if" => Node::If { pipe, then, otherwise },
            "with" => Node::With { pipe, then, otherwise },
            _ => Node::Range { pipe, each: then, otherwise },
        })
    }

    fn pipe(&mut self, context: &str, end: Sort) -> Result<Pipe> {
        let mut pipe = Pipe { names: Vec::new(), sets: false, commands: Vec::new(), at: self.peek_dark().at };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.next_dark();
            match token.sort {
                sort if sort == end => break,
                Sort::Bool
                | Sort::Char
                | Sort::Complex
                | Sort::Dot
                | Sort::Field
                | Sort::Identifier
                | Sort::Number
                | Sort::RawText
                | Sort::Quoted
                | Sort::Variable
                | Sort::LeftParen => {
                    self.back(token);
                    pipe.commands.push(self.command()?);
                }
                Sort::Keyword if token.is("nil") => {
                    self.back(token);
                    pipe.commands.push(self.command()?);
                }
                _ => return Err(self.unexpected(&token, context)),
            }
        }
        if pipe.commands.is_empty() {
            return Err(self.fail(format!("missing value for {context}")));
        }
        let stuck = pipe.commands.iter().skip(1).position(|command| {
            let first = command.words.first().map(|word| &word.kind);
            matches!(first, Some(Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Number(_) | Kind::Text(..)))
        });
        match stuck {
            Some(stage) => Err(self.fail(format!("non executable command in pipeline stage {}", stage + 2))),
            None => Ok(pipe),
        }
    }

    /// `$x :=`, `$x =`, and `$k, $v :=` in a range.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<()> {
        while self.peek_dark().sort == Sort::Variable {
            let variable = self.next();
            let space = (self.peek().sort == Sort::Space).then(|| self.next());
            let next = self.next_dark();
            let name: Name = variable.text.into();
            if matches!(next.sort, Sort::Assign | Sort::Declare) {
                pipe.sets = next.sort == Sort::Assign;
                pipe.names.push(name.clone());
                self.variables.push(name);
                return Ok(());
            }
            if next.sort == Sort::Other && next.text == "," {
                pipe.names.push(name.clone());
                self.variables.push(name);
                if context == "range" && pipe.names.len() < 2 {
                    match self.peek_dark().sort {
                        Sort::Variable | Sort::Close | Sort::RightParen => continue,
                        _ => return Err(self.fail("range can only initialize variables")),
                    }
                }
                return Err(self.fail(format!("too many declarations in {context}")));
            }
            self.back(next);
            self.ahead.extend(space);
            self.back(variable);
            return Ok(());
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command> {
        let at = self.peek_dark().at;
        let mut words = Vec::new();
        loop {
            self.peek_dark();
            words.extend(self.operand()?);
            let token = self.next();
            match token.sort {
                Sort::Space => {}
                Sort::Close | Sort::RightParen => {
                    self.back(token);
                    break;
                }
                Sort::Bar => break,
                _ => return Err(self.unexpected(&token, "operand")),
            }
        }
        if words.is_empty() {
            return Err(self.fail("empty command"));
        }
        Ok(Command { words, at })
    }

    fn operand(&mut self) -> Result<Option<Word>> {
        let Some(word) = self.term()? else { return Ok(None) };
        if self.peek().sort != Sort::Field {
            return Ok(Some(word));
        }
        // Go puts a chain where its second part begins.
        let at = self.peek().at;
        let mut fields: Vec<Name> = Vec::new();
        while self.peek().sort == Sort::Field {
            fields.push(self.next().text[1..].into());
        }
        let kind = match word.kind {
            Kind::Field(first) => Kind::Field(first.iter().cloned().chain(fields).collect()),
            Kind::Variable(name, first) => {
                Kind::Variable(name, first.iter().cloned().chain(fields).collect())
            }
            Kind::Bool(_) | Kind::Text(..) | Kind::Number(_) | Kind::Nil | Kind::Dot => {
                return Err(self.fail(format!("unexpected . after term {}", quoted(&word.to_string()))));
            }
            _ => Kind::Chain(Box::new(word), fields.into()),
        };
        Ok(Some(Word { kind, at }))
    }

    fn term(&mut self) -> Result<Option<Word>> {
        let token = self.next_dark();
        let kind = match token.sort {
            Sort::Identifier => match functions::find(token.text) {
                Some(function) => Kind::Function(function),
                None => return Err(self.fail(format!("function {} not defined", quoted(token.text)))),
            },
            Sort::Dot => Kind::Dot,
            Sort::Keyword if token.is("nil") => Kind::Nil,
            Sort::Variable => {
                let Some(known) = self.variables.iter().find(|known| ***known == *token.text) else {
                    return Err(self.fail(format!("undefined variable {}", quoted(token.text))));
                };
                Kind::Variable(known.clone(), Box::default())
            }
            Sort::Field => Kind::Field(Box::new([token.text[1..].into()])),
            Sort::Bool => Kind::Bool(token.text == "true"),
            Sort::Char | Sort::Complex | Sort::Number => {
                Kind::Number(Box::new(number(&token).map_err(|why| self.fail(why))?))
            }
            Sort::LeftParen => {
                self.deeper()?;
                let pipe = self.pipe("parenthesized pipeline", Sort::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Word { at: pipe.at, kind: Kind::Pipe(Box::new(pipe)) }));
            }
            Sort::Quoted | Sort::RawText => Kind::Text(self.unquote(&token)?.into(), token.text.into()),
            _ => {
                self.back(token);
                return Ok(None);
            }
        };
        Ok(Some(Word { kind, at: token.at }))
    }
}

/// A number as Go's parser reads it: an integer, a float, both, or a complex one.
fn number(token: &Token<'_>) -> std::result::Result<Number, String> {
    let text = token.text;
    let mut number = Number { written: text.to_owned(), ..Number::default() };
    #[expect(clippy::cast_precision_loss, reason = "as Go does it")]
    match token.sort {
        Sort::Char => {
            let inner = &text[1..text.len() - 1];
            let read = unquote(inner, '\'').ok_or("invalid syntax")?;
            let mut chars = read.chars();
            let (Some(c), None) = (chars.next(), chars.next()) else {
                return Err(format!("malformed character constant: {text}"));
            };
            let code = i64::from(u32::from(c));
            (number.int, number.float, number.unsigned) = (Some(code), Some(code as f64), true);
            return Ok(number);
        }
        Sort::Complex => {
            number.complex = true;
            return Ok(number);
        }
        _ => {}
    }
    if let Some(real) = text.strip_suffix('i')
        && parse_float(real).is_some()
    {
        number.complex = true;
        return Ok(number);
    }
    number.int = parse_int(text);
    number.unsigned = number.int.map_or_else(|| magnitude(text).is_some(), |int| int >= 0);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as Go does it")]
    if let Some(int) = number.int {
        number.float = Some(int as f64);
    } else if let Some(unsigned) = magnitude(text) {
        number.float = Some(unsigned as f64);
    } else if let Some(float) = parse_float(text) {
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", quoted(text)));
        }
        number.float = Some(float);
        if float.fract() == 0.0 && float.abs() < 9.2e18 {
            number.int = Some(float as i64);
        }
    } else {
        return Err(format!("illegal number syntax: {}", quoted(text)));
    }
    Ok(number)
}

/// The magnitude of a whole number with its base prefix; underscores only where Go takes them.
fn magnitude(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let prefixed = lower.starts_with('0') && lower.len() > 1;
    let sound = |digits: &str| {
        !digits.ends_with('_') && !digits.contains("__") && (prefixed || !digits.starts_with('_'))
    };
    if digits.starts_with(['+', '-']) || !sound(digits) {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

/// `strconv.ParseInt(text, 0, 64)`.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(digits) => 0_i64.checked_sub_unsigned(magnitude(digits)?),
        None => i64::try_from(magnitude(text.strip_prefix('+').unwrap_or(text))?).ok(),
    }
}

/// `strconv.ParseFloat(text, 64)`, without infinities by name.
fn parse_float(text: &str) -> Option<f64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let size = if digits.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x")) {
        hex_float(&digits[2..])?
    } else {
        if digits.contains('_') || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        digits.parse::<f64>().ok().filter(|float| float.is_finite())?
    };
    Some(if negative { -size } else { size })
}

/// `1.8p3`: a mantissa in base 16, a power of 2.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}").replace('_', "");
    if digits.is_empty() || digits.len() > 13 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "13 digits of base 16 are 52 bits")]
    let value = u64::from_str_radix(&digits, 16).ok()? as f64;
    let places = i32::try_from(fraction.len()).ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    Some(value * 2_f64.powi(exponent.checked_sub(4 * places)?))
}

/// The text of a Go string or character without its quotes; what is not UTF-8 has no form here.
fn unquote(raw: &str, quote: char) -> Option<String> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(c) = raw[at..].chars().next() {
        at += c.len_utf8();
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let c = raw[at..].chars().next()?;
        let code = |begin: usize, digits: usize, radix: u32| {
            let digits = raw.get(begin..begin + digits)?;
            u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
        };
        at += c.len_utf8();
        match c {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(10),
            'r' => bytes.push(13),
            't' => bytes.push(9),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::try_from(code(at, 2, 16)?).ok()?);
                at += 2;
            }
            '0'..='7' => {
                bytes.push(u8::try_from(code(at - 1, 3, 8)?).ok()?);
                at += 2;
            }
            'u' | 'U' => {
                let digits = if c == 'u' { 4 } else { 8 };
                let c = char::from_u32(code(at, digits, 16)?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                at += digits;
            }
            c if c == quote => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}
