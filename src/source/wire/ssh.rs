//! Git over SSH: one session for a poll, one for a fetch.

use std::sync::{Arc, Mutex};

use russh::client::{self, Handle, Msg};
use russh::keys::{PrivateKeyWithHashAlg, PublicKey, decode_secret_key};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use tokio::sync::mpsc;

use super::classic::Advertisement;
use super::packet::{self, Packet};
use super::{PackReader, Want, check_refs, fetch, list_refs, malformed, refs};
use crate::error::{Code, Error, Result};
use crate::source::web::within;
use crate::source::{Credentials, Limits, known_hosts};

/// Where to, and as whom.
pub(in crate::source) struct Ssh<'a> {
    pub(in crate::source) user: &'a str,
    pub(in crate::source) host: &'a str,
    pub(in crate::source) port: u16,
    pub(in crate::source) path: &'a str,
    pub(in crate::source) credentials: &'a Credentials,
    pub(in crate::source) limits: Limits,
}

/// Keeps why a host key was refused: the library only says that it was.
struct Verifier {
    host: String,
    port: u16,
    lines: String,
    refusal: Arc<Mutex<Option<Error>>>,
}

impl client::Handler for Verifier {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKey) -> std::result::Result<bool, Self::Error> {
        match known_hosts::check(&self.lines, &self.host, self.port, key) {
            Ok(()) => Ok(true),
            Err(error) => {
                *self.refusal.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                Ok(false)
            }
        }
    }
}

/// How the server begins.
enum Greeting {
    Version2,
    Classic(Advertisement),
}

struct Session {
    handle: Handle<Verifier>,
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    buffer: Vec<u8>,
    stderr: Vec<u8>,
    place: String,
}

impl Ssh<'_> {
    fn place(&self) -> String {
        format!("ssh://{}@{}:{}", self.user, self.host, self.port)
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        Error::new(Code::RepositoryUnreachable, format!("{}: {error}", self.place()))
    }

    async fn open(&self) -> Result<Session> {
        let Some((key, passphrase)) = &self.credentials.key else {
            let why = format!(
                "{} needs a key; name a Secret with identity and known_hosts in secretRef",
                self.place()
            );
            return Err(Error::new(Code::CredentialsInvalid, why));
        };
        // The reason of a key that can't be read may hold parts of it.
        let key = decode_secret_key(key, passphrase.as_deref()).map_err(|_| {
            Error::new(
                Code::CredentialsInvalid,
                "identity is no private key, or its passphrase (password) is wrong",
            )
        })?;
        let refusal = Arc::new(Mutex::new(None));
        let verifier = Verifier {
            host: self.host.to_owned(),
            port: self.port,
            lines: self.credentials.known_hosts.clone().unwrap_or_default(),
            refusal: refusal.clone(),
        };
        let config = Arc::new(client::Config {
            inactivity_timeout: Some(self.limits.idle),
            ..client::Config::default()
        });
        let connect = client::connect(config, (self.host, self.port), verifier);
        let connected = tokio::time::timeout(self.limits.connect, connect).await.map_err(|_| {
            Error::new(
                Code::SourceTimedOut,
                format!("{}: no connection within {} s", self.place(), self.limits.connect.as_secs()),
            )
        })?;
        let refused = refusal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(refused) = refused {
            return Err(refused);
        }
        let mut handle = connected.map_err(|error| self.failed(&error))?;
        let hash = handle.best_supported_rsa_hash().await.map_err(|error| self.failed(&error))?.flatten();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let welcome =
            handle.authenticate_publickey(self.user, key).await.map_err(|error| self.failed(&error))?;
        if !welcome.success() {
            let why = format!("{} refuses the key in the Secret", self.place());
            return Err(Error::new(Code::AuthenticationFailed, why));
        }
        let channel = handle.channel_open_session().await.map_err(|error| self.failed(&error))?;
        // A server that does not pass it on answers in the first protocol.
        channel.set_env(false, "GIT_PROTOCOL", "version=2").await.map_err(|error| self.failed(&error))?;
        let quoted = self.path.replace('\'', r"'\''");
        channel
            .exec(true, format!("git-upload-pack '{quoted}'"))
            .await
            .map_err(|error| self.failed(&error))?;
        let (read, write) = channel.split();
        Ok(Session { handle, read, write, buffer: Vec::new(), stderr: Vec::new(), place: self.place() })
    }

    /// Lists refs.
    pub(in crate::source) async fn list(&self, prefixes: &[String]) -> Result<Vec<(String, String)>> {
        let poll = async {
            let mut session = self.open().await?;
            let found = match session.greeting().await? {
                Greeting::Classic(told) => told.refs,
                Greeting::Version2 => {
                    session.send(list_refs(prefixes)).await?;
                    refs(&session.until_flush().await?)?
                }
            };
            session.close().await;
            Ok(found)
        };
        within(self.limits.poll, &self.place(), poll).await
    }

    /// Fetches; the bytes of the pack go to `pack`.
    pub(in crate::source) async fn fetch(&self, want: Want<'_>, pack: mpsc::Sender<Vec<u8>>) -> Result<()> {
        let transfer = async {
            let mut session = self.open().await?;
            let mut reader = match session.greeting().await? {
                Greeting::Version2 => {
                    session.send(fetch(&want)).await?;
                    PackReader::new(want.limit)
                }
                Greeting::Classic(told) => {
                    session.send(told.fetch(&want)).await?;
                    PackReader::classic(want.limit)
                }
            };
            let mut bytes = std::mem::take(&mut session.buffer);
            loop {
                let part = reader.take(&bytes)?;
                if !part.is_empty() && pack.send(part).await.is_err() {
                    break;
                }
                if reader.is_complete() {
                    break;
                }
                bytes = session.more().await?;
            }
            session.close().await;
            Ok(())
        };
        within(self.limits.fetch, &self.place(), transfer).await
    }
}

impl Session {
    async fn send(&self, bytes: Vec<u8>) -> Result<()> {
        let sent = self.write.data_bytes(bytes).await;
        sent.map_err(|error| Error::new(Code::RepositoryUnreachable, format!("{}: {error}", self.place)))
    }

    /// The next bytes of standard output.
    async fn more(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.read.wait().await {
                Some(ChannelMsg::Data { data }) => return Ok(data.to_vec()),
                Some(ChannelMsg::ExtendedData { data, .. }) if self.stderr.len() < 2000 => {
                    self.stderr.extend_from_slice(&data);
                }
                Some(ChannelMsg::Failure) => return Err(self.ended("it does not run git-upload-pack")),
                Some(ChannelMsg::Close) | None => return Err(self.ended("the connection ended early")),
                Some(_) => {}
            }
        }
    }

    fn ended(&self, otherwise: &str) -> Error {
        let said = String::from_utf8_lossy(&self.stderr);
        let said = said.trim();
        let why = if said.is_empty() { otherwise } else { said };
        let lower = why.to_ascii_lowercase();
        // What hosts say when the key is fine and the repository is not, or the other way round.
        let denied = lower.contains("denied") || lower.contains("permission");
        let code = if denied { Code::AuthenticationFailed } else { Code::RepositoryUnreachable };
        Error::new(code, format!("{}: {why}", self.place))
    }

    /// Everything up to and with the next flush.
    async fn until_flush(&mut self) -> Result<Vec<u8>> {
        let mut at = 0;
        loop {
            while let Some((packet, rest)) = packet::partial(&self.buffer[at..])? {
                at = self.buffer.len() - rest.len();
                if packet == Packet::Flush {
                    let rest = self.buffer.split_off(at);
                    return Ok(std::mem::replace(&mut self.buffer, rest));
                }
            }
            check_refs(self.buffer.len())?;
            let bytes = self.more().await?;
            self.buffer.extend_from_slice(&bytes);
        }
    }

    async fn greeting(&mut self) -> Result<Greeting> {
        let told = self.until_flush().await?;
        match packet::next(&told)? {
            Some((Packet::Data(data), _)) if data.trim_ascii_end() == b"version 2" => Ok(Greeting::Version2),
            Some((Packet::Data(_), _)) => Ok(Greeting::Classic(Advertisement::read(&told)?)),
            _ => Err(malformed("an empty greeting")),
        }
    }

    async fn close(self) {
        // The server ends by itself when it sees the flush; a failure to say goodbye costs nothing.
        let _ = self.write.data_bytes(b"0000".to_vec()).await;
        let _ = self.write.eof().await;
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
    }
}
