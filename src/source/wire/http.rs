//! Git over HTTP.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use tokio::sync::mpsc;

use super::classic::Advertisement;
use super::{PackReader, Want, check_refs, fetch, list_refs, malformed, refs};
use crate::error::{Code, Error, Result};
use crate::source::github::Token;
use crate::source::web::{Web, broken, same_place, within};

/// Hops to the same host before a redirect is called a loop.
const MAX_REDIRECTS: usize = 5;

/// A client for one set of credentials; keeps its connections.
#[derive(Clone)]
pub(in crate::source) struct Http {
    web: Arc<Web>,
    /// The newest token of a GitHub App.
    token: Arc<tokio::sync::Mutex<Option<Token>>>,
    /// Addresses whose servers speak the first protocol only.
    classic: Arc<Mutex<HashSet<String>>>,
}

impl Http {
    pub(in crate::source) fn new(web: Arc<Web>) -> Self {
        Self { web, token: Arc::default(), classic: Arc::default() }
    }

    /// Lists refs in one request.
    pub(in crate::source) async fn list(
        &self,
        url: &str,
        prefixes: &[String],
    ) -> Result<Vec<(String, String)>> {
        let poll = async {
            if self.is_classic(url) {
                return self
                    .advertisement(url)
                    .await?
                    .map(|told| told.refs)
                    .ok_or_else(|| malformed("it changed its protocol"));
            }
            let asked = async {
                let answer = self.post(url, list_refs(prefixes), true).await?;
                refs(&self.body(url, answer).await?)
            };
            match asked.await {
                Err(error) if matches!(error.code, Code::RepositoryCorrupt | Code::RepositoryUnreachable) => {
                    // A server of the first protocol can make nothing of the question; it is told by its greeting.
                    let Ok(Some(told)) = self.advertisement(url).await else { return Err(error) };
                    self.classic.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned());
                    Ok(told.refs)
                }
                other => other,
            }
        };
        within(self.web.limits.poll, url, poll).await
    }

    /// Fetches; the bytes of the pack go to `pack`.
    pub(in crate::source) async fn fetch(
        &self,
        url: &str,
        want: Want<'_>,
        pack: mpsc::Sender<Vec<u8>>,
    ) -> Result<()> {
        let transfer = async {
            let (answer, mut reader) = if self.is_classic(url) {
                let told =
                    self.advertisement(url).await?.ok_or_else(|| malformed("it changed its protocol"))?;
                (self.post(url, told.fetch(&want), false).await?, PackReader::classic(want.limit))
            } else {
                (self.post(url, fetch(&want), true).await?, PackReader::new(want.limit))
            };
            let mut body = answer.bytes_stream();
            while let Some(chunk) = body.next().await {
                let bytes = reader.take(&chunk.map_err(|error| self.broken(url, &error))?)?;
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
        within(self.web.limits.fetch, url, transfer).await
    }

    fn is_classic(&self, url: &str) -> bool {
        self.classic.lock().unwrap_or_else(PoisonError::into_inner).contains(url)
    }

    /// What a server of the first protocol tells; `None` from one of version 2.
    async fn advertisement(&self, url: &str) -> Result<Option<Advertisement>> {
        let request = self.web.client.get(format!("{url}/info/refs?service=git-upload-pack"));
        let answer = self.send(url, request, "application/x-git-upload-pack-advertisement").await?;
        let bytes = self.body(url, answer).await?;
        if bytes.windows(9).take(200).any(|window| window == b"version 2") {
            return Ok(None);
        }
        Advertisement::read(&bytes).map(Some)
    }

    async fn body(&self, url: &str, mut answer: Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.broken(url, &error))? {
            bytes.extend_from_slice(&chunk);
            check_refs(bytes.len())?;
        }
        Ok(bytes)
    }

    async fn post(&self, url: &str, body: Vec<u8>, version2: bool) -> Result<Response> {
        let mut request = self
            .web
            .client
            .request(Method::POST, format!("{url}/git-upload-pack"))
            .header(header::CONTENT_TYPE, "application/x-git-upload-pack-request")
            .body(body);
        if version2 {
            request = request.header("Git-Protocol", "version=2");
        }
        self.send(url, request, "application/x-git-upload-pack-result").await
    }

    async fn send(&self, url: &str, request: RequestBuilder, kind: &str) -> Result<Response> {
        let invalid =
            |error: &dyn std::fmt::Display| Error::new(Code::RepositoryInvalid, format!("{url}: {error}"));
        let mut target: Option<String> = None;
        for _ in 0..MAX_REDIRECTS {
            let mut request = request
                .try_clone()
                .ok_or_else(|| invalid(&"a request that cannot be repeated"))?
                .header(header::ACCEPT, kind);
            if let Some(token) = self.app_token(url).await? {
                request = request.basic_auth("x-access-token", Some(token));
            } else if let Some((name, password)) = &self.web.credentials.basic {
                request = request.basic_auth(name, Some(password));
            } else if let Some(token) = &self.web.credentials.bearer {
                request = request.bearer_auth(token);
            }
            let mut request = request.build().map_err(|error| invalid(&error))?;
            if let Some(target) = &target {
                *request.url_mut() = target.parse().map_err(|error| invalid(&error))?;
            }
            let from = request.url().clone();
            let answer = self.web.exchange(&self.web.client, url, request).await?;
            if !answer.status().is_redirection() {
                let accepted = self.accepted(url, answer, kind);
                if accepted.as_ref().is_err_and(|error| error.code == Code::AuthenticationFailed) {
                    *self.token.lock().await = None;
                }
                return accepted;
            }
            target = Some(redirect(from.as_str(), answer.headers().get(header::LOCATION))?);
        }
        Err(Error::new(Code::RedirectRefused, format!("{url}: more than {MAX_REDIRECTS} redirects")))
    }

    /// The token to use where the credentials are those of a GitHub App.
    async fn app_token(&self, url: &str) -> Result<Option<String>> {
        let Some(app) = &self.web.credentials.app else { return Ok(None) };
        let mut token = self.token.lock().await;
        if let Some(known) = token.as_ref().filter(|known| known.until > Instant::now()) {
            return Ok(Some(known.text.clone()));
        }
        let fresh = app.token(&self.web.client, url).await?;
        let text = fresh.text.clone();
        *token = Some(fresh);
        Ok(Some(text))
    }

    fn accepted(&self, url: &str, answer: Response, wanted: &str) -> Result<Response> {
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(self.web.refused(url, status));
        }
        let kind =
            answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if kind.starts_with(wanted) {
            return Ok(answer);
        }
        let why = format!("{url}: the answer is {kind:?}, not Git's; is this a repository's address?");
        Err(Error::new(Code::RepositoryCorrupt, why))
    }

    fn broken(&self, url: &str, error: &reqwest::Error) -> Error {
        broken(url, self.web.limits, error)
    }
}

/// Where a redirect leads; only the same host may get the credentials, and never less protected.
fn redirect(from: &str, to: Option<&header::HeaderValue>) -> Result<String> {
    let refused = |why: String| Error::new(Code::RedirectRefused, format!("{from}: {why}"));
    let to =
        to.and_then(|to| to.to_str().ok()).ok_or_else(|| refused("a redirect without a target".into()))?;
    let from_url = reqwest::Url::parse(from).map_err(|error| refused(error.to_string()))?;
    let to_url = from_url.join(to).map_err(|error| refused(error.to_string()))?;
    if !same_place(&from_url, &to_url) {
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
