//! Looks at what a feed told of, and for what was missed.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::EngineError;
use super::core::Core;
use super::feed::Missed;
use super::observe::change;
use crate::catalog::{CatalogError, Tx};
use crate::model::{self, Ino, Look, Name, Observed, RemotePath, Rows as _, Sight, Tick};
use crate::remote::layers::in_background;
use crate::remote::{ErrorKind, Locator, RemoteError};

/// So many things that were missed in one folder are looked for one by one.
const FEW: usize = 8;
/// How many looks at once.
const AT_ONCE: usize = 8;

/// Whether an error tells of the path that was looked at and nothing of the others: one such path must not keep all that is
/// told from being seen.
fn is_of_one_path(kind: &ErrorKind) -> bool {
    use ErrorKind::{Corrupt, Denied, Locked, NameRejected, Other, Unavailable};
    matches!(kind, Denied | Locked { .. } | NameRejected | Unavailable | Corrupt | Other)
}

/// Whether an error tells of that path, or of all on a disk of its own that is away, and nothing of the others.
fn is_of_a_part(kind: &ErrorKind) -> bool {
    *kind == ErrorKind::Away || is_of_one_path(kind)
}

impl Core {
    pub(super) async fn look_at_hints(
        self: &Arc<Self>,
        paths: Vec<RemotePath>,
        since: Tick,
    ) -> Result<Vec<Look>, EngineError> {
        let sights = self.sights(paths, since).await?;
        let known = change(self, move |tx| {
            let mut known = Vec::new();
            for sight in sights {
                let above = unknown_above(tx, &sight)?;
                known.push((sight, above));
            }
            Ok(known)
        })
        .await?;
        let mut looks = Vec::new();
        for (sight, above) in known {
            let above = self.sights(above, since).await?;
            looks.push(Look { above, sight });
        }
        Ok(looks)
    }

    async fn sights(
        self: &Arc<Self>,
        paths: Vec<RemotePath>,
        since: Tick,
    ) -> Result<Vec<Sight>, EngineError> {
        let looks = paths.into_iter().map(|path| {
            in_background(async move { (path.clone(), self.sight(path, since).await) })
        });
        let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffered(AT_ONCE);
        let mut sights = Vec::new();
        let mut unseen = Vec::new();
        while let Some((path, sight)) = looks.next().await {
            match sight {
                // When that part is back, all of it is looked at.
                Err(error) if error.kind == ErrorKind::Away => {}
                Err(error) if is_of_one_path(&error.kind) => {
                    tracing::debug!(%error, "its folder is to be listed instead");
                    unseen.extend(path.parent());
                }
                sight => sights.push(sight?),
            }
        }
        if !unseen.is_empty() {
            change(self, move |tx| {
                unseen.iter().try_for_each(|folder| model::hint_folder(tx, folder))
            })
            .await?;
        }
        Ok(sights)
    }

    async fn sight(self: &Arc<Self>, path: RemotePath, since: Tick) -> Result<Sight, RemoteError> {
        let seen = self.remotes.feed.stat(&Locator::at(path.clone())).await?;
        Ok(Sight { path, seen, since })
    }

    /// Looks for what was missed before the feed was drained.
    pub(super) async fn look_for(
        self: &Arc<Self>,
        due: Vec<(Ino, Tick)>,
    ) -> Result<Vec<Missed>, EngineError> {
        let mut missed = Vec::new();
        for (ino, stamp) in due {
            if let Some(path) = self.catalog.read(|rows| rows.base_path(ino))? {
                missed.push(Missed { ino, stamp, path, seen: None });
            }
        }
        let mut seen = self.seen_at(missed.iter().map(|one| one.path.clone())).await;
        let mut found = Vec::new();
        for one in missed {
            match seen.remove(&one.path) {
                Some(Ok(seen)) => found.push(Missed { seen, ..one }),
                Some(Err(error)) if is_of_a_part(&error.kind) => {
                    tracing::debug!(%error, "it is missed for longer");
                }
                Some(Err(error)) => return Err(error.into()),
                None => {}
            }
        }
        Ok(found)
    }

    /// What is at these paths now: of several in one folder, by listing that.
    pub(super) async fn seen_at(
        self: &Arc<Self>,
        paths: impl Iterator<Item = RemotePath>,
    ) -> HashMap<RemotePath, Result<Option<Observed>, RemoteError>> {
        let mut folders: HashMap<Option<RemotePath>, Vec<RemotePath>> = HashMap::new();
        for path in paths {
            folders.entry(path.parent()).or_default().push(path);
        }
        let mut seen = HashMap::new();
        for (folder, paths) in folders {
            let listed = match folder.filter(|_| paths.len() > FEW) {
                Some(folder) => self.names_in(folder).await.ok(),
                None => None,
            };
            for path in paths {
                let now = match (&listed, path.0.last()) {
                    (Some(names), Some(name)) => Ok(names.get(name).cloned()),
                    _ => self.remotes.feed.stat(&Locator::at(path.clone())).await,
                };
                let lost = now.as_ref().is_err_and(|error| !is_of_a_part(&error.kind));
                seen.insert(path, now);
                if lost {
                    return seen;
                }
            }
        }
        seen
    }

    /// All that is in a folder of the remote.
    async fn names_in(&self, folder: RemotePath) -> Result<HashMap<Name, Observed>, RemoteError> {
        let (at, mut names, mut page) = (Locator::at(folder), HashMap::new(), None);
        loop {
            let listed = self.remotes.feed.list(&at, page).await?;
            names.extend(listed.entries.into_iter().map(|one| (one.name, one.entry)));
            page = match listed.next {
                Some(next) => Some(next),
                None => return Ok(names),
            };
        }
    }
}

/// The folders above a known identity that are not known, so that it can be followed.
fn unknown_above(tx: &mut Tx, sight: &Sight) -> Result<Vec<RemotePath>, CatalogError> {
    let id = sight.seen.as_ref().and_then(|seen| seen.id.as_ref());
    let known = match id {
        Some(id) => tx.base_by_id(id)?.is_some(),
        None => false,
    };
    let mut above = Vec::new();
    for depth in 1..sight.path.0.len() {
        let Some(names) = sight.path.0.get(..depth).filter(|_| known) else { break };
        let folder = RemotePath(names.to_vec());
        if model::by_path(tx, &folder)?.is_none() {
            above.push(folder);
        }
    }
    Ok(above)
}
