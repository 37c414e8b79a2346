//! What a backend must do at a store that only looks and then acts: every condition by moving aside, looking, and acting.
//!
//! At `Checked` a rename still never replaces; at `None` even that is looked first. Removal there is recursive.

use super::client::MemoryRemote;
use super::fault::Operation;
use super::tree::{Tree, fail};
use crate::remote::names;
use crate::remote::{
    AttemptTag, Conditional, ErrorKind, Expect, Kind, Locator, Name, Observed, RemotePath, Result,
    Upload,
};

struct Beside {
    temp: Locator,
    aside: Locator,
    kept: Locator,
}

fn beside(at: &RemotePath, tag: &AttemptTag, op: Operation) -> Result<Beside> {
    let Some((folder, name)) = at.parent().zip(at.name()) else {
        return fail(ErrorKind::Denied, op, at);
    };
    let sibling = |name: Name| Locator::at(folder.child(name));
    Ok(Beside {
        temp: sibling(names::temp(tag, name)),
        aside: sibling(names::aside(tag, name)),
        kept: sibling(names::kept(tag, name)),
    })
}

impl MemoryRemote {
    async fn weak_rename(&self, from: &Locator, to: &Locator) -> Result<Observed> {
        let (old, new) = (from.path.clone(), to.path.clone());
        if self.level() == Conditional::Checked {
            let act = move |tree: &mut Tree| tree.rename(&old, &new, &Expect::Any, false);
            return self.call(Operation::Rename, &from.path, act).await;
        }
        let target = to.path.clone();
        let look = move |tree: &mut Tree| tree.check(Operation::Rename, &target, &Expect::Absent);
        let act = move |tree: &mut Tree| tree.rename(&old, &new, &Expect::Any, true);
        self.call_looking(Operation::Rename, &from.path, look, act, true).await
    }

    async fn weak_remove(&self, at: &Locator) -> Result<()> {
        let path = at.path.clone();
        let act = move |tree: &mut Tree| tree.remove(&path, &Expect::Any, true);
        self.call(Operation::Remove, &at.path, act).await
    }

    async fn look(&self, at: &Locator) -> Result<Option<Observed>> {
        let path = at.path.clone();
        self.call(Operation::Stat, &at.path, move |tree| Ok(tree.stat(&path))).await
    }

    /// Removes what is known to nobody else; that it is gone already is as good.
    async fn discard(&self, at: &Locator) -> Result<()> {
        match self.weak_remove(at).await {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Replaces without trusting preconditions: temporary upload, old one aside, look at it, temporary in, old one away.
    pub(super) async fn publish(
        &self,
        at: &Locator,
        body: Upload,
        expect: Expect,
    ) -> Result<Observed> {
        let names = beside(&at.path, &body.tag, Operation::Write)?;
        self.discard(&names.temp).await?;
        self.upload_temp(&names.temp, &body).await?;
        match self.swap_in(at, &names, &expect).await {
            Err(error) if !error.kind.is_unanswered() => {
                self.discard(&names.temp).await?;
                Err(error)
            }
            other => other,
        }
    }

    async fn swap_in(&self, at: &Locator, names: &Beside, expect: &Expect) -> Result<Observed> {
        let there = self.look(at).await?;
        if expect == &Expect::Absent && there.is_some() {
            return fail(ErrorKind::AlreadyExists, Operation::Write, &at.path);
        }
        if expect != &Expect::Absent {
            match there {
                None if expect == &Expect::Any => {}
                Some(there) if there.kind == Kind::Folder && expect == &Expect::Any => {
                    return fail(ErrorKind::AlreadyExists, Operation::Write, &at.path);
                }
                there => {
                    fits(there.as_ref(), expect, Operation::Write, &at.path)?;
                    self.take_aside(at, names, expect, Operation::Write).await?;
                }
            }
        }
        match self.weak_rename(&names.temp, at).await {
            Ok(seen) => {
                self.discard(&names.aside).await?;
                Ok(seen)
            }
            // Somebody took the place: theirs is the version there now, and what we moved aside is the one we were to replace.
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                self.discard(&names.aside).await?;
                let replacing = expect != &Expect::Absent;
                let kind = if replacing { ErrorKind::VersionMismatch } else { error.kind };
                fail(kind, Operation::Write, &at.path)
            }
            Err(error) => Err(error),
        }
    }

    async fn take_aside(
        &self,
        at: &Locator,
        names: &Beside,
        expect: &Expect,
        op: Operation,
    ) -> Result<()> {
        self.weak_rename(at, &names.aside).await?;
        let moved = self.look(&names.aside).await?;
        let mut verdict = fits(moved.as_ref(), expect, op, &at.path);
        let is_folder = moved.is_some_and(|moved| moved.kind == Kind::Folder);
        if verdict.is_ok() && is_folder && !self.is_empty(&names.aside).await? {
            verdict = fail(ErrorKind::NotEmpty, op, &at.path);
        }
        if verdict.is_err() {
            self.give_back(at, names).await?;
        }
        verdict
    }

    async fn is_empty(&self, folder: &Locator) -> Result<bool> {
        let path = folder.path.clone();
        let look = move |tree: &mut Tree| Ok(tree.children(&path).is_empty());
        self.call(Operation::List, &folder.path, look).await
    }

    async fn give_back(&self, at: &Locator, names: &Beside) -> Result<()> {
        let back = match self.weak_rename(&names.aside, at).await {
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                self.weak_rename(&names.aside, &names.kept).await
            }
            other => other,
        };
        match back {
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn remove_aside(
        &self,
        at: &Locator,
        expect: Expect,
        tag: &AttemptTag,
    ) -> Result<()> {
        let op = Operation::Remove;
        let names = beside(&at.path, tag, op)?;
        let there = self.look(at).await?;
        fits(there.as_ref(), &expect, op, &at.path)?;
        if there.is_some_and(|there| there.kind == Kind::Folder) && !self.is_empty(at).await? {
            return fail(ErrorKind::NotEmpty, op, &at.path);
        }
        self.take_aside(at, &names, &expect, op).await?;
        self.discard(&names.aside).await
    }

    /// Looks, moves, and looks again. What is found then is answered: a version other than `expect` is an edit that came
    /// along. Another kind is brought back.
    pub(super) async fn rename_looking(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
    ) -> Result<Observed> {
        let op = Operation::Rename;
        let there = self.look(from).await?;
        fits(there.as_ref(), &expect, op, &from.path)?;
        let moved = self.weak_rename(from, to).await?;
        let wrong_kind = there.is_some_and(|there| there.kind != moved.kind);
        if wrong_kind {
            self.weak_rename(to, from).await?;
            return fail(ErrorKind::VersionMismatch, op, &from.path);
        }
        Ok(moved)
    }

    pub(super) async fn sweep(
        &self,
        at: &Locator,
        expect: &Expect,
        tag: &AttemptTag,
    ) -> Result<()> {
        let names = beside(&at.path, tag, Operation::Remove)?;
        self.discard(&names.temp).await?;
        let Some(old) = self.look(&names.aside).await? else { return Ok(()) };
        let here = self.look(at).await?;
        let known = matches!(expect, Expect::Version(version)
            if old.kind == Kind::File && old.version == *version);
        if here.is_some() && known {
            return self.discard(&names.aside).await;
        }
        self.give_back(at, &names).await
    }
}

/// Whether what was seen is what was expected.
fn fits(seen: Option<&Observed>, expect: &Expect, op: Operation, at: &RemotePath) -> Result<()> {
    let Some(seen) = seen else {
        return fail(ErrorKind::NotFound, op, at);
    };
    let fit = match expect {
        Expect::Any => true,
        Expect::Absent => return fail(ErrorKind::AlreadyExists, op, at),
        Expect::Folder => seen.kind == Kind::Folder,
        Expect::Version(version) => seen.kind == Kind::File && seen.version == *version,
    };
    if fit { Ok(()) } else { fail(ErrorKind::VersionMismatch, op, at) }
}
