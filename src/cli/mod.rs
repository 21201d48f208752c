//! The command line: one file for each verb.
//!
//! Arguments are turned into plain values here and never travel further. Data goes to standard output,
//! everything else to standard error; the exit code is a contract (see `driftless help`).

mod agent;
mod apply;
mod chart;
mod drift;
mod edit;
mod explained;
mod get;
mod health;
mod import;
mod lint;
mod output;
mod preview;
mod render;
mod rollout;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::error::{Code, Error, Result};
use crate::live::kube::Connection;
use output::Output;

const AFTER: &str = "Exit codes: 0 same or done, 1 differs, 2 usage, 3 source or render, 4 Kubernetes API, 5 time-out, 6 unhealthy, 7 refused by policy, 70 fault of driftless itself.";

#[derive(Parser)]
#[command(name = "driftless", version, about = "GitOps continuous delivery for ML platforms", after_help = AFTER)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb; kubectl's keep their meaning.
#[derive(Args, Clone, Debug, Default)]
struct Global {
    /// Path of the kubeconfig
    #[arg(long, global = true, env = "KUBECONFIG", hide_env_values = true)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace; the context's where not given
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value = "auto")]
    color: output::Colour,
}

impl Global {
    fn connection(&self) -> Connection {
        // KUBECONFIG may be a list of files, which only kube's own reader merges.
        let list = self.kubeconfig.as_ref().is_some_and(|path| path.to_string_lossy().contains(':'));
        Connection { kubeconfig: self.kubeconfig.clone().filter(|_| !list), context: self.context.clone() }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Watch Applications and make the cluster follow Git
    Agent(agent::Arguments),
    /// Deliver one Application now, without an agent
    Apply(apply::Arguments),
    /// Show what a merge would change: Git against Git, without a cluster
    Preview(preview::Arguments),
    /// Show how the cluster differs from Git; changes nothing
    Drift(drift::Arguments),
    /// Print the objects that a folder, file or Application stands for
    Render(render::Arguments),
    /// Say what will fail or surprise after a merge, from the files alone
    Lint(lint::Arguments),
    /// Judge the health of objects in files, without a cluster
    Health(health::Arguments),
    /// Look at rollouts and steer them, or try what a `RolloutPolicy` does
    Rollout(rollout::Arguments),
    /// Convert what other tools have into what driftless has
    Import(import::Arguments),
    /// Make the agent poll and sync an Application at once
    Sync(edit::SyncArguments),
    /// List Applications
    Get(get::Arguments),
    /// List the revisions an Application has had
    History(get::HistoryArguments),
    /// Hold an Application at an older revision, or let it go again
    Rollback(edit::RollbackArguments),
    /// Stop all writes for an Application
    Suspend(edit::SuspendArguments),
    /// Let a suspended Application go on
    Resume(edit::NameArguments),
    /// Explain an error code, such as DL0103, or a rule of lint
    Explain {
        /// The code or rule; all codes are listed where it is missing
        code: Option<String>,
    },
    /// Print the `CustomResourceDefinitions`
    Crds,
    /// Print the version
    Version {
        /// json or yaml
        #[arg(short, long)]
        output: Option<output::Format>,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Parses, runs and translates the result into an exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to standard output, its errors to standard error.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = Output::new(cli.global.color);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(cli, &output)));
    let code = match ended {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            output.error(&error);
            error.code.kind().exit_code()
        }
        Err(_) => {
            output.error(&Error::new(Code::Internal, "driftless panicked; the message above says where"));
            70
        }
    };
    ExitCode::from(code)
}

fn run(cli: Cli, output: &Output) -> Result<u8> {
    let global = cli.global;
    match cli.verb {
        Verb::Agent(arguments) => runtime(true)?.block_on(agent::run(&global, arguments)),
        Verb::Apply(arguments) => runtime(false)?.block_on(apply::run(&global, arguments, output)),
        Verb::Preview(arguments) => preview::run(&arguments, output),
        Verb::Drift(arguments) => runtime(false)?.block_on(drift::run(&global, arguments, output)),
        Verb::Render(arguments) => runtime(false)?.block_on(render::run(&global, arguments, output)),
        Verb::Lint(arguments) => lint::run(&arguments, output),
        Verb::Health(arguments) => health::run(&arguments, output),
        Verb::Rollout(arguments) => runtime(false)?.block_on(rollout::run(&global, arguments, output)),
        Verb::Import(arguments) => import::run(arguments, output),
        Verb::Sync(arguments) => runtime(false)?.block_on(edit::sync(&global, arguments, output)),
        Verb::Get(arguments) => runtime(false)?.block_on(get::run(&global, arguments, output)),
        Verb::History(arguments) => runtime(false)?.block_on(get::history(&global, arguments, output)),
        Verb::Rollback(arguments) => runtime(false)?.block_on(edit::rollback(&global, arguments, output)),
        Verb::Suspend(arguments) => runtime(false)?.block_on(edit::suspend(&global, arguments, output)),
        Verb::Resume(arguments) => runtime(false)?.block_on(edit::resume(&global, arguments, output)),
        Verb::Explain { code } => explain(code.as_deref(), output),
        Verb::Crds => {
            for (_, definition) in crate::api::definitions() {
                output.data(&format!("---\n{}", crate::api::yaml(&definition)?));
            }
            Ok(0)
        }
        Verb::Version { output: format } => {
            let version = env!("CARGO_PKG_VERSION");
            match format {
                Some(format) => output.value(&serde_json::json!({"version": version}), format),
                None => output.data(&format!("driftless {version}\n")),
            }
            Ok(0)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "driftless", &mut script);
            output.data(&String::from_utf8_lossy(&script));
            Ok(0)
        }
    }
}

fn runtime(agent: bool) -> Result<tokio::runtime::Runtime> {
    // A current-thread runtime starts 2 ms sooner; the agent's C code and rendering have threads of their own.
    let mut builder = if agent {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build().map_err(|error| Error::new(Code::Internal, error.to_string()))
}

fn explain(code: Option<&str>, output: &Output) -> Result<u8> {
    let Some(wanted) = code else {
        let lines: Vec<String> = Code::ALL
            .iter()
            .map(|code| format!("{}  {:<22}  {}\n", code.number(), code.reason(), code.title()))
            .collect();
        output.data(&lines.concat());
        return Ok(0);
    };
    if crate::lint::rule_named(wanted).is_some() {
        return lint::explain(wanted, output);
    }
    let found = Code::ALL
        .iter()
        .find(|code| code.number().eq_ignore_ascii_case(wanted) || code.reason().eq_ignore_ascii_case(wanted))
        .ok_or_else(|| {
            Error::new(Code::Usage, format!("there is no code or rule {wanted}"))
                .hint("driftless explain lists all codes, driftless lint --list all rules")
        })?;
    output.data(&format!(
        "{} {}: {}\n\n{}\n\nExit code {}.{}\n",
        found.number(),
        found.reason(),
        found.title(),
        found.page(),
        found.kind().exit_code(),
        if found.is_transient() {
            " The agent tries again by itself."
        } else {
            " The agent waits for a change."
        }
    ));
    Ok(0)
}
