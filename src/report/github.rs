//! Commands of GitHub's workflow logs, which become annotations of a pull request.

use std::fmt::Write;

use super::LintReport;

/// GitHub shows 10 errors and 10 warnings of a step; the worst come first.
const SHOWN: usize = 10;

/// The findings as workflow commands, and all of them as plain lines below.
pub fn github(report: &LintReport) -> String {
    let mut out = String::new();
    for (severity, command) in [("error", "error"), ("warning", "warning"), ("info", "notice")] {
        let all: Vec<_> = report.findings.iter().filter(|finding| finding.severity == severity).collect();
        for finding in all.iter().take(SHOWN) {
            let mut properties = Vec::new();
            if let Some(source) = &finding.source {
                properties.push(format!("file={}", property(&source.file)));
                properties.push(format!("line={}", source.line.max(1)));
                if finding.column > 0 {
                    properties.push(format!("col={}", finding.column));
                }
            }
            properties.push(format!("title={}", property(&finding.rule)));
            let text = format!("{} ({})\n{}", finding.message, finding.object, finding.help);
            let _ = writeln!(out, "::{command} {}::{}", properties.join(","), message(&text));
        }
        if all.len() > SHOWN {
            let _ = writeln!(out, "{} more of severity {severity} are listed below", all.len() - SHOWN);
        }
    }
    for error in &report.errors {
        let place = error.position.as_deref().map(|position| format!("{position}: ")).unwrap_or_default();
        let _ = writeln!(
            out,
            "::error title={}::{}",
            property(&error.code),
            message(&format!("{place}{}", error.message))
        );
    }
    // A text must not be a command; GitHub reads them anywhere at the beginning of a line.
    out.push_str(
        &report.text("", false).lines().map(|line| line.replace("::", ": :") + "\n").collect::<String>(),
    );
    out
}

fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::{message, property};

    #[test]
    fn nothing_ends_a_command() {
        assert_eq!(message("50%\n::error::x\r"), "50%25%0A::error::x%0D");
        assert_eq!(property("a,b:c\n"), "a%2Cb%3Ac%0A");
    }
}
