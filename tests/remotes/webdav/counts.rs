//! How many requests what is asked for costs.

use super::*;

#[tokio::test]
async fn a_listing_is_one_request_and_a_part_another() {
    let server = Server::start(Product::Nginx);
    server.put("a", b"0123456789");
    let remote = open(&server);
    let listed = remote.list(&at(""), None).await.unwrap().entries.remove(0).entry;
    let stream = remote.read(&at("a"), &listed.version, 2..5).await.unwrap();
    let chunks: Vec<bytes::Bytes> = stream.bytes.try_collect().await.unwrap();
    assert_eq!(chunks.concat(), b"234");
    let counts = ["PROPFIND", "GET", "HEAD", "OPTIONS"].map(|m| server.requests(m).unwrap());
    assert_eq!(counts, [1, 1, 0, 0]);
}

/// Where the move into place finds out whether a name is free, a small new file is four requests: is the folder there, the bytes
/// under a hidden name, a look at them, the move.
#[tokio::test]
async fn a_small_new_file_is_four_requests() {
    let server = Server::start(Product::Nginx);
    let remote = open(&server);
    remote.probe().await.unwrap();
    let all = || server.logged().len();
    let before = all();
    write(&remote, "new", b"0123456789", Expect::Absent).await.unwrap();
    assert!(all() - before <= 4, "{:?}", &server.logged()[before..]);
    let refused = write(&remote, "new", b"other", Expect::Absent).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::AlreadyExists);
    assert_eq!(on_disk(&server, ""), ["new"], "and nothing hidden stays");
}

/// The next ones into the same folder are three: whether the folder is there was seen a moment ago.
#[tokio::test]
async fn small_new_files_one_after_the_other_are_three_requests_each() {
    let server = Server::start(Product::Nginx);
    let remote = open(&server);
    remote.probe().await.unwrap();
    write(&remote, "first", b"0123456789", Expect::Absent).await.unwrap();
    let before = server.logged().len();
    for number in 0..10 {
        let name = format!("new-{number}");
        write(&remote, &name, b"0123456789", Expect::Absent).await.unwrap();
    }
    let logged = server.logged().split_off(before);
    let count = |method: &str| logged.iter().filter(|one| one.method == method).count();
    assert_eq!((count("PUT"), count("HEAD"), count("MOVE")), (10, 10, 10), "{logged:?}");
    // Of its own accord a folder is believed in for a second, and a busy machine may take longer.
    assert!(count("PROPFIND") <= 10, "{logged:?}");
    let is_upload = |path: &str| path.contains(".dewfs-tmp.");
    assert!(
        !logged.iter().any(|one| one.method == "PROPFIND" && is_upload(&one.path)),
        "{logged:?}"
    );
}

/// What was seen a moment ago tells nothing any more of a folder that was removed or moved since.
#[tokio::test]
async fn a_folder_that_was_taken_away_is_not_made_anew() {
    let server = Server::start(Product::Nginx);
    let remote = open(&server);
    remote.probe().await.unwrap();
    for away in ["removed", "moved"] {
        remote.make_folder(&at(away)).await.unwrap();
        let inside = format!("{away}/new");
        let written = write(&remote, &inside, b"x", Expect::Absent).await.unwrap();
        if away == "moved" {
            remote.rename(&at(away), &at("elsewhere"), Expect::Folder, &tag(1)).await.unwrap();
        } else {
            remote.remove(&at(&inside), Expect::Version(written.version), &tag(2)).await.unwrap();
            remote.remove(&at(away), Expect::Folder, &tag(3)).await.unwrap();
        }
        let refused = write(&remote, &inside, b"y", Expect::Absent).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::NoParent, "{away}");
    }
}

macro_rules! on_every_server {
    ($($name:ident),* $(,)?) => { $( mod $name {
        use crate::support::servers::Product;
        #[tokio::test] async fn nginx() { super::$name(Product::Nginx).await; }
        #[tokio::test] async fn apache() { super::$name(Product::Apache).await; }
        #[tokio::test] async fn lighttpd() { super::$name(Product::Lighttpd).await; }
        #[tokio::test] async fn rclone() { super::$name(Product::Rclone).await; }
    } )* };
}

on_every_server!(
    lists_and_reads,
    is_probed,
    writes_under_conditions,
    a_file_that_changes_while_it_is_sent_is_not_published,
    a_large_file_is_sent_from_disk,
    folders_are_made_and_removed_only_empty,
    files_are_removed_under_their_version,
    renames_never_replace,
    a_folder_of_three_thousand_is_listed_whole,
    odd_names_come_back_as_they_are,
    of_two_writers_one_wins,
    a_change_behind_the_back_survives_a_write,
    what_an_attempt_left_is_tidied_and_nothing_unknown_removed,
    young_versions_settle_by_the_servers_clock,
);
