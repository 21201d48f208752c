//! JUnit's XML, which dashboards of tests read.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::LintReport;

/// One suite for each file, one case for each finding.
pub fn junit(report: &LintReport) -> String {
    let mut files: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, finding) in report.findings.iter().enumerate() {
        let file = finding.source.as_ref().map_or("", |source| source.file.as_str());
        files.entry(file).or_default().push(at);
    }
    let errors = report.counts.errors;
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"driftless lint\" tests=\"{}\" failures=\"{errors}\" errors=\"{}\">\n",
        report.findings.len() + report.errors.len(),
        report.errors.len()
    );
    for (file, findings) in files {
        let of =
            |severity: &str| findings.iter().filter(|at| report.findings[**at].severity == severity).count();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">",
            escape(file),
            findings.len(),
            of("error")
        );
        for finding in findings.iter().map(|at| &report.findings[*at]) {
            let name = format!("{} {}", finding.rule, finding.position());
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\">",
                escape(&finding.object),
                escape(&name)
            );
            // Only what fails the command fails the case.
            let _ = if finding.severity == "error" {
                let message = escape(&finding.message);
                writeln!(
                    out,
                    "<failure type=\"{}\" message=\"{message}\">{}</failure></testcase>",
                    escape(&finding.rule),
                    escape(&finding.help)
                )
            } else {
                writeln!(out, "<system-out>{}</system-out></testcase>", escape(&finding.line()))
            };
        }
        out.push_str("  </testsuite>\n");
    }
    if !report.errors.is_empty() {
        let _ = writeln!(
            out,
            "  <testsuite name=\"unreadable\" tests=\"{0}\" errors=\"{0}\">",
            report.errors.len()
        );
        for error in &report.errors {
            let name = error.position.as_deref().unwrap_or(&error.reason);
            let _ = writeln!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\"><error type=\"{}\" message=\"{}\"/></testcase>",
                escape(&error.reason),
                escape(name),
                escape(&error.code),
                escape(&error.message)
            );
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// XML 1.0 has no place for most control characters, not even as references.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push(' '),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_ends_an_element() {
        assert_eq!(super::escape("<a b=\"c\">&\u{1b}"), "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}");
    }
}
