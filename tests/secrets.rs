//! Decryption and substitution on a real API server: what is deployed, what is noticed, and that nothing leaks.

use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use driftless::api::Application;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::agent::{World, cli};
use crate::harness::cluster::{counts, program};
use crate::harness::eventually;
use crate::sops::{data, encrypted};

/// What was decrypted or comes from a Secret, in clear and in base64.
const CANARIES: &[&str] = &["canary-one-decrypted", "canary-two-decrypted", "canary-of-a-secret", "hunter2"];

pub(crate) fn leaks(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for canary in CANARIES {
        words.push((*canary).to_owned());
        words.push(canary.to_uppercase());
        // In base64 at each of its three places, without the ends that depend on the neighbours.
        for shift in 0..3 {
            let shifted = [&b"xx"[..shift], canary.as_bytes()].concat();
            let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(shifted);
            words.push(encoded[if shift == 0 { 0 } else { 4 }..encoded.len() - 2].to_owned());
        }
    }
    words.retain(|word| text.contains(word.as_str()));
    words
}

/// An agent whose log is kept.
pub(crate) struct Logged(pub(crate) Child);

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) async fn secret(world: &World, name: &str, content: Value) {
    let stated =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content});
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    secrets.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(stated)).await.unwrap();
}

async fn variables(world: &World, content: Value) {
    let stated =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vars"}, "data": content});
    world.maps().patch("vars", &PatchParams::apply("test").force(), &Patch::Apply(stated)).await.unwrap();
}

pub(crate) fn key(name: &str) -> String {
    std::fs::read_to_string(data(&format!("{name}.agekey"))).unwrap()
}

async fn live(world: &World, name: &str, field: &str) -> Option<String> {
    world.maps().get_opt(name).await.unwrap()?.data?.get(field).cloned()
}

async fn becomes(world: &World, name: &str, field: &str, value: &str) {
    eventually(&format!("{field} of {name} is {value}"), || async {
        (live(world, name, field).await.as_deref() == Some(value)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_encrypted_is_deployed_and_never_shown() {
    let (world, running) = World::alone("secrets").await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let listen = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let _agent = Logged(
        Command::new(program())
            .args(["agent", "--log", "trace", "--interval", "5", "--listen", &listen, "--kubeconfig"])
            .arg(&running.plane.kubeconfig)
            .arg("--cache")
            .arg(folder.path().join("cache"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );
    let text = |name: &str| String::from_utf8(encrypted(name)).unwrap();
    let templated = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: templated}\ndata: {region: '${REGION:-nowhere}', token: '${TOKEN}', loud: 'x-${TOKEN^^}', count: 'n${N}'}\n";
    let first = world.repository.commit(
        &[
            ("app/database.yaml", &text("secret-encrypted-regex.yaml")),
            ("app/settings.yaml", &text("map-one.yaml")),
            ("app/templated.yaml", templated),
        ],
        "First",
    );
    variables(&world, json!({"REGION": "eu-1", "N": "3"})).await;
    let source = json!({"decryption": {"secretRef": {"name": "age"}}, "substitute": {"vars": {"N": "5"}, "from": [
        {"kind": "ConfigMap", "name": "vars"}, {"kind": "Secret", "name": "token"}, {"kind": "Secret", "name": "none", "optional": true}]}});
    world.application("app", json!({"spec": {"source": source}})).await;

    // Each thing that is missing is named; what is put right is noticed without being asked.
    let message = world.reason("app", "Rendered", "DecryptionFailed").await;
    assert!(
        message.contains("there is no Secret secrets/age")
            && message.contains("kubectl -n secrets create secret"),
        "{message}"
    );
    secret(&world, "age", json!({"readme": "hunter2"})).await;
    eventually("the Secret has no identity", || async {
        let (_, _, message) = world.condition("app", "Rendered").await?;
        message.contains("no age identity under a key that ends in .agekey").then_some(())
    })
    .await;
    secret(&world, "age", json!({"stranger.agekey": key("stranger")})).await;
    world.reason("app", "Rendered", "SubstitutionFailed").await;
    secret(&world, "token", json!({"TOKEN": "canary-of-a-secret"})).await;
    eventually("the identity is none of them", || async {
        let (_, _, message) = world.condition("app", "Rendered").await?;
        message.contains("the identity given is none of them").then_some(())
    })
    .await;
    assert_eq!(live(&world, "templated", "region").await, None, "nothing is applied by half");
    secret(&world, "age", json!({"one.agekey": key("one")})).await;
    world.ready("app", &first).await;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "secrets");
    let database = secrets.get("database").await.unwrap().data.unwrap();
    assert_eq!(database["password"].0, b"hunter2");
    assert_eq!(database["token"].0, b"hunter2");
    assert_eq!(live(&world, "settings", "password").await.as_deref(), Some("canary-one-decrypted"));
    assert_eq!(live(&world, "templated", "region").await.as_deref(), Some("eu-1"));
    assert_eq!(live(&world, "templated", "token").await.as_deref(), Some("canary-of-a-secret"));
    assert_eq!(live(&world, "templated", "count").await.as_deref(), Some("n5"));

    let (code, report, errors) = cli(&world, &["drift", "app"]).await;
    assert_eq!((code, report.as_str()), (0, "in sync: 1 app | 3 unchanged\n"), "{errors}");

    // What is watched costs no request while it stays.
    let requests = || async {
        let text = reqwest::get(format!("http://{listen}/metrics")).await.unwrap().text().await.unwrap();
        counts(&text, "driftless_api_requests_total").values().sum::<u64>()
    };
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let before = requests().await;
    assert!(before > 5, "{before} requests are counted");
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert_eq!(requests().await, before, "a quiet agent asks nothing");

    // The digest in the status cannot be made of the object alone: here the Secret is another, the object the same.
    let digest = || async {
        let app: Application = world.apps().get("app").await.ok()?;
        let entries = app.status?.inventory.entries;
        entries.into_iter().find(|entry| entry.name == "templated").map(|entry| entry.digest)
    };
    let (old, version) =
        (digest().await.unwrap(), world.maps().get("templated").await.unwrap().metadata.resource_version);
    secrets.delete("token", &DeleteParams::default()).await.unwrap();
    world.reason("app", "Rendered", "SubstitutionFailed").await;
    secret(&world, "token", json!({"TOKEN": "canary-of-a-secret"})).await;
    eventually("another digest", || async { digest().await.filter(|digest| *digest != old) }).await;
    assert_eq!(world.maps().get("templated").await.unwrap().metadata.resource_version, version);

    // A variable that changes is put in place; a commit in Git is not needed.
    variables(&world, json!({"REGION": "us-2"})).await;
    becomes(&world, "templated", "region", "us-2").await;
    world.maps().delete("vars", &DeleteParams::default()).await.unwrap();
    let message = world.reason("app", "Rendered", "SubstitutionFailed").await;
    assert!(message.contains("there is no ConfigMap secrets/vars"), "{message}");
    assert_eq!(
        live(&world, "templated", "region").await.as_deref(),
        Some("us-2"),
        "the last good state stays"
    );
    variables(&world, json!({"REGION": "eu-1"})).await;
    becomes(&world, "templated", "region", "eu-1").await;

    // A new commit, a refused object that the API server echoes, an edit by hand: reports on all of it.
    let broken = "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {ports: [{port: 80, name: '${TOKEN}_'}], clusterIP: '${TOKEN}'}\n";
    world
        .repository
        .commit(&[("app/settings.yaml", &text("map-two.yaml")), ("app/broken.yaml", broken)], "Second");
    world.poke("app").await;
    let message = world.reason("app", "Applied", "ObjectRejected").await;
    assert!(message.contains("***"), "the server echoes the value: {message}");
    becomes(&world, "settings", "password", "canary-two-decrypted").await;
    let (_, drift, _) = cli(&world, &["drift", "app"]).await;
    world.repository.change(&[("app/broken.yaml", None)], "Third");
    world.poke("app").await;
    eventually("it is mended", || async {
        let app: Application = world.apps().get("app").await.ok()?;
        app.status?.holds("Ready").then_some(())
    })
    .await;
    let pause = json!({"spec": {"sync": {"selfHeal": false}}});
    world.apps().patch("app", &PatchParams::default(), &Patch::Merge(pause)).await.unwrap();
    eventually("repairs are off", || async {
        let app = world.apps().get("app").await.ok()?;
        (app.status?.observed_generation == app.metadata.generation?).then_some(())
    })
    .await;
    let edit = json!({"data": {"password": "edited", "url": "canary-one-decrypted", "open_unencrypted": "edited too"}});
    let hand = PatchParams { field_manager: Some("ana-laptop".into()), ..PatchParams::default() };
    world.maps().patch("settings", &hand, &Patch::Merge(edit)).await.unwrap();
    let mut outputs = vec![drift];
    for format in ["text", "json", "markdown"] {
        let (code, text, errors) = cli(&world, &["drift", "app", "-o", format]).await;
        assert_eq!(code, 1, "{text}{errors}");
        outputs.push(text + &errors);
    }
    assert!(
        outputs[1].contains("/data/open_unencrypted") && outputs[1].contains("edited too"),
        "{}",
        outputs[1]
    );
    assert!(outputs[1].contains("/data/password: changed (secret)"), "{}", outputs[1]);
    for verb in [vec!["get"], vec!["history", "app"], vec!["get", "-o", "json"]] {
        let (_, text, errors) = cli(&world, &verb).await;
        outputs.push(text + &errors);
    }

    // Status, events, metrics' neighbours, log.
    let app = world.apps().get("app").await.unwrap();
    outputs.push(serde_json::to_string(&app).unwrap());
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(world.client.clone(), "secrets");
    let events = events.list(&ListParams::default()).await.unwrap();
    outputs.push(serde_json::to_string(&events).unwrap());
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("Applied."), "the log is there: {logged}");
    outputs.push(logged);
    for output in outputs {
        let lines: Vec<&str> = output.lines().filter(|line| !leaks(line).is_empty()).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn commands_without_a_cluster_mask_and_say_what_they_need() {
    let folder = tempfile::tempdir().unwrap();
    let repository = crate::harness::git::Repository::create(&folder.path().join("r.git"), String::new());
    let text = |name: &str| String::from_utf8(encrypted(name)).unwrap();
    let app = "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {name: app, namespace: ml}\nspec:\n  source:\n    repo: https://git.example/r.git\n    path: app\n    decryption: {secretRef: {name: age}}\n    substitute: {vars: {A: one}, from: [{kind: Secret, name: s}]}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: v}\ndata: {a: '${A}', b: '${B}'}\n";
    let base = repository
        .commit(&[("apps.yaml", app), ("app/m.yaml", &text("map-one.yaml")), ("app/v.yaml", map)], "First");
    let head = repository.commit(
        &[
            ("app/m.yaml", &text("map-two.yaml")),
            ("app/v.yaml", &map.replace("${A}", "${A}-two")),
            ("app/s.env", &text("values-default.env")),
        ],
        "Second",
    );
    let run = |arguments: &[&str], key: Option<&str>| {
        let mut command = Command::new(program());
        command.args(arguments).env_remove("KUBECONFIG").env("HOME", "/nonexistent");
        if let Some(key) = key {
            command.env("SOPS_AGE_KEY_FILE", data(&format!("{key}.agekey")));
        }
        let done = command.output().unwrap();
        let all = String::from_utf8(done.stdout).unwrap();
        (done.status.code().unwrap(), all, String::from_utf8(done.stderr).unwrap())
    };
    let range = format!("{base}..{head}");
    let path = folder.path().join("r.git");
    let preview = ["preview", &range, "--repo", path.to_str().unwrap()];
    let (code, text_out, errors) = run(&preview, Some("one"));
    assert_eq!(code, 1, "{text_out}{errors}");
    assert!(text_out.contains("/data/password: changed (secret)"), "{text_out}");
    assert!(text_out.contains("one-two") && !text_out.contains("/data/b"), "{text_out}");
    assert_eq!(leaks(&(text_out + &errors)), Vec::<String>::new());
    let (code, text_out, errors) = run(&preview, None);
    assert_eq!(code, 3);
    assert!(text_out.contains("DL0212") && text_out.contains("SOPS_AGE_KEY_FILE"), "{text_out}{errors}");
    let (code, text_out, _) = run(&preview, Some("stranger"));
    assert_eq!((code, text_out.contains("the identity given is none of them")), (3, true), "{text_out}");

    // A folder of this machine.
    let local = folder.path().join("local");
    std::fs::create_dir(&local).unwrap();
    std::fs::write(local.join("s.yaml"), encrypted("secret-encrypted-regex.yaml")).unwrap();
    std::fs::write(local.join("m.yaml"), encrypted("map-one.yaml")).unwrap();
    let local = local.to_str().unwrap();
    for format in ["yaml", "json"] {
        let (code, text_out, errors) = run(&["render", local, "-o", format], Some("one"));
        assert_eq!(code, 0, "{errors}");
        assert!(
            text_out.contains("***") && text_out.contains("database") && text_out.contains("seen"),
            "{text_out}"
        );
        assert_eq!(leaks(&(text_out + &errors)), Vec::<String>::new());
        let (_, shown, _) = run(&["render", local, "-o", format, "--show-secrets"], Some("one"));
        assert!(shown.contains("canary-one-decrypted") && shown.contains("hunter2"), "{shown}");
    }
    let (code, _, errors) = run(&["render", local], None);
    assert_eq!(code, 3);
    assert!(errors.contains("error[DL0212]: m.yaml: it is encrypted for the age recipients"), "{errors}");
}
