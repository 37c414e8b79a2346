//! How saved files arrive: times, safe saves, long names, changes behind the back.

use super::*;

#[test]
fn an_mtime_survives_where_the_server_can_hold_it() {
    let server = Server::start(Product::Rclone);
    let mount = mounted(&server, &[]);
    fs::write(mount.path("f"), b"dated").unwrap();
    shell(&mount.places.at, "touch -d '2001-02-03 04:05:06 UTC' f");
    let there = mount.remote("f");
    eventually("the mtime at the server", || {
        fs::metadata(&there).is_ok_and(|meta| meta.mtime() == 981_173_106)
    });
    let other = mounted(&server, STILL);
    assert_eq!(fs::metadata(other.path("f")).unwrap().mtime(), 981_173_106);
    // Who copies from there has it as well, and nothing to copy a second time.
    let local = tempfile::tempdir().unwrap();
    let from = |script: &str| {
        let (here, there) = (mount.places.at.display(), other.places.at.display());
        let script = script.replace("THERE", &there.to_string());
        shell(local.path(), &script.replace("HERE", &here.to_string()))
    };
    from("rsync -a THERE/ back/; mkdir copy; cp -a THERE/f copy/");
    assert_eq!(
        from("rsync -aOin HERE/ back/; rsync -ain THERE/ back/; rsync -aOin HERE/ copy/"),
        ""
    );

    // Also one set after the content was sent, as `touch` and `rsync -t` of a known file do: nothing is sent again.
    mount.arrives("f", b"dated");
    let before = fs::metadata(&there).unwrap().ctime_nsec();
    shell(&mount.places.at, "touch -d '2002-03-04 05:06:07 UTC' f");
    eventually("the later mtime at the server", || {
        fs::metadata(&there).is_ok_and(|meta| meta.mtime() == 1_015_218_367)
    });
    assert_ne!(fs::metadata(&there).unwrap().ctime_nsec(), before);
    assert_eq!(fs::metadata(mount.path("f")).unwrap().mtime(), 1_015_218_367);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"dated");
    fs::write(mount.path("f"), b"edited").unwrap();
    mount.arrives("f", b"edited");
    assert_eq!(tree(&mount.places.remote).into_keys().collect::<Vec<_>>(), ["f"]);
}

/// Temporary and rename over, as LibreOffice, gedit and Kate save: for the server one file that gets a new content.
#[test]
fn a_safe_save_is_one_conditional_write() {
    let mut server = Server::start(Product::Lighttpd);
    let temporaries = [("gedit.txt", ".goutputstream-ABC"), ("office.odt", "lu12345.tmp")];
    for name in ["gedit.txt", "office.odt", "vim.txt", "emacs.txt"] {
        server.put(name, b"old");
    }
    let proxy = Proxy::start(server.port);
    // Long enough that a save in several steps is over before its first one is sent, also on a busy machine.
    let options = ["-o", "poll=1h,write_back_delay=2s"];
    let mount = Mounted::url(&proxy.url(), server.root(), &options);
    let mut versions = BTreeMap::new();
    for name in names(server.root()) {
        versions.insert(name.clone(), etag(&server, &name));
    }
    for (name, temporary) in temporaries {
        assert_eq!(fs::read(mount.path(name)).unwrap(), b"old");
        let new = format!("new {name}").into_bytes();
        fs::write(mount.path(temporary), &new).unwrap();
        File::open(mount.path(temporary)).unwrap().sync_all().unwrap();
        fs::rename(mount.path(temporary), mount.path(name)).unwrap();
        mount.arrives(name, &new);
    }
    // With a backup by rename, as vim saves: the file that was moved away and back never moves for others.
    let backups = [("vim.txt", "vim.txt~"), ("emacs.txt", "backup of emacs.txt")];
    for (name, backup) in backups {
        let new = format!("new {name}").into_bytes();
        fs::rename(mount.path(name), mount.path(backup)).unwrap();
        let mut file = File::create_new(mount.path(name)).unwrap();
        file.write_all(&new).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::set_permissions(mount.path(name), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(mount.path(backup)).unwrap();
        mount.arrives(name, &new);
    }
    drop(mount);
    let log = server.logged_at_the_end();
    for (name, _) in temporaries.into_iter().chain(backups) {
        let is_change = |one: &&Logged| {
            let looks = ["GET", "PROPFIND", "HEAD"];
            one.path.contains(name) && one.status < 300 && !looks.contains(&one.method.as_str())
        };
        let methods: Vec<_> = log.iter().filter(is_change).map(|one| &one.method).collect();
        assert_eq!(methods, ["PUT"], "{name}");
        let begins = format!("put /{} http/1.1", name.replace(' ', "%20"));
        let put = proxy.heads().into_iter().find(|head| head.starts_with(&begins)).unwrap();
        let condition = format!("if-match: {}", versions[name].to_ascii_lowercase());
        assert!(put.lines().any(|line| line == condition), "no {condition:?} in {put}");
    }
}

/// The version that the server tells of a file.
fn etag(server: &Server, name: &str) -> String {
    let url = format!("{}{name}", server.url());
    let head = Command::new("curl").args(["--silent", "--fail", "--head", &url]).output().unwrap();
    let head = String::from_utf8(head.stdout).unwrap();
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("etag: "));
    line.unwrap_or_else(|| panic!("no version in {head}"))[6..].to_owned()
}

/// The real vim, with the backup that it leaves beside the file.
#[test]
fn a_save_by_vim_with_a_backup_is_one_write_of_the_file() {
    let server = Server::start(Product::Lighttpd);
    server.put("doc.txt", b"one\n");
    let proxy = Proxy::start(server.port);
    let options = ["-o", "poll=1h,write_back_delay=2s"];
    let mount = Mounted::url(&proxy.url(), server.root(), &options);
    let save = |from: &str, to: &str| {
        let script = format!(
            "vim -u NONE -i NONE -N -es -c 'set backup writebackup backupcopy=no backupdir=. backupext=~' -c 's/{from}/{to}/' -c wq doc.txt"
        );
        let before = fs::metadata(mount.path("doc.txt")).unwrap().ino();
        shell(&mount.places.at, &script);
        assert_ne!(
            fs::metadata(mount.path("doc.txt")).unwrap().ino(),
            before,
            "no backup by rename"
        );
        for (name, content) in [("doc.txt", to), ("doc.txt~", from)] {
            let content = format!("{content}\n");
            assert_eq!(fs::read(mount.path(name)).unwrap(), content.as_bytes(), "{name}");
            mount.arrives(name, content.as_bytes());
        }
        eventually("nothing else", || names(server.root()) == ["doc.txt", "doc.txt~"]);
        let status = Command::new(env!("CARGO_BIN_EXE_dewfs"))
            .args(["status", "--wait", "--timeout", "20s"])
            .arg(&mount.places.at)
            .output();
        assert!(status.unwrap().status.success());
    };
    save("one", "two");
    let versions = ["doc.txt", "doc.txt~"].map(|name| (name, etag(&server, name)));
    let known = proxy.heads().len();
    save("two", "three");
    // Now that both are there, each of them gets another content: neither name is gone for a moment.
    let looks = ["get ", "propfind ", "head "];
    let mut changes = proxy.heads().split_off(known);
    changes.retain(|head| !looks.iter().any(|look| head.starts_with(look)));
    changes.sort();
    assert_eq!(changes.len(), 2, "{changes:?}");
    for (change, (name, version)) in changes.iter().zip(versions) {
        assert!(change.starts_with(&format!("put /{name} http/1.1")), "{name}: {change}");
        let condition = format!("if-match: {}", version.to_ascii_lowercase());
        assert!(change.lines().any(|line| line == condition), "no {condition:?} in {change}");
    }
}

/// Backup by rename and a new file, as vim saves, also where nothing rests long enough for it to be one step.
#[test]
fn a_save_with_a_backup_arrives_without_a_conflict() {
    let server = Server::start(Product::Apache);
    server.put("vim.txt", b"old");
    let mount = mounted(&server, &[]);
    assert_eq!(fs::read(mount.path("vim.txt")).unwrap(), b"old");
    for round in 0..5 {
        let new = format!("saved {round}").into_bytes();
        fs::rename(mount.path("vim.txt"), mount.path("vim.txt~")).unwrap();
        fs::write(mount.path("vim.txt"), &new).unwrap();
        fs::remove_file(mount.path("vim.txt~")).unwrap();
        mount.arrives("vim.txt", &new);
    }
    eventually("the file alone", || {
        names(server.root()) == ["vim.txt"] && names(&mount.places.at) == ["vim.txt"]
    });
}

#[test]
fn the_longest_names_arrive_and_conflict() {
    let server = Server::start(Product::Apache);
    let mount = mounted(&server, STILL);
    for name in ["n".repeat(251) + ".txt", "\u{20ac}".repeat(85)] {
        assert_eq!(name.len(), 255);
        fs::write(mount.path(&name), b"first").unwrap();
        mount.arrives(&name, b"first");
        is_conflict(&server, &mount, &name);
    }
}

/// Changes a file at the server while it is open here for writing, so that no look can make our edit one of theirs (as long
/// as a version is young there are looks, whatever `poll` says), and then here.
fn is_conflict(server: &Server, mount: &Mounted, name: &str) {
    let mut open = File::options().write(true).open(mount.path(name)).unwrap();
    server.put(name, b"theirs, behind the back");
    open.set_len(0).unwrap();
    open.write_all(b"ours").unwrap();
    drop(open);
    both_are_kept(server, mount, name);
}

/// Theirs stays under the name, ours is beside it, in both places.
fn both_are_kept(server: &Server, mount: &Mounted, name: &str) {
    let copy = |dir: &Path| {
        let stem: String = name.chars().take(6).collect();
        let is_copy = |one: &String| one.starts_with(&stem) && one.contains(" (conflict 2");
        names(dir).into_iter().find(is_copy)
    };
    eventually("the copy at the server", || {
        copy(server.root())
            .is_some_and(|copy| fs::read(mount.remote(copy)).is_ok_and(|found| found == b"ours"))
    });
    assert_eq!(fs::read(mount.remote(name)).unwrap(), b"theirs, behind the back");
    mount.shows(name, b"theirs, behind the back");
    mount.shows(copy(&mount.places.at).expect("the copy here"), b"ours");
    for dir in [server.root(), &mount.places.at] {
        assert!(copy(dir).unwrap().len() <= 255);
    }
}

#[test]
fn a_change_behind_the_back_is_never_overwritten() {
    for product in [Product::Nginx, Product::Apache, Product::Lighttpd, Product::Rclone] {
        let server = Server::start(product);
        server.put("report.txt", b"known");
        let mount = mounted(&server, STILL);
        assert_eq!(fs::read(mount.path("report.txt")).unwrap(), b"known");
        is_conflict(&server, &mount, "report.txt");

        // Nor by somebody who opens it afterwards, where nothing told of the change: no version here is young.
        let server = Server::start(product);
        server.put("report.txt", b"known");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let there = File::options().write(true).open(server.root().join("report.txt")).unwrap();
        there.set_modified(long_ago).unwrap();
        let mount = mounted(&server, STILL);
        assert_eq!(fs::read(mount.path("report.txt")).unwrap(), b"known");
        server.put("report.txt", b"theirs, behind the back");
        fs::write(mount.path("report.txt"), b"ours").unwrap();
        both_are_kept(&server, &mount, "report.txt");
    }
}

/// Opens a file for writing, writes and closes it, or syncs it before; says when each returned, or the errno that it gave.
/// What `close` answers is told by few: neither a `File` nor `cp` says it.
const WRITE_AND_CLOSE: &str = r#"
import os, sys
path, content, sync = sys.argv[1:]
fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
os.write(fd, content.encode())
for name, call in [("fsync", os.fsync), ("close", os.close)]:
    if name == "close" or sync:
        try:
            call(fd)
            print(name, "0")
        except OSError as error:
            print(name, error.errno)
"#;

fn write_and_close(mount: &Mounted, name: &str, content: &str, sync: bool) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", WRITE_AND_CLOSE]).arg(mount.path(name)).arg(content);
    let output = python.arg(if sync { "fsync" } else { "" }).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// S21 "A program that waits for the remote gets an answer at the latest 30 seconds (`timeout=`) after the last
/// progress: `ETIMEDOUT`, or `EHOSTDOWN` at once-ish (2 seconds) while the remote is known to be away."
fn close_and_fsync_wait(options: &str) {
    let (host_down, timed_out) = (libc::EHOSTDOWN, libc::ETIMEDOUT);
    let mut server = Server::start(Product::Apache);
    let options = format!("{options},timeout=4s,poll=1h");
    let mount = mounted(&server, &["-o", &options]);
    assert_eq!(write_and_close(&mount, "by close", "content", false), "close 0\n");
    assert_eq!(fs::read(mount.remote("by close")).unwrap(), b"content");
    let mut open = File::create(mount.path("by fsync")).unwrap();
    open.write_all(b"half").unwrap();
    open.sync_all().unwrap();
    assert_eq!(fs::read(mount.remote("by fsync")).unwrap(), b"half");

    // Silent: nothing is known, until the deadline is over.
    server.freeze();
    let start = Instant::now();
    let told = write_and_close(&mount, "silent", "content", false);
    assert!(
        [host_down, timed_out].map(|errno| format!("close {errno}\n")).contains(&told),
        "{told}"
    );
    let took = start.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    server.thaw();
    mount.arrives("silent", b"content");

    // Away: known by what did not arrive, and said at once from then on.
    server.stop();
    let told = write_and_close(&mount, "later", "content", false);
    assert!(
        [host_down, timed_out].map(|errno| format!("close {errno}\n")).contains(&told),
        "{told}"
    );
    let known = || {
        shell(&mount.places.at, &format!("{} status --short .; true", env!("CARGO_BIN_EXE_dewfs")))
    };
    eventually("it is known to be away", || known().trim() == "offline");
    let start = Instant::now();
    let told = write_and_close(&mount, "synced", "content", true);
    assert_eq!(told, format!("fsync {host_down}\nclose {host_down}\n"));
    open.write_all(b" and half").unwrap();
    let synced = open.sync_all().unwrap_err();
    assert_eq!(synced.raw_os_error(), Some(host_down), "{synced}");
    // Three calls of 2 seconds each.
    assert!(start.elapsed() < Duration::from_secs(3 * 2 + 4), "{:?}", start.elapsed());
    drop(open);
    server.start_again();
    mount.arrives("later", b"content");
    mount.arrives("synced", b"content");
    mount.arrives("by fsync", b"half and half");
}

#[test]
fn close_and_fsync_wait_for_the_server_where_they_are_told_to() {
    close_and_fsync_wait("close=remote,fsync=remote");
}

#[test]
fn close_waits_for_the_server_in_a_mount_that_is_sync() {
    close_and_fsync_wait("sync,fsync=remote");
}

/// A root that takes no new folder, as that of a NAS which lists its shares, made the whole mount one that nothing is sent
/// from, and nobody was told.
#[test]
fn regression_shares_below_a_root_that_takes_nothing_are_written() {
    let server = Server::start(Product::Apache);
    server.make_folder("share");
    server.put("share/f", "old");
    let closed = |path: &str, mode| {
        fs::set_permissions(server.root().join(path), Permissions::from_mode(mode)).unwrap();
    };
    closed("", 0o555);
    let mount = mounted(&server, &["-o", "poll=200ms"]);
    fs::write(mount.path("share/f"), "new").unwrap();
    fs::write(mount.path("share/g"), "more").unwrap();
    mount.arrives("share/f", b"new");
    mount.arrives("share/g", b"more");
    drop(mount);
    closed("share", 0o555);
    let mount = mounted(&server, &["-o", "poll=200ms"]);
    assert_eq!(names(&mount.path("share")), ["f", "g"]);
    let refused = |act: &dyn Fn() -> std::io::Result<()>| {
        eventually("it is known to be read-only", || {
            act().is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
        });
    };
    refused(&|| fs::write(mount.path("share/h"), "none"));
    refused(&|| fs::write(mount.path("share/f"), "none"));
    refused(&|| fs::remove_file(mount.path("share/f")));
    refused(&|| fs::rename(mount.path("share/f"), mount.path("share/x")));
    closed("", 0o755);
    closed("share", 0o755);
}
