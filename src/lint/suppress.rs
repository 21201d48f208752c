//! Findings that a file says it knows of.
//!
//! A comment `# driftless:lint-ignore RULE[,RULE] reason` in a document, or the annotation `driftless.dev/lint-ignore` of
//! an object, is for that document or object alone.

use std::collections::HashMap;

use super::rule::rules;
use super::{Finding, Rule, Subject, rule_named};
use crate::render::explain::below;

rules! { "Suppression":
    UNKNOWN_RULE "unknown-lint-rule" Error Certain
        "a suppression of a rule that does not exist"
        "The finding that it was meant for is still told, or the rule has another name now. `driftless lint --list` shows all rules."
}

const COMMENT: &str = "driftless:lint-ignore";
const ANNOTATION: &str = "driftless.dev/lint-ignore";

/// The comments of files, by file and document.
#[derive(Debug, Default)]
pub struct Suppressions {
    files: HashMap<String, Vec<Comment>>,
}

#[derive(Clone, Debug)]
struct Comment {
    line: usize,
    /// The lines of its document, from the divider before it.
    from: usize,
    to: usize,
    rules: Vec<String>,
}

impl Suppressions {
    /// Notes the comments of a file.
    pub fn read(&mut self, file: &str, text: &str) {
        if self.files.contains_key(file) {
            return;
        }
        let mut found: Vec<Comment> = Vec::new();
        let (mut from, mut last) = (1, 0);
        for (at, line) in text.lines().enumerate() {
            let number = at + 1;
            last = number;
            if line == "---" || line.starts_with("--- ") {
                close(&mut found, from, number - 1);
                from = number;
            }
            let Some((before, rest)) = line.split_once(COMMENT) else { continue };
            // In a template the comment may be one of Go's.
            let is_comment =
                before.trim_end().ends_with('#') || before.contains("{{/*") || before.contains("{{- /*");
            if is_comment {
                let names = rest.split_whitespace().next().unwrap_or_default();
                found.push(Comment { line: number, from: 0, to: 0, rules: split(names) });
            }
        }
        close(&mut found, from, last);
        self.files.insert(file.to_owned(), found);
    }

    /// Whether a file has been noted.
    pub fn knows(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// Whether a finding is one that the object, its document, or the document at the place of the finding knows of.
    pub fn holds(&self, finding: &Finding, subject: &Subject, file: &str, line: usize) -> bool {
        let annotated = subject.annotation(ANNOTATION).is_some_and(|text| names(text, finding.rule));
        let mut comments = self.of(&subject.origin.file, subject.origin.line).chain(self.of(file, line));
        annotated || comments.any(|comment| comment.rules.iter().any(|name| name == finding.rule.id))
    }

    fn of(&self, file: &str, line: usize) -> impl Iterator<Item = &Comment> {
        let comments = self.files.get(file).into_iter().flatten();
        comments.filter(move |comment| (comment.from..=comment.to).contains(&line))
    }

    /// Suppressions around an object, the `number`th of its set, that name no rule.
    pub fn faults(&self, subject: &Subject, number: usize) -> Vec<Finding> {
        let finding = |pointer: String, message: String| Finding {
            rule: &UNKNOWN_RULE,
            severity: UNKNOWN_RULE.severity,
            subject: number,
            pointer,
            message,
        };
        let comments = self.of(&subject.origin.file, subject.origin.line);
        let mut found: Vec<Finding> = comments
            .filter_map(|comment| {
                let why = unknown(&comment.rules)?;
                Some(finding(String::new(), format!("{why} (comment in line {})", comment.line)))
            })
            .collect();
        if let Some(why) = subject.annotation(ANNOTATION).and_then(|text| unknown(&split(text))) {
            found.push(finding(below("/metadata/annotations", ANNOTATION), why));
        }
        found
    }
}

fn close(found: &mut [Comment], from: usize, to: usize) {
    for comment in found.iter_mut().rev().take_while(|comment| comment.to == 0) {
        (comment.from, comment.to) = (from, to.max(comment.line));
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn names(text: &str, rule: &Rule) -> bool {
    text.split(',').any(|name| name.split_whitespace().next() == Some(rule.id))
}

fn unknown(rules: &[String]) -> Option<String> {
    if rules.is_empty() {
        return Some("no rule is named; write the rules that are meant".to_owned());
    }
    let wrong: Vec<&str> = rules
        .iter()
        .map(|name| name.split_whitespace().next().unwrap_or_default())
        .filter(|name| rule_named(name).is_none())
        .collect();
    (!wrong.is_empty()).then(|| format!("there is no rule {}", wrong.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lint::Severity;
    use crate::model::Origin;

    #[test]
    fn a_comment_is_for_its_document() {
        let text = "# driftless:lint-ignore mutable-image-tag,secret-in-clear it is a demo\na: 1\n---\nb: 1 # driftless:lint-ignore no-such\n---\nc: driftless:lint-ignore mutable-image-tag\n";
        let mut suppressions = Suppressions::default();
        suppressions.read("a.yaml", text);
        let finding = |id: &str| Finding {
            rule: rule_named(id).unwrap(),
            severity: Severity::Error,
            subject: 0,
            pointer: String::new(),
            message: String::new(),
        };
        let subject = |line: usize, annotation: &str| {
            let value = json!({"apiVersion": "v1", "kind": "X", "metadata": {"annotations": {ANNOTATION: annotation}}});
            Subject::read(value, &Origin { file: "a.yaml".into(), line }).remove(0)
        };
        let holds = |line, annotation: &str, id: &str| {
            suppressions.holds(&finding(id), &subject(line, annotation), "", 0)
        };
        assert!(holds(2, "", "mutable-image-tag") && holds(2, "", "secret-in-clear"));
        assert!(!holds(4, "", "mutable-image-tag") && !holds(6, "", "mutable-image-tag"));
        assert!(holds(4, "mutable-image-tag, invalid-cron because", "invalid-cron"));
        assert!(!holds(4, "invalid-cron", "mutable-image-tag"));
        let faults = |line, annotation: &str| suppressions.faults(&subject(line, annotation), 0);
        assert_eq!(faults(4, "invalid-cron")[0].message, "there is no rule no-such (comment in line 4)");
        assert!(faults(2, "invalid-cron").is_empty());
        assert_eq!(faults(2, "other")[0].message, "there is no rule other");
        let elsewhere = subject(6, "");
        assert!(suppressions.holds(&finding("secret-in-clear"), &elsewhere, "a.yaml", 2));
    }
}
