//! Our renders beside those of the real programs: `make conformance`.
//!
//! Builds kustomize and helm from the Go module registry, then renders our own cases (`RECORD=1` writes down what the
//! real programs say) and every kustomization and chart of public modules, and prints tables. An argument, `kustomize`,
//! `health` (verdicts beside those of Argo CD) or `helm`, does one of them; further arguments are folders with charts of your own, compared as well.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken premise ends a comparison"
)]

mod health;
mod helm;
mod kustomize;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Builds a program once.
fn program(module: &str, name: &str, flags: &[&str]) -> PathBuf {
    let bin = root().join("target/conformance/bin");
    let path = bin.join(name);
    if !path.exists() {
        eprintln!("building {module}");
        let done = Command::new("go")
            .arg("install")
            .args(flags)
            .arg(module)
            .env("GOBIN", &bin)
            .env("GOFLAGS", "-mod=mod")
            .status()
            .expect("go is installed");
        assert!(done.success(), "{module} does not build");
    }
    path
}

/// Where a module's archive is, fetched if need be.
fn module(name: &str) -> Option<PathBuf> {
    let done = Command::new("go").args(["mod", "download", "-json", name]).current_dir("/").output().ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&done.stdout).ok()?;
    answer["Dir"].as_str().map(PathBuf::from)
}

/// Folders below a path that hold a file of one of these names.
fn folders(below: &Path, names: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(below) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    if names.iter().any(|name| below.join(name).is_file()) {
        found.push(below.to_owned());
    }
    for path in paths.iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        folders(path, names, found);
    }
}

/// What the comparison of one module or folder gave.
#[derive(Default)]
struct Row {
    count: usize,
    same: usize,
    both_refuse: usize,
    only_ours_refuses: usize,
    only_theirs_refuses: usize,
    differ: usize,
    theirs: Duration,
    ours: Duration,
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.same += other.same;
        self.both_refuse += other.both_refuse;
        self.only_ours_refuses += other.only_ours_refuses;
        self.only_theirs_refuses += other.only_theirs_refuses;
        self.differ += other.differ;
        self.theirs += other.theirs;
        self.ours += other.ours;
    }

    fn print(&self, name: &str) {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {:.2?} | {:.2?} |",
            self.count,
            self.same,
            self.both_refuse,
            self.only_ours_refuses,
            self.only_theirs_refuses,
            self.differ,
            self.theirs,
            self.ours
        );
    }
}

/// Rows and their sum.
fn table<'a>(what: &str, program: &str, rows: impl IntoIterator<Item = (&'a str, &'a Row)>) -> Row {
    println!(
        "\n| from | {what} | same | both refuse | only ours refuses | only {program} refuses | differ | {program} | driftless |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut total = Row::default();
    for (name, row) in rows {
        row.print(name);
        total.add(row);
    }
    total.print("all");
    total
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let which = arguments.next();
    if which.as_deref().is_none_or(|which| which == "kustomize") {
        kustomize::compare();
    }
    if which.as_deref().is_none_or(|which| which == "health") {
        health::compare();
    }
    if which.as_deref().is_none_or(|which| which == "helm") {
        let more: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
        helm::compare(&more);
    }
}
