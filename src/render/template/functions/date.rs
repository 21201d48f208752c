//! Points in time. `Local` is UTC here: a render must not depend on the machine.

use std::rc::Rc;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde_json::Value as Json;

use super::{Called, any, text};
use crate::render::template::host::Host;
use crate::render::template::value::{Object, Value};

/// A point in time, in seconds since 1970, and how its clock stands there.
#[derive(Clone, Debug)]
struct Time {
    seconds: i64,
    nanos: u32,
    /// Seconds east of Greenwich.
    offset: i64,
    zone: String,
}

/// A point in time as templates get it.
pub fn time(seconds: i64) -> Value {
    Value::Object(Rc::new(Time::at(seconds)))
}

/// Functions that take now where they are given no time.
pub(super) fn ask(host: &mut Host, name: &str, arguments: &[Value]) -> Called {
    let mut at = |place: usize| seconds(any(arguments, place)).unwrap_or_else(|| Time::at(host.now()));
    let (time, layout, zone) = match name {
        "date" => (at(1), text(arguments, 0), "Local"),
        "date_in_zone" | "dateInZone" => (at(1), text(arguments, 0), text(arguments, 2)),
        "htmlDate" => (at(0), "2006-01-02", "Local"),
        "htmlDateInZone" => (at(0), "2006-01-02", text(arguments, 1)),
        "ago" => {
            let then = at(0).seconds;
            return Some(Ok(Value::text(shown(host.now().saturating_sub(then).saturating_mul(SECOND)))));
        }
        "durationRound" => {
            let nanos = match any(arguments, 0) {
                Value::Text(text) => duration(text).unwrap_or(0),
                Value::Long(nanos) => *nanos,
                value => match seconds(value) {
                    Some(then) if !matches!(value, Value::Int(_)) => {
                        host.now().saturating_sub(then.seconds).saturating_mul(SECOND)
                    }
                    _ => 0,
                },
            };
            return Some(Ok(Value::text(rounded(nanos))));
        }
        _ => return None,
    };
    Some(Ok(Value::text(time.within(zone).format(layout))))
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let layout = text(arguments, 0);
    match name {
        "unixEpoch" => Some(Ok(Value::text(seconds(any(arguments, 0))?.seconds.to_string()))),
        "toDate" | "mustToDate" => Some(match parse(layout, text(arguments, 1)) {
            Ok(time) => Ok(Value::Object(Rc::new(time))),
            Err(_) if name == "toDate" => Ok(time(BEGIN)),
            Err(why) => Err(why),
        }),
        "dateModify" | "date_modify" | "mustDateModify" | "must_date_modify" => {
            let time = seconds(any(arguments, 1))?;
            Some(match duration(layout) {
                Ok(add) => Ok(Value::Object(Rc::new(time.plus(add)))),
                Err(why) if name.starts_with("must") => Err(why),
                Err(_) => Ok(Value::Object(Rc::new(time))),
            })
        }
        "duration" => {
            let seconds = match any(arguments, 0) {
                Value::Text(text) => text.parse().unwrap_or(0),
                Value::Long(seconds) => *seconds,
                _ => 0_i64,
            };
            Some(Ok(Value::text(shown(seconds.wrapping_mul(SECOND)))))
        }
        _ => None,
    }
}

const SECOND: i64 = 1_000_000_000;
/// The first second of year 1, Go's zero.
const BEGIN: i64 = -62_135_596_800;

/// What Sprig takes for a time: one, or a number of seconds.
fn seconds(value: &Value) -> Option<Time> {
    match value {
        Value::Object(object) if object.type_name() == "time.Time" => {
            // As the object shows itself to JSON: RFC 3339.
            let json = object.json();
            parse("2006-01-02T15:04:05Z07:00", json.as_str()?).ok()
        }
        Value::Int(seconds) | Value::Long(seconds) => Some(Time::at(*seconds)),
        _ => None,
    }
}

/// `1h30m` in nanoseconds, as `time.ParseDuration` reads it.
fn duration(given: &str) -> Result<i64, String> {
    let quoted = super::quoted(given);
    let invalid = || format!("time: invalid duration {quoted}");
    let (sign, mut rest) = match given.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, given.strip_prefix('+').unwrap_or(given)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let end = rest.find(|c| !digits(c)).unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Err(format!("time: missing unit in duration {quoted}"));
        }
        let end = rest.find(digits).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3600e9,
                "m" => 60e9,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" | "μs" => 1e3,
                "ns" => 1.0,
                unit => {
                    return Err(format!("time: unknown unit {} in duration {quoted}", super::quoted(unit)));
                }
            };
        rest = &rest[end..];
    }
    if total >= 9.223_372_036_854_775e18 {
        return Err(invalid());
    }
    #[expect(clippy::cast_possible_truncation, reason = "in range, as was just asked")]
    Ok((sign * total).round() as i64)
}

/// A duration as Go prints it.
fn shown(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = |value: u64, unit: u64| {
        let text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if size == 0 {
        return "0s".to_owned();
    }
    if size < 1_000 {
        return format!("{sign}{size}ns");
    }
    if size < 1_000_000 {
        return format!("{sign}{}µs", fraction(size, 1_000));
    }
    if size < 1_000_000_000 {
        return format!("{sign}{}ms", fraction(size, 1_000_000));
    }
    let (whole, rest) = (size / 1_000_000_000, size % 1_000_000_000);
    let seconds = fraction(whole % 60 * 1_000_000_000 + rest, 1_000_000_000);
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// The largest unit alone.
fn rounded(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let second: u64 = 1_000_000_000;
    let units = [("y", 365 * 86_400), ("mo", 30 * 86_400), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let found = units.iter().find(|(_, length)| size > length * second);
    found.map_or_else(|| "0s".to_owned(), |(unit, length)| format!("{}{unit}", size / (length * second)))
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
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "__2",
    "_2",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "1",
    "2",
    "3",
    "4",
    "5",
];

/// The next part of a layout: a text before it, the part, and what is left.
fn next_part(layout: &str) -> Option<(&str, &str, &str)> {
    for (at, _) in layout.char_indices() {
        let rest = &layout[at..];
        if rest.starts_with(['.', ',']) && rest[1..].starts_with(['0', '9']) {
            let digit = &rest[1..2];
            let end = 1 + rest[1..].find(|c: char| c.to_string() != digit).unwrap_or(rest.len() - 1);
            if !rest[end..].starts_with(|c: char| c.is_ascii_digit()) {
                return Some((&layout[..at], &rest[..end], &rest[end..]));
            }
        }
        let part = PARTS.iter().find(|part| {
            let after = rest.get(part.len()..).unwrap_or_default();
            let word = matches!(**part, "Jan" | "Mon");
            // `Month` is no weekday.
            rest.starts_with(**part) && !(word && after.starts_with(|c: char| c.is_ascii_lowercase()))
        });
        if let Some(part) = part {
            // `_2006` is a blank and a year.
            if *part == "_2" && rest.starts_with("_2006") {
                let at = at + 1;
                return Some((&layout[..at], "2006", &layout[at + 4..]));
            }
            return Some((&layout[..at], &rest[..part.len()], &rest[part.len()..]));
        }
    }
    None
}

impl Time {
    fn at(seconds: i64) -> Self {
        Self { seconds, nanos: 0, offset: 0, zone: "UTC".to_owned() }
    }

    fn plus(mut self, nanos: i64) -> Self {
        let all = i128::from(self.nanos) + i128::from(nanos);
        let (seconds, rest) = (all.div_euclid(1_000_000_000), all.rem_euclid(1_000_000_000));
        self.seconds = self.seconds.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.nanos = u32::try_from(rest).unwrap_or(0);
        self
    }

    /// The same point on the clocks of a zone; of one that nobody knows, UTC's.
    fn within(mut self, zone: &str) -> Self {
        (self.offset, self.zone) = (0, "UTC".to_owned());
        if matches!(zone, "" | "UTC" | "Local") {
            return self;
        }
        let known: Option<TimeZone> = TimeZoneDatabase::bundled().get(zone).ok();
        if let (Some(known), Ok(at)) = (known, Timestamp::from_second(self.seconds)) {
            let info = known.to_offset_info(at);
            self.offset = i64::from(info.offset().seconds());
            info.abbreviation().clone_into(&mut self.zone);
        }
        self
    }

    /// Year, month and day of the proleptic Gregorian calendar.
    fn civil(&self) -> (i64, usize, i64) {
        let days = self.local().div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year + era * 400 + i64::from(month <= 2), usize::try_from(month).unwrap_or(1), day)
    }

    fn local(&self) -> i64 {
        self.seconds.saturating_add(self.offset)
    }

    fn format(&self, layout: &str) -> String {
        let (year, month, day) = self.civil();
        let local = self.local();
        let second = local.rem_euclid(86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let weekday = usize::try_from((local.div_euclid(86_400) + 4).rem_euclid(7)).unwrap_or(0);
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let of_year = local.div_euclid(86_400) - days_before(year, 1, 1) + 1;
        let zone = |colon: &str, minutes: bool, seconds: bool| {
            let size = self.offset.abs();
            let mut out = format!("{}{:02}", if self.offset < 0 { '-' } else { '+' }, size / 3600);
            if minutes {
                out.push_str(&format!("{colon}{:02}", size / 60 % 60));
            }
            if seconds {
                out.push_str(&format!("{colon}{:02}", size % 60));
            }
            out
        };
        let mut out = String::new();
        let mut rest = layout;
        while let Some((before, part, after)) = next_part(rest) {
            out.push_str(before);
            rest = after;
            out.push_str(&match part {
                "January" => MONTHS[month - 1].to_owned(),
                "Jan" => MONTHS[month - 1][..3].to_owned(),
                "Monday" => DAYS[weekday].to_owned(),
                "Mon" => DAYS[weekday][..3].to_owned(),
                "MST" => self.zone.clone(),
                "2006" => format!("{year:04}"),
                "06" => format!("{:02}", year.rem_euclid(100)),
                "01" => format!("{month:02}"),
                "1" => month.to_string(),
                "02" => format!("{day:02}"),
                "_2" => format!("{day:2}"),
                "2" => day.to_string(),
                "002" => format!("{of_year:03}"),
                "__2" => format!("{of_year:3}"),
                "15" => format!("{hour:02}"),
                "03" => format!("{twelve:02}"),
                "3" => twelve.to_string(),
                "04" => format!("{minute:02}"),
                "4" => minute.to_string(),
                "05" => format!("{second:02}"),
                "5" => second.to_string(),
                "PM" => if hour >= 12 { "PM" } else { "AM" }.to_owned(),
                "pm" => if hour >= 12 { "pm" } else { "am" }.to_owned(),
                part if part.starts_with('Z') && self.offset == 0 => "Z".to_owned(),
                "-07:00" | "Z07:00" => zone(":", true, false),
                "-0700" | "Z0700" => zone("", true, false),
                "-07" | "Z07" => zone("", false, false),
                "-07:00:00" | "Z07:00:00" => zone(":", true, true),
                "-070000" | "Z070000" => zone("", true, true),
                // A fraction of so many digits; nines leave zeros out.
                part => {
                    let digits = format!("{:09}", self.nanos);
                    let cut = &digits[..(part.len() - 1).min(9)];
                    if part[1..].starts_with('9') {
                        let cut = cut.trim_end_matches('0');
                        if cut.is_empty() { String::new() } else { format!("{}{cut}", &part[..1]) }
                    } else {
                        format!("{}{cut}", &part[..1])
                    }
                }
            });
        }
        out + rest
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

/// Reads a text by a layout, with Go's words where it does not fit.
fn parse(layout: &str, given: &str) -> Result<Time, String> {
    let quoted = super::quoted;
    let bad = |value: &str, part: &str, why: &str| {
        if !why.is_empty() {
            return format!("parsing time {}{why}", quoted(given));
        }
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            quoted(given),
            quoted(layout),
            quoted(value),
            quoted(part)
        )
    };
    let (mut year, mut month, mut day) = (0_i64, 1_i64, 1_i64);
    let (mut hour, mut minute, mut second, mut nanos) = (0_i64, 0_i64, 0_i64, 0_u32);
    let (mut afternoon, mut morning) = (false, false);
    let (mut offset, mut zone) = (0, "UTC".to_owned());
    let (mut form, mut text) = (layout, given);
    loop {
        let (before, part, after) = next_part(form).unwrap_or((form, "", ""));
        let Some(rest) = text.strip_prefix(before) else { return Err(bad(text, before, "")) };
        text = rest;
        if part.is_empty() {
            if !text.is_empty() {
                return Err(bad("", "", &format!(": extra text: {}", quoted(text))));
            }
            break;
        }
        form = after;
        let hold = text;
        let mut number = |least: usize, most: usize| -> Result<i64, String> {
            let end = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
            if end < least {
                return Err(bad(hold, part, ""));
            }
            let found = text[..end].parse().map_err(|_| bad(hold, part, ""))?;
            text = &text[end..];
            Ok(found)
        };
        match part {
            "2006" => year = number(4, 4)?,
            "06" => {
                let short = number(2, 2)?;
                year = if short >= 69 { 1900 + short } else { 2000 + short };
            }
            "01" => month = number(2, 2)?,
            "1" => month = number(1, 2)?,
            "02" => day = number(2, 2)?,
            "2" => day = number(1, 2)?,
            "_2" => {
                text = text.strip_prefix(' ').unwrap_or(text);
                let end = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
                day = text[..end].parse().map_err(|_| bad(hold, part, ""))?;
                text = &text[end..];
            }
            "15" => hour = number(1, 2)?,
            "03" => hour = number(2, 2)?,
            "3" => hour = number(1, 2)?,
            "04" => minute = number(2, 2)?,
            "4" => minute = number(1, 2)?,
            "05" | "5" => {
                second = number(if part == "05" { 2 } else { 1 }, 2)?;
                // A fraction may follow though the layout has none.
                let follows = next_part(form)
                    .is_some_and(|(before, part, _)| before.is_empty() && part.starts_with(['.', ',']));
                let digits = text.strip_prefix(['.', ',']).unwrap_or_default();
                let count = digits.bytes().take_while(u8::is_ascii_digit).count();
                if !follows && count > 0 {
                    nanos = fraction(&digits[..count]);
                    text = &digits[count..];
                }
            }
            "January" | "Jan" => {
                let full = part == "January";
                let found = MONTHS.iter().position(|name| {
                    let name = if full { name } else { &name[..3] };
                    text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
                });
                let Some(found) = found else { return Err(bad(hold, part, "")) };
                month = i64::try_from(found + 1).unwrap_or(1);
                text = &text[if full { MONTHS[found].len() } else { 3 }..];
            }
            "Monday" | "Mon" => {
                let full = part == "Monday";
                let found = DAYS.iter().find(|name| {
                    let name = if full { name } else { &name[..3] };
                    text.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
                });
                let Some(found) = found else { return Err(bad(hold, part, "")) };
                text = &text[if full { found.len() } else { 3 }..];
            }
            "PM" | "pm" => {
                let Some(begin) = text.get(..2) else { return Err(bad(hold, part, "")) };
                match begin.to_ascii_uppercase().as_str() {
                    "PM" => afternoon = true,
                    "AM" => morning = true,
                    _ => return Err(bad(hold, part, "")),
                }
                text = &text[2..];
            }
            "MST" => {
                let end = text.bytes().take(4).take_while(u8::is_ascii_uppercase).count();
                if end < 3 {
                    return Err(bad(hold, part, ""));
                }
                text[..end].clone_into(&mut zone);
                text = &text[end..];
            }
            part if part.starts_with('Z') && hold.starts_with('Z') => text = &text[1..],
            part if part.starts_with(['Z', '-']) => {
                let colon = part.contains(':');
                let wanted = if part.len() == 3 {
                    3
                } else if colon {
                    6
                } else {
                    5
                };
                let found = text.get(..wanted).filter(|found| found.starts_with(['+', '-']));
                let Some(found) = found else { return Err(bad(hold, part, "")) };
                let digits: String = found[1..].chars().filter(|c| *c != ':').collect();
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(bad(hold, part, ""));
                }
                let hours: i64 = digits[..2].parse().map_err(|_| bad(hold, part, ""))?;
                let minutes: i64 = digits.get(2..4).unwrap_or("0").parse().unwrap_or(0);
                offset = (hours * 3600 + minutes * 60) * if found.starts_with('-') { -1 } else { 1 };
                if offset != 0 {
                    zone = format!("{}{digits}", &found[..1]);
                }
                text = &text[wanted..];
            }
            "002" | "__2" => {
                let of_year = number(3, 3)?;
                (month, day) = (1, of_year);
            }
            part => {
                let digits = text.strip_prefix(['.', ',']).unwrap_or_default();
                let count = digits.bytes().take_while(u8::is_ascii_digit).count();
                if part[1..].starts_with('0') && count < part.len() - 1 {
                    return Err(bad(hold, part, ""));
                }
                if count > 0 {
                    nanos = fraction(&digits[..count]);
                    text = &digits[count..];
                }
            }
        }
    }
    if afternoon && hour < 12 {
        hour += 12;
    } else if morning && hour == 12 {
        hour = 0;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let beyond = [
        ("month", !(1..=12).contains(&month)),
        ("day", !(1..=366).contains(&day) || (day > days && !layout.contains("002"))),
        ("hour", hour > 23),
        ("minute", minute > 59),
        ("second", second > 59),
    ];
    if let Some((name, _)) = beyond.iter().find(|(_, beyond)| *beyond) {
        return Err(bad("", "", &format!(": {name} out of range")));
    }
    let clock = hour * 3_600 + minute * 60 + second;
    let seconds = days_before(year, month, day) * 86_400 + clock - offset;
    Ok(Time { seconds, nanos, offset, zone })
}

fn fraction(digits: &str) -> u32 {
    format!("{digits:0<9}")[..9].parse().unwrap_or(0)
}

impl Object for Time {
    fn type_name(&self) -> &'static str {
        "time.Time"
    }

    fn get(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let (year, month, day) = self.civil();
        let clock = self.local().rem_euclid(86_400);
        Some(Ok(match name {
            "Unix" => Value::Long(self.seconds),
            "UnixNano" => Value::Long(self.seconds.wrapping_mul(SECOND).wrapping_add(self.nanos.into())),
            "UnixMilli" => {
                Value::Long(self.seconds.wrapping_mul(1_000).wrapping_add((self.nanos / 1_000_000).into()))
            }
            "Year" => Value::Int(year),
            "Month" => Value::Object(Rc::new(Named("time.Month", month, MONTHS[month - 1]))),
            "Weekday" => {
                let day = (self.local().div_euclid(86_400) + 4).rem_euclid(7);
                let day = usize::try_from(day).unwrap_or(0);
                Value::Object(Rc::new(Named("time.Weekday", day, DAYS[day])))
            }
            "Day" => Value::Int(day),
            "YearDay" => Value::Int(self.local().div_euclid(86_400) - days_before(year, 1, 1) + 1),
            "Hour" => Value::Int(clock / 3_600),
            "Minute" => Value::Int(clock / 60 % 60),
            "Second" => Value::Int(clock % 60),
            "Nanosecond" => Value::Int(self.nanos.into()),
            "Format" => Value::text(self.format(text(arguments, 0))),
            "String" => Value::text(self.print()),
            "IsZero" => Value::Bool(self.seconds == BEGIN && self.nanos == 0),
            "UTC" => Value::Object(Rc::new(self.clone().within("UTC"))),
            "AddDate" => {
                let [years, months, days] = [0, 1, 2].map(|at| super::int(arguments, at));
                let months = year
                    .saturating_add(years)
                    .saturating_mul(12)
                    .saturating_add(i64::try_from(month - 1).unwrap_or(0).saturating_add(months));
                let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
                if !(-100_000..=100_000).contains(&year) || !(-10_000_000..=10_000_000).contains(&days) {
                    return Some(Err("the date is out of range".to_owned()));
                }
                let begin = days_before(year, month, 1) + day - 1 + days;
                let mut moved = self.clone();
                moved.seconds = begin * 86_400 + clock - self.offset;
                Value::Object(Rc::new(moved))
            }
            _ => return None,
        }))
    }

    fn print(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }

    fn json(&self) -> Json {
        self.format("2006-01-02T15:04:05.999999999Z07:00").into()
    }
}

/// A month or weekday: a number with a name.
struct Named(&'static str, usize, &'static str);

impl Object for Named {
    fn type_name(&self) -> &'static str {
        self.0
    }

    fn kind(&self) -> &'static str {
        "int"
    }

    fn get(&self, name: &str, _arguments: &[Value]) -> Option<Result<Value, String>> {
        (name == "String").then(|| Ok(Value::text(self.2)))
    }

    fn print(&self) -> String {
        self.2.to_owned()
    }

    fn json(&self) -> Json {
        self.1.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_both_ways() {
        let at = Time::at(1_700_000_000);
        assert_eq!(at.format("2006-01-02T15:04:05Z07:00"), "2023-11-14T22:13:20Z");
        assert_eq!(at.format("Mon Jan _2 3:04PM 06"), "Tue Nov 14 10:13PM 23");
        let read = parse("2006-01-02 15:04:05", "2023-11-14 22:13:20").unwrap();
        assert_eq!(read.seconds, 1_700_000_000);
        assert!(parse("2006-01-02", "2023-14-01").is_err());
        assert_eq!(duration("1h30m"), Ok(5_400_000_000_000));
    }
}
