//! Charts and remote bases on a real API server: what is deployed, what stays, what is noticed, what is refused.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use driftless::api::Application;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::agent::{World, cli, map};
use crate::harness::cluster::{Agent, program};
use crate::harness::eventually;
use crate::harness::front::Front;
use crate::harness::git::{Repository, Server};
use crate::harness::registry::{Registry, archive, digest};
use crate::registry::{entry, index};
use crate::secrets::{Logged, key, leaks, secret};
use crate::sops::encrypted;

const CHART: &str = "apiVersion: v2\nname: fraud\nversion: 1.0.0\n";

/// A template of a ConfigMap with this data.
fn template(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n{data}")
}

fn secrets(world: &World) -> Api<Secret> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn data(world: &World, name: &str) -> Option<BTreeMap<String, String>> {
    world.maps().get_opt(name).await.unwrap()?.data
}

async fn change(world: &World, name: &str, spec: Value) {
    let patch = json!({"spec": spec});
    world.apps().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn quiet(world: &World) {
    eventually("the Git server is not asked", || async { (world.git.traffic().0 == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_chart_in_git_is_deployed_rolled_forward_and_reverted() {
    let world = World::new("chart-in-git").await;
    let text = template(
        "settings",
        "  release: {{ .Release.Name }}/{{ .Release.Namespace }}\n  level: {{ .Values.level | quote }}\n  region: {{ .Values.region }}\n  tag: {{ .Values.image.tag | quote }}\n  text: {{ .Values.text | quote }}\n",
    );
    let first = world.repository.commit(
        &[
            (
                "app/Chart.yaml",
                "apiVersion: v2\nname: fraud\nversion: 1.0.0\ndependencies: [{name: side, version: 1.x.x}]\n",
            ),
            (
                "app/values.yaml",
                "level: low\nregion: none\nimage: {tag: a}\ntext: none\nside: {word: parent}\n",
            ),
            ("app/prod.yaml", "level: middle\nregion: eu\n"),
            ("shared/more.yaml", "level: high\n"),
            ("app/templates/_helpers.tpl", "{{ define \"x\" }}x{{ end }}"),
            ("app/templates/settings.yaml", &text),
            ("app/charts/side/Chart.yaml", "apiVersion: v2\nname: side\nversion: 1.2.3\n"),
            ("app/charts/side/values.yaml", "word: own\n"),
            ("app/charts/side/templates/m.yaml", &template("side", "  value: {{ .Values.word }}\n")),
            ("other/readme.txt", "1"),
        ],
        "First",
    );
    let helm = json!({
        "valuesFiles": ["prod.yaml", "/shared/more.yaml"], "values": {"region": "us"},
        "parameters": [{"name": "image.tag", "value": "7"}, {"name": "text", "value": "true", "forceString": true}]});
    world.application("fraud", json!({"spec": {"source": {"helm": helm, "interval": "5s"}}})).await;
    world.ready("fraud", &first).await;
    let settings = data(&world, "settings").await.unwrap();
    let expected = [
        ("level", "high"),
        ("region", "us"),
        ("release", "fraud/chart-in-git"),
        ("tag", "7"),
        ("text", "true"),
    ];
    assert_eq!(settings.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(), expected);
    assert_eq!(world.value("side").await.as_deref(), Some("parent"));

    // A commit elsewhere neither renders nor writes.
    let before = world.apps().get("fraud").await.unwrap().resource_version();
    world.git.traffic();
    world.repository.commit(&[("other/readme.txt", "2")], "Unrelated");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(world.git.traffic().0 > 0, "the head was asked for");
    assert_eq!(world.apps().get("fraud").await.unwrap().resource_version(), before);

    // One to a values file outside of the chart does.
    let second = world.repository.commit(&[("shared/more.yaml", "level: highest\n")], "Second");
    world.poke("fraud").await;
    world.ready("fraud", &second).await;
    assert_eq!(data(&world, "settings").await.unwrap()["level"], "highest");

    // A fault of a template: Helm's words, the place, the last good state, and exit code 3.
    let broken = format!("{text}  broken: {{{{ .Values.image.tag.more.x }}}}\n");
    world.repository.commit(&[("app/templates/settings.yaml", &broken)], "Broken");
    world.poke("fraud").await;
    let message = world.reason("fraud", "Rendered", "TemplateFailed").await;
    for part in ["app/templates/settings.yaml:10", "can't evaluate field", "fraud/templates/settings.yaml"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(data(&world, "settings").await.unwrap()["level"], "highest");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.json");
    let app = world.apps().get("fraud").await.unwrap();
    let stated = json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
        "metadata": {"name": "fraud", "namespace": world.namespace}, "spec": app.spec});
    std::fs::write(&file, stated.to_string()).unwrap();
    let (code, _, errors) = cli(&world, &["apply", "-f", file.to_str().unwrap()]).await;
    assert_eq!(code, 3, "{errors}");
    assert!(
        errors.contains("app/templates/settings.yaml:10") && errors.contains("chart-in-git/fraud"),
        "{errors}"
    );

    // As it was before: the commit is another, and nothing that is read.
    world.repository.revert();
    world.poke("fraud").await;
    world.reason("fraud", "Rendered", "Rendered").await;
    world.ready("fraud", &second).await;
    let third = world.repository.commit(&[("shared/more.yaml", "level: high\n")], "As at first");
    world.poke("fraud").await;
    world.ready("fraud", &third).await;
    assert_eq!(data(&world, "settings").await.unwrap()["level"], "high");
    let history = world.apps().get("fraud").await.unwrap().status.unwrap().history;
    assert_eq!(history.first().unwrap().rendered_digest, history.last().unwrap().rendered_digest);
}

/// A chart that makes passwords, certificates and times, and states a word of its own.
fn generating(word: &str) -> Vec<(String, String)> {
    let secret = "{{- $ca := genCA \"ca\" 365 }}\n{{- $word := randAlphaNum 24 }}\napiVersion: v1\nkind: Secret\nmetadata: {name: made}\nstringData:\n  clear: {{ randAlphaNum 20 }}\n  shared: {{ $word }}\n  tls.crt: {{ $ca.Cert | quote }}\n  tls.key: {{ $ca.Key | quote }}\ndata:\n  coded: {{ randAlphaNum 20 | b64enc }}\n---\n";
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: made\n  annotations: {{made.example.org/at: {{{{ now | date \"2006-01-02T15:04:05Z\" }}}}}}\ndata:\n  url: {word}://{{{{ $word }}}}@db\n  ca: {{{{ $ca.Cert | b64enc }}}}\n  number: \"{{{{ randNumeric 9 }}}}\"\n  config: |\n    word: {word}\n    password: {{{{ randAlphaNum 16 }}}}\n    end: here\n"
    );
    [("Chart.yaml", CHART.to_owned()), ("templates/all.yaml", format!("{secret}{map}"))]
        .into_iter()
        .map(|(path, text)| (format!("app/{path}"), text))
        .collect()
}

fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect()
}

/// All that was made, by name.
async fn made(world: &World) -> BTreeMap<String, String> {
    let secret = secrets(world).get("made").await.unwrap().data.unwrap();
    let map = world.maps().get("made").await.unwrap();
    let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
    let mut all: BTreeMap<String, String> =
        secret.into_iter().map(|(name, value)| (name, text(value.0))).collect();
    all.insert("at".into(), map.annotations()["made.example.org/at"].clone());
    all.extend(map.data.unwrap());
    all
}

#[tokio::test]
async fn what_a_chart_makes_up_stays() {
    let (world, running) = World::alone("made").await;
    let options = ["--interval", "5", "--deep-check", "2"];
    let agent = Agent::start(&running.plane, &options);
    let first = world.repository.commit(&borrowed(&generating("one")), "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let before = made(&world).await;
    assert_eq!((before["clear"].len(), before["coded"].len(), before["shared"].len()), (20, 20, 24));
    assert_eq!(before["url"], format!("one://{}@db", before["shared"]));
    assert_eq!(before["ca"], STANDARD.encode(&before["tls.crt"]));
    assert!(before["tls.key"].starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    let age = jiff::Timestamp::now().duration_since(before["at"].parse::<jiff::Timestamp>().unwrap());
    assert!(age.as_secs().abs() < 300, "{}", before["at"]);
    let versions = async || {
        let of = |version: Option<String>| version.unwrap();
        let secret = of(secrets(&world).get("made").await.unwrap().resource_version());
        (secret, of(world.maps().get("made").await.unwrap().resource_version()))
    };
    let written = versions().await;

    // A report, deep checks (they come by themselves), a commit that says the same, a restart.
    let (code, report, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!((code, report.as_str()), (0, "in sync: 1 app | 2 unchanged\n"), "{errors}");
    let applies = async || agent.counts("driftless_objects_total").await.unwrap_or_default()["applied"];
    let count = applies().await;
    eventually("two deep checks", || async { (applies().await >= count + 4).then_some(()) }).await;
    assert_eq!((made(&world).await, versions().await), (before.clone(), written.clone()));
    let same = world.repository.commit(&[("app/values.yaml", "unused: 1\n")], "The same");
    world.poke("app").await;
    world.ready("app", &same).await;
    assert_eq!(versions().await, written);
    agent.terminate();
    let agent = Agent::start(&running.plane, &options);
    eventually("the new agent has looked", || async { (agent.passes().await > 2).then_some(()) }).await;
    assert_eq!(versions().await, written);

    // What stands around it follows Git.
    let second = world.repository.commit(&borrowed(&generating("two")), "Second");
    world.poke("app").await;
    world.ready("app", &second).await;
    let mut expected = before.clone();
    for name in ["url", "config"] {
        expected.insert(name.into(), before[name].replace("one", "two"));
    }
    assert_eq!(made(&world).await, expected);

    // An edit of the rest is repaired, and a Secret that was deleted comes back with new words: certificates and the
    // words of other objects go with it.
    let edit = json!({"data": {"config": "gone"}});
    world.maps().patch("made", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
    eventually("the text is back", || async {
        made(&world).await["config"].starts_with("word: two\npassword: ").then_some(())
    })
    .await;
    secrets(&world).delete("made", &DeleteParams::default()).await.unwrap();
    eventually("the Secret is back", || async { secrets(&world).get_opt("made").await.unwrap() }).await;
    eventually("the objects go together", || async {
        let now = made(&world).await;
        (now["ca"] == STANDARD.encode(&now["tls.crt"]) && now["ca"] != before["ca"]).then_some(())
    })
    .await;
    let now = made(&world).await;
    assert_ne!(now["clear"], before["clear"]);
    assert_eq!(now["url"], format!("two://{}@db", now["shared"]));
    eventually("drift is over", || async { (cli(&world, &["drift", "app"]).await.0 == 0).then_some(()) })
        .await;

    // Another installation has other words.
    world.application("other", json!({"spec": {"destination": {"namespace": "default"}}})).await;
    world.ready("other", &second).await;
    let elsewhere: Api<Secret> = Api::namespaced(world.client.clone(), "default");
    let elsewhere = elsewhere.get("made").await.unwrap().data.unwrap();
    assert_ne!(elsewhere["clear"].0, now["clear"].as_bytes());
}

#[tokio::test]
async fn commands_without_a_cluster_make_up_fresh_words() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::create(&folder.path().join("r.git"), String::new());
    let url = format!("file://{}", repository.folder().display());
    let app = format!(
        "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: app, namespace: ml}}\nspec: {{source: {{repo: '{url}', path: app}}}}\n"
    );
    let base = repository.commit(&borrowed(&generating("one")), "First");
    let same = repository.commit(&[("apps/app.yaml", &app), ("app/values.yaml", "unused: 1\n")], "Second");
    let head = repository.commit(&borrowed(&generating("two")), "Third");
    let run = |arguments: &[&str]| {
        let done = Command::new(program())
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", "/nonexistent")
            .env("XDG_CACHE_HOME", folder.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    };
    let file = folder.path().join("app.yaml");
    std::fs::write(&file, &app).unwrap();
    let local = folder.path().join("chart");
    std::fs::create_dir_all(local.join("templates")).unwrap();
    for (path, text) in generating("one") {
        std::fs::write(local.join(path.strip_prefix("app/").unwrap()), text).unwrap();
    }
    for path in [&file, &local] {
        let words: Vec<String> = (0..2)
            .map(|_| {
                let (code, text, errors) = run(&["render", path.to_str().unwrap(), "-o", "json"]);
                assert_eq!(code, 0, "{errors}");
                let all: Value = serde_json::from_str(&text).unwrap();
                let map =
                    all["items"].as_array().unwrap().iter().find(|one| one["kind"] == "ConfigMap").unwrap();
                let at = map["metadata"]["annotations"]["made.example.org/at"].as_str().unwrap();
                assert!(!at.starts_with("19"), "{at}");
                map["data"]["url"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_ne!(words[0], words[1]);
    }
    let preview = |from: &str, to: &str| {
        run(&[
            "preview",
            &format!("{from}..{to}"),
            "--repo",
            repository.folder().to_str().unwrap(),
            "-o",
            "json",
        ])
    };
    let (code, text, errors) = preview(&same, &same);
    assert_eq!(code, 0, "{text}{errors}");
    let (code, text, errors) = preview(&same, &head);
    assert_eq!(code, 1, "{text}{errors}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let pointers: Vec<&str> = report["apps"][0]["objects"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|object| object["changes"].as_array().unwrap())
        .map(|change| change["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/data/config", "/data/url"], "only what the commit changed");
    assert_eq!(preview(&base, &same).0, 1, "the Application is new");
}

#[tokio::test]
async fn kinds_that_come_and_go_are_noticed() {
    let (world, running) = World::alone("capable").await;
    let agent = Agent::start(&running.plane, &["--interval", "5"]);
    let text = template(
        "seen",
        "  version: {{ .Capabilities.KubeVersion.Version | quote }}\n  value: {{ if .Capabilities.APIVersions.Has \"charts.example.org/v1/Widget\" }}'yes'{{ else }}'no'{{ end }}\n",
    );
    let first =
        world.repository.commit(&[("app/Chart.yaml", CHART), ("app/templates/m.yaml", &text)], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let seen = data(&world, "seen").await.unwrap();
    let server = world.client.apiserver_version().await.unwrap().git_version;
    assert_eq!((seen["version"].as_str(), seen["value"].as_str()), (server.as_str(), "no"));

    // A quiet cluster is asked nothing.
    let requests = async || {
        let all = agent.counts("driftless_api_requests_total").await.unwrap();
        all.values().sum::<u64>()
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = requests().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(requests().await, before);

    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.charts.example.org"},
        "spec": {"group": "charts.example.org", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let (name, somebody) = ("widgets.charts.example.org", PatchParams::apply("somebody").force());
    let begin = std::time::Instant::now();
    crds.patch(name, &somebody, &Patch::Apply(&definition)).await.unwrap();
    world.becomes("seen", Some("yes")).await;
    let came = begin.elapsed();
    assert!(came < Duration::from_secs(10), "{came:?}");
    let begin = std::time::Instant::now();
    crds.delete(name, &DeleteParams::default()).await.unwrap();
    world.becomes("seen", Some("no")).await;
    println!("noticed after {came:?} and {:?}", begin.elapsed());
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (before, passes) = (requests().await, agent.passes().await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((requests().await, agent.passes().await), (before, passes), "it does not go round");
}

#[tokio::test]
async fn lookup_reads_the_cluster_only_where_it_may() {
    let world = World::new("lookup").await;
    secret(&world, "source", json!({"word": "hunter2"})).await;
    let text = template(
        "found",
        "  value: {{ (dig \"data\" \"word\" \"nothing\" (lookup \"v1\" \"Secret\" .Release.Namespace \"source\")) | quote }}\n",
    );
    let first =
        world.repository.commit(&[("app/Chart.yaml", CHART), ("app/templates/m.yaml", &text)], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    assert_eq!(world.value("found").await.as_deref(), Some("nothing"));
    change(&world, "app", json!({"source": {"helm": {"lookup": true}}})).await;
    world.becomes("found", Some(&STANDARD.encode("hunter2"))).await;
    let (code, report, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!(code, 0, "{report}{errors}");
    let hand = json!({"data": {"value": "edited"}});
    change(&world, "app", json!({"sync": {"selfHeal": false}})).await;
    eventually("repairs are off", || async {
        let app = world.apps().get("app").await.ok()?;
        (app.status?.observed_generation == app.metadata.generation?).then_some(())
    })
    .await;
    world.maps().patch("found", &PatchParams::default(), &Patch::Merge(hand)).await.unwrap();
    let (code, report, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!((code, leaks(&report)), (1, vec![]), "{report}{errors}");
    assert!(report.contains("/data/value: changed (secret)"), "{report}");
    change(&world, "app", json!({"sync": {"selfHeal": true}})).await;
    world.becomes("found", Some(&STANDARD.encode("hunter2"))).await;
    let broken = text.replace("\"v1\" \"Secret\"", "\"nowhere.example.org/v1\" \"Thing\"");
    world.repository.commit(&[("app/templates/m.yaml", &broken)], "Broken");
    world.poke("app").await;
    let message = world.reason("app", "Rendered", "TemplateFailed").await;
    assert!(
        message.contains("nowhere.example.org/v1/Thing") && message.contains("app/templates/m.yaml:5"),
        "{message}"
    );
    assert_eq!(world.value("found").await.as_deref(), Some(&*STANDARD.encode("hunter2")));
}

#[tokio::test]
async fn bases_of_other_repositories_are_brought_where_that_is_allowed() {
    let world = World::new("remote-bases").await;
    let other = Server::start().await;
    let (base, deep) = (other.repository("shared/base"), other.repository("shared/deep"));
    let deepest = deep.commit(
        &[("x/kustomization.yaml", "resources: [m.yaml]\n"), ("x/m.yaml", &map("deep", "one"))],
        "First",
    );
    let kustomization = format!("resources: [m.yaml, '{}//x?ref={deepest}']\n", deep.url);
    let pinned = base.commit(
        &[
            ("a/b/kustomization.yaml", &kustomization),
            ("a/b/m.yaml", &map("base", "one")),
            ("out/kustomization.yaml", "resources: [../../secret]\n"),
            ("link/kustomization.yaml", "resources: [../../../app/own.yaml]\n"),
        ],
        "First",
    );
    let using = |path: &str, reference: &str| {
        format!("namePrefix: my-\nresources: [own.yaml, '{}//{path}?ref={reference}']\n", base.url)
    };
    world.repository.commit(
        &[("app/kustomization.yaml", &using("a/b", &pinned)), ("app/own.yaml", &map("own", "one"))],
        "First",
    );
    world.application("app", json!({"spec": {"source": {"interval": "5s"}}})).await;
    let message = world.reason("app", "Rendered", "RemoteBaseRefused").await;
    assert!(message.contains(&base.url), "{message}");
    let app = world.apps().get("app").await.unwrap();
    let said = serde_json::to_string(&app.status).unwrap();
    assert!(said.contains("spec.source.kustomize.remoteBases"), "{said}");
    assert_eq!(other.traffic().0, 0, "nobody was asked");
    // One of the two is not enough.
    change(&world, "app", json!({"source": {"kustomize": {"remoteBases": [base.url]}}})).await;
    eventually("the base of the base is refused", || async {
        let (_, _, message) = world.condition("app", "Rendered").await?;
        message.contains(&deep.url).then_some(())
    })
    .await;
    let all = format!("http://{}/shared/*", other.address);
    change(&world, "app", json!({"source": {"kustomize": {"remoteBases": [all]}}})).await;
    world.becomes("my-base", Some("one")).await;
    world.becomes("my-deep", Some("one")).await;
    world.becomes("my-own", Some("one")).await;

    // Pinned is pinned: no later pass, render or report of the agent asks.
    quiet(&world).await;
    other.traffic();
    base.commit(&[("a/b/m.yaml", &map("base", "two"))], "Moved");
    let second = world.repository.commit(&[("app/own.yaml", &map("own", "two"))], "Second");
    world.poke("app").await;
    world.ready("app", &second).await;
    world.becomes("my-own", Some("two")).await;
    assert_eq!(world.value("my-base").await.as_deref(), Some("one"));
    assert_eq!(other.traffic().0, 0, "what is at hand is not asked for again");
    let (code, report, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!(code, 0, "{report}{errors}");

    for (text, reason, part) in [
        (using("a/b", "main"), "RemoteBaseRefused", "whole commit id"),
        (using("out", &pinned), "SymlinkRefused", "leads out of the repository"),
        (using("link", &pinned), "SymlinkRefused", "leads out of the repository"),
        (using("nowhere", &pinned), "PathNotFound", "nowhere"),
    ] {
        world.repository.commit(&[("app/kustomization.yaml", &text)], "Refused");
        world.poke("app").await;
        let message = world.reason("app", "Rendered", reason).await;
        println!("{reason}: {message}");
        assert!(message.contains(part), "{part}: {message}");
        let good = using("a/b", &pinned);
        world.repository.commit(&[("app/kustomization.yaml", &good)], "Good");
        world.poke("app").await;
        world.reason("app", "Rendered", "Rendered").await;
        assert_eq!(world.value("my-own").await.as_deref(), Some("two"));
    }
}

#[tokio::test]
async fn hooks_and_waves_come_in_their_order() {
    let world = World::new("hooks").await;
    let hooked = |name: &str, annotations: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n"
        )
    };
    let first = world.repository.commit(
        &[
            ("app/Chart.yaml", CHART),
            ("app/templates/a.yaml", &hooked("a-last", "helm.sh/hook: post-install")),
            ("app/templates/b.yaml", &hooked("b-ordinary", "")),
            (
                "app/templates/c.yaml",
                &hooked("c-second", "helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-weight: '5'"),
            ),
            (
                "app/templates/d.yaml",
                &hooked("d-first", "helm.sh/hook: pre-install, helm.sh/hook-weight: '-5'"),
            ),
            ("app/templates/e.yaml", &hooked("e-test", "helm.sh/hook: test")),
            ("app/templates/f.yaml", &hooked("f-delete", "helm.sh/hook: pre-delete")),
            ("app/templates/g.yaml", &hooked("g-early", "argocd.argoproj.io/sync-wave: '-1'")),
            ("app/templates/h.yaml", &hooked("h-late", "argocd.argoproj.io/sync-wave: '2'")),
            ("app/templates/tests/i.yaml", &hooked("i-test", "helm.sh/hook: test-success")),
        ],
        "First",
    );
    let config = watcher::Config::default().labels("driftless.dev/application");
    let mut events = watcher::watcher(world.maps(), config).boxed();
    let mut names: Vec<String> = Vec::new();
    world.application("app", json!({})).await;
    while names.len() < 6 {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
        if let Some(Ok(watcher::Event::Apply(map))) = event.unwrap_or_else(|_| panic!("only {names:?}"))
            && !names.contains(&map.name_any())
        {
            names.push(map.name_any());
        }
    }
    world.ready("app", &first).await;
    let all = world.maps().list(&ListParams::default().labels("driftless.dev/application")).await.unwrap();
    assert_eq!(all.items.len(), 6);
    assert_eq!(names, ["d-first", "c-second", "g-early", "b-ordinary", "h-late", "a-last"]);
}

fn with_region(name: &str, version: &str, word: &str) -> Vec<u8> {
    archive(&[
        (&format!("{name}/Chart.yaml"), &format!("apiVersion: v2\nname: {name}\nversion: {version}\n")),
        (&format!("{name}/values.yaml"), "region: none\n"),
        (
            &format!("{name}/templates/m.yaml"),
            &template("{{ .Release.Name }}", &format!("  value: {word} {{{{ .Values.region }}}}\n")),
        ),
    ])
}

#[tokio::test]
async fn charts_of_repositories_and_registries_take_values_from_git() {
    let world = World::new("chart-versions").await;
    let (front, registry) = (Front::files().await, Registry::open().await);
    let packed = |version: &str| with_region("fraud", version, version);
    let publish = async |versions: &[&str]| {
        let mut text = String::new();
        for version in versions {
            let file = format!("fraud-{version}.tgz");
            front.put(&format!("/{file}"), packed(version));
            text.push_str(&entry("fraud", version, &packed(version), &file));
            registry.chart("charts/fraud", version, &packed(version)).await;
        }
        front.put("/index.yaml", index(&[("fraud", &text)]));
    };
    publish(&["1.2.3"]).await;
    let values = world.repository.commit(&[("prod.yaml", "region: eu\n"), ("x", "1")], "First");
    let repos =
        [("web", format!("http://{}", front.host)), ("oci", format!("oci+http://{}/charts", registry.host))];
    for (name, repo) in &repos {
        let stated = json!({
            "apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "namespace": world.namespace},
            "spec": {"sources": [
                {"repo": repo, "chart": "fraud", "revision": "~1.2", "helm": {"valuesFiles": ["$values/prod.yaml"]}},
                {"repo": world.repository.url, "revision": "main", "name": "values"}]}});
        let stated: Application = serde_json::from_value(stated).unwrap();
        world.apps().create(&kube::api::PostParams::default(), &stated).await.unwrap();
    }
    for (name, _) in &repos {
        world.becomes(name, Some("1.2.3 eu")).await;
        eventually("both revisions are told", || async {
            let status = world.apps().get(name).await.ok()?.status?;
            let revisions = &status.history.last()?.revisions;
            (status.holds("Ready")
                && revisions.len() == 2
                && revisions[0].starts_with("1.2.3@sha256:")
                && revisions[1] == values)
                .then_some(())
        })
        .await;
        let status = world.apps().get(name).await.unwrap().status.unwrap();
        assert_eq!(status.sources.len(), 2, "{:?}", status.sources);
    }
    publish(&["1.2.3", "1.2.4", "1.3.0"]).await;
    for (name, _) in &repos {
        world.poke(name).await;
        world.becomes(name, Some("1.2.4 eu")).await;
    }
    world.repository.commit(&[("prod.yaml", "region: us\n")], "Second");
    for (name, _) in &repos {
        world.poke(name).await;
        world.becomes(name, Some("1.2.4 us")).await;
        let (code, _, errors) = cli(&world, &["rollback", name, "1"]).await;
        assert_eq!(code, 0, "{errors}");
        world.becomes(name, Some("1.2.3 eu")).await;
        let (code, _, errors) = cli(&world, &["rollback", name, "--release"]).await;
        assert_eq!(code, 0, "{errors}");
        world.becomes(name, Some("1.2.4 us")).await;
    }
    let app = world.apps().get("web").await.unwrap().status.unwrap();
    assert!(
        app.history.iter().any(|entry| entry.revisions[0] == format!("1.2.4@{}", digest(&packed("1.2.4"))))
    );
}

#[tokio::test]
async fn encrypted_values_of_a_chart_are_deployed_and_never_shown() {
    let (world, running) = World::alone("chart-secrets").await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let _agent = Logged(
        Command::new(program())
            .args(["agent", "--log", "trace", "--interval", "5", "--listen", "127.0.0.1:0", "--kubeconfig"])
            .arg(&running.plane.kubeconfig)
            .arg("--cache")
            .arg(folder.path().join("cache"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );
    let text = |name: &str| String::from_utf8(encrypted(name)).unwrap();
    let shown = template(
        "shown",
        "  word: {{ .Values.data.password }}\n  coded: {{ .Values.data.password | b64enc }}\n  url: {{ .Values.data.url }}?x=1\n  open: {{ .Values.data.open_unencrypted }}\n",
    );
    let hidden = "apiVersion: v1\nkind: Secret\nmetadata: {name: held}\nstringData: {word: {{ .Values.data.password }}, made: {{ randAlphaNum 12 }}}\n";
    let files = [
        ("app/Chart.yaml", CHART),
        ("app/secrets.yaml", &text("map-one.yaml")),
        ("app/templates/m.yaml", &shown),
        ("app/templates/s.yaml", hidden),
    ];
    let first = world.repository.commit(&files, "First");
    secret(&world, "age", json!({"one.agekey": key("one")})).await;
    let source =
        json!({"decryption": {"secretRef": {"name": "age"}}, "helm": {"valuesFiles": ["secrets.yaml"]}});
    world.application("app", json!({"spec": {"source": source}})).await;
    world.ready("app", &first).await;
    let live = data(&world, "shown").await.unwrap();
    assert_eq!((live["word"].as_str(), live["open"].as_str()), ("canary-one-decrypted", "seen"));
    assert_eq!(secrets(&world).get("held").await.unwrap().data.unwrap()["word"].0, b"canary-one-decrypted");
    let (code, report, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!((code, report.as_str()), (0, "in sync: 1 app | 2 unchanged\n"), "{errors}");

    let mut outputs = Vec::new();
    change(&world, "app", json!({"sync": {"selfHeal": false}})).await;
    let edit = json!({"data": {"word": "edited", "url": "canary-one-decrypted", "open": "edited too"}});
    let hand = PatchParams { field_manager: Some("ana-laptop".into()), ..PatchParams::default() };
    world.reason("app", "Applied", "Applied").await;
    eventually("the change is taken up", || async {
        let app = world.apps().get("app").await.ok()?;
        (app.status?.observed_generation == app.metadata.generation?).then_some(())
    })
    .await;
    world.maps().patch("shown", &hand, &Patch::Merge(edit)).await.unwrap();
    for format in ["text", "json", "markdown"] {
        let (code, text, errors) = cli(&world, &["drift", "app", "-o", format]).await;
        assert_eq!(code, 1, "{text}{errors}");
        outputs.push(text + &errors);
    }
    assert!(outputs[0].contains("edited too"), "{}", outputs[0]);
    // Faults that quote what they hold.
    let refused = "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {clusterIP: {{ .Values.data.password }}, ports: [{port: 80}]}\n";
    world.repository.commit(&[("app/templates/x.yaml", refused)], "Refused");
    world.poke("app").await;
    let message = world.reason("app", "Applied", "ObjectRejected").await;
    assert!(message.contains("***"), "{message}");
    for (broken, reason) in [
        ("{{ fail .Values.data.password }}", "TemplateFailed"),
        (
            "{{ .Values.data.password | toDate \"x\" | required .Values.data.url }}\n{{ atoi .Values.data.password }}\na: [{{ .Values.data.password }}",
            "ManifestInvalid",
        ),
    ] {
        world.repository.commit(&[("app/templates/x.yaml", broken)], "Broken");
        world.poke("app").await;
        world.reason("app", "Rendered", reason).await;
        let app = world.apps().get("app").await.unwrap();
        outputs.push(serde_json::to_string(&app).unwrap());
        let (_, text, errors) = cli(&world, &["drift", "app"]).await;
        outputs.push(text + &errors);
    }
    for verb in [vec!["get", "-o", "json"], vec!["history", "app"]] {
        let (_, text, errors) = cli(&world, &verb).await;
        outputs.push(text + &errors);
    }
    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(world.client.clone(), &world.namespace);
    outputs.push(serde_json::to_string(&events.list(&ListParams::default()).await.unwrap()).unwrap());
    outputs.push(std::fs::read_to_string(&log).unwrap());

    // On this machine.
    let local = folder.path().join("chart");
    std::fs::create_dir_all(local.join("templates")).unwrap();
    for (path, content) in files {
        std::fs::write(local.join(path.strip_prefix("app/").unwrap()), content).unwrap();
    }
    let kustomized = folder.path().join("kustomized");
    std::fs::create_dir(&kustomized).unwrap();
    std::fs::write(kustomized.join("kustomization.yaml"), "resources: [m.yaml]\ncommonAnnotations: {a: b}\n")
        .unwrap();
    std::fs::write(kustomized.join("m.yaml"), text("map-one.yaml")).unwrap();
    let run = |arguments: &[&str]| {
        let done = Command::new(program())
            .args(arguments)
            .env("SOPS_AGE_KEY", key("one"))
            .env_remove("KUBECONFIG")
            .output()
            .unwrap();
        let all =
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{arguments:?}: {all}");
        all
    };
    let values = local.join("secrets.yaml");
    let (local, values, kustomized) =
        (local.to_str().unwrap(), values.to_str().unwrap(), kustomized.to_str().unwrap());
    assert!(run(&["render", local, "-f", values, "--show-secrets"]).contains("canary-one-decrypted"));
    for more in [vec![], vec!["--explain"], vec!["-o", "json"], vec!["--explain", "-o", "json"]] {
        for chart in [true, false] {
            let arguments =
                if chart { vec!["render", local, "-f", values] } else { vec!["render", kustomized] };
            let out = run(&[arguments, more.clone()].concat());
            assert!(out.contains("***") && out.contains("seen"), "{out}");
            outputs.push(out);
        }
    }
    for output in outputs {
        let lines: Vec<&str> = output.lines().filter(|line| !leaks(line).is_empty()).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn variables_are_put_into_what_charts_and_kustomizations_give() {
    let world = World::new("substituted").await;
    let text = template(
        "chart",
        "  value: ${REGION}-{{ .Values.word }}\n  made: \"${REGION}:{{ randAlphaNum 12 }}\"\n",
    );
    let first = world.repository.commit(
        &[
            ("app/Chart.yaml", CHART), ("app/values.yaml", "word: ${WORD:-none}\n"), ("app/templates/m.yaml", &text),
            ("over/kustomization.yaml", "resources: [m.yaml]\nnamePrefix: ${REGION}-\nconfigMapGenerator: [{name: g, literals: ['value=${REGION}'], options: {disableNameSuffixHash: true}}]\n"),
            ("over/m.yaml", &map("m", "in ${REGION}")),
        ],
        "First",
    );
    let substitute = json!({"vars": {"REGION": "eu"}});
    world.application("chart", json!({"spec": {"source": {"substitute": substitute}}})).await;
    world.application("over", json!({"spec": {"source": {"path": "over", "substitute": substitute}}})).await;
    world.ready("chart", &first).await;
    world.ready("over", &first).await;
    assert_eq!(world.value("chart").await.as_deref(), Some("eu-none"));
    assert_eq!(world.value("eu-m").await.as_deref(), Some("in eu"));
    assert_eq!(world.value("eu-g").await.as_deref(), Some("eu"));
    let made = data(&world, "chart").await.unwrap()["made"].clone();
    change(&world, "chart", json!({"source": {"substitute": {"vars": {"WORD": "some"}}}})).await;
    world.becomes("chart", Some("eu-some")).await;
    assert_eq!(data(&world, "chart").await.unwrap()["made"], made, "what was made up stays");
    change(&world, "chart", json!({"source": {"substitute": {"vars": {"REGION": "us"}}}})).await;
    world.becomes("chart", Some("us-some")).await;
    assert!(data(&world, "chart").await.unwrap()["made"].starts_with("us:"), "a variable is no chance");
}
