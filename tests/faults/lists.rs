//! Lists that do not come whole, and kinds that come and go: what is not known is not deleted.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{agent, world, writes_of};
use crate::agent::{World, map};
use crate::harness::cluster::Agent;
use crate::harness::eventually;
use crate::harness::fault::{Act, Proxy, Rule};

fn many(count: usize) -> String {
    (0..count).map(|number| format!("---\n{}", map(&format!("m-{number:03}"), "x"))).collect()
}

/// What is wrong with a page of a list, and what is seen of it.
async fn broken_pages(namespace: &str, act: Act, times: usize) {
    let (world, proxy) = world(namespace).await;
    let first = world.repository.commit(&[("app/all.yaml", &many(230))], "First");
    {
        let _agent = agent(&world, &proxy);
        world.application("app", json!({"spec": {"sync": {"pruneBudget": {"percent": 100}}}})).await;
        world.ready("app", &first).await;
    }
    let second = world.repository.commit(&[("app/all.yaml", &many(200))], "Second");
    world.maps().delete("m-007", &DeleteParams::default()).await.unwrap();
    // The third page of each list.
    proxy.add(Rule::on("list", "/configmaps?", act).and("continue=").skip(1).times(times));
    let _agent = agent(&world, &proxy);
    if times > 1 {
        world.reason("app", "Ready", "WatchFailed").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(
            writes_of(&proxy, "delete", "/configmaps/m-"),
            0,
            "nothing is deleted that was not listed whole"
        );
        proxy.mend();
    }
    world.ready("app", &second).await;
    assert_eq!(world.value("m-225").await, None);
    assert_eq!(world.value("m-199").await.as_deref(), Some("x"));
    world.becomes("m-007", Some("x")).await;
    assert_eq!(writes_of(&proxy, "delete", "/configmaps/m-"), 30);
}

/// A11: a page that is cut.
#[tokio::test]
async fn a_page_that_is_cut_is_no_list() {
    broken_pages("fault-cut", Act::Cut(5000), usize::MAX).await;
}

/// A11: a page that is no JSON, and one of another type.
#[tokio::test]
async fn a_page_that_cannot_be_read_is_no_list() {
    let text = r#"{"kind":"ConfigMapList","items":[{"metadata":{"name":"#;
    broken_pages("fault-json", Act::Instead("application/json", text.into()), usize::MAX).await;
    broken_pages("fault-type", Act::Instead("text/html", "<html>a proxy's page</html>".into()), usize::MAX)
        .await;
}

/// A12: the place where the next page begins is too old.
#[tokio::test]
async fn a_list_whose_place_is_too_old_begins_again() {
    broken_pages("fault-continue", Act::Answer(410, None), 1).await;
}

pub(super) fn definition(group: &str, versions: &[(&str, bool)]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(number, (name, served))| {
            json!({"name": name, "served": served, "storage": number == 0,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
        })
        .collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "versions": versions,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"}}})
}

pub(super) async fn define(world: &World, definition: &Value) {
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let name = definition["metadata"]["name"].as_str().unwrap();
    crds.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(definition)).await.unwrap();
    eventually("the CRD is established", || async {
        let conditions = crds.get(name).await.ok()?.status?.conditions?;
        conditions.iter().any(|found| found.type_ == "Established" && found.status == "True").then_some(())
    })
    .await;
}

fn widgets(world: &World, group: &str, version: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}/{version}"),
        kind: "Widget".into(),
        plural: "widgets".into(),
    };
    Api::namespaced_with(world.client.clone(), &world.namespace, &resource)
}

fn widget(group: &str, name: &str) -> String {
    format!("apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {{size: 1}}\n")
}

/// A13: a kind goes and comes again, a version is no longer served, and another group has a kind of the same name.
#[tokio::test]
async fn kinds_that_come_and_go_lose_nothing() {
    let (world, proxy) = world("fault-kinds").await;
    let (one, other) = ("one.faults.example", "other.faults.example");
    define(&world, &definition(one, &[("v1", true), ("v2", true)])).await;
    define(&world, &definition(other, &[("v1", true)])).await;
    let _agent = agent(&world, &proxy);
    let first = world.repository.commit(
        &[
            ("app/a.yaml", &widget(one, "a")),
            ("app/b.yaml", &widget(one, "b")),
            ("app/other.yaml", &widget(other, "a")),
            ("app/m.yaml", &map("m", "one")),
        ],
        "First",
    );
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let other_uid = widgets(&world, other, "v1").get("a").await.unwrap().uid();

    // Version v1 is no longer served; b leaves Git meanwhile. It is still there as v2, and still ours.
    define(&world, &definition(one, &[("v2", true), ("v1", false)])).await;
    eventually("v1 is not served", || async {
        widgets(&world, one, "v1").get("a").await.is_err().then_some(())
    })
    .await;
    let second =
        world.repository.change(&[("app/b.yaml", None), ("app/m.yaml", Some(&map("m", "two")))], "Second");
    world.poke("app").await;
    eventually("the pass was made", || async {
        let status = world.apps().get("app").await.ok()?.status?;
        (status.observed_revision == second || world.value("m").await.as_deref() == Some("two")).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(widgets(&world, one, "v2").get_opt("b").await.unwrap().is_some());
    define(&world, &definition(one, &[("v2", true), ("v1", true)])).await;
    world.poke("app").await;
    world.ready("app", &second).await;
    eventually("b is deleted, as it was still known", || async {
        widgets(&world, one, "v2").get_opt("b").await.unwrap().is_none().then_some(())
    })
    .await;

    // The kind goes, and all of its objects with it; it comes again.
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    crds.delete(&format!("widgets.{one}"), &DeleteParams::default()).await.unwrap();
    eventually("the CRD is gone", || async {
        crds.get_opt(&format!("widgets.{one}")).await.unwrap().is_none().then_some(())
    })
    .await;
    let message = world.reason("app", "Ready", "WatchFailed").await;
    assert!(message.contains("one.faults.example/v1"), "{message}");
    assert_eq!(world.value("m").await.as_deref(), Some("two"));
    define(&world, &definition(one, &[("v1", true)])).await;
    eventually("a is there again", || async {
        widgets(&world, one, "v1").get_opt("a").await.ok()?.map(|_| ())
    })
    .await;
    world.ready("app", &second).await;
    assert_eq!(
        widgets(&world, other, "v1").get("a").await.unwrap().uid(),
        other_uid,
        "the other group's is untouched"
    );
}

/// A8: an aggregated API server that does not answer, present from the start and lost on the way.
#[tokio::test]
async fn a_dead_aggregated_server_stops_its_own_kinds_only() {
    let (world, _running) = World::alone("fault-aggregated").await;
    let proxy = Proxy::before(&world.plane).await;
    let start = || Agent::start(&proxy.plane, &["--interval", "5"]);
    let nowhere = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.nowhere.example"},
        "spec": {"group": "nowhere.example", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "insecureSkipTLSVerify": true, "service": {"name": "nobody", "namespace": "default"}}});
    let resource = ApiResource {
        group: "apiregistration.k8s.io".into(),
        version: "v1".into(),
        api_version: "apiregistration.k8s.io/v1".into(),
        kind: "APIService".into(),
        plural: "apiservices".into(),
    };
    let services: Api<DynamicObject> = Api::all_with(world.client.clone(), &resource);
    services.create(&PostParams::default(), &serde_json::from_value(nowhere).unwrap()).await.unwrap();
    let group = "live.faults.example";
    define(&world, &definition(group, &[("v1", true)])).await;
    let nobodys = "apiVersion: nowhere.example/v1\nkind: Nobody\nmetadata: {name: nobody}\n";
    let first = world.repository.commit(
        &[
            ("app/a.yaml", &widget(group, "a")),
            ("app/b.yaml", &map("b", "one")),
            ("app/c.yaml", &map("c", "one")),
            ("dead/n.yaml", nobodys),
            ("dead/m.yaml", &map("beside", "x")),
        ],
        "First",
    );
    let agent = start();
    world.application("app", json!({})).await;
    world.application("dead", json!({"spec": {"source": {"path": "dead"}}})).await;
    world.ready("app", &first).await;
    let message = world.reason("dead", "Ready", "ApiUnreachable").await;
    assert!(message.contains("nowhere.example/v1"), "{message}");
    world.becomes("beside", Some("x")).await;
    agent.kill();

    // The group of `a` is lost: discovery says nothing of its kinds any more, and its objects are answered with 503.
    let real: Value = {
        let request = http::Request::get("/apis")
            .header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
            .body(Vec::new())
            .unwrap();
        world.client.request(request).await.unwrap()
    };
    let mut lost = real;
    for item in lost["items"].as_array_mut().unwrap() {
        if item["metadata"]["name"] == group {
            item["versions"][0]["resources"] = json!([]);
            item["versions"][0]["freshness"] = "Stale".into();
        }
    }
    let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    proxy.add(Rule::on("get", "/apis", Act::Instead(kind, lost.to_string())).without("/apis/"));
    proxy.add(Rule::on("", &format!("/apis/{group}/"), Act::Answer(503, None)));
    let second = world.repository.change(
        &[("app/a.yaml", None), ("app/b.yaml", Some(&map("b", "two"))), ("app/c.yaml", None)],
        "Second",
    );
    let _agent = start();
    world.becomes("b", Some("two")).await;
    world.reason("app", "Ready", "ApiUnreachable").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        world.value("c").await.as_deref(),
        Some("one"),
        "nothing is deleted while something is not known"
    );
    let status = world.apps().get("app").await.unwrap().status.unwrap();
    assert!(status.inventory.entries.iter().any(|entry| entry.kind == "Widget"), "{:?}", status.inventory);
    proxy.mend();
    world.ready("app", &second).await;
    world.becomes("c", None).await;
    assert!(widgets(&world, group, "v1").get_opt("a").await.unwrap().is_none());
}
