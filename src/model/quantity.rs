//! Quantities of Kubernetes, as far as comparing them needs.

use serde_json::Value;

/// The number that a resource quantity such as `500m`, `1Gi` or `2` stands for. Plain words are none.
pub fn quantity(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse(text),
        _ => None,
    }
}

fn parse(text: &str) -> Option<f64> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number: f64 = digits.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?;
            10f64.powi(power.parse().ok()?)
        }
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn quantities_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("1500m", Some(1.5)),
            ("2Gi", Some(2_147_483_648.0)),
            ("1e3", Some(1000.0)),
            ("1E", Some(1e18)),
            (".5", Some(0.5)),
            ("1E3", Some(1000.0)),
            ("1GB", None),
            ("1 Gi", None),
            ("", None),
            ("1.2.3", None),
            ("{{x}}", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
