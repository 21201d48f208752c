//! Hosts that ask to be left alone for a time: `Retry-After` (seconds or a date), and the limits that GitHub and GitLab
//! tell with a 403 or 429. All repositories that one set of credentials reaches there wait together, since the limit
//! is theirs together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};

use crate::error::{Code, Error, Result};

/// A host that asks for more is asked again all the same; the limits of GitHub and GitLab are by the hour.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// Until when, and what to say meanwhile: the same words each time, which make no news of it.
#[derive(Clone)]
struct Pause {
    until: Instant,
    why: String,
}

/// The hosts that wait.
#[derive(Default)]
pub(super) struct Pauses(Mutex<HashMap<(String, u16), Pause>>);

impl Pauses {
    fn hosts(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u16), Pause>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// `RepositoryUnreachable` where the host has asked to wait until later.
    pub(super) fn check(&self, place: &str, url: &Url) -> Result<()> {
        let mut hosts = self.hosts();
        let Some(pause) = hosts.get(&host(url)) else { return Ok(()) };
        if pause.until <= Instant::now() {
            hosts.remove(&host(url));
            return Ok(());
        }
        Err(Error::new(Code::RepositoryUnreachable, format!("{place}: {}", pause.why)))
    }

    /// Looks whether an answer asks to wait.
    ///
    /// # Errors
    /// The same, if it does.
    pub(super) fn heed(&self, place: &str, url: &Url, status: StatusCode, headers: &HeaderMap) -> Result<()> {
        let now = Timestamp::now();
        let Some(wait) = wait(status, headers, now) else { return Ok(()) };
        let until = now.checked_add(wait).map(|until| format!("{until:.0}")).unwrap_or_default();
        let why = format!("{}: the server asks to wait until {until}", status.as_u16());
        let error = Error::new(Code::RepositoryUnreachable, format!("{place}: {why}"));
        self.hosts().insert(host(url), Pause { until: Instant::now() + wait, why });
        Err(error)
    }
}

fn host(url: &Url) -> (String, u16) {
    (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or_default())
}

/// How long an answer asks to wait, if it does.
fn wait(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let told = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |name: &str| told(name).and_then(|text| text.parse::<i64>().ok());
    let used_up =
        || ["x-ratelimit-remaining", "ratelimit-remaining"].iter().any(|name| number(name) == Some(0));
    let asks = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
        // GitHub's, beside the 403 of an account that may not.
        StatusCode::FORBIDDEN => told("retry-after").is_some() || used_up(),
        _ => false,
    };
    if !asks {
        return None;
    }
    let after = number("retry-after").or_else(|| {
        let date = jiff::fmt::rfc2822::parse(told("retry-after")?).ok()?;
        Some(date.timestamp().as_second() - now.as_second())
    });
    let seconds = after.or_else(|| {
        let reset =
            number("x-ratelimit-reset").or_else(|| number("ratelimit-reset")).filter(|_| used_up())?;
        Some(reset - now.as_second())
    })?;
    let wait = Duration::from_secs(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?);
    Some(wait.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn waits() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let check = |status: u16, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            wait(StatusCode::from_u16(status).unwrap(), &headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(check(429, &[("retry-after", "30")]), Some(30));
        assert_eq!(check(503, &[("retry-after", "30")]), Some(30));
        assert_eq!(check(429, &[("retry-after", "Sun, 01 Mar 2026 12:01:00 GMT")]), Some(60));
        assert_eq!(check(429, &[("retry-after", "Sun, 01 Mar 2026 11:01:00 GMT")]), None);
        assert_eq!(check(429, &[("retry-after", "999999")]), Some(3600));
        assert_eq!(check(429, &[("retry-after", "soon")]), None);
        assert_eq!(check(429, &[]), None);
        assert_eq!(check(200, &[("retry-after", "30")]), None);
        assert_eq!(check(403, &[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "1772366500")]), None);
        assert_eq!(
            check(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1772366500")]),
            Some(100)
        );
        assert_eq!(check(403, &[("retry-after", "5")]), Some(5));
    }
}
