//! Git servers that fail: what is deployed stays.

use std::time::{Duration, Instant};

use driftless::error::Code;
use driftless::source::{Credentials, Limits, Location};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{agent, world};
use crate::agent::{cli, map};
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

/// G3: a pack of a few kilobytes that unpacks to 300 MiB, as a real server sends it.
#[tokio::test]
async fn a_pack_that_would_unpack_to_gigabytes_is_refused() {
    use std::io::Write as _;
    let git = Server::start().await;
    let repository = git.repository("bomb");
    repository.commit(&[("b", "one")], "First");
    let location = Location::parse(&repository.url).unwrap();
    let none = Credentials::default();
    let one = setup(Limits::default());
    assert_eq!(one.read(&location, "main", &none, "b").await.unwrap(), "one");
    // A base of 1 MiB, and a delta that copies it 300 times.
    let base = vec![b'x'; 1 << 20];
    let mut delta = vec![0x80, 0x80, 0x40, 0x80, 0x80, 0x80, 0x96, 0x01];
    (0..300).for_each(|_| delta.extend_from_slice(&[0xc0, 0x10]));
    let mut pack = [b"PACK".as_slice(), &2u32.to_be_bytes(), &2u32.to_be_bytes()].concat();
    let mut objects = Vec::new();
    for (kind, mut size, data) in [(3u8, base.len(), &base), (6, delta.len(), &delta)] {
        objects.push(pack.len());
        let mut byte = kind << 4 | u8::try_from(size & 15).unwrap();
        size >>= 4;
        while size > 0 {
            pack.push(byte | 128);
            byte = u8::try_from(size & 127).unwrap();
            size >>= 7;
        }
        pack.push(byte);
        if kind == 6 {
            let mut before = objects[1] - objects[0];
            let mut offset = vec![u8::try_from(before & 127).unwrap()];
            while before >> 7 > 0 {
                before = (before >> 7) - 1;
                offset.insert(0, u8::try_from(before & 127).unwrap() | 128);
            }
            pack.extend(offset);
        }
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(data).unwrap();
        pack.extend(packed.finish().unwrap());
    }
    let file = repository.folder().join("bomb.pack");
    std::fs::write(&file, [&pack[..], &sha1(&pack)].concat()).unwrap();
    let indexed = std::process::Command::new("git")
        .args(["-C", &repository.folder().display().to_string(), "index-pack", "--stdin"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert!(indexed.status.success(), "{}", String::from_utf8_lossy(&indexed.stderr));
    let blob = {
        let opened = git2::Repository::open(repository.folder()).unwrap();
        let mut found = None;
        let database = opened.odb().unwrap();
        database
            .foreach(|id| {
                let (size, _) = database.read_header(*id).unwrap();
                found = found.or((size == 300 << 20).then_some(*id));
                true
            })
            .unwrap();
        found.expect("the large blob")
    };
    // Where the base is sent too, the server sends the delta as it has it.
    let base = git2::Oid::hash_object(git2::ObjectType::Blob, &base).unwrap();
    let bomb = repository.commit_blobs(&[("a", blob), ("base", base)], "Bomb");
    git.traffic();
    let error = one.client.fetch(&location, &bomb, &none).await.unwrap_err();
    assert_eq!(error.code, Code::SourceTooLarge, "{error}");
    assert!(error.to_string().contains("made from a delta of 300 MiB"), "{error}");
    let (_, bytes) = git.traffic();
    assert!(bytes < 100_000, "{bytes} bytes were sent");
    // What was there is there, and what comes next too.
    repository.change(&[("a", None), ("b", Some("two"))], "Third");
    assert_eq!(one.read(&location, "main", &none, "b").await.unwrap(), "two");
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    use sha1::Digest as _;
    sha1::Sha1::digest(bytes).into()
}

/// G5: whoever asks to wait is not asked meanwhile, for no repository of the host.
#[tokio::test]
async fn a_git_server_that_asks_to_wait_is_left_alone() {
    let git = Server::start().await;
    let (repository, other) = (git.repository("asks"), git.repository("other"));
    repository.commit(&[("a", "one")], "First");
    other.commit(&[("a", "one")], "First");
    let (location, others) =
        (Location::parse(&repository.url).unwrap(), Location::parse(&other.url).unwrap());
    let none = Credentials::default();
    let one = setup(Limits::default());
    assert_eq!(one.read(&location, "main", &none, "a").await.unwrap(), "one");
    git.fault("asks", Some(Fault::Wait(3)));
    let begin = Instant::now();
    let first = one.read(&location, "main", &none, "a").await.unwrap_err();
    assert_eq!(first.code, Code::RepositoryUnreachable);
    assert!(first.to_string().contains("429: the server asks to wait until"), "{first}");
    git.fault("asks", None);
    git.traffic();
    while begin.elapsed() < Duration::from_secs(2) {
        let again = one.read(&location, "main", &none, "a").await.unwrap_err();
        assert_eq!(again.to_string(), first.to_string());
        let error = one.read(&others, "main", &none, "a").await.unwrap_err();
        assert!(error.to_string().contains("asks to wait"), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(git.traffic().0, 0, "nothing is asked while it wants to be left alone");
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(begin.elapsed())).await;
    assert_eq!(one.read(&location, "main", &none, "a").await.unwrap(), "one");
    assert_eq!(one.read(&others, "main", &none, "a").await.unwrap(), "one");
}

/// G4: a rewritten history is followed and told of, or held where the source says so, by the next process too.
#[tokio::test]
async fn a_rewritten_history_is_told_and_held_where_asked() {
    let (world, proxy) = world("fault-rewrite").await;
    let running = agent(&world, &proxy);
    let first = world.repository.commit(&[("app/a.yaml", &map("a", "one"))], "First");
    let second = world.repository.commit(&[("app/a.yaml", &map("a", "two"))], "Second");
    world.application("held", json!({"spec": {"source": {"allowRewrite": false}}})).await;
    world.ready("held", &second).await;
    world.repository.force(&first);
    let aside = world.repository.commit(&[("app/a.yaml", &map("a", "aside"))], "Aside");
    world.poke("held").await;
    let message = world.reason("held", "SourceReady", "HistoryRewritten").await;
    assert!(message.contains(&second[..7]) && message.contains(&aside[..7]), "{message}");
    assert!(message.contains("allowRewrite"), "{message}");
    assert_eq!(world.value("a").await.as_deref(), Some("two"));
    // Who waits for it is told, though the application is ready as it was.
    let (code, _, errors) = cli(&world, &["sync", "held", "--wait", "--timeout", "60"]).await;
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("DL0117"), "{errors}");
    let (code, _, errors) = cli(&world, &["suspend", "held", "--why", "a look"]).await;
    assert_eq!(code, 0, "{errors}");
    let by = world.apps().get("held").await.unwrap().spec.suspend.unwrap().by;
    assert!(by.contains("admin") || by.starts_with("system:"), "{by}");
    let (code, _, errors) = cli(&world, &["resume", "held"]).await;
    assert_eq!(code, 0, "{errors}");
    // Drift is repaired from what is deployed, and the next process holds it too.
    world.maps().delete("a", &DeleteParams::default()).await.unwrap();
    world.becomes("a", Some("two")).await;
    drop(running);
    let _agent = agent(&world, &proxy);
    world.maps().delete("a", &DeleteParams::default()).await.unwrap();
    world.becomes("a", Some("two")).await;
    world.reason("held", "SourceReady", "HistoryRewritten").await;
    // A head that leads on from what is deployed ends it.
    world.repository.force(&second);
    let third = world.repository.commit(&[("app/a.yaml", &map("a", "three"))], "Third");
    world.poke("held").await;
    world.ready("held", &third).await;
    world.reason("held", "SourceReady", "Fetched").await;
    // Where nothing is said it is followed, with an event.
    let silent = json!({"spec": {"source": {"allowRewrite": null}}});
    world.apps().patch("held", &PatchParams::default(), &Patch::Merge(silent)).await.unwrap();
    world.repository.force(&first);
    world.poke("held").await;
    world.ready("held", &first).await;
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    let (kind, note) = world.event("HistoryRewritten", &third[..7]).await;
    assert_eq!(kind, "Warning");
    assert!(note.contains(&first[..7]), "{note}");
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
