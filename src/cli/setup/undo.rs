//! The way back of a setup that failed: what it has put somewhere goes, what was there before is there again.

use std::io::ErrorKind;
use std::path::Path;

use secrecy::zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::keyring::Put;
use crate::config::{Login, SavedPlace};

/// Is what a setup has put where; nothing else is taken away.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// Whether the remote is written down.
    pub(super) is_written: bool,
    /// The secret's file was written, and held this before if it was there.
    file: Option<Option<Zeroizing<Vec<u8>>>>,
    /// The secret in the keyring.
    pub(super) in_keyring: Option<Put>,
}

impl Undo {
    /// Writes the secret's file, and remembers what it held.
    pub(super) fn write_secret(
        &mut self,
        place: &SavedPlace,
        login: &Login,
    ) -> Result<(), Failure> {
        let before = std::fs::read(&place.secret).ok().map(Zeroizing::new);
        place.write_secret(login)?;
        self.file = Some(before);
        Ok(())
    }

    /// Takes all of it back; says what stays.
    pub(super) fn take_back(self, name: &str, place: &SavedPlace) {
        let stays = |what: &str, why: &str| eprintln!("dewfs: {name}: {what} stays: {why}");
        let restored = match &self.file {
            None => Ok(()),
            Some(None) => remove(&place.secret),
            Some(Some(before)) => std::fs::write(&place.secret, before),
        };
        if let Err(why) = restored {
            stays(&place.secret.display().to_string(), &why.to_string());
        }
        if self.is_written
            && let Err(why) = remove(&place.file)
        {
            stays(&place.file.display().to_string(), &why.to_string());
        }
        if let Some(put) = self.in_keyring
            && let Err(why) = put.take_back()
        {
            stays("its secret in the keyring", &why.message);
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
