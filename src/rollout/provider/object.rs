//! An object of the cluster.

use serde_json::Value;

use super::{About, Condition, Fact, Reading, invalid, templates};
use crate::api::ObjectGate;
use crate::error::Result;
use crate::model::Gvk;

/// An object, and what must hold of it.
pub struct Object {
    /// Its kind.
    pub gvk: Gvk,
    name: String,
    window: String,
    pass: Condition,
}

impl Object {
    pub(super) fn read(stated: &ObjectGate, window: &str) -> Result<Self> {
        for (text, field) in [
            (&stated.api_version, "object.apiVersion"),
            (&stated.kind, "object.kind"),
            (&stated.name, "object.name"),
        ] {
            if text.is_empty() {
                return Err(invalid(field, "is empty"));
            }
        }
        templates::check(&stated.name).map_err(|why| invalid("object.name", why))?;
        let pass = Condition::new(&stated.pass, &["object"]).map_err(|why| invalid("object.pass", why))?;
        let gvk = Gvk::parse(&stated.api_version, &stated.kind);
        Ok(Self { gvk, name: stated.name.clone(), window: window.to_owned(), pass })
    }

    /// Its name.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn name(&self, about: &About) -> std::result::Result<String, String> {
        templates::fill(&self.name, about, &self.window)
    }

    /// What it says; `None` is where it does not exist.
    pub fn reading(&self, name: &str, object: Option<&Value>) -> Reading {
        let kind = &self.gvk.kind;
        match object {
            None => Reading::no_data(format!("there is no {kind} {name}")),
            Some(object) => {
                self.pass.judge(&[("object", Fact::Json(object.clone()))], &format!("{kind} {name}"), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::GateAnswer;

    #[test]
    fn objects() {
        let stated = ObjectGate {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "{{candidate}}".into(),
            pass: "object.status.ready > 1".into(),
        };
        let gate = Object::read(&stated, "1m").unwrap();
        let about = About { candidate: "a".into(), ..About::default() };
        assert_eq!(gate.name(&about).unwrap(), "a");
        let check = |object: Option<Value>, answer: GateAnswer, message: &str| {
            let read = gate.reading("a", object.as_ref());
            assert!(read.answer == answer && read.message.starts_with(message), "{read:?}");
        };
        check(
            Some(json!({"status": {"ready": 2}})),
            GateAnswer::Pass,
            "Deployment a is object.status.ready > 1",
        );
        check(
            Some(json!({"status": {"ready": 1}})),
            GateAnswer::Fail,
            "Deployment a is not object.status.ready > 1",
        );
        check(
            Some(json!({"status": {}})),
            GateAnswer::Error,
            "object.status.ready > 1 cannot be said of Deployment a: ",
        );
        check(None, GateAnswer::NoData, "there is no Deployment a");
        let bad = ObjectGate { pass: "value > 1".into(), ..stated.clone() };
        let error = Object::read(&bad, "1m").map(|_| ()).unwrap_err();
        assert!(
            error.why.starts_with("spec.object.pass: value > 1: there is no value here"),
            "{}",
            error.why
        );
    }
}
