//! What the kernel tells of folders that move and come back.

use crate::support::wait::{LIMIT, holds_soon};
use std::collections::BTreeSet;

use dewfs::remote::folder::FolderRemote;
use dewfs::remote::{Cursor, Hint, Remote};

use super::{list, open};

#[tokio::test]
async fn a_folder_that_moves_is_watched_under_its_new_name() {
    let (root, remote) = open();
    std::fs::create_dir(root.path().join("f")).unwrap();
    list(&remote, "").await;
    list(&remote, "f").await;
    let mut cursor = remote.changes(None).await.unwrap().cursor;
    std::fs::rename(root.path().join("f"), root.path().join("g")).unwrap();
    list(&remote, "g").await;
    let (mut heard, mut count) = (BTreeSet::new(), 0);
    let is_heard = holds_soon(LIMIT, async || {
        count += 1;
        let page = remote.changes(Some(&cursor)).await.unwrap();
        for hint in page.hints {
            let (Hint::Entry(path) | Hint::Folder(path)) = hint;
            heard.insert(path.to_string());
        }
        cursor = page.cursor;
        if heard.contains("/f") {
            std::fs::write(root.path().join("g/late"), count.to_string()).unwrap();
        }
        heard.contains("/g/late")
    })
    .await;
    assert!(is_heard, "{heard:?}");
}

/// Follows a remote as an engine does, until a hint is about `path`.
async fn hear(remote: &FolderRemote, cursor: &mut Cursor, path: &str) {
    let is_heard = holds_soon(LIMIT, async || {
        let page = remote.changes(Some(cursor)).await.unwrap();
        *cursor = page.cursor;
        let mut heard = false;
        for hint in page.hints {
            let (Hint::Entry(about) | Hint::Folder(about)) = &hint;
            heard |= about.to_string() == path;
            if matches!(hint, Hint::Folder(_)) {
                list(remote, &about.to_string()).await;
            }
        }
        heard
    })
    .await;
    assert!(is_heard, "{path} is not heard of");
}

/// The watcher took the watch back when it read that the name went; the folder at it counted as watched for ever, and what
/// others removed there was shown for ever.
#[tokio::test]
async fn regression_a_folder_that_moved_away_and_back_is_still_watched() {
    let (root, remote) = open();
    let path = |name: &str| root.path().join(name);
    std::fs::create_dir_all(path("f/below")).unwrap();
    for folder in ["", "f", "f/below"] {
        list(&remote, folder).await;
    }
    let mut cursor = remote.changes(None).await.unwrap().cursor;
    std::fs::rename(path("f"), path("g")).unwrap();
    std::fs::rename(path("g"), path("f")).unwrap();
    std::fs::write(path("then"), "").unwrap();
    hear(&remote, &mut cursor, "/then").await;
    for late in ["f/late", "f/below/late"] {
        std::fs::write(path(late), "").unwrap();
        hear(&remote, &mut cursor, &format!("/{late}")).await;
    }
}

/// The same, when a folder was made and watched at the name before the watcher had read that the one before it went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_a_folder_made_where_another_one_was_is_watched() {
    let (root, remote) = open();
    let path = |name: &str| root.path().join(name);
    list(&remote, "").await;
    let mut cursor = remote.changes(None).await.unwrap().cursor;
    for round in 0..50 {
        // Many changes keep the watcher busy.
        for other in 0..50 {
            std::fs::write(path(&format!("other{other}")), "").unwrap();
        }
        std::fs::create_dir(path("f")).unwrap();
        list(&remote, "f").await;
        std::fs::remove_dir(path("f")).unwrap();
        std::fs::create_dir(path("f")).unwrap();
        list(&remote, "f").await;
        let then = format!("then{round}");
        std::fs::write(path(&then), "").unwrap();
        hear(&remote, &mut cursor, &format!("/{then}")).await;
        std::fs::write(path("f/late"), "").unwrap();
        hear(&remote, &mut cursor, "/f/late").await;
        std::fs::remove_dir_all(path("f")).unwrap();
    }
}
