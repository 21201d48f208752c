//! A real registry on loopback (the distribution project's), a token server for it, and what a pipeline pushes to it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::cluster::SHELL;

/// Whom the registry lets in.
#[derive(Default)]
pub(crate) struct Doors<'a> {
    /// Only [`ACCOUNT`].
    pub(crate) basic: bool,
    /// A token server.
    pub(crate) tokens: Option<&'a Tokens>,
    /// Files of certificate, key and the authority of clients.
    pub(crate) tls: Option<[std::path::PathBuf; 3]>,
    /// Where its blobs are; a folder of its own where not given.
    pub(crate) storage: Option<std::path::PathBuf>,
}

/// Name and password.
pub(crate) const ACCOUNT: &str = "ana:hunter2";
/// As `htpasswd -B` writes it.
const HASHED: &str = "ana:$2y$05$/pn09zStK6ggVBqiz2c6/.idp3qhNTQ8GCLrgYXMS9OnaYXfqh3Aq";

/// A running registry; ends when dropped, or with this process.
pub(crate) struct Registry {
    shell: Child,
    alive: Option<ChildStdin>,
    _folder: tempfile::TempDir,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    /// What is sent to push.
    authorization: Option<String>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.shell.wait();
    }
}

/// The registry of the distribution project, built by the first test that needs it.
fn program() -> std::path::PathBuf {
    static PROGRAM: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/control-plane/registry/build.sh");
            let built = Command::new(script).stderr(Stdio::inherit()).output().expect("run build.sh");
            assert!(built.status.success(), "the registry could not be built");
            String::from_utf8(built.stdout).expect("a path").trim().into()
        })
        .clone()
}

impl Registry {
    /// Starts one that lets everybody in.
    pub(crate) async fn open() -> Self {
        Self::start(Doors::default()).await
    }

    /// Starts one.
    pub(crate) async fn start(doors: Doors<'_>) -> Self {
        let program = tokio::task::spawn_blocking(program).await.expect("built");
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            path.display().to_string()
        };
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let host = format!("127.0.0.1:{port}");
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {
                "filesystem": {"rootdirectory": doors.storage.unwrap_or_else(|| folder.path().join("blobs"))},
                "delete": {"enabled": true}},
            "http": {"addr": host, "secret": "test"},
        });
        let mut authorization = None;
        if doors.basic {
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": write("accounts", HASHED)}});
            authorization = Some(format!("Basic {}", STANDARD.encode(ACCOUNT)));
        }
        if let Some(tokens) = doors.tokens {
            config["auth"] = json!({"token": {
                "realm": tokens.realm, "service": "test", "issuer": "tests",
                "rootcertbundle": write("tokens.pem", &tokens.shared.certificate)}});
            authorization = Some(format!("Bearer {}", tokens.shared.sign(&["pull", "push"], "*")));
        }
        let scheme = if let Some([certificate, key, authority]) = &doors.tls {
            config["http"]["tls"] = json!({"certificate": certificate, "key": key, "clientcas": [authority]});
            "https"
        } else {
            "http"
        };
        let config = write("config.yml", &config.to_string());
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh"])
            .arg(program)
            .args(["serve", &config])
            // It tells its traces to a collector where this is not set.
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log")).expect("a log"))
            .spawn()
            .expect("start the registry");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("its id");
        let alive = shell.stdin.take();
        let registry = Self { shell, alive, _folder: folder, host, authorization };
        super::eventually(&format!("the registry listens at {scheme}://{}", registry.host), || async {
            tokio::net::TcpStream::connect(&registry.host).await.ok()
        })
        .await;
        registry
    }

    async fn sent(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
        answer
    }

    /// Pushes a blob; its digest.
    pub(crate) async fn blob(&self, repository: &str, content: &[u8]) -> String {
        let client = client();
        let begin = client.post(format!("http://{}/v2/{repository}/blobs/uploads/", self.host));
        let answer = self.sent(begin).await;
        let to = answer.headers()["location"].to_str().expect("text").to_owned();
        let to = if to.starts_with('/') { format!("http://{}{to}", self.host) } else { to };
        let digest = digest(content);
        let joint = if to.contains('?') { '&' } else { '?' };
        let put = client
            .put(format!("{to}{joint}digest={digest}"))
            .header("content-type", "application/octet-stream")
            .body(content.to_vec());
        self.sent(put).await;
        digest
    }

    /// Pushes a manifest under a tag; its digest.
    pub(crate) async fn manifest(&self, repository: &str, tag: &str, manifest: &Value) -> String {
        let text = manifest.to_string();
        let kind = manifest["mediaType"].as_str().expect("a media type").to_owned();
        let put = client()
            .put(format!("http://{}/v2/{repository}/manifests/{tag}", self.host))
            .header("content-type", kind)
            .body(text.clone());
        self.sent(put).await;
        digest(text.as_bytes())
    }

    /// Pushes an archive as an artifact with these media types and annotations; the manifest's digest.
    pub(crate) async fn push(
        &self,
        repository: &str,
        tag: &str,
        [config, layer]: [&str; 2],
        archive: &[u8],
        annotations: Value,
    ) -> String {
        let (first, second) = (self.blob(repository, b"{}").await, self.blob(repository, archive).await);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": config, "digest": first, "size": 2},
            "layers": [{"mediaType": layer, "digest": second, "size": archive.len()}],
            "annotations": annotations,
        });
        self.manifest(repository, tag, &manifest).await
    }

    /// Pushes manifests as `flux push artifact` does; the manifest's digest.
    pub(crate) async fn artifact(&self, repository: &str, tag: &str, files: &[(&str, &str)]) -> String {
        let annotations = json!({
            "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
            "org.opencontainers.image.revision": format!("main@sha1:{tag}"),
            "org.opencontainers.image.source": "https://git.example/ml/platform.git",
        });
        self.push(repository, tag, FLUX, &archive(files), annotations).await
    }

    /// Pushes a chart as `helm push` does; the manifest's digest.
    pub(crate) async fn chart(&self, repository: &str, version: &str, archive: &[u8]) -> String {
        let title = repository.rsplit('/').next().unwrap_or_default();
        let annotations = json!({
            "org.opencontainers.image.title": title, "org.opencontainers.image.version": version});
        self.push(repository, &version.replace('+', "_"), CHART, archive, annotations).await
    }
}

/// A client that goes straight to where it is sent.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    builder.build().expect("a client")
}

/// Media types of configuration and content of Flux's artifacts.
pub(crate) const FLUX: [&str; 2] =
    ["application/vnd.cncf.flux.config.v1+json", "application/vnd.cncf.flux.content.v1.tar+gzip"];
/// Of Helm's charts.
pub(crate) const CHART: [&str; 2] =
    ["application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"];
/// Of what `oras` and Argo CD take.
pub(crate) const PLAIN: [&str; 2] =
    ["application/vnd.oci.empty.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"];

/// `sha256:` and the hash.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes)))
}

/// Compresses.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

/// A gzipped tar archive of some files.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_bytes()).expect("added");
    }
    gzip(&builder.into_inner().expect("ended"))
}

/// A packaged chart with one template and one value.
pub(crate) fn packaged(name: &str, version: &str, value: &str) -> Vec<u8> {
    archive(&[
        (&format!("{name}/Chart.yaml"), &format!("apiVersion: v2\nname: {name}\nversion: {version}\n")),
        (&format!("{name}/values.yaml"), &format!("value: {value:?}\n")),
        (
            &format!("{name}/templates/map.yaml"),
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {value: {{ .Values.value | \
             quote }}}\n",
        ),
    ])
}

struct Signer {
    key: rcgen::KeyPair,
    /// PEM.
    certificate: String,
    der: Vec<u8>,
    /// `name:password` whom tokens are given; everybody where `None`.
    account: Option<String>,
    seconds: u64,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

impl Signer {
    /// A token as the registry checks it: signed with the key of the certificate that it trusts.
    fn sign(&self, actions: &[&str], name: &str) -> String {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.der)]});
        let names: Vec<&str> = if name == "*" { vec!["ml/private", "charts/private"] } else { vec![name] };
        let access: Vec<Value> = names
            .iter()
            .map(|name| json!({"type": "repository", "name": name, "actions": actions}))
            .collect();
        let claims = json!({
            "iss": "tests", "sub": "", "aud": "test", "exp": now + 600, "nbf": now - 10, "iat": now,
            "jti": now.to_string(), "access": access});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let random = ring::rand::SystemRandom::new();
        let pair = ring::signature::EcdsaKeyPair::from_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &self.key.serialize_der(),
            &random,
        )
        .expect("a key");
        let signature = pair.sign(&random, signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A token server. It is a fake: what it gives is what the real registry demands, how it decides is made up.
pub(crate) struct Tokens {
    shared: Arc<Signer>,
    /// Where tokens are asked for.
    pub(crate) realm: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tokens {
    /// Gives tokens that it says last so many seconds to one account, or to everybody.
    pub(crate) async fn start(account: Option<&str>, seconds: u64) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::default();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let shared = Arc::new(Signer {
            key,
            certificate: certificate.pem(),
            der: certificate.der().to_vec(),
            account: account.map(str::to_owned),
            seconds,
            asked: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let realm = format!("http://{}/token", listener.local_addr().expect("an address"));
        let router = axum::Router::new()
            .route("/token", axum::routing::get(give).post(refresh))
            .with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Self { shared, realm, task }
    }

    /// Queries and who asked, since the last call.
    pub(crate) fn asked(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut *self.shared.asked.lock().expect("not poisoned"))
    }
}

fn parameter(query: &str, name: &str) -> String {
    let found = reqwest::Url::parse(&format!("http://x/?{query}")).expect("a query");
    found.query_pairs().find(|(key, _)| key == name).map(|(_, text)| text.into_owned()).unwrap_or_default()
}

fn token(signer: &Signer, query: &str) -> String {
    let scope = parameter(query, "scope");
    let name = scope.split(':').nth(1).unwrap_or_default();
    json!({"token": signer.sign(&["pull"], name), "expires_in": signer.seconds}).to_string()
}

async fn give(
    State(signer): State<Arc<Signer>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let query = query.unwrap_or_default();
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    signer.asked.lock().expect("not poisoned").push((query.clone(), given.clone()));
    let expected = signer.account.as_ref().map(|account| format!("Basic {}", STANDARD.encode(account)));
    if expected.is_some() && expected != given {
        return (StatusCode::UNAUTHORIZED, "{}".to_owned());
    }
    (StatusCode::OK, token(&signer, &query))
}

/// With a refresh token: the password of the account.
async fn refresh(State(signer): State<Arc<Signer>>, body: String) -> (StatusCode, String) {
    signer.asked.lock().expect("not poisoned").push((body.clone(), None));
    let wanted = signer.account.as_ref().and_then(|account| account.split_once(':')).map(|(_, word)| word);
    if parameter(&body, "grant_type") != "refresh_token"
        || Some(&*parameter(&body, "refresh_token")) != wanted
    {
        return (StatusCode::UNAUTHORIZED, "{}".to_owned());
    }
    (StatusCode::OK, token(&signer, &body).replace("\"token\"", "\"access_token\""))
}
