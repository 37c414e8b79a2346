//! Histories as lists of events, written from a seed alone: the same seed gives the same events, whatever the threads do,
//! and any subset of them can be run.

use std::collections::BTreeMap;
use std::fmt;

use fastrand::Rng;

use super::Profile;

/// Is a content to be made: its label's number, its length and what it is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) number: u64,
    pub(super) length: usize,
    pub(super) byte: u8,
}

impl Fill {
    /// The bytes, of whoever wrote them.
    pub(super) fn bytes(self, who: &str) -> Vec<u8> {
        let mut content = format!("{who}{} ", self.number).into_bytes();
        content.resize(content.len() + self.length, self.byte);
        content
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.number, self.length)
    }
}

/// Is one thing that a program does in a mount.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    Write(String, Fill),
    /// A new label over the first bytes, a few bytes further on, and perhaps a cut or an appended rest.
    Patch(String, Fill, Option<usize>),
    /// A new file is written and renamed over this one; perhaps it rests in between, and is sent.
    Save(String, Fill, bool),
    MakeFolder(String),
    Remove(String),
    Rename(String, String),
    Exchange(String, String),
    Read(String),
    /// Some bytes from here.
    ReadPart(String, u64),
    List(String),
    Free(String),
    /// Times are set.
    Touch(String, i64),
    Open(String, bool),
    /// Goes on with a file that is held open, and closes it.
    GoOn(usize, Fill),
}

/// Is one thing that somebody else does at the remote.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Put(String, Fill),
    MakeFolder(String),
    Remove(String),
    Move(String, String),
}

/// Is one event of a history.
#[derive(Clone, Debug)]
pub(super) enum Event {
    User(usize, Verb),
    Other(Act),
    /// Dies after so many crash points, or at once; and starts again.
    Crash(usize, Option<u64>),
    /// Ends in good order and starts again.
    Restart(usize),
    /// The line of this one is cut, or mended.
    Line(usize, bool),
    Pause(u64),
    /// The remote's clock ticks.
    Tick,
    /// Change cursors are too old.
    Expire,
    /// A request believed lost arrives.
    Late,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Writes a history. It keeps the one tree that there would be if everybody saw everything at once, so that most events
/// are about something that is there.
pub(super) struct Author {
    profile: Profile,
    rng: Rng,
    /// Folders and files; `true` for folders.
    tree: BTreeMap<String, bool>,
    contents: u64,
    held: usize,
    away: Vec<bool>,
}

impl Author {
    pub(super) fn script(profile: Profile, seed: u64) -> Vec<Event> {
        let mut author = Self {
            profile,
            rng: Rng::with_seed(seed ^ 0x5eed),
            tree: BTreeMap::new(),
            contents: 0,
            held: 0,
            away: vec![false; profile.engines],
        };
        let steps = 6 + seed % 23;
        (0..steps).map(|_| author.next()).collect()
    }

    fn next(&mut self) -> Event {
        let (profile, who) = (self.profile, self.rng.usize(..self.profile.engines));
        let dice = self.rng.f64();
        if dice < profile.crashes {
            let points = self.rng.bool().then(|| self.rng.u64(..6));
            return match self.rng.u32(..4) {
                0 => Event::Restart(who),
                _ => Event::Crash(who, points),
            };
        }
        if profile.ticks() && self.rng.u32(..6) == 0 {
            return Event::Tick;
        }
        if profile.expire && self.rng.u32(..20) == 0 {
            return Event::Expire;
        }
        if profile.late && self.rng.u32(..8) == 0 {
            return Event::Late;
        }
        if profile.lines && self.rng.u32(..8) == 0 {
            self.away[who] = !self.away[who];
            return Event::Line(who, !self.away[who]);
        }
        if self.rng.f64() < profile.actor {
            return Event::Other(self.act());
        }
        if self.rng.u32(..7) == 0 {
            return Event::Pause(self.rng.u64(1..25));
        }
        Event::User(who, self.verb())
    }

    fn fill(&mut self) -> Fill {
        self.contents += 1;
        let length = match self.rng.u32(..20) {
            0 => 200_000,
            1..4 => 40_000,
            _ => 10,
        };
        Fill { number: self.contents, length, byte: self.rng.u8(b'a'..=b'z') }
    }

    fn verb(&mut self) -> Verb {
        let mut verbs = vec![
            "create", "create", "write", "write", "mkdir", "remove", "rename", "rename", "save",
            "read", "list",
        ];
        let profile = self.profile;
        verbs.extend(if profile.handles { vec!["open", "open", "go on", "go on"] } else { vec![] });
        verbs.extend(if profile.editors { vec!["patch", "patch", "exchange"] } else { vec![] });
        verbs.extend(if profile.frees { vec!["free", "free", "part", "part"] } else { vec![] });
        verbs.extend(if profile.touches { vec!["touch", "touch"] } else { vec![] });
        let verb = if profile.saves && self.rng.bool() {
            "save"
        } else {
            verbs[self.rng.usize(..verbs.len())]
        };
        let fill = self.fill();
        match verb {
            "mkdir" => {
                let path = self.fresh();
                self.tree.entry(path.clone()).or_insert(true);
                Verb::MakeFolder(path)
            }
            "remove" => {
                let path = self.any();
                self.gone(&path);
                Verb::Remove(path)
            }
            "rename" => {
                let (path, to) = (self.any(), self.fresh());
                self.moved(&path, &to);
                Verb::Rename(path, to)
            }
            "exchange" => Verb::Exchange(self.any(), self.any()),
            "create" => {
                let path = self.fresh();
                self.tree.entry(path.clone()).or_insert(false);
                Verb::Write(path, fill)
            }
            "list" => Verb::List(self.one(&|_, folder| folder).unwrap_or_default()),
            "go on" if self.held > 0 => {
                self.held -= 1;
                Verb::GoOn(self.rng.usize(..4), fill)
            }
            about => {
                let known = self.one(&|_, folder| !folder);
                let path = known.unwrap_or_else(|| self.fresh());
                self.tree.entry(path.clone()).or_insert(false);
                self.about(about, path, fill)
            }
        }
    }

    fn about(&mut self, verb: &str, path: String, fill: Fill) -> Verb {
        match verb {
            "save" => Verb::Save(path, fill, self.rng.u32(..4) == 0),
            "read" => Verb::Read(path),
            "part" => Verb::ReadPart(path, self.rng.u64(..60_000)),
            "free" => Verb::Free(path),
            "touch" => Verb::Touch(path, self.rng.i64(1..2_000_000_000)),
            "patch" => Verb::Patch(path, fill, self.rng.bool().then(|| self.rng.usize(30..70_000))),
            "open" => {
                self.held += 1;
                Verb::Open(path, self.rng.bool())
            }
            _ => Verb::Write(path, fill),
        }
    }

    fn act(&mut self) -> Act {
        let verbs = ["put", "put", "put", "mkdir", "rm", "mv", "mv"];
        let fill = self.fill();
        let sent = |path: &str, _: bool| !path.contains('~');
        match verbs[self.rng.usize(..verbs.len())] {
            "put" => {
                let known = self.one(&|path, folder| !folder && sent(path, folder));
                let path = known.filter(|_| self.rng.bool()).unwrap_or_else(|| self.fresh());
                self.tree.entry(path.clone()).or_insert(false);
                Act::Put(path, fill)
            }
            "mkdir" => {
                let path = self.fresh();
                self.tree.entry(path.clone()).or_insert(true);
                Act::MakeFolder(path)
            }
            "rm" => {
                let path = self.one(&sent).unwrap_or_default();
                self.gone(&path);
                Act::Remove(path)
            }
            _ => {
                let (path, to) = (self.one(&sent).unwrap_or_default(), self.fresh());
                self.moved(&path, &to);
                Act::Move(path, to)
            }
        }
    }

    fn one(&mut self, fits: &dyn Fn(&str, bool) -> bool) -> Option<String> {
        let all = self.tree.iter().filter(|(path, folder)| fits(path, **folder));
        let all: Vec<&String> = all.map(|(path, _)| path).collect();
        self.rng.choice(all).cloned()
    }

    fn any(&mut self) -> String {
        self.one(&|_, _| true).unwrap_or_else(|| "a".to_owned())
    }

    fn fresh(&mut self) -> String {
        let folder = self.rng.bool().then(|| self.one(&|_, folder| folder)).flatten();
        let last = ["a", "b", "c"][self.rng.usize(..3)];
        let last = if self.profile.excludes && self.rng.u32(..5) == 0 { "x~" } else { last };
        folder.map_or(last.to_owned(), |folder| format!("{folder}/{last}"))
    }

    fn gone(&mut self, path: &str) {
        let below = format!("{path}/");
        if !self.tree.keys().any(|other| other.starts_with(&below)) {
            self.tree.remove(path);
        }
    }

    fn moved(&mut self, path: &str, to: &str) {
        let below = format!("{path}/");
        if format!("{to}/").starts_with(&below) {
            return;
        }
        let all: Vec<(String, bool)> = self
            .tree
            .iter()
            .filter(|(at, _)| *at == path || at.starts_with(&below))
            .map(|(at, folder)| (at.clone(), *folder))
            .collect();
        for (at, folder) in all {
            self.tree.remove(&at);
            self.tree.insert(format!("{to}{}", &at[path.len()..]), folder);
        }
    }
}
