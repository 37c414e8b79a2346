//! What may be here and at the remote after a death, and what must be.

use super::*;

/// The tree after the first ops, as if nobody else was there.
pub(super) fn after(scenario: &Scenario, ops: usize) -> Tree {
    let mut tree = Tree::new();
    let put = |tree: &mut Tree, path: &str, content: Option<String>| {
        let mut above = path;
        while let Some((folder, _)) = above.rsplit_once('/') {
            tree.entry(folder.to_owned()).or_insert(None);
            above = folder;
        }
        tree.insert(path.to_owned(), content);
    };
    for (path, content) in scenario.before {
        put(&mut tree, path, Some((*content).to_owned()));
    }
    for op in scenario.ops.iter().take(ops) {
        match *op {
            Write(path, content) | Put(path, content) => {
                put(&mut tree, path, Some(content.to_owned()));
            }
            Append(path, content) => {
                let old = tree.get(path).cloned().flatten().unwrap_or_default();
                put(&mut tree, path, Some(old + content));
            }
            MakeFolder(path) => put(&mut tree, path, None),
            Remove(path) | Away(path) => drop(tree.remove(path)),
            Rename(from, to) => {
                let below = format!("{from}/");
                let moved: Vec<String> =
                    tree.keys().filter(|p| *p == from || p.starts_with(&below)).cloned().collect();
                for path in moved {
                    let content = tree.remove(&path).unwrap();
                    tree.insert(path.replacen(from, to, 1), content);
                }
            }
            Read(_) | Free(_) | Settle | Restart => {}
        }
    }
    tree
}

pub(super) fn remote_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Who is killed while it tries out the file system leaves that file; it is hidden, and goes after a minute.
            if path.to_string_lossy().contains("/.dewfs-tmp.probe.") {
                continue;
            }
            let text = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
                tree.insert(text, None);
            } else {
                tree.insert(text, Some(fs::read_to_string(&path).unwrap()));
            }
        }
    }
    tree
}

pub(super) async fn local_tree(engine: &Engine) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![Ino::ROOT];
    while let Some(folder) = folders.pop() {
        // What goes while it is looked at is not there: whoever compares looks again.
        for item in engine.folder_status(folder, true).await.unwrap_or_default() {
            let path = String::from_utf8(item.path.clone()).unwrap();
            let Ok(at) = engine.resolve(&item.path, false).await else { continue };
            if item.kind == Kind::Folder {
                folders.push(at);
                tree.insert(path, None);
            } else {
                tree.insert(path, Some(read(engine, at).await.unwrap_or("unreadable".into())));
            }
        }
    }
    tree
}

/// Whether this tree may be, if `told` ops were acknowledged and the next one was perhaps begun.
pub(super) fn may_be(scenario: &Scenario, tree: &Tree, told: usize) -> bool {
    if [told, told + 1].iter().any(|ops| after(scenario, *ops) == *tree) {
        return true;
    }
    // A write that was not acknowledged may have left the old, an empty, a part of the new, or no file.
    let Some(Write(path, content) | Append(path, content)) = scenario.ops.get(told) else {
        return false;
    };
    let (mut without, mut expected) = (tree.clone(), after(scenario, told));
    let (found, before) = (without.remove(*path).flatten(), expected.remove(*path).flatten());
    let whole = before.clone().unwrap_or_default() + content;
    let part =
        |found: &String| content.starts_with(found.as_str()) || whole.starts_with(found.as_str());
    without == expected
        && (found.is_none() == before.is_none() || found.is_some())
        && found.iter().all(part)
}

/// What somebody was told is safe, by whom it was written, and nobody replaced or removed since.
pub(super) fn must_be_there(scenario: &Scenario, told: usize) -> BTreeSet<&'static str> {
    let mut safe: Vec<(&str, &str)> = scenario.before.to_vec();
    for (number, op) in scenario.ops.iter().take(told + 1).enumerate() {
        let is_told = number < told;
        match *op {
            Write(path, content) => {
                safe.retain(|(at, _)| *at != path);
                safe.extend(is_told.then_some((path, content)));
            }
            Put(path, content) => {
                safe.retain(|(at, _)| *at != path);
                safe.extend(is_told.then_some((path, content)));
            }
            Append(path, content) => safe.extend(is_told.then_some((path, content))),
            Remove(path) | Away(path) => safe.retain(|(at, _)| *at != path),
            _ => {}
        }
    }
    safe.into_iter().map(|(_, content)| content).collect()
}
