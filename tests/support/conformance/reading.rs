//! What remotes promise that are only read.

use super::*;

async fn a_remote_that_is_only_read_refuses_changes(s: &Subject) {
    assert!(!s.remote.capabilities().writable);
    s.actor.put("a", b"theirs").await;
    let refused = ErrorKind::Unsupported;
    let (a, b) = (at("a"), at("b"));
    assert_eq!(kind(s.write("a", b"ours", Expect::Any).await), refused);
    assert_eq!(kind(s.remote.make_folder(&b).await), refused);
    assert_eq!(kind(s.remote.rename(&a, &b, Expect::Any, &tag()).await), refused);
    assert_eq!(kind(s.remote.remove(&a, Expect::Any, &tag()).await), refused);
    assert_eq!(s.actor.content("a").await.unwrap(), b"theirs");
    s.is_left("", &["a"]).await;
}

/// Runs the sentences about reading, and that such a remote refuses all changes.
pub async fn run_reading<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Subject>,
{
    sentences!(make:
        nothing_is_where_nothing_is
        a_listing_shows_every_name_once_and_agrees_with_stat
        a_read_gives_the_version_asked_for_or_nothing
        a_read_under_way_never_mixes_versions
        changes_by_others_are_hinted_at
        a_remote_that_is_only_read_refuses_changes
    );
}
