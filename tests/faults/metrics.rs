//! A Prometheus that is late, silent, empty or contradicts itself, in the middle of a rollout.

use std::time::{Duration, Instant};

use driftless::api::{GateStatus, RolloutPhase};
use serde_json::json;

use super::{agent, world};
use crate::agent::map;
use crate::canary::{Rolling, fraud, policy};
use crate::harness::eventually;
use crate::harness::front::{Fault, Front};
use crate::harness::monitoring::Prometheus;

/// A step that one gate of Prometheus decides.
fn gated(address: &str, query: &str, more: &str) -> String {
    let gate = format!(
        "  abortScaleDownDelay: 1s\n  gates:\n  - {{name: success, interval: 1s, {more}, prometheus: {{address: '{address}', query: '{query}', pass: value >= 0.99}}}}\n"
    );
    policy("canary: {steps: [{weight: 50, gates: [success]}]}", &gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_is_late_empty_or_contradicts_itself_passes_nobody() {
    let (world, proxy) = world("metrics-faults").await;
    let _agent = agent(&world, &proxy);
    let rolling = Rolling { world: &world };
    // Two servers that scrape different things, as two of a pair do that has come apart.
    let (good, bad) = (Front::files().await, Front::files().await);
    good.put("/metrics", "success{zone=\"a\"} 1\n");
    bad.put("/metrics", "success{zone=\"a\"} 0.5\nsuccess{zone=\"b\"} 1\n");
    let (one, other) = tokio::join!(Prometheus::scraping(&good.host), Prometheus::scraping(&bad.host));
    for prometheus in [&one, &other] {
        eventually("it has scraped", || async { prometheus.value("max(success)").await }).await;
    }
    let host = |prometheus: &Prometheus| prometheus.address().replace("http://", "");
    let (one, other) = (host(&one), host(&other));
    let pair = [one.as_str(), other.as_str()];
    let (front, both) = tokio::join!(Front::before(&one), Front::between(&pair));
    let late = Duration::from_secs(12);
    let [front_at, both_at, other_at] =
        [&front.host, &both.host, &other].map(|host| format!("http://{host}"));
    let rows = [
        // The fault, where it is asked, what for, its limits, and why it ends.
        (
            Some(Fault::Late(late)),
            &front_at,
            "min(success)",
            "limits: {error: 1}",
            "2 measurements with an error in a row (1 are borne): no answer within 10 s",
        ),
        (
            Some(Fault::Hang),
            &front_at,
            "min(success)",
            "limits: {error: 0}",
            "1 measurement with an error in a row (0 are borne): no answer within 10 s",
        ),
        (
            None,
            &front_at,
            "min(success{zone=\"c\"})",
            "limits: {noData: 2}",
            "3 measurements without data in a row (2 are borne): the query gives no series",
        ),
        (
            None,
            &both_at,
            "min(success{zone=\"a\"})",
            "count: 5, limits: {fail: 1}",
            "2 measurements failed (1 are borne): 0.5 is not value >= 0.99",
        ),
        (
            None,
            &other_at,
            "success",
            "limits: {error: 2}",
            "3 measurements with an error in a row (2 are borne): the query gives 2 series",
        ),
    ];
    // Somebody else's application, of the same agent.
    let commit = |number: usize, steps: &str| {
        let image = format!("model:{number}");
        let (target, other) = (fraud(&image, 2, ""), map("other", &number.to_string()));
        let files = [
            ("app/fraud.yaml", target.as_str()),
            ("app/policy.yaml", steps),
            ("other/map.yaml", other.as_str()),
        ];
        world.repository.commit(&files, &image)
    };
    let zero = commit(0, &gated(&front_at, "min(success)", "count: 1"));
    world.application("fraud", json!({})).await;
    world.application("other", json!({"spec": {"source": {"path": "other"}}})).await;
    world.becomes("other", Some("0")).await;
    world.ready("fraud", &zero).await;
    rolling.phase(RolloutPhase::Healthy).await;

    for (number, (fault, address, query, limits, wanted)) in (1..).zip(rows) {
        front.fault("/api/v1/query", fault.clone());
        let commit = commit(number, &gated(address, query, limits));
        world.poke("fraud").await;
        let mut seen: Vec<GateStatus> = Vec::new();
        eventually("the gate is asked", || async {
            let status = rolling.status().await;
            let is_this = status.candidate.is_some_and(|candidate| candidate.commit == commit);
            (is_this && !status.gates.is_empty()).then_some(())
        })
        .await;
        if fault.is_some() {
            // An answer is waited for: nobody else waits for it.
            let begin = Instant::now();
            world.poke("other").await;
            world.becomes("other", Some(&number.to_string())).await;
            assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
            let status = rolling.status().await;
            assert_eq!((status.phase, status.weight), (RolloutPhase::Progressing, 50), "it is held");
        }
        let begin = Instant::now();
        let status = loop {
            assert!(begin.elapsed() < Duration::from_secs(120), "it is not rejected: {seen:?}");
            let status = rolling.status().await;
            seen.extend(status.gates.clone());
            if status.phase == RolloutPhase::Rejected {
                break status;
            }
            assert_eq!(status.step, 0, "it went on: {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let why = &status.rejected.last().unwrap().why;
        assert!(why.contains(wanted), "{why}, not {wanted}");
        let alternates = limits.contains("count");
        assert!(seen.iter().all(|gate| gate.passed <= u32::from(alternates) * 2), "it passed: {seen:?}");
        rolling.gone("fraud-candidate").await;
        assert_eq!(rolling.image("fraud").await, "model:0");
    }
    front.fault("/api/v1/query", None);
}
