//! Which of the kernel's own copies of folders' names may be read again.
//!
//! The kernel can keep the names that it was given of a folder, and gives them to the next who reads it without asking. It drops
//! them by itself when a program in the mount changes the folder. What appears there otherwise it would never learn, so whether
//! the copy is still true is said with each opening: it is, as long as nothing was told of the folder since the opening with
//! which the copy began.
//!
//! Only one who has a folder open uses the copy, reading it or adding to it. Else an answer under way while the folder changed
//! could be added by one after the other has begun anew; and who read new pages first and then old ones from the copy would
//! miss a name that moved on meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fuser::{FileHandle, FopenFlags, INodeNo};

/// Folders of which is known whether the kernel may have a copy, at most (some MiB); the others are read anew.
const MOST: usize = 50_000;

/// So many names of a folder looked up one by one mean that the kernel has its copy of the names but not what they stand for; a page
/// gives it both for many at once.
const ONE_BY_ONE: u32 = 64;

/// Says how somebody who opens a folder uses the kernel's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// As it is; what is missing of it comes to it.
    Kept,
    /// From the beginning: what was there before goes.
    Anew,
    /// Not at all: somebody else does.
    Not,
}

impl Use {
    /// What the kernel is told.
    pub(super) fn flags(self) -> FopenFlags {
        match self {
            Self::Kept => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
            Self::Anew => FopenFlags::FOPEN_CACHE_DIR,
            Self::Not => FopenFlags::FOPEN_KEEP_CACHE,
        }
    }
}

/// Is what is known of the kernel's copy of one folder.
#[derive(Debug, Default)]
struct Copy {
    /// Who uses it.
    user: Option<FileHandle>,
    is_true: bool,
    looked_up: u32,
}

/// Knows of which folders the kernel has a copy that is still true.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<HashMap<INodeNo, Copy>>);

impl Copies {
    /// Somebody opens this folder.
    pub(super) fn open(&self, folder: INodeNo, by: FileHandle) -> Use {
        let mut all = self.all();
        if all.len() >= MOST {
            all.retain(|_, copy| copy.user.is_some());
        }
        let copy = all.entry(folder).or_default();
        if copy.user.is_some() {
            return Use::Not;
        }
        copy.user = Some(by);
        if copy.is_true {
            return Use::Kept;
        }
        copy.is_true = true;
        copy.looked_up = 0;
        Use::Anew
    }

    /// Who opened it has closed it: the kernel has added what it adds.
    pub(super) fn close(&self, folder: INodeNo, by: FileHandle) {
        let mut all = self.all();
        let Some(copy) = all.get_mut(&folder).filter(|copy| copy.user == Some(by)) else { return };
        copy.user = None;
        if !copy.is_true {
            all.remove(&folder);
        }
    }

    /// A name there is another's now, or may be. Answers whether the kernel may have a copy.
    pub(super) fn changed(&self, folder: INodeNo) -> bool {
        let mut all = self.all();
        let Some(copy) = all.get_mut(&folder) else { return false };
        copy.is_true = false;
        if copy.user.is_none() {
            all.remove(&folder);
        }
        true
    }

    /// A name that is there was looked up by itself.
    pub(super) fn looked_up(&self, folder: INodeNo) {
        if let Some(copy) = self.all().get_mut(&folder) {
            copy.looked_up += 1;
            copy.is_true &= copy.looked_up < ONE_BY_ONE;
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<INodeNo, Copy>> {
        // Nothing in here can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: INodeNo = INodeNo(7);
    const FIRST: FileHandle = FileHandle(1);
    const SECOND: FileHandle = FileHandle(2);

    /// Reads the folder once; how the copy was used.
    fn read(copies: &Copies) -> Use {
        let used = copies.open(FOLDER, FIRST);
        copies.close(FOLDER, FIRST);
        used
    }

    #[test]
    fn a_copy_is_kept_until_something_changes() {
        let copies = Copies::default();
        assert!(!copies.changed(FOLDER), "nobody has read it");
        assert_eq!(
            (read(&copies), read(&copies), read(&copies)),
            (Use::Anew, Use::Kept, Use::Kept)
        );
        assert!(copies.changed(FOLDER));
        assert_eq!((read(&copies), read(&copies)), (Use::Anew, Use::Kept));
    }

    #[test]
    fn what_changes_while_it_is_read_makes_the_next_begin_anew() {
        let copies = Copies::default();
        assert_eq!(copies.open(FOLDER, FIRST), Use::Anew);
        assert!(copies.changed(FOLDER));
        // What the first was given before the change may still be added to the copy.
        assert_eq!(copies.open(FOLDER, SECOND), Use::Not);
        copies.close(FOLDER, SECOND);
        assert!(copies.changed(FOLDER), "the first still uses it");
        copies.close(FOLDER, FIRST);
        assert_eq!((read(&copies), read(&copies)), (Use::Anew, Use::Kept));
    }

    #[test]
    fn only_one_uses_a_copy_at_a_time() {
        let copies = Copies::default();
        assert_eq!(read(&copies), Use::Anew);
        assert_eq!(copies.open(FOLDER, FIRST), Use::Kept);
        assert_eq!(copies.open(FOLDER, SECOND), Use::Not);
        // Its end is not the end of the first.
        copies.close(FOLDER, SECOND);
        assert_eq!(copies.open(FOLDER, SECOND), Use::Not);
        copies.close(FOLDER, FIRST);
        assert_eq!(copies.open(FOLDER, FIRST), Use::Kept);
    }

    #[test]
    fn names_looked_up_one_by_one_are_given_by_pages_again() {
        let copies = Copies::default();
        copies.looked_up(FOLDER);
        read(&copies);
        (1..ONE_BY_ONE).for_each(|_| copies.looked_up(FOLDER));
        assert_eq!(read(&copies), Use::Kept);
        copies.looked_up(FOLDER);
        assert_eq!((read(&copies), read(&copies)), (Use::Anew, Use::Kept));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let copies = Copies::default();
        assert_eq!(copies.open(FOLDER, FIRST), Use::Anew);
        for number in 100..100 + 2 * MOST as u64 {
            copies.open(INodeNo(number), SECOND);
            copies.close(INodeNo(number), SECOND);
        }
        assert!(copies.all().len() <= MOST);
        assert_eq!(copies.open(FOLDER, SECOND), Use::Not, "what is in use stays");
    }
}
