//! Tokens of a GitHub App: its key signs a statement, GitHub gives a token of one hour for it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::error::{Code, Error, Result};

/// Tokens live for an hour; ten minutes are left for a long fetch.
const LIFE: Duration = Duration::from_secs(50 * 60);

/// An App and the installation whose repositories are read.
#[derive(Clone, PartialEq, Eq)]
pub struct GitHubApp {
    /// Id of the App, or its client id.
    pub id: String,
    /// Id of the installation.
    pub installation: String,
    /// Private key (PEM).
    pub key: String,
    /// Address of the API; follows from the repository's host where `None`.
    pub api: Option<String>,
}

/// A token and when it is no longer used.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) until: Instant,
}

fn invalid(why: &str) -> Error {
    Error::new(Code::CredentialsInvalid, why.to_owned())
}

impl GitHubApp {
    /// The statement that the App is who it is: a JWT of nine minutes.
    fn statement(&self, now: SystemTime) -> Result<String> {
        let unreadable = || invalid("githubAppPrivateKey is no RSA key in PEM");
        let pair = match PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| unreadable())? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(unreadable()),
        }
        .map_err(|_| unreadable())?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A minute back: GitHub refuses what its clock calls the future.
        let claims =
            serde_json::json!({"iat": seconds.saturating_sub(60), "exp": seconds + 480, "iss": self.id});
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &ring::rand::SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| Error::new(Code::Internal, "the statement could not be signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Where tokens are asked for.
    fn endpoint(&self, repository: &str) -> String {
        let host = repository.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let api = match &self.api {
            Some(api) => api.trim_end_matches('/').to_owned(),
            None if host == "github.com" => "https://api.github.com".to_owned(),
            None => format!("https://{host}/api/v3"),
        };
        format!("{api}/app/installations/{}/access_tokens", self.installation)
    }

    /// A fresh token.
    pub(super) async fn token(&self, client: &reqwest::Client, repository: &str) -> Result<Token> {
        let endpoint = self.endpoint(repository);
        let refused = |code: Code, why: String| Error::new(code, format!("{endpoint}: {why}"));
        let request = client
            .post(&endpoint)
            .bearer_auth(self.statement(SystemTime::now())?)
            .header("Accept", "application/vnd.github+json");
        let answer = request
            .send()
            .await
            .map_err(|error| refused(Code::RepositoryUnreachable, error.without_url().to_string()))?;
        let status = answer.status();
        if !status.is_success() {
            let code = if status.is_client_error() {
                Code::AuthenticationFailed
            } else {
                Code::RepositoryUnreachable
            };
            return Err(refused(code, format!("{status} for the GitHub App in the Secret")));
        }
        let bytes = answer
            .bytes()
            .await
            .map_err(|error| refused(Code::RepositoryUnreachable, error.without_url().to_string()))?;
        let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = body["token"]
            .as_str()
            .ok_or_else(|| refused(Code::RepositoryCorrupt, "the answer has no token".into()))?;
        Ok(Token { text: text.to_owned(), until: Instant::now() + LIFE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let app = |api: Option<&str>| GitHubApp {
            id: "1".into(),
            installation: "7".into(),
            key: String::new(),
            api: api.map(str::to_owned),
        };
        for (api, repository, expected) in [
            (None, "https://github.com/ml/x", "https://api.github.com/app/installations/7/access_tokens"),
            (
                None,
                "https://git.example/ml/x",
                "https://git.example/api/v3/app/installations/7/access_tokens",
            ),
            (
                Some("https://a.example/"),
                "https://git.example/ml/x",
                "https://a.example/app/installations/7/access_tokens",
            ),
        ] {
            assert_eq!(app(api).endpoint(repository), expected);
        }
        assert_eq!(app(None).statement(SystemTime::now()).unwrap_err().code, Code::CredentialsInvalid);
    }
}
