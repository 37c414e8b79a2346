//! The small file beside a socket that says which mountpoint it is for, so that commands find it from the mountpoint alone.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Is what a daemon notes about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// The process.
    pub pid: u32,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    mountpoint_base64: String,
    socket_base64: String,
    state_dir_base64: String,
    pid: u32,
    /// For people who look at the file; the bytes count.
    mountpoint: String,
}

impl Note {
    /// Its name in the state directory, where it stays after the daemon.
    pub const IN_STATE: &str = "mount.json";

    /// Writes the note with these permissions, whatever the umask, whole or not at all.
    pub fn write(&self, at: &Path, mode: u32) -> io::Result<()> {
        let encode = |path: &Path| STANDARD.encode(path.as_os_str().as_bytes());
        let written = Written {
            format: super::FORMAT,
            mountpoint_base64: encode(&self.mountpoint),
            socket_base64: encode(&self.socket),
            state_dir_base64: encode(&self.state_dir),
            pid: self.pid,
            mountpoint: self.mountpoint.to_string_lossy().into_owned(),
        };
        let temporary = at.with_extension("json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all((super::to_line(&written) + "\n").as_bytes())?;
        std::fs::rename(&temporary, at)
    }

    /// Reads a note; `None` if it is none.
    pub fn read(at: &Path) -> Option<Self> {
        let written: Written = serde_json::from_slice(&std::fs::read(at).ok()?).ok()?;
        let decode = |text: &str| {
            STANDARD.decode(text).ok().map(|b| PathBuf::from(std::ffi::OsString::from_vec(b)))
        };
        Some(Self {
            mountpoint: decode(&written.mountpoint_base64)?,
            socket: decode(&written.socket_base64)?,
            state_dir: decode(&written.state_dir_base64)?,
            pid: written.pid,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_note_comes_back_and_rubbish_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("x.json");
        let note = Note {
            mountpoint: std::ffi::OsString::from_vec(b"/mnt/\xff".to_vec()).into(),
            socket: "/run/s".into(),
            state_dir: "/var/lib/x".into(),
            pid: 7,
        };
        note.write(&at, 0o600).unwrap();
        assert_eq!(Note::read(&at), Some(note));
        std::fs::write(&at, "{").unwrap();
        assert_eq!(Note::read(&at), None);
    }
}
