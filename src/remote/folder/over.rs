//! Moving a file over another one in one step, each of them looked at before it is given up.

use rustix::fs::{self, RenameFlags};
use rustix::io::Errno;

use super::FolderRemote;
use super::change::remove_version;
use super::disk::Meta;
use super::threads::Wanted;
use super::write::Spot;
use crate::remote::{
    AttemptTag, ErrorKind, Expect, Kind, Locator, Observed, RemoteError, RemotePath, Result,
};

const MOVE: &str = "rename";

impl FolderRemote {
    /// Moves the file `from` over the file `to`, each if it is what is expected; `None`, and nothing is changed, where they
    /// cannot change places in one step.
    pub(in crate::remote) async fn replace(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        over: Expect,
        tag: AttemptTag,
    ) -> Result<Option<Observed>> {
        let (old, new) = (from.path.clone(), to.path.clone());
        let act = move |this: &Self, wanted: &Wanted| {
            Moving { remote: this, from: &old, to: &new, expect: &expect, over: &over, tag: &tag }
                .run(wanted)
        };
        self.blocking(MOVE, &from.path, act).await
    }
}

struct Moving<'a> {
    remote: &'a FolderRemote,
    from: &'a RemotePath,
    to: &'a RemotePath,
    expect: &'a Expect,
    over: &'a Expect,
    tag: &'a AttemptTag,
}

impl Moving<'_> {
    fn run(&self, wanted: &Wanted) -> Result<Option<Observed>> {
        let source = Spot::open(self.remote, self.from, self.tag, MOVE, ErrorKind::NotFound)?;
        let known = file(&source, self.expect)?;
        let target = Spot::open(self.remote, self.to, self.tag, MOVE, ErrorKind::NoParent)?;
        let there = file(&target, self.over)?;
        if known.is_same_inode(&there) {
            drop((source, target));
            return self.respell(&known, wanted);
        }
        source.take_turn();
        source.go_on(wanted)?;
        match swap(&source, &target) {
            Ok(()) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(source.fail(error)),
        }
        // The new one is in its place already; until the old one is gone, all can be taken back.
        let moved = target.look(&target.name)?.entry().filter(|now| now.kind == Kind::File);
        let given_up = match moved {
            Some(now) if now.fits(self.expect).is_ok() => remove_version(&source, self.over),
            _ => Err(source.error(ErrorKind::VersionMismatch)),
        };
        match (given_up, moved) {
            (Ok(()), Some(moved)) => {
                target.sync()?;
                source.sync()?;
                Ok(Some(self.remote.state().root.observed(&moved)))
            }
            (Err(error), _) => Err(take_back(&source, &target, error)),
            (Ok(()), None) => Err(target.error(ErrorKind::Other)),
        }
    }

    /// Two names of one file: one that is only spelled differently gets its new spelling, any other cannot be told here.
    fn respell(&self, known: &Meta, wanted: &Wanted) -> Result<Option<Observed>> {
        if known.links > 1 {
            return Ok(None);
        }
        let (expect, tag) = (self.expect, self.tag);
        super::change::rename(self.remote, self.from, self.to, expect, tag, wanted).map(Some)
    }
}

fn file(spot: &Spot<'_>, expect: &Expect) -> Result<Meta> {
    let found = spot.expect(expect)?.filter(|found| found.kind == Kind::File);
    found.ok_or_else(|| spot.error(ErrorKind::NotFound))
}

fn swap(one: &Spot<'_>, other: &Spot<'_>) -> rustix::io::Result<()> {
    let (here, there) = (one.name.as_bytes(), other.name.as_bytes());
    fs::renameat_with(&one.folder, here, &other.folder, there, RenameFlags::EXCHANGE)
}

/// Gives both their places again; what did not come about is told.
fn take_back(source: &Spot<'_>, target: &Spot<'_>, error: RemoteError) -> RemoteError {
    let back = source.give_back().and_then(|()| swap(source, target).map_err(|e| source.fail(e)));
    match back {
        Ok(()) => error,
        Err(stays) => error.because(format!("and it is not taken back: {stays}")),
    }
}
