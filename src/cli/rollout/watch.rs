//! `driftless rollout watch`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Config, Event};
use tokio::time::Instant;

use super::changes::changes;
use super::policies::{self, Found, title};
use super::view;
use crate::api::{RolloutPhase, RolloutPolicy};
use crate::cli::Global;
use crate::cli::output::Output;
use crate::error::{Code, Error, Kind, Result};
use crate::live::kube::{Backoff, Cluster, steady, translate};
use crate::report::plain;

/// Pauses between tries where the watch breaks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LineFormat {
    Json,
}

#[derive(Args)]
pub(super) struct Arguments {
    /// The policy (name, or namespace/name)
    policy: String,
    /// Go on when it is at rest
    #[arg(long)]
    forever: bool,
    /// How long to watch at most, such as 30m
    #[arg(long, value_parser = super::time)]
    timeout: Option<Duration>,
    /// json: an object on a line for each change
    #[arg(short, long, value_enum)]
    output: Option<LineFormat>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments, output: &Output) -> Result<u8> {
    let deadline = arguments.timeout.map(|limit| Instant::now() + limit);
    let cluster = Cluster::connect(&global.connection()).await?;
    let Found { api, policy } = policies::find(&cluster, global, &arguments.policy).await?;
    let title = title(&policy);
    let face = match arguments.output {
        Some(LineFormat::Json) => Face::Json,
        None if output.redraws => Face::Screen { rows: 0 },
        None => Face::Lines,
    };
    let mut shown = Shown { output, face, policy: None };
    shown.show(policy.clone(), false);
    let config = Config::default().fields(&format!("metadata.name={}", policy.name_any()));
    let mut events = steady(api, config);
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    // Of the list that is on its way: whether it holds the policy.
    let (mut listed, mut broken) = (false, false);
    loop {
        if !arguments.forever
            && let Some(code) = shown.at_rest()
        {
            shown.end();
            return Ok(code);
        }
        let event = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, events.next()).await,
            None => Ok(events.next().await),
        };
        let Ok(event) = event else {
            shown.end();
            let why = format!("it is still {:?}", shown.phase());
            return Err(Error::new(Code::TimedOut, why)
                .on_object(format!("RolloutPolicy {title}"))
                .hint(format!("driftless rollout get {title} says what it waits for")));
        };
        match event {
            Some(Ok(event)) => {
                backoff.reset();
                match event {
                    Event::Init => listed = false,
                    Event::InitApply(policy) | Event::Apply(policy) => {
                        (listed, broken) = (true, false);
                        shown.show(policy, false);
                    }
                    Event::InitDone if listed => broken = false,
                    Event::InitDone | Event::Delete(_) => {
                        shown.end();
                        return Err(policies::missing(&title));
                    }
                }
            }
            Some(Err(error)) => {
                let error = refused(&error);
                if error.code == Code::Forbidden {
                    shown.end();
                    return Err(error);
                }
                if !broken {
                    shown.note(&error);
                }
                broken = true;
                tokio::time::sleep(backoff.pause()).await;
            }
            None => return Err(Error::new(Code::Internal, "the watch ended")),
        }
    }
}

fn refused(error: &watcher::Error) -> Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => translate(error),
        other => Error::new(Code::ApiUnreachable, other.to_string()),
    }
}

/// How it is shown.
enum Face {
    /// All of it, where it was before; so many rows are there.
    Screen { rows: usize },
    /// What changed.
    Lines,
    /// What changed, for programs.
    Json,
}

struct Shown<'a> {
    output: &'a Output,
    face: Face,
    policy: Option<RolloutPolicy>,
}

impl Shown<'_> {
    /// Shows what is new; on a screen, whether rows may be as long as they are.
    fn show(&mut self, policy: RolloutPolicy, wraps: bool) {
        let colour = self.output.colour;
        if let Face::Screen { rows } = &mut self.face {
            let text = view::detail(&policy, colour);
            self.output.data(&frame(&text, *rows, wraps));
            *rows = text.lines().count();
        } else {
            for change in changes(self.policy.as_ref(), &policy, Timestamp::now()) {
                let is_json = matches!(self.face, Face::Json);
                let line = if is_json { change.json() } else { change.text(colour) };
                self.output.data(&format!("{line}\n"));
            }
        }
        self.policy = Some(policy);
    }

    /// The watch broke.
    fn note(&mut self, error: &Error) {
        let line = plain(&format!("The watch broke and is begun again: {error}"));
        match &mut self.face {
            // The next frame takes its place.
            Face::Screen { rows } => {
                self.output.data(&frame(&format!("{line}\n"), 0, false));
                *rows += 1;
            }
            Face::Lines | Face::Json => self.output.say(&line),
        }
    }

    /// The last frame, in full.
    fn end(&mut self) {
        if matches!(self.face, Face::Screen { .. })
            && let Some(policy) = self.policy.take()
        {
            self.show(policy, true);
        }
    }

    fn phase(&self) -> RolloutPhase {
        self.policy.as_ref().map(|policy| view::status(policy).phase).unwrap_or_default()
    }

    /// The exit code, where nothing is on its way.
    fn at_rest(&self) -> Option<u8> {
        match self.phase() {
            RolloutPhase::Healthy => Some(0),
            RolloutPhase::Rejected => Some(Kind::Unhealthy.exit_code()),
            _ => None,
        }
    }
}

/// The text in place of so many rows above. A row is one line, cut at the edge of the terminal, unless it may wrap: then the
/// next frame would not know where it begins.
fn frame(text: &str, rows: usize, wraps: bool) -> String {
    let up = if rows > 0 { format!("\x1b[{rows}A") } else { String::new() };
    let (off, on) = if wraps { ("", "") } else { ("\x1b[?7l", "\x1b[?7h") };
    format!("{up}\r\x1b[J{off}{text}{on}")
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_takes_the_place_of_the_one_before() {
        assert_eq!(frame("a\nb\n", 0, false), "\r\x1b[J\x1b[?7la\nb\n\x1b[?7h");
        assert_eq!(frame("a\n", 2, true), "\x1b[2A\r\x1b[Ja\n");
    }
}
