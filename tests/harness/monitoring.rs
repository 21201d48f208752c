//! Servers of other projects, as these make them: those that gates ask (Prometheus, MLflow), and a proxy (`haproxy`).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use super::eventually;
use super::registry::client;

/// As the shell of the other parts, but the program's children end with it.
const SHELL: &str = r#"setsid "$@" >&2 & echo $!; read -r _; kill -- -$! 2>/dev/null; wait $!"#;

/// A running server; ends when dropped, or with this process.
pub(super) struct Running {
    command: Vec<String>,
    shell: Child,
    alive: Option<ChildStdin>,
    pub(super) folder: tempfile::TempDir,
    /// `127.0.0.1:PORT`.
    pub(super) host: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The program, installed by the first test that needs it.
pub(super) async fn program(name: &'static str) -> PathBuf {
    let install = move || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/monitoring/install.sh");
        let done = Command::new(script).arg(name).stderr(Stdio::inherit()).output().expect("run install.sh");
        assert!(done.status.success(), "{name} could not be installed");
        PathBuf::from(String::from_utf8(done.stdout).expect("a path").trim())
    };
    tokio::task::spawn_blocking(install).await.expect("installed")
}

impl Running {
    pub(super) fn start(
        folder: tempfile::TempDir,
        command: impl FnOnce(&Path, &str) -> Vec<String>,
        variables: &[(&str, &str)],
    ) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = socket.local_addr().expect("an address").to_string();
        drop(socket);
        let command = command(folder.path(), &host);
        let (shell, alive) = launch(&command, folder.path(), variables);
        Self { command, shell, alive, folder, host }
    }

    /// Ends it; [`Self::again`] starts it anew.
    fn stop(&mut self) {
        drop(self.alive.take());
        let _ = self.shell.wait();
    }

    /// Starts it where it was, with what it had.
    fn again(&mut self) {
        self.stop();
        (self.shell, self.alive) = launch(&self.command, self.folder.path(), &[]);
    }

    pub(super) async fn answers(&self, path: &str) {
        let url = format!("http://{}{path}", self.host);
        let client = client();
        eventually(&format!("{url} answers; see {}", self.folder.path().display()), || async {
            client.get(&url).send().await.ok()?.error_for_status().ok().map(|_| ())
        })
        .await;
    }
}

fn launch(command: &[String], folder: &Path, variables: &[(&str, &str)]) -> (Child, Option<ChildStdin>) {
    let mut shell = Command::new("sh")
        .args(["-c", SHELL, "sh"])
        .args(command)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(folder.join("log")).expect("a log"))
        .spawn()
        .expect("start a server");
    let mut line = String::new();
    BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("its id");
    let alive = shell.stdin.take();
    (shell, alive)
}

/// A Prometheus that scrapes servers every half second.
pub(crate) struct Prometheus {
    running: Running,
}

impl Prometheus {
    /// Scrapes `/metrics` of `target` (`127.0.0.1:PORT`).
    pub(crate) async fn scraping(target: &str) -> Self {
        Self::start(json!({"static_configs": [{"targets": [target]}]})).await
    }

    /// Scrapes whatever it is told to by [`Self::targets`].
    pub(crate) async fn following() -> Self {
        Self::start(json!({"file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]})).await
    }

    /// What it is to scrape: addresses with their labels.
    pub(crate) fn targets(&self, all: &[(String, Value)]) {
        let all: Vec<Value> =
            all.iter().map(|(host, labels)| json!({"targets": [host], "labels": labels})).collect();
        let (new, file) = ["new", "targets.json"].map(|name| self.running.folder.path().join(name)).into();
        std::fs::write(&new, Value::from(all).to_string()).expect("written");
        std::fs::rename(new, file).expect("renamed");
    }

    /// Ends it; [`Self::again`] starts it anew.
    pub(crate) fn stop(&mut self) {
        self.running.stop();
    }

    /// Starts it where it was, with what it knew.
    pub(crate) async fn again(&mut self) {
        self.running.again();
        self.running.answers("/-/ready").await;
    }

    async fn start(mut scraped: Value) -> Self {
        let program = program("prometheus").await;
        let folder = tempfile::tempdir().expect("a folder");
        scraped["job_name"] = "tests".into();
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
            "scrape_configs": [scraped]});
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).expect("written");
        let command = |folder: &Path, host: &str| {
            let at = |name: &str| folder.join(name).display().to_string();
            vec![
                program.display().to_string(),
                format!("--config.file={}", at("prometheus.yml")),
                format!("--storage.tsdb.path={}", at("data")),
                format!("--web.listen-address={host}"),
                "--log.level=warn".to_owned(),
            ]
        };
        let running = Running::start(folder, command, &[]);
        running.answers("/-/ready").await;
        Self { running }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.running.host)
    }

    /// The value of a query that gives one.
    pub(crate) async fn value(&self, query: &str) -> Option<f64> {
        let url = format!("{}/api/v1/query", self.address());
        let url = reqwest::Url::parse_with_params(&url, [("query", query)]).expect("an address");
        let text = client().get(url).send().await.ok()?.text().await.ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        answer.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()
    }
}

/// An MLflow with a database of its own.
pub(crate) struct Mlflow {
    running: Running,
}

impl Mlflow {
    /// Starts one (some 10 s).
    pub(crate) async fn start() -> Self {
        let program = program("mlflow").await;
        let folder = tempfile::tempdir().expect("a folder");
        let command = |folder: &Path, host: &str| {
            let port = host.rsplit(':').next().expect("a port");
            let folder = folder.display();
            [
                &program.display().to_string(),
                "server",
                "--backend-store-uri",
                &format!("sqlite:///{folder}/mlflow.db"),
                "--artifacts-destination",
                &format!("{folder}/artifacts"),
                "--host",
                "127.0.0.1",
                "--port",
                port,
                "--workers",
                "1",
            ]
            .map(str::to_owned)
            .to_vec()
        };
        // It would start a second server for jobs.
        let running = Running::start(folder, command, &[("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")]);
        running.answers("/health").await;
        Self { running }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.running.host)
    }

    /// Posts to its REST API.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.address());
        let request = client().post(url).header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("a text"));
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A version of a model whose run has this metric, which it may have as a text such as NaN; the version's number.
    pub(crate) async fn version(&self, model: &str, metric: &str, value: Value, state: &str) -> String {
        let run = self.post("runs/create", json!({"experiment_id": "0"})).await;
        let run = run["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
        if !value.is_null() {
            let metric = json!({"run_id": run, "key": metric, "value": value, "timestamp": 1});
            self.post("runs/log-metric", metric).await;
        }
        self.post("runs/update", json!({"run_id": run, "status": state})).await;
        let source = format!("runs:/{run}/model");
        let made = json!({"name": model, "source": source, "run_id": run});
        let made = self.post("model-versions/create", made).await;
        made["model_version"]["version"].as_str().expect("a number").to_owned()
    }

    /// Points an alias to a version.
    pub(crate) async fn alias(&self, model: &str, alias: &str, version: &str) {
        let body = json!({"name": model, "alias": alias, "version": version});
        self.post("registered-models/alias", body).await;
    }

    /// Logs models by MLflow's own library: each a version of a registered model whose run has a metric, and which
    /// predicts a constant.
    pub(crate) async fn log_models(&self, model: &str, metric: &str, versions: &[(&str, f64)]) {
        let python = program("mlflow").await.with_file_name("python");
        let mut command = tokio::process::Command::new(python);
        command.args(["-c", LOG, model, metric]).env("MLFLOW_TRACKING_URI", self.address());
        command.args(versions.iter().map(|(metric, value)| format!("{metric} {value}")));
        let done = command.output().await.expect("python runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// By MLflow's own library: versions of a registered model, and for each what other runs measured of it: a dataset by name,
    /// its content, and the metric.
    pub(crate) async fn evaluate_models(&self, model: &str, metric: &str, versions: &[&[(&str, f64, f64)]]) {
        let python = program("mlflow").await.with_file_name("python");
        let mut command = tokio::process::Command::new(python);
        command.args(["-c", EVALUATE, model, metric]).env("MLFLOW_TRACKING_URI", self.address());
        command.arg(serde_json::to_string(versions).expect("JSON"));
        let done = command.output().await.expect("python runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.address());
        let text = client().get(url).send().await.expect("an answer").text().await.expect("a text");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The digest of a dataset on which a version was measured.
    pub(crate) async fn dataset_of(&self, model: &str, version: &str, dataset: &str) -> String {
        let found = self.get(&format!("model-versions/get?name={model}&version={version}")).await;
        let source = found["model_version"]["source"].as_str().expect("a source").to_owned();
        let id = source.strip_prefix("models:/").expect("a logged model");
        let logged = self.get(&format!("logged-models/{id}")).await;
        let metrics = logged["model"]["data"]["metrics"].as_array().expect("metrics").clone();
        let of_it = metrics.iter().find(|metric| metric["dataset_name"] == dataset).expect("one on it");
        of_it["dataset_digest"].as_str().expect("a digest").to_owned()
    }

    /// Says that the run of a version has these datasets, by name and digest.
    pub(crate) async fn log_inputs(&self, model: &str, version: &str, datasets: &[(&str, &str)]) {
        let found = self.get(&format!("model-versions/get?name={model}&version={version}")).await;
        let datasets: Vec<Value> = datasets
            .iter()
            .map(|(name, digest)| json!({"tags": [], "dataset": {"name": name, "digest": digest, "source_type": "local", "source": "{}"}}))
            .collect();
        let run = &found["model_version"]["run_id"];
        self.post("runs/log-inputs", json!({"run_id": run, "datasets": datasets})).await;
    }

    /// Serves a model that it knows, as MLflow does.
    pub(crate) async fn serve(&self, model: &str) -> ServedModel {
        let program = program("mlflow").await;
        let folder = tempfile::tempdir().expect("a folder");
        let tracking = self.address();
        // It starts its server by name.
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", program.parent().expect("a folder").display());
        let command = |_: &Path, host: &str| {
            let port = host.rsplit(':').next().expect("a port");
            let program = program.display().to_string();
            let options = [
                "models",
                "serve",
                "-m",
                model,
                "--env-manager",
                "local",
                "--host",
                "127.0.0.1",
                "--port",
                port,
            ];
            [program].into_iter().chain(options.map(str::to_owned)).collect()
        };
        let running = Running::start(folder, command, &[("MLFLOW_TRACKING_URI", &tracking), ("PATH", &path)]);
        running.answers("/ping").await;
        ServedModel(running)
    }
}

/// Arguments: a model, a metric, and for each version the metric's value and what it predicts.
const LOG: &str = r#"
import mlflow, sys
class Constant(mlflow.pyfunc.PythonModel):
    def __init__(self, value):
        self.value = value
    def predict(self, context, model_input, params=None):
        return [self.value] * len(model_input)
model, metric, *versions = sys.argv[1:]
for version in versions:
    score, value = map(float, version.split())
    with mlflow.start_run():
        mlflow.log_metric(metric, score)
        mlflow.pyfunc.log_model(name="model", python_model=Constant(value), registered_model_name=model, pip_requirements=[])
"#;

/// Arguments: a model, a metric, and for each version a list of datasets with their content and the metric on it.
const EVALUATE: &str = r#"
import json, mlflow, numpy, sys
class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [0.0] * len(model_input)
model, metric, versions = sys.argv[1:]
for measured in json.loads(versions):
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(name="model", python_model=Constant(), registered_model_name=model, pip_requirements=[])
    for name, content, value in measured:
        data = mlflow.data.from_numpy(numpy.array([content]), name=name)
        with mlflow.start_run():
            mlflow.log_input(data, context="evaluation")
            mlflow.log_metric(metric, value, dataset=data, model_id=logged.model_id)
"#;

/// A model that MLflow serves; ends when dropped.
pub(crate) struct ServedModel(Running);

impl ServedModel {
    /// Where, on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.0.host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }
}
