//! Somebody else at the remote, and death.

use super::*;

impl Machine {
    pub(super) fn actor(&mut self) {
        let tree = self.store.snapshot_text();
        let visible = |path: &&String| !path.contains(".dewfs") && !path.contains(".aside");
        let all: Vec<String> = tree.keys().filter(visible).cloned().collect();
        let files: Vec<String> = all.iter().filter(|path| tree[*path].is_some()).cloned().collect();
        let mut folders: Vec<String> =
            all.iter().filter(|path| tree[*path].is_none()).cloned().collect();
        folders.push(String::new());
        let folder = self.rng.choice(folders).unwrap();
        let last = self.rng.choice(["a", "b", "c"]).unwrap();
        let last = if self.profile.excludes && self.rng.u32(..5) == 0 { "x~" } else { last };
        let new = if folder.is_empty() { last.to_owned() } else { format!("{folder}/{last}") };
        let verb = self.rng.choice(["put", "put", "put", "mkdir", "rm", "mv", "mv"]).unwrap();
        match verb {
            "put" => {
                let path =
                    if self.rng.bool() { self.rng.choice(files).unwrap_or(new) } else { new };
                let content = self.content("R");
                self.say(format!("remote put {path} {}", label(&content)));
                self.actor_put(&path, &content);
            }
            "mkdir" => {
                self.say(format!("remote mkdir {new}"));
                drop(self.store.mkdir(&new));
            }
            "rm" => {
                let Some(path) = self.rng.choice(all) else { return };
                let has_more = tree.keys().any(|other| other.starts_with(&format!("{path}/")));
                if has_more {
                    return;
                }
                self.say(format!("remote rm {path}"));
                self.actor_rm(&path);
            }
            _ => {
                let Some(path) = self.rng.choice(all) else { return };
                if format!("{new}/").starts_with(&format!("{path}/")) {
                    return;
                }
                self.say(format!("remote mv {path} {new}"));
                drop(self.store.mv(&path, &new));
            }
        }
    }

    /// Somebody else writes: over what they saw. If an engine came in between, they did not see that.
    pub(super) fn actor_put(&mut self, path: &str, content: &[u8]) {
        let before = self.store.peek(path).map(|seen| seen.version);
        let over = self.store.content(path).map(|content| content.to_vec());
        if self.store.peek(path).map(|seen| seen.version) != before {
            return;
        }
        // An engine may still come in between; then what it wrote is overwritten unseen, which is nobody's fault here.
        if self.store.put(path, content.to_vec()).is_ok() {
            note_version(&self.store, &self.versions, path);
            let was_file = before.is_some() && over.is_some();
            self.ledger.wrote(content, over.filter(|_| was_file));
        }
    }

    pub(super) fn actor_rm(&mut self, path: &str) {
        let over = self.store.content(path).map(|content| content.to_vec());
        if self.store.rm(path).is_ok() {
            self.ledger.gone.extend(over.iter().map(|one| label(one).into_bytes()));
        }
    }

    /// The process dies: at once, or at a crash point.
    pub(super) async fn crash(&mut self, who: usize) {
        self.say(format!("crash {who}"));
        // Its handles end with it; what was not flushed nobody was told to be safe.
        self.held.retain(|held| held.who != who);
        let world = self.worlds[who].take().unwrap();
        if self.rng.bool() {
            let left = AtomicU64::new(self.rng.u64(0..6));
            let dying = self.dying.clone();
            dying.store(false, Ordering::SeqCst);
            let remote = world.remote.clone();
            let hit = dying.clone();
            world.engine.on_crash_point(Arc::new(move |_| {
                if hit.load(Ordering::SeqCst) {
                    return true;
                }
                if left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_err()
                {
                    hit.store(true, Ordering::SeqCst);
                    remote.cut_off();
                    return true;
                }
                false
            }));
            for _ in 0..40 {
                if dying.load(Ordering::SeqCst) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        world.remote.cut_off();
        world.engine.stop().await;
        self.worlds[who] = Some(World::start(self.store.clone(), world.state, settings()).await);
    }
}
