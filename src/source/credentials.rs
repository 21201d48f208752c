//! Credentials from a Secret's data.

use std::collections::BTreeMap;
use std::fmt;

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
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl Credentials {
    /// Reads the decoded data of a Secret. Keys: `username` and `password`, `bearerToken`, `identity`
    /// (with `password` as its passphrase) and `known_hosts`, `githubAppID`, `githubAppInstallationID` and
    /// `githubAppPrivateKey` (with `githubAppBaseURL`), `caFile` or `ca.crt`, `tls.crt` and `tls.key`.
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
        };
        if found == Self::default() {
            let keys: Vec<_> = data.keys().cloned().collect();
            let why = format!("none of its keys ({}) is a credential", keys.join(", "));
            return Err(Error::new(Code::CredentialsInvalid, why));
        }
        Ok(found)
    }

    /// Equal for equal credentials: polls are shared only among those.
    pub fn identity(&self) -> Digest {
        let empty = Vec::new();
        let text = |option: Option<&String>| option.map(|text| text.as_bytes().to_vec()).unwrap_or_default();
        Digest::of_parts([
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
        ])
    }
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
        ] {
            let error = read(&pairs).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
