//! Random texts and hashes of passwords.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::Version;
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};

use super::{Called, bytes, int, text};
use crate::render::template::host::Host;
use crate::render::template::random::Source;
use crate::render::template::value::Value;

/// Longest random text.
const MAX_LENGTH: i64 = 1_000_000;
/// Go's default.
const BCRYPT_COST: u32 = 10;

pub(super) fn call(host: &mut Host, name: &str, arguments: &[Value]) -> Called {
    let count = int(arguments, 0);
    let from = |source: &mut Source, letters: &[u8]| -> Result<Value, String> {
        if count > MAX_LENGTH {
            return Err("a random text of more than 1,000,000 characters".to_owned());
        }
        let last = letters.len() as u64;
        let pick = |_| letters[usize::try_from(source.below(last)).unwrap_or(0)];
        Ok(Value::bytes((0..count).map(pick).collect()))
    };
    Some(match name {
        "randAlphaNum" => from(host.random(), ALPHANUMERIC),
        "randAlpha" => from(host.random(), &ALPHANUMERIC[10..]),
        "randNumeric" => from(host.random(), &ALPHANUMERIC[..10]),
        "randAscii" => {
            let all: Vec<u8> = (b' '..=b'~').collect();
            from(host.random(), &all)
        }
        "randBytes" => match usize::try_from(count) {
            Ok(length) if count <= MAX_LENGTH => {
                let mut bytes = vec![0; length];
                host.random().fill(&mut bytes);
                Ok(Value::text(STANDARD.encode(bytes)))
            }
            Ok(_) => Err("more than 1,000,000 random bytes".to_owned()),
            Err(_) => Err("runtime error: makeslice: len out of range".to_owned()),
        },
        "randInt" => {
            let (low, high) = (int(arguments, 0), int(arguments, 1));
            match high.checked_sub(low).and_then(|span| u64::try_from(span).ok()).filter(|span| *span > 0) {
                Some(span) => {
                    let found = host.random().below(span);
                    Ok(Value::Int(low.wrapping_add_unsigned(found)))
                }
                None => Err("invalid argument to Intn".to_owned()),
            }
        }
        "shuffle" => {
            let mut all: Vec<char> = text(arguments, 0).chars().collect();
            for last in (1..all.len()).rev() {
                let other = host.random().below(last as u64 + 1);
                all.swap(last, usize::try_from(other).unwrap_or(0));
            }
            Ok(Value::text(all.into_iter().collect::<String>()))
        }
        "uuidv4" => Ok(Value::text(uuid(host.random()))),
        "bcrypt" => bcrypt(host, text(arguments, 0)).map(Value::text),
        "htpasswd" => {
            let (user, password) = (text(arguments, 0), text(arguments, 1));
            if user.contains(':') {
                Ok(Value::text(format!("invalid username: {user}")))
            } else {
                bcrypt(host, password).map(|hash| Value::text(format!("{user}:{hash}")))
            }
        }
        "encryptAES" => Ok(Value::text(encrypt(host, text(arguments, 0), bytes(arguments, 1)))),
        _ => return None,
    })
}

const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn uuid(source: &mut Source) -> String {
    let mut bytes = [0; 16];
    source.fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A hash, or in its place what Sprig says.
fn bcrypt(host: &mut Host, password: &str) -> Result<String, String> {
    let failed = "failed to encrypt string with bcrypt: ";
    if password.len() > 72 {
        return Ok(format!("{failed}bcrypt: password length exceeds 72 bytes"));
    }
    host.work(1)?;
    let mut salt = [0; 16];
    host.random().fill(&mut salt);
    Ok(match bcrypt::hash_with_salt(password, BCRYPT_COST, salt) {
        Ok(hash) => hash.format_for_version(Version::TwoA),
        Err(error) => format!("{failed}{error}"),
    })
}

/// A key of 32 bytes: the password, cut or filled with zeros, as Sprig does it.
pub(super) fn key(password: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let length = password.len().min(32);
    key[..length].copy_from_slice(&password.as_bytes()[..length]);
    key
}

fn encrypt(host: &mut Host, password: &str, plain: &[u8]) -> String {
    if plain.is_empty() {
        return String::new();
    }
    let mut vector = [0; 16];
    host.random().fill(&mut vector);
    let padding = 16 - plain.len() % 16;
    let mut padded = plain.to_vec();
    padded.resize(plain.len() + padding, u8::try_from(padding).unwrap_or(16));
    let mut cipher = cbc::Encryptor::<aes::Aes256>::new(&key(password).into(), &vector.into());
    let mut out = vector.to_vec();
    for chunk in padded.chunks_exact(16) {
        let mut block = aes::Block::default();
        block.copy_from_slice(chunk);
        cipher.encrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    STANDARD.encode(out)
}
