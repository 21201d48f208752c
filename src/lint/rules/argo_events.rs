//! Argo Events: sensors and what they listen to. Its CRDs have no schema, so this is all that guards them.

use std::collections::HashSet;

use serde_json::Value;

use crate::lint::rule::{Out, rules};
use crate::lint::set::{Set, Subject};

rules! { "Argo Events":
    SENSOR "sensor-dependency" Error Certain
        "a sensor that can never fire, or that the controller refuses"
        "Each dependency needs name, eventSourceName and eventName; triggers have names of their own; conditions may only name dependencies of the sensor."
    SENSOR_EVENT "sensor-event-unknown" Error Likely
        "a dependency on an event that the EventSource of the same set does not have"
        "The sensor waits for ever. Correct eventName, or add the event to the EventSource."
}

pub(super) fn check(subject: &Subject, set: &Set<'_>, out: &mut Out) {
    if !subject.is("argoproj.io", "Sensor") {
        return;
    }
    let mut known = HashSet::new();
    for (at, dependency) in subject.list("/spec/dependencies").iter().enumerate() {
        let path = format!("/spec/dependencies/{at}");
        let text = |field: &str| dependency.get(field).and_then(Value::as_str).unwrap_or_default();
        for field in ["name", "eventSourceName", "eventName"] {
            if text(field).is_empty() {
                out.add(&SENSOR, path.as_str(), format!("the dependency has no {field}"));
            }
        }
        if !text("name").is_empty() && !known.insert(text("name")) {
            out.add(&SENSOR, format!("{path}/name"), format!("two dependencies are called {}", text("name")));
        }
        let source = set.find("argoproj.io", "EventSource", &subject.namespace, text("eventSourceName"));
        let Some(source) = source.filter(|_| !text("eventName").is_empty()) else { continue };
        // Every map of the spec holds events by name, but for what shapes the pods and the service.
        let events: Vec<&String> = (source.at("/spec").and_then(Value::as_object).into_iter().flatten())
            .filter(|(field, _)| {
                !matches!(field.as_str(), "template" | "service" | "replicas" | "eventBusName")
            })
            .filter_map(|(_, value)| value.as_object())
            .flat_map(|map| map.keys())
            .collect();
        if !events.iter().any(|event| *event == text("eventName")) {
            let why = format!("{} has no event {}", source.title(), text("eventName"));
            out.add(&SENSOR_EVENT, format!("{path}/eventName"), why);
        }
    }
    let mut names = HashSet::new();
    let triggers = subject.list("/spec/triggers");
    if triggers.is_empty() {
        out.add(&SENSOR, "/spec", "the sensor has no triggers");
    }
    for (at, trigger) in triggers.iter().enumerate() {
        let text = |field: &str| {
            trigger.pointer(&format!("/template/{field}")).and_then(Value::as_str).unwrap_or_default()
        };
        if !text("name").is_empty() && !names.insert(text("name")) {
            let path = format!("/spec/triggers/{at}/template/name");
            out.add(&SENSOR, path, format!("two triggers are called {}", text("name")));
        }
        let conditions = text("conditions");
        let words = conditions.split(|c: char| c.is_whitespace() || matches!(c, '&' | '|' | '!' | '(' | ')'));
        for word in words.filter(|word| !word.is_empty() && !known.contains(word)) {
            let path = format!("/spec/triggers/{at}/template/conditions");
            out.add(&SENSOR, path, format!("the conditions name {word}, which is no dependency"));
        }
    }
}
