//! One control plane for a whole process, and agents against it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use driftless::api::{Application, POKE, Project};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use super::eventually;

/// Where a control plane is reached.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ControlPlane {
    /// Path of its kubeconfig, with cluster-admin.
    pub(crate) kubeconfig: PathBuf,
    /// Address.
    pub(crate) server: String,
    /// Bearer token of the kubeconfig.
    pub(crate) token: String,
    /// Names and process ids.
    #[serde(default)]
    pub(crate) processes: BTreeMap<String, u32>,
}

/// A control plane that ends when this is dropped, or with this process.
pub(crate) struct Running {
    /// Where it is reached.
    pub(crate) plane: ControlPlane,
    _folder: Option<tempfile::TempDir>,
    /// The control plane ends when this closes, which the kernel does however this process ends.
    alive: Option<ChildStdin>,
    process: Option<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// The control plane of this process; started at the first call (3 s, or 5 minutes when it must be built).
pub(crate) fn control_plane() -> ControlPlane {
    RUNNING.get_or_init(|| launch(None, "controller-manager,scheduler,kwok")).plane.clone()
}

/// Starts a control plane with these parts, in a folder or a temporary one. `DRIFTLESS_TEST_KUBECONFIG`
/// names an existing cluster instead.
pub(crate) fn launch(folder: Option<&Path>, parts: &str) -> Running {
    if let Some(path) = std::env::var_os("DRIFTLESS_TEST_KUBECONFIG") {
        let kubeconfig = PathBuf::from(path);
        let plane =
            ControlPlane { kubeconfig, server: String::new(), token: String::new(), processes: [].into() };
        return Running { plane, _folder: None, alive: None, process: None };
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control-plane/build.sh");
    let built = Command::new(script).stderr(Stdio::inherit()).output().expect("run build.sh");
    assert!(built.status.success(), "the control plane could not be built");
    let programs = PathBuf::from(String::from_utf8(built.stdout).expect("a path").trim());
    let temporary = folder.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
    let folder =
        folder.map_or_else(|| temporary.as_ref().expect("made above").path().to_owned(), Path::to_owned);
    let mut process = Command::new(programs.join("control-plane"))
        .args(["up", "--with", parts, "--dir"])
        .arg(&folder)
        .arg("--kwok")
        .arg(programs.join("kwok"))
        .arg("--kwok-stages")
        .arg(programs.join("kwok-stages"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the control plane");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("its ready line");
    let plane = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    let alive = process.stdin.take();
    Running { plane, _folder: temporary, alive, process: Some(process) }
}

/// A node without a kubelet: KWOK says what its pods do. They become ready, those of jobs complete.
pub(crate) async fn node(client: &kube::Client) {
    numbered_node(client, 0).await;
}

/// One of several: each has room for 1,000 pods.
pub(crate) async fn numbered_node(client: &kube::Client, number: usize) {
    let nodes: Api<Node> = Api::all(client.clone());
    let name = format!("node-{number}");
    let node = json!({"metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": {"cpu": "100", "memory": "1Ti", "pods": "1000"},
            "capacity": {"cpu": "100", "memory": "1Ti", "pods": "1000"}}});
    let node: Node = serde_json::from_value(node).expect("a node");
    let made = nodes.create(&PostParams::default(), &node).await;
    assert!(made.is_ok() || nodes.get(&name).await.is_ok(), "{made:?}");
}

/// Installs the CRDs and waits until they are served.
pub(crate) async fn install(client: &kube::Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (_, definition) in driftless::api::definitions() {
        let name = definition.name_any();
        crds.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&definition))
            .await
            .expect("applied");
        eventually("the CRD is established", || async {
            let conditions = crds.get(&name).await.ok()?.status?.conditions?;
            conditions
                .iter()
                .any(|found| found.type_ == "Established" && found.status == "True")
                .then_some(())
        })
        .await;
    }
}

/// Writes a Project.
pub(crate) async fn project(client: &kube::Client, name: &str, spec: serde_json::Value) {
    let projects: Api<Project> = Api::all(client.clone());
    let stated = json!({"apiVersion": "driftless.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": name}, "spec": spec});
    let parameters = PatchParams::apply("tests").force();
    projects.patch(name, &parameters, &Patch::Apply(stated)).await.expect("a Project");
}

/// Lets every Application that names no Project deliver anything anywhere, for tests of other things.
pub(crate) async fn allow_all(client: &kube::Client) {
    let any = json!([{"group": "*", "kind": "*"}]);
    let everywhere = json!([{"namespaces": ["*"]}, {"cluster": "*", "namespaces": ["*"]}]);
    let spec = json!({"namespaces": ["*"], "destinations": everywhere, "kinds": {"allow": any}, "clusterKinds": any});
    project(client, "default", spec).await;
}

/// A client with cluster-admin.
pub(crate) async fn client(plane: &ControlPlane) -> kube::Client {
    let file = kube::config::Kubeconfig::read_from(&plane.kubeconfig).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}

/// Starts the program in the background, prints its id, and ends it when standard input closes, which the
/// kernel does however the test process ends: a static is never dropped, and a panic may skip what is.
pub(crate) const SHELL: &str = r#""$@" >&2 & echo $!; read -r _; kill $! 2>/dev/null; wait $!"#;

/// A running agent; ends when dropped, or with this process.
pub(crate) struct Agent {
    shell: Child,
    alive: Option<ChildStdin>,
    id: u32,
    _cache: tempfile::TempDir,
    /// Address of its metrics and probes.
    pub(crate) listen: String,
}

impl Agent {
    /// Starts the program with these extra options.
    pub(crate) fn start(plane: &ControlPlane, options: &[&str]) -> Self {
        Self::start_in(plane, options, &[])
    }

    /// Starts it with these variables in its environment.
    pub(crate) fn start_in(plane: &ControlPlane, options: &[&str], environment: &[(&str, &Path)]) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        drop(socket);
        let cache = tempfile::tempdir().expect("a temporary folder");
        let listen = format!("127.0.0.1:{port}");
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh"])
            .arg(program())
            .args(["agent", "--log", &std::env::var("DRIFTLESS_LOG").unwrap_or_else(|_| "error".into())])
            .args(["--listen", &listen])
            .arg("--kubeconfig")
            .arg(&plane.kubeconfig)
            .arg("--cache")
            .arg(cache.path())
            .args(options)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the agent");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("its id");
        let id = line.trim().parse().expect("an id");
        let alive = shell.stdin.take();
        Self { shell, alive, id, _cache: cache, listen }
    }

    /// The counts of one of its metrics, by the value of the metric's one label; `None` while it does not answer.
    pub(crate) async fn counts(&self, metric: &str) -> Option<BTreeMap<String, u64>> {
        let text = reqwest::get(format!("http://{}/metrics", self.listen)).await.ok()?.text().await.ok()?;
        Some(counts(&text, metric))
    }

    /// Passes that had a commit to look at.
    pub(crate) async fn passes(&self) -> u64 {
        let found = self.counts("driftless_passes_total").await.unwrap_or_default();
        found.iter().filter(|(result, _)| *result != "waiting").map(|(_, count)| count).sum()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Asks it to end, as a cluster does; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        drop(self.alive.take());
        self.shell.wait().ok().and_then(|status| status.code())
    }

    /// Ends it at once, as a failing machine does.
    pub(crate) fn kill(self) {
        let _ = Command::new("kill").args(["-9", &self.id.to_string()]).status();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.shell.wait();
    }
}

/// The counts of a metric in Prometheus' text, summed by the value of the label that stands last or is `verb`.
pub(crate) fn counts(text: &str, metric: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')) {
        let Some((labels, value)) = line.rsplit_once("} ") else { continue };
        let label = labels.split("verb=\"").nth(1).or_else(|| labels.split('"').nth(1)).unwrap_or_default();
        let count = value.parse::<f64>().unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
        let count = count as u64;
        *found.entry(label.split('"').next().unwrap_or_default().to_owned()).or_default() += count;
    }
    found
}

/// Makes a namespace.
pub(crate) async fn namespace(client: &kube::Client, name: &str) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let stated = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
    namespaces.create(&PostParams::default(), &stated).await.expect("created");
}

/// Asks for a sync, as `driftless sync`.
pub(crate) async fn poke(apps: &Api<Application>, name: &str) {
    let stamp = format!("{:?}", std::time::SystemTime::now());
    let patch = json!({"metadata": {"annotations": {POKE: stamp}}});
    apps.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
}

/// Whether an Application is ready at a commit.
pub(crate) fn is_ready(app: &Application, commit: &str) -> bool {
    app.status.as_ref().is_some_and(|status| status.holds("Ready") && status.applied_revision == commit)
}

/// Waits until an Application is ready at a commit.
pub(crate) async fn ready(apps: &Api<Application>, name: &str, commit: &str) {
    let last = std::sync::Mutex::new(None);
    let what = format!("{name} is ready at {commit}");
    let wait = eventually(&what, || async {
        let app = apps.get(name).await.ok()?;
        let ready = is_ready(&app, commit);
        *last.lock().expect("one thread") = app.status;
        ready.then_some(())
    });
    if std::panic::AssertUnwindSafe(wait).catch_unwind().await.is_err() {
        let mut status = last.lock().expect("one thread").take();
        if let Some(status) = &mut status {
            status.inventory = driftless::api::Inventory::default();
        }
        panic!("not so after 120 s: {what}, but {status:#?}");
    }
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    option_env!("CARGO_BIN_EXE_driftless").map_or_else(
        || {
            let own = std::env::current_exe().expect("a path");
            own.ancestors()
                .find(|folder| folder.join("driftless").is_file())
                .expect("a built program")
                .join("driftless")
        },
        PathBuf::from,
    )
}
