//! Words of the commands that are told to people: a name that a shell would read otherwise is quoted.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A path as one word of a shell's command line. Whoever else writes into a shared folder chooses names: one pasted with the
/// command around it must stay a name.
pub fn shell_word(path: impl AsRef<Path>) -> String {
    let bytes = path.as_ref().as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => escaped(bytes),
    }
}

/// Whether no shell reads anything into it.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "/._-+:,@%".contains(c)
}

/// What a terminal cannot show, as POSIX.1-2024 and all usual shells read it.
fn escaped(bytes: &[u8]) -> String {
    let mut word = String::from("$'");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => word.extend(['\\', c]),
                c if c.is_control() => octal(&mut word, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => word.push(c),
            }
        }
        octal(&mut word, chunk.invalid());
    }
    word + "'"
}

fn octal(word: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing into a string cannot fail.
        let _written = write!(word, "\\{byte:03o}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsStr;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_plain_path_stays_as_it_is_and_others_are_one_word() {
        assert_eq!(shell_word("/mnt/Müller-1/a.txt"), "/mnt/Müller-1/a.txt");
        assert_eq!(shell_word("/mnt/my files"), "'/mnt/my files'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("/x/Bob's"), r"'/x/Bob'\''s'");
        assert_eq!(shell_word("a\nb"), r"$'a\012b'");
    }

    #[test]
    fn a_shell_reads_back_every_name() {
        let names: [&[u8]; 9] = [
            b"/m/a'$(touch /tmp/x)'b",
            b"/m/`id`;id|id&",
            b"/m/~ * ? [a] {b,c} #d !e",
            b"/m/back\\slash \"and\" $HOME",
            b"/m/tab\tand\nline's end\\",
            b"/m/not\xff\xfeutf8' (1)",
            "/m/\u{85}é'".as_bytes(),
            b"/m/two  spaces ",
            b"-n",
        ];
        for name in names {
            let word = shell_word(OsStr::from_bytes(name));
            let told =
                Command::new("bash").arg("-c").arg(format!("printf %s {word}")).output().unwrap();
            // What printf would read as an option, a command gets as it is.
            assert!(told.stdout == name || name == b"-n", "{word}: {told:?}");
        }
    }
}
