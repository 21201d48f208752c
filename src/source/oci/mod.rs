//! OCI registries, read as the distribution specification says: tags, manifests and blobs, each checked against its
//! digest. A poll of a tag is one HEAD.

mod auth;
mod manifest;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::web::{Asked, Web, same_place, size, within};
use crate::error::{Code, Error, Result};
use crate::source::revision::Pinned;
use crate::source::{Location, Revision, version};
use auth::{Challenge, Grant};
use manifest::{ACCEPT, Manifest};

/// What the specification asks registries to take at least.
const MAX_MANIFEST: usize = 4 << 20;
/// Pages of a list of tags, and tags in all.
const MAX_PAGES: usize = 200;
const MAX_TAGS: usize = 100_000;
/// Bytes of a token server's answer.
const MAX_TOKEN: usize = 1 << 20;

/// A repository of a registry.
#[derive(Clone, Copy)]
pub(super) struct Address<'a> {
    pub(super) registry: &'a str,
    pub(super) repository: &'a str,
    pub(super) plain: bool,
    /// Tags are versions of a chart.
    pub(super) chart: bool,
    /// As people write it, for messages.
    pub(super) place: &'a str,
}

impl Address<'_> {
    fn url(&self, rest: &str) -> Result<Url> {
        // The hub's name is not where its registry is.
        let host = if self.registry == "docker.io" { "registry-1.docker.io" } else { self.registry };
        let library =
            if self.registry == "docker.io" && !self.repository.contains('/') { "library/" } else { "" };
        let scheme = if self.plain { "http" } else { "https" };
        let text = format!("{scheme}://{host}/v2/{library}{}/{rest}", self.repository);
        Url::parse(&text)
            .map_err(|error| Error::new(Code::RepositoryInvalid, format!("{}: {error}", self.place)))
    }

    fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        Error::new(Code::RepositoryCorrupt, format!("{}: {why}", self.place))
    }
}

impl Location {
    /// The repository of an OCI location.
    pub(super) fn address<'a>(&'a self, place: &'a str) -> Option<Address<'a>> {
        let Self::Oci { registry, repository, plain, chart } = self else { return None };
        Some(Address { registry, repository, plain: *plain, chart: *chart, place })
    }
}

/// The files of an artifact, still packed.
pub(super) struct Pulled {
    pub(super) archive: Vec<u8>,
    pub(super) is_chart: bool,
    pub(super) annotations: BTreeMap<String, String>,
}

/// A client of registries for one set of credentials.
#[derive(Clone)]
pub(super) struct Registry {
    web: Arc<Web>,
    /// What let in last, by registry and repository.
    grants: Arc<Mutex<HashMap<String, Grant>>>,
}

impl Registry {
    pub(super) fn new(web: Arc<Web>) -> Self {
        Self { web, grants: Arc::default() }
    }

    /// Which digest a revision names now.
    pub(super) async fn resolve(&self, at: Address<'_>, revision: &Revision) -> Result<Pinned> {
        let poll = async {
            match revision {
                Revision::Pinned(pinned) => Ok(pinned.clone()),
                Revision::Tag(tag) => match self.head(at, tag).await? {
                    Some(digest) => Ok(Pinned { name: tag.clone(), digest }),
                    None => Err(missing(at, tag, self.tags(at).await?)),
                },
                Revision::Version(text) if version::is_full(text) => {
                    // Tags have no plus.
                    match self.head(at, &text.replace('+', "_")).await? {
                        Some(digest) => Ok(Pinned { name: text.clone(), digest }),
                        None => self.choose(at, text).await,
                    }
                }
                Revision::Version(range) | Revision::Versions(range) => self.choose(at, range).await,
                other => Err(Error::new(
                    Code::ApplicationInvalid,
                    format!("{}: revision {other} is for Git", at.place),
                )),
            }
        };
        within(self.web.limits.poll, at.place, poll).await
    }

    async fn choose(&self, at: Address<'_>, range: &str) -> Result<Pinned> {
        let tags = self.tags(at).await?;
        let name = |tag: &String| tag.replace('_', "+");
        let Some(tag) = version::newest(tags.iter(), range, |tag| name(tag)) else {
            return Err(missing(at, range, tags));
        };
        let digest = self.head(at, tag).await?;
        let digest =
            digest.ok_or_else(|| at.corrupt(format!("it lists the tag {tag} and does not have it")))?;
        Ok(Pinned { name: name(tag), digest })
    }

    /// The digest that a tag has now; `None` where there is no such tag.
    async fn head(&self, at: Address<'_>, tag: &str) -> Result<Option<String>> {
        let url = at.url(&format!("manifests/{tag}"))?;
        let answer = self.ask(at, Method::HEAD, url.clone(), ACCEPT).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {}
            status => return Err(auth::denied(&self.web, at.registry, at.place, status)),
        }
        let told = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        if let Some(pinned) = told.and_then(Pinned::parse).filter(|_| answer.status() == StatusCode::OK) {
            return Ok(Some(pinned.digest));
        }
        // A registry that does not tell: the manifest itself does.
        let answer = self.ask(at, Method::GET, url, ACCEPT).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(auth::denied(&self.web, at.registry, at.place, status)),
        }
        Ok(Some(self.web.body(at.place, "the manifest", answer, MAX_MANIFEST).await?.digest))
    }

    /// All tags.
    async fn tags(&self, at: Address<'_>) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut url = at.url("tags/list?n=1000")?;
        for _ in 0..MAX_PAGES {
            let answer = self.ask(at, Method::GET, url.clone(), "application/json").await?;
            if answer.status() != StatusCode::OK {
                return Err(auth::denied(&self.web, at.registry, at.place, answer.status()));
            }
            let next =
                answer.headers().get(header::LINK).and_then(|link| link.to_str().ok()).and_then(next_page);
            let next = next.map(|next| url.join(&next)).transpose().map_err(|error| at.corrupt(error))?;
            let page = self.web.body(at.place, "the list of tags", answer, MAX_MANIFEST).await?;
            let page: Page = serde_json::from_slice(&page.bytes)
                .map_err(|error| at.corrupt(format!("the list of tags cannot be read: {error}")))?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_TAGS {
                break;
            }
            let Some(next) = next else { return Ok(tags) };
            if !same_place(&url, &next) {
                return Err(at.corrupt("the list of tags goes on at another host"));
            }
            url = next;
        }
        let why =
            format!("{}: the list of tags is longer than {MAX_TAGS} tags or {MAX_PAGES} pages", at.place);
        Err(Error::new(Code::SourceTooLarge, why))
    }

    /// Brings the files of a manifest.
    pub(super) async fn pull(&self, at: Address<'_>, digest: &str) -> Result<Pulled> {
        let transfer = async {
            let mut manifest = self.manifest(at, digest).await?;
            let told = |error: Error| Error { why: format!("{}: {}", at.place, error.why), ..error };
            if let Some(only) = manifest.only().map_err(told)? {
                let annotations = std::mem::take(&mut manifest.annotations);
                manifest = self.manifest(at, &only).await?;
                if manifest.only().map_err(told)?.is_some() {
                    return Err(at.corrupt("an index in an index"));
                }
                manifest.annotations.extend(annotations);
            }
            let layer = manifest.layer().map_err(told)?;
            if at.chart && !layer.is_chart {
                let why =
                    format!("{}: it is an artifact and no chart; leave out spec.source.chart", at.place);
                return Err(Error::new(Code::ArchiveInvalid, why));
            }
            let limit = self.web.limits.archive;
            if layer.size > limit as u64 {
                let why = format!(
                    "{}: the layer has {}; the limit is {}",
                    at.place,
                    size(usize::try_from(layer.size).unwrap_or(usize::MAX)),
                    size(limit)
                );
                return Err(Error::new(Code::SourceTooLarge, why));
            }
            let answer =
                self.ask(at, Method::GET, at.url(&format!("blobs/{}", layer.digest))?, "*/*").await?;
            if answer.status() != StatusCode::OK {
                return Err(self.absent(at, "the layer", &layer.digest, answer.status()));
            }
            let body = self.web.body(at.place, "the layer", answer, limit).await?;
            if body.digest != layer.digest {
                return Err(at.corrupt(format!("the layer {} came as {}", layer.digest, body.digest)));
            }
            Ok(Pulled { archive: body.bytes, is_chart: layer.is_chart, annotations: manifest.annotations })
        };
        within(self.web.limits.fetch, at.place, transfer).await
    }

    async fn manifest(&self, at: Address<'_>, digest: &str) -> Result<Manifest> {
        let answer = self.ask(at, Method::GET, at.url(&format!("manifests/{digest}"))?, ACCEPT).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.absent(at, "the manifest", digest, answer.status()));
        }
        let body = self.web.body(at.place, "the manifest", answer, MAX_MANIFEST).await?;
        if body.digest != digest {
            return Err(at.corrupt(format!("the manifest {digest} came as {}", body.digest)));
        }
        Manifest::read(&body.bytes).map_err(|error| at.corrupt(error.why))
    }

    fn absent(&self, at: Address<'_>, what: &str, digest: &str, status: StatusCode) -> Error {
        if status == StatusCode::NOT_FOUND {
            return Error::new(Code::RevisionNotFound, format!("{} has not {what} {digest}", at.place));
        }
        auth::denied(&self.web, at.registry, at.place, status)
    }

    /// Asks; where the registry wants to know who asks, tells it and asks again.
    async fn ask(&self, at: Address<'_>, method: Method, url: Url, accept: &'static str) -> Result<Response> {
        let key = format!("{}/{}", at.registry, at.repository);
        for round in 0..2 {
            let answer = self
                .web
                .send(Asked {
                    place: at.place,
                    method: method.clone(),
                    url: url.clone(),
                    headers: HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]),
                    authorization: self.granted(&key)?,
                    own: true,
                    form: None,
                })
                .await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            self.lock(|grants| grants.remove(&key));
            // A host that was redirected to has no say in where credentials go.
            if round > 0 || self.web.credentials.bearer.is_some() || !same_place(&url, answer.url()) {
                break;
            }
            let grant = self.grant(at, &url, answer.headers()).await?;
            self.lock(|grants| grants.insert(key.clone(), grant));
        }
        Err(auth::denied(&self.web, at.registry, at.place, StatusCode::UNAUTHORIZED))
    }

    fn lock<T>(&self, change: impl FnOnce(&mut HashMap<String, Grant>) -> T) -> T {
        change(&mut self.grants.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn granted(&self, key: &str) -> Result<Option<HeaderValue>> {
        if let Some(token) = &self.web.credentials.bearer {
            return auth::bearer(token).map(Some);
        }
        Ok(self.lock(|grants| {
            let grant = grants.get(key)?;
            grant.until.is_none_or(|until| until > Instant::now()).then(|| grant.header.clone())
        }))
    }

    /// Satisfies a challenge.
    async fn grant(&self, at: Address<'_>, url: &Url, headers: &HeaderMap) -> Result<Grant> {
        let account = auth::account(&self.web.credentials, at.registry, at.repository);
        let challenges = auth::challenges(headers);
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let Some((realm, service, scope)) = bearer else {
            let account = account.filter(|_| challenges.contains(&Challenge::Basic));
            let account = account
                .ok_or_else(|| auth::denied(&self.web, at.registry, at.place, StatusCode::UNAUTHORIZED))?;
            return Ok(Grant { header: auth::basic(&account)?, until: None });
        };
        let mut realm = auth::realm(url, realm, account.is_some(), at.place)?;
        let scope = if scope.is_empty() { &format!("repository:{}:pull", at.repository) } else { scope };
        let mut pairs = vec![("scope", scope.as_str())];
        if !service.is_empty() {
            pairs.insert(0, ("service", service));
        }
        let refresh = account.as_ref().filter(|account| !account.identity_token.is_empty());
        let mut form = None;
        if let Some(account) = refresh {
            pairs.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "driftless"),
                ("refresh_token", account.identity_token.as_str()),
            ]);
            let mut encoder = realm.clone();
            encoder.query_pairs_mut().clear().extend_pairs(pairs);
            form = Some(encoder.query().unwrap_or_default().to_owned());
        } else {
            realm.query_pairs_mut().extend_pairs(pairs);
        }
        let place = format!("{} (its token server {})", at.place, realm.host_str().unwrap_or_default());
        let answer = self
            .web
            .send(Asked {
                place: &place,
                method: if form.is_some() { Method::POST } else { Method::GET },
                own: same_place(url, &realm),
                url: realm,
                headers: HeaderMap::new(),
                authorization: match &account {
                    Some(account) if form.is_none() => Some(auth::basic(account)?),
                    _ => None,
                },
                form,
            })
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(auth::denied(&self.web, at.registry, &place, answer.status()));
        }
        let body = self.web.body(&place, "the token", answer, MAX_TOKEN).await?;
        auth::token(&body.bytes, &place, Instant::now())
    }
}

fn missing(at: Address<'_>, wanted: &str, tags: Vec<String>) -> Error {
    let (what, tags) = if at.chart {
        ("version", tags.iter().map(|tag| tag.replace('_', "+")).collect())
    } else {
        ("tag or version", tags)
    };
    let near = version::near(wanted, tags);
    Error::new(Code::RevisionNotFound, format!("{} has no {what} {wanted}; {near}", at.place))
}

/// The target of `<...>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (target, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        let next = rest.split(';').any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next"));
        next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        for (link, expected) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            ("<https://r/x>; rel=next", Some("https://r/x")),
            (r#"</a>; rel="prev", </b>; rel="next""#, Some("/b")),
            ("nonsense", None),
        ] {
            assert_eq!(next_page(link).as_deref(), expected);
        }
    }

    #[test]
    fn the_hub_is_elsewhere() {
        let url = |registry: &str, repository: &str| {
            let at = Address { registry, repository, plain: false, chart: false, place: "" };
            at.url("tags/list").unwrap().to_string()
        };
        assert_eq!(url("docker.io", "alpine"), "https://registry-1.docker.io/v2/library/alpine/tags/list");
        assert_eq!(url("docker.io", "a/b"), "https://registry-1.docker.io/v2/a/b/tags/list");
        assert_eq!(url("r.example:5000", "a"), "https://r.example:5000/v2/a/tags/list");
    }
}
