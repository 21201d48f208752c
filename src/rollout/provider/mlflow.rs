//! MLflow: a metric of two versions of a registered model.
//!
//! An alias or a number leads to a version, a version to the run that made it, and the run has the metric. Where a dataset is
//! named, the version leads to its logged model, which has what any run measured of it, with the dataset's name and digest.

use serde_json::Value;

use super::{Asked, Condition, Fact, Reading, base, begin_of, invalid, secret};
use crate::api::{GateAnswer, MlflowGate};
use crate::error::Result;
use crate::model::one_line;

/// A metric and what must hold of it.
pub struct Mlflow {
    address: String,
    model: String,
    candidate: Which,
    champion: Which,
    metric: String,
    dataset: Option<String>,
    tolerance: f64,
    pass: Condition,
}

/// A metric, and the content of the dataset on which it was measured; its digest is empty where no dataset is named.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    value: f64,
    digest: String,
}

/// Which version.
enum Which {
    Version(String),
    Alias(String),
}

impl Mlflow {
    pub(super) fn read(stated: &MlflowGate) -> Result<Self> {
        base(&stated.address, "mlflow.address")?;
        secret(stated.secret_ref.as_ref(), "mlflow.secretRef")?;
        let named = [(&stated.model, "mlflow.model"), (&stated.metric, "mlflow.metric")];
        let dataset = stated.dataset.as_ref().map(|dataset| (dataset, "mlflow.dataset"));
        for (text, field) in named.into_iter().chain(dataset) {
            if text.is_empty() {
                return Err(invalid(field, "is empty"));
            }
        }
        let candidate = match (&stated.candidate_version, &stated.candidate_alias) {
            (Some(version), None) => Which::Version(version.clone()),
            (None, Some(alias)) => Which::Alias(alias.clone()),
            _ => return Err(invalid("mlflow", "give either candidateVersion or candidateAlias")),
        };
        let champion = Which::Alias(stated.champion_alias.clone().unwrap_or_else(|| "champion".to_owned()));
        let tolerance = stated.tolerance.unwrap_or(0.0);
        if tolerance < 0.0 || !tolerance.is_finite() {
            return Err(invalid("mlflow.tolerance", format!("{tolerance} is not 0 or more")));
        }
        if stated.pass.is_some() && stated.higher_is_better.is_some() {
            return Err(invalid("mlflow.higherIsBetter", "is for gates without pass, which says it itself"));
        }
        let known = facts(0.5, Some(0.5), tolerance);
        let pass = match (&stated.pass, stated.higher_is_better) {
            (Some(pass), _) => pass.as_str(),
            (None, Some(false)) => "candidate <= champion + tolerance",
            (None, _) => "candidate >= champion - tolerance",
        };
        let pass = Condition::over(pass, &known).map_err(|why| invalid("mlflow.pass", why))?;
        let address = stated.address.trim_end_matches('/').to_owned();
        let (model, metric) = (stated.model.clone(), stated.metric.clone());
        let dataset = stated.dataset.clone();
        Ok(Self { address, model, candidate, champion, metric, dataset, tolerance, pass })
    }

    /// What to ask for the candidate's version.
    pub fn candidate(&self) -> Asked {
        self.version(&self.candidate)
    }

    /// What to ask for the champion's version; `None` where the condition does not speak of it.
    pub fn champion(&self) -> Option<Asked> {
        self.pass.uses("champion").then(|| self.version(&self.champion))
    }

    fn version(&self, which: &Which) -> Asked {
        let name = ("name", self.model.clone());
        let (path, which) = match which {
            Which::Version(version) => ("model-versions/get", ("version", version.clone())),
            Which::Alias(alias) => ("registered-models/alias", ("alias", alias.clone())),
        };
        (format!("{}/api/2.0/mlflow/{path}", self.address), vec![name, which])
    }

    /// What has the metric of a version, as `who` (candidate or champion): the run that made it, or its logged model where a
    /// dataset is named.
    ///
    /// # Errors
    /// The reading where there is none.
    pub fn measured_by(&self, who: &str, status: u16, body: &[u8]) -> std::result::Result<Asked, Reading> {
        let answer = read(who, status, body)?;
        let version = &answer["model_version"];
        let number = shown(&version["version"]);
        match version["status"].as_str() {
            None | Some("READY") => {}
            Some(other) => {
                return Err(Reading::no_data(format!("the {who}, version {number}, is {other}")));
            }
        }
        if self.dataset.is_some()
            && let Some(model) = logged_model(version)
        {
            return Ok((format!("{}/api/2.0/mlflow/logged-models/{model}", self.address), Vec::new()));
        }
        match version["run_id"].as_str().filter(|run| !run.is_empty()) {
            Some(run) => {
                let address = format!("{}/api/2.0/mlflow/runs/get", self.address);
                Ok((address, vec![("run_id", run.to_owned())]))
            }
            None if version.is_object() => Err(Reading::error(format!(
                "the {who}, version {number} of {}, was made by no run",
                self.model
            ))),
            None => Err(Reading::error(format!("this is not MLflow: it answered {}", begin_of(body)))),
        }
    }

    /// The metric of a run, or of a logged model: one for each content of the dataset, the newest first.
    ///
    /// # Errors
    /// The reading where there is none.
    pub fn scores(&self, who: &str, status: u16, body: &[u8]) -> std::result::Result<Vec<Score>, Reading> {
        let answer = read(who, status, body)?;
        match &self.dataset {
            Some(dataset) if answer["model"].is_object() => self.of_model(who, dataset, &answer["model"]),
            Some(dataset) => {
                let value = self.of_run(who, &answer["run"])?;
                Ok(vec![Score { value, digest: self.only_input(who, dataset, &answer["run"])? }])
            }
            None => Ok(vec![Score { value: self.of_run(who, &answer["run"])?, digest: String::new() }]),
        }
    }

    fn of_model(&self, who: &str, dataset: &str, model: &Value) -> std::result::Result<Vec<Score>, Reading> {
        let metrics = model["data"]["metrics"].as_array().into_iter().flatten();
        let of_it: Vec<&Value> = metrics.filter(|metric| metric["key"] == *self.metric).collect();
        let mut found: Vec<&Value> =
            of_it.iter().copied().filter(|metric| metric["dataset_name"] == *dataset).collect();
        if found.is_empty() {
            let mut others: Vec<&str> =
                of_it.iter().filter_map(|metric| metric["dataset_name"].as_str()).collect();
            others.sort_unstable();
            others.dedup();
            let on =
                if others.is_empty() { String::new() } else { format!(", but on {}", others.join(", ")) };
            let metric = &self.metric;
            return Err(Reading::no_data(format!(
                "the {who}'s model has no {metric} on dataset {dataset}{on}"
            )));
        }
        let time = |metric: &Value, field: &str| metric[field].as_i64().unwrap_or_default();
        found.sort_by_key(|metric| std::cmp::Reverse((time(metric, "timestamp"), time(metric, "step"))));
        let mut scores: Vec<Score> = Vec::new();
        for metric in found {
            let digest = metric["dataset_digest"].as_str().unwrap_or_default().to_owned();
            if scores.iter().all(|known| known.digest != digest) {
                scores.push(Score { value: self.number(who, &metric["value"])?, digest });
            }
        }
        Ok(scores)
    }

    /// The content of a run's only dataset: of several nobody knows on which one a metric of the run was measured.
    fn only_input(&self, who: &str, dataset: &str, run: &Value) -> std::result::Result<String, Reading> {
        let inputs = run["inputs"]["dataset_inputs"].as_array().into_iter().flatten();
        let mut inputs: Vec<(&str, &str)> = inputs
            .filter_map(|input| {
                Some((input["dataset"]["name"].as_str()?, input["dataset"]["digest"].as_str()?))
            })
            .collect();
        inputs.sort_unstable();
        inputs.dedup();
        match inputs.as_slice() {
            [(name, digest)] if *name == dataset => Ok((*digest).to_owned()),
            all if all.iter().all(|(name, _)| *name != dataset) => {
                Err(Reading::no_data(format!("the {who}'s run has no dataset {dataset}")))
            }
            all => {
                let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
                let (metric, names) = (&self.metric, names.join(", "));
                Err(Reading::error(format!(
                    "the {who}'s run has several datasets ({names}) and does not say on which one {metric} was measured; log it with model and dataset"
                )))
            }
        }
    }

    fn of_run(&self, who: &str, run: &Value) -> std::result::Result<f64, Reading> {
        match run["info"]["status"].as_str() {
            Some("FINISHED") => {}
            Some(state @ ("RUNNING" | "SCHEDULED")) => {
                return Err(Reading::no_data(format!("the {who}'s run is {state}")));
            }
            other => {
                let state = other.unwrap_or("without a status");
                return Err(Reading::error(format!("the {who}'s run is {state}")));
            }
        }
        let metrics = run["data"]["metrics"].as_array().into_iter().flatten();
        let found = metrics.rev().find(|metric| metric["key"] == *self.metric);
        let Some(found) = found else {
            return Err(Reading::no_data(format!("the {who}'s run has no metric {}", self.metric)));
        };
        self.number(who, &found["value"])
    }

    fn number(&self, who: &str, value: &Value) -> std::result::Result<f64, Reading> {
        // NaN and the infinite are texts, as protobuf writes them.
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        number.ok_or_else(|| Reading::error(format!("the {who}'s {} is no number: {value}", self.metric)))
    }

    /// What both metrics say, on the newest content that both were measured on.
    pub fn judge(&self, candidate: &[Score], champion: Option<&[Score]>) -> Reading {
        let common = |score: &&Score| {
            champion.is_none_or(|champion| champion.iter().any(|other| other.digest == score.digest))
        };
        let Some(score) = candidate.iter().find(common) else {
            let digests = |scores: &[Score]| {
                let all: Vec<&str> = scores.iter().map(|score| score.digest.as_str()).collect();
                all.join(", ")
            };
            let dataset = self.dataset.as_deref().unwrap_or_default();
            return Reading::no_data(format!(
                "{} on dataset {dataset} is not of the same content: digest {} for the candidate, {} for the champion; evaluate both on one",
                self.metric,
                digests(candidate),
                champion.map(digests).unwrap_or_default()
            ));
        };
        let champion =
            champion.and_then(|champion| champion.iter().find(|other| other.digest == score.digest));
        self.compare(score, champion.map(|score| score.value))
    }

    fn compare(&self, score: &Score, champion: Option<f64>) -> Reading {
        let candidate = score.value;
        let metric = match &self.dataset {
            Some(dataset) => format!("{} on {dataset} ({})", self.metric, score.digest),
            None => self.metric.clone(),
        };
        let shown = match champion {
            Some(champion) => format!("{metric} {candidate} of the candidate, {champion} of the champion,"),
            None => format!("{metric} {candidate} of the candidate"),
        };
        // A model that diverged is a bad model, not one that is not measured.
        if (candidate.is_nan() || champion.is_some_and(f64::is_nan)) && !self.pass.knows_nan() {
            let source = self.pass.source();
            let message = format!("{shown} is not {source}");
            return Reading { answer: GateAnswer::Fail, value: Some(candidate), message };
        }
        self.pass.judge(&facts(candidate, champion, self.tolerance), &shown, Some(candidate))
    }
}

fn facts(candidate: f64, champion: Option<f64>, tolerance: f64) -> Vec<(&'static str, Fact)> {
    let mut facts = vec![("candidate", Fact::Number(candidate)), ("tolerance", Fact::Number(tolerance))];
    facts.extend(champion.map(|champion| ("champion", Fact::Number(champion))));
    facts
}

/// The id of the logged model that a version is of.
fn logged_model(version: &Value) -> Option<&str> {
    let own = version["model_id"].as_str().filter(|id| !id.is_empty());
    let id =
        own.or_else(|| version["source"].as_str()?.strip_prefix("models:/").filter(|id| !id.contains('/')))?;
    // It becomes a part of an address.
    id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-').then_some(id)
}

fn read(who: &str, status: u16, body: &[u8]) -> std::result::Result<Value, Reading> {
    let answer = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    match answer {
        Some(answer) if status == 200 => Ok(answer),
        Some(answer) if answer["error_code"].is_string() => {
            let (code, why) = (shown(&answer["error_code"]), shown(&answer["message"]));
            Err(Reading::error(format!("the {who}: {code}: {why}")))
        }
        _ if status == 200 => {
            Err(Reading::error(format!("this is not MLflow: it answered {}", begin_of(body))))
        }
        _ => Err(Reading::error(format!("the {who}: HTTP {status}: {}", begin_of(body)))),
    }
}

fn shown(value: &Value) -> String {
    one_line(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> MlflowGate {
        MlflowGate {
            address: "http://mlflow:5000/".into(),
            model: "fraud".into(),
            candidate_version: Some("8".into()),
            metric: "auc".into(),
            ..MlflowGate::default()
        }
    }

    fn score(value: f64, digest: &str) -> Score {
        Score { value, digest: digest.into() }
    }

    #[test]
    fn verdicts() {
        use GateAnswer::{Fail, Pass};
        let check = |change: &dyn Fn(&mut MlflowGate), candidate: f64, champion: f64, answer: GateAnswer| {
            let mut stated = gate();
            change(&mut stated);
            let read =
                Mlflow::read(&stated).unwrap().judge(&[score(candidate, "")], Some(&[score(champion, "")]));
            assert_eq!(read.answer, answer, "{read:?}");
            assert!(read.message.contains(&candidate.to_string()), "{read:?}");
        };
        check(&|_| (), 0.92, 0.91, Pass);
        check(&|_| (), 0.91, 0.91, Pass);
        check(&|_| (), 0.90, 0.91, Fail);
        check(&|gate| gate.tolerance = Some(0.02), 0.90, 0.91, Pass);
        check(&|gate| gate.tolerance = Some(0.02), 0.88, 0.91, Fail);
        check(&|gate| gate.higher_is_better = Some(false), 0.90, 0.91, Pass);
        check(&|gate| gate.higher_is_better = Some(false), 0.92, 0.91, Fail);
        check(
            &|gate| gate.pass = Some("candidate > 0.9 && candidate > champion * 0.99".into()),
            0.91,
            0.91,
            Pass,
        );
        check(&|_| (), f64::NAN, 0.91, Fail);
        check(&|_| (), 0.9, f64::NAN, Fail);
        let read = Mlflow::read(&gate()).unwrap().judge(&[score(0.9, "")], Some(&[score(0.91, "")]));
        assert_eq!(
            read.message,
            "auc 0.9 of the candidate, 0.91 of the champion, is not candidate >= champion - tolerance"
        );
    }

    #[test]
    fn requests_and_answers() {
        use GateAnswer::{Error, NoData};
        let mut stated = gate();
        let known = Mlflow::read(&stated).unwrap();
        let (address, parameters) = known.candidate();
        assert_eq!(address, "http://mlflow:5000/api/2.0/mlflow/model-versions/get");
        assert_eq!(parameters, [("name", "fraud".to_owned()), ("version", "8".to_owned())]);
        let (address, parameters) = known.champion().unwrap();
        assert_eq!(address, "http://mlflow:5000/api/2.0/mlflow/registered-models/alias");
        assert_eq!(parameters[1], ("alias", "champion".to_owned()));
        stated.pass = Some("candidate > 0.9".into());
        assert!(Mlflow::read(&stated).unwrap().champion().is_none());

        let version = |body: &str, status: u16| known.measured_by("candidate", status, body.as_bytes());
        let run =
            version(r#"{"model_version":{"version":"8","status":"READY","run_id":"abc"}}"#, 200).unwrap();
        assert_eq!(run.1, [("run_id", "abc".to_owned())]);
        let check = |body: &str, status: u16, answer: GateAnswer, message: &str| {
            let read = version(body, status).unwrap_err();
            assert_eq!((read.answer, read.message.as_str()), (answer, message));
        };
        let pending = r#"{"model_version":{"version":"8","status":"PENDING_REGISTRATION"}}"#;
        check(pending, 200, NoData, "the candidate, version 8, is PENDING_REGISTRATION");
        let alone = r#"{"model_version":{"version":"8","status":"READY"}}"#;
        check(alone, 200, Error, "the candidate, version 8 of fraud, was made by no run");
        let missing = r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"no such version"}"#;
        check(missing, 404, Error, "the candidate: RESOURCE_DOES_NOT_EXIST: no such version");
        check("{}", 200, Error, "this is not MLflow: it answered \"{}\"");
        check("<html>", 200, Error, "this is not MLflow: it answered \"<html>\"");
        check("<html>", 502, Error, "the candidate: HTTP 502: \"<html>\"");

        let run = |state: &str, metrics: &str| {
            let body =
                format!(r#"{{"run":{{"info":{{"status":"{state}"}},"data":{{"metrics":{metrics}}}}}}}"#);
            known.scores("candidate", 200, body.as_bytes()).map_err(|read| (read.answer, read.message))
        };
        let found = run("FINISHED", r#"[{"key":"loss","value":1},{"key":"auc","value":0.5}]"#);
        assert_eq!(found, Ok(vec![score(0.5, "")]));
        assert!(run("FINISHED", r#"[{"key":"auc","value":"NaN"}]"#).unwrap()[0].value.is_nan());
        let none = (NoData, "the candidate's run has no metric auc".to_owned());
        assert_eq!(run("FINISHED", "[]"), Err(none.clone()));
        assert_eq!(run("FINISHED", "null"), Err(none));
        assert_eq!(run("RUNNING", "[]").unwrap_err().0, NoData);
        assert_eq!(run("FAILED", r#"[{"key":"auc","value":0.5}]"#).unwrap_err().0, Error);
        assert_eq!(run("FINISHED", r#"[{"key":"auc","value":[]}]"#).unwrap_err().0, Error);
    }

    #[test]
    fn datasets() {
        use GateAnswer::{Error, NoData, Pass};
        let stated = MlflowGate { dataset: Some("eval".into()), ..gate() };
        let known = Mlflow::read(&stated).unwrap();
        let by = |version: &str| {
            let body = format!(r#"{{"model_version":{{"version":"8","run_id":"abc",{version}}}}}"#);
            known.measured_by("candidate", 200, body.as_bytes()).unwrap()
        };
        let model = ("http://mlflow:5000/api/2.0/mlflow/logged-models/m-1a".to_owned(), Vec::new());
        assert_eq!(by(r#""model_id":"m-1a""#), model);
        assert_eq!(by(r#""source":"models:/m-1a""#), model);
        let run = "http://mlflow:5000/api/2.0/mlflow/runs/get";
        for other in ["models:/fraud/3", "s3://bucket/a", "models:/../x?y"] {
            assert_eq!(by(&format!(r#""source":"{other}""#)).0, run, "{other}");
        }
        let read = |body: Value| {
            let body = body.to_string();
            known.scores("candidate", 200, body.as_bytes()).map_err(|read| (read.answer, read.message))
        };
        let metric = |name: &str, digest: &str, time: u64, value: f64| serde_json::json!({"key": "auc", "value": value, "timestamp": time, "step": 0, "dataset_name": name, "dataset_digest": digest});
        let of_model = |metrics: &[Value]| read(serde_json::json!({"model": {"data": {"metrics": metrics}}}));
        let plain = serde_json::json!({"key": "auc", "value": 0.1, "timestamp": 9, "step": 0});
        let all = [
            metric("eval", "a", 1, 0.5),
            metric("eval", "b", 3, 0.6),
            metric("train", "c", 4, 0.9),
            metric("eval", "b", 2, 0.7),
            plain.clone(),
        ];
        assert_eq!(of_model(&all), Ok(vec![score(0.6, "b"), score(0.5, "a")]));
        let none = "the candidate's model has no auc on dataset eval".to_owned();
        assert_eq!(of_model(&[plain]), Err((NoData, none.clone())));
        assert_eq!(of_model(&all[2..3]), Err((NoData, format!("{none}, but on train"))));
        let of_run = |datasets: &[(&str, &str)]| {
            let inputs: Vec<Value> = datasets
                .iter()
                .map(|(name, digest)| serde_json::json!({"dataset": {"name": name, "digest": digest}}))
                .collect();
            read(
                serde_json::json!({"run": {"info": {"status": "FINISHED"}, "inputs": {"dataset_inputs": inputs},
                "data": {"metrics": [{"key": "auc", "value": 0.5}]}}}),
            )
        };
        assert_eq!(of_run(&[("eval", "a")]), Ok(vec![score(0.5, "a")]));
        assert_eq!(of_run(&[("train", "a")]).unwrap_err().0, NoData);
        assert_eq!(of_run(&[]).unwrap_err().0, NoData);
        assert_eq!(of_run(&[("eval", "a"), ("train", "b")]).unwrap_err().0, Error);
        assert_eq!(of_run(&[("eval", "a"), ("eval", "b")]).unwrap_err().0, Error);

        let judge = |candidate: &[Score], champion: &[Score]| {
            let read = known.judge(candidate, Some(champion));
            (read.answer, read.message)
        };
        let (answer, message) = judge(&[score(0.6, "b"), score(0.92, "a")], &[score(0.91, "a")]);
        assert_eq!(answer, Pass, "on what both have: {message}");
        assert!(
            message.starts_with("auc on eval (a) 0.92 of the candidate, 0.91 of the champion,"),
            "{message}"
        );
        let (answer, message) = judge(&[score(0.99, "b")], &[score(0.91, "a")]);
        assert_eq!(answer, NoData);
        assert!(message.contains("digest b for the candidate, a for the champion"), "{message}");
        let alone = Mlflow::read(&MlflowGate { pass: Some("candidate > 0.9".into()), ..stated }).unwrap();
        assert_eq!(alone.judge(&[score(0.95, "b"), score(0.1, "a")], None).answer, Pass);
    }

    #[test]
    fn what_is_refused() {
        let check = |change: &dyn Fn(&mut MlflowGate), wanted: &str| {
            let mut stated = gate();
            change(&mut stated);
            let error = Mlflow::read(&stated).map(|_| ()).unwrap_err();
            assert!(error.why.starts_with(wanted), "{}", error.why);
        };
        check(&|gate| gate.candidate_alias = Some("a".into()), "spec.mlflow: give either");
        check(&|gate| gate.tolerance = Some(-1.0), "spec.mlflow.tolerance: -1 is not");
        check(
            &|gate| gate.pass = Some("value > 1".into()),
            "spec.mlflow.pass: value > 1: there is no value here",
        );
        check(&|gate| gate.address = "mlflow".into(), "spec.mlflow.address: ");
    }
}
