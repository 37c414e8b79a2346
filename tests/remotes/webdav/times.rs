//! Times that a server keeps, and what they do to its versions.

use super::*;

#[tokio::test]
async fn rclone_keeps_the_mtime_of_an_upload_and_a_set_one() {
    let server = Server::start(Product::Rclone);
    let remote = probed(&server).await;
    let mut body = upload(b"dated", 1);
    body.mtime = Some(1_234_567_890_500_000_000);
    let written = remote.write(&at("a"), body, Expect::Absent).await.unwrap();
    assert_eq!(written.mtime, Some(1_234_567_890_000_000_000));
    let metadata = Metadata { mtime: Some(1_111_111_111_000_000_000), ..Metadata::default() };
    let expect = Expect::Version(written.version);
    let seen = remote.set_metadata(&at("a"), &metadata, expect).await.unwrap();
    assert_eq!(seen.mtime, metadata.mtime);
    let modified = std::fs::metadata(server.root().join("a")).unwrap().modified().unwrap();
    assert_eq!(modified, std::time::UNIX_EPOCH + Duration::from_secs(1_111_111_111));
}

/// Where a version is made of size and mtime, an edit that keeps both (an encrypted container, `rsync --inplace -t`, a patch and
/// `touch -r`) got the version that every other mount had already: none of them saw it, and the next save of one replaced it.
#[tokio::test]
async fn regression_another_content_is_another_version_whatever_its_mtime() {
    let server = Server::start_dated();
    let remote = probed(&server).await;
    let dated = |bytes: &[u8], nonce| {
        let mtime = Some(1_234_567_890_000_000_000);
        Upload { mtime, ..upload(bytes, nonce) }
    };
    let mut versions =
        vec![remote.write(&at("a"), dated(b"0000", 1), Expect::Absent).await.unwrap().version];
    for nonce in 2..6 {
        let expect = Expect::Version(versions.last().unwrap().clone());
        let bytes = format!("{nonce:04}");
        let written = remote.write(&at("a"), dated(bytes.as_bytes(), nonce), expect).await.unwrap();
        assert!(!versions.contains(&written.version), "{versions:?} {written:?}");
        let seen = remote.stat(&at("a")).await.unwrap().unwrap();
        assert_eq!(seen.version, written.version);
        let later = i64::try_from(nonce - 1).unwrap() * 1_000_000_000;
        assert_eq!(seen.mtime, Some(1_234_567_890_000_000_000 + later));
        versions.push(written.version);
    }
    // Of another size it has the mtime asked for.
    let expect = Expect::Version(versions.last().unwrap().clone());
    let written = remote.write(&at("a"), dated(b"longer", 6), expect).await.unwrap();
    assert_eq!(written.mtime, Some(1_234_567_890_000_000_000));
}
