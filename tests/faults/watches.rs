//! Watches that end, fall silent, and tell the wrong story.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{agent, agent_with, world, writes_of};
use crate::agent::{World, map};
use crate::harness::eventually;
use crate::harness::fault::{Act, Proxy, Rule};

async fn edit(world: &World, name: &str) {
    let edit = Patch::Merge(json!({"data": {"value": "edited"}}));
    world.maps().patch(name, &PatchParams::default(), &edit).await.unwrap();
}

async fn deployed(namespace: &str) -> (World, Proxy, String) {
    let (world, proxy) = world(namespace).await;
    let first = world.repository.commit(
        &[
            ("app/a.yaml", &map("a", "one")),
            ("app/b.yaml", &map("b", "one")),
            ("app/c.yaml", &map("c", "one")),
        ],
        "First",
    );
    (world, proxy, first)
}

/// W1: the place of a watch is too old, said as an event and as an answer, and an event that cannot be read.
#[tokio::test]
async fn a_watch_that_is_too_old_lists_again() {
    let (world, proxy, first) = deployed("fault-gone").await;
    // Every watch but the first breaks: this one ends with the first event that it tells.
    proxy.add(Rule::on("watch", "/configmaps?", Act::Gone).skip(1).times(1));
    proxy.add(Rule::on("watch", "/configmaps?", Act::Answer(410, None)).skip(2).times(2));
    let _agent = agent(&world, &proxy);
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let unreadable = r#"{"type":"MODIFIED","object":{"metadata":{"name":7}}}"#;
    for (name, act) in [("a", Act::Reset), ("b", Act::Reset), ("c", Act::Instead("", unreadable.to_owned()))]
    {
        proxy.add(Rule::on("event", "fault-gone", act).and("/configmaps?").times(1));
        edit(&world, name).await;
        world.becomes(name, Some("one")).await;
    }
    assert!(proxy.count("list", "/configmaps?") >= 3, "{}", proxy.count("list", "/configmaps?"));
    world.ready("app", &first).await;
    assert_eq!(writes_of(&proxy, "delete", "/configmaps/"), 0);
}

/// W2: a watch says nothing any more and its connection stays.
#[tokio::test]
async fn a_silent_watch_is_noticed() {
    let (world, proxy, first) = deployed("fault-silent").await;
    let _agent = agent(&world, &proxy);
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    proxy.add(Rule::on("event", "fault-silent", Act::Silence).and("/configmaps?").times(1));
    edit(&world, "a").await;
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(50)).await;
    world.becomes("a", Some("one")).await;
    assert!(begin.elapsed() < Duration::from_secs(110), "{:?}", begin.elapsed());
    world.ready("app", &first).await;
}

/// W3: events that never come, come twice and come late.
#[tokio::test]
async fn events_that_are_lost_doubled_or_late_change_no_end() {
    let (world, proxy, first) = deployed("fault-events").await;
    let _agent = agent_with(&world, &proxy, &["--deep-check", "5"]);
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let spoil = |act: Act| proxy.add(Rule::on("event", "fault-events", act).and("/configmaps?"));
    spoil(Act::Omit);
    edit(&world, "a").await;
    world.maps().delete("b", &DeleteParams::default()).await.unwrap();
    world.becomes("a", Some("one")).await;
    world.becomes("b", Some("one")).await;
    for act in [Act::Twice, Act::Later] {
        proxy.mend();
        spoil(act);
        for round in 0..3 {
            edit(&world, "a").await;
            if round == 1 {
                world.maps().delete("c", &DeleteParams::default()).await.unwrap();
            }
            world.becomes("a", Some("one")).await;
        }
        world.becomes("c", Some("one")).await;
    }
    proxy.mend();
    world.ready("app", &first).await;
    assert_eq!(writes_of(&proxy, "delete", "/configmaps/"), 0);
}

/// S2: between the look at an object and its deletion somebody deletes it and makes another one of its name.
#[tokio::test(flavor = "multi_thread")]
async fn another_object_of_the_name_is_not_deleted() {
    let (world, proxy, first) = deployed("fault-reborn").await;
    let _agent = agent(&world, &proxy);
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let maps = world.maps();
    let swap = std::sync::Arc::new(move || {
        let maps = maps.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                maps.delete("b", &DeleteParams::default()).await.unwrap();
                let theirs = json!({"metadata": {"name": "b"}, "data": {"value": "theirs"}});
                maps.create(&PostParams::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();
            });
        });
    });
    proxy.add(Rule::on("get", "/configmaps/b", Act::Before(swap)).times(1));
    let second = world.repository.change(&[("app/b.yaml", None)], "Second");
    world.poke("app").await;
    world.ready("app", &second).await;
    assert_eq!(world.value("b").await.as_deref(), Some("theirs"));
    assert_eq!(writes_of(&proxy, "delete", "/configmaps/b"), 0);
    eventually("the deletion was refused", || async {
        let all = proxy.written();
        all.iter().any(|done| done.verb == "delete" && done.status == 409).then_some(())
    })
    .await;
    let status = world.apps().get("app").await.unwrap().status.unwrap();
    assert!(status.inventory.entries.iter().all(|entry| entry.name != "b"), "{:?}", status.inventory);
    assert!(world.maps().get("b").await.unwrap().labels().is_empty());
}
