//! `.helmignore`: looks like Git's, and is not. Patterns are Go's `filepath.Match`, and a `!` ignores what does not
//! match.

use crate::error::{Code, Error, Result};

/// The rules of one chart.
pub(super) struct Rules(Vec<Rule>);

struct Rule {
    glob: Vec<Token>,
    negated: bool,
    only_folders: bool,
    whole_path: bool,
}

enum Token {
    Many,
    One,
    Class { negated: bool, ranges: Vec<(char, char)> },
    Char(char),
}

impl Rules {
    /// The rules of a text, and Helm's own: hidden files among the templates.
    pub(super) fn parse(text: &str, file: &str) -> Result<Self> {
        let mut rules = Vec::new();
        for (number, line) in text.lines().chain(["templates/.?*"]).enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let invalid = |why: &str| Error::new(Code::ChartInvalid, why).in_file(file).at(number + 1, 0);
            if line.contains("**") {
                return Err(invalid("double-star (**) syntax is not supported"));
            }
            if tokens(line).is_none() {
                return Err(invalid("syntax error in pattern"));
            }
            let (negated, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line));
            let (only_folders, line) = line.strip_suffix('/').map_or((false, line), |line| (true, line));
            let whole_path = line.contains('/');
            let glob = tokens(line.strip_prefix('/').unwrap_or(line));
            let glob = glob.ok_or_else(|| invalid("syntax error in pattern"))?;
            rules.push(Rule { glob, negated, only_folders, whole_path });
        }
        Ok(Self(rules))
    }

    /// Whether a path below the chart is left out.
    pub(super) fn ignore(&self, path: &str, folder: bool) -> bool {
        let base = path.rsplit('/').next().unwrap_or(path);
        for rule in &self.0 {
            let found = || matches(&rule.glob, if rule.whole_path { path } else { base });
            if rule.negated {
                if (rule.only_folders && !folder) || !found() {
                    return true;
                }
            } else if (!rule.only_folders || folder) && found() {
                return true;
            }
        }
        false
    }
}

/// `None` for a malformed pattern.
fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut out = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Token::Many,
            '?' => Token::One,
            '\\' => Token::Char(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while chars.peek() != Some(&']') || ranges.is_empty() {
                    let mut end = || match chars.next()? {
                        '-' | ']' => None,
                        '\\' => chars.next(),
                        c => Some(c),
                    };
                    let low = end()?;
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next()? {
                            '-' | ']' => return None,
                            '\\' => chars.next()?,
                            c => c,
                        }
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                chars.next();
                Token::Class { negated, ranges }
            }
            c => Token::Char(c),
        });
    }
    Some(out)
}

fn matches(glob: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut place) = (0, 0);
    // Where the last star stood, and how much it has taken: one step back is enough, a later star replaces it.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let fits = match (glob.get(at), text.get(place)) {
            (None, None) => return true,
            (Some(Token::Many), _) => {
                star = Some((at, place));
                at += 1;
                continue;
            }
            (Some(Token::One), Some(c)) => *c != '/',
            (Some(Token::Char(wanted)), Some(c)) => wanted == c,
            (Some(Token::Class { negated, ranges }), Some(c)) => {
                *c != '/' && ranges.iter().any(|(low, high)| (low..=high).contains(&c)) != *negated
            }
            _ => false,
        };
        if fits {
            at += 1;
            place += 1;
        } else if let Some((back, taken)) =
            star.filter(|(_, taken)| text.get(*taken).is_some_and(|c| *c != '/'))
        {
            star = Some((back, taken + 1));
            at = back + 1;
            place = taken + 1;
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, folder, expected) in [
            ("helm.txt", "helm.txt", false, true),
            ("helm.*", "rudder.txt", false, false),
            ("*.txt", "cargo/a.txt", false, true),
            ("cargo/*.txt", "cargo/a.txt", false, true),
            ("cargo/*.txt", "mast/a.txt", false, false),
            ("cargo/*", "cargo/b/a.txt", false, false),
            ("ru[c-e]?er.txt", "rudder.txt", false, true),
            ("[^a-c]", "d", false, true),
            ("[^a-c]", "b", false, false),
            ("", "templates/.dotfile", false, true),
            (".*", ".joonix", false, true),
            ("cargo/", "cargo", true, true),
            ("cargo/", "cargo", false, false),
            ("!helm.txt", "helm.txt", false, false),
            ("!helm.txt", "tiller.txt", false, true),
            ("!cargo/", "mast", true, true),
            ("/a.txt", "a.txt", false, true),
            ("/a.txt", "cargo/a.txt", false, false),
            ("/cargo/a.txt", "cargo/a.txt", false, true),
            ("# a.txt", "a.txt", false, false),
            ("a\\*", "a*", false, true),
            ("*a*b*c", "xaybzc", false, true),
            ("*a*b*c", "xaybz", false, false),
        ] {
            let rules = Rules::parse(pattern, ".helmignore").unwrap();
            assert_eq!(rules.ignore(path, folder), expected, "{pattern} {path}");
        }
        for pattern in ["foo/**/bar", "[z-", "[]", "a\\"] {
            assert!(Rules::parse(pattern, ".helmignore").is_err(), "{pattern}");
        }
    }
}
