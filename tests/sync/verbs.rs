//! What users do, and what they see while they do it.

use dewfs::engine::SetTime;

use super::*;

/// Bytes over the first of which a patch writes a few more.
const FURTHER: usize = 20_000;
const PIECE: usize = 131_072;

/// Is a file that is about to be destroyed: what a user saw in it, its version, and whether that stands for contents which were
/// not read as well.
struct Victim {
    ino: Ino,
    over: Vec<Vec<u8>>,
    version: Option<String>,
    unread: bool,
    /// Held open, it stands for what was seen: what the remote has instead is another inode.
    handle: Handle,
}

impl Machine {
    /// What a user sees in a file; of one never read, whatever its version may stand for.
    async fn victim(&self, who: usize, folder: Ino, last: &Name, ino: Ino) -> Option<Victim> {
        let engine = self.engine(who);
        let handle = engine.open(ino, READ).wait().await.ok()?.handle;
        let seen = self.seen(who, ino).await;
        let now = engine.lookup(folder, last).wait().await;
        // Whose name means another file by then looks no further.
        if seen.is_none() || now.is_ok_and(|stat| stat.ino != ino) {
            engine.release(ino, handle);
            return None;
        }
        let (over, version, unread) = seen?;
        Some(Victim { ino, over, version, unread, handle })
    }

    /// What is in a file, its version, and whether that stands for contents which were not read as well.
    async fn seen(&self, who: usize, ino: Ino) -> Option<(Vec<Vec<u8>>, Option<String>, bool)> {
        let engine = self.engine(who);
        if !self.profile.may_be_blind() {
            engine.hydrate(ino).await.ok()?;
        }
        let item = engine.item_status(ino).await.ok()?;
        let version = item.version;
        if item.content == Content::Hydrated {
            // Where versions tick, others may have put another content under the very version that this one was read under.
            let seen = self.bytes(who, ino).await.into_iter().collect();
            return Some((seen, version, self.profile.ticks()));
        }
        if !self.profile.may_be_blind() {
            return None;
        }
        self.note_all();
        let mut over = self.behind(version.as_deref().unwrap_or_default());
        if item.sync != SyncState::InSync {
            // A part of it was written here, over what its version stands for.
            over.extend(self.head_here(who, ino).await.map(|head| label(&head).into_bytes()));
        }
        Some((over, version, true))
    }

    /// The first bytes of a file, if they are here.
    async fn head_here(&self, who: usize, ino: Ino) -> Option<Vec<u8>> {
        let engine = self.engine(who);
        let handle = engine.open(ino, READ).wait().await.ok()?.handle;
        let head = match engine.read(ino, handle, 0, 64) {
            Answer::Ready(head) => head.ok(),
            _ => None,
        };
        engine.release(ino, handle);
        head.map(Vec::from)
    }

    async fn bytes(&self, who: usize, ino: Ino) -> Option<Vec<u8>> {
        let engine = self.engine(who);
        let opened = engine.open(ino, READ).wait().await.ok()?;
        let all = self.all_of(who, ino, opened.handle).await;
        engine.release(ino, opened.handle);
        all
    }

    pub(super) async fn all_of(&self, who: usize, ino: Ino, handle: Handle) -> Option<Vec<u8>> {
        let engine = self.engine(who);
        let mut all = Vec::new();
        loop {
            let at = all.len() as u64;
            let piece = engine.read(ino, handle, at, PIECE as u32).wait().await.ok()?;
            if piece.is_empty() {
                return Some(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    /// Opens a file by its path; `None` if it is not there.
    async fn opened(&self, who: usize, path: &str, writer: bool) -> Option<(Ino, Handle)> {
        let engine = self.engine(who);
        let ino = engine.resolve(path.as_bytes(), true).await.ok()?;
        let mode = if writer { WRITE } else { READ };
        Some((ino, engine.open(ino, mode).wait().await.ok()?.handle))
    }

    /// Writes and flushes; whether the program was told that it is safe.
    async fn put(&self, who: usize, ino: Ino, handle: Handle, content: &[u8]) -> bool {
        let engine = self.engine(who);
        for (index, piece) in content.chunks(PIECE).enumerate() {
            let at = (index * PIECE) as u64;
            let data = bytes::Bytes::copy_from_slice(piece);
            match engine.write(ino, handle, at, data, false).wait().await {
                Ok(wrote) => assert_eq!(wrote as usize, piece.len()),
                Err(error) => {
                    self.allow(Some(error));
                    return false;
                }
            }
        }
        let flushed = engine.flush(ino, handle).wait().await;
        let is_safe = flushed.is_ok();
        self.allow(flushed.err());
        is_safe
    }

    /// Writes a whole new content, as a careful user does: opens, sees what is there, replaces it, closes.
    pub(super) async fn write(&mut self, who: usize, path: &str, fill: Fill) -> bool {
        let content = fill.bytes("L");
        let (folder, last) = split(path);
        let engine = self.engine(who);
        let Ok(parent) = engine.resolve(folder.as_bytes(), true).await else { return false };
        let (ino, handle) = match engine.create(parent, name(last), 0o644, WRITE, ME).wait().await {
            Ok((stat, opened)) => (stat.ino, opened.handle),
            Err(error) => {
                self.allow(Some(error));
                return false;
            }
        };
        let done = self.replace(who, ino, handle, &content).await;
        engine.release(ino, handle);
        self.edited(who, ino);
        done
    }

    async fn replace(&mut self, who: usize, ino: Ino, handle: Handle, content: &[u8]) -> bool {
        let engine = self.engine(who);
        let is_new = engine
            .item_status(ino)
            .await
            .is_ok_and(|item| item.version.is_none() && item.size == 0);
        let seen = if is_new { None } else { self.seen(who, ino).await };
        if !is_new && seen.is_none() {
            return false;
        }
        let (over, version, unread) = seen.unwrap_or_default();
        let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
        if let Err(error) = engine.set_attributes(ino, Some(handle), cut, ME).wait().await {
            self.allow(Some(error));
            return false;
        }
        if let Some(version) = version.filter(|_| unread) {
            self.ledger.blind.push((version, Some(label(content).into_bytes())));
        }
        self.made(content);
        if !self.put(who, ino, handle, content).await {
            // Nobody was told that it is safe, but some of it may be there, in place of what was.
            self.doubtful.extend([label(content), String::new()]);
            over.iter().for_each(|over| self.ledger.child(over, content));
            self.ledger.gone.extend(over.iter().map(|over| label(over).into_bytes()));
            return false;
        }
        let what = over.iter().map(|over| label(over)).collect::<Vec<_>>().join(" ");
        self.say(format!("    {} over {what}", label(content)));
        self.ledger.wrote(content, over);
        true
    }

    pub(super) async fn save(&mut self, who: usize, path: &str, fill: Fill, rests: bool) {
        let (folder, _) = split(path);
        let temp = if folder.is_empty() { "t".to_owned() } else { format!("{folder}/t") };
        if self.write(who, &temp, fill).await {
            if rests {
                tokio::time::sleep(Duration::from_millis(8)).await;
            }
            self.rename(who, &temp, path).await;
        }
    }

    pub(super) async fn make_folder(&self, who: usize, path: &str) {
        let (folder, last) = split(path);
        let engine = self.engine(who);
        if let Ok(parent) = engine.resolve(folder.as_bytes(), true).await {
            self.allow(engine.make_folder(parent, name(last), 0o755, ME).wait().await.err());
        }
    }

    pub(super) async fn remove(&mut self, who: usize, path: &str) {
        let engine = self.engine(who);
        let (folder, last) = split(path);
        let Ok(parent) = engine.resolve(folder.as_bytes(), true).await else { return };
        let Ok(stat) = engine.lookup(parent, &name(last)).wait().await else { return };
        if stat.kind == Kind::Folder {
            return self.allow(engine.remove_folder(parent, &name(last)).wait().await.err());
        }
        let Some(victim) = self.victim(who, parent, &name(last), stat.ino).await else { return };
        self.desk(who).line.hold(true);
        if engine.unlink(parent, &name(last)).wait().await.is_ok() {
            self.destroyed(who, &victim, None).await;
        }
        self.desk(who).line.hold(false);
        engine.release(victim.ino, victim.handle);
    }

    /// A user removed a file, or put `newcomer` in its place. Nothing was sent since: what that destroys is still known here.
    async fn destroyed(&mut self, who: usize, victim: &Victim, newcomer: Option<Ino>) {
        let Victim { ino, over, version, unread, .. } = victim;
        self.ledger
            .blind
            .extend(version.clone().filter(|_| *unread).map(|version| (version, None)));
        let what = over.iter().map(|over| label(over)).collect::<Vec<_>>().join(" ");
        if !self.was_destroyed(who, victim, newcomer).await {
            // The name meant another file when it was removed than when it was looked at.
            self.unsure = true;
            return self.say(format!("    destroyed something else than {what} ({})", ino.0));
        }
        self.say(format!("    destroyed {what}"));
        self.ledger.gone.extend(over.iter().map(|one| label(one).into_bytes()));
    }

    /// Whether it is what was seen that is to go from the remote, or never was there.
    async fn was_destroyed(&self, who: usize, victim: &Victim, newcomer: Option<Ino>) -> bool {
        let engine = self.engine(who);
        let version = async |ino| engine.item_status(ino).await.ok().and_then(|item| item.version);
        if engine.stat(victim.ino).wait().await.is_ok_and(|stat| stat.links > 0) {
            return false;
        }
        // Its row is there, or the newcomer took over what it stands for; else another inode had taken its place.
        if self.is_pushed_aside(who, victim.ino) {
            return false;
        }
        let tombstone = version(victim.ino).await.is_some() || victim.version.is_none();
        tombstone
            || match newcomer {
                Some(newcomer) => version(newcomer).await == victim.version,
                None => false,
            }
    }

    /// Whether the remote has another entry in its place, so that nobody knows where it is.
    fn is_pushed_aside(&self, who: usize, ino: Ino) -> bool {
        let file = self.desk(who).state.path().join("state/catalog.db");
        let catalog = rusqlite::Connection::open(file).unwrap();
        let name = "SELECT 1 FROM base WHERE ino = ?1 AND CAST(name AS TEXT) LIKE '.dewfs-%'";
        catalog.prepare(name).unwrap().exists([i64::try_from(ino.0).unwrap()]).unwrap()
    }

    pub(super) async fn rename(&mut self, who: usize, from: &str, to: &str) {
        let engine = self.engine(who);
        let ((folder, last), (to_folder, to_last)) = (split(from), split(to));
        let Ok(parent) = engine.resolve(folder.as_bytes(), true).await else { return };
        let Ok(to_parent) = engine.resolve(to_folder.as_bytes(), true).await else { return };
        let Ok(source) = engine.lookup(parent, &name(last)).wait().await else { return };
        let victim = match engine.lookup(to_parent, &name(to_last)).wait().await {
            Ok(stat) if stat.ino == source.ino => return,
            Ok(stat) if stat.kind == Kind::File => {
                let victim = self.victim(who, to_parent, &name(to_last), stat.ino).await;
                if victim.is_none() {
                    return;
                }
                victim
            }
            _ => None,
        };
        // Where nothing was seen nothing is to be replaced: somebody else's may come there in this very moment.
        let is_alone = self.profile.actor == 0.0 && self.profile.engines == 1;
        let replace = victim.is_some() || is_alone;
        let mode = if replace { RenameMode::Replace } else { RenameMode::NoReplace };
        self.desk(who).line.hold(victim.is_some());
        let outcome =
            engine.rename(parent, &name(last), to_parent, name(to_last), mode).wait().await;
        match (&outcome, &victim) {
            (Ok(()), Some(victim)) => self.destroyed(who, victim, Some(source.ino)).await,
            _ => self.allow(outcome.err()),
        }
        self.desk(who).line.hold(false);
        if let Some(victim) = victim {
            engine.release(victim.ino, victim.handle);
        }
    }

    /// Two names exchange what they mean.
    pub(super) async fn exchange(&mut self, who: usize, one: &str, other: &str) {
        let engine = self.engine(who);
        let ((folder, last), (to_folder, to_last)) = (split(one), split(other));
        let Ok(parent) = engine.resolve(folder.as_bytes(), true).await else { return };
        let Ok(to_parent) = engine.resolve(to_folder.as_bytes(), true).await else { return };
        let mode = RenameMode::Exchange;
        let done = engine.rename(parent, &name(last), to_parent, name(to_last), mode).wait().await;
        self.allow(done.err());
    }

    /// Writes over the first bytes of a file and a few further on, whether the rest is here or not, and perhaps cuts it.
    pub(super) async fn patch(&mut self, who: usize, path: &str, fill: Fill, cut: Option<usize>) {
        let Some((ino, handle)) = self.opened(who, path, true).await else { return };
        let engine = self.engine(who);
        // What is seen through the very handle is what is edited.
        let before = engine.read(ino, handle, 0, 64).wait().await.unwrap_or_default();
        let old = label(&before);
        let new = format!("P{}", fill.number);
        let width = old.len().max(new.len());
        if !old.is_empty() && before.len() > width + 1 && before.contains(&b' ') {
            let text = format!("{new:width$} ").into_bytes();
            let mut patched = Patched::over(self.all_under(&old));
            let is_known = !self.doubtful.contains(&old) && patched.fits(text.len());
            patched.write(0, &text);
            let size = engine.stat(ino).wait().await.map_or(0, |stat| stat.size as usize);
            let wrote = engine.write(ino, handle, 0, text.into(), false).wait().await;
            let mut done = wrote.is_ok();
            if done && size > FURTHER + 100 {
                let more = vec![fill.byte; 100];
                patched.write(FURTHER, &more);
                let wrote = engine.write(ino, handle, FURTHER as u64, more.into(), false).wait();
                done &= wrote.await.is_ok();
            }
            if let Some(cut) = cut.filter(|_| done) {
                let set = SetAttributes { size: Some(cut as u64), ..SetAttributes::default() };
                done &= engine.set_attributes(ino, Some(handle), set, ME).wait().await.is_ok();
                patched.cut(cut);
            }
            done &= engine.flush(ino, handle).wait().await.is_ok();
            if is_known && done {
                let Patched { mut now, steps } = patched;
                self.whole.insert(new.clone(), now.remove(0));
                self.also.insert(new.clone(), now);
                self.steps.insert(new.clone(), steps);
            } else {
                self.doubtful.insert(new.clone());
            }
            if self.profile.ticks() {
                // Under a young version two contents look alike, and what a patch was made over is not remembered.
                let version = engine.item_status(ino).await.ok().and_then(|item| item.version);
                let child = new.clone().into_bytes();
                self.ledger.blind.extend(version.map(|version| (version, Some(child))));
            }
            if done {
                self.say(format!("    {new} over {old}"));
                self.ledger.wrote(new.as_bytes(), [old.into_bytes()]);
            } else {
                // Nobody was told that it is safe, but it may be there.
                self.doubtful.insert(old.clone());
                self.ledger.child(old.as_bytes(), new.as_bytes());
            }
        }
        engine.release(ino, handle);
        self.edited(who, ino);
    }

    /// A program that reads a file to the end sees one content as a whole.
    pub(super) async fn read(&self, who: usize, path: &str) {
        let Some((ino, handle)) = self.opened(who, path, false).await else { return };
        let all = self.all_of(who, ino, handle).await;
        self.engine(who).release(ino, handle);
        if let Some(all) = all.filter(|all| !self.looks_like_another(&label(all))) {
            assert!(self.is_whole(&all), "read a mixture under {}", label(&all));
        }
    }

    /// A program that reads parts of a file sees parts of one content.
    pub(super) async fn read_part(&self, who: usize, path: &str, offset: u64) {
        let Some((ino, handle)) = self.opened(who, path, false).await else { return };
        let engine = self.engine(who);
        let part = engine.read(ino, handle, offset, 3000).wait().await;
        let head = engine.read(ino, handle, 0, 64).wait().await;
        engine.release(ino, handle);
        let (Ok(part), Ok(head)) = (part, head) else { return };
        let word = label(&head);
        let is_known = !self.doubtful.contains(&word) && !self.looks_like_another(&word);
        if self.whole.contains_key(&word) && is_known {
            // Who writes for long is sent meanwhile.
            let is_part = |whole: &Vec<u8>| {
                let from = whole.len().min(offset as usize);
                part == whole[from..whole.len().min(from + 3000)]
            };
            let fits = self.all_under(&word).iter().any(is_part);
            assert!(fits, "read another part than of {word} at {offset}");
        }
    }

    pub(super) async fn list(&self, who: usize, path: &str) {
        let engine = self.engine(who);
        if let Ok(ino) = engine.resolve(path.as_bytes(), true).await {
            drop(engine.read_dir(ino, 0, 100).wait().await);
        }
    }

    pub(super) async fn free(&self, who: usize, path: &str) {
        let engine = self.engine(who);
        if let Ok(ino) = engine.resolve(path.as_bytes(), false).await {
            drop(engine.free(ino, false).await);
        }
    }

    pub(super) async fn set_time(&self, who: usize, path: &str, seconds: i64) {
        let engine = self.engine(who);
        if let Ok(ino) = engine.resolve(path.as_bytes(), true).await {
            let mtime = Some(SetTime::At(seconds * 1_000_000_000));
            let set = SetAttributes { mtime, ..SetAttributes::default() };
            self.allow(engine.set_attributes(ino, None, set, ME).wait().await.err());
        }
    }

    /// Who has it open here sees what is written here.
    fn edited(&mut self, who: usize, ino: Ino) {
        let same = self.held.iter_mut().filter(|held| (held.who, held.ino) == (who, ino));
        same.for_each(|held| held.content = None);
    }

    /// Opens a file and keeps it open.
    pub(super) async fn hold(&mut self, who: usize, path: &str, writer: bool) {
        let Some((ino, handle)) = self.opened(who, path, writer).await else { return };
        let content = if writer { None } else { self.all_of(who, ino, handle).await };
        self.held.push(Held { who, ino, handle, writer, content });
    }

    /// Goes on with a file that was held open, and closes it.
    pub(super) async fn go_on(&mut self, held: Held, fill: Fill) {
        let Held { who, ino, handle, writer, content } = held;
        let engine = self.engine(who);
        if let Some(content) = content {
            // Only writers here may have changed it.
            if let Some(now) = self.all_of(who, ino, handle).await {
                let same = label(&now) == label(&content);
                let row = engine.stat(ino).wait().await.is_ok_and(|stat| stat.links > 0);
                let (was, is) = (label(&content), label(&now));
                assert!(same || row, "an open handle saw {was} and then {is}");
            }
        } else if writer
            && let Some(seen) = self.all_of(who, ino, handle).await
            && engine.stat(ino).wait().await.is_ok_and(|stat| stat.links > 0)
        {
            self.edited(who, ino);
            let new = Fill { length: fill.length.min(100), ..fill }.bytes("H");
            let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
            if engine.set_attributes(ino, Some(handle), cut, ME).wait().await.is_ok() {
                self.made(&new);
                if self.put(who, ino, handle, &new).await {
                    self.say(format!("    {} over {}", label(&new), label(&seen)));
                    self.ledger.wrote(&new, [seen]);
                    if engine.stat(ino).wait().await.is_ok_and(|stat| stat.links == 0) {
                        self.ledger.gone.insert(label(&new).into_bytes());
                    }
                } else {
                    self.doubtful.extend([label(&new), String::new()]);
                    self.ledger.gone.insert(label(&seen).into_bytes());
                }
            }
        }
        engine.release(ino, handle);
    }
}
