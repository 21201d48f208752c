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

#[test]
fn a_field_of_a_chart_leads_to_its_template_and_values() {
    let labels = "{{- define \"c.labels\" -}}\napp: {{ .Values.app }}\ntier: {{ .Values.global.tier | default \"none\" }}\n{{- end }}\n";
    let deployment = "{{- if .Values.enabled }}\n# a comment\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\n  labels:\n    {{- include \"c.labels\" . | nindent 4 }}\nspec:\n  replicas: {{ .Values.replicas }}\n  template:\n    spec:\n      resources: {{- toYaml .Values.resources | nindent 8 }}\n      image: \"{{ .Values.image.name }}:{{ .Values.image.tag }}\"\n{{- end }}\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s\n";
    let tree = MemoryTree::default()
        .file("apps/c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 0.1.0\n")
        .file("apps/c/values.yaml", "enabled: true\napp: web\nreplicas: 1\nimage:\n  name: nginx\n  tag: old\nresources:\n  limits: {cpu: 1}\n  requests:\n    cpu: 2\nsub:\n  size: 5\n")
        .file("apps/c/templates/_helpers.tpl", labels)
        .file("apps/c/templates/d.yaml", deployment)
        .file("apps/c/crds/t.yaml", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: ts.e.org\n")
        .file("apps/c/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 0.1.0\n")
        .file("apps/c/charts/sub/values.yaml", "size: 1\ncolour: red\n")
        .file("apps/c/charts/sub/templates/m.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  size: \"{{ .Values.size }}\"\n  colour: {{ .Values.colour }}\n  tier: {{ .Values.global.tier }}\n  nothing: x{{ .Values.nothing }}\n")
        .file("env/prod.yaml", "image:\n  tag: new\nglobal:\n  tier: gold\n");
    let mut options = Options::default();
    options.helm.values_files = vec!["/env/prod.yaml".into()];
    options.helm.parameters =
        vec![driftless::render::helm::Parameter { name: "replicas".into(), value: "3".into(), text: false }];
    let explained = explain(&tree, "apps/c", &options).unwrap();
    let story = |kind: &str, path: &str| -> Vec<String> {
        let object = explained.objects.iter().find(|object| object.kind == kind).unwrap();
        let field = object.fields.iter().find(|field| field.path == path);
        let field = field.unwrap_or_else(|| panic!("{kind} has no {path}: {object:?}"));
        let place = |written: &Written| {
            format!("{}:{} {}", written.file.trim_start_matches("apps/c/"), written.line, written.by)
        };
        let read = field.values.iter().map(|read| format!("{} {}", read.path, place(&read.written)));
        std::iter::once(format!("{} {}", field.value, place(&field.written))).chain(read).collect()
    };
    let sub = "charts/sub/templates/m.yaml";
    for (kind, path, expected) in [
        ("CustomResourceDefinition", "/metadata/name", vec!["\"ts.e.org\" crds/t.yaml:4 crds".to_owned()]),
        ("Deployment", "/kind", vec!["\"Deployment\" templates/d.yaml:4 templates".into()]),
        ("Deployment", "/metadata/name", vec!["\"release-name\" templates/d.yaml:6 templates".into()]),
        // The innermost template is named.
        (
            "Deployment",
            "/metadata/labels/app",
            vec!["\"web\" templates/_helpers.tpl:2 templates".into(), "app values.yaml:2 values.yaml".into()],
        ),
        (
            "Deployment",
            "/metadata/labels/tier",
            vec![
                "\"gold\" templates/_helpers.tpl:3 templates".into(),
                "global.tier env/prod.yaml:4 valuesFiles".into(),
            ],
        ),
        (
            "Deployment",
            "/spec/replicas",
            vec!["3 templates/d.yaml:10 templates".into(), "replicas :0 parameters".into()],
        ),
        (
            "Deployment",
            "/spec/template/spec/resources/requests/cpu",
            vec!["2 templates/d.yaml:13 templates".into(), "resources values.yaml:8 values.yaml".into()],
        ),
        (
            "Deployment",
            "/spec/template/spec/image",
            vec![
                "\"nginx:new\" templates/d.yaml:14 templates".into(),
                "image.name values.yaml:5 values.yaml".into(),
                "image.tag env/prod.yaml:2 valuesFiles".into(),
            ],
        ),
        ("Service", "/metadata/name", vec!["\"s\" templates/d.yaml:20 templates".into()]),
        (
            "ConfigMap",
            "/data/size",
            vec![format!("\"5\" {sub}:6 templates"), "size values.yaml:12 values.yaml".into()],
        ),
        (
            "ConfigMap",
            "/data/colour",
            vec![format!("\"red\" {sub}:7 templates"), "colour charts/sub/values.yaml:2 values.yaml".into()],
        ),
        (
            "ConfigMap",
            "/data/tier",
            vec![format!("\"gold\" {sub}:8 templates"), "global.tier env/prod.yaml:4 valuesFiles".into()],
        ),
        ("ConfigMap", "/data/nothing", vec![format!("\"x\" {sub}:9 templates")]),
    ] {
        assert_eq!(story(kind, path), expected, "{kind} {path}");
    }
}
