//! Names in snake, kebab and camel case, as the library xstrings cuts words.

use super::texts::{lower, upper};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Number,
    /// Begins with a capital.
    Upper,
    /// Begins with another letter.
    Letters,
    Connector,
    Mark,
    Other,
}

fn connects(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

fn marks(c: char) -> bool {
    c.is_ascii_punctuation() && !connects(c) && !"$+<=>^`|~".contains(c)
}

fn small(c: char) -> bool {
    c.is_alphabetic() && !c.is_uppercase()
}

fn other(c: char) -> bool {
    !connects(c) && !marks(c) && !c.is_alphanumeric()
}

/// The next word: its sort and how many characters it has.
fn next(chars: &[char]) -> Option<(Sort, usize)> {
    let first = *chars.first()?;
    let run =
        |from: usize, fits: fn(char) -> bool| from + chars[from..].iter().take_while(|c| fits(**c)).count();
    Some(match first {
        c if connects(c) => (Sort::Connector, run(1, connects)),
        c if marks(c) => (Sort::Mark, run(1, marks)),
        c if c.is_uppercase() => match (run(1, char::is_uppercase), run(1, small)) {
            (1, end) => (Sort::Upper, end),
            // The last capital begins the next word.
            (capitals, _) if chars.get(capitals).is_some_and(|c| small(*c)) => (Sort::Upper, capitals - 1),
            (capitals, _) => (Sort::Upper, capitals),
        },
        c if small(c) => (Sort::Letters, run(1, small)),
        c if c.is_numeric() => (Sort::Number, run(1, char::is_numeric)),
        _ => (Sort::Other, run(1, other)),
    })
}

/// Words in small letters with a character between.
pub(super) fn joined(text: &str, connector: char) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    while let Some((sort, length)) = next(&chars[at..]) {
        words.push((sort, &chars[at..at + length]));
        at += length;
    }
    let mut out = String::new();
    let write = |out: &mut String, (sort, word): (Sort, &[char])| match sort {
        Sort::Connector => out.extend(word.iter().map(|_| connector)),
        _ => out.extend(word.iter().map(|c| lower(*c))),
    };
    // Whether a word after this one begins with the connector.
    let apart = |word: Option<&(Sort, &[char])>| {
        word.is_some_and(|(sort, _)| !matches!(sort, Sort::Connector | Sort::Mark))
    };
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let last = at + 1 == words.len();
        write(&mut out, *word);
        at += 1;
        if last {
            break;
        }
        let follows = |at: usize, sort: Sort| words.get(at).is_some_and(|(next, _)| *next == sort);
        match word.0 {
            Sort::Number => {
                while follows(at, Sort::Letters) || follows(at, Sort::Number) {
                    write(&mut out, words[at]);
                    at += 1;
                }
                if apart(words.get(at)) {
                    out.push(connector);
                }
            }
            Sort::Connector | Sort::Mark => {}
            _ if !follows(at, Sort::Number) => {
                if apart(words.get(at)) {
                    out.push(connector);
                }
            }
            // A number at the end, or before what is no small letter, belongs to the word before it.
            _ if at + 1 == words.len() => {}
            _ if !follows(at + 1, Sort::Letters) => {
                write(&mut out, words[at]);
                at += 1;
                if apart(words.get(at)) {
                    out.push(connector);
                }
            }
            _ => {
                out.push(connector);
                write(&mut out, words[at]);
                at += 1;
                while follows(at, Sort::Letters) || follows(at, Sort::Number) {
                    write(&mut out, words[at]);
                    at += 1;
                }
                if apart(words.get(at)) {
                    out.push(connector);
                }
            }
        }
    }
    out
}

/// Words with a capital each and nothing between; connectors at both ends stay.
pub(super) fn camel(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    let mut now = None;
    for c in chars.by_ref() {
        if !connects(c) {
            now = Some(c);
            break;
        }
        out.push(c);
    }
    let Some(first) = now else { return out };
    let mut rises = first.is_uppercase();
    let mut now = upper(first);
    for next in chars {
        let before = std::mem::replace(&mut now, next);
        if connects(next) && connects(before) {
            out.push(before);
            continue;
        }
        if connects(before) {
            rises = next.is_uppercase();
            now = upper(next);
            continue;
        }
        if rises {
            if next.is_uppercase() {
                now = lower(next);
            } else {
                rises = false;
            }
        }
        out.push(before);
    }
    out.push(now);
    out
}
