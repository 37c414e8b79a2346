//! Conflict copies are decided by a person, also without the remote, and no edit is lost by it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::desk::{Desk, told, until};

const OURS: &[u8] = b"first and ours";

/// A mount with one conflict copy: `a.txt` was edited here and changed there.
struct Conflicted {
    desk: Desk,
    copy: PathBuf,
}

impl Conflicted {
    fn new() -> Self {
        let desk = Desk::new();
        fs::write(desk.at("remote/a.txt"), "first").unwrap();
        let options = desk.options() + ",poll=500ms,drain=0";
        let output = desk.dewfs(&["mount", "remote", "mnt", "-o", &options]);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        fs::read(desk.at("mnt/a.txt")).unwrap();
        let copy = conflict(&desk, "theirs");
        desk.run(0, "sync mnt");
        until("the copy at the remote", || {
            fs::read(desk.at("remote").join(copy.file_name().unwrap())).is_ok_and(|it| it == OURS)
        });
        Self { desk, copy }
    }

    fn resolve(&self, status: i32, path: &str, more: &[&str]) -> String {
        let output = self.desk.dewfs(&[&["resolve", path], more].concat());
        assert_eq!(output.status.code(), Some(status), "{more:?}: {}", told(&output));
        told(&output)
    }

    fn copy(&self) -> &str {
        self.copy.to_str().unwrap()
    }

    fn copy_there(&self) -> PathBuf {
        self.desk.at("remote").join(self.copy.file_name().unwrap())
    }

    fn copies(&self) -> Vec<Value> {
        self.desk.json(0, "conflicts mnt")
    }

    fn synced(&self) {
        self.desk.run(0, "sync --wait --timeout 30s mnt");
    }

    fn here(&self) -> Vec<u8> {
        fs::read(self.desk.at("mnt/a.txt")).unwrap()
    }

    fn there(&self) -> Vec<u8> {
        fs::read(self.desk.at("remote/a.txt")).unwrap()
    }
}

/// Edits `a.txt` here while somebody writes `other` there; answers the copy.
fn conflict(desk: &Desk, other: &str) -> PathBuf {
    let before = desk.json(0, "conflicts mnt").len();
    let mut open = OpenOptions::new().append(true).open(desk.at("mnt/a.txt")).unwrap();
    open.write_all(b" and ours").unwrap();
    fs::write(desk.at("remote/a.txt"), other).unwrap();
    drop(open);
    until("a conflict copy", || desk.json(0, "conflicts mnt").len() == before + 1);
    let copy = desk.json(0, "conflicts mnt").pop().unwrap();
    PathBuf::from(copy["path"].as_str().unwrap())
}

/// S130 "`dewfs resolve` decides a conflict copy: `mine` gives its content to the original's name, under the version shown here;
/// `theirs` removes the copy, here and on the remote; `both` lists it no longer."
#[test]
fn mine_becomes_the_content_of_the_original_and_the_copy_goes() {
    let it = Conflicted::new();
    assert_eq!(it.here(), b"theirs");
    let told = it.resolve(0, it.copy(), &["--keep", "mine", "--dry-run", "--json"]);
    crate::support::shapes::assert_shape(told.trim());
    assert_eq!((it.here().as_slice(), it.copies().len()), (b"theirs".as_slice(), 1));
    let told = it.resolve(0, it.copy(), &["--keep", "mine"]);
    assert!(told.contains("moved to"), "{told}");
    assert_eq!(it.here(), OURS);
    it.synced();
    assert_eq!(it.there(), OURS);
    assert!(!it.copy.exists() && !it.copy_there().exists());
    assert!(it.copies().is_empty());
    assert_eq!(it.desk.run(0, "status --check mnt"), "");
    let why = it.desk.run(0, "why mnt/a.txt");
    assert!(why.contains("kept under the original's name"), "{why}");
    assert!(
        it.resolve(1, it.desk.at("mnt/a.txt").to_str().unwrap(), &["--keep", "both"])
            .contains("dewfs conflicts")
    );
    assert!(it.resolve(2, it.copy(), &[]).contains("--keep"));
}

#[test]
fn theirs_removes_the_copy_and_both_keeps_it_unlisted() {
    let it = Conflicted::new();
    // By the original's name.
    let original = it.desk.at("mnt/a.txt");
    let second = conflict(&it.desk, "theirs again");
    let said = it.resolve(1, original.to_str().unwrap(), &["--keep", "mine"]);
    assert!(said.contains("several conflict copies"), "{said}");
    it.resolve(0, it.copy(), &["--keep", "both"]);
    assert_eq!(it.copies().len(), 1);
    assert_eq!(fs::read(&it.copy).unwrap(), OURS);
    assert_eq!(it.desk.json(0, "status mnt")[0]["conflicts"], 1);
    until("the other is sent", || {
        it.desk.at("remote").join(second.file_name().unwrap()).exists()
            && it.desk.json(0, "status mnt")[0]["pending"] == 0
    });
    let told = it.resolve(0, original.to_str().unwrap(), &["--keep", "theirs", "--json"]);
    crate::support::shapes::assert_shape(told.trim());
    let document: Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!((&document["keep"], &document["kept"]), (&"theirs".into(), &Value::Null));
    assert!(!second.exists());
    it.synced();
    assert!(!it.desk.at("remote").join(second.file_name().unwrap()).exists());
    assert_eq!(
        (it.there().as_slice(), it.here().as_slice()),
        (b"theirs again".as_slice(), b"theirs again".as_slice())
    );
    assert!(it.copy_there().exists() && it.copy.exists());
    assert_eq!(it.desk.run(0, "status --check mnt"), "");
}

/// S131 "Deciding loses no edit: an original that changed meanwhile is a conflict again, one with unsent changes refuses `mine`, and
/// content that the remote never had goes to `recovered/` with `theirs`."
#[test]
fn an_original_that_changed_meanwhile_is_a_conflict_again() {
    let it = Conflicted::new();
    it.desk.run(0, "pause mnt --lane uploads");
    it.resolve(0, it.copy(), &["--keep", "mine"]);
    assert_eq!(it.here(), OURS);
    fs::write(it.desk.at("remote/a.txt"), "changed once more").unwrap();
    it.desk.run(0, "resume mnt");
    until("a conflict again", || it.copies().len() == 1);
    it.desk.run(4, "sync --wait --timeout 30s mnt");
    assert_eq!(
        (it.there(), it.here()),
        (b"changed once more".to_vec(), b"changed once more".to_vec())
    );
    let copy = PathBuf::from(it.copies()[0]["path"].as_str().unwrap());
    assert_eq!(fs::read(&copy).unwrap(), OURS);
    assert_eq!(fs::read(it.desk.at("remote").join(copy.file_name().unwrap())).unwrap(), OURS);
}

#[test]
fn unsent_changes_are_refused_or_kept() {
    let it = Conflicted::new();
    it.desk.run(0, "pause mnt --lane uploads");
    fs::write(it.desk.at("mnt/a.txt"), "edited here").unwrap();
    let said = it.resolve(1, it.copy(), &["--keep", "mine"]);
    assert!(said.contains("a.txt has changes that are not sent yet"), "{said}");
    assert_eq!((it.here(), fs::read(&it.copy).unwrap()), (b"edited here".to_vec(), OURS.to_vec()));
    let mut copy = File::options().append(true).open(&it.copy).unwrap();
    copy.write_all(b", more").unwrap();
    let said = it.resolve(1, it.copy(), &["--keep", "theirs"]);
    assert!(said.contains("open for writing"), "{said}");
    drop(copy);
    let told = it.resolve(0, it.copy(), &["--keep", "theirs", "--json"]);
    let document: Value = serde_json::from_str(told.trim()).unwrap();
    let kept = document["kept"].as_str().unwrap();
    assert_eq!(fs::read(kept).unwrap(), [OURS, b", more"].concat());
    assert!(!it.copy.exists());
    it.desk.run(0, "resume mnt");
    it.synced();
    assert!(!it.copy_there().exists());
    assert_eq!(it.there(), b"edited here");
}

#[test]
fn without_the_remote_a_decision_waits_and_arrives() {
    let it = Conflicted::new();
    fs::rename(it.desk.at("remote"), it.desk.at("away")).unwrap();
    let is_away =
        || !["online", "degraded"].iter().any(|here| it.desk.item("mnt")["state"] == *here);
    until("offline", is_away);
    it.resolve(0, it.copy(), &["--keep", "mine"]);
    assert_eq!(it.here(), OURS);
    assert!(it.copies().is_empty() && !it.copy.exists());
    fs::rename(it.desk.at("away"), it.desk.at("remote")).unwrap();
    until("online again", || it.desk.json(0, "status mnt")[0]["state"] == "online");
    it.synced();
    assert_eq!(it.there(), OURS);
    assert!(!it.copy_there().exists());
}

#[test]
fn the_only_content_is_not_thrown_away_and_a_moved_copy_is_decided() {
    let it = Conflicted::new();
    fs::remove_file(it.desk.at("mnt/a.txt")).unwrap();
    let said = it.resolve(1, it.copy(), &["--keep", "theirs"]);
    assert!(said.contains("a.txt is gone"), "{said}");
    assert_eq!(fs::read(&it.copy).unwrap(), OURS);
    // Beside another file of that name it would be taken for that one's copy.
    let elsewhere = it.desk.at("mnt/folder").join(it.copy.file_name().unwrap());
    fs::rename(&it.copy, &elsewhere).unwrap();
    assert!(it.copies().is_empty());
    assert!(it.resolve(1, elsewhere.to_str().unwrap(), &["--keep", "mine"]).contains("neither"));
    assert_eq!(fs::read(&elsewhere).unwrap(), OURS);
}
