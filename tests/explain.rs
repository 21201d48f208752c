//! Where fields come from: through bases, patches, generators and the rest.

use driftless::render::explain::{Explained, Written, explain};
use driftless::render::{MemoryTree, Options};

fn tree() -> MemoryTree {
    MemoryTree::default()
        .file("base/kustomization.yaml", "resources:\n- d.yaml\n- s.yaml\nconfigMapGenerator:\n- name: settings\n  literals:\n  - mode=fast\n  envs:\n  - s.env\n")
        .file("base/s.env", "# comment\nTOKENS=5\n")
        .file(
            "base/d.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  template:\n    spec:\n      containers:\n      - name: server\n        image: model:1\n        envFrom:\n        - configMapRef:\n            name: settings\n",
        )
        .file("base/s.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: 80\n  type: NodePort\n")
        .file(
            "prod/kustomization.yaml",
            "resources:\n- ../base\nnamePrefix: prod-\npatches:\n- path: big.yaml\n- target:\n    kind: Service\n  patch: |-\n    - op: replace\n      path: /spec/ports/0/port\n      value: 8080\n    - op: remove\n      path: /spec/type\nimages:\n- name: other\n  newTag: '1'\n- name: model\n  newTag: '2'\nreplacements:\n- source:\n    kind: Service\n    name: web\n    fieldPath: metadata.name\n  targets:\n  - select:\n      kind: Deployment\n    fieldPaths:\n    - metadata.labels.service\n    options:\n      create: true\nlabels:\n- pairs:\n    team: ml\n",
        )
        .file(
            "prod/big.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 3\n  template:\n    spec:\n      containers:\n      - name: side\n        image: side:1\n",
        )
}

/// `file:line by`, then what it was: `value file:line by`.
fn story(explained: &Explained, kind: &str, path: &str) -> Vec<String> {
    let place = |written: &Written| format!("{}:{} {}", written.file, written.line, written.by);
    let object = explained.objects.iter().find(|object| object.kind == kind).unwrap();
    let field = object.fields.iter().find(|field| field.path == path);
    let field = field.unwrap_or_else(|| panic!("{kind} has no {path}: {object:?}"));
    let was = field.overrode.iter().map(|earlier| format!("{} {}", earlier.value, place(&earlier.written)));
    std::iter::once(format!("{} {}", field.value, place(&field.written))).chain(was).collect()
}

#[test]
fn a_field_of_a_kustomization_is_followed_through_its_layers() {
    let explained = explain(&tree(), "prod", &Options::default()).unwrap();
    let container = "/spec/template/spec/containers";
    for (kind, path, expected) in [
        ("Deployment", "/kind", vec!["\"Deployment\" base/d.yaml:2 resources"]),
        ("Deployment", "/spec/replicas", vec!["3 prod/big.yaml:6 patches", "1 base/d.yaml:6 resources"]),
        (
            "Deployment",
            "/metadata/name",
            vec!["\"prod-web\" prod/kustomization.yaml:3 namePrefix", "web base/d.yaml:4 resources"],
        ),
        // The patch put a container before it.
        ("Deployment", &format!("{container}/0/image"), vec!["\"side:1\" prod/big.yaml:11 patches"]),
        (
            "Deployment",
            &format!("{container}/1/image"),
            vec!["\"model:2\" prod/kustomization.yaml:17 images", "model:1 base/d.yaml:11 resources"],
        ),
        ("Deployment", &format!("{container}/1/name"), vec!["\"server\" base/d.yaml:10 resources"]),
        ("Deployment", "/metadata/labels/team", vec!["\"ml\" prod/kustomization.yaml:33 labels"]),
        (
            "Service",
            "/spec/ports/0/port",
            vec!["8080 prod/kustomization.yaml:10 patches", "80 base/s.yaml:7 resources"],
        ),
        ("ConfigMap", "/data/mode", vec!["\"fast\" base/kustomization.yaml:7 configMapGenerator"]),
        ("ConfigMap", "/data/TOKENS", vec!["\"5\" base/s.env:2 configMapGenerator"]),
        ("ConfigMap", "/kind", vec!["\"ConfigMap\" base/kustomization.yaml:5 configMapGenerator"]),
    ] {
        assert_eq!(story(&explained, kind, path), expected, "{kind} {path}");
    }
    // Hashes and references say from where the name comes.
    let name = story(&explained, "ConfigMap", "/metadata/name");
    assert!(name[0].starts_with("\"prod-settings-") && name[0].ends_with("hash of the content"), "{name:?}");
    assert_eq!(name[1], "prod-settings prod/kustomization.yaml:3 namePrefix");
    let reference = story(&explained, "Deployment", &format!("{container}/1/envFrom/0/configMapRef/name"));
    assert!(reference[0].ends_with("prod/kustomization.yaml:3 name reference"), "{reference:?}");
    assert_eq!(reference[1], "settings base/d.yaml:14 resources");
    let label = story(&explained, "Deployment", "/metadata/labels/service");
    assert!(label[0].starts_with("\"prod-web\" ") && label[0].ends_with("replacements"), "{label:?}");
    // What was taken away, and by what.
    let service = explained.objects.iter().find(|object| object.kind == "Service").unwrap();
    let [removed] = service.removed.as_slice() else { panic!("{:?}", service.removed) };
    assert_eq!((removed.path.as_str(), removed.was.value.as_str()), ("/spec/type", "NodePort"));
    assert_eq!((removed.removed.file.as_str(), removed.removed.line), ("prod/kustomization.yaml", 13));
    assert_eq!((removed.was.written.file.as_str(), removed.was.written.line), ("base/s.yaml", 8));
    // The inputs.
    let there: Vec<&str> = explained
        .inputs
        .iter()
        .filter(|(_, identity)| identity.is_some())
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(
        there,
        [
            "base/d.yaml",
            "base/kustomization.yaml",
            "base/s.env",
            "base/s.yaml",
            "prod/big.yaml",
            "prod/kustomization.yaml"
        ]
    );
}

#[test]
fn options_of_the_application_are_named() {
    let mut options = Options::default();
    options.kustomize.images = vec!["model:9".into()];
    let explained = explain(&tree(), "prod", &options).unwrap();
    assert_eq!(
        story(&explained, "Deployment", "/spec/template/spec/containers/1/image"),
        [
            "\"model:9\" spec.source.kustomize:0 images",
            "model:2 prod/kustomization.yaml:17 images",
            "model:1 base/d.yaml:11 resources"
        ]
    );
}

#[test]
fn a_field_of_a_plain_file_has_its_line() {
    let text = "# a comment\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: &l\n    x: z\n---\n\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: s}\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: c\n  data:\n    <<: {k: v}\n";
    let tree = MemoryTree::default().file("app/a.yaml", text).file(
        "app/b.json",
        "{\"apiVersion\": \"v1\",\n \"kind\": \"Namespace\",\n \"metadata\": {\"name\": \"n\"}}",
    );
    let explained = explain(&tree, "app", &Options::default()).unwrap();
    let line = |at: usize, path: &str| {
        let field = explained.objects[at].fields.iter().find(|field| field.path == path).unwrap();
        format!("{}:{}", field.written.file, field.written.line)
    };
    assert_eq!(line(0, "/metadata/labels/x"), "app/a.yaml:7");
    assert_eq!(line(1, "/metadata/name"), "app/a.yaml:15");
    assert_eq!(line(2, "/metadata/name"), "app/a.yaml:19");
    assert_eq!(line(2, "/data/k"), "app/a.yaml:21");
    assert_eq!(line(3, "/kind"), "app/b.json:2");
}
