//! Credentials from a Secret's data.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use reqwest::header::HeaderValue;

use crate::error::{Code, Error, Result};
use crate::model::Digest;
use crate::source::GitHubApp;

/// What a Secret gives to reach a repository. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// For HTTP basic authentication.
    pub basic: Option<(String, String)>,
    /// For HTTP bearer authentication.
    pub bearer: Option<String>,
    /// Certificates (PEM) of a private authority.
    pub authority: Option<Vec<u8>>,
    /// Client certificate and key (PEM, one after the other).
    pub client: Option<Vec<u8>>,
    /// SSH private key (OpenSSH or PEM) and its passphrase.
    pub key: Option<(String, Option<String>)>,
    /// Lines of `known_hosts`.
    pub known_hosts: Option<String>,
    /// A GitHub App.
    pub app: Option<GitHubApp>,
    /// Accounts of registries, from a docker configuration.
    pub registries: Vec<RegistryAccount>,
}

/// An account of a docker configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAccount {
    /// Host, and the path below which it is for.
    pub place: String,
    /// Name.
    pub username: String,
    /// Password.
    pub password: String,
    /// A refresh token that stands for name and password.
    pub identity_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl Credentials {
    /// Reads the decoded data of a Secret. Keys: `username` and `password`, `bearerToken`, `identity`
    /// (with `password` as its passphrase) and `known_hosts`, `githubAppID`, `githubAppInstallationID` and
    /// `githubAppPrivateKey` (with `githubAppBaseURL`), `.dockerconfigjson`, `caFile` or `ca.crt`, `tls.crt` and
    /// `tls.key`.
    ///
    /// # Errors
    /// `CredentialsInvalid` that names the key.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let text = |key: &str| -> Result<Option<String>> {
            let Some(bytes) = data.get(key) else { return Ok(None) };
            let text = String::from_utf8(bytes.clone())
                .map_err(|_| Error::new(Code::CredentialsInvalid, format!("the key {key} is not text")))?;
            Ok(Some(text))
        };
        // A file's final line break is the most frequent reason for a refused token.
        let word =
            |key: &str| Ok::<_, Error>(text(key)?.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()));
        let (username, password) = (word("username")?, word("password")?);
        let identity = text("identity")?;
        let basic = match (&username, &password, &identity) {
            (Some(name), Some(password), _) => Some((name.clone(), password.clone())),
            (Some(_), None, None) => {
                return Err(Error::new(Code::CredentialsInvalid, "there is a username but no password"));
            }
            // Git servers take a token as the password of any name.
            (None, Some(token), None) => Some(("git".to_owned(), token.clone())),
            _ => None,
        };
        let client = match (text("tls.crt")?, text("tls.key")?) {
            (Some(certificate), Some(key)) => Some(format!("{certificate}\n{key}").into_bytes()),
            (None, None) => None,
            _ => return Err(Error::new(Code::CredentialsInvalid, "tls.crt and tls.key are needed together")),
        };
        let known_hosts = text("known_hosts")?;
        if identity.is_some() && known_hosts.is_none() {
            return Err(Error::new(Code::CredentialsInvalid, "there is an SSH identity but no known_hosts"));
        }
        let app = match (word("githubAppID")?, word("githubAppInstallationID")?, text("githubAppPrivateKey")?)
        {
            (Some(id), Some(installation), Some(key)) => {
                Some(GitHubApp { id, installation, key, api: word("githubAppBaseURL")? })
            }
            (None, None, None) => None,
            _ => {
                let why = "githubAppID, githubAppInstallationID and githubAppPrivateKey are needed together";
                return Err(Error::new(Code::CredentialsInvalid, why));
            }
        };
        let found = Self {
            basic,
            bearer: word("bearerToken")?,
            authority: data.get("caFile").or_else(|| data.get("ca.crt")).cloned(),
            client,
            key: identity.map(|identity| (identity, password)),
            known_hosts,
            app,
            registries: data.get(".dockerconfigjson").map_or(Ok(Vec::new()), |bytes| accounts(bytes))?,
        };
        if found == Self::default() {
            let keys: Vec<_> = data.keys().cloned().collect();
            let why = format!("none of its keys ({}) is a credential", keys.join(", "));
            return Err(Error::new(Code::CredentialsInvalid, why));
        }
        Ok(found)
    }

    /// Whether a server learns no name, password or token from this.
    pub fn is_anonymous(&self) -> bool {
        self.basic.is_none() && self.bearer.is_none() && self.app.is_none() && self.registries.is_empty()
    }

    /// The header that is sent to a server without being asked for it.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>> {
        let text = match (&self.basic, &self.bearer) {
            (Some((name, password)), _) => {
                let both = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
                format!("Basic {both}")
            }
            (None, Some(token)) => format!("Bearer {token}"),
            (None, None) => return Ok(None),
        };
        secret_header(&text).map(Some)
    }

    /// Equal for equal credentials: polls are shared only among those.
    pub fn identity(&self) -> Digest {
        let empty = Vec::new();
        let text = |option: Option<&String>| option.map(|text| text.as_bytes().to_vec()).unwrap_or_default();
        let accounts = self.registries.iter().flat_map(|one| {
            [&one.place, &one.username, &one.password, &one.identity_token]
                .map(|text| text.as_bytes().to_vec())
        });
        let own = [
            text(self.basic.as_ref().map(|(name, _)| name)),
            text(self.basic.as_ref().map(|(_, password)| password)),
            text(self.bearer.as_ref()),
            self.authority.clone().unwrap_or_else(|| empty.clone()),
            self.client.clone().unwrap_or(empty),
            text(self.key.as_ref().map(|(key, _)| key)),
            text(self.key.as_ref().and_then(|(_, passphrase)| passphrase.as_ref())),
            text(self.known_hosts.as_ref()),
            text(self.app.as_ref().map(|app| &app.id)),
            text(self.app.as_ref().map(|app| &app.installation)),
            text(self.app.as_ref().map(|app| &app.key)),
            text(self.app.as_ref().and_then(|app| app.api.as_ref())),
        ];
        Digest::of_parts(own.into_iter().chain(accounts))
    }
}

/// A header that no log shows.
pub(super) fn secret_header(text: &str) -> Result<HeaderValue> {
    let why = "a name, password or token holds what no header can";
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::new(Code::CredentialsInvalid, why))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The accounts of a docker configuration. What it says beyond them (helpers, proxies) is for other machines.
fn accounts(bytes: &[u8]) -> Result<Vec<RegistryAccount>> {
    let invalid =
        |why: &str| Error::new(Code::CredentialsInvalid, format!("the key .dockerconfigjson {why}"));
    // The reason of a parser could hold parts of it.
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| invalid("is no JSON"))?;
    let auths = value["auths"].as_object().ok_or_else(|| invalid("has no auths"))?;
    let mut found = Vec::new();
    for (key, account) in auths {
        let text = |field: &str| account[field].as_str().unwrap_or_default().to_owned();
        let place = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        // What docker itself writes for its hub.
        let place = place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2")).unwrap_or(place);
        let mut one = RegistryAccount {
            place: place.to_ascii_lowercase(),
            username: text("username"),
            password: text("password"),
            identity_token: text("identitytoken"),
        };
        let both = text("auth");
        if !both.is_empty() && one.username.is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(both.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded =
                decoded.ok_or_else(|| invalid(&format!("has an auth for {place} that is no base64")))?;
            let (name, password) = decoded
                .split_once(':')
                .ok_or_else(|| invalid(&format!("has an auth for {place} without a colon")))?;
            (one.username, one.password) = (name.to_owned(), password.trim_end_matches('\0').to_owned());
        }
        if !one.username.is_empty() || !one.identity_token.is_empty() {
            found.push(one);
        }
    }
    if found.is_empty() {
        return Err(invalid("names no account"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Credentials> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        Credentials::from_secret(&data)
    }

    #[test]
    fn keys_of_a_secret() {
        let basic = read(&[("username", "a"), ("password", "b\n")]).unwrap();
        assert_eq!(basic.basic, Some(("a".into(), "b".into())));
        assert_eq!(format!("{basic:?}"), "Credentials(***)");
        assert_ne!(basic.identity(), read(&[("username", "a"), ("password", "c")]).unwrap().identity());
        for (pairs, why) in [
            (vec![("username", "a")], "no password"),
            (vec![("identity", "k")], "known_hosts"),
            (vec![("tls.crt", "c")], "tls.key"),
            (vec![("githubAppID", "1")], "githubAppPrivateKey"),
            (vec![("token", "x")], "token"),
            (vec![(".dockerconfigjson", "{hunter2")], "no JSON"),
            (vec![(".dockerconfigjson", "{}")], "no auths"),
            (vec![(".dockerconfigjson", r#"{"auths": {"ghcr.io": {}}}"#)], "no account"),
            (vec![(".dockerconfigjson", r#"{"auths": {"ghcr.io": {"auth": "hunter2"}}}"#)], "no base64"),
        ] {
            let error = read(&pairs).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn accounts_of_a_docker_configuration() {
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "YTpi"},
            "GHCR.io": {"username": "c", "password": "d", "auth": "eDp5"},
            "acr.example/team/": {"identitytoken": "t"}}, "credsStore": "desktop"}"#;
        let found = read(&[(".dockerconfigjson", text)]).unwrap();
        let mut shown: Vec<_> = found
            .registries
            .iter()
            .map(|one| format!("{} {} {} {}", one.place, one.username, one.password, one.identity_token))
            .collect();
        shown.sort();
        assert_eq!(shown, ["acr.example/team   t", "ghcr.io c d ", "index.docker.io a b "]);
        assert!(!found.is_anonymous());
        assert_ne!(found.identity(), Credentials::default().identity());
    }
}
