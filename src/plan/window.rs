//! When an application may be synced.
//!
//! A window opens at each time of its schedule and stays open for its duration. Where there is an `allow` window, one of
//! them must be open; a `deny` window that is open stops everything. `manual` windows let a person through.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Code, Error, Result};

/// Occurrences that are looked at to find the next change: two years of a daily window.
const FAR: usize = 800;

/// Whether a window opens or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Syncs happen in it.
    Allow,
    /// No sync happens in it.
    Deny,
}

/// One window.
#[derive(Clone, Debug)]
pub struct Window {
    kind: WindowKind,
    schedule: cronexpr::Crontab,
    duration: Duration,
    manual: bool,
    text: String,
}

/// All windows of an application.
#[derive(Clone, Debug, Default)]
pub struct Windows(Vec<Window>);

/// Whether a sync may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// By itself.
    pub automatic: bool,
    /// Because a person asks for it.
    pub manual: bool,
    /// Why not, for people.
    pub why: String,
    /// When that changes.
    pub until: Option<Timestamp>,
}

impl Opening {
    /// What two sets of windows let through together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            automatic: self.automatic && other.automatic,
            manual: self.manual && other.manual,
            why: if self.automatic { other.why } else { self.why },
            until: [self.until, other.until].into_iter().flatten().min(),
        }
    }
}

impl Window {
    /// Reads a window: five fields of cron, a time zone of the IANA database (UTC where empty).
    ///
    /// # Errors
    /// `ApplicationInvalid` for what cannot be read.
    pub fn new(kind: WindowKind, cron: &str, zone: &str, duration: Duration, manual: bool) -> Result<Self> {
        let invalid =
            |why: String| Error::new(Code::ApplicationInvalid, format!("sync window `{cron}`: {why}"));
        if cron.split_whitespace().count() != 5 {
            let why = "a schedule has five fields: minute, hour, day, month, weekday";
            return Err(invalid(why.to_owned()));
        }
        if duration.is_zero() || duration > Duration::from_secs(366 * 86_400) {
            return Err(invalid("the duration must be longer than nothing and at most a year".to_owned()));
        }
        let zone = if zone.is_empty() { "UTC" } else { zone };
        if jiff::tz::TimeZone::get(zone).is_err() {
            return Err(invalid(format!("no time zone is called {zone}")));
        }
        let schedule =
            cronexpr::parse_crontab(&format!("{cron} {zone}")).map_err(|error| invalid(error.to_string()))?;
        let text = format!("{cron} {zone} for {}", words(duration));
        Ok(Self { kind, schedule, duration, manual, text })
    }

    /// When it last opened, if it is open.
    fn open_since(&self, now: Timestamp) -> Option<Timestamp> {
        let begin = now.checked_sub(self.duration).ok()?;
        let mut last = None;
        let mut at = begin;
        // The first one in reach is open longest ago; the last one stays open longest.
        for _ in 0..FAR {
            let next = self.next(at)?;
            if next > now {
                break;
            }
            last = Some(next);
            at = next;
        }
        last
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.find_next(after).ok().map(|zoned| zoned.timestamp())
    }

    /// When it opens or closes next.
    fn turns(&self, now: Timestamp) -> Option<Timestamp> {
        match self.open_since(now) {
            Some(since) => since.checked_add(self.duration).ok(),
            None => self.next(now),
        }
    }
}

/// A duration as people write it: 1h30m.
fn words(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}

impl Windows {
    /// Of these windows.
    pub fn new(all: Vec<Window>) -> Self {
        Self(all)
    }

    /// Whether a sync may begin now.
    pub fn at(&self, now: Timestamp) -> Opening {
        let open: Vec<&Window> = self.0.iter().filter(|window| window.open_since(now).is_some()).collect();
        let of = |kind| open.iter().filter(move |window| window.kind == kind);
        let allows: Vec<&Window> = self.0.iter().filter(|window| window.kind == WindowKind::Allow).collect();
        let denied = of(WindowKind::Deny).next();
        let outside = !allows.is_empty() && of(WindowKind::Allow).next().is_none();
        let automatic = denied.is_none() && !outside;
        // A person comes through where every window that stops says so, as with Argo CD.
        let manual = of(WindowKind::Deny).all(|window| window.manual)
            && (!outside || allows.iter().all(|window| window.manual));
        let why = match denied {
            Some(window) => format!("a sync window denies it ({})", window.text),
            None if outside => {
                let named = allows.first().map(|window| window.text.as_str()).unwrap_or_default();
                format!("it is outside its sync windows (first {named})")
            }
            None => String::new(),
        };
        let until = self.0.iter().filter_map(|window| window.turns(now)).min();
        Opening { automatic, manual, why, until: until.filter(|_| !self.0.is_empty()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kind: WindowKind, cron: &str, zone: &str, minutes: u64, manual: bool) -> Window {
        Window::new(kind, cron, zone, Duration::from_secs(minutes * 60), manual).unwrap()
    }

    fn check(windows: &[&Window], now: &str, expected: (bool, bool, &str)) {
        let found =
            Windows::new(windows.iter().map(|window| (*window).clone()).collect()).at(now.parse().unwrap());
        let until = found.until.map(|until| until.to_string()).unwrap_or_default();
        assert_eq!((found.automatic, found.manual, until.as_str()), expected, "{now} {}", found.why);
        assert_eq!(found.why.is_empty(), found.automatic);
    }

    #[test]
    fn windows_open_and_close() {
        use WindowKind::{Allow, Deny};
        check(&[], "2026-11-25T12:00:00Z", (true, true, ""));
        let night = window(Allow, "0 22 * * *", "", 120, false);
        check(&[&night], "2026-11-25T21:59:59Z", (false, false, "2026-11-25T22:00:00Z"));
        check(&[&night], "2026-11-25T22:00:00Z", (true, true, "2026-11-26T00:00:00Z"));
        check(&[&night], "2026-11-26T00:00:00Z", (false, false, "2026-11-26T22:00:00Z"));
        let freeze = window(Deny, "0 0 * * 5", "", 3 * 24 * 60, true);
        check(&[&freeze], "2026-11-28T12:00:00Z", (false, true, "2026-11-30T00:00:00Z"));
        check(&[&freeze], "2026-11-26T12:00:00Z", (true, true, "2026-11-27T00:00:00Z"));
        // Deny beats allow; a person comes through only where both let them.
        check(&[&night, &freeze], "2026-11-28T23:00:00Z", (false, true, "2026-11-29T00:00:00Z"));
        check(&[&night, &freeze], "2026-11-28T12:00:00Z", (false, false, "2026-11-28T22:00:00Z"));
    }

    #[test]
    fn zones_know_of_summer() {
        let office = window(WindowKind::Allow, "0 9 * * 1-5", "Europe/Berlin", 60, false);
        check(&[&office], "2026-07-01T07:30:00Z", (true, true, "2026-07-01T08:00:00Z"));
        check(&[&office], "2026-11-25T07:30:00Z", (false, false, "2026-11-25T08:00:00Z"));
        check(&[&office], "2026-11-25T08:30:00Z", (true, true, "2026-11-25T09:00:00Z"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |cron: &str, zone: &str, minutes: u64, part: &str| {
            let duration = Duration::from_secs(minutes * 60);
            let error = Window::new(WindowKind::Allow, cron, zone, duration, false).unwrap_err();
            assert!(error.why.contains(part), "{error:?}");
        };
        check("0 22 * *", "", 60, "five fields");
        check("0 25 * * *", "", 60, "0 25 * * *");
        check("0 22 * * *", "Mars/Olympus", 60, "Mars/Olympus");
        check("0 22 * * *", "", 0, "duration");
    }
}
