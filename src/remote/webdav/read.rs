//! Reading a range of one version, and never other bytes.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use reqwest::{Method, Response};

use super::WebDavRemote;
use super::client::{Request, stalled};
use super::failure::{Failure, Outcome, refusal};
use super::paths::RawPath;
use super::version::told;
use crate::remote::{ByteStream, ErrorKind, Kind, RemotePath, Version};

/// Is an answer's body with what is known of it.
struct Part {
    answer: Response,
    /// Bytes of the whole file, as far as the answer tells.
    total: Option<u64>,
    /// Bytes to leave out at the beginning.
    skip: u64,
    /// Bytes to hand on.
    left: u64,
    /// Bytes that must come after those before the body ends; `None` if the answer itself tells its end.
    behind: Option<u64>,
}

impl WebDavRemote {
    pub(super) async fn read_range(
        &self,
        path: &RawPath,
        shown: &RemotePath,
        version: &Version,
        range: Range<u64>,
    ) -> Outcome<ByteStream> {
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            self.check_version(path, version).await?;
            return Ok(ByteStream { length: 0, total: None, bytes: stream::empty().boxed() });
        }
        let last = range.end - 1;
        let request = Request::new(Method::GET, self.root.file(path)?)
            .header("range", &format!("bytes={}-{last}", range.start))?;
        let answer = self.client.send(request).await?;
        let part = match answer.status().as_u16() {
            206 => self.ranged(path, version, &range, answer).await?,
            200 => self.whole(path, version, &range, answer).await?,
            412 => return Err(other_version()),
            416 => {
                self.check_version(path, version).await?;
                return Err(match left_of(&answer) {
                    Some(total) if total < range.end => other_version(),
                    _ => Failure::corrupt("the range lies outside the file"),
                });
            }
            // what cannot be read so may be a folder by now, or below a file
            400 | 403 | 404 | 405 | 409 => {
                self.check_version(path, version).await?;
                return Err(refusal(&answer));
            }
            _ => return Err(refusal(&answer)),
        };
        let (shown, stall, total) = (shown.clone(), self.client.stall, part.total);
        let bytes = stream::try_unfold(part, move |part| part.next(stall))
            .map(move |chunk| chunk.map_err(|failure| failure.at("read", &shown)));
        Ok(ByteStream { length, total, bytes: bytes.boxed() })
    }

    async fn ranged(
        &self,
        path: &RawPath,
        version: &Version,
        range: &Range<u64>,
        answer: Response,
    ) -> Outcome<Part> {
        let told_range = answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
        let Some((first, last, total)) = told_range.and_then(parse_range) else {
            return Err(Failure::corrupt("a part without a Content-Range"));
        };
        self.check_told(path, version, total, &answer).await?;
        if first != range.start || last.checked_add(1) != Some(range.end) {
            let why = format!("bytes {first}-{last} instead of {}-{}", range.start, range.end - 1);
            return Err(Failure::corrupt(why));
        }
        let length = range.end - range.start;
        if length_of(&answer).is_some_and(|told| told != length) {
            return Err(Failure::corrupt("a part of another length than its range"));
        }
        Ok(Part { answer, total, skip: 0, left: length, behind: Some(0) })
    }

    /// The whole file in answer to a range: the server cannot, or would not, give a part.
    async fn whole(
        &self,
        path: &RawPath,
        version: &Version,
        range: &Range<u64>,
        answer: Response,
    ) -> Outcome<Part> {
        let told = length_of(&answer);
        let seen = self.check_told(path, version, told, &answer).await?;
        // What tells neither length nor version may be anything, such as a page of a gateway: it must be as long as the file.
        let total = told.or(seen);
        if total.is_some_and(|total| total < range.end) {
            return Err(Failure::corrupt("the whole file is shorter than the range in it"));
        }
        let is_all = range.start == 0 && total == Some(range.end);
        if !is_all {
            self.forget_ranges();
        }
        let left = range.end - range.start;
        let behind = total.filter(|_| told.is_none()).map(|total| total - range.end);
        Ok(Part { answer, total, skip: range.start, left, behind })
    }

    /// Whether an answer's headers are those of `version`; looks at the entry if they do not say, and answers how long it is then.
    async fn check_told(
        &self,
        path: &RawPath,
        version: &Version,
        total: Option<u64>,
        answer: &Response,
    ) -> Outcome<Option<u64>> {
        if is_encoded(answer) {
            let seen = self.look(path).await?;
            if seen.is_none_or(|seen| Some(seen.size) != total) {
                return Err(Failure::corrupt("the answer is compressed, which nobody asked for"));
            }
        }
        match told(answer.headers(), total, version) {
            Some(told) if told == *version => Ok(None),
            // Where a read was sent on to may have versions of its own.
            Some(_) if self.client.is_home(answer.url()) => Err(other_version()),
            Some(_) | None => self.check_version(path, version).await.map(Some),
        }
    }

    /// Looks whether this version is there; answers how long it is.
    async fn check_version(&self, path: &RawPath, version: &Version) -> Outcome<u64> {
        match self.look(path).await? {
            None => Err(Failure::new(ErrorKind::NotFound, "nothing is there")),
            Some(seen) if seen.kind == Kind::File && seen.version == *version => Ok(seen.size),
            Some(_) => Err(other_version()),
        }
    }
}

impl Part {
    async fn next(mut self, stall: Duration) -> Outcome<Option<(Bytes, Self)>> {
        while self.left > 0 {
            let Some(mut chunk) = self.chunk(stall).await? else {
                let why = format!("the answer ends {} bytes early", self.left);
                return Err(Failure::corrupt(why));
            };
            let skipped = chunk.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let mut chunk = chunk.split_off(skipped);
            let room = usize::try_from(self.left).unwrap_or(usize::MAX);
            if chunk.len() > room {
                self.pass(chunk.len() - room)?;
                chunk.truncate(room);
            }
            if chunk.is_empty() {
                continue;
            }
            self.left -= chunk.len() as u64;
            if self.left == 0 && self.behind.is_some() {
                self.check_end(stall).await?;
            }
            return Ok(Some((chunk, self)));
        }
        Ok(None)
    }

    /// Asked before the last bytes are handed on: whoever has them all need not ask for an error after them.
    async fn check_end(&mut self, stall: Duration) -> Outcome<()> {
        while let Some(more) = self.chunk(stall).await? {
            self.pass(more.len())?;
        }
        match self.behind {
            Some(missing) if missing > 0 => {
                Err(Failure::corrupt(format!("the answer ends {missing} bytes early")))
            }
            _ => Ok(()),
        }
    }

    /// Passes over bytes behind those asked for.
    fn pass(&mut self, bytes: usize) -> Outcome<()> {
        let Some(behind) = &mut self.behind else { return Ok(()) };
        match behind.checked_sub(bytes as u64) {
            Some(rest) => *behind = rest,
            None => return Err(Failure::corrupt("the answer is longer than promised")),
        }
        Ok(())
    }

    async fn chunk(&mut self, stall: Duration) -> Outcome<Option<Bytes>> {
        match tokio::time::timeout(stall, self.answer.chunk()).await {
            Ok(chunk) => Ok(chunk?),
            Err(_) => Err(stalled(stall)),
        }
    }
}

/// Whether the bytes are said to be an encoding of the content, which is so of any `.gz` that a server labels as one.
fn is_encoded(answer: &Response) -> bool {
    let encoding = answer.headers().get(CONTENT_ENCODING);
    encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn other_version() -> Failure {
    Failure::new(ErrorKind::VersionMismatch, "there is another version now")
}

fn length_of(answer: &Response) -> Option<u64> {
    told_length(answer.headers())
}

pub(super) fn told_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// How long the file is, as an answer says that has nothing of the range: `bytes */100`.
fn left_of(answer: &Response) -> Option<u64> {
    let told = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    told.trim().strip_prefix("bytes */")?.trim().parse().ok()
}

/// First byte, last byte and, where told, the whole length of `bytes 0-9/100`.
pub(super) fn parse_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let is_sound = first <= last && total.is_none_or(|total| last < total);
    is_sound.then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn only_sound_ranges_are_read() {
        assert_eq!(parse_range("bytes 0-9/10"), Some((0, 9, Some(10))));
        assert_eq!(parse_range("bytes 5-9/*"), Some((5, 9, None)));
        for text in ["bytes 9-5/10", "bytes 0-10/10", "0-9/10", "bytes */10", "bytes 0-9", ""] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }
}
