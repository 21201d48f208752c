//! HTTP as gates use it: 10 s for an answer, 1 MiB of it, redirects on the same host, credentials from a Secret.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Url, dns, redirect};
use zeroize::Zeroizing;

use crate::api::GateSecret;
use crate::live::kube::Cluster;
use crate::model::{Gvk, Key, MASK};
use crate::rollout::provider::Reading;

/// For a whole answer.
const LIMIT: Duration = Duration::from_secs(10);
/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const SIZE: usize = 1 << 20;
/// Redirects on one host.
const REDIRECTS: usize = 5;

/// The clients that need no Secret.
#[derive(Default)]
pub(super) struct Reach {
    usual: OnceLock<Client>,
    lax: OnceLock<Client>,
}

/// A client and what it sends to be let in.
pub(super) struct Access {
    client: Client,
    token: Token,
}

/// What lets in.
#[derive(Default)]
struct Token {
    header: Option<(HeaderName, HeaderValue)>,
    /// What is never shown.
    hidden: Vec<Zeroizing<String>>,
}

impl Reach {
    /// Reads the Secret, where there is one.
    pub(super) async fn access(
        &self,
        cluster: &Cluster,
        namespace: &str,
        secret: Option<&GateSecret>,
        verify: bool,
    ) -> Result<Access, String> {
        let usual = || {
            let known = if verify { &self.usual } else { &self.lax };
            if let Some(client) = known.get() {
                return Ok(client.clone());
            }
            let client = client(verify, None)?;
            Ok::<_, String>(known.get_or_init(|| client).clone())
        };
        let Some(secret) = secret else {
            return Ok(Access { client: usual()?, token: Token::default() });
        };
        let found = Found::read(cluster, namespace, &secret.name).await?;
        let client = match found.get("caFile").or_else(|| found.get("ca.crt")) {
            Some(authority) if verify => client(true, Some(&authority))?,
            _ => usual()?,
        };
        Ok(Access { client, token: found.token(secret)? })
    }
}

/// A Secret's data.
struct Found {
    place: String,
    data: serde_json::Map<String, serde_json::Value>,
}

impl Found {
    async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Self, String> {
        let place = format!("Secret {namespace}/{name}");
        let gvk = Gvk::parse("v1", "Secret");
        let resource = cluster.resource(&gvk, false).await.map_err(|error| error.to_string())?;
        let key = Key {
            group: String::new(),
            kind: gvk.kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let found = cluster.get(&resource, &key).await.map_err(|error| error.to_string())?;
        let mut found = found.ok_or_else(|| format!("there is no {place}"))?;
        let data = found["data"].as_object_mut().map(std::mem::take).unwrap_or_default();
        Ok(Self { place, data })
    }

    /// A key's text, without the line break at its end.
    fn get(&self, key: &str) -> Option<Zeroizing<String>> {
        let bytes = STANDARD.decode(self.data.get(key)?.as_str()?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// What is sent, and the words of it that are not to be shown.
    fn token(&self, secret: &GateSecret) -> Result<Token, String> {
        let place = &self.place;
        let token = match &secret.key {
            Some(key) => Some(self.get(key).ok_or_else(|| format!("{place} has no key {key}"))?),
            None => self.get("bearerToken").or_else(|| self.get("token")),
        };
        let basic = self.get("username").zip(self.get("password"));
        let (name, text, hidden) = match (token, basic, &secret.header) {
            (Some(token), _, Some(name)) => (name.as_str(), token.clone(), vec![token]),
            (Some(token), _, None) => {
                (AUTHORIZATION.as_str(), Zeroizing::new(format!("Bearer {}", token.as_str())), vec![token])
            }
            (None, Some((name, password)), None) => {
                let both =
                    Zeroizing::new(STANDARD.encode(format!("{}:{}", name.as_str(), password.as_str())));
                let text = Zeroizing::new(format!("Basic {}", both.as_str()));
                (AUTHORIZATION.as_str(), text, vec![password, both])
            }
            (None, None, None) if self.data.contains_key("caFile") || self.data.contains_key("ca.crt") => {
                return Ok(Token::default());
            }
            _ => return Err(format!("{place} has none of bearerToken, token, and username with password")),
        };
        let name: HeaderName = name.parse().map_err(|_| format!("{name} is no name of a header"))?;
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| format!("{place} holds no text for a header"))?;
        value.set_sensitive(true);
        Ok(Token { header: Some((name, value)), hidden })
    }
}

impl Access {
    /// A request to an address.
    pub(super) fn request(&self, method: reqwest::Method, url: &str) -> Result<RequestBuilder, String> {
        let url: Url = url.parse().map_err(|error| format!("{url} is no address: {error}"))?;
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(is_refused) {
            return Err(REFUSED.to_owned());
        }
        let request = self.client.request(method, url);
        Ok(match &self.token.header {
            Some((name, value)) => request.header(name, value),
            None => request,
        })
    }

    /// Sends it; status and body.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), String> {
        let mut answer = request.send().await.map_err(|error| broken(&error))?;
        let status = answer.status();
        if status.is_redirection() {
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let host = to.and_then(|to| answer.url().join(to).ok()?.host_str().map(str::to_owned));
            let host = host.unwrap_or_else(|| "nowhere".to_owned());
            return Err(format!("HTTP {}: it redirects to {host}, which is not followed", status.as_u16()));
        }
        let large = || format!("the answer is larger than {} MiB", SIZE >> 20);
        if answer.content_length().is_some_and(|length| length > SIZE as u64) {
            return Err(large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| broken(&error))? {
            if bytes.len() + chunk.len() > SIZE {
                return Err(large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status.as_u16(), bytes))
    }

    /// Takes out what must not be shown: a server may repeat what it was sent.
    pub(super) fn hide(&self, said: Result<Reading, String>) -> Result<Reading, String> {
        let hide = |text: String| {
            self.token
                .hidden
                .iter()
                .filter(|word| word.len() >= 4)
                .fold(text, |text, word| text.replace(word.as_str(), MASK))
        };
        match said {
            Ok(reading) => Ok(Reading { message: hide(reading.message), ..reading }),
            Err(why) => Err(hide(why)),
        }
    }
}

fn client(verify: bool, authority: Option<&str>) -> Result<Client, String> {
    // One provider for every TLS user of the process; a second call is refused and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let follow = redirect::Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("more than 5 redirects");
        }
        let same = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
        if same { attempt.follow() } else { attempt.stop() }
    });
    let mut builder = Client::builder()
        .user_agent(concat!("driftless/", env!("CARGO_PKG_VERSION")))
        .redirect(follow)
        .timeout(LIMIT)
        .connect_timeout(CONNECT)
        .dns_resolver(Arc::new(Names))
        .tls_danger_accept_invalid_certs(!verify);
    if let Some(authority) = authority {
        let certificates = reqwest::Certificate::from_pem_bundle(authority.as_bytes())
            .map_err(|error| format!("the certificates of the Secret cannot be read: {error}"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| format!("the TLS configuration cannot be read: {error}"))
}

const REFUSED: &str = "its address is link-local, where clouds keep the credentials of their machines";

/// Machines ask there for their own credentials; whoever writes a policy is not the machine.
fn is_refused(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0x0ec2],
    }
}

/// Names of hosts, without those that lead where nobody may ask.
struct Names;

impl dns::Resolve for Names {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_refused(address.ip())) {
                return Err(REFUSED.into());
            }
            Ok(Box::new(found.into_iter()) as dns::Addrs)
        })
    }
}

/// Why a request or its answer ended early.
fn broken(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT } else { LIMIT };
        return format!("no answer within {} s", limit.as_secs());
    }
    let mut reason = None;
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = Some(inner.to_string());
        cause = inner.source();
    }
    // The innermost cause is the one a person can act on.
    reason.unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_machines_are_refused() {
        for (address, refused) in [
            ("169.254.169.254", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_refused(address.parse().unwrap()), refused, "{address}");
        }
    }
}
