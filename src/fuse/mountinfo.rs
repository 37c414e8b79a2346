//! What is mounted, from `/proc/self/mountinfo`: never asks the mounts themselves, so a dead one cannot hold anybody up.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type under which dewfs mounts show.
pub const KIND: &str = "fuse.dewfs";

/// Is one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub mountpoint: PathBuf,
    /// The source, as it was given.
    pub source: OsString,
    /// The type of file system, `fuse.dewfs` for ours.
    pub kind: String,
    /// `major:minor` of the device; different for each mount of ours.
    pub device: String,
    /// Who mounted it, by the option `user_id=` that FUSE mounts show.
    pub owner: Option<u32>,
}

impl Mount {
    /// Whether it is a dewfs mount.
    pub fn is_dewfs(&self) -> bool {
        self.kind == KIND
    }
}

/// All mounts that this process sees; of several in one place the last covers the others.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// All mounts that another process sees.
pub fn mounts_of(pid: u32) -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?))
}

/// The mount that is visible at exactly this place.
pub fn at(mountpoint: &Path) -> io::Result<Option<Mount>> {
    Ok(mounts()?.into_iter().rev().find(|mount| mount.mountpoint == mountpoint))
}

/// The dewfs mount that holds this absolute path.
pub fn dewfs_above(path: &Path, mounts: &[Mount]) -> Option<Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.mountpoint));
    // The deepest one holds it, the last of those in one place.
    let deepest = above.max_by_key(|mount| mount.mountpoint.components().count());
    deepest.filter(|mount| mount.is_dewfs()).cloned()
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mountpoint options [optional fields …] - type source super-options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = text(words.nth(2)?);
    let mountpoint = unescaped(words.nth(1)?);
    words.find(|word| *word == b"-")?;
    let kind = text(words.next()?);
    let source = unescaped(words.next()?);
    let options = words.next().map(text).unwrap_or_default();
    let owner = options.split(',').find_map(|one| one.strip_prefix("user_id=")?.parse().ok());
    Some(Mount { mountpoint: PathBuf::from(mountpoint), source, kind, device, owner })
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// Space, tab, newline and backslash are written as `\ooo`.
fn unescaped(word: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.first_chunk::<3>()).flatten().and_then(octal);
        match octal {
            Some(value) => {
                plain.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::ffi::OsStr;

    const SOME: &[u8] = b"\
22 27 0:20 / /proc rw,nosuid shared:12 - proc proc rw
99 27 0:51 / /mnt/my\\040cloud\\134 rw,nosuid - fuse.dewfs https://h/a\\040b rw,user_id=0
";

    #[test]
    fn lines_are_taken_apart() {
        let mounts = parse(SOME);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].kind, "proc");
        assert!(mounts[1].is_dewfs());
        assert_eq!(mounts[1].mountpoint, Path::new("/mnt/my cloud\\"));
        assert_eq!(mounts[1].source, OsStr::new("https://h/a b"));
        assert_eq!(mounts[1].device, "0:51");
        assert_eq!((mounts[0].owner, mounts[1].owner), (None, Some(0)));
    }

    #[test]
    fn the_innermost_mount_decides() {
        let text = b"\
90 22 0:50 / /mnt/cloud rw - fuse.dewfs https://h/x rw,user_id=1000
91 90 0:51 / /mnt/cloud/in rw - tmpfs none rw
";
        let all = parse(text);
        let found = |path: &str| dewfs_above(Path::new(path), &all).map(|mount| mount.device);
        assert_eq!(found("/mnt/cloud/a/b").as_deref(), Some("0:50"));
        assert_eq!(found("/mnt/cloud/in/x"), None);
        assert_eq!(found("/mnt/cloudy"), None);
    }

    #[test]
    fn the_root_is_always_mounted() {
        assert!(at(Path::new("/")).unwrap().is_some());
        assert!(at(Path::new("/no/such/place")).unwrap().is_none());
    }
}
