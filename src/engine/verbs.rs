//! What verbs take and give: plain values between the doors and the engine.

use std::time::Duration;

use crate::catalog::Mark;
use crate::model::{Ino, Kind, Name};

/// Is what `stat` shows of an inode.
#[derive(Clone, Debug)]
pub struct Stat {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Which life of it this is: a folder that was removed and came back is another one to the kernel.
    pub life: u64,
    /// Length in bytes.
    pub size: u64,
    /// Units of 512 bytes that are here; never 0 for a file with bytes.
    pub blocks: u64,
    /// Mtime, nanoseconds since 1970.
    pub mtime: i64,
    /// Atime, nanoseconds since 1970.
    pub atime: i64,
    /// Ctime, nanoseconds since 1970.
    pub ctime: i64,
    /// Permission bits, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links: 1, or 2 for folders.
    pub links: u32,
    /// How long the kernel may believe this; zero while a writer is open.
    pub believe: Duration,
}

/// Is one entry of a folder page.
#[derive(Clone, Debug)]
pub struct PageEntry {
    /// Where the next page begins after this one.
    pub cookie: u64,
    /// Its name: `.` and `..` are the door's own business.
    pub name: Name,
    /// What it is.
    pub stat: Stat,
}

/// Is a page of a folder.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its entries.
    pub entries: Vec<PageEntry>,
    /// How far whoever goes on has something to read.
    pub reach: Reach,
}

/// Says how far somebody reads a folder. What is made later has a higher number: once he comes to the highest of when he began,
/// he is given what there is then, for what was replaced meanwhile is there; and so once more, for it may have been replaced again.
/// Not for ever: who replaces what he reads would never come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The highest number that is shown.
    pub until: Ino,
    /// How many times it goes further yet.
    pub rounds: u8,
}

/// Names an open file or folder, from `open` to `release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// Is what `open` gives.
#[derive(Debug)]
pub struct Opened {
    /// To be given back with every further verb.
    pub handle: Handle,
    /// Whether the kernel may keep the pages it has: the same generation as last time.
    pub keep_pages: bool,
    /// Whether the kernel's attributes are stale and must be invalidated before the answer.
    pub stale_attributes: bool,
    /// The registered backing by which the kernel does all reading and writing itself; `None`: it asks for each.
    pub passthrough: Option<u32>,
    /// Whether the kernel must keep no pages of it: somebody writes it through a mapping that goes past it.
    pub direct: bool,
    /// Whether closing it has nothing to wait for, so that the kernel need not ask.
    pub silent_close: bool,
}

/// Says how a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenMode {
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Emptied at once.
    pub truncate: bool,
    /// Fails if it exists (`create` only).
    pub exclusive: bool,
}

/// Says who asks: the owner of what is created.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process, for messages.
    pub pid: u32,
}

/// Is a time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// This many nanoseconds since 1970.
    At(i64),
}

/// Is what `setattr` changes; what is `None` stays. All `None` means: clear suid, and sgid where group execute is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

/// Is what `rename` may do about the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail if it is there.
    NoReplace,
    /// Swap the two.
    Exchange,
}

/// Is what `statfs` shows.
#[derive(Clone, Copy, Debug)]
pub struct FileSystemSpace {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free.
    pub free: u64,
    /// Inodes known.
    pub items: u64,
}

/// Says what `fallocate` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve room and grow the file.
    Grow,
    /// Reserve room, keep the length.
    KeepSize,
    /// Make a hole, keep the length.
    PunchHole,
    /// Zero a range, growing the file.
    Zero,
    /// Zero a range, keep the length.
    ZeroKeepSize,
}

/// Says what `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next data.
    Data,
    /// The next hole.
    Hole,
}

/// Tells the kernel's door what the kernel must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// The name in this folder now means another inode or nothing; `gone` left it.
    Entry {
        /// The folder.
        parent: Ino,
        /// The name.
        name: Name,
        /// Who was there and is gone for good (a delete that watchers should hear of); never who has another place now, nor a
        /// folder that may come back: in the kernel nothing that is gone lives again.
        gone: Option<Ino>,
    },
    /// Attributes of an inode; never its pages.
    Attributes(Ino),
    /// Nothing is to be forgotten: it is reached when everything before it was told.
    Mark(Mark),
}
