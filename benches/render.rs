//! Renders and previews, measured: `cargo bench --bench render`; `PARTS=kustomize,helm,corpora,preview` takes a
//! part.
//!
//! Each row runs our program and the real one (built from the Go module registry) one after the other in this run, as
//! processes, from their start to their end. Times are the median of the runs, with the least and the most; memory is
//! the peak that the kernel saw. Another renderer is one more `Renderer`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends a measurement"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A real program that ours stands beside.
struct Renderer {
    /// Its name and version, for the head of a table.
    title: &'static str,
    name: &'static str,
    module: &'static str,
    /// What `go install` is given, so that it is built as a release is.
    flags: &'static [&'static str],
    /// What makes a folder one to render.
    marks: &'static [&'static str],
    /// Modules whose folders are rendered, as in `make conformance`.
    corpora: &'static [&'static str],
    ours: fn(&Path) -> Command,
    theirs: fn(&Path, &Path) -> Command,
}

const KUSTOMIZE: Renderer = Renderer {
    title: "kustomize 5.7.1",
    name: "kustomize",
    module: "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
    flags: &[],
    marks: &["kustomization.yaml", "kustomization.yml", "Kustomization"],
    corpora: &[
        "github.com/argoproj/argo-rollouts@v1.8.3",
        "github.com/argoproj/argo-workflows/v3@v3.7.3",
        "github.com/kserve/kserve@v0.15.2",
        "github.com/kubeflow/training-operator@v1.8.1",
        "github.com/ray-project/kuberay/ray-operator@v1.4.2",
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    ],
    ours: |folder| {
        let mut command = ours();
        command.arg("render").arg(folder);
        command
    },
    theirs: |program, folder| {
        let mut command = Command::new(program);
        command.args(["build", "--load-restrictor", "LoadRestrictionsNone"]).arg(folder);
        command
    },
};

const HELM: Renderer = Renderer {
    title: "helm 3.22.0",
    name: "helm",
    module: "helm.sh/helm/v3/cmd/helm@v3.22.0",
    flags: &[
        "-ldflags",
        "-X helm.sh/helm/v3/internal/version.version=v3.22.0 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37",
    ],
    marks: &["Chart.yaml"],
    corpora: &[
        "github.com/cilium/cilium@v1.20.2",
        "github.com/crossplane/crossplane/v2@v2.1.0",
        "github.com/fluxcd/flagger@v1.36.1",
        "github.com/kserve/kserve@v0.15.2",
        "github.com/kyverno/kyverno@v1.15.2",
        "github.com/open-policy-agent/gatekeeper/v3@v3.23.1",
        "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad",
    ],
    ours: |folder| {
        let mut command = ours();
        command.args(["render", "--release-name", "r", "--namespace", "ns"]).arg(folder);
        command
    },
    theirs: |program, folder| {
        let mut command = Command::new(program);
        command.args(["template", "r", "--include-crds", "--namespace", "ns"]).arg(folder);
        command
    },
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn ours() -> Command {
    Command::new(env!("CARGO_BIN_EXE_driftless"))
}

impl Renderer {
    /// Builds it once; where `make conformance` puts it too.
    fn program(&self) -> PathBuf {
        let bin = root().join("target/conformance/bin");
        let path = bin.join(self.name);
        if !path.exists() {
            eprintln!("building {}", self.module);
            let mut go = Command::new("go");
            go.arg("install").args(self.flags).arg(self.module).env("GOBIN", &bin).env("GOFLAGS", "-mod=mod");
            assert!(go.status().expect("go is installed").success(), "{} does not build", self.module);
        }
        path
    }

    fn folders(&self, below: &Path, found: &mut Vec<PathBuf>) {
        if self.marks.iter().any(|name| below.join(name).is_file()) {
            found.push(below.to_owned());
        }
        let Ok(entries) = std::fs::read_dir(below) else { return };
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.sort();
        let folders = paths.iter().filter(|path| path.is_dir() && !path.is_symlink());
        folders.for_each(|path| self.folders(path, found));
    }

    /// The folders of a module that both programs render.
    fn corpus(&self, program: &Path, module: &str) -> Option<Vec<PathBuf>> {
        let mut go = Command::new("go");
        let done = go.args(["mod", "download", "-json", module]).current_dir("/").output().ok()?;
        let answer: Value = serde_json::from_slice(&done.stdout).ok()?;
        let mut found = Vec::new();
        self.folders(Path::new(answer["Dir"].as_str()?), &mut found);
        found.retain(|folder| {
            let mut theirs = (self.theirs)(program, folder);
            theirs.env("HTTPS_PROXY", "http://127.0.0.1:1").env("GIT_TERMINAL_PROMPT", "0");
            run(&mut (self.ours)(folder)).code == 0 && run(&mut theirs).code == 0
        });
        Some(found)
    }

    fn head(&self) {
        println!("\n| render | driftless | {} | |\n|---|---|---|---|", self.title);
    }

    fn corpora(&self) -> Vec<Value> {
        let program = self.program();
        self.head();
        let rows = self.corpora.iter().filter_map(|module| {
            let found = self.corpus(&program, module).filter(|folders| !folders.is_empty());
            let Some(folders) = found else {
                eprintln!("{module} is not to be had");
                return None;
            };
            let title = format!("{module}, {} folders", folders.len());
            Some(Row { title, folders, of: self, program: program.clone(), times: 3 }.measure())
        });
        rows.collect()
    }

    /// Folders of the sizes; the real program in the same run, then ours alone again, for the spread.
    fn sizes(&self, make: fn(&Path, usize) -> PathBuf) -> Vec<Value> {
        let program = self.program();
        self.head();
        let scratch = tempfile::tempdir().expect("a folder");
        let rows = [600, 3_000, 6_000].into_iter().map(|count| {
            let folder = make(&scratch.path().join(count.to_string()), count);
            let row = Row {
                title: format!("{count} objects"),
                folders: vec![folder.clone()],
                of: self,
                program: program.clone(),
                // kustomize takes minutes for more.
                times: if count > 600 && self.name == "kustomize" { 1 } else { 3 },
            };
            let once = row.measure();
            let spread = measure(7, || run(&mut (self.ours)(&folder)));
            println!("| {count} objects, ours alone | {} | | |", spread.text());
            json!({"row": once, "again": spread.json()})
        });
        rows.collect()
    }
}

/// One run of a program.
struct Run {
    time: Duration,
    peak_kib: u64,
    code: i32,
}

/// A program that takes longer is ended, and its row says so.
const LIMIT: Duration = Duration::from_secs(300);

fn run(command: &mut Command) -> Run {
    let begin = Instant::now();
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().expect("it starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak_kib = 0;
    // The kernel keeps the peak, so only what comes in the last millisecond is not seen.
    loop {
        if let Some(status) = child.try_wait().expect("it ends") {
            return Run { time: begin.elapsed(), peak_kib, code: status.code().unwrap_or(-1) };
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM"));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        peak_kib = number.unwrap_or(peak_kib);
        if begin.elapsed() > LIMIT {
            child.kill().expect("it is ours");
            child.wait().expect("it ends");
            return Run { time: LIMIT, peak_kib, code: ENDED };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// In place of an exit code: the limit was reached.
const ENDED: i32 = -2;

/// Several runs of one thing.
#[derive(Clone, Copy)]
struct Measured {
    median: f64,
    least: f64,
    most: f64,
    peak_mib: f64,
}

fn measure(times: usize, mut one: impl FnMut() -> Run) -> Measured {
    let runs: Vec<Run> = (0..times).map(|_| one()).collect();
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.time.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "KiB of a process")]
    let peak_mib = runs.iter().map(|run| run.peak_kib).max().unwrap_or_default() as f64 / 1024.0;
    Measured { median: seconds[times / 2], least: seconds[0], most: seconds[times - 1], peak_mib }
}

impl Measured {
    fn text(&self) -> String {
        let ms = |seconds: f64| format!("{:.0}", seconds * 1000.0);
        format!("{} ({}-{}) ms, {:.0} MiB", ms(self.median), ms(self.least), ms(self.most), self.peak_mib)
    }

    fn json(&self) -> Value {
        json!({"medianSeconds": self.median, "leastSeconds": self.least, "mostSeconds": self.most, "peakMiB": self.peak_mib})
    }
}

fn write(folder: &Path, path: &str, content: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, content).expect("written");
}

fn objects(name: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      serviceAccountName: {name}\n      containers:\n      - name: server\n        image: registry.example/model:1\n        envFrom: [{{configMapRef: {{name: {name}}}}}]\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{mode: fast}}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n"
    )
}

/// A base of so many objects, four in a file, and an overlay that renames, labels, patches and sets images.
fn kustomization(folder: &Path, count: usize) -> PathBuf {
    let files: Vec<String> = (0..count / 4).map(|number| format!("m{number}.yaml")).collect();
    for (number, file) in files.iter().enumerate() {
        write(folder, &format!("base/{file}"), &objects(&format!("model-{number}")));
    }
    write(folder, "base/kustomization.yaml", &format!("resources:\n- {}\n", files.join("\n- ")));
    write(
        folder,
        "over/kustomization.yaml",
        "resources: [../base]\nnamespace: prod\nnamePrefix: prod-\ncommonLabels: {tier: prod}\ncommonAnnotations: {team: ml}\nimages:\n- {name: registry.example/model, newTag: '2'}\npatches:\n- target: {kind: Deployment}\n  patch: |-\n    - {op: replace, path: /spec/replicas, value: 3}\n- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: model-0}\n    spec: {template: {spec: {priorityClassName: high}}}\n",
    );
    folder.join("over")
}

/// A chart whose one template goes over a list of models and makes four objects of each.
fn chart(folder: &Path, count: usize) -> PathBuf {
    write(folder, "Chart.yaml", "apiVersion: v2\nname: models\nversion: 1.0.0\n");
    let models: Vec<String> = (0..count / 4)
        .map(|number| format!("- {{name: model-{number}, replicas: {}}}\n", number % 5))
        .collect();
    write(folder, "values.yaml", &format!("image: registry.example/model:1\nmodels:\n{}", models.concat()));
    let object = objects("{{ .name | quote }}")
        .replace("replicas: 1", "replicas: {{ .replicas | default 1 }}")
        .replace("registry.example/model:1", "{{ $.Values.image | quote }}")
        .replace(
            "metadata: {labels: {app: {{ .name | quote }}}}",
            "metadata:\n      labels: {{- include \"models.labels\" . | nindent 8 }}",
        );
    write(
        folder,
        "templates/_names.tpl",
        "{{- define \"models.labels\" -}}\napp: {{ .name | quote }}\ntier: {{ .tier | default \"prod\" }}\n{{- end -}}\n",
    );
    write(
        folder,
        "templates/models.yaml",
        &format!("{{{{- range .Values.models }}}}\n---\n{object}{{{{- end }}}}\n"),
    );
    folder.to_owned()
}

struct Row<'a> {
    title: String,
    folders: Vec<PathBuf>,
    of: &'a Renderer,
    program: PathBuf,
    times: usize,
}

impl Row<'_> {
    fn measure(&self) -> Value {
        let all = |command: &dyn Fn(&Path) -> Command| {
            measure(self.times, || {
                let runs: Vec<Run> = self.folders.iter().map(|folder| run(&mut command(folder))).collect();
                assert!(runs.iter().all(|run| matches!(run.code, 0 | ENDED)), "{} fails", self.title);
                Run {
                    time: runs.iter().map(|run| run.time).sum(),
                    peak_kib: runs.iter().map(|run| run.peak_kib).max().unwrap_or_default(),
                    code: 0,
                }
            })
        };
        let mine = all(&self.of.ours);
        let theirs = all(&|folder| (self.of.theirs)(&self.program, folder));
        let ratio = theirs.median / mine.median;
        let more = if theirs.most >= LIMIT.as_secs_f64() { "more than " } else { "" };
        println!("| {} | {} | {more}{} | {more}{ratio:.0} x |", self.title, mine.text(), theirs.text());
        json!({"row": self.title, "driftless": mine.json(), "theirs": theirs.json(), "ratio": ratio})
    }
}

const APPS: usize = 1_000;

/// A fleet in one repository: a half is plain files, most of the rest overlays of 20 shared bases, and some
/// kustomizations of their own. `merge` is what the second commit changes.
fn fleet(folder: &Path) {
    for number in 0..APPS {
        let path = format!("apps/team-{}/app-{number}", number % 50);
        let application = format!(
            "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: app-{number}, namespace: ml}}\nspec:\n  source: {{repo: 'https://git.example/fleet.git', path: {path}}}\n"
        );
        write(folder, &format!("fleet/app-{number}.yaml"), &application);
        match number % 10 {
            0..=4 => {
                for (at, text) in objects(&format!("app-{number}")).split("---\n").enumerate() {
                    write(folder, &format!("{path}/{at}.yaml"), text);
                }
            }
            5..=8 => {
                let text = format!(
                    "resources: [../../../bases/{}]\nnamePrefix: a{number}-\nimages:\n- {{name: registry.example/model, newTag: '{number}'}}\n",
                    number % 20
                );
                write(folder, &format!("{path}/kustomization.yaml"), &text);
            }
            _ => {
                write(
                    folder,
                    &format!("{path}/kustomization.yaml"),
                    "resources: [all.yaml]\ncommonLabels: {team: ml}\n",
                );
                write(folder, &format!("{path}/all.yaml"), &objects(&format!("app-{number}")));
            }
        }
    }
    for number in 0..20 {
        write(folder, &format!("bases/{number}/kustomization.yaml"), "resources: [all.yaml]\n");
        write(folder, &format!("bases/{number}/all.yaml"), &objects("base"));
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0"])
        .args(arguments)
        .output()
        .expect("git is installed");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Asks the kernel to forget the files of a folder, so that the next reader finds them on the disk.
fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            forget(&path);
        } else {
            let of = format!("if={}", path.display());
            let done =
                Command::new("dd").args([&of, "iflag=nocache", "count=0"]).stderr(Stdio::null()).status();
            assert!(done.expect("dd is installed").success());
        }
    }
}

fn previews() -> Vec<Value> {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    fleet(folder);
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "Base"]);
    let base = git(folder, &["rev-parse", "HEAD"]);
    let mut heads = Vec::new();
    for (what, path) in [
        ("one file of one application", "apps/team-1/app-1/0.yaml"),
        ("a base that 20 applications share", "bases/5/all.yaml"),
        ("a file that no application reads", "docs/x.md"),
    ] {
        git(folder, &["checkout", "-q", "-B", "merge", &base]);
        let old = std::fs::read_to_string(folder.join(path)).unwrap_or_default();
        write(
            folder,
            path,
            &old.replace("registry.example/model:1", "registry.example/model:3").replace("x.md", "y"),
        );
        write(folder, "docs/y.md", what);
        git(folder, &["add", "-A"]);
        git(folder, &["commit", "-q", "-m", what]);
        heads.push((what, git(folder, &["rev-parse", "HEAD"])));
        git(folder, &["branch", "-q", &format!("keep-{}", heads.len())]);
    }
    git(folder, &["repack", "-adq"]);
    git(folder, &["worktree", "prune"]);
    println!(
        "\n| preview of {APPS} applications after a change of | files on disk only | files in memory |\n|---|---|---|"
    );
    let mut results = Vec::new();
    for (what, head) in heads {
        let range = format!("{base}..{head}");
        let mut preview = || run(ours().args(["preview", &range, "--exit-zero", "--repo"]).arg(folder));
        let objects = folder.join(".git/objects");
        let cold = measure(5, || {
            forget(&objects);
            preview()
        });
        let warm = measure(9, &mut preview);
        println!("| {what} | {} | {} |", cold.text(), warm.text());
        results.push(json!({"change": what, "cold": cold.json(), "warm": warm.json()}));
    }
    results
}

fn main() {
    let parts = std::env::var("PARTS").unwrap_or_else(|_| "kustomize,helm,corpora,preview".into());
    let mut renders = Vec::new();
    if parts.contains("kustomize") {
        renders.extend(KUSTOMIZE.sizes(kustomization));
    }
    if parts.contains("helm") {
        renders.extend(HELM.sizes(chart));
    }
    if parts.contains("corpora") {
        renders.extend(KUSTOMIZE.corpora());
        renders.extend(HELM.corpora());
    }
    let previews = if parts.contains("preview") { previews() } else { Vec::new() };
    let file = root().join("target/bench-render.json");
    let text =
        serde_json::to_string_pretty(&json!({"renders": renders, "previews": previews})).expect("JSON");
    std::fs::create_dir_all(root().join("target")).expect("made");
    std::fs::write(&file, text).expect("written");
    println!("\n{}", file.display());
}
