//! A tree from text, in the form of the recorded cases: `-- build: folder --`, then `-- path --` before each file.

use driftless::render::MemoryTree;

pub fn of(text: &str) -> (MemoryTree, String) {
    let (mut tree, mut folder) = (MemoryTree::default(), String::new());
    let (mut path, mut content) = (None::<String>, String::new());
    for line in text.split_inclusive('\n') {
        let Some(head) = line.trim_end().strip_prefix("-- ").and_then(|line| line.strip_suffix(" --")) else {
            content.push_str(line);
            continue;
        };
        if let Some(path) = path.take() {
            tree = tree.file(&path, std::mem::take(&mut content));
        }
        content.clear();
        match head.strip_prefix("build: ") {
            Some(named) => folder = clean(named),
            None if head == "expected" || head == "refused" => break,
            None => path = Some(clean(head)),
        }
    }
    if let Some(path) = path {
        tree = tree.file(&path, content);
    }
    (tree, folder)
}

/// Paths of a tree have no `.`, no `..` and do not begin with a slash.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !["", ".", ".."].contains(part)).collect();
    parts.join("/")
}
