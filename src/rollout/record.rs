//! Times and lists as a status keeps them.

use jiff::{SignedDuration, Timestamp};

/// Adds to a list that keeps its newest.
pub(super) fn push<T>(list: &mut Vec<T>, item: T, most: usize) {
    list.push(item);
    if list.len() > most {
        list.remove(0);
    }
}

/// So many seconds after a time of the status (RFC 3339).
pub(super) fn after(text: &str, seconds: i64) -> Timestamp {
    let from: Timestamp = text.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    from.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
