//! The units of saved remotes: `dewfs@NAME`, of the user's systemd, or of the machine's for root.

use std::process::{Command, Output};

use crate::config::Who;

use super::Failure;
use super::exit::one_line;

/// Speaks to the systemd that mounts the caller's saved remotes.
#[derive(Clone, Debug)]
pub(super) struct Units {
    uid: u32,
}

impl Units {
    /// The caller's; `None` if no systemd runs for this person, or it does not know our unit.
    pub(super) fn of(who: &Who) -> Option<Self> {
        let units = Self { uid: who.uid };
        let runs = sd_notify::booted().unwrap_or(false);
        (runs && units.ask(&["cat", "dewfs@.service"]).is_ok()).then_some(units)
    }

    /// Mounts it now and at each login (for root, at each boot). Says why not, in the words of the daemon if it said any.
    pub(super) fn enable(&self, name: &str) -> Result<(), Failure> {
        self.ask(&["enable", &unit(name)])?;
        self.start(name)
    }

    /// Mounts it now.
    pub(super) fn start(&self, name: &str) -> Result<(), Failure> {
        // Of an earlier failure systemd may want to hear nothing more.
        drop(self.ask(&["reset-failed", &unit(name)]));
        self.ask(&["start", &unit(name)]).map(drop).map_err(|failure| {
            let said = self.ask(&["show", "--property=StatusText", "--value", &unit(name)]);
            match said.as_deref().map(str::trim) {
                Ok("") | Err(_) => failure,
                Ok(said) => Failure::failed(one_line(said)),
            }
        })
    }

    /// Unmounts it and mounts it never again by itself.
    pub(super) fn disable(&self, name: &str) -> Result<(), Failure> {
        // What is not enabled cannot be disabled, and one that the machine enables for everybody still has to be stopped.
        drop(self.ask(&["disable", &unit(name)]));
        self.ask(&["stop", &unit(name)]).map(drop)?;
        drop(self.ask(&["reset-failed", &unit(name)]));
        Ok(())
    }

    /// Whether it is mounted by itself.
    pub(super) fn is_enabled(&self, name: &str) -> bool {
        self.ask(&["is-enabled", &unit(name)]).is_ok()
    }

    /// As whom the machine's unit mounts it, if not as root.
    pub(super) fn user(&self, name: &str) -> Option<String> {
        let said = self.ask(&["show", "--property=User", "--value", &unit(name)]).ok()?;
        let user = one_line(said.trim());
        (self.uid == 0 && !matches!(user.as_str(), "" | "root" | "0")).then_some(user)
    }

    /// Why it failed, if it did.
    pub(super) fn why_failed(&self, name: &str) -> Option<String> {
        self.ask(&["is-failed", &unit(name)]).ok()?;
        let said = self.ask(&["show", "--property=StatusText", "--value", &unit(name)]).ok()?;
        let said = one_line(said.trim());
        Some(if said.is_empty() { "its journal says why".to_owned() } else { said })
    }

    fn ask(&self, words: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("systemctl");
        if self.uid != 0 {
            command.arg("--user");
            // su and sudo leave it out.
            let runtime = format!("/run/user/{}", self.uid);
            if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
                command.env("XDG_RUNTIME_DIR", runtime);
            }
        }
        command.args(["--quiet", "--no-pager", "--no-ask-password"]).args(words);
        let failed = |why: &str| Failure::failed(format!("systemctl {}: {why}", words.join(" ")));
        let Output { status, stdout, stderr } =
            command.output().map_err(|error| failed(&error.to_string()))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&stderr);
        Err(failed(&one_line(said.lines().next().unwrap_or("it failed without a word"))))
    }
}

fn unit(name: &str) -> String {
    format!("dewfs@{name}.service")
}
