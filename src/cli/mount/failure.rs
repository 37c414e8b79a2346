//! Why there is no mount, in one line, and the exit codes of two kinds of callers.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::cli::exit::for_people;
use crate::cli::way_out::with_way_out;
use crate::engine::StartError;
use crate::fuse::{MountError, MountpointError};

/// Says whose exit codes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Those of `dewfs mount`: 0, 1, 2, 4.
    Dewfs,
    /// Those of mount(8): 1 usage or permission, 2 system, 32 mount failed.
    Mount8,
}

/// Names what went wrong, as far as exit codes tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was asked cannot be.
    Usage,
    /// Who asked may not.
    NotPermitted,
    /// The system is short of something, or broken.
    System,
    /// Somebody has to sign in.
    SignIn,
    /// The mount failed.
    Mount,
}

/// Is a mount that did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    line: String,
}

impl Failure {
    /// A failure in one line, whatever the cause said.
    pub(super) fn new(kind: Kind, why: impl Into<String>) -> Self {
        let said = why.into();
        let lines: Vec<&str> =
            said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Self { kind, line: for_people(&lines.join(" ")) }
    }

    /// A failure of the system.
    pub(super) fn system(what: &str, why: &io::Error) -> Self {
        Self::new(Kind::System, format!("{what}: {why}"))
    }

    pub(super) fn code(&self, voice: Voice) -> ExitCode {
        ExitCode::from(match (voice, self.kind) {
            (Voice::Dewfs, Kind::Usage) => 2,
            (Voice::Dewfs, Kind::SignIn) => 4,
            (Voice::Dewfs, _) => 1,
            (Voice::Mount8, Kind::Usage | Kind::NotPermitted) => 1,
            (Voice::Mount8, Kind::System) => 2,
            (Voice::Mount8, Kind::Mount | Kind::SignIn) => 32,
        })
    }

    /// As it travels from the daemon to who waits for it.
    pub(super) fn written(&self) -> String {
        let word = match self.kind {
            Kind::Usage => "usage",
            Kind::NotPermitted => "not-permitted",
            Kind::System => "system",
            Kind::SignIn => "sign-in",
            Kind::Mount => "mount",
        };
        format!("{word} {}\n", self.line)
    }

    /// What [`Self::written`] wrote.
    pub(super) fn read(written: &str) -> Option<Self> {
        let (word, line) = written.trim_end().split_once(' ')?;
        let kind = match word {
            "usage" => Kind::Usage,
            "not-permitted" => Kind::NotPermitted,
            "system" => Kind::System,
            "sign-in" => Kind::SignIn,
            "mount" => Kind::Mount,
            _ => return None,
        };
        Some(Self::new(kind, line))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl From<MountpointError> for Failure {
    fn from(error: MountpointError) -> Self {
        Self::new(Kind::Mount, error.to_string())
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let kind = match &error {
            MountError::Device(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                Kind::NotPermitted
            }
            MountError::Device(_)
            | MountError::NoFusermount(_)
            | MountError::Confined(_)
            | MountError::System(_) => Kind::System,
            MountError::Refused(_) | MountError::Handshake(_) => Kind::Mount,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::SignIn(why) => Self::new(Kind::SignIn, with_way_out(why)),
            StartError::Remote(why) => Self::new(Kind::Mount, with_way_out(why)),
            StartError::InUse { .. } => {
                let way_out =
                    "unmount what it is mounted for, or give each a state_dir= of its own";
                Self::new(Kind::Mount, format!("{error}; {way_out}"))
            }
            _ => Self::new(Kind::Mount, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_is_one_line_and_comes_through_the_pipe() {
        let failure = Failure::new(Kind::Mount, "a\n  b\n");
        assert_eq!(failure.to_string(), "a b");
        assert_eq!(Failure::read(&failure.written()).unwrap(), failure);
        assert_eq!(Failure::read("nonsense"), None);
    }

    #[test]
    fn each_voice_has_its_codes() {
        let code = |kind, voice| format!("{:?}", Failure::new(kind, "x").code(voice));
        let is = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(Kind::Mount, Voice::Mount8), is(32));
        assert_eq!(code(Kind::NotPermitted, Voice::Mount8), is(1));
        assert_eq!(code(Kind::System, Voice::Mount8), is(2));
        assert_eq!(code(Kind::Usage, Voice::Dewfs), is(2));
        assert_eq!(code(Kind::Mount, Voice::Dewfs), is(1));
    }
}
