//! One control plane for a whole process, and agents against it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;

/// Where a control plane is reached.
#[derive(Clone, Debug, Deserialize)]
pub struct ControlPlane {
    /// Path of its kubeconfig, with cluster-admin.
    pub kubeconfig: PathBuf,
    /// Address.
    pub server: String,
    /// Bearer token of the kubeconfig.
    pub token: String,
    /// Names and process ids.
    #[serde(default)]
    pub processes: std::collections::BTreeMap<String, u32>,
}

struct Running {
    plane: ControlPlane,
    _folder: Option<tempfile::TempDir>,
    /// The control plane ends when this closes, which the kernel does however this process ends.
    _alive: Option<ChildStdin>,
    _process: Option<Child>,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// The control plane of this process; started at the first call (3 s, or 5 minutes when it must be built).
/// `DRIFTLESS_TEST_KUBECONFIG` names an existing cluster instead.
pub fn control_plane() -> ControlPlane {
    RUNNING.get_or_init(|| start(None, "controller-manager")).plane.clone()
}

/// As [`control_plane`], in a folder that outlives it.
pub fn control_plane_in(folder: &Path) -> ControlPlane {
    RUNNING.get_or_init(|| start(Some(folder), "controller-manager,scheduler,kwok")).plane.clone()
}

fn start(folder: Option<&Path>, parts: &str) -> Running {
    if let Some(path) = std::env::var_os("DRIFTLESS_TEST_KUBECONFIG") {
        let kubeconfig = PathBuf::from(path);
        let plane = ControlPlane { kubeconfig, server: String::new(), token: String::new(), processes: [].into() };
        return Running { plane, _folder: None, _alive: None, _process: None };
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control-plane/build.sh");
    let built = Command::new(script).stderr(Stdio::inherit()).output().expect("run build.sh");
    assert!(built.status.success(), "the control plane could not be built");
    let programs = PathBuf::from(String::from_utf8(built.stdout).expect("a path").trim());
    let temporary = folder.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
    let folder = folder.map_or_else(|| temporary.as_ref().expect("made above").path().to_owned(), Path::to_owned);
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
    Running { plane, _folder: temporary, _alive: alive, _process: Some(process) }
}

/// A client with cluster-admin.
pub async fn client(plane: &ControlPlane) -> kube::Client {
    let file = kube::config::Kubeconfig::read_from(&plane.kubeconfig).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await.expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}

/// A running agent; ends when dropped.
pub struct Agent {
    process: Child,
    _cache: tempfile::TempDir,
    /// Address of its metrics and probes.
    pub listen: String,
}

impl Agent {
    /// Starts the program with these extra options.
    pub fn start(plane: &ControlPlane, options: &[&str]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let cache = tempfile::tempdir().expect("a temporary folder");
        let listen = format!("127.0.0.1:{port}");
        let process = Command::new(program())
            .args(["agent", "--log", &std::env::var("DRIFTLESS_LOG").unwrap_or_else(|_| "warn".into()), "--listen", &listen])
            .arg("--kubeconfig")
            .arg(&plane.kubeconfig)
            .arg("--cache")
            .arg(cache.path())
            .args(options)
            .spawn()
            .expect("start the agent");
        Self { process, _cache: cache, listen }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, as a cluster does; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        self.process.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program under test.
pub fn program() -> PathBuf {
    option_env!("CARGO_BIN_EXE_driftless").map_or_else(
        || {
            let own = std::env::current_exe().expect("a path");
            own.ancestors().find(|folder| folder.join("driftless").is_file()).expect("a built program").join("driftless")
        },
        PathBuf::from,
    )
}
