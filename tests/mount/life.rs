//! What arrives at the remote, and mounts that end and come back.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::mount::{self, Mounted, Places, bytes, errno, eventually, ino, names};
use rustix::process::Signal;

fn shell(dir: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", mount::said(&output));
}

/// All files below, as relative path and content.
fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read(&path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    found
}

/// SIGXFSZ, whose default action ends a process: a shell with `ulimit -f` may have started the daemon.
#[test]
fn regression_a_limit_on_file_sizes_ends_no_daemon() {
    let mount = Mounted::of(|remote| {
        fs::write(remote.join("large"), bytes(40 << 20, 1)).unwrap();
        fs::write(remote.join("small"), "small").unwrap();
    });
    let daemon = rustix::process::Pid::from_raw(i32::try_from(mount.pid()).unwrap());
    let most = Some(32 << 20);
    let limit = rustix::process::Rlimit { current: most, maximum: most };
    rustix::process::prlimit(daemon, rustix::process::Resource::Fsize, limit).unwrap();
    assert!(fs::read(mount.path("large")).is_err());
    assert_eq!(fs::read(mount.path("small")).unwrap(), b"small");
    assert!(names(&mount.places.at).contains(&"large".to_owned()));
}

/// S11 "Other users of the remote see the old file or the new one under its name, never a part of it."
#[test]
fn no_moment_shows_a_part_of_a_file_at_the_remote() {
    let mount = Mounted::empty();
    let (old, new) = (bytes(3_000_000, 1), bytes(3_000_000, 2));
    fs::write(mount.path("f"), &old).unwrap();
    mount.arrives("f", &old);
    fs::write(mount.path("f"), &new).unwrap();
    eventually("the new content", || {
        let shown: Vec<_> = names(&mount.places.remote);
        let visible = shown.iter().filter(|name| !name.starts_with(".dewfs-"));
        assert_eq!(visible.collect::<Vec<_>>(), ["f"]);
        let found = fs::read(mount.remote("f")).unwrap();
        assert!(found == old || found == new, "a part: {} bytes", found.len());
        found == new
    });
    eventually("no temporary left", || names(&mount.places.remote) == ["f"]);
}

#[test]
fn a_thousand_small_files_arrive() {
    let mount = Mounted::empty();
    fs::create_dir(mount.path("many")).unwrap();
    for number in 0..1000u64 {
        fs::write(mount.path(format!("many/{number}")), bytes(4096, number)).unwrap();
    }
    eventually("all names", || {
        let found = fs::read_dir(mount.remote("many"));
        found.is_ok_and(|dir| {
            let arrived = |name: String| !name.starts_with('.');
            dir.filter(|e| arrived(e.as_ref().unwrap().file_name().to_string_lossy().into_owned()))
                .count()
                == 1000
        })
    });
    for number in 0..1000u64 {
        mount.arrives(format!("many/{number}"), &bytes(4096, number));
    }
}

#[test]
fn the_save_patterns_of_editors_arrive_as_the_same_file() {
    let mount = Mounted::of(|remote| {
        for name in ["vim", "gedit", "office"] {
            fs::write(remote.join(name), "first").unwrap();
        }
    });
    let root = &mount.places.at;
    // Backup by renaming, then a new file of the old name.
    shell(root, "cat vim >/dev/null; mv vim vim~; printf second > vim; rm vim~");
    // A temporary renamed over.
    shell(
        root,
        "cat gedit >/dev/null; printf second > .goutputstream-X1; mv .goutputstream-X1 gedit",
    );
    shell(
        root,
        "cat office >/dev/null; printf second > lu12.tmp; sync lu12.tmp; mv lu12.tmp office",
    );
    for name in ["vim", "gedit", "office"] {
        mount.arrives(name, b"second");
        assert_eq!(fs::read(mount.path(name)).unwrap(), b"second");
    }
    eventually("nothing else at the remote", || {
        names(&mount.places.remote) == ["gedit", "office", "vim"]
    });
}

#[test]
fn archives_and_copies_are_whole() {
    let mount = Mounted::of(|remote| {
        fs::create_dir_all(remote.join("tree/a/b")).unwrap();
        for (number, name) in ["x", "a/y", "a/b/z"].into_iter().enumerate() {
            let content = bytes(100_000 * number, number as u64);
            fs::write(remote.join("tree").join(name), content).unwrap();
        }
    });
    let expected = tree(&mount.remote("tree"));
    shell(&mount.places.at, "mkdir out; tar -cSf - tree | tar -xf - -C out; cp -a tree copy");
    assert_eq!(tree(&mount.path("out/tree")), expected);
    assert_eq!(tree(&mount.path("copy")), expected);
    eventually("the copy", || {
        mount.remote("copy").is_dir() && tree(&mount.remote("copy")) == expected
    });
}

#[test]
fn a_git_repository_works() {
    let mount = Mounted::empty();
    let script = "git init -q -b main r; cd r; for i in 1 2 3; do echo $i > f$i; done; git add .; \
                  git -c user.name=a -c user.email=a@b commit -qm one; cd ..; \
                  git clone -q r s; git -C s fsck --strict; git -C s status --porcelain";
    shell(&mount.places.at, script);
    let head = fs::read(mount.path("r/.git/HEAD")).unwrap();
    mount.arrives("r/.git/HEAD", &head);
}

/// S1 "When `close` of a written file has returned, its bytes survive a killed daemon, and arrive on the remote later."
#[test]
fn a_closed_file_survives_kill_9_and_arrives() {
    let mut mount = Mounted::with(&["-o", "write_back_delay=1h"], |remote| {
        fs::write(remote.join("old"), "first").unwrap();
    });
    let content = bytes(300_000, 3);
    fs::write(mount.path("new"), &content).unwrap();
    fs::write(mount.path("old"), "second").unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    fs::rename(mount.path("new"), mount.path("dir/new")).unwrap();
    mount.kill();
    assert_eq!(errno(fs::read_dir(&mount.places.at)), libc::ENOTCONN);
    // The next mount clears what the killed one left.
    mount.options_replaced(&[]);
    mount.mount();
    assert_eq!(fs::read(mount.path("dir/new")).unwrap(), content);
    mount.arrives("dir/new", &content);
    mount.arrives("old", b"second");
}

/// S24 "After the daemon was killed, the next `dewfs mount` on that directory works."
#[test]
fn a_killed_daemon_leaves_nobody_waiting() {
    let mut mount = Mounted::of(|remote| fs::write(remote.join("f"), "x").unwrap());
    let file = File::open(mount.path("f")).unwrap();
    mount.kill();
    assert_eq!(errno(file.metadata()), libc::ENOTCONN);
    drop(file);
    mount.mount();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
}

#[test]
fn a_signal_unmounts_and_sends_what_is_pending() {
    let mut mount = Mounted::with(&["-o", "write_back_delay=200ms"], |_| {});
    fs::write(mount.path("f"), "content").unwrap();
    mount.signal(Signal::TERM);
    mount.end();
    assert!(!mount.places.is_mounted());
    assert_eq!(fs::read(mount.remote("f")).unwrap(), b"content");
    assert!(names(&mount.places.at).is_empty());
}

#[test]
fn unmounting_sends_what_is_pending_and_ends_the_daemon() {
    let mut mount = Mounted::with(&["-o", "write_back_delay=200ms"], |_| {});
    fs::write(mount.path("f"), "content").unwrap();
    let status = Command::new("umount").arg(&mount.places.at).status().unwrap();
    assert!(status.success());
    mount.end();
    assert_eq!(fs::read(mount.remote("f")).unwrap(), b"content");
}

#[test]
fn a_program_with_an_open_file_does_not_keep_the_daemon_for_ever() {
    let mut mount = Mounted::with(&["-o", "drain=500ms"], |_| {});
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"x").unwrap();
    mount.signal(Signal::INT);
    mount.end();
    assert!(!mount.places.is_mounted());
    match file.write_all(b"y") {
        // The kernel writes what is here itself, also without us: then it is found at the next mount.
        Ok(()) => {
            drop(file);
            mount.mount();
            mount.arrives("f", b"xy");
        }
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN)),
    }
}

/// S23 "A mount whose catalog exists needs no network to start."
#[test]
fn what_was_listed_is_known_after_a_remount_without_the_remote() {
    let mut mount = Mounted::of(|remote| {
        fs::create_dir_all(remote.join("d/e")).unwrap();
        fs::write(remote.join("d/f"), "content").unwrap();
    });
    assert_eq!(tree(&mount.places.at), [("d/f".to_owned(), b"content".to_vec())]);
    mount.unmount();
    let away = mount.places.remote.with_extension("away");
    fs::rename(&mount.places.remote, &away).unwrap();
    mount.mount();
    assert_eq!(names(&mount.path("d")), ["e", "f"]);
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"content");
    assert_eq!(errno(fs::metadata(mount.path("d/none"))), libc::ENOENT);
    fs::write(mount.path("d/new"), "kept").unwrap();
    fs::rename(&away, &mount.places.remote).unwrap();
    mount.arrives("d/new", b"kept");
}

/// S6 "A remote file is replaced, moved or removed only if it still is the version we last saw."
/// S7 "If somebody else changed a file that was edited here, both contents exist afterwards: theirs under the name,
/// ours as `NAME (conflict DATE TIME HOST).EXT` beside it, here and on the remote."
#[test]
fn both_sides_survive_when_both_changed() {
    let mut mount = Mounted::with(&["-o", "write_back_delay=1h"], |remote| {
        fs::write(remote.join("doc.txt"), "base").unwrap();
    });
    assert_eq!(fs::read(mount.path("doc.txt")).unwrap(), b"base");
    fs::write(mount.path("doc.txt"), "mine").unwrap();
    mount.kill();
    fs::write(mount.remote("doc.txt"), "theirs, later").unwrap();
    mount.options_replaced(&[]);
    mount.mount();
    mount.shows("doc.txt", b"theirs, later");
    eventually("the conflict copy", || names(&mount.places.at).len() == 2);
    let copy = names(&mount.places.at).into_iter().find(|name| name != "doc.txt").unwrap();
    assert!(copy.starts_with("doc (conflict ") && copy.ends_with(").txt"), "{copy}");
    assert_eq!(fs::read(mount.path(&copy)).unwrap(), b"mine");
    mount.arrives(&copy, b"mine");
    assert_eq!(fs::read(mount.remote("doc.txt")).unwrap(), b"theirs, later");
}

#[test]
fn watchers_hear_of_remote_deletions() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), "x").unwrap());
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
    let (send, receive) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event| drop(send.send(event))).unwrap();
    notify::Watcher::watch(&mut watcher, &mount.path("f"), notify::RecursiveMode::NonRecursive)
        .unwrap();
    fs::remove_file(mount.remote("f")).unwrap();
    eventually("the name to go", || !mount.path("f").exists());
    eventually("a word of it", || {
        receive.try_iter().any(|event| matches!(event.unwrap().kind, notify::EventKind::Remove(_)))
    });
}

#[test]
fn a_renamed_folder_is_one_change_and_its_content_stays() {
    let mount = Mounted::of(|remote| {
        fs::create_dir_all(remote.join("a/b")).unwrap();
        fs::write(remote.join("a/b/f"), "x").unwrap();
    });
    let number = ino_of(&mount, "a/b/f");
    fs::rename(mount.path("a"), mount.path("z")).unwrap();
    assert_eq!(ino_of(&mount, "z/b/f"), number);
    mount.arrives("z/b/f", b"x");
    eventually("the old name to go", || names(&mount.places.remote) == ["z"]);
}

fn ino_of(mount: &Mounted, name: &str) -> u64 {
    ino(&mount.path(name))
}

#[test]
fn an_sqlite_database_works() {
    let mount = Mounted::empty();
    let script = "sqlite3 db 'create table t(x); insert into t select value from \
                  generate_series(1,5000); delete from t where x%3=0;'; \
                  test \"$(sqlite3 db 'pragma integrity_check')\" = ok";
    shell(&mount.places.at, script);
    let content = fs::read(mount.path("db")).unwrap();
    mount.arrives("db", &content);
}

#[test]
fn an_sqlite_database_with_a_write_ahead_log_works() {
    let mount = Mounted::empty();
    // The second one reads and writes while the first has it open, by memory that both share.
    let script = "sqlite3 db 'pragma journal_mode=wal; create table t(x)' >/dev/null; \
                  { echo 'insert into t select value from generate_series(1,5000);'; \
                    echo '.shell sqlite3 db \"insert into t values (0); select count(*) from t\" > seen'; \
                    echo '.shell ls > open'; \
                    echo 'insert into t values (-1);'; } | sqlite3 db; \
                  test \"$(cat seen)\" = 5001; grep -qx db-wal open; grep -qx db-shm open; \
                  test \"$(sqlite3 db 'pragma integrity_check; select count(*) from t')\" = \"$(printf 'ok\\n5002')\"; \
                  sqlite3 db 'pragma wal_checkpoint(truncate)' >/dev/null";
    shell(&mount.places.at, script);
    let content = fs::read(mount.path("db")).unwrap();
    mount.arrives("db", &content);
    let there = mount.remote("db");
    shell(
        &mount.places.state,
        &format!("test \"$(sqlite3 '{}' 'select count(*) from t')\" = 5002", there.display()),
    );
}

#[test]
fn rsync_works_both_ways() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), bytes(500_000, 4)).unwrap());
    let out = mount.places.state.with_extension("out");
    shell(&mount.places.at, &format!("rsync -a ./ '{}/'; rsync -aS '{0}/' in/", out.display()));
    assert_eq!(fs::read(out.join("f")).unwrap(), bytes(500_000, 4));
    mount.arrives("in/f", &bytes(500_000, 4));

    // A directory holds modes and times of files as well: so does whoever mounts it anew. Those of folders stay here.
    let set = "mkdir out; printf x > out/run; chmod 700 out/run; touch -d '2001-02-03 04:05:06.7' out/run";
    let script = format!(
        "cd '{}'; {set}; rsync -a out/ '{}/out/'",
        out.display(),
        mount.places.at.display()
    );
    shell(&out, &script);
    mount.arrives("out/run", b"x");
    let there = mount.remote("out/run");
    eventually("mode and time there", || {
        fs::metadata(&there).is_ok_and(|it| it.mode() & 0o777 == 0o700 && it.mtime() == 981_173_106)
    });
    let other = Mounted::at(places_of(&mount), &[]);
    let (at, back) = (other.places.at.display(), other.places.state.with_extension("back"));
    let back = back.display();
    shell(&out, &format!("rsync -a '{at}/out/' '{back}/'; cp -a '{at}/out' '{back}-copy'"));
    for copy in [format!("{back}/"), format!("{back}-copy/")] {
        let script = format!(
            "test -z \"$(rsync -aOin out/ '{copy}')\"; test -z \"$(rsync -ain '{at}/out/' '{copy}')\""
        );
        shell(&out, &script);
        assert_eq!(fs::metadata(Path::new(&copy).join("run")).unwrap().mode() & 0o777, 0o700);
    }
}

/// Another place and state for the same remote.
fn places_of(mount: &Mounted) -> Places {
    let mut places = Places::new();
    places.spec.clone_from(&mount.places.spec);
    places.remote.clone_from(&mount.places.remote);
    places
}

#[test]
fn a_descriptor_that_stays_open_does_not_keep_others_from_reading() {
    let mount = Mounted::of(|remote| fs::write(remote.join("f"), "0123456789").unwrap());
    let mut tail = Command::new("sh")
        .args(["-c", "exec 3<>f; read wait; printf X >&3"])
        .current_dir(&mount.places.at)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"0123456789");
    OpenOptions::new().append(true).open(mount.path("f")).unwrap().write_all(b"!").unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"0123456789!");
    drop(tail.stdin.take());
    tail.wait().unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"X123456789!");
    mount.arrives("f", b"X123456789!");
}

/// An aborted connection ended the daemon with success, so nobody started it again and programs wrote into the bare folder.
#[test]
fn regression_an_aborted_connection_is_a_failure() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut mount = Mounted::with(&[], |_| {});
    fs::write(mount.path("f"), "x").unwrap();
    let device = dewfs::fuse::mountinfo::at(&mount.places.at).unwrap().unwrap().device;
    let number = device.split_once(':').unwrap().1;
    let control = "/sys/fs/fuse/connections";
    let abort = format!("mount -t fusectl none {control}; echo 1 > {control}/{number}/abort");
    let output = Command::new("unshare").args(["--mount", "sh", "-euc", &abort]).output().unwrap();
    assert!(output.status.success(), "{}", mount::said(&output));
    assert_eq!(mount.ended(), Some(1), "{}", mount.log());
    assert!(mount.log().contains("was aborted"), "{}", mount.log());
    assert!(!mount.places.is_mounted());
    mount.mount();
    mount.arrives("f", b"x");
    mount.places.detach();
    assert_eq!(mount.ended(), Some(0), "{}", mount.log());
}

/// A killed daemon's mount was unmounted as if all had been sent.
#[test]
fn regression_umount_tells_what_a_killed_daemon_did_not_send() {
    let mut mount = Mounted::with(&["-o", "write_back_delay=1h"], |_| {});
    fs::write(mount.path("f"), "closed").unwrap();
    mount.kill();
    let umount = || mount::dewfs().arg("umount").arg(&mount.places.at).output().unwrap();
    let output = umount();
    let told = mount::said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("daemon was gone") && told.contains("1 item is not sent"), "{told}");
    assert!(!mount.places.is_mounted());
    mount.options_replaced(&[]);
    mount.mount();
    mount.arrives("f", b"closed");
}
