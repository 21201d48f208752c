//! The fault table: an agent against a real API server and real Git servers that fail in chosen ways.
//!
//! `data/faults.txt` names the rows; `make faults` runs their tests and writes docs/faults.md.

mod absent;
mod answers;
mod killed;
mod lists;
mod metrics;
mod refused;
mod rollouts;
mod sources;
mod watches;

use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::OnceCell;

use crate::agent::World;
use crate::harness::cluster::{self, Agent, ControlPlane, Running, client, install, launch};
use crate::harness::fault::Proxy;

/// A control plane of this area alone: each world here has an agent of its own, and the agent of the other areas would
/// do the same work.
static PLANE: OnceCell<Running> = OnceCell::const_new();

pub(crate) async fn plane() -> ControlPlane {
    let running = PLANE.get_or_init(|| async {
        let running = tokio::task::spawn_blocking(|| launch(None, "controller-manager,scheduler,kwok"));
        let running = running.await.unwrap();
        let client = client(&running.plane).await;
        install(&client).await;
        cluster::allow_all(&client).await;
        cluster::node(&client).await;
        running
    });
    running.await.plane.clone()
}

/// A namespace, a repository, and a proxy before the API server; no agent yet.
pub(crate) async fn world(namespace: &str) -> (World, Proxy) {
    let plane = plane().await;
    let proxy = Proxy::before(&plane).await;
    let client = client(&plane).await;
    (World::on(namespace, plane, client).await, proxy)
}

/// An agent of this namespace that reaches the API server through the proxy.
pub(crate) fn agent(world: &World, proxy: &Proxy) -> Agent {
    agent_with(world, proxy, &[])
}

pub(crate) fn agent_with(world: &World, proxy: &Proxy, options: &[&str]) -> Agent {
    let own = ["--interval", "5", "--namespaced", "--namespace", &world.namespace];
    Agent::start(&proxy.plane, &[&own, options].concat())
}

/// Writes of objects of this kind (`/configmaps/`) by the agent behind this proxy, refused ones apart.
pub(crate) fn writes_of(proxy: &Proxy, verb: &str, part: &str) -> usize {
    let all = proxy.written();
    all.iter().filter(|done| done.verb == verb && done.status < 400 && done.path.contains(part)).count()
}

/// A second API server on the same etcd, which can be ended and started.
pub(crate) struct Second {
    arguments: Vec<String>,
    /// Its address.
    pub(crate) server: String,
    running: Option<(Child, ChildStdin, u32)>,
}

impl Second {
    /// As the first one of this control plane, on a port of its own.
    pub(crate) fn beside(plane: &ControlPlane) -> Self {
        let line = std::fs::read(format!("/proc/{}/cmdline", plane.processes["kube-apiserver"])).unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let arguments = line.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(|part| {
            let text = String::from_utf8(part.to_vec()).unwrap();
            if text.starts_with("--secure-port=") { format!("--secure-port={port}") } else { text }
        });
        Self { arguments: arguments.collect(), server: format!("https://127.0.0.1:{port}"), running: None }
    }

    /// Starts it; it answers after a second or two.
    pub(crate) fn start(&mut self) {
        use std::io::BufRead as _;
        let mut shell = Command::new("sh")
            .args(["-c", cluster::SHELL, "sh"])
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let alive = shell.stdin.take().unwrap();
        self.running = Some((shell, alive, line.trim().parse().unwrap()));
    }

    /// Ends it, as a failing machine does.
    pub(crate) fn kill(&mut self) {
        if let Some((mut shell, alive, id)) = self.running.take() {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            drop(alive);
            let _ = shell.wait();
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.kill();
    }
}
