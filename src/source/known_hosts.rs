//! Strict checking of SSH host keys against the `known_hosts` lines of a Secret.

use russh::keys::PublicKey;
use russh::keys::ssh_key::known_hosts::{HostPatterns, KnownHosts, Marker};

use crate::error::{Code, Error, Result};

/// Accepts a key only when a line names this host with exactly this key, and none revokes it.
///
/// # Errors
/// `HostKeyUnknown` with the fingerprint; `CredentialsInvalid` for a line that can't be read.
pub(super) fn check(lines: &str, host: &str, port: u16, key: &PublicKey) -> Result<()> {
    // OpenSSH writes the port only where it is not the usual one.
    let name = if port == 22 {
        host.to_ascii_lowercase()
    } else {
        format!("[{}]:{port}", host.to_ascii_lowercase())
    };
    let (mut known, mut same_kind) = (false, false);
    for entry in KnownHosts::new(lines) {
        let entry =
            entry.map_err(|error| Error::new(Code::CredentialsInvalid, format!("known_hosts: {error}")))?;
        if !matches(entry.host_patterns(), &name) {
            continue;
        }
        let same = entry.public_key().key_data() == key.key_data();
        match entry.marker() {
            Some(Marker::Revoked) if same => {
                return Err(refused(&name, key, "known_hosts revokes this key"));
            }
            // Certificates of hosts are not checked, so their authority vouches for nothing here.
            Some(_) => {}
            None => {
                known |= same;
                same_kind |= entry.public_key().algorithm() == key.algorithm();
            }
        }
    }
    if known {
        return Ok(());
    }
    let why = if same_kind {
        "known_hosts has another key of this kind: the host was changed, or somebody is in between"
    } else {
        "known_hosts does not have it"
    };
    Err(refused(&name, key, why))
}

fn refused(name: &str, key: &PublicKey, why: &str) -> Error {
    let print = key.fingerprint(russh::keys::HashAlg::Sha256);
    Error::new(Code::HostKeyUnknown, format!("{name} shows the {} key {print}: {why}", key.algorithm()))
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => {
            let (mut found, mut excluded) = (false, false);
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(pattern) => {
                        excluded |= wildcard(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes());
                    }
                    None => found |= wildcard(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
                }
            }
            found && !excluded
        }
        HostPatterns::HashedName { salt, hash } => {
            // SHA-1 is what OpenSSH hashes names with; the name is hidden by it, not protected.
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            ring::hmac::sign(&key, name.as_bytes()).as_ref() == hash
        }
    }
}

/// `*` and `?`, linear in the name for each star.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < name.len() {
        if at < pattern.len() && (pattern[at] == b'?' || pattern[at] == name[from]) && pattern[at] != b'*' {
            (at, from) = (at + 1, from + 1);
        } else if pattern.get(at) == Some(&b'*') {
            star = Some((at, from));
            at += 1;
        } else if let Some((place, taken)) = star {
            star = Some((place, taken + 1));
            (at, from) = (place + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn verdict(lines: &str, host: &str, port: u16) -> String {
        let key = PublicKey::from_openssh(KEY).unwrap();
        check(lines, host, port, &key).map_or_else(|error| error.to_string(), |()| "known".into())
    }

    #[test]
    fn only_exactly_this_key_of_this_host() {
        for (lines, host, port, expected) in [
            (format!("git.example {KEY}\n"), "git.example", 22, "known"),
            (format!("# c\n\ngit.example,10.0.0.1 {KEY} comment\n"), "Git.Example", 22, "known"),
            (format!("*.example {KEY}\n"), "git.example", 22, "known"),
            (format!("*.example,!git.example {KEY}\n"), "git.example", 22, "does not have it"),
            (format!("[git.example]:2222 {KEY}\n"), "git.example", 2222, "known"),
            (format!("git.example {KEY}\n"), "git.example", 2222, "does not have it"),
            (format!("git.example {OTHER}\n"), "git.example", 22, "another key of this kind"),
            (format!("git.example {OTHER}\ngit.example {KEY}\n"), "git.example", 22, "known"),
            (format!("git.example {KEY}\n@revoked * {KEY}\n"), "git.example", 22, "revokes"),
            (format!("@cert-authority git.example {KEY}\n"), "git.example", 22, "does not have it"),
            (String::new(), "git.example", 22, "does not have it"),
            ("git.example nonsense\n".into(), "git.example", 22, "known_hosts:"),
        ] {
            let found = verdict(&lines, host, port);
            assert!(found.contains(expected), "{lines:?}: {found}");
        }
    }

    #[test]
    fn hashed_names() {
        // ssh-keygen -H of "github.com"; the key is replaced.
        let line = format!("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {KEY}");
        assert!(!verdict(&line, "git.example", 22).contains("known\n"));
        let salt = [7u8; 20];
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let patterns = HostPatterns::HashedName {
            salt: salt.to_vec(),
            hash: ring::hmac::sign(&key, b"git.example").as_ref().try_into().unwrap(),
        };
        assert!(matches(&patterns, "git.example"));
        assert!(!matches(&patterns, "other.example"));
    }

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("?b*", "ab", true),
            ("a", "ab", false),
            ("**b", "aab", true),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
