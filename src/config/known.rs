//! The names of options: ours, the generic ones of mount(8), and those of other programs with ours beside them.

/// Options that take a value.
pub(super) const VALUED: &[&str] = &[
    "uid",
    "gid",
    "umask",
    "fmask",
    "dmask",
    "file_mode",
    "dir_mode",
    "state_dir",
    "cache_size",
    "min_free",
    "hydration",
    "population",
    "write_back_delay",
    "close",
    "fsync",
    "namespace",
    "poll",
    "requests",
    "transfers",
    "timeout",
    "drain",
    "guard",
    "auto_free",
    "verify",
    "passthrough",
    "exclude",
    "endpoint",
    "region",
    "username",
    "credentials",
    "ca_file",
    "client_cert",
    "client_key",
    "proxy",
    "rate_down",
    "rate_up",
    "metered",
    "battery",
    "name",
    "log",
    "metrics",
];

/// Options that stand alone.
pub(super) const FLAGS: &[&str] = &[
    "ro",
    "rw",
    "noexec",
    "exec",
    "nosuid",
    "nodev",
    "noatime",
    "relatime",
    "sync",
    "allow_other",
    "noallow_other",
    "allow_root",
    "path_style",
    "insecure_http",
    "nonempty",
    "adopt_remote",
    "offline_ok",
];

/// Options that the contract names and this version does not honour yet.
pub(super) const NOT_YET: &[&str] = &["endpoint", "region", "path_style"];

/// Generic options of mount(8), systemd and libfuse: accepted and left alone.
const GENERIC: &[&str] = &[
    "async",
    "atime",
    "noatime",
    "auto",
    "noauto",
    "comment",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
    "defaults",
    "default_permissions",
    "dev",
    "diratime",
    "nodiratime",
    "dirsync",
    "fsname",
    "group",
    "helper",
    "uhelper",
    "iversion",
    "noiversion",
    "lazytime",
    "nolazytime",
    "loud",
    "silent",
    "mand",
    "nomand",
    "_netdev",
    "nofail",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "nosymfollow",
    "subtype",
    "suid",
    "user",
    "nouser",
    "users",
    "owner",
    "_rnetdev",
    "loop",
    "offset",
    "sizelimit",
    "encryption",
];

/// Options whose value is a path.
pub(super) const PATHS: &[&str] =
    &["state_dir", "credentials", "ca_file", "client_cert", "client_key"];

/// The names of all options that this version honours.
pub fn option_names() -> impl Iterator<Item = &'static str> {
    VALUED.iter().chain(FLAGS).copied().filter(|name| !NOT_YET.contains(name))
}

/// Whether mount(8), systemd or libfuse may say this about any file system.
pub(super) fn is_generic(key: &str) -> bool {
    key.starts_with("x-") || key.starts_with("X-") || GENERIC.contains(&key)
}

/// Names of rclone mount, sshfs, davfs2, with what dewfs says instead.
const FOREIGN: &[(&str, &str)] = &[
    // rclone mount
    ("vfs_cache_mode", "nothing: dewfs always caches what is read and written"),
    ("vfs_cache_max_size", "cache_size="),
    ("vfs_cache_min_free_space", "min_free="),
    ("vfs_cache_max_age", "auto_free=30d"),
    ("vfs_cache_poll_interval", "nothing: limits hold at every moment"),
    ("vfs_write_back", "write_back_delay="),
    ("vfs_read_ahead", "nothing: read-ahead adapts"),
    ("vfs_read_chunk_size", "nothing: ranges adapt"),
    ("vfs_read_chunk_size_limit", "nothing: ranges adapt"),
    ("vfs_fast_fingerprint", "nothing: it does without"),
    ("buffer_size", "nothing: read-ahead adapts"),
    ("dir_cache_time", "poll="),
    ("poll_interval", "poll="),
    ("cache_dir", "state_dir="),
    ("tpslimit", "requests="),
    ("bwlimit", "rate_down= and rate_up="),
    ("allow_non_empty", "nonempty"),
    ("read_only", "ro"),
    ("volname", "name="),
    ("file_perms", "file_mode="),
    ("dir_perms", "dir_mode="),
    ("log_level", "log="),
    ("log_file", "nothing: the log is in the state directory"),
    ("contimeout", "timeout="),
    ("config", "--config FILE on the command line"),
    ("attr_timeout", "nothing: attributes are invalidated when they change"),
    ("daemon", "nothing: dewfs mount goes to the background, -f stays"),
    ("daemon_timeout", "timeout="),
    ("devname", "nothing: the source is the remote specification"),
    ("direct_io", "nothing: it does without"),
    ("no_modtime", "nothing: it does without"),
    ("no_checksum", "nothing: what comes is always verified"),
    ("webdav_url", "the remote specification https://…"),
    ("webdav_user", "username="),
    ("webdav_pass", "credentials=FILE"),
    // what everybody tries first, and everybody else can read in the list of processes
    ("password", "credentials=FILE"),
    ("pass", "credentials=FILE"),
    // sshfs
    ("reconnect", "nothing: dewfs always reconnects"),
    ("serveraliveinterval", "timeout="),
    ("serveralivecountmax", "timeout="),
    ("identityfile", "credentials=FILE"),
    ("password_stdin", "credentials=FILE"),
    ("idmap", "uid= and gid="),
    ("uidfile", "uid="),
    ("gidfile", "gid="),
    ("max_conns", "transfers="),
    ("dir_cache", "nothing: names are always kept"),
    ("dcache_timeout", "poll="),
    ("dcache_dir_timeout", "poll="),
    ("cache_timeout", "poll="),
    ("entry_timeout", "nothing: names are invalidated when they change"),
    ("kernel_cache", "nothing: pages are kept while they are right"),
    ("auto_cache", "nothing: pages are kept while they are right"),
    ("follow_symlinks", "nothing: symlinks are never followed out of the remote"),
    ("transform_symlinks", "nothing: it does without"),
    ("big_writes", "nothing: it does without"),
    ("auto_unmount", "nothing: the next dewfs mount clears a dead mountpoint"),
    ("max_read", "nothing: the kernel decides"),
    ("workaround", "nothing: it does without"),
    // davfs2
    ("conf", "--config FILE on the command line"),
    ("secrets", "credentials=FILE"),
    ("dav_user", "uid="),
    ("dav_group", "gid="),
    ("table_size", "nothing: it does without"),
    ("dir_refresh", "poll="),
    ("file_refresh", "poll="),
    ("delay_upload", "write_back_delay="),
    ("gui_optimize", "nothing: listings bring attributes along"),
    ("use_locks", "nothing: writes are conditional instead"),
    ("lock_timeout", "nothing: writes are conditional instead"),
    ("ask_auth", "nothing: a terminal is asked when there is one"),
    ("connect_timeout", "timeout="),
    ("read_timeout", "timeout="),
    ("retry", "nothing: dewfs goes on trying"),
    ("max_retry", "nothing: dewfs goes on trying"),
    ("servercert", "ca_file="),
    ("trust_ca_cert", "ca_file="),
    ("trust_server_cert", "ca_file="),
    ("clientcert", "client_cert="),
    ("backup_dir", "nothing: what cannot be placed is kept in recovered/ of the state directory"),
    ("buf_size", "nothing: read-ahead adapts"),
    ("use_proxy", "proxy="),
    ("n_cookies", "nothing: it does without"),
    ("if_match_bug", "nothing: the server is probed"),
    ("precheck", "nothing: the server is probed"),
    ("drop_weak_etags", "nothing: the server is probed"),
    ("min_propset", "nothing: only the needed properties are asked"),
];

/// What dewfs says for another program's option.
pub(super) fn foreign(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    FOREIGN.iter().find(|(name, _)| *name == key).map(|(_, ours)| *ours)
}

/// The option of ours that `key` is nearest to, if it is near at all.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    VALUED
        .iter()
        .chain(FLAGS)
        .map(|name| (distance(&key, name), *name))
        .min_by_key(|(far, _)| *far)
        // Of a short name much is left by chance.
        .filter(|(far, name)| *far <= (1 + name.len() / 3).min(key.len().max(name.len()) / 2))
        .map(|(_, name)| name)
}

/// How many letters must be changed, added, taken away or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_far_ones_are_not() {
        assert_eq!(nearest("cache-size"), Some("cache_size"));
        assert_eq!(nearest("hydratoin"), Some("hydration"));
        assert_eq!(nearest("allow_others"), Some("allow_other"));
        assert_eq!(nearest("zzzzzzzzzz"), None);
        assert_eq!((nearest("foo"), nearest("polll")), (None, Some("poll")));
    }

    #[test]
    fn other_programs_names_are_known_in_both_spellings() {
        assert_eq!(foreign("vfs-cache-max-size"), Some("cache_size="));
        assert_eq!(foreign("ServerAliveInterval"), Some("timeout="));
        assert_eq!(foreign("cache_size"), None);
    }

    #[test]
    fn no_name_is_in_two_lists() {
        for (name, _) in FOREIGN {
            assert!(!VALUED.contains(name) && !FLAGS.contains(name), "{name}");
            assert!(!is_generic(name), "{name}");
        }
    }
}
