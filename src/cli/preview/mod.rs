//! `driftless preview`.

mod find;
mod findings;
mod parallel;
mod projects;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use globset::{Glob, GlobMatcher};
use serde_json::Value;

use self::find::Stated;
use self::projects::{Written, newly_refused};
use super::drift::{change_report, show};
use super::lint::own_definitions;
use super::output::{Output, ReportFormat};
use super::workspace;
use crate::agent::{AppKey, Capable, Given, Remotes, RenderedApp, offline_materials, unchanged};
use crate::api::Application;
use crate::diff::{between, mask};
use crate::error::{Code, Error, Result};
use crate::lint::{Configuration, Schemas};
use crate::model::Key;
use crate::plan::{Address, Desired};
use crate::render::sops::Keys;
use crate::render::{Cache, EntryKind, Tree, join};
use crate::report::{AppReport, Class, ObjectReport, Report};
use crate::source::{GitTree, Snapshot};

#[derive(Args)]
pub(super) struct Arguments {
    /// Two revisions, such as origin/main..HEAD; HEAD is taken for what is missing
    range: String,
    /// The repository
    #[arg(long, default_value = ".")]
    repo: PathBuf,
    /// Files that hold Applications, as globs; every YAML and JSON file where none is given
    #[arg(long)]
    app_glob: Vec<String>,
    /// text, json or markdown
    #[arg(short, long, value_enum, default_value = "text")]
    output: ReportFormat,
    /// End with 0 even when something differs
    #[arg(long)]
    exit_zero: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<u8> {
    let (base, head) = arguments.range.split_once("..").ok_or_else(|| {
        Error::new(Code::Usage, format!("{:?} is no range", arguments.range))
            .hint("driftless preview origin/main..HEAD")
    })?;
    // Three dots mean the same here.
    let head = head.trim_start_matches('.');
    let name = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
    let base = Snapshot::open(&arguments.repo, &name(base))?;
    let head = Snapshot::open(&arguments.repo, &name(head))?;
    // A merge brings what head has changed since they parted; what base got since then stays.
    let base = base.merge_base(&head)?.unwrap_or(base);
    let globs = arguments
        .app_glob
        .iter()
        .map(|glob| Glob::new(glob).map(|glob| glob.compile_matcher()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| Error::new(Code::Usage, format!("--app-glob: {error}")))?;
    let mut sides = Sides::new(base, head, workspace::keys()?);
    sides.lint = findings::configuration(&sides.after)?;
    let (apps, errors) = compare(&sides, &globs, true, output)?;
    let report = Report::new("preview", apps, &errors);
    show(&report, arguments.output, output);
    let code = report.exit_code(&errors);
    Ok(if arguments.exit_zero && code == 1 { 0 } else { code })
}

/// The two commits and what their renders have in common.
struct Sides {
    before: Snapshot,
    after: Snapshot,
    keys: Keys,
    cache: Cache,
    /// What the head says about lint.
    lint: Configuration,
    /// Of our own kinds.
    schemas: Schemas,
}

/// A preview may take this many bytes for files that several applications read, and for results.
const PARSES: usize = 256 << 20;
const RESULTS: usize = 16 << 20;

impl Sides {
    fn new(before: Snapshot, after: Snapshot, keys: Keys) -> Self {
        Self {
            before,
            after,
            keys,
            cache: Cache::new(PARSES, RESULTS),
            lint: Configuration::default(),
            schemas: own_definitions(),
        }
    }

    /// The objects of an application at a commit; none where it is not there.
    fn side(&self, application: Option<&Application>, snapshot: &Snapshot) -> Result<RenderedApp> {
        let Some(application) = application else { return Ok(RenderedApp::default()) };
        let snapshots = vec![snapshot.clone(); application.spec.sources().count()];
        let materials = offline_materials(&application.spec, &self.keys)?;
        // The same seed and time on both sides: random values do not differ.
        let capable = Capable::default();
        let given = Given {
            snapshots: &snapshots,
            materials: &materials,
            cache: &self.cache,
            capable: &capable,
            remotes: &Remotes::default(),
        };
        workspace::render_at(application, given)
    }
}

/// A report on each application, and what failed. With `skipping`, one whose inputs are the same on both sides is not
/// rendered more than it takes to know that.
fn compare(
    sides: &Sides,
    globs: &[GlobMatcher],
    skipping: bool,
    output: &Output,
) -> Result<(Vec<AppReport>, Vec<Error>)> {
    let (before, after) = (sides.before.tree()?, sides.after.tree()?);
    let (old, new): (Stated, Stated) = find::applications(&before, &after, globs)?;
    let mut names: Vec<&String> = old.applications.keys().chain(new.applications.keys()).collect();
    names.sort();
    names.dedup();
    let here = sides.after.remotes()?;
    let here: Vec<Address> = here.iter().filter_map(|url| Address::parse(url).ok()).collect();
    let is_own = |title: &String| {
        let stated = [&old, &new].into_iter().find_map(|side| side.applications.get(title));
        stated.is_some_and(|application| is_of(application, &here))
    };
    // A mirror or a fork has other addresses than its Applications name: then they are all taken for its own.
    if names.iter().any(|title| is_own(title)) {
        let all = names.len();
        names.retain(|title| is_own(title));
        if names.len() < all {
            output.say(&format!("Applications of other repositories, passed over: {}.", all - names.len()));
        }
    }
    let (timer, done) = (Mutex::new(std::time::Instant::now()), AtomicUsize::new(0));
    let results = parallel::each(&names, |_, title| -> Result<(AppReport, Vec<Error>)> {
        let of = |side: &Stated| side.applications.get(*title).cloned();
        let (was, is) = (of(&old), of(&new));
        let (was, is) = (was.as_deref(), is.as_deref());
        // What a Project refuses may be new though nothing else is.
        let skipping = skipping
            && is.is_some_and(|is| old.projects.get(&is.spec.project) == new.projects.get(&is.spec.project));
        let report = match (was, is) {
            (Some(was), Some(is)) if skipping && was.spec == is.spec && same_folders(is, &before, &after) => {
                Ok((blank(is, &sides.after), Vec::new()))
            }
            _ => app((was, &old.projects), (is, &new.projects), sides, skipping),
        };
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Ok(mut timer) = timer.try_lock() {
            output.progress(&mut timer, done, names.len(), "applications compared");
        }
        report.map_err(|error| error.in_app(title))
    });
    let (mut apps, mut errors) = (Vec::new(), Vec::new());
    for (result, title) in results.into_iter().zip(&names) {
        match result {
            Ok((report, refused)) => {
                apps.push(report);
                errors.extend(refused.into_iter().map(|error| error.in_app(title)));
            }
            Err(error) => errors.push(error),
        }
    }
    Ok((apps, errors))
}

/// Whether one of its sources is in a repository with one of these addresses.
fn is_of(application: &Application, here: &[Address]) -> bool {
    let of = application.spec.sources().filter(|source| source.chart.is_empty());
    of.filter_map(|source| Address::parse(&source.repo).ok())
        .any(|source| here.iter().any(|known| known.is_same_repository(&source)))
}

fn blank(application: &Application, head: &Snapshot) -> AppReport {
    let AppKey { namespace, name } = AppKey::from(application);
    AppReport { namespace, name, revision: head.commit.clone(), ..AppReport::default() }
}

/// Whether all folders of an application are the same on both sides and nothing in them leads out of them: plain
/// manifests without links. Of a kustomization or a chart, the render says what else it read.
fn same_folders(application: &Application, before: &GitTree, after: &GitTree) -> bool {
    application.spec.sources().all(|source| {
        let path = source.path.trim_matches('/');
        let same = match (before.entry(path), after.entry(path)) {
            (Ok(Some(before)), Ok(Some(after))) => before.identity == after.identity,
            _ => false,
        };
        same && stays_inside(after, path, source.directory.recurse)
    })
}

/// Files that make more of a folder than its manifests.
const LEADING_OUT: [&str; 4] = ["kustomization.yaml", "kustomization.yml", "Kustomization", "Chart.yaml"];

fn stays_inside(tree: &GitTree, path: &str, recurse: bool) -> bool {
    // On the way to the path may be a link, which `list` does not follow.
    let Ok(entries) = tree.list(path) else { return false };
    entries.iter().all(|entry| match entry.kind {
        EntryKind::Link => false,
        EntryKind::File => !LEADING_OUT.contains(&entry.name.as_str()),
        EntryKind::Folder if recurse => stays_inside(tree, &join(path, &entry.name), recurse),
        _ => true,
    })
}

/// An Application on one side, and the Projects there.
type Asks<'a> = (Option<&'a Application>, &'a Written);

/// How an application differs, and what its Project refuses of that.
fn app(
    (was, old): Asks<'_>,
    (is, new): Asks<'_>,
    sides: &Sides,
    skipping: bool,
) -> Result<(AppReport, Vec<Error>)> {
    let before = sides.side(was, &sides.before)?;
    if let (true, Some(was), Some(is)) = (skipping, was, is)
        && was.spec == is.spec
        && unchanged(&before.reads, &vec![sides.after.clone(); before.reads.len()])
    {
        return Ok((blank(is, &sides.after), Vec::new()));
    }
    let after = sides.side(is, &sides.after)?;
    let by_key = |rendered: RenderedApp| -> BTreeMap<Key, Desired> {
        rendered.prepared.desired.into_iter().map(|object| (object.key.clone(), object)).collect()
    };
    let (before, after) = (by_key(before), by_key(after));
    let mut report = is.or(was).map(|application| blank(application, &sides.after)).unwrap_or_default();
    report.findings = findings::new(&before, &after, sides)?;
    let refused = newly_refused(&(old, was, before.values().collect()), &(new, is, after.values().collect()));
    let value = |object: &Desired| -> Result<Value> {
        serde_json::from_slice(&object.body).map_err(|error| Error::new(Code::Internal, error.to_string()))
    };
    for (key, object) in &after {
        match before.get(key) {
            None => report.objects.push(ObjectReport::new(
                &object.gvk,
                key,
                Class::Missing,
                Some(&object.origin),
                vec![],
            )),
            Some(old) if old.digest == object.digest => report.unchanged += 1,
            Some(old) => {
                let after = value(object)?;
                let mut changes = between(&after, &value(old)?);
                mask::changes(&object.gvk, &mut changes);
                let mut hidden = object.hidden.clone();
                hidden.merge(&old.hidden);
                mask::confidential(&hidden, &after, &mut changes);
                let changes = changes.into_iter().map(change_report).collect();
                report.objects.push(ObjectReport::new(
                    &object.gvk,
                    key,
                    Class::Modified,
                    Some(&object.origin),
                    changes,
                ));
            }
        }
    }
    for (key, old) in before.iter().filter(|(key, _)| !after.contains_key(key)) {
        report.objects.push(ObjectReport::new(&old.gvk, key, Class::Extra, Some(&old.origin), vec![]));
    }
    Ok((report, refused))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use git2::{ObjectType, Repository};
    use proptest::prelude::*;

    use super::*;
    use crate::cli::output::Colour;

    type Files = BTreeMap<String, String>;

    /// A tree of Git's from files; a content that begins with `->` is a link.
    fn tree(repository: &Repository, files: &Files, below: &str) -> git2::Oid {
        let mut builder = repository.treebuilder(None).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for (path, content) in
            files.iter().filter_map(|(path, content)| Some((path.strip_prefix(below)?, content)))
        {
            match path.split_once('/') {
                Some((folder, _)) if seen.insert(folder) => {
                    let id = tree(repository, files, &format!("{below}{folder}/"));
                    builder.insert(folder, id, 0o040_000).unwrap();
                }
                Some(_) => {}
                None => {
                    let (content, mode) = match content.strip_prefix("->") {
                        Some(target) => (target, 0o120_000),
                        None => (content.as_str(), 0o100_644),
                    };
                    let id = repository.odb().unwrap().write(ObjectType::Blob, content.as_bytes()).unwrap();
                    builder.insert(path, id, mode).unwrap();
                }
            }
        }
        builder.write().unwrap()
    }

    fn commit(repository: &Repository, files: &Files) -> Snapshot {
        let by = git2::Signature::now("a", "a@example.com").unwrap();
        let tree = repository.find_tree(tree(repository, files, "")).unwrap();
        let id = repository.commit(None, &by, &by, "x", &tree, &[]).unwrap();
        Snapshot::open(repository.path(), &id.to_string()).unwrap()
    }

    fn map(name: &str, value: usize) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{v: '{value}'}}\n")
    }

    fn application(name: &str, path: &str, more: &str) -> String {
        format!(
            "apiVersion: driftless.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: ml}}\nspec:\n  source: {{repo: 'https://git.example/x.git', path: {path}{more}}}\n"
        )
    }

    /// Ten applications: plain, with links, overlays of shared bases, with options, of a single file.
    fn fleet() -> Files {
        let mut files = Files::new();
        let mut put = |path: &str, content: String| drop(files.insert(path.to_owned(), content));
        let sources = [
            ("plain", "apps/plain", ""),
            ("deep", "apps/deep", ", directory: {recurse: true}"),
            ("linked", "apps/linked", ""),
            ("over", "apps/over", ""),
            ("other", "apps/other", ""),
            ("options", "apps/other", ", kustomize: {namePrefix: x-, components: [../../comp]}"),
            ("file", "apps/plain/a.yaml", ""),
            ("nowhere", "apps/nowhere", ""),
            ("chained", "apps/chained", ""),
        ];
        for (name, path, more) in sources {
            put(&format!("fleet/{name}.yaml"), application(name, path, more));
        }
        put(
            "fleet/two.yaml",
            format!("{}---\n{}", application("a", "apps/plain", ""), application("b", "apps/deep", "")),
        );
        put("apps/plain/a.yaml", map("a", 1));
        put("apps/plain/b.yaml", map("b", 1));
        put("apps/plain/sub/c.yaml", map("c", 1));
        put("apps/deep/a.yaml", map("a", 1));
        put("apps/deep/x/b.yaml", map("b", 1));
        put("apps/linked/a.yaml", map("a", 1));
        put("apps/linked/b.yaml", "->../../shared/b.yaml".into());
        put("shared/b.yaml", map("b", 1));
        put("apps/over/kustomization.yaml", "resources: [../../base]\nnamePrefix: over-\n".into());
        put("apps/other/kustomization.yaml", "resources: [../../base, own.yaml]\nconfigMapGenerator:\n- {name: g, files: [../../shared/g.txt]}\n".into());
        put("apps/other/own.yaml", map("own", 1));
        put("apps/chained/kustomization.yaml", "resources: [../over]\nnameSuffix: -z\n".into());
        put("shared/g.txt", "text\n".into());
        put("base/kustomization.yaml", "resources: [c.yaml, d.yaml]\n".into());
        put("base/c.yaml", map("c", 1));
        put("base/d.yaml", map("d", 1));
        put(
            "comp/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {a: b}\n"
                .into(),
        );
        put("docs/x.md", "hello\n".into());
        files
    }

    /// One edit of a merge.
    fn edit(files: &mut Files, (what, which, how): (u8, prop::sample::Index, u8)) {
        let paths: Vec<String> = files.keys().cloned().collect();
        let path = which.get(&paths).clone();
        let edited = files.get(&path).cloned().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        match what % 10 {
            0..=3 => drop(files.insert(path, edited.replace("'1'", &format!("'{how}'")))),
            4 => drop(files.remove(&path)),
            5 => drop(files.insert(format!("{folder}/new.yaml"), map("new", how.into()))),
            6 => drop(files.insert(path, format!("{edited}# a comment\n"))),
            7 => drop(files.insert(path, "a: [".into())),
            8 => drop(
                files.insert(format!("{folder}/kustomization.yml"), "resources: []\nnamePrefix: q-\n".into()),
            ),
            _ => drop(
                files.insert(path, edited.replace("over", "other").replace("namePrefix: ", "namePrefix: y")),
            ),
        }
    }

    /// Reports and failures by application; what does not differ only by its name.
    fn outcome(
        sides: &Sides,
        skipping: bool,
    ) -> Result<(BTreeMap<String, AppReport>, BTreeMap<String, Error>)> {
        let (apps, errors) = compare(sides, &[], skipping, &Output::new(Colour::Never))?;
        let apps = apps.into_iter().filter(|app| !app.objects.is_empty());
        Ok((
            apps.map(|app| (format!("{}/{}", app.namespace, app.name), app)).collect(),
            errors.into_iter().map(|error| (error.place.app.clone().unwrap_or_default(), error)).collect(),
        ))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Skipping finds every difference that comparing everything finds, and nothing else.
        #[test]
        fn skipping_changes_no_answer(
            before in prop::collection::vec(any::<(u8, prop::sample::Index, u8)>(), 0..3),
            edits in prop::collection::vec(any::<(u8, prop::sample::Index, u8)>(), 0..4),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let repository = Repository::init_bare(folder.path()).unwrap();
            let mut files = fleet();
            before.into_iter().for_each(|one| edit(&mut files, one));
            let old = commit(&repository, &files);
            edits.into_iter().for_each(|one| edit(&mut files, one));
            let new = commit(&repository, &files);
            let fast = outcome(&Sides::new(old.clone(), new.clone(), Keys::default()), true);
            let full = outcome(&Sides::new(old.clone(), new.clone(), Keys::default()), false);
            // The other way about, to know what failed before.
            let back = outcome(&Sides::new(new, old, Keys::default()), false);
            match (fast, full, back) {
                (Ok((fast, failed)), Ok((full, all)), Ok((_, earlier))) => {
                    prop_assert_eq!(fast, full);
                    for (app, error) in &failed {
                        prop_assert_eq!(all.get(app), Some(error));
                    }
                    // Left out is only what failed in the same way before: the merge has no part in it.
                    for (app, error) in all.iter().filter(|(app, _)| !failed.contains_key(*app)) {
                        prop_assert_eq!(earlier.get(app), Some(error), "{}", app);
                    }
                }
                (fast, full, _) => prop_assert_eq!(fast.err(), full.err()),
            }
        }
    }
}
