//! Killed after every single write of a sync's whole life.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::OnceCell;

use super::{agent, world};
use crate::agent::{World, map};
use crate::harness::cluster::Agent;
use crate::harness::eventually;
use crate::harness::fault::{Act, Proxy, Rule};

/// When the agent is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The server has done the write; the agent does not know.
    BeforeTheAnswer,
    /// The agent has read the answer, or is about to.
    AfterTheAnswer,
}

/// What is compared with the reference run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    maps: BTreeMap<String, String>,
    /// Image, generation, and how many versions of it there ever were.
    deployment: (String, i64, usize),
    jobs: Vec<String>,
    history: Vec<(u64, String)>,
    inventory: Vec<String>,
    state: String,
    /// Jobs by the name of their template, and how many were made.
    made: BTreeMap<String, usize>,
    /// After the deletion: objects of the application, and whether the Application is there.
    left: Vec<String>,
}

fn hook(name: &str, phase: &str, more: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  {name}\n  annotations: {{argocd.argoproj.io/hook: {phase}{more}}}\nspec:\n  backoffLimit: 0\n  template:\n    spec: {{restartPolicy: Never, containers: [{{name: run, image: 'run:1'}}]}}\n"
    )
}

fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: model, annotations: {{argocd.argoproj.io/sync-wave: '1'}}}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: model}}}}\n  template:\n    metadata: {{labels: {{app: model}}}}\n    spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: server, image: '{image}'}}]}}\n"
    )
}

fn late(name: &str, value: &str) -> String {
    map(name, value).replacen(
        "metadata: {",
        "metadata: {annotations: {argocd.argoproj.io/sync-wave: '2'}, ",
        1,
    )
}

/// Deploys, changes, prunes, adds, and deletes all of it.
pub(super) async fn course(world: &World, proxy: &Proxy) -> End {
    let succeeded = ", argocd.argoproj.io/hook-delete-policy: HookSucceeded";
    let first = world.repository.commit(
        &[
            ("app/pre.yaml", &hook("name: migrate", "PreSync", "")),
            ("app/a.yaml", &map("a", "one")),
            ("app/b.yaml", &map("b", "one")),
            ("app/d.yaml", &deployment("model:1")),
            ("app/z.yaml", &late("z", "one")),
            ("app/post.yaml", &hook("generateName: smoke-", "PostSync", succeeded)),
        ],
        "First",
    );
    world.application("app", json!({"spec": {"deletion": "Cascade"}})).await;
    world.ready("app", &first).await;
    let second = world.repository.change(
        &[
            ("app/b.yaml", None),
            ("app/a.yaml", Some(&map("a", "two"))),
            ("app/c.yaml", Some(&map("c", "new"))),
            ("app/d.yaml", Some(&deployment("model:2"))),
        ],
        "Second",
    );
    world.poke("app").await;
    world.ready("app", &second).await;
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut names = eventually("hooks that are to go have gone, and none is held", || async {
        let all = jobs.list(&ListParams::default()).await.ok()?;
        let free = all.iter().all(|job| job.finalizers().iter().all(|name| name != "driftless.dev/hook"));
        let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        (free && names.iter().all(|name| !name.starts_with("smoke"))).then_some(names)
    })
    .await;
    names.sort();
    let status = world.apps().get("app").await.unwrap().status.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let found = deployments.get("model").await.unwrap();
    let mut end = End {
        maps: own_maps(world).await,
        deployment: (
            found.spec.unwrap().template.spec.unwrap().containers[0].image.clone().unwrap(),
            found.metadata.generation.unwrap_or_default(),
            sets.list(&ListParams::default()).await.unwrap().items.len(),
        ),
        jobs: names,
        history: status.history.iter().map(|entry| (entry.id, entry.subject.clone())).collect(),
        inventory: status
            .inventory
            .entries
            .iter()
            .map(|entry| format!("{}/{}", entry.kind, entry.name))
            .collect(),
        state: format!("{:?}", status.operation.map(|operation| operation.state)),
        made: BTreeMap::new(),
        left: Vec::new(),
    };
    world.apps().delete("app", &DeleteParams::default()).await.unwrap();
    eventually("the Application is gone", || async {
        world.apps().get_opt("app").await.ok()?.is_none().then_some(())
    })
    .await;
    end.left.extend(own_maps(world).await.into_keys());
    end.left
        .extend(deployments.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any));
    for made in proxy.written().iter().filter(|made| made.verb == "post" && made.status == 201) {
        if made.path.ends_with("/jobs") {
            let name = made.name.split("-postsync").next().unwrap_or_default().to_owned();
            *end.made.entry(name).or_default() += 1;
        }
    }
    end
}

async fn own_maps(world: &World) -> BTreeMap<String, String> {
    let maps: Api<ConfigMap> = world.maps();
    let all = maps.list(&ListParams::default().labels("driftless.dev/application")).await.unwrap();
    let value = |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get("value")).cloned();
    all.iter().map(|map| (map.name_any(), value(map).unwrap_or_default())).collect()
}

/// Writes that count: what an event says is told and forgotten.
pub(super) fn writes(proxy: &Proxy) -> usize {
    proxy.written().iter().filter(|done| !done.path.contains("/events")).count()
}

/// The course without a fault, and its writes.
pub(super) async fn reference() -> &'static (End, usize) {
    static REFERENCE: OnceCell<(End, usize)> = OnceCell::const_new();
    let run = REFERENCE.get_or_init(|| async {
        let (world, proxy) = world("killed-reference").await;
        let _agent = agent(&world, &proxy);
        let end = course(&world, &proxy).await;
        assert_eq!(end.made, [("migrate".to_owned(), 2), ("smoke".to_owned(), 2)].into());
        assert!(end.left.is_empty(), "{end:#?}");
        (end, writes(&proxy))
    });
    run.await
}

/// What is done in a world, and how it is then.
pub(super) type Course<E> = for<'a> fn(&'a World, &'a Proxy) -> BoxFuture<'a, E>;

/// One course in a namespace of its own, with a kill after the nth write; whether there was one.
async fn killed<E>(name: &str, course: Course<E>, number: usize, moment: Moment) -> (E, bool) {
    let (world, proxy) = world(&format!("{name}-{number}-{}", moment as u8)).await;
    let id = Arc::new(AtomicU32::new(0));
    let (sender, mut kills) = tokio::sync::mpsc::unbounded_channel();
    let kill = {
        let id = id.clone();
        Arc::new(move || {
            let id = id.load(Ordering::Acquire).to_string();
            assert!(std::process::Command::new("kill").args(["-9", &id]).status().unwrap().success());
            let _ = sender.send(());
        })
    };
    let act = match moment {
        Moment::BeforeTheAnswer => Act::Before(kill),
        Moment::AfterTheAnswer => Act::After(kill),
    };
    proxy.add(Rule::on("write", "", act).without("/events").skip(number - 1).times(1));
    let running = Arc::new(Mutex::new(None::<Agent>));
    let begin = || {
        let agent = agent(&world, &proxy);
        id.store(agent.id(), Ordering::Release);
        *running.lock().unwrap() = Some(agent);
    };
    begin();
    let was_killed = AtomicUsize::new(0);
    let again = async {
        while kills.recv().await.is_some() {
            was_killed.fetch_add(1, Ordering::Relaxed);
            // A cluster takes a moment to start it again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            begin();
        }
        std::future::pending::<E>().await
    };
    let end = tokio::select! { end = course(&world, &proxy) => end, end = again => end };
    running.lock().unwrap().take().unwrap().kill();
    (end, was_killed.load(Ordering::Relaxed) > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_write_it_comes_to_the_same_end() {
    let (reference, all) = reference().await.clone();
    assert!(all > 20, "{all} writes");
    // Two writes of a run may become one, where the second comes to the same status.
    let kills = Kills { every: 1, all, fewer: 6 };
    after_any_write("killed", |world, proxy| course(world, proxy).boxed(), &reference, kills).await;
}

/// After which writes.
pub(super) struct Kills {
    /// Each of them, or every so many.
    pub(super) every: usize,
    /// Writes of the course.
    pub(super) all: usize,
    /// So many may never be written.
    pub(super) fewer: usize,
}

/// Kills an agent after the writes of a course, each in a run of its own; the end must be the same.
pub(super) async fn after_any_write<E>(
    name: &'static str,
    course: Course<E>,
    reference: &E,
    Kills { every, all, fewer }: Kills,
) where
    E: std::fmt::Debug + PartialEq + Send + 'static,
{
    let runs = (1..=all).step_by(every).flat_map(|number| {
        // What is lost in time is the answer; a third of the kills shows that it changes nothing to have read it.
        let after = (number % 3 == 0).then_some((number, Moment::AfterTheAnswer));
        [(number, Moment::BeforeTheAnswer)].into_iter().chain(after)
    });
    let count = runs.clone().count();
    let results: Vec<_> = futures::stream::iter(runs)
        .map(|(number, moment)| async move {
            let run = tokio::spawn(killed(name, course, number, moment));
            (number, moment, run.await)
        })
        .buffer_unordered(12)
        .collect()
        .await;
    let mut kills = 0;
    let mut wrong = Vec::new();
    for (number, moment, result) in results {
        match result {
            Ok((end, was_killed)) => {
                kills += usize::from(was_killed);
                if end != *reference {
                    wrong.push(format!("after write {number} {moment:?}: {end:#?}"));
                }
            }
            Err(error) => wrong.push(format!("after write {number} {moment:?}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(kills + fewer >= count, "{kills} of {count}");
}

/// C3: asked to end in the middle of a sync, it ends well and in time, and the next agent goes on.
#[tokio::test]
async fn asked_to_end_in_a_sync_it_goes_on_afterwards() {
    let (world, proxy) = world("ended").await;
    let waits =
        hook("name: migrate", "PreSync", "").replace("spec:\n  backoff", "spec:\n  suspend: true\n  backoff");
    let first =
        world.repository.commit(&[("app/pre.yaml", &waits), ("app/a.yaml", &map("a", "one"))], "First");
    let begun = agent(&world, &proxy);
    world.application("app", json!({})).await;
    world.reason("app", "Ready", "Syncing").await;
    let begin = std::time::Instant::now();
    let code = tokio::task::spawn_blocking(move || begun.terminate()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let _agent = agent(&world, &proxy);
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let goes_on = kube::api::Patch::Merge(json!({"spec": {"suspend": false}}));
    jobs.patch("migrate", &kube::api::PatchParams::default(), &goes_on).await.unwrap();
    world.ready("app", &first).await;
    let made = proxy
        .written()
        .iter()
        .filter(|made| made.verb == "post" && made.status == 201 && made.path.ends_with("/jobs"))
        .count();
    assert_eq!(made, 1);
}

/// C3: a panic in the pass of one application is told by it, the others go on, and so does it when the cause is gone.
#[tokio::test]
async fn a_panic_in_one_application_stops_no_other() {
    let (world, proxy) = world("panics").await;
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("panics");
    std::fs::write(&named, "").unwrap();
    let options = ["--interval", "5", "--namespaced", "--namespace", &world.namespace];
    let agent = Agent::start_in(&proxy.plane, &options, &[("DRIFTLESS_FAULT_PANIC", &named)]);
    let first = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "one")), ("other/b.yaml", &map("b", "one"))], "First");
    world.application("app", json!({})).await;
    world.application("other", json!({"spec": {"source": {"path": "other"}}})).await;
    world.ready("app", &first).await;
    world.ready("other", &first).await;
    std::fs::write(&named, format!("{}/app\n", world.namespace)).unwrap();
    let second = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "two")), ("other/b.yaml", &map("b", "two"))], "Second");
    world.poke("app").await;
    world.poke("other").await;
    world.ready("other", &second).await;
    let message = world.reason("app", "Ready", "Internal").await;
    assert!(message.contains("a panic that a test asked for"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    assert!(agent.counts("driftless_passes_total").await.unwrap().contains_key("failed"));
    std::fs::write(&named, "").unwrap();
    world.poke("app").await;
    world.ready("app", &second).await;
    assert_eq!(world.value("a").await.as_deref(), Some("two"));
}
