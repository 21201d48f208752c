//! Where something is in JSON: the paths of kubectl's jsonpath that lead to one place.

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    Item(u32),
}

/// Reads `{$.data.rate}`.
///
/// # Errors
/// Why it is not one place, in words.
pub(super) fn read(text: &str) -> Result<Vec<Step>, String> {
    let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inner) = inner.map(str::trim) else {
        return Err("without braces around it a jsonPath is text".into());
    };
    let mut rest = inner.strip_prefix(['$', '@']).unwrap_or(inner);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = &after[..end];
            let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
            match name {
                "" if steps.is_empty() && after.is_empty() => {}
                // `.[0]`
                "" if after.starts_with('[') => {}
                "" => return Err("it leads to more than one place".into()),
                name if name.chars().all(is_plain) => steps.push(Step::Field(name.to_owned())),
                _ => return Err(format!(".{name} is not one place")),
            }
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = after.find(']') else { return Err("a bracket is not closed".into()) };
            let index = after[..end].trim();
            let quoted = ['\'', '"'].into_iter().find_map(|quote| {
                let text = index.strip_prefix(quote)?.strip_suffix(quote)?;
                (!text.contains([quote, '\\', ','])).then(|| text.to_owned())
            });
            steps.push(match (quoted, index.parse()) {
                (Some(name), _) => Step::Field(name),
                (None, Ok(item)) => Step::Item(item),
                _ => return Err(format!("[{index}] is not one place")),
            });
            rest = &after[end + 1..];
        } else {
            return Err(format!("{rest} is not known here"));
        }
    }
    Ok(steps)
}

/// As a JSON pointer; empty for all of it.
pub(super) fn pointer(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        Step::Item(item) => format!("/{item}"),
    };
    steps.iter().map(step).collect()
}

/// As CEL over `result`.
pub(super) fn cel(steps: &[Step]) -> String {
    steps.iter().fold("result".to_owned(), |of, step| match step {
        Step::Field(name) => field(&of, name),
        Step::Item(item) => format!("{of}[{item}]"),
    })
}

/// A text of CEL.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\'' => quoted.push_str("\\'"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// Words that CEL keeps for itself.
const KEPT: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Whether a field can be named after a dot.
pub(super) fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEPT.contains(&name)
}

/// A field of something.
pub(super) fn field(of: &str, name: &str) -> String {
    if is_plain(name) { format!("{of}.{name}") } else { format!("{of}[{}]", quoted(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (text, at, expression) in [
            ("{$.data.rate}", "/data/rate", "result.data.rate"),
            ("{$}", "", "result"),
            ("{.}", "", "result"),
            ("{.a[0].b-c}", "/a/0/b-c", "result.a[0]['b-c']"),
            ("{$['a.b']['in']}", "/a.b/in", "result['a.b']['in']"),
            ("{ @.in }", "/in", "result['in']"),
        ] {
            let steps = read(text).unwrap();
            assert_eq!((pointer(&steps).as_str(), cel(&steps).as_str()), (at, expression), "{text}");
        }
        for text in [
            "$.a",
            "{$..a}",
            "{.a[*]}",
            "{.a[?(@.b==1)]}",
            "{.a[-1]}",
            "{.a[0:2]}",
            "{.a\\.b}",
            "{.a}{.b}",
            "{range .a}",
            "{.*}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
