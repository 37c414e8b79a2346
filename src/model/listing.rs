//! Applies the pages of a listing and of the change feed. Only a whole listing counts as complete.

use std::collections::{HashMap, HashSet};

use super::around::{by_names, is_attempted_above, is_parked, is_still_at, path, places};
use super::reconcile::{
    Replaced, Trust, look_at_everything, mark, mark_deep, miss, reconcile, vanish,
};
use super::sights::{TOGETHER, apply_part};
use super::{Base, Ino, Kind, Name, Observed, RemotePath, Rows, Tick, Version};

/// Is a listing of one folder under way.
#[derive(Debug)]
pub struct Listing {
    /// The folder.
    pub folder: Ino,
    /// Its remote path when the listing began.
    pub path: RemotePath,
    mark: Option<Tick>,
    known: HashMap<Ino, Base>,
    names: HashSet<Name>,
    /// The folder's own version when the first page was made.
    version: Option<Version>,
    /// Before the page was asked for.
    since: Tick,
    /// What this listing itself last did to the folder.
    ours: Tick,
    /// Somebody else changed the folder since the page was asked for.
    stale: bool,
    /// Somebody else changed the folder since the listing began: what was not seen may be back.
    crossed: bool,
}

impl Listing {
    /// Notes what a page says of the version of the folder itself: that of the first page counts, no entry is older.
    pub fn note_version(&mut self, version: Option<Version>) {
        if self.version.is_none() {
            self.version = version;
        }
    }

    /// What was known when it began and did not change since, whether it was seen or not.
    pub fn unchanged<R: Rows>(&self, rows: &R) -> Result<Vec<Ino>, R::Error> {
        unchanged(rows, &self.known)
    }

    /// What was known when it began, did not change since, and was not seen, if every page was applied.
    pub fn missed<R: Rows>(&self, rows: &R) -> Result<Vec<Ino>, R::Error> {
        let mut missed = Vec::new();
        if self.crossed {
            return Ok(missed);
        }
        for (child, base) in &self.known {
            if !self.names.contains(&base.place.name) && is_unchanged(rows, *child, base)? {
                missed.push(*child);
            }
        }
        Ok(missed)
    }
}

/// Begins to list a folder; `None` if it has no base, or if nobody knows now where it is.
pub fn begin_listing<R: Rows>(rows: &mut R, folder: Ino) -> Result<Option<Listing>, R::Error> {
    let (Some(node), Some(path)) = (rows.node(folder)?, path(rows, folder)?) else {
        return Ok(None);
    };
    if rows.base(folder)?.is_none() || is_parked(rows, &node)? {
        return Ok(None);
    }
    let known = rows.bases_in(folder)?.into_iter().collect();
    rows.set_listing(folder, true);
    let (mark, since) = (rows.look_again(folder)?, rows.tick()?);
    let (names, ours) = (HashSet::new(), Tick::default());
    let (version, stale, crossed) = (None, false, false);
    Ok(Some(Listing { folder, path, mark, known, names, version, since, ours, stale, crossed }))
}

/// Another page is about to be asked for.
pub fn begin_page<R: Rows>(rows: &mut R, listing: &mut Listing) -> Result<(), R::Error> {
    listing.since = rows.tick()?;
    listing.stale = false;
    Ok(())
}

/// Applies a page, or a part of one; `false` if the folder moved meanwhile and the listing must begin again.
pub fn list_page<R: Rows>(
    rows: &mut R,
    listing: &mut Listing,
    page: impl IntoIterator<Item = (Name, Observed)>,
) -> Result<bool, R::Error> {
    let Some(node) = rows.node(listing.folder)? else { return Ok(false) };
    if !is_still_at(rows, listing.folder, &listing.path)? || is_parked(rows, &node)? {
        return Ok(false);
    }
    note_touch(rows, listing);
    // Of a folder that counts as listed afterwards, nothing may be passed over: it would look as if it were not there.
    let is_first = rows.base(listing.folder)?.is_none_or(|base| !base.listed);
    if is_first && (listing.stale || is_attempted_above(rows, listing.folder)?) {
        return Ok(false);
    }
    let trust = Trust { fresh: !listing.stale, forced: true };
    let mut names = std::mem::take(&mut listing.names);
    let mut page = page.into_iter().peekable();
    while page.peek().is_some() {
        let part = page.by_ref().take(TOGETHER).collect();
        apply_part(rows, listing.folder, &listing.path, &mut names, part, trust)?;
    }
    listing.names = names;
    listing.ours = rows.touched(listing.folder);
    Ok(true)
}

fn note_touch<R: Rows>(rows: &R, listing: &mut Listing) {
    let foreign = rows.touched(listing.folder) > listing.since.max(listing.ours);
    listing.stale |= foreign;
    listing.crossed |= foreign;
}

/// Every page was applied: what was known when it began, did not change since and was not seen, is gone.
pub fn end_listing<R: Rows>(rows: &mut R, listing: Listing) -> Result<(), R::Error> {
    let folder = listing.folder;
    // Under way to the end: a mark set meanwhile is another one than that which this listing answers.
    let ended = believe(rows, listing);
    rows.set_listing(folder, false);
    ended
}

fn believe<R: Rows>(rows: &mut R, mut listing: Listing) -> Result<(), R::Error> {
    let folder = listing.folder;
    note_touch(rows, &mut listing);
    for (child, base) in listing.known {
        if listing.names.contains(&base.place.name) {
            continue;
        }
        let unchanged = is_unchanged(rows, child, &base)?;
        if !unchanged && rows.base(child)?.is_none_or(|now| now.place.parent != folder) {
            continue;
        }
        if listing.crossed || !unchanged {
            mark(rows, folder)?;
        } else {
            miss(rows, child, Replaced::No)?;
        }
    }
    let Some(base) = rows.base(folder)? else { return Ok(()) };
    if !base.listed {
        rows.set_base(folder, Some(Base { listed: true, ..base.clone() }))?;
    }
    if let Some(version) = listing.version.filter(|version| *version != base.version) {
        // What was passed over has marked the folder.
        rows.set_folder_version(folder, version)?;
    }
    if rows.look_again(folder)? == listing.mark && listing.mark.is_some() {
        if rows.looks_deep(folder)? {
            look_deeper(rows, folder)?;
        }
        rows.set_look_again(folder, None)?;
    }
    let about = |(_, attempt): &(Ino, super::Attempt)| places(attempt).any(|p| p.parent == folder);
    if rows.attempts()?.iter().any(about) {
        // What was seen there may be older than the answer still to come.
        mark(rows, folder)?;
    }
    Ok(())
}

/// Which of these bases are what they were.
pub fn unchanged<R: Rows>(rows: &R, known: &HashMap<Ino, Base>) -> Result<Vec<Ino>, R::Error> {
    let mut same = Vec::new();
    for (ino, base) in known {
        if is_unchanged(rows, *ino, base)? {
            same.push(*ino);
        }
    }
    Ok(same)
}

/// Whether the base is what it was; the version of a folder only says what was seen of it.
fn is_unchanged<R: Rows>(rows: &R, child: Ino, base: &Base) -> Result<bool, R::Error> {
    let Some(mut now) = rows.base(child)? else { return Ok(false) };
    if now.version != base.version
        && rows.node(child)?.is_some_and(|node| node.kind == Kind::Folder)
    {
        now.version = base.version.clone();
    }
    Ok(now == *base)
}

/// Passes a deep mark on to the folders whose names matter.
fn look_deeper<R: Rows>(rows: &mut R, folder: Ino) -> Result<(), R::Error> {
    for child in rows.base_children(folder)? {
        if rows.node(child)?.is_none_or(|node| node.kind != Kind::Folder) {
            continue;
        }
        let listed = rows.base(child)?.is_some_and(|base| base.listed);
        if listed || rows.is_listing(child) || rows.first_base_child(child)?.is_some() {
            mark_deep(rows, child)?;
        }
    }
    Ok(())
}

/// The listing ended without an answer, or because the folder moved: it will be listed again if anybody needs it.
pub fn break_listing<R: Rows>(rows: &mut R, listing: &Listing) {
    rows.set_listing(listing.folder, false);
}

/// The remote says that there is no such folder.
pub fn listing_refused<R: Rows>(rows: &mut R, listing: &Listing) -> Result<(), R::Error> {
    let folder = listing.folder;
    rows.set_listing(folder, false);
    if !is_still_at(rows, folder, &listing.path)? {
        return Ok(());
    }
    if let Some(base) = rows.base(folder)? {
        mark(rows, base.place.parent)?;
        rows.set_look_again(folder, None)?;
        if folder != Ino::ROOT && rows.outbox(folder)?.is_none() {
            miss(rows, folder, Replaced::No)?;
        }
    }
    Ok(())
}

/// Is what was seen at a path, and since when it is true.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Where.
    pub path: RemotePath,
    /// What; `None` if nothing was.
    pub seen: Option<Observed>,
    /// The tick before the look began.
    pub since: Tick,
}

/// Is a hint with what was seen there.
#[derive(Clone, Debug)]
pub struct Look {
    /// The unknown folders above a known identity, from the top, so that it can be followed.
    pub above: Vec<Sight>,
    /// The entry itself.
    pub sight: Sight,
}

/// Applies a page of looked-at hints.
pub fn apply_page<R: Rows>(rows: &mut R, mut looks: Vec<Look>) -> Result<(), R::Error> {
    let mut page = Page { touched: HashMap::new() };
    for look in &looks {
        for sight in look.above.iter().chain([&look.sight]) {
            page.folder(rows, &sight.path)?;
        }
    }
    looks.sort_by_key(|look| (look.sight.seen.is_none(), look.sight.path.0.len()));
    for look in &looks {
        for above in look.above.iter().filter(|above| above.seen.is_some()) {
            if by_names(rows, above.path.0.split_last().map_or(&[], |(_, up)| up))?.is_some() {
                page.apply(rows, above, true)?;
            }
        }
        let known = match look.sight.seen.as_ref().and_then(|seen| seen.id.as_ref()) {
            Some(id) => rows.base_by_id(id)?.is_some(),
            None => false,
        };
        page.apply(rows, &look.sight, known || !look.above.is_empty())?;
    }
    Ok(())
}

/// Remembers when folders were touched before this page did it itself.
struct Page {
    touched: HashMap<Ino, Tick>,
}

impl Page {
    fn folder<R: Rows>(&mut self, rows: &R, at: &RemotePath) -> Result<Tick, R::Error> {
        let Some((_, above)) = at.0.split_last() else { return Ok(Tick::default()) };
        let Some(folder) = by_names(rows, above)? else { return Ok(Tick::default()) };
        Ok(*self.touched.entry(folder).or_insert_with(|| rows.touched(folder)))
    }

    fn apply<R: Rows>(
        &mut self,
        rows: &mut R,
        sight: &Sight,
        forced: bool,
    ) -> Result<(), R::Error> {
        let fresh = self.folder(rows, &sight.path)? <= sight.since;
        reconcile(rows, &sight.path, sight.seen.as_ref(), Trust { fresh, forced })
    }
}

/// A folder's names may have changed at the remote: it is looked at again if they matter.
pub fn hint_folder<R: Rows>(rows: &mut R, at: &RemotePath) -> Result<(), R::Error> {
    let Some(folder) = by_names(rows, &at.0)? else { return Ok(()) };
    let listed = rows.base(folder)?.is_some_and(|base| base.listed);
    if listed || rows.is_listing(folder) { mark(rows, folder) } else { Ok(()) }
}

/// The feed has been drained since `ino` was missed at `stamp`; `seen` is what is at its base path `at` now.
pub fn settle_missing<R: Rows>(
    rows: &mut R,
    ino: Ino,
    stamp: Tick,
    at: &RemotePath,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    if rows.missing(ino)? != Some(stamp) || !is_still_at(rows, ino, at)? {
        return Ok(());
    }
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    let is_back = seen.is_some_and(|seen| !base.is_other_than(seen) && seen.kind == node.kind);
    if !is_back && may_be_found(rows, stamp)? {
        return Ok(());
    }
    rows.set_missing(ino, None)?;
    if is_back { mark(rows, base.place.parent) } else { vanish(rows, ino) }
}

/// Whether a folder waits to be looked at since before this: a move that the feed told of and that could not be followed
/// then is found there.
fn may_be_found<R: Rows>(rows: &R, stamp: Tick) -> Result<bool, R::Error> {
    let mut after = Tick::default();
    while let Some((folder, since)) = rows.look_after(after)?.filter(|(_, since)| *since < stamp) {
        after = since;
        let lost = match rows.node(folder)? {
            Some(node) => is_parked(rows, &node)?,
            None => true,
        };
        if !lost {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The change cursor was too old: hints were lost, so everything known is looked at again.
pub fn lost_hints<R: Rows>(rows: &mut R) -> Result<(), R::Error> {
    look_at_everything(rows)
}
