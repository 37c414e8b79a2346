//! Applies what a look told outside an attempt: is a young version what we think, are bytes or names still there, what
//! became of an attempt without an answer.

use super::around::{is_edited, is_of_another, is_version_of, wanted};
use super::metadata::resolve_metadata;
use super::reconcile::{mark, miss_by_settle, refresh};
use super::revive::{forget_base, resurrect};
use super::settle::{Made, Refusal, adopt_file, adopt_folder, answered, apply_move, settle_write};
use super::touch::touch;
use super::{Attempt, Base, Digest, Ino, Kind, Observed, RemotePath, Rows, StepKind};

/// Is what was looked at before an observation outside an attempt: the base and its remote path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The base then.
    pub base: Base,
    /// Its remote path then.
    pub path: RemotePath,
}

/// Notes what a look at the inode's base place is about.
pub fn look<R: Rows>(rows: &R, ino: Ino) -> Result<Option<Looked>, R::Error> {
    let base = rows.base(ino)?;
    let path = super::path(rows, ino)?;
    Ok(base.zip(path).map(|(base, path)| Looked { base, path }))
}

fn is_as_looked<R: Rows>(rows: &R, ino: Ino, looked: &Looked) -> Result<bool, R::Error> {
    Ok(look(rows, ino)?.as_ref() == Some(looked))
}

/// The tick of a young version may be over: what is there stays under this version only if it is what we think.
pub fn confirmed<R: Rows>(
    rows: &mut R,
    ino: Ino,
    looked: &Looked,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    let Some(node) = rows.node(ino)? else { return Ok(()) };
    if !is_as_looked(rows, ino, looked)? {
        return Ok(());
    }
    let base = &looked.base;
    let Some(seen) = seen.filter(|seen| seen.kind == node.kind) else {
        return miss_by_settle(rows, ino);
    };
    let edited = is_edited(&node, Some(base));
    let same_version = seen.version == base.version;
    let unknown = base.known.is_some_and(|known| known.size == seen.size) && seen.digest.is_none();
    if same_version && (!seen.settled || unknown) {
        return Ok(());
    }
    let same_size = base.size == seen.size;
    let same = same_version && same_size && (base.known.is_none() || base.known == seen.digest);
    if same || edited && !same_version {
        // Where it is not the same, the conditional step will find it.
        rows.set_base(ino, Some(Base { young: false, ..base.clone() }))?;
    } else if wanted(rows, &node)?.is_none() {
        resurrect(rows, ino, Some(seen))?;
    } else if edited {
        settle_write(rows, ino, &base.place, Refusal::Mismatch, Some(seen))?;
    } else {
        refresh(rows, ino, seen)?;
    }
    touch(rows, ino)
}

/// A content came, all of it (then `known` is what it is) or a part, perhaps while its version was `young`. A version that was
/// confirmed meanwhile, when there was nothing here to compare with, is looked at again.
pub fn came<R: Rows>(
    rows: &mut R,
    ino: Ino,
    known: Option<Digest>,
    young: bool,
) -> Result<(), R::Error> {
    let (Some(node), Some(base)) = (rows.node(ino)?, rows.base(ino)?) else { return Ok(()) };
    if is_edited(&node, Some(&base)) {
        return Ok(());
    }
    if base.young {
        if known.is_some() {
            rows.set_base(ino, Some(Base { known, ..base }))?;
        }
        return Ok(());
    }
    if !young || base.known.is_some() {
        return Ok(());
    }
    rows.set_base(ino, Some(Base { young: true, known, ..base }))?;
    touch(rows, ino)
}

/// The bytes to fetch were looked for: `true` if they are still what the base is about, else the rows say what is.
pub fn found_to_fetch<R: Rows>(
    rows: &mut R,
    ino: Ino,
    looked: &Looked,
    seen: Option<&Observed>,
) -> Result<bool, R::Error> {
    let Some(node) = rows.node(ino)?.filter(|node| !node.hydrated) else { return Ok(false) };
    if !is_as_looked(rows, ino, looked)? {
        return Ok(false);
    }
    match seen.filter(|seen| seen.kind == Kind::File) {
        Some(seen) if is_version_of(&looked.base, seen) => return Ok(true),
        // It was deleted here: the conditional remove finds that there is something nobody saw.
        Some(_) if node.local.is_none() => {}
        Some(seen) => refresh(rows, ino, seen)?,
        None => miss_by_settle(rows, ino)?,
    }
    Ok(false)
}

/// A folder to be listed was looked for.
pub fn found_to_list<R: Rows>(
    rows: &mut R,
    ino: Ino,
    looked: &Looked,
    seen: Option<&Observed>,
) -> Result<(), R::Error> {
    if !is_as_looked(rows, ino, looked)? {
        return Ok(());
    }
    if seen.is_some_and(|seen| seen.kind == Kind::Folder) {
        if !looked.base.listed {
            rows.need_list(ino);
        }
        return Ok(());
    }
    miss_by_settle(rows, ino)
}

/// Looks what became of an attempt without an answer: `here` is what is at its source, `there` what is at its target.
pub fn resolve<R: Rows>(
    rows: &mut R,
    ino: Ino,
    attempt: &Attempt,
    here: Option<&Observed>,
    there: Option<&Observed>,
) -> Result<(), R::Error> {
    let row = rows.outbox(ino)?.filter(|row| row.attempt.as_ref() == Some(attempt));
    let (Some(row), Some(node)) = (row, rows.node(ino)?) else { return Ok(()) };
    answered(rows, ino)?;
    let base = rows.base(ino)?;
    let there_is = |kind| there.filter(|seen| seen.kind == kind);
    match (attempt.kind, &attempt.target, base) {
        (StepKind::Write, Some(target), base) => {
            let ours = base.is_none_or(|base| base.place == *target);
            if let Some(seen) = there_is(Kind::File).filter(|_| ours)
                && let Some(edition) = row.edition_of(seen.digest)
                && !is_of_another(rows, ino, target, seen)?
            {
                adopt_file(rows, ino, target, seen, edition, seen.digest)?;
            }
        }
        (StepKind::MakeFolder, Some(target), None) => {
            if let Some(seen) = there_is(Kind::Folder) {
                adopt_folder(rows, ino, target, seen, Made::Before)?;
            }
        }
        (StepKind::Rename | StepKind::Sidestep, Some(target), Some(base)) => {
            let free = rows.base_at(target)?.is_none();
            if let Some(seen) = there_is(node.kind).filter(|_| free)
                && is_same_entry(node.kind, &base, here, seen)
            {
                apply_move(rows, ino, target, seen)?;
            }
        }
        (StepKind::Metadata, _, Some(base)) => resolve_metadata(rows, ino, base, here)?,
        (StepKind::Remove, _, Some(base)) => {
            let same = here.is_some_and(|here| {
                here.kind == node.kind
                    && (node.kind == Kind::Folder || here.version == base.version)
            });
            // Gone, or replaced after we had removed it.
            if here.is_none() || node.local.is_some() && !same {
                forget_base(rows, ino)?;
                mark(rows, base.place.parent)?;
            }
        }
        _ => {}
    }
    touch(rows, ino)
}

/// Whether what is at the target of a rename is what was at its source.
fn is_same_entry(kind: Kind, base: &Base, here: Option<&Observed>, there: &Observed) -> bool {
    match base.id.as_ref().zip(there.id.as_ref()) {
        Some((known, there)) => known == there,
        None => {
            let content = base.known.is_some() && base.known == there.digest;
            here.is_none() && (kind == Kind::Folder || there.version == base.version || content)
        }
    }
}
