//! Which line of which template each line of an output came from, and which values were read for it. Only kept when
//! asked for.

use std::collections::HashMap;
use std::sync::Arc;

use super::tree::{Body, Kind, Name};

/// Where a stretch of an output came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Byte of the output that it begins at; it goes on to the next one's.
    pub offset: usize,
    /// The innermost template's file.
    pub file: Arc<str>,
    /// 1-based.
    pub line: usize,
    /// Paths below `.Values` that were read for it.
    pub values: Vec<String>,
}

/// Most lines of included templates whose origin is kept, and most paths of one action.
const MAX_LINES: usize = 200_000;
const MAX_PATHS: usize = 100;

/// What is written down while a traced template runs.
#[derive(Default)]
pub(super) struct Tracer {
    marks: Vec<Mark>,
    /// Where lines of included templates came from: an include is a text to the functions behind it, so its lines are
    /// found again by what they say.
    lines: HashMap<String, (Arc<str>, usize, Vec<String>)>,
    paths: Vec<String>,
    /// Whether the action at hand ran a template or used a variable, which may hold the result of one.
    may_include: bool,
}

/// What an outer action had gathered when an inner one began.
pub(super) struct Begun {
    paths: Vec<String>,
    may_include: bool,
}

fn line_of(body: &Body, at: usize) -> usize {
    1 + body.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

impl Tracer {
    /// Begins an output of its own and gives the marks of the one around it.
    pub(super) fn output(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    /// Ends an output: its marks, with those of the one around it back in place.
    pub(super) fn end(&mut self, outer: Vec<Mark>) -> Vec<Mark> {
        std::mem::replace(&mut self.marks, outer)
    }

    /// Remembers the lines of an included text.
    pub(super) fn included(&mut self, text: &str, marks: &[Mark]) {
        self.may_include = true;
        let (mut offset, mut at) = (0, 0);
        for line in text.split_inclusive('\n') {
            let begin = offset + (line.len() - line.trim_start().len());
            offset += line.len();
            while marks.get(at + 1).is_some_and(|next| next.offset <= begin) {
                at += 1;
            }
            let said = line.trim();
            let Some(mark) = marks.get(at).filter(|_| !said.is_empty() && self.lines.len() < MAX_LINES)
            else {
                continue;
            };
            // What any part of the line read, the line read.
            let parts = marks[at..].iter().take_while(|next| next.offset < offset);
            let mut values: Vec<String> = Vec::new();
            for path in parts.flat_map(|part| &part.values) {
                if !values.contains(path) {
                    values.push(path.clone());
                }
            }
            self.lines.insert(said.to_owned(), (mark.file.clone(), mark.line, values));
        }
    }

    pub(super) fn text(&mut self, body: &Body, at: usize, offset: usize, text: &str) {
        let mut from = offset;
        for (line, piece) in (line_of(body, at)..).zip(text.split_inclusive('\n')) {
            self.mark(from, (&body.file, line), Vec::new());
            from += piece.len();
        }
    }

    pub(super) fn begin(&mut self) -> Begun {
        let may_include = std::mem::take(&mut self.may_include);
        Begun { paths: std::mem::take(&mut self.paths), may_include }
    }

    /// Marks what an action printed; a line that an included template gave is marked as that template's.
    pub(super) fn printed(&mut self, begun: Begun, (body, at): (&Body, usize), offset: usize, text: &str) {
        let paths = std::mem::replace(&mut self.paths, begun.paths);
        let searches = std::mem::replace(&mut self.may_include, begun.may_include);
        self.paths.extend(paths.iter().take(MAX_PATHS.saturating_sub(self.paths.len())).cloned());
        let own = line_of(body, at);
        let mut from = offset;
        for piece in text.split_inclusive('\n') {
            let known = if searches { self.lines.get(piece.trim()).cloned() } else { None };
            match known {
                Some((file, line, values)) => self.mark(from, (&file, line), values),
                // Blanks say nothing of any value.
                None if piece.trim().is_empty() => self.mark(from, (&body.file, own), Vec::new()),
                None => self.mark(from, (&body.file, own), paths.clone()),
            }
            from += piece.len();
        }
    }

    /// Notes a path that is read.
    pub(super) fn read(&mut self, kind: &Kind, names: &[Name]) {
        let rooted = match kind {
            Kind::Field(_) => true,
            Kind::Variable(name, _) => {
                self.may_include = true;
                **name == *"$"
            }
            _ => false,
        };
        if rooted
            && let Some((first, rest)) = names.split_first()
            && **first == *"Values"
            && self.paths.len() < MAX_PATHS
        {
            let path = rest.join(".");
            if !self.paths.contains(&path) {
                self.paths.push(path);
            }
        }
    }

    fn mark(&mut self, offset: usize, (file, line): (&Arc<str>, usize), values: Vec<String>) {
        if let Some(last) = self.marks.last_mut() {
            // Nothing was written since.
            if last.offset == offset {
                self.marks.pop();
            } else if last.line == line
                && last.file == *file
                && values.iter().all(|path| last.values.contains(path))
            {
                return;
            }
        }
        self.marks.push(Mark { offset, file: file.clone(), line, values });
    }
}
