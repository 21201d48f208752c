//! Git over HTTP.

use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, Response, StatusCode, header};
use tokio::sync::mpsc;

use super::{PackReader, fetch, list_refs, refs};
use crate::error::{Code, Error, Result};
use crate::source::{Credentials, Limits};

/// Hops to the same host before a redirect is called a loop.
const MAX_REDIRECTS: usize = 5;
/// An answer to ls-refs with 500,000 tags is about 40 MB.
const MAX_REFS: usize = 64 << 20;

/// A client for one set of credentials; keeps its connections.
#[derive(Clone)]
pub(in crate::source) struct Http {
    client: reqwest::Client,
    credentials: Credentials,
    limits: Limits,
}

impl Http {
    pub(in crate::source) fn new(credentials: &Credentials, limits: Limits) -> Result<Self> {
        let invalid = |what: &str, error: &dyn std::fmt::Display| {
            Error::new(Code::CredentialsInvalid, format!("{what} cannot be read: {error}"))
        };
        // One provider for every TLS user of the process; a second call is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("driftless/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.connect)
            .read_timeout(limits.idle)
            .pool_idle_timeout(Duration::from_secs(90));
        if let Some(authority) = &credentials.authority {
            let certificates = reqwest::Certificate::from_pem_bundle(authority)
                .map_err(|error| invalid("caFile", &error))?;
            if certificates.is_empty() {
                return Err(Error::new(Code::CredentialsInvalid, "caFile holds no certificate"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(client) = &credentials.client {
            let identity =
                reqwest::Identity::from_pem(client).map_err(|error| invalid("tls.crt or tls.key", &error))?;
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(|error| invalid("the TLS configuration", &error))?;
        Ok(Self { client, credentials: credentials.clone(), limits })
    }

    /// Lists refs in one request.
    pub(in crate::source) async fn list(
        &self,
        url: &str,
        prefixes: &[String],
    ) -> Result<Vec<(String, String)>> {
        let poll = async {
            let mut answer = self.post(url, list_refs(prefixes)).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|error| self.broken(url, &error))? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > MAX_REFS {
                    return Err(Error::new(Code::SourceTooLarge, "the list of refs is larger than 64 MiB"));
                }
            }
            refs(&bytes)
        };
        match tokio::time::timeout(self.limits.poll, poll).await {
            Ok(result) => result,
            Err(_) => Err(slow(url, self.limits.poll)),
        }
    }

    /// Fetches one commit; the bytes of its pack go to `pack`.
    pub(in crate::source) async fn fetch(
        &self,
        url: &str,
        want: &str,
        have: &[String],
        pack: mpsc::Sender<Vec<u8>>,
    ) -> Result<()> {
        let transfer = async {
            let answer = self.post(url, fetch(want, have)).await?;
            let mut body = answer.bytes_stream();
            let (mut reader, mut size) = (PackReader::default(), 0);
            while let Some(chunk) = body.next().await {
                let bytes = reader.take(&chunk.map_err(|error| self.broken(url, &error))?)?;
                size += bytes.len();
                if size > self.limits.pack {
                    let why = format!("the pack is larger than {} MiB", self.limits.pack >> 20);
                    return Err(Error::new(Code::SourceTooLarge, why));
                }
                if !bytes.is_empty() && pack.send(bytes).await.is_err() {
                    // The index refused the pack and says why itself.
                    return Ok(());
                }
            }
            if reader.is_complete() {
                Ok(())
            } else {
                Err(Error::new(Code::RepositoryCorrupt, format!("{url}: the pack was cut off")))
            }
        };
        match tokio::time::timeout(self.limits.fetch, transfer).await {
            Ok(result) => result,
            Err(_) => Err(slow(url, self.limits.fetch)),
        }
    }

    async fn post(&self, url: &str, body: Vec<u8>) -> Result<Response> {
        let mut target = format!("{url}/git-upload-pack");
        for _ in 0..MAX_REDIRECTS {
            let mut request = self
                .client
                .request(Method::POST, &target)
                .header("Git-Protocol", "version=2")
                .header(header::CONTENT_TYPE, "application/x-git-upload-pack-request")
                .header(header::ACCEPT, "application/x-git-upload-pack-result")
                .body(body.clone());
            if let Some((name, password)) = &self.credentials.basic {
                request = request.basic_auth(name, Some(password));
            } else if let Some(token) = &self.credentials.bearer {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.map_err(|error| self.broken(url, &error))?;
            if !answer.status().is_redirection() {
                return self.accepted(url, answer);
            }
            target = redirect(&target, answer.headers().get(header::LOCATION))?;
        }
        Err(Error::new(Code::RedirectRefused, format!("{url}: more than {MAX_REDIRECTS} redirects")))
    }

    fn accepted(&self, url: &str, answer: Response) -> Result<Response> {
        let anonymous = self.credentials.basic.is_none() && self.credentials.bearer.is_none();
        let status = answer.status();
        let (code, why) = match status {
            StatusCode::OK => {
                let kind = answer
                    .headers()
                    .get(header::CONTENT_TYPE)
                    .and_then(|kind| kind.to_str().ok())
                    .unwrap_or("");
                if kind.starts_with("application/x-git-upload-pack-result") {
                    return Ok(answer);
                }
                (
                    Code::RepositoryCorrupt,
                    format!("the answer is {kind:?}, not Git's; is this a repository's address?"),
                )
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if anonymous => (
                Code::AuthenticationFailed,
                format!("{status} without credentials; name a Secret in secretRef"),
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (Code::AuthenticationFailed, format!("{status} with the credentials of the Secret"))
            }
            StatusCode::NOT_FOUND => (
                Code::RepositoryUnreachable,
                "404: no such repository, or these credentials may not see it".into(),
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                (Code::RepositoryUnreachable, "429: the server asks for fewer requests".into())
            }
            _ => (Code::RepositoryUnreachable, format!("the server answered {status}")),
        };
        Err(Error::new(code, format!("{url}: {why}")))
    }

    fn broken(&self, url: &str, error: &reqwest::Error) -> Error {
        if error.is_timeout() {
            let limit = if error.is_connect() { self.limits.connect } else { self.limits.idle };
            return slow(url, limit);
        }
        let mut reasons = vec![];
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(inner) = cause {
            reasons.push(inner.to_string());
            cause = inner.source();
        }
        // The innermost cause is the one a person can act on; the layers around it repeat the address.
        let why = reasons.last().cloned().unwrap_or_else(|| error.to_string());
        let certificate =
            reasons.iter().any(|reason| reason.contains("certificate") || reason.contains("UnknownIssuer"));
        let code = if certificate {
            Code::CertificateRefused
        } else if error.is_body() || error.is_decode() {
            Code::RepositoryCorrupt
        } else {
            Code::RepositoryUnreachable
        };
        Error::new(code, format!("{url}: {why}"))
    }
}

fn slow(url: &str, limit: Duration) -> Error {
    Error::new(Code::SourceTimedOut, format!("{url}: no answer within {} s", limit.as_secs_f32()))
}

/// Where a redirect leads; only the same host may get the credentials, and never less protected.
fn redirect(from: &str, to: Option<&header::HeaderValue>) -> Result<String> {
    let refused = |why: String| Error::new(Code::RedirectRefused, format!("{from}: {why}"));
    let to =
        to.and_then(|to| to.to_str().ok()).ok_or_else(|| refused("a redirect without a target".into()))?;
    let from_url = reqwest::Url::parse(from).map_err(|error| refused(error.to_string()))?;
    let to_url = from_url.join(to).map_err(|error| refused(error.to_string()))?;
    let same_place = from_url.host_str() == to_url.host_str()
        && (from_url.port_or_known_default() == to_url.port_or_known_default()
            || from_url.scheme() == "http" && to_url.scheme() == "https");
    let downgrade = from_url.scheme() == "https" && to_url.scheme() != "https";
    if !same_place || downgrade {
        let host = to_url.host_str().unwrap_or_default();
        let why =
            format!("it redirects to {}://{host}, which spec.source.repo does not name", to_url.scheme());
        return Err(refused(why));
    }
    Ok(to_url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_with_their_host() {
        let check =
            |from: &str, to: &'static str| redirect(from, Some(&header::HeaderValue::from_static(to))).ok();
        assert_eq!(check("https://a.example/x", "/y").as_deref(), Some("https://a.example/y"));
        assert_eq!(
            check("http://a.example/x", "https://a.example/x").as_deref(),
            Some("https://a.example/x")
        );
        assert_eq!(check("https://a.example/x", "https://b.example/x"), None);
        assert_eq!(check("https://a.example/x", "http://a.example/x"), None);
        assert_eq!(check("https://a.example/x", "https://a.example:8443/x"), None);
    }
}
