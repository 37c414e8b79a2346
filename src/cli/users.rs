//! Which processes keep a mount busy.

use std::path::{Path, PathBuf};

/// Is a process that uses something below a mountpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Its number.
    pub(super) pid: u32,
    /// Its name.
    pub(super) name: String,
    /// What it uses.
    pub(super) uses: PathBuf,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}: {})", self.name, self.pid, self.uses.display())
    }
}

/// The processes that have their current or root directory, a program, or an open file below `mountpoint`, as far as the
/// caller may see.
pub(super) fn users_of(mountpoint: &Path) -> Vec<User> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| user(pid, mountpoint)).collect()
}

fn user(pid: u32, mountpoint: &Path) -> Option<User> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let fixed = ["cwd", "root", "exe"].map(|name| process.join(name));
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten();
    let links = fixed.into_iter().chain(open.filter_map(|entry| Some(entry.ok()?.path())));
    let uses = links
        .filter_map(|link| std::fs::read_link(link).ok())
        .find(|target| target.starts_with(mountpoint))
        .or_else(|| mapped(&process, mountpoint))?;
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
    Some(User { pid, name: super::exit::one_line(name.trim_end()), uses })
}

/// A file below the mountpoint that the process has mapped.
fn mapped(process: &Path, mountpoint: &Path) -> Option<PathBuf> {
    let maps = std::fs::read_to_string(process.join("maps")).ok()?;
    let files = maps.lines().filter_map(|line| line.find('/').and_then(|at| line.get(at..)));
    files.map(PathBuf::from).find(|path| path.starts_with(mountpoint))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_holds_a_file_open_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        let before = users_of(&at);
        let file = std::fs::File::create(at.join("held")).unwrap();
        let during = users_of(&at);
        drop(file);
        assert_eq!(before, []);
        assert_eq!(during.len(), 1);
        assert_eq!((during[0].pid, &during[0].uses), (std::process::id(), &at.join("held")));
    }
}
