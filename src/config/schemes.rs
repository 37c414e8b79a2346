//! The kinds of remotes that this program was built with besides dewfs's own: fixed once, at its start, like its commands.

use std::sync::OnceLock;

/// Names that stand for dewfs's own remotes, or will.
pub(super) const OWN: [&str; 8] = ["file", "http", "https", "dav", "davs", "s3", "az", "gs"];

static ADDED: OnceLock<Vec<String>> = OnceLock::new();

/// Adds kinds of remotes by their schemes; answers the first one that cannot be: it is one of dewfs's own, or no scheme. The
/// first call counts.
pub fn add_schemes(names: &[String]) -> Result<(), String> {
    let legal = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
    };
    let wrong = |name: &&String| !legal(name) || OWN.contains(&name.as_str());
    if let Some(wrong) = names.iter().find(wrong) {
        return Err(wrong.clone());
    }
    // Once set, they stay.
    let _kept = ADDED.set(names.to_vec());
    Ok(())
}

/// Whether the scheme was added.
pub(super) fn is_added(scheme: &str) -> bool {
    added().iter().any(|name| name == scheme)
}

/// The schemes that were added.
pub(super) fn added() -> &'static [String] {
    ADDED.get().map(Vec::as_slice).unwrap_or_default()
}
