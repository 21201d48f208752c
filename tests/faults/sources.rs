//! Git servers that fail: what is deployed stays.

use std::time::{Duration, Instant};

use driftless::error::Code;
use driftless::source::{Credentials, Limits, Location};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{agent, world};
use crate::agent::map;
use crate::harness::git::{Fault, Server};
use crate::source::{Authority, secret, setup};

/// G1: a Git server that goes away, one whose name nobody knows, and certificates that are not good.
#[tokio::test]
async fn a_git_server_that_is_away_takes_nothing_away() {
    let (world, proxy) = world("fault-git").await;
    let _agent = agent(&world, &proxy);
    let git = Server::start().await;
    let repository = git.repository("ml/other");
    let first = repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({"spec": {"source": {"repo": repository.url}}})).await;
    world.ready("app", &first).await;
    drop(git);
    world.application("lost", json!({"spec": {"source": {"repo": "http://git.invalid/x.git"}}})).await;
    let message = world.reason("lost", "Ready", "RepositoryUnreachable").await;
    assert!(message.contains("git.invalid"), "{message}");
    world.reason("app", "SourceReady", "RepositoryUnreachable").await;
    world.maps().delete("a", &DeleteParams::default()).await.unwrap();
    world.becomes("a", Some("one")).await;
    assert!(world.apps().get_opt("app").await.unwrap().is_some());
}

/// G1: an expired certificate, and one for another host.
#[tokio::test]
async fn certificates_that_are_not_good_are_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new();
    let one = setup(Limits::default());
    for (name, expired) in [("127.0.0.1", true), ("git.example", false)] {
        let (certificate, key) = authority.issue_until(name, if expired { 2020 } else { 2090 });
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let git = Server::start_tls(config.into()).await;
        let repository = git.repository("private");
        repository.commit(&[("a", "one")], "First");
        let location = Location::parse(&repository.url).unwrap();
        let trusted = secret(&[("caFile", &authority.certificate.pem())]);
        let error = one.read(&location, "main", &trusted, "a").await.unwrap_err();
        assert_eq!(error.code, Code::CertificateRefused, "{name}: {error}");
    }
}

/// G2: a byte now and then, and an answer that is cut near its end.
#[tokio::test]
async fn slow_answers_end_and_cut_ones_are_fetched_again() {
    let git = Server::start().await;
    let repository = git.repository("slow");
    let text: String = (0..4000).map(|number| format!("line {number}\n")).collect();
    repository.commit(&[("a", &text)], "First");
    let other = git.repository("other");
    other.commit(&[("a", "one")], "First");
    let limit = Duration::from_secs(2);
    let one =
        setup(Limits { connect: limit, idle: limit, poll: limit, fetch: limit * 2, ..Limits::default() });
    let location = Location::parse(&repository.url).unwrap();
    let others = Location::parse(&other.url).unwrap();
    git.fault("slow", Some(Fault::Slow(Duration::from_millis(50))));
    let begin = Instant::now();
    let none = Credentials::default();
    let (slow, quick) = tokio::join!(one.read(&location, "main", &none, "a"), async {
        (one.read(&others, "main", &none, "a").await, begin.elapsed())
    });
    assert_eq!(slow.unwrap_err().code, Code::SourceTimedOut);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(quick.0.unwrap(), "one");
    let good = setup(Limits::default());
    let whole = {
        git.traffic();
        let probe = setup(Limits::default());
        git.fault("slow", None);
        probe.read(&location, "main", &none, "a").await.unwrap();
        usize::try_from(git.traffic().1).unwrap()
    };
    git.fault("slow", Some(Fault::Cut(whole * 95 / 100)));
    let error = good.read(&location, "main", &none, "a").await.unwrap_err();
    assert!(matches!(error.code, Code::RepositoryCorrupt | Code::RepositoryUnreachable), "{error}");
    git.fault("slow", None);
    assert_eq!(good.read(&location, "main", &none, "a").await.unwrap(), text);
}

/// G3: a pack with a wrong byte anywhere, and a repository that lacks a blob: refused, and no trace of it is kept.
#[tokio::test]
async fn packs_that_are_not_right_are_refused() {
    let git = Server::start().await;
    let repository = git.repository("bad");
    let text: String = (0..300).map(|number| format!("line {number} {}\n", number * number)).collect();
    repository.commit(&[("a", &text), ("b", "two")], "First");
    let location = Location::parse(&repository.url).unwrap();
    let none = Credentials::default();
    let one = setup(Limits::default());
    for from_end in [1, 10, 21, 30, 60, 120, 200] {
        git.fault("bad", Some(Fault::Corrupt(from_end)));
        let error = one.read(&location, "main", &none, "a").await.unwrap_err();
        assert_eq!(error.code, Code::RepositoryCorrupt, "{from_end} from the end: {error}");
    }
    git.fault("bad", None);
    assert_eq!(one.read(&location, "main", &none, "a").await.unwrap(), text);

    // The server itself has lost a blob of the next commit.
    repository.commit(&[("c", "three")], "Second");
    let blob = git2::Oid::hash_object(git2::ObjectType::Blob, b"three").unwrap().to_string();
    let file = repository.folder().join("objects").join(&blob[..2]).join(&blob[2..]);
    std::fs::remove_file(&file).unwrap();
    let error = one.read(&location, "main", &none, "c").await.unwrap_err();
    assert!(matches!(error.code, Code::RepositoryCorrupt | Code::RepositoryUnreachable), "{error}");
    repository.commit(&[("c", "four")], "Third");
    assert_eq!(one.read(&location, "main", &none, "c").await.unwrap(), "four");
}

/// G5: a password that changes in the middle, and a server that asks for fewer requests.
#[tokio::test]
async fn credentials_that_change_are_read_again() {
    let (world, proxy) = world("fault-account").await;
    let _agent = agent(&world, &proxy);
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let state = |password: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "stringData": {"username": "bot", "password": password}});
    let apply = PatchParams::apply("tests").force();
    secrets.patch("git", &apply, &Patch::Apply(state("hunter2"))).await.unwrap();
    world.git.protect("ml/platform", "bot:hunter2");
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    world.application("app", json!({"spec": {"source": {"secretRef": {"name": "git"}}}})).await;
    world.ready("app", &first).await;
    world.git.protect("ml/platform", "bot:hunter3");
    let second = world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    let message = world.reason("app", "SourceReady", "AuthenticationFailed").await;
    assert!(!message.contains("hunter"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    // Nobody says that it is another now.
    secrets.patch("git", &apply, &Patch::Apply(state("hunter3"))).await.unwrap();
    world.ready("app", &second).await;

    world.git.fault("ml/platform", Some(Fault::Status(429)));
    let message = world.reason("app", "SourceReady", "RepositoryUnreachable").await;
    assert!(message.contains("fewer requests"), "{message}");
    world.git.traffic();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (requests, _) = world.git.traffic();
    assert!(requests <= 4, "{requests} requests in ten seconds");
    world.git.fault("ml/platform", None);
    world.reason("app", "SourceReady", "Fetched").await;
    assert_eq!(world.value("a").await.as_deref(), Some("two"));
}

/// G6 and G8: 200 commits while a sync fails, and a request for each of the last.
#[tokio::test]
async fn a_storm_of_commits_and_requests_is_one_sync() {
    let (world, proxy) = world("fault-storm").await;
    let _agent = agent(&world, &proxy);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "0"))], "First");
    world.application("app", json!({})).await;
    world.ready("app", &first).await;
    let wrong = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 99999}]}\n";
    world.repository.commit(&[("app/s.yaml", wrong)], "Wrong");
    world.poke("app").await;
    world.reason("app", "Ready", "ObjectRejected").await;
    world.git.traffic();
    let begin = Instant::now();
    let mut head = String::new();
    for number in 1..=200 {
        head = world.repository.commit(&[("app/a.yaml", &map("a", &number.to_string()))], "Next");
        if number % 4 == 0 {
            world.poke("app").await;
        }
    }
    head = world.repository.change(&[("app/s.yaml", None)], &format!("Mend {head}"));
    world.poke("app").await;
    world.ready("app", &head).await;
    assert_eq!(world.value("a").await.as_deref(), Some("200"));
    let (requests, _) = world.git.traffic();
    let seconds = begin.elapsed().as_secs();
    // Two for each round: what there is, and the difference.
    assert!(requests < 120, "{requests} requests for 201 commits and 51 requests in {seconds} s");
    let status = world.apps().get("app").await.unwrap().status.unwrap();
    assert_eq!(status.history.last().unwrap().revisions, [head]);
    let applied = proxy.count("patch", "/configmaps/a");
    assert!(applied < 60, "{applied} applies");
}
