//! The counters of both sides.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::prometheus::query;
use super::reach::Access;
use crate::rollout::provider::{About, Compare, Reading};

pub(super) async fn ask(
    access: &Access,
    known: &Compare,
    headers: &BTreeMap<String, String>,
    about: &About,
) -> Result<Reading, String> {
    let mut answers = Vec::new();
    for asked in known.requests(about, Timestamp::now())? {
        answers.push(query(access, &asked, headers).await?.1);
    }
    Ok(known.reading(&answers))
}
