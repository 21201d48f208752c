//! Durations as our own kinds have them in their schemas: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// Reads one; `None` for what is none, and for what no clock holds.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut number = String::new();
    for character in text.chars() {
        let unit = match character {
            digit if digit.is_ascii_digit() => {
                number.push(digit);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit)?))?;
        number.clear();
    }
    number.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("90"), None);
        assert_eq!(duration("x"), None);
        assert_eq!(duration("s"), None);
        assert_eq!(duration("18446744073709551615s1s"), None);
    }
}
