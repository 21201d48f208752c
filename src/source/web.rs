//! What Git, registries and Helm repositories have in common over HTTP: one client for a set of credentials,
//! redirects, limits, and failures in words.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::pause::Pauses;
use crate::error::{Code, Error, Result};
use crate::source::{Credentials, Limits};

/// Hops before a redirect is called a loop.
const MAX_REDIRECTS: usize = 5;

/// A client for one set of credentials; keeps its connections.
pub(super) struct Web {
    pub(super) client: reqwest::Client,
    /// For hosts that the source does not name: without the client certificate.
    foreign: reqwest::Client,
    pub(super) credentials: Credentials,
    pub(super) limits: Limits,
    pauses: Pauses,
}

/// One question.
pub(super) struct Asked<'a> {
    /// Where the failure is said to be.
    pub(super) place: &'a str,
    /// How it is asked.
    pub(super) method: Method,
    /// Where.
    pub(super) url: Url,
    /// Headers for whoever answers.
    pub(super) headers: HeaderMap,
    /// For the first host alone.
    pub(super) authorization: Option<HeaderValue>,
    /// The host is the one that the source names, so it may see the client certificate.
    pub(super) own: bool,
    /// A form to send, encoded.
    pub(super) form: Option<String>,
}

/// All of an answer.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// `sha256:` and 64 hexadecimal digits.
    pub(super) digest: String,
}

impl Web {
    pub(super) fn new(credentials: &Credentials, limits: Limits) -> Result<Arc<Self>> {
        let own = client(credentials, limits, true)?;
        let foreign =
            if credentials.client.is_some() { client(credentials, limits, false)? } else { own.clone() };
        let (credentials, pauses) = (credentials.clone(), Pauses::default());
        Ok(Arc::new(Self { client: own, foreign, credentials, limits, pauses }))
    }

    /// Asks and follows redirects: over the same host with the credentials, to any other without them, and never
    /// from https to http.
    pub(super) async fn send(&self, asked: Asked<'_>) -> Result<Response> {
        let (mut url, mut own) = (asked.url, asked.own);
        let (mut authorization, mut form) = (asked.authorization, asked.form);
        for _ in 0..=MAX_REDIRECTS {
            let client = if own { &self.client } else { &self.foreign };
            let mut request =
                client.request(asked.method.clone(), url.clone()).headers(asked.headers.clone());
            if let Some(authorization) = &authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            if let Some(form) = &form {
                request = request
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.clone());
            }
            let request = request.build().map_err(|error| broken(asked.place, self.limits, &error))?;
            let answer = self.exchange(client, asked.place, request).await?;
            // 304 is an answer.
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let refused = |why: String| Error::new(Code::RedirectRefused, format!("{}: {why}", asked.place));
            let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let to = to.ok_or_else(|| refused("a redirect without a target".into()))?;
            let to = url.join(to).map_err(|error| refused(error.to_string()))?;
            let host = to.host_str().unwrap_or_default();
            if to.scheme() != "https" && (url.scheme() == "https" || to.scheme() != "http") {
                return Err(refused(format!(
                    "it redirects to {}://{host}, which is not protected",
                    to.scheme()
                )));
            }
            if !same_place(&url, &to) {
                (own, authorization, form) = (false, None, None);
            }
            url = to;
        }
        Err(Error::new(
            Code::RedirectRefused,
            format!("{}: more than {MAX_REDIRECTS} redirects", asked.place),
        ))
    }

    /// One request and the begin of its answer, to a host that has not asked to be left alone.
    pub(super) async fn exchange(
        &self,
        client: &reqwest::Client,
        place: &str,
        request: reqwest::Request,
    ) -> Result<Response> {
        let url = request.url().clone();
        self.pauses.check(place, &url)?;
        let answer = client.execute(request).await.map_err(|error| broken(place, self.limits, &error))?;
        self.pauses.heed(place, &url, answer.status(), answer.headers())?;
        Ok(answer)
    }

    /// What a status other than success means.
    pub(super) fn refused(&self, place: &str, status: StatusCode) -> Error {
        let (code, why) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.credentials.is_anonymous() => (
                Code::AuthenticationFailed,
                format!("{status} without credentials; name a Secret in secretRef"),
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (Code::AuthenticationFailed, format!("{status} with the credentials of the Secret"))
            }
            StatusCode::NOT_FOUND => (
                Code::RepositoryUnreachable,
                "404: no such repository, or these credentials may not see it".to_owned(),
            ),
            StatusCode::TOO_MANY_REQUESTS => {
                (Code::RepositoryUnreachable, "429: the server asks for fewer requests".to_owned())
            }
            _ => (Code::RepositoryUnreachable, format!("the server answered {status}")),
        };
        Error::new(code, format!("{place}: {why}"))
    }

    /// All of an answer, up to a limit.
    pub(super) async fn body(
        &self,
        place: &str,
        what: &str,
        mut answer: Response,
        limit: usize,
    ) -> Result<Body> {
        let large = || {
            let why = format!("{place}: {what} is larger than {}", size(limit));
            Error::new(Code::SourceTooLarge, why)
        };
        if answer.content_length().is_some_and(|length| length > limit as u64) {
            return Err(large());
        }
        let (mut bytes, mut hash) = (Vec::new(), Sha256::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| broken(place, self.limits, &error))? {
            if bytes.len() + chunk.len() > limit {
                return Err(large());
            }
            hash.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        let hash = data_encoding::HEXLOWER.encode(&hash.finalize());
        Ok(Body { bytes, digest: format!("sha256:{hash}") })
    }
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Whether what is for one address may be told to another: the same host and port, or its protected side.
pub(super) fn same_place(from: &Url, to: &Url) -> bool {
    let same = from.host_str() == to.host_str()
        && (from.port_or_known_default() == to.port_or_known_default()
            || from.scheme() == "http" && to.scheme() == "https");
    same && (from.scheme() != "https" || to.scheme() == "https")
}

fn client(credentials: &Credentials, limits: Limits, identified: bool) -> Result<reqwest::Client> {
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
        let certificates =
            reqwest::Certificate::from_pem_bundle(authority).map_err(|error| invalid("caFile", &error))?;
        if certificates.is_empty() {
            return Err(Error::new(Code::CredentialsInvalid, "caFile holds no certificate"));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some(client) = credentials.client.as_ref().filter(|_| identified) {
        let identity =
            reqwest::Identity::from_pem(client).map_err(|error| invalid("tls.crt or tls.key", &error))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| invalid("the TLS configuration", &error))
}

/// Why a request or its answer ended early.
pub(super) fn broken(place: &str, limits: Limits, error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        let limit = if error.is_connect() { limits.connect } else { limits.idle };
        return slow(place, limit);
    }
    let mut reasons = vec![];
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        reasons.push(inner.to_string());
        cause = inner.source();
    }
    // The innermost cause is the one a person can act on; the layers around it repeat the address.
    let why = reasons.last().cloned().unwrap_or_else(|| {
        // Addresses of storage hosts hold signatures.
        let text = error.to_string();
        error.url().map_or_else(|| text.clone(), |url| text.replace(url.as_str(), "its address"))
    });
    let certificate =
        reasons.iter().any(|reason| reason.contains("certificate") || reason.contains("UnknownIssuer"));
    let code = if certificate {
        Code::CertificateRefused
    } else if error.is_body() || error.is_decode() {
        Code::RepositoryCorrupt
    } else {
        Code::RepositoryUnreachable
    };
    Error::new(code, format!("{place}: {why}"))
}

pub(super) fn slow(place: &str, limit: Duration) -> Error {
    Error::new(Code::SourceTimedOut, format!("{place}: no answer within {} s", limit.as_secs_f32()))
}

/// The result of some work, or `SourceTimedOut` when it takes longer.
pub(super) async fn within<T>(
    limit: Duration,
    place: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(slow(place, limit)))
}
