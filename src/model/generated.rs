//! Texts that a render makes anew each time: passwords, certificates, points in time.
//!
//! Applied as they come, they would change with every commit. So the live text stays wherever it fits, line by line: a
//! line that several renders give otherwise is taken from what is live, as long as what is not random in it is what the
//! render says today; all other lines are the render's.
//!
//! Two renders have a random letter in common often enough (one in 30 passwords begins or ends with the same one), so
//! four are compared, and 62³ renewals go well before one goes wrong.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What stood at a place in another render. A place may have several.
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
    /// The places where two renders of an object differ in a text or a number, with what the second gave.
    pub fn between(object: usize, one: &Value, other: &Value) -> Vec<Self> {
        let mut found = Vec::new();
        differences(one, other, "", &mut |pointer, other| found.push(Self { object, pointer, other }));
        found
    }
}

fn differences(one: &Value, other: &Value, pointer: &str, found: &mut dyn FnMut(String, String)) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                if let Some(other) = other.get(name) {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    differences(value, other, &format!("{pointer}/{name}"), found);
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for (at, (value, other)) in one.iter().zip(other).enumerate() {
                differences(value, other, &format!("{pointer}/{at}"), found);
            }
        }
        (Value::String(one), Value::String(other)) if one != other => {
            found(pointer.to_owned(), other.clone());
        }
        (Value::Number(one), Value::Number(other)) if one != other => {
            found(pointer.to_owned(), other.to_string());
        }
        _ => {}
    }
}

/// An object with generated values.
pub struct Renewed<'a> {
    /// As it was rendered; `stringData` of a Secret is in `data`.
    pub object: &'a mut Value,
    /// As it is in the cluster.
    pub live: Option<&'a Value>,
    /// Its generated values.
    pub generated: &'a [Generated],
    /// Whether texts below `/data` are base64, as in a Secret.
    pub encoded: bool,
}

/// Puts what is live in the place of what was rendered, where it fits.
///
/// Keys and certificates of one application are kept together or made anew together: a certificate is worth nothing
/// without its authority. A word that is kept in one place stands in all places for which the render gave the same word.
pub fn keep(all: &mut [Renewed<'_>]) {
    let mut fields = Vec::new();
    for (number, one) in all.iter_mut().enumerate() {
        fields.extend(Field::of(number, one));
    }
    let mut known = Known::default();
    let mut merged: Vec<String> = fields.iter().map(|field| field.merge(true, &mut known)).collect();
    if known.keys_missing {
        known = Known::default();
        merged = fields.iter().map(|field| field.merge(false, &mut known)).collect();
    }
    for (field, text) in fields.iter().zip(merged) {
        let text = known.words.iter().fold(text, |text, (ours, live)| text.replace(ours, live));
        let text = if field.coded { STANDARD.encode(text) } else { text };
        if let Some(Value::String(slot)) = all[field.number].object.pointer_mut(&field.pointer) {
            *slot = text;
        }
    }
}

/// Shorter words are not looked for in other places: they may stand there for another reason.
const WORD: usize = 8;

/// What was found out in passing.
#[derive(Default)]
struct Known {
    /// Words of this render, and what stays in their place.
    words: Vec<(String, String)>,
    /// A key or certificate has nothing live in its place.
    keys_missing: bool,
}

/// A generated text of an object, in clear.
struct Field {
    number: usize,
    pointer: String,
    /// It was base64.
    coded: bool,
    ours: String,
    others: Vec<String>,
    live: Option<String>,
}

impl Field {
    /// The texts of an object. Numbers, and bytes that are no text, are put in place at once: there is nothing around
    /// what is random in them.
    fn of(number: usize, one: &mut Renewed<'_>) -> Vec<Self> {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for value in one.generated {
            // What stood in `stringData` is encoded by now, but the other render's text is not.
            let clear = value.pointer.strip_prefix("/stringData/").filter(|_| one.encoded);
            let (pointer, other) = match clear {
                Some(name) => (format!("/data/{name}"), STANDARD.encode(&value.other)),
                None => (value.pointer.clone(), value.other.clone()),
            };
            places.entry(pointer).or_default().push(other);
        }
        let mut fields = Vec::new();
        for (pointer, others) in places {
            let live = one.live.and_then(|live| live.pointer(&pointer));
            let Some(ours) = one.object.pointer_mut(&pointer) else { continue };
            let text = match (&*ours, live) {
                (Value::String(text), _) => text.clone(),
                (Value::Number(_), Some(Value::Number(live))) => {
                    *ours = Value::Number(live.clone());
                    continue;
                }
                _ => continue,
            };
            let live = live.and_then(Value::as_str).map(str::to_owned);
            let in_secret = one.encoded && pointer.starts_with("/data/");
            let decoded = decode_all(&text, &others, live.as_deref());
            let coded = match &decoded {
                Some((text, ..)) => in_secret || text.contains(BEGIN),
                None => false,
            };
            match decoded {
                Some((ours, others, live)) if coded => {
                    fields.push(Self { number, pointer, coded, ours, others, live });
                }
                _ if in_secret => {
                    if let Some(live) = live {
                        *ours = Value::String(live);
                    }
                }
                _ => fields.push(Self { number, pointer, coded, ours: text, others, live }),
            }
        }
        fields
    }

    /// The text to apply. Without `keys`, those are the render's.
    fn merge(&self, keys: bool, known: &mut Known) -> String {
        let ours = units(&self.ours);
        let others: Vec<Vec<&str>> = self.others.iter().map(|other| units(other)).collect();
        let live = self.live.as_deref().map(units).unwrap_or_default();
        if others.iter().any(|other| other.len() != ours.len()) {
            // Not even the lines pair up: it is generated as a whole.
            let is_key = self.ours.contains(BEGIN);
            known.keys_missing |= is_key && self.live.is_none();
            return self.live.clone().filter(|_| keys || !is_key).unwrap_or_else(|| self.ours.clone());
        }
        let mut out = Vec::with_capacity(ours.len());
        let mut earlier: Vec<Pattern<'_>> = Vec::new();
        let patterns: Vec<Option<Pattern<'_>>> =
            (0..ours.len()).map(|at| Pattern::of(ours[at], others.iter().map(|other| other[at]))).collect();
        for (at, pattern) in patterns.iter().enumerate() {
            let Some(pattern) = pattern else {
                out.push(ours[at]);
                continue;
            };
            let before = earlier.iter().filter(|one| *one == pattern).count();
            earlier.push(*pattern);
            let in_place = live.get(at).filter(|line| live.len() == ours.len() && pattern.fits(line));
            let found = in_place.or_else(|| {
                // Lines came or went around it: the one with the same number among those that fit, if they are as many.
                let fitting = || live.iter().filter(|line| pattern.fits(line));
                let wanted = patterns.iter().flatten().filter(|one| *one == pattern).count();
                (pattern.says_something() && fitting().count() == wanted)
                    .then(|| fitting().nth(before))
                    .flatten()
            });
            known.keys_missing |= pattern.is_key && found.is_none();
            match found.filter(|_| keys || !pattern.is_key) {
                Some(line) => {
                    let (word, stays) = (pattern.middle(ours[at]), pattern.middle(line));
                    if word.len() >= WORD && !pattern.is_key {
                        known.words.push((word.to_owned(), stays.to_owned()));
                    }
                    out.push(line);
                }
                None => out.push(ours[at]),
            }
        }
        out.join("\n")
    }
}

type Decoded = (String, Vec<String>, Option<String>);

/// All of them decoded, where each is base64 of a text.
fn decode_all(ours: &str, others: &[String], live: Option<&str>) -> Option<Decoded> {
    let text = |encoded: &str| String::from_utf8(STANDARD.decode(encoded).ok()?).ok();
    let others = others.iter().map(|other| text(other)).collect::<Option<Vec<_>>>()?;
    let live = match live {
        Some(live) => Some(text(live)?),
        None => None,
    };
    Some((text(ours)?, others, live))
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// The lines of a text; a key or certificate in PEM is one.
fn units(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let line = rest.find('\n').unwrap_or(rest.len());
        let end = if rest[..line].trim_start().starts_with(BEGIN) {
            let last = rest.find(END).unwrap_or(line);
            rest[last..].find('\n').map_or(rest.len(), |line| last + line)
        } else {
            line
        };
        found.push(&rest[..end]);
        match rest.get(end + 1..) {
            Some(next) => rest = next,
            None => return found,
        }
    }
}

/// What all renders have in common in one line.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pattern<'a> {
    before: &'a str,
    after: &'a str,
    is_key: bool,
}

impl<'a> Pattern<'a> {
    /// `None` where all are the same.
    fn of<'b>(ours: &'a str, others: impl Iterator<Item = &'b str>) -> Option<Self> {
        if ours.trim_start().starts_with(BEGIN) {
            let label = ours.lines().next().unwrap_or_default();
            let differ = others.filter(|other| *other != ours).count() > 0;
            return differ.then_some(Self { before: label, after: "", is_key: true });
        }
        let (mut before, mut after, mut differ) = (ours.len(), ours.len(), false);
        for other in others {
            differ |= other != ours;
            before = before.min(common(ours.chars(), other.chars()));
            after = after.min(common(ours.chars().rev(), other.chars().rev()));
        }
        // Of a text that repeats itself both may claim the same letters.
        let after = after.min(ours.len() - before.min(ours.len()));
        let after = (ours.len() - after..=ours.len()).find(|at| ours.is_char_boundary(*at))?;
        differ.then_some(Self { before: &ours[..before], after: &ours[after..], is_key: false })
    }

    fn says_something(&self) -> bool {
        !self.before.trim().is_empty() || !self.after.trim().is_empty()
    }

    /// Whether another render could have given this line.
    fn fits(&self, line: &str) -> bool {
        if self.is_key {
            return line.lines().next() == Some(self.before);
        }
        line.len() >= self.before.len() + self.after.len()
            && line.starts_with(self.before)
            && line.ends_with(self.after)
    }

    /// What is generated in a line that fits.
    fn middle<'l>(&self, line: &'l str) -> &'l str {
        line.get(self.before.len()..line.len().saturating_sub(self.after.len())).unwrap_or_default()
    }
}

/// Bytes of the longest common beginning.
fn common(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).map(|(one, _)| one.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn generated(pointer: &str, others: &[&str]) -> Vec<Generated> {
        let one = |other: &&str| Generated { object: 0, pointer: pointer.into(), other: (*other).into() };
        others.iter().map(one).collect()
    }

    /// What is applied of an object whose `/data/a~1b` is `ours`.
    fn kept(ours: &str, others: &[&str], live: Option<&str>) -> String {
        let plain = |text: &str| json!({"data": {"a/b": text}});
        let (mut object, live_plain) = (plain(ours), live.map(plain));
        let values = generated("/data/a~1b", others);
        let live_plain = live_plain.as_ref();
        keep(&mut [Renewed { object: &mut object, live: live_plain, generated: &values, encoded: false }]);
        // The same in a Secret.
        let coded: Vec<String> = others.iter().map(|other| STANDARD.encode(other)).collect();
        let values = generated("/data/a~1b", &coded.iter().map(String::as_str).collect::<Vec<_>>());
        let mut secret = plain(&STANDARD.encode(ours));
        let live = live.map(|live| plain(&STANDARD.encode(live)));
        keep(&mut [Renewed { object: &mut secret, live: live.as_ref(), generated: &values, encoded: true }]);
        let text = object["data"]["a/b"].as_str().unwrap().to_owned();
        assert_eq!(secret, plain(&STANDARD.encode(&text)));
        text
    }

    #[test]
    fn what_is_live_stays_while_it_fits() {
        for (ours, others, live, expected) in [
            ("x7", vec!["k9"], "p3", "p3"),
            ("user=a:x7", vec!["user=a:k9"], "user=a:p3", "user=a:p3"),
            ("user=b:x7", vec!["user=b:k9"], "user=a:p3", "user=b:x7"),
            ("é1-z", vec!["é2-z"], "é3-z", "é3-z"),
            // A letter that two have in common by chance.
            ("xa7", vec!["xb7", "kc9"], "pd3", "pd3"),
            ("aXaa", vec!["aaaa"], "abaa", "abaa"),
            (
                "2026-11-25T10:00:00Z",
                vec!["2027-12-30T12:11:31Z", "1970-01-01T00:00:00Z"],
                "2019-01-01T01:01:01Z",
                "2019-01-01T01:01:01Z",
            ),
        ] {
            assert_eq!(kept(ours, &others, Some(live)), expected, "{ours} {others:?} {live}");
            assert_eq!(kept(ours, &others, None), ours);
        }
    }

    #[test]
    fn chance_rotates_no_password() {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut state = 1u64;
        let mut word = || -> String {
            let mut letter = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(LETTERS[usize::try_from(state >> 33).unwrap() % LETTERS.len()])
            };
            (0..16).map(|_| letter()).collect()
        };
        let mut lost = [0, 0];
        for _ in 0..5000 {
            let [ours, live, others @ ..] = [word(), word(), word(), word(), word()];
            for (lost, others) in lost.iter_mut().zip([&others[..1], &others[..]]) {
                let others: Vec<&str> = others.iter().map(String::as_str).collect();
                *lost += usize::from(kept(&ours, &others, Some(&live)) != live);
            }
        }
        assert_eq!(lost[1], 0, "four renders");
        assert!(lost[0] > 50, "two would lose some: {}", lost[0]);
    }

    #[test]
    fn text_around_is_the_renders() {
        let config = |user: &str, word: &str, end: &str| format!("user: {user}\npassword: {word}\n{end}");
        let (ours, other) = (config("b", "x7", "# end\n"), config("b", "k9", "# end\n"));
        for live in [config("a", "p3", "# end\n"), format!("# more\n{}", config("a", "p3", "one: 1\ntwo: 2"))]
        {
            assert_eq!(kept(&ours, &[&other], Some(&live)), config("b", "p3", "# end\n"));
        }
        // Which of two is meant is not guessed.
        let two = "password: p3\npassword: p4\nmore: 1\nand: 2\n";
        assert_eq!(kept(&ours, &[&other], Some(two)), ours);
        assert_eq!(kept("k: x7\nk: y8\n", &["k: 1\nk: 2\n"], Some("# c\nk: p\nk: q\n")), "k: p\nk: q\n");
    }

    #[test]
    fn keys_are_kept_as_a_whole() {
        let pem = |body: &str| format!("-----BEGIN KEY-----\n{body}\n-----END KEY-----\n");
        // A line in the middle may be the same in all, and the live one shifted or longer.
        let (ours, other, live) = (pem("aa\nsame\nbb"), pem("cc\nsame\ndd"), pem("ee\nff\nother\ngg"));
        assert_eq!(kept(&ours, &[&other], Some(&live)), live);
        let chain = |body: &str| format!("a: 1\n{}{}", pem(body), pem("fixed"));
        assert_eq!(kept(&chain("x"), &[&chain("y")], Some(&chain("z").replace("a: 1", "a: 0"))), chain("z"));
        // In base64 too, where it is no Secret.
        let coded = |body: &str| STANDARD.encode(pem(body));
        let values = generated("/caBundle", &[&coded("MIIDc")]);
        let mut object = json!({"caBundle": coded("MIIDb")});
        let live = json!({"caBundle": coded("MIIEa\nb")});
        keep(&mut [Renewed { object: &mut object, live: Some(&live), generated: &values, encoded: false }]);
        assert_eq!(object, live);
    }

    #[test]
    fn keys_go_together() {
        let pem = |body: &str| STANDARD.encode(format!("-----BEGIN KEY-----\n{body}\n-----END KEY-----\n"));
        let secret = |body: &str| json!({"data": {"tls.key": pem(body), "word": STANDARD.encode(format!("{body}-word"))}});
        let hook = |body: &str| json!({"caBundle": pem(body)});
        let values =
            [generated("/data/tls.key", &[&pem("o")]), generated("/caBundle", &[&pem("o")])].map(|all| all);
        let words = [values[0].clone(), generated("/data/word", &[&STANDARD.encode("o-word")])].concat();
        let run = |live_secret: Option<&Value>, live_hook: Option<&Value>| {
            let (mut one, mut two) = (secret("u"), hook("u"));
            keep(&mut [
                Renewed { object: &mut one, live: live_secret, generated: &words, encoded: true },
                Renewed { object: &mut two, live: live_hook, generated: &values[1], encoded: false },
            ]);
            (one, two)
        };
        assert_eq!(run(Some(&secret("l")), Some(&hook("l"))), (secret("l"), hook("l")));
        let (one, two) = run(Some(&secret("l")), None);
        assert_eq!((&one["data"]["tls.key"], two), (&json!(pem("u")), hook("u")));
        assert_eq!(one["data"]["word"], STANDARD.encode("l-word"), "what is no key stays");
        assert_eq!(run(None, Some(&hook("l"))), (secret("u"), hook("u")));
    }

    #[test]
    fn a_word_that_stays_stands_in_all_places() {
        let values =
            [generated("/data/p", &["U1NTU1NTU1NTU1M="]), generated("/data/url", &["new://SSSSSSSSSSS@db"])];
        let mut secret = json!({"data": {"p": STANDARD.encode("RRRRRRRRRRR")}});
        let mut map = json!({"data": {"url": "new://RRRRRRRRRRR@db"}});
        let (live_secret, live_map) = (
            json!({"data": {"p": STANDARD.encode("LLLLLLLLLLL")}}),
            json!({"data": {"url": "old://LLLLLLLLLLL@db"}}),
        );
        keep(&mut [
            Renewed { object: &mut map, live: Some(&live_map), generated: &values[1], encoded: false },
            Renewed { object: &mut secret, live: Some(&live_secret), generated: &values[0], encoded: true },
        ]);
        assert_eq!(secret, live_secret);
        assert_eq!(map["data"]["url"], "new://LLLLLLLLLLL@db");
    }

    #[test]
    fn a_secret_in_clear_is_found_encoded() {
        let values = generated("/stringData/p", &["k9"]);
        let run = |live: Value| {
            let mut object = json!({"data": {"p": STANDARD.encode("x7")}});
            keep(&mut [Renewed {
                object: &mut object,
                live: Some(&live),
                generated: &values,
                encoded: true,
            }]);
            object["data"]["p"].clone()
        };
        assert_eq!(run(json!({"data": {"p": STANDARD.encode("p3")}})), STANDARD.encode("p3"));
        assert_eq!(run(json!({"data": {}})), STANDARD.encode("x7"), "there is nothing to keep");
        assert_eq!(run(json!({"data": {"p": "//79"}})), "//79", "bytes that are no text stay");
    }

    #[test]
    fn renders_are_compared() {
        let (one, other) = (
            json!({"a": "x", "n": [1, 2], "b": true, "~/": "p"}),
            json!({"a": "y", "n": [1, 3], "b": false, "~/": "q"}),
        );
        let found = Generated::between(4, &one, &other);
        let found: Vec<_> =
            found.iter().map(|one| (one.object, one.pointer.as_str(), one.other.as_str())).collect();
        assert_eq!(found, [(4, "/a", "y"), (4, "/n/1", "3"), (4, "/~0~1", "q")]);
        let mut object = one.clone();
        let values = Generated::between(0, &one, &other);
        keep(&mut [Renewed {
            object: &mut object,
            live: Some(&json!({"n": [1, 7]})),
            generated: &values,
            encoded: false,
        }]);
        assert_eq!(object["n"], json!([1, 7]));
    }
}
