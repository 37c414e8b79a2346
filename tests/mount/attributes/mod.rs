//! Times, modes, owners, extended attributes and sizes through the kernel.

mod remote;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::mount::{self, Mounted, eventually, names, said};
use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, XattrFlags, getxattr, getxattr_query, listxattr,
    removexattr, setxattr, utimensat,
};

fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A program as a user runs it for whom root mounts.
fn nobodys(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
    command
}

fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, i32> {
    let mut value = vec![0; 70_000];
    match getxattr(path, name, &mut value) {
        Ok(length) => Ok(value[..length].to_vec()),
        Err(why) => Err(why.raw_os_error()),
    }
}

fn xattr_names(path: &Path) -> Vec<String> {
    let mut list = vec![0; 70_000];
    let length = listxattr(path, &mut list).unwrap();
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[test]
fn times_keep_their_nanoseconds_over_a_remount() {
    let mut mount = Mounted::of(|remote| fs::write(remote.join("there"), "x").unwrap());
    fs::write(mount.path("here"), "x").unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    std::os::unix::fs::symlink("x", mount.path("link")).unwrap();
    for name in ["here", "there", "dir", "link"] {
        set_times(&mount.path(name), (1_600_000_000, 7), (1_500_000_000, 123_456_789));
    }
    for _ in 0..2 {
        for name in ["here", "there", "dir", "link"] {
            let found = fs::symlink_metadata(mount.path(name)).unwrap();
            let mtime = (found.mtime(), found.mtime_nsec());
            assert_eq!(mtime, (1_500_000_000, 123_456_789), "{name}");
            assert_eq!((found.atime(), found.atime_nsec()), (1_600_000_000, 7), "{name}");
        }
        mount.remount();
    }
}

#[test]
fn times_before_1970_and_after_2038_are_kept() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "x").unwrap();
    for mtime in [(-1_000_000_000, 0), (-2, 500_000_000), (0, 0), (4_000_000_000, 1)] {
        set_times(&mount.path("f"), mtime, mtime);
        let found = fs::metadata(mount.path("f")).unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec()), mtime);
        assert_eq!((found.atime(), found.atime_nsec()), mtime);
    }
}

#[test]
fn a_write_moves_mtime_and_a_metadata_change_moves_ctime() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "x").unwrap();
    let set = |mtime| set_times(&mount.path("f"), (1_000_000_000, 0), (mtime, 0));
    set(1_000_000_000);
    let before = fs::metadata(mount.path("f")).unwrap();
    let age =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - before.ctime();
    assert!((0..60).contains(&age), "ctime is now, not what was set: {age} s");
    fs::write(mount.path("f"), "y").unwrap();
    assert!(fs::metadata(mount.path("f")).unwrap().mtime() > 1_700_000_000);
    set(1_000_000_000);
    OpenOptions::new().append(true).open(mount.path("f")).unwrap().write_all(b"z").unwrap();
    assert!(fs::metadata(mount.path("f")).unwrap().mtime() > 1_700_000_000);
    // What changes in a folder moves the folder's mtime.
    set_times(&mount.places.at, (1_000_000_000, 0), (1_000_000_000, 0));
    fs::write(mount.path("g"), "").unwrap();
    assert!(fs::metadata(&mount.places.at).unwrap().mtime() > 1_700_000_000);
}

#[test]
fn modes_and_owners_are_kept_over_a_remount() {
    let mut mount = Mounted::with(&["-o", "allow_other"], |remote| {
        fs::write(remote.join("there"), "x").unwrap();
    });
    fs::write(mount.path("here"), "x").unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    for name in ["here", "there", "dir"] {
        chown(mount.path(name), Some(1234), Some(4321)).unwrap();
        fs::set_permissions(mount.path(name), Permissions::from_mode(0o751)).unwrap();
    }
    for _ in 0..2 {
        for name in ["here", "there", "dir"] {
            let found = fs::metadata(mount.path(name)).unwrap();
            let about = (found.mode() & 0o7777, found.uid(), found.gid());
            assert_eq!(about, (0o751, 1234, 4321), "{name}");
        }
        mount.remount();
    }
}

#[test]
fn the_umask_counts() {
    let mount = Mounted::empty();
    let script = "umask 027; : > f; mkdir d; mkfifo p";
    let mut command = std::process::Command::new("sh");
    command.args(["-euc", script]).current_dir(&mount.places.at);
    assert!(command.status().unwrap().success());
    let mode = |name| fs::metadata(mount.path(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("f"), mode("d"), mode("p")), (0o640, 0o750, 0o640));
}

/// As mount(2) asks of every file system: what is new in a folder with the set-group-id bit is the group's.
#[test]
fn regression_a_folder_with_the_set_group_id_bit_gives_its_group() {
    let mut mount = Mounted::empty();
    fs::create_dir(mount.path("team")).unwrap();
    chown(mount.path("team"), None, Some(4321)).unwrap();
    fs::set_permissions(mount.path("team"), Permissions::from_mode(0o2775)).unwrap();
    let script = "umask 022; : > team/f; mkdir team/d; : > team/d/deep; mkfifo team/p; mkdir plain";
    let mut command = std::process::Command::new("sh");
    command.args(["-euc", script]).current_dir(&mount.places.at);
    assert!(command.status().unwrap().success());
    let unchanged = std::process::Command::new("chown")
        .arg("0:4321")
        .arg(mount.path("team/d"))
        .status()
        .unwrap();
    assert!(unchanged.success());
    rustix::fs::chown(mount.path("team"), None, None).unwrap();
    for _ in 0..2 {
        for (name, mode, group) in [
            ("team", 0o2775, 4321),
            ("team/f", 0o644, 4321),
            ("team/d", 0o2755, 4321),
            ("team/d/deep", 0o644, 4321),
            ("team/p", 0o644, 4321),
            ("plain", 0o755, 0),
        ] {
            let found = fs::metadata(mount.path(name)).unwrap();
            assert_eq!((found.mode() & 0o7777, found.gid()), (mode, group), "{name}");
        }
        mount.remount();
    }
}

#[test]
fn writing_clears_suid() {
    let mount = Mounted::with(&["-o", "allow_other"], |_| {});
    fs::write(mount.path("f"), "x").unwrap();
    let mode = || fs::metadata(mount.path("f")).unwrap().mode() & 0o7777;
    let set = || {
        fs::set_permissions(mount.path("f"), Permissions::from_mode(0o6777)).unwrap();
        assert_eq!(mode(), 0o6777);
    };
    let as_nobody = |script: &str| {
        let mut command = nobodys("sh");
        command.args(["-euc", script, "sh"]).arg(mount.path("f"));
        assert!(command.status().unwrap().success(), "{script}");
    };
    fs::set_permissions(&mount.places.at, Permissions::from_mode(0o777)).unwrap();
    set();
    as_nobody(r#"echo y >> "$1""#);
    assert_eq!(mode(), 0o777, "by a write");
    set();
    as_nobody(r#"echo y > "$1""#);
    assert_eq!(mode(), 0o777, "by O_TRUNC");
    set();
    as_nobody(r#"truncate -s 1 "$1""#);
    assert_eq!(mode(), 0o777, "by truncate");
    set();
    chown(mount.path("f"), Some(65534), None).unwrap();
    assert_eq!(mode(), 0o777, "by chown");
}

#[test]
fn permissions_are_checked_by_the_kernel() {
    let mount = Mounted::with(&["-o", "allow_other"], |_| {});
    fs::write(mount.path("secret"), "x").unwrap();
    fs::set_permissions(mount.path("secret"), Permissions::from_mode(0o600)).unwrap();
    fs::write(mount.path("open"), "x").unwrap();
    fs::set_permissions(mount.path("open"), Permissions::from_mode(0o644)).unwrap();
    let read = |name: &str| nobodys("cat").arg(mount.path(name)).output().unwrap().status.success();
    assert!(!read("secret"));
    assert!(read("open"));
}

/// The kernel answers from what it has cached without asking, so strangers could learn what root had looked at.
///
/// S47 "Nobody but its owner, the user of `uid=` and root learns of a mount's names, sizes and state, or may ask it for anything;
/// with `allow_other`, others get the state of what the kernel lets them see."
#[test]
fn regression_with_allow_root_others_learn_no_cached_name() {
    let mut mount = Mounted::with(&["-o", "allow_root,umask=0"], |remote| {
        fs::write(remote.join("f"), "x").unwrap();
    });
    std::os::unix::fs::symlink("secret", mount.path("link")).unwrap();
    let as_nobody = |program: &str, name: &str| {
        nobodys(program).env("LC_ALL", "C").arg(mount.path(name)).output().unwrap()
    };
    let root = || fs::metadata(&mount.places.at).unwrap().mode() & 0o7777;
    let learns_nothing = || {
        assert_eq!(fs::metadata(mount.path("f")).unwrap().len(), 1);
        assert_eq!(fs::read_link(mount.path("link")).unwrap(), Path::new("secret"));
        for (program, name) in [("stat", "f"), ("stat", "link"), ("readlink", "link")] {
            let output = as_nobody(program, name);
            assert!(!output.status.success(), "{program} {name}: {}", said(&output));
        }
        let refused = said(&as_nobody("stat", "f"));
        assert!(refused.contains("Permission denied"), "{refused}");
    };
    learns_nothing();
    assert_eq!(root(), 0o700);
    // It is shown so, and not made so.
    fs::set_permissions(&mount.places.at, Permissions::from_mode(0o751)).unwrap();
    assert_eq!(root(), 0o700);
    learns_nothing();
    mount.unmount();
    mount.options_replaced(&["-o", "allow_other"]);
    mount.mount();
    assert_eq!(fs::metadata(&mount.places.at).unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn user_attributes_are_kept_over_a_remount() {
    let mut mount = Mounted::of(|remote| fs::write(remote.join("f"), "x").unwrap());
    fs::create_dir(mount.path("d")).unwrap();
    for name in ["f", "d"] {
        let path = mount.path(name);
        setxattr(&path, "user.a", b"1", XattrFlags::empty()).unwrap();
        setxattr(&path, "user.empty", b"", XattrFlags::CREATE).unwrap();
        setxattr(&path, "user.big", &[7; 60_000], XattrFlags::empty()).unwrap();
        setxattr(&path, "user.gone", b"1", XattrFlags::empty()).unwrap();
        removexattr(&path, "user.gone").unwrap();
        let twice = setxattr(&path, "user.a", b"2", XattrFlags::CREATE);
        assert_eq!(twice.unwrap_err().raw_os_error(), libc::EEXIST);
        let none = setxattr(&path, "user.none", b"2", XattrFlags::REPLACE);
        assert_eq!(none.unwrap_err().raw_os_error(), libc::ENODATA);
    }
    for _ in 0..2 {
        for name in ["f", "d"] {
            let path = mount.path(name);
            assert_eq!(xattr(&path, "user.a").unwrap(), b"1");
            assert_eq!(xattr(&path, "user.empty").unwrap(), b"");
            assert_eq!(xattr(&path, "user.big").unwrap(), [7; 60_000]);
            assert_eq!(xattr(&path, "user.gone"), Err(libc::ENODATA));
            let mut names = xattr_names(&path);
            names.sort();
            assert_eq!(names, ["user.a", "user.big", "user.empty"]);
        }
        mount.remount();
    }
}

#[test]
fn attributes_too_long_for_the_buffer_say_so() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "").unwrap();
    setxattr(mount.path("f"), "user.a", b"12345", XattrFlags::empty()).unwrap();
    let short = getxattr(mount.path("f"), "user.a", &mut [0u8; 3]);
    assert_eq!(short.unwrap_err().raw_os_error(), libc::ERANGE);
    assert_eq!(getxattr_query(mount.path("f"), "user.a").unwrap(), 5);
    let short = listxattr(mount.path("f"), &mut [0u8; 3]);
    assert_eq!(short.unwrap_err().raw_os_error(), libc::ERANGE);
}

#[test]
fn other_attributes_are_refused() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "").unwrap();
    for name in ["trusted.a", "security.selinux"] {
        let refused = setxattr(mount.path("f"), name, b"1", XattrFlags::empty());
        assert_eq!(refused.unwrap_err().raw_os_error(), libc::EOPNOTSUPP, "{name}");
    }
    assert_eq!(xattr(&mount.path("f"), "security.capability"), Err(libc::ENODATA));
}

#[test]
fn the_state_can_be_read_as_attributes_and_is_not_listed() {
    let mount = Mounted::of(|remote| {
        fs::write(remote.join("f"), vec![1; 200_000]).unwrap();
        fs::write(remote.join("empty"), "").unwrap();
    });
    let state = |name: &str, what: &str| {
        xattr(&mount.path(name), &format!("user.dewfs.{what}"))
            .map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(state("f", "state").unwrap(), "online-only");
    assert_eq!(state("f", "content").unwrap(), "online-only");
    assert_eq!(state("f", "present").unwrap(), "0");
    assert_eq!(state("empty", "content").unwrap(), "local");
    assert_eq!(state("f", "sync").unwrap(), "in-sync");
    assert_eq!(state("f", "pin").unwrap(), "unspecified");
    assert_eq!(state("f", "nonsense"), Err(libc::ENODATA));
    fs::read(mount.path("f")).unwrap();
    mount::eventually("the content to be local", || state("f", "content").unwrap() == "local");
    assert_eq!(state("f", "present").unwrap(), "200000");
    let pinned = setxattr(mount.path("f"), "user.dewfs.pin", b"pinned", XattrFlags::empty());
    pinned.unwrap();
    assert_eq!(state("f", "pin").unwrap(), "pinned");
    removexattr(mount.path("f"), "user.dewfs.pin").unwrap();
    assert_eq!(state("f", "pin").unwrap(), "unspecified");
    let refused = removexattr(mount.path("f"), "user.dewfs.state");
    assert_eq!(refused.unwrap_err().raw_os_error(), libc::EPERM);
    // A folder on a disk tells its files' numbers and when they changed; there was no error.
    let version = state("f", "version").unwrap();
    assert!(!version.is_empty() && !state("f", "id").unwrap().is_empty());
    assert_eq!(state("f", "error"), Err(libc::ENODATA));
    fs::write(mount.path("f"), "new").unwrap();
    mount.arrives("f", b"new");
    eventually("another version", || state("f", "version").is_ok_and(|it| it != version));
    let pinned = setxattr(mount.path("f"), "user.dewfs.pin", b"pinned", XattrFlags::empty());
    pinned.unwrap();
    assert_eq!(state("f", "state").unwrap(), "pinned");
    let refused = setxattr(mount.path("f"), "user.dewfs.pin", b"excluded", XattrFlags::empty());
    assert_eq!(refused.unwrap_err().raw_os_error(), libc::EINVAL);
    let refused = setxattr(mount.path("f"), "user.dewfs.state", b"x", XattrFlags::empty());
    assert_eq!(refused.unwrap_err().raw_os_error(), libc::EPERM);
    assert!(xattr_names(&mount.path("f")).is_empty());
}

#[test]
fn the_room_is_told() {
    let mount = Mounted::empty();
    let room = rustix::fs::statvfs(&mount.places.at).unwrap();
    assert!(room.f_blocks > 0 && room.f_bavail > 0 && room.f_files > 0);
    assert_eq!(room.f_namemax, 255);
    let disk = rustix::fs::statvfs(&mount.places.state).unwrap();
    let (here, there) = (room.f_blocks * room.f_frsize, disk.f_blocks * disk.f_frsize);
    assert!(here.abs_diff(there) <= there / 10, "{here} {there}");
}

#[test]
fn inode_numbers_are_the_same_after_a_remount() {
    let mut mount = Mounted::of(|remote| {
        fs::create_dir(remote.join("d")).unwrap();
        fs::write(remote.join("d/f"), "x").unwrap();
    });
    let numbers = || ["d", "d/f"].map(|name| fs::metadata(mount.path(name)).unwrap().ino());
    let before = numbers();
    assert!(before.iter().all(|number| *number >= 3));
    mount.remount();
    let numbers = ["d", "d/f"].map(|name| fs::metadata(mount.path(name)).unwrap().ino());
    assert_eq!(numbers, before);
}

#[test]
fn links_are_counted_as_tools_expect() {
    let mount = Mounted::empty();
    fs::write(mount.path("f"), "").unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    assert_eq!(fs::metadata(mount.path("f")).unwrap().nlink(), 1);
    assert_eq!(fs::metadata(mount.path("d")).unwrap().nlink(), 2);
}

#[test]
fn reading_moves_atime_as_relatime_does() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), "x").unwrap());
    set_times(&mount.path("f"), (1_000_000_000, 0), (1_100_000_000, 0));
    fs::read(mount.path("f")).unwrap();
    let atime = || fs::metadata(mount.path("f")).unwrap().atime();
    eventually("an atime before mtime moves when the file is read", || atime() != 1_000_000_000);
    assert!(atime() >= 1_100_000_000, "{}", atime());
}

/// As rsync makes a file without content: made, dated, and only then opened again and renamed.
#[test]
fn an_empty_file_keeps_the_time_it_was_given() {
    let mount = Mounted::empty();
    let (temp, file) = (mount.path(".file.tmp"), mount.path("file"));
    drop(fs::File::create_new(&temp).unwrap());
    set_times(&temp, (1_000_000_000, 0), (1_000_000_000, 0));
    fs::File::open(&temp).unwrap().set_permissions(Permissions::from_mode(0o640)).unwrap();
    fs::rename(&temp, &file).unwrap();
    mount.arrives("file", b"");
    assert_eq!(fs::metadata(&file).unwrap().mtime(), 1_000_000_000);
    // A time of writing is another thing.
    fs::write(&file, b"content").unwrap();
    assert!(fs::metadata(&file).unwrap().mtime() > 1_000_000_000);
}
