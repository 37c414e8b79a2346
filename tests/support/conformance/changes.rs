//! Sentences about names: folders made, entries moved and removed, writers that race.

use super::*;

pub(super) async fn a_folder_is_made_once(s: &Subject) {
    let made = s.remote.make_folder(&at("f")).await.unwrap();
    assert_eq!(made.kind, Kind::Folder);
    assert_eq!(kind(s.remote.make_folder(&at("f")).await), ErrorKind::AlreadyExists);
    s.actor.put("a", b"").await;
    assert_eq!(kind(s.remote.make_folder(&at("a")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(s.remote.make_folder(&at("x/y")).await), ErrorKind::NoParent);
    s.remote.make_folder(&at("f/g")).await.unwrap();
    assert_eq!(s.seen("f").await, ["g"]);
}

pub(super) async fn a_rename_moves_and_keeps_the_version(s: &Subject) {
    s.actor.put("a", b"content").await;
    s.actor.mkdir("f").await;
    let seen = s.settled("a").await;
    let moved = s.remote.rename(&at("a"), &at("f/b"), version(&seen), &tag()).await.unwrap();
    assert_eq!((&moved.version, moved.size), (&seen.version, 7));
    assert_eq!(s.actor.content("f/b").await.unwrap(), b"content");
    s.is_left("", &["f"]).await;
    if s.remote.capabilities().stable_ids {
        assert!(seen.id.is_some());
        assert_eq!(moved.id, seen.id, "an identity survives moves");
    }
}

pub(super) async fn a_rename_takes_all_below_along(s: &Subject) {
    for folder in ["f", "f/g", "h"] {
        s.actor.mkdir(folder).await;
    }
    s.actor.put("f/g/a", b"deep").await;
    s.remote.rename(&at("f"), &at("h/f"), Expect::Folder, &tag()).await.unwrap();
    assert_eq!(s.actor.content("h/f/g/a").await.unwrap(), b"deep");
    s.is_left("", &["h"]).await;
}

pub(super) async fn a_rename_never_replaces(s: &Subject) {
    s.actor.put("a", b"a").await;
    s.actor.put("b", b"b").await;
    s.actor.mkdir("f").await;
    s.actor.mkdir("g").await;
    let seen = s.settled("a").await;
    for target in ["b", "f"] {
        let refused = s.remote.rename(&at("a"), &at(target), version(&seen), &tag()).await;
        assert_eq!(kind(refused), ErrorKind::AlreadyExists, "{target}");
    }
    let refused = s.remote.rename(&at("g"), &at("f"), Expect::Folder, &tag()).await;
    assert_eq!(kind(refused), ErrorKind::AlreadyExists);
    assert_eq!(s.actor.content("b").await.unwrap(), b"b");
    s.is_left("", &["a", "b", "f", "g"]).await;
}

pub(super) async fn a_rename_moves_only_what_it_expects(s: &Subject) {
    s.actor.put("a", b"old").await;
    s.actor.mkdir("f").await;
    let old = s.settled("a").await;
    s.actor.put("a", b"new").await;
    let rename = async |from: &str, to: &str, expect: Expect| {
        kind(s.remote.rename(&at(from), &at(to), expect, &tag()).await)
    };
    assert_eq!(rename("a", "b", version(&old)).await, ErrorKind::VersionMismatch);
    assert_eq!(rename("a", "b", Expect::Folder).await, ErrorKind::VersionMismatch);
    assert_eq!(rename("f", "b", version(&old)).await, ErrorKind::VersionMismatch);
    assert_eq!(rename("x", "b", version(&old)).await, ErrorKind::NotFound);
    assert_eq!(rename("f", "x/f", Expect::Folder).await, ErrorKind::NoParent);
    assert!(!rename("f", "f/g", Expect::Folder).await.is_unanswered(), "into itself");
    s.is_left("", &["a", "f"]).await;
}

pub(super) async fn a_removal_removes_only_what_it_expects(s: &Subject) {
    s.actor.put("a", b"old").await;
    s.actor.mkdir("f").await;
    let old = s.settled("a").await;
    s.actor.put("a", b"new").await;
    let remove =
        async |path: &str, expect: Expect| kind(s.remote.remove(&at(path), expect, &tag()).await);
    assert_eq!(remove("a", version(&old)).await, ErrorKind::VersionMismatch);
    assert_eq!(remove("a", Expect::Folder).await, ErrorKind::VersionMismatch);
    assert_eq!(remove("f", version(&old)).await, ErrorKind::VersionMismatch);
    assert_eq!(remove("x", version(&old)).await, ErrorKind::NotFound);
    assert_eq!(remove("x/y", Expect::Any).await, ErrorKind::NotFound);
    s.is_left("", &["a", "f"]).await;
    let new = s.settled("a").await;
    s.remote.remove(&at("a"), version(&new), &tag()).await.unwrap();
    s.is_left("", &["f"]).await;
}

pub(super) async fn a_folder_is_removed_only_if_empty(s: &Subject) {
    s.actor.mkdir("f").await;
    s.actor.put("f/a", b"unseen").await;
    let refused = s.remote.remove(&at("f"), Expect::Folder, &tag()).await;
    assert_eq!(kind(refused), ErrorKind::NotEmpty);
    assert_eq!(s.actor.content("f/a").await.unwrap(), b"unseen");
    s.actor.rm("f/a").await;
    s.remote.remove(&at("f"), Expect::Folder, &tag()).await.unwrap();
    s.is_left("", &[]).await;
}

pub(super) async fn of_writers_with_one_expectation_one_wins(s: &Subject) {
    for round in 0..10 {
        s.actor.put("a", format!("base {round}").as_bytes()).await;
        let base = s.settled("a").await;
        let write = |n: usize| {
            let (remote, expect) = (Arc::clone(&s.remote), version(&base));
            let content = format!("round {round} writer {n}").into_bytes();
            tokio::spawn(async move {
                let body = upload(&content);
                let tag = body.tag.clone();
                let written = remote.write(&at("a"), body, expect.clone()).await;
                (content, written, expect, tag)
            })
        };
        let (mut won, mut unanswered) = (Vec::new(), Vec::new());
        for writer in (0..4).map(write).collect::<Vec<_>>() {
            match writer.await.unwrap() {
                (content, Ok(_), ..) => won.push(content),
                (content, Err(error), expect, tag) if error.kind.is_unanswered() => {
                    println!("  without an answer: {error}");
                    unanswered.push((content, expect, tag));
                }
                (_, Err(error), ..) => assert!(
                    matches!(
                        error.kind,
                        ErrorKind::VersionMismatch | ErrorKind::NotFound | ErrorKind::Locked { .. }
                    ),
                    "{error}"
                ),
            }
        }
        // who got no answer tidies and looks: it may have won, or taken the place of nobody
        for (_, expect, tag) in &unanswered {
            s.remote.tidy(&at("a"), expect, tag).await.unwrap();
        }
        let there = s.actor.content("a").await.expect("nothing is lost");
        assert!(won.len() <= 1, "one version was replaced twice");
        let is_base = there == format!("base {round}").into_bytes();
        let is_won = won.first() == Some(&there);
        let is_late = unanswered.iter().any(|(content, ..)| *content == there);
        assert!(is_won || won.is_empty() && (is_late || is_base && !unanswered.is_empty()));
        s.is_left("", &["a"]).await;
    }
}
