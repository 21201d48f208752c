//! What is written for whoever delivers: hooks, waves, options, Applications.

use std::sync::LazyLock;

use serde_json::Value;

use crate::lint::rule::{Out, rules};
use crate::lint::schema::nearest;
use crate::lint::set::Subject;
use crate::render::explain::below;
use crate::render::helm;

rules! { "Delivery":
    UNKNOWN_HOOK "unknown-hook" Error Certain
        "a hook that does not exist"
        "An object with an unknown hook is applied at no time at all. The words are PreSync, Sync, PostSync, SyncFail, PostDelete and Skip (Argo CD, driftless), and pre-install, post-upgrade and their like (Helm); case counts."
    UNKNOWN_HOOK_POLICY "unknown-hook-policy" Error Certain
        "a deletion policy of a hook that does not exist"
        "It is passed over, so the finished hook stays and its next run meets the old one. The words are HookSucceeded, HookFailed and BeforeHookCreation (Argo CD), hook-succeeded, hook-failed and before-hook-creation (Helm)."
    INVALID_WAVE "sync-wave-not-a-number" Error Certain
        "a wave that is no whole number"
        "It counts as wave 0, so the object is applied in another order than meant."
    UNKNOWN_OPTION "unknown-sync-option" Warning Certain
        "a sync or compare option that does not exist"
        "It is passed over: the protection or the way of applying that it was meant to give is not there. Words are case-sensitive, without blanks around the equals sign."
    UNKNOWN_ANNOTATION "unknown-annotation" Warning Certain
        "an annotation of a known tool with an unknown name"
        "Nothing reads it. The message names the one that was probably meant."
    EMPTY_PRUNE "prune-when-empty" Warning Certain
        "an Application that may delete everything"
        "Pruning is on and an empty result is allowed: when a path is emptied, or a generator gives nothing by mistake, every object goes. Leave allowEmpty out unless that is what you want."
    MOVING_REVISION "moving-revision" Info Likely
        "an Application that follows a branch of a name that moves"
        "HEAD and an empty revision follow whatever the default branch is at the moment. Name the branch, a tag or a commit, so that the file says what runs."
}

const HOOKS: &[&str] = &["PreSync", "Sync", "PostSync", "SyncFail", "PreDelete", "PostDelete", "Skip"];
/// Helm's own and two that older charts have: they are harmless.
static HELM_HOOKS: LazyLock<Vec<&str>> =
    LazyLock::new(|| [helm::HOOKS, &["test-failure", "crd-install"]].concat());
const POLICIES: &[&str] = &["HookSucceeded", "HookFailed", "BeforeHookCreation"];
const HELM_POLICIES: &[&str] = &["hook-succeeded", "hook-failed", "before-hook-creation"];

/// Options of one object, and those of an application.
const OPTIONS: &[&str] = &[
    "Adopt=true",
    "Adopt=false",
    "CreateOnly=true",
    "CreateOnly=false",
    "Prune=true",
    "Prune=false",
    "Prune=confirm",
    "Delete=true",
    "Delete=false",
    "Delete=confirm",
    "Validate=true",
    "Validate=false",
    "Replace=true",
    "Replace=false",
    "Force=true",
    "Force=false",
    "ServerSideApply=true",
    "ServerSideApply=false",
    "ClientSideApplyMigration=true",
    "ClientSideApplyMigration=false",
    "SkipDryRunOnMissingResource=true",
    "SkipDryRunOnMissingResource=false",
    "PruneLast=true",
    "PruneLast=false",
];
/// How Argo CD compares: the first counts here too, the others say what is so in any case.
const COMPARE_OPTIONS: &[&str] = &[
    "IgnoreExtraneous",
    "ServerSideDiff=true",
    "ServerSideDiff=false",
    "IncludeMutationWebhook=true",
    "IncludeMutationWebhook=false",
];
const APPLICATION_OPTIONS: &[&str] = &[
    "CreateNamespace=true",
    "CreateNamespace=false",
    "PrunePropagationPolicy=foreground",
    "PrunePropagationPolicy=background",
    "PrunePropagationPolicy=orphan",
    "ApplyOutOfSyncOnly=true",
    "ApplyOutOfSyncOnly=false",
    "RespectIgnoreDifferences=true",
    "RespectIgnoreDifferences=false",
    "FailOnSharedResource=true",
    "FailOnSharedResource=false",
];

/// Annotations of Argo CD, but for those of extensions with names of their own.
const ARGOCD: &[&str] = &[
    "argocd.argoproj.io/hook",
    "argocd.argoproj.io/hook-delete-policy",
    "argocd.argoproj.io/sync-wave",
    "argocd.argoproj.io/sync-options",
    "argocd.argoproj.io/compare-options",
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/installation-id",
    "argocd.argoproj.io/refresh",
    "argocd.argoproj.io/hydrate",
    "argocd.argoproj.io/managed-by-url",
    "argocd.argoproj.io/manifest-generate-paths",
    "argocd.argoproj.io/application-set-refresh",
    "argocd.argoproj.io/ignore-healthcheck",
    "argocd.argoproj.io/ignore-resource-updates",
    "argocd.argoproj.io/ignore-default-labels",
    "argocd.argoproj.io/skip-reconcile",
    "argocd.argoproj.io/deletion-approved",
];

pub(super) fn check(subject: &Subject, out: &mut Out) {
    words(subject, "argocd.argoproj.io/hook", HOOKS, &UNKNOWN_HOOK, out);
    words(subject, "driftless.dev/hook", HOOKS, &UNKNOWN_HOOK, out);
    words(subject, "helm.sh/hook", &HELM_HOOKS, &UNKNOWN_HOOK, out);
    words(subject, "argocd.argoproj.io/hook-delete-policy", POLICIES, &UNKNOWN_HOOK_POLICY, out);
    words(subject, "helm.sh/hook-delete-policy", HELM_POLICIES, &UNKNOWN_HOOK_POLICY, out);
    words(subject, "argocd.argoproj.io/sync-options", OPTIONS, &UNKNOWN_OPTION, out);
    words(subject, "driftless.dev/sync-options", OPTIONS, &UNKNOWN_OPTION, out);
    words(subject, "argocd.argoproj.io/compare-options", COMPARE_OPTIONS, &UNKNOWN_OPTION, out);
    words(subject, "driftless.dev/compare-options", COMPARE_OPTIONS, &UNKNOWN_OPTION, out);
    for key in ["argocd.argoproj.io/sync-wave", "driftless.dev/sync-wave", "helm.sh/hook-weight"] {
        if let Some(text) = subject.annotation(key).filter(|text| text.trim().parse::<i64>().is_err()) {
            out.add(&INVALID_WAVE, annotation(key), format!("{key} is {text:?}, which is no whole number"));
        }
    }
    for key in
        subject.at("/metadata/annotations").and_then(Value::as_object).into_iter().flat_map(|map| map.keys())
    {
        if key.starts_with("argocd.argoproj.io/") && !ARGOCD.contains(&key.as_str()) {
            // Another name may be an extension's; a near one is misspelt.
            if let Some(near) = nearest(key, ARGOCD.iter().copied()) {
                out.add(
                    &UNKNOWN_ANNOTATION,
                    annotation(key),
                    format!("nothing reads {key}; did you mean {near}?"),
                );
            }
        }
    }
    match (subject.gvk.group.as_str(), subject.gvk.kind.as_str()) {
        ("driftless.dev", "Application") => own(subject, out),
        ("argoproj.io", "Application") => argo(subject, out),
        _ => {}
    }
}

fn annotation(key: &str) -> String {
    below("/metadata/annotations", key)
}

fn words(subject: &Subject, key: &str, known: &[&str], rule: &'static crate::lint::Rule, out: &mut Out) {
    let Some(text) = subject.annotation(key) else { return };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains("{{")) {
        if !known.contains(&word) {
            let plain = word.replace(' ', "");
            let near = nearest(&plain, known.iter().copied());
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            out.add(rule, annotation(key), format!("{key} knows no {word:?}{near}"));
        }
    }
}

fn moving(path: &str, revision: Option<&str>, out: &mut Out) {
    if matches!(revision, None | Some("" | "HEAD")) {
        let at =
            if revision.is_some() { path } else { path.rsplit_once('/').map_or(path, |(parent, _)| parent) };
        let why = "it follows the default branch of the repository, whatever that is";
        out.add(&MOVING_REVISION, at, why);
    }
}

fn own(subject: &Subject, out: &mut Out) {
    let set = |path: &str| subject.at(path).and_then(Value::as_bool);
    if set("/spec/sync/allowEmpty") == Some(true) && set("/spec/sync/prune") != Some(false) {
        out.add(&EMPTY_PRUNE, "/spec/sync/allowEmpty", "an empty result would delete everything it manages");
    }
}

fn argo(subject: &Subject, out: &mut Out) {
    let set = |path: &str| subject.at(path).and_then(Value::as_bool) == Some(true);
    if set("/spec/syncPolicy/automated/prune") && set("/spec/syncPolicy/automated/allowEmpty") {
        let why = "an empty result would delete everything it manages";
        out.add(&EMPTY_PRUNE, "/spec/syncPolicy/automated/allowEmpty", why);
    }
    for (at, option) in subject.list("/spec/syncPolicy/syncOptions").iter().enumerate() {
        let Some(word) = option.as_str() else { continue };
        if !OPTIONS.contains(&word) && !APPLICATION_OPTIONS.contains(&word) {
            let near = nearest(&word.replace(' ', ""), OPTIONS.iter().chain(APPLICATION_OPTIONS).copied());
            let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let path = format!("/spec/syncPolicy/syncOptions/{at}");
            out.add(&UNKNOWN_OPTION, path, format!("there is no sync option {word:?}{near}"));
        }
    }
    let sources = (subject.list("/spec/sources").iter().enumerate())
        .map(|(at, source)| (format!("/spec/sources/{at}"), source))
        .chain(subject.at("/spec/source").map(|source| ("/spec/source".to_owned(), source)));
    for (path, source) in sources {
        let revision = source.get("targetRevision").and_then(Value::as_str);
        moving(&format!("{path}/targetRevision"), revision, out);
    }
}
