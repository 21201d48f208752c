//! The counters of both sides.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Method;

use super::reach::Access;
use crate::rollout::provider::{About, Compare, Reading};

pub(super) async fn ask(
    access: &Access,
    known: &Compare,
    headers: &BTreeMap<String, String>,
    about: &About,
) -> Result<Reading, String> {
    let mut answers = Vec::new();
    for (address, parameters) in known.requests(about, Timestamp::now())? {
        let url = reqwest::Url::parse_with_params(&address, &parameters)
            .map_err(|error| format!("{address} is no address: {error}"))?;
        let request = access.request(Method::GET, url.as_str())?;
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        answers.push(access.send(request).await?.1);
    }
    Ok(known.reading(&answers))
}
