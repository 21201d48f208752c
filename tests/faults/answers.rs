//! An API server that answers badly: away, restarted, throttling, in conflict, losing answers, hanging.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::killed::{course, reference};
use super::{Second, agent, plane, world, writes_of};
use crate::agent::{World, map};
use crate::harness::cluster::client;
use crate::harness::eventually;
use crate::harness::fault::{Act, Proxy, Rule};

/// A1: nobody answers for ten seconds in the middle of a sync.
#[tokio::test]
async fn a_server_that_refuses_is_asked_less_and_less() {
    let (world, proxy) = world("fault-away").await;
    let _agent = agent(&world, &proxy);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    proxy.add(Rule::on("event", "fault-away", Act::Reset));
    proxy.add(Rule::on("", "", Act::Reset));
    let begin = Instant::now();
    let second = world
        .repository
        .commit(&[("app/a.yaml", &map("a", "two")), ("app/b.yaml", &map("b", "new"))], "Second");
    world.poke("app").await;
    // The watches of those two end with the next event.
    world
        .maps()
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}})))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked: Vec<_> = proxy.asked().into_iter().filter(|asked| asked.at > begin).collect();
    for part in ["/configmaps?", "/applications?"] {
        let watch: Vec<Duration> = asked
            .iter()
            .filter(|asked| matches!(asked.verb, "watch" | "list") && asked.what.contains(part))
            .map(|asked| asked.at - begin)
            .collect();
        assert!((2..=8).contains(&watch.len()), "{part} in ten seconds: {watch:?}");
        let pauses: Vec<Duration> = watch.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        assert!(pauses.last() > pauses.first(), "{part}: {pauses:?}");
    }
    let writes = asked.iter().filter(|asked| matches!(asked.verb, "patch" | "delete" | "post")).count();
    assert!(writes < 40, "{writes} writes in ten seconds");
    assert_eq!(writes_of(&proxy, "delete", ""), 0);
    proxy.mend();
    world.ready("app", &second).await;
    world.becomes("b", Some("new")).await;
    world.becomes("a", Some("two")).await;
}

/// A2: the API server is killed and started again all the time, while another one of the same etcd stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_costs_no_storm_of_lists() {
    let plane = plane().await;
    let mut second = Second::beside(&plane);
    second.start();
    let proxy = Proxy::to(&plane, &second.server).await;
    let world = World::on("fault-restarts", plane.clone(), client(&plane).await).await;
    let expected = reference().await;
    let _agent = agent(&world, &proxy);
    let restarts = std::sync::atomic::AtomicUsize::new(0);
    let trouble = async {
        // The first one soon, in the middle of the first sync.
        tokio::time::sleep(Duration::from_secs(3)).await;
        loop {
            second.kill();
            tokio::time::sleep(Duration::from_millis(500)).await;
            second.start();
            restarts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    };
    let end = tokio::select! { end = course(&world, &proxy) => end, () = trouble => unreachable!() };
    assert_eq!(end, expected.0);
    let restarts = restarts.into_inner();
    assert!(restarts > 0);
    for kind in ["/configmaps?", "/deployments?", "/jobs?"] {
        // One at the start; a list that a restart cut is made again.
        let lists = proxy.count("list", kind);
        assert!(lists <= 1 + restarts, "{lists} lists of {kind} in {restarts} restarts");
    }
}

/// A3: nearly a third of all requests are refused with 429.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_wait_waits() {
    let (world, proxy) = world("fault-throttled").await;
    let expected = reference().await;
    proxy.add(Rule::on("", "", Act::Answer(429, Some(1))).percent(30));
    let _agent = agent(&world, &proxy);
    assert_eq!(course(&world, &proxy).await, expected.0);
    // Each that was refused comes again after its second and not before: no two of the same within one.
    let asked = proxy.asked();
    let creations: Vec<_> =
        asked.iter().filter(|asked| asked.verb == "patch" && asked.what.contains("/configmaps/z")).collect();
    for pair in creations.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(1), "{creations:?}");
    }
    let answered = proxy.written().len();
    let wanted = asked.iter().filter(|asked| matches!(asked.verb, "patch" | "post" | "delete")).count();
    assert!(wanted > answered + 5, "{wanted} asked, {answered} answered");
}

/// A4: every third write is refused as a conflict, and somebody keeps editing a field that is not ours.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_tried_again_and_edits_of_others_survive() {
    let (world, proxy) = world("fault-conflict").await;
    proxy.add(Rule::on("write", "/fault-conflict/", Act::Answer(409, None)).percent(33).times(10));
    let _agent = agent(&world, &proxy);
    let mut last = world.repository.commit(&[("app/a.yaml", &map("a", "0"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &last).await;
    let rival = PatchParams { field_manager: Some("rival".into()), ..PatchParams::default() };
    for round in 1..=5 {
        let edit = json!({"data": {"other": format!("edit {round}")}});
        world.maps().patch("a", &rival, &Patch::Merge(edit)).await.unwrap();
        last = world.repository.commit(&[("app/a.yaml", &map("a", &format!("{round}")))], "Next");
        world.poke("app").await;
        world.becomes("a", Some(&format!("{round}"))).await;
    }
    world.ready("app", &last).await;
    let data = world.maps().get("a").await.unwrap().data.unwrap();
    assert_eq!((data["value"].as_str(), data["other"].as_str()), ("5", "edit 5"));
    assert!(proxy.count("patch", "/configmaps/a") < 40, "the tries are bounded");
}

/// A5: errors and resets before a write is done, and lost answers of writes that were done.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_nothing_twice() {
    let expected = reference().await;
    let (world, proxy) = world("fault-lost").await;
    let lost = |act: Act| Rule::on("write", "", act).percent(15).times(4);
    proxy.add(Rule::on("post", "/jobs", Act::DropAnswer).times(2));
    proxy.add(Rule::on("delete", "", Act::DropAnswer).times(2));
    for act in
        [Act::DropAnswer, Act::Reset, Act::Answer(500, None), Act::Answer(503, None), Act::Answer(504, None)]
    {
        proxy.add(lost(act));
    }
    let _agent = agent(&world, &proxy);
    assert_eq!(course(&world, &proxy).await, expected.0);
    assert_eq!(writes_of(&proxy, "post", "/jobs"), 4, "two hooks in two syncs");
}

/// A6: a write that hangs, and a list that comes a byte at a time.
#[tokio::test]
async fn a_request_that_hangs_ends_and_others_go_on() {
    let (world, proxy) = world("fault-hangs").await;
    proxy.add(Rule::on("patch", "/configmaps/hangs", Act::Hang).times(1));
    proxy.add(Rule::on("patch", "/applications/quiet/status", Act::Hang).times(1));
    proxy.add(Rule::on("list", "/limitranges?", Act::Trickle(Duration::from_secs(1))).times(1));
    let _agent = agent(&world, &proxy);
    let range = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: slow}\nspec: {limits: [{type: Container, default: {cpu: '1'}}]}\n";
    let head = world.repository.commit(
        &[
            ("hangs/a.yaml", &map("hangs", "x")),
            ("quiet/a.yaml", &map("quiet", "x")),
            ("slow/a.yaml", range),
            ("app/a.yaml", &map("fine", "x")),
        ],
        "First",
    );
    for name in ["hangs", "quiet", "slow"] {
        world.application(name, json!({"spec": {"source": {"path": name}}})).await;
    }
    eventually("the requests hang", || async {
        (proxy.count("patch", "/configmaps/hangs") > 0).then_some(())
    })
    .await;
    let begin = Instant::now();
    world.application("app", json!({})).await;
    world.ready("app", &head).await;
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let message = world.reason("hangs", "Ready", "ApiUnreachable").await;
    assert!(message.contains("within 30 s") && message.contains("ConfigMap fault-hangs/hangs"), "{message}");
    for name in ["hangs", "quiet", "slow"] {
        world.ready(name, &head).await;
    }
}
