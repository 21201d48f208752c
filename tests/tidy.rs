//! The rules of the house, read from the source itself.

use std::path::{Path, PathBuf};

/// What each room may use of the others, of async, of the clock and of the machine. `error` is everybody's.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], PURE),
    // The CRD types derive from kube-core: shapes only, no client.
    (
        "api",
        &["model"],
        &[
            "tokio",
            "futures",
            "reqwest",
            "std::fs",
            "std::net",
            "std::process",
            "SystemTime",
            "Instant::now",
            "Timestamp::now",
        ],
    ),
    ("diff", &["model"], PURE),
    ("health", &["model"], PURE),
    ("plan", &["model", "diff", "health"], PURE),
    ("rollout", &["model", "api", "plan"], PURE),
    ("render", &["model"], PURE),
    ("lint", &["model", "render"], PURE),
    ("report", &["model"], PURE),
    ("source", &["model", "render"], &["kube::", "kube_"]),
    // Of api, the names of labels and of the field manager.
    ("live", &["api", "model", "diff", "health"], &["reqwest", "git2"]),
    (
        "agent",
        &["api", "model", "source", "render", "diff", "health", "plan", "rollout", "live", "report"],
        &[],
    ),
    ("server", &["agent", "model"], &[]),
];

const PURE: &[&str] = &[
    "kube",
    "tokio",
    "futures",
    "reqwest",
    "std::fs",
    "std::net",
    "std::process",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The lines of a file before its tests, without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let own = text.split("#[cfg(test)]").next().unwrap();
    let lines = own
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap().to_owned()));
    lines.filter(|(_, line)| !line.trim().is_empty()).collect()
}

/// Rooms that a line of a file of `room` names.
fn rooms_named(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices("crate::") {
        let rest = &line[start + "crate::".len()..];
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if !name.is_empty() {
            found.push(name);
        }
    }
    found
}

#[test]
fn rooms_use_only_what_they_may() {
    let mut broken = Vec::new();
    for (room, allowed, forbidden) in RULES {
        let mut sources = Vec::new();
        files(&root().join("src").join(room), &mut sources);
        assert!(!sources.is_empty(), "the room {room} is gone; change this test with it");
        for path in sources {
            for (number, line) in code(&path) {
                let place =
                    format!("{}:{number}: {}", path.strip_prefix(root()).unwrap().display(), line.trim());
                for name in rooms_named(&line) {
                    if name != "error" && name != *room && !allowed.contains(&name.as_str()) {
                        broken.push(format!("{place}\n    {room} may not use {name}"));
                    }
                }
                for word in *forbidden {
                    let uses = line.contains(&format!("{word}::"))
                        || (word.contains("::") && line.contains(word))
                        || line.contains(&format!("use {word}"));
                    if uses {
                        broken.push(format!("{place}\n    {room} may not use {word}"));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn nothing_prints_but_the_command_line() {
    let mut sources = Vec::new();
    files(&root().join("src"), &mut sources);
    for path in sources.iter().filter(|path| !path.starts_with(root().join("src/cli"))) {
        for (number, line) in code(path) {
            assert!(
                !line.contains("io::stdout") && !line.contains("io::stderr"),
                "{}:{number}",
                path.display()
            );
            assert!(!line.contains("crate::cli"), "{}:{number}: nothing uses cli", path.display());
        }
    }
}

/// Compares a file that is written from the code, or writes it where `UPDATE` is set (`make manifests`).
fn written_out(file: &str, wanted: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{file} is stale: run `make manifests`");
}

#[test]
fn written_out_crds_are_what_the_types_say() {
    for (file, definition) in driftless::api::definitions() {
        let text = driftless::api::yaml(&definition).unwrap();
        // As kubectl reads it: a bare `n` among the required fields would be false.
        let read = driftless::model::yaml::read(text.as_bytes(), file).unwrap();
        let back = serde_json::from_value(read[0].value.clone()).unwrap();
        assert_eq!(definition, back, "{file} reads as something else");
        for folder in ["manifests/crds", "charts/driftless/crds"] {
            written_out(&format!("{folder}/{file}"), &text);
        }
    }
    for folder in ["manifests/crds", "charts/driftless/crds"] {
        let count = std::fs::read_dir(root().join(folder)).unwrap().count();
        assert_eq!(count, driftless::api::definitions().len(), "{folder} holds nothing else");
    }
}

#[test]
fn the_report_schema_is_what_the_types_say() {
    let text = serde_json::to_string_pretty(&driftless::report::schema()).unwrap() + "\n";
    written_out("manifests/report.schema.json", &text);
    let text = serde_json::to_string_pretty(&driftless::report::lint_schema()).unwrap() + "\n";
    written_out("manifests/lint.schema.json", &text);
}

fn rows(schema: &serde_json::Value, path: &str, required: bool, out: &mut String) {
    let kind = match (schema["type"].as_str(), schema["items"]["type"].as_str()) {
        (Some("array"), Some(item)) => format!("list of {item}"),
        (Some(kind), _) => kind.to_owned(),
        (None, _) => "any".to_owned(),
    };
    let words =
        schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let choices = schema["enum"].as_array().map(|all| {
        let names: Vec<&str> = all.iter().filter_map(serde_json::Value::as_str).collect();
        format!(" One of {}.", names.join(", "))
    });
    let default = match &schema["default"] {
        serde_json::Value::Null => {
            if required {
                "required".to_owned()
            } else {
                String::new()
            }
        }
        value => format!("`{value}`"),
    };
    if !path.is_empty() {
        assert!(!words.is_empty(), "{path} has no description");
        out.push_str(&format!(
            "| `{path}` | {kind} | {default} | {}{} |\n",
            words.replace('|', "\\|"),
            choices.unwrap_or_default()
        ));
    }
    let (inner, mark) = if schema["items"].is_object() { (&schema["items"], "[]") } else { (schema, "") };
    let needed: Vec<&str> =
        inner["required"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    for (name, field) in inner["properties"].as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        rows(field, &format!("{path}{mark}{dot}{name}"), needed.contains(&name.as_str()), out);
    }
}

#[test]
fn the_crd_reference_is_what_the_types_say() {
    let mut text = "# Application\n\nWritten from the types by `make manifests`; `kubectl explain application` says the same.\n".to_owned();
    let (_, definition) = driftless::api::definitions().remove(0);
    let value = serde_json::to_value(&definition).unwrap();
    let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for part in ["spec", "status"] {
        text.push_str(&format!("\n## {part}\n\n| field | type | default | meaning |\n|---|---|---|---|\n"));
        rows(&schema[part], "", true, &mut text);
    }
    written_out("docs/application.md", &text);
}

/// The table of fields in its document; what stands around it is written by hand.
#[test]
fn the_fields_of_a_project_are_what_the_types_say() {
    const BEGIN: &str = "<!-- fields -->\n";
    let (_, definition) = driftless::api::definitions().remove(1);
    let value = serde_json::to_value(&definition).unwrap();
    let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut table = "| field | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    rows(schema, "", true, &mut table);
    let text = std::fs::read_to_string(root().join("docs/projects.md")).unwrap();
    let parts: Vec<&str> = text.split(BEGIN).collect();
    assert_eq!(parts.len(), 3, "docs/projects.md has the table between two marks");
    written_out("docs/projects.md", &[parts[0], &table, parts[2]].join(BEGIN));
}

#[test]
fn the_command_line_reference_is_what_help_says() {
    let help = |arguments: &[&str]| {
        let done = std::process::Command::new(crate::harness::cluster::program())
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("COLUMNS", "100")
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let first = help(&["--help"]);
    let verbs: Vec<&str> = first
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    for verb in [
        "agent",
        "apply",
        "preview",
        "drift",
        "render",
        "import",
        "lint",
        "health",
        "rollout",
        "sync",
        "get",
        "history",
        "rollback",
        "suspend",
        "resume",
        "explain",
        "version",
        "completions",
    ] {
        assert!(verbs.contains(&verb), "{verb} is missing");
    }
    let mut text =
        format!("# The command line\n\nWritten from `--help` by `make manifests`.\n\n```text\n{first}```\n");
    for verb in verbs {
        text.push_str(&format!("\n## {verb}\n\n```text\n{}```\n", help(&[verb, "--help"])));
    }
    text.push_str("\n## Error codes\n\n```text\n");
    text.push_str(&help(&["explain"]));
    text.push_str("```\n");
    written_out("docs/cli.md", &text);
}

/// The table of rules in its document; what stands around it is written by hand.
#[test]
fn the_table_of_rules_is_what_the_rules_say() {
    const BEGIN: &str = "<!-- rules -->\n";
    let mut table = "| rule | severity | confidence | what is wrong |\n|---|---|---|---|\n".to_owned();
    let mut system = "";
    for rule in driftless::lint::all_rules() {
        if rule.system != system {
            table.push_str(&format!("| **{}** | | | |\n", rule.system));
            system = rule.system;
        }
        let (severity, confidence) = (rule.severity.name(), rule.confidence.name());
        table.push_str(&format!("| `{}` | {severity} | {confidence} | {} |\n", rule.id, rule.title));
    }
    let path = root().join("docs/lint.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let parts: Vec<&str> = text.split(BEGIN).collect();
    assert_eq!(parts.len(), 3, "docs/lint.md has the table between two marks");
    written_out("docs/lint.md", &[parts[0], &table, parts[2]].join(BEGIN));
}

/// What the examples say is what the types take.
#[test]
fn the_examples_are_applications_and_projects() {
    for entry in std::fs::read_dir(root().join("manifests/examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        for document in driftless::model::yaml::read(&text, "example").unwrap() {
            if document.value["kind"] == "Project" {
                let rules = driftless::agent::project_of(document.value)
                    .and_then(|project| driftless::agent::project_rules(&project));
                assert!(rules.is_ok(), "{}: {:?}", path.display(), rules.err());
                continue;
            }
            let application: Result<driftless::api::Application, _> = serde_json::from_value(document.value);
            assert!(application.is_ok(), "{}: {:?}", path.display(), application.err());
        }
    }
}

/// Licences that may be linked in; deny.toml says the same to cargo-deny.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "CC0-1.0",
    "0BSD",
    "Unlicense",
    "BSL-1.0",
];

#[test]
fn every_dependency_is_licensed_and_comes_from_the_registry() {
    // What is linked on this platform: the others' crates are not at hand.
    let compiler = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    let host = compiler.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let done = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages.iter().filter(|package| package["name"] != "driftless") {
        let name = format!("{} {}", package["name"], package["version"]);
        assert!(
            package["source"].as_str().unwrap_or_default().starts_with("registry+"),
            "{name} is not from the registry"
        );
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        // "A OR (B AND C)": one way of the choice must be allowed in all its parts.
        let allowed = licence.split(" OR ").any(|way| {
            way.split(" AND ").all(|part| LICENCES.contains(&part.trim().trim_matches(['(', ')'])))
        });
        assert!(allowed, "{name}: {licence:?}");
    }
}

/// Every relative link of the documents leads somewhere.
#[test]
fn links_of_the_documents_lead_somewhere() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "docs/cli.md",
        "docs/adoption.md",
        "docs/application.md",
        "docs/faults.md",
        "docs/gates.md",
        "docs/health.md",
        "docs/helm.md",
        "docs/lint.md",
        "docs/projects.md",
        "docs/render.md",
        "docs/rollouts.md",
        "docs/sources.md",
        "docs/sync.md",
    ] {
        let path = root().join(document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap().split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(path.parent().unwrap().join(target).exists(), "{document} links to {target}");
        }
    }
}

/// Every row of the fault table is there, and every test that it names; the document has the same rows.
#[test]
fn the_fault_table_names_tests_that_exist() {
    let numbered = |letter: &str, last: usize| {
        (1..=last).map(move |number| format!("{letter}{number}")).collect::<Vec<_>>()
    };
    let others = ["S2", "C1", "C3", "M10"].map(str::to_owned).to_vec();
    let wanted = [numbered("A", 15), numbered("W", 3), others, numbered("G", 8)].concat();
    let text = std::fs::read_to_string(root().join("tests/data/faults.txt")).unwrap();
    let document = std::fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(" | ").collect()).collect();
    for name in wanted {
        assert!(rows.iter().any(|row| row[0] == name), "{name} is missing");
    }
    for row in &rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let begin = format!("| {} | {} | {} | ", row[0], row[1], row[2]);
        assert!(document.contains(&begin), "docs/faults.md is stale: run `make faults` for {begin}");
        for test in row[3].split(", ").filter(|test| *test != "-") {
            let (modules, function) = test.rsplit_once("::").unwrap();
            let file = root().join("tests").join(modules.replace("::", "/")).with_extension("rs");
            let code = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{test}: {error}"));
            assert!(code.contains(&format!("fn {function}(")), "{test} does not exist");
        }
    }
    let lines = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row ")).count();
    assert_eq!(lines, rows.len(), "docs/faults.md is stale: run `make faults`");
}
