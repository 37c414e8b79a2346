//! The catalog as its users hold it: opening, reading, queueing changes, closing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::damage;
use super::error::Failure;
use super::lists::Lists;
use super::pending::{Kept, PendingCounts};
use super::reader::Readers;
use super::schema;
use super::writer::{Message, Work, Writer};
use super::{Catalog, CatalogError, Change, Durability, Mark, Memory, Origin, Reader, Result, Tx};
use crate::model::{Ino, Tick};

/// Is what all clones of a catalog share.
pub(super) struct Inner {
    readers: Readers,
    lists: Arc<Lists>,
    /// `None` once closed.
    queue: Mutex<Option<Sender<Message>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    changes: UnboundedSender<Vec<Change>>,
    /// Moves on with every commit.
    epoch: Arc<AtomicU64>,
    /// What is not in sync below each folder.
    counts: Kept,
    receiver: Mutex<Option<UnboundedReceiver<Vec<Change>>>>,
}

impl Catalog {
    /// Opens or creates the catalog in this file and starts its writer thread.
    pub fn open(path: &Path, memory: Arc<dyn Memory>) -> Result<Self> {
        Self::open_or_begin(path, memory, || Ok(()))
    }

    /// The same; `begin` is called before the first rows are made in a file that has none, and its error ends it.
    pub fn open_or_begin<E: From<CatalogError>>(
        path: &Path,
        memory: Arc<dyn Memory>,
        begin: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let named = |error: CatalogError| match error {
            CatalogError::Corrupt { reason, .. } => {
                CatalogError::Corrupt { path: path.display().to_string(), reason }
            }
            other => other,
        };
        let (connection, found) = schema::open_writer(path).map_err(named)?;
        if found == 0 {
            begin()?;
        } else {
            damage::examine(path, &connection).map_err(named)?;
        }
        schema::prepare(path, &connection, found, super::now()).map_err(named)?;
        let lists = Arc::new(Lists::default());
        let counts = Kept::default();
        let tx =
            Tx::new(connection, memory.clone(), lists.clone(), counts.clone()).map_err(named)?;
        let (queue, jobs) = std::sync::mpsc::channel();
        let (changes, receiver) = tokio::sync::mpsc::unbounded_channel();
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        let epoch = Arc::new(AtomicU64::new(1));
        let writer = Writer::new(tx, jobs, changes.clone(), epoch.clone(), folder);
        let thread = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || writer.serve())
            .map_err(|_| CatalogError::Closed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                readers: Readers::new(path.to_owned(), memory),
                lists,
                queue: Mutex::new(Some(queue)),
                thread: Mutex::new(Some(thread)),
                changes,
                epoch,
                counts,
                receiver: Mutex::new(Some(receiver)),
            }),
        })
    }

    /// Moves a damaged catalog (the file, its WAL and its index) into `recovered`; answers where the file went.
    pub fn set_aside(path: &Path, recovered: &Path) -> std::io::Result<PathBuf> {
        std::fs::create_dir_all(recovered)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let at = super::now();
        let to = recovered.join(format!("{name}.{at}"));
        std::fs::rename(path, &to)?;
        damage::forget(path);
        for suffix in ["-wal", "-shm"] {
            let beside = path.with_file_name(format!("{name}{suffix}"));
            match std::fs::rename(&beside, recovered.join(format!("{name}.{at}{suffix}"))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(to)
    }

    /// Reads with a connection of its own, in one read transaction.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        self.inner.readers.read(read)
    }

    /// The same for what asks one thing only, which needs no transaction around it.
    pub fn read_row<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        self.inner.readers.read_row(read)
    }

    /// Runs `change` on the writer thread and resolves after its commit; an error rolls back just this change.
    pub async fn write<T, E>(
        &self,
        durability: Durability,
        origin: Origin,
        change: impl FnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let (answer, answered) = tokio::sync::oneshot::channel();
        // Nobody may wait any more: the change stands all the same.
        self.submit(durability, origin, change, move |result| drop(answer.send(result)));
        answered.await.unwrap_or_else(|_| Err(CatalogError::Closed.into()))
    }

    /// The same for tests that wait on their own thread.
    #[cfg(test)]
    pub(crate) fn write_blocking<T, E>(
        &self,
        durability: Durability,
        origin: Origin,
        change: impl FnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.submit(durability, origin, change, move |result| drop(answer.send(result)));
        answered.recv().unwrap_or_else(|_| Err(CatalogError::Closed.into()))
    }

    /// The same for callers that cannot wait: `done` is called on the writer thread after the commit and must not block.
    /// After [`Catalog::close`] it is called at once with [`CatalogError::Closed`].
    pub fn submit<T, E>(
        &self,
        durability: Durability,
        origin: Origin,
        change: impl FnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
        done: impl FnOnce(std::result::Result<T, E>) + Send + 'static,
    ) where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let work = Work { change: Some(change), done, result: None };
        let message = Message::Change(durability, origin, Box::new(work));
        let refused = match lock(&self.inner.queue).as_ref() {
            Some(queue) => queue.send(message).err().map(|error| error.0),
            None => Some(message),
        };
        if let Some(Message::Change(_, _, job)) = refused {
            job.finish(Some(&Failure::closed()));
        }
    }

    /// Everything committed so far survives a power cut when this resolves.
    pub async fn barrier(&self) -> Result<()> {
        self.write(Durability::Synced, Origin::Engine, |_| Ok(())).await
    }

    /// Moves on with every commit, before anybody is answered: what was read stays true while it stands still.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch.load(Ordering::Acquire)
    }

    /// What is not in sync below each folder, if somebody had that counted.
    pub fn pending_counts(&self) -> Option<PendingCounts> {
        self.inner.counts.get().cloned()
    }

    /// The same; has it counted if nobody had.
    pub async fn count_pending(&self) -> Result<PendingCounts> {
        if let Some(counts) = self.pending_counts() {
            return Ok(counts);
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        // Who asked may be gone.
        let told = Message::Count(Box::new(move |counts| drop(answer.send(counts))));
        if let Some(queue) = lock(&self.inner.queue).as_ref() {
            drop(queue.send(told));
        }
        answered.await.unwrap_or(Err(CatalogError::Closed))
    }

    /// What changed, in order, sent after each commit and before its answers. There is one receiver: the engine takes it
    /// once.
    pub fn take_changes(&self) -> Option<UnboundedReceiver<Vec<Change>>> {
        lock(&self.inner.receiver).take()
    }

    /// Folders somebody waits for, then those marked look-again whose time has come; none that are being listed.
    pub fn folders_to_list(&self, most: usize) -> Result<Vec<(Ino, Option<Tick>)>> {
        let lists = &self.inner.lists;
        let needed = lists.waiting(most);
        self.read(|reader| {
            let mut folders = Vec::new();
            for folder in needed {
                if reader.base(folder)?.is_some() {
                    folders.push((folder, reader.look_again_since(folder)?));
                } else {
                    lists.drop_need(folder);
                }
            }
            // Those asked for or being listed are skipped below, so as many more are asked for.
            let marked = reader.look_again_due(super::steady(), most + lists.busy())?;
            let more = marked.into_iter().filter(|(folder, _)| {
                !lists.is_listing(*folder) && !folders.iter().any(|(one, _)| one == folder)
            });
            let more: Vec<_> = more.map(|(folder, since)| (folder, Some(since))).collect();
            folders.extend(more);
            folders.truncate(most);
            Ok(folders)
        })
    }

    /// Asks for this folder to be listed soon; memory only. Sends [`Change::Listing`].
    pub fn need_list(&self, folder: Ino) {
        self.inner.lists.need(folder);
        // Without a receiver nobody lists.
        drop(self.inner.changes.send(vec![Change::Listing]));
    }

    /// Puts a mark behind all that was told so far. Sends [`Change::Mark`].
    pub fn mark(&self) -> Mark {
        let mark = Mark::default();
        if self.inner.changes.send(vec![Change::Mark(mark.clone())]).is_err() {
            mark.reached();
        }
        mark
    }

    /// Notes that a folder asked for cannot be listed now.
    pub fn drop_need(&self, folder: Ino) {
        self.inner.lists.drop_need(folder);
    }

    /// Notes that a listing of this folder begins (it is no longer asked for); `false` if one is under way already.
    pub fn begin_listing(&self, folder: Ino) -> bool {
        self.inner.lists.begin(folder)
    }

    /// Notes that the listing of this folder ended, whole or not.
    pub fn end_listing(&self, folder: Ino) {
        self.inner.lists.end(folder);
    }

    /// Does what was queued, empties the WAL and ends the writer thread; later calls answer
    /// [`CatalogError::Closed`]. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        // Readers first: the last checkpoint empties the WAL only when nobody reads.
        self.readers.close();
        if let Some(queue) = lock(&self.queue).take() {
            drop(queue.send(Message::Close));
        }
        let thread = lock(&self.thread).take();
        // The last clone may be dropped by an answer, on the writer thread itself: it ends by itself then.
        if let Some(thread) = thread.filter(|one| one.thread().id() != std::thread::current().id())
        {
            drop(thread.join());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
