//! `driftless lint`.

mod gather;
mod places;
mod projects;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;

use self::gather::Gathered;
use self::projects::Projects;
use super::output::Output;
use crate::error::{Code, Error, Result};
use crate::lint::{
    CONFIGURATION_FILE, Configuration, Finding, Names, Schemas, Set, Severity, Subject, Suppressions,
    Version, all_rules, check, rule_named,
};
use crate::render::{EntryKind, Tree, is_manifest, join};
use crate::report::{
    ErrorReport, FindingReport, LintCounts, LintReport, RuleReport, SourceReport, github, junit, sarif,
};
use crate::source::FolderTree;

#[derive(Args)]
pub(super) struct Arguments {
    /// Folders or files: manifests, kustomizations, charts, Applications with their sources in the same repository
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,
    /// Folders or files with `CustomResourceDefinitions` of the cluster
    #[arg(long, value_name = "PATH")]
    schemas: Vec<PathBuf>,
    /// The release of Kubernetes that APIs are held against, such as 1.34
    #[arg(long)]
    kube_version: Option<String>,
    /// Turn rules off
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    disable: Vec<String>,
    /// Turn all other rules off
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    only: Vec<String>,
    /// Give a rule another severity: error, warning or info
    #[arg(long, value_name = "RULE=SEVERITY", value_delimiter = ',')]
    severity: Vec<String>,
    /// Show findings from this severity on
    #[arg(long, value_enum, default_value = "info")]
    min_severity: Level,
    /// End with 1 from this severity on
    #[arg(long, value_enum, default_value = "error")]
    fail_on: Level,
    /// text, json, sarif, github (annotations of a workflow) or junit
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// Print all rules
    #[arg(long, conflicts_with = "explain")]
    list: bool,
    /// Print the page of a rule
    #[arg(long, value_name = "RULE")]
    explain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Level {
    Error,
    Warning,
    Info,
}

impl Level {
    fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Info => Severity::Info,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
    Github,
    Junit,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<u8> {
    if arguments.list {
        list(output);
        return Ok(0);
    }
    if let Some(id) = &arguments.explain {
        return explain(id, output);
    }
    let roots = places::roots(&arguments.paths)?;
    let mut configuration =
        roots.first().map_or_else(|| Ok(Configuration::default()), places::configuration)?;
    adjust(&mut configuration, arguments)?;
    let mut schemas = Schemas::default();
    for path in &arguments.schemas {
        definitions(path, &mut schemas)?;
    }
    let mut whole = LintReport::default();
    let (mut findings, mut errors, mut counts) = (Vec::new(), Vec::new(), LintCounts::default());
    let several = roots.len() > 1;
    for root in &roots {
        let tree = FolderTree::new(&root.path);
        let gathered = gather::gather(&tree, &FolderTree::names(&root.path), &root.inner, &configuration)?;
        let mut found = examine(&tree, &gathered, &configuration, schemas.clone());
        if several {
            let prefix = places::prefix(&root.path);
            for source in found.findings.iter_mut().filter_map(|finding| finding.source.as_mut()) {
                source.file = format!("{prefix}{}", source.file);
            }
        }
        counts.objects += found.counts.objects;
        counts.suppressed += found.counts.suppressed;
        counts.without_schema += found.counts.without_schema;
        findings.append(&mut found.findings);
        errors.extend(gathered.errors.iter().map(ErrorReport::from));
        whole.notes.append(&mut found.notes);
    }
    let least = arguments.min_severity.severity();
    let severity = |finding: &FindingReport| Severity::parse(&finding.severity).unwrap_or(Severity::Error);
    findings.retain(|finding| severity(finding) >= least);
    let report = LintReport { notes: whole.notes, ..LintReport::new(findings, errors, counts) };
    let report = LintReport { rules: used(&report.findings), ..report };
    let prefix = if several {
        String::new()
    } else {
        roots.first().map(|root| places::prefix(&root.path)).unwrap_or_default()
    };
    show(&report, &prefix, arguments.output, output);
    let fails = arguments.fail_on.severity();
    Ok(match report.findings.iter().any(|finding| severity(finding) >= fails) {
        _ if !report.errors.is_empty() => 3,
        true => 1,
        false => 0,
    })
}

fn show(report: &LintReport, prefix: &str, format: Format, output: &Output) {
    match format {
        Format::Text => output.data(&report.text(prefix, output.colour)),
        Format::Json => output.data(&report.json()),
        Format::Sarif => output.data(&sarif(report, env!("CARGO_PKG_VERSION"))),
        Format::Github => output.data(&github(report)),
        Format::Junit => output.data(&junit(report)),
    }
}

/// What the options of the command say beside the file.
fn adjust(configuration: &mut Configuration, arguments: &Arguments) -> Result<()> {
    arguments.disable.iter().try_for_each(|id| configuration.disable(id))?;
    arguments.only.iter().try_for_each(|id| configuration.only(id))?;
    for stated in &arguments.severity {
        let (id, severity) = stated.split_once('=').ok_or_else(|| {
            Error::new(Code::Usage, format!("{stated:?} is not RULE=SEVERITY"))
                .hint("--severity mutable-image-tag=error")
        })?;
        configuration.set_severity(id, severity)?;
    }
    if let Some(text) = &arguments.kube_version {
        configuration.kubernetes = Version::parse(text)
            .ok_or_else(|| Error::new(Code::Usage, format!("{text:?} is no version such as 1.34")))?;
    }
    Ok(())
}

/// Every CRD below a path of this machine.
fn definitions(path: &Path, schemas: &mut Schemas) -> Result<()> {
    let unreadable = |error: std::io::Error| {
        Error::new(Code::FileUnreadable, format!("cannot read {}: {error}", path.display()))
    };
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return definitions_of(&FolderTree::names(path), "", schemas);
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    add(&bytes, &path.display().to_string(), schemas)
}

fn definitions_of(tree: &dyn Tree, folder: &str, schemas: &mut Schemas) -> Result<()> {
    for entry in tree.list(folder)? {
        let path = join(folder, &entry.name);
        match entry.kind {
            EntryKind::Folder => definitions_of(tree, &path, schemas)?,
            EntryKind::File if is_manifest(&path) => {
                let bytes = tree.read(&path)?;
                // Folders of CRDs hold patches and templates too.
                if String::from_utf8_lossy(&bytes).contains("CustomResourceDefinition") {
                    add(&bytes, &path, schemas)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn add(bytes: &[u8], file: &str, schemas: &mut Schemas) -> Result<()> {
    for document in crate::model::yaml::read(bytes, file)? {
        schemas.add(&document.value);
    }
    Ok(())
}

/// The schemas of our own kinds.
pub(super) fn own_definitions() -> Schemas {
    let mut schemas = Schemas::default();
    for (_, definition) in crate::api::definitions() {
        if let Ok(value) = serde_json::to_value(&definition) {
            schemas.add(&value);
        }
    }
    schemas
}

/// Checks everything that was gathered, and finds the places of what was found.
fn examine(
    tree: &dyn Tree,
    gathered: &Gathered,
    configuration: &Configuration,
    mut schemas: Schemas,
) -> LintReport {
    let mut names = Names::default();
    for unit in &gathered.units {
        names.add(&unit.subjects);
        unit.subjects.iter().for_each(|subject| schemas.add(&subject.value));
    }
    schemas.fill(own_definitions());
    let (mut report, mut without) = (LintReport::default(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    let mut finder = places::Finder::new(tree);
    let projects = Projects::of(&gathered.units);
    for unit in &gathered.units {
        report.counts.objects += unit.subjects.len();
        let set = Set::new(&unit.subjects, &names);
        // Of several CRDs of one kind in a tree, the one that is applied with the object counts.
        let mut own = Schemas::default();
        unit.subjects.iter().for_each(|subject| own.add(&subject.value));
        own.fill(schemas.clone());
        let mut checked = check(&set, &own, configuration, &unit.hidden);
        finder.read(unit);
        checked
            .findings
            .extend(finder.own(unit).into_iter().filter(|finding| configuration.is_on(finding.rule)));
        checked.findings.extend(of_projects(&projects, unit, configuration));
        report.counts.without_schema += checked.unknown.len();
        without.extend(checked.unknown.iter().map(ToString::to_string));
        for finding in &checked.findings {
            let subject = &unit.subjects[finding.subject];
            let place = finder.place(unit, subject, finding);
            if finder.suppressions.holds(finding, subject, &place.file, place.line) {
                report.counts.suppressed += 1;
                continue;
            }
            let found = finding_report(finding, subject, &place, unit.app.as_deref());
            let key = (found.position(), found.rule.clone(), found.message.clone());
            // An object of a base is the same in every overlay.
            if found.source.is_none() || seen.insert(key) {
                report.findings.push(found);
            }
        }
    }
    report.notes.extend(gathered.notes.iter().cloned());
    if !without.is_empty() {
        let shown: Vec<&str> = without.iter().take(5).map(String::as_str).collect();
        let more = if without.len() > shown.len() {
            format!(" and {} more kinds", without.len() - shown.len())
        } else {
            String::new()
        };
        report.notes.push(format!(
            "{} objects have no schema here, so their fields were not checked: {}{more} (--schemas takes CRDs)",
            report.counts.without_schema,
            shown.join(", ")
        ));
    }
    report
}

fn of_projects(projects: &Projects, unit: &gather::Unit, configuration: &Configuration) -> Vec<Finding> {
    let found = projects.findings(unit).into_iter().filter(|finding| configuration.is_on(finding.rule));
    let message = |text: &str| unit.hidden.scrub(text);
    let with = |finding: Finding| Finding {
        severity: configuration.severity(finding.rule),
        message: message(&finding.message),
        ..finding
    };
    found.map(with).collect()
}

/// A place of a finding: file, line, column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A finding as it is reported.
pub(super) fn finding_report(
    finding: &Finding,
    subject: &Subject,
    place: &Place,
    app: Option<&str>,
) -> FindingReport {
    FindingReport {
        rule: finding.rule.id.to_owned(),
        severity: finding.severity.name().to_owned(),
        message: finding.message.clone(),
        help: finding.rule.page.to_owned(),
        object: subject.title(),
        pointer: finding.pointer.clone(),
        source: (!place.file.is_empty()).then(|| SourceReport { file: place.file.clone(), line: place.line }),
        column: place.column,
        app: app.map(str::to_owned),
    }
}

/// The rules of what was found.
fn used(findings: &[FindingReport]) -> Vec<RuleReport> {
    let ids: BTreeSet<&str> = findings.iter().map(|finding| finding.rule.as_str()).collect();
    let rules = all_rules().into_iter().filter(|rule| ids.contains(rule.id));
    rules
        .map(|rule| RuleReport {
            id: rule.id.to_owned(),
            severity: rule.severity.name().to_owned(),
            confidence: rule.confidence.name().to_owned(),
            system: rule.system.to_owned(),
            title: rule.title.to_owned(),
            help: rule.page.to_owned(),
        })
        .collect()
}

fn list(output: &Output) {
    let rows: Vec<Vec<String>> = all_rules()
        .iter()
        .map(|rule| {
            [rule.id, rule.severity.name(), rule.confidence.name(), rule.system, rule.title]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    output.table(&["RULE", "SEVERITY", "CONFIDENCE", "SYSTEM", "WHAT IS WRONG"], &rows);
}

/// The page of a rule.
pub(super) fn explain(id: &str, output: &Output) -> Result<u8> {
    let rule = rule_named(id).ok_or_else(|| {
        Error::new(Code::Usage, format!("there is no rule {id}"))
            .hint("driftless lint --list shows all of them")
    })?;
    output.data(&format!(
        "{}: {}\n\n{}\n\nSystem {}, severity {}, {}. Suppress it in one document with the comment\n`# driftless:lint-ignore {} REASON`, everywhere with `lint: {{disable: [{}]}}` in .driftless.yaml.\n",
        rule.id,
        rule.title,
        rule.page,
        rule.system,
        rule.severity.name(),
        rule.confidence.name(),
        rule.id,
        rule.id
    ));
    Ok(0)
}
