//! Model servers in this process, and users who never stop asking.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::json;
use tokio::task::{AbortHandle, JoinHandle};

use super::registry::client;

/// How a version behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) name: &'static str,
    /// Of ten requests, so many fail.
    pub(crate) fails: u64,
    /// Of ten requests, so many take 300 ms instead of 20.
    pub(crate) slow: u64,
}

/// Limits of the histogram, in seconds.
const LIMITS: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, f64::INFINITY];

#[derive(Default)]
struct Counts {
    codes: BTreeMap<u16, u64>,
    /// By limit, each with those below.
    took: [u64; LIMITS.len()],
    sum: f64,
}

struct Served {
    version: Version,
    pod: String,
    asked: AtomicU64,
    counts: Mutex<Counts>,
}

/// A model server; ends when dropped.
pub(crate) struct Model {
    pub(crate) port: u16,
    task: AbortHandle,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Model {
    /// Serves a version as a pod of this name.
    pub(crate) async fn serve(version: Version, pod: &str) -> Self {
        let counts = Counts { codes: [(200, 0), (500, 0)].into(), ..Counts::default() };
        let served =
            Arc::new(Served { version, pod: pod.into(), asked: 0.into(), counts: Mutex::new(counts) });
        let routes = Router::new()
            .route("/v1/models/fraud:predict", post(predict))
            .route("/metrics", get(metrics))
            .with_state(served);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let task = tokio::spawn(async move { axum::serve(listener, routes).await }).abort_handle();
        Self { port, task }
    }
}

async fn predict(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let begin = Instant::now();
    let number = served.asked.fetch_add(1, Ordering::Relaxed);
    // Spread over the ten.
    let turn = number * 3 % 10;
    let slow = turn < served.version.slow;
    tokio::time::sleep(Duration::from_millis(if slow { 300 } else { 20 })).await;
    let failed = turn < served.version.fails;
    let (code, body) = if failed {
        (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": "the model failed"}))
    } else {
        (StatusCode::OK, json!({"predictions": [0.5], "model_version": served.version.name}))
    };
    let took = begin.elapsed().as_secs_f64();
    let mut counts = served.counts.lock().unwrap();
    *counts.codes.entry(code.as_u16()).or_default() += 1;
    for (count, limit) in counts.took.iter_mut().zip(LIMITS) {
        *count += u64::from(took <= limit);
    }
    counts.sum += took;
    let pod = [("x-pod", served.pod.clone())];
    (code, pod, [("content-type", "application/json")], body.to_string())
}

async fn metrics(State(served): State<Arc<Served>>) -> String {
    let counts = served.counts.lock().unwrap();
    let version = served.version.name;
    let mut text = "# TYPE requests_total counter\n".to_owned();
    for (code, count) in &counts.codes {
        writeln!(text, "requests_total{{version=\"{version}\",code=\"{code}\"}} {count}").unwrap();
    }
    // As KServe's servers have it.
    let name = "request_predict_seconds";
    writeln!(text, "# TYPE {name} histogram").unwrap();
    let labels = format!("version=\"{version}\",model_name=\"fraud\"");
    for (count, limit) in counts.took.iter().zip(LIMITS) {
        let limit = if limit.is_finite() { limit.to_string() } else { "+Inf".to_owned() };
        writeln!(text, "{name}_bucket{{{labels},le=\"{limit}\"}} {count}").unwrap();
    }
    writeln!(text, "{name}_sum{{{labels}}} {}", counts.sum).unwrap();
    writeln!(text, "{name}_count{{{labels}}} {}", counts.took[LIMITS.len() - 1]).unwrap();
    text
}

/// What a user got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// When it was asked.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// 0 where there was no answer at all.
    pub(crate) code: u16,
    /// Who answered.
    pub(crate) pod: String,
    /// What was said, where nobody's name was.
    pub(crate) body: String,
}

/// Users who ask at a constant rate, whatever the answers; they end when this is dropped.
pub(crate) struct Load {
    answers: Arc<Mutex<Vec<Answer>>>,
    task: JoinHandle<()>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Load {
    /// Posts `body` this often.
    pub(crate) fn start(url: String, body: &'static str, every: Duration) -> Self {
        Self::with(url, body, every, HeaderMap::new())
    }

    /// The same with headers.
    pub(crate) fn with(url: String, body: &'static str, every: Duration, headers: HeaderMap) -> Self {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (shared, client) = (answers.clone(), client());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                let request = client.post(&url).header("content-type", "application/json").body(body);
                let request = request.headers(headers.clone());
                let shared = shared.clone();
                tokio::spawn(async move {
                    let at = Instant::now();
                    let (code, pod, body) = match request.send().await {
                        Ok(answer) => {
                            let (code, pod) = (answer.status().as_u16(), named(answer.headers()));
                            answer
                                .text()
                                .await
                                .map_or((0, String::new(), String::new()), |text| (code, pod, text))
                        }
                        Err(error) => (0, String::new(), error.to_string()),
                    };
                    let answer = Answer { at, took: at.elapsed(), code, pod, body };
                    shared.lock().unwrap().push(answer);
                });
            }
        });
        Self { answers, task }
    }

    /// All answers until now.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap().clone()
    }
}

fn named(headers: &HeaderMap) -> String {
    headers.get("x-pod").and_then(|pod| pod.to_str().ok()).unwrap_or_default().to_owned()
}
