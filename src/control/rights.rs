//! Who may ask what, by the uid of the process at the other end.

use std::collections::HashSet;

use crate::engine::{Engine, Stat};
use crate::model::Kind;

use super::{MountInfo, Request};

/// Is who asks.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) groups: HashSet<u32>,
}

impl Peer {
    /// Who the kernel says is at the other end.
    pub(super) fn of(uid: u32, gid: u32) -> Self {
        Self { uid, groups: [gid].into() }
    }

    /// The same with the further groups that the process has. By now it may be another process, of other groups: only what
    /// the user database gives this user counts.
    pub(super) async fn with_groups(mut self, pid: Option<i32>) -> Self {
        let uid = self.uid;
        let more = tokio::task::spawn_blocking(move || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
            let has = groups_line(&status)?;
            let known = groups_of(uid)?;
            Some(has.into_iter().filter(|group| known.contains(group)).collect::<Vec<_>>())
        });
        self.groups.extend(more.await.ok().flatten().unwrap_or_default());
        self
    }

    /// Whether this peer may do everything.
    pub(super) fn rules(&self, info: &MountInfo) -> bool {
        self.uid == 0 || self.uid == info.owner || self.uid == info.uid
    }

    fn may(&self, stat: &Stat, bit: u32) -> bool {
        let shift = if stat.uid == self.uid {
            6
        } else if self.groups.contains(&stat.gid) {
            3
        } else {
            0
        };
        stat.mode & (bit << shift) != 0
    }
}

/// The groups that the user database gives a user.
fn groups_of(uid: u32) -> Option<Vec<u32>> {
    let user = nix::unistd::User::from_uid(uid.into()).ok()??;
    let name = std::ffi::CString::new(user.name).ok()?;
    let groups = nix::unistd::getgrouplist(&name, user.gid).ok()?;
    Some(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}

fn groups_line(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    Some(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

/// Whether a peer that does not rule the mount may ask this: the state of what it could `stat`, the names of what it could
/// list. Nothing that fetches, changes or waits.
pub(super) async fn may_ask(engine: &Engine, peer: &Peer, request: &Request) -> bool {
    match request {
        Request::Status | Request::Version => true,
        Request::Item { scope } => match scope.bytes() {
            Some(path) => may_reach(engine, peer, &path).await,
            None => false,
        },
        Request::List { scope, recursive: false, fetch: false } => match scope.bytes() {
            Some(path) => {
                may_reach(engine, peer, &path).await && may_list(engine, peer, &path).await
            }
            None => false,
        },
        _ => false,
    }
}

async fn may_reach(engine: &Engine, peer: &Peer, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let mut folders: Vec<&[u8]> = slashes.filter_map(|at| path.get(..at)).collect();
    if !path.is_empty() {
        folders.push(b"");
    }
    for folder in folders {
        match stat(engine, folder).await {
            Some(stat) if peer.may(&stat, 1) => {}
            _ => return false,
        }
    }
    true
}

async fn may_list(engine: &Engine, peer: &Peer, path: &[u8]) -> bool {
    let stat = stat(engine, path).await;
    stat.is_some_and(|stat| stat.kind == Kind::Folder && peer.may(&stat, 4))
}

async fn stat(engine: &Engine, path: &[u8]) -> Option<Stat> {
    let ino = engine.resolve(path, false).await.ok()?;
    engine.stat(ino).wait().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_as_the_kernel_lists_them() {
        assert_eq!(groups_line("Name:\tx\nGroups:\t4 27 1000 \nX:"), Some(vec![4, 27, 1000]));
        assert_eq!(groups_line("Name:\tx"), None);
    }
}
