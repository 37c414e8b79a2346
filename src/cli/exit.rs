//! Exit statuses, and the one line that goes with them.

use crate::config::ConfigError;
use crate::control::{ClientError, Done};

/// Done.
pub const DONE: u8 = 0;
/// Failed, the reason is on stderr.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// Time ran out, or work is left.
pub const LEFT: u8 = 3;
/// A person is needed.
pub const ATTENTION: u8 = 4;

/// Is why a command did not succeed: its exit status and the line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub exit: u8,
    /// The line; empty if everything was said already.
    pub message: String,
}

impl Failure {
    /// Status 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { exit: FAILED, message: message.into() }
    }

    /// Status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, message: message.into() }
    }

    /// Puts what it was about before the line.
    #[must_use]
    pub fn about(self, what: impl std::fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = if error.is_usage() { USAGE } else { FAILED };
        Self { exit, message: error.to_string() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// Prints the line and answers the status.
pub(super) fn report(failure: &Failure) -> u8 {
    if !failure.message.is_empty() {
        eprintln!("dewfs: {}", for_people(&one_line(&failure.message)));
    }
    failure.exit
}

/// What a daemon's answer means for the command.
pub(super) fn conclude(done: &Done) -> Result<u8, Failure> {
    match &done.message {
        Some(message) if done.exit != DONE => {
            Err(Failure { exit: done.exit, message: message.clone() })
        }
        _ => Ok(done.exit),
    }
}

/// The same for one of several answers, after which the next is asked for: its line is printed now.
pub(super) fn of_one(done: &Done) -> u8 {
    conclude(done).unwrap_or_else(|failure| report(&failure))
}

/// A message as one line, whatever a path in it contains.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A message without the numbers that the system's errors end with.
pub(super) fn for_people(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part.split_once(')').filter(|(number, _)| number.parse::<u32>().is_ok());
        match number {
            Some((_, rest)) => said += rest,
            None => said = format!("{said} (os error {part}"),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_not_for_people() {
        let said = "/x: No such file or directory (os error 2); look (os error x)";
        assert_eq!(for_people(said), "/x: No such file or directory; look (os error x)");
    }
}
