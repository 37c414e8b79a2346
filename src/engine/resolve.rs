//! What a person decides about a conflict copy: ours, theirs, or both.
//!
//! `mine` is a move of the copy over the original, so it goes as a save goes: under the version that is shown here. Was the
//! original changed again meanwhile, that becomes a new conflict and nothing is lost. `theirs` removes the copy; what of it the
//! remote never had is kept in `recovered/`. `both` only notes that a person has looked.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::core::now;
use super::namespace::rename_rows;
use super::verbs::RenameMode;
use super::{Engine, EngineError};
use crate::catalog::{Durability, Inode, Origin, Tx};
use crate::model::{self, Generation, Ino, Kind, Name, Place, Rows as _, original_name};

/// How long is waited for a file to be closed and its sending to be over.
const SOON: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// Says which content stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// That of the conflict copy, under the original's name.
    Mine,
    /// That of the original.
    Theirs,
    /// Both, under their names.
    Both,
}

impl Keep {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mine => "mine",
            Self::Theirs => "theirs",
            Self::Both => "both",
        }
    }
}

/// Is one conflict copy that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The copy, as it was called.
    pub path: Vec<u8>,
    /// The file that it was a copy of.
    pub original: Vec<u8>,
    /// What was decided.
    pub keep: Keep,
    /// Where content is now that was never sent.
    pub kept: Option<PathBuf>,
}

/// Is a conflict copy with the place it is a copy for, and who is there.
struct Copy {
    inode: Inode,
    place: Place,
    original: Place,
    there: Option<Inode>,
}

/// Says what became of a try.
enum Tried {
    Done(Option<Generation>),
    /// It is in use or on its way: this goes by, or not.
    NotYet(EngineError),
}

impl Engine {
    /// Decides the conflict copy `ino`, or all copies of the original `ino`. With `dry_run` it only tells. `ReadOnly` where
    /// nothing may be changed, `Refused` where several copies want to be the one, `Busy` while it is open or being sent.
    pub async fn resolve_conflict(
        &self,
        ino: Ino,
        keep: Keep,
        dry_run: bool,
    ) -> Result<Vec<Resolved>, EngineError> {
        if self.core.takes_no_changes() && keep != Keep::Both {
            return Err(EngineError::ReadOnly);
        }
        let copies = self.copies_of(ino)?;
        if keep == Keep::Mine && copies.len() > 1 {
            let all = copies.iter().map(|copy| self.text_of(*copy)).collect::<Vec<_>>().join(", ");
            return Err(EngineError::Refused(format!(
                "it has several conflict copies: name the one to keep ({all})"
            )));
        }
        let mut all = Vec::new();
        for copy in copies {
            all.push(self.resolve_one(copy, keep, dry_run).await?);
        }
        Ok(all)
    }

    /// The copy itself, or the copies of an original.
    fn copies_of(&self, ino: Ino) -> Result<Vec<Ino>, EngineError> {
        let copies = self.core.catalog.read(|rows| {
            if rows.is_conflict(ino)? {
                return Ok(vec![ino]);
            }
            let Some(place) = rows.inode(ino)?.and_then(|inode| inode.local) else {
                return Ok(Vec::new());
            };
            let mut copies = Vec::new();
            for copy in rows.conflicts(usize::MAX >> 1)? {
                let local = rows.inode(copy)?.and_then(|inode| inode.local);
                if local.and_then(|local| original_of(&local)) == Some(place.clone()) {
                    copies.push(copy);
                }
            }
            Ok(copies)
        })?;
        if copies.is_empty() {
            return Err(EngineError::Refused(
                "neither a conflict copy that waits for a decision nor a file that has one; see dewfs conflicts"
                    .to_owned(),
            ));
        }
        Ok(copies)
    }

    async fn resolve_one(
        &self,
        ino: Ino,
        keep: Keep,
        dry_run: bool,
    ) -> Result<Resolved, EngineError> {
        let path = self.core.path_bytes(ino).unwrap_or_default();
        let original = original_path(&path);
        let end = Instant::now() + SOON;
        let kept = loop {
            match self.try_resolve(ino, keep, dry_run).await? {
                Tried::Done(kept) => break kept,
                Tried::NotYet(error) if Instant::now() >= end => return Err(error),
                Tried::NotYet(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        self.core.outbox.notify_one();
        self.core.pulse();
        let kept = match kept {
            Some(generation) => self.core.kept_of(ino, generation).await,
            None => None,
        };
        Ok(Resolved { path, original, keep, kept })
    }

    async fn try_resolve(&self, ino: Ino, keep: Keep, dry_run: bool) -> Result<Tried, EngineError> {
        // What was written through open files must be told first.
        for live in self.core.open.all() {
            self.core.record(&live, Durability::Soon).await?;
        }
        let tried = move |tx: &mut Tx| {
            let copy = copy_of(tx, ino)?;
            if let Some(why) = in_the_way(tx, &copy, keep)? {
                return Ok(Tried::NotYet(why));
            }
            Ok(Tried::Done(if dry_run { None } else { decide(tx, &copy, keep)? }))
        };
        self.core.catalog.write(Durability::Soon, Origin::Engine, tried).await
    }

    fn text_of(&self, ino: Ino) -> String {
        let path = self.core.path_bytes(ino).unwrap_or_default();
        String::from_utf8_lossy(&path).into_owned()
    }
}

/// The place that a conflict copy in this place is a copy for.
fn original_of(copy: &Place) -> Option<Place> {
    Some(Place::new(copy.parent, original_name(&copy.name)?))
}

fn original_path(copy: &[u8]) -> Vec<u8> {
    let start = copy.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, name) = copy.split_at(start);
    let original = Name::new(name).ok().and_then(|name| original_name(&name));
    original.map_or_else(Vec::new, |name| [folder, name.as_bytes()].concat())
}

fn copy_of(tx: &Tx, ino: Ino) -> Result<Copy, EngineError> {
    let inode = tx.inode(ino)?.ok_or(EngineError::NotFound)?;
    let place = inode.local.clone().ok_or(EngineError::NotFound)?;
    let original = original_of(&place).filter(|_| tx.is_conflict(ino).unwrap_or(false));
    let original = original
        .ok_or_else(|| EngineError::Refused("it is no conflict copy any more".to_owned()))?;
    let there = tx.lookup(original.parent, &original.name)?;
    Ok(Copy { inode, place, original, there })
}

/// Why nothing may be decided like this: an error if it stays so, an answer if it may go by.
fn in_the_way(tx: &Tx, copy: &Copy, keep: Keep) -> Result<Option<EngineError>, EngineError> {
    let name = copy.original.name.lossy().into_owned();
    let busy = |what: &str| Ok(Some(EngineError::Busy(what.to_owned())));
    match (keep, &copy.there) {
        (Keep::Both, _) => return Ok(None),
        (Keep::Theirs, None) => {
            return Err(EngineError::Refused(format!(
                "{name} is gone, the conflict copy is all there is: keep mine or both"
            )));
        }
        (Keep::Mine, Some(there)) if there.kind != Kind::File => {
            return Err(EngineError::Refused(format!(
                "{name} is no file any more: keep both, and move one of them"
            )));
        }
        _ => {}
    }
    if tx.handles(copy.inode.ino).writers > 0 {
        return busy("a program has the conflict copy open for writing: close it, then try again");
    }
    if keep == Keep::Theirs {
        let sending = tx.outbox(copy.inode.ino)?.is_some_and(|row| row.attempt.is_some());
        return match sending && tx.unsent(copy.inode.ino)?.is_some() {
            true => busy("the conflict copy is being sent: try again when the remote has answered"),
            false => Ok(None),
        };
    }
    let Some(there) = &copy.there else { return Ok(None) };
    if tx.handles(there.ino).writers > 0 {
        return Ok(Some(EngineError::Busy(format!(
            "a program has {name} open for writing: close it, then try again"
        ))));
    }
    if tx.unsent(there.ino)?.is_some() {
        // Nobody else has these: they would be gone.
        return Ok(Some(EngineError::Refused(format!(
            "{name} has changes that are not sent yet: dewfs sync --wait, look at it, then try again"
        ))));
    }
    Ok(None)
}

/// Does it; answers the generation of content that goes to `recovered/`.
fn decide(tx: &mut Tx, copy: &Copy, keep: Keep) -> Result<Option<Generation>, EngineError> {
    let ino = copy.inode.ino;
    let note = match keep {
        Keep::Mine => "decided: this content is kept under the original's name",
        Keep::Theirs => "decided: the other content is kept",
        Keep::Both => "decided: both contents are kept",
    };
    tx.note(ino, note)?;
    match keep {
        Keep::Mine => {
            rename_rows(tx, &copy.place, &copy.original, RenameMode::Replace)?;
        }
        Keep::Theirs => {
            let unsent = tx.unsent(ino)?;
            model::discard(tx, ino)?;
            tx.touch_times(copy.place.parent, now())?;
            return Ok(unsent);
        }
        Keep::Both => tx.resolve_conflict(ino)?,
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_is_beside_its_copy() {
        let copy = b"a/b (conflict 2026-03-04 05.06.07 box).txt";
        assert_eq!(original_path(copy), b"a/b.txt");
        assert_eq!(original_path(b"b (conflict 2026-03-04 05.06.07 box)"), b"b");
        assert_eq!(original_path(b"a/b.txt"), b"");
    }
}
