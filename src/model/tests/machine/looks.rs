//! The workers that look: the feed, the walk, the lister.

use super::*;

impl Run {
    /// One page of hints: looks at each, applies all and advances the cursor in one transaction.
    pub async fn feed(self) -> bool {
        if self.engine.walks {
            return self.walk().await.unwrap_or(true);
        }
        let since = self.engine.cloud.borrow().hints.len();
        let due: Vec<_> = self.rows().missing.iter().map(|(ino, at)| (*ino, *at)).collect();
        match self.look(&due).await {
            Ok((looks, gone, cursor)) => {
                let mut rows = self.rows();
                let did = !looks.is_empty() || !gone.is_empty();
                apply_page(&mut *rows, looks).unwrap();
                for (ino, stamp, at, seen) in gone {
                    settle_missing(&mut *rows, ino, stamp, &at, seen.as_ref()).unwrap();
                }
                self.engine.cursor.set(cursor);
                did
            }
            Err(Failed::Lost) => true,
            Err(Failed::Refused(_)) => {
                self.engine.cursor.set(since);
                lost_hints(&mut *self.rows()).unwrap();
                true
            }
        }
    }

    /// One round of a walk by folder versions.
    async fn walk(&self) -> Result<bool, Failed> {
        let root = RemotePath::root();
        let seen = self.stat(&root).await?.unwrap();
        let (due, marked) = {
            let mut rows = self.rows();
            let before = rows.look_again.get(&Ino::ROOT).copied();
            look_from_the_root(&mut *rows, &seen.version).unwrap();
            let marked = rows.look_again.get(&Ino::ROOT).copied() != before;
            let tried = self.engine.tried.borrow();
            // Nobody knows where to list what is itself missing.
            let lost = |folder: &Ino| is_parked(&*rows, &rows.items[folder].node).unwrap();
            let drained = rows.look_again.keys().all(|one| tried.contains(one) || lost(one));
            let due: Vec<_> = rows.missing.iter().map(|(ino, at)| (*ino, *at)).collect();
            (if drained { due } else { Vec::new() }, marked)
        };
        let mut gone = Vec::new();
        for (ino, stamp) in due {
            let at = path(&*self.rows(), ino).unwrap();
            if let Some(at) = at {
                let seen = self.stat(&at).await?;
                gone.push((ino, stamp, at, seen));
            }
        }
        let did = marked || !gone.is_empty();
        for (ino, stamp, at, seen) in gone {
            settle_missing(&mut *self.rows(), ino, stamp, &at, seen.as_ref()).unwrap();
        }
        Ok(did)
    }

    #[allow(clippy::type_complexity)]
    async fn look(
        &self,
        due: &[(Ino, Tick)],
    ) -> Result<(Vec<Look>, Vec<(Ino, Tick, RemotePath, Option<Observed>)>, usize), Failed> {
        let Answer::Hints(page, cursor) = self.call(Ask::Changes(self.engine.cursor.get())).await?
        else {
            unreachable!()
        };
        let empty = page.is_empty();
        let mut paths: Vec<RemotePath> =
            page.into_iter().collect::<HashSet<_>>().into_iter().collect();
        paths.sort_by_key(|path| (path.0.len(), path.clone()));
        let mut looks = Vec::new();
        for path in paths {
            let since = Tick(self.rows().tick);
            let seen = self.stat(&path).await?;
            let mut above = Vec::new();
            let id = seen.as_ref().and_then(|seen| seen.id.clone());
            if id.is_some_and(|id| self.rows().by_id.contains_key(&id)) {
                for depth in 1..path.0.len() {
                    let folder = RemotePath(path.0[..depth].to_vec());
                    if by_path(&*self.rows(), &folder).unwrap().is_none() {
                        let seen = self.stat(&folder).await?;
                        above.push(Sight { path: folder, seen, since });
                    }
                }
            }
            looks.push(Look { above, sight: Sight { path, seen, since } });
        }
        let mut gone = Vec::new();
        for (ino, stamp) in due.iter().filter(|_| empty) {
            let at = path(&*self.rows(), *ino).unwrap();
            if let Some(at) = at {
                let seen = self.stat(&at).await?;
                gone.push((*ino, *stamp, at, seen));
            }
        }
        Ok((looks, gone, cursor))
    }

    /// Lists one folder that somebody needs or that is marked look-again.
    pub async fn lister(self) -> bool {
        let (folder, mut listing) = {
            let mut rows = self.rows();
            let mut marked: Vec<_> = rows.look_again.iter().map(|(i, m)| (m.0, *i)).collect();
            marked.sort();
            let marked = marked.into_iter().map(|(_, ino)| ino);
            let waiting: Vec<Ino> = rows.needed.iter().copied().chain(marked).collect();
            let all: Vec<Ino> =
                waiting.into_iter().filter(|i| rows.bases.contains_key(i)).collect();
            let ready = |ino: &&Ino| !is_parked(&*rows, &rows.items[*ino].node).unwrap();
            let Some(folder) = all.iter().find(ready).or(all.first()).copied() else {
                rows.needed.clear();
                return false;
            };
            rows.needed.retain(|other| *other != folder);
            match begin_listing(&mut *rows, folder).unwrap() {
                Some(listing) => (folder, listing),
                None => {
                    self.engine.tried.borrow_mut().insert(folder);
                    return false;
                }
            }
        };
        let flag = Flag(self.engine.clone(), folder);
        let mut after = None;
        loop {
            let ask = Ask::List(listing.path.clone(), after.clone());
            match self.call(ask).await {
                Ok(Answer::Page(page, last, version)) => {
                    listing.note_version(version);
                    after = page.last().map(|(name, _)| name.clone()).or(after);
                    let mut rows = self.rows();
                    if !list_page(&mut *rows, &mut listing, page).unwrap() {
                        break_listing(&mut *rows, &listing);
                        return true;
                    }
                    begin_page(&mut *rows, &mut listing).unwrap();
                    if last {
                        end_listing(&mut *rows, listing).unwrap();
                        let marked: HashSet<Ino> = rows.look_again.keys().copied().collect();
                        drop(rows);
                        drop(flag);
                        self.engine.tried.borrow_mut().retain(|one| marked.contains(one));
                        return true;
                    }
                }
                Err(Failed::Refused(_)) => {
                    listing_refused(&mut *self.rows(), &listing).unwrap();
                    return true;
                }
                _ => {
                    break_listing(&mut *self.rows(), &listing);
                    return true;
                }
            }
        }
    }
}

/// Ends the mark of a listing under way when its worker is dropped.
struct Flag(Rc<Engine>, Ino);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.tried.borrow_mut().insert(self.1);
        if let Ok(mut rows) = self.0.rows.try_borrow_mut() {
            rows.set_listing(self.1, false);
        }
    }
}
