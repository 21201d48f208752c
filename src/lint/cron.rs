//! Schedules in the dialects of the controllers that read them.
//!
//! Kubernetes, Argo and Ray read five fields with robfig/cron v3; Kubeflow Pipelines reads six with its first version,
//! where seconds come first and the day of the week may be left out: a line of five fields is taken, and means
//! something else.

/// How a controller reads a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Minute, hour, day, month, day of the week.
    Standard,
    /// Second first.
    Seconds,
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", least: 0, most: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field {
    name: "day of the week",
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

const MACROS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Why a schedule is refused or never comes; none where it is right.
pub(super) fn fault(text: &str, dialect: Dialect) -> Option<String> {
    let mut text = text.trim();
    if let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if !is_zone(zone) {
            return Some(format!("{zone} is no time zone of the IANA database"));
        }
        text = rest.trim();
    }
    if text.starts_with('@') {
        let known = MACROS.contains(&text) || text.strip_prefix("@every ").is_some_and(is_duration);
        return (!known)
            .then(|| format!("{text} is no schedule; there are {} and @every 1h", MACROS.join(", ")));
    }
    let given: Vec<&str> = text.split_whitespace().collect();
    let fields: &[&Field] = match dialect {
        Dialect::Standard => &[&MINUTE, &HOUR, &DAY, &MONTH, &WEEKDAY],
        Dialect::Seconds => &[&SECOND, &MINUTE, &HOUR, &DAY, &MONTH, &WEEKDAY],
    };
    if given.len() != fields.len() {
        return Some(match (dialect, given.len()) {
            (Dialect::Seconds, 5) => {
                format!("it has 5 fields, and this controller reads the first as seconds: write \"0 {text}\"")
            }
            (_, count) => format!("it has {count} fields, and {} are wanted", fields.len()),
        });
    }
    let mut sets = Vec::new();
    for (field, text) in fields.iter().zip(&given) {
        match set(text, field) {
            Ok(set) => sets.push(set),
            Err(why) => return Some(why),
        }
    }
    let from_days = &sets[sets.len() - 3..];
    let (days, months, weekdays) = (from_days[0], from_days[1], &given[given.len() - 1]);
    // With both restricted, either is enough.
    let any_weekday = matches!(*weekdays, "*" | "?");
    let longest = |month: u32| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let comes = (1..=12)
        .any(|month| months & (1 << month) != 0 && (1..=longest(month)).any(|day| days & (1 << day) != 0));
    (any_weekday && !comes).then(|| "no month has such a day: it never comes".to_owned())
}

/// The values of a field as bits.
fn set(text: &str, field: &Field) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |= range(part, field).map_err(|why| format!("{why} in the field {}", field.name))?;
    }
    Ok(bits)
}

fn range(part: &str, field: &Field) -> Result<u64, String> {
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => {
            let step: u32 = step.parse().map_err(|_| format!("{step:?} is no step"))?;
            if step == 0 {
                return Err("a step of 0".to_owned());
            }
            (span, Some(step))
        }
        None => (part, None),
    };
    let (from, to) = match span {
        "*" | "?" => (field.least, field.most),
        span => {
            if let Some((from, to)) = span.split_once('-') {
                (number(from, field)?, number(to, field)?)
            } else {
                let from = number(span, field)?;
                // N/S means from N to the end.
                (from, if step.is_some() { field.most } else { from })
            }
        }
    };
    if from > to {
        return Err(format!("{part}: {from} is beyond {to}"));
    }
    if from < field.least || to > field.most {
        return Err(format!("{part} is not between {} and {}", field.least, field.most));
    }
    let mut bits = 0;
    let mut at = from;
    while at <= to {
        bits |= 1 << at;
        at = at.saturating_add(step.unwrap_or(1));
    }
    Ok(bits)
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = field.names.iter().position(|name| *name == lower) {
        return Ok(field.least + u32::try_from(at).unwrap_or_default());
    }
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// Go's durations: `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim();
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        if digits == 0 || !matches!(&rest[digits..unit], "ns" | "us" | "µs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = &rest[unit..];
    }
    true
}

/// Whether the IANA database has a zone of this name. `Local` is a zone to Go, and another one on every machine.
pub(super) fn is_zone(name: &str) -> bool {
    name == "UTC" || name == "Local" || jiff::tz::TimeZone::get(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Dialect, fault};

    fn check(text: &str, dialect: Dialect, expected: &str) {
        let found = fault(text, dialect).unwrap_or_default();
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{text}: {found}"
        );
    }

    #[test]
    fn schedules_as_the_controllers_read_them() {
        for right in [
            "0 3 * * *",
            "*/5 * * * *",
            "0 0 1 JAN sun",
            "0 0 29 2 *",
            "0 0 31 2 mon",
            "0 9-17/2 * * 1-5",
            "@daily",
            "@every 1h30m",
            "TZ=Europe/Berlin 0 3 * * *",
            "CRON_TZ=UTC 0 3 * * *",
            "5/15 * * * *",
            "0 0 ? * *",
        ] {
            check(right, Dialect::Standard, "");
        }
        check("0 0 9 * * 1", Dialect::Seconds, "");
        for (wrong, why) in [
            ("0 3 * *", "4 fields"),
            ("0 0 3 * * *", "6 fields"),
            ("60 * * * *", "not between 0 and 59"),
            ("0 24 * * *", "not between 0 and 23"),
            ("0 0 0 * *", "day of the month"),
            ("0 0 31 2 *", "never"),
            ("0 0 31 4,6,9,11 *", "never"),
            ("0 0 * * 7", "day of the week"),
            ("0 0 * foo *", "no number"),
            ("*/0 * * * *", "step of 0"),
            ("0 5-3 * * *", "beyond"),
            ("@dayly", "no schedule"),
            ("@every soon", "no schedule"),
            ("TZ=Mars/Base 0 3 * * *", "time zone"),
            ("", "0 fields"),
        ] {
            check(wrong, Dialect::Standard, why);
        }
        check("0 9 * * 1", Dialect::Seconds, "write \"0 0 9 * * 1\"");
    }
}
