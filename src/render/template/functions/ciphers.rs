//! What can be computed of passwords without any randomness.

use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{Called, int, text};
use crate::render::template::value::Value;

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    Some(match name {
        "decryptAES" => decrypt(text(arguments, 0), text(arguments, 1)),
        "derivePassword" => {
            let [sort, password, user, site] = [1, 2, 3, 4].map(|at| text(arguments, at));
            derive(int(arguments, 0), sort, password, (user, site)).map(Value::text)
        }
        _ => return None,
    })
}

fn decrypt(password: &str, given: &str) -> Result<Value, String> {
    if given.is_empty() {
        return Ok(Value::text(""));
    }
    let bytes = super::encode::unbase64(given)?;
    let Some((vector, rest)) = bytes.split_first_chunk::<16>() else {
        let length = bytes.len();
        return Err(format!("runtime error: slice bounds out of range [:16] with capacity {length}"));
    };
    if rest.len() % 16 != 0 {
        return Err("crypto/cipher: input not full blocks".to_owned());
    }
    let mut cipher = cbc::Decryptor::<aes::Aes256>::new(&super::secrets::key(password).into(), vector.into());
    let mut plain = Vec::with_capacity(rest.len());
    for chunk in rest.chunks_exact(16) {
        let mut block = aes::Block::default();
        block.copy_from_slice(chunk);
        cipher.decrypt_block(&mut block);
        plain.extend_from_slice(&block);
    }
    let Some(padding) = plain.last().copied() else {
        return Err("runtime error: index out of range [-1]".to_owned());
    };
    let Some(length) = plain.len().checked_sub(padding.into()) else {
        // The wrong password, as a rule.
        let over = usize::from(padding) - plain.len();
        return Err(format!("runtime error: slice bounds out of range [:-{over}]"));
    };
    plain.truncate(length);
    Ok(Value::bytes(plain))
}

/// Sorts of passwords: patterns of which one is chosen.
const PATTERNS: &[(&str, &[&str])] = &[
    ("maximum", &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"]),
    (
        "long",
        &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
    ),
    ("medium", &["CvcnoCvc", "CvcCvcno"]),
    ("short", &["Cvcn"]),
    ("basic", &["aaanaaan", "aannaaan", "aaannaaa"]),
    ("pin", &["nnnn"]),
];

/// What stands for each letter of a pattern.
const LETTERS: &[(u8, &[u8])] = &[
    (b'V', b"AEIOU"),
    (b'C', b"BCDFGHJKLMNPQRSTVWXYZ"),
    (b'v', b"aeiou"),
    (b'c', b"bcdfghjklmnpqrstvwxyz"),
    (b'a', b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"),
    (b'n', b"0123456789"),
    (b'o', b"@&%?,=[]_:-+*$#!'^~;()/."),
    (b'x', b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()"),
];

/// The algorithm of Master Password, version 3.
fn derive(counter: i64, sort: &str, password: &str, (user, site): (&str, &str)) -> Result<String, String> {
    let Some((_, patterns)) = PATTERNS.iter().find(|(name, _)| *name == sort) else {
        return Ok(format!("cannot find password template {sort}"));
    };
    let begin = |text: &str| {
        let mut out = b"com.lyndir.masterpassword".to_vec();
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    };
    let params = scrypt::Params::new(15, 8, 2).map_err(|error| error.to_string())?;
    let mut key = [0; 64];
    scrypt::scrypt(password.as_bytes(), &begin(user), &params, &mut key)
        .map_err(|error| error.to_string())?;
    let mut message = begin(site);
    // Counters are 32 bits wide; others do not get here.
    message.extend_from_slice(&u32::try_from(counter).unwrap_or(u32::MAX).to_be_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    mac.update(&message);
    let seed = mac.finalize().into_bytes();
    let pattern = patterns[usize::from(seed[0]) % patterns.len()];
    let mut out = String::new();
    for (letter, byte) in pattern.bytes().zip(seed.iter().skip(1)) {
        let choice =
            LETTERS.iter().find(|(known, _)| *known == letter).map_or(&b"x"[..], |(_, choice)| choice);
        out.push(char::from(choice[usize::from(*byte) % choice.len()]));
    }
    Ok(out)
}
