//! The verbs on extended attributes: `user.*` as users set them, `user.dewfs.*` as the contract says.

use super::settings::Settings;
use super::state::{ItemStatus, pin_word};
use super::{Answer, Engine, EngineError};
use crate::catalog::{Durability, Origin, PendingCounts};
use crate::model::{Ino, Kind, Pin};

const OURS: &[u8] = b"user.dewfs.";
const PIN: &[u8] = b"user.dewfs.pin";
/// What programs keep that embed the engine. No name that a kernel passes on begins so.
const CUSTOM: &[u8] = b"\0custom.";
/// Bytes a value may have; Linux's own limit.
const LARGEST: usize = 65_536;

impl Engine {
    /// A `user.*` attribute, or one of `user.dewfs.*`.
    pub fn get_xattr(&self, ino: Ino, name: &[u8]) -> Answer<Vec<u8>> {
        if let Some(word) = name.strip_prefix(OURS) {
            return self.own_xattr(ino, word);
        }
        let value = self.core.catalog.read(|rows| rows.xattr(ino, name));
        Answer::Ready(match value {
            Ok(value) => value.ok_or(EngineError::NoAttribute),
            Err(error) => Err(error.into()),
        })
    }

    fn own_xattr(&self, ino: Ino, word: &[u8]) -> Answer<Vec<u8>> {
        let counts = self.core.catalog.pending_counts();
        let is_folder = || {
            let found = self.core.catalog.read(|rows| rows.inode(ino));
            found.is_ok_and(|inode| inode.is_some_and(|inode| inode.kind == Kind::Folder))
        };
        // What is below folders is counted when somebody first asks, which may take a while.
        if counts.is_none() && matches!(word, b"state" | b"pending_below") && is_folder() {
            let (engine, word) = (self.clone(), word.to_vec());
            return Answer::Pending(Box::pin(async move {
                let counts = engine.core.catalog.count_pending().await?;
                engine.own_word(ino, &word, Some(&counts))
            }));
        }
        Answer::Ready(self.own_word(ino, word, counts.as_ref()))
    }

    fn own_word(
        &self,
        ino: Ino,
        word: &[u8],
        counts: Option<&PendingCounts>,
    ) -> Result<Vec<u8>, EngineError> {
        if let (b"pending_below", Some(counts)) = (word, counts) {
            let inode = self.core.catalog.read(|rows| rows.inode(ino))?;
            return match inode.ok_or(EngineError::NotFound)?.kind {
                Kind::Folder => Ok(counts.below(ino).to_string().into_bytes()),
                _ => Err(EngineError::NoAttribute),
            };
        }
        let item = self.core.item_status(ino, counts)?;
        ours(&item, word).ok_or(EngineError::NoAttribute)
    }

    /// The names of the `user.*` attributes that users set.
    pub fn list_xattr(&self, ino: Ino) -> Answer<Vec<Vec<u8>>> {
        let names = self.core.catalog.read(|rows| rows.xattrs(ino));
        let shown = |name: &Vec<u8>| !name.starts_with(CUSTOM);
        Answer::Ready(match names {
            Ok(names) => Ok(names.into_iter().filter(shown).collect()),
            Err(error) => Err(error.into()),
        })
    }

    /// What a program that embeds the engine keeps with an item under this name; it goes along with the item wherever it is
    /// moved, stays on this machine, and is seen by no user.
    pub fn custom_data(&self, ino: Ino, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.core.catalog.read(|rows| rows.xattr(ino, &custom(name)))?)
    }

    /// Keeps it, or removes it with `None`.
    pub async fn set_custom_data(
        &self,
        ino: Ino,
        name: &str,
        value: Option<&[u8]>,
    ) -> Result<(), EngineError> {
        let (name, value) = (custom(name), value.map(<[u8]>::to_vec));
        let set = move |tx: &mut crate::catalog::Tx| {
            tx.inode(ino)?.ok_or(EngineError::NotFound)?;
            match value {
                Some(value) => tx.set_xattr(ino, &name, &value)?,
                None => drop(tx.remove_xattr(ino, &name)?),
            }
            Ok::<_, EngineError>(())
        };
        self.core.catalog.write(Durability::Soon, Origin::Engine, set).await
    }

    /// Sets a `user.*` attribute; `create`/`replace` as in setxattr(2).
    pub fn set_xattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> Answer<()> {
        if name == PIN {
            return self.set_pin_xattr(ino, value);
        }
        if let Err(error) = settable(&self.core.settings, name) {
            return error.into();
        }
        if value.len() > LARGEST {
            return EngineError::Invalid("value too large").into();
        }
        let (core, name, value) = (self.core.clone(), name.to_vec(), value.to_vec());
        let setting = core.clone();
        Answer::Queued(Box::new(move |done| {
            let set = move |tx: &mut crate::catalog::Tx| {
                let inode = tx.inode(ino)?.ok_or(EngineError::Stale)?;
                if !matches!(inode.kind, Kind::File | Kind::Folder) {
                    return Err(EngineError::NotPermitted(
                        "only files and folders have user attributes",
                    ));
                }
                match tx.xattr(ino, &name)? {
                    Some(_) if create => return Err(EngineError::Exists),
                    None if replace => return Err(EngineError::NoAttribute),
                    Some(same) if same == value => return Ok(()),
                    _ => tx.set_xattr(ino, &name, &value)?,
                }
                setting.retouched_attribute(tx, &inode, &name)
            };
            core.catalog.submit(Durability::Soon, Origin::Kernel, set, done);
        }))
    }

    /// Removes a `user.*` attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Answer<()> {
        if name == PIN {
            return self.set_pin_xattr(ino, b"unspecified");
        }
        if let Err(error) = settable(&self.core.settings, name) {
            return error.into();
        }
        let (core, name) = (self.core.clone(), name.to_vec());
        let removing = core.clone();
        Answer::Queued(Box::new(move |done| {
            let remove = move |tx: &mut crate::catalog::Tx| {
                let inode = tx.inode(ino)?.ok_or(EngineError::Stale)?;
                match tx.remove_xattr(ino, &name)? {
                    true => removing.retouched_attribute(tx, &inode, &name),
                    false => Err(EngineError::NoAttribute),
                }
            };
            core.catalog.submit(Durability::Soon, Origin::Kernel, remove, done);
        }))
    }

    fn set_pin_xattr(&self, ino: Ino, value: &[u8]) -> Answer<()> {
        let pin = match value.strip_suffix(b"\n").unwrap_or(value) {
            b"unspecified" => Pin::Unspecified,
            b"pinned" => Pin::Pinned,
            b"unpinned" => Pin::Unpinned,
            _ => return EngineError::Invalid("a pin is unspecified, pinned or unpinned").into(),
        };
        let engine = self.clone();
        Answer::Pending(Box::pin(async move { engine.set_pin(ino, pin).await }))
    }
}

fn custom(name: &str) -> Vec<u8> {
    [CUSTOM, name.as_bytes()].concat()
}

fn settable(settings: &Settings, name: &[u8]) -> Result<(), EngineError> {
    if settings.read_only {
        return Err(EngineError::ReadOnly);
    }
    if name.starts_with(OURS) {
        return Err(EngineError::NotPermitted("dewfs tells this, nobody sets it"));
    }
    Ok(())
}

fn ours(item: &ItemStatus, word: &[u8]) -> Option<Vec<u8>> {
    let text = match word {
        b"state" => item.word().to_owned(),
        b"content" if matches!(item.kind, Kind::File | Kind::Folder) => {
            item.content_word().to_owned()
        }
        b"sync" => item.sync.word().to_owned(),
        b"pin" => pin_word(item.pin).to_owned(),
        b"present" => item.present_bytes.to_string(),
        b"pending" => item.pending_bytes.to_string(),
        b"id" => item.remote_id.clone()?,
        b"version" => item.version.clone()?,
        b"error" => item.error.clone()?,
        _ => return None,
    };
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::remote::memory::{MemoryOptions, MemoryStore};

    /// What a file manager asks for each icon: the statements of one answer, which are no more among very many files. It is
    /// ready at once, so nobody is asked.
    #[tokio::test]
    async fn the_state_of_a_file_takes_few_statements_among_many_and_waits_for_nobody() {
        let store = MemoryStore::new(MemoryOptions::default());
        for folder in ["few", "many"] {
            store.mkdir(folder).unwrap();
        }
        for n in 0..300 {
            store.put(&format!("many/f{n}"), "content").unwrap();
        }
        store.put("few/f0", "content").unwrap();
        let state = tempfile::tempdir().unwrap();
        let remote = Arc::new(store.remote());
        let settings =
            Settings { poll: std::time::Duration::from_secs(3600), ..Settings::default() };
        let engine = Engine::start(settings, &state.path().join("state"), remote).await.unwrap();
        let (few, many) = (
            engine.resolve(b"few/f0", true).await.unwrap(),
            engine.resolve(b"many/f299", true).await.unwrap(),
        );
        let statements = || engine.core.catalog.read(|rows| Ok(rows.statements())).unwrap();
        let cost = |ino: Ino| {
            let before = statements();
            match engine.get_xattr(ino, b"user.dewfs.state") {
                Answer::Ready(word) => assert_eq!(word.unwrap(), b"online-only"),
                _ => panic!("it waits for nobody"),
            }
            statements() - before
        };
        let first = cost(few);
        assert!((1..=24).contains(&first), "{first} statements");
        assert_eq!(first, cost(many));
        let all: Vec<u64> = (0..100).map(|_| cost(many)).collect();
        assert_eq!(all, [first; 100], "the same each time");
        engine.stop().await;
    }
}
