//! Routes as Git has them and as they are to be, out of files.

use std::path::Path;
use std::sync::Arc;

use driftless::api::{
    Canary, CanaryStep, HeaderMatch, IngressRouter, RolloutPolicySpec, RolloutStrategy, RolloutTraffic,
    TrafficRoute,
};
use driftless::model::{Gvk, Key, yaml};
use driftless::rollout::Routed;
use driftless::rollout::traffic::{Division, Router, divide};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    route: Route,
    routed: Wanted,
    git: Value,
    /// The route; Git's where not given.
    wanted: Option<Value>,
    /// The route before there is any traffic, where the candidate is named then.
    warmed: Option<Value>,
    /// What stands beside it.
    beside: Option<Value>,
    /// Why it is not done.
    refused: Option<String>,
}

/// A route of a policy, without the name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Route {
    api_version: String,
    kind: String,
    router: Option<IngressRouter>,
    annotation_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    weight: u32,
    #[serde(default)]
    mirror: u32,
    #[serde(default)]
    headers: Vec<HeaderMatch>,
}

const SERVICE: &str = "fraud";

fn cases() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/routes");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let value = yaml::read(&std::fs::read(&path).unwrap(), &name).unwrap().remove(0).value;
            let case = serde_json::from_value(value).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, case)
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() > 20, "{}", all.len());
    all
}

/// What carries the route of a case out, for a policy with one step.
fn made(case: &Case) -> Result<(Arc<dyn Router>, Routed, Value), String> {
    let Route { api_version, kind, router, annotation_prefix } = &case.route;
    let Wanted { weight, mirror, headers } = &case.routed;
    let step = CanaryStep {
        weight: *weight,
        mirror: (*mirror > 0).then_some(*mirror),
        headers: headers.clone(),
        ..CanaryStep::default()
    };
    let route = TrafficRoute {
        api_version: api_version.clone(),
        kind: kind.clone(),
        name: "web".into(),
        router: *router,
        annotation_prefix: annotation_prefix.clone(),
        fields: None,
    };
    let canary = Some(Canary { steps: vec![step], ..Canary::default() });
    let spec = RolloutPolicySpec {
        strategy: RolloutStrategy { canary, ..RolloutStrategy::default() },
        traffic: RolloutTraffic { service: None, routes: vec![route] },
        ..RolloutPolicySpec::default()
    };
    let labels = json!({"app": SERVICE});
    let service = json!({"spec": {"selector": labels}});
    let named = |gvk: &Gvk, name: &str| Key {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: "ml".into(),
        name: name.into(),
    };
    let kinds = [Gvk::parse("v1", "Service"), Gvk::parse(api_version, kind)];
    let keys = [named(&kinds[0], SERVICE), named(&kinds[1], "web")];
    let objects = [(&kinds[0], &keys[0], &service), (&kinds[1], &keys[1], &case.git)];
    let divided = divide(&spec, &objects, "ml", labels.as_object().unwrap());
    let Division::Routes(0, routes) = divided.map_err(|error| error.to_string())? else { panic!("no route") };
    let (_, router) = routes.into_iter().next().unwrap();
    let routed = Routed { weight: *weight, mirror: *mirror, headers: headers.clone() };
    let made = router.divided(&case.git, SERVICE, &routed)?;
    Ok((router, routed, made))
}

/// With the JSON of annotations as what it says.
fn opened(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        Value::Array(items) => items.iter().map(opened).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), opened(value))).collect(),
        other => other.clone(),
    }
}

/// As its Gateway's controller leaves it.
fn taken(mut route: Value) -> Value {
    route["metadata"]["generation"] = 3.into();
    route["status"] = json!({"parents": [{"conditions": [
        {"type": "Accepted", "status": "True", "observedGeneration": 3}]}]});
    route
}

#[test]
fn routes_are_as_the_files_say_and_are_seen_so() {
    for (name, case) in cases() {
        let (router, routed, made) = match (made(&case), &case.refused) {
            (Err(why), Some(refused)) => {
                assert!(why.contains(refused.as_str()), "{name}: {why}");
                continue;
            }
            (Err(why), None) => panic!("{name}: {why}"),
            (Ok(_), Some(refused)) => panic!("{name}: it is not refused: {refused}"),
            (Ok(found), None) => found,
        };
        let shown = |value: &Value| serde_json::to_string_pretty(&opened(value)).unwrap();
        assert_eq!(shown(&made), shown(case.wanted.as_ref().unwrap_or(&case.git)), "{name}");
        let warmed = router.warmed(case.git.clone(), SERVICE);
        assert_eq!(warmed != case.git, router.warms(), "{name}");
        if let Some(wanted) = &case.warmed {
            assert_eq!(shown(&warmed), shown(wanted), "{name}");
            assert_eq!(router.observed(&warmed, None, SERVICE), Some(Routed::default()), "{name}");
        }
        let beside = router.beside(&case.git, SERVICE, &routed);
        assert_eq!(beside.is_some(), router.stands_beside(), "{name}");
        assert_eq!(beside.as_ref().map(shown), case.beside.as_ref().map(shown), "{name}");
        let seen =
            |live: &Value, beside: Option<&Value>| router.observed(&taken(live.clone()), beside, SERVICE);
        assert_eq!(seen(&made, beside.as_ref()), Some(routed.clone()), "{name}");
        assert_eq!(seen(&case.git, None), Some(Routed::default()), "{name}: as Git has it");
        // Every other way to be is told from it.
        let others = [
            Routed { weight: routed.weight ^ 1, ..routed.clone() },
            Routed { headers: Vec::new(), ..routed.clone() },
            Routed { headers: vec![HeaderMatch::new("x-other", "exact", "a".to_owned())], ..routed.clone() },
        ];
        for other in others.into_iter().filter(|other| *other != routed) {
            let Ok(made) = router.divided(&case.git, SERVICE, &other) else { continue };
            let beside = router.beside(&case.git, SERVICE, &other);
            assert_ne!(seen(&made, beside.as_ref()), Some(routed.clone()), "{name}: {other}");
        }
    }
}

/// Whoever edits the rules of a step is seen.
#[test]
fn rules_for_headers_that_somebody_changed_are_not_what_was_asked_for() {
    let edits: &[(&str, &str, Value)] = &[
        ("httproute-headers.yaml", "/spec/rules/0/matches/0/headers/1/value", json!("gamma")),
        ("httproute-headers.yaml", "/spec/rules/0/matches/0/headers/0/value", json!("other")),
        ("httproute-headers.yaml", "/spec/rules/0/matches", json!([])),
        ("httproute-headers.yaml", "/spec/rules/0/backendRefs/0/name", json!("fraud")),
        ("httproute-headers.yaml", "/spec/rules/1/backendRefs/1/weight", json!(0)),
        ("virtualservice-headers.yaml", "/spec/http/1/match/1/headers/x-tester", json!({"exact": "no"})),
        ("virtualservice-headers.yaml", "/spec/http/2/mirrorPercentage/value", json!(1)),
        ("nginx-header.yaml", "/metadata/annotations/inner.example.org~1canary-by-header-value", json!("no")),
        ("nginx-header.yaml", "/metadata/annotations/inner.example.org~1canary", json!("false")),
        ("nginx-header.yaml", "/spec/defaultBackend/service/name", json!("fraud")),
        (
            "alb-headers.yaml",
            "/metadata/annotations/alb.ingress.kubernetes.io~1conditions.fraud-candidate",
            json!("[]"),
        ),
        ("alb-headers.yaml", "/spec/rules/0/http/paths/0/backend/service/name", json!("other")),
    ];
    let cases = cases();
    for (file, pointer, value) in edits {
        let (_, case) = cases.iter().find(|(name, _)| name == file).unwrap();
        let (router, routed, mut made) = made(case).unwrap();
        let mut beside = router.beside(&case.git, SERVICE, &routed);
        let edited = beside.as_mut().unwrap_or(&mut made);
        *edited.pointer_mut(pointer).unwrap_or_else(|| panic!("{file} has {pointer}")) = value.clone();
        let seen = router.observed(&taken(made), beside.as_ref(), SERVICE);
        assert_ne!(seen, Some(routed), "{file} {pointer}");
    }
}

#[test]
fn a_copy_of_an_ingress_counts_when_its_controller_has_taken_it() {
    let (_, case) = cases().into_iter().find(|(name, _)| name == "nginx-weight.yaml").unwrap();
    let (router, routed, _) = made(&case).unwrap();
    let address = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
    let (mut live, mut copy) = (case.git.clone(), router.beside(&case.git, SERVICE, &routed).unwrap());
    live["status"] = address.clone();
    assert_eq!(router.observed(&live, Some(&copy), SERVICE), None);
    let none = router.beside(&case.git, SERVICE, &Routed::default()).unwrap();
    assert_eq!(
        router.observed(&live, Some(&none), SERVICE),
        Some(Routed::default()),
        "back waits for nobody"
    );
    copy["status"] = address;
    assert_eq!(router.observed(&live, Some(&copy), SERVICE), Some(routed));
}
