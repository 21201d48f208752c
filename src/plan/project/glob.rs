//! Globs of names: `*` is any run of characters, `?` is one; a slash is neither.

use std::fmt;

/// A pattern of names. Nothing but `*` and `?` is special, so that a rule means what it looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// In words, for characters that other globs know and this one does not.
    pub fn new(text: &str) -> Result<Self, String> {
        if let Some(found) = text.chars().find(|c| "[]{}\\!,/".contains(*c)) {
            return Err(format!(
                "{text:?} holds {found:?}; only * and ? are special, anything else is itself"
            ));
        }
        Ok(Self(text.chars().collect()))
    }

    /// Of one name alone, whatever it holds.
    pub(super) fn literal(name: &str) -> Self {
        Self(name.chars().collect())
    }

    /// Whether a name is one of these.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        matches_run(
            &self.0,
            &name,
            |sign| *sign == '*',
            |sign, c| *c != '/' && (*sign == '*' || *sign == '?' || sign == c),
        )
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|c| write!(f, "{c}"))
    }
}

/// Whether a whole sequence fits a pattern in which stars stand for any run of what `fits` them. It goes back to the last
/// star only, so its cost is the product of both lengths at most.
pub(super) fn matches_run<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(part) if is_star(part) => {
                back = Some((at, seen));
                at += 1;
            }
            Some(part) if fits(part, &text[seen]) => {
                at += 1;
                seen += 1;
            }
            _ => match back {
                // The star takes one more, where it may.
                Some((star, begin)) if fits(&pattern[star], &text[begin]) => {
                    back = Some((star, begin + 1));
                    (at, seen) = (star + 1, begin + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(is_star)
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn globs() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(Glob::new(pattern).unwrap().matches(name), expected, "{pattern} {name}");
        };
        check("ml", "ml", true);
        check("ml", "mlx", false);
        check("ml", "xml", false);
        check("ml-*", "ml-a", true);
        check("ml-*", "ml-", true);
        check("ml-*", "ml", false);
        check("*-ml", "a-ml", true);
        check("*", "", true);
        check("*", "kube-system", true);
        check("*", "a/b", false);
        check("team-*", "team-a/../kube-system", false);
        check("a*b*c", "aXbYbZc", true);
        check("a*b*c", "aXbYbZ", false);
        check("m?", "ml", true);
        check("m?", "m", false);
        check("?", "/", false);
        check("", "", true);
        check("", "apps", false);
        check("a.b", "aXb", false);
        check("Role", "role", false);
        check("é*", "één", true);
        check(&"*a".repeat(50), &"a".repeat(500), true);
        check(&"*a".repeat(50), &format!("{}b", "a".repeat(500)), false);
    }

    #[test]
    fn what_other_globs_know_is_refused() {
        for text in ["[a-z]*", "{a,b}", "!ml", "a\\*", "ml/x", "a, b"] {
            let why = Glob::new(text).unwrap_err();
            assert!(why.contains("only * and ?"), "{why}");
        }
    }
}
