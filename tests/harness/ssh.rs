//! An SSH server on loopback that runs Git's own `git-upload-pack`; it lets one key in.

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
