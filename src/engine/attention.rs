//! What waits for a person: conflict copies, what cannot be sent as it is, what the guard holds.

use std::collections::HashMap;

use super::core::Core;
use super::outcome::passes_by_itself;
use super::{Engine, EngineError};
use crate::catalog::{self, Reader};
use crate::model::{Ino, Kind};

/// Finds all of one kind of what waits.
type List = fn(&Reader) -> catalog::Result<Vec<Ino>>;

/// The kinds of what waits.
const WAITING: [List; 3] = [conflicting, held, failed];

impl Engine {
    /// How many items at or below `top` wait for a person.
    pub async fn waiting_for_a_person(&self, top: Ino) -> Result<u64, EngineError> {
        let core = self.core.clone();
        self.core.blocking(move || core.waiting_for_a_person(top)).await
    }

    /// Whether an item at or below `top` waits for a person.
    pub async fn needs_a_person(&self, top: Ino) -> Result<bool, EngineError> {
        let core = self.core.clone();
        self.core.blocking(move || core.needs_a_person(top)).await
    }
}

impl Core {
    fn waiting_for_a_person(&self, top: Ino) -> Result<u64, EngineError> {
        Ok(self.catalog.read(|rows| {
            let mut all = Vec::new();
            for list in WAITING {
                all.extend(list(rows)?);
            }
            all.sort_unstable();
            all.dedup();
            let (mut below, mut count) = (Below::of(rows, top), 0);
            for ino in all {
                count += u64::from(below.holds(ino)?);
            }
            Ok(count)
        })?)
    }

    fn needs_a_person(&self, top: Ino) -> Result<bool, EngineError> {
        Ok(self.catalog.read(|rows| {
            if !matches!(rows.kind_size_mtime(top)?, Some((Kind::Folder, ..))) {
                return waits(rows, top);
            }
            let mut below = Below::of(rows, top);
            for list in WAITING {
                for ino in list(rows)? {
                    if below.holds(ino)? {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        })?)
    }
}

/// Conflict copies.
fn conflicting(rows: &Reader) -> catalog::Result<Vec<Ino>> {
    rows.conflicts(usize::MAX >> 1)
}

/// What the guard holds.
fn held(rows: &Reader) -> catalog::Result<Vec<Ino>> {
    Ok(rows.held(usize::MAX >> 1)?.into_iter().map(|(ino, _)| ino).collect())
}

/// What cannot be sent as it is.
fn failed(rows: &Reader) -> catalog::Result<Vec<Ino>> {
    let mut all = Vec::new();
    for (kind, _) in rows.errors_by_kind()? {
        if !passes_by_itself(&kind) {
            all.extend(rows.outbox_failed_as(&kind)?);
        }
    }
    Ok(all)
}

/// Whether this item itself is one of those, by its own rows.
fn waits(rows: &Reader, ino: Ino) -> catalog::Result<bool> {
    let has_failed = rows.outbox_item(ino)?.is_some_and(|row| {
        row.error.is_some() && !passes_by_itself(row.error_kind.as_deref().unwrap_or_default())
    });
    Ok(has_failed || rows.outbox(ino)?.is_some_and(|row| row.held) || rows.is_conflict(ino)?)
}

/// Tells what lies at or below an item. Each place on the way up is looked at once, however many items pass it.
struct Below<'a> {
    rows: &'a Reader,
    top: Ino,
    known: HashMap<Ino, bool>,
}

impl<'a> Below<'a> {
    fn of(rows: &'a Reader, top: Ino) -> Self {
        Self { rows, top, known: HashMap::new() }
    }

    /// Whether an item is the top or lies below it; what was deleted lies where the remote has it.
    fn holds(&mut self, ino: Ino) -> catalog::Result<bool> {
        let (mut at, mut passed) = (ino, Vec::new());
        let holds = loop {
            if at == self.top || self.top == Ino::ROOT {
                break true;
            }
            if let Some(known) = self.known.get(&at) {
                break *known;
            }
            // A circle of what moved into each other ends here.
            self.known.insert(at, false);
            passed.push(at);
            let place = match self.rows.local_place(at)? {
                Some(place) => Some(place),
                None => self.rows.base_place(at)?,
            };
            match place {
                Some(place) => at = place.parent,
                None => break false,
            }
        };
        if holds {
            self.known.extend(passed.into_iter().map(|passed| (passed, true)));
        }
        Ok(holds)
    }
}

/// The reason that a mount with conflict copies gives.
pub fn conflicts_wait(count: u64) -> String {
    let copies = if count == 1 {
        "1 conflict copy waits".into()
    } else {
        format!("{count} conflict copies wait")
    };
    format!("{copies}: dewfs conflicts, then dewfs resolve")
}
