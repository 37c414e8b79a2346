//! Which worlds histories are made for.

use super::*;

const PLAIN: Profile = Profile {
    name: "plain",
    share: 4,
    engines: 1,
    actor: 0.3,
    faults: 0,
    crashes: 0.0,
    folder: false,
    ids: false,
    versions: VersionKind::Unique,
    conditional: Conditional::Atomic,
    saves: false,
    hints: HintFaults { duplicate: 0, reorder: 0, drop: 0 },
    expire: false,
    late: false,
    lines: false,
    feed: FeedKind::Push,
    excludes: false,
    handles: false,
    editors: false,
    frees: false,
    touches: false,
    cache_size: 50 << 30,
};

const WRONG_HINTS: HintFaults = HintFaults { duplicate: 200, reorder: 300, drop: 0 };

pub(super) const PROFILES: &[Profile] = &[
    PLAIN,
    Profile { name: "quiet", actor: 0.0, faults: 60, lines: true, ..PLAIN },
    Profile { name: "quietcrash", actor: 0.0, faults: 30, crashes: 0.06, editors: true, ..PLAIN },
    Profile { name: "saves", actor: 0.0, saves: true, faults: 40, ..PLAIN },
    Profile { name: "faults", faults: 80, late: true, ..PLAIN },
    Profile { name: "crash", faults: 30, crashes: 0.08, ..PLAIN },
    Profile { name: "ids", ids: true, faults: 20, lines: true, ..PLAIN },
    Profile { name: "idscrash", ids: true, faults: 30, crashes: 0.06, editors: true, ..PLAIN },
    Profile { name: "hints", hints: WRONG_HINTS, expire: true, ..PLAIN },
    Profile { name: "coarse", versions: VersionKind::TickAndIdentity, editors: true, ..PLAIN },
    Profile { name: "weak", conditional: Conditional::Checked, frees: true, ..PLAIN },
    Profile {
        name: "weakest",
        conditional: Conditional::Checked,
        versions: VersionKind::TickAndIdentity,
        ..PLAIN
    },
    Profile { name: "poll", feed: FeedKind::Poll, faults: 20, frees: true, ..PLAIN },
    Profile { name: "walk", feed: FeedKind::None, faults: 20, ..PLAIN },
    Profile { name: "walkcrash", feed: FeedKind::None, crashes: 0.05, editors: true, ..PLAIN },
    Profile { name: "excludes", excludes: true, editors: true, faults: 20, ..PLAIN },
    Profile { name: "handles", handles: true, faults: 20, frees: true, ..PLAIN },
    Profile { name: "editors", editors: true, handles: true, crashes: 0.04, ..PLAIN },
    Profile { name: "frees", frees: true, editors: true, faults: 20, lines: true, ..PLAIN },
    Profile { name: "small", cache_size: 600_000, frees: true, editors: true, ..PLAIN },
    Profile { name: "touches", touches: true, faults: 20, ..PLAIN },
    Profile { name: "two", engines: 2, actor: 0.1, faults: 20, lines: true, ..PLAIN },
    Profile { name: "twoids", engines: 2, actor: 0.1, ids: true, crashes: 0.04, ..PLAIN },
    Profile {
        name: "twocrash",
        engines: 2,
        actor: 0.05,
        faults: 30,
        crashes: 0.06,
        editors: true,
        frees: true,
        ..PLAIN
    },
    Profile { name: "folder", share: 2, folder: true, frees: true, faults: 20, ..PLAIN },
    Profile { name: "foldercrash", share: 2, folder: true, crashes: 0.05, handles: true, ..PLAIN },
    Profile {
        name: "foldertwo",
        share: 2,
        folder: true,
        engines: 2,
        actor: 0.1,
        faults: 20,
        ..PLAIN
    },
    Profile {
        name: "folderwalk",
        share: 2,
        folder: true,
        feed: FeedKind::None,
        engines: 2,
        actor: 0.1,
        faults: 20,
        ..PLAIN
    },
    Profile {
        name: "everything",
        engines: 2,
        actor: 0.15,
        faults: 40,
        crashes: 0.04,
        ids: true,
        versions: VersionKind::TickAndIdentity,
        hints: WRONG_HINTS,
        expire: true,
        late: true,
        lines: true,
        excludes: true,
        handles: true,
        editors: true,
        frees: true,
        touches: true,
        ..PLAIN
    },
];

impl Profile {
    /// Whether the remote's clock must tick for its versions to be sure.
    pub(super) fn ticks(self) -> bool {
        self.versions != VersionKind::Unique
    }

    /// Whether users may destroy what they have not read: then it is known what each version stood for.
    pub(super) fn may_be_blind(self) -> bool {
        !self.folder
    }

    pub(super) fn settings(self) -> Settings {
        Settings {
            exclude: vec!["*~".into()],
            write_back_delay: Duration::from_millis(3),
            poll: Duration::from_millis(
                std::env::var("DEWFS_POLL").map_or(20, |p| p.parse().unwrap()),
            ),
            timeout: Duration::from_secs(2),
            requests: 100_000,
            guard: 0,
            cache_size: self.cache_size,
            ..Settings::default()
        }
    }
}
