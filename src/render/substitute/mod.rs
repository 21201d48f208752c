//! Values in place of `${NAME}`, as Flux's postBuild puts them.
//!
//! An object is written as YAML, expanded as text and read again: so `replicas: ${N}` becomes a number. A name with
//! neither a value nor a default is an error, as with Flux's strict mode.

mod expand;
mod glob;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::model::{Confidential, Object, yaml};

/// With the value `disabled`, as a label or an annotation, the object stays as it is.
const OPT_OUT: [&str; 2] = ["kustomize.toolkit.fluxcd.io/substitute", "driftless.dev/substitute"];
/// Most variables.
const MAX_VARIABLES: usize = 5_000;

/// One value.
#[derive(Clone, PartialEq, Eq)]
struct Variable {
    text: Zeroizing<String>,
    secret: bool,
}

/// Values by name; some come from Secrets and are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    values: BTreeMap<String, Variable>,
    /// Some could not be read: an unknown name is left as it is written.
    incomplete: bool,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Variables {
    /// Gives a name a value, over an earlier one. Line breaks are taken out, as Flux does.
    ///
    /// # Errors
    /// `SubstitutionFailed` for a name that is none, or too many.
    pub fn set(&mut self, name: &str, value: &str, secret: bool) -> Result<()> {
        let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
            let why = format!(
                "{name:?} is no name of a variable: letters, digits and _, not beginning with a digit"
            );
            return Err(Error::new(Code::SubstitutionFailed, why));
        }
        if self.values.len() >= MAX_VARIABLES {
            return Err(Error::new(Code::SubstitutionFailed, "there are more than 5,000 variables"));
        }
        let text = Zeroizing::new(value.replace('\n', ""));
        self.values.insert(name.to_owned(), Variable { text, secret });
        Ok(())
    }

    /// Says that not all could be read (no cluster at hand): names without a value stay as they are written.
    pub fn set_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// The values that come from Secrets.
    fn hidden(&self) -> Confidential {
        let mut hidden = Confidential::default();
        self.values
            .values()
            .filter(|variable| variable.secret)
            .for_each(|variable| hidden.add(&variable.text));
        hidden
    }
}

/// Puts values in place in all objects; `hidden` gets what came from Secrets.
///
/// # Errors
/// `SubstitutionFailed` with the object and the place where it is stated.
pub(super) fn objects(
    objects: &[Object],
    variables: &Variables,
    hidden: &mut Confidential,
) -> Result<Vec<Object>> {
    hidden.merge(&variables.hidden());
    objects.iter().map(|object| one(object, variables, hidden)).collect()
}

fn one(object: &Object, variables: &Variables, hidden: &mut Confidential) -> Result<Object> {
    let metadata = &object.value()["metadata"];
    let opted_out = OPT_OUT
        .iter()
        .any(|name| metadata["labels"][*name] == "disabled" || metadata["annotations"][*name] == "disabled");
    if opted_out {
        return Ok(object.clone());
    }
    let text = Zeroizing::new(yaml::emit(object.value()));
    if !text.contains("${") && !text.contains("$$") {
        return Ok(object.clone());
    }
    let origin = object.origin();
    let failed = |why: String| {
        let error = Error::new(Code::SubstitutionFailed, why).on_object(object.key());
        error.in_file(&origin.file).at(origin.line, 0)
    };
    let mut secrets = Vec::new();
    let expanded = expand::expand(&text, variables, &mut secrets);
    for secret in &secrets {
        hidden.add(secret);
        // What YAML makes of it may be spelled otherwise: 0123 is 83.
        for document in yaml::read(secret.as_bytes(), "").unwrap_or_default() {
            if !document.value.is_string() && !document.value.is_object() && !document.value.is_array() {
                hidden.add(&document.value.to_string());
            }
        }
    }
    let expanded = Zeroizing::new(expanded.map_err(|why| {
        // A message that quotes the text would quote a part of the value, which no mask finds.
        let quotes = holds_secret_expression(object.value(), hidden);
        failed(if quotes { "an expression in a value that is secret cannot be expanded".into() } else { why })
    })?);
    let mut documents = yaml::read(expanded.as_bytes(), "").map_err(|error| {
        failed(format!("with its variables in place it is no YAML any more: {}", error.why))
    })?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(failed("with its variables in place it is not one object any more".into()));
    };
    Object::new(document.value, origin.clone())
        .map_err(|error| failed(format!("with its variables in place: {}", error.why)))
}

fn holds_secret_expression(value: &Value, hidden: &Confidential) -> bool {
    match value {
        Value::String(text) => text.contains("${") && hidden.is_in(text),
        Value::Array(items) => items.iter().any(|item| holds_secret_expression(item, hidden)),
        Value::Object(fields) => fields.values().any(|field| holds_secret_expression(field, hidden)),
        _ => false,
    }
}

/// The text with its variables in place, for tests and tools.
///
/// # Errors
/// `SubstitutionFailed`.
pub fn text(text: &str, variables: &Variables) -> Result<String> {
    expand::expand(text, variables, &mut Vec::new()).map_err(|why| Error::new(Code::SubstitutionFailed, why))
}
