//! Polls and fetches against real Git servers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use driftless::error::Code;
use driftless::render::Tree;
use driftless::source::{Client, Credentials, Limits, Location, Revision};

use crate::harness::git::{Fault, Server};
use crate::harness::ssh;

pub(crate) struct Setup {
    pub(crate) client: Client,
    cache: tempfile::TempDir,
}

pub(crate) fn setup(limits: Limits) -> Setup {
    let cache = tempfile::tempdir().unwrap();
    Setup { client: Client::new(cache.path(), limits), cache }
}

pub(crate) fn secret(pairs: &[(&str, &str)]) -> Credentials {
    let data: BTreeMap<String, Vec<u8>> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    Credentials::from_secret(&data).unwrap()
}

impl Setup {
    /// Resolves and fetches; the content of a file.
    pub(crate) async fn read(
        &self,
        location: &Location,
        revision: &str,
        credentials: &Credentials,
        path: &str,
    ) -> driftless::error::Result<String> {
        let resolved = self.client.resolve(location, &Revision::of(location, revision)?, credentials).await?;
        let snapshot = self.client.fetch(location, &resolved.commit, credentials).await?;
        let bytes = tokio::task::spawn_blocking({
            let path = path.to_owned();
            move || snapshot.tree()?.read(&path)
        });
        Ok(String::from_utf8(bytes.await.unwrap()?).unwrap())
    }
}

#[tokio::test]
async fn a_poll_is_one_small_request_whatever_the_number_of_refs() {
    let git = Server::start().await;
    let repository = git.repository("many");
    let head = repository.commit(&[("a", "1")], "First");
    for number in 0..5000 {
        repository.reference(&format!("refs/heads/branch-{number}"), &head);
    }
    let one = setup(Limits::default());
    let location = Location::parse(&repository.url).unwrap();
    git.traffic();
    let found = one
        .client
        .resolve(&location, &Revision::parse("main").unwrap(), &Credentials::default())
        .await
        .unwrap();
    assert_eq!(found.commit, head);
    let (requests, bytes) = git.traffic();
    assert_eq!(requests, 1);
    assert!(bytes < 1000, "{bytes} bytes");
    // A second fetch of a commit that is at hand asks nothing.
    one.read(&location, "main", &Credentials::default(), "a").await.unwrap();
    git.traffic();
    one.client.fetch(&location, &head, &Credentials::default()).await.unwrap();
    assert_eq!(git.traffic().0, 0);
}

#[tokio::test]
async fn every_kind_of_revision_is_found() {
    let git = Server::start().await;
    let repository = git.repository("kinds");
    let first = repository.commit(&[("a", "one")], "First");
    repository.reference("refs/tags/v1.2.0", &first);
    let second = repository.commit(&[("a", "two")], "Second");
    repository.reference("refs/tags/v1.10.0", &second);
    let third = repository.commit(&[("a", "three")], "Third");
    repository.reference("refs/heads/topic", &third);
    let one = setup(Limits::default());
    let file = Location::parse(&format!("file://{}", repository.folder().display())).unwrap();
    for location in [Location::parse(&repository.url).unwrap(), file] {
        for (revision, expected) in [
            ("", "three"),
            ("main", "three"),
            ("topic", "three"),
            ("v1.2.0", "one"),
            ("refs/tags/v1.10.0", "two"),
            (">=1.0 <2", "two"),
            ("~1.2", "one"),
            (first.as_str(), "one"),
        ] {
            let found = one.read(&location, revision, &Credentials::default(), "a").await;
            assert_eq!(found.as_deref().ok(), Some(expected), "{location} {revision:?}: {found:?}");
        }
        for revision in ["nobody", ">=3", &"0".repeat(40)] {
            let error = one.read(&location, revision, &Credentials::default(), "a").await.unwrap_err();
            assert_eq!(error.code, Code::RevisionNotFound, "{location} {revision}: {error}");
        }
    }
}

#[tokio::test]
async fn servers_of_the_first_protocol_are_understood() {
    let git = Server::start().await;
    let repository = git.repository("old");
    repository.commit(&[("a", "one")], "First");
    git.fault("old", Some(Fault::Classic));
    let one = setup(Limits::default());
    let location = Location::parse(&repository.url).unwrap();
    assert_eq!(one.read(&location, "main", &Credentials::default(), "a").await.unwrap(), "one");
    let second = repository.commit(&[("a", "two")], "Second");
    repository.reference("refs/tags/v1.0.0", &second);
    assert_eq!(one.read(&location, "*", &Credentials::default(), "a").await.unwrap(), "two");
    assert_eq!(one.read(&location, "main", &Credentials::default(), "a").await.unwrap(), "two");
}

#[tokio::test]
async fn whether_a_branch_went_on_is_known() {
    let git = Server::start().await;
    let repository = git.repository("history");
    let commits: Vec<String> =
        (0..4).map(|number| repository.commit(&[("a", &format!("{number}"))], "Commit")).collect();
    let [first, second, _, last] = commits.as_slice() else { unreachable!() };
    repository.force(first);
    let aside = repository.commit(&[("a", "aside")], "Aside");
    repository.reference("refs/heads/aside", &aside);
    repository.remove_reference("refs/heads/main");
    let alone = repository.commit(&[("a", "alone")], "No parent");
    repository.reference("refs/heads/alone", &alone);
    repository.force(last);
    let gone = "0123456789".repeat(4);
    let ssh = ssh::Server::start(git.root(), true).await;
    let key = secret(&[("identity", &ssh.identity), ("known_hosts", &ssh.known_hosts)]);
    let http = Location::parse(&repository.url).unwrap();
    let by_ssh = Location::parse(&format!("ssh://git@127.0.0.1:{}/history.git", ssh.port)).unwrap();
    let local = Location::parse(&format!("file://{}", repository.folder().display())).unwrap();
    let settings = || git2::Repository::open(repository.folder()).unwrap().config().unwrap();
    let none = Credentials::default();
    for (how, location, credentials) in [
        ("plain", &http, &none),
        ("filter", &http, &none),
        ("classic", &http, &none),
        ("ssh", &by_ssh, &key),
        ("local", &local, &none),
    ] {
        settings().set_bool("uploadpack.allowFilter", how != "plain").unwrap();
        settings().set_bool("uploadpack.allowAnySHA1InWant", true).unwrap();
        git.fault("history", (how == "classic").then_some(Fault::Classic));
        let one = setup(Limits::default());
        if how == "classic" {
            one.read(location, "main", credentials, "a").await.unwrap();
        }
        for (old, new, wanted) in [
            (first, last, true),
            (second, last, true),
            (last, last, true),
            (last, second, false),
            (last, &aside, false),
            (first, &aside, true),
            (&aside, last, false),
            (last, &alone, false),
            (&gone, last, false),
        ] {
            let found = one.client.descends(location, old, new, credentials).await;
            assert_eq!(found.as_ref().ok(), Some(&wanted), "{how}: {old} to {new}: {found:?}");
        }
        git.traffic();
        assert!(one.client.descends(location, first, last, credentials).await.unwrap());
        assert_eq!(git.traffic().0, 0, "{how}: it was asked before");
        let left: Vec<_> = std::fs::read_dir(one.cache.path())
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter(|name| name.starts_with("history"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "{how}");
    }
}

#[tokio::test]
async fn ssh_lets_in_the_right_key_to_the_known_host_only() {
    let git = Server::start().await;
    let repository = git.repository("ml/private");
    repository.commit(&[("a", "one")], "First");
    let one = setup(Limits::default());
    for passes_environment in [true, false] {
        let ssh = ssh::Server::start(git.root(), passes_environment).await;
        let location = Location::parse(&format!("ssh://git@127.0.0.1:{}/ml/private.git", ssh.port)).unwrap();
        let good = secret(&[("identity", &ssh.identity), ("known_hosts", &ssh.known_hosts)]);
        let expected = if passes_environment { "one" } else { "two" };
        assert_eq!(one.read(&location, "main", &good, "a").await.unwrap(), expected);
        let commit = repository.commit(&[("a", "two"), ("b", &"x".repeat(50_000))], "Second");
        assert_eq!(one.read(&location, "main", &good, "a").await.unwrap(), "two");
        assert_eq!(one.read(&location, &commit, &good, "a").await.unwrap(), "two");

        let other = ssh::Server::start(git.root(), true).await;
        let stranger = secret(&[("identity", &other.identity), ("known_hosts", &ssh.known_hosts)]);
        let error = one.read(&location, "main", &stranger, "a").await.unwrap_err();
        assert_eq!(error.code, Code::AuthenticationFailed, "{error}");
        let line = other.known_hosts.replace(&other.port.to_string(), &ssh.port.to_string());
        for lines in [line.as_str(), other.known_hosts.as_str(), ""] {
            let error = one
                .read(&location, "main", &secret(&[("identity", &ssh.identity), ("known_hosts", lines)]), "a")
                .await
                .unwrap_err();
            assert_eq!(error.code, Code::HostKeyUnknown, "{error}");
            assert!(error.to_string().contains("SHA256:"), "{error}");
        }
        let error = one
            .read(&location, "main", &secret(&[("identity", "PRIVATE 7"), ("known_hosts", "x y z")]), "a")
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::CredentialsInvalid);
        assert!(!error.to_string().contains("PRIVATE 7"), "{error}");
        let missing = Location::parse(&format!("ssh://git@127.0.0.1:{}/ml/nothing.git", ssh.port)).unwrap();
        let error = one.read(&missing, "main", &good, "a").await.unwrap_err();
        assert_eq!(error.code, Code::RepositoryUnreachable, "{error}");
    }
    let none = Location::parse("git@127.0.0.1:x").unwrap();
    assert_eq!(
        one.read(&none, "main", &Credentials::default(), "a").await.unwrap_err().code,
        Code::CredentialsInvalid
    );
}

#[tokio::test]
async fn ssh_works_with_openssh() {
    let Some(sshd) = ssh::OpenSsh::start().await else {
        // The server of the harness has been asked the same; the machines of CI have the real one.
        assert!(std::env::var_os("CI").is_none(), "CI needs OpenSSH's server");
        return;
    };
    let git = Server::start().await;
    let repository = git.repository("ml/private");
    repository.commit(&[("a", "one")], "First");
    let one = setup(Limits::default());
    let path = git.root().join("ml/private.git");
    let location =
        Location::parse(&format!("ssh://{}@127.0.0.1:{}{}", sshd.user, sshd.port, path.display())).unwrap();
    let good = secret(&[("identity", &sshd.identity), ("known_hosts", &sshd.known_hosts)]);
    assert_eq!(one.read(&location, "main", &good, "a").await.unwrap(), "one");
    let commit = repository.commit(&[("a", "two"), ("b", &"x".repeat(50_000))], "Second");
    assert_eq!(one.read(&location, "main", &good, "a").await.unwrap(), "two");
    assert_eq!(one.read(&location, &commit, &good, "a").await.unwrap(), "two");

    let other = ssh::Server::start(git.root(), true).await;
    let stranger = secret(&[("identity", &other.identity), ("known_hosts", &sshd.known_hosts)]);
    let error = one.read(&location, "main", &stranger, "a").await.unwrap_err();
    assert_eq!(error.code, Code::AuthenticationFailed, "{error}");
    let wrong = other.known_hosts.replace(&other.port.to_string(), &sshd.port.to_string());
    let mistaken = secret(&[("identity", &sshd.identity), ("known_hosts", &wrong)]);
    let error = one.read(&location, "main", &mistaken, "a").await.unwrap_err();
    assert_eq!(error.code, Code::HostKeyUnknown, "{error}");
}

#[tokio::test]
async fn servers_that_hang_or_are_away_are_given_up() {
    let git = Server::start().await;
    let repository = git.repository("slow");
    let head = repository.commit(&[("a", "one")], "First");
    let limit = Duration::from_secs(1);
    let one = setup(Limits { connect: limit, idle: limit, poll: limit, fetch: limit, ..Limits::default() });
    let location = Location::parse(&repository.url).unwrap();
    git.fault("slow", Some(Fault::Hang));
    let begin = Instant::now();
    let error = one.read(&location, "main", &Credentials::default(), "a").await.unwrap_err();
    assert_eq!(error.code, Code::SourceTimedOut, "{error}");
    let error = one.client.fetch(&location, &head, &Credentials::default()).await.unwrap_err();
    assert_eq!(error.code, Code::SourceTimedOut, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(20), "the limits hold");
    git.fault("slow", None);
    assert_eq!(one.read(&location, "main", &Credentials::default(), "a").await.unwrap(), "one");

    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = one
        .read(&Location::parse(&format!("http://{free}/x")).unwrap(), "main", &Credentials::default(), "a")
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::RepositoryUnreachable, "{error}");
    let error = one
        .read(&Location::parse("/nowhere/at/all").unwrap(), "main", &Credentials::default(), "a")
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::RepositoryUnreachable, "{error}");
}

#[tokio::test]
async fn a_pack_larger_than_the_limit_is_refused() {
    let git = Server::start().await;
    let repository = git.repository("large");
    // Not compressible: a xorshift's bytes in hexadecimal.
    let mut seed = 7u64;
    let text: String = (0..20_000)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            format!("{seed:016x}")
        })
        .collect();
    repository.commit(&[("a", &text)], "First");
    let one = setup(Limits { pack: 64 << 10, ..Limits::default() });
    let error = one
        .read(&Location::parse(&repository.url).unwrap(), "main", &Credentials::default(), "a")
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::SourceTooLarge, "{error}");
}

pub(crate) struct Authority {
    pub(crate) certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(parameters, key) }
    }

    pub(crate) fn issue(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        self.issue_until(name, 2090)
    }

    /// Good until the first day of a year.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

#[tokio::test]
async fn tls_by_a_private_authority_and_client_certificates() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue("127.0.0.1");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(roots.into()).build().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let git = Server::start_tls(config.into()).await;
    let repository = git.repository("private");
    repository.commit(&[("a", "one")], "First");
    let location = Location::parse(&repository.url).unwrap();
    let one = setup(Limits::default());
    let (client, client_key) = authority.issue("agent");
    let pair = (client.pem(), client_key.serialize_pem());
    let good =
        secret(&[("caFile", &authority.certificate.pem()), ("tls.crt", &pair.0), ("tls.key", &pair.1)]);
    assert_eq!(one.read(&location, "main", &good, "a").await.unwrap(), "one");
    let untrusted =
        secret(&[("caFile", &stranger.certificate.pem()), ("tls.crt", &pair.0), ("tls.key", &pair.1)]);
    let error = one.read(&location, "main", &untrusted, "a").await.unwrap_err();
    assert_eq!(error.code, Code::CertificateRefused, "{error}");
    let error = one.read(&location, "main", &Credentials::default(), "a").await.unwrap_err();
    assert_eq!(error.code, Code::CertificateRefused, "{error}");
    let without = secret(&[("caFile", &authority.certificate.pem())]);
    assert!(one.read(&location, "main", &without, "a").await.is_err(), "the server asks for a certificate");
    for broken in [("caFile", "nonsense"), ("tls.crt", "nonsense")] {
        let credentials =
            if broken.0 == "caFile" { secret(&[broken]) } else { secret(&[broken, ("tls.key", "nonsense")]) };
        let error = one.read(&location, "main", &credentials, "a").await.unwrap_err();
        assert_eq!(error.code, Code::CredentialsInvalid, "{error}");
    }
}

/// GitHub itself cannot run here: this stands for the one request that an App makes, and checks its signature.
#[tokio::test]
async fn a_github_app_gets_a_token_for_its_key() {
    use axum::http::{HeaderMap, StatusCode};
    use base64::Engine as _;
    use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
    let key = rsa::RsaPrivateKey::new(&mut russh::keys::key::safe_rng(), 2048).unwrap();
    let public = key.to_public_key().to_pkcs1_der().unwrap().as_bytes().to_vec();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = asked.clone();
    let answer = move |headers: HeaderMap| {
        let (public, counter) = (public.clone(), counter.clone());
        async move {
            let given =
                headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let (signed, signature) =
                given.strip_prefix("Bearer ").and_then(|jwt| jwt.rsplit_once('.')).unwrap_or_default();
            let decode = |text: &str| {
                base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
            };
            let claims: serde_json::Value =
                serde_json::from_slice(&decode(signed.split('.').nth(1).unwrap_or_default()))
                    .unwrap_or_default();
            let verified =
                ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public)
                    .verify(signed.as_bytes(), &decode(signature));
            if verified.is_err() || claims["iss"] != "42" {
                return (StatusCode::UNAUTHORIZED, "{}".to_owned());
            }
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (StatusCode::CREATED, r#"{"token": "ghs_canary"}"#.to_owned())
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/app/installations/7/access_tokens", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let git = Server::start().await;
    let repository = git.repository("app");
    repository.commit(&[("a", "one")], "First");
    git.protect("app", "x-access-token:ghs_canary");
    let location = Location::parse(&repository.url).unwrap();
    let one = setup(Limits::default());
    let pem = key.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF).unwrap();
    let app = |id: &str| {
        secret(&[
            ("githubAppID", id),
            ("githubAppInstallationID", "7"),
            ("githubAppPrivateKey", &pem),
            ("githubAppBaseURL", &api),
        ])
    };
    let good = app("42");
    assert_eq!(one.read(&location, "main", &good, "a").await.unwrap(), "one");
    one.client.resolve(&location, &Revision::parse("main").unwrap(), &good).await.unwrap();
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1, "the token is kept");
    let error = one.read(&location, "main", &app("13"), "a").await.unwrap_err();
    assert_eq!(error.code, Code::AuthenticationFailed, "{error}");
    assert!(!error.to_string().contains("ghs_canary"), "{error}");
}
