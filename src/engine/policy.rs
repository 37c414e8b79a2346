//! Policies of content and names: how much more than was asked for is brought here.

use std::sync::Arc;
use std::time::Duration;

use super::EngineError;
use super::core::{Cause, Core};
use super::live::Live;
use super::rules::AboutRules;
use super::settings::{Hydration, Population};
use crate::model::{Ino, Pin};

/// Bytes that are fetched together for a file that is open and read.
const STRIDE: u64 = 4 << 20;
/// Files freed in one go because they were not used for long.
const MOST_UNUSED: usize = 100_000;
/// Folders looked at together.
const PAGE: usize = 200;

impl Core {
    /// What is to be here before a read of `asked` returns.
    pub(crate) fn needed(&self, live: &Live, asked: std::ops::Range<u64>) -> std::ops::Range<u64> {
        match self.settings.hydration {
            Hydration::Full => 0..live.state().size,
            _ => asked,
        }
    }

    /// Brings what a reader needs, if there is room for it.
    pub(crate) async fn fetch_for_reader(
        self: &Arc<Self>,
        live: &Arc<Live>,
        need: std::ops::Range<u64>,
        want: std::ops::Range<u64>,
    ) -> Result<(), EngineError> {
        self.make_room_at_once(need.end - need.start).await.map(drop)?;
        let want = want.start.min(need.start)..want.end.max(need.end);
        self.ensure(live, need, want, Cause::User).await
    }

    /// A file that is not all here was read for the first time by somebody: goes on with the rest while it is open.
    pub(crate) fn go_on(self: &Arc<Self>, live: &Arc<Live>) {
        if self.settings.hydration != Hydration::Progressive {
            return;
        }
        let (core, live) = (self.clone(), live.clone());
        self.runtime.spawn(async move {
            let mut stopping = core.stopping.subscribe();
            let rest = core.fetch_while_open(&live);
            tokio::select! {
                Err(error) = rest => tracing::debug!(ino = live.ino.0, %error, "the rest stays away"),
                _ = stopping.wait_for(|stop| *stop) => {}
                else => {}
            }
        });
    }

    async fn fetch_while_open(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), EngineError> {
        let mut at = 0;
        let mut pulse = self.pulse.subscribe();
        loop {
            pulse.borrow_and_update();
            let is_open = self.open.handles(live.ino).open > 0;
            if is_open && self.bulk_paused() {
                if pulse.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            let (size, here) = {
                let state = live.state();
                let end = (at + STRIDE).min(state.size);
                (state.size, state.has(at..end))
            };
            if at >= size || !is_open {
                return Ok(());
            }
            let end = (at + STRIDE).min(size);
            if !here {
                // What does not fit is not fetched ahead of anybody.
                drop(self.make_room_at_once(end - at).await?);
                self.ensure(live, at..end, at..end, Cause::Transfer).await?;
            }
            at = end;
        }
    }

    /// Lists the folders whose names are wanted here before anybody asks: those pinned, those that rules are about, and all
    /// with `population=full`. Answers whether something is left to be tried again.
    pub(crate) async fn list_wanted(self: &Arc<Self>) -> bool {
        let mut failed = false;
        loop {
            // What was listed may lead further on the way to the folder of a rule.
            let rules = match self.folders_of_rules() {
                Ok(rules) => rules,
                Err(error) => {
                    tracing::warn!(%error, "cannot tell which folders rules are about");
                    return true;
                }
            };
            // Else each folder that is not listed would be looked at for each name that comes.
            let nothing = rules.is_empty() && self.settings.population != Population::Full;
            if nothing && matches!(self.catalog.read(|rows| rows.has_pins()), Ok(false)) {
                return failed;
            }
            match self.list_wanted_once(&rules, &mut failed).await {
                Ok(0) => return failed,
                // What was listed may hold more.
                Ok(_) => {}
                Err(EngineError::Stopped) => return false,
                Err(error) => {
                    tracing::info!(%error, "folders that are wanted here are still to be listed");
                    return true;
                }
            }
        }
    }

    async fn list_wanted_once(
        self: &Arc<Self>,
        rules: &AboutRules,
        failed: &mut bool,
    ) -> Result<usize, EngineError> {
        let mut listed = 0;
        let mut after = Ino(0);
        loop {
            let page = self.catalog.read(|rows| rows.unlisted(after, PAGE))?;
            let Some(last) = page.last() else { return Ok(listed) };
            after = *last;
            for folder in page {
                if !self.is_wanted(folder, rules)? {
                    continue;
                }
                if self.bulk_paused() {
                    return Err(EngineError::Busy("background transfer stands still".to_owned()));
                }
                match self.list_in_background(folder).await {
                    Ok(()) => listed += 1,
                    Err(EngineError::Stopped) => return Err(EngineError::Stopped),
                    // It may be gone by now; the others go on.
                    Err(EngineError::Stale | EngineError::NotFound) => {}
                    Err(error) if self.would_fail_all(&error) => return Err(error),
                    Err(error) => {
                        tracing::info!(ino = folder.0, %error, "a folder is still to be listed");
                        *failed = true;
                    }
                }
            }
        }
    }

    fn is_wanted(&self, folder: Ino, rules: &AboutRules) -> Result<bool, EngineError> {
        if self.settings.population == Population::Full || rules.ways.contains(&folder) {
            return Ok(true);
        }
        if self.catalog.read(|rows| rows.effective_pin(folder))? == Pin::Pinned {
            return Ok(true);
        }
        for top in &rules.tops {
            if self.is_below(folder, *top)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Frees what was not used for as long as `auto_free=` says; ends with the engine.
    pub(crate) async fn run_ageing(self: Arc<Self>) {
        let Some(age) = self.settings.free_after.filter(|_| self.settings.auto_free) else {
            return;
        };
        let mut stopping = self.stopping.subscribe();
        // Often enough to be felt, seldom enough to cost nothing.
        let pause = (age / 10).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            if let Err(error) = self.free_unused(age).await {
                tracing::warn!(%error, "cannot free what was not used for long");
            }
        }
    }

    async fn free_unused(self: &Arc<Self>, age: Duration) -> Result<(), EngineError> {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let before = super::core::now().saturating_sub(age);
        let mut freed = 0;
        // What was used just now is not in the catalog yet.
        let used = super::open::lock(&self.uses).clone();
        let is_unused = |ino: &Ino| used.get(ino).is_none_or(|when| *when < before);
        let unused = self.catalog.read(|rows| rows.unused_since(before, MOST_UNUSED))?;
        for ino in unused.into_iter().filter(is_unused) {
            let (inode, pin) =
                self.catalog.read(|rows| Ok((rows.inode(ino)?, rows.effective_pin(ino)?)))?;
            if let Some(inode) = inode.filter(|_| pin != Pin::Pinned)
                && let Ok((bytes, None)) = self.drop_content(&inode, false).await
            {
                freed += bytes;
            }
        }
        if freed > 0 {
            tracing::debug!(bytes = freed, "freed what was not used for long");
            self.unlink_forgotten().await?;
        }
        Ok(())
    }
}
