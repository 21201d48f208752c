//! Who a registry lets in: what it asks for, and where the credentials may go.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use crate::error::{Code, Error, Result};
use crate::source::credentials::{RegistryAccount, secret_header};
use crate::source::{Credentials, web};

/// What a registry answers a stranger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from another server.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// Whom they are for.
        service: String,
        /// What they are for.
        scope: String,
    },
}

/// What a registry has been satisfied with.
#[derive(Clone)]
pub(super) struct Grant {
    /// The header that lets in.
    pub(super) header: HeaderValue,
    /// When it is no longer used.
    pub(super) until: Option<Instant>,
}

/// The challenges of a 401, in its order.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()) {
        let mut current: Option<(String, Vec<(String, String)>)> = None;
        for (scheme, name, text) in (Words { rest: value }) {
            if let Some(scheme) = scheme {
                found.extend(current.take().and_then(challenge));
                current = Some((scheme, Vec::new()));
            }
            if let Some((_, parameters)) = &mut current
                && !name.is_empty()
            {
                parameters.push((name, text));
            }
        }
        found.extend(current.and_then(challenge));
    }
    found
}

fn challenge((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Challenge> {
    let find = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    };
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" if !find("realm").is_empty() => {
            Some(Challenge::Bearer { realm: find("realm"), service: find("service"), scope: find("scope") })
        }
        _ => None,
    }
}

/// `Bearer realm="x",service="y", Basic realm="z"` as scheme (where one begins), name and text.
struct Words<'a> {
    rest: &'a str,
}

impl Iterator for Words<'_> {
    type Item = (Option<String>, String, String);

    fn next(&mut self) -> Option<Self::Item> {
        let separators = [' ', ',', '\t'];
        self.rest = self.rest.trim_start_matches(separators);
        if self.rest.is_empty() {
            return None;
        }
        let end = |text: &str| text.find([' ', ',', '\t', '=']).unwrap_or(text.len());
        let at = end(self.rest);
        let (word, mut after) = self.rest.split_at(at);
        let (mut scheme, mut name) = (None, word);
        if !after.starts_with('=') {
            scheme = Some(word.to_owned());
            after = after.trim_start_matches([' ', '\t']);
            let at = end(after);
            // A scheme without parameters.
            if !after[at..].starts_with('=') {
                self.rest = after;
                return Some((scheme, String::new(), String::new()));
            }
            name = &after[..at];
            after = &after[at..];
        }
        let after = &after[1..];
        let text;
        if let Some(quoted) = after.strip_prefix('"') {
            let close = quoted.find('"').unwrap_or(quoted.len());
            text = quoted[..close].to_owned();
            self.rest = quoted.get(close + 1..).unwrap_or_default();
        } else {
            let close = after.find(separators).unwrap_or(after.len());
            text = after[..close].to_owned();
            self.rest = &after[close..];
        }
        Some((scheme, name.to_owned(), text))
    }
}

/// The account for a repository: name and password of the Secret, or the entry of a docker configuration whose place
/// is nearest.
pub(super) fn account(
    credentials: &Credentials,
    registry: &str,
    repository: &str,
) -> Option<RegistryAccount> {
    if let Some((username, password)) = &credentials.basic {
        let (username, password) = (username.clone(), password.clone());
        return Some(RegistryAccount { username, password, ..RegistryAccount::default() });
    }
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let fits = |place: &str| {
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        let same = host == registry || hub.contains(&host) && hub.contains(&registry);
        let below = path.is_empty()
            || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same && below
    };
    let found = credentials.registries.iter().filter(|one| fits(&one.place));
    found.max_by_key(|one| one.place.len()).cloned()
}

/// The header for name and password.
pub(super) fn basic(account: &RegistryAccount) -> Result<HeaderValue> {
    secret_header(&format!("Basic {}", STANDARD.encode(format!("{}:{}", account.username, account.password))))
}

/// The header for a token.
pub(super) fn bearer(token: &str) -> Result<HeaderValue> {
    secret_header(&format!("Bearer {token}"))
}

/// Where a token is asked for. Credentials go over TLS, or to the registry's own host where that has none either.
pub(super) fn realm(registry: &Url, realm: &str, with_credentials: bool, place: &str) -> Result<Url> {
    let refused = |why: &str| Error::new(Code::AuthenticationFailed, format!("{place}: {why}"));
    let url = Url::parse(realm).map_err(|_| refused("it names a token server that is no address"))?;
    let host = url.host_str().unwrap_or_default();
    let protected = url.scheme() == "https";
    let as_weak = url.scheme() == "http" && registry.scheme() == "http";
    if protected || as_weak && (!with_credentials || url.host_str() == registry.host_str()) {
        return Ok(url);
    }
    Err(refused(&format!(
        "it asks to send the credentials to {}://{host}, which is not protected",
        url.scheme()
    )))
}

/// A token as the token server gives it, and when it is no longer used.
pub(super) fn token(answer: &[u8], place: &str, now: Instant) -> Result<Grant> {
    let body: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let text =
        body["token"].as_str().or_else(|| body["access_token"].as_str()).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| {
        Error::new(Code::AuthenticationFailed, format!("{place}: the token server's answer has no token"))
    })?;
    // The specification's default; a tenth is left for clocks and long answers.
    let seconds = body["expires_in"].as_u64().unwrap_or(60).clamp(10, 86_400);
    Ok(Grant { header: bearer(text)?, until: Some(now + Duration::from_secs(seconds) * 9 / 10) })
}

/// Why a registry did not let in.
pub(super) fn denied(web: &web::Web, registry: &str, place: &str, status: reqwest::StatusCode) -> Error {
    let given = &web.credentials;
    let has_none = given.basic.is_none() && given.bearer.is_none();
    if has_none && given.app.is_some() {
        let why =
            format!("{place}: {status}; a GitHub App is for Git repositories, give username and password");
        return Error::new(Code::AuthenticationFailed, why);
    }
    if has_none && !given.registries.is_empty() && account(given, registry, "").is_none() {
        let places: Vec<&str> = given.registries.iter().map(|one| one.place.as_str()).collect();
        let why = format!("{place}: {status}; the Secret has accounts for {} only", places.join(", "));
        return Error::new(Code::AuthenticationFailed, why);
    }
    web.refused(place, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &'static str) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(text));
        challenges(&headers)
    }

    #[test]
    fn what_registries_ask_for() {
        let bearer = |realm: &str, service: &str, scope: &str| Challenge::Bearer {
            realm: realm.into(),
            service: service.into(),
            scope: scope.into(),
        };
        for (text, expected) in [
            (r#"Basic realm="x""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://a.example/token",service="r",scope="repository:a/b:pull,push""#,
                vec![bearer("https://a.example/token", "r", "repository:a/b:pull,push")],
            ),
            (
                r#"bearer  realm=https://a, Basic realm="b c""#,
                vec![bearer("https://a", "", ""), Challenge::Basic],
            ),
            (r#"Negotiate, Bearer service="x""#, vec![]),
            (r#"Bearer realm="unclosed"#, vec![bearer("unclosed", "", "")]),
            ("", vec![]),
            ("=,=,", vec![]),
        ] {
            assert_eq!(asked(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_challenge_is_read_to_its_end(text in "[ -~]{0,200}", words in "((Bearer|Basic|realm|=|\"|,| |x){0,9}){0,9}") {
            for text in [text, words] {
                let mut headers = HeaderMap::new();
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(&text).unwrap());
                challenges(&headers);
            }
        }
    }

    #[test]
    fn credentials_go_where_they_are_safe() {
        let check = |registry: &str, to: &str, with: bool| {
            realm(&Url::parse(registry).unwrap(), to, with, "p").map(|url| url.to_string()).ok()
        };
        assert!(check("https://r.example", "https://auth.example/t", true).is_some());
        assert!(check("https://r.example", "http://r.example/t", true).is_none());
        assert!(check("https://r.example", "http://r.example/t", false).is_none());
        assert!(check("http://r.example", "http://r.example:81/t", true).is_some());
        assert!(check("http://r.example", "http://auth.example/t", true).is_none());
        assert!(check("http://r.example", "http://auth.example/t", false).is_some());
        assert!(check("https://r.example", "file:///etc/passwd", false).is_none());
        assert!(check("https://r.example", "nonsense", false).is_none());
    }

    #[test]
    fn the_nearest_account() {
        let one = |place: &str, username: &str| RegistryAccount {
            place: place.into(),
            username: username.into(),
            ..RegistryAccount::default()
        };
        let credentials = Credentials {
            registries: vec![one("r.example", "a"), one("r.example/ml", "b"), one("index.docker.io", "c")],
            ..Credentials::default()
        };
        for (registry, repository, expected) in [
            ("r.example", "x", Some("a")),
            ("r.example", "ml/x", Some("b")),
            ("r.example", "mlx", Some("a")),
            ("docker.io", "library/x", Some("c")),
            ("other.example", "x", None),
        ] {
            let found = account(&credentials, registry, repository).map(|one| one.username);
            assert_eq!(found.as_deref(), expected, "{registry}/{repository}");
        }
    }

    #[test]
    fn tokens_end() {
        let now = Instant::now();
        let life = |text: &str| token(text.as_bytes(), "p", now).unwrap().until.unwrap() - now;
        assert_eq!(life(r#"{"token": "t"}"#), Duration::from_secs(54));
        assert_eq!(life(r#"{"access_token": "t", "expires_in": 300}"#), Duration::from_secs(270));
        for text in ["{}", "x", r#"{"token": ""}"#] {
            assert_eq!(token(text.as_bytes(), "p", now).err().unwrap().code, Code::AuthenticationFailed);
        }
        assert!(token(b"{\"token\": \"a\\nb\"}", "p", now).is_err());
    }
}
