//! What is set besides content and reaches a directory as remote.

use super::*;

/// What `touch`, `chmod`, `cp -p` and `rsync -t` set after a file arrived is set at the remote as well, and is no change of
/// somebody else's.
#[test]
fn times_and_modes_set_later_reach_the_remote() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), b"content").unwrap();
    mount.arrives("f", b"content");
    let there = mount.remote("f");
    let ino_there = fs::metadata(&there).unwrap().ino();
    set_times(&mount.path("f"), (1_000_000_000, 0), (1_100_000_000, 123_456_789));
    fs::set_permissions(mount.path("f"), Permissions::from_mode(0o640)).unwrap();
    eventually("time and mode at the remote", || {
        let meta = fs::metadata(&there).unwrap();
        (meta.mtime(), meta.mtime_nsec(), meta.mode() & 0o777)
            == (1_100_000_000, 123_456_789, 0o640)
    });
    assert_eq!(fs::metadata(&there).unwrap().ino(), ino_there, "the same file, not sent again");
    fs::write(mount.path("f"), b"edited").unwrap();
    mount.arrives("f", b"edited");
    // What it replaced is under a hidden name until it was looked at.
    eventually("nothing else", || names(&mount.places.remote) == ["f"]);
}

/// A user for whom root mounts could make a program in the directory behind the mount that runs as root.
///
/// S170 "No setuid or setgid bit that is set in a mount reaches the remote: nothing runs there as somebody else because a mount was
/// told so."
#[test]
fn regression_no_setuid_bit_reaches_a_directory() {
    let mount = Mounted::with(&["-o", "allow_other,umask=0"], |remote| {
        fs::write(remote.join("there"), "x").unwrap();
        fs::write(remote.join("has"), "x").unwrap();
        fs::set_permissions(remote.join("has"), Permissions::from_mode(0o4755)).unwrap();
    });
    fs::set_permissions(&mount.places.at, Permissions::from_mode(0o777)).unwrap();
    let mut command = nobodys("sh");
    command.args(["-euc", "cp /bin/true program; chmod 6755 program"]);
    let output = command.current_dir(&mount.places.at).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    fs::set_permissions(mount.path("there"), Permissions::from_mode(0o6711)).unwrap();
    fs::set_permissions(mount.path("has"), Permissions::from_mode(0o6711)).unwrap();
    let program = fs::read("/bin/true").unwrap();
    mount.arrives("program", &program);
    let mode = |name: &str| fs::metadata(mount.remote(name)).unwrap().mode() & 0o7777;
    eventually("modes at the remote", || {
        mode("there") & 0o777 == 0o711 && mode("has") & 0o777 == 0o711
    });
    assert_eq!((mode("program"), mode("there")), (0o755, 0o711));
    assert_eq!(mode("has"), 0o4711, "what it had it keeps, and gets no other");
    fs::set_permissions(mount.path("has"), Permissions::from_mode(0o4733)).unwrap();
    eventually("its mode at the remote", || mode("has") & 0o777 == 0o733);
    assert_eq!(mode("has"), 0o733, "what others may write runs as nobody else");
    fs::set_permissions(mount.remote("has"), Permissions::from_mode(0o4755)).unwrap();
    // Its content is another one: not even that bit is kept.
    fs::write(mount.path("has"), "edited").unwrap();
    mount.arrives("has", b"edited");
    assert_eq!(mode("has") & 0o6000, 0);
    fs::set_permissions(mount.path("program"), Permissions::from_mode(0o4711)).unwrap();
    eventually("its mode at the remote", || mode("program") & 0o777 == 0o711);
    assert_eq!(mode("program"), 0o711);
}

/// S171 "Owner, group and `user.*` attributes that are set on a file reach a remote that can hold them, alone if they are set later."
#[test]
fn owners_and_user_attributes_reach_a_directory() {
    let mount = Mounted::with(&["-o", "allow_other,umask=0"], |remote| {
        fs::write(remote.join("there"), "x").unwrap();
        setxattr(remote.join("there"), "user.theirs", b"t", XattrFlags::empty()).unwrap();
    });
    fs::set_permissions(&mount.places.at, Permissions::from_mode(0o777)).unwrap();
    let mut command = nobodys("sh");
    let script = "echo content > new; setfattr -n user.a -v 1 new; setfattr -n user.b -v 2 new";
    let output = command.args(["-euc", script]).current_dir(&mount.places.at).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    mount.arrives("new", b"content\n");
    let there = |name: &str| fs::metadata(mount.remote(name)).unwrap();
    let attribute = |name: &str, which: &str| xattr(&mount.remote(name), which);
    eventually("its attributes there", || attribute("new", "user.b").as_deref() == Ok(b"2"));
    assert_eq!((there("new").uid(), there("new").gid()), (65534, 65534));
    assert_eq!(attribute("new", "user.a").unwrap(), b"1");
    let content = there("new").ino();

    setxattr(mount.path("new"), "user.a", b"other", XattrFlags::empty()).unwrap();
    removexattr(mount.path("new"), "user.b").unwrap();
    // More than this file system may hold beside one inode: that it cannot is no error, and keeps nothing else from going.
    setxattr(mount.path("new"), "user.large", &[7; 60_000], XattrFlags::empty()).unwrap();
    setxattr(mount.path("there"), "user.ours", b"o", XattrFlags::empty()).unwrap();
    chown(mount.path("there"), Some(1234), Some(4321)).unwrap();
    eventually("what was set later", || {
        attribute("new", "user.a").as_deref() == Ok(b"other")
            && attribute("new", "user.b") == Err(libc::ENODATA)
            && attribute("there", "user.ours").as_deref() == Ok(b"o")
            && (there("there").uid(), there("there").gid()) == (1234, 4321)
    });
    assert_eq!(there("new").ino(), content, "the same file, not sent again");
    assert_eq!(xattr(&mount.path("new"), "user.large").unwrap(), [7; 60_000]);
    eventually("all to be sent", || {
        xattr(&mount.path("new"), "user.dewfs.sync").as_deref() == Ok(b"in-sync")
    });

    // Another content keeps what others set meanwhile as well.
    chown(mount.remote("there"), Some(1000), None).unwrap();
    fs::write(mount.path("there"), "edited").unwrap();
    mount.arrives("there", b"edited");
    assert_eq!((there("there").uid(), there("there").gid()), (1000, 4321));
    assert_eq!(attribute("there", "user.ours").unwrap(), b"o");
    assert_eq!(attribute("there", "user.theirs").unwrap(), b"t");
    assert_eq!(xattr_names(&mount.path("new")), ["user.a", "user.large"]);
}
