//! What was found to be said badly, or left behind, once.

use super::Desk;
use crate::support::shapes::assert_shape;

/// What an option names was not said to be what it names, and a system's number was told to people.
#[test]
fn regression_what_an_option_names_is_said_with_the_option() {
    let desk = Desk::new();
    std::fs::write(desk.at("file"), "").unwrap();
    for (words, named) in [
        (
            "remote test https://127.0.0.1:9/ -o ca_file=none",
            "none: no such file: look at the path",
        ),
        ("remote test https://127.0.0.1:9/ -o ca_file=none", "ca_file="),
        ("remote test https://192.0.2.1/ -o proxy=http://127.0.0.1:9", "proxy=http://127.0.0.1:9"),
        (
            "remote test http://127.0.0.1:9/ -o credentials=none",
            "username= and password= (chmod 600)",
        ),
        ("mount ./remote mnt -o state_dir=file", "is a file: name a folder with state_dir="),
    ] {
        let line = desk.refused(1, words);
        assert!(line.contains(named) && !line.contains("os error"), "{words}: {line}");
    }
    assert_eq!(desk.run(&["find", "mnt", ""]).status.code(), Some(2));
}

/// A mount that did not come about left a whole state behind.
#[test]
fn regression_a_refused_mount_leaves_no_state_behind() {
    let desk = Desk::new();
    let used = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = used.local_addr().unwrap().port();
    let state = desk.at("state").join("one");
    std::fs::write(desk.at("remote/file"), "").unwrap();
    for words in [
        "mount http://127.0.0.1:9/ mnt".to_owned(),
        format!("mount ./remote mnt -o metrics=127.0.0.1:{port}"),
        "mount ./remote remote".to_owned(),
    ] {
        let line = desk.refused(1, &format!("{words} -o state_dir={}", state.display()));
        assert!(!state.exists(), "{words}: {line}");
    }
    // Whoever wants to know why gets the log, and nothing else.
    let wanted =
        format!("mount http://127.0.0.1:9/ mnt -o log=debug,state_dir={}", state.display());
    desk.refused(1, &wanted);
    let kept = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(kept.collect::<Vec<_>>(), ["log"]);
    std::fs::remove_dir_all(&state).unwrap();
    // What was there before stays, whatever it is.
    std::fs::create_dir_all(&state).unwrap();
    desk.refused(1, &format!("mount http://127.0.0.1:9/ mnt -o state_dir={}", state.display()));
    assert!(state.exists());
}

/// A broken file was told of with the status of success; what is saved or forgotten was not told to programs.
#[test]
fn regression_saved_remotes_are_told_to_programs() {
    let desk = Desk::new();
    for words in [
        vec!["remote", "add", "one", "./remote", "--json"],
        vec!["remote", "forget", "one", "-n", "--json"],
        vec!["remote", "forget", "one", "--json"],
    ] {
        let output = desk.run(&words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.is_empty() && output.stderr.is_empty(), "{words:?}");
        text.lines().for_each(assert_shape);
    }
    std::fs::write(desk.at("config/dewfs/remotes/ill.toml"), "mountpoint = '/x'\n").unwrap();
    assert!(desk.refused(1, "remote list").contains("ill.toml"));
}
