//! Copying: to a hidden name first, since under a visible one others may put something of their own into it.

use std::sync::Weak;

use bytes::Bytes;
use futures_util::StreamExt as _;
use hyper::StatusCode;

use super::Share;
use super::gather::Gathering;
use super::places::{done, same};
use super::request::{Answer, Asked, Outcome, refused, said};
use super::write::tag;
use crate::remote::{Expect, Kind, Locator, Observed, Remote as _, RemotePath, names};

/// Is a copy that has no visible name yet.
struct Hidden {
    place: Locator,
    kind: Kind,
}

/// The answer that source and target are one.
fn itself() -> Answer {
    said(StatusCode::FORBIDDEN, "that is itself, under another spelling")
}

impl Share {
    /// Whether somebody still waits for a copy: five that were given up one after the other are five times the work otherwise,
    /// and whatever else is to be changed waits behind them.
    fn go_on(&self, wanted: &Weak<()>) -> Result<(), Answer> {
        match wanted.strong_count() {
            0 => Err(said(StatusCode::SERVICE_UNAVAILABLE, "nobody waits for it any more")),
            _ => self.goes_on(),
        }
    }

    pub(super) async fn copy(&self, asked: &Asked, wanted: &Weak<()>) -> Outcome {
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
            self.go_on(wanted)?;
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
        self.go_on(wanted)?;
        let seen = self.found(from).await?;
        let read = self.remote.read(from, &seen.version, 0..seen.size).await;
        let mut bytes = read.map_err(|error| refused(&error))?.bytes;
        let mut gathering = Gathering::new(&self.remote, to);
        while let Some(piece) = bytes.next().await {
            let piece: Bytes = piece.map_err(|error| refused(&error))?;
            gathering.take(&piece).await?;
            self.go_on(wanted)?;
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
    use std::sync::Arc;
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
