//! age files, as far as SOPS writes them: one small payload, armored, for X25519 recipients.
//!
//! The crate `age` would bring 165 more into the tree, most of them for translations. What is needed here is one
//! stanza over primitives that are in the tree anyway: X25519, HKDF-SHA-256, ChaCha20-Poly1305, HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use curve25519_dalek::MontgomeryPoint;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

/// A data key is 32 bytes, a share of one 33; this is far beyond.
const MAX_FILE: usize = 64 << 10;
/// Recipients of one file.
const MAX_STANZAS: usize = 100;

/// A secret key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Identity {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Identity {
    /// Reads one line of an identity file; the reason never holds any of it.
    pub(super) fn parse(line: &str) -> Result<Self, &'static str> {
        if line.starts_with("AGE-SECRET-KEY-PQ-") {
            return Err("is a post-quantum identity, which is not supported; use an X25519 one (age-keygen)");
        }
        if line.starts_with("AGE-PLUGIN-") {
            return Err(
                "is an identity of an age plugin, and no plugin is run; use an X25519 one (age-keygen)",
            );
        }
        if line.starts_with("-----BEGIN") || line.starts_with("ssh-") {
            return Err("is an SSH key or an encrypted identity file; use an X25519 identity (age-keygen)");
        }
        if line.starts_with("age1") {
            return Err("is a public key (a recipient); the secret key begins with AGE-SECRET-KEY-1");
        }
        let decoded = bech32(line).filter(|(prefix, _)| prefix == "age-secret-key-");
        let (_, bytes) =
            decoded.ok_or("is no age identity (AGE-SECRET-KEY-1...), or has a typing mistake")?;
        let array =
            <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| "is an age identity of a wrong length")?;
        let secret = Zeroizing::new(array);
        let public = MontgomeryPoint::mul_base_clamped(*secret).to_bytes();
        Ok(Self { secret, public })
    }

    /// The secret itself.
    pub(super) fn secret(&self) -> &[u8] {
        &*self.secret
    }
}

/// Bech32 (BIP 173): the prefix in lower case, and the bytes.
fn bech32(text: &str) -> Option<(String, Zeroizing<Vec<u8>>)> {
    const ALPHABET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    if text.len() > 200
        || !text.is_ascii()
        || (text.to_ascii_lowercase() != text && text.to_ascii_uppercase() != text)
    {
        return None;
    }
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    let (prefix, data) = lower.rsplit_once('1')?;
    let mut words = Zeroizing::new(Vec::with_capacity(data.len()));
    for byte in data.bytes() {
        words.push(u8::try_from(ALPHABET.iter().position(|known| *known == byte)?).ok()?);
    }
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(words.iter().copied());
    let checksum = all.fold(1u32, |sum, word| {
        const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        let next = ((sum & 0x01ff_ffff) << 5) ^ u32::from(word);
        GENERATOR
            .iter()
            .enumerate()
            .filter(|(bit, _)| (sum >> 25) >> bit & 1 == 1)
            .fold(next, |next, (_, term)| next ^ term)
    });
    if checksum != 1 || words.len() < 6 {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(words.len()));
    let (mut held, mut bits) = (0u32, 0);
    for word in &words[..words.len() - 6] {
        held = (held << 5) | u32::from(*word);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
        held &= (1 << bits) - 1;
    }
    (bits < 5 && held == 0).then(|| (prefix.to_owned(), bytes))
}

/// What a file holds, for the first identity that opens it; `None` where none of them does.
///
/// # Errors
/// In words, for what is no age file or was changed.
pub(super) fn open(armored: &str, identities: &[Identity]) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let file = dearmor(armored)?;
    let header = Header::parse(&file)?;
    let mut file_key = None;
    'all: for stanza in &header.stanzas {
        for identity in identities {
            file_key = unwrap(stanza, identity)?;
            if file_key.is_some() {
                break 'all;
            }
        }
    }
    let Some(file_key) = file_key else { return Ok(None) };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &*derive(&[], &file_key, b"header")?);
    hmac::verify(&key, header.signed, &header.mac).map_err(|_| "its header was changed")?;
    payload(header.payload, &file_key).map(Some)
}

fn dearmor(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > MAX_FILE {
        return Err("its age part is larger than 64 KiB".into());
    }
    let body = text.trim().strip_prefix("-----BEGIN AGE ENCRYPTED FILE-----");
    let body = body.and_then(|body| body.strip_suffix("-----END AGE ENCRYPTED FILE-----"));
    let body = body.ok_or("its age part has no armor")?;
    let compact: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(compact).map_err(|_| "the armor of its age part holds no base64".into())
}

struct Stanza<'a> {
    arguments: Vec<&'a str>,
    body: Vec<u8>,
}

struct Header<'a> {
    stanzas: Vec<Stanza<'a>>,
    signed: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(file: &'a [u8]) -> Result<Self, String> {
        let broken = || "its age header cannot be read".to_owned();
        let mut at = 0;
        let mut line = || -> Result<(usize, &'a str), String> {
            let rest = &file[at..];
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
            let begin = at;
            at += end + 1;
            std::str::from_utf8(&rest[..end]).map(|text| (begin, text)).map_err(|_| broken())
        };
        if line()?.1 != "age-encryption.org/v1" {
            return Err("its age part is of another version than v1".into());
        }
        let mut stanzas = Vec::new();
        loop {
            let (begin, text) = line()?;
            if let Some(mac) = text.strip_prefix("--- ") {
                let mac = STANDARD_NO_PAD.decode(mac).map_err(|_| broken())?;
                let payload = begin + text.len() + 1;
                return Ok(Self { stanzas, signed: &file[..begin + 3], mac, payload: &file[payload..] });
            }
            let arguments: Vec<&str> = text.strip_prefix("-> ").ok_or_else(broken)?.split(' ').collect();
            let mut body = Vec::new();
            loop {
                let (_, text) = line()?;
                if text.len() > 64 {
                    return Err(broken());
                }
                body.extend(STANDARD_NO_PAD.decode(text).map_err(|_| broken())?);
                if text.len() < 64 {
                    break;
                }
            }
            stanzas.push(Stanza { arguments, body });
            if stanzas.len() > MAX_STANZAS {
                return Err("its age part has more than 100 recipients".into());
            }
        }
    }
}

/// The file key, where this stanza is for this identity.
fn unwrap(stanza: &Stanza<'_>, identity: &Identity) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let ["X25519", share] = stanza.arguments[..] else { return Ok(None) };
    let share = STANDARD_NO_PAD.decode(share).ok().and_then(|share| <[u8; 32]>::try_from(share).ok());
    let share = share.ok_or("a recipient of its age part cannot be read")?;
    if stanza.body.len() != 32 {
        return Err("a recipient of its age part has a wrong length".into());
    }
    let shared = Zeroizing::new(MontgomeryPoint(share).mul_clamped(*identity.secret).to_bytes());
    // A point of low order would give everybody the same key.
    if shared.iter().all(|byte| *byte == 0) {
        return Err("a recipient of its age part is no valid point".into());
    }
    let salt = [share, identity.public].concat();
    let key = derive(&salt, &*shared, b"age-encryption.org/v1/X25519")?;
    Ok(decrypt(&key, [0; 12], &stanza.body))
}

fn decrypt(key: &[u8; 32], nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).ok()?);
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

fn derive(salt: &[u8], input: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, String> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(input)
        .expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut *key))
        .map_err(|_| "a key could not be derived")?;
    Ok(key)
}

/// The chunks behind the header; each is sealed with its number and whether it is the last.
fn payload(bytes: &[u8], file_key: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    const CHUNK: usize = (64 << 10) + 16;
    let (nonce, sealed) = bytes.split_at_checked(16).ok_or("its age part is cut short")?;
    let key = derive(nonce, file_key, b"payload")?;
    let mut clear = Zeroizing::new(Vec::new());
    let count = sealed.len().div_ceil(CHUNK).max(1);
    for (number, chunk) in sealed.chunks(CHUNK).enumerate() {
        let mut nonce = [0; 12];
        nonce[7..11].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
        nonce[11] = u8::from(number + 1 == count);
        let part = decrypt(&key, nonce, chunk).ok_or("its age part was changed")?;
        clear.extend_from_slice(&part);
    }
    Ok(clear)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_checked() {
        // An identity of tests/data/sops, which protects nothing.
        let file = include_str!("../../../tests/data/sops/one.agekey");
        let line = |start: &str| file.lines().find_map(|line| line.strip_prefix(start)).unwrap();
        let identity = Identity::parse(&format!("AGE{}", line("AGE"))).ok().unwrap();
        let (prefix, public) = bech32(line("# public key: ")).unwrap();
        assert_eq!((prefix.as_str(), public.as_slice()), ("age", &identity.public[..]));
        for (line, expected) in [
            ("AGE-SECRET-KEY-PQ-1XYZ", "post-quantum"),
            ("AGE-PLUGIN-YUBIKEY-1XYZ", "plugin"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "SSH"),
            ("age1qqqqqqqqqqqq", "public key"),
            ("AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ", "typing mistake"),
            ("hunter2", "no age identity"),
        ] {
            let why = Identity::parse(line).err().unwrap_or_default();
            assert!(why.contains(expected), "{line}: {why}");
            assert!(!why.contains("hunter2"));
        }
    }
}
