//! For a pull request: small enough for a comment, and nothing in it can close a fence or call anybody.

use std::fmt::Write;

use super::{Class, Report, text};

/// Of the 65,536 characters of a comment; the rest is left for what others add.
const BUDGET: usize = 60_000;

/// The report as Markdown. Applications are left out whole when the budget is used up, and it says so.
pub fn markdown(report: &Report) -> String {
    let title = match report.command {
        "preview" => "driftless preview",
        _ => "driftless drift",
    };
    let mut out = format!(
        "<!-- driftless:{} -->\n### {title}\n\n**{}**\n",
        report.command,
        escape(&text::verdict(report))
    );
    for error in &report.errors {
        let _ = writeln!(out, "\n- `{}` {}", error.code, escape(&error.message));
    }
    let apps: Vec<_> =
        report.apps.iter().filter(|app| !app.objects.is_empty() || !app.findings.is_empty()).collect();
    let mut shown = 0;
    for app in &apps {
        let mut block = format!(
            "\n<details><summary>{}/{} ({} objects)</summary>\n\n```diff\n",
            escape(&app.namespace),
            escape(&app.name),
            app.objects.len()
        );
        for object in &app.objects {
            let sign = match object.class {
                Class::Missing => "+",
                Class::Extra => "-",
                Class::ForeignField => "=",
                Class::Modified | Class::Pending | Class::RollingOut => "!",
            };
            let _ = writeln!(block, "{sign} {}{}", fenced(&object.title()), text::danger(object.danger));
            for change in &object.changes {
                let _ = writeln!(block, "    {}", fenced(&text::change(change, object.class)));
            }
        }
        for finding in &app.findings {
            let line = format!("{}  {}  {}", finding.line(), finding.object, finding.position());
            let _ = writeln!(block, "! {}", fenced(&line.replace(['\n', '\r'], " ")));
        }
        block.push_str("```\n\n</details>\n");
        if out.len() + block.len() > BUDGET {
            break;
        }
        out.push_str(&block);
        shown += 1;
    }
    if shown < apps.len() {
        let _ = writeln!(
            out,
            "\nShowing {shown} of {} applications; the JSON report has all of them.",
            apps.len()
        );
    }
    out
}

fn fenced(text: &str) -> String {
    text.replace("```", "'''")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '`' | '*' | '_' | '[' | ']' | '#' | '|' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gvk, Key};
    use crate::report::{AppReport, ObjectReport};

    #[test]
    fn large_reports_are_cut_at_whole_applications() {
        let object = |number: usize| {
            let key = Key {
                group: String::new(),
                kind: "ConfigMap".into(),
                namespace: "n".into(),
                name: format!("```{number}"),
            };
            ObjectReport::new(&Gvk::parse("v1", "ConfigMap"), &key, Class::Missing, None, vec![])
        };
        let apps = (0..500)
            .map(|number| AppReport {
                name: format!("</details>@a{number:03}"),
                objects: (0..10).map(object).collect(),
                ..AppReport::default()
            })
            .collect();
        let text = markdown(&Report::new("preview", apps, &[]));
        assert!(text.len() < 61_000 && text.contains("Showing") && text.contains("of 500"));
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
        assert_eq!(text.matches("```").count(), 2 * text.matches("<details>").count());
        assert!(!text.contains("@a"));
    }
}
