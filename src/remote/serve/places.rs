//! Moving and copying. What is already where something goes is set aside under a hidden name until all is done, and has its
//! name again if anything fails.

use std::sync::{Arc, Weak};

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

/// Is a copy that has no visible name yet.
struct Hidden {
    place: Locator,
    kind: Kind,
}

/// The answer that source and target are one.
fn itself() -> Answer {
    said(StatusCode::FORBIDDEN, "that is itself, under another spelling")
}

/// The condition that it is still what was seen.
fn same(seen: &Observed) -> Expect {
    match seen.kind {
        Kind::File => Expect::Version(seen.version.clone()),
        _ => Expect::Folder,
    }
}

/// Whether somebody still waits for a copy: five that were given up one after the other are five times the work otherwise, and
/// whatever else is to be changed waits behind them.
fn go_on(wanted: &Weak<()>) -> Result<(), Answer> {
    match wanted.strong_count() {
        0 => Err(said(StatusCode::SERVICE_UNAVAILABLE, "nobody waits for it any more")),
        _ => Ok(()),
    }
}

/// The answer that something is done in the place of what was there, or where nothing was.
fn done(there: Option<&Observed>) -> Answer {
    empty(if there.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED })
}

impl Share {
    /// Moves or copies. For a client that leaves before its turn nothing is begun, and a copy ends before it has a name; the
    /// rest is done to the end all the same: halfway, what is set aside would stay there under its hidden name.
    pub(super) async fn place(self: &Arc<Self>, asked: Asked, how: Placing) -> Outcome {
        let turn = Arc::clone(&self.turn).lock_owned().await;
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

    async fn copy(&self, asked: &Asked, wanted: &Weak<()>) -> Outcome {
        let seen = self.found(&asked.at).await?;
        asked.expect(Some(&seen))?;
        let (to, there) = self.target(asked).await?;
        if seen.id.is_some() && there.as_ref().is_some_and(|there| there.id == seen.id) {
            return Err(itself());
        }
        let is_folder = |one: &Observed| one.kind == Kind::Folder;
        if is_folder(&seen) || there.as_ref().is_some_and(is_folder) {
            let whole = asked.header("depth") != Some("0");
            let hidden = self.copy_beside(&asked.at, &seen, &to, whole, wanted).await?;
            self.bring(&asked.at, &hidden, &to, there.as_ref()).await?;
        } else {
            // A file is replaced in one step.
            let expect = if there.is_some() { Expect::Any } else { Expect::Absent };
            self.copy_file(&asked.at, &to, expect, wanted).await?;
        }
        Ok(done(there.as_ref()))
    }

    /// Copies to a hidden name beside `to`, since under a visible one others may put something of their own into it. Of what
    /// cannot be copied nothing stays.
    async fn copy_beside(
        &self,
        from: &Locator,
        seen: &Observed,
        to: &Locator,
        whole: bool,
        wanted: &Weak<()>,
    ) -> Result<Hidden, Answer> {
        let rejected = || said(StatusCode::BAD_REQUEST, "no destination that can be here");
        let (folder, own) = to.path.parent().zip(to.path.name()).ok_or_else(rejected)?;
        let place = Locator::at(folder.child(names::temp(&tag(), own)));
        let hidden = Hidden { place, kind: seen.kind };
        let copied = match seen.kind {
            Kind::File => self.copy_file(from, &hidden.place, Expect::Absent, wanted).await,
            _ => self.copy_folder(from, &hidden.place, whole, wanted).await,
        };
        match copied {
            Ok(()) => Ok(hidden),
            Err(answer) => {
                self.drop_hidden(&hidden).await;
                Err(answer)
            }
        }
    }

    /// Gives a copy its name, in the place of what is there.
    async fn bring(
        &self,
        from: &Locator,
        hidden: &Hidden,
        to: &Locator,
        there: Option<&Observed>,
    ) -> Result<(), Answer> {
        let brought = self.bring_over(from, hidden, to, there).await;
        if brought.is_err() {
            self.drop_hidden(hidden).await;
        }
        brought
    }

    async fn bring_over(
        &self,
        from: &Locator,
        hidden: &Hidden,
        to: &Locator,
        there: Option<&Observed>,
    ) -> Result<(), Answer> {
        let aside = match there {
            Some(there) => Some(self.set_aside(to, there).await.map_err(|error| refused(&error))?),
            None => None,
        };
        let brought = match &aside {
            Some(_) => self.is_still_there(from).await,
            None => Ok(()),
        };
        let brought = match brought {
            Ok(()) => {
                let named = self.remote.rename(&hidden.place, to, Expect::Any, &tag()).await;
                named.map(drop).map_err(|error| refused(&error))
            }
            refused => refused,
        };
        match (&brought, &aside) {
            (Ok(()), Some(aside)) => self.drop_aside(aside).await,
            (Err(_), Some(aside)) => self.give_back(aside).await,
            (_, None) => {}
        }
        brought
    }

    /// Whether what is copied did not go with what was set aside: where case or form of names do not count and nothing has an
    /// id, only that tells that they are one.
    async fn is_still_there(&self, from: &Locator) -> Result<(), Answer> {
        self.now(from).await?.map(drop).ok_or_else(itself)
    }

    async fn drop_hidden(&self, hidden: &Hidden) {
        let removed = match self.remote.stat(&hidden.place).await {
            Ok(Some(seen)) if seen.kind == hidden.kind => {
                self.remove(&hidden.place, &seen, same(&seen)).await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, at = %hidden.place.path, "a part of a copy stays");
        }
    }

    async fn copy_folder(
        &self,
        from: &Locator,
        to: &Locator,
        whole: bool,
        wanted: &Weak<()>,
    ) -> Result<(), Answer> {
        self.remote.make_folder(to).await.map_err(|error| refused(&error))?;
        if whole { self.copy_below(from, to, wanted).await } else { Ok(()) }
    }

    async fn copy_below(
        &self,
        from: &Locator,
        to: &Locator,
        wanted: &Weak<()>,
    ) -> Result<(), Answer> {
        let (files, folders) = self.tree(from).await.map_err(|error| refused(&error))?;
        let there = |one: &Locator| {
            let below = one.path.0.get(from.path.0.len()..).unwrap_or_default();
            Locator::at(RemotePath([&to.path.0, below].concat()))
        };
        for folder in folders.iter().skip(1) {
            self.remote.make_folder(&there(folder)).await.map_err(|error| refused(&error))?;
        }
        for file in &files {
            self.copy_file(file, &there(file), Expect::Absent, wanted).await?;
        }
        Ok(())
    }

    async fn copy_file(
        &self,
        from: &Locator,
        to: &Locator,
        expect: Expect,
        wanted: &Weak<()>,
    ) -> Result<(), Answer> {
        go_on(wanted)?;
        let seen = self.found(from).await?;
        let read = self.remote.read(from, &seen.version, 0..seen.size).await;
        let mut bytes = read.map_err(|error| refused(&error))?.bytes;
        let mut gathering = Gathering::new(&self.remote, to);
        while let Some(piece) = bytes.next().await {
            let piece: Bytes = piece.map_err(|error| refused(&error))?;
            gathering.take(&piece).await?;
            go_on(wanted)?;
        }
        let came = gathering.end().await?;
        let written = self.write(to, came, seen.mtime, expect).await;
        written.map(drop).map_err(|error| refused(&error))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::remote::serve::SignIn;
    use crate::remote::serve::paths::located;

    async fn share(dir: &Path) -> Share {
        fs::create_dir_all(dir.join("from/deep")).unwrap();
        fs::write(dir.join("from/deep/f"), "source").unwrap();
        Share::open(dir, SignIn::Nobody, false).await.unwrap()
    }

    async fn copied(share: &Share, at: &Locator, seen: &Observed, to: &Locator) -> Hidden {
        let asker = Arc::new(());
        share.copy_beside(at, seen, to, true, &Arc::downgrade(&asker)).await.unwrap()
    }

    fn entries(dir: &Path) -> Vec<String> {
        let all = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            all.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// On a file system where case does not count, a folder copied onto another spelling of itself was set aside and removed.
    #[tokio::test]
    async fn regression_a_folder_copied_onto_another_spelling_of_itself_stays() {
        let dir = tempfile::tempdir().unwrap();
        let share = share(dir.path()).await;
        let at = located("/from").unwrap();
        let seen = share.found(&at).await.unwrap();
        let hidden = copied(&share, &at, &seen, &at).await;
        let answer = share.bring(&at, &hidden, &at, Some(&seen)).await.unwrap_err();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(fs::read(dir.path().join("from/deep/f")).unwrap(), b"source");
        assert_eq!(entries(dir.path()), ["from"]);
    }

    /// When the copy of a folder failed, what others had put into its target meanwhile was removed with it.
    #[tokio::test]
    async fn regression_a_copy_that_fails_takes_nothing_of_others_along() {
        let dir = tempfile::tempdir().unwrap();
        let share = share(dir.path()).await;
        let (at, to) = (located("/from").unwrap(), located("/to").unwrap());
        let seen = share.found(&at).await.unwrap();
        let hidden = copied(&share, &at, &seen, &to).await;
        assert!(!dir.path().join("to").exists(), "a half copy is seen");
        fs::create_dir(dir.path().join("to")).unwrap();
        fs::write(dir.path().join("to/theirs"), "theirs").unwrap();
        let answer = share.bring(&at, &hidden, &to, None).await.unwrap_err();
        assert_eq!(answer.status(), StatusCode::PRECONDITION_FAILED);
        assert_eq!(entries(dir.path()), ["from", "to"]);
        assert_eq!(entries(&dir.path().join("to")), ["theirs"]);
    }

    #[tokio::test]
    async fn a_folder_is_copied_whole_in_the_place_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let share = share(dir.path()).await;
        fs::create_dir(dir.path().join("to")).unwrap();
        fs::write(dir.path().join("to/old"), "old").unwrap();
        let (at, to) = (located("/from").unwrap(), located("/to").unwrap());
        let seen = share.found(&at).await.unwrap();
        let there = share.found(&to).await.unwrap();
        let hidden = copied(&share, &at, &seen, &to).await;
        share.bring(&at, &hidden, &to, Some(&there)).await.unwrap();
        assert_eq!(entries(dir.path()), ["from", "to"]);
        assert_eq!(entries(&dir.path().join("to")), ["deep"]);
        assert_eq!(fs::read(dir.path().join("to/deep/f")).unwrap(), b"source");
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A move or copy whose client had left before its turn was done all the same, however late.
    #[tokio::test]
    async fn regression_for_who_left_before_its_turn_nothing_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        let share = Arc::new(share(dir.path()).await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(share.clone().serve(listener));
        let idle = Arc::strong_count(&share);
        let turn = share.turn.lock().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let asked = format!("MOVE /from HTTP/1.1\r\nHost: {address}\r\nDestination: /to\r\n\r\n");
        client.write_all(asked.as_bytes()).await.unwrap();
        // Its connection, and its request.
        until("it is not heard", || Arc::strong_count(&share) >= idle + 2).await;
        drop(client);
        until("its request stays", || Arc::strong_count(&share) == idle).await;
        drop(turn);
        drop(share.turn.lock().await);
        assert_eq!(entries(dir.path()), ["from"]);
        serving.abort();
    }
}
