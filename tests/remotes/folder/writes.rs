//! Writes: what others do at the same moment, what is left of a broken one, what a replaced file keeps.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dewfs::remote::folder::FolderRemote;
use dewfs::remote::{ErrorKind, Expect, Name, Remote, Upload, names};

use super::{at, list, names_in, open, settled, tag, upload, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_that_slips_in_before_the_commit_step_survives() {
    let (root, remote) = open();
    let file = root.path().join("a");
    for replace in [false, true] {
        std::fs::write(&file, b"base").unwrap();
        let base = settled(&remote, "a").await;
        let (slip, from) = (file.clone(), root.path().join("theirs"));
        let body = Upload {
            // Asked between the last look of the upload and its commit.
            still_whole: Some(Arc::new(move || {
                if replace {
                    std::fs::write(&from, b"theirs!").unwrap();
                    std::fs::rename(&from, &slip).unwrap();
                } else {
                    std::fs::write(&slip, b"theirs!").unwrap();
                }
                true
            })),
            ..upload(b"ours", 1)
        };
        let written = remote.write(&at("a"), body, version(&base)).await;
        assert_eq!(written.unwrap_err().kind, ErrorKind::VersionMismatch);
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs!");
        assert_eq!(names_in(root.path()).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_others_save_meanwhile_is_never_lost() {
    // Somebody replaces the file by rename again and again, knowing of nothing. Their last content is there in the end, or
    // beside it, or was replaced by a write of ours that had read it.
    let (root, remote) = open();
    let (file, from) = (root.path().join("a"), root.path().join("from"));
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    std::fs::write(&file, b"theirs 0").unwrap();
    let theirs = std::thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            count += 1;
            std::fs::write(&from, format!("theirs {count}")).unwrap();
            std::fs::rename(&from, &file).unwrap();
            std::thread::sleep(Duration::from_micros(19_000 + count % 11 * 1_000));
        }
        count
    });
    let (mut replaced, mut lost_races) = (std::collections::BTreeMap::new(), 0);
    let end = Instant::now() + Duration::from_secs(30);
    let mut n = 0;
    while replaced.len() + lost_races < 60 && Instant::now() < end {
        n += 1;
        let seen = match remote.stat(&at("a")).await.unwrap() {
            Some(seen) if seen.settled => seen,
            _ => continue,
        };
        let Ok(mut stream) = remote.read(&at("a"), &seen.version, 0..seen.size).await else {
            continue;
        };
        let Some(Ok(content)) = futures_util::StreamExt::next(&mut stream.bytes).await else {
            continue;
        };
        let ours = format!("ours {n}");
        match remote.write(&at("a"), upload(ours.as_bytes(), n), version(&seen)).await {
            Ok(_) => drop(replaced.insert(ours, String::from_utf8(content.to_vec()).unwrap())),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::VersionMismatch, "{error}");
                lost_races += 1;
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    let last = format!("theirs {}", theirs.join().unwrap());
    let beside: Vec<_> = names_in(root.path()).into_iter().filter(|name| name != "a").collect();
    assert!(beside.iter().all(|name| name.starts_with("a (kept ")), "{beside:?}");
    let mut content = std::fs::read_to_string(root.path().join("a")).unwrap();
    while let Some(before) = replaced.get(&content) {
        content.clone_from(before);
    }
    let kept = |name: &String| std::fs::read_to_string(root.path().join(name)).unwrap() == last;
    assert!(content == last || beside.iter().any(kept), "{content} but not {last}");
    println!("{} won, {lost_races} lost, {} kept beside, {last}", replaced.len(), beside.len());
}

#[tokio::test]
async fn an_upload_cut_short_is_hidden_and_tidied() {
    let (root, remote) = open();
    let name = Name::new(&b"a"[..]).unwrap();
    let temp = |n| root.path().join(names::temp(&tag(n), &name).to_string());
    let aside = |n| root.path().join(names::held(&tag(n), &name).to_string());
    std::fs::write(root.path().join("a"), b"base").unwrap();
    let base = settled(&remote, "a").await;

    // Died while it sent.
    std::fs::write(temp(1), b"ha").unwrap();
    std::fs::write(temp(2), b"of another attempt").unwrap();
    assert_eq!(list(&remote, "").await.len(), 1);
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert!(!temp(1).exists() && temp(2).exists());

    // Died between the exchange and the removal of what came out.
    std::fs::rename(root.path().join("a"), aside(1)).unwrap();
    std::fs::write(root.path().join("a"), b"ours").unwrap();
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert!(!aside(1).exists());
    assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"ours");

    // The same, but what came out is unknown: it stays, where people see it.
    std::fs::write(aside(1), b"unknown").unwrap();
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("a (kept 3-1)")).unwrap(), b"unknown");

    // Died while it removed: what was moved aside comes back.
    std::fs::rename(root.path().join("a"), aside(1)).unwrap();
    remote.tidy(&at("a"), &Expect::Absent, &tag(1)).await.unwrap();
    assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"ours");
}

#[tokio::test]
async fn mode_and_owner_of_a_replaced_file_are_kept() {
    let (root, remote) = open();
    let file = root.path().join("a");
    std::fs::write(&file, b"base").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
    let before = std::fs::metadata(&file).unwrap();
    let base = settled(&remote, "a").await;
    remote.write(&at("a"), upload(b"new", 1), version(&base)).await.unwrap();
    let after = std::fs::metadata(&file).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid())
    );
}

/// A process killed between preparing a write and exchanging it left our own new bytes under the private name; they stood
/// beside the file as if they were somebody else's.
#[tokio::test]
async fn regression_our_own_bytes_of_a_broken_write_are_no_copy_beside_the_file() {
    let (dir, remote) = open();
    std::fs::write(dir.path().join("a"), "base").unwrap();
    let base = remote.stat(&at("a")).await.unwrap().unwrap();
    let held = dir.path().join(".dewfs-held.m1.3.1--a");
    std::fs::write(&held, "ours").unwrap();
    let mark = std::process::Command::new("setfattr")
        .args(["-n", "user.dewfs.attempt", "-v", "m1.3.1"])
        .arg(&held)
        .status()
        .unwrap();
    assert!(mark.success());
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"base");
    // Of another attempt, or unmarked: it may be somebody's only copy.
    std::fs::write(&held, "not ours").unwrap();
    remote.tidy(&at("a"), &version(&base), &tag(1)).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// Access lists and attributes of users were lost with the inode that a write replaces, and the group of the list got what
/// only the list had.
#[tokio::test]
async fn regression_a_replaced_file_keeps_its_access_list_and_attributes() {
    use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
    const ACCESS: &str = "system.posix_acl_access";
    let root = tempfile::tempdir().unwrap();
    let remote = FolderRemote::open(root.path()).unwrap();
    let file = root.path().join("f");
    std::fs::write(&file, "old").unwrap();
    // acl(5) as the kernel has it: who, what, whose. The user, another user, the group, the mask, all others.
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 6, 1), (4, 0, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (who, what, whose) in entries {
        list.extend([who.to_le_bytes(), what.to_le_bytes()].concat());
        list.extend(whose.to_le_bytes());
    }
    setxattr(&file, ACCESS, &list, XattrFlags::empty()).unwrap();
    setxattr(&file, "user.colour", b"green", XattrFlags::empty()).unwrap();
    let seen = settled(&remote, "f").await;
    remote.write(&at("f"), upload(b"new", 1), version(&seen)).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    let mut value = [0; 256];
    let length = getxattr(&file, ACCESS, &mut value).unwrap();
    assert_eq!(value[..length], list);
    let length = getxattr(&file, "user.colour", &mut value).unwrap();
    assert_eq!(value[..length], *b"green");
    let length = listxattr(&file, &mut value).unwrap();
    assert!(!String::from_utf8_lossy(&value[..length]).contains("dewfs"));
}
