//! Every JSON document has the shape that `docs/json.md` shows: the same fields, the same kinds of values.

use crate::support::shapes::{self, assert_shape};
use dewfs::control::{
    Checked, Conflict, Done, Dropped, Event, Fetched, Flow, HeldDocument, History, Item, Mount,
    MountInfo, PathText, Pinned, Problem, Released, ResolvedDocument, RestoredDocument,
    SyncDocument, Unmounted, to_line,
};
use dewfs::engine::{
    Freed, Happened, Held, ItemStatus, Keep, LastError, MountState, MountStatus, Progress,
    RequestsBy, Resolved, Restored, SyncState,
};
use dewfs::model::{Content, Kind, Pin};

fn info() -> MountInfo {
    MountInfo {
        mountpoint: "/mnt".into(),
        remote: "/srv".into(),
        name: "mnt".into(),
        id: "id".into(),
        owner: 0,
        uid: 0,
        others: true,
    }
}

fn status() -> MountStatus {
    MountStatus {
        state: MountState::Degraded,
        reason: Some("why".into()),
        read_only: false,
        items: 1,
        pending: 1,
        uploading: 1,
        hydrating: 1,
        held: 0,
        conflicts: 0,
        errors: 1,
        last_error: Some(LastError { time: 1, path: Some(b"x".to_vec()), message: "m".into() }),
        oldest_pending: Some(1),
        last_contact: Some(1),
        feed: "walk",
        feed_detail: "listing",
        oldest_look: Some(1),
        cache_used: 1,
        cache_limit: 1,
        cache_pending: 1,
        cache_pinned: 1,
        quota: Some((Some(1), None)),
        requests_by: RequestsBy::default(),
        bytes_down: 0,
        bytes_up: 0,
        no_passthrough: Some("why".into()),
        passthrough_by: Some("dewfs-helper"),
    }
}

fn item() -> ItemStatus {
    ItemStatus {
        path: b"notes/\xff.txt".to_vec(),
        kind: Kind::File,
        content: Content::Hydrated,
        hydrating: false,
        listed: false,
        sync: SyncState::Pending,
        pin: Pin::Pinned,
        pin_from: Some(b"notes".to_vec()),
        pin_rule: None,
        size: 1,
        present_bytes: 1,
        pending_bytes: 1,
        pending_below: 0,
        mtime: 1,
        remote_id: None,
        version: None,
        error: None,
        since: Some(1),
        retry_at: None,
    }
}

#[test]
fn states_have_the_shapes_of_the_page() {
    assert_shape(&to_line(&Mount::of(&status(), &info())));
    assert_shape(&to_line(&Item::of(&item(), "/mnt".as_ref())));
}

#[test]
fn small_documents_have_the_shapes_of_the_page() {
    let path = || PathText::in_mount("/mnt".as_ref(), b"a");
    let mnt = "/mnt".as_ref();
    let freed = Freed { bytes: 1, kept: vec![(b"a".to_vec(), "why".into())] };
    let happened = Happened { time: 1, what: "sent".into() };
    let progress = Progress { path: b"a".to_vec(), what: "hydrate", done: 1, total: Some(2) };
    let held = Held { path: b"a".to_vec(), what: "delete", size: 1, since: 1 };
    let restored = Restored { path: b"a".to_vec(), what: "reverted", kept: Some("/r/a".into()) };
    let resolved = Resolved {
        path: b"a (conflict 2026-07-01 09.59.00 box)".to_vec(),
        original: b"a".to_vec(),
        keep: Keep::Theirs,
        kept: Some("/r/a".into()),
    };
    for line in [
        to_line(&ResolvedDocument::of(&resolved, false, mnt)),
        to_line(&SyncDocument::new(path(), true, 0, 0)),
        to_line(&Fetched::new(path(), 1)),
        to_line(&Dropped::of(&freed, false, mnt)),
        to_line(&Pinned::of(b"a", (Pin::Pinned, Some(b"")), 0, mnt)),
        to_line(&History::of(&happened, b"a", mnt)),
        to_line(&Flow::new(1, 1, 1, 1, 1, "/x".into())),
        to_line(&Problem::new(path(), "why".into())),
        to_line(&Checked::new(0)),
        to_line(&Unmounted::new(path(), 0)),
        to_line(&Event::progress(&progress, mnt)),
        to_line(&HeldDocument::of(&held, mnt)),
        to_line(&Released::new(path(), 3, false)),
        to_line(&RestoredDocument::of(&restored, mnt)),
        to_line(&RestoredDocument::would_be(&held, mnt)),
        to_line(&Conflict::of(&item(), mnt)),
        to_line(&Done::well()),
    ] {
        assert_shape(&line);
    }
}

#[test]
fn a_path_that_is_no_text_shows_its_bytes() {
    let line = to_line(&Item::of(&item(), "/mnt".as_ref()));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["path"], "/mnt/notes/\u{fffd}.txt");
    assert_eq!(value["path_base64"], "L21udC9ub3Rlcy//LnR4dA==");
    assert_eq!(value["mtime"], "1970-01-01T00:00:00.000Z");
}

#[test]
fn every_document_of_the_page_is_whole() {
    for (kind, shown) in shapes::page() {
        assert_eq!(shown["format"], 1, "{kind}");
        assert_eq!(shown["type"], kind.as_str());
    }
}
