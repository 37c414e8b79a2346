//! What must hold when nothing moves any more.

use super::*;

impl Machine {
    pub(super) async fn finish(&mut self) {
        self.store.random_faults(None);
        while let Some(held) = self.held.pop() {
            self.close_held(held).await;
        }
        self.store.hint_faults(HintFaults::default());
        if self.profile.hints.drop > 0 {
            self.store.expire_cursors();
        }
        while self.store.deliver_late() {}
        let end = tokio::time::Instant::now() + REST;
        loop {
            self.store.tick();
            match self.differences().await {
                None => break,
                Some(why) if tokio::time::Instant::now() > end => {
                    panic!("no rest: {why}\n{}", self.pending().await);
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(15)).await,
            }
        }
        let tree = self.store.snapshot_text();
        let mut present: HashSet<Vec<u8>> =
            tree.values().flatten().map(|content| label(content).into_bytes()).collect();
        present.extend(self.kept_here().await);
        for (version, child) in std::mem::take(&mut self.ledger.blind) {
            let unread = self.versions.lock().unwrap().get(&version).cloned().unwrap_or_default();
            match child {
                Some(child) => unread.into_iter().for_each(|one| {
                    let one = label(&one).into_bytes();
                    self.ledger.children.entry(one).or_default().push(child.clone());
                }),
                None => {
                    self.ledger.gone.extend(unread.iter().map(|one| label(one).into_bytes()));
                }
            }
        }
        let lost = self.ledger.lost(&present);
        assert!(
            lost.is_empty() || self.unsure,
            "lost {lost:?}, there is {:?}\n{}",
            self.labels(),
            self.pending().await
        );
        let own: Vec<_> = tree.keys().filter(|path| path.contains(".dewfs-")).collect();
        assert!(own.is_empty(), "private names left: {own:?}");
        let copies = tree.keys().filter(|path| path.contains("(conflict ")).count();
        if self.profile.actor == 0.0 && self.profile.engines == 1 {
            assert_eq!(copies, 0, "conflict copies with nobody to conflict with: {tree:?}");
        }
    }

    /// What is kept here only: under excluded names, and edits in `recovered/`.
    async fn kept_here(&self) -> HashSet<Vec<u8>> {
        let mut kept = HashSet::new();
        for (who, world) in self.worlds.iter().enumerate() {
            let Some(world) = world else { continue };
            let recovered = world.state.path().join("state/recovered");
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

    pub(super) fn labels(&self) -> BTreeMap<String, Option<String>> {
        let tree = self.store.snapshot_text().into_iter();
        tree.map(|(path, content)| (path, content.map(|content| told(&content)))).collect()
    }

    pub(super) async fn pending(&self) -> String {
        let mut text = String::new();
        for who in 0..self.worlds.len() {
            let engine = &self.world(who).engine;
            let pending = engine.pending(Ino::ROOT, 5).await;
            let status = engine.mount_status().await.unwrap();
            text += &format!("{who}: {:?} {:?} {pending:#?}\n", status.state, status.last_error);
            text += &dump(self.world(who));
        }
        text
    }

    /// What still differs between an engine and the remote, if anything.
    pub(super) async fn differences(&self) -> Option<String> {
        let there = self.labels();
        for who in 0..self.worlds.len() {
            let engine = &self.world(who).engine;
            engine.sync_now(Ino::ROOT).await.unwrap();
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
            let left = engine.mount_status().await.map_or(1, |status| status.pending);
            if left > 0 {
                return Some(format!(
                    "engine {who} has {left} pending; {here:?} against {there:?}"
                ));
            }
            if here != there {
                return Some(format!("engine {who}: {here:?} against {there:?}"));
            }
        }
        None
    }

    /// The paths of what is kept here only.
    async fn local_only(&self, who: usize) -> Vec<String> {
        let engine = &self.world(who).engine;
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

    pub(super) async fn all_here(
        &self,
        who: usize,
    ) -> Result<BTreeMap<String, Option<String>>, EngineError> {
        let engine = &self.world(who).engine;
        let mut folders = vec![Ino::ROOT];
        let mut here = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for item in engine.folder_status(folder, true).await? {
                let path = String::from_utf8_lossy(&item.path).into_owned();
                let ino = engine.resolve(&item.path, false).await?;
                if item.kind == Kind::Folder {
                    folders.push(ino);
                    here.insert(path, None);
                } else {
                    let bytes = self.bytes(who, ino).await.ok_or(EngineError::Stale)?;
                    here.insert(path, Some(told(&bytes)));
                }
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
fn dump(world: &World) -> String {
    let file = world.state.path().join("state/catalog.db");
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
