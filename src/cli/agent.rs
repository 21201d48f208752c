//! `driftless agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use crate::agent::{Config, Metrics};
use crate::error::{Code, Error, Result};
use crate::source::Limits;

#[derive(Args)]
pub(super) struct Arguments {
    /// Watch only the Applications of --namespace (or of the context's namespace)
    #[arg(long)]
    namespaced: bool,
    /// ServiceAccount, in each Application's namespace, for Applications that name none; without it they are delivered
    /// with the agent's own rights
    #[arg(long, value_name = "NAME")]
    default_service_account: Option<String>,
    /// Folder for fetched repositories; may be empty at every start
    #[arg(long, env = "DRIFTLESS_CACHE")]
    cache: Option<PathBuf>,
    /// Seconds between two polls of a repository, unless an Application says otherwise
    #[arg(long, default_value_t = 60)]
    interval: u64,
    /// Applications worked on at once
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Seconds between two deep checks of an application, which apply every object again; 0 turns them off
    #[arg(long, default_value_t = 3600)]
    deep_check: u64,
    /// ConfigMap with rules of health in Argo CD's form for all Applications, as namespace/name
    #[arg(long, value_name = "NAMESPACE/NAME")]
    health_rules: Option<String>,
    /// Address of /metrics, /livez and /readyz; empty for none
    #[arg(long, default_value = "127.0.0.1:9440")]
    listen: String,
    /// What is logged: error, warn, info, debug, or a tracing filter
    #[arg(long, env = "DRIFTLESS_LOG", default_value = "info")]
    log: String,
    /// Form of the log; json where standard error is no terminal
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

pub(super) async fn run(global: &Global, arguments: Arguments) -> Result<u8> {
    logs(&arguments)?;
    let namespace =
        arguments.namespaced.then(|| global.namespace.clone().unwrap_or_else(|| "default".into()));
    let listen =
        (!arguments.listen.is_empty())
            .then(|| arguments.listen.parse::<SocketAddr>())
            .transpose()
            .map_err(|error| Error::new(Code::Usage, format!("--listen {}: {error}", arguments.listen)))?;
    let health_rules = arguments.health_rules.as_deref().map(|given| {
        let split = given.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        split.ok_or_else(|| {
            Error::new(Code::Usage, format!("--health-rules {given}: it should be namespace/name"))
        })
    });
    let config = Config {
        connection: global.connection(),
        namespace,
        default_account: arguments.default_service_account.filter(|name| !name.is_empty()),
        cache: arguments
            .cache
            .unwrap_or_else(|| std::env::temp_dir().join(format!("driftless-{}", std::process::id()))),
        interval: Duration::from_secs(arguments.interval.max(5)),
        workers: arguments.workers,
        deep_check: Duration::from_secs(arguments.deep_check),
        health_rules: health_rules.transpose()?,
        listen,
        limits: Limits::default(),
    };
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let (sender, stop) = tokio::sync::watch::channel(false);
    let internal = |error: std::io::Error| Error::new(Code::Internal, error.to_string());
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).map_err(internal)?,
        signal(SignalKind::interrupt()).map_err(internal)?,
    );
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("Stopping.");
        sender.send_replace(true);
    });
    let server = config.listen.map(|address| crate::server::serve(address, metrics.clone(), ready.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "Starting.");
    let agent = crate::agent::run(config, metrics.clone(), ready.clone(), stop);
    match server {
        Some(server) => tokio::select! { ended = agent => ended?, failed = server => failed? },
        None => agent.await?,
    }
    Ok(0)
}

fn logs(arguments: &Arguments) -> Result<()> {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let invalid =
        |error: &dyn std::fmt::Display| Error::new(Code::Usage, format!("--log {}: {error}", arguments.log));
    // At debug it logs the server's refusals, which quote values of Secrets; ours are logged without them.
    let quiet = "kube_client::client=warn".parse().map_err(|error| invalid(&error))?;
    let filter = EnvFilter::try_new(&arguments.log).map_err(|error| invalid(&error))?.add_directive(quiet);
    let terminal = std::io::stderr().is_terminal();
    let json = arguments.log_format.map_or(!terminal, |format| format == LogFormat::Json);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    } else {
        builder.with_target(false).init();
    }
    Ok(())
}
