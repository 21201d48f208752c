//! The parsed form of a template. It shares nothing with a run, so one parse serves many threads.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use super::functions::Function;
use super::functions::quoted;

/// A name of a field, variable or template.
pub(super) type Name = Arc<str>;

#[derive(Debug)]
pub(super) enum Node {
    /// A text and its place.
    Text(Arc<str>, usize),
    Action(Pipe),
    If {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        pipe: Pipe,
        each: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template(Call),
    Break,
    Continue,
}

/// `{{ template "name" pipe }}`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: Name,
    pub(super) pipe: Option<Pipe>,
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) struct Pipe {
    /// Variables that are declared or set.
    pub(super) names: Vec<Name>,
    /// `=`, not `:=`.
    pub(super) sets: bool,
    pub(super) commands: Vec<Command>,
    /// Bytes from the begin of the text.
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    Dot,
    Nil,
    Bool(bool),
    Number(Box<Number>),
    /// What it means, and what was written.
    Text(Arc<str>, Box<str>),
    Field(Box<[Name]>),
    Variable(Name, Box<[Name]>),
    Function(&'static Function),
    Chain(Box<Word>, Box<[Name]>),
    Pipe(Box<Pipe>),
}

/// A number can be several things; which one, its use decides.
#[derive(Debug, Default)]
pub(super) struct Number {
    pub(super) int: Option<i64>,
    pub(super) unsigned: bool,
    pub(super) float: Option<f64>,
    pub(super) complex: bool,
    pub(super) written: String,
}

/// A body with the text it came from, for places of errors.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) nodes: Vec<Node>,
    /// The file, as errors name it.
    pub(super) file: Name,
    pub(super) text: Arc<str>,
}

impl Body {
    /// Nothing but blanks and comments: it takes no other's place.
    pub(super) fn is_blank(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node, Node::Text(text, _) if text.trim().is_empty()))
    }
}

/// A node as errors show it: as Go would write it, not as it was written.
impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, name) in self.names.iter().enumerate() {
            write!(f, "{}{name}", if number > 0 { ", " } else { "" })?;
        }
        if !self.names.is_empty() {
            f.write_str(if self.sets { " = " } else { " := " })?;
        }
        for (number, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if number > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, word) in self.words.iter().enumerate() {
            if number > 0 {
                f.write_str(" ")?;
            }
            match &word.kind {
                Kind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => write!(f, "{word}")?,
            }
        }
        Ok(())
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let fields =
            |f: &mut Formatter<'_>, names: &[Name]| names.iter().try_for_each(|name| write!(f, ".{name}"));
        match &self.kind {
            Kind::Dot => f.write_str("."),
            Kind::Nil => f.write_str("nil"),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Number(number) => f.write_str(&number.written),
            Kind::Text(_, written) => f.write_str(written),
            Kind::Field(names) => fields(f, names),
            Kind::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            Kind::Function(function) => f.write_str(function.name),
            Kind::Chain(inner, names) => {
                match &inner.kind {
                    Kind::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{inner}")?,
                }
                fields(f, names)
            }
            Kind::Pipe(pipe) => write!(f, "{pipe}"),
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template {}", quoted(&self.name))?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}
