//! New symlinks, fifos, sockets and empty files, and the answers that all get who look up or make a name, or ask for attributes.

use std::ffi::OsStr;

use fuser::{INodeNo, ReplyAttr, ReplyEntry};

use super::answer::Call;
use super::attributes::{NAMES, Threshold, attributes, generation, ino};
use super::filesystem::{Kernel, name_or_refuse};
use super::names::made;
use crate::engine::{Caller, Engine, Stat};
use crate::model::Kind;

/// Is what a new symlink, fifo, socket or file is to be.
#[derive(Clone, Copy)]
pub(super) struct New<'a> {
    pub(super) call: &'static str,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) target: Option<&'a [u8]>,
}

/// Answers with what a name stands for.
pub(super) fn give_entry(reply: ReplyEntry, stat: &Stat) {
    reply.entry_with_ttls(&stat.believe, &NAMES, &attributes(stat), generation(stat));
}

/// Answers with attributes.
pub(super) fn give_attributes(root: Threshold) -> impl FnOnce(ReplyAttr, Stat) + Send + 'static {
    move |reply, stat| reply.attr(&stat.believe, &root.attributes(&stat))
}

impl Kernel {
    pub(super) fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        node: New<'_>,
        by: Caller,
        reply: ReplyEntry,
    ) {
        let name = name_or_refuse!(made(name), reply);
        let New { call, kind, mode, target } = node;
        let verb = |engine: &Engine| {
            engine.make_node(ino(parent), name, kind, mode & 0o7777, target.map(<[u8]>::to_vec), by)
        };
        let call = Call::in_folder(call, parent);
        self.door.answer(call, reply, verb, |reply, stat| give_entry(reply, &stat));
    }
}
