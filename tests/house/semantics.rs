//! Every promise of `docs/SEMANTICS.md` is quoted word for word above a test.

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

/// All functions of the sources below `dir` that are tests.
fn tests_below(dir: &Path, found: &mut std::collections::HashSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let mut is_test = false;
            for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
                let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
                match function.and_then(|rest| rest.split_once('(')) {
                    Some((name, _)) if is_test => drop(found.insert(name.to_owned())),
                    _ => {}
                }
                let goes_on = line.starts_with("#[") || line.starts_with("//");
                is_test = line.starts_with("#[test]")
                    || line.starts_with("#[tokio::test")
                    || is_test && goes_on;
            }
        }
    }
}

#[test]
fn every_rule_names_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = std::collections::HashSet::new();
    tests_below(&root.join("src"), &mut tests);
    tests_below(&root.join("tests"), &mut tests);
    let page = fs::read_to_string(root.join("docs/RULES.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<&str> = rows.filter(|row| !row.starts_with("---")).collect();
    let rules = rows.iter().filter(|row| !matches!(row.rsplit_once(" | "), Some((_, "test"))));
    let mut count = 0;
    for rule in rules {
        let (_, named) = rule.rsplit_once(" | ").unwrap();
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        let known = |name: &&&str| name.contains('_');
        let missing: Vec<_> =
            names.iter().filter(known).filter(|name| !tests.contains(**name)).collect();
        assert!(names.iter().any(|name| tests.contains(*name)), "no test of: {rule}");
        assert!(missing.is_empty(), "there is no test {missing:?}: {rule}");
        count += 1;
    }
    assert!(count >= 44, "{count} rules");
}
