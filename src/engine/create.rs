//! Creating: a name with its inode, and for files an open handle as well.

use futures_util::FutureExt as _;

use super::arrive::{Created, Outcome};
use super::attributes::{drop_suid, of_its_group};
use super::core::now;
use super::cutting::Cut;
use super::namespace::has_place;
use super::verbs::{Caller, OpenMode, Opened, Stat};
use super::{Answer, Done, Engine, EngineError};
use crate::catalog::{Durability, Inode, NewInode, Origin};
use crate::model::{Content, Ino, Kind, Name, Place};

/// Says what had the name of a file that was to be made.
enum Was {
    Nothing,
    /// A file, which is being emptied or not.
    There(Option<Cut>),
}

impl Engine {
    /// Creates and opens a file; opens it if it exists and `mode.exclusive` is not set.
    pub fn create(
        &self,
        parent: Ino,
        name: Name,
        permissions: u32,
        mode: OpenMode,
        caller: Caller,
    ) -> Answer<(Stat, Opened)> {
        let engine = self.clone();
        let new = match self.new_inode(Kind::File, parent, name, permissions, None, caller) {
            Ok(new) => new,
            Err(error) => return error.into(),
        };
        let kept = self.clone();
        let place = new.place.clone();
        let wait = move |answer: Answer<Created>| {
            answer.wait_or(move |made| kept.release(made.0.ino, made.1.handle)).boxed()
        };
        let act = move || {
            let core = engine.core.clone();
            let rests = core.names_rest();
            Answer::Queued(Box::new(move |done: Done<Created>| {
                let catalog = core.catalog.clone();
                let writing = core.clone();
                catalog.submit(
                    Durability::Soon,
                    Origin::Kernel,
                    move |tx| match tx.lookup(new.place.parent, &new.place.name)? {
                        Some(_) if mode.exclusive => Err(EngineError::Exists),
                        Some(inode) if inode.kind != Kind::File => Err(EngineError::IsFolder),
                        Some(inode) => {
                            tx.mark_pending(inode.ino)?;
                            let live = writing.open.live(inode.ino).filter(|_| mode.truncate);
                            let cut = live.map(|live| Cut::begin(&writing, &live));
                            if mode.truncate {
                                drop_suid(tx, &inode)?;
                                tx.cut_presence(inode.ino, inode.generation, 0)?;
                            }
                            Ok((inode, Was::There(cut)))
                        }
                        None => {
                            let folder = tx.inode(new.place.parent)?;
                            has_place(new.place.parent, folder.as_ref())?;
                            let place = new.place.clone();
                            let new = NewInode { rests: Some(rests), ..new };
                            let inode = tx.create(of_its_group(folder.as_ref(), new))?;
                            writing.may_change_names(tx, &[Outcome::at(inode.ino, place)])?;
                            Ok((inode, Was::Nothing))
                        }
                    },
                    move |outcome: Result<(Inode, Was), EngineError>| {
                        let begun = outcome
                            .and_then(|(inode, was)| Ok((core.begin_created(inode, mode)?, was)));
                        let made = |(stat, opened), new| (stat, opened, new);
                        let (inode, cut) = match begun {
                            Ok((inode, Was::Nothing)) => {
                                let opened = core.open_new(&inode, mode);
                                return done(opened.map(|opened| made(opened, true)));
                            }
                            Ok((inode, Was::There(cut))) => (inode, cut),
                            Err(error) => return done(Err(error)),
                        };
                        let kept = core.clone();
                        let cuts = mode.truncate && inode.attributes.size > 0;
                        core.run_cut(cuts, move || {
                            // What is not here any more is forgotten for good before it goes.
                            let told = match inode.content {
                                Content::Partial if cuts => {
                                    kept.runtime.block_on(kept.catalog.barrier())
                                }
                                _ => Ok(()),
                            };
                            let opened = match told {
                                Ok(()) => kept.open_created(&inode, mode),
                                Err(error) => {
                                    kept.open.end(inode.ino, mode.write);
                                    Err(error.into())
                                }
                            };
                            if let (Some(cut), Ok(_)) = (cut, &opened) {
                                cut.done();
                            }
                            done(opened.map(|opened| made(opened, false)));
                        });
                    },
                );
            }))
        };
        self.arriving(place, self.when_listed_by(parent, act, wait))
    }
}

impl Engine {
    /// Checks what is to be created and fills in who owns it.
    pub(crate) fn new_inode(
        &self,
        kind: Kind,
        parent: Ino,
        name: Name,
        mode: u32,
        target: Option<Vec<u8>>,
        caller: Caller,
    ) -> Result<NewInode, EngineError> {
        let settings = &self.core.settings;
        if self.core.takes_no_changes() {
            return Err(EngineError::ReadOnly);
        }
        if name.as_bytes().starts_with(crate::remote::OWN_PREFIX) {
            return Err(EngineError::NotPermitted("names that begin with .dewfs- belong to dewfs"));
        }
        Ok(NewInode {
            kind,
            place: Place::new(parent, name),
            mode: mode & 0o7777,
            uid: (caller.uid != settings.uid).then_some(caller.uid),
            gid: (caller.gid != settings.gid).then_some(caller.gid),
            now: now(),
            target,
            rests: None,
        })
    }
}
