//! Helm repositories: an index.yaml and archives. A poll of an index that has not changed is one 304, whatever the
//! number of its charts and of the applications that use them.

mod index;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::MultiGzDecoder;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::oci::Registry;
use super::web::{Asked, Body, Web, same_place, size, within};
use crate::error::{Code, Error, Result};
use crate::render::template::satisfies;
use crate::source::revision::{Pinned, is_tag};
use crate::source::{Credentials, Location, Revision, version};
use index::{Charts, Release};

/// An index as it was when it was read last.
#[derive(Default)]
struct Index {
    /// What the server knows it by.
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
    digest: String,
    /// Charts that are asked for; one that the index lacks has no versions.
    charts: Charts,
    /// Digests of archives whose digest the index does not say, by address and time of creation.
    learned: BTreeMap<(String, String), String>,
}

/// The index of a repository, and the charts of it that somebody has asked for: whoever waits for the first answer
/// is in it.
#[derive(Default)]
struct Shared {
    wanted: Mutex<BTreeSet<String>>,
    index: tokio::sync::Mutex<Index>,
}

/// A version that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Version and digest of the archive.
    pub(super) pinned: Pinned,
    /// Version of what the chart installs.
    pub(super) app_version: String,
    /// When it was packaged.
    pub(super) created: String,
    at: Place,
}

/// Where an archive is.
#[derive(Clone, Debug)]
enum Place {
    /// At an address of the web.
    Web(Url),
    /// In a registry: some repositories list charts that they do not hold.
    Registry(Location),
}

/// A client of Helm repositories for one set of credentials.
#[derive(Clone)]
pub(super) struct Repositories {
    web: Arc<Web>,
    indexes: Arc<Mutex<HashMap<String, Arc<Shared>>>>,
    /// Registries that an index names: each learns its own account of a docker configuration alone.
    strangers: Arc<Mutex<Option<Registry>>>,
}

impl Repositories {
    pub(super) fn new(web: Arc<Web>) -> Self {
        Self { web, indexes: Arc::default(), strangers: Arc::default() }
    }

    /// Which version and archive a revision names now.
    pub(super) async fn resolve(&self, repository: &str, chart: &str, revision: &Revision) -> Result<Pinned> {
        match revision {
            Revision::Pinned(pinned) => Ok(pinned.clone()),
            Revision::Version(range) => Ok(self.find(repository, chart, range, None).await?.pinned),
            other => Err(Error::new(
                Code::ApplicationInvalid,
                format!("revision {other} names no version of a chart"),
            )),
        }
    }

    /// The archive of a version that was found before.
    pub(super) async fn pull(
        &self,
        repository: &str,
        chart: &str,
        pinned: &Pinned,
    ) -> Result<(Found, Vec<u8>)> {
        let found = self.find(repository, chart, &pinned.name, Some(&pinned.digest)).await?;
        let url = match &found.at {
            Place::Registry(location) => {
                let place = location.to_string();
                let at = location.address(&place).ok_or_else(|| Error::new(Code::Internal, place.clone()))?;
                let pulled = self.strangers()?.pull(at, &pinned.digest).await?;
                return Ok((found, pulled.archive));
            }
            Place::Web(url) => url,
        };
        let body = self.archive(repository, url).await?;
        if body.digest != pinned.digest {
            let place = without_secrets(url);
            let why = format!("{place}: the archive came as {}, not as {}", body.digest, pinned.digest);
            return Err(Error::new(Code::RepositoryCorrupt, why));
        }
        Ok((found, body.bytes))
    }

    fn strangers(&self) -> Result<Registry> {
        let mut known = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = &*known {
            return Ok(registry.clone());
        }
        let own = &self.web.credentials;
        let (registries, authority) = (own.registries.clone(), own.authority.clone());
        let credentials = Credentials { authority, registries, ..Credentials::default() };
        let registry = Registry::new(Web::new(&credentials, self.web.limits)?);
        *known = Some(registry.clone());
        Ok(registry)
    }

    async fn find(&self, repository: &str, chart: &str, range: &str, digest: Option<&str>) -> Result<Found> {
        let location = Location::Chart { repository: repository.to_owned(), chart: chart.to_owned() };
        let place = location.to_string();
        let shared = {
            let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            indexes.entry(repository.to_owned()).or_default().clone()
        };
        shared.wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(chart.to_owned());
        let mut index = shared.index.lock().await;
        let refresh = self.refresh(repository, chart, &shared.wanted, &mut index);
        within(self.web.limits.fetch, &place, refresh).await?;
        let versions = index.charts.get(chart).map(Vec::as_slice).unwrap_or_default();
        if versions.is_empty() {
            let why = format!("{repository} has no chart {chart}");
            return Err(Error::new(Code::RevisionNotFound, why));
        }
        let chosen = choose(versions, range, digest)
            .cloned()
            .ok_or_else(|| missing(&place, versions, range, digest))?;
        let corrupt = |why: &str| {
            Error::new(Code::RepositoryCorrupt, format!("{place}: version {}: {why}", chosen.version))
        };
        let url = chosen.urls.first().ok_or_else(|| corrupt("the index gives no address for it"))?;
        let base = Url::parse(&format!("{repository}/")).map_err(|error| corrupt(&error.to_string()))?;
        let url = base.join(url).map_err(|error| corrupt(&format!("its address cannot be read: {error}")))?;
        let (at, digest) = match url.scheme() {
            "oci" | "oci+http" if url.scheme() == "oci" || base.scheme() == "http" => {
                let (location, tag) =
                    in_registry(&url, &chosen.version).map_err(|error| corrupt(&error.why))?;
                // The digest of such an entry is not what the registry knows the chart by.
                let digest = if let Some(known) = digest {
                    known.to_owned()
                } else {
                    let place = location.to_string();
                    let at = location.address(&place).ok_or_else(|| corrupt(&place))?;
                    self.strangers()?.resolve(at, &Revision::Tag(tag)).await?.digest
                };
                (Place::Registry(location), digest)
            }
            "https" | "http" if url.scheme() == "https" || base.scheme() == "http" => {
                let digest = self.digest(repository, &url, &chosen, &mut index).await?;
                (Place::Web(url), digest)
            }
            _ => {
                let url = without_secrets(&url);
                return Err(corrupt(&format!("the index names the address {url}, which is not protected")));
            }
        };
        Ok(Found {
            pinned: Pinned { name: chosen.version, digest },
            app_version: chosen.app_version,
            created: chosen.created,
            at,
        })
    }

    /// The digest of an archive: as the index says, or else its own.
    async fn digest(
        &self,
        repository: &str,
        url: &Url,
        chosen: &Release,
        index: &mut Index,
    ) -> Result<String> {
        if !chosen.digest.is_empty() {
            return Ok(format!("sha256:{}", chosen.digest));
        }
        let key = (url.to_string(), chosen.created.clone());
        if let Some(known) = index.learned.get(&key) {
            return Ok(known.clone());
        }
        let digest = self.archive(repository, url).await?.digest;
        index.learned.insert(key, digest.clone());
        Ok(digest)
    }

    /// Brings the index up to date, as far as this chart and those asked for before need it.
    async fn refresh(
        &self,
        repository: &str,
        chart: &str,
        wanted: &Mutex<BTreeSet<String>>,
        index: &mut Index,
    ) -> Result<()> {
        let place = format!("{repository}/index.yaml");
        let known = index.charts.contains_key(chart);
        let mut headers = HeaderMap::from_iter([
            (
                header::ACCEPT,
                HeaderValue::from_static("application/x-yaml, application/yaml, text/yaml, */*"),
            ),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip")),
        ]);
        if known {
            if let Some(etag) = &index.etag {
                headers.insert(header::IF_NONE_MATCH, etag.clone());
            } else if let Some(modified) = &index.modified {
                headers.insert(header::IF_MODIFIED_SINCE, modified.clone());
            }
        }
        let answer = self.ask(repository, &place, &place, headers).await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED if known => return Ok(()),
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                let why =
                    format!("{place}: 404; no Helm repository is there, or these credentials may not see it");
                return Err(Error::new(Code::RepositoryUnreachable, why));
            }
            status => return Err(self.web.refused(&place, status)),
        }
        let (etag, modified) = (
            answer.headers().get(header::ETAG).cloned(),
            answer.headers().get(header::LAST_MODIFIED).cloned(),
        );
        let packed = answer.headers().get(header::CONTENT_ENCODING).is_some_and(|kind| kind == "gzip");
        let limit = self.web.limits.index;
        let body = self.web.body(&place, "the index", answer, limit).await?;
        if !known || body.digest != index.digest {
            let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let place = place.clone();
            let read = move || -> Result<Charts> {
                let bytes = if packed { unpacked(&place, &body.bytes, limit)? } else { body.bytes };
                let told = |why: String| Error::new(Code::RepositoryCorrupt, format!("{place}: {why}"));
                let text = std::str::from_utf8(&bytes).map_err(|_| told("it is not UTF-8".to_owned()))?;
                let mut charts = index::read(text, &wanted).map_err(|error| told(error.why))?;
                for chart in wanted {
                    charts.entry(chart).or_default();
                }
                Ok(charts)
            };
            // A list of 20 MB keeps a core busy for some tenths of a second.
            let charts = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| Error::new(Code::Internal, error.to_string()))??;
            index.charts = charts;
            index.digest = body.digest;
        }
        (index.etag, index.modified) = (etag, modified);
        Ok(())
    }

    async fn archive(&self, repository: &str, url: &Url) -> Result<Body> {
        let place = without_secrets(url);
        let transfer = async {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("*/*"))]);
            let answer = self.ask(repository, url.as_str(), &place, headers).await?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => {
                    let why = format!("{place}: 404; the index names an archive that is not there");
                    return Err(Error::new(Code::RepositoryCorrupt, why));
                }
                status => return Err(self.web.refused(&place, status)),
            }
            self.web.body(&place, "the archive", answer, self.web.limits.archive).await
        };
        within(self.web.limits.fetch, &place, transfer).await
    }

    /// Asks; with the credentials where the host is the repository's own.
    async fn ask(&self, repository: &str, url: &str, place: &str, headers: HeaderMap) -> Result<Response> {
        let invalid =
            |error: &dyn std::fmt::Display| Error::new(Code::RepositoryInvalid, format!("{place}: {error}"));
        let url = Url::parse(url).map_err(|error| invalid(&error))?;
        let home = Url::parse(repository).map_err(|error| invalid(&error))?;
        let own = same_place(&home, &url);
        let authorization = if own { self.web.credentials.header()? } else { None };
        self.web
            .send(Asked { place, method: Method::GET, url, headers, authorization, own, form: None })
            .await
    }
}

/// An address without a query: hosts of archives sign theirs.
fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// As Helm chooses: the version that is written so, or else the highest in the range.
fn choose<'a>(versions: &'a [Release], range: &str, digest: Option<&str>) -> Option<&'a Release> {
    let fits = |one: &&Release| {
        let unsaid = one.digest.is_empty() || one.urls.first().is_some_and(|url| url.starts_with("oci"));
        digest.is_none_or(|digest| unsaid || digest.strip_prefix("sha256:") == Some(&one.digest))
    };
    if let (Some(digest), "") = (digest, range) {
        return versions.iter().find(|one| digest.strip_prefix("sha256:") == Some(&one.digest));
    }
    let exact = versions.iter().filter(fits).find(|one| one.version == range);
    exact.or_else(|| version::newest(versions.iter().filter(fits), range, |one| one.version.clone()))
}

/// The registry and tag of `oci://host/path:tag`.
fn in_registry(url: &Url, version: &str) -> Result<(Location, String)> {
    let text = without_secrets(url);
    let begin = text.rfind('/').map_or(0, |at| at + 1);
    let (address, tag) = match text[begin..].split_once(':') {
        Some((_, tag)) => (&text[..text.len() - tag.len() - 1], tag.to_owned()),
        None => (text.as_str(), version.replace('+', "_")),
    };
    if !is_tag(&tag) {
        return Err(Error::new(Code::RepositoryCorrupt, format!("its address {text} has no tag")));
    }
    match Location::parse(address)? {
        Location::Oci { registry, repository, plain, .. } => {
            Ok((Location::Oci { registry, repository, plain, chart: true }, tag))
        }
        other => Err(Error::new(Code::RepositoryCorrupt, format!("its address {other} is no registry's"))),
    }
}

fn missing(place: &str, versions: &[Release], range: &str, digest: Option<&str>) -> Error {
    let what = match digest {
        Some(digest) if range.is_empty() => format!("no version whose archive is {digest}"),
        Some(digest) => format!("no version {range} whose archive is {digest}"),
        None => format!("no version {range}"),
    };
    let early = digest.is_none() && satisfies(">0.0.0-0", &versions[0].version) && range == "*";
    let names = versions.iter().map(|one| one.version.clone()).collect();
    let error =
        Error::new(Code::RevisionNotFound, format!("{place} has {what}; {}", version::near(range, names)));
    if early { error.hint("\">0.0.0-0\" as revision takes pre-releases too") } else { error }
}

fn unpacked(place: &str, bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| Error::new(Code::RepositoryCorrupt, format!("{place}: its compression: {error}")))?;
    if text.len() > limit {
        let why = format!("{place}: the index is larger than {}", size(limit));
        return Err(Error::new(Code::SourceTooLarge, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_helm_chooses() {
        let one = |version: &str, digest: &str| Release {
            version: version.into(),
            digest: digest.into(),
            ..Release::default()
        };
        let all = [one("1.10.0", "a"), one("1.9.0", "b"), one("v1.2.0", ""), one("2.0.0-rc.1", "d")];
        for (range, digest, expected) in [
            ("*", None, Some("1.10.0")),
            ("1.9.0", None, Some("1.9.0")),
            ("1.2.0", None, Some("v1.2.0")),
            ("~1.9", None, Some("1.9.0")),
            ("2.0.0-rc.1", None, Some("2.0.0-rc.1")),
            ("2", None, None),
            (">0.0.0-0", None, Some("2.0.0-rc.1")),
            ("1.9.0", Some("sha256:b"), Some("1.9.0")),
            ("1.9.0", Some("sha256:x"), None),
            ("v1.2.0", Some("sha256:x"), Some("v1.2.0")),
            ("", Some("sha256:d"), Some("2.0.0-rc.1")),
            ("", Some("sha256:x"), None),
        ] {
            let found = choose(&all, range, digest).map(|one| one.version.as_str());
            assert_eq!(found, expected, "{range} {digest:?}");
        }
        let error = missing("p", &all[3..], "*", None);
        assert!(error.hint.is_some_and(|hint| hint.contains(">0.0.0-0")));
        assert!(missing("p", &all, "3", None).why.contains("1.10.0"));
    }

    #[test]
    fn compression_ends_at_the_limit() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&vec![0; 100_000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(unpacked("p", &packed, 100_000).unwrap().len(), 100_000);
        assert_eq!(unpacked("p", &packed, 99_999).unwrap_err().code, Code::SourceTooLarge);
        assert_eq!(unpacked("p", &packed[..50], 99_999).unwrap_err().code, Code::RepositoryCorrupt);
    }
}
