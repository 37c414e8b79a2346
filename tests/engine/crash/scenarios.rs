//! What programs and others do, and what stays of it.

/// Is one thing that a program, or somebody at the remote, does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Write(&'static str, &'static str),
    Append(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    MakeFolder(&'static str),
    Read(&'static str),
    Free(&'static str),
    /// Everything is in sync.
    Settle,
    /// The engine ends in good order and starts again.
    Restart,
    /// Somebody else writes at the remote.
    Put(&'static str, &'static str),
    /// Somebody else removes at the remote.
    Away(&'static str),
}
pub(super) use Op::{
    Append, Away, Free, MakeFolder, Put, Read, Remove, Rename, Restart, Settle, Write,
};

pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) before: &'static [(&'static str, &'static str)],
    pub(super) ops: &'static [Op],
}

pub(super) const TREE: &[(&str, &str)] =
    &[("a", "a at first"), ("d/one", "one"), ("d/two", "two"), ("d/e/deep", "deep"), ("z", "zz")];

/// A few blocks of content.
pub(super) const BIG: &str = include_str!("../../../Cargo.lock");
/// Room for one such file and a half.
pub(super) const LITTLE: u64 = BIG.len() as u64 * 3 / 2;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "create",
        before: &[],
        ops: &[
            Write("new", "new"),
            MakeFolder("n"),
            Write("n/in", "in it"),
            Settle,
            Write("b", ""),
        ],
    },
    Scenario {
        name: "write",
        before: TREE,
        ops: &[Write("a", "second"), Settle, Append("a", " and more"), Append("d/one", " longer")],
    },
    Scenario {
        name: "rename",
        before: TREE,
        ops: &[
            Rename("a", "b"),
            Settle,
            Rename("b", "d/b"),
            Write("d/b", "edited"),
            Rename("z", "a"),
        ],
    },
    Scenario {
        name: "replace",
        before: TREE,
        ops: &[
            Write(".t", "saved once"),
            Rename(".t", "a"),
            Settle,
            Write(".t", "saved twice"),
            Settle,
            Rename(".t", "a"),
            Rename("d/one", "d/two"),
        ],
    },
    Scenario {
        name: "delete",
        before: TREE,
        ops: &[
            Remove("a"),
            Remove("d/e/deep"),
            Remove("d/e"),
            Settle,
            Write("d/one", "x"),
            Remove("d/one"),
            Write("d/one", "again"),
        ],
    },
    Scenario {
        name: "hydrate",
        before: TREE,
        ops: &[Read("a"), Read("d/e/deep"), Append("d/two", "!"), Settle, Read("d/two")],
    },
    Scenario {
        name: "evict",
        before: TREE,
        ops: &[
            Read("a"),
            Write("z", "edited"),
            Settle,
            Free("a"),
            Free("z"),
            Read("a"),
            Append("z", " anew"),
            Free("a"),
        ],
    },
    Scenario {
        name: "squeeze",
        before: &[("big", BIG), ("other", BIG), ("a", "a at first")],
        ops: &[
            Read("big"),
            Read("other"),
            Settle,
            Read("big"),
            Append("other", "!"),
            Read("a"),
            Settle,
            Read("big"),
            Read("other"),
        ],
    },
    Scenario {
        name: "conflict",
        before: TREE,
        ops: &[
            Read("a"),
            Put("a", "theirs"),
            Append("a", " ours"),
            Settle,
            Put("d/one", "theirs too"),
            Remove("d/one"),
            Away("d/two"),
            Append("d/two", " kept"),
        ],
    },
    Scenario {
        name: "listing",
        before: TREE,
        ops: &[
            Read("d/e/deep"),
            Put("d/e/more", "more"),
            Away("d/one"),
            Put("f/new", "new there"),
            Settle,
            Read("d/e/more"),
        ],
    },
    Scenario {
        name: "folder",
        before: TREE,
        ops: &[
            Rename("d", "moved"),
            Write("moved/one", "edited in it"),
            MakeFolder("d"),
            Settle,
            Rename("moved/e", "d/e"),
            Remove("moved/one"),
        ],
    },
    Scenario {
        name: "restart",
        before: TREE,
        ops: &[
            Write("a", "pending"),
            Rename("z", "y"),
            Remove("d/one"),
            Restart,
            Append("a", " still"),
            Restart,
            Write("new", "late"),
        ],
    },
];
