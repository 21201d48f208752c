//! What lint found, for people and pipelines.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;

use super::text::plain;
use super::{ErrorReport, SourceReport};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingReport {
    /// Such as `mutable-image-tag`.
    pub rule: String,
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// What the rule says to do.
    pub help: String,
    /// `Deployment ml/fraud`.
    pub object: String,
    /// The field, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// Where it is stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceReport>,
    /// 1-based column; 0 where unknown.
    pub column: usize,
    /// The application that it was found in, where it was found in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// One rule, as tools that show findings ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Its id.
    pub id: String,
    /// How bad a finding is.
    pub severity: String,
    /// How sure it is: `certain` or `likely`.
    pub confidence: String,
    /// Whose objects it is about.
    pub system: String,
    /// What is wrong, in one line.
    pub title: String,
    /// Why it matters and what to do.
    pub help: String,
}

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct LintCounts {
    pub objects: usize,
    pub errors: usize,
    pub warnings: usize,
    pub infos: usize,
    pub suppressed: usize,
    pub without_schema: usize,
    pub unreadable: usize,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LintReport {
    /// Version of this shape; "1".
    pub schema_version: String,
    /// `lint`.
    pub command: String,
    /// How many.
    pub counts: LintCounts,
    /// In the order of files and lines.
    pub findings: Vec<FindingReport>,
    /// What could not be read or rendered.
    pub errors: Vec<ErrorReport>,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
    /// The rules that found something.
    pub rules: Vec<RuleReport>,
}

impl FindingReport {
    /// `file:line:column`, as much of it as is known.
    pub fn position(&self) -> String {
        match (&self.source, self.column) {
            (None, _) => String::new(),
            (Some(source), _) if source.line == 0 => source.file.clone(),
            (Some(source), 0) => format!("{}:{}", source.file, source.line),
            (Some(source), column) => format!("{}:{}:{column}", source.file, source.line),
        }
    }

    /// The finding as one line, without its place.
    pub(super) fn line(&self) -> String {
        format!("{}[{}]: {}", self.severity, self.rule, self.message)
    }
}

impl LintReport {
    /// Sorts and counts.
    pub fn new(mut findings: Vec<FindingReport>, errors: Vec<ErrorReport>, counts: LintCounts) -> Self {
        let place = |finding: &FindingReport| {
            let source = finding.source.as_ref();
            (source.map(|source| source.file.clone()), source.map(|source| source.line), finding.column)
        };
        findings.sort_by(|one, other| {
            place(one)
                .cmp(&place(other))
                .then_with(|| (&one.rule, &one.message).cmp(&(&other.rule, &other.message)))
        });
        let of = |severity: &str| findings.iter().filter(|finding| finding.severity == severity).count();
        let counts = LintCounts {
            errors: of("error"),
            warnings: of("warning"),
            infos: of("info"),
            unreadable: errors.len(),
            ..counts
        };
        Self {
            schema_version: "1".to_owned(),
            command: "lint".to_owned(),
            counts,
            findings,
            errors,
            notes: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// One JSON document.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|error| error.to_string(), |text| text + "\n")
    }

    /// Lines for people; `prefix` leads from where they are to the root of what was checked.
    pub fn text(&self, prefix: &str, colour: bool) -> String {
        let mut out = String::new();
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        for finding in &self.findings {
            let position = finding.position();
            let position = if position.is_empty() { position } else { format!("{prefix}{position}: ") };
            let app = finding.app.as_ref().map(|app| format!(" of {app}")).unwrap_or_default();
            let head = format!("{}[{}]", finding.severity, finding.rule);
            let _ = writeln!(
                out,
                "{}{}: {}  ({}{})",
                plain(&position),
                paint(code(&finding.severity), &head),
                plain(&finding.message),
                plain(&finding.object),
                plain(&app)
            );
        }
        for error in &self.errors {
            let place = [&error.app, &error.object, &error.position].into_iter().flatten().cloned();
            let place = place.collect::<Vec<_>>().join(" ");
            let colon = if place.is_empty() { "" } else { ": " };
            let head = paint("31", &format!("error[{}]", error.code));
            let _ = writeln!(out, "{head}: {}{colon}{}", plain(&place), plain(&error.message));
            if let Some(hint) = &error.hint {
                let _ = writeln!(out, "  next: {}", plain(hint));
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {}", plain(note));
        }
        let _ = writeln!(out, "{}", self.verdict());
        if let Some(finding) = self.findings.first() {
            let _ = writeln!(out, "next: driftless lint --explain {}", finding.rule);
        }
        out
    }

    /// The last line, which also stands alone.
    pub fn verdict(&self) -> String {
        let counts = &self.counts;
        let word = if counts.unreadable > 0 {
            "failed"
        } else if self.findings.is_empty() {
            "clean"
        } else {
            "found"
        };
        let objects = if counts.objects == 1 { "object" } else { "objects" };
        let mut parts = vec![format!("{} {objects}", counts.objects)];
        for (count, name) in [
            (counts.errors, "errors"),
            (counts.warnings, "warnings"),
            (counts.infos, "infos"),
            (counts.suppressed, "suppressed"),
            (counts.unreadable, "unreadable"),
        ] {
            if count > 0 {
                parts.push(format!(
                    "{count} {}",
                    if count == 1 && name.ends_with('s') { &name[..name.len() - 1] } else { name }
                ));
            }
        }
        format!("{word}: {}", parts.join(" | "))
    }
}

pub(super) fn code(severity: &str) -> &'static str {
    match severity {
        "error" => "31",
        "warning" => "33",
        _ => "36",
    }
}
