//! The verbs: the only room that sees catalog, cache and remote together.
//!
//! One verb is one catalog transaction. What is here is answered at once; what needs the remote is a future; what changes
//! the catalog is answered by its writer after the commit. Decisions are asked of `model`, never made here.

mod ahead;
mod answer;
mod arrive;
mod at_rest;
mod attention;
mod attributes;
mod barren;
mod brake;
mod choose;
mod close;
mod core;
mod crash;
mod create;
mod cutting;
mod doubt;
mod due;
mod end;
mod error;
mod events;
mod evict;
mod excludes;
mod feed;
mod fetch_first;
mod files;
mod find;
mod foresee;
mod guard;
mod heat;
mod hydrate;
mod link;
mod lister;
mod listing;
mod live;
mod losses;
mod metadata;
mod names;
mod namespace;
mod observe;
mod open;
mod opening;
mod outcome;
mod passing;
mod pause;
mod people;
mod pins;
mod policy;
mod private;
mod read;
mod record;
mod resolve;
mod rules;
mod runs;
mod send;
mod settings;
mod shed;
mod show;
mod siblings;
mod sights;
mod space;
mod start;
mod state;
mod state_dir;
mod status;
mod steps;
mod strays;
mod through;
mod upload;
mod verbs;
mod walk;
mod window;
mod workers;
mod write;
mod writers;
mod writing;
mod wrong;
mod xattrs;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

pub use answer::{Answer, Done};
pub use attention::conflicts_wait;
#[cfg(debug_assertions)]
pub use crash::CrashHook;
pub use error::EngineError;
pub use events::Happening;
pub use find::{FolderUsage, Found};
pub use guard::{Held, Restored};
pub use pause::{Lane, Restraint};
pub use private::claim_state_dir;
pub use resolve::{Keep, Resolved};
pub use rules::{OwnPin, RuleStatus};
pub use settings::{EDITOR_FILES, Hydration, Population, Returns, Settings};
pub use start::StartError;
pub use state::{
    Figures, Freed, Happened, Hydrated, ItemStatus, LastError, MountState, MountStatus, Progress,
    RequestsBy, SyncState, pin_word,
};
pub use state_dir::{left_to_send, only_here, remove_state, remove_state_but_log};
pub use through::Backings;
pub use verbs::{
    Allocate, Caller, FileSystemSpace, Handle, Invalidation, OpenMode, Opened, Page, PageEntry,
    Reach, RenameMode, Seek, SetAttributes, SetTime, Stat,
};

pub use crate::catalog::{Mark, OnlyHere, Rank};
pub use crate::remote::layers::{LATENCIES, Operation};
pub use crate::remote::{ErrorKind, RemoteError};

use crate::model::Ino;

/// Is one mount's engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) core: Arc<core::Core>,
    invalidations: Arc<std::sync::Mutex<Option<UnboundedReceiver<Vec<Invalidation>>>>>,
}

impl Engine {
    /// What the kernel must forget, in order; there is one receiver.
    pub fn take_invalidations(&self) -> Option<UnboundedReceiver<Vec<Invalidation>>> {
        open::lock(&self.invalidations).take()
    }

    /// Makes the names in a folder survive a power cut.
    pub fn sync_folder(&self, folder: Ino) -> Answer<()> {
        let _any = folder;
        let core = self.core.clone();
        Answer::Pending(Box::pin(async move { Ok(core.catalog.barrier().await?) }))
    }

    /// Lets a test decide at which named places the process dies; nothing of it is in release builds.
    #[cfg(debug_assertions)]
    pub fn on_crash_point(&self, hook: CrashHook) {
        self.core.workers.crash.set(hook);
    }

    /// Lets a test, which has ended all tasks of this engine, go on as if its process had been killed: what it did not tell
    /// the catalog is not told. Blocks; nothing of it is in release builds.
    #[cfg(debug_assertions)]
    pub fn bury(&self) {
        self.core.bury();
    }

    /// How many steps this engine began for the inode with the most of them: many mean that something goes round and round. Nothing
    /// of it is in release builds.
    #[cfg(debug_assertions)]
    pub fn most_steps(&self) -> u32 {
        self.core.workers.crash.most_steps()
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.core.state_dir.clone()
    }
}
