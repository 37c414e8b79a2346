//! The rows that the decisions read and change, as a trait that a catalog transaction and the tests' maps implement.

use super::around::new_base;
use super::{Digest, Edition, Ino, Kind, Name, Observed, Place, RemoteId, Shown, Tick, Version};

/// Is an inode row, as far as the decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// Where users see it; `None` when deleted here.
    pub local: Option<Place>,
    /// The content that it stands for now.
    pub edition: Edition,
    /// Whether all its bytes are here.
    pub hydrated: bool,
    /// Whether something besides content was set here that the remote can hold and has not.
    pub retouched: bool,
}

/// Is what the remote last had of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Where the remote has it.
    pub place: Place,
    /// The version of its content there.
    pub version: Version,
    /// Its stable identity there.
    pub id: Option<RemoteId>,
    /// Which of our contents that version is.
    pub edition: Edition,
    /// What that content is for certain, if its bytes were here.
    pub known: Option<Digest>,
    /// Whether the version cannot be relied on yet.
    pub young: bool,
    /// Whether this folder's names are all known.
    pub listed: bool,
    /// Bytes there, as last seen.
    pub size: u64,
    /// Opaque to the engine; the remote's own note for its locator.
    pub extra: Option<Vec<u8>>,
}

impl Base {
    /// Whether what was seen is another entry than this. One that has no identity just now, or had none, may be the same.
    pub fn is_other_than(&self, seen: &Observed) -> bool {
        self.id.is_some() && seen.id.is_some() && self.id != seen.id
    }
}

/// Says under which condition the remote may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing may be there.
    Absent,
    /// A file of this version must be there.
    Version(Version),
    /// A folder must be there.
    Folder,
    /// Whatever is there.
    Any,
}

/// Names what `plan` wants done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// Nothing differs: drop the row.
    Settled,
    /// A path goes through a missing entry: look at the next row.
    Wait,
    /// The mass-change guard holds it.
    Held,
    /// An attempt has no answer: look what became of it.
    Resolve,
    /// The base version is young: look again after its clock tick.
    Confirm,
    /// A folder must be listed before the remote loses it.
    NeedList,
    /// Bytes must be here first.
    Fetch,
    /// A new file takes the base of the deleted one whose place it has.
    Inherit,
    /// Create the folder there.
    MakeFolder,
    /// Send the content.
    Write,
    /// Move it there.
    Rename,
    /// Remove it there.
    Remove,
    /// Send times and mode.
    Metadata,
    /// Break a cycle of occupied places: rename the occupant to a fresh visible name there.
    Sidestep,
    /// Take another name here: the place belongs to an entry in sync.
    StepAside,
    /// Give it a local place again: the remote still needs it.
    Resurrect,
    /// `plan` came back to where it was; never leaves `plan`.
    Cycle,
}

/// Is a remote change under way: noted durably before it is sent, ended when its outcome is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `MakeFolder`, `Write`, `Rename`, `Remove`, `Metadata` or `Sidestep`.
    pub kind: StepKind,
    /// The base place when it was noted.
    pub source: Option<Place>,
    /// The place it makes or changes.
    pub target: Option<Place>,
    /// The condition it was sent under.
    pub expect: Expect,
    /// Tells it from every other attempt of this catalog; part of temporary names.
    pub nonce: u64,
}

/// Is a content known to be ours at the remote, with the edition it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What was sent.
    pub digest: Digest,
    /// Which of our contents that was.
    pub edition: Edition,
}

/// Is an outbox row: its inode is not in sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxRow {
    /// The attempt whose outcome is unknown.
    pub attempt: Option<Attempt>,
    /// Contents that we sent, or had in sync, since the base was last certain.
    pub ours: Vec<Sent>,
    /// Whether a person released it from the mass-change guard.
    pub released: bool,
    /// Whether the mass-change guard holds it.
    pub held: bool,
}

impl OutboxRow {
    /// Notes a content as ours; the same content again takes the later edition.
    pub fn remember(&mut self, digest: Digest, edition: Edition) {
        self.ours.retain(|sent| sent.digest != digest);
        self.ours.push(Sent { digest, edition });
    }

    /// Which of our contents this is, if it is one.
    pub fn edition_of(&self, digest: Option<Digest>) -> Option<Edition> {
        self.ours.iter().find(|sent| Some(sent.digest) == digest).map(|sent| sent.edition)
    }
}

/// Says how many handles are open on an inode, and how many of them may write. Memory only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handles {
    /// All handles.
    pub open: u32,
    /// Handles that may write.
    pub writers: u32,
}

/// Is what is known of an entry that a listing shows: who is in its place here, whose base is in its place there, and whose
/// identity it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Whether somebody is in its place here.
    pub is_taken: bool,
    /// Whose base is in its place there.
    pub based: Option<Based>,
    /// Whose base has the identity seen.
    pub identified: Option<Ino>,
}

/// Is an inode with what of its base a listing shows again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Based {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: Kind,
    /// The version that its base is about.
    pub version: Version,
    /// Bytes there.
    pub size: u64,
    /// Its identity there.
    pub id: Option<RemoteId>,
    /// What the remote noted of it.
    pub extra: Option<Vec<u8>>,
}

/// Is the state that `plan`, `reconcile` and `settle` read and change, for one remote endpoint.
///
/// Everything done to one `Rows` value between its start and its commit is one transaction: it all happens or none of it.
/// Implementations keep two invariants: no two inodes in one local place, no two bases in one base place. Breaking one is
/// an error of the caller and is answered with an error, never by dropping a row.
pub trait Rows {
    /// What can go wrong below: a database error. The decisions only pass it on.
    type Error;

    /// The inode, if its row is there.
    fn node(&self, ino: Ino) -> Result<Option<Node>, Self::Error>;
    /// Who is in this local place.
    fn resident(&self, place: &Place) -> Result<Option<Ino>, Self::Error>;
    /// Whether anything is in this folder here.
    fn has_children(&self, folder: Ino) -> Result<bool, Self::Error>;
    /// All that is in this folder here.
    fn children(&self, folder: Ino) -> Result<Vec<Ino>, Self::Error>;
    /// What the remote last had of it.
    fn base(&self, ino: Ino) -> Result<Option<Base>, Self::Error>;
    /// Whose base is in this base place.
    fn base_at(&self, place: &Place) -> Result<Option<Ino>, Self::Error>;
    /// Whose base has this remote identity.
    fn base_by_id(&self, id: &RemoteId) -> Result<Option<Ino>, Self::Error>;
    /// All whose base is in this base folder.
    fn base_children(&self, folder: Ino) -> Result<Vec<Ino>, Self::Error>;
    /// Some child of this base folder, for those who only ask whether there is one.
    fn first_base_child(&self, folder: Ino) -> Result<Option<Ino>, Self::Error> {
        Ok(self.base_children(folder)?.into_iter().next())
    }
    /// All whose base is in this base folder, with their bases.
    fn bases_in(&self, folder: Ino) -> Result<Vec<(Ino, Base)>, Self::Error> {
        let with_base = |ino| Ok(self.base(ino)?.map(|base| (ino, base)));
        self.base_children(folder)?
            .into_iter()
            .filter_map(|ino| with_base(ino).transpose())
            .collect()
    }
    /// What is known of each of these entries of a folder, in their order; best asked of names that are near each other.
    fn meet(&self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Met>, Self::Error> {
        let meet = |(name, seen): &(Name, Observed)| {
            let place = Place::new(folder, name.clone());
            let is_taken = self.resident(&place)?.is_some();
            let based = match self.base_at(&place)? {
                Some(ino) => self.node(ino)?.zip(self.base(ino)?).map(|(node, base)| {
                    let Base { version, size, id, extra, .. } = base;
                    Based { ino, kind: node.kind, version, size, id, extra }
                }),
                None => None,
            };
            let identified = match &seen.id {
                Some(id) => self.base_by_id(id)?,
                None => None,
            };
            Ok(Met { is_taken, based, identified })
        };
        seen.iter().map(meet).collect()
    }
    /// Its outbox row.
    fn outbox(&self, ino: Ino) -> Result<Option<OutboxRow>, Self::Error>;
    /// Every inode that has an outbox row, the oldest row first.
    fn outbox_all(&self) -> Result<Vec<Ino>, Self::Error>;
    /// All inodes with an attempt without an outcome (few: at most as many as transfers at once).
    fn attempts(&self) -> Result<Vec<(Ino, Attempt)>, Self::Error>;
    /// Since when the remote has not had it where we thought, if so.
    fn missing(&self, ino: Ino) -> Result<Option<Tick>, Self::Error>;
    /// Since when this folder waits to be looked at again, if so.
    fn look_again(&self, folder: Ino) -> Result<Option<Tick>, Self::Error>;
    /// Of the folders marked look-again whose look was not put off yet, the one with the next mark after this.
    fn look_after(&self, tick: Tick) -> Result<Option<(Ino, Tick)>, Self::Error>;
    /// Whether the folder's look-again mark is for all known folders below it as well.
    fn looks_deep(&self, folder: Ino) -> Result<bool, Self::Error>;
    /// When a base in this folder last changed, or an attempt about it ended. Memory only: 0 after a restart.
    fn touched(&self, folder: Ino) -> Tick;
    /// Whether a listing of this folder is under way. Memory only.
    fn is_listing(&self, folder: Ino) -> bool;
    /// Whether this folder waits to be listed because somebody asked. Memory only.
    fn is_needed(&self, folder: Ino) -> bool;
    /// The handles open on it. Memory only.
    fn handles(&self, ino: Ino) -> Handles;
    /// Whether an exclude pattern fits something of this kind in this place.
    fn is_excluded(&self, place: &Place, kind: Kind) -> Result<bool, Self::Error>;
    /// What the remote never had below a folder, without what is in that.
    fn new_below(&self, folder: Ino) -> Result<Vec<Ino>, Self::Error>;
    /// Whether an exclude pattern looks at the names above a place as well.
    fn excludes_paths(&self) -> bool;

    /// The next tick; larger than every one before it.
    fn tick(&mut self) -> Result<Tick, Self::Error>;
    /// A new file or folder inode without a local place: what `seen` tells as its attributes, no bytes here, a new edition.
    fn new_node(&mut self, seen: &Observed) -> Result<Ino, Self::Error>;
    /// New file or folder inodes as [`Rows::new_node`] makes them, each in the place of this name in this folder, both here
    /// and at the remote.
    fn new_in(&mut self, folder: Ino, seen: &[(Name, Observed)]) -> Result<Vec<Ino>, Self::Error> {
        let mut made = Vec::with_capacity(seen.len());
        for (name, seen) in seen {
            let ino = self.new_node(seen)?;
            let edition = self.node(ino)?.map(|node| node.edition).unwrap_or_default();
            let place = Place::new(folder, name.clone());
            self.set_local(ino, Some(place.clone()))?;
            self.set_base(ino, Some(new_base(place, seen, edition)))?;
            made.push(ino);
        }
        Ok(made)
    }
    /// A new inode with the kind, attributes and content of an open one, which lives on unnamed with its own data file.
    /// The new one has no local place yet and the same edition as the old one.
    fn succeed(&mut self, old: Ino) -> Result<Ino, Self::Error>;
    /// Moves it to this local place, or takes its place away.
    fn set_local(&mut self, ino: Ino, place: Option<Place>) -> Result<(), Self::Error>;
    /// Records what the remote has of it, or, with `None`, that it has nothing (which also clears its missing and
    /// look-again marks). Both note the old and the new base folder as touched.
    fn set_base(&mut self, ino: Ino, base: Option<Base>) -> Result<(), Self::Error>;
    /// Notes which version of a folder was listed. Nothing in it or above it counts as changed by that.
    fn set_folder_version(&mut self, folder: Ino, version: Version) -> Result<(), Self::Error>;
    /// Makes it stand for the remote content `seen`: a new generation and edition, no bytes here. Returns the edition.
    fn become_placeholder(&mut self, ino: Ino, seen: &Observed) -> Result<Edition, Self::Error>;
    /// Goes back to an earlier content of which no bytes are here (undo).
    fn revert_to(&mut self, ino: Ino, base: &Base) -> Result<(), Self::Error>;
    /// Notes that the remote has, or will never hold, what was sent besides content: each of it, if it is shown so still.
    fn set_sent(&mut self, ino: Ino, shown: &Shown) -> Result<(), Self::Error>;
    /// All that was ever set besides content goes with its next content: what it replaces there is another file.
    fn renew_touched(&mut self, ino: Ino) -> Result<(), Self::Error>;
    /// It stands for another file from now on: what was set was not set on that one, nor is its owner the one set here.
    fn forget_touched(&mut self, ino: Ino) -> Result<(), Self::Error>;
    /// Inserts or replaces its outbox row.
    fn set_outbox(&mut self, ino: Ino, row: OutboxRow) -> Result<(), Self::Error>;
    /// What its outbox row is about, if it has one, was done just now.
    fn renew_outbox(&mut self, ino: Ino) -> Result<(), Self::Error>;
    /// Drops its outbox row: it is in sync.
    fn drop_outbox(&mut self, ino: Ino) -> Result<(), Self::Error>;
    /// Sets or clears the missing mark.
    fn set_missing(&mut self, ino: Ino, since: Option<Tick>) -> Result<(), Self::Error>;
    /// Sets or clears the look-again mark. A folder without a base is never marked. Setting keeps a deep mark deep.
    fn set_look_again(&mut self, folder: Ino, since: Option<Tick>) -> Result<(), Self::Error>;
    /// Marks the folder look-again, and all known folders below it: each passes the mark on when it was listed.
    fn set_look_deep(&mut self, folder: Ino, since: Tick) -> Result<(), Self::Error>;
    /// Notes that what is known of this folder changed now.
    fn touch_folder(&mut self, folder: Ino) -> Result<(), Self::Error>;
    /// Whether an entry of the remote in this folder is covered by something that is kept here only.
    fn is_covered(&self, folder: Ino) -> Result<bool, Self::Error>;
    /// Notes whether one is.
    fn set_covered(&mut self, folder: Ino, covered: bool) -> Result<(), Self::Error>;
    /// Asks for this folder to be listed soon. Memory only.
    fn need_list(&mut self, folder: Ino);
    /// Notes that a listing of this folder begins (it is no longer asked for) or ended. Memory only.
    fn set_listing(&mut self, folder: Ino, under_way: bool);
    /// If some of it was edited here, its data file holds what can never be made whole again: kept for its owner, not
    /// unlinked.
    fn rescue(&mut self, ino: Ino) -> Result<(), Self::Error>;
    /// Forgets the inode: it has no place, no base, no outbox row and no handles.
    fn forget(&mut self, ino: Ino) -> Result<(), Self::Error>;
    /// A free conflict-copy name for a file or folder that must give up `place`, in the same folder.
    fn conflict_name(&mut self, place: &Place) -> Result<Place, Self::Error>;
    /// Notes for `why` what happened to an inode, in plain words.
    fn note(&mut self, ino: Ino, what: &str) -> Result<(), Self::Error>;
}
