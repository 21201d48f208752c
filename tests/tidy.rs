//! The rules of the house, read from the source itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each room may use of the others, of async, of the clock and of the machine. `error` is everybody's.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], PURE),
    // The CRD types derive from kube-core: shapes only, no client.
    ("api", &["model"], &["tokio", "futures", "reqwest", "std::fs", "std::net", "std::process", "SystemTime", "Instant::now", "Timestamp::now"]),
    ("diff", &["model"], PURE),
    ("health", &["model"], PURE),
    ("plan", &["model", "diff"], PURE),
    ("render", &["model"], PURE),
    ("report", &["model"], PURE),
    ("source", &["model", "render"], &["kube::", "kube_"]),
    ("live", &["model", "diff", "health"], &["reqwest", "git2"]),
    ("agent", &["api", "model", "source", "render", "diff", "health", "plan", "live", "report"], &[]),
    ("server", &["agent", "model"], &[]),
];

const PURE: &[&str] =
    &["kube", "tokio", "futures", "reqwest", "std::fs", "std::net", "std::process", "SystemTime", "Instant::now", "Timestamp::now"];

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
    let lines = own.lines().enumerate().map(|(number, line)| (number + 1, line.split("//").next().unwrap().to_owned()));
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
                let place = format!("{}:{number}: {}", path.strip_prefix(root()).unwrap().display(), line.trim());
                for name in rooms_named(&line) {
                    if name != "error" && name != *room && !allowed.contains(&name.as_str()) {
                        broken.push(format!("{place}\n    {room} may not use {name}"));
                    }
                }
                for word in *forbidden {
                    let uses = line.contains(&format!("{word}::")) || (word.contains("::") && line.contains(word)) || line.contains(&format!("use {word}"));
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
            assert!(!line.contains("io::stdout") && !line.contains("io::stderr"), "{}:{number}", path.display());
            assert!(!line.contains("crate::cli"), "{}:{number}: nothing uses cli", path.display());
        }
    }
}

#[test]
fn written_out_crds_are_what_the_types_say() {
    let folder = root().join("manifests/crds");
    let mut on_disk: BTreeMap<String, String> = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        on_disk.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
    }
    let mut wanted = BTreeMap::new();
    for (file, definition) in driftless::api::definitions() {
        wanted.insert(file.to_owned(), driftless::api::yaml(&definition).unwrap());
    }
    assert_eq!(on_disk.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (file, text) in &wanted {
        assert!(on_disk[file] == *text, "manifests/crds/{file} is stale: make manifests");
    }
    // The chart carries the same files.
    for (file, text) in &wanted {
        let chart = std::fs::read_to_string(root().join("charts/driftless/crds").join(file)).unwrap();
        assert!(chart == *text, "charts/driftless/crds/{file} is stale: make manifests");
    }
}

/// Every relative link of the documents leads somewhere.
#[test]
fn links_of_the_documents_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/cli.md", "docs/application.md"] {
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
