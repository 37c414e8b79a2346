//! Paths on the command line, or from a list.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use clap::Args;

use super::Failure;

/// Paths to work on.
#[derive(Args, Clone, Debug)]
pub(super) struct Paths {
    /// What to work on
    #[arg(value_name = "PATH", required_unless_present = "files_from")]
    paths: Vec<PathBuf>,
    /// Read paths from this file, one a line; "-" is the standard input
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// Paths that are read or printed end with NUL instead of a line's end
    #[arg(short = '0', long = "null")]
    null: bool,
}

impl Paths {
    /// The same for a command that can do without paths.
    pub(super) fn of(paths: &[PathBuf], files_from: Option<&PathBuf>, null: bool) -> Self {
        Self { paths: paths.to_vec(), files_from: files_from.cloned(), null }
    }

    /// All of them.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut all = self.paths.clone();
        if let Some(from) = &self.files_from {
            let mut bytes = Vec::new();
            if from.as_os_str() == "-" {
                std::io::stdin().read_to_end(&mut bytes)?;
            } else {
                bytes = std::fs::read(from)
                    .map_err(|error| Failure::failed(format!("{}: {error}", from.display())))?;
            }
            all.extend(split(&bytes, if self.null { 0 } else { b'\n' }));
        }
        if all.is_empty() {
            return Err(Failure::usage("no path was given"));
        }
        Ok(all)
    }
}

fn split(bytes: &[u8], end: u8) -> Vec<PathBuf> {
    let parts = bytes.split(|byte| *byte == end).filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(OsString::from_vec(part.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_hold_any_name() {
        assert_eq!(split(b"a b\n\nc\n", b'\n'), [PathBuf::from("a b"), PathBuf::from("c")]);
        assert_eq!(split(b"a\nb\0c", 0), [PathBuf::from("a\nb"), PathBuf::from("c")]);
    }
}
