//! Where bytes of others come in, each as one function that must stand whatever they are. For the fuzzer, and for the tests
//! that run what it kept; not part of the program.

use crate::config::{self, Options, RemoteSpec, Schemes, Spec};
use crate::control;
use crate::model::{BLOCK, BlockSet};
use crate::remote::webdav;

/// One door.
pub type Door = fn(&[u8]);

/// All doors by name; what the fuzzer found for each is kept in `fuzz/corpus/NAME`.
pub const ALL: [(&str, Door); 5] = [
    ("multistatus", webdav::doors::multistatus),
    ("headers", webdav::doors::headers),
    ("protocol", control::doors::protocol),
    ("options", options),
    ("blocks", blocks),
];

/// Mount options, and what is to be mounted.
fn options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (spec, list) = text.split_once('\n').unwrap_or((text, ""));
    let here = std::path::Path::new("/here");
    if let Ok(Spec::Remote(remote)) = Spec::parse(spec, here, &Schemes::new()) {
        if let RemoteSpec::WebDav { url, .. } = &remote {
            assert!(url.password().is_none(), "a password in a URL");
            assert!(matches!(url.scheme(), "http" | "https"), "{url}");
        }
        // the name of the mount's state
        assert_eq!(remote.canonical(), remote.canonical());
    }
    let mut options = Options::default();
    for assignment in config::split_options(list).into_iter().flatten() {
        // asks the user database
        if !matches!(assignment.key.as_str(), "uid" | "gid") {
            let _refused = options.apply(&assignment);
        }
    }
    let _refused = config::parse_size(list);
    if let Some(duration) = config::parse_duration(list) {
        let _sum = duration.checked_add(duration);
    }
}

/// The catalog's form of a set of blocks.
fn blocks(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(8));
    let size = head.iter().fold(0u64, |size, byte| size << 8 | u64::from(*byte));
    let mut set = BlockSet::from_bytes(rest);
    assert_eq!(BlockSet::from_bytes(&set.to_bytes()), set, "it does not come back");
    // larger ones take longer, and tell no more
    let size = size.min(1 << 36);
    assert!(set.present_bytes(size) <= size, "more than all");
    set.truncate(size);
    assert!(set.len() <= BlockSet::count_for(size));
    let all = BlockSet::touched(0..size);
    let absent = set.absent(all.clone());
    let missing: u64 = absent.iter().map(|run| u64::from(run.end - run.start)).sum();
    assert_eq!(missing + set.len(), BlockSet::count_for(size));
    assert_eq!(set.is_full(size), missing == 0);
    assert_eq!(set.has(0..size), missing == 0);
    set.insert(all);
    assert!(set.is_full(size) && set.present_bytes(size) == size);
    assert!(set.len() * BLOCK >= size);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the fuzzer once found is tried with every test run: all ways through the parsers, and all that was a defect.
    #[test]
    fn everything_that_was_kept_still_stands() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, door) in ALL {
            let mut count = 0;
            for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let stood = std::panic::catch_unwind(|| door(&bytes));
                assert!(stood.is_ok(), "{}", path.display());
                count += 1;
            }
            assert!(count >= 5, "{name}: {count} files");
        }
    }
}
