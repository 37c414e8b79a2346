//! What the file system of a state directory really does, found out by doing it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::IFlags;
use rustix::time::{ClockId, clock_getres};

use super::data::stamp;
use super::sys::{Lease, WritablePage, ask_lease};
use super::{CacheError, Result};

/// Is what was found out about a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// Name of the file system, or its number.
    pub file_system: String,
    /// Whether a lease is refused while somebody can still write. If not, no passthrough for writing.
    pub leases_trusted: bool,
    /// Whether each store through a mapping moves a file's times, if the file was synced before. If not, no passthrough.
    pub stores_seen: bool,
    /// Whether files can share blocks, so that a snapshot costs nothing.
    pub reflink: bool,
    /// Whether marking a file immutable stops a writer that has it open already.
    pub brake: bool,
    /// How far apart two writes may lie and still have one ctime; `None`: each write after a look moves it.
    pub stamp_tick: Option<Duration>,
}

/// How much must be free for a store through a mapping to be tried, bytes.
const ROOM_TO_TRY: u64 = 1 << 20;

/// How many ticks of a file's times are measured, and for how long at most. No file system keeps less than two seconds.
const TICKS: u32 = 3;
const LONGEST_TICK: Duration = Duration::from_millis(2500);
const SECOND: i64 = 1_000_000_000;

/// What a file system of another machine or of a program calls itself; locks, leases and write order of neither can be
/// relied on.
const REFUSED: [(u32, &str); 16] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x786f_4256, "VirtualBox shared folder"),
    (0xbacb_acbc, "VMware shared folder"),
    (0x1983_0326, "BeeGFS"),
];

const KNOWN: [(u32, &str); 9] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlayfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0xca45_1a4e, "bcachefs"),
    (0xf15f, "ecryptfs"),
];

/// Examines the directory that is to hold the state. [`CacheError::Unsuitable`] if it must not.
pub fn examine(state_dir: &Path) -> Result<Examination> {
    let number = file_system(state_dir)?;
    if let Some(name) = refused(number) {
        let reason = format!("it lies on a network or FUSE file system ({name})");
        return Err(CacheError::Unsuitable { dir: state_dir.to_owned(), reason });
    }
    let known = KNOWN.iter().find(|(known, _)| *known == number);
    let scratch = Scratch::new(state_dir, "leases")?;
    Ok(Examination {
        file_system: known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned()),
        leases_trusted: leases_tell_the_truth(&scratch).unwrap_or(false),
        stores_seen: stores_move_the_stamp(&Scratch::new(state_dir, "stores")?).unwrap_or(false),
        reflink: reflinks(state_dir)?,
        brake: brake_works(&Scratch::new(state_dir, "brake")?),
        stamp_tick: stamp_tick(state_dir)?,
    })
}

fn refused(number: u32) -> Option<&'static str> {
    REFUSED.iter().find(|(refused, _)| *refused == number).map(|(_, name)| *name)
}

fn file_system(dir: &Path) -> Result<u32> {
    let found = rustix::fs::statfs(dir).map_err(|e| CacheError::io("examine", dir, e))?;
    // The number has 32 bits; some machines hand it over sign-extended.
    Ok((found.f_type as u64 & 0xffff_ffff) as u32)
}

/// A mapping outlives its descriptor; both leases must be refused while it does, and granted after.
fn leases_tell_the_truth(scratch: &Scratch) -> io::Result<bool> {
    let writer = scratch.open()?;
    writer.set_len(4096)?;
    let page = WritablePage::map(&writer)?;
    drop(writer);
    let reader = File::open(&scratch.path)?;
    let lied = ask_lease(&reader, Lease::Read)? || ask_lease(&reader, Lease::Write)?;
    drop(page);
    Ok(!lied && ask_lease(&reader, Lease::Read)?)
}

/// In memory nothing is ever written back, and only the first store into a page is noticed. A store for which the disk has no
/// room ends the process: none is made where it is nearly full.
fn stores_move_the_stamp(scratch: &Scratch) -> io::Result<bool> {
    let file = scratch.open()?;
    file.write_all_at(&[0; 4096], 0)?;
    let disk = rustix::fs::fstatvfs(&file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_TO_TRY {
        return Ok(false);
    }
    let page = WritablePage::map(&file)?;
    page.store(1);
    file.sync_data()?;
    let before = stamp(&file.metadata()?);
    page.store(2);
    Ok(stamp(&file.metadata()?) != before)
}

fn reflinks(dir: &Path) -> Result<bool> {
    let (from, to) = (Scratch::new(dir, "share")?, Scratch::new(dir, "shared")?);
    let clone = || -> io::Result<()> {
        let source = from.open()?;
        source.write_all_at(&[1; 4096], 0)?;
        Ok(rustix::fs::ioctl_ficlone(to.open()?, source)?)
    };
    Ok(clone().is_ok())
}

fn brake_works(scratch: &Scratch) -> bool {
    let pull = || -> io::Result<bool> {
        let file = scratch.open()?;
        file.write_all_at(b"x", 0)?;
        let before = rustix::fs::ioctl_getflags(&file)?;
        rustix::fs::ioctl_setflags(&file, before | IFlags::IMMUTABLE)?;
        let stopped = file.write_all_at(b"y", 0).is_err();
        rustix::fs::ioctl_setflags(&file, before)?;
        Ok(stopped && file.write_all_at(b"z", 0).is_ok())
    };
    pull().unwrap_or(false)
}

/// Finds out whether each write moves the ctime, or only one in a tick of the kernel's clock.
pub(super) fn stamp_tick(dir: &Path) -> Result<Option<Duration>> {
    let scratch = Scratch::new(dir, "ticks")?;
    let each_moves = || -> io::Result<bool> {
        let file = scratch.open()?;
        let mut last = stamp(&file.metadata()?);
        for _ in 0..16 {
            file.write_all_at(b"x", 0)?;
            let now = stamp(&file.metadata()?);
            if now.ctime == last.ctime {
                return Ok(false);
            }
            last = now;
        }
        Ok(true)
    };
    if each_moves().unwrap_or(false) {
        return Ok(None);
    }
    let tick = clock_getres(ClockId::RealtimeCoarse);
    let tick = Duration::try_from(tick).unwrap_or(Duration::from_millis(10));
    let measured = scratch.open().and_then(|file| measured_tick(&file)).unwrap_or(LONGEST_TICK);
    // A sleep may end a hair before the tick does.
    Ok(Some(tick.max(measured) + Duration::from_millis(1)))
}

/// How far apart two ctimes lie that follow each other: the clock's tick, or what the file system keeps of it. Some keep whole
/// seconds.
fn measured_tick(file: &File) -> io::Result<Duration> {
    let ctime = || -> io::Result<i64> { Ok(stamp(&file.metadata()?).ctime) };
    let end = Instant::now() + LONGEST_TICK;
    let (mut tick, mut last) = (LONGEST_TICK, ctime()?);
    for _ in 0..TICKS {
        let mut now = last;
        while now == last {
            if Instant::now() >= end {
                return Ok(tick);
            }
            std::thread::sleep(Duration::from_micros(200));
            // Needs no room, as a byte would.
            file.set_modified(SystemTime::now())?;
            now = ctime()?;
        }
        // Who is kept from running misses some: the shortest counts.
        tick = tick.min(Duration::from_nanos(now.abs_diff(last)));
        if now % SECOND == 0 && last % SECOND == 0 {
            break;
        }
        last = now;
    }
    Ok(tick)
}

/// Is a file to try things on; removed when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(dir: &Path, name: &str) -> Result<Self> {
        let path =
            dir.join(format!(".examine-{name}-{}-{:x}", std::process::id(), fastrand::u64(..)));
        match Self::options().create_new(true).open(&path) {
            Ok(_) => Ok(Self { path }),
            Err(error) => Err(CacheError::io("create", &path, error)),
        }
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options
    }

    fn open(&self) -> io::Result<File> {
        Self::options().open(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "A scratch file could not be removed.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_fuse_file_systems_are_refused_and_local_ones_are_not() {
        assert_eq!(refused(0x6969), Some("NFS"));
        assert_eq!(refused(0x6573_5546), Some("FUSE"));
        assert!(KNOWN.iter().all(|(number, _)| refused(*number).is_none()));
    }
}
