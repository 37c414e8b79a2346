//! Changing: contents, folders, places, times. One at a time, so that what is compared is so until it is changed.

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::header::HeaderName;
use quick_xml::NsReader;
use quick_xml::events::Event;

use super::Share;
use super::gather::{Came, Gathering};
use super::props;
use super::read::{insert, validators};
use super::request::{Answer, Asked, Outcome, empty, refused, said, whole};
use crate::remote::{
    AttemptTag, Expect, Kind, Locator, Metadata, Observed, Remote as _, RemoteError, Upload,
};

/// Whose temporaries the server's are.
const OWNER: &str = "serve";

pub(super) fn tag() -> AttemptTag {
    AttemptTag { mount: OWNER.to_owned(), item: 0, nonce: fastrand::u64(..) }
}

/// Seconds as `X-OC-Mtime` and `lastmodified` have them, in nanoseconds.
fn nanos(seconds: &str) -> Option<i64> {
    seconds.trim().parse::<i64>().ok()?.checked_mul(1_000_000_000)
}

impl Share {
    pub(super) async fn now(&self, at: &Locator) -> Result<Option<Observed>, Answer> {
        self.remote.stat(at).await.map_err(|error| refused(&error))
    }

    pub(super) async fn put(&self, mut asked: Asked) -> Outcome {
        if asked.at.path.is_root() || asked.headers.contains_key("content-range") {
            return Err(said(StatusCode::BAD_REQUEST, "a whole file is put, under a name"));
        }
        // Before the bytes come: most refusals are known by now.
        asked.expect(self.now(&asked.at).await?.as_ref())?;
        let mut gathering = Gathering::new(&self.remote, &asked.at);
        while let Some(frame) = asked.body.frame().await {
            let frame = frame.map_err(|_| said(StatusCode::BAD_REQUEST, "cut short"))?;
            if let Ok(bytes) = frame.into_data() {
                gathering.take(&bytes).await?;
            }
        }
        let came = gathering.end().await?;
        let mtime = asked.header("x-oc-mtime").and_then(nanos);
        let _turn = self.turn.lock().await;
        let now = self.now(&asked.at).await?;
        if now.as_ref().is_some_and(|seen| seen.kind == Kind::Folder) {
            return Err(said(StatusCode::METHOD_NOT_ALLOWED, "a folder is there"));
        }
        let expect = asked.expect(now.as_ref())?;
        let seen = self.write(&asked.at, came, mtime, expect).await.map_err(|e| refused(&e))?;
        let status = if now.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
        let mut answer = empty(status);
        validators(&mut answer, &seen);
        if mtime.is_some() {
            insert(&mut answer, HeaderName::from_static("x-oc-mtime"), "accepted");
        }
        Ok(answer)
    }

    pub(super) async fn write(
        &self,
        at: &Locator,
        came: Came,
        mtime: Option<i64>,
        expect: Expect,
    ) -> Result<Observed, RemoteError> {
        let upload = Upload {
            body: came.body.clone(),
            digest: came.digest,
            mtime,
            mode: None,
            extended: crate::remote::Extended::default(),
            tag: tag(),
            still_whole: None,
            progress: None,
            pace: None,
        };
        self.remote.write(at, upload, expect).await
    }

    pub(super) async fn make_folder(&self, asked: &Asked) -> Outcome {
        if asked.header("content-length").is_some_and(|length| length != "0") {
            return Err(said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a folder has no content"));
        }
        let _turn = self.turn.lock().await;
        if self.now(&asked.at).await?.is_some() {
            return Err(said(StatusCode::METHOD_NOT_ALLOWED, "something is there already"));
        }
        self.remote.make_folder(&asked.at).await.map_err(|error| refused(&error))?;
        Ok(empty(StatusCode::CREATED))
    }

    pub(super) async fn delete(&self, asked: &Asked) -> Outcome {
        if asked.at.path.is_root() {
            return Err(said(StatusCode::FORBIDDEN, "the root stays"));
        }
        let _turn = self.turn.lock().await;
        let seen = self.found(&asked.at).await?;
        let expect = asked.expect(Some(&seen))?;
        self.remove(&asked.at, &seen, expect).await.map_err(|error| refused(&error))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Removes an entry, a folder with all in it.
    pub(super) async fn remove(
        &self,
        at: &Locator,
        seen: &Observed,
        expect: Expect,
    ) -> Result<(), RemoteError> {
        if seen.kind != Kind::Folder {
            return self.remote.remove(at, expect, &tag()).await;
        }
        // Folders stand before what is in them.
        let (files, folders) = self.tree(at).await?;
        for file in files {
            self.remote.remove(&file, Expect::Any, &tag()).await?;
        }
        for folder in folders.into_iter().rev() {
            self.remote.remove(&folder, Expect::Folder, &tag()).await?;
        }
        Ok(())
    }

    /// All files and folders at and below a folder, each folder before what is in it.
    pub(super) async fn tree(
        &self,
        top: &Locator,
    ) -> Result<(Vec<Locator>, Vec<Locator>), RemoteError> {
        let (mut files, mut folders, mut next) = (Vec::new(), vec![top.clone()], 0);
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            let mut page = None;
            loop {
                let listed = self.remote.list(&folder, page).await?;
                for one in listed.entries {
                    let at = Locator::at(folder.path.child(one.name));
                    let into =
                        if one.entry.kind == Kind::Folder { &mut folders } else { &mut files };
                    into.push(at);
                }
                page = listed.next;
                if page.is_none() {
                    break;
                }
            }
        }
        Ok((files, folders))
    }

    /// Sets the time of a last change (`lastmodified`, as rclone and dewfs ask for it); no other property can be set.
    pub(super) async fn set_times(&self, asked: Asked) -> Outcome {
        let at = asked.at.clone();
        let seen = self.found(&at).await?;
        let expect = asked.expect(Some(&seen))?;
        let question = asked.question().await?;
        let mtime = last_modified(&question);
        let mut text = props::BEGIN.to_owned();
        let status = match mtime {
            Some(mtime) if seen.kind == Kind::File => {
                let _turn = self.turn.lock().await;
                let metadata = Metadata { mtime: Some(mtime), ..Metadata::default() };
                let set = self.remote.set_metadata(&at, &metadata, expect).await;
                set.map_err(|error| refused(&error))?;
                "200 OK"
            }
            _ => "403 Forbidden",
        };
        props::status(&mut text, &at.path, status);
        text.push_str(props::END);
        Ok(whole(StatusCode::MULTI_STATUS, text, "application/xml; charset=utf-8"))
    }
}

fn last_modified(question: &[u8]) -> Option<i64> {
    let mut reader = NsReader::from_reader(question);
    let mut inside = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => inside = tag.local_name().as_ref() == "lastmodified",
            Event::Text(text) if inside => return nanos(&text),
            Event::End(_) => inside = false,
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_found_in_its_question() {
        let asked = br#"<d:propertyupdate xmlns:d="DAV:"><d:set><d:prop><d:lastmodified>1000000001</d:lastmodified></d:prop></d:set></d:propertyupdate>"#;
        assert_eq!(last_modified(asked), Some(1_000_000_001_000_000_000));
        assert_eq!(last_modified(b"<d:propertyupdate/>"), None);
        assert_eq!(nanos("9999999999999"), None);
    }
}
