//! What users do, and what they see while they do it.

use super::*;

impl Machine {
    /// What a user sees in an open file; of one never read, whatever its version may stand for.
    pub(super) async fn seen(
        &self,
        who: usize,
        ino: Ino,
        content: Content,
        version: Option<String>,
    ) -> Vec<Vec<u8>> {
        if content == Content::Hydrated {
            return self.bytes(who, ino).await.into_iter().collect();
        }
        self.note_all();
        self.versions.lock().unwrap().get(&version.unwrap_or_default()).cloned().unwrap_or_default()
    }

    pub(super) async fn bytes(&self, who: usize, ino: Ino) -> Option<Vec<u8>> {
        let engine = &self.world(who).engine;
        let opened = engine.open(ino, READ).wait().await.ok()?;
        let mut all = Vec::new();
        loop {
            match engine.read(ino, opened.handle, all.len() as u64, 131_072).wait().await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => all.extend_from_slice(&piece),
                Err(_) => {
                    engine.release(ino, opened.handle);
                    return None;
                }
            }
        }
        engine.release(ino, opened.handle);
        Some(all)
    }

    /// Writes a whole new content, as a careful user does: opens, sees what is there, replaces it, closes.
    pub(super) async fn write(&mut self, who: usize, path: &str) -> bool {
        let content = self.content("L");
        self.say(format!("user {who} write {path} {}", label(&content)));
        let (folder, last) = split(path);
        let engine = self.world(who).engine.clone();
        let Ok(parent) = engine.resolve(folder.as_bytes(), true).await else { return false };
        let (ino, handle) = match engine.create(parent, name(last), 0o644, WRITE, ME).wait().await {
            Ok((stat, opened)) => (stat.ino, opened.handle),
            Err(error) => {
                self.allow(Some(error));
                return false;
            }
        };
        let over = match engine.item_status(ino).await {
            Ok(item) if item.version.is_some() || item.size > 0 => {
                if item.content != Content::Hydrated {
                    let version = item.version.clone().unwrap_or_default();
                    self.ledger.blind.push((version, Some(label(&content).into_bytes())));
                }
                self.seen(who, ino, item.content, item.version).await
            }
            _ => Vec::new(),
        };
        let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
        if let Err(error) = engine.set_attributes(ino, Some(handle), cut, ME).wait().await {
            self.allow(Some(error));
            engine.release(ino, handle);
            return false;
        }
        for (index, piece) in content.chunks(131_072).enumerate() {
            let at = index as u64 * 131_072;
            let data = bytes::Bytes::copy_from_slice(piece);
            let wrote = engine.write(ino, handle, at, data, false).wait().await;
            assert_eq!(wrote.unwrap() as usize, piece.len());
        }
        engine.flush(ino, handle).wait().await.unwrap();
        engine.release(ino, handle);
        let what = over.iter().map(|over| label(over)).collect::<Vec<_>>().join(" ");
        self.say(format!("    over {what}"));
        self.ledger.wrote(&content, over);
        self.edited(who, ino);
        true
    }

    pub(super) async fn remove(&mut self, who: usize, path: &str) {
        self.say(format!("user {who} remove {path}"));
        let engine = self.world(who).engine.clone();
        let (folder, last) = split(path);
        let Ok(parent) = engine.resolve(folder.as_bytes(), false).await else { return };
        let Ok(stat) = engine.lookup(parent, &name(last)).wait().await else { return };
        if stat.kind == Kind::Folder {
            return self.allow(engine.remove_folder(parent, &name(last)).wait().await.err());
        }
        let Some((over, version, unread)) = self.victim(who, stat.ino).await else { return };
        if engine.unlink(parent, &name(last)).wait().await.is_ok() {
            self.blindly(unread, version.as_ref());
            self.destroyed(who, stat.ino, over, version).await;
        }
    }

    pub(super) async fn victim(
        &self,
        who: usize,
        ino: Ino,
    ) -> Option<(Vec<Vec<u8>>, Option<String>, bool)> {
        let item = self.world(who).engine.item_status(ino).await.ok()?;
        let over = self.seen(who, ino, item.content, item.version.clone()).await;
        let unread = item.content != Content::Hydrated;
        Some((over, item.version, unread))
    }

    pub(super) fn blindly(&mut self, unread: bool, version: Option<&String>) {
        let version = version.filter(|_| unread).cloned();
        self.ledger.blind.extend(version.map(|version| (version, None)));
    }

    /// A user removed what they saw; if the version changed in that very moment, what it is now as well.
    pub(super) async fn destroyed(
        &mut self,
        who: usize,
        ino: Ino,
        over: Vec<Vec<u8>>,
        version: Option<String>,
    ) {
        let what = over.iter().map(|over| label(over)).collect::<Vec<_>>().join(" ");
        let engine = self.world(who).engine.clone();
        if engine.stat(ino).wait().await.is_ok_and(|stat| stat.links > 0) {
            // The name meant another file when it was removed than when it was looked at.
            self.unsure = true;
            return self.say("    destroyed something else".into());
        }
        self.say(format!("    destroyed {what}"));
        self.ledger.gone.extend(over.iter().map(|one| label(one).into_bytes()));
        let now = self.world(who).engine.item_status(ino).await.ok().and_then(|item| item.version);
        if let Some(now) = now.filter(|now| Some(now) != version.as_ref()) {
            let content = self.versions.lock().unwrap().get(&now).cloned();
            let content = content.unwrap_or_default();
            self.ledger.gone.extend(content.iter().map(|one| label(one).into_bytes()));
        }
    }

    pub(super) async fn rename(&mut self, who: usize, from: &str, to: &str) {
        self.say(format!("user {who} rename {from} {to}"));
        let engine = self.world(who).engine.clone();
        let ((folder, last), (to_folder, to_last)) = (split(from), split(to));
        let Ok(parent) = engine.resolve(folder.as_bytes(), false).await else { return };
        let Ok(to_parent) = engine.resolve(to_folder.as_bytes(), true).await else { return };
        let Ok(source) = engine.lookup(parent, &name(last)).wait().await else { return };
        let victim = match engine.lookup(to_parent, &name(to_last)).wait().await {
            Ok(stat) if stat.ino == source.ino => return,
            Ok(stat) if stat.kind == Kind::File => {
                self.victim(who, stat.ino).await.map(|victim| (stat.ino, victim))
            }
            _ => None,
        };
        let mode = RenameMode::Replace;
        let outcome =
            engine.rename(parent, &name(last), to_parent, name(to_last), mode).wait().await;
        match (outcome, victim) {
            (Ok(()), Some((ino, (over, version, unread)))) => {
                self.blindly(unread, version.as_ref());
                self.destroyed(who, ino, over, version).await;
            }
            (outcome, _) => self.allow(outcome.err()),
        }
    }

    /// Two names exchange what they mean.
    pub(super) async fn exchange(&mut self, who: usize) {
        let kinds = [Kind::File, Kind::Folder];
        let (Some(one), Some(other)) =
            (self.known(who, &kinds).await, self.known(who, &kinds).await)
        else {
            return;
        };
        self.say(format!("user {who} exchange {one} {other}"));
        let engine = self.world(who).engine.clone();
        let ((folder, last), (to_folder, to_last)) = (split(&one), split(&other));
        let Ok(parent) = engine.resolve(folder.as_bytes(), false).await else { return };
        let Ok(to_parent) = engine.resolve(to_folder.as_bytes(), false).await else { return };
        let mode = RenameMode::Exchange;
        let done = engine.rename(parent, &name(last), to_parent, name(to_last), mode).wait().await;
        self.allow(done.err());
    }

    /// Writes over the first bytes of a file, whether the rest is here or not.
    pub(super) async fn patch(&mut self, who: usize) {
        let Some(path) = self.known(who, &[Kind::File]).await else { return };
        self.contents += 1;
        let new = format!("P{}", self.contents);
        self.say(format!("user {who} patch {path} {new}"));
        let engine = self.world(who).engine.clone();
        let Ok(ino) = engine.resolve(path.as_bytes(), false).await else { return };
        let Ok(opened) = engine.open(ino, WRITE).wait().await else { return };
        // What is seen through the very handle is what is edited.
        let before = engine.read(ino, opened.handle, 0, 64).wait().await;
        if let Ok(before) = before
            && before.contains(&b' ')
        {
            let old = label(&before);
            let width = old.len().max(new.len());
            let text = format!("{new:width$} ");
            if before.len() > width {
                let wrote = engine.write(ino, opened.handle, 0, text.into(), false).wait().await;
                let closed = engine.flush(ino, opened.handle).wait().await;
                if wrote.is_ok() && closed.is_ok() {
                    self.say(format!("    over {old}"));
                    self.ledger.wrote(new.as_bytes(), [old.into_bytes()]);
                } else {
                    // Nobody was told that it is safe, but it may be there.
                    self.ledger
                        .children
                        .entry(old.into_bytes())
                        .or_default()
                        .push(new.into_bytes());
                }
            }
        }
        engine.release(ino, opened.handle);
        self.edited(who, ino);
    }

    /// Who has it open here sees what is written here.
    fn edited(&mut self, who: usize, ino: Ino) {
        let same = self.held.iter_mut().filter(|held| (held.who, held.ino) == (who, ino));
        same.for_each(|held| held.content = None);
    }

    /// Opens a file and keeps it open, or goes on with one that is.
    pub(super) async fn handle(&mut self, who: usize) {
        if self.held.len() >= 2 || self.rng.bool() {
            let Some(at) = (!self.held.is_empty()).then(|| self.rng.usize(..self.held.len()))
            else {
                return;
            };
            let held = self.held.swap_remove(at);
            return self.close_held(held).await;
        }
        let Some(path) = self.known(who, &[Kind::File]).await else { return };
        let writer = self.rng.bool();
        let engine = self.world(who).engine.clone();
        let Ok(ino) = engine.resolve(path.as_bytes(), false).await else { return };
        let mode = if writer { WRITE } else { READ };
        let Ok(opened) = engine.open(ino, mode).wait().await else { return };
        self.say(format!("user {who} open {path} writer={writer}"));
        let handle = opened.handle;
        let content = if writer { None } else { self.all_of(who, ino, handle).await };
        self.held.push(Held { who, ino, handle, writer, content });
    }

    async fn all_of(&self, who: usize, ino: Ino, handle: Handle) -> Option<Vec<u8>> {
        let engine = &self.world(who).engine;
        let mut all = Vec::new();
        loop {
            let piece = engine.read(ino, handle, all.len() as u64, 131_072).wait().await.ok()?;
            if piece.is_empty() {
                return Some(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    pub(super) async fn close_held(&mut self, held: Held) {
        let Held { who, ino, handle, writer, content } = held;
        self.say(format!("user {who} goes on with {ino:?} writer={writer}"));
        let engine = self.world(who).engine.clone();
        if let Some(content) = content {
            // Only writers here may have changed it.
            if let Some(now) = self.all_of(who, ino, handle).await {
                let same = label(&now) == label(&content);
                let row = engine.stat(ino).wait().await.is_ok_and(|stat| stat.links > 0);
                assert!(
                    same || row,
                    "an open handle saw {} and then {}",
                    label(&content),
                    label(&now)
                );
            }
        } else if writer
            && let Some(seen) = self.all_of(who, ino, handle).await
            && engine.stat(ino).wait().await.is_ok_and(|stat| stat.links > 0)
        {
            self.edited(who, ino);
            let new = self.content("H");
            let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
            if engine.set_attributes(ino, Some(handle), cut, ME).wait().await.is_ok() {
                let data = bytes::Bytes::copy_from_slice(new.get(..100).unwrap_or(&new));
                let wrote = engine.write(ino, handle, 0, data, false).wait().await.is_ok();
                if wrote && engine.flush(ino, handle).wait().await.is_ok() {
                    self.say(format!("    {} over {}", label(&new), label(&seen)));
                    self.ledger.wrote(&new, [seen]);
                    if engine.stat(ino).wait().await.is_ok_and(|stat| stat.links == 0) {
                        self.ledger.gone.insert(label(&new).into_bytes());
                    }
                }
            }
        }
        engine.release(ino, handle);
    }
}
