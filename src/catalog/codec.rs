//! How values stand in rows.

use rusqlite::Row;
use rusqlite::types::Type;

use super::{Attributes, Inode};
use crate::model::{
    Attempt, Base, Content, Digest, Edition, Expect, Generation, Ino, Kind, Name, Pin, Place,
    RemoteId, Sent, Stamp, StepKind, Touched, Version,
};

type Read<T> = rusqlite::Result<T>;

/// All columns of an [`Inode`], in the order in which [`inode`] reads them.
macro_rules! inode_sql {
    ($rest:literal) => {
        concat!(
            "SELECT i.ino, i.kind, i.parent, i.name, i.generation, i.edition, i.size, i.mtime, i.atime, i.ctime,
                    i.mode, i.uid, i.gid, i.content, i.edited, i.stamp_size, i.stamp_ctime, i.mtime_of_data, i.pin,
                    i.target, i.retouched,
                    CASE i.kind WHEN 1 THEN (SELECT b.listed FROM base b WHERE b.endpoint = 0 AND b.ino = i.ino) END,
                    EXISTS (SELECT 1 FROM outbox o WHERE o.endpoint = 0 AND o.ino = i.ino)
             FROM inode i ",
            $rest
        )
    };
}
pub(super) use inode_sql;

/// The integer in which SQLite holds it.
pub(super) fn int(value: u64) -> i64 {
    value.cast_signed()
}

/// The number at this column.
pub(super) fn number(row: &Row<'_>, at: usize) -> Read<u64> {
    Ok(row.get::<_, i64>(at)?.cast_unsigned())
}

/// The inode number at this column.
pub(super) fn ino(row: &Row<'_>, at: usize) -> Read<Ino> {
    number(row, at).map(Ino)
}

fn damaged(at: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Null, what.to_owned().into())
}

/// The name at this column.
pub(super) fn name(row: &Row<'_>, at: usize) -> Read<Name> {
    let bytes = row.get_ref(at)?.as_blob().map_err(|_| damaged(at, "no name"))?;
    Name::new(bytes).map_err(|error| damaged(at, &error.to_string()))
}

/// The place at this column and the next, if there is one.
pub(super) fn place(row: &Row<'_>, at: usize) -> Read<Option<Place>> {
    match row.get::<_, Option<i64>>(at)? {
        Some(parent) => Ok(Some(Place::new(Ino(parent.cast_unsigned()), name(row, at + 1)?))),
        None => Ok(None),
    }
}

const KINDS: [Kind; 5] = [Kind::File, Kind::Folder, Kind::Symlink, Kind::Fifo, Kind::Socket];
const CONTENTS: [Content; 3] = [Content::Placeholder, Content::Partial, Content::Hydrated];
/// The last is a pin that a rule set, not a person.
const PINS: [Pin; 5] = [Pin::Unspecified, Pin::Pinned, Pin::Unpinned, Pin::Excluded, Pin::Pinned];
pub(super) const PIN_BY_RULE: i64 = 4;
const STEPS: [StepKind; 17] = [
    StepKind::MakeFolder,
    StepKind::Write,
    StepKind::Rename,
    StepKind::Remove,
    StepKind::Sidestep,
    StepKind::Settled,
    StepKind::Wait,
    StepKind::Held,
    StepKind::Resolve,
    StepKind::Confirm,
    StepKind::NeedList,
    StepKind::Fetch,
    StepKind::Inherit,
    StepKind::StepAside,
    StepKind::Resurrect,
    StepKind::Cycle,
    StepKind::Metadata,
];

fn code<T: PartialEq>(all: &[T], value: &T) -> i64 {
    all.iter().position(|one| one == value).and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
}

fn decode<T: Copy>(all: &[T], row: &Row<'_>, at: usize) -> Read<T> {
    let index = row.get::<_, i64>(at)?;
    let found = usize::try_from(index).ok().and_then(|index| all.get(index));
    found.copied().ok_or_else(|| damaged(at, "an unknown number"))
}

pub(super) fn kind_code(kind: Kind) -> i64 {
    code(&KINDS, &kind)
}

pub(super) fn kind(row: &Row<'_>, at: usize) -> Read<Kind> {
    decode(&KINDS, row, at)
}

pub(super) fn content_code(content: Content) -> i64 {
    code(&CONTENTS, &content)
}

pub(super) fn content(row: &Row<'_>, at: usize) -> Read<Content> {
    decode(&CONTENTS, row, at)
}

pub(super) fn pin_code(pin: Pin) -> i64 {
    code(&PINS, &pin)
}

pub(super) fn pin(row: &Row<'_>, at: usize) -> Read<Pin> {
    decode(&PINS, row, at)
}

pub(super) fn step_code(step: StepKind) -> i64 {
    code(&STEPS, &step)
}

/// Reads what `inode_sql!` selects.
pub(super) fn inode(row: &Row<'_>) -> Read<Inode> {
    let kind = kind(row, 1)?;
    let stamp = match (row.get::<_, Option<i64>>(15)?, row.get::<_, Option<i64>>(16)?) {
        (Some(size), Some(ctime)) => Some(Stamp { size: size.cast_unsigned(), ctime }),
        _ => None,
    };
    Ok(Inode {
        ino: ino(row, 0)?,
        kind,
        local: place(row, 2)?,
        generation: Generation(number(row, 4)?),
        edition: Edition(number(row, 5)?),
        attributes: Attributes {
            size: number(row, 6)?,
            mtime: row.get(7)?,
            atime: row.get(8)?,
            ctime: row.get(9)?,
            mode: row.get(10)?,
            uid: row.get(11)?,
            gid: row.get(12)?,
        },
        content: content(row, 13)?,
        edited: row.get(14)?,
        stamp,
        mtime_of_data: row.get(17)?,
        pin: pin(row, 18)?,
        listed: row.get::<_, Option<bool>>(21)?.unwrap_or(true),
        pending: row.get(22)?,
        touched: Touched(row.get(20)?),
        target: row.get(19)?,
    })
}

/// The columns of a [`Base`], in the order in which [`base`] reads them.
pub(super) const BASE: &str =
    "SELECT parent, name, version, remote_id, edition, known_size, known_hash, young, listed, size, extra FROM base
     WHERE endpoint = 0 AND ino = ?1";

/// The same of all in a base folder, with their numbers.
pub(super) const BASES: &str =
    "SELECT parent, name, version, remote_id, edition, known_size, known_hash, young, listed, size, extra, ino FROM base
     WHERE endpoint = 0 AND parent = ?1";

/// Reads what [`BASE`] and [`BASES`] select.
pub(super) fn base(row: &Row<'_>) -> Read<Base> {
    let known = match (row.get::<_, Option<i64>>(5)?, row.get::<_, Option<[u8; 32]>>(6)?) {
        (Some(size), Some(hash)) => Some(Digest { size: size.cast_unsigned(), hash }),
        _ => None,
    };
    Ok(Base {
        place: place(row, 0)?.ok_or_else(|| damaged(0, "no base place"))?,
        version: Version(row.get(2)?),
        id: row.get::<_, Option<String>>(3)?.map(RemoteId),
        edition: Edition(number(row, 4)?),
        known,
        young: row.get(7)?,
        listed: row.get::<_, Option<bool>>(8)?.unwrap_or(false),
        size: number(row, 9)?,
        extra: row.get(10)?,
    })
}

/// The columns of an [`Attempt`]; [`attempt`] reads them.
macro_rules! attempt_sql {
    ($rest:literal) => {
        concat!(
            "SELECT attempt, source_parent, source_name, target_parent, target_name, expect, expect_version, nonce, ",
            $rest
        )
    };
}
pub(super) use attempt_sql;

/// Reads the attempt that `attempt_sql!` selects, if there is one.
pub(super) fn attempt(row: &Row<'_>) -> Read<Option<Attempt>> {
    if row.get::<_, Option<i64>>(0)?.is_none() {
        return Ok(None);
    }
    let expect = match row.get::<_, i64>(5)? {
        0 => Expect::Absent,
        1 => Expect::Version(Version(row.get(6)?)),
        2 => Expect::Folder,
        _ => Expect::Any,
    };
    Ok(Some(Attempt {
        kind: decode(&STEPS, row, 0)?,
        source: place(row, 1)?,
        target: place(row, 3)?,
        expect,
        nonce: number(row, 7)?,
    }))
}

/// The number and the version in which an expectation stands.
pub(super) fn expect_code(expect: &Expect) -> (i64, Option<&str>) {
    match expect {
        Expect::Absent => (0, None),
        Expect::Version(version) => (1, Some(&version.0)),
        Expect::Folder => (2, None),
        Expect::Any => (3, None),
    }
}

/// Bytes of one sent content: size, hash, edition.
const SENT: usize = 8 + 32 + 8;

/// Contents known to be ours, one after the other; `None` if there are none.
pub(super) fn ours_bytes(ours: &[Sent]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(ours.len() * SENT);
    for sent in ours {
        bytes.extend(sent.digest.size.to_le_bytes());
        bytes.extend(sent.digest.hash);
        bytes.extend(sent.edition.0.to_le_bytes());
    }
    (!ours.is_empty()).then_some(bytes)
}

/// Reads what [`ours_bytes`] wrote.
pub(super) fn ours(bytes: Option<&[u8]>) -> Vec<Sent> {
    let (chunks, _) = bytes.unwrap_or_default().as_chunks::<SENT>();
    chunks.iter().filter_map(sent).collect()
}

fn sent(chunk: &[u8; SENT]) -> Option<Sent> {
    let (size, rest) = chunk.split_first_chunk::<8>()?;
    let (hash, rest) = rest.split_first_chunk::<32>()?;
    let (edition, _) = rest.split_first_chunk::<8>()?;
    Some(Sent {
        digest: Digest { size: u64::from_le_bytes(*size), hash: *hash },
        edition: Edition(u64::from_le_bytes(*edition)),
    })
}
