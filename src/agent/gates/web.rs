//! A request over HTTP.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::reach::Access;
use crate::api::WebMethod;
use crate::rollout::provider::{About, Reading, Web};

pub(super) async fn ask(access: &Access, known: &Web, about: &About) -> Result<Reading, String> {
    let sent = known.request(about)?;
    let method = match sent.method {
        WebMethod::Get => Method::GET,
        WebMethod::Post => Method::POST,
        WebMethod::Put => Method::PUT,
    };
    let mut request = access.request(method, &sent.url)?;
    if let Some(body) = sent.body {
        let typed = sent.headers.keys().any(|name| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
        request = if typed { request } else { request.header(CONTENT_TYPE, "application/json") }.body(body);
    }
    let request = sent.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let (status, body) = access.send(request).await?;
    Ok(known.reading(status, &body))
}
