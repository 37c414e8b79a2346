//! What is set besides content.

use super::*;

pub(super) async fn metadata_is_set_without_touching_the_content(s: &Subject) {
    let can = s.remote.capabilities();
    s.actor.put("a", b"content").await;
    let old = s.settled("a").await;
    let mtime = can.settable_mtime.then_some(1_234_567_890_000_000_000);
    let mode = can.settable_mode.then_some(0o640);
    let set = Metadata { mtime, mode, ..Metadata::default() };
    let seen = s.remote.set_metadata(&at("a"), &set, version(&old)).await.unwrap();
    assert_eq!(seen.mtime.filter(|_| can.settable_mtime), mtime);
    assert_eq!(seen.mode.filter(|_| can.settable_mode), mode);
    assert_eq!(s.actor.content("a").await.unwrap(), b"content");
    let unknown = Expect::Version(Version("unknown".into()));
    let refused = s.remote.set_metadata(&at("a"), &set, unknown.clone()).await;
    assert_eq!(kind(refused), ErrorKind::VersionMismatch);
    assert_eq!(kind(s.remote.set_metadata(&at("x"), &set, unknown).await), ErrorKind::NotFound);
    let body = Upload { mtime, mode, ..upload(b"b") };
    let written = s.remote.write(&at("b"), body, Expect::Absent).await.unwrap();
    assert_eq!(written.mtime.filter(|_| can.settable_mtime), mtime);
    assert_eq!(written.mode.filter(|_| can.settable_mode), mode);
}

/// What a remote does not hold of them, or may not set, it does without.
pub(super) async fn owners_and_attributes_are_no_error(s: &Subject) {
    let attributes = [(b"user.a".to_vec(), Some(b"1".to_vec())), (b"user.b".to_vec(), None)].into();
    let extended = Extended { uid: Some(u32::MAX - 7), gid: Some(u32::MAX - 7), attributes };
    let body = Upload { extended: extended.clone(), ..upload(b"c") };
    s.remote.write(&at("c"), body, Expect::Absent).await.unwrap();
    assert_eq!(s.actor.content("c").await.unwrap(), b"c");
    if s.remote.capabilities().settable_extended {
        let written = s.settled("c").await;
        let set = Metadata { extended, ..Metadata::default() };
        s.remote.set_metadata(&at("c"), &set, version(&written)).await.unwrap();
        assert_eq!(s.actor.content("c").await.unwrap(), b"c");
    }
}
