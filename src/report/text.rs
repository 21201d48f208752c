//! For a terminal or a log.

use std::fmt::Write;

use serde_json::Value;

use crate::model::short_commit;

use super::{ChangeReport, Class, Danger, ObjectReport, Report, Verdict};

/// The report as lines; nothing in it can move a terminal's cursor.
pub fn text(report: &Report, colour: bool) -> String {
    let mut out = String::new();
    let paint =
        |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    for app in report.apps.iter().filter(|app| !app.objects.is_empty() || !app.findings.is_empty()) {
        let short = short_commit(&app.revision);
        let _ = writeln!(out, "{}", paint("1", &plain(&format!("{}/{}  {short}", app.namespace, app.name))));
        for object in &app.objects {
            let (sign, code) = sign(object);
            let place = object
                .source
                .as_ref()
                .map(|source| format!("  {}:{}", source.file, source.line))
                .unwrap_or_default();
            let line =
                format!("  {sign} {}{}{}", plain(&object.title()), danger(object.danger), plain(&place));
            let _ = writeln!(out, "{}", paint(code, &line));
            for change in &object.changes {
                let _ = writeln!(out, "      {}", self::change(change, object.class));
            }
        }
        for finding in &app.findings {
            let line = plain(&format!("  {}  {}  {}", finding.line(), finding.object, finding.position()));
            let _ = writeln!(out, "{}", paint(super::lint::code(&finding.severity), &line));
        }
    }
    for error in &report.errors {
        let head = format!("error[{}]", error.code);
        let place = [&error.app, &error.object, &error.position]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ");
        let _ = writeln!(
            out,
            "{}: {place}{}{}",
            paint("31", &head),
            if place.is_empty() { "" } else { ": " },
            plain(&error.message)
        );
        if let Some(hint) = &error.hint {
            let _ = writeln!(out, "  next: {}", plain(hint));
        }
    }
    let _ = writeln!(out, "{}", verdict(report));
    out
}

/// The last line, which also stands alone.
pub(super) fn verdict(report: &Report) -> String {
    let counts = &report.counts;
    let word = match report.verdict {
        Verdict::InSync => "in sync",
        Verdict::Differs => "differs",
        Verdict::Failed => "failed",
    };
    let mut parts = vec![format!("{} {}", counts.apps, if counts.apps == 1 { "app" } else { "apps" })];
    for (count, name) in [
        (counts.modified, "modified"),
        (counts.missing, "missing"),
        (counts.extra, "extra"),
        (counts.pending, "pending"),
        (counts.rolling_out, "rolling out"),
        (counts.foreign_field, "decided by others"),
        (counts.findings, if counts.findings == 1 { "finding" } else { "findings" }),
        (counts.errors, "errors"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.push(format!("{} unchanged", counts.unchanged));
    format!("{word}: {}", parts.join(" | "))
}

fn sign(object: &ObjectReport) -> (&'static str, &'static str) {
    match object.class {
        Class::Modified | Class::Pending => ("~", "33"),
        Class::Missing => ("+", "32"),
        Class::Extra => ("-", "31"),
        Class::ForeignField => ("=", "36"),
        Class::RollingOut => (">", "36"),
    }
}

pub(super) fn danger(danger: Danger) -> &'static str {
    match danger {
        Danger::None => "",
        Danger::Restart => "  restarts pods",
        Danger::Replace => "  MUST BE REPLACED",
        Danger::Delete => "  is deleted",
        Danger::DataLoss => "  DELETES DATA",
    }
}

pub(super) fn change(change: &ChangeReport, class: Class) -> String {
    let show = |value: &Value| match value {
        Value::Null => "nothing".to_owned(),
        other => {
            let text = other.to_string();
            if text.chars().count() > 80 { text.chars().take(77).collect::<String>() + "..." } else { text }
        }
    };
    let by = match (&change.manager, &change.since) {
        (Some(manager), Some(since)) => format!("  by {manager} at {since}"),
        (Some(manager), None) => format!("  by {manager}"),
        _ => String::new(),
    };
    let line = if class == Class::ForeignField {
        format!("{}: Git says {}{by}", change.pointer, show(&change.want))
    } else if change.masked {
        format!("{}: changed (secret){by}", change.pointer)
    } else {
        format!("{}: {} -> {}{by}", change.pointer, show(&change.have), show(&change.want))
    };
    plain(&line)
}

/// Control characters are spelled out: a manifest must not drive a terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let hidden = character.is_control()
                || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            if hidden { character.escape_unicode().collect::<Vec<_>>() } else { vec![character] }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
    }
}
