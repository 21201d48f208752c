//! Private keys: made from a seed, read from and written to PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey as EdKey;
use p256::ecdsa::SigningKey as EcKey;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::Sha256;

use crate::render::template::host::Host;

/// A private key, with its public half as certificates hold it.
pub(super) struct Key {
    private: Private,
    public: Vec<u8>,
}

enum Private {
    Rsa(Box<RsaPrivateKey>),
    Ec(Box<EcKey>),
    Ed(Box<EdKey>),
}

/// An EC key of P-256 in DER: the secret and the public point stand between these.
const EC_BEGIN: &[u8] = &[0x30, 0x77, 2, 1, 1, 4, 32];
const EC_MIDDLE: &[u8] = &[0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 0xa1, 0x44, 3, 0x42, 0];
/// An Ed25519 key in DER: the secret stands behind this.
const ED_BEGIN: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 32];

impl Key {
    fn new(private: Private) -> Result<Self, String> {
        let public = match &private {
            Private::Rsa(key) => RsaPublicKey::from(&**key)
                .to_pkcs1_der()
                .map_err(|error| format!("the RSA key cannot be written: {error}"))?
                .into_vec(),
            Private::Ec(key) => key.verifying_key().to_sec1_point(false).as_bytes().to_vec(),
            Private::Ed(key) => key.verifying_key().to_bytes().to_vec(),
        };
        Ok(Self { private, public })
    }

    /// A new RSA key.
    pub(super) fn rsa(host: &mut Host, bits: usize) -> Result<Self, String> {
        host.work(if bits > 2048 { 8 } else { 2 })?;
        let key = RsaPrivateKey::new(host.random().generator(), bits)
            .map_err(|error| format!("error generating rsa key: {error}"))?;
        Self::new(Private::Rsa(Box::new(key)))
    }

    /// A new key of P-256.
    pub(super) fn ec(host: &mut Host) -> Result<Self, String> {
        loop {
            let mut secret = [0; 32];
            host.random().fill(&mut secret);
            // One in 2^32 is no key.
            if let Ok(key) = EcKey::from_slice(&secret) {
                return Self::new(Private::Ec(Box::new(key)));
            }
        }
    }

    /// A new key of Ed25519.
    pub(super) fn ed(host: &mut Host) -> Result<Self, String> {
        let mut secret = [0; 32];
        host.random().fill(&mut secret);
        Self::new(Private::Ed(Box::new(EdKey::from_bytes(&secret))))
    }

    /// Reads a key; errors are in Sprig's words.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (kind, der) = unpem(text).ok_or("no PEM data in input")?;
        let ec = |der: &[u8]| -> Option<Private> {
            let rest = der.strip_prefix(EC_BEGIN)?;
            EcKey::from_slice(rest.get(..32)?).ok().map(|key| Private::Ec(Box::new(key)))
        };
        let private = match kind.as_str() {
            "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der)
                .map(|key| Private::Rsa(Box::new(key)))
                .map_err(|error| format!("parsing RSA private key from PEM: {error}"))?,
            "EC PRIVATE KEY" => {
                ec(&der).ok_or("parsing EC private key from PEM: only keys of P-256 are read here")?
            }
            "PRIVATE KEY" => {
                let secret = der.strip_prefix(ED_BEGIN).and_then(|rest| <[u8; 32]>::try_from(rest).ok());
                // An EC key of PKCS#8 holds the other form behind its head.
                let inner = der.windows(EC_BEGIN.len()).position(|part| part[2..] == EC_BEGIN[2..]);
                if let Some(secret) = secret {
                    Private::Ed(Box::new(EdKey::from_bytes(&secret)))
                } else if let Ok(key) = RsaPrivateKey::from_pkcs8_der(&der) {
                    Private::Rsa(Box::new(key))
                } else {
                    inner
                        .and_then(|at| EcKey::from_slice(der.get(at + EC_BEGIN.len()..)?.get(..32)?).ok())
                        .map(|key| Private::Ec(Box::new(key)))
                        .ok_or("decoding PEM as PKCS#8: only RSA, P-256 and Ed25519 are read here")?
                }
            }
            kind if !kind.ends_with(" PRIVATE KEY") => {
                return Err(format!("no private key data in PEM block of type {kind}"));
            }
            "DSA PRIVATE KEY" => {
                return Err("DSA keys are not supported here: they cannot sign certificates".to_owned());
            }
            kind => return Err(format!("invalid private key type {kind}")),
        };
        Self::new(private)
    }

    /// The key in PEM, in the form that Sprig gives each kind.
    pub(super) fn write(&self) -> Result<String, String> {
        Ok(match &self.private {
            Private::Rsa(key) => {
                let der =
                    key.to_pkcs1_der().map_err(|error| format!("the RSA key cannot be written: {error}"))?;
                pem("RSA PRIVATE KEY", der.as_bytes())
            }
            Private::Ec(key) => {
                let secret = key.to_bytes();
                pem("EC PRIVATE KEY", &[EC_BEGIN, &secret[..], EC_MIDDLE, &self.public].concat())
            }
            Private::Ed(key) => pem("PRIVATE KEY", &[ED_BEGIN, &key.to_bytes()[..]].concat()),
        })
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match &self.private {
            Private::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
            Private::Ec(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
            Private::Ed(_) => &rcgen::PKCS_ED25519,
        }
    }
}

impl rcgen::SigningKey for Key {
    /// All three sign the same text the same way each time.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(match &self.private {
            Private::Rsa(key) => {
                let signer = rsa::pkcs1v15::SigningKey::<Sha256>::new((**key).clone());
                signer.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?.to_vec()
            }
            Private::Ec(key) => {
                let signature: p256::ecdsa::Signature =
                    key.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
                signature.to_der().as_bytes().to_vec()
            }
            Private::Ed(key) => {
                key.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?.to_bytes().to_vec()
            }
        })
    }
}

/// A block of PEM.
pub(super) fn pem(kind: &str, der: &[u8]) -> String {
    let mut out = format!("-----BEGIN {kind}-----\n");
    let text = STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out + &format!("-----END {kind}-----\n")
}

/// The first block of PEM in a text: its kind and bytes.
pub(super) fn unpem(text: &str) -> Option<(String, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (kind, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {kind}-----"))?;
    let compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Some((kind.to_owned(), STANDARD.decode(compact).ok()?))
}
