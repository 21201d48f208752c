//! Text to a tree: the grammar of Go's `text/template`.

use std::collections::HashMap;
use std::rc::Rc;

/// A failure with the line it was noticed in.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) line: usize,
    pub(super) why: String,
}

type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(super) enum Node {
    Text(Rc<str>),
    Action(Pipe),
    If { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    With { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Range { pipe: Pipe, each: Vec<Node>, otherwise: Vec<Node> },
    Template { name: String, pipe: Option<Pipe>, at: usize },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Pipe {
    /// Variables that are declared or set.
    pub(super) names: Vec<Rc<str>>,
    /// `=`, not `:=`.
    pub(super) sets: bool,
    pub(super) commands: Vec<Command>,
    /// Bytes from the begin of the text, and the text itself.
    pub(super) at: usize,
    pub(super) shown: Rc<str>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    pub(super) at: usize,
    pub(super) shown: Rc<str>,
}

#[derive(Debug)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) at: usize,
    pub(super) shown: Rc<str>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    /// A whole number that was written as a float, such as `1.0`, can be used as an integer.
    Float(f64),
    Text(Rc<str>),
    Field(Vec<Rc<str>>),
    Variable(Rc<str>, Vec<Rc<str>>),
    Function(Rc<str>),
    Chain(Box<Word>, Vec<Rc<str>>),
    Pipe(Box<Pipe>),
}

/// A parsed body with the text it came from, for places of errors.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) nodes: Vec<Node>,
    /// The file, as errors name it.
    pub(super) file: Rc<str>,
    pub(super) text: Rc<str>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(String),
    Open,
    Close,
    Identifier(String),
    Field(String),
    Variable(String),
    Number(String),
    Char(String),
    Text2(String, String),
    Dot,
    Bar,
    Comma,
    Declare,
    Assign,
    Left,
    Right,
    Space,
    End,
}

struct Lexed {
    token: Token,
    at: usize,
    line: usize,
}

fn lex(text: &str) -> Result<Vec<Lexed>> {
    let mut out = Vec::new();
    let mut at = 0;
    let line_of = |at: usize| 1 + text[..at].matches('\n').count();
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut trim_next = false;
    let push_text = |out: &mut Vec<Lexed>, from: usize, to: usize, left: bool, right: bool| {
        let mut piece = &text[from..to];
        let mut begin = from;
        if left {
            let trimmed = piece.trim_start_matches(blank);
            begin += piece.len() - trimmed.len();
            piece = trimmed;
        }
        if right {
            piece = piece.trim_end_matches(blank);
        }
        if !piece.is_empty() {
            out.push(Lexed { token: Token::Text(piece.to_owned()), at: begin, line: 0 });
        }
    };
    loop {
        let Some(found) = text[at..].find("{{") else {
            push_text(&mut out, at, text.len(), trim_next, false);
            break;
        };
        let open = at + found;
        let mut inner = open + 2;
        let trims = text[inner..].starts_with('-') && text[inner + 1..].starts_with(blank);
        push_text(&mut out, at, open, trim_next, trims);
        trim_next = false;
        if trims {
            inner += 2;
        }
        let rest = &text[inner..];
        let comment = rest.trim_start_matches(|c| trims && blank(c));
        if comment.starts_with("/*") {
            let begin = text.len() - comment.len();
            let fail = |why: &str| Failure { line: line_of(open), why: why.to_owned() };
            let end = text[begin..].find("*/").ok_or_else(|| fail("unclosed comment"))? + begin + 2;
            let after = &text[end..];
            let blanks = after.len() - after.trim_start_matches(blank).len();
            if after.starts_with("}}") {
                at = end + 2;
            } else if blanks > 0 && after[blanks..].starts_with("-}}") {
                at = end + blanks + 3;
                trim_next = true;
            } else {
                return Err(fail("comment ends before closing delimiter"));
            }
            continue;
        }
        out.push(Lexed { token: Token::Open, at: open, line: line_of(open) });
        at = action(text, inner, &mut out, &mut trim_next)?;
    }
    let line = 1 + text.matches('\n').count();
    out.push(Lexed { token: Token::End, at: text.len(), line });
    // Lines of an action are found as it goes; a text has none of its own.
    Ok(out)
}

/// Lexes to the end of an action and says where the text goes on.
fn action(text: &str, mut at: usize, out: &mut Vec<Lexed>, trim_next: &mut bool) -> Result<usize> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut line = 1 + text[..at].matches('\n').count();
    let mut depth = 0;
    let word = |c: char| c == '_' || c.is_alphanumeric();
    loop {
        let rest = &text[at..];
        let fail = |why: String| Err(Failure { line, why });
        let Some(c) = rest.chars().next() else { return fail("unclosed action".to_owned()) };
        let blanks = rest.len() - rest.trim_start_matches(blank).len();
        let mut push = |token: Token| out.push(Lexed { token, at, line });
        if rest.starts_with("}}") || (blanks > 0 && rest[blanks..].starts_with("-}}")) {
            if depth > 0 {
                return fail("unclosed left paren".to_owned());
            }
            push(Token::Close);
            *trim_next = blanks > 0;
            return Ok(at + if blanks > 0 { blanks + 3 } else { 2 });
        }
        if blanks > 0 {
            push(Token::Space);
            line += rest[..blanks].matches('\n').count();
            at += blanks;
            continue;
        }
        let ident = |rest: &str| rest.find(|c| !word(c)).unwrap_or(rest.len());
        let ends = |rest: &str| {
            rest.is_empty()
                || rest
                    .starts_with(|c: char| blank(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(' | '='))
                || rest.starts_with("}}")
        };
        match c {
            '=' => {
                push(Token::Assign);
                at += 1;
            }
            ':' if rest.starts_with(":=") => {
                push(Token::Declare);
                at += 2;
            }
            ':' => return fail("expected :=".to_owned()),
            '|' => {
                push(Token::Bar);
                at += 1;
            }
            ',' => {
                push(Token::Comma);
                at += 1;
            }
            '(' => {
                push(Token::Left);
                depth += 1;
                at += 1;
            }
            ')' => {
                depth -= 1;
                if depth < 0 {
                    return fail("unexpected right paren".to_owned());
                }
                push(Token::Right);
                at += 1;
            }
            '"' => {
                let mut escaped = false;
                let end = rest[1..].char_indices().find(|(_, c)| {
                    let closes = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    closes || *c == '\n'
                });
                match end {
                    Some((end, '"')) => {
                        let raw = &rest[..end + 2];
                        let Some(read) = unquote(&raw[1..raw.len() - 1], '"') else {
                            return fail("invalid syntax".to_owned());
                        };
                        push(Token::Text2(read, raw.to_owned()));
                        at += raw.len();
                    }
                    _ => return fail("unterminated quoted string".to_owned()),
                }
            }
            '`' => {
                let Some(end) = rest[1..].find('`') else {
                    return fail("unterminated raw quoted string".to_owned());
                };
                let raw = &rest[..end + 2];
                push(Token::Text2(raw[1..raw.len() - 1].replace('\r', ""), raw.to_owned()));
                line += raw.matches('\n').count();
                at += raw.len();
            }
            '\'' => {
                let end = rest[1..].char_indices().scan(false, |escaped, (at, c)| {
                    let closes = c == '\'' && !*escaped;
                    *escaped = c == '\\' && !*escaped;
                    Some((at, closes))
                });
                let Some((end, _)) = end.clone().find(|(_, closes)| *closes) else {
                    return fail("unterminated character constant".to_owned());
                };
                push(Token::Char(rest[..end + 2].to_owned()));
                at += end + 2;
            }
            '$' => {
                let end = 1 + ident(&rest[1..]);
                if !ends(&rest[end..]) {
                    return fail(format!("bad character {}", shown(rest[end..].chars().next())));
                }
                push(Token::Variable(rest[..end].to_owned()));
                at += end;
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let end = 1 + ident(&rest[1..]);
                if !ends(&rest[end..]) {
                    return fail(format!("bad character {}", shown(rest[end..].chars().next())));
                }
                push(if end == 1 { Token::Dot } else { Token::Field(rest[1..end].to_owned()) });
                at += end;
            }
            '+' | '-' | '.' | '0'..='9' => {
                let end = rest[1..]
                    .char_indices()
                    .find(|(at, c)| {
                        let exponent = matches!(rest.as_bytes()[*at], b'e' | b'E') && !rest.starts_with("0x");
                        !(c.is_ascii_alphanumeric()
                            || matches!(c, '.' | '_')
                            || (matches!(c, '+' | '-') && exponent))
                    })
                    .map_or(rest.len(), |(end, _)| end + 1);
                push(Token::Number(rest[..end].to_owned()));
                at += end;
            }
            c if word(c) => {
                let end = ident(rest);
                if !ends(&rest[end..]) {
                    return fail(format!("bad character {}", shown(rest[end..].chars().next())));
                }
                push(Token::Identifier(rest[..end].to_owned()));
                at += end;
            }
            c => return fail(format!("unexpected {c:?} in command")),
        }
    }
}

fn shown(c: Option<char>) -> String {
    c.map_or_else(|| "EOF".to_owned(), |c| format!("U+{:04X} '{c}'", u32::from(c)))
}

/// The text of a Go string or character without its quotes.
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
            raw.get(begin..begin + digits).and_then(|text| u32::from_str_radix(text, radix).ok())
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
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Parses a file: its own body, and what it defines.
pub(super) fn parse(
    file: &str,
    text: &str,
    is_function: &dyn Fn(&str) -> bool,
) -> Result<(Body, HashMap<String, Body>)> {
    let tokens = lex(text)?;
    let source: Rc<str> = text.into();
    let mut parser = Parser {
        text,
        tokens,
        at: 0,
        is_function,
        variables: vec!["$".into()],
        loops: 0,
        defined: HashMap::new(),
        file: file.into(),
        source,
        depth: 0,
    };
    let (nodes, end) = parser.list(true)?;
    if let Some(word) = end {
        return Err(parser.fail(format!("unexpected {{{{{word}}}}}")));
    }
    let body = Body { nodes, file: parser.file.clone(), text: parser.source.clone() };
    Ok((body, parser.defined))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Lexed>,
    at: usize,
    is_function: &'a dyn Fn(&str) -> bool,
    variables: Vec<Rc<str>>,
    loops: usize,
    defined: HashMap<String, Body>,
    file: Rc<str>,
    source: Rc<str>,
    depth: usize,
}

/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 200;

impl Parser<'_> {
    fn fail(&self, why: impl Into<String>) -> Failure {
        let seen =
            self.tokens[..=self.at.min(self.tokens.len() - 1)].iter().rev().find(|lexed| lexed.line > 0);
        Failure { line: seen.map_or(1, |lexed| lexed.line), why: why.into() }
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].token
    }

    fn place(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].at
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn blanks(&mut self) {
        while *self.peek() == Token::Space {
            self.at += 1;
        }
    }

    /// What a range of the text looks like in an error.
    fn shown(&self, from: usize) -> Rc<str> {
        let mut last = self.at.min(self.tokens.len() - 1);
        while last > 0 && matches!(self.tokens[last - 1].token, Token::Space) {
            last -= 1;
        }
        let to = self.tokens[last].at;
        self.text.get(from..to.max(from)).unwrap_or_default().trim().into()
    }

    /// Nodes up to `end` or `else`; which of the two.
    fn list(&mut self, top: bool) -> Result<(Vec<Node>, Option<&'static str>)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail("blocks nested deeper than 200 levels"));
        }
        let mut nodes = Vec::new();
        let end = loop {
            match self.next() {
                Token::Text(text) => nodes.push(Node::Text(text.into())),
                Token::End if top => break None,
                Token::End => return Err(self.fail("unexpected EOF")),
                Token::Open => {
                    self.blanks();
                    let word = match self.peek() {
                        Token::Identifier(word) => word.clone(),
                        _ => String::new(),
                    };
                    match word.as_str() {
                        "end" => {
                            self.next();
                            self.close("end")?;
                            break Some("end");
                        }
                        "else" => {
                            self.next();
                            break Some("else");
                        }
                        _ => self.action(&word, &mut nodes, top)?,
                    }
                }
                _ => return Err(self.fail("unexpected token")),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn close(&mut self, context: &str) -> Result<()> {
        self.blanks();
        match self.next() {
            Token::Close => Ok(()),
            other => {
                self.at -= 1;
                Err(self.fail(format!("unexpected {} in {context}", describe(&other))))
            }
        }
    }

    fn action(&mut self, word: &str, nodes: &mut Vec<Node>, top: bool) -> Result<()> {
        match word {
            "if" | "with" | "range" => {
                self.next();
                let node = self.control(word)?;
                nodes.push(node);
            }
            "define" => {
                if !top {
                    return Err(self.fail("unexpected {{define}}"));
                }
                self.next();
                let name = self.name("define clause")?;
                self.close("define clause")?;
                let (variables, loops) =
                    (std::mem::replace(&mut self.variables, vec!["$".into()]), self.loops);
                self.loops = 0;
                let (body, end) = self.list(false)?;
                if end != Some("end") {
                    return Err(self.fail("unexpected {{else}} in define clause"));
                }
                (self.variables, self.loops) = (variables, loops);
                self.define(name, body);
            }
            "block" => {
                self.next();
                let at = self.place();
                let name = self.name("block clause")?;
                let pipe = self.pipe("block clause", false)?;
                self.close("block clause")?;
                let (variables, loops) =
                    (std::mem::replace(&mut self.variables, vec!["$".into()]), self.loops);
                self.loops = 0;
                let (body, end) = self.list(false)?;
                if end != Some("end") {
                    return Err(self.fail("unexpected {{else}} in block clause"));
                }
                (self.variables, self.loops) = (variables, loops);
                self.define(name.clone(), body);
                nodes.push(Node::Template { name, pipe: Some(pipe), at });
            }
            "template" => {
                self.next();
                self.blanks();
                let at = self.place();
                let name = self.name("template clause")?;
                self.blanks();
                let pipe = if *self.peek() == Token::Close {
                    None
                } else {
                    Some(self.pipe("template clause", false)?)
                };
                self.close("template clause")?;
                nodes.push(Node::Template { name, pipe, at });
            }
            "break" | "continue" if !(self.is_function)(word) => {
                self.next();
                self.blanks();
                if *self.peek() != Token::Close {
                    return Err(self.fail(format!("unexpected {} in {{{{{word}}}}}", describe(self.peek()))));
                }
                if self.loops == 0 {
                    return Err(self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(word)?;
                nodes.push(if word == "break" { Node::Break } else { Node::Continue });
            }
            _ => {
                let pipe = self.pipe("command", true)?;
                self.close("command")?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(())
    }

    fn define(&mut self, name: String, nodes: Vec<Node>) {
        let blank = |nodes: &[Node]| {
            nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
        };
        // A blank definition does not take the place of another.
        if blank(&nodes) && self.defined.contains_key(&name) {
            return;
        }
        let body = Body { nodes, file: self.file.clone(), text: self.source.clone() };
        self.defined.insert(name, body);
    }

    fn name(&mut self, context: &str) -> Result<String> {
        self.blanks();
        match self.next() {
            Token::Text2(name, _) => Ok(name),
            other => {
                self.at -= 1;
                Err(self.fail(format!("unexpected {} in {context}", describe(&other))))
            }
        }
    }

    fn control(&mut self, word: &str) -> Result<Node> {
        let known = self.variables.len();
        let pipe = self.pipe(word, true)?;
        self.close(word)?;
        self.loops += usize::from(word == "range");
        let (then, end) = self.list(false)?;
        self.loops -= usize::from(word == "range");
        let mut otherwise = Vec::new();
        if end == Some("else") {
            self.blanks();
            let chained = match self.peek() {
                Token::Identifier(next) if next == "if" && word == "if" => true,
                Token::Identifier(next) if next == "with" && word == "with" => true,
                _ => false,
            };
            if chained {
                self.next();
                // Its end closes both.
                otherwise.push(self.control(word)?);
            } else {
                self.close("else")?;
                let (nodes, end) = self.list(false)?;
                if end != Some("end") {
                    return Err(self.fail("expected end; found {{else}}"));
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

    fn pipe(&mut self, context: &str, may_declare: bool) -> Result<Pipe> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail("parentheses nested deeper than 200 levels"));
        }
        self.blanks();
        let at = self.place();
        let (mut names, mut sets) = (Vec::new(), false);
        while let Token::Variable(name) = self.peek().clone() {
            let before = self.at;
            self.next();
            self.blanks();
            match self.peek() {
                Token::Declare | Token::Assign if may_declare => {
                    sets = *self.peek() == Token::Assign;
                    self.next();
                    names.push(Rc::from(name.as_str()));
                    break;
                }
                Token::Comma if context == "range" && names.is_empty() => {
                    self.next();
                    self.blanks();
                    names.push(Rc::from(name.as_str()));
                    if !matches!(self.peek(), Token::Variable(_)) {
                        return Err(self.fail("range can only initialize variables"));
                    }
                }
                Token::Comma if context != "range" => {
                    return Err(self.fail(format!("too many declarations in {context}")));
                }
                _ => {
                    self.at = before;
                    break;
                }
            }
        }
        if sets {
            for name in &names {
                self.known(name)?;
            }
        }
        let mut commands = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                Token::Close | Token::Right => {
                    if commands.is_empty() {
                        return Err(self.fail(format!("missing value for {context}")));
                    }
                    break;
                }
                Token::Bar => return Err(self.fail(format!("missing value for {context}"))),
                _ => {}
            }
            let command = self.command()?;
            let first = &command.words[0].kind;
            if !commands.is_empty()
                && matches!(
                    first,
                    Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Int(_) | Kind::Float(_) | Kind::Text(_)
                )
            {
                return Err(
                    self.fail(format!("non executable command in pipeline stage {}", commands.len() + 1))
                );
            }
            commands.push(command);
            self.blanks();
            if *self.peek() == Token::Bar {
                self.next();
                self.blanks();
                if matches!(self.peek(), Token::Close | Token::Right) {
                    return Err(self.fail(format!("missing value for {context}")));
                }
            }
        }
        if !sets {
            self.variables.extend(names.iter().cloned());
        }
        self.depth -= 1;
        Ok(Pipe { names, sets, commands, at, shown: self.shown(at) })
    }

    fn command(&mut self) -> Result<Command> {
        let at = self.place();
        let mut words = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                Token::Close | Token::Right | Token::Bar => break,
                _ => {}
            }
            words.push(self.operand()?);
            match self.peek() {
                Token::Space | Token::Close | Token::Right | Token::Bar => {}
                other => return Err(self.fail(format!("unexpected {} in operand", describe(other)))),
            }
        }
        if words.is_empty() {
            return Err(self.fail("empty command"));
        }
        Ok(Command { words, at, shown: self.shown(at) })
    }

    fn operand(&mut self) -> Result<Word> {
        let at = self.place();
        let token = self.next();
        let kind = match token {
            Token::Identifier(name) => match name.as_str() {
                "true" | "false" => Kind::Bool(name == "true"),
                "nil" => Kind::Nil,
                _ if (self.is_function)(&name) => Kind::Function(name.into()),
                _ => {
                    self.at -= 1;
                    return Err(self.fail(format!("function {name:?} not defined")));
                }
            },
            Token::Dot => Kind::Dot,
            Token::Variable(name) => {
                self.known(&name)?;
                Kind::Variable(name.into(), Vec::new())
            }
            Token::Field(name) => Kind::Field(vec![name.into()]),
            Token::Number(text) => self.number(&text)?,
            Token::Char(raw) => {
                let inner = unquote(&raw[1..raw.len() - 1], '\'');
                let mut chars = inner.as_deref().unwrap_or_default().chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => Kind::Int(i64::from(u32::from(c))),
                    _ => return Err(self.fail(format!("malformed character constant: {raw}"))),
                }
            }
            Token::Text2(text, _) => Kind::Text(text.into()),
            Token::Left => {
                let pipe = self.pipe("parenthesized pipeline", true)?;
                self.blanks();
                if self.next() != Token::Right {
                    self.at -= 1;
                    return Err(
                        self.fail(format!("unexpected {} in parenthesized pipeline", describe(self.peek())))
                    );
                }
                Kind::Pipe(Box::new(pipe))
            }
            other => {
                self.at -= 1;
                return Err(self.fail(format!("unexpected {} in command", describe(&other))));
            }
        };
        let mut word = Word { kind, at, shown: "".into() };
        let mut fields: Vec<Rc<str>> = Vec::new();
        // Go puts a chain where its second part begins.
        let joint = self.place();
        while let Token::Field(name) = self.peek().clone() {
            self.next();
            fields.push(name.into());
        }
        word.shown = self.shown(at);
        if fields.is_empty() {
            return Ok(word);
        }
        let shown = word.shown.clone();
        let kind = match word.kind {
            Kind::Field(mut first) => {
                first.extend(fields);
                Kind::Field(first)
            }
            Kind::Variable(name, _) => Kind::Variable(name, fields),
            Kind::Bool(_) | Kind::Text(_) | Kind::Int(_) | Kind::Float(_) | Kind::Nil | Kind::Dot => {
                return Err(self.fail(format!("unexpected . after term {:?}", &*word.shown)));
            }
            _ => Kind::Chain(Box::new(word), fields),
        };
        Ok(Word { kind, at: joint, shown })
    }

    fn known(&self, name: &str) -> Result<()> {
        if self.variables.iter().any(|known| **known == *name) {
            return Ok(());
        }
        Err(self.fail(format!("undefined variable {name:?}")))
    }

    fn number(&self, text: &str) -> Result<Kind> {
        let bad = || self.fail(format!("bad number syntax: {text:?}"));
        let compact = text.replace('_', "");
        let (negative, digits) = match compact.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, compact.strip_prefix('+').unwrap_or(&compact)),
        };
        let radix = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => Some((16, 2)),
            Some("0b") => Some((2, 2)),
            Some("0o") => Some((8, 2)),
            _ if digits.len() > 1
                && digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                Some((8, 1))
            }
            _ => None,
        };
        let whole = match radix {
            Some((radix, skip)) => i64::from_str_radix(&digits[skip..], radix).ok(),
            None => digits.parse::<i64>().ok(),
        };
        if let Some(whole) = whole {
            return Ok(Kind::Int(if negative { -whole } else { whole }));
        }
        if radix.is_some_and(|(radix, _)| radix != 8)
            || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        {
            return Err(bad());
        }
        compact.parse().map(Kind::Float).map_err(|_| bad())
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Text(_) => "text".to_owned(),
        Token::Open => "\"{{\"".to_owned(),
        Token::Close => "\"}}\"".to_owned(),
        Token::Identifier(text) | Token::Variable(text) | Token::Number(text) | Token::Char(text) => {
            format!("<{text}>")
        }
        Token::Field(text) => format!("<.{text}>"),
        Token::Text2(_, raw) => raw.clone(),
        Token::Dot => "<.>".to_owned(),
        Token::Bar => "\"|\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
        Token::Declare => "\":=\"".to_owned(),
        Token::Assign => "\"=\"".to_owned(),
        Token::Left => "\"(\"".to_owned(),
        Token::Right => "\")\"".to_owned(),
        Token::Space => "space".to_owned(),
        Token::End => "EOF".to_owned(),
    }
}
