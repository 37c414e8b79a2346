//! The step of a file that must be here wholly before it is sent: what is missing is fetched where there is room for it.

use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::{Cause, Core};
use super::steps::{Ended, Stepped, locator};
use crate::model::{self, Ino, RemotePath, Rows as _, Step, StepKind};
use crate::remote::{ErrorKind, RemoteError};

/// How long one that found no room is put off while others are sent.
const NO_ROOM: Duration = Duration::from_secs(2);

impl Core {
    /// Fetches what is missing of a file that is sent whole, if the remote still has what it was edited from.
    pub(super) async fn do_fetch(self: &Arc<Self>, ino: Ino) -> Stepped {
        // Before anybody is asked: it may come again and again until there is room.
        let mut full = None;
        if let Err(error @ EngineError::NoSpace(_)) = self.finds_room(ino).await {
            match self.without_room(ino, error).await {
                // Before that is told: what the remote has instead may need no room.
                Err(error @ EngineError::NoSpace(_)) => full = Some(error),
                put_off => return put_off,
            }
        }
        let Some((looked, _)) = self.look(ino).await? else {
            return self.do_rows(move |tx| model::handled(tx, ino)).await;
        };
        let at = locator(looked.path.clone(), Some(&looked.base));
        let seen = match self.stat(&at, &[]).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Ended::Failed(error)),
        };
        let step = Step { kind: StepKind::Fetch, ino };
        let core = self.clone();
        let gone = seen.is_none().then_some(ino);
        let found = self.found_gone(gone, &at.path, move |tx| {
            let before = (tx.node(ino)?, tx.base(ino)?);
            let same = model::found_to_fetch(tx, ino, &looked, seen.as_ref())?;
            let as_before = (tx.node(ino)?, tx.base(ino)?) == before;
            Ok((same, as_before && core.is_still_wanted(tx, step)?))
        });
        let (same, as_before) = match found.await? {
            Ok(found) => found,
            Err(doubted) => return Ok(Ended::Failed(doubted)),
        };
        if same {
            return match full {
                Some(error) => Err(error),
                None => self.fetch_whole(ino, &at.path).await,
            };
        }
        if as_before {
            // Who writes it keeps the new version from taking its place.
            return Ok(Ended::Refused);
        }
        Ok(Ended::Done)
    }

    /// Fetches what is missing of a file.
    async fn fetch_whole(self: &Arc<Self>, ino: Ino, at: &RemotePath) -> Stepped {
        let fetched = {
            let _turn = self.workers.line.turn().await?;
            self.hydrate_whole(ino, Cause::Transfer).await
        };
        match fetched {
            Ok(_) => Ok(Ended::Done),
            Err(EngineError::Busy(_)) if self.is_held_as_bulk(ino)? => Ok(Ended::Stands),
            Err(error @ EngineError::NoSpace(_)) => self.without_room(ino, error).await,
            Err(error) => failed_to_fetch(error, at),
        }
    }

    /// Whether there is room for what is missing of a file.
    async fn finds_room(self: &Arc<Self>, ino: Ino) -> Result<(), EngineError> {
        let missing = self.missing_of(ino)?;
        self.make_room_at_once(missing).await.map(drop)
    }

    /// Where the cache is full only what is sent makes room: nobody's place among the steps, or turn, is kept from that. What can
    /// never fit, or where nothing is sent, is told.
    async fn without_room(self: &Arc<Self>, ino: Ino, error: EngineError) -> Stepped {
        let comes = matches!(error, EngineError::NoSpace(_)) && self.sends_without_fetching();
        if comes && self.can_ever_fit(self.missing_of(ino)?).await.is_ok() {
            return Ok(Ended::Later(NO_ROOM));
        }
        Err(error)
    }
}

fn failed_to_fetch(error: EngineError, at: &RemotePath) -> Stepped {
    let kind = match error {
        EngineError::Offline => ErrorKind::Offline,
        EngineError::TimedOut => ErrorKind::Unavailable,
        EngineError::Unauthenticated => ErrorKind::Unauthenticated,
        EngineError::Denied(_) => ErrorKind::Denied,
        EngineError::Corrupt(_) => ErrorKind::Corrupt,
        other => return Err(other),
    };
    Ok(Ended::Failed(RemoteError::new(kind, "fetch", at).because(error.to_string())))
}
