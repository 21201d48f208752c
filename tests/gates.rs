//! Gates of a rollout that measure: a real Prometheus, a real MLflow, real servers and a real API server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless::agent::{Gates, Measured};
use driftless::api::{Gate, GateAnswer, RolloutPolicy};
use driftless::live::kube::{Account, Cluster, Connection};
use driftless::rollout::Measurement;
use driftless::rollout::provider::About;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};

use crate::harness::cluster;
use crate::harness::eventually;
use crate::harness::front::{Fault, Front};
use crate::harness::monitoring::{Mlflow, Prometheus};

/// A cluster that is never asked.
async fn nowhere() -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]});
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    Cluster::connect(&Connection { kubeconfig: Some(kubeconfig), context: None }).await.unwrap()
}

pub(crate) fn gate(provider: Value) -> Gate {
    let mut gate = json!({"name": "g", "interval": "10s"});
    let Value::Object(fields) = provider else { panic!("{provider} is no provider") };
    for (name, value) in fields {
        gate[name] = value;
    }
    serde_json::from_value(gate).unwrap()
}

fn about(candidate: &str) -> About {
    About {
        namespace: "ml".into(),
        target: "fraud".into(),
        candidate: candidate.into(),
        stable_service: "fraud".into(),
        candidate_service: "fraud-candidate".into(),
        revision: "0123456789abcdef".into(),
        policy: "fraud".into(),
        ..About::default()
    }
}

fn done(measured: Measured) -> Measurement {
    match measured {
        Measured::Done(measurement) => measurement,
        Measured::Pending => panic!("it has no answer"),
    }
}

/// Measures, and compares the answer and a part of its message.
pub(crate) async fn check(
    gates: &Gates,
    cluster: &Cluster,
    provider: Value,
    about: &About,
    answer: GateAnswer,
    message: &str,
) {
    let found = done(gates.measure(cluster, &gate(provider.clone()), about).await);
    assert_eq!(found.gate, "g");
    assert!(found.answer == answer && found.message.contains(message), "{provider}: {found:?}");
}

/// What is counted after so many requests to each: one workload is well, one fails at every tenth request, one always, one
/// has no traffic. The candidate's Service, its pods and its revision are well, where those of others fail.
fn metrics(requests: u64) -> String {
    let mut text = String::new();
    let mut count = |name: &str, labels: &str, count: u64| text += &format!("{name}{{{labels}}} {count}\n");
    let istio = r#"reporter="destination",destination_workload_namespace="ml",destination_workload"#;
    for (workload, code, share) in
        [("good", 200, 10), ("bad", 200, 9), ("bad", 503, 1), ("broken", 500, 10), ("idle", 200, 0)]
    {
        let labels = format!("{istio}=\"{workload}\",response_code=\"{code}\"");
        count("istio_requests_total", &labels, requests / 10 * share + 7);
    }
    for (cluster, class) in [
        ("ml_fraud-candidate_80", 2),
        ("kube-system/gateway/ml_fraud-candidate_http", 2),
        ("ml_fraud_80", 5),
        ("other_fraud-candidate_80", 5),
    ] {
        let labels = format!("envoy_cluster_name=\"{cluster}\",envoy_response_code_class=\"{class}\"");
        count("envoy_cluster_upstream_rq_xx", &labels, requests);
    }
    for (revision, class) in [("good", "2xx"), ("goods", "5xx")] {
        let labels =
            format!("namespace_name=\"ml\",revision_name=\"{revision}\",response_code_class=\"{class}\"");
        count("revision_request_count", &labels, requests);
    }
    // Eight of ten within the first limit, one in each of the next.
    for (at, share) in [8, 9, 10, 10].into_iter().enumerate() {
        let mut bucket = |name: &str, labels: &str, limits: [&str; 4]| {
            count(name, &format!("{labels},le=\"{}\"", limits[at]), requests / 10 * share);
        };
        let milliseconds = ["50", "100", "500", "+Inf"];
        bucket("istio_request_duration_milliseconds_bucket", &format!("{istio}=\"good\""), milliseconds);
        let cluster = "envoy_cluster_name=\"ml_fraud-candidate_80\"";
        bucket("envoy_cluster_upstream_rq_time_bucket", cluster, milliseconds);
        let revision = "namespace_name=\"ml\",revision_name=\"good\"";
        bucket("revision_request_latencies_bucket", revision, milliseconds);
        let pod = "namespace=\"ml\",pod=\"good-5d4b7c9f6-x2x4z\",model_name=\"fraud\"";
        bucket("request_predict_seconds_bucket", pod, ["0.05", "0.1", "0.5", "+Inf"]);
        let other = "namespace=\"ml\",pod=\"good-other-5d4b7c9f6-x2x4z\",model_name=\"fraud\"";
        bucket("request_predict_seconds_bucket", other, ["5", "6", "7", "+Inf"]);
    }
    count("request_predict_seconds_count", "namespace=\"ml\",pod=\"good-5d4b7c9f6-x2x4z\"", requests);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_decides() {
    use GateAnswer::{Error, Fail, NoData, Pass};
    let workloads = Arc::new(Front::files().await);
    workloads.put("/metrics", metrics(0));
    let growing = tokio::spawn({
        let workloads = workloads.clone();
        async move {
            for tick in 1u64.. {
                workloads.put("/metrics", metrics(tick * 100));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let prometheus = Prometheus::scraping(&workloads.host).await;
    eventually("requests are counted", || async {
        prometheus.value("sum(rate(istio_requests_total[10s]))").await.filter(|rate| *rate > 0.0)
    })
    .await;

    let (gates, cluster) = (Gates::default(), nowhere().await);
    let address = prometheus.address();
    let asks =
        |query: &str, pass: &str| json!({"prometheus": {"address": address, "query": query, "pass": pass}});
    let known = |metric: &str, pass: &str| {
        json!({"prometheus": {"address": address, "pass": pass,
            "builtin": {"metric": metric, "source": "istio", "window": "10s"}}})
    };
    let both = async |provider: Value, candidate: &str, answer: GateAnswer, message: &str| {
        check(&gates, &cluster, provider, &about(candidate), answer, message).await;
    };
    // Queries that are known.
    both(known("success-rate", "value >= 0.99"), "good", Pass, "1 is value >= 0.99").await;
    both(known("success-rate", "value >= 0.99"), "bad", Fail, "is not value >= 0.99").await;
    both(known("success-rate", "value >= 0.85"), "bad", Pass, "is value >= 0.85").await;
    // Where nothing succeeds there is no series of successes, and that is no lack of data.
    both(known("success-rate", "value >= 0.99"), "broken", Fail, "0 is not value >= 0.99").await;
    both(known("success-rate", "value >= 0.99"), "idle", NoData, "value is NaN").await;
    both(known("success-rate", "value >= 0.99"), "absent", NoData, "the query gives no series").await;
    both(known("latency-p50", "value < 50"), "good", Pass, "is value < 50").await;
    both(known("latency-p99", "value < 100"), "good", Fail, "is not value < 100").await;
    both(known("request-rate", "value > 0"), "good", Pass, "is value > 0").await;
    both(known("request-rate", "value > 0"), "idle", Fail, "0 is not value > 0").await;
    for source in ["istio", "gateway-api-envoy", "kserve", "knative"] {
        let of = |metric: &str, pass: &str| {
            let mut asks = known(metric, pass);
            asks["prometheus"]["builtin"]["source"] = source.into();
            asks
        };
        let rate = if source == "kserve" { "request-rate" } else { "success-rate" };
        let pass = if source == "kserve" { "value > 0" } else { "value == 1" };
        both(of(rate, pass), "good", Pass, "is value").await;
        both(of("request-rate", "value > 10"), "good", Pass, "is value > 10").await;
        both(of("latency-p50", "value > 25 && value < 50"), "good", Pass, "is value").await;
        both(of("latency-p90", "value > 90 && value < 110"), "good", Pass, "is value").await;
        both(of("latency-p95", "value > 100 && value <= 500"), "good", Pass, "is value").await;
        both(of("latency-p99", "value > 400 && value <= 500"), "good", Pass, "is value").await;
        // Of nobody: the cluster of a Service is told by the Service.
        let mut nobody = about("absent");
        nobody.candidate_service = "absent".into();
        check(&gates, &cluster, of("latency-p99", "value > 0"), &nobody, NoData, "no series").await;
        check(&gates, &cluster, of("request-rate", "value > 0"), &nobody, NoData, "no series").await;
    }
    // Own queries.
    let own = r#"sum(rate(istio_requests_total{destination_workload="{{candidate}}",response_code!~"5.."}[{{window}}])) / sum(rate(istio_requests_total{destination_workload="{{candidate}}"}[{{window}}]))"#;
    both(asks(own, "value >= 0.99"), "good", Pass, "1 is value").await;
    both(asks(own, "value >= 0.99"), "bad", Fail, "is not value").await;
    both(asks("up", "value == 1"), "good", Pass, "1 is value == 1").await;
    both(asks("up", "labels.job == 'tests'"), "good", Pass, "1 is labels.job").await;
    both(asks("time()", "value > 1000"), "good", Pass, "is value > 1000").await;
    both(asks("1 / vector(0)", "value < 5"), "good", Fail, "inf is not value < 5").await;
    both(asks("0 / vector(0)", "isNaN(value)"), "good", Pass, "NaN is isNaN(value)").await;
    let many = "sum by (destination_workload) (istio_requests_total)";
    both(asks(many, "value > 0"), "good", Error, "the query gives 4 series").await;
    both(asks(many, "values.all(v, v > 0)"), "good", Pass, "values.all").await;
    both(asks("rate(", "value > 0"), "good", Error, "bad_data: ").await;
    both(asks("sum(rate(up[1m])) by by", "value > 0"), "good", Error, "parse error").await;
    // Over a time.
    let mut range = asks("count(up)", "size(values) >= 1 && values.all(v, v == 1)");
    range["prometheus"]["range"] = json!({"window": "10s", "step": "1s"});
    both(range, "good", Pass, "is size(values) >= 1").await;
    // Not Prometheus, and nobody at all.
    let wrong = json!({"prometheus": {"address": format!("http://{}", workloads.host), "query": "up", "pass": "value > 0"}});
    both(wrong, "good", Error, "HTTP 404: nothing").await;
    let closed = json!({"prometheus": {"address": "http://127.0.0.1:1", "query": "up", "pass": "value > 0"}});
    both(closed, "good", Error, "refused").await;
    growing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_decides() {
    use GateAnswer::{Error, Fail, NoData, Pass};
    let (server, other) = (Front::files().await, Front::files().await);
    server.put("/rate.json", r#"{"data": {"rate": 0.97, "ok": true}}"#);
    server.put("/0123456789abcdef.json", "1");
    server.put("/large.json", "0");
    other.put("/rate.json", r#"{"data": {"rate": 1.0}}"#);
    let (gates, cluster) = (Gates::default(), nowhere().await);
    let host = format!("http://{}", server.host);
    let asks = |path: &str, json: &str, pass: &str| json!({"web": {"url": format!("{host}{path}"), "json": json, "pass": pass}});
    let check = async |provider: Value, answer: GateAnswer, message: &str| {
        check(&gates, &cluster, provider, &about("c"), answer, message).await;
    };
    check(asks("/rate.json", "/data/rate", "value > 0.9"), Pass, "0.97 is value > 0.9").await;
    check(asks("/rate.json", "/data/rate", "value > 0.99"), Fail, "0.97 is not value > 0.99").await;
    check(asks("/rate.json", "result.data.ok", "value && result.data.rate > 0.5"), Pass, "true is").await;
    check(asks("/rate.json", "/data/gone", "value > 0.99"), NoData, "nothing at /data/gone").await;
    check(asks("/{{revision}}.json", "result", "value == 1"), Pass, "1 is value == 1").await;
    check(asks("/gone.json", "result", "value == 1"), Error, "HTTP 404").await;

    // On the same host a redirect is followed, and no other host learns anything.
    server.fault("/again.json", Some(Fault::Redirect("/rate.json".into())));
    check(asks("/again.json", "/data/rate", "value > 0.9"), Pass, "0.97").await;
    server.fault("/away.json", Some(Fault::Redirect(format!("http://{}/rate.json", other.host))));
    check(asks("/away.json", "/data/rate", "value > 0.9"), Error, "it redirects to 127.0.0.1, which is not")
        .await;
    assert_eq!(other.asked(), []);
    server.fault("/loop.json", Some(Fault::Redirect("/loop.json".into())));
    check(asks("/loop.json", "/data/rate", "value > 0.9"), Error, "more than 5 redirects").await;

    // Both with and without saying how much it is.
    server.put("/large.json", vec![b' '; (1 << 20) + 1]);
    check(asks("/large.json", "result", "value == 1"), Error, "larger than 1 MiB").await;
    server.fault("/endless.json", Some(Fault::Endless(3 << 20)));
    check(asks("/endless.json", "result", "value == 1"), Error, "larger than 1 MiB").await;

    server.fault("/slow.json", Some(Fault::Hang));
    let begin = Instant::now();
    check(asks("/slow.json", "result", "value == 1"), Error, "no answer within 10 s").await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    server.fault("/cut.json", Some(Fault::Cut(1)));
    server.put("/cut.json", "12345");
    check(asks("/cut.json", "result", "value == 1"), Error, "").await;
    server.fault("/fails.json", Some(Fault::Status(503)));
    check(asks("/fails.json", "result", "value == 1"), Error, "HTTP 503").await;

    let at = |url: &str| json!({"web": {"url": url, "pass": "value == 1"}});
    check(at("http://nobody.invalid/"), Error, "").await;
    check(at("http://169.254.169.254/latest/meta-data"), Error, "link-local").await;
    check(at("http://[fe80::1]/"), Error, "link-local").await;
    check(at(&format!("https://{}/rate.json", server.host)), Error, "").await;
    check(json!({}), Error, "does not say what it asks").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_compared() {
    use GateAnswer::{Error, Fail, NoData, Pass};
    let mlflow = Mlflow::start().await;
    mlflow.post("registered-models/create", json!({"name": "fraud"})).await;
    let version = async |value: Value, state: &str| mlflow.version("fraud", "auc", value, state).await;
    let champion = version(json!(0.91), "FINISHED").await;
    let better = version(json!(0.93), "FINISHED").await;
    let worse = version(json!(0.90), "FINISHED").await;
    let diverged = version(json!("NaN"), "FINISHED").await;
    let unmeasured = version(Value::Null, "FINISHED").await;
    let running = version(json!(0.99), "RUNNING").await;
    let failed = version(json!(0.99), "FAILED").await;
    let (gates, cluster) = (Gates::default(), nowhere().await);
    let asks = |version: &str, more: Value| {
        let mut asks = json!({"mlflow": {"address": mlflow.address(), "model": "fraud", "metric": "auc"}});
        if !version.is_empty() {
            asks["mlflow"]["candidateVersion"] = version.into();
        }
        for (name, value) in more.as_object().unwrap() {
            asks["mlflow"][name] = value.clone();
        }
        asks
    };
    let check = async |provider: Value, answer: GateAnswer, message: &str| {
        check(&gates, &cluster, provider, &about("c"), answer, message).await;
    };
    check(asks(&better, json!({})), Error, "the champion: ").await;
    check(asks(&better, json!({"pass": "candidate > 0.92"})), Pass, "auc 0.93 of the candidate is").await;
    mlflow.alias("fraud", "champion", &champion).await;
    mlflow.alias("fraud", "challenger", &better).await;
    check(asks(&better, json!({})), Pass, "auc 0.93 of the candidate, 0.91 of the champion, is candidate >=")
        .await;
    check(asks("", json!({"candidateAlias": "challenger"})), Pass, "auc 0.93 of the candidate").await;
    check(asks(&worse, json!({})), Fail, "auc 0.9 of the candidate, 0.91 of the champion, is not").await;
    check(asks(&worse, json!({"tolerance": 0.02})), Pass, "auc 0.9 of the candidate, 0.91").await;
    check(asks(&worse, json!({"tolerance": 0.005})), Fail, "is not candidate >= champion - tolerance").await;
    check(asks(&worse, json!({"higherIsBetter": false})), Pass, "is candidate <= champion + tolerance").await;
    check(asks(&diverged, json!({})), Fail, "auc NaN of the candidate").await;
    check(asks(&unmeasured, json!({})), NoData, "the candidate's run has no metric auc").await;
    check(asks(&running, json!({})), NoData, "the candidate's run is RUNNING").await;
    check(asks(&failed, json!({})), Error, "the candidate's run is FAILED").await;
    check(asks("99", json!({})), Error, "the candidate: RESOURCE_DOES_NOT_EXIST: ").await;
    check(asks(&better, json!({"model": "x"})), Error, "RESOURCE_DOES_NOT_EXIST").await;
    check(asks(&better, json!({"championAlias": "nobody"})), Error, "the champion: ").await;
}

/// By MLflow's own library: what it says of models, datasets and runs is what people have.
#[tokio::test(flavor = "multi_thread")]
async fn models_are_compared_on_the_same_data() {
    use GateAnswer::{Error, Fail, NoData, Pass};
    let mlflow = Mlflow::start().await;
    // Of each version what was measured of it: dataset, its content, the metric.
    let versions: [&[(&str, f64, f64)]; 5] = [
        &[("eval", 1.0, 0.91), ("train", 9.0, 0.99)],
        &[("eval", 1.0, 0.93), ("train", 9.0, 0.95)],
        &[("eval", 1.0, 0.90), ("train", 9.0, 0.999)],
        &[("eval", 2.0, 0.97), ("train", 9.0, 0.99)],
        &[("eval", 1.0, 0.94), ("eval", 2.0, 0.5)],
    ];
    mlflow.evaluate_models("fraud", "auc", &versions).await;
    mlflow.alias("fraud", "champion", "1").await;
    // A version without a logged model, whose run says on what it was measured; and one whose run does not.
    let digest = mlflow.dataset_of("fraud", "1", "eval").await;
    let plain = mlflow.version("fraud", "auc", json!(0.95), "FINISHED").await;
    mlflow.log_inputs("fraud", &plain, &[("eval", &digest)]).await;
    let unclear = mlflow.version("fraud", "auc", json!(0.95), "FINISHED").await;
    mlflow.log_inputs("fraud", &unclear, &[("eval", &digest), ("train", "abc")]).await;
    let bare = mlflow.version("fraud", "auc", json!(0.95), "FINISHED").await;

    let (gates, cluster) = (Gates::default(), nowhere().await);
    let asks = |version: &str, more: Value| {
        let mut asks = json!({"mlflow": {"address": mlflow.address(), "model": "fraud", "metric": "auc",
            "candidateVersion": version, "dataset": "eval"}});
        asks["mlflow"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asks
    };
    let check = async |provider: Value, answer: GateAnswer, message: &str| {
        check(&gates, &cluster, provider, &about("c"), answer, message).await;
    };
    let on = |value: &str| format!("auc on eval ({digest}) {value} of the candidate");
    check(asks("2", json!({})), Pass, &format!("{}, 0.91 of the champion, is", on("0.93"))).await;
    // Better where it learned, worse where it counts.
    check(asks("3", json!({})), Fail, &format!("{}, 0.91 of the champion, is not", on("0.9"))).await;
    check(asks("3", json!({"dataset": "train"})), Pass, "auc on train (").await;
    check(asks("4", json!({})), NoData, "auc on dataset eval is not of the same content: digest ").await;
    check(asks("4", json!({"pass": "candidate > 0.9"})), Pass, "0.97 of the candidate").await;
    // On what both were measured on, though something newer is there.
    check(asks("5", json!({})), Pass, &format!("{}, 0.91", on("0.94"))).await;
    check(asks("2", json!({"dataset": "other"})), NoData, "has no auc on dataset other, but on eval, train")
        .await;
    check(asks("2", json!({"metric": "f1"})), NoData, "the candidate's model has no f1 on dataset eval")
        .await;
    check(asks(&plain, json!({})), Pass, &format!("{}, 0.91 of the champion", on("0.95"))).await;
    check(asks(&unclear, json!({})), Error, "several datasets (eval, train)").await;
    check(asks(&bare, json!({})), NoData, "the candidate's run has no dataset eval").await;
}

/// A namespace, the CRD, and a policy that owns what its gates make.
pub(crate) async fn owner(client: &kube::Client, namespace: &str) -> About {
    cluster::namespace(client, namespace).await;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = RolloutPolicy::crd();
    let parameters = PatchParams::apply("tests").force();
    crds.patch(&definition.name_any(), &parameters, &Patch::Apply(&definition))
        .await
        .expect("a structural schema");
    let policies: Api<RolloutPolicy> = Api::namespaced(client.clone(), namespace);
    let made = eventually("the CRD is served", || async {
        let policy = stated(json!({"web": {"url": "http://x", "pass": "value > 1"}}));
        policies.create(&PostParams::default(), &policy).await.ok()
    })
    .await;
    About {
        namespace: namespace.into(),
        uid: made.uid().unwrap(),
        turn: "first".into(),
        ..about("fraud-candidate")
    }
}

fn stated(provider: Value) -> RolloutPolicy {
    let gate = serde_json::to_value(gate(provider)).unwrap();
    let spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud"},
        "strategy": {"canary": {"steps": [{"weight": 5, "gates": ["g"]}]}}, "gates": [gate]});
    serde_json::from_value(json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "RolloutPolicy",
        "metadata": {"name": "fraud"}, "spec": spec}))
    .unwrap()
}

pub(crate) async fn connected() -> (kube::Client, Cluster) {
    let plane = cluster::control_plane();
    let client = cluster::client(&plane).await;
    let connection = Connection { kubeconfig: Some(plane.kubeconfig.clone()), context: None };
    (client, Cluster::connect(&connection).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_two_providers() {
    let (client, _) = connected().await;
    let namespace = "gates-schema";
    owner(&client, namespace).await;
    let policies: Api<RolloutPolicy> = Api::namespaced(client.clone(), namespace);
    let refused = async |provider: Value, wanted: &str| {
        let mut policy = stated(provider);
        policy.metadata.name = Some("other".into());
        let error = policies.create(&PostParams::default(), &policy).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    let web = json!({"url": "http://x", "pass": "value > 1"});
    let job = json!({"template": {"template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}}});
    refused(
        json!({"web": web, "job": job}),
        "give one of prometheus, compare, web, job, workflow, object, mlflow and approval",
    )
    .await;
    let neither = json!({"prometheus": {"address": "http://x", "pass": "value > 1"}});
    refused(neither, "give either query or builtin").await;
    refused(json!({"web": {"url": "ftp://x", "pass": "value > 1"}}), "spec.gates[0].web.url").await;
    let mut whole = stated(json!({"job": job}));
    whole.metadata.name = Some("job".into());
    let made = policies.create(&PostParams::default(), &whole).await.unwrap();
    assert_eq!(
        made.spec.gates[0].job.as_ref().unwrap().template["template"]["spec"]["containers"][0]["image"],
        "x"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_decide() {
    use GateAnswer::{Fail, NoData, Pass};
    let (client, cluster) = connected().await;
    cluster::node(&client).await;
    let about = owner(&client, "gates-jobs").await;
    let jobs: Api<Job> = Api::namespaced(client.clone(), "gates-jobs");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "gates-jobs");
    let ends = json!({"template": {"template": {"spec": {
        "containers": [{"name": "a", "image": "x", "args": ["{{candidate}}"]}]}}}});
    let ended = async |gate: &Gate, about: &About| {
        eventually("the Job ends", || async {
            // Another process each time.
            match Gates::default().measure(&cluster, gate, about).await {
                Measured::Done(found) => Some(found),
                Measured::Pending => None,
            }
        })
        .await
    };
    // The same measurement has one Job, whoever asks how often.
    let smoke = gate(json!({"job": ends}));
    assert_eq!(Gates::default().measure(&cluster, &smoke, &about).await, Measured::Pending);
    let found = ended(&smoke, &about).await;
    assert!(found.answer == Pass && found.message.contains("succeeded"), "{found:?}");
    let all = jobs.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1);
    let first = all[0].name_any();
    assert!(first.starts_with("fraud-g-"), "{first}");
    assert_eq!(all[0].owner_references()[0].uid, about.uid);
    let pod = all[0].spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    assert_eq!(pod.containers[0].args.as_deref(), Some(&["fraud-candidate".to_owned()][..]));

    // The next one has another, and its result is judged.
    let about = About { turn: "second".into(), ..about };
    let mut judged = ends.clone();
    judged["pass"] = "result.accuracy > 0.9".into();
    let judged = gate(json!({"job": judged}));
    let found = ended(&judged, &about).await;
    assert!(found.answer == NoData && found.message.contains("left no termination message"), "{found:?}");
    let all = jobs.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 2);
    let second = all.iter().map(ResourceExt::name_any).find(|name| *name != first).unwrap();
    let its = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={second}"));
    let pod = pods.list(&its).await.unwrap().items.remove(0).name_any();
    for (message, answer, words) in [
        (r#"{"accuracy": 0.93}"#, Pass, "is result.accuracy > 0.9"),
        (r#"{"accuracy": 0.5}"#, Fail, "is not result.accuracy > 0.9"),
        ("done", GateAnswer::Error, "is no JSON"),
    ] {
        // There is no kubelet that could read it of a container.
        let status = json!({"status": {"containerStatuses": [{"name": "a", "image": "x", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 0, "message": message}}}]}});
        pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        let found = ended(&judged, &about).await;
        assert!(found.answer == answer && found.message.contains(words), "{message}: {found:?}");
    }

    // A Job that fails, here because there is no node for it in a second.
    let about = About { turn: "third".into(), ..about };
    let mut fails = ends.clone();
    fails["template"]["activeDeadlineSeconds"] = 1.into();
    fails["template"]["template"]["spec"]["nodeSelector"] = json!({"no": "such"});
    let found = ended(&gate(json!({"job": fails})), &about).await;
    assert!(found.answer == Fail && found.message.contains("DeadlineExceeded"), "{found:?}");

    // What the API server refuses, and a Job of somebody else.
    let about = About { turn: "fourth".into(), ..about };
    let mut odd = ends.clone();
    odd["template"]["template"]["spec"]["restartPolicy"] = "Sometimes".into();
    check(&Gates::default(), &cluster, json!({"job": odd}), &about, GateAnswer::Error, "restartPolicy").await;
    assert_eq!(Gates::default().measure(&cluster, &smoke, &about).await, Measured::Pending);
    for job in jobs.list(&ListParams::default()).await.unwrap().items {
        let stolen = json!({"metadata": {"ownerReferences": null}});
        jobs.patch(&job.name_any(), &PatchParams::default(), &Patch::Merge(&stolen)).await.unwrap();
    }
    check(&Gates::default(), &cluster, json!({"job": ends}), &about, GateAnswer::Error, "not of this policy")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_and_secrets_are_those_of_the_account() {
    use GateAnswer::{Error, Fail, NoData, Pass};
    let (client, cluster) = connected().await;
    let namespace = "gates-account";
    let about = owner(&client, namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = async |name: &str, data: Value| {
        let secret = json!({"metadata": {"name": name}, "stringData": data});
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    };
    secret("basic", json!({"username": "robot", "password": "s3cr3t-word\n"})).await;
    secret("wrong", json!({"username": "robot", "password": "other"})).await;
    secret("token", json!({"token": "t0ken-word", "mine": "m1ne-word"})).await;
    secret("odd", json!({"a": "b"})).await;
    let server = Front::files().await;
    server.put("/rate.json", "0.97");
    let asks = |secret: Value| json!({"web": {"url": format!("http://{}/rate.json", server.host), "pass": "value > 0.9", "secretRef": secret}});
    let gates = Gates::default();
    let check = async |cluster: &Cluster, provider: Value, answer: GateAnswer, message: &str| {
        check(&gates, cluster, provider, &about, answer, message).await;
    };
    let sent = || server.asked().pop().and_then(|asked| asked.authorization);
    check(&cluster, asks(json!({"name": "token"})), Pass, "0.97").await;
    assert_eq!(sent().as_deref(), Some("Bearer t0ken-word"));
    check(&cluster, asks(json!({"name": "token", "key": "mine"})), Pass, "0.97").await;
    assert_eq!(sent().as_deref(), Some("Bearer m1ne-word"));
    check(&cluster, asks(json!({"name": "token", "key": "mine", "header": "Authorization"})), Pass, "0.97")
        .await;
    assert_eq!(sent().as_deref(), Some("m1ne-word"));
    check(&cluster, asks(json!({"name": "token", "key": "gone"})), Error, "has no key gone").await;
    check(&cluster, asks(json!({"name": "odd"})), Error, "Secret gates-account/odd has none of bearerToken")
        .await;
    check(&cluster, asks(json!({"name": "gone"})), Error, "there is no Secret gates-account/gone").await;
    // A server that repeats what it was sent.
    server.fault("/rate.json", Some(Fault::Instead(b"you sent t0ken-word".to_vec())));
    let found = done(gates.measure(&cluster, &gate(asks(json!({"name": "token"}))), &about).await);
    assert!(found.answer == Error && !found.message.contains("t0ken-word"), "{found:?}");
    server.fault("/rate.json", None);
    server.protect("robot:s3cr3t-word");
    check(&cluster, asks(json!({"name": "basic"})), Pass, "0.97").await;
    check(&cluster, asks(json!({"name": "wrong"})), Error, "HTTP 401").await;

    // A server whose certificate is known to nobody else: the API server's own.
    let plane = cluster::control_plane();
    if !plane.server.is_empty() {
        let folder = plane.kubeconfig.parent().unwrap().join("certificates");
        let authority = std::fs::read_to_string(folder.join("apiserver.crt")).unwrap();
        secret("authority", json!({"ca.crt": authority})).await;
        secret("admin", json!({"caFile": authority, "bearerToken": plane.token})).await;
        let asks = |path: &str, more: Value| {
            let mut asks = json!({"web": {"url": format!("{}{path}", plane.server), "pass": "has(result.major) || result.kind == 'Namespace'"}});
            asks["web"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            asks
        };
        let by = |name: &str| json!({"secretRef": {"name": name}});
        check(&cluster, asks("/version", json!({})), Error, "certificate").await;
        check(&cluster, asks("/version", json!({"insecureSkipVerify": true})), Pass, "").await;
        check(&cluster, asks("/version", by("authority")), Pass, "").await;
        check(&cluster, asks("/api/v1/namespaces/default", by("authority")), Error, "HTTP 403").await;
        check(&cluster, asks("/api/v1/namespaces/default", by("admin")), Pass, "").await;
    }

    // An account that may read one Secret and Services, and nothing else.
    let create = PostParams::default();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let named = |value: Value| serde_json::from_value(value).unwrap();
    accounts.create(&create, &named(json!({"metadata": {"name": "team"}}))).await.unwrap();
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
    let role = json!({"metadata": {"name": "team"}, "rules": [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["basic"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]});
    roles.create(&create, &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
    let binding = json!({"metadata": {"name": "team"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "team"},
        "subjects": [{"kind": "ServiceAccount", "name": "team", "namespace": namespace}]});
    bindings.create(&create, &serde_json::from_value(binding).unwrap()).await.unwrap();
    let team = cluster.acting_as(&Account { namespace: namespace.into(), name: "team".into() }).unwrap();
    eventually("the account may read its Secret", || async {
        let found = done(gates.measure(&team, &gate(asks(json!({"name": "basic"}))), &about).await);
        (found.answer == Pass).then_some(())
    })
    .await;
    check(&team, asks(json!({"name": "token"})), Error, "forbidden").await;
    let object = |version: &str, kind: &str, name: &str, pass: &str| json!({"object": {"apiVersion": version, "kind": kind, "name": name, "pass": pass}});
    check(
        &team,
        object("v1", "Service", "{{service}}", "object.spec.type == 'ClusterIP'"),
        NoData,
        "no Service fraud",
    )
    .await;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(client.clone(), namespace);
    let service = json!({"metadata": {"name": "fraud"}, "spec": {"ports": [{"port": 80}]}});
    services.create(&create, &serde_json::from_value(service).unwrap()).await.unwrap();
    let port = |pass: &str| object("v1", "Service", "{{service}}", pass);
    check(&team, port("object.spec.ports[0].port == 80"), Pass, "Service fraud is object.spec").await;
    check(&team, port("object.spec.ports[0].port > 80"), Fail, "Service fraud is not object.spec").await;
    check(&team, port("object.spec.nothing > 80"), Error, "nothing").await;
    check(&team, object("v1", "ConfigMap", "a", "true"), Error, "forbidden").await;
    check(&team, object("v1", "Node", "node-0", "true"), Error, "lives in no namespace").await;
    check(&team, object("example.com/v1", "Thing", "a", "true"), Error, "does not serve").await;
}
