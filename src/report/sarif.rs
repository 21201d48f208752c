//! SARIF 2.1.0, which code scanning reads.

use serde_json::{Value, json};

use super::{FindingReport, LintReport};
use crate::model::Digest;

/// GitHub takes 25,000 results of one run and shows 5,000.
const MAX_RESULTS: usize = 25_000;

/// The findings as one SARIF document.
pub fn sarif(report: &LintReport, version: &str) -> String {
    let rules: Vec<Value> = report
        .rules
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": {"text": rule.title},
                "fullDescription": {"text": rule.help},
                "help": {"text": rule.help},
                "defaultConfiguration": {"level": level(&rule.severity)},
                "properties": {"tags": [rule.system], "precision": if rule.confidence == "certain" { "very-high" } else { "high" }},
            })
        })
        .collect();
    let mut results: Vec<Value> =
        report.findings.iter().take(MAX_RESULTS).map(|finding| result(report, finding)).collect();
    // What could not be read is a finding of nobody; viewers show notifications apart.
    results.truncate(MAX_RESULTS);
    let notifications: Vec<Value> = report
        .errors
        .iter()
        .map(|error| json!({"level": "error", "message": {"text": error.message}, "descriptor": {"id": error.code}}))
        .collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "driftless", "semanticVersion": version, "rules": rules}},
            "invocations": [{"executionSuccessful": report.errors.is_empty(), "toolExecutionNotifications": notifications}],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&document).map_or_else(|error| error.to_string(), |text| text + "\n")
}

fn level(severity: &str) -> &'static str {
    match severity {
        "error" => "error",
        "warning" => "warning",
        _ => "note",
    }
}

fn result(report: &LintReport, finding: &FindingReport) -> Value {
    // Lines move; the object and its field stay.
    let parts = [&finding.rule, &finding.object, &finding.pointer, &finding.message];
    let print = Digest::of_parts(parts.map(|part| part.as_bytes().to_vec())).to_string();
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level(&finding.severity),
        "message": {"text": format!("{} ({})", finding.message, finding.object)},
        "partialFingerprints": {"driftless/v1": print},
    });
    if let Some(index) = report.rules.iter().position(|rule| rule.id == finding.rule) {
        result["ruleIndex"] = index.into();
    }
    if let Some(source) = &finding.source {
        let mut region = json!({"startLine": source.line.max(1)});
        if finding.column > 0 {
            region["startColumn"] = finding.column.into();
        }
        result["locations"] = json!([{"physicalLocation": {
            "artifactLocation": {"uri": uri(&source.file), "uriBaseId": "%SRCROOT%"},
            "region": region,
        }}]);
    }
    result
}

/// A path as a relative reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
