//! Reads a `207 Multi-Status` as it arrives, believing nothing: bounded in depth, length and number, no document type, no
//! entities but XML's own, and whole only when the root element was closed.

use std::io::BufRead;

use quick_xml::NsReader;
use quick_xml::events::{BytesDecl, BytesRef, Event};
use quick_xml::name::{Namespace, ResolveResult};

use super::failure::{Failure, Outcome};

const DAV: &str = "DAV:";
const OWNCLOUD: &str = "http://owncloud.org/ns";
/// Deeper than any answer to a question asked here.
const DEPTH: usize = 32;
/// The longest href of a path of 4,096 bytes, three characters each, with room for the server's URL.
const TEXT: usize = 16_384;
/// More entries than any honest server gives one status together.
const HREFS: usize = 100_000;

/// Is what one `response` element says of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) href: String,
    /// Others that the status is about as well.
    pub(super) more: Vec<String>,
    /// The status of the entry itself, where there is one.
    pub(super) status: Option<u16>,
    pub(super) props: Props,
}

/// Is the properties that were asked for and are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Props {
    pub(super) collection: bool,
    pub(super) length: Option<String>,
    pub(super) modified: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) file_id: Option<String>,
    pub(super) permissions: Option<String>,
    pub(super) available: Option<String>,
    pub(super) used: Option<String>,
    pub(super) principal: Option<String>,
    /// The recursive size that some servers tell of folders, and of files as well.
    pub(super) whole_size: Option<String>,
    pub(super) sync_token: Option<String>,
    /// Whether changes since a token can be asked for.
    pub(super) syncs: bool,
}

impl Response {
    /// How many bytes its texts take.
    pub(super) fn text_length(&self) -> usize {
        let Props { collection: _, syncs: _, length, modified, etag, .. } = &self.props;
        let Props { file_id, permissions, available, used, .. } = &self.props;
        let Props { principal, whole_size, sync_token, .. } = &self.props;
        let texts = [length, modified, etag, file_id, permissions, available, used];
        let more = [principal, whole_size, sync_token];
        let told = texts.into_iter().chain(more).flatten().map(String::len).sum::<usize>();
        self.href.len() + told
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Multistatus,
    Response,
    Href,
    Status,
    Propstat,
    PropstatStatus,
    Prop,
    ResourceType,
    Collection,
    Length,
    Modified,
    Etag,
    FileId,
    Permissions,
    Available,
    Used,
    Principal,
    PrincipalHref,
    WholeSize,
    SyncToken,
    NextToken,
    Reports,
    SupportedReport,
    Report,
    SyncCollection,
    Other,
}

impl Tag {
    /// What an element is, by its place: a `status` in a property is none.
    fn of(parent: Option<Self>, space: &str, name: &str) -> Self {
        match (parent, space, name) {
            (None, DAV, "multistatus") => Self::Multistatus,
            (Some(Self::Multistatus), DAV, "response") => Self::Response,
            (Some(Self::Response), DAV, "href") => Self::Href,
            (Some(Self::Response), DAV, "status") => Self::Status,
            (Some(Self::Response), DAV, "propstat") => Self::Propstat,
            (Some(Self::Propstat), DAV, "status") => Self::PropstatStatus,
            (Some(Self::Propstat), DAV, "prop") => Self::Prop,
            (Some(Self::ResourceType), DAV, "collection") => Self::Collection,
            (Some(Self::Prop), DAV, "resourcetype") => Self::ResourceType,
            (Some(Self::Prop), DAV, "getcontentlength") => Self::Length,
            (Some(Self::Prop), DAV, "getlastmodified") => Self::Modified,
            (Some(Self::Prop), DAV, "getetag") => Self::Etag,
            (Some(Self::Prop), DAV, "quota-available-bytes") => Self::Available,
            (Some(Self::Prop), DAV, "quota-used-bytes") => Self::Used,
            (Some(Self::Prop), DAV, "current-user-principal") => Self::Principal,
            (Some(Self::Principal), DAV, "href") => Self::PrincipalHref,
            (Some(Self::Multistatus), DAV, "sync-token") => Self::NextToken,
            (Some(Self::Prop), DAV, "sync-token") => Self::SyncToken,
            (Some(Self::Prop), DAV, "supported-report-set") => Self::Reports,
            (Some(Self::Reports), DAV, "supported-report") => Self::SupportedReport,
            (Some(Self::SupportedReport), DAV, "report") => Self::Report,
            (Some(Self::Report), DAV, "sync-collection") => Self::SyncCollection,
            (Some(Self::Prop), OWNCLOUD, "size") => Self::WholeSize,
            (Some(Self::Prop), OWNCLOUD, "fileid") => Self::FileId,
            (Some(Self::Prop), OWNCLOUD, "permissions") => Self::Permissions,
            _ => Self::Other,
        }
    }
}

/// Lets a reader refuse to go on when one piece of XML is longer than any honest one.
pub(super) trait Bounded {
    /// Begins the next piece.
    fn refill(&mut self);
}

/// Reads the whole answer and hands on each entry in turn; answers the sync token at its end, if there is one.
pub(super) fn parse<R: BufRead + Bounded>(
    source: R,
    each: &mut dyn FnMut(Response) -> Outcome<()>,
) -> Outcome<Option<String>> {
    let mut reader = NsReader::from_reader(source);
    let mut state = State::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        reader.get_mut().refill();
        let read = reader.read_resolved_event_into(&mut buffer);
        let (space, event) = read.map_err(|error| corrupt(&error.to_string()))?;
        let space = match space {
            ResolveResult::Bound(Namespace(space)) => space,
            _ => "",
        };
        match event {
            Event::Start(tag) => state.open(space, tag.local_name().into_inner())?,
            Event::Empty(tag) => {
                state.open(space, tag.local_name().into_inner())?;
                state.close(each)?;
            }
            Event::End(_) => state.close(each)?,
            Event::Text(text) => state.text(&text.xml10_content())?,
            Event::CData(text) => state.text(&text.xml10_content())?,
            Event::GeneralRef(entity) => state.text(resolve(&entity)?.encode_utf8(&mut [0; 4]))?,
            Event::DocType(_) => return Err(corrupt("a document type")),
            Event::Decl(declaration) => check_encoding(&declaration)?,
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return state.finish(),
        }
    }
}

impl Bounded for &[u8] {
    fn refill(&mut self) {}
}

/// How many entries a whole answer names, if it is one; there to be measured.
pub fn count_entries(answer: &[u8]) -> Option<usize> {
    let mut count = 0;
    let outcome = parse(answer, &mut |_entry| {
        count += 1;
        Ok(())
    });
    outcome.ok().map(|_token| count)
}

#[derive(Default)]
struct State {
    open: Vec<Tag>,
    seen_root: bool,
    text: String,
    response: Response,
    props: Props,
    props_status: Option<u16>,
    token: Option<String>,
}

impl State {
    fn open(&mut self, space: &str, name: &str) -> Outcome<()> {
        let tag = Tag::of(self.open.last().copied(), space, name);
        if self.open.is_empty() && (tag != Tag::Multistatus || self.seen_root) {
            return Err(corrupt("another root element than one DAV: multistatus"));
        }
        if self.open.len() >= DEPTH {
            return Err(corrupt("too many elements within each other"));
        }
        match tag {
            Tag::Multistatus => self.seen_root = true,
            Tag::Response => self.response = Response::default(),
            Tag::Propstat => {
                self.props = Props::default();
                self.props_status = None;
            }
            Tag::Collection => self.props.collection = true,
            Tag::SyncCollection => self.props.syncs = true,
            _ => {}
        }
        self.text.clear();
        self.open.push(tag);
        Ok(())
    }

    fn text(&mut self, text: &str) -> Outcome<()> {
        if self.open.is_empty() {
            let blank = text.chars().all(|c| c.is_ascii_whitespace() || c == '\u{feff}');
            return if blank { Ok(()) } else { Err(corrupt("text outside the root element")) };
        }
        if self.text.len() + text.len() > TEXT {
            return Err(corrupt("a text that is too long"));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn close(&mut self, each: &mut dyn FnMut(Response) -> Outcome<()>) -> Outcome<()> {
        let Some(tag) = self.open.pop() else {
            return Err(corrupt("an end without a beginning"));
        };
        let text = std::mem::take(&mut self.text);
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let value = || (!text.is_empty()).then(|| text.to_owned());
        match tag {
            Tag::Href if self.response.href.is_empty() => self.response.href = text.to_owned(),
            Tag::Href if self.response.more.len() >= HREFS => {
                return Err(corrupt("an entry with too many hrefs"));
            }
            Tag::Href => self.response.more.push(text.to_owned()),
            Tag::NextToken => self.token = value(),
            Tag::Status => self.response.status = Some(status(text)?),
            Tag::PropstatStatus => self.props_status = Some(status(text)?),
            Tag::Length => self.props.length = value(),
            Tag::Modified => self.props.modified = value(),
            Tag::Etag => self.props.etag = value(),
            Tag::FileId => self.props.file_id = value(),
            Tag::Permissions => self.props.permissions = value(),
            Tag::Available => self.props.available = value(),
            Tag::Used => self.props.used = value(),
            Tag::PrincipalHref => self.props.principal = value(),
            Tag::WholeSize => self.props.whole_size = value(),
            Tag::SyncToken => self.props.sync_token = value(),
            Tag::Propstat => self.merge(),
            Tag::Response => {
                let response = std::mem::take(&mut self.response);
                if response.href.is_empty() {
                    return Err(corrupt("an entry without an href"));
                }
                each(response)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes over the properties that are there; the others stand under another status.
    fn merge(&mut self) {
        let found = std::mem::take(&mut self.props);
        if !self.props_status.is_none_or(|status| (200..300).contains(&status)) {
            return;
        }
        let props = &mut self.response.props;
        props.collection |= found.collection;
        props.syncs |= found.syncs;
        for (to, from) in [
            (&mut props.length, found.length),
            (&mut props.modified, found.modified),
            (&mut props.etag, found.etag),
            (&mut props.file_id, found.file_id),
            (&mut props.permissions, found.permissions),
            (&mut props.available, found.available),
            (&mut props.used, found.used),
            (&mut props.principal, found.principal),
            (&mut props.whole_size, found.whole_size),
            (&mut props.sync_token, found.sync_token),
        ] {
            if from.is_some() {
                *to = from;
            }
        }
    }

    fn finish(self) -> Outcome<Option<String>> {
        if !self.seen_root || !self.open.is_empty() {
            return Err(corrupt("an end before the root element is closed"));
        }
        Ok(self.token)
    }
}

/// The number in `HTTP/1.1 200 OK`.
fn status(text: &str) -> Outcome<u16> {
    let number = text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    number.ok_or_else(|| corrupt("a status that is none"))
}

fn resolve(entity: &BytesRef<'_>) -> Outcome<char> {
    let known = match &**entity {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => entity.resolve_char_ref().ok().flatten(),
    };
    known.ok_or_else(|| corrupt("an entity that is not XML's own"))
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Outcome<()> {
    let Some(encoding) = declaration.encoding() else { return Ok(()) };
    let encoding = encoding.map_err(|error| corrupt(&error.to_string()))?;
    let encoding = encoding.to_ascii_lowercase();
    match encoding.as_str() {
        "utf-8" | "utf8" | "us-ascii" => Ok(()),
        _ => Err(corrupt("another encoding than UTF-8")),
    }
}

fn corrupt(why: &str) -> Failure {
    Failure::corrupt(format!("the answer is no whole multistatus: {why}"))
}

#[cfg(test)]
#[path = "multistatus_tests.rs"]
mod tests;
