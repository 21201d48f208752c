//! The only place that prints.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::error::{Code, Error};
use crate::model::yaml;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A format for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// A format for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// For a pull request.
    Markdown,
}

/// Objects as kubectl's own `-o json` prints several.
pub(super) fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Standard output and standard error.
pub(super) struct Output {
    /// Whether standard output takes colours.
    pub(super) colour: bool,
    /// Whether it is a terminal on which text can be replaced.
    pub(super) redraws: bool,
}

impl Output {
    pub(super) fn new(colour: Colour) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let redraws = std::io::stdout().is_terminal() && !dumb;
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto if set("NO_COLOR") => false,
            Colour::Auto => set("FORCE_COLOR") || redraws,
        };
        Self { colour, redraws }
    }

    /// Data, to standard output. A reader that went away is no error.
    #[expect(clippy::unused_self, reason = "whoever prints must hold the output")]
    pub(super) fn data(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// One value.
    pub(super) fn value(&self, value: &Value, format: Format) {
        match format {
            Format::Json => {
                let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
                self.data(&format!("{text}\n"));
            }
            Format::Yaml => self.data(&yaml::emit(value)),
        }
    }

    /// Talk, to standard error.
    #[expect(clippy::unused_self, reason = "whoever prints must hold the output")]
    pub(super) fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// How far a long piece of work is, to standard error: nothing in its first 2 s, then once every 2 s, as
    /// lines that a log can hold.
    pub(super) fn progress(&self, timer: &mut std::time::Instant, done: usize, total: usize, what: &str) {
        if timer.elapsed() >= std::time::Duration::from_secs(2) && done < total {
            *timer = std::time::Instant::now();
            self.say(&format!("{done} of {total} {what}"));
        }
    }

    /// A failure: code, place, reason, next action.
    pub(super) fn error(&self, error: &Error) {
        let app = error.place.app.as_ref().map(|app| format!("{app}: ")).unwrap_or_default();
        self.say(&format!("error[{}]: {app}{error}", error.code.number()));
        let next = match &error.hint {
            Some(hint) => hint.clone(),
            None if error.code == Code::Usage => "driftless help".into(),
            None => format!("driftless explain {}", error.code.number()),
        };
        self.say(&format!("  next: {next}"));
    }

    /// Columns, as wide as their widest cell.
    pub(super) fn table(&self, headers: &[&str], rows: &[Vec<String>]) {
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .chain([headers[column].len()])
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..headers.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> =
                cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("   ").trim_end().to_owned() + "\n"
        };
        let mut text = line(&mut headers.iter().copied());
        for row in rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        self.data(&text);
    }
}
