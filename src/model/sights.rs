//! Applies the entries of a listing many at a time. What is new or unchanged is most of any listing, and about it there is
//! nothing to decide; everything else is reconciled by itself.

use std::collections::HashSet;

use super::around::{by_names, is_attempted_above, is_kept_here, places};
use super::reconcile::{Trust, reconcile};
use super::touch::touch;
use super::{Ino, Kind, Met, Name, Observed, RemotePath, Rows};

/// Entries that are looked up together.
pub(super) const TOGETHER: usize = 64;

/// Applies a few entries of `folder`, whose remote path is `path`; `names` are those that its listing has shown so far.
pub(super) fn apply_part<R: Rows>(
    rows: &mut R,
    folder: Ino,
    path: &RemotePath,
    names: &mut HashSet<Name>,
    part: Vec<(Name, Observed)>,
    trust: Trust,
) -> Result<(), R::Error> {
    let mut calm = match calm(rows, folder, path)? {
        Some(calm) if trust.fresh => Some((calm, rows.meet(folder, &part)?.into_iter())),
        _ => None,
    };
    let mut ids = HashSet::new();
    let mut new = New {
        folder,
        kept_here: calm.as_ref().is_some_and(|(calm, _)| calm.kept_here),
        entries: Vec::new(),
    };
    for (name, seen) in part {
        let met = calm.as_mut().and_then(|(_, met)| met.next());
        if name.is_own() {
            names.insert(name);
            continue;
        }
        let again = !seen.id.as_ref().is_none_or(|id| ids.insert(id.clone()));
        let again = !names.insert(name.clone()) || again;
        let plain = calm
            .as_ref()
            .zip(met)
            .filter(|((calm, _), _)| !again && !calm.attempted.contains(&name))
            .and_then(|(_, met)| plain(&met, &seen));
        match plain {
            Some(Plain::New) => new.entries.push((name, seen)),
            // A page under way may be older, and without it.
            Some(Plain::Same) if rows.is_listing(folder) => rows.touch_folder(folder)?,
            Some(Plain::Same) => {}
            None => {
                // This may change who is where: those after it are looked at one by one.
                calm = None;
                new.make(rows)?;
                reconcile(rows, &path.child(name), Some(&seen), trust)?;
            }
        }
    }
    new.make(rows)
}

/// Gathers what is to be made, so that it is made at once.
struct New {
    folder: Ino,
    kept_here: bool,
    entries: Vec<(Name, Observed)>,
}

impl New {
    fn make<R: Rows>(&mut self, rows: &mut R) -> Result<(), R::Error> {
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            return Ok(());
        }
        let made = rows.new_in(self.folder, &entries)?;
        for (ino, (_, seen)) in made.into_iter().zip(entries) {
            if self.kept_here || !seen.settled || seen.kind.is_local_only() {
                touch(rows, ino)?;
            }
        }
        Ok(())
    }
}

/// Is what holds for every name of a folder.
struct Calm {
    /// The names about which an attempt has no answer yet.
    attempted: HashSet<Name>,
    /// Whether what is in it is never sent.
    kept_here: bool,
}

/// Whether the folder is a folder and where it was, and no attempt about it or a folder above it is without an answer.
fn calm<R: Rows>(rows: &R, folder: Ino, path: &RemotePath) -> Result<Option<Calm>, R::Error> {
    let is_folder = rows.node(folder)?.is_some_and(|node| node.kind == Kind::Folder);
    if !is_folder
        || rows.base(folder)?.is_none()
        || by_names(rows, &path.0)? != Some(folder)
        || is_attempted_above(rows, folder)?
    {
        return Ok(None);
    }
    let attempts = rows.attempts()?;
    let here = attempts.iter().flat_map(|(_, attempt)| places(attempt));
    let here = here.filter(|place| place.parent == folder).map(|place| place.name.clone());
    Ok(Some(Calm { attempted: here.collect(), kept_here: is_kept_here(rows, folder)? }))
}

/// Says what is to be done about an entry about which there is nothing to decide.
enum Plain {
    /// Nobody is in its place, and nobody has its identity.
    New,
    /// It is what its base says.
    Same,
}

fn plain(met: &Met, seen: &Observed) -> Option<Plain> {
    let Some(based) = &met.based else {
        return (!met.is_taken && met.identified.is_none()).then_some(Plain::New);
    };
    let same_version = based.version == seen.version;
    let same_content = match seen.kind {
        Kind::Folder => same_version || seen.version.0.is_empty(),
        _ => same_version && based.size == seen.size,
    };
    let same = based.kind == seen.kind
        && based.id == seen.id
        && based.extra == seen.extra
        && met.identified.is_none_or(|ino| ino == based.ino)
        && same_content;
    same.then_some(Plain::Same)
}
