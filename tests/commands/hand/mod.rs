//! What is at hand on the command line: finding without fetching, and more of what needs no remote.

mod attention;
mod pins;
mod resolve;
mod words;

use crate::support::desk::{self, Desk};
use crate::support::shapes;
use serde_json::Value;

fn names(documents: &[Value], kind: &str) -> Vec<String> {
    let wanted = documents.iter().filter(|one| one["type"] == kind);
    let path = |one: &Value| one["path"].as_str().unwrap().to_owned();
    wanted.map(|one| path(one).rsplit("mnt").next().unwrap().to_owned()).collect()
}

/// S39 "`dewfs find`, `du`, `largest` and `recent` are answered from the catalog: they ask the remote nothing, fetch nothing, and
/// say how many folders are not listed yet."
#[test]
fn finding_asks_the_remote_nothing_and_says_what_is_not_known() {
    let desk = Desk::mounted();
    desk.run(0, "ls mnt");
    // Without its remote, nothing can be asked.
    std::fs::rename(desk.at("remote"), desk.at("away")).unwrap();
    let found = desk.json(0, "find mnt *.txt");
    assert_eq!(names(&found, "found"), ["/hello.txt"]);
    assert_eq!((&found[0]["size"], &found[0]["content"]), (&6.into(), &"online-only".into()));
    assert_eq!((&found[1]["found"], &found[1]["unlisted"]), (&1.into(), &1.into()));
    assert_eq!(names(&desk.json(0, "largest mnt"), "found"), ["/big", "/hello.txt"]);
    assert_eq!(names(&desk.json(0, "largest mnt -N 1"), "found"), ["/big"]);
    let usage = desk.json(0, "du mnt");
    assert_eq!((&usage[0]["files"], &usage[0]["folders"]), (&2.into(), &1.into()));
    assert_eq!((&usage[0]["size"], &usage[0]["present_bytes"]), (&3_145_734.into(), &0.into()));
    assert_eq!(desk.json(0, "status mnt")[0]["traffic"]["bytes_down"], 0);
    assert!(desk.run(0, "du mnt").contains("1 folder is not listed yet"));
    std::fs::rename(desk.at("away"), desk.at("remote")).unwrap();
}

#[test]
fn what_is_found_is_printed_for_people_and_for_programs() {
    let desk = Desk::mounted();
    desk.run(0, "ls -R --fetch mnt");
    std::fs::write(desk.at("mnt/folder/new.txt"), "new").unwrap();
    assert_eq!(names(&desk.json(0, "recent mnt -N 1"), "found"), ["/folder/new.txt"]);
    assert_eq!(names(&desk.json(0, "find mnt folder/*"), "found").len(), 2);
    assert_eq!(names(&desk.json(0, "find mnt/folder deep"), "found"), ["/folder/deep"]);
    let usage = desk.json(0, "du mnt -d 1");
    assert_eq!(names(&usage, "usage"), ["", "/folder"]);
    assert_eq!(names(&desk.json(0, "du -s mnt"), "usage"), [""]);
    assert_eq!(desk.run(0, "du -0 -d 1 mnt").matches('\0').count(), 2);
    let null = desk.run(0, "find -0 mnt deep");
    assert_eq!(null, format!("{}\0", desk.at("mnt/folder/deep").display()));
    let lines = desk.run(0, "find mnt new.txt");
    assert!(lines.contains("local") && lines.contains("3 B"), "{lines}");
    assert!(desk.run(1, "find mnt/none").contains("mnt/none: not found"));
}

#[test]
fn pins_and_rules_are_set_listed_and_taken_away() {
    let desk = Desk::mounted();
    desk.run(0, "pin mnt/folder --wait");
    let rule =
        ["pin", "mnt", "--rule", "*.txt size<1K", "--budget", "1M", "--name", "notes", "--json"];
    let output = desk.dewfs(&rule);
    assert_eq!(output.status.code(), Some(0), "{}", desk::told(&output));
    shapes::assert_shape(String::from_utf8(output.stdout).unwrap().trim());
    let all = desk.json(0, "pin --list mnt");
    assert_eq!(names(&all, "pinned"), ["/folder"]);
    assert_eq!((&all[1]["name"], &all[1]["files"]), (&"notes".into(), &1.into()));
    desk::until("the file of the rule", || desk.item("mnt/hello.txt")["state"] == "pinned");
    assert!(desk.run(0, "pin --list mnt").contains("*.txt size<1K"));
    assert!(desk.run(1, "pin mnt --remove-rule none").contains("no pin rule none"));
    desk.run(0, "pin mnt --remove-rule notes");
    assert_eq!(desk.item("mnt/hello.txt")["pin"], "unspecified");
    assert!(desk.run(2, "pin mnt --rule a --budget lots").contains("lots"));
    let wrong = desk.dewfs(&["pin", "mnt", "--rule", "a owner=me"]);
    assert!(desk::told(&wrong).contains("owner=me"));
}

/// A program that watches, and what it was told so far.
struct Watcher {
    child: std::process::Child,
    told: std::sync::Arc<std::sync::Mutex<Vec<Value>>>,
}

impl Watcher {
    fn of(desk: &Desk, dir: &str) -> Self {
        use std::io::{BufRead as _, BufReader};
        let mut command = desk.command();
        command.args(["watch", dir]).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(child.stdout.take().unwrap()).lines(), told.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                shapes::assert_shape(&line);
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let watcher = Self { child, told };
        watcher.tells("state", "", "online");
        watcher
    }

    /// Waits until it was told of this event, of what is at the end of this path, with this word.
    fn tells(&self, event: &str, path: &str, what: &str) {
        let fits = |one: &Value| {
            one["event"] == event
                && one["path"].as_str().unwrap().ends_with(path)
                && (what.is_empty() || one["what"] == what)
        };
        desk::until(&format!("{event} {path} {what}: {:?}", self.told), || {
            self.told.lock().unwrap().iter().any(fits)
        });
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_watcher_is_told_what_happens() {
    let desk = Desk::mounted();
    desk.run(0, "ls -R --fetch mnt");
    let all = Watcher::of(&desk, "mnt");
    let below = Watcher::of(&desk, "mnt/folder");
    std::fs::write(desk.at("mnt/folder/new"), "new").unwrap();
    for word in ["pending", "uploading", "in-sync"] {
        all.tells("sync", "mnt/folder/new", word);
    }
    std::fs::read(desk.at("mnt/big")).unwrap();
    for word in ["hydrating", "local"] {
        all.tells("content", "mnt/big", word);
    }
    desk.run(0, "pin mnt/hello.txt");
    all.tells("pin", "mnt/hello.txt", "pinned");
    desk.run(0, "free mnt/big");
    all.tells("content", "mnt/big", "online-only");
    std::fs::write(desk.at("remote/theirs"), "theirs").unwrap();
    all.tells("appeared", "mnt/theirs", "");
    std::fs::rename(desk.at("remote/theirs"), desk.at("remote/folder/theirs")).unwrap();
    below.tells("moved", "mnt/folder/theirs", "");
    std::fs::remove_file(desk.at("remote/folder/theirs")).unwrap();
    below.tells("removed", "mnt/folder/theirs", "");
    let told = below.told.lock().unwrap().clone();
    let outside = |one: &&Value| !one["path"].as_str().unwrap().contains("mnt/folder");
    let outside: Vec<&Value> =
        told.iter().filter(outside).filter(|one| one["event"] != "state").collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn the_socket_says_what_it_speaks() {
    let desk = Desk::mounted();
    let found = dewfs::control::find_daemons(rustix::process::getuid().as_raw());
    let mine = found.iter().find(|one| one.note.mountpoint == desk.at("mnt")).unwrap();
    let mut client = dewfs::control::Client::connect(&mine.note.socket).unwrap();
    let mut told = Vec::new();
    let request = dewfs::control::Request::Version;
    let done = client.ask(request, false, |_, line| told.push(line.to_owned())).unwrap();
    assert_eq!((done.exit, told.len()), (0, 1));
    shapes::assert_shape(&told[0]);
    assert!(told[0].contains("\"version\":1"));
}

/// A command that came after the daemon was answered in the words of a parser, as wrong usage.
#[test]
fn regression_what_an_older_daemon_does_not_know_is_told_so() {
    use std::io::{BufRead as _, Write as _};
    let desk = Desk::mounted();
    let found = dewfs::control::find_daemons(rustix::process::getuid().as_raw());
    let mine = found.iter().find(|one| one.note.mountpoint == desk.at("mnt")).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&mine.note.socket).unwrap();
    let mut ask = |line: &str| -> Value {
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::BufReader::new(&stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let told = ask(r#"{"version":1,"request":"of-tomorrow","how":3}"#);
    assert_eq!(told["exit"], 1, "{told}");
    assert!(told["message"].as_str().unwrap().contains("of an older dewfs"), "{told}");
    let told = ask(r#"{"version":1,"request":3}"#);
    assert_eq!(told["exit"], 2, "{told}");
    assert!(told["message"].as_str().unwrap().contains("not a request"), "{told}");
}

/// More paths than fit into one request broke the connection, and nothing was done.
#[test]
fn regression_very_many_paths_are_asked_for_a_part_at_a_time() {
    let desk = Desk::new();
    let deep = vec!["d".repeat(240); 4].join("/");
    std::fs::create_dir_all(desk.at("remote").join(&deep)).unwrap();
    std::fs::write(desk.at("remote").join(&deep).join("f"), "content").unwrap();
    desk.mount();
    desk.run(0, &format!("hydrate mnt/{deep}/f"));
    let list = format!("mnt/missing\n{}", format!("mnt/{deep}/f\n").repeat(20_000));
    assert!(list.len() > 16 << 20, "a request has no more than this");
    std::fs::write(desk.at("list"), list).unwrap();
    let told = desk.run(1, "free -n --files-from list");
    assert!(told.contains("missing: no such file"), "{told}");
    assert!(told.contains("78.1 MiB would be freed"), "20,000 times a block of 4 KiB: {told}");
}

#[test]
fn figures_are_shown_to_prometheus_on_loopback_only() {
    use std::io::{Read as _, Write as _};
    let desk = Desk::new();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = format!("{},metrics=127.0.0.1:{port},name=desk", desk.options());
    assert_eq!(desk.dewfs(&["mount", "remote", "mnt", "-o", &options]).status.code(), Some(0));
    std::fs::read(desk.at("mnt/big")).unwrap();
    let ask = |words: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "{words} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let page = ask("GET /metrics");
    for line in [
        "HTTP/1.1 200 OK",
        "dewfs_state{mount=\"desk\",state=\"online\"} 1",
        "dewfs_read_bytes_total{mount=\"desk\"} 3145728",
        "dewfs_queue_items{mount=\"desk\"} 0",
        "dewfs_request_seconds_count{mount=\"desk\",operation=\"read\"}",
        "dewfs_request_errors_total",
        "dewfs_read_misses_total",
        "dewfs_cache_used_bytes",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    let body = page.split_once("\r\n\r\n").unwrap().1;
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("dewfs_") && value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(ask("POST /metrics").contains("405") && ask("GET /x").contains("404"));
    let refused = desk.dewfs(&["mount", "remote", "mnt", "-o", "metrics=192.0.2.1:1"]);
    assert!(desk::told(&refused).contains("loopback"));
}

#[test]
fn uploads_keep_to_their_rate() {
    let desk = Desk::new();
    let options = format!("{},rate_up=200K", desk.options());
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", desk::told(&output));
    let begun = std::time::Instant::now();
    std::fs::write(desk.at("mnt/new"), vec![1; 400 << 10]).unwrap();
    desk.run(0, "sync mnt --wait --timeout 60s");
    // 2 s at this rate, less what may go at once after a rest. How much longer it takes is the machine's affair.
    assert!(begun.elapsed() > std::time::Duration::from_millis(1700), "{:?}", begun.elapsed());
    assert_eq!(std::fs::read(desk.at("remote/new")).unwrap().len(), 400 << 10);
}

/// How often the threads of a process were woken so far, and how many they are.
fn woken(pid: u64) -> (usize, u64) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |number| number.trim().parse().unwrap())
    };
    let switches: Vec<u64> = tasks.map(|task| of(task.unwrap())).collect();
    (switches.len(), switches.iter().sum())
}

/// S122 "A daemon with nothing to do sleeps: it is not woken but by its remote's `poll=`."
#[test]
fn a_daemon_with_nothing_to_do_sleeps() {
    let desk = Desk::new();
    let options = format!("{},poll=1h", desk.options());
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", desk::told(&output));
    std::fs::write(desk.at("mnt/new"), "new").unwrap();
    std::fs::read(desk.at("mnt/big")).unwrap();
    desk.run(0, "sync mnt --wait --timeout 20s");
    let pid = desk.json(0, "status mnt")[0]["pid"].as_u64().unwrap();
    comes_to_rest(pid);
}

/// What may not go was looked for twenty times a second, for as long as it may not go.
#[test]
fn regression_a_daemon_that_may_not_send_sleeps() {
    let desk = Desk::new();
    let options = format!("{},poll=1h", desk.options());
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", desk::told(&output));
    desk.run(0, "pause mnt");
    std::fs::write(desk.at("mnt/new"), "new").unwrap();
    let status = desk.json(0, "status mnt");
    comes_to_rest(status[0]["pid"].as_u64().unwrap());
    assert!(!desk.at("remote/new").exists());
    desk.run(0, "resume mnt");
    desk.run(0, "sync mnt --wait --timeout 20s");
    assert_eq!(std::fs::read(desk.at("remote/new")).unwrap(), b"new");
}

/// Once: what ran beside ends after ten seconds without work.
fn comes_to_rest(pid: u64) {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let before = woken(pid);
        // Time must pass: it is about what does not happen in it.
        std::thread::sleep(std::time::Duration::from_secs(4));
        if woken(pid) == before {
            return;
        }
        assert!(std::time::Instant::now() < limit, "it never rests: {before:?}, {:?}", woken(pid));
    }
}

/// A mountpoint or a folder reached by a link was "not in a dewfs mount" for every command, though `mount` took it.
#[test]
fn regression_a_link_into_a_mount_is_followed() {
    let desk = Desk::new();
    std::fs::create_dir(desk.at("disk")).unwrap();
    std::fs::rename(desk.at("mnt"), desk.at("disk/mnt")).unwrap();
    std::os::unix::fs::symlink("disk/mnt", desk.at("mnt")).unwrap();
    desk.mount();
    std::os::unix::fs::symlink(desk.at("mnt/folder"), desk.at("papers")).unwrap();
    assert_eq!(desk.json(0, "status mnt")[0]["type"], "mount");
    assert_eq!(desk.json(0, "status mnt/")[0]["type"], "mount");
    desk.run(0, "pin --wait papers");
    assert_eq!(desk.item("mnt/folder")["pin"], "pinned");
    // In the mount a link is an item of its own.
    std::os::unix::fs::symlink("hello.txt", desk.at("mnt/link")).unwrap();
    assert_eq!(desk.item("mnt/link")["kind"], "symlink");
    desk.run(1, "status remote");
    desk.run(0, "umount mnt");
    assert!(!desk.at("disk/mnt/hello.txt").exists());
}
