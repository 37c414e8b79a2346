//! Exclude patterns: names that are kept local only.

use crate::model::Name;

/// Is the set of exclude patterns of a mount: `*`, `?` and plain characters, matched against one name.
#[derive(Clone, Debug)]
pub(crate) struct Exclude {
    patterns: Vec<Vec<u8>>,
}

impl Exclude {
    /// These patterns.
    pub(crate) fn new(patterns: &[String]) -> Self {
        Self { patterns: patterns.iter().map(|pattern| pattern.as_bytes().to_vec()).collect() }
    }

    /// Whether the name is kept local only.
    pub(crate) fn matches(&self, name: &Name) -> bool {
        self.patterns.iter().any(|pattern| wild(pattern, name.as_bytes()))
    }
}

/// Matches with one step back to the last `*`, in linear space and without recursion.
fn wild(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn editors_own_files_stay_here_and_documents_do_not() {
        let mut patterns = crate::engine::Settings::default().exclude;
        patterns.push("*.tmp".into());
        let exclude = Exclude::new(&patterns);
        for name in [".notes.txt.swp", ".~lock.a b.odt#", ".goutputstream-X1Y2Z3", "a.tmp", "4913"]
        {
            assert!(exclude.matches(&Name::new(name).unwrap()), "{name}");
        }
        for name in ["notes.txt", "swp", "lock.odt", "a.tmpx", "~", "a~"] {
            assert!(!exclude.matches(&Name::new(name).unwrap()), "{name}");
        }
    }
}
