//! A request over HTTP, and what its answer says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{About, Condition, Fact, Reading, address, begin_of, headers, invalid, secret, templates};
use crate::api::{WebGate, WebMethod};
use crate::error::Result;
use crate::model::one_line;

/// Where the value is.
enum Place {
    Pointer(String),
    Expression(Condition),
}

/// A request.
pub struct Web {
    url: String,
    window: String,
    method: WebMethod,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    place: Place,
    pass: Condition,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where to.
    pub url: String,
    /// How.
    pub method: WebMethod,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Option<String>,
}

impl Web {
    pub(super) fn read(stated: &WebGate, window: &str) -> Result<Self> {
        let check = |text: &str, field: &str| templates::check(text).map_err(|why| invalid(field, why));
        check(&stated.url, "web.url")?;
        let example = templates::fill(&stated.url, &templates::example(), window);
        address(&example.map_err(|why| invalid("web.url", why))?, "web.url")?;
        headers(&stated.headers, "web.headers")?;
        secret(stated.secret_ref.as_ref(), "web.secretRef")?;
        check(stated.body.as_deref().unwrap_or_default(), "web.body")?;
        if stated.body.is_some() && stated.method == WebMethod::Get {
            return Err(invalid("web.body", "GET sends none; give method: POST"));
        }
        let place = match stated.json.as_deref() {
            None => Place::Pointer(String::new()),
            Some(pointer) if pointer.starts_with('/') => Place::Pointer(pointer.to_owned()),
            Some(source) => Place::Expression(
                Condition::new(source, &["result"]).map_err(|why| invalid("web.json", why))?,
            ),
        };
        let pass = Condition::new(&stated.pass, &["value", "values", "result"])
            .map_err(|why| invalid("web.pass", why))?;
        Ok(Self {
            url: stated.url.clone(),
            window: window.to_owned(),
            method: stated.method,
            headers: stated.headers.clone(),
            body: stated.body.clone(),
            place,
            pass,
        })
    }

    /// What to send.
    ///
    /// # Errors
    /// Why it cannot be asked, in words.
    pub fn request(&self, about: &About) -> std::result::Result<Sent, String> {
        let fill = |text: &str| templates::fill(text, about, &self.window);
        Ok(Sent {
            url: fill(&self.url)?,
            method: self.method,
            headers: self.headers.clone(),
            body: self.body.as_deref().map(fill).transpose()?,
        })
    }

    /// What an answer says.
    pub fn reading(&self, status: u16, body: &[u8]) -> Reading {
        if !(200..300).contains(&status) {
            return Reading::error(format!("HTTP {status}: {}", begin_of(body)));
        }
        let Ok(result) = serde_json::from_slice::<Value>(body) else {
            return Reading::error(format!("the answer is no JSON: {}", begin_of(body)));
        };
        let (found, wanted) = match &self.place {
            Place::Pointer(pointer) => (result.pointer(pointer).cloned(), pointer.as_str()),
            Place::Expression(source) => match source.find(&[("result", Fact::Json(result.clone()))]) {
                Ok(found) => (Some(found), source.source()),
                Err(why) => return Reading::error(format!("{} cannot be said: {why}", source.source())),
            },
        };
        let Some(found) = found.filter(|found| !found.is_null()) else {
            return Reading::no_data(format!("the answer has nothing at {wanted}"));
        };
        let value = number(&found);
        if value.is_some_and(f64::is_nan) && !self.pass.knows_nan() {
            return Reading::no_data("value is NaN");
        }
        let numbers: Option<Vec<f64>> = found.as_array().and_then(|items| items.iter().map(number).collect());
        if numbers.as_ref().is_some_and(Vec::is_empty) {
            return Reading::no_data(format!("the list at {wanted} is empty"));
        }
        let shown: String = value.map_or_else(
            || one_line(&found.to_string()).chars().take(120).collect(),
            |value| value.to_string(),
        );
        let fact = value.map_or(Fact::Json(found), Fact::Number);
        let mut facts = vec![("result", Fact::Json(result)), ("value", fact)];
        facts.extend(numbers.map(|numbers| ("values", Fact::Numbers(numbers))));
        self.pass.judge(&facts, &shown, value)
    }
}

/// A number, or a text that is one.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GateAnswer;

    fn gate(json: &str, pass: &str) -> WebGate {
        let json = (!json.is_empty()).then(|| json.to_owned());
        WebGate { url: "https://x/{{revision}}".into(), json, pass: pass.into(), ..WebGate::default() }
    }

    #[test]
    fn answers() {
        use GateAnswer::{Error, Fail, NoData, Pass};
        let check = |json: &str, pass: &str, body: &str, answer: GateAnswer, message: &str| {
            let read = Web::read(&gate(json, pass), "1m").unwrap().reading(200, body.as_bytes());
            assert_eq!((read.answer, read.message.as_str()), (answer, message), "{json} {pass}: {body}");
        };
        let rate = r#"{"data":{"rate":0.97,"text":"0.5","none":null,"nan":"NaN","ok":true,"list":[1,2.5],"empty":[]}}"#;
        check("/data/rate", "value > 0.9", rate, Pass, "0.97 is value > 0.9");
        check("/data/rate", "value > 0.99", rate, Fail, "0.97 is not value > 0.99");
        check("result.data.rate * 100.0", "value > 96", rate, Pass, "97 is value > 96");
        check("/data/text", "value > 0.4", rate, Pass, "0.5 is value > 0.4");
        check("/data/ok", "value", rate, Pass, "true is value");
        check("/data/list", "values.all(v, v > 0.5)", rate, Pass, "[1,2.5] is values.all(v, v > 0.5)");
        check("/data/empty", "values.all(v, v > 0.5)", rate, NoData, "the list at /data/empty is empty");
        check("/data/none", "value > 0.4", rate, NoData, "the answer has nothing at /data/none");
        check("/data/gone", "value > 0.4", rate, NoData, "the answer has nothing at /data/gone");
        check("/data/nan", "value > 0.4", rate, NoData, "value is NaN");
        check("", "value > 0.4", "0.5", Pass, "0.5 is value > 0.4");
        check("", "result.ok", r#"{"ok":true}"#, Pass, r#"{"ok":true} is result.ok"#);
        check("", "result.ok", "<html>", Error, "the answer is no JSON: \"<html>\"");
        check("", "result.ok", "", Error, "the answer is no JSON: nothing");
        let web = Web::read(&gate("result.a", "value > 1"), "1m").unwrap();
        assert_eq!(web.reading(200, b"{}").answer, Error);
        assert_eq!(web.reading(503, b"away").message, "HTTP 503: \"away\"");
        assert_eq!(web.reading(302, b"").message, "HTTP 302: nothing");
    }

    #[test]
    fn requests() {
        let about = About { revision: "abc".into(), ..About::default() };
        let mut stated = gate("", "value > 1");
        assert_eq!(Web::read(&stated, "1m").unwrap().request(&about).unwrap().url, "https://x/abc");
        stated.body = Some("{\"r\": \"{{revision}}\", \"go\": \"{{ .x }}\"}".into());
        assert!(Web::read(&stated, "1m").map(|_| ()).unwrap_err().why.contains("GET sends none"));
        stated.method = WebMethod::Post;
        let sent = Web::read(&stated, "1m").unwrap().request(&about).unwrap();
        assert_eq!(sent.body.as_deref(), Some("{\"r\": \"abc\", \"go\": \"{{ .x }}\"}"));
        let check = |stated: WebGate, wanted: &str| {
            let error = Web::read(&stated, "1m").map(|_| ()).unwrap_err();
            assert!(error.why.starts_with(wanted), "{}", error.why);
        };
        check(WebGate { url: "file:///etc/passwd".into(), ..gate("", "value > 1") }, "spec.web.url: ");
        check(
            WebGate { url: "http://x/{{a}}".into(), ..gate("", "value > 1") },
            "spec.web.url: there is no {{a}}",
        );
        check(gate("result.", "value > 1"), "spec.web.json: ");
        check(gate("", "object.x"), "spec.web.pass: object.x: there is no object here");
    }
}
