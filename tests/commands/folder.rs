//! The commands against a real mount of a local folder.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::desk::{Desk, PROGRAM, told, until};
use crate::support::shapes::assert_shape;
use serde_json::Value;

#[test]
fn a_mount_tells_how_it_is() {
    let desk = Desk::mounted();
    let mount = desk.json(0, "status mnt").remove(0);
    assert_eq!(mount["type"], "mount");
    assert_eq!(mount["mountpoint"], desk.at("mnt").to_str().unwrap());
    assert_eq!(mount["remote"], desk.at("remote").to_str().unwrap());
    assert_eq!((&mount["state"], &mount["pending"]), (&"online".into(), &0.into()));
    assert_eq!(desk.run(0, "status --short mnt"), "in-sync\n");
    assert_eq!(desk.run(0, "status --check mnt"), "");
    assert_eq!(desk.run(0, "status --wait --timeout 10s mnt"), "");
    assert!(desk.run(0, "status mnt").contains("online"));
    // Without a path: the mount of the current directory.
    let inside = desk.command().current_dir(desk.at("mnt")).args(["status", "--json"]).output();
    assert!(told(&inside.unwrap()).contains(desk.at("mnt").to_str().unwrap()));
}

#[test]
fn names_are_listed_with_their_state_and_nothing_is_fetched() {
    let desk = Desk::mounted();
    let names = |documents: &[Value]| -> Vec<String> {
        let name =
            |one: &Value| one["path"].as_str().unwrap().rsplit("mnt/").next().unwrap().to_owned();
        let mut names: Vec<String> = documents.iter().map(name).collect();
        names.sort();
        names
    };
    let flat = desk.json(0, "ls mnt");
    assert_eq!(names(&flat), ["big", "folder", "hello.txt"]);
    let unlisted = desk.json(0, "ls -R mnt");
    assert_eq!(names(&unlisted), ["big", "folder", "hello.txt"]);
    let all = desk.json(0, "ls -R --fetch mnt");
    assert_eq!(names(&all), ["big", "folder", "folder/deep", "hello.txt"]);
    let big = all.iter().find(|one| one["path"].as_str().unwrap().ends_with("/big")).unwrap();
    assert_eq!(
        (&big["content"], &big["size"], &big["present_bytes"]),
        (&"online-only".into(), &(3 << 20).into(), &0.into())
    );
    assert_eq!(desk.json(0, "status mnt")[0]["traffic"]["bytes_down"], 0);
    assert!(desk.run(0, "ls mnt").contains("online-only"));
    assert!(desk.run(1, "ls mnt/none").contains("mnt/none: not found"));
}

#[test]
fn an_edit_arrives_and_sync_waits_for_it() {
    let desk = Desk::mounted();
    std::fs::write(desk.at("mnt/new.txt"), "new\n").unwrap();
    let done = desk.json(0, "sync --wait --timeout 30s mnt").remove(0);
    assert_eq!((&done["in_sync"], &done["left"]), (&true.into(), &0.into()));
    assert_eq!(std::fs::read_to_string(desk.at("remote/new.txt")).unwrap(), "new\n");
    assert_eq!(desk.item("mnt/new.txt")["sync"], "in-sync");
    assert_eq!(desk.run(0, "status --pending mnt"), "");
    desk.json(0, "why mnt/new.txt");
}

/// S5 "Freeing space, evicting content and clearing the cache never delete anything on the remote."
#[test]
fn content_comes_and_goes_as_it_is_told() {
    let desk = Desk::mounted();
    let fetched = desk.json(0, "hydrate mnt/big").remove(0);
    assert_eq!(fetched["bytes"], 3 << 20);
    assert_eq!(desk.item("mnt/big")["content"], "local");
    desk.json(0, "cache stat mnt");
    desk.json(0, "cache verify mnt");

    let dry = desk.json(0, "free -n mnt/big").remove(0);
    assert_eq!((&dry["bytes"], &dry["dry_run"]), (&(3 << 20).into(), &true.into()));
    assert_eq!(desk.item("mnt/big")["content"], "local");
    assert!(desk.run(0, "free mnt/big").contains("3.0 MiB freed"));
    assert_eq!(desk.item("mnt/big")["content"], "online-only");
    assert_eq!(std::fs::metadata(desk.at("remote/big")).unwrap().len(), 3 << 20);

    let pinned = desk.json(0, "pin --wait mnt/folder").remove(0);
    assert_eq!((&pinned["pin"], &pinned["bytes_left"]), (&"pinned".into(), &0.into()));
    let deep = desk.item("mnt/folder/deep");
    assert_eq!(
        (&deep["content"], &deep["pin"], &deep["state"]),
        (&"local".into(), &"pinned".into(), &"pinned".into())
    );
    assert_eq!(deep["pin_from"], desk.at("mnt/folder").to_str().unwrap());
    // What is pinned is not cleared.
    desk.json(0, "cache clear mnt");
    assert_eq!(desk.item("mnt/folder/deep")["content"], "local");
    desk.json(0, "unpin mnt/folder");
    assert_eq!(desk.item("mnt/folder")["pin"], "unspecified");
    desk.json(0, "cache clear mnt");
    assert_eq!(desk.item("mnt/folder/deep")["content"], "online-only");
    assert_eq!(std::fs::read(desk.at("remote/folder/deep")).unwrap(), b"deep\n");
}

#[test]
fn what_is_open_or_not_sent_is_kept_and_named() {
    let desk = Desk::mounted();
    let mut open = std::fs::File::options().append(true).open(desk.at("mnt/hello.txt")).unwrap();
    open.write_all(b"more\n").unwrap();
    let said = desk.run(1, "free mnt/hello.txt");
    assert!(said.contains("hello.txt: kept: "), "{said}");
    drop(open);
    assert_eq!(std::fs::read_to_string(desk.at("mnt/hello.txt")).unwrap(), "hello\nmore\n");
}

#[test]
fn paths_come_from_lists_and_may_be_any_bytes() {
    let desk = Desk::new();
    let odd = OsString::from_vec(b"odd\n\xff".to_vec());
    std::fs::write(desk.at("remote").join(&odd), "odd").unwrap();
    desk.mount();
    let listed = desk.dewfs(&["ls", "-0", "mnt"]);
    let path = [desk.at("mnt/").into_os_string().into_vec(), b"odd\n\xff".to_vec()].concat();
    assert!(listed.stdout.split(|byte| *byte == 0).any(|one| one == path));
    let mut child = desk
        .command()
        .args(["hydrate", "-0", "--files-from", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[path.as_slice(), b"\0"].concat()).unwrap();
    assert!(child.wait().unwrap().success());
    let status =
        desk.command().arg("status").arg("--json").arg(desk.at("mnt").join(&odd)).output().unwrap();
    let item: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(item["content"], "local");
    assert!(item["path_base64"].is_string());
}

#[test]
fn a_busy_mount_stays_and_its_users_are_named() {
    let desk = Desk::mounted();
    let held = std::fs::File::open(desk.at("mnt/hello.txt")).unwrap();
    let said = desk.run(1, "umount mnt");
    assert!(said.contains(&std::process::id().to_string()) && said.contains("hello.txt"), "{said}");
    assert!(desk.is_mounted());
    drop(held);
    let done = desk.json(0, "umount mnt/folder").remove(0);
    assert_eq!((&done["type"], &done["left"]), (&"unmounted".into(), &0.into()));
    assert!(!desk.is_mounted());
    desk.run(1, "status mnt");
}

/// A file that was only open for writing, all of it sent, was waited for until its program ended: for days.
#[test]
fn regression_what_is_only_open_for_writing_is_not_waited_for() {
    let desk = Desk::mounted();
    let held = std::fs::File::create(desk.at("mnt/open")).unwrap();
    let ends = |arguments: &[&str], codes: &[i32]| {
        let mut asked = desk.command();
        asked.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut asked = asked.spawn().unwrap();
        until("its end", || asked.try_wait().unwrap().is_some());
        let output = asked.wait_with_output().unwrap();
        assert!(codes.contains(&output.status.code().unwrap()), "{}", told(&output));
        told(&output)
    };
    // While its version is too young to be relied on, nothing of ours waits to be sent; later its writer keeps it pending.
    ends(&["sync", "--wait", "mnt"], &[0, 3]);
    assert!(desk.at("remote/open").exists());
    let said = ends(&["umount", "mnt"], &[1]);
    assert!(said.contains("in use by"), "{said}");
    drop(held);
    ends(&["sync", "--wait", "mnt"], &[0]);
    ends(&["umount", "mnt"], &[0]);
}

#[test]
fn a_killed_daemon_is_noticed_and_its_mount_cleared() {
    let desk = Desk::mounted();
    let pid = desk.json(0, "status mnt")[0]["pid"].as_u64().unwrap();
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    until("the end of the daemon", || std::fs::read_dir(desk.at("mnt")).is_err());
    assert!(desk.run(1, "status mnt").contains("does not answer"));
    assert!(desk.run(0, "umount mnt").contains("the daemon was gone"));
    assert!(!desk.is_mounted());
    desk.mount();
    assert_eq!(std::fs::read_to_string(desk.at("mnt/hello.txt")).unwrap(), "hello\n");
}

#[test]
fn watch_tells_of_each_change() {
    let desk = Desk::mounted();
    let mut watch = desk
        .command()
        .args(["status", "--watch", "--json", "mnt"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    std::fs::write(desk.at("mnt/seen.txt"), "x").unwrap();
    let items = first["items"].as_u64().unwrap();
    let grew = lines.take(50).any(|line| {
        assert_shape(&line);
        serde_json::from_str::<Value>(&line).unwrap()["items"].as_u64().unwrap() > items
    });
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(grew);
}

/// Whether tests may act as somebody else.
fn is_root() -> bool {
    dewfs::config::Who::current().is_root()
}

fn open_to_all(dir: &Path) {
    for dir in dir.ancestors() {
        let mode = std::fs::metadata(dir).unwrap().permissions().mode();
        if mode & 0o001 == 0 {
            // Only directories made for this test are opened.
            assert!(dir.starts_with(env!("CARGO_TARGET_TMPDIR")), "{} is closed", dir.display());
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode | 0o011)).unwrap();
        }
    }
}

#[test]
fn others_may_ask_only_for_what_they_may_read() {
    if !is_root() {
        eprintln!("only root can act as somebody else");
        return;
    }
    let desk = Desk::mounted();
    let program = desk.at("dewfs");
    std::fs::copy(PROGRAM, &program).unwrap();
    open_to_all(&desk.home);
    std::fs::set_permissions(desk.at("mnt/folder"), std::fs::Permissions::from_mode(0o700))
        .unwrap();
    let as_nobody = |words: &str| {
        let mut command = Command::new(&program);
        command.args(words.split_whitespace()).current_dir(&desk.home).uid(65534).gid(65534);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), told(&output))
    };
    assert_eq!(as_nobody("status --short mnt").0, 0);
    assert_eq!(as_nobody("status mnt/hello.txt").0, 0);
    assert_eq!(as_nobody("ls mnt").0, 0);
    for words in [
        "status mnt/folder/deep",
        "ls mnt/folder",
        "sync mnt",
        "free mnt/hello.txt",
        "pin mnt",
        "umount mnt",
        "cache clear mnt",
    ] {
        let (status, said) = as_nobody(words);
        assert_eq!(status, 1, "{words}: {said}");
        assert!(said.contains("permission denied"), "{words}: {said}");
    }
    assert!(desk.is_mounted());
}

#[test]
fn an_unmounted_state_with_unsent_items_is_told_of() {
    let desk = Desk::new();
    let options = format!("{},write_back_delay=1h", desk.options());
    let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    std::fs::write(desk.at("mnt/late"), "late").unwrap();
    let pid = desk.json(0, "status mnt")[0]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("the end of the daemon", || rustix::process::test_kill_process(pid).is_err());
    assert!(desk.run(3, "umount mnt").contains("1 item is not sent"));

    let mountpoint = desk.at("mnt").to_string_lossy().into_owned();
    let mine = |words: &str| {
        let output = desk.dewfs(&words.split_whitespace().collect::<Vec<_>>());
        let said = told(&output);
        said.lines().find(|line| line.contains(&mountpoint)).map(str::to_owned)
    };
    let line = mine("status").unwrap();
    assert!(line.contains("not mounted: 1 item is not sent"), "{line}");
    let line = mine("status --json").unwrap();
    assert!(line.contains("\"type\":\"unmounted\"") && line.contains("\"left\":1"), "{line}");
    // Other mounts of this user may be worse.
    assert!(desk.dewfs(&["status", "--check"]).status.code() >= Some(3));

    desk.mount();
    desk.run(0, "sync --wait --timeout 20s mnt");
    desk.run(0, "umount mnt");
    assert_eq!(mine("status"), None);
    assert_eq!(std::fs::read(desk.at("remote/late")).unwrap(), b"late");
}

/// What takes longer than a second has a bar on a terminal, and nowhere else.
#[test]
fn transfers_have_bars_on_a_terminal_only() {
    let desk = Desk::new();
    let options = format!("{},rate_down=800K", desk.options());
    desk.run(0, &format!("mount remote mnt -o {options}"));
    let in_terminal = |words: &str| {
        desk.run(0, "free mnt/big");
        let mut script = Command::new("script");
        script.args(["-qec", &format!("{PROGRAM} {words}"), "/dev/null"]);
        script.current_dir(&desk.home).env("TERM", "xterm").stdin(Stdio::null());
        let output = script.output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    };
    let said = in_terminal("hydrate mnt/big");
    assert!(said.contains("mnt/big") && said.contains("/3.00 MiB"), "{said:?}");
    for words in ["hydrate mnt/big --no-progress", "hydrate mnt/big --quiet"] {
        let said = in_terminal(words);
        assert!(!said.contains("/3.00 MiB"), "{words}: {said:?}");
    }
    desk.run(0, "free mnt/big");
    let said = desk.run(0, "hydrate mnt/big");
    assert!(!said.contains("/3.00 MiB"), "{said:?}");
}

/// Two daemons serve one place: one was unmounted while a program had a file open, and another was mounted there since.
#[test]
fn two_daemons_of_one_place_are_told_of() {
    let desk = Desk::mounted();
    let held = std::fs::File::open(desk.at("mnt/hello.txt")).unwrap();
    let lazily = Command::new("fusermount3").arg("-uz").arg(desk.at("mnt")).status().unwrap();
    assert!(lazily.success());
    std::fs::create_dir(desk.at("second")).unwrap();
    let other = format!("state_dir={}", desk.at("other").display());
    desk.run(0, &format!("mount second mnt -o {other}"));
    let place = desk.at("mnt").to_string_lossy().into_owned();
    let doubled = || {
        let said = told(&desk.dewfs(&["doctor"]));
        said.lines().any(|line| line.contains(&place) && line.contains("two daemons (processes "))
    };
    assert!(doubled());
    drop(held);
    until("the end of the first", || !doubled());
    desk.run(0, "umount mnt");
}

/// The disk of a state that a mount was given on its command line was not looked at.
#[test]
fn regression_doctor_looks_at_the_disk_of_a_mount_that_runs() {
    let desk = Desk::mounted();
    let state = desk.at("state").to_string_lossy().into_owned();
    let said = told(&desk.dewfs(&["doctor"]));
    assert!(said.lines().any(|line| line.contains("  state ") && line.contains(&state)), "{said}");
    desk.run(0, "umount mnt");
}

/// S162 "What a mount left unsent is told of by `dewfs status` after it is gone, wherever its state is."
///
/// A state in `state_dir=` was told of only while its daemon lived, or lay killed: after a clean unmount with something left
/// `status` said that nothing is mounted, and `--check` ended with 0.
#[test]
fn regression_a_state_elsewhere_that_was_unmounted_cleanly_is_told_of() {
    let desk = Desk::new();
    let options = format!("{},write_back_delay=1h,drain=0", desk.options());
    desk.run(0, &format!("mount remote mnt -o {options}"));
    let pid = desk.json(0, "status mnt")[0]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    std::fs::write(desk.at("mnt/late"), "late").unwrap();
    desk.run(3, "umount --no-wait mnt");
    until("the end of the daemon", || rustix::process::test_kill_process(pid).is_err());

    let mountpoint = desk.at("mnt").to_string_lossy().into_owned();
    let mine = |words: &str| {
        let output = desk.dewfs(&words.split_whitespace().collect::<Vec<_>>());
        told(&output).lines().find(|line| line.contains(&mountpoint)).map(str::to_owned)
    };
    assert!(mine("status").is_some_and(|line| line.contains("not mounted: 1 item is not sent")));
    let line = mine("status --json").unwrap();
    assert!(line.contains("\"type\":\"unmounted\"") && line.contains("\"left\":1"), "{line}");
    assert!(desk.dewfs(&["status", "--check"]).status.code() >= Some(3));
    // Another state in its place does not hide it.
    let other = format!("state_dir={}", desk.at("other").display());
    desk.run(0, &format!("mount remote mnt -o {other}"));
    let all = told(&desk.dewfs(&["status", "--json"]));
    assert!(all.lines().any(|line| line.contains("unmounted") && line.contains(&mountpoint)));
    desk.run(0, "umount mnt");

    desk.mount();
    desk.run(0, "sync --wait --timeout 20s mnt");
    desk.run(0, "umount mnt");
    until("all is sent", || mine("status").is_none());
    for state in ["state", "other"] {
        until("the end of the note", || desk.noted(state).is_empty());
    }
}

/// A saved remote's state is looked at where its options put it, also one that no daemon noted.
#[test]
fn regression_the_state_of_a_saved_remote_is_told_of_wherever_it_is() {
    let desk = Desk::new();
    let options = format!("{},write_back_delay=1h", desk.options());
    desk.run(0, &format!("mount remote mnt -o {options}"));
    std::fs::write(desk.at("mnt/late"), "late").unwrap();
    let pid = desk.json(0, "status mnt")[0]["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("the end of the daemon", || rustix::process::test_kill_process(pid).is_err());
    desk.run(3, "umount mnt");
    // As after an upgrade and a start of the machine: the notes outside of the state are gone.
    let notes = desk.noted("state");
    assert!(!notes.is_empty());
    notes.iter().for_each(|note| std::fs::remove_file(note).unwrap());
    std::fs::rename(desk.at("state"), desk.at("kept")).unwrap();
    let mountpoint = desk.at("mnt").to_string_lossy().into_owned();
    let is_told = || told(&desk.dewfs(&["status"])).contains(&mountpoint);
    assert!(!is_told());
    let saved = format!(
        "spec = '{}'\n[mount]\nstate_dir = '{}'\n",
        desk.at("remote").display(),
        desk.at("kept").display()
    );
    let dir = desk.at("config/dewfs/remotes");
    // Root's remotes are the machine's, which a test leaves alone; both are read.
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("nas.toml"), saved).unwrap();
    assert!(is_told());
}

#[test]
fn why_tells_what_is_known_in_sentences() {
    let desk = Desk::mounted();
    // What the rule is about is listed, so it is pinned before the answer.
    desk.run(0, "ls mnt");
    desk.run(0, "pin mnt --rule hello.* --name greetings");
    let said = desk.run(0, "why mnt/hello.txt");
    assert!(said.contains("it is pinned by the rule greetings: it is always kept"), "{said}");
    assert!(desk.run(0, "status mnt/hello.txt").contains("pinned (by the rule greetings)"));
    assert_eq!(desk.item("mnt/hello.txt")["pin_rule"], "greetings");
    desk.run(0, "pin mnt --remove-rule greetings");
    let said = desk.run(0, "why mnt/big");
    assert!(said.contains("its content is at the remote only, 3.0 MiB"), "{said}");
    assert!(said.contains("it is the same here and at the remote"), "{said}");
    assert!(said.contains("version last seen at the remote"), "{said}");
    desk.run(0, "pin --wait mnt/folder");
    let said = desk.run(0, "why mnt/folder/deep");
    assert!(
        said.contains("its content is here") && said.contains("it is pinned, because"),
        "{said}"
    );
    let pinned = &desk.json(0, "status mnt")[0]["cache"]["pinned_bytes"];
    assert_eq!(pinned.as_u64(), Some(5), "{pinned}");
}

/// What failed for one of several paths was told without its name, and what came after it was left undone.
#[test]
fn regression_what_fails_for_one_path_is_named_and_the_others_are_done() {
    let desk = Desk::mounted();
    let paths = "mnt/hello.txt mnt/typo mnt/big";
    for (command, field, done) in
        [("hydrate", "content", "local"), ("pin", "pin", "pinned"), ("unpin", "pin", "unspecified")]
    {
        let told = desk.run(1, &format!("{command} {paths}"));
        assert!(told.contains("mnt/typo: no such file or folder"), "{command}: {told}");
        for path in ["mnt/hello.txt", "mnt/big"] {
            assert_eq!(desk.item(path)[field], done, "{command} {path}");
        }
    }
    let told = desk.run(1, &format!("free {paths}"));
    assert!(told.contains("3.0 MiB freed"), "{told}");
    assert!(told.contains("mnt/typo: no such file or folder"), "{told}");
    assert_eq!(desk.item("mnt/big")["content"], "online-only");
    for command in ["sync", "status --wait"] {
        let told = desk.run(1, &format!("{command} mnt/typo"));
        assert!(told.contains("mnt/typo: no such file or folder"), "{command}: {told}");
    }
}
