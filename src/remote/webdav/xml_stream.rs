//! Carries an answer's body, chunk by chunk, to the XML reader, which wants to block.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use reqwest::Response as Answer;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;

use super::failure::{Failure, Outcome, shown_url};
use super::multistatus::{Bounded, Response, parse};

/// The longest piece of XML between two markup characters.
const PIECE: usize = 65_536;
/// More entries than any folder that could be shown.
const ENTRIES: usize = 2_000_000;
/// More text than that many entries have, in bytes: what is kept of them in memory.
const TEXTS: usize = 512 << 20;
/// More bytes than that many entries take.
const BYTES: u64 = 4 << 30;

/// All entries of a `207`, only if it is one, whole and well-formed to its end.
pub(super) async fn read_multistatus(answer: Answer, stall: Duration) -> Outcome<Vec<Response>> {
    Ok(read_report(answer, stall).await?.0)
}

/// The same, and the sync token that the answer ends with, if it does.
pub(super) async fn read_report(
    mut answer: Answer,
    stall: Duration,
) -> Outcome<(Vec<Response>, Option<String>)> {
    check_type(&answer)?;
    let (send, receive) = mpsc::channel(8);
    let parser = tokio::task::spawn_blocking(move || {
        let mut found = Found::default();
        let token = parse(Incoming::new(receive), &mut |response| found.take(response))?;
        Ok((found.entries, token))
    });
    let mut total = 0;
    loop {
        let chunk = tokio::time::timeout(stall, answer.chunk()).await;
        let Ok(chunk) = chunk else { return Err(super::client::stalled(stall)) };
        let Some(chunk) = chunk? else { break };
        total += chunk.len() as u64;
        if total > BYTES || send.send(chunk).await.is_err() {
            break; // the parser has refused it: its reason counts
        }
    }
    drop(send);
    parser.await.map_err(|_| Failure::corrupt("the parser failed"))?
}

/// Is what was found so far: never more than honest folders hold.
#[derive(Default)]
struct Found {
    entries: Vec<Response>,
    text: usize,
}

impl Found {
    fn take(&mut self, response: Response) -> Outcome<()> {
        self.text += response.text_length();
        if self.entries.len() >= ENTRIES || self.text > TEXTS {
            return Err(Failure::corrupt("a folder with more entries than any that can be shown"));
        }
        self.entries.push(response);
        Ok(())
    }
}

fn check_type(answer: &Answer) -> Outcome<()> {
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_xml = kind.eq_ignore_ascii_case("text/xml")
        || kind.eq_ignore_ascii_case("application/xml")
        || kind.is_empty();
    if answer.status().as_u16() == 207 && is_xml {
        return Ok(());
    }
    let (url, status) = (shown_url(answer.url()), answer.status());
    Err(Failure::corrupt(format!("{url} answered {status} of type {kind:?}, not a multistatus")))
}

struct Incoming {
    chunks: mpsc::Receiver<Bytes>,
    current: Bytes,
    allowed: usize,
}

impl Incoming {
    fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self { chunks, current: Bytes::new(), allowed: PIECE }
    }
}

impl Bounded for Incoming {
    fn refill(&mut self) {
        self.allowed = PIECE;
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(&[]),
            }
        }
        if self.allowed == 0 {
            return Err(io::Error::other("a piece of XML that is too long"));
        }
        let end = self.current.len().min(self.allowed);
        Ok(self.current.get(..end).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.current.advance(amount.min(self.current.len()));
        self.allowed = self.allowed.saturating_sub(amount);
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let amount = ready.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(ready) {
            *to = *from;
        }
        self.consume(amount);
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An endless listing of long names ends before it has filled the memory.
    #[test]
    fn what_is_kept_of_a_listing_is_bounded() {
        let mut found = Found::default();
        let mut entry = Response { href: "x".repeat(TEXTS / 40), ..Response::default() };
        entry.props.etag = Some("y".repeat(TEXTS / 40));
        for _ in 0..20 {
            found.take(entry.clone()).unwrap();
        }
        let failure = found.take(entry).unwrap_err();
        assert!(failure.why.contains("more entries"), "{failure}");
    }
}
