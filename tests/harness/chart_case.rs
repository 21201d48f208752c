//! Cases of charts: files, what is asked, and what helm printed, in one text.
//!
//! ```text
//! -- options --
//! set a=1
//! -- c/Chart.yaml --
//! ...
//! -- c/charts/s-1.0.0.tgz!s/Chart.yaml --
//! ...
//! -- expected --        or        -- refused --
//! ```
//! The chart is the folder `c`; a file with `!` in its name goes into an archive; `-- no newline --` takes away the line
//! break before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use driftless::render::helm::{Line, Options};
use driftless::render::{MemoryTree, Tree as _};

/// One case.
pub(crate) struct Case {
    /// Its file's name.
    pub(crate) name: String,
    /// All before what helm said.
    pub(crate) input: String,
    /// Options without their dashes, each with its value.
    pub(crate) options: Vec<(String, String)>,
    /// Paths and contents, archives packed.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What helm printed, or its error.
    pub(crate) said: Option<Result<String, String>>,
}

/// All cases of a folder, by name.
pub(crate) fn cases(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            read(name, &std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn read(name: String, text: &str) -> Case {
    let mut sections: Vec<(String, String)> = Vec::new();
    let mut input = String::new();
    for line in text.split_inclusive('\n') {
        let head = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --"));
        let answered = sections.iter().any(|(head, _)| head == "expected" || head == "refused");
        match head {
            Some("no newline") if !answered => {
                sections.last_mut().unwrap().1.pop();
            }
            Some(head) if !answered => sections.push((head.to_owned(), String::new())),
            _ => sections.last_mut().unwrap_or_else(|| panic!("{name}: no head")).1.push_str(line),
        }
        if sections.last().is_some_and(|(head, _)| head != "expected" && head != "refused") {
            input.push_str(line);
        }
    }
    let mut case = Case { name, input, options: Vec::new(), files: BTreeMap::new(), said: None };
    let mut archives: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (head, content) in sections {
        match head.as_str() {
            "options" => {
                for line in content.lines() {
                    let (option, value) = line.split_once(' ').unwrap_or((line, ""));
                    case.options.push((option.to_owned(), value.to_owned()));
                }
            }
            "expected" => case.said = Some(Ok(content)),
            "refused" => case.said = Some(Err(content.trim_end().to_owned())),
            path => match path.split_once('!') {
                Some((archive, path)) => {
                    archives.entry(archive.to_owned()).or_default().push((path.to_owned(), content));
                }
                None => drop(case.files.insert(path.to_owned(), content.into_bytes())),
            },
        }
    }
    for (path, inside) in archives {
        case.files.insert(path, pack(&inside));
    }
    case
}

fn pack(files: &[(String, String)]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Whether our reason is helm's. Readers of YAML and JSON have words of their own, so there it is the place that counts.
pub(crate) fn same_words(theirs: &str, ours: &str) -> bool {
    let theirs = theirs.strip_prefix("An error occurred while checking for chart dependencies. You may need to run `helm dependency build` to fetch missing dependencies: ").unwrap_or(theirs);
    if theirs == ours {
        return true;
    }
    for reader in ["error converting YAML to JSON: ", "error unmarshaling JSON: "] {
        if let Some((before, _)) = theirs.split_once(reader) {
            let before = before.trim_end_matches(": ");
            let file = before.rsplit(' ').next().unwrap_or(before);
            return ours.contains(file);
        }
    }
    // Violations come in no fixed order there.
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<BTreeSet<_>>();
    theirs.starts_with("values don't meet") && lines(theirs) == lines(ours)
}

impl Case {
    /// Its files as a tree.
    pub(crate) fn tree(&self) -> MemoryTree {
        let tree = self
            .files
            .iter()
            .fold(MemoryTree::default(), |tree, (path, content)| tree.file(path, content.clone()));
        assert!(tree.entry("c").unwrap().is_some(), "{}: the chart is the folder c", self.name);
        tree
    }

    /// What is asked of us; files are named from the root.
    pub(crate) fn asked(&self) -> Options {
        let mut options = Options { skip_crds: true, ..Options::default() };
        for (option, value) in &self.options {
            let value = value.clone();
            match option.as_str() {
                "set" => options.lines.push(Line::Typed(value)),
                "set-string" => options.lines.push(Line::Text(value)),
                "set-file" => {
                    let (name, path) = value.split_once('=').unwrap();
                    options.lines.push(Line::File(format!("{name}=/{path}")));
                }
                "values" => options.values_files.push(format!("/{value}")),
                "namespace" => options.namespace = value,
                "name" => options.release_name = value,
                "kube-version" => options.kube_version = value,
                "api-versions" => options.api_versions.push(value),
                "include-crds" => options.skip_crds = false,
                "skip-schema-validation" => options.skip_schema_validation = true,
                other => panic!("{}: unknown option {other}", self.name),
            }
        }
        options
    }
}
