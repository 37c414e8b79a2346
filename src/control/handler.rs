//! Each request as verbs of the engine.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::Sender;

use crate::engine::{Engine, EngineError, ItemStatus, MountState, MountStatus, conflicts_wait};
use crate::model::{Ino, Kind};

use super::document::{Item, Mount, PathText, to_line};
use super::outcome::{
    Checked, Conflict, Dropped, Event, Flow, HeldDocument, History, Problem, ProtocolDocument,
    Released, RestoredDocument, SyncDocument,
};
use super::protocol::{Done, OLDEST, Request, Scope, VERSION};
use super::several::in_words;
use super::{MountInfo, StopSignal};

/// How many items `pending` shows at most; the count in `mount` is of all.
const MOST_PENDING: usize = 100_000;
/// A drain without a limit ends when nothing goes further; this is only the engine's upper bound.
const NO_LIMIT: Duration = Duration::from_secs(7 * 86_400);
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);

/// Is one request on its way.
pub(super) struct Handler {
    pub(super) engine: Engine,
    pub(super) info: Arc<MountInfo>,
    pub(super) stop: StopSignal,
    pub(super) out: Sender<String>,
    /// Whether who asks may make the mount fetch listings.
    pub(super) rules: bool,
}

pub(super) type Outcome = Result<Done, EngineError>;

impl Handler {
    /// Answers the request; the caller sends what is returned as the last line.
    pub(super) async fn handle(&self, request: Request, progress: bool) -> Done {
        let shows = shows(&request);
        let work = self.dispatch(request);
        let outcome = if progress { self.with_progress(work).await } else { work.await };
        if shows {
            self.engine.told().await;
        }
        outcome.unwrap_or_else(|error| failed(&error))
    }

    async fn dispatch(&self, request: Request) -> Outcome {
        match request {
            Request::Status => self.status().await,
            Request::Item { scope } => self.item(&scope).await,
            Request::List { scope, recursive, fetch } => self.list(&scope, recursive, fetch).await,
            Request::Pending { scope } => self.pending(&scope).await,
            Request::Watch { scope } => self.watch(&scope).await,
            Request::Events { scope } => self.events(&scope).await,
            Request::Pause { lane } => {
                self.engine.pause(lane.lane()).await?;
                self.say_mount().await
            }
            Request::Resume => {
                self.engine.resume().await?;
                self.say_mount().await
            }
            Request::ResumeLane { lane } => {
                self.engine.resume_lane(lane.lane()).await?;
                self.say_mount().await
            }
            Request::Version => {
                self.say(&ProtocolDocument::new(VERSION, OLDEST, env!("CARGO_PKG_VERSION"))).await;
                Ok(Done::well())
            }
            Request::Sync { scope, wait, timeout_ms } => self.sync(&scope, wait, timeout_ms).await,
            Request::Wait { scope, timeout_ms } => {
                let top = self.find_named(&scope).await?;
                self.wait(&scope, top, timeout_ms).await
            }
            Request::Hydrate { paths } => self.hydrate(&paths).await,
            Request::Free { paths, dry_run } => self.free(&paths, dry_run).await,
            Request::Pin { paths, wait } => self.pin(&paths, wait).await,
            Request::Unpin { paths } => self.unpin(&paths).await,
            Request::Pins { scope } => self.pins(&scope).await,
            Request::PinRule { name, expression, budget } => {
                self.add_rule(name.as_deref(), &expression, budget).await
            }
            Request::RemovePinRule { name } => self.remove_rule(&name).await,
            Request::Why { scope } => self.why(&scope).await,
            Request::Held => self.held().await,
            Request::Release { dry_run } => self.release(dry_run).await,
            Request::Undo { dry_run } => self.undo(dry_run).await,
            Request::Conflicts => self.conflicts().await,
            Request::Resolve { paths, keep, dry_run } => self.resolve(&paths, keep, dry_run).await,
            Request::AcceptRemote => {
                self.engine.accept_remote().await?;
                Ok(Done::well())
            }
            Request::CacheStat => self.cache_stat().await,
            Request::CacheVerify => self.cache_verify().await,
            Request::CacheClear { dry_run } => {
                let freed = self.engine.clear_cache(dry_run).await?;
                self.say(&Dropped::of(&freed, dry_run, &self.info.mountpoint)).await;
                Ok(Done::well())
            }
            Request::Find { scope, pattern } => self.search(&scope, pattern.as_ref()).await,
            Request::First { scope, order, count } => self.first(&scope, order, count).await,
            Request::Usage { scope, depth } => self.usage(&scope, depth).await,
            Request::Drain { timeout_ms } => self.drain(timeout_ms).await,
            Request::SignIn => {
                self.stop.ask_sign_in();
                Ok(Done::well())
            }
            Request::Stop => {
                self.stop.ask();
                Ok(Done::well())
            }
        }
    }

    async fn with_progress(&self, work: impl Future<Output = Outcome>) -> Outcome {
        tokio::pin!(work);
        let mut pause = tokio::time::interval(PROGRESS_PAUSE);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                _ = pause.tick() => {
                    for one in self.engine.progress() {
                        self.say(&Event::progress(&one, &self.info.mountpoint)).await;
                    }
                }
            }
        }
    }

    /// Sends a document. Who went away is noticed where requests are read.
    pub(super) async fn say(&self, document: &(impl Serialize + Sync)) {
        let _gone = self.out.send(to_line(document)).await;
    }

    pub(super) fn path_text(&self, path: &[u8]) -> PathText {
        PathText::in_mount(&self.info.mountpoint, path)
    }

    pub(super) async fn say_item(&self, item: &ItemStatus) {
        self.say(&Item::of(item, &self.info.mountpoint)).await;
    }

    pub(super) async fn find(&self, scope: &Scope) -> Result<Ino, EngineError> {
        let path = scope.bytes().ok_or(EngineError::Invalid("path_base64 is no base64"))?;
        self.engine.resolve(&path, self.rules).await
    }

    /// The same; what is not there is named.
    async fn find_named(&self, scope: &Scope) -> Result<Ino, EngineError> {
        let path = || self.path_text(&scope.bytes().unwrap_or_default()).path;
        self.find(scope).await.map_err(|error| match error {
            EngineError::NotFound => {
                EngineError::Refused(format!("{}: {}", path(), in_words(&error)))
            }
            other => other,
        })
    }

    async fn status(&self) -> Outcome {
        let mut status = self.engine.mount_status().await?;
        if !self.rules {
            // It names files that who asks may not see.
            status.last_error = None;
        }
        self.say(&Mount::of(&status, &self.info)).await;
        Ok(Done::with(health(&status), Some(status.pending), None))
    }

    async fn item(&self, scope: &Scope) -> Outcome {
        let ino = self.find(scope).await?;
        let item = self.engine.item_status(ino).await?;
        self.say_item(&item).await;
        let left = left_of(&item);
        let mut person = self.engine.needs_a_person(ino).await?;
        if !person && left > 0 {
            person = stands(&self.engine.mount_status().await?);
        }
        Ok(Done::with(item_health(&item, person), Some(left), None))
    }

    async fn list(&self, scope: &Scope, recursive: bool, fetch: bool) -> Outcome {
        let top = self.find(scope).await?;
        let status = self.engine.item_status(top).await?;
        if status.kind != Kind::Folder {
            self.say_item(&status).await;
            return Ok(Done::well());
        }
        let mut folders = vec![(top, self.rules)];
        while let Some((folder, may_fetch)) = folders.pop() {
            let items = self.engine.folder_status(folder, may_fetch).await?;
            let mut below = Vec::new();
            for item in &items {
                self.say_item(item).await;
                if recursive && item.kind == Kind::Folder && (item.listed || fetch) {
                    match self.engine.resolve(&item.path, false).await {
                        Ok(folder) => below.push((folder, fetch)),
                        // It went away since.
                        Err(EngineError::NotFound) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            folders.extend(below.into_iter().rev());
        }
        Ok(Done::well())
    }

    async fn pending(&self, scope: &Scope) -> Outcome {
        let top = self.find(scope).await?;
        let items = self.engine.pending(top, MOST_PENDING + 1).await?;
        for item in items.iter().take(MOST_PENDING) {
            self.say_item(item).await;
        }
        let left = u64::try_from(items.len()).ok();
        Ok(Done::with(0, left, more_than(items.len(), MOST_PENDING)))
    }

    async fn sync(&self, scope: &Scope, wait: bool, timeout_ms: Option<u64>) -> Outcome {
        let top = self.find_named(scope).await?;
        self.engine.sync_now(top).await?;
        if wait {
            return self.wait(scope, top, timeout_ms).await;
        }
        let item = self.engine.item_status(top).await?;
        let left = left_of(&item);
        self.say_sync(top, &item.path, left).await?;
        Ok(Done::with(0, Some(left), None))
    }

    /// Says how it is in sync, and answers how many items wait for a person.
    async fn say_sync(&self, top: Ino, path: &[u8], left: u64) -> Result<u64, EngineError> {
        let person = self.engine.waiting_for_a_person(top).await?;
        self.say(&SyncDocument::new(self.path_text(path), left == 0, left, person)).await;
        Ok(person)
    }

    /// How many items at or below `top` are left of which waiting has just ended.
    async fn left_at(&self, top: Ino) -> Result<u64, EngineError> {
        match self.engine.item_status(top).await {
            // It may have gone a moment later.
            Ok(item) => Ok(left_of(&item).max(1)),
            // That it was deleted is what is left.
            Err(EngineError::NotFound) => Ok(1),
            Err(error) => Err(error),
        }
    }

    async fn wait(&self, scope: &Scope, top: Ino, timeout_ms: Option<u64>) -> Outcome {
        let outcome = self.engine.wait_in_sync(top, timeout_ms.map(Duration::from_millis)).await;
        let ran_out = matches!(outcome, Err(EngineError::TimedOut));
        let in_sync = if ran_out { false } else { outcome? };
        let left = if in_sync { 0 } else { self.left_at(top).await? };
        let path = scope.bytes().unwrap_or_default();
        let person = self.say_sync(top, &path, left).await?;
        if in_sync {
            // What is left to decide no waiting decides.
            let (exit, why) =
                if person > 0 { (4, Some(conflicts_wait(person))) } else { (0, None) };
            return Ok(Done::with(exit, Some(0), why));
        }
        let status = self.engine.mount_status().await?;
        let (exit, why) = match &status {
            _ if ran_out => (3, "time ran out".to_owned()),
            status if person > 0 || health(status) == 4 => (4, attention(status)),
            status => (3, status.reason.clone().unwrap_or_else(|| "work left".into())),
        };
        Ok(Done::with(exit, Some(left), Some(format!("{} not in sync: {why}", items(left)))))
    }

    async fn why(&self, scope: &Scope) -> Outcome {
        let ino = self.find(scope).await?;
        let item = self.engine.item_status(ino).await?;
        self.say_item(&item).await;
        for happened in self.engine.history(ino).await? {
            self.say(&History::of(&happened, &item.path, &self.info.mountpoint)).await;
        }
        Ok(Done::well())
    }

    async fn held(&self) -> Outcome {
        for held in self.engine.held().await? {
            self.say(&HeldDocument::of(&held, &self.info.mountpoint)).await;
        }
        Ok(Done::well())
    }

    async fn release(&self, dry_run: bool) -> Outcome {
        let items = match dry_run {
            true => self.engine.mount_status().await?.held,
            false => self.engine.release_held().await?,
        };
        self.say(&Released::new(self.path_text(b""), items, dry_run)).await;
        Ok(Done::well())
    }

    /// 1 if something is in use, so that it could not be brought back.
    async fn undo(&self, dry_run: bool) -> Outcome {
        if dry_run {
            for held in self.engine.held().await? {
                self.say(&RestoredDocument::would_be(&held, &self.info.mountpoint)).await;
            }
            return Ok(Done::well());
        }
        let mut left = false;
        for restored in self.engine.undo_held().await? {
            left |= restored.what == "left";
            self.say(&RestoredDocument::of(&restored, &self.info.mountpoint)).await;
        }
        Ok(Done::with(u8::from(left), None, None))
    }

    async fn conflicts(&self) -> Outcome {
        for copy in self.engine.conflicts().await? {
            self.say(&Conflict::of(&copy, &self.info.mountpoint)).await;
        }
        Ok(Done::well())
    }

    async fn cache_stat(&self) -> Outcome {
        let status = self.engine.mount_status().await?;
        let flow = Flow::new(
            status.cache_used,
            status.cache_limit,
            status.cache_pending,
            status.cache_pinned,
            status.items,
            self.engine.state_dir().to_string_lossy().into_owned(),
        );
        self.say(&flow).await;
        Ok(Done::well())
    }

    async fn cache_verify(&self) -> Outcome {
        let found = self.engine.verify_cache().await?;
        for (path, what) in &found {
            self.say(&Problem::new(self.path_text(path), what.clone())).await;
        }
        self.say(&Checked::new(u64::try_from(found.len()).unwrap_or(u64::MAX))).await;
        Ok(Done::with(u8::from(!found.is_empty()), None, None))
    }

    async fn drain(&self, timeout_ms: Option<u64>) -> Outcome {
        let left = match timeout_ms {
            Some(0) => self.engine.mount_status().await?.pending,
            limit => self.engine.drain(limit.map_or(NO_LIMIT, Duration::from_millis)).await,
        };
        self.say_sync(Ino::ROOT, b"", left).await?;
        Ok(Done::with(if left == 0 { 0 } else { 3 }, Some(left), None))
    }
}

/// Whether who asked for this will look at files next, and must then see what became of them.
fn shows(request: &Request) -> bool {
    matches!(
        request,
        Request::Sync { .. }
            | Request::Wait { .. }
            | Request::Undo { .. }
            | Request::Resolve { .. }
            | Request::AcceptRemote
    )
}

/// The exit status of `status --check`: 0 in sync, 3 work left, 4 a person is needed.
fn health(status: &MountStatus) -> u8 {
    let person = status.errors + status.conflicts + status.held > 0;
    match (person || stands(status), status.pending) {
        (true, _) => 4,
        (false, 0) => 0,
        (false, _) => 3,
    }
}

/// The same of an item, of which or below which something waits for a person or not.
fn item_health(item: &ItemStatus, person: bool) -> u8 {
    use crate::engine::SyncState;
    match item.sync {
        _ if person => 4,
        SyncState::Error | SyncState::Conflict => 4,
        SyncState::InSync | SyncState::LocalOnly if item.pending_below == 0 => 0,
        _ => 3,
    }
}

/// Whether nothing is sent until a person did something about the remote.
fn stands(status: &MountStatus) -> bool {
    matches!(status.state, MountState::AuthRequired | MountState::RemoteMissing)
}

fn left_of(item: &ItemStatus) -> u64 {
    use crate::engine::SyncState;
    let own = !matches!(item.sync, SyncState::InSync | SyncState::LocalOnly | SyncState::Conflict);
    item.pending_below + u64::from(own)
}

fn attention(status: &MountStatus) -> String {
    match (&status.reason, &status.last_error) {
        (Some(reason), _) => reason.clone(),
        (None, Some(error)) => error.message.clone(),
        (None, None) => "a person is needed".into(),
    }
}

/// What to say of a list that not all fits into.
fn more_than(count: usize, most: usize) -> Option<String> {
    (count > most).then(|| format!("only the first {most} are shown; dewfs status counts all"))
}

fn items(count: u64) -> String {
    if count == 1 { "1 item".into() } else { format!("{count} items") }
}

pub(super) fn failed(error: &EngineError) -> Done {
    let exit = if matches!(error, EngineError::Unauthenticated) { 4 } else { 1 };
    Done::with(exit, None, Some(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of very many items not in sync the list ended without a word.
    #[test]
    fn regression_a_list_that_is_cut_says_so() {
        assert_eq!(more_than(3, 3), None);
        let said = more_than(4, 3).unwrap_or_default();
        assert!(said.starts_with("only the first 3 are shown"), "{said}");
    }
}
