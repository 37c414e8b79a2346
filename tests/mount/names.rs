//! Names, folders and renames through the kernel.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::mount::{Mounted, dewfs, errno, eventually, ino, names};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

fn exchange(a: &Path, b: &Path, flags: RenameFlags) -> std::io::Result<()> {
    renameat_with(CWD, a, CWD, b, flags).map_err(Into::into)
}

#[test]
fn names_of_any_255_bytes_work_and_arrive() {
    let mount = Mounted::empty();
    let longest = vec![b'n'; 255];
    let wide: Vec<u8> = "ü".repeat(127).into_bytes();
    let odd: [&[u8]; 7] =
        [b"a\nb", b"\xff\xfe", b" ", b"-o", b"\\040", "日本".as_bytes(), b"a%2Fb"];
    for name in odd.into_iter().chain([longest.as_slice(), wide.as_slice()]) {
        let name = OsStr::from_bytes(name);
        fs::write(mount.path(name), name.as_bytes()).unwrap();
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
        mount.arrives(name, name.as_bytes());
    }
    assert_eq!(fs::read_dir(&mount.places.at).unwrap().count(), 9);
}

#[test]
fn longer_names_are_refused() {
    let mount = Mounted::empty();
    let long = mount.path("n".repeat(256));
    assert_eq!(errno(fs::write(&long, "")), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(&long)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::create_dir(&long)), libc::ENAMETOOLONG);
    fs::write(mount.path("a"), "").unwrap();
    assert_eq!(errno(fs::rename(mount.path("a"), &long)), libc::ENAMETOOLONG);
}

/// S12 "Temporaries on the remote begin with `.dewfs-tmp.`, what is displaced until it was looked at with
/// `.dewfs-held.`; no mount shows them."
#[test]
fn names_of_dewfs_are_hidden_and_cannot_be_made() {
    let mount = Mounted::of(|remote| {
        fs::write(remote.join(".dewfs-tmp.x.1.2--a"), "").unwrap();
        fs::write(remote.join(".dewfs-held.x.1.2--b"), "").unwrap();
    });
    assert!(names(&mount.places.at).is_empty());
    let ours = mount.path(".dewfs-mine");
    assert_eq!(errno(fs::write(&ours, "")), libc::EPERM);
    assert_eq!(errno(fs::create_dir(&ours)), libc::EPERM);
    assert_eq!(errno(fs::metadata(&ours)), libc::ENOENT);
    fs::write(mount.path("a"), "").unwrap();
    assert_eq!(errno(fs::rename(mount.path("a"), &ours)), libc::EPERM);
}

#[test]
fn hard_links_and_device_nodes_are_refused_honestly() {
    let mount = Mounted::empty();
    fs::write(mount.path("a"), "x").unwrap();
    assert_eq!(errno(fs::hard_link(mount.path("a"), mount.path("b"))), libc::EPERM);
    let node = mknodat(
        CWD,
        mount.path("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(1, 3),
    );
    assert_eq!(node.unwrap_err().raw_os_error(), libc::EPERM);
    assert_eq!(names(&mount.places.at), ["a"]);
}

#[test]
fn symlinks_fifos_and_sockets_live_here_only() {
    let mut mount = Mounted::empty();
    fs::write(mount.path("file"), "content").unwrap();
    symlink("file", mount.path("link")).unwrap();
    let far = "x/".repeat(1000);
    symlink(&far, mount.path("dangling")).unwrap();
    let fifo = mknodat(CWD, mount.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0);
    fifo.unwrap();
    drop(UnixListener::bind(mount.path("socket")).unwrap());
    mount.arrives("file", b"content");
    for _ in 0..2 {
        assert_eq!(fs::read(mount.path("link")).unwrap(), b"content");
        assert_eq!(fs::read_link(mount.path("dangling")).unwrap(), Path::new(&far));
        let size = fs::symlink_metadata(mount.path("dangling")).unwrap().len();
        assert_eq!(size, far.len() as u64);
        let kind = |name| fs::symlink_metadata(mount.path(name)).unwrap().file_type();
        assert!(kind("link").is_symlink());
        assert!(kind("fifo").is_fifo());
        assert!(kind("socket").is_socket());
        // Finding out what the directory can do takes a hidden file there for a moment.
        eventually("nothing but the file at the remote", || {
            names(&mount.places.remote) == ["file"]
        });
        mount.remount();
    }
}

#[test]
fn a_missing_name_appears_when_it_is_made_here_or_there() {
    let mount = Mounted::empty();
    assert_eq!(errno(fs::metadata(mount.path("here"))), libc::ENOENT);
    assert_eq!(errno(fs::metadata(mount.path("there"))), libc::ENOENT);
    fs::write(mount.path("here"), "1").unwrap();
    assert_eq!(fs::read(mount.path("here")).unwrap(), b"1");
    fs::write(mount.remote("there"), "2").unwrap();
    mount.shows("there", b"2");
}

#[test]
fn a_remote_deletion_takes_the_name_away() {
    let mount = Mounted::of(|remote| {
        fs::write(remote.join("a"), "1").unwrap();
        fs::create_dir_all(remote.join("dir/below")).unwrap();
    });
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"1");
    assert!(mount.path("dir/below").is_dir());
    fs::remove_file(mount.remote("a")).unwrap();
    fs::remove_dir_all(mount.remote("dir")).unwrap();
    eventually("the file to go", || !mount.path("a").exists());
    eventually("the folder to go", || !mount.path("dir").exists());
    assert!(names(&mount.places.at).is_empty());
}

#[test]
fn exclusive_creation_happens_once() {
    let mount = Mounted::empty();
    File::create_new(mount.path("a")).unwrap();
    assert_eq!(errno(File::create_new(mount.path("a"))), libc::EEXIST);
    fs::create_dir(mount.path("d")).unwrap();
    assert_eq!(errno(fs::create_dir(mount.path("d"))), libc::EEXIST);
    assert_eq!(errno(fs::create_dir(mount.path("a"))), libc::EEXIST);
    assert_eq!(errno(symlink("x", mount.path("a"))), libc::EEXIST);
}

#[test]
fn wrong_kinds_have_their_errnos() {
    let mount = Mounted::empty();
    fs::write(mount.path("a"), "").unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/x"), "").unwrap();
    assert_eq!(errno(fs::remove_dir(mount.path("a"))), libc::ENOTDIR);
    assert_eq!(errno(fs::remove_file(mount.path("d"))), libc::EISDIR);
    assert_eq!(errno(fs::remove_dir(mount.path("d"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::metadata(mount.path("a/b"))), libc::ENOTDIR);
    assert_eq!(errno(fs::write(mount.path("d"), "")), libc::EISDIR);
    assert_eq!(errno(fs::remove_file(mount.path("none"))), libc::ENOENT);
    assert_eq!(errno(fs::create_dir(mount.path("none/below"))), libc::ENOENT);
}

#[test]
fn a_rename_keeps_the_inode_and_replaces_what_was_there() {
    let mount = Mounted::empty();
    fs::write(mount.path("a"), "a").unwrap();
    fs::write(mount.path("b"), "b").unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    let number = ino(&mount.path("a"));
    fs::rename(mount.path("a"), mount.path("b")).unwrap();
    assert_eq!(
        (ino(&mount.path("b")), names(&mount.places.at)),
        (number, vec!["b".into(), "d".into()])
    );
    fs::rename(mount.path("b"), mount.path("d/c")).unwrap();
    assert_eq!(fs::read(mount.path("d/c")).unwrap(), b"a");
    fs::rename(mount.path("d"), mount.path("e")).unwrap();
    assert_eq!(ino(&mount.path("e/c")), number);
    mount.arrives("e/c", b"a");
    eventually("only e at the remote", || names(&mount.places.remote) == ["e"]);
}

#[test]
fn a_rename_onto_itself_changes_nothing() {
    let mount = Mounted::empty();
    fs::write(mount.path("a"), "a").unwrap();
    fs::rename(mount.path("a"), mount.path("a")).unwrap();
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
}

#[test]
fn renames_that_cannot_be_have_their_errnos() {
    let mount = Mounted::empty();
    fs::write(mount.path("file"), "").unwrap();
    fs::create_dir_all(mount.path("full/x")).unwrap();
    fs::create_dir(mount.path("empty")).unwrap();
    let rename = |a: &str, b: &str| fs::rename(mount.path(a), mount.path(b));
    assert_eq!(errno(rename("none", "x")), libc::ENOENT);
    assert_eq!(errno(rename("full", "full/x/y")), libc::EINVAL);
    assert_eq!(errno(rename("empty", "full")), libc::ENOTEMPTY);
    assert_eq!(errno(rename("file", "empty")), libc::EISDIR);
    assert_eq!(errno(rename("empty", "file")), libc::ENOTDIR);
    rename("full", "empty").unwrap();
    assert_eq!(names(&mount.path("empty")), ["x"]);
}

#[test]
fn rename_without_replacing_and_exchange() {
    let mount = Mounted::empty();
    fs::write(mount.path("a"), "a").unwrap();
    fs::write(mount.path("b"), "b").unwrap();
    let kept = exchange(&mount.path("a"), &mount.path("b"), RenameFlags::NOREPLACE);
    assert_eq!(errno(kept), libc::EEXIST);
    exchange(&mount.path("a"), &mount.path("c"), RenameFlags::NOREPLACE).unwrap();
    // EXCHANGE may follow later; until then it is refused and nothing happens.
    match exchange(&mount.path("b"), &mount.path("c"), RenameFlags::EXCHANGE) {
        Ok(()) => {
            assert_eq!(fs::read(mount.path("b")).unwrap(), b"a");
            assert_eq!(fs::read(mount.path("c")).unwrap(), b"b");
        }
        Err(why) => {
            let code = why.raw_os_error().unwrap();
            assert!([libc::EINVAL, libc::EOPNOTSUPP].contains(&code), "{why}");
            assert_eq!(fs::read(mount.path("b")).unwrap(), b"b");
        }
    }
}

#[test]
fn a_large_folder_is_listed_whole_and_once() {
    let mount = Mounted::of(|remote| {
        for number in 0..3000 {
            fs::write(remote.join(format!("file with a longer name {number}")), "").unwrap();
        }
    });
    for _ in 0..2 {
        let listed = names(&mount.places.at);
        assert_eq!(listed.len(), 3000);
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), 3000);
    }
    // Metadata of all, which takes the other kind of page.
    let sizes =
        fs::read_dir(&mount.places.at).unwrap().map(|e| e.unwrap().metadata().unwrap().len());
    assert_eq!(sizes.sum::<u64>(), 0);
}

#[test]
fn a_folder_can_be_emptied_while_it_is_read() {
    // That the remote follows is not waited for.
    let mount = Mounted::with(&["-o", "drain=0s"], |_| {});
    fs::create_dir(mount.path("d")).unwrap();
    for number in 0..1500 {
        fs::write(mount.path(format!("d/{number}")), "").unwrap();
    }
    let mut seen = 0;
    for entry in fs::read_dir(mount.path("d")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 1500);
    fs::remove_dir(mount.path("d")).unwrap();
}

/// S57 "Whoever reads a folder comes to its end, however much is made or replaced in it meanwhile; what is new since he began
/// may be shown only when he begins again." What was made anew came again behind the last page, and the walk never ended.
#[test]
fn regression_a_folder_can_be_read_while_its_files_are_replaced() {
    let mount = Mounted::with(&["-o", "drain=0s"], |_| {});
    fs::create_dir(mount.path("d")).unwrap();
    // More than one page, however large the kernel's buffer is.
    let name = |number: usize| format!("{number:04}{}", "n".repeat(200));
    for number in 0..400 {
        fs::write(mount.path("d").join(name(number)), "old").unwrap();
    }
    let mut seen = 0;
    for entry in fs::read_dir(mount.path("d")).unwrap() {
        let path = entry.unwrap().path();
        fs::write(mount.path("new"), "new").unwrap();
        fs::rename(mount.path("new"), path).unwrap();
        seen += 1;
        assert!(seen < 2000, "the walk goes on and on");
    }
    assert!(seen >= 400, "{seen}");
    assert_eq!(names(&mount.path("d")).len(), 400);
}

/// S152 "A name that is there the whole time is in what he reads, also if the file behind it is replaced meanwhile, and again and
/// again where that happens to a few at once; then it may be there up to three times." A file that was replaced while somebody read its folder was in none of his pages: a backup took it for removed.
#[test]
fn regression_what_is_replaced_while_its_folder_is_read_is_seen() {
    let mount = Mounted::with(&["-o", "drain=0s"], |_| {});
    fs::create_dir(mount.path("d")).unwrap();
    // More than one page, however large the kernel's buffer is.
    let name = |number: usize| format!("{number:04}{}", "n".repeat(200));
    for number in 0..400 {
        fs::write(mount.path("d").join(name(number)), "old").unwrap();
    }
    let mut listing = fs::read_dir(mount.path("d")).unwrap();
    let mut seen = std::collections::HashSet::new();
    seen.insert(listing.next().unwrap().unwrap().file_name());
    for number in 0..400 {
        fs::write(mount.path("new"), "new").unwrap();
        fs::rename(mount.path("new"), mount.path("d").join(name(number))).unwrap();
    }
    seen.extend(listing.map(|entry| entry.unwrap().file_name()));
    assert_eq!(seen.len(), 400);
}

#[test]
fn what_appears_in_an_open_folder_shows_from_its_start() {
    let mount = Mounted::of(|remote| fs::create_dir(remote.join("d")).unwrap());
    fs::write(mount.path("d/first"), "").unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let open = rustix::fs::open(mount.path("d"), flags, Mode::empty()).unwrap();
    let mut listing = rustix::fs::Dir::new(open).unwrap();
    let count = |listing: &mut rustix::fs::Dir| listing.by_ref().map(Result::unwrap).count();
    assert_eq!(count(&mut listing), 3);
    fs::write(mount.path("d/second"), "").unwrap();
    listing.rewind();
    assert_eq!(count(&mut listing), 4);
}

#[test]
fn dots_are_there() {
    let mount = Mounted::of(|remote| fs::create_dir(remote.join("d")).unwrap());
    let dir = rustix::fs::open(
        mount.path("d"),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
        Mode::empty(),
    );
    let listing = rustix::fs::Dir::read_from(dir.unwrap()).unwrap();
    let mut found: Vec<Vec<u8>> =
        listing.map(|entry| entry.unwrap().file_name().to_bytes().to_vec()).collect();
    found.sort();
    assert_eq!(found, [b".".to_vec(), b"..".to_vec()]);
    assert_eq!(ino(&mount.path("d/..")), ino(&mount.places.at));
    assert_eq!(ino(&mount.places.at), 1);
}

#[test]
fn a_folder_in_use_as_working_directory_keeps_its_place_when_something_in_it_changes() {
    let mount = Mounted::of(|remote| fs::create_dir(remote.join("d")).unwrap());
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "read x; /bin/pwd -P"])
        .current_dir(mount.path("d"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(mount.remote("d/new"), "1").unwrap();
    mount.shows("d/new", b"1");
    drop(shell.stdin.take());
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(Path::new(&said), mount.path("d"));
}

/// S56 "A folder that others rename or move while programs are in it is whole under its new name, also for them."
///
/// The kernel took a folder that was renamed at the remote for one that is gone, as long as somebody was in it: nothing in it
/// could be found, by anybody, under its new name.
#[test]
fn regression_a_folder_in_use_that_others_move_is_alive() {
    let mount = Mounted::of(|remote| {
        fs::create_dir_all(remote.join("docs/sub")).unwrap();
        fs::write(remote.join("docs/a"), "a").unwrap();
        fs::write(remote.join("file"), "file").unwrap();
    });
    names(&mount.path("docs"));
    let open = File::open(mount.path("file")).unwrap();
    let inside = File::open(mount.path("docs")).unwrap();
    fs::rename(mount.remote("docs"), mount.remote("papers")).unwrap();
    fs::rename(mount.remote("file"), mount.remote("renamed")).unwrap();
    eventually("the folder to be known by its new name", || mount.path("papers").exists());
    eventually("the file to be known by its new name", || mount.path("renamed").exists());
    assert!(!mount.path("docs").exists());
    assert_eq!(names(&mount.path("papers")), ["a", "sub"]);
    fs::write(mount.path("papers/b"), "b").unwrap();
    fs::write(mount.path("papers/sub/c"), "c").unwrap();
    mount.arrives("papers/b", b"b");
    assert_eq!(inside.metadata().unwrap().ino(), ino(&mount.path("papers")));
    assert_eq!(fs::read(format!("/proc/self/fd/{}/a", inside.as_raw_fd())).unwrap(), b"a");
    assert_eq!(open.metadata().unwrap().nlink(), 1);
}

/// A folder that was removed and came back was as dead, while somebody was still in it.
#[test]
fn regression_a_folder_in_use_that_is_removed_and_brought_back_is_alive() {
    let mount = Mounted::of(|remote| {
        fs::create_dir(remote.join("d")).unwrap();
        fs::write(remote.join("d/a"), "a").unwrap();
    });
    names(&mount.path("d"));
    let _inside = File::open(mount.path("d")).unwrap();
    // What is edited there while it is deleted here comes back.
    let tell =
        |verb: &str| assert!(dewfs().arg(verb).arg(&mount.places.at).status().unwrap().success());
    tell("pause");
    fs::remove_dir_all(mount.path("d")).unwrap();
    fs::write(mount.remote("d/a"), "edited").unwrap();
    tell("resume");
    mount.shows("d/a", b"edited");
    assert_eq!(names(&mount.path("d")), ["a"]);
    fs::write(mount.path("d/b"), "b").unwrap();
    mount.arrives("d/b", b"b");
}
