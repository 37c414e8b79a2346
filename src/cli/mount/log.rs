//! Where a daemon writes its log: standard error in the foreground, the journal where that leads there, else a file of which
//! 10 MiB are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Two files of this size are kept: the one being written, and the one before.
const HALF: u64 = 5 * 1024 * 1024;

/// Starts logging to standard error; if systemd reads that for its journal, to the journal itself, which keeps each field.
pub(super) fn to_stderr_or_journal(level: &str, mount: &str) {
    if !is_journal() {
        return to_stderr(level);
    }
    match tracing_journald::layer() {
        Ok(journal) => {
            let journal = journal
                .with_syslog_identifier("dewfs".to_owned())
                .with_field_prefix(Some("DEWFS".to_owned()))
                .with_custom_fields([("DEWFS_MOUNT", mount)]);
            // Only a second start could fail, and then there is a log already.
            drop(tracing_subscriber::registry().with(filter(level)).with(journal).try_init());
        }
        Err(why) => {
            to_stderr(level);
            tracing::warn!("the journal cannot be reached ({why}): fields are lost.");
        }
    }
}

/// Whether standard error is the stream that systemd made for the journal.
fn is_journal() -> bool {
    let Ok(about) = rustix::fs::fstat(io::stderr()) else { return false };
    let here = format!("{}:{}", about.st_dev, about.st_ino);
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == here)
}

fn to_stderr(level: &str) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // Only a second start could fail, and then there is a log already.
    drop(log.try_init());
}

/// Starts logging to a file, which is made with its first line: a state that is refused is not touched.
pub(super) fn to_file(level: &str, place: &Path) {
    let file = Mutex::new(Rotated::at(place));
    let log = tracing_subscriber::fmt().with_env_filter(filter(level)).with_ansi(false);
    drop(log.with_writer(file).try_init());
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(format!("{level},fuser=warn")).unwrap_or_else(|_unknown| "info".into())
}

/// Is a log file that begins anew when it is long enough.
struct Rotated {
    place: PathBuf,
    file: Option<(File, u64)>,
}

impl Rotated {
    fn at(place: &Path) -> Self {
        Self { place: place.to_path_buf(), file: None }
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.place)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn turn(&self) -> io::Result<(File, u64)> {
        fs::rename(&self.place, self.place.with_extension("1"))?;
        self.open()
    }
}

impl Write for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (file, length) = match self.file.take() {
            None => self.open()?,
            Some((_, length)) if length >= HALF => self.turn()?,
            Some(open) => open,
        };
        let (file, length) = self.file.insert((file, length));
        let written = file.write(line)?;
        *length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |(file, _)| file.flush())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ten_mib_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("log");
        let mut log = Rotated::at(&place);
        assert!(!place.exists(), "nothing was written");
        let line = vec![b'x'; 1 << 20];
        for _ in 0..23 {
            log.write_all(&line).unwrap();
        }
        let names: Vec<u64> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(names.len(), 2);
        assert!(names.iter().sum::<u64>() <= 2 * HALF, "{names:?}");
    }
}
