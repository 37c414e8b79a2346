//! What the kernel must forget: one thread tells it, after the commit, coalesced.
//!
//! Attributes and names, never pages of a file: invalidating these waits for every unanswered read of the inode. Invalidating a name
//! waits for the lock of its folder, which the kernel holds while a lookup in it is unanswered, so names in such a folder
//! are kept back until it is: one frozen folder does not stop the news of the others.
//!
//! Of attributes it is told twice: an inode that it only learns of by an answer under way cannot be told to forget what that
//! answer says, and would believe it for hours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{INodeNo, Notifier};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tracing::debug;

use super::attributes::number;
use super::copies::Copies;
use crate::engine::{Invalidation, Mark};
use crate::model::{Ino, Name};

/// How long after attributes were told they are told once more: answers that were under way have arrived by then.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// Counts the unanswered requests for which the kernel holds a folder's lock.
#[derive(Default)]
pub(super) struct Waiting {
    folders: Mutex<HashMap<u64, u32>>,
    answered: Notify,
}

/// Is one unanswered request; its end is the answer.
pub(super) struct Held {
    waiting: Arc<Waiting>,
    folders: Vec<u64>,
}

impl Waiting {
    /// Counts a request that holds these folders until the value is dropped.
    pub(super) fn hold(self: &Arc<Self>, folders: impl Iterator<Item = INodeNo>) -> Held {
        let folders: Vec<u64> = folders.map(|folder| folder.0).collect();
        let mut counts = self.counts();
        for folder in &folders {
            *counts.entry(*folder).or_default() += 1;
        }
        drop(counts);
        Held { waiting: Arc::clone(self), folders }
    }

    fn is_held(&self, folder: u64) -> bool {
        self.counts().contains_key(&folder)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        // Counting cannot leave the map half changed.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.waiting.counts();
        for folder in &self.folders {
            if let Some(count) = counts.get_mut(folder) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(folder);
                }
            }
        }
        drop(counts);
        self.waiting.answered.notify_one();
    }
}

/// Tells the kernel to ask for an inode's attributes again. Returns at once, whatever is under way.
pub(super) fn forget_attributes(notifier: &Notifier, ino: INodeNo) {
    report("attributes", notifier.inval_inode(ino, -1, 0));
}

/// The same of a folder, and to drop its copy of the names: who has the folder open and begins anew is to see what is there now.
/// The pages of a folder are no file's: no unanswered read holds them.
fn forget_folder(notifier: &Notifier, folder: INodeNo) {
    report("a folder", notifier.inval_inode(folder, 0, 0));
}

/// Starts the notifier thread. It ends when the engine does. Errors: the system's, if it gives no thread.
pub(super) fn start(
    notifier: Notifier,
    mut news: UnboundedReceiver<Vec<Invalidation>>,
    waiting: Arc<Waiting>,
    copies: Arc<Copies>,
) -> io::Result<()> {
    // Of its own: the daemon's ends before this does.
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("notifier".to_owned());
    let work = move || {
        let mut backlog = Backlog::default();
        while runtime.block_on(next(&mut backlog, &mut news, &waiting)) {
            backlog.tell(&notifier, &waiting, &copies);
        }
    };
    thread.spawn(work).map(drop)
}

/// Waits for news, for an answer that lets kept news go, or until something is to be told once more. False at the end.
async fn next(
    backlog: &mut Backlog,
    news: &mut UnboundedReceiver<Vec<Invalidation>>,
    waiting: &Waiting,
) -> bool {
    tokio::select! {
        batch = news.recv() => {
            let Some(batch) = batch else { return false };
            backlog.add(batch);
            while let Ok(batch) = news.try_recv() {
                backlog.add(batch);
            }
            true
        }
        () = waiting.answered.notified(), if !backlog.names.is_empty() => true,
        () = until(backlog.told.due()) => {
            backlog.attributes_again.extend(backlog.told.take_due());
            true
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Is whose attributes were told a moment ago: those of one while together, those since then later.
#[derive(Default)]
struct Told {
    first: Option<(Instant, HashSet<Ino>)>,
    since: HashSet<Ino>,
}

impl Told {
    fn note(&mut self, inos: impl Iterator<Item = Ino>) {
        self.since.extend(inos);
        self.go_on();
    }

    fn due(&self) -> Option<Instant> {
        self.first.as_ref().map(|(due, _)| *due)
    }

    fn take_due(&mut self) -> HashSet<Ino> {
        let due = self.first.take().map(|(_, inos)| inos).unwrap_or_default();
        self.go_on();
        due
    }

    fn go_on(&mut self) {
        if self.first.is_none() && !self.since.is_empty() {
            self.first = Some((Instant::now() + ONCE_MORE, std::mem::take(&mut self.since)));
        }
    }
}

/// Is what the kernel has not been told yet.
#[derive(Default)]
struct Backlog {
    attributes: HashSet<Ino>,
    attributes_again: HashSet<Ino>,
    told: Told,
    names: BTreeMap<u64, HashMap<Name, Option<Ino>>>,
    marks: Vec<Mark>,
}

impl Backlog {
    fn add(&mut self, batch: Vec<Invalidation>) {
        for news in batch {
            match news {
                Invalidation::Attributes(ino) => {
                    self.attributes.insert(ino);
                }
                Invalidation::Entry { parent, name, gone } => {
                    let names = self.names.entry(parent.0).or_default();
                    let known = names.entry(name).or_default();
                    // Whoever was there first is whom the kernel knows.
                    *known = known.or(gone);
                }
                Invalidation::Mark(mark) => self.marks.push(mark),
            }
        }
    }

    fn tell(&mut self, notifier: &Notifier, waiting: &Waiting, copies: &Copies) {
        for folder in self.names.keys() {
            copies.changed(INodeNo(*folder));
        }
        for ino in self.take_attributes() {
            if copies.changed(number(ino)) {
                forget_folder(notifier, number(ino));
            } else {
                forget_attributes(notifier, number(ino));
            }
        }
        for (folder, names) in self.take_free(waiting) {
            for (name, gone) in names {
                let gone = told_of(gone, waiting);
                forget_name(notifier, INodeNo(folder), OsStr::from_bytes(name.as_bytes()), gone);
            }
        }
        self.marks.drain(..).for_each(|mark| mark.reached());
    }

    /// Takes out whose attributes are to be told now; those told for the first time are told once more.
    fn take_attributes(&mut self) -> HashSet<Ino> {
        let first = std::mem::take(&mut self.attributes);
        let mut all = std::mem::take(&mut self.attributes_again);
        self.told.note(first.iter().copied());
        all.extend(first);
        all
    }

    /// Takes the names out whose folders the kernel does not hold.
    fn take_free(&mut self, waiting: &Waiting) -> Vec<(u64, HashMap<Name, Option<Ino>>)> {
        let free: Vec<u64> =
            self.names.keys().copied().filter(|folder| !waiting.is_held(*folder)).collect();
        free.into_iter()
            .filter_map(|folder| self.names.remove(&folder).map(|names| (folder, names)))
            .collect()
    }
}

/// Who had a name, if that can be told: to tell of a deletion the kernel locks the folder and then what was deleted. While it
/// holds that for a request (a folder that is listed, a file that is written), the folder and all news would wait as long, so
/// the name is only forgotten, and watchers do not hear of it.
fn told_of(gone: Option<Ino>, waiting: &Waiting) -> Option<Ino> {
    gone.filter(|gone| !waiting.is_held(gone.0))
}

/// Tells of a deletion so that watchers hear of it; where the kernel refuses that (it knows another inode there, or has
/// something below it in use), it forgets the name.
fn forget_name(notifier: &Notifier, folder: INodeNo, name: &OsStr, gone: Option<Ino>) {
    if let Some(gone) = gone
        && notifier.delete(folder, number(gone), name).is_ok()
    {
        // An answer of "not there" counts as success, and then another inode may still be known by this name.
        report("name", notifier.inval_entry(folder, name));
        return;
    }
    report("name", notifier.inval_entry(folder, name));
}

/// The kernel having forgotten already is as good, and after the unmount there is nobody to be told.
fn report(what: &'static str, told: io::Result<()>) {
    if let Err(error) = told {
        debug!("the kernel was not told to forget {what}: {error}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn entry(parent: u64, text: &str, gone: Option<u64>) -> Invalidation {
        Invalidation::Entry { parent: Ino(parent), name: name(text), gone: gone.map(Ino) }
    }

    #[test]
    fn news_of_one_thing_become_one() {
        let mut backlog = Backlog::default();
        backlog.add(vec![
            Invalidation::Attributes(Ino(3)),
            Invalidation::Attributes(Ino(3)),
            entry(1, "a", Some(7)),
            entry(1, "a", Some(8)),
            entry(1, "a", None),
        ]);
        assert_eq!(backlog.attributes.len(), 1);
        assert_eq!(backlog.names[&1][&name("a")], Some(Ino(7)));
    }

    #[test]
    fn names_of_a_held_folder_are_kept_until_the_answer() {
        let waiting = Arc::new(Waiting::default());
        let mut backlog = Backlog::default();
        backlog.add(vec![entry(1, "a", None), entry(2, "b", None)]);
        let first = waiting.hold([INodeNo(1)].into_iter());
        let second = waiting.hold([INodeNo(1)].into_iter());
        assert_eq!(backlog.take_free(&waiting).iter().map(|free| free.0).collect::<Vec<_>>(), [2]);
        drop(first);
        assert!(backlog.take_free(&waiting).is_empty());
        drop(second);
        assert_eq!(backlog.take_free(&waiting).iter().map(|free| free.0).collect::<Vec<_>>(), [1]);
    }

    /// The folder, and the news of the whole mount, waited for a listing of what was deleted.
    #[test]
    fn regression_a_deletion_is_not_told_of_what_the_kernel_holds() {
        let waiting = Arc::new(Waiting::default());
        let listing = waiting.hold([INodeNo(7)].into_iter());
        assert_eq!(told_of(Some(Ino(7)), &waiting), None);
        assert_eq!(told_of(Some(Ino(8)), &waiting), Some(Ino(8)));
        drop(listing);
        assert_eq!(told_of(Some(Ino(7)), &waiting), Some(Ino(7)));
    }

    /// What was told while the answer by which the kernel first learnt of an inode was under way, it never heard: it believed
    /// the old size for hours.
    #[tokio::test(start_paused = true)]
    async fn regression_attributes_are_told_once_more_when_answers_have_arrived() {
        let waiting = Arc::new(Waiting::default());
        let (send, mut news) = tokio::sync::mpsc::unbounded_channel();
        let mut backlog = Backlog::default();
        let begun = Instant::now();
        send.send(vec![Invalidation::Attributes(Ino(7))]).unwrap();
        assert!(next(&mut backlog, &mut news, &waiting).await);
        assert_eq!(backlog.take_attributes(), HashSet::from([Ino(7)]));
        tokio::time::sleep(ONCE_MORE / 2).await;
        send.send(vec![Invalidation::Attributes(Ino(8))]).unwrap();
        assert!(next(&mut backlog, &mut news, &waiting).await);
        assert_eq!(backlog.take_attributes(), HashSet::from([Ino(8)]));
        // Each once more, and not before its time.
        for again in [7, 8] {
            assert!(next(&mut backlog, &mut news, &waiting).await);
            assert_eq!(backlog.take_attributes(), HashSet::from([Ino(again)]));
        }
        assert!(begun.elapsed() >= ONCE_MORE * 3 / 2 && begun.elapsed() <= ONCE_MORE * 3);
        let more = next(&mut backlog, &mut news, &waiting);
        assert!(tokio::time::timeout(ONCE_MORE * 100, more).await.is_err());
    }

    #[tokio::test]
    async fn an_answer_wakes_the_notifier_for_what_was_kept() {
        let waiting = Arc::new(Waiting::default());
        let (_send, mut news) = tokio::sync::mpsc::unbounded_channel();
        let mut backlog = Backlog::default();
        backlog.add(vec![entry(1, "a", None)]);
        drop(waiting.hold([INodeNo(1)].into_iter()));
        assert!(next(&mut backlog, &mut news, &waiting).await);
    }
}
