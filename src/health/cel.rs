//! Conditions in CEL over an object.
//!
//! Compiled once. The object is there as `object`, and its parts as `metadata`, `spec` and `status`, as Flux has them. A
//! condition that asks for a field which is not there does not hold.

use cel::{Context, Value as Word};
use serde_json::Value;

use super::{Health, Status};
use crate::model::{Expression, longest, one_line};

/// Ordered conditions, and the text of a reason.
pub(super) struct Conditions {
    conditions: Vec<(Status, Expression)>,
    message: Option<Expression>,
}

impl Conditions {
    /// Compiles conditions, which are asked in their order.
    pub(super) fn new(conditions: &[(Status, String)], message: Option<&str>) -> Result<Self, String> {
        if conditions.is_empty() {
            return Err("there is no condition".into());
        }
        let compiled = conditions
            .iter()
            .map(|(status, source)| Ok((*status, Expression::new(source)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { conditions: compiled, message: message.map(Expression::new).transpose()? })
    }

    /// The status of the first condition that holds; Progressing where none does.
    pub(super) fn judge(&self, object: &Value) -> Health {
        let mut context = Context::default();
        let empty = Value::Object(serde_json::Map::new());
        for (name, value) in [
            ("object", object),
            ("metadata", object.get("metadata").unwrap_or(&empty)),
            ("spec", object.get("spec").unwrap_or(&empty)),
            ("status", object.get("status").unwrap_or(&empty)),
        ] {
            if let Err(error) = context.add_variable(name, value) {
                return Health::new(Status::Unknown, format!("its rule of health failed: {error}"));
            }
        }
        let longest = longest(object);
        let mut failed = None;
        for (status, condition) in &self.conditions {
            match condition.run(&context, longest) {
                Ok(Word::Bool(true)) if *status == Status::Healthy => return Health::healthy(),
                Ok(Word::Bool(true)) => return Health::new(*status, self.reason(&context, longest, *status)),
                Ok(Word::Bool(false)) => {}
                Ok(_) => {
                    return Health::new(
                        Status::Unknown,
                        format!("its condition for {status} is neither true nor false"),
                    );
                }
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        let why = failed.map(|why| format!(": {why}")).unwrap_or_default();
        Health::new(Status::Progressing, format!("no condition of its rule holds{why}"))
    }

    fn reason(&self, context: &Context<'_, '_>, longest: usize, status: Status) -> String {
        match self.message.as_ref().map(|message| message.run(context, longest)) {
            Some(Ok(Word::String(text))) if !text.is_empty() => one_line(&text),
            _ => format!("its condition for {status} holds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::LONGEST_EXPRESSION as LONGEST;

    fn conditions(all: &[(Status, &str)]) -> Conditions {
        let all: Vec<_> = all.iter().map(|(status, source)| (*status, (*source).to_owned())).collect();
        Conditions::new(&all, Some("'phase ' + object.status.phase")).unwrap()
    }

    #[test]
    fn the_first_condition_that_holds_decides() {
        let rules = conditions(&[
            (Status::Suspended, "object.spec.paused"),
            (Status::Degraded, "status.phase == 'Failed'"),
            (
                Status::Healthy,
                "has(status.conditions) && status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
            ),
        ]);
        let judge = |object: Value| rules.judge(&object);
        assert_eq!(
            judge(json!({"spec": {"paused": true}, "status": {"phase": "A"}})),
            Health::new(Status::Suspended, "phase A")
        );
        assert_eq!(
            judge(json!({"status": {"phase": "Failed"}})),
            Health::new(Status::Degraded, "phase Failed")
        );
        let ready = json!({"status": {"phase": "Ok", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(judge(ready), Health::healthy());
        let nothing = judge(json!({"metadata": {"generation": 1}}));
        assert_eq!(nothing.status, Status::Progressing);
        assert!(nothing.reason.starts_with("no condition of its rule holds: "), "{}", nothing.reason);
    }

    #[test]
    fn texts_match() {
        let rules = conditions(&[(Status::Healthy, "status.phase.matches('^(Ready|Ok)$')")]);
        assert_eq!(rules.judge(&json!({"status": {"phase": "Ok"}})), Health::healthy());
        assert_eq!(rules.judge(&json!({"status": {"phase": "Okay"}})).status, Status::Progressing);
    }

    #[test]
    fn numbers_compare() {
        let rules = conditions(&[(
            Status::Healthy,
            "status.observedGeneration >= metadata.generation && status.ready > 1",
        )]);
        assert_eq!(
            rules.judge(
                &json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "ready": 2}})
            ),
            Health::healthy()
        );
    }

    #[test]
    fn what_is_no_condition_is_refused_or_unknown() {
        let new = |source: &str| Conditions::new(&[(Status::Healthy, source.to_owned())], None);
        assert!(new("status.phase ==").is_err());
        assert!(new(&format!("{}1{}", "(".repeat(100), ")".repeat(100))).is_err());
        assert!(new(&format!("'{}' == ''", "x".repeat(LONGEST))).is_err());
        assert!(Conditions::new(&[], None).is_err());
        assert_eq!(new("1 + 1").unwrap().judge(&json!({})).status, Status::Unknown);
        let list: Vec<u32> = (0..2000).collect();
        let nested = new("spec.a.all(x, spec.a.all(y, spec.a.all(z, x + y + z >= 0)))").unwrap();
        let judged = nested.judge(&json!({"spec": {"a": list}}));
        assert!(judged.reason.contains("too costly"), "{}", judged.reason);
    }
}
