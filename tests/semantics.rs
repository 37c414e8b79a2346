//! Every promise of `docs/SEMANTICS.md` is quoted word for word above a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

/// The text with every run of white space as one blank.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The promises: their names and sentences. What stands in brackets after a promise explains it.
fn promises(page: &str) -> Vec<(String, String)> {
    let mut promises: Vec<(String, String)> = Vec::new();
    let mut goes_on = false;
    for line in page.lines() {
        if let Some((name, text)) =
            line.strip_prefix("- **S").and_then(|rest| rest.split_once("** "))
        {
            promises.push((format!("S{name}"), text.to_owned()));
            goes_on = true;
        } else if goes_on && line.starts_with("  ") {
            let (_, text) = promises.last_mut().unwrap();
            *text = format!("{text} {line}");
        } else {
            goes_on = false;
        }
    }
    let bare = |text: String| {
        let text = plain(&text);
        text.split_once(" (A ").map_or(text.clone(), |(before, _)| before.to_owned())
    };
    promises.into_iter().map(|(name, text)| (name, bare(text))).collect()
}

/// All comments of the sources below `dir`; another line than a comment ends one.
fn comments(dir: &Path, found: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            comments(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                match line.trim_start().strip_prefix("//") {
                    Some(comment) => {
                        found.push_str(comment.trim_start_matches(['/', '!']));
                        found.push(' ');
                    }
                    None => found.push_str("\n§ "),
                }
            }
        }
    }
}

#[test]
fn every_promise_is_quoted_above_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promises = promises(&fs::read_to_string(root.join("docs/SEMANTICS.md")).unwrap());
    assert!(promises.len() >= 24, "{promises:?}");
    let mut names: Vec<_> = promises.iter().map(|(name, _)| name).collect();
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|two| two[0] == two[1]).collect();
    assert!(twice.is_empty(), "names of two promises: {twice:?}");
    let mut found = String::new();
    for dir in ["tests", "src"] {
        comments(&root.join(dir), &mut found);
    }
    let found = plain(&found);
    let missing: Vec<_> = promises.iter().filter(|(_, text)| !found.contains(text)).collect();
    assert!(missing.is_empty(), "quoted above no test: {missing:#?}");
}
