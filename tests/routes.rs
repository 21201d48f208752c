//! Steps that ask more of a route than a weight, and Ingresses, on a real API server with pods by real controllers.

use driftless::api::RolloutPhase;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::agent::World;
use crate::canary::{Rolling, fraud, gateway, policy, resource};
use crate::harness::{crds, eventually};

/// A cluster with the first revision behind a route.
async fn begun(world: &World, steps: &str, routes: &str, route: &str) -> String {
    let rolling = Rolling { world };
    let steps =
        policy(&format!("canary: {{steps: [{steps}]}}"), &format!("  traffic: {{routes: [{routes}]}}\n"));
    let files = [("fraud", fraud("model:1", 4, "")), ("policy", steps), ("route", route.to_owned())];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let first = rolling.commit(&files, "One");
    world.application("fraud", json!({})).await;
    world.ready("fraud", &first).await;
    rolling.phase(RolloutPhase::Healthy).await;
    first
}

async fn next(world: &World, image: &str) -> String {
    let rolling = Rolling { world };
    let commit = rolling.commit(&[("fraud", &fraud(image, 4, ""))], image);
    world.poke("fraud").await;
    commit
}

/// What an object becomes.
async fn becomes(api: &Api<DynamicObject>, what: &str, path: &str, wanted: &Value) {
    let last = std::sync::Mutex::new(Value::Null);
    let what = format!("{what}: {path} is {wanted}");
    let is_it = || async {
        let live = api.get("fraud").await.unwrap();
        let found = live.data.pointer(path).cloned().unwrap_or_default();
        last.lock().unwrap().clone_from(&found);
        (found == *wanted).then_some(())
    };
    eventually(&what, is_it).await;
}

fn http_route(more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: fraud}}
spec:
  parentRefs: [{{name: web}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /v1}}}}]
    filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{add: [{{name: x-by, value: web}}]}}}}]
    backendRefs: [{{name: fraud, port: 80}}]
{more}"
    )
}

/// Names and weights of a route's backends, with the headers that its rules ask for, in a line.
fn rules(route: &DynamicObject) -> String {
    let all = route.data["spec"]["rules"].as_array().unwrap().iter().map(|rule| {
        let backends = rule["backendRefs"].as_array().unwrap().iter();
        let backends: Vec<String> =
            backends.map(|one| format!("{} {}", one["name"].as_str().unwrap(), one["weight"])).collect();
        let headers = rule["matches"][0]["headers"].as_array().into_iter().flatten();
        let headers: String = headers
            .map(|one| format!("{}={} ", one["name"].as_str().unwrap(), one["value"].as_str().unwrap()))
            .collect();
        let copies = rule["filters"].as_array().into_iter().flatten();
        let copies = copies.filter(|filter| filter["type"] == "RequestMirror");
        let copies: String = copies.map(|one| format!(" copy {}", one["requestMirror"]["percent"])).collect();
        format!("{headers}{}{copies}", backends.join(", "))
    });
    all.collect::<Vec<_>>().join(" | ")
}

#[tokio::test]
async fn testers_go_first_and_nobody_else() {
    let world = &World::new("routes-headers").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::GATEWAY, &["HTTPRoute"]).await;
    let kind = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    tokio::spawn(gateway(api.clone()));
    let steps = "{weight: 0, headers: [{name: X-Tester, exact: 'yes'}], hold: promoted}, {weight: 25, headers: [{name: x-stage, regex: 'beta|gamma'}, {name: x-tester, exact: 'yes'}], mirror: 30, hold: promoted}, {weight: 50, hold: promoted}";
    let routes = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, name: fraud}";
    begun(world, steps, routes, &http_route("")).await;
    next(world, "model:2").await;
    rolling.says("step 1 of 4 (0 %, all with x-tester=yes): waits for").await;
    let live = || async { rules(&api.get("fraud").await.unwrap()) };
    let led = "x-tester=yes fraud-candidate 1 | fraud 1";
    assert_eq!(live().await, led);
    assert_eq!(rolling.size("fraud-candidate").await, 1, "somebody serves them");
    // Matches, filters and all else of the rule that it stems from.
    let route = api.get("fraud").await.unwrap();
    let [ahead, rule] = [0, 1].map(|at| route.data["spec"]["rules"][at].clone());
    assert_eq!(ahead["filters"], rule["filters"]);
    assert_eq!(ahead["matches"][0]["path"], rule["matches"][0]["path"]);

    // Somebody takes it out: it is ours while the step lasts, and nobody fights about it.
    let patch = json!({"spec": {"rules": [rule]}});
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    eventually("the rule is there again", || async { (live().await == led).then_some(()) }).await;
    let generation = api.get("fraud").await.unwrap().metadata.generation;
    world.poke("fraud").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(api.get("fraud").await.unwrap().metadata.generation, generation, "it is at rest");

    // Git changes the route meanwhile.
    let more = "  - backendRefs: [{name: other, port: 80}]\n";
    rolling.commit(&[("route", &http_route(more).replace("value: /v1", "value: /v2"))], "A rule more");
    world.poke("fraud").await;
    eventually("Git is followed", || async {
        let route = api.get("fraud").await.unwrap();
        let path = |at: usize| route.data["spec"]["rules"][at]["matches"][0]["path"]["value"].clone();
        (rules(&route) == format!("{led} | other 1") && [path(0), path(1)] == ["/v2", "/v2"]).then_some(())
    })
    .await;

    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 4 (25 %, copy 30 %, all with x-stage~beta|gamma and x-tester=yes): waits").await;
    let all =
        "x-stage=beta|gamma x-tester=yes fraud-candidate 1 | fraud 75, fraud-candidate 25 copy 30 | other 1";
    assert_eq!(live().await, all);
    // Copies are work too: 55 % of four.
    assert_eq!(rolling.size("fraud-candidate").await, 3);
    rolling.ask("Promote", "b").await;
    rolling.says("step 3 of 4 (50 %): waits").await;
    assert_eq!(live().await, "fraud 50, fraud-candidate 50 | other 1", "the step after has none");
    rolling.ask("PromoteFull", "c").await;
    rolling.phase(RolloutPhase::Healthy).await;
    assert_eq!(live().await, "fraud 1 | other 1");

    next(world, "model:3").await;
    rolling.says("step 1 of 4 (0 %, all with x-tester=yes): waits for").await;
    rolling.ask("Abort", "d").await;
    rolling.phase(RolloutPhase::Rejected).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!(live().await, "fraud 1 | other 1", "an abort takes it out");
    assert_eq!(rolling.image("fraud").await, "model:2");
}

#[tokio::test]
async fn istio_has_testers_and_copies() {
    let world = &World::new("routes-istio").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::ISTIO, &["VirtualService"]).await;
    let kind = resource("networking.istio.io", "v1", "VirtualService", "virtualservices");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: fraud}\nspec:\n  hosts: [fraud]\n  http:\n  - name: all\n    retries: {attempts: 2}\n    route: [{destination: {host: fraud}}]\n";
    let steps = "{weight: 5, headers: [{name: x-tester, prefix: team-}], mirror: 20, hold: promoted}";
    let routes = "{apiVersion: networking.istio.io/v1, kind: VirtualService, name: fraud}";
    begun(world, steps, routes, route).await;
    let second = next(world, "model:2").await;
    rolling.says("step 1 of 2 (5 %, copy 20 %, all with x-tester^=team-): waits").await;
    let http = json!([
        {"name": "all-candidate", "retries": {"attempts": 2}, "match": [{"headers": {"x-tester": {"prefix": "team-"}}}],
            "route": [{"destination": {"host": "fraud-candidate"}}]},
        {"name": "all", "retries": {"attempts": 2}, "mirror": {"host": "fraud-candidate"},
            "mirrorPercentage": {"value": 20}, "route": [
            {"destination": {"host": "fraud"}, "weight": 95}, {"destination": {"host": "fraud-candidate"}, "weight": 5}]}]);
    becomes(&api, "the step", "/spec/http", &http).await;
    let patch = json!([{"op": "remove", "path": "/spec/http/1/mirror"}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
    api.patch("fraud", &PatchParams::default(), &patch).await.unwrap();
    becomes(&api, "copies go on", "/spec/http", &http).await;
    rolling.ask("PromoteFull", "a").await;
    world.ready("fraud", &second).await;
    let plain =
        json!([{"name": "all", "retries": {"attempts": 2}, "route": [{"destination": {"host": "fraud"}}]}]);
    becomes(&api, "the end", "/spec/http", &plain).await;
}

#[tokio::test]
async fn calls_have_testers_too() {
    let world = &World::new("routes-grpc").await;
    let rolling = Rolling { world };
    crds::install(&world.client, &crds::GATEWAY, &["GRPCRoute"]).await;
    let kind = resource("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes");
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    tokio::spawn(gateway(api.clone()));
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: fraud}\nspec:\n  parentRefs: [{name: web}]\n  rules:\n  - matches: [{method: {service: inference.GRPCInferenceService}}]\n    backendRefs: [{name: fraud, port: 80}]\n";
    let steps = "{weight: 0, headers: [{name: x-tester, exact: 'yes'}], hold: promoted}";
    let routes = "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, name: fraud}";
    begun(world, steps, routes, route).await;
    let second = next(world, "model:2").await;
    rolling.says("step 1 of 2 (0 %, all with x-tester=yes): waits").await;
    let live = api.get("fraud").await.unwrap();
    assert_eq!(rules(&live), "x-tester=yes fraud-candidate 1 | fraud 1");
    let service = "/spec/rules/0/matches/0/method/service";
    assert_eq!(live.data.pointer(service), Some(&json!("inference.GRPCInferenceService")));
    rolling.ask("PromoteFull", "a").await;
    world.ready("fraud", &second).await;
    assert_eq!(rules(&api.get("fraud").await.unwrap()), "fraud 1");
}

fn ingress(class: &str, paths: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: fraud, annotations: {{nginx.ingress.kubernetes.io/proxy-body-size: 8m, example.org/kept: 'yes'}}}}
spec:
  ingressClassName: {class}
  rules:
  - host: fraud.example.org
    http: {{paths: [{paths}{{path: /, pathType: Prefix, backend: {{service: {{name: fraud, port: {{number: 80}}}}}}}}]}}
"
    )
}

const INGRESS: &str = "{apiVersion: networking.k8s.io/v1, kind: Ingress, name: fraud}";

/// Canary annotations of an Ingress, and where it leads.
fn shown(ingress: &Ingress) -> String {
    let annotations = ingress.annotations().iter();
    let own = annotations.filter_map(|(name, value)| {
        Some(format!("{}={value}", name.strip_prefix("nginx.ingress.kubernetes.io/canary")?))
    });
    let rules = ingress.spec.as_ref().unwrap().rules.iter().flatten();
    let paths = rules.flat_map(|rule| &rule.http.as_ref().unwrap().paths);
    let paths = paths.map(|path| {
        let service = path.backend.service.as_ref().unwrap();
        format!("{} {}", path.path.as_deref().unwrap(), service.name)
    });
    own.chain(paths).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn nginx_has_a_canary_beside_the_ingress() {
    let world = &World::new("routes-nginx").await;
    let rolling = Rolling { world };
    let api: Api<Ingress> = rolling.api();
    let steps = "{weight: 0, headers: [{name: x-tester, exact: 'yes'}], hold: promoted}, {weight: 20, hold: promoted}, {weight: 60, hold: promoted}";
    begun(world, steps, INGRESS, &ingress("nginx", "")).await;
    // Its controller has taken it.
    let address = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}}));
    api.patch_status("fraud", &PatchParams::default(), &address).await.unwrap();
    let before = api.get("fraud").await.unwrap();

    next(world, "model:2").await;
    let waits = "step 1 of 4 (0 %, all with x-tester=yes): the router is to send";
    rolling.says(waits).await;
    let copy = eventually("the copy", || async { api.get_opt("fraud-candidate").await.unwrap() }).await;
    assert_eq!(
        shown(&copy),
        "=true, -by-header=x-tester, -by-header-value=yes, -weight=0, / fraud-candidate"
    );
    assert_eq!(copy.annotations()["nginx.ingress.kubernetes.io/proxy-body-size"], "8m");
    assert!(!copy.annotations().contains_key("example.org/kept"), "of other tools there is one");
    let owner = &copy.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Deployment", "fraud-candidate"));
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert!(rolling.status().await.message.starts_with(waits), "the copy has no address yet");
    assert_eq!(rolling.size("fraud-candidate").await, 1, "what is not known makes nobody greater");
    api.patch_status("fraud-candidate", &PatchParams::default(), &address).await.unwrap();
    rolling.says("step 1 of 4 (0 %, all with x-tester=yes): waits for").await;

    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 4 (20 %): waits for").await;
    let live = || async { shown(&api.get("fraud-candidate").await.unwrap()) };
    assert_eq!(live().await, "=true, -weight=20, / fraud-candidate");
    // Somebody sets it otherwise, or takes it away.
    let weight = json!({"metadata": {"annotations": {"nginx.ingress.kubernetes.io/canary-weight": "90"}}});
    api.patch("fraud-candidate", &PatchParams::default(), &Patch::Merge(weight)).await.unwrap();
    eventually("the weight is set again", || async {
        (live().await == "=true, -weight=20, / fraud-candidate").then_some(())
    })
    .await;
    api.delete("fraud-candidate", &DeleteParams::default()).await.unwrap();
    eventually("the copy is there again", || async {
        let copy = api.get_opt("fraud-candidate").await.unwrap()?;
        (copy.uid() != before.uid() && shown(&copy) == "=true, -weight=20, / fraud-candidate").then_some(())
    })
    .await;
    api.patch_status("fraud-candidate", &PatchParams::default(), &address).await.unwrap();
    assert_eq!(api.get("fraud").await.unwrap().metadata, before.metadata, "the Ingress is as it was");

    // Git changes the Ingress meanwhile.
    let paths = "{path: /v2, pathType: Exact, backend: {service: {name: fraud, port: {number: 80}}}}, {path: /other, pathType: Prefix, backend: {service: {name: other, port: {number: 80}}}}, ";
    rolling.commit(&[("route", &ingress("nginx", paths))], "Paths");
    world.poke("fraud").await;
    eventually("both follow", || async {
        let own = shown(&api.get("fraud").await.unwrap()) == "/v2 fraud, /other other, / fraud";
        (own && live().await == "=true, -weight=20, /v2 fraud-candidate, / fraud-candidate").then_some(())
    })
    .await;

    rolling.ask("Abort", "b").await;
    eventually("no traffic", || async { live().await.contains("-weight=0").then_some(()) }).await;
    rolling.phase(RolloutPhase::Rejected).await;
    rolling.gone("fraud-candidate").await;
    eventually("the copy goes too", || async {
        api.get_opt("fraud-candidate").await.unwrap().is_none().then_some(())
    })
    .await;
    // Somebody has the name.
    let stranger = serde_json::from_value(json!({"metadata": {"name": "fraud-candidate"}, "spec": {
        "defaultBackend": {"service": {"name": "other", "port": {"number": 80}}}}}));
    api.create(&PostParams::default(), &stranger.unwrap()).await.unwrap();
    next(world, "model:4").await;
    let words = "step 1 of 4 (0 %, all with x-tester=yes): the router is to send 0 %: ";
    let message = rolling.says(words).await.message;
    assert!(message.contains("it is not of this rollout, which needs the name"), "{message}");
    assert_eq!(shown(&api.get("fraud-candidate").await.unwrap()), "");
    api.delete("fraud-candidate", &DeleteParams::default()).await.unwrap();
    next(world, "model:1").await;
    rolling.phase(RolloutPhase::Healthy).await;
    rolling.gone("fraud-candidate").await;
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1, "the copy goes too");

    let third = next(world, "model:3").await;
    eventually("the copy", || async { api.get_opt("fraud-candidate").await.unwrap() }).await;
    api.patch_status("fraud-candidate", &PatchParams::default(), &address).await.unwrap();
    rolling.says("step 1 of 4").await;
    rolling.ask("PromoteFull", "c").await;
    world.ready("fraud", &third).await;
    assert_eq!(rolling.image("fraud").await, "model:3");
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let (code, text, errors) = crate::agent::cli(world, &["drift", "fraud"]).await;
    assert_eq!(code, 0, "{text}{errors}");
}

#[tokio::test]
async fn an_alb_is_told_by_annotations() {
    let world = &World::new("routes-alb").await;
    let rolling = Rolling { world };
    let api: Api<Ingress> = rolling.api();
    let steps = "{weight: 0, headers: [{name: x-tester, exact: 'yes'}], hold: promoted}, {weight: 20, hold: promoted}";
    let routes = "{apiVersion: networking.k8s.io/v1, kind: Ingress, name: fraud, router: alb}";
    begun(world, steps, routes, &ingress("public", "")).await;
    let second = next(world, "model:2").await;
    // Pods that are made before their target group have no readiness gate of it.
    eventually("the candidate is named", || async {
        let live = api.get("fraud").await.unwrap();
        live.annotations().keys().any(|name| name.ends_with("actions.fraud")).then_some(())
    })
    .await;
    assert_eq!(rolling.size("fraud-candidate").await, 0, "without pods");
    rolling.says("step 1 of 3 (0 %, all with x-tester=yes): waits for").await;
    let read = |ingress: &Ingress, name: &str| -> Value {
        let text = ingress.annotations().get(&format!("alb.ingress.kubernetes.io/{name}"));
        text.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
    };
    let groups = |ingress: &Ingress, name: &str| -> String {
        let action = read(ingress, &format!("actions.{name}"));
        let groups = action["forwardConfig"]["targetGroups"].as_array().into_iter().flatten();
        let each = groups.map(|one| format!("{} {}", one["serviceName"].as_str().unwrap(), one["weight"]));
        each.collect::<Vec<_>>().join(", ")
    };
    let live = api.get("fraud").await.unwrap();
    assert_eq!(shown(&live), "/ fraud-candidate, / fraud");
    assert_eq!(groups(&live, "fraud-candidate"), "fraud-candidate 100");
    assert_eq!(groups(&live, "fraud"), "fraud 100, fraud-candidate 0", "its target group is there");
    let asked = json!([{"field": "http-header", "httpHeaderConfig": {"httpHeaderName": "x-tester", "values": ["yes"]}}]);
    assert_eq!(read(&live, "conditions.fraud-candidate"), asked);

    rolling.ask("Promote", "a").await;
    rolling.says("step 2 of 3 (20 %): waits for").await;
    let live = api.get("fraud").await.unwrap();
    assert_eq!(shown(&live), "/ fraud");
    assert_eq!(groups(&live, "fraud"), "fraud 80, fraud-candidate 20");
    assert_eq!(read(&live, "conditions.fraud-candidate"), Value::Null);
    let taken = json!({"metadata": {"annotations": {"alb.ingress.kubernetes.io/actions.fraud": "{}"}}});
    api.patch("fraud", &PatchParams::default(), &Patch::Merge(taken)).await.unwrap();
    eventually("the weights are set again", || async {
        let live = api.get("fraud").await.unwrap();
        (groups(&live, "fraud") == "fraud 80, fraud-candidate 20").then_some(())
    })
    .await;
    rolling.ask("PromoteFull", "b").await;
    world.ready("fraud", &second).await;
    let live = api.get("fraud").await.unwrap();
    assert!(live.annotations().keys().all(|name| !name.starts_with("alb.")), "{:?}", live.annotations());
    let port = live.spec.unwrap().rules.unwrap()[0].http.as_ref().unwrap().paths[0].clone();
    assert_eq!(port.backend.service.unwrap().port.unwrap().number, Some(80), "as Git has it");

    // One that never had a weight is not named any more when it goes.
    next(world, "model:3").await;
    rolling.says("step 1 of 3 (0 %, all with x-tester=yes): waits for").await;
    let back = next(world, "model:2").await;
    world.ready("fraud", &back).await;
    rolling.gone("fraud-candidate").await;
    let live = api.get("fraud").await.unwrap();
    assert!(live.annotations().keys().all(|name| !name.starts_with("alb.")), "{:?}", live.annotations());
}

/// What a router cannot do, lint tells before the merge; where nobody looked, the Application says it and nothing of the
/// commit is applied.
#[tokio::test]
async fn what_a_router_cannot_do_is_refused() {
    let world = &World::new("routes-refused").await;
    let rolling = Rolling { world };
    let api: Api<Ingress> = rolling.api();
    begun(world, "{weight: 20, hold: promoted}", INGRESS, &ingress("nginx", "")).await;
    let refused = |steps: &str, routes: &str| {
        let steps =
            policy(&format!("canary: {{steps: [{steps}]}}"), &format!("  traffic: {{routes: [{routes}]}}\n"));
        rolling.commit(&[("policy", &steps), ("fraud", &fraud("model:2", 4, ""))], &steps);
    };
    let says = |words: &'static str| async move {
        eventually(words, || async {
            let (_, _, message) = world.condition("fraud", "Ready").await?;
            message.contains(words).then_some(())
        })
        .await;
    };
    // The class is in the Ingress, so the API server cannot know.
    refused("{weight: 0, headers: [{name: x-tester, prefix: team-}]}", INGRESS);
    world.poke("fraud").await;
    says("strategy.canary.steps[0].headers: Ingress fraud: NGINX has no prefixes of headers").await;
    refused("{weight: 5, headers: [{name: a, exact: b}, {name: c, exact: d}]}", INGRESS);
    world.poke("fraud").await;
    says("NGINX tells requests by one header, not by 2").await;
    assert_eq!(rolling.image("fraud").await, "model:1", "nothing of the commit is applied");
    let other = ingress("internal", "");
    rolling.commit(&[("route", &other)], "Another class");
    world.poke("fraud").await;
    says("the class internal of the Ingress says no router; state router: nginx or alb").await;
    assert_eq!(api.get("fraud").await.unwrap().spec.unwrap().ingress_class_name.as_deref(), Some("nginx"));
}
