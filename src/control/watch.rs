//! Watching: the requests `watch` (how it is, again and again) and `events` (what happens).

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;

use crate::engine::{EngineError, Happening, MountState, Progress};
use crate::model::Ino;

use super::document::{Mount, PathText, rfc3339};
use super::handler::{Handler, Outcome};
use super::outcome::Event;
use super::protocol::{Done, Scope};

/// Changes are shown at most this often.
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// How often the progress of transfers is told while there are any.
const TRANSFERS: Duration = Duration::from_millis(500);
/// A transfer that is over sooner is not told of.
const QUIET: Duration = Duration::from_secs(1);

impl Event {
    /// Something that happened.
    pub fn of(happening: &Happening, mountpoint: &Path) -> Self {
        let in_mount = |path: &[u8]| PathText::in_mount(mountpoint, path);
        let mut event = Self::plain(happening.event, in_mount(&happening.path));
        event.time = rfc3339(happening.time);
        event.from = happening.from.as_deref().map(|from| in_mount(from).path);
        event.what = happening.what.clone();
        event.message = happening.message.clone();
        event
    }
}

/// Is what is known of the mount as a whole, to tell what is news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    state: Option<(MountState, Option<String>)>,
    held: u64,
}

impl Handler {
    pub(super) async fn watch(&self, scope: &Scope) -> Outcome {
        let top = self.find(scope).await?;
        let mut mark = 0;
        while !self.out.is_closed() {
            if top == Ino::ROOT {
                self.say(&Mount::of(&self.engine.mount_status().await?, &self.info)).await;
            } else {
                self.say_item(&self.engine.item_status(top).await?).await;
            }
            tokio::time::sleep(WATCH_PAUSE).await;
            mark = self.engine.changed(mark).await;
        }
        Ok(Done::well())
    }

    /// Tells what happens at or below, until who asked goes away.
    pub(super) async fn events(&self, scope: &Scope) -> Outcome {
        self.find(scope).await?;
        let top = scope.bytes().unwrap_or_default();
        let mut events = self.engine.events();
        let mut known = Known::default();
        let mut transfers: HashMap<Vec<u8>, Instant> = HashMap::new();
        let mut mark = 0;
        self.say_state(&mut known).await?;
        loop {
            let busy = !transfers.is_empty();
            tokio::select! {
                happening = events.recv() => match happening {
                    Ok(happening) => self.say_happening(&happening, &top).await,
                    Err(RecvError::Lagged(_)) => self.say(&self.plain("lagged")).await,
                    Err(RecvError::Closed) => return Ok(Done::well()),
                },
                now = self.engine.changed(mark) => {
                    mark = now;
                    self.say_state(&mut known).await?;
                    self.say_transfers(&mut transfers, &top).await;
                    // What happens meanwhile waits in the channel: no more often than a person can follow.
                    tokio::time::sleep(WATCH_PAUSE).await;
                }
                () = tokio::time::sleep(TRANSFERS), if busy => {
                    self.say_transfers(&mut transfers, &top).await;
                }
                () = self.out.closed() => return Ok(Done::well()),
            }
        }
    }

    fn plain(&self, event: &'static str) -> Event {
        Event::plain(event, self.path_text(b""))
    }

    async fn say_happening(&self, happening: &Happening, top: &[u8]) {
        let from = happening.from.as_deref().is_some_and(|from| is_at_or_below(from, top));
        if from || is_at_or_below(&happening.path, top) {
            self.say(&Event::of(happening, &self.info.mountpoint)).await;
        }
    }

    async fn say_state(&self, known: &mut Known) -> Result<(), EngineError> {
        let status = self.engine.mount_status().await?;
        let state = Some((status.state, status.reason.clone()));
        if known.state != state {
            let mut event = self.plain("state");
            event.what = Some(status.state.word().to_owned());
            event.message = status.reason.clone();
            self.say(&event).await;
            known.state = state;
        }
        if known.held != status.held {
            let mut event = self.plain("held");
            event.what = Some(status.held.to_string());
            self.say(&event).await;
            known.held = status.held;
        }
        Ok(())
    }

    async fn say_transfers(&self, known: &mut HashMap<Vec<u8>, Instant>, top: &[u8]) {
        let now = Instant::now();
        let running: Vec<Progress> = self.engine.progress();
        known.retain(|path, _| running.iter().any(|one| one.path == *path));
        for one in running.iter().filter(|one| is_at_or_below(&one.path, top)) {
            let since = *known.entry(one.path.clone()).or_insert(now);
            if now.duration_since(since) >= QUIET {
                self.say(&Event::progress(one, &self.info.mountpoint)).await;
            }
        }
    }
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    top.is_empty()
        || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}
