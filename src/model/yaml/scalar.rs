//! What one scalar means: the resolution table of go-yaml v2, and that of v3 (`core`).

use base64::Engine as _;
use serde_json::Value;

/// What a scalar resolves to.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Beyond 63 bits: JSON keeps it as a float.
    Large(u64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A point in time, in RFC 3339; only of `core`.
    Time(String),
}

impl Scalar {
    /// As JSON; infinities and NaN have no form there.
    ///
    /// # Errors
    /// Says so, in words.
    pub fn into_json(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => value.into(),
            #[expect(clippy::cast_precision_loss, reason = "what kubectl does with numbers beyond 63 bits")]
            Self::Large(value) => number(value as f64)?,
            Self::Float(value) => number(value)?,
            Self::Text(value) | Self::Time(value) => Value::String(value),
        })
    }

    /// As the key of a JSON object.
    pub(super) fn into_key(self) -> Result<String, String> {
        Ok(match self {
            Self::Null => return Err("a key is null; quote it or remove it".into()),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Large(value) => value.to_string(),
            Self::Float(value) if value.is_finite() => go_float(value),
            Self::Float(_) => return Err("a key is infinite or not a number".into()),
            Self::Text(value) | Self::Time(value) => value,
        })
    }
}

/// A float as Kubernetes keeps it after JSON.
pub(super) fn number(value: f64) -> Result<Value, String> {
    if !value.is_finite() {
        return Err("JSON has no infinity and no NaN".into());
    }
    // 2^63: whole numbers below it are integers again once they went through JSON text.
    if value.fract() == 0.0 && value.abs() < 9_223_372_036_854_775_808.0 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
        return Ok((value as i64).into());
    }
    Ok(serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number))
}

/// `strconv.FormatFloat(value, 'g', -1, 64)`: exponents from 1e6 (unless JSON made an integer of it) and below 1e-4.
pub(super) fn go_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    value.to_string()
}

/// A scalar without a tag, not quoted, to readers of YAML 1.2 on the base of go-yaml v3: `yes` and `on` are
/// text, dates are points in time.
pub fn core(text: &str) -> Scalar {
    match plain(text) {
        Scalar::Bool(_) if !matches!(text.len(), 4 | 5) => Scalar::Text(text.to_owned()),
        Scalar::Text(same) => timestamp(&same).map_or(Scalar::Text(same), Scalar::Time),
        other => other,
    }
}

/// A scalar without a tag, not quoted.
pub(super) fn plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Scalar::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'0'..=b'9' | b'+' | b'-' => numeric(text),
        b'.' => float(text),
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

/// Whether go-yaml takes the text for a point in time: a date, or a date and a time of day.
pub(super) fn is_timestamp(text: &str) -> bool {
    timestamp(text).is_some()
}

/// The point in time that a text names, as RFC 3339 in the zone it was given in.
///
/// Forms: `2006-1-2`, `2006-1-2 15:4:5[.9]`, `2006-1-2T15:4:5[.9](Z|+07:00)` with `T` or `t`.
pub(super) fn timestamp(text: &str) -> Option<String> {
    let whole = |part: &str, digits: std::ops::RangeInclusive<usize>| -> Option<u32> {
        let fits = digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| part.parse().ok()).flatten()
    };
    if text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let (date, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some((text.as_bytes()[at] == b' ', &text[at + 1..]))),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) =
        (whole(parts.next()?, 4..=4)?, whole(parts.next()?, 1..=2)?, whole(parts.next()?, 1..=2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if parts.next().is_some() || !(1..=days).contains(&day) {
        return None;
    }
    let (time, zone) = match clock {
        None => ("0:0:0", "Z".to_owned()),
        Some((true, time)) => (time, "Z".to_owned()),
        Some((false, rest)) => {
            if let Some(time) = rest.strip_suffix('Z') {
                (time, "Z".to_owned())
            } else {
                let at = rest.rfind(['+', '-'])?;
                let (hours, minutes) = rest[at + 1..].split_once(':')?;
                let (hours, minutes) = (whole(hours, 2..=2)?, whole(minutes, 2..=2)?);
                if hours > 24 || minutes > 60 {
                    return None;
                }
                let utc = hours == 0 && minutes == 0;
                (&rest[..at], if utc { "Z".to_owned() } else { rest[at..].to_owned() })
            }
        }
    };
    let mut parts = time.splitn(3, ':');
    let (hour, minute, second) = (whole(parts.next()?, 1..=2)?, whole(parts.next()?, 1..=2)?, parts.next()?);
    let (second, fraction) =
        second.split_once('.').map_or((second, None), |(second, rest)| (second, Some(rest)));
    let second = whole(second, 1..=2)?;
    let fraction = match fraction {
        None => String::new(),
        Some(digits) => {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let digits = digits[..digits.len().min(9)].trim_end_matches('0');
            if digits.is_empty() { String::new() } else { format!(".{digits}") }
        }
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"))
}

/// A scalar with one of YAML's own tags (its suffix, such as `int`).
pub(super) fn tagged(tag: &str, text: &str, is_plain: bool) -> Result<Scalar, String> {
    let mismatch = || Err(format!("cannot read {text:?} as !!{tag}"));
    match tag {
        "str" | "timestamp" => Ok(Scalar::Text(text.to_owned())),
        "binary" => {
            let compact: String = text.chars().filter(|character| !character.is_ascii_whitespace()).collect();
            match base64::engine::general_purpose::STANDARD.decode(compact) {
                Ok(bytes) => Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned())),
                Err(_) => Err("!!binary holds no base64".into()),
            }
        }
        "int" => match plain(text) {
            whole @ (Scalar::Int(_) | Scalar::Large(_)) => Ok(whole),
            _ => mismatch(),
        },
        #[expect(clippy::cast_precision_loss, reason = "the file asks for a float")]
        "float" => match plain(text) {
            Scalar::Int(whole) => Ok(Scalar::Float(whole as f64)),
            Scalar::Large(whole) => Ok(Scalar::Float(whole as f64)),
            real @ Scalar::Float(_) => Ok(real),
            _ => mismatch(),
        },
        "bool" => match plain(text) {
            truth @ Scalar::Bool(_) => Ok(truth),
            _ => mismatch(),
        },
        "null" => match plain(text) {
            Scalar::Null => Ok(Scalar::Null),
            _ => mismatch(),
        },
        _ if is_plain => Ok(plain(text)),
        _ => Ok(Scalar::Text(text.to_owned())),
    }
}

/// Go's `ParseInt(text, 0, 64)` and what go-yaml tries after it.
fn numeric(text: &str) -> Option<Scalar> {
    let compact: std::borrow::Cow<'_, str> =
        if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    let (negative, digits) = match compact.as_bytes().first()? {
        b'-' => (true, &compact[1..]),
        b'+' => (false, &compact[1..]),
        _ => (false, &*compact),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, body) = match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !body.is_empty()
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && let Ok(value) = i128::from_str_radix(body, radix)
    {
        let value = if negative { -value } else { value };
        if let Ok(value) = i64::try_from(value) {
            return Some(Scalar::Int(value));
        }
        // ParseUint takes no sign.
        if !compact.starts_with(['-', '+'])
            && let Ok(value) = u64::try_from(value)
        {
            return Some(Scalar::Large(value));
        }
    }
    float(&compact)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, finite.
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let fraction_needed = whole.is_empty() && fraction.is_none_or(str::is_empty);
    if fraction_needed || !digits(whole) || !fraction.is_none_or(digits) {
        return None;
    }
    if let Some(exponent) = exponent {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if exponent.is_empty() || !digits(exponent) {
            return None;
        }
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Scalar::Float(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_as_go_spells_them() {
        for (text, key) in
            [("1.10", "1.1"), ("0x10", "16"), ("yes", "true"), ("1e30", "1e+30"), ("0.00001", "1e-05")]
        {
            assert_eq!(plain(text).into_key().as_deref(), Ok(key), "{text}");
        }
        assert!(plain("~").into_key().is_err());
    }
}
