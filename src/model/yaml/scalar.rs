//! What one scalar means: the resolution table of go-yaml v2.

use base64::Engine as _;
use serde_json::Value;

/// What a scalar resolves to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond 63 bits: JSON keeps it as a float.
    Large(u64),
    Float(f64),
    Text(String),
}

impl Scalar {
    /// As JSON; infinities and NaN have no form there.
    pub(super) fn into_json(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => value.into(),
            #[expect(clippy::cast_precision_loss, reason = "what kubectl does with numbers beyond 63 bits")]
            Self::Large(value) => number(value as f64)?,
            Self::Float(value) => number(value)?,
            Self::Text(value) => Value::String(value),
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
            Self::Text(value) => value,
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

/// `strconv.FormatFloat(value, 'g', -1, 64)`: exponents from 1e21 and below 1e-4.
fn go_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    value.to_string()
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
