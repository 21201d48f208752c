//! A proxy between an agent and the real API server that fails in chosen ways, and notes every write that the server did.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, header};
use futures::{Stream, StreamExt};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::cluster::ControlPlane;

/// What happens to a request or to an event of a watch.
#[derive(Clone)]
pub(crate) enum Act {
    /// This status instead of an answer, with so many seconds of Retry-After; the server is not asked.
    Answer(u16, Option<u32>),
    /// The connection ends; the server is not asked.
    Reset,
    /// The server does it, and the connection ends without an answer.
    DropAnswer,
    /// No answer ever; the server is not asked.
    Hang,
    /// The answer comes a byte at a time, with this pause between two.
    Trickle(Duration),
    /// The connection ends after so many bytes of the answer.
    Cut(usize),
    /// This type and text instead of the server's.
    Instead(&'static str, String),
    /// Called when the server has done it, before the answer is passed on.
    Before(Arc<dyn Fn() + Send + Sync>),
    /// Called when the answer is on its way.
    After(Arc<dyn Fn() + Send + Sync>),
    /// A watch ends with the event that says its place in history is too old.
    Gone,
    /// Event: it and all that follow never come, and the connection stays.
    Silence,
    /// Event: it never comes.
    Omit,
    /// Event: it comes twice.
    Twice,
    /// Event: it comes after the one that follows, or after a while.
    Later,
}

/// When it happens.
#[derive(Clone)]
pub(crate) struct Rule {
    verb: &'static str,
    parts: Vec<String>,
    without: Vec<String>,
    skip: usize,
    times: usize,
    percent: u64,
    act: Act,
}

impl Rule {
    /// Verbs: get, list, watch, post, put, patch, delete; write for the last four, event for what a watch tells, empty
    /// for all requests. The part stands somewhere in path and query, or in the event.
    pub(crate) fn on(verb: &'static str, part: &str, act: Act) -> Self {
        Self {
            verb,
            parts: vec![part.into()],
            without: Vec::new(),
            skip: 0,
            times: usize::MAX,
            percent: 100,
            act,
        }
    }

    /// And this part too.
    pub(crate) fn and(mut self, part: &str) -> Self {
        self.parts.push(part.into());
        self
    }

    /// And not this one.
    pub(crate) fn without(mut self, part: &str) -> Self {
        self.without.push(part.into());
        self
    }

    /// Not the first ones.
    pub(crate) fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// No more than so many.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// So many of a hundred, in an order that is the same in every run.
    pub(crate) fn percent(self, percent: u64) -> Self {
        Self { percent, ..self }
    }

    fn fits(&self, verb: &str, text: &str) -> bool {
        let writes = matches!(verb, "post" | "put" | "patch" | "delete");
        let by_verb = match self.verb {
            "" => verb != "event",
            "write" => writes,
            wanted => wanted == verb,
        };
        by_verb
            && self.parts.iter().all(|part| text.contains(part))
            && !self.without.iter().any(|part| text.contains(part))
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) verb: &'static str,
    /// Path and query.
    pub(crate) what: String,
    pub(crate) at: Instant,
}

/// A write that the server did.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) verb: &'static str,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Name and uid of what it made or changed; empty where the answer names none.
    pub(crate) name: String,
    pub(crate) uid: String,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Asked>>,
    written: Mutex<Vec<Written>>,
    dice: Mutex<u64>,
}

/// A running proxy; ends when dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    /// The control plane as it is reached through the proxy.
    pub(crate) plane: ControlPlane,
    _folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Stands before an API server.
    pub(crate) async fn before(plane: &ControlPlane) -> Self {
        Self::to(plane, &plane.server).await
    }

    /// Stands before another API server of the same control plane.
    pub(crate) async fn to(plane: &ControlPlane, upstream: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().http1_only().tls_danger_accept_invalid_certs(true);
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: client.build().expect("a client"),
            rules: Mutex::default(),
            asked: Mutex::default(),
            written: Mutex::default(),
            dice: Mutex::new(0x2545_F491_4F6C_DD1D),
        });
        let key = rcgen::KeyPair::generate().expect("a key");
        let named = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = named.self_signed(&key).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = super::listener().await;
        let server = format!("https://{}", listener.local_addr().expect("an address"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kubeconfig = folder.path().join("kubeconfig");
        let text = std::fs::read_to_string(&plane.kubeconfig).expect("a kubeconfig");
        std::fs::write(&kubeconfig, text.replace(&plane.server, &server)).expect("written");
        let task = tokio::spawn(accept(listener, acceptor, shared.clone()));
        let plane = ControlPlane { kubeconfig, server, ..plane.clone() };
        Self { shared, plane, _folder: folder, task }
    }

    /// From now on; the first rule that fits is what happens.
    pub(crate) fn add(&self, rule: Rule) {
        self.shared.rules.lock().expect("not poisoned").push(rule);
    }

    /// All is well again; what hangs goes on hanging.
    pub(crate) fn mend(&self) {
        self.shared.rules.lock().expect("not poisoned").clear();
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("not poisoned").clone()
    }

    /// How many requests had this verb and this in their path and query.
    pub(crate) fn count(&self, verb: &str, part: &str) -> usize {
        let asked = self.shared.asked.lock().expect("not poisoned");
        asked.iter().filter(|asked| asked.verb == verb && asked.what.contains(part)).count()
    }

    /// What the server did so far, refusals included.
    pub(crate) fn written(&self) -> Vec<Written> {
        self.shared.written.lock().expect("not poisoned").clone()
    }
}

impl Shared {
    /// What is to happen, if anything.
    fn act(&self, verb: &str, text: &str) -> Option<Act> {
        let mut rules = self.rules.lock().expect("not poisoned");
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && rule.fits(verb, text))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        if rule.percent < 100 {
            let mut dice = self.dice.lock().expect("not poisoned");
            // A xorshift.
            *dice ^= *dice << 13;
            *dice ^= *dice >> 7;
            *dice ^= *dice << 17;
            if *dice % 100 >= rule.percent {
                return None;
            }
        }
        rule.times -= 1;
        Some(rule.act.clone())
    }
}

async fn accept(listener: tokio::net::TcpListener, acceptor: tokio_rustls::TlsAcceptor, shared: Arc<Shared>) {
    // Connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(move |request| {
                // What is on its way to the server is done and noted, whoever has gone meanwhile.
                let answer = tokio::spawn(answer(shared.clone(), request));
                async move { answer.await.map_err(std::io::Error::other)? }
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            // A service that fails is a connection that ends.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn verb(request: &Request<Incoming>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    match *request.method() {
        Method::GET if query.contains("watch=true") => "watch",
        Method::GET if query.contains("limit=") => "list",
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

fn ended() -> std::io::Error {
    std::io::Error::other("the connection ends here")
}

/// As an API server words it; 429 is what its queue says before any of that.
fn status(code: u16, retry_after: Option<u32>) -> Response<Body> {
    let mut response = Response::builder().status(code);
    if let Some(seconds) = retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    let text = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": format!("a fault of the test: {reason}")});
    let (kind, text) = if code == 429 {
        ("text/plain", "Too many requests, please try again later.\n".to_owned())
    } else {
        ("application/json", text.to_string())
    };
    response.header(header::CONTENT_TYPE, kind).body(Body::from(text)).expect("a response")
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> std::io::Result<Response<Body>> {
    let verb = verb(&request);
    let what = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let asked = Asked { verb, what: what.clone(), at: Instant::now() };
    shared.asked.lock().expect("not poisoned").push(asked);
    let act = shared.act(verb, &what);
    match act.clone() {
        Some(Act::Answer(code, retry_after)) => return Ok(status(code, retry_after)),
        Some(Act::Reset) => return Err(ended()),
        Some(Act::Hang) => std::future::pending().await,
        Some(Act::Gone) if verb == "watch" => return Ok(gone()),
        _ => {}
    }
    let path = request.uri().path().to_owned();
    let upstream = forward(&shared, request).await?;
    let code = upstream.status().as_u16();
    let mut response = Response::builder().status(code);
    for (name, value) in upstream.headers() {
        if !matches!(name.as_str(), "transfer-encoding" | "connection" | "content-length") {
            response = response.header(name, value);
        }
    }
    if verb == "watch" {
        return Ok(response.body(Body::from_stream(told(shared, what, upstream))).expect("a response"));
    }
    let mut bytes = upstream.bytes().await.map_err(std::io::Error::other)?;
    if matches!(verb, "post" | "put" | "patch" | "delete") {
        let named: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let field = |name: &str| named["metadata"][name].as_str().unwrap_or_default().to_owned();
        let done = Written { verb, path, status: code, name: field("name"), uid: field("uid") };
        shared.written.lock().expect("not poisoned").push(done);
    }
    let mut ends = None;
    match act {
        Some(Act::DropAnswer) => return Err(ended()),
        Some(Act::Before(call)) => call(),
        Some(Act::After(call)) => {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                call();
            });
        }
        Some(Act::Instead(kind, text)) => {
            let instead = Response::builder().status(200).header(header::CONTENT_TYPE, kind);
            return Ok(instead.body(Body::from(text)).expect("a response"));
        }
        Some(Act::Cut(length)) => {
            response = response.header(header::CONTENT_LENGTH, bytes.len());
            ends = Some(Err(ended()));
            bytes.truncate(length);
        }
        Some(Act::Trickle(pause)) => {
            response = response.header(header::CONTENT_LENGTH, bytes.len());
            let parts = futures::stream::iter(0..bytes.len()).then(move |at| {
                let part = bytes.slice(at..=at);
                async move {
                    tokio::time::sleep(pause).await;
                    Ok::<Bytes, std::io::Error>(part)
                }
            });
            return Ok(response.body(Body::from_stream(parts)).expect("a response"));
        }
        _ => {}
    }
    let Some(end) = ends else { return Ok(response.body(Body::from(bytes)).expect("a response")) };
    let late = async move {
        // What was sent before must be on its way.
        tokio::time::sleep(Duration::from_millis(50)).await;
        end
    };
    let parts = futures::stream::iter([Ok(bytes)]).chain(futures::stream::once(late));
    Ok(response.body(Body::from_stream(parts)).expect("a response"))
}

async fn forward(shared: &Shared, request: Request<Incoming>) -> std::io::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), 64 << 20).await.map_err(std::io::Error::other)?;
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut forwarded = shared.client.request(parts.method, format!("{}{path}", shared.upstream)).body(body);
    for (name, value) in &parts.headers {
        // Packed, no event could be told from another.
        if !matches!(name.as_str(), "host" | "accept-encoding" | "connection" | "content-length") {
            forwarded = forwarded.header(name, value);
        }
    }
    forwarded.send().await.map_err(std::io::Error::other)
}

fn gone() -> Response<Body> {
    let event = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": "too old resource version", "reason": "Expired", "code": 410}});
    let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(format!("{event}\n"))).expect("a response")
}

/// The events of a watch, spoilt.
fn told(
    shared: Arc<Shared>,
    what: String,
    upstream: reqwest::Response,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    struct State<S> {
        shared: Arc<Shared>,
        what: String,
        upstream: S,
        buffer: Vec<u8>,
        /// An event that comes later.
        held: Vec<u8>,
        since: Instant,
    }
    let state = State {
        shared,
        what,
        upstream: Box::pin(upstream.bytes_stream()),
        buffer: Vec::new(),
        held: Vec::new(),
        since: Instant::now(),
    };
    futures::stream::unfold(state, |mut state| async move {
        loop {
            if !state.held.is_empty() && state.since.elapsed() > Duration::from_millis(300) {
                return Some((Ok(std::mem::take(&mut state.held).into()), state));
            }
            let Some(end) = state.buffer.iter().position(|byte| *byte == b'\n') else {
                let tick = Duration::from_millis(if state.held.is_empty() { 3_600_000 } else { 100 });
                match tokio::time::timeout(tick, state.upstream.next()).await {
                    Err(_) => {}
                    Ok(Some(Ok(part))) => state.buffer.extend_from_slice(&part),
                    Ok(Some(Err(error))) => return Some((Err(std::io::Error::other(error)), state)),
                    Ok(None) => return None,
                }
                continue;
            };
            let mut line: Vec<u8> = state.buffer.drain(..=end).collect();
            let text = format!("{} {}", state.what, String::from_utf8_lossy(&line));
            match state.shared.act("event", &text) {
                Some(Act::Silence) => std::future::pending().await,
                Some(Act::Omit) => continue,
                Some(Act::Twice) => line = line.repeat(2),
                Some(Act::Later) if state.held.is_empty() => {
                    (state.held, state.since) = (line, Instant::now());
                    continue;
                }
                Some(Act::Instead(_, text)) => line = format!("{text}\n").into_bytes(),
                Some(Act::Reset) => return Some((Err(ended()), state)),
                _ => {}
            }
            line.append(&mut state.held);
            return Some((Ok(line.into()), state));
        }
    })
}
