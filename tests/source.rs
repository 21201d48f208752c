//! Polls and fetches against real Git servers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use driftless::error::Code;
use driftless::render::Tree;
use driftless::source::{Client, Credentials, Limits, Location, Revision};

use crate::harness::git::{Fault, Server};
use crate::harness::ssh;

struct Setup {
    client: Client,
    _cache: tempfile::TempDir,
}

fn setup(limits: Limits) -> Setup {
    let cache = tempfile::tempdir().unwrap();
    Setup { client: Client::new(cache.path(), limits), _cache: cache }
}

fn secret(pairs: &[(&str, &str)]) -> Credentials {
    let data: BTreeMap<String, Vec<u8>> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    Credentials::from_secret(&data).unwrap()
}

impl Setup {
    /// Resolves and fetches; the content of a file.
    async fn read(
        &self,
        location: &Location,
        revision: &str,
        credentials: &Credentials,
        path: &str,
    ) -> driftless::error::Result<String> {
        let resolved = self.client.resolve(location, &Revision::parse(revision)?, credentials).await?;
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
async fn servers_that_hang_or_are_away_are_given_up() {
    let git = Server::start().await;
    let repository = git.repository("slow");
    let head = repository.commit(&[("a", "one")], "First");
    let limit = Duration::from_millis(300);
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
