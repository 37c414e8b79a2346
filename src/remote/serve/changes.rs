//! What changed, behind sync tokens: the feed of the directory, kept for as many clients as ask.

use std::collections::VecDeque;

use tokio::sync::{Mutex, MutexGuard};

use crate::remote::folder::FolderRemote;
use crate::remote::{Cursor, ErrorKind, Hint, Remote as _, RemotePath};

/// Changes remembered at most; who missed more looks at everything.
const MOST: usize = 65_536;
/// What tokens begin with: they have to be URIs.
const TOKEN: &str = "urn:dewfs:sync:";

/// Is what changed since the start, as far as it is remembered.
pub(super) struct Changes {
    log: Mutex<Log>,
}

struct Log {
    /// Tells this run, or what came after a gap, from every other.
    era: String,
    /// The number of the first path kept.
    first: u64,
    hints: VecDeque<Hint>,
    cursor: Option<Cursor>,
}

impl Log {
    fn new() -> Self {
        let era = format!("{:016x}", fastrand::u64(..));
        Self { era, first: 0, hints: VecDeque::new(), cursor: None }
    }

    fn token(&self) -> String {
        format!("{TOKEN}{}:{}", self.era, self.first + self.hints.len() as u64)
    }

    fn note(&mut self, hint: Hint) {
        self.hints.push_back(hint);
        if self.hints.len() > MOST {
            self.hints.pop_front();
            self.first += 1;
        }
    }

    /// The paths below `top` since a token; `None` if it is not known any more, or if what happened directly in `top` is not
    /// known by name: of that folder itself nothing can be told.
    fn since(&self, top: &RemotePath, token: &str) -> Option<Vec<RemotePath>> {
        let (era, number) = token.strip_prefix(TOKEN)?.split_once(':')?;
        let skip = number.parse::<u64>().ok()?.checked_sub(self.first)?;
        let skip = usize::try_from(skip).ok().filter(|skip| *skip <= self.hints.len())?;
        if era != self.era {
            return None;
        }
        let mut paths = Vec::new();
        for hint in self.hints.iter().skip(skip) {
            match hint {
                Hint::Folder(path) if top.0.starts_with(&path.0) => return None,
                Hint::Entry(path) | Hint::Folder(path) => paths.push(path.clone()),
            }
        }
        paths.retain(|path| path != top && path.0.starts_with(&top.0));
        paths.sort_unstable();
        paths.dedup();
        Some(paths)
    }
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { log: Mutex::new(Log::new()) }
    }

    /// The token of now; `None` while nobody tells of changes.
    pub(super) async fn now(&self, remote: &FolderRemote) -> Option<String> {
        Some(self.caught_up(remote).await?.token())
    }

    /// What changed since a token, and the token of now; `None` if it is not known any more.
    pub(super) async fn since(
        &self,
        remote: &FolderRemote,
        top: &RemotePath,
        token: &str,
    ) -> Option<(Vec<RemotePath>, String)> {
        let log = self.caught_up(remote).await?;
        Some((log.since(top, token)?, log.token()))
    }

    /// The log with all that was told until now; `None`, and no token is good any more, if nothing is told now.
    async fn caught_up(&self, remote: &FolderRemote) -> Option<MutexGuard<'_, Log>> {
        let mut log = self.log.lock().await;
        loop {
            match remote.changes(log.cursor.as_ref()).await {
                Ok(page) => {
                    log.cursor = Some(page.cursor);
                    page.hints.into_iter().for_each(|hint| log.note(hint));
                    if !page.more {
                        return Some(log);
                    }
                }
                Err(error) if log.cursor.is_some() => {
                    tracing::debug!(%error, "what changed is not known");
                    *log = Log::new();
                }
                // For good, and said when it began.
                Err(error) if error.kind == ErrorKind::Unsupported => return None,
                Err(error) => {
                    tracing::warn!(%error, "the directory tells no changes");
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::remote::Name;

    fn path(name: &str) -> RemotePath {
        RemotePath(vec![Name::new(name).unwrap()])
    }

    /// Once the kernel had no more watches, every client was told for ever that nothing had changed.
    #[tokio::test]
    async fn regression_where_nothing_is_told_any_more_no_token_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let (remote, changes) = (FolderRemote::open(dir.path()).unwrap(), Changes::new());
        let root = RemotePath::root();
        let token = changes.now(&remote).await.unwrap();
        assert!(changes.since(&remote, &root, &token).await.is_some());
        remote.tells_no_changes();
        assert_eq!(changes.since(&remote, &root, &token).await, None);
        assert_eq!(changes.now(&remote).await, None);
    }

    /// A token of a time in which nobody listened was good afterwards.
    #[tokio::test]
    async fn regression_while_the_directory_is_away_there_is_no_token() {
        let place = tempfile::tempdir().unwrap();
        let (dir, away) = (place.path().join("dir"), place.path().join("away"));
        std::fs::create_dir(&dir).unwrap();
        let (remote, changes) = (FolderRemote::open(&dir).unwrap(), Changes::new());
        assert!(changes.now(&remote).await.is_some());
        std::fs::rename(&dir, &away).unwrap();
        assert_eq!(changes.now(&remote).await, None);
        std::fs::rename(&away, &dir).unwrap();
        assert!(changes.now(&remote).await.is_some());
    }

    #[test]
    fn each_client_gets_what_it_missed() {
        let root = RemotePath::root();
        let mut log = Log::new();
        let begin = log.token();
        log.note(Hint::Entry(path("a")));
        let middle = log.token();
        log.note(Hint::Folder(path("b")));
        log.note(Hint::Entry(path("b")));
        assert_eq!(log.since(&root, &begin).unwrap(), [path("a"), path("b")]);
        assert_eq!(log.since(&root, &middle).unwrap(), [path("b")]);
        assert_eq!(log.since(&root, &log.token()).unwrap(), []);
        for wrong in ["", "urn:dewfs:sync:x:0", &format!("{begin}9"), "http://x"] {
            assert!(log.since(&root, wrong).is_none(), "{wrong}");
        }
        assert_eq!(log.since(&path("a"), &begin).unwrap(), []);
        assert!(log.since(&path("b"), &begin).is_none());
        log.note(Hint::Folder(RemotePath::root()));
        assert!(log.since(&root, &middle).is_none());
        let begin = log.token();
        (0..=MOST).for_each(|_| log.note(Hint::Entry(path("c"))));
        assert!(log.since(&root, &begin).is_none());
    }
}
