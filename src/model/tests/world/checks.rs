//! What must hold after each event, and at rest.

use super::*;

impl World {
    pub(super) fn check(&self, everything: bool) {
        let cloud = self.cloud.borrow();
        let mut present: HashSet<u32> =
            cloud.entries.values().filter_map(|entry| entry.content).collect();
        for engine in &self.engines {
            let rows = engine.rows.borrow();
            for item in rows.items.values().filter(|item| item.node.local.is_some()) {
                if wanted(&*rows, &item.node).unwrap().is_none() {
                    present.extend(item.data);
                }
            }
        }
        let lost = self.ledger.borrow().lost(&present);
        let lost: Vec<String> = lost.into_iter().map(|c| self.name(Some(c))).collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        for engine in &self.engines {
            self.compare(engine, everything);
        }
        let count = |f: fn(&TreeRows) -> usize| -> usize {
            self.engines.iter().map(|engine| f(&engine.rows.borrow())).sum()
        };
        let (copies, returns) = (count(|rows| rows.copies), count(|rows| rows.resurrections));
        assert!(copies <= 2 * self.edits, "conflict storm: {copies} copies, {} edits", self.edits);
        if self.setup.saves {
            let gone = |path: &&RemotePath| path.name().is_some_and(|n| n.as_bytes() != b"t");
            let gone: Vec<_> = cloud.removed.iter().filter(gone).collect();
            assert!(gone.is_empty(), "a saved name was missing on the remote: {gone:?}");
        }
        if self.setup.moves && copies == 0 {
            self.check_identity();
        }
        if self.setup.quiet {
            assert_eq!(copies, 0, "conflict copies with nobody to conflict with");
            assert_eq!(returns, 0, "brought back with nobody else there");
        }
    }

    pub(super) fn note_identity(&mut self) {
        for (who, engine) in self.engines.iter().enumerate() {
            for (id, ino) in &engine.rows.borrow().by_id {
                self.identity.entry((who, id.clone())).or_insert(*ino);
            }
        }
    }

    pub(super) fn check_identity(&self) {
        for (who, engine) in self.engines.iter().enumerate() {
            for (id, ino) in &engine.rows.borrow().by_id {
                let first = self.identity.get(&(who, id.clone())).unwrap_or(ino);
                assert_eq!(ino, first, "moved by the remote, but not the same inode");
            }
        }
    }

    fn compare(&self, engine: &Engine, everything: bool) {
        let rows = engine.rows.borrow();
        let cloud = self.cloud.borrow();
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        for (ino, item) in rows.items.iter().filter(|(ino, _)| **ino != Ino::ROOT) {
            if wanted(&*rows, &item.node).unwrap().is_none() {
                continue;
            }
            let base = rows.bases.get(ino);
            let same = base.is_some_and(|base| Some(&base.place) == item.node.local.as_ref());
            assert!(same, "not at rest: {:?}", item.node.local);
            let path = path(&*rows, *ino).unwrap().unwrap();
            let mut there = None;
            if item.node.kind == Kind::File {
                let seen = cloud.stat(&path);
                let fits =
                    seen.filter(|seen| Some(&seen.version) == base.map(|base| &base.version));
                there = item.data.or(fits.and_then(|seen| seen.digest).map(content));
                let (sees, is) = (self.name(item.seen), self.name(there));
                assert!(there.is_none() || item.seen == there, "user sees {sees}, there is {is}");
            }
            ours.insert(path, there);
        }
        for (path, entry) in cloud.entries.iter().filter(|(path, _)| !path.is_root()) {
            if is_covered(&rows, path) {
                continue;
            }
            let folder = by_path(&*rows, &path.parent().unwrap()).unwrap();
            let visible = folder.is_some_and(|folder| rows.bases[&folder].listed);
            if visible || ours.contains_key(path) {
                theirs.insert(path.clone(), entry.content);
            }
            assert!(!everything || visible, "not listed: {path}");
        }
        assert_eq!(ours, theirs, "diverged");
    }
}

/// Whether something that is kept here only sits where this remote entry, or a folder on the way to it, would be.
fn is_covered(rows: &TreeRows, path: &RemotePath) -> bool {
    let mut folder = Ino::ROOT;
    for name in &path.0 {
        let place = Place::new(folder, name.clone());
        match rows.base_at(&place).unwrap() {
            Some(ino) => folder = ino,
            None => {
                let resident =
                    rows.resident(&place).unwrap().and_then(|ino| rows.node(ino).unwrap());
                return resident.is_some_and(|node| wanted(rows, &node).unwrap().is_none());
            }
        }
    }
    false
}
