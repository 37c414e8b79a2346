//! What is at hand on the command line: finding without fetching, and more of what needs no remote.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod support {
    pub mod desk;
    pub mod shapes;
}

use serde_json::Value;
use support::desk::Desk;

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
    let null = desk.run(0, "find -0 mnt deep");
    assert_eq!(null, format!("{}\0", desk.at("mnt/folder/deep").display()));
    let lines = desk.run(0, "find mnt new.txt");
    assert!(lines.contains("local") && lines.contains("3 B"), "{lines}");
    assert!(desk.run(1, "find mnt/none").contains("mnt/none: not found"));
}
