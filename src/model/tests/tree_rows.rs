//! `Rows` as plain maps, with what the checker wants to know about contents.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::rc::Rc;

use super::super::*;

/// A content is a number; this is its digest.
pub fn digest(content: u32) -> Digest {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&content.to_le_bytes());
    Digest { size: 7, hash }
}

/// The content of a digest.
pub fn content(digest: Digest) -> u32 {
    u32::from_le_bytes(digest.hash[..4].try_into().unwrap())
}

/// Who wrote which content over which, and what was destroyed by somebody who saw it.
#[derive(Default)]
pub struct Ledger {
    pub children: HashMap<Option<u32>, Vec<u32>>,
    pub gone: HashSet<u32>,
    pub acknowledged: Vec<u32>,
    pub rescued: HashSet<u32>,
}

impl Ledger {
    pub fn wrote(&mut self, content: u32, parent: Option<u32>) {
        self.acknowledged.push(content);
        self.children.entry(parent).or_default().push(content);
    }

    pub fn lost(&self, present: &HashSet<u32>) -> Vec<u32> {
        let known: HashSet<u32> = self.acknowledged.iter().copied().collect();
        let mut alive: HashSet<u32> =
            present.union(&self.gone).copied().filter(|c| known.contains(c)).collect();
        loop {
            let before = alive.len();
            for c in &self.acknowledged {
                let children = self.children.get(&Some(*c));
                if children.is_some_and(|all| all.iter().any(|child| alive.contains(child))) {
                    alive.insert(*c);
                }
            }
            if alive.len() == before {
                break;
            }
        }
        self.acknowledged.iter().copied().filter(|c| !alive.contains(c)).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Item {
    pub node: Node,
    pub data: Option<u32>,
    /// The content a user sees here.
    pub seen: Option<u32>,
    /// Deleted by a user.
    pub unlinked: bool,
}

pub struct TreeRows {
    pub label: char,
    pub items: BTreeMap<Ino, Item>,
    pub local_at: BTreeMap<Place, Ino>,
    pub bases: BTreeMap<Ino, Base>,
    pub base_at: BTreeMap<Place, Ino>,
    pub by_id: HashMap<RemoteId, Ino>,
    pub outbox: HashMap<Ino, (u64, OutboxRow)>,
    pub look_again: BTreeMap<Ino, (Tick, bool)>,
    pub missing: BTreeMap<Ino, Tick>,
    pub touched: HashMap<Ino, Tick>,
    pub listing: HashSet<Ino>,
    pub covered: HashSet<Ino>,
    pub needed: Vec<Ino>,
    pub handles: HashMap<Ino, Handles>,
    pub tick: u64,
    pub copies: usize,
    pub resurrections: usize,
    /// For the checker: what each edition stood for.
    pub contents: HashMap<Edition, Option<u32>>,
    pub ledger: Rc<RefCell<Ledger>>,
    /// Inodes in this are not to be asked any more: an inode number is never used again.
    pub forgotten: BTreeSet<Ino>,
}

type Fallible<T> = Result<T, Infallible>;

impl TreeRows {
    pub fn new(label: char, ledger: Rc<RefCell<Ledger>>) -> Self {
        let mut rows = Self {
            label,
            items: BTreeMap::new(),
            local_at: BTreeMap::new(),
            bases: BTreeMap::new(),
            base_at: BTreeMap::new(),
            by_id: HashMap::new(),
            outbox: HashMap::new(),
            look_again: BTreeMap::new(),
            missing: BTreeMap::new(),
            touched: HashMap::new(),
            listing: HashSet::new(),
            covered: HashSet::new(),
            needed: Vec::new(),
            handles: HashMap::new(),
            tick: 2,
            copies: 0,
            resurrections: 0,
            contents: HashMap::new(),
            ledger,
            forgotten: BTreeSet::new(),
        };
        let node = Node {
            ino: Ino::ROOT,
            kind: Kind::Folder,
            local: None,
            edition: Edition(0),
            hydrated: false,
            retouched: false,
        };
        let root = Item { node, data: None, seen: None, unlinked: false };
        rows.items.insert(Ino::ROOT, root);
        let place = Place::new(Ino(0), Name::new("root").unwrap());
        let base = Base {
            place,
            version: Version(String::new()),
            id: None,
            edition: Edition(0),
            known: None,
            young: false,
            listed: false,
            size: 0,
            extra: None,
        };
        rows.set_base(Ino::ROOT, Some(base)).unwrap();
        rows
    }

    pub fn next(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub fn add(&mut self, kind: Kind, seen: Option<u32>) -> Ino {
        let (ino, edition) = (Ino(self.next()), Edition(self.next()));
        let node = Node { ino, kind, local: None, edition, hydrated: false, retouched: false };
        self.items.insert(ino, Item { node, data: None, seen, unlinked: false });
        self.contents.insert(edition, seen);
        ino
    }

    pub fn item(&mut self, ino: Ino) -> &mut Item {
        self.items.get_mut(&ino).unwrap()
    }

    /// A new content of a user's.
    pub fn fill(&mut self, ino: Ino, content: u32, parent: Option<u32>) {
        let edition = Edition(self.next());
        let item = self.items.get_mut(&ino).unwrap();
        (item.data, item.seen) = (Some(content), Some(content));
        (item.node.edition, item.node.hydrated) = (edition, true);
        self.contents.insert(edition, Some(content));
        self.ledger.borrow_mut().wrote(content, parent);
    }

    /// All bytes of the base version arrived.
    pub fn hydrated(&mut self, ino: Ino, content: u32) {
        let item = self.items.get_mut(&ino).unwrap();
        (item.data, item.seen, item.node.hydrated) = (Some(content), Some(content), true);
        let edition = item.node.edition;
        self.contents.insert(edition, Some(content));
        let base = self.bases.get_mut(&ino).unwrap();
        base.known = Some(digest(content));
    }

    pub fn rows(&self) -> Vec<Ino> {
        let mut rows: Vec<_> = self.outbox.iter().map(|(ino, (at, _))| (*at, *ino)).collect();
        rows.sort();
        rows.into_iter().map(|(_, ino)| ino).collect()
    }

    /// All memory is lost.
    pub fn crash(&mut self) {
        self.touched.clear();
        self.listing.clear();
        self.needed.clear();
        self.handles.clear();
        recover(self).unwrap();
        let all: Vec<Ino> = self.items.keys().copied().collect();
        for ino in all {
            touch(self, ino).unwrap();
        }
    }

    /// What must hold after every transaction.
    pub fn fsck(&self) {
        for (place, ino) in &self.local_at {
            assert_eq!(self.items[ino].node.local.as_ref(), Some(place), "local index");
        }
        for (place, ino) in &self.base_at {
            assert_eq!(&self.bases[ino].place, place, "base index");
        }
        for (ino, item) in self.items.iter().filter(|(ino, _)| **ino != Ino::ROOT) {
            let base = self.bases.get(ino);
            if let Some(base) = base {
                assert!(
                    self.bases.contains_key(&base.place.parent),
                    "{ino} has a base below nothing"
                );
            }
            let row = self.outbox.contains_key(ino);
            let sync = super::super::around::is_in_sync(self, &item.node).unwrap();
            assert!(sync || row, "{ino} {:?} {:?} is not in sync and has no row", item.node, base);
            if item.node.local.is_some() && base.is_none() && item.node.kind == Kind::File {
                let writers = self.handles(*ino).writers > 0;
                assert!(item.data.is_some() || writers, "{ino} has its content nowhere");
            }
        }
    }
}

impl Rows for TreeRows {
    type Error = Infallible;

    fn node(&self, ino: Ino) -> Fallible<Option<Node>> {
        Ok(self.items.get(&ino).map(|item| item.node.clone()))
    }
    fn resident(&self, place: &Place) -> Fallible<Option<Ino>> {
        Ok(self.local_at.get(place).copied())
    }
    fn has_children(&self, folder: Ino) -> Fallible<bool> {
        Ok(!self.children(folder)?.is_empty())
    }
    fn children(&self, folder: Ino) -> Fallible<Vec<Ino>> {
        Ok(below(&self.local_at, folder))
    }
    fn base(&self, ino: Ino) -> Fallible<Option<Base>> {
        Ok(self.bases.get(&ino).cloned())
    }
    fn base_at(&self, place: &Place) -> Fallible<Option<Ino>> {
        Ok(self.base_at.get(place).copied())
    }
    fn base_by_id(&self, id: &RemoteId) -> Fallible<Option<Ino>> {
        Ok(self.by_id.get(id).copied())
    }
    fn base_children(&self, folder: Ino) -> Fallible<Vec<Ino>> {
        Ok(below(&self.base_at, folder))
    }
    fn renew_touched(&mut self, _: Ino) -> Fallible<()> {
        Ok(())
    }
    fn forget_touched(&mut self, ino: Ino) -> Fallible<()> {
        self.item(ino).node.retouched = false;
        Ok(())
    }
    fn set_sent(&mut self, ino: Ino, _: &Shown) -> Fallible<()> {
        self.item(ino).node.retouched = false;
        Ok(())
    }
    fn outbox(&self, ino: Ino) -> Fallible<Option<OutboxRow>> {
        Ok(self.outbox.get(&ino).map(|(_, row)| row.clone()))
    }
    fn outbox_all(&self) -> Fallible<Vec<Ino>> {
        Ok(self.rows())
    }
    fn attempts(&self) -> Fallible<Vec<(Ino, Attempt)>> {
        let attempt = |ino| Some((ino, self.outbox[&ino].1.attempt.clone()?));
        Ok(self.rows().into_iter().filter_map(attempt).collect())
    }
    fn missing(&self, ino: Ino) -> Fallible<Option<Tick>> {
        Ok(self.missing.get(&ino).copied())
    }
    fn look_again(&self, folder: Ino) -> Fallible<Option<Tick>> {
        Ok(self.look_again.get(&folder).map(|mark| mark.0))
    }
    fn look_after(&self, tick: Tick) -> Fallible<Option<(Ino, Tick)>> {
        let all = self.look_again.iter().map(|(ino, mark)| (*ino, mark.0));
        Ok(all.filter(|(_, since)| *since > tick).min_by_key(|(_, since)| *since))
    }
    fn looks_deep(&self, folder: Ino) -> Fallible<bool> {
        Ok(self.look_again.get(&folder).is_some_and(|mark| mark.1))
    }
    fn touched(&self, folder: Ino) -> Tick {
        self.touched.get(&folder).copied().unwrap_or_default()
    }
    fn is_listing(&self, folder: Ino) -> bool {
        self.listing.contains(&folder)
    }
    fn is_needed(&self, folder: Ino) -> bool {
        self.needed.contains(&folder)
    }
    fn handles(&self, ino: Ino) -> Handles {
        self.handles.get(&ino).copied().unwrap_or_default()
    }
    fn new_below(&self, folder: Ino) -> Fallible<Vec<Ino>> {
        let (mut known, mut new) = (vec![folder], Vec::new());
        while let Some(at) = known.pop() {
            for below in self.children(at)? {
                let list = if self.bases.contains_key(&below) { &mut known } else { &mut new };
                list.push(below);
            }
        }
        Ok(new)
    }
    fn excludes_paths(&self) -> bool {
        false
    }
    fn is_excluded(&self, place: &Place, _kind: Kind) -> Fallible<bool> {
        Ok(place.name.as_bytes().ends_with(b"~"))
    }

    fn tick(&mut self) -> Fallible<Tick> {
        Ok(Tick(self.next()))
    }
    fn new_node(&mut self, seen: &Observed) -> Fallible<Ino> {
        Ok(self.add(seen.kind, seen.digest.map(content)))
    }
    fn succeed(&mut self, old: Ino) -> Fallible<Ino> {
        let Item { node, seen, .. } = self.items[&old].clone();
        let ino = self.add(node.kind, seen);
        self.item(ino).node.edition = node.edition;
        Ok(ino)
    }
    fn set_local(&mut self, ino: Ino, place: Option<Place>) -> Fallible<()> {
        let item = self.items.get_mut(&ino).unwrap();
        if let Some(old) = item.node.local.take() {
            self.local_at.remove(&old);
        }
        item.node.local.clone_from(&place);
        if let Some(place) = place {
            item.unlinked = false;
            assert!(self.items.contains_key(&place.parent), "a place in nothing");
            assert_eq!(self.local_at.insert(place, ino), None, "two inodes in one place");
        }
        Ok(())
    }
    fn set_base(&mut self, ino: Ino, base: Option<Base>) -> Fallible<()> {
        if let Some(old) = self.bases.remove(&ino) {
            self.base_at.remove(&old.place);
            if let Some(id) = old.id
                && self.by_id.get(&id) == Some(&ino)
            {
                self.by_id.remove(&id);
            }
            self.touch_folder(old.place.parent)?;
        }
        let Some(base) = base else {
            self.missing.remove(&ino);
            self.look_again.remove(&ino);
            return Ok(());
        };
        assert!(self.items.contains_key(&ino), "a base of nobody");
        assert_eq!(self.base_at.insert(base.place.clone(), ino), None, "two bases in one place");
        self.touch_folder(base.place.parent)?;
        if let Some(id) = &base.id {
            self.by_id.insert(id.clone(), ino);
        }
        self.bases.insert(ino, base);
        Ok(())
    }
    fn set_folder_version(&mut self, folder: Ino, version: Version) -> Fallible<()> {
        if let Some(base) = self.bases.get_mut(&folder) {
            base.version = version;
        }
        Ok(())
    }
    fn become_placeholder(&mut self, ino: Ino, seen: &Observed) -> Fallible<Edition> {
        assert_eq!(self.handles(ino).open, 0, "an open handle saw another content");
        let edition = Edition(self.next());
        let item = self.items.get_mut(&ino).unwrap();
        (item.data, item.seen) = (None, seen.digest.map(content));
        (item.node.edition, item.node.hydrated) = (edition, false);
        self.contents.insert(edition, item.seen);
        Ok(edition)
    }
    fn revert_to(&mut self, ino: Ino, base: &Base) -> Fallible<()> {
        let before = self.contents.get(&base.edition).copied().flatten();
        let item = self.items.get_mut(&ino).unwrap();
        self.ledger.borrow_mut().gone.extend(item.seen);
        (item.data, item.seen) = (None, before);
        (item.node.edition, item.node.hydrated) = (base.edition, false);
        Ok(())
    }
    fn set_outbox(&mut self, ino: Ino, row: OutboxRow) -> Fallible<()> {
        assert!(ino != Ino::ROOT && self.items.contains_key(&ino), "a row of nobody");
        let at = match self.outbox.get(&ino) {
            Some((at, _)) => *at,
            None => self.next(),
        };
        self.outbox.insert(ino, (at, row));
        Ok(())
    }
    fn renew_outbox(&mut self, _ino: Ino) -> Result<(), Self::Error> {
        Ok(())
    }

    fn drop_outbox(&mut self, ino: Ino) -> Fallible<()> {
        self.outbox.remove(&ino);
        Ok(())
    }
    fn set_missing(&mut self, ino: Ino, since: Option<Tick>) -> Fallible<()> {
        match since {
            Some(since) => self.missing.insert(ino, since),
            None => self.missing.remove(&ino),
        };
        Ok(())
    }
    fn set_look_again(&mut self, folder: Ino, since: Option<Tick>) -> Fallible<()> {
        assert!(self.bases.contains_key(&folder), "a folder without a base is marked");
        let deep = self.looks_deep(folder)?;
        match since {
            Some(since) => self.look_again.insert(folder, (since, deep)),
            None => self.look_again.remove(&folder),
        };
        Ok(())
    }
    fn set_look_deep(&mut self, folder: Ino, since: Tick) -> Fallible<()> {
        self.look_again.insert(folder, (since, true));
        Ok(())
    }
    fn touch_folder(&mut self, folder: Ino) -> Fallible<()> {
        let now = self.tick()?;
        self.touched.insert(folder, now);
        Ok(())
    }
    fn need_list(&mut self, folder: Ino) {
        if !self.needed.contains(&folder) {
            self.needed.push(folder);
        }
    }
    fn set_listing(&mut self, folder: Ino, under_way: bool) {
        if under_way {
            self.listing.insert(folder);
            self.needed.retain(|other| *other != folder);
        } else {
            self.listing.remove(&folder);
        }
    }
    fn rescue(&mut self, ino: Ino) -> Fallible<()> {
        let kept = self.items[&ino].seen;
        self.ledger.borrow_mut().rescued.extend(kept);
        Ok(())
    }
    fn is_covered(&self, folder: Ino) -> Fallible<bool> {
        Ok(self.covered.contains(&folder))
    }
    fn set_covered(&mut self, folder: Ino, covered: bool) -> Fallible<()> {
        if covered {
            self.covered.insert(folder)
        } else {
            self.covered.remove(&folder)
        };
        Ok(())
    }
    fn forget(&mut self, ino: Ino) -> Fallible<()> {
        let item = self.items.remove(&ino).unwrap();
        assert_eq!(item.node.local, None);
        assert!(!self.bases.contains_key(&ino) && !self.outbox.contains_key(&ino));
        self.forgotten.insert(ino);
        Ok(())
    }
    fn conflict_name(&mut self, place: &Place) -> Fallible<Place> {
        self.copies += 1;
        let name = place.name.lossy().into_owned();
        let stem = name.split('!').next().unwrap_or_default();
        let name = format!("{stem}!{}{}", self.label, self.copies);
        Ok(Place::new(place.parent, Name::new(name).unwrap()))
    }
    fn note(&mut self, _: Ino, what: &str) -> Fallible<()> {
        self.resurrections += usize::from(what.starts_with("brought back"));
        Ok(())
    }
}

fn below(places: &BTreeMap<Place, Ino>, folder: Ino) -> Vec<Ino> {
    let first = Place::new(folder, Name::new([1]).unwrap());
    let all = places.range(first..).take_while(|(place, _)| place.parent == folder);
    all.map(|(_, ino)| *ino).collect()
}
