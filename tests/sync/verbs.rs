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
                    self.ledger.blind.push((version, Some(content.clone())));
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
        self.ledger.gone.extend(over);
        let now = self.world(who).engine.item_status(ino).await.ok().and_then(|item| item.version);
        if let Some(now) = now.filter(|now| Some(now) != version.as_ref()) {
            let content = self.versions.lock().unwrap().get(&now).cloned();
            self.ledger.gone.extend(content.unwrap_or_default());
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
}
