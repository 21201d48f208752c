//! Objects that go from one Application to another stay what they are: the uid of each tells.

use driftless::api::Application;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::agent::{World, map};
use crate::harness::cluster::Agent;
use crate::harness::eventually;
use crate::harness::git::Fault;

const LABEL: &str = "driftless.dev/application";

async fn uid(world: &World, name: &str) -> String {
    world.maps().get(name).await.unwrap().uid().unwrap()
}

async fn belongs(world: &World, name: &str, app: &str) {
    let label = format!("{}.{app}", world.namespace);
    eventually(&format!("{name} belongs to {app}"), || async {
        let found = world.maps().get_opt(name).await.unwrap().expect("it is never deleted");
        (found.labels().get(LABEL) == Some(&label)).then_some(())
    })
    .await;
}

async fn gone(world: &World, app: &str) {
    eventually(&format!("the Application {app} is gone"), || async {
        world.apps().get_opt(app).await.unwrap().is_none().then_some(())
    })
    .await;
}

async fn inventory(world: &World, app: &str) -> Vec<String> {
    let status = world.apps().get(app).await.unwrap().status.unwrap_or_default();
    status.inventory.entries.into_iter().map(|entry| entry.name).collect()
}

fn cascade(path: &str) -> Value {
    json!({"spec": {"deletion": "Cascade", "source": {"path": path}}})
}

#[tokio::test]
async fn an_object_moves_from_one_folder_to_another_in_one_commit() {
    let world = World::new("moves-commit").await;
    let many = |folder: &str, from: u32, to: u32| -> Vec<(String, String)> {
        (from..to).map(|n| (format!("{folder}/m{n}.yaml"), map(&format!("m{n}"), folder))).collect()
    };
    let change = |more: Vec<(String, String)>, less: Vec<String>, why: &str| {
        let changes: Vec<(&str, Option<&str>)> = (more.iter())
            .map(|(path, text)| (path.as_str(), Some(text.as_str())))
            .chain(less.iter().map(|path| (path.as_str(), None)))
            .collect();
        world.repository.change(&changes, why)
    };
    // Twelve of fourteen move: more than the budget of a prune, but nothing is pruned.
    let first = change([many("a", 0, 14), many("b", 20, 21)].concat(), vec![], "First");
    world.application("a", cascade("a")).await;
    world.application("b", cascade("b")).await;
    world.ready("a", &first).await;
    world.ready("b", &first).await;
    let mut before = Vec::new();
    for n in 0..12 {
        before.push(uid(&world, &format!("m{n}")).await);
    }
    let less = (0..12).map(|n| format!("a/m{n}.yaml")).collect();
    let second = change(many("b", 0, 12), less, "A move");
    world.poke("a").await;
    world.ready("b", &second).await;
    world.ready("a", &second).await;
    for (n, before) in before.iter().enumerate() {
        let name = format!("m{n}");
        belongs(&world, &name, "b").await;
        assert_eq!(uid(&world, &name).await, *before);
        assert_eq!(world.value(&name).await.as_deref(), Some("b"));
    }
    assert_eq!(inventory(&world, "a").await, ["m12", "m13"]);
    assert_eq!(inventory(&world, "b").await.len(), 13);
    // What nobody wants is deleted as ever.
    change(vec![], vec!["a/m12.yaml".to_owned()], "Less");
    world.poke("a").await;
    world.becomes("m12", None).await;
    // The new owner goes, and its objects with it.
    world.apps().delete("b", &DeleteParams::default()).await.unwrap();
    gone(&world, "b").await;
    world.becomes("m0", None).await;
}

/// Application `a` has an object that `b` wants too; the commit, and the object's uid.
async fn contested(world: &World) -> (String, String) {
    let first =
        world.repository.commit(&[("a/x.yaml", &map("x", "a")), ("b/x.yaml", &map("x", "b"))], "First");
    world.application("a", cascade("a")).await;
    world.ready("a", &first).await;
    let before = uid(world, "x").await;
    world.application("b", cascade("b")).await;
    (first, before)
}

#[tokio::test]
async fn a_second_owner_waits_and_takes_over_when_the_first_lets_go() {
    let world = World::new("moves-claim").await;
    let (first, before) = contested(&world).await;
    let message = world.reason("b", "Ready", "OwnedByAnother").await;
    assert!(message.contains("the Application moves-claim/a"), "{message}");
    assert_eq!(world.value("x").await.as_deref(), Some("a"));
    // The first is deleted with all that is its own. This one is claimed.
    world.apps().delete("a", &DeleteParams::default()).await.unwrap();
    world.ready("b", &first).await;
    gone(&world, "a").await;
    belongs(&world, "x", "b").await;
    assert_eq!((uid(&world, "x").await, world.value("x").await.as_deref()), (before, Some("b")));
}

/// An app of apps whose commit gives an Application another name.
#[tokio::test]
async fn a_renamed_application_keeps_its_objects() {
    let world = World::new("moves-rename").await;
    let child = |name: &str| {
        let note = json!({"driftless.dev/sync-options": "Prune=true"});
        let source = json!({"repo": world.repository.url, "revision": "main", "path": "app"});
        json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "annotations": note},
            "spec": {"deletion": "Cascade", "source": source}})
        .to_string()
    };
    let first = world
        .repository
        .commit(&[("apps/old.yaml", child("old").as_str()), ("app/x.yaml", &map("x", "one"))], "First");
    world.application("apps", json!({"spec": {"source": {"path": "apps"}}})).await;
    world.ready("old", &first).await;
    let before = uid(&world, "x").await;
    let new = child("new");
    let second =
        world.repository.change(&[("apps/old.yaml", None), ("apps/new.yaml", Some(&new))], "A rename");
    world.poke("apps").await;
    gone(&world, "old").await;
    world.ready("new", &second).await;
    world.ready("apps", &second).await;
    belongs(&world, "x", "new").await;
    assert_eq!(uid(&world, "x").await, before);
    // The name is another, the application is the same: it follows Git.
    let third = world.repository.commit(&[("app/x.yaml", &map("x", "two"))], "Third");
    world.poke("new").await;
    world.ready("new", &third).await;
    assert_eq!(world.value("x").await.as_deref(), Some("two"));
}

/// Nothing is deleted by an agent that does not know yet what all Applications want.
#[tokio::test]
async fn a_killed_agent_moves_too() {
    let (world, _running) = World::alone("moves-killed").await;
    let slow = world.git.repository("ml/slow");
    let first =
        world.repository.commit(&[("a/x.yaml", &map("x", "a")), ("a/w.yaml", &map("w", "a"))], "First");
    slow.commit(&[("b/z.yaml", &map("z", "b"))], "First");
    let agent = Agent::start(&world.plane, &["--interval", "5"]);
    world.application("a", cascade("a")).await;
    world
        .application("b", json!({"spec": {"deletion": "Cascade", "source": {"repo": slow.url, "path": "b"}}}))
        .await;
    world.ready("a", &first).await;
    world.becomes("z", Some("b")).await;
    let before = (uid(&world, "x").await, uid(&world, "w").await);
    // The agent is killed. Then the objects change sides, in two repositories, of which one does not answer; and one
    // of the Applications is deleted.
    agent.kill();
    slow.commit(&[("b/x.yaml", &map("x", "b")), ("b/w.yaml", &map("w", "b"))], "They come");
    world.git.fault("ml/slow", Some(Fault::Status(503)));
    world.repository.change(&[("a/x.yaml", None)], "One goes");
    let agent = Agent::start(&world.plane, &["--interval", "1"]);
    let message = eventually("it says whom it waits for", || async {
        let (_, _, message) = world.condition("a", "Ready").await?;
        message.contains("moves-killed/b").then_some(message)
    })
    .await;
    assert!(message.contains("to be rendered, which may want the objects"), "{message}");
    agent.kill();
    world.apps().delete("a", &DeleteParams::default()).await.unwrap();
    let agent = Agent::start(&world.plane, &["--interval", "1"]);
    eventually("it says that the deletion waits", || async {
        let (_, reason, message) = world.condition("a", "Ready").await?;
        (reason == "Deleting" && message.contains("moves-killed/b")).then_some(())
    })
    .await;
    assert_eq!((uid(&world, "x").await, uid(&world, "w").await), before);
    world.git.fault("ml/slow", None);
    world.poke("b").await;
    gone(&world, "a").await;
    belongs(&world, "x", "b").await;
    belongs(&world, "w", "b").await;
    assert_eq!((uid(&world, "x").await, uid(&world, "w").await), before);
    agent.kill();
}

/// A person gives an object to another Application by its label, where that wants it.
#[tokio::test]
async fn a_label_gives_an_object_away() {
    let world = World::new("moves-label").await;
    let (first, before) = contested(&world).await;
    world.reason("b", "Ready", "OwnedByAnother").await;
    let label = json!({"metadata": {"labels": {LABEL: "moves-label.b"}}});
    world.maps().patch("x", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    world.ready("b", &first).await;
    world.becomes("x", Some("b")).await;
    let message = world.reason("a", "Ready", "OwnedByAnother").await;
    assert!(message.contains("moves-label/b"), "{message}");
    assert_eq!(uid(&world, "x").await, before);
    let _: Api<Application> = world.apps();
}
