//! Which worlds histories are made for.

use super::*;

const PLAIN: Profile = Profile {
    name: "plain",
    engines: 1,
    actor: 0.3,
    faults: 0,
    crashes: 0.0,
    ids: false,
    versions: VersionKind::Unique,
    conditional: Conditional::Atomic,
    saves: false,
    hints: HintFaults { duplicate: 0, reorder: 0, drop: 0 },
    expire: false,
    feed: FeedKind::Push,
    excludes: false,
    handles: false,
    editors: false,
};

pub(super) const PROFILES: &[Profile] = &[
    PLAIN,
    Profile { name: "quiet", actor: 0.0, faults: 60, ..PLAIN },
    Profile { name: "quietcrash", actor: 0.0, faults: 30, crashes: 0.06, ..PLAIN },
    Profile { name: "saves", actor: 0.0, saves: true, faults: 40, ..PLAIN },
    Profile { name: "faults", faults: 80, ..PLAIN },
    Profile { name: "crash", faults: 30, crashes: 0.08, ..PLAIN },
    Profile { name: "ids", ids: true, faults: 20, ..PLAIN },
    Profile { name: "idscrash", ids: true, faults: 30, crashes: 0.06, ..PLAIN },
    Profile {
        name: "hints",
        hints: HintFaults { duplicate: 200, reorder: 300, drop: 0 },
        expire: true,
        ..PLAIN
    },
    Profile { name: "coarse", versions: VersionKind::TickAndIdentity, ..PLAIN },
    Profile { name: "weak", conditional: Conditional::Checked, ..PLAIN },
    Profile { name: "walk", feed: FeedKind::None, faults: 20, ..PLAIN },
    Profile { name: "walkcrash", feed: FeedKind::None, crashes: 0.05, editors: true, ..PLAIN },
    Profile { name: "excludes", excludes: true, editors: true, faults: 20, ..PLAIN },
    Profile { name: "handles", handles: true, faults: 20, ..PLAIN },
    Profile { name: "editors", editors: true, handles: true, crashes: 0.04, ..PLAIN },
    Profile { name: "two", engines: 2, actor: 0.1, faults: 20, ..PLAIN },
    Profile { name: "twoids", engines: 2, actor: 0.1, ids: true, crashes: 0.04, ..PLAIN },
];
pub(super) fn settings() -> Settings {
    Settings {
        exclude: vec!["*~".into()],
        write_back_delay: Duration::from_millis(3),
        poll: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        requests: 100_000,
        guard: 0,
        ..Settings::default()
    }
}
