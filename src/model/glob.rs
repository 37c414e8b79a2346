//! Patterns of names and paths, on bytes: `*`, `?`, `[a-z]`, `\` before a character, and `**` for any number of folders.

/// Is a pattern of a path below some folder, or of a name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
    /// It is of a path even if it has one part only.
    anchored: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any number of folders, also none.
    Folders,
    /// A pattern of one name.
    Name(Vec<u8>),
}

impl Glob {
    /// The pattern in these bytes; empty parts between slashes are dropped.
    #[must_use]
    pub fn new(pattern: &[u8]) -> Self {
        let parts = pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let part = |part: &[u8]| match part {
            b"**" => Part::Folders,
            name => Part::Name(name.to_vec()),
        };
        Self { parts: parts.map(part).collect(), anchored: false }
    }

    /// Why nothing a person means fits these bytes, if so: a pattern that is empty, or a bracket that is never closed, which
    /// would stand for itself.
    #[must_use]
    pub fn flaw(pattern: &[u8]) -> Option<&'static str> {
        if pattern.iter().all(|byte| *byte == b'/') {
            return Some("it is empty: leave it out to find everything");
        }
        let mut at = 0;
        while let Some(byte) = pattern.get(at) {
            at = match byte {
                b'\\' => at + 2,
                b'[' => match set(pattern, at + 1, 0) {
                    Some((_, next)) => next,
                    None => return Some("its [ is never closed: write \\[ for the sign itself"),
                },
                _ => at + 1,
            };
        }
        None
    }

    /// The same, of a path even if it has no slash.
    #[must_use]
    pub fn anchored(pattern: &[u8]) -> Self {
        Self { anchored: true, ..Self::new(pattern) }
    }

    /// Whether it is of a name alone: it says nothing about folders.
    #[must_use]
    pub fn is_name(&self) -> bool {
        !self.anchored && matches!(self.parts.as_slice(), [Part::Name(_)])
    }

    /// Whether a name alone fits.
    #[must_use]
    pub fn matches_name(&self, name: &[u8]) -> bool {
        self.matches(&[name])
    }

    /// Whether a path fits, given as its names from the top.
    #[must_use]
    pub fn matches(&self, path: &[&[u8]]) -> bool {
        let (mut p, mut n) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        loop {
            match (self.parts.get(p), path.get(n)) {
                (None, None) => return true,
                (Some(Part::Folders), _) => {
                    back = Some((p + 1, n));
                    p += 1;
                    continue;
                }
                (Some(Part::Name(pattern)), Some(name)) if fits(pattern, name) => {
                    p += 1;
                    n += 1;
                    continue;
                }
                _ => {}
            }
            match back {
                Some((part, from)) if from < path.len() => {
                    back = Some((part, from + 1));
                    (p, n) = (part, from + 1);
                }
                _ => return false,
            }
        }
    }
}

/// Matches one name with one step back to the last `*`, in linear space and without recursion.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match one(pattern, p, *byte) {
            One::Star => {
                back = Some((p, n));
                p += 1;
            }
            One::Fits(next) => {
                p = next;
                n += 1;
            }
            One::Differs => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

enum One {
    Star,
    /// It fits; the pattern goes on there.
    Fits(usize),
    Differs,
}

fn one(pattern: &[u8], at: usize, byte: u8) -> One {
    let literal = |wanted: u8, next: usize| {
        if wanted == byte { One::Fits(next) } else { One::Differs }
    };
    match pattern.get(at) {
        None => One::Differs,
        Some(b'*') => One::Star,
        Some(b'?') => One::Fits(at + 1),
        Some(b'\\') => match pattern.get(at + 1) {
            Some(escaped) => literal(*escaped, at + 2),
            None => literal(b'\\', at + 1),
        },
        Some(b'[') => match set(pattern, at + 1, byte) {
            Some((true, next)) => One::Fits(next),
            Some((false, _)) => One::Differs,
            // A bracket that is never closed stands for itself.
            None => literal(b'[', at + 1),
        },
        Some(wanted) => literal(*wanted, at + 1),
    }
}

/// Whether the set that begins at `at` has the byte, and where the pattern goes on; `None` if it does not end.
fn set(pattern: &[u8], mut at: usize, byte: u8) -> Option<(bool, usize)> {
    let not = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(not);
    let first = at;
    let mut has = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((has != not, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                has |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                has |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str, path: &str) -> bool {
        let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        Glob::new(pattern.as_bytes()).matches(&names)
    }

    #[test]
    fn a_name_fits_or_does_not() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt~", false),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "acb", false),
            ("?", "ä", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]", "b", true),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("**", "a", true),
            (".*.sw?", ".a.swp", true),
        ] {
            assert_eq!(path(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_fits_part_by_part_and_two_stars_are_any_folders() {
        for (pattern, name, expected) in [
            ("docs/*", "docs/a", true),
            ("docs/*", "docs/a/b", false),
            ("docs/**", "docs/a/b", true),
            ("docs/**", "docs", true),
            ("**/a", "a", true),
            ("**/a", "x/y/a", true),
            ("**/a/**/b", "x/a/y/z/b", true),
            ("**/a/**/b", "x/a/y/z/c", false),
            ("a/**/a/b", "a/x/a/y/a/b", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(path(pattern, name), expected, "{pattern} {name}");
        }
    }
}
