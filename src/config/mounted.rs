//! What is mounted, by the kernel's own list.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The type under which dewfs mounts show.
pub const FS_TYPE: &str = "fuse.dewfs";

/// Is one mount of this mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub mountpoint: PathBuf,
    /// Type, with the subtype.
    pub fs_type: String,
    /// Source: for dewfs the specification as given.
    pub source: OsString,
    /// The owner by the option `user_id=` of FUSE mounts.
    pub owner: Option<u32>,
}

impl Mounted {
    /// Whether this is a mount of dewfs.
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }
}

/// All mounts, in the order in which they were made; of several at one place the last is the visible one.
pub fn all_mounts() -> std::io::Result<Vec<Mounted>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The dewfs mount that holds `path`, if the innermost mount over it is one.
pub fn mount_over(path: &Path, mounts: &[Mounted]) -> Option<Mounted> {
    let holds = |mount: &&Mounted| path.starts_with(&mount.mountpoint);
    // `max_by_key` answers the last of equals, which is the one on top.
    let innermost =
        mounts.iter().filter(holds).max_by_key(|mount| mount.mountpoint.as_os_str().len());
    innermost.filter(|mount| mount.is_ours()).cloned()
}

fn parse(text: &[u8]) -> Vec<Mounted> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = words.iter().position(|word| *word == b"-")?;
    let options = String::from_utf8_lossy(words.get(dash + 3)?).into_owned();
    let owner = options.split(',').find_map(|one| one.strip_prefix("user_id=")?.parse().ok());
    Some(Mounted {
        mountpoint: PathBuf::from(unescape(words.get(4)?)),
        fs_type: String::from_utf8_lossy(words.get(dash + 1)?).into_owned(),
        source: unescape(words.get(dash + 2)?),
        owner,
    })
}

/// Undoes the kernel's `\040`.
fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        90 22 0:50 / /mnt/my\\040cloud rw,nosuid shared:9 - fuse.dewfs https://h/x rw,user_id=1000,group_id=1000\n\
        91 90 0:51 / /mnt/my\\040cloud/in rw - tmpfs none rw\n";

    #[test]
    fn the_innermost_mount_decides() {
        let all = parse(TEXT);
        let found = mount_over(Path::new("/mnt/my cloud/a/b"), &all).unwrap();
        assert_eq!(found.owner, Some(1000));
        assert_eq!(found.source, "https://h/x");
        assert_eq!(mount_over(Path::new("/mnt/my cloud/in/x"), &all), None);
        assert_eq!(mount_over(Path::new("/mnt/my cloudy"), &all), None);
    }
}
