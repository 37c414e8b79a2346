//! Moving. What is already where something goes is set aside under a hidden name until all is done, and has its
//! name again if anything fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::StatusCode;

use super::Share;
use super::paths::destination;
use super::read::validators;
use super::request::{Answer, Asked, Outcome, empty, refused, said};
use super::write::tag;
use crate::remote::{
    AttemptTag, ErrorKind, Expect, Kind, Locator, Observed, Remote as _, RemoteError, RemotePath,
    names,
};

/// Says what is done under the other name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placing {
    Move,
    Copy,
}

/// Is what had a name that something else is to get.
pub(super) struct Aside {
    /// Whose name it was.
    name: Locator,
    /// Where it is meanwhile.
    place: Locator,
    seen: Observed,
    tag: AttemptTag,
}

/// The condition that it is still what was seen.
pub(super) fn same(seen: &Observed) -> Expect {
    match seen.kind {
        Kind::File => Expect::Version(seen.version.clone()),
        _ => Expect::Folder,
    }
}

/// A hidden place beside a name.
fn beside(name: &Locator, tag: &AttemptTag) -> Result<Locator, RemoteError> {
    let rejected = || RemoteError::new(ErrorKind::NameRejected, "set aside", &name.path);
    let (folder, own) = name.path.parent().zip(name.path.name()).ok_or_else(rejected)?;
    Ok(Locator::at(folder.child(names::held(tag, own))))
}

/// The answer that something is done in the place of what was there, or where nothing was.
pub(super) fn done(there: Option<&Observed>) -> Answer {
    empty(if there.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED })
}

impl Share {
    /// Moves or copies. For a client that leaves before its turn nothing is begun, and a copy ends before it has a name; the
    /// rest is done to the end all the same: halfway, what is set aside would stay there under its hidden name.
    pub(super) async fn place(self: &Arc<Self>, asked: Asked, how: Placing) -> Outcome {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.goes_on()?;
        // Goes with the request, when the client does.
        let asker = Arc::new(());
        let (share, wanted) = (self.clone(), Arc::downgrade(&asker));
        let placing = tokio::spawn(async move {
            let _turn = turn;
            match how {
                Placing::Copy => share.copy(&asked, &wanted).await,
                Placing::Move => share.relocate(&asked).await,
            }
        });
        let placed = placing.await;
        drop(asker);
        placed.unwrap_or_else(|error| {
            Err(said(StatusCode::INTERNAL_SERVER_ERROR, &format!("it broke: {error}")))
        })
    }

    pub(super) fn goes_on(&self) -> Result<(), Answer> {
        match self.is_ending.load(Ordering::Acquire) {
            true => Err(said(StatusCode::SERVICE_UNAVAILABLE, "the share is being ended")),
            false => Ok(()),
        }
    }

    /// Where a move or copy goes, and what is there: refused if it must stay, or if one lies in the other.
    pub(super) async fn target(
        &self,
        asked: &Asked,
    ) -> Result<(Locator, Option<Observed>), Answer> {
        let to = asked.header("destination").and_then(destination);
        let to = to.filter(|to| !to.path.is_root() && !asked.at.path.is_root());
        let to =
            to.ok_or_else(|| said(StatusCode::BAD_REQUEST, "no destination that can be here"))?;
        if to.path.0.starts_with(&asked.at.path.0) || asked.at.path.0.starts_with(&to.path.0) {
            return Err(said(StatusCode::FORBIDDEN, "one lies in the other"));
        }
        let there = self.now(&to).await?;
        let keeps = asked.header("overwrite").is_some_and(|value| value.eq_ignore_ascii_case("f"));
        if there.is_some() && keeps {
            return Err(said(StatusCode::PRECONDITION_FAILED, "something is there already"));
        }
        if !self.has_parent(&to).await? {
            return Err(said(StatusCode::CONFLICT, "its folder is not there"));
        }
        Ok((to, there))
    }

    async fn has_parent(&self, at: &Locator) -> Result<bool, Answer> {
        let Some((_, above)) = at.path.0.split_last() else { return Ok(false) };
        let above = Locator::at(RemotePath(above.to_vec()));
        Ok(self.now(&above).await?.is_some_and(|seen| seen.kind == Kind::Folder))
    }

    async fn relocate(&self, asked: &Asked) -> Outcome {
        let seen = self.found(&asked.at).await?;
        let expect = asked.expect(Some(&seen))?;
        let (to, there) = self.target(asked).await?;
        let moved = match &there {
            Some(there) => self.move_over(&asked.at, &seen, &to, there, expect).await,
            None => self.remote.rename(&asked.at, &to, expect, &tag()).await,
        };
        let moved = moved.map_err(|error| refused(&error))?;
        let mut answer = done(there.as_ref());
        validators(&mut answer, &moved);
        Ok(answer)
    }

    /// Moves over what is there: files of one file system in one step.
    async fn move_over(
        &self,
        from: &Locator,
        seen: &Observed,
        to: &Locator,
        there: &Observed,
        expect: Expect,
    ) -> Result<Observed, RemoteError> {
        // Two spellings of one name, where case or form do not count.
        if seen.id.is_some() && seen.id == there.id {
            return self.remote.rename(from, to, expect, &tag()).await;
        }
        if (seen.kind, there.kind) == (Kind::File, Kind::File) {
            let replaced = self.remote.replace(from, to, expect.clone(), same(there), tag()).await;
            if let Some(moved) = replaced? {
                return Ok(moved);
            }
        }
        if seen.kind != Kind::File {
            return self.take_place(from, to, there, expect).await;
        }
        // To another disk it is copied: for as long as that takes, what is there stays.
        let near = self.bring_near(from, to, expect).await?;
        let moved = self.change_places(&near, to, there).await;
        if moved.is_err() {
            self.give_back(&near).await;
        }
        moved
    }

    /// Moves a file to a hidden name beside where it goes.
    async fn bring_near(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
    ) -> Result<Aside, RemoteError> {
        let tag = tag();
        let place = beside(to, &tag)?;
        let seen = self.remote.rename(from, &place, expect, &tag).await?;
        Ok(Aside { name: from.clone(), place, seen, tag })
    }

    async fn change_places(
        &self,
        near: &Aside,
        to: &Locator,
        there: &Observed,
    ) -> Result<Observed, RemoteError> {
        let expect = same(&near.seen);
        if there.kind == Kind::File {
            let replaced = self.remote.replace(&near.place, to, expect.clone(), same(there), tag());
            if let Some(moved) = replaced.await? {
                return Ok(moved);
            }
        }
        self.take_place(&near.place, to, there, expect).await
    }

    /// Moves to where something is that is set aside for it.
    async fn take_place(
        &self,
        from: &Locator,
        to: &Locator,
        there: &Observed,
        expect: Expect,
    ) -> Result<Observed, RemoteError> {
        let aside = self.set_aside(to, there).await?;
        match self.remote.rename(from, to, expect, &tag()).await {
            Ok(moved) => {
                self.drop_aside(&aside).await;
                Ok(moved)
            }
            Err(error) => {
                self.give_back(&aside).await;
                Err(error)
            }
        }
    }

    pub(super) async fn set_aside(
        &self,
        name: &Locator,
        seen: &Observed,
    ) -> Result<Aside, RemoteError> {
        let tag = tag();
        let place = beside(name, &tag)?;
        self.remote.rename(name, &place, same(seen), &tag).await?;
        Ok(Aside { name: name.clone(), place, seen: seen.clone(), tag })
    }

    /// Gives what was set aside its name again, or, if that was taken meanwhile, a visible one beside it.
    pub(super) async fn give_back(&self, aside: &Aside) {
        let back = |to: Locator| async move {
            self.remote.rename(&aside.place, &to, Expect::Any, &aside.tag).await
        };
        let mut given = back(aside.name.clone()).await;
        if given.as_ref().is_err_and(|error| error.kind == ErrorKind::AlreadyExists)
            && let Some((folder, own)) = aside.name.path.parent().zip(aside.name.path.name())
        {
            given = back(Locator::at(folder.child(names::kept(&aside.tag, own)))).await;
        }
        if let Err(error) = given {
            tracing::warn!(
                %error, at = %aside.place.path, name = %aside.name.path,
                "what was replaced keeps a hidden name: rename it back"
            );
        }
    }

    /// Removes what was set aside.
    pub(super) async fn drop_aside(&self, aside: &Aside) {
        if let Err(error) = self.remove(&aside.place, &aside.seen, same(&aside.seen)).await {
            tracing::warn!(
                %error, at = %aside.place.path, name = %aside.name.path,
                "what was replaced cannot be removed: it stays under a hidden name"
            );
        }
    }
}
