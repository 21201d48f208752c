//! A metric of two versions of a model in MLflow.

use reqwest::Method;

use super::reach::Access;
use crate::rollout::provider::{Asked, Mlflow, Reading, Score};

pub(super) async fn ask(access: &Access, known: &Mlflow) -> Result<Reading, String> {
    let candidate = match scores(access, known, "candidate", known.candidate()).await? {
        Ok(candidate) => candidate,
        Err(reading) => return Ok(reading),
    };
    let champion = match known.champion() {
        None => None,
        Some(asked) => match scores(access, known, "champion", asked).await? {
            Ok(champion) => Some(champion),
            Err(reading) => return Ok(reading),
        },
    };
    Ok(known.judge(&candidate, champion.as_deref()))
}

async fn scores(
    access: &Access,
    known: &Mlflow,
    who: &str,
    version: Asked,
) -> Result<Result<Vec<Score>, Reading>, String> {
    let (status, body) = get(access, version).await?;
    let measured_by = match known.measured_by(who, status, &body) {
        Ok(measured_by) => measured_by,
        Err(reading) => return Ok(Err(reading)),
    };
    let (status, body) = get(access, measured_by).await?;
    Ok(known.scores(who, status, &body))
}

async fn get(access: &Access, (address, parameters): Asked) -> Result<(u16, Vec<u8>), String> {
    let url = reqwest::Url::parse_with_params(&address, &parameters)
        .map_err(|error| format!("{address} is no address: {error}"))?;
    access.send(access.request(Method::GET, url.as_str())?).await
}
