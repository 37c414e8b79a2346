//! The live content of an inode that is open or being fetched: its size, the blocks that are here, and its data file.
//!
//! One [`Live`] stands for one generation, that is for one remote version or one local content; bytes of another version are
//! never put into its data file. What it knows goes to the catalog when it is recorded: bytes before facts.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::EngineError;
use super::cutting::Cuts;
use super::open::lock;
use super::through::Backing;
use crate::cache::{Access, Cache, DataFile};
use crate::model::{BlockSet, Content, Generation, Ino, Stamp, Version};

/// Says where missing bytes come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The one version whose bytes may be put into the data file.
    pub(crate) version: Version,
    /// How many bytes that version has.
    pub(crate) size: u64,
}

/// Is what changes while an inode is open.
#[derive(Debug)]
pub(crate) struct State {
    /// Length in bytes, as users see it.
    pub(crate) size: u64,
    /// Whether all bytes are here.
    pub(crate) hydrated: bool,
    /// Which blocks are here, while not all are.
    pub(crate) blocks: BlockSet,
    /// Blocks being fetched.
    pub(crate) fetching: Vec<Range<u32>>,
    /// How many fetches failed so far, and the last failure.
    pub(crate) failures: u64,
    pub(crate) failure: Option<Failure>,
    /// Blocks that came wrong and are asked for last, when all the others are here.
    pub(crate) resting: Vec<Range<u32>>,
    /// When somebody last waited in vain, and what was answered; nothing has come since.
    pub(crate) gave_up: Option<(Instant, Failure)>,
    /// Whether blocks came that the catalog does not know of.
    pub(crate) blocks_unrecorded: bool,
    /// Whether a user wrote since the data file was last observed by the catalog.
    pub(crate) wrote: bool,
    /// Whether the data file moved in a way of which only its digest can tell whether somebody wrote.
    pub(crate) doubted: bool,
    /// How many times over such writes are just being told to the catalog.
    pub(crate) recording: u32,
    /// Whether it is a close that is being told, of a content that the catalog knows to be whole.
    pub(crate) closing: bool,
    /// Whether the catalog knows that this partial content was edited.
    pub(crate) edit_recorded: bool,
    /// When bytes last came.
    pub(crate) progress: Instant,
    /// The data file's stamp when it was last looked at for what was written past us.
    pub(crate) seen: Option<Stamp>,
    /// Blocks that somebody is waiting for or is just reading: they stay. One run for each of them.
    pub(crate) waited: Vec<Range<u32>>,
    /// Blocks that are being given back: neither here nor to be fetched before they are gone.
    pub(crate) leaving: BlockSet,
    /// How often blocks were given back.
    pub(crate) shed: u64,
    /// Whether some of what came, and the catalog does not know of, came under a version that was young.
    pub(crate) came_young: bool,
}

/// Is why a fetch failed, kept for everybody who waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Stale,
    Offline,
    TimedOut,
    Unauthenticated,
    Denied,
    Corrupt,
    NoSpace,
    Disk,
}

impl Failure {
    pub(crate) fn of(error: &EngineError) -> Self {
        match error {
            EngineError::Stale | EngineError::NotFound => Self::Stale,
            EngineError::Offline | EngineError::Stopped => Self::Offline,
            EngineError::TimedOut => Self::TimedOut,
            EngineError::Unauthenticated => Self::Unauthenticated,
            EngineError::Denied(_) => Self::Denied,
            EngineError::NoSpace(_) => Self::NoSpace,
            EngineError::Disk(_) => Self::Disk,
            _ => Self::Corrupt,
        }
    }

    pub(crate) fn error(self) -> EngineError {
        match self {
            Self::Stale => EngineError::Stale,
            Self::Offline => EngineError::Offline,
            Self::TimedOut => EngineError::TimedOut,
            Self::Unauthenticated => EngineError::Unauthenticated,
            Self::Denied => EngineError::Denied("the remote does not let this be read".into()),
            Self::Corrupt => EngineError::Corrupt("see the log".into()),
            Self::NoSpace => {
                EngineError::NoSpace("the cache is full and nothing in it can be freed: raise cache_size=, unpin or send what must stay".into())
            }
            Self::Disk => {
                EngineError::Disk(std::io::Error::other("the state directory cannot be written"))
            }
        }
    }
}

/// Is the live content of one generation of an inode.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) ino: Ino,
    pub(crate) generation: Generation,
    source: Mutex<Option<Source>>,
    data: Mutex<Option<Arc<DataFile>>>,
    /// What the kernel reads and writes itself, while it does.
    through: Mutex<Weak<Backing>>,
    /// Whether its row has forgotten this content: no data file is made for it any more.
    retired: AtomicBool,
    state: Mutex<State>,
    pub(super) cuts: Cuts,
    /// Rung whenever blocks come or a fetch ends.
    pub(crate) arrived: Notify,
    /// Held over putting fetched blocks into the data file.
    fetched: Mutex<()>,
    /// Held over telling the catalog, so that there is an order.
    pub(crate) telling: Arc<tokio::sync::Mutex<()>>,
}

impl Live {
    /// What the catalog says of an inode's content.
    pub(crate) fn new(
        ino: Ino,
        generation: Generation,
        size: u64,
        content: Content,
        blocks: BlockSet,
        source: Option<Source>,
        edited: bool,
    ) -> Self {
        // Of an empty file nothing is missing, whatever its row says.
        let hydrated = content == Content::Hydrated || blocks.is_full(size);
        let state = State {
            size,
            hydrated,
            blocks,
            fetching: Vec::new(),
            failures: 0,
            failure: None,
            resting: Vec::new(),
            gave_up: None,
            blocks_unrecorded: hydrated && content != Content::Hydrated,
            wrote: false,
            doubted: false,
            recording: 0,
            closing: false,
            edit_recorded: edited,
            progress: Instant::now(),
            seen: None,
            waited: Vec::new(),
            leaving: BlockSet::default(),
            shed: 0,
            came_young: false,
        };
        Self {
            ino,
            generation,
            source: Mutex::new(source),
            data: Mutex::default(),
            through: Mutex::default(),
            retired: AtomicBool::new(false),
            state: Mutex::new(state),
            cuts: Cuts::default(),
            arrived: Notify::new(),
            fetched: Mutex::default(),
            telling: Arc::default(),
        }
    }

    /// The state, locked: never over an await, a remote call or a copy larger than one write.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        // What is written past us only the data file tells.
        if let Some(backing) = self.through()
            && let Ok(stamp) = backing.data.stamp()
            && state.seen != Some(stamp)
        {
            state.seen = Some(stamp);
            state.size = stamp.size;
            state.wrote = true;
        }
        state
    }

    /// Where missing bytes come from, if from anywhere.
    pub(crate) fn source(&self) -> Option<Source> {
        lock(&self.source).clone()
    }

    /// From now on missing bytes come from there: what is here is what that version holds.
    pub(crate) fn set_source(&self, source: Source) {
        *lock(&self.source) = Some(source);
    }

    /// What the kernel reads and writes itself, if it does.
    fn through(&self) -> Option<Arc<Backing>> {
        lock(&self.through).upgrade()
    }

    /// From now on, and while `backing` lives, the kernel reads and writes the data file itself.
    pub(crate) fn go_through(&self, backing: &Arc<Backing>) {
        let mut through = lock(&self.through);
        // An older one may still be on its way out: with the last of its handles, which is just being let go of.
        if !std::ptr::eq(through.as_ptr(), Arc::as_ptr(backing)) {
            *through = Arc::downgrade(backing);
            drop(through);
            self.close_data();
        }
    }

    /// Keeps fetched blocks from being put into the data file. Waits for one that is; never for a fetch.
    pub(crate) fn hold_fetched(&self) -> MutexGuard<'_, ()> {
        lock(&self.fetched)
    }

    /// Whether the catalog has something to be told, or is just being told.
    pub(crate) fn has_news(&self) -> bool {
        let state = self.state();
        state.blocks_unrecorded || state.may_be_edited() || self.is_telling()
    }

    /// Whether all that the catalog is to be told is what was fetched, which may as well be fetched again.
    pub(crate) fn has_only_fetched(&self) -> bool {
        let state = self.state();
        !state.may_be_edited() && !state.edit_recorded
    }

    /// Whether nothing is to be told and nobody is at it just now. Never waits.
    pub(crate) fn is_at_rest(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => {
                let untold = state.blocks_unrecorded || state.may_be_edited();
                !untold && !self.is_telling()
            }
            Err(_) => false,
        }
    }

    /// Whether the catalog is just being told.
    pub(crate) fn is_telling(&self) -> bool {
        self.telling.try_lock().is_err()
    }

    /// Whether all is here and the catalog knows it: then its row and the data file alone tell what was written.
    pub(crate) fn is_known_whole(&self) -> bool {
        let state = self.state();
        state.hydrated && !state.blocks_unrecorded && (state.closing || !self.is_telling())
    }

    /// Whether a user wrote what the catalog does not know of yet: as good as an open writer, for whoever would take the
    /// file to be at rest.
    pub(crate) fn has_unrecorded_writes(&self) -> bool {
        self.state().may_be_edited()
    }

    /// The data file, opened for reading and writing; made, with its length, if there is none.
    pub(crate) fn data(&self, cache: &Cache) -> Result<Arc<DataFile>, EngineError> {
        if self.through().is_some() {
            // For one act only: kept, it would stand in the way of the lease.
            let file = cache.open_data(self.ino, self.generation, Access::Write)?;
            return file.map(Arc::new).ok_or(EngineError::Stale);
        }
        let mut data = lock(&self.data);
        if let Some(file) = data.as_ref().filter(|file| file.access() == Access::Write) {
            return Ok(file.clone());
        }
        if self.retired.load(Ordering::Acquire) {
            return Err(EngineError::Stale);
        }
        // Locked to the end: a cut meanwhile must not be undone by the length set here.
        let state = self.state();
        let (size, hydrated) = (state.size, state.hydrated);
        let file = match cache.open_data(self.ino, self.generation, Access::Write)? {
            Some(file) => file,
            None if hydrated && size > 0 => {
                return Err(EngineError::Disk(std::io::Error::other(
                    "the data file of this item is gone from the state directory",
                )));
            }
            None => cache.create(self.ino, self.generation)?,
        };
        state.tidy(&file)?;
        if file.size()? != size && !hydrated {
            file.set_len(size)?;
        }
        drop(state);
        let file = Arc::new(file);
        *data = Some(file.clone());
        Ok(file)
    }

    /// The data file, if it is open already.
    pub(crate) fn open_data(&self) -> Option<Arc<DataFile>> {
        match self.through() {
            Some(backing) => Some(backing.data.clone()),
            None => lock(&self.data).clone(),
        }
    }

    /// Keeps the descriptor that served while the kernel went past us, until what was written is recorded.
    pub(crate) fn keep(&self, backing: &Backing) {
        lock(&self.data).get_or_insert_with(|| backing.data.clone());
    }

    /// The data file for reading: the one that is open, else as [`Self::data`] says.
    pub(crate) fn readable(&self, cache: &Cache) -> Result<Arc<DataFile>, EngineError> {
        self.open_data().map_or_else(|| self.data(cache), Ok)
    }

    /// Whether this process has the data file open for writing for longer than one act.
    pub(crate) fn holds_writable(&self) -> bool {
        self.open_data().is_some_and(|data| data.access() == Access::Write)
    }

    /// Its row has forgotten this content: whoever is still at it keeps the data file that is open, and makes none.
    pub(crate) fn retire(&self) {
        // Locked, so that a data file being made is there before it is unlinked.
        let _data = lock(&self.data);
        self.retired.store(true, Ordering::Release);
    }

    /// What was fetched is not what it should be: it is fetched again when somebody needs it. What a user wrote meanwhile
    /// stays.
    pub(crate) fn forget_fetched(&self) {
        let mut state = self.state();
        if !state.wrote && state.recording == 0 {
            state.hydrated = false;
            state.blocks = BlockSet::default();
        }
        state.blocks_unrecorded = true;
    }

    /// Forgets all that is here if the remote has it; `false` if a user wrote, or the catalog knows that all is here.
    pub(crate) fn forget_unedited(&self) -> bool {
        if self.source().is_none() {
            return false;
        }
        let mut state = self.state();
        if state.may_be_edited() || state.edit_recorded || !state.blocks_unrecorded {
            return false;
        }
        state.hydrated = false;
        state.blocks = BlockSet::default();
        true
    }

    /// Lets go of the descriptor.
    pub(crate) fn close_data(&self) {
        lock(&self.data).take();
    }
}

impl State {
    /// Whether all bytes of the range are here.
    pub(crate) fn has(&self, bytes: Range<u64>) -> bool {
        self.hydrated || self.blocks.has(bytes)
    }

    /// Whether a user wrote, or may have written, what the catalog does not know of.
    pub(crate) fn may_be_edited(&self) -> bool {
        self.wrote || self.doubted || self.recording > 0
    }

    /// The runs of blocks touched by `bytes` that are neither here nor on their way.
    pub(crate) fn wanting(&self, bytes: Range<u64>) -> Vec<Range<u32>> {
        if self.hydrated {
            return Vec::new();
        }
        let mut known = self.blocks.clone();
        self.fetching.iter().for_each(|run| known.insert(run.clone()));
        known.union(&self.leaving);
        known.absent(BlockSet::touched(bytes))
    }

    /// How many bytes are here.
    pub(crate) fn present(&self) -> u64 {
        if self.hydrated { self.size } else { self.blocks.present_bytes(self.size) }
    }

    /// Takes note that a range was written by a user.
    pub(crate) fn written(&mut self, bytes: &Range<u64>) {
        let old = self.size;
        self.size = self.size.max(bytes.end);
        self.wrote = true;
        if self.hydrated {
            return;
        }
        // What lies between the old end and a write beyond it is a hole, and here.
        let grown = if bytes.end > old { old.min(bytes.start)..bytes.end } else { bytes.clone() };
        self.blocks.insert(BlockSet::covered(grown, self.size));
        self.blocks_unrecorded = true;
        self.hydrated = self.blocks.is_full(self.size);
    }
}
