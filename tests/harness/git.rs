//! A real Git server on loopback: smart HTTP by `git http-backend`, with faults on demand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Request, Response, StatusCode, header};

/// How a repository's answers are spoilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status instead of an answer.
    Status(u16),
    /// 429 with this Retry-After.
    Wait(u64),
    /// No answer at all.
    Hang,
    /// Only the first bytes of the answer.
    Cut(usize),
    /// One byte of a pack changed, counted from its end.
    Corrupt(usize),
    /// A redirect to this address.
    Redirect(String),
    /// The server speaks the first protocol only.
    Classic,
    /// A byte at a time, with this pause between two.
    Slow(std::time::Duration),
}

#[derive(Default)]
struct Shared {
    root: PathBuf,
    faults: Mutex<HashMap<String, Fault>>,
    /// `name:password` by repository.
    accounts: Mutex<HashMap<String, String>>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A server with any number of repositories; ends when dropped.
pub(crate) struct Server {
    shared: Arc<Shared>,
    _folder: tempfile::TempDir,
    /// Where it listens.
    pub(crate) address: std::net::SocketAddr,
    scheme: &'static str,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts on a free port.
    pub(crate) async fn start() -> Self {
        Self::begin(None).await
    }

    /// Starts on a free port with TLS.
    pub(crate) async fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::begin(Some(config)).await
    }

    async fn begin(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shared = Arc::new(Shared { root: folder.path().to_owned(), ..Shared::default() });
        let listener = super::listener().await;
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(async move {
            match tls {
                Some(config) => {
                    axum::serve(Tls { listener, acceptor: config.into() }, router).await.expect("serve");
                }
                None => axum::serve(listener, router).await.expect("serve"),
            }
        });
        Self { shared, _folder: folder, address, scheme, task }
    }

    /// A new, empty repository, such as `ml/platform`.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository::create(
            &self.shared.root.join(format!("{name}.git")),
            format!("{}://{}/{name}.git", self.scheme, self.address),
        )
    }

    /// Spoils the answers of a repository, or mends them.
    pub(crate) fn fault(&self, name: &str, fault: Option<Fault>) {
        let mut faults = self.shared.faults.lock().expect("not poisoned");
        match fault {
            Some(fault) => faults.insert(name.into(), fault),
            None => faults.remove(name),
        };
    }

    /// The folder below which the repositories are.
    pub(crate) fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Asks for a password.
    pub(crate) fn protect(&self, name: &str, account: &str) {
        self.shared.accounts.lock().expect("not poisoned").insert(name.into(), account.into());
    }

    /// Requests and bytes of answers since the last call.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.shared.requests.swap(0, Ordering::Relaxed), self.shared.bytes.swap(0, Ordering::Relaxed))
    }
}

pub(crate) struct Tls {
    pub(crate) listener: tokio::net::TcpListener,
    pub(crate) acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // A client that refuses the certificate is what some tests want.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let name = path.split(".git").next().unwrap_or_default().to_owned();
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let account = shared.accounts.lock().expect("not poisoned").get(&name).cloned();
    if let Some(account) = account {
        use base64::Engine as _;
        let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(account));
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if given != Some(&expected) {
            return plain(StatusCode::UNAUTHORIZED);
        }
    }
    let fault: Option<Fault> = shared.faults.lock().expect("not poisoned").get(&name).cloned();
    match fault.clone() {
        Some(Fault::Wait(seconds)) => {
            let mut answer = plain(StatusCode::TOO_MANY_REQUESTS);
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            return answer;
        }
        Some(Fault::Status(status)) => return plain(StatusCode::from_u16(status).expect("a status")),
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::Redirect(to)) => {
            return Response::builder()
                .status(302)
                .header(header::LOCATION, to)
                .body(Body::empty())
                .expect("a response");
        }
        _ => {}
    }
    let (method, query) = (request.method().clone(), request.uri().query().unwrap_or_default().to_owned());
    let classic = fault == Some(Fault::Classic);
    let (protocol, kind) = (
        if classic { String::new() } else { value(&request, "git-protocol") },
        value(&request, "content-type"),
    );
    let body = axum::body::to_bytes(request.into_body(), 64 << 20).await.expect("a body");
    let root = shared.root.clone();
    let answer =
        tokio::task::spawn_blocking(move || backend(&root, &path, &method, &query, &protocol, &kind, &body))
            .await
            .expect("ended");
    let (status, kind, mut bytes) = answer;
    match fault {
        Some(Fault::Cut(length)) => bytes.truncate(length),
        Some(Fault::Corrupt(from_end)) if bytes.windows(4).any(|window| window == b"PACK") => {
            let at = bytes.len() - from_end;
            bytes[at] ^= 0x55;
        }
        _ => {}
    }
    shared.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, kind);
    if let Some(Fault::Slow(pause)) = fault {
        use futures::StreamExt as _;
        let parts = futures::stream::iter(bytes).then(move |byte| async move {
            tokio::time::sleep(pause).await;
            Ok::<Bytes, std::io::Error>(vec![byte].into())
        });
        return response.body(Body::from_stream(parts)).expect("a response");
    }
    response.body(Body::from(bytes)).expect("a response")
}

fn value(request: &Request<Body>, name: &str) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn plain(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).expect("a response")
}

/// Runs git's own HTTP server program as a CGI.
fn backend(
    root: &Path,
    path: &str,
    method: &Method,
    query: &str,
    protocol: &str,
    kind: &str,
    body: &Bytes,
) -> (u16, String, Vec<u8>) {
    use std::io::Write;
    let mut process = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{path}"))
        .env("REQUEST_METHOD", method.as_str())
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", kind)
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git");
    let mut input = process.stdin.take().expect("piped");
    let sent = body.clone();
    let writer = std::thread::spawn(move || {
        let _ = input.write_all(&sent);
    });
    let output = process.wait_with_output().expect("git ends").stdout;
    let _ = writer.join();
    let split = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(output.len());
    let headers = String::from_utf8_lossy(&output[..split]).into_owned();
    let find = |name: &str| {
        headers.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let status = find("Status:").and_then(|status| status[..3].parse().ok()).unwrap_or(200);
    (status, find("Content-Type:").unwrap_or_default(), output.get(split + 4..).unwrap_or_default().to_vec())
}

/// A bare repository and what a team does to it.
pub(crate) struct Repository {
    folder: PathBuf,
    /// Its address.
    pub(crate) url: String,
}

impl Repository {
    /// A new, empty one in a folder.
    pub(crate) fn create(folder: &Path, url: String) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let repository = git2::Repository::init_opts(
            folder,
            git2::RepositoryInitOptions::new().bare(true).initial_head("main"),
        );
        let mut config = repository.expect("a repository").config().expect("a configuration");
        // What the usual hosts allow: a commit by its id.
        config.set_bool("uploadpack.allowAnySHA1InWant", true).expect("set");
        config.set_bool("uploadpack.allowFilter", true).expect("set");
        Self { folder: folder.to_owned(), url }
    }

    fn open(&self) -> git2::Repository {
        git2::Repository::open_bare(&self.folder).expect("a repository")
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Commits files (`None` removes one) on main; the commit.
    pub(crate) fn change(&self, files: &[(&str, Option<&str>)], message: &str) -> String {
        let repository = self.open();
        let parent = repository
            .refname_to_id("refs/heads/main")
            .ok()
            .map(|id| repository.find_commit(id).expect("a commit"));
        let mut index = git2::Index::new().expect("an index");
        if let Some(parent) = &parent {
            index.read_tree(&parent.tree().expect("a tree")).expect("read");
        }
        for (path, content) in files {
            match content {
                Some(content) => {
                    let id = repository.blob(content.as_bytes()).expect("a blob");
                    let time = git2::IndexTime::new(0, 0);
                    let entry = git2::IndexEntry {
                        ctime: time,
                        mtime: time,
                        dev: 0,
                        ino: 0,
                        mode: 0o100_644,
                        uid: 0,
                        gid: 0,
                        file_size: 0,
                        id,
                        flags: 0,
                        flags_extended: 0,
                        path: path.as_bytes().to_vec(),
                    };
                    index.add(&entry).expect("add");
                }
                None => index.remove_path(Path::new(path)).expect("remove"),
            }
        }
        let tree = repository.find_tree(index.write_tree_to(&repository).expect("write")).expect("a tree");
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        Self::commit_tree(&repository, &tree, &parents, message)
    }

    fn commit_tree(
        repository: &git2::Repository,
        tree: &git2::Tree<'_>,
        parents: &[&git2::Commit<'_>],
        message: &str,
    ) -> String {
        let author = git2::Signature::now("Ana", "ana@example.org").expect("a signature");
        let id = repository.commit(None, &author, &author, message, tree, parents).expect("a commit");
        repository.reference("refs/heads/main", id, true, message).expect("a branch");
        id.to_string()
    }

    /// Commits blobs that the repository has, beside the other files of main; the commit.
    pub(crate) fn commit_blobs(&self, blobs: &[(&str, git2::Oid)], message: &str) -> String {
        let repository = self.open();
        let parent = repository.refname_to_id("refs/heads/main").expect("a branch");
        let parent = repository.find_commit(parent).expect("a commit");
        let mut tree = repository.treebuilder(Some(&parent.tree().expect("a tree"))).expect("a tree");
        for (name, blob) in blobs {
            tree.insert(name, *blob, 0o100_644).expect("an entry");
        }
        let tree = repository.find_tree(tree.write().expect("write")).expect("a tree");
        Self::commit_tree(&repository, &tree, &[&parent], message)
    }

    /// Commits files on main; the commit.
    pub(crate) fn commit(&self, files: &[(&str, &str)], message: &str) -> String {
        let files: Vec<_> = files.iter().map(|(path, content)| (*path, Some(*content))).collect();
        self.change(&files, message)
    }

    /// What `git revert HEAD` makes: the tree before the newest commit.
    pub(crate) fn revert(&self) -> String {
        let repository = self.open();
        let head = repository
            .find_commit(repository.refname_to_id("refs/heads/main").expect("main"))
            .expect("a commit");
        let before = head.parent(0).expect("a parent");
        Self::commit_tree(&repository, &before.tree().expect("a tree"), &[&head], "Revert")
    }

    /// Makes a ref.
    pub(crate) fn reference(&self, name: &str, commit: &str) {
        let id = git2::Oid::from_str(commit).expect("an id");
        self.open().reference(name, id, true, "test").expect("a ref");
    }

    /// Removes a ref.
    pub(crate) fn remove_reference(&self, name: &str) {
        self.open().find_reference(name).expect("a ref").delete().expect("deleted");
    }

    /// Points main somewhere else.
    pub(crate) fn force(&self, commit: &str) {
        self.reference("refs/heads/main", commit);
    }
}
