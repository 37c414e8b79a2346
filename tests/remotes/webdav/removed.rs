//! What a removed folder may not take along.

use super::*;

/// nginx lists no names that begin with a dot: what nobody was shown stays in the folder that was removed.
#[tokio::test]
async fn a_removed_folder_keeps_what_no_listing_shows() {
    let server = Server::start(Product::Nginx);
    let remote = probed(&server).await;
    server.make_folder("f");
    server.make_folder("f/sub");
    server.put("f/.unlisted", b"only here");
    server.put("f/sub/.unlisted", b"only here, too");
    let remove = |path: &str, nonce| {
        let (place, remote) = (at(path), &remote);
        async move { remote.remove(&place, Expect::Folder, &tag(nonce)).await }
    };
    assert_eq!(remove("f", 1).await.unwrap_err().kind, ErrorKind::NotEmpty);
    remove("f/sub", 2).await.unwrap();
    remove("f", 3).await.unwrap();
    assert_eq!(remote.stat(&at("f")).await.unwrap(), None);
    assert_eq!(remote.list(&at(""), None).await.unwrap().entries, []);
    let kept = server.root().join(".dewfs-removed.m1.7.3--f");
    assert_eq!(std::fs::read(kept.join(".unlisted")).unwrap(), b"only here");
    let below = kept.join(".dewfs-removed.m1.7.2--sub/.unlisted");
    assert_eq!(std::fs::read(below).unwrap(), b"only here, too");
    // the same name again, and gone again
    remote.make_folder(&at("f")).await.unwrap();
    remove("f", 4).await.unwrap();
    // a removal that nobody saw through, of a folder into which somebody has put something
    server.make_folder(".dewfs-removed.m1.7.5--g");
    remote.tidy(&at("g"), &Expect::Folder, &tag(5)).await.unwrap();
    assert_eq!(remote.stat(&at("g")).await.unwrap(), None, "an empty one stays removed");
    server.put(".dewfs-removed.m1.7.5--g/late", b"late");
    remote.tidy(&at("g"), &Expect::Folder, &tag(5)).await.unwrap();
    assert_eq!(std::fs::read(server.root().join("g/late")).unwrap(), b"late");
}

/// Unprobed, a server may be one that hides names: no folder is destroyed unseen.
#[tokio::test]
async fn before_the_probe_a_removed_folder_is_kept() {
    let server = Server::start(Product::Nginx);
    let remote = open(&server);
    server.make_folder("f");
    server.put("f/.unlisted", b"only here");
    remote.remove(&at("f"), Expect::Folder, &tag(1)).await.unwrap();
    let kept = server.root().join(".dewfs-removed.m1.7.1--f/.unlisted");
    assert_eq!(std::fs::read(kept).unwrap(), b"only here");
}
