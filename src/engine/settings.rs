//! What the engine is told at start: plain values, resolved from the mount's options.

use std::time::Duration;

/// Says when a call that changes something returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// When it is safe here.
    Local,
    /// When the remote has it.
    Remote,
}

/// Says how much of a file is brought here because it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hydration {
    /// What is read, and what a reader in order will read next.
    Partial,
    /// The rest as well, in the background, while the file is open.
    Progressive,
    /// All of it, before the first read returns.
    Full,
    /// All files, whether they are read or not: the whole mount is pinned.
    Always,
}

/// Says which folders are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// Those that somebody looks into.
    OnDemand,
    /// All, in the background.
    Full,
}

/// Is everything the engine is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Owner of what has none of its own.
    pub uid: u32,
    /// Group of what has none of its own.
    pub gid: u32,
    /// Permission bits of files that have none of their own.
    pub file_mode: u32,
    /// Permission bits of folders that have none of their own.
    pub dir_mode: u32,
    /// Bytes that data files may take.
    pub cache_size: u64,
    /// Bytes of the disk that stay free.
    pub min_free: u64,
    /// How long a written file rests before it is sent.
    pub write_back_delay: Duration,
    /// When `close` returns.
    pub close: Returns,
    /// When `fsync` returns.
    pub fsync: Returns,
    /// When a change of names returns.
    pub namespace: Returns,
    /// How often the remote is asked for changes.
    pub poll: Duration,
    /// Background requests a second.
    pub requests: u32,
    /// Parallel uploads.
    pub transfers: u32,
    /// How long a waiting program waits without progress.
    pub timeout: Duration,
    /// How long sending goes on after an unmount.
    pub drain: Duration,
    /// Mass-change guard; 0 = off.
    pub guard: u32,
    /// Whether content may be evicted under pressure.
    pub auto_free: bool,
    /// For how long a file may be unused before its content is freed, pressure or not; `None`: for ever.
    pub free_after: Option<Duration>,
    /// Bytes a second that are fetched at most; 0 is no limit.
    pub rate_down: u64,
    /// Bytes a second that are sent at most; 0 is no limit.
    pub rate_up: u64,
    /// How much of a file is brought here because it is read.
    pub hydration: Hydration,
    /// Which folders are listed.
    pub population: Population,
    /// Where the remote is, for people and to notice that it is another one; empty: nobody says.
    pub remote: String,
    /// The remote is meant to be another one than before.
    pub adopt_remote: bool,
    /// A first mount without the remote is all right.
    pub offline_ok: bool,
    /// Whether reading a file moves its atime, as relatime does.
    pub atime: bool,
    /// Whether the kernel may read and write hydrated files itself, where it can.
    pub passthrough: bool,
    /// Patterns of names kept local only.
    pub exclude: Vec<String>,
}

/// Names that editors and desktops make for themselves only.
pub const EDITOR_FILES: &[&str] = &[
    ".*.sw?",
    ".*.swpx",
    "*.un~",
    ".~lock.*#",
    "~$*",
    ".goutputstream-*",
    ".#*",
    "4913",
    ".fuse_hidden*",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            read_only: false,
            uid: 0,
            gid: 0,
            file_mode: 0o644,
            dir_mode: 0o755,
            cache_size: 50 << 30,
            min_free: 0,
            write_back_delay: Duration::from_secs(1),
            close: Returns::Local,
            fsync: Returns::Local,
            namespace: Returns::Local,
            poll: Duration::from_secs(30),
            requests: 20,
            transfers: 4,
            timeout: Duration::from_secs(30),
            drain: Duration::from_secs(20),
            guard: 100,
            auto_free: true,
            free_after: None,
            rate_down: 0,
            rate_up: 0,
            hydration: Hydration::Partial,
            population: Population::OnDemand,
            remote: String::new(),
            adopt_remote: false,
            offline_ok: false,
            atime: true,
            passthrough: true,
            exclude: EDITOR_FILES.iter().map(|pattern| (*pattern).to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{Exclude, Name};

    #[test]
    fn editors_own_files_stay_here_and_documents_do_not() {
        let exclude = Exclude::new(EDITOR_FILES);
        let kept = |name: &str| {
            let name = Name::new(name).unwrap();
            exclude.matches(&name, false, || Ok::<_, ()>(Vec::new())).unwrap()
        };
        for name in
            [".notes.txt.swp", ".~lock.a b.odt#", ".goutputstream-X1Y2Z3", "~$a.docx", "4913"]
        {
            assert!(kept(name), "{name}");
        }
        for name in ["notes.txt", "swp", "lock.odt", "a.tmp", "~", "a~", ".Trash-1000"] {
            assert!(!kept(name), "{name}");
        }
    }
}
