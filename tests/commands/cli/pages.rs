//! What manual pages name.

use super::*;

/// `dewfs-remote(1)` led to pages that nobody wrote, options of commands below commands stood nowhere, and nothing led to the
/// pages written by hand, one of which ran its words together.
#[test]
fn regression_every_page_that_another_one_names_is_written() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["man", "pages"]).status.code(), Some(0));
    let pages: Vec<(String, String)> = std::fs::read_dir(desk.at("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap().replace("\\-", "-");
            (path.file_name().unwrap().to_string_lossy().into_owned(), text)
        })
        .collect();
    let is_there = |name: &str| pages.iter().any(|(page, _)| page == name);
    for (page, text) in &pages {
        for line in text.lines() {
            assert!(!line.starts_with('.') || !line.contains(" . "), "{page}: {line}");
            let words: Vec<&str> = line.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                let Some((name, rest)) = word.split_once('(') else { continue };
                let name = if name.is_empty() && at > 0 { words[at - 1] } else { name };
                let Some((section, _)) = rest.split_once(')') else { continue };
                if name.contains("dewfs") && matches!(section, "1" | "5" | "7" | "8") {
                    assert!(is_there(&format!("{name}.{section}")), "{page}: {line}");
                }
            }
        }
        if page.ends_with(".1") {
            for further in ["dewfs.toml (5)", "mount.dewfs (8)", "dewfs-semantics (7)"] {
                assert!(text.contains(further), "{page} leads to {further}");
            }
        }
    }
    let text = |name: &str| &pages.iter().find(|(page, _)| page == name).unwrap().1;
    assert!(text("dewfs-cache-clear.1").contains("--dry-run"));
    assert!(text("dewfs-remote-add.1").contains("dewfs-remote (1)"));
    assert!(!is_there("dewfs-help.1"));
}

/// The manual names every option that the parser knows.
#[test]
fn the_manual_of_mount_names_every_option() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/mount.dewfs.8");
    let page = std::fs::read_to_string(page).unwrap();
    for name in dewfs::config::option_names() {
        assert!(page.contains(name), "{name} is not in mount.dewfs(8)");
    }
}
