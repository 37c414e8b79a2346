//! What waits for a person: conflict copies, what cannot be sent as it is, what the guard holds.

use super::core::Core;
use super::outcome::passes_by_itself;
use super::{Engine, EngineError};
use crate::catalog::Reader;
use crate::model::Ino;

impl Engine {
    /// How many items at or below `top` wait for a person.
    pub async fn waiting_for_a_person(&self, top: Ino) -> Result<u64, EngineError> {
        let core = self.core.clone();
        self.core.blocking(move || core.waiting_for_a_person(top)).await
    }
}

impl Core {
    fn waiting_for_a_person(&self, top: Ino) -> Result<u64, EngineError> {
        Ok(self.catalog.read(|rows| {
            let mut all = rows.conflicts(usize::MAX >> 1)?;
            all.extend(rows.held(usize::MAX >> 1)?.into_iter().map(|(ino, _)| ino));
            for (kind, _) in rows.errors_by_kind()? {
                if !passes_by_itself(&kind) {
                    all.extend(rows.outbox_failed_as(&kind)?);
                }
            }
            all.sort_unstable();
            all.dedup();
            let mut count = 0;
            for ino in all {
                count += u64::from(is_or_was_below(rows, ino, top)?);
            }
            Ok(count)
        })?)
    }
}

/// Whether an item is `top` or lies below it; what was deleted lies where the remote has it.
fn is_or_was_below(rows: &Reader, ino: Ino, top: Ino) -> crate::catalog::Result<bool> {
    let mut at = ino;
    let mut passed = Vec::new();
    while at != top && top != Ino::ROOT {
        passed.push(at);
        let place = match rows.local_place(at)? {
            Some(place) => Some(place),
            None => rows.base_place(at)?,
        };
        match place {
            Some(place) if !passed.contains(&place.parent) => at = place.parent,
            _ => return Ok(false),
        }
    }
    Ok(true)
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
