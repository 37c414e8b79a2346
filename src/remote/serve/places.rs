//! Moving and copying. What is already where something goes is set aside under a hidden name until all is done, and has its
//! name again if anything fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::StatusCode;

use super::Share;
use super::gather::Gathering;
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
struct Aside {
    /// Whose name it was.
    name: Locator,
    /// Where it is meanwhile.
    place: Locator,
    seen: Observed,
    tag: AttemptTag,
}

/// The condition that it is still what was seen.
fn same(seen: &Observed) -> Expect {
    match seen.kind {
        Kind::File => Expect::Version(seen.version.clone()),
        _ => Expect::Folder,
    }
}

/// The answer that something is done in the place of what was there, or where nothing was.
fn done(there: Option<&Observed>) -> Answer {
    empty(if there.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED })
}

impl Share {
    /// Moves or copies to the end, also when the client does not wait for it: halfway, what is set aside would stay there.
    pub(super) async fn place(self: &Arc<Self>, asked: Asked, how: Placing) -> Outcome {
        let share = self.clone();
        let placing = tokio::spawn(async move {
            match how {
                Placing::Copy => share.copy(&asked).await,
                Placing::Move => share.relocate(&asked).await,
            }
        });
        placing.await.unwrap_or_else(|error| {
            Err(said(StatusCode::INTERNAL_SERVER_ERROR, &format!("it broke: {error}")))
        })
    }

    /// Where a move or copy goes, and what is there: refused if it must stay, or if one lies in the other.
    async fn target(&self, asked: &Asked) -> Result<(Locator, Option<Observed>), Answer> {
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
        let _turn = self.turn.lock().await;
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

    async fn set_aside(&self, name: &Locator, seen: &Observed) -> Result<Aside, RemoteError> {
        let rejected = || RemoteError::new(ErrorKind::NameRejected, "set aside", &name.path);
        let (folder, own) = name.path.parent().zip(name.path.name()).ok_or_else(rejected)?;
        let tag = tag();
        let place = Locator::at(folder.child(names::held(&tag, own)));
        self.remote.rename(name, &place, same(seen), &tag).await?;
        Ok(Aside { name: name.clone(), place, seen: seen.clone(), tag })
    }

    /// Gives what was set aside its name again, or, if that was taken meanwhile, a visible one beside it.
    async fn give_back(&self, aside: &Aside) {
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
    async fn drop_aside(&self, aside: &Aside) {
        if let Err(error) = self.remove(&aside.place, &aside.seen, same(&aside.seen)).await {
            tracing::warn!(
                %error, at = %aside.place.path, name = %aside.name.path,
                "what was replaced cannot be removed: it stays under a hidden name"
            );
        }
    }

    async fn copy(&self, asked: &Asked) -> Outcome {
        let _turn = self.turn.lock().await;
        let seen = self.found(&asked.at).await?;
        asked.expect(Some(&seen))?;
        let (to, there) = self.target(asked).await?;
        let whole = asked.header("depth") != Some("0");
        // A file is replaced in one step.
        let aside = match &there {
            Some(there) if there.kind == Kind::Folder || seen.kind == Kind::Folder => {
                Some(self.set_aside(&to, there).await.map_err(|error| refused(&error))?)
            }
            _ => None,
        };
        let copied = self.copy_entry(&asked.at, &seen, &to, whole).await;
        match (copied, aside) {
            (Ok(()), Some(aside)) => self.drop_aside(&aside).await,
            (Ok(()), None) => {}
            (Err(answer), aside) => {
                if let Some(aside) = aside {
                    self.give_back(&aside).await;
                }
                return Err(answer);
            }
        }
        Ok(done(there.as_ref()))
    }

    /// Copies a file, or a folder with what is in it. Of a folder that cannot be copied nothing stays.
    async fn copy_entry(
        &self,
        from: &Locator,
        seen: &Observed,
        to: &Locator,
        whole: bool,
    ) -> Result<(), Answer> {
        if seen.kind == Kind::File {
            return self.copy_file(from, to).await;
        }
        let made = self.remote.make_folder(to).await.map_err(|error| refused(&error))?;
        if !whole {
            return Ok(());
        }
        let filled = self.copy_below(from, to).await;
        if filled.is_err()
            && let Err(error) = self.remove(to, &made, Expect::Folder).await
        {
            tracing::warn!(%error, at = %to.path, "a part of a copy stays");
        }
        filled
    }

    async fn copy_below(&self, from: &Locator, to: &Locator) -> Result<(), Answer> {
        let (files, folders) = self.tree(from).await.map_err(|error| refused(&error))?;
        let there = |one: &Locator| {
            let below = one.path.0.get(from.path.0.len()..).unwrap_or_default();
            Locator::at(RemotePath([&to.path.0, below].concat()))
        };
        for folder in folders.iter().skip(1) {
            self.remote.make_folder(&there(folder)).await.map_err(|error| refused(&error))?;
        }
        for file in &files {
            self.copy_file(file, &there(file)).await?;
        }
        Ok(())
    }

    async fn copy_file(&self, from: &Locator, to: &Locator) -> Result<(), Answer> {
        let seen = self.found(from).await?;
        let read = self.remote.read(from, &seen.version, 0..seen.size).await;
        let mut bytes = read.map_err(|error| refused(&error))?.bytes;
        let mut gathering = Gathering::new(&self.remote, to);
        while let Some(piece) = bytes.next().await {
            let piece: Bytes = piece.map_err(|error| refused(&error))?;
            gathering.take(&piece).await?;
        }
        let came = gathering.end().await?;
        let written = self.write(to, came, seen.mtime, Expect::Any).await;
        written.map(drop).map_err(|error| refused(&error))
    }
}
