//! Where fields come from, for `driftless render --explain`.

use serde_json::Value;

use super::output::{Format, Output};
use crate::diff::mask;
use crate::model::{Confidential, Gvk};
use crate::render::explain::{Earlier, Explained, Explanation, Written};

/// Longer values are cut in text.
const WIDTH: usize = 100;

/// Prints as text, or as JSON where that is wanted.
pub(super) fn show(mut explained: Explained, format: Format, output: &Output) {
    let hidden = std::mem::take(&mut explained.hidden);
    explained.objects.iter_mut().for_each(|object| hide(object, &hidden));
    if format == Format::Json {
        output.value(&serde_json::to_value(&explained).unwrap_or_default(), Format::Json);
        return;
    }
    let mut text: String = explained.objects.iter().map(object).collect();
    text.push_str("inputs\n");
    for (path, identity) in &explained.inputs {
        let missing = if identity.is_some() { "" } else { "   (not there)" };
        text.push_str(&format!("  {}{missing}\n", if path.is_empty() { "." } else { path }));
    }
    output.data(&text);
}

/// Takes out what a Secret holds and what was decrypted.
fn hide(object: &mut Explanation, hidden: &Confidential) {
    let is_secret = mask::is_secret(&Gvk::parse(&object.api_version, &object.kind));
    let secret = |path: &str| {
        is_secret
            && [
                "/data",
                "/stringData",
                "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
            ]
            .iter()
            .any(|prefix| path.starts_with(prefix))
    };
    let hide_earlier = |path: &str, earlier: &mut Earlier| {
        if secret(path) || hidden.is_in(&earlier.value) {
            mask::MASK.clone_into(&mut earlier.value);
        }
    };
    for field in &mut object.fields {
        if secret(&field.path) || hidden.touches(&field.value) {
            field.value = mask::MASK.into();
        }
        field.overrode.iter_mut().for_each(|earlier| hide_earlier(&field.path, earlier));
    }
    for removed in &mut object.removed {
        hide_earlier(&removed.path, &mut removed.was);
    }
}

fn object(object: &Explanation) -> String {
    let namespace =
        if object.namespace.is_empty() { String::new() } else { format!("{}/", object.namespace) };
    let mut text = format!("{} {namespace}{}\n", object.kind, object.name);
    for field in &object.fields {
        let value = match &field.value {
            // Words need no quotes to be read by a person.
            Value::String(word) if !word.is_empty() && !word.contains(['\n', '"']) => cut(word),
            value => cut(&value.to_string()),
        };
        text.push_str(&format!("  {} = {value}   {}\n", field.path, place(&field.written)));
        for read in &field.values {
            text.push_str(&format!("      .Values.{}   {}\n", read.path, place(&read.written)));
        }
        text.push_str(&field.overrode.iter().map(earlier).collect::<String>());
    }
    for removed in &object.removed {
        text.push_str(&format!("  {} removed   {}\n", removed.path, place(&removed.removed)));
        text.push_str(&earlier(&removed.was));
    }
    text.push('\n');
    text
}

fn earlier(earlier: &Earlier) -> String {
    let value = cut(&earlier.value.replace('\n', "\\n"));
    format!("      was {value}   {}\n", place(&earlier.written))
}

fn place(written: &Written) -> String {
    let by = if written.by == "resources" { String::new() } else { format!(" ({})", written.by) };
    match (written.file.as_str(), written.line) {
        ("", _) => by.trim_start().to_owned(),
        (file, 0) => format!("{file}{by}"),
        (file, line) => format!("{file}:{line}{by}"),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH).chain(['…']).collect()
}
