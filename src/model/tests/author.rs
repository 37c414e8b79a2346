//! Writes random histories, looking at the world to choose paths that mostly exist.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::super::around::line;
use super::super::*;
use super::world::{Setup, World, upload_name};

pub struct Author {
    rng: Rng,
    faults: f64,
    script: Vec<String>,
}

fn words(path: &[String]) -> String {
    if path.is_empty() { "/".into() } else { path.join("/") }
}

impl Author {
    pub fn new(seed: u64, faults: f64) -> Self {
        Self { rng: Rng::with_seed(seed), faults, script: Vec::new() }
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.rng.usize(..all.len())].clone()
    }

    fn local(&mut self, world: &World, who: usize, kinds: &[Kind]) -> Option<Vec<String>> {
        let rows = world.engines[who].rows.borrow();
        let here = |ino: &Ino| {
            let item = &rows.items[ino];
            let rooted = line(&*rows, *ino).unwrap().last().is_some_and(|top| top.ino == Ino::ROOT);
            item.node.local.is_some() && kinds.contains(&item.node.kind) && rooted
        };
        let all: Vec<Ino> = rows.items.keys().copied().filter(here).collect();
        if all.is_empty() {
            return None;
        }
        let line = line(&*rows, self.pick(&all)).unwrap();
        let names = line.iter().rev().filter_map(|node| node.local.as_ref());
        Some(names.map(|place| place.name.lossy().into_owned()).collect())
    }

    fn fresh(&mut self, world: &World, who: usize) -> Vec<String> {
        let deep = self.rng.f64() < 0.6;
        let folder = deep.then(|| self.local(world, who, &[Kind::Folder])).flatten();
        let mut path = folder.unwrap_or_default();
        path.push(self.pick(names(world)).to_owned());
        path
    }

    fn user(&mut self, world: &World) -> Vec<String> {
        let who = self.rng.usize(..world.engines.len());
        let setup = world.setup;
        if setup.patterns && self.rng.f64() < 0.35 {
            return self.pattern(world, who);
        }
        if setup.saves {
            let path = self.pick(&["a", "b", "c"]);
            return vec![format!("user {who} create t"), format!("user {who} rename t {path}")];
        }
        let mut verbs = if setup.moves {
            vec!["write", "read", "list"]
        } else {
            vec![
                "create", "create", "write", "write", "mkdir", "unlink", "rename", "rename",
                "rename", "read", "exchange", "list",
            ]
        };
        if setup.handles {
            verbs.extend(["open", "open", "openw", "openw", "handle", "handle", "close"]);
        }
        let verb = self.pick(&verbs);
        let index = self.rng.usize(..4);
        match verb {
            "handle" => return vec![format!("handle write {index}")],
            "close" => return vec![format!("handle close {index}")],
            _ => {}
        }
        let both = [Kind::File, Kind::Folder];
        let path = match verb {
            "create" | "mkdir" => Some(self.fresh(world, who)),
            "list" => self.local(world, who, &[Kind::Folder]),
            "write" | "read" | "open" | "openw" => self.local(world, who, &[Kind::File]),
            _ => self.local(world, who, &both),
        };
        if verb == "list" {
            let path = path.filter(|_| self.rng.f64() < 0.6).unwrap_or_default();
            return vec![format!("list {who} {}", words(&path))];
        }
        let Some(path) = path else { return Vec::new() };
        let other = match verb {
            "rename" => Some(self.fresh(world, who)),
            "exchange" => self.local(world, who, &both),
            _ => None,
        };
        let other = other.map(|other| format!(" {}", words(&other))).unwrap_or_default();
        vec![format!("user {who} {verb} {}{other}", words(&path))]
    }

    /// How editors and git save, and what programs do with folders.
    fn pattern(&mut self, world: &World, who: usize) -> Vec<String> {
        let known = if self.rng.f64() < 0.8 { self.local(world, who, &[Kind::File]) } else { None };
        let path = known.unwrap_or_else(|| self.fresh(world, who));
        let folder = self.local(world, who, &[Kind::Folder]).unwrap_or_else(|| path.clone());
        let beside = |of: &[String], name: &str| {
            let mut path = of[..of.len() - 1].to_vec();
            path.push(name.to_owned());
            words(&path)
        };
        let first: String = path[path.len() - 1].chars().take(1).collect();
        let (temp, lock, plain) =
            (beside(&path, "t"), beside(&path, "lock~"), beside(&path, "old"));
        let (backup, index) = (beside(&path, &format!("{first}~")), beside(&path, "lock"));
        let (aside, p, f) = (beside(&folder, "d~"), words(&path), words(&folder));
        let scripts: Vec<Vec<String>> = vec![
            vec![format!("create {temp}"), format!("rename {temp} {p}")],
            vec![
                format!("create {temp}"),
                format!("write {temp}"),
                format!("rename {temp} {p}"),
                format!("unlink {p}"),
            ],
            vec![format!("rename {p} {backup}"), format!("create {p}")],
            vec![format!("rename {p} {plain}"), format!("create {p}"), format!("unlink {plain}")],
            vec![format!("write {p}"), format!("write {p}")],
            vec![format!("create {lock}"), format!("write {p}"), format!("unlink {lock}")],
            vec![
                format!("create {index}"),
                format!("write {index}"),
                format!("rename {index} {p}"),
            ],
            vec![format!("unlink {p}"), format!("mkdir {p}"), format!("create {p}/a")],
            vec![format!("mkdir {temp}"), format!("create {temp}/a"), format!("rename {temp} {f}")],
            vec![
                format!("rename {f} {plain}"),
                format!("mkdir {f}"),
                format!("rename {plain}/a {f}/a"),
            ],
            vec![
                format!("create {temp}"),
                format!("exchange {temp} {p}"),
                format!("unlink {temp}"),
            ],
            vec![format!("rename {f} {aside}"), format!("rename {aside} {f}")],
        ];
        self.pick(&scripts).into_iter().map(|line| format!("user {who} {line}")).collect()
    }

    fn actor(&mut self, world: &World) -> Vec<String> {
        let cloud = world.cloud.borrow();
        let own = |path: &RemotePath| path.0.iter().any(|name| name.as_bytes().starts_with(b"."));
        let all = || cloud.entries.iter().filter(|(path, _)| !own(path));
        let text = |path: &RemotePath| {
            path.0.iter().map(|name| name.lossy().into_owned()).collect::<Vec<_>>()
        };
        let paths: Vec<_> = all().map(|(p, _)| text(p)).filter(|p| !p.is_empty()).collect();
        let folders: Vec<_> = all().filter(|(_, e)| e.folder).map(|(p, _)| text(p)).collect();
        let files: Vec<_> = all().filter(|(_, e)| !e.folder).map(|(p, _)| text(p)).collect();
        let mut new = self.pick(&folders);
        new.push(self.pick(names(world)).to_owned());
        let moves = world.setup.moves;
        let verb = match moves {
            true if paths.len() > 4 => "mv",
            true => self.pick(&["put", "mkdir"]),
            false => self.pick(&["put", "put", "put", "mkdir", "rm", "mv", "mv"]),
        };
        match verb {
            "put" if !files.is_empty() && !moves && self.rng.bool() => {
                vec![format!("remote 0 put {}", words(&self.pick(&files)))]
            }
            "put" | "mkdir" => vec![format!("remote 0 {verb} {}", words(&new))],
            _ if paths.is_empty() => Vec::new(),
            "mv" => vec![format!("remote 0 mv {} {}", words(&self.pick(&paths)), words(&new))],
            _ => vec![format!("remote 0 {verb} {}", words(&self.pick(&paths)))],
        }
    }

    fn work(&mut self, world: &World) -> Vec<String> {
        let who = self.rng.usize(..world.engines.len());
        let upload = upload_name(self.rng.usize(..world.setup.uploads));
        let worker =
            self.pick(&[&*upload, &*upload, &*upload, "feed", "feed", "lister"]).to_owned();
        let whole = self.rng.f64() < 0.6;
        let phases = if whole { "whole".to_owned() } else { self.rng.usize(1..4).to_string() };
        let mut faults = vec!["request", "answer"];
        faults.extend(world.setup.late.then_some("late"));
        let fault = self.pick(&faults);
        let fault =
            if self.rng.f64() < 2.0 * self.faults { format!(" {fault}") } else { String::new() };
        vec![format!("work {who} {worker} 0 {phases}{fault}")]
    }

    pub fn next(&mut self, world: &World) -> String {
        let setup = world.setup;
        let dice = self.rng.f64();
        if !self.script.is_empty() && self.rng.f64() < 0.6 {
            return self.script.remove(0);
        }
        if dice < setup.crash {
            return format!("crash {}", self.rng.usize(..world.engines.len()));
        }
        if setup.coarse && self.rng.f64() < 0.15 {
            return "tick".into();
        }
        if setup.late && self.rng.f64() < 0.1 {
            return "late 0".into();
        }
        if setup.expire && self.rng.f64() < 0.02 {
            return "expire 0".into();
        }
        if setup.guard && self.rng.f64() < 0.06 {
            let verb = self.pick(&["release", "undo"]);
            return format!("{verb} {}", self.rng.usize(..world.engines.len()));
        }
        let kind = self.rng.f64();
        let mut events = if kind < setup.actor {
            self.actor(world)
        } else if kind < 0.55 {
            self.user(world)
        } else {
            self.work(world)
        };
        if events.is_empty() {
            return "tick".into();
        }
        let first = events.remove(0);
        self.script.extend(events);
        first
    }
}

fn message(error: &(dyn std::any::Any + Send)) -> String {
    let text = error.downcast_ref::<String>().cloned();
    text.or_else(|| error.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default()
}

/// Runs a random history; the history and why it failed, if it did.
pub fn random(setup: Setup, seed: u64, steps: usize, faults: f64) -> Option<(Vec<String>, String)> {
    let mut history = Vec::new();
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(setup);
        let mut author = Author::new(seed, faults);
        for _ in 0..steps {
            history.push(author.next(&world));
            world.apply(&history[history.len() - 1]);
        }
        world.finish();
    }));
    run.err().map(|error| (history, message(&*error)))
}

/// Runs a known history; why it failed, if it did.
pub fn replay(setup: Setup, history: &[String]) -> Option<String> {
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(setup);
        for event in history {
            world.apply(event);
        }
        world.finish();
    }));
    run.err().map(|error| message(&*error))
}

/// Leaves out events as long as it still fails in the same way.
pub fn shrink(setup: Setup, mut history: Vec<String>) -> Vec<String> {
    let label = |why: Option<String>| why.map(|why| why.chars().take(12).collect::<String>());
    let wanted = label(replay(setup, &history));
    let mut size = history.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < history.len() {
            let mut shorter = history.clone();
            shorter.drain(at..(at + size).min(shorter.len()));
            if label(replay(setup, &shorter)) == wanted {
                history = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    history
}

/// The names that new things get.
fn names(world: &World) -> &'static [&'static str] {
    if world.setup.exclude { &["a", "b", "c", "x~"] } else { &["a", "b", "c"] }
}
