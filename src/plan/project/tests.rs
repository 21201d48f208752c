use proptest::prelude::*;

use super::*;
use crate::model::Origin;

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text).unwrap()).collect()
}

fn kind(group: &str, kind: &str) -> KindGlob {
    KindGlob { group: Glob::new(group).unwrap(), kind: Glob::new(kind).unwrap() }
}

fn place(cluster: Option<&str>, namespaces: &[&str], accounts: &[&str]) -> DestinationRule {
    DestinationRule {
        cluster: cluster.map(|text| Glob::new(text).unwrap()),
        namespaces: globs(namespaces),
        service_accounts: globs(accounts),
    }
}

const HOME: Asker<'static> = Asker { namespace: "ml", cluster: None, service_account: None };

/// `group/Kind namespace/name`; a dash stands for no namespace.
fn object(text: &str) -> Desired {
    let (kind, place) = text.split_once(' ').unwrap();
    let (group, kind) = kind.rsplit_once('/').unwrap_or(("", kind));
    let (namespace, name) = place.split_once('/').unwrap();
    let namespace = if namespace == "-" { "" } else { namespace };
    let (group, kind) = (group.to_owned(), kind.to_owned());
    Desired {
        gvk: Gvk { group: group.clone(), version: "v1".into(), kind: kind.clone() },
        key: Key { group, kind, namespace: namespace.into(), name: name.into() },
        origin: Origin { file: "app/a.yaml".into(), line: 7 },
        ..Desired::default()
    }
}

fn rule_of(error: &Error) -> String {
    error.why.split("(spec.").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default().to_owned()
}

fn check(rules: &ProjectRules, asker: Asker<'_>, one: &str, expected: &str) {
    let refused = rules.refuse_objects(asker, &[object(one)]);
    let found = refused.get(&0).map(rule_of).unwrap_or_default();
    assert_eq!(found, expected, "{one}: {refused:?}");
}

#[test]
fn without_a_project_only_the_own_namespace() {
    let rules = ProjectRules::secure_defaults("default");
    let check = |one: &str, expected: &str| check(&rules, HOME, one, expected);
    check("ConfigMap ml/a", "");
    check("apps/Deployment ml/a", "");
    check("serving.kserve.io/InferenceService ml/a", "");
    check("ServiceAccount ml/a", "");
    check("ConfigMap other/a", "destinations");
    check("ConfigMap kube-system/a", "destinations");
    check("rbac.authorization.k8s.io/Role ml/a", "kinds.allow");
    check("rbac.authorization.k8s.io/RoleBinding ml/a", "kinds.allow");
    check("authorization.openshift.io/RoleBinding ml/a", "kinds.allow");
    check("rbac.authorization.k8s.io/ClusterRole -/a", "clusterKinds");
    check("rbac.authorization.k8s.io/ClusterRoleBinding -/a", "clusterKinds");
    check("apiextensions.k8s.io/CustomResourceDefinition -/a", "clusterKinds");
    check("admissionregistration.k8s.io/MutatingWebhookConfiguration -/a", "clusterKinds");
    check("apiregistration.k8s.io/APIService -/a", "clusterKinds");
    check("Namespace -/ml", "clusterKinds");
    check("driftless.dev/Project -/default", "clusterKinds");
    check("ConfigMap ml/../../secrets/x", "destinations");
    check("ConfigMap ml/a?b", "destinations");
    check("ConfigMap ml/a%2f", "destinations");
}

#[test]
fn a_project_says_more() {
    let rules = ProjectRules {
        is_stated: true,
        destinations: vec![place(None, &[], &[]), place(None, &["ml-*"], &[])],
        allow: Some(vec![kind("*", "*")]),
        deny: vec![kind("", "Secret"), kind("batch", "*")],
        cluster_kinds: vec![
            (kind("", "Namespace"), globs(&["ml-*"])),
            (kind("apiextensions.k8s.io", "CustomResourceDefinition"), vec![]),
        ],
        ..ProjectRules::secure_defaults("ml")
    };
    let check = |one: &str, expected: &str| check(&rules, HOME, one, expected);
    check("ConfigMap ml/a", "");
    check("ConfigMap ml-prod/a", "");
    check("ConfigMap mlx/a", "destinations");
    check("rbac.authorization.k8s.io/Role ml/a", "");
    check("Secret ml/a", "kinds.deny");
    check("batch/CronJob ml/a", "kinds.deny");
    check("Namespace -/ml-prod", "");
    check("Namespace -/kube-system", "clusterKinds");
    check("apiextensions.k8s.io/CustomResourceDefinition -/x.example", "");
    check("rbac.authorization.k8s.io/ClusterRole -/a", "clusterKinds");
    let narrow =
        ProjectRules { allow: Some(vec![kind("", "ConfigMap"), kind("apps", "*")]), ..rules.clone() };
    let check = |one: &str, expected: &str| super::tests::check(&narrow, HOME, one, expected);
    check("ConfigMap ml/a", "");
    check("apps/StatefulSet ml/a", "");
    check("Service ml/a", "kinds.allow");
    check("rbac.authorization.k8s.io/Role ml/a", "kinds.allow");
    let nothing = ProjectRules { allow: Some(vec![]), ..rules };
    super::tests::check(&nothing, HOME, "ConfigMap ml/a", "kinds.allow");
}

#[test]
fn clusters_and_accounts() {
    let asker = |cluster, service_account| Asker { namespace: "ml", cluster, service_account };
    let defaults = ProjectRules::secure_defaults("default");
    check(&defaults, asker(Some(""), Some("deployer")), "ConfigMap ml/a", "");
    check(&defaults, asker(Some("prod"), None), "ConfigMap ml/a", "destinations");
    check(&defaults, asker(Some("prod"), None), "Namespace -/a", "destinations");
    let rules = ProjectRules {
        is_stated: true,
        destinations: vec![
            place(Some("prod-*"), &["serving"], &[]),
            place(None, &["shared"], &["deployer", "ml-*"]),
        ],
        ..ProjectRules::secure_defaults("ml")
    };
    check(&rules, asker(Some("prod-eu"), None), "ConfigMap serving/a", "");
    check(&rules, asker(Some("prod-eu"), None), "ConfigMap shared/a", "destinations");
    check(&rules, asker(Some("test"), None), "ConfigMap serving/a", "destinations");
    check(&rules, asker(None, None), "ConfigMap serving/a", "destinations");
    check(&rules, asker(None, None), "ConfigMap shared/a", "destinations");
    check(&rules, asker(None, Some("deployer")), "ConfigMap shared/a", "");
    check(&rules, asker(None, Some("ml-a")), "ConfigMap shared/a", "");
    check(&rules, asker(None, Some("admin")), "ConfigMap shared/a", "destinations");
    check(&rules, asker(None, Some("deployer")), "ConfigMap ml/a", "destinations");
}

#[test]
fn what_an_application_states_is_refused_before_it_is_read() {
    let check = |rules: &ProjectRules, asker: Asker<'_>, intent: Intent<'_>, expected: &[&str]| {
        let found: Vec<String> = rules.refuse_application(asker, &intent).iter().map(rule_of).collect();
        assert_eq!(found, expected, "{intent:?}");
    };
    let from = |repositories: &[&str]| Intent {
        repositories: repositories.iter().map(|&text| text.to_owned()).collect(),
        ..Intent::default()
    };
    let defaults = ProjectRules::secure_defaults("default");
    check(&defaults, HOME, from(&["https://git.example/a", "git@git.example:a"]), &[]);
    check(&defaults, HOME, from(&["file:///cache/other"]), &["repositories"]);
    check(&defaults, HOME, Intent { namespace: Some("other"), ..from(&[]) }, &["destinations"]);
    check(&defaults, HOME, Intent { namespace: Some("ml"), makes_namespace: true, ..from(&[]) }, &[]);
    check(&defaults, Asker { cluster: Some("prod"), ..HOME }, from(&[]), &["destinations"]);
    let rules = ProjectRules {
        is_stated: true,
        namespaces: globs(&["ml", "team-*"]),
        repositories: vec![RepositoryPattern::new("https://git.example/ml/**").unwrap()],
        destinations: vec![place(None, &["*"], &[])],
        cluster_kinds: vec![(kind("", "Namespace"), globs(&["made-*"]))],
        ..ProjectRules::secure_defaults("ml")
    };
    check(&rules, HOME, from(&["https://git.example/ml/a"]), &[]);
    check(&rules, HOME, from(&["https://git.example/ml/a", "https://evil.example/ml/a"]), &["repositories"]);
    let elsewhere = Asker { namespace: "elsewhere", ..HOME };
    check(&rules, elsewhere, from(&["https://git.example/ml/a"]), &["namespaces"]);
    check(&rules, HOME, Intent { namespace: Some("made-a"), makes_namespace: true, ..from(&[]) }, &[]);
    check(
        &rules,
        HOME,
        Intent { namespace: Some("other"), makes_namespace: true, ..from(&[]) },
        &["clusterKinds"],
    );
    check(&rules, HOME, Intent { namespace: Some("other"), ..from(&[]) }, &[]);
}

#[test]
fn a_refusal_says_what_where_and_what_next() {
    let defaults = ProjectRules::secure_defaults("default");
    let refused = defaults.refuse_objects(HOME, &[object("rbac.authorization.k8s.io/ClusterRole -/admin")]);
    let error = &refused[&0];
    assert_eq!(error.code, Code::ProjectRefused);
    assert_eq!(
        error.to_string(),
        "app/a.yaml:7: ClusterRole admin: there is no Project default, and its secure defaults (spec.clusterKinds) refuse it: it does not allow ClusterRole.rbac.authorization.k8s.io, which lives in no namespace"
    );
    assert!(error.hint.as_deref().unwrap().contains("driftless explain DL0602"));
    let stated = ProjectRules { is_stated: true, ..ProjectRules::secure_defaults("ml") };
    let error = stated.refuse_repository("file:///cache/x").unwrap();
    assert_eq!(
        error.to_string(),
        "the Project ml (spec.repositories) refuses it: file:///cache/x lies on the agent's own disk, and no pattern names it"
    );
    assert_eq!(
        error.hint.as_deref(),
        Some("`kubectl get projects.driftless.dev ml -o yaml` shows its rules")
    );
}

#[test]
fn charts_read_what_their_application_may_deliver() {
    let check = |rules: &ProjectRules, gvk: &str, namespaced: bool, place: (&str, &str), expected: bool| {
        let (version, kind) = gvk.rsplit_once('/').unwrap();
        let found = rules.may_read(HOME, &Gvk::parse(version, kind), namespaced, place.0, place.1);
        assert_eq!(found, expected, "{gvk} {place:?}");
    };
    let defaults = ProjectRules::secure_defaults("default");
    check(&defaults, "v1/Secret", true, ("ml", "a"), true);
    check(&defaults, "v1/Secret", true, ("kube-system", "a"), false);
    check(&defaults, "v1/Secret", true, ("", ""), false);
    check(&defaults, "v1/Node", false, ("", ""), false);
    let wide = ProjectRules {
        destinations: vec![place(None, &["*"], &[])],
        cluster_kinds: vec![(kind("", "Node"), vec![])],
        ..defaults
    };
    check(&wide, "v1/Secret", true, ("", ""), true);
    check(&wide, "v1/Secret", true, ("kube-system", "a"), true);
    check(&wide, "v1/Node", false, ("", ""), true);
}

#[test]
fn what_is_not_allowed_any_more_stays() {
    let defaults = ProjectRules::secure_defaults("default");
    let entry = |text: &str| (object(text).key, super::super::Owned::default());
    let inventory: Inventory =
        [entry("ConfigMap ml/a"), entry("ConfigMap other/b"), entry("Namespace -/c")].into();
    let mut pruning = Pruning { now: inventory.clone().into_iter().collect(), ..Pruning::default() };
    defaults.hold(HOME, &mut pruning);
    assert_eq!(pruning.now, [entry("ConfigMap ml/a")]);
    assert!(pruning.held.iter().all(|(_, why)| *why == Held::Disallowed && !why.wants_word()));
    assert_eq!(pruning.held.len(), 2);
    assert_eq!(defaults.allowed(HOME, &inventory), [entry("ConfigMap ml/a")].into());
}

#[test]
fn the_stricter_budget_counts() {
    let check =
        |project: (Option<usize>, Option<u8>), own: (Option<usize>, u8), expected: (Option<usize>, u8)| {
            let rules = ProjectRules {
                prune_count: project.0,
                prune_percent: project.1,
                ..ProjectRules::secure_defaults("default")
            };
            let found = rules.budget(Budget { count: own.0, percent: own.1 });
            assert_eq!((found.count, found.percent), expected);
        };
    check((None, None), (None, 50), (None, 50));
    check((Some(3), None), (None, 100), (Some(3), 100));
    check((Some(3), Some(20)), (Some(5), 50), (Some(3), 20));
    check((Some(9), Some(80)), (Some(5), 50), (Some(5), 50));
}

fn any_glob() -> impl Strategy<Value = Glob> {
    prop::sample::select(vec!["*", "ml", "ml-*", "other", "*-prod", "apps", "", "Role", "Config*", "x"])
        .prop_map(|text| Glob::new(text).unwrap())
}

fn any_kind() -> impl Strategy<Value = KindGlob> {
    let group = prop::sample::select(vec!["", "*", "apps", "rbac.authorization.k8s.io"]);
    let kind = prop::sample::select(vec!["*", "ConfigMap", "Role", "Deployment", "Namespace"]);
    (group, kind).prop_map(|(group, name)| self::kind(group, name))
}

fn any_place() -> impl Strategy<Value = DestinationRule> {
    let some = || prop::collection::vec(any_glob(), 0..3);
    (prop::option::of(any_glob()), some(), some()).prop_map(|(cluster, namespaces, service_accounts)| {
        DestinationRule { cluster, namespaces, service_accounts }
    })
}

fn any_rules() -> impl Strategy<Value = ProjectRules> {
    let patterns = ["https://git.example/**", "git.example/ml/*", "*", "git@git.example:ml/*"];
    let pattern =
        prop::sample::select(patterns.to_vec()).prop_map(|text| RepositoryPattern::new(text).unwrap());
    (
        prop::collection::vec(any_glob(), 0..3),
        prop::collection::vec(pattern, 0..3),
        prop::collection::vec(any_place(), 0..4),
        prop::option::of(prop::collection::vec(any_kind(), 0..4)),
        prop::collection::vec(any_kind(), 0..3),
        prop::collection::vec((any_kind(), prop::collection::vec(any_glob(), 0..3)), 0..3),
    )
        .prop_map(|(namespaces, repositories, destinations, allow, deny, cluster_kinds)| ProjectRules {
            is_stated: true,
            namespaces,
            repositories,
            destinations,
            allow,
            deny,
            cluster_kinds,
            ..ProjectRules::secure_defaults("ml")
        })
}

/// Fewer words that allow, or more that deny. An empty list may stand for much, so lists do not become empty.
fn narrowed(rules: &ProjectRules, how: u8, at: prop::sample::Index) -> ProjectRules {
    fn less<T>(list: &mut Vec<T>, at: prop::sample::Index, least: usize) {
        if list.len() > least {
            list.remove(at.index(list.len()));
        }
    }
    let mut narrow = rules.clone();
    match how % 8 {
        0 => less(&mut narrow.namespaces, at, 1),
        1 => less(&mut narrow.repositories, at, 1),
        2 => less(&mut narrow.destinations, at, 1),
        3 => {
            if let Some(allow) = &mut narrow.allow {
                less(allow, at, 0);
            }
        }
        4 => narrow.deny.push(kind("*", "Config*")),
        5 => less(&mut narrow.cluster_kinds, at, 0),
        6 => {
            if let Some(place) = narrow.destinations.first_mut() {
                less(&mut place.namespaces, at, 1);
            }
        }
        _ => {
            if let Some(place) = narrow.destinations.first_mut() {
                less(&mut place.service_accounts, at, 1);
            }
        }
    }
    narrow
}

const OBJECTS: [&str; 8] = [
    "ConfigMap ml/a",
    "ConfigMap ml-prod/a",
    "ConfigMap other/x",
    "apps/Deployment ml/a",
    "rbac.authorization.k8s.io/Role ml/a",
    "rbac.authorization.k8s.io/ClusterRole -/ml",
    "Namespace -/ml-a",
    "Namespace -/other",
];

const SOURCES: [&str; 4] =
    ["https://git.example/ml/a", "https://git.example.evil/ml/a", "git@git.example:ml/a", "file:///a"];

fn any_asker() -> impl Strategy<Value = Asker<'static>> {
    let name = || prop::sample::select(vec![None, Some("ml"), Some("ml-a"), Some("other")]);
    (prop::sample::select(vec!["ml", "other", "a-prod"]), name(), name())
        .prop_map(|(namespace, cluster, service_account)| Asker { namespace, cluster, service_account })
}

proptest! {
    #[test]
    fn a_narrower_project_never_allows_more(rules in any_rules(), asker in any_asker(), how: u8, at: prop::sample::Index) {
        let narrow = narrowed(&rules, how, at);
        let all: Vec<Desired> = OBJECTS.iter().map(|text| object(text)).collect();
        let (before, after) = (rules.refuse_objects(asker, &all), narrow.refuse_objects(asker, &all));
        prop_assert!(before.keys().all(|refused| after.contains_key(refused)), "{before:?}\n{after:?}");
        for source in SOURCES {
            let intent = Intent { repositories: vec![source.to_owned()], ..Intent::default() };
            let refused = |rules: &ProjectRules| !rules.refuse_application(asker, &intent).is_empty();
            prop_assert!(!refused(&rules) || refused(&narrow));
        }
        for object in &all {
            let read = |rules: &ProjectRules| {
                let key = &object.key;
                rules.may_read(asker, &object.gvk, !key.namespace.is_empty(), &key.namespace, &key.name)
            };
            prop_assert!(read(&rules) || !read(&narrow));
        }
    }

    #[test]
    fn no_order_changes_a_verdict(rules in any_rules(), asker in any_asker()) {
        let mut turned = rules.clone();
        turned.namespaces.reverse();
        turned.repositories.reverse();
        turned.destinations.reverse();
        turned.deny.reverse();
        turned.cluster_kinds.reverse();
        if let Some(allow) = &mut turned.allow {
            allow.reverse();
        }
        let all: Vec<Desired> = OBJECTS.iter().map(|text| object(text)).collect();
        let backwards: Vec<Desired> = all.iter().rev().cloned().collect();
        let keys = |rules: &ProjectRules, objects: &[Desired]| -> std::collections::BTreeSet<Key> {
            rules.refuse_objects(asker, objects).into_keys().map(|at| objects[at].key.clone()).collect()
        };
        prop_assert_eq!(keys(&rules, &all), keys(&turned, &backwards));
        for source in SOURCES {
            prop_assert_eq!(rules.refuse_repository(source), turned.refuse_repository(source));
        }
    }

    /// Whatever a Project says, an object that one of its rules names is the only kind of thing that comes through.
    #[test]
    fn without_a_word_nothing_leaves_its_namespace(asker in any_asker()) {
        let defaults = ProjectRules::secure_defaults("default");
        let all: Vec<Desired> = OBJECTS.iter().map(|text| object(text)).collect();
        let refused = defaults.refuse_objects(asker, &all);
        for (at, object) in all.iter().enumerate().filter(|(at, _)| !refused.contains_key(at)) {
            prop_assert_eq!(&object.key.namespace, asker.namespace, "{}", at);
            prop_assert!(asker.cluster.is_none() && object.key.group != "rbac.authorization.k8s.io");
        }
    }
}
