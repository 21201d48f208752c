//! SSH servers on loopback that run Git's own `git-upload-pack` and let one key in: one of the harness, and
//! OpenSSH's where it is installed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Server as _, Session};
use russh::{Channel, ChannelId};

/// A running server; ends when dropped.
pub(crate) struct Server {
    /// `127.0.0.1:PORT`.
    pub(crate) port: u16,
    /// The line of `known_hosts`.
    pub(crate) known_hosts: String,
    /// The private key that it lets in, as OpenSSH writes it.
    pub(crate) identity: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Settings {
    root: PathBuf,
    guest: PublicKey,
    passes_environment: bool,
}

impl server::Server for Settings {
    type Handler = Connection;

    fn new_client(&mut self, _: Option<std::net::SocketAddr>) -> Connection {
        Connection { settings: self.clone(), channels: HashMap::new(), protocol: String::new() }
    }
}

struct Connection {
    settings: Settings,
    channels: HashMap<ChannelId, Channel<Msg>>,
    protocol: String,
}

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: &PublicKey) -> Result<Auth, Self::Error> {
        let welcome = user == "git" && key.key_data() == self.settings.guest.key_data();
        Ok(if welcome { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn env_request(
        &mut self,
        _: ChannelId,
        name: &str,
        value: &str,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if name == "GIT_PROTOCOL" && self.settings.passes_environment {
            value.clone_into(&mut self.protocol);
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let command = String::from_utf8_lossy(command).into_owned();
        let Some(channel) = self.channels.remove(&id) else { return Ok(()) };
        session.channel_success(id)?;
        let path = command
            .strip_prefix("git-upload-pack '/")
            .and_then(|rest| rest.strip_suffix('\''))
            .unwrap_or_default();
        let mut process = tokio::process::Command::new("git")
            .args(["upload-pack", "--strict"])
            .arg(self.settings.root.join(path))
            .env("GIT_PROTOCOL", &self.protocol)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("git");
        tokio::spawn(async move {
            let (mut input, mut output) =
                (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
            let (mut read, mut write) = tokio::io::split(channel.into_stream());
            let send = async {
                let _ = tokio::io::copy(&mut output, &mut write).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
            };
            let receive = tokio::io::copy(&mut read, &mut input);
            tokio::select! { () = send => {}, _ = receive => {} }
            let _ = process.wait().await;
        });
        Ok(())
    }
}

/// OpenSSH's own server; ends when dropped.
pub(crate) struct OpenSsh {
    /// `127.0.0.1:PORT`.
    pub(crate) port: u16,
    /// The account: the one that runs the tests.
    pub(crate) user: String,
    /// The line of `known_hosts`.
    pub(crate) known_hosts: String,
    /// The private key that it lets in, as OpenSSH writes it.
    pub(crate) identity: String,
    process: std::process::Child,
    _folder: tempfile::TempDir,
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl OpenSsh {
    /// `None` where no sshd is installed.
    pub(crate) async fn start() -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())?;
        let user = std::process::Command::new("id").arg("-un").output().expect("id");
        let user = String::from_utf8(user.stdout).expect("a name").trim().to_owned();
        if user == "root" {
            // Where root starts it, it separates privileges, and the service's start would make this folder.
            std::fs::create_dir_all("/run/sshd").expect("/run/sshd");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let new_key =
            || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).expect("a key");
        let (host, guest) = (new_key(), new_key());
        let text = |key: &PrivateKey| {
            key.to_openssh(russh::keys::ssh_key::LineEnding::LF).expect("a key").to_string()
        };
        let write = |name: &str, content: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.path().join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("private");
            path.display().to_string()
        };
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let keys = write("keys", &guest.public_key().to_openssh().expect("a key"));
        let config = write(
            "config",
            &format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {keys}\nPidFile none\nUsePAM no\n\
                 StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n",
                write("host", &text(&host)),
            ),
        );
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let process = std::process::Command::new(program)
            .args(["-D", "-e", "-f", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd");
        let known_hosts = format!("[127.0.0.1]:{port} {}", host.public_key().to_openssh().expect("a key"));
        let sshd = Self { port, user, known_hosts, identity: text(&guest), process, _folder: folder };
        super::eventually("sshd listens", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Some(sshd)
    }
}

impl Server {
    /// Serves the repositories below a folder. One that does not pass the environment on speaks Git's first
    /// protocol, as sshd does without `AcceptEnv`.
    pub(crate) async fn start(root: &std::path::Path, passes_environment: bool) -> Self {
        let new_key =
            || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).expect("a key");
        let (host, guest) = (new_key(), new_key());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let known_hosts = format!("[127.0.0.1]:{port} {}", host.public_key().to_openssh().expect("a key"));
        let identity = guest.to_openssh(russh::keys::ssh_key::LineEnding::LF).expect("a key").to_string();
        let config = Arc::new(server::Config { keys: vec![host], ..server::Config::default() });
        let mut settings =
            Settings { root: root.to_owned(), guest: guest.public_key().clone(), passes_environment };
        let task = tokio::spawn(async move {
            let _ = settings.run_on_socket(config, &listener).await;
        });
        Self { port, known_hosts, identity, task }
    }
}
