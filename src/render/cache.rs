//! What renders have in common: files that were read, and whole results.
//!
//! Everything is kept under what it was made of. A parse goes by the identity of its file and the reader; a result by
//! path and options, and it holds while every path it read has the identity it had. So applications that share a base
//! parse it once, revisions share what did not change, and an unrelated commit renders nothing.
//! Both parts are bounded in bytes, the least recently used goes first. Nothing that was made with decryption keys or
//! with substituted values (which may come from Secrets) is kept.

use std::any::Any;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::{Entry, Options, Rendered, Tree, render, sops};
use crate::error::Result;

/// Results kept for one path: as many revisions or option sets as are worked on at once.
const RESULTS_PER_PATH: usize = 4;

struct Kept<V> {
    value: V,
    bytes: usize,
    used: u64,
}

/// A map of bounded size; beyond it, a quarter goes, the least recently used first.
struct Bounded<K, V> {
    entries: HashMap<K, Kept<V>>,
    bytes: usize,
    limit: usize,
    clock: u64,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), bytes: 0, limit, clock: 0 }
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        let kept = self.entries.get_mut(key)?;
        kept.used = self.clock;
        Some(&kept.value)
    }

    fn take(&mut self, key: &K) -> Option<V> {
        let kept = self.entries.remove(key)?;
        self.bytes -= kept.bytes;
        Some(kept.value)
    }

    fn put(&mut self, key: K, value: V, bytes: usize) {
        // One that fills half of it would drive out everything else.
        if bytes > self.limit / 2 {
            return;
        }
        self.clock += 1;
        let kept = Kept { value, bytes, used: self.clock };
        self.bytes += bytes;
        if let Some(old) = self.entries.insert(key, kept) {
            self.bytes -= old.bytes;
        }
        if self.bytes <= self.limit {
            return;
        }
        let mut ages: Vec<(u64, K)> =
            self.entries.iter().map(|(key, kept)| (kept.used, key.clone())).collect();
        ages.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in ages {
            if self.bytes <= self.limit / 4 * 3 {
                break;
            }
            self.take(&key);
        }
    }
}

/// A reader and the identity of a file.
type ByReader = (&'static str, String);

/// What readers made of files.
pub struct Parses {
    kept: Mutex<Bounded<ByReader, Arc<dyn Any + Send + Sync>>>,
}

impl Parses {
    /// Empty; holds about as many bytes.
    pub fn new(limit: usize) -> Self {
        Self { kept: Mutex::new(Bounded::new(limit)) }
    }

    /// What `reader` makes of the file of this identity; made by `read`, which also says about how many bytes it
    /// takes, where it is not at hand. A failure is not kept: it names a path.
    pub fn of<T: Any + Send + Sync>(
        &self,
        reader: &'static str,
        identity: &str,
        read: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        let key = (reader, identity.to_owned());
        let found = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(found) = found.and_then(|found| found.downcast::<T>().ok()) {
            return Ok(found);
        }
        let (made, bytes) = read()?;
        let made = Arc::new(made);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(key, made.clone(), bytes);
        Ok(made)
    }
}

struct Done {
    options: Options,
    rendered: Rendered,
    bytes: usize,
}

/// Renders that share what they can; usable from several threads.
pub struct Cache {
    parses: Parses,
    results: Mutex<Bounded<String, Vec<Done>>>,
}

/// A tree whose files are parsed once.
struct Shared<'a> {
    tree: &'a dyn Tree,
    parses: &'a Parses,
}

impl Tree for Shared<'_> {
    fn entry(&self, path: &str) -> Result<Option<Entry>> {
        self.tree.entry(path)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.tree.list(path)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.tree.read(path)
    }

    fn parses(&self) -> Option<&Parses> {
        Some(self.parses)
    }

    fn is_mount(&self, name: &str) -> bool {
        self.tree.is_mount(name)
    }

    fn remote(&self, repository: &str, commit: &str) -> Option<String> {
        self.tree.remote(repository, commit)
    }
}

impl Cache {
    /// Empty; holds about as many bytes of parses and of results.
    pub fn new(parses: usize, results: usize) -> Self {
        Self { parses: Parses::new(parses), results: Mutex::new(Bounded::new(results)) }
    }

    /// As [`render`]. Where nothing that was read has changed, the objects are the very same.
    ///
    /// # Errors
    /// As [`render`].
    pub fn render(&self, tree: &dyn Tree, path: &str, options: &Options) -> Result<Rendered> {
        let secret = options.keys != sops::Keys::default() || options.substitute.is_some();
        // What `lookup` finds is no part of what a render goes by.
        if secret || options.helm.lookup.is_some() {
            return render(tree, path, options);
        }
        if let Some(found) = self.find(tree, path, options)? {
            return Ok(found);
        }
        let rendered = render(&Shared { tree, parses: &self.parses }, path, options)?;
        // A tree that knows no identity of folders cannot say later whether they changed.
        if holds(tree, &rendered)? {
            self.keep(path, options, &rendered);
        }
        Ok(rendered)
    }

    fn find(&self, tree: &dyn Tree, path: &str, options: &Options) -> Result<Option<Rendered>> {
        let mut candidates: Vec<Rendered> = Vec::new();
        {
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            let found = results.get(&path.to_owned()).into_iter().flatten();
            candidates.extend(found.filter(|one| one.options == *options).map(|one| one.rendered.clone()));
        }
        for candidate in candidates {
            if holds(tree, &candidate)? {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn keep(&self, path: &str, options: &Options, rendered: &Rendered) {
        let objects: usize = rendered.objects.iter().map(|object| 200 + weight(object.value())).sum();
        let reads: usize =
            rendered.reads.iter().map(|(path, identity)| 80 + path.len() + identity.len()).sum();
        let one = Done { options: options.clone(), rendered: rendered.clone(), bytes: 500 + objects + reads };
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = results.take(&path.to_owned()).unwrap_or_default();
        if all.len() >= RESULTS_PER_PATH {
            all.remove(0);
        }
        all.push(one);
        let bytes = all.iter().map(|one| one.bytes).sum();
        results.put(path.to_owned(), all, bytes);
    }
}

/// Whether everything that was read is in this tree as it was.
fn holds(tree: &dyn Tree, rendered: &Rendered) -> Result<bool> {
    for (path, identity) in &rendered.reads {
        let same = match tree.entry(path)? {
            Some(entry) => entry.identity == *identity && !identity.is_empty(),
            None => identity.is_empty(),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    let own = size_of::<Value>();
    match value {
        Value::String(text) => own + text.len() + 16,
        Value::Array(items) => own + items.iter().map(weight).sum::<usize>() + 16,
        // Nodes of the map are two thirds full.
        Value::Object(fields) => {
            own + fields.iter().map(|(name, value)| (weight(value) + name.len() + 40) * 3 / 2).sum::<usize>()
        }
        _ => own,
    }
}
