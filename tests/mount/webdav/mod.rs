//! Real programs in real mounts of real WebDAV servers: what they ask, what arrives, and what others see meanwhile.

mod saves;

use crate::support::wait::holds_within;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::support::faults::Proxy;
use crate::support::mount::{LIMIT, Mounted, bytes, eventually, names, said};
use crate::support::servers::{Logged, Product, Server};

/// No poll falls into a test that counts requests.
const STILL: &[&str] = &["-o", "poll=1h"];

fn mounted(server: &Server, options: &[&str]) -> Mounted {
    Mounted::url(&server.url(), server.root(), options)
}

fn run(dir: &Path, script: &str) -> Output {
    Command::new("sh").args(["-euc", script]).current_dir(dir).output().unwrap()
}

fn shell(dir: &Path, script: &str) -> String {
    let output = run(dir, script);
    assert!(output.status.success(), "{script}\n{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// All below that is not dewfs's own: contents of files, nothing for folders.
fn tree(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            if name.contains(".dewfs-") {
                continue;
            }
            if path.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else {
                found.insert(name, Some(fs::read(&path).unwrap_or_default()));
            }
        }
    }
    found
}

/// Waits until the server has exactly what the mount shows.
fn all_arrives(mount: &Mounted) {
    let here = tree(&mount.places.at);
    let mut there = Default::default();
    let is_there = || {
        there = tree(&mount.places.remote);
        there == here
    };
    if !holds_within(3 * LIMIT, is_there) {
        let differs = |name: &&String| here.get(*name) != there.get(*name);
        let names: Vec<_> = here.keys().chain(there.keys()).filter(differs).collect();
        panic!("not in sync: {names:?}");
    }
}

/// The log once nothing was added to it for many looks and the daemon had nothing to do: what mounting asks for is over. Looks, not
/// time: who stands still with the whole machine asks nothing either, and goes on later.
fn quiet(server: &Server, mount: &Mounted) -> Vec<Logged> {
    let (mut log, mut calm) = (server.logged(), 0);
    let start = Instant::now();
    while calm < 40 {
        assert!(start.elapsed() < 3 * LIMIT, "requests never end");
        std::thread::sleep(Duration::from_millis(20));
        let now = server.logged();
        calm = if now == log && !is_at_work(mount.pid()) { calm + 1 } else { 0 };
        log = now;
    }
    log
}

/// Whether a thread of this process runs, or waits for a disk.
fn is_at_work(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut states = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    states.any(|stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['R', 'D']))
    })
}

fn asked_since(server: &Server, mount: &Mounted, before: &[Logged]) -> Vec<Logged> {
    quiet(server, mount).split_off(before.len())
}

/// Folders and files for walks.
fn plant(server: &Server) {
    for folder in ["a", "a/b", "c"] {
        server.make_folder(folder);
        for file in 0..10 {
            server.put(format!("{folder}/file {file}"), bytes(5000, file));
        }
    }
}

const WALK: &str = "ls -lR . >/dev/null; find . -type f -size +1k | wc -l; stat a c a/b >/dev/null; ! stat a/none 2>/dev/null";

/// S15 "A folder is listed on the remote when it is first needed. After that, `ls`, `find`, `stat` and a missing name
/// in it cost no request, also after a remount and after a killed daemon."
#[test]
fn a_second_walk_asks_nothing_also_after_a_remount_and_a_kill() {
    let server = Server::start(Product::Nginx);
    plant(&server);
    // Versions too young to rely on are looked at once more when their tick is over: here there are none.
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    for (name, content) in tree(server.root()) {
        if content.is_some() {
            let file = File::options().write(true).open(server.root().join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
    }
    let mut mount = mounted(&server, STILL);
    assert_eq!(shell(&mount.places.at, WALK).trim(), "30");
    let walk = |mount: &Mounted, when: &str| {
        let before = quiet(&server, mount);
        assert_eq!(shell(&mount.places.at, WALK).trim(), "30");
        assert_eq!(asked_since(&server, mount, &before), [], "{when}");
    };
    walk(&mount, "again");
    mount.remount();
    walk(&mount, "after a remount");
    mount.kill();
    mount.mount();
    walk(&mount, "after a kill");
    let is_content = |one: &Logged| one.method == "GET" && !one.path.contains("/.dewfs-probe-");
    assert!(!server.logged().iter().any(is_content));
}

#[test]
fn what_is_done_to_names_and_times_fetches_no_content() {
    let server = Server::start(Product::Nginx);
    plant(&server);
    let mount = mounted(&server, STILL);
    let before = quiet(&server, &mount);
    shell(
        &mount.places.at,
        "ls -l a; find . ; du -a . ; touch 'a/file 1'; chmod 600 'a/file 2'; mv 'a/file 3' c/moved; mv a/b c/b; ln -s x s",
    );
    mount.arrives("c/moved", &bytes(5000, 3));
    mount.arrives("c/b/file 4", &bytes(5000, 4));
    let asked = asked_since(&server, &mount, &before);
    assert!(asked.iter().all(|one| one.method != "GET"), "{asked:?}");
    assert!(asked.iter().all(|one| one.method != "PUT"), "{asked:?}");
}

#[test]
fn random_reads_of_a_large_file_fetch_hardly_more_than_they_ask_for() {
    const PIECE: usize = 64 << 10;
    let server = Server::start(Product::Nginx);
    server.put("big", b"");
    let big = File::options().write(true).open(server.root().join("big")).unwrap();
    big.set_len(1 << 30).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let offsets: Vec<u64> = (0..200).map(|_| random.u64(0..(1 << 30) - PIECE as u64)).collect();
    let end = (1u64 << 30) - 4096;
    big.write_all_at(&bytes(4096, 1), end).unwrap();
    for (at, seed) in offsets.iter().zip(100..) {
        big.write_all_at(&bytes(PIECE, seed), *at).unwrap();
    }
    let expected = File::open(server.root().join("big")).unwrap();
    let mount = mounted(&server, STILL);
    let file = File::open(mount.path("big")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 30);
    let fetched = |before: &[Logged]| -> u64 {
        let asked = asked_since(&server, &mount, before);
        asked.iter().filter(|one| one.method == "GET").map(|one| one.bytes).sum()
    };
    let same = |at: u64, length: usize| {
        let (mut here, mut there) = (vec![0; length], vec![0; length]);
        file.read_exact_at(&mut here, at).unwrap();
        expected.read_exact_at(&mut there, at).unwrap();
        assert!(here == there, "other bytes at {at}");
    };
    let before = quiet(&server, &mount);
    same(end, 4096);
    let last = fetched(&before);
    assert!(last < 1 << 20, "the last 4 KiB fetched {last} bytes");
    let before = quiet(&server, &mount);
    for at in &offsets {
        same(*at, PIECE);
    }
    let all = fetched(&before);
    println!("200 reads of 64 KiB fetched {all} bytes, the last 4 KiB {last}");
    assert!(all as f64 <= 1.3 * 200.0 * PIECE as f64, "fetched {all} bytes");
}

#[test]
fn archivers_that_look_for_holes_get_every_byte_of_what_is_not_here() {
    let server = Server::start(Product::Nginx);
    plant(&server);
    server.put("sparse", bytes(300_000, 1));
    let file = File::options().write(true).open(server.root().join("sparse")).unwrap();
    file.set_len(3_000_000).unwrap();
    file.write_all_at(b"end", 2_999_997).unwrap();
    let expected = tree(server.root());
    for (script, at) in [
        ("tar -C \"$0\" -Scf all.tar . && mkdir t && tar -C t -xf all.tar", "t"),
        ("cp -r --sparse=always \"$0\" c", "c"),
        ("rsync -rS \"$0\"/ r", "r"),
    ] {
        // a mount of its own each: nothing is here yet
        let mount = mounted(&server, STILL);
        let target = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-euc", script]).arg(&mount.places.at).current_dir(target.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script} {}", said(&output));
        assert!(tree(&target.path().join(at)) == expected, "{script}: other bytes");
    }
}

/// What somebody else sees under the name, if anything.
fn look_at_f(server: &Server) -> Option<Vec<u8>> {
    if server.product != Product::Rclone {
        return fs::read(server.root().join("f")).ok();
    }
    // it answers before it has written: only who asks it is shown whole files
    let url = format!("{}f", server.url());
    let output = Command::new("curl").args(["--silent", "--fail", &url]).output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// Looks at the server's directory all the time while a file is written anew again and again.
fn nobody_sees_a_part(product: Product) {
    const SIZE: usize = 20 << 20;
    let server = Server::start(product);
    let mount = mounted(&server, &[]);
    let over = AtomicBool::new(false);
    let watch = || {
        let mut seen = 0;
        while !over.load(Ordering::Relaxed) {
            for name in names(server.root()) {
                // these servers have names of their own for what they receive
                let is_private = name.starts_with(".dewfs-");
                let is_servers = product == Product::Lighttpd && name.ends_with('~')
                    || product == Product::Apache && name.starts_with(".davfs.tmp");
                assert!(name == "f" || is_private || is_servers, "{name} is seen");
            }
            if let Some(found) = look_at_f(&server) {
                assert_eq!(found.len(), SIZE, "a part");
                let first = found.first().copied().unwrap();
                assert!(found.iter().all(|byte| *byte == first), "a mixture");
                seen += 1;
            }
        }
        seen
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        for round in 1..=6u8 {
            let content = vec![round; SIZE];
            fs::write(mount.path("f"), &content).unwrap();
            mount.arrives("f", &content);
            if watcher.is_finished() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        println!("seen whole {} times", watcher.join().unwrap());
    });
    eventually("nothing private left", || names(server.root()) == ["f"]);
}

#[test]
fn nobody_sees_a_part_on_nginx() {
    nobody_sees_a_part(Product::Nginx);
}

#[test]
fn nobody_sees_a_part_on_apache() {
    nobody_sees_a_part(Product::Apache);
}

#[test]
fn nobody_sees_a_part_on_lighttpd() {
    nobody_sees_a_part(Product::Lighttpd);
}

#[test]
fn nobody_sees_a_part_on_rclone() {
    nobody_sees_a_part(Product::Rclone);
}

/// Many small files, an archive, a copy both ways, a database, and editors.
fn programs_work(product: Product) {
    let server = Server::start(product);
    let mount = mounted(&server, &[]);
    let local = tempfile::tempdir().unwrap();
    for file in 0..40 {
        fs::create_dir_all(local.path().join(format!("src/{}", file % 4))).unwrap();
        let path = local.path().join(format!("src/{}/file {file}", file % 4));
        fs::write(&path, bytes(file * 700, file as u64)).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + file as u64);
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    shell(local.path(), "tar -cf all.tar -C src .");
    let at = mount.places.at.display().to_string();
    let into = |script: &str| shell(local.path(), &script.replace("MNT", &at));
    into("for i in $(seq 200); do head -c 4096 /dev/urandom > MNT/small$i; done");
    into(
        "mkdir MNT/x; tar -C MNT/x -xf all.tar; rsync -a src/ MNT/r/; rsync -a MNT/r/ back/; diff -r src back",
    );
    assert_eq!(into("rsync -ain src/ MNT/r/"), "");
    let database = "PRAGMA journal_mode=WAL; create table t(a,b); with recursive c(n) as (select 1 union all select n+1 from c where n<5000) insert into t select n, hex(randomblob(50)) from c; PRAGMA wal_checkpoint(TRUNCATE);";
    into(&format!("sqlite3 MNT/data.db \"{database}\""));
    assert_eq!(into("sqlite3 MNT/data.db 'PRAGMA integrity_check'").trim(), "ok");
    into(
        "printf one > MNT/doc.txt; vim -u NONE -es -c 'set backup writebackup nohidden' -c 's/one/two/' -c wq MNT/doc.txt || vim.tiny -u NONE -es -c 's/one/two/' -c wq MNT/doc.txt",
    );
    assert_eq!(fs::read(mount.path("doc.txt")).unwrap(), b"two\n");
    into("cp -a src MNT/copy; rm -r MNT/x");
    all_arrives(&mount);
    assert!(!names(server.root()).iter().any(|name| name.contains("conflict")));
    // and again, as somebody sees it who has nothing of it here
    let other = mounted(&server, STILL);
    assert_eq!(tree(&other.places.at), tree(&mount.places.at));
    let at = other.path("data.db").display().to_string();
    assert_eq!(shell(local.path(), &format!("sqlite3 {at} 'PRAGMA integrity_check'")).trim(), "ok");
    // Who copies from there has all of it, and nothing to copy a second time; contents are as they were.
    let at = other.places.at.display().to_string();
    let from = |script: &str| shell(local.path(), &script.replace("MNT", &at));
    from(
        "rsync -a MNT/r/ fresh/; cp -a MNT/copy fresh-copy; diff -r src fresh; diff -r src fresh-copy",
    );
    assert_eq!(from("rsync -ain MNT/r/ fresh/; rsync -ain MNT/copy/ fresh-copy/"), "");
}

#[test]
fn programs_work_on_nginx() {
    programs_work(Product::Nginx);
}

#[test]
fn programs_work_on_apache() {
    programs_work(Product::Apache);
}

#[test]
fn programs_work_on_lighttpd() {
    programs_work(Product::Lighttpd);
}

/// Not nginx, which lists no names that begin with a dot.
#[test]
fn a_cloned_repository_is_sound_and_arrives() {
    let server = Server::start(Product::Apache);
    // `git gc` removes more than a hundred objects, half of the folder, that were sent a moment ago: the guard would hold that.
    let mount = mounted(&server, &["-o", "guard=1000"]);
    let local = tempfile::tempdir().unwrap();
    shell(
        local.path(),
        "git init -q o; cd o; git config user.name n; git config user.email e@x; for i in $(seq 30); do echo $i > f$i; git add .; git commit -qm $i; done",
    );
    let at = mount.places.at.display();
    shell(local.path(), &format!("git clone -q o {at}/clone; git -C {at}/clone fsck --strict"));
    shell(
        local.path(),
        &format!(
            "cd {at}/clone; echo more >> f1; git -c user.name=n -c user.email=e@x commit -qam more; git gc -q; git fsck --strict; test -z \"$(git status --porcelain)\""
        ),
    );
    all_arrives(&mount);
    let other = mounted(&server, STILL);
    let at = other.path("clone").display().to_string();
    shell(
        local.path(),
        &format!(
            "git -c safe.directory='*' -C {at} fsck --strict; test $(git -c safe.directory='*' -C {at} rev-list --count HEAD) = 31"
        ),
    );
}
