//! `driftless rollout simulate` on files, against recorded decisions.

use std::path::Path;

use crate::harness::cluster;

/// Runs the program on a file of tests/data/rollout.
fn simulate(file: &Path, options: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new(cluster::program());
    let done = command.args(["rollout", "simulate"]).arg(file).args(options).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn decisions_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rollout");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    assert!(files.len() > 10);
    let mut stale = Vec::new();
    for file in files {
        let (code, lines, errors) = simulate(&file, &[]);
        assert_eq!(errors, "", "{}", file.display());
        let trimmed: String = lines.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let found = format!("exit code {code}\n{trimmed}");
        let golden = file.with_extension("txt");
        stale.extend(crate::harness::stale(&golden, &found));
    }
    assert!(stale.is_empty(), "UPDATE=1 records:\n{}", stale.join("\n"));
}

#[test]
fn decisions_can_be_read_by_programs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rollout/canary-passes.yaml");
    let (code, text, _) = simulate(&file, &["-o", "json"]);
    assert_eq!(code, 0);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["status"]["phase"], "Healthy");
    assert_eq!(report["status"]["stable"]["digest"], "v2");
    let weights: Vec<u64> =
        report["decisions"].as_array().unwrap().iter().map(|line| line["weight"].as_u64().unwrap()).collect();
    let mut different = weights;
    different.dedup();
    assert_eq!(different, [0, 5, 50, 100, 0]);
}

#[test]
fn what_is_wrong_with_a_policy_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let check = |strategy: &str, gates: &str, wanted: &str| {
        let file = folder.path().join("policy.yaml");
        let text = format!(
            "apiVersion: driftless.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: a}}\nspec:\n  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: a}}\n  strategy: {strategy}\n  gates: {gates}\n---\napiVersion: driftless.dev/v1alpha1\nkind: RolloutSimulation\nspec: {{wanted: v1}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let (code, _, errors) = simulate(&file, &[]);
        assert_eq!(code, 7, "{errors}");
        assert!(errors.contains(wanted) && errors.contains("policy.yaml"), "{errors}");
    };
    check(
        "{canary: {steps: [{weight: 50}, {weight: 20}]}}",
        "[]",
        "spec.strategy.canary.steps[1].weight: 20 is less than the 50",
    );
    check("{canary: {steps: [{weight: 101}]}}", "[]", "steps[0].weight: 101 is more than 100");
    check("{canary: {steps: []}}", "[]", "spec.strategy.canary.steps: there are none");
    check("{canary: {steps: [{weight: 5, hold: 10x}]}}", "[]", "steps[0].hold: \"10x\" is no duration");
    check("{canary: {steps: [{weight: 5, gates: [a]}]}}", "[]", "there is no gate a");
    check("{canary: {steps: [{weight: 5}]}}", "[{name: a}]", "no step names the gate a");
    let gated = |gate: &str, wanted: &str| {
        let gates = format!("[{{name: b}}, {{name: a, {gate}}}]");
        check("{canary: {steps: [{weight: 5, gates: [a, b]}]}}", &gates, wanted);
    };
    gated(
        "prometheus: {address: 'http://x', query: up, pass: 'valeu > 1'}",
        "spec.gates[1].prometheus.pass: valeu > 1: there is no valeu here, but value, values, labels",
    );
    gated(
        "object: {apiVersion: v1, kind: Pod, name: a, pass: 'object.spec.x >'}",
        "spec.gates[1].object.pass: object.spec.x >: ",
    );
    gated(
        "prometheus: {address: 'http://x', query: '{{canary}}', pass: 'value > 1'}",
        "there is no {{canary}}",
    );
    gated("web: {url: 'file:///x', pass: 'value > 1'}", "spec.gates[1].web.url: ");
    gated(
        "web: {url: 'http://x', pass: 'value > 1'}, object: {apiVersion: v1, kind: Pod, name: a, pass: 'true'}",
        "give one of prometheus, compare, web, job, workflow, object, mlflow and approval",
    );
    gated("approval: {timeout: soon}", "spec.gates[1].approval.timeout: \"soon\" is no duration");
    gated("approval: {}, limits: {fail: 1}", "spec.gates[1].approval: people are not asked again and again");
    check(
        "{canary: {steps: [{weight: 5}], background: [a]}}",
        "[{name: a, approval: {}}]",
        "a is approved by people, which only a step waits for",
    );
    gated("web: {url: 'http://x', pass: 'true', colour: red}", "unknown field `colour`");
    check("{canary: {steps: [{weight: 5, gates: [a]}]}}", "[{name: a}, {name: a}]", "there are two gates a");
    check(
        "{canary: {steps: [{weight: 5, gates: [a]}], background: [a]}}",
        "[{name: a}]",
        "of a step and of the background",
    );
    check("{canary: {steps: [{weight: 5}], maxSurge: many}}", "[]", "maxSurge: \"many\" is no number");
    check(
        "{canary: {steps: [{weight: 5}]}, shadow: {percent: 5, hold: 1m}}",
        "[]",
        "one of canary, blueGreen, shadow and rolling",
    );
    check("{shadow: {percent: 0, hold: 1m}}", "[]", "spec.strategy.shadow.percent: is from 1 to 100");
    check(
        "{canary: {steps: [{weight: 5, headers: [{name: x}]}]}}",
        "[]",
        "spec.strategy.canary.steps[0].headers[0]: states one of exact, regex and prefix",
    );
    check(
        "{canary: {steps: [{weight: 5, headers: [{name: x, exact: a}, {name: X, exact: b}]}]}}",
        "[]",
        "steps[0].headers[1].name: there are two matches of X; all must hold",
    );
    check("{canary: {steps: [{weight: 5, mirror: 101}]}}", "[]", "steps[0].mirror: is from 1 to 100");
    check("{canary: {steps: [{weigth: 5}]}}", "[]", "unknown field `weigth`");
}

/// What the document shows can be read.
#[test]
fn the_gates_of_the_document_are_gates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gates.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut count = 0;
    for block in text.split("```yaml\n").skip(1) {
        let block = format!("gates:\n{}", block.split("```").next().unwrap());
        let read = driftless::model::yaml::read(block.as_bytes(), "docs/gates.md").unwrap();
        for gate in read[0].value["gates"].as_array().unwrap() {
            let gate: driftless::api::Gate = serde_json::from_value(gate.clone()).unwrap();
            let rule = driftless::rollout::Rule::read(&gate);
            assert!(rule.is_ok(), "{}: {:?}", gate.name, rule.err());
            count += 1;
        }
    }
    assert_eq!(count, 11);
}
