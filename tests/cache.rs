//! One cache for many renders: what is shared, and what must not be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use driftless::error::Result;
use driftless::render::{Cache, Entry, MemoryTree, Options, Tree, helm, render, substitute};

/// Counts the files that are read.
struct Counting<'a> {
    tree: &'a MemoryTree,
    read: RefCell<BTreeMap<String, usize>>,
}

impl<'a> Counting<'a> {
    fn new(tree: &'a MemoryTree) -> Self {
        Self { tree, read: RefCell::default() }
    }

    fn of(&self, path: &str) -> usize {
        self.read.borrow().get(path).copied().unwrap_or_default()
    }

    fn all(&self) -> usize {
        self.read.borrow().values().sum()
    }
}

impl Tree for Counting<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        self.tree.entry(path)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.tree.list(path)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        *self.read.borrow_mut().entry(path.to_owned()).or_default() += 1;
        self.tree.read(path)
    }
}

fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n")
}

fn fleet() -> MemoryTree {
    let tree = MemoryTree::default()
        .file("base/kustomization.yaml", "resources: [c.yaml]\n")
        .file("base/c.yaml", map("c", "1"))
        .file("plain/a.yaml", map("a", "1"));
    (0..10).fold(tree, |tree, number| {
        let content = format!("resources: [../../base]\nnamePrefix: n{number}-\n");
        tree.file(&format!("apps/{number}/kustomization.yaml"), content)
    })
}

#[test]
fn applications_share_the_parse_of_their_base() {
    let (tree, cache) = (fleet(), Cache::new(1 << 20, 1 << 20));
    let counting = Counting::new(&tree);
    for number in 0..10 {
        let path = format!("apps/{number}");
        let rendered = cache.render(&counting, &path, &Options::default()).unwrap();
        let alone = render(&tree, &path, &Options::default()).unwrap();
        assert_eq!((rendered.digest(), &rendered.reads), (alone.digest(), &alone.reads));
        assert_eq!(rendered.objects[0].name(), format!("n{number}-c"));
    }
    assert_eq!((counting.of("base/c.yaml"), counting.of("base/kustomization.yaml")), (1, 1));
}

#[test]
fn the_same_inputs_give_the_same_objects_and_others_are_rendered() {
    let (tree, cache) = (fleet(), Cache::new(1 << 20, 1 << 20));
    for path in ["apps/1", "plain"] {
        let first = cache.render(&tree, path, &Options::default()).unwrap();
        // An unrelated commit.
        let other = fleet().file("docs/x.md", "hello");
        let counting = Counting::new(&other);
        let second = cache.render(&counting, path, &Options::default()).unwrap();
        assert!(Arc::ptr_eq(&first.objects, &second.objects));
        assert_eq!(counting.all(), 0, "nothing is read for it");
    }
    // A change below the base, a file that comes where none was, and other options.
    let changed = fleet().file("base/c.yaml", map("c", "2"));
    let rendered = cache.render(&changed, "apps/1", &Options::default()).unwrap();
    assert_eq!(rendered.objects[0].value()["data"]["a"], "2");
    let second_file = fleet().file("apps/1/kustomization.yml", "resources: []");
    assert!(cache.render(&second_file, "apps/1", &Options::default()).is_err());
    let mut options = Options::default();
    options.kustomize.name_suffix = "-z".into();
    assert_eq!(cache.render(&tree, "apps/1", &options).unwrap().objects[0].name(), "n1-c-z");
    assert_eq!(cache.render(&tree, "apps/1", &Options::default()).unwrap().objects[0].name(), "n1-c");
}

#[test]
fn nothing_is_kept_of_secrets_and_of_what_is_live() {
    let (tree, cache) = (fleet(), Cache::new(1 << 20, 1 << 20));
    let mut keys = Options::default();
    keys.keys.add(include_str!("data/sops/one.agekey"), "one.agekey").unwrap();
    let variables = Options { substitute: Some(substitute::Variables::default()), ..Options::default() };
    let mut lookup = Options::default();
    lookup.helm.lookup = Some(helm::Live(std::sync::Arc::new(|_, _, _, _| Ok(None))));
    for options in [keys, variables, lookup] {
        let counting = Counting::new(&tree);
        cache.render(&counting, "apps/1", &options).unwrap();
        let once = counting.all();
        cache.render(&counting, "apps/1", &options).unwrap();
        assert_eq!(counting.all(), 2 * once, "both times all is read");
    }
}

/// A tree that does not know the identity of folders, as the files of this machine.
struct Unknowing<'a>(&'a MemoryTree);

impl Tree for Unknowing<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        let entry = self.0.entry(path)?;
        Ok(entry.map(|entry| match entry.kind {
            driftless::render::EntryKind::Folder => Entry { identity: String::new(), ..entry },
            _ => entry,
        }))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.0.list(path)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.0.read(path)
    }
}

#[test]
fn what_has_no_identity_is_not_kept() {
    let cache = Cache::new(1 << 20, 1 << 20);
    cache.render(&Unknowing(&fleet()), "plain", &Options::default()).unwrap();
    let changed = fleet().file("plain/b.yaml", map("b", "1"));
    assert_eq!(cache.render(&Unknowing(&changed), "plain", &Options::default()).unwrap().objects.len(), 2);
}

#[test]
fn the_cache_is_bounded_and_serves_several_threads() {
    // Room for a few results only.
    let cache = Cache::new(10_000, 10_000);
    let tree = fleet();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..50 {
                    let number = round % 10;
                    let rendered =
                        cache.render(&tree, &format!("apps/{number}"), &Options::default()).unwrap();
                    assert_eq!(rendered.objects[0].name(), format!("n{number}-c"));
                }
            });
        }
    });
    let counting = Counting::new(&tree);
    for number in 0..10 {
        cache.render(&counting, &format!("apps/{number}"), &Options::default()).unwrap();
    }
    assert!(counting.all() > 0, "not all ten results fit");
    let none = Cache::new(0, 0);
    none.render(&counting, "plain", &Options::default()).unwrap();
    let before = counting.all();
    none.render(&counting, "plain", &Options::default()).unwrap();
    assert_eq!(counting.all(), before + 1);
}
