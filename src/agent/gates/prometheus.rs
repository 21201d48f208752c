//! A query to Prometheus.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Method;

use super::reach::Access;
use crate::rollout::provider::{About, Prometheus, Reading};

pub(super) async fn ask(
    access: &Access,
    known: &Prometheus,
    headers: &BTreeMap<String, String>,
    about: &About,
) -> Result<Reading, String> {
    let (address, parameters) = known.request(about, Timestamp::now())?;
    let url = reqwest::Url::parse_with_params(&address, &parameters)
        .map_err(|error| format!("{address} is no address: {error}"))?;
    let request = access.request(Method::GET, url.as_str())?;
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let (status, body) = access.send(request).await?;
    Ok(known.reading(status, &body))
}
