//! Names in `recovered/`: what a person would look for, and never one that is taken.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use crate::model::Ino;

const NAME_MAX: usize = 255;

/// The `count`-th name for a file that was last called `hint`: `report.pdf`, `report (2).pdf`, …
pub(super) fn readable_name(hint: &[u8], ino: Ino, count: u32) -> OsString {
    let mut name: Vec<u8> = hint.iter().map(|byte| harmless(*byte)).collect();
    if name.iter().all(|byte| *byte == b'.') {
        name = format!("file {ino}").into_bytes();
    }
    let number = if count > 1 { format!(" ({count})") } else { String::new() };
    let (stem, extension) = split(&name);
    let stem = cut(stem, NAME_MAX - number.len() - extension.len());
    OsString::from_vec([stem, number.as_bytes(), extension].concat())
}

fn harmless(byte: u8) -> u8 {
    if byte == b'/' || byte.is_ascii_control() { b'_' } else { byte }
}

/// Stem and extension with its dot; a leading dot is none, and what is long is no extension.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    match dot {
        Some(dot) if name.len() - dot <= 32 => name.split_at(dot),
        _ => (name, &[]),
    }
}

/// The first bytes, not ending within a UTF-8 character.
fn cut(bytes: &[u8], max: usize) -> &[u8] {
    let mut end = bytes.len().min(max);
    while end > 0 && bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    bytes.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(hint: &str, count: u32) -> String {
        readable_name(hint.as_bytes(), Ino(7), count).into_string().unwrap_or_default()
    }

    #[test]
    fn names_stay_readable() {
        assert_eq!(name("report.pdf", 1), "report.pdf");
        assert_eq!(name("report.pdf", 2), "report (2).pdf");
        assert_eq!(name(".bashrc", 3), ".bashrc (3)");
    }

    #[test]
    fn hostile_hints_stay_in_the_folder() {
        assert_eq!(name("..", 1), "file 7");
        assert_eq!(name("", 2), "file 7 (2)");
        assert_eq!(name("../a\n", 1), ".._a_");
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let long = format!("{}.txt", "ä".repeat(126));
        let cut = name(&long, 10);
        assert!(cut.len() <= 255 && cut.ends_with("ä (10).txt"), "{cut}");
    }
}
