//! Holds the arrows of `ARCHITECTURE.md`: which room may use which, where SQL, HTTP, errno and unsafe code may stand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and the rooms it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("catalog", &["model"]),
    ("cache", &["model"]),
    ("remote", &["model"]),
    ("engine", &["model", "catalog", "cache", "remote"]),
    ("fuse", &["model", "engine", "config"]),
    ("control", &["model", "engine", "config"]),
    ("config", &["model", "remote", "engine", "cache", "desktop"]),
    ("desktop", &[]),
    ("doors", &["model", "remote", "control", "config"]),
    ("cli", &["model", "remote", "engine", "fuse", "control", "config", "cache", "desktop"]),
    // for the fuzzer and the tests only
    ("doors", &["model", "remote", "control", "config"]),
];

/// Words that may stand only in these rooms.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rusqlite", &["catalog"]),
    ("reqwest", &["remote"]),
    ("quick_xml", &["remote"]),
    ("fuser::", &["fuse"]),
    ("zbus::", &["desktop"]),
];

/// Files that may hold unsafe code, each with its reasons beside it.
const UNSAFE: &[&str] = &[
    "src/cache/sys.rs",
    "src/fuse/backing.rs",
    "src/cli/mount/background.rs",
    "src/remote/folder/uuid.rs",
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, into: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|end| end == "rs") {
                into.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut all = Vec::new();
    walk(Path::new("src"), &mut all);
    assert!(all.len() > 20, "the sources were not found");
    all
}

/// The room of a source file, for files in or of a room.
fn room(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?;
    let name = first.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (name != "lib" && name != "main").then_some(name)
}

/// The rooms named after `crate::` in code, comments left out.
fn used(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        for part in code.split("crate::").skip(1) {
            let name: String =
                part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                found.push((index + 1, name));
            }
        }
    }
    found
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room(&path) else { continue };
        let below = arrows.get(room.as_str()).unwrap_or_else(|| panic!("no arrows for {room}"));
        for (line, other) in used(&text) {
            let known = arrows.contains_key(other.as_str());
            if known && other != room && !below.contains(&other.as_str()) {
                wrong.push(format!("{}:{line}: {room} uses {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sql_http_and_errno_stand_in_their_rooms_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room(&path) else { continue };
        for (word, rooms) in ONLY_IN {
            for (index, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                if code.contains(word) && !rooms.contains(&room.as_str()) {
                    wrong.push(format!("{}:{}: {word}", path.display(), index + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_few_files() {
    for (path, text) in sources() {
        let has = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or("");
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        });
        let name = path.display().to_string();
        assert!(!has || UNSAFE.contains(&name.as_str()), "unsafe code in {name}");
    }
}

#[test]
fn production_files_stay_short() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        if path.to_string_lossy().contains("test") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        let lines = code.lines().count();
        if lines > 550 {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}
