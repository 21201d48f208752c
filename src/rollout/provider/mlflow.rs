//! MLflow: a metric of two versions of a registered model.
//!
//! An alias or a number leads to a version, a version to the run that made it, and the run has the metric.

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
    tolerance: f64,
    pass: Condition,
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
        for (text, field) in [(&stated.model, "mlflow.model"), (&stated.metric, "mlflow.metric")] {
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
        Ok(Self { address, model, candidate, champion, metric, tolerance, pass })
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

    /// The run that made a version, as `who` (candidate or champion).
    ///
    /// # Errors
    /// The reading where there is none.
    pub fn run_of(&self, who: &str, status: u16, body: &[u8]) -> std::result::Result<Asked, Reading> {
        let answer = read(who, status, body)?;
        let version = &answer["model_version"];
        let number = shown(&version["version"]);
        match version["status"].as_str() {
            None | Some("READY") => {}
            Some(other) => {
                return Err(Reading::no_data(format!("the {who}, version {number}, is {other}")));
            }
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

    /// The metric of a run.
    ///
    /// # Errors
    /// The reading where there is none.
    pub fn metric_of(&self, who: &str, status: u16, body: &[u8]) -> std::result::Result<f64, Reading> {
        let answer = read(who, status, body)?;
        let run = &answer["run"];
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
        let value = &found["value"];
        // NaN and the infinite are texts, as protobuf writes them.
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        number.ok_or_else(|| Reading::error(format!("the {who}'s {} is no number: {value}", self.metric)))
    }

    /// What both metrics say.
    pub fn judge(&self, candidate: f64, champion: Option<f64>) -> Reading {
        let metric = &self.metric;
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

    #[test]
    fn verdicts() {
        use GateAnswer::{Fail, Pass};
        let check = |change: &dyn Fn(&mut MlflowGate), candidate: f64, champion: f64, answer: GateAnswer| {
            let mut stated = gate();
            change(&mut stated);
            let read = Mlflow::read(&stated).unwrap().judge(candidate, Some(champion));
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
        let read = Mlflow::read(&gate()).unwrap().judge(0.9, Some(0.91));
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

        let version = |body: &str, status: u16| known.run_of("candidate", status, body.as_bytes());
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
            known.metric_of("candidate", 200, body.as_bytes()).map_err(|read| (read.answer, read.message))
        };
        assert_eq!(run("FINISHED", r#"[{"key":"loss","value":1},{"key":"auc","value":0.5}]"#), Ok(0.5));
        assert!(run("FINISHED", r#"[{"key":"auc","value":"NaN"}]"#).unwrap().is_nan());
        let none = (NoData, "the candidate's run has no metric auc".to_owned());
        assert_eq!(run("FINISHED", "[]"), Err(none.clone()));
        assert_eq!(run("FINISHED", "null"), Err(none));
        assert_eq!(run("RUNNING", "[]").unwrap_err().0, NoData);
        assert_eq!(run("FAILED", r#"[{"key":"auc","value":0.5}]"#).unwrap_err().0, Error);
        assert_eq!(run("FINISHED", r#"[{"key":"auc","value":[]}]"#).unwrap_err().0, Error);
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
