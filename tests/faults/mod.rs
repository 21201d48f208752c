//! The fault table: an agent against a real API server and real Git servers that fail in chosen ways.
//!
//! `data/faults.txt` names the rows; `make faults` runs their tests and writes docs/faults.md.

mod killed;

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
