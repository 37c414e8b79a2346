//! A world of engines, a remote and people; events are lines of words, so that a history can be read, kept and replayed.

mod checks;
mod people;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::super::around::{line, wanted};
use super::super::*;
use super::cloud::{Cloud, Fail};
use super::machine::{Engine, Fault, Run};
use super::tree_rows::{Item, Ledger, TreeRows, content};
use people::{user_rename, user_unlink};

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub name: &'static str,
    pub engines: usize,
    pub uploads: usize,
    pub coarse: bool,
    pub ids: bool,
    pub reuse_ids: bool,
    pub actor: f64,
    pub crash: f64,
    pub quiet: bool,
    pub expire: bool,
    pub patterns: bool,
    pub exclude: bool,
    pub handles: bool,
    pub guard: bool,
    pub late: bool,
    pub saves: bool,
    pub moves: bool,
    pub walks: bool,
}

pub const BASIC: Setup = Setup {
    name: "crash",
    engines: 1,
    uploads: 1,
    coarse: false,
    ids: false,
    reuse_ids: false,
    actor: 0.2,
    crash: 0.02,
    quiet: false,
    expire: false,
    patterns: false,
    exclude: false,
    handles: false,
    guard: false,
    late: false,
    saves: false,
    moves: false,
    walks: false,
};

pub const PROFILES: &[Setup] = &[
    BASIC,
    Setup { name: "quiet", actor: 0.0, quiet: true, ..BASIC },
    Setup { name: "saves", actor: 0.0, quiet: true, saves: true, ..BASIC },
    Setup { name: "late", late: true, ..BASIC },
    Setup { name: "lazy", expire: true, ..BASIC },
    Setup { name: "coarse", coarse: true, ..BASIC },
    Setup { name: "ids", ids: true, ..BASIC },
    Setup { name: "moves", ids: true, moves: true, actor: 0.4, ..BASIC },
    Setup { name: "reuse", ids: true, reuse_ids: true, ..BASIC },
    Setup { name: "two", engines: 2, ..BASIC },
    Setup { name: "twoids", engines: 2, ids: true, actor: 0.05, ..BASIC },
    Setup { name: "walk", walks: true, ..BASIC },
    Setup { name: "walkids", walks: true, ids: true, ..BASIC },
    Setup { name: "walklate", walks: true, ids: true, late: true, handles: true, ..BASIC },
    Setup { name: "walkquiet", walks: true, actor: 0.0, quiet: true, uploads: 3, ..BASIC },
    Setup { name: "walktwo", walks: true, engines: 2, uploads: 2, ..BASIC },
    Setup { name: "walktwoids", walks: true, engines: 2, ids: true, actor: 0.05, ..BASIC },
    Setup { name: "editors", patterns: true, exclude: true, ..BASIC },
    Setup { name: "handles", handles: true, ..BASIC },
    Setup { name: "guard", guard: true, ..BASIC },
    Setup { name: "many", uploads: 3, ..BASIC },
    Setup { name: "manyquiet", uploads: 3, actor: 0.0, quiet: true, ..BASIC },
    Setup { name: "manysaves", uploads: 3, actor: 0.0, quiet: true, saves: true, ..BASIC },
    Setup { name: "manyids", uploads: 3, ids: true, ..BASIC },
    Setup {
        name: "together",
        engines: 2,
        uploads: 2,
        patterns: true,
        exclude: true,
        handles: true,
        guard: true,
        expire: true,
        late: true,
        ..BASIC
    },
    Setup {
        name: "everything",
        engines: 2,
        uploads: 3,
        patterns: true,
        exclude: true,
        handles: true,
        guard: true,
        expire: true,
        late: true,
        ids: true,
        coarse: true,
        ..BASIC
    },
];

pub fn profile(name: &str) -> Setup {
    *PROFILES.iter().find(|setup| setup.name == name).unwrap()
}

type Task = (Pin<Box<dyn Future<Output = bool>>>, Rc<Cell<Option<Fault>>>);

pub struct World {
    pub setup: Setup,
    pub ledger: Rc<RefCell<Ledger>>,
    pub cloud: Rc<RefCell<Cloud>>,
    pub engines: Vec<Rc<Engine>>,
    names: Rc<RefCell<Vec<String>>>,
    edits: usize,
    running: HashMap<(usize, String), Task>,
    open: Vec<(usize, Ino, bool)>,
    identity: HashMap<(usize, RemoteId), Ino>,
}

/// `a/b` as names; `/` is the root.
pub fn at(words: &str) -> RemotePath {
    let names = words.split('/').filter(|name| !name.is_empty());
    RemotePath(names.map(|name| Name::new(name).unwrap()).collect())
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        let mut cloud = Cloud::new(setup.coarse, setup.ids, setup.reuse_ids);
        cloud.walks = setup.walks;
        let cloud = Rc::new(RefCell::new(cloud));
        let engine = |label| {
            Rc::new(Engine {
                rows: RefCell::new(TreeRows::new(label, ledger.clone())),
                cloud: cloud.clone(),
                busy: RefCell::default(),
                guard: Cell::new(setup.guard),
                cursor: Cell::new(0),
                walks: setup.walks,
                tried: RefCell::default(),
            })
        };
        let engines = ['A', 'B'].into_iter().take(setup.engines).map(engine).collect();
        Self {
            setup,
            ledger,
            cloud,
            engines,
            names: Rc::default(),
            edits: 0,
            running: HashMap::new(),
            open: Vec::new(),
            identity: HashMap::new(),
        }
    }

    fn content(&self, who: &str) -> u32 {
        let mut names = self.names.borrow_mut();
        let number = names.len() + 1;
        names.push(format!("{who}{number}"));
        u32::try_from(number).unwrap()
    }

    fn name(&self, content: Option<u32>) -> String {
        content.map_or("-".into(), |c| self.names.borrow()[c as usize - 1].clone())
    }

    pub fn apply(&mut self, event: &str) {
        let words: Vec<&str> = event.split_whitespace().collect();
        let who = |at: usize| words[at].parse::<usize>().unwrap();
        match words[0] {
            "user" => self.on_user(who(1), words[2], &at(words[3]), words.get(4).map(|w| at(w))),
            "handle" => self.on_handle(words[1], who(2)),
            "list" => {
                let mut rows = self.engines[who(1)].rows.borrow_mut();
                if let Some(ino) = find(&mut rows, &at(words[2]))
                    && rows.items[&ino].node.kind == Kind::Folder
                {
                    is_listed(&mut *rows, ino).unwrap();
                }
            }
            "remote" => self.on_remote(words[2], &at(words[3]), words.get(4).map(|w| at(w))),
            "tick" => self.cloud.borrow_mut().clock += 1,
            "late" => self.cloud.borrow_mut().deliver_late(),
            "expire" => {
                let mut cloud = self.cloud.borrow_mut();
                cloud.forgotten = cloud.hints.len();
            }
            "crash" => self.on_crash(who(1)),
            "release" => guard::release(&mut *self.engines[who(1)].rows.borrow_mut()).unwrap(),
            "undo" => drop(undo(&mut *self.engines[who(1)].rows.borrow_mut()).unwrap()),
            "work" => {
                let phases = words.get(4).map_or(usize::MAX, |w| w.parse().unwrap_or(usize::MAX));
                let fault = words.get(5).map(|word| match *word {
                    "request" => Fault::Request,
                    "answer" => Fault::Answer,
                    _ => Fault::Late,
                });
                self.on_work(who(1), words[2], phases, fault);
            }
            _ => panic!("no such event: {event}"),
        }
        for engine in &self.engines {
            let mut rows = engine.rows.borrow_mut();
            if engine.guard.get() {
                super::machine::hold_if_many(&mut rows);
            }
            rows.fsck();
        }
        if self.setup.moves {
            self.note_identity();
        }
    }

    fn on_user(&mut self, who: usize, verb: &str, path: &RemotePath, other: Option<RemotePath>) {
        let engine = self.engines[who].clone();
        let mut rows = engine.rows.borrow_mut();
        let node = find(&mut rows, path);
        let folder = path.parent().and_then(|parent| find(&mut rows, &parent));
        if matches!(verb, "create" | "mkdir") {
            let folder = folder.filter(|ino| rows.items[ino].node.kind == Kind::Folder);
            if let (Some(folder), None) = (folder, node) {
                self.edits += 1;
                let kind = if verb == "create" { Kind::File } else { Kind::Folder };
                let ino = rows.add(kind, None);
                let place = Place::new(folder, path.name().unwrap().clone());
                rows.set_local(ino, Some(place)).unwrap();
                if kind == Kind::File {
                    rows.fill(ino, self.content("L"), None);
                }
                handled(&mut *rows, ino).unwrap();
            }
            return;
        }
        let Some(ino) = node.filter(|ino| *ino != Ino::ROOT) else { return };
        self.edits += 1;
        let item = rows.items[&ino].clone();
        let file = item.node.kind == Kind::File;
        match verb {
            "write" if file => {
                rows.fill(ino, self.content("L"), item.seen);
                handled(&mut *rows, ino).unwrap();
            }
            "read" if file && item.data.is_none() => self.hydrate(&mut rows, ino),
            "unlink" => user_unlink(&mut rows, ino, &item),
            "rename" => {
                let Some(other) = other else { return };
                let target = other.parent().and_then(|parent| find(&mut rows, &parent));
                let folder = |ino: &Ino| rows.items[ino].node.kind == Kind::Folder;
                if let Some(target) = target.filter(folder) {
                    let to = Place::new(target, other.name().unwrap().clone());
                    user_rename(&mut rows, ino, &item, to);
                }
            }
            "exchange" => {
                let second = other.and_then(|other| find(&mut rows, &other));
                if let Some(second) = second.filter(|ino| *ino != Ino::ROOT) {
                    exchange(&mut *rows, ino, second).unwrap();
                }
            }
            "open" | "openw" if file => {
                let handles = rows.handles.entry(ino).or_default();
                handles.open += 1;
                handles.writers += u32::from(verb == "openw");
                handled(&mut *rows, ino).unwrap();
                self.open.push((who, ino, verb == "openw"));
            }
            _ => {}
        }
    }

    fn hydrate(&self, rows: &mut TreeRows, ino: Ino) {
        let Some(base) = rows.bases.get(&ino).cloned() else { return };
        let fits =
            base.edition == rows.items[&ino].node.edition && !rows.missing.contains_key(&ino);
        let Some(path) = path(rows, ino).unwrap().filter(|_| fits) else { return };
        let seen = self.cloud.borrow().stat(&path).filter(|seen| seen.kind == Kind::File);
        if let Some(seen) = seen.filter(|seen| seen.version == base.version) {
            rows.hydrated(ino, content(seen.digest.unwrap()));
        }
    }

    fn on_handle(&mut self, verb: &str, index: usize) {
        if self.open.is_empty() {
            return;
        }
        let index = index % self.open.len();
        let (who, ino, writes) = self.open[index];
        let engine = self.engines[who].clone();
        let mut rows = engine.rows.borrow_mut();
        if verb == "close" {
            self.open.remove(index);
            let handles = rows.handles.entry(ino).or_default();
            handles.open -= 1;
            handles.writers -= u32::from(writes);
        } else if writes {
            self.edits += 1;
            let (seen, unlinked) = (rows.items[&ino].seen, rows.items[&ino].unlinked);
            let content = self.content("H");
            rows.fill(ino, content, seen);
            if unlinked {
                self.ledger.borrow_mut().gone.insert(content);
            }
        }
        handled(&mut *rows, ino).unwrap();
    }

    fn on_remote(&mut self, verb: &str, path: &RemotePath, other: Option<RemotePath>) {
        let mut cloud = self.cloud.borrow_mut();
        let old = cloud.entries.get(path).and_then(|entry| entry.content);
        let done = match verb {
            "put" => {
                let content = self.content("R");
                let done = cloud.write(path, content, &Expect::Any);
                if done.is_ok() {
                    self.ledger.borrow_mut().wrote(content, old);
                }
                done
            }
            "mkdir" => cloud.make_folder(path),
            "rm" if !path.is_root() => {
                let done = cloud.remove(path, &Expect::Any);
                if done.is_ok() {
                    self.ledger.borrow_mut().gone.extend(old);
                }
                done
            }
            "mv" if !path.is_root() => cloud.rename(path, &other.unwrap(), &Expect::Any),
            _ => Err(Fail::NotFound),
        };
        self.edits += usize::from(done.is_ok());
    }

    fn on_crash(&mut self, who: usize) {
        self.running.retain(|(owner, _), _| *owner != who);
        self.open.retain(|(owner, ..)| *owner != who);
        self.engines[who].rows.borrow_mut().crash();
    }

    /// Lets a worker go on for some phases; the fault strikes its next call.
    fn on_work(&mut self, who: usize, worker: &str, phases: usize, fault: Option<Fault>) -> bool {
        let key = (who, worker.to_owned());
        let (mut task, cell) = self.running.remove(&key).unwrap_or_else(|| {
            let cell: Rc<Cell<Option<Fault>>> = Rc::default();
            let run = Run { engine: self.engines[who].clone(), fault: cell.clone() };
            let task: Pin<Box<dyn Future<Output = bool>>> = match worker {
                "feed" => Box::pin(run.feed()),
                "lister" => Box::pin(run.lister()),
                _ => Box::pin(run.upload()),
            };
            (task, cell)
        });
        cell.set(fault);
        let mut context = Context::from_waker(Waker::noop());
        for phase in 0..=phases {
            match task.as_mut().poll(&mut context) {
                Poll::Ready(did) => return did,
                Poll::Pending if phase >= phases => break,
                Poll::Pending => {}
            }
        }
        self.running.insert(key, (task, cell));
        true
    }

    /// Lets all workers run without faults until nothing happens any more.
    fn settle(&mut self) {
        let mut workers: Vec<String> = (0..self.setup.uploads).map(upload_name).collect();
        workers.extend(["feed".to_owned(), "lister".to_owned()]);
        let (mut quiet, mut waited) = (0, 0);
        for turn in 0..800 {
            if turn % 10 == 9 {
                self.cloud.borrow_mut().clock += 1;
            }
            let mut busy = false;
            for who in 0..self.engines.len() {
                for worker in &workers {
                    busy |= self.on_work(who, worker, usize::MAX, None);
                }
                self.engines[who].rows.borrow().fsck();
            }
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet > 1 {
                let at_rest = |engine: &Rc<Engine>| {
                    let rows = engine.rows.borrow();
                    rows.outbox.is_empty()
                        && rows.look_again.is_empty()
                        && rows.missing.is_empty()
                        && !rows.bases.values().any(|base| base.young)
                };
                if self.engines.iter().all(at_rest) {
                    return;
                }
                waited += 1;
                if waited > 20 {
                    break;
                }
                self.cloud.borrow_mut().clock += 1;
            }
        }
        for engine in &self.engines {
            let rows = engine.rows.borrow();
            for ino in rows.rows() {
                let step = plan(&*rows, ino, &engine.busy.borrow());
                println!("{} {:?} {:?}", ino, step, rows.outbox[&ino]);
                println!("   {:?} {:?}", rows.items[&ino], rows.bases.get(&ino));
            }
            println!("look again {:?} missing {:?}", rows.look_again, rows.missing);
        }
        panic!("no rest");
    }

    pub fn finish(&mut self) {
        while !self.open.is_empty() {
            self.on_handle("close", 0);
        }
        while !self.cloud.borrow().late.is_empty() {
            self.cloud.borrow_mut().deliver_late();
        }
        for engine in &self.engines {
            guard::release(&mut *engine.rows.borrow_mut()).unwrap();
            engine.guard.set(false);
        }
        self.settle();
        self.check(false);
        for who in 0..self.engines.len() {
            loop {
                let engine = self.engines[who].clone();
                let todo: Vec<Ino> = {
                    let rows = engine.rows.borrow();
                    let unlisted = rows.bases.iter().filter(|(_, base)| !base.listed);
                    let all = unlisted.map(|(ino, _)| *ino);
                    all.filter(|ino| rows.items[ino].node.kind == Kind::Folder).collect()
                };
                if todo.is_empty() {
                    break;
                }
                for ino in todo {
                    is_listed(&mut *engine.rows.borrow_mut(), ino).unwrap();
                }
                self.settle();
            }
        }
        self.settle();
        self.check(true);
    }
}

pub fn upload_name(number: usize) -> String {
    if number == 0 { "upload".into() } else { format!("upload{number}") }
}

/// An inode by its local path; a lookup in an unlisted folder asks for its listing.
pub fn find(rows: &mut TreeRows, path: &RemotePath) -> Option<Ino> {
    let mut at = Ino::ROOT;
    for name in &path.0 {
        if rows.items[&at].node.kind != Kind::Folder {
            return None;
        }
        let found = rows.resident(&Place::new(at, name.clone())).unwrap();
        if found.is_none() {
            is_listed(rows, at).unwrap();
        }
        at = found?;
    }
    Some(at)
}
