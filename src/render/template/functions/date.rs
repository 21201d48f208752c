//! Points in time, all in UTC.

use std::rc::Rc;

use serde_json::Value as Json;

use super::{Called, any, text};
use crate::render::template::value::{Object, Value};

/// A point in time, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) i64);

/// A point in time as templates get it.
pub fn time(seconds: i64) -> Value {
    Value::Object(Rc::new(Time(seconds)))
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let layout = text(arguments, 0);
    let give = |text: String| Some(Ok(Value::text(text)));
    match name {
        "date" | "date_in_zone" | "dateInZone" => give(seconds(any(arguments, 1))?.format(layout)),
        "htmlDate" | "htmlDateInZone" => give(seconds(any(arguments, 0))?.format("2006-01-02")),
        "unixEpoch" => give(seconds(any(arguments, 0))?.0.to_string()),
        "toDate" | "mustToDate" => Some(match parse(layout, text(arguments, 1)) {
            Some(seconds) => Ok(time(seconds)),
            None if name == "toDate" => Ok(time(-62_135_596_800)),
            None => Err(format!("parsing time {:?} as {layout:?}: cannot parse", text(arguments, 1))),
        }),
        "dateModify" | "date_modify" | "mustDateModify" | "must_date_modify" => {
            let Time(now) = seconds(any(arguments, 1))?;
            Some(match duration(layout) {
                Some(add) => Ok(time(now + add)),
                None if name.starts_with("must") => Err(format!("time: invalid duration {layout:?}")),
                None => Ok(time(now)),
            })
        }
        "duration" => {
            let seconds = any(arguments, 0).to_int();
            give(shown(seconds))
        }
        _ => None,
    }
}

/// What Sprig takes for a time: one, or a number of seconds.
fn seconds(value: &Value) -> Option<Time> {
    match value {
        Value::Object(object) if object.type_name() == "time.Time" => object.json().as_i64().map(Time),
        Value::Int(seconds) | Value::Long(seconds) => Some(Time(*seconds)),
        _ => None,
    }
}

/// `1h30m` as seconds.
fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a duration")]
    Some((sign * total) as i64)
}

fn shown(seconds: i64) -> String {
    let size = seconds.unsigned_abs();
    let (hours, minutes, rest) = (size / 3600, size / 60 % 60, size % 60);
    let sign = if seconds < 0 { "-" } else { "" };
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{rest}s"),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The parts of Go's layouts, longest first where one begins another.
const PARTS: &[&str] = &[
    "January", "Jan", "Monday", "Mon", "MST", "2006", "-07:00", "-0700", "Z07:00", "Z0700", "002", "01",
    "02", "03", "04", "05", "06", "15", "PM", "pm", "_2", "1", "2", "3", "4", "5",
];

impl Time {
    /// Year, month and day of the proleptic Gregorian calendar.
    fn civil(self) -> (i64, usize, i64) {
        let days = self.0.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year + era * 400 + i64::from(month <= 2), usize::try_from(month).unwrap_or(1), day)
    }

    fn format(self, layout: &str) -> String {
        let (year, month, day) = self.civil();
        let second = self.0.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let weekday = usize::try_from((self.0.div_euclid(86_400) + 4).rem_euclid(7)).unwrap_or(0);
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let mut out = String::new();
        let mut rest = layout;
        while !rest.is_empty() {
            let Some(part) = PARTS.iter().find(|part| rest.starts_with(**part)) else {
                let c = rest.chars().next().unwrap_or(' ');
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            };
            out.push_str(&match *part {
                "January" => MONTHS[month - 1].to_owned(),
                "Jan" => MONTHS[month - 1][..3].to_owned(),
                "Monday" => DAYS[weekday].to_owned(),
                "Mon" => DAYS[weekday][..3].to_owned(),
                "MST" => "UTC".to_owned(),
                "2006" => format!("{year:04}"),
                "06" => format!("{:02}", year % 100),
                "01" => format!("{month:02}"),
                "1" => month.to_string(),
                "02" => format!("{day:02}"),
                "_2" => format!("{day:2}"),
                "2" => day.to_string(),
                "15" => format!("{hour:02}"),
                "03" => format!("{twelve:02}"),
                "3" => twelve.to_string(),
                "04" => format!("{minute:02}"),
                "4" => minute.to_string(),
                "05" => format!("{second:02}"),
                "5" => second.to_string(),
                "PM" => if hour >= 12 { "PM" } else { "AM" }.to_owned(),
                "pm" => if hour >= 12 { "pm" } else { "am" }.to_owned(),
                "-07:00" => "+00:00".to_owned(),
                "-0700" => "+0000".to_owned(),
                "002" => {
                    let first = days_before(year, 1, 1);
                    format!("{:03}", self.0.div_euclid(86_400) - first + 1)
                }
                _ => "Z".to_owned(),
            });
            rest = &rest[part.len()..];
        }
        out
    }
}

/// Days from 1970 to a date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads a text by a layout of numbers.
fn parse(layout: &str, text: &str) -> Option<i64> {
    let (mut year, mut month, mut day, mut clock) = (0, 1, 1, 0);
    let (mut layout, mut text) = (layout, text);
    while !layout.is_empty() {
        let Some(part) = PARTS.iter().find(|part| layout.starts_with(**part)) else {
            let c = layout.chars().next()?;
            text = text.strip_prefix(c)?;
            layout = &layout[c.len_utf8()..];
            continue;
        };
        layout = &layout[part.len()..];
        if *part == "Z07:00" {
            text = text.strip_prefix('Z')?;
            continue;
        }
        let most = if *part == "2006" { 4 } else { 2 };
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()).min(most);
        let number: i64 = text.get(..end)?.parse().ok()?;
        text = &text[end..];
        match *part {
            "2006" => year = number,
            "01" | "1" => month = number,
            "02" | "2" | "_2" => day = number,
            "15" => clock += number * 3_600,
            "04" | "4" => clock += number * 60,
            "05" | "5" => clock += number,
            _ => return None,
        }
    }
    let fits = text.is_empty() && (1..=12).contains(&month) && (1..=31).contains(&day);
    fits.then(|| days_before(year, month, day) * 86_400 + clock)
}

impl Object for Time {
    fn type_name(&self) -> &'static str {
        "time.Time"
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let (year, month, day) = self.civil();
        Some(Ok(match name {
            "Unix" => Value::Long(self.0),
            "Year" => Value::Int(year),
            "Month" => Value::text(MONTHS[month - 1]),
            "Day" => Value::Int(day),
            "Format" => Value::text(self.format(text(arguments, 0))),
            "UTC" => time(self.0),
            _ => return None,
        }))
    }

    fn print(&self) -> String {
        self.format("2006-01-02 15:04:05 -0700 MST")
    }

    fn json(&self) -> Json {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        let at = Time(1_700_000_000);
        assert_eq!(at.format("2006-01-02T15:04:05Z07:00"), "2023-11-14T22:13:20Z");
        assert_eq!(at.format("Mon Jan _2 3:04PM 06"), "Tue Nov 14 10:13PM 23");
        assert_eq!(parse("2006-01-02 15:04:05", "2023-11-14 22:13:20"), Some(1_700_000_000));
        assert_eq!(parse("2006-01-02", "2023-14-01"), None);
        assert_eq!(duration("1h30m"), Some(5_400));
    }
}
