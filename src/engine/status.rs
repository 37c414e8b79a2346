//! What is told of the mount and of one item: gathered from catalog, cache and workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::EngineError;
use super::attention::conflicts_wait;
use super::core::{Core, now};
use super::crash::crash_here;
use super::outcome::passes_by_itself;
use super::state::{ItemStatus, MountState, MountStatus, SyncState};
use crate::cache::CacheError;
use crate::catalog::{Inode, OutboxItem, PendingCounts, Reader};
use crate::model::{Content, Ino, Kind, Name, Pin};
use crate::remote::FeedKind;

type Ready<T> = Result<T, EngineError>;

/// Is how many bytes are here of files that are pinned.
#[derive(Debug)]
pub(crate) struct PinnedBytes {
    bytes: u64,
    /// Of the catalog when they were counted.
    epoch: u64,
    at: Instant,
    took: Duration,
    /// Whether somebody counts anew.
    counting: bool,
}

impl Default for PinnedBytes {
    fn default() -> Self {
        Self { bytes: 0, epoch: 0, at: Instant::now(), took: Duration::ZERO, counting: false }
    }
}

impl PinnedBytes {
    fn serves(&self) -> bool {
        self.took > LONG && (self.counting || self.at.elapsed() < self.took.saturating_mul(SELDOM))
    }
}

/// What takes longer than this is counted no oftener than in one of so many such times.
const LONG: Duration = Duration::from_millis(20);
const SELDOM: u32 = 10;

impl Core {
    pub(crate) fn mount_status(self: &Arc<Self>) -> Ready<MountStatus> {
        let (totals, oldest) = self.catalog.read(|rows| Ok((rows.totals()?, rows.pending(1)?)))?;
        let usage = self.cache.usage()?;
        let errors = self.stuck_items()?;
        let held = self.catalog.read(|rows| rows.held_count())?;
        let (state, reason) = self.state_now(errors, held, totals.conflicts);
        let quota = *super::open::lock(&self.quota);
        let capabilities = self.remotes.user.capabilities();
        Ok(MountStatus {
            state,
            reason,
            read_only: self.settings.read_only || !capabilities.writable,
            items: totals.items,
            pending: totals.pending,
            uploading: self.upload_progress().len() as u64,
            hydrating: self
                .open
                .all()
                .iter()
                .filter(|live| !live.state().fetching.is_empty())
                .count() as u64,
            held,
            conflicts: totals.conflicts,
            errors,
            last_error: super::open::lock(&self.last_error).clone(),
            oldest_pending: oldest.first().map(|row| nanos(row.since)),
            last_contact: self.last_contact(),
            feed: feed_word(capabilities.feed),
            feed_detail: self.feed_detail(),
            oldest_look: self.oldest_look()?,
            cache_used: usage.used_bytes,
            cache_limit: usage.limit_bytes,
            cache_pending: self.catalog.read(|rows| rows.pending_bytes())?,
            cache_pinned: self.pinned_bytes()?,
            quota: quota.map(|space| (space.used, space.limit)),
            requests_by: self.requests_by(),
            bytes_down: self.counters.bytes_down.load(Ordering::Relaxed),
            bytes_up: self.counters.bytes_up.load(Ordering::Relaxed),
            no_passthrough: self.through.why_not(),
            passthrough_by: self.through.by(),
        })
    }

    fn state_now(&self, errors: u64, held: u64, conflicts: u64) -> (MountState, Option<String>) {
        if let Some(state) = self.connection_state() {
            return state;
        }
        if let Some(why) = self.why_paused() {
            return (MountState::Paused, Some(why));
        }
        if held > 0 {
            let reason = format!(
                "{held} deletions or overwrites at once are held: see dewfs held, then dewfs undo or dewfs release"
            );
            return (MountState::Degraded, Some(reason));
        }
        if errors > 0 {
            let items = if errors == 1 { "1 item".into() } else { format!("{errors} items") };
            let reason = format!("{items} cannot be sent: see dewfs status --pending");
            return (MountState::Degraded, Some(reason));
        }
        // All is sent: neither of these stands in the way of the other.
        let copies = (conflicts > 0).then(|| conflicts_wait(conflicts));
        let pins = self.why_pins_are_short().map(str::to_owned);
        let reasons: Vec<String> = copies.into_iter().chain(pins).collect();
        match reasons.is_empty() {
            true => (MountState::Online, None),
            false => (MountState::Degraded, Some(reasons.join("; "))),
        }
    }

    /// How many items cannot be sent although the remote can be asked.
    fn stuck_items(&self) -> Ready<u64> {
        let kinds = self.catalog.read(|rows| rows.errors_by_kind())?;
        Ok(kinds.iter().filter(|(kind, _)| !passes_by_itself(kind)).map(|(_, count)| count).sum())
    }

    /// Bytes here of files that are pinned; what takes long to count was so a moment ago.
    pub(super) fn pinned_bytes(&self) -> Ready<u64> {
        {
            let mut known = super::open::lock(&self.pinned);
            if known.serves() {
                return Ok(known.bytes);
            }
            known.counting = true;
        }
        let bytes = self.pinned_bytes_now();
        super::open::lock(&self.pinned).counting = false;
        bytes
    }

    /// Refuses what does not fit beside what must stay. What was pinned a moment ago may go by now: it refuses nothing. While
    /// the catalog is as it was, none of it can have gone.
    pub(super) async fn fits_beside_pinned(self: &Arc<Self>, bytes: u64) -> Ready<()> {
        let limit = self.settings.cache_size;
        let fits = move |used: u64| used.saturating_add(bytes) <= limit;
        let core = self.clone();
        let counted = move || Ok(core.pinned_bytes().ok().filter(|used| fits(*used)));
        if self.blocking(counted).await?.is_some() {
            return Ok(());
        }
        let counted = {
            let known = super::open::lock(&self.pinned);
            (known.epoch == self.catalog.epoch() && !fits(known.bytes)).then_some(known.bytes)
        };
        let used = match counted {
            Some(used) => used,
            None => {
                let core = self.clone();
                self.blocking(move || core.pinned_bytes_now()).await?
            }
        };
        if fits(used) {
            return Ok(());
        }
        Err(CacheError::OverLimit { needed: bytes, used, limit }.into())
    }

    /// The same bytes, counted now.
    fn pinned_bytes_now(&self) -> Ready<u64> {
        let begun = Instant::now();
        crash_here!(self, "pins: counting");
        // Asked first: what is counted is at least as new.
        let epoch = self.catalog.epoch();
        let mut bytes = 0;
        for ino in self.catalog.read(|rows| rows.pinned_with_bytes())? {
            bytes += self.present_of(ino)?;
        }
        let mut known = super::open::lock(&self.pinned);
        (known.bytes, known.epoch) = (bytes, epoch);
        (known.at, known.took) = (begun, begun.elapsed());
        Ok(bytes)
    }

    /// How many bytes of a file are here; 0 if it is gone.
    pub(super) fn present_of(&self, ino: Ino) -> Ready<u64> {
        let live = self.open.live(ino);
        Ok(self.catalog.read(|rows| match rows.inode(ino)? {
            Some(inode) => present_bytes(rows, &inode, live.as_deref()),
            None => Ok(0),
        })?)
    }

    /// One item's state. Without `counts` nobody asks what is below a folder.
    pub(crate) fn item_status(
        self: &Arc<Self>,
        ino: Ino,
        counts: Option<&PendingCounts>,
    ) -> Ready<ItemStatus> {
        let live = self.open.live(ino);
        self.catalog
            .read(|rows| {
                let Some(inode) = rows.inode(ino)? else { return Ok(None) };
                let stat = self.stat_now(&inode, super::show::BELIEVE);
                let row = if rows.is_to_be_sent(ino)? { rows.outbox_item(ino)? } else { None };
                let base = rows.base(ino)?;
                let present = present_bytes(rows, &inode, live.as_deref())?;
                let excluded = rows.is_below_excluded(ino)?;
                let local_only = inode.kind.is_local_only() || excluded;
                let pin = if excluded { Pin::Excluded } else { rows.effective_pin(ino)? };
                let pin_from = rows.pin_from(ino)?.filter(|from| *from != ino && !excluded);
                let lacks_room = pin == Pin::Pinned
                    && inode.kind == Kind::File
                    && inode.content != Content::Hydrated;
                let no_room = self.why_it_is_short(ino).filter(|_| lacks_room).map(str::to_owned);
                Ok(Some(ItemStatus {
                    path: path_of(rows, ino)?,
                    kind: inode.kind,
                    content: content_word(present, stat.size, inode.content),
                    hydrating: live.as_ref().is_some_and(|live| !live.state().fetching.is_empty()),
                    listed: inode.kind == Kind::Folder && rows.is_listed(ino)?,
                    sync: if row.is_none() && rows.is_conflict(ino)? {
                        SyncState::Conflict
                    } else {
                        self.sync_state(ino, row.as_ref(), local_only)
                    },
                    pin,
                    pin_from: pin_from.map(|from| path_of(rows, from)).transpose()?,
                    pin_rule: if pin == Pin::Pinned && !excluded {
                        self.rule_of(rows, ino)?
                    } else {
                        None
                    },
                    size: if inode.kind == Kind::Folder { 0 } else { stat.size },
                    present_bytes: present,
                    pending_bytes: if row.is_some() && inode.kind == Kind::File {
                        stat.size
                    } else {
                        0
                    },
                    pending_below: counts.map_or(0, |counts| counts.below(ino)),
                    mtime: stat.mtime,
                    remote_id: base
                        .as_ref()
                        .and_then(|base| base.id.as_ref())
                        .map(ToString::to_string),
                    version: base
                        .map(|base| base.version.to_string())
                        .filter(|version| !version.is_empty()),
                    error: row.as_ref().and_then(|row| row.error.clone()).or(no_room),
                    since: row.as_ref().map(|row| row.since),
                    retry_at: row.and_then(|row| {
                        let own = row.error.is_some().then_some(row.not_before).flatten();
                        own.filter(|when| *when > now()).or_else(|| self.next_try())
                    }),
                }))
            })?
            .ok_or(EngineError::NotFound)
    }

    fn sync_state(&self, ino: Ino, row: Option<&OutboxItem>, local_only: bool) -> SyncState {
        match row {
            None if local_only => SyncState::LocalOnly,
            None => SyncState::InSync,
            Some(_) if self.is_uploading(ino) => SyncState::Uploading,
            Some(row) if is_stuck(row) => SyncState::Error,
            Some(_) => SyncState::Pending,
        }
    }
}

/// Whether an item cannot be sent although the remote can be asked: a person should know.
pub(crate) fn is_stuck(row: &OutboxItem) -> bool {
    row.error.is_some() && !row.error_kind.as_deref().is_some_and(passes_by_itself)
}

/// How many bytes of an item are here.
pub(super) fn present_bytes(
    rows: &Reader,
    inode: &Inode,
    live: Option<&super::live::Live>,
) -> crate::catalog::Result<u64> {
    if let Some(live) = live.filter(|live| live.generation == inode.generation) {
        return Ok(live.state().present());
    }
    Ok(match (inode.kind, inode.content) {
        (Kind::File, Content::Hydrated) => inode.attributes.size,
        (Kind::File, Content::Partial) => {
            rows.presence(inode.ino)?.blocks.present_bytes(inode.attributes.size)
        }
        _ => 0,
    })
}

fn content_word(present: u64, size: u64, known: Content) -> Content {
    match known {
        Content::Hydrated => Content::Hydrated,
        _ if present >= size => Content::Hydrated,
        _ if present > 0 => Content::Partial,
        _ => Content::Placeholder,
    }
}

/// Where an item is, or where the remote has what was deleted here.
pub(super) fn path_of(rows: &Reader, ino: Ino) -> crate::catalog::Result<Vec<u8>> {
    let names = match rows.local_path(ino)? {
        Some(names) => names,
        None => rows.base_path(ino)?.map(|path| path.0).unwrap_or_default(),
    };
    let parts: Vec<&[u8]> = names.iter().map(Name::as_bytes).collect();
    Ok(parts.join(&b'/'))
}

fn nanos(time: std::time::SystemTime) -> i64 {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn feed_word(feed: FeedKind) -> &'static str {
    match feed {
        FeedKind::Push => "push",
        FeedKind::Poll => "poll",
        FeedKind::Walk => "walk",
        FeedKind::Inotify => "inotify",
        FeedKind::None => "none",
    }
}
