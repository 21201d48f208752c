//! Artifacts and charts from a real registry, and charts from Helm repositories.

use std::time::{Duration, Instant};

use driftless::error::{Code, Result};
use driftless::render::Tree;
use driftless::source::{Credentials, Limits, Location, Revision, Snapshot};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::agent::{World, cli, map};
use crate::harness::eventually;
use crate::harness::front::{Fault, Front};
use crate::harness::git::Repository;
use crate::harness::registry::{self, Doors, Registry, Tokens, archive, digest, packaged};
use crate::source::{Authority, Setup, secret, setup};

fn nobody() -> Credentials {
    Credentials::default()
}

fn oci(host: &str, path: &str) -> Location {
    Location::of(&format!("oci+http://{host}/{path}"), "").unwrap()
}

fn chart(repo: &str, name: &str) -> Location {
    Location::of(repo, name).unwrap()
}

impl Setup {
    async fn snapshot(&self, at: &Location, revision: &str, who: &Credentials) -> Result<Snapshot> {
        let resolved = self.client.resolve(at, &Revision::of(at, revision)?, who).await?;
        self.client.fetch(at, &resolved.commit, who).await
    }

    async fn fails(&self, at: &Location, revision: &str, who: &Credentials, code: Code) -> String {
        let error = self.snapshot(at, revision, who).await.expect_err("a failure");
        assert_eq!(error.code, code, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        error.to_string()
    }
}

fn read(snapshot: &Snapshot, path: &str) -> String {
    String::from_utf8(snapshot.tree().unwrap().read(path).unwrap()).unwrap()
}

fn impatient() -> Limits {
    let limit = Duration::from_millis(400);
    Limits { connect: limit, idle: limit, poll: limit, fetch: limit, ..Limits::default() }
}

#[tokio::test]
async fn a_poll_of_an_unchanged_tag_is_one_head() {
    let registry = Registry::open().await;
    let front = Front::before(&registry.host).await;
    let first = registry.artifact("ml/fraud", "main", &[("app/a.yaml", "one")]).await;
    let (one, at) = (setup(Limits::default()), oci(&front.host, "ml/fraud"));
    let snapshot = one.snapshot(&at, "main", &nobody()).await.unwrap();
    assert_eq!(snapshot.commit, format!("main@{first}"));
    assert_eq!(read(&snapshot, "app/a.yaml"), "one");
    assert_eq!((snapshot.subject.as_str(), snapshot.time), ("main@sha1:main", 1_767_323_045));
    let asked: Vec<String> =
        front.asked().into_iter().map(|asked| asked.what.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(asked, ["HEAD", "GET", "GET"], "the tag, its manifest, its layer");

    one.snapshot(&at, "main", &nobody()).await.unwrap();
    let asked = front.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].what.as_str(), asked[0].bytes), ("HEAD /v2/ml/fraud/manifests/main", 0));

    // A digest needs no poll, and the same digest under another tag no fetch.
    one.snapshot(&at, &first, &nobody()).await.unwrap();
    assert!(front.asked().is_empty());
    registry.artifact("ml/fraud", "main", &[("app/a.yaml", "two")]).await;
    let moved = one.snapshot(&at, "main", &nobody()).await.unwrap();
    assert_eq!(read(&moved, "app/a.yaml"), "two");
    assert_eq!(read(&snapshot, "app/a.yaml"), "one", "what is in use stays");
    assert_eq!(front.asked().len(), 3);
    assert_eq!(read(&one.snapshot(&at, &first, &nobody()).await.unwrap(), "app/a.yaml"), "one");

    // What did not change is known by its identity.
    let identity =
        |snapshot: &Snapshot, path: &str| snapshot.tree().unwrap().entry(path).unwrap().unwrap().identity;
    registry.artifact("ml/fraud", "next", &[("app/a.yaml", "two"), ("other/b.yaml", "new")]).await;
    let next = one.snapshot(&at, "next", &nobody()).await.unwrap();
    assert_eq!(identity(&moved, "app"), identity(&next, "app"));
    assert_ne!(identity(&moved, ""), identity(&next, ""));
}

#[tokio::test]
async fn tags_digests_and_ranges() {
    let registry = Registry::open().await;
    let mut digests = Vec::new();
    for tag in ["latest", "v1.2.0", "1.9.0", "1.10.0", "2.0.0-rc.1", "nightly"] {
        digests.push(registry.artifact("ml/kinds", tag, &[("tag", tag)]).await);
    }
    let (one, at) = (setup(Limits::default()), oci(&registry.host, "ml/kinds"));
    for (revision, expected) in [
        ("", "latest"),
        ("nightly", "nightly"),
        ("1.9.0", "1.9.0"),
        (">=1 <2", "1.10.0"),
        ("~1.2", "v1.2.0"),
        ("^1.2.0 || ^3", "1.10.0"),
        (">0.0.0-0", "2.0.0-rc.1"),
        ("*", "1.10.0"),
        (&digests[1], "v1.2.0"),
        (&format!("whatever@{}", digests[1]), "v1.2.0"),
    ] {
        let found = one
            .snapshot(&at, revision, &nobody())
            .await
            .unwrap_or_else(|error| panic!("{revision}: {error}"));
        assert_eq!(read(&found, "tag"), expected, "{revision}");
        let commit = found.commit;
        assert!(
            commit.ends_with(
                &digests[["latest", "v1.2.0", "1.9.0", "1.10.0", "2.0.0-rc.1", "nightly"]
                    .iter()
                    .position(|tag| *tag == expected)
                    .unwrap()]
            ),
            "{commit}"
        );
    }
    let why = one.fails(&at, "1.11.0", &nobody(), Code::RevisionNotFound).await;
    assert!(why.contains("1.10.0") && why.contains(&registry.host), "{why}");
    let why = one.fails(&at, ">=3", &nobody(), Code::RevisionNotFound).await;
    assert!(why.contains("of 6 the nearest are 2.0.0-rc.1"), "{why}");
    let lost = format!("sha256:{}", "0".repeat(64));
    one.fails(&at, &lost, &nobody(), Code::RevisionNotFound).await;
    let why = one.fails(&oci(&registry.host, "ml/nothing"), "", &nobody(), Code::RepositoryUnreachable).await;
    assert!(why.contains("ml/nothing") && why.contains("404"), "{why}");
}

/// This registry gives all tags at once; others give them in pages. The pages are a fake.
#[tokio::test]
async fn long_lists_of_tags_come_in_pages() {
    use axum::extract::RawQuery;
    let page = |RawQuery(query): RawQuery| async move {
        let query = query.unwrap_or_default();
        let begin: usize = query.split("last=").nth(1).and_then(|last| last.parse().ok()).unwrap_or(0);
        let tags: Vec<String> = (begin..begin + 100).map(|number| format!("1.{number}.0")).collect();
        let next = format!("</v2/many/tags/list?n=1000&last={}>; rel=\"next\"", begin + 100);
        let next = if begin < 900 { vec![(axum::http::header::LINK, next)] } else { vec![] };
        (axum::response::AppendHeaders(next), json!({"name": "many", "tags": tags}).to_string())
    };
    let endless = || async {
        let next = "</v2/endless/tags/list?n=1000>; rel=\"next\"";
        ([(axum::http::header::LINK, next)], json!({"tags": ["a"]}).to_string())
    };
    let away = || async {
        let next = "<http://192.0.2.1/v2/away/tags/list>; rel=\"next\"";
        ([(axum::http::header::LINK, next)], json!({"tags": ["a"]}).to_string())
    };
    let digest = format!("sha256:{}", "ab".repeat(32));
    let told = digest.clone();
    let head = move || async move { [("docker-content-digest", told)] };
    let router = axum::Router::new()
        .route("/v2/many/tags/list", axum::routing::get(page))
        .route("/v2/endless/tags/list", axum::routing::get(endless))
        .route("/v2/away/tags/list", axum::routing::get(away))
        .route("/v2/many/manifests/1.999.0", axum::routing::head(head));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let one = setup(Limits::default());
    let at = oci(&host, "many");
    let found = one.client.resolve(&at, &Revision::of(&at, "^1").unwrap(), &nobody()).await.unwrap();
    assert_eq!(found.commit, format!("1.999.0@{digest}"));
    one.fails(&oci(&host, "endless"), "*", &nobody(), Code::SourceTooLarge).await;
    one.fails(&oci(&host, "away"), "*", &nobody(), Code::RepositoryCorrupt).await;
}

#[tokio::test]
async fn accounts_of_a_registry() {
    let registry = Registry::start(Doors { basic: true, ..Doors::default() }).await;
    registry.artifact("ml/private", "latest", &[("a", "one")]).await;
    let (one, at) = (setup(Limits::default()), oci(&registry.host, "ml/private"));
    let docker = |place: &str, account: serde_json::Value| {
        secret(&[(".dockerconfigjson", &json!({"auths": {place: account}}).to_string())])
    };
    let place = format!("http://{}/ml", registry.host);
    for good in [
        secret(&[("username", "ana"), ("password", "hunter2\n")]),
        docker(&registry.host, json!({"username": "ana", "password": "hunter2"})),
        docker(&place, json!({"auth": "YW5hOmh1bnRlcjI="})),
    ] {
        assert_eq!(one.read(&at, "", &good, "a").await.unwrap(), "one");
    }
    let why = one.fails(&at, "", &nobody(), Code::AuthenticationFailed).await;
    assert!(why.contains("secretRef") && why.contains(&registry.host), "{why}");
    let wrong = secret(&[("username", "ana"), ("password", "hunter3")]);
    let why = one.fails(&at, "", &wrong, Code::AuthenticationFailed).await;
    assert!(why.contains("credentials of the Secret"), "{why}");
    let other = docker("ghcr.io", json!({"username": "ana", "password": "hunter2"}));
    let why = one.fails(&at, "", &other, Code::AuthenticationFailed).await;
    assert!(why.contains("accounts for ghcr.io only"), "{why}");
    one.fails(&at, "", &secret(&[("bearerToken", "hunter2")]), Code::AuthenticationFailed).await;
}

#[tokio::test]
async fn tokens_of_a_token_server() {
    let account = "ana:hunter2";
    for (tokens, good) in [
        (Tokens::start(None, 300).await, nobody()),
        (Tokens::start(Some(account), 300).await, secret(&[("username", "ana"), ("password", "hunter2")])),
    ] {
        let registry = Registry::start(Doors { tokens: Some(&tokens), ..Doors::default() }).await;
        registry.artifact("ml/private", "latest", &[("a", "one")]).await;
        let (one, at) = (setup(Limits::default()), oci(&registry.host, "ml/private"));
        for _ in 0..3 {
            assert_eq!(one.read(&at, "", &good, "a").await.unwrap(), "one");
        }
        let asked = tokens.asked();
        assert_eq!(asked.len(), 1, "a token is kept: {asked:?}");
        assert!(
            asked[0].0.contains("service=test") && asked[0].0.contains("repository%3Aml%2Fprivate%3Apull"),
            "{asked:?}"
        );
        assert_eq!(asked[0].1.is_some(), !good.is_anonymous());
    }

    let tokens = Tokens::start(Some(account), 300).await;
    let registry = Registry::start(Doors { tokens: Some(&tokens), ..Doors::default() }).await;
    registry.artifact("ml/private", "latest", &[("a", "one")]).await;
    let (one, at) = (setup(Limits::default()), oci(&registry.host, "ml/private"));
    let refresh = json!({"auths": {&registry.host: {"identitytoken": "hunter2"}}}).to_string();
    assert_eq!(one.read(&at, "", &secret(&[(".dockerconfigjson", &refresh)]), "a").await.unwrap(), "one");
    one.fails(&at, "", &nobody(), Code::AuthenticationFailed).await;
    let wrong = secret(&[("username", "ana"), ("password", "hunter2x")]);
    let why = one.fails(&at, "", &wrong, Code::AuthenticationFailed).await;
    assert!(why.contains("token server 127.0.0.1"), "{why}");

    // The token server is not at the registry's own host and has no TLS: it learns nothing.
    tokens.asked();
    let port = registry.host.rsplit(':').next().unwrap();
    let alias = oci(&format!("localhost:{port}"), "ml/private");
    let good = secret(&[("username", "ana"), ("password", "hunter2")]);
    let why = one.fails(&alias, "", &good, Code::AuthenticationFailed).await;
    assert!(why.contains("not protected"), "{why}");
    assert!(tokens.asked().is_empty());
}

#[tokio::test]
async fn a_token_that_is_no_longer_taken_is_replaced() {
    let tokens = Tokens::start(None, 300).await;
    let registry = Registry::start(Doors { tokens: Some(&tokens), ..Doors::default() }).await;
    registry.artifact("ml/private", "latest", &[("a", "one")]).await;
    let front = Front::before(&registry.host).await;
    let (one, at) = (setup(Limits::default()), oci(&front.host, "ml/private"));
    one.snapshot(&at, "", &nobody()).await.unwrap();
    // The registry gets another key: what it gave out before is worth nothing. Here it refuses a while instead.
    front.fault("HEAD", Some(Fault::Status(401)));
    one.fails(&at, "", &nobody(), Code::AuthenticationFailed).await;
    front.fault("HEAD", None);
    tokens.asked();
    one.snapshot(&at, "", &nobody()).await.unwrap();
    assert_eq!(tokens.asked().len(), 1);
}

#[tokio::test]
async fn tls_of_a_registry_by_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("127.0.0.1");
    let files = [
        write("server.pem", &certificate.pem()),
        write("server.key", &key.serialize_pem()),
        write("clients.pem", &authority.certificate.pem()),
    ];
    let storage = folder.path().join("blobs");
    let open = Registry::start(Doors { storage: Some(storage.clone()), ..Doors::default() }).await;
    open.artifact("ml/tls", "latest", &[("a", "one")]).await;
    let registry =
        Registry::start(Doors { tls: Some(files), storage: Some(storage), ..Doors::default() }).await;
    let at = Location::of(&format!("oci://{}/ml/tls", registry.host), "").unwrap();
    let one = setup(Limits::default());
    let (client, client_key) = authority.issue("agent");
    let pair = (client.pem(), client_key.serialize_pem());
    let by = |authority: &Authority| {
        secret(&[("caFile", &authority.certificate.pem()), ("tls.crt", &pair.0), ("tls.key", &pair.1)])
    };
    assert_eq!(one.read(&at, "", &by(&authority), "a").await.unwrap(), "one");
    one.fails(&at, "", &by(&stranger), Code::CertificateRefused).await;
    one.fails(&at, "", &nobody(), Code::CertificateRefused).await;
    // Nobody falls back to a connection without TLS.
    let plain = Location::of(&format!("oci://{}/ml/tls", open.host), "").unwrap();
    assert!(one.snapshot(&plain, "", &nobody()).await.is_err());
}

#[tokio::test]
async fn registries_that_fail() {
    let registry = Registry::open().await;
    let front = Front::before(&registry.host).await;
    registry.artifact("ml/faults", "latest", &[("a", "one")]).await;
    let at = oci(&front.host, "ml/faults");
    // What is not in the cache of an earlier case must come again.
    let fresh = || setup(Limits::default());
    for (part, fault, code) in [
        ("HEAD", Fault::Status(403), Code::AuthenticationFailed),
        ("HEAD", Fault::Status(429), Code::RepositoryUnreachable),
        ("HEAD", Fault::Status(503), Code::RepositoryUnreachable),
        ("HEAD", Fault::Status(404), Code::RevisionNotFound),
        ("GET /v2/ml/faults/manifests", Fault::Corrupt, Code::RepositoryCorrupt),
        ("GET /v2/ml/faults/manifests", Fault::Instead(b"{}".to_vec()), Code::RepositoryCorrupt),
        ("GET /v2/ml/faults/manifests", Fault::Status(404), Code::RevisionNotFound),
        ("GET /v2/ml/faults/manifests", Fault::Endless(5 << 20), Code::SourceTooLarge),
        ("/blobs/", Fault::Corrupt, Code::RepositoryCorrupt),
        ("/blobs/", Fault::Cut(20), Code::RepositoryCorrupt),
        ("/blobs/", Fault::Status(404), Code::RevisionNotFound),
        ("/blobs/", Fault::Status(500), Code::RepositoryUnreachable),
        ("/blobs/", Fault::Redirect("https://".into()), Code::RedirectRefused),
        ("/blobs/", Fault::Redirect("ftp://127.0.0.1/x".into()), Code::RedirectRefused),
        ("/blobs/", Fault::Redirect("/v2/ml/faults/blobs/again".into()), Code::RedirectRefused),
    ] {
        front.fault(part, Some(fault.clone()));
        let why = fresh().fails(&at, "", &nobody(), code).await;
        assert!(why.contains(&front.host), "{fault:?}: {why}");
        front.fault(part, None);
    }
    for part in ["HEAD", "/blobs/"] {
        front.fault(part, Some(Fault::Hang));
        let begin = Instant::now();
        setup(impatient()).fails(&at, "", &nobody(), Code::SourceTimedOut).await;
        assert!(begin.elapsed() < Duration::from_secs(20), "the limits hold");
        front.fault(part, None);
    }
    for fault in [Fault::Without("docker-content-digest"), Fault::Status(405)] {
        front.fault("HEAD", Some(fault));
        assert_eq!(
            fresh().read(&at, "", &nobody(), "a").await.unwrap(),
            "one",
            "the manifest itself tells its digest"
        );
        front.fault("HEAD", None);
    }
    // After a failure the same client goes on.
    let one = fresh();
    front.fault("/blobs/", Some(Fault::Cut(20)));
    one.fails(&at, "", &nobody(), Code::RepositoryCorrupt).await;
    front.fault("/blobs/", None);
    assert_eq!(one.read(&at, "", &nobody(), "a").await.unwrap(), "one");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    one.fails(&oci(&free.to_string(), "a"), "", &nobody(), Code::RepositoryUnreachable).await;
}

#[tokio::test]
async fn layers_beyond_the_limit_are_refused() {
    let registry = Registry::open().await;
    let front = Front::before(&registry.host).await;
    registry.artifact("ml/large", "latest", &[("a", "one")]).await;
    let at = oci(&front.host, "ml/large");
    let why = setup(Limits { archive: 64, ..Limits::default() })
        .fails(&at, "", &nobody(), Code::SourceTooLarge)
        .await;
    assert!(why.contains("64 bytes"), "{why}");
    assert!(!front.asked().iter().any(|asked| asked.what.contains("/blobs/")), "its size is known before");
    // A server that sends more than it said.
    front.fault("/blobs/", Some(Fault::Endless(1 << 20)));
    let small = setup(Limits { archive: 1 << 16, ..Limits::default() });
    small.fails(&at, "", &nobody(), Code::SourceTooLarge).await;
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    let registry = Registry::open().await;
    registry.artifact("ml/fraud", "latest", &[("a", "one")]).await;
    let (front, storage) = (Front::before(&registry.host).await, Front::before(&registry.host).await);
    front.protect("ana:hunter2");
    front.fault("/blobs/", Some(Fault::Elsewhere(format!("http://{}", storage.host))));
    let good = secret(&[("username", "ana"), ("password", "hunter2")]);
    let at = oci(&front.host, "ml/fraud");
    assert_eq!(setup(Limits::default()).read(&at, "", &good, "a").await.unwrap(), "one");
    assert!(front.asked().iter().any(|asked| asked.authorization.is_some()));
    let asked = storage.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None);
    // And a host that was redirected to cannot ask for them.
    storage.protect("other:secret");
    setup(Limits::default()).fails(&at, "", &good, Code::AuthenticationFailed).await;
    assert!(storage.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn what_is_no_artifact_says_so() {
    let registry = Registry::open().await;
    let one = setup(Limits::default());
    let files = archive(&[("a", "one")]);
    // An image of two layers, and an index of two images.
    let blob = registry.blob("ml/x", &files).await;
    let layer = json!({"mediaType": registry::PLAIN[1], "digest": blob, "size": files.len()});
    let config = registry.blob("ml/x", b"{}").await;
    let image = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [layer, layer]});
    let digest_of_image = registry.manifest("ml/x", "image", &image).await;
    let single = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": registry::PLAIN[0], "digest": config, "size": 2}, "layers": [layer]});
    let digest_of_single = registry.manifest("ml/x", "single", &single).await;
    let member = |digest: &str, manifest: &serde_json::Value, os: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": manifest.to_string().len(), "platform": {"os": os, "architecture": "amd64"}})
    };
    let index = |manifests: Vec<serde_json::Value>| json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let (a, b) = (member(&digest_of_image, &image, "linux"), member(&digest_of_single, &single, "linux"));
    registry.manifest("ml/x", "index", &index(vec![a, b.clone()])).await;
    registry.manifest("ml/x", "one", &index(vec![b, member(&digest_of_image, &image, "unknown")])).await;
    let at = oci(&registry.host, "ml/x");
    assert_eq!(one.read(&at, "single", &nobody(), "a").await.unwrap(), "one");
    assert_eq!(one.read(&at, "one", &nobody(), "a").await.unwrap(), "one");
    for (tag, why) in [("image", "2 layers"), ("index", "index of 2")] {
        let said = one.fails(&at, tag, &nobody(), Code::ArchiveInvalid).await;
        assert!(said.contains(why) && said.contains("ml/x"), "{said}");
    }
    registry.push("ml/x", "text", ["application/json", "application/yaml"], b"a: b", json!({})).await;
    let said = one.fails(&at, "text", &nobody(), Code::ArchiveInvalid).await;
    assert!(said.contains("application/yaml"), "{said}");
    // Content that is none of what its type says.
    let zeros = "\0".repeat(65 << 20);
    for (tag, content, why) in [
        ("nonsense", b"nonsense".to_vec(), "cannot be read"),
        ("empty", archive(&[]), ""),
        ("bomb", archive(&[("zeros", &zeros)]), "zeros is larger than"),
    ] {
        registry.push("ml/x", tag, registry::PLAIN, &content, json!({})).await;
        if why.is_empty() {
            let found = one.snapshot(&at, tag, &nobody()).await.unwrap();
            assert!(found.tree().unwrap().list("").unwrap().is_empty());
            continue;
        }
        let said = one.fails(&at, tag, &nobody(), Code::ArchiveInvalid).await;
        assert!(said.contains(why) && said.contains(&format!("ml/x {tag}@sha256:")), "{said}");
    }
}

#[tokio::test]
async fn charts_of_a_registry() {
    let registry = Registry::open().await;
    for version in ["1.2.3", "1.10.0", "2.0.0-rc.1", "1.11.0+build.7"] {
        registry.chart("charts/fraud", version, &packaged("fraud", version, version)).await;
    }
    let one = setup(Limits::default());
    let at = chart(&format!("oci+http://{}/charts", registry.host), "fraud");
    for (revision, expected) in [
        ("", "1.11.0+build.7"),
        ("1.2.3", "1.2.3"),
        ("1.2", "1.2.3"),
        ("~1.10", "1.10.0"),
        ("1.11.0+build.7", "1.11.0+build.7"),
        (">0.0.0-0", "2.0.0-rc.1"),
    ] {
        let found = one
            .snapshot(&at, revision, &nobody())
            .await
            .unwrap_or_else(|error| panic!("{revision}: {error}"));
        assert!(found.commit.starts_with(&format!("{expected}@sha256:")), "{revision}: {}", found.commit);
        assert_eq!(found.subject, format!("fraud {expected}"));
        assert!(read(&found, "Chart.yaml").contains(&format!("version: {expected}\n")));
        assert!(read(&found, "templates/map.yaml").contains("kind: ConfigMap"));
    }
    let why = one.fails(&at, "1.3.0", &nobody(), Code::RevisionNotFound).await;
    assert!(why.contains("no version 1.3.0") && why.contains("1.2.3"), "{why}");
    // Named as an artifact it is the same chart; an artifact is no chart.
    let plain = oci(&registry.host, "charts/fraud");
    assert!(one.read(&plain, "1.2.3", &nobody(), "Chart.yaml").await.unwrap().contains("name: fraud"));
    registry.artifact("charts/manifests", "1.0.0", &[("a.yaml", "")]).await;
    let other = chart(&format!("oci+http://{}/charts", registry.host), "manifests");
    let why = one.fails(&other, "", &nobody(), Code::ArchiveInvalid).await;
    assert!(why.contains("leave out spec.source.chart"), "{why}");
}

pub(crate) fn entry(name: &str, version: &str, archive: &[u8], url: &str) -> String {
    let digest = digest(archive);
    let digest = digest.trim_start_matches("sha256:");
    format!(
        "  - apiVersion: v2\n    appVersion: \"9\"\n    created: 2026-01-02T03:04:05.678Z\n    digest: {digest}\n    name: \
         {name}\n    urls: [{url:?}]\n    version: {version}\n"
    )
}

pub(crate) fn index(charts: &[(&str, &str)]) -> String {
    let mut text = "apiVersion: v1\nentries:\n".to_owned();
    for (name, versions) in charts {
        text.push_str(&format!("  {name}:\n{versions}"));
    }
    text
}

#[tokio::test]
async fn charts_of_a_helm_repository() {
    let front = Front::files().await;
    let [first, second] = ["1.2.3", "1.10.0"].map(|version| packaged("fraud", version, version));
    front.put("/stable/charts/fraud-1.2.3.tgz", first.clone());
    front.put("/stable/charts/fraud-1.10.0.tgz", second.clone());
    let old = entry("fraud", "1.2.3", &first, "charts/fraud-1.2.3.tgz");
    let new =
        entry("fraud", "1.10.0", &second, &format!("http://{}/stable/charts/fraud-1.10.0.tgz", front.host));
    let early = entry("early", "0.1.0-beta", &first, "x");
    front.put("/stable/index.yaml", index(&[("early", &early), ("fraud", &old)]));
    let one = setup(Limits::default());
    let repo = format!("http://{}/stable", front.host);
    let at = chart(&repo, "fraud");
    let found = one.snapshot(&at, "", &nobody()).await.unwrap();
    assert_eq!(found.commit, format!("1.2.3@{}", digest(&first)));
    assert_eq!((found.subject.as_str(), found.time), ("fraud 1.2.3 (of 9)", 1_767_323_045));
    assert!(read(&found, "Chart.yaml").contains("1.2.3"));

    // A poll of an index that has not changed is one 304, for each chart of it.
    front.asked();
    one.snapshot(&at, "", &nobody()).await.unwrap();
    let asked = front.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].status, asked[0].bytes), (304, 0));

    // A new version moves a range and not a version.
    front.put("/stable/index.yaml", index(&[("early", &early), ("fraud", &format!("{old}{new}"))]));
    assert!(one.snapshot(&at, "^1", &nobody()).await.unwrap().commit.starts_with("1.10.0@"));
    assert!(one.snapshot(&at, "1.2.3", &nobody()).await.unwrap().commit.starts_with("1.2.3@"));
    let pinned = format!("1.2.3@{}", digest(&first));
    assert_eq!(setup(Limits::default()).snapshot(&at, &pinned, &nobody()).await.unwrap().commit, pinned);
    let bare = digest(&second);
    assert!(
        read(&setup(Limits::default()).snapshot(&at, &bare, &nobody()).await.unwrap(), "Chart.yaml")
            .contains("1.10.0")
    );

    let why = one.fails(&at, "1.3.0", &nobody(), Code::RevisionNotFound).await;
    assert!(why.contains("no version 1.3.0") && why.contains("1.10.0") && why.contains(&repo), "{why}");
    let why = one.fails(&at, &format!("1.2.3@{}", digest(b"x")), &nobody(), Code::RevisionNotFound).await;
    assert!(why.contains("no version 1.2.3 whose archive is"), "{why}");
    one.fails(&chart(&repo, "early"), "", &nobody(), Code::RevisionNotFound).await;
    let why = one.fails(&chart(&repo, "nothing"), "", &nobody(), Code::RevisionNotFound).await;
    assert!(why.contains("no chart nothing"), "{why}");
    let why = one
        .fails(
            &chart(&format!("http://{}/other", front.host), "fraud"),
            "",
            &nobody(),
            Code::RepositoryUnreachable,
        )
        .await;
    assert!(why.contains("no Helm repository"), "{why}");
}

#[tokio::test]
async fn charts_of_one_repository_share_its_index() {
    let front = Front::files().await;
    front.pack();
    let archives: Vec<Vec<u8>> = (0..5).map(|number| packaged(&format!("c{number}"), "1.0.0", "x")).collect();
    let mut charts = Vec::new();
    for (number, archive) in archives.iter().enumerate() {
        front.put(&format!("/c{number}.tgz"), archive.clone());
        charts.push((format!("c{number}"), entry("c", "1.0.0", archive, &format!("c{number}.tgz"))));
    }
    let charts: Vec<(&str, &str)> =
        charts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let text = index(&charts);
    front.put("/index.yaml", text.clone());
    let one = setup(Limits::default());
    let repo = format!("http://{}", front.host);
    let all: Vec<Location> = charts.iter().map(|(name, _)| chart(&repo, name)).collect();
    for at in &all {
        one.snapshot(at, "", &nobody()).await.unwrap();
    }
    let sent: usize = front.asked().iter().map(|asked| asked.bytes).sum();
    assert!(
        sent < archives.iter().map(Vec::len).sum::<usize>() + 5 * text.len(),
        "it comes compressed: {sent}"
    );
    for at in &all {
        one.snapshot(at, "", &nobody()).await.unwrap();
    }
    let asked = front.asked();
    assert_eq!((asked.len(), asked.iter().map(|asked| asked.bytes).sum::<usize>()), (5, 0), "{asked:?}");
}

#[tokio::test]
async fn charts_that_are_asked_for_at_once_are_one_download() {
    let front = Front::files().await;
    let archive = packaged("c", "1.0.0", "x");
    front.put("/c.tgz", archive.clone());
    let names: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    let text = entry("c", "1.0.0", &archive, "c.tgz");
    let charts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
    front.put("/index.yaml", index(&charts));
    let (one, repo, who) = (setup(Limits::default()), format!("http://{}", front.host), nobody());
    let all: Vec<Location> = names.iter().map(|name| chart(&repo, name)).collect();
    let asked = futures::future::join_all(all.iter().map(|at| one.snapshot(at, "", &who))).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    let downloads =
        front.asked().iter().filter(|asked| asked.what.contains("index") && asked.status == 200).count();
    assert_eq!(downloads, 1);
}

/// What helm 3.22.0 wrote: `helm package`, `helm repo index`, and the manifest of `helm push`.
#[tokio::test]
async fn what_helm_itself_writes_is_read() {
    let front = Front::files().await;
    let recorded = |name: &str| {
        std::fs::read(format!("{}/tests/data/charts/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let (stable, early) = ("fraud-1.2.3+build.7.tgz", "fraud-1.3.0-rc.1.tgz");
    front.put("/index.yaml", recorded("index.yaml"));
    for name in [stable, early] {
        front.put(&format!("/charts/{name}"), recorded(name));
    }
    let (manifest, archive) = (recorded("manifest.json"), recorded(stable));
    front.put(
        "/v2/charts/fraud/tags/list",
        r#"{"name":"charts/fraud","tags":["1.2.3_build.7","1.3.0-rc.1"]}"#,
    );
    front.put("/v2/charts/fraud/manifests/1.2.3_build.7", manifest.clone());
    front.put(&format!("/v2/charts/fraud/manifests/{}", digest(&manifest)), manifest.clone());
    front.put(&format!("/v2/charts/fraud/blobs/{}", digest(&archive)), archive.clone());
    let one = setup(Limits::default());
    let repository = chart(&format!("http://{}", front.host), "fraud");
    let registry = chart(&format!("oci+http://{}/charts", front.host), "fraud");
    let created = 1_795_601_629;
    for (at, digest, subject, author) in [
        (&repository, digest(&archive), "fraud 1.2.3+build.7 (of 2026.1)", ""),
        (&registry, digest(&manifest), "fraud 1.2.3+build.7", "Ana"),
    ] {
        let found = one.snapshot(at, "", &nobody()).await.unwrap();
        assert_eq!(found.commit, format!("1.2.3+build.7@{digest}"), "the newest is no release yet");
        assert_eq!((found.subject.as_str(), found.author.as_str()), (subject, author));
        assert!((found.time - created).abs() < 5, "{}", found.time);
        let names: Vec<String> =
            found.tree().unwrap().list("").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["Chart.yaml", "templates", "values.yaml"]);
    }
    let found = one.snapshot(&repository, ">=1.3.0-0", &nobody()).await.unwrap();
    assert!(found.commit.starts_with("1.3.0-rc.1@"), "{}", found.commit);
}

/// Some repositories list charts that are in a registry; the account of the one is not told to the other.
#[tokio::test]
async fn an_index_may_name_a_registry() {
    let (front, registry) = (Front::files().await, Registry::open().await);
    let behind = Front::before(&registry.host).await;
    front.protect("ana:hunter2");
    let pushed = registry.chart("charts/fraud", "1.0.0+a", &packaged("fraud", "1.0.0+a", "x")).await;
    let url = |tag: &str| format!("oci+http://{}/charts/fraud{tag}", behind.host);
    let versions = entry("fraud", "1.0.0+a", b"another digest", &url(":1.0.0_a"));
    front.put("/index.yaml", index(&[("fraud", &versions), ("bare", &versions.replace(":1.0.0_a", ""))]));
    let one = setup(Limits::default());
    let good = secret(&[("username", "ana"), ("password", "hunter2")]);
    for name in ["fraud", "bare"] {
        let at = chart(&format!("http://{}", front.host), name);
        let found = one.snapshot(&at, "", &good).await.unwrap();
        assert_eq!(found.commit, format!("1.0.0+a@{pushed}"));
        assert!(read(&found, "Chart.yaml").contains("1.0.0+a"));
        // A rollback finds it again.
        let found = setup(Limits::default()).snapshot(&at, &found.commit, &good).await.unwrap();
        assert_eq!(found.commit, format!("1.0.0+a@{pushed}"));
    }
    assert!(behind.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn credentials_of_a_helm_repository_stay_there() {
    let (front, storage) = (Front::files().await, Front::files().await);
    front.protect("ana:hunter2");
    let (near, far) = (packaged("near", "1.0.0", "x"), packaged("far", "1.0.0", "x"));
    front.put("/near.tgz", near.clone());
    storage.put("/far.tgz", far.clone());
    let there = format!("http://{}/far.tgz?signature=hunter2", storage.host);
    front.put(
        "/index.yaml",
        index(&[
            ("far", &entry("far", "1.0.0", &far, &there)),
            ("near", &entry("near", "1.0.0", &near, "near.tgz")),
            ("moved", &entry("moved", "1.0.0", &far, "moved.tgz")),
        ]),
    );
    front.fault("/moved.tgz", Some(Fault::Redirect(there)));
    let repo = format!("http://{}", front.host);
    let one = setup(Limits::default());
    let good = secret(&[("username", "ana"), ("password", "hunter2")]);
    for name in ["near", "far", "moved"] {
        assert!(one.snapshot(&chart(&repo, name), "", &good).await.is_ok(), "{name}");
    }
    assert!(front.asked().iter().all(|asked| asked.authorization.is_some()));
    let asked = storage.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.authorization.is_none()));
    let why = one.fails(&chart(&repo, "near"), "", &nobody(), Code::AuthenticationFailed).await;
    assert!(why.contains("secretRef"), "{why}");
    one.fails(
        &chart(&repo, "near"),
        "",
        &secret(&[("username", "ana"), ("password", "x")]),
        Code::AuthenticationFailed,
    )
    .await;
    // An address that holds a signature is not repeated.
    storage.fault("/far.tgz", Some(Fault::Status(500)));
    let why =
        setup(Limits::default()).fails(&chart(&repo, "far"), "", &good, Code::RepositoryUnreachable).await;
    assert!(why.contains("far.tgz"), "{why}");
}

#[tokio::test]
async fn helm_repositories_that_fail() {
    let front = Front::files().await;
    let archive_of = packaged("fraud", "1.0.0", "x");
    front.put("/fraud.tgz", archive_of.clone());
    let good = index(&[("fraud", &entry("fraud", "1.0.0", &archive_of, "fraud.tgz"))]);
    front.put("/index.yaml", good.clone());
    let at = chart(&format!("http://{}", front.host), "fraud");
    let fresh = || setup(Limits::default());
    for (part, fault, code) in [
        ("/index.yaml", Fault::Status(403), Code::AuthenticationFailed),
        ("/index.yaml", Fault::Status(429), Code::RepositoryUnreachable),
        ("/index.yaml", Fault::Cut(30), Code::RepositoryCorrupt),
        ("/index.yaml", Fault::Instead(b"<html>sign in</html>".to_vec()), Code::RepositoryCorrupt),
        ("/index.yaml", Fault::Instead(vec![0xff, 0xfe]), Code::RepositoryCorrupt),
        ("/fraud.tgz", Fault::Corrupt, Code::RepositoryCorrupt),
        ("/fraud.tgz", Fault::Cut(30), Code::RepositoryCorrupt),
        ("/fraud.tgz", Fault::Status(404), Code::RepositoryCorrupt),
        ("/fraud.tgz", Fault::Status(403), Code::AuthenticationFailed),
    ] {
        front.fault(part, Some(fault.clone()));
        let why = fresh().fails(&at, "", &nobody(), code).await;
        assert!(why.contains(&front.host), "{fault:?}: {why}");
        front.fault(part, None);
    }
    for part in ["/index.yaml", "/fraud.tgz"] {
        front.fault(part, Some(Fault::Hang));
        setup(impatient()).fails(&at, "", &nobody(), Code::SourceTimedOut).await;
        front.fault(part, None);
    }
    setup(Limits { index: 100, ..Limits::default() }).fails(&at, "", &nobody(), Code::SourceTooLarge).await;
    setup(Limits { archive: 100, ..Limits::default() }).fails(&at, "", &nobody(), Code::SourceTooLarge).await;
    // The last good index stays while the server fails.
    let one = fresh();
    one.snapshot(&at, "", &nobody()).await.unwrap();
    front.fault("/index.yaml", Some(Fault::Status(500)));
    one.fails(&at, "", &nobody(), Code::RepositoryUnreachable).await;
    front.fault("/index.yaml", None);
    one.snapshot(&at, "", &nobody()).await.unwrap();
    assert_eq!(front.asked().last().map(|asked| asked.status), Some(304));

    for (url, why) in [
        ("file:///etc/passwd", "not protected"),
        ("oci://ghcr.io/A/b:1", "path holds"),
        ("oci://ghcr.io/a:~", "no tag"),
        ("oci://ghcr.io:1", "path is missing"),
    ] {
        front.put("/index.yaml", index(&[("fraud", &entry("fraud", "1.0.0", &archive_of, url))]));
        let said = one.fails(&at, "", &nobody(), Code::RepositoryCorrupt).await;
        assert!(said.contains(why), "{said}");
    }
    // An archive that is no chart, with a digest that is right.
    let other = archive(&[("a.yaml", "x")]);
    front.put("/other.tgz", other.clone());
    front.put("/index.yaml", index(&[("fraud", &entry("fraud", "1.0.0", &other, "other.tgz"))]));
    let why = one.fails(&at, "", &nobody(), Code::ArchiveInvalid).await;
    assert!(why.contains("no packaged chart") && why.contains("1.0.0@sha256:"), "{why}");
}

#[tokio::test]
async fn an_index_without_digests_is_asked_for_the_archive_once() {
    let front = Front::files().await;
    let archive = packaged("fraud", "1.0.0", "x");
    front.put("/fraud.tgz", archive.clone());
    let text = index(&[("fraud", &entry("fraud", "1.0.0", &archive, "fraud.tgz"))]);
    let text: String =
        text.lines().filter(|line| !line.contains("digest:")).map(|line| format!("{line}\n")).collect();
    front.put("/index.yaml", text);
    let (one, at) = (setup(Limits::default()), chart(&format!("http://{}", front.host), "fraud"));
    let found = one.snapshot(&at, "", &nobody()).await.unwrap();
    assert_eq!(found.commit, format!("1.0.0@{}", digest(&archive)));
    front.asked();
    one.snapshot(&at, "", &nobody()).await.unwrap();
    let asked = front.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].status, 304);
}

/// The main loop with a registry in Git's place.
#[tokio::test]
async fn a_new_tag_rolls_forward_and_a_rollback_holds_a_digest() {
    let world = World::new("artifacts").await;
    let registry = Registry::start(Doors { basic: true, ..Doors::default() }).await;
    let front = Front::before(&registry.host).await;
    let push = async |tag: &str, value: &str, other: &str| {
        let files = [("app/a.yaml", map("a", value)), ("other/b.txt", other.to_owned())];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        format!("{tag}@{}", registry.artifact("ml/fraud", tag, &files).await)
    };
    let first = push("1.0.0", "one", "").await;
    let accounts: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let account = json!({"metadata": {"name": "registry"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson":
            json!({"auths": {&front.host: {"username": "ana", "password": "hunter2"}}}).to_string()}});
    accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
    let repo = format!("oci+http://{}/ml/fraud", front.host);
    let source = json!({"spec": {"source": {
        "repo": repo, "revision": "^1", "path": "app", "secretRef": {"name": "registry"}}}});
    // Several applications are one poll and one copy.
    for name in ["one", "two", "three"] {
        let mut stated = source.clone();
        if name != "one" {
            stated["spec"]["source"]["path"] = "other".into();
            stated["spec"]["sync"] = json!({"allowEmpty": true});
        }
        world.application(name, stated).await;
    }
    for name in ["one", "two", "three"] {
        world.ready(name, &first).await;
    }
    assert_eq!(world.value("a").await.as_deref(), Some("one"));
    let blobs = front.asked().iter().filter(|asked| asked.what.contains("/blobs/")).count();
    assert_eq!(blobs, 1);

    let second = push("1.1.0", "two", "").await;
    world.poke("one").await;
    world.ready("one", &second).await;
    assert_eq!(world.value("a").await.as_deref(), Some("two"));
    let status = world.apps().get("one").await.unwrap().status.unwrap();
    assert_eq!(status.history.last().unwrap().subject, "main@sha1:1.1.0");
    let (code, text, _) = cli(&world, &["get", "one"]).await;
    assert!(code == 0 && text.contains(&second[.."1.1.0@sha256:".len() + 7]), "{text}");

    // What the application does not read changes nothing.
    let third = push("1.2.0", "two", "changed").await;
    world.poke("one").await;
    eventually("the sync request is taken up", || async {
        let app = world.apps().get("one").await.ok()?;
        let status = app.status?;
        (status.observed_revision == third).then_some(())
    })
    .await;
    assert_eq!(world.apps().get("one").await.unwrap().status.unwrap().applied_revision, second);

    // A version that was applied before is held, though the range goes on.
    let (code, text, error) = cli(&world, &["rollback", "one", "1.0.0"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("held at 1.0.0@sha256:"), "{text}");
    world.becomes("a", Some("one")).await;
    world.ready("one", &first).await;
    push("1.3.0", "three", "").await;
    world.poke("one").await;
    world.ready("one", &first).await;
    let (code, text, _) = cli(&world, &["history", "one"]).await;
    assert!(code == 0 && text.contains(&first[.."1.0.0@sha256:".len() + 7]), "{text}");
    let (code, _, error) = cli(&world, &["rollback", "one", "--release"]).await;
    assert_eq!(code, 0, "{error}");
    world.becomes("a", Some("three")).await;

    // A registry that is away changes nothing.
    front.fault("/v2/", Some(Fault::Status(503)));
    world.poke("one").await;
    let why = world.reason("one", "SourceReady", "RepositoryUnreachable").await;
    assert!(why.contains(&front.host) && !why.contains("hunter2"), "{why}");
    assert_eq!(world.value("a").await.as_deref(), Some("three"));
    front.fault("/v2/", None);
    world.reason("one", "SourceReady", "Fetched").await;
}

#[tokio::test]
async fn a_chart_of_a_helm_repository_is_followed() {
    let world = World::new("charts").await;
    let front = Front::files().await;
    let first = packaged("fraud", "1.2.3", "one");
    front.put("/fraud-1.2.3.tgz", first.clone());
    let old = entry("fraud", "1.2.3", &first, "fraud-1.2.3.tgz");
    front.put("/index.yaml", index(&[("fraud", &old)]));
    let source = json!({"spec": {"source": {
        "repo": format!("http://{}", front.host), "chart": "fraud", "revision": "~1.2", "path": ""}}});
    world.application("fraud", source).await;
    let observed = async |wanted: String| {
        eventually(&format!("the chart is seen at {wanted}"), || async {
            let status = world.apps().get("fraud").await.ok()?.status?;
            (status.observed_revision == wanted && status.holds("SourceReady")).then_some(())
        })
        .await;
    };
    observed(format!("1.2.3@{}", digest(&first))).await;
    let second = packaged("fraud", "1.2.4", "two");
    front.put("/fraud-1.2.4.tgz", second.clone());
    let new = entry("fraud", "1.2.4", &second, "fraud-1.2.4.tgz");
    front.put("/index.yaml", index(&[("fraud", &format!("{old}{new}"))]));
    world.poke("fraud").await;
    observed(format!("1.2.4@{}", digest(&second))).await;
}

#[tokio::test]
async fn commands_read_artifacts_without_an_agent() {
    let registry = Registry::open().await;
    registry.artifact("ml/fraud", "1.0.0", &[("app/a.yaml", &map("a", "one"))]).await;
    let folder = tempfile::tempdir().unwrap();
    let render = |source: serde_json::Value| {
        let file = folder.path().join("app.json");
        let app = json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Application",
            "metadata": {"name": "fraud", "namespace": "ml"}, "spec": {"source": source}});
        std::fs::write(&file, app.to_string()).unwrap();
        let command = std::process::Command::new(crate::harness::cluster::program())
            .arg("render")
            .arg(&file)
            .env("XDG_CACHE_HOME", folder.path())
            .env_remove("KUBECONFIG")
            .output();
        tokio::task::spawn_blocking(|| command.unwrap())
    };
    let repo = format!("oci+http://{}/ml/fraud", registry.host);
    let done = render(json!({"repo": repo, "revision": "1.x || 1.0.0", "path": "app"})).await.unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("value: one") && text.contains("namespace: ml"), "{text}");
    for (source, code, why) in [
        (json!({"repo": repo, "revision": "2.0.0"}), 3, "there is 1.0.0"),
        (json!({"repo": repo, "revision": "1.0.0", "path": "nowhere"}), 3, "nowhere does not exist"),
        (json!({"repo": format!("{repo}:1.0.0")}), 3, "belongs in revision"),
        (json!({"repo": repo, "revision": "a/b"}), 2, "no tag that a registry takes"),
    ] {
        let done = render(source.clone()).await.unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(code), "{source}: {said}");
        assert!(said.contains(why) && said.contains("ml/fraud"), "{said}");
    }
}

/// What one source reads of another counts for that other: its unrelated changes render nothing again.
#[tokio::test]
async fn reads_in_another_source_are_counted_there() {
    use driftless::agent::{Capable, Given, Materials, Remotes, render_sources, settings, unchanged};
    use driftless::api::ApplicationSpec;
    use driftless::render::Cache;
    let folder = tempfile::tempdir().unwrap();
    let repository = |name: &str| {
        let path = folder.path().join(name);
        let url = format!("file://{}", path.display());
        Repository::create(&path, url)
    };
    let (main, values) = (repository("main"), repository("values"));
    main.commit(&[("kustomization.yaml", "resources: [$values/prod/map.yaml]\n")], "First");
    values.commit(
        &[("prod/map.yaml", &map("a", "one")), ("own/b.yaml", &map("b", "own")), ("x", "1")],
        "First",
    );
    let spec: ApplicationSpec = serde_json::from_value(json!({"sources": [
        {"repo": main.url}, {"repo": values.url, "name": "values", "path": "own"}]}))
    .unwrap();
    let one = setup(Limits::default());
    let snapshots = async || {
        let mut all = Vec::new();
        for repository in [&main, &values] {
            all.push(one.snapshot(&Location::parse(&repository.url).unwrap(), "", &nobody()).await.unwrap());
        }
        all
    };
    let render = |snapshots: &[Snapshot]| {
        let (materials, cache, capable) = (Materials::default(), Cache::new(0, 0), Capable::default());
        let given = Given {
            snapshots,
            materials: &materials,
            cache: &cache,
            capable: &capable,
            remotes: &Remotes::default(),
        };
        let settings = settings("ml", "fraud", &spec);
        let sourced = render_sources(&spec, &settings, given).unwrap();
        sourced.prepare(&settings, |_| Some(true), |_| None).unwrap()
    };
    let first = snapshots().await;
    let rendered = render(&first);
    let names: Vec<&str> = rendered.prepared.desired.iter().map(|object| object.key.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(rendered.reads[1].iter().any(|(path, _)| path.starts_with("prod")), "{:?}", rendered.reads);
    assert!(rendered.reads[0].iter().all(|(path, _)| !path.starts_with('$')), "{:?}", rendered.reads);
    assert!(unchanged(&rendered.reads, &first));
    values.commit(&[("x", "2")], "Unrelated");
    assert!(unchanged(&rendered.reads, &snapshots().await));
    values.commit(&[("prod/map.yaml", &map("a", "two"))], "Related");
    let moved = snapshots().await;
    assert!(!unchanged(&rendered.reads, &moved));
    assert_ne!(render(&moved).digest, rendered.digest);
}
