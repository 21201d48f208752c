//! Texts that a render makes anew each time: passwords, certificates, points in time.
//!
//! Applied as they come, they would change with every commit. So the live text stays as long as it fits: as long as
//! whatever is not random in it is what the render says today.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A text of an object that another render gives otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The place of the object among all that were rendered.
    pub object: usize,
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// What the other render gave.
    pub other: String,
}

impl Generated {
    /// Puts the live text in the place of the rendered one, where it fits. `encoded` says that texts below `/data` are
    /// base64, as in a Secret; its `/stringData` is looked for there too.
    pub fn keep(&self, object: &mut Value, live: &Value, encoded: bool) {
        let pointer = match self.pointer.strip_prefix("/stringData/") {
            Some(name) if encoded => format!("/data/{name}"),
            _ => self.pointer.clone(),
        };
        let coded = encoded && pointer.starts_with("/data/");
        let Some(Value::String(live)) = live.pointer(&pointer) else { return };
        let Some(Value::String(ours)) = object.pointer_mut(&pointer) else { return };
        // What stood in `stringData` is encoded by now, but the other render's text is not.
        let other = if pointer == self.pointer { self.other.clone() } else { STANDARD.encode(&self.other) };
        let fits = if coded {
            match (text(ours), text(&other), text(live)) {
                (Some(ours), Some(other), Some(live)) => fits(&ours, &other, &live),
                // Bytes that are no text: all of it is generated, or none.
                _ => true,
            }
        } else {
            fits(ours, &other, live)
        };
        if fits {
            live.clone_into(ours);
        }
    }
}

fn text(encoded: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

/// Whether a third render could have given `live`: each line has what the first two have in common at its begin and
/// at its end. Where their lines do not pair up, the text is generated as a whole.
fn fits(one: &str, other: &str, live: &str) -> bool {
    if one.lines().count() != other.lines().count() {
        return true;
    }
    // A generated text of several lines (a certificate) may have more of them one time than another.
    let all_differ = one
        .lines()
        .zip(other.lines())
        .filter(|(one, other)| one == other)
        .all(|(line, _)| line.starts_with("-----") || line.trim().is_empty());
    if all_differ && one.lines().count() > 1 {
        return true;
    }
    one.lines().count() == live.lines().count()
        && one.lines().zip(other.lines()).zip(live.lines()).all(|((one, other), live)| {
            let before = common(one.chars(), other.chars());
            let after = common(one[before..].chars().rev(), other[before..].chars().rev());
            one == other && one == live
                || one != other
                    && live.len() >= before + after
                    && live.starts_with(&one[..before])
                    && live.ends_with(&one[one.len() - after..])
        })
}

/// Bytes of the longest common beginning.
fn common(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).map(|(one, _)| one.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Ours, what another render gave, what is live, and what is applied.
    fn check(ours: &str, other: &str, live: &str, applied: &str) {
        let plain = |text: &str| json!({"data": {"a/b": text}});
        let generated = Generated { object: 0, pointer: "/data/a~1b".into(), other: other.into() };
        let mut object = plain(ours);
        generated.keep(&mut object, &plain(live), false);
        assert_eq!(object, plain(applied), "{ours:?} {other:?} {live:?}");
        // The same in a Secret.
        let mut object = plain(&STANDARD.encode(ours));
        let generated = Generated { other: STANDARD.encode(other), ..generated };
        generated.keep(&mut object, &plain(&STANDARD.encode(live)), true);
        assert_eq!(object, plain(&STANDARD.encode(applied)), "{ours:?} {other:?} {live:?}");
    }

    #[test]
    fn what_is_live_stays_while_it_fits() {
        check("x7", "k9", "p3", "p3");
        check("user=a:x7", "user=a:k9", "user=a:p3", "user=a:p3");
        check("user=b:x7", "user=b:k9", "user=a:p3", "user=b:x7");
        check("é1-z", "é2-z", "é3-z", "é3-z");
        let config = |user: &str, word: &str| format!("user: {user}\npassword: {word}\n# end\n");
        check(&config("a", "x7"), &config("a", "k9"), &config("a", "p3"), &config("a", "p3"));
        check(&config("b", "x7"), &config("b", "k9"), &config("a", "p3"), &config("b", "x7"));
        let pem = |body: &str| format!("-----BEGIN-----\n{body}\n-----END-----\n");
        check(&pem("aa\nbb"), &pem("cc\ndd"), &pem("ee\nff\ngg"), &pem("ee\nff\ngg"));
    }

    #[test]
    fn a_secret_in_clear_is_found_encoded() {
        let generated = Generated { object: 0, pointer: "/stringData/p".into(), other: "k9".into() };
        let mut object = json!({"data": {"p": STANDARD.encode("x7")}});
        generated.keep(&mut object, &json!({"data": {"p": STANDARD.encode("p3")}}), true);
        assert_eq!(object["data"]["p"], STANDARD.encode("p3"));
        let mut object = json!({"data": {"p": STANDARD.encode("x7")}});
        generated.keep(&mut object, &json!({"data": {}}), true);
        assert_eq!(object["data"]["p"], STANDARD.encode("x7"), "there is nothing to keep");
    }
}
