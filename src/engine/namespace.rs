//! The verbs on names: lookup, listing, create, remove, rename. One verb is one transaction whose checks run inside it.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::arrive::Outcome;
use super::attributes::of_its_group;
use super::core::{Core, now, steady};
use super::crash::crash_here;
use super::outcome::{LOST, go_on_after_failure};
use super::show::BELIEVE;
use super::verbs::{Caller, Page, PageEntry, Reach, RenameMode, Stat};
use super::{Answer, Engine, EngineError};
use crate::catalog::{Durability, Inode, Origin, Tx};
use crate::model::{self, Content, Ino, Kind, Name, Pin, Place};

/// How long a file that is written again and again is not sent at most, beyond the usual rest: nanoseconds.
const LONGEST_REST: i64 = 30_000_000_000;

impl Engine {
    /// The entry of this name in this folder.
    pub fn lookup(&self, parent: Ino, name: &Name) -> Answer<Stat> {
        if is_ours(name) {
            return EngineError::NotFound.into();
        }
        match self.core.lookup_here(parent, name) {
            Ok(Some(stat)) => Answer::Ready(Ok(stat)),
            Ok(None) => {
                let (core, name) = (self.core.clone(), name.clone());
                core.looks_at(parent, false);
                Answer::Pending(Box::pin(async move {
                    core.list_folder(parent).await?;
                    core.lookup_here(parent, &name)?.ok_or(EngineError::NotFound)
                }))
            }
            Err(error) => error.into(),
        }
    }

    /// What is known of an inode.
    pub fn stat(&self, ino: Ino) -> Answer<Stat> {
        Answer::Ready(self.core.stat_here(ino))
    }

    /// The target of a symlink.
    pub fn read_link(&self, ino: Ino) -> Answer<Vec<u8>> {
        let inode = self.core.catalog.read(|rows| rows.inode(ino));
        Answer::Ready(match inode {
            Ok(Some(inode)) => inode.target.ok_or(EngineError::Invalid("not a symlink")),
            Ok(None) => Err(EngineError::Stale),
            Err(error) => Err(error.into()),
        })
    }

    /// Up to `most` entries after `cookie` (0: from the start; a cookie is the inode number of the last entry given).
    pub fn read_dir(&self, folder: Ino, cookie: u64, most: usize) -> Answer<Vec<PageEntry>> {
        self.read_page(folder, cookie, None, most).map(|page| page.entries)
    }

    /// The same for one who goes on where a page ended that told him how far there is something for him.
    pub fn read_page(
        &self,
        folder: Ino,
        cookie: u64,
        reach: Option<Reach>,
        most: usize,
    ) -> Answer<Page> {
        let engine = self.clone();
        let begins = cookie == 0;
        let page = move || Answer::Ready(engine.core.page(folder, cookie, reach, most));
        self.listed_first(folder, begins, page, |answer| answer.wait().boxed())
    }

    /// Somebody begins to read a folder who has the names from before; whether they are all known still.
    pub fn begins_to_read_again(&self, folder: Ino) -> bool {
        let inode = self.core.catalog.read_row(|rows| rows.inode(folder));
        let is_listed = matches!(inode, Ok(Some(Inode { listed: true, .. })));
        if is_listed {
            self.core.looks_at(folder, true);
        }
        is_listed
    }

    /// A new folder.
    pub fn make_folder(&self, parent: Ino, name: Name, mode: u32, caller: Caller) -> Answer<Stat> {
        self.make_node(parent, name, Kind::Folder, mode, None, caller)
    }

    /// A new symlink, fifo or socket, kept here only; a regular file without opening it.
    pub fn make_node(
        &self,
        parent: Ino,
        name: Name,
        kind: Kind,
        mode: u32,
        target: Option<Vec<u8>>,
        caller: Caller,
    ) -> Answer<Stat> {
        let new = match self.new_inode(kind, parent, name, mode, target, caller) {
            Ok(new) => new,
            Err(error) => return error.into(),
        };
        let engine = self.clone();
        self.when_listed(parent, move || {
            let core = engine.core.clone();
            let place = new.place.clone();
            engine.change(vec![place.clone()], move |tx| {
                let folder = tx.inode(new.place.parent)?;
                has_place(new.place.parent, folder.as_ref())?;
                let inode = tx.create(of_its_group(folder.as_ref(), new))?;
                let stat = core.stat_of(&inode, None, BELIEVE);
                Ok((stat, vec![Outcome::at(inode.ino, place)]))
            })
        })
    }

    /// Removes a file (or symlink, fifo, socket).
    pub fn unlink(&self, parent: Ino, name: &Name) -> Answer<()> {
        self.remove(parent, name, false)
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, parent: Ino, name: &Name) -> Answer<()> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: Ino, name: &Name, folder: bool) -> Answer<()> {
        if self.core.takes_no_changes() {
            return EngineError::ReadOnly.into();
        }
        let victim = match self.core.catalog.read(|rows| rows.lookup(parent, name)) {
            Ok(Some(inode)) => inode,
            Ok(None) => return EngineError::NotFound.into(),
            Err(error) => return EngineError::from(error).into(),
        };
        let place = Place::new(parent, name.clone());
        let engine = self.clone();
        let rests = self.core.names_rest();
        let act = move || {
            engine.change(vec![place.clone()], move |tx| {
                let victim = tx.lookup(place.parent, &place.name)?.ok_or(EngineError::NotFound)?;
                removable(tx, &victim, folder)?;
                model::unlink(tx, victim.ino)?;
                rest(tx, victim.ino, rests)?;
                tx.touch_times(place.parent, now())?;
                Ok(((), vec![Outcome::gone(victim.ino)]))
            })
        };
        // An unlisted folder is listed before it counts as empty.
        if folder && victim.kind == Kind::Folder {
            self.when_listed(victim.ino, act)
        } else {
            act()
        }
    }

    /// Moves an entry.
    pub fn rename(
        &self,
        parent: Ino,
        name: &Name,
        to_parent: Ino,
        to_name: Name,
        mode: RenameMode,
    ) -> Answer<()> {
        if self.core.takes_no_changes() {
            return EngineError::ReadOnly.into();
        }
        if is_ours(&to_name) {
            return EngineError::NotPermitted("names that begin with .dewfs- belong to dewfs")
                .into();
        }
        let (from, to) = (Place::new(parent, name.clone()), Place::new(to_parent, to_name));
        let victim = match self.core.catalog.read(|rows| rows.lookup(to.parent, &to.name)) {
            Ok(victim) => victim,
            Err(error) => return EngineError::from(error).into(),
        };
        let engine = self.clone();
        let listed_first = match &victim {
            Some(victim) if victim.kind == Kind::Folder => victim.ino,
            _ => to_parent,
        };
        self.when_listed(listed_first, move || {
            let rests = engine.core.names_rest();
            let core = engine.core.clone();
            engine.change(vec![from.clone(), to.clone()], move |tx| {
                let victim = tx.lookup(to.parent, &to.name)?.map(|victim| victim.ino);
                if to.parent != from.parent && core.is_divided(tx, &from, &to)? {
                    return Err(EngineError::CrossDevice);
                }
                let ((), mover) = rename_rows(tx, &from, &to, mode)?;
                let mut outcomes = vec![Outcome::at(mover, to)];
                outcomes.extend(victim.filter(|victim| *victim != mover).map(
                    |victim| match mode {
                        RenameMode::Exchange => Outcome::at(victim, from),
                        _ => Outcome::gone(victim),
                    },
                ));
                for ino in victim.into_iter().chain([mover]) {
                    rest(tx, ino, rests)?;
                }
                Ok(((), outcomes))
            })
        })
    }

    /// Runs `act` at once if the folder is listed, else after it was.
    pub(crate) fn when_listed<T: Send + 'static>(
        &self,
        folder: Ino,
        act: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.listed_first(folder, false, act, |answer| answer.wait().boxed())
    }

    /// The same with a way to wait for what `act` answers.
    pub(crate) fn when_listed_by<T: Send + 'static>(
        &self,
        folder: Ino,
        act: impl FnOnce() -> Answer<T> + Send + 'static,
        wait: impl FnOnce(Answer<T>) -> BoxFuture<'static, Result<T, EngineError>> + Send + 'static,
    ) -> Answer<T> {
        self.listed_first(folder, false, act, wait)
    }

    /// The same; `begins` says that somebody begins to read this folder.
    fn listed_first<T: Send + 'static>(
        &self,
        folder: Ino,
        begins: bool,
        act: impl FnOnce() -> Answer<T> + Send + 'static,
        wait: impl FnOnce(Answer<T>) -> BoxFuture<'static, Result<T, EngineError>> + Send + 'static,
    ) -> Answer<T> {
        match self.core.catalog.read_row(|rows| rows.inode(folder)) {
            Ok(None) => EngineError::Stale.into(),
            Ok(Some(inode)) if inode.kind != Kind::Folder => EngineError::NotFolder.into(),
            Ok(Some(Inode { listed, .. })) => {
                if begins {
                    self.core.looks_at(folder, listed);
                }
                if listed {
                    return act();
                }
                let core = self.core.clone();
                Answer::Pending(Box::pin(async move {
                    core.list_folder(folder).await?;
                    wait(act()).await
                }))
            }
            Err(error) => EngineError::from(error).into(),
        }
    }

    /// Runs a change of names on the writer; with `namespace=remote` the answer waits for the remote.
    fn change<T: Send + 'static>(
        &self,
        names: Vec<Place>,
        change: impl FnOnce(&mut Tx) -> Result<(T, Vec<Outcome>), EngineError> + Send + 'static,
    ) -> Answer<T> {
        let answer = self.queued(change);
        if !self.core.names_wait() {
            return answer.map(|(value, _)| value);
        }
        let core = self.core.clone();
        Answer::Pending(Box::pin(async move {
            let (value, outcomes) = answer.wait().await?;
            core.arrived(outcomes, names).await?;
            Ok(value)
        }))
    }

    fn queued<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx) -> Result<(T, Vec<Outcome>), EngineError> + Send + 'static,
    ) -> Answer<(T, Vec<Outcome>)> {
        let core = self.core.clone();
        Answer::Queued(Box::new(move |done| {
            let catalog = core.catalog.clone();
            let writing = core.clone();
            let change = move |tx: &mut Tx| {
                let outcome = change(tx)?;
                writing.may_change_names(tx, &outcome.1)?;
                crash_here!(writing, "names: before the commit");
                Ok(outcome)
            };
            catalog.submit(Durability::Soon, Origin::Kernel, change, move |outcome| {
                crash_here!(core, "names: committed");
                done(outcome);
            });
        }))
    }
}

fn is_ours(name: &Name) -> bool {
    name.as_bytes().starts_with(crate::remote::OWN_PREFIX)
}

/// Nothing is put into a folder that is gone here, as one removed at the remote while a program has it open: POSIX says
/// ENOENT.
pub(super) fn has_place(folder: Ino, found: Option<&Inode>) -> Result<(), EngineError> {
    let gone = found.is_none_or(|found| found.local.is_none());
    if gone && folder != Ino::ROOT { Err(EngineError::NotFound) } else { Ok(()) }
}

fn removable(tx: &Tx, victim: &Inode, folder: bool) -> Result<(), EngineError> {
    match (victim.kind, folder) {
        (Kind::Folder, false) => Err(EngineError::IsFolder),
        (Kind::Folder, true) if tx.has_entries(victim.ino)? => Err(EngineError::NotEmpty),
        (Kind::Folder, true) | (_, false) => Ok(()),
        (_, true) => Err(EngineError::NotFolder),
    }
}

impl Core {
    /// Whether the remote could not make this move: file systems mounted in it are no less apart here.
    fn is_divided(&self, tx: &Tx, from: &Place, to: &Place) -> Result<bool, EngineError> {
        let Some(mover) = tx.lookup(from.parent, &from.name)? else { return Ok(false) };
        let Some(source) = tx.base_path(mover.ino)? else { return Ok(false) };
        // A folder that is not there yet will be where the first one above it is that is.
        let mut folder = to.parent;
        loop {
            if let Some(path) = tx.base_path(folder)? {
                return Ok(self.remotes.user.divides(&source, &path));
            }
            match tx.inode(folder)?.and_then(|inode| inode.local) {
                Some(place) => folder = place.parent,
                None => return Ok(false),
            }
        }
    }
}

pub(super) fn rename_rows(
    tx: &mut Tx,
    from: &Place,
    to: &Place,
    mode: RenameMode,
) -> Result<((), Ino), EngineError> {
    let mover = tx.lookup(from.parent, &from.name)?.ok_or(EngineError::NotFound)?;
    let victim = tx.lookup(to.parent, &to.name)?;
    let folder = tx.inode(to.parent)?;
    has_place(to.parent, folder.as_ref())?;
    if folder.is_none_or(|folder| folder.kind != Kind::Folder) {
        return Err(EngineError::NotFolder);
    }
    // What moves to a name that is kept here only must be here wholly: mv and file managers copy instead.
    let exchanged = victim.as_ref().filter(|_| mode == RenameMode::Exchange);
    for (moved, to) in [(&mover, to)].into_iter().chain(exchanged.map(|victim| (victim, from))) {
        let leaves = tx.would_be_excluded(moved.ino, to)? && !tx.is_below_excluded(moved.ino)?;
        if leaves && !is_whole(moved) {
            return Err(EngineError::CrossDevice);
        }
    }
    let time = now();
    let moved = match (&victim, mode) {
        (Some(victim), RenameMode::Exchange) => model::exchange(tx, mover.ino, victim.ino)?,
        (None, RenameMode::Exchange) => return Err(EngineError::NotFound),
        (Some(_), RenameMode::NoReplace) => return Err(EngineError::Exists),
        (Some(victim), RenameMode::Replace) if victim.ino == mover.ino => true,
        (Some(victim), RenameMode::Replace) => {
            removable(tx, victim, mover.kind == Kind::Folder)?;
            // A save that replaces the file is an edit of it.
            if mover.pin == Pin::Unspecified && victim.pin != Pin::Unspecified {
                tx.set_pin(mover.ino, victim.pin)?;
            }
            model::rename(tx, mover.ino, to.clone())?
        }
        (None, _) => model::rename(tx, mover.ino, to.clone())?,
    };
    if !moved {
        return Err(EngineError::IntoItself);
    }
    tx.touch_times(from.parent, time)?;
    if to.parent != from.parent {
        tx.touch_times(to.parent, time)?;
    }
    Ok(((), mover.ino))
}

fn is_whole(inode: &Inode) -> bool {
    match inode.kind {
        Kind::File => inode.content == Content::Hydrated,
        Kind::Folder => false,
        _ => true,
    }
}

/// Lets an item rest before it is sent, so that what belongs together goes together (a safe-save, a file written in parts);
/// one that is changed again and again is sent all the same, now and then (E60).
pub(crate) fn rest(tx: &mut Tx, ino: Ino, rests: i64) -> Result<(), EngineError> {
    let Some(row) = tx.outbox_item(ino)? else { return Ok(()) };
    // What the disk lost may be written anew: if it was not, the next try finds that out.
    let is_lost = row.error_kind.as_deref() == Some(LOST);
    if is_lost {
        tx.outbox_wake(ino)?;
    }
    if is_lost || row.error.is_none() {
        let latest = row.since.saturating_add(rests.saturating_add(LONGEST_REST));
        tx.outbox_defer(ino, steady().saturating_add(rests).min(latest))?;
    } else {
        go_on_after_failure(tx, ino, &row, rests)?;
    }
    Ok(())
}

impl Core {
    /// How long changes rest before they are sent, nanoseconds.
    pub(crate) fn rests(&self) -> i64 {
        i64::try_from(self.settings.write_back_delay.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Forgets an inode that nothing names any more, once its last handle is gone.
    pub(crate) fn forget_unnamed(self: &Arc<Self>, ino: Ino) {
        match self.catalog.read(|rows| rows.inode(ino)) {
            Ok(Some(inode)) if inode.local.is_none() && ino != Ino::ROOT => {}
            _ => return,
        }
        self.catalog.submit(
            Durability::Soon,
            Origin::Kernel,
            move |tx| model::touch(tx, ino).map_err(EngineError::from),
            move |outcome| {
                if let Err(error) = outcome {
                    tracing::warn!(ino = ino.0, %error, "cannot forget a removed file; the next start does");
                }
            },
        );
    }

    /// The last writer of a file is gone: its row may go, or its content be sent.
    pub(crate) async fn writer_closed(self: &Arc<Self>, ino: Ino) {
        let rests = self.rests();
        let outcome = self
            .catalog
            .write(Durability::Soon, Origin::Kernel, move |tx| {
                model::handled(tx, ino)?;
                rest(tx, ino, rests)
            })
            .await;
        if let Err(error) = outcome {
            tracing::warn!(ino = ino.0, %error, "cannot note that a file was closed");
        }
        self.outbox.notify_one();
    }
}
