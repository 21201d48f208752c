//! A query to Prometheus.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Method;

use super::reach::Access;
use crate::rollout::provider::{About, Asked, Prometheus, Reading};

pub(super) async fn ask(
    access: &Access,
    known: &Prometheus,
    headers: &BTreeMap<String, String>,
    about: &About,
) -> Result<Reading, String> {
    let (status, body) = query(access, &known.request(about, Timestamp::now())?, headers).await?;
    Ok(known.reading(status, &body))
}

/// Asks Prometheus one thing: the status of its answer, and the answer.
pub(super) async fn query(
    access: &Access,
    (address, parameters): &Asked,
    headers: &BTreeMap<String, String>,
) -> Result<(u16, Vec<u8>), String> {
    let url = reqwest::Url::parse_with_params(address, parameters)
        .map_err(|error| format!("{address} is no address: {error}"))?;
    let request = access.request(Method::GET, url.as_str())?;
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    access.send(request).await
}
