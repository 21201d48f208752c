//! A web server on loopback with files of its own, or before another server, that can fail in chosen ways.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, header};
use base64::Engine as _;
use futures::StreamExt;
use sha2::Digest as _;

/// How answers to some paths are spoilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status instead of an answer.
    Status(u16),
    /// No answer at all.
    Hang,
    /// The answer, but so much later.
    Late(Duration),
    /// The connection ends after so many bytes.
    Cut(usize),
    /// The last byte changed.
    Corrupt,
    /// Something else instead.
    Instead(Vec<u8>),
    /// So many bytes of nothing, without saying how many they are.
    Endless(usize),
    /// A redirect to this address.
    Redirect(String),
    /// A redirect to this host with the same path.
    Elsewhere(String),
    /// Without this header.
    Without(&'static str),
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method, path and query.
    pub(crate) what: String,
    /// Of the answer.
    pub(crate) status: u16,
    /// Bytes of the answer's body.
    pub(crate) bytes: usize,
    /// The header that says who asks.
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct Shared {
    /// Servers behind it, which answer in turn.
    upstreams: Vec<String>,
    turn: AtomicUsize,
    files: Mutex<HashMap<String, Bytes>>,
    /// A part of the path, and what happens to it.
    faults: Mutex<Vec<(String, Fault)>>,
    account: Mutex<Option<String>>,
    packs: Mutex<bool>,
    log: Mutex<Vec<Asked>>,
}

/// A running server; ends when dropped.
pub(crate) struct Front {
    shared: Arc<Shared>,
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    /// Serves files.
    pub(crate) async fn files() -> Self {
        Self::start(Shared::default()).await
    }

    /// Stands before another server (`127.0.0.1:PORT`).
    pub(crate) async fn before(upstream: &str) -> Self {
        Self::between(&[upstream]).await
    }

    /// Stands before several servers, which answer in turn.
    pub(crate) async fn between(upstreams: &[&str]) -> Self {
        let upstreams = upstreams.iter().map(|host| (*host).to_owned()).collect();
        Self::start(Shared { upstreams, ..Shared::default() }).await
    }

    async fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let listener = super::listener().await;
        let host = listener.local_addr().expect("an address").to_string();
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Self { shared, host, task }
    }

    /// Puts a file at a path, such as `/index.yaml`.
    pub(crate) fn put(&self, path: &str, content: impl Into<Bytes>) {
        self.shared.files.lock().expect("not poisoned").insert(path.to_owned(), content.into());
    }

    /// Spoils the answers to paths that hold this part, or mends them.
    pub(crate) fn fault(&self, part: &str, fault: Option<Fault>) {
        let mut faults = self.shared.faults.lock().expect("not poisoned");
        faults.retain(|(known, _)| known != part);
        faults.extend(fault.map(|fault| (part.to_owned(), fault)));
    }

    /// Asks for `name:password`.
    pub(crate) fn protect(&self, account: &str) {
        *self.shared.account.lock().expect("not poisoned") = Some(account.to_owned());
    }

    /// Compresses for whoever takes it.
    pub(crate) fn pack(&self) {
        *self.shared.packs.lock().expect("not poisoned") = true;
    }

    /// What was asked since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.log.lock().expect("not poisoned"))
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let authorization =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut asked =
        Asked { what: format!("{} {path}", request.method()), status: 0, bytes: 0, authorization };
    let fault = {
        let faults = shared.faults.lock().expect("not poisoned");
        faults.iter().find(|(part, _)| asked.what.contains(part)).map(|(_, fault)| fault.clone())
    };
    if fault == Some(Fault::Hang) {
        shared.log.lock().expect("not poisoned").push(asked);
        return std::future::pending().await;
    }
    if let Some(Fault::Late(pause)) = &fault {
        tokio::time::sleep(*pause).await;
    }
    let (status, headers, mut bytes) = match &fault {
        Some(Fault::Status(status)) => (*status, Vec::new(), Bytes::new()),
        Some(Fault::Redirect(to)) => (307, vec![("location".to_owned(), to.clone())], Bytes::new()),
        Some(Fault::Elsewhere(host)) => {
            (307, vec![("location".to_owned(), format!("{host}{path}"))], Bytes::new())
        }
        Some(Fault::Instead(bytes)) => (200, Vec::new(), Bytes::from(bytes.clone())),
        Some(Fault::Endless(length)) => (200, Vec::new(), Bytes::from(vec![b' '; *length])),
        _ => answer(&shared, request, &asked).await,
    };
    if fault == Some(Fault::Corrupt) && !bytes.is_empty() {
        let mut changed = bytes.to_vec();
        if let Some(last) = changed.last_mut() {
            *last ^= 0x55;
        }
        bytes = changed.into();
    }
    (asked.status, asked.bytes) = (status, bytes.len());
    shared.log.lock().expect("not poisoned").push(asked);
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        let gone = matches!(&fault, Some(Fault::Without(missing)) if name == *missing);
        let other = !matches!(fault, None | Some(Fault::Without(_) | Fault::Late(_)));
        let framing = matches!(name.as_str(), "transfer-encoding" | "connection" | "content-length");
        if !(gone || other && framing) {
            response = response.header(name, value);
        }
    }
    let body = match fault {
        Some(Fault::Cut(length)) => {
            response = response.header(header::CONTENT_LENGTH, bytes.len());
            let part = bytes.slice(..length.min(bytes.len()));
            let end = async {
                // What was sent before must be on its way.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("cut"))
            };
            Body::from_stream(futures::stream::iter([Ok(part)]).chain(futures::stream::once(end)))
        }
        Some(Fault::Endless(_)) => {
            let parts: Vec<std::io::Result<Bytes>> =
                bytes.chunks(1 << 16).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
            Body::from_stream(futures::stream::iter(parts))
        }
        _ => Body::from(bytes),
    };
    response.body(body).expect("a response")
}

type Answer = (u16, Vec<(String, String)>, Bytes);

async fn answer(shared: &Shared, request: Request<Body>, asked: &Asked) -> Answer {
    let account = shared.account.lock().expect("not poisoned").clone();
    if let Some(account) = account {
        let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(account));
        if asked.authorization.as_deref() != Some(&expected) {
            let challenge = ("www-authenticate".to_owned(), "Basic realm=\"test\"".to_owned());
            return (401, vec![challenge], Bytes::new());
        }
    }
    if !shared.upstreams.is_empty() {
        let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
        return forward(&shared.upstreams[turn % shared.upstreams.len()], request).await;
    }
    let Some(content) = shared.files.lock().expect("not poisoned").get(request.uri().path()).cloned() else {
        return (404, Vec::new(), Bytes::new());
    };
    let etag = format!("\"{}\"", data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(&content)[..8]));
    let value = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    if value(header::IF_NONE_MATCH) == Some(&etag) {
        return (304, vec![("etag".to_owned(), etag)], Bytes::new());
    }
    let mut headers = vec![("etag".to_owned(), etag)];
    let packs = *shared.packs.lock().expect("not poisoned");
    if packs && value(header::ACCEPT_ENCODING).is_some_and(|kinds| kinds.contains("gzip")) {
        headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        return (200, headers, super::registry::gzip(&content).into());
    }
    (200, headers, content)
}

async fn forward(upstream: &str, request: Request<Body>) -> Answer {
    let client = super::registry::client();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut forwarded = client.request(parts.method, format!("http://{upstream}{path}")).body(body);
    for (name, value) in &parts.headers {
        // The Host header stays: what the server says of itself leads back here.
        forwarded = forwarded.header(name, value);
    }
    let Ok(answer) = forwarded.send().await else {
        return (StatusCode::BAD_GATEWAY.as_u16(), Vec::new(), Bytes::new());
    };
    let status = answer.status().as_u16();
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    (status, headers, answer.bytes().await.unwrap_or_default())
}
