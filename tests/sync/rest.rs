//! What must hold when nothing moves any more.

use super::*;

type Told = BTreeMap<String, Option<String>>;

impl Machine {
    pub(super) async fn finish(&mut self) {
        self.there.faults(0, false);
        for who in 0..self.desks.len() {
            self.desk(who).line.set_online(true);
        }
        while let Some(held) = self.held.pop() {
            let fill = Fill { number: 900 + self.held.len() as u64, length: 20, byte: b'h' };
            self.go_on(held, fill).await;
        }
        self.with_store(|store| {
            store.hint_faults(HintFaults::default());
            while store.deliver_late() {}
        });
        self.come_to_rest().await;
        let tree = self.there.tree();
        self.check_contents(&tree).await;
        let own: Vec<_> = tree.keys().filter(|path| path.contains(".dewfs-")).collect();
        assert!(own.is_empty(), "private names left: {own:?}");
        let copies: Vec<_> = tree.keys().filter(|path| path.contains("(conflict ")).collect();
        if self.profile.actor == 0.0 && self.profile.engines == 1 {
            let left = self.pending().await;
            assert!(
                copies.is_empty(),
                "conflict copies with nobody to conflict with: {copies:?}\n{left}"
            );
        }
    }

    async fn come_to_rest(&self) {
        let end = tokio::time::Instant::now() + self.patience;
        let mut pause = Duration::from_millis(10);
        loop {
            self.with_store(MemoryStore::tick);
            match self.differences().await {
                None => return,
                Some(why) if tokio::time::Instant::now() > end => {
                    panic!("no rest: {why}\n{}", self.pending().await);
                }
                // Each look at everything costs more than most histories.
                Some(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 3 / 2).min(Duration::from_millis(200));
        }
    }

    async fn check_contents(&mut self, tree: &BTreeMap<String, Option<Vec<u8>>>) {
        for (path, content) in tree {
            if let Some(content) = content {
                assert!(self.is_whole(content), "{path} is {}", self.mixed(content));
            }
        }
        let contents = tree.values().flatten().filter(|content| self.is_last(content));
        let mut present: HashSet<Vec<u8>> =
            contents.map(|content| label(content).into_bytes()).collect();
        present.extend(self.kept_here().await);
        for (version, child) in std::mem::take(&mut self.ledger.blind) {
            let unread = self.behind(&version);
            match child {
                Some(child) => unread.iter().for_each(|one| self.ledger.child(one, &child)),
                None => self.ledger.gone.extend(unread),
            }
        }
        let lost = self.ledger.lost(&present);
        run::UNSURE.fetch_add(u64::from(self.unsure), Ordering::Relaxed);
        assert!(
            lost.is_empty() || self.unsure,
            "lost {lost:?}, there is {:?}\n{}",
            self.labels(),
            self.pending().await
        );
    }

    /// What is kept here only: under excluded names, and edits in `recovered/`.
    async fn kept_here(&self) -> HashSet<Vec<u8>> {
        let mut kept = HashSet::new();
        for (who, desk) in self.desks.iter().enumerate() {
            let Some(desk) = desk else { continue };
            let recovered = desk.state.path().join("state/recovered");
            for entry in std::fs::read_dir(recovered).into_iter().flatten().flatten() {
                kept.insert(label(&std::fs::read(entry.path()).unwrap_or_default()).into_bytes());
            }
            for (path, content) in self.all_here(who).await.unwrap_or_default() {
                if is_excluded(&path) {
                    kept.extend(content.map(|text| {
                        text.split('#').next().unwrap_or_default().as_bytes().to_vec()
                    }));
                }
            }
        }
        kept
    }

    fn labels(&self) -> Told {
        let tree = self.there.tree().into_iter();
        tree.map(|(path, content)| (path, content.map(|content| told(&content)))).collect()
    }

    async fn pending(&self) -> String {
        let mut text = String::new();
        for who in 0..self.desks.len() {
            let engine = self.engine(who);
            let pending = engine.pending(Ino::ROOT, 5).await;
            let status = engine.mount_status().await.unwrap();
            text += &format!("{who}: {:?} {:?} {pending:#?}\n", status.state, status.last_error);
            text += &dump(self.desk(who));
        }
        text
    }

    /// What still differs between an engine and the remote, if anything.
    async fn differences(&self) -> Option<String> {
        for who in 0..self.desks.len() {
            let engine = self.engine(who);
            // A file that changed while it was read under a coarse version is an error of that one time.
            if let Err(error) = engine.sync_now(Ino::ROOT).await {
                return Some(format!("engine {who} cannot sync: {error}"));
            }
            let left = engine.mount_status().await.map_or(1, |status| status.pending);
            if left > 0 {
                drop(engine.wait_in_sync(Ino::ROOT, Some(Duration::from_millis(100))).await);
                return Some(format!("engine {who} has {left} pending"));
            }
        }
        let there = self.labels();
        for who in 0..self.desks.len() {
            let mut here = match self.all_here(who).await {
                Ok(here) => here,
                Err(error) => return Some(format!("engine {who}: {error}")),
            };
            // What is kept here only is not there, and covers what is there under its name.
            let kept = self.local_only(who).await;
            let is_kept = |path: &String| kept.iter().any(|top| is_at_or_below(path, top));
            here.retain(|path, _| !is_kept(path));
            let mut there = there.clone();
            there.retain(|path, _| !is_kept(path));
            let left = self.engine(who).mount_status().await.map_or(1, |status| status.pending);
            if left > 0 || here != there {
                return Some(format!("engine {who}, {left} pending: {here:?} against {there:?}"));
            }
        }
        None
    }

    /// The paths of what is kept here only.
    async fn local_only(&self, who: usize) -> Vec<String> {
        let engine = self.engine(who);
        let mut folders = vec![Ino::ROOT];
        let mut kept = Vec::new();
        while let Some(folder) = folders.pop() {
            for item in engine.folder_status(folder, false).await.unwrap_or_default() {
                let path = String::from_utf8_lossy(&item.path).into_owned();
                if item.sync == SyncState::LocalOnly {
                    assert!(is_excluded(&path), "{path} is kept here only");
                    kept.push(path);
                } else if item.kind == Kind::Folder {
                    folders.extend(engine.resolve(&item.path, false).await);
                }
            }
        }
        kept
    }

    async fn all_here(&self, who: usize) -> Result<Told, EngineError> {
        let engine = self.engine(who);
        let mut folders = vec![Ino::ROOT];
        let mut here = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for item in engine.folder_status(folder, true).await? {
                let path = String::from_utf8_lossy(&item.path).into_owned();
                let ino = engine.resolve(&item.path, false).await?;
                if item.kind == Kind::Folder {
                    folders.push(ino);
                    here.insert(path, None);
                    continue;
                }
                let opened = engine.open(ino, READ).wait().await?;
                let bytes = self.all_of(who, ino, opened.handle).await;
                engine.release(ino, opened.handle);
                here.insert(path, Some(told(&bytes.ok_or(EngineError::Stale)?)));
            }
        }
        Ok(here)
    }
}

/// Whether an excluded name is on the way.
fn is_excluded(path: &str) -> bool {
    path.split('/').any(|name| name.ends_with('~'))
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A content by its label, and by what it is as a whole.
fn told(content: &[u8]) -> String {
    let hash = blake3::hash(content).to_hex();
    format!("{}#{}", label(content), &hash[..8])
}

/// The catalog's rows that syncing is about, for people.
fn dump(desk: &Desk) -> String {
    let file = desk.state.path().join("state/catalog.db");
    let catalog = rusqlite::Connection::open(file).unwrap();
    let mut text = String::new();
    for table in ["inode", "base", "outbox", "look_again", "missing"] {
        let Ok(mut rows) = catalog.prepare(&format!("SELECT * FROM {table}")) else { continue };
        let names: Vec<String> = rows.column_names().map(str::to_owned).collect();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            text += table;
            for (at, name) in names.iter().enumerate() {
                text += &match row.get_ref(at).unwrap() {
                    rusqlite::types::ValueRef::Null => continue,
                    rusqlite::types::ValueRef::Integer(number) => format!(" {name}={number}"),
                    other => format!(
                        " {name}={}",
                        String::from_utf8_lossy(other.as_bytes().unwrap_or_default())
                    ),
                };
            }
            text += "\n";
        }
    }
    text
}
