//! `driftless rollout get|watch|promote|abort|retry|pause|resume` on a real API server; the test plays the agent.

use std::process::Stdio;

use driftless::api::{ROLLOUT_REQUEST, RolloutAct, RolloutPolicy, RolloutVerb};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::cluster::{self, ControlPlane, control_plane, program};
use crate::harness::eventually;
use crate::harness::fault::{Act, Proxy, Rule};

/// A namespace with policies.
struct Place {
    client: kube::Client,
    plane: ControlPlane,
    namespace: String,
}

impl Place {
    async fn new(namespace: &str) -> Self {
        let plane = tokio::task::spawn_blocking(control_plane).await.unwrap();
        let client = cluster::client(&plane).await;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let definition = RolloutPolicy::crd();
        let name = definition.name_any();
        let parameters = PatchParams::apply("tests").force();
        crds.patch(&name, &parameters, &Patch::Apply(&definition)).await.expect("the CRD is accepted");
        eventually("the CRD is established", || async {
            let conditions = crds.get(&name).await.ok()?.status?.conditions?;
            let mut held = conditions.iter().filter(|found| found.status == "True");
            held.any(|found| found.type_ == "Established").then_some(())
        })
        .await;
        cluster::namespace(&client, namespace).await;
        let place = Self { client, plane, namespace: namespace.to_owned() };
        eventually("the kind is served", || async {
            place.policies().list(&ListParams::default()).await.ok()
        })
        .await;
        place
    }

    fn policies(&self) -> Api<RolloutPolicy> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn policy(&self, name: &str) {
        let policy = json!({
            "apiVersion": "driftless.dev/v1alpha1", "kind": "RolloutPolicy", "metadata": {"name": name},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "strategy": {"canary": {"steps": [{"weight": 5, "hold": "10m"}, {"weight": 50, "gates": ["champion"]}]}},
                "gates": [{"name": "champion", "count": 3}],
            },
        });
        let policy = serde_json::from_value(policy).unwrap();
        self.policies().create(&PostParams::default(), &policy).await.expect("a policy");
    }

    /// As the agent writes it.
    async fn status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.policies().patch_status(name, &PatchParams::default(), &patch).await.expect("a status");
    }

    /// What is asked for, once it is.
    async fn request(&self, name: &str) -> RolloutAct {
        eventually("there is a request", || async {
            let policy = self.policies().get(name).await.ok()?;
            let text = policy.annotations().get(ROLLOUT_REQUEST)?;
            serde_json::from_str(text).ok()
        })
        .await
    }

    fn command(&self, plane: &ControlPlane, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--kubeconfig").arg(&plane.kubeconfig);
        command.args(["--namespace", &self.namespace, "rollout"]).args(arguments).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let done = self.command(&self.plane, arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
    }

    /// `watch`, and its lines as they come.
    fn watch(&self, plane: &ControlPlane, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut command = self.command(plane, &[&["watch"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(std::time::Duration::from_secs(60), lines.next_line()).await;
    line.expect("a line in time").unwrap().expect("a line")
}

async fn rest(lines: &mut Lines<BufReader<ChildStdout>>) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        found.push(line);
    }
    found
}

/// A line without its time and its spaces.
fn words(line: &str) -> String {
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

fn moving(step: u32, weight: u32, message: &str) -> Value {
    json!({"phase": "Progressing", "message": message, "step": step, "weight": weight,
        "stable": {"digest": "0a1b2c3d4e", "commit": "a".repeat(40)},
        "candidate": {"digest": "9f8e7d6c5b", "commit": "b".repeat(40)}})
}

#[tokio::test]
async fn a_request_is_written_once_and_waited_for() {
    let place = Place::new("rollout-asks").await;
    place.policy("fraud").await;
    place.status("fraud", moving(0, 5, "step 1 of 3 (5 %): held")).await;
    let arguments = ["abort", "fraud", "--why", "incident 7"];
    let (ended, act) = tokio::join!(place.run(&arguments), async {
        let act = place.request("fraud").await;
        let done = RolloutAct { at: "2026-03-02T11:00:00Z".into(), ..act.clone() };
        let message = "aborted: incident 7; the pods go back";
        place.status("fraud", json!({"phase": "Aborting", "message": message, "acts": [done]})).await;
        act
    });
    assert_eq!((act.verb, act.why.as_str(), act.at.as_str()), (RolloutVerb::Abort, "incident 7", ""));
    // Who it was is the API server's word, not the environment's.
    assert!(!act.by.is_empty());
    let said = "rollout-asks/fraud is Aborting: aborted: incident 7; the pods go back\n";
    assert_eq!(ended, (0, said.to_owned(), String::new()));
    let policy = place.policies().get("fraud").await.unwrap();
    let fields = policy.metadata.managed_fields.as_ref().unwrap();
    let ours = fields.iter().find(|entry| entry.manager.as_deref() == Some("driftless-cli")).unwrap();
    let owned = serde_json::to_value(&ours.fields_v1).unwrap();
    let only = json!({"f:metadata": {"f:annotations": {".": {}, format!("f:{ROLLOUT_REQUEST}"): {}}}});
    assert_eq!(owned, only, "nothing but the request is ours");

    // Another one has another id, and the verb that it is.
    place.status("fraud", moving(1, 50, "step 2 of 3 (50 %)")).await;
    let (code, text, errors) = place.run(&["promote", "rollout-asks/fraud", "--full", "--no-wait"]).await;
    assert_eq!(
        (code, text.as_str(), errors.as_str()),
        (0, "rollout-asks/fraud is asked to promote in full\n", "")
    );
    let full = place.request("fraud").await;
    assert!(full.id != act.id && full.verb == RolloutVerb::PromoteFull && full.why.is_empty(), "{full:?}");

    // Nobody does it.
    let (code, text, errors) = place.run(&["pause", "fraud", "--timeout", "1s"]).await;
    assert_eq!((code, text.as_str()), (5, ""), "{errors}");
    assert!(
        errors.contains("DL0401") && errors.contains("the agent has not taken up the request"),
        "{errors}"
    );
    assert!(errors.contains("PromoteFull, which ") && errors.contains("this takes its place"), "{errors}");
    assert_eq!(place.request("fraud").await.verb, RolloutVerb::Pause);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_it_is_written() {
    let place = Place::new("rollout-refuses").await;
    place.policy("fraud").await;
    let check = async |verb: &str, wanted: &str| {
        let (code, text, errors) = place.run(&[verb, "fraud"]).await;
        assert_eq!((code, text.as_str()), (2, ""), "{verb}: {errors}");
        assert!(errors.contains("rollout-refuses/fraud") && errors.contains(wanted), "{errors}");
    };
    check("promote", "it is Pending: nothing is on its way that could be promoted").await;
    place.status("fraud", json!({"phase": "Healthy"})).await;
    check("promote", "it is Healthy").await;
    check("abort", "it is Healthy: nothing is on its way that could be aborted").await;
    check("retry", "no revision is rejected").await;
    check("resume", "it is not paused").await;
    place.status("fraud", json!({"phase": "Promoting"})).await;
    check("promote", "it is Promoting: the steps are behind it already").await;
    place.status("fraud", json!({"phase": "Aborting"})).await;
    check("abort", "it is Aborting already").await;
    assert!(place.policies().get("fraud").await.unwrap().annotations().is_empty(), "nothing was written");

    let (code, _, errors) = place.run(&["pause", "none"]).await;
    assert!(code == 2 && errors.contains("there is no RolloutPolicy rollout-refuses/none"), "{errors}");
    let (code, _, errors) = place.run(&["pause", "fraud", "--timeout", "soon"]).await;
    assert!(code == 2 && errors.contains("no duration such as 90s"), "{errors}");

    // What the status allows is asked for.
    let why = "gate champion: 1 measurement failed";
    let rejected = json!([{"digest": "9f8e7d6c5b", "at": "2026-03-02T11:00:00Z", "why": why}]);
    let paused = json!({"id": "1", "verb": "Pause", "by": "ann"});
    place.status("fraud", json!({"phase": "Rejected", "rejected": rejected, "paused": paused})).await;
    for (verb, wanted) in
        [("retry", RolloutVerb::Retry), ("resume", RolloutVerb::Resume), ("pause", RolloutVerb::Pause)]
    {
        let (code, _, errors) = place.run(&[verb, "fraud", "--no-wait"]).await;
        assert_eq!((code, place.request("fraud").await.verb), (0, wanted), "{errors}");
    }
    place.status("fraud", json!({"phase": "Promoting"})).await;
    let (code, _, errors) = place.run(&["abort", "fraud", "--no-wait"]).await;
    assert_eq!((code, place.request("fraud").await.verb), (0, RolloutVerb::Abort), "{errors}");
}

#[tokio::test]
async fn policies_are_listed_and_shown() {
    let place = Place::new("rollout-gets").await;
    let (code, text, said) = place.run(&["get"]).await;
    assert!(code == 0 && text.is_empty() && said.contains("No RolloutPolicies found"), "{text}{said}");
    place.policy("fraud").await;
    place.policy("search").await;
    place.status("fraud", moving(1, 50, "step 2 of 3 (50 %): waits for gate champion 1 of 3")).await;
    let rejected = json!([{"digest": "9f8e7d6c5b", "at": "2026-03-02T11:00:00Z", "why": "aborted by ann"}]);
    let status = json!({"phase": "Rejected", "message": "aborted by ann", "rejected": rejected});
    place.status("search", status).await;

    let (code, text, errors) = place.run(&["get"]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        ["NAME", "TARGET", "PHASE", "STEP", "WEIGHT", "STABLE", "CANDIDATE", "AGE", "MESSAGE"]
    );
    let fraud = ["fraud", "Deployment/fraud", "Progressing", "2/3", "50", "%", "aaaaaaa", "bbbbbbb"];
    assert_eq!(lines[1][..8], fraud, "{text}");
    assert!(text.lines().nth(1).unwrap().ends_with("waits for gate champion 1 of 3"), "{text}");
    assert_eq!(lines[2][..3], ["search", "Deployment/search", "Rejected"], "{text}");
    assert_eq!(lines.len(), 3, "{text}");
    let (code, text, _) = place.run(&["get", "-A"]).await;
    assert_eq!(code, 0);
    assert!(text.starts_with("NAMESPACE ") && text.contains("\nrollout-gets "), "{text}");
    let (code, text, _) = place.run(&["get", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &list["kind"], list["items"].as_array().unwrap().len()), (0, &json!("List"), 2));

    let (code, text, _) = place.run(&["get", "rollout-gets/fraud"]).await;
    assert!(code == 0 && text.starts_with("rollout-gets/fraud  Progressing\n  step 2 of 3"), "{text}");
    assert!(text.contains("  > 2    50 %   gates champion\n"), "{text}");
    let (code, text, _) = place.run(&["get", "search"]).await;
    assert!(code == 6 && text.contains("2026-03-02T11:00:00Z   9f8e7d6   aborted by ann"), "{text}");
    let (code, text, _) = place.run(&["get", "search", "-o", "yaml"]).await;
    let read = driftless::model::yaml::read(text.as_bytes(), "output").unwrap();
    assert_eq!((code, &read[0].value["status"]["phase"]), (6, &json!("Rejected")));
    assert_eq!(read[0].value["kind"], "RolloutPolicy");
    let (code, _, errors) = place.run(&["get", "none"]).await;
    assert!(code == 2 && errors.contains("there is no RolloutPolicy rollout-gets/none"), "{errors}");
}

#[tokio::test]
async fn a_rollout_is_followed_to_its_end() {
    let place = Place::new("rollout-watch").await;
    place.policy("fraud").await;
    place.status("fraud", moving(0, 5, "step 1 of 3 (5 %): held")).await;
    let (mut child, mut lines) = place.watch(&place.plane, &["fraud"]);
    assert_eq!(words(&next(&mut lines).await), "Progressing step 1 of 3 5 % step 1 of 3 (5 %): held");
    // What says nothing new is no line.
    place.status("fraud", json!({"best": 3})).await;
    let at = "2026-03-02T11:00:00Z";
    let gate = json!([{"name": "champion", "since": at, "measuredAt": at, "passed": 1, "streak": 1, "answer": "Pass",
        "message": "0.91 >= 0.9", "values": [0.91]}]);
    place.status("fraud", json!({"gates": gate})).await;
    assert_eq!(next(&mut lines).await, "2026-03-02T11:00:00Z  gate champion  Pass 0.91: 0.91 >= 0.9");
    place.status("fraud", json!({"step": 1, "weight": 50, "message": "step 2 of 3 (50 %)"})).await;
    assert_eq!(words(&next(&mut lines).await), "Progressing step 2 of 3 50 % step 2 of 3 (50 %)");
    place.status("fraud", json!({"phase": "Promoting", "message": "the candidate goes"})).await;
    assert_eq!(words(&next(&mut lines).await), "Promoting 50 % the candidate goes");
    place.status("fraud", json!({"phase": "Healthy", "weight": 0, "message": "", "gates": []})).await;
    assert_eq!(words(&next(&mut lines).await), "Healthy 0 %");
    assert_eq!(rest(&mut lines).await, Vec::<String>::new());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));

    // At rest already.
    place.status("fraud", json!({"phase": "Rejected", "message": "aborted by ann"})).await;
    let (code, text, _) = place.run(&["watch", "fraud", "-o", "json"]).await;
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &line["phase"], &line["message"]), (6, &json!("Rejected"), &json!("aborted by ann")));
    let (code, text, errors) = place.run(&["watch", "fraud", "--forever", "--timeout", "1s"]).await;
    assert_eq!((code, text.lines().count()), (5, 1), "{errors}");
    assert!(errors.contains("it is still Rejected"), "{errors}");

    // It goes away.
    let (child, mut lines) = place.watch(&place.plane, &["fraud", "--forever"]);
    next(&mut lines).await;
    place.policies().delete("fraud", &DeleteParams::default()).await.unwrap();
    assert!(rest(&mut lines).await.is_empty());
    let done = child.wait_with_output().await.unwrap();
    let errors = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(2) && errors.contains("there is no RolloutPolicy"), "{errors}");
}

#[tokio::test]
async fn a_watch_that_breaks_is_begun_again() {
    let place = Place::new("rollout-breaks").await;
    let proxy = Proxy::before(&place.plane).await;
    place.policy("fraud").await;
    place.status("fraud", moving(0, 5, "step 1 of 3 (5 %)")).await;
    // Each watch ends in another way.
    proxy.add(Rule::on("watch", "rolloutpolicies", Act::Reset).times(1));
    proxy.add(Rule::on("watch", "rolloutpolicies", Act::Answer(503, None)).times(1));
    proxy.add(Rule::on("watch", "rolloutpolicies", Act::Gone).times(1));
    proxy.add(Rule::on("watch", "rolloutpolicies", Act::Cut(1)).times(1));
    let (child, mut lines) = place.watch(&proxy.plane, &["fraud", "-o", "json"]);
    let mut line = async || -> Value { serde_json::from_str(&next(&mut lines).await).unwrap() };
    let first = line().await;
    assert_eq!((&first["about"], &first["step"], &first["steps"]), (&json!("rollout"), &json!(1), &json!(3)));
    for weight in [6, 7, 8, 9] {
        place.status("fraud", json!({"weight": weight})).await;
        assert_eq!(line().await["weight"], weight);
    }
    place.status("fraud", json!({"phase": "Healthy"})).await;
    assert_eq!(line().await["phase"], "Healthy");
    let done = child.wait_with_output().await.unwrap();
    let errors = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{errors}");
    assert!(errors.contains("The watch broke and is begun again"), "{errors}");
    assert!(proxy.count("watch", "rolloutpolicies") > 3, "{:?}", proxy.asked());
}
