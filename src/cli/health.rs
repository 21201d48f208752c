//! `driftless health`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::output::{Format, Output};
use crate::agent::{clock, rules_of};
use crate::api::{Application, GROUP};
use crate::error::{Code, Error, Kind, Result};
use crate::health::{self, Health, Rule, Rules, Status, of_config_map};
use crate::model::{Gvk, Key, yaml};

/// Deepest folder.
const DEPTH: usize = 64;

#[derive(Args)]
pub(super) struct Arguments {
    /// Files or folders with objects and their status, as `kubectl get -o yaml` prints them; - reads standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Rules of your own, asked first: an argocd-cm ConfigMap, or an Application with spec.health
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// json or yaml
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// One object and its judgement.
struct Judged {
    file: String,
    line: usize,
    gvk: Gvk,
    key: Key,
    health: Health,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<u8> {
    let rules = rules(&arguments.rules)?;
    let (mut judged, mut failures) = (Vec::new(), Vec::new());
    for path in &arguments.files {
        for (file, text) in texts(path, &mut failures) {
            match objects(&text, &file) {
                Ok(objects) => judged.extend(objects.into_iter().map(|(line, gvk, key, object)| {
                    let health = rules.judge(&gvk, &object).unwrap_or_else(|| health::assess(&gvk, &object));
                    Judged { file: file.clone(), line, gvk, key, health }
                })),
                Err(error) => failures.push(error),
            }
        }
    }
    match arguments.output {
        Some(format) => output.value(&report(&judged), format),
        None if judged.is_empty() => {}
        None => table(&judged, output),
    }
    failures.iter().for_each(|error| output.error(error));
    let well = judged.iter().all(|one| matches!(one.health.status, Status::Healthy | Status::Suspended));
    Ok(match failures.first() {
        Some(error) => error.code.kind().exit_code(),
        None if judged.is_empty() => {
            return Err(Error::new(Code::ManifestIncomplete, "there is no object in what was given"));
        }
        None if well => 0,
        None => Kind::Unhealthy.exit_code(),
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
}

/// The files that a path stands for, with their texts.
fn texts(path: &Path, failures: &mut Vec<Error>) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    if path.as_os_str() == "-" {
        let mut text = Vec::new();
        // One byte more than is read, so that what is too large is told from what just fits.
        let most = yaml::MAX_BYTES as u64 + 1;
        match std::io::stdin().lock().take(most).read_to_end(&mut text) {
            Ok(_) => found.push(("-".to_owned(), text)),
            Err(error) => failures.push(unreadable(path, &error)),
        }
        return found;
    }
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut files, failures);
    } else {
        files.push(path.to_owned());
    }
    for file in files {
        match std::fs::read(&file) {
            Ok(text) => found.push((file.display().to_string(), text)),
            Err(error) => failures.push(unreadable(&file, &error)),
        }
    }
    found
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>, failures: &mut Vec<Error>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return failures.push(unreadable(folder, &error)),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    for path in paths {
        // A link to a folder may lead in a circle.
        if path.is_dir() && !path.is_symlink() && depth < DEPTH {
            walk(&path, depth + 1, files, failures);
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            files.push(path);
        }
    }
}

/// The objects of a text; those of a List are its items.
fn objects(text: &[u8], file: &str) -> Result<Vec<(usize, Gvk, Key, Value)>> {
    let mut found = Vec::new();
    for document in yaml::read(text, file)? {
        let line = document.line;
        let items = match document.value {
            Value::Object(mut list)
                if list.get("items").is_some_and(Value::is_array)
                    && list["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) =>
            {
                list.remove("items").and_then(|items| match items {
                    Value::Array(items) => Some(items),
                    _ => None,
                })
            }
            other => Some(vec![other]),
        };
        for value in items.unwrap_or_default() {
            let word = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let gvk = Gvk::parse(&word(&value["apiVersion"]), &word(&value["kind"]));
            if gvk.version.is_empty() || gvk.kind.is_empty() {
                let why = "the document has no apiVersion or no kind";
                return Err(Error::new(Code::ManifestIncomplete, why).in_file(file).at(line, 0));
            }
            let key = Key {
                group: gvk.group.clone(),
                kind: gvk.kind.clone(),
                namespace: word(&value["metadata"]["namespace"]),
                name: word(&value["metadata"]["name"]),
            };
            found.push((line, gvk, key, value));
        }
    }
    Ok(found)
}

fn rules(files: &[PathBuf]) -> Result<Rules> {
    let mut all: Vec<Rule> = Vec::new();
    for path in files {
        let file = path.display().to_string();
        let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        let before = all.len();
        for (line, gvk, _, value) in objects(&text, &file)? {
            if gvk.is("", "ConfigMap") {
                all.extend(of_config_map(&value).map_err(|error| error.in_file(&file).at(line, 0))?);
            } else if gvk.is(GROUP, "Application") {
                let application: Application = serde_json::from_value(value).map_err(|error| {
                    Error::new(Code::ApplicationInvalid, error.to_string()).in_file(&file).at(line, 0)
                })?;
                for rule in &application.spec.health {
                    if rule.cel.is_some() == rule.lua.is_some() {
                        let why = format!("spec.health, {}: give either cel or lua", rule.kind);
                        return Err(Error::new(Code::ApplicationInvalid, why).in_file(&file).at(line, 0));
                    }
                }
                all.extend(rules_of(&application.spec.health));
            }
        }
        if all.len() == before {
            let why = "it holds no rule: a ConfigMap with keys resource.customizations.health.GROUP_KIND, or an Application with spec.health";
            return Err(Error::new(Code::HealthRuleInvalid, why).in_file(&file));
        }
    }
    let rules = Rules::new(&all, clock);
    match rules.broken().first() {
        Some(error) => Err(error.clone()),
        None => Ok(rules),
    }
}

fn report(judged: &[Judged]) -> Value {
    let objects: Vec<Value> = judged
        .iter()
        .map(|one| {
            json!({
                "file": one.file, "line": one.line, "apiVersion": one.gvk.api_version(), "kind": one.gvk.kind,
                "namespace": one.key.namespace, "name": one.key.name,
                "health": one.health.status.to_string(), "reason": &*one.health.reason,
            })
        })
        .collect();
    let mut counts = serde_json::Map::new();
    for one in judged {
        let count = counts.entry(one.health.status.to_string()).or_insert_with(|| 0.into());
        *count = (count.as_u64().unwrap_or_default() + 1).into();
    }
    let worst = judged.iter().map(|one| one.health.status).max().unwrap_or(Status::Healthy);
    json!({"schemaVersion": 1, "verdict": worst.to_string(), "counts": counts, "objects": objects})
}

fn table(judged: &[Judged], output: &Output) {
    let rows: Vec<Vec<String>> = judged
        .iter()
        .map(|one| {
            vec![
                one.health.status.to_string(),
                one.key.to_string(),
                format!("{}:{}", one.file, one.line),
                one.health.reason.to_string(),
            ]
        })
        .collect();
    output.table(&["HEALTH", "OBJECT", "WHERE", "REASON"], &rows);
}
