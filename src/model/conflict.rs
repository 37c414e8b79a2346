//! The names of conflict copies.

use super::Name;

/// The longest name in bytes.
const NAME_MAX: usize = 255;

/// The name `<stem> (conflict <when> <host>).<ext>` for a conflict copy of `name`.
///
/// `when` is local time as `YYYY-MM-DD HH.MM.SS`; the host is cut at its first dot; ` 2`, ` 3` follow it from the second
/// `nth` on. A leading dot begins no extension, `.tar.gz` and its like stay whole, and the stem is cut at a character so
/// that the whole fits 255 bytes.
pub fn conflict_name(name: &Name, when: &str, host: &str, nth: u32) -> Name {
    let host: String =
        host.split('.').next().unwrap_or_default().chars().filter(is_plain).collect();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    let again = if nth > 1 { format!(" {nth}") } else { String::new() };
    let mark = format!(" (conflict {when} {host}{again})").into_bytes();
    let (mut stem, mut extension) = name.as_bytes().split_at(extension_start(name.as_bytes()));
    // An extension that leaves no room for a stem is none.
    if mark.len() + extension.len() >= NAME_MAX {
        (stem, extension) = (name.as_bytes(), b"");
    }
    let stem = cut(stem, NAME_MAX.saturating_sub(mark.len() + extension.len()));
    let whole = [stem, &mark, extension].concat();
    // Only an absurd host or time fails here; the old name is refused as taken then, not overwritten.
    Name::new(whole).unwrap_or_else(|_| name.clone())
}

/// The name that this conflict copy was made of, as far as its own name tells; `None` if it is no name of a conflict copy.
pub fn original_name(copy: &Name) -> Option<Name> {
    let bytes = copy.as_bytes();
    let mark: &[u8] = b" (conflict ";
    let start = bytes.windows(mark.len()).rposition(|part| part == mark)?;
    let rest = bytes.get(start + mark.len()..)?;
    let end = rest.iter().position(|byte| *byte == b')')?;
    let stem = bytes.get(..start)?;
    Name::new([stem, rest.get(end + 1..)?].concat()).ok()
}

fn is_plain(character: &char) -> bool {
    *character != '/' && !character.is_control()
}

/// Where the extension begins, its dot included; the length of the name if it has none.
fn extension_start(name: &[u8]) -> usize {
    let dot = |name: &[u8]| name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    let Some(last) = dot(name) else { return name.len() };
    if last + 1 == name.len() {
        return name.len();
    }
    let stem = name.get(..last).unwrap_or_default();
    match dot(stem) {
        Some(before) if stem.get(before..).is_some_and(|ext| ext.eq_ignore_ascii_case(b".tar")) => {
            before
        }
        _ => last,
    }
}

/// The first bytes of `stem`, at most `most`, without breaking a character.
fn cut(stem: &[u8], most: usize) -> &[u8] {
    let mut end = most.min(stem.len());
    while end > 0 && end < stem.len() && stem.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    stem.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WHEN: &str = "2026-03-04 05.06.07";

    fn copy(name: &str, nth: u32) -> String {
        conflict_name(&Name::new(name).unwrap(), WHEN, "box.example.org", nth).lossy().into_owned()
    }

    #[test]
    fn the_mark_stands_before_the_extension() {
        let table = [
            ("report.odt", "report (conflict 2026-03-04 05.06.07 box).odt"),
            ("README", "README (conflict 2026-03-04 05.06.07 box)"),
            (".bashrc", ".bashrc (conflict 2026-03-04 05.06.07 box)"),
            (".config.toml", ".config (conflict 2026-03-04 05.06.07 box).toml"),
            ("a.tar.gz", "a (conflict 2026-03-04 05.06.07 box).tar.gz"),
            ("a.b.tar.zst", "a.b (conflict 2026-03-04 05.06.07 box).tar.zst"),
            (".tar.gz", ".tar (conflict 2026-03-04 05.06.07 box).gz"),
            ("v1.2.txt", "v1.2 (conflict 2026-03-04 05.06.07 box).txt"),
            ("dot.", "dot. (conflict 2026-03-04 05.06.07 box)"),
        ];
        for (name, expected) in table {
            assert_eq!(copy(name, 1), expected);
        }
    }

    #[test]
    fn the_original_is_told_by_the_copy() {
        for name in ["report.odt", "README", ".bashrc", "a.tar.gz", "a (conflict x) b.txt"] {
            let copy = Name::new(copy(name, 2)).unwrap();
            assert_eq!(original_name(&copy), Some(Name::new(name).unwrap()));
        }
        assert_eq!(original_name(&Name::new("a (draft).txt").unwrap()), None);
    }

    #[test]
    fn a_number_follows_the_host_when_taken() {
        assert_eq!(copy("a.txt", 2), "a (conflict 2026-03-04 05.06.07 box 2).txt");
        assert_eq!(copy("a.txt", 3), "a (conflict 2026-03-04 05.06.07 box 3).txt");
    }

    #[test]
    fn the_stem_is_cut_at_a_character_so_that_the_name_fits() {
        let long = format!("{}.txt", "ä".repeat(125));
        let name = copy(&long, 1);
        assert!(name.len() <= 255 && name.len() > 250, "{}", name.len());
        assert!(name.ends_with("ä (conflict 2026-03-04 05.06.07 box).txt"), "{name}");
        let extension = format!("a.{}", "e".repeat(253));
        assert_eq!(copy(&extension, 1).len(), 255);
    }

    #[test]
    fn names_that_are_not_utf_8_keep_their_bytes() {
        let name = Name::new(b"\xff\xfe.txt".to_vec()).unwrap();
        let copy = conflict_name(&name, WHEN, "box", 1);
        assert_eq!(copy.as_bytes(), b"\xff\xfe (conflict 2026-03-04 05.06.07 box).txt");
    }
}
