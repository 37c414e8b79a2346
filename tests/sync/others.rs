//! Somebody else at the remote, and death.

use super::*;
use tokio::sync::Notify;

impl Machine {
    pub(super) fn act(&mut self, act: &Act) {
        match act {
            Act::Put(path, fill) => {
                let content = fill.bytes("R");
                if let Some(over) = self.there.put(path, &content) {
                    self.note_version(path);
                    self.made(&content);
                    self.ledger.wrote(&content, over);
                }
            }
            Act::MakeFolder(path) => self.there.mkdir(path),
            Act::Remove(path) => {
                let below = format!("{path}/");
                if path.is_empty() || self.there.tree().keys().any(|p| p.starts_with(&below)) {
                    return;
                }
                let over = self.there.rm(path);
                self.ledger.gone.extend(over.iter().map(|one| label(one).into_bytes()));
            }
            Act::Move(path, to) => {
                if !path.is_empty() && !format!("{to}/").starts_with(&format!("{path}/")) {
                    self.there.mv(path, to);
                }
            }
        }
    }

    /// The process dies: at once, or at a crash point. What was not flushed nobody was told to be safe.
    pub(super) async fn crash(&mut self, who: usize, points: Option<u64>) {
        let desk = self.desks[who].take().unwrap();
        if let Some(points) = points {
            let (left, hit) = (AtomicU64::new(points), AtomicBool::new(false));
            let (line, dies) = (desk.line.clone(), Arc::new(Notify::new()));
            let dying = dies.clone();
            desk.engine.on_crash_point(Arc::new(move |_| {
                if hit.load(Ordering::SeqCst) {
                    return true;
                }
                let none =
                    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                if none.is_err() {
                    hit.store(true, Ordering::SeqCst);
                    line.cut_off();
                    dying.notify_one();
                    return true;
                }
                false
            }));
            // It may have nothing more to do: then it dies here.
            let _either = tokio::time::timeout(Duration::from_millis(40), dies.notified()).await;
        }
        desk.line.cut_off();
        self.held.retain(|held| held.who != who);
        let Desk { engine, state, process, .. } = desk;
        process.kill(engine).await;
        self.desks[who] = Some(self.start(who, state).await);
    }

    pub(super) async fn restart(&mut self, who: usize) {
        let desk = self.desks[who].take().unwrap();
        desk.engine.stop().await;
        desk.line.cut_off();
        // The handles of a process end with it; what was not flushed nobody was told to be safe.
        for held in self.held.extract_if(.., |held| held.who == who) {
            desk.engine.release(held.ino, held.handle);
        }
        self.desks[who] = Some(self.start(who, desk.state).await);
    }
}
