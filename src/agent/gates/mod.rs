//! Asks what gates ask. One file is one provider; what an answer says is decided in `rollout::provider`.
//!
//! A measurement never fails: what goes wrong is an answer with the reason. Secrets, objects, Jobs and Workflows are asked for in the
//! name of the application's account, so a policy reads nothing that its account may not read.

mod compare;
mod mlflow;
mod object;
mod prometheus;
mod reach;
mod run;
mod web;

use std::collections::{BTreeMap, HashSet};

use crate::api::{Gate, Reached};
use crate::error::Result;
use crate::live::kube::Cluster;
use crate::model::{Gvk, one_line};
use crate::rollout::Measurement;
use crate::rollout::provider::{About, Provider, Reading};
use reach::{Access, Reach};

/// How a measurement stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// It is under way: ask again.
    Pending,
    /// It has an answer.
    Done(Measurement),
}

/// Asks, and keeps the connections.
#[derive(Default)]
pub struct Gates {
    reach: Reach,
}

impl Gates {
    /// Measures a gate. `cluster` is that of the target, in the name of the application's account.
    pub async fn measure(&self, cluster: &Cluster, gate: &Gate, about: &About) -> Measured {
        let reading = match Provider::read(gate) {
            Err(error) => Reading::error(error.why),
            Ok(None) => {
                Reading::error(format!("the gate does not say what it asks: give one of {}", Gate::all()))
            }
            Ok(Some(provider)) => match self.ask(cluster, gate, &provider, about).await {
                Ok(Some(reading)) => reading,
                Ok(None) => return Measured::Pending,
                // The API server may have a lot to say, and this goes into a status.
                Err(why) => Reading::error(one_line(&why)),
            },
        };
        Measured::Done(reading.of(&gate.name))
    }

    /// Ends Jobs and Workflows of a policy (its name and uid) for measurements that nobody waits for: all but those of
    /// these names.
    ///
    /// # Errors
    /// Those of the API server.
    pub(super) async fn end(
        cluster: &Cluster,
        gates: &[Gate],
        namespace: &str,
        policy: (&str, &str),
        kept: &HashSet<String>,
    ) -> Result<()> {
        let mut kinds: Vec<Gvk> = Vec::new();
        for gate in gates {
            let Ok(Some(Provider::Run(known))) = Provider::read(gate) else { continue };
            let gvk = known.kind.gvk();
            if !kinds.contains(&gvk) {
                run::end(cluster, &*known.kind, namespace, policy, kept).await?;
                kinds.push(gvk);
            }
        }
        Ok(())
    }

    /// `None` where there is no answer yet.
    async fn ask(
        &self,
        cluster: &Cluster,
        gate: &Gate,
        provider: &Provider,
        about: &About,
    ) -> std::result::Result<Option<Reading>, String> {
        match provider {
            Provider::Run(known) => return run::ask(cluster, known, &gate.name, about).await,
            Provider::Object(known) => object::ask(cluster, known, about).await,
            Provider::Prometheus(known) => {
                let (access, headers) = self.access(cluster, gate, about).await?;
                access.hide(prometheus::ask(&access, known, headers, about).await)
            }
            Provider::Web(known) => {
                let (access, _) = self.access(cluster, gate, about).await?;
                access.hide(web::ask(&access, known, about).await)
            }
            Provider::Compare(known) => {
                let (access, headers) = self.access(cluster, gate, about).await?;
                access.hide(compare::ask(&access, known, headers, about).await)
            }
            Provider::Mlflow(known) => {
                let (access, _) = self.access(cluster, gate, about).await?;
                access.hide(mlflow::ask(&access, known).await)
            }
        }
        .map(Some)
    }

    /// A way to the gate's server, and the headers that it states.
    async fn access<'a>(
        &self,
        cluster: &Cluster,
        gate: &'a Gate,
        about: &About,
    ) -> std::result::Result<(Access, &'a BTreeMap<String, String>), String> {
        let Reached { secret, headers, any_certificate } = gate.reached().ok_or("the gate asks no server")?;
        let access = self.reach.access(cluster, &about.namespace, secret, !any_certificate).await?;
        Ok((access, headers))
    }
}
